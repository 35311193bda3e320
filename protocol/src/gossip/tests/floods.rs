//! Many at once: syncs of whole networks, queries, and peers that send more than is good.

use super::*;

/// Two machines joined by a link, one of which knows `channels` channels. Whatever is asked is answered "yes".
pub(super) struct Pair {
    pub machines: [Gossip; 2],
    pub now: Timestamp,
    pub kinds: BTreeMap<(usize, u16), u32>,
}

pub(super) const LINK: LinkId = LinkId(7);

impl Pair {
    pub fn new(channels: u64) -> Pair {
        let now = Timestamp(NOW_S * 1_000);
        let crypto = RealCrypto::new();
        let mut store = Store::new();
        let one = announcement(&crypto, scid(1), 10, 11);
        let two = update(&crypto, scid(1), 10, 11, NOW_S - 9);
        for n in 0..channels {
            // Many in one block, so that a block is spread over replies.
            let short_channel_id = ShortChannelId((100 + n / 5_000) << 40 | (n % 5_000) << 16);
            let m = ChannelAnnouncement { short_channel_id, ..one.clone() };
            let bytes = Message::ChannelAnnouncement(m).encode().unwrap().into_boxed_slice();
            let kept = Kept::Channel { announcement: bytes, funding: None, since_s: NOW_S as u32 };
            store.restore(kept, &CHAIN.chain_hash(), NOW_S as u32);
            let m = ChannelUpdate { short_channel_id, ..two.clone() };
            let bytes = Message::ChannelUpdate(m).encode().unwrap().into_boxed_slice();
            store.restore(Kept::Update { update: bytes }, &CHAIN.chain_hash(), NOW_S as u32);
        }
        let machines = [(store, 2), (Store::new(), 3)]
            .map(|(store, n)| Gossip::new(Settings::new(CHAIN, id(n)), store, now));
        let mut pair = Pair { machines, now, kinds: BTreeMap::new() };
        pair.join(&[7]);
        pair
    }

    /// Both learn of the link, and what the other's features are.
    pub(super) fn join(&mut self, bits: &[u16]) {
        for at in 0..2 {
            let peer = id(3 - at as u8);
            let features = Features::of(bits);
            self.give(at, vec![Event::News(News::Linked { peer, link: LINK, features })]);
        }
    }

    pub fn give(&mut self, at: usize, events: Vec<Event>) {
        let mut events = events;
        while !events.is_empty() {
            for action in self.machines[at].step(self.now, core::mem::take(&mut events)) {
                match action {
                    Action::Verify { ticket, .. } => events.push(Event::Verified { ticket, good: true }),
                    Action::LookUp(scid) => events.push(Event::LookedUp { scid, utxo: Utxo::Unknown }),
                    Action::Send(spoken) => self.carry(at, vec![spoken]),
                    Action::Keep(_) | Action::Notice(..) => {}
                }
            }
        }
    }

    fn carry(&mut self, from: usize, spoken: Vec<Spoken>) {
        let peer = self.machines[from].settings.us;
        for spoken in spoken {
            let (link, bytes) = spoken.into_parts();
            let message = Message::decode(&bytes).unwrap();
            *self.kinds.entry((from, message.kind())).or_default() += 1;
            self.give(1 - from, vec![Event::Message { peer, link, message }]);
        }
    }

    /// Until nothing moves; rooms on the link are small.
    pub fn run(&mut self) {
        for _ in 0..100_000 {
            let mut moved = false;
            for at in 0..2 {
                let spoken = self.machines[at].pump(LINK, 20_000);
                moved |= !spoken.is_empty();
                self.carry(at, spoken);
                self.give(at, vec![]);
                let before = self.machines[at].out.len();
                let actions = self.machines[at].step(self.now, []);
                moved |= before + actions.len() > 0;
                for action in actions {
                    if let Action::Send(spoken) = action {
                        self.carry(at, vec![spoken]);
                    }
                }
            }
            if !moved && self.machines.iter().all(|m| m.hungry().is_empty()) {
                return;
            }
        }
        panic!("no end");
    }
}

