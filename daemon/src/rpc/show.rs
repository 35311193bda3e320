//! The shapes of answers: views of the node as Core Lightning's JSON.
//!
//! In: plain data of `chand_protocol::node::view`. Out: JSON whose field names and types are those of Core Lightning's
//! schemas; absent facts are absent fields. Fields of chand's own are marked (chand).
//! Read next: `show_close`, `call`.

use super::show_close;
use chand_protocol::id::{to_hex, NodeId, Side};
use chand_protocol::node::view;
use chand_protocol::onion::failure::name_of;
use chand_protocol::units::{Msat, Sat, Timestamp};
use serde_json::{json, Map, Value};
use std::net::{IpAddr, SocketAddr};

/// Builds an object whose absent members are left out.
#[derive(Default)]
pub struct Object(Map<String, Value>);

impl Object {
    /// From a `json!({…})`.
    pub fn of(value: Value) -> Object {
        match value {
            Value::Object(map) => Object(map),
            _ => Object::default(),
        }
    }

    /// Adds a member, if there is a value.
    #[must_use]
    pub fn maybe(mut self, name: &str, value: Option<impl Into<Value>>) -> Object {
        if let Some(value) = value {
            self.0.insert(name.into(), value.into());
        }
        self
    }

    /// Done.
    pub fn build(self) -> Value {
        Value::Object(self.0)
    }
}

/// `local` or `remote`.
pub fn side(side: Side) -> &'static str {
    match side {
        Side::Local => "local",
        Side::Remote => "remote",
    }
}

/// `out` for what we offered, `in` for what the peer did.
pub fn direction(offered_by: Side) -> &'static str {
    match offered_by {
        Side::Local => "out",
        Side::Remote => "in",
    }
}

/// Satoshi as a number of msat.
pub fn msat(amount: Sat) -> u64 {
    amount.to_msat().0
}

/// `host:port` in Core Lightning's three fields; a host that is no IP address counts as `dns`.
pub fn address(text: &str) -> Value {
    if let Ok(socket) = text.parse::<SocketAddr>() {
        return socket_address(&socket);
    }
    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    let port: u16 = port.parse().unwrap_or(9735);
    json!({ "type": "dns", "address": host, "port": port })
}

/// An IP address and port in Core Lightning's three fields.
pub fn socket_address(socket: &SocketAddr) -> Value {
    let kind = match socket.ip() {
        IpAddr::V4(_) => "ipv4",
        IpAddr::V6(_) => "ipv6",
    };
    json!({ "type": kind, "address": socket.ip().to_string(), "port": socket.port() })
}

/// The type of a channel, in bits and in names.
pub fn channel_type(bits: &[u32]) -> Value {
    let names: Vec<String> = bits.iter().map(|bit| feature_name(*bit)).collect();
    json!({ "bits": bits, "names": names })
}

fn feature_name(bit: u32) -> String {
    let parity = if bit.is_multiple_of(2) { "even" } else { "odd" };
    let name = match bit / 2 {
        6 => "static_remotekey",
        9 => "large_channels",
        11 => "anchors",
        23 => "scid_alias",
        25 => "zeroconf",
        other => return format!("{}/{parity}", other * 2),
    };
    format!("{name}/{parity}")
}

/// `listpeers`
pub fn peer(peer: &view::Peer) -> Value {
    let base = Object::of(json!({
        "id": peer.id.to_string(),
        "connected": peer.connected,
        "num_channels": peer.num_channels,
    }));
    if !peer.connected {
        return base.build();
    }
    let addresses: Vec<&str> = peer.address.as_deref().into_iter().collect();
    base.maybe("netaddr", Some(addresses)).maybe("features", Some(to_hex(&peer.features))).build()
}

