//! Tests of the keeper: what cannot be read is not forgotten, cases have an end and a bound, nobody pays for what comes twice.
//!
//! In: commitments made for the purpose, with one output that the tower can take. Read next: `keeper`.

use super::*;
use crate::chain::{Auth, Chain};
use crate::tower::watch;
use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash;
use bitcoin::{Amount, CompactTarget, OutPoint, Sequence, TxIn, TxMerkleNode, TxOut, Witness};
use chand_protocol::id::to_hex;
use chand_protocol::sign::RealCrypto;
use chand_protocol::tower::blob::{appoint, entries};
use chand_protocol::tower::message::Quota;
use chand_protocol::tower::seal::Seed;
use chand_protocol::tower::{ChannelTerms, Mode, Noted, Revoked, Sealing};
use chand_protocol::tx::keys::derive_public_key;
use chand_protocol::tx::{script, ChannelType};
use chand_protocol::units::Feerate;
use secp256k1::{PublicKey, SecretKey};
use std::sync::Mutex;

const FEES: Fees = Fees { normal: Feerate(1_000), urgent: Feerate(2_000), minimum: Feerate(253) };
const TAG: Tag = [7; 16];
const DELAY: u16 = 144;

fn secret(byte: u8) -> SecretKey {
    SecretKey::from_slice(&[byte; 32]).expect("a key")
}

fn public(byte: u8) -> PublicKey {
    RealCrypto::new().public_key(&secret(byte))
}

fn client() -> NodeId {
    NodeId(public(99))
}

/// A commitment whose balance of `sat` the tower can take, and what a client sends for it.
struct Cheat {
    tx: Transaction,
    state: Sealed,
    terms: Entry,
}

fn transaction(funding: u8, output: TxOut) -> Transaction {
    let previous_output = OutPoint { txid: Txid::from_byte_array([funding; 32]), vout: 0 };
    let (script_sig, sequence, witness) = (Default::default(), Sequence::MAX, Witness::new());
    let input = TxIn { previous_output, script_sig, sequence, witness };
    let version = bitcoin::transaction::Version::TWO;
    Transaction { version, lock_time: LockTime::ZERO, input: vec![input], output: vec![output] }
}

fn cheat(number: u8, sat: u64) -> Cheat {
    let crypto = RealCrypto::new();
    let (base, revealed) = (secret(200), secret(number + 1));
    let point = crypto.public_key(&revealed);
    let key = crypto.revocation_secret(&base, &revealed).expect("a key");
    let terms = ChannelTerms {
        channel_type: ChannelType::Anchors,
        delay_blocks: DELAY,
        delayed_basepoint: public(150),
        owner_htlc_basepoint: public(151),
        other_htlc_basepoint: public(152),
        payment_basepoint: public(153),
        sweep: script::p2wpkh(&public(154)),
    };
    let delayed = derive_public_key(crypto.secp(), &terms.delayed_basepoint, &point).expect("a key");
    let script_pubkey = script::p2wsh(&script::to_local(&crypto.public_key(&key), &delayed, DELAY));
    let tx = transaction(number + 1, TxOut { value: Amount::from_sat(sat), script_pubkey });
    let txid = tx.compute_txid();
    let to_local = Some((0, Sat(sat)));
    let noted = Noted { number: number.into(), txid, to_local, held: vec![], fresh: vec![] };
    let revoked = Revoked { noted, secret: revealed.secret_bytes().into() };
    let sealing = Sealing { seed: Seed::of(&[9; 32]), revocation: base.secret_bytes().into(), terms };
    let state = appoint(&revoked, &sealing, Mode::Key, &crypto).expect("keys").expect("something to take");
    let terms = entries(&[], &sealing, true).remove(0);
    Cheat { tx, state, terms }
}

fn block(txdata: Vec<Transaction>) -> Block {
    let header = Header {
        version: Version::TWO,
        prev_blockhash: BlockHash::all_zeros(),
        merkle_root: TxMerkleNode::all_zeros(),
        time: 0,
        bits: CompactTarget::from_consensus(0),
        nonce: 0,
    };
    Block { header, txdata }
}

fn open(dir: &Path) -> Keeper {
    let quota = Quota { bytes: 1_000_000, states: 1_000 };
    let archive = Archive::open(dir, quota, 10).expect("opened");
    Keeper::open(dir, archive, FEES, Arc::new(RealCrypto::new())).expect("opened")
}

impl Keeper {
    fn give(&mut self, cheat: &Cheat) -> bool {
        let states = std::slice::from_ref(&cheat.state);
        self.keep(client(), TAG, states, std::slice::from_ref(&cheat.terms)).expect("kept").1
    }

    /// The next block.
    fn block(&mut self, txs: &[&Transaction]) -> Height {
        let height = self.tip().plus(1);
        let hash = BlockHash::from_byte_array([height.0 as u8; 32]);
        self.connected(&block(txs.iter().map(|tx| (*tx).clone()).collect()), height, hash);
        height
    }

    fn empty_blocks(&mut self, count: u32) {
        for _ in 0..count {
            self.block(&[]);
        }
    }
}

