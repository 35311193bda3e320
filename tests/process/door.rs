//! Bad input at both doors: the control socket and the port for peers.
//! Each ends in a clear error or a closed connection, and everybody else goes on as before.

use chand_tests::books::shares;
use chand_tests::wait::PATIENCE;
use chand_tests::{wait_for, ChannelType, Client, Node, World};
use serde_json::{json, Value};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// The error code that answers these bytes.
fn code_of(node: &Node, bytes: &[u8]) -> Option<i64> {
    let mut client = node.client();
    client.write(bytes).expect("written");
    let (_, answer) = client.receive().expect("an answer");
    answer.expect_err("an error").code()
}

/// The node answers another client as if nothing were.
fn still_well(node: &Node) {
    let info = node.try_call("getinfo", json!({})).unwrap_or_else(|e| panic!("getinfo: {e}"));
    assert_eq!(info["id"], node.id());
}

#[test]
fn requests_that_are_none() {
    let world = World::new();
    let node = &world.alice;
    for (bytes, code) in [
        (b"{\"id\":1,\"method\":}".as_slice(), -32700),
        (b"{\"id\":1,\"method\":\"\xff\xfe\"}", -32700),
        (b"{\"id\":1}", -32600),
        (b"{\"id\":1,\"method\":5}", -32600),
        (b"{\"id\":1,\"method\":\"getinfo\",\"params\":5}", -32600),
        (b"{\"id\":1,\"method\":\"no-such-method\"}", -32601),
        (b"{\"id\":1,\"method\":\"invoice\",\"params\":{}}", -32602),
        (b"{\"id\":1,\"method\":\"invoice\",\"params\":{\"amount_msat\":-1,\"label\":\"a\",\"description\":\"b\"}}", -32602),
        (b"{\"id\":1,\"method\":\"getinfo\",\"params\":[1,2,3]}", -32602),
    ] {
        assert_eq!(code_of(node, bytes), Some(code), "{}", String::from_utf8_lossy(bytes));
        still_well(node);
    }
    let error = node.refusal("connect", json!({ "id": "not a node" }));
    assert_eq!(error.code(), Some(-32602));
    assert!(error.message().contains("id"), "the parameter is named: {error}");
    let error = node.refusal("dev-fail", json!({ "id": world.bob.id() }));
    assert_eq!(error.code(), Some(-32601), "without --dev there is no such thing: {error}");
}

#[test]
fn half_a_request_harms_nobody() {
    let world = World::new();
    let node = &world.alice;
    let mut half = node.client();
    half.write(b"{\"id\":1,\"method\":\"geti").expect("written");
    still_well(node);
    half.write(b"nfo\"}").expect("written");
    assert!(half.receive().expect("an answer").1.is_ok(), "the other half may come later");
    let mut gone = node.client();
    gone.write(b"{\"id\":1,").expect("written");
    drop(gone);
    still_well(node);
}

#[test]
fn a_huge_request_is_cut_off() {
    let world = World::new();
    let node = &world.alice;
    let mut client = node.client();
    let chunk = vec![b'x'; 1 << 20];
    let begun = client.write(b"{\"id\":1,\"method\":\"");
    let mut sent = 0;
    // The limit may come anywhere below 256 MiB; then the door is closed.
    let refused = begun.is_err()
        || (0..256).any(|_| {
            sent += 1;
            client.write(&chunk).is_err()
        });
    let answer = client.receive();
    let told = matches!(&answer, Ok((_, Err(_)))) || answer.is_err();
    assert!(refused && told, "{sent} MiB taken, answer {answer:?}");
    still_well(node);
}

#[test]
fn deep_nesting_is_refused() {
    let world = World::new();
    let deep = [b"{\"id\":1,\"method\":\"getinfo\",\"params\":".to_vec(), vec![b'['; 100_000]].concat();
    let mut client = world.alice.client();
    // It may hang up before all of it is written.
    let _ = client.write(&deep);
    let answer = client.receive();
    assert!(answer.is_err() || matches!(answer, Ok((_, Err(_)))), "{answer:?}");
    still_well(&world.alice);
}

