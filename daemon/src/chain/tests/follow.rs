//! The follower against a fake chain: catching up, new blocks, reorganisations, and a backend that comes and goes.

use super::super::follow::{at_tip, spawn, ChainEvent, FollowConfig, StartingPoint};
use super::fake::{Fake, Mood};
use super::{chain_of, Chain, PATIENCE};
use bitcoin::BlockHash;
use chand_protocol::chain::Network;
use chand_protocol::node::effect::Fees;
use chand_protocol::units::{Feerate, Height};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{timeout, Instant};

const FALLBACK: Fees = Fees { normal: Feerate(1000), urgent: Feerate(2000), minimum: Feerate(253) };

pub(super) struct Watch {
    events: mpsc::Receiver<ChainEvent>,
    task: JoinHandle<()>,
    fees: Vec<Fees>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watch {
    fn from(fake: &Fake, network: Network, start: StartingPoint, room: usize) -> Watch {
        Watch::of(chain_of(fake), network, start, room)
    }

    pub fn of(chain: Chain, network: Network, start: StartingPoint, room: usize) -> Watch {
        let (sender, events) = mpsc::channel(room);
        let config = FollowConfig { network, fallback_fees: FALLBACK, poll: None, repeat: None };
        Watch { events, task: spawn(chain, config, start, sender), fees: Vec::new() }
    }

    fn from_genesis(fake: &Fake, room: usize) -> Watch {
        let hash = fake.state().active[0];
        let start = StartingPoint { height: Height(0), hash, earlier: vec![] };
        Watch::from(fake, Network::Regtest, start, room)
    }

    /// The next event that is not about fees.
    pub async fn next(&mut self) -> ChainEvent {
        loop {
            match timeout(PATIENCE, self.events.recv())
                .await
                .expect("an event in time")
                .expect("a live queue")
            {
                ChainEvent::Fees { fees, .. } => self.fees.push(fees),
                event => return event,
            }
        }
    }

    pub async fn connects(&mut self, first: u32, hashes: &[BlockHash]) {
        for (offset, expected) in hashes.iter().enumerate() {
            match self.next().await {
                ChainEvent::Connected { height, hash, header, block } => {
                    assert_eq!((height, hash), (Height(first + offset as u32), *expected));
                    assert_eq!((header, header.block_hash()), (block.header, hash));
                }
                other => panic!("expected block {expected}, got {other:?}"),
            }
        }
    }

    pub async fn disconnects(&mut self, tip: u32, hashes: &[BlockHash]) {
        for (offset, expected) in hashes.iter().rev().enumerate() {
            match self.next().await {
                ChainEvent::Disconnected { height, hash } => {
                    assert_eq!((height, hash), (Height(tip - offset as u32), *expected));
                }
                other => panic!("expected {expected} to go, got {other:?}"),
            }
        }
    }

    pub async fn synced(&mut self, expected: u32) {
        match self.next().await {
            ChainEvent::Synced { height, .. } => assert_eq!(height, Height(expected)),
            other => panic!("expected Synced, got {other:?}"),
        }
    }

    pub async fn unreachable(&mut self) -> String {
        match self.next().await {
            ChainEvent::Unreachable { reason } => reason,
            other => panic!("expected Unreachable, got {other:?}"),
        }
    }

    pub async fn back(&mut self) {
        let event = self.next().await;
        assert!(matches!(event, ChainEvent::Back), "{event:?}");
    }
}

#[tokio::test]
async fn catches_up_and_then_keeps_up_with_a_slow_reader_too() {
    for room in [1, 100] {
        let fake = Fake::start(Network::Regtest).await;
        let hashes = fake.mine(40, 0);
        let mut watch = Watch::from_genesis(&fake, room);
        watch.connects(1, &hashes).await;
        let time = fake.state().blocks[&hashes[39]].header.time;
        match watch.next().await {
            ChainEvent::Synced { height, best_time_s } => {
                assert_eq!((height, best_time_s), (Height(40), time));
            }
            other => panic!("expected Synced, got {other:?}"),
        }
        for next in 41..44 {
            let mined = fake.mine(1, 0);
            watch.connects(next, &mined).await;
            watch.synced(next).await;
        }
    }
}

#[tokio::test]
async fn a_new_block_is_told_within_a_quarter_second_with_and_without_waiting() {
    for can_wait in [true, false] {
        let fake = Fake::start(Network::Regtest).await;
        fake.state().can_wait = can_wait;
        let mut watch = Watch::from_genesis(&fake, 100);
        watch.synced(0).await;
        let mut best = PATIENCE;
        for height in 1..6 {
            let begun = Instant::now();
            let mined = fake.mine(1, 0);
            watch.connects(height, &mined).await;
            best = best.min(begun.elapsed());
            watch.synced(height).await;
        }
        assert!(best < Duration::from_millis(250), "{best:?}, can_wait {can_wait}");
    }
}

#[tokio::test]
async fn reorganisations_go_down_to_the_fork_and_up_again() {
    let fake = Fake::start(Network::Regtest).await;
    let first = fake.mine(30, 0);
    let mut watch = Watch::from_genesis(&fake, 100);
    watch.connects(1, &first).await;
    watch.synced(30).await;

    // Down to a shorter chain, as after `invalidateblock`.
    fake.unmine(1);
    watch.disconnects(30, &first[29..]).await;
    watch.synced(29).await;
    let second = fake.mine(2, 2);
    watch.connects(30, &second).await;
    watch.synced(31).await;

    // The follower may look between the two halves of a reorganisation: it then sees two.
    let third = fake.reorganise(12, 15, 3);
    watch.disconnects(31, &[&first[19..29], &second[..]].concat()).await;
    let mut event = watch.next().await;
    if matches!(event, ChainEvent::Synced { height: Height(19), .. }) {
        event = watch.next().await;
    }
    assert!(matches!(event, ChainEvent::Connected { hash, .. } if hash == third[0]), "{event:?}");
    watch.connects(21, &third[1..]).await;
    watch.synced(34).await;
}

#[tokio::test]
async fn a_reorganisation_deeper_than_what_is_remembered_asks_for_the_stale_headers() {
    for remembered in [0, 3, 25] {
        let fake = Fake::start(Network::Regtest).await;
        let stale = fake.mine(20, 0);
        let genesis = fake.state().active[0];
        let below = stale.iter().rev().skip(1).chain([&genesis]).copied().take(remembered);
        let start = StartingPoint { height: Height(20), hash: stale[19], earlier: below.collect() };
        fake.unmine(20);
        let best = fake.mine(21, 1);
        let mut watch = Watch::from(&fake, Network::Regtest, start, 100);
        watch.disconnects(20, &stale).await;
        watch.connects(1, &best).await;
        watch.synced(21).await;
    }
}

#[tokio::test]
async fn a_backend_with_another_history_is_refused_before_anything_is_undone() {
    let fake = Fake::start(Network::Regtest).await;
    fake.mine(9, 0);
    let foreign = Fake::start(Network::Regtest).await;
    let hashes = foreign.mine(5, 7);
    let start = StartingPoint { height: Height(5), hash: hashes[4], earlier: vec![hashes[3], hashes[2]] };
    let mut watch = Watch::from(&fake, Network::Regtest, start, 100);
    let reason = watch.unreachable().await;
    assert!(reason.contains("does not know block 3"), "{reason}");
}

#[tokio::test]
async fn a_backend_that_is_still_behind_is_no_reorganisation() {
    let fake = Fake::start(Network::Bitcoin).await;
    let ahead = fake.mine(5, 0);
    let start = StartingPoint { height: Height(5), hash: ahead[4], earlier: vec![] };
    fake.unmine(4);
    let mut watch = Watch::from(&fake, Network::Bitcoin, start, 100);
    let reason = watch.unreachable().await;
    assert!(reason.contains("only at block 1, this node at 5"), "{reason}");
    fake.mine(4, 0);
    watch.back().await;
    watch.synced(5).await;
}

#[tokio::test]
async fn a_backend_that_catches_up_itself_is_not_called_synced() {
    let fake = Fake::start(Network::Bitcoin).await;
    fake.state().extra_headers = 100;
    let chain = chain_of(&fake);
    let start = at_tip(&chain, Network::Bitcoin).await.expect("a tip");
    let mut watch = Watch::from(&fake, Network::Bitcoin, start, 100);
    let calls = fake.state().calls;
    let begun = Instant::now();
    while fake.state().calls < calls + 4 {
        assert!(begun.elapsed() < PATIENCE, "it does not look");
        tokio::task::yield_now().await;
    }
    // Fees come all the same, and they are the first thing that comes.
    let first = timeout(PATIENCE, watch.events.recv()).await.expect("in time");
    assert!(matches!(first, Some(ChainEvent::Fees { .. })), "{first:?}");
    assert!(watch.events.try_recv().is_err());
}

#[tokio::test]
async fn the_backend_may_go_and_come_back() {
    let mut fake = Fake::start(Network::Regtest).await;
    let first = fake.mine(3, 0);
    let mut watch = Watch::from_genesis(&fake, 100);
    watch.connects(1, &first).await;
    watch.synced(3).await;

    fake.stop().await;
    assert!(watch.unreachable().await.contains("cannot be reached"));
    let second = fake.mine(2, 0);
    fake.restart();
    watch.back().await;
    watch.connects(4, &second).await;
    watch.synced(5).await;

    // Another reason is another line; the same one is not repeated.
    fake.state().mood = Mood::Status(503);
    assert!(watch.unreachable().await.contains("too busy"));
    fake.state().login = "alice:changed".into();
    assert!(watch.unreachable().await.contains("refuses"));
    fake.state().login = "alice:secret words".into();
    fake.state().mood = Mood::Good;
    let mut event = watch.next().await;
    while let ChainEvent::Unreachable { reason } = event {
        assert!(reason.contains("too busy"), "{reason}");
        event = watch.next().await;
    }
    assert!(matches!(event, ChainEvent::Back), "{event:?}");
    watch.synced(5).await;
}

#[tokio::test]
async fn a_block_that_is_not_what_it_should_be_is_never_told() {
    let fake = Fake::start(Network::Regtest).await;
    let hashes = fake.mine(5, 0);
    fake.state().corrupt = Some(hashes[2]);
    let mut watch = Watch::from_genesis(&fake, 100);
    watch.connects(1, &hashes[..2]).await;
    assert!(watch.unreachable().await.contains("merkle root"));
    fake.state().corrupt = None;
    watch.back().await;
    watch.connects(3, &hashes[2..]).await;
    watch.synced(5).await;
}

#[tokio::test]
async fn blocks_that_do_not_fit_together_are_never_told() {
    let fake = Fake::start(Network::Regtest).await;
    let hashes = fake.mine(3, 0);
    let stranger = fake.reorganise(1, 1, 9);
    // Height 3 holds a block whose parent is not at height 2.
    let twin = {
        let mut state = fake.state();
        let mut block = state.blocks[&stranger[0]].clone();
        block.header.prev_blockhash = hashes[0];
        let hash = block.block_hash();
        state.blocks.insert(hash, block);
        state.active[3] = hash;
        hash
    };
    let mut watch = Watch::from_genesis(&fake, 100);
    watch.connects(1, &hashes[..2]).await;
    assert!(watch.unreachable().await.contains("do not fit together"), "{twin}");
}

#[tokio::test]
async fn without_proof_of_work_there_is_no_block_on_a_real_network() {
    let fake = Fake::start(Network::Signet).await;
    let genesis = fake.state().active[0];
    fake.mine(1, 0);
    let start = StartingPoint { height: Height(0), hash: genesis, earlier: vec![] };
    let mut watch = Watch::from(&fake, Network::Signet, start, 100);
    assert!(watch.unreachable().await.contains("proof of work"));
}

#[tokio::test]
async fn another_network_is_refused() {
    let fake = Fake::start(Network::Testnet4).await;
    let mut watch = Watch::from_genesis(&fake, 100);
    assert!(watch.unreachable().await.contains("is on testnet4, this node on regtest"));
}

#[tokio::test]
async fn fees_come_before_synced_and_again_when_they_change() {
    let fake = Fake::start(Network::Regtest).await;
    fake.state().min_fee = 0.00006;
    let mut watch = Watch::from_genesis(&fake, 100);
    watch.synced(0).await;
    // No estimate: the fallback, raised to what the mempool takes.
    let raised = Fees { normal: Feerate(1500), urgent: Feerate(2000), minimum: Feerate(1500) };
    assert_eq!(watch.fees, [raised]);
    fake.state().feerate = Some(0.0002);
    fake.state().min_fee = 0.00001;
    let changed = timeout(PATIENCE, watch.events.recv()).await.expect("in time");
    match changed {
        Some(ChainEvent::Fees { fees, estimates }) => {
            let expected = Fees { normal: Feerate(5000), urgent: Feerate(5000), minimum: Feerate(253) };
            assert_eq!(fees, expected);
            assert_eq!(estimates, [(2, Feerate(5000)), (6, Feerate(5000))]);
        }
        other => panic!("expected fees, got {other:?}"),
    }
}

#[tokio::test]
async fn following_ends_when_nobody_listens() {
    let fake = Fake::start(Network::Regtest).await;
    let mut watch = Watch::from_genesis(&fake, 100);
    watch.synced(0).await;
    watch.events.close();
    timeout(PATIENCE, &mut watch.task).await.expect("in time").expect("an orderly end");
}

#[tokio::test]
async fn how_often_to_look_can_be_told() {
    let fake = Fake::start(Network::Bitcoin).await;
    let start = at_tip(&chain_of(&fake), Network::Bitcoin).await.expect("a tip");
    let poll = Some(Duration::from_millis(5));
    let config = FollowConfig { network: Network::Bitcoin, fallback_fees: FALLBACK, poll, repeat: None };
    let (sender, events) = mpsc::channel(100);
    let mut watch = Watch { events, task: spawn(chain_of(&fake), config, start, sender), fees: Vec::new() };
    watch.synced(0).await;
    // By itself it would look every ten seconds.
    let (calls, begun) = (fake.state().calls, Instant::now());
    while fake.state().calls < calls + 20 {
        assert!(begun.elapsed() < PATIENCE, "it does not look");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A node whose chain is quiet hears that it is: for as long as the backend has all blocks that it knows headers of.
#[tokio::test]
async fn that_all_is_told_is_said_again_while_the_backend_is_at_its_best_header() {
    let fake = Fake::start(Network::Bitcoin).await;
    let start = at_tip(&chain_of(&fake), Network::Bitcoin).await.expect("a tip");
    let poll = Some(Duration::from_millis(5));
    let repeat = Some(Duration::from_millis(20));
    let config = FollowConfig { network: Network::Bitcoin, fallback_fees: FALLBACK, poll, repeat };
    let (sender, events) = mpsc::channel(1);
    let mut watch = Watch { events, task: spawn(chain_of(&fake), config, start, sender), fees: Vec::new() };
    for _ in 0..3 {
        watch.synced(0).await;
    }
    fake.state().extra_headers = 1;
    // What was said before may still be under way.
    let (calls, begun) = (fake.state().calls, Instant::now());
    while fake.state().calls < calls + 40 {
        assert!(begun.elapsed() < PATIENCE, "it does not look");
        while watch.events.try_recv().is_ok() {}
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let calls = fake.state().calls;
    while fake.state().calls < calls + 40 {
        assert!(watch.events.try_recv().is_err(), "it is behind, and says that it is not");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    fake.state().extra_headers = 0;
    watch.synced(0).await;
}
