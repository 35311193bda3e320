//! Two pumps over 127.0.0.1, and a hand-made peer that does everything wrong.

use super::open;
use super::*;
use chand_protocol::id::ChannelId;
use chand_protocol::noise::Transport;
use chand_protocol::wire::message::{ErrorMessage, Ping, Pong};
use std::net::Ipv4Addr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc::Receiver;
use tokio::time::Instant;

const ALICE: u8 = 1;
const BOB: u8 = 2;
const CAROL: u8 = 3;
const PATIENCE: Duration = Duration::from_secs(20);

fn key(byte: u8) -> SecretKey {
    SecretKey::from_slice(&[byte; 32]).expect("a key")
}

fn id(byte: u8) -> NodeId {
    NodeId(key(byte).public_key(&Secp256k1::new()))
}

struct Node {
    peers: Peers,
    events: Receiver<PeerEvent>,
    address: SocketAddr,
}

impl Node {
    async fn start(byte: u8, limits: Limits, room: usize) -> Node {
        let (sender, events) = mpsc::channel(room);
        let peers = Peers::new(key(byte), limits, os_ephemeral, sender, Handle::current());
        let address = peers.listen((Ipv4Addr::LOCALHOST, 0).into()).await.expect("listens");
        Node { peers, events, address }
    }

    async fn next(&mut self) -> PeerEvent {
        timeout(PATIENCE, self.events.recv()).await.expect("an event in time").expect("a live queue")
    }

    async fn next_up(&mut self) -> (NodeId, LinkId) {
        match self.next().await {
            PeerEvent::Up { peer, link, .. } => (peer, link),
            other => panic!("expected Up, got {other:?}"),
        }
    }

    async fn next_message(&mut self) -> Message {
        match self.next().await {
            PeerEvent::Frame { message, .. } => message,
            other => panic!("expected Frame, got {other:?}"),
        }
    }

    async fn next_down(&mut self) -> (LinkId, String) {
        match self.next().await {
            PeerEvent::Down { link, reason, .. } => (link, reason),
            other => panic!("expected Down, got {other:?}"),
        }
    }
}

/// Alice calls Bob; both links are up.
async fn pair(limits: Limits) -> (Node, LinkId, Node, LinkId) {
    let mut alice = Node::start(ALICE, limits, 16).await;
    let mut bob = Node::start(BOB, limits, 16).await;
    alice.peers.dial(id(BOB), bob.address.to_string(), PATIENCE);
    let (peer, alice_link) = alice.next_up().await;
    assert_eq!(peer, id(BOB));
    let (peer, bob_link) = bob.next_up().await;
    assert_eq!(peer, id(ALICE));
    (alice, alice_link, bob, bob_link)
}

/// Carol, made by hand: a noise transport on a bare socket.
async fn carol_calls(node: &mut Node) -> (TcpStream, Transport, LinkId) {
    let mut stream = TcpStream::connect(node.address).await.expect("connects");
    let transport = open::call(&mut stream, key(CAROL), os_ephemeral, id(BOB)).await.expect("the handshake");
    let (peer, link) = node.next_up().await;
    assert_eq!(peer, id(CAROL));
    (stream, transport, link)
}

fn ping(n: u16) -> Message {
    Message::Ping(Ping { num_pong_bytes: n, byteslen: 8 })
}

fn words(bytes: usize) -> Message {
    Message::Warning(ErrorMessage { channel_id: ChannelId::ALL, data: vec![b'x'; bytes] })
}

/// That node still serves others.
async fn still_serves(node: &mut Node) {
    let mut alice = Node::start(ALICE, Limits::default(), 16).await;
    alice.peers.dial(id(BOB), node.address.to_string(), PATIENCE);
    let (_, link) = alice.next_up().await;
    node.next_up().await;
    alice.peers.queue(link, &[ping(9)]);
    assert_eq!(node.next_message().await, ping(9));
}

