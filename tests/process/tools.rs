//! The programs for testing, as a person meets them: help is help, and nonsense is said to be nonsense.
//!
//! Read next: `tests/src/bin`.

use chand_tests::programs;
use std::process::{Command, Output};

fn run(program: &str, args: &[&str]) -> Output {
    Command::new(programs::find(program)).args(args).output().expect("it runs")
}

#[test]
fn help_is_printed_and_is_no_failure() {
    for (program, option) in [("explore", "--crashes"), ("mutate", "--target"), ("bench", "--in-flight")] {
        for word in ["--help", "-h"] {
            let output = run(program, &[word]);
            assert_eq!(output.status.code(), Some(0), "{program} {word}: {output:?}");
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(text.starts_with(program) && text.contains(option), "{program} {word}: {text}");
        }
    }
}

#[test]
fn nonsense_is_refused_with_one_line() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("empty");
    std::fs::write(&file, "").expect("a file");
    let empty = file.to_str().expect("a path");
    let cases: [(&str, &[&str]); 18] = [
        ("explore", &["--nonsense"]),
        ("explore", &["nonsense"]),
        ("explore", &["--start"]),
        ("explore", &["--start", "A+nonsense"]),
        ("explore", &["--start", "A,nonsense"]),
        ("explore", &["--start", "10500/A"]),
        ("explore", &["--cuts", "15"]),
        ("explore", &["--max-states", "many"]),
        ("mutate", &["--nonsense"]),
        ("mutate", &["--target", "nonsense"]),
        ("mutate", &["--seconds", "long"]),
        ("mutate", &["--input", empty]),
        ("mutate", &["--target", "tlv", "--input", "/nowhere"]),
        ("bench", &["nonsense"]),
        ("bench", &["--only", "nonsense"]),
        ("bench", &["--ldk", "/nowhere"]),
        ("bench", &["report", empty]),
        ("bench", &["report", "/nowhere"]),
    ];
    for (program, args) in cases {
        // Nothing may be left where it runs.
        let output = Command::new(programs::find(program)).args(args).current_dir(dir.path()).output();
        let output = output.expect("it runs");
        assert_eq!(output.status.code(), Some(2), "{program} {args:?}: {output:?}");
        assert!(output.stdout.is_empty(), "{program} {args:?}: {output:?}");
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(text.lines().count(), 1, "{program} {args:?}: {text}");
        assert!(text.starts_with(&format!("{program}: ")), "{program} {args:?}: {text}");
    }
}
