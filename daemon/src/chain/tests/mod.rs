//! The client against a fake backend: every way in which it can be away, wrong or strange.

pub(crate) mod fake;
mod follow;
mod litecoin;
mod several;

use super::*;
use fake::{Fake, Mood};
use std::path::PathBuf;
use tokio::io::AsyncWriteExt;
use zeroize::Zeroizing;

const PATIENCE: Duration = Duration::from_secs(20);

fn chain_of(fake: &Fake) -> Chain {
    Chain::new(&fake.url(), Auth::Url).expect("a good URL")
}

/// A transaction that spends output 0 of `parent`, told apart by `salt`.
fn tx_of(parent: Txid, salt: u32) -> Transaction {
    Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: bitcoin::absolute::LockTime::from_height(salt).expect("a height"),
        input: vec![bitcoin::TxIn {
            previous_output: OutPoint::new(parent, 0),
            witness: bitcoin::Witness::from_slice(&[[1u8; 3]]),
            ..Default::default()
        }],
        output: vec![TxOut { value: bitcoin::Amount::from_sat(1000), script_pubkey: ScriptBuf::new() }],
    }
}

fn some_txid(byte: u8) -> Txid {
    use bitcoin::hashes::Hash;
    Txid::from_byte_array([byte; 32])
}

#[tokio::test]
async fn a_wrong_password_is_told_and_never_shown() {
    let fake = Fake::start(Network::Regtest).await;
    let password = Zeroizing::new("hunter2".to_owned());
    let wrong = Auth::Password { user: "mallory".into(), password };
    let chain = Chain::new(&format!("http://{}", fake.address), wrong).expect("a good URL");
    let error = chain.get_best_block_hash().await.expect_err("refused");
    assert_eq!(error, RpcError::WrongPassword { place: fake.address.to_string() });
    let shown = format!("{error} {error:?} {chain:?}");
    assert!(!shown.contains("hunter2") && !shown.contains("mallory"), "{shown}");

    let right = chain_of(&fake);
    assert!(right.get_best_block_hash().await.is_ok());
    fake.state().login = "alice:changed".into();
    assert!(matches!(right.get_best_block_hash().await, Err(RpcError::WrongPassword { .. })));
}

#[tokio::test]
async fn a_cookie_is_read_again_when_the_backend_changed_it() {
    let fake = Fake::start(Network::Regtest).await;
    let folder = tempfile::tempdir().expect("a folder");
    let path: PathBuf = folder.path().join(".cookie");
    let url = format!("http://{}", fake.address);
    let chain = Chain::new(&url, Auth::CookieFile(path.clone())).expect("a good URL");

    let missing = chain.get_best_block_hash().await.expect_err("no cookie yet");
    assert!(
        matches!(&missing, RpcError::Unreachable { reason, .. } if reason.contains(".cookie")),
        "{missing}"
    );
    for cookie in ["__cookie__:one", "__cookie__:two"] {
        fake.state().login = cookie.into();
        std::fs::write(&path, format!("{cookie}\n")).expect("written");
        assert!(chain.get_best_block_hash().await.is_ok(), "{cookie}");
    }
    std::fs::write(&path, "__cookie__:stale").expect("written");
    assert!(chain.get_best_block_hash().await.is_ok(), "a login that works is not read again");
    fake.state().login = "__cookie__:three".into();
    assert!(matches!(chain.get_best_block_hash().await, Err(RpcError::WrongPassword { .. })));
    std::fs::write(&path, vec![b'x'; 5000]).expect("written");
    assert!(matches!(chain.get_best_block_hash().await, Err(RpcError::Unreachable { .. })));
}

#[tokio::test]
async fn connections_are_kept_and_replaced_when_lost() {
    let mut fake = Fake::start(Network::Regtest).await;
    let chain = chain_of(&fake);
    for _ in 0..20 {
        chain.get_best_block_hash().await.expect("an answer");
    }
    assert_eq!(fake.state().connections, 1);
    fake.stop().await;
    let error = chain.get_best_block_hash().await.expect_err("nobody there");
    assert!(matches!(error, RpcError::Unreachable { .. }), "{error}");
    fake.restart();
    chain.get_best_block_hash().await.expect("an answer");
    assert_eq!(fake.state().connections, 2);
    // A restart that goes unnoticed between two calls costs no error.
    fake.stop().await;
    fake.restart();
    chain.get_best_block_hash().await.expect("an answer");
}

