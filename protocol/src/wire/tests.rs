//! Every message there and back, cut short at every byte, and damaged at every bit.
//!
//! In: a small generator of numbers, so that a failure repeats. Out: nothing but verdicts.

use super::codec::{Malformed, Reader, Writer};
use super::features::Features;
use super::field::MAX_HTLC_SIGNATURES;
use super::gossip::*;
use super::message::*;
use super::{DecodeError, EncodeError, Message};
use crate::id::{ChannelId, NodeId, ShortChannelId};
use crate::units::{Feerate, Height, Msat, Sat};
use alloc::boxed::Box;
use alloc::string::ToString;
use alloc::vec::Vec;
use alloc::{format, vec};
use bitcoin::hashes::Hash;
use bitcoin::{ScriptBuf, Txid};
use secp256k1::ecdsa::Signature;
use secp256k1::{PublicKey, Secp256k1, SecretKey};

/// Numbers from a seed (SplitMix64).
struct Dice(u64);

impl Dice {
    fn u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
    fn u32(&mut self) -> u32 {
        self.u64() as u32
    }
    fn u16(&mut self) -> u16 {
        self.u64() as u16
    }
    fn below(&mut self, limit: u64) -> usize {
        (self.u64() % limit) as usize
    }
    fn array<const N: usize>(&mut self) -> [u8; N] {
        core::array::from_fn(|_| self.u64() as u8)
    }
    fn bytes(&mut self, limit: u64) -> Vec<u8> {
        (0..self.below(limit)).map(|_| self.u64() as u8).collect()
    }
    fn id(&mut self) -> ChannelId {
        ChannelId(self.array())
    }
    fn secret(&mut self) -> SecretKey {
        let mut bytes: [u8; 32] = self.array();
        bytes[0] = 1;
        SecretKey::from_slice(&bytes).unwrap()
    }
    fn point(&mut self) -> PublicKey {
        PublicKey::from_secret_key(&Secp256k1::signing_only(), &self.secret())
    }
    fn signature(&mut self) -> Signature {
        let mut bytes: [u8; 64] = self.array();
        (bytes[0], bytes[32]) = (1, 1);
        Signature::from_compact(&bytes).unwrap()
    }
    fn script(&mut self) -> ScriptBuf {
        ScriptBuf::from_bytes(self.bytes(60))
    }
    fn features(&mut self) -> Features {
        Features::parse(&self.bytes(9))
    }
    fn maybe<T>(&mut self, value: impl FnOnce(&mut Dice) -> T) -> Option<T> {
        (self.below(2) == 0).then(|| value(self))
    }
    fn closing(&mut self) -> ClosingComplete {
        ClosingComplete {
            channel_id: self.id(),
            closer_scriptpubkey: self.script(),
            closee_scriptpubkey: self.script(),
            fee_satoshis: Sat(self.u64()),
            locktime: self.u32(),
            closer_output_only: self.maybe(Dice::signature),
            closee_output_only: self.maybe(Dice::signature),
            closer_and_closee_outputs: self.maybe(Dice::signature),
        }
    }
    fn error(&mut self) -> ErrorMessage {
        ErrorMessage { channel_id: self.id(), data: self.bytes(80) }
    }
    fn onion(&mut self) -> Box<OnionPacket> {
        Box::new(OnionPacket {
            version: self.u64() as u8,
            public_key: self.array(),
            hop_payloads: self.array(),
            hmac: self.array(),
        })
    }

    /// One message of every kind.
    fn messages(&mut self) -> Vec<Message> {
        let mut all = self.setup_and_open();
        all.extend(self.close_and_update());
        all.extend(self.announcements());
        all.extend(self.queries());
        all
    }

