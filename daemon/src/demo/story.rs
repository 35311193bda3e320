//! What happens: a chain, two nodes, one channel; a payment, HTLCs in both directions, a thousand small payments
//! with a murder in the middle, and a close by agreement; a second channel and a cheat; a third, closed by one alone;
//! then four nodes in a line, and payments across channels that nobody shares.
//!
//! In: the stage. Out: the same story every time, with the numbers that the nodes gave this time.
//! Read next: `rush` (the thousand), `ending` (the close), `cheat`, `alone`, `across` (four in a line), `silent`.

use super::money::{short, BITCOIN_MSAT};
use super::stage::{list, number, random_hex, text, Actor, Line, Stage, Who};
use super::tell::{ShownHtlc, ShownSnapshot, Teller};
use super::{across, alone, cheat, ending, rush, silent, wait_for, DemoError};
use chand_protocol::id::to_hex;
use serde_json::{json, Value};
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;

/// A tenth of a bitcoin.
pub const TENTH_MSAT: u64 = BITCOIN_MSAT / 10;
/// A hundredth.
pub const CENT_MSAT: u64 = BITCOIN_MSAT / 100;
/// What the channel holds.
pub const CAPACITY_SAT: u64 = BITCOIN_MSAT / 1_000;
/// What Bob is given on chain: the channel, and enough for fees.
const BOBS_COIN_SAT: u64 = CAPACITY_SAT + CAPACITY_SAT / 100;

/// Tells all of it.
pub async fn tell(stage: &mut Stage, teller: &mut Teller) -> Result<(), DemoError> {
    set_up(stage, teller).await?;
    let funding_fee_sat = open(stage, teller).await?;
    pay(stage, teller).await?;
    hold(stage, teller).await?;
    rush::thousand(stage, teller).await?;
    ending::close(stage, teller, funding_fee_sat).await?;
    cheat::cheat(stage, teller).await?;
    alone::close_alone(stage, teller).await?;
    across::pay_dave(stage, teller).await?;
    silent::without_the_secret(stage, teller).await?;
    silent::with_the_secret(stage, teller).await
}

async fn set_up(stage: &mut Stage, teller: &mut Teller) -> Result<(), DemoError> {
    teller.chapter("A chain, Alice and Bob").await;
    stage.start_chain().await?;
    let info = stage.chain("getblockchaininfo", json!([])).await?;
    let height = number(&info, "blocks")?;
    teller.say(&format!("a Bitcoin {} chain of our own, {height} blocks high", text(&info, "chain")?));
    stage.start(Who::Alice).await?;
    stage.start(Who::Bob).await?;
    for actor in [&stage.alice, &stage.bob] {
        let pid = actor.pid().unwrap_or_default();
        let id = actor.id.get(..20).unwrap_or_default();
        teller.say(&format!(
            "{:<5} is process {pid}, node {id}…, listening on 127.0.0.1:{}",
            actor.name, actor.port
        ));
    }
    give_coins(stage, Who::Bob).await?;
    let (alice, bob) = (wallet_sat(&stage.alice.line()).await?, wallet_sat(&stage.bob.line()).await?);
    teller.say(&format!("on chain Alice has {} BTC, Bob {} BTC", short(alice * 1_000), short(bob * 1_000)));
    Ok(())
}

/// Gives a node a coin of the faucet's, enough for the channel and its fees.
pub async fn give_coins(stage: &Stage, who: Who) -> Result<(), DemoError> {
    let line = stage.line(who);
    let before = wallet_sat(&line).await?;
    let address = line.call("newaddr", json!({ "addresstype": "bech32" })).await?;
    let coins = json!([text(&address, "bech32")?, f64_bitcoin(BOBS_COIN_SAT)]);
    stage.chain("sendtoaddress", coins).await?;
    stage.mine(1).await?;
    wallet_of(&line, before + BOBS_COIN_SAT).await?;
    Ok(())
}

