//! What a client of `--http` meets, kind ones and others. Read next: `super`.

use super::tls::{acceptor, Files};
use super::*;
use crate::rpc::fake::FakeBackend;
use crate::rpc::log::Ring;
use crate::rpc::Backend;
use crate::runes::{Alternative, Restriction};
use chand_protocol::node::command::Command;
use serde_json::{json, Value};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio::time::Instant;

struct Served {
    address: SocketAddr,
    backend: Arc<FakeBackend>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

const QUICK: Limits = Limits {
    connections: 8,
    head_time: Duration::from_millis(300),
    head_bytes: 16 << 10,
    body_time: Duration::from_millis(300),
    body_bytes: 64 << 10,
    write_time: Duration::from_millis(500),
    rune_time: Duration::from_millis(300),
    ping_time: Duration::from_secs(30),
    in_flight: 4,
};

async fn served_with(limits: Limits, tls: Option<TlsAcceptor>) -> Served {
    let backend = Arc::new(FakeBackend::default());
    let (stop, told) = watch::channel(false);
    let bound = bind("127.0.0.1:0".parse().unwrap(), tls, Vec::new()).await.unwrap();
    let address = bound.address().unwrap();
    let context = Arc::new(Context::new(Arc::clone(&backend) as _, Ring::default()));
    let task = tokio::spawn(serve(bound, context, limits, told));
    Served { address, backend, stop, task }
}

async fn served() -> Served {
    served_with(QUICK, None).await
}

impl Served {
    async fn rune(&self, restrictions: &[&[&str]]) -> String {
        let one = |r: &&[&str]| Restriction(r.iter().map(|a| Alternative::plain(a).unwrap()).collect());
        let all = restrictions.iter().map(one).collect();
        self.backend.runes().create(&*self.backend, all).await.unwrap().to_text()
    }

    async fn dial(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Everything that answers these bytes, until the other side closes or is silent.
    async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.dial().await;
        let _ = stream.write_all(bytes).await;
        drain(&mut stream).await
    }

    async fn post(&self, path: &str, headers: &str, body: &str) -> (u16, Value) {
        let text = self.raw(&request("POST", path, headers, body)).await;
        split(&text)
    }

    async fn call(&self, rune: &str, method: &str, params: Value) -> (u16, Value) {
        self.post(&format!("/v1/{method}"), &format!("rune: {rune}\r\n"), &params.to_string()).await
    }

    fn reached(&self) -> usize {
        let seen = self.backend.seen.lock().unwrap();
        seen.iter().filter(|c| !matches!(c, Command::ListRunes | Command::NewRune { .. })).count()
    }

    async fn end(self) {
        self.stop.send_replace(true);
        timeout(Duration::from_secs(10), self.task).await.unwrap().unwrap();
    }
}

fn request(method: &str, path: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}")
        .into_bytes()
}

async fn drain(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut all = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(Ok(n @ 1..)) = timeout(Duration::from_secs(5), stream.read(&mut chunk)).await {
        all.extend_from_slice(&chunk[..n]);
    }
    String::from_utf8_lossy(&all).into_owned()
}

