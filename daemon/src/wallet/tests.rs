//! A wallet on a chain made of bare blocks.

use super::*;
use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::transaction::Version as TxVersion;
use bitcoin::{Amount, CompactTarget, Sequence, TxIn, TxMerkleNode, TxOut, Witness};
use chand_protocol::node::effect::FundAmount;

mod attach;
mod bump;
mod psbt;

const RATE: Feerate = Feerate(1_000);

fn seed(n: u8) -> Seed {
    Seed::dev_from_bip32_seed(&[n; 32])
}

/// A wallet, and the changes that a database would hold.
struct World {
    wallet: Wallet,
    kept: Vec<Vec<u8>>,
    /// The newest blocks, which the node keeps.
    blocks: Vec<(Height, BlockHash)>,
    nonce: u32,
}

impl World {
    fn new() -> World {
        let wallet = Wallet::load(&seed(1), Network::Regtest, vec![]).unwrap();
        let mut world = World { wallet, kept: vec![], blocks: vec![], nonce: 0 };
        world.keep();
        world
    }

    fn keep(&mut self) {
        self.kept.extend(self.wallet.take_change());
    }

    /// Stops and starts: all that is known comes from the records.
    fn restart(&mut self) {
        self.keep();
        let state = |w: &Wallet| (w.tip(), w.outputs(), w.reserved.clone(), w.leases.clone());
        let before = state(&self.wallet);
        self.wallet = Wallet::load(&seed(1), Network::Regtest, self.kept.clone()).unwrap();
        let newest = self.blocks.len().saturating_sub(288);
        self.wallet.catch_up(&self.blocks[newest..]).unwrap();
        assert_eq!(state(&self.wallet), before);
    }

    fn block(&mut self, txs: &[Transaction]) -> Block {
        self.nonce += 1;
        let header = Header {
            version: Version::TWO,
            prev_blockhash: self.wallet.tip().1,
            merkle_root: TxMerkleNode::all_zeros(),
            time: 1_700_000_000 + self.nonce,
            bits: CompactTarget::from_consensus(0x207f_ffff),
            nonce: self.nonce,
        };
        Block { header, txdata: txs.to_vec() }
    }

    fn mine(&mut self, txs: &[Transaction]) -> BlockHash {
        let block = self.block(txs);
        let height = self.wallet.tip().0.plus(1);
        self.wallet.block_connected(height, &block).unwrap();
        self.keep();
        self.blocks.push((height, block.block_hash()));
        block.block_hash()
    }

    /// The tip is gone.
    fn unmine(&mut self) {
        let (height, hash) = self.wallet.tip();
        self.wallet.block_disconnected(height, hash).unwrap();
        self.blocks.pop();
    }

    /// A stranger's payment to a new address of ours.
    fn payment(&mut self, kind: AddressKind, sat: u64) -> Transaction {
        let script = self.wallet.new_address(kind).script_pubkey();
        self.nonce += 1;
        let from = OutPoint { txid: Txid::from_byte_array([self.nonce as u8; 32]), vout: self.nonce };
        pay(from, vec![(script, sat)])
    }

    fn receive(&mut self, kind: AddressKind, sat: u64) -> OutPoint {
        let tx = self.payment(kind, sat);
        self.mine(std::slice::from_ref(&tx));
        OutPoint { txid: tx.compute_txid(), vout: 0 }
    }

    fn spent(&self, tx: &Transaction) -> Vec<TxOut> {
        let graph = self.wallet.inner.tx_graph();
        tx.input.iter().map(|i| graph.get_txout(i.previous_output).unwrap().clone()).collect()
    }

    /// Everything that must hold of a transaction we made: scripts, fee, replaceability.
    fn check(&self, tx: &Transaction, rate: Feerate) {
        let spent = self.spent(tx);
        verify_spend(tx, &spent).unwrap();
        let sum = |outs: &[TxOut]| outs.iter().map(|o| o.value.to_sat()).sum::<u64>();
        let fee = sum(&spent) - sum(&tx.output);
        let least = rate.fee(tx.weight().to_wu()).0;
        // Dust that was not worth an output may go to the fee.
        assert!(fee >= least && fee <= least * 11 / 10 + 330, "fee {fee}, least {least}");
        assert!(tx.input.iter().all(|i| i.sequence.is_rbf()));
    }
}

