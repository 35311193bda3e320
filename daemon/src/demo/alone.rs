//! Bob vanishes with payments under way; Alice closes alone, and waits, because who closes waits.
//!
//! In: two nodes at rest, a chain. Out: each output of her commitment in the wallet that its script says, at the height
//! that its script says; every fee is read from the transaction that paid it.
//! Read next: `look`, `across`.

use super::cheat::closed_entry;
use super::look::{self, head, narrate, outpoint, spent_output, the_output, Way};
use super::money::BITCOIN_MSAT;
use super::stage::{number, text, Stage, Who};
use super::story::{self, agreed, begin, channel, wallet_sat, CENT_MSAT};
use super::tell::Teller;
use super::{wait_for, DemoError};
use bitcoin::{OutPoint, Transaction, Txid};
use serde_json::{json, Value};
use std::collections::BTreeMap;

/// What the channel holds.
const CAPACITY_SAT: u64 = BITCOIN_MSAT / 2_000;
/// Bob's part of it.
const BOBS_MSAT: u64 = BITCOIN_MSAT / 5;
/// Bob owes Alice for water, Alice Bob for bread.
const WATER_MSAT: u64 = 3 * CENT_MSAT;
const BREAD_MSAT: u64 = 5 * CENT_MSAT;

/// What is looked for at each step.
struct Scene {
    id: String,
    born: u64,
    delay_blocks: u64,
    /// Alice's transactions.
    fees_sat: BTreeMap<Txid, u64>,
}

/// Tells it.
pub async fn close_alone(stage: &mut Stage, teller: &mut Teller) -> Result<(), DemoError> {
    teller.chapter("Bob vanishes with payments under way, and Alice closes alone").await;
    story::open_channel(stage, Who::Alice, CAPACITY_SAT, BOBS_MSAT).await?;
    let (alice, bob) = (stage.alice.line(), stage.bob.line());
    let water = begin(bob.clone(), alice.clone(), "water", WATER_MSAT).await?;
    begin(alice.clone(), bob, "bread", BREAD_MSAT).await?;
    let all = agreed(stage, |s| s.htlcs.len() == 2).await?;
    teller.snapshot(&all);
    let expiry = all.htlcs.iter().find(|h| h.amount_msat == BREAD_MSAT).map_or(0, |h| h.expiry);
    let before = wallet_sat(&alice).await?;
    let ours = channel(stage, Who::Alice).await?;
    let id = text(&ours, "channel_id")?;
    let delay_blocks = number(&ours, "our_to_self_delay")?;

    stage.bob.kill_9().await?;
    alice.call("settleinvoice", json!({ "preimage": water.preimage() })).await?;
    teller.say("kill -9: Bob is gone. Alice shows R of “water”, and nobody hears it");
    let closed = alice.call("close", json!({ "id": id, "unilateraltimeout": 1 })).await?;
    teller.check("she closes", text(&closed, "type")?.as_str(), "unilateral");
    let txid = first(&closed["txids"])?;
    stage.published(&txid).await?;
    let born = stage.mine(1).await?;
    teller.say(&format!(
        "her commitment {} is in block {born}; she must wait for {delay_blocks} blocks",
        head(&txid)
    ));
    let mut scene = Scene { id, born, delay_blocks, fees_sat: BTreeMap::new() };

    let (water_at, bread_at) = (scene.htlc(stage, WATER_MSAT).await?, scene.htlc(stage, BREAD_MSAT).await?);
    let success = scene.step(stage, teller, "Alice takes “water” with R;", water_at, Way::Success).await?;
    let success_born = stage.height().await?;
    let bobs_sat = bob_returns(stage, teller, &scene, &water.hash()?).await?;
    let entry = closed_entry(stage, Who::Alice, &scene.id, |_| true).await?;
    let own = the_output(&entry, "to_local")?;
    mine_to(stage, scene.born + delay_blocks - 1).await?;
    scene.step(stage, teller, "the wait is over:", own, Way::Delayed).await?;
    let at = stage.height().await?;
    teller.check("blocks that Alice waited for her own balance", at - scene.born, scene.delay_blocks);
    mine_to(stage, success_born + delay_blocks - 1).await?;
    scene
        .step(stage, teller, "and so is that of “water”:", paired(&success, water_at)?, Way::Delayed)
        .await?;

    mine_to(stage, expiry).await?;
    teller.say(&format!("block {expiry}: Bob showed no R for “bread”, its time is over"));
    let timeout = scene.step(stage, teller, "Alice takes “bread” back;", bread_at, Way::Timeout).await?;
    let timeout_born = stage.height().await?;
    mine_to(stage, timeout_born + delay_blocks - 1).await?;
    scene.step(stage, teller, "after the last wait:", paired(&timeout, bread_at)?, Way::Delayed).await?;

    let now = wallet_sat(&alice).await?;
    let own_sat = spent_output(stage, own).await?.value.to_sat();
    let mut must_be = before + own_sat + (WATER_MSAT + BREAD_MSAT) / 1_000;
    // A child that carried the commitment, should it have needed one, spends the anchor, too.
    let anchor = the_output(&entry, "anchor_owner")?;
    if let Some(child) = look::mined(stage, anchor, born).await? {
        must_be += spent_output(stage, anchor).await?.value.to_sat();
        scene.fees_sat.insert(child.compute_txid(), stage.fee_sat(&child).await?);
    }
    let fees_sat: u64 = scene.fees_sat.values().sum();
    teller.check_money("Alice has on chain", now * 1_000, must_be.saturating_sub(fees_sat) * 1_000);
    teller.check_money("Bob took what was his", bobs_sat * 1_000, all.bob_msat);
    let entry = closed_entry(stage, Who::Alice, &scene.id, |_| true).await?;
    let trigger = text(&entry["cause"], "trigger")?;
    teller.check("Alice's node remembers why", trigger.as_str(), "no_agreement_in_time");
    Ok(())
}

