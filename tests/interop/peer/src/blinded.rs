//! Blinded paths in parts, which LDK itself hands about inside BOLT 12's messages only.
//!
//! In: an amount; or a refund that an LDK offered, with paths of somebody else. Out: the paths that LDK makes for its invoice;
//! or the onion message that brings that LDK an invoice with those paths, for anybody to deliver: LDK pays it as it would
//! its payee's. Paths have the shape that chand's `decode` gives them.
//! Read next: `command`.

use crate::command::{Answer, Words};
use ldk_node::bitcoin::hex::{DisplayHex, FromHex};
use ldk_node::bitcoin::secp256k1::{Keypair, PublicKey, Secp256k1, SecretKey};
use ldk_node::bitcoin::Network;
use ldk_node::lightning::blinded_path::message::BlindedMessagePath;
use ldk_node::lightning::blinded_path::payment::{BlindedPayInfo, BlindedPaymentPath};
use ldk_node::lightning::blinded_path::{BlindedHop, Direction, EmptyNodeIdLookUp, IntroductionNode};
use ldk_node::lightning::offers::invoice::UnsignedBolt12Invoice;
use ldk_node::lightning::offers::refund::{Refund, RefundBuilder};
use ldk_node::lightning::onion_message::messenger::{create_onion_message, Destination, OnionMessagePath};
use ldk_node::lightning::onion_message::offers::OffersMessage;
use ldk_node::lightning::sign::KeysManager;
use ldk_node::lightning::types::features::BlindedHopFeatures;
use ldk_node::lightning::types::payment::PaymentHash;
use ldk_node::lightning::util::ser::Writeable;
use ldk_node::Node;
use serde_json::{json, Value};
use std::fmt::Debug;

/// BOLT 4: the type of an onion message.
const ONION_MESSAGE: [u8; 2] = 513_u16.to_be_bytes();
/// How long a refund can be paid, in seconds.
const EXPIRY: u32 = 3600;
/// Who asks for a refund here is nobody.
const STRANGER: [u8; 32] = [0x42; 32];

fn text(error: impl Debug) -> String {
    format!("{error:?}")
}

/// `blinded-invoice MSAT`: LDK makes an invoice with blinded paths, as for a payee of a refund.
pub fn invoice(node: &Node, w: &Words<'_>) -> Answer {
    let stranger = SecretKey::from_slice(&STRANGER).map_err(text)?.public_key(&Secp256k1::new());
    let refund = RefundBuilder::new(vec![1; 16], stranger, w.read(0)?).map_err(text)?;
    let refund = refund.chain(Network::Regtest).build().map_err(text)?;
    let invoice = node.bolt12_payment().request_refund_payment(&refund).map_err(text)?;
    let paths: Result<Vec<Value>, String> = invoice.payment_paths().iter().map(show).collect();
    let hash = invoice.payment_hash().0.to_lower_hex_string();
    Ok(json!({ "payment_hash": hash, "blinded_paths": paths? }))
}

fn show(path: &BlindedPaymentPath) -> Answer {
    let IntroductionNode::NodeId(first) = path.introduction_node() else {
        return Err("the path begins at a channel".into());
    };
    let hop = |hop: &BlindedHop| {
        json!({
            "blinded_node_id": hop.blinded_node_id.to_string(),
            "encrypted_recipient_data": hop.encrypted_payload.to_lower_hex_string(),
        })
    };
    Ok(json!({
        "first_node_id": first.to_string(),
        "first_path_key": path.blinding_point().to_string(),
        "payinfo": {
            "fee_base_msat": path.payinfo.fee_base_msat,
            "fee_proportional_millionths": path.payinfo.fee_proportional_millionths,
            "cltv_expiry_delta": path.payinfo.cltv_expiry_delta,
            "htlc_minimum_msat": path.payinfo.htlc_minimum_msat,
            "htlc_maximum_msat": path.payinfo.htlc_maximum_msat,
        },
        "path": path.blinded_hops().iter().map(hop).collect::<Vec<_>>(),
    }))
}

/// `refund MSAT`: LDK will pay so much to whoever answers this.
pub fn refund(node: &Node, w: &Words<'_>) -> Answer {
    let refund = node.bolt12_payment().initiate_refund(w.read(0)?, EXPIRY, None, None, None);
    Ok(json!({ "refund": refund.map_err(text)?.to_string() }))
}

