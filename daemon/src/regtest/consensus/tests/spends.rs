//! Locks and scripts: what may be spent when, and by whom.

use super::*;
use crate::regtest::consensus::sigops;
use bitcoin::key::{Keypair, TapTweak};
use bitcoin::secp256k1::{Message, Secp256k1, SecretKey};
use bitcoin::sighash::{EcdsaSighashType, Prevouts, SighashCache, TapSighashType};
use bitcoin::{opcodes::all::*, CompressedPublicKey, XOnlyPublicKey};

/// Puts a coin of 100,000 sat behind `script` into the next block.
fn fund(chain: &mut ChainState, height: u32, script: ScriptBuf) -> (OutPoint, TxOut) {
    let tx = spend(reward(chain, height), 100_000, script);
    let coin = (first(&tx), tx.output[0].clone());
    chain.mine(&open_output(), vec![tx], NOW).unwrap();
    coin
}

/// Spends a coin through a witness script that asks for no signature.
fn unlock(from: OutPoint, script: &ScriptBuf, sequence: u32, lock_time: u32) -> Transaction {
    let mut tx = spend(from, 90_000, open_output());
    tx.lock_time = LockTime::from_consensus(lock_time);
    tx.input[0].sequence = Sequence(sequence);
    tx.input[0].witness = Witness::from_slice(&[script.as_bytes()]);
    tx
}

fn csv(lock: i64) -> ScriptBuf {
    Builder::new().push_int(lock).push_opcode(OP_CSV).into_script()
}

fn cltv(lock: i64) -> ScriptBuf {
    Builder::new().push_int(lock).push_opcode(OP_CLTV).into_script()
}

/// Refused for the mempool and in a block, under the names each has.
fn refused(chain: &mut ChainState, tx: &Transaction, reason: &str, block_reason: &str) {
    let alone = check(chain, tx).unwrap_err().reason();
    assert!(alone.starts_with(reason), "{alone}");
    let block = block_with(chain, vec![tx.clone()]);
    let in_block = chain.submit_at(block, NOW + 5_000).unwrap_err().reason();
    assert!(in_block.starts_with(block_reason), "{in_block}");
}

fn refused_by_script(chain: &mut ChainState, tx: &Transaction) {
    let fault = "script-verify-flag-failed (input 0: script refuses";
    refused(chain, tx, &format!("mandatory-{fault}"), &format!("block-{fault}"));
}

fn accepted(chain: &mut ChainState, tx: Transaction) {
    check(chain, &tx).unwrap();
    let block = block_with(chain, vec![tx]);
    chain.submit_at(block, NOW + 5_000).unwrap();
}

#[test]
fn relative_locks_in_blocks() {
    let mut chain = chain(101);
    let script = csv(10);
    let (coin, _) = fund(&mut chain, 1, script.to_p2wsh());
    // The coin has one confirmation at 102: ten are there when block 112 is next.
    grow(&mut chain, 8);
    let good = unlock(coin, &script, 10, 0);
    refused(&mut chain, &good, "non-BIP68-final", "bad-txns-nonfinal");
    grow(&mut chain, 1);
    refused_by_script(&mut chain, &unlock(coin, &script, 9, 0));
    // Ten units of time are no ten blocks: here the time is not reached either.
    refused(&mut chain, &unlock(coin, &script, 10 | 1 << 22, 0), "non-BIP68-final", "bad-txns-nonfinal");
    refused_by_script(&mut chain, &unlock(coin, &script, 10 | 1 << 31, 0));
    let old = Transaction { version: Version::ONE, ..unlock(coin, &script, 10, 0) };
    refused_by_script(&mut chain, &old);
    accepted(&mut chain, good);
}

#[test]
fn relative_locks_in_time() {
    let mut chain = chain(101);
    let lock = 1 | 1 << 22;
    let script = csv(lock);
    let before = chain.tip().median_time;
    let (coin, _) = fund(&mut chain, 1, script.to_p2wsh());
    let good = unlock(coin, &script, lock as u32, 0);
    refused(&mut chain, &good, "non-BIP68-final", "bad-txns-nonfinal");
    // 512 seconds count from the median before the coin's block to the median before the spending one.
    for time in [before + 511, before + 512] {
        while chain.tip().median_time < time {
            chain.mine(&open_output(), Vec::new(), time).unwrap();
        }
        assert_eq!(chain.tip().median_time, time);
        if time == before + 511 {
            refused(&mut chain, &good, "non-BIP68-final", "bad-txns-nonfinal");
        }
    }
    accepted(&mut chain, good);
}

