//! Whole cores against the embedded chain, with disks that refuse and steps that panic.

use super::backlog::HIGH;
use super::{peer_queue, Birth, Core, CoreError, Daemon, Parts};
use crate::chain::follow::FollowConfig;
use crate::chain::{Auth, Chain};
use crate::peer::{os_ephemeral, Limits, Peers};
use crate::regtest::{self, Running};
use crate::rpc::backend::FeatureSets;
use crate::rpc::{About, Backend, Coin, CoinStatus, WalletReply, WalletRequest};
use crate::seed::Seed;
use crate::wallet::{AddressKind, Wallet};
use bitcoin::hashes::Hash;
use bitcoin::ScriptBuf;
use chand_protocol::chain::Network;
use chand_protocol::entropy::Entropy;
use chand_protocol::id::NodeId;
use chand_protocol::keys::NodeKeys;
use chand_protocol::node::command::{ChannelRef, Command, Reply};
use chand_protocol::node::effect::Fees;
use chand_protocol::node::view::{Info, Peer};
use chand_protocol::node::{Dormant, NodeConfig};
use chand_protocol::sign::{Crypto, RealCrypto};
use chand_protocol::store::{Entry, Store};
use chand_protocol::units::{Feerate, Msat, Sat};
use chand_storage::{Fault, MemoryStore};
use secp256k1::ecdsa::Signature;
use secp256k1::{All, PublicKey, Secp256k1, SecretKey};
use serde_json::json;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

mod inputs;

const PATIENCE: Duration = Duration::from_secs(30);
const BLOCKS: u32 = 103;

/// The real thing until it is told to break, once.
struct Fragile {
    one: RealCrypto,
    broken: Arc<AtomicBool>,
}

impl Crypto for Fragile {
    fn sign(&self, digest: &[u8; 32], key: &SecretKey) -> Signature {
        self.one.sign(digest, key)
    }
    fn verify(&self, digest: &[u8; 32], signature: &Signature, key: &PublicKey) -> bool {
        self.one.verify(digest, signature, key)
    }
    fn secp(&self) -> &Secp256k1<All> {
        assert!(!self.broken.swap(false, Ordering::SeqCst), "told to break");
        self.one.secp()
    }
}

/// An embedded chain in a folder of its own.
struct World {
    chain: Running,
    dir: tempfile::TempDir,
}

impl World {
    async fn new() -> World {
        World::within(tempfile::tempdir().expect("a folder")).await
    }

    async fn within(dir: tempfile::TempDir) -> World {
        let options = regtest::Options {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            data_dir: Some(dir.path().to_path_buf()),
            user: Some("u".into()),
            password: Some("p".into()),
            premine: BLOCKS,
            ..regtest::Options::default()
        };
        World { chain: regtest::spawn(options).await.expect("a chain"), dir }
    }

    /// The chain goes away; its blocks stay in the folder.
    async fn end(self) -> tempfile::TempDir {
        self.chain.stop().await.expect("an orderly end");
        self.dir
    }

    async fn ask(&self, method: &str, params: serde_json::Value) -> serde_json::Value {
        let chain = Chain::new(&self.chain.url(), Auth::Url).expect("a URL");
        chain.rpc().call(method, params).await.expect("an answer")
    }
}

/// A core with its handles.
struct Actor {
    core: Core,
    daemon: Arc<Daemon>,
    peers: Peers,
    id: NodeId,
    address: SocketAddr,
    broken: Arc<AtomicBool>,
}

