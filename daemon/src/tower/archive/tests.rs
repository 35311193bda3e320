//! Tests of the archive: torn ends and damage, quotas, what is sent twice, files that cannot be read.
//!
//! Read next: `archive`.

use super::*;

fn client(byte: u8) -> NodeId {
    let key = secp256k1::SecretKey::from_slice(&[byte; 32]).expect("a key");
    NodeId(key.public_key(&secp256k1::Secp256k1::new()))
}

fn state(number: u64) -> Sealed {
    Sealed { number, hint: [number as u8; 16], blob: vec![number as u8; 40] }
}

fn entry(byte: u8) -> Entry {
    Entry { id: [byte; 16], sealed: vec![byte; 30] }
}

const LARGE: Quota = Quota { bytes: 1_000_000, states: 100 };
const TAG: Tag = [7; 16];

#[test]
fn what_was_kept_is_found_again_after_a_start_and_a_half_written_end_is_cut_off() {
    let dir = tempfile::tempdir().expect("a folder");
    let (alice, bob) = (client(1), client(2));
    let mut archive = Archive::open(dir.path(), LARGE, 10).expect("opened");
    archive.keep(alice, TAG, &[state(4), state(5)], &[entry(1)]).expect("kept");
    archive.keep(alice, TAG, &[state(5), state(6)], &[entry(2)]).expect("kept");
    archive.keep(bob, TAG, &[state(5)], &[]).expect("kept");
    let used = archive.used(alice);
    drop(archive);

    let path = dir.path().join("clients").join(alice.to_string()).join(to_hex(&TAG));
    let whole = fs::read(&path).expect("a file");
    assert_eq!(whole.len() as u64, used.bytes);
    for cut in [0, 1, 20] {
        fs::write(&path, [whole.as_slice(), &whole[..cut]].concat()).expect("written");
        let archive = Archive::open(dir.path(), LARGE, 10).expect("opened");
        assert_eq!(fs::read(&path).expect("a file"), whole);
        assert_eq!((archive.next(alice, TAG), archive.next(bob, TAG)), (7, 6));
        assert_eq!(archive.used(alice), Quota { states: 3, ..used });
        assert_eq!(archive.totals(), (2, 2, 4));
        // Two clients may have sent the same hint.
        let (mut hits, unread) = archive.hits(&[5; 16]);
        assert!(unread.is_empty());
        hits.sort_by_key(|hit| hit.client);
        let mut both = [alice, bob];
        both.sort();
        assert_eq!(hits.iter().map(|h| h.client).collect::<Vec<_>>(), both);
        assert!(hits.iter().all(|h| h.blob == [5; 40]));
        assert!(archive.hits(&[9; 16]).0.is_empty());
        let hers = hits.iter().find(|h| h.client == alice).expect("hers");
        let entries = archive.entries(hers.channel).expect("read");
        assert_eq!(entries.keys().collect::<Vec<_>>(), [&[1; 16], &[2; 16]]);
    }
    // The end of the last message was lost: asked again, it is sent again.
    fs::write(&path, &whole[..whole.len() - 1]).expect("written");
    let mut archive = Archive::open(dir.path(), LARGE, 10).expect("opened");
    assert_eq!(archive.next(alice, TAG), 6);
    archive.keep(alice, TAG, &[state(6)], &[]).expect("kept");
    assert_eq!(archive.hits(&[6; 16]).0.len(), 1);
}

#[test]
fn of_many_states_with_one_hint_few_are_looked_at() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut archive = Archive::open(dir.path(), LARGE, 10).expect("opened");
    let flood: Vec<Sealed> = (0..50).map(|number| Sealed { hint: [9; 16], ..state(number) }).collect();
    archive.keep(client(1), TAG, &flood, &[]).expect("kept");
    archive.keep(client(2), TAG, &[Sealed { hint: [9; 16], ..state(1) }], &[]).expect("kept");
    let (hits, _) = archive.hits(&[9; 16]);
    let of = |byte: u8| hits.iter().filter(|hit| hit.client == client(byte)).count();
    assert_eq!((of(1), of(2)), (MAX_SAME_HINT, 1));
}

