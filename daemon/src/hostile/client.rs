//! What a client of the control socket, or a person at a terminal, may send.
//!
//! In: bytes. Out: nothing, or a panic: however a stream is cut, the same requests come out of it; each is bound to its
//! method's parameters or refused with a code; values that are read can be written and read again.
//! Read next: `backend`.

use super::hunt::saw;
use crate::cli::{self, Terminal};
use crate::rpc::amount;
use crate::rpc::call::message::recover;
use crate::rpc::filter;
use crate::rpc::frame::{FrameError, Splitter};
use crate::rpc::message::{answer, parse, to_wire, Incoming, RawParams, Request};
use crate::rpc::params::bind;
use crate::rpc::table::{find, METHODS};
use crate::rpc::zbase32;
use chand_protocol::id::{hex_array, hex_bytes, to_hex, ChannelId, NodeId, PaymentHash, ShortChannelId};
use serde_json::{json, Value};
use std::time::Duration;

const MAX_BYTES: usize = 4_096;
const MAX_DEPTH: usize = 32;

fn split(chunks: impl Iterator<Item = Vec<u8>>) -> (Vec<Vec<u8>>, Option<FrameError>) {
    let mut splitter = Splitter::new(MAX_BYTES, MAX_DEPTH);
    let mut values = Vec::new();
    for chunk in chunks {
        splitter.push(&chunk);
        loop {
            match splitter.next_value() {
                Ok(Some(value)) => values.push(value),
                Ok(None) => break,
                Err(error) => return (values, Some(error)),
            }
        }
    }
    (values, None)
}

/// A stream of requests.
pub fn requests(input: &[u8]) {
    let Some((step, stream)) = input.split_first() else { return };
    let whole = split([stream.to_vec()].into_iter());
    let cut = split(stream.chunks(usize::from(*step) % 64 + 1).map(<[u8]>::to_vec));
    assert_eq!(whole, cut, "it matters how the stream is cut");
    saw((whole.0.len().min(6), whole.1.map(|e| e.to_string())));
    for value in whole.0 {
        assert!(value.len() <= MAX_BYTES);
        match parse(&value) {
            Incoming::One(one) => take(*one),
            Incoming::Batch(list) => list.into_iter().for_each(take),
        }
    }
}

fn take(request: Result<Request, crate::rpc::message::Refusal>) {
    let (id, outcome) = match request {
        Err(refusal) => {
            let (id, error) = refusal.into_parts();
            (id, Err(error))
        }
        Ok(request) => (request.id.clone().unwrap_or(Value::Null), call(request)),
    };
    saw(outcome.as_ref().err().map(|error| (error.code, error.message.split(':').next().map(String::from))));
    let wire = to_wire(&answer(id.clone(), outcome));
    let text = wire.strip_suffix(b"\n\n").expect("two newlines at the end");
    let again: Value = serde_json::from_slice(text).unwrap_or_else(|e| panic!("our answer is no JSON: {e}"));
    // A number beyond a double is written as it was read, within what a double can say.
    assert!(again["id"] == id || id.to_string().contains(|c: char| c.is_ascii_digit()), "{again}");
}

fn call(request: Request) -> Result<Value, crate::rpc::RpcError> {
    let filter = request.filter.clone().unwrap_or(Value::Bool(true));
    let sample =
        json!({"outputs": [{"txid": "a", "n": 1}], "alias": "Alice", "deep": {"er": {"est": [1, [2]]}}});
    let result = filter::apply(sample, &filter)?;
    let method = match find(&request.method, true) {
        Some(method) => method,
        // Most names are no method's: the parameters are tried on one all the same.
        None => &METHODS[request.method.len() % METHODS.len()],
    };
    let named = match &request.params {
        RawParams::List(list) => list.len(),
        RawParams::Named(map) => map.len(),
    };
    let args = bind(method.params, request.params)?;
    saw((method.name, named));
    for param in method.params {
        // Whatever passed at the door is of its type.
        let there = args.has(param.name);
        assert!(!param.required || there, "{} is missing", param.name);
    }
    Ok(result)
}

