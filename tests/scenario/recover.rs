//! A database is lost, and the seed comes back with a channel backup: the peers close, and what is ours comes back.
//!
//! In: a duet whose Alice writes backups. Out: her money on chain, and nothing of hers published.
//! Read next: `lost` (an old copy of the records), `chand_protocol::node::lost`.

use chand_protocol::backup::Kept;
use chand_protocol::channel::Phase;
use chand_protocol::node::command::{ChannelRef, Command, Reply};
use chand_protocol::node::lost::recovered;
use chand_protocol::onchain::Standing;
use chand_protocol::store::{Change, Entry};
use chand_protocol::units::{Height, Msat, Timestamp};
use chand_tests::duet::play::Open;
use chand_tests::duet::{crypto, Duet, ALICE, BOB};

/// Two nodes that write backups, with a channel of which both have a part.
fn lived(seed: u64, anchors: bool) -> Duet {
    let mut duet = Duet::with(seed, |_, config| config.backup = true);
    duet.connect();
    duet.open(Open { anchors, ..Open::default() });
    duet.pay(ALICE, "one", 10_000_000);
    duet.pay(BOB, "two", 50_000_000);
    duet
}

/// What Alice's newest backup holds.
fn backup(duet: &Duet) -> Vec<Kept> {
    let seat = &duet.seats[ALICE];
    let opened = seat.keys().backup_key().open(&seat.backup).expect("opens");
    assert_eq!(opened.node, seat.id);
    opened.channels
}

/// A database made from words and `found` alone.
fn made(duet: &Duet, found: &[Kept]) -> Vec<Entry> {
    let keys = duet.seats[ALICE].keys();
    let changes = recovered(&keys, &*crypto(), found, Height(0), Timestamp(1_800_000_000_000));
    let mut entries: Vec<Entry> = changes
        .into_iter()
        .filter_map(|change| match change {
            Change::Put { key, value } => Some((key, value)),
            Change::Delete { .. } => None,
        })
        .collect();
    entries.sort();
    entries
}

fn lose(duet: &mut Duet, found: &[Kept]) {
    let entries = made(duet, found);
    duet.expected_errors =
        vec!["peer reports an error", "may be old", "lost", "refused", "closed by force", "peer fault"];
    duet.check_every = 0;
    duet.restore_old(ALICE, entries);
    // She has no block yet, so that she reads the chain from its first.
    duet.run();
    duet.wait_ms(2_000);
}

fn money(duet: &Duet) -> u64 {
    duet.chain.money_of(&duet.seats[ALICE].wallet.script)
}

#[test]
fn a_backup_is_written_before_a_funding_is_published_and_anew_at_each_open_and_close() {
    let mut duet = Duet::with(950, |_, config| config.backup = true);
    duet.run();
    assert!(backup(&duet).is_empty(), "one of no channels is written at the start");
    duet.connect();
    duet.mute = Some(ALICE);
    let order = duet.fund_order(ALICE, Open::default());
    duet.ask(ALICE, order);
    // Nothing of hers was heard by anybody, and the channel is in it already.
    assert!(duet.chain.mempool.is_empty());
    let first = backup(&duet);
    assert_eq!((first.len(), first[0].confirmed), (1, None));
    assert_eq!(duet.seats[ALICE].backup_then, duet.seats[ALICE].backup, "published before it was written");
    assert_eq!(first[0].address.as_deref(), Some("127.0.0.1:9736"));

    let mut duet = lived(951, true);
    let kept = backup(&duet);
    assert!(kept[0].confirmed.is_some(), "its place on chain is added");
    duet.close(ALICE);
    duet.mine(1);
    assert!(backup(&duet).is_empty(), "a channel that is over is in it no more");
}

#[test]
fn the_peer_is_asked_to_close_and_to_remote_comes_back_whole() {
    // BOLT 2 [2.again.30, 2.again.7].
    for (seed, anchors) in [(952, true), (953, false)] {
        let mut duet = lived(seed, anchors);
        let (ours, found) = (duet.balance_msat(ALICE), backup(&duet));
        let before = money(&duet);
        lose(&mut duet, &found);
        let channel = duet.channel(ALICE);
        assert!(channel.is_lost() && channel.doubt);
        // Bob closes with his newest; nothing of hers was published, not even when the user insists.
        let Phase::Onchain(bob) = duet.channel(BOB).phase.clone() else { panic!("Bob did not close") };
        let id = duet.channel_id();
        duet.must_fail(ALICE, Command::DevFail { channel: ChannelRef::Id(id) });
        let waiting: Vec<_> = duet.chain.mempool.iter().map(|tx| tx.compute_txid()).collect();
        assert_eq!(waiting, [bob.txid]);
        let theirs = duet.chain.mempool[0].clone();
        duet.mine(1);
        let watch = duet.channel(ALICE).watch.as_ref().expect("watched");
        assert_eq!(watch.standing, Standing::Ahead);
        // Half-restored nodes die, too: the sweep is made again.
        duet.restart(ALICE);
        duet.run();
        duet.mine(2);
        // She opened it, and pays for the commitment and its anchors.
        let all: u64 = theirs.output.iter().map(|o| o.value.to_sat()).sum();
        let sat = ours / 1_000 - (1_000_000 - all) - if anchors { 660 } else { 0 };
        assert!(theirs.output.iter().any(|o| o.value.to_sat() == sat), "{sat}: {theirs:?}");
        let fee = before + sat - money(&duet);
        assert!(fee < 2_000, "{fee} sat of {sat} went to fees");
        let Reply::ClosedChannels(closed) = duet.must(ALICE, Command::ListClosedChannels { peer: None })
        else {
            panic!("a list")
        };
        assert_eq!(closed[0].final_to_us_msat, Msat(sat * 1_000));
        duet.mine(110);
        assert!(duet.channel(ALICE).retired);
        assert!(backup(&duet).is_empty());
    }
}

