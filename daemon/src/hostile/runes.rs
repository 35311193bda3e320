//! What somebody may show as a rune, or put into one.
//!
//! In: bytes, as restrictions, as a rune, as parameters. Out: nothing, or a panic: what is read can be written and read again, a rune
//! grows as its maker would have grown it, and no other is taken for ours. Read next: `crate::runes`.

use super::hunt::saw;
use crate::rpc::message::RawParams;
use crate::rpc::table::METHODS;
use crate::runes::authority::budgets;
use crate::runes::request::Request;
use crate::runes::restriction::{parse, to_text};
use crate::runes::{number, Alternative, Restriction, Rune, MAX_CHARS};
use serde_json::Value;

const SECRET: [u8; 32] = [5; 32];

/// Any of these.
pub fn runes(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    if let Ok(shown) = Rune::parse(&text) {
        assert!(!shown.is_of(&SECRET), "a rune of nobody's is ours");
        saw(shown.id().is_some());
    }
    let request = request(&text);
    match parse(&text) {
        Err(why) => saw(why.to_string()),
        Ok(restrictions) => take(&restrictions, &request),
    }
    if let Ok(alternative) = Alternative::plain(&text) {
        let again = parse(&alternative.to_string()).expect("what is written can be read");
        assert_eq!(again, [Restriction(vec![alternative])]);
    }
}

fn take(restrictions: &[Restriction], request: &Request) {
    assert_eq!(parse(&to_text(restrictions)).as_deref(), Ok(restrictions), "written and read again");
    let rune = Rune::new(&SECRET, restrictions.to_vec());
    let written = rune.to_text();
    if written.len() <= MAX_CHARS {
        assert!(Rune::parse(&written).is_ok_and(|read| read == rune && read.is_of(&SECRET)));
    }
    let mut grown = Rune::new(&SECRET, Vec::new());
    restrictions.iter().for_each(|restriction| grown.restrict(restriction.clone()));
    assert!(grown == rune, "it grows as it is made");
    for alternative in restrictions.iter().flat_map(|r| &r.0) {
        let field = request.field(&alternative.field);
        saw((
            alternative.condition as u8,
            field.as_ref().map(|f| alternative.test(f.as_deref()).is_ok()).ok(),
        ));
        assert!(!alternative.english().is_empty());
    }
    let found = budgets(1, rune.id().unwrap_or(0), rune.restrictions());
    saw(found.as_ref().map(Vec::len).map_err(|e| e.len()));
    if let Ok(found) = found {
        let more = [restrictions, &[number(3)]].concat();
        let kept = budgets(
            1,
            rune.id().unwrap_or(0),
            more.get(more.len() - rune.restrictions().len() - 1..).unwrap_or(&[]),
        );
        assert!(kept.is_ok_and(|kept| kept.starts_with(&found)), "what is added leaves the accounts alone");
    }
}

/// A request made of the same bytes.
fn request(text: &str) -> Request {
    let method = METHODS.get(text.len() % METHODS.len());
    let params = match serde_json::from_str(text) {
        Ok(Value::Object(map)) => RawParams::Named(map),
        Ok(Value::Array(list)) => RawParams::List(list),
        _ => RawParams::List(vec![Value::String(text.into())]),
    };
    Request::new(method.map_or("", |m| m.name), method, &params)
}

/// To begin with.
pub fn rune_seeds() -> Vec<Vec<u8>> {
    let texts = [
        "=1&method^list|method=getinfo&pnum<2&time<1656920538&rate=2",
        r"a_b~x\|\&\\|c#&d!|e{5&f}5&g$5&h/5",
        "=7&budget_msat=10000&budget_msat=5sat/day&per=5min",
        "pinvbolt11_amount<1000|parr0=lnbc1&pnameamountmsat>5",
        "7cKJyALVY0_LLVV-AB9oetXjipOdyt0EhOuYrSS42fM9MA==",
        r#"{"amount_msat":"10sat","id":"02","x":null}"#,
        r#"["lnbc1", 5, true, [1], {"a": "b"}]"#,
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}
