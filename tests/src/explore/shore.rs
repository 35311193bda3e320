//! Nodes of the walk on a chain: blocks come, claims go out, the wallet gives coins.
//!
//! In: states of one or both nodes, blocks, orders. Out: the chain they leave behind. What a node publishes is checked
//! as the network would: each script by Bitcoin Core's interpreter (once for each transaction, whatever play it comes up
//! in), amounts, finality, replacement; anything of ours that breaks a rule is a failure.
//! Read next: `verdicts` (who must end with what).

use super::start::Start;
use super::{guarded, Verdict};
use crate::duet::chain::TinyChain;
use crate::duet::wallet::TinyWallet;
use crate::duet::{ALICE, BOB};
use bitcoin::{OutPoint, ScriptBuf, Transaction, TxOut, Wtxid};
use chand_protocol::id::{ChannelId, CommandId};
use chand_protocol::node::command::Command;
use chand_protocol::node::effect::{After, Input};
use chand_protocol::node::{step, Node};
use chand_protocol::sign::Crypto;
use chand_protocol::store::Journal;
use chand_protocol::units::{Height, Timestamp};
use chand_storage::MemoryStore;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

/// What a block holds beyond the mempool's.
pub type Foreign = Vec<Transaction>;

/// One node on the chain.
pub struct Player {
    /// It.
    pub node: Node,
    /// What it publishes reaches nobody.
    pub mute: bool,
    journal: Journal<MemoryStore>,
    wallet: TinyWallet,
    inbox: VecDeque<Input>,
}

/// A chain with one or both nodes on it.
pub struct Shore<'a> {
    /// The chain, from the walk's start on.
    pub chain: TinyChain,
    /// Who is there.
    pub players: [Option<Player>; 2],
    /// What the network would not take, in words.
    pub refused: Vec<String>,
    /// Nothing reaches the network.
    pub deaf: bool,
    /// The wallets' scripts.
    pub scripts: [ScriptBuf; 2],
    first: usize,
    now: Timestamp,
    channel: ChannelId,
    crypto: Arc<dyn Crypto>,
    proven: &'a mut HashSet<Wtxid>,
}

impl std::fmt::Debug for Shore<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Shore(height {})", self.chain.height())
    }
}

/// Who has the money of an output.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// It lies there still.
    Unspent,
    /// In this seat's wallet.
    Wallet(usize),
    /// Somewhere else.
    Elsewhere,
}

