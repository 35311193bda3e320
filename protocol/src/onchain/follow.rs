//! What blocks do to a watch: outputs are spent, secrets come to light, second-level outputs appear; and all of it undone.
//!
//! In: transactions in blocks, blocks that went away, what the network said of ours. Out: a changed watch, and the end
//! of each HTLC: paid as soon as its secret is seen, failed once nobody can show it any more. Read next: `deadline`.

use super::{Kind, Lock, Output, Spent, Standing, Watch, SETTLED_DEPTH};
use crate::channel::htlc::{Htlc, Removal};
use crate::channel::{Channel, ChannelEvent, Context, Out};
use crate::fault::LocalFault;
use crate::id::{HtlcId, Preimage, Side};
use crate::node::effect::Level;
use crate::tx::script;
use crate::units::{Height, Sat};
use alloc::format;
use alloc::vec::Vec;
use bitcoin::{OutPoint, Transaction, TxIn, Txid};

/// Below this an output may cost more to take than it holds: nobody waits for it for ever, though it is taken if it pays.
const SMALL_SAT: Sat = Sat(1_000);
/// So long such an output keeps a channel from being over, in blocks: two weeks.
const SMALL_BLOCKS: u32 = 2_016;
/// Blocks before its expiry within which an HTLC on chain is not begun to be claimed: under rising fees it would be a race.
const CLAIM_BLOCKS: u32 = 10;

/// Settled, or ended by the chain. One that the peer gave back, but never for good, is not.
const fn is_ended(htlc: &Htlc) -> bool {
    matches!(htlc.removal, Some(Removal::Fulfilled(_) | Removal::OnChain))
}

impl Channel {
    /// Input `index` of `tx`, in block `height`, spends something that is watched.
    ///
    /// # Errors
    /// A fault of ours (keys).
    pub(crate) fn output_spent(
        &mut self,
        tx: &Transaction,
        index: usize,
        height: Height,
        cx: &Context<'_>,
        out: &mut Out,
    ) -> Result<(), LocalFault> {
        let Some(mut watch) = self.watch.take() else { return Ok(()) };
        let done = self.note_spend(&mut watch, tx, index, height, cx, out);
        self.dirty.watch = true;
        self.watch = Some(watch);
        done
    }

    fn note_spend(
        &mut self,
        watch: &mut Watch,
        tx: &Transaction,
        index: usize,
        height: Height,
        cx: &Context<'_>,
        out: &mut Out,
    ) -> Result<(), LocalFault> {
        let Some(input) = tx.input.get(index) else { return Ok(()) };
        let txid = tx.compute_txid();
        // A claim may have left before it was kept, and a crash then forgot its name: it pays to us alone all the same.
        let ours = watch.claims.iter().any(|c| c.txids.contains(&txid))
            || tx.output.iter().all(|o| o.script_pubkey == *cx.close_script);
        let Some(at) = watch.outputs.iter().position(|o| o.outpoint == input.previous_output) else {
            return Ok(());
        };
        watch.outputs[at].spent = Some(Spent { txid, height, ours });
        let output = watch.outputs[at].clone();
        let (kind, whose) =
            (output.kind.name(), if ours { "this node's" } else { "the peer's or another's" });
        let text = format!("{kind} of {} spent in {height} by {whose} {txid}", output.amount);
        out.notice(Level::Info, text.clone());
        self.tell(text, cx);
        let Some(lock) = &output.lock else {
            if watch.standing == Standing::Ahead {
                self.learn_any(input, cx, out);
            }
            return Ok(());
        };
        if output.kind == Kind::Htlc {
            // BOLT 5 [5.localoffer.1, 5.remoteoffer.1, 5.revoked.7].
            let shown = input.witness.iter().find_map(|item| secret(item, lock));
            if let Some(preimage) = shown {
                watch.outputs[at].lock = Some(Lock { preimage: Some(preimage.clone()), ..lock.clone() });
                self.learn(lock.id, preimage, cx, out);
            }
            self.second_level(watch, tx, index, lock, height, cx)?;
        }
        Ok(())
    }

    /// Of a commitment that this node lost the state for nobody here knows which output is which HTLC: the secret of any is
    /// looked for in whatever spends one.
    fn learn_any(&mut self, input: &TxIn, cx: &Context<'_>, out: &mut Out) {
        let items = input.witness.iter().filter_map(|item| item.try_into().ok());
        for preimage in items.map(Preimage) {
            let hash = preimage.hash();
            let shown = |h: &&Htlc| h.id.offered_by == Side::Local && h.payment_hash == hash;
            let ids: Vec<HtlcId> = self.ledger.htlcs.values().filter(shown).map(|h| h.id).collect();
            ids.into_iter().for_each(|id| self.learn(id, preimage.clone(), cx, out));
        }
    }