/// `sendtoaddress` takes bitcoin; eight decimals of the amounts used here are exact in a double.
fn f64_bitcoin(sat: u64) -> Value {
    let text = super::money::fixed(sat.saturating_mul(1_000));
    text.parse::<f64>().map_or(Value::Null, Value::from)
}

/// The confirmed coins of a node, in satoshi.
pub async fn wallet_sat(line: &Line) -> Result<u64, DemoError> {
    let funds = line.call("listfunds", json!({})).await?;
    let mut msat = 0_u64;
    for coin in list(&funds, "outputs")?.iter().filter(|c| c["status"] == "confirmed") {
        msat = msat.saturating_add(number(coin, "amount_msat")?);
    }
    Ok(msat / 1_000)
}

/// The same, once it has reached what it must; else what it is after waiting.
async fn wallet_of(line: &Line, sat: u64) -> Result<u64, DemoError> {
    wait_for("coins in the wallet", || async {
        match wallet_sat(line).await {
            Ok(now) if now == sat => Ok(now),
            Ok(now) => Err(format!("{now} sat")),
            Err(e) => Err(e.to_string()),
        }
    })
    .await
}

/// Opens the channel; the fee of the funding transaction, in satoshi.
async fn open(stage: &mut Stage, teller: &mut Teller) -> Result<u64, DemoError> {
    teller.chapter("One channel between the two").await;
    let (fee, height) =
        open_channel_told(stage, Who::Bob, CAPACITY_SAT, 4 * TENTH_MSAT, Some(teller)).await?;
    let channel = channel(stage, Who::Bob).await?;
    let funding = &channel["funding"];
    teller.say(&format!("confirmed in block {height}; both nodes say {}", text(&channel, "state")?));
    teller.say(&format!(
        "(a channel of this kind is funded by one side: Bob put in {} BTC and at once gave Alice {} BTC of it)",
        short(number(funding, "local_funds_msat")?),
        short(number(funding, "pushed_msat")?)
    ));
    let first = agreed(stage, |s| s.htlcs.is_empty()).await?;
    teller.snapshot(&first);
    teller.check_money("Alice has", first.alice_msat, 4 * TENTH_MSAT);
    teller.check_money("Bob has", first.bob_msat, 6 * TENTH_MSAT);
    teller.check_money("the channel holds", number(&channel, "total_msat")?, BITCOIN_MSAT);
    Ok(fee)
}

/// Opens another channel, without words.
pub async fn open_channel(
    stage: &Stage,
    opener: Who,
    capacity_sat: u64,
    push_msat: u64,
) -> Result<(), DemoError> {
    open_channel_told(stage, opener, capacity_sat, push_msat, None).await.map(|_| ())
}

/// Opens a channel and waits until both can use it: the fee of its funding transaction, and the height of its block.
async fn open_channel_told(
    stage: &Stage,
    opener: Who,
    capacity_sat: u64,
    push_msat: u64,
    teller: Option<&Teller>,
) -> Result<(u64, u64), DemoError> {
    let other = opener.other();
    let opener = stage.node(opener);
    let params = json!({ "amount": capacity_sat, "push_msat": push_msat, "announce": false });
    let tx = fund_channel(stage, opener, stage.node(other), params).await?;
    let txid = tx.compute_txid().to_string();
    let fee = stage.fee_sat(&tx).await?;
    if let Some(teller) = teller {
        let shown = txid.get(..20).unwrap_or_default();
        teller.say(&format!("{}'s funding transaction {shown}…, fee {fee} sat", opener.name));
    }
    let height = stage.mine(1).await?;
    wait_open(stage).await?;
    Ok((fee, height))
}

/// Connects, begins to open a channel, and returns its funding transaction once the chain has it.
pub async fn fund_channel(
    stage: &Stage,
    opener: &Actor,
    other: &Actor,
    mut params: Value,
) -> Result<bitcoin::Transaction, DemoError> {
    opener.call("connect", json!({ "id": other.id, "host": "127.0.0.1", "port": other.port })).await?;
    params["id"] = json!(other.id);
    let txid = text(&opener.call("fundchannel", params).await?, "txid")?;
    stage.published(&txid).await
}