#[tokio::test]
async fn messages_pass_both_ways_in_order_through_key_rotations() {
    let (mut alice, alice_link, mut bob, bob_link) = pair(Limits::default()).await;
    for round in 0..30u16 {
        let there: Vec<Message> = (0..50).map(|n| ping(round * 50 + n)).collect();
        alice.peers.queue(alice_link, &there);
        for message in &there {
            assert_eq!(&bob.next_message().await, message);
        }
        bob.peers.queue(bob_link, &[words(60_000), Message::Pong(Pong { byteslen: round })]);
        assert_eq!(alice.next_message().await, words(60_000));
        assert_eq!(alice.next_message().await, Message::Pong(Pong { byteslen: round }));
    }
}

#[tokio::test]
async fn hanging_up_writes_what_was_queued_and_both_ends_hear_of_it() {
    let (mut alice, alice_link, mut bob, _) = pair(Limits::default()).await;
    alice.peers.queue(alice_link, &[words(50_000), ping(1)]);
    alice.peers.hang_up(alice_link, "enough");
    assert_eq!(bob.next_message().await, words(50_000));
    assert_eq!(bob.next_message().await, ping(1));
    assert_eq!(bob.next_down().await.1, "the peer closed the connection");
    assert_eq!(alice.next_down().await, (alice_link, "hung up by this node: enough".into()));
    assert_eq!((alice.peers.link_count(), bob.peers.link_count()), (0, 0));
    // A link that is gone swallows what comes late.
    alice.peers.queue(alice_link, &[ping(2)]);
    alice.peers.hang_up(alice_link, "twice");
}

