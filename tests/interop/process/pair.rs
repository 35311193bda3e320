//! One chand, one LDK, the embedded chain, and one channel between the two whose balance is known to the msat.
//!
//! In: who opens, and which kind. Out: a channel in use; `settled` compares all that either side says of it with what
//! the test expects: chand's books, LDK's channel, and what LDK's watcher of the chain would claim.
//! Read next: `steps`.

use crate::ldk::Ldk;
use chand_tests::books::{balance_adds_up, msat};
use chand_tests::{wait_for, wait_until, Chain, ChannelType, Node};
use serde_json::{json, Value};
use tempfile::TempDir;

/// The size of every channel here, in satoshi.
pub const CAPACITY_SAT: u64 = 1_000_000;
/// Given to the side that did not open, in millisatoshi.
pub const PUSHED_MSAT: u64 = 300_000_000;
/// LDK waits so long before it uses a channel that others opened.
const LDK_CONFIRMATIONS: u64 = 6;
/// Two anchor outputs, which the opener pays for (BOLT 3).
const ANCHORS_MSAT: u64 = 660_000;

/// Who pays for the channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Opener {
    /// chand.
    Us,
    /// LDK.
    Ldk,
}

/// Both nodes and their channel. The nodes end before the chain does.
#[derive(Debug)]
pub struct Pair {
    /// The node under test.
    pub us: Node,
    /// The judge.
    pub ldk: Ldk,
    /// Their chain.
    pub chain: Chain,
    /// Who opened the channel.
    pub opener: Opener,
    /// Its kind.
    pub kind: ChannelType,
    /// The channel.
    pub channel_id: String,
    /// The transaction that pays into it.
    pub funding_txid: String,
    /// What is ours in it, as the payments made so far have it.
    pub ours_msat: u64,
    labels: u64,
    _dir: TempDir,
}

impl Pair {
    /// Both started, with coins, no channel yet. `seed` gives LDK an identity of its own.
    ///
    /// # Panics
    /// When anything does not come up.
    pub fn strangers(opener: Opener, kind: ChannelType, seed: u8) -> Pair {
        let dir = tempfile::Builder::new().prefix("chand-ldk-").tempdir().expect("a temporary folder");
        let chain = Chain::start(dir.path());
        let us = Node::start("chand", dir.path(), &chain, &["--dev"]);
        // LDK opens with anchors unless it is told not to know them.
        let plain = kind == ChannelType::StaticRemoteKey && opener == Opener::Ldk;
        let ldk = Ldk::start(dir.path(), &chain, seed, if plain { &["--no-anchors"] } else { &[] });
        let (channel_id, funding_txid) = (String::new(), String::new());
        let pair = Pair {
            us,
            ldk,
            chain,
            opener,
            kind,
            channel_id,
            funding_txid,
            ours_msat: 0,
            labels: 0,
            _dir: dir,
        };
        for address in [pair.us.new_address(), pair.ldk.new_address()] {
            pair.chain.send(&address, 10 * CAPACITY_SAT);
        }
        pair.mine(1);
        wait_until("coins of ours", || pair.us.wallet_sat() == 10 * CAPACITY_SAT);
        wait_until("coins of LDK's", || pair.ldk_sat() == 10 * CAPACITY_SAT);
        pair
    }

    /// The same with a channel in use.
    ///
    /// # Panics
    /// When anything goes wrong.
    pub fn with_channel(opener: Opener, kind: ChannelType, seed: u8) -> Pair {
        let mut pair = Pair::strangers(opener, kind, seed);
        pair.open();
        pair
    }

