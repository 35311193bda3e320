//! Random channels and random ledgers, as chand and as LDK see them.
//!
//! In: random numbers. Out: terms and a snapshot for `chand_protocol::tx::commitment`, and the same as parameters of
//! LDK's `CommitmentTransaction`. What LDK wants to be told – which HTLCs are too small, what the funder pays – is
//! reckoned here once more from the text of BOLT 3, with no code of chand's.
//! Read next: `tests/commitment.rs`.

use crate::{secp, Rng};
use bitcoin::OutPoint;
use chand_protocol::id::{HtlcId, PaymentHash, Side};
use chand_protocol::tx::commitment::{obscure_factor, CommitmentTerms, Spec, SpecHtlc};
use chand_protocol::tx::keys::{Basepoints, ChannelSecrets, CommitmentKeys};
use chand_protocol::tx::ChannelType;
use chand_protocol::units::{Feerate, Height, Msat, Sat};
use lightning::ln::chan_utils::{
    ChannelPublicKeys, ChannelTransactionParameters, CounterpartyChannelTransactionParameters,
    HTLCOutputInCommitment,
};
use lightning::ln::channel_keys::{DelayedPaymentBasepoint, HtlcBasepoint, RevocationBasepoint};
use lightning_types::features::ChannelTypeFeatures;
use secp256k1::PublicKey;

/// The largest commitment number (BOLT 3).
pub const LAST_NUMBER: u64 = (1 << 48) - 1;
/// More than there are coins, in millisatoshi, is never in one channel.
const ALL_COINS_MSAT: u64 = 2_100_000_000_000_000_000;

/// A channel, seen from the owner of the commitment.
#[derive(Debug)]
pub struct Channel {
    /// The owner's private keys.
    pub owner: ChannelSecrets,
    /// The other side's public keys.
    pub other: Basepoints,
    /// The form of its commitments.
    pub kind: ChannelType,
    /// The owner opened it.
    pub owner_is_funder: bool,
    /// What funds it.
    pub funding: OutPoint,
    /// The owner's dust limit, in satoshi.
    pub dust_sat: u64,
    /// How long the owner waits for its outputs, in blocks.
    pub delay_blocks: u16,
}

/// The features of a channel type, as LDK has them.
pub fn ldk_type(kind: ChannelType) -> ChannelTypeFeatures {
    match kind {
        ChannelType::StaticRemotekey => ChannelTypeFeatures::only_static_remote_key(),
        ChannelType::Anchors => ChannelTypeFeatures::anchors_zero_htlc_fee_and_dependencies(),
    }
}

/// Basepoints, as LDK has them.
pub fn ldk_keys(from: &Basepoints) -> ChannelPublicKeys {
    ChannelPublicKeys {
        funding_pubkey: from.funding_pubkey,
        revocation_basepoint: RevocationBasepoint(from.revocation_basepoint),
        payment_point: from.payment_basepoint,
        delayed_payment_basepoint: DelayedPaymentBasepoint(from.delayed_payment_basepoint),
        htlc_basepoint: HtlcBasepoint(from.htlc_basepoint),
    }
}

/// An outpoint, as LDK has it.
///
/// # Panics
/// When its index has more than 16 bits.
pub fn ldk_outpoint(from: OutPoint) -> lightning::chain::transaction::OutPoint {
    let index = u16::try_from(from.vout).expect("LDK has 16 bits for it");
    lightning::chain::transaction::OutPoint { txid: from.txid, index }
}

impl Channel {
    /// Any channel whose other side has these keys.
    pub fn any(rng: &mut Rng, other: Basepoints) -> Channel {
        let delays = [1, 6, 16, 17, 144, 2_016, 0x7f, 0x80, 0x7fff, 0x8000, 0xffff];
        Channel {
            owner: rng.channel_secrets(),
            other,
            kind: rng.pick(&[ChannelType::StaticRemotekey, ChannelType::Anchors]),
            owner_is_funder: rng.one_in(2),
            funding: rng.outpoint(),
            dust_sat: rng.pick(&[354, 354, 546, 330, 1, 1_000, 12_345]),
            delay_blocks: rng.pick(&delays),
        }
    }

    /// The owner's public keys.
    pub fn owner_basepoints(&self) -> Basepoints {
        self.owner.basepoints(secp())
    }

