//! BOLT 4's blinded paths: made, opened hop by hop, paid over and sent over; and bLIP 39's invoice that carries two.
//!
//! The data is in `data/bolt04-route-blinding.json`, `data/bolt04-blinded-*.json` and `data/blip39-invoice.json`.

use super::{bytes, data, list, serialized, text, unprefixed};
use chand_protocol::id::{to_hex, NodeId, ShortChannelId};
use chand_protocol::invoice::{self, blinded, Description};
use chand_protocol::onion::blind::{
    blinded_key, open, BlindedHop, BlindedPath, Constraints, HopData, PayInfo, PayPath, Relay,
};
use chand_protocol::onion::payload::{Forward, Payload};
use chand_protocol::onion::sphinx::{build, peel};
use chand_protocol::units::{Height, Msat};
use chand_protocol::wire::features::Features;
use chand_protocol::wire::message::OnionPacket;
use secp256k1::{PublicKey, Secp256k1, SecretKey};
use serde_json::Value;

fn point(value: &Value) -> PublicKey {
    text(value).parse().expect("a point")
}

fn key(value: &Value) -> SecretKey {
    text(value).parse().expect("a key")
}

fn number(value: &Value) -> u64 {
    value.as_u64().expect("a number")
}

/// `0x0x1729`, or nothing.
fn scid(value: &Value) -> Option<ShortChannelId> {
    let last = value.as_str()?.rsplit('x').next()?;
    Some(ShortChannelId(last.parse().expect("a number")))
}

fn packet(bytes: &[u8]) -> OnionPacket {
    OnionPacket {
        version: bytes[0],
        public_key: bytes[1..34].try_into().expect("33 bytes"),
        hop_payloads: bytes[34..1334].try_into().expect("1300 bytes"),
        hmac: bytes[1334..].try_into().expect("32 bytes"),
    }
}

/// What the vector says of a hop, as we read it.
fn hop_data(tlvs: &Value) -> HopData {
    let relay = tlvs.get("payment_relay").map(|r| Relay {
        cltv_expiry_delta: number(&r["cltv_expiry_delta"]) as u16,
        fee_proportional_millionths: number(&r["fee_proportional_millionths"]) as u32,
        fee_base_msat: r.get("fee_base_msat").map_or(0, number) as u32,
    });
    let constraints = tlvs.get("payment_constraints").map(|c| Constraints {
        max_cltv_expiry: Height(number(&c["max_cltv_expiry"]) as u32),
        htlc_minimum: Msat(number(&c["htlc_minimum_msat"])),
    });
    let bits = |f: &Value| list(&f["features"]).iter().map(|bit| number(bit) as u16).collect::<Vec<u16>>();
    HopData {
        short_channel_id: tlvs.get("short_channel_id").and_then(scid),
        next_node_id: tlvs.get("next_node_id").map(point),
        path_id: tlvs.get("path_id").map(bytes),
        next_path_key_override: tlvs.get("next_path_key_override").map(point),
        payment_relay: relay,
        payment_constraints: constraints,
        allowed_features: tlvs.get("allowed_features").map(|f| Features::of(&bits(f))),
    }
}

#[test]
fn the_published_paths_are_made_byte_for_byte() {
    // BOLT 4 [4.blind.2, 4.blind.3, 4.blind.5, 4.blind.6, 4.blind.7, 4.blind.9].
    let vector = data(include_str!("../data/bolt04-route-blinding.json"));
    for path in list(&vector["paths"]) {
        let hops = list(&path["hops"]);
        let told: Vec<_> = hops.iter().map(|h| (point(&h["node_id"]), bytes(&h["encoded_tlvs"]))).collect();
        let made = BlindedPath::make(&key(&path["session_key"]), &told, &Secp256k1::new()).expect("a path");
        assert_eq!(made.introduction, NodeId(point(&hops[0]["node_id"])));
        assert_eq!(made.path_key, point(&hops[0]["path_key"]));
        for (ours, theirs) in made.hops.iter().zip(hops) {
            assert_eq!(ours.blinded_node_id, point(&theirs["blinded_node_id"]));
            assert_eq!(to_hex(&ours.encrypted_data), text(&theirs["encrypted_data"]));
        }
        assert_eq!(made.hops.len(), hops.len());
    }
}

