//! The answers have the fields that Core Lightning's clients rely on.
//!
//! The names are those under `required` in Core Lightning's `doc/schemas/*.json` (26.06), copied by hand as data.

use super::call::Context;
use super::fake::{self, FakeBackend};
use super::log::Ring;
use super::message::{RawParams, RpcError};
use super::params::bind;
use super::table::{find, METHODS};
use chand_protocol::id::{ChannelId, ShortChannelId};
use chand_protocol::node::command::{ChannelRef, Command};
use chand_protocol::units::{Feerate, Msat, Sat};
use serde_json::{json, Value};
use std::sync::Arc;

pub(super) fn context() -> (Arc<FakeBackend>, Arc<Context>) {
    let backend = Arc::new(FakeBackend::default());
    let cx = Context::new(Arc::clone(&backend) as _, Ring::default());
    (backend, Arc::new(cx))
}

pub(super) async fn call_on(cx: &Arc<Context>, method: &str, params: Value) -> Result<Value, RpcError> {
    let method = find(method, true).expect("a method");
    let raw = match params {
        Value::Object(map) => RawParams::Named(map),
        Value::Array(list) => RawParams::List(list),
        _ => panic!("no parameters"),
    };
    (method.call)(Arc::clone(cx), bind(method.params, raw)?).await
}

async fn call(method: &str, params: Value) -> Result<Value, RpcError> {
    call_on(&context().1, method, params).await
}

fn bob() -> String {
    fake::node(2).to_string()
}

const INVOICE: &str = "lnbc2500u1pvjluezsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypqdq5xysxxatsyp3k7enxv4jsxqzpu9qrsgquk0rl77nj30yxdy8j9vdx85fkpmdla2087ne0xh8nhedh8w27kyke0lp53ut353s06fv3qfegext0eh0ymjpf39tuven09sam30g4vgpfna3rh";
const ADDRESS: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";

/// What every `cause` has here.
const CAUSE: &[&str] = &[
    "trigger",
    "reason",
    "height",
    "time",
    "feerate_perkw",
    "htlc",
    "peer_message",
    "decision",
    "txids",
    "story",
];

