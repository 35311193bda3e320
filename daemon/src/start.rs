//! From options to a running node, and back to a quiet disk.
//!
//! In: a checked [`Config`]. Out: a daemon that runs until it is told to stop; or one sentence that says what is wrong,
//! what it means, and what to do. The order is: folder, seed, lock and database, node, wallet, chain, peer port,
//! control socket. So a second daemon finds the lock before it touches anything, and who is answered by the control
//! socket can rely on all the rest. Nothing waits for the chain but a node that was never on one.
//! Read next: `core`.

use crate::backup;
use crate::chain::follow::{self, FollowConfig};
use crate::chain::{Auth, Chain, RpcClient, RpcError};
use crate::config::{BitcoinRpc, Config, Dev, RpcAuth, Setting, SettingValue};
use crate::core::{peer_queue, Birth, Core, Daemon, Parts};
use crate::crypto::ParallelCrypto;
use crate::gossip;
use crate::http;
use crate::log;
use crate::notify::Notifier;
use crate::passphrase::Passphrase;
use crate::peer::{os_ephemeral, Limits, Peers};
use crate::rpc::{self, About, Backend as _, ConfigEntry, ConfigValue};
use crate::runes::Authority;
use crate::seed::{Created, Seed};
use crate::tower::Towers;
use crate::wallet::{AddressKind, Wallet};
use chand_protocol::chain::Network;
use chand_protocol::entropy::Entropy;
use chand_protocol::id::{to_hex, NodeId};
use chand_protocol::keys::NodeKeys;
use chand_protocol::node::command::Command;
use chand_protocol::node::effect::Fees;
use chand_protocol::node::{Dormant, GossipConfig, Node, NodeConfig};
use chand_protocol::sign::Crypto;
use chand_protocol::store::{Entry, Store};
use chand_protocol::tx::keys::ChannelSecrets;
use chand_protocol::units::{Feerate, Height};
use chand_protocol::wire::address::Address;
use chand_protocol::wire::features::{Feature, Features};
use chand_storage::{Owner, SledStore};
use secp256k1::SecretKey;
use std::fmt::Display;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::runtime::Handle;
use tokio::signal::unix::{signal, Signal, SignalKind};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use zeroize::Zeroizing;

/// A new wallet begins so many blocks below the tip: deeper reorganisations than this have never been.
const BIRTHDAY_DEPTH: u32 = 144;
/// With `--dev-fast-gossip`: how long a peer may be gone before its channels are told to be disabled.
const FAST_DISABLE_MS: u64 = 2_000;
/// How long links may take to flush at the end.
const FAREWELL: Duration = Duration::from_secs(3);

/// Why the daemon does not start, or stopped: one sentence for whoever started it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(String);

fn because(error: impl Display) -> StartError {
    StartError(error.to_string())
}

