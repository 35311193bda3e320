//! Every bad client over a real socket, and that good ones beside it do not notice.

use super::fake::FakeBackend;
use super::log::Ring;
use super::socket::{bind, serve, BindError, Limits};
use serde_json::{json, Value};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::timeout;

struct World {
    backend: Arc<FakeBackend>,
    path: PathBuf,
    shutdown: watch::Sender<bool>,
    server: tokio::task::JoinHandle<()>,
    _folder: tempfile::TempDir,
}

fn world(limits: Limits) -> World {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("regtest/rpc.sock");
    let backend = Arc::new(FakeBackend::default());
    let (shutdown, told) = watch::channel(false);
    let bound = bind(&path).unwrap();
    let server = tokio::spawn(serve(bound, Arc::clone(&backend) as _, Ring::default(), limits, told));
    World { backend, path, shutdown, server, _folder: folder }
}

fn small() -> Limits {
    Limits {
        request_bytes: 10_000,
        depth: 8,
        in_flight: 4,
        connections: 3,
        write_timeout: Duration::from_millis(200),
    }
}

struct Client {
    stream: UnixStream,
    buffer: Vec<u8>,
}

impl Client {
    async fn to(path: &Path) -> Client {
        Client { stream: UnixStream::connect(path).await.unwrap(), buffer: Vec::new() }
    }

    async fn send(&mut self, text: impl AsRef<[u8]>) {
        self.stream.write_all(text.as_ref()).await.unwrap();
    }

    /// The next answer; `None` when the server hung up.
    async fn next(&mut self) -> Option<Value> {
        let read = async {
            loop {
                if let Some(end) = self.buffer.windows(2).position(|w| w == b"\n\n") {
                    let rest = self.buffer.split_off(end + 2);
                    let answer = std::mem::replace(&mut self.buffer, rest);
                    return Some(serde_json::from_slice(&answer).unwrap());
                }
                if self.stream.read_buf(&mut self.buffer).await.unwrap_or(0) == 0 {
                    assert!(self.buffer.is_empty(), "half an answer");
                    return None;
                }
            }
        };
        timeout(Duration::from_secs(20), read).await.expect("an answer in time")
    }

    async fn call(&mut self, method: &str, params: Value) -> Value {
        self.send(json!({"jsonrpc":"2.0","id":"c","method":method,"params":params}).to_string()).await;
        let answer = self.next().await.unwrap();
        assert_eq!(answer["id"], "c");
        answer
    }
}

