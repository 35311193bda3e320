//! Appendices C (static_remotekey) and F (anchors): every commitment and HTLC transaction, byte for byte.

use super::{consensus, data, list, number, public_key, secret_key, text};
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{Amount, OutPoint, Transaction, TxOut};
use chand_protocol::id::{to_hex, HtlcId, Preimage, Side};
use chand_protocol::sign::{Crypto, RealCrypto, VerifyJob};
use chand_protocol::tx::commitment::{
    build, commitment_number, obscure_factor, Commitment, CommitmentTerms, HtlcTx, OutputKind, Spec, SpecHtlc,
};
use chand_protocol::tx::keys::{derive_secret_key, Basepoints, CommitmentKeys};
use chand_protocol::tx::standard::standard;
use chand_protocol::tx::ChannelType;
use chand_protocol::units::{Feerate, Height, Msat, Sat};
use secp256k1::ecdsa::Signature;
use secp256k1::SecretKey;
use serde_json::Value;

/// The parameters common to all cases of an appendix; "local" owns the commitments.
struct Fixture {
    crypto: RealCrypto,
    file: Value,
    terms: CommitmentTerms,
    keys: CommitmentKeys,
    local_funding: SecretKey,
    remote_funding: SecretKey,
    local_htlc: SecretKey,
    remote_htlc: SecretKey,
}

impl Fixture {
    fn new(file: Value, channel_type: ChannelType) -> Fixture {
        let crypto = RealCrypto::new();
        let given = &file["params"];
        let key = |name: &str| public_key(text(given, name));
        // What the appendix does not give takes no part in the local commitment.
        let local = Basepoints {
            funding_pubkey: key("local_funding_pubkey"),
            revocation_basepoint: key("remote_revocation_basepoint"),
            payment_basepoint: key("local_payment_basepoint"),
            delayed_payment_basepoint: key("local_delayed_payment_basepoint"),
            htlc_basepoint: key("local_htlc_basepoint"),
        };
        let remote = Basepoints {
            funding_pubkey: key("remote_funding_pubkey"),
            revocation_basepoint: key("remote_revocation_basepoint"),
            payment_basepoint: key("remote_payment_basepoint"),
            delayed_payment_basepoint: key("local_delayed_payment_basepoint"),
            htlc_basepoint: key("remote_htlc_basepoint"),
        };
        let point = key("local_per_commitment_point");
        let keys = CommitmentKeys::new(crypto.secp(), &local, &remote, &point).expect("keys");
        let derived = [keys.owner_htlc, keys.other_htlc, keys.delayed, keys.revocation];
        let names =
            ["local_htlcpubkey", "remote_htlcpubkey", "local_delayedpubkey", "local_revocation_pubkey"];
        assert_eq!(derived, names.map(key));

        let terms = CommitmentTerms {
            channel_type,
            funding: OutPoint {
                txid: text(given, "funding_tx_id").parse().expect("a txid"),
                vout: number(given, "funding_output_index") as u32,
            },
            capacity: Sat(number(given, "funding_amount_satoshi")),
            owner_is_funder: true,
            owner_funding_pubkey: local.funding_pubkey,
            other_funding_pubkey: remote.funding_pubkey,
            owner_dust_limit: Sat(number(given, "local_dust_limit_satoshi")),
            owner_delay_blocks: number(given, "local_delay") as u16,
            obscure: obscure_factor(&local.payment_basepoint, &remote.payment_basepoint),
        };
        let obscure = u64::from_str_radix(text(given, "commitment_number_obscurer"), 16);
        assert_eq!(Ok(terms.obscure), obscure);
        let secret = |name: &str| secret_key(text(given, name));
        let htlc = |name: &str| {
            let base = secret(name);
            derive_secret_key(&base, &base.public_key(crypto.secp()), &point).expect("a key")
        };
        let (local_htlc, remote_htlc) =
            (htlc("local_payment_basepoint_secret"), htlc("remote_payment_basepoint_secret"));
        assert_eq!((local_htlc, remote_htlc), (secret("local_privkey"), secret("remote_privkey")));
        let (local_funding, remote_funding) =
            (secret("local_funding_privkey"), secret("remote_funding_privkey"));
        Fixture { terms, keys, local_funding, remote_funding, local_htlc, remote_htlc, crypto, file }
    }