#[test]
fn relative_locks_ask_the_version_as_unsigned() {
    let mut chain = chain(101);
    let (coin, _) = fund(&mut chain, 1, open_output());
    let locked = |version| Transaction { version: Version(version), ..unlock(coin, &open_script(), 5, 0) };
    for version in [2, 3, i32::MIN, -1] {
        refused(&mut chain, &locked(version), "non-BIP68-final", "bad-txns-nonfinal");
    }
    for version in [0, 1] {
        check(&chain, &locked(version)).unwrap();
    }
    accepted(&mut chain, locked(1));
}

#[test]
fn relative_locks_on_coins_of_the_mempool() {
    let chain = chain(101);
    let parent = spend(reward(&chain, 1), 100_000, open_output());
    let coin = Coin { out: parent.output[0].clone(), height: 102, coinbase: false };
    let child = |sequence| {
        let tx = unlock(first(&parent), &open_script(), sequence, 0);
        chain.check_tx_inputs(&tx, std::slice::from_ref(&coin), 102, chain.tip().median_time)
    };
    assert_eq!(child(0), Ok(Amount::from_sat(10_000)));
    assert_eq!(child(1 << 22), Ok(Amount::from_sat(10_000)));
    assert_eq!(child(1), Err(TxReject::SequenceLocks));
    assert_eq!(child(1 | 1 << 22), Err(TxReject::SequenceLocks));
}

#[test]
fn absolute_locks_in_blocks() {
    let mut chain = chain(101);
    let script = cltv(110);
    let (coin, _) = fund(&mut chain, 1, script.to_p2wsh());
    let good = unlock(coin, &script, 0xffff_fffe, 110);
    grow(&mut chain, 7);
    // The next block is 110; a lock of 110 asks for a later one.
    refused(&mut chain, &good, "non-final", "bad-txns-nonfinal");
    grow(&mut chain, 1);
    refused_by_script(&mut chain, &unlock(coin, &script, 0xffff_fffe, 109));
    refused_by_script(&mut chain, &unlock(coin, &script, 0xffff_ffff, 110));
    accepted(&mut chain, good);
}

#[test]
fn absolute_locks_in_time_ask_the_median() {
    let mut chain = chain(101);
    let lock = NOW + 2_000;
    let script = cltv(i64::from(lock));
    let (coin, _) = fund(&mut chain, 1, script.to_p2wsh());
    let good = unlock(coin, &script, 0xffff_fffe, lock);
    // The clock is past the lock for long, the median just reaches it: still not final (BIP 113).
    for _ in 0..6 {
        chain.mine(&open_output(), Vec::new(), lock).unwrap();
    }
    assert_eq!(chain.tip().median_time, lock);
    refused(&mut chain, &good, "non-final", "bad-txns-nonfinal");
    chain.mine(&open_output(), Vec::new(), lock + 1).unwrap();
    while chain.tip().median_time == lock {
        chain.mine(&open_output(), Vec::new(), lock + 1).unwrap();
    }
    accepted(&mut chain, good);
}

#[test]
fn a_reward_matures_after_a_hundred_blocks() {
    let mut chain = chain(99);
    let tx = spend(reward(&chain, 1), 1_000, open_output());
    let reason = "bad-txns-premature-spend-of-coinbase";
    refused(&mut chain, &tx, reason, reason);
    grow(&mut chain, 1);
    accepted(&mut chain, tx);
}

#[test]
fn checks_without_coins_or_for_a_coinbase() {
    let chain = chain(101);
    let tx = spend(reward(&chain, 1), 1_000, open_output());
    assert_eq!(chain.check_tx_inputs(&tx, &[], 102, NOW), Err(TxReject::MissingInputs));
    let coinbase = chain.block(&chain.tip().hash).unwrap().txdata[0].clone();
    assert_eq!(chain.check_tx_inputs(&coinbase, &[], 102, NOW).unwrap_err().reason(), "coinbase");
}

/// A key for tests.
fn keypair(byte: u8) -> Keypair {
    Keypair::from_secret_key(&Secp256k1::new(), &SecretKey::from_slice(&[byte; 32]).unwrap())
}

