//! Names of channels that tell nothing (BOLT 2, `option_scid_alias`): given, kept, told, used by payers, and never the place on chain.
//!
//! In: two nodes, or a line whose last channel is not announced. Out: what each end calls a channel through cuts, crashes, changes
//! and databases of before; which names carry a payment and which do not.
//! Read next: `chand_protocol::channel::alias`, `chand_protocol::node::alias`; `alias_paid` has what payers see of it.

use chand_protocol::id::{ShortChannelId, Side};
use chand_protocol::node::command::{ChannelRef, Command, CommandError, Reply};
use chand_protocol::node::GossipConfig;
use chand_protocol::record::Kind;
use chand_protocol::store::Entry;
use chand_protocol::wire::features::Features;
use chand_protocol::wire::gossip::{signed_digest, ChannelUpdate};
use chand_protocol::wire::message::ChannelReady;
use chand_protocol::wire::Message;
use chand_tests::duet::play::Open;
use chand_tests::duet::{other, Crash, Cut, Duet, Mangle, When, ALICE, BOB};

const BOTH: [usize; 2] = [ALICE, BOB];

/// Not announced, and of whatever type the two agree on.
pub fn hidden() -> Open {
    Open { scid_alias: None, ..Open::default() }
}

/// Two nodes that tell each other of their channels, and all that they say.
fn traced(seed: u64) -> Duet {
    let mut duet = Duet::with(seed, |_, config| config.gossip = Some(GossipConfig::default()));
    duet.tracing = true;
    duet.connect();
    duet
}

fn opened(seed: u64, open: Open) -> Duet {
    let mut duet = traced(seed);
    duet.open(open);
    duet
}

fn said(duet: &Duet, seat: usize) -> impl Iterator<Item = Message> + '_ {
    let own = duet.trace.iter().filter(move |(from, _)| *from == seat);
    own.map(|(_, bytes)| Message::decode(bytes).expect("a message"))
}

fn readies(duet: &Duet, seat: usize) -> Vec<ChannelReady> {
    let ready = |m| if let Message::ChannelReady(m) = m { Some(m) } else { None };
    said(duet, seat).filter_map(ready).collect()
}

fn updates(duet: &Duet, seat: usize) -> Vec<ChannelUpdate> {
    let update = |m| if let Message::ChannelUpdate(m) = m { Some(m) } else { None };
    said(duet, seat).filter_map(update).collect()
}

/// What each end calls the channel; the other one knows it.
fn agreed(duet: &Duet) -> [ShortChannelId; 2] {
    let names = BOTH.map(|seat| duet.channel(seat).alias().expect("a name"));
    for seat in BOTH {
        assert_eq!(duet.channel(other(seat)).peer_alias(), Some(names[seat]));
    }
    names
}

fn place(duet: &Duet) -> ShortChannelId {
    duet.channel(ALICE).short_channel_id().expect("it is confirmed")
}

/// Each end's view of the channel in `listpeerchannels`.
fn listed(duet: &mut Duet, seat: usize) -> chand_protocol::node::view::Channel {
    let reply = duet.must(seat, Command::ListPeerChannels { peer: None, channel: None });
    let Reply::PeerChannels(mut list) = reply else { panic!("{reply:?}") };
    list.pop().expect("the channel")
}

#[test]
fn each_end_gives_the_channel_a_name_and_keeps_the_others() {
    // BOLT 2 [2.ready.3, 2.ready.4, 2.ready.5].
    for (seed, open) in [(1, hidden()), (2, Open::default()), (3, Open { announce: true, ..hidden() })] {
        let mut duet = opened(2_400 + seed, open);
        let names = agreed(&duet);
        let real = place(&duet);
        assert!(names[ALICE] != names[BOB] && names.iter().all(|name| name.0 >> 40 >= 16_000_000));
        assert!(names.iter().all(|name| name.0 & 0xff_ffff_ffff != real.0 & 0xff_ffff_ffff));
        let told =
            |duet: &Duet, seat| readies(duet, seat).iter().map(|m| m.short_channel_id).collect::<Vec<_>>();
        assert_eq!(BOTH.map(|seat| told(&duet, seat)), names.map(|name| vec![Some(name)]));
        for seat in BOTH {
            duet.restart(seat);
            duet.settle();
            assert_eq!(agreed(&duet), names);
        }
        // No commitment was made since: it is said again, with the same name.
        assert_eq!(BOTH.map(|seat| told(&duet, seat)), names.map(|name| vec![Some(name); 3]));
        duet.pay(ALICE, "with it", 1_000_000);
        duet.restart(BOB);
        duet.settle();
        assert_eq!(agreed(&duet), names);
        duet.judge_agreement();
    }
}

