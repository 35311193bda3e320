//! A daemon for tests: one of everything, answers made up but of the right shape, and some that wait.

use super::backend::{
    About, AddressKind, Backend, Coin, CoinStatus, ConfigEntry, ConfigValue, FeatureSets, FeeTable, Pending,
    WalletReply, WalletRequest,
};
use crate::core::Drained;
use crate::gossip::GossipHandle;
use crate::tower::TowerStatus;
use crate::wallet::{FundedPsbt, Plan, Reservation};
use bitcoin::hashes::Hash as _;
use bitcoin::{absolute, transaction, Amount, OutPoint, ScriptBuf, Transaction, TxOut, Txid};
use chand_protocol::channel::cause::{Annals, Because, By, Cause, Line, Reason, StateChange, Trigger};
use chand_protocol::channel::policy::Policy;
use chand_protocol::id::{ChannelId, HtlcId, NodeId, PaymentHash, Preimage, ShortChannelId, Side};
use chand_protocol::node::command::{Command, CommandError, Reply, RouteHop};
use chand_protocol::node::effect::Fees;
use chand_protocol::node::view;
use chand_protocol::node::waits::{Event, Subsystem};
use chand_protocol::onchain::{Kind, Output, Spent};
use chand_protocol::tower::Mode;
use chand_protocol::units::{Feerate, Height, Msat, Sat, Timestamp};
use secp256k1::{Message, PublicKey, Secp256k1, SecretKey};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use tokio::sync::Notify;

fn key(seed: u8) -> SecretKey {
    SecretKey::from_slice(&[seed; 32]).unwrap()
}

/// Alice is 1, Bob 2, Carol 3.
pub fn node(seed: u8) -> NodeId {
    NodeId(PublicKey::from_secret_key(&Secp256k1::new(), &key(seed)))
}

fn outpoint(byte: u8) -> OutPoint {
    OutPoint { txid: Txid::from_byte_array([byte; 32]), vout: 1 }
}

pub fn transaction() -> Transaction {
    Transaction {
        version: transaction::Version::TWO,
        lock_time: absolute::LockTime::ZERO,
        input: vec![bitcoin::TxIn { previous_output: outpoint(9), ..Default::default() }],
        output: vec![TxOut { value: Amount::from_sat(1_000), script_pubkey: ScriptBuf::new() }],
    }
}

pub fn htlc(offered_by: Side) -> view::Htlc {
    view::Htlc {
        channel_id: ChannelId([7; 32]),
        short_channel_id: ShortChannelId::new(103, 1, 0),
        id: 4,
        offered_by,
        amount_msat: Msat(5_000),
        payment_hash: PaymentHash([8; 32]),
        expiry: Height(150),
        state: if offered_by == Side::Local { "SENT_ADD_ACK_REVOCATION" } else { "RCVD_ADD_ACK_REVOCATION" },
        local_trimmed: offered_by == Side::Local,
        waits_because: None,
    }
}

pub fn forward(status: &'static str) -> view::Forward {
    view::Forward {
        in_channel: ShortChannelId::new(103, 1, 0),
        in_htlc_id: 3,
        in_msat: Msat(5_200_000_000),
        in_expiry: Height(432),
        out_channel: ShortChannelId::new(104, 1, 1),
        out_htlc_id: 4,
        out_msat: Msat(5_100_000_000),
        out_expiry: Height(288),
        payment_hash: PaymentHash([8; 32]),
        status,
        received: Timestamp(1_700_000_000_250),
        resolved: (status != "offered").then_some(Timestamp(1_700_000_001_500)),
        created_index: 1,
        updated_index: (status != "offered").then_some(1),
        lost: None,
    }
}