async fn works(world: &World) {
    let answer = Client::to(&world.path).await.call("getinfo", json!({})).await;
    assert_eq!(answer["result"]["alias"], "Alice");
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_requests_in_any_form_on_one_connection() {
    let w = world(Limits::default());
    let mut c = Client::to(&w.path).await;
    c.send(b"{\"id\":1,\"method\":\"getinfo\"}{\"id\":\"two\",\"method\":\"help\",\"params\":[]}\n").await;
    c.send(b"{\"id\":null,\"method\":\"nope\"}\n\n{\"method\":\"getinfo\"}{\"id\":[5],").await;
    c.send(b"\"method\":\"getinfo\",\"params\":{},\"filter\":{\"alias\":true}}").await;
    let mut answers = Vec::new();
    for _ in 0..4 {
        answers.push(c.next().await.unwrap());
    }
    let of = |id: Value| answers.iter().find(|a| a["id"] == id).unwrap();
    assert_eq!(of(json!(1))["result"]["alias"], "Alice");
    assert!(of(json!("two"))["result"]["help"].as_array().unwrap().len() > 30);
    assert_eq!(of(json!(null))["error"]["code"], -32601);
    assert_eq!(of(json!([5]))["result"], json!({"alias": "Alice"}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_request_does_not_hold_up_the_next() {
    let w = world(Limits::default());
    let mut c = Client::to(&w.path).await;
    c.send(b"{\"id\":1,\"method\":\"waitanyinvoice\"}{\"id\":2,\"method\":\"getinfo\"}").await;
    assert_eq!(c.next().await.unwrap()["id"], 2);
    until("it waits", || w.backend.waiting.load(Ordering::SeqCst) == 1).await;
    w.backend.paid.notify_one();
    let late = c.next().await.unwrap();
    assert_eq!(late["id"], 1);
    assert_eq!(late["result"]["status"], "paid");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_are_answered_as_arrays() {
    let w = world(Limits::default());
    let mut c = Client::to(&w.path).await;
    c.send(b"[{\"id\":1,\"method\":\"getinfo\"},{\"method\":\"getinfo\"},7,{\"id\":2,\"method\":\"x\"}]")
        .await;
    let list = c.next().await.unwrap();
    let codes: Vec<_> = list.as_array().unwrap().iter().map(|a| a["error"]["code"].as_i64()).collect();
    assert_eq!(codes, [None, Some(-32600), Some(-32601)]);
    c.send(b"[]").await;
    assert_eq!(c.next().await.unwrap()["error"]["code"], -32600);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_requests_have_their_codes_and_the_connection_goes_on() {
    let w = world(Limits::default());
    let mut c = Client::to(&w.path).await;
    for (bytes, code) in [
        (&b"{\"id\":1,\"method\":}"[..], -32700),
        (b"{\"id\":1,\"method\":\"\xff\xfe\"}", -32700),
        (b"{\"id\":1}", -32600),
        (b"{\"id\":1,\"method\":[]}", -32600),
        (b"{\"id\":1,\"method\":\"getinfo\",\"params\":3}", -32600),
        (b"{\"id\":1,\"method\":\"multiwithdraw\",\"params\":{}}", -32601),
        (b"{\"id\":1,\"method\":\"ping\",\"params\":{}}", -32602),
        (b"{\"id\":1,\"method\":\"getinfo\",\"params\":[1]}", -32602),
    ] {
        c.send(bytes).await;
        let answer = c.next().await.unwrap();
        assert_eq!(answer["error"]["code"], code, "{}", String::from_utf8_lossy(bytes));
        assert!(answer.get("result").is_none());
    }
    assert!(c.call("ping", json!({"id": "02"})).await["error"]["message"]
        .as_str()
        .unwrap()
        .starts_with("id: "));
    assert_eq!(c.call("getinfo", json!({})).await["result"]["alias"], "Alice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_followed_is_answered_and_closed_and_harms_nobody() {
    let w = world(small());
    let long = format!("{{\"id\":1,\"method\":\"{}", "x".repeat(20_000));
    let deep = "[".repeat(9);
    for bytes in [long.as_bytes(), deep.as_bytes(), b"hello\n", b"\x00\xff\xfe", b"{]", b"\"half", b"}{"] {
        let mut c = Client::to(&w.path).await;
        // The server may hang up before all is written.
        let _ = c.stream.write_all(bytes).await;
        let answer = c.next().await.unwrap();
        assert_eq!(answer["error"]["code"], -32700);
        assert_eq!(answer["id"], Value::Null);
        assert_eq!(c.next().await, None);
        works(&w).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_request_waits_alone_and_is_named_when_it_ends() {
    let w = world(small());
    let mut half = Client::to(&w.path).await;
    half.send(b"{\"id\":1,\"method\":\"geti").await;
    works(&w).await;
    half.stream.shutdown().await.unwrap();
    let answer = half.next().await.unwrap();
    assert_eq!(answer["error"]["code"], -32700);
    assert!(answer["error"]["message"].as_str().unwrap().contains("within a request"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_closes_its_sending_side_is_still_answered() {
    let w = world(small());
    let mut c = Client::to(&w.path).await;
    c.send(b"{\"id\":1,\"method\":\"waitanyinvoice\"}").await;
    c.stream.shutdown().await.unwrap();
    until("it waits", || w.backend.waiting.load(Ordering::SeqCst) == 1).await;
    w.backend.paid.notify_one();
    assert_eq!(c.next().await.unwrap()["result"]["status"], "paid");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_gives_its_place_back() {
    let w = world(small());
    for _ in 0..3 {
        let mut gone = Client::to(&w.path).await;
        gone.send(b"{\"id\":1,\"method\":\"waitanyinvoice\"}").await;
    }
    // All three places were taken by requests that wait for ever; each is free again once its client is missed.
    until("they wait", || w.backend.waiting.load(Ordering::SeqCst) == 3).await;
    let patient = async {
        loop {
            let mut c = Client::to(&w.path).await;
            let _ = c.stream.write_all(b"{\"id\":1,\"method\":\"getinfo\"}").await;
            match c.next().await {
                Some(answer) if answer.get("result").is_some() => return,
                Some(answer) => {
                    assert!(answer["error"]["message"].as_str().unwrap().contains("too many clients"))
                }
                None => {}
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(20), patient).await.expect("a place");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_never_reads_is_hung_up_on() {
    let w = world(small());
    let mut deaf = Client::to(&w.path).await;
    let flood = async {
        // `help` is long; the socket's buffer fills, then the writer waits, then it gives up.
        while deaf.stream.write_all(b"{\"id\":1,\"method\":\"help\"}").await.is_ok() {}
    };
    let ((), ()) = tokio::join!(
        async { timeout(Duration::from_secs(20), flood).await.expect("the server hangs up") },
        works(&w)
    );
    works(&w).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_beyond_the_limit_wait_and_are_not_lost() {
    let w = world(small());
    let mut c = Client::to(&w.path).await;
    for id in 0..6 {
        c.send(format!("{{\"id\":{id},\"method\":\"waitanyinvoice\"}}")).await;
    }
    until("four wait", || w.backend.waiting.load(Ordering::SeqCst) == 4).await;
    works(&w).await;
    let mut ids = Vec::new();
    for done in 0..6usize {
        until("the next is started", || w.backend.waiting.load(Ordering::SeqCst) == (done + 4).min(6)).await;
        w.backend.paid.notify_one();
        ids.push(c.next().await.unwrap()["id"].as_u64().unwrap());
    }
    ids.sort_unstable();
    assert_eq!(ids, [0, 1, 2, 3, 4, 5]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stop_is_answered_first() {
    let w = world(Limits::default());
    let mut c = Client::to(&w.path).await;
    let refused = c.call("stop", json!({"now": true})).await;
    assert_eq!(refused["error"]["code"], -32602);
    assert!(!w.backend.stopped.load(Ordering::SeqCst));
    assert_eq!(c.call("stop", json!({})).await["result"]["result"], "Shutdown complete");
    until("told to stop", || w.backend.stopped.load(Ordering::SeqCst)).await;
    w.shutdown.send(true).unwrap();
    timeout(Duration::from_secs(20), w.server).await.expect("ends").unwrap();
    assert!(!w.path.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn file_modes_stale_files_and_long_paths() {
    let w = world(Limits::default());
    let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&w.path), 0o600);
    assert_eq!(mode(w.path.parent().unwrap()), 0o700);
    assert!(matches!(bind(&w.path), Err(BindError::InUse(_))));
    works(&w).await;

    let stale = w.path.with_file_name("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    assert!(stale.exists());
    let bound = bind(&stale).unwrap();
    assert_eq!(bound.path(), stale);
    drop(bound);
    assert!(!stale.exists());

    let file = w.path.with_file_name("notes.txt");
    std::fs::write(&file, "mine").unwrap();
    assert!(matches!(bind(&file), Err(BindError::NotASocket(_))));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");

    let long = w.path.with_file_name("x".repeat(120));
    let words = bind(&long).unwrap_err().to_string();
    assert!(words.contains("107") && words.contains("--rpc-socket"), "{words}");
}
