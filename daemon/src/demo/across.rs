//! Alice pays Dave over channels that nobody shares: the route, the three HTLCs on it, and the secret's way back.
//!
//! In: two nodes that have met, and two new ones. Out: channels in a line, 0.05 BTC with Dave, 0.001 each for Bob and
//! Carol; the route is one that Alice found herself, every amount is read back from the nodes on it.
//! Read next: `silent` (when one on the way goes away).

use super::money::{short, BITCOIN_MSAT};
use super::stage::{list, number, random_hex, text, Actor, Stage, Who};
use super::story::{self, channel_between, sha256};
use super::tell::Teller;
use super::{wait_for, DemoError};
use serde_json::{json, Value};

/// What Dave is paid.
pub const AMOUNT_MSAT: u64 = BITCOIN_MSAT / 20;
/// What each on the way earns.
pub const FEE_MSAT: u64 = BITCOIN_MSAT / 1_000;
/// Blocks between two expiries: a day.
pub const DAY_BLOCKS: u64 = 144;
/// What each channel holds.
const CAPACITY_SAT: u64 = 20_000_000;
/// What the other side has of it at first.
const PUSHED_MSAT: u64 = 2_000_000_000;
/// Blocks after which everybody hears of a channel.
const ANNOUNCED_BLOCKS: u64 = 6;
/// Directions of the three channels.
const DIRECTIONS: usize = 6;

/// One payment of Alice's to Dave, under way.
pub struct Journey {
    /// Dave's secret.
    pub preimage: String,
    /// Its hash, the lock of all three HTLCs.
    pub hash: String,
    /// When each HTLC ends, Alice's first.
    pub expiries: [u64; 3],
}

/// Tells the payment that arrives.
pub async fn pay_dave(stage: &mut Stage, teller: &mut Teller) -> Result<(), DemoError> {
    teller.chapter("Four in a line: Alice pays Dave over channels that nobody shares").await;
    stage.start(Who::Carol).await?;
    stage.start(Who::Dave).await?;
    for who in [Who::Bob, Who::Carol] {
        story::give_coins(stage, who).await?;
    }
    for who in [Who::Alice, Who::Bob, Who::Carol] {
        open_next(stage, who).await?;
    }
    teller.say(&format!(
        "channels Alice–Bob, Bob–Carol and Carol–Dave of {} BTC each; Alice knows Bob, and has never met Dave",
        short(CAPACITY_SAT * 1_000)
    ));
    announce(stage).await?;
    teller.say("six blocks later each has announced its own, and Alice's map has all three");
    let before = shares(stage).await?;
    let journey = set_out(stage, teller, "the seed's").await?;
    come_back(stage, teller, &journey).await?;
    let after = shares(stage).await?;
    let earned = |who: usize| i128::from(after[who]) - i128::from(before[who]);
    teller.check("Alice paid", msat_text(-earned(0)), msat_text(i128::from(AMOUNT_MSAT + 2 * FEE_MSAT)));
    teller.check("Bob earned", msat_text(earned(1)), msat_text(FEE_MSAT.into()));
    teller.check("Carol earned", msat_text(earned(2)), msat_text(FEE_MSAT.into()));
    teller.check("Dave got", msat_text(earned(3)), msat_text(AMOUNT_MSAT.into()));
    Ok(())
}

/// Bitcoin with a sign.
fn msat_text(msat: i128) -> String {
    let size = u64::try_from(msat.unsigned_abs()).unwrap_or(u64::MAX);
    format!("{}{} BTC", if msat < 0 { "−" } else { "" }, short(size))
}

/// Who comes after whom in the line.
fn next(who: Who) -> Who {
    match who {
        Who::Alice => Who::Bob,
        Who::Bob => Who::Carol,
        _ => Who::Dave,
    }
}