pub fn channel(state: view::State) -> view::Channel {
    let confirmed = !matches!(state, view::State::Openingd | view::State::ChanneldAwaitingLockin);
    view::Channel {
        peer_id: node(2),
        peer_connected: true,
        reestablished: true,
        state,
        status: vec![format!("{}: as it should be", state.name())],
        opener: Side::Local,
        closer: matches!(state, view::State::Onchain).then_some(Side::Remote),
        channel_id: ChannelId([7; 32]),
        short_channel_id: confirmed.then(|| ShortChannelId::new(103, 1, 0)).flatten(),
        alias: (ShortChannelId::new(16_000_103, 9, 8), ShortChannelId::new(16_000_104, 7, 6)),
        funding: Some(outpoint(6)),
        total: Sat(1_000_000),
        initial_to_us_msat: Msat(900_000_000),
        to_us_msat: Msat(600_000_000),
        spendable_msat: Msat(580_000_000),
        receivable_msat: Msat(390_000_000),
        min_to_us_msat: Msat(1),
        max_to_us_msat: Msat(900_000_000),
        commit_fee: Sat(3_000),
        feerate: Feerate(253),
        type_bits: vec![12, 22],
        private: true,
        dust_limit: (Sat(354), Sat(546)),
        reserve: (Sat(10_000), Sat(10_001)),
        to_self_delay: (6, 144),
        htlc_minimum_msat: (Msat(1), Msat(0)),
        max_in_flight_msat: (Msat(u64::MAX), Msat(1_000_000_000)),
        max_accepted_htlcs: (30, 483),
        policy: Policy { min: Msat(1), max: Some(Msat(1_000_000_000)), ..Policy::new(1_000, 10, 34) },
        commitment_number: (12, 13),
        depth: (u32::from(confirmed) * 3, 3),
        htlcs: vec![htlc(Side::Local), htlc(Side::Remote)],
        stats: view::Stats { out_offered: 3, ..Default::default() },
        close_to: (Some(ScriptBuf::from_bytes(vec![0, 20])), None),
        closing_txid: None,
        annals: annals(),
        outputs: Vec::new(),
        resting: Vec::new(),
        lost_state: false,
    }
}

/// Of a channel that an HTLC's deadline closed.
fn annals() -> Annals {
    let change = |from, to, height, by| {
        let change = StateChange { time_s: 1_700_000_000, height: Height(height), from, to };
        (change, Because { by, words: "why".into() })
    };
    let reason = Reason {
        id: HtlcId { offered_by: Side::Local, id: 3 },
        amount: Msat(5_000),
        payment_hash: PaymentHash([8; 32]),
        cltv_expiry: Height(117),
    };
    let line = Line { height: Height(120), time_s: 1_700_000_002, text: "it is in a block".into() };
    let cause = Cause {
        trigger: Trigger::Deadline,
        words: "HTLC 3 of ours expired at 117".into(),
        height: Height(119),
        time_s: 1_700_000_001,
        feerate: Feerate(253),
        htlc: Some(reason),
        peer_message: Some("no".into()),
        decision: "published this node's commitment 12".into(),
        story: vec![line],
    };
    let changes = vec![
        change(view::State::Openingd, view::State::ChanneldAwaitingLockin, 100, By::User),
        change(view::State::ChanneldAwaitingLockin, view::State::ChanneldNormal, 103, By::User),
        change(view::State::ChanneldNormal, view::State::AwaitingUnilateral, 119, By::Protocol),
    ];
    Annals::new(Some(cause), changes)
}

fn onchain_output() -> Output {
    Output {
        outpoint: outpoint(9),
        amount: Sat(5_000),
        kind: Kind::ToLocal,
        lock: None,
        born: Some(Height(120)),
        spent: Some(Spent { txid: outpoint(10).txid, height: Height(126), ours: true }),
    }
}

pub fn closed_channel() -> view::ClosedChannel {
    view::ClosedChannel {
        channel: view::Channel {
            closing_txid: Some(transaction().compute_txid()),
            outputs: vec![onchain_output()],
            ..channel(view::State::Onchain)
        },
        close_cause: "mutual",
        trigger: "we asked for it".into(),
        height: Some(Height(120)),
        final_to_us_msat: Msat(600_000_000),
        last_commitment_fee: Some(Sat(3_000)),
    }
}

pub fn channel_balance() -> view::ChannelBalance {
    view::ChannelBalance {
        channel_id: ChannelId([7; 32]),
        peer_id: node(2),
        state: view::State::ChanneldNormal,
        capacity: Sat(1_000_000),
        spendable_msat: Msat(580_000_000),
        our_reserve_msat: Msat(10_000_000),
        commit_fee_msat: Msat(3_000_000),
        anchors_msat: Msat(660_000),
        htlcs_out_msat: Msat(5_000),
        htlcs_in_msat: Msat(7_000),
        dust_msat: Msat(5_000),
        their_msat: Msat(406_328_000),
    }
}

