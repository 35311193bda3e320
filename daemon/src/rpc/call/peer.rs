//! `connect disconnect listpeers ping`
//!
//! In: who and where. Out: what became of it.
//! Read next: `open`.

use super::{Context, Outcome};
use crate::rpc::message::RpcError;
use crate::rpc::params::{Args, NodeAddress};
use crate::rpc::show;
use chand_protocol::id::{to_hex, NodeId};
use chand_protocol::node::command::{Command, Reply};
use chand_protocol::node::view;
use serde_json::json;
use std::net::Ipv6Addr;
use std::sync::Arc;

/// Where nodes listen unless they say otherwise (BOLT 1).
const DEFAULT_PORT: u16 = 9735;

/// Connect to a node.
pub async fn connect(cx: Arc<Context>, args: Args) -> Outcome {
    let node: NodeAddress = args.get("id")?;
    let host: Option<String> = args.opt("host")?;
    let port: Option<u16> = args.opt("port")?;
    if node.address.is_some() && (host.is_some() || port.is_some()) {
        return Err(RpcError::param("host", "not together with id@host:port"));
    }
    let address = match host.or(node.address) {
        Some(host) => Some(host_port(&host, port).map_err(|problem| RpcError::param("host", problem))?),
        None if port.is_some() => return Err(RpcError::param("port", "needs a host")),
        None => None,
    };
    let peer = dial(&cx, node.id, address.clone()).await?;
    Ok(json!({
        "id": peer.id.to_string(),
        "features": to_hex(&peer.features),
        "direction": if peer.inbound { "in" } else { "out" },
        "address": show::address(&peer.address.or(address).unwrap_or_default()),
    }))
}

/// Connects, or finds that we are connected.
pub(super) async fn dial(
    cx: &Context,
    peer: NodeId,
    address: Option<String>,
) -> Result<view::Peer, RpcError> {
    if peer == cx.about.node_id {
        return Err(RpcError::param("id", "that is this node itself"));
    }
    match cx.backend.command(Command::Connect { peer, address }).await? {
        Reply::Connected(peer) => Ok(peer),
        _ => Err(RpcError::unexpected("connect")),
    }
}

/// `host`, `host:port` or `[v6]:port` with the port filled in.
pub fn host_port(host: &str, port: Option<u16>) -> Result<String, &'static str> {
    const BAD: &str = "must be a host name or an IP address, with or without :port";
    let default = port.unwrap_or(DEFAULT_PORT);
    if host.parse::<Ipv6Addr>().is_ok() {
        return Ok(format!("[{host}]:{default}"));
    }
    let (name, given) = match host.rsplit_once(':') {
        Some((name, given)) if !name.contains(':') || name.ends_with(']') => (name, Some(given)),
        Some(_) if !host.ends_with(']') => return Err(BAD),
        _ => (host, None),
    };
    let port = match (given, port) {
        (Some(_), Some(_)) => return Err("names a port, and port does too"),
        (Some(given), None) => {
            given.parse::<u16>().ok().filter(|p| *p > 0).ok_or("has a port that is not 1 to 65535")?
        }
        (None, _) => default,
    };
    let inside = name.strip_prefix('[').and_then(|n| n.strip_suffix(']'));
    let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let good = match inside {
        Some(v6) => v6.parse::<Ipv6Addr>().is_ok(),
        None => !name.is_empty() && name.len() <= 253 && name.chars().all(letters),
    };
    if good {
        Ok(format!("{name}:{port}"))
    } else {
        Err(BAD)
    }
}

/// Hang up.
pub async fn disconnect(cx: Arc<Context>, args: Args) -> Outcome {
    let (peer, force) = (args.get("id")?, args.opt("force")?.unwrap_or(false));
    cx.backend.command(Command::Disconnect { peer, force }).await?;
    Ok(json!({}))
}

/// The nodes we know.
pub async fn listpeers(cx: Arc<Context>, args: Args) -> Outcome {
    match cx.backend.command(Command::ListPeers { peer: args.opt("id")? }).await? {
        Reply::Peers(list) => Ok(json!({ "peers": list.iter().map(show::peer).collect::<Vec<_>>() })),
        _ => Err(RpcError::unexpected("listpeers")),
    }
}

/// A sign of life.
pub async fn ping(cx: Arc<Context>, args: Args) -> Outcome {
    let command = Command::Ping {
        peer: args.get("id")?,
        len: args.opt("len")?.unwrap_or(128),
        pongbytes: args.opt("pongbytes")?.unwrap_or(128),
    };
    match cx.backend.command(command).await? {
        Reply::Ponged { totlen } => Ok(json!({ "totlen": totlen })),
        _ => Err(RpcError::unexpected("ping")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (host, port, want) in [
            ("localhost", None, "localhost:9735"),
            ("127.0.0.1", Some(1), "127.0.0.1:1"),
            ("127.0.0.1:7", None, "127.0.0.1:7"),
            ("::1", None, "[::1]:9735"),
            ("[::1]", Some(5), "[::1]:5"),
            ("[::1]:7", None, "[::1]:7"),
        ] {
            assert_eq!(host_port(host, port).as_deref(), Ok(want));
        }
        for (host, port) in [
            ("", None),
            (":7", None),
            ("a:b", None),
            ("a:0", None),
            ("a:70000", None),
            ("a:1", Some(2)),
            ("a b", None),
            ("[::1", None),
            ("[x]:1", None),
            ("a\n:1", None),
        ] {
            assert!(host_port(host, port).is_err(), "{host:?}");
        }
    }
}