/// Opens a channel to the next in the line, for everybody to see.
pub async fn open_next(stage: &Stage, who: Who) -> Result<(), DemoError> {
    let (opener, other) = (stage.node(who), stage.node(next(who)));
    let params = json!({ "amount": CAPACITY_SAT, "push_msat": PUSHED_MSAT, "announce": true });
    story::fund_channel(stage, opener, other, params).await?;
    stage.mine(1).await?;
    story::wait_ready(opener, other).await
}

/// Mines until the channels are deep enough, and waits until Alice knows of every one of them.
pub async fn announce(stage: &Stage) -> Result<(), DemoError> {
    stage.mine(ANNOUNCED_BLOCKS).await?;
    let mut scids = Vec::new();
    for pair in stage.nodes().windows(2) {
        scids.push(channel_between(pair[0], pair[1]).await?["short_channel_id"].clone());
    }
    let line = stage.alice.line();
    wait_for("Alice's map", || async {
        let known = line.try_call("listchannels", json!({})).await.map_err(|e| e.to_string())?;
        let known = list(&known, "channels").map_err(|e| e.to_string())?;
        let ours = known.iter().filter(|c| scids.contains(&c["short_channel_id"])).count();
        if ours == DIRECTIONS {
            Ok(())
        } else {
            Err(format!("{ours} directions of {DIRECTIONS}"))
        }
    })
    .await
}

/// What each of the four has in the three channels.
async fn shares(stage: &Stage) -> Result<[u64; 4], DemoError> {
    let mut shares = [0; 4];
    for (index, pair) in stage.nodes().windows(2).enumerate() {
        shares[index] += in_channel(pair[0], pair[1]).await?;
        shares[index + 1] += in_channel(pair[1], pair[0]).await?;
    }
    Ok(shares)
}

/// What a node has in its channel with another; what it offers counts as its own until it is paid.
pub async fn in_channel(actor: &Actor, peer: &Actor) -> Result<u64, DemoError> {
    number(&channel_between(actor, peer).await?, "to_us_msat")
}

/// Dave makes R, Alice finds a way and pays; returns when Dave holds the money, and R is still his alone.
pub async fn set_out(stage: &Stage, teller: &mut Teller, label: &str) -> Result<Journey, DemoError> {
    let [alice, bob, carol, dave] = stage.nodes();
    let preimage = random_hex()?;
    let hash = sha256(&preimage)?;
    let params = json!({
        "payment_hash": hash, "amount_msat": AMOUNT_MSAT, "label": label, "description": label, "cltv": DAY_BLOCKS,
    });
    let invoice = dave.call("holdinvoice", params).await?;
    teller.say(&format!("Dave makes a secret R, and an invoice with its hash {}", super::look::head(&hash)));
    let params = json!({ "id": dave.id, "amount_msat": AMOUNT_MSAT, "cltv": DAY_BLOCKS });
    let found = alice.call("getroute", params).await?;
    let route = list(&found, "route")?;
    teller.check("hops on the way that Alice finds", route.len(), 3);
    let height = stage.height().await?;
    let decoded = alice.call("decode", json!({ "string": invoice["bolt11"] })).await?;
    let params = json!({
        "route": route,
        "payment_hash": hash,
        "payment_secret": decoded["payment_secret"],
        "bolt11": invoice["bolt11"],
    });
    alice.call("sendpay", params).await?;
    let held = || async {
        let answer = dave.line().try_call("listinvoices", json!({ "payment_hash": hash })).await;
        let invoice = answer.map_err(|e| e.to_string())?["invoices"][0].clone();
        if invoice["hold"] == "accepted" {
            Ok(())
        } else {
            Err(invoice.to_string())
        }
    };
    wait_for("Dave to hold the payment", held).await?;

    let mut expiries = [0_u64; 3];
    for (hop, (from, to)) in [(alice, bob), (bob, carol), (carol, dave)].into_iter().enumerate() {
        let htlc = htlc_between(from, to, &hash).await?;
        let (amount, expiry) = (number(&htlc, "amount_msat")?, number(&htlc, "expiry")?);
        teller.say(&format!("{} offers {} an HTLC on that hash, until block {expiry}", from.name, to.name));
        let fees = [2 * FEE_MSAT, FEE_MSAT, 0][hop];
        teller.check_money("   it holds", amount, AMOUNT_MSAT + fees);
        if hop > 0 {
            let earlier = expiries[hop - 1].saturating_sub(expiry);
            teller.check("   blocks that it ends before the one before it: a day's", earlier, DAY_BLOCKS);
        }
        expiries[hop] = expiry;
    }
    let left = expiries[2].saturating_sub(height);
    teller.check(
        "Dave has a day, and spare blocks for the way",
        (DAY_BLOCKS..DAY_BLOCKS + 9).contains(&left),
        true,
    );
    Ok(Journey { preimage, hash, expiries })
}

