//! `fundchannel`
//!
//! In: a node, perhaps where it is, and what the channel shall be. Out: the funding transaction and the channel's id.
//! With `id@host:port` it connects first, so that one command opens a channel with a stranger.
//! Read next: `channel`.

use super::peer::{dial, host_port};
use super::{Context, Outcome};
use crate::rpc::message::RpcError;
use crate::rpc::params::{AmountOr, Args, NodeAddress};
use crate::rpc::show::{self, Object};
use crate::rpc::{WalletReply, WalletRequest};
use bitcoin::consensus::encode::serialize_hex;
use chand_protocol::id::to_hex;
use chand_protocol::node::command::{Command, Reply};
use chand_protocol::units::{Msat, Sat};
use serde_json::json;
use std::sync::Arc;

/// `option_static_remotekey`, compulsory (BOLT 9).
const STATIC_REMOTEKEY: u32 = 12;
/// `option_anchors`, compulsory (BOLT 9).
const ANCHORS: u32 = 22;
/// `option_scid_alias`, compulsory (BOLT 9).
const SCID_ALIAS: u32 = 46;

/// Open a channel.
pub async fn fundchannel(cx: Arc<Context>, args: Args) -> Outcome {
    let node: NodeAddress = args.get("id")?;
    let amount = args.get::<AmountOr<Sat>>("amount")?.0;
    let push_msat = args.opt("push_msat")?.unwrap_or(Msat::ZERO);
    if amount.is_some_and(|a| push_msat > a.to_msat()) {
        return Err(RpcError::param("push_msat", "is more than the channel holds"));
    }
    let close_to = match args.opt::<String>("close_to")? {
        Some(address) => Some(cx.script("close_to", &address)?),
        None => None,
    };
    let feerate = cx.feerate("feerate", args.opt("feerate")?).await?;
    let (wanted, scid_alias) = channel_type(&args)?.unzip();
    // `all` is a number before the peer hears of it, and before it is known whether it can do anchors.
    let most = WalletRequest::MostFundable { anchors: wanted != Some(false), feerate };
    let amount = match amount {
        Some(amount) => amount,
        None => match cx.backend.wallet(most).await? {
            WalletReply::MostFundable(most) => most,
            _ => return Err(RpcError::unexpected("fundchannel")),
        },
    };
    let command = Command::FundChannel {
        peer: node.id,
        amount: Some(amount),
        feerate,
        announce: args.opt("announce")?.unwrap_or(true),
        push_msat,
        close_to: close_to.clone(),
        mindepth: args.opt("mindepth")?,
        reserve: args.opt("reserve")?,
        anchors: wanted,
        scid_alias,
    };
    if let Some(address) = &node.address {
        let address = host_port(address, None).map_err(|problem| RpcError::param("id", problem))?;
        dial(&cx, node.id, Some(address)).await?;
    }
    let Reply::Funded { tx, txid, outnum, channel_id, channel_type, mindepth } =
        cx.backend.command(command).await?
    else {
        return Err(RpcError::unexpected("fundchannel"));
    };
    Ok(Object::of(json!({
        "tx": serialize_hex(&tx),
        "txid": txid.to_string(),
        "outnum": outnum,
        "channel_id": channel_id.to_string(),
        "channel_type": show::channel_type(&channel_type),
        "mindepth": mindepth,
    }))
    .maybe("close_to", close_to.map(|s| to_hex(s.as_bytes())))
    .build())
}

/// The channel type asked for: with anchors or without, with an alias or without; or else whatever both can.
fn channel_type(args: &Args) -> Result<Option<(bool, bool)>, RpcError> {
    let Some(mut bits) = args.opt::<Vec<u32>>("channel_type")? else { return Ok(None) };
    bits.sort_unstable();
    let scid_alias = bits.last() == Some(&SCID_ALIAS);
    bits.truncate(bits.len() - usize::from(scid_alias));
    match bits.as_slice() {
        [STATIC_REMOTEKEY] => Ok(Some((false, scid_alias))),
        [STATIC_REMOTEKEY, ANCHORS] => Ok(Some((true, scid_alias))),
        _ => {
            let text = "must be [12] or [12,22], with 46 or without; chand opens no other types";
            Err(RpcError::param("channel_type", text))
        }
    }
}
