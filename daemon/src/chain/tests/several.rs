//! Several backends: whoever is away, late, lying or on another branch is told apart, and the node goes on with the others.

use super::super::follow::{ChainEvent, StartingPoint};
use super::super::{Report, RpcClient};
use super::fake::{Fake, Mood};
use super::follow::Watch;
use super::{some_txid, tx_of, Auth, Chain, RpcError, PATIENCE};
use bitcoin::BlockHash;
use chand_protocol::chain::Network;
use chand_protocol::units::Height;
use std::time::Duration;
use tokio::time::{sleep, Instant};

/// Two with the same first ten blocks, both looked at.
struct Both {
    fakes: [Fake; 2],
    chain: Chain,
    watch: Watch,
}

impl Both {
    async fn new() -> Both {
        let both = Both::unwatched(Network::Regtest).await;
        both.wait("both are seen", |all| all.iter().all(|r| r.tip.is_some())).await;
        both
    }

    async fn unwatched(second: Network) -> Both {
        let fakes = [Fake::start(Network::Regtest).await, Fake::start(second).await];
        let hashes = fakes[0].mine(10, 0);
        fakes[1].mine(10, 0);
        let client = |fake: &Fake| RpcClient::new(&fake.url(), Auth::Url).expect("a good URL");
        let chain = Chain::of(client(&fakes[0]), vec![client(&fakes[1])]);
        chain.watch(Network::Regtest);
        let hash = fakes[0].state().active[0];
        let start = StartingPoint { height: Height(0), hash, earlier: vec![] };
        let mut watch = Watch::of(chain.clone(), Network::Regtest, start, 100);
        watch.connects(1, &hashes).await;
        Both { fakes, chain, watch }
    }