    fn setup_and_open(&mut self) -> Vec<Message> {
        let d = self;
        vec![
            Message::Warning(d.error()),
            Message::PeerStorage(PeerStorage { blob: d.bytes(80) }),
            Message::PeerStorageRetrieval(PeerStorage { blob: d.bytes(80) }),
            Message::Init(Init {
                features: d.features(),
                networks: d.maybe(|d| (0..d.below(4)).map(|_| d.array()).collect()),
            }),
            Message::Error(d.error()),
            Message::Ping(Ping { num_pong_bytes: d.u16(), byteslen: d.below(300) as u16 }),
            Message::Pong(Pong { byteslen: d.below(300) as u16 }),
            Message::OpenChannel(OpenChannel {
                chain_hash: d.array(),
                temporary_channel_id: d.id(),
                funding_satoshis: Sat(d.u64()),
                push_msat: Msat(d.u64()),
                dust_limit_satoshis: Sat(d.u64()),
                max_htlc_value_in_flight_msat: Msat(d.u64()),
                channel_reserve_satoshis: Sat(d.u64()),
                htlc_minimum_msat: Msat(d.u64()),
                feerate_per_kw: Feerate(d.u32()),
                to_self_delay: d.u16(),
                max_accepted_htlcs: d.u16(),
                funding_pubkey: d.point(),
                revocation_basepoint: d.point(),
                payment_basepoint: d.point(),
                delayed_payment_basepoint: d.point(),
                htlc_basepoint: d.point(),
                first_per_commitment_point: d.point(),
                channel_flags: d.u64() as u8,
                upfront_shutdown_script: d.maybe(Dice::script),
                channel_type: d.maybe(Dice::features),
            }),
            Message::AcceptChannel(AcceptChannel {
                temporary_channel_id: d.id(),
                dust_limit_satoshis: Sat(d.u64()),
                max_htlc_value_in_flight_msat: Msat(d.u64()),
                channel_reserve_satoshis: Sat(d.u64()),
                htlc_minimum_msat: Msat(d.u64()),
                minimum_depth: d.u32(),
                to_self_delay: d.u16(),
                max_accepted_htlcs: d.u16(),
                funding_pubkey: d.point(),
                revocation_basepoint: d.point(),
                payment_basepoint: d.point(),
                delayed_payment_basepoint: d.point(),
                htlc_basepoint: d.point(),
                first_per_commitment_point: d.point(),
                upfront_shutdown_script: d.maybe(Dice::script),
                channel_type: d.maybe(Dice::features),
            }),
            Message::FundingCreated(FundingCreated {
                temporary_channel_id: d.id(),
                funding_txid: Txid::from_byte_array(d.array()),
                funding_output_index: d.u16(),
                signature: d.signature(),
            }),
            Message::FundingSigned(FundingSigned { channel_id: d.id(), signature: d.signature() }),
            Message::ChannelReady(ChannelReady {
                channel_id: d.id(),
                second_per_commitment_point: d.point(),
                short_channel_id: d.maybe(|d| ShortChannelId(d.u64())),
            }),
        ]
    }

    fn close_and_update(&mut self) -> Vec<Message> {
        let d = self;
        vec![
            Message::Shutdown(Shutdown { channel_id: d.id(), scriptpubkey: d.script() }),
            Message::ClosingSigned(ClosingSigned {
                channel_id: d.id(),
                fee_satoshis: Sat(d.u64()),
                signature: d.signature(),
                fee_range: d.maybe(|d| (Sat(d.u64()), Sat(d.u64()))),
            }),
            Message::ClosingComplete(d.closing()),
            Message::ClosingSig(d.closing()),
            Message::UpdateAddHtlc(UpdateAddHtlc {
                channel_id: d.id(),
                id: d.u64(),
                amount_msat: Msat(d.u64()),
                payment_hash: d.array(),
                cltv_expiry: Height(d.u32()),
                onion_routing_packet: d.onion(),
                path_key: d.maybe(Dice::point),
            }),
            Message::UpdateFulfillHtlc(UpdateFulfillHtlc {
                channel_id: d.id(),
                id: d.u64(),
                payment_preimage: d.array(),
            }),
            Message::UpdateFailHtlc(UpdateFailHtlc { channel_id: d.id(), id: d.u64(), reason: d.bytes(300) }),
            Message::CommitmentSigned(CommitmentSigned {
                channel_id: d.id(),
                signature: d.signature(),
                htlc_signatures: (0..d.below(5)).map(|_| d.signature()).collect(),
            }),
            Message::RevokeAndAck(RevokeAndAck {
                channel_id: d.id(),
                per_commitment_secret: d.secret(),
                next_per_commitment_point: d.point(),
            }),
            Message::UpdateFee(UpdateFee { channel_id: d.id(), feerate_per_kw: Feerate(d.u32()) }),
            Message::UpdateFailMalformedHtlc(UpdateFailMalformedHtlc {
                channel_id: d.id(),
                id: d.u64(),
                sha256_of_onion: d.array(),
                failure_code: d.u16(),
            }),
            Message::ChannelReestablish(ChannelReestablish {
                channel_id: d.id(),
                next_commitment_number: d.u64(),
                next_revocation_number: d.u64(),
                your_last_per_commitment_secret: d.array(),
                my_current_per_commitment_point: d.point(),
            }),
        ]
    }
}

