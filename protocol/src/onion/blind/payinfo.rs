//! What a payer is told of all hops of a blinded path together (BOLT 4, "the creator of `encrypted_recipient_data`").
//!
//! In: what each hop keeps; or a path with its sums, an amount and an expiry. Out: the sums; or the onion's layers for the
//! path's hops. A payer at whose own node a path begins opens the first layer itself ([`PayPath::advance`]).
//! Read next: `crate::invoice::blinded`, which carries both to a payer.

use super::data::Relay;
use super::{open, BlindedPath};
use crate::id::{NodeId, ShortChannelId};
use crate::onion::payload::Blinded;
use crate::units::{Height, Msat};
use crate::wire::features::Features;
use alloc::vec::Vec;
use secp256k1::{PublicKey, Secp256k1, SecretKey, Verification};
use serde::{Deserialize, Serialize};

const MILLION: u128 = 1_000_000;

/// Fees, blocks and limits of a whole path (`blinded_payinfo`).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PayInfo {
    /// All fixed fees together, msat.
    pub fee_base_msat: u32,
    /// All fees for the amount together, in millionths.
    pub fee_proportional_millionths: u32,
    /// All blocks together, those that the payee asks for among them.
    pub cltv_expiry_delta: u16,
    /// The least that an HTLC may carry.
    pub htlc_minimum: Msat,
    /// The most.
    pub htlc_maximum: Msat,
    /// What the path's hops must know; nothing yet.
    pub features: Features,
}

impl PayInfo {
    /// The sums over `relays`, first hop first, and the payee's `min_final_cltv_blocks`; without limits.
    /// `None` when a sum is more than its field holds.
    pub fn total(relays: &[Relay], min_final_cltv_blocks: u32) -> Option<PayInfo> {
        // BOLT 4 [4.blindwrite.6].
        let (mut base, mut ppm) = (0u128, 0u128);
        let mut blocks = min_final_cltv_blocks;
        for relay in relays.iter().rev() {
            let (own_base, own_ppm) =
                (u128::from(relay.fee_base_msat), u128::from(relay.fee_proportional_millionths));
            base = (own_base * MILLION + base * (MILLION + own_ppm)).div_ceil(MILLION);
            ppm = ((ppm + own_ppm) * MILLION + ppm * own_ppm).div_ceil(MILLION);
            blocks = blocks.checked_add(relay.cltv_expiry_delta.into())?;
            // Bounded at each hop: the products above stay far below 2^128.
            if base > u32::MAX.into() || ppm > u32::MAX.into() {
                return None;
            }
        }
        Some(PayInfo {
            fee_base_msat: u32::try_from(base).ok()?,
            fee_proportional_millionths: u32::try_from(ppm).ok()?,
            cltv_expiry_delta: u16::try_from(blocks).ok()?,
            htlc_minimum: Msat::ZERO,
            htlc_maximum: Msat(u64::MAX),
            features: Features::new(),
        })
    }

    /// What must enter the path so that `amount` arrives; `None` when it is no amount.
    pub fn entering(&self, amount: Msat) -> Option<Msat> {
        let share = u128::from(amount.0) * u128::from(self.fee_proportional_millionths) / MILLION;
        let fee = u64::try_from(share).ok()?.checked_add(self.fee_base_msat.into())?;
        amount.0.checked_add(fee).map(Msat)
    }
}

/// A path that somebody may pay over.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PayPath {
    /// What it costs.
    pub info: PayInfo,
    /// Its hops.
    pub path: BlindedPath,
    /// The path key goes to its first node beside the onion, not inside: we are the introduction node, and this is what
    /// follows us. Never so in a path from an invoice.
    pub outside: bool,
}

impl PayPath {
    /// As a payee hands it out.
    pub const fn new(info: PayInfo, path: BlindedPath) -> PayPath {
        PayPath { info, path, outside: false }
    }

    /// What tells it apart from other paths: the payee's blinded name.
    pub fn name(&self) -> NodeId {
        self.path.hops.last().map_or(self.path.introduction, |hop| NodeId(hop.blinded_node_id))
    }

    /// The onion's layers for its hops: `amount` of `total` is to arrive, at `expiry` or later.
    pub fn layers(&self, amount: Msat, expiry: Height, total: Msat) -> Vec<(PublicKey, Vec<u8>)> {
        let last = self.path.hops.len().saturating_sub(1);
        let layer = |(index, hop): (usize, &super::BlindedHop)| {
            let begins = index == 0 && !self.outside;
            let ends = index == last;
            // BOLT 4 [4.write.1, 4.write.2, 4.write.3, 4.write.4, 4.write.5, 4.blind.11].
            let payload = Blinded {
                encrypted_recipient_data: hop.encrypted_data.clone(),
                current_path_key: begins.then_some(self.path.path_key),
                amt_to_forward: ends.then_some(amount),
                outgoing_cltv_value: ends.then_some(expiry),
                total_amount_msat: ends.then_some(total),
            };
            // BOLT 4 [4.blind.14].
            let node = if begins { self.path.introduction.0 } else { hop.blinded_node_id };
            (node, payload.encode())
        };
        self.path.hops.iter().enumerate().map(layer).collect()
    }

    /// What is left of a path that begins at our own node: the channel or the peer that it goes on with, and the rest.
    /// `None` when it is not sealed for us, makes no sense, or ends here.
    pub fn advance<C: Verification>(
        mut self,
        node_key: &SecretKey,
        secp: &Secp256k1<C>,
    ) -> Option<(Onward, PayPath)> {
        if self.path.hops.len() < 2 {
            return None;
        }
        let own = self.path.hops.remove(0);
        let opened = open(&own.encrypted_data, &self.path.path_key, node_key, secp)?;
        let relay = opened.data.payment_relay.filter(|_| opened.data.is_understood())?;
        let onward = match (opened.data.short_channel_id, opened.data.next_node_id) {
            (Some(scid), None) => Onward::Channel(scid),
            (None, Some(node)) => Onward::Node(NodeId(node)),
            _ => return None,
        };
        self.path.path_key = opened.next_path_key;
        self.outside = true;
        self.info = self.info.without(&relay);
        Some((onward, self))
    }
}

/// Where a path goes on from our own node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Onward {
    /// Over this channel, or another with the same peer.
    Channel(ShortChannelId),
    /// To this peer.
    Node(NodeId),
}

impl PayInfo {
    /// The sums without the first hop; rounded so that they are never too small for what follows.
    fn without(&self, first: &Relay) -> PayInfo {
        let ppm = u128::from(first.fee_proportional_millionths);
        let less = |total: u32, own: u32| {
            let rest = u128::from(total.saturating_sub(own)) * MILLION / (MILLION + ppm);
            u32::try_from(rest).unwrap_or(u32::MAX)
        };
        PayInfo {
            fee_base_msat: less(self.fee_base_msat, first.fee_base_msat),
            fee_proportional_millionths: less(
                self.fee_proportional_millionths,
                first.fee_proportional_millionths,
            ),
            cltv_expiry_delta: self.cltv_expiry_delta.saturating_sub(first.cltv_expiry_delta),
            ..self.clone()
        }
    }
}
