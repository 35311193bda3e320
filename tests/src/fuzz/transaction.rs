//! Transactions that others made: read from blocks, measured against the rules of relay, searched for a number.
//!
//! In: bytes of a transaction, of the outputs it spends, of scripts. Out: nothing, or a panic: rules are applied to
//! anything that can be read, and what breaks none of them the reference code does not find malformed either.
//! Read next: `crate::duet::chain` (which asks the same of our own).

use super::feed::Feed;
use super::hunt::saw;
use super::machine::spend;
use bitcoin::consensus::{deserialize, serialize};
use bitcoin::hashes::Hash;
use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, TxOut, Txid};
use bitcoinconsensus::verify_with_flags;
use chand_protocol::tx::close::{close_weight, may_accept_shutdown, may_send_shutdown};
use chand_protocol::tx::commitment::commitment_number;
use chand_protocol::tx::standard::{bolt_dust_limit, dust_threshold, is_p2a, standard};
use chand_protocol::units::Feerate;

/// A transaction from the chain, or one of the input's making that spends a script of its own.
pub fn transaction(input: &[u8]) {
    let mut feed = Feed::new(input);
    let choice = feed.u8();
    let tx = if choice.is_multiple_of(2) {
        let Ok(tx) = deserialize::<Transaction>(feed.piece()) else { return saw("no transaction") };
        tx
    } else {
        let place = OutPoint { txid: Txid::from_byte_array([3; 32]), vout: u32::from(choice) };
        spend(&mut feed, place)
    };
    let spent: Vec<TxOut> = tx.input.iter().take(20).map(|i| spent_by(&mut feed, choice, i)).collect();
    let verdict = standard(&tx, &spent, Feerate(253));
    let name = format!("{verdict:?}");
    saw(name.split(|c: char| c.is_ascii_digit()).next().map(String::from));
    for output in &tx.output {
        script(output.script_pubkey.as_bytes());
    }
    let obscure = feed.u64() & 0xffff_ffff_ffff;
    let number = commitment_number(&tx, obscure);
    assert!(number.is_none_or(|n| n < 1 << 48), "a number of more than 48 bits");
    saw(number.is_some());
    if verdict.is_ok() {
        well_formed(&tx, &spent);
    }
}

/// The output that an input spends: one whose script its own witness ends in, or any.
fn spent_by(feed: &mut Feed<'_>, choice: u8, input: &bitcoin::TxIn) -> TxOut {
    let witness_script = input.witness.last().unwrap_or_default();
    let script_pubkey = if choice & 2 == 0 {
        ScriptBuf::from_bytes(witness_script.to_vec()).to_p2wsh()
    } else if choice & 4 == 0 {
        let key = input.witness.nth(1).unwrap_or_default();
        ScriptBuf::new_p2wpkh(&bitcoin::WPubkeyHash::hash(key))
    } else {
        feed.piece().to_vec().into()
    };
    TxOut { value: Amount::from_sat(feed.u64()), script_pubkey }
}

/// The reference code reads it and runs it; whether its scripts hold is another matter.
fn well_formed(tx: &Transaction, spent: &[TxOut]) {
    let raw = serialize(tx);
    for (place, output) in spent.iter().enumerate() {
        let flags = bitcoinconsensus::VERIFY_ALL_PRE_TAPROOT;
        let result = verify_with_flags(
            output.script_pubkey.as_bytes(),
            output.value.to_sat(),
            &raw,
            None,
            place,
            flags,
        );
        saw(result.is_ok());
        if let Err(error) = result {
            assert_eq!(error, bitcoinconsensus::Error::ERR_SCRIPT, "input {place}");
        }
    }
}

/// An output's or a shutdown's script: limits and rules hold for any bytes.
pub fn script(input: &[u8]) {
    let script = ScriptBuf::from_bytes(input.to_vec());
    let (threshold, limit) = (dust_threshold(&script), bolt_dust_limit(&script));
    saw((threshold.0.min(2_000), limit.0, is_p2a(&script)));
    for anysegwit in [false, true] {
        for simple in [false, true] {
            let (send, accept) = (
                may_send_shutdown(&script, anysegwit, simple),
                may_accept_shutdown(&script, anysegwit, simple),
            );
            assert!(!send || accept, "we send what we would refuse");
            saw((send, accept));
        }
    }
    assert!(close_weight([script.as_script()]) >= 4 * input.len() as u64);
}

/// Real transactions: what a channel's life leaves on the chain.
pub fn transaction_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for stage in [super::stage::Stage::Closed, super::stage::Stage::Forced] {
        let duet = super::stage::set(stage, true).duet;
        let blocks = duet.chain.blocks.iter().flat_map(|block| block.txs.iter());
        for tx in blocks.chain(&duet.chain.mempool) {
            let raw = serialize(tx);
            let head = [0, (raw.len() >> 8) as u8, raw.len() as u8];
            seeds.push([&head[..], &raw, &[0, 0, 0, 0, 0, 0x0f, 0x42, 0x40]].concat());
        }
    }
    seeds
}

/// Scripts of every usual kind, and near them.
pub fn script_seeds() -> Vec<Vec<u8>> {
    let program = |version: u8, len: u8| [&[version, len], vec![7; len.into()].as_slice()].concat();
    vec![
        program(0, 20),
        program(0, 32),
        program(0x51, 32),
        vec![0x51, 2, 0x4e, 0x73],
        program(0x60, 40),
        [&[0x76, 0xa9, 20], [7; 20].as_slice(), &[0x88, 0xac]].concat(),
        [&[0xa9, 20], [7; 20].as_slice(), &[0x87]].concat(),
        [&[0x6a, 6], b"closed".as_slice()].concat(),
        [&[0x6a, 0x4c, 80], [1; 80].as_slice()].concat(),
    ]
}