    /// The terms, as chand has them.
    pub fn terms(&self, capacity_sat: u64) -> CommitmentTerms {
        let owner = self.owner_basepoints();
        let (owner_point, other_point) = (owner.payment_basepoint, self.other.payment_basepoint);
        let (opener, accepter) =
            if self.owner_is_funder { (owner_point, other_point) } else { (other_point, owner_point) };
        CommitmentTerms {
            channel_type: self.kind,
            funding: self.funding,
            capacity: Sat(capacity_sat),
            owner_is_funder: self.owner_is_funder,
            owner_funding_pubkey: owner.funding_pubkey,
            other_funding_pubkey: self.other.funding_pubkey,
            owner_dust_limit: Sat(self.dust_sat),
            owner_delay_blocks: self.delay_blocks,
            obscure: obscure_factor(&opener, &accepter),
        }
    }

    /// The keys of a commitment, as chand has them.
    ///
    /// # Panics
    /// Never but by a chance of 2^-128.
    pub fn keys(&self, point: &PublicKey) -> CommitmentKeys {
        CommitmentKeys::new(secp(), &self.owner_basepoints(), &self.other, point).expect("keys")
    }

    /// The terms, as LDK has them when it is the owner (`holder`), or when it is the other side.
    pub fn ldk_parameters(&self, owner_is_holder: bool, capacity_sat: u64) -> ChannelTransactionParameters {
        let (owner, other) = (ldk_keys(&self.owner_basepoints()), ldk_keys(&self.other));
        // Each side tells the delay that it wants the other to have; the one that matters here is the owner's.
        let unused_delay = self.delay_blocks ^ 1;
        let (holder_pubkeys, pubkeys, holder_selected_contest_delay, selected_contest_delay) =
            if owner_is_holder {
                (owner, other, unused_delay, self.delay_blocks)
            } else {
                (other, owner, self.delay_blocks, unused_delay)
            };
        let counterparty = CounterpartyChannelTransactionParameters { pubkeys, selected_contest_delay };
        ChannelTransactionParameters {
            holder_pubkeys,
            holder_selected_contest_delay,
            is_outbound_from_holder: self.owner_is_funder == owner_is_holder,
            counterparty_parameters: Some(counterparty),
            funding_outpoint: Some(ldk_outpoint(self.funding)),
            splice_parent_funding_txid: None,
            channel_type_features: ldk_type(self.kind),
            channel_value_satoshis: capacity_sat,
        }
    }
}

/// A snapshot and what BOLT 3 makes of it.
#[derive(Debug)]
pub struct Ledger {
    /// As chand has it.
    pub spec: Spec,
    /// All of it, in satoshi.
    pub capacity_sat: u64,
    /// HTLCs with an output, as LDK has them.
    pub kept: Vec<HTLCOutputInCommitment>,
    /// How many have none.
    pub trimmed: usize,
    /// The owner's output, in satoshi; 0 for none.
    pub owner_sat: u64,
    /// The other side's output, in satoshi; 0 for none.
    pub other_sat: u64,
}

/// BOLT 3, "Trimmed Outputs" and "Fees": what an HTLC transaction costs without anchors.
fn htlc_fee_sat(kind: ChannelType, feerate: u64, offered: bool) -> u64 {
    match (kind, offered) {
        (ChannelType::Anchors, _) => 0,
        (ChannelType::StaticRemotekey, true) => feerate * 663 / 1000,
        (ChannelType::StaticRemotekey, false) => feerate * 703 / 1000,
    }
}

/// BOLT 3, "Fees": what the funder pays, anchors included.
fn funder_pays_sat(kind: ChannelType, feerate: u64, outputs: u64) -> u64 {
    match kind {
        ChannelType::StaticRemotekey => feerate * (724 + 172 * outputs) / 1000,
        ChannelType::Anchors => feerate * (1_124 + 172 * outputs) / 1000 + 660,
    }
}

fn some_feerate(rng: &mut Rng) -> u64 {
    match rng.range(0, 4) {
        0 => rng.pick(&[253, 254, 1_000, 2_500, 50_000]),
        _ => rng.range(253, 50_001),
    }
}

/// An HTLC that is large, tiny, or within a satoshi of the size at which it gets an output.
fn some_htlc(rng: &mut Rng, channel: &Channel, feerate: u64, id: u64) -> SpecHtlc {
    let offered = rng.one_in(2);
    let least = (channel.dust_sat + htlc_fee_sat(channel.kind, feerate, offered)) * 1000;
    let amount = match rng.range(0, 6) {
        0 => least,
        1 => least - 1,
        2 => (least + rng.range(0, 2_001)).saturating_sub(1_000).max(1),
        3 => rng.range(1, least + 1),
        4 => least + rng.range(0, 10_000_000),
        _ => least + rng.any_size() % 1_000_000_000_000,
    };
    let expiry = match rng.range(0, 3) {
        0 => rng.pick(&[0, 1, 16, 17, 127, 128, 32_767, 32_768, 499_999_999]),
        _ => rng.range(0, 500_000_000) as u32,
    };
    // On the owner's commitment an offered HTLC is local, whoever "we" are.
    let offered_by = if offered { Side::Local } else { Side::Remote };
    SpecHtlc {
        id: HtlcId { offered_by, id },
        offered,
        amount: Msat(amount),
        payment_hash: PaymentHash(rng.array()),
        cltv_expiry: Height(expiry),
    }
}

