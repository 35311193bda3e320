//! The wallet on the core thread: what it is asked, and how its changes reach the store.
//!
//! In: blocks, orders of control sockets, work from released batches, what became of transactions. Out: inputs for the
//! node that carry the wallet's change, so that it is kept in the same batch as whatever it belongs to.
//! An answer that tells of a change leaves when the change is durable; that of a withdrawal when the network took it.
//! Read next: `crate::wallet`.

mod psbt;

use super::publish::Published;
use super::waiting::{Waiter, Waiting, WalletReplyTo};
use crate::rpc::{AddressKind, Coin, CoinStatus, FeeTable, WalletReply, WalletRequest};
use crate::wallet::{self, OutputStatus, Wallet, WalletError, WalletOutput};
use bitcoin::{Block, BlockHash, OutPoint, Psbt, ScriptBuf, Transaction, TxOut, Txid};
use chand_protocol::id::ChannelId;
use chand_protocol::node::command::{CommandError, Reply};
use chand_protocol::node::effect::{AttachOrder, Fees, FundAmount, Input, Unattached};
use chand_protocol::units::{Feerate, Height, Sat};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Core Lightning's code: not enough coins.
const NOT_ENOUGH: i32 = 301;
/// Core Lightning's code: below dust.
const DUST: i32 = 302;
/// Core Lightning's code: the transaction was not taken.
const NOT_BROADCAST: i32 = 313;
/// JSON-RPC's "internal error".
const INTERNAL_ERROR: i32 = -32603;
/// The lowest ceiling for feerates of peers, and how much above the present one.
const CEILING: (Feerate, u32) = (Feerate(100_000), 10);
/// How long `listfunds` says that a coin is put aside, in blocks from now.
const RESERVED_BLOCKS: u32 = 72;
/// Depth of a coinbase that may be spent.
const MATURITY: u32 = 100;
/// How long a withdrawal waits for the chain backend before its user is told that it waits.
const PATIENCE: Duration = Duration::from_secs(15);

/// What the wallet keeps for each channel with anchors, should it close on chain: such a channel's transactions pay too
/// little by themselves, or nothing. One bump of a commitment and one of a second-level transaction cost about as much
/// at 60 sat per virtual byte.
const KEPT_A_CHANNEL: Sat = Sat(25_000);
/// A coin that suffices for a transaction of one HTLC at about 30 sat per virtual byte.
const WORTH_ATTACHING: Sat = Sat(10_000);
/// For more channels than this nothing more is kept: they will not all close at once.
const MOST_CHANNELS: u64 = 10;

/// A wallet and who waits for it.
pub(super) struct Purse {
    wallet: Wallet,
    rates: Rates,
    /// Channels with anchors.
    channels: u64,
    /// Until the network took the transaction.
    withdrawals: BTreeMap<Txid, Withdrawal>,
}

/// Feerates, and which of them are more than our own guess.
#[derive(Clone, Default)]
pub(super) struct Rates {
    pub fees: Option<Fees>,
    /// By target in blocks, nearest first.
    pub estimates: Vec<(u32, Feerate)>,
}

/// Somebody who waits for a transaction to be taken.
struct Withdrawal {
    to: WalletReplyTo,
    reply: WalletReply,
    until: Instant,
    /// What is taken back when it is refused.
    undo: Undo,
}

/// What sending a transaction changed besides.
#[derive(Clone, Default)]
struct Undo {
    /// Coins put aside for so many blocks more.
    leased: (Vec<OutPoint>, u32),
    /// What it replaced.
    replaced: Option<Transaction>,
    /// A channel relies on it, whose node offers it again.
    relied: bool,
}

impl Purse {
    /// A wallet for which nobody waits.
    pub fn new(wallet: Wallet, rates: Rates) -> Purse {
        Purse { wallet, rates, channels: 0, withdrawals: BTreeMap::new() }
    }

    /// The wallet's newest block.
    pub fn tip(&self) -> (Height, BlockHash) {
        self.wallet.tip()
    }

    /// The feerates used when a withdrawal names none.
    pub fn rates(&self) -> Rates {
        self.rates.clone()
    }

