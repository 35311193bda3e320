//! The close by agreement, and both on-chain balances to the satoshi.
//!
//! In: a channel at rest. Out: two coins; every fee is read from the transaction that paid it.

use super::money::short;
use super::stage::{list, number, text, Stage, Who};
use super::story::{channel, wallet_sat};
use super::tell::Teller;
use super::{wait_for, DemoError};
use serde_json::{json, Value};

/// Closes the channel and looks at what is left.
pub async fn close(stage: &mut Stage, teller: &mut Teller, funding_fee_sat: u64) -> Result<(), DemoError> {
    teller.chapter("They close by agreement").await;
    let ours = [channel(stage, Who::Alice).await?, channel(stage, Who::Bob).await?];
    let (alice_msat, bob_msat) = (number(&ours[0], "to_us_msat")?, number(&ours[1], "to_us_msat")?);
    let before = [wallet_sat(&stage.alice.line()).await?, wallet_sat(&stage.bob.line()).await?];
    let capacity_sat = number(&ours[0], "total_msat")? / 1_000;

    let closed = stage.alice.call("close", json!({ "id": ours[0]["channel_id"] })).await?;
    teller.check("closed", text(&closed, "type")?.as_str(), "mutual");
    let txid = closed["txids"][0].as_str().or(closed["txid"].as_str());
    let txid = txid.ok_or_else(|| DemoError::Odd(format!("no txid in {closed}")))?.to_string();
    let tx = stage.published(&txid).await?;
    let fee_sat = stage.fee_sat(&tx).await?;
    let height = stage.mine(1).await?;
    let shown = txid.get(..20).unwrap_or_default();
    teller.say(&format!(
        "closing transaction {shown}… in block {height}, fee {fee_sat} sat, paid by Bob who opened"
    ));

    // Alice's half satoshi, if she has one, is too small for the chain: it is part of the fee.
    let alice_must = before[0] + alice_msat / 1_000;
    let bob_must = (before[1] + capacity_sat).saturating_sub(alice_msat / 1_000 + fee_sat);
    let must_be = [alice_must, bob_must];
    for (side, actor) in [&stage.alice, &stage.bob].into_iter().enumerate() {
        let line = actor.line();
        let arrived = || async {
            match wallet_sat(&line).await {
                Ok(now) if now != before[side] => Ok(now),
                Ok(now) => Err(format!("{now} sat")),
                Err(e) => Err(e.to_string()),
            }
        };
        let now = wait_for("the coin in the wallet", arrived).await?;
        teller.check_money(&format!("{} has on chain", actor.name), now * 1_000, must_be[side] * 1_000);
        let entry = closed_entry(stage, actor.name).await?;
        let last = [alice_msat, bob_msat][side];
        teller.check_money(
            &format!("{}'s last balance in the channel", actor.name),
            number(&entry, "final_to_us_msat")?,
            last,
        );
        teller.check(
            &format!("{}'s cause of the close", actor.name),
            text(&entry["cause"], "kind")?.as_str(),
            "mutual",
        );
    }
    all_of_it(stage, teller, before[1] + capacity_sat + funding_fee_sat, funding_fee_sat + fee_sat).await
}

/// The entry of the closed channel, once it is there.
async fn closed_entry(stage: &Stage, name: &str) -> Result<Value, DemoError> {
    let actor = if name == stage.alice.name { &stage.alice } else { &stage.bob };
    let line = actor.line();
    wait_for("the closed channel in the list", || async {
        let answer = line.call("listclosedchannels", json!({})).await.map_err(|e| e.to_string())?;
        let entries = list(&answer, "closedchannels").map_err(|e| e.to_string())?;
        entries.first().cloned().ok_or_else(|| "none".to_string())
    })
    .await
}

/// What came in at the start is there, or went to the miner.
async fn all_of_it(
    stage: &Stage,
    teller: &mut Teller,
    start_sat: u64,
    fees_sat: u64,
) -> Result<(), DemoError> {
    let (alice, bob) = (wallet_sat(&stage.alice.line()).await?, wallet_sat(&stage.bob.line()).await?);
    teller.say(&format!(
        "Bob came with {} BTC; fees of both transactions {} BTC",
        short(start_sat * 1_000),
        short(fees_sat * 1_000)
    ));
    teller.check_money(
        "Alice, Bob and the fees together",
        (alice + bob + fees_sat) * 1_000,
        start_sat * 1_000,
    );
    Ok(())
}
