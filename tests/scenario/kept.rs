//! What peers keep for each other: blobs that come back, and a node that comes back by them.
//!
//! In: a duet that writes backups. Out: the newest blob, durable and bounded; Alice's money from her words and Bob's copy alone.
//! Read next: `recover`, `chand_protocol::node` (`storage`).

use chand_protocol::channel::Phase;
use chand_protocol::node::command::Command;
use chand_protocol::node::lost::recovered;
use chand_protocol::record::Kind;
use chand_protocol::store::{Change, Entry};
use chand_protocol::units::{Height, Timestamp};
use chand_protocol::wire::message::PeerStorage;
use chand_protocol::wire::Message;
use chand_tests::duet::play::Open;
use chand_tests::duet::{crypto, Duet, ALICE, BOB};

const MAX: usize = 65_531;

fn duet(seed: u64) -> Duet {
    let mut duet = Duet::with(seed, |_, config| config.backup = true);
    duet.connect();
    duet
}

/// What Bob holds for Alice on his disk.
fn held(duet: &Duet) -> Option<Vec<u8>> {
    let mut found = duet.seats[BOB].store.durable().into_iter().filter(|(k, _)| k[0] == Kind::PeerBlob as u8);
    let (_, value) = found.next()?;
    assert!(found.next().is_none());
    Some(chand_protocol::record::decode(&value).expect("a blob"))
}

fn store(duet: &mut Duet, blob: &[u8]) {
    duet.inject(ALICE, &Message::PeerStorage(PeerStorage { blob: blob.to_vec() }));
}

/// The messages that a seat sent since `from`, by name.
fn said(duet: &Duet, seat: usize, from: usize) -> Vec<&'static str> {
    let sent = duet.trace.iter().skip(from).filter(|(who, _)| *who == seat);
    sent.map(|(_, bytes)| Message::decode(bytes).expect("decodes").name()).collect()
}

#[test]
fn the_newest_blob_of_a_peer_with_a_channel_is_kept_and_comes_back_before_all_else() {
    // BOLT 1 [1.storage.1, 1.storage.2, 1.storage.3, 1.storage.4, 1.storage.5, 1.storage.6].
    let mut duet = duet(960);
    store(&mut duet, b"of a stranger");
    assert_eq!(held(&duet), None, "no channel, no room");
    duet.open(Open::default());
    let first = held(&duet).expect("Alice gave her backup when the channel was up");
    assert_eq!(first.len(), MAX, "its length tells nothing");
    let opened = duet.seats[ALICE].keys().backup_key().open(&first).expect("sealed");
    assert_eq!(opened.channels.len(), 1);
    assert!(duet.seats[BOB].keys().backup_key().open(&first).is_err(), "Bob cannot read it");
    // Once a minute, and then the newest.
    store(&mut duet, b"two");
    store(&mut duet, b"three");
    assert_eq!(held(&duet), Some(first));
    duet.wait_ms(61_000);
    assert_eq!(held(&duet).as_deref(), Some(&b"three"[..]));
    duet.restart(BOB);
    duet.tracing = true;
    let from = duet.trace.len();
    duet.wait_ms(5_000);
    let names = said(&duet, BOB, from);
    let place = |name| names.iter().position(|n| *n == name);
    assert!(
        place("peer_storage_retrieval").expect("given back") < place("channel_reestablish").expect("linked")
    );
    assert!(duet.seats[ALICE].logged("given back") + duet.seats[ALICE].logged("gave back is refused") > 0);
    duet.pay(ALICE, "all is well", 1_000_000);
    duet.judge_agreement();
}

#[test]
fn a_blob_is_forgotten_long_after_the_last_channel() {
    let mut duet = duet(961);
    duet.check_every = 0;
    duet.open(Open::default());
    duet.close(ALICE);
    duet.mine(1_900);
    assert!(held(&duet).is_some());
    duet.mine(300);
    assert_eq!(held(&duet), None);
}

/// Alice lost all but her words.
fn words_only(duet: &Duet) -> Vec<Entry> {
    let changes =
        recovered(&duet.seats[ALICE].keys(), &*crypto(), &[], Height(0), Timestamp(1_800_000_000_000));
    let put = |change| match change {
        Change::Put { key, value } => Some((key, value)),
        Change::Delete { .. } => None,
    };
    let mut entries: Vec<Entry> = changes.into_iter().filter_map(put).collect();
    entries.sort();
    entries
}

#[test]
fn with_the_words_alone_a_peers_copy_gives_the_channel_back() {
    let mut duet = duet(962);
    duet.open(Open::default());
    duet.pay(ALICE, "one", 10_000_000);
    // The last state of the backup reaches Bob's disk within its minute.
    duet.wait_ms(61_000);
    let ours = duet.balance_msat(ALICE) / 1_000;
    let before = duet.chain.money_of(&duet.seats[ALICE].wallet.script);
    let copy = held(&duet);
    duet.expected_errors = vec!["peer reports an error", "lost", "refused", "closed by force", "peer fault"];
    duet.check_every = 0;
    duet.reachable = false;
    duet.cut(None);
    let entries = words_only(&duet);
    duet.restore_old(ALICE, entries);
    duet.run();
    assert!(duet.seats[ALICE].node.channels().next().is_none());
    duet.reachable = true;
    // The link ends as soon as she has said what she lost.
    let (peer, address) = (duet.id(BOB), Some("127.0.0.1:9736".into()));
    duet.ask(ALICE, Command::Connect { peer, address });
    duet.wait_ms(2_000);
    assert!(duet.channel(ALICE).is_lost());
    assert!(matches!(duet.channel(BOB).phase, Phase::Onchain(_)));
    assert_eq!(held(&duet), copy, "what she came for was not written over");
    duet.mine(3);
    let gained = duet.chain.money_of(&duet.seats[ALICE].wallet.script) - before;
    assert!(gained + 4_000 > ours && gained <= ours, "{gained} of {ours}");
}

#[test]
fn a_peer_that_gives_back_rubbish_or_an_old_copy_does_no_harm() {
    let mut duet = duet(963);
    duet.open(Open::default());
    let old = duet.seats[ALICE].backup.clone();
    let foreign = duet.seats[BOB].backup.clone();
    duet.pay(ALICE, "one", 10_000_000);
    for blob in [Vec::new(), b"rubbish".to_vec(), foreign, old[..50].to_vec(), vec![0; MAX], old] {
        duet.inject(BOB, &Message::PeerStorageRetrieval(PeerStorage { blob }));
    }
    assert!(!duet.channel(ALICE).doubt);
    assert_eq!(duet.seats[ALICE].node.channels().count(), 1);
    duet.pay(BOB, "two", 1_000_000);
    duet.judge_agreement();
}