    fn number(&self) -> u64 {
        number(&self.file["params"], "commitment_number")
    }

    fn htlc(&self, place: usize) -> (SpecHtlc, Preimage) {
        let given = &list(&self.file, "htlcs")[place];
        let preimage = Preimage(super::bytes32(text(given, "payment_preimage")));
        let offered = text(given, "direction") == "local->remote";
        let offered_by = if offered { Side::Local } else { Side::Remote };
        let htlc = SpecHtlc {
            id: HtlcId { offered_by, id: number(given, "id") },
            offered,
            amount: Msat(number(given, "amount_msat")),
            payment_hash: preimage.hash(),
            cltv_expiry: Height(number(given, "expiry") as u32),
        };
        (htlc, preimage)
    }

    /// The HTLCs of a case: as it says, else none when the balances are the whole capacity, else the first five.
    fn spec(&self, case: &Value) -> Spec {
        let (to_owner, to_other) =
            (Msat(number(case, "to_local_msat")), Msat(number(case, "to_remote_msat")));
        let whole = to_owner.checked_add(to_other) == self.terms.capacity.checked_msat();
        let places: Vec<u64> = match case["uses_htlcs"].as_array() {
            _ if whole => Vec::new(),
            Some(places) => places.iter().map(|place| place.as_u64().expect("a place")).collect(),
            None => (0..5).collect(),
        };
        Spec {
            feerate: Feerate(number(case, "local_feerate_per_kw") as u32),
            to_owner,
            to_other,
            htlcs: places.into_iter().map(|place| self.htlc(place as usize).0).collect(),
        }
    }

    fn build(&self, case: &Value) -> Commitment {
        let mut terms = self.terms.clone();
        if let Some(dust_limit) = case["dust_limit_sat"].as_u64() {
            terms.owner_dust_limit = Sat(dust_limit);
        }
        build(&terms, &self.keys, self.number(), &self.spec(case)).expect("a commitment")
    }
}

fn appendix_c() -> Fixture {
    Fixture::new(data(include_str!("../data/bolt03-commitment.json")), ChannelType::StaticRemotekey)
}

fn appendix_f() -> Fixture {
    Fixture::new(data(include_str!("../data/bolt03-commitment-anchors.json")), ChannelType::Anchors)
}

fn der(signature: &Signature) -> String {
    to_hex(&signature.serialize_der())
}