impl Dice {
    fn announcements(&mut self) -> Vec<Message> {
        let d = self;
        vec![
            Message::ChannelAnnouncement(ChannelAnnouncement {
                node_signature_1: d.signature(),
                node_signature_2: d.signature(),
                bitcoin_signature_1: d.signature(),
                bitcoin_signature_2: d.signature(),
                features: d.bytes(9),
                chain_hash: d.array(),
                short_channel_id: ShortChannelId(d.u64()),
                node_id_1: NodeId(d.point()),
                node_id_2: NodeId(d.point()),
                bitcoin_key_1: d.point(),
                bitcoin_key_2: d.point(),
                tail: d.bytes(20),
            }),
            Message::NodeAnnouncement(NodeAnnouncement {
                signature: d.signature(),
                features: d.bytes(9),
                timestamp: d.u32(),
                node_id: NodeId(d.point()),
                rgb_color: d.array(),
                alias: d.array(),
                addresses: d.bytes(80),
                tail: d.bytes(20),
            }),
            Message::ChannelUpdate(ChannelUpdate {
                signature: d.signature(),
                chain_hash: d.array(),
                short_channel_id: ShortChannelId(d.u64()),
                timestamp: d.u32(),
                message_flags: d.u64() as u8,
                channel_flags: d.u64() as u8,
                cltv_expiry_delta: d.u16(),
                htlc_minimum_msat: Msat(d.u64()),
                fee_base_msat: d.u32(),
                fee_proportional_millionths: d.u32(),
                htlc_maximum_msat: Msat(d.u64()),
                tail: d.bytes(20),
            }),
            Message::AnnouncementSignatures(AnnouncementSignatures {
                channel_id: d.id(),
                short_channel_id: ShortChannelId(d.u64()),
                node_signature: d.signature(),
                bitcoin_signature: d.signature(),
            }),
        ]
    }

    fn scids(&mut self) -> ShortChannelIds {
        ShortChannelIds((0..self.below(5)).map(|_| ShortChannelId(self.u64())).collect())
    }

    fn pairs(&mut self) -> Vec<(u32, u32)> {
        (0..self.below(5)).map(|_| (self.u32(), self.u32())).collect()
    }

    fn queries(&mut self) -> Vec<Message> {
        let d = self;
        vec![
            Message::QueryShortChannelIds(QueryShortChannelIds {
                chain_hash: d.array(),
                short_channel_ids: d.scids(),
                query_flags: d.maybe(|d| QueryFlags((0..d.below(5)).map(|_| d.u64() >> 57).collect())),
            }),
            Message::ReplyShortChannelIdsEnd(ReplyShortChannelIdsEnd {
                chain_hash: d.array(),
                full_information: d.u64() as u8,
            }),
            Message::QueryChannelRange(QueryChannelRange {
                chain_hash: d.array(),
                first_blocknum: Height(d.u32()),
                number_of_blocks: d.u32(),
                query_option: d.maybe(|d| QueryOption(d.u64())),
            }),
            Message::ReplyChannelRange(ReplyChannelRange {
                chain_hash: d.array(),
                first_blocknum: Height(d.u32()),
                number_of_blocks: d.u32(),
                sync_complete: d.u64() as u8,
                short_channel_ids: d.scids(),
                timestamps: d.maybe(|d| UpdateTimestamps(d.pairs())),
                checksums: d.maybe(|d| UpdateChecksums(d.pairs())),
            }),
            Message::GossipTimestampFilter(GossipTimestampFilter {
                chain_hash: d.array(),
                first_timestamp: d.u32(),
                timestamp_range: d.u32(),
            }),
        ]
    }
}

