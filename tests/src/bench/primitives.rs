//! What this machine can do, one thing at a time, timed beside the payments it is compared with.
//!
//! In: a folder on the disk that is measured. Out: microseconds of each primitive that a payment is made of.
//! The curve's operations are libsecp256k1's, as chand calls them; a message is sealed by chand's own transport; the
//! commit is [`SledStore`]'s with all that makes it durable.
//! Read next: `ceiling` (what follows from these).

use super::pair::median;
use chand_protocol::noise::{Initiator, Responder, Sealer};
use chand_protocol::store::{Change, Store};
use chand_storage::{Owner, SledStore};
use secp256k1::ecdh::SharedSecret;
use secp256k1::{Message, PublicKey, Scalar, Secp256k1, SecretKey};
use serde_json::{json, Map, Value};
use sha2::{Digest, Sha256};
use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// Bytes of an `update_add_htlc`, onion included.
const MESSAGE_BYTES: usize = 1_450;
/// Bytes of a small record, such as an HTLC's change.
const RECORD_BYTES: usize = 300;
/// Records in a commit.
const RECORDS: [usize; 4] = [1, 10, 100, 400];
/// Keys that are written again and again.
const KEYS: usize = 2_000;
/// A page: the least that a disk writes.
const PAGE: [u8; 4_096] = [7; 4_096];
/// A small message and its answer.
const PING_BYTES: usize = 100;

/// Times `thing` in groups of `group` for about `seconds`: the median of one, in microseconds.
fn timed(seconds: f64, group: u32, mut thing: impl FnMut()) -> f64 {
    thing();
    let start = Instant::now();
    let mut times = Vec::new();
    while start.elapsed().as_secs_f64() < seconds || times.len() < 5 {
        let at = Instant::now();
        for _ in 0..group {
            thing();
        }
        times.push(at.elapsed().as_secs_f64() * 1e6 / f64::from(group));
    }
    median(&times)
}

/// All of them, in microseconds, by name.
///
/// # Panics
/// When the folder cannot be written.
pub fn measure(dir: &Path, quick: bool) -> Value {
    let seconds = if quick { 0.1 } else { 0.5 };
    let mut found = Map::new();
    found.insert("kind".into(), json!("primitives"));
    let mut add = |name: &str, us: f64| {
        found.insert(name.into(), json!((us * 100.0).round() / 100.0));
    };
    curve(seconds, &mut add);
    bytes(seconds, &mut add);
    disk(seconds, dir, &mut add);
    add("loopback_round_trip", loopback(seconds));
    Value::Object(found)
}

fn curve(seconds: f64, add: &mut impl FnMut(&str, f64)) {
    let secp = Secp256k1::new();
    let key = SecretKey::from_slice(&[0x11; 32]).expect("a key");
    let other = SecretKey::from_slice(&[0x22; 32]).expect("a key");
    let point = PublicKey::from_secret_key(&secp, &other);
    let scalar = Scalar::from(key);
    let digest = Message::from_digest([0x33; 32]);
    let signature = secp.sign_ecdsa(&digest, &other);
    let recoverable = secp.sign_ecdsa_recoverable(&digest, &other);
    add(
        "sign",
        timed(seconds, 50, || {
            black_box(secp.sign_ecdsa(black_box(&digest), &key));
        }),
    );
    add(
        "verify",
        timed(seconds, 50, || {
            black_box(secp.verify_ecdsa(black_box(&digest), &signature, &point)).expect("a good signature");
        }),
    );
    add(
        "recover",
        timed(seconds, 50, || {
            black_box(secp.recover_ecdsa(black_box(&digest), &recoverable)).expect("a good signature");
        }),
    );
    add(
        "ecdh",
        timed(seconds, 50, || {
            black_box(SharedSecret::new(black_box(&point), &key));
        }),
    );
    add(
        "point_times_scalar",
        timed(seconds, 50, || {
            black_box(black_box(point).mul_tweak(&secp, &scalar)).expect("a point");
        }),
    );
    add(
        "point_plus_generator",
        timed(seconds, 50, || {
            black_box(black_box(point).add_exp_tweak(&secp, &scalar)).expect("a point");
        }),
    );
    add(
        "generator_times_scalar",
        timed(seconds, 50, || {
            black_box(PublicKey::from_secret_key(&secp, black_box(&key)));
        }),
    );
}

