//! Being paid without being known: blinded paths to ourselves for an invoice (BOLT 4, "Route Blinding"; bLIP 39).
//!
//! In: the invoice's secret and limits, and what our peers ask for sending payments on to us. Out: paths that begin at a peer
//! each, with their sums. The invoice's secret is the path's id: only we can have sealed it, so that a payment that brings
//! it came over a path made for this invoice. One hop more than there is stands at the end of each: a payer cannot tell
//! whether we are the peer's neighbour.
//! Read next: `unblind`, which takes such payments in, `crate::invoice::blinded`.

use crate::channel::announce::PeerUpdate;
use crate::channel::{Channel, Phase};
use crate::gossip::graph::{ChannelView, Direction, Graph};
use crate::id::{NodeId, ShortChannelId, Side};
use crate::node::Node;
use crate::onion::blind::{BlindedPath, Constraints, HopData, PayInfo, PayPath, Relay};
use crate::units::{Height, Msat};
use crate::wire::features::Feature;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

/// Paths that an invoice names at most: each takes about 600 letters.
const MAX_PATHS: usize = 3;
/// Bitcoin's block interval, seconds: bLIP 39 tells a path's end by the invoice's.
const BLOCK_S: u64 = 600;
/// What a payer may add to all expiries so that nobody sees how near the payee is (BOLT 7, "Recommendations for Routing").
const OFFSET_BLOCKS: u32 = 432;
/// Blocks that may be mined while a payment is on its way.
const LATE_BLOCKS: u32 = 3;

/// What a new invoice wants of its paths.
pub(super) struct PathWish<'a> {
    /// What binds a path to it.
    pub(super) path_id: [u8; 32],
    /// How long it holds, seconds.
    pub(super) expiry_s: u64,
    /// Blocks that we want to have left when the payment arrives.
    pub(super) min_final_cltv_blocks: u32,
    /// What peers told the network; of two words of a peer the newer one counts.
    pub(super) policies: &'a [(ShortChannelId, PeerUpdate)],
}

/// What the peers of a node told everybody that they ask for sending payments on to it.
pub fn asked_of_peers(graph: &Graph, us: &NodeId) -> Vec<(ShortChannelId, PeerUpdate)> {
    let asked = |channel: ChannelView| {
        let peer = channel.nodes.iter().find(|node| *node != us)?;
        let policy = channel.policies[Direction::between(peer, us).index()]?;
        let update = PeerUpdate {
            timestamp: policy.timestamp,
            disabled: policy.disabled,
            delta_blocks: policy.cltv_expiry_delta,
            min: policy.htlc_minimum,
            max: policy.htlc_maximum,
            base_msat: policy.fee_base_msat,
            ppm: policy.fee_proportional_millionths,
        };
        Some((channel.scid, update))
    };
    graph.channels_of(us).filter_map(asked).collect()
}

impl Node {
    /// Paths to us, those with most room first, one for each peer that can be the beginning of one; none when there is
    /// no such peer.
    pub(super) fn blinded_paths(&mut self, wish: &PathWish<'_>) -> Vec<PayPath> {
        let name = |c: &Channel| if c.announce.is_public() { c.short_channel_id() } else { c.name_at_peer() };
        let ends = |c: &Channel| Some((c.terms.peer, name(c)?, c.terms.capacity.to_msat()));
        let mut found: Vec<_> = self
            .channels
            .values()
            .filter(|c| c.phase == Phase::Open && c.is_usable())
            .filter(|c| self.negotiated(&c.terms.peer, Feature::RouteBlinding))
            .filter_map(|c| {
                let asked = policy_of(c, wish.policies).filter(|p| !p.disabled)?;
                Some((c.ledger.spendable(&c.terms, Side::Remote), ends(c)?, asked))
            })
            .collect();
        found.sort_by_key(|(room, (_, scid, _), _)| (core::cmp::Reverse(*room), *scid));
        let mut peers = BTreeSet::new();
        found.retain(|(_, (peer, ..), _)| peers.insert(*peer));
        let best = found.into_iter().take(MAX_PATHS);
        best.filter_map(|(_, (peer, scid, capacity), asked)| {
            let asked = PeerUpdate { max: asked.max.min(capacity), ..asked };
            self.path_from(peer, scid, &asked, wish)
        })
        .collect()
    }

    /// The path: the peer, ourselves as a hop that keeps nothing, ourselves.
    fn path_from(
        &mut self,
        peer: NodeId,
        scid: ShortChannelId,
        asked: &PeerUpdate,
        wish: &PathWish<'_>,
    ) -> Option<PayPath> {
        let relay = Relay {
            cltv_expiry_delta: asked.delta_blocks,
            fee_proportional_millionths: asked.ppm,
            fee_base_msat: asked.base_msat,
        };
        let htlc_minimum = asked.min.max(Msat(1));
        let last_blocks = wish.min_final_cltv_blocks.saturating_add(LATE_BLOCKS);
        let holds_blocks = u32::try_from(wish.expiry_s.div_ceil(BLOCK_S)).unwrap_or(u32::MAX);
        // BOLT 4 [4.blindwrite.4].
        let ends = self.tip_height().0.saturating_add(holds_blocks).saturating_add(OFFSET_BLOCKS);
        let limits = |blocks: u32| Constraints {
            max_cltv_expiry: Height(ends.saturating_add(last_blocks).saturating_add(blocks)),
            htlc_minimum,
        };
        // BOLT 4 [4.blind.1, 4.blindwrite.1, 4.blindwrite.2, 4.blindwrite.3, 4.blindwrite.5].
        let first = HopData {
            short_channel_id: Some(scid),
            payment_relay: Some(relay),
            payment_constraints: Some(limits(asked.delta_blocks.into())),
            ..HopData::default()
        };
        let between = HopData {
            next_node_id: Some(self.id.0),
            payment_relay: Some(Relay::NOTHING),
            payment_constraints: Some(limits(0)),
            ..HopData::default()
        };
        let last = HopData {
            path_id: Some(wish.path_id.to_vec()),
            payment_constraints: Some(limits(0)),
            ..HopData::default()
        };
        let nodes = [peer.0, self.id.0, self.id.0];
        // BOLT 4 [4.blindwrite.7].
        let hops: Vec<_> = nodes.into_iter().zip(HopData::encode_alike(&[first, between, last])).collect();
        let session_key = self.entropy.secret_key();
        let path = BlindedPath::make(&session_key, &hops, self.crypto.secp()).ok()?;
        let info = PayInfo::total(&[relay, Relay::NOTHING], last_blocks)?;
        Some(PayPath::new(PayInfo { htlc_minimum, htlc_maximum: asked.max, ..info }, path))
    }
}

/// What the peer asks for forwards to us: the newest of what it told us and what it told everybody.
fn policy_of(channel: &Channel, public: &[(ShortChannelId, PeerUpdate)]) -> Option<PeerUpdate> {
    let scid = channel.short_channel_id();
    let told = public.iter().filter(|(name, _)| Some(*name) == scid).map(|(_, update)| update);
    told.chain(channel.announce.peer_update()).max_by_key(|update| update.timestamp).copied()
}