#[test]
fn whoever_dies_at_any_step_of_an_opening_never_says_two_names() {
    // BOLT 2 [2.ready.6].
    for when in [When::BeforeCommit, When::BeforeRelease, When::AfterRelease] {
        for seat in BOTH {
            for step in 1.. {
                let mut duet = traced(2_410);
                duet.expected_errors = vec!["unknown channel", "the channel is closed"];
                duet.crashes = vec![Crash { seat, step: duet.seats[seat].steps + step, when }];
                while duet.seats[ALICE].node.channels().next().is_none() {
                    // Who has no channel yet is not called again by itself.
                    let (peer, address) = (duet.id(BOB), Some("127.0.0.1:9736".into()));
                    duet.ask(ALICE, Command::Connect { peer, address });
                    let order = duet.fund_order(ALICE, hidden());
                    duet.ask(ALICE, order);
                }
                duet.settle();
                duet.mine(1);
                duet.settle();
                let done = duet.crashes.is_empty();
                duet.crashes.clear();
                duet.settle();
                for seat in BOTH {
                    let name = duet.channel(seat).alias().expect("a name");
                    let told = readies(&duet, seat);
                    let of_this = told.iter().filter(|m| m.channel_id == duet.channel_id());
                    assert!(of_this.clone().count() > 0);
                    assert!(
                        of_this.clone().all(|m| m.short_channel_id == Some(name)),
                        "{when:?} {seat} {step}"
                    );
                    assert_eq!(duet.channel(other(seat)).peer_alias(), Some(name), "{when:?} {seat} {step}");
                }
                if !done {
                    assert!(step > 5, "{step}");
                    break;
                }
            }
        }
    }
}

#[test]
fn a_cut_that_swallows_a_name_does_not_keep_it_from_the_peer() {
    for after in 0..6 {
        for keep in [None, Some(ALICE), Some(BOB)] {
            let mut duet = traced(2_411);
            let order = duet.fund_order(ALICE, hidden());
            duet.must(ALICE, order);
            duet.cuts = vec![Cut { after: duet.delivered + after, keep }];
            duet.mine(1);
            duet.cuts.clear();
            duet.settle();
            agreed(&duet);
            assert!(BOTH.iter().all(|seat| duet.channel(*seat).is_usable()));
        }
    }
}

#[test]
fn the_type_is_for_channels_that_nobody_is_told_of() {
    // BOLT 2 [2.open.14, 2.open.31].
    let bits = |duet: &Duet| duet.channel(BOB).terms.type_bits().bits().collect::<Vec<_>>();
    assert_eq!(bits(&opened(2_420, hidden())), [12, 22, 46]);
    assert_eq!(bits(&opened(2_421, Open { anchors: false, ..hidden() })), [12, 46]);
    assert_eq!(bits(&opened(2_422, Open { announce: true, ..hidden() })), [12, 22]);
    // Nobody asks for both.
    let mut duet = traced(2_423);
    let order = duet.fund_order(ALICE, Open { announce: true, scid_alias: Some(true), ..hidden() });
    let CommandError { code, message, .. } = duet.must_fail(ALICE, order);
    assert!(code == -32602 && message.contains("announce=false"), "{message}");
    // A peer that does is refused.
    let announced = |message| match message {
        Message::OpenChannel(mut m) => {
            m.channel_flags |= 1;
            Some(Message::OpenChannel(m))
        }
        _ => None,
    };
    duet.expected_errors = vec!["channel refused"];
    duet.mangle = Some(Mangle { from: ALICE, change: announced, times: 1 });
    let order = duet.fund_order(ALICE, Open { scid_alias: Some(true), ..hidden() });
    let CommandError { message, .. } = duet.must_fail(ALICE, order);
    assert!(message.contains("scid_alias is for channels that are not announced"), "{message}");
    assert_eq!(duet.seats[BOB].node.channels().count(), 0);
}