/// method, parameters, where in the answer (`/0` is the first of a list), required fields
fn shapes() -> Vec<(&'static str, Value, &'static str, &'static [&'static str])> {
    let hash = "08".repeat(32);
    let invoice: &[&str] = &["label", "payment_hash", "status", "expires_at", "created_index"];
    let paid: &[&str] = &["label", "pay_index", "amount_received_msat", "paid_at", "payment_preimage"];
    let sendpay: &[&str] =
        &["created_index", "id", "payment_hash", "status", "created_at", "amount_sent_msat"];
    let pay: &[&str] = &[
        "payment_preimage",
        "payment_hash",
        "created_at",
        "parts",
        "amount_msat",
        "amount_sent_msat",
        "status",
    ];
    vec![
        (
            "getinfo",
            json!({}),
            "",
            &[
                "id",
                "alias",
                "color",
                "num_peers",
                "num_pending_channels",
                "num_active_channels",
                "num_inactive_channels",
                "version",
                "blockheight",
                "network",
                "fees_collected_msat",
                "lightning-dir",
                "address",
            ],
        ),
        ("getinfo", json!({}), "/our_features", &["init", "node", "channel", "invoice"]),
        ("getinfo", json!({}), "/binding/0", &["type", "address", "port"]),
        ("help", json!({}), "/help/0", &["command"]),
        ("stop", json!({}), "", &["result"]),
        ("createrune", json!({}), "", &["rune", "unique_id", "warning_unrestricted_rune"]),
        ("showrunes", json!({}), "", &["runes"]),
        ("blacklistrune", json!({ "start": 3 }), "/blacklist/0", &["start", "end"]),
        ("destroyrune", json!({ "start": 3, "end": 5 }), "/blacklist/0", &["start", "end"]),
        ("listconfigs", json!({}), "/configs/network", &["value_str", "source"]),
        ("listconfigs", json!({}), "/configs/fee-base", &["value_int", "source"]),
        ("listconfigs", json!({}), "/configs/listen", &["values_str", "sources"]),
        ("listbackends", json!({}), "/backends/0", &["address", "active"]),
        (
            "listwatchtowers",
            json!({}),
            "/watchtowers/0",
            &[
                "id",
                "address",
                "mode",
                "connected",
                "states_pending",
                "states_kept",
                "bytes_kept",
                "bytes_quota",
                "unprotected",
            ],
        ),
        ("emergencyrecover", json!({}), "", &["stubs"]),
        ("getlog", json!({}), "", &["created_at", "bytes_used", "bytes_max", "log"]),
        ("signmessage", json!(["hi"]), "", &["signature", "recid", "zbase"]),
        ("connect", json!([bob()]), "", &["id", "features", "direction", "address"]),
        ("connect", json!([bob()]), "/address", &["type", "address", "port"]),
        ("listpeers", json!({}), "/peers/0", &["id", "connected", "num_channels", "netaddr", "features"]),
        ("listpeers", json!({}), "/peers/1", &["id", "connected", "num_channels"]),
        ("ping", json!([bob()]), "", &["totlen"]),
        ("newaddr", json!([]), "", &["p2tr"]),
        ("newaddr", json!(["all"]), "", &["p2tr", "bech32"]),
        (
            "listfunds",
            json!([]),
            "/outputs/0",
            &[
                "txid",
                "output",
                "amount_msat",
                "scriptpubkey",
                "status",
                "reserved",
                "blockheight",
                "reserved_to_block",
            ],
        ),
        ("listfunds", json!([]), "/kept_back", &["amount_msat", "channels", "reason"]),
        (
            "listfunds",
            json!([]),
            "/channels/0",
            &[
                "peer_id",
                "our_amount_msat",
                "amount_msat",
                "funding_txid",
                "funding_output",
                "connected",
                "state",
                "channel_id",
                "short_channel_id",
            ],
        ),
        ("withdraw", json!([ADDRESS, 10_000]), "", &["psbt", "tx", "txid"]),
        ("feerates", json!(["perkw"]), "/perkw", &["min_acceptable", "max_acceptable", "floor", "estimates"]),
        ("feerates", json!(["perkb"]), "/perkb/estimates/0", &["blockcount", "feerate", "smoothed_feerate"]),
        (
            "feerates",
            json!(["perkb"]),
            "/onchain_fee_estimates",
            &[
                "opening_channel_satoshis",
                "mutual_close_satoshis",
                "unilateral_close_satoshis",
                "htlc_timeout_satoshis",
                "htlc_success_satoshis",
            ],
        ),
        ("fundchannel", json!([bob(), 100_000]), "", &["tx", "txid", "outnum", "channel_type", "channel_id"]),
        ("fundchannel", json!([bob(), 100_000]), "/channel_type", &["bits", "names"]),
        ("close", json!([bob()]), "", &["type", "txs", "txids"]),
        (
            "listpeerchannels",
            json!({}),
            "/channels/0",
            &[
                "peer_id",
                "peer_connected",
                "state",
                "opener",
                "features",
                "direction",
                // not under `required`, but what people and programs read
                "channel_id",
                "short_channel_id",
                "funding_txid",
                "funding_outnum",
                "to_us_msat",
                "total_msat",
                "spendable_msat",
                "receivable_msat",
                "our_reserve_msat",
                "their_reserve_msat",
                "htlcs",
                "status",
            ],
        ),
        ("listpeerchannels", json!({}), "/channels/0/channel_type", &["bits", "names"]),
        ("listpeerchannels", json!({}), "/channels/0/alias", &["local", "remote"]),
        ("listclosedchannels", json!({}), "/closedchannels/0/alias", &["local", "remote"]),
        ("listpeerchannels", json!({}), "/channels/0/feerate", &["perkw", "perkb"]),
        ("listpeerchannels", json!({}), "/channels/0/funding", &["local_funds_msat", "remote_funds_msat"]),
        (
            "listpeerchannels",
            json!({}),
            "/channels/0/updates/local",
            &[
                "htlc_minimum_msat",
                "htlc_maximum_msat",
                "cltv_expiry_delta",
                "fee_base_msat",
                "fee_proportional_millionths",
            ],
        ),
        (
            "listpeerchannels",
            json!({}),
            "/channels/0/htlcs/1",
            &["direction", "id", "amount_msat", "expiry", "payment_hash", "state"],
        ),
        (
            "listclosedchannels",
            json!({}),
            "/closedchannels/0",
            &[
                "channel_id",
                "opener",
                "private",
                "total_local_commitments",
                "total_remote_commitments",
                "total_htlcs_sent",
                "funding_txid",
                "funding_outnum",
                "funding_withheld",
                "leased",
                "total_msat",
                "final_to_us_msat",
                "min_to_us_msat",
                "max_to_us_msat",
                "close_cause",
                "closer",
                "state_changes",
                "cause",
            ],
        ),
        (
            "listclosedchannels",
            json!({}),
            "/closedchannels/0/state_changes/2",
            &["timestamp", "old_state", "new_state", "cause", "message", "height"],
        ),
        ("listclosedchannels", json!({}), "/closedchannels/0/cause", CAUSE),
        (
            "listclosedchannels",
            json!({}),
            "/closedchannels/0/cause",
            &["kind", "confirmed_height", "outputs"],
        ),
        (
            "listclosedchannels",
            json!({}),
            "/closedchannels/0/cause/outputs/0",
            &["outpoint", "kind", "amount_msat", "state", "spent_by", "spent_height"],
        ),
        ("listclosedchannels", json!({}), "/closedchannels/0/cause/story/0", &["height", "time", "text"]),
        ("listpeerchannels", json!({}), "/channels/0/cause", CAUSE),
        (
            "listpeerchannels",
            json!({}),
            "/channels/0/cause/htlc",
            &["direction", "id", "amount_msat", "payment_hash", "expiry"],
        ),
        (
            "listpeerchannels",
            json!({}),
            "/channels/0/state_changes/0",
            &["timestamp", "old_state", "new_state"],
        ),
        (
            "setchannel",
            json!([bob(), 1, 2]),
            "/channels/0",
            &[
                "peer_id",
                "channel_id",
                "fee_base_msat",
                "fee_proportional_millionths",
                "ignore_fee_limits",
                "minimum_htlc_out_msat",
                "maximum_htlc_out_msat",
            ],
        ),
        (
            "listhtlcs",
            json!([]),
            "/htlcs/0",
            &[
                "short_channel_id",
                "created_index",
                "id",
                "expiry",
                "amount_msat",
                "direction",
                "payment_hash",
                "state",
            ],
        ),
        (
            "listforwards",
            json!({"status": "settled"}),
            "/forwards/0",
            &[
                "created_index",
                "in_channel",
                "in_htlc_id",
                "in_msat",
                "out_channel",
                "out_htlc_id",
                "out_msat",
                "fee_msat",
                "status",
                "style",
                "received_time",
                "resolved_time",
            ],
        ),
        (
            "invoice",
            json!(["any", 7, "d"]),
            "",
            &["payment_hash", "expires_at", "created_index", "bolt11", "payment_secret"],
        ),
        ("listchannels", json!([]), "", &["channels"]),
        ("listnodes", json!([]), "", &["nodes"]),
        ("listinvoices", json!([]), "/invoices/1", invoice),
        ("listinvoices", json!([]), "/invoices/0", paid),
        ("delinvoice", json!(["coffee", "paid"]), "", invoice),
        ("waitinvoice", json!(["coffee"]), "", paid),
        ("settleinvoice", json!([hash]), "", invoice),
        ("cancelinvoice", json!([hash]), "", invoice),
        ("holdinvoice", json!([hash, "1sat", "l", "d"]), "", &["payment_hash", "bolt11", "payment_secret"]),
        (
            "decode",
            json!([INVOICE]),
            "",
            &[
                "type",
                "valid",
                "currency",
                "created_at",
                "expiry",
                "payee",
                "payment_hash",
                "signature",
                "min_final_cltv_expiry",
            ],
        ),
        ("pay", json!([INVOICE]), "", pay),
        ("keysend", json!([bob(), "1sat"]), "", pay),
        (
            "xpay",
            json!([INVOICE]),
            "",
            &["payment_preimage", "failed_parts", "successful_parts", "amount_msat", "amount_sent_msat"],
        ),
        (
            "listpays",
            json!([]),
            "/pays/0",
            &["payment_hash", "status", "created_at", "created_index", "amount_sent_msat", "preimage"],
        ),
        ("listpays", json!([]), "/pays/1", &["payment_hash", "status", "created_at", "created_index"]),
        (
            "sendpay",
            json!([[{"id": bob(), "channel": "1x1x1", "delay": 9, "amount_msat": 5}], hash]),
            "",
            sendpay,
        ),
        (
            "sendpay",
            json!({
                "route": [{"id": bob(), "channel": "1x1x1", "delay": 9, "amount_msat": 5}],
                "payment_hash": hash, "amount_msat": 10, "partid": 3, "groupid": 2,
            }),
            "",
            &["partid", "groupid"],
        ),
        ("waitsendpay", json!({"payment_hash": hash, "partid": 3}), "", &["partid", "groupid"]),
        ("waitsendpay", json!([hash]), "", &["id", "created_index", "status", "payment_preimage"]),
        (
            "getroute",
            json!([fake::node(3).to_string(), 5_000]),
            "/route/0",
            &["id", "channel", "direction", "amount_msat", "delay", "style"],
        ),
        ("listsendpays", json!([]), "/payments/0", &["groupid", "payment_preimage", "amount_sent_msat"]),
        (
            "wait",
            json!(["invoices", "created", 7]),
            "/invoices",
            &["status", "label", "description", "bolt11"],
        ),
        ("wait", json!(["invoices", "created", 7]), "", &["subsystem", "created", "details"]),
        (
            "wait",
            json!({"subsystem": "sendpays", "indexname": "updated", "nextvalue": 2}),
            "/sendpays",
            &["status", "partid", "groupid", "payment_hash"],
        ),
        (
            "wait",
            json!(["forwards", "updated", 1]),
            "/forwards",
            &["status", "in_channel", "in_htlc_id", "in_msat", "out_channel"],
        ),
        ("stop", json!({"drain": 5}), "", &["result", "drained", "htlcs"]),
        ("wait", json!(["forwards", "deleted", 0]), "", &["subsystem", "deleted"]),
        ("listsendpays", json!([]), "/payments/2", sendpay),
        ("listsendpays", json!([]), "/payments/2", &["partid", "groupid"]),
        (
            "listsnapshots",
            json!([bob()]),
            "/snapshots/0",
            &["number", "their_number", "our_msat", "their_msat", "htlcs", "feerate_perkw", "status", "time"],
        ),
        (
            "listsnapshots",
            json!([bob()]),
            "/snapshots/0/htlcs/0",
            &["direction", "amount_msat", "payment_hash", "expiry"],
        ),
        ("balance", json!({}), "/channels/0", &["total_msat", "spendable_msat", "their_msat", "dust_msat"]),
        ("balance", json!({}), "", &["channels", "onchain", "total_msat"]),
        ("dev-fail", json!([bob()]), "", &["type", "txids"]),
        ("dev-sign-last-tx", json!([bob()]), "", &["tx"]),
    ]
}

