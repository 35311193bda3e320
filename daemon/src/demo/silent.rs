//! Carol goes silent with a payment across her: everybody gets back what is theirs, in the right order; and when Dave
//! shows R to nobody but the chain, everybody upstream is paid all the same.
//!
//! In: four nodes in a line. Out: the same after closes at their deadlines; every end is read from the chain, every fee
//! from the transaction that paid it.
//! Read next: `look`.

use super::across::{self, ended, in_channel, AMOUNT_MSAT, FEE_MSAT};
use super::alone::{mine_to, paired};
use super::cheat::closed_entry;
use super::look::{self, head, narrate, outpoint, spent_output, the_output, Way};
use super::stage::{number, text, Actor, Stage, Who};
use super::story::{channel_between, sha256, wallet_sat};
use super::tell::Teller;
use super::{wait_for, DemoError};
use bitcoin::{OutPoint, Transaction, Txid};
use serde_json::json;
use std::collections::BTreeMap;

/// Blocks after its expiry at which who offered an HTLC closes.
const GRACE_BLOCKS: u64 = 2;
/// Blocks before its expiry at which a payee closes whose R nobody took.
const CLAIM_BLOCKS: u64 = 12;
/// An end on chain counts for the payer when it is so many blocks deep.
const DEEP_BLOCKS: u64 = 7;
/// Whoever closes waits so many blocks on regtest.
const CSV_BLOCKS: u64 = 6;
/// The code of a payment that failed on its way.
const FAILED: i64 = 204;

/// A channel that somebody will close alone.
struct Close {
    who: Who,
    id: String,
    funding: OutPoint,
    /// In the wallet before.
    before_sat: u64,
    /// The block of the commitment, once there is one.
    born: u64,
}

/// Carol goes silent, and Dave shows R to nobody.
pub async fn without_the_secret(stage: &mut Stage, teller: &mut Teller) -> Result<(), DemoError> {
    teller.chapter("Carol goes silent: everybody gets back what is theirs, in the right order").await;
    let journey = across::set_out(stage, teller, "lost on the way").await?;
    let alices_msat = in_channel(&stage.alice, &stage.bob).await?;
    let daves_msat = in_channel(&stage.dave, &stage.carol).await?;
    let with_bob_msat = in_channel(&stage.carol, &stage.bob).await?;
    let mut bobs = Close::expected(stage, Who::Bob, &stage.carol).await?;
    let mut carols = Close::expected(stage, Who::Carol, &stage.dave).await?;
    stage.actor(Who::Carol).kill_9().await?;
    teller.say("kill -9: Carol is gone. Dave shows R to nobody, and the blocks go by");

    mine_to(stage, journey.expiries[1] + GRACE_BLOCKS).await?;
    bobs.published(stage, teller).await?;
    let htlc = bobs.htlc(stage).await?;
    bobs.step(stage, teller, "Bob takes his 0.051 back;", htlc, Way::Timeout).await?;
    stage.mine(DEEP_BLOCKS - 2).await?;
    let params = json!({ "payment_hash": journey.hash });
    let shown = stage.alice.call("listsendpays", params.clone()).await?;
    let status = text(&shown["payments"][0], "status")?;
    teller.check("while that is six blocks deep, Alice's payment is", status.as_str(), "pending");
    let height = stage.mine(1).await?;
    let told = match stage.alice.line().try_call("waitsendpay", params).await {
        Ok(_) => "paid".to_string(),
        Err(why) => format!("error {}", why.code().unwrap_or_default()),
    };
    teller.check("at seven Bob gives Alice her 0.052 back, and she is told", told, format!("error {FAILED}"));
    let left = journey.expiries[0].saturating_sub(height);
    teller.say(&format!(
        "that is {left} blocks before she could have taken it herself: their channel lives on"
    ));
    teller.check("first Bob has his, only then may Alice have hers", left > 0, true);
    across::wait_gone(&stage.alice, &stage.bob).await?;
    let now_msat = in_channel(&stage.alice, &stage.bob).await?;
    teller.check_money("Alice has in that channel what she had", now_msat, alices_msat);
    bobs.settled(stage, teller, htlc, None).await?;

    // He needs to do nothing for it.
    stage.stop(Who::Dave).await?;
    stage.start(Who::Carol).await?;
    teller.say("Carol is back: the time of her own HTLC is over as well, and Dave is asleep");
    carols.published(stage, teller).await?;
    let htlc = carols.htlc(stage).await?;
    carols.step(stage, teller, "Carol takes her 0.05 back;", htlc, Way::Timeout).await?;
    let entry = closed_entry(stage, Who::Carol, &bobs.id, |_| true).await?;
    let hers = the_output(&entry, "to_remote")?;
    let hers_msat = spent_output(stage, hers).await?.value.to_sat() * 1_000;
    teller.check_money("what was hers with Bob waited for her on the chain", hers_msat, with_bob_msat);
    carols.settled(stage, teller, htlc, Some(hers)).await?;
    dave_wakes(stage, teller, &carols, daves_msat).await
}