pub fn coins() -> Vec<Coin> {
    let coin = |byte, amount, status| Coin {
        outpoint: outpoint(byte),
        amount: Sat(amount),
        script_pubkey: ScriptBuf::from_bytes(vec![0, 20]),
        address: Some("bcrt1qexample".into()),
        status,
        reserved_to: (byte == 1).then_some(Height(200)),
    };
    vec![
        coin(1, 50_000, CoinStatus::Confirmed(Height(90))),
        coin(2, 7_000, CoinStatus::Unconfirmed),
        coin(3, 5_000_000_000, CoinStatus::Immature(Height(101))),
    ]
}

pub fn invoice(status: &'static str) -> view::Invoice {
    let paid = status == "paid";
    view::Invoice {
        label: "coffee".into(),
        bolt11: "lnbcrt1".into(),
        payment_hash: PaymentHash([8; 32]),
        payment_secret: [9; 32],
        amount_msat: Some(Msat(5_000)),
        status,
        hold: None,
        description: "a cup".into(),
        expires_at_s: 1_800_000_000,
        created_index: 1,
        updated_index: paid.then_some(2),
        pay_index: paid.then_some(1),
        amount_received_msat: paid.then_some(Msat(5_000)),
        paid_at_s: paid.then_some(1_790_000_000),
        preimage: paid.then_some(Preimage([5; 32])),
        lost: None,
    }
}

pub fn pay(status: &'static str) -> view::Pay {
    let complete = status == "complete";
    view::Pay {
        payment_hash: PaymentHash([8; 32]),
        destination: Some(node(2)),
        bolt11: Some("lnbcrt1".into()),
        label: None,
        description: Some("a cup".into()),
        status,
        amount_msat: Msat(5_000),
        amount_sent_msat: Msat(5_000),
        created_at_s: 1_790_000_000,
        completed_at_s: complete.then_some(1_790_000_001),
        preimage: complete.then_some(Preimage([5; 32])),
        created_index: 1,
        updated_index: complete.then_some(3),
        parts: 1,
        failure: (status == "failed").then(|| (203, "the payee does not know this payment".into())),
        erring: (status == "failed").then(|| view::Erring {
            index: 1,
            failcode: 0x400f,
            node: Some(node(2)),
            channel: Some((ShortChannelId(103 << 40 | 1 << 16), 1)),
        }),
        part: None,
    }
}

fn row(subsystem: Subsystem) -> view::Row {
    match subsystem {
        Subsystem::Invoices => view::Row::Invoice(Box::new(invoice("paid"))),
        Subsystem::Sendpays => view::Row::Sendpay(Box::new(pay("complete"))),
        Subsystem::Forwards => view::Row::Forward(Box::new(forward("settled"))),
    }
}

fn snapshot() -> view::Snapshot {
    view::Snapshot {
        number: 12,
        their_number: 13,
        our_msat: Msat(595_000_000),
        their_msat: Msat(400_000_000),
        htlcs: vec![view::SnapshotHtlc {
            offered_by: Side::Local,
            amount_msat: Msat(5_000_000),
            payment_hash: PaymentHash([8; 32]),
            expiry: Height(150),
        }],
        feerate: Feerate(253),
        status: "current",
        time_s: 1_790_000_000,
    }
}

/// Remembers what it was asked; `WaitAnyInvoice` waits until `paid` is notified, or for ever.
#[derive(Default)]
pub struct FakeBackend {
    pub stopped: AtomicBool,
    pub waiting: AtomicUsize,
    pub paid: std::sync::Arc<Notify>,
    pub seen: Mutex<Vec<Command>>,
    pub wallet_seen: Mutex<Vec<WalletRequest>>,
    pub states: Mutex<Vec<view::State>>,
    pub authority: std::sync::Arc<crate::runes::Authority>,
    pub runes: Mutex<view::Runes>,
    /// Where its files would be.
    pub dir: Option<std::path::PathBuf>,
}

