//! `wait` over the socket: who waits hears of it, who leaves is forgotten, and no number is given twice across `kill -9`.

use chand_tests::{wait_for, ChannelType, Client, Node, World};
use serde_json::{json, Value};

fn index(node: &Node, list: &str, name: &str) -> u64 {
    let params = json!({ "subsystem": list, "indexname": name, "nextvalue": 0 });
    node.call("wait", params)[name].as_u64().expect("a number")
}

fn ask(client: &mut Client, list: &str, name: &str, nextvalue: u64) -> u64 {
    let params = json!({ "subsystem": list, "indexname": name, "nextvalue": nextvalue });
    client.send("wait", &params).expect("asked")
}

fn heard(client: &mut Client) -> Value {
    client.receive().expect("an answer").1.expect("no error")
}

/// Waits for the next number while `act` brings it about; the answer, which says what happened. Should `act` be quicker than the
/// request on its way, the number was there already and nothing is said: then once more.
fn hear(node: &Node, list: &str, name: &str, mut act: impl FnMut(u64)) -> Value {
    for _ in 0..20 {
        let next = index(node, list, name) + 1;
        let client = &mut node.client();
        ask(client, list, name, next);
        act(next);
        let answer = heard(client);
        assert_eq!((&answer["subsystem"], &answer[name]), (&json!(list), &json!(next)), "{answer}");
        if answer[list].is_object() {
            assert_eq!(answer[list], answer["details"], "{answer}");
            return answer;
        }
    }
    panic!("{list} {name}: twenty times the request came too late");
}

#[test]
fn who_waits_hears_of_it_and_a_kill_takes_no_number_back() {
    let mut world = World::with_channel(1_000_000, 500_000_000, ChannelType::Anchors);
    let label = |n: u64| format!("tea {n}");
    let mut last = 0;
    let answer = hear(&world.bob, "invoices", "created", |n| {
        last = n;
        world.bob.invoice(11_000, &label(n));
    });
    assert_eq!(
        (&answer["invoices"]["label"], &answer["invoices"]["status"]),
        (&json!(label(last)), &json!("unpaid"))
    );
    let pay = |name: &str| {
        let bolt11 = world.bob.invoice(11_000, name);
        world.alice.call("pay", json!({ "bolt11": bolt11 }));
    };
    let answer = hear(&world.bob, "invoices", "updated", |n| pay(&format!("paid {n}")));
    assert_eq!(answer["invoices"]["status"], "paid", "{answer}");
    let answer = hear(&world.alice, "sendpays", "updated", |n| pay(&format!("sent {n}")));
    assert_eq!(
        (&answer["sendpays"]["status"], &answer["sendpays"]["groupid"]),
        (&json!("complete"), &json!(1))
    );

    // What was told before a kill is on disk: the next number is the next one.
    for round in 0..5 {
        let mut name = String::new();
        let answer = hear(&world.bob, "invoices", "updated", |n| {
            name = format!("round {round}, {n}");
            let bolt11 = world.bob.invoice(11_000, &name);
            // Its answer may come after the kill.
            world.alice.client().send("pay", &json!({ "bolt11": bolt11, "retry_for": 60 })).expect("asked");
        });
        let number = answer["updated"].as_u64().expect("a number");
        assert_eq!(answer["invoices"]["label"], json!(name), "{answer}");
        world.bob.kill_and_launch();
        assert_eq!(index(&world.bob, "invoices", "updated"), number, "round {round}");
        let later = world.bob.call("listinvoices", json!({ "index": "updated", "start": number }));
        assert_eq!(later["invoices"].as_array().map(Vec::len), Some(1), "{later}");
        assert_eq!(later["invoices"][0]["label"], json!(name));
        world.wait_normal();
    }
    world.wait_quiet();
    let before = ["created", "updated", "deleted"].map(|i| index(&world.alice, "sendpays", i));
    world.alice.kill_and_launch();
    assert_eq!(["created", "updated", "deleted"].map(|i| index(&world.alice, "sendpays", i)), before);
    world.bob.call("delinvoice", json!({ "label": label(last), "status": "unpaid" }));
    assert_eq!(index(&world.bob, "invoices", "deleted"), 1);
}

#[test]
fn a_client_that_leaves_is_waited_for_no_more() {
    let world = World::new();
    let crowd: Vec<Client> = (0..16)
        .map(|_| {
            let mut client = world.alice.client();
            for _ in 0..64 {
                ask(&mut client, "invoices", "created", 1);
            }
            client
        })
        .collect();
    let refused = || {
        let mut client = world.alice.client();
        ask(&mut client, "invoices", "created", 1);
        client.set_patience(std::time::Duration::from_millis(200)).expect("a time");
        client.receive()
    };
    wait_for("all places to be taken", || match refused() {
        Ok((_, Err(error))) if error.code() == Some(-1) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    drop(crowd);
    let mut client = wait_for("a place", || match refused() {
        Err(_) => Ok(world.alice.client()),
        other => Err(format!("{other:?}")),
    });
    ask(&mut client, "invoices", "created", 1);
    world.alice.invoice(1_000, "tea");
    // It may come before the request that waits for it: then there is nothing to wait for.
    assert_eq!(heard(&mut client)["created"], 1);
}