/// Runs the daemon until it is told to stop; exit status 0 after an orderly end, else 1 and one line on stderr.
pub async fn run(config: Config) -> ExitCode {
    let ring = log::start(config.log_level);
    match live(config, ring).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chand: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn live(config: Config, ring: rpc::log::Ring) -> Result<(), StartError> {
    let (stop, mut stopping) = watch::channel(false);
    let drainer = Drainer::default();
    let signals = tokio::spawn(signals_draining(stop.clone(), drainer.clone()));
    let notifier = Arc::new(Notifier::of(&|name| std::env::var_os(name), std::process::id()));
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }

    config.make_dir().map_err(because)?;
    let seed = seed(&config)?;
    let keys = Keys::of(&config, &seed)?;
    let store = open_store(&config, keys.node_id)?;
    let own = OwnAddresses::default();
    let birth = birth(&config, &keys, seed, own.clone());
    let (node, mut wallet) = birth(store.load().map_err(because)?).map_err(StartError)?;
    let mut node = node.wake();
    let known = node.channels().map(|channel| channel.id()).collect();
    backup::set_aside(&config.dir, &keys.lightning()?.backup_key(), &known, now_s());

    let chain = tokio::select! {
        chain = reach_chain(&config) => chain?,
        // A backend that accepts and never answers must not keep us from stopping.
        _ = stopping.wait_for(|stop| *stop) => return Ok(()),
    };
    chain.watch(config.network.network);
    begin_wallet(&config, &chain, &node, &mut wallet).await?;
    let (events, peer_events) = peer_queue();
    let node_key = *keys.lightning()?.node_secret();
    let peers = Peers::new(node_key, Limits::default(), os_ephemeral, events, Handle::current());
    let (gossip_queue, heard) = mpsc::channel(gossip::PEER_QUEUE);
    peers.hear_gossip(gossip_queue);
    let bindings = listen(&config, &peers).await?;
    // Said once: the ports are open for as long as the daemon lives.
    let _ = own.set(announced(&config, &bindings));
    node.set_addresses(own.get().cloned().unwrap_or_default());
    let door = open_http(&config).await?;
    let socket = rpc::bind(&config.rpc_socket).map_err(because)?;

    let tower_key = keys.lightning()?.tower_client_secret();
    let towers = Towers::new(&config.watchtowers, tower_key);
    let gossip_parts = gossip::Parts {
        network: keys.network,
        us: keys.node_id,
        fast: config.dev.as_ref().is_some_and(|dev| dev.fast_gossip),
        cache: config.dir.join("gossip.cache"),
        peers: peers.clone(),
        heard,
        chain: chain.clone(),
        crypto: keys.crypto.clone(),
        stop: stop.subscribe(),
        runtime: Handle::current(),
    };
    let no_thread = |e| StartError(format!("the system gives no thread: {e}"));
    let (gossip, gossip_ended) = gossip::start(gossip_parts).map_err(no_thread)?;
    let parts = Parts {
        alive: (node, wallet),
        birth,
        store,
        peers: peers.clone(),
        peer_events,
        chain,
        follow: follow_config(&config),
        stop: stop.clone(),
        towers: towers.clone(),
        gossip,
        runes: Arc::new(Authority::new(keys.lightning()?.rune_secret())),
        about: about(&config, keys.node_id, bindings.clone(), own.get()),
        configs: config.settings.iter().filter_map(entry).collect(),
        runtime: Handle::current(),
    };
    let mut core = Core::start(parts).map_err(no_thread)?;
    if config.drain_s > 0 {
        let _ = drainer.set((core.daemon(), Duration::from_secs(config.drain_s.into())));
    }
    towers.serve(&config.watchtowers, tower_key, core.daemon());
    let http_serving = door.map(|door| {
        let context = Arc::new(rpc::call::Context::new(core.daemon(), ring.clone()));
        tokio::spawn(http::serve(door, context, http::Limits::default(), stop.subscribe()))
    });
    let served = rpc::serve(socket, core.daemon(), ring, rpc::Limits::default(), stop.subscribe());
    let serving = tokio::spawn(served);
    tracing::info!(
        id = %keys.node_id, network = config.network.name, ?bindings, socket = %config.rpc_socket.display(),
        "chand {} is ready", env!("CARGO_PKG_VERSION")
    );

    tokio::spawn(tell_manager(Arc::clone(&notifier), core.daemon()));

    tokio::select! {
        () = core.ended() => {}
        // A gone sender means to stop, too.
        _ = stopping.wait_for(|stop| *stop) => {}
    }
    tracing::info!("stopping");
    notifier.stopping("everything under way is being kept");
    stop.send_replace(true);
    // From here on a second signal ends the process at once.
    let ended = tokio::task::spawn_blocking(move || {
        let ended = core.join();
        // It saves its cache; when it cannot, or is gone, nothing of value is lost.
        let _ = gossip_ended.join();
        ended
    });
    let ended = ended.await.map_err(because)?;
    if timeout(FAREWELL, peers.shut_down()).await.is_err() {
        tracing::debug!("some links did not flush in time");
    }
    let _ = serving.await;
    if let Some(serving) = http_serving {
        let _ = serving.await;
    }
    signals.abort();
    ended.map_err(because)?;
    tracing::info!("stopped; everything is kept");
    Ok(())
}

