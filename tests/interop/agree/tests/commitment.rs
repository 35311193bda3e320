//! Commitments and HTLC transactions: ours and LDK's have equal bytes, scripts and digests, for random ledgers.
//!
//! In: `ldk_agree::ledger`. Out: thousands of transactions built twice; and signatures of LDK's own signer, which hold
//! for the digests that chand would check.
//! Read next: `keys.rs`.

use bitcoin::consensus::encode::serialize;
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::{Amount, Script, Transaction};
use chand_protocol::tx::commitment::{self, commitment_number, Commitment, SpecError};
use chand_protocol::tx::htlc::counterparty_kind;
use chand_protocol::tx::keys::Basepoints;
use chand_protocol::tx::ChannelType;
use ldk_agree::ledger::{ldk_type, Channel, Ledger, LAST_NUMBER};
use ldk_agree::{crypto, property, secp, Rng};
use lightning::ln::chan_utils::{
    build_htlc_transaction, get_htlc_redeemscript, make_funding_redeemscript, ChannelPublicKeys,
    CommitmentTransaction,
};
use lightning::sign::ecdsa::EcdsaChannelSigner;
use lightning::sign::{ChannelSigner, InMemorySigner, KeysManager, SignerProvider};
use secp256k1::Message;

const CASES: u64 = 4_000;
/// Each costs LDK as many signatures as there are HTLCs.
const SIGNED_CASES: u64 = 400;

fn some_number(rng: &mut Rng) -> u64 {
    match rng.range(0, 8) {
        0 => 0,
        1 => LAST_NUMBER,
        2 => LAST_NUMBER - rng.range(0, 1_000),
        3 => rng.pick(&[1, 0xff_ffff, 0x100_0000, 42]),
        _ => rng.any_size() & LAST_NUMBER,
    }
}

/// The same commitment by both; `None` when there is none, which both have to find.
fn build_both(
    rng: &mut Rng,
    channel: &Channel,
    ledger: &Ledger,
) -> Option<(Commitment, CommitmentTransaction)> {
    let number = some_number(rng);
    let point = channel.owner.per_commitment_point(crypto(), number).expect("a point");
    let terms = channel.terms(ledger.capacity_sat);
    let ours = commitment::build(&terms, &channel.keys(&point), number, &ledger.spec);

    let owner_is_holder = rng.one_in(2);
    let parameters = channel.ldk_parameters(owner_is_holder, ledger.capacity_sat);
    let directed = if owner_is_holder {
        parameters.as_holder_broadcastable()
    } else {
        parameters.as_counterparty_broadcastable()
    };
    let theirs = CommitmentTransaction::new(
        // LDK counts down.
        LAST_NUMBER - number,
        &point,
        ledger.owner_sat,
        ledger.other_sat,
        ledger.spec.feerate.0,
        ledger.kept.clone(),
        &directed,
        secp(),
    );
    let built = &theirs.trust().built_transaction().transaction;
    let spent: u64 = built.output.iter().map(|o| o.value.to_sat()).sum();
    match ours {
        Ok(ours) => {
            assert!(spent <= ledger.capacity_sat);
            assert_eq!(commitment_number(built, terms.obscure), Some(number));
            Some((ours, theirs))
        }
        // LDK builds these, and leaves it to others to see that they cannot be published.
        Err(SpecError::NoOutput) => {
            assert_eq!(built.output.len(), 0);
            None
        }
        Err(SpecError::Anchors) => {
            assert!(spent > ledger.capacity_sat, "the anchors can be paid");
            None
        }
        Err(other) => panic!("{other}: {ledger:?}"),
    }
}

fn digest(tx: &Transaction, script: &Script, sat: u64, kind: EcdsaSighashType) -> [u8; 32] {
    let hash = SighashCache::new(tx).p2wsh_signature_hash(0, script, Amount::from_sat(sat), kind);
    *hash.expect("an input 0").as_ref()
}

#[test]
fn equal_bytes_for_any_ledger() {
    let (mut with_htlcs, mut none, mut short) = (0_u64, 0_u64, 0_u64);
    property(CASES, |rng| {
        let other = rng.channel_secrets().basepoints(secp());
        let channel = Channel::any(rng, other);
        let ledger = Ledger::any(rng, &channel);
        let Some((ours, theirs)) = build_both(rng, &channel, &ledger) else {
            none += 1;
            return;
        };
        let trusted = theirs.trust();
        let built = trusted.built_transaction();
        assert_eq!(serialize(&ours.tx), serialize(&built.transaction));
        let owner = channel.owner_basepoints().funding_pubkey;
        let funding_script = make_funding_redeemscript(&owner, &channel.other.funding_pubkey);
        assert_eq!(ours.funding_script(), funding_script);
        let sighash = built.get_sighash_all(&funding_script, ledger.capacity_sat);
        assert_eq!(&ours.sighash(), sighash.as_ref());
        assert_eq!(ours.trimmed.len(), ledger.trimmed);
        assert_eq!(ours.htlcs.len(), ledger.kept.len());

        let keys = trusted.keys();
        for (htlc, theirs) in ours.htlcs.iter().zip(trusted.nondust_htlcs()) {
            assert_eq!(Some(htlc.vout), theirs.transaction_output_index);
            assert_eq!(htlc.payment_hash.0, theirs.payment_hash.0);
            let features = ldk_type(channel.kind);
            let script = get_htlc_redeemscript(theirs, &features, keys);
            assert_eq!(htlc.witness_script, script);
            let tx = build_htlc_transaction(
                &trusted.txid(),
                ledger.spec.feerate.0,
                channel.delay_blocks,
                theirs,
                &features,
                &keys.broadcaster_delayed_payment_key,
                &keys.revocation_key,
            );
            assert_eq!(serialize(&htlc.tx), serialize(&tx));
            let sat = theirs.amount_msat / 1000;
            assert_eq!(htlc.own_sighash(), digest(&tx, &script, sat, EcdsaSighashType::All));
            let kind = counterparty_kind(channel.kind);
            assert_eq!(htlc.counterparty_sighash(), digest(&tx, &script, sat, kind));
        }
        with_htlcs += u64::from(!ours.htlcs.is_empty());
        short += u64::from(ours.shortfall.0 > 0);
    });
    // A generator that makes nothing of the kind would prove nothing.
    println!("{with_htlcs} with HTLC outputs, {short} with a funder short of the fee, {none} impossible");
}