#[test]
fn each_hop_opens_the_published_paths() {
    // BOLT 4 [4.blind.15, 4.blind.16, 4.blind.18, 4.blind.19].
    let vector = data(include_str!("../data/bolt04-route-blinding.json"));
    let secp = Secp256k1::new();
    let hops = list(&vector["unblind"]);
    for (place, hop) in hops.iter().enumerate() {
        let (path_key, node_key) = (point(&hop["path_key"]), key(&hop["node_privkey"]));
        assert_eq!(blinded_key(&path_key, &node_key), Some(key(&hop["blinded_privkey"])));
        let opened =
            open(&bytes(&hop["encrypted_data"]), &path_key, &node_key, &secp).expect("sealed for it");
        assert_eq!(opened.data, hop_data(&hop["tlvs"]), "{}", hop["alias"]);
        // Where it is overridden, what would have followed is published, too.
        let next = hop.get("next_path_key_override").unwrap_or(&hop["next_path_key"]);
        assert_eq!(opened.next_path_key, point(next), "{}", hop["alias"]);
        // The last one's allows a feature that nobody knows.
        assert_eq!(opened.data.is_understood(), place + 1 < hops.len());
    }
}

#[test]
fn the_published_payment_over_a_path_is_built_and_walked() {
    // BOLT 4 [4.write.1, 4.write.2, 4.write.3, 4.write.5, 4.blind.10, 4.blind.11, 4.blind.14, 4.read.12].
    let vector = data(include_str!("../data/bolt04-blinded-payment.json"));
    let secp = Secp256k1::new();
    let amount = Msat(number(&vector["final_amount_msat"]));
    let expiry = Height(number(&vector["final_cltv"]) as u32);
    let hops = list(&vector["hops"]);
    let relays: Vec<Relay> = hops
        .iter()
        .filter_map(|hop| hop_data(&hop["tlvs"]["encrypted_recipient_data"]).payment_relay)
        .collect();
    // The published sums, with nothing for the payee's own blocks.
    let info = PayInfo::total(&relays, 0).expect("sums");
    let sums = (info.fee_base_msat, info.fee_proportional_millionths, info.cltv_expiry_delta);
    let said = &vector["payinfo"];
    let published =
        ["fee_base_msat", "fee_proportional_millionths", "cltv_expiry_delta"].map(|k| number(&said[k]));
    assert_eq!([u64::from(sums.0), u64::from(sums.1), u64::from(sums.2)], published);
    let entering = info.entering(amount).expect("msat");
    let enters_at = Height(expiry.0 + u32::from(info.cltv_expiry_delta));
    let first = Forward {
        short_channel_id: scid(&hops[0]["tlvs"]["outgoing_channel_id"]).expect("a channel"),
        amt_to_forward: entering,
        outgoing_cltv_value: enters_at,
    };
    let path = BlindedPath {
        introduction: NodeId(point(&vector["first_node_id"])),
        path_key: point(&vector["first_path_key"]),
        hops: list(&vector["path"])
            .iter()
            .map(|hop| BlindedHop {
                blinded_node_id: point(&hop["blinded_node_id"]),
                encrypted_data: bytes(&hop["encrypted_data"]),
            })
            .collect(),
    };
    let mut layers = vec![(point(&hops[0]["pubkey"]), first.encode())];
    layers.extend(PayPath::new(info, path).layers(
        amount,
        expiry,
        Msat(number(&vector["total_amount_msat"])),
    ));
    let published: Vec<_> = hops.iter().map(|h| (point(&h["pubkey"]), unprefixed(&h["payload"]))).collect();
    assert_eq!(layers, published);
    let built = build(&key(&vector["session_key"]), &layers, &bytes(&vector["associated_data"]), &secp);
    assert_eq!(to_hex(&serialized(&built.expect("it fits").packet)), text(&vector["onion"]));

    let (mut path_key, mut held) = (None, (entering, enters_at));
    for (hop, told) in list(&vector["decrypt"]).iter().zip(hops) {
        let node_key = key(&hop["node_privkey"]);
        let own = path_key.map_or(node_key, |path_key| blinded_key(&path_key, &node_key).expect("a key"));
        let received = packet(&bytes(&hop["onion"]));
        let peeled = peel(&received, &own, &bytes(&vector["associated_data"]), &secp).expect("ours");
        assert_eq!(peeled.payload, unprefixed(&told["payload"]));
        let Ok(Payload::Blinded(layer)) = Payload::decode(&peeled.payload, peeled.next.is_none()) else {
            assert_eq!(hop["alias"], "Alice");
            continue;
        };
        let here = path_key.or(layer.current_path_key).expect("a path key");
        let opened = open(&layer.encrypted_recipient_data, &here, &node_key, &secp).expect("sealed for it");
        assert_eq!(opened.data, hop_data(&told["tlvs"]["encrypted_recipient_data"]));
        assert_eq!(opened.next_path_key, point(&hop["next_path_key"]));
        assert!(opened.data.payment_constraints.expect("limits").allow(held.0, held.1));
        path_key = Some(opened.next_path_key);
        held = opened.data.payment_relay.map_or(held, |relay| relay.onward(held.0, held.1).expect("enough"));
    }
    assert_eq!(held, (amount, expiry));
}