#[tokio::test]
async fn required_fields_are_there() {
    let mut tried = std::collections::BTreeSet::from([
        "disconnect",
        "dev-feerate",
        "dev-broadcast-revoked",
        "checkmessage",
        // In `call::rune`.
        "checkrune",
        "waitanyinvoice",
        // Of real networks: the process tests `gossip` and `routes`.
        "listchannels",
        "listnodes",
    ]);
    for (method, params, place, fields) in shapes().into_iter().chain(super::psbt_tests::shapes()) {
        tried.insert(method);
        let answer = call(method, params).await.unwrap_or_else(|e| panic!("{method}: {e:?}"));
        let inner = answer.pointer(place).unwrap_or_else(|| panic!("{method}: no {place} in {answer}"));
        for field in fields {
            let value = inner.get(field).unwrap_or_else(|| panic!("{method}{place}: no {field} in {inner}"));
            if field.ends_with("_msat") {
                assert!(value.is_u64(), "{method}: {field} is no whole number");
            }
        }
    }
    let missing: Vec<_> = METHODS.iter().map(|m| m.name).filter(|n| !tried.contains(n)).collect();
    assert!(missing.is_empty(), "no shape for {missing:?}");
}

#[tokio::test]
async fn lists_can_be_read_in_order_of_change() {
    let cx = Arc::new(Context::new(Arc::new(FakeBackend::default()), Ring::default()));
    let count = |answer: Value, list: &str| answer[list].as_array().map_or(0, Vec::len);
    for (method, list, changed) in [("listinvoices", "invoices", 2), ("listforwards", "forwards", 1)] {
        let all = call_on(&cx, method, json!({})).await.unwrap();
        assert_eq!(count(all, list), 2, "{method}");
        let by_change = json!({ "index": "updated" });
        let answer = call_on(&cx, method, by_change).await.unwrap();
        assert!(answer[list][0]["updated_index"] == changed, "{answer}");
        assert_eq!(count(answer, list), 1, "one of the two never changed");
        let later = json!({ "index": "updated", "start": changed + 1 });
        assert_eq!(count(call_on(&cx, method, later).await.unwrap(), list), 0);
        let first = json!({ "index": "created", "start": 1, "limit": 1 });
        assert_eq!(count(call_on(&cx, method, first).await.unwrap(), list), 1);
    }
    let error = call_on(&cx, "wait", json!(["htlcs", "created", 1])).await.unwrap_err();
    assert!(error.code == -32602 && error.message.contains("subsystem"), "{}", error.message);
}

