//! Closing by agreement: `shutdown`, then `closing_signed` (BOLT 2, "Channel Close").
//!
//! In: an order of the user or the peer's `shutdown`; HTLCs coming to their end. Out: one transaction that both
//! signed, paid by the opener. With option_simple_close the second half is in `close_simple`.
//! Nothing of a negotiation is kept over a cut but the scripts: it starts again.
//! Read next: `close_simple`, `onchain`.

use crate::channel::{Channel, ChannelEvent, Context, Link, Out, Phase};
use crate::fault::{local, LocalFault, PeerFault, Trouble};
use crate::id::Side;
use crate::node::effect::Level;
use crate::tx::close::{build_close, close_weight, may_accept_shutdown, Close, CloseTerms};
use crate::units::{Feerate, Height, Sat};
use crate::wire::message::{ClosingSigned, Shutdown};
use crate::wire::Message;
use alloc::format;
use alloc::string::String;
use bitcoin::{ScriptBuf, Transaction};
use serde::{Deserialize, Serialize};

/// The second half of a channel's life.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Closing {
    /// Who wanted it first.
    pub by: Side,
    /// Our script, once our `shutdown` was sent.
    pub local_script: Option<ScriptBuf>,
    /// The peer's script, once its `shutdown` came.
    pub remote_script: Option<ScriptBuf>,
    /// The feerates the user allows.
    pub feerange: Option<(Feerate, Feerate)>,
    /// What was said on this link.
    #[serde(skip)]
    pub(crate) talk: Talk,
}

/// A negotiation, lost with its link.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Talk {
    /// The last fee we proposed.
    pub(crate) our_fee: Option<Sat>,
    /// The `closing_complete` we sent: fee and lock time.
    pub(crate) offered: Option<(Sat, u32)>,
}

/// Agreed: both signatures are there.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Closed {
    /// Who wanted it and where the money goes.
    pub closing: Closing,
    /// The transaction.
    pub tx: Transaction,
    /// What it pays.
    pub fee: Sat,
    /// The fee that was named; balances rounded down to satoshis make the transaction pay up to two more.
    pub named_fee: Sat,
    /// In which block it is.
    pub height: Option<Height>,
}

impl Closing {
    /// A close just begun.
    pub fn new(by: Side) -> Closing {
        Closing { by, local_script: None, remote_script: None, feerange: None, talk: Talk::default() }
    }

    /// The peer's `shutdown` came.
    pub const fn remote_sent(&self) -> bool {
        self.remote_script.is_some()
    }

    /// In words: what it waits for.
    pub fn status(&self) -> String {
        match (&self.local_script, &self.remote_script) {
            (None, _) => "our updates are not all acknowledged yet".into(),
            (Some(_), None) => "waiting for the peer's shutdown".into(),
            (Some(_), Some(_)) => "waiting for HTLCs to end and for the fee to be agreed".into(),
        }
    }
}

impl Channel {
    /// Begins a close; the `shutdown` itself goes out in `flush`, once nothing of ours is unacknowledged.
    /// `false` when the channel is past closing.
    pub fn begin_close(&mut self, to: Option<ScriptBuf>, feerange: Option<(Feerate, Feerate)>) -> bool {
        match &mut self.phase {
            Phase::Closing(closing) => {
                closing.feerange = feerange.or(closing.feerange);
                self.dirty.state = true;
                return true;
            }
            Phase::Confirming | Phase::Open => {}
            Phase::Closed(_) | Phase::Onchain(_) => return false,
        }
        if self.close_to.is_none() {
            self.close_to = to;
        }
        let closing = Closing { feerange, ..Closing::new(Side::Local) };
        self.phase = Phase::Closing(closing);
        self.dirty.state = true;
        true
    }

    /// `shutdown`.
    pub(crate) fn on_shutdown(
        &mut self,
        m: &Shutdown,
        cx: &Context<'_>,
        out: &mut Out,
    ) -> Result<(), Trouble> {
        self.check_shutdown(m)?;
        match &mut self.phase {
            // Said again after a cut: it may never have got our last word, and it is the opener who speaks first.
            Phase::Closed(closed) if self.terms.opener == Side::Local && !self.terms.simple_close => {
                let fee = closed.named_fee;
                if closed.height.is_none() && closed.closing.talk.our_fee.is_none() {
                    let close = self.own_close(fee)?;
                    self.send_closing_signed(fee, &close, Some((fee, fee)), cx, out);
                }
                return Ok(());
            }
            Phase::Confirming | Phase::Open => {
                let mut closing = Closing::new(Side::Remote);
                closing.remote_script = Some(m.scriptpubkey.clone());
                self.phase = Phase::Closing(closing);
                out.notice(Level::Info, "the peer closes the channel");
            }
            Phase::Closing(closing) => closing.remote_script = Some(m.scriptpubkey.clone()),
            // The opener's `closing_signed` follows, which `on_closing_signed` answers once more.
            Phase::Closed(_) | Phase::Onchain(_) => return Ok(()),
        }
        self.dirty.state = true;
        Ok(())
    }