/// `listpeerchannels`; `us` decides the channel's `direction` (BOLT 7).
pub fn channel(c: &view::Channel, us: &NodeId) -> Value {
    let mut object = Object::of(json!({
        "peer_id": c.peer_id.to_string(),
        "peer_connected": c.peer_connected,
        "reestablished": c.reestablished,
        "state": c.state.name(),
        "channel_id": c.channel_id.to_string(),
        "channel_type": channel_type(&c.type_bits),
        "feerate": { "perkw": c.feerate.0, "perkb": u64::from(c.feerate.0) * 4 },
        "updates": { "local": update(c) },
        "owner": "chand",
        "private": c.private,
        "opener": side(c.opener),
        "features": channel_features(&c.type_bits),
        "lost_state": c.lost_state,
    }));
    object = object
        .maybe("short_channel_id", c.short_channel_id.map(|id| id.to_string()))
        .maybe("direction", c.short_channel_id.map(|_| u8::from(*us > c.peer_id)))
        .maybe("funding_txid", c.funding.map(|f| f.txid.to_string()))
        .maybe("funding_outnum", c.funding.map(|f| f.vout))
        .maybe("closer", c.closer.map(side))
        .maybe("close_to", c.close_to.0.as_ref().map(|s| to_hex(s.as_bytes())))
        .maybe("funding", c.funding.map(|_| funding(c)));
    for (name, value) in money(c).into_iter().chain(limits(c)).chain(counters(c)) {
        object = object.maybe(name, Some(value));
    }
    object
        .maybe("status", Some(c.status.clone()))
        .maybe("htlcs", Some(c.htlcs.iter().map(channel_htlc).collect::<Vec<_>>()))
        .maybe("confirmations", Some(c.depth.0)) // (chand)
        .maybe("confirmations_needed", Some(c.depth.1)) // (chand)
        .maybe("closing_txid", c.closing_txid.map(|t| t.to_string())) // (chand)
        .maybe("state_changes", Some(show_close::state_changes(c)))
        .maybe("close_cause", show_close::close_cause(c)) // (chand): Core Lightning has it in listclosedchannels
        .maybe("cause", show_close::cause(c, None)) // (chand)
        .build()
}

fn update(c: &view::Channel) -> Value {
    json!({
        "htlc_minimum_msat": c.policy.min.0,
        "htlc_maximum_msat": c.policy.largest().0,
        "cltv_expiry_delta": c.policy.delta_blocks,
        "fee_base_msat": c.policy.base_msat,
        "fee_proportional_millionths": c.policy.ppm,
    })
}

fn channel_features(bits: &[u32]) -> Vec<&'static str> {
    let named = |bit: &u32| match bit / 2 {
        6 => Some("option_static_remotekey"),
        11 => Some("option_anchors"),
        23 => Some("option_scid_alias"),
        25 => Some("option_zeroconf"),
        _ => None,
    };
    bits.iter().filter_map(named).collect()
}

fn funding(c: &view::Channel) -> Value {
    let total = c.total.to_msat();
    // What the opener gave the other at the start was pushed.
    let (local, remote, pushed) = match c.opener {
        Side::Local => (total, Msat::ZERO, total.saturating_sub(c.initial_to_us_msat)),
        Side::Remote => (Msat::ZERO, total, c.initial_to_us_msat),
    };
    json!({ "local_funds_msat": local.0, "remote_funds_msat": remote.0, "pushed_msat": pushed.0, "withheld": false })
}