/// `answer-refund REFUND HASH PATHS`: the message to whom the refund is from, with an invoice over these paths.
pub fn answer_refund(node: &Node, w: &Words<'_>) -> Answer {
    let refund: Refund = w.read(0)?;
    let paths: Value = w.read(2)?;
    let paths = paths.as_array().ok_or("the paths are no list")?;
    let paths: Result<Vec<BlindedPaymentPath>, String> = paths.iter().map(path).collect();
    let secp = Secp256k1::new();
    let key = Keypair::from_seckey_slice(&secp, &STRANGER).map_err(text)?;
    let invoice = refund.respond_with(paths?, PaymentHash(w.bytes32(1)?), key.public_key()).map_err(text)?;
    let sign = |message: &UnsignedBolt12Invoice| {
        Ok(secp.sign_schnorr_no_aux_rand(message.as_ref().as_digest(), &key))
    };
    let invoice = invoice.build().map(|invoice| invoice.sign(sign)).map_err(text)?.map_err(text)?;

    let back = refund.paths().first().ok_or("the refund names no path back")?;
    let first = named(node, back.introduction_node())?;
    let back =
        BlindedMessagePath::from_blinded_path(first, back.blinding_point(), back.blinded_hops().to_vec());
    let path = OnionMessagePath {
        intermediate_nodes: Vec::new(),
        destination: Destination::BlindedPath(back),
        first_node_addresses: Vec::new(),
    };
    let keys = KeysManager::new(&STRANGER, 1, 1, true);
    let message = OffersMessage::Invoice(invoice);
    let made = create_onion_message(&&keys, &&keys, &&EmptyNodeIdLookUp {}, &secp, path, message, None);
    let (to, onion, _) = made.map_err(text)?;
    let bytes = [&ONION_MESSAGE[..], &onion.encode()].concat();
    Ok(json!({ "to": to.to_string(), "message": bytes.to_lower_hex_string() }))
}

/// A path may begin at one end of a channel that everybody knows.
fn named(node: &Node, first: &IntroductionNode) -> Result<PublicKey, String> {
    let (direction, scid) = match first {
        IntroductionNode::NodeId(id) => return Ok(*id),
        IntroductionNode::DirectedShortChannelId(direction, scid) => (direction, *scid),
    };
    let channel = node.network_graph().channel(scid).ok_or(format!("no channel {scid}"))?;
    let id = match direction {
        Direction::NodeOne => channel.node_one,
        Direction::NodeTwo => channel.node_two,
    };
    id.as_pubkey().map_err(text)
}

fn path(from: &Value) -> Result<BlindedPaymentPath, String> {
    let word = |of: &Value, name: &str| of[name].as_str().map(String::from).ok_or(format!("{name} in {of}"));
    let key = |of: &Value, name: &str| word(of, name)?.parse::<PublicKey>().map_err(text);
    let number = |name: &str| from["payinfo"][name].as_u64().ok_or(format!("{name} in {from}"));
    let hop = |of: &Value| -> Result<BlindedHop, String> {
        let encrypted_payload = Vec::from_hex(&word(of, "encrypted_recipient_data")?).map_err(text)?;
        Ok(BlindedHop { blinded_node_id: key(of, "blinded_node_id")?, encrypted_payload })
    };
    let hops: Result<Vec<BlindedHop>, String> =
        from["path"].as_array().into_iter().flatten().map(hop).collect();
    let payinfo = BlindedPayInfo {
        fee_base_msat: number("fee_base_msat")? as u32,
        fee_proportional_millionths: number("fee_proportional_millionths")? as u32,
        cltv_expiry_delta: number("cltv_expiry_delta")? as u16,
        htlc_minimum_msat: number("htlc_minimum_msat")?,
        htlc_maximum_msat: number("htlc_maximum_msat")?,
        features: BlindedHopFeatures::empty(),
    };
    let (first, point) = (key(from, "first_node_id")?, key(from, "first_path_key")?);
    Ok(BlindedPaymentPath::from_blinded_path_and_payinfo(first, point, hops?, payinfo))
}
