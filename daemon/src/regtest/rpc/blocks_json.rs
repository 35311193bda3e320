//! Blocks and headers as JSON.
//!
//! In: the chain and a block of it. Out: JSON with bitcoind's fields. Read next: `blocks`.

use bitcoin::consensus::encode::serialize;
use bitcoin::{Block, Transaction};
use serde_json::{json, Map, Value};

use super::decode::{tx_json, Prevout};
use super::json::hex;
use crate::regtest::consensus::{BlockInfo, ChainState, Coin};

/// The difficulty as bitcoind prints it: how many times harder than the easiest target of mainnet.
pub fn difficulty(info: &BlockInfo) -> f64 {
    let bits = info.header.bits.to_consensus();
    let (exponent, mantissa) = (bits >> 24, bits & 0x00ff_ffff);
    if mantissa == 0 {
        return 0.0;
    }
    let shift = 0x1d_i32.saturating_sub(i32::try_from(exponent).unwrap_or(i32::MAX));
    f64::from(0xffff) / f64::from(mantissa) * 256f64.powi(shift)
}

/// The target of a block's bits, in hex.
pub fn target(info: &BlockInfo) -> String {
    hex(&bitcoin::Target::from_compact(info.header.bits).to_be_bytes())
}

/// The compact target, in hex.
pub fn bits(info: &BlockInfo) -> String {
    format!("{:08x}", info.header.bits.to_consensus())
}

/// A header as JSON.
pub fn header_json(info: &BlockInfo) -> Map<String, Value> {
    let version = info.header.version.to_consensus();
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| fields.insert(name.to_owned(), value);
    put("hash", json!(info.hash.to_string()));
    put("confirmations", json!(info.confirmations));
    put("height", json!(info.height));
    put("version", json!(version));
    put("versionHex", json!(format!("{version:08x}")));
    put("merkleroot", json!(info.header.merkle_root.to_string()));
    put("time", json!(info.header.time));
    put("mediantime", json!(info.median_time));
    put("nonce", json!(info.header.nonce));
    put("bits", json!(bits(info)));
    put("target", json!(target(info)));
    put("difficulty", json!(difficulty(info)));
    put("chainwork", json!(hex(&info.chainwork.to_be_bytes())));
    put("nTx", json!(info.tx_count));
    if let Some(prev) = info.prev {
        put("previousblockhash", json!(prev.to_string()));
    }
    if let Some(next) = info.next {
        put("nextblockhash", json!(next.to_string()));
    }
    fields
}

/// How much `getblock` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Transaction ids.
    Ids,
    /// Transactions.
    Txs,
    /// Transactions and the outputs they spend.
    Prevouts,
}

/// A block as JSON.
pub fn block_json(chain: &ChainState, info: &BlockInfo, block: &Block, detail: Detail) -> Value {
    let mut fields = header_json(info);
    let txs: Vec<Value> = match detail {
        Detail::Ids => block.txdata.iter().map(|tx| json!(tx.compute_txid().to_string())).collect(),
        Detail::Txs | Detail::Prevouts => block_txs(chain, info, block, detail == Detail::Prevouts),
    };
    let weight = block.weight().to_wu();
    let size = block.total_size() as u64;
    fields.insert("strippedsize".into(), json!(weight.saturating_sub(size) / 3));
    fields.insert("size".into(), json!(size));
    fields.insert("weight".into(), json!(weight));
    fields.insert("tx".into(), Value::Array(txs));
    Value::Object(fields)
}

fn block_txs(chain: &ChainState, info: &BlockInfo, block: &Block, show: bool) -> Vec<Value> {
    let spent = chain.spent_coins(&info.hash);
    let mut offset = 0usize;
    let mut values = Vec::new();
    for tx in &block.txdata {
        let mut coins: Option<&[Coin]> = None;
        if !tx.is_coinbase() {
            let end = offset.saturating_add(tx.input.len());
            coins = spent.and_then(|spent| spent.get(offset..end));
            offset = end;
        }
        values.push(with_hex(tx, coins, show));
    }
    values
}

/// A transaction with its bytes, and with its fee where the spent coins are known.
pub fn with_hex(tx: &Transaction, coins: Option<&[Coin]>, show: bool) -> Value {
    let prevouts: Option<Vec<Prevout<'_>>> = coins.map(|coins| {
        let each = coins.iter();
        each.map(|coin| Prevout { out: &coin.out, height: coin.height, coinbase: coin.coinbase }).collect()
    });
    let mut fields = tx_json(tx, prevouts.as_deref(), show);
    fields.insert("hex".into(), json!(hex(&serialize(tx))));
    Value::Object(fields)
}