#[test]
fn a_machine_learns_a_whole_network_from_one_peer() {
    // BOLT 7 [7.query.2, 7.query.6, 7.query.11, 7.query.18, 7.query.20, 7.query.22, 7.query.23, 7.query.24,
    // 7.query.25, 7.query.26, 7.query.27, 7.query.28, 7.query.29].
    for channels in [0, 1, 499, 501, 4_000, 9_001] {
        let mut pair = Pair::new(channels);
        pair.run();
        assert_eq!(pair.machines[1].store().channel_count() as u64, channels);
        assert_eq!(pair.machines[1].waiting(), 0);
        assert!(!pair.machines[1].is_asking());
        assert!(pair.machines.iter().all(|m| !m.is_muted(LINK)));
        let said = |at: usize, kind: u16| pair.kinds.get(&(at, kind)).copied().unwrap_or(0);
        assert_eq!(said(1, 263), 1, "one query of all blocks");
        assert_eq!(u64::from(said(0, 264)), channels.div_ceil(4_000).max(1), "as few replies as can be");
        assert_eq!(u64::from(said(1, 261)), channels.div_ceil(500));
        assert_eq!(said(0, 262), said(1, 261));
        // The same announcement once by query; a broadcast may say it again, but nobody asks twice.
        let updated = pair.machines[1].store().channels_from(ShortChannelId(0));
        assert!(updated.into_iter().all(|(_, c)| c.newest() == Some(NOW_S as u32 - 9)));
    }
}

#[test]
fn queries_get_what_they_ask_for_and_one_at_a_time() {
    // BOLT 7 [7.query.7, 7.query.8, 7.query.9, 7.query.10, 7.query.11, 7.query.12].
    let mut world = World::new();
    world.channel(500, 10, 11);
    let updates = [world.update(500, 10, 11, 5), world.update(500, 11, 10, 5)];
    for who in [10, 11] {
        let node = introduction(&world.crypto, who, NOW_S, vec![]);
        world.tell(BOB, Message::NodeAnnouncement(node));
    }
    world.said.clear();
    let query = |flags: Option<Vec<u64>>, scids: Vec<ShortChannelId>| {
        Message::QueryShortChannelIds(QueryShortChannelIds {
            chain_hash: CHAIN.chain_hash(),
            short_channel_ids: ShortChannelIds(scids),
            query_flags: flags.map(QueryFlags),
        })
    };
    let kinds = |world: &mut World| world.heard_by(CAROL).iter().map(Message::kind).collect::<Vec<_>>();
    world.tell(CAROL, query(None, vec![scid(500), scid(999)]));
    assert_eq!(kinds(&mut world), [256, 258, 258, 257, 257, 262]);
    for (flags, want) in
        [(1, vec![256, 262]), (2, vec![258, 262]), (8, vec![257, 262]), (16, vec![257, 262]), (0, vec![262])]
    {
        world.tell(CAROL, query(Some(vec![flags]), vec![scid(500)]));
        assert_eq!(kinds(&mut world), want, "{flags}");
    }
    world.tell(CAROL, query(Some(vec![4]), vec![scid(500)]));
    let second = updates.into_iter().find(|u| u.direction() == 1).unwrap();
    assert_eq!(world.heard_by(CAROL)[0], Message::ChannelUpdate(second));
    // A flag too few; and one query upon the other.
    world.tell(CAROL, query(Some(vec![1]), vec![scid(500), scid(501)]));
    assert_eq!(kinds(&mut world), [1]);
    let two = [query(None, vec![scid(500)]), query(None, vec![scid(500)])];
    let events = two.map(|message| Event::Message { peer: id(3), link: CAROL, message });
    let actions = world.gossip.step(world.now, events);
    let warned = actions.iter().filter(|a| matches!(a, Action::Send(_))).count();
    assert_eq!(warned, 1);
    // About another chain nothing is known.
    world.gossip.pump(CAROL, 1 << 20);
    let other = QueryShortChannelIds {
        chain_hash: [5; 32],
        short_channel_ids: ShortChannelIds(vec![scid(500)]),
        query_flags: None,
    };
    world.tell(CAROL, Message::QueryShortChannelIds(other));
    let end = ReplyShortChannelIdsEnd { chain_hash: [5; 32], full_information: 0 };
    assert_eq!(world.heard_by(CAROL), [Message::ReplyShortChannelIdsEnd(end)]);
    let range = QueryChannelRange {
        chain_hash: CHAIN.chain_hash(),
        first_blocknum: Height(500),
        number_of_blocks: 1,
        query_option: Some(QueryOption(3)),
    };
    world.tell(CAROL, Message::QueryChannelRange(range.clone()));
    let heard = world.heard_by(CAROL);
    let [Message::ReplyChannelRange(reply)] = heard.as_slice() else { panic!("{heard:?}") };
    assert_eq!((reply.short_channel_ids.0.as_slice(), reply.sync_complete), (&[scid(500)][..], 1));
    let at = NOW_S as u32 - 5;
    assert_eq!(reply.timestamps, Some(UpdateTimestamps(vec![(at, at)])));
    // What both say differs in who says it.
    let Some(UpdateChecksums(sums)) = &reply.checksums else { panic!("no checksums") };
    assert!(sums.len() == 1 && sums[0].0 != sums[0].1 && sums[0].0 != 0, "{sums:?}");
    let range = QueryChannelRange { first_blocknum: Height(501), number_of_blocks: u32::MAX, ..range };
    world.tell(CAROL, Message::QueryChannelRange(range));
    let heard = world.heard_by(CAROL);
    let [Message::ReplyChannelRange(reply)] = heard.as_slice() else { panic!("{heard:?}") };
    assert!(reply.short_channel_ids.0.is_empty() && reply.first_blocknum == Height(501));
}

