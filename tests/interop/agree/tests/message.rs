//! Messages: every one that both know has the same bytes, written by either and read by the other.
//!
//! In: random fields. Out: equal bytes after the type, equal types, equal values read back.
//! LDK's `init` is read but not compared in bytes: it repeats its low bits in the field of old nodes, as it may.
//! Read next: BOLT 1 and 2.

use bitcoin::constants::ChainHash;
use bitcoin::hashes::Hash;
use bitcoin::{ScriptBuf, Txid};
use chand_protocol::id::{ChannelId, ShortChannelId};
use chand_protocol::tx::ChannelType;
use chand_protocol::units::{Feerate, Height, Msat, Sat};
use chand_protocol::wire::features::{Feature, Features};
use chand_protocol::wire::message as ours;
use chand_protocol::wire::Message;
use ldk_agree::codec::{same, same_again};
use ldk_agree::ledger::ldk_type;
use ldk_agree::{property, Rng};
use lightning::ln::msgs;
use lightning::ln::types::ChannelId as LdkChannelId;
use lightning::util::ser::{LengthReadable, Writeable};
use lightning_types::features::{ChannelTypeFeatures, InitFeatures};
use lightning_types::payment::{PaymentHash, PaymentPreimage};

const CASES: u64 = 2_000;

fn id(rng: &mut Rng) -> (ChannelId, LdkChannelId) {
    let bytes = rng.array();
    (ChannelId(bytes), LdkChannelId(bytes))
}

fn some_script(rng: &mut Rng) -> Option<ScriptBuf> {
    match rng.range(0, 3) {
        0 => None,
        1 => Some(ScriptBuf::new()),
        _ => Some(rng.shutdown_script()),
    }
}

fn some_type(rng: &mut Rng) -> (Option<Features>, Option<ChannelTypeFeatures>) {
    if rng.one_in(4) {
        return (None, None);
    }
    let kind = rng.pick(&[ChannelType::StaticRemotekey, ChannelType::Anchors]);
    let (mut ours, mut theirs) = (kind.to_features(), ldk_type(kind));
    if rng.one_in(3) {
        ours.set(Feature::ScidAlias.even());
        theirs.set_scid_privacy_required();
    }
    if rng.one_in(3) {
        ours.set(Feature::Zeroconf.even());
        theirs.set_zero_conf_required();
    }
    (Some(ours), Some(theirs))
}