fn pay(from: OutPoint, outputs: Vec<(ScriptBuf, u64)>) -> Transaction {
    let input = TxIn {
        previous_output: from,
        script_sig: ScriptBuf::new(),
        sequence: Sequence::MAX,
        witness: Witness::new(),
    };
    let output = |(script_pubkey, sat)| TxOut { script_pubkey, value: Amount::from_sat(sat) };
    Transaction {
        version: TxVersion::TWO,
        lock_time: LockTime::ZERO,
        input: vec![input],
        output: outputs.into_iter().map(output).collect(),
    }
}

/// A channel's script: pay to a witness script hash.
fn channel(n: u8) -> ScriptBuf {
    ScriptBuf::new_p2wsh(&bitcoin::WScriptHash::from_byte_array([n; 32]))
}

fn exact(sat: u64) -> FundAmount {
    FundAmount::Exact(Sat(sat))
}

#[test]
fn addresses_are_those_of_bip_84_and_bip_86() {
    // Both documents derive the first address of the words "abandon … about" on the main network.
    let words = bip39::Mnemonic::parse_in_normalized(
        bip39::Language::English,
        "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about",
    )
    .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("seed");
    std::fs::write(&path, words.to_string()).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let seed = Seed::load(&path, None).unwrap().unwrap();
    let mut wallet = Wallet::load(&seed, Network::Bitcoin, vec![]).unwrap();
    assert_eq!(
        wallet.new_address(AddressKind::P2wpkh).to_string(),
        "bc1qcr8te4kr609gcawutmrza0j4xv80jy8z306fyu"
    );
    assert_eq!(
        wallet.new_address(AddressKind::P2tr).to_string(),
        "bc1p5cyxnuxmeuwuvkwfem96lqzszd02n6xdcjrs20cac6yqjjwudpxqkedrcr"
    );
}

#[test]
fn both_kinds_receive_and_are_spent_together() {
    let mut w = World::new();
    w.receive(AddressKind::P2wpkh, 60_000);
    w.receive(AddressKind::P2tr, 50_000);
    let funded = w.wallet.fund(channel(1), exact(100_000), RATE).unwrap();
    assert_eq!(funded.tx.input.len(), 2);
    let output = &funded.tx.output[funded.vout as usize];
    assert_eq!((output.value.to_sat(), &output.script_pubkey), (100_000, &channel(1)));
    let change = funded.tx.output.iter().find(|o| o.script_pubkey != channel(1)).unwrap();
    assert!(change.script_pubkey.is_p2tr() && w.wallet.is_mine(&change.script_pubkey));
    w.check(&funded.tx, RATE);
    w.restart();
}

#[test]
fn a_bad_taproot_witness_is_found_out() {
    let mut w = World::new();
    w.receive(AddressKind::P2tr, 60_000);
    let mut tx = w.wallet.fund(channel(1), exact(10_000), RATE).unwrap().tx;
    let spent = w.spent(&tx);
    let mut signature = tx.input[0].witness[0].to_vec();
    signature[5] ^= 1;
    tx.input[0].witness = Witness::from_slice(&[signature]);
    assert!(verify_spend(&tx, &spent).unwrap_err().contains("input 0"));
    assert!(verify_spend(&tx, &[]).unwrap_err().contains("0 of 1"));
}