/// Tells a service manager that the node can be asked, and then, as often as it wants, that it still can.
async fn tell_manager(notifier: Arc<Notifier>, daemon: Arc<Daemon>) {
    if daemon.command(Command::GetInfo).await.is_err() {
        return;
    }
    notifier.ready("the control socket answers");
    let Some(within) = notifier.alive_within() else { return };
    let every = within / 2;
    loop {
        sleep(every).await;
        // One whose core does not answer is to be started again.
        if matches!(timeout(every, daemon.command(Command::GetInfo)).await, Ok(Ok(_))) {
            notifier.alive();
        }
    }
}

/// Whom a signal asks to drain before the stop, and for how long; nobody until the core runs, or without `--drain`.
type Drainer = Arc<OnceLock<(Arc<Daemon>, Duration)>>;

/// As [`signals`], with a drain before the stop where one is wanted: the next signal ends that.
async fn signals_draining(stop: watch::Sender<bool>, drainer: Drainer) {
    let Ok((mut term, mut int)) = both_signals() else { return signals(stop).await };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    let Some((daemon, time)) = drainer.get() else {
        stop.send_replace(true);
        return insist(term, int).await;
    };
    let mut stopping = stop.subscribe();
    tokio::spawn(daemon.drain(*time));
    tokio::select! {
        _ = term.recv() => tracing::info!("a second signal: stopped without waiting longer"),
        _ = int.recv() => tracing::info!("a second signal: stopped without waiting longer"),
        _ = stopping.wait_for(|stop| *stop) => {}
    }
    stop.send_replace(true);
    insist(term, int).await;
}

fn both_signals() -> std::io::Result<(Signal, Signal)> {
    Ok((signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?))
}

/// Whoever signals during an orderly stop has no time for it.
async fn insist(mut term: Signal, mut int: Signal) {
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    eprintln!("chand: stopped at once by a second signal; nothing that was told is lost");
    std::process::exit(1);
}