impl Actor {
    async fn start(world: &World, number: u8, disk: &MemoryStore) -> Actor {
        let broken = Arc::new(AtomicBool::new(false));
        let crypto: Arc<dyn Crypto> =
            Arc::new(Fragile { one: RealCrypto::new(), broken: Arc::clone(&broken) });
        let keys = move || NodeKeys::from_seed(&[number; 64], Network::Regtest);
        let id = keys().node_id(crypto.secp());
        let birth: Birth = Arc::new(move |entries: Vec<Entry>| {
            let config = NodeConfig::new(Network::Regtest, "Alice", ScriptBuf::new());
            let entropy = Entropy::new([number; 32]);
            let mut node = Dormant::restore(config, keys(), entropy, Arc::clone(&crypto), entries)
                .map_err(|e| e.to_string())?;
            let seed = Seed::dev_from_bip32_seed(&[number; 32]);
            let mut wallet = Wallet::load(&seed, Network::Regtest, node.take_wallet_changes())
                .map_err(|e| e.to_string())?;
            wallet.catch_up(&node.recent_blocks()).map_err(|e| e.to_string())?;
            node.set_close_script(wallet.unused_address(AddressKind::P2wpkh).script_pubkey());
            Ok((node, wallet))
        });
        let (node, wallet) = birth(disk.load().expect("readable")).expect("a node");
        let alive = (node.wake(), wallet);
        let (events, peer_events) = peer_queue();
        let key = *NodeKeys::from_seed(&[number; 64], Network::Regtest).node_secret();
        let peers = Peers::new(key, Limits::default(), os_ephemeral, events, Handle::current());
        let address = peers.listen(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a port");
        let floor = Feerate::FLOOR;
        let parts = Parts {
            alive,
            birth,
            store: disk.clone(),
            peers: peers.clone(),
            peer_events,
            chain: Chain::new(&world.chain.url(), Auth::Url).expect("a URL"),
            follow: FollowConfig {
                network: Network::Regtest,
                fallback_fees: Fees { normal: floor, urgent: floor, minimum: floor },
                poll: None,
                repeat: None,
            },
            stop: watch::Sender::new(false),
            towers: crate::tower::Towers::default(),
            gossip: crate::gossip::GossipHandle::idle(Network::Regtest, id),
            runes: Arc::new(crate::runes::Authority::new(zeroize::Zeroizing::new([7; 32]))),
            about: About {
                node_id: id,
                network: Network::Regtest,
                version: "0".into(),
                lightning_dir: "/nonexistent".into(),
                dev: false,
                addresses: Vec::new(),
                bindings: vec![address],
                features: FeatureSets::default(),
            },
            configs: Vec::new(),
            runtime: Handle::current(),
        };
        let core = Core::start(parts).expect("threads");
        let daemon = core.daemon();
        Actor { core, daemon, peers, id, address, broken }
    }

    async fn info(&self) -> Info {
        match self.daemon.command(Command::GetInfo).await {
            Ok(Reply::Info(info)) => info,
            other => panic!("{other:?}"),
        }
    }

    async fn peer(&self, id: NodeId) -> Option<Peer> {
        match self.daemon.command(Command::ListPeers { peer: Some(id) }).await {
            Ok(Reply::Peers(peers)) => peers.into_iter().next(),
            other => panic!("{other:?}"),
        }
    }

    async fn address(&self) -> String {
        match self.daemon.wallet(WalletRequest::NewAddress { kind: None }).await {
            Ok(WalletReply::Address { address, .. }) => address,
            other => panic!("{other:?}"),
        }
    }

    async fn coins(&self) -> Vec<Coin> {
        match self.daemon.wallet(WalletRequest::ListCoins { spent: false }).await {
            Ok(WalletReply::Coins(coins)) => coins,
            other => panic!("{other:?}"),
        }
    }

    async fn reaches(&self, height: u32) {
        until("the chain is read", || async { self.info().await.blockheight.0 == height }).await;
    }

    async fn connect(&self, to: &Actor) {
        let address = Some(to.address.to_string());
        let done = self.daemon.command(Command::Connect { peer: to.id, address }).await;
        assert!(matches!(done, Ok(Reply::Connected(_))), "{done:?}");
    }

    async fn stop(self) -> Result<(), CoreError> {
        self.daemon.stop();
        let core = self.core;
        let end = tokio::task::spawn_blocking(move || core.join()).await.expect("no panic");
        self.peers.shut_down().await;
        end
    }
}

async fn until<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    let waiting = async {
        while !holds().await {
            sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(PATIENCE, waiting).await.is_ok(), "waited in vain until {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_is_still_there_after_the_power_went() {
    let world = World::new().await;
    let disk = MemoryStore::new();
    let alice = Actor::start(&world, 1, &disk).await;
    alice.reaches(BLOCKS).await;
    let first = alice.address().await;
    let after = disk.fork();
    assert!(alice.stop().await.is_ok());

    let alice = Actor::start(&world, 1, &after).await;
    assert_eq!(alice.info().await.blockheight.0, BLOCKS, "nothing is read twice");
    let second = alice.address().await;
    assert_ne!(first, second, "an address is never given out twice");
    assert!(alice.stop().await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_disk_refuses_nothing_leaves_and_then_everything_does() {
    let world = World::new().await;
    let disk = MemoryStore::new();
    let (alice, bob) =
        (Actor::start(&world, 1, &disk).await, Actor::start(&world, 2, &MemoryStore::new()).await);
    alice.reaches(BLOCKS).await;
    alice.connect(&bob).await;

    disk.always(Some(Fault::FailBefore));
    let kept = disk.durable();
    let mut address = tokio::spawn(alice.daemon.wallet(WalletRequest::NewAddress { kind: None }));
    let is_up = || async { bob.peer(alice.id).await.is_some_and(|p| p.connected) };
    until("bob sees the link go down", || async { !is_up().await }).await;
    let refused = disk.counts().failures;
    until("it is tried again", || async { disk.counts().failures > refused }).await;
    assert!(!address.is_finished());
    assert_eq!(disk.durable(), kept);

    disk.always(None);
    let answer = timeout(PATIENCE, &mut address).await.expect("in time").expect("no panic");
    assert!(matches!(answer, Ok(WalletReply::Address { .. })), "{answer:?}");
    alice.connect(&bob).await;
    until("they are linked again", is_up).await;
    assert!(alice.stop().await.is_ok());
    assert!(bob.stop().await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_disk_refuses_the_chain_is_still_read() {
    let world = World::new().await;
    let disk = MemoryStore::new();
    let alice = Actor::start(&world, 1, &disk).await;
    alice.reaches(BLOCKS).await;
    let theirs = world.ask("getnewaddress", json!([])).await;

    disk.always(Some(Fault::FailBefore));
    let backlog = alice.core.backlog.clone();
    // Far beyond the number of batches at which commands wait.
    let blocks = u32::try_from(HIGH + 8).expect("small");
    for _ in 0..blocks {
        let before = backlog.waiting();
        world.ask("generatetoaddress", json!([1, theirs])).await;
        until("the block is taken", || async { backlog.waiting() > before }).await;
    }
    let order = tokio::spawn(alice.daemon.wallet(WalletRequest::NewAddress { kind: None }));
    let refused = disk.counts().failures;
    until("it is tried again", || async { disk.counts().failures > refused }).await;
    assert!(!order.is_finished());
    // Questions are answered from what is on disk, and say so.
    assert_eq!(alice.info().await.blockheight.0, BLOCKS);
    assert!(alice.daemon.behind().is_some_and(|why| why.contains("planned fault")));

    disk.always(None);
    let answer = timeout(PATIENCE, order).await.expect("in time").expect("no panic");
    assert!(matches!(answer, Ok(WalletReply::Address { .. })), "{answer:?}");
    // What left was after the end of the trouble: nobody is shown the old state from then on.
    assert_eq!(alice.daemon.behind(), None);
    assert_eq!(alice.info().await.blockheight.0, BLOCKS + blocks);
    until("all of it is kept", || async { backlog.waiting() == 0 }).await;
    assert!(alice.stop().await.is_ok());
    let again = Actor::start(&world, 1, &disk.fork()).await;
    assert_eq!(again.info().await.blockheight.0, BLOCKS + blocks);
    assert!(again.stop().await.is_ok());
}

/// Nobody who asks what is wrong waits for it to end.
#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_refused_when_what_was_kept_cannot_be_read() {
    let world = World::new().await;
    let disk = MemoryStore::new();
    let alice = Actor::start(&world, 1, &disk).await;
    alice.reaches(BLOCKS).await;
    disk.always(Some(Fault::FailUnreadable));
    let order = tokio::spawn(alice.daemon.wallet(WalletRequest::NewAddress { kind: None }));
    until("it is refused", || async { disk.counts().failures > 0 }).await;
    for question in [Command::GetInfo, Command::Balance, Command::TowerChannels] {
        let answer = timeout(PATIENCE, alice.daemon.command(question)).await.expect("in time");
        let error = answer.expect_err("there is nothing to answer from");
        assert!(
            error.message.contains("cannot be read") && error.message.contains("planned fault"),
            "{error:?}"
        );
    }
    let coins = timeout(PATIENCE, alice.daemon.wallet(WalletRequest::KeptBack)).await.expect("in time");
    assert!(coins.is_err(), "{coins:?}");
    disk.always(None);
    let answer = timeout(PATIENCE, order).await.expect("in time").expect("no panic");
    assert!(matches!(answer, Ok(WalletReply::Address { .. })), "{answer:?}");
    assert_eq!(alice.info().await.blockheight.0, BLOCKS);
    assert!(alice.stop().await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_leaves_though_the_disk_refuses() {
    let world = World::new().await;
    let disk = MemoryStore::new();
    let (alice, bob) =
        (Actor::start(&world, 1, &disk).await, Actor::start(&world, 2, &MemoryStore::new()).await);
    let theirs = world.ask("getnewaddress", json!([])).await;
    let mine = |blocks: u32| world.ask("generatetoaddress", json!([blocks, theirs]));
    world.ask("sendtoaddress", json!([alice.address().await, 0.01])).await;
    mine(1).await;
    alice.reaches(BLOCKS + 1).await;
    bob.reaches(BLOCKS + 1).await;
    alice.connect(&bob).await;
    let open = Command::FundChannel {
        peer: bob.id,
        amount: Some(Sat(500_000)),
        feerate: None,
        announce: false,
        push_msat: Msat(100_000_000),
        close_to: None,
        mindepth: None,
        reserve: None,
        anchors: Some(true),
        scid_alias: None,
    };
    let opened = alice.daemon.command(open).await;
    let Ok(Reply::Funded { channel_id, .. }) = opened else { panic!("{opened:?}") };
    let mempool = || async { world.ask("getrawmempool", json!([])).await.as_array().map_or(0, Vec::len) };
    until("the funding is there", || async { mempool().await == 1 }).await;
    mine(1).await;
    let is_open = |actor: &Actor| {
        let list = actor.daemon.command(Command::ListPeerChannels { peer: None, channel: Some(channel_id) });
        async {
            let Ok(Reply::PeerChannels(channels)) = list.await else { return false };
            channels.first().is_some_and(|c| c.state.name() == "CHANNELD_NORMAL")
        }
    };
    until("the channel is open", || async { is_open(&alice).await && is_open(&bob).await }).await;

    // Bob closes by force while Alice's disk is full.
    disk.always(Some(Fault::FailBefore));
    let kept = disk.durable();
    let channel = ChannelRef::Id(channel_id);
    let close = Command::Close { channel, unilateral_timeout_s: 1, destination: None, feerange: None };
    let waiting = tokio::spawn(alice.daemon.wallet(WalletRequest::NewAddress { kind: None }));
    let is_up = || async { bob.peer(alice.id).await.is_some_and(|p| p.connected) };
    until("bob sees the link go down", || async { !is_up().await }).await;
    let closed = bob.daemon.command(close).await;
    assert!(matches!(closed, Ok(Reply::Closed { .. })), "{closed:?}");
    until("his commitment is there", || async { mempool().await >= 1 }).await;
    mine(1).await;
    until("Alice claims what is hers", || async { mempool().await >= 1 }).await;
    assert_eq!(disk.durable(), kept);
    assert!(!waiting.is_finished());
    mine(1).await;

    disk.always(None);
    let all = BLOCKS + 4;
    alice.reaches(all).await;
    let has = |coins: Vec<Coin>| coins.iter().filter(|c| c.amount > Sat(390_000)).count();
    until("it is in the wallet", || async { has(alice.coins().await) == 2 }).await;
    assert!(alice.stop().await.is_ok());
    assert!(bob.stop().await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_for_a_dead_disk() {
    let world = World::new().await;
    let disk = MemoryStore::new();
    let alice = Actor::start(&world, 1, &disk).await;
    alice.reaches(BLOCKS).await;
    disk.always(Some(Fault::FailBefore));
    let address = tokio::spawn(alice.daemon.wallet(WalletRequest::NewAddress { kind: None }));
    until("it was refused", || async { disk.counts().failures > 0 }).await;
    let end = timeout(PATIENCE, alice.stop()).await.expect("in time");
    assert!(matches!(end, Err(CoreError::Writer(_))), "{end:?}");
    // Whoever waited is told, not left waiting.
    let answer = timeout(PATIENCE, address).await.expect("in time").expect("no panic");
    assert!(answer.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bug_in_a_step_costs_the_links_and_nothing_else() {
    let world = World::new().await;
    let disk = MemoryStore::new();
    let mut alice = Actor::start(&world, 1, &disk).await;
    let bob = Actor::start(&world, 2, &MemoryStore::new()).await;
    alice.reaches(BLOCKS).await;
    alice.connect(&bob).await;
    let first = alice.address().await;
    let sign = || alice.daemon.command(Command::SignMessage { message: "hello".into() });
    assert!(matches!(sign().await, Ok(Reply::Signed { .. })));

    alice.broken.store(true, Ordering::SeqCst);
    let lost = sign().await.expect_err("the step had a bug");
    assert!(lost.message.contains("bug"), "{lost:?}");
    assert_eq!(alice.info().await.blockheight.0, BLOCKS, "loaded again from the disk");
    assert!(matches!(sign().await, Ok(Reply::Signed { .. })));
    assert_ne!(alice.address().await, first);
    alice.connect(&bob).await;
    // The chain is followed by the fresh node, too.
    let script = alice.address().await;
    world.ask("generatetoaddress", json!([1, script])).await;
    alice.reaches(BLOCKS + 1).await;

    // Once is a bug; three times within a minute is a program that must not go on.
    for _ in 0..2 {
        // Whoever asked is told before the fresh node is made; the next fault must not hit its making.
        alice.info().await;
        alice.broken.store(true, Ordering::SeqCst);
        assert!(sign().await.is_err());
    }
    timeout(PATIENCE, alice.core.ended()).await.expect("it ends by itself");
    assert!(matches!(alice.stop().await, Err(CoreError::Panics)));
    assert!(bob.stop().await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawal_made_while_the_chain_was_away_arrives_after_a_restart() {
    let world = World::new().await;
    let disk = MemoryStore::new();
    let alice = Actor::start(&world, 1, &disk).await;
    alice.reaches(BLOCKS).await;
    let (ours, theirs) = (alice.address().await, world.ask("getnewaddress", json!([])).await);
    world.ask("sendtoaddress", json!([ours, 0.01])).await;
    world.ask("generatetoaddress", json!([1, theirs])).await;
    alice.reaches(BLOCKS + 1).await;
    assert_eq!(alice.coins().await.len(), 1);

    let dir = world.end().await;
    let request = WalletRequest::Withdraw {
        destination: ScriptBuf::new_p2wsh(&bitcoin::WScriptHash::from_byte_array([3; 32])),
        amount: Some(Sat(400_000)),
        feerate: Some(Feerate(1_000)),
        min_confirmations: 1,
        utxos: None,
    };
    let withdrawal = tokio::spawn(alice.daemon.wallet(request));
    let is_change = |coins: Vec<Coin>| matches!(coins[..], [Coin { status: CoinStatus::Unconfirmed, .. }]);
    until("the coin is spent", || async { is_change(alice.coins().await) }).await;
    assert!(!withdrawal.is_finished());
    assert!(alice.stop().await.is_ok());
    let told = timeout(PATIENCE, withdrawal).await.expect("in time").expect("no panic");
    assert!(told.is_err(), "{told:?}");

    // Another process, the same disk: what was kept is offered by itself.
    let world = World::within(dir).await;
    let alice = Actor::start(&world, 1, &disk.fork()).await;
    let mempool = || async { world.ask("getrawmempool", json!([])).await.as_array().map_or(0, Vec::len) };
    until("it is in the mempool", || async { mempool().await == 1 }).await;
    world.ask("generatetoaddress", json!([1, theirs])).await;
    alice.reaches(BLOCKS + 2).await;
    assert_eq!(mempool().await, 0);
    assert!(matches!(alice.coins().await[..], [Coin { status: CoinStatus::Confirmed(_), .. }]));
    assert!(alice.stop().await.is_ok());
}
