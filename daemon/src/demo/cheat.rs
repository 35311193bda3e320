//! Bob publishes a balance snapshot that he has given up, and loses everything.
//!
//! In: two nodes at rest, a chain. Out: a channel in which Bob had half, all of it Alice's; every number is read from
//! the chain or from a node.
//! Read next: `look`, `alone`.

use super::look::{self, head, narrate, spent_output, the_output, Way};
use super::money::short;
use super::stage::{text, Stage, Who};
use super::story::{self, agreed, channel, wallet_sat, CAPACITY_SAT, TENTH_MSAT};
use super::tell::Teller;
use super::{wait_for, DemoError};
use serde_json::{json, Value};

/// The snapshot that is published: the first, with 0.4 for Alice and 0.6 for Bob.
const OLD: u64 = 0;

/// Tells it.
pub async fn cheat(stage: &mut Stage, teller: &mut Teller) -> Result<(), DemoError> {
    teller.chapter("Bob cheats: he publishes a snapshot that he has given up").await;
    stage.stop(Who::Bob).await?;
    stage.bob.dev = true;
    stage.start(Who::Bob).await?;
    teller.say("Bob starts again with --dev: an ordinary node keeps no snapshot that it has given up");
    story::give_coins(stage, Who::Bob).await?;
    story::open_channel(stage, Who::Bob, CAPACITY_SAT, 4 * TENTH_MSAT).await?;
    let old = agreed(stage, |s| s.htlcs.is_empty()).await?;
    teller.snapshot(&old);
    let params = json!({ "amount_msat": TENTH_MSAT, "label": "a tenth again", "description": "a tenth" });
    let invoice = stage.alice.call("invoice", params).await?;
    stage.bob.call("pay", json!({ "bolt11": invoice["bolt11"] })).await?;
    teller.say("Bob pays 0.1 BTC, and by revoking gives Alice the secret of the snapshot before");
    let newest = agreed(stage, |s| s.htlcs.is_empty() && s.number > old.number).await?;
    teller.snapshot(&newest);

    let before = [wallet_sat(&stage.alice.line()).await?, wallet_sat(&stage.bob.line()).await?];
    let ours = channel(stage, Who::Bob).await?;
    let id = text(&ours, "channel_id")?;
    let published = stage.bob.call("dev-broadcast-revoked", json!({ "id": id, "number": OLD })).await?;
    let txid = text(&published, "txid")?;
    stage.published(&txid).await?;
    let born = stage.mine(1).await?;
    teller.say(&format!("Bob publishes his old commitment {OLD}: {}, now in block {born}", head(&txid)));
    let entry = closed_entry(stage, Who::Alice, &id, |_| true).await?;
    let trigger = text(&entry["cause"], "trigger")?;
    teller.check("Alice's node knows it by its number", trigger.as_str(), "peer_revoked_commitment");
    let (mine, his) = (the_output(&entry, "to_remote")?, the_output(&entry, "to_local")?);
    let paid = spent_output(stage, mine).await?;
    teller.say(&format!("   {} BTC to Alice, who needs to wait for one block only", look::btc(&paid)));
    teller.check_money("in that snapshot Alice had", paid.value.to_sat() * 1_000, 4 * TENTH_MSAT);
    let kept = spent_output(stage, his).await?;
    let wait = &ours["our_to_self_delay"];
    teller.say(&format!("   {} BTC to Bob, after {wait} blocks: who closes waits", look::btc(&kept)));

    let own = look::waiting(stage, mine).await?;
    let penalty = look::waiting(stage, his).await?;
    narrate(stage, teller, "Alice's", &own).await?;
    narrate(stage, teller, "Alice's penalty", &penalty).await?;
    teller
        .say("   (that key is made of a secret of Alice's and of the one that Bob gave her when he revoked)");
    let way = penalty.input.first().map(|i| Way::of(&i.witness));
    teller.check("she takes Bob's by the revocation key", way == Some(Way::Penalty), true);
    let mut fees_sat = stage.fee_sat(&penalty).await?;
    if own.compute_txid() != penalty.compute_txid() {
        fees_sat += stage.fee_sat(&own).await?;
    }
    let height = stage.mine(1).await?;
    teller.say(&format!("both are in block {height}, long before Bob's delay is over"));
    let all_taken = |entry: &Value| {
        let state = |kind| look::outputs(entry, kind).ok()?.first().map(|o| o["state"].clone());
        let ours = Some(json!("taken by this node"));
        state("to_local") == ours && state("to_remote") == ours
    };
    closed_entry(stage, Who::Alice, &id, all_taken).await?;
    let now = [wallet_sat(&stage.alice.line()).await?, wallet_sat(&stage.bob.line()).await?];
    let taken = paid.value.to_sat() + kept.value.to_sat();
    teller.check_money(
        "Alice has on chain",
        now[0] * 1_000,
        (before[0] + taken).saturating_sub(fees_sat) * 1_000,
    );
    teller.check_money("Bob got back", now[1].saturating_sub(before[1]) * 1_000, 0);
    teller.say(&format!(
        "{} BTC were Bob's had he been honest; fees of the commitment and of Alice's transactions {} BTC",
        short(newest.bob_msat),
        short((CAPACITY_SAT - taken + fees_sat) * 1_000)
    ));
    Ok(())
}

/// The entry of one closed channel, once it is as wished.
pub async fn closed_entry(
    stage: &Stage,
    who: Who,
    id: &str,
    wished: impl Fn(&Value) -> bool,
) -> Result<Value, DemoError> {
    let line = stage.line(who);
    wait_for("the closed channel in the list", || async {
        let answer = line.call("listclosedchannels", json!({})).await.map_err(|e| e.to_string())?;
        let entries = answer["closedchannels"].as_array().cloned().unwrap_or_default();
        let found = entries.into_iter().find(|e| e["channel_id"] == id).ok_or("none")?;
        if wished(&found) {
            Ok(found)
        } else {
            Err(found["cause"].to_string())
        }
    })
    .await
}