#[tokio::test]
async fn an_old_commitment_that_was_kept_can_be_published_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let backend = Arc::new(FakeBackend { dir: Some(dir.path().into()), ..FakeBackend::default() });
    let cx = Arc::new(Context::new(backend, Ring::default()));
    let channel = ChannelId([7; 32]);
    let kept = super::fake::transaction();
    crate::core::revoked::keep(dir.path(), &channel, 7, &kept).unwrap();
    let answer = call_on(&cx, "dev-broadcast-revoked", json!([channel.to_string(), 7])).await.unwrap();
    assert_eq!(answer["txid"], kept.compute_txid().to_string());
    let error = call_on(&cx, "dev-broadcast-revoked", json!([channel.to_string(), 8])).await.unwrap_err();
    assert!(error.message.contains("commitment 8"), "{}", error.message);
}

#[tokio::test]
async fn commands_carry_what_was_asked() {
    let (backend, cx) = context();
    let open = json!({
        "id": format!("{}@localhost:9999", bob()), "amount": "0.01btc", "feerate": "slow", "announce": false,
        "push_msat": "5sat", "close_to": ADDRESS, "mindepth": 2, "reserve": "20000sat", "channel_type": [22, 12],
    });
    call_on(&cx, "fundchannel", open).await.unwrap();
    let seen = backend.seen.lock().unwrap().clone();
    assert!(matches!(&seen[0], Command::Connect { address: Some(a), .. } if a == "localhost:9999"));
    let Command::FundChannel {
        amount,
        feerate,
        announce,
        push_msat,
        close_to,
        mindepth,
        reserve,
        anchors,
        scid_alias,
        ..
    } = seen[1].clone()
    else {
        panic!("{seen:?}")
    };
    assert_eq!((amount, feerate, announce), (Some(Sat(1_000_000)), Some(Feerate(300)), false));
    assert_eq!((push_msat, mindepth, reserve), (Msat(5_000), Some(2), Some(Sat(20_000))));
    assert!(close_to.is_some_and(|s| s.is_p2wpkh()));
    assert_eq!((anchors, scid_alias), (Some(true), Some(false)));
    for (channel_type, wanted) in [
        (json!([46, 12]), (Some(false), Some(true))),
        (json!([12, 22, 46]), (Some(true), Some(true))),
        (json!(null), (None, None)),
    ] {
        let open = json!({"id": bob(), "amount": 100_000, "channel_type": channel_type});
        call_on(&cx, "fundchannel", open).await.unwrap();
        let Command::FundChannel { anchors, scid_alias, .. } = backend.last() else { panic!() };
        assert_eq!((anchors, scid_alias), wanted);
    }

    call_on(&cx, "close", json!(["103x1x0", 0, null, null, null, null, ["253perkw", "urgent"]]))
        .await
        .unwrap();
    let Command::Close { channel, unilateral_timeout_s, feerange, .. } = backend.last() else { panic!() };
    assert_eq!(channel, ChannelRef::Short(ShortChannelId::new(103, 1, 0).unwrap()));
    assert_eq!((unilateral_timeout_s, feerange), (0, Some((Feerate(253), Feerate(2_000)))));

    call_on(&cx, "pay", json!({"bolt11": INVOICE, "retry_for": 5, "maxfeepercent": "0.1"})).await.unwrap();
    let Command::Pay { limits, retry_for_s, .. } = backend.last() else { panic!() };
    assert_eq!((limits.max_fee, retry_for_s), (Some(Msat(250_000)), 5));
    call_on(&cx, "xpay", json!([INVOICE])).await.unwrap();
    let Command::Pay { limits, .. } = backend.last() else { panic!() };
    assert_eq!(limits.max_fee, Some(Msat(2_500_000)));

    call_on(&cx, "listhtlcs", json!(["103x1x0"])).await.unwrap();
    assert!(matches!(backend.last(), Command::ListHtlcs { channel: Some(ChannelId(id)) } if id == [7; 32]));
    call_on(&cx, "setchannel", json!(["all", "7msat", 8])).await.unwrap();
    let Command::SetChannel { channel: None, fee_base_msat, fee_ppm, .. } = backend.last() else { panic!() };
    assert_eq!((fee_base_msat, fee_ppm), (Some(7), Some(8)));
}

