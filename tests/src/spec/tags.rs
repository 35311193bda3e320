//! Tags in the sources: `[2.add.3]`, or `[2.add.3, 2.add.4]`, in a comment.
//!
//! In: a source file as text. Out: each tag with the item that it stands in or right above. Items are found by their
//! indentation, as rustfmt writes it: no parser is needed for that. Read next: `page`.

use std::fmt;
use std::path::Path;

/// A file and an item in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// As a reader of the page finds it: `channel/update.rs`, `daemon/peer/open.rs`, `scenario/faults.rs`.
    pub file: String,
    /// The name of the function, type or macro.
    pub item: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.file, self.item)
    }
}

/// One id in a comment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// The requirement.
    pub id: String,
    /// Where.
    pub place: Place,
    /// In a file or module of tests.
    pub in_test: bool,
    /// In a function that the test harness runs.
    pub is_test: bool,
}

/// Whether `text` is a requirement's name: a number, a word, a number.
pub fn is_id(text: &str) -> bool {
    let mut parts = text.split('.');
    let (Some(bolt), Some(word), Some(number), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let lower = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    digits(bolt) && word.bytes().all(lower) && word.starts_with(char::is_alphabetic) && digits(number)
}

/// Every tag of the workspace's sources; this module's own and its test's are examples, not tags.
///
/// # Errors
/// A folder or file that cannot be read.
pub fn read(root: &Path) -> std::io::Result<Vec<Tag>> {
    let mut files = Vec::new();
    for folder in ["protocol", "storage", "daemon", "tests"] {
        collect(&root.join(folder), &mut files)?;
    }
    files.sort();
    let mut tags = Vec::new();
    for path in files {
        let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
        if !name.starts_with("tests/spec/") && !name.starts_with("tests/src/spec") {
            tags.extend(of_source(&name, &std::fs::read_to_string(&path)?));
        }
    }
    Ok(tags)
}

fn collect(dir: &Path, found: &mut Vec<std::path::PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            collect(&path, found)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

/// The tags of one file; `name` is its path from the workspace's folder.
pub fn of_source(name: &str, source: &str) -> Vec<Tag> {
    let lines: Vec<&str> = source.lines().collect();
    let inline = |pair: &[&str]| {
        pair[0].trim_end() == "#[cfg(test)]" && pair[1].contains("mod ") && pair[1].ends_with('{')
    };
    let tests_from = lines.windows(2).position(inline);
    let test_file = name.starts_with("tests/") || name.ends_with("tests.rs") || name.contains("/tests/");
    let mut tags = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        for id in ids_in(line) {
            let (item, item_at) = enclosing(&lines, at);
            let place = Place { file: shown(name), item };
            let in_test = test_file || tests_from.is_some_and(|from| at > from);
            let is_test = item_at.is_some_and(|at| has_test_attribute(&lines, at));
            tags.push(Tag { id, place, in_test, is_test });
        }
    }
    tags
}

fn shown(name: &str) -> String {
    for (long, short) in
        [("protocol/src/", ""), ("daemon/src/", "daemon/"), ("storage/src/", "storage/"), ("tests/", "")]
    {
        if let Some(rest) = name.strip_prefix(long) {
            return format!("{short}{rest}");
        }
    }
    name.into()
}

/// The ids in the comment of a line.
fn ids_in(line: &str) -> Vec<String> {
    let Some((_, comment)) = line.split_once("//") else { return Vec::new() };
    let mut ids = Vec::new();
    for part in comment.split('[').skip(1) {
        let Some((inside, _)) = part.split_once(']') else { continue };
        let listed: Vec<&str> = inside.split(',').map(str::trim).collect();
        if listed.iter().all(|id| is_id(id)) {
            ids.extend(listed.into_iter().map(String::from));
        }
    }
    ids
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

fn is_comment_or_attribute(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("//") || line.starts_with("#[")
}

/// The item that the comment at line `at` stands right above, or else inside; with its line.
fn enclosing(lines: &[&str], at: usize) -> (String, Option<usize>) {
    let below = (at + 1..lines.len()).find(|line| !is_comment_or_attribute(lines[*line]));
    if let Some((name, below)) = below.and_then(|line| Some((item(lines[line])?, line))) {
        // A constant inside of a function is no place of its own.
        let local = is_constant(lines[below]) && indent(lines[below]) > 0;
        if indent(lines[below]) == indent(lines[at]) && !local {
            return (name, Some(below));
        }
    }
    let bound = indent(lines[at]);
    let above = (0..at).rev().find_map(|line| {
        let name = item(lines[line]).filter(|_| indent(lines[line]) < bound && !is_constant(lines[line]))?;
        Some((name, Some(line)))
    });
    above.unwrap_or_else(|| ("head".into(), None))
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    let leads = |word: &&str| {
        word.starts_with("pub") || matches!(*word, "async" | "unsafe" | "extern" | "super)" | "crate)")
    };
    line.split_whitespace().skip_while(move |word| leads(word))
}

fn is_constant(line: &str) -> bool {
    let mut words = words(line);
    matches!(words.next(), Some("const" | "static")) && words.next() != Some("fn")
}

/// The name of the item that begins on this line.
fn item(line: &str) -> Option<String> {
    let mut words = words(line);
    let name = match (words.next()?, words.next()?) {
        ("fn" | "struct" | "enum" | "trait" | "mod" | "macro_rules!" | "static" | "type", name) => name,
        ("const", "fn") => words.next()?,
        ("const", name) => name,
        _ => return None,
    };
    let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
    (end > 0).then(|| name[..end].into())
}

/// Whether a `#[test]`, of whatever runtime, stands above the item at line `at`.
fn has_test_attribute(lines: &[&str], at: usize) -> bool {
    let above = lines[..at].iter().rev().take_while(|line| is_comment_or_attribute(line));
    above.into_iter().any(|line| {
        let line = line.trim();
        line == "#[test]" || line.starts_with("#[tokio::test")
    })
}
