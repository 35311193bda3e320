//! Every way the scripts of BOLT 3 may be spent, run by Bitcoin's own code: who may, with what, and who may not.

use super::{channel_secrets, consensus};
use bitcoin::absolute::LockTime;
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness};
use chand_protocol::id::{HtlcId, PaymentHash, Preimage, Side};
use chand_protocol::sign::{Crypto, RealCrypto};
use chand_protocol::tx::commitment::{
    build, obscure_factor, Commitment, CommitmentTerms, OutputKind, Spec, SpecHtlc,
};
use chand_protocol::tx::keys::{derive_secret_key, ChannelSecrets, CommitmentKeys};
use chand_protocol::tx::standard::standard;
use chand_protocol::tx::weight::{commit_weight, htlc_success_weight, htlc_timeout_weight};
use chand_protocol::tx::{script, ChannelType};
use chand_protocol::units::{Feerate, Height, Msat, Sat};
use secp256k1::SecretKey;

const NUMBER: u64 = 7;
const DELAY: u16 = 144;
const EXPIRY: u32 = 400_000_000;

/// Alice's commitment in a channel with Bob: one HTLC each way, of 50,000 sat.
struct World {
    crypto: RealCrypto,
    channel_type: ChannelType,
    alice: ChannelSecrets,
    bob: ChannelSecrets,
    commitment: Commitment,
}

fn preimage() -> Preimage {
    Preimage([0x5a; 32])
}

impl World {
    fn new(channel_type: ChannelType) -> World {
        let crypto = RealCrypto::new();
        let (alice, bob) = (channel_secrets(0x11), channel_secrets(0x21));
        let (ours, theirs) = (alice.basepoints(crypto.secp()), bob.basepoints(crypto.secp()));
        let point = alice.per_commitment_point(&crypto, NUMBER).expect("a point");
        let keys = CommitmentKeys::new(crypto.secp(), &ours, &theirs, &point).expect("keys");
        let terms = CommitmentTerms {
            channel_type,
            funding: OutPoint { txid: txid(9), vout: 1 },
            capacity: Sat(1_000_000),
            owner_is_funder: true,
            owner_funding_pubkey: ours.funding_pubkey,
            other_funding_pubkey: theirs.funding_pubkey,
            owner_dust_limit: Sat(354),
            owner_delay_blocks: DELAY,
            obscure: obscure_factor(&ours.payment_basepoint, &theirs.payment_basepoint),
        };
        let htlc = |offered_by, id| SpecHtlc {
            id: HtlcId { offered_by, id },
            offered: offered_by == Side::Local,
            amount: Msat(50_000_000),
            payment_hash: preimage().hash(),
            cltv_expiry: Height(EXPIRY),
        };
        let spec = Spec {
            feerate: Feerate(2_500),
            to_owner: Msat(500_000_000),
            to_other: Msat(400_000_000),
            htlcs: vec![htlc(Side::Local, 0), htlc(Side::Remote, 0)],
        };
        let commitment = build(&terms, &keys, NUMBER, &spec).expect("a commitment");
        World { crypto, channel_type, alice, bob, commitment }
    }

    fn vout(&self, kind: OutputKind) -> u32 {
        self.commitment.vout_of(kind).expect("the output is there")
    }

    fn htlc_vout(&self, offered_by: Side) -> u32 {
        self.vout(OutputKind::Htlc(HtlcId { offered_by, id: 0 }))
    }

    fn htlc_key(&self, secrets: &ChannelSecrets) -> SecretKey {
        let point = self.commitment.keys().per_commitment_point;
        secrets.htlc_key(&self.crypto, &secrets.basepoints(self.crypto.secp()), &point).expect("a key")
    }

    fn delayed_key(&self) -> SecretKey {
        let point = self.commitment.keys().per_commitment_point;
        self.alice
            .delayed_key(&self.crypto, &self.alice.basepoints(self.crypto.secp()), &point)
            .expect("a key")
    }

    /// What Bob has once Alice revealed the secret of this commitment.
    fn revocation_key(&self) -> SecretKey {
        let revealed = self.alice.per_commitment_secret(NUMBER).expect("a secret");
        let key = self.bob.revocation_key(self.crypto.secp(), &revealed).expect("a key");
        assert_eq!(key.public_key(self.crypto.secp()), self.commitment.keys().revocation);
        key
    }

