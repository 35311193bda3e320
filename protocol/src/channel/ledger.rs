//! Who has what, and who can afford what.
//!
//! In: HTLCs and fee changes, each at its step. Out: the balance snapshot ([`Spec`], the seed's 余额分配方案) of
//! either side's commitment, as signed or as it would be signed now; and whether one more update fits.
//! An HTLC is its offerer's money until it is removed for good. Read next: `update`, `commit`.

use crate::channel::htlc::{Htlc, Step};
use crate::channel::terms::{Party, Terms};
use crate::id::{HtlcId, Side};
use crate::tx::commitment::{Spec, SpecHtlc};
use crate::tx::weight::{funder_cost, is_trimmed};
use crate::units::{Feerate, Height, Msat, Sat};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// HTLCs of the peer that we keep room for when we change the feerate; LDK keeps room for as many, and closes by force
/// when a change it received cannot be paid.
const CROSSING_HTLCS: usize = 2;
/// Heights at or above this are times: no `cltv_expiry` (BOLT 2).
pub const MAX_CLTV_EXPIRY: u32 = 500_000_000;

/// A feerate on its way through both commitments; offered by the opener, gone after its first five steps.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FeeUpdate {
    /// The new rate.
    pub feerate: Feerate,
    /// How far it has come.
    pub step: Step,
}

/// Which snapshot is meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum View {
    /// The newest commitment of this side, as signed.
    Signed(Side),
    /// The commitment that this side would get if the other signed now.
    Next(Side),
}

impl View {
    /// Whose commitment it is.
    pub const fn owner(self) -> Side {
        match self {
            View::Signed(owner) | View::Next(owner) => owner,
        }
    }

    /// The step at which this view sees an update.
    const fn step(self, step: Step, offered_by: Side) -> Step {
        match self {
            View::Signed(_) => step,
            View::Next(owner) => match step.after_commit(offered_by, owner.other()) {
                Some(next) => next,
                None => step,
            },
        }
    }
}

/// Why an update does not fit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Refusal {
    #[error("the amount is zero")]
    Zero,
    #[error("the amount is below the receiver's minimum of {minimum}")]
    BelowMinimum { minimum: Msat },
    #[error("the receiver takes at most {limit} HTLCs at once")]
    TooMany { limit: u16 },
    #[error("the receiver takes at most {limit} in flight")]
    TooMuchInFlight { limit: Msat },
    #[error("the offerer cannot pay it: {available} is left beyond its reserve and fees")]
    CannotAfford { available: Msat },
    #[error("the opener could not pay the commitment's fee with one more HTLC")]
    OpenerCannotPayFee,
    #[error("the expiry {expiry} is no block height")]
    BadExpiry { expiry: u32 },
    #[error("too much would be at risk as dust: the limit is {limit}")]
    DustExposure { limit: Msat },
}

/// Both balances of a view, HTLCs in it not counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Balances {
    /// Ours.
    pub local: Msat,
    /// The peer's.
    pub remote: Msat,
}

impl Balances {
    /// One of the two.
    pub const fn of(&self, side: Side) -> Msat {
        match side {
            Side::Local => self.local,
            Side::Remote => self.remote,
        }
    }
}

/// The channel's money.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ledger {
    /// What each has when no HTLC is pending (ours, theirs).
    pub settled: Balances,
    /// The feerate both commitments have agreed on for good.
    pub feerate: Feerate,
    /// Changes of it under way, oldest first.
    pub fees: Vec<FeeUpdate>,
    /// Every HTLC not yet forgotten.
    // BOLT 2 [2.add.13].
    pub htlcs: BTreeMap<HtlcId, Htlc>,
    /// The next id of an HTLC of ours, and of the peer's.
    pub next_id: (u64, u64),
}

impl Ledger {
    /// The ledger of a new channel.
    pub fn new(local: Msat, remote: Msat, feerate: Feerate) -> Ledger {
        Ledger {
            settled: Balances { local, remote },
            feerate,
            fees: Vec::new(),
            htlcs: BTreeMap::new(),
            // BOLT 2 [2.add.8].
            next_id: (0, 0),
        }
    }

    /// The next free id of a side.
    pub const fn next_id(&self, side: Side) -> u64 {
        match side {
            Side::Local => self.next_id.0,
            Side::Remote => self.next_id.1,
        }
    }

    /// The feerate of a view: the newest change it has seen.
    pub fn feerate_in(&self, view: View, opener: Side) -> Feerate {
        self.fees
            .iter()
            .rev()
            .find(|f| view.step(f.step, opener).added_in(opener, view.owner()))
            .map_or(self.feerate, |f| f.feerate)
    }