    /// The secret of an HTLC of ours: the payment is made, whatever becomes of the channel.
    fn learn(&mut self, id: HtlcId, preimage: Preimage, cx: &Context<'_>, out: &mut Out) {
        if id.offered_by != Side::Local {
            return;
        }
        if let Some(htlc) = self.ledger.htlcs.get_mut(&id) {
            if matches!(htlc.removal, Some(Removal::OnChain)) {
                let text = format!(
                    "LOST {}: HTLC {} had ended {SETTLED_DEPTH} blocks deep and was given back to its payer; a reorganisation \
                     undid that, and now the peer took it with its secret",
                    htlc.amount, id.id
                );
                out.notice(Level::Error, text.clone());
                if let Some(cause) = &mut self.annals.cause {
                    cause.tell_for_sure(cx, text);
                    self.dirty.annals = true;
                }
            }
            if !htlc.removal.as_ref().is_some_and(Removal::is_fulfilled) {
                htlc.removal = Some(Removal::Fulfilled(preimage.clone()));
                self.dirty.htlc(id);
            }
        }
        out.events.push(ChannelEvent::Fulfilled { id, preimage });
    }

    /// An HTLC transaction of the commitment's owner pays, with the same index, to a delayed output.
    fn second_level(
        &self,
        watch: &mut Watch,
        tx: &Transaction,
        index: usize,
        lock: &Lock,
        height: Height,
        cx: &Context<'_>,
    ) -> Result<(), LocalFault> {
        // BOLT 5 [5.localoffer.4, 5.localtake.3, 5.revoked.5, 5.revoked.6].
        // Of a commitment of the peer's that is no cheat, it is the peer's.
        if watch.owner == Side::Remote && watch.standing != Standing::Revoked {
            return Ok(());
        }
        let (Some(keys), Some(paid)) = (self.watch_keys(watch, cx)?, tx.output.get(index)) else {
            return Ok(());
        };
        if paid.script_pubkey != script::p2wsh(&self.delayed_script(watch.owner, &keys.own)) {
            return Ok(());
        }
        let Ok(vout) = u32::try_from(index) else { return Ok(()) };
        let outpoint = OutPoint { txid: tx.compute_txid(), vout };
        let output = Output {
            outpoint,
            amount: Sat(paid.value.to_sat()),
            kind: Kind::Second,
            lock: Some(lock.clone()),
            born: Some(height),
            spent: None,
        };
        match watch.outputs.iter_mut().find(|o| o.outpoint == outpoint) {
            Some(known) => known.born = Some(height),
            None => watch.outputs.push(output),
        }
        Ok(())
    }

    /// Whether an HTLC of the peer's can still be taken on chain by its secret, at height `tip`.
    pub(crate) fn can_claim(&self, id: HtlcId, tip: Height) -> bool {
        self.watch.as_ref().is_some_and(|watch| {
            let here = |o: &Output| {
                let lock = o.lock.as_ref().filter(|lock| lock.id == id);
                o.kind == Kind::Htlc
                    && o.spent.is_none()
                    && lock.is_some_and(|l| l.cltv_expiry > tip.plus(CLAIM_BLOCKS))
            };
            watch.standing == Standing::Valid && watch.outputs.iter().any(here)
        })
    }

    /// Our user settled a held HTLC of the peer's after the channel had closed: taken on chain. `false` when it is too late.
    ///
    /// # Errors
    /// A fault of ours (keys).
    pub(crate) fn settle_late(
        &mut self,
        id: HtlcId,
        preimage: Preimage,
        cx: &Context<'_>,
        out: &mut Out,
    ) -> Result<bool, LocalFault> {
        if !self.can_claim(id, cx.tip) {
            return Ok(false);
        }
        let Some(htlc) = self.ledger.htlcs.get_mut(&id) else { return Ok(false) };
        htlc.removal = Some(Removal::Fulfilled(preimage));
        self.dirty.htlc(id);
        self.plan(cx, out)?;
        Ok(true)
    }

