//! `close listpeerchannels listclosedchannels setchannel listhtlcs`, and `dev-fail dev-sign-last-tx dev-feerate`
//!
//! In: a channel by its id, its short id or its peer. Out: what it is, or what became of it.
//! Read next: `snapshot`.

use super::psbt::is_dry;
use super::wallet::{CLOSING_WEIGHT, COMMITMENT_WEIGHT};
use super::{page, resolve, Context, Outcome};
use crate::rpc::amount::FeerateSpec;
use crate::rpc::message::RpcError;
use crate::rpc::params::{Args, FromArg};
use crate::rpc::show::{self, Object};
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::Transaction;
use chand_protocol::id::ShortChannelId;
use chand_protocol::node::command::{ChannelRef, Command, Reply};
use chand_protocol::node::view;
use chand_protocol::units::{Feerate, Msat, Sat};
use serde_json::{json, Value};
use std::sync::Arc;

/// Core Lightning's two days.
const UNILATERAL_TIMEOUT_S: u32 = 172_800;

/// Close a channel.
pub async fn close(cx: Arc<Context>, args: Args) -> Outcome {
    let destination = match args.opt::<String>("destination")? {
        Some(address) => Some(cx.script("destination", &address)?),
        None => None,
    };
    let command = Command::Close {
        channel: args.get("id")?,
        unilateral_timeout_s: args.opt::<u32>("unilateraltimeout")?.unwrap_or(UNILATERAL_TIMEOUT_S).into(),
        destination,
        feerange: feerange(&cx, &args).await?,
    };
    if is_dry(&args)? {
        return planned(&cx, &command).await;
    }
    closed(&cx, command, "close").await
}

/// What `close` would do, as things stand: nobody hears of it.
async fn planned(cx: &Context, command: &Command) -> Outcome {
    let Command::Close { channel, feerange, .. } = command else {
        return Err(RpcError::unexpected("close"));
    };
    let id = cx.channel_id(channel).await?;
    let channels = cx.channels(None).await?;
    let found = channels.iter().find(|c| c.channel_id == id);
    let c = found.ok_or_else(|| RpcError::param("id", "there is no such channel"))?;
    let Some(funding) = c.funding else { return Err(RpcError::param("id", "it has no funding yet")) };
    let table = cx.fee_table().await?;
    let rate = resolve(&table, FeerateSpec::Normal).unwrap_or(Feerate::FLOOR);
    // Alone, its newest commitment is published, at the feerate agreed for that.
    let (kind, rate, weight) = match c.peer_connected {
        true => ("mutual", feerange.map_or(rate, |(low, high)| rate.clamp(low, high)), CLOSING_WEIGHT),
        false => ("unilateral", c.feerate, COMMITMENT_WEIGHT),
    };
    let fee = rate.fee(weight);
    let coins = super::wallet::coins(cx, false).await?;
    let wallet = coins.iter().fold(Sat::ZERO, |sum, coin| sum.saturating_add(coin.amount));
    let opener = c.opener == chand_protocol::id::Side::Local;
    // The opener pays for it.
    let ours = match opener {
        true => c.to_us_msat.saturating_sub(fee.to_msat()),
        false => c.to_us_msat,
    };
    let theirs = c.total.to_msat().saturating_sub(c.to_us_msat);
    Ok(json!({
        "dry_run": true,
        "type": kind,
        "inputs": [{ "txid": funding.txid.to_string(), "vout": funding.vout, "amount_msat": show::msat(c.total) }],
        "outputs": [{ "amount_msat": ours.0, "ours": true }, { "amount_msat": theirs.0, "ours": false }],
        "fee_msat": show::msat(fee),
        "fee_paid_by_us": opener,
        "feerate_per_kw": rate.0,
        "htlcs_pending": c.htlcs.len(),
        "wallet_before_msat": show::msat(wallet),
        "wallet_after_msat": show::msat(wallet).saturating_add(ours.0 / 1_000 * 1_000),
    }))
}

