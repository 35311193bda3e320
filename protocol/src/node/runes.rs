//! Runes that were given out: their numbers, what they were restricted to, when they were used, and which are refused.
//!
//! The node numbers and keeps them; what a rune is, whether its code is right and its restrictions hold is the daemon's business. The
//! codes are made with an *epoch*, a number that was drawn with the first rune: a database that was lost, or put back from an
//! old copy, does not know which runes were refused and what was spent, and so none of the old ones is ours any more.
//!
//! In: `createrune`, `showrunes`, `blacklistrune`. Out: records and answers. Read next: `budget`.

use crate::id::CommandId;
use crate::node::command::{Command, Reply};
use crate::node::{view, Node};
use crate::record::{put, rune_key, runes_key};
use crate::store::Change;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Runes that are kept.
const MAX_RUNES: usize = 10_000;
/// Bytes of one rune's restrictions.
const MAX_RESTRICTIONS_BYTES: usize = 4_096;
/// Ranges of the blacklist.
const MAX_RANGES: usize = 1_000;

/// What the record of all runes holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    /// `None` before the first one.
    epoch: Option<u64>,
    /// The next one's number.
    next: u64,
    /// Those that are refused, first and last; in order, with gaps between.
    blacklist: Vec<(u64, u64)>,
}

/// What one rune's record holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rune {
    restrictions: String,
    created_at_s: u64,
    used_at_ms: u64,
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Runes {
    head: Head,
    by_id: BTreeMap<u64, Rune>,
}

impl Runes {
    pub(super) fn restore_head(&mut self, head: Head) {
        self.head = head;
    }

    pub(super) fn restore(&mut self, id: u64, rune: Rune) {
        self.by_id.insert(id, rune);
    }

    pub(super) fn records(&self) -> impl Iterator<Item = Change> + '_ {
        let head = (self.head != Head::default()).then(|| put(runes_key(), &self.head));
        head.into_iter().chain(self.by_id.iter().map(|(id, rune)| put(rune_key(*id), rune)))
    }
}

/// The list with these numbers on it, or off it.
fn edit(list: &[(u64, u64)], (start, end): (u64, u64), refuse: bool) -> Vec<(u64, u64)> {
    let mut edited: Vec<(u64, u64)> = Vec::new();
    for &(from, to) in list {
        if from < start {
            edited.push((from, to.min(start.saturating_sub(1))));
        }
        if to > end {
            edited.push((from.max(end.saturating_add(1)), to));
        }
    }
    if refuse {
        edited.push((start, end));
    }
    edited.sort_unstable();
    let mut joined: Vec<(u64, u64)> = Vec::new();
    for (from, to) in edited {
        match joined.last_mut() {
            Some(last) if from <= last.1.saturating_add(1) => last.1 = last.1.max(to),
            _ => joined.push((from, to)),
        }
    }
    joined
}

impl Node {
    pub(super) fn on_rune_command(&mut self, id: CommandId, command: Command) {
        match command {
            Command::NewRune { restrictions } => self.new_rune(id, restrictions),
            Command::ListRunes => self.list_runes(id),
            Command::BlacklistRunes { start, end, relist } => self.blacklist_runes(id, (start, end), relist),
            Command::RuneUsed { id: number, at_ms } => {
                if let Some(rune) = self.runes.by_id.get_mut(&number) {
                    rune.used_at_ms = rune.used_at_ms.max(at_ms);
                    let record = put(rune_key(number), rune);
                    self.keep(record);
                }
                self.reply(id, Ok(Reply::Done));
            }
            _ => self.refuse(id, -32603, "internal: not a command about runes"),
        }
    }

    fn new_rune(&mut self, command: CommandId, restrictions: String) {
        if self.runes.by_id.len() >= MAX_RUNES || restrictions.len() > MAX_RESTRICTIONS_BYTES {
            let text = "too many runes, or restrictions of more than 4,096 bytes";
            return self.refuse(command, -32602, text);
        }
        let [a, b, c, d, e, f, g, h, ..] = self.entropy.bytes32();
        let drawn = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        let epoch = *self.runes.head.epoch.get_or_insert(drawn);
        let id = self.runes.head.next;
        self.runes.head.next = id.saturating_add(1);
        let rune = Rune { restrictions, created_at_s: self.wall().seconds(), used_at_ms: 0 };
        self.keep_runes_head();
        self.keep(put(rune_key(id), &rune));
        self.runes.by_id.insert(id, rune);
        self.reply(command, Ok(Reply::Rune { id, epoch }));
    }

    fn keep_runes_head(&mut self) {
        let record = put(runes_key(), &self.runes.head);
        self.keep(record);
    }

    fn list_runes(&mut self, id: CommandId) {
        let row = |(id, rune): (&u64, &Rune)| view::Rune {
            id: *id,
            restrictions: rune.restrictions.clone(),
            created_at_s: rune.created_at_s,
            used_at_ms: rune.used_at_ms,
        };
        let runes = view::Runes {
            epoch: self.runes.head.epoch,
            runes: self.runes.by_id.iter().map(row).collect(),
            blacklist: self.runes.head.blacklist.clone(),
            accounts: self.accounts.views(),
        };
        self.reply(id, Ok(Reply::Runes(Box::new(runes))));
    }

    fn blacklist_runes(&mut self, id: CommandId, range: (u64, u64), relist: bool) {
        if range.0 > range.1 {
            return self.refuse(id, -32602, "end: must not be less than start");
        }
        let edited = edit(&self.runes.head.blacklist, range, !relist);
        if edited.len() > MAX_RANGES {
            return self.refuse(id, -32602, "the blacklist would have more than 1,000 ranges");
        }
        self.runes.head.blacklist = edited;
        self.keep_runes_head();
        self.list_runes(id);
    }

    /// No rune that was given out is good any more.
    pub(super) fn void_runes(&mut self) {
        let old = core::mem::take(&mut self.runes);
        if old.head == Head::default() {
            return;
        }
        old.by_id.keys().for_each(|id| self.keep(Change::Delete { key: rune_key(*id) }));
        self.keep(Change::Delete { key: runes_key() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_added_taken_away_and_joined() {
        let list = edit(&[], (5, 10), true);
        assert_eq!(list, [(5, 10)]);
        assert_eq!(edit(&list, (11, 12), true), [(5, 12)]);
        assert_eq!(edit(&list, (0, 3), true), [(0, 3), (5, 10)]);
        assert_eq!(edit(&list, (0, 20), true), [(0, 20)]);
        assert_eq!(edit(&list, (7, 8), false), [(5, 6), (9, 10)]);
        assert_eq!(edit(&list, (5, 10), false), []);
        assert_eq!(edit(&list, (0, u64::MAX), true), [(0, u64::MAX)]);
        assert_eq!(edit(&[(0, u64::MAX)], (0, u64::MAX), false), []);
    }
}