/// The first SIGTERM or SIGINT asks to stop; the second one insists.
pub(crate) async fn signals(stop: watch::Sender<bool>) {
    let Ok((mut term, mut int)) = both_signals() else {
        tracing::warn!("signals cannot be watched: stop with chan-cli stop");
        return;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    stop.send_replace(true);
    insist(term, int).await;
}

/// What the seed is sealed under, if anything.
pub(crate) fn passphrase(config: &Config) -> Result<Option<Passphrase>, StartError> {
    config.passphrase_file.as_deref().map(Passphrase::read).transpose().map_err(StartError)
}

fn seed(config: &Config) -> Result<Seed, StartError> {
    if let Some(forced) = config.dev.as_ref().and_then(|d| d.force_bip32_seed.as_ref()) {
        return Ok(Seed::dev_from_bip32_seed(forced.reveal()));
    }
    let (seed_path, store) = (config.seed_path(), config.store_dir());
    if store.exists() && !seed_path.exists() {
        return Err(StartError(format!(
            "{} is missing, but its database {} is there: without the seed the money of its channels cannot be \
             moved. Put the file back; for a new node choose another --data-dir. Nothing was changed",
            seed_path.display(),
            store.display()
        )));
    }
    let passphrase = passphrase(config)?;
    let (seed, created) = Seed::load_or_create(&config.seed_path(), passphrase.as_ref()).map_err(because)?;
    if created == Created::Now {
        tracing::warn!(
            path = %config.seed_path().display(),
            "a new seed was made: write its 24 words down, they are all that gives on-chain coins back"
        );
    }
    Ok(seed)
}

/// What the node's keys are made from; they are made anew for each node that is loaded.
#[derive(Clone)]
struct Keys {
    seed: Zeroizing<[u8; 64]>,
    network: Network,
    dev: Option<Dev>,
    crypto: Arc<ParallelCrypto>,
    node_id: NodeId,
}

impl Keys {
    fn of(config: &Config, seed: &Seed) -> Result<Keys, StartError> {
        let network = config.network.name.parse::<Network>().map_err(because)?;
        // 64 bytes; 32 when a test forced them.
        let mut bytes = Zeroizing::new([0u8; 64]);
        bytes.iter_mut().zip(seed.bytes()).for_each(|(to, from)| *to = *from);
        let crypto = Arc::new(ParallelCrypto::new(&*random()?));
        let node_id = lightning_keys(&bytes, network, config.dev.as_ref())?.node_id(crypto.secp());
        Ok(Keys { seed: bytes, network, dev: config.dev.clone(), crypto, node_id })
    }

    fn lightning(&self) -> Result<NodeKeys, StartError> {
        lightning_keys(&self.seed, self.network, self.dev.as_ref())
    }
}

fn lightning_keys(seed: &[u8; 64], network: Network, dev: Option<&Dev>) -> Result<NodeKeys, StartError> {
    let secret = |bytes: &[u8; 32]| SecretKey::from_slice(bytes).map_err(because);
    let mut keys = NodeKeys::from_seed(seed, network);
    let Some(dev) = dev else { return Ok(keys) };
    if let Some(forced) = &dev.force_privkey {
        keys = keys.with_node_secret(secret(forced.reveal())?);
    }
    if let Some(forced) = &dev.force_channel_secrets {
        keys = keys.with_channel_secrets(ChannelSecrets {
            funding: secret(forced.funding.reveal())?,
            revocation: secret(forced.revocation.reveal())?,
            payment: secret(forced.payment.reveal())?,
            delayed_payment: secret(forced.delayed.reveal())?,
            htlc: secret(forced.htlc.reveal())?,
            shachain_seed: *forced.shachain_seed.reveal(),
        });
    }
    Ok(keys)
}

/// Seconds since the Unix epoch, by this machine's clock.
pub(crate) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// 32 bytes from the kernel's generator.
fn random() -> Result<Zeroizing<[u8; 32]>, StartError> {
    let mut bytes = Zeroizing::new([0u8; 32]);
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(bytes.as_mut()))
        .map_err(|e| StartError(format!("no randomness from the operating system (/dev/urandom): {e}")))?;
    Ok(bytes)
}

/// Whose database a folder holds, and how node and wallet are made of it: for who only looks. Nothing is made or changed.
pub(crate) fn of_folder(config: &Config) -> Result<(Owner, Birth), StartError> {
    let seed = match config.dev.as_ref().and_then(|d| d.force_bip32_seed.as_ref()) {
        Some(forced) => Seed::dev_from_bip32_seed(forced.reveal()),
        None => Seed::load(&config.seed_path(), passphrase(config)?.as_ref()).map_err(because)?.ok_or_else(
            || {
                let path = config.seed_path();
                StartError(format!(
                    "there is no seed {}: is this the data folder of a chand?",
                    path.display()
                ))
            },
        )?,
    };
    of_seed(config, seed)
}

/// The same of a seed that is at hand.
pub(crate) fn of_seed(config: &Config, seed: Seed) -> Result<(Owner, Birth), StartError> {
    let keys = Keys::of(config, &seed)?;
    Ok((owner(config, keys.node_id), birth(config, &keys, seed, OwnAddresses::default())))
}

/// The keys of a seed, and what they sign with.
pub(crate) fn keys_of(
    config: &Config,
    seed: &Seed,
) -> Result<(NodeKeys, Arc<ParallelCrypto>, NodeId), StartError> {
    let keys = Keys::of(config, seed)?;
    Ok((keys.lightning()?, Arc::clone(&keys.crypto), keys.node_id))
}

fn owner(config: &Config, node_id: NodeId) -> Owner {
    Owner { network: config.network.name.into(), node: node_id.to_string() }
}

