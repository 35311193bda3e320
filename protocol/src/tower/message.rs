//! What a node and its watchtower say to each other, over the transport of BOLT 8.
//!
//! In: bytes that somebody chose. Out: messages, or what is wrong with them. Types are odd and above 32,768 (BOLT 1 leaves them to
//! whoever wants them), so that an ordinary node ignores them. The client asks, the tower answers each question once, in
//! order: `Hello`→`Welcome`, `Ask`→`Have`, `States`→`Have` or `Refused`, `Forget`→`Have`.
//! `Have` is said only when what it tells of is on the tower's disk.
//! Read next: the daemon's `tower`.

use super::seal::{Entry, Sealed};
use super::{EntryId, Hint, Tag};
use crate::wire::codec::{Malformed, Reader, Writer};
use alloc::string::String;
use alloc::vec::Vec;

/// What is spoken.
pub const VERSION: u16 = 1;
/// The longest blob, in bytes: a commitment whose HTLCs are all apart, or three signed penalties, has less.
pub const MAX_BLOB: usize = 20_000;
/// The longest entry, in bytes.
pub const MAX_ENTRY: usize = 1_000;
/// States in one message.
pub const MAX_STATES: usize = 500;
/// Entries in one message.
pub const MAX_ENTRIES: usize = 1_000;
/// Bytes of one `States` message that a sender fills at most; what a message may have is a little more.
pub const ROOM: usize = 60_000;

const HELLO: u16 = 44_001;
const WELCOME: u16 = 44_003;
const ASK: u16 = 44_005;
const HAVE: u16 = 44_007;
const STATES: u16 = 44_009;
const REFUSED: u16 = 44_011;
const FORGET: u16 = 44_013;

/// How much a tower keeps for one client.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Quota {
    /// Bytes on its disk.
    pub bytes: u64,
    /// States.
    pub states: u64,
}

/// States that a tower had and lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Lost {
    /// The first.
    pub from: u64,
    /// The one behind the last.
    pub to: u64,
}

impl Lost {
    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.from >= self.to
    }

    /// What is left when `state` was sent again: states come in order, and what is passed over is gone for good.
    #[must_use]
    pub fn after(self, state: u64) -> Lost {
        match self {
            Lost { from, to } if from >= to || state < from => self,
            Lost { from, to } if state == from => Lost { from: from.saturating_add(1), to },
            Lost { from, to } => Lost { from, to: to.min(state) },
        }
    }
}

/// One message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TowerMessage {
    /// The client's first word.
    Hello {
        /// What it speaks.
        version: u16,
    },
    /// The tower's first word.
    Welcome {
        /// What it speaks.
        version: u16,
        /// What it keeps for this client at most.
        quota: Quota,
    },
    /// How far does the tower have this channel?
    Ask {
        /// Which.
        tag: Tag,
    },
    /// All states below `next` that were sent are on the tower's disk, but for what it says it lost.
    Have {
        /// Which channel.
        tag: Tag,
        /// One above the newest state; 0 when it has none.
        next: u64,
        /// What it keeps for this client now.
        used: Quota,
        /// Of those below `next`, and of those from it on: what damage took of it.
        lost: Lost,
    },
    /// Revoked states, in order, and the entries that they are the first to refer to.
    States {
        /// Which channel.
        tag: Tag,
        /// The states.
        states: Vec<Sealed>,
        /// The entries.
        entries: Vec<Entry>,
    },
    /// The tower does not keep it.
    Refused {
        /// Which channel.
        tag: Tag,
        /// In words.
        reason: String,
    },
    /// The channel is over: everything of it may go.
    Forget {
        /// Which.
        tag: Tag,
    },
}

impl TowerMessage {
    /// The bytes; `None` when a length does not fit.
    pub fn encode(&self) -> Option<Vec<u8>> {
        let mut w = Writer::new();
        match self {
            TowerMessage::Hello { version } => {
                w.u16(HELLO);
                w.u16(*version);
            }
            TowerMessage::Welcome { version, quota } => {
                w.u16(WELCOME);
                w.u16(*version);
                write_quota(quota, &mut w);
            }
            TowerMessage::Ask { tag } => {
                w.u16(ASK);
                w.bytes(tag);
            }
            TowerMessage::Have { tag, next, used, lost } => {
                w.u16(HAVE);
                w.bytes(tag);
                w.u64(*next);
                write_quota(used, &mut w);
                w.u64(lost.from);
                w.u64(lost.to);
            }
            TowerMessage::States { tag, states, entries } => {
                w.u16(STATES);
                w.bytes(tag);
                w.count16(states.len());
                for state in states {
                    w.u64(state.number);
                    w.bytes(&state.hint);
                    w.bytes16(&state.blob);
                }
                w.count16(entries.len());
                for entry in entries {
                    w.bytes(&entry.id);
                    w.bytes16(&entry.sealed);
                }
            }
            TowerMessage::Refused { tag, reason } => {
                w.u16(REFUSED);
                w.bytes(tag);
                w.bytes16(reason.as_bytes());
            }
            TowerMessage::Forget { tag } => {
                w.u16(FORGET);
                w.bytes(tag);
            }
        }
        w.finish()
    }

