//! Runes and budgets at the real port of `--http`: what each allows, under many payers at once and past kills.

use crate::line::{ready, Line, TERMS};
use chand_tests::http::Http;
use chand_tests::{ports, wait_for, ChannelType, Node, World};
use serde_json::{json, Value};
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;

/// What the rune may spend.
const BUDGET_MSAT: u64 = 1_000_000;
/// What its child may, of that.
const CHILD_MSAT: u64 = 300_000;
const PAYERS: u64 = 10;
/// Invoices of each payer; all together ask for more than there is.
const INVOICES: u64 = 14;
const KILLS: u64 = 4;
/// Before the next try at a node that is away.
const PAUSE: Duration = Duration::from_millis(50);

/// Alice, started again with the listener; its port.
fn serve(alice: &mut Node, more: &[&str]) -> u16 {
    let port = ports::free();
    let address = format!("127.0.0.1:{port}");
    let extra = [&["--http", address.as_str()], more].concat();
    alice.set_extra(&extra);
    alice.kill_and_launch();
    port
}

fn rune(node: &Node, restrictions: Value) -> String {
    text(&node.call("createrune", json!({ "restrictions": restrictions })))
}

fn text(made: &Value) -> String {
    made["rune"].as_str().expect("a rune").into()
}

/// The last budget of a rune: spent, set aside and left.
fn stand(node: &Node, rune: &str) -> (u64, u64, u64) {
    let shown = node.call("showrunes", json!({ "rune": rune }));
    let budget =
        shown["runes"][0]["budgets"].as_array().and_then(|all| all.last()).expect("a budget").clone();
    let figure = |name: &str| budget[name].as_u64().expect("a figure");
    (figure("spent_msat"), figure("held_msat"), figure("left_msat"))
}

fn sent_msat(node: &Node) -> u64 {
    let pays = node.call("listpays", json!({ "status": "complete" }));
    let pays = pays["pays"].as_array().expect("pays").clone();
    pays.iter().map(|p| p["amount_sent_msat"].as_u64().expect("msat")).sum()
}

/// Pays every invoice, each until there is an answer that decides; how many were refused for want of budget.
fn payer(http: &Http, invoices: &[String], done: &AtomicU64) -> u64 {
    let mut refused = 0;
    for bolt11 in invoices {
        for _ in 0..2_000 {
            match http.call("pay", &json!({ "bolt11": bolt11 })) {
                Ok((201, _)) => break,
                Ok((401, error)) => {
                    assert_eq!(error["code"], 1502, "{error}");
                    refused += 1;
                    break;
                }
                // Under way since before a kill, or given up by one.
                Ok((500, _)) | Err(_) => std::thread::sleep(PAUSE),
                Ok(other) => panic!("{other:?}"),
            }
        }
        done.fetch_add(1, Ordering::SeqCst);
    }
    refused
}