    /// Keeps the last of the feerate changes that stand at the same step: every view sees either all or none of
    /// them, and the last one wins. So there are never more than the steps of an update.
    pub fn merge_fees(&mut self) {
        let steps: Vec<Step> = self.fees.iter().map(|f| f.step).collect();
        let mut place = 0;
        self.fees.retain(|f| {
            place += 1;
            steps.get(place) != Some(&f.step)
        });
    }

    /// Both balances of a view; `None` when one would be negative.
    pub fn balances(&self, view: View) -> Option<Balances> {
        let (mut local, mut remote) = (i128::from(self.settled.local.0), i128::from(self.settled.remote.0));
        for htlc in self.htlcs.values() {
            let step = view.step(htlc.step, htlc.id.offered_by);
            if !step.added_in(htlc.id.offered_by, view.owner()) {
                continue;
            }
            let amount = i128::from(htlc.amount.0);
            let (offerer, receiver) = match htlc.id.offered_by {
                Side::Local => (&mut local, &mut remote),
                Side::Remote => (&mut remote, &mut local),
            };
            *offerer -= amount;
            if step.removed_in(htlc.id.offered_by, view.owner()) {
                let fulfilled = htlc.removal.as_ref().is_some_and(|r| r.is_fulfilled());
                *(if fulfilled { receiver } else { offerer }) += amount;
            }
        }
        Some(Balances { local: Msat(u64::try_from(local).ok()?), remote: Msat(u64::try_from(remote).ok()?) })
    }