fn path(dir: &tempfile::TempDir, tag: Tag) -> PathBuf {
    dir.path().join("clients").join(client(1).to_string()).join(to_hex(&tag))
}

#[test]
fn a_damaged_file_is_put_aside_and_the_others_are_served() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut archive = Archive::open(dir.path(), LARGE, 10).expect("opened");
    let other: Tag = [8; 16];
    for number in 0..10 {
        archive.keep(client(1), TAG, &[state(number)], &[entry(number as u8)]).expect("kept");
        archive.keep(client(1), other, &[state(20 + number)], &[]).expect("kept");
    }
    let path = path(&dir, TAG);
    let mut bytes = fs::read(&path).expect("a file");
    let length = bytes.len();
    bytes[length * 3 / 10 + 60..length * 4 / 10 + 60].fill(7);
    fs::write(&path, &bytes).expect("written");
    // Twice: the second time the file is whole again, and still says what is lost.
    for _ in 0..2 {
        let archive = Archive::open(dir.path(), LARGE, 10).expect("opened");
        assert_eq!(archive.next(client(1), other), 30);
        assert_eq!(fs::read(path.with_extension("damaged")).expect("put aside"), bytes);
        assert!(!path.with_extension("damaged-2").exists());
        assert_eq!(archive.next(client(1), TAG), 3);
        assert_eq!(archive.lost(client(1), TAG), Lost { from: 3, to: 10 });
        for number in [0, 1, 2, 5, 6, 7, 8, 9] {
            assert_eq!(archive.hits(&[number; 16]).0.len(), 1, "state {number} can be read");
        }
    }
    // Its node has the states from 4 on still.
    let mut archive = Archive::open(dir.path(), LARGE, 10).expect("opened");
    let again: Vec<Sealed> = (4..12).map(state).collect();
    archive.keep(client(1), TAG, &again, &[]).expect("kept");
    for _ in 0..2 {
        assert_eq!(archive.next(client(1), TAG), 12);
        assert_eq!(archive.lost(client(1), TAG), Lost { from: 3, to: 4 });
        assert_eq!(archive.hits(&[4; 16]).0.len(), 1);
        archive = Archive::open(dir.path(), LARGE, 10).expect("opened");
    }
    // Nothing of it can be read: an empty one takes its place.
    fs::write(&path, vec![7; 200_000]).expect("written");
    let archive = Archive::open(dir.path(), LARGE, 10).expect("opened");
    assert!(path.with_extension("damaged-2").exists());
    assert_eq!((archive.next(client(1), TAG), archive.next(client(1), other)), (0, 30));
    assert!(!archive.lost(client(1), TAG).is_empty());
}

#[test]
fn what_cannot_be_read_now_is_told_apart_from_what_is_not_there() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut archive = Archive::open(dir.path(), LARGE, 10).expect("opened");
    archive.keep(client(1), TAG, &[state(1)], &[entry(1)]).expect("kept");
    let (path, away) = (path(&dir, TAG), dir.path().join("away"));
    let number = archive.hits(&[1; 16]).0[0].channel;
    fs::rename(&path, &away).expect("moved");
    let (hits, unread) = archive.hits(&[1; 16]);
    assert_eq!((hits.len(), unread.len()), (0, 1));
    assert!(archive.entries(number).is_err());
    fs::rename(&away, &path).expect("moved back");
    assert_eq!((archive.hits(&[1; 16]).0.len(), archive.entries(number).expect("read").len()), (1, 1));
    // A file that is there and cannot be read at the start: its channel takes nothing, and says why.
    let other: Tag = [9; 16];
    fs::create_dir(path.with_file_name(to_hex(&other))).expect("a folder in the place of a file");
    let mut archive = Archive::open(dir.path(), LARGE, 10).expect("opened");
    assert_eq!((archive.next(client(1), TAG), archive.trouble(client(1), TAG)), (2, None));
    assert!(archive.trouble(client(1), other).is_some_and(|why| why.contains("cannot read")));
    assert!(matches!(archive.keep(client(1), other, &[state(1)], &[]), Err(KeepError::Full(_))));
}