#[test]
fn opening() {
    property(CASES, |rng| {
        let (temporary_channel_id, ldk_id) = id(rng);
        let (channel_type, ldk_channel_type) = some_type(rng);
        let script = some_script(rng);
        let m = ours::OpenChannel {
            chain_hash: rng.array(),
            temporary_channel_id,
            funding_satoshis: Sat(rng.any_size()),
            push_msat: Msat(rng.any_size()),
            dust_limit_satoshis: Sat(rng.any_size()),
            max_htlc_value_in_flight_msat: Msat(rng.any_size()),
            channel_reserve_satoshis: Sat(rng.any_size()),
            htlc_minimum_msat: Msat(rng.any_size()),
            feerate_per_kw: Feerate(rng.any_size() as u32),
            to_self_delay: rng.any_size() as u16,
            max_accepted_htlcs: rng.any_size() as u16,
            funding_pubkey: rng.key(),
            revocation_basepoint: rng.key(),
            payment_basepoint: rng.key(),
            delayed_payment_basepoint: rng.key(),
            htlc_basepoint: rng.key(),
            first_per_commitment_point: rng.key(),
            channel_flags: rng.bits() as u8,
            upfront_shutdown_script: script.clone(),
            channel_type: channel_type.clone(),
        };
        let common_fields = msgs::CommonOpenChannelFields {
            chain_hash: ChainHash::from(m.chain_hash),
            temporary_channel_id: ldk_id,
            funding_satoshis: m.funding_satoshis.0,
            dust_limit_satoshis: m.dust_limit_satoshis.0,
            max_htlc_value_in_flight_msat: m.max_htlc_value_in_flight_msat.0,
            htlc_minimum_msat: m.htlc_minimum_msat.0,
            commitment_feerate_sat_per_1000_weight: m.feerate_per_kw.0,
            to_self_delay: m.to_self_delay,
            max_accepted_htlcs: m.max_accepted_htlcs,
            funding_pubkey: m.funding_pubkey,
            revocation_basepoint: m.revocation_basepoint,
            payment_basepoint: m.payment_basepoint,
            delayed_payment_basepoint: m.delayed_payment_basepoint,
            htlc_basepoint: m.htlc_basepoint,
            first_per_commitment_point: m.first_per_commitment_point,
            channel_flags: m.channel_flags,
            shutdown_scriptpubkey: script.clone(),
            channel_type: ldk_channel_type.clone(),
        };
        let theirs = msgs::OpenChannel {
            common_fields,
            push_msat: m.push_msat.0,
            channel_reserve_satoshis: m.channel_reserve_satoshis.0,
        };
        same(Message::OpenChannel(m), &theirs);

        let m = ours::AcceptChannel {
            temporary_channel_id,
            dust_limit_satoshis: Sat(rng.any_size()),
            max_htlc_value_in_flight_msat: Msat(rng.any_size()),
            channel_reserve_satoshis: Sat(rng.any_size()),
            htlc_minimum_msat: Msat(rng.any_size()),
            minimum_depth: rng.any_size() as u32,
            to_self_delay: rng.any_size() as u16,
            max_accepted_htlcs: rng.any_size() as u16,
            funding_pubkey: rng.key(),
            revocation_basepoint: rng.key(),
            payment_basepoint: rng.key(),
            delayed_payment_basepoint: rng.key(),
            htlc_basepoint: rng.key(),
            first_per_commitment_point: rng.key(),
            upfront_shutdown_script: script.clone(),
            channel_type,
        };
        let common_fields = msgs::CommonAcceptChannelFields {
            temporary_channel_id: ldk_id,
            dust_limit_satoshis: m.dust_limit_satoshis.0,
            max_htlc_value_in_flight_msat: m.max_htlc_value_in_flight_msat.0,
            htlc_minimum_msat: m.htlc_minimum_msat.0,
            minimum_depth: m.minimum_depth,
            to_self_delay: m.to_self_delay,
            max_accepted_htlcs: m.max_accepted_htlcs,
            funding_pubkey: m.funding_pubkey,
            revocation_basepoint: m.revocation_basepoint,
            payment_basepoint: m.payment_basepoint,
            delayed_payment_basepoint: m.delayed_payment_basepoint,
            htlc_basepoint: m.htlc_basepoint,
            first_per_commitment_point: m.first_per_commitment_point,
            shutdown_scriptpubkey: script,
            channel_type: ldk_channel_type,
        };
        let channel_reserve_satoshis = m.channel_reserve_satoshis.0;
        same(Message::AcceptChannel(m), &msgs::AcceptChannel { common_fields, channel_reserve_satoshis });
    });
}

#[test]
fn funding() {
    property(CASES, |rng| {
        let (channel_id, ldk_id) = id(rng);
        let (txid, index, signature) =
            (Txid::from_byte_array(rng.array()), rng.bits() as u16, rng.signature());
        same(
            Message::FundingCreated(ours::FundingCreated {
                temporary_channel_id: channel_id,
                funding_txid: txid,
                funding_output_index: index,
                signature,
            }),
            &msgs::FundingCreated {
                temporary_channel_id: ldk_id,
                funding_txid: txid,
                funding_output_index: index,
                signature,
            },
        );
        same(
            Message::FundingSigned(ours::FundingSigned { channel_id, signature }),
            &msgs::FundingSigned { channel_id: ldk_id, signature },
        );
        let (point, alias) = (rng.key(), rng.one_in(2).then(|| rng.bits()));
        same(
            Message::ChannelReady(ours::ChannelReady {
                channel_id,
                second_per_commitment_point: point,
                short_channel_id: alias.map(ShortChannelId),
            }),
            &msgs::ChannelReady {
                channel_id: ldk_id,
                next_per_commitment_point: point,
                short_channel_id_alias: alias,
            },
        );
    });
}