impl FakeBackend {
    pub fn last(&self) -> Command {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).last().cloned().expect("a command")
    }

    fn runes_reply(&self, command: Command) -> Reply {
        let mut runes = self.runes.lock().unwrap_or_else(PoisonError::into_inner);
        match command {
            Command::NewRune { restrictions } => {
                let epoch = *runes.epoch.get_or_insert(5);
                let id = runes.runes.len() as u64;
                runes.runes.push(view::Rune { id, restrictions, created_at_s: 1, used_at_ms: 0 });
                return Reply::Rune { id, epoch };
            }
            Command::BlacklistRunes { start, end, relist: false } => runes.blacklist.push((start, end)),
            Command::BlacklistRunes { .. } => runes.blacklist.clear(),
            _ => {}
        }
        Reply::Runes(Box::new(runes.clone()))
    }

    fn reply(&self, command: Command) -> Result<Reply, CommandError> {
        Ok(match command {
            Command::GetInfo => Reply::Info(info()),
            Command::Drain => Reply::Drained(view::Drain::default()),
            Command::ListPeers { peer } => Reply::Peers(peers(peer)),
            Command::Connect { .. } => Reply::Connected(peers(None).remove(0)),
            Command::Disconnect { .. } | Command::DevFeerate { .. } => Reply::Done,
            Command::DevBroadcastRevoked { tx } => Reply::Tx(tx),
            Command::Ping { pongbytes, .. } => Reply::Ponged { totlen: pongbytes.saturating_add(4) },
            Command::SignMessage { message } => signed(&message),
            Command::FundChannel { .. } => funded(),
            Command::FundChannelStart(_) => Reply::FundingStarted {
                script_pubkey: ScriptBuf::new_p2wsh(&bitcoin::WScriptHash::all_zeros()),
                channel_type: vec![12, 22],
                mindepth: 3,
            },
            Command::FundChannelComplete { .. } => Reply::FundingSecured { channel_id: ChannelId([7; 32]) },
            Command::FundChannelCancel { .. } => Reply::Done,
            Command::SendsFunding { .. } => Reply::SendsFunding { of: 0 },
            Command::Close { .. } => Reply::Closed { kind: "mutual", tx: Some(transaction()) },
            Command::DevFail { .. } => Reply::Closed { kind: "unilateral", tx: Some(transaction()) },
            Command::ListPeerChannels { peer, .. } => {
                let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
                let state = if states.is_empty() { view::State::ChanneldNormal } else { states.remove(0) };
                Reply::PeerChannels(
                    vec![channel(state)]
                        .into_iter()
                        .filter(|c| peer.is_none_or(|p| p == c.peer_id))
                        .collect(),
                )
            }
            Command::SetChannel { .. } => Reply::PeerChannels(vec![channel(view::State::ChanneldNormal)]),
            Command::ListClosedChannels { .. } => Reply::ClosedChannels(vec![closed_channel()]),
            Command::Invoice(request) if request.label == "twice" => {
                return Err(CommandError::new(900, "this label is taken"))
            }
            Command::Invoice(_) | Command::CancelInvoice { .. } => Reply::Invoice(invoice("unpaid")),
            Command::SettleInvoice { .. } | Command::DelInvoice { .. } | Command::WaitAnyInvoice { .. } => {
                Reply::Invoice(invoice("paid"))
            }
            Command::WaitInvoice { label } => {
                Reply::Invoice(invoice(if label == "late" { "expired" } else { "paid" }))
            }
            Command::ListInvoices(_) => Reply::Invoices(vec![invoice("paid"), invoice("unpaid")]),
            Command::Pay { .. } | Command::Keysend { .. } => Reply::Paid(pay("complete")),
            Command::SendPay { .. } => Reply::Sent(pay("pending")),
            Command::SendPart { partid, groupid, .. } => {
                Reply::Sent(view::Pay { part: Some((partid, groupid.unwrap_or(1))), ..pay("pending") })
            }
            Command::WaitSendPart { partid, .. } => {
                Reply::Sent(view::Pay { part: Some((partid, 1)), ..pay("complete") })
            }
            Command::ListSendPays { .. } => {
                let part = view::Pay { part: Some((3, 2)), ..pay("pending") };
                Reply::Pays(vec![pay("complete"), pay("failed"), part])
            }
            Command::WaitSendPay { payment_hash, .. } => {
                Reply::Sent(pay(if payment_hash.0 == [0; 32] { "failed" } else { "complete" }))
            }
            Command::ListPays { .. } => Reply::Pays(vec![pay("complete"), pay("failed"), pay("pending")]),
            Command::Wait { index: (subsystem, event), from } => Reply::Reached(view::Reached {
                subsystem,
                event,
                number: from,
                row: (event != Event::Deleted).then(|| row(subsystem)),
            }),
            Command::ListForwards => Reply::Forwards(vec![forward("settled"), forward("offered")]),
            Command::ListHtlcs { .. } => Reply::Htlcs(vec![htlc(Side::Local), htlc(Side::Remote)]),
            Command::ListSnapshots { .. } => Reply::Snapshots(vec![snapshot()]),
            Command::TowerChannels => Reply::TowerChannels(Vec::new()),
            Command::EmergencyRecover { .. } => Reply::Stubs(vec![ChannelId([7; 32])]),
            Command::TowerStates { .. } | Command::TowersHave { .. } => Reply::Done,
            Command::GetRoute { .. } => Reply::Route(route()),
            Command::Balance => Reply::Balance(vec![channel_balance()]),
            Command::DevSignLastTx { .. } => Reply::Tx(transaction()),
            Command::Within { command, .. } => return self.reply(*command),
            Command::NewRune { .. }
            | Command::ListRunes
            | Command::BlacklistRunes { .. }
            | Command::RuneUsed { .. } => self.runes_reply(command),
        })
    }
}

