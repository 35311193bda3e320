//! `invoice listinvoices delinvoice waitinvoice waitanyinvoice`, and (chand) `holdinvoice settleinvoice
//! cancelinvoice`
//!
//! In: what an invoice shall say, or which one is meant. Out: invoices as Core Lightning lists them.
//! Read next: `pay`.

use super::{page, Context, Outcome};
use crate::rpc::message::RpcError;
use crate::rpc::params::{AmountOr, Args, Label, Secret};
use crate::rpc::show;
use chand_protocol::id::Preimage;
use chand_protocol::invoice::MAX_FIELD_BYTES;
use chand_protocol::node::asked_of_peers;
use chand_protocol::node::command::{Command, InvoiceFilter, InvoiceRequest, Reply};
use chand_protocol::node::view;
use chand_protocol::units::Msat;
use serde_json::{json, Value};
use std::sync::Arc;

/// The invoice expired before it was paid.
const EXPIRED: i32 = 903;
/// Longest label.
const MAX_LABEL: usize = 1_000;
/// Longest description of which only the hash is in the invoice.
const MAX_HASHED: usize = 65_535;

fn bounded(args: &Args, name: &str, most: usize, way_out: &str) -> Result<String, RpcError> {
    let Label(text) = args.get(name)?;
    if text.len() > most {
        return Err(RpcError::param(name, format!("must be at most {most} bytes{way_out}")));
    }
    Ok(text)
}

fn label(args: &Args) -> Result<String, RpcError> {
    bounded(args, "label", MAX_LABEL, "")
}

fn description(args: &Args, hash_only: bool) -> Result<String, RpcError> {
    match hash_only {
        true => bounded(args, "description", MAX_HASHED, ""),
        false => bounded(args, "description", MAX_FIELD_BYTES, "; longer ones need deschashonly=true"),
    }
}

async fn one(cx: &Context, command: Command, method: &str) -> Result<view::Invoice, RpcError> {
    match cx.backend.command(command).await? {
        Reply::Invoice(invoice) => Ok(invoice),
        _ => Err(RpcError::unexpected(method)),
    }
}

fn request(cx: &Context, args: &Args) -> Result<InvoiceRequest, RpcError> {
    if args.opt::<u64>("expiry")? == Some(0) {
        return Err(RpcError::param("expiry", "must be more than 0 seconds"));
    }
    let description_hash_only = args.opt("deschashonly")?.unwrap_or(false);
    Ok(InvoiceRequest {
        amount_msat: args.get::<AmountOr<Msat>>("amount_msat")?.0,
        label: label(args)?,
        description: description(args, description_hash_only)?,
        description_hash_only,
        expiry_s: args.opt("expiry")?,
        preimage: args.opt::<Secret>("preimage")?.map(|s| Preimage(s.0)),
        cltv_blocks: args.opt("cltv")?,
        hold: None,
        expose_private: args.opt("exposeprivatechannels")?,
        blinded: args.opt("blinded")?.unwrap_or(false).then(|| {
            let us = cx.backend.about().node_id;
            asked_of_peers(cx.backend.gossip().read().graph(), &us)
        }),
    })
}

/// Ask to be paid.
pub async fn invoice(cx: Arc<Context>, args: Args) -> Outcome {
    Ok(show::new_invoice(&one(&cx, Command::Invoice(request(&cx, &args)?), "invoice").await?))
}

/// Ask to be paid under a hash whose preimage the caller keeps.
pub async fn holdinvoice(cx: Arc<Context>, args: Args) -> Outcome {
    let request = InvoiceRequest { hold: Some(args.get("payment_hash")?), ..request(&cx, &args)? };
    Ok(show::new_invoice(&one(&cx, Command::Invoice(request), "holdinvoice").await?))
}

/// Take a held payment.
pub async fn settleinvoice(cx: Arc<Context>, args: Args) -> Outcome {
    let preimage = Preimage(args.get::<Secret>("preimage")?.0);
    Ok(show::invoice(&one(&cx, Command::SettleInvoice { preimage }, "settleinvoice").await?))
}

/// Give a held payment back.
pub async fn cancelinvoice(cx: Arc<Context>, args: Args) -> Outcome {
    let payment_hash = args.get("payment_hash")?;
    Ok(show::invoice(&one(&cx, Command::CancelInvoice { payment_hash }, "cancelinvoice").await?))
}

/// Our invoices.
pub async fn listinvoices(cx: Arc<Context>, args: Args) -> Outcome {
    let filter = InvoiceFilter {
        label: args.opt::<Label>("label")?.map(|l| l.0),
        payment_hash: args.opt("payment_hash")?,
        bolt11: args.opt("invstring")?,
    };
    let queries = [filter.label.is_some(), filter.payment_hash.is_some(), filter.bolt11.is_some()];
    if queries.iter().filter(|q| **q).count() > 1 {
        return Err(RpcError::param("label", "give only one of label, invstring and payment_hash"));
    }
    match cx.backend.command(Command::ListInvoices(filter)).await? {
        Reply::Invoices(list) => {
            let list: Vec<Value> = page(&args, list, |i| (i.created_index, i.updated_index))?
                .iter()
                .map(show::invoice)
                .collect();
            Ok(json!({ "invoices": list }))
        }
        _ => Err(RpcError::unexpected("listinvoices")),
    }
}

/// Forget an invoice.
pub async fn delinvoice(cx: Arc<Context>, args: Args) -> Outcome {
    let command = Command::DelInvoice { label: label(&args)?, status: args.get("status")? };
    Ok(show::invoice(&one(&cx, command, "delinvoice").await?))
}

/// Wait until an invoice is paid or expires.
pub async fn waitinvoice(cx: Arc<Context>, args: Args) -> Outcome {
    let invoice = one(&cx, Command::WaitInvoice { label: label(&args)? }, "waitinvoice").await?;
    if invoice.status == "expired" {
        let message = "the invoice expired before it was paid; make a new one".into();
        return Err(RpcError { code: EXPIRED, message, data: Some(show::invoice(&invoice)) });
    }
    Ok(show::invoice(&invoice))
}

/// Wait for the next payment that comes in.
pub async fn waitanyinvoice(cx: Arc<Context>, args: Args) -> Outcome {
    let lastpay_index = args.opt("lastpay_index")?.unwrap_or(0);
    let command = Command::WaitAnyInvoice { lastpay_index, timeout_s: args.opt("timeout")? };
    Ok(show::invoice(&one(&cx, command, "waitanyinvoice").await?))
}