    /// New feerates.
    pub fn set_rates(&mut self, fees: Fees, estimates: Vec<(u32, Feerate)>) {
        self.rates = Rates { fees: Some(fees), estimates };
    }

    /// How many channels with anchors there are now; for each the wallet keeps something back.
    pub fn set_channels(&mut self, channels: usize) {
        let channels = (channels as u64).min(MOST_CHANNELS);
        if channels == self.channels {
            return;
        }
        let keep = kept_for(channels);
        self.wallet.keep_back(keep);
        let has = self.wallet.balance().spendable();
        if channels > self.channels && has < keep {
            tracing::warn!(
                "the wallet has {has}, and {keep} should be there for the fees of channels that close on chain: send \
                 coins to an address from newaddr, else a close may take long when fees are high"
            );
        }
        self.channels = channels;
    }

    /// The whole wallet in place of its many changes, when it is time for that; nothing may follow it in its batch.
    pub fn compacted(&mut self) -> Option<Input> {
        self.wallet.compact().map(|change| Input::WalletCompacted { change })
    }

    /// Withdrawals that no block holds yet: at a start and after each block.
    pub fn offers(&self) -> impl Iterator<Item = Input> {
        self.wallet.unconfirmed().into_iter().map(|tx| Input::Offer { tx })
    }

