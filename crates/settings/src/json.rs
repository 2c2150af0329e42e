//! JSON with comments, read into nodes that remember their line.
//!
//! serde_json reports the first error only and forgets where a value stood, so the structure is read
//! here; text and numbers are handed to serde_json. Comments (`//`, `/* */`) and a comma after the
//! last element are allowed, a key twice in one object is not.

use secrets::hide_secrets;
use serde_json::Number;

/// Deeper nesting than this is refused, so that no file can exhaust the stack.
const MAX_DEPTH: usize = 64;

/// What ends an object or a list.
const BRACKETS: [char; 2] = ['}', ']'];

/// A value and the line it starts on, counted from 1.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) line: u32,
    pub(crate) value: Value,
}

/// A JSON value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Flag(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Object(Vec<Member>),
}

/// One `"key": value` of an object.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Member {
    pub(crate) key: String,
    pub(crate) line: u32,
    pub(crate) node: Node,
}

/// Why a text is not JSON, and on which line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    pub(crate) line: u32,
    pub(crate) message: String,
}

/// Reads one value with nothing but comments around it.
pub(crate) fn parse(text: &str) -> Result<Node, SyntaxError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut parser = Parser {
        text,
        at: 0,
        line: 1,
    };
    let node = parser.value(0)?;
    parser.skip_blanks()?;
    match parser.peek() {
        None => Ok(node),
        Some(_) => Err(parser.unexpected("expected the end of the file", false)),
    }
}

impl Node {
    /// The value in a few words, for messages; credentials are hidden.
    pub(crate) fn shown(&self) -> String {
        match &self.value {
            Value::List(_) => "a list".to_owned(),
            Value::Object(_) => "an object".to_owned(),
            Value::Text(text) => format!("{:?}", hide_secrets(text)),
            _ => self.to_json().to_string(),
        }
    }

    /// The node as serde_json knows it, without lines.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Flag(flag) => (*flag).into(),
            Value::Number(number) => number.clone().into(),
            Value::Text(text) => text.clone().into(),
            Value::List(list) => list.iter().map(Node::to_json).collect(),
            Value::Object(members) => members
                .iter()
                .map(|m| (m.key.clone(), m.node.to_json()))
                .collect(),
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    line: u32,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn error(&self, message: impl Into<String>) -> SyntaxError {
        SyntaxError {
            line: self.line,
            message: message.into(),
        }
    }

    /// Where the next character stands in its line, counted in characters from 1. Tells of what must not be repeated:
    /// any text may be a password.
    fn column(&self) -> usize {
        let before = &self.text[..self.at];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        before[line_start..].chars().count() + 1
    }

    /// Moves on by `bytes`, counting the lines passed.
    fn advance(&mut self, bytes: usize) {
        let passed = &self.text.as_bytes()[self.at..self.at + bytes];
        let lines = passed.iter().filter(|byte| **byte == b'\n').count();
        self.line = self
            .line
            .saturating_add(u32::try_from(lines).unwrap_or(u32::MAX));
        self.at += bytes;
    }

    fn skip_blanks(&mut self) -> Result<(), SyntaxError> {
        loop {
            let rest = self.rest();
            let blank = rest.len() - rest.trim_start().len();
            if blank > 0 {
                self.advance(blank);
            } else if rest.starts_with("//") {
                self.advance(rest.find('\n').unwrap_or(rest.len()));
            } else if rest.starts_with("/*") {
                let Some(end) = rest.find("*/") else {
                    return Err(self.error("a comment that starts with `/*` has no `*/`"));
                };
                self.advance(end + 2);
            } else if rest.starts_with('#') {
                return Err(self.error("`#` begins no comment here; write `//`"));
            } else {
                return Ok(());
            }
        }
    }

