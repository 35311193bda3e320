//! `listwatchtowers`
//!
//! In: nothing. Out: how it stands with each tower. (chand's own; no other implementation has it.)
//! Read next: `crate::tower::status`.

use super::{Context, Outcome};
use crate::rpc::message::RpcError;
use crate::rpc::params::Args;
use crate::rpc::show::Object;
use crate::tower::TowerStatus;
use chand_protocol::node::command::{Command, Reply};
use chand_protocol::node::tower::TowerChannel;
use serde_json::{json, Value};
use std::sync::Arc;

/// The towers of this node.
pub async fn listwatchtowers(cx: Arc<Context>, _: Args) -> Outcome {
    let Reply::TowerChannels(channels) = cx.backend.command(Command::TowerChannels).await? else {
        return Err(RpcError::unexpected("listwatchtowers"));
    };
    let towers: Vec<Value> = cx.backend.towers().iter().map(|t| tower(t, &channels)).collect();
    Ok(json!({ "watchtowers": towers }))
}

fn tower(status: &TowerStatus, channels: &[TowerChannel]) -> Value {
    let unprotected = status.unprotected(channels).into_iter().map(|(channel, states, why)| {
        json!({
            "channel_id": channel.to_string(),
            "first_state": states.from,
            "last_state": states.to.saturating_sub(1),
            "reason": why,
        })
    });
    Object::of(json!({
        "id": status.id.to_string(),
        "address": status.address,
        "mode": status.mode.name(),
        "client_id": status.client_id.to_string(),
        "connected": status.connected,
        "states_sent": status.sent,
        "states_acknowledged": status.acknowledged,
        "states_pending": status.pending(channels),
        "states_kept": status.used.states,
        "states_quota": status.quota.states,
        "bytes_kept": status.used.bytes,
        "bytes_quota": status.quota.bytes,
        "unprotected": unprotected.collect::<Vec<_>>(),
    }))
    .maybe("trouble", status.trouble.clone())
    .build()
}