/// Dave finds the close on the chain, and his balance in it.
async fn dave_wakes(
    stage: &mut Stage,
    teller: &mut Teller,
    close: &Close,
    daves_msat: u64,
) -> Result<(), DemoError> {
    stage.start(Who::Dave).await?;
    let entry = closed_entry(stage, Who::Dave, &close.id, |_| true).await?;
    let his = the_output(&entry, "to_remote")?;
    let tx = spender(stage, his, close.born).await?;
    let sat = spent_output(stage, his).await?.value.to_sat();
    teller.check_money("Dave wakes up and takes what was his", sat * 1_000, daves_msat);
    let must_be = sat - stage.fee_sat(&tx).await?;
    let line = stage.dave.line();
    wait_for("Dave's coin", || async {
        match wallet_sat(&line).await {
            Ok(now) if now == must_be => Ok(()),
            Ok(now) => Err(format!("{now} sat, must be {must_be}")),
            Err(e) => Err(e.to_string()),
        }
    })
    .await
}

/// Carol goes silent again, and Dave shows R to the chain.
pub async fn with_the_secret(stage: &mut Stage, teller: &mut Teller) -> Result<(), DemoError> {
    teller.chapter("Dave's R comes out on the chain, and everybody upstream is paid").await;
    across::open_next(stage, Who::Bob).await?;
    across::open_next(stage, Who::Carol).await?;
    across::announce(stage).await?;
    teller.say("new channels Bob–Carol and Carol–Dave; Alice pays once more");
    let journey = across::set_out(stage, teller, "by way of the chain").await?;
    let before = in_line(stage).await?;
    let mut daves = Close::expected(stage, Who::Dave, &stage.carol).await?;
    stage.actor(Who::Carol).kill_9().await?;
    stage.dave.call("settleinvoice", json!({ "preimage": journey.preimage })).await?;
    teller.say("kill -9: Carol is gone. Dave shows R, and nobody hears it");

    mine_to(stage, journey.expiries[2] - CLAIM_BLOCKS).await?;
    daves.published(stage, teller).await?;
    let htlc = daves.htlc(stage).await?;
    let tx = daves.step(stage, teller, "Dave takes his 0.05 with R;", htlc, Way::Success).await?;
    let input = tx.input.iter().find(|i| i.previous_output == htlc);
    let shown = input.and_then(|i| i.witness.nth(3)).unwrap_or_default();
    let shown = sha256(&chand_protocol::id::to_hex(shown))?;
    teller.check("the R that all can read there has the hash", shown, journey.hash.clone());

    stage.start(Who::Carol).await?;
    teller.say("Carol is back, reads R on the chain, and shows it to Bob, who shows it to Alice");
    let paid = stage.alice.call("waitsendpay", json!({ "payment_hash": journey.hash })).await?;
    let learnt = sha256(&text(&paid, "payment_preimage")?)?;
    teller.check("Alice has her receipt, with the hash", learnt, journey.hash.clone());
    across::wait_gone(&stage.alice, &stage.bob).await?;
    across::wait_gone(&stage.bob, &stage.carol).await?;
    let now = in_line(stage).await?;
    let paid = AMOUNT_MSAT + 2 * FEE_MSAT;
    teller.check_money("Alice paid Bob", before[0].saturating_sub(now[0]), paid);
    teller.check_money("Bob paid Carol", before[1].saturating_sub(now[1]), paid - FEE_MSAT);
    for actor in [&stage.bob, &stage.carol] {
        let row = ended(actor, &journey.hash).await?;
        let earned = if row["status"] == "settled" { number(&row, "fee_msat")? } else { 0 };
        teller.check_money(&format!("{} earned", actor.name), earned, FEE_MSAT);
    }
    let left = journey.expiries[1].saturating_sub(stage.height().await?);
    teller.check(
        "Carol had time to learn of it: blocks left are more than a day's",
        left > across::DAY_BLOCKS,
        true,
    );
    daves.settled(stage, teller, htlc, None).await
}