#[test]
fn a_peer_that_takes_no_such_type_is_asked_again_without_it() {
    let strange = |message| match message {
        Message::OpenChannel(mut m) => {
            m.channel_type = Some(Features::of(&[12, 22, 46, 50]));
            Some(Message::OpenChannel(m))
        }
        _ => None,
    };
    for wanted in [None, Some(true)] {
        let mut duet = traced(2_424);
        duet.expected_errors = vec!["channel refused"];
        duet.mangle = Some(Mangle { from: ALICE, change: strange, times: 1 });
        let open = Open { scid_alias: wanted, ..hidden() };
        let order = duet.fund_order(ALICE, open);
        let asked = |duet: &Duet| said(duet, ALICE).filter(|m| matches!(m, Message::OpenChannel(_))).count();
        if wanted.is_some() {
            // Who named the type gets that one or none.
            let CommandError { message, .. } = duet.must_fail(ALICE, order);
            assert!(message.contains("channel_type"), "{message}");
            assert_eq!(asked(&duet), 1);
            continue;
        }
        let reply = duet.must(ALICE, order);
        assert!(
            matches!(&reply, Reply::Funded { channel_type, .. } if *channel_type == [12, 22]),
            "{reply:?}"
        );
        assert_eq!(asked(&duet), 2);
        duet.mine(1);
        agreed(&duet);
        duet.pay(ALICE, "all the same", 1_000_000);
        duet.judge_agreement();
    }
    // One that does not know it is not asked at all.
    let without = |message| match message {
        Message::Init(mut m) => {
            let left = m.features.bits().filter(|bit| *bit != 47).filter_map(|bit| bit.try_into().ok());
            m.features = Features::of(&left.collect::<Vec<u16>>());
            Some(Message::Init(m))
        }
        _ => None,
    };
    let mut duet = Duet::new(2_425);
    duet.tracing = true;
    duet.mangle = Some(Mangle { from: BOB, change: without, times: 1 });
    duet.connect();
    let insists = duet.fund_order(ALICE, Open { scid_alias: Some(true), ..hidden() });
    assert_eq!(duet.must_fail(ALICE, insists).code, 312);
    duet.open(hidden());
    assert_eq!(duet.channel(ALICE).terms.type_bits(), Features::of(&[12, 22]));
    // It is told a name all the same: it may come to know them.
    agreed(&duet);
}

#[test]
fn nothing_that_is_said_of_a_hidden_channel_tells_its_place() {
    // BOLT 2, 7 [2.ready.7, 7.sigs.3, 7.update.2, 7.update.3].
    let mut duet = opened(2_430, hidden());
    duet.mine(8);
    duet.pay(ALICE, "one", 20_000_000);
    for seat in BOTH {
        let order = Command::SetChannel {
            channel: None,
            fee_base_msat: Some(77),
            fee_ppm: None,
            htlc_min_msat: None,
            htlc_max_msat: None,
        };
        duet.must(seat, order);
    }
    let (names, real) = (agreed(&duet), place(&duet).0.to_be_bytes());
    for (from, bytes) in &duet.trace {
        assert!(!bytes.windows(8).any(|part| part == real), "{from}: {}", chand_protocol::id::to_hex(bytes));
    }
    for seat in BOTH {
        let told = updates(&duet, seat);
        assert!(told.len() >= 2 && told.iter().all(|m| m.is_private()));
        assert!(told.iter().all(|m| m.short_channel_id == names[other(seat)]), "{told:?}");
        let known = duet.channel(other(seat)).announce.peer_update().copied().expect("known");
        assert_eq!(known.base_msat, 77);
        assert!(said(&duet, seat).all(|m| !matches!(m, Message::AnnouncementSignatures(_))));
    }
}

#[test]
fn an_update_may_name_either_of_what_we_know_and_no_other_channel() {
    // BOLT 7 [7.update.2]. LDK names a private channel by its place, whatever its type.
    let mut duet = opened(2_431, hidden());
    let (names, real) = (agreed(&duet), place(&duet));
    let last = updates(&duet, BOB).pop().expect("an update");
    let before = last.fee_base_msat;
    let cases = [(real, 501), (names[ALICE], 502), (names[BOB], 502), (ShortChannelId(real.0 + 1), 502)];
    for (place, (name, then)) in cases.into_iter().enumerate() {
        let mut update = ChannelUpdate { short_channel_id: name, ..last.clone() };
        update.timestamp += 1_000 + place as u32;
        update.fee_base_msat = 501 + place as u32;
        let bytes = Message::ChannelUpdate(update.clone()).encode().expect("bytes");
        let digest = signed_digest(&bytes, 1).expect("a digest");
        let secret = duet.seats[BOB].keys();
        update.signature = chand_tests::duet::crypto().sign(&digest, secret.node_secret());
        duet.inject(BOB, &Message::ChannelUpdate(update));
        let known = duet.channel(ALICE).announce.peer_update().copied().expect("known");
        assert_eq!(known.base_msat, then, "{name}");
    }
    assert_ne!(before, 502);
}

