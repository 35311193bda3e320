//! A route of the user's choosing, as LDK's engine takes it.
//!
//! In: nodes with the channels that lead to them, an amount, the payee's last delay. Out: a route; each node on the way
//! gets what LDK's own defaults ask for, since all of them run with these.
//! Read next: `engine`.

use ldk_node::bitcoin::secp256k1::PublicKey;
use ldk_node::lightning as ln;
use ln::routing::router::{Path, Route, RouteHop};
use ln::types::features::{ChannelFeatures, NodeFeatures};
use ln::util::config::ChannelConfig;

/// Over these hops, the payer's first.
pub fn route(hops: &[(PublicKey, u64)], amount_msat: u64, last_delta: u64) -> Route {
    let terms = ChannelConfig::default();
    let last = hops.len().saturating_sub(1);
    let hop = |(index, (id, scid)): (usize, &(PublicKey, u64))| {
        let (fee_msat, cltv_expiry_delta) = match index == last {
            true => (amount_msat, u32::try_from(last_delta).expect("blocks")),
            false => (terms.forwarding_fee_base_msat.into(), terms.cltv_expiry_delta.into()),
        };
        RouteHop {
            pubkey: *id,
            node_features: NodeFeatures::empty(),
            short_channel_id: *scid,
            channel_features: ChannelFeatures::empty(),
            fee_msat,
            cltv_expiry_delta,
            maybe_announced_channel: false,
        }
    };
    let path = Path { hops: hops.iter().enumerate().map(hop).collect(), blinded_tail: None };
    Route { paths: vec![path], route_params: None }
}
