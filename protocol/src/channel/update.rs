//! Adding and removing HTLCs, changing the feerate (BOLT 2, "Normal Operation").
//!
//! In: orders of the node (`offer`, `settle`, `set_feerate`) or the peer's `update_…` messages. Out: the ledger's
//! step 0 or 5; nothing is binding before `commit` signs it. Read next: `commit`.

use crate::channel::htlc::{Htlc, Removal, Span, Step};
use crate::channel::ledger::{FeeUpdate, Refusal};
use crate::channel::{Channel, ChannelEvent, Context, Out, Phase, Sent};
use crate::fault::{PeerFault, Trouble};
use crate::id::{HtlcId, PaymentHash, Preimage, Side};
use crate::node::effect::Level;
use crate::units::{Feerate, Height, Msat};
use crate::wire::message::{
    OnionPacket, UpdateAddHtlc, UpdateFailHtlc, UpdateFailMalformedHtlc, UpdateFee, UpdateFulfillHtlc,
};
use crate::wire::Message;
use alloc::boxed::Box;
use alloc::format;
use secp256k1::PublicKey;

/// The longest failure we accept or relay: BOLT 4's are 292 bytes, longer ones are allowed, a limit must be.
pub const MAX_FAILURE_BYTES: usize = 40_000;
/// BOLT 4: the flag of failures that the onion's reader could not encrypt.
pub const BADONION: u16 = 0x8000;