/// What Alice has in her channel with Bob, and Bob in his with Carol.
async fn in_line(stage: &Stage) -> Result<[u64; 2], DemoError> {
    Ok([in_channel(&stage.alice, &stage.bob).await?, in_channel(&stage.bob, &stage.carol).await?])
}

impl Close {
    /// Remembers how things stand before.
    async fn expected(stage: &Stage, who: Who, peer: &Actor) -> Result<Close, DemoError> {
        let channel = channel_between(stage.node(who), peer).await?;
        let txid = text(&channel, "funding_txid")?;
        let funding = outpoint(&format!("{txid}:{}", number(&channel, "funding_outnum")?))?;
        let before_sat = wallet_sat(&stage.line(who)).await?;
        Ok(Close { who, id: text(&channel, "channel_id")?, funding, before_sat, born: 0 })
    }

    /// Waits for the commitment, and mines it.
    async fn published(&mut self, stage: &Stage, teller: &mut Teller) -> Result<(), DemoError> {
        let tx = look::waiting(stage, self.funding).await?;
        self.born = stage.mine(1).await?;
        let name = stage.node(self.who).name;
        let txid = head(&tx.compute_txid().to_string());
        teller.say(&format!("{name} closes alone: the commitment {txid} is in block {}", self.born));
        let entry = closed_entry(stage, self.who, &self.id, |_| true).await?;
        let trigger = text(&entry["cause"], "trigger")?;
        teller.check(&format!("{name}'s node remembers why"), trigger.as_str(), "htlc_deadline");
        Ok(())
    }

    /// The one HTLC in it.
    async fn htlc(&self, stage: &Stage) -> Result<OutPoint, DemoError> {
        the_output(&closed_entry(stage, self.who, &self.id, |_| true).await?, "htlc")
    }

    /// Waits for the HTLC's transaction, tells it, checks its branch, and mines it.
    async fn step(
        &self,
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
        stage.mine(1).await?;
        Ok(tx)
    }

    /// Waits until the balance and the HTLC are in the wallet, and what the same node has `elsewhere`, and compares that
    /// with what it held before.
    async fn settled(
        &self,
        stage: &Stage,
        teller: &mut Teller,
        htlc: OutPoint,
        elsewhere: Option<OutPoint>,
    ) -> Result<(), DemoError> {
        let entry = closed_entry(stage, self.who, &self.id, |_| true).await?;
        // Whoever closes waits, twice at most: for the balance and after the HTLC's transaction.
        stage.mine(CSV_BLOCKS).await?;
        let own = the_output(&entry, "to_local")?;
        let mut fees_sat: BTreeMap<Txid, u64> = BTreeMap::new();
        let first = spender(stage, htlc, self.born).await?;
        let second = spender(stage, paired(&first, htlc)?, self.born).await?;
        let mut all = vec![first, second, spender(stage, own, self.born).await?];
        let mut must_be = self.before_sat;
        if let Some(outpoint) = elsewhere {
            all.push(spender(stage, outpoint, self.born).await?);
        }
        for outpoint in [Some(own), Some(htlc), elsewhere].into_iter().flatten() {
            must_be += spent_output(stage, outpoint).await?.value.to_sat();
        }
        // A child that carried the commitment, should it have needed one, spends the anchor, too.
        let anchor = the_output(&entry, "anchor_owner")?;
        if let Some(child) = look::mined(stage, anchor, self.born).await? {
            must_be += spent_output(stage, anchor).await?.value.to_sat();
            all.push(child);
        }
        for tx in all {
            fees_sat.insert(tx.compute_txid(), stage.fee_sat(&tx).await?);
        }
        must_be = must_be.saturating_sub(fees_sat.values().sum());
        let now = wallet_sat(&stage.line(self.who)).await?;
        let name = stage.node(self.who).name;
        teller.check_money(
            &format!("{name} has it all on chain, less own fees"),
            now * 1_000,
            must_be * 1_000,
        );
        Ok(())
    }
}

/// The transaction that spends an output, in a block: one that waits for it is mined.
async fn spender(stage: &Stage, output: OutPoint, since: u64) -> Result<Transaction, DemoError> {
    if let Some(tx) = look::mined(stage, output, since).await? {
        return Ok(tx);
    }
    let tx = look::waiting(stage, output).await?;
    stage.mine(1).await?;
    Ok(tx)
}
