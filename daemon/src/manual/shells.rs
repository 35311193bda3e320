//! Completions for bash, zsh and fish.
//!
//! In: both programs. Out: one script for each shell, to be sourced or put where the shell looks for such. What a shell is given is
//! quoted for it: no text of a table can become a command. Read next: `super`.

use super::{chan_cli, chand, Flag, Hint, Program};
use std::fmt::Write as _;

/// The shells that have one.
pub const SHELLS: [&str; 3] = ["bash", "zsh", "fish"];

/// The script for a shell of [`SHELLS`].
pub fn script(shell: &str) -> Option<String> {
    let (daemon, client) = (chand(), chan_cli());
    match shell {
        "bash" => Some(bash(&daemon, &client)),
        "zsh" => Some(zsh(&daemon, &client)),
        "fish" => Some(fish(&daemon, &client)),
        _ => None,
    }
}

macro_rules! put {
    ($out:expr, $($form:tt)*) => {{
        // Writing to a string cannot fail.
        let _ = writeln!($out, $($form)*);
    }};
}

/// In single quotes, as bash and zsh read them.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn all_flags(flags: &[Flag]) -> impl Iterator<Item = String> + '_ {
    flags.iter().flat_map(|f| f.short.map(|c| format!("-{c}")).into_iter().chain([f.dashed()]))
}

fn names(parts: &[Program]) -> Vec<&str> {
    parts.iter().map(|p| p.name.as_str()).collect()
}

// ---- bash