#[test]
fn what_is_sent_twice_costs_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut archive = Archive::open(dir.path(), LARGE, 10).expect("opened");
    let mut keep = |states: &[Sealed], entries: &[Entry]| {
        let kept = archive.keep(client(1), TAG, states, entries).expect("kept");
        (kept.hints.len(), archive.used(client(1)))
    };
    keep(&[], &[entry(1), entry(2)]);
    let (_, before) = keep(&[], &[entry(3)]);
    assert_eq!(keep(&[], &[entry(1), entry(2), entry(3)]), (0, before));
    let (new, after) = keep(&[state(1), state(2)], &[]);
    assert_eq!((new, after.states), (2, 2));
    assert_eq!(keep(&[state(1), state(2)], &[entry(4)]), (0, after));
    assert_eq!(keep(&[state(2), state(3)], &[]).0, 1);
    let many: Vec<Entry> = (0..=MAX_LOOSE as u16)
        .map(|n| Entry { id: [&n.to_be_bytes()[..], &[7; 14]].concat().try_into().expect("16"), ..entry(1) })
        .collect();
    assert!(archive.keep(client(2), TAG, &[], &many).is_err(), "HTLCs that no state holds have an end");
}

#[test]
fn a_client_has_its_quota_and_a_finished_channel_gives_it_back() {
    let dir = tempfile::tempdir().expect("a folder");
    let quota = Quota { bytes: 500, states: 3 };
    let mut archive = Archive::open(dir.path(), quota, 1).expect("opened");
    let kept = archive.keep(client(1), TAG, &[state(0), state(1)], &[]).expect("kept");
    assert!(kept.full.is_none());
    // What fits is kept, to the last place.
    let kept = archive.keep(client(1), TAG, &[state(2), state(3)], &[]).expect("kept");
    assert_eq!((kept.hints, archive.next(client(1), TAG)), (vec![[2; 16]], 3));
    let left = 500 - archive.used(client(1)).bytes;
    let words = kept.full.expect("it says what is left");
    let expected = format!("{left} of 500 bytes and 0 of 3 states are left for this client");
    assert!(words.starts_with(&expected) && words.ends_with("from state 3 on"), "{words}");
    let full = |result: Result<Kept, KeepError>| match result {
        Err(KeepError::Full(words)) => words,
        other => panic!("{other:?}"),
    };
    let before = archive.used(client(1));
    assert_eq!(full(archive.keep(client(1), TAG, &[state(3)], &[entry(1)])), words);
    assert_eq!(archive.used(client(1)), before);
    assert_eq!(full(archive.keep(client(2), TAG, &[state(0)], &[])), "no more clients are taken");
    assert!(full(archive.keep(client(1), TAG, &[state(4), state(3)], &[])).contains("out of order"));
    full(archive.keep(client(1), [9; 16], &[state(10)], &[]));
    archive.forget(client(1), TAG).expect("gone");
    assert!(archive.hits(&[0; 16]).0.is_empty());
    archive.keep(client(1), [9; 16], &[state(10)], &[]).expect("room again");
    // Bytes run out before states do.
    let entries: Vec<Entry> = (0..8).map(entry).collect();
    assert!(full(archive.keep(client(1), [9; 16], &[state(11)], &entries)).contains("from state 11 on"));
    archive.forget(client(1), TAG).expect("forgetting twice is no error");
    let again = Archive::open(dir.path(), quota, 1).expect("opened");
    assert_eq!(again.totals(), (1, 1, 1));
    assert!(again.used(client(1)).bytes <= quota.bytes);
}