    /// Reads a message; `None` for a type that is to be ignored. What stands behind the fields is ignored too.
    ///
    /// # Errors
    /// [`Malformed`]; also for an even type that is none of these.
    pub fn decode(bytes: &[u8]) -> Result<Option<TowerMessage>, Malformed> {
        let mut r = Reader::new(bytes);
        let kind = r.u16("type")?;
        Ok(Some(match kind {
            HELLO => TowerMessage::Hello { version: r.u16("version")? },
            WELCOME => TowerMessage::Welcome { version: r.u16("version")?, quota: read_quota(&mut r)? },
            ASK => TowerMessage::Ask { tag: r.array("tag")? },
            HAVE => TowerMessage::Have {
                tag: r.array("tag")?,
                next: r.u64("next")?,
                used: read_quota(&mut r)?,
                lost: Lost { from: r.u64("lost")?, to: r.u64("lost")? },
            },
            STATES => read_states(&mut r)?,
            REFUSED => TowerMessage::Refused {
                tag: r.array("tag")?,
                reason: String::from_utf8_lossy(r.bytes16("reason")?).into_owned(),
            },
            FORGET => TowerMessage::Forget { tag: r.array("tag")? },
            even if even % 2 == 0 => return Err(Malformed::UnknownEvenTlv(even.into())),
            _ => return Ok(None),
        }))
    }
}

fn write_quota(quota: &Quota, w: &mut Writer) {
    w.u64(quota.bytes);
    w.u64(quota.states);
}

fn read_quota(r: &mut Reader<'_>) -> Result<Quota, Malformed> {
    Ok(Quota { bytes: r.u64("bytes")?, states: r.u64("states")? })
}

fn bounded(r: &mut Reader<'_>, most: usize, field: &'static str) -> Result<Vec<u8>, Malformed> {
    let bytes = r.bytes16(field)?;
    if bytes.len() > most {
        return Err(Malformed::TooLong(field));
    }
    Ok(bytes.to_vec())
}

fn read_states(r: &mut Reader<'_>) -> Result<TowerMessage, Malformed> {
    let tag: Tag = r.array("tag")?;
    let count = usize::from(r.u16("states")?);
    if count > MAX_STATES {
        return Err(Malformed::TooMany("states"));
    }
    let mut states = Vec::new();
    for _ in 0..count {
        let (number, hint): (u64, Hint) = (r.u64("number")?, r.array("hint")?);
        states.push(Sealed { number, hint, blob: bounded(r, MAX_BLOB, "blob")? });
    }
    let count = usize::from(r.u16("entries")?);
    if count > MAX_ENTRIES {
        return Err(Malformed::TooMany("entries"));
    }
    let mut entries = Vec::new();
    for _ in 0..count {
        let id: EntryId = r.array("entry")?;
        entries.push(Entry { id, sealed: bounded(r, MAX_ENTRY, "entry")? });
    }
    Ok(TowerMessage::States { tag, states, entries })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn all() -> Vec<TowerMessage> {
        let (tag, quota) = ([3; 16], Quota { bytes: 1 << 40, states: 77 });
        let state = |number| Sealed { number, hint: [number as u8; 16], blob: vec![1; 133] };
        vec![
            TowerMessage::Hello { version: VERSION },
            TowerMessage::Welcome { version: 2, quota },
            TowerMessage::Ask { tag },
            TowerMessage::Have { tag, next: u64::MAX, used: quota, lost: Lost { from: 3, to: 9 } },
            TowerMessage::States {
                tag,
                states: vec![state(1), state(2)],
                entries: vec![Entry { id: [9; 16], sealed: vec![4; 60] }],
            },
            TowerMessage::Refused { tag, reason: "full".into() },
            TowerMessage::Forget { tag },
        ]
    }

    #[test]
    fn every_message_comes_back_and_no_part_of_one_does() {
        for message in all() {
            let bytes = message.encode().expect("short");
            assert_eq!(TowerMessage::decode(&bytes), Ok(Some(message)));
            for cut in 0..bytes.len() {
                assert!(TowerMessage::decode(&bytes[..cut]).is_err());
            }
        }
    }

    #[test]
    fn what_was_lost_shrinks_as_states_are_sent_again() {
        let lost = Lost { from: 3, to: 7 };
        assert_eq!(lost.after(2), lost);
        assert_eq!(lost.after(5), Lost { from: 3, to: 5 });
        assert_eq!(lost.after(5).after(6), Lost { from: 3, to: 5 });
        assert!((3..7).fold(lost, Lost::after).is_empty());
        assert!(Lost::default().after(9).is_empty());
    }

    #[test]
    fn what_is_unknown_and_odd_is_ignored_and_counts_are_bounded() {
        assert_eq!(TowerMessage::decode(&[0xab, 0xcd, 1, 2]), Ok(None));
        assert!(TowerMessage::decode(&[0xab, 0xce, 1, 2]).is_err());
        let mut bytes = STATES.to_be_bytes().to_vec();
        bytes.extend([0; 16]);
        bytes.extend(u16::MAX.to_be_bytes());
        assert_eq!(TowerMessage::decode(&bytes), Err(Malformed::TooMany("states")));
        let long = Sealed { number: 0, hint: [0; 16], blob: vec![0; MAX_BLOB + 1] };
        let message = TowerMessage::States { tag: [0; 16], states: vec![long], entries: vec![] };
        assert_eq!(TowerMessage::decode(&message.encode().expect("short")), Err(Malformed::TooLong("blob")));
    }
}
