//! What LDK says, as JSON.
//!
//! In: LDK's events, channels, balances and payments. Out: the fields that a test looks at.
//! Read next: `command`.

use ldk_node::bitcoin::hex::DisplayHex;
use ldk_node::payment::{PaymentDetails, PaymentStatus};
use ldk_node::{ChannelDetails, Event, LightningBalance, Node};
use serde_json::{json, Value};

/// As BOLT 7 writes it: block, transaction, output.
fn scid(number: u64) -> String {
    format!("{}x{}x{}", number >> 40, (number >> 16) & 0xff_ffff, number & 0xffff)
}

/// A channel, with amounts in the units of their names.
pub fn channel(c: &ChannelDetails) -> Value {
    json!({
        "channel_id": c.channel_id.to_string(),
        "peer": c.counterparty_node_id.to_string(),
        "funding_txid": c.funding_txo.map(|o| o.txid.to_string()),
        "value_sat": c.channel_value_sats,
        "feerate_per_kw": c.feerate_sat_per_1000_weight,
        "outbound_msat": c.outbound_capacity_msat,
        "inbound_msat": c.inbound_capacity_msat,
        "next_htlc_limit_msat": c.next_outbound_htlc_limit_msat,
        "reserve_sat": c.unspendable_punishment_reserve,
        "peer_reserve_sat": c.counterparty_unspendable_punishment_reserve,
        "outbound": c.is_outbound,
        "ready": c.is_channel_ready,
        "own_alias": c.outbound_scid_alias.map(scid),
        "peer_alias": c.inbound_scid_alias.map(scid),
        "usable": c.is_usable,
    })
}

/// An event; those that no test waits for only say that they happened.
pub fn event(event: &Event) -> Value {
    match event {
        Event::PaymentSuccessful { payment_hash, payment_preimage, fee_paid_msat, .. } => json!({
            "event": "payment-successful",
            "payment_hash": payment_hash.0.to_lower_hex_string(),
            "preimage": payment_preimage.map(|p| p.0.to_lower_hex_string()),
            "fee_msat": fee_paid_msat,
        }),
        Event::PaymentFailed { payment_hash, reason, .. } => json!({
            "event": "payment-failed",
            "payment_hash": payment_hash.map(|h| h.0.to_lower_hex_string()),
            "reason": reason.map(|r| format!("{r:?}")),
        }),
        Event::PaymentReceived { payment_hash, amount_msat, .. } => json!({
            "event": "payment-received",
            "payment_hash": payment_hash.0.to_lower_hex_string(),
            "amount_msat": amount_msat,
        }),
        Event::PaymentClaimable { payment_hash, claimable_amount_msat, .. } => json!({
            "event": "payment-claimable",
            "payment_hash": payment_hash.0.to_lower_hex_string(),
            "amount_msat": claimable_amount_msat,
        }),
        Event::ChannelPending { channel_id, funding_txo, .. } => json!({
            "event": "channel-pending",
            "channel_id": channel_id.to_string(),
            "funding_txid": funding_txo.txid.to_string(),
        }),
        Event::ChannelReady { channel_id, .. } => {
            json!({ "event": "channel-ready", "channel_id": channel_id.to_string() })
        }
        Event::ChannelClosed { channel_id, reason, .. } => json!({
            "event": "channel-closed",
            "channel_id": channel_id.to_string(),
            "reason": reason.as_ref().map(ToString::to_string),
        }),
        Event::PaymentForwarded { total_fee_earned_msat, outbound_amount_forwarded_msat, .. } => json!({
            "event": "payment-forwarded",
            "fee_msat": total_fee_earned_msat,
            "out_msat": outbound_amount_forwarded_msat,
        }),
        other => json!({ "event": "other", "text": format!("{other:?}") }),
    }
}

/// What LDK knows of the network: public channels, its own and others', with the number of directions it knows the terms of and
/// the fees these ask (base, millionths), and nodes with the name they gave themselves.
pub fn graph(node: &Node) -> Value {
    let graph = node.network_graph();
    let channel = |scid: u64| {
        let known = graph.channel(scid)?;
        let told = [known.one_to_two, known.two_to_one].into_iter().flatten();
        let fees: Vec<Value> =
            told.map(|u| json!([u.fees.base_msat, u.fees.proportional_millionths])).collect();
        Some(json!({ "scid": self::scid(scid), "directions": fees.len(), "fees": fees }))
    };
    let channels: Vec<Value> = graph.list_channels().into_iter().filter_map(channel).collect();
    let nodes = graph.list_nodes().into_iter().map(|id| {
        let said = graph.node(&id).and_then(|known| known.announcement_info);
        json!({ "nodeid": id.to_string(), "alias": said.map(|info| info.alias().to_string()) })
    });
    json!({ "channels": channels, "nodes": nodes.collect::<Vec<_>>() })
}

/// Coins on chain, and what LDK's watcher of the chain would claim of each open channel were it closed now.
pub fn balances(node: &Node) -> Value {
    let b = node.list_balances();
    let on_close = |balance: &LightningBalance| match balance {
        LightningBalance::ClaimableOnChannelClose {
            channel_id,
            amount_satoshis,
            transaction_fee_satoshis,
            ..
        } => Some(json!({
            "channel_id": channel_id.to_string(),
            "amount_sat": amount_satoshis,
            "fee_sat": transaction_fee_satoshis,
        })),
        _ => None,
    };
    json!({
        "onchain_sat": b.total_onchain_balance_sats,
        "spendable_sat": b.spendable_onchain_balance_sats,
        "on_close": b.lightning_balances.iter().filter_map(on_close).collect::<Vec<_>>(),
    })
}

/// A payment made or received.
pub fn payment(p: &PaymentDetails) -> Value {
    json!({
        "id": p.id.0.to_lower_hex_string(),
        "amount_msat": p.amount_msat,
        "fee_msat": p.fee_paid_msat,
        "direction": format!("{:?}", p.direction).to_lowercase(),
        "status": match p.status {
            PaymentStatus::Pending => "pending",
            PaymentStatus::Succeeded => "complete",
            PaymentStatus::Failed => "failed",
        },
    })
}