#[test]
fn what_a_peer_asks_before_the_node_tells_of_it_is_not_lost() {
    let mut world = World::new();
    world.channel(500, 10, 11);
    world.update(500, 10, 11, 5);
    world.said.clear();
    let (link, dave) = (LinkId(9), 9);
    world.filter(link, 0);
    for n in 0..1_000 {
        world.tell(
            LinkId(1_000 + n),
            Message::GossipTimestampFilter(GossipTimestampFilter {
                chain_hash: CHAIN.chain_hash(),
                first_timestamp: 0,
                timestamp_range: 1,
            }),
        );
    }
    // Of very many such links the oldest give way.
    assert!(world.gossip.waiting() <= 300, "{}", world.gossip.waiting());
    let mut world = World::new();
    world.channel(500, 10, 11);
    world.update(500, 10, 11, 5);
    world.filter(link, 0);
    world.said.clear();
    world.link(link, dave);
    let kinds: Vec<u16> = world.heard_by(link).iter().map(Message::kind).collect();
    assert!(kinds.contains(&256) && kinds.contains(&258), "{kinds:?}");
}

#[test]
fn a_flood_is_bounded_and_keeps_nobody_else_out() {
    let mut world = World::new();
    world.stuck = Some(vec![]);
    let crypto = RealCrypto::new();
    let template = announcement(&crypto, scid(1), 10, 11);
    let hint = update(&crypto, scid(1), 10, 11, NOW_S);
    let mut most = 0;
    // Workers are slow: nothing is answered as long as it goes on.
    for n in 0..16_000u64 {
        let short_channel_id = scid(1_000 + n);
        let one = ChannelAnnouncement { short_channel_id, ..template.clone() };
        let two = ChannelUpdate { short_channel_id: scid(900_000 + n), ..hint.clone() };
        let messages = [Message::ChannelAnnouncement(one), Message::ChannelUpdate(two)];
        let events = messages.map(|message| Event::Message { peer: id(2), link: BOB, message });
        for action in world.gossip.step(world.now, events) {
            let answer = world.act(action);
            world.stuck.as_mut().unwrap().extend(answer);
        }
        most = most.max(world.gossip.waiting());
    }
    assert!(most < 24_000, "{most} messages waited");
    assert!(!world.gossip.is_muted(BOB), "it may be a crowd of true ones that there is no place for");
    let asked = world.stuck.as_ref().map_or(0, Vec::len);
    assert!(asked <= 1_024, "{asked} checks at once");
    let m = announcement(&crypto, scid(7), 10, 11);
    world.outputs.insert(scid(7), (m.bitcoin_key_1, m.bitcoin_key_2));
    world.tell(CAROL, Message::ChannelAnnouncement(m));
    // As soon as there is room for more checks, hers is among the first.
    let first = world.stuck.replace(vec![]).unwrap_or_default().into_iter();
    let good = first.map(|event| match event {
        Event::Verified { ticket, .. } => Event::Verified { ticket, good: true },
        other => other,
    });
    let before = world.gossip.store().channel_count();
    for event in good {
        world.give(event);
    }
    world.unstick();
    assert!(before == 0 && world.knows(7), "others are heard as before");
    assert!(world.gossip.is_muted(BOB), "none of its signatures holds");
}