#[tokio::test]
async fn names_and_ipv6_can_be_dialled_and_failures_are_told() {
    let mut alice = Node::start(ALICE, Limits::default(), 16).await;
    let mut bob = Node::start(BOB, Limits::default(), 16).await;
    alice.peers.dial(id(BOB), format!("localhost:{}", bob.address.port()), PATIENCE);
    alice.next_up().await;
    bob.next_up().await;
    if let Ok(v6) = bob.peers.listen("[::1]:0".parse().expect("an address")).await {
        alice.peers.dial(id(BOB), v6.to_string(), PATIENCE);
        alice.next_up().await;
        bob.next_up().await;
    }
    let closed = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
    for (peer, address, words) in [
        (BOB, closed.to_string(), "refused"),
        (BOB, "no port here".into(), "not an address"),
        (ALICE, bob.address.to_string(), "this node itself"),
        (CAROL, bob.address.to_string(), "is 03"),
    ] {
        alice.peers.dial(id(peer), address, PATIENCE);
        match alice.next().await {
            PeerEvent::DialFailed { reason, .. } if words == "is 03" => {
                assert!(reason.contains(&id(CAROL).to_string()), "{reason}");
            }
            PeerEvent::DialFailed { reason, .. } => assert!(reason.contains(words), "{reason}"),
            other => panic!("expected DialFailed, got {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_server_that_says_nothing_fails_the_dial_in_time() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let limits = Limits { handshake_timeout: Duration::from_millis(100), ..Limits::default() };
    let mut alice = Node::start(ALICE, limits, 16).await;
    let address = silent.local_addr().expect("an address").to_string();
    alice.peers.dial(id(BOB), address.clone(), PATIENCE);
    match alice.next().await {
        PeerEvent::DialFailed { reason, .. } => assert_eq!(reason, "the handshake took too long"),
        other => panic!("expected DialFailed, got {other:?}"),
    }
    alice.peers.dial(id(BOB), address, Duration::from_millis(20));
    match alice.next().await {
        PeerEvent::DialFailed { reason, .. } => assert_eq!(reason, "no answer within 20 ms"),
        other => panic!("expected DialFailed, got {other:?}"),
    }
}

#[tokio::test]
async fn garbage_and_cut_handshakes_leave_no_trace() {
    // BOLT 8 [8.noise.1].
    let limits = Limits { handshake_timeout: Duration::from_millis(300), ..Limits::default() };
    let mut bob = Node::start(BOB, limits, 16).await;
    for bytes in [&b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\nmore than fifty bytes"[..], &[0; 50], &[]] {
        let mut stream = TcpStream::connect(bob.address).await.expect("connects");
        stream.write_all(bytes).await.expect("writes");
        stream.shutdown().await.expect("shuts down");
        // "terminate the connection without any further messages" (BOLT 8).
        let mut answer = Vec::new();
        let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("an end");
        assert!(answer.is_empty());
    }
    // One byte a time, never enough: the clock runs over the whole handshake.
    let mut slow = TcpStream::connect(bob.address).await.expect("connects");
    let begun = Instant::now();
    let mut byte = [0u8; 1];
    loop {
        let _ = slow.write_all(&[0]).await;
        match timeout(Duration::from_millis(20), slow.read(&mut byte)).await {
            Ok(Ok(0) | Err(_)) => break,
            Ok(Ok(_)) => panic!("an answer to half an act"),
            Err(_) => assert!(begun.elapsed() < PATIENCE, "the slow one is still there"),
        }
    }
    assert_eq!(bob.peers.link_count(), 0);
    still_serves(&mut bob).await;
}

#[tokio::test]
async fn too_many_half_open_connections_push_out_the_oldest() {
    let limits = Limits { max_half_open: 2, ..Limits::default() };
    let mut bob = Node::start(BOB, limits, 16).await;
    let mut waiting = Vec::new();
    for _ in 0..4 {
        waiting.push(TcpStream::connect(bob.address).await.expect("connects"));
    }
    for stream in waiting.iter_mut().take(2) {
        let read = timeout(PATIENCE, stream.read(&mut [0u8; 1])).await.expect("closed in time");
        assert!(matches!(read, Ok(0) | Err(_)));
    }
    still_serves(&mut bob).await;
}

#[tokio::test]
async fn links_have_a_limit_and_strangers_a_lower_one() {
    let limits = Limits { max_links: 2, max_inbound: 1, ..Limits::default() };
    let mut bob = Node::start(BOB, limits, 16).await;
    let (first, _, _) = carol_calls(&mut bob).await;
    let mut second = TcpStream::connect(bob.address).await.expect("connects");
    let read = timeout(PATIENCE, second.read(&mut [0u8; 1])).await.expect("closed in time");
    assert!(matches!(read, Ok(0) | Err(_)));
    // Room is kept for the peers that Bob calls.
    let mut alice = Node::start(ALICE, Limits::default(), 16).await;
    bob.peers.dial(id(ALICE), alice.address.to_string(), PATIENCE);
    bob.next_up().await;
    alice.next_up().await;
    bob.peers.dial(id(ALICE), alice.address.to_string(), PATIENCE);
    assert!(
        matches!(bob.next().await, PeerEvent::DialFailed { reason, .. } if reason == "too many connections")
    );
    // And a place is free again once its link is gone.
    drop(first);
    bob.next_down().await;
    let begun = Instant::now();
    while bob.peers.inner.inbound.available_permits() == 0 {
        assert!(begun.elapsed() < PATIENCE, "the place is not given back");
        tokio::task::yield_now().await;
    }
    carol_calls(&mut bob).await;
}

#[tokio::test]
async fn when_too_much_waits_for_all_together_the_link_goes_for_which_most_does() {
    let limits = Limits { max_all_queued_bytes: 1_000_000, ..Limits::default() };
    let mut bob = Node::start(BOB, limits, 16).await;
    let (one, _, first) = carol_calls(&mut bob).await;
    let (two, _, second) = carol_calls(&mut bob).await;
    let (three, _, third) = carol_calls(&mut bob).await;
    // Nobody writes before the next `await`.
    let many = |count: usize| vec![words(60_000); count];
    bob.peers.queue(first, &many(5));
    bob.peers.queue(second, &many(8));
    bob.peers.queue(third, &many(3));
    assert_eq!(bob.peers.queued_bytes().values().filter(|bytes| **bytes > 0).count(), 3);
    bob.peers.queue(third, &many(1));
    let waiting = bob.peers.queued_bytes();
    assert!(waiting[&second] == 0 && waiting[&first] > 300_000 && waiting[&third] > 240_000, "{waiting:?}");
    let (down, reason) = bob.next_down().await;
    assert!(down == second && reason.contains("does not read"), "{reason}");
    // The places are free again.
    let (four, _, fourth) = carol_calls(&mut bob).await;
    bob.peers.queue(fourth, &many(6));
    assert!(bob.peers.queued_bytes()[&fourth] > 0);
    drop((one, two, three, four));
}

#[tokio::test]
async fn a_message_that_does_not_decode_is_told_and_ends_only_that_link() {
    // BOLT 1 [1.format.5].
    let mut bob = Node::start(BOB, Limits::default(), 16).await;
    let (mut stream, transport, link) = carol_calls(&mut bob).await;
    let (mut sealer, mut opener) = transport.split();
    let mut wire = Vec::new();
    // An odd type is ignored, an unknown even one is not (BOLT 1); what follows is never read.
    for message in [&[0xff, 0xff, 1][..], &[0xff, 0xff, 2], &[0xff, 0xfe, 3], &[0, 18, 0, 1, 0, 0]] {
        sealer.seal(message, &mut wire).expect("seals");
    }
    stream.write_all(&wire).await.expect("writes");
    assert_eq!(bob.next_message().await, Message::Unknown { kind: 0xffff });
    match bob.next().await {
        PeerEvent::BadFrame { link: bad, reason, .. } => {
            assert_eq!(bad, link);
            assert!(reason.contains("65534"), "{reason}");
        }
        other => panic!("expected BadFrame, got {other:?}"),
    }
    // The node's last word still reaches the peer.
    bob.peers.queue(link, &[words(3)]);
    bob.peers.hang_up(link, "nonsense");
    assert_eq!(bob.next_down().await.0, link);
    let mut got = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut got)).await.expect("in time").expect("an orderly end");
    let (head, body) = got.split_first_chunk_mut().expect("a frame");
    opener.open_length(head).expect("a length");
    assert_eq!(Message::decode(opener.open_body(body).expect("a body")), Ok(words(3)));
    still_serves(&mut bob).await;
}

#[tokio::test]
async fn a_node_that_ignores_a_bad_frame_loses_the_link_all_the_same() {
    let mut bob = Node::start(BOB, Limits::default(), 16).await;
    let (mut stream, transport, link) = carol_calls(&mut bob).await;
    let mut wire = Vec::new();
    transport.split().0.seal(&[1], &mut wire).expect("seals");
    stream.write_all(&wire).await.expect("writes");
    assert!(matches!(bob.next().await, PeerEvent::BadFrame { .. }));
    assert_eq!(bob.next_down().await.0, link);
}

#[tokio::test]
async fn damage_truncation_and_oversize_end_only_their_link() {
    let mut bob = Node::start(BOB, Limits::default(), 16).await;
    for (damage, words) in [(0usize, "authenticate"), (20, "authenticate"), (usize::MAX, "inside a message")]
    {
        let (mut stream, transport, link) = carol_calls(&mut bob).await;
        let mut wire = Vec::new();
        transport.split().0.seal(&[0, 18, 0, 1, 0, 0], &mut wire).expect("seals");
        match wire.get_mut(damage) {
            Some(byte) => *byte ^= 1,
            None => wire.truncate(wire.len() - 1),
        }
        // Whatever a length claims, a frame has at most 65,569 bytes; the flood behind it is never kept.
        wire.resize(wire.len() + if damage == 0 { 1_000_000 } else { 0 }, 0xaa);
        let _ = stream.write_all(&wire).await;
        let _ = stream.shutdown().await;
        let (down, reason) = bob.next_down().await;
        assert_eq!(down, link);
        assert!(reason.contains(words), "{reason}");
    }
    still_serves(&mut bob).await;
}

#[tokio::test]
async fn a_message_that_never_becomes_whole_times_out() {
    let limits = Limits { frame_timeout: Duration::from_millis(150), ..Limits::default() };
    let mut bob = Node::start(BOB, limits, 16).await;
    let (mut stream, transport, link) = carol_calls(&mut bob).await;
    let mut wire = Vec::new();
    transport.split().0.seal(&[0; 1000], &mut wire).expect("seals");
    let begun = Instant::now();
    let mut rest = wire.as_slice();
    // A byte now and then does not restart the clock.
    while let Some((byte, after)) = rest.split_first() {
        if stream.write_all(&[*byte]).await.is_err() || !bob.events.is_empty() {
            break;
        }
        rest = after;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (down, reason) = bob.next_down().await;
    assert_eq!(down, link);
    assert!(reason.contains("too long to arrive"), "{reason}");
    assert!(begun.elapsed() < PATIENCE);
    still_serves(&mut bob).await;
}

#[tokio::test]
async fn a_peer_that_does_not_read_loses_its_link_and_nothing_else() {
    let limits = Limits { max_queued_bytes: 1_000_000, ..Limits::default() };
    let mut bob = Node::start(BOB, limits, 16).await;
    let (stream, _transport, link) = carol_calls(&mut bob).await;
    let begun = Instant::now();
    while bob.events.is_empty() {
        bob.peers.queue(link, &[words(60_000)]);
        tokio::task::yield_now().await;
        assert!(begun.elapsed() < PATIENCE, "the queue never overflowed");
    }
    let (down, reason) = bob.next_down().await;
    assert_eq!(down, link);
    assert!(reason.contains("does not read"), "{reason}");
    drop(stream);
    still_serves(&mut bob).await;
}

#[tokio::test]
async fn a_full_event_queue_stops_the_reading_and_loses_nothing() {
    let mut alice = Node::start(ALICE, Limits { max_queued_bytes: 1 << 30, ..Limits::default() }, 16).await;
    let mut bob = Node::start(BOB, Limits::default(), 1).await;
    alice.peers.dial(id(BOB), bob.address.to_string(), PATIENCE);
    let (_, link) = alice.next_up().await;
    bob.next_up().await;
    // Far more than sockets buffer, so that it must be Bob's queue that holds it back.
    let messages: Vec<Message> = (0..400u16).flat_map(|n| [words(60_000), ping(n)]).collect();
    alice.peers.queue(link, &messages);
    for message in &messages {
        assert_eq!(&bob.next_message().await, message);
    }
    // A hang-up gets through although nobody drains the queue.
    alice.peers.queue(link, &messages[..100]);
    let bob_link = bob.peers.inner.registry().links.keys().next().copied().expect("Bob's link");
    bob.peers.hang_up(bob_link, "full");
    let begun = Instant::now();
    while bob.peers.link_count() > 0 {
        assert!(begun.elapsed() < PATIENCE, "the link is still there");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn shutting_down_flushes_refuses_and_ends() {
    let (mut alice, alice_link, mut bob, _) = pair(Limits::default()).await;
    let half = TcpStream::connect(alice.address).await.expect("connects");
    alice.peers.queue(alice_link, &[ping(7)]);
    timeout(PATIENCE, alice.peers.shut_down()).await.expect("in time");
    assert_eq!(bob.next_message().await, ping(7));
    bob.next_down().await;
    assert_eq!(alice.next_down().await, (alice_link, "this node is stopping".into()));
    assert!(alice.peers.listen((Ipv4Addr::LOCALHOST, 0).into()).await.is_err());
    drop(half);
    bob.peers.dial(id(ALICE), alice.address.to_string(), PATIENCE);
    assert!(matches!(bob.next().await, PeerEvent::DialFailed { .. }));
}
