//! Transactions on the chain, told: what spends what, by which branch of its script, with which key.
//!
//! In: outputs to look for. Out: the transaction that spends one, waiting or mined, and words for each of its inputs,
//! read from the witness alone.
//! Read next: `cheat`, `alone`.

use super::money::short;
use super::stage::{list, text, Stage};
use super::tell::Teller;
use super::{wait_for, DemoError};
use bitcoin::opcodes::all::{OP_CLTV, OP_CSV};
use bitcoin::script::{Instruction, Script};
use bitcoin::{Block, OutPoint, Transaction, TxOut, Witness};
use serde_json::{json, Value};

/// How an output was spent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// The funding output, by both.
    Both,
    /// `to_local`, or what an HTLC transaction paid to: the owner's key, after the delay.
    Delayed,
    /// The same, by the revocation key.
    Penalty,
    /// `to_remote` with anchors: one key, after one block.
    ToRemote,
    /// An anchor.
    Anchor,
    /// An HTLC by its payee's HTLC-success transaction, which both signed: it shows R.
    Success,
    /// An HTLC by its payer's HTLC-timeout transaction, which both signed.
    Timeout,
    /// An HTLC on the other's commitment, by R.
    ByPreimage,
    /// An HTLC on the other's commitment, after its expiry.
    AfterExpiry,
    /// An HTLC of a revoked commitment.
    PenaltyHtlc,
    /// A coin of a wallet, or `to_remote` without anchors.
    Coin,
}

impl Way {
    /// Reads it from a witness.
    pub fn of(witness: &Witness) -> Way {
        let items: Vec<&[u8]> = witness.iter().collect();
        let Some((script, stack)) = items.split_last() else { return Way::Coin };
        let has = |op| Script::from_bytes(script).instructions().flatten().any(|i| i == Instruction::Op(op));
        match (script.first(), stack) {
            (Some(0x52), [[], _, _]) => Way::Both,
            (Some(0x63), [_, [1]]) => Way::Penalty,
            (Some(0x63), [_, []]) => Way::Delayed,
            (Some(0x76), [[], _, _, []]) => Way::Timeout,
            (Some(0x76), [[], _, _, _]) => Way::Success,
            (Some(0x76), [_, []]) if has(OP_CLTV) => Way::AfterExpiry,
            (Some(0x76), [_, key]) if key.len() == 33 => Way::PenaltyHtlc,
            (Some(0x76), [_, preimage]) if preimage.len() == 32 => Way::ByPreimage,
            (Some(0x21), [_]) if has(OP_CSV) && script.len() < 40 => Way::ToRemote,
            (Some(0x21), [_]) if has(OP_CSV) => Way::Anchor,
            _ => Way::Coin,
        }
    }

    /// What was spent, and by what.
    pub const fn words(self) -> (&'static str, &'static str) {
        match self {
            Way::Both => ("the funding output", "both keys of the channel"),
            Way::Delayed => ("an output that waited", "ELSE: its owner's key, after the delay (CSV)"),
            Way::Penalty => ("the cheat's to_local", "IF: the revocation key, at once"),
            Way::ToRemote => ("to_remote", "the key of the one who did not close, after one block"),
            Way::Anchor => ("an anchor", "the key of its owner"),
            Way::Success => ("an HTLC", "its preimage R and both HTLC keys (HTLC-success)"),
            Way::Timeout => ("an HTLC", "its expiry and both HTLC keys (HTLC-timeout)"),
            Way::ByPreimage => ("an HTLC", "its preimage R and the payee's HTLC key"),
            Way::AfterExpiry => ("an HTLC", "its expiry and the payer's HTLC key"),
            Way::PenaltyHtlc => ("the cheat's HTLC", "the revocation key, at once"),
            Way::Coin => ("a coin of the wallet", "its key"),
        }
    }
}

/// An output's name from its text.
pub fn outpoint(text: &str) -> Result<OutPoint, DemoError> {
    text.parse().map_err(|e| DemoError::Odd(format!("{text}: {e}")))
}

/// Waits until a transaction in the mempool spends `outpoint`.
pub async fn waiting(stage: &Stage, outpoint: OutPoint) -> Result<Transaction, DemoError> {
    wait_for(&format!("a transaction that spends {outpoint}"), || async {
        let pool = stage.chain("getrawmempool", json!([])).await.map_err(|e| e.to_string())?;
        let txids = pool.as_array().cloned().unwrap_or_default();
        for txid in txids.iter().filter_map(Value::as_str) {
            // What waits may be replaced at any moment.
            let Ok(tx) = stage.transaction(txid).await else { continue };
            if tx.input.iter().any(|i| i.previous_output == outpoint) {
                return Ok(tx);
            }
        }
        Err(format!("{} other transactions", txids.len()))
    })
    .await
}

