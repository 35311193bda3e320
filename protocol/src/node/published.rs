//! What the chain backend says of a transaction of ours, and who waits to hear it.
//!
//! In: transactions that a command waits for, the backend's answers. Out: replies, log lines by what an answer means, claims
//! raised that were refused for their fee. Read next: `effect` (`Publish`), `crate::onchain`.

use crate::channel::Channel;
use crate::id::CommandId;
use crate::node::command::Reply;
use crate::node::effect::{Effect, Level};
use crate::node::Node;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use bitcoin::Txid;

/// Parts of a chain backend's words for: what it spends is spent, in a block or by a better transaction in the mempool.
const OVERTAKEN: [&str; 3] = ["spent already", "txn-mempool-conflict", "insufficient fee"];
/// Parts of a chain backend's words for: a better fee would do.
const LOW_FEE: [&str; 2] = ["min relay fee not met", "min fee not met"];
/// Parts of a chain backend's words for: a higher fee would do.
const FOR_ITS_FEE: [&str; 3] = ["insufficient fee", LOW_FEE[0], LOW_FEE[1]];
/// How long an answer waits for the chain backend to take a transaction.
const PUBLISH_WAIT_MS: u64 = 15_000;
/// Names of published transactions that are remembered, so that each is logged once.
const MAX_TAKEN: usize = 1_000;

impl Node {
    /// Publishes, and answers once the chain backend has the transaction, or did not say for a while.
    pub(super) fn publish_and_reply(
        &mut self,
        tx: bitcoin::Transaction,
        why: &'static str,
        id: CommandId,
        reply: Reply,
    ) {
        let until = self.now.plus_ms(PUBLISH_WAIT_MS);
        self.publishing.entry(tx.compute_txid()).or_default().push((id, reply, until));
        self.out.effects.push(Effect::Publish { tx, why });
    }

    /// A backend that is away does not keep users waiting: the transaction is kept and offered again.
    pub(super) fn publish_timers(&mut self) {
        let now = self.now;
        let mut late = Vec::new();
        for waiting in self.publishing.values_mut() {
            late.extend(waiting.extract_if(.., |(_, _, until)| *until <= now));
        }
        self.publishing.retain(|_, w| !w.is_empty());
        for (id, reply, _) in late {
            self.reply(id, Ok(reply));
        }
    }

    pub(super) fn on_published(&mut self, txid: Txid, result: Result<(), String>) {
        for (id, reply, _) in self.publishing.remove(&txid).unwrap_or_default() {
            match &result {
                Ok(()) => self.reply(id, Ok(reply)),
                // Agreed is agreed: another transaction of the same close may have got in first.
                Err(_) if matches!(reply, Reply::Closed { .. }) => self.reply(id, Ok(reply)),
                Err(reason) => self.refuse(
                    id,
                    301,
                    format!("the chain backend refused transaction {txid}: {reason}. It is offered again at each block"),
                ),
            }
        }
        if result.is_err() {
            self.taken.remove(&txid);
        }
        match result {
            Ok(()) => {
                self.is_claim_answered(txid, true);
                // It is offered again at every block; that is no news.
                if self.taken.len() >= MAX_TAKEN {
                    self.taken.clear();
                }
                if self.taken.insert(txid) {
                    self.notice(Level::Info, format!("transaction {txid} is with the chain backend"));
                }
            }
            // With option_simple_close each side has a closing transaction: one of the two comes too late.
            Err(reason) if self.is_one_of_two_closes(txid) => {
                let text =
                    format!("closing transaction {txid} was not taken ({reason}): the peer's may be there");
                self.notice(Level::Info, text);
            }
            Err(reason) if self.is_claim_answered(txid, false) => {
                self.notice(
                    Level::Info,
                    format!("claim {txid} was not taken ({reason}): raised, or made anew"),
                );
                if FOR_ITS_FEE.iter().any(|words| reason.contains(words)) {
                    self.outbid(txid);
                }
            }
            Err(reason) if LOW_FEE.iter().any(|words| reason.contains(words)) && self.has_child(txid) => {
                let text = format!(
                    "commitment {txid} pays too little for mempools now ({reason}): its child pays for both"
                );
                self.notice(Level::Info, text);
            }
            Err(reason) => {
                // Another spent it first, which blocks will tell; it is offered at each of them all the same.
                let beaten = OVERTAKEN.iter().any(|words| reason.contains(words));
                self.notice(
                    if beaten { Level::Info } else { Level::Error },
                    format!("transaction {txid} was refused: {reason}; tried again at the next block"),
                );
            }
        }
    }

    /// Whether it is a commitment of ours that a child of its own pays for.
    fn has_child(&self, txid: Txid) -> bool {
        let ours = |c: &&Channel| matches!(&c.phase, crate::channel::Phase::Onchain(o) if o.txid == txid);
        let watch = self.channels.values().find(ours).and_then(|c| c.watch.as_ref());
        watch.is_some_and(|w| w.claims.iter().any(|c| c.form == crate::onchain::claim::Form::Child))
    }

    fn is_one_of_two_closes(&self, txid: Txid) -> bool {
        self.channels.values().filter(|c| c.terms.simple_close).any(
            |c| matches!(&c.phase, crate::channel::Phase::Closed(closed) if closed.tx.compute_txid() == txid),
        )
    }
}