#[test]
fn the_published_message_finds_its_way_over_two_joined_paths() {
    let vector = data(include_str!("../data/bolt04-blinded-message.json"));
    let (secp, hops) = (Secp256k1::new(), list(&vector["hops"]));
    for path in list(&vector["paths"]) {
        let own: Vec<&Value> = list(&path["hops"]).iter().map(|i| &hops[number(i) as usize]).collect();
        let told: Vec<_> = own
            .iter()
            .map(|h| (key(&h["privkey"]).public_key(&secp), bytes(&h["encrypted_data_tlv"])))
            .collect();
        let made = BlindedPath::make(&key(&path["session_key"]), &told, &secp).expect("a path");
        assert_eq!(made.path_key, point(&own[0]["E"]));
        for (ours, theirs) in made.hops.iter().zip(own) {
            assert_eq!(ours.blinded_node_id, point(&theirs["blinded_node_id"]));
            assert_eq!(to_hex(&ours.encrypted_data), text(&theirs["encrypted_recipient_data"]));
        }
    }
    let mut received = Some(packet(&bytes(&vector["onion"])));
    let mut path_key = point(&hops[0]["E"]);
    for hop in hops {
        let node_key = key(&hop["privkey"]);
        let onion = received.take().expect("an onion for this hop");
        // Type, path key and length stand before the onion in the published message.
        let message = bytes(&hop["onion_message"]);
        assert_eq!((&message[2..35], &message[37..]), (&path_key.serialize()[..], &serialized(&onion)[..]));
        let own = blinded_key(&path_key, &node_key).expect("a key");
        let peeled = peel(&onion, &own, &[], &secp).expect("ours");
        let sealed = bytes(&hop["encrypted_recipient_data"]);
        assert!(peeled.payload.windows(sealed.len()).any(|part| part == sealed));
        path_key = open(&sealed, &path_key, &node_key, &secp).expect("sealed for it").next_path_key;
        received = peeled.next;
    }
    assert!(received.is_none());
}

#[test]
fn the_published_invoice_with_two_paths_is_read_and_written() {
    let vector = data(include_str!("../data/blip39-invoice.json"));
    let secp = Secp256k1::new();
    let read = invoice::parse(text(&vector["invoice"]), &secp).expect("an invoice");
    assert_eq!(read.amount, Some(Msat(number(&vector["amount_msat"]))));
    assert_eq!(
        (read.payment_hash.to_string(), read.payment_secret.clone()),
        (text(&vector["payment_hash"]).into(), None)
    );
    assert_eq!(read.description, Description::Text(text(&vector["description"]).into()));
    let signer = key(&vector["private_key"]);
    assert_eq!(read.payee, NodeId(signer.public_key(&secp)));
    let published: Vec<PayPath> = list(&vector["paths"])
        .iter()
        .map(|path| {
            let hops: Vec<BlindedHop> = list(&path["hops"])
                .iter()
                .map(|hop| BlindedHop { blinded_node_id: point(&hop[0]), encrypted_data: bytes(&hop[1]) })
                .collect();
            let info = PayInfo {
                fee_base_msat: number(&path["fee_base_msat"]) as u32,
                fee_proportional_millionths: number(&path["fee_proportional_millionths"]) as u32,
                cltv_expiry_delta: number(&path["cltv_expiry_delta"]) as u16,
                htlc_minimum: Msat(number(&path["htlc_minimum_msat"])),
                htlc_maximum: Msat(number(&path["htlc_maximum_msat"])),
                features: Features::new(),
            };
            let introduction = NodeId(hops[0].blinded_node_id);
            PayPath::new(info, BlindedPath { introduction, path_key: point(&path["path_key"]), hops })
        })
        .collect();
    assert_eq!(read.blinded_paths, published);
    // Ours has features, and is otherwise the same.
    let new = invoice::NewInvoice {
        description: read.description.clone(),
        ..blinded::for_paths(
            read.currency,
            read.amount,
            read.payment_hash,
            number(&vector["timestamp"]),
            published,
        )
    };
    let ours = invoice::make(&new, &signer, &secp).expect("an invoice");
    let again = invoice::parse(&ours, &secp).expect("ours is sound");
    assert_eq!((&again.blinded_paths, again.payee), (&read.blinded_paths, read.payee));
    assert!(again.features.is_set(262) && again.features.is_set(25));
    let bare = invoice::NewInvoice { features: Features::new(), ..new };
    let bare = invoice::make(&bare, &signer, &secp).expect("an invoice");
    assert_eq!(bare, text(&vector["invoice"]), "byte for byte");
}