#[test]
fn closing() {
    property(CASES, |rng| {
        let (channel_id, ldk_id) = id(rng);
        let (one, two) = (rng.shutdown_script(), rng.shutdown_script());
        same(
            Message::Shutdown(ours::Shutdown { channel_id, scriptpubkey: one.clone() }),
            &msgs::Shutdown { channel_id: ldk_id, scriptpubkey: one.clone() },
        );
        let (fee, signature) = (rng.any_size(), rng.signature());
        let range = rng.one_in(2).then(|| (rng.any_size(), rng.any_size()));
        same(
            Message::ClosingSigned(ours::ClosingSigned {
                channel_id,
                fee_satoshis: Sat(fee),
                signature,
                fee_range: range.map(|(low, high)| (Sat(low), Sat(high))),
            }),
            &msgs::ClosingSigned {
                channel_id: ldk_id,
                fee_satoshis: fee,
                signature,
                fee_range: range.map(|(min_fee_satoshis, max_fee_satoshis)| msgs::ClosingSignedFeeRange {
                    min_fee_satoshis,
                    max_fee_satoshis,
                }),
            },
        );
        let locktime = rng.any_size() as u32;
        let mut signatures = || rng.one_in(2).then(|| rng.signature());
        let (closer, closee, both) = (signatures(), signatures(), signatures());
        let m = ours::ClosingComplete {
            channel_id,
            closer_scriptpubkey: one.clone(),
            closee_scriptpubkey: two.clone(),
            fee_satoshis: Sat(fee),
            locktime,
            closer_output_only: closer,
            closee_output_only: closee,
            closer_and_closee_outputs: both,
        };
        let complete = msgs::ClosingComplete {
            channel_id: ldk_id,
            closer_scriptpubkey: one.clone(),
            closee_scriptpubkey: two.clone(),
            fee_satoshis: fee,
            locktime,
            closer_output_only: closer,
            closee_output_only: closee,
            closer_and_closee_outputs: both,
        };
        same(Message::ClosingComplete(m.clone()), &complete);
        let sig = msgs::ClosingSig {
            channel_id: ldk_id,
            closer_scriptpubkey: one,
            closee_scriptpubkey: two,
            fee_satoshis: fee,
            locktime,
            closer_output_only: closer,
            closee_output_only: closee,
            closer_and_closee_outputs: both,
        };
        same(Message::ClosingSig(m), &sig);
    });
}

#[test]
fn adding_and_removing() {
    property(CASES, |rng| {
        let (channel_id, ldk_id) = id(rng);
        let number = rng.any_size();
        let packet = ours::OnionPacket {
            version: rng.bits() as u8,
            public_key: rng.key().serialize(),
            hop_payloads: rng.array(),
            hmac: rng.array(),
        };
        let onion_routing_packet = msgs::OnionPacket {
            version: packet.version,
            public_key: secp256k1::PublicKey::from_slice(&packet.public_key),
            hop_data: packet.hop_payloads,
            hmac: packet.hmac,
        };
        let m = ours::UpdateAddHtlc {
            channel_id,
            id: number,
            amount_msat: Msat(rng.any_size()),
            payment_hash: rng.array(),
            cltv_expiry: Height(rng.any_size() as u32),
            onion_routing_packet: Box::new(packet),
            path_key: rng.one_in(3).then(|| rng.key()),
        };
        let theirs = msgs::UpdateAddHTLC {
            channel_id: ldk_id,
            htlc_id: number,
            amount_msat: m.amount_msat.0,
            payment_hash: PaymentHash(m.payment_hash),
            cltv_expiry: m.cltv_expiry.0,
            skimmed_fee_msat: None,
            onion_routing_packet,
            blinding_point: m.path_key,
            hold_htlc: None,
        };
        same(Message::UpdateAddHtlc(m), &theirs);
        let payment_preimage = rng.array();
        same(
            Message::UpdateFulfillHtlc(ours::UpdateFulfillHtlc { channel_id, id: number, payment_preimage }),
            &msgs::UpdateFulfillHTLC {
                channel_id: ldk_id,
                htlc_id: number,
                payment_preimage: PaymentPreimage(payment_preimage),
                attribution_data: None,
            },
        );
        let length = rng.index(0, 600);
        let reason = rng.bytes(length);
        same_again::<msgs::UpdateFailHTLC>(Message::UpdateFailHtlc(ours::UpdateFailHtlc {
            channel_id,
            id: number,
            reason,
        }));
        same_again::<msgs::UpdateFailMalformedHTLC>(Message::UpdateFailMalformedHtlc(
            ours::UpdateFailMalformedHtlc {
                channel_id,
                id: number,
                sha256_of_onion: rng.array(),
                failure_code: rng.bits() as u16,
            },
        ));
    });
}