#[tokio::test]
async fn refusals_name_the_parameter() {
    let other_net = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4";
    for (method, params, code, word) in [
        ("withdraw", json!([other_net, 10_000]), -32602, "destination"),
        ("withdraw", json!([ADDRESS, "0.5sat"]), -32602, "satoshi"),
        ("withdraw", json!([ADDRESS, 100]), 302, "dust"),
        ("fundchannel", json!([fake::node(1).to_string() + "@h", 100_000]), -32602, "this node itself"),
        ("fundchannel", json!({"id": bob(), "amount": 1000, "push_msat": "1001sat"}), -32602, "push_msat"),
        (
            "fundchannel",
            json!({"id": bob(), "amount": 1000, "channel_type": [12, 50]}),
            -32602,
            "channel_type",
        ),
        ("fundchannel", json!({"id": bob(), "amount": 1000, "request_amt": 5}), -32602, "request_amt"),
        ("close", json!({"id": bob(), "feerange": ["urgent", "slow"]}), -32602, "feerange"),
        ("connect", json!([bob(), null, 5]), -32602, "port"),
        ("invoice", json!([0, "l", "d"]), -32602, "amount_msat"),
        ("invoice", json!(["twice", "twice", "d"]), -32602, "amount_msat"),
        ("invoice", json!(["any", "twice", "d"]), 900, "label"),
        ("invoice", json!(["any", 18_446_744_073_709_551_616.0, "d"]), -32602, "label"),
        ("invoice", json!(["any", "l", "d".repeat(640)]), -32602, "deschashonly"),
        ("waitinvoice", json!(["late"]), 903, "expired"),
        ("waitsendpay", json!(["00".repeat(32)]), 203, "payee"),
        ("pay", json!(["lnbc1"]), -32602, "bolt11"),
        ("pay", json!({"bolt11": INVOICE, "maxfee": 1, "maxfeepercent": 1}), -32602, "maxfee"),
        ("keysend", json!([bob(), 0]), -32602, "amount_msat"),
        ("sendpay", json!([[], "08".repeat(32)]), -32602, "route"),
        ("listconfigs", json!(["nothing"]), -32602, "config"),
        ("help", json!(["nothing"]), -32601, "nothing"),
        ("listhtlcs", json!(["1x1x1"]), -32602, "id"),
        ("listsnapshots", json!([bob(), 0, 1_000_000]), -32602, "limit"),
    ] {
        let error = call(method, params.clone()).await.expect_err(method);
        assert_eq!(error.code, code, "{method} {params}: {error:?}");
        assert!(error.message.contains(word), "{method}: {}", error.message);
    }
}