fn open_store(config: &Config, node_id: NodeId) -> Result<SledStore, StartError> {
    let owner = owner(config, node_id);
    if config.restored {
        // The first thing that is kept then is the doubt, and until it is the copy counts as old.
        return SledStore::open_old_copy(&config.store_dir(), &owner).map_err(because);
    }
    SledStore::open(&config.store_dir(), &owner).map_err(because)
}

/// Makes node and wallet from records.
fn birth(config: &Config, keys: &Keys, seed: Seed, own: OwnAddresses) -> Birth {
    let (keys, settings, network) = (keys.clone(), node_config(config, keys), config.network.network);
    Arc::new(move |entries: Vec<Entry>| {
        let entropy = Entropy::new(*random().map_err(|e| e.to_string())?);
        let lightning = keys.lightning().map_err(|e| e.to_string())?;
        let crypto: Arc<dyn Crypto> = keys.crypto.clone();
        let mut node = Dormant::restore(settings.clone(), lightning, entropy, crypto, entries)
            .map_err(|e| format!("the database cannot be understood: {e}"))?;
        let mut wallet =
            Wallet::load(&seed, network, node.take_wallet_changes()).map_err(|e| e.to_string())?;
        wallet.catch_up(&node.recent_blocks()).map_err(|e| e.to_string())?;
        node.set_close_script(wallet.unused_address(AddressKind::P2wpkh).script_pubkey());
        node.set_addresses(own.get().cloned().unwrap_or_default());
        Ok((node, wallet))
    })
}

fn node_config(config: &Config, keys: &Keys) -> NodeConfig {
    let id = keys.node_id.0.serialize();
    let alias =
        config.alias.clone().unwrap_or_else(|| format!("chand-{}", to_hex(id.get(1..5).unwrap_or(&[]))));
    let own_color = id.get(1..4).and_then(|c| c.try_into().ok()).unwrap_or([0; 3]);
    NodeConfig {
        color: config.rgb.unwrap_or(own_color),
        fee_base_msat: config.fee_base_msat,
        fee_ppm: config.fee_ppm,
        cltv_delta_blocks: config.cltv_delta_blocks,
        cltv_final_blocks: u32::from(config.cltv_final_blocks),
        to_self_delay_blocks: config.to_self_delay_blocks,
        funding_confirms: config.funding_confirms,
        max_in_flight_percent: config.max_in_flight_percent,
        simple_close: config.simple_close,
        restored: config.restored,
        tower: !config.watchtowers.is_empty(),
        backup: true,
        gossip: Some(gossip_config(config)),
        no_htlc_timeout: config.dev.as_ref().is_some_and(|dev| dev.no_htlc_timeout),
        dev: config.dev.is_some(),
        // The wallet's, as soon as there is one.
        ..NodeConfig::new(keys.network, &alias, bitcoin::ScriptBuf::new())
    }
}

/// Where others can call us; known once the ports are open.
type OwnAddresses = Arc<OnceLock<Vec<Address>>>;

/// How the node takes part in gossip.
fn gossip_config(config: &Config) -> GossipConfig {
    let fast = config.dev.as_ref().is_some_and(|dev| dev.fast_gossip);
    let usual = GossipConfig::default();
    GossipConfig { disable_after_ms: if fast { FAST_DISABLE_MS } else { usual.disable_after_ms }, ..usual }
}

/// Of the ports that are open, those that the world can reach; with `--dev-allow-localhost` those of this machine, too.
fn announced(config: &Config, bindings: &[SocketAddr]) -> Vec<Address> {
    let local = config.dev.as_ref().is_some_and(|dev| dev.allow_localhost);
    let reachable = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => {
            !ip.is_unspecified() && !ip.is_private() && !ip.is_link_local() && (local || !ip.is_loopback())
        }
        IpAddr::V6(ip) => {
            !ip.is_unspecified()
                && !ip.is_unique_local()
                && !ip.is_unicast_link_local()
                && (local || !ip.is_loopback())
        }
    };
    let address = |binding: &SocketAddr| match binding.ip() {
        IpAddr::V4(ip) => Address::Ipv4(ip, binding.port()),
        IpAddr::V6(ip) => Address::Ipv6(ip, binding.port()),
    };
    bindings.iter().filter(|binding| reachable(binding.ip())).map(address).collect()
}

