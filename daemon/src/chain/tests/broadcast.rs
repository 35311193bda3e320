//! The broadcaster against a fake mempool.

use super::super::broadcast::{spawn, Broadcast};
use super::fake::Fake;
use super::{chain_of, some_txid, tx_of, PATIENCE};
use bitcoin::Network;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;

async fn next(results: &mut mpsc::Receiver<Broadcast>) -> Broadcast {
    timeout(PATIENCE, results.recv()).await.expect("in time").expect("a live queue")
}

#[tokio::test]
async fn each_transaction_has_its_answer_in_order() {
    let fake = Fake::start(Network::Regtest).await;
    let (sender, mut results) = mpsc::channel(8);
    let (broadcaster, _task) = spawn(chain_of(&fake), sender);
    let (good, bad) = (tx_of(some_txid(1), 1), tx_of(some_txid(1), 2));
    let conflict = (-26, "txn-mempool-conflict".to_owned());
    fake.state().refuse.insert(bad.compute_txid(), conflict);
    broadcaster.push(good.clone(), "funding");
    broadcaster.push(bad.clone(), "sweep");
    let expected = Broadcast { txid: good.compute_txid(), why: "funding", result: Ok(()) };
    assert_eq!(next(&mut results).await, expected);
    let refused = Err("txn-mempool-conflict (-26)".to_owned());
    assert_eq!(
        next(&mut results).await,
        Broadcast { txid: bad.compute_txid(), why: "sweep", result: refused }
    );
    // Offered again later, as the node does: to have it already is success.
    broadcaster.push(good, "funding");
    assert_eq!(next(&mut results).await, expected);
}

#[tokio::test]
async fn a_child_carries_the_parent_that_pays_too_little() {
    let fake = Fake::start(Network::Regtest).await;
    let (sender, mut results) = mpsc::channel(8);
    let (broadcaster, _task) = spawn(chain_of(&fake), sender);
    let parent = tx_of(some_txid(1), 1);
    let child = tx_of(parent.compute_txid(), 2);
    let low = (-26, "min relay fee not met, 0 < 110".to_owned());
    fake.state().refuse.insert(parent.compute_txid(), low);
    broadcaster.push(parent.clone(), "commitment");
    broadcaster.push(child.clone(), "anchor");
    assert!(next(&mut results).await.result.is_err());
    assert_eq!(next(&mut results).await.result, Ok(()));
    assert_eq!(fake.state().packages, [[parent.compute_txid(), child.compute_txid()]]);
    // Once in, nothing is remembered: another child goes alone.
    broadcaster.push(tx_of(parent.compute_txid(), 3), "anchor");
    assert_eq!(next(&mut results).await.result, Ok(()));
    assert_eq!(fake.state().packages.len(), 1);
}

#[tokio::test]
async fn a_backend_that_is_away_is_waited_for() {
    let mut fake = Fake::start(Network::Regtest).await;
    let (sender, mut results) = mpsc::channel(8);
    let (broadcaster, task) = spawn(chain_of(&fake), sender);
    fake.stop().await;
    let txs: Vec<_> = (1..4).map(|n| tx_of(some_txid(1), n)).collect();
    for tx in txs.iter().chain(&txs) {
        broadcaster.push(tx.clone(), "claim");
    }
    assert!(timeout(Duration::from_millis(100), results.recv()).await.is_err());
    fake.restart();
    let mut answered = Vec::new();
    while answered.len() < 3 {
        let answer = next(&mut results).await;
        assert_eq!(answer.result, Ok(()));
        if !answered.contains(&answer.txid) {
            answered.push(answer.txid);
        }
    }
    assert_eq!(answered, txs.iter().map(|tx| tx.compute_txid()).collect::<Vec<_>>());
    drop(results);
    timeout(PATIENCE, task).await.expect("in time").expect("an orderly end");
}
