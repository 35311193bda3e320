//! option_simple_close: each side may offer a closing transaction that it pays for itself (BOLT 2, "Closing
//! Negotiation: closing_complete and closing_sig").
//!
//! In: two exchanged `shutdown`s and no HTLCs. Out: `closing_complete` of ours, `closing_sig` for theirs; whichever
//! transaction confirms closes the channel, and either side may bump its own.
//! Read next: `onchain`.

use crate::channel::{Channel, Context, Out};
use crate::fault::{local, LocalFault, PeerFault, Trouble};
use crate::id::Side;
use crate::tx::close::{
    build_simple_close, close_weight, closee_choice, closer_offers, may_accept_shutdown, CloseOutputs,
    CloseTerms,
};
use crate::units::{Feerate, Sat};
use crate::wire::message::ClosingComplete;
use crate::wire::Message;
use secp256k1::ecdsa::Signature;

/// The TLV that carries the signature for a form.
fn slot(m: &ClosingComplete, which: CloseOutputs) -> Option<Signature> {
    match which {
        CloseOutputs::CloserOnly => m.closer_output_only,
        CloseOutputs::CloseeOnly => m.closee_output_only,
        CloseOutputs::Both => m.closer_and_closee_outputs,
    }
}

fn fill(m: &mut ClosingComplete, which: CloseOutputs, signature: Signature) {
    match which {
        CloseOutputs::CloserOnly => m.closer_output_only = Some(signature),
        CloseOutputs::CloseeOnly => m.closee_output_only = Some(signature),
        CloseOutputs::Both => m.closer_and_closee_outputs = Some(signature),
    }
}

impl Channel {
    /// Offers a transaction that we pay for, once a link.
    pub(crate) fn offer_simple_close(&mut self, cx: &Context<'_>, out: &mut Out) -> Result<(), LocalFault> {
        // BOLT 2 [2.simple.15].
        if self.closing().is_none_or(|c| c.talk.offered.is_some()) {
            return Ok(());
        }
        let terms = self.close_terms()?;
        let weight = close_weight([terms.local_script.as_script(), terms.remote_script.as_script()]);
        let highest = self.closing().and_then(|c| c.feerange).map_or(cx.feerate_normal, |(_, high)| high);
        let feerate = cx.feerate_normal.min(highest);
        let least = self.least_fee(weight, cx).max(Feerate::FLOOR.fee(weight));
        // BOLT 2 [2.simple.1].
        let fee = feerate.fee(weight).max(least).min(terms.to_local.floor_sat());
        if fee < least || highest < Feerate::FLOOR {
            // We cannot pay what relays: the peer's offer closes the channel.
            return Ok(());
        }
        let offers = closer_offers(&terms, Side::Local, fee).map_err(local)?;
        if offers.is_empty() {
            // Nothing of ours is worth an output: the peer's offer closes the channel.
            return Ok(());
        }
        // BOLT 2 [2.simple.5].
        let locktime = 0;
        let mut message = self.complete_message(&terms, Side::Local, fee, locktime);
        for which in offers {
            // BOLT 2 [2.simple.13, 2.simple.14].
            let close = build_simple_close(&terms, Side::Local, fee, locktime, *which).map_err(local)?;
            fill(&mut message, *which, cx.crypto.sign(&close.sighash(), &self.secrets.funding));
        }
        if let Some(closing) = self.closing_mut() {
            closing.talk.offered = Some((fee, locktime));
        }
        self.send(Message::ClosingComplete(message), out);
        Ok(())
    }

    fn complete_message(&self, terms: &CloseTerms, closer: Side, fee: Sat, locktime: u32) -> ClosingComplete {
        // BOLT 2 [2.simple.3, 2.simple.4].
        let (closer_script, closee_script) = match closer {
            Side::Local => (&terms.local_script, &terms.remote_script),
            Side::Remote => (&terms.remote_script, &terms.local_script),
        };
        ClosingComplete {
            channel_id: self.id(),
            closer_scriptpubkey: closer_script.clone(),
            closee_scriptpubkey: closee_script.clone(),
            fee_satoshis: fee,
            locktime,
            closer_output_only: None,
            closee_output_only: None,
            closer_and_closee_outputs: None,
        }
    }