#[test]
fn a_peer_may_change_its_name_for_the_channel() {
    let mut duet = opened(2_432, hidden());
    let names = agreed(&duet);
    let point = readies(&duet, BOB)[0].second_per_commitment_point;
    let ready = |short_channel_id| {
        let channel_id = duet.channel_id();
        Message::ChannelReady(ChannelReady {
            channel_id,
            second_per_commitment_point: point,
            short_channel_id,
        })
    };
    let (new, none) = (ShortChannelId(names[BOB].0 ^ 5), ready(None));
    let changed = ready(Some(new));
    duet.inject(BOB, &changed);
    assert_eq!(duet.channel(ALICE).peer_alias(), Some(new));
    assert_eq!(updates(&duet, ALICE).last().map(|m| m.short_channel_id), Some(new));
    // Said without one, the last one stays; and it is kept.
    duet.inject(BOB, &none);
    assert_eq!(duet.channel(ALICE).peer_alias(), Some(new));
    duet.inject(BOB, &changed);
    duet.seats[ALICE].store.crash();
    let again = duet.seats[ALICE].reborn(duet.seats[ALICE].store.durable());
    assert_eq!(again.channels().next().and_then(|c| c.peer_alias()), Some(new));
    // Also when commitments have moved on.
    duet.pay(BOB, "moves on", 1_000_000);
    duet.inject(BOB, &ready_of(names[BOB], &changed));
    assert_eq!(agreed(&duet), names);
    duet.judge_agreement();
}

#[test]
fn a_peer_that_changes_it_without_end_is_not_followed_without_end() {
    let mut duet = opened(2_434, hidden());
    let names = agreed(&duet);
    let like = Message::ChannelReady(readies(&duet, BOB)[0].clone());
    let name = |n: u64| ShortChannelId(names[BOB].0 ^ n);
    let mut last = names[BOB];
    for n in 1..=1_000 {
        duet.inject(BOB, &ready_of(name(n), &like));
        last = duet.channel(ALICE).peer_alias().expect("a name");
    }
    assert!(last != names[BOB] && last != name(1_000), "{last}");
    let told = updates(&duet, ALICE).len();
    assert!(told < 100, "{told} updates for a peer that does not stop");
    // The channel lives, and after a cut there is room again.
    duet.pay(BOB, "all the same", 1_000_000);
    duet.cut(None);
    duet.connect();
    duet.inject(BOB, &ready_of(name(1_000), &like));
    assert_eq!(duet.channel(ALICE).peer_alias(), Some(name(1_000)));
}

fn ready_of(name: ShortChannelId, like: &Message) -> Message {
    match like.clone() {
        Message::ChannelReady(m) => Message::ChannelReady(ChannelReady { short_channel_id: Some(name), ..m }),
        other => panic!("{}", other.name()),
    }
}

#[test]
fn a_peer_that_names_the_place_is_not_repeated() {
    // BOLT 2 [2.ready.9].
    let mut duet = opened(2_433, hidden());
    let (names, real) = (agreed(&duet), place(&duet));
    assert_eq!(duet.channel(ALICE).name_at_peer(), Some(names[BOB]));
    let changed = ready_of(real, &Message::ChannelReady(readies(&duet, BOB)[0].clone()));
    duet.inject(BOB, &changed);
    assert_eq!(duet.channel(ALICE).name_at_peer(), None);
    assert!(updates(&duet, ALICE).iter().all(|m| m.short_channel_id != real));
}

/// The records of a node as they were before channels had names.
fn of_before(entries: Vec<Entry>) -> Vec<Entry> {
    let kept = entries.into_iter().filter(|(key, _)| Kind::of(key) != Some(Kind::Aliases));
    let shorter = kept.map(|(key, mut value)| {
        if Kind::of(&key) == Some(Kind::Terms) {
            assert_eq!(value.pop(), Some(0), "the last field is the type's");
        }
        (key, value)
    });
    shorter.collect()
}

