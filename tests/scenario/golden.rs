//! Records of an earlier day still load.
//!
//! In: the databases of two nodes with a channel, payments and held HTLCs, as written when their format was made
//! (`data/records-v1-*.txt`, a line an entry: key and value in hex). Out: the same nodes, record for record, where later
//! versions added fields at the ends.
//! After a change of the format on purpose (a new record version) a new pair of files is made beside the old one:
//! `CHAND_WRITE_GOLDEN=1 cargo test --release --workspace --test scenario golden`.

use chand_protocol::id::{hex_bytes, to_hex, Side};
use chand_protocol::store::Entry;
use chand_tests::duet::play::Open;
use chand_tests::duet::{Duet, ALICE, BOB};
use std::collections::BTreeMap;
use std::path::PathBuf;

const SEED: u64 = 90;
const NAMES: [&str; 2] = ["alice", "bob"];

fn file(seat: usize) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scenario/data");
    folder.join(format!("records-v1-{}.txt", NAMES[seat]))
}

/// A channel with a past, and one HTLC held each way.
fn lived() -> Duet {
    let mut duet = Duet::opened(SEED, Open::default());
    duet.pay(ALICE, "tea", 50_000_000);
    duet.pay(BOB, "rent", 1_000_000);
    duet.pay_held(ALICE, 1, 2_000_000);
    duet.pay_held(BOB, 2, 3_000_000);
    duet.run();
    duet
}

fn write(seat: usize, entries: &[Entry]) {
    let lines: String = entries.iter().map(|(k, v)| format!("{} {}\n", to_hex(k), to_hex(v))).collect();
    std::fs::write(file(seat), lines).expect("written");
}

fn read(seat: usize) -> Vec<Entry> {
    let text = std::fs::read_to_string(file(seat)).expect("the golden file");
    let line = |l: &str| {
        let (key, value) = l.split_once(' ').expect("key and value");
        (hex_bytes(key).expect("hex"), hex_bytes(value).expect("hex"))
    };
    text.lines().map(line).collect()
}

#[test]
fn records_of_version_1_load_and_say_the_same() {
    if std::env::var_os("CHAND_WRITE_GOLDEN").is_some() {
        let duet = lived();
        for seat in [ALICE, BOB] {
            write(seat, &duet.seats[seat].store.durable());
        }
    }
    // Only for its nodes' keys, which come from the seed.
    let keys = Duet::new(SEED);
    for seat in [ALICE, BOB] {
        let entries = read(seat);
        let node = keys.seats[seat].reborn(entries.clone());
        let sorted = |entries: Vec<Entry>| entries.into_iter().collect::<BTreeMap<_, _>>();
        let wallet = chand_protocol::record::Kind::Wallet as u8;
        // The wallet's records are the daemon's to understand.
        let kept = sorted(entries.into_iter().filter(|(key, _)| key[0] != wallet).collect());
        // Fields that came since stand at the ends, with their defaults.
        let now = sorted(node.records());
        assert!(now.keys().eq(kept.keys()), "{}: other records than were kept", NAMES[seat]);
        // One that is under way was one HTLC then, and is a list of parts now: the same from here on.
        assert_eq!(sorted(keys.seats[seat].reborn(node.records()).records()), now);
        let payment = chand_protocol::record::Kind::Payment as u8;
        for (key, value) in kept.iter().filter(|(key, _)| key[0] != payment) {
            let same = now[key].starts_with(value) && now[key].len() <= value.len() + 8;
            assert!(same, "{}: {} is not what was kept", NAMES[seat], to_hex(key));
        }
        let channel = node.channels().next().expect("the channel");
        let pending = |side| channel.ledger.htlcs.values().filter(|h| h.id.offered_by == side).count();
        assert_eq!((pending(Side::Local), pending(Side::Remote)), (1, 1));
        assert_eq!(channel.past().len(), 2);
        assert!(channel.commits.local_number >= 6, "{}", channel.commits.local_number);
        let ours = channel.to_us().0;
        let start = channel.terms.initial_balance(Side::Local).0;
        let moved = if seat == ALICE { start - 49_000_000 } else { start + 49_000_000 };
        assert_eq!(ours, moved);
    }
}

#[test]
fn a_backup_of_version_1_opens_and_would_be_made_the_same() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scenario/data/backup-v1.txt");
    let duet = lived();
    let key = duet.seats[ALICE].keys().backup_key();
    let whole = duet.seats[ALICE].node.backup();
    let sealed = key.seal(&whole, 0);
    if std::env::var_os("CHAND_WRITE_GOLDEN").is_some() {
        std::fs::write(&path, to_hex(&sealed) + "\n").expect("written");
    }
    let golden = hex_bytes(std::fs::read_to_string(path).expect("the golden file").trim()).expect("hex");
    assert_eq!(key.open(&golden), Ok(whole));
    assert_eq!(golden, sealed, "made otherwise now: give it a new version, and keep this file");
}