    fn spend(&self, vout: u32, claim: &Claim<'_>) -> Result<(), bitcoinconsensus::Error> {
        let output = &self.commitment.tx.output[vout as usize];
        let script = self.commitment.witness_script(vout).expect("a P2WSH output");
        spend(&self.crypto, &self.commitment.tx, (vout, output), &script, claim)
    }
}

/// How an output is claimed: keys that sign in turn, then what follows the signatures.
struct Claim<'a> {
    keys: &'a [SecretKey],
    rest: &'a [&'a [u8]],
    sequence: u32,
    lock_time: u32,
}

/// Builds, signs and runs a transaction that spends one P2WSH output; what holds must be standard as well.
fn spend(
    crypto: &RealCrypto,
    parent: &Transaction,
    (vout, output): (u32, &TxOut),
    script: &ScriptBuf,
    claim: &Claim<'_>,
) -> Result<(), bitcoinconsensus::Error> {
    let mut tx = Transaction {
        version: Version::TWO,
        lock_time: LockTime::from_consensus(claim.lock_time),
        input: vec![TxIn {
            previous_output: OutPoint { txid: parent.compute_txid(), vout },
            script_sig: ScriptBuf::new(),
            sequence: Sequence(claim.sequence),
            witness: Witness::new(),
        }],
        output: vec![TxOut {
            value: Amount::from_sat(output.value.to_sat().max(1_294) - 1_000),
            script_pubkey: script::p2wpkh(&channel_secrets(0x31).funding.public_key(crypto.secp())),
        }],
    };
    let digest = SighashCache::new(&tx)
        .p2wsh_signature_hash(0, script, output.value, EcdsaSighashType::All)
        .expect("input 0 is there");
    let mut witness = Witness::new();
    for key in claim.keys {
        let signature = crypto.sign(digest.as_ref(), key);
        witness.push_ecdsa_signature(&script::witness_signature(&signature, EcdsaSighashType::All));
    }
    claim.rest.iter().for_each(|item| witness.push(item));
    witness.push(script.as_bytes());
    tx.input[0].witness = witness;
    let result = consensus(&tx, std::slice::from_ref(output));
    if result.is_ok() && output.value.to_sat() > 1_294 {
        standard(&tx, std::slice::from_ref(output), Feerate(253)).expect("what holds is standard");
    }
    result
}

fn txid(byte: u8) -> Txid {
    format!("{byte:02x}").repeat(32).parse().expect("a txid")
}

fn both_types(test: impl Fn(World)) {
    test(World::new(ChannelType::StaticRemotekey));
    test(World::new(ChannelType::Anchors));
}

#[test]
fn to_local_waits_or_is_punished() {
    both_types(|world| {
        let vout = world.vout(OutputKind::ToLocal);
        let delay = u32::from(DELAY);
        let claim =
            |key, rest, sequence| world.spend(vout, &Claim { keys: &[key], rest, sequence, lock_time: 0 });
        assert!(claim(world.delayed_key(), &[&[]], delay).is_ok(), "its owner, after the delay");
        assert!(claim(world.delayed_key(), &[&[]], delay - 1).is_err(), "a block too early");
        assert!(claim(world.delayed_key(), &[&[1]], 0).is_err(), "the owner has not the revocation key");
        assert!(claim(world.revocation_key(), &[&[1]], 0).is_ok(), "the punisher, at once");
        assert!(claim(world.bob.revocation, &[&[1]], 0).is_err(), "not without the revealed secret");
    });
}

#[test]
fn to_remote_belongs_to_the_other_side() {
    let world = World::new(ChannelType::Anchors);
    let vout = world.vout(OutputKind::ToRemote);
    let claim = |key, sequence| world.spend(vout, &Claim { keys: &[key], rest: &[], sequence, lock_time: 0 });
    assert!(claim(world.bob.payment, 1).is_ok());
    assert!(claim(world.bob.payment, 0).is_err(), "a block must pass");
    assert!(claim(world.alice.payment, 1).is_err());

    let world = World::new(ChannelType::StaticRemotekey);
    let vout = world.vout(OutputKind::ToRemote);
    assert_eq!(world.commitment.witness_script(vout), None);
    let expected = script::p2wpkh(&world.bob.payment.public_key(world.crypto.secp()));
    assert_eq!(world.commitment.tx.output[vout as usize].script_pubkey, expected);
}

