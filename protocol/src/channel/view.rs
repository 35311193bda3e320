//! What a channel says of itself: `listpeerchannels`, `listsnapshots`, `balance`.
//!
//! In: the channel after a step. Out: plain data; nothing here changes anything.
//! Read next: `node::view`.

use crate::channel::htlc::Htlc;
use crate::channel::ledger::View;
use crate::channel::policy::Policy;
use crate::channel::{Channel, Link, Phase};
use crate::id::Side;
use crate::node::view::{self, ChannelBalance, Snapshot, SnapshotHtlc, State};
use crate::tx::weight::{is_trimmed, ANCHORS_SAT};
use crate::units::{Height, Msat, Sat};
use alloc::vec::Vec;
use bitcoin::OutPoint;

impl Channel {
    /// Core Lightning's name for where its life stands.
    pub fn state_name(&self) -> State {
        match &self.phase {
            Phase::Confirming => State::ChanneldAwaitingLockin,
            // Nothing more is signed: the peer is asked to close.
            Phase::Open if self.doubt => State::AwaitingUnilateral,
            Phase::Open => State::ChanneldNormal,
            Phase::Closing(c) => {
                let talking = c.local_script.is_some() && c.remote_script.is_some();
                if talking && self.ledger.htlcs.is_empty() {
                    State::ClosingdSigexchange
                } else {
                    State::ChanneldShuttingDown
                }
            }
            Phase::Closed(c) if c.height.is_some() => State::Onchain,
            Phase::Closed(_) => State::ClosingdComplete,
            Phase::Onchain(o) if o.height.is_some() => State::Onchain,
            Phase::Onchain(_) => State::AwaitingUnilateral,
        }
    }

    /// Outputs that cost more to take than they are worth, and how much.
    fn resting(&self) -> Vec<(OutPoint, Sat)> {
        let claims = self.watch.iter().flat_map(|w| &w.claims);
        let resting = claims.filter_map(|c| Some((c, c.rests?.least)));
        resting.flat_map(|(c, least)| c.inputs.iter().map(move |input| (*input, least))).collect()
    }

    /// `listpeerchannels`.
    pub fn view(&self, tip: Height) -> view::Channel {
        let terms = &self.terms;
        let usable = matches!(self.phase, Phase::Open) && !self.doubt;
        let spendable = |side| if usable { self.ledger.spendable(terms, side) } else { Msat::ZERO };
        let cost = self.ledger.opener_cost(View::Signed(Side::Local), terms);
        let anchors = if terms.channel_type.is_anchors() { ANCHORS_SAT } else { Sat::ZERO };
        let closing = self.closing();
        view::Channel {
            peer_id: terms.peer,
            peer_connected: self.link != Link::Down,
            reestablished: self.link == Link::Up,
            state: self.state_name(),
            status: alloc::vec![self.status_line(tip)],
            opener: terms.opener,
            closer: closing.map(|c| c.by).or(match &self.phase {
                Phase::Onchain(o) => o.owner,
                _ => None,
            }),
            channel_id: terms.channel_id,
            short_channel_id: self.short_channel_id(),
            alias: (self.alias(), self.peer_alias()),
            funding: Some(terms.funding),
            total: terms.capacity,
            initial_to_us_msat: terms.initial_balance(Side::Local),
            to_us_msat: self.to_us(),
            spendable_msat: spendable(Side::Local),
            receivable_msat: spendable(Side::Remote),
            min_to_us_msat: self.extremes.0,
            max_to_us_msat: self.extremes.1,
            commit_fee: cost.saturating_sub(anchors),
            feerate: self.feerate(),
            type_bits: terms.type_bits().bits().collect(),
            private: !self.terms.announce,
            dust_limit: (terms.local.dust_limit, terms.remote.dust_limit),
            reserve: (terms.remote.reserve, terms.local.reserve),
            to_self_delay: (terms.remote.to_self_delay, terms.local.to_self_delay),
            htlc_minimum_msat: (terms.remote.htlc_minimum, terms.local.htlc_minimum),
            max_in_flight_msat: (terms.remote.max_in_flight, terms.local.max_in_flight),
            max_accepted_htlcs: (terms.remote.max_accepted_htlcs, terms.local.max_accepted_htlcs),
            policy: Policy {
                min: self.policy.min.max(terms.remote.htlc_minimum),
                max: Some(
                    self.policy.largest().min(terms.remote.max_in_flight).min(terms.capacity.to_msat()),
                ),
                ..self.policy
            },
            commitment_number: (self.commits.local_number, self.commits.remote_number),
            depth: (self.depth(tip), terms.minimum_depth),
            htlcs: self.ledger.htlcs.values().map(|h| self.htlc_view(h)).collect(),
            stats: self.stats,
            close_to: (
                closing.and_then(|c| c.local_script.clone()).or_else(|| self.close_to.clone()),
                closing.and_then(|c| c.remote_script.clone()),
            ),
            closing_txid: match &self.phase {
                Phase::Closed(c) => Some(c.tx.compute_txid()),
                Phase::Onchain(o) => Some(o.txid),
                _ => None,
            },
            annals: self.annals.clone(),
            outputs: self.watch.as_ref().map(|w| w.outputs.clone()).unwrap_or_default(),
            resting: self.resting(),
            lost_state: self.doubt,
        }
    }

