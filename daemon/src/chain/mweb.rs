//! Litecoin's blocks since its extension blocks (LIP 2 and 3): what Bitcoin's form does not know is left out.
//!
//! In: a block's bytes. Out: the same as a block of Bitcoin's form, or `None`. Left out are the extension block behind the
//! transactions, and in transactions what a flag bit of its own announces. None of that is part of a transaction's id, of
//! the merkle root or of the header; money moves between both worlds in plain inputs and outputs. Whoever calls holds
//! the block against its hash and merkle root, so that a mistake here is a refusal and nothing else.
//! Read next: `verify`.

use bitcoin::block::Header;
use bitcoin::consensus::encode::{Decodable, VarInt};
use bitcoin::{absolute, transaction, Block, Transaction, TxIn, TxOut, Witness};

/// Flag of a transaction with witnesses (BIP 144).
const WITNESS: u8 = 1;
/// Flag of one with something of the extension block's.
const EXTENSION: u8 = 8;
/// The smallest transaction that can be: more of them than fit are not even begun.
const MIN_TX_BYTES: usize = 10;

/// Reads a block; what follows its transactions is not looked at.
pub(super) fn block(bytes: &[u8]) -> Option<Block> {
    let mut rest = bytes;
    let header: Header = read(&mut rest)?;
    let count = usize::try_from(read::<VarInt>(&mut rest)?.0).ok()?;
    if count > rest.len() / MIN_TX_BYTES {
        return None;
    }
    let mut txdata = Vec::with_capacity(count);
    for _ in 0..count {
        txdata.push(transaction(&mut rest)?);
    }
    Some(Block { header, txdata })
}

fn read<T: Decodable>(rest: &mut &[u8]) -> Option<T> {
    T::consensus_decode_from_finite_reader(rest).ok()
}

fn transaction(rest: &mut &[u8]) -> Option<Transaction> {
    let version: transaction::Version = read(rest)?;
    let mut input: Vec<TxIn> = read(rest)?;
    let mut flags = 0;
    if input.is_empty() {
        flags = read::<u8>(rest)?;
        if flags == 0 || flags & !(WITNESS | EXTENSION) != 0 {
            return None;
        }
        input = read(rest)?;
    }
    let output: Vec<TxOut> = read(rest)?;
    if flags & WITNESS != 0 {
        for one in &mut input {
            one.witness = read::<Witness>(rest)?;
        }
    }
    // In a block only the transaction that ties both worlds together has this flag, and nothing stands behind it: a zero.
    if flags & EXTENSION != 0 && read::<u8>(rest)? != 0 {
        return None;
    }
    let lock_time: absolute::LockTime = read(rest)?;
    Some(Transaction { version, lock_time, input, output })
}
