//! `fundchannel`, and `fundchannel_start fundchannel_complete fundchannel_cancel` for whoever has coins elsewhere
//!
//! In: a node, perhaps where it is, and what the channel shall be. Out: the funding transaction and the channel's id.
//! With `id@host:port` it connects first, so that one command opens a channel with a stranger. A transaction from elsewhere
//! is taken only when its id is final: each input must be segwit, for else a signature decides the id.
//! Read next: `channel`.

use super::peer::{dial, host_port};
use super::psbt::{dry_run, is_dry};
use super::{Context, Outcome};
use crate::rpc::message::RpcError;
use crate::rpc::params::{AmountOr, Args, NodeAddress};
use crate::rpc::show::{self, Object};
use crate::rpc::{WalletReply, WalletRequest};
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::script::{Builder, Instruction, PushBytesBuf};
use bitcoin::{NetworkKind, Psbt, ScriptBuf, Transaction};
use chand_protocol::chain::Network;
use chand_protocol::id::to_hex;
use chand_protocol::node::command::{Command, FundOrder, Reply};
use chand_protocol::units::{Feerate, Msat, Sat};
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
    if is_dry(&args)? {
        return planned(&cx, &node, amount, wanted != Some(false), feerate, push_msat).await;
    }
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

/// What `fundchannel` would do. The peer hears nothing of it.
async fn planned(
    cx: &Context,
    node: &NodeAddress,
    amount: Option<Sat>,
    anchors: bool,
    feerate: Option<Feerate>,
    push_msat: Msat,
) -> Outcome {
    let Reply::Peers(peers) = cx.backend.command(Command::ListPeers { peer: Some(node.id) }).await? else {
        return Err(RpcError::unexpected("fundchannel"));
    };
    let connected = peers.iter().any(|peer| peer.connected);
    if !connected && node.address.is_none() {
        return Err(RpcError::new(400, "the peer is not connected: use connect first"));
    }
    let plan = dry_run(cx, WalletRequest::Fund { amount, anchors, feerate }).await?.build();
    let outputs = plan["outputs"].as_array().cloned().unwrap_or_default();
    let funding = outputs.iter().find(|output| output["ours"] == false);
    let capacity = amount.map(|a| a.to_msat().0).or(funding.and_then(|o| o["amount_msat"].as_u64()));
    Ok(Object::of(plan)
        .maybe("connected", Some(connected))
        .maybe("our_amount_msat", capacity.map(|msat| msat.saturating_sub(push_msat.0)))
        .maybe("push_msat", Some(push_msat.0))
        .build())
}

/// Begin a channel that a transaction from elsewhere will fund.
pub async fn fundchannel_start(cx: Arc<Context>, args: Args) -> Outcome {
    let amount: Sat = args.get("amount")?;
    let push_msat = args.opt("push_msat")?.unwrap_or(Msat::ZERO);
    if push_msat > amount.to_msat() {
        return Err(RpcError::new(301, "push_msat: is more than the channel holds"));
    }
    let close_to = match args.opt::<String>("close_to")? {
        Some(address) => Some(cx.script("close_to", &address)?),
        None => None,
    };
    let (anchors, scid_alias) = channel_type(&args)?.unzip();
    let order = FundOrder {
        peer: args.get("id")?,
        amount: Some(amount),
        feerate: cx.feerate("feerate", args.opt("feerate")?).await?,
        announce: args.opt("announce")?.unwrap_or(true),
        push_msat,
        close_to: close_to.clone(),
        mindepth: args.opt("mindepth")?,
        reserve: args.opt("reserve")?,
        anchors,
        scid_alias,
        by_hand: true,
    };
    let Reply::FundingStarted { script_pubkey, channel_type, mindepth } =
        cx.backend.command(Command::FundChannelStart(Box::new(order))).await?
    else {
        return Err(RpcError::unexpected("fundchannel_start"));
    };
    let address = chand_protocol::address::write(&script_pubkey, cx.about.network);
    Ok(Object::of(json!({
        "funding_address": address,
        "scriptpubkey": to_hex(script_pubkey.as_bytes()),
        "channel_type": show::channel_type(&channel_type),
        "mindepth": mindepth,
        "warning_usage": "the transaction must not be sent before fundchannel_complete has succeeded: what it pays could never be spent",
    }))
    .maybe("close_to", close_to.map(|s| to_hex(s.as_bytes())))
    .build())
}

