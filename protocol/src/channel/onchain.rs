//! Somebody published a commitment: what is known of it.
//!
//! In: an order to force-close, a transaction that spends the funding output. Out: our commitment, published; or a
//! record of theirs. What becomes of its outputs is the affair of `crate::onchain`. Read next: `crate::onchain`.

use crate::channel::cause::{Trigger, Why};
use crate::channel::close::{Closed, Closing};
use crate::channel::{Channel, ChannelEvent, Context, Out, Phase};
use crate::fault::LocalFault;
use crate::id::{ChannelId, Side};
use crate::node::effect::Level;
use crate::onchain::{Standing, Watch};
use crate::tx::commitment::commitment_number;
use crate::tx::script;
use crate::units::{Height, Msat, Sat};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use bitcoin::{OutPoint, ScriptBuf, Transaction, Txid};
use serde::{Deserialize, Serialize};

/// Who published what.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Onchain {
    /// Whose commitment; `None` when it is no commitment we know.
    pub owner: Option<Side>,
    /// Its number.
    pub number: Option<u64>,
    /// Its id.
    pub txid: Txid,
    /// The transaction, when it is ours to publish.
    pub tx: Option<Transaction>,
    /// In which block it is.
    pub height: Option<Height>,
    /// Why, in words.
    pub trigger: String,
    /// The close by agreement that was under way: the peer may hold both its signatures and publish it yet.
    pub closing: Option<Closing>,
}

impl Channel {
    /// Publishes our newest commitment. Refused (and `false`) while a later one may exist; nothing is left to do once
    /// a closing transaction is agreed on, which a peer that forgot the channel since does not change.
    ///
    /// # Errors
    /// A fault of ours.
    pub fn force_close(&mut self, why: Why, cx: &Context<'_>, out: &mut Out) -> Result<bool, LocalFault> {
        // BOLT 5 [5.fail.2].
        if matches!(self.phase, Phase::Closed(_) | Phase::Onchain(_)) {
            return Ok(true);
        }
        // BOLT 2, 5 [2.again.30, 5.fail.3].
        if self.doubt {
            out.notice(Level::Error, "not publishing a commitment that may be old; ask the peer to close");
            return Ok(false);
        }
        // BOLT 2, 5 [2.revoke.5, 5.fail.4, 5.revoked.1].
        let (commitment, tx) = self.signed_commitment(cx)?;
        let txid = tx.compute_txid();
        let trigger = why.words.clone();
        out.notice(Level::Warn, format!("closing by force with commitment {}: {trigger}", commitment.number));
        self.note_cause(why, format!("published this node's commitment {} ({txid})", commitment.number), cx);
        if self.may_be_funded() {
            out.publish.push((tx.clone(), "force close"));
        }
        self.unlink();
        let published = tx.clone();
        self.phase = Phase::Onchain(Onchain {
            owner: Some(Side::Local),
            number: Some(commitment.number),
            txid,
            tx: Some(tx),
            height: None,
            trigger,
            closing: self.wanted_close().cloned(),
        });
        self.dirty.state = true;
        out.events.push(ChannelEvent::ForceClosed);
        if self.is_unfunded() {
            // Nothing is there to be claimed, and no coin of the wallet's is to be spent on it.
            return Ok(true);
        }
        let watch = self.identify(&commitment.tx, None, cx)?;
        self.set_watch(watch, out);
        if let Some(watch) = &mut self.watch {
            // As it goes out, with its signatures.
            watch.commitment = published;
        }
        self.plan(cx, out)?;
        Ok(true)
    }

    /// Another transaction than the one watched so far spends the funding output.
    fn set_watch(&mut self, watch: Option<Watch>, out: &mut Out) {
        let old = core::mem::replace(&mut self.watch, watch);
        // What spends from the one before can never confirm: no version of it may count in the wallet.
        out.unreserve.extend(old.iter().flat_map(|w| &w.claims).flat_map(|c| c.txids.iter().copied()));
        let funded = old.iter().flat_map(|w| &w.claims).filter(|c| c.is_funded());
        out.unreserve.extend(funded.filter_map(|c| Some(c.tx.as_ref()?.compute_txid())));
        self.dirty.watch = true;
    }

