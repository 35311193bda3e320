//! `fundpsbt utxopsbt addpsbtoutput signpsbt sendpsbt reserveinputs unreserveinputs bumpfee`
//!
//! In: PSBTs of version 0 in base64, amounts, coins. Out: PSBTs, coins put aside, transactions; or, with `dry_run`, what would
//! be done. Read next: `crate::wallet`, `wallet`.

use super::{Context, Outcome};
use crate::rpc::message::RpcError;
use crate::rpc::params::{AmountOr, Args};
use crate::rpc::show::{self, Object};
use crate::rpc::{WalletReply, WalletRequest};
use crate::wallet::{BumpOrder, FundedPsbt, Plan, PsbtOrder, Reservation};
use base64::Engine as _;
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{absolute, transaction, Amount, OutPoint, Psbt, ScriptBuf, Transaction, TxOut, Txid};
use chand_protocol::id::to_hex;
use chand_protocol::node::command::{Command, Reply};
use chand_protocol::units::{Feerate, Sat};
use serde_json::{json, Value};
use std::sync::Arc;

/// Core Lightning's twelve hours, in blocks.
const RESERVE_BLOCKS: u32 = 72;

/// As it is passed on.
pub(in crate::rpc) fn text(psbt: &Psbt) -> String {
    base64::engine::general_purpose::STANDARD.encode(psbt.serialize())
}

/// What would be done, for people and programs.
pub(super) fn planned(plan: &Plan) -> Object {
    let inputs: Vec<Value> = plan
        .inputs
        .iter()
        .map(|i| {
            json!({
                "txid": i.outpoint.txid.to_string(), "vout": i.outpoint.vout,
                "amount_msat": show::msat(i.amount), "ours": i.ours,
            })
        })
        .collect();
    let outputs: Vec<Value> = plan
        .outputs
        .iter()
        .map(|o| {
            Object::of(json!({
                "amount_msat": show::msat(o.amount), "scriptpubkey": to_hex(o.script.as_bytes()), "ours": o.ours,
            }))
            .maybe("address", o.address.clone())
            .build()
        })
        .collect();
    let change =
        plan.outputs.iter().filter(|o| o.ours).fold(Sat::ZERO, |sum, o| sum.saturating_add(o.amount));
    let per_kw = plan.fee.0.saturating_mul(1_000) / plan.weight.max(1);
    Object::of(json!({
        "dry_run": true,
        "inputs": inputs,
        "outputs": outputs,
        "fee_msat": show::msat(plan.fee),
        "weight": plan.weight,
        "feerate_per_kw": per_kw,
        "change_msat": show::msat(change),
        "wallet_before_msat": show::msat(plan.wallet.0),
        "wallet_after_msat": show::msat(plan.wallet.1),
        "spendable_before_msat": show::msat(plan.spendable.0),
        "spendable_after_msat": show::msat(plan.spendable.1),
    }))
}

/// Asks the wallet what a request would do.
pub(super) async fn dry_run(cx: &Context, request: WalletRequest) -> Result<Object, RpcError> {
    match cx.backend.wallet(WalletRequest::Plan(Box::new(request))).await? {
        WalletReply::Planned(plan) => Ok(planned(&plan)),
        _ => Err(RpcError::unexpected("dry_run")),
    }
}

/// Whether it was asked for.
pub(super) fn is_dry(args: &Args) -> Result<bool, RpcError> {
    Ok(args.opt("dry_run")?.unwrap_or(false))
}

fn reservation(r: &Reservation) -> Value {
    Object::of(json!({
        "txid": r.outpoint.txid.to_string(),
        "vout": r.outpoint.vout,
        "was_reserved": r.was_reserved,
        "reserved": r.until.is_some(),
    }))
    .maybe("reserved_to_block", r.until.map(|height| height.0))
    .build()
}

fn reservations(list: &[Reservation]) -> Vec<Value> {
    list.iter().map(reservation).collect()
}

fn inputs_of(psbt: &Psbt) -> Vec<OutPoint> {
    psbt.unsigned_tx.input.iter().map(|input| input.previous_output).collect()
}

async fn order(cx: &Context, args: &Args) -> Result<PsbtOrder, RpcError> {
    let feerate = match cx.feerate("feerate", args.opt("feerate")?).await? {
        Some(feerate) => feerate,
        None => cx.fee_table().await?.fees.map_or(Feerate::FLOOR, |fees| fees.normal),
    };
    let anchors = args.opt("opening_anchor_channel")?.unwrap_or(false);
    Ok(PsbtOrder {
        amount: args.get::<AmountOr<Sat>>("satoshi")?.0,
        feerate,
        start_weight: args.get::<u32>("startweight")?.into(),
        min_depth: args.opt("minconf")?.unwrap_or(1),
        utxos: args.opt("utxos")?,
        reserved_ok: args.opt("reservedok")?.unwrap_or(false),
        reserve_blocks: args.opt("reserve")?.unwrap_or(RESERVE_BLOCKS),
        lock_time: args.opt("locktime")?,
        min_witness_weight: args.opt::<u32>("min_witness_weight")?.unwrap_or(0).into(),
        excess_as_change: args.opt("excess_as_change")?.unwrap_or(false),
        keep: if anchors { Sat(1) } else { Sat::ZERO },
    })
}