    fn check_shutdown(&self, m: &Shutdown) -> Result<(), PeerFault> {
        let known = match &self.phase {
            Phase::Closing(c) if c.remote_script.is_some() => c.remote_script.as_ref(),
            Phase::Closed(c) => c.closing.remote_script.as_ref(),
            _ => self.terms.remote.upfront_shutdown.as_ref().filter(|s| !s.is_empty()),
        };
        // BOLT 2 [2.shutdown.10].
        if known.is_some_and(|script| *script != m.scriptpubkey) {
            return Err(PeerFault::disconnect("shutdown: another script than the one agreed on"));
        }
        if !may_accept_shutdown(&m.scriptpubkey, true, self.terms.simple_close) {
            return Err(PeerFault::disconnect("shutdown: not a standard script"));
        }
        // "if it has sent a shutdown while updates are pending: MUST fail" (or warn and close).
        let pending = self
            .ledger
            .htlcs
            .values()
            .any(|h| h.id.offered_by == Side::Remote && h.step == crate::channel::htlc::Step::AddHtlc);
        if pending {
            return Err(PeerFault::disconnect("shutdown with uncommitted HTLCs"));
        }
        Ok(())
    }

    /// The part of `flush` that concerns a close.
    pub(crate) fn flush_close(&mut self, cx: &Context<'_>, out: &mut Out) -> Result<(), LocalFault> {
        let unacknowledged = !self.log.is_empty();
        let quiet = self.is_quiet();
        let Phase::Closing(closing) = &mut self.phase else { return Ok(()) };
        // BOLT 2 [2.shutdown.3, 2.shutdown.9].
        if closing.local_script.is_none() {
            // "MUST NOT send a shutdown if there are updates pending on the receiving node's commitment."
            // BOLT 2 [2.shutdown.2].
            if unacknowledged {
                return Ok(());
            }
            let script = self.close_to.clone().unwrap_or_else(|| cx.close_script.clone());
            closing.local_script = Some(script.clone());
            self.dirty.state = true;
            let message = Shutdown { channel_id: self.terms.channel_id, scriptpubkey: script };
            self.send(Message::Shutdown(message), out);
            return self.flush_close(cx, out);
        }
        if closing.remote_script.is_none() || !quiet {
            return Ok(());
        }
        // BOLT 1 [1.format.1].
        if self.terms.simple_close {
            self.offer_simple_close(cx, out)
        } else if self.terms.opener == Side::Local && closing.talk.our_fee.is_none() {
            let fee = self.preferred_fee(cx)?;
            self.propose(fee, cx, out)
        } else {
            Ok(())
        }
    }

    /// No HTLC and no fee change is left anywhere.
    fn is_quiet(&self) -> bool {
        self.ledger.htlcs.is_empty() && self.ledger.fees.is_empty() && !self.commits.awaiting_revoke
    }

    pub(crate) fn closing(&self) -> Option<&Closing> {
        match &self.phase {
            Phase::Closing(closing) => Some(closing),
            Phase::Closed(closed) => Some(&closed.closing),
            _ => None,
        }
    }

    pub(crate) fn closing_mut(&mut self) -> Option<&mut Closing> {
        match &mut self.phase {
            Phase::Closing(closing) => Some(closing),
            Phase::Closed(closed) => Some(&mut closed.closing),
            _ => None,
        }
    }

    pub(crate) fn close_terms(&self) -> Result<CloseTerms, LocalFault> {
        let scripts = self.closing().and_then(|c| Some((c.local_script.clone()?, c.remote_script.clone()?)));
        let (local_script, remote_script) =
            scripts.ok_or_else(|| local("both shutdown scripts are needed"))?;
        Ok(CloseTerms {
            funding: self.terms.funding,
            capacity: self.terms.capacity,
            local_funding_pubkey: self.terms.local.basepoints.funding_pubkey,
            remote_funding_pubkey: self.terms.remote.basepoints.funding_pubkey,
            to_local: self.ledger.settled.local,
            to_remote: self.ledger.settled.remote,
            local_script,
            remote_script,
        })
    }