/// Amounts, feerates, ids, signatures: anything in a text field.
pub fn words(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let msat = amount::msat(&text);
    if let Ok(msat) = msat {
        assert_eq!(amount::msat(&format!("{}msat", msat.0)), Ok(msat), "{text}");
    }
    let sat = amount::sat(&text);
    if let Ok(sat) = sat {
        assert_eq!(amount::sat(&format!("{}sat", sat.0)), Ok(sat), "{text}");
    }
    let feerate = amount::feerate(&text);
    for places in [0, 3, 8, 11] {
        saw(amount::decimal(&text, places)
            .map_err(|e| e.chars().take(12).collect::<String>())
            .map(|_| places));
    }
    assert!(amount::shorten(&text).chars().count() <= 200, "a complaint repeats all of it");
    saw((msat.is_ok(), sat.is_ok(), feerate.is_ok()));
    let zbase = zbase32::decode(&text);
    if let Some(bytes) = &zbase {
        assert_eq!(zbase32::decode(&zbase32::encode(bytes)).as_ref(), Some(bytes), "{text}");
    }
    saw((zbase.is_some(), recover("words", &text).map(|r| r.is_some())));
    if let Ok(bytes) = hex_bytes(&text) {
        assert_eq!(to_hex(&bytes), text.to_lowercase());
    }
    saw((
        hex_array::<32>(&text).is_ok(),
        text.parse::<ChannelId>().is_ok(),
        text.parse::<PaymentHash>().is_ok(),
        text.parse::<NodeId>().is_ok(),
        text.parse::<ShortChannelId>().is_ok(),
    ));
    if let Ok(short) = text.parse::<ShortChannelId>() {
        assert_eq!(short.to_string().parse(), Ok(short), "{text}");
    }
    saw(crate::chain::Chain::new(&text, crate::chain::Auth::Url).map(|_| ()).map_err(|e| e.to_string()));
}

/// `chan-cli`'s command line: an exit code, whatever stands there.
pub fn command_line(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let words: Vec<String> = text.split('\n').map(String::from).collect();
    // Nobody answers at any socket it may find.
    let elsewhere = words.iter().any(|w| w.contains('/'));
    if elsewhere {
        return;
    }
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut terminal = Terminal {
        out: &mut out,
        err: &mut err,
        out_is_terminal: false,
        err_is_terminal: false,
        poll: Duration::from_millis(1),
    };
    let env = |name: &str| (name == "HOME").then(|| "/nonexistent".to_string());
    let code = cli::run(&words, &env, &mut terminal);
    // Without a daemon only `help` is answered, and only `help` can refuse: there may be no such method.
    let helped = words.iter().any(|w| w == "help");
    let refused = code == cli::REFUSED && helped;
    assert!(code == cli::DONE || code == cli::UNREACHABLE || refused, "exit code {code} without a daemon");
    assert!(!out.is_empty() || !err.is_empty(), "it says nothing");
    saw((
        code,
        words.first().and_then(|w| find(w, true)).map(|m| m.name),
        err.iter().take(24).copied().collect::<Vec<_>>(),
    ));
}

/// One request of each method, and some that are none.
pub fn request_seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = METHODS
        .iter()
        .map(|method| {
            let value = |n: usize| match n % 6 {
                0 => json!("100sat"),
                1 => json!(7),
                2 => json!("aa"),
                3 => json!([1, "2"]),
                4 => json!(true),
                _ => json!({"a": 1}),
            };
            let params: serde_json::Map<String, Value> =
                method.params.iter().zip(0..).map(|(p, n)| (p.name.to_string(), value(n))).collect();
            let request =
                json!({"jsonrpc": "2.0", "id": 1, "method": method.name, "params": params, "filter": true});
            format!("\x07{request}").into_bytes()
        })
        .collect();
    for text in [
        "\x01{\"id\":1,\"method\":\"pay\",\"params\":[\"lnbcrt1\",\"5sat\"]}{\"id\":\"x\",\"method\":\"getinfo\"}\n\n[{}]",
        "\x02[{\"id\":1,\"method\":\"help\",\"filter\":{\"outputs\":[{\"txid\":true}]}},7]",
        "\x00{\"id\":1e400,\"method\":\"\\ud800\"} {]",
    ] {
        seeds.push(text.as_bytes().to_vec());
    }
    seeds
}

/// Values of every kind.
pub fn word_seeds() -> Vec<Vec<u8>> {
    let texts = [
        "1000", "5sat", "0.00000001btc", "21000000btc", "1.5sat", "999msat", "any", "all", "normal", "urgent",
        "253perkw", "1000perkb", "slow", "103x1x0", "4294967295x16777215x65535", "http://alice:p%40ss@127.0.0.1:18443/wallet/w",
        "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
        "00000000000000000000000000000000000000000000000000000000000000ff",
        "rbgfioj114mh48d8egqx8o9qxqw4fmhe8jbeeabdioxnjk8z3t1ma1hu1fiswpakgucwwzwo6ofycffbsqusqdimugbh41n1g698hr9t",
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// Command lines.
pub fn command_seeds() -> Vec<Vec<u8>> {
    let texts = [
        "",
        "--help",
        "--version",
        "-H\ngetinfo",
        "-k\npay\nbolt11=lnbcrt1\nretry_for=5",
        "invoice\n5sat\nlabel\ntea",
        "--network=signet\nlistpeers",
        "--wait\nclose\n103x1x0",
        "fundchannel\nid\nall\n--",
        "--rpc-socket\nx\ngetinfo",
        "decode\n{\"a\":[1]}",
        "-k\nhelp\n=",
        "sendpay\n[{\"id\":\"02\"}]\naa",
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}