    async fn wait(&self, what: &str, is_so: impl Fn(&[Report]) -> bool) {
        let begun = Instant::now();
        while !is_so(&self.chain.report()) {
            assert!(begun.elapsed() < PATIENCE, "{what}: {:?}", self.chain.report());
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// These blocks come, and until then nothing but news of what is there already.
    async fn comes(&mut self, first: u32, hashes: &[BlockHash]) {
        for (height, expected) in (first..).zip(hashes) {
            let came = loop {
                match self.watch.next().await {
                    ChainEvent::Synced { .. } => {}
                    ChainEvent::Connected { height, hash, .. } => break (height, hash),
                    other => panic!("expected block {expected}, got {other:?}"),
                }
            };
            assert_eq!(came, (Height(height), *expected));
        }
    }

    fn trouble(&self, n: usize) -> String {
        self.chain.report()[n].trouble.clone().unwrap_or_default()
    }
}

#[tokio::test]
async fn one_that_goes_away_is_replaced_without_a_word_to_the_node() {
    let mut both = Both::new().await;
    both.fakes[0].stop().await;
    let new = both.fakes[1].mine(2, 1);
    both.comes(11, &new).await;
    both.wait("the second is in use", |all| all[1].active && all[0].trouble.is_some()).await;
    assert!(both.trouble(0).contains("cannot be reached"), "{}", both.trouble(0));
    // Back, but it missed two blocks: nothing is undone for its sake.
    both.fakes[0].restart();
    let more = both.fakes[1].mine(2, 1);
    both.comes(13, &more).await;
    both.wait("the first is late", |all| {
        all[0].trouble.as_deref().is_some_and(|t| t.contains("4 blocks behind"))
            || all[0].trouble.as_deref().is_some_and(|t| t.contains("cannot be reached"))
    })
    .await;
}

#[tokio::test]
async fn one_that_stands_still_is_left_and_said_to_be_late() {
    let mut both = Both::new().await;
    let new = both.fakes[1].mine(3, 1);
    both.comes(11, &new).await;
    both.wait("the first is late", |all| all[0].trouble.as_deref() == Some("it is 3 blocks behind, at 10"))
        .await;
    assert!(both.chain.report()[1].active);
    both.fakes[0].mine(3, 1);
    both.wait("it has caught up", |all| all[0].trouble.is_none()).await;
    assert!(both.chain.report()[1].active, "equal work is no reason to change");
}

#[tokio::test]
async fn the_branch_with_more_work_is_followed_and_the_other_named() {
    let mut both = Both::new().await;
    let ours = both.fakes[0].mine(4, 1);
    both.comes(11, &ours).await;
    both.fakes[1].mine(3, 2);
    both.wait("another branch", |all| {
        all[1].trouble.as_deref().is_some_and(|t| t.contains("since block 11"))
    })
    .await;
    let more = both.fakes[1].mine(5, 2);
    let theirs: Vec<BlockHash> = both.fakes[1].state().active[11..].to_vec();
    assert_eq!(theirs[3..], more);
    let mut gone = 0;
    let first = loop {
        match both.watch.next().await {
            ChainEvent::Synced { .. } => {}
            ChainEvent::Disconnected { hash, .. } => {
                gone += 1;
                assert_eq!(hash, ours[4 - gone]);
            }
            ChainEvent::Connected { hash, .. } => break hash,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((gone, first), (4, theirs[0]));
    both.comes(12, &theirs[1..]).await;
    both.wait("the first is named", |all| {
        all[0].trouble.as_deref().is_some_and(|t| t.contains("since block 11"))
    })
    .await;
}

#[tokio::test]
async fn one_that_claims_work_and_serves_rubbish_is_not_believed_again() {
    let mut both = Both::new().await;
    {
        let new = both.fakes[1].mine(1, 9);
        let mut state = both.fakes[1].state();
        (state.corrupt, state.extra_work) = (Some(new[0]), 1_000_000);
    }
    both.wait("it is caught", |all| all[0].active && all[1].trouble.is_some()).await;
    assert!(both.trouble(1).contains("makes no sense"), "{}", both.trouble(1));
    let new = both.fakes[0].mine(2, 1);
    both.comes(11, &new).await;
    // However much it claims.
    both.fakes[1].state().extra_work = 2_000_000;
    let more = both.fakes[0].mine(1, 1);
    both.comes(13, &more).await;
    assert!(both.chain.report()[0].active);
}

#[tokio::test]
async fn one_of_another_chain_is_never_followed() {
    let mut both = Both::unwatched(Network::Signet).await;
    both.fakes[1].state().extra_work = 1_000_000;
    both.wait("it is known", |all| all[1].trouble.is_some()).await;
    assert!(both.trouble(1).contains("signet"), "{}", both.trouble(1));
    let new = both.fakes[0].mine(1, 1);
    both.comes(11, &new).await;
    assert!(both.chain.report()[0].active);
}

#[tokio::test]
async fn when_all_are_away_the_node_hears_it_and_whoever_returns_serves() {
    let mut both = Both::new().await;
    for fake in &mut both.fakes {
        fake.stop().await;
    }
    loop {
        match both.watch.next().await {
            ChainEvent::Synced { .. } => {}
            ChainEvent::Unreachable { .. } => break,
            other => panic!("{other:?}"),
        }
    }
    both.fakes[1].restart();
    let new = both.fakes[1].mine(1, 1);
    let event = both.watch.next().await;
    assert!(matches!(event, ChainEvent::Back), "{event:?}");
    both.comes(11, &new).await;
}

#[tokio::test]
async fn of_a_single_one_the_report_is_true_as_well() {
    let mut fake = Fake::start(Network::Regtest).await;
    let mined = fake.mine(2, 0);
    let chain = Chain::new(&fake.url(), Auth::Url).expect("a good URL");
    let hash = fake.state().active[0];
    let start = StartingPoint { height: Height(0), hash, earlier: vec![] };
    let mut watch = Watch::of(chain.clone(), Network::Regtest, start, 100);
    watch.connects(1, &mined).await;
    watch.synced(2).await;
    let good = Report {
        place: fake.address.to_string(),
        active: true,
        tip: Some((Height(2), mined[1])),
        trouble: None,
    };
    assert_eq!(chain.report().first(), Some(&good));
    fake.stop().await;
    watch.unreachable().await;
    let away = &chain.report()[0];
    assert!(away.tip.is_none() && away.trouble.as_deref().is_some_and(|t| t.contains("cannot be reached")));
    fake.restart();
    watch.back().await;
    watch.synced(2).await;
    assert_eq!(chain.report().first(), Some(&good));
}

#[tokio::test]
async fn all_of_them_get_a_transaction_and_one_that_takes_it_is_enough() {
    let both = Both::new().await;
    let refuse = |n: usize, txid| {
        both.fakes[n].state().refuse.insert(txid, (-26, "bad-txns".into()));
    };
    let tx = tx_of(some_txid(1), 1);
    both.chain.send_raw_transaction(&tx).await.expect("taken");
    let begun = Instant::now();
    while !both.fakes.iter().all(|fake| fake.state().accepted.contains(&tx.compute_txid())) {
        assert!(begun.elapsed() < PATIENCE);
        sleep(Duration::from_millis(10)).await;
    }
    let second = tx_of(some_txid(2), 2);
    refuse(0, second.compute_txid());
    both.chain.send_raw_transaction(&second).await.expect("taken by one");
    let third = tx_of(some_txid(3), 3);
    refuse(0, third.compute_txid());
    refuse(1, third.compute_txid());
    let refused = both.chain.send_raw_transaction(&third).await;
    assert!(matches!(&refused, Err(RpcError::Rpc { code: -26, .. })), "{refused:?}");
    // One that says nothing holds nobody up.
    both.fakes[1].state().mood = Mood::Silent;
    both.chain.send_raw_transaction(&tx_of(some_txid(4), 4)).await.expect("taken");
    both.chain.submit_package(&[tx_of(some_txid(5), 5)]).await.expect("taken");
}