impl<'a> Shore<'a> {
    /// The chain as the walk has it, and nobody there yet.
    pub fn new(start: &Start, crypto: &Arc<dyn Crypto>, proven: &'a mut HashSet<Wtxid>) -> Shore<'a> {
        let mut chain = start.duet.chain.clone();
        chain.clock_s = start.duet.now.seconds() as u32;
        Shore {
            first: chain.blocks.len(),
            chain,
            players: [None, None],
            refused: Vec::new(),
            deaf: false,
            scripts: [ALICE, BOB].map(|seat| start.duet.seats[seat].wallet.script.clone()),
            now: start.duet.now,
            channel: start.channel,
            crypto: crypto.clone(),
            proven,
        }
    }

    /// A node comes.
    pub fn enter(&mut self, start: &Start, seat: usize, node: Node) {
        let journal = Journal::new(MemoryStore::new());
        let wallet = start.duet.seats[seat].wallet.clone();
        self.players[seat] = Some(Player { node, mute: false, journal, wallet, inbox: VecDeque::new() });
    }

    /// It dies and comes back from its records.
    ///
    /// # Errors
    /// `restart`.
    pub fn restart(&mut self, start: &Start, seat: usize) -> Result<(), Verdict> {
        let Some(player) = self.players[seat].take() else { return Ok(()) };
        let (records, mute) = (player.node.records(), player.mute);
        let place = &start.duet.seats[seat];
        let node = guarded("restart", || place.reborn_with(records.clone(), self.crypto.clone()))?;
        if node.records() != records {
            return Err(Verdict::new("restart", "another node came back while its channel is on chain"));
        }
        self.enter(start, seat, node);
        if let Some(again) = &mut self.players[seat] {
            again.mute = mute;
            again.wallet = player.wallet;
            again.inbox.push_back(Input::ChainSynced { tip_time_s: None });
        }
        self.run()
    }

    /// Gives an order; whether it was refused is for the caller to see in what follows.
    ///
    /// # Errors
    /// A judge's.
    pub fn order(&mut self, seat: usize, command: Command) -> Result<(), Verdict> {
        if let Some(player) = &mut self.players[seat] {
            player.inbox.push_back(Input::Command { id: CommandId(700), command });
        }
        self.run()
    }

    /// The next block: with just these transactions, or with what waits.
    ///
    /// # Errors
    /// A judge's.
    pub fn block(&mut self, foreign: Option<Foreign>) -> Result<(), Verdict> {
        match foreign {
            Some(txs) => self.chain.mine_foreign(txs),
            None => self.chain.mine(),
        }
        let Some(block) = self.chain.blocks.last().cloned() else { return Ok(()) };
        for player in self.players.iter_mut().flatten() {
            player.inbox.push_back(Input::BlockConnected {
                height: Height(self.chain.height()),
                hash: block.hash,
                time_s: block.time_s,
                txs: block.txs.clone(),
                wallet: None,
            });
            player.inbox.push_back(Input::ChainSynced { tip_time_s: Some(block.time_s) });
        }
        self.run()
    }

    /// The newest block leaves the chain.
    ///
    /// # Errors
    /// A judge's.
    pub fn unblock(&mut self) -> Result<(), Verdict> {
        let (height, gone) = (Height(self.chain.height()), self.chain.blocks.last().map(|b| b.hash));
        self.chain.unmine(false);
        let Some(hash) = gone else { return Ok(()) };
        for player in self.players.iter_mut().flatten() {
            player.inbox.push_back(Input::BlockDisconnected { height, hash, wallet: None });
            player.inbox.push_back(Input::ChainSynced { tip_time_s: None });
        }
        self.run()
    }

    fn run(&mut self) -> Result<(), Verdict> {
        for seat in [ALICE, BOB] {
            while let Some(input) = self.players[seat].as_mut().and_then(|p| p.inbox.pop_front()) {
                self.step(seat, input)?;
            }
        }
        Ok(())
    }

    fn step(&mut self, seat: usize, input: Input) -> Result<(), Verdict> {
        let now = self.now;
        let Some(player) = &mut self.players[seat] else { return Ok(()) };
        let batches = [guarded("panic", || step(&mut player.node, now, vec![input]))?];
        let store = |e: &dyn std::fmt::Debug| Verdict::new("store", format!("{e:?}"));
        let proof = player.journal.commit(&batches).map_err(|e| store(&e))?;
        for batch in batches {
            for after in batch.release(&proof).map_err(|e| store(&e))? {
                self.let_out(seat, after)?;
            }
        }
        Ok(())
    }

    fn let_out(&mut self, seat: usize, after: After) -> Result<(), Verdict> {
        let Some(player) = &mut self.players[seat] else { return Ok(()) };
        match after {
            After::Publish(publish) => {
                let (tx, why) = publish.into_parts();
                let result = if player.mute || self.deaf { Ok(()) } else { self.offer(&tx)? };
                if let Err(words) = &result {
                    self.refused.push(format!("{why}: {words}"));
                }
                if let Some(player) = &mut self.players[seat] {
                    player.inbox.push_back(Input::Published { txid: tx.compute_txid(), result });
                }
            }
            After::Attach(order) => {
                let made = player.wallet.attach(&order, &self.chain, self.crypto.as_ref());
                let (result, wallet) = match made {
                    Ok((tx, note)) => (Ok(tx), Some(note)),
                    Err(words) => (Err(words), None),
                };
                let (channel, claim) = (order.channel, order.claim);
                let spare_coins = player.wallet.spare(&self.chain);
                player.inbox.push_back(Input::Attached { channel, claim, result, spare_coins, wallet });
            }
            After::FindRoutes(request) => player.inbox.push_back(request.none("nobody else is there")),
            After::Unreserve { txid } => player.wallet.unreserve(&txid),
            After::Notice(notice) if notice.text.contains("local fault") => {
                return Err(Verdict::new("peace", notice.text));
            }
            _ => {}
        }
        Ok(())
    }

    /// Offers a transaction to the network.
    ///
    /// # Errors
    /// `chain`: it breaks a rule. The inner error is the network's for one that comes too late.
    pub fn offer(&mut self, tx: &Transaction) -> Result<Result<(), String>, Verdict> {
        let name = tx.compute_wtxid();
        let taken = self.chain.offer(tx, !self.proven.contains(&name));
        let taken = taken.map_err(|broken| Verdict::new("chain", broken))?;
        if taken.is_ok() {
            self.proven.insert(name);
        }
        Ok(taken)
    }

    /// What was mined since the walk's start, block by block.
    pub fn blocks(&self) -> Vec<Foreign> {
        self.chain.blocks[self.first..].iter().map(|b| (*b.txs).clone()).collect()
    }

    /// A node's channel.
    ///
    /// # Errors
    /// `restart`, when it is gone.
    pub fn channel(&self, seat: usize) -> Result<&chand_protocol::channel::Channel, Verdict> {
        let found = self.players[seat].as_ref().and_then(|p| p.node.channel(&self.channel));
        found.ok_or_else(|| Verdict::new("restart", "the channel is gone"))
    }

    /// What a wallet has in blocks, sat.
    pub fn money(&self, seat: usize) -> u64 {
        self.chain.money_of(&self.scripts[seat])
    }

    /// In whose wallet an output's money ended, second-level transactions followed.
    pub fn end_of(&self, place: OutPoint) -> End {
        let mut place = place;
        loop {
            let found = self.chain.blocks[self.first..].iter().flat_map(|b| b.txs.iter()).find_map(|tx| {
                let index = tx.input.iter().position(|i| i.previous_output == place)?;
                Some((tx, index))
            });
            let Some((tx, index)) = found else { return End::Unspent };
            let owner = |output: &TxOut| (0..2).find(|seat| self.scripts[*seat] == output.script_pubkey);
            // An HTLC transaction pays with the input's index; a sweep pays all to one place.
            match tx.output.get(index).filter(|o| owner(o).is_none()) {
                Some(_) => place = OutPoint { txid: tx.compute_txid(), vout: index as u32 },
                None => return tx.output.iter().find_map(owner).map_or(End::Elsewhere, End::Wallet),
            }
        }
    }
}
