//! Every dependency may be used in MIT software, commercial use included.

use crate::architecture::metadata;

/// Licences that ask for no more than a notice (MPL-2.0: changes to its own files stay open).
const FINE: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "OFL-1.1",
    "Unicode-3.0",
    "Unlicense",
    "WTFPL",
    "Zlib",
];

/// Evaluates an SPDX expression with AND, OR and parentheses ("/" is the old spelling of OR).
fn acceptable(expression: &str) -> bool {
    let expression = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let words: Vec<&str> = expression.split_whitespace().collect();
    let (fine, rest) = any_of(&words);
    fine && rest.is_empty()
}

fn any_of<'a, 'b>(words: &'a [&'b str]) -> (bool, &'a [&'b str]) {
    let (mut fine, mut rest) = all_of(words);
    while let Some(("OR", tail)) = rest.split_first().map(|(word, tail)| (*word, tail)) {
        let (next, after) = all_of(tail);
        fine |= next;
        rest = after;
    }
    (fine, rest)
}

fn all_of<'a, 'b>(words: &'a [&'b str]) -> (bool, &'a [&'b str]) {
    let (mut fine, mut rest) = one(words);
    while let Some(("AND", tail)) = rest.split_first().map(|(word, tail)| (*word, tail)) {
        let (next, after) = one(tail);
        fine &= next;
        rest = after;
    }
    (fine, rest)
}

fn one<'a, 'b>(words: &'a [&'b str]) -> (bool, &'a [&'b str]) {
    match words {
        ["(", tail @ ..] => {
            let (fine, rest) = any_of(tail);
            (fine, rest.strip_prefix(&[")"]).unwrap_or(rest))
        }
        [licence, "WITH", exception, tail @ ..] => {
            let whole = format!("{licence} WITH {exception}");
            (
                FINE.contains(&whole.as_str()) || FINE.contains(licence),
                tail,
            )
        }
        [licence, tail @ ..] => (FINE.contains(licence), tail),
        [] => (false, words),
    }
}

/// Crates whose manifest names a licence file, or nothing, instead of an expression, after a look at the text.
const READ_BY_HAND: &[(&str, &str)] = &[("ffmpeg-next", "WTFPL"), ("ffmpeg-sys-next", "WTFPL")];

#[test]
fn every_dependency_has_a_licence_that_fits() {
    let mut wrong = Vec::new();
    for package in &metadata().packages {
        let by_hand = READ_BY_HAND
            .iter()
            .find(|(name, _)| *name == package.name.as_str())
            .map(|(_, licence)| *licence);
        let licence = package
            .license
            .as_deref()
            .or(by_hand)
            .unwrap_or("none stated");
        if !acceptable(licence) {
            wrong.push(format!("{} {}: {licence}", package.name, package.version));
        }
    }
    assert!(
        wrong.is_empty(),
        "licences to look at:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn expressions_are_understood() {
    assert!(acceptable("MIT OR GPL-3.0-only"));
    assert!(acceptable("(MIT OR Apache-2.0) AND Unicode-3.0"));
    assert!(acceptable("Apache-2.0/MIT"));
    assert!(acceptable("Apache-2.0 WITH LLVM-exception OR MIT"));
    assert!(!acceptable("MIT AND GPL-3.0-only"));
    assert!(!acceptable("AGPL-3.0-or-later"));
    assert!(!acceptable("none stated"));
}
