//! What a compiler does not check and a reader would miss: the house rules, over every source file.
//!
//! In: the files of the four crates. Out: the place of each breach.
//! CONTRIBUTING.md gives the reasons.

use std::path::{Path, PathBuf};

/// Above this a file is two ideas.
const MAX_LINES: usize = 700;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_path_buf()
}

fn collect(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Every source file of these folders, with its text.
fn sources(folders: &[&str]) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    for folder in folders {
        collect(&root().join(folder), &mut files);
    }
    assert!(!files.is_empty(), "no sources in {folders:?}");
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        (path, text)
    };
    files.into_iter().map(read).collect()
}

/// The part of a line before a comment; good enough for the words looked for here.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

/// Fails with a list of `file:line: text` for each line that is a breach.
fn forbid(files: &[(PathBuf, String)], why: &str, breach: impl Fn(&str) -> bool) {
    let mut found = Vec::new();
    for (path, text) in files {
        for (number, line) in text.lines().enumerate().filter(|(_, line)| breach(line)) {
            found.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
        }
    }
    assert!(found.is_empty(), "{why}:\n{}", found.join("\n"));
}

fn has_word(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        !before.is_some_and(part) && !after.is_some_and(part)
    })
}

#[test]
fn the_protocol_cannot_reach_the_machine() {
    let files = sources(&["protocol/src"]);
    let lib = files.iter().find(|(path, _)| path.ends_with("protocol/src/lib.rs")).expect("lib.rs");
    assert!(lib.1.lines().any(|line| line == "#![no_std]"), "protocol is no_std");
    forbid(&files, "protocol asks for std", |line| has_word(code(line), "std"));
}

#[test]
fn no_floating_point_near_money() {
    let files = sources(&["protocol/src", "storage/src"]);
    forbid(&files, "a float in protocol or storage", |line| {
        has_word(code(line), "f32") || has_word(code(line), "f64")
    });
}

#[test]
fn every_file_says_what_it_is_and_is_short() {
    for (path, text) in sources(&["protocol", "storage", "daemon", "tests"]) {
        assert!(text.starts_with("//!"), "{} does not begin with what it is", path.display());
        let lines = text.lines().count();
        assert!(lines <= MAX_LINES, "{} has {lines} lines, more than {MAX_LINES}", path.display());
    }
}

#[test]
fn nothing_is_left_for_later_and_no_test_is_put_aside() {
    let files = sources(&["protocol", "storage", "daemon", "tests"]);
    // Put together here, so that this file does not hold what it looks for.
    let marks = [["TO", "DO"], ["FIX", "ME"], ["XX", "X:"], ["HA", "CK:"]].map(|m| m.concat());
    forbid(&files, "left for later", |line| marks.iter().any(|mark| line.contains(mark.as_str())));
    let ignored = ["#[", "ignore"].concat();
    forbid(&files, "a test that does not run", |line| line.trim_start().starts_with(&ignored));
}

#[test]
fn people_in_examples_are_the_usual_four() {
    let files = sources(&["protocol", "storage", "daemon", "tests"]);
    let others = ["Ev", "Mallor", "Charli"].iter().zip(["e", "y", "e"]).map(|(a, b)| format!("{a}{b}"));
    let others: Vec<String> = others.collect();
    forbid(&files, "use Alice, Bob, Carol, Dave", |line| others.iter().any(|name| has_word(line, name)));
}