#[test]
fn a_client_that_never_reads_harms_nobody() {
    let world = World::new();
    let node = &world.alice;
    let mut deaf = node.client();
    deaf.set_write_patience(Duration::from_secs(2)).expect("a time-out");
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": "help", "params": {} }).to_string();
    // Until nobody takes anything any more, or enough was asked for a megabyte of answers a hundred times over.
    let mut asked = 0;
    while asked < 20_000 && deaf.write(request.as_bytes()).is_ok() {
        asked += 1;
    }
    still_well(node);
    let again: Vec<Client> = (0..8).map(|_| node.client()).collect();
    still_well(node);
    drop(again);
    drop(deaf);
    still_well(node);
}

#[test]
fn many_requests_on_one_connection_are_all_answered() {
    let world = World::new();
    let mut client = world.alice.client();
    let ids: Vec<u64> = (0..100)
        .map(|n| client.send(if n % 2 == 0 { "getinfo" } else { "no-such" }, &json!({})).expect("asked"))
        .collect();
    let mut answered: Vec<u64> = (0..100)
        .map(|_| {
            let (id, answer) = client.receive().expect("an answer");
            let id = id.as_u64().expect("an id");
            assert_eq!(answer.is_ok(), id % 2 == 1, "the answer belongs to its id");
            id
        })
        .collect();
    answered.sort_unstable();
    assert_eq!(answered, ids);
}

/// Reads until the other side hangs up.
fn wait_hang_up(mut stream: TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let mut sink = [0; 4096];
    loop {
        match stream.read(&mut sink) {
            Ok(0) => return,
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::ConnectionReset || e.kind() == ErrorKind::BrokenPipe => return,
            Err(e) => panic!("it did not hang up: {e}"),
        }
    }
}

#[test]
fn rubbish_at_the_port_for_peers() {
    let world = World::with_channel(1_000_000, 500_000_000, ChannelType::Anchors);
    let node = &world.bob;
    let connect = || TcpStream::connect((Ipv4Addr::LOCALHOST, node.port())).expect("a connection");
    let rubbish: Vec<Vec<u8>> = vec![
        vec![0; 50],
        vec![0xff; 50],
        [vec![0], vec![2; 33], vec![7; 16]].concat(),
        [vec![1], vec![2; 49]].concat(),
        b"GET / HTTP/1.1\r\nHost: alice\r\nUser-Agent: lost on the way\r\n\r\n".to_vec(),
        (0..=255).cycle().take(100_000).collect(),
    ];
    for bytes in rubbish {
        let mut stream = connect();
        // It may hang up before all of it is written.
        let _ = stream.write_all(&bytes);
        wait_hang_up(stream);
    }
    // Less than a first message, and then nothing more: those that wait take nothing from others.
    let quiet: Vec<TcpStream> = (0..20)
        .map(|n| {
            let mut stream = connect();
            stream.write_all(&vec![0; n]).expect("written");
            stream
        })
        .collect();
    pay_on(&world, "while they wait");
    drop(quiet);
    pay_on(&world, "after they left");
    assert_eq!(world.alice.channel(node)["state"], "CHANNELD_NORMAL");
}

fn pay_on(world: &World, label: &str) {
    let bolt11 = world.bob.invoice(3_000, label);
    world.alice.call("pay", json!({ "bolt11": bolt11 }));
    world.wait_quiet();
    shares(&world.alice, &world.bob);
}

#[test]
fn a_link_cut_and_made_again_in_the_middle_of_payments() {
    let world = World::with_channel(10_000_000, 5_000_000_000, ChannelType::Anchors);
    let (alice, bob) = (&world.alice, &world.bob);
    let mut lines: Vec<Client> = Vec::new();
    for round in 0..20 {
        let bolt11 = bob.invoice(10_000, &format!("cut {round}"));
        let mut line = alice.client();
        line.send("pay", &json!({ "bolt11": bolt11 })).expect("asked");
        lines.push(line);
        alice.call("disconnect", json!({ "id": bob.id(), "force": true }));
        wait_for("the link again", || {
            let address = json!({ "id": bob.id(), "host": "127.0.0.1", "port": bob.port() });
            alice.try_call("connect", address).map_err(|e| e.to_string())
        });
    }
    let answers: Vec<Value> = lines
        .iter_mut()
        .map(|l| l.receive().expect("an answer").1.unwrap_or_else(|e| panic!("{e}")))
        .collect();
    assert!(answers.iter().all(|a| a["status"] == "complete"));
    world.wait_quiet();
    assert_eq!(shares(alice, bob), (4_999_800_000, 5_000_200_000));
}