async fn funded(cx: Arc<Context>, args: Args, method: &str) -> Outcome {
    let request = WalletRequest::FundPsbt(Box::new(order(&cx, &args).await?));
    if is_dry(&args)? {
        // Who completes it decides its fee.
        let plan = dry_run(&cx, request).await?.build();
        let inputs = plan.get("inputs").cloned().unwrap_or_default();
        return Ok(json!({ "dry_run": true, "inputs": inputs, "outputs": plan.get("outputs") }));
    }
    let WalletReply::PsbtFunded(funded) = cx.backend.wallet(request).await? else {
        return Err(RpcError::unexpected(method));
    };
    let FundedPsbt { psbt, feerate, weight, excess, change, reservations: made } = *funded;
    Ok(Object::of(json!({
        "psbt": text(&psbt),
        "feerate_per_kw": feerate.0,
        "estimated_final_weight": weight,
        "excess_msat": show::msat(excess),
    }))
    .maybe("change_outnum", change)
    .maybe("reservations", (!made.is_empty()).then(|| reservations(&made)))
    .build())
}

/// Coins of the wallet in a PSBT.
pub async fn fundpsbt(cx: Arc<Context>, args: Args) -> Outcome {
    funded(cx, args, "fundpsbt").await
}

/// Chosen coins in a PSBT.
pub async fn utxopsbt(cx: Arc<Context>, args: Args) -> Outcome {
    funded(cx, args, "utxopsbt").await
}

/// One more output in a PSBT.
pub async fn addpsbtoutput(cx: Arc<Context>, args: Args) -> Outcome {
    let script: ScriptBuf = match args.opt::<String>("destination")? {
        Some(address) => cx.script("destination", &address)?,
        None => {
            let WalletReply::Address { address, .. } =
                cx.backend.wallet(WalletRequest::NewAddress { kind: None }).await?
            else {
                return Err(RpcError::unexpected("addpsbtoutput"));
            };
            cx.script("destination", &address)?
        }
    };
    let amount = args.get::<Sat>("satoshi")?;
    if amount.0 < script.minimal_non_dust().to_sat().saturating_mul(cx.about.network.row().dust_factor) {
        return Err(RpcError::new(302, "satoshi: too little: nodes do not relay so small an output (dust)"));
    }
    if amount > Sat::MAX_MONEY {
        return Err(RpcError::param("satoshi", "more than there will ever be"));
    }
    let mut psbt = match args.opt::<Psbt>("initialpsbt")? {
        Some(psbt) => psbt,
        None => {
            let height = match args.opt::<u32>("locktime")? {
                Some(height) => height,
                None => match cx.backend.command(Command::GetInfo).await? {
                    Reply::Info(info) => info.blockheight.0,
                    _ => return Err(RpcError::unexpected("addpsbtoutput")),
                },
            };
            let empty = Transaction {
                version: transaction::Version::TWO,
                lock_time: absolute::LockTime::from_consensus(height),
                input: Vec::new(),
                output: Vec::new(),
            };
            Psbt::from_unsigned_tx(empty).map_err(|_| RpcError::unexpected("addpsbtoutput"))?
        }
    };
    if psbt.inputs.iter().any(|part| {
        part.tap_key_sig.is_some() || !part.partial_sigs.is_empty() || part.final_script_witness.is_some()
    }) {
        return Err(RpcError::param("initialpsbt", "it is signed already: a further output would void that"));
    }
    let outnum = psbt.unsigned_tx.output.len();
    psbt.unsigned_tx.output.push(TxOut { value: Amount::from_sat(amount.0), script_pubkey: script.clone() });
    psbt.outputs.push(bitcoin::psbt::Output::default());
    let weight = 4 * (8 + 1 + script.len());
    Ok(json!({ "psbt": text(&psbt), "estimated_added_weight": weight, "outnum": outnum }))
}

/// Our signatures.
pub async fn signpsbt(cx: Arc<Context>, args: Args) -> Outcome {
    let request = WalletRequest::SignPsbt { psbt: Box::new(args.get("psbt")?), only: args.opt("signonly")? };
    match cx.backend.wallet(request).await? {
        WalletReply::Psbt(psbt) => Ok(json!({ "signed_psbt": text(&psbt) })),
        _ => Err(RpcError::unexpected("signpsbt")),
    }
}