/// Why an order of the node cannot be done now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CannotOffer {
    /// Not open, or the peer is away.
    #[error("the channel is not ready: its peer is away or it is not open")]
    NotUsable,
    /// A limit.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl Channel {
    /// Whether one more HTLC of ours fits now.
    ///
    /// # Errors
    /// [`CannotOffer`].
    pub fn check_offer(&self, amount: Msat, cltv_expiry: Height, max_dust: Msat) -> Result<(), CannotOffer> {
        if !self.is_usable() {
            return Err(CannotOffer::NotUsable);
        }
        Ok(self.ledger.check_add(&self.terms, Side::Local, amount, cltv_expiry, max_dust)?)
    }

    /// Offers an HTLC that `check_offer` allowed.
    pub fn apply_offer(
        &mut self,
        amount: Msat,
        payment_hash: PaymentHash,
        cltv_expiry: Height,
        onion: Box<OnionPacket>,
        out: &mut Out,
    ) -> HtlcId {
        self.apply_offer_inside(amount, payment_hash, cltv_expiry, (onion, None), out)
    }

    /// The same inside a blinded path, with the path key that goes beside the onion.
    pub fn apply_offer_inside(
        &mut self,
        amount: Msat,
        payment_hash: PaymentHash,
        cltv_expiry: Height,
        (onion, path_key): (Box<OnionPacket>, Option<PublicKey>),
        out: &mut Out,
    ) -> HtlcId {
        let id = HtlcId { offered_by: Side::Local, id: self.ledger.next_id.0 };
        // BOLT 2 [2.add.9, 2.add.12].
        self.ledger.next_id.0 += 1;
        let htlc = Htlc {
            id,
            amount,
            payment_hash,
            cltv_expiry,
            step: Step::AddHtlc,
            removal: None,
            span: Span::default(),
            onion: Some(onion),
            path_key,
        };
        self.log.push((Sent::Add(id.id), false));
        if let Some(message) = self.add_message(&htlc) {
            self.send(message, out);
        }
        self.ledger.htlcs.insert(id, htlc);
        self.dirty.htlc(id);
        self.dirty.onion(id);
        self.stats.out_offered += 1;
        self.stats.out_offered_msat = self.stats.out_offered_msat.saturating_add(amount);
        id
    }

    pub(crate) fn add_message(&self, htlc: &Htlc) -> Option<Message> {
        Some(Message::UpdateAddHtlc(UpdateAddHtlc {
            channel_id: self.id(),
            id: htlc.id.id,
            amount_msat: htlc.amount,
            payment_hash: htlc.payment_hash.0,
            cltv_expiry: htlc.cltv_expiry,
            onion_routing_packet: htlc.onion.clone()?,
            // BOLT 2 [2.add.10].
            path_key: htlc.path_key,
        }))
    }

    /// Removes an HTLC of the peer that is locked in; `false` (and nothing done) when it is not.
    pub fn settle(&mut self, id: u64, removal: Removal, out: &mut Out) -> bool {
        let name = HtlcId { offered_by: Side::Remote, id };
        if matches!(self.phase, Phase::Onchain(_) | Phase::Closed(_)) {
            return false;
        }
        // BOLT 2 [2.remove.1].
        let Some(htlc) = self.ledger.htlcs.get_mut(&name).filter(|h| h.is_settleable()) else { return false };
        if removal.is_fulfilled() {
            self.stats.in_fulfilled += 1;
            self.stats.in_fulfilled_msat = self.stats.in_fulfilled_msat.saturating_add(htlc.amount);
        }
        htlc.step = Step::RemoveHtlc;
        htlc.removal = Some(removal);
        self.log.push((Sent::Remove(id), false));
        if let Some(message) = self.removal_message(id) {
            self.send(message, out);
        }
        self.dirty.htlc(name);
        true
    }

    pub(crate) fn removal_message(&self, id: u64) -> Option<Message> {
        let channel_id = self.id();
        let htlc = self.ledger.htlcs.get(&HtlcId { offered_by: Side::Remote, id })?;
        Some(match htlc.removal.as_ref()? {
            Removal::Fulfilled(preimage) => {
                Message::UpdateFulfillHtlc(UpdateFulfillHtlc { channel_id, id, payment_preimage: preimage.0 })
            }
            Removal::Failed(reason) => {
                Message::UpdateFailHtlc(UpdateFailHtlc { channel_id, id, reason: reason.clone() })
            }
            Removal::Malformed { sha256_of_onion, failure_code } => {
                Message::UpdateFailMalformedHtlc(UpdateFailMalformedHtlc {
                    channel_id,
                    id,
                    sha256_of_onion: *sha256_of_onion,
                    failure_code: *failure_code,
                })
            }
            // Nothing is told any more.
            Removal::OnChain => return None,
        })
    }

    /// Changes the feerate of both commitments; only the opener may, and only to what it can pay.
    /// `false` when that is not possible now.
    pub fn set_feerate(&mut self, feerate: Feerate, out: &mut Out) -> bool {
        // BOLT 2 [2.fee.1].
        let may = self.terms.opener == Side::Local && self.is_usable() && feerate >= Feerate::FLOOR;
        if !may || !self.ledger.can_set_feerate(&self.terms, feerate) {
            return false;
        }
        let newest = self.ledger.fees.last().map_or(self.ledger.feerate, |f| f.feerate);
        if newest == feerate {
            return true;
        }
        self.ledger.fees.push(FeeUpdate { feerate, step: Step::AddHtlc });
        self.log.push((Sent::Fee(feerate), false));
        self.send(self.fee_message(feerate), out);
        self.dirty.state = true;
        true
    }

    pub(crate) fn fee_message(&self, feerate: Feerate) -> Message {
        Message::UpdateFee(UpdateFee { channel_id: self.id(), feerate_per_kw: feerate })
    }

    /// `update_add_htlc`.
    pub(crate) fn on_add(&mut self, m: UpdateAddHtlc, cx: &Context<'_>) -> Result<(), Trouble> {
        self.check_add(&m, cx)?;
        let id = HtlcId { offered_by: Side::Remote, id: m.id };
        self.ledger.next_id.1 += 1;
        let htlc = Htlc {
            id,
            amount: m.amount_msat,
            payment_hash: PaymentHash(m.payment_hash),
            cltv_expiry: m.cltv_expiry,
            step: Step::AddHtlc,
            removal: None,
            span: Span::default(),
            onion: Some(m.onion_routing_packet),
            path_key: m.path_key,
        };
        self.ledger.htlcs.insert(id, htlc);
        Ok(())
    }

    fn check_add(&self, m: &UpdateAddHtlc, cx: &Context<'_>) -> Result<(), PeerFault> {
        match &self.phase {
            Phase::Open => {}
            // "MUST NOT send an update_add_htlc after a shutdown" (BOLT 2); ours may have crossed theirs.
            Phase::Closing(closing) if !closing.remote_sent() => {}
            _ => return Err(PeerFault::disconnect("update_add_htlc outside of normal operation")),
        }
        let expected = self.ledger.next_id.1;
        if m.id != expected {
            return Err(PeerFault::disconnect(format!("update_add_htlc {}: expected id {expected}", m.id)));
        }
        self.ledger
            .check_add(&self.terms, Side::Remote, m.amount_msat, m.cltv_expiry, cx.max_dust)
            .map_err(|why| PeerFault::disconnect(format!("update_add_htlc {}: {why}", m.id)))
    }

    /// The HTLC of ours that the peer wants to remove: locked in, not removed yet.
    fn check_removable(&self, id: u64, what: &str) -> Result<&Htlc, PeerFault> {
        let name = HtlcId { offered_by: Side::Local, id };
        // BOLT 2 [2.remove.5].
        match self.ledger.htlcs.get(&name) {
            Some(htlc) if htlc.is_settleable() => Ok(htlc),
            Some(_) => {
                Err(PeerFault::disconnect(format!("{what} {id}: it is not locked in, or removed already")))
            }
            None => Err(PeerFault::disconnect(format!("{what} {id}: no such HTLC"))),
        }
    }

    fn apply_removal(&mut self, id: u64, removal: Removal) {
        // Not saved before the peer commits to it; the node keeps a preimage at once.
        if let Some(htlc) = self.ledger.htlcs.get_mut(&HtlcId { offered_by: Side::Local, id }) {
            htlc.step = Step::RemoveHtlc;
            htlc.removal = Some(removal);
        }
    }

    /// `update_fulfill_htlc`.
    pub(crate) fn on_fulfill(&mut self, m: &UpdateFulfillHtlc, out: &mut Out) -> Result<(), Trouble> {
        let htlc = self.check_removable(m.id, "update_fulfill_htlc")?;
        let preimage = Preimage(m.payment_preimage);
        // BOLT 2 [2.remove.6].
        if preimage.hash() != htlc.payment_hash {
            return Err(PeerFault::fail(format!("update_fulfill_htlc {}: wrong preimage", m.id)).into());
        }
        let id = htlc.id;
        self.apply_removal(m.id, Removal::Fulfilled(preimage.clone()));
        out.events.push(ChannelEvent::Fulfilled { id, preimage });
        Ok(())
    }

    /// `update_fail_htlc`.
    pub(crate) fn on_fail(&mut self, m: UpdateFailHtlc) -> Result<(), Trouble> {
        self.check_removable(m.id, "update_fail_htlc")?;
        if m.reason.len() > MAX_FAILURE_BYTES {
            return Err(PeerFault::disconnect("update_fail_htlc: reason too long").into());
        }
        self.apply_removal(m.id, Removal::Failed(m.reason));
        Ok(())
    }

    /// `update_fail_malformed_htlc`.
    pub(crate) fn on_fail_malformed(&mut self, m: &UpdateFailMalformedHtlc) -> Result<(), Trouble> {
        self.check_removable(m.id, "update_fail_malformed_htlc")?;
        // BOLT 2 [2.remove.7].
        if m.failure_code & BADONION == 0 {
            // "MUST fail the channel" or warn and close the connection (BOLT 2).
            return Err(PeerFault::disconnect("update_fail_malformed_htlc without BADONION").into());
        }
        let removal = Removal::Malformed { sha256_of_onion: m.sha256_of_onion, failure_code: m.failure_code };
        self.apply_removal(m.id, removal);
        Ok(())
    }

    /// `update_fee`.
    pub(crate) fn on_fee(&mut self, m: &UpdateFee, cx: &Context<'_>, out: &mut Out) -> Result<(), Trouble> {
        // BOLT 2 [2.fee.4].
        if self.terms.opener != Side::Remote {
            // "MUST fail the channel if the sender is not responsible for paying the Bitcoin fee" (or warn and close).
            return Err(PeerFault::disconnect("update_fee from the side that does not pay it").into());
        }
        // BOLT 2 [2.fee.3].
        if m.feerate_per_kw < Feerate::FLOOR || m.feerate_per_kw > cx.feerate_ceiling {
            let (low, high) = (Feerate::FLOOR, cx.feerate_ceiling);
            let what = format!("update_fee {}: accepted are {low} to {high}", m.feerate_per_kw);
            return Err(PeerFault::disconnect(what).into());
        }
        if !self.ledger.peer_can_pay_feerate(&self.terms, m.feerate_per_kw) {
            return Err(PeerFault::disconnect("update_fee: the opener cannot pay it").into());
        }
        out.notice(Level::Debug, format!("the peer sets the feerate to {}", m.feerate_per_kw));
        self.ledger.fees.push(FeeUpdate { feerate: m.feerate_per_kw, step: Step::AddHtlc });
        // Of changes that stand at one step the last one counts: a flood of them takes no room.
        self.ledger.merge_fees();
        Ok(())
    }
}
