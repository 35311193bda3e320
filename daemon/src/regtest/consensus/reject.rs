//! Why a transaction or a block is refused, in the words bitcoind uses.
//!
//! In: nothing. Out: [`TxReject`], [`BlockReject`] and [`ChainError`], each with its `reason()` string as
//! `submitblock`, `sendrawtransaction` and `testmempoolaccept` give it. Read next: `tx`, `block`, `connect`.

use super::script::ScriptReject;
use bitcoin::BlockHash;
use std::io;
use thiserror::Error;

/// A consensus rule that a transaction breaks. `Display` is bitcoind's reason string.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TxReject {
    /// No inputs.
    #[error("bad-txns-vin-empty")]
    VinEmpty,
    /// No outputs.
    #[error("bad-txns-vout-empty")]
    VoutEmpty,
    /// Four times the size without witnesses is more than a block's weight.
    #[error("bad-txns-oversize")]
    Oversize,
    /// An output value that is negative as a signed number.
    #[error("bad-txns-vout-negative")]
    VoutNegative,
    /// An output value above 21 million coins.
    #[error("bad-txns-vout-toolarge")]
    VoutTooLarge,
    /// The output values together are above 21 million coins.
    #[error("bad-txns-txouttotal-toolarge")]
    TotalTooLarge,
    /// One outpoint spent twice by the same transaction (CVE-2018-17144).
    #[error("bad-txns-inputs-duplicate")]
    DuplicateInputs,
    /// A coinbase script outside 2 to 100 bytes.
    #[error("bad-cb-length")]
    CoinbaseLength,
    /// A null outpoint in a transaction that is no coinbase.
    #[error("bad-txns-prevout-null")]
    NullPrevout,
    /// A coinbase outside a block.
    #[error("coinbase")]
    Coinbase,
    /// An input whose coin does not exist or is spent.
    #[error("bad-txns-inputs-missingorspent")]
    MissingInputs,
    /// Spends a coinbase before it has 100 confirmations.
    #[error("bad-txns-premature-spend-of-coinbase")]
    PrematureCoinbase,
    /// The spent values are out of the money range.
    #[error("bad-txns-inputvalues-outofrange")]
    InputValues,
    /// Pays out more than it spends.
    #[error("bad-txns-in-belowout")]
    InBelowOut,
    /// The fee is out of the money range.
    #[error("bad-txns-fee-outofrange")]
    FeeRange,
    /// Its lock time is not reached (BIP 113 for times).
    #[error("non-final")]
    NonFinal,
    /// A relative lock is not reached (BIP 68).
    #[error("non-BIP68-final")]
    SequenceLocks,
    /// An output repeats an unspent one (BIP 30); only found in blocks.
    #[error("bad-txns-BIP30")]
    Bip30,
    /// A script refuses the spend.
    #[error("mandatory-script-verify-flag-failed ({0})")]
    Script(#[from] ScriptReject),
}

impl TxReject {
    /// bitcoind's reject reason for the mempool (`reject-reason` of `testmempoolaccept`), details included.
    pub fn reason(&self) -> String {
        self.to_string()
    }

    /// The reason when the transaction stands in a block: both kinds of lock have one name there, scripts another.
    pub fn block_reason(&self) -> String {
        match self {
            Self::NonFinal | Self::SequenceLocks => "bad-txns-nonfinal".into(),
            Self::Script(reject) => format!("block-script-verify-flag-failed ({reject})"),
            other => other.to_string(),
        }
    }
}