#[test]
fn two_fundings_never_share_a_coin_even_over_a_restart() {
    let mut w = World::new();
    for _ in 0..3 {
        w.receive(AddressKind::P2wpkh, 100_000);
    }
    let first = w.wallet.fund(channel(1), exact(150_000), RATE).unwrap().tx;
    w.restart();
    assert_eq!(w.wallet.balance().reserved, Sat(200_000));
    let second = w.wallet.fund(channel(2), exact(50_000), RATE).unwrap().tx;
    assert!(second.input.iter().all(|i| first.input.iter().all(|j| i.previous_output != j.previous_output)));
    let said = w.wallet.fund(channel(3), exact(50_000), RATE).unwrap_err().to_string();
    assert!(said.contains("0 sat can be spent") && said.contains("300000 sat reserved"), "{said}");
    // One is given up: its coins are free again, also after a restart.
    w.wallet.unreserve(first.compute_txid());
    w.wallet.unreserve(first.compute_txid());
    w.restart();
    assert_eq!((w.wallet.balance().confirmed, w.wallet.balance().reserved), (Sat(200_000), Sat(100_000)));
    // The other is mined: nothing is reserved any more, its change is there.
    w.mine(std::slice::from_ref(&second));
    w.restart();
    let balance = w.wallet.balance();
    assert_eq!(balance.reserved, Sat::ZERO);
    assert!(balance.confirmed > Sat(249_000) && balance.confirmed < Sat(250_000), "{balance:?}");
}

#[test]
fn all_means_all_but_never_more_than_the_bound() {
    let mut w = World::new();
    w.receive(AddressKind::P2wpkh, 100_000);
    w.receive(AddressKind::P2tr, 100_000);
    let tx = w.wallet.fund(channel(1), FundAmount::All { at_most: Sat(16_777_215) }, RATE).unwrap().tx;
    assert_eq!((tx.input.len(), tx.output.len()), (2, 1));
    w.check(&tx, RATE);
    w.wallet.unreserve(tx.compute_txid());
    let funded = w.wallet.fund(channel(1), FundAmount::All { at_most: Sat(120_000) }, RATE).unwrap();
    assert_eq!(funded.tx.output[funded.vout as usize].value.to_sat(), 120_000);
    w.check(&funded.tx, RATE);
    let said = w.wallet.fund(channel(1), FundAmount::All { at_most: Sat(1) }, RATE).unwrap_err();
    assert!(matches!(said, WalletError::Insufficient { .. }), "{said}");
}

#[test]
fn a_strangers_payment_waits_for_a_block_and_our_own_change_does_not() {
    let mut w = World::new();
    let payment = w.payment(AddressKind::P2tr, 80_000);
    w.wallet.insert_unconfirmed(payment.clone());
    w.restart();
    assert_eq!((w.wallet.balance().unconfirmed, w.wallet.balance().spendable()), (Sat(80_000), Sat::ZERO));
    let said = w.wallet.fund(channel(1), exact(50_000), RATE).unwrap_err().to_string();
    assert!(said.contains("80000 sat unconfirmed (wait for a block)"), "{said}");
    w.mine(&[payment]);
    let first = w.wallet.fund(channel(1), exact(30_000), RATE).unwrap().tx;
    w.wallet.insert_unconfirmed(first.clone());
    assert!(w.wallet.balance().change > Sat(49_000));
    let second = w.wallet.fund(channel(2), exact(30_000), RATE).unwrap().tx;
    assert_eq!(second.input[0].previous_output.txid, first.compute_txid());
    w.check(&second, RATE);
    // Change of a payment that spends a stranger's unconfirmed coin is as unsure as that coin.
    let mut w = World::new();
    let payment = w.payment(AddressKind::P2wpkh, 80_000);
    w.wallet.insert_unconfirmed(payment);
    let unsure = w.wallet.withdraw(channel(3), exact(10_000), RATE, None, Some(0)).unwrap();
    assert!(unsure.change.is_some());
    assert_eq!((w.wallet.balance().change, w.wallet.balance().spendable()), (Sat::ZERO, Sat::ZERO));
    w.restart();
}

