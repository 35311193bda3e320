//! What both sides agreed on when the channel opened: fixed for its life.
//!
//! In: `open_channel` and `accept_channel`. Out: the limits every later check reads.
//! Read next: `open` (how they are agreed), `ledger` (how they are kept).

use crate::channel::alias::type_bits;
use crate::id::{ChannelId, NodeId, Side};
use crate::tx::commitment::{obscure_factor, CommitmentTerms};
use crate::tx::keys::Basepoints;
use crate::tx::ChannelType;
use crate::units::{Feerate, Msat, Sat};
use crate::wire::features::Features;
use bitcoin::{OutPoint, ScriptBuf};
use serde::{Deserialize, Serialize};

/// What one side brought in and asks of the other.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Party {
    /// Its public keys.
    pub basepoints: Basepoints,
    /// Its commitment has no output below this.
    pub dust_limit: Sat,
    /// The most it accepts in flight towards itself.
    pub max_in_flight: Msat,
    /// What it wants the *other* side to keep always.
    pub reserve: Sat,
    /// The smallest HTLC it accepts.
    pub htlc_minimum: Msat,
    /// The CSV delay, in blocks, it imposes on the *other* side's outputs.
    pub to_self_delay: u16,
    /// The most HTLCs it accepts at once.
    pub max_accepted_htlcs: u16,
    /// Where its money must go in a cooperative close.
    pub upfront_shutdown: Option<ScriptBuf>,
}

/// The agreement.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Terms {
    /// The channel's final id.
    pub channel_id: ChannelId,
    /// With whom.
    pub peer: NodeId,
    /// Our keys for it are derived from this number.
    pub key_index: u64,
    /// Who opened, and so pays commitment fees.
    pub opener: Side,
    /// The form of its transactions.
    pub channel_type: ChannelType,
    /// The output that holds the money.
    pub funding: OutPoint,
    /// How much it holds.
    pub capacity: Sat,
    /// What the opener gave away at the start.
    pub push: Msat,
    /// The first commitment's feerate.
    pub initial_feerate: Feerate,
    /// The depth, in blocks, after which we say `channel_ready`.
    pub minimum_depth: u32,
    /// The opener asked for announcement.
    pub announce: bool,
    /// Both have option_simple_close.
    pub simple_close: bool,
    /// Our side.
    pub local: Party,
    /// The peer's side.
    pub remote: Party,
    /// `option_scid_alias` is part of its type: its place on chain stays between its ends.
    pub scid_alias: bool,
}

impl Terms {
    /// One side's part.
    pub const fn party(&self, side: Side) -> &Party {
        match side {
            Side::Local => &self.local,
            Side::Remote => &self.remote,
        }
    }

    /// The bits of its type (BOLT 2, `channel_type`).
    pub fn type_bits(&self) -> Features {
        type_bits(self.channel_type, self.scid_alias)
    }

    /// What `side` had at the start.
    pub fn initial_balance(&self, side: Side) -> Msat {
        if side == self.opener {
            self.capacity.to_msat().saturating_sub(self.push)
        } else {
            self.push
        }
    }

    /// The number that hides commitment numbers on chain (BOLT 3).
    pub fn obscure(&self) -> u64 {
        let opener = &self.party(self.opener).basepoints.payment_basepoint;
        let accepter = &self.party(self.opener.other()).basepoints.payment_basepoint;
        obscure_factor(opener, accepter)
    }

    /// What the builder of `owner`'s commitments needs.
    pub fn commitment_terms(&self, owner: Side) -> CommitmentTerms {
        let (own, other) = (self.party(owner), self.party(owner.other()));
        CommitmentTerms {
            // BOLT 2 [2.signed.1].
            channel_type: self.channel_type,
            funding: self.funding,
            capacity: self.capacity,
            owner_is_funder: owner == self.opener,
            owner_funding_pubkey: own.basepoints.funding_pubkey,
            other_funding_pubkey: other.basepoints.funding_pubkey,
            owner_dust_limit: own.dust_limit,
            owner_delay_blocks: other.to_self_delay,
            obscure: self.obscure(),
        }
    }
}