#[test]
fn a_channel_of_an_older_database_gets_a_name_and_its_peer_hears_of_it_once() {
    // BOLT 2 [2.again.24, 2.again.25].
    for moves in [0, 3] {
        let mut duet = opened(2_440 + moves, Open::default());
        for number in 0..moves {
            duet.pay(ALICE, &format!("{number}"), 2_000_000);
        }
        let before = agreed(&duet);
        let old = of_before(duet.seats[ALICE].store.durable());
        // A record of then is written anew only when it changes.
        duet.check_every = 0;
        duet.restore_old(ALICE, old);
        assert_eq!(duet.channel(ALICE).alias(), None, "nothing before it is needed");
        duet.settle();
        let name = duet.channel(ALICE).alias().expect("a name");
        assert_ne!(name, before[ALICE]);
        // Before commitments move Bob says his again, too; later nobody asks him to.
        assert_eq!(duet.channel(ALICE).peer_alias(), (moves == 0).then_some(before[BOB]));
        assert_eq!(duet.channel(BOB).peer_alias(), Some(name));
        let told = readies(&duet, ALICE).len();
        for seat in BOTH {
            duet.restart(seat);
            duet.settle();
            assert_eq!(duet.channel(ALICE).alias(), Some(name));
        }
        let again = readies(&duet, ALICE).len() - told;
        assert_eq!(again, if moves == 0 { 2 } else { 0 }, "told once, or as any channel_ready");
        duet.pay(ALICE, "after", 1_000_000);
        duet.pay(BOB, "back", 1_000_000);
        duet.judge_agreement();
    }
}

#[test]
fn one_of_before_that_was_not_open_yet_gets_its_name_in_time() {
    let mut duet = traced(2_445);
    let order = duet.fund_order(ALICE, Open::default());
    duet.must(ALICE, order);
    let old = of_before(duet.seats[BOB].store.durable());
    duet.check_every = 0;
    duet.reachable = false;
    duet.restore_old(BOB, old);
    // It confirms while nobody is linked.
    duet.mine(1);
    assert!(duet.channel(BOB).alias().is_some() && duet.channel(BOB).ready.0);
    duet.reachable = true;
    duet.settle();
    agreed(&duet);
    duet.pay(ALICE, "first", 1_000_000);
}

#[test]
fn users_see_both_names_and_may_use_ours() {
    let mut duet = opened(2_450, hidden());
    let names = agreed(&duet);
    for seat in BOTH {
        let seen = listed(&mut duet, seat);
        assert_eq!(seen.alias, (Some(names[seat]), Some(names[other(seat)])));
        assert!(seen.private && seen.type_bits.contains(&46) && seen.short_channel_id.is_some());
        let snapshots =
            |name| Command::ListSnapshots { channel: ChannelRef::Short(name), start: None, limit: None };
        for name in [names[seat], seen.short_channel_id.expect("a place")] {
            assert!(matches!(duet.must(seat, snapshots(name)), Reply::Snapshots(list) if list.len() == 1));
        }
        assert_eq!(duet.must_fail(seat, snapshots(names[other(seat)])).code, -32602, "that is the peer's");
    }
    let close = Command::Close {
        channel: ChannelRef::Short(names[ALICE]),
        unilateral_timeout_s: 0,
        destination: None,
        feerange: None,
    };
    assert!(matches!(duet.must(ALICE, close), Reply::Closed { kind: "mutual", .. }));
    duet.judge_close();
    // What a channel was called is listed as long as it is.
    let Reply::ClosedChannels(list) = duet.must(BOB, Command::ListClosedChannels { peer: None }) else {
        panic!("no list")
    };
    assert_eq!(list[0].channel.alias, (Some(names[BOB]), Some(names[ALICE])));
}

#[test]
fn many_channels_have_as_many_names() {
    // BOLT 2 [2.ready.5].
    let mut duet = Duet::new(2_451);
    duet.connect();
    for _ in 0..8 {
        let order = duet.fund_order(ALICE, Open { sat: 100_000, push_msat: 30_000_000, ..hidden() });
        duet.must(ALICE, order);
        duet.mine(1);
    }
    let node = &duet.seats[ALICE].node;
    let mut names: Vec<_> =
        node.channels().flat_map(|c| [c.alias(), c.short_channel_id()]).flatten().collect();
    assert_eq!(names.len(), 16);
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 16);
    assert!(node.channels().all(|c| c.terms.opener == Side::Local && c.peer_alias().is_some()));
}
