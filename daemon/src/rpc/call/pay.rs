//! `pay xpay keysend getroute listpays`
//!
//! In: an invoice or a node, and the most a payment may cost. Out: the preimage, once it is ours for good.
//! Read next: `sendpay`.

use super::decode::{amount_to_pay, check_description};
use super::{page, Context, Outcome};
use crate::rpc::message::RpcError;
use crate::rpc::params::{Args, Excluded, Label, Percent};
use crate::rpc::show;
use chand_protocol::gossip::graph::Direction;
use chand_protocol::id::to_hex;
use chand_protocol::node::command::{Command, Reply, RouteLimits};
use chand_protocol::node::view;
use chand_protocol::units::Msat;
use serde_json::{json, Value};
use std::sync::Arc;

/// Seconds that a payment is tried.
const RETRY_FOR_S: u32 = 60;
/// The last hop's expiry, in blocks, when `getroute` is not told.
const FINAL_CLTV_BLOCKS: u32 = 9;
/// Half a percent, in millionths of a percent.
const MAX_FEE_PERCENT: Percent = Percent(500_000);
/// Fees up to this are never too much.
const EXEMPT_FEE_MSAT: Msat = Msat(5_000);
/// Millionths of a percent in the whole.
const WHOLE: u128 = 100_000_000;

/// `percent` of an amount, at least `floor`; `None` when it does not fit.
fn share(amount: Msat, percent: &Percent, floor: Msat) -> Option<Msat> {
    let part = u128::from(amount.0).checked_mul(u128::from(percent.0))? / WHOLE;
    u64::try_from(part).ok().map(|part| Msat(part).max(floor))
}

/// The most `pay` may spend on fees.
fn pay_maxfee(args: &Args, amount: Msat) -> Result<Msat, RpcError> {
    super::exclusive(args, "maxfee", "maxfeepercent")?;
    super::exclusive(args, "maxfee", "exemptfee")?;
    if let Some(maxfee) = args.opt("maxfee")? {
        return Ok(maxfee);
    }
    let percent = args.opt("maxfeepercent")?.unwrap_or(MAX_FEE_PERCENT);
    let exempt = args.opt("exemptfee")?.unwrap_or(EXEMPT_FEE_MSAT);
    share(amount, &percent, exempt).ok_or_else(|| RpcError::param("maxfeepercent", "is too large"))
}

/// The most `xpay` may spend on fees: one percent unless told.
fn xpay_maxfee(args: &Args, amount: Msat) -> Result<Msat, RpcError> {
    match args.opt("maxfee")? {
        Some(maxfee) => Ok(maxfee),
        None => Ok(share(amount, &Percent(1_000_000), EXEMPT_FEE_MSAT).unwrap_or(EXEMPT_FEE_MSAT)),
    }
}

/// What ways may cost, and where they may not go.
fn limits(args: &Args, max_fee: Msat) -> Result<RouteLimits, RpcError> {
    let mut limits = RouteLimits { max_fee: Some(max_fee), ..excluded(args)? };
    limits.max_blocks = args.opt("maxdelay")?;
    Ok(limits)
}

/// The channels and nodes of `exclude`.
fn excluded(args: &Args) -> Result<RouteLimits, RpcError> {
    let mut limits = RouteLimits::default();
    for one in args.opt::<Vec<Excluded>>("exclude")?.unwrap_or_default() {
        match one {
            Excluded::Channel(scid, direction) => limits.not_channels.push((scid, direction)),
            Excluded::Node(id) => limits.not_nodes.push(id),
        }
    }
    Ok(limits)
}

fn label(args: &Args) -> Result<Option<String>, RpcError> {
    Ok(args.opt::<Label>("label")?.map(|l| l.0))
}

/// A payment with its preimage, or the error it ended in.
fn finished(payment: view::Pay) -> Result<(view::Pay, String), RpcError> {
    match (&payment.preimage, &payment.failure) {
        (Some(preimage), _) if payment.status == "complete" => {
            let hex = to_hex(&preimage.0);
            Ok((payment, hex))
        }
        (_, Some((code, words))) => Err(RpcError::new(*code, words.clone())),
        _ => Err(RpcError::new(
            200,
            "the payment is still pending: its outcome will be in listpays; do not pay another way until then",
        )),
    }
}

async fn send(cx: &Context, command: Command, method: &str) -> Result<(view::Pay, String), RpcError> {
    match cx.backend.command(command).await? {
        Reply::Paid(payment) => finished(payment),
        _ => Err(RpcError::unexpected(method)),
    }
}

