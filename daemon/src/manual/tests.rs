//! Every method and option is in every page and script that is to have it, and shells read the scripts. Read next: `super`.

use super::{chan_cli, chand, page, pages, script, users_methods, SHELLS};
use crate::rpc::params::Kind;
use std::io::Write as _;
use std::process::{Command, Stdio};

/// A shell's verdict on a script that it only reads; `None` where that shell is not installed.
fn read_by(shell: &str, script: &str) -> Option<Result<(), String>> {
    let mut child = Command::new(shell)
        .arg("-n")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .ok()?;
    child.stdin.take().expect("a pipe").write_all(script.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("an end");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    Some(if output.status.success() { Ok(()) } else { Err(words) })
}

/// What bash offers for a line whose last word is being typed.
fn offered(script: &str, function: &str, line: &[&str]) -> Option<Vec<String>> {
    let words: Vec<String> = line.iter().map(|w| format!("'{w}'")).collect();
    let text = format!(
        "{script}\ncompopt() {{ :; }}\nCOMP_WORDS=({})\nCOMP_CWORD={}\n{function}\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"\n",
        words.join(" "),
        line.len() - 1
    );
    let output = Command::new("bash").arg("-c").arg(text).output().ok()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).expect("text");
    Some(lines.lines().filter(|l| !l.is_empty()).map(String::from).collect())
}

#[test]
fn scripts_name_every_method_parameter_and_option() {
    for shell in SHELLS {
        let text = script(shell).expect("a script");
        for program in [chand(), chan_cli()] {
            for part in program.parts.iter().chain([&program]) {
                assert!(text.contains(&part.name), "{shell}: {}", part.name);
                for flag in &part.flags {
                    let name = if shell == "fish" { format!("-l {}", flag.long) } else { flag.dashed() };
                    assert!(text.contains(&name), "{shell}: {name} of {}", part.name);
                }
                if program.name == "chan-cli" {
                    assert!(
                        part.words.iter().all(|(name, _)| text.contains(&format!("{name}="))),
                        "{}",
                        part.name
                    );
                }
            }
        }
        let hidden = ["dev-fail", "dev-feerate", "dev-force", "dev-fast"];
        assert!(
            hidden.iter().all(|name| !text.contains(name)),
            "{shell}: what is for tests is shown to nobody"
        );
        if let Some(verdict) = read_by(shell, &text) {
            assert_eq!(verdict, Ok(()), "{shell}");
        }
    }
    assert!(script("tcsh").is_none());
}

#[test]
fn bash_offers_what_fits() {
    let text = script("bash").expect("a script");
    let Some(methods) = offered(&text, "_chan_cli", &["chan-cli", "listp"]) else { return };
    assert_eq!(methods, ["listpeers", "listpeerchannels", "listpays"]);
    let cases: [(&str, &[&str], &[&str]); 8] = [
        ("_chan_cli", &["chan-cli", "--network", "test"], &["testnet", "testnet4"]),
        ("_chan_cli", &["chan-cli", "--network", "=", "sig"], &["signet"]),
        ("_chan_cli", &["chan-cli", "--network", "signet", "keys"], &["keysend"]),
        ("_chan_cli", &["chan-cli", "wait", "next"], &["nextvalue="]),
        ("_chan_cli", &["chan-cli", "listpays", "status", "=", "p"], &["pending"]),
        ("_chan_cli", &["chan-cli", "--w"], &["--wait"]),
        ("_chand", &["chand", "--simp"], &["--simple-close"]),
        ("_chand", &["chand", "regtest", "--pre"], &["--premine"]),
    ];
    for (function, line, wanted) in cases {
        assert_eq!(offered(&text, function, line).expect("bash"), wanted, "{line:?}");
    }
}