fn split(text: &str) -> (u16, Value) {
    let status = text.get(9..12).and_then(|s| s.parse().ok()).unwrap_or(0);
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

#[tokio::test]
async fn methods_and_json_rpc() {
    let s = served().await;
    let rune = s.rune(&[]).await;
    let (status, info) = s.call(&rune, "getinfo", json!({})).await;
    assert_eq!((status, info["network"].as_str()), (201, Some("regtest")));
    assert_eq!(s.post("/v1/getinfo", &format!("Rune: {rune}\r\n"), "").await.0, 201, "without a body");
    assert_eq!(s.call(&rune, "listpeers", json!([])).await.0, 201);
    let (status, error) = s.call(&rune, "no-such-method", json!({})).await;
    assert_eq!((status, error["code"].as_i64()), (404, Some(-32601)));
    let (status, error) = s.call(&rune, "keysend", json!({ "destination": 5 })).await;
    assert_eq!((status, error["code"].as_i64()), (500, Some(-32602)));
    let headers = format!("rune: {rune}\r\ncontent-type: application/json; charset=utf-8\r\n");
    for path in ["/", "/v1"] {
        let (status, answer) = s.post(path, &headers, r#"{"jsonrpc":"2.0","id":7,"method":"getinfo"}"#).await;
        assert_eq!((status, &answer["id"]), (200, &json!(7)));
        assert!(answer["result"]["id"].is_string());
    }
    let (_, answer) = s.post("/", &headers, r#"[{"id":1,"method":"getinfo"},{"id":2,"method":"x"}]"#).await;
    assert_eq!(answer.as_array().map(Vec::len), Some(2));
    assert_eq!(answer[1]["error"]["code"], -32601);
    assert_eq!(s.post("/", &headers, r#"{"method":"getinfo"}"#).await.0, 204, "nobody wants the answer");
    let text =
        s.raw(&request("POST", "/v1/getinfo", &format!("rune: {rune}\r\n"), "{}")).await.to_lowercase();
    assert!(text.contains("cache-control: no-store") && !text.contains("access-control"), "{text}");
    s.end().await;
}

#[tokio::test]
async fn without_a_rune_of_ours_nothing_is_done() {
    let s = served().await;
    let rune = s.rune(&[&["method=getinfo"]]).await;
    let (status, error) = s.post("/v1/getinfo", "", "{}").await;
    assert_eq!((status, error["code"].as_i64()), (403, Some(1501)));
    let mut longer = crate::runes::Rune::parse(&rune).unwrap();
    longer.restrict(Restriction(vec![Alternative::plain("method!").unwrap()]));
    for (shown, method, code) in [
        ("", "getinfo", 1501),
        ("AAAA", "getinfo", 1501),
        (&rune[..rune.len() - 4], "getinfo", 1501),
        (&format!("{rune}AAAA"), "getinfo", 1501),
        (&rune.replacen(&rune[..1], if rune.starts_with('A') { "B" } else { "A" }, 1), "getinfo", 1501),
        (&"A".repeat(9_000), "getinfo", 1501),
        (&longer.to_text(), "getinfo", 1502),
        (&rune, "listpeers", 1502),
        (&rune, "no-such-method", 1502),
    ] {
        let (status, error) = s.call(shown, method, json!({})).await;
        assert_eq!((status, error["code"].as_i64()), (401, Some(code)), "{shown} {method}");
    }
    for path in
        ["/v1/../getinfo", "/v1//getinfo", "/v1/%67etinfo", "/V1/getinfo", "/v1/getinfo/", "/v1/GETINFO"]
    {
        assert_eq!(s.post(path, &format!("rune: {rune}\r\n"), "{}").await.0, 404, "{path}");
    }
    assert_eq!(s.reached(), 0, "the node was asked nothing");
    assert_eq!(s.call(&rune, "getinfo", json!({})).await.0, 201);
    s.backend.runes().blacklist(&*s.backend, (0, 0), false).await.unwrap();
    let (status, error) = s.call(&rune, "getinfo", json!({})).await;
    assert_eq!((status, error["code"].as_i64()), (401, Some(1503)), "refused from now on");
    s.end().await;
}

#[tokio::test]
async fn parameters_cannot_be_smuggled_past_a_restriction() {
    let s = served().await;
    let rune = s.rune(&[&["method=keysend"], &["pnameamount_msat<1000"]]).await;
    let to = crate::rpc::fake::node(2).to_string();
    let twice = format!(r#"{{"destination":"{to}","amount_msat":1,"amount_msat":5000}}"#);
    let headers = format!("rune: {rune}\r\n");
    for body in [
        json!({ "destination": to, "amount_msat": 1_000 }).to_string(),
        json!({ "destination": to, "amount_msat": "1000" }).to_string(),
        json!({ "destination": to, "amount_msat": "1sat" }).to_string(),
        json!({ "destination": to, "amount_msat": "0.00000001btc" }).to_string(),
        json!([to, 1_000]).to_string(),
        json!([to]).to_string(),
        json!({ "destination": to, "amountmsat": 1 }).to_string(),
        twice,
    ] {
        let status = s.post("/v1/keysend", &headers, &body).await.0;
        assert_ne!(status, 201, "{body}");
    }
    assert_eq!(s.reached(), 0);
    for body in [json!([to, 999]), json!({ "amount_msat": "999msat", "destination": to })] {
        assert_eq!(s.post("/v1/keysend", &headers, &body.to_string()).await.0, 201, "{body}");
    }
    // The method of the path is the one that is asked: what stands in the body is a parameter.
    let body = json!({ "method": "keysend", "destination": to, "amount_msat": 1 }).to_string();
    assert_eq!(s.post("/v1/getinfo", &headers, &body).await.0, 401);
    s.end().await;
}

#[tokio::test]
async fn a_budget_reaches_the_node_with_the_payment() {
    let s = served().await;
    let rune = s.rune(&[&["budget_msat=10000"], &["budget_msat=500/day"]]).await;
    let to = crate::rpc::fake::node(2).to_string();
    assert_eq!(s.call(&rune, "keysend", json!([to, 100])).await.0, 201);
    let Command::Within { budgets, .. } = s.backend.last() else { panic!("{:?}", s.backend.last()) };
    assert_eq!(
        budgets.iter().map(|b| (b.limit.0, b.daily)).collect::<Vec<_>>(),
        [(10_000, false), (500, true)]
    );
    assert_ne!(budgets[0].account, budgets[1].account);
    let mut child = crate::runes::Rune::parse(&rune).unwrap();
    child.restrict(Restriction(vec![Alternative::plain("budget_msat=50").unwrap()]));
    assert_eq!(s.call(&child.to_text(), "keysend", json!([to, 10])).await.0, 201);
    let Command::Within { budgets: childs, .. } = s.backend.last() else { panic!() };
    assert_eq!((childs.len(), &childs[..2]), (3, &budgets[..]), "it draws on its parent's");
    for method in ["withdraw", "close", "sendpay", "createrune", "showrunes", "stop", "listconfigs"] {
        assert_eq!(s.call(&rune, method, json!({})).await.0, 401, "{method}");
    }
    s.end().await;
}

#[tokio::test]
async fn names_and_pages_of_others() {
    let s = served().await;
    let rune = s.rune(&[]).await;
    let ask = |host: &str, more: &str| {
        format!("POST /v1/getinfo HTTP/1.1\r\nhost: {host}\r\nrune: {rune}\r\n{more}content-length: 0\r\nconnection: close\r\n\r\n")
    };
    let status = |text: String| split(&text).0;
    assert_eq!(status(s.raw(ask("127.0.0.1:1", "").as_bytes()).await), 201);
    assert_eq!(status(s.raw(ask("evil.example", "").as_bytes()).await), 421);
    assert_eq!(status(s.raw(ask("localhost", "origin: http://evil.example\r\n").as_bytes()).await), 403);
    assert_eq!(status(s.raw(ask("localhost", "origin: http://localhost\r\n").as_bytes()).await), 201);
    assert_eq!(status(s.raw(ask("localhost", "host: evil.example\r\n").as_bytes()).await), 400);
    let options = "OPTIONS /v1/getinfo HTTP/1.1\r\nhost: localhost\r\naccess-control-request-method: POST\r\nconnection: close\r\n\r\n";
    let preflight = s.raw(options.as_bytes()).await;
    assert!(
        split(&preflight).0 == 405 && !preflight.to_lowercase().contains("access-control-allow"),
        "{preflight}"
    );
    s.end().await;
}

#[tokio::test]
async fn slow_big_and_broken_requests_end() {
    let s = served().await;
    let rune = s.rune(&[]).await;
    let begun = Instant::now();
    // A head that never ends, and nothing at all.
    assert!(!s.raw(b"POST /v1/getinfo HTTP/1.1\r\nhost: localhost\r\nx: ").await.contains(" 201 "));
    assert_eq!(s.raw(b"").await, "");
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    let head = |length: usize| {
        format!("POST /v1/getinfo HTTP/1.1\r\nhost: localhost\r\nrune: {rune}\r\ncontent-length: {length}\r\n\r\n")
    };
    assert_eq!(split(&s.raw(head(100).as_bytes()).await).0, 408, "a body that never comes");
    assert_eq!(split(&s.raw(head(1 << 40).as_bytes()).await).0, 413);
    let big = "x".repeat(70 << 10);
    let chunked = format!(
        "POST /v1/getinfo HTTP/1.1\r\nhost: localhost\r\nrune: {rune}\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{big}\r\n0\r\n\r\n",
        big.len()
    );
    assert_eq!(split(&s.raw(chunked.as_bytes()).await).0, 413, "whose length is not told");
    let headers = format!("rune: {rune}\r\n");
    for body in ["{", "nonsense", "5", "\"x\"", "{}{}", &"[".repeat(60_000)] {
        assert_eq!(s.post("/v1/getinfo", &headers, body).await.0, 400, "{}", &body[..1]);
    }
    let mut bytes = request("POST", "/v1/getinfo", &headers, "{\"aa\":1}");
    let at = bytes.len() - 5;
    bytes[at] = 0xff;
    assert_eq!(split(&s.raw(&bytes).await).0, 400, "no UTF-8");
    assert_eq!(s.post("/v1/getinfo", &format!("{headers}content-type: text/plain\r\n"), "{}").await.0, 415);
    let long = format!("{headers}x: {}\r\n", "y".repeat(20_000));
    assert_eq!(s.post("/v1/getinfo", &long, "{}").await.0, 431);
    for garbage in
        [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice(), b"GET\r\n\r\n", b"\0\0\0\0\r\n\r\n"]
    {
        let text = s.raw(garbage).await;
        assert!(text.is_empty() || split(&text).0 == 400, "{text}");
    }
    // One after the other on one connection, asked all at once.
    let one = format!(
        "POST /v1/getinfo HTTP/1.1\r\nhost: localhost\r\nrune: {rune}\r\ncontent-length: 2\r\n\r\n{{}}"
    );
    let text = s.raw(one.repeat(20).as_bytes()).await;
    assert_eq!(text.matches("HTTP/1.1 201").count(), 20);
    // A connection that is kept and not used any more is closed.
    let begun = Instant::now();
    assert_eq!(s.raw(one.as_bytes()).await.matches("HTTP/1.1 201").count(), 1);
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    s.end().await;
}

#[tokio::test]
async fn places_are_bounded_and_come_back() {
    let s = served().await;
    let rune = s.rune(&[]).await;
    let mut idle = Vec::new();
    for _ in 0..20 {
        idle.push(s.dial().await);
    }
    // Whoever says nothing is gone soon.
    let begun = Instant::now();
    while s.call(&rune, "getinfo", json!({})).await.0 != 201 {
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
    drop(idle);
    // Waits are answered when they end, and end with their client.
    let path = "/v1/waitanyinvoice";
    let mut waiting = Vec::new();
    for _ in 0..3 {
        let mut stream = s.dial().await;
        stream.write_all(&request("POST", path, &format!("rune: {rune}\r\n"), "{}")).await.unwrap();
        waiting.push(stream);
    }
    while s.backend.waiting.load(std::sync::atomic::Ordering::SeqCst) < 3 {
        tokio::task::yield_now().await;
    }
    s.backend.paid.notify_waiters();
    for mut stream in waiting {
        assert_eq!(split(&drain(&mut stream).await).0, 201);
    }
    s.end().await;
}

#[tokio::test]
async fn tls_speaks_tls_only() {
    let dir = tempfile::tempdir().unwrap();
    let files = Files { cert: dir.path().join("c.pem"), key: dir.path().join("k.pem"), make: true };
    let s = served_with(QUICK, Some(acceptor(&files, &["localhost".into()]).unwrap())).await;
    let rune = s.rune(&[]).await;
    let text = s.raw(&request("POST", "/v1/getinfo", &format!("rune: {rune}\r\n"), "{}")).await;
    assert!(!text.contains("HTTP/1.1"), "plain text to a TLS port: {text}");
    assert_eq!(s.raw(b"").await, "", "a handshake that does not come");

    use tokio_rustls::rustls::crypto::ring;
    use tokio_rustls::rustls::pki_types::pem::PemObject;
    use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
    use tokio_rustls::rustls::{ClientConfig, RootCertStore};
    let connector = |trusted: bool| {
        let mut roots = RootCertStore::empty();
        if trusted {
            roots.add(CertificateDer::from_pem_file(&files.cert).unwrap()).unwrap();
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        tokio_rustls::TlsConnector::from(Arc::new(config))
    };
    let name = |text: &'static str| ServerName::try_from(text).unwrap();
    assert!(connector(false).connect(name("localhost"), s.dial().await).await.is_err(), "a stranger's");
    assert!(connector(true).connect(name("evil.example"), s.dial().await).await.is_err(), "another name");
    let mut stream = connector(true).connect(name("localhost"), s.dial().await).await.unwrap();
    stream.write_all(&request("POST", "/v1/getinfo", &format!("rune: {rune}\r\n"), "{}")).await.unwrap();
    assert_eq!(split(&drain(&mut stream).await).0, 201);
    s.end().await;
}

/// A client of the bare protocol (RFC 6455).
struct Bare(TcpStream);

impl Bare {
    async fn open(s: &Served, headers: &str) -> (u16, Bare) {
        let mut stream = s.dial().await;
        let head = format!(
            "GET /ws HTTP/1.1\r\nhost: localhost\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            match timeout(Duration::from_secs(5), stream.read_u8()).await {
                Ok(Ok(byte)) => answer.push(byte),
                _ => break,
            }
        }
        let text = String::from_utf8_lossy(&answer).to_lowercase();
        let status = split(&text).0;
        // The figure is RFC 6455's own (1.3).
        let proof = "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=";
        assert!(status != 101 || text.contains(proof), "{text}");
        (status, Bare(stream))
    }

    async fn frame(&mut self, first: u8, payload: &[u8], masked: bool) {
        let mut bytes = vec![first];
        let bit = if masked { 0x80 } else { 0 };
        match payload.len() {
            n @ 0..=125 => bytes.push(bit | n as u8),
            n @ 126..=0xffff => {
                bytes.push(bit | 126);
                bytes.extend((n as u16).to_be_bytes());
            }
            n => {
                bytes.push(bit | 127);
                bytes.extend((n as u64).to_be_bytes());
            }
        }
        if masked {
            bytes.extend([1, 2, 3, 4]);
        }
        let key = if masked { [1, 2, 3, 4] } else { [0; 4] };
        bytes.extend(payload.iter().zip(key.iter().cycle()).map(|(b, k)| b ^ k));
        let _ = self.0.write_all(&bytes).await;
    }

    async fn text(&mut self, text: &str) {
        self.frame(0x81, text.as_bytes(), true).await;
    }

    /// The next frame: its kind and payload; `None` when the connection ended.
    async fn read(&mut self) -> Option<(u8, Vec<u8>)> {
        let read = async {
            let first = self.0.read_u8().await.ok()?;
            let length = match self.0.read_u8().await.ok()? {
                126 => u64::from(self.0.read_u16().await.ok()?),
                127 => self.0.read_u64().await.ok()?,
                n => u64::from(n),
            };
            let mut payload = vec![0; length as usize];
            self.0.read_exact(&mut payload).await.ok()?;
            Some((first & 0x0f, payload))
        };
        timeout(Duration::from_secs(5), read).await.ok().flatten()
    }

    async fn answer(&mut self) -> Value {
        match self.read().await {
            Some((1, payload)) => serde_json::from_slice(&payload).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// Whether the other side closes.
    async fn closes(&mut self) -> bool {
        while let Some((kind, _)) = self.read().await {
            if kind == 8 {
                return true;
            }
        }
        true
    }
}

#[tokio::test]
async fn a_websocket_answers_as_its_rune_allows() {
    let s = served().await;
    let rune = s.rune(&[&["method^get", "method=waitanyinvoice"]]).await;
    let (status, mut ws) = Bare::open(&s, &format!("rune: {rune}\r\n")).await;
    assert_eq!(status, 101);
    // One that waits does not hold up another.
    ws.text(r#"{"id":1,"method":"waitanyinvoice","params":[]}"#).await;
    ws.text(r#"{"id":2,"method":"getinfo"}"#).await;
    let answer = ws.answer().await;
    assert!(answer["id"] == 2 && answer["result"]["id"].is_string(), "{answer}");
    ws.text(r#"{"id":3,"method":"listpeers"}"#).await;
    assert_eq!(ws.answer().await["error"]["code"], 1502);
    s.backend.paid.notify_waiters();
    assert_eq!(ws.answer().await["id"], 1);
    // In pieces, with a ping between them.
    ws.frame(0x01, br#"{"id":4,"#, true).await;
    ws.frame(0x89, b"hello", true).await;
    ws.frame(0x80, br#""method":"getinfo"}"#, true).await;
    assert_eq!(ws.read().await, Some((10, b"hello".to_vec())));
    assert_eq!(ws.answer().await["id"], 4);
    ws.text("no json").await;
    assert_eq!(ws.answer().await["error"]["code"], -32700);
    s.backend.runes().blacklist(&*s.backend, (0, 0), false).await.unwrap();
    ws.text(r#"{"id":5,"method":"getinfo"}"#).await;
    assert_eq!(ws.answer().await["error"]["code"], 1503, "an open connection is no way round");
    s.end().await;
}

#[tokio::test]
async fn a_rune_in_the_first_message() {
    let s = served().await;
    let rune = s.rune(&[&["method=getinfo"]]).await;
    let (status, mut ws) = Bare::open(&s, "").await;
    assert_eq!(status, 101);
    ws.text(&json!({ "id": 1, "method": "authenticate", "params": { "rune": rune } }).to_string()).await;
    assert_eq!(ws.answer().await["result"]["authenticated"], true);
    ws.text(r#"{"id":2,"method":"getinfo"}"#).await;
    assert!(ws.answer().await["result"]["id"].is_string());
    for first in [r#"{"id":1,"method":"getinfo"}"#, r#"{"id":1,"method":"authenticate","params":["AAAA"]}"#] {
        let (_, mut ws) = Bare::open(&s, "").await;
        ws.text(first).await;
        assert_eq!(ws.answer().await["error"]["code"], 1501);
        assert!(ws.closes().await);
    }
    // Silence, or what is no message.
    let (_, mut ws) = Bare::open(&s, "").await;
    assert!(ws.closes().await);
    assert_eq!(Bare::open(&s, "rune: AAAA\r\n").await.0, 401);
    assert_eq!(Bare::open(&s, "origin: http://evil.example\r\n").await.0, 403);
    s.end().await;
}

#[tokio::test]
async fn who_asks_and_never_reads_is_hung_up_on() {
    let s = served().await;
    let rune = s.rune(&[]).await;
    let head =
        format!("POST /v1/help HTTP/1.1\r\nhost: localhost\r\nrune: {rune}\r\ncontent-length: 0\r\n\r\n");
    let mut ask = vec![0x81, 0x80 | 26, 0, 0, 0, 0];
    ask.extend(br#"{"id":1, "method": "help"}"#);
    let (_, ws) = Bare::open(&s, &format!("rune: {rune}\r\n")).await;
    for (mut stream, ask) in [(s.dial().await, head.into_bytes()), (ws.0, ask)] {
        let begun = Instant::now();
        let mut at = 0;
        // Asked on and on, until the other side has gone; a write that stands still is tried again.
        loop {
            match timeout(Duration::from_millis(50), stream.write(&ask[at..])).await {
                Ok(Ok(n)) => at = (at + n) % ask.len(),
                Ok(Err(_)) => break,
                Err(_) => {}
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "it waits for ever");
        }
    }
    // Others are served meanwhile and afterwards.
    assert_eq!(s.call(&rune, "getinfo", json!({})).await.0, 201);
    s.end().await;
}

#[tokio::test]
async fn frames_that_break_the_rules_end_the_connection() {
    let s = served().await;
    let rune = s.rune(&[]).await;
    let good = br#"{"id":1,"method":"getinfo"}"#.as_slice();
    let big = vec![b'x'; QUICK.body_bytes + 1];
    for (first, payload, masked) in [
        (0x81, good, false),                  // not masked
        (0xc1, good, true),                   // a reserved bit
        (0x83, good, true),                   // a reserved kind
        (0x80, good, true),                   // goes on with nothing
        (0x09, b"x".as_slice(), true),        // a control frame in pieces
        (0x89, &[0; 126], true),              // a long control frame
        (0x81, b"\xff\xfe".as_slice(), true), // no UTF-8
        (0x82, good, true),                   // bytes
        (0x81, &big, true),                   // too long
    ] {
        let (_, mut ws) = Bare::open(&s, &format!("rune: {rune}\r\n")).await;
        ws.frame(first, payload, masked).await;
        assert!(ws.closes().await, "{first:x}");
    }
    assert_eq!(s.reached(), 0);
    // Many small pieces of one message count together.
    let (_, mut ws) = Bare::open(&s, &format!("rune: {rune}\r\n")).await;
    ws.frame(0x01, b"\"", true).await;
    for _ in 0..80 {
        ws.frame(0x00, &[b'y'; 1_000], true).await;
    }
    assert!(ws.closes().await);
    s.end().await;
}
