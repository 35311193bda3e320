//! `newaddr listfunds withdraw feerates`
//!
//! In: amounts and addresses of this network only. Out: coins, transactions, fees.
//! Read next: `snapshot` (`balance`).

use super::node::ChainWarnings;
use super::psbt::{dry_run, is_dry, text};
use super::{resolve, Context, Outcome};
use crate::rpc::amount::FeerateSpec;
use crate::rpc::backend::{AddressKind, Coin, CoinStatus, FeeTable, WalletReply, WalletRequest};
use crate::rpc::message::RpcError;
use crate::rpc::params::{AmountOr, Args};
use crate::rpc::show::{self, Object};
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{absolute, transaction, Amount, Transaction, TxOut};
use chand_protocol::id::to_hex;
use chand_protocol::node::command::Command;
use chand_protocol::node::view;
use chand_protocol::units::{Feerate, Sat};
use serde_json::{json, Value};
use std::sync::Arc;

/// A fresh address.
pub async fn newaddr(cx: Arc<Context>, args: Args) -> Outcome {
    let wanted: &[Option<AddressKind>] = match args.opt::<String>("addresstype")?.as_deref() {
        Some("bech32") => &[Some(AddressKind::Bech32)],
        Some("p2tr") => &[Some(AddressKind::P2tr)],
        Some(_) => &[Some(AddressKind::Bech32), Some(AddressKind::P2tr)],
        None => &[None],
    };
    let mut answer = Object::default();
    for kind in wanted {
        let WalletReply::Address { kind, address } =
            cx.backend.wallet(WalletRequest::NewAddress { kind: *kind }).await?
        else {
            return Err(RpcError::unexpected("newaddr"));
        };
        let name = match kind {
            AddressKind::Bech32 => "bech32",
            AddressKind::P2tr => "p2tr",
        };
        answer = answer.maybe(name, Some(address));
    }
    Ok(answer.build())
}

/// Our coins.
pub(super) async fn coins(cx: &Context, spent: bool) -> Result<Vec<Coin>, RpcError> {
    match cx.backend.wallet(WalletRequest::ListCoins { spent }).await? {
        WalletReply::Coins(coins) => Ok(coins),
        _ => Err(RpcError::unexpected("listfunds")),
    }
}

/// Coins on chain and money in channels.
pub async fn listfunds(cx: Arc<Context>, args: Args) -> Outcome {
    let outputs: Vec<Value> =
        coins(&cx, args.opt("spent")?.unwrap_or(false)).await?.iter().map(output).collect();
    let channels: Vec<Value> = cx.channels(None).await?.iter().filter_map(channel).collect();
    let WalletReply::KeptBack { amount, channels: counted } =
        cx.backend.wallet(WalletRequest::KeptBack).await?
    else {
        return Err(RpcError::unexpected("listfunds"));
    };
    let kept = json!({
        "amount_msat": show::msat(amount),
        "channels": counted,
        "reason": "for the fees of channels with anchors that close on chain; fundchannel and withdraw leave it",
    });
    let funds = json!({ "outputs": outputs, "channels": channels, "kept_back": kept }); // (chand): kept_back
    Ok(ChainWarnings::ask(&cx).await?.onto(Object::of(funds)).build())
}

fn output(coin: &Coin) -> Value {
    let (status, height) = match coin.status {
        CoinStatus::Unconfirmed => ("unconfirmed", None),
        CoinStatus::Confirmed(height) => ("confirmed", Some(height)),
        CoinStatus::Spent(height) => ("spent", height),
        CoinStatus::Immature(height) => ("immature", Some(height)),
    };
    Object::of(json!({
        "txid": coin.outpoint.txid.to_string(),
        "output": coin.outpoint.vout,
        "amount_msat": show::msat(coin.amount),
        "scriptpubkey": to_hex(coin.script_pubkey.as_bytes()),
        "status": status,
        "reserved": coin.reserved_to.is_some(),
    }))
    .maybe("address", coin.address.clone())
    .maybe("blockheight", height.map(|h| h.0))
    .maybe("reserved_to_block", coin.reserved_to.map(|h| h.0))
    .build()
}

/// A channel that has a funding output.
fn channel(c: &view::Channel) -> Option<Value> {
    let funding = c.funding?;
    Some(
        Object::of(json!({
            "peer_id": c.peer_id.to_string(),
            "connected": c.peer_connected,
            "state": c.state.name(),
            "channel_id": c.channel_id.to_string(),
            "our_amount_msat": c.to_us_msat.0,
            "amount_msat": show::msat(c.total),
            "funding_txid": funding.txid.to_string(),
            "funding_output": funding.vout,
        }))
        .maybe("short_channel_id", c.short_channel_id.map(|id| id.to_string()))
        .build(),
    )
}