type Field = (&'static str, Value);

fn money(c: &view::Channel) -> Vec<Field> {
    vec![
        ("to_us_msat", json!(c.to_us_msat.0)),
        ("min_to_us_msat", json!(c.min_to_us_msat.0)),
        ("max_to_us_msat", json!(c.max_to_us_msat.0)),
        ("total_msat", json!(msat(c.total))),
        ("last_tx_fee_msat", json!(msat(c.commit_fee))),
        ("fee_base_msat", json!(c.policy.base_msat)),
        ("fee_proportional_millionths", json!(c.policy.ppm)),
        ("spendable_msat", json!(c.spendable_msat.0)),
        ("receivable_msat", json!(c.receivable_msat.0)),
    ]
}

fn limits(c: &view::Channel) -> Vec<Field> {
    vec![
        ("dust_limit_msat", json!(msat(c.dust_limit.0))),
        // Named after the side that set the limit: theirs bounds what we offer.
        ("their_max_htlc_value_in_flight_msat", json!(c.max_in_flight_msat.0 .0)),
        ("our_max_htlc_value_in_flight_msat", json!(c.max_in_flight_msat.1 .0)),
        ("our_reserve_msat", json!(msat(c.reserve.0))),
        ("their_reserve_msat", json!(msat(c.reserve.1))),
        ("minimum_htlc_in_msat", json!(c.htlc_minimum_msat.1 .0)),
        ("minimum_htlc_out_msat", json!(c.policy.min.0)),
        ("maximum_htlc_out_msat", json!(c.policy.largest().0)),
        ("our_to_self_delay", json!(c.to_self_delay.0)),
        ("their_to_self_delay", json!(c.to_self_delay.1)),
        ("max_accepted_htlcs", json!(c.max_accepted_htlcs.1)),
    ]
}

fn counters(c: &view::Channel) -> Vec<Field> {
    vec![
        ("in_payments_offered", json!(c.stats.in_offered)),
        ("in_offered_msat", json!(c.stats.in_offered_msat.0)),
        ("in_payments_fulfilled", json!(c.stats.in_fulfilled)),
        ("in_fulfilled_msat", json!(c.stats.in_fulfilled_msat.0)),
        ("out_payments_offered", json!(c.stats.out_offered)),
        ("out_offered_msat", json!(c.stats.out_offered_msat.0)),
        ("out_payments_fulfilled", json!(c.stats.out_fulfilled)),
        ("out_fulfilled_msat", json!(c.stats.out_fulfilled_msat.0)),
    ]
}

fn channel_htlc(h: &view::Htlc) -> Value {
    Object::of(json!({
        "direction": direction(h.offered_by),
        "id": h.id,
        "amount_msat": h.amount_msat.0,
        "expiry": h.expiry.0,
        "payment_hash": h.payment_hash.to_string(),
        "state": h.state,
    }))
    // The schema has it only when it is true.
    .maybe("local_trimmed", h.local_trimmed.then_some(true))
    .build()
}

/// `listhtlcs`
pub fn htlc(h: &view::Htlc) -> Value {
    Object::default()
        .maybe("short_channel_id", h.short_channel_id.map(|id| id.to_string()))
        .maybe("channel_id", Some(h.channel_id.to_string())) // (chand)
        // The running number of its channel and direction, from 1: Core Lightning's counts over all channels.
        .maybe("created_index", Some(h.id.saturating_add(1)))
        .maybe("id", Some(h.id))
        .maybe("expiry", Some(h.expiry.0))
        .maybe("amount_msat", Some(h.amount_msat.0))
        .maybe("direction", Some(direction(h.offered_by)))
        .maybe("payment_hash", Some(h.payment_hash.to_string()))
        .maybe("state", Some(h.state))
        .build()
}

/// `listforwards`
pub fn forward(f: &view::Forward) -> Value {
    let seconds = |at: Timestamp| at.0 as f64 / 1_000.0;
    Object::of(json!({
        "created_index": f.created_index,
        "in_channel": f.in_channel.map(|id| id.to_string()),
        "in_htlc_id": f.in_htlc_id,
        "in_msat": f.in_msat.0,
        "out_msat": f.out_msat.0,
        "fee_msat": f.in_msat.0.saturating_sub(f.out_msat.0),
        "status": f.status,
        "style": "tlv",
        "received_time": seconds(f.received),
        "payment_hash": f.payment_hash.to_string(), // (chand)
        "in_expiry": f.in_expiry.0,                 // (chand)
        "out_expiry": f.out_expiry.0,               // (chand)
    }))
    .maybe("out_channel", f.out_channel.map(|id| id.to_string()))
    .maybe("out_htlc_id", Some(f.out_htlc_id))
    .maybe("resolved_time", f.resolved.map(seconds))
    .maybe("lost_msat", f.lost.map(|lost| lost.0)) // (chand)
    .build()
}

/// `listclosedchannels`
pub fn closed_channel(closed: &view::ClosedChannel) -> Value {
    let c = &closed.channel;
    Object::of(json!({
        "peer_id": c.peer_id.to_string(),
        "channel_id": c.channel_id.to_string(),
        "opener": side(c.opener),
        "private": c.private,
        "channel_type": channel_type(&c.type_bits),
        "total_local_commitments": c.commitment_number.0.saturating_add(1),
        "total_remote_commitments": c.commitment_number.1.saturating_add(1),
        "total_htlcs_sent": c.stats.out_offered,
        "funding_withheld": false,
        "leased": false,
        "total_msat": msat(c.total),
        "final_to_us_msat": closed.final_to_us_msat.0,
        "min_to_us_msat": c.min_to_us_msat.0,
        "max_to_us_msat": c.max_to_us_msat.0,
        "close_cause": show_close::close_cause(c).unwrap_or("unknown"),
        "state_changes": show_close::state_changes(c),
    }))
    .maybe("cause", show_close::cause(c, Some(closed))) // (chand)
    .maybe("short_channel_id", c.short_channel_id.map(|id| id.to_string()))
    .maybe("closer", c.closer.map(side))
    .maybe("funding_txid", c.funding.map(|f| f.txid.to_string()))
    .maybe("funding_outnum", c.funding.map(|f| f.vout))
    .maybe("last_commitment_fee_msat", closed.last_commitment_fee.map(msat))
    .build()
}

/// `listinvoices`, `waitinvoice` and the like.
pub fn invoice(i: &view::Invoice) -> Value {
    let paid = i.status == "paid";
    Object::of(json!({
        "label": i.label,
        "bolt11": i.bolt11,
        "payment_hash": i.payment_hash.to_string(),
        "status": i.status,
        "description": i.description,
        "expires_at": i.expires_at_s,
        "created_index": i.created_index,
    }))
    .maybe("amount_msat", i.amount_msat.map(|a| a.0))
    .maybe("hold", i.hold) // (chand)
    .maybe("pay_index", i.pay_index.filter(|_| paid))
    // (chand) for a held payment that is not taken yet, the amount that waits.
    .maybe("amount_received_msat", i.amount_received_msat.map(|a| a.0))
    .maybe("paid_at", i.paid_at_s.filter(|_| paid))
    .maybe("payment_preimage", i.preimage.as_ref().filter(|_| paid).map(|p| to_hex(&p.0)))
    .build()
}

/// What `invoice` answers.
pub fn new_invoice(i: &view::Invoice) -> Value {
    json!({
        "payment_hash": i.payment_hash.to_string(),
        "expires_at": i.expires_at_s,
        "bolt11": i.bolt11,
        "payment_secret": to_hex(&i.payment_secret),
        "created_index": i.created_index,
    })
}

/// `listpays`
pub fn pay(p: &view::Pay) -> Value {
    let complete = p.status == "complete";
    Object::of(json!({
        "payment_hash": p.payment_hash.to_string(),
        "status": p.status,
        "created_at": p.created_at_s,
        "created_index": p.created_index,
        "amount_sent_msat": p.amount_sent_msat.0,
    }))
    // The schema has no amount where nothing arrived.
    .maybe("amount_msat", (p.status != "failed").then_some(p.amount_msat.0))
    .maybe("destination", p.destination.map(|d| d.to_string()))
    .maybe("completed_at", p.completed_at_s)
    .maybe("label", p.label.clone())
    .maybe("bolt11", p.bolt11.clone())
    .maybe("description", p.description.clone())
    .maybe("preimage", p.preimage.as_ref().filter(|_| complete).map(|x| to_hex(&x.0)))
    .maybe("number_of_parts", (complete && p.parts > 1).then_some(p.parts))
    .maybe("failure_code", p.failure.as_ref().map(|(code, _)| *code)) // (chand)
    .maybe("failure_reason", p.failure.as_ref().map(|(_, words)| words.clone())) // (chand)
    .build()
}

/// `listsendpays`, `sendpay`, `waitsendpay`
pub fn sendpay(p: &view::Pay) -> Value {
    let complete = p.status == "complete";
    let erring = p.erring.as_ref();
    Object::of(json!({
        "id": p.created_index,
        "created_index": p.created_index,
        "groupid": p.part.map_or(1, |(_, groupid)| groupid),
        "payment_hash": p.payment_hash.to_string(),
        "status": p.status,
        "amount_msat": p.amount_msat.0,
        "amount_sent_msat": p.amount_sent_msat.0,
        "created_at": p.created_at_s,
    }))
    .maybe("partid", p.part.map(|(partid, _)| partid))
    .maybe("destination", p.destination.map(|d| d.to_string()))
    .maybe("completed_at", p.completed_at_s)
    .maybe("label", p.label.clone())
    .maybe("bolt11", p.bolt11.clone())
    .maybe("payment_preimage", p.preimage.as_ref().filter(|_| complete).map(|x| to_hex(&x.0)))
    .maybe("failure_code", p.failure.as_ref().map(|(code, _)| *code)) // (chand)
    .maybe("failure_reason", p.failure.as_ref().map(|(_, words)| words.clone())) // (chand)
    .maybe("erring_index", erring.map(|e| e.index))
    .maybe("failcode", erring.map(|e| e.failcode))
    .maybe("failcodename", erring.map(|e| format!("WIRE_{}", name_of(e.failcode).to_uppercase())))
    .maybe("erring_node", erring.and_then(|e| e.node).map(|id| id.to_string()))
    .maybe("erring_channel", erring.and_then(|e| e.channel).map(|(scid, _)| scid.to_string()))
    .maybe("erring_direction", erring.and_then(|e| e.channel).map(|(_, direction)| direction))
    .build()
}

/// (chand) `listsnapshots`
pub fn snapshot(s: &view::Snapshot) -> Value {
    let htlcs: Vec<Value> = s
        .htlcs
        .iter()
        .map(|h| {
            json!({
                "direction": direction(h.offered_by),
                "amount_msat": h.amount_msat.0,
                "payment_hash": h.payment_hash.to_string(),
                "expiry": h.expiry.0,
            })
        })
        .collect();
    json!({
        "number": s.number,
        "their_number": s.their_number,
        "our_msat": s.our_msat.0,
        "their_msat": s.their_msat.0,
        "htlcs": htlcs,
        "feerate_perkw": s.feerate.0,
        "status": s.status,
        "time": s.time_s,
    })
}
