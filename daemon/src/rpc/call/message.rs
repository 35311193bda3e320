//! `signmessage checkmessage`
//!
//! In: words and a signature in z-base-32. Out: who signed. The signature is a recoverable one over the double
//! SHA-256 of `Lightning Signed Message:` and the words, as every Lightning node makes it.
//! Read next: `zbase32`.

use super::{Context, Outcome};
use crate::rpc::message::{RpcError, INVALID_PARAMS};
use crate::rpc::params::Args;
use crate::rpc::zbase32;
use chand_protocol::id::{sha256, to_hex, NodeId};
use chand_protocol::node::command::{Command, Reply};
use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
use secp256k1::{Message, Secp256k1};
use serde_json::json;
use std::sync::Arc;

/// What stands before the words.
const PREFIX: &str = "Lightning Signed Message:";
/// The recovery byte is this plus 0–3: a compact signature of a compressed key.
const RECOVERY_BASE: u8 = 31;
/// Core Lightning's bound.
const MAX_MESSAGE: usize = 65_535;
/// Nobody known here signed it.
const SIGNER_UNKNOWN: i32 = 1301;

/// The digest that is signed.
pub fn digest(message: &str) -> [u8; 32] {
    let mut bytes = PREFIX.as_bytes().to_vec();
    bytes.extend_from_slice(message.as_bytes());
    sha256(&sha256(&bytes))
}

fn bounded(args: &Args) -> Result<String, RpcError> {
    let message: String = args.get("message")?;
    if message.len() > MAX_MESSAGE {
        return Err(RpcError::param("message", format!("must be at most {MAX_MESSAGE} bytes")));
    }
    Ok(message)
}

/// Sign words with the node's key.
pub async fn signmessage(cx: Arc<Context>, args: Args) -> Outcome {
    let message = bounded(&args)?;
    let Reply::Signed { signature, recid } = cx.backend.command(Command::SignMessage { message }).await?
    else {
        return Err(RpcError::unexpected("signmessage"));
    };
    let mut compact = vec![RECOVERY_BASE.saturating_add(recid & 3)];
    compact.extend_from_slice(&signature);
    Ok(json!({
        "signature": to_hex(&signature),
        "recid": to_hex(&[recid & 3]),
        "zbase": zbase32::encode(&compact),
    }))
}

/// Who signed a message.
///
/// # Errors
/// Words, when the signature cannot be one; `Ok(None)` when no key fits it.
pub fn recover(message: &str, zbase: &str) -> Result<Option<NodeId>, &'static str> {
    let bytes = zbase32::decode(zbase).ok_or("is not valid zbase32")?;
    let Some((first, signature)) = bytes.split_first().filter(|(_, s)| s.len() == 64) else {
        return Err(if bytes.len() < 65 { "is too short" } else { "is too long" });
    };
    let recid = i32::from(*first) - i32::from(RECOVERY_BASE);
    let recid = RecoveryId::from_i32(recid).map_err(|_| "is not a signature")?;
    let signature = RecoverableSignature::from_compact(signature, recid).map_err(|_| "is not a signature")?;
    let message = Message::from_digest(digest(message));
    Ok(Secp256k1::verification_only().recover_ecdsa(&message, &signature).ok().map(NodeId))
}

/// Check who signed a message.
pub async fn checkmessage(cx: Arc<Context>, args: Args) -> Outcome {
    let message = bounded(&args)?;
    let zbase: String = args.get("zbase")?;
    let Some(signer) = recover(&message, &zbase).map_err(|problem| RpcError::param("zbase", problem))? else {
        return Ok(json!({ "verified": false }));
    };
    if let Some(expected) = args.opt::<NodeId>("pubkey")? {
        return Ok(json!({ "pubkey": signer.to_string(), "verified": expected == signer }));
    }
    // Any text and signature recover to some key: without a key to compare, only a node we know counts.
    if signer == cx.about.node_id || is_peer(&cx, signer).await? || is_in_graph(&cx, &signer) {
        return Ok(json!({ "pubkey": signer.to_string(), "verified": true }));
    }
    Err(RpcError {
        code: SIGNER_UNKNOWN,
        message: "pubkey not found among the nodes known here; name the one you expect as pubkey".into(),
        data: Some(json!({ "claimed_key": signer.to_string() })),
    })
}

async fn is_peer(cx: &Context, id: NodeId) -> Result<bool, RpcError> {
    match cx.backend.command(Command::ListPeers { peer: Some(id) }).await? {
        Reply::Peers(list) => Ok(list.iter().any(|p| p.id == id)),
        _ => Err(RpcError::new(INVALID_PARAMS, "the peers could not be listed")),
    }
}

/// It has a public channel.
fn is_in_graph(cx: &Context, id: &NodeId) -> bool {
    cx.backend.gossip().read().store().nodes().any(|known| known == id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chand_protocol::id::hex_array;

    /// The examples of Core Lightning's `doc/schemas/signmessage.json`.
    #[test]
    fn published_signatures_recover_one_key() {
        let first = "d63t8j9xmusnx6f6j3tauwoewi1g3a94t9xrastmou8i5rzn3gm9nuahkx6zfnm9ry145w4j88ctteim4mtxc7qreyity55zq63sj6n5";
        let second = "rnu3qotbr47u7uzgodtq51fraszhp47xfen4yxbzhsisrekqwzshysu7sq4f74g5jobnh35fsh1a3ysoa7who6cqbti47qkxp6w1qwan";
        let one = recover("this is a test!", first).unwrap().unwrap();
        let two = recover("message for you", second).unwrap().unwrap();
        assert_eq!(one, two);
        assert_ne!(recover("this is a test?", first).unwrap(), Some(one));
        let bytes = zbase32::decode(first).unwrap();
        assert_eq!(zbase32::encode(&bytes), first);
        let signature: [u8; 64] = hex_array(
            "b313a7ef5cec27f8be4e6389d208a5646ce3fa8fde4c5a2b84cf5d92e2c997f14f1c53fd72897f2025add34939d918a2abd2e2f675c4402b106f7777b364f85b",
        )
        .unwrap();
        assert_eq!(bytes[1..], signature);
        assert_eq!(bytes[0], RECOVERY_BASE);
    }

    #[test]
    fn broken_signatures_are_named() {
        assert_eq!(recover("x", "l"), Err("is not valid zbase32"));
        assert_eq!(recover("x", "yyyy"), Err("is too short"));
        assert_eq!(recover("x", &"y".repeat(200)), Err("is too long"));
        assert_eq!(recover("x", &"y".repeat(104)), Err("is not a signature"));
    }
}
