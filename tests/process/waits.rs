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

#[test]
fn who_waits_hears_of_it_and_a_kill_takes_no_number_back() {
    let mut world = World::with_channel(1_000_000, 500_000_000, ChannelType::Anchors);
    let (made, paid) = (&mut world.bob.client(), &mut world.bob.client());
    let sent = &mut world.alice.client();
    ask(made, "invoices", "created", 1);
    ask(paid, "invoices", "updated", 1);
    ask(sent, "sendpays", "updated", 1);
    let bolt11 = world.bob.invoice(11_000, "tea");
    let answer = heard(made);
    assert_eq!((&answer["subsystem"], &answer["created"]), (&json!("invoices"), &json!(1)));
    assert_eq!((&answer["invoices"]["label"], &answer["details"]["bolt11"]), (&json!("tea"), &json!(bolt11)));
    let answer = world.alice.call("pay", json!({ "bolt11": bolt11 }));
    assert_eq!(heard(paid)["invoices"]["status"], "paid");
    assert_eq!(heard(sent)["sendpays"]["payment_hash"], answer["payment_hash"]);

    // What was told before a kill is on disk: the next number is the next one.
    for round in 2..=6 {
        let label = format!("round {round}");
        let client = &mut world.bob.client();
        ask(client, "invoices", "updated", round);
        let bolt11 = world.bob.invoice(11_000, &label);
        world.alice.client().send("pay", &json!({ "bolt11": bolt11, "retry_for": 60 })).expect("asked");
        let answer = heard(client);
        assert_eq!((&answer["updated"], &answer["invoices"]["label"]), (&json!(round), &json!(label)));
        world.bob.kill_and_launch();
        assert_eq!(
            ["created", "updated", "deleted"].map(|i| index(&world.bob, "invoices", i)),
            [round, round, 0]
        );
        let later = world.bob.call("listinvoices", json!({ "index": "updated", "start": round }));
        assert_eq!(later["invoices"].as_array().map(Vec::len), Some(1), "{later}");
        assert_eq!(later["invoices"][0]["label"], json!(label));
        world.wait_normal();
    }
    world.wait_quiet();
    world.alice.kill_and_launch();
    assert_eq!(["created", "updated"].map(|i| index(&world.alice, "sendpays", i)), [6, 6]);
    world.bob.call("delinvoice", json!({ "label": "tea", "status": "paid" }));
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