#[test]
fn committing() {
    property(CASES, |rng| {
        let (channel_id, ldk_id) = id(rng);
        let signature = rng.signature();
        let count = if rng.one_in(400) { 483 } else { rng.range(0, 4) };
        let htlc_signatures: Vec<_> = (0..count).map(|_| rng.signature()).collect();
        same(
            Message::CommitmentSigned(ours::CommitmentSigned {
                channel_id,
                signature,
                htlc_signatures: htlc_signatures.clone(),
            }),
            &msgs::CommitmentSigned { channel_id: ldk_id, signature, htlc_signatures, funding_txid: None },
        );
        let (secret, point) = (rng.secret(), rng.key());
        same(
            Message::RevokeAndAck(ours::RevokeAndAck {
                channel_id,
                per_commitment_secret: secret,
                next_per_commitment_point: point,
            }),
            &msgs::RevokeAndACK {
                channel_id: ldk_id,
                per_commitment_secret: secret.secret_bytes(),
                next_per_commitment_point: point,
                release_htlc_message_paths: Vec::new(),
            },
        );
        let feerate_per_kw = rng.any_size() as u32;
        same(
            Message::UpdateFee(ours::UpdateFee { channel_id, feerate_per_kw: Feerate(feerate_per_kw) }),
            &msgs::UpdateFee { channel_id: ldk_id, feerate_per_kw },
        );
        let (next_commitment, next_revocation) = (rng.any_size(), rng.any_size());
        let (your_last_per_commitment_secret, point) = (rng.array(), rng.key());
        same(
            Message::ChannelReestablish(ours::ChannelReestablish {
                channel_id,
                next_commitment_number: next_commitment,
                next_revocation_number: next_revocation,
                your_last_per_commitment_secret,
                my_current_per_commitment_point: point,
            }),
            &msgs::ChannelReestablish {
                channel_id: ldk_id,
                next_local_commitment_number: next_commitment,
                next_remote_commitment_number: next_revocation,
                your_last_per_commitment_secret,
                my_current_per_commitment_point: point,
                next_funding: None,
                my_current_funding_locked: None,
            },
        );
    });
}

