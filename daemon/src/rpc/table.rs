//! THE list of methods: dispatch, `help`, the client's help and `docs/RPC.md` all read it.
//!
//! In: nothing. Out: for each method its parameters in order, a line for people, and the function that does it.
//! Names, order and meaning of parameters are Core Lightning's; what is chand's own says so.
//! Read next: `list` and `psbt` (the methods themselves), `call` (what each does).

use super::backend::Pending;
use super::call::Context;
use super::message::RpcError;
use super::params::{Args, Kind, Param};
use serde_json::Value;
use std::sync::Arc;

/// Does a method.
pub type Handler = fn(Arc<Context>, Args) -> Pending<Result<Value, RpcError>>;

/// One method.
#[derive(Clone, Copy)]
pub struct Method {
    /// As it is called.
    pub name: &'static str,
    /// `node`, `peers`, `wallet`, `channels`, `payments`, `graph` or `developer`.
    pub category: &'static str,
    /// One line for people.
    pub summary: &'static str,
    /// In the order of positional arguments.
    pub params: &'static [Param],
    /// Does it.
    pub call: Handler,
}

/// Methods that ask the node and change nothing.
const QUESTIONS: [&str; 13] = [
    "balance",
    "getinfo",
    "listclosedchannels",
    "listforwards",
    "listfunds",
    "listhtlcs",
    "listinvoices",
    "listpays",
    "listpeerchannels",
    "listpeers",
    "listsendpays",
    "listsnapshots",
    "listwatchtowers",
];

impl Method {
    /// There only with `--dev`.
    pub fn is_dev(&self) -> bool {
        self.category == "developer"
    }

    /// It only asks: answered also while the disk refuses, from what was kept last.
    pub fn is_question(&self) -> bool {
        QUESTIONS.contains(&self.name)
    }

    /// `name needed [optional]`, without what chand does not do yet.
    pub fn usage(&self) -> String {
        let mut text = self.name.to_string();
        for param in self.params.iter().filter(|p| p.kind != Kind::NotYet) {
            let (open, close) = if param.required { ("", "") } else { ("[", "]") };
            text.push_str(&format!(" {open}{}{close}", param.name));
        }
        text
    }
}

/// The method of this name, if there is one.
pub fn find(name: &str, dev: bool) -> Option<&'static Method> {
    METHODS.iter().find(|m| m.name == name && (dev || !m.is_dev()))
}

const fn req(name: &'static str, kind: Kind, doc: &'static str) -> Param {
    Param { name, kind, required: true, default: "", doc }
}

const fn opt(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Param {
    Param { name, kind, required: false, default, doc }
}

/// Core Lightning has it in its list, chand does not do it yet.
const fn later(name: &'static str) -> Param {
    Param { name, kind: Kind::NotYet, required: false, default: "", doc: "refused when given" }
}

/// Of commands that spend.
const DRY_RUN: Param =
    opt("dry_run", Kind::Bool, "false", "(chand) tell what would be done, spent and left, and do nothing");

macro_rules! method {
    ($name:literal, $category:literal, $summary:literal, $call:path, [$($param:expr),* $(,)?]) => {
        Method {
            name: $name,
            category: $category,
            summary: $summary,
            params: const { &[$($param),*] },
            call: |context, args| Box::pin($call(context, args)),
        }
    };
}

mod care;
mod list;
mod psbt;

const PARTS: [&[Method]; 3] = [list::LIST, care::LIST, psbt::LIST];
const COUNT: usize = list::LIST.len() + care::LIST.len() + psbt::LIST.len();

const fn joined() -> [Method; COUNT] {
    let mut all = [list::LIST[0]; COUNT];
    let (mut part, mut at) = (0, 0);
    while part < PARTS.len() {
        let mut row = 0;
        while row < PARTS[part].len() {
            all[at] = PARTS[part][row];
            (row, at) = (row + 1, at + 1);
        }
        part += 1;
    }
    all
}

/// All of them.
pub static METHODS: &[Method] = &joined();

#[cfg(test)]
mod tests;
