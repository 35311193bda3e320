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

/// The `partid`, unless it is that of a payment in one part.
fn partid(args: &Args) -> Result<Option<u64>, RpcError> {
    Ok(args.opt::<u64>("partid")?.filter(|partid| *partid != 0))
}

/// Start a payment.
pub async fn sendpay(cx: Arc<Context>, args: Args) -> Outcome {
    let route: Vec<RouteHop> = args.get("route")?;
    let payment_hash = args.get("payment_hash")?;
    let payment_secret = args.opt::<Secret>("payment_secret")?.map(|s| s.0);
    let amount_msat = args.opt("amount_msat")?;
    let label = args.opt::<Label>("label")?.map(|l| l.0);
    let bolt11 = args.opt("bolt11")?;
    let groupid = args.opt("groupid")?;
    let command = match partid(&args)? {
        None => Command::SendPay { route, payment_hash, payment_secret, amount_msat, label, bolt11 },
        Some(partid) => Command::SendPart {
            route,
            payment_hash,
            payment_secret,
            total_msat: amount_msat,
            partid,
            groupid,
            label,
            bolt11,
        },
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
    let timeout_s = args.opt::<u32>("timeout")?.map(u64::from);
    let payment_hash = args.get("payment_hash")?;
    let groupid = args.opt("groupid")?;
    let command = match partid(&args)? {
        None => Command::WaitSendPay { payment_hash, timeout_s },
        Some(partid) => Command::WaitSendPart { payment_hash, partid, groupid, timeout_s },
    };
    let payment = sent(&cx, command, "waitsendpay").await?;
    match payment.failure.clone() {
        None => Ok(show::sendpay(&payment)),
        Some((code, message)) => Err(RpcError { code, message, data: Some(show::sendpay(&payment)) }),
    }
}

/// Payments, part by part.
pub async fn listsendpays(cx: Arc<Context>, args: Args) -> Outcome {
    let (payment_hash, bolt11) = (args.opt("payment_hash")?, args.opt("bolt11")?);
    let command = Command::ListSendPays { payment_hash, bolt11 };
    let list = matching(&cx, &args, command, "listsendpays").await?;
    let list: Vec<Value> = list.iter().map(show::sendpay).collect();
    Ok(json!({ "payments": list }))
}