    /// The least that a closing transaction of this weight pays: what our backend's mempool takes, unless the user
    /// named less as the most.
    pub(crate) fn least_fee(&self, weight: u64, cx: &Context<'_>) -> Sat {
        let minimum = cx.feerate_minimum.max(Feerate::FLOOR);
        match self.closing().and_then(|c| c.feerange) {
            Some((_, high)) if high < minimum => high.fee(weight),
            _ => minimum.relay_fee(weight),
        }
    }

    /// The lowest, preferred and highest fee of ours. An accepter takes whatever the opener is ready to pay,
    /// from the lowest that relays.
    fn fee_range(&self, cx: &Context<'_>) -> Result<(Sat, Sat, Sat), LocalFault> {
        let terms = self.close_terms()?;
        let weight = close_weight([terms.local_script.as_script(), terms.remote_script.as_script()]);
        let (wanted, least) = (self.closing().and_then(|c| c.feerange), self.least_fee(weight, cx));
        let (low, high) = match (wanted, self.terms.opener) {
            (Some((low, high)), _) => (low.fee(weight).max(least), high.fee(weight).max(least)),
            (None, Side::Local) => {
                let high = Feerate(cx.feerate_normal.0.max(self.feerate().0).saturating_mul(2));
                (least, high.fee(weight))
            }
            (None, Side::Remote) => (least, self.terms.capacity),
        };
        // The opener pays: it cannot offer more than it has.
        let payable = match self.terms.opener {
            Side::Local => self.ledger.settled.local.floor_sat(),
            Side::Remote => self.ledger.settled.remote.floor_sat(),
        };
        let (low, high) = (low.min(payable), high.min(payable));
        Ok((low, cx.feerate_normal.fee(weight).clamp(low, high.max(low)), high.max(low)))
    }

    fn preferred_fee(&self, cx: &Context<'_>) -> Result<Sat, LocalFault> {
        Ok(self.fee_range(cx)?.1)
    }

    fn propose(&mut self, fee: Sat, cx: &Context<'_>, out: &mut Out) -> Result<(), LocalFault> {
        let close = self.own_close(fee)?;
        let (low, _, high) = self.fee_range(cx)?;
        self.send_closing_signed(fee, &close, Some((low.min(fee), high.max(fee))), cx, out);
        Ok(())
    }

    fn own_close(&self, fee: Sat) -> Result<Close, LocalFault> {
        build_close(&self.close_terms()?, self.terms.opener, fee, self.terms.local.dust_limit, None)
            .map_err(local)
    }

    fn send_closing_signed(
        &mut self,
        fee: Sat,
        close: &Close,
        fee_range: Option<(Sat, Sat)>,
        cx: &Context<'_>,
        out: &mut Out,
    ) {
        // BOLT 2 [2.legacy.2].
        let signature = cx.crypto.sign(&close.sighash(), &self.secrets.funding);
        let channel_id = self.id();
        let message = ClosingSigned { channel_id, fee_satoshis: fee, signature, fee_range };
        if let Some(closing) = self.closing_mut() {
            closing.talk.our_fee = Some(fee);
        }
        self.send(Message::ClosingSigned(message), out);
    }

    /// `closing_signed`.
    pub(crate) fn on_closing_signed(
        &mut self,
        m: &ClosingSigned,
        cx: &Context<'_>,
        out: &mut Out,
    ) -> Result<(), Trouble> {
        if let Phase::Closed(closed) = &self.phase {
            // It never got our last word: say it again (the transaction is public by now anyway).
            let fee = closed.named_fee;
            if closed.closing.talk.our_fee != Some(fee) {
                let close = self.own_close(fee)?;
                self.send_closing_signed(fee, &close, None, cx, out);
            }
            return Ok(());
        }
        let close = self.check_closing_signed(m, cx)?;
        let (low, preferred, high) = self.fee_range(cx)?;
        let ours = self.closing().and_then(|c| c.talk.our_fee);
        let fee = m.fee_satoshis;
        if ours == Some(fee) {
            self.agree(m, close, cx, out);
        } else if fee >= low && fee <= high {
            // BOLT 2 [2.legacy.6].
            self.send_closing_signed(fee, &close, Some((low, high)), cx, out);
            self.agree(m, close, cx, out);
        } else {
            let counter = self.counter_fee(m, (low, preferred, high), ours)?;
            self.propose(counter, cx, out)?;
        }
        Ok(())
    }