    /// The outputs to look for in blocks.
    pub(crate) fn watched(&self) -> impl Iterator<Item = (OutPoint, ChannelId)> + '_ {
        self.watch.iter().filter(|_| !self.retired).flat_map(|w| &w.outputs).map(|o| (o.outpoint, self.id()))
    }

    /// Whether the funding output may exist: ours was published, or theirs was seen in a block.
    pub(crate) const fn may_be_funded(&self) -> bool {
        (matches!(self.terms.opener, Side::Local) && !self.is_unfunded()) || self.confirmed.is_some()
    }

    /// What its funding output pays to.
    pub fn funding_script(&self) -> ScriptBuf {
        let (ours, theirs) = (&self.terms.local.basepoints, &self.terms.remote.basepoints);
        script::p2wsh(&script::funding(&ours.funding_pubkey, &theirs.funding_pubkey))
    }

    /// Our user was to send the funding transaction, and as far as is known has not.
    pub const fn is_unfunded(&self) -> bool {
        let by_us = matches!(self.terms.opener, Side::Local);
        by_us && self.funding_tx.is_none() && self.confirmed.is_none() && !self.retired
    }

    /// Such a one that was ended. It is kept, and closed by force should its funding appear all the same.
    pub const fn is_given_up(&self) -> bool {
        self.is_unfunded() && !self.wants_link()
    }

    /// Our user sends its funding transaction: from here on this node sees to it.
    pub fn funding_given(&mut self, tx: &Transaction) {
        if self.is_unfunded() {
            self.funding_tx = Some(tx.clone());
            self.dirty.funding_tx = true;
        }
    }

    /// Closed by force before the peer's funding was seen, and nothing of ours would be in it: not worth keeping.
    pub fn is_void(&self) -> bool {
        // BOLT 5 [5.fail.1].
        matches!(&self.phase, Phase::Onchain(o) if o.height.is_none())
            && !self.may_be_funded()
            && self.to_us() == Msat::ZERO
    }

    /// The funding output was spent in block `height`.
    ///
    /// # Errors
    /// A fault of ours (keys).
    pub fn funding_spent(
        &mut self,
        tx: &Transaction,
        height: Height,
        cx: &Context<'_>,
        out: &mut Out,
    ) -> Result<(), LocalFault> {
        // BOLT 5 [5.watch.4].
        self.dirty.state = true;
        let txid = tx.compute_txid();
        if self.is_cooperative(tx) {
            self.closed_by_agreement(tx, height, cx, out);
            self.set_watch(None, out);
            return Ok(());
        }
        self.unlink();
        let watch = self.identify(tx, Some(height), cx)?;
        if let Phase::Onchain(onchain) = &mut self.phase {
            if onchain.txid == txid {
                onchain.height = Some(height);
                self.tell(format!("the commitment {txid} is in {height}"), cx);
                if self.watch.as_ref().is_some_and(|w| w.commitment.compute_txid() == txid) {
                    self.commitment_born(txid, height);
                } else {
                    self.set_watch(watch, out);
                }
                return self.plan(cx, out);
            }
        }
        let (kind, trigger, level) = describe(watch.as_ref(), self.is_lost());
        out.notice(level, format!("{trigger} ({txid} in {height})"));
        let decision = match kind {
            Trigger::PeerCheated => "takes every output of it",
            _ => "takes what is ours as soon as each output's script allows",
        };
        self.note_cause(Why::new(kind, format!("{trigger} ({txid})")), decision, cx);
        let closing = self.wanted_close().cloned();
        let (owner, number) = (watch.as_ref().map(|w| w.owner), watch.as_ref().map(|w| w.number));
        let height = Some(height);
        self.phase = Phase::Onchain(Onchain { owner, number, txid, tx: None, height, trigger, closing });
        self.set_watch(watch, out);
        self.plan(cx, out)
    }

    /// A closing transaction pays only to the scripts of both `shutdown`s. So may an old commitment, when the peer's
    /// `shutdown` named its script: what has the form of a commitment is one, for no close by agreement has it.
    fn is_cooperative(&self, tx: &Transaction) -> bool {
        if commitment_number(tx, 0).is_some() {
            return false;
        }
        if let Phase::Closed(closed) = &self.phase {
            if closed.tx.compute_txid() == tx.compute_txid() {
                return true;
            }
        }
        let Some(closing) = self.wanted_close() else { return false };
        let ours = |script: &ScriptBuf| {
            Some(script) == closing.local_script.as_ref() || Some(script) == closing.remote_script.as_ref()
        };
        tx.output.iter().all(|o| ours(&o.script_pubkey))
    }

    /// The close by agreement that was begun, even if somebody gave it up since.
    fn wanted_close(&self) -> Option<&Closing> {
        match &self.phase {
            Phase::Onchain(onchain) => onchain.closing.as_ref(),
            _ => self.closing(),
        }
    }

    fn closed_by_agreement(&mut self, tx: &Transaction, height: Height, cx: &Context<'_>, out: &mut Out) {
        let spent: u64 = tx.output.iter().map(|o| o.value.to_sat()).fold(0, u64::saturating_add);
        let fee = self.terms.capacity.saturating_sub(Sat(spent));
        if let Some(closing) = self.wanted_close().cloned() {
            out.notice(Level::Info, format!("closed by agreement in {height}"));
            let why = Why::new(Trigger::Agreed(closing.by), agreed_words(closing.by));
            self.note_cause(why, format!("{} is in {height}", tx.compute_txid()), cx);
            let (tx, height) = (tx.clone(), Some(height));
            self.phase = Phase::Closed(Closed { closing, tx, fee, named_fee: fee, height });
        }
    }

    /// The block with the spending transaction left the chain.
    pub fn spend_unseen(&mut self, from: Height) {
        let (seen, republish) = match &mut self.phase {
            Phase::Closed(closed) => (&mut closed.height, true),
            Phase::Onchain(onchain) => (&mut onchain.height, true),
            _ => return,
        };
        if republish && seen.is_some_and(|h| h >= from) {
            *seen = None;
            self.dirty.state = true;
        }
        self.watch_undone(from);
    }

    /// The transactions of this channel that are wanted in a block and are not yet in one, parents first: what
    /// spends a funding output needs the funding.
    pub fn unconfirmed(&self) -> Vec<(&Transaction, &'static str)> {
        let funding = self.funding_tx.as_ref().filter(|_| self.confirmed.is_none());
        let spend = match &self.phase {
            Phase::Closed(closed) if closed.height.is_none() && !self.is_unfunded() => {
                Some((&closed.tx, "cooperative close"))
            }
            // Held back until there is something to spend.
            Phase::Onchain(onchain) if onchain.height.is_none() && self.may_be_funded() => {
                // The peer's own, should a reorganisation have thrown it out: what hangs on it is ours.
                let theirs = self.watch.as_ref().map(|w| &w.commitment);
                onchain.tx.as_ref().or(theirs).map(|tx| (tx, "force close"))
            }
            _ => None,
        };
        funding.map(|tx| (tx, "funding")).into_iter().chain(spend).collect()
    }

    /// Nothing is left to be said to the peer about it: a transaction decides, ours or the agreed one.
    pub fn is_over_for_peer(&self) -> bool {
        match &self.phase {
            Phase::Closed(closed) => closed.height.is_some(),
            Phase::Onchain(_) => true,
            _ => false,
        }
    }

    /// The height at which the spend of the funding output confirmed.
    pub fn spent_height(&self) -> Option<Height> {
        match &self.phase {
            Phase::Closed(closed) => closed.height,
            Phase::Onchain(onchain) => onchain.height,
            _ => None,
        }
    }
}