#[test]
fn the_connection() {
    property(CASES, |rng| {
        let (ponglen, byteslen) = (rng.bits() as u16, rng.any_size() as u16 >> 2);
        same(
            Message::Ping(ours::Ping { num_pong_bytes: ponglen, byteslen }),
            &msgs::Ping { ponglen, byteslen },
        );
        same(Message::Pong(ours::Pong { byteslen }), &msgs::Pong { byteslen });
        let (channel_id, ldk_id) = id(rng);
        let data: String = (0..rng.range(0, 80)).map(|_| rng.range(32, 127) as u8 as char).collect();
        let m = ours::ErrorMessage { channel_id, data: data.clone().into_bytes() };
        same(Message::Error(m.clone()), &msgs::ErrorMessage { channel_id: ldk_id, data: data.clone() });
        same(Message::Warning(m), &msgs::WarningMessage { channel_id: ldk_id, data });

        let features = some_features(rng);
        let networks: Option<Vec<[u8; 32]>> =
            rng.one_in(2).then(|| (0..rng.range(1, 4)).map(|_| rng.array()).collect());
        let m = Message::Init(ours::Init { features: features.clone(), networks: networks.clone() });
        let theirs = msgs::Init {
            features: ldk_features(&features),
            networks: networks.map(|list| list.into_iter().map(ChainHash::from).collect()),
            remote_network_address: None,
        };
        let bytes = m.encode().expect("encoded");
        let read = msgs::Init::read_from_fixed_length_buffer(&mut &bytes[2..]).expect("LDK reads it");
        assert_eq!(read, theirs);
        let written = [bytes[..2].to_vec(), theirs.encode()].concat();
        assert_eq!(Message::decode(&written), Ok(m));
    });
}

fn some_features(rng: &mut Rng) -> Features {
    let mut features = Features::new();
    (0..rng.range(0, 12)).for_each(|_| features.set(rng.range(0, 64) as u16));
    if rng.one_in(5) {
        features.set(rng.range(0, 400) as u16);
    }
    features
}

fn ldk_features(features: &Features) -> InitFeatures {
    InitFeatures::from_be_bytes(features.as_bytes().to_vec())
}

#[test]
fn features_mean_the_same() {
    type Asked = fn(&InitFeatures) -> bool;
    let known: [(Feature, Asked, Asked); 15] = [
        (Feature::DataLossProtect, |f| f.supports_data_loss_protect(), |f| f.requires_data_loss_protect()),
        (
            Feature::UpfrontShutdownScript,
            |f| f.supports_upfront_shutdown_script(),
            |f| f.requires_upfront_shutdown_script(),
        ),
        (Feature::GossipQueries, |f| f.supports_gossip_queries(), |f| f.requires_gossip_queries()),
        (Feature::VarOnion, |f| f.supports_variable_length_onion(), |f| f.requires_variable_length_onion()),
        (Feature::StaticRemotekey, |f| f.supports_static_remote_key(), |f| f.requires_static_remote_key()),
        (Feature::PaymentSecret, |f| f.supports_payment_secret(), |f| f.requires_payment_secret()),
        (Feature::BasicMpp, |f| f.supports_basic_mpp(), |f| f.requires_basic_mpp()),
        (Feature::LargeChannel, |f| f.supports_wumbo(), |f| f.requires_wumbo()),
        (
            Feature::Anchors,
            |f| f.supports_anchors_zero_fee_htlc_tx(),
            |f| f.requires_anchors_zero_fee_htlc_tx(),
        ),
        (Feature::RouteBlinding, |f| f.supports_route_blinding(), |f| f.requires_route_blinding()),
        (
            Feature::ShutdownAnysegwit,
            |f| f.supports_shutdown_anysegwit(),
            |f| f.requires_shutdown_anysegwit(),
        ),
        (Feature::OnionMessages, |f| f.supports_onion_messages(), |f| f.requires_onion_messages()),
        (Feature::ChannelType, |f| f.supports_channel_type(), |f| f.requires_channel_type()),
        (Feature::ScidAlias, |f| f.supports_scid_privacy(), |f| f.requires_scid_privacy()),
        (Feature::Zeroconf, |f| f.supports_zero_conf(), |f| f.requires_zero_conf()),
    ];
    property(CASES, |rng| {
        let features = some_features(rng);
        let theirs = ldk_features(&features);
        let little_endian: Vec<u8> = features.as_bytes().iter().rev().copied().collect();
        assert_eq!(theirs.le_flags(), little_endian);
        for (feature, supports, requires) in known {
            assert_eq!(features.supports(feature), supports(&theirs), "{}", feature.name());
            assert_eq!(features.is_set(feature.even()), requires(&theirs), "{}", feature.name());
        }
    });
}