/// The backends, each looked at once: a wrong chain or password is the user's to mend; one that is away may come back.
pub(crate) async fn reach_chain(config: &Config) -> Result<Chain, StartError> {
    let first = reach_backend(config, &config.bitcoin_rpc).await?;
    let mut others = Vec::new();
    for backend in &config.more_bitcoin_rpc {
        others.push(reach_backend(config, backend).await?);
    }
    Ok(Chain::of(first, others))
}

async fn reach_backend(config: &Config, backend: &BitcoinRpc) -> Result<RpcClient, StartError> {
    let BitcoinRpc { host, port, path, auth } = backend;
    let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let url = format!("http://{host}:{port}{path}");
    let logins: Vec<Auth> = match auth {
        RpcAuth::Password { user, password } => {
            vec![Auth::Password { user: user.clone(), password: Zeroizing::new(password.reveal().clone()) }]
        }
        RpcAuth::Cookies(files) => files.iter().cloned().map(Auth::CookieFile).collect(),
    };
    let mut best: Option<(Auth, RpcError)> = None;
    for login in logins {
        let chain = Chain::new(&url, login.clone()).map_err(because)?;
        match chain.check_network(config.network.network).await {
            Ok(_) => return RpcClient::new(&url, login).map_err(because),
            Err(error) => best = Some(best.unwrap_or((login, error))),
        }
    }
    match best {
        Some((login, error @ RpcError::Unreachable { .. })) => {
            let hint = if config.network.is_regtest() { " (chand regtest starts one)" } else { "" };
            tracing::warn!("{error}{hint}; channels wait for it, and it is tried until it answers");
            RpcClient::new(&url, login).map_err(because)
        }
        Some((_, error @ RpcError::WrongPassword { .. })) => {
            Err(StartError(format!("{error}: correct --bitcoin-rpc or --bitcoin-rpc-cookie")))
        }
        Some((_, error @ RpcError::WrongChain { .. })) => Err(StartError(format!(
            "{error}: name a backend of this network with --bitcoin-rpc, or another --network"
        ))),
        Some((_, error)) => Err(StartError(format!("{error}: is --bitcoin-rpc a bitcoind?"))),
        None => Err(StartError("no way to log in to the chain backend: give --bitcoin-rpc".into())),
    }
}

/// A wallet that never saw a block begins near the tip, one made from words where its user said; on regtest, where all blocks are ours, at the first one.
async fn begin_wallet(
    config: &Config,
    chain: &Chain,
    node: &Node,
    wallet: &mut Wallet,
) -> Result<(), StartError> {
    if config.network.is_regtest() && node.begins_at().is_none()
        || node.tip().is_some()
        || wallet.tip().0 != Height(0)
    {
        return Ok(());
    }
    let needed = |e: RpcError| {
        StartError(format!(
            "{e}. A new node asks once where the chain stands: start it again when the backend answers"
        ))
    };
    let tip = follow::at_tip(chain, config.network.network).await.map_err(needed)?;
    let height = match node.begins_at() {
        // The block before: what is in the first one is read.
        Some(from) => Height(from.0.saturating_sub(1).min(tip.height.0)),
        None => Height(tip.height.0.saturating_sub(BIRTHDAY_DEPTH)),
    };
    if height == Height(0) {
        return Ok(());
    }
    let hash = chain.get_block_hash(height).await.map_err(needed)?;
    let hash = hash
        .ok_or_else(|| StartError("the chain backend lost its tip while it was asked: start again".into()))?;
    wallet.start_at(height, hash).map_err(because)
}

