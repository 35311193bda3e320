//! What was published about runes. Read next: `super`.

use super::*;
use chand_protocol::id::hex_bytes;

const VECTORS: &str = include_str!("vectors.csv");
const ZEROS: [u8; 16] = [0; 16];

fn restriction(alternatives: &[&str]) -> Restriction {
    Restriction(alternatives.iter().map(|a| Alternative::plain(a).unwrap()).collect())
}

/// Whether every restriction holds of these fields.
fn holds(rune: &Rune, fields: &[(&str, &str)]) -> bool {
    let value = |name: &str| fields.iter().find(|(n, _)| *n == name).map(|(_, v)| *v);
    rune.restrictions().iter().all(|r| r.0.iter().any(|a| a.test(value(&a.field)).is_ok()))
}

#[test]
fn every_published_vector() {
    let mut current = None;
    let mut counts = [0usize; 5];
    for line in VECTORS.lines().filter(|l| !l.starts_with('#')) {
        let fields: Vec<&str> = line.split(',').collect();
        match fields.as_slice() {
            ["VALID", name, text, base64, ..] => {
                let rune = Rune::parse(base64).unwrap_or_else(|e| panic!("{name}: {e}"));
                assert_eq!(
                    (rune.to_hex_text().as_str(), rune.to_text().as_str()),
                    (*text, *base64),
                    "{name}"
                );
                assert!(rune.is_of(&ZEROS), "{name}");
                assert!(!rune.is_of(&[1; 16]), "{name}");
                current = Some(rune);
                counts[0] += 1;
            }
            ["PASS" | "FAIL", pairs @ ..] => {
                let pairs: Vec<(&str, &str)> = pairs.iter().filter_map(|p| p.split_once('=')).collect();
                // As text escapes have it: here a field's value is plain.
                let plain: Vec<(&str, String)> =
                    pairs.iter().map(|(name, value)| (*name, value.to_string())).collect();
                let given: Vec<(&str, &str)> = plain.iter().map(|(n, v)| (*n, v.as_str())).collect();
                assert_eq!(holds(current.as_ref().unwrap(), &given), fields[0] == "PASS", "{line}");
                counts[1] += 1;
            }
            ["DERIVE", name, from, to, pieces @ ..] => {
                let mut rune = Rune::parse(from).unwrap();
                let added = pieces.chunks(3).map(|piece| match piece {
                    [field, sign, value] => Alternative {
                        field: field.to_string(),
                        condition: Alternative::plain(&format!("x{sign}")).unwrap().condition,
                        value: value.to_string(),
                    },
                    other => panic!("{name}: {other:?}"),
                });
                rune.restrict(Restriction(added.collect()));
                assert_eq!(rune.to_text(), *to, "{name}");
                current = Some(rune);
                counts[2] += 1;
            }
            ["MALFORMED", name, _, base64, ..] => {
                assert!(Rune::parse(base64).is_err(), "{name}");
                counts[3] += 1;
            }
            ["BAD DERIVATION", name, _, base64, ..] => {
                assert!(!Rune::parse(base64).unwrap().is_of(&ZEROS), "{name}");
                counts[4] += 1;
            }
            other => panic!("a line of another kind: {other:?}"),
        }
    }
    assert!(counts.iter().all(|n| *n > 1), "{counts:?}");
}

/// From Core Lightning's tests/test_runes.py: runes of a node whose secret is known.
#[test]
fn runes_that_core_lightning_made() {
    let secret = hex_bytes("4ac018131e70b044e17891e67960f59b9d602525d3aef9956e900189f456e595").unwrap();
    let made = |id: u64, restrictions: &[&[&str]]| {
        let all = std::iter::once(number(id)).chain(restrictions.iter().map(|r| restriction(r)));
        Rune::new(&secret, all.collect())
    };
    let rune4 = "ixuStVB4oewJtVNnim1P_qEL89ZU0G8Tnxg_JZgJTUk9MyZpZF4wMjJkMjIzNjIwYTM1OWE0N2ZmNyZtZXRob2Q9bGlzdHBlZXJz";
    let rune9 = "AWO9sW94iv7Y99h0b6kyQO5yePUXQOSIpSuTRp8XFTM9NCZwbnVtPTAmcmF0ZT0zJnJhdGU9MQ==";
    assert_eq!(made(0, &[]).to_text(), "I9TZsYEWiAwThQye-gYhpWIe1h15szWEN_qNyMSBOdE9MA==");
    assert_eq!(made(3, &[&["id^022d223620a359a47ff7"], &["method=listpeers"]]).to_text(), rune4);
    assert_eq!(made(4, &[&["pnum=0"], &["rate=3"], &["rate=1"]]).to_text(), rune9);
    // And by whoever has the shorter one only.
    let mut rune = made(4, &[&["pnum=0"]]);
    rune.restrict(restriction(&["rate=3"]));
    rune.restrict(restriction(&["rate=1"]));
    assert_eq!((rune.to_text().as_str(), rune.id()), (rune9, Some(4)));
    assert!(rune.is_of(&secret));
}

#[test]
fn a_rune_that_was_touched_is_nobodys() {
    let secret = [7; 32];
    let rune = Rune::new(&secret, vec![number(5), restriction(&["method=getinfo"])]);
    let text = rune.to_text();
    for at in 0..text.len() {
        for other in ['A', 'B', '-', '=', '.'] {
            let mut touched: Vec<char> = text.chars().collect();
            if touched[at] == other {
                continue;
            }
            touched[at] = other;
            let touched: String = touched.into_iter().collect();
            // The bits behind the last byte, should there be any, are refused by the reader.
            assert!(!Rune::parse(&touched).is_ok_and(|r| r.is_of(&secret)), "{at} {other}");
        }
        // Without the signs that only fill up it is the same.
        let whole = text.trim_end_matches('=').len();
        assert!(at >= whole || !Rune::parse(&text[..at]).is_ok_and(|r| r.is_of(&secret)), "cut at {at}");
    }
    let mut fewer = rune.clone();
    fewer.restrictions.pop();
    assert!(!fewer.is_of(&secret), "one restriction fewer");
    let mut other = rune;
    other.restrictions.swap(0, 1);
    assert!(!other.is_of(&secret) && other.id().is_none());
}

#[test]
fn only_numbers_as_we_write_them_are_ours() {
    for (text, id) in [("7", Some(7)), ("07", None), ("+7", None), ("7-1", None), ("x", None), ("", None)] {
        let value = text.to_string();
        let first =
            Restriction(vec![Alternative { field: String::new(), condition: Condition::Equal, value }]);
        assert_eq!(Rune::new(&[1; 32], vec![first]).id(), id, "{text}");
    }
    assert_eq!(Rune::new(&[1; 32], vec![restriction(&["a=1"])]).id(), None);
}