fn some_htlcs(rng: &mut Rng, channel: &Channel, feerate: u64) -> Vec<SpecHtlc> {
    let count = match rng.range(0, 40) {
        0 => 400,
        1..=4 => rng.range(20, 100),
        5..=12 => 0,
        _ => rng.range(1, 12),
    };
    let mut htlcs: Vec<SpecHtlc> = Vec::new();
    for id in 0..count {
        let mut htlc = some_htlc(rng, channel, feerate, id);
        // Alike in some ways, or in all: the same hash, amount, direction, expiry.
        if !htlcs.is_empty() && rng.one_in(3) {
            let like = rng.pick(&htlcs);
            let alike = rng.bits();
            if alike & 1 == 0 {
                htlc.payment_hash = like.payment_hash;
            }
            if alike & 2 == 0 {
                htlc.amount = like.amount;
            }
            if alike & 4 == 0 {
                htlc.offered = like.offered;
                htlc.id.offered_by = like.id.offered_by;
            }
            if alike & 8 == 0 {
                htlc.cltv_expiry = like.cltv_expiry;
            }
        }
        htlcs.push(htlc);
    }
    htlcs
}

/// A balance in millisatoshi: nothing, little, much, or within a satoshi of where its output appears.
fn some_balance(rng: &mut Rng, channel: &Channel, cost_sat: u64) -> u64 {
    let least = (channel.dust_sat + cost_sat) * 1000;
    match rng.range(0, 7) {
        0 => 0,
        1 => least,
        2 => least - 1,
        3 => rng.range(0, least + 1),
        4 => (least + rng.range(0, 3_000)).saturating_sub(1_500),
        5 => least + rng.any_size() % (ALL_COINS_MSAT / 4),
        _ => least + rng.range(0, 10_000_000_000),
    }
}

impl Ledger {
    /// Any snapshot of a channel.
    pub fn any(rng: &mut Rng, channel: &Channel) -> Ledger {
        let feerate = some_feerate(rng);
        let htlcs = some_htlcs(rng, channel, feerate);
        let has_output = |htlc: &&SpecHtlc| {
            htlc.amount.0 / 1000 >= channel.dust_sat + htlc_fee_sat(channel.kind, feerate, htlc.offered)
        };
        let kept: Vec<&SpecHtlc> = htlcs.iter().filter(has_output).collect();
        let cost = funder_pays_sat(channel.kind, feerate, kept.len() as u64);
        let (owner_pays, other_pays) = if channel.owner_is_funder { (cost, 0) } else { (0, cost) };

        let to_owner = some_balance(rng, channel, owner_pays);
        let mut to_other = some_balance(rng, channel, other_pays);
        // A capacity is whole satoshi.
        let sum = |other: u64| htlcs.iter().map(|h| h.amount.0).sum::<u64>() + to_owner + other;
        to_other += (1000 - sum(to_other) % 1000) % 1000;

        let output = |msat: u64, pays: u64| match (msat / 1000).saturating_sub(pays) {
            small if small < channel.dust_sat => 0,
            sat => sat,
        };
        let ldk_htlc = |htlc: &&SpecHtlc| HTLCOutputInCommitment {
            offered: htlc.offered,
            amount_msat: htlc.amount.0,
            cltv_expiry: htlc.cltv_expiry.0,
            payment_hash: lightning_types::payment::PaymentHash(htlc.payment_hash.0),
            transaction_output_index: None,
        };
        Ledger {
            capacity_sat: sum(to_other) / 1000,
            trimmed: htlcs.len() - kept.len(),
            kept: kept.iter().map(ldk_htlc).collect(),
            owner_sat: output(to_owner, owner_pays),
            other_sat: output(to_other, other_pays),
            spec: Spec {
                feerate: Feerate(feerate as u32),
                to_owner: Msat(to_owner),
                to_other: Msat(to_other),
                htlcs,
            },
        }
    }
}