#[tokio::test]
async fn every_bad_answer_has_its_name() {
    let fake = Fake::start(Network::Regtest).await;
    let chain = chain_of(&fake);
    let long = format!("{{\"result\":\"{}\"}}", "x".repeat(64 * 1024 * 1024));
    for (mood, expected) in [
        (Mood::Error(-1, "nope"), "the chain backend says: nope (-1)"),
        (Mood::Error(-28, "Loading block index"), "it is starting: Loading block index"),
        (Mood::Status(503), "it is too busy"),
        (Mood::Status(403), "refuses our user name and password"),
        (Mood::Status(500), "makes no sense: no JSON (HTTP status 500)"),
        (Mood::Body("<html>".into()), "makes no sense: no JSON"),
        (Mood::Body("[]".into()), "makes no sense: no object"),
        (Mood::Body("{\"result\":1,\"error\":null,\"id\":999}".into()), "an answer to another question"),
        (Mood::Body("{\"error\":{\"code\":\"x\"}}".into()), "an answer to another question"),
        (Mood::Body(long), "makes no sense: it is too long"),
    ] {
        fake.state().mood = mood;
        let error = chain.get_best_block_hash().await.expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    }
    fake.state().mood = Mood::Silent;
    let limit = Duration::from_millis(30);
    let error = chain.rpc().call_within("getbestblockhash", json!([]), limit).await.expect_err("silence");
    assert!(matches!(error, RpcError::Unreachable { .. }), "{error}");
    fake.state().mood = Mood::Good;
    assert!(chain.get_best_block_hash().await.is_ok());
    for answer in [json!(null), json!("zz"), json!({}), json!(7)] {
        fake.state().answers = [("getbestblockhash".to_owned(), answer)].into();
        assert!(matches!(chain.get_best_block_hash().await, Err(RpcError::Nonsense(_))));
    }
}

#[tokio::test]
async fn a_port_that_speaks_something_else_is_nonsense_or_unreachable() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let chain = Chain::new(&format!("http://{}", listener.local_addr().expect("an address")), Auth::Url)
        .expect("good");
    let server = tokio::spawn(async move {
        for words in [&b"SSH-2.0-OpenSSH_9.6\r\n\r\n"[..], b""] {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            stream.write_all(words).await.expect("written");
        }
    });
    for _ in 0..2 {
        let error = chain.get_best_block_hash().await.expect_err("no backend");
        assert!(matches!(error, RpcError::Nonsense(_) | RpcError::Unreachable { .. }), "{error}");
    }
    server.await.expect("done");
}

#[tokio::test]
async fn typed_calls_read_what_bitcoind_writes() {
    let fake = Fake::start(Network::Regtest).await;
    let chain = chain_of(&fake);
    let hashes = fake.mine(3, 0);
    let info = chain.check_network(Network::Regtest).await.expect("regtest");
    assert_eq!((info.height, info.headers, info.best), (Height(3), Height(3), hashes[2]));
    let wrong = chain.check_network(Network::Bitcoin).await.expect_err("another chain");
    assert_eq!(wrong.to_string(), "the chain backend is on regtest, this node on bitcoin");
    // Litecoin's own regtest has the same name and another first block.
    let wrong = chain.check_network(Network::LitecoinRegtest).await.expect_err("another coin");
    assert_eq!(wrong.to_string(), "the chain backend is on regtest, this node on litecoin-regtest");

    assert_eq!(chain.get_block_hash(Height(2)).await, Ok(Some(hashes[1])));
    assert_eq!(chain.get_block_hash(Height(4)).await, Ok(None));
    let header = chain.get_block_header(&hashes[1]).await.expect("an answer").expect("known");
    assert_eq!((header.height, header.active, header.header.block_hash()), (Height(2), true, hashes[1]));
    fake.unmine(2);
    let stale = chain.get_block_header(&hashes[1]).await.expect("an answer").expect("still known");
    assert_eq!((stale.height, stale.active), (Height(2), false));
    let unknown: BlockHash = "00".repeat(32).parse().expect("a hash");
    assert_eq!(chain.get_block_header(&unknown).await, Ok(None));
    assert_eq!(chain.get_block(&hashes[0]).await.expect("a block").block_hash(), hashes[0]);

    let limit = Duration::from_millis(10);
    assert_eq!(chain.wait_for_new_block(limit).await, Ok(Some(hashes[0])));
    fake.state().can_wait = false;
    assert_eq!(chain.wait_for_new_block(limit).await, Ok(None));
}