    /// The next hop of a forward showed the secret of an HTLC of the peer's, after this channel had closed: it is taken on
    /// chain however late that is. `false` when nothing of it is there to take.
    ///
    /// # Errors
    /// A fault of ours (keys).
    pub(crate) fn learn_preimage(
        &mut self,
        id: HtlcId,
        preimage: Preimage,
        cx: &Context<'_>,
        out: &mut Out,
    ) -> Result<bool, LocalFault> {
        let Some(htlc) = self.ledger.htlcs.get_mut(&id) else { return Ok(false) };
        if matches!(htlc.removal, Some(Removal::Fulfilled(_))) {
            return Ok(true);
        }
        htlc.removal = Some(Removal::Fulfilled(preimage));
        self.dirty.htlc(id);
        self.plan(cx, out)?;
        let here = |o: &Output| {
            let is_it = o.kind == Kind::Htlc && o.lock.as_ref().is_some_and(|lock| lock.id == id);
            is_it && o.spent.is_none_or(|spent| spent.ours)
        };
        let takeable = |watch: &Watch| match watch.standing {
            Standing::Valid => watch.outputs.iter().any(here),
            // All of the channel is taken from a cheat, this with it.
            Standing::Revoked => watch.owner == Side::Remote,
            Standing::Ahead => false,
        };
        Ok(self.watch.as_ref().is_some_and(takeable))
    }

    /// The commitment itself came into block `height`.
    pub(crate) fn commitment_born(&mut self, txid: Txid, height: Height) {
        let Some(watch) = &mut self.watch else { return };
        for output in watch.outputs.iter_mut().filter(|o| o.outpoint.txid == txid) {
            output.born = Some(height);
        }
        self.dirty.watch = true;
    }

    /// The block at `from` and all after it are gone.
    pub(crate) fn watch_undone(&mut self, from: Height) {
        // BOLT 5 [5.watch.3].
        let Some(watch) = &mut self.watch else { return };
        self.dirty.watch |= watch.undo(from);
    }

    /// What the network said of a transaction; `false` when it is no claim of ours.
    pub(crate) fn claim_answered(&mut self, txid: &Txid, taken: bool) -> bool {
        let changed = self.watch.as_mut().and_then(|watch| watch.answered(txid, taken));
        self.dirty.watch |= changed == Some(true);
        changed.is_some()
    }

    /// Ends HTLCs of ours that nobody can settle any more. Call it at every block.
    pub(crate) fn settle_on_chain(&mut self, cx: &Context<'_>, out: &mut Out) {
        let deep = |h: Height| cx.tip.since(h) + 1 >= SETTLED_DEPTH;
        let Some(watch) = &self.watch else {
            // What spent the funding is no commitment: no HTLC is in it. This node was restored from before they ended.
            if self.spent_height().is_some_and(deep) {
                let open = |h: &&Htlc| h.id.offered_by == Side::Local && !is_ended(h);
                let over: Vec<HtlcId> = self.ledger.htlcs.values().filter(open).map(|h| h.id).collect();
                self.end_htlcs(over, out);
            }
            return;
        };
        if !watch.born().is_some_and(deep) {
            return;
        }
        let mut over: Vec<HtlcId> = Vec::new();
        for htlc in self.ledger.htlcs.values() {
            if htlc.id.offered_by != Side::Local || is_ended(htlc) {
                continue;
            }
            let output = watch
                .outputs
                .iter()
                .find(|o| o.kind == Kind::Htlc && o.lock.as_ref().is_some_and(|l| l.id == htlc.id));
            // Without an output it was too small, or never in this commitment: nobody can claim it there.
            let ended = match output {
                // It may be in there, and its payee may take it: given up only once it has expired, too.
                None if watch.standing == Standing::Ahead => deep(htlc.cltv_expiry),
                None => true,
                // Like dust: its payee may yet take it, but its payer is not kept waiting.
                Some(o) if o.spent.is_none() => o.amount < SMALL_SAT && deep(htlc.cltv_expiry),
                Some(o) => o.spent.is_some_and(|s| deep(s.height)),
            };
            if ended {
                over.push(htlc.id);
            }
        }
        // Its secret is known, and its payer took it back all the same: whoever counts on it must hear.
        let lost = |o: &&Output| {
            let gone = o.spent.is_some_and(|s| !s.ours && deep(s.height));
            o.kind == Kind::Htlc && gone && watch.standing == Standing::Valid
        };
        let locks = watch.outputs.iter().filter(lost).filter_map(|o| o.lock.as_ref());
        let known = locks.filter(|l| l.id.offered_by == Side::Remote && self.preimage_of(l).is_some());
        out.events.extend(known.map(|lock| ChannelEvent::Untaken { id: lock.id }));
        self.end_htlcs(over, out);
    }