/// Send coins out.
pub async fn withdraw(cx: Arc<Context>, args: Args) -> Outcome {
    let destination = cx.script("destination", &args.get::<String>("destination")?)?;
    let amount = args.get::<AmountOr<Sat>>("satoshi")?.0;
    let dust_factor = cx.about.network.row().dust_factor;
    if amount.is_some_and(|a| a.0 < destination.minimal_non_dust().to_sat().saturating_mul(dust_factor)) {
        return Err(RpcError::new(302, "satoshi: too little: nodes do not relay so small an output (dust)"));
    }
    let script = destination.clone();
    let request = WalletRequest::Withdraw {
        destination,
        amount,
        feerate: cx.feerate("feerate", args.opt("feerate")?).await?,
        min_confirmations: args.opt("minconf")?.unwrap_or(1),
        utxos: args.opt("utxos")?,
    };
    if script.is_p2wsh() {
        // A channel's address takes the one transaction that the channel was secured for.
        let output = TxOut { value: Amount::from_sat(amount.map_or(0, |a| a.0)), script_pubkey: script };
        let (version, lock_time) = (transaction::Version::TWO, absolute::LockTime::ZERO);
        let tx = Transaction { version, lock_time, input: Vec::new(), output: vec![output] };
        cx.backend.command(Command::SendsFunding { tx }).await?;
    }
    if is_dry(&args)? {
        return Ok(dry_run(&cx, request).await?.build());
    }
    let WalletReply::Withdrawn { tx, psbt } = cx.backend.wallet(request).await? else {
        return Err(RpcError::unexpected("withdraw"));
    };
    Ok(json!({ "tx": serialize_hex(&tx), "txid": tx.compute_txid().to_string(), "psbt": text(&psbt) }))
}

/// What fees are now.
pub async fn feerates(cx: Arc<Context>, args: Args) -> Outcome {
    let table = cx.fee_table().await?;
    let style: String = args.get("style")?;
    let factor = if style == "perkb" { 4 } else { 1 };
    let mut answer = Object::default().maybe(&style, Some(rates(&table, factor)));
    if table.fees.is_none() {
        answer =
            answer.maybe("warning_missing_feerates", Some("the chain backend has given no estimate yet"));
    }
    Ok(answer.maybe("onchain_fee_estimates", onchain_estimates(&table)).build())
}

fn rates(table: &FeeTable, factor: u64) -> Value {
    let scaled = |f: Feerate| u64::from(f.0) * factor;
    let named = |spec| resolve(table, spec).map(scaled);
    let estimates: Vec<Value> = table
        .estimates
        .iter()
        .map(|(blocks, f)| json!({ "blockcount": blocks, "feerate": scaled(*f), "smoothed_feerate": scaled(*f) }))
        .collect();
    let floor = resolve(table, FeerateSpec::Minimum).unwrap_or(Feerate::FLOOR);
    Object::of(json!({
        "min_acceptable": scaled(table.min_acceptable),
        "max_acceptable": scaled(table.max_acceptable),
        "floor": scaled(floor),
        "estimates": estimates,
    }))
    .maybe("opening", named(FeerateSpec::Normal))
    .maybe("mutual_close", named(FeerateSpec::Normal))
    .maybe("unilateral_close", named(FeerateSpec::Urgent))
    .maybe("penalty", named(FeerateSpec::Urgent))
    .build()
}

/// Weight of a funding transaction: one P2WPKH input, the P2WSH funding output, one P2WPKH change.
const FUNDING_WEIGHT: u64 = 4 * (10 + 41 + 43 + 31) + 2 + 109;
/// Weight of a closing transaction with two P2WPKH outputs (BOLT 3).
pub(super) const CLOSING_WEIGHT: u64 = 4 * (10 + 41 + 31 + 31) + 2 + 222;
/// Weight of a commitment with anchors and without HTLCs (BOLT 3).
pub(super) const COMMITMENT_WEIGHT: u64 = 1_124;
/// Weight of an HTLC-timeout transaction, without anchors' extra (BOLT 3).
const HTLC_TIMEOUT_WEIGHT: u64 = 663;
/// Weight of an HTLC-success transaction, without anchors' extra (BOLT 3).
const HTLC_SUCCESS_WEIGHT: u64 = 703;

fn onchain_estimates(table: &FeeTable) -> Option<Value> {
    let (normal, urgent) = (resolve(table, FeerateSpec::Normal)?, resolve(table, FeerateSpec::Urgent)?);
    Some(json!({
        "opening_channel_satoshis": normal.fee(FUNDING_WEIGHT).0,
        "mutual_close_satoshis": normal.fee(CLOSING_WEIGHT).0,
        "unilateral_close_satoshis": urgent.fee(COMMITMENT_WEIGHT).0,
        "htlc_timeout_satoshis": urgent.fee(HTLC_TIMEOUT_WEIGHT).0,
        "htlc_success_satoshis": urgent.fee(HTLC_SUCCESS_WEIGHT).0,
    }))
}
