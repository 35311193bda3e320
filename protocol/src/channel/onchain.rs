//! Somebody published a commitment: what is known of it.
//!
//! In: an order to force-close, a transaction that spends the funding output. Out: our commitment, published; or a
//! record of theirs. Claiming the outputs of a commitment (BOLT 5) is not built yet: the node says so loudly.
//! Read next: `node`.

use crate::channel::close::{Closed, Closing};
use crate::channel::{Channel, ChannelEvent, Context, Link, Out, Phase};
use crate::fault::LocalFault;
use crate::id::Side;
use crate::node::effect::Level;
use crate::tx::commitment::commitment_number;
use crate::units::{Height, Msat, Sat};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use bitcoin::{Transaction, Txid};
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
    pub fn force_close(
        &mut self,
        trigger: &str,
        cx: &Context<'_>,
        out: &mut Out,
    ) -> Result<bool, LocalFault> {
        if matches!(self.phase, Phase::Closed(_) | Phase::Onchain(_)) {
            return Ok(true);
        }
        // BOLT 2 [2.again.30].
        if self.doubt {
            out.notice(Level::Error, "not publishing a commitment that may be old; ask the peer to close");
            return Ok(false);
        }
        // BOLT 2 [2.revoke.5].
        let (commitment, tx) = self.signed_commitment(cx)?;
        let txid = tx.compute_txid();
        out.notice(Level::Warn, format!("closing by force with commitment {}: {trigger}", commitment.number));
        if self.may_be_funded() {
            out.publish.push((tx.clone(), "force close"));
        }
        self.phase = Phase::Onchain(Onchain {
            owner: Some(Side::Local),
            number: Some(commitment.number),
            txid,
            tx: Some(tx),
            height: None,
            trigger: trigger.into(),
            closing: self.wanted_close().cloned(),
        });
        self.link = Link::Down;
        self.dirty.state = true;
        out.events.push(ChannelEvent::ForceClosed);
        Ok(true)
    }

    /// Whether the funding output may exist: ours was published, or theirs was seen in a block.
    const fn may_be_funded(&self) -> bool {
        matches!(self.terms.opener, Side::Local) || self.confirmed.is_some()
    }

    /// Closed by force before the peer's funding was seen, and nothing of ours would be in it: not worth keeping.
    pub fn is_void(&self) -> bool {
        matches!(&self.phase, Phase::Onchain(o) if o.height.is_none())
            && !self.may_be_funded()
            && self.to_us() == Msat::ZERO
    }

    /// The funding output was spent in block `height`.
    pub fn funding_spent(&mut self, tx: &Transaction, height: Height, out: &mut Out) {
        self.dirty.state = true;
        let txid = tx.compute_txid();
        if self.is_cooperative(tx) {
            self.closed_by_agreement(tx, height, out);
            return;
        }
        if let Phase::Onchain(onchain) = &mut self.phase {
            if onchain.txid == txid {
                onchain.height = Some(height);
                return;
            }
        }
        let number = commitment_number(tx, self.terms.obscure());
        let owner = number.map(|_| Side::Remote);
        let revoked = number.is_some_and(|n| n < self.commits.remote_number);
        let trigger = match number {
            Some(n) if revoked => format!("the peer published its REVOKED commitment {n}"),
            Some(n) => format!("the peer closed by force with its commitment {n}"),
            None => "the funding output was spent by a transaction that is no commitment".into(),
        };
        out.notice(Level::Error, format!("{trigger} ({txid}); claiming its outputs is not built yet"));
        let closing = self.wanted_close().cloned();
        let height = Some(height);
        self.phase = Phase::Onchain(Onchain { owner, number, txid, tx: None, height, trigger, closing });
        self.link = Link::Down;
    }

    /// A closing transaction pays only to the scripts of both `shutdown`s; a commitment cannot.
    fn is_cooperative(&self, tx: &Transaction) -> bool {
        if let Phase::Closed(closed) = &self.phase {
            if closed.tx.compute_txid() == tx.compute_txid() {
                return true;
            }
        }
        let Some(closing) = self.wanted_close() else { return false };
        let ours = |script: &bitcoin::ScriptBuf| {
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

    fn closed_by_agreement(&mut self, tx: &Transaction, height: Height, out: &mut Out) {
        let spent: u64 = tx.output.iter().map(|o| o.value.to_sat()).fold(0, u64::saturating_add);
        let fee = self.terms.capacity.saturating_sub(Sat(spent));
        if let Some(closing) = self.wanted_close().cloned() {
            out.notice(Level::Info, format!("closed by agreement in {height}"));
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
    }

    /// The transactions of this channel that are wanted in a block and are not yet in one, parents first: what
    /// spends a funding output needs the funding.
    pub fn unconfirmed(&self) -> Vec<(&Transaction, &'static str)> {
        let funding = self.funding_tx.as_ref().filter(|_| self.confirmed.is_none());
        let spend = match &self.phase {
            Phase::Closed(closed) if closed.height.is_none() => Some((&closed.tx, "cooperative close")),
            // Held back until there is something to spend.
            Phase::Onchain(onchain) if onchain.height.is_none() && self.may_be_funded() => {
                onchain.tx.as_ref().map(|tx| (tx, "force close"))
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