#[test]
fn pages_have_their_sections_and_say_all_there_is() {
    // As a page spells it.
    let spelled = |words: &str| words.replace('-', "\\-");
    let daemon = page("chand").expect("a page");
    for program in chand().parts.iter().chain([&chand()]) {
        assert!(daemon.contains(&spelled(&program.name)), "{}", program.name);
        for flag in &program.flags {
            assert!(daemon.contains(&spelled(&flag.dashed())), "{}", flag.long);
        }
    }
    let client = page("chan-cli").expect("a page");
    for method in users_methods() {
        assert!(client.contains(&spelled(method.name)), "{}", method.name);
        let own = page(method.name).expect("a page");
        for section in ["NAME", "SYNOPSIS", "DESCRIPTION", "PARAMETERS", "SEE ALSO"] {
            assert!(own.contains(&format!(".SH {section}\n")), "{}: no {section}", method.name);
        }
        for p in method.params.iter().filter(|p| p.kind != Kind::NotYet) {
            assert!(own.contains(&format!("\\fB{}\\fR", spelled(p.name))), "{}: {}", method.name, p.name);
        }
    }
    for section in ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "SEE ALSO"] {
        for page in [&daemon, &client] {
            assert!(page.contains(&format!(".SH {section}\n")), "no {section}");
        }
    }
    assert!(page("dev-fail").is_none() && page("no-such-method").is_none());
}

#[test]
fn no_text_becomes_a_command_of_roff() {
    let known = [".TH", ".SH", ".SS", ".PP", ".TP", ".br"];
    for name in pages() {
        let page = page(&name).expect("a page");
        assert!(page.is_ascii(), "{name}");
        for line in page.lines() {
            let command = line.starts_with('.') || line.starts_with('\'');
            assert!(!command || known.iter().any(|k| line.split(' ').next() == Some(k)), "{name}: {line}");
            assert!(!line.is_empty(), "{name}: an empty line is a break");
        }
        assert!(page.starts_with(".TH "), "{name}");
    }
}

/// The lines of a page's shell examples.
fn examples(page: &str) -> Vec<String> {
    let mut inside = false;
    let mut lines = Vec::new();
    for line in page.lines() {
        match line {
            "```sh" => inside = true,
            "```" => inside = false,
            line if inside => lines.push(line.to_string()),
            _ => {}
        }
    }
    lines
}

fn document(name: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn the_commands_of_the_handbook_are_those_of_the_programs() {
    let mut seen = 0;
    for line in examples(&document("OPERATIONS.md")) {
        let line = line.strip_prefix("sudo -u chand ").unwrap_or(&line);
        let line = line.split(" > ").next().unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.first() {
            Some(&"chand") => {
                use clap::Parser as _;
                let read = crate::config::Cli::try_parse_from(&words);
                assert!(read.is_ok(), "{line}: {}", read.err().map(|e| e.to_string()).unwrap_or_default());
                if let ["chand", "man", name] = words.as_slice() {
                    assert!(page(name).is_some(), "{line}");
                }
                seen += 1;
            }
            Some(&"chan-cli") => {
                let mut rest = words.into_iter().skip(1);
                let method = loop {
                    match rest.next().expect("a method") {
                        "-H" => {}
                        "--network" | "--data-dir" => drop(rest.next()),
                        word => break word,
                    }
                };
                let method = users_methods().find(|m| m.name == method).unwrap_or_else(|| panic!("{line}"));
                for word in rest {
                    let name = word.split('=').next().unwrap_or_default();
                    assert!(method.params.iter().any(|p| p.name == name && p.kind != Kind::NotYet), "{line}");
                }
                seen += 1;
            }
            _ => {}
        }
    }
    assert!(seen > 25, "only {seen} commands were found");
}

#[test]
fn the_unit_starts_the_daemon_with_options_that_it_has() {
    use clap::Parser as _;
    let unit = document("systemd/chand.service");
    let value = |name: &str| {
        let line = unit.lines().find_map(|line| line.strip_prefix(&format!("{name}=")));
        line.unwrap_or_else(|| panic!("no {name}"))
    };
    let words: Vec<&str> = value("ExecStart").split_whitespace().collect();
    assert_eq!(words[0], "/usr/local/bin/chand");
    let cli = crate::config::Cli::try_parse_from(&words).expect("options of chand");
    assert!(cli.command.is_none());
    let at = words.iter().position(|word| *word == "--drain").expect("a drain");
    let (drain, stop) = (words[at + 1].parse::<u64>(), value("TimeoutStopSec").parse::<u64>());
    assert!(drain.expect("seconds") + 60 < stop.expect("seconds"), "it is killed while it drains");
    assert_eq!((value("Type"), value("NotifyAccess")), ("notify", "main"));
}