/// Send what all have signed.
pub async fn sendpsbt(cx: Arc<Context>, args: Args) -> Outcome {
    let psbt: Box<Psbt> = Box::new(args.get("psbt")?);
    let reserve_blocks = args.opt("reserve")?.unwrap_or(RESERVE_BLOCKS);
    let request = |relied| WalletRequest::SendPsbt { psbt: psbt.clone(), reserve_blocks, relied };
    if is_dry(&args)? {
        return Ok(dry_run(&cx, request(false)).await?.build());
    }
    let WalletReply::Finished(tx) =
        cx.backend.wallet(WalletRequest::FinishPsbt { psbt: psbt.clone() }).await?
    else {
        return Err(RpcError::unexpected("sendpsbt"));
    };
    // A channel may rely on it: then the node keeps it before it is sent.
    let Reply::SendsFunding { of } = cx.backend.command(Command::SendsFunding { tx }).await? else {
        return Err(RpcError::unexpected("sendpsbt"));
    };
    let WalletReply::Sent(tx) = cx.backend.wallet(request(of > 0)).await? else {
        return Err(RpcError::unexpected("sendpsbt"));
    };
    Ok(json!({ "tx": serialize_hex(&tx), "txid": tx.compute_txid().to_string() }))
}

async fn aside(cx: &Context, request: WalletRequest, method: &str) -> Outcome {
    match cx.backend.wallet(request).await? {
        WalletReply::Reservations(made) => Ok(json!({ "reservations": reservations(&made) })),
        _ => Err(RpcError::unexpected(method)),
    }
}

/// Put coins aside.
pub async fn reserveinputs(cx: Arc<Context>, args: Args) -> Outcome {
    let request = WalletRequest::ReserveInputs {
        coins: inputs_of(&args.get("psbt")?),
        exclusive: args.opt("exclusive")?.unwrap_or(true),
        blocks: args.opt("reserve")?.unwrap_or(RESERVE_BLOCKS),
    };
    aside(&cx, request, "reserveinputs").await
}

/// Free them.
pub async fn unreserveinputs(cx: Arc<Context>, args: Args) -> Outcome {
    let request = WalletRequest::UnreserveInputs {
        coins: inputs_of(&args.get("psbt")?),
        blocks: args.opt("reserve")?.unwrap_or(RESERVE_BLOCKS),
    };
    aside(&cx, request, "unreserveinputs").await
}

/// Raise a fee.
pub async fn bumpfee(cx: Arc<Context>, args: Args) -> Outcome {
    let txid: Txid = args.get("txid")?;
    // The funding of a channel must keep its id.
    let funds = cx.channels(None).await?.iter().any(|c| c.funding.is_some_and(|f| f.txid == txid));
    let order =
        BumpOrder { txid, feerate: Feerate::FLOOR, replace: !funds, seen: cx.backend.mempool(txid).await };
    let request = WalletRequest::Bump {
        order: Box::new(order),
        feerate: cx
            .feerate("feerate", args.opt("feerate")?.or(Some(crate::rpc::amount::FeerateSpec::Urgent)))
            .await?,
    };
    let kind = |spends: bool| if spends { "child_of" } else { "replaces" };
    if is_dry(&args)? {
        let plan = dry_run(&cx, request).await?.build();
        let inputs = plan.get("inputs").and_then(Value::as_array);
        let spends = inputs.is_some_and(|list| list.iter().any(|i| i["txid"] == txid.to_string()));
        return Ok(Object::of(plan).maybe(kind(spends), Some(txid.to_string())).build());
    }
    let WalletReply::Withdrawn { tx, psbt } = cx.backend.wallet(request).await? else {
        return Err(RpcError::unexpected("bumpfee"));
    };
    let spends = tx.input.iter().any(|input| input.previous_output.txid == txid);
    let answer =
        json!({ "tx": serialize_hex(&tx), "txid": tx.compute_txid().to_string(), "psbt": text(&psbt) });
    Ok(Object::of(answer).maybe(kind(spends), Some(txid.to_string())).build())
}

/// A PSBT of version 0 in base64.
///
/// # Errors
/// Words for what is wrong.
pub fn read(text: &str) -> Result<Psbt, String> {
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(text.trim())
        .map_err(|_| "must be a PSBT in base64".to_string())?;
    Psbt::deserialize(&bytes).map_err(|error| {
        let hint = if is_newer(&bytes) {
            "; only version 0 is read (others can convert: setpsbtversion)"
        } else {
            ""
        };
        format!("is no whole PSBT: {error}{hint}")
    })
}

/// Whether the global part names a version (type 0xfb, four bytes): only later ones do.
fn is_newer(bytes: &[u8]) -> bool {
    bytes.windows(7).take(4_096).any(|w| w[..3] == [1, 0xfb, 4] && w[3..] != [0; 4])
}