#[test]
fn a_withdrawal_obeys_the_coins_and_the_depth_it_is_given() {
    let mut w = World::new();
    let deep = w.receive(AddressKind::P2wpkh, 50_000);
    let young = w.receive(AddressKind::P2tr, 60_000);
    let said = w.wallet.withdraw(channel(1), exact(55_000), RATE, None, Some(2)).unwrap_err().to_string();
    assert!(said.contains("50000 sat can be spent"), "{said}");
    let done = w.wallet.withdraw(channel(1), exact(55_000), RATE, Some(vec![young]), None).unwrap();
    assert_eq!(done.tx.input[0].previous_output, young);
    assert_eq!(done.amount, Sat(55_000));
    w.check(&done.tx, RATE);
    let fee = 60_000 - done.tx.output.iter().map(|o| o.value.to_sat()).sum::<u64>();
    assert_eq!(done.fee, Sat(fee));
    let change = done.change.unwrap();
    assert_eq!(w.wallet.outputs().iter().find(|o| o.outpoint == change).unwrap().amount.0, 5_000 - fee);
    for (coins, why) in [
        (vec![young], "it is spent"),
        (vec![deep, deep], "named twice"),
        (vec![OutPoint::null()], "not the wallet's"),
    ] {
        let said =
            w.wallet.withdraw(channel(1), exact(10_000), RATE, Some(coins), None).unwrap_err().to_string();
        assert!(said.contains(why), "{said}");
    }
    let said =
        w.wallet.withdraw(channel(1), exact(50_000), RATE, Some(vec![deep]), None).unwrap_err().to_string();
    assert!(said.contains("from the coins named"), "{said}");
    w.restart();
}

#[test]
fn a_withdrawal_that_the_network_refused_is_forgotten() {
    let mut w = World::new();
    w.receive(AddressKind::P2wpkh, 50_000);
    let done = w.wallet.withdraw(channel(1), exact(20_000), RATE, None, None).unwrap();
    assert_eq!(w.wallet.balance().confirmed, Sat::ZERO);
    w.wallet.forget_unconfirmed(done.tx.compute_txid());
    w.restart();
    assert_eq!((w.wallet.balance().confirmed, w.wallet.balance().change), (Sat(50_000), Sat::ZERO));
}

#[test]
fn amounts_and_feerates_that_cannot_be_are_refused_in_words() {
    let mut w = World::new();
    let said = w.wallet.fund(channel(1), exact(50_000), RATE).unwrap_err().to_string();
    assert!(said.contains("0 sat can be spent: send coins to an address from newaddr"), "{said}");
    w.receive(AddressKind::P2wpkh, 50_000);
    let dust = w.wallet.fund(channel(1), exact(329), RATE).unwrap_err();
    assert_eq!(dust, WalletError::Dust { amount: Sat(329), least: Sat(330) });
    assert_eq!(
        w.wallet.fund(channel(1), exact(400), Feerate(252)),
        Err(WalletError::FeerateTooLow(Feerate(252)))
    );
    for sat in [50_000, 49_900, 2_100_000_000_000_000, u64::MAX] {
        let said = w.wallet.fund(channel(1), exact(sat), RATE).unwrap_err();
        assert!(matches!(said, WalletError::Insufficient { available: Sat(50_000), .. }), "{said}");
    }
    let said = w.wallet.fund(channel(1), exact(1_000), Feerate(u32::MAX)).unwrap_err();
    assert!(matches!(said, WalletError::Insufficient { .. }), "{said}");
    assert_eq!(w.wallet.reserved.len(), 0);
}

#[test]
fn mined_coins_wait_for_a_hundred_blocks() {
    let mut w = World::new();
    let script = w.wallet.new_address(AddressKind::P2wpkh).script_pubkey();
    let mut coinbase = pay(OutPoint::null(), vec![(script, 5_000_000_000)]);
    coinbase.input[0].script_sig = ScriptBuf::from_bytes(vec![1, 1]);
    w.mine(&[coinbase]);
    assert_eq!(w.wallet.outputs()[0].status, OutputStatus::Immature { spendable: Height(101) });
    while w.wallet.tip().0 < Height(99) {
        w.mine(&[]);
    }
    let said = w.wallet.fund(channel(1), exact(50_000), RATE).unwrap_err().to_string();
    assert!(said.contains("5000000000 sat mined too lately"), "{said}");
    w.mine(&[]);
    assert_eq!(w.wallet.outputs()[0].status, OutputStatus::Confirmed(Height(1)));
    let tx = w.wallet.fund(channel(1), exact(50_000), RATE).unwrap().tx;
    w.check(&tx, RATE);
}