/// Waits until Alice and Bob can use their channel.
pub async fn wait_open(stage: &Stage) -> Result<(), DemoError> {
    wait_ready(&stage.alice, &stage.bob).await
}

/// Waits until both can use their channel.
pub async fn wait_ready(one: &Actor, other: &Actor) -> Result<(), DemoError> {
    for (actor, peer) in [(one, other), (other, one)] {
        let line = actor.line();
        let ready = || async {
            let params = json!({ "id": peer.id });
            let answer = line.try_call("listpeerchannels", params).await.map_err(|e| e.to_string())?;
            let channel = living(&answer).cloned().unwrap_or_default();
            if channel["state"] == "CHANNELD_NORMAL" && channel["peer_connected"] == true {
                return Ok(());
            }
            Err(format!("{}, connected: {}", channel["state"], channel["peer_connected"]))
        };
        wait_for(&format!("{}'s channel to be in use", actor.name), ready).await?;
    }
    Ok(())
}

/// The channel of an answer of `listpeerchannels` that is not on chain: closed ones are listed for a while.
fn living(answer: &Value) -> Option<&Value> {
    let on_chain = ["ONCHAIN", "AWAITING_UNILATERAL", "CLOSINGD_COMPLETE"];
    let lives = |c: &&Value| !on_chain.iter().any(|state| c["state"] == *state);
    answer["channels"].as_array()?.iter().find(lives)
}

/// The one channel in use, as one of the two sees it.
pub async fn channel(stage: &Stage, who: Who) -> Result<Value, DemoError> {
    channel_between(stage.node(who), stage.node(who.other())).await
}

/// The one channel in use between two, as the first sees it.
pub async fn channel_between(actor: &Actor, peer: &Actor) -> Result<Value, DemoError> {
    let answer = actor.call("listpeerchannels", json!({ "id": peer.id })).await?;
    living(&answer).cloned().ok_or_else(|| DemoError::Odd(format!("{} has no channel", actor.name)))
}

/// The newest snapshot of both, once both have the same and it is as wished.
pub async fn agreed(
    stage: &Stage,
    wished: impl Fn(&ShownSnapshot) -> bool,
) -> Result<ShownSnapshot, DemoError> {
    let (alice, bob) = (stage.alice.line(), stage.bob.line());
    let (alices_peer, bobs_peer) = (stage.bob.id.as_str(), stage.alice.id.as_str());
    wait_for("both to have signed the same snapshot", || async {
        let ours = snapshots(&alice, alices_peer, Who::Alice).await.map_err(|e| e.to_string())?;
        let theirs = snapshots(&bob, bobs_peer, Who::Bob).await.map_err(|e| e.to_string())?;
        match (ours.first(), theirs.first()) {
            (Some(a), Some(b))
                if a.status == "current" && b.status == "current" && same(a, b) && wished(a) =>
            {
                Ok(a.clone())
            }
            (a, b) => Err(format!("Alice {a:?}, Bob {b:?}")),
        }
    })
    .await
}

/// The number of each one's commitment is its own; all else must be the same.
fn same(a: &ShownSnapshot, b: &ShownSnapshot) -> bool {
    (a.alice_msat, a.bob_msat, &a.htlcs) == (b.alice_msat, b.bob_msat, &b.htlcs)
}

/// The snapshots that a node signed, newest first.
async fn snapshots(line: &Line, peer: &str, who: Who) -> Result<Vec<ShownSnapshot>, DemoError> {
    let answer = line.call("listsnapshots", json!({ "channel_id": peer, "limit": 3 })).await?;
    list(&answer, "snapshots")?.iter().map(|s| shown(s, who)).collect()
}

