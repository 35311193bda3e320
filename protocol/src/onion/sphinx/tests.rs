//! Packets of every length of route, and what becomes of damaged ones.

use super::*;
use secp256k1::All;

const HASH: [u8; 32] = [0x42; 32];

/// A deterministic stream of numbers, good enough to vary a test.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }
    fn key(&mut self) -> SecretKey {
        let mut bytes = [1u8; 32];
        bytes.iter_mut().skip(1).for_each(|b| *b = self.next() as u8);
        SecretKey::from_slice(&bytes).unwrap()
    }
    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

struct Route {
    keys: Vec<SecretKey>,
    hops: Vec<(PublicKey, Vec<u8>)>,
}

fn route(numbers: &mut Numbers, lengths: &[usize], secp: &Secp256k1<All>) -> Route {
    let keys: Vec<_> = lengths.iter().map(|_| numbers.key()).collect();
    let hops = keys
        .iter()
        .zip(lengths)
        .map(|(key, len)| (PublicKey::from_secret_key(secp, key), numbers.bytes(*len)))
        .collect();
    Route { keys, hops }
}

/// Builds for `lengths` and peels to the end, checking each hop's view.
fn there(numbers: &mut Numbers, lengths: &[usize]) {
    let secp = Secp256k1::new();
    let route = route(numbers, lengths, &secp);
    let built = build(&numbers.key(), &route.hops, &HASH, &secp).unwrap();
    let mut packet = Some(built.packet);
    for ((key, (_, payload)), secret) in route.keys.iter().zip(&route.hops).zip(&built.shared_secrets) {
        let peeled = peel(&packet.unwrap(), key, &HASH, &secp).unwrap();
        assert_eq!(&peeled.payload, payload);
        assert_eq!(&peeled.shared_secret, secret);
        packet = peeled.next;
    }
    assert!(packet.is_none(), "the last hop has nobody to pass it to");
}

#[test]
fn every_length_of_route_is_built_and_peeled() {
    let mut numbers = Numbers(1);
    for hops in 1..=20 {
        let most = HOP_PAYLOADS_LEN / hops - HMAC_LEN - 3;
        let lengths: Vec<_> = (0..hops).map(|_| 2 + numbers.next() as usize % (most - 1)).collect();
        there(&mut numbers, &lengths);
    }
}

#[test]
fn exactly_1300_bytes_fit_and_not_one_more() {
    let mut numbers = Numbers(2);
    // 37 hops of 2 bytes and their framing make 1,295.
    for lengths in [&[1265][..], &[1230, 2], &[615, 615], &[2; 37], &[252; 4], &[2, 1230]] {
        let used: usize = lengths.iter().map(|l| l + HMAC_LEN + if *l < 0xfd { 1 } else { 3 }).sum();
        assert!(used <= HOP_PAYLOADS_LEN, "{used}");
        there(&mut numbers, lengths);
    }
    let secp = Secp256k1::new();
    let refused = |numbers: &mut Numbers, lengths: &[usize]| {
        let route = route(numbers, lengths, &secp);
        build(&numbers.key(), &route.hops, &HASH, &secp).unwrap_err()
    };
    assert_eq!(refused(&mut numbers, &[1266]), OnionError::TooLong(1301));
    assert_eq!(refused(&mut numbers, &[2; 38]), OnionError::TooLong(38 * 35));
    assert_eq!(refused(&mut numbers, &[5, 1]), OnionError::PayloadTooShort(1));
    assert_eq!(refused(&mut numbers, &[]), OnionError::NoHops);
}

