//! `sendpay waitsendpay listsendpays`
//!
//! In: a route of the caller's choosing. Out: a payment that is under way, and later what became of it.
//! Read next: `show`.

use super::pay::matching;
use super::{Context, Outcome};
use crate::rpc::message::RpcError;
use crate::rpc::params::{Args, Label, Secret};
use crate::rpc::show;
use chand_protocol::node::command::{Command, Reply, RouteHop};
use chand_protocol::node::view;
use serde_json::{json, Value};
use std::sync::Arc;

/// The payment failed for good.
const FAILED: i32 = 203;

fn one_part(args: &Args) -> Result<(), RpcError> {
    match args.opt::<u64>("partid")? {
        None | Some(0) => Ok(()),
        Some(_) => Err(RpcError::param("partid", "only 0: a route by hand is one part")),
    }
}

/// Start a payment.
pub async fn sendpay(cx: Arc<Context>, args: Args) -> Outcome {
    one_part(&args)?;
    let route: Vec<RouteHop> = args.get("route")?;
    let command = Command::SendPay {
        route,
        payment_hash: args.get("payment_hash")?,
        payment_secret: args.opt::<Secret>("payment_secret")?.map(|s| s.0),
        amount_msat: args.opt("amount_msat")?,
        label: args.opt::<Label>("label")?.map(|l| l.0),
        bolt11: args.opt("bolt11")?,
    };
    let payment = sent(&cx, command, "sendpay").await?;
    let mut answer = show::Object::of(show::sendpay(&payment));
    if payment.status == "pending" {
        let words = "Monitor status with listpays or waitsendpay";
        answer = answer.maybe("message", Some(words));
    }
    Ok(answer.build())
}

async fn sent(cx: &Context, command: Command, method: &str) -> Result<view::Pay, RpcError> {
    match cx.backend.command(command).await? {
        Reply::Sent(payment) => Ok(payment),
        _ => Err(RpcError::unexpected(method)),
    }
}

/// Wait for the end of a payment.
pub async fn waitsendpay(cx: Arc<Context>, args: Args) -> Outcome {
    one_part(&args)?;
    let timeout_s = args.opt::<u32>("timeout")?.map(u64::from);
    let command = Command::WaitSendPay { payment_hash: args.get("payment_hash")?, timeout_s };
    let payment = sent(&cx, command, "waitsendpay").await?;
    if payment.status != "failed" {
        return Ok(show::sendpay(&payment));
    }
    let (code, words) = payment.failure.clone().unwrap_or((FAILED, "the payment failed".into()));
    Err(RpcError { code, message: words, data: Some(show::sendpay(&payment)) })
}

/// Payments, part by part.
pub async fn listsendpays(cx: Arc<Context>, args: Args) -> Outcome {
    let list: Vec<Value> = matching(&cx, &args, "listsendpays").await?.iter().map(show::sendpay).collect();
    Ok(json!({ "payments": list }))
}
