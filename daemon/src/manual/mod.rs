//! Manual pages and completions, made of the very tables that the programs run by.
//!
//! In: the options of `chand` (`config::options`, and its sub-programs'), those of `chan-cli` (`cli::flags`), the methods
//! (`rpc::table`). Out: roff for `man`, scripts for bash, zsh and fish. A method or option that is new is in all of them.
//! Read next: `roff`, `shells`.

mod roff;
mod shells;
#[cfg(test)]
mod tests;

pub use roff::page;
pub use shells::{script, SHELLS};

use crate::cli::flags::FLAGS;
use crate::config::network::NETWORKS;
use crate::config::Cli;
use crate::rpc::params::Kind;
use crate::rpc::table::{Method, METHODS};
use clap::CommandFactory as _;

/// What a value can be, as far as a shell can help with it.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Hint {
    /// One of these words.
    Words(Vec<String>),
    /// A folder.
    Folder,
    /// A file.
    File,
    /// Anything.
    Free,
}

/// One option of a program.
#[derive(Clone, Debug)]
struct Flag {
    long: String,
    short: Option<char>,
    /// What a value looks like, and what it can be; `None` for a switch.
    value: Option<(String, Hint)>,
    help: String,
}

impl Flag {
    /// `--long`.
    fn dashed(&self) -> String {
        format!("--{}", self.long)
    }
}

/// A program, or a part of one that is called by its name.
#[derive(Clone, Debug)]
struct Program {
    name: String,
    about: String,
    flags: Vec<Flag>,
    /// What it takes without a name: what that looks like, and what it can be.
    words: Vec<(String, Hint)>,
    parts: Vec<Program>,
}

fn hint(name: &str, form: &str) -> Hint {
    let words = |list: &[&str]| Hint::Words(list.iter().map(ToString::to_string).collect());
    match (name, form) {
        ("network", _) => Hint::Words(NETWORKS.iter().map(|n| n.name.to_string()).collect()),
        ("log-level", _) => words(&["error", "warn", "info", "debug", "trace"]),
        ("page", _) => Hint::Words(pages()),
        ("shell", _) => words(&SHELLS),
        (_, "DIR") => Hint::Folder,
        (_, "FILE" | "PATH") => Hint::File,
        _ => Hint::Free,
    }
}

/// `chand`, as its command line is read.
fn chand() -> Program {
    let mut command = Cli::command();
    command.build();
    program_of(&command)
}

fn program_of(command: &clap::Command) -> Program {
    let form = |arg: &clap::Arg| {
        let names = arg.get_value_names().unwrap_or_default();
        names.first().map_or_else(|| arg.get_id().to_string().to_uppercase(), ToString::to_string)
    };
    let text =
        |styled: Option<&clap::builder::StyledStr>| styled.map(ToString::to_string).unwrap_or_default();
    let mut flags = Vec::new();
    let mut words = Vec::new();
    // Those for tests are shown to nobody who did not look for them.
    for arg in
        command.get_arguments().filter(|arg| !arg.is_hide_set() || !arg.get_id().as_str().starts_with("dev-"))
    {
        let form = form(arg);
        let name = arg.get_long().unwrap_or(arg.get_id().as_str()).to_string();
        let value = (form.clone(), hint(&name, &form));
        if arg.is_positional() {
            words.push(value);
        } else {
            let value = arg.get_action().takes_values().then_some(value);
            flags.push(Flag { long: name, short: arg.get_short(), value, help: text(arg.get_help()) });
        }
    }
    Program {
        name: command.get_name().into(),
        about: text(command.get_about()),
        flags,
        words,
        parts: command.get_subcommands().map(program_of).collect(),
    }
}

/// `chan-cli`; its methods are its parts, with their parameters as words of the form `name=`.
fn chan_cli() -> Program {
    let flag = |f: &crate::cli::flags::CliFlag| Flag {
        long: f.long.into(),
        short: f.short,
        value: f.form.map(|form| (form.into(), hint(f.long, form))),
        help: match f.default {
            Some(default) => format!("{} [{default}]", f.help),
            None => f.help.into(),
        },
    };
    Program {
        name: "chan-cli".into(),
        about: "Talk to a running chand".into(),
        flags: FLAGS.iter().map(flag).collect(),
        words: Vec::new(),
        parts: users_methods().map(method).collect(),
    }
}

/// Those that are there without `--dev`.
fn users_methods() -> impl Iterator<Item = &'static Method> {
    METHODS.iter().filter(|m| !m.is_dev())
}

fn method(method: &Method) -> Program {
    let word = |p: &crate::rpc::params::Param| {
        let hint = match p.kind {
            Kind::OneOf(words) => Hint::Words(words.iter().map(ToString::to_string).collect()),
            Kind::Bool => Hint::Words(vec!["true".into(), "false".into()]),
            _ if p.name == "command" => Hint::Words(users_methods().map(|m| m.name.to_string()).collect()),
            _ => Hint::Free,
        };
        (p.name.to_string(), hint)
    };
    Program {
        name: method.name.into(),
        about: method.summary.into(),
        flags: Vec::new(),
        words: method.params.iter().filter(|p| p.kind != Kind::NotYet).map(word).collect(),
        parts: Vec::new(),
    }
}

/// Every page that `chand man` has.
fn pages() -> Vec<String> {
    let methods = users_methods().map(|m| m.name.to_string());
    ["chand", "chan-cli"].into_iter().map(String::from).chain(methods).collect()
}
