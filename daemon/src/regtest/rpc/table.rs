//! THE list of commands: dispatch, named parameters and `help` all read it.
//!
//! In: a method's name. Out: its [`Command`]. Read next: the handlers' files, named by area.

use serde_json::Value;

use super::args::Args;
use super::error::RpcError;
use super::wait::Target;
use super::{blocks, control, decode, mempool, mining, package, send, tx, wallet};
use crate::regtest::node::Node;

/// A handler that takes the lock for a moment.
pub type Handler = fn(&Node, &Args) -> Result<Value, RpcError>;

/// How a command runs.
#[derive(Clone, Copy)]
pub enum Run {
    /// At once, on a thread for blocking work.
    Now(Handler),
    /// After the chain's tip is where the caller wants it.
    Wait(Target),
}

/// One command.
#[derive(Clone, Copy)]
pub struct Command {
    /// Its area, as `help` groups it.
    pub area: &'static str,
    /// Its name.
    pub name: &'static str,
    /// Its parameters, in order.
    pub args: &'static [&'static str],
    /// What it does, in a line.
    pub about: &'static str,
    /// How it runs.
    pub run: Run,
}

const fn now(
    area: &'static str,
    name: &'static str,
    args: &'static [&'static str],
    about: &'static str,
    handler: Handler,
) -> Command {
    Command { area, name, args, about, run: Run::Now(handler) }
}

const fn wait(
    name: &'static str,
    args: &'static [&'static str],
    about: &'static str,
    target: Target,
) -> Command {
    Command { area: "Blockchain", name, args, about, run: Run::Wait(target) }
}

const CHAIN: &str = "Blockchain";
const POOL: &str = "Mempool";
const RAW: &str = "Rawtransactions";
const MINING: &str = "Mining";
const CONTROL: &str = "Control";
const NETWORK: &str = "Network";
const WALLET: &str = "Wallet";
const UTIL: &str = "Util";
const OWN: &str = "Regtest (not in bitcoind)";