/// The types with a layout of their own, all of which the generator must make.
const KINDS: [u16; 33] = [
    1, 7, 9, 16, 17, 18, 19, 32, 33, 34, 35, 36, 38, 39, 40, 41, 128, 130, 131, 132, 133, 134, 135, 136, 256,
    257, 258, 259, 261, 262, 263, 264, 265,
];

/// The bytes of `message` up to its TLV stream, found by taking away all of its TLV fields.
fn without_tlvs(message: &Message) -> Vec<u8> {
    let mut bare = message.clone();
    match &mut bare {
        Message::Init(m) => m.networks = None,
        Message::OpenChannel(m) => (m.upfront_shutdown_script, m.channel_type) = (None, None),
        Message::AcceptChannel(m) => (m.upfront_shutdown_script, m.channel_type) = (None, None),
        Message::ChannelReady(m) => m.short_channel_id = None,
        Message::ClosingSigned(m) => m.fee_range = None,
        Message::ClosingComplete(m) | Message::ClosingSig(m) => {
            (m.closer_output_only, m.closee_output_only, m.closer_and_closee_outputs) = (None, None, None);
        }
        Message::UpdateAddHtlc(m) => m.path_key = None,
        Message::ChannelAnnouncement(m) => m.tail = Vec::new(),
        Message::NodeAnnouncement(m) => m.tail = Vec::new(),
        Message::ChannelUpdate(m) => m.tail = Vec::new(),
        Message::QueryShortChannelIds(m) => m.query_flags = None,
        Message::QueryChannelRange(m) => m.query_option = None,
        Message::ReplyChannelRange(m) => (m.timestamps, m.checksums) = (None, None),
        _ => {}
    }
    bare.encode().unwrap()
}

#[test]
fn every_message_comes_back_as_it_went() {
    let mut dice = Dice(1);
    for _ in 0..40 {
        let messages = dice.messages();
        assert_eq!(messages.iter().map(Message::kind).collect::<Vec<_>>(), KINDS);
        for message in messages {
            let bytes = message.encode().unwrap();
            assert_eq!(bytes[..2], message.kind().to_be_bytes());
            assert_eq!(Message::decode(&bytes), Ok(message));
        }
    }
}

#[test]
fn a_message_cut_short_is_refused() {
    // BOLT 1 [1.format.6].
    let mut dice = Dice(2);
    for message in (0..6).flat_map(|_| dice.messages()) {
        let bytes = message.encode().unwrap();
        let bare = without_tlvs(&message).len();
        for cut in 0..bytes.len() {
            match Message::decode(&bytes[..cut]) {
                Err(error) => assert!(
                    if cut < 2 {
                        error == DecodeError::NoType(cut)
                    } else {
                        matches!(
                            error,
                            DecodeError::Malformed { message: m, fault: Malformed::Truncated(_) } if m == message.name()
                        )
                    },
                    "{message:?} cut at {cut}: {error}"
                ),
                // Between two TLV records a shorter message is whole: it must then lack a field, not invent one.
                Ok(shorter) => {
                    assert!(cut >= bare && shorter != message, "{message:?} cut at {cut}");
                    assert_eq!(shorter.encode().unwrap(), &bytes[..cut]);
                }
            }
        }
    }
}