/// The HTLC with that lock which a node offers another.
pub async fn htlc_between(from: &Actor, to: &Actor, hash: &str) -> Result<Value, DemoError> {
    let channel = channel_between(from, to).await?;
    let found = list(&channel, "htlcs")?.iter().find(|h| h["payment_hash"] == hash).cloned();
    found.ok_or_else(|| DemoError::Odd(format!("no HTLC on {hash} in {}", channel["htlcs"])))
}

/// Dave shows R, and it goes back hop by hop.
async fn come_back(stage: &Stage, teller: &mut Teller, journey: &Journey) -> Result<(), DemoError> {
    let [alice, bob, carol, dave] = stage.nodes();
    dave.call("settleinvoice", json!({ "preimage": journey.preimage })).await?;
    let paid = alice.call("waitsendpay", json!({ "payment_hash": journey.hash })).await?;
    teller.say(
        "Dave shows R to Carol for his 0.05; she shows it to Bob, Bob to Alice: each pays who showed it",
    );
    let [carols, bobs] = [ended(carol, &journey.hash).await?, ended(bob, &journey.hash).await?];
    for (one, row) in [(carol, &carols), (bob, &bobs)] {
        teller.check(&format!("{}'s part is", one.name), text(row, "status")?.as_str(), "settled");
        teller.check_money(&format!("{} earned with it", one.name), number(row, "fee_msat")?, FEE_MSAT);
    }
    let came = |row: &Value, field: &str| row[field].as_f64().unwrap_or_default();
    let forth = came(&bobs, "received_time") <= came(&carols, "received_time");
    let back = came(&carols, "resolved_time") <= came(&bobs, "resolved_time");
    teller.check("the HTLCs were offered from Alice to Dave", forth, true);
    teller.check("and settled from Dave to Alice", back, true);
    let learnt = sha256(&text(&paid, "payment_preimage")?)?;
    teller.check("R, which is Alice's receipt, has the hash", learnt, journey.hash.clone());
    for pair in stage.nodes().windows(2) {
        wait_gone(pair[0], pair[1]).await?;
    }
    Ok(())
}

/// What became of a payment that went on through a node, once it ended.
pub async fn ended(actor: &Actor, hash: &str) -> Result<Value, DemoError> {
    let line = actor.line();
    wait_for(&format!("the end of what went on through {}", actor.name), || async {
        let all = line.try_call("listforwards", json!({})).await.map_err(|e| e.to_string())?;
        let rows = list(&all, "forwards").map_err(|e| e.to_string())?;
        match rows.iter().find(|row| row["payment_hash"] == hash) {
            Some(row) if row["status"] != "offered" => Ok(row.clone()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

/// Waits until no HTLC is left between two.
pub async fn wait_gone(one: &Actor, other: &Actor) -> Result<(), DemoError> {
    for (actor, peer) in [(one, other), (other, one)] {
        wait_for(&format!("the last HTLC between {} and {} to be gone", one.name, other.name), || async {
            let channel = channel_between(actor, peer).await.map_err(|e| e.to_string())?;
            match channel["htlcs"].as_array().map_or(0, Vec::len) {
                0 => Ok(()),
                n => Err(format!("{n} left")),
            }
        })
        .await?;
    }
    Ok(())
}