fn paid((payment, preimage): (view::Pay, String)) -> Value {
    show::Object::of(json!({
        "payment_preimage": preimage,
        "payment_hash": payment.payment_hash.to_string(),
        "created_at": payment.created_at_s,
        "parts": payment.parts,
        "amount_msat": payment.amount_msat.0,
        "amount_sent_msat": payment.amount_sent_msat.0,
        "status": "complete",
    }))
    .maybe("destination", payment.destination.map(|d| d.to_string()))
    .build()
}

/// Pay an invoice.
pub async fn pay(cx: Arc<Context>, args: Args) -> Outcome {
    let bolt11: String = args.get("bolt11")?;
    let amount_msat = args.opt("amount_msat")?;
    let amount = amount_to_pay("bolt11", &bolt11, amount_msat)?;
    check_description("bolt11", &bolt11, args.opt("description")?)?;
    let command = Command::Pay {
        limits: limits(&args, pay_maxfee(&args, amount)?)?,
        bolt11,
        amount_msat,
        label: label(&args)?,
        retry_for_s: args.opt("retry_for")?.unwrap_or(RETRY_FOR_S).into(),
    };
    Ok(paid(send(&cx, command, "pay").await?))
}

/// Pay an invoice, Core Lightning's newer method.
pub async fn xpay(cx: Arc<Context>, args: Args) -> Outcome {
    let bolt11: String = args.get("invstring")?;
    let amount_msat = args.opt("amount_msat")?;
    let amount = amount_to_pay("invstring", &bolt11, amount_msat)?;
    let command = Command::Pay {
        limits: limits(&args, xpay_maxfee(&args, amount)?)?,
        bolt11,
        amount_msat,
        label: label(&args)?,
        retry_for_s: args.opt("retry_for")?.unwrap_or(RETRY_FOR_S).into(),
    };
    let (payment, preimage) = send(&cx, command, "xpay").await?;
    Ok(json!({
        "payment_preimage": preimage,
        "failed_parts": 0,
        "successful_parts": payment.parts,
        "amount_msat": payment.amount_msat.0,
        "amount_sent_msat": payment.amount_sent_msat.0,
    }))
}

/// Pay a node without an invoice.
pub async fn keysend(cx: Arc<Context>, args: Args) -> Outcome {
    let amount_msat: Msat = args.get("amount_msat")?;
    if amount_msat == Msat::ZERO {
        return Err(RpcError::param("amount_msat", "must be more than 0"));
    }
    let command = Command::Keysend {
        limits: limits(&args, pay_maxfee(&args, amount_msat)?)?,
        destination: args.get("destination")?,
        amount_msat,
        label: label(&args)?,
        retry_for_s: args.opt("retry_for")?.unwrap_or(RETRY_FOR_S).into(),
    };
    Ok(paid(send(&cx, command, "keysend").await?))
}

/// A route to a node, as `pay` would take it now.
pub async fn getroute(cx: Arc<Context>, args: Args) -> Outcome {
    let mut limits = excluded(&args)?;
    limits.max_hops = args.opt::<u32>("maxhops")?.map(|hops| usize::try_from(hops).unwrap_or(usize::MAX));
    let command = Command::GetRoute {
        destination: args.get("id")?,
        amount_msat: args.get("amount_msat")?,
        final_cltv_blocks: args.opt("cltv")?.unwrap_or(FINAL_CLTV_BLOCKS),
        limits,
    };
    let Reply::Route(hops) = cx.backend.command(command).await? else {
        return Err(RpcError::unexpected("getroute"));
    };
    let mut from = cx.about.node_id;
    let mut route = Vec::with_capacity(hops.len());
    for hop in hops {
        route.push(json!({
            "id": hop.id.to_string(),
            "channel": hop.channel.map(|scid| scid.to_string()),
            "direction": Direction::between(&from, &hop.id).index(),
            "amount_msat": hop.amount_msat.0,
            "delay": hop.delay_blocks,
            "style": "tlv",
        }));
        from = hop.id;
    }
    Ok(json!({ "route": route }))
}

/// The payments that a list method asks for, in order of their making.
pub(super) async fn matching(
    cx: &Context,
    args: &Args,
    command: Command,
    method: &str,
) -> Result<Vec<view::Pay>, RpcError> {
    super::exclusive(args, "bolt11", "payment_hash")?;
    let Reply::Pays(mut list) = cx.backend.command(command).await? else {
        return Err(RpcError::unexpected(method));
    };
    if let Some(status) = args.opt::<String>("status")? {
        list.retain(|p| p.status == status);
    }
    page(args, list, |p| (p.created_index, p.updated_index))
}

/// Payments we made or tried.
pub async fn listpays(cx: Arc<Context>, args: Args) -> Outcome {
    let command = Command::ListPays { payment_hash: args.opt("payment_hash")?, bolt11: args.opt("bolt11")? };
    let list = matching(&cx, &args, command, "listpays").await?;
    Ok(json!({ "pays": list.iter().map(show::pay).collect::<Vec<_>>() }))
}