fn route() -> Vec<RouteHop> {
    let hop = |n: u8, msat, delay_blocks| RouteHop {
        id: node(n),
        channel: Some(ShortChannelId(u64::from(n))),
        amount_msat: Msat(msat),
        delay_blocks,
    };
    vec![hop(2, 5_010, 43), hop(3, 5_000, 9)]
}

fn info() -> view::Info {
    view::Info {
        id: node(1),
        alias: "Alice".into(),
        color: [1, 2, 3],
        num_peers: 1,
        num_pending_channels: 0,
        num_active_channels: 1,
        num_inactive_channels: 0,
        blockheight: Height(110),
        chain_reachable: true,
        chain_synced: true,
        features_init: vec![8, 0],
        features_invoice: vec![2],
        draining: None,
        fees_collected: Msat(1_234),
    }
}

fn peers(wanted: Option<NodeId>) -> Vec<view::Peer> {
    let peer = |seed, connected| view::Peer {
        id: node(seed),
        connected,
        inbound: false,
        address: connected.then(|| "127.0.0.1:9736".into()),
        features: vec![8, 0],
        num_channels: 1,
    };
    let mut list = vec![peer(2, true), peer(3, false)];
    list.retain(|p| wanted.is_none_or(|w| w == p.id));
    list
}

fn signed(message: &str) -> Reply {
    let digest = Message::from_digest(super::call::message::digest(message));
    let (recid, signature) = Secp256k1::new().sign_ecdsa_recoverable(&digest, &key(1)).serialize_compact();
    Reply::Signed { signature, recid: u8::try_from(recid.to_i32()).unwrap() }
}

fn funded() -> Reply {
    let tx = transaction();
    Reply::Funded {
        txid: tx.compute_txid(),
        tx,
        outnum: 0,
        channel_id: ChannelId([7; 32]),
        channel_type: vec![12, 22],
        mindepth: 3,
    }
}

fn reservation() -> Reservation {
    let outpoint = bitcoin::OutPoint::null();
    Reservation { outpoint, was_reserved: false, until: Some(Height(172)) }
}

impl Backend for FakeBackend {
    fn chains(&self) -> Vec<crate::chain::Report> {
        let place = "127.0.0.1:18443".into();
        vec![crate::chain::Report { place, active: true, tip: None, trouble: None }]
    }

    fn mempool(&self, _: bitcoin::Txid) -> Pending<Option<(bitcoin::Transaction, Option<Sat>)>> {
        Box::pin(std::future::ready(None))
    }