fn ours_of(theirs: &ChannelPublicKeys) -> Basepoints {
    Basepoints {
        funding_pubkey: theirs.funding_pubkey,
        revocation_basepoint: theirs.revocation_basepoint.to_public_key(),
        payment_basepoint: theirs.payment_point,
        delayed_payment_basepoint: theirs.delayed_payment_basepoint.to_public_key(),
        htlc_basepoint: theirs.htlc_basepoint.to_public_key(),
    }
}

#[test]
fn ldk_signs_what_we_check() {
    let manager = KeysManager::new(&[7; 32], 1, 2, true);
    property(SIGNED_CASES, |rng| {
        let signer: InMemorySigner = manager.derive_channel_signer(rng.array());
        let channel = Channel::any(rng, ours_of(&signer.pubkeys(secp())));
        let ledger = Ledger::any(rng, &channel);
        let Some((ours, theirs)) = build_both(rng, &channel, &ledger) else { return };
        let parameters = channel.ldk_parameters(false, ledger.capacity_sat);
        let signed = signer.sign_counterparty_commitment(&parameters, &theirs, vec![], vec![], secp());
        let (signature, htlc_signatures) = signed.expect("LDK signs");
        let valid = |digest: [u8; 32], signature, key| {
            secp().verify_ecdsa(&Message::from_digest(digest), &signature, &key).is_ok()
        };
        assert!(valid(ours.sighash(), signature, channel.other.funding_pubkey), "the commitment");
        let digests = ours.htlc_sighashes();
        assert_eq!(digests.len(), htlc_signatures.len());
        for (digest, signature) in digests.into_iter().zip(htlc_signatures) {
            assert!(valid(digest, signature, ours.keys().other_htlc), "an HTLC transaction");
        }
    });
}

#[test]
fn four_hundred_and_eighty_three_each_way() {
    property(4, |rng| {
        let other = rng.channel_secrets().basepoints(secp());
        let mut channel = Channel::any(rng, other);
        channel.kind = ChannelType::StaticRemotekey;
        let mut ledger = Ledger::any(rng, &channel);
        while ledger.kept.is_empty() {
            ledger = Ledger::any(rng, &channel);
        }
        // As many as there may be, all alike in what orders them but for the expiry and the hash.
        let amount = ledger.kept[0].amount_msat;
        let one = ledger.spec.htlcs.iter().find(|h| h.amount.0 == amount).expect("kept").clone();
        let (mut htlcs, mut kept) = (Vec::new(), Vec::new());
        for id in 0..2 * 483 {
            let mut htlc = one.clone();
            htlc.offered = id % 2 == 0;
            htlc.amount.0 = one.amount.0 / 1000 * 1000 + 100_000_000;
            htlc.cltv_expiry.0 = rng.range(100, 103) as u32;
            htlc.payment_hash.0 = [rng.range(0, 3) as u8; 32];
            htlc.id.id = id;
            kept.push(lightning::ln::chan_utils::HTLCOutputInCommitment {
                offered: htlc.offered,
                amount_msat: htlc.amount.0,
                cltv_expiry: htlc.cltv_expiry.0,
                payment_hash: lightning_types::payment::PaymentHash(htlc.payment_hash.0),
                transaction_output_index: None,
            });
            htlcs.push(htlc);
        }
        let fee = u64::from(ledger.spec.feerate.0) * (724 + 172 * 966) / 1000;
        let in_htlcs: u64 = htlcs.iter().map(|h| h.amount.0).sum();
        let (owner_fee, other_fee) = if channel.owner_is_funder { (fee, 0) } else { (0, fee) };
        (ledger.owner_sat, ledger.other_sat) = (1_000_000, 2_000_000);
        ledger.spec.to_owner.0 = (ledger.owner_sat + owner_fee) * 1000;
        ledger.spec.to_other.0 = (ledger.other_sat + other_fee) * 1000;
        ledger.capacity_sat = (in_htlcs + ledger.spec.to_owner.0 + ledger.spec.to_other.0) / 1000;
        (ledger.spec.htlcs, ledger.kept) = (htlcs, kept);
        let (ours, theirs) = build_both(rng, &channel, &ledger).expect("a commitment");
        let built = &theirs.trust().built_transaction().transaction;
        assert_eq!(serialize(&ours.tx), serialize(built));
        let indices: Vec<Option<u32>> = ours.htlcs.iter().map(|h| Some(h.vout)).collect();
        let expected: Vec<Option<u32>> =
            theirs.nondust_htlcs().iter().map(|h| h.transaction_output_index).collect();
        assert_eq!(indices, expected);
    });
}