    /// Opens a channel and waits until both can use it. LDK's channels with anchors are public ones.
    ///
    /// # Panics
    /// When it does not open.
    pub fn open(&mut self) {
        self.connect();
        let known = self.ldk.events().len();
        match self.opener {
            Opener::Us => {
                let funded = self.us.call(
                    "fundchannel",
                    json!({
                        "id": self.ldk.id(),
                        "amount": CAPACITY_SAT,
                        "push_msat": PUSHED_MSAT,
                        "announce": false,
                        "channel_type": self.kind.bits(),
                    }),
                );
                self.ours_msat = CAPACITY_SAT * 1000 - PUSHED_MSAT;
                assert_eq!(funded["channel_type"]["bits"], json!(self.kind.bits()), "{funded}");
            }
            Opener::Ldk => {
                let public = if self.kind == ChannelType::Anchors { "public" } else { "private" };
                let (id, at) = (self.us.id(), self.us.address());
                self.ldk.call(&format!("open {id} {at} {CAPACITY_SAT} {PUSHED_MSAT} {public}"));
                self.ours_msat = PUSHED_MSAT;
            }
        }
        let pending = wait_for("LDK to know the channel's funding", || {
            let events = self.ldk.events();
            let pending = events.iter().skip(known).find(|e| e["event"] == "channel-pending");
            pending.cloned().ok_or_else(|| "no channel-pending".to_string())
        });
        self.channel_id = pending["channel_id"].as_str().expect("channel_id").into();
        self.funding_txid = pending["funding_txid"].as_str().expect("funding_txid").into();
        wait_until("the funding transaction", || self.chain.mempool().contains(&self.funding_txid));
        self.mine(LDK_CONFIRMATIONS);
        self.wait_usable();
        assert_eq!(self.our_channel()["channel_type"]["bits"], json!(self.kind.bits()));
        assert_eq!(self.our_channel()["funding_txid"], json!(self.funding_txid));
        let paid_in: u64 =
            self.chain.transaction(&self.funding_txid).output.iter().map(|o| o.value.to_sat()).sum();
        assert!(paid_in >= CAPACITY_SAT);
        self.settled("opened");
    }

    /// Links the two, from our side.
    ///
    /// # Panics
    /// When LDK cannot be reached.
    pub fn connect(&self) {
        let params = json!({ "id": self.ldk.id(), "host": "127.0.0.1", "port": self.ldk.port() });
        wait_for("a link to LDK", || self.us.try_call("connect", params.clone()).map_err(|e| e.to_string()));
        // We have LDK's `init`; until it has ours it would dial itself, and cross ours.
        wait_for("LDK to have our init", || {
            let peers = self.ldk.call("peers");
            let connected = peers["connected"].as_array().expect("connected");
            if connected.iter().any(|id| id == self.us.id()) {
                Ok(())
            } else {
                Err(peers.to_string())
            }
        });
    }

    /// Waits until both sides can use the channel, linking them again when they are not.
    ///
    /// # Panics
    /// When that does not come.
    pub fn wait_usable(&self) {
        wait_for("a channel in use", || {
            let (ours, theirs) = (self.our_channel(), self.ldk_channel());
            if ours["state"] == "CHANNELD_NORMAL" && ours["reestablished"] == true && theirs["usable"] == true
            {
                return Ok(());
            }
            if ours["peer_connected"] != true || theirs["usable"] != true {
                let params = json!({ "id": self.ldk.id(), "host": "127.0.0.1", "port": self.ldk.port() });
                // Refused while either side still holds on to the link before.
                let _ = self.us.try_call("connect", params);
            }
            let now = self.our_channel();
            Err(format!(
                "{} {} {}, LDK: {}",
                now["state"], now["peer_connected"], now["status"], theirs["usable"]
            ))
        });
    }

    /// Mines blocks and waits until both know them.
    ///
    /// # Panics
    /// When they do not.
    pub fn mine(&self, blocks: u64) {
        let height = self.chain.mine(blocks);
        self.us.wait_height(height);
        self.ldk.wait_height(height);
    }

    /// Our view of the channel.
    ///
    /// # Panics
    /// When we have none of that id.
    pub fn our_channel(&self) -> Value {
        let list = self.us.call("listpeerchannels", json!({ "channel_id": self.channel_id }));
        list["channels"][0].clone()
    }

