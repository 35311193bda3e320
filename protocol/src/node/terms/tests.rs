//! Which terms are believed, and which are not.
//!
//! In: one hop's duty, and updates that are right or wrong in one thing. Out: its terms, or nothing.

use super::*;
use crate::sign::RealCrypto;
use crate::units::Height;
use crate::wire::gossip::ChannelUpdate;
use alloc::vec;
use alloc::vec::Vec;
use secp256k1::SecretKey;

fn key(n: u8) -> SecretKey {
    SecretKey::from_slice(&[n; 32]).unwrap()
}

fn signed(crypto: &dyn Crypto, secret: &SecretKey, change: impl Fn(&mut ChannelUpdate)) -> Vec<u8> {
    let mut m = ChannelUpdate {
        signature: crypto.sign(&[0; 32], secret),
        chain_hash: [7; 32],
        short_channel_id: ShortChannelId(5),
        timestamp: 9,
        message_flags: ChannelUpdate::MUST_BE_ONE,
        channel_flags: Direction::between(&bob(crypto), &carol(crypto)).index() as u8,
        cltv_expiry_delta: 40,
        htlc_minimum_msat: Msat(1_000),
        fee_base_msat: 2_000,
        fee_proportional_millionths: 0,
        htlc_maximum_msat: Msat(1_000_000_000),
        tail: Vec::new(),
    };
    change(&mut m);
    let bytes = Message::ChannelUpdate(m.clone()).encode().unwrap();
    m.signature = crypto.sign(&signed_digest(&bytes, 1).unwrap(), secret);
    Message::ChannelUpdate(m).encode().unwrap()
}

fn bob(crypto: &dyn Crypto) -> NodeId {
    NodeId(crypto.public_key(&key(2)))
}

fn carol(crypto: &dyn Crypto) -> NodeId {
    NodeId(crypto.public_key(&key(3)))
}

/// Bob was sent a fee of 1,000 msat and 40 blocks.
fn duty(crypto: &dyn Crypto) -> Duty {
    Duty {
        node: bob(crypto),
        channel: ShortChannelId(5),
        next: carol(crypto),
        amounts: (Msat(501_000), Msat(500_000)),
        blocks: 40,
    }
}

#[test]
fn only_the_erring_nodes_own_new_terms_are_believed() {
    // BOLT 4 [4.receive.2].
    let crypto = RealCrypto::new();
    let duty = duty(&crypto);
    let ask = |bytes: &[u8]| believed(&crypto, &[7; 32], &duty, bytes);
    let good = signed(&crypto, &key(2), |_| {});
    let told = ask(&good).unwrap();
    assert_eq!((told.channel, told.from, told.to), (duty.channel, duty.node, duty.next));
    assert_eq!((told.policy.fee_base_msat, told.policy.cltv_expiry_delta), (2_000, 40));
    assert_eq!(ask(&good[2..]), Some(told), "without its type");
    // By another key, or with any byte changed.
    assert_eq!(ask(&signed(&crypto, &key(3), |_| {})), None);
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert_eq!(ask(&bad), None, "byte {at}");
        assert_eq!(ask(&good[..at]), None, "cut at {at}");
    }
    // Signed by Bob, and not for this: another channel, direction, chain; switched off; terms that were met.
    let wrong: [fn(&mut ChannelUpdate); 5] = [
        |m| m.short_channel_id = ShortChannelId(6),
        |m| m.channel_flags ^= ChannelUpdate::SECOND,
        |m| m.chain_hash = [8; 32],
        |m| m.channel_flags |= ChannelUpdate::DISABLE,
        |m| m.fee_base_msat = 1_000,
    ];
    for (number, change) in wrong.into_iter().enumerate() {
        assert_eq!(ask(&signed(&crypto, &key(2), change)), None, "{number}");
    }
    // Each limit alone is a reason.
    let reasons: [fn(&mut ChannelUpdate); 4] = [
        |m| (m.fee_base_msat, m.cltv_expiry_delta) = (0, 41),
        |m| (m.fee_base_msat, m.htlc_minimum_msat) = (0, Msat(500_001)),
        |m| (m.fee_base_msat, m.htlc_maximum_msat) = (0, Msat(499_999)),
        |m| (m.fee_base_msat, m.fee_proportional_millionths) = (0, 2_002),
    ];
    for (number, change) in reasons.into_iter().enumerate() {
        assert!(ask(&signed(&crypto, &key(2), change)).is_some(), "{number}");
    }
}

#[test]
fn every_failure_with_an_update_gives_it() {
    let channel_update = vec![1, 2, 3];
    let all = [
        Failure::TemporaryChannelFailure { channel_update: channel_update.clone() },
        Failure::AmountBelowMinimum { htlc_msat: Msat(1), channel_update: channel_update.clone() },
        Failure::FeeInsufficient { htlc_msat: Msat(1), channel_update: channel_update.clone() },
        Failure::IncorrectCltvExpiry { cltv_expiry: Height(1), channel_update: channel_update.clone() },
        Failure::ExpiryTooSoon { channel_update: channel_update.clone() },
        Failure::ChannelDisabled { disabled_flags: 0, channel_update: channel_update.clone() },
    ];
    for failure in all {
        assert!(failure.is_update());
        assert_eq!(Failure::decode(&failure.encode()).unwrap().channel_update(), Some(&channel_update[..]));
    }
    assert_eq!(
        Failure::FeeInsufficient { htlc_msat: Msat(1), channel_update: Vec::new() }.channel_update(),
        None
    );
    assert_eq!(Failure::UnknownNextPeer.channel_update(), None);
}
