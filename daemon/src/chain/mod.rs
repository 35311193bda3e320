//! The chain as this node sees it, through a bitcoind's JSON-RPC.
//!
//! In: a URL, questions. Out: typed answers; blocks in order, checked (`follow`).
//! The backend is trusted to tell the truth, and checked wherever that is cheap.
//! A backend that goes away is normal: it never closes a channel, it is said once and tried again. Where several are named, one
//! that serves takes its place (`several`). Read next: `follow`, `rpc`.

pub mod follow;
mod mweb;
mod rpc;
mod several;
#[cfg(test)]
pub(crate) mod tests;
mod url;
mod verify;

pub use rpc::{RpcClient, RpcError};
pub use several::{Backends, Report};
pub use url::{Auth, UrlError};

use bitcoin::block::Header;
use bitcoin::consensus::encode::{deserialize, deserialize_hex, serialize_hex};
use bitcoin::hex::FromHex;
use bitcoin::{Block, BlockHash, OutPoint, ScriptBuf, Transaction, TxOut, Txid};
use chand_protocol::chain::Network;
use chand_protocol::units::{Feerate, Height, Sat};
use serde_json::{json, Value};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// bitcoind: no such height, or a parameter out of range.
const OUT_OF_RANGE: i64 = -8;
/// bitcoind: no such block or transaction.
const NOT_FOUND: i64 = -5;
/// bitcoind: no such method.
const NO_METHOD: i64 = -32601;
/// bitcoind: the transaction is in the chain already.
const ALREADY_THERE: i64 = -27;
/// Beyond the wait asked for, how long an answer may take.
const WAIT_SLACK: Duration = Duration::from_secs(15);

/// The chain's backends; cheap to clone, calls may run side by side. Each call goes to the one that is active just then, but for
/// transactions, which all of them get.
#[derive(Clone, Debug)]
pub struct Chain {
    backends: Arc<Backends>,
    /// Only this one, whichever is active.
    only: Option<usize>,
}

/// What `getblockchaininfo` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainInfo {
    /// Which chain: `main`, `test`, `testnet4`, `signet` or `regtest`.
    pub chain: String,
    /// The height of the newest block.
    pub height: Height,
    /// The height of the newest header; above `height` while it catches up.
    pub headers: Height,
    /// The newest block.
    pub best: BlockHash,
    /// It is still syncing from the network (always so on a regtest that has not mined for a day).
    pub initial_block_download: bool,
    /// It forgets old blocks.
    pub pruned: bool,
    /// All work of its chain, as it says; zero when it does not.
    work: several::Work,
}

/// A header and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderInfo {
    /// The header itself.
    pub header: Header,
    /// Its height.
    pub height: Height,
    /// It is part of the best chain.
    pub active: bool,
}

/// What `testmempoolaccept` says of one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MempoolVerdict {
    /// Which.
    pub txid: Txid,
    /// `None`: it would be accepted.
    pub reject_reason: Option<String>,
}

/// An output that is not spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnspentOutput {
    /// Amount and script.
    pub output: TxOut,
    /// 0 when only in the mempool.
    pub confirmations: u32,
    /// Its transaction is a coinbase.
    pub coinbase: bool,
}

impl Chain {
    /// A backend at `http://[user:password@]host:port`; nothing is contacted yet.
    ///
    /// # Errors
    /// [`UrlError`], which never repeats the URL.
    pub fn new(url: &str, auth: Auth) -> Result<Chain, UrlError> {
        Ok(Chain::of(RpcClient::new(url, auth)?, Vec::new()))
    }

    /// Several backends of one chain; the first is followed to begin with.
    pub fn of(first: RpcClient, others: Vec<RpcClient>) -> Chain {
        Chain { backends: Arc::new(Backends::new(first, others)), only: None }
    }

    /// Keeps looking, for as long as the runtime lives, which backend is the best to follow; there is nothing to do when there is
    /// but one.
    pub fn watch(&self, network: Network) {
        if self.backends.count() > 1 {
            tokio::spawn(several::referee(self.clone(), network));
        }
    }

    /// How it stands with each backend.
    pub fn report(&self) -> Vec<Report> {
        self.backends.report()
    }

    /// The backend in use failed the node: another one takes its place for a while, if there is one that serves. Whether it did.
    pub(crate) fn blame(&self, error: &RpcError) -> bool {
        self.backends.blame(self.number(), error)
    }

    /// The node has read all blocks there are.
    pub(crate) fn served(&self, height: Height, hash: BlockHash) {
        self.backends.served(height, hash);
    }

    fn number(&self) -> usize {
        self.only.unwrap_or_else(|| self.backends.active())
    }

    fn pinned(&self, n: usize) -> Chain {
        Chain { backends: Arc::clone(&self.backends), only: Some(n) }
    }