/// Signs, compares with the case, and runs the result: consensus accepts it, and refuses it with a changed signature.
fn check_commitment(fixture: &Fixture, case: &Value, commitment: &Commitment) -> Transaction {
    let name = text(case, "name");
    let digest = commitment.sighash();
    let local = fixture.crypto.sign(&digest, &fixture.local_funding);
    let remote = fixture.crypto.sign(&digest, &fixture.remote_funding);
    assert_eq!(der(&remote), text(case, "remote_signature"), "{name}");
    if let Some(expected) = case["local_signature"].as_str() {
        assert_eq!(der(&local), expected, "{name}");
    }
    assert!(fixture.crypto.verify(&digest, &remote, &fixture.terms.other_funding_pubkey));
    let tx = commitment.with_signatures(&local, &remote);
    assert_eq!(serialize_hex(&tx), text(case, "commit_tx"), "{name}");
    assert_eq!(commitment_number(&tx, fixture.terms.obscure), Some(fixture.number()));
    assert_eq!(commitment.outputs.len(), tx.output.len());

    let spent = [TxOut {
        value: Amount::from_sat(fixture.terms.capacity.0),
        script_pubkey: commitment.funding_script().to_p2wsh(),
    }];
    consensus(&tx, &spent).unwrap_or_else(|error| panic!("{name}: {error}"));
    standard(&tx, &spent, Feerate(0)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let swapped = commitment.with_signatures(&remote, &local);
    assert!(consensus(&swapped, &spent).is_err(), "{name}: signatures in each other's place");
    let bad = commitment.with_signatures(&local, &fixture.crypto.sign(&[1; 32], &fixture.remote_funding));
    assert!(consensus(&bad, &spent).is_err(), "{name}: a signature of something else");
    tx
}

fn check_htlc(fixture: &Fixture, case: &Value, htlc: &HtlcTx, expected: &Value, commitment: &Transaction) {
    let name = text(case, "name");
    let local = fixture.crypto.sign(&htlc.own_sighash(), &fixture.local_htlc);
    let remote = fixture.crypto.sign(&htlc.counterparty_sighash(), &fixture.remote_htlc);
    assert_eq!(der(&remote), text(expected, "remote_htlc_signature"), "{name}");
    if let Some(expected) = expected["local_htlc_signature"].as_str() {
        assert_eq!(der(&local), expected, "{name}");
    }
    let (spec, preimage) = fixture.htlc(htlc.id.id as usize);
    assert_eq!((htlc.offered, htlc.payment_hash), (spec.offered, spec.payment_hash));
    let tx = htlc.signed(&local, &remote, Some(&preimage)).expect("the preimage");
    assert_eq!(serialize_hex(&tx), text(expected, "tx"), "{name}");
    if htlc.offered {
        assert_eq!(htlc.signed(&local, &remote, None).as_ref(), Ok(&tx), "a timeout needs no preimage");
    } else {
        assert!(htlc.signed(&local, &remote, None).is_err());
        assert!(htlc.signed(&local, &remote, Some(&Preimage([9; 32]))).is_err());
    }
    let spent = [commitment.output[htlc.vout as usize].clone()];
    consensus(&tx, &spent).unwrap_or_else(|error| panic!("{name}: {error}"));
    standard(&tx, &spent, Feerate(0)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let bad = htlc.signed(&local, &fixture.crypto.sign(&[1; 32], &fixture.remote_htlc), Some(&preimage));
    assert!(consensus(&bad.expect("the preimage"), &spent).is_err(), "{name}: a bad signature");
}

#[test]
fn appendix_c_transactions() {
    // BOLT 3 [3.outputs.1, 3.outputs.2, 3.trim.1, 3.trim.2, 3.trim.3, 3.trim.5, 3.trim.6, 3.trim.7, 3.trim.8, 3.trim.9, 3.fee.2, 3.fee.4, 3.fee.5, 3.sign.1].
    let fixture = appendix_c();
    for case in list(&fixture.file, "cases") {
        let name = text(case, "name");
        let commitment = fixture.build(case);
        if let Some(fee) = case["actual_fee"].as_u64() {
            assert_eq!(commitment.fee, Sat(fee), "{name}");
            assert_eq!(commitment.base_fee, Sat(number(case, "base_fee")), "{name}");
        }
        assert_eq!(
            commitment.shortfall > Sat::ZERO,
            name.contains("fee greater than funder amount"),
            "{name}"
        );
        let tx = check_commitment(&fixture, case, &commitment);
        check_scripts(case, &commitment);
        assert_eq!(commitment.htlcs.len() as u64, number(case, "num_htlcs"), "{name}");
        for (htlc, expected) in commitment.htlcs.iter().zip(list(case, "htlc_txs")) {
            assert_eq!(htlc.id.id, number(expected, "htlc"), "{name}");
            assert_eq!(htlc.offered, text(expected, "kind") == "timeout", "{name}");
            check_htlc(&fixture, case, htlc, expected, &tx);
        }
    }
}

/// The amounts and witness scripts that the appendix tells in words.
fn check_scripts(case: &Value, commitment: &Commitment) {
    for expected in list(case, "outputs") {
        let kind = match text(expected, "kind") {
            "to_local" => OutputKind::ToLocal,
            "to_remote" => OutputKind::ToRemote,
            direction => {
                let offered_by = if direction == "offered" { Side::Local } else { Side::Remote };
                OutputKind::Htlc(HtlcId { offered_by, id: number(expected, "htlc") })
            }
        };
        let vout = commitment.vout_of(kind).expect("the output is there");
        let output = &commitment.tx.output[vout as usize];
        assert_eq!(output.value.to_sat(), number(expected, "amount_sat"));
        let script = commitment.witness_script(vout);
        assert_eq!(
            script.as_ref().map(|script| script.to_hex_string()).as_deref(),
            expected["wscript"].as_str()
        );
        if let Some(script) = script {
            assert_eq!(script.to_p2wsh(), output.script_pubkey);
        }
    }
}

#[test]
fn appendix_f_transactions() {
    // BOLT 3 [3.fee.1, 3.fee.3, 3.fee.5, 3.trim.5].
    let fixture = appendix_f();
    for case in list(&fixture.file, "cases") {
        let commitment = fixture.build(case);
        let tx = check_commitment(&fixture, case, &commitment);
        let expected = list(case, "htlc_txs");
        assert_eq!(commitment.htlcs.len(), expected.len(), "{}", text(case, "name"));
        for (htlc, expected) in commitment.htlcs.iter().zip(expected) {
            check_htlc(&fixture, case, htlc, expected, &tx);
        }
        for vout in 0..tx.output.len() as u32 {
            let script = commitment.witness_script(vout).expect("with anchors every output is a script");
            assert_eq!(script.to_p2wsh(), tx.output[vout as usize].script_pubkey);
        }
    }
}

#[test]
fn batches_of_signatures() {
    let fixture = appendix_c();
    let case = &list(&fixture.file, "cases")[1];
    let commitment = fixture.build(case);
    let job = |digest: &[u8; 32]| chand_protocol::sign::SignJob { digest: *digest, key: fixture.remote_htlc };
    let digests = commitment.htlc_sighashes();
    let signatures = fixture.crypto.sign_batch(&digests.iter().map(job).collect::<Vec<_>>());
    let verify = |(digest, signature): (&[u8; 32], &Signature)| VerifyJob {
        digest: *digest,
        signature: *signature,
        key: fixture.keys.other_htlc,
    };
    let mut jobs: Vec<VerifyJob> = digests.iter().zip(&signatures).map(verify).collect();
    assert_eq!(jobs.len(), 5);
    assert!(fixture.crypto.verify_batch(&jobs));
    assert!(RealCrypto::blinded(&[3; 32]).verify_batch(&jobs));
    jobs[3].digest[0] ^= 1;
    assert!(!fixture.crypto.verify_batch(&jobs), "one bad signature among good ones");

    // The same signature with a high S holds for the curve, yet not for the network (LOW-S).
    let mut compact = signatures[0].serialize_compact();
    negate(&mut compact[32..]);
    let high = Signature::from_compact(&compact).expect("a signature");
    assert!(fixture.crypto.verify(&digests[0], &signatures[0], &fixture.keys.other_htlc));
    assert!(!fixture.crypto.verify(&digests[0], &high, &fixture.keys.other_htlc));
}

/// The curve's order less `number`, both big-endian.
fn negate(number: &mut [u8]) {
    let mut borrow = 0;
    for (digit, order) in number.iter_mut().zip(secp256k1::constants::CURVE_ORDER).rev() {
        let left = i16::from(order) - i16::from(*digit) - borrow;
        borrow = i16::from(left < 0);
        *digit = left.rem_euclid(256) as u8;
    }
}