/// The transaction that spends `outpoint` in a block from `since` on, if there is one.
pub async fn mined(stage: &Stage, outpoint: OutPoint, since: u64) -> Result<Option<Transaction>, DemoError> {
    for height in since..=stage.height().await? {
        let hash = stage.chain("getblockhash", json!([height])).await?;
        let hex = stage.chain("getblock", json!([hash, 0])).await?;
        let block: Block = bitcoin::consensus::encode::deserialize_hex(hex.as_str().unwrap_or_default())
            .map_err(|e| DemoError::Odd(format!("block {height}: {e}")))?;
        let spends = |tx: &Transaction| tx.input.iter().any(|i| i.previous_output == outpoint);
        if let Some(tx) = block.txdata.into_iter().find(spends) {
            return Ok(Some(tx));
        }
    }
    Ok(None)
}

/// Tells a transaction: each input with the branch it takes, where the money goes, and the fee.
pub async fn narrate(stage: &Stage, teller: &Teller, whose: &str, tx: &Transaction) -> Result<(), DemoError> {
    let fee = stage.fee_sat(tx).await?;
    teller.say(&format!("{whose} transaction {}, fee {fee} sat", head(&tx.compute_txid().to_string())));
    for input in &tx.input {
        let spent = spent_output(stage, input.previous_output).await?;
        let (what, by) = Way::of(&input.witness).words();
        teller.say(&format!("   spends {what} of {} BTC by {by}", btc(&spent)));
    }
    for output in &tx.output {
        let to = if output.script_pubkey.is_p2wsh() { "a script that waits" } else { "the wallet" };
        teller.say(&format!("   pays {} BTC to {to}", btc(output)));
    }
    Ok(())
}

/// An output that was spent.
pub async fn spent_output(stage: &Stage, outpoint: OutPoint) -> Result<TxOut, DemoError> {
    let from = stage.transaction(&outpoint.txid.to_string()).await?;
    let index = usize::try_from(outpoint.vout).unwrap_or(usize::MAX);
    from.output.get(index).cloned().ok_or_else(|| DemoError::Odd(format!("{outpoint} is not there")))
}

/// Satoshi as people read them.
pub fn btc(output: &TxOut) -> String {
    short(output.value.to_sat() * 1_000)
}

/// The first digits of an id.
pub fn head(id: &str) -> String {
    format!("{}…", id.get(..16).unwrap_or(id))
}

/// The outputs of a kind that a closed channel's `cause` names.
pub fn outputs<'a>(entry: &'a Value, kind: &str) -> Result<Vec<&'a Value>, DemoError> {
    let mut found = Vec::new();
    for output in list(&entry["cause"], "outputs")? {
        if text(output, "kind")? == kind {
            found.push(output);
        }
    }
    Ok(found)
}

/// The one output of a kind.
pub fn the_output(entry: &Value, kind: &str) -> Result<OutPoint, DemoError> {
    match outputs(entry, kind)?.as_slice() {
        [one] => outpoint(&text(one, "outpoint")?),
        other => Err(DemoError::Odd(format!("{} outputs are {kind}", other.len()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chand_protocol::tx::script;
    use secp256k1::{PublicKey, Secp256k1, SecretKey};

    #[test]
    fn each_branch_is_recognised_by_its_witness() {
        let secret = SecretKey::from_slice(&[7; 32]).expect("a key");
        let key = PublicKey::from_secret_key(&Secp256k1::new(), &secret);
        let signature = vec![3; 71];
        let revocation = key.serialize().to_vec();
        // Only what tells them apart.
        let (offered, received) = (vec![0x76, 0xa9, 0x88], vec![0x76, 0xa9, 0xb1]);
        let both = |last: Vec<u8>| vec![vec![], signature.clone(), signature.clone(), last];
        let htlc = |mut stack: Vec<Vec<u8>>, script: &Vec<u8>| {
            stack.push(script.clone());
            stack
        };
        let delayed = script::to_local(&key, &key, 144).to_bytes();
        let funding = script::funding(&key, &key).to_bytes();
        let to_remote = script::to_remote_anchors(&key).to_bytes();
        let anchor = script::anchor(&key).to_bytes();
        for (stack, way) in [
            (vec![vec![], signature.clone(), signature.clone(), funding], Way::Both),
            (vec![signature.clone(), vec![1], delayed.clone()], Way::Penalty),
            (vec![signature.clone(), vec![], delayed], Way::Delayed),
            (vec![signature.clone(), to_remote], Way::ToRemote),
            (vec![signature.clone(), anchor], Way::Anchor),
            (htlc(both(vec![]), &offered), Way::Timeout),
            (htlc(both(vec![9; 32]), &received), Way::Success),
            (htlc(vec![signature.clone(), vec![9; 32]], &offered), Way::ByPreimage),
            (htlc(vec![signature.clone(), vec![]], &received), Way::AfterExpiry),
            (htlc(vec![signature.clone(), revocation.clone()], &received), Way::PenaltyHtlc),
            (vec![signature.clone(), revocation], Way::Coin),
            (vec![vec![4; 64]], Way::Coin),
        ] {
            assert_eq!(Way::of(&Witness::from_slice(&stack)), way, "{stack:?}");
        }
    }
}
