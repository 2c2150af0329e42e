//! `${NAME}` in the text of a settings file, replaced from the environment.

use crate::json::{Member, Node, Value};
use crate::problem::Problem;
use crate::url::encoded;
use std::path::PathBuf;

/// What settings may ask of the process they are read in; replaced by a closure in tests.
pub struct Environment<'a> {
    /// The value of an environment variable.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// The directory of the running executable, where plugins named without a path are looked for.
    pub program_dir: Option<PathBuf>,
}

impl Environment<'static> {
    /// The environment of this process.
    pub fn of_process() -> Self {
        let program = std::env::current_exe().ok();
        Self {
            variable: &|name| std::env::var(name).ok(),
            program_dir: program.and_then(|path| path.parent().map(ToOwned::to_owned)),
        }
    }

    /// The environment of this process, in which no variable is missing: for programs that only look at where
    /// things are, and are started without the daemons' passwords.
    pub fn of_onlooker() -> Self {
        Self {
            // Long enough for a token.
            variable: &|name| {
                let set = std::env::var(name).ok().filter(|value| !value.is_empty());
                Some(set.unwrap_or_else(|| "not-set-for-onlookers".to_owned()))
            },
            ..Self::of_process()
        }
    }

    /// No variables and no directory: for tests and samples.
    pub fn empty() -> Self {
        Self {
            variable: &|_| None,
            program_dir: None,
        }
    }
}

/// The object whose keys may be addresses as well, written as under `sources`.
const NAMED_BY_ADDRESS: &str = "source_duration_limits";

/// Replaces the variables in all texts beneath `node`; missing ones become problems.
pub(crate) fn substitute(
    node: &mut Node,
    env: &Environment<'_>,
    key: &str,
    problems: &mut Vec<Problem>,
) {
    match &mut node.value {
        Value::Text(text) => match replaced(text, env) {
            Ok(new) => *text = new,
            Err(message) => {
                problems.push(Problem {
                    line: Some(node.line),
                    key: key.to_owned(),
                    message,
                });
            }
        },
        Value::List(list) => {
            for (i, element) in list.iter_mut().enumerate() {
                substitute(element, env, &format!("{key}[{i}]"), problems);
            }
        }
        Value::Object(members) => {
            for Member {
                key: name, node, ..
            } in members
            {
                let path = if key.is_empty() {
                    name.clone()
                } else {
                    format!("{key}.{name}")
                };
                substitute(node, env, &path, problems);
                if key == NAMED_BY_ADDRESS {
                    match replaced(name, env) {
                        Ok(new) => *name = new,
                        Err(message) => problems.push(Problem {
                            line: Some(node.line),
                            key: path,
                            message,
                        }),
                    }
                }
            }
        }
        Value::Null | Value::Flag(_) | Value::Number(_) => {}
    }
}

fn replaced(text: &str, env: &Environment<'_>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if let Some(before) = rest[..at].strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        out.push_str(&rest[..at]);
        let inside = &rest[at + 2..];
        let Some(end) = inside.find('}') else {
            return Err(
                "`${` without `}`; write ${NAME}, or $${ for the characters themselves".to_owned(),
            );
        };
        let name = &inside[..end];
        if name.is_empty() {
            return Err(
                "`${}` names no variable; write ${NAME}, or $${ for the characters themselves"
                    .to_owned(),
            );
        }
        let Some(value) = (env.variable)(name) else {
            return Err(format!(
                "the environment variable {name} is not set; set it, or write $${{ for the characters themselves"
            ));
        };
        // As a password it would be refused by the camera; whoever sets variables for services forgets one in this way.
        if value.is_empty() {
            return Err(format!(
                "the environment variable {name} is empty; give it a value, or leave ${{{name}}} out"
            ));
        }
        rest = &inside[end + 1..];
        match login_part(&out, rest) {
            Some(part) => out.push_str(&in_login(&value, part)),
            None => out.push_str(&value),
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// Which part of an address's login a variable is.
#[derive(Clone, Copy, PartialEq)]
enum LoginPart {
    /// The user name, or both.
    Beginning,
    Password,
}

/// Whether what stands between `before` and `after` belongs to the login of an address, which ends with an `@`.
fn login_part(before: &str, after: &str) -> Option<LoginPart> {
    let ends_path = |text: &str| text.contains(['/', '?', '#']);
    let (_, login) = before.split_once("://")?;
    let (more, _) = after.split_once('@')?;
    if ends_path(login) || ends_path(more) {
        return None;
    }
    Some(match login.contains(':') {
        true => LoginPart::Password,
        false => LoginPart::Beginning,
    })
}

/// A variable's value as it must be written in a login: `/`, `@` and the like would end it, and the rest of a password be
/// taken for host or path, and shown. It is never taken for encoded already: `pass%41word` may be a password.
fn in_login(value: &str, part: LoginPart) -> String {
    match value.split_once(':') {
        Some((name, password)) if part == LoginPart::Beginning => {
            format!("{}:{}", encoded(name), encoded(password))
        }
        _ => encoded(value),
    }
}
