//! What the chain does to channels: fundings confirm, funding outputs are spent, blocks go away again.
//!
//! In: blocks one by one, in order, and their undoing. Out: changes of channels; transactions of ours that are not
//! in a block yet are offered again at every block. Read next: `crate::channel::confirm`, `crate::channel::onchain`.

use crate::channel::cause::Why;
use crate::channel::{Channel, Confirmed, Phase};
use crate::id::{ChannelId, NodeId};
use crate::node::effect::{Effect, Level, Unattached};
use crate::node::Node;
use crate::onchain::claim::Rest;
use crate::record::{block_key, put};
use crate::store::Change;
use crate::units::Height;
use alloc::format;
use alloc::vec::Vec;
use bitcoin::{BlockHash, OutPoint, Transaction};

/// How many blocks are remembered to find the way back in a reorganisation.
const REMEMBERED_BLOCKS: usize = 288;
/// How long a closed channel stays in `listpeerchannels`, in blocks.
const LISTED_AFTER_CLOSE: u32 = 100;

impl Node {
    pub(super) fn on_block(&mut self, height: Height, hash: BlockHash, txs: &[Transaction]) {
        if let Some((tip, _)) = self.chain.tip {
            if height != tip.plus(1) {
                return self.notice(Level::Error, format!("{height} came after {tip}: ignored"));
            }
        }
        self.chain.tip = Some((height, hash));
        self.chain.recent.push_back((height, hash));
        self.keep(put(block_key(height), &hash));
        while self.chain.recent.len() > REMEMBERED_BLOCKS {
            if let Some((old, _)) = self.chain.recent.pop_front() {
                self.keep(Change::Delete { key: block_key(old) });
            }
        }
        for (index, tx) in txs.iter().enumerate() {
            for (at, input) in tx.input.iter().enumerate() {
                self.look_for_spend(tx, at, &input.previous_output, height);
            }
            self.look_for_fundings(height, index, tx);
        }
        let all: Vec<ChannelId> = self.channels.keys().copied().collect();
        for id in all {
            let waits = self.channels.get(&id).is_some_and(|c| !c.ready.0 && c.confirmed.is_some());
            if waits {
                self.give_alias(id);
                if let Some(Err(fault)) = self.act(id, |c, cx, out| c.on_tip(cx, out)) {
                    self.local_fault(id, &fault);
                }
            }
            let again = self.channels.get(&id).map(Channel::unconfirmed).unwrap_or_default();
            self.out
                .effects
                .extend(again.into_iter().map(|(tx, why)| Effect::Publish { tx: tx.clone(), why }));
        }
        self.announce_block(height);
        self.receive_block();
        self.close_overdue(height);
        self.plan_claims();
        self.retire_channels(height);
        self.forget_blobs(height);
        self.age_tower_notes();
        self.send_waiting();
    }

    /// A funding output, or one of a published commitment.
    pub(super) fn look_for_spend(
        &mut self,
        tx: &Transaction,
        index: usize,
        outpoint: &OutPoint,
        height: Height,
    ) {
        // BOLT 5 [5.watch.1].
        if let Some(id) = self.funding.get(outpoint).copied() {
            if let Some(Err(fault)) = self.act(id, |c, cx, out| c.funding_spent(tx, height, cx, out)) {
                self.local_fault(id, &fault);
            }
            self.on_close_decided(id);
            self.watch_outputs(id);
        }
        if let Some(id) = self.watched.get(outpoint).copied() {
            let done = self.act(id, |c, cx, out| c.output_spent(tx, index, height, cx, out));
            if let Some(Err(fault)) = done {
                self.local_fault(id, &fault);
            }
            self.watch_outputs(id);
        }
    }

    /// Outputs of this channel's published commitment are looked for from now on, in this very block, too.
    pub(super) fn watch_outputs(&mut self, id: ChannelId) {
        if let Some(channel) = self.channels.get(&id) {
            self.watched.extend(channel.watched());
        }
    }

    /// Channels whose HTLCs can wait no longer are closed, in time to claim them.
    fn close_overdue(&mut self, height: Height) {
        if self.config.no_htlc_timeout {
            return;
        }
        let margin_blocks = self.config.claim_margin_blocks();
        let due: Vec<(ChannelId, Why)> = self
            .channels
            .values()
            .filter(|c| !c.doubt)
            .filter_map(|c| Some((c.id(), c.overdue(height, margin_blocks)?)))
            .collect();
        for (id, why) in due {
            self.fail_channel(id, why);
        }
    }

    /// The wallet has coins that it had not: what was too dear for the others may be taken with these.
    pub(super) fn wake_claims(&mut self) {
        let claims = self.channels.values_mut().filter_map(|c| c.watch.as_mut()).flat_map(|w| &mut w.claims);
        claims.filter_map(|claim| claim.rests.as_mut()).for_each(Rest::wake);
    }

    /// What published commitments hold for us is claimed, raised, or ended.
    pub(super) fn plan_claims(&mut self) {
        // What is over for good is not touched any more, whatever small output of it is left: it is to be forgotten.
        let tip = self.tip_height();
        let watching: Vec<ChannelId> = self
            .channels
            .values()
            .filter(|c| c.spent_height().is_some() || c.watch.is_some())
            .filter(|c| !c.retired && !c.is_over(tip) && (c.watch.is_some() || !c.ledger.htlcs.is_empty()))
            .map(Channel::id)
            .collect();
        for id in watching {
            let done = self.act(id, |c, cx, out| {
                c.settle_on_chain(cx, out);
                c.plan(cx, out)
            });
            if let Some(Err(fault)) = done {
                self.local_fault(id, &fault);
            }
        }
    }