#[test]
fn blocks_must_follow_each_other() {
    let mut w = World::new();
    w.mine(&[]);
    let next = w.block(&[]);
    let error = Err(WalletError::OutOfOrder { got: 1, at: 1 });
    assert_eq!(w.wallet.block_connected(Height(1), &next), error);
    let mut stranger = next.clone();
    stranger.header.prev_blockhash = BlockHash::all_zeros();
    assert_eq!(
        w.wallet.block_connected(Height(2), &stranger),
        Err(WalletError::OutOfOrder { got: 2, at: 1 })
    );
    w.wallet.block_connected(Height(2), &next).unwrap();
    assert!(w.wallet.block_disconnected(Height(2), BlockHash::all_zeros()).is_err());
    assert!(w.wallet.block_disconnected(Height(1), next.block_hash()).is_err());
}

#[test]
fn a_reorganisation_makes_coins_unconfirmed_until_they_are_mined_again() {
    let mut w = World::new();
    w.receive(AddressKind::P2wpkh, 100_000);
    let payment = w.payment(AddressKind::P2tr, 70_000);
    w.mine(std::slice::from_ref(&payment));
    let height = w.wallet.tip().0;
    assert_eq!(w.wallet.balance().confirmed, Sat(170_000));
    w.unmine();
    assert_eq!(w.wallet.tip().0, Height(height.0 - 1));
    assert_eq!((w.wallet.balance().confirmed, w.wallet.balance().unconfirmed), (Sat(100_000), Sat(70_000)));
    w.restart();
    w.mine(&[]);
    w.mine(&[payment]);
    assert_eq!((w.wallet.balance().confirmed, w.wallet.balance().unconfirmed), (Sat(170_000), Sat::ZERO));
    w.restart();
    // Down to the first block, and no further.
    let mut w = World::new();
    w.mine(&[]);
    w.unmine();
    let genesis = w.wallet.tip();
    assert_eq!(w.wallet.block_disconnected(genesis.0, genesis.1), Err(WalletError::TooDeep(0)));
}

#[test]
fn a_new_wallet_may_start_at_a_block_and_an_old_one_may_not() {
    let mut w = World::new();
    let hash = BlockHash::from_byte_array([9; 32]);
    w.wallet.start_at(Height(800_000), hash).unwrap();
    w.restart();
    assert_eq!(w.wallet.tip(), (Height(800_000), hash));
    w.receive(AddressKind::P2tr, 70_000);
    assert_eq!(w.wallet.tip().0, Height(800_001));
    assert!(w.wallet.start_at(Height(800_005), hash).is_err());
    let (height, tip) = w.wallet.tip();
    w.wallet.block_disconnected(height, tip).unwrap();
    assert_eq!(w.wallet.block_disconnected(Height(800_000), hash), Err(WalletError::TooDeep(800_000)));
}

#[test]
fn many_changes_become_one_that_says_the_same() {
    let mut w = World::new();
    let early = w.receive(AddressKind::P2wpkh, 100_000);
    assert_eq!(w.wallet.compact(), None);
    while w.wallet.tip().0 < Height(1_500) {
        w.mine(&[]);
    }
    assert_eq!(w.wallet.compact(), None, "blocks without anything of ours are no changes");
    for _ in 0..COMPACT_AFTER {
        w.wallet.new_address(AddressKind::P2tr);
        w.keep();
    }
    w.wallet.fund(channel(1), exact(10_000), RATE).unwrap();
    let before = (w.wallet.tip(), w.wallet.outputs(), w.wallet.reserved.clone());
    let all = w.wallet.compact().unwrap();
    assert_eq!(w.wallet.take_change(), None);
    assert!(all.len() < 40_000, "{} bytes", all.len());
    // Kept after the old ones, or instead of them: it says the same.
    w.kept.push(all.clone());
    for kept in [w.kept.clone(), vec![all.clone()]] {
        let loaded = Wallet::load(&seed(1), Network::Regtest, kept).unwrap();
        assert_eq!((loaded.tip(), loaded.outputs(), loaded.reserved.clone()), before);
    }
    assert!(before.1.iter().any(|o| o.outpoint == early && o.status == OutputStatus::Confirmed(Height(1))));
    w.kept = vec![all];
    w.restart();
    w.unmine();
    w.mine(&[]);
    w.restart();
    assert_eq!(w.wallet.compact(), None);
}