async fn feerange(cx: &Context, args: &Args) -> Result<Option<(Feerate, Feerate)>, RpcError> {
    let Some((low, high)) = args.opt::<(FeerateSpec, FeerateSpec)>("feerange")? else { return Ok(None) };
    let table = cx.fee_table().await?;
    let number = |spec| {
        let unknown = "no fee estimate yet; give numbers such as 253perkw";
        resolve(&table, spec).ok_or_else(|| RpcError::param("feerange", unknown))
    };
    let (low, high) = (number(low)?, number(high)?);
    if low > high {
        return Err(RpcError::param("feerange", "the lowest feerate is above the highest"));
    }
    Ok(Some((low, high)))
}

async fn closed(cx: &Context, command: Command, method: &str) -> Outcome {
    let Reply::Closed { kind, tx } = cx.backend.command(command).await? else {
        return Err(RpcError::unexpected(method));
    };
    if kind == "unopened" {
        return Ok(json!({ "type": kind }));
    }
    let txs: Vec<String> = tx.iter().map(serialize_hex).collect();
    let txids: Vec<String> = tx.iter().map(|t: &Transaction| t.compute_txid().to_string()).collect();
    Ok(json!({ "type": kind, "txs": txs, "txids": txids }))
}

/// Every channel.
pub async fn listpeerchannels(cx: Arc<Context>, args: Args) -> Outcome {
    super::exclusive(&args, "short_channel_id", "channel_id")?;
    let command = Command::ListPeerChannels { peer: args.opt("id")?, channel: args.opt("channel_id")? };
    let short: Option<ShortChannelId> = args.opt("short_channel_id")?;
    let Reply::PeerChannels(mut list) = cx.backend.command(command).await? else {
        return Err(RpcError::unexpected("listpeerchannels"));
    };
    list.retain(|c| short.is_none_or(|short| c.is_called(short)));
    let us = cx.about.node_id;
    Ok(json!({ "channels": list.iter().map(|c| show::channel(c, &us)).collect::<Vec<_>>() }))
}

/// Channels that are closed.
pub async fn listclosedchannels(cx: Arc<Context>, args: Args) -> Outcome {
    match cx.backend.command(Command::ListClosedChannels { peer: args.opt("id")? }).await? {
        Reply::ClosedChannels(list) => {
            Ok(json!({ "closedchannels": list.iter().map(show::closed_channel).collect::<Vec<_>>() }))
        }
        _ => Err(RpcError::unexpected("listclosedchannels")),
    }
}

/// Change fees and limits.
pub async fn setchannel(cx: Arc<Context>, args: Args) -> Outcome {
    let id: String = args.get("id")?;
    let channel = match id.as_str() {
        "all" => None,
        _ => {
            let reference = ChannelRef::from_arg(&Value::String(id));
            Some(reference.map_err(|problem| RpcError::param("id", problem))?)
        }
    };
    let fee_base_msat = match args.opt::<Msat>("feebase")? {
        None => None,
        Some(base) => Some(
            u32::try_from(base.0)
                .map_err(|_| RpcError::param("feebase", "must be at most 4294967295msat"))?,
        ),
    };
    let (htlc_min_msat, htlc_max_msat) = (args.opt::<Msat>("htlcmin")?, args.opt::<Msat>("htlcmax")?);
    if matches!((htlc_min_msat, htlc_max_msat), (Some(low), Some(high)) if low > high) {
        return Err(RpcError::param("htlcmin", "is above htlcmax"));
    }
    let fee_ppm = args.opt("feeppm")?;
    let command = Command::SetChannel { channel, fee_base_msat, fee_ppm, htlc_min_msat, htlc_max_msat };
    match cx.backend.command(command).await? {
        Reply::PeerChannels(list) => Ok(json!({ "channels": list.iter().map(policy).collect::<Vec<_>>() })),
        _ => Err(RpcError::unexpected("setchannel")),
    }
}