#[test]
fn anchors_are_first_their_owners_then_anyones() {
    let world = World::new(ChannelType::Anchors);
    let anchors =
        [(OutputKind::AnchorOwner, world.alice.funding), (OutputKind::AnchorOther, world.bob.funding)];
    for (kind, key) in anchors {
        let vout = world.vout(kind);
        assert_eq!(world.commitment.tx.output[vout as usize].value.to_sat(), 330);
        let claim = |keys: &[SecretKey], rest, sequence| {
            world.spend(vout, &Claim { keys, rest, sequence, lock_time: 0 })
        };
        assert!(claim(&[key], &[], 0).is_ok());
        assert!(claim(&[], &[&[]], 16).is_ok(), "anyone, 16 blocks later");
        assert!(claim(&[], &[&[]], 15).is_err());
        assert!(claim(&[world.alice.htlc], &[], 0).is_err());
    }
}

#[test]
fn offered_htlc_goes_to_the_preimage_or_the_punisher() {
    both_types(|world| {
        let vout = world.htlc_vout(Side::Local);
        let wait = u32::from(world.channel_type == ChannelType::Anchors);
        let claim = |key, rest: &[&[u8]], sequence| {
            world.spend(vout, &Claim { keys: &[key], rest, sequence, lock_time: 0 })
        };
        let (alice, bob) = (world.htlc_key(&world.alice), world.htlc_key(&world.bob));
        let preimage = preimage();
        assert!(claim(bob, &[&preimage.0], wait).is_ok(), "Bob by the preimage");
        assert!(claim(bob, &[&[9; 32]], wait).is_err(), "by no other");
        assert!(claim(alice, &[&preimage.0], wait).is_err(), "Alice not so");
        if wait == 1 {
            assert!(claim(bob, &[&preimage.0], 0).is_err(), "with anchors, a block must pass");
        }
        let revocation = world.commitment.keys().revocation.serialize();
        assert!(claim(world.revocation_key(), &[&revocation], 0).is_ok(), "Bob as a punisher");
        assert!(claim(bob, &[&revocation], 0).is_err());
    });
}

#[test]
fn received_htlc_goes_back_after_its_expiry_or_to_the_punisher() {
    both_types(|world| {
        let vout = world.htlc_vout(Side::Remote);
        let wait = u32::from(world.channel_type == ChannelType::Anchors);
        let claim = |key, rest: &[&[u8]], lock_time| {
            world.spend(vout, &Claim { keys: &[key], rest, sequence: wait, lock_time })
        };
        let bob = world.htlc_key(&world.bob);
        assert!(claim(bob, &[&[]], EXPIRY).is_ok(), "Bob takes it back");
        assert!(claim(bob, &[&[]], EXPIRY - 1).is_err(), "not a block too early");
        assert!(claim(world.htlc_key(&world.alice), &[&[]], EXPIRY).is_err());
        assert!(claim(bob, &[&preimage().0], EXPIRY).is_err(), "the preimage needs both signatures");
        let revocation = world.commitment.keys().revocation.serialize();
        assert!(claim(world.revocation_key(), &[&revocation], 0).is_ok(), "Bob as a punisher");
    });
}

#[test]
fn htlc_transactions_wait_or_are_punished() {
    both_types(|world| {
        for htlc in &world.commitment.htlcs {
            let own = world.crypto.sign(&htlc.own_sighash(), &world.htlc_key(&world.alice));
            let other = world.crypto.sign(&htlc.counterparty_sighash(), &world.htlc_key(&world.bob));
            let tx = htlc.signed(&own, &other, Some(&preimage())).expect("the preimage");
            let spent = [world.commitment.tx.output[htlc.vout as usize].clone()];
            assert_eq!(consensus(&tx, &spent), Ok(()));
            let claim = |key, rest, sequence| {
                let claim = Claim { keys: &[key], rest, sequence, lock_time: 0 };
                spend(&world.crypto, &tx, (0, &tx.output[0]), &htlc.output_script, &claim)
            };
            assert!(claim(world.delayed_key(), &[&[]], u32::from(DELAY)).is_ok());
            assert!(claim(world.delayed_key(), &[&[]], 0).is_err());
            assert!(claim(world.revocation_key(), &[&[1]], 0).is_ok());
        }
    });
}