    /// When [`Purse::late`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.withdrawals.values().map(|w| w.until).min()
    }

    /// Tells whoever waited too long what becomes of the transaction.
    pub fn late(&mut self, now: Instant) {
        let late: Vec<Txid> =
            self.withdrawals.iter().filter(|(_, w)| w.until <= now).map(|(txid, _)| *txid).collect();
        for (txid, waiting) in
            late.into_iter().filter_map(|txid| Some((txid, self.withdrawals.remove(&txid)?)))
        {
            let message = format!(
                "the chain backend did not take the transaction {txid} within {} s. It is kept, and offered again until \
                 a block holds it: do not withdraw a second time",
                PATIENCE.as_secs()
            );
            let _ = waiting.to.send(Err(CommandError::new(NOT_BROADCAST, message)));
        }
    }

    /// What changed without an input to carry it.
    pub fn loose_change(&mut self) -> Option<Input> {
        let change = self.wallet.take_change()?;
        Some(Input::Wallet { change, publish: None, reply: None })
    }

    /// The next block, and the change by it.
    ///
    /// # Errors
    /// [`WalletError`]: wallet and node stand at different blocks.
    pub fn block_connected(&mut self, block: &Block, height: Height) -> Result<Option<Vec<u8>>, WalletError> {
        self.wallet.block_connected(height, block)?;
        Ok(self.wallet.take_change())
    }

    /// The tip is gone; the change by that.
    ///
    /// # Errors
    /// [`WalletError`]: wallet and node stand at different blocks, or at the first one known.
    pub fn block_disconnected(
        &mut self,
        height: Height,
        hash: BlockHash,
    ) -> Result<Option<Vec<u8>>, WalletError> {
        self.wallet.block_disconnected(height, hash)?;
        Ok(self.wallet.take_change())
    }

    /// A funding transaction, or why there is none.
    pub fn fund(
        &mut self,
        channel: ChannelId,
        script: ScriptBuf,
        amount: FundAmount,
        feerate: Feerate,
    ) -> Input {
        let result = self.wallet.fund(script, amount, feerate).map_err(|e| e.to_string());
        Input::Funded { channel, result, wallet: self.wallet.take_change() }
    }

    /// A transaction of a closed channel with coins for its fee, or why there is none.
    pub fn attach(&mut self, order: &AttachOrder) -> Input {
        let result = self.wallet.attach(order).map_err(|error| match error {
            WalletError::TooDear { least, .. } => Unattached::TooDear(least),
            other => Unattached::NoCoins(other.to_string()),
        });
        let (channel, claim) = (order.channel, order.claim);
        let spare_coins = self.wallet.spare_coins(WORTH_ATTACHING);
        Input::Attached { channel, claim, result, spare_coins, wallet: self.wallet.take_change() }
    }

    /// Coins of a transaction that nobody relies on any more are free again.
    pub fn unreserve(&mut self, txid: Txid) -> Option<Input> {
        self.wallet.unreserve(txid);
        self.loose_change()
    }

    /// What became of a transaction: one that is in the mempool counts, and answers whoever withdrew.
    pub fn published(&mut self, published: &Published) -> Option<Input> {
        let waiting = self.withdrawals.remove(&published.txid);
        match &published.result {
            Ok(()) => {
                self.wallet.insert_unconfirmed(published.tx.clone());
                if let Some(Withdrawal { to, reply, .. }) = waiting {
                    // Fails when nobody listens any more.
                    let _ = to.send(Ok(reply));
                }
            }
            Err(reason) => {
                // Only what nobody else relies on is forgotten: the node offers its own again.
                if let Some(Withdrawal { to, undo, .. }) = waiting {
                    let relied = undo.relied;
                    self.wallet.forget_unconfirmed(published.txid);
                    self.undo(undo);
                    let after = match relied {
                        true => "it is offered again at each block, for a channel relies on it",
                        false => "its coins are free again",
                    };
                    let message = format!("the transaction was not taken, and {after}: {reason}");
                    let _ = to.send(Err(CommandError::new(NOT_BROADCAST, message)));
                }
            }
        }
        self.loose_change()
    }

    /// The node that should have kept their changes is gone.
    pub fn fail_all(&mut self, error: &CommandError) {
        for waiting in std::mem::take(&mut self.withdrawals).into_values() {
            let _ = waiting.to.send(Err(error.clone()));
        }
    }

    /// A control socket's order; what changes the wallet becomes an input, and its answer waits.
    pub fn request(&mut self, request: WalletRequest, to: WalletReplyTo, waiting: &Waiting) -> Option<Input> {
        let answer = match request {
            WalletRequest::NewAddress { kind } => return self.new_address(kind, to, waiting),
            WalletRequest::Withdraw { destination, amount, feerate, min_confirmations, utxos } => {
                let amount = amount.map_or(FundAmount::All { at_most: Sat::MAX_MONEY }, FundAmount::Exact);
                let feerate = feerate.or(self.rates.fees.map(|f| f.normal)).unwrap_or(Feerate::FLOOR);
                match self.wallet.withdraw(destination, amount, feerate, utxos, Some(min_confirmations)) {
                    Ok(done) => return self.withdrawn(done.tx, to, Undo::default()),
                    Err(error) => Err(refusal(&error)),
                }
            }
            WalletRequest::FundPsbt(_)
            | WalletRequest::SignPsbt { .. }
            | WalletRequest::FinishPsbt { .. }
            | WalletRequest::SendPsbt { .. }
            | WalletRequest::ReserveInputs { .. }
            | WalletRequest::UnreserveInputs { .. }
            | WalletRequest::Bump { .. } => return self.psbt_request(request, to, waiting),
            WalletRequest::Plan(request) => {
                let plan = self.plan(*request).map_err(|error| refusal(&error));
                plan.map(|plan| WalletReply::Planned(Box::new(plan)))
            }
            WalletRequest::Fund { .. } => {
                Err(CommandError::new(INTERNAL_ERROR, "only to be planned (a bug)"))
            }
            WalletRequest::ListCoins { spent } => Ok(WalletReply::Coins(coins(&self.wallet, spent))),
            WalletRequest::MostFundable { anchors, feerate } => {
                let feerate = feerate.or(self.rates.fees.map(|f| f.normal)).unwrap_or(Feerate::FLOOR);
                // The channel that is to be opened will need its share like the others.
                let most = self.wallet.most_fundable(feerate, kept_for(self.channels + u64::from(anchors)));
                most.map(WalletReply::MostFundable).map_err(|error| refusal(&error))
            }
            WalletRequest::KeptBack => {
                // No more than there is.
                let amount = kept_for(self.channels).min(self.wallet.balance().spendable());
                Ok(WalletReply::KeptBack { amount, channels: self.channels })
            }
            WalletRequest::Feerates => Ok(WalletReply::Feerates(self.fee_table())),
        };
        let _ = to.send(answer);
        None
    }

    fn new_address(
        &mut self,
        kind: Option<AddressKind>,
        to: WalletReplyTo,
        waiting: &Waiting,
    ) -> Option<Input> {
        let kind = kind.unwrap_or(AddressKind::P2tr);
        let address = self.wallet.new_address(match kind {
            AddressKind::Bech32 => wallet::AddressKind::P2wpkh,
            AddressKind::P2tr => wallet::AddressKind::P2tr,
        });
        let script = address.script_pubkey();
        let address = self.wallet.address_text(&script).unwrap_or_else(|| script.to_hex_string());
        let reply = WalletReply::Address { kind, address };
        self.once_kept(reply, to, waiting)
    }

    /// Answers when what changed is durable.
    fn once_kept(&mut self, reply: WalletReply, to: WalletReplyTo, waiting: &Waiting) -> Option<Input> {
        match self.wallet.take_change() {
            Some(change) => {
                let id = waiting.enter(Waiter::Wallet(to, reply));
                Some(Input::Wallet { change, publish: None, reply: Some((id, Reply::Done)) })
            }
            None => {
                let _ = to.send(Ok(reply));
                None
            }
        }
    }

    /// Its change must be kept before it may leave.
    fn withdrawn(&mut self, tx: Transaction, to: WalletReplyTo, undo: Undo) -> Option<Input> {
        let (txid, psbt, change) = (tx.compute_txid(), self.finished_psbt(&tx), self.wallet.take_change());
        let (Ok(psbt), Some(change)) = (psbt, change) else {
            self.wallet.forget_unconfirmed(txid);
            self.undo(undo);
            let message = "the withdrawal could not be written down and is forgotten (a bug)";
            let _ = to.send(Err(CommandError::new(INTERNAL_ERROR, message)));
            return self.loose_change();
        };
        let reply = WalletReply::Withdrawn { tx: tx.clone(), psbt: Box::new(psbt) };
        self.withdrawals.insert(txid, Withdrawal { to, reply, until: Instant::now() + PATIENCE, undo });
        Some(Input::Wallet { change, publish: Some(tx), reply: None })
    }

    /// The same transaction as a PSBT with all inputs final.
    fn finished_psbt(&self, tx: &Transaction) -> Result<Psbt, String> {
        let mut unsigned = tx.clone();
        unsigned.input.iter_mut().for_each(|input| input.witness.clear());
        let mut psbt = Psbt::from_unsigned_tx(unsigned).map_err(|e| e.to_string())?;
        let ours: BTreeMap<OutPoint, WalletOutput> =
            self.wallet.outputs().into_iter().map(|o| (o.outpoint, o)).collect();
        for (part, input) in psbt.inputs.iter_mut().zip(&tx.input) {
            part.final_script_witness = Some(input.witness.clone());
            part.witness_utxo = ours.get(&input.previous_output).map(|o| TxOut {
                value: bitcoin::Amount::from_sat(o.amount.0),
                script_pubkey: o.script.clone(),
            });
        }
        Ok(psbt)
    }

    fn fee_table(&self) -> FeeTable {
        let urgent = self.rates.fees.map_or(Feerate::FLOOR, |f| f.urgent);
        let (least, times) = CEILING;
        FeeTable {
            fees: self.rates.fees,
            estimates: self.rates.estimates.clone(),
            min_acceptable: Feerate::FLOOR,
            max_acceptable: Feerate(urgent.0.saturating_mul(times)).max(least),
        }
    }
}