/// Opens the port for whoever has a rune, if it is wanted.
async fn open_http(config: &Config) -> Result<Option<http::Bound>, StartError> {
    let Some(wanted) = &config.http else { return Ok(None) };
    let tls = match &wanted.tls {
        Some(files) => Some(http::tls::acceptor(files, &wanted.cert_names()).map_err(because)?),
        None => None,
    };
    let with_tls = tls.is_some();
    let bound = http::bind(wanted.address, tls, wanted.names.clone()).await;
    let bound = bound.map_err(|e| StartError(format!("--http {}: {e}", wanted.address)))?;
    let address = bound.address().map_err(because)?;
    tracing::info!(%address, tls = with_tls, "whoever has a rune is served over HTTP");
    Ok(Some(bound))
}

/// Opens the peer ports; on regtest another one when the usual is taken.
async fn listen(config: &Config, peers: &Peers) -> Result<Vec<SocketAddr>, StartError> {
    let mut bindings = Vec::new();
    for address in &config.listen {
        let bound = match peers.listen(*address).await {
            Err(e)
                if e.kind() == ErrorKind::AddrInUse
                    && config.listen_is_default
                    && config.network.is_regtest() =>
            {
                peers.listen(SocketAddr::new(address.ip(), 0)).await
            }
            bound => bound,
        };
        bindings.push(bound.map_err(|e| {
            StartError(format!("peers cannot reach {address}: {e}; choose another with --listen ADDR:PORT"))
        })?);
    }
    Ok(bindings)
}

pub(crate) fn follow_config(config: &Config) -> FollowConfig {
    let poll_s = config.dev.as_ref().and_then(|dev| dev.bitcoind_poll_s);
    FollowConfig {
        network: config.network.network,
        fallback_fees: fallback_fees(config),
        poll: poll_s.map(|s| Duration::from_secs(u64::from(s))),
        repeat: None,
    }
}

/// Used until the backend has an estimate. Regtest has none at all, and whatever relays is mined.
pub(crate) fn fallback_fees(config: &Config) -> Fees {
    if config.network.is_regtest() {
        Fees { normal: Feerate::FLOOR, urgent: Feerate::FLOOR, minimum: Feerate::FLOOR }
    } else {
        Fees { normal: Feerate(2_500), urgent: Feerate(5_000), minimum: Feerate::FLOOR }
    }
}

fn about(config: &Config, node_id: NodeId, bindings: Vec<SocketAddr>, own: Option<&Vec<Address>>) -> About {
    let mut features = Features::ours_init(config.simple_close);
    features.set(Feature::GossipQueries.odd());
    features.set(Feature::GossipQueriesEx.odd());
    features.set(Feature::Keysend.odd());
    features.set(Feature::ProvideStorage.odd());
    About {
        node_id,
        network: config.network.network,
        version: env!("CARGO_PKG_VERSION").into(),
        lightning_dir: config.dir.clone(),
        dev: config.dev.is_some(),
        addresses: own.into_iter().flatten().map(ToString::to_string).collect(),
        bindings,
        features: rpc::backend::FeatureSets { node: features.as_bytes().to_vec(), channel: Vec::new() },
    }
}

/// An option as `listconfigs` shows it; what has no value is left out.
fn entry(setting: &Setting) -> Option<ConfigEntry> {
    let value = match &setting.value {
        SettingValue::Set(on) => ConfigValue::Set(*on),
        SettingValue::Int(n) => ConfigValue::Int(*n),
        SettingValue::Text(text) => ConfigValue::Text(text.clone()),
        SettingValue::List(list) => ConfigValue::Texts(list.clone()),
        // Those for tests are not shown to others.
        SettingValue::None if setting.name.starts_with("dev-") => return None,
        SettingValue::None => ConfigValue::Set(false),
    };
    Some(ConfigEntry { name: setting.name.into(), value, source: setting.source.to_string() })
}