    fn end_htlcs(&mut self, over: Vec<HtlcId>, out: &mut Out) {
        for id in over {
            let Some(htlc) = self.ledger.htlcs.get_mut(&id) else { continue };
            let removal = htlc.removal.replace(Removal::OnChain).unwrap_or(Removal::OnChain);
            self.dirty.htlc(id);
            out.events.push(ChannelEvent::Failed { id, removal });
        }
    }

    /// Where everything of this channel ended: the height of the last end. It lies ahead while only a held payment or
    /// something very small is left.
    pub fn resolved_at(&self) -> Option<Height> {
        let watch = self.watch.as_ref()?;
        let born = watch.born()?;
        let mut last = born;
        for output in &watch.outputs {
            if !self.is_ours_to_end(watch, output) {
                continue;
            }
            last = last.max(self.end_of(output)?);
        }
        if watch.standing == Standing::Ahead {
            let ours = self.ledger.htlcs.values().filter(|h| h.id.offered_by == Side::Local);
            last = ours.map(|h| h.cltv_expiry).fold(last, Height::max);
        }
        Some(last)
    }

    /// When an output came to its end, or will at the latest; `None` while that is not known.
    fn end_of(&self, output: &Output) -> Option<Height> {
        if let Some(spent) = output.spent {
            return Some(spent.height);
        }
        if let Some(lock) = output.lock.as_ref().filter(|_| output.kind == Kind::Htlc) {
            // Until its expiry our user may still settle what is held.
            if lock.id.offered_by == Side::Remote && self.preimage_of(lock).is_none() {
                return Some(lock.cltv_expiry);
            }
        }
        // What is hardly worth its fee is left one day, but not while a payment still waits for its expiry.
        let expiry = output.lock.as_ref().filter(|_| output.kind == Kind::Htlc).map(|lock| lock.cltv_expiry);
        let left = output.born.filter(|_| output.amount < SMALL_SAT).map(|born| born.plus(SMALL_BLOCKS));
        left.map(|left| left.max(expiry.unwrap_or(left)))
    }

    /// What is ours on chain and not yet taken by any transaction of ours; `None` before a commitment is in a block.
    pub(crate) fn unclaimed(&self) -> Option<Sat> {
        let watch = self.watch.as_ref()?;
        watch.born()?;
        let claimed = |o: &Output| {
            let takes = |c: &super::claim::Claim| c.tx.is_some() && c.inputs.contains(&o.outpoint);
            watch.claims.iter().any(takes)
        };
        let waits = |o: &&Output| {
            o.spent.is_none() && self.is_ours_to_end(watch, o) && self.will_be_ours(o) && !claimed(o)
        };
        Some(watch.outputs.iter().filter(waits).fold(Sat::ZERO, |sum, o| sum.saturating_add(o.amount)))
    }

    /// Of HTLCs, those that we offered or know the secret of.
    fn will_be_ours(&self, output: &Output) -> bool {
        let lock = output.lock.as_ref().filter(|_| output.kind == Kind::Htlc);
        lock.is_none_or(|lock| lock.id.offered_by == Side::Local || self.preimage_of(lock).is_some())
    }

    /// Whether a channel is not done with before this output is spent.
    fn is_ours_to_end(&self, watch: &Watch, output: &Output) -> bool {
        match (output.kind, watch.owner, watch.standing) {
            (Kind::Unknown | Kind::AnchorOwner | Kind::AnchorOther, ..) => false,
            (Kind::ToRemote, owner, _) => owner == Side::Remote,
            (Kind::ToLocal | Kind::Second, Side::Local, standing) => standing == Standing::Valid,
            (Kind::ToLocal | Kind::Second, Side::Remote, standing) => standing == Standing::Revoked,
            (Kind::Htlc, _, Standing::Valid) => true,
            (Kind::Htlc, owner, standing) => owner == Side::Remote && standing == Standing::Revoked,
        }
    }
}

/// The secret of `lock`, should `item` be it.
fn secret(item: &[u8], lock: &Lock) -> Option<Preimage> {
    let preimage = Preimage(item.try_into().ok()?);
    (preimage.hash() == lock.payment_hash).then_some(preimage)
}