    fn command(&self, command: Command) -> Pending<Result<Reply, CommandError>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(command.clone());
        let waits = matches!(command, Command::WaitAnyInvoice { .. });
        let reply = self.reply(command);
        if !waits {
            return Box::pin(async { reply });
        }
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let paid = std::sync::Arc::clone(&self.paid);
        Box::pin(async move {
            paid.notified().await;
            reply
        })
    }

    fn wallet(&self, request: WalletRequest) -> Pending<Result<WalletReply, CommandError>> {
        self.wallet_seen.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
        let reply = match request {
            WalletRequest::NewAddress { kind } => WalletReply::Address {
                kind: kind.unwrap_or(AddressKind::P2tr),
                address: "bcrt1pexample".into(),
            },
            WalletRequest::ListCoins { .. } => WalletReply::Coins(coins()),
            WalletRequest::Withdraw { .. } => {
                let mut unsigned = transaction();
                unsigned.input.iter_mut().for_each(|i| i.witness.clear());
                let psbt = Box::new(bitcoin::Psbt::from_unsigned_tx(unsigned).unwrap());
                WalletReply::Withdrawn { tx: transaction(), psbt }
            }
            WalletRequest::Bump { .. } => {
                let mut unsigned = transaction();
                unsigned.input.iter_mut().for_each(|i| i.witness.clear());
                let psbt = Box::new(bitcoin::Psbt::from_unsigned_tx(unsigned).unwrap());
                WalletReply::Withdrawn { tx: transaction(), psbt }
            }
            WalletRequest::FundPsbt(order) => {
                let mut unsigned = transaction();
                unsigned.input.iter_mut().for_each(|i| i.witness.clear());
                WalletReply::PsbtFunded(Box::new(FundedPsbt {
                    psbt: bitcoin::Psbt::from_unsigned_tx(unsigned).unwrap(),
                    feerate: order.feerate,
                    weight: 600,
                    excess: Sat(7),
                    change: Some(0),
                    reservations: vec![reservation()],
                }))
            }
            WalletRequest::SignPsbt { psbt, .. } => WalletReply::Psbt(psbt),
            WalletRequest::FinishPsbt { .. } => WalletReply::Finished(transaction()),
            WalletRequest::SendPsbt { .. } => WalletReply::Sent(transaction()),
            WalletRequest::ReserveInputs { .. } | WalletRequest::UnreserveInputs { .. } => {
                WalletReply::Reservations(vec![reservation()])
            }
            WalletRequest::Plan(_) | WalletRequest::Fund { .. } => WalletReply::Planned(Box::new(Plan {
                inputs: Vec::new(),
                outputs: Vec::new(),
                fee: Sat(153),
                weight: 600,
                wallet: (Sat(100_000), Sat(50_000)),
                spendable: (Sat(100_000), Sat(50_000)),
            })),
            WalletRequest::MostFundable { .. } => WalletReply::MostFundable(Sat(123_456)),
            WalletRequest::KeptBack => WalletReply::KeptBack { amount: Sat(25_000), channels: 1 },
            WalletRequest::Feerates => WalletReply::Feerates(fee_table()),
        };
        Box::pin(async { Ok(reply) })
    }

    fn drain(&self, _: std::time::Duration) -> Pending<Drained> {
        Box::pin(std::future::ready(Drained::Left(view::Drain { under_way: 1, held: 2, absent: 0 })))
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    fn gossip(&self) -> GossipHandle {
        GossipHandle::idle(chand_protocol::chain::Network::Regtest, node(1))
    }

    fn configs(&self) -> Vec<ConfigEntry> {
        let entry = |name: &str, value| ConfigEntry { name: name.into(), value, source: "default".into() };
        vec![
            entry("network", ConfigValue::Text("regtest".into())),
            entry("dev", ConfigValue::Set(true)),
            entry("fee-base", ConfigValue::Int(1_000)),
            entry("listen", ConfigValue::Texts(vec!["127.0.0.1:9735".into()])),
        ]
    }

    fn towers(&self) -> Vec<TowerStatus> {
        vec![TowerStatus::new(node(3), "localhost:9911", Mode::Key, node(4))]
    }

    fn runes(&self) -> std::sync::Arc<crate::runes::Authority> {
        std::sync::Arc::clone(&self.authority)
    }

    fn about(&self) -> About {
        About {
            node_id: node(1),
            network: chand_protocol::chain::Network::Regtest,
            version: "0.1.0".into(),
            lightning_dir: self.dir.clone().unwrap_or_else(|| "/home/alice/.chand/regtest".into()),
            dev: true,
            addresses: vec![],
            bindings: vec!["127.0.0.1:9735".parse().unwrap()],
            features: FeatureSets::default(),
        }
    }
}

pub fn fee_table() -> FeeTable {
    FeeTable {
        fees: Some(Fees { normal: Feerate(1_000), urgent: Feerate(2_000), minimum: Feerate(253) }),
        estimates: vec![(2, Feerate(2_000)), (6, Feerate(1_000)), (100, Feerate(300))],
        min_acceptable: Feerate(253),
        max_acceptable: Feerate(20_000),
    }
}