    /// A fee that both ranges hold, or with an old peer one strictly between the last two.
    fn counter_fee(
        &self,
        m: &ClosingSigned,
        (low, preferred, high): (Sat, Sat, Sat),
        ours: Option<Sat>,
    ) -> Result<Sat, PeerFault> {
        let (from, to) = match m.fee_range {
            Some((theirs_low, theirs_high)) => (low.max(theirs_low), high.min(theirs_high)),
            None => (low, high),
        };
        if from > to {
            // "if there is no overlap: SHOULD send a warning" and start again on the next link.
            return Err(PeerFault::disconnect("closing_signed: no fee suits both; change the fee range"));
        }
        match ours {
            // BOLT 2 [2.legacy.8].
            None => Ok(preferred.clamp(from, to)),
            Some(last) => {
                // BOLT 2 [2.legacy.9].
                let middle = Sat(last.0.midpoint(m.fee_satoshis.0)).clamp(from, to);
                if middle == last {
                    return Err(PeerFault::disconnect("closing_signed: the fee does not come closer"));
                }
                Ok(middle)
            }
        }
    }

    /// The transaction that the peer's signature is for: with its own output or (its choice) without it.
    fn check_closing_signed(&self, m: &ClosingSigned, cx: &Context<'_>) -> Result<Close, Trouble> {
        let ready = self.closing().is_some_and(|c| c.local_script.is_some() && c.remote_script.is_some());
        if !ready || !self.is_quiet() || self.terms.simple_close {
            return Err(PeerFault::disconnect("closing_signed out of place").into());
        }
        let terms = self.close_terms()?;
        let key = &self.terms.remote.basepoints.funding_pubkey;
        for dust in [self.terms.local.dust_limit, self.terms.remote.dust_limit] {
            for omit in [None, Some(Side::Remote)] {
                let Ok(close) = build_close(&terms, self.terms.opener, m.fee_satoshis, dust, omit) else {
                    continue;
                };
                // BOLT 2 [2.legacy.3].
                if cx.crypto.verify(&close.sighash(), &m.signature, key) {
                    return Ok(close);
                }
            }
        }
        Err(PeerFault::disconnect("closing_signed: bad signature, or a fee the opener cannot pay").into())
    }

    fn agree(&mut self, m: &ClosingSigned, close: Close, cx: &Context<'_>, out: &mut Out) {
        let own = cx.crypto.sign(&close.sighash(), &self.secrets.funding);
        let tx = close.with_signatures(&own, &m.signature);
        self.close_with(tx, close.fee, m.fee_satoshis, out);
    }

    /// A closing transaction with both signatures: keeps and publishes it.
    pub(crate) fn close_with(&mut self, tx: Transaction, fee: Sat, named_fee: Sat, out: &mut Out) {
        let Some(closing) = self.closing().cloned() else { return };
        if matches!(&self.phase, Phase::Closed(closed) if closed.fee >= fee) {
            // Published already is one that is mined no later.
            return;
        }
        out.notice(Level::Info, format!("closing transaction {} agreed, fee {fee}", tx.compute_txid()));
        out.publish.push((tx.clone(), "cooperative close"));
        self.phase = Phase::Closed(Closed { closing, tx, fee, named_fee, height: None });
        self.dirty.state = true;
        out.events.push(ChannelEvent::CloseAgreed);
    }

    /// The link is gone, and the negotiation with it.
    pub(crate) fn unlink_close(&mut self) {
        if let Some(closing) = self.closing_mut() {
            closing.talk = Talk::default();
        }
    }

    /// "if it has sent a previous shutdown: MUST retransmit shutdown" (BOLT 2, "Message Retransmission").
    pub(crate) fn relink_close(&mut self, out: &mut Out) {
        let script = self.closing().and_then(|c| c.local_script.clone());
        // BOLT 2 [2.again.40].
        if let (Some(scriptpubkey), Link::Up) = (script, self.link) {
            let message = Shutdown { channel_id: self.id(), scriptpubkey };
            self.send(Message::Shutdown(message), out);
        }
    }
}
