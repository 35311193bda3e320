//! Answers for whoever serves the watchtowers: which channels have states for them, the states, and what is kept by now.
//!
//! In: commands of the daemon's own task, never of a user. Out: answers, and notes that are forgotten.
//! It asks when it has time, a bounded number of states at once: nothing waits for a tower.
//! Read next: `crate::channel::tower`.

use crate::id::{ChannelId, CommandId};
use crate::node::command::{Command, Reply};
use crate::node::Node;
use crate::tower::seal::Seed;
use crate::tower::{Mode, Tag};
use alloc::vec::Vec;

/// A channel of which towers have, or shall have, something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TowerChannel {
    /// Which.
    pub channel: ChannelId,
    /// How towers call it, by mode: `Key`, `Presigned`.
    pub tags: [Tag; 2],
    /// The oldest revoked state that this node can still hand out.
    pub first: u64,
    /// The first state that is not revoked.
    pub end: u64,
    /// Every tower had what is below.
    pub kept: u64,
    /// It is over: towers may forget it.
    pub over: bool,
}

impl TowerChannel {
    /// How a tower trusted as `mode` says calls it.
    pub const fn tag(&self, mode: Mode) -> Tag {
        match mode {
            Mode::Key => self.tags[0],
            Mode::Presigned => self.tags[1],
        }
    }
}

impl Node {
    /// Notes for towers that do not come for them are bounded.
    pub(super) fn age_tower_notes(&mut self) {
        let tower = self.config.tower;
        let aged = self.channels.values().filter(|c| c.ages_tower_notes(tower)).map(|c| c.id());
        for id in aged.collect::<Vec<_>>() {
            self.act(id, |c, cx, out| c.age_tower_notes(cx, out));
        }
    }

    pub(super) fn on_tower_command(&mut self, id: CommandId, command: Command) {
        match command {
            Command::TowerChannels => {
                let known = self.channels.values().filter_map(|c| {
                    let towered = c.towered()?;
                    Some(TowerChannel {
                        channel: c.id(),
                        tags: [Mode::Key, Mode::Presigned].map(|m| Seed::of(&c.secrets.shachain_seed).tag(m)),
                        first: towered.first,
                        end: towered.end,
                        kept: towered.kept,
                        over: towered.over,
                    })
                });
                let known = known.collect();
                self.reply(id, Ok(Reply::TowerChannels(known)));
            }
            Command::TowerStates { channel, from, most, whole } => {
                let found = self
                    .channels
                    .get(&channel)
                    .and_then(|c| Some((c.tower_sealing()?, c.tower_states(from, most, whole))));
                match found {
                    Some((sealing, states)) => {
                        self.reply(id, Ok(Reply::TowerStates { sealing: sealing.into(), states }));
                    }
                    None => self.refuse(id, -1, "no such channel is watched"),
                }
            }
            Command::TowersHave { channel, below } => {
                self.act(channel, |c, _, _| c.towers_have(below));
                self.reply(id, Ok(Reply::Done));
            }
            _ => {}
        }
    }
}