#[test]
fn a_channel_that_was_never_used_is_closed_as_well() {
    let mut duet = Duet::with(954, |_, config| config.backup = true);
    duet.connect();
    duet.open(Open::default());
    let found = backup(&duet);
    let before = money(&duet);
    lose(&mut duet, &found);
    assert!(matches!(duet.channel(BOB).phase, Phase::Onchain(_)));
    duet.mine(2);
    assert!(money(&duet) > before + 590_000, "{}", money(&duet) - before);
}

#[test]
fn one_that_was_closed_while_nobody_looked_is_found_in_the_chain() {
    // By the peer, and by a commitment of ours that is not known any more either.
    for (seed, closer) in [(955, BOB), (956, ALICE)] {
        let mut duet = lived(seed, true);
        let (ours, found) = (duet.balance_msat(ALICE) / 1_000, backup(&duet));
        let before = money(&duet);
        let id = duet.channel_id();
        duet.expected_errors = vec!["peer reports an error", "lost", "refused", "peer fault"];
        duet.ask(closer, Command::DevFail { channel: ChannelRef::Id(id) });
        // A day in which Alice's sweeps reach nobody.
        duet.mute = Some(ALICE);
        if closer == ALICE {
            duet.chain.mine();
        } else {
            duet.mine(1);
        }
        let entries = made(&duet, &found);
        duet.check_every = 0;
        duet.mute = None;
        duet.restore_old(ALICE, entries);
        duet.run();
        assert!(duet.channel(ALICE).spent_height().is_some(), "it is found in the blocks");
        duet.mine(12);
        let gained = money(&duet) - before;
        // Whoever closes pays for it.
        assert!(gained + 20_000 > ours && gained <= ours + 1_000, "{closer}: {gained} of {ours}");
        assert!(duet.channel(ALICE).over_at().is_some());
    }
}

#[test]
fn a_backup_that_is_found_later_is_looked_up_in_the_blocks_that_were_read() {
    let mut duet = lived(957, true);
    let (ours, sealed) = (duet.balance_msat(ALICE) / 1_000, duet.seats[ALICE].backup.clone());
    let before = money(&duet);
    let id = duet.channel_id();
    duet.reachable = false;
    duet.cut(None);
    duet.ask(BOB, Command::DevFail { channel: ChannelRef::Id(id) });
    lose(&mut duet, &[]);
    duet.mine(3);
    assert!(duet.seats[ALICE].node.channels().next().is_none());
    // Foreign and damaged ones among them do no harm.
    let foreign = duet.seats[BOB].backup.clone();
    let refused = duet.must_fail(ALICE, Command::EmergencyRecover { sealed: vec![foreign.clone()] });
    assert!(refused.message.contains("another seed"), "{refused:?}");
    let order = Command::EmergencyRecover { sealed: vec![foreign, sealed[..40].to_vec(), sealed] };
    let Reply::Stubs(made) = duet.must(ALICE, order.clone()) else { panic!("stubs") };
    assert_eq!(made, [id]);
    assert!(duet.channel(ALICE).spent_height().is_some(), "the old block was read again");
    duet.restart(ALICE);
    duet.run();
    duet.judge_records(ALICE);
    duet.mine(2);
    let gained = money(&duet) - before;
    assert!(gained + 4_000 > ours && gained <= ours, "{gained} of {ours}");
    let Reply::Stubs(made) = duet.must(ALICE, order) else { panic!("stubs") };
    assert!(made.is_empty(), "what is known is not made again");
    assert!(!backup(&duet).iter().any(|kept| kept.channel_id == id));
}

#[test]
fn a_new_life_uses_no_key_of_the_old_one() {
    let mut duet = lived(958, true);
    let found = backup(&duet);
    lose(&mut duet, &found);
    duet.mine(2);
    duet.connect();
    let order = duet.fund_order(ALICE, Open::default());
    duet.ask(ALICE, order);
    let indexes: Vec<u64> = duet.seats[ALICE].node.channels().map(|c| c.terms.key_index).collect();
    assert_eq!(indexes.len(), 2);
    let new: Vec<u64> = indexes.into_iter().filter(|index| *index != found[0].key_index).collect();
    assert!(new.len() == 1 && new[0] >= 1_800_000_000, "{new:?}");
}