#[test]
fn a_budget_is_never_overspent_by_many_at_once_nor_by_kills() {
    let mut world = World::with_channel(10_000_000, 1_000_000_000, ChannelType::Anchors);
    let port = serve(&mut world.alice, &[]);
    let parent =
        rune(&world.alice, json!([["method=pay", "method=getinfo"], [format!("budget_msat={BUDGET_MSAT}")]]));
    let narrower = json!({ "rune": parent, "restrictions": [[format!("budget_msat={CHILD_MSAT}")]] });
    let child = text(&world.alice.call("createrune", narrower));
    let invoices: Vec<Vec<String>> = (0..PAYERS)
        .map(|p| (0..INVOICES).map(|n| world.bob.invoice(9_001 + p * 131 + n, &format!("{p}-{n}"))).collect())
        .collect();
    let done = Arc::new(AtomicU64::new(0));
    let payers: Vec<_> = invoices
        .into_iter()
        .enumerate()
        .map(|(number, invoices)| {
            let shown = if number.is_multiple_of(2) { &parent } else { &child };
            let (http, done) = (Http::new(port, shown), Arc::clone(&done));
            std::thread::spawn(move || payer(&http, &invoices, &done))
        })
        .collect();
    for kill in 1..=KILLS {
        wait_for("payments to be decided", || match done.load(Ordering::SeqCst) {
            now if now >= kill * PAYERS => Ok(()),
            now => Err(format!("{now}")),
        });
        world.alice.kill_and_launch();
    }
    let refused: u64 = payers.into_iter().map(|p| p.join().expect("a payer")).sum();
    assert!(refused > 0, "nobody came to the end of the budget");
    wait_for("nothing to be under way", || match stand(&world.alice, &parent) {
        (_, 0, _) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let (spent, _, left) = stand(&world.alice, &parent);
    let sent = sent_msat(&world.alice);
    assert_eq!((spent, left), (sent, BUDGET_MSAT - sent), "the account is exact");
    let (childs, _, _) = stand(&world.alice, &child);
    assert!(childs <= CHILD_MSAT && childs < spent, "{childs} of {spent}");
    // To the last millisatoshi, and no further.
    let http = Http::new(port, &parent);
    let pay = |label: &str, msat: u64| {
        let bolt11 = world.bob.invoice(msat, label);
        http.call("pay", &json!({ "bolt11": bolt11 })).expect("an answer")
    };
    assert_eq!(pay("too much", left + 1).0, 401);
    if left > 0 {
        assert_eq!(pay("the rest", left).0, 201);
    }
    assert_eq!(pay("one", 1).0, 401);
    assert_eq!(http.call("getinfo", &json!({})).expect("an answer").0, 201);
    assert_eq!(stand(&world.alice, &parent), (BUDGET_MSAT, 0, 0));
    world.alice.kill_and_launch();
    assert_eq!(stand(&world.alice, &parent), (BUDGET_MSAT, 0, 0));
    for (method, params) in [
        ("keysend", json!({ "destination": world.bob.id(), "amount_msat": 1 })),
        ("close", json!({ "id": world.bob.id() })),
        (
            "withdraw",
            json!({ "destination": "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080", "satoshi": 1_000 }),
        ),
        ("createrune", json!({})),
    ] {
        assert_eq!(http.call(method, &params).expect("an answer").0, 401, "{method}");
    }
}

#[test]
fn what_was_refused_stays_refused_and_a_use_stays_used() {
    let mut world = World::new();
    let port = serve(&mut world.alice, &[]);
    let (all, seldom) = (rune(&world.alice, json!([])), rune(&world.alice, json!([["per=1day"]])));
    let ask = |rune: &str| {
        let (status, answer) = Http::new(port, rune).call("getinfo", &json!({})).expect("an answer");
        (status, answer["code"].as_i64().unwrap_or(0))
    };
    assert_eq!((ask(&all), ask(&seldom)), ((201, 0), (201, 0)));
    assert_eq!(ask(&seldom), (401, 1502));
    world.alice.call("blacklistrune", json!({ "start": 0 }));
    assert_eq!(ask(&all), (401, 1503));
    world.alice.kill_and_launch();
    assert_eq!((ask(&all), ask(&seldom)), ((401, 1503), (401, 1502)));
    world.alice.call("blacklistrune", json!({ "start": 0, "relist": true }));
    assert_eq!(ask(&all), (201, 0));
    // Another node's runes, of a number that was given out here as well.
    let theirs = rune(&world.bob, json!([]));
    assert_eq!(ask(&theirs), (401, 1501));
    let log = world.alice.log();
    assert!(!log.contains(&all) && !log.contains(&seldom), "a rune is in the log");
    // Stopped by whoever may.
    assert_eq!(Http::new(port, &all).call("stop", &json!({})).expect("an answer").0, 201);
    wait_for("the end", || match world.alice.process().ended() {
        Some(status) if status.success() => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

#[test]
fn a_wait_over_http_ends_when_it_happens() {
    let mut world = World::with_channel(1_000_000, 500_000_000, ChannelType::Anchors);
    let port = serve(&mut world.alice, &[]);
    let http = Http::new(port, &rune(&world.alice, json!([["method=waitanyinvoice"]])));
    let waiting = std::thread::spawn(move || http.call("waitanyinvoice", &json!({ "lastpay_index": 0 })));
    let bolt11 = world.alice.invoice(5_000, "tea");
    world.bob.call("pay", json!({ "bolt11": bolt11 }));
    let (status, answer) = waiting.join().expect("no panic").expect("an answer");
    assert_eq!((status, answer["label"].as_str()), (201, Some("tea")), "{answer}");
}

#[test]
fn with_tls_there_is_nothing_else_and_its_files_are_private() {
    let mut world = World::new();
    let port = serve(&mut world.alice, &["--http-tls", "always"]);
    let shown = rune(&world.alice, json!([]));
    assert!(Http::new(port, &shown).call("getinfo", &json!({})).is_err(), "without TLS");
    let dir = world.alice.socket().parent().expect("a folder").to_path_buf();
    for file in ["http-cert.pem", "http-key.pem"] {
        let mode = std::fs::metadata(dir.join(file)).expect(file).permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{file}");
    }
    let cert = std::fs::read(dir.join("http-cert.pem")).expect("read");
    world.alice.kill_and_launch();
    assert_eq!(std::fs::read(dir.join("http-cert.pem")).expect("read"), cert, "the same at the next start");
}

#[test]
fn fees_on_the_way_are_of_the_budget() {
    let mut line = Line::new(true);
    let port = serve(&mut line.world.alice, &TERMS);
    ready(&line.world.alice, &line.world.bob);
    Line::wait_map(&line.world.alice);
    let alice = &line.world.alice;
    // What Dave gets, and 100,000,000 msat for each of the two between.
    let (amount, cost) = (10_000_000_u64, 210_000_000_u64);
    let pay = |budget: u64, label: &str| {
        let shown = rune(alice, json!([["method=pay"], [format!("budget_msat={budget}")]]));
        let params = json!({ "bolt11": line.dave.invoice(amount, label), "maxfee": 1_000_000_000_u64, "retry_for": 5 });
        let (status, answer) = Http::new(port, &shown).call("pay", &params).expect("an answer");
        (status, answer, stand(alice, &shown))
    };
    let (status, answer, after) = pay(cost - 1, "one too few");
    assert!(
        status == 500 && answer["message"].as_str().is_some_and(|m| m.contains("No money moved")),
        "{answer}"
    );
    assert_eq!(after, (0, 0, cost - 1), "it is all there again");
    let (status, answer, after) = pay(cost, "just enough");
    assert_eq!(
        (status, answer["amount_sent_msat"].as_u64(), after),
        (201, Some(cost), (cost, 0, 0)),
        "{answer}"
    );
    let (status, answer, after) = pay(cost + 5_000, "more than enough");
    assert_eq!((status, after), (201, (cost, 0, 5_000)), "{answer}");
    line.wait_no_htlcs();
}
