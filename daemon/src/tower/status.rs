//! How it stands with a node's watchtowers, for `listwatchtowers`: what each has, and which states it does not protect.
//!
//! In: what `client` learns of a tower. Out: numbers, and ranges of states with the reason why.
//! Read next: `client`.

use chand_protocol::id::{ChannelId, NodeId};
use chand_protocol::node::tower::TowerChannel;
use chand_protocol::tower::message::{Lost, Quota};
use chand_protocol::tower::Mode;
use std::collections::{BTreeMap, BTreeSet};

/// How it stands with one tower, for `listwatchtowers`.
#[derive(Clone, Debug)]
pub struct TowerStatus {
    /// Its key.
    pub id: NodeId,
    /// `host:port`.
    pub address: String,
    /// How far it is trusted.
    pub mode: Mode,
    /// By which key it knows this node.
    pub client_id: NodeId,
    /// Now.
    pub connected: bool,
    /// States sent since the start of this node.
    pub sent: u64,
    /// Those of them that are on its disk.
    pub acknowledged: u64,
    /// What it keeps for this node.
    pub used: Quota,
    /// What it keeps at most.
    pub quota: Quota,
    /// Why it did not go on, if it did not.
    pub trouble: Option<String>,
    /// By channel: every state below is on its disk.
    pub next: BTreeMap<ChannelId, u64>,
    /// By channel: it had these states, lost them by damage, and this node could not send them again.
    pub lost: BTreeMap<ChannelId, Lost>,
    /// By channel: why it takes no more of it.
    pub refused: BTreeMap<ChannelId, String>,
    /// By channel: these states it was never told, since this node did not have them any more when it asked.
    pub missed: BTreeMap<ChannelId, Lost>,
    /// It was told that these are over.
    pub(super) forgotten: BTreeSet<ChannelId>,
}

impl TowerStatus {
    /// Of a tower that was not called yet.
    pub fn new(id: NodeId, address: &str, mode: Mode, client_id: NodeId) -> TowerStatus {
        TowerStatus {
            id,
            address: address.into(),
            mode,
            client_id,
            connected: false,
            sent: 0,
            acknowledged: 0,
            used: Quota::default(),
            quota: Quota::default(),
            trouble: None,
            next: BTreeMap::new(),
            lost: BTreeMap::new(),
            refused: BTreeMap::new(),
            missed: BTreeMap::new(),
            forgotten: BTreeSet::new(),
        }
    }

    /// Of a channel, the revoked states that it has not got yet.
    pub fn pending_of(&self, channel: &TowerChannel) -> Lost {
        let next = self.next.get(&channel.channel).copied().unwrap_or(0).max(channel.first);
        Lost { from: next, to: if channel.over { 0 } else { channel.end } }
    }

    /// How many revoked states of these channels it has not got yet.
    pub fn pending(&self, channels: &[TowerChannel]) -> u64 {
        channels.iter().map(|c| self.pending_of(c)).map(|p| p.to.saturating_sub(p.from)).sum()
    }

    /// States of these channels that it does not protect, and why.
    pub fn unprotected(&self, channels: &[TowerChannel]) -> Vec<(ChannelId, Lost, String)> {
        let of = |c: &TowerChannel| {
            let found = |map: &BTreeMap<ChannelId, Lost>| map.get(&c.channel).copied().unwrap_or_default();
            let refused = self.refused.get(&c.channel);
            let pending =
                refused.map_or("not sent yet".into(), |why| format!("refused by the watchtower: {why}"));
            [
                (c.channel, found(&self.missed), "not sent: this node does not have them any more".into()),
                (c.channel, found(&self.lost), "lost by the watchtower".into()),
                (c.channel, self.pending_of(c), pending),
            ]
        };
        let all = channels.iter().filter(|c| !c.over).flat_map(of);
        all.filter(|(_, states, _)| !states.is_empty()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_protected_is_named() {
        let key = secp256k1::SecretKey::from_slice(&[7; 32]).expect("a key");
        let id = NodeId(key.public_key(&secp256k1::Secp256k1::new()));
        let mut status = TowerStatus::new(id, "localhost:1", Mode::Key, id);
        let channel = |byte, over| TowerChannel {
            channel: ChannelId([byte; 32]),
            tags: [[byte; 16]; 2],
            first: 10,
            end: 50,
            kept: 20,
            over,
        };
        let channels = [channel(1, false), channel(2, false), channel(3, true)];
        assert_eq!(status.pending(&channels), 80);
        status.next.insert(channels[0].channel, 50);
        status.next.insert(channels[1].channel, 30);
        status.missed.insert(channels[0].channel, Lost { from: 0, to: 10 });
        status.lost.insert(channels[1].channel, Lost { from: 4, to: 4 });
        let named = status.unprotected(&channels);
        assert_eq!(named[1].2, "not sent yet");
        status.refused.insert(channels[1].channel, "0 of 3 states are left for this client".into());
        let words = &status.unprotected(&channels)[1].2;
        assert!(words.contains("refused") && words.contains("0 of 3 states"), "{words}");
        let states: Vec<_> = named.iter().map(|(id, lost, _)| (id.0[0], lost.from, lost.to)).collect();
        assert_eq!(states, [(1, 0, 10), (2, 30, 50)]);
        assert_eq!(status.pending(&channels), 20);
    }
}