/// Who asked for an agreement, in words.
pub(crate) const fn agreed_words(by: Side) -> &'static str {
    match by {
        Side::Local => "this node's user asked for the close",
        Side::Remote => "the peer asked for the close",
    }
}

/// What happened, in words.
fn describe(watch: Option<&Watch>, lost: bool) -> (Trigger, String, Level) {
    let Some(watch) = watch else {
        if lost {
            let text =
                "closed by agreement, it seems, after its backup was made: what was ours went to the wallet";
            return (Trigger::Unknown, text.into(), Level::Warn);
        }
        // BOLT 5 [5.general.1].
        let text = "the funding output was spent by a transaction that is no commitment";
        return (Trigger::Unknown, text.into(), Level::Error);
    };
    let n = watch.number;
    match (watch.owner, watch.standing) {
        (Side::Remote, Standing::Valid) => {
            let text = format!("the peer closed by force with its commitment {n}");
            (Trigger::PeerClosed, text, Level::Warn)
        }
        (Side::Remote, Standing::Revoked) => {
            let text =
                format!("the peer CHEATS: it published its revoked commitment {n}; all of it is taken");
            (Trigger::PeerCheated, text, Level::Error)
        }
        (Side::Remote, Standing::Ahead) => {
            // BOLT 5 [5.remote.4].
            let text = "later than any this node knows: it lost state, and claims what its own key can take";
            let text = format!("the peer closed by force with its commitment {n}, {text}");
            (Trigger::StateLost, text, Level::Error)
        }
        (Side::Local, Standing::Revoked) => {
            let text =
                format!("this node's revoked commitment {n} was published; the peer may take everything");
            (Trigger::OwnRevoked, text, Level::Error)
        }
        (Side::Local, _) => {
            (Trigger::OwnPublished, format!("this node's commitment {n} was published"), Level::Warn)
        }
    }
}