    fn take(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.advance(wanted.len_utf8());
        }
        found
    }

    /// Takes the comma behind a member or an element, unless `close` is next.
    fn separator(&mut self, close: char, place: &str, value: &Node) -> Result<(), SyntaxError> {
        let line = self.line;
        self.skip_blanks()?;
        let next = self.peek();
        if next == Some(close) || self.take(',') {
            return Ok(());
        }
        if self.line > line && next.is_some_and(|next| !BRACKETS.contains(&next)) {
            return Err(SyntaxError {
                line,
                message: "`,` missing after this value".to_owned(),
            });
        }
        let after_text = self.line == line && matches!(value.value, Value::Text(_));
        Err(self.unexpected(&format!("expected `,` or `{close}` {place}"), after_text))
    }

    /// What stands here instead. It may be a letter of a password, above all when that holds a `"`, so that only its place
    /// is told.
    fn unexpected(&self, expected: &str, after_text: bool) -> SyntaxError {
        let Some(found) = self.peek() else {
            return self.error(format!("{expected}, found the end of the file"));
        };
        let line = self.rest().lines().next().unwrap_or_default();
        let column = self.column();
        self.error(if after_text && line.contains('"') {
            format!("{expected} in column {column}; a `\"` within text is written `\\\"`")
        } else if BRACKETS.contains(&found) {
            format!("{expected}, found `{found}`")
        } else {
            format!("{expected} in column {column}")
        })
    }

    fn value(&mut self, depth: usize) -> Result<Node, SyntaxError> {
        self.skip_blanks()?;
        let line = self.line;
        if depth > MAX_DEPTH {
            return Err(self.error(format!("nested more than {MAX_DEPTH} levels deep")));
        }
        let value = match self.peek() {
            Some('{') => self.object(depth)?,
            Some('[') => self.list(depth)?,
            Some('"') => Value::Text(self.text()?),
            _ => self.word()?,
        };
        Ok(Node { line, value })
    }

    fn object(&mut self, depth: usize) -> Result<Value, SyntaxError> {
        self.advance(1);
        let mut members: Vec<Member> = Vec::new();
        loop {
            self.skip_blanks()?;
            if self.take('}') {
                return Ok(Value::Object(members));
            }
            let member = self.member(depth)?;
            if let Some(first) = members.iter().find(|m| m.key == member.key) {
                let message = format!(
                    "{:?} stands here again, first on line {}",
                    hide_secrets(&first.key),
                    first.line
                );
                return Err(SyntaxError {
                    line: member.line,
                    message,
                });
            }
            self.separator('}', "after a value", &member.node)?;
            members.push(member);
        }
    }

    fn member(&mut self, depth: usize) -> Result<Member, SyntaxError> {
        let line = self.line;
        if self.peek() != Some('"') {
            return Err(self.unexpected("expected a key in double quotes or `}`", false));
        }
        let key = self.text()?;
        self.skip_blanks()?;
        if !self.take(':') {
            return Err(self.unexpected("expected `:` after a key", true));
        }
        Ok(Member {
            key,
            line,
            node: self.value(depth + 1)?,
        })
    }

    fn list(&mut self, depth: usize) -> Result<Value, SyntaxError> {
        self.advance(1);
        let mut list = Vec::new();
        loop {
            self.skip_blanks()?;
            if self.take(']') {
                return Ok(Value::List(list));
            }
            let element = self.value(depth + 1)?;
            self.separator(']', "after an element", &element)?;
            list.push(element);
        }
    }

    fn text(&mut self) -> Result<String, SyntaxError> {
        let bytes = self.rest().as_bytes();
        let mut end = 1;
        while let Some(&byte) = bytes.get(end) {
            match byte {
                b'"' => {
                    let token = &self.rest()[..=end];
                    let text = serde_json::from_str(token).map_err(|_| {
                        self.error(format!(
                            "the text in double quotes that begins in column {} is not valid; write \\\\ for a backslash",
                            self.column()
                        ))
                    })?;
                    self.advance(end + 1);
                    return Ok(text);
                }
                b'\\' => end += 2,
                b'\n' => break,
                _ => end += 1,
            }
        }
        Err(self.error("text starts with `\"` but does not end on this line"))
    }

    fn word(&mut self) -> Result<Value, SyntaxError> {
        let rest = self.rest();
        let end = rest
            .find(|c: char| c.is_whitespace() || ",:[]{}\"/".contains(c))
            .unwrap_or(rest.len());
        let word = &rest[..end];
        let value = match word {
            "" => {
                let found = self
                    .peek()
                    .map_or("the end of the file".to_owned(), |c| format!("`{c}`"));
                return Err(self.error(format!("expected a value, found {found}")));
            }
            "null" => Value::Null,
            "true" => Value::Flag(true),
            "false" => Value::Flag(false),
            _ => Value::Number(serde_json::from_str(word).map_err(|_| {
                self.error(format!(
                    "what begins in column {} is no value; put text in double quotes, write true, false or null",
                    self.column()
                ))
            })?),
        };
        self.advance(end);
        Ok(value)
    }
}