/// Turns one side's words into what is shown.
fn shown(snapshot: &Value, who: Who) -> Result<ShownSnapshot, DemoError> {
    let (ours, theirs) = (number(snapshot, "our_msat")?, number(snapshot, "their_msat")?);
    let (alice_msat, bob_msat) = if who == Who::Alice { (ours, theirs) } else { (theirs, ours) };
    let mut htlcs = Vec::new();
    for htlc in list(snapshot, "htlcs")? {
        let alice_pays = (htlc["direction"] == "out") == (who == Who::Alice);
        htlcs.push(ShownHtlc {
            way: if alice_pays { "Alice → Bob" } else { "Bob → Alice" }.into(),
            amount_msat: number(htlc, "amount_msat")?,
            hash: text(htlc, "payment_hash")?,
            expiry: number(htlc, "expiry")?,
        });
    }
    htlcs.sort();
    Ok(ShownSnapshot {
        number: number(snapshot, "number")?,
        status: text(snapshot, "status")?,
        alice_msat,
        bob_msat,
        htlcs,
    })
}

async fn pay(stage: &mut Stage, teller: &mut Teller) -> Result<(), DemoError> {
    teller.chapter("Bob pays Alice").await;
    let before = agreed(stage, |s| s.htlcs.is_empty()).await?;
    let params =
        json!({ "amount_msat": TENTH_MSAT, "label": "a tenth", "description": "a tenth of a bitcoin" });
    let invoice = stage.alice.call("invoice", params).await?;
    let paid = stage.bob.call("pay", json!({ "bolt11": invoice["bolt11"] })).await?;
    let amount = number(&paid, "amount_msat")?;
    let fee = number(&paid, "amount_sent_msat")?.saturating_sub(amount);
    teller.say(&format!("paid {} BTC, fee {fee} msat; the preimage is Bob's receipt", short(amount)));
    let preimage = text(&paid, "payment_preimage")?;
    teller.check("its hash is that of the invoice", sha256(&preimage)?, text(&invoice, "payment_hash")?);
    let after = agreed(stage, |s| s.htlcs.is_empty() && s.number > before.number).await?;
    teller.snapshot(&after);
    teller.check_money("Alice has", after.alice_msat, 5 * TENTH_MSAT);
    teller.check_money("Bob has", after.bob_msat, 5 * TENTH_MSAT);
    let all = snapshots(&stage.alice.line(), &stage.bob.id, Who::Alice).await?;
    for old in all.iter().skip(1) {
        teller.check(&format!("snapshot {} is", old.number), old.status.as_str(), "revoked");
    }
    Ok(())
}

/// A payment that its payee holds.
pub struct Held {
    label: &'static str,
    to: Line,
    from: Line,
    amount_msat: u64,
    preimage: String,
    paying: JoinHandle<Result<Value, DemoError>>,
}

/// Begins to pay a hold invoice.
pub async fn begin(from: Line, to: Line, label: &'static str, amount_msat: u64) -> Result<Held, DemoError> {
    let preimage = random_hex()?;
    let params = json!({
        "payment_hash": sha256(&preimage)?,
        "amount_msat": amount_msat,
        "label": label,
        "description": label,
    });
    let invoice = to.call("holdinvoice", params).await?;
    let payer = from.clone();
    let paying = tokio::spawn(async move { payer.call("pay", json!({ "bolt11": invoice["bolt11"] })).await });
    Ok(Held { label, to, from, amount_msat, preimage, paying })
}

impl Held {
    /// Its R.
    pub fn preimage(&self) -> &str {
        &self.preimage
    }

    /// Its lock.
    pub fn hash(&self) -> Result<String, DemoError> {
        sha256(&self.preimage)
    }

    fn to_alice(&self) -> bool {
        self.to.name == "Alice"
    }

