//! Keys and secrets: every derivation of BOLT 3 gives what LDK's gives, and both stores of secrets judge alike.
//!
//! In: random secrets, points and commitment numbers. Out: equal keys; equal refusals.
//! Read next: `close.rs`.

use chand_protocol::tx::commitment::obscure_factor;
use chand_protocol::tx::keys::{
    derive_public_key, derive_revocation_public_key, derive_revocation_secret_key, derive_secret_key,
};
use chand_protocol::tx::shachain::{generate, SecretStore};
use ldk_agree::ledger::{ldk_keys, Channel, LAST_NUMBER};
use ldk_agree::{crypto, property, secp};
use lightning::ln::chan_utils::{
    build_commitment_secret, derive_private_key, derive_private_revocation_key,
    get_commitment_transaction_number_obscure_factor, CounterpartyCommitmentSecrets, TxCreationKeys,
};
use lightning::ln::channel_keys::{
    DelayedPaymentBasepoint, DelayedPaymentKey, RevocationBasepoint, RevocationKey,
};
use secp256k1::SecretKey;

#[test]
fn every_derivation() {
    property(4_000, |rng| {
        let (base, per_commitment) = (rng.secret(), rng.secret());
        let (base_point, point) = (base.public_key(secp()), per_commitment.public_key(secp()));

        let theirs = DelayedPaymentKey::from_basepoint(secp(), &DelayedPaymentBasepoint(base_point), &point);
        assert_eq!(derive_public_key(secp(), &base_point, &point), Ok(theirs.to_public_key()));
        let theirs = derive_private_key(secp(), &point, &base);
        assert_eq!(derive_secret_key(&base, &base_point, &point), Ok(theirs));

        let theirs = RevocationKey::from_basepoint(secp(), &RevocationBasepoint(base_point), &point);
        assert_eq!(derive_revocation_public_key(secp(), &base_point, &point), Ok(theirs.to_public_key()));
        let theirs = derive_private_revocation_key(secp(), &per_commitment, &base);
        assert_eq!(derive_revocation_secret_key(secp(), &base, &per_commitment), Ok(theirs));
    });
}

#[test]
fn the_keys_of_a_commitment() {
    property(2_000, |rng| {
        let other = rng.channel_secrets().basepoints(secp());
        let channel = Channel::any(rng, other);
        let number = rng.any_size() & LAST_NUMBER;
        let index = LAST_NUMBER - number;
        let secret = build_commitment_secret(&channel.owner.shachain_seed, index);
        assert_eq!(generate(&channel.owner.shachain_seed, index), secret);
        let ours = channel.owner.per_commitment_secret(number).expect("a secret");
        assert_eq!(ours.secret_bytes(), secret);

        let point = channel.owner.per_commitment_point(crypto(), number).expect("a point");
        let (keys, owner) = (channel.keys(&point), channel.owner_basepoints());
        let theirs = TxCreationKeys::from_channel_static_keys(
            &point,
            &ldk_keys(&owner),
            &ldk_keys(&channel.other),
            secp(),
        );
        assert_eq!(keys.revocation, theirs.revocation_key.to_public_key());
        assert_eq!(keys.delayed, theirs.broadcaster_delayed_payment_key.to_public_key());
        assert_eq!(keys.owner_htlc, theirs.broadcaster_htlc_key.to_public_key());
        assert_eq!(keys.other_htlc, theirs.countersignatory_htlc_key.to_public_key());

        let (one, two) = (owner.payment_basepoint, channel.other.payment_basepoint);
        let theirs = get_commitment_transaction_number_obscure_factor(&one, &two, channel.owner_is_funder);
        assert_eq!(channel.terms(1).obscure, theirs);
        let (opener, accepter) = if channel.owner_is_funder { (one, two) } else { (two, one) };
        assert_eq!(obscure_factor(&opener, &accepter), theirs);
    });
}

#[test]
fn secrets_in_turn_and_false_ones() {
    let mut refused = 0_u64;
    property(300, |rng| {
        let seed = rng.array();
        let (mut ours, mut theirs) = (SecretStore::new(), CounterpartyCommitmentSecrets::new());
        let count = rng.range(1, 300);
        for number in 0..count {
            let index = LAST_NUMBER - number;
            // A false one that is noticed at once, or one that only the next shows to be false.
            let secret = if rng.one_in(60) { rng.array() } else { generate(&seed, index) };
            let Ok(key) = SecretKey::from_slice(&secret) else { continue };
            let verdict = theirs.provide_secret(index, secret).is_ok();
            assert_eq!(ours.insert(number, &key).is_ok(), verdict, "secret {number}");
            if !verdict {
                refused += 1;
                break;
            }
        }
        assert_eq!(LAST_NUMBER + 1 - theirs.get_min_seen_secret(), ours.count());
        for number in 0..ours.count() {
            let kept = ours.get(number).map(|key| key.secret_bytes());
            assert_eq!(kept, theirs.get_secret(LAST_NUMBER - number));
        }
        assert_eq!(ours.get(ours.count()), None);
    });
    println!("{refused} stores met a false secret");
}