fn policy(c: &view::Channel) -> Value {
    Object::of(json!({
        "peer_id": c.peer_id.to_string(),
        "channel_id": c.channel_id.to_string(),
        "fee_base_msat": c.policy.base_msat,
        "fee_proportional_millionths": c.policy.ppm,
        "ignore_fee_limits": false,
        "minimum_htlc_out_msat": c.policy.min.0,
        "maximum_htlc_out_msat": c.policy.largest().0,
    }))
    .maybe("short_channel_id", c.short_channel_id.map(|id| id.to_string()))
    .build()
}

/// Payments in flight.
pub async fn listhtlcs(cx: Arc<Context>, args: Args) -> Outcome {
    let channel = match args.opt::<ChannelRef>("id")? {
        Some(reference) => Some(cx.channel_id(&reference).await?),
        None => None,
    };
    match cx.backend.command(Command::ListHtlcs { channel }).await? {
        Reply::Htlcs(list) => Ok(json!({ "htlcs": list.iter().map(show::htlc).collect::<Vec<_>>() })),
        _ => Err(RpcError::unexpected("listhtlcs")),
    }
}

/// Payments that went on.
pub async fn listforwards(cx: Arc<Context>, args: Args) -> Outcome {
    let status: Option<String> = args.opt("status")?;
    let (over_in, over_out) = (args.opt("in_channel")?, args.opt("out_channel")?);
    let Reply::Forwards(mut list) = cx.backend.command(Command::ListForwards).await? else {
        return Err(RpcError::unexpected("listforwards"));
    };
    let wanted = |f: &view::Forward| {
        status.as_deref().is_none_or(|s| f.status == s)
            && over_in.is_none_or(|scid: ShortChannelId| f.in_channel == Some(scid))
            && over_out.is_none_or(|scid: ShortChannelId| f.out_channel == Some(scid))
    };
    list.retain(wanted);
    let list = page(&args, list, |f| (f.created_index, f.updated_index))?;
    Ok(json!({ "forwards": list.iter().map(show::forward).collect::<Vec<_>>() }))
}

/// dev: close at once.
pub async fn dev_fail(cx: Arc<Context>, args: Args) -> Outcome {
    closed(&cx, Command::DevFail { channel: args.get("id")? }, "dev-fail").await
}

/// dev: the current commitment.
pub async fn dev_sign_last_tx(cx: Arc<Context>, args: Args) -> Outcome {
    match cx.backend.command(Command::DevSignLastTx { channel: args.get("id")? }).await? {
        Reply::Tx(tx) => Ok(json!({ "tx": serialize_hex(&tx) })),
        _ => Err(RpcError::unexpected("dev-sign-last-tx")),
    }
}

/// dev: publish an old commitment of ours: a cheat, for tests.
pub async fn dev_broadcast_revoked(cx: Arc<Context>, args: Args) -> Outcome {
    let channel = cx.channel_id(&args.get("id")?).await?;
    let number: u64 = args.get("number")?;
    let dir = &cx.about.lightning_dir;
    let tx = crate::core::revoked::read(dir, &channel, number).map_err(|error| {
        let why = match (error.kind(), crate::core::revoked::kept(dir, &channel)) {
            (std::io::ErrorKind::NotFound, None) => {
                "none of this channel was revoked since chand ran with --dev".into()
            }
            (std::io::ErrorKind::NotFound, Some((first, last))) => format!("there are {first} to {last}"),
            _ => error.to_string(),
        };
        RpcError::new(-1, format!("no revoked commitment {number} of channel {channel} is kept: {why}"))
    })?;
    match cx.backend.command(Command::DevBroadcastRevoked { tx }).await? {
        Reply::Tx(tx) => Ok(json!({ "tx": serialize_hex(&tx), "txid": tx.compute_txid().to_string() })),
        _ => Err(RpcError::unexpected("dev-broadcast-revoked")),
    }
}

/// dev: set the commitments' feerate.
pub async fn dev_feerate(cx: Arc<Context>, args: Args) -> Outcome {
    let feerate = Feerate(args.get("feerate")?);
    cx.backend.command(Command::DevFeerate { channel: args.get("id")?, feerate }).await?;
    Ok(json!({}))
}