#[test]
fn a_flipped_byte_anywhere_is_refused_with_the_right_code() {
    // BOLT 4 [4.peel.1, 4.peel.2, 4.peel.5].
    let secp = Secp256k1::new();
    let mut numbers = Numbers(3);
    let route = route(&mut numbers, &[20, 30], &secp);
    let packet = build(&numbers.key(), &route.hops, &HASH, &secp).unwrap().packet;
    let code = |packet: &OnionPacket| match peel(packet, &route.keys[0], &HASH, &secp) {
        Err(PeelError::Malformed { failure_code, sha256_of_onion }) => {
            assert_eq!(sha256_of_onion, super::sha256_of_onion(packet));
            failure_code
        }
        other => panic!("not refused: {other:?}"),
    };
    let version = OnionPacket { version: 1, ..packet.clone() };
    assert_eq!(code(&version), INVALID_ONION_VERSION);
    for at in 0..HOP_PAYLOADS_LEN {
        let mut bad = packet.clone();
        bad.hop_payloads[at] ^= 1 << (at % 8);
        assert_eq!(code(&bad), INVALID_ONION_HMAC);
    }
    for at in 0..HMAC_LEN {
        let mut bad = packet.clone();
        bad.hmac[at] ^= 0x80;
        assert_eq!(code(&bad), INVALID_ONION_HMAC);
    }
    for at in 0..33 {
        let mut bad = packet.clone();
        bad.public_key[at] ^= 1;
        assert!([INVALID_ONION_KEY, INVALID_ONION_HMAC].contains(&code(&bad)));
    }
    let no_point = OnionPacket { public_key: [0; 33], ..packet.clone() };
    assert_eq!(code(&no_point), INVALID_ONION_KEY);
    assert!(peel(&packet, &route.keys[0], &[0; 32], &secp).is_err(), "another payment hash");
    assert!(peel(&packet, &route.keys[1], &HASH, &secp).is_err(), "another node");
}

/// A packet whose single layer starts with `head`, sealed properly: only the payer can do this.
fn sealed(head: &[u8], secp: &Secp256k1<All>) -> (OnionPacket, SecretKey, SharedSecret) {
    let mut numbers = Numbers(4);
    let (session, node) = (numbers.key(), numbers.key());
    let secret = SharedSecret::agree(&PublicKey::from_secret_key(secp, &node), &session);
    let mut hop_payloads = [0u8; HOP_PAYLOADS_LEN];
    hop_payloads.iter_mut().zip(head).for_each(|(to, from)| *to = *from);
    mix_stream(&secret.key(KeyType::Rho), &mut hop_payloads);
    let hmac = hmac(&secret.key(KeyType::Mu), &[&hop_payloads, &HASH]);
    let public_key = PublicKey::from_secret_key(secp, &session).serialize();
    (OnionPacket { version: 0, public_key, hop_payloads, hmac }, node, secret)
}

#[test]
fn a_length_that_makes_no_sense_is_the_payers_fault() {
    // BOLT 4 [4.peel.6, 4.peel.7, 4.peel.8, 4.peel.10].
    let secp = Secp256k1::new();
    let heads: [&[u8]; 8] = [
        &[0],
        &[1, 7],
        &[0xfd, 0, 5],
        &[0xfd, 0x04, 0xf2], // 1266 bytes: with its length and tag one byte too long
        &[0xfd, 0xff, 0xff],
        &[0xfe, 0, 1, 0, 0],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0xff, 0, 0, 0, 0, 0, 0, 0, 9],
    ];
    for head in heads {
        let (packet, node, shared_secret) = sealed(head, &secp);
        let failure = Failure::InvalidOnionPayload { kind: 0, offset: 0 };
        let expected = PeelError::Payload { shared_secret, failure };
        assert_eq!(peel(&packet, &node, &HASH, &secp).unwrap_err(), expected, "{head:?}");
    }
    let (packet, node, _) = sealed(&[0xfd, 0x04, 0xf1], &secp);
    assert_eq!(peel(&packet, &node, &HASH, &secp).unwrap().payload.len(), 1265);
}

#[test]
fn nothing_secret_is_printed() {
    let secp = Secp256k1::new();
    let (packet, node, secret) = sealed(&[2, 7, 7], &secp);
    let peeled = peel(&packet, &node, &HASH, &secp).unwrap();
    assert_eq!(alloc::format!("{peeled:?}"), "Peeled(2 bytes, last: true)");
    assert_eq!(alloc::format!("{secret:?}"), "SharedSecret(secret)");
}
