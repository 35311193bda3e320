//! Answers in words.
//!
//! In: JSON of any method. Out: lines for a terminal: aligned names, amounts in satoshi, lists one by one.
//! Text from strangers (aliases, descriptions) is escaped, so that it cannot draw on the terminal.
//! Read next: `mod`.

use serde_json::{Map, Value};
use std::fmt::Write as _;

/// Any answer.
pub(super) fn render(value: &Value) -> String {
    let mut text = String::new();
    put(&mut text, value, 0);
    let text = text.trim_end().to_string();
    if text.is_empty() {
        "done".into()
    } else {
        text
    }
}

fn put(text: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(map) => put_object(text, map, depth),
        Value::Array(list) => {
            for item in list {
                put_item(text, item, depth);
            }
        }
        other => line(text, depth, &scalar("", other)),
    }
}

fn put_object(text: &mut String, map: &Map<String, Value>, depth: usize) {
    let width = map.keys().map(String::len).max().unwrap_or(0).min(32);
    for (name, value) in map {
        match value {
            Value::Object(inner) if inner.is_empty() => line(text, depth, &format!("{name:width$}  none")),
            Value::Array(list) if list.is_empty() => line(text, depth, &format!("{name:width$}  none")),
            Value::Array(list) if list.iter().all(|v| !v.is_object() && !v.is_array()) => {
                let all: Vec<String> = list.iter().map(|v| scalar("", v)).collect();
                line(text, depth, &format!("{name:width$}  {}", all.join(", ")));
            }
            Value::Object(_) | Value::Array(_) => {
                line(text, depth, &format!("{name}:"));
                put(text, value, depth + 1);
            }
            _ => line(text, depth, &format!("{name:width$}  {}", scalar(name, value))),
        }
    }
}

/// One of several: its first line is marked.
fn put_item(text: &mut String, item: &Value, depth: usize) {
    let mut inner = String::new();
    put(&mut inner, item, 0);
    for (number, one) in inner.lines().enumerate() {
        let mark = if number == 0 { "- " } else { "  " };
        line(text, depth, &format!("{mark}{one}"));
    }
}

fn line(text: &mut String, depth: usize, content: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{:indent$}{}", "", content.trim_end(), indent = depth * 2);
}

fn scalar(name: &str, value: &Value) -> String {
    match (value, value.as_u64()) {
        (_, Some(amount)) if name.ends_with("_msat") => sat(amount),
        (Value::String(text), _) => printable(text),
        (Value::Bool(true), _) => "yes".into(),
        (Value::Bool(false), _) => "no".into(),
        (Value::Null, _) => "none".into(),
        (other, _) => other.to_string(),
    }
}

/// Lines stay lines; other control characters, and marks that turn the writing around, are spelled out.
fn printable(text: &str) -> String {
    let turns =
        |c: char| matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut out = String::new();
    for c in text.chars() {
        if (c.is_control() && c != '\n') || turns(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// `1234567` msat as `1,234.567 sat`.
fn sat(msat: u64) -> String {
    let digits = (msat / 1_000).to_string();
    let mut whole = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            whole.push(',');
        }
        whole.push(digit);
    }
    match msat % 1_000 {
        0 => format!("{whole} sat"),
        rest => format!("{whole}.{rest:03} sat"),
    }
}

/// The methods by area; or, for one, all about it.
pub(super) fn help(answer: &Value) -> String {
    let empty = Vec::new();
    let list = answer["help"].as_array().unwrap_or(&empty);
    if let [one] = list.as_slice() {
        return one["verbose"].as_str().or(one["command"].as_str()).unwrap_or_default().into();
    }
    let mut text = String::new();
    let mut area = "";
    for entry in list {
        let category = entry["category"].as_str().unwrap_or_default();
        if category != area {
            let _ = writeln!(text, "{}{category}", if area.is_empty() { "" } else { "\n" });
            area = category;
        }
        let command = entry["command"].as_str().unwrap_or_default();
        let _ = writeln!(text, "  {command}\n      {}", entry["description"].as_str().unwrap_or_default());
    }
    text.push_str("\nMore about one: chan-cli help METHOD");
    text
}

/// An error and, where there is one, the way out.
pub(super) fn error(method: &str, error: &Value) -> String {
    let message = printable(error["message"].as_str().unwrap_or("an error without words"));
    let what = match error["code"].as_i64() {
        Some(-32601) => "All methods: chan-cli help".to_string(),
        Some(-32602) => format!("How it is used: chan-cli help {method}"),
        Some(301) => {
            "Coins in the wallet: chan-cli listfunds; an address to send some to: chan-cli newaddr".into()
        }
        Some(400..=402) => "Give the address: chan-cli connect ID@HOST:PORT".into(),
        Some(205 | 210) => "Channels and what they can send: chan-cli -H listpeerchannels".into(),
        Some(900) => "Invoices and their labels: chan-cli listinvoices".into(),
        _ => return message,
    };
    format!("{message}\n{what}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn amounts_lists_and_strangers() {
        let text = render(&json!({
            "alias": "a\u{1b}[2Jb\u{202e}c", "total_msat": 1_234_567_890u64, "open": true, "list": [],
            "bits": [12, 22], "channels": [{"id": "x", "of": {"in_msat": 1}}, {"id": "y"}],
        }));
        assert!(text.contains("a\\u{1b}[2Jb\\u{202e}c"));
        assert!(text.contains("1,234,567.890 sat"));
        assert!(text.contains("bits        12, 22"));
        assert!(text.contains("  - id  x\n    of:\n      in_msat  0.001 sat\n  - id  y"));
        assert_eq!(render(&json!({})), "done");
    }

    #[test]
    fn errors_say_what_to_do() {
        let words = error("pay", &json!({"code": -32602, "message": "bolt11: wrong"}));
        assert_eq!(words, "bolt11: wrong\nHow it is used: chan-cli help pay");
    }
}