#[test]
fn our_own_channels_are_told_to_everybody_and_others_say_nothing_about_them() {
    // BOLT 7 [7.relay.1].
    let mut world = World::new();
    let m = announcement(&world.crypto, scid(500), 1, 10);
    world.outputs.insert(scid(500), (m.bitcoin_key_1, m.bitcoin_key_2));
    world.tell(BOB, Message::ChannelAnnouncement(m.clone()));
    assert!(!world.knows(500), "of our channels our node tells");
    let funding = bitcoin::OutPoint { txid: txid_of(scid(500)), vout: 0 };
    let news = News::Channel { announcement: Box::new(m.clone()), funding, capacity: Sat(5_000) };
    world.give(Event::News(news));
    let u = update(&world.crypto, scid(500), 1, 10, NOW_S);
    world.give(Event::News(News::Update(Box::new(u.clone()))));
    let node = introduction(&world.crypto, 1, NOW_S, vec![]);
    world.give(Event::News(News::Node(Box::new(node.clone()))));
    world.wait(2);
    let all = [Message::ChannelAnnouncement(m), Message::ChannelUpdate(u), Message::NodeAnnouncement(node)];
    assert_eq!(world.heard_by(BOB), all, "nobody asked, and all hear it");
    // Who comes later hears it, too.
    world.link(LinkId(20), 20);
    let heard = world.heard_by(LinkId(20));
    assert!(all.iter().all(|m| heard.contains(m)), "{heard:?}");
    let forged = update(&world.crypto, scid(500), 1, 10, NOW_S + 50);
    world.tell(BOB, Message::ChannelUpdate(forged));
    assert_eq!(world.gossip.store().channel(&scid(500)).and_then(Announced::newest), Some(NOW_S as u32));
}

#[test]
fn who_asks_for_everything_all_the_time_is_not_answered_for_ever_and_takes_no_long_turns() {
    let filter = |first_timestamp, timestamp_range| {
        let chain_hash = CHAIN.chain_hash();
        Message::GossipTimestampFilter(GossipTimestampFilter { chain_hash, first_timestamp, timestamp_range })
    };
    let range = Message::QueryChannelRange(QueryChannelRange {
        chain_hash: CHAIN.chain_hash(),
        first_blocknum: Height(0),
        number_of_blocks: u32::MAX,
        query_option: Some(QueryOption(3)),
    });
    let ids = Message::QueryShortChannelIds(QueryShortChannelIds {
        chain_hash: CHAIN.chain_hash(),
        short_channel_ids: ShortChannelIds((0..8_000).map(scid).collect()),
        query_flags: None,
    });
    for (message, honest, never) in [(filter(0, 1), 100, 600), (range, 100, 600), (ids, 40, 100)] {
        let mut world = World::new();
        world.channel(500, 10, 11);
        world.update(500, 10, 11, 5);
        (0..honest).for_each(|_| world.tell(CAROL, message.clone()));
        assert!(!world.gossip.is_muted(CAROL), "{honest} of {}", message.kind());
        (honest..never).for_each(|_| world.tell(CAROL, message.clone()));
        assert!(world.gossip.is_muted(CAROL), "{never} of {}", message.kind());
    }
    // What lets nothing through is looked for in several turns.
    let mut pair = Pair::new(5_000);
    pair.run();
    let peer = id(3);
    pair.give(0, vec![Event::Message { peer, link: LINK, message: filter(0, 1) }]);
    let mut turns = 0;
    while !pair.machines[0].hungry().is_empty() {
        assert!(pair.machines[0].pump(LINK, 1 << 20).is_empty());
        turns += 1;
        assert!(turns < 100);
    }
    assert!(turns >= 5, "5,000 channels in {turns} turns");
}