/// Bob is back: he takes what is his without waiting, and finds his receipt on the chain. What his output held.
async fn bob_returns(
    stage: &mut Stage,
    teller: &mut Teller,
    scene: &Scene,
    hash: &str,
) -> Result<u64, DemoError> {
    stage.start(Who::Bob).await?;
    let bob = stage.bob.line();
    let entry = closed_entry(stage, Who::Bob, &scene.id, |_| true).await?;
    let his = the_output(&entry, "to_remote")?;
    let tx = look::waiting(stage, his).await?;
    teller.say("Bob is back, finds the close on the chain, and need not wait for his part");
    narrate(stage, teller, "Bob's", &tx).await?;
    stage.mine(1).await?;
    let learnt = wait_for("Bob's receipt", || async {
        let params = json!({ "payment_hash": hash });
        let answer = bob.try_call("listpays", params).await.map_err(|e| e.to_string())?;
        let pay = answer["pays"][0].clone();
        if pay["status"] == "complete" {
            Ok(pay)
        } else {
            Err(pay["status"].to_string())
        }
    })
    .await?;
    let preimage = text(&learnt, "preimage")?;
    teller.check("the R that Bob read there has the hash", story::sha256(&preimage)?, hash.to_string());
    Ok(spent_output(stage, his).await?.value.to_sat())
}

impl Scene {
    /// The HTLC of an amount in Alice's commitment.
    async fn htlc(&self, stage: &Stage, amount_msat: u64) -> Result<OutPoint, DemoError> {
        let entry = closed_entry(stage, Who::Alice, &self.id, |_| true).await?;
        let all = look::outputs(&entry, "htlc")?;
        let found = all.into_iter().find(|o| o["amount_msat"] == amount_msat);
        let found = found.ok_or_else(|| DemoError::Odd(format!("no HTLC of {amount_msat} msat: {entry}")))?;
        outpoint(&text(found, "outpoint")?)
    }

    /// Waits for Alice's spend of an output, tells it, checks its branch, and mines it.
    async fn step(
        &mut self,
        stage: &Stage,
        teller: &mut Teller,
        title: &str,
        spends: OutPoint,
        way: Way,
    ) -> Result<Transaction, DemoError> {
        let tx = look::waiting(stage, spends).await?;
        narrate(stage, teller, title, &tx).await?;
        let input = tx.input.iter().find(|i| i.previous_output == spends);
        let read = input.map(|i| Way::of(&i.witness).words().1).unwrap_or_default();
        teller.check("the branch is the one that is due", read, way.words().1);
        self.fees_sat.insert(tx.compute_txid(), stage.fee_sat(&tx).await?);
        stage.mine(1).await?;
        Ok(tx)
    }
}

/// The output with the index of the input that spends `spends`: what an HTLC transaction pays to.
pub fn paired(tx: &Transaction, spends: OutPoint) -> Result<OutPoint, DemoError> {
    let index = tx.input.iter().position(|i| i.previous_output == spends).and_then(|i| u32::try_from(i).ok());
    let vout = index.ok_or_else(|| DemoError::Odd(format!("{spends} is not spent there")))?;
    Ok(OutPoint { txid: tx.compute_txid(), vout })
}

/// Mines until the chain is so high.
pub async fn mine_to(stage: &Stage, height: u64) -> Result<(), DemoError> {
    let blocks = height.saturating_sub(stage.height().await?);
    if blocks > 0 {
        stage.mine(blocks).await?;
    }
    Ok(())
}

fn first(list: &Value) -> Result<String, DemoError> {
    let missing = || DemoError::Odd(format!("no txid in {list}"));
    list[0].as_str().map(String::from).ok_or_else(missing)
}