const BASH_HEAD: &str = "\
# bash completion of chand and chan-cli. Made by: chand completions bash
# A word such as --network=re or status=pe is three words to bash: the name stands before the sign.
_chand_words() {
    cur=\"${COMP_WORDS[COMP_CWORD]}\"
    prev=\"${COMP_WORDS[COMP_CWORD-1]}\"
    if [[ $cur == '=' ]]; then
        cur=''
    elif [[ $prev == '=' && COMP_CWORD -gt 2 ]]; then
        prev=\"${COMP_WORDS[COMP_CWORD-2]}\"
    fi
}
_chand_reply() {
    local IFS=$'\\n'
    COMPREPLY=($(compgen -W \"${1// /$'\\n'}\" -- \"$cur\"))
}
_chand_files() {
    local IFS=$'\\n'
    compopt -o filenames
    COMPREPLY=($(compgen \"$1\" -- \"$cur\"))
}
";

fn bash_action(hint: &Hint) -> Option<String> {
    match hint {
        Hint::Words(words) => Some(format!("_chand_reply {}", quoted(&words.join(" ")))),
        Hint::Folder => Some("_chand_files -d".into()),
        Hint::File => Some("_chand_files -f".into()),
        Hint::Free => Some("COMPREPLY=()".into()),
    }
}

/// One line a flag with a value, for a `case` over part and word before.
fn bash_values(out: &mut String, part: &str, flags: &[Flag]) {
    for flag in flags {
        let action = flag.value.as_ref().and_then(|(_, hint)| bash_action(hint));
        if let Some(action) = action {
            put!(out, "        {part},{}) {action}; return ;;", flag.dashed());
        }
    }
}

fn bash(daemon: &Program, client: &Program) -> String {
    let mut out = String::from(BASH_HEAD);
    bash_daemon(&mut out, daemon);
    bash_client(&mut out, client);
    out.push_str("complete -F _chand chand\ncomplete -F _chan_cli chan-cli\n");
    out
}

fn bash_daemon(out: &mut String, daemon: &Program) {
    put!(out, "_chand() {{");
    put!(out, "    local cur prev word part=node");
    put!(out, "    _chand_words");
    put!(out, "    for word in \"${{COMP_WORDS[@]:1:COMP_CWORD-1}}\"; do");
    put!(out, "        case $word in {}) part=$word; break ;; esac", names(&daemon.parts).join("|"));
    put!(out, "    done");
    put!(out, "    case $part,$prev in");
    bash_values(out, "node", &daemon.flags);
    daemon.parts.iter().for_each(|part| bash_values(out, &part.name, &part.flags));
    put!(out, "    esac");
    put!(out, "    case $part in");
    let whole: Vec<String> =
        all_flags(&daemon.flags).chain(names(&daemon.parts).into_iter().map(String::from)).collect();
    put!(out, "        node) _chand_reply {} ;;", quoted(&whole.join(" ")));
    for part in &daemon.parts {
        let words = part.words.iter().flat_map(|(_, hint)| match hint {
            Hint::Words(words) => words.clone(),
            _ => Vec::new(),
        });
        let all: Vec<String> = all_flags(&part.flags).chain(words).collect();
        put!(out, "        {}) _chand_reply {} ;;", part.name, quoted(&all.join(" ")));
    }
    put!(out, "    esac\n}}");
}

fn bash_client(out: &mut String, client: &Program) {
    let with_value: Vec<String> =
        client.flags.iter().filter(|f| f.value.is_some()).map(Flag::dashed).collect();
    put!(out, "_chan_cli() {{");
    put!(out, "    local cur prev word skip='' method=''");
    put!(out, "    _chand_words");
    put!(out, "    for word in \"${{COMP_WORDS[@]:1:COMP_CWORD-1}}\"; do");
    put!(out, "        if [[ $word == '=' ]]; then continue; fi");
    put!(out, "        if [[ -n $skip ]]; then skip=''; continue; fi");
    put!(out, "        case $word in");
    put!(out, "            {}) skip=1 ;;", with_value.join("|"));
    put!(out, "            -*) ;;");
    put!(out, "            *) method=$word; break ;;");
    put!(out, "        esac");
    put!(out, "    done");
    put!(out, "    case option,$prev in");
    bash_values(out, "option", &client.flags);
    put!(out, "    esac");
    put!(out, "    case $method,$prev in");
    for method in &client.parts {
        for (name, hint) in &method.words {
            if let Hint::Words(words) = hint {
                put!(
                    out,
                    "        {},{name}) _chand_reply {}; return ;;",
                    method.name,
                    quoted(&words.join(" "))
                );
            }
        }
    }
    put!(out, "    esac");
    put!(out, "    if [[ $cur == -* ]]; then");
    put!(out, "        _chand_reply {}", quoted(&all_flags(&client.flags).collect::<Vec<_>>().join(" ")));
    put!(out, "        return");
    put!(out, "    fi");
    put!(out, "    case $method in");
    put!(out, "        '') _chand_reply {} ;;", quoted(&names(&client.parts).join(" ")));
    for method in &client.parts {
        let words: Vec<String> = method.words.iter().map(|(name, _)| format!("{name}=")).collect();
        put!(
            out,
            "        {}) compopt -o nospace; _chand_reply {} ;;",
            method.name,
            quoted(&words.join(" "))
        );
    }
    put!(out, "    esac\n}}");
}

// ---- zsh

/// Text within a specification of `_arguments` or `_describe`.
fn zsh_text(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('[', "\\[").replace(']', "\\]").replace(':', "\\:");
    escaped.replace('\'', "'\\''")
}

fn zsh_action(hint: &Hint) -> String {
    match hint {
        Hint::Words(words) => format!("({})", words.join(" ")),
        Hint::Folder => "_directories".into(),
        Hint::File => "_files".into(),
        Hint::Free => " ".into(),
    }
}

/// One line a flag, for `_arguments`.
fn zsh_flags(out: &mut String, indent: &str, flags: &[Flag]) {
    for flag in flags {
        let help = zsh_text(&flag.help);
        let value = match &flag.value {
            Some((form, hint)) => format!(":{}:{}", zsh_text(form), zsh_action(hint)),
            None => String::new(),
        };
        let equals = if flag.value.is_some() { "=" } else { "" };
        put!(out, "{indent}'*{}{equals}[{help}]{value}' \\", flag.dashed());
        if let Some(short) = flag.short {
            put!(out, "{indent}'-{short}[{help}]' \\");
        }
    }
}

fn zsh_parts(out: &mut String, parts: &[Program]) {
    put!(out, "    local -a parts=(");
    parts.iter().for_each(|p| put!(out, "        '{}:{}'", p.name, zsh_text(&p.about)));
    put!(out, "    )");
}

fn zsh(daemon: &Program, client: &Program) -> String {
    let mut out = String::from("#compdef chand chan-cli\n# Made by: chand completions zsh\n");
    put!(out, "_chand() {{\n    local context state line\n    typeset -A opt_args");
    zsh_parts(&mut out, &daemon.parts);
    put!(out, "    _arguments -C \\");
    zsh_flags(&mut out, "        ", &daemon.flags);
    put!(out, "        '1:program:->part' '*::argument:->rest'");
    put!(out, "    case $state in");
    put!(out, "        part) _describe program parts ;;");
    put!(out, "        rest) case $words[1] in");
    for part in &daemon.parts {
        put!(out, "            {}) _arguments \\", part.name);
        zsh_flags(&mut out, "                ", &part.flags);
        let words = part.words.iter();
        let words: Vec<String> =
            words.map(|(form, hint)| format!("':{}:{}'", zsh_text(form), zsh_action(hint))).collect();
        put!(out, "                {} ;;", words.join(" "));
    }
    put!(out, "        esac ;;\n    esac\n}}");
    put!(out, "_chan_cli() {{\n    local context state line\n    typeset -A opt_args");
    zsh_parts(&mut out, &client.parts);
    put!(out, "    _arguments -C \\");
    zsh_flags(&mut out, "        ", &client.flags);
    put!(out, "        '1:method:->part' '*::argument:->rest'");
    put!(out, "    case $state in");
    put!(out, "        part) _describe method parts ;;");
    put!(out, "        rest) case $words[1] in");
    for method in &client.parts {
        put!(out, "            {})", method.name);
        for (name, hint) in &method.words {
            if let Hint::Words(words) = hint {
                put!(
                    out,
                    "                if compset -P '{name}='; then compadd -- {}; return; fi",
                    words.join(" ")
                );
            }
        }
        let names: Vec<String> = method.words.iter().map(|(name, _)| format!("{name}=")).collect();
        put!(out, "                compadd -S '' -- {} ;;", names.join(" "));
    }
    put!(out, "        esac ;;\n    esac\n}}");
    out.push_str("case $service in\n    chand) _chand \"$@\" ;;\n    chan-cli) _chan_cli \"$@\" ;;\nesac\n");
    out
}

// ---- fish

/// In single quotes, as fish reads them.
fn fish_text(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

fn fish_flags(out: &mut String, program: &str, when: &str, flags: &[Flag]) {
    for flag in flags {
        let short = flag.short.map(|c| format!(" -s {c}")).unwrap_or_default();
        let value = match flag.value.as_ref().map(|(_, hint)| hint) {
            None => String::new(),
            Some(Hint::Words(words)) => format!(" -x -a {}", fish_text(&words.join(" "))),
            Some(Hint::Folder) => " -x -a '(__fish_complete_directories)'".into(),
            Some(Hint::File) => " -r -F".into(),
            Some(Hint::Free) => " -x".into(),
        };
        put!(
            out,
            "complete -c {program} -n {when} -l {}{short}{value} -d {}",
            flag.long,
            fish_text(&flag.help)
        );
    }
}

fn fish(daemon: &Program, client: &Program) -> String {
    let mut out = String::from("# Made by: chand completions fish\n");
    for program in [daemon, client] {
        let name = &program.name;
        let all = names(&program.parts).join(" ");
        let (none, some) = (fish_text(&format!("not __fish_seen_subcommand_from {all}")), |part: &str| {
            fish_text(&format!("__fish_seen_subcommand_from {part}"))
        });
        put!(out, "complete -c {name} -f");
        fish_flags(&mut out, name, &none, &program.flags);
        for part in &program.parts {
            put!(out, "complete -c {name} -n {none} -a {} -d {}", part.name, fish_text(&part.about));
            let when = some(&part.name);
            fish_flags(&mut out, name, &when, &part.flags);
            for (word, hint) in &part.words {
                let of_method = program.name == "chan-cli";
                let words = match hint {
                    Hint::Words(words) if of_method => words.iter().map(|w| format!("{word}={w}")).collect(),
                    Hint::Words(words) => words.clone(),
                    _ if of_method => vec![format!("{word}=")],
                    _ => continue,
                };
                put!(out, "complete -c {name} -n {when} -a {}", fish_text(&words.join(" ")));
            }
        }
    }
    out
}