#[tokio::test]
async fn fees_are_rounded_up_to_whole_units_and_never_guessed() {
    let fake = Fake::start(Network::Regtest).await;
    let chain = chain_of(&fake);
    assert_eq!(chain.estimate_smart_fee(2).await, Ok(None));
    for (per_kvb, per_kw) in [(0.00001, 250), (0.00001001, 251), (0.00012345, 3087), (1.0, 25_000_000)] {
        fake.state().feerate = Some(per_kvb);
        fake.state().min_fee = per_kvb;
        assert_eq!(chain.estimate_smart_fee(2).await, Ok(Some(Feerate(per_kw))));
        assert_eq!(chain.mempool_min_fee().await, Ok(Feerate(per_kw)));
    }
    for nonsense in [-0.1, 1e9] {
        fake.state().feerate = Some(nonsense);
        assert!(matches!(chain.estimate_smart_fee(2).await, Err(RpcError::Nonsense(_))));
    }
}

#[tokio::test]
async fn outputs_and_verdicts_are_read() {
    let fake = Fake::start(Network::Regtest).await;
    let chain = chain_of(&fake);
    let outpoint = OutPoint::new(some_txid(1), 1);
    let set = |method: &str, answer: Value| fake.state().answers.insert(method.to_owned(), answer);
    set("gettxout", json!(null));
    assert_eq!(chain.get_tx_out(&outpoint, true).await, Ok(None));
    set(
        "gettxout",
        json!({ "value": 20_999_999.999_999_99, "confirmations": 7, "coinbase": true, "scriptPubKey": { "hex": "51" } }),
    );
    let output = chain.get_tx_out(&outpoint, true).await.expect("an answer").expect("unspent");
    assert_eq!(output.output.value.to_sat(), 2_099_999_999_999_999);
    assert_eq!(output.output.script_pubkey.as_bytes(), [0x51]);
    assert_eq!((output.confirmations, output.coinbase), (7, true));

    let (good, bad) = (tx_of(some_txid(1), 1), tx_of(some_txid(1), 2));
    let ids = [good.compute_txid().to_string(), bad.compute_txid().to_string()];
    set(
        "testmempoolaccept",
        json!([{ "txid": ids[0], "allowed": true }, { "txid": ids[1], "allowed": false, "reject-reason": "dust" }]),
    );
    let verdicts = chain.test_mempool_accept(&[good, bad]).await.expect("verdicts");
    assert_eq!(verdicts[0].reject_reason, None);
    assert_eq!(verdicts[1].reject_reason.as_deref(), Some("dust"));

    let result = json!({ "package_msg": "transaction failed", "tx-results": { "x": { "error": "dust" } } });
    set("submitpackage", result);
    let error = chain.submit_package(&[]).await.expect_err("refused");
    assert_eq!(error.to_string(), "the chain backend says: transaction failed: dust (-26)");
}

#[tokio::test]
async fn to_have_a_transaction_already_is_success() {
    let fake = Fake::start(Network::Regtest).await;
    let chain = chain_of(&fake);
    let tx = tx_of(some_txid(1), 1);
    assert_eq!(chain.send_raw_transaction(&tx).await, Ok(()));
    assert_eq!(chain.send_raw_transaction(&tx).await, Ok(()));
    assert_eq!(fake.state().accepted, [tx.compute_txid()]);
    for (code, words, expected) in [
        (-26, "txn-already-in-mempool", true),
        (-25, "txn-already-known", true),
        (-26, "txn-mempool-conflict", false),
        (-25, "bad-txns-inputs-missingorspent", false),
    ] {
        fake.state().refuse.insert(tx.compute_txid(), (code, words.into()));
        assert_eq!(chain.send_raw_transaction(&tx).await.is_ok(), expected, "{words}");
    }
}