/// Why a block is refused. `Display` is bitcoind's reason string (what `submitblock` answers).
#[derive(Debug, Error)]
pub enum BlockReject {
    /// The hash is above the target, or the target itself is out of range.
    #[error("high-hash")]
    HighHash,
    /// The bits are not what the chain asks (no retargeting on regtest).
    #[error("bad-diffbits")]
    DiffBits,
    /// Not later than the median of the eleven blocks before it.
    #[error("time-too-old")]
    TimeTooOld,
    /// More than two hours ahead of the clock.
    #[error("time-too-new")]
    TimeTooNew,
    /// A version below 4, given here as bitcoind prints it.
    #[error("bad-version(0x{0:08x})")]
    Version(u32),
    /// The block before it is not known.
    #[error("prev-blk-not-found")]
    PrevNotFound,
    /// The block before it is invalid.
    #[error("bad-prevblk")]
    PrevInvalid,
    /// Already known and stored.
    #[error("duplicate")]
    Duplicate,
    /// Already known to be invalid.
    #[error("duplicate-invalid")]
    DuplicateInvalid,
    /// The block is stored, but an earlier block of its branch proved invalid.
    #[error("inconclusive")]
    Inconclusive,
    /// The merkle root does not commit to the transactions.
    #[error("bad-txnmrklroot")]
    MerkleRoot,
    /// A repeated pair of hashes in the merkle tree (CVE-2012-2459).
    #[error("bad-txns-duplicate")]
    MerkleDuplicate,
    /// No transactions, or too large without witnesses.
    #[error("bad-blk-length")]
    Length,
    /// More than 4,000,000 weight units.
    #[error("bad-blk-weight")]
    Weight,
    /// The first transaction is no coinbase.
    #[error("bad-cb-missing")]
    CoinbaseMissing,
    /// Another transaction is a coinbase, too.
    #[error("bad-cb-multiple")]
    CoinbaseMultiple,
    /// The coinbase script does not begin with the height (BIP 34).
    #[error("bad-cb-height")]
    CoinbaseHeight,
    /// The coinbase takes more than subsidy and fees.
    #[error("bad-cb-amount")]
    CoinbaseAmount,
    /// More than 80,000 of signature operation cost.
    #[error("bad-blk-sigops")]
    Sigops,
    /// The coinbase witness is not one item of 32 bytes (BIP 141).
    #[error("bad-witness-nonce-size")]
    WitnessNonce,
    /// The witness commitment is not that of the block's witnesses (BIP 141).
    #[error("bad-witness-merkle-match")]
    WitnessMatch,
    /// Witnesses without a commitment (BIP 141).
    #[error("unexpected-witness")]
    WitnessUnexpected,
    /// The fees together are out of the money range.
    #[error("bad-txns-accumulated-fee-outofrange")]
    FeesRange,
    /// One of its transactions breaks a rule.
    #[error("{}", .0.block_reason())]
    Tx(#[from] TxReject),
    /// The chain could not be stored, or is not to be used any more; no verdict on the block.
    #[error("chain unavailable: {0}")]
    Chain(#[from] ChainError),
}

impl BlockReject {
    /// bitcoind's reject reason (BIP 22), as `submitblock` returns it.
    pub fn reason(&self) -> String {
        self.to_string()
    }

    /// True if the fault may lie in a changed copy of the block rather than in the block of that hash, which
    /// must then not be remembered as invalid.
    pub(super) fn is_mutation(&self) -> bool {
        matches!(
            self,
            Self::MerkleRoot
                | Self::MerkleDuplicate
                | Self::WitnessNonce
                | Self::WitnessMatch
                | Self::WitnessUnexpected
        )
    }
}

/// Why the chain cannot be opened, stored or changed as asked.
#[derive(Debug, Error)]
pub enum ChainError {
    /// The operating system refused a file operation.
    #[error("block file: {0}")]
    Io(#[from] io::Error),
    /// The block file belongs to something else, or to another version.
    #[error("block file: not a regtest chain of this version")]
    Foreign,
    /// The block file is damaged before its end: more than an unfinished write.
    #[error("block file: damaged at byte {offset}")]
    Corrupt {
        /// Where the first damaged frame begins.
        offset: u64,
    },
    /// A stored block does not fit the chain before it.
    #[error("block file: stored block {hash} does not connect: {reason}")]
    Replay {
        /// The block.
        hash: BlockHash,
        /// What is wrong with it.
        reason: String,
    },
    /// More bytes than one frame of the block file may hold.
    #[error("block file: {0} bytes in one write")]
    TooLarge(usize),
    /// The file is not as this process left it: another one has it open, too.
    #[error("block file: changed by another process")]
    Shared,
    /// An earlier write failed: memory is ahead of the disk and nothing more is accepted until a restart.
    #[error("block file: an earlier write failed")]
    Broken,
    /// No block of this hash.
    #[error("Block not found")]
    UnknownBlock,
    /// The genesis block cannot be invalidated.
    #[error("the genesis block cannot be invalidated")]
    Genesis,
}
