//! `listchannels listnodes`
//!
//! In: whose. Out: Core Lightning's shapes, of what other nodes announced. Names and colours are what nodes say of
//! themselves: anybody may call itself anything.
//! Read next: `crate::gossip`.

use super::{Context, Outcome};
use crate::rpc::message::{RpcError, INVALID_PARAMS};
use crate::rpc::params::Args;
use crate::rpc::show::Object;
use chand_protocol::gossip::graph::Direction;
use chand_protocol::gossip::Announced;
use chand_protocol::id::{to_hex, NodeId, ShortChannelId};
use chand_protocol::wire::address;
use chand_protocol::wire::gossip::NodeAnnouncement;
use serde_json::{json, Value};
use std::sync::Arc;

/// The public channels.
pub async fn listchannels(cx: Arc<Context>, args: Args) -> Outcome {
    let scid: Option<ShortChannelId> = args.opt("short_channel_id")?;
    let source: Option<NodeId> = args.opt("source")?;
    let destination: Option<NodeId> = args.opt("destination")?;
    if [scid.is_some(), source.is_some(), destination.is_some()].iter().filter(|given| **given).count() > 1 {
        let text = "at most one of short_channel_id, source and destination";
        return Err(RpcError::new(INVALID_PARAMS, text));
    }
    let gossip = cx.backend.gossip();
    let known = gossip.read();
    let node = source.or(destination);
    let names: Vec<ShortChannelId> = match (scid, node) {
        (Some(scid), _) => vec![scid],
        (None, Some(node)) => known.graph().channels_of(&node).map(|c| c.scid).collect(),
        (None, None) => known.store().channels_from(ShortChannelId(0)).map(|(scid, _)| *scid).collect(),
    };
    let mut channels = Vec::new();
    for scid in names {
        let Some(channel) = known.store().channel(&scid) else { continue };
        for direction in Direction::BOTH {
            let from = channel.nodes[direction.index()];
            let to = channel.nodes[direction.other().index()];
            if source.is_some_and(|s| s != from) || destination.is_some_and(|d| d != to) {
                continue;
            }
            channels.extend(half(scid, channel, direction));
        }
    }
    Ok(json!({ "channels": channels }))
}

/// One direction, once its node said what it asks for.
fn half(scid: ShortChannelId, channel: &Announced, direction: Direction) -> Option<Value> {
    let (message_flags, channel_flags, policy) = channel.updates[direction.index()].as_ref()?.says()?;
    let capacity_msat = channel.capacity.map_or(policy.htlc_maximum.0, |sat| sat.to_msat().0);
    Some(json!({
        "source": channel.nodes[direction.index()].to_string(),
        "destination": channel.nodes[direction.other().index()].to_string(),
        "short_channel_id": scid.to_string(),
        "direction": direction.index(),
        "public": true,
        "amount_msat": capacity_msat,
        "message_flags": message_flags,
        "channel_flags": channel_flags,
        "active": !policy.disabled && channel.spent.is_none(),
        "last_update": policy.timestamp,
        "base_fee_millisatoshi": policy.fee_base_msat,
        "fee_per_millionth": policy.fee_proportional_millionths,
        "delay": policy.cltv_expiry_delta,
        "htlc_minimum_msat": policy.htlc_minimum.0,
        "htlc_maximum_msat": policy.htlc_maximum.0,
        "features": to_hex(channel.features()),
    }))
}

/// The nodes that have public channels.
pub async fn listnodes(cx: Arc<Context>, args: Args) -> Outcome {
    let only: Option<NodeId> = args.opt("id")?;
    let gossip = cx.backend.gossip();
    let known = gossip.read();
    let store = known.store();
    let nodes: Vec<Value> = store
        .nodes()
        .filter(|id| only.is_none_or(|only| only == **id))
        .map(|id| node(id, store.node(id).as_ref()))
        .collect();
    Ok(json!({ "nodes": nodes }))
}

fn node(id: &NodeId, told: Option<&NodeAnnouncement>) -> Value {
    let Some(m) = told else { return json!({ "nodeid": id.to_string() }) };
    let alias = String::from_utf8_lossy(&m.alias);
    let addresses: Vec<Value> = address::read(&m.addresses)
        .unwrap_or_default()
        .known
        .iter()
        .map(|a| json!({ "type": a.kind(), "address": a.host(), "port": a.port() }))
        .collect();
    Object::of(json!({
        "nodeid": id.to_string(),
        "alias": alias.trim_end_matches('\0'),
        "color": to_hex(&m.rgb_color),
        "last_timestamp": m.timestamp,
        "features": to_hex(&m.features),
        "addresses": addresses,
    }))
    .build()
}