#[test]
fn a_flipped_bit_gives_an_error_or_another_sound_message() {
    let mut dice = Dice(3);
    let (mut refused, mut taken) = (0, 0);
    for message in dice.messages() {
        let mut bytes = message.encode().unwrap();
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            match Message::decode(&bytes) {
                Ok(other) => {
                    taken += 1;
                    // Padding of a ping and unknown TLVs are dropped, so equality is asked of the second round.
                    if !matches!(other, Message::Unknown { .. }) {
                        assert_eq!(Message::decode(&other.encode().unwrap()), Ok(other));
                    }
                }
                Err(_) => refused += 1,
            }
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
    assert!(refused > 1_000 && taken > 1_000, "{refused} refused, {taken} taken");
}

#[test]
fn noise_of_any_kind_never_panics() {
    let mut dice = Dice(4);
    for round in 0..20_000 {
        let mut bytes = dice.bytes(200);
        if let Some(start) = bytes.first_chunk_mut() {
            *start = KINDS[round % KINDS.len()].to_be_bytes();
        }
        if let Ok(message) = Message::decode(&bytes) {
            assert_eq!(Message::decode(&message.encode().unwrap()), Ok(message));
        }
    }
}

#[test]
fn every_message_skips_odd_records_and_refuses_even_ones() {
    // BOLT 1 [1.format.7, 1.tlv.11, 1.tlv.12].
    let mut dice = Dice(5);
    for message in dice.messages() {
        let bytes = message.encode().unwrap();
        let with = |tail: &[u8]| Message::decode(&[&bytes, tail].concat());
        // What is signed keeps all that follows, whatever it is, and gives it back (BOLT 7).
        if matches!(message.kind(), 256..=258) {
            let longer = with(&[0xca, 1, 42]).unwrap();
            assert_eq!(longer.encode().unwrap(), [&bytes[..], &[0xca, 1, 42]].concat());
            continue;
        }
        let fault = |fault| Err(DecodeError::Malformed { message: message.name(), fault });
        assert_eq!(with(&[0xc9, 1, 42, 0xcb, 0]), Ok(message.clone()));
        assert_eq!(with(&[0xca, 1, 42]), fault(Malformed::UnknownEvenTlv(0xca)));
        assert_eq!(with(&[0xc9, 0, 0xc9, 0]), fault(Malformed::TlvOrder(0xc9)));
        assert_eq!(with(&[0xc9, 2, 1]), fault(Malformed::Truncated("TLV value")));
        assert_eq!(
            with(&[0xc9, 0xff, 255, 255, 255, 255, 255, 255, 255, 255]),
            fault(Malformed::Truncated("TLV value"))
        );
    }
}

#[test]
fn known_records_have_exactly_their_length() {
    // BOLT 1 [1.tlv.9].
    let ready = Message::ChannelReady(ChannelReady {
        channel_id: ChannelId([7; 32]),
        second_per_commitment_point: Dice(6).point(),
        short_channel_id: None,
    });
    let bytes = ready.encode().unwrap();
    let with = |length: u8| Message::decode(&[&bytes[..], &[1, length], &vec![0; length.into()]].concat());
    let fault = |fault| Err(DecodeError::Malformed { message: "channel_ready", fault });
    assert!(with(8).is_ok());
    assert_eq!(with(7), fault(Malformed::Truncated("short_channel_id")));
    assert_eq!(with(9), fault(Malformed::TlvLength(1)));
}

#[test]
fn types_not_spoken_are_ignored_or_refused() {
    // BOLT 1 [1.format.4, 1.format.5].
    for kind in 0..=u16::MAX {
        if KINDS.contains(&kind) {
            continue;
        }
        let decoded = Message::decode(&[&kind.to_be_bytes()[..], &[0xff; 7]].concat());
        if kind % 2 == 1 {
            assert_eq!(decoded, Ok(Message::Unknown { kind }));
            assert_eq!(Message::Unknown { kind }.encode(), Err(EncodeError::Unknown { kind }));
        } else {
            assert_eq!(decoded, Err(DecodeError::UnknownEven { kind }));
        }
    }
    assert_eq!(DecodeError::UnknownEven { kind: 64 }.to_string(), "unknown even message type 64");
}

#[test]
fn values_that_are_none_are_named() {
    // BOLT 2 [2.open.25].
    let mut dice = Dice(7);
    let revoke = Message::RevokeAndAck(RevokeAndAck {
        channel_id: dice.id(),
        per_commitment_secret: dice.secret(),
        next_per_commitment_point: dice.point(),
    });
    let damaged = |at: usize, with: &[u8]| {
        let mut bytes = revoke.encode().unwrap();
        bytes[at..at + with.len()].copy_from_slice(with);
        Message::decode(&bytes).unwrap_err().to_string()
    };
    let secret = "revoke_and_ack: per_commitment_secret is not a valid secret key";
    assert_eq!(damaged(34, &[0; 32]), secret);
    assert_eq!(damaged(34, &[255; 32]), secret);
    assert_eq!(damaged(66, &[4]), "revoke_and_ack: next_per_commitment_point is not a valid point");
    assert_eq!(damaged(66, &[0; 33]), "revoke_and_ack: next_per_commitment_point is not a valid point");

    let signed = FundingSigned { channel_id: dice.id(), signature: dice.signature() };
    let mut bytes = Message::FundingSigned(signed).encode().unwrap();
    bytes[66..98].fill(255);
    let error = Message::decode(&bytes).unwrap_err().to_string();
    assert_eq!(error, "funding_signed: signature is not a valid signature");
}

#[test]
fn no_more_signatures_than_htlcs_can_be() {
    let mut dice = Dice(8);
    let signature = dice.signature();
    let signed = |count: u16| {
        Message::CommitmentSigned(CommitmentSigned {
            channel_id: ChannelId([1; 32]),
            signature,
            htlc_signatures: vec![signature; count.into()],
        })
    };
    let most = signed(MAX_HTLC_SIGNATURES);
    assert_eq!(Message::decode(&most.encode().unwrap()), Ok(most));
    let bytes = signed(MAX_HTLC_SIGNATURES + 1).encode().unwrap();
    let fault = Malformed::TooMany("htlc_signatures");
    assert_eq!(Message::decode(&bytes), Err(DecodeError::Malformed { message: "commitment_signed", fault }));
    // Claimed, but not there.
    let mut bytes = signed(0).encode().unwrap();
    bytes[98..100].copy_from_slice(&MAX_HTLC_SIGNATURES.to_be_bytes());
    let fault = Malformed::Truncated("htlc_signatures");
    assert_eq!(Message::decode(&bytes), Err(DecodeError::Malformed { message: "commitment_signed", fault }));
}

#[test]
fn nothing_longer_than_the_transport_carries() {
    // BOLT 8 [8.frame.1].
    let error =
        |length| Message::Error(ErrorMessage { channel_id: ChannelId::ALL, data: vec![b'x'; length] });
    let longest = error(65_535 - 2 - 32 - 2);
    let mut bytes = longest.encode().unwrap();
    assert_eq!(bytes.len(), 65_535);
    assert_eq!(Message::decode(&bytes), Ok(longest));
    for length in [65_500, 65_535, 65_536, 1 << 20] {
        assert_eq!(error(length).encode(), Err(EncodeError::TooLong { message: "error" }));
    }
    bytes.push(0);
    assert_eq!(Message::decode(&bytes), Err(DecodeError::TooLong(65_536)));
    assert_eq!(Message::Pong(Pong { byteslen: 65_531 }).encode().unwrap().len(), 65_535);
    assert!(Message::Pong(Pong { byteslen: 65_532 }).encode().is_err());
    let networks = Some(vec![[0; 32]; 3_000]);
    assert!(Message::Init(Init { features: Features::new(), networks }).encode().is_err());
}

#[test]
fn messages_say_which_channel_they_are_about() {
    let mut dice = Dice(9);
    for message in dice.messages() {
        // In every message but `open_channel` the id comes right after the type.
        let bytes = message.encode().unwrap();
        let at = if message.kind() == 32 { 34 } else { 2 };
        let expected = bytes.get(at..at + 32).and_then(|id| Some(ChannelId(id.try_into().ok()?)));
        match message {
            Message::Init(_)
            | Message::Ping(_)
            | Message::Pong(_)
            | Message::PeerStorage(_)
            | Message::PeerStorageRetrieval(_) => assert_eq!(message.channel_id(), None),
            _ if message.is_gossip() => assert_eq!(message.channel_id(), None),
            _ => assert_eq!(message.channel_id(), expected),
        }
    }
    assert_eq!(Message::Unknown { kind: 9 }.channel_id(), None);
}

#[test]
fn error_texts_are_printable_and_short() {
    let text = |data: &[u8]| ErrorMessage { channel_id: ChannelId::ALL, data: data.into() }.text();
    assert_eq!(text(b"plain ~ text"), "plain ~ text");
    assert_eq!(text(b"\x1b[2J\n\\\xff\x7f"), "\\x1b[2J\\x0a\\x5c\\xff\\x7f");
    assert_eq!(text(&[b'a'; 1_024]).len(), 1_024);
    assert_eq!(text(&[b'a'; 1_025]), format!("{}...", "a".repeat(1_021)));
    // Escapes are not cut in half.
    assert_eq!(text(&[0; 300]), format!("{}...", "\\x00".repeat(255)));
    assert_eq!(text(&vec![200; 60_000]).len(), 1_023);
    assert_eq!(ErrorMessage::new(ChannelId::ALL, &"b".repeat(2_000)).data.len(), 1_024);
}

#[test]
fn secrets_do_not_show() {
    let mut dice = Dice(10);
    let secret = [0xab; 32];
    let revoke = RevokeAndAck {
        channel_id: dice.id(),
        per_commitment_secret: SecretKey::from_slice(&secret).unwrap(),
        next_per_commitment_point: dice.point(),
    };
    let fulfill = UpdateFulfillHtlc { channel_id: dice.id(), id: 1, payment_preimage: secret };
    for shown in
        [format!("{:?}", Message::RevokeAndAck(revoke)), format!("{:?}", Message::UpdateFulfillHtlc(fulfill))]
    {
        assert!(!shown.contains("abab") && !shown.contains("171, 171"), "{shown}");
    }
}

#[test]
fn numbers_take_the_fewest_bytes() {
    // BOLT 1 [1.tlv.3, 1.types.1].
    let mut dice = Dice(11);
    for _ in 0..2_000 {
        let shift = dice.below(64);
        let value = dice.u64() >> shift;
        let mut w = Writer::new();
        w.bigsize(value);
        w.truncated(value);
        let bytes = w.finish().unwrap();
        let mut r = Reader::new(&bytes);
        assert_eq!((r.bigsize("a"), r.tu64("b"), r.left()), (Ok(value), Ok(value), 0));
        let width = (64 - value.leading_zeros()).div_ceil(8) as usize;
        let truncated = &bytes[bytes.len() - width..];
        let fits = |most| if width > most { Err(Malformed::TooLong("c")) } else { Ok(value) };
        assert_eq!(Reader::new(truncated).tu32("c").map(u64::from), fits(4));
        assert_eq!(Reader::new(truncated).tu16("c").map(u64::from), fits(2));
    }
    assert_eq!(Reader::new(&[0, 1]).tu64("d"), Err(Malformed::NotMinimal("d")));
}

#[test]
fn features_from_the_disk_are_the_same_set() {
    let config = bincode::config::standard();
    let stored = bincode::serde::encode_to_vec(vec![0u8, 0, 0x10, 0x00], config).unwrap();
    let (loaded, _): (Features, usize) = bincode::serde::decode_from_slice(&stored, config).unwrap();
    assert_eq!(loaded, Features::of(&[12]));
    let stored = bincode::serde::encode_to_vec(&loaded, config).unwrap();
    assert_eq!(stored, [2, 0x10, 0x00]);
}