fn bytes(seconds: f64, add: &mut impl FnMut(&str, f64)) {
    let message = [0x44; MESSAGE_BYTES];
    add(
        "sha256",
        timed(seconds, 200, || {
            black_box(Sha256::digest(black_box(message)));
        }),
    );
    let (mut sealer, mut sealed) = (sealer(), Vec::new());
    add(
        "seal_message",
        timed(seconds, 200, || {
            sealed.clear();
            sealer.seal(black_box(&message), &mut sealed).expect("a short message");
        }),
    );
}

/// The sending half of a link after its handshake.
fn sealer() -> Sealer {
    let secret = |byte| SecretKey::from_slice(&[byte; 32]).expect("a key");
    let bob = PublicKey::from_secret_key(&Secp256k1::new(), &secret(2));
    let (alice, one) = Initiator::new(secret(1), bob, secret(3));
    let (waiting, two) = Responder::new(secret(2), secret(4)).act_one(&one).expect("act one");
    let (three, transport) = alice.act_two(&two).expect("act two");
    waiting.act_three(&three).expect("act three");
    transport.split().0
}

fn disk(seconds: f64, dir: &Path, add: &mut impl FnMut(&str, f64)) {
    let dir = tempfile::Builder::new().prefix("disk-").tempdir_in(dir).expect("a folder");
    let file = std::fs::File::create(dir.path().join("page")).expect("a file");
    // The page is there before, as it is in a log that was made large beforehand.
    file.write_all_at(&PAGE, 0).expect("a write");
    file.sync_all().expect("a sync");
    add(
        "fdatasync_4k",
        timed(seconds, 1, || {
            file.write_all_at(&PAGE, 0).expect("a write");
            file.sync_data().expect("a sync");
        }),
    );
    let owner = Owner { network: "regtest".into(), node: "bench".into() };
    let mut store = SledStore::open(&dir.path().join("sled"), &owner).expect("a database");
    let mut turn = 0;
    for records in RECORDS {
        let us = timed(seconds, 1, || {
            let put = |n: usize| Change::Put {
                key: format!("record/{:05}", (turn + n) % KEYS).into(),
                value: vec![(turn % 251) as u8; RECORD_BYTES],
            };
            let list: Vec<Change> = (0..records).map(put).collect();
            store.commit(&[&list]).expect("a commit");
            turn += records;
        });
        add(&format!("sled_commit_{records}"), us);
    }
}

/// A message of [`PING_BYTES`] to another process and back.
fn loopback(seconds: f64) -> f64 {
    let program = std::env::current_exe().expect("this program");
    let mut child =
        Command::new(program).arg("echo").stdout(Stdio::piped()).spawn().expect("a second process");
    let mut port = String::new();
    let mut out = std::io::BufReader::new(child.stdout.take().expect("a pipe"));
    std::io::BufRead::read_line(&mut out, &mut port).expect("a port");
    let port: u16 = port.trim().parse().expect("a port");
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("a link");
    stream.set_nodelay(true).expect("TCP_NODELAY");
    let mut buffer = [0; PING_BYTES];
    let us = timed(seconds, 1, || {
        stream.write_all(&buffer).expect("a ping");
        stream.read_exact(&mut buffer).expect("a pong");
    });
    drop(stream);
    child.wait().expect("the end of the second process");
    us
}

/// The other end of [`loopback`]: prints its port, sends back what it gets, ends with the link.
///
/// # Panics
/// When it cannot listen.
pub fn echo() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    println!("{}", listener.local_addr().expect("an address").port());
    let (mut stream, _) = listener.accept().expect("a link");
    stream.set_nodelay(true).expect("TCP_NODELAY");
    let mut buffer = [0; PING_BYTES];
    while stream.read_exact(&mut buffer).is_ok() {
        if stream.write_all(&buffer).is_err() {
            return;
        }
    }
}