/// What stays in the wallet for so many channels with anchors.
fn kept_for(channels: u64) -> Sat {
    Sat(KEPT_A_CHANNEL.0.saturating_mul(channels.min(MOST_CHANNELS)))
}

fn refusal(error: &WalletError) -> CommandError {
    let code = match error {
        WalletError::Insufficient { .. } | WalletError::TooDear { .. } => NOT_ENOUGH,
        WalletError::Dust { .. } => DUST,
        WalletError::FeerateTooLow(_) | WalletError::Coin { .. } | WalletError::Refused(_) => -32602,
        _ => INTERNAL_ERROR,
    };
    CommandError::new(code, error.to_string())
}

/// The coins of a wallet, spent ones too if wanted.
pub fn coins(wallet: &Wallet, spent: bool) -> Vec<Coin> {
    let tip = wallet.tip().0;
    let outputs = wallet.outputs().into_iter().filter(|o| spent || o.status != OutputStatus::Spent);
    outputs.map(|o| coin(o, tip)).collect()
}

fn coin(output: WalletOutput, tip: Height) -> Coin {
    let status = match output.status {
        OutputStatus::Confirmed(at) => CoinStatus::Confirmed(at),
        OutputStatus::Unconfirmed { .. } => CoinStatus::Unconfirmed,
        OutputStatus::Immature { spendable } => {
            CoinStatus::Immature(Height(spendable.0.saturating_sub(MATURITY)))
        }
        OutputStatus::Spent => CoinStatus::Spent(None),
    };
    Coin {
        outpoint: output.outpoint,
        amount: output.amount,
        script_pubkey: output.script,
        address: output.address,
        status,
        reserved_to: output.lease.or_else(|| output.reserved.then(|| tip.plus(RESERVED_BLOCKS))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Seed;
    use bitcoin::hashes::Hash;
    use bitcoin::{absolute, transaction, Amount, TxIn};
    use chand_protocol::chain::Network;
    use tokio::sync::oneshot;

    /// A purse with one coin.
    pub(super) fn purse() -> Purse {
        let seed = Seed::dev_from_bip32_seed(&[1; 32]);
        let mut wallet = Wallet::load(&seed, Network::Regtest, Vec::new()).expect("a wallet");
        let script_pubkey = wallet.new_address(wallet::AddressKind::P2tr).script_pubkey();
        let from = OutPoint { txid: Txid::from_byte_array([7; 32]), vout: 0 };
        let payment = Transaction {
            version: transaction::Version::TWO,
            lock_time: absolute::LockTime::ZERO,
            input: vec![TxIn { previous_output: from, ..TxIn::default() }],
            output: vec![TxOut { value: Amount::from_sat(100_000), script_pubkey }],
        };
        let mut block = bitcoin::constants::genesis_block(Network::Regtest.bitcoin());
        block.header.prev_blockhash = wallet.tip().1;
        block.txdata = vec![payment];
        let mut purse = Purse::new(wallet, Rates::default());
        assert!(matches!(purse.block_connected(&block, Height(1)), Ok(Some(_))));
        purse
    }

    #[test]
    fn who_withdraws_while_the_backend_is_away_is_told_that_it_is_kept() {
        let mut purse = purse();
        let (to, mut answer) = oneshot::channel();
        let request = WalletRequest::Withdraw {
            destination: ScriptBuf::new_p2wsh(&bitcoin::WScriptHash::from_byte_array([3; 32])),
            amount: Some(Sat(40_000)),
            feerate: None,
            min_confirmations: 1,
            utxos: None,
        };
        let input = purse.request(request, to, &Waiting::default());
        let Some(Input::Wallet { publish: Some(tx), .. }) = input else { panic!("{input:?}") };
        let until = purse.next_deadline().expect("it waits");
        purse.late(until - Duration::from_millis(1));
        assert!(answer.try_recv().is_err(), "too early");
        purse.late(until);
        let told = answer.try_recv().expect("answered").expect_err("not broadcast");
        let txid = tx.compute_txid();
        assert_eq!(told.code, NOT_BROADCAST);
        assert!(
            told.message.contains(&txid.to_string()) && told.message.contains("kept"),
            "{}",
            told.message
        );
        assert_eq!(purse.next_deadline(), None);
        assert!(until <= Instant::now() + PATIENCE);

        // A refusal that comes after that answer takes nothing back: the user was told that it is kept.
        let refused = Published { txid, tx: tx.clone(), result: Err("mempool full".into()) };
        purse.published(&refused);
        let offered: Vec<Input> = purse.offers().collect();
        assert!(matches!(&offered[..], [Input::Offer { tx: again }] if *again == tx), "{offered:?}");
    }

    #[test]
    fn coins_for_a_closed_channels_transaction_come_with_the_wallets_change() {
        let mut purse = purse();
        let script_pubkey = ScriptBuf::new_p2wsh(&bitcoin::WScriptHash::from_byte_array([3; 32]));
        let output = TxOut { value: Amount::from_sat(40_000), script_pubkey };
        let mut order = AttachOrder {
            channel: ChannelId([9; 32]),
            claim: 7,
            tx: Transaction {
                version: transaction::Version::TWO,
                lock_time: absolute::LockTime::ZERO,
                input: vec![TxIn::default()],
                output: vec![output.clone()],
            },
            spent: vec![output],
            witness_weight: 300,
            feerate: Feerate(1_000),
            lowest: Feerate(1_000),
            parent: None,
            most: Sat(90_000),
            replaces: None,
        };
        let made = purse.attach(&order);
        let Input::Attached { channel, claim: 7, result: Ok(tx), spare_coins: 0, wallet: Some(_) } = made
        else {
            panic!("{made:?}")
        };
        assert_eq!((channel, tx.input.len()), (order.channel, 2));
        assert_eq!(purse.wallet.balance().reserved, Sat(100_000));
        order.tx.input[0].previous_output.vout = 0;
        let none = purse.attach(&order);
        assert!(
            matches!(&none, Input::Attached { result: Err(Unattached::NoCoins(why)), .. } if why.contains("reserved for transactions")),
            "{none:?}"
        );
        assert!(purse.unreserve(tx.compute_txid()).is_some());
        assert_eq!(purse.wallet.balance().spendable(), Sat(100_000));
    }

    pub(super) fn asked(purse: &mut Purse, request: WalletRequest) -> Result<WalletReply, CommandError> {
        let (to, mut answer) = oneshot::channel();
        assert!(purse.request(request, to, &Waiting::default()).is_none());
        answer.try_recv().expect("answered at once")
    }

    #[test]
    fn the_first_channel_with_anchors_leaves_its_share() {
        let mut purse = purse();
        let mut most = |channels: usize, anchors: bool| {
            purse.set_channels(channels);
            let request = WalletRequest::MostFundable { anchors, feerate: Some(Feerate(1_000)) };
            match asked(&mut purse, request) {
                Ok(WalletReply::MostFundable(most)) => Ok(most.0 / 1_000),
                Ok(other) => panic!("{other:?}"),
                Err(error) => Err((error.code, error.message)),
            }
        };
        for (channels, anchors, thousands) in
            [(0, false, 99), (0, true, 74), (1, false, 74), (1, true, 49), (2, true, 24)]
        {
            assert_eq!(most(channels, anchors), Ok(thousands), "{channels} channels, {anchors}");
        }
        let (code, words) = most(3, true).expect_err("too little");
        assert!(
            code == NOT_ENOUGH && words.contains("100000 sat stay in the wallet for the fees"),
            "{words}"
        );
        purse.set_channels(3);
        let kept = asked(&mut purse, WalletRequest::KeptBack);
        let Ok(WalletReply::KeptBack { amount: Sat(75_000), channels: 3 }) = kept else { panic!("{kept:?}") };
    }

    #[test]
    fn something_is_kept_back_for_each_of_up_to_ten_channels() {
        let mut purse = purse();
        let most = |purse: &mut Purse| {
            let keep = kept_for(purse.channels);
            purse.wallet.most_fundable(Feerate(1_000), keep).map(|sat| sat.0 / 1_000)
        };
        for (channels, thousands) in [(0, 99), (1, 74), (3, 24), (0, 99)] {
            purse.set_channels(channels);
            assert_eq!(most(&mut purse), Ok(thousands));
        }
        purse.set_channels(10);
        let ten = most(&mut purse).expect_err("too little").to_string();
        purse.set_channels(1_000);
        assert!(ten.contains("250000 sat stay"), "{ten}");
        assert_eq!(most(&mut purse).expect_err("too little").to_string(), ten);
    }

    #[test]
    fn our_guess_is_not_shown_as_an_estimate() {
        let mut purse = purse();
        let fees = Fees { normal: Feerate(2_500), urgent: Feerate(5_000), minimum: Feerate::FLOOR };
        purse.set_rates(fees, Vec::new());
        assert_eq!((purse.fee_table().fees, purse.fee_table().estimates), (Some(fees), Vec::new()));
        purse.set_rates(fees, vec![(2, fees.urgent)]);
        assert_eq!(purse.fee_table().estimates, [(2, fees.urgent)]);
    }
}
