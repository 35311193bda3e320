//! The commands, one a line.
//!
//! In: a word and its arguments. Out: an object of fields, or why not. None of them waits for the network: what
//! becomes of a payment or a channel is told by events.
//! Read next: `show`, `blinded`.

use crate::{blinded, show};
use ldk_node::bitcoin::hashes::{sha256, Hash};
use ldk_node::bitcoin::hex::{DisplayHex, FromHex};
use ldk_node::bitcoin::secp256k1::PublicKey;
use ldk_node::lightning::ln::msgs::SocketAddress;
use ldk_node::lightning_invoice::{Bolt11Invoice, Bolt11InvoiceDescription, Description};
use ldk_node::lightning_types::payment::{PaymentHash, PaymentPreimage};
use ldk_node::{ChannelDetails, Node};
use serde_json::{json, Value};
use std::fmt::Debug;
use std::str::FromStr;

/// How long invoices can be paid, in seconds.
const EXPIRY: u32 = 3600;

/// What a command gives: fields, or why not.
pub type Answer = Result<Value, String>;

/// A line's words after the first.
pub struct Words<'a>(&'a [&'a str]);

impl Words<'_> {
    /// One of them, as a value.
    ///
    /// # Errors
    /// When it is missing or not that.
    pub fn read<T: FromStr>(&self, at: usize) -> Result<T, String>
    where
        T::Err: Debug,
    {
        let word = self.0.get(at).ok_or_else(|| format!("argument {} is missing", at + 1))?;
        word.parse().map_err(|e| format!("{word}: {e:?}"))
    }

    /// 32 bytes in hex.
    ///
    /// # Errors
    /// When it is missing or not that.
    pub fn bytes32(&self, at: usize) -> Result<[u8; 32], String> {
        <[u8; 32]>::from_hex(&self.read::<String>(at)?).map_err(|e| e.to_string())
    }

    fn amount(&self, at: usize) -> Result<Option<u64>, String> {
        match self.0.get(at) {
            None | Some(&"any") => Ok(None),
            Some(_) => self.read(at).map(Some),
        }
    }
}

fn done<T>(result: Result<T, impl ToString>) -> Answer {
    result.map(|_| json!({})).map_err(|e| e.to_string())
}

fn hash_of(preimage: &[u8; 32]) -> PaymentHash {
    PaymentHash(sha256::Hash::hash(preimage).to_byte_array())
}

fn describe() -> Result<Bolt11InvoiceDescription, String> {
    Description::new("tea".into()).map(Bolt11InvoiceDescription::Direct).map_err(|e| e.to_string())
}

fn invoice(made: Result<Bolt11Invoice, ldk_node::NodeError>) -> Answer {
    let made = made.map_err(|e| e.to_string())?;
    Ok(json!({ "bolt11": made.to_string(), "payment_hash": made.payment_hash().to_string() }))
}

fn find(node: &Node, channel_id: &str) -> Result<ChannelDetails, String> {
    let mut channels = node.list_channels().into_iter();
    channels
        .find(|c| c.channel_id.to_string() == channel_id)
        .ok_or_else(|| format!("no channel {channel_id}"))
}

/// Does what a line asks for.
///
/// # Errors
/// In words: what is wrong with the line, or what LDK says.
pub fn run(node: &Node, word: &str, words: &[&str]) -> Answer {
    let w = Words(words);
    match word {
        "status" => {
            let best = node.status().current_best_block;
            Ok(json!({ "height": best.height, "tip": best.block_hash.to_string() }))
        }
        "sync" => done(node.sync_wallets()),
        "address" => {
            let address = node.onchain_payment().new_address().map_err(|e| e.to_string())?;
            Ok(json!({ "address": address.to_string() }))
        }
        "connect" => done(node.connect(w.read(0)?, w.read(1)?, true)),
        "disconnect" => done(node.disconnect(w.read(0)?)),
        "peers" => {
            let peers = node.list_peers();
            let connected = peers.iter().filter(|p| p.is_connected).map(|p| p.node_id.to_string());
            Ok(json!({ "connected": connected.collect::<Vec<_>>() }))
        }
        "open" => open(node, &w),
        "close" => {
            let c = find(node, &w.read::<String>(0)?)?;
            done(node.close_channel(&c.user_channel_id, c.counterparty_node_id))
        }
        "force-close" => {
            let c = find(node, &w.read::<String>(0)?)?;
            done(node.force_close_channel(&c.user_channel_id, c.counterparty_node_id, None))
        }
        "graph" => Ok(show::graph(node)),
        "channels" => {
            Ok(json!({ "channels": node.list_channels().iter().map(show::channel).collect::<Vec<_>>() }))
        }
        "balance" => Ok(show::balances(node)),
        "payments" => {
            Ok(json!({ "payments": node.list_payments().iter().map(show::payment).collect::<Vec<_>>() }))
        }
        _ => pay(node, word, &w),
    }
}

/// `open NODE_ID HOST:PORT SAT PUSH_MSAT public|private`
fn open(node: &Node, w: &Words<'_>) -> Answer {
    let (id, at, sat, push) =
        (w.read::<PublicKey>(0)?, w.read::<SocketAddress>(1)?, w.read(2)?, w.read(3).map(Some)?);
    match w.read::<String>(4)?.as_str() {
        "public" => done(node.open_announced_channel(id, at, sat, push, None)),
        "private" => done(node.open_channel(id, at, sat, push, None)),
        other => Err(format!("{other} is neither public nor private")),
    }
}

fn pay(node: &Node, word: &str, w: &Words<'_>) -> Answer {
    let bolt11 = node.bolt11_payment();
    match word {
        // invoice MSAT|any
        "invoice" => invoice(match w.amount(0)? {
            Some(msat) => bolt11.receive(msat, &describe()?, EXPIRY),
            None => bolt11.receive_variable_amount(&describe()?, EXPIRY),
        }),
        // hold-invoice MSAT PREIMAGE: what comes in waits for `claim` or `fail`
        "hold-invoice" => {
            let hash = hash_of(&w.bytes32(1)?);
            invoice(bolt11.receive_for_hash(w.read(0)?, &describe()?, EXPIRY, hash))
        }
        // claim PREIMAGE MSAT
        "claim" => {
            let preimage = w.bytes32(0)?;
            done(bolt11.claim_for_hash(hash_of(&preimage), w.read(1)?, PaymentPreimage(preimage)))
        }
        // fail HASH
        "fail" => done(bolt11.fail_for_hash(PaymentHash(w.bytes32(0)?))),
        // pay BOLT11 [MSAT]
        "pay" => {
            let invoice: Bolt11Invoice = w.read(0)?;
            done(match w.amount(1)? {
                Some(msat) => bolt11.send_using_amount(&invoice, msat, None),
                None => bolt11.send(&invoice, None),
            })
        }
        // keysend NODE_ID MSAT
        "keysend" => {
            let id = node.spontaneous_payment().send(w.read(1)?, w.read(0)?, None);
            // LDK names a payment by its hash.
            Ok(json!({ "payment_hash": id.map_err(|e| e.to_string())?.0.to_lower_hex_string() }))
        }
        "blinded-invoice" => blinded::invoice(node, w),
        "refund" => blinded::refund(node, w),
        "answer-refund" => blinded::answer_refund(node, w),
        other => Err(format!("{other} is no command")),
    }
}
