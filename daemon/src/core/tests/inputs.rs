//! What the node makes of the inputs that only a daemon has.

use super::*;
use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::Transaction;
use chand_protocol::id::LinkId;
use chand_protocol::node::effect::{After, Input};
use chand_protocol::node::step;
use chand_protocol::node::Node;
use chand_protocol::store::Journal;
use chand_protocol::units::Timestamp;
use chand_protocol::wire::features::Features;
use chand_protocol::wire::message::Init;
use chand_protocol::wire::Message;

/// A node and its disk.
struct Seat {
    node: Node,
    journal: Journal<MemoryStore>,
}

impl Seat {
    fn on(disk: &MemoryStore) -> Seat {
        let network = chand_protocol::chain::Network::Regtest;
        let config = NodeConfig::new(network, "Alice", ScriptBuf::new());
        let keys = NodeKeys::from_seed(&[1; 64], network);
        let entries = disk.load().expect("readable");
        let crypto = Arc::new(RealCrypto::new());
        let node = Node::restore(config, keys, Entropy::new([1; 32]), crypto, entries).expect("a node");
        Seat { node, journal: Journal::new(disk.clone()) }
    }

    fn step(&mut self, inputs: Vec<Input>) -> Vec<After> {
        let batch = step(&mut self.node, Timestamp(1), inputs);
        let proof = self.journal.commit(std::slice::from_ref(&batch)).expect("kept");
        batch.release(&proof).expect("covered")
    }
}

fn change(byte: u8) -> Input {
    Input::Wallet { change: vec![byte; 3], publish: None, reply: None }
}

#[test]
fn the_whole_wallet_takes_the_place_of_its_changes() {
    let disk = MemoryStore::new();
    let mut alice = Seat::on(&disk);
    alice.step(vec![change(1), change(2)]);
    // Over a restart the node still knows which records there are.
    let mut alice = Seat::on(&disk);
    assert_eq!(alice.node.take_wallet_changes(), [vec![1; 3], vec![2; 3]]);
    alice.step(vec![change(3), Input::WalletCompacted { change: vec![9; 3] }]);
    assert_eq!(Seat::on(&disk).node.take_wallet_changes(), [vec![9; 3]]);
    alice.step(vec![change(4)]);
    assert_eq!(Seat::on(&disk).node.take_wallet_changes(), [vec![9; 3], vec![4; 3]]);
}

#[test]
fn a_withdrawal_without_a_block_is_offered_again() {
    let tx = Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input: vec![], output: vec![] };
    let after = Seat::on(&MemoryStore::new()).step(vec![Input::Offer { tx: tx.clone() }]);
    let published = after.into_iter().map(|after| match after {
        After::Publish(publish) => publish.into_parts(),
        other => panic!("{other:?}"),
    });
    assert_eq!(published.collect::<Vec<_>>(), [(tx, "withdrawal")]);
}

#[test]
fn a_peer_is_told_why_its_message_cannot_be_read() {
    let mut alice = Seat::on(&MemoryStore::new());
    let peer =
        NodeKeys::from_seed(&[2; 64], chand_protocol::chain::Network::Regtest).node_id(&Secp256k1::new());
    let link = LinkId(7);
    let linked = Input::Linked { peer, link, inbound: true, address: "127.0.0.1:1".into() };
    alice.step(vec![linked]);
    let bad = |link| Input::BadMessage { peer, link, reason: "3 bytes are missing".into() };
    assert!(alice.step(vec![bad(LinkId(6))]).is_empty(), "of a link that is gone already");
    // BOLT 1 [1.init.6]: before its `init` it is told nothing.
    let early = alice.step(vec![bad(link)]);
    assert!(early.iter().any(|a| matches!(a, After::HangUp { link: l, .. } if *l == link)), "{early:?}");
    assert!(!early.iter().any(|a| matches!(a, After::Send(_))), "{early:?}");
    let link = LinkId(8);
    let init = Message::Init(Init { features: Features::ours_init(false), networks: None });
    alice.step(vec![
        Input::Linked { peer, link, inbound: true, address: "127.0.0.1:1".into() },
        Input::Message { peer, link, message: init },
    ]);
    let after = alice.step(vec![bad(link)]);
    let told = after.iter().position(
        |a| matches!(a, After::Send(out) if matches!(out.message(), Message::Warning(w) if w.text().contains("3 bytes"))),
    );
    let ended = after.iter().position(|a| matches!(a, After::HangUp { link: l, .. } if *l == link));
    assert!(told.is_some() && told < ended, "{after:?}");
}
