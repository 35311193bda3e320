//! Manual pages, as `man` reads them.
//!
//! In: a program or a method. Out: roff with the `man` macros, nothing but ASCII and escapes. Text comes from the tables; whatever in it
//! would be read as a command or an escape is made harmless. Read next: `super`.

use super::{chan_cli, chand, users_methods, Flag};
use crate::rpc::params::{Kind, Param};
use crate::rpc::table::Method;
use std::fmt::Write as _;

/// A page in the making.
struct Page(String);

impl Page {
    fn new(name: &str, section: u8, manual: &str) -> Page {
        let version = env!("CARGO_PKG_VERSION");
        let title = text(&name.to_uppercase());
        Page(format!(".TH \"{title}\" {section} \"\" \"chand {version}\" \"{manual}\"\n"))
    }

    fn section(&mut self, name: &str) -> &mut Page {
        self.line(&format!(".SH {name}"))
    }

    /// As it is.
    fn line(&mut self, line: &str) -> &mut Page {
        self.0.push_str(line);
        self.0.push('\n');
        self
    }

    fn words(&mut self, words: &str) -> &mut Page {
        let words = text(words);
        self.line(&words)
    }

    fn paragraph(&mut self, words: &str) -> &mut Page {
        self.line(".PP").words(words)
    }

    /// A name in bold, and what it means.
    fn item(&mut self, name: &str, rest: &str, words: &str) -> &mut Page {
        let rest = if rest.is_empty() { String::new() } else { format!(" \\fI{}\\fR", text(rest)) };
        self.line(".TP").line(&format!("\\fB{}\\fR{rest}", text(name))).words(words)
    }

    fn flags(&mut self, flags: &[Flag], also: impl Fn(&Flag) -> String) -> &mut Page {
        for flag in flags {
            let short = flag.short.map(|c| format!("-{c}, ")).unwrap_or_default();
            let name = format!("{short}{}", flag.dashed());
            let form = flag.value.as_ref().map_or("", |(form, _)| form);
            self.item(&name, form, &format!("{}{}", flag.help, also(flag)));
        }
        self
    }

    fn usage(&mut self, name: &str, rest: &str) -> &mut Page {
        self.line(".SH SYNOPSIS").line(&format!("\\fB{}\\fR {}", text(name), text(rest)))
    }
}

/// Text that is nothing but text: no escapes, no commands at the begin of a line, no characters beyond ASCII.
fn text(words: &str) -> String {
    let mut out = String::new();
    let mut begins = true;
    for c in words.chars() {
        match c {
            '\\' => out.push_str("\\e"),
            '-' => out.push_str("\\-"),
            '\'' if begins => out.push_str("\\&\\(aq"),
            '\'' => out.push_str("\\(aq"),
            '`' => out.push_str("\\(ga"),
            '"' => out.push_str("\\(dq"),
            '.' if begins => out.push_str("\\&."),
            '\n' => out.push('\n'),
            c if c.is_ascii() && !c.is_ascii_control() => out.push(c),
            c if c.is_control() => {}
            c => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\[u{:04X}]", u32::from(c));
            }
        }
        begins = c == '\n';
    }
    out
}

/// The page of this name: `chand`, `chan-cli` or a method.
pub fn page(name: &str) -> Option<String> {
    match name {
        "chand" => Some(daemon()),
        "chan-cli" => Some(client()),
        name => users_methods().find(|m| m.name == name).map(of_method),
    }
}