    /// LDK's view of the channel; null when it has forgotten it.
    pub fn ldk_channel(&self) -> Value {
        self.ldk_channel_of(&self.channel_id)
    }

    /// LDK's view of a channel; null when it does not know it.
    pub fn ldk_channel_of(&self, channel_id: &str) -> Value {
        let list = self.ldk.call("channels");
        let channels = list["channels"].as_array().expect("channels");
        channels.iter().find(|c| c["channel_id"] == *channel_id).cloned().unwrap_or(Value::Null)
    }

    /// LDK's coins on chain, in satoshi.
    pub fn ldk_sat(&self) -> u64 {
        self.ldk.wallet_sat()
    }

    /// A label that no other invoice has.
    pub fn label(&mut self) -> String {
        self.labels += 1;
        format!("number {}", self.labels)
    }

    /// LDK's and our part as LDK counts them: both can be read back from what it says can be sent.
    fn as_ldk_counts(&self, channel: &Value) -> (u64, u64) {
        let anchors = self.anchors_msat();
        let (ldk_pays, we_pay) = if channel["outbound"] == true { (anchors, 0) } else { (0, anchors) };
        let theirs = msat(channel, "outbound_msat") + msat(channel, "reserve_sat") * 1000 + ldk_pays;
        let ours = msat(channel, "inbound_msat") + msat(channel, "peer_reserve_sat") * 1000 + we_pay;
        (theirs, ours)
    }

    /// Waits until nothing is in flight on either side, then compares every balance with what is expected.
    ///
    /// # Panics
    /// When one is wrong by a millisatoshi.
    pub fn settled(&self, when: &str) {
        let total = CAPACITY_SAT * 1000;
        let (ours, theirs) = wait_for(&format!("quiet ({when})"), || {
            let (ours, theirs) = (self.our_channel(), self.ldk_channel());
            let left = ours["htlcs"].as_array().map_or(0, Vec::len);
            let (a, b) = self.as_ldk_counts(&theirs);
            if left == 0 && a + b == total {
                return Ok((ours, theirs));
            }
            Err(format!("{left} HTLCs at ours, LDK counts {a} + {b} of {total}"))
        });
        assert_eq!(msat(&ours, "to_us_msat"), self.ours_msat, "{when}: our part, as we say");
        assert_eq!(
            self.as_ldk_counts(&theirs),
            (total - self.ours_msat, self.ours_msat),
            "{when}: as LDK says"
        );
        assert_eq!(ours["feerate"]["perkw"], theirs["feerate_per_kw"], "{when}: the feerate");
        balance_adds_up(&self.us);
        self.watcher_agrees(when);
    }

    /// What LDK would take from its newest commitment, in whole satoshi. The opener's part and the fee that it pays
    /// make up all that is not the other's output, so for an opener the part of a satoshi counts as a whole one.
    fn watcher_agrees(&self, when: &str) {
        let theirs_msat = CAPACITY_SAT * 1000 - self.ours_msat;
        wait_for(&format!("LDK's watcher to agree ({when})"), || {
            let balance = self.ldk.call("balance");
            let mut list = balance["on_close"].as_array().expect("on_close").iter();
            let of_this = list.find(|e| e["channel_id"] == *self.channel_id);
            let entry = of_this.ok_or_else(|| format!("no such channel in {balance}"))?;
            let (amount, fee) = (msat(entry, "amount_sat"), msat(entry, "fee_sat"));
            let agrees = match self.opener {
                Opener::Us => fee == 0 && amount == theirs_msat / 1000,
                Opener::Ldk => amount + fee + self.anchors_msat() / 1000 == theirs_msat.div_ceil(1000),
            };
            if agrees {
                Ok(())
            } else {
                Err(format!("{entry}, its part is {theirs_msat} msat"))
            }
        });
    }

    /// What the opener pays for the two anchors.
    fn anchors_msat(&self) -> u64 {
        match self.kind {
            ChannelType::Anchors => ANCHORS_MSAT,
            ChannelType::StaticRemoteKey => 0,
        }
    }
}