/// The transaction for it.
pub async fn fundchannel_complete(cx: Arc<Context>, args: Args) -> Outcome {
    let psbt: Psbt = args.get("psbt")?;
    let tx = final_id(&psbt, cx.about.network)
        .map_err(|why| RpcError::param("psbt", format!("{why}. Do not send the transaction")))?;
    let command = Command::FundChannelComplete { peer: args.get("id")?, tx };
    match cx.backend.command(command).await? {
        Reply::FundingSecured { channel_id } => {
            Ok(json!({ "channel_id": channel_id.to_string(), "commitments_secured": true }))
        }
        _ => Err(RpcError::unexpected("fundchannel_complete")),
    }
}

/// Give it up.
pub async fn fundchannel_cancel(cx: Arc<Context>, args: Args) -> Outcome {
    cx.backend.command(Command::FundChannelCancel { peer: args.get("id")? }).await?;
    Ok(json!({ "cancelled": "the channel was given up: do not send its funding transaction" }))
}

/// The transaction of a PSBT as it will be, but for its witnesses; only if no signature can change its id.
fn final_id(psbt: &Psbt, network: Network) -> Result<Transaction, String> {
    // BOLT 2 [2.created.2].
    let mut tx = psbt.unsigned_tx.clone();
    if tx.input.is_empty() || psbt.inputs.len() != tx.input.len() {
        return Err("it has no inputs: the transaction must be complete but for its signatures".into());
    }
    let kind = NetworkKind::from(network.bitcoin());
    if psbt.xpub.keys().any(|key| key.network != kind) {
        return Err("it is of another network, by the keys that it names".into());
    }
    let mut seen = std::collections::BTreeSet::new();
    for (index, (input, part)) in tx.input.iter_mut().zip(&psbt.inputs).enumerate() {
        if !seen.insert(input.previous_output) {
            return Err(format!("input {index} spends {} a second time", input.previous_output));
        }
        let vout = usize::try_from(input.previous_output.vout).unwrap_or(usize::MAX);
        let made = part.non_witness_utxo.as_ref();
        if made.is_some_and(|tx| tx.compute_txid() != input.previous_output.txid) {
            return Err(format!(
                "input {index}: non_witness_utxo is not the transaction that it spends from"
            ));
        }
        let told = made.and_then(|tx| tx.output.get(vout)).or(part.witness_utxo.as_ref());
        let Some(spent) = told else {
            return Err(format!(
                "input {index}: what it spends (witness_utxo) is not told, so that nobody knows whether a \
                                signature can change the transaction's id"
            ));
        };
        if spent.script_pubkey.is_witness_program() {
            if part.final_script_sig.as_ref().is_some_and(|script| !script.is_empty()) {
                return Err(format!("input {index}: a segwit coin takes no scriptSig"));
            }
            continue;
        }
        let signed = part.final_script_sig.as_ref().and_then(only_push);
        let redeem = part.redeem_script.clone().or(signed);
        let wrapped = redeem
            .filter(|script| script.is_witness_program() && script.to_p2sh() == spent.script_pubkey)
            .and_then(|script| PushBytesBuf::try_from(script.into_bytes()).ok());
        let Some(wrapped) = wrapped else {
            return Err(format!(
                "input {index} is not segwit: whoever passes it on could change the transaction's id, and the channel's \
                 money would be lost"
            ));
        };
        input.script_sig = Builder::new().push_slice(wrapped).into_script();
    }
    Ok(tx)
}

/// The one thing that a script pushes.
fn only_push(script: &ScriptBuf) -> Option<ScriptBuf> {
    let mut instructions = script.instructions();
    match (instructions.next(), instructions.next()) {
        (Some(Ok(Instruction::PushBytes(bytes))), None) => {
            Some(ScriptBuf::from_bytes(bytes.as_bytes().to_vec()))
        }
        _ => None,
    }
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