fn daemon() -> String {
    let program = chand();
    let mut page = Page::new("chand", 1, "Programs");
    page.section("NAME").words(&format!("chand - {}", program.about));
    page.usage("chand", "[OPTIONS]");
    for part in &program.parts {
        let words: String = part.words.iter().map(|(form, _)| format!(" [{form}]")).collect();
        page.line(".br").line(&format!(
            "\\fBchand {}\\fR {}",
            text(&part.name),
            text(&format!("[OPTIONS]{words}"))
        ));
    }
    page.section("DESCRIPTION").words(
        "Without a program's name it runs a Lightning node until it is told to stop: by chan-cli stop, SIGTERM or SIGINT. \
         A second signal ends it at once; nothing that was told is lost.",
    );
    page.paragraph(
        "Each option is also a variable of the environment and a key of chand.toml in the data folder: the command line wins over \
         the variable, the variable over the file.",
    );
    let variable = |flag: &Flag| match flag.long.as_str() {
        // Of the command line alone.
        "help" | "version" | "restored" => String::new(),
        name => format!(" (CHAND_{})", name.to_uppercase().replace('-', "_")),
    };
    page.section("OPTIONS").flags(&program.flags, variable);
    page.section("PROGRAMS");
    for part in &program.parts {
        let words: String = part.words.iter().map(|(form, _)| format!(" {form}")).collect();
        page.line(&format!(".SS chand {}{}", text(&part.name), text(&words))).words(&part.about);
        page.flags(&part.flags, |_| String::new());
    }
    page.section("FILES");
    page.item("~/.chand/chand.toml", "", "Options; 0600 when it holds a password.");
    page.item(
        "~/.chand/NETWORK/seed",
        "",
        "24 words: all that gives on-chain coins back. Keep a copy elsewhere.",
    );
    page.item(
        "~/.chand/NETWORK/emergency.recover",
        "",
        "The channel backup, sealed under the seed. Keep a copy elsewhere.",
    );
    page.item("~/.chand/NETWORK/store", "", "The database. Never put an old copy back without --restored.");
    page.item("~/.chand/NETWORK/rpc.sock", "", "The control socket.");
    page.section("EXIT STATUS");
    page.item("0", "", "It ended in order.");
    page.item("1", "", "It did not start, or ended otherwise; one sentence on standard error says why.");
    page.item("2", "", "The command line cannot be read.");
    page.section("SEE ALSO").line("\\fBchan\\-cli\\fR(1)");
    page.0
}

fn client() -> String {
    let program = chan_cli();
    let mut page = Page::new("chan-cli", 1, "Programs");
    page.section("NAME").words(&format!("chan-cli - {}", program.about));
    page.usage("chan-cli", "[OPTIONS] METHOD [ARGUMENTS] [NAME=VALUE]");
    page.section("DESCRIPTION").words(
        "Asks a chand that runs, over its control socket, and prints the answer. Arguments stand in the order of a method's \
         parameters, or have their names. Each method has a page of its own: chand man METHOD.",
    );
    page.section("OPTIONS").flags(&program.flags, |_| String::new());
    page.section("METHODS");
    let mut area = "";
    for method in users_methods() {
        if method.category != area {
            area = method.category;
            page.line(&format!(".SS {area}"));
        }
        page.item(&method.usage(), "", method.summary);
    }
    page.section("EXIT STATUS");
    page.item("0", "", "Done.");
    page.item("1", "", "chand answered an error, which is printed.");
    page.item("2", "", "chand could not be asked.");
    page.section("SEE ALSO").line("\\fBchand\\fR(1)");
    page.0
}

fn of_method(method: &Method) -> String {
    let name = format!("chan-cli-{}", method.name);
    let mut page = Page::new(&name, 7, "Methods");
    page.section("NAME").words(&format!("{name} - {}", method.summary));
    page.usage("chan-cli", &method.usage());
    page.section("DESCRIPTION").words(method.summary);
    let (done, later): (Vec<&Param>, Vec<&Param>) =
        method.params.iter().partition(|p| p.kind != Kind::NotYet);
    page.section("PARAMETERS");
    if done.is_empty() {
        page.words("None.");
    }
    for p in done {
        let default = if p.required { "needed".into() } else { format!("default: {}", p.default) };
        page.item(p.name, &p.kind.name(), &format!("{} ({default})", p.doc));
    }
    if !later.is_empty() {
        let names: Vec<&str> = later.iter().map(|p| p.name).collect();
        page.paragraph(&format!("Not done yet, refused when given: {}.", names.join(", ")));
    }
    page.section("SEE ALSO").line("\\fBchan\\-cli\\fR(1), \\fBchand\\fR(1)");
    page.0
}