#[tokio::test]
async fn signed_words_are_checked() {
    let (_, cx) = context();
    let signed = call_on(&cx, "signmessage", json!(["hello"])).await.unwrap();
    let zbase = signed["zbase"].clone();
    let alice = fake::node(1).to_string();
    let ours = call_on(&cx, "checkmessage", json!(["hello", zbase])).await.unwrap();
    assert_eq!((&ours["verified"], &ours["pubkey"]), (&json!(true), &json!(alice)));
    let named = call_on(&cx, "checkmessage", json!(["hello", zbase, bob()])).await.unwrap();
    assert_eq!(named["verified"], false);
    // Other words recover another key, which nobody here has.
    let unknown = call_on(&cx, "checkmessage", json!(["hallo", zbase])).await.unwrap_err();
    assert_eq!(unknown.code, 1301);
    assert!(unknown.data.is_some());
}

#[tokio::test]
async fn lists_are_filtered_and_paged() {
    let failed = call("listpays", json!({"status": "failed"})).await.unwrap();
    assert_eq!(failed["pays"].as_array().unwrap().len(), 1);
    let one = call("listinvoices", json!({"index": "created", "start": 1, "limit": 1})).await.unwrap();
    assert_eq!(one["invoices"].as_array().unwrap().len(), 1);
    let none = call("listinvoices", json!({"start": 2})).await.unwrap();
    assert!(none["invoices"].as_array().unwrap().is_empty());
    let other = call("listpeerchannels", json!({"short_channel_id": "1x1x1"})).await.unwrap();
    assert!(other["channels"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn who_gave_a_payment_back_is_told() {
    let failed = call("waitsendpay", json!(["00".repeat(32)])).await.unwrap_err().data.expect("data");
    let words = ["failure_reason", "failcodename", "erring_node", "erring_channel"];
    assert!(words.iter().all(|word| failed[word].is_string()), "{failed}");
    assert_eq!(failed["failcodename"], "WIRE_INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS");
    let numbers = ["failure_code", "failcode", "erring_index", "erring_direction"];
    assert!(numbers.iter().all(|word| failed[word].is_number()), "{failed}");
    let pays = call("listpays", json!({"status": "failed"})).await.unwrap();
    assert_eq!(pays["pays"][0]["failure_code"], 203);
    assert!(pays["pays"][0]["failure_reason"].is_string());
}