/// A taproot output and an open one, both spent; the first by its key.
fn taproot_spend(chain: &mut ChainState) -> (Transaction, Vec<TxOut>) {
    let secp = Secp256k1::new();
    let alice = keypair(0xa1);
    let internal: XOnlyPublicKey = alice.x_only_public_key().0;
    let (coin, out) = fund(chain, 1, ScriptBuf::new_p2tr(&secp, internal, None));
    let (other, other_out) = fund(chain, 2, open_output());
    let spent = vec![out, other_out];
    let mut tx = spend(coin, 150_000, open_output());
    tx.input.push(spend(other, 0, open_output()).input.remove(0));
    let mut cache = SighashCache::new(&tx);
    let hash =
        cache.taproot_key_spend_signature_hash(0, &Prevouts::All(&spent), TapSighashType::Default).unwrap();
    let tweaked = alice.tap_tweak(&secp, None).to_keypair();
    let signature = secp.sign_schnorr_no_aux_rand(&Message::from_digest(hash.to_byte_array()), &tweaked);
    tx.input[0].witness = Witness::from_slice(&[signature.as_ref()]);
    (tx, spent)
}

#[test]
fn taproot_signatures_are_checked() {
    let mut chain = chain(102);
    let (good, spent) = taproot_spend(&mut chain);
    verify_inputs(&good, &spent).unwrap();
    let mut bad = good.clone();
    let mut signature = good.input[0].witness.to_vec().remove(0);
    signature[10] ^= 1;
    bad.input[0].witness = Witness::from_slice(&[signature]);
    refused_by_script(&mut chain, &bad);
    let mut empty = good.clone();
    empty.input[0].witness = Witness::new();
    refused_by_script(&mut chain, &empty);
    let mut nonsense = good.clone();
    nonsense.input[0].witness = Witness::from_slice(&[[0u8; 64]]);
    refused_by_script(&mut chain, &nonsense);
    // The signature covers every spent output: another value, even of the other input, breaks it.
    let mut other = spent.clone();
    other[1].value += Amount::ONE_SAT;
    let reject = verify_inputs(&good, &other).unwrap_err();
    assert_eq!(reject, ScriptReject { input: 0, fault: ScriptFault::Refused });
    accepted(&mut chain, good);
}

#[test]
fn segwit_signatures_cover_the_value() {
    let secp = Secp256k1::new();
    let mut chain = chain(102);
    let bob = keypair(0xb0);
    let key = CompressedPublicKey(bob.public_key());
    let script = ScriptBuf::new_p2wpkh(&key.wpubkey_hash());
    let (coin, out) = fund(&mut chain, 1, script.clone());
    let sign = |value: Amount| {
        let mut tx = spend(coin, 90_000, open_output());
        let hash = SighashCache::new(&tx).p2wpkh_signature_hash(0, &script, value, EcdsaSighashType::All);
        let message = Message::from_digest(hash.unwrap().to_byte_array());
        let signature = bitcoin::ecdsa::Signature::sighash_all(secp.sign_ecdsa(&message, &bob.secret_key()));
        tx.input[0].witness = Witness::p2wpkh(&signature, &bob.public_key());
        tx
    };
    refused_by_script(&mut chain, &sign(out.value + Amount::ONE_SAT));
    accepted(&mut chain, sign(out.value));
}

#[test]
fn older_script_rules_hold() {
    let mut chain = chain(104);
    // BIP 147: the extra item of a multisig is empty.
    let script = Builder::new().push_int(0).push_int(0).push_opcode(OP_CHECKMULTISIG).into_script();
    let (coin, _) = fund(&mut chain, 1, script.to_p2wsh());
    let with = |dummy: &[u8]| {
        let mut tx = spend(coin, 90_000, open_output());
        tx.input[0].witness = Witness::from_slice(&[dummy, script.as_bytes()]);
        tx
    };
    refused_by_script(&mut chain, &with(&[1]));
    accepted(&mut chain, with(&[]));
    // BIP 16: the redeem script is run, not only hashed.
    let redeem = Builder::new().push_int(0).into_script();
    let (coin, _) = fund(&mut chain, 2, redeem.to_p2sh());
    let mut tx = spend(coin, 90_000, open_output());
    tx.input[0].witness = Witness::new();
    tx.input[0].script_sig = Builder::new().push_slice([0]).into_script();
    refused_by_script(&mut chain, &tx);
    // Witness versions to come are for anyone.
    let future = ScriptBuf::from_bytes([&[0x52, 0x20][..], &[9; 32]].concat());
    let (coin, _) = fund(&mut chain, 3, future);
    accepted(&mut chain, spend(coin, 90_000, open_output()));
}