    /// One HTLC of `listhtlcs`.
    pub fn htlc_view(&self, htlc: &Htlc) -> view::Htlc {
        let offered = htlc.id.offered_by == Side::Local;
        let dust = self.terms.local.dust_limit;
        view::Htlc {
            channel_id: self.id(),
            short_channel_id: self.short_channel_id(),
            id: htlc.id.id,
            offered_by: htlc.id.offered_by,
            amount_msat: htlc.amount,
            payment_hash: htlc.payment_hash,
            expiry: htlc.cltv_expiry,
            state: htlc.step.name(htlc.id.offered_by),
            local_trimmed: is_trimmed(self.terms.channel_type, self.feerate(), dust, offered, htlc.amount),
            waits_because: None,
        }
    }

    /// The snapshots that were signed, newest first.
    pub fn snapshot_views(&self, start: u64, limit: u64) -> Vec<Snapshot> {
        let skip = usize::try_from(start).unwrap_or(usize::MAX);
        let take = usize::try_from(limit).unwrap_or(usize::MAX);
        let newest = self.commits.local_number;
        let live = self.ledger.htlcs.values().map(|h| {
            let entry = SnapshotHtlc {
                offered_by: h.id.offered_by,
                amount_msat: h.amount,
                payment_hash: h.payment_hash,
                expiry: h.cltv_expiry,
            };
            (h.span, entry)
        });
        let past = self.past().iter().map(|p| {
            let entry = SnapshotHtlc {
                offered_by: p.id.offered_by,
                amount_msat: p.amount,
                payment_hash: p.payment_hash,
                expiry: p.cltv_expiry,
            };
            (p.span, entry)
        });
        let wanted: Vec<_> = self.commits.snapshots.iter().rev().skip(skip).take(take).copied().collect();
        let (Some(first), Some(last)) = (wanted.last(), wanted.first()) else { return Vec::new() };
        // Only those that one of the wanted snapshots can hold.
        let near: Vec<_> = past
            .chain(live)
            .filter(|(s, _)| {
                s.local_first.is_some_and(|f| f <= last.number)
                    && s.local_last.is_none_or(|l| l >= first.number)
            })
            .collect();
        let status = |number| match (number == newest, self.ready == (true, true)) {
            (true, true) => "current",
            (true, false) => "pending",
            (false, _) => "revoked",
        };
        wanted
            .iter()
            .map(|s| Snapshot {
                number: s.number,
                their_number: s.their_number,
                our_msat: s.local,
                their_msat: s.remote,
                htlcs: near
                    .iter()
                    .filter(|(span, _)| span.holds(Side::Local, s.number))
                    .map(|(_, h)| *h)
                    .collect(),
                feerate: s.feerate,
                status: status(s.number),
                time_s: s.time_s,
            })
            .collect()
    }

    /// Our part of `balance`: terms that add up to the capacity. Once a published commitment is in a block, what is ours
    /// there and in no claim yet is all that counts: what a claim takes is the wallet's.
    pub fn balance(&self) -> ChannelBalance {
        if let Some(waiting) = self.unclaimed() {
            return ChannelBalance {
                channel_id: self.id(),
                peer_id: self.terms.peer,
                state: self.state_name(),
                capacity: self.terms.capacity,
                spendable_msat: Msat::ZERO,
                our_reserve_msat: waiting.to_msat(),
                commit_fee_msat: Msat::ZERO,
                anchors_msat: Msat::ZERO,
                htlcs_out_msat: Msat::ZERO,
                htlcs_in_msat: Msat::ZERO,
                dust_msat: Msat::ZERO,
                their_msat: self.terms.capacity.saturating_sub(waiting).to_msat(),
            };
        }
        let view = View::Signed(Side::Local);
        let terms = &self.terms;
        let balances = self.ledger.balances(view);
        let (local, remote) = balances.map_or((Msat::ZERO, Msat::ZERO), |b| (b.local, b.remote));
        let sum = |side| {
            let amounts = self.ledger.htlcs_in(view).filter(|h| h.id.offered_by == side).map(|h| h.amount);
            Msat::checked_sum(amounts).unwrap_or(Msat::ZERO)
        };
        let (fee, anchors) = if terms.opener == Side::Local {
            let cost = self.ledger.opener_cost(view, terms);
            let anchors = if terms.channel_type.is_anchors() { ANCHORS_SAT } else { Sat::ZERO };
            (cost.saturating_sub(anchors).to_msat(), anchors.to_msat())
        } else {
            (Msat::ZERO, Msat::ZERO)
        };
        // What we have pays first for the fee, then for the anchors, then for the reserve; the rest can be spent.
        let mut left = local;
        let mut take = |want: Msat| {
            let got = want.min(left);
            left = left.saturating_sub(got);
            got
        };
        let commit_fee_msat = take(fee);
        let anchors_msat = take(anchors);
        // Of a channel that this node lost the state of nothing can be spent before the peer has closed it.
        let kept = if self.doubt { Msat(u64::MAX) } else { terms.remote.reserve.to_msat() };
        let our_reserve_msat = take(kept);
        ChannelBalance {
            channel_id: self.id(),
            peer_id: terms.peer,
            state: self.state_name(),
            capacity: terms.capacity,
            spendable_msat: left,
            our_reserve_msat,
            commit_fee_msat,
            anchors_msat,
            htlcs_out_msat: sum(Side::Local),
            htlcs_in_msat: sum(Side::Remote),
            dust_msat: self.ledger.dust_exposure(view, terms),
            their_msat: remote,
        }
    }
}