    /// The payee shows R and has the money.
    async fn settle(self, teller: &mut Teller) -> Result<(), DemoError> {
        self.to.call("settleinvoice", json!({ "preimage": self.preimage })).await?;
        let paid = self.paying.await.map_err(|e| DemoError::Odd(e.to_string()))??;
        let what = format!("{} shows R of “{}”, {} learns it", self.to.name, self.label, self.from.name);
        let learnt = text(&paid, "payment_preimage")?;
        // R is worth money no longer: it is known to both, and only its hash is shown.
        teller.check(
            &what,
            format!("hash {}", head(&sha256(&learnt)?)),
            format!("hash {}", head(&sha256(&self.preimage)?)),
        );
        Ok(())
    }

    /// The payee gives it back.
    async fn give_back(self, teller: &mut Teller) -> Result<(), DemoError> {
        self.to.call("cancelinvoice", json!({ "payment_hash": sha256(&self.preimage)? })).await?;
        let outcome = self.paying.await.map_err(|e| DemoError::Odd(e.to_string()))?;
        let what = format!("{} gives “{}” back, {} is told", self.to.name, self.label, self.from.name);
        let told = match outcome {
            Ok(_) => "paid".to_string(),
            Err(DemoError::Call { why, .. }) => format!("error {}", why.code().unwrap_or_default()),
            Err(e) => return Err(e),
        };
        teller.check(&what, told.as_str(), "error 203");
        Ok(())
    }
}

fn head(hex: &str) -> String {
    format!("{}…", hex.get(..16).unwrap_or(hex))
}

async fn hold(stage: &mut Stage, teller: &mut Teller) -> Result<(), DemoError> {
    teller.chapter("Payments under way at once, both ways, each locked by a hash and a block height").await;
    let before = agreed(stage, |s| s.htlcs.is_empty()).await?;
    let (alice, bob) = (stage.alice.line(), stage.bob.line());
    let plan = [
        (&bob, &alice, "rent", 5),
        (&bob, &alice, "tea", 3),
        (&alice, &bob, "books", 2),
        (&alice, &bob, "stamps", 1),
    ];
    let mut held = Vec::new();
    for (from, to, label, cents) in plan {
        held.push(begin(from.clone(), to.clone(), label, cents * CENT_MSAT).await?);
    }
    let all = agreed(stage, |s| s.htlcs.len() == held.len()).await?;
    teller.snapshot(&all);
    let sum = |to_alice: bool, held: &[Held]| -> u64 {
        held.iter().filter(|h| h.to_alice() == to_alice).map(|h| h.amount_msat).sum()
    };
    let (mut alice_msat, mut bob_msat) =
        (before.alice_msat - sum(false, &held), before.bob_msat - sum(true, &held));
    teller.check_money("Alice has, without what is under way", all.alice_msat, alice_msat);
    teller.check_money("Bob has, without what is under way", all.bob_msat, bob_msat);

    for (step, one) in held.into_iter().enumerate() {
        let amount = one.amount_msat;
        // The third is given back, the others are taken.
        let (given_back, to_alice) = (step == 2, one.to_alice());
        if given_back {
            one.give_back(teller).await?;
        } else {
            one.settle(teller).await?;
        }
        if to_alice != given_back {
            alice_msat += amount;
        } else {
            bob_msat += amount;
        }
        let left = plan.len() - step - 1;
        let now = agreed(stage, |s| s.htlcs.len() == left).await?;
        if step == 0 || step == 2 || left == 0 {
            teller.snapshot(&now);
        }
        teller.check_money("Alice has", now.alice_msat, alice_msat);
        teller.check_money("Bob has", now.bob_msat, bob_msat);
    }
    Ok(())
}

/// SHA-256 of bytes in hex, in hex.
pub fn sha256(hex: &str) -> Result<String, DemoError> {
    use bitcoin::hex::FromHex;
    let bytes = Vec::<u8>::from_hex(hex).map_err(|e| DemoError::Odd(format!("not hex: {e}")))?;
    Ok(to_hex(&Sha256::digest(bytes)))
}