/// The file of the channel cannot be read in the very block of the breach, nor in the forty that follow.
#[test]
fn what_cannot_be_read_at_a_breach_is_tried_until_it_can_also_after_a_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("clients").join(client().to_string()).join(to_hex(&TAG));
    let away = dir.path().join("away");
    for restart in [false, true] {
        let mut keeper = open(dir.path());
        let cheat = cheat(u8::from(restart), 50_000);
        keeper.give(&cheat);
        fs::rename(&file, &away).expect("moved");
        let height = keeper.block(&[&cheat.tx]);
        keeper.empty_blocks(40);
        assert!(keeper.plan().is_empty());
        assert_eq!(keeper.again().0.first(), Some(&height));
        assert!(!keeper.look_again(&block(vec![cheat.tx.clone()]), height), "it cannot be read still");
        keeper.save().expect("saved");
        fs::rename(&away, &file).expect("moved back");
        if restart {
            keeper = open(dir.path());
        }
        assert_eq!(keeper.again().0.first(), Some(&height));
        assert!(keeper.look_again(&block(vec![cheat.tx.clone()]), height));
        assert!(!keeper.again().0.contains(&height));
        let due = keeper.plan();
        assert_eq!(due.len(), 1);
        assert_eq!(due[0].input[0].previous_output.txid, cheat.tx.compute_txid());
        // Looking once more finds nothing new.
        assert!(!keeper.look_again(&block(vec![cheat.tx.clone()]), height));
        keeper.forget(client(), TAG).expect("gone");
        fs::remove_file(dir.path().join("watch")).expect("removed");
    }
}

/// The file of a channel cannot be read at a start, and the breach comes while it cannot be.
#[test]
fn blocks_of_before_a_file_could_be_read_are_looked_at_when_it_can() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("clients").join(client().to_string()).join(to_hex(&TAG));
    let away = dir.path().join("away");
    for sent_again in [false, true] {
        let mut keeper = open(dir.path());
        let cheat = cheat(1 + u8::from(sent_again), 50_000);
        keeper.give(&cheat);
        keeper.empty_blocks(2);
        keeper.save().expect("saved");
        fs::rename(&file, &away).expect("moved");
        fs::create_dir(&file).expect("a folder in the place of a file");
        // Two starts without it, and more blocks than are looked at anyway.
        let mut keeper = open(dir.path());
        keeper.empty_blocks(3);
        let height = keeper.block(&[&cheat.tx]);
        keeper.save().expect("saved");
        let mut keeper = open(dir.path());
        keeper.empty_blocks(LATE_BLOCKS + 4);
        keeper.again().0.into_iter().for_each(|height| keeper.nothing_at(height));
        keeper.save().expect("saved");
        assert!(keeper.plan().is_empty());
        fs::remove_dir(&file).expect("removed");
        if !sent_again {
            fs::rename(&away, &file).expect("moved back");
        }
        let mut keeper = open(dir.path());
        if sent_again {
            assert!(!keeper.again().0.contains(&height));
            assert!(keeper.give(&cheat), "blocks that were read already have to be looked at");
        }
        assert!(keeper.again().0.contains(&height));
        assert!(keeper.look_again(&block(vec![cheat.tx.clone()]), height));
        assert_eq!(keeper.plan().len(), 1);
        keeper.empty_blocks(GAP_BLOCKS);
        assert!(keeper.saved.gaps.is_empty(), "once");
        keeper.forget(client(), TAG).expect("gone");
        fs::remove_file(dir.path().join("watch")).expect("removed");
    }
}

/// A state that damage took comes again after its breach.
#[test]
fn blocks_of_before_what_was_damaged_came_again_are_looked_at() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("clients").join(client().to_string()).join(to_hex(&TAG));
    let mut keeper = open(dir.path());
    let cheat = cheat(1, 50_000);
    keeper.give(&cheat);
    keeper.empty_blocks(1);
    keeper.save().expect("saved");
    let mut bytes = fs::read(&file).expect("a file");
    let at = bytes.len() - 40;
    bytes[at] ^= 1;
    fs::write(&file, bytes).expect("written");
    let mut keeper = open(dir.path());
    let height = keeper.block(&[&cheat.tx]);
    keeper.empty_blocks(LATE_BLOCKS + 4);
    assert!(keeper.plan().is_empty() && !keeper.again().0.contains(&height));
    assert!(keeper.give(&cheat), "blocks that were read already have to be looked at");
    assert!(keeper.look_again(&block(vec![cheat.tx.clone()]), height));
    assert_eq!(keeper.plan().len(), 1);
}

#[test]
fn what_comes_after_its_breach_is_looked_for_and_what_comes_twice_is_not() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut keeper = open(dir.path());
    let cheat = cheat(1, 50_000);
    let height = keeper.block(&[&cheat.tx]);
    keeper.empty_blocks(3);
    assert!(keeper.give(&cheat), "a block that was read already has to be looked at");
    assert_eq!(keeper.again().0, [height]);
    assert!(keeper.look_again(&block(vec![cheat.tx.clone()]), height));
    for _ in 0..5 {
        assert!(!keeper.give(&cheat), "a state that is here already costs no block");
    }
    assert!(keeper.again().0.is_empty());
    // The tower was restarted between the breach and its state.
    let late = super::tests::cheat(2, 50_000);
    let height = keeper.block(&[&late.tx]);
    keeper.save().expect("saved");
    let mut keeper = open(dir.path());
    keeper.give(&late);
    assert!(keeper.again().0.contains(&height));
    assert!(keeper.look_again(&block(vec![late.tx.clone()]), height));
}