#[test]
fn a_block_without_anything_of_ours_is_kept_by_the_node_alone() {
    let mut w = World::new();
    w.receive(AddressKind::P2wpkh, 100_000);
    let kept = w.kept.len();
    for _ in 0..400 {
        w.mine(&[]);
    }
    assert_eq!(w.kept.len(), kept);
    w.restart();
    assert_eq!((w.kept.len(), w.wallet.tip().0), (kept, Height(401)));
    // A reorganisation is kept at once, and over it the chain is found again.
    w.unmine();
    w.unmine();
    w.restart();
    assert_eq!((w.kept.len(), w.wallet.tip().0), (kept + 1, Height(399)));
    w.mine(&[]);
    w.receive(AddressKind::P2tr, 50_000);
    assert_eq!(w.wallet.tip().0, Height(401));
    w.restart();
    assert_eq!(w.wallet.balance().confirmed, Sat(150_000));
    // Hashes of another chain are refused.
    let foreign = [(Height(401), BlockHash::from_byte_array([7; 32]))];
    assert!(w.wallet.catch_up(&foreign).is_err());
}

#[test]
fn withdrawals_are_told_parents_first_until_a_block_has_them() {
    let mut w = World::new();
    w.receive(AddressKind::P2wpkh, 100_000);
    let funding = w.wallet.fund(channel(1), exact(30_000), RATE).unwrap().tx;
    w.wallet.insert_unconfirmed(funding.clone());
    let first = w.wallet.withdraw(channel(2), exact(20_000), RATE, None, None).unwrap().tx;
    let second = w.wallet.withdraw(channel(3), exact(10_000), RATE, None, None).unwrap().tx;
    let stranger = w.payment(AddressKind::P2tr, 40_000);
    w.wallet.insert_unconfirmed(stranger);
    assert_eq!(second.input[0].previous_output.txid, first.compute_txid());
    w.restart();
    assert_eq!(w.wallet.unconfirmed(), [first.clone(), second.clone()]);
    w.mine(&[funding, first]);
    assert_eq!(w.wallet.unconfirmed(), std::slice::from_ref(&second));
    w.wallet.forget_unconfirmed(second.compute_txid());
    assert_eq!(w.wallet.unconfirmed(), []);
}

#[test]
fn the_first_unused_address_stays_until_it_is_used() {
    let mut w = World::new();
    let first = w.wallet.unused_address(AddressKind::P2wpkh);
    w.restart();
    assert_eq!(w.wallet.unused_address(AddressKind::P2wpkh), first);
    assert_eq!(w.wallet.take_change(), None);
    let from = OutPoint { txid: Txid::from_byte_array([8; 32]), vout: 0 };
    w.mine(&[pay(from, vec![(first.script_pubkey(), 50_000)])]);
    w.restart();
    assert_ne!(w.wallet.unused_address(AddressKind::P2wpkh), first);
}

#[test]
fn records_of_another_seed_or_network_or_none_at_all_are_refused() {
    let mut w = World::new();
    w.receive(AddressKind::P2wpkh, 100_000);
    let load =
        |n, network, kept: Vec<Vec<u8>>| Wallet::load(&seed(n), network, kept).map(|_| ()).unwrap_err();
    assert_eq!(load(2, Network::Regtest, w.kept.clone()), WalletError::WrongSeed);
    assert_eq!(load(1, Network::Signet, w.kept.clone()), WalletError::WrongSeed);
    for bad in [&b""[..], &[1], &[2, 0, b'{', b'}'], &[1, 7, b'{', b'}'], &[1, 0, b'{'], &[1, 0]] {
        let mut kept = w.kept.clone();
        kept.push(bad.to_vec());
        assert!(matches!(load(1, Network::Regtest, kept), WalletError::Record(_)), "{bad:?}");
    }
    let all = w.kept.iter().map(|k| String::from_utf8_lossy(k).into_owned()).collect::<String>();
    assert!(all.contains("tpub") && !all.contains("tprv"), "a private key is kept");
    assert!(!format!("{:?}", w.wallet).contains("prv"));
}