    /// The HTLCs that have an entry in a view.
    pub fn htlcs_in(&self, view: View) -> impl Iterator<Item = &Htlc> + '_ {
        self.htlcs.values().filter(move |h| {
            let step = view.step(h.step, h.id.offered_by);
            step.added_in(h.id.offered_by, view.owner()) && !step.removed_in(h.id.offered_by, view.owner())
        })
    }

    /// The balance snapshot of a view; `None` when a balance would be negative.
    pub fn spec(&self, view: View, opener: Side) -> Option<Spec> {
        let balances = self.balances(view)?;
        let owner = view.owner();
        let htlcs = self.htlcs_in(view).map(|h| SpecHtlc {
            id: h.id,
            offered: h.id.offered_by == owner,
            amount: h.amount,
            payment_hash: h.payment_hash,
            cltv_expiry: h.cltv_expiry,
        });
        Some(Spec {
            feerate: self.feerate_in(view, opener),
            to_owner: balances.of(owner),
            to_other: balances.of(owner.other()),
            htlcs: htlcs.collect(),
        })
    }

    /// How many HTLCs of a view have an output, at `feerate`.
    fn untrimmed(&self, view: View, terms: &Terms, feerate: Feerate) -> usize {
        let owner = view.owner();
        let dust = terms.party(owner).dust_limit;
        let has_output =
            |h: &&Htlc| !is_trimmed(terms.channel_type, feerate, dust, h.id.offered_by == owner, h.amount);
        self.htlcs_in(view).filter(has_output).count()
    }

    /// What the opener gives up for the commitment of a view: base fee and anchors.
    pub fn opener_cost(&self, view: View, terms: &Terms) -> Sat {
        let feerate = self.feerate_in(view, terms.opener);
        funder_cost(terms.channel_type, feerate, self.untrimmed(view, terms, feerate))
    }

    /// Money in HTLCs of a view that have no output there: lost to fees if that commitment is published.
    pub fn dust_exposure(&self, view: View, terms: &Terms) -> Msat {
        let owner = view.owner();
        let feerate = self.feerate_in(view, terms.opener);
        let dust = terms.party(owner).dust_limit;
        self.htlcs_in(view)
            .filter(|h| is_trimmed(terms.channel_type, feerate, dust, h.id.offered_by == owner, h.amount))
            .fold(Msat::ZERO, |sum, h| sum.saturating_add(h.amount))
    }

    /// Whether an HTLC that is locked in has no output in either commitment while more than `max_dust` hangs on such
    /// HTLCs there: it is to be given back ("SHOULD fail this HTLC once it's committed", BOLT 2).
    pub fn is_dust_too_many(&self, terms: &Terms, htlc: &Htlc, max_dust: Msat) -> bool {
        [Side::Local, Side::Remote].into_iter().any(|owner| {
            let view = View::Signed(owner);
            let (feerate, dust) = (self.feerate_in(view, terms.opener), terms.party(owner).dust_limit);
            is_trimmed(terms.channel_type, feerate, dust, htlc.id.offered_by == owner, htlc.amount)
                && self.dust_exposure(view, terms) > max_dust
        })
    }

    /// Whether `offerer` may add an HTLC (BOLT 2, "Adding an HTLC"). For our own (`offerer` is `Local`) stricter:
    /// both commitments are looked at, an opener keeps room for a doubled feerate, dust is bounded.
    ///
    /// # Errors
    /// [`Refusal`], of a local add for the user, of a remote one the peer's fault.
    pub fn check_add(
        &self,
        terms: &Terms,
        offerer: Side,
        amount: Msat,
        cltv_expiry: Height,
        max_dust: Msat,
    ) -> Result<(), Refusal> {
        let receiver = terms.party(offerer.other());
        // BOLT 2 [2.add.3].
        if amount == Msat::ZERO {
            return Err(Refusal::Zero);
        }
        // BOLT 2 [2.add.4].
        if amount < receiver.htlc_minimum {
            return Err(Refusal::BelowMinimum { minimum: receiver.htlc_minimum });
        }
        // BOLT 2 [2.add.5].
        if cltv_expiry.0 >= MAX_CLTV_EXPIRY {
            return Err(Refusal::BadExpiry { expiry: cltv_expiry.0 });
        }
        self.check_slots(receiver, offerer, amount)?;
        let available = self.available(terms, offerer, Some(amount));
        if amount > available {
            return Err(Refusal::CannotAfford { available });
        }
        if offerer == Side::Local {
            self.check_prudence(terms, amount, max_dust)?;
        }
        Ok(())
    }

    /// The receiver's limits on number and sum. An HTLC counts until both have forgotten it, as BOLT 2 counts it
    /// in the receiver's commitment.
    fn check_slots(&self, receiver: &Party, offerer: Side, amount: Msat) -> Result<(), Refusal> {
        let (mut count, mut sum) = (0usize, amount);
        for htlc in self.htlcs_in(View::Next(offerer.other())).filter(|h| h.id.offered_by == offerer) {
            count += 1;
            sum = sum.saturating_add(htlc.amount);
        }
        // BOLT 2 [2.add.6].
        if count >= usize::from(receiver.max_accepted_htlcs) {
            return Err(Refusal::TooMany { limit: receiver.max_accepted_htlcs });
        }
        // BOLT 2 [2.add.7].
        if sum > receiver.max_in_flight {
            return Err(Refusal::TooMuchInFlight { limit: receiver.max_in_flight });
        }
        Ok(())
    }

    /// What we allow ourselves beyond what the peer must accept.
    fn check_prudence(&self, terms: &Terms, amount: Msat, max_dust: Msat) -> Result<(), Refusal> {
        for view in [View::Next(Side::Remote), View::Next(Side::Local)] {
            let owner = view.owner();
            let feerate = self.feerate_in(view, terms.opener);
            let dust_limit = terms.party(owner).dust_limit;
            let trimmed = is_trimmed(terms.channel_type, feerate, dust_limit, owner == Side::Local, amount);
            if trimmed && self.dust_exposure(view, terms).saturating_add(amount) > max_dust {
                return Err(Refusal::DustExposure { limit: max_dust });
            }
            let more = usize::from(!trimmed);
            if terms.opener == Side::Remote && !self.opener_has_room(terms, view, feerate, more) {
                return Err(Refusal::OpenerCannotPayFee);
            }
        }
        Ok(())
    }

    /// Whether the opener can pay the fee with `more` untrimmed HTLCs in and keep its reserve: "SHOULD NOT offer" if not,
    /// and LDK closes by force over it, even when it never met its reserve.
    fn opener_has_room(&self, terms: &Terms, view: View, feerate: Feerate, more: usize) -> bool {
        let own = self.balances(view).map_or(Msat::ZERO, |b| b.of(terms.opener));
        let reserve = terms.party(terms.opener.other()).reserve;
        let fee = funder_cost(terms.channel_type, feerate, self.untrimmed(view, terms, feerate) + more);
        fee.checked_add(reserve).is_some_and(|need| own >= need.to_msat())
    }

    /// What `offerer` can put into one more HTLC beyond its reserve and, when it opened, the fee with that HTLC in.
    /// `amount`, when known, tells whether the new HTLC needs an output.
    fn available(&self, terms: &Terms, offerer: Side, amount: Option<Msat>) -> Msat {
        let left = |view: View, prudent: bool| {
            let owner = view.owner();
            let mut feerate = self.feerate_in(view, terms.opener);
            let trimmed = amount.is_some_and(|a| {
                let dust = terms.party(owner).dust_limit;
                is_trimmed(terms.channel_type, feerate, dust, owner == offerer, a)
            });
            if prudent {
                // Room for the fee to double and one more HTLC to come ("fee spike buffer", BOLT 2).
                feerate = Feerate(feerate.0.saturating_mul(2));
            }
            let own = self.balances(view).map_or(Msat::ZERO, |b| b.of(offerer));
            let reserve = terms.party(offerer.other()).reserve.to_msat();
            // BOLT 2 [2.add.1, 2.add.2].
            let fee = if terms.opener == offerer {
                let crossed = if offerer == Side::Remote { self.crossed(view, terms, feerate) } else { 0 };
                let known = self.untrimmed(view, terms, feerate).saturating_sub(crossed);
                let count = known + usize::from(!trimmed) + usize::from(prudent);
                funder_cost(terms.channel_type, feerate, count).to_msat()
            } else {
                Msat::ZERO
            };
            own.saturating_sub(reserve).saturating_sub(fee)
        };
        match offerer {
            Side::Remote => left(View::Next(Side::Local), false),
            Side::Local => {
                let both = |prudent| {
                    left(View::Next(Side::Remote), prudent).min(left(View::Next(Side::Local), prudent))
                };
                // A doubled feerate trims HTLCs that have outputs now: it may ask for less than the present one does.
                if terms.opener == Side::Local {
                    both(true).min(both(false))
                } else {
                    both(false)
                }
            }
        }
    }

    /// The largest single HTLC that `offerer` could add now; zero when none.
    pub fn spendable(&self, terms: &Terms, offerer: Side) -> Msat {
        let receiver = terms.party(offerer.other());
        let (count, sum) = self
            .htlcs_in(View::Next(offerer.other()))
            .filter(|h| h.id.offered_by == offerer)
            .fold((0usize, Msat::ZERO), |(n, s), h| (n + 1, s.saturating_add(h.amount)));
        if count >= usize::from(receiver.max_accepted_htlcs) {
            return Msat::ZERO;
        }
        let views = [View::Next(Side::Local), View::Next(Side::Remote)];
        let room_for_fee = |v: View| self.opener_has_room(terms, v, self.feerate_in(v, terms.opener), 1);
        if terms.opener != offerer && !views.into_iter().all(room_for_fee) {
            return Msat::ZERO;
        }
        let room = receiver.max_in_flight.saturating_sub(sum);
        let most = self.available(terms, offerer, None).min(room);
        if most < receiver.htlc_minimum {
            Msat::ZERO
        } else {
            most
        }
    }

    /// Whether we, who opened, can pay for the next commitments of both sides at `feerate` beyond our reserve, with
    /// room for HTLCs of the peer that may cross the change.
    pub fn can_set_feerate(&self, terms: &Terms, feerate: Feerate) -> bool {
        let views = [View::Next(Side::Local), View::Next(Side::Remote)];
        views.into_iter().all(|view| self.opener_has_room(terms, view, feerate, CROSSING_HTLCS))
    }

    /// How many HTLCs of ours, with an output in `view`, the peer has not signed yet. What the peer offers or changes may
    /// have crossed them, and after a cut it may come again behind the revocation that accepted them: it could not know.
    fn crossed(&self, view: View, terms: &Terms, feerate: Feerate) -> usize {
        let dust = terms.party(view.owner()).dust_limit;
        let crossed = |h: &&Htlc| {
            let ours = h.id.offered_by == Side::Local && !h.step.added_in(Side::Local, Side::Local);
            ours && !is_trimmed(terms.channel_type, feerate, dust, view.owner() == Side::Local, h.amount)
        };
        self.htlcs_in(view).filter(crossed).count()
    }

    /// Whether the peer, who opened, can pay for our next commitment at `feerate` beyond its reserve. An HTLC of ours
    /// that it has not signed yet is left out (BOLT 2: "on the receiving node's current commitment").
    pub fn peer_can_pay_feerate(&self, terms: &Terms, feerate: Feerate) -> bool {
        let view = View::Next(Side::Local);
        let count = self.untrimmed(view, terms, feerate).saturating_sub(self.crossed(view, terms, feerate));
        let cost = funder_cost(terms.channel_type, feerate, count);
        let own = self.balances(view).map_or(Msat::ZERO, |b| b.of(terms.opener));
        cost.checked_add(terms.local.reserve).is_some_and(|need| own >= need.to_msat())
    }

    /// Whether a `commitment_signed` by `signer` would change the other side's commitment.
    pub fn has_news_for(&self, signer: Side, opener: Side) -> bool {
        self.htlcs.values().any(|h| h.step.after_commit(h.id.offered_by, signer).is_some())
            || self.fees.iter().any(|f| f.step.after_commit(opener, signer).is_some())
    }
}