#[test]
fn script_checks_need_every_spent_output() {
    let chain = chain(101);
    let tx = spend(reward(&chain, 1), 1_000, open_output());
    let out = TxOut { value: Amount::from_int_btc(50), script_pubkey: open_output() };
    verify_inputs(&tx, std::slice::from_ref(&out)).unwrap();
    let count = |spent: &[TxOut]| verify_inputs(&tx, spent).unwrap_err().fault;
    assert_eq!(count(&[]), ScriptFault::Count { inputs: 1, coins: 0 });
    assert_eq!(count(&[out.clone(), out.clone()]), ScriptFault::Count { inputs: 1, coins: 2 });
    let huge = TxOut { value: Amount::from_sat(u64::MAX), ..out };
    assert_eq!(count(&[huge]), ScriptFault::Range);
    let none = Transaction { input: Vec::new(), ..tx };
    assert_eq!(verify_inputs(&none, &[]).unwrap_err().fault, ScriptFault::Count { inputs: 0, coins: 0 });
}

#[test]
fn signature_operations_are_counted_as_bitcoin_does() {
    let cost = |spent: ScriptBuf, script_sig: ScriptBuf, witness: &[&[u8]]| {
        let mut tx = spend(OutPoint { txid: Hash::hash(b"any"), vout: 0 }, 1, ScriptBuf::new());
        tx.input[0].script_sig = script_sig;
        tx.input[0].witness = Witness::from_slice(witness);
        let out = TxOut { value: Amount::ONE_SAT, script_pubkey: spent };
        sigops::cost(&tx, &[Coin { out, height: 1, coinbase: false }])
    };
    let none = ScriptBuf::new;
    let script = |bytes: &[u8]| ScriptBuf::from_bytes(bytes.to_vec());
    let push = |inner: &ScriptBuf| {
        let bytes = bitcoin::script::PushBytesBuf::try_from(inner.to_bytes()).unwrap();
        Builder::new().push_slice(bytes).into_script()
    };
    let (two, check, multi) = (OP_PUSHNUM_2.to_u8(), OP_CHECKSIG.to_u8(), OP_CHECKMULTISIG.to_u8());
    // Legacy: the script spent does not count, the input script does, a multisig always as twenty.
    assert_eq!(cost(script(&[check; 5]), none(), &[]), 0);
    assert_eq!(cost(none(), script(&[check, two, multi]), &[]), 84);
    // Behind a script hash the number before a multisig counts, and only a number right before it.
    let redeem = script(&[two, multi]);
    assert_eq!(cost(redeem.to_p2sh(), push(&redeem), &[]), 8);
    let apart = script(&[two, check, multi]);
    assert_eq!(cost(apart.to_p2sh(), push(&apart), &[]), 84);
    // A script that breaks off counts up to the break.
    let cut = script(&[check, OP_PUSHBYTES_5.to_u8(), check, check]);
    assert_eq!(cost(cut.to_p2sh(), push(&cut), &[]), 4);
    // An input script that does more than push hides its redeem script, one that pushes a number last has none.
    let noisy = script(&[&[OP_NOP.to_u8()], push(&redeem).as_bytes()].concat());
    assert_eq!(cost(redeem.to_p2sh(), noisy, &[]), 0);
    let number = script(&[push(&redeem).as_bytes(), &[two]].concat());
    assert_eq!(cost(redeem.to_p2sh(), number, &[]), 0);
    // Witnesses: one for a key, the script's own count for a script, also behind a script hash; later versions none.
    let key = ScriptBuf::from_bytes([&[0, 20][..], &[7; 20]].concat());
    assert_eq!(cost(key.clone(), none(), &[&[1], &[2]]), 1);
    assert_eq!(cost(key.to_p2sh(), push(&key), &[&[1], &[2]]), 1);
    assert_eq!(cost(redeem.to_p2wsh(), none(), &[redeem.as_bytes()]), 2);
    assert_eq!(cost(redeem.to_p2wsh(), none(), &[]), 0);
    assert_eq!(cost(redeem.to_p2wsh().to_p2sh(), push(&redeem.to_p2wsh()), &[redeem.as_bytes()]), 2);
    let taproot = ScriptBuf::from_bytes([&[0x51, 32][..], &[7; 32]].concat());
    assert_eq!(cost(taproot, none(), &[redeem.as_bytes()]), 0);
}