    /// `closing_complete`: the peer offers a transaction that it pays for.
    pub(crate) fn on_closing_complete(
        &mut self,
        m: &ClosingComplete,
        cx: &Context<'_>,
        out: &mut Out,
    ) -> Result<(), Trouble> {
        let mut terms = self.check_simple_close()?;
        if m.closee_scriptpubkey != terms.local_script {
            return Err(PeerFault::disconnect("closing_complete: not our script").into());
        }
        if !may_accept_shutdown(&m.closer_scriptpubkey, true, true) {
            return Err(PeerFault::disconnect("closing_complete: not a standard script").into());
        }
        terms.remote_script = m.closer_scriptpubkey.clone();
        let bad = |_| PeerFault::disconnect("closing_complete: a fee above the closer's balance");
        let has_both = m.closer_and_closee_outputs.is_some();
        let which = closee_choice(&terms, Side::Remote, m.fee_satoshis, has_both).map_err(bad)?;
        let close =
            // BOLT 2 [2.simple.18].
            build_simple_close(&terms, Side::Remote, m.fee_satoshis, m.locktime, which).map_err(bad)?;
        let digest = close.sighash();
        let key = self.terms.remote.basepoints.funding_pubkey;
        // BOLT 2 [2.simple.23, 2.simple.24, 2.simple.25].
        let signature = slot(m, which)
            .filter(|s| cx.crypto.verify(&digest, s, &key))
            .ok_or_else(|| PeerFault::disconnect("closing_complete: bad or missing signature"))?;
        let own = cx.crypto.sign(&digest, &self.secrets.funding);
        let mut answer = self.complete_message(&terms, Side::Remote, m.fee_satoshis, m.locktime);
        // BOLT 2 [2.simple.27].
        fill(&mut answer, which, own);
        if let Some(closing) = self.closing_mut() {
            // "the last script it received" (BOLT 2) is where a later offer of ours must pay.
            // BOLT 2 [2.simple.28].
            closing.remote_script = Some(m.closer_scriptpubkey.clone());
        }
        self.send(Message::ClosingSig(answer), out);
        // BOLT 2 [2.simple.26].
        self.close_with(close.with_signatures(&own, &signature), close.fee, m.fee_satoshis, out);
        Ok(())
    }

    /// `closing_sig`: the peer signed the transaction that we offered.
    pub(crate) fn on_closing_sig(
        &mut self,
        m: &ClosingComplete,
        cx: &Context<'_>,
        out: &mut Out,
    ) -> Result<(), Trouble> {
        let terms = self.check_simple_close()?;
        let offered = self.closing().and_then(|c| c.talk.offered);
        let Some((fee, locktime)) = offered else {
            return Err(PeerFault::disconnect("closing_sig without closing_complete").into());
        };
        let forms = [CloseOutputs::CloserOnly, CloseOutputs::CloseeOnly, CloseOutputs::Both];
        let mut present = forms.into_iter().filter_map(|w| Some((w, slot(m, w)?)));
        // "If closing_sig does not contain exactly one signature: ..." (BOLT 2).
        // BOLT 2 [2.simple.30].
        let (Some((which, signature)), None) = (present.next(), present.next()) else {
            return Err(PeerFault::disconnect("closing_sig: not exactly one signature").into());
        };
        // BOLT 2 [2.simple.31]. A form that we did not sign may leave our own output out.
        if !closer_offers(&terms, Side::Local, fee).map_err(local)?.contains(&which) {
            return Err(PeerFault::disconnect("closing_sig: a form that was not offered").into());
        }
        let scripts = (&m.closer_scriptpubkey, &m.closee_scriptpubkey);
        let same = m.fee_satoshis == fee
            && m.locktime == locktime
            && scripts == (&terms.local_script, &terms.remote_script);
        let close = build_simple_close(&terms, Side::Local, fee, locktime, which)
            .map_err(|_| PeerFault::disconnect("closing_sig: for a transaction we did not offer"))?;
        let digest = close.sighash();
        // BOLT 2 [2.simple.29, 2.simple.32, 2.simple.33].
        if !same || !cx.crypto.verify(&digest, &signature, &self.terms.remote.basepoints.funding_pubkey) {
            return Err(PeerFault::disconnect("closing_sig: bad signature").into());
        }
        let own = cx.crypto.sign(&digest, &self.secrets.funding);
        // BOLT 2 [2.simple.34].
        self.close_with(close.with_signatures(&own, &signature), close.fee, m.fee_satoshis, out);
        Ok(())
    }

    fn check_simple_close(&self) -> Result<CloseTerms, Trouble> {
        let ready = self.closing().is_some_and(|c| c.local_script.is_some() && c.remote_script.is_some());
        if !self.terms.simple_close || !ready || !self.ledger.htlcs.is_empty() {
            return Err(PeerFault::disconnect("closing_complete or closing_sig out of place").into());
        }
        Ok(self.close_terms()?)
    }
}
