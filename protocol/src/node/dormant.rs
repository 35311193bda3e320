//! A node as its records describe it, before it does anything.
//!
//! In: what a store holds for good. Out: answers to questions about that, for as long as nothing newer can be kept;
//! or the node itself, awake. A dormant node takes no step, so that nothing it says can be taken back by a crash and
//! nothing it knows can leave in any other way. Read next: `restore`, `query`.

use crate::channel::Channel;
use crate::id::{ChannelId, CommandId};
use crate::node::command::{Command, CommandError, Reply};
use crate::node::effect::Effect;
use crate::node::Node;
use crate::units::{Height, Timestamp};
use crate::wire::address::Address;
use alloc::vec::Vec;
use bitcoin::{BlockHash, ScriptBuf, Txid};

/// A node that was restored and not yet started.
#[derive(Debug)]
pub struct Dormant {
    pub(super) node: Node,
    /// Coins set aside, to be looked at when it wakes.
    pub(super) reserved: Vec<(ChannelId, Txid)>,
}

impl Dormant {
    /// Starts it: what a start has to take up again goes out with its first step.
    pub fn wake(self) -> Node {
        let Dormant { mut node, reserved } = self;
        node.resume(&reserved);
        node
    }

    /// Answers a question from the records alone, at time `now`; `None` when it is no question
    /// ([`Command::is_question`]). Of links and of the chain backend, which no record tells of, it knows nothing.
    pub fn ask(&mut self, now: Timestamp, command: Command) -> Option<Result<Reply, CommandError>> {
        if !command.is_question() {
            return None;
        }
        self.node.read_clock(now);
        self.node.on_command(CommandId(0), command);
        let out = core::mem::take(&mut self.node.out);
        out.effects.into_iter().find_map(|effect| match effect {
            Effect::Reply { result, .. } => Some(result),
            _ => None,
        })
    }

    /// [`Node::take_wallet_changes`].
    pub fn take_wallet_changes(&mut self) -> Vec<Vec<u8>> {
        self.node.take_wallet_changes()
    }

    /// [`Node::recent_blocks`].
    pub fn recent_blocks(&self) -> Vec<(Height, BlockHash)> {
        self.node.recent_blocks()
    }

    /// [`Node::set_close_script`].
    pub fn set_close_script(&mut self, script: ScriptBuf) {
        self.node.set_close_script(script);
    }

    /// [`Node::set_addresses`].
    pub fn set_addresses(&mut self, addresses: Vec<Address>) {
        self.node.set_addresses(addresses);
    }

    /// [`Node::channels`].
    pub fn channels(&self) -> impl Iterator<Item = &Channel> {
        self.node.channels()
    }
}