    /// Channels that are over leave what lists show of them, and nothing more.
    fn retire_channels(&mut self, tip: Height) {
        for channel in self.channels.values_mut() {
            let known = channel.watch.iter().flat_map(|w| &w.outputs).map(|o| o.outpoint);
            let known: Vec<OutPoint> = known.collect();
            let before = channel.retired;
            channel.retire_records(tip, &mut self.out.changes);
            if channel.retired && !before {
                self.funding.remove(&channel.terms.funding);
                self.watched.retain(|outpoint, _| !known.contains(outpoint));
            }
        }
    }

    /// The wallet gave coins for a transaction of a published commitment, or none.
    pub(super) fn on_attached(
        &mut self,
        id: ChannelId,
        claim: u32,
        result: Result<Transaction, Unattached>,
        spare_coins: u32,
    ) {
        let txid = result.as_ref().ok().map(Transaction::compute_txid);
        match self.act(id, |c, cx, out| c.on_attached(claim, result, spare_coins, cx, out)) {
            Some(Ok(())) => {}
            Some(Err(fault)) => self.local_fault(id, &fault),
            // No such channel any more: its coins are free.
            None => self.out.effects.extend(txid.map(|txid| Effect::Unreserve { txid })),
        }
    }

    /// Whether it is a claim; the channel then knows what the network said of it.
    pub(super) fn is_claim_answered(&mut self, txid: bitcoin::Txid, taken: bool) -> bool {
        let watching: Vec<ChannelId> =
            self.channels.values().filter(|c| c.watch.is_some()).map(Channel::id).collect();
        watching.into_iter().any(|id| self.act(id, |c, _, _| c.claim_answered(&txid, taken)) == Some(true))
    }

    /// A version of a claim was refused for its fee.
    pub(super) fn outbid(&mut self, txid: bitcoin::Txid) {
        let watching: Vec<ChannelId> =
            self.channels.values().filter(|c| c.watch.is_some()).map(Channel::id).collect();
        for id in watching {
            if let Some(Err(fault)) = self.act(id, |c, cx, out| c.outbid(&txid, cx, out)) {
                self.local_fault(id, &fault);
            }
        }
    }

    /// Any funding output of ours in this transaction, with the script and the amount that was agreed on.
    pub(super) fn look_for_fundings(&mut self, height: Height, index: usize, tx: &Transaction) {
        if self.funding.is_empty() || tx.output.iter().all(|o| !o.script_pubkey.is_p2wsh()) {
            return;
        }
        let txid = tx.compute_txid();
        let (from, to) = (OutPoint { txid, vout: 0 }, OutPoint { txid, vout: u32::MAX });
        let found: Vec<ChannelId> = self.funding.range(from..=to).map(|(_, id)| *id).collect();
        for id in found {
            let Ok(tx_index) = u32::try_from(index) else { continue };
            let sound = self.channels.get(&id).is_some_and(|c| funding_is_sound(c, tx));
            if sound {
                let place = Confirmed { height, tx_index };
                self.act(id, |c, _, out| {
                    // Whoever sent it: this node offers it again, should it leave the chain.
                    c.funding_given(tx);
                    c.funding_seen(Some(place), out);
                });
            } else if let Some(peer) = self.channels.get(&id).map(|c| c.terms.peer) {
                let text = "the funding transaction does not pay what was agreed: the channel never opens";
                self.notice_about(Level::Error, text.into(), peer, Some(id));
            }
        }
    }

    pub(super) fn on_block_gone(&mut self, height: Height, hash: BlockHash) {
        if self.chain.tip != Some((height, hash)) {
            return self
                .notice(Level::Error, format!("{height} {hash} left the chain but is not the tip: ignored"));
        }
        self.chain.recent.pop_back();
        self.chain.tip = self.chain.recent.back().copied();
        self.keep(Change::Delete { key: block_key(height) });
        self.notice(Level::Warn, format!("{height} left the chain"));
        let all: Vec<ChannelId> = self.channels.keys().copied().collect();
        for id in all {
            let gone =
                self.channels.get(&id).is_some_and(|c| c.confirmed.is_some_and(|p| p.height >= height));
            if gone {
                self.act(id, |c, _, out| c.funding_seen(None, out));
            }
            if self.channels.get(&id).is_some_and(|c| c.spent_height().is_some_and(|h| h >= height)) {
                self.act(id, |c, _, _| c.spend_unseen(height));
            } else if self.channels.get(&id).is_some_and(|c| c.watch.is_some()) {
                self.act(id, |c, _, _| c.watch_undone(height));
            }
            self.receive_undone(id);
        }
    }

    /// Whether `listpeerchannels` still shows it.
    pub(super) fn is_listed(&self, channel: &Channel) -> bool {
        !channel.is_given_up()
            && channel.over_at().is_none_or(|h| self.tip_height().since(h) < LISTED_AFTER_CLOSE)
    }

    /// Whether the peer has a channel that is not closed (tests and lists).
    pub fn has_channel_with(&self, peer: &NodeId) -> bool {
        self.channels
            .values()
            .any(|c| c.terms.peer == *peer && !matches!(c.phase, Phase::Closed(_) | Phase::Onchain(_)))
    }
}

/// The output is there, with the agreed script and amount.
fn funding_is_sound(channel: &Channel, tx: &Transaction) -> bool {
    // BOLT 2, 7 [2.ready.1, 7.announce.5].
    let (terms, wanted) = (&channel.terms, channel.funding_script());
    usize::try_from(terms.funding.vout)
        .ok()
        .and_then(|v| tx.output.get(v))
        .is_some_and(|o| o.script_pubkey == wanted && o.value.to_sat() == terms.capacity.0)
}