#[test]
fn an_output_that_is_not_worth_its_fee_keeps_no_case_for_ever() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut keeper = open(dir.path());
    let (small, large) = (cheat(1, 360), cheat(2, 50_000));
    keeper.give(&small);
    keeper.give(&large);
    keeper.block(&[&small.tx, &large.tx]);
    assert_eq!((keeper.saved.cases.len(), keeper.plan().len()), (2, 1));
    keeper.empty_blocks(u32::from(DELAY) + 98);
    assert_eq!(keeper.saved.cases.len(), 2, "a block too early");
    keeper.empty_blocks(1);
    assert_eq!(keeper.saved.cases.len(), 1, "nobody takes 360 sat");
    // What is worth it is tried on, and it is over a hundred blocks after it was taken.
    let penalty = keeper.plan().remove(0);
    keeper.block(&[&penalty]);
    keeper.empty_blocks(98);
    assert_eq!(keeper.saved.cases.len(), 1);
    keeper.empty_blocks(1);
    assert!(keeper.saved.cases.is_empty());
}

#[test]
fn a_breach_that_another_transaction_replaced_is_over() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut keeper = open(dir.path());
    let cheat = cheat(1, 50_000);
    keeper.give(&cheat);
    let height = keeper.block(&[&cheat.tx]);
    keeper.disconnected(height);
    assert_eq!(keeper.plan(), std::slice::from_ref(&cheat.tx), "what penalties hang on is offered again");
    let output = TxOut { value: Amount::from_sat(1_000), script_pubkey: script::p2wpkh(&public(5)) };
    let rival = transaction(2, output);
    assert_eq!(rival.input[0].previous_output, cheat.tx.input[0].previous_output);
    let height = keeper.block(&[&rival]);
    assert!(keeper.plan().is_empty(), "it cannot come back now");
    keeper.empty_blocks(98);
    assert_eq!(keeper.saved.cases.len(), 1);
    // Even that may be undone; a hundred blocks deep it is not.
    for undone in (height.0..=keeper.tip().0).rev().map(Height) {
        keeper.disconnected(undone);
    }
    assert_eq!(keeper.plan(), [cheat.tx]);
    keeper.block(&[&rival]);
    keeper.empty_blocks(99);
    assert!(keeper.saved.cases.is_empty());
}

#[test]
fn a_client_has_a_bounded_number_of_breaches_and_the_smallest_give_way() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut keeper = open(dir.path());
    let cheats: Vec<Cheat> = (0..MAX_CASES as u8 + 3).map(|n| cheat(n, 50_000 + u64::from(n))).collect();
    cheats.iter().for_each(|c| {
        keeper.give(c);
    });
    keeper.block(&cheats.iter().map(|c| &c.tx).collect::<Vec<_>>());
    let stakes: Vec<Sat> = keeper.saved.cases.iter().map(|c| c.breach.at_stake()).collect();
    assert_eq!(stakes.len(), MAX_CASES);
    assert_eq!(stakes.iter().min(), Some(&Sat(50_003)), "the three smallest went");
}

#[test]
fn a_tower_whose_place_is_damaged_starts_all_the_same() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut keeper = open(dir.path());
    keeper.empty_blocks(3);
    keeper.save().expect("saved");
    assert!(!open(dir.path()).is_lost());
    let path = dir.path().join("watch");
    let mut bytes = fs::read(&path).expect("a file");
    bytes[0] = 0xee;
    fs::write(&path, &bytes).expect("written");
    let keeper = open(dir.path());
    assert!(keeper.is_lost() && keeper.blocks().is_empty());
    assert_eq!(fs::read(path.with_extension("damaged")).expect("put aside"), bytes);
}

/// Nobody judged the penalty: it is no refusal, and the same one is offered again.
#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_is_away_refuses_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut keeper = open(dir.path());
    let cheat = cheat(1, 50_000);
    keeper.give(&cheat);
    keeper.block(&[&cheat.tx]);
    let due = keeper.plan();
    let keeper = Arc::new(Mutex::new(keeper));
    // A port that nobody listens at any more.
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
    let chain = Chain::new(&format!("http://127.0.0.1:{port}"), Auth::Url).expect("a URL");
    for _ in 0..4 {
        assert!(watch::publish(&chain, &keeper).await, "it is tried again soon");
    }
    let mut keeper = keeper.lock().expect("not poisoned");
    let refusals: Vec<u8> =
        keeper.saved.cases[0].breach.watch.claims.iter().map(|claim| claim.refusals).collect();
    assert_eq!(refusals, [0]);
    keeper.empty_blocks(1);
    assert_eq!(keeper.plan(), due, "no dearer one");
}