/// All commands.
#[rustfmt::skip]
pub const COMMANDS: &[Command] = &[
    now(CHAIN, "getbestblockhash", &[], "the hash of the active chain's tip", blocks::get_best_block_hash),
    now(CHAIN, "getblock", &["blockhash", "verbosity"], "a block: hex (0), JSON (1), with transactions (2), with spent outputs (3)", blocks::get_block),
    now(CHAIN, "getblockchaininfo", &[], "the state of the chain", blocks::get_blockchain_info),
    now(CHAIN, "getblockcount", &[], "the height of the active chain", blocks::get_block_count),
    now(CHAIN, "getblockhash", &["height"], "the hash of the active block at a height", blocks::get_block_hash),
    now(CHAIN, "getblockheader", &["blockhash", "verbose"], "a block's header", blocks::get_block_header),
    now(CHAIN, "getchaintips", &[], "all branches' ends", blocks::get_chain_tips),
    now(CHAIN, "gettxout", &["txid", "n", "include_mempool"], "an unspent output, or null", blocks::get_tx_out),
    now(CHAIN, "pruneblockchain", &["height"], "acts as if the blocks up to this height were gone, and without an index of transactions", blocks::prune_block_chain),
    now(CHAIN, "scantxoutset", &["action", "scanobjects"], "unspent outputs of addresses and scripts", blocks::scan_tx_out_set),
    wait("waitfornewblock", &["timeout", "current_tip"], "waits until the tip changes; timeout in ms, 0 for none", Target::NewBlock),
    wait("waitforblock", &["blockhash", "timeout"], "waits until this block is the tip", Target::Block),
    wait("waitforblockheight", &["height", "timeout"], "waits until the tip is at least this high", Target::Height),
    now(CHAIN, "invalidateblock", &["blockhash"], "marks a block invalid, as if it broke a rule", mining::invalidate_block),
    now(CHAIN, "reconsiderblock", &["blockhash"], "takes invalidateblock back", mining::reconsider_block),
    now(POOL, "getmempoolentry", &["txid"], "one entry of the pool", mempool::get_mempool_entry),
    now(POOL, "getmempoolancestors", &["txid", "verbose"], "all entries this one rests on", mempool::get_mempool_ancestors),
    now(POOL, "getmempooldescendants", &["txid", "verbose"], "all entries that rest on this one", mempool::get_mempool_descendants),
    now(POOL, "getmempoolinfo", &[], "the state of the pool", mempool::get_mempool_info),
    now(POOL, "getrawmempool", &["verbose", "mempool_sequence"], "all entries of the pool", mempool::get_raw_mempool),
    now(POOL, "gettxspendingprevout", &["outputs"], "which entries spend these outputs", mempool::get_tx_spending_prevout),
    now(RAW, "sendrawtransaction", &["hexstring", "maxfeerate", "maxburnamount"], "puts a transaction into the pool", send::send_raw_transaction),
    now(RAW, "testmempoolaccept", &["rawtxs", "maxfeerate"], "says whether the pool would take these", send::test_mempool_accept),
    now(RAW, "submitpackage", &["package", "maxfeerate", "maxburnamount"], "puts parents and their child into the pool together", package::submit_package),
    now(RAW, "getrawtransaction", &["txid", "verbosity", "blockhash"], "a transaction of the pool or the chain", tx::get_raw_transaction),
    now(RAW, "createrawtransaction", &["inputs", "outputs", "locktime", "replaceable", "version"], "an unsigned transaction in hex", tx::create_raw_transaction),
    now(RAW, "decoderawtransaction", &["hexstring", "iswitness"], "a transaction as JSON", decode::decode_raw_transaction),
    now(RAW, "decodescript", &["hexstring"], "a script as JSON", decode::decode_script),
    now(MINING, "generatetoaddress", &["nblocks", "address", "maxtries"], "mines blocks to an address", mining::generate_to_address),
    now(MINING, "generateblock", &["output", "transactions", "submit"], "mines a block of exactly these transactions", mining::generate_block),
    now(MINING, "submitblock", &["hexdata", "dummy"], "takes a block", mining::submit_block),
    now(MINING, "getmininginfo", &[], "the state of mining", mining::get_mining_info),
    now(MINING, "setmocktime", &["timestamp"], "sets the clock; 0 lets it run again", mining::set_mock_time),
    now(UTIL, "estimatesmartfee", &["conf_target", "estimate_mode"], "the rate for this many blocks, if one is set", mempool::estimate_smart_fee),
    now(UTIL, "validateaddress", &["address"], "says what an address is", wallet::validate_address),
    now(NETWORK, "getnetworkinfo", &[], "the state of the network: there is none", control::get_network_info),
    now(NETWORK, "getconnectioncount", &[], "the number of peers: none", control::get_connection_count),
    now(NETWORK, "getpeerinfo", &[], "the peers: none", control::get_peer_info),
    now(CONTROL, "getzmqnotifications", &[], "the ZMQ publishers: none", control::get_zmq_notifications),
    now(CONTROL, "echo", &["..."], "what it was given", control::echo),
    now(CONTROL, "help", &["command"], "this list, or one command of it", control::help),
    now(CONTROL, "stop", &[], "stops the embedded chain", control::stop),
    now(CONTROL, "uptime", &[], "seconds since the start", control::uptime),
    now(WALLET, "createwallet", &["wallet_name", "disable_private_keys", "blank", "passphrase", "avoid_reuse", "descriptors", "load_on_startup", "external_signer"], "gives the faucet a name", wallet::create_wallet),
    now(WALLET, "loadwallet", &["filename", "load_on_startup"], "gives the faucet a name", wallet::load_wallet),
    now(WALLET, "unloadwallet", &["wallet_name", "load_on_startup"], "takes a name back", wallet::unload_wallet),
    now(WALLET, "listwallets", &[], "the faucet's names", wallet::list_wallets),
    now(WALLET, "getwalletinfo", &[], "the state of the faucet", wallet::get_wallet_info),
    now(WALLET, "getnewaddress", &["label", "address_type"], "a fresh address of the faucet", wallet::get_new_address),
    now(WALLET, "getbalance", &["dummy", "minconf", "include_watchonly", "avoid_reuse"], "what the faucet can spend", wallet::get_balance),
    now(WALLET, "getbalances", &[], "what the faucet holds", wallet::get_balances),
    now(WALLET, "listunspent", &["minconf", "maxconf"], "the faucet's coins", wallet::list_unspent),
    now(WALLET, "sendtoaddress", &["address", "amount", "comment", "comment_to", "subtractfeefromamount", "replaceable", "conf_target", "estimate_mode", "avoid_reuse", "fee_rate", "verbose"], "pays from the faucet", wallet::send_to_address),
    now(OWN, "setfeeestimate", &["feerate"], "sets what estimatesmartfee answers, in coins per 1000 vB; null for nothing", mempool::set_fee_estimate),
    now(OWN, "setmempoolminfee", &["feerate"], "sets the pool's floor, in coins per 1000 vB; 0 for the relay minimum", mempool::set_mempool_min_fee),
];

/// The command of this name.
pub fn find(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name == name)
}