#[test]
fn a_fee_may_be_added_to_htlc_transactions_with_anchors() {
    let world = World::new(ChannelType::Anchors);
    let wallet = channel_secrets(0x31).funding;
    let coin = TxOut {
        value: Amount::from_sat(20_000),
        script_pubkey: script::p2wpkh(&wallet.public_key(world.crypto.secp())),
    };
    for htlc in &world.commitment.htlcs {
        let other = world.crypto.sign(&htlc.counterparty_sighash(), &world.htlc_key(&world.bob));
        let mut tx = htlc.tx.clone();
        tx.input.push(TxIn {
            previous_output: OutPoint { txid: txid(5), vout: 0 },
            script_sig: ScriptBuf::new(),
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            witness: Witness::new(),
        });
        tx.output.push(TxOut { value: Amount::from_sat(18_000), ..coin.clone() });
        let spent = [world.commitment.tx.output[htlc.vout as usize].clone(), coin.clone()];
        let kind = EcdsaSighashType::All;
        let mut cache = SighashCache::new(&tx);
        let first =
            cache.p2wsh_signature_hash(0, &htlc.witness_script, spent[0].value, kind).expect("input 0");
        let second = cache.p2wpkh_signature_hash(1, &coin.script_pubkey, coin.value, kind).expect("input 1");
        let own = world.crypto.sign(first.as_ref(), &world.htlc_key(&world.alice));
        let paid = world.crypto.sign(second.as_ref(), &wallet);
        tx.input[0].witness = htlc.witness(&own, &other, Some(&preimage())).expect("the preimage");
        let key = wallet.public_key(world.crypto.secp());
        tx.input[1].witness = Witness::p2wpkh(&script::witness_signature(&paid, kind), &key);
        assert_eq!(consensus(&tx, &spent), Ok(()), "Bob's signature covers one input and one output");
        assert_eq!(standard(&tx, &spent, Feerate(253)), Ok(()));
    }
}

/// Real weights, brought to the assumed 73 bytes for each signature.
#[test]
fn weights_are_those_of_appendix_a() {
    both_types(|world| {
        let full = |tx: &Transaction| {
            let signatures = tx.input[0].witness.iter().filter(|item| item.first() == Some(&0x30));
            let missing: usize = signatures.map(|item| 73 - item.len()).sum();
            tx.weight().to_wu() + missing as u64
        };
        let digest = world.commitment.sighash();
        let alice = world.crypto.sign(&digest, &world.alice.funding);
        let bob = world.crypto.sign(&digest, &world.bob.funding);
        let tx = world.commitment.with_signatures(&alice, &bob);
        // With anchors, three bytes are assumed for the number of outputs, where one is enough for few.
        let assumed = if world.channel_type == ChannelType::Anchors { 8 } else { 0 };
        assert_eq!(full(&tx) + assumed, commit_weight(world.channel_type, 2));
        for htlc in &world.commitment.htlcs {
            let own = world.crypto.sign(&htlc.own_sighash(), &world.htlc_key(&world.alice));
            let other = world.crypto.sign(&htlc.counterparty_sighash(), &world.htlc_key(&world.bob));
            let tx = htlc.signed(&own, &other, Some(&preimage())).expect("the preimage");
            if htlc.offered {
                assert_eq!(full(&tx), htlc_timeout_weight(world.channel_type));
            } else {
                // "really 702 and 705": the specification keeps one more for historical reasons.
                assert_eq!(full(&tx) + 1, htlc_success_weight(world.channel_type));
            }
            let expected = htlc.expected_weight();
            assert_eq!(expected, full(&tx) + u64::from(!htlc.offered));
        }
    });
}

#[test]
fn the_payment_basepoint_is_the_key_itself() {
    let world = World::new(ChannelType::Anchors);
    let secp = world.crypto.secp();
    let point = world.commitment.keys().per_commitment_point;
    assert_eq!(world.commitment.keys().other_payment, world.bob.payment.public_key(secp));
    let derived =
        derive_secret_key(&world.bob.htlc, &world.bob.htlc.public_key(secp), &point).expect("a key");
    assert_eq!(world.commitment.keys().other_htlc, derived.public_key(secp));
    assert_eq!(PaymentHash(chand_protocol::id::sha256(&[0x5a; 32])), preimage().hash());
}