    /// Each backend by itself.
    fn each(&self) -> impl Iterator<Item = (usize, Chain)> + '_ {
        (0..self.backends.count()).map(|n| (n, self.pinned(n)))
    }

    /// For a call that has no method here (the wallet's, a faucet's).
    pub fn rpc(&self) -> &RpcClient {
        self.backends.rpc(self.number())
    }

    /// `getblockchaininfo`
    ///
    /// # Errors
    /// [`RpcError`].
    pub async fn get_blockchain_info(&self) -> Result<ChainInfo, RpcError> {
        let info = self.rpc().call("getblockchaininfo", json!([])).await?;
        Ok(ChainInfo {
            chain: text(&info, "chain").ok_or_else(|| missing("chain"))?.to_owned(),
            height: Height(int32(&info, "blocks")?),
            headers: Height(int32(&info, "headers")?),
            best: parsed(&info["bestblockhash"], "bestblockhash")?,
            initial_block_download: info["initialblockdownload"].as_bool().unwrap_or(false),
            pruned: info["pruned"].as_bool().unwrap_or(false),
            work: text(&info, "chainwork").and_then(|hex| <[u8; 32]>::from_hex(hex).ok()).unwrap_or_default(),
        })
    }

    /// Asks where the backend stands, and refuses one of another chain.
    ///
    /// # Errors
    /// [`RpcError`]; [`RpcError::WrongChain`] for another chain.
    pub async fn check_network(&self, network: Network) -> Result<ChainInfo, RpcError> {
        let info = self.get_blockchain_info().await?;
        if info.chain != network.row().node_name {
            return Err(RpcError::WrongChain { theirs: info.chain, ours: network });
        }
        // All coins call their chains the same: the first block tells them apart.
        let first = self.get_block_hash(Height(0)).await?;
        if first != Some(network.genesis()) {
            let known = Network::ALL.into_iter().find(|n| Some(n.genesis()) == first);
            let theirs = known.map_or_else(|| "a chain that chand does not know".into(), |n| n.to_string());
            return Err(RpcError::WrongChain { theirs, ours: network });
        }
        Ok(info)
    }

    /// `getbestblockhash`
    ///
    /// # Errors
    /// [`RpcError`].
    pub async fn get_best_block_hash(&self) -> Result<BlockHash, RpcError> {
        parsed(&self.rpc().call("getbestblockhash", json!([])).await?, "getbestblockhash")
    }

    /// `getblockhash`: the best chain's block at a height, `None` above its tip.
    ///
    /// # Errors
    /// [`RpcError`].
    pub async fn get_block_hash(&self, height: Height) -> Result<Option<BlockHash>, RpcError> {
        match self.rpc().call("getblockhash", json!([height.0])).await {
            Ok(hash) => parsed(&hash, "getblockhash").map(Some),
            Err(error) if error.code() == Some(OUT_OF_RANGE) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// `getblock` with verbosity 0; the content is not yet checked against the hash (`follow` does).
    ///
    /// # Errors
    /// [`RpcError`].
    pub async fn get_block(&self, hash: &BlockHash) -> Result<Block, RpcError> {
        let answer = self.rpc().call("getblock", json!([hash.to_string(), 0])).await?;
        let bytes =
            answer.as_str().and_then(|hex| Vec::from_hex(hex).ok()).ok_or_else(|| missing("getblock"))?;
        match deserialize(&bytes) {
            Ok(block) => Ok(block),
            // Litecoin's, since its extension blocks: what comes out is held against the hash as any other.
            Err(error) => mweb::block(&bytes)
                .ok_or_else(|| RpcError::Nonsense(format!("getblock does not decode: {error}"))),
        }
    }

    /// `getblock` with verbosity 1: the ids of a block's transactions, in order.
    ///
    /// # Errors
    /// [`RpcError`]; [`RpcError::Rpc`] when the backend has forgotten the block.
    pub async fn get_block_txids(&self, hash: &BlockHash) -> Result<Vec<Txid>, RpcError> {
        let block = self.rpc().call("getblock", json!([hash.to_string(), 1])).await?;
        let list = block["tx"].as_array().ok_or_else(|| missing("getblock"))?;
        list.iter().map(|txid| parsed(txid, "getblock")).collect()
    }

    /// `getblockheader`, also of a block that left the best chain; `None` when it was never seen.
    ///
    /// # Errors
    /// [`RpcError`].
    pub async fn get_block_header(&self, hash: &BlockHash) -> Result<Option<HeaderInfo>, RpcError> {
        let ask = |verbose: bool| self.rpc().call("getblockheader", json!([hash.to_string(), verbose]));
        let raw = match ask(false).await {
            Ok(raw) => raw,
            Err(error) if error.code() == Some(NOT_FOUND) => return Ok(None),
            Err(error) => return Err(error),
        };
        let header: Header = decoded(&raw, "getblockheader")?;
        if header.block_hash() != *hash {
            return Err(RpcError::Nonsense("getblockheader gave another header".into()));
        }
        let info = ask(true).await?;
        let confirmations = info["confirmations"].as_i64().ok_or_else(|| missing("confirmations"))?;
        Ok(Some(HeaderInfo { header, height: Height(int32(&info, "height")?), active: confirmations > 0 }))
    }

    /// `waitfornewblock`: returns with the newest block when one arrives or the time is over.
    /// `None` when the backend has no such method: then only polling helps.
    ///
    /// # Errors
    /// [`RpcError`].
    pub async fn wait_for_new_block(&self, limit: Duration) -> Result<Option<BlockHash>, RpcError> {
        let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        match self.rpc().call_within("waitfornewblock", json!([limit_ms]), limit + WAIT_SLACK).await {
            Ok(answer) => parsed(&answer["hash"], "waitfornewblock").map(Some),
            Err(error) if error.code() == Some(NO_METHOD) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// `sendrawtransaction` to every backend; to be in a mempool or the chain already is success.
    ///
    /// # Errors
    /// [`RpcError`] of the active one when none takes it; [`RpcError::Rpc`] when it is refused.
    pub async fn send_raw_transaction(&self, tx: &Transaction) -> Result<(), RpcError> {
        let tx = tx.clone();
        self.to_all(move |one| {
            let tx = tx.clone();
            async move { one.send_to_one(&tx).await }
        })
        .await
    }

    /// Does it with each backend at once, and answers when the first succeeded; the others go on.
    async fn to_all<F, D>(&self, doing: F) -> Result<(), RpcError>
    where
        F: Fn(Chain) -> D,
        D: std::future::Future<Output = Result<(), RpcError>> + Send + 'static,
    {
        let active = self.number();
        let mut others = Vec::new();
        for (n, one) in self.each().filter(|(n, _)| self.only.is_none() && *n != active) {
            let (done, place) = (doing(one), self.backends.rpc(n).place().to_owned());
            others.push(tokio::spawn(async move {
                let result = done.await;
                if let Err(error) = &result {
                    tracing::debug!(backend = place, "it did not take a transaction: {error}");
                }
                result
            }));
        }
        let first = doing(self.pinned(active)).await;
        if first.is_ok() {
            return first;
        }
        for other in others {
            if matches!(other.await, Ok(Ok(()))) {
                return Ok(());
            }
        }
        first
    }

    async fn send_to_one(&self, tx: &Transaction) -> Result<(), RpcError> {
        match self.rpc().call("sendrawtransaction", json!([serialize_hex(tx)])).await {
            Err(RpcError::Rpc { code, message }) if !is_known(code, &message) => {
                Err(RpcError::Rpc { code, message })
            }
            Err(RpcError::Rpc { .. }) => Ok(()),
            Err(error) => Err(error),
            Ok(txid) if parsed::<Txid>(&txid, "sendrawtransaction")? == tx.compute_txid() => Ok(()),
            Ok(_) => Err(RpcError::Nonsense("sendrawtransaction named another transaction".into())),
        }
    }

    /// `submitpackage` to every backend: parents first, the child that pays for them last.
    ///
    /// # Errors
    /// [`RpcError`] of the active one when none takes it; [`RpcError::Rpc`] when any of them is refused.
    pub async fn submit_package(&self, package: &[Transaction]) -> Result<(), RpcError> {
        let hex: Vec<String> = package.iter().map(serialize_hex).collect();
        self.to_all(move |one| {
            let hex = hex.clone();
            async move { one.submit_to_one(hex).await }
        })
        .await
    }

    async fn submit_to_one(&self, hex: Vec<String>) -> Result<(), RpcError> {
        let answer = self.rpc().call("submitpackage", json!([hex])).await?;
        let verdict = text(&answer, "package_msg").ok_or_else(|| missing("package_msg"))?;
        if verdict == "success" {
            return Ok(());
        }
        let reasons = answer["tx-results"].as_object().into_iter().flat_map(|results| results.values());
        let reasons: Vec<&str> = reasons.filter_map(|result| text(result, "error")).collect();
        Err(RpcError::Rpc { code: -26, message: format!("{verdict}: {}", reasons.join("; ")) })
    }

    /// `testmempoolaccept`, one verdict for each transaction.
    ///
    /// # Errors
    /// [`RpcError`].
    pub async fn test_mempool_accept(&self, txs: &[Transaction]) -> Result<Vec<MempoolVerdict>, RpcError> {
        let hex: Vec<String> = txs.iter().map(serialize_hex).collect();
        let answer = self.rpc().call("testmempoolaccept", json!([hex])).await?;
        let list = answer.as_array().ok_or_else(|| missing("testmempoolaccept"))?;
        let verdict = |value: &Value| {
            let allowed = value["allowed"].as_bool().unwrap_or(false);
            let reason = ["reject-reason", "package-error"].into_iter().find_map(|key| text(value, key));
            Ok(MempoolVerdict {
                txid: parsed(&value["txid"], "txid")?,
                reject_reason: (!allowed).then(|| reason.unwrap_or("no reason given").to_owned()),
            })
        };
        list.iter().map(verdict).collect()
    }

    /// `estimatesmartfee`: the feerate for confirmation within `blocks`, or `None` when it has no estimate.
    ///
    /// # Errors
    /// [`RpcError`].
    pub async fn estimate_smart_fee(&self, blocks: u16) -> Result<Option<Feerate>, RpcError> {
        let answer = self.rpc().call("estimatesmartfee", json!([blocks])).await?;
        match &answer["feerate"] {
            Value::Null => Ok(None),
            feerate => per_kw(feerate).map(Some),
        }
    }

    /// `getmempoolinfo`: what its mempool takes at present, at least what it relays.
    ///
    /// # Errors
    /// [`RpcError`].
    pub async fn mempool_min_fee(&self) -> Result<Feerate, RpcError> {
        let answer = self.rpc().call("getmempoolinfo", json!([])).await?;
        let floor = per_kw(&answer["mempoolminfee"])?;
        Ok(per_kw(&answer["minrelaytxfee"]).map_or(floor, |relay| relay.max(floor)))
    }

    /// `gettxout`: an output, when it exists and nothing spends it (with `mempool`: not even there).
    ///
    /// # Errors
    /// [`RpcError`].
    pub async fn get_tx_out(
        &self,
        outpoint: &OutPoint,
        mempool: bool,
    ) -> Result<Option<UnspentOutput>, RpcError> {
        let params = json!([outpoint.txid.to_string(), outpoint.vout, mempool]);
        let answer = self.rpc().call("gettxout", params).await?;
        if answer.is_null() {
            return Ok(None);
        }
        let script = text(&answer["scriptPubKey"], "hex").ok_or_else(|| missing("scriptPubKey"))?;
        let script_pubkey = ScriptBuf::from_hex(script).map_err(|_| missing("scriptPubKey"))?;
        let value = bitcoin::Amount::from_sat(sat(&answer["value"])?.0);
        Ok(Some(UnspentOutput {
            output: TxOut { value, script_pubkey },
            confirmations: int32(&answer, "confirmations")?,
            coinbase: answer["coinbase"].as_bool().unwrap_or(false),
        }))
    }
}

/// Refusals that mean "I have it".
fn is_known(code: i64, message: &str) -> bool {
    code == ALREADY_THERE
        || message.contains("txn-already-in-mempool")
        || message.contains("txn-already-known")
}

fn missing(what: &str) -> RpcError {
    RpcError::Nonsense(format!("{what} is missing or of the wrong kind"))
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Value::as_str)
}

fn int32(value: &Value, key: &str) -> Result<u32, RpcError> {
    value[key].as_u64().and_then(|n| u32::try_from(n).ok()).ok_or_else(|| missing(key))
}

fn parsed<T: FromStr>(value: &Value, what: &str) -> Result<T, RpcError> {
    value.as_str().and_then(|text| text.parse().ok()).ok_or_else(|| missing(what))
}

fn decoded<T: bitcoin::consensus::Decodable>(value: &Value, what: &str) -> Result<T, RpcError> {
    let hex = value.as_str().ok_or_else(|| missing(what))?;
    deserialize_hex(hex).map_err(|error| RpcError::Nonsense(format!("{what} does not decode: {error}")))
}

/// Bitcoin as JSON writes it, to satoshis. A double holds eight decimals of every amount below 21 million exactly
/// enough to round back; from here on the amount is an integer.
fn sat(value: &Value) -> Result<Sat, RpcError> {
    let bitcoin = value.as_f64().filter(|b| (0.0..=21_000_000.0).contains(b));
    let digits = bitcoin.map(|b| format!("{b:.8}").replace('.', ""));
    digits.and_then(|d| d.parse().ok()).map(Sat).ok_or_else(|| missing("an amount"))
}

/// Bitcoin per 1,000 virtual bytes to satoshi per 1,000 weight units, rounded up: too little would not relay.
fn per_kw(value: &Value) -> Result<Feerate, RpcError> {
    let per_kvb = sat(value)?.0;
    Ok(Feerate(u32::try_from(per_kvb.div_ceil(4)).unwrap_or(u32::MAX)))
}
