//! What holds of the table as a whole. Read next: `super`.

use super::*;
use std::collections::BTreeSet;

#[test]
fn names_are_unique_and_required_come_first() {
    let mut names = BTreeSet::new();
    for m in METHODS {
        assert!(names.insert(m.name), "{} twice", m.name);
        assert!(!m.summary.is_empty() && m.summary.ends_with('.'), "{}", m.name);
        let mut seen = BTreeSet::new();
        let mut optional = false;
        for p in m.params {
            assert!(seen.insert(p.name), "{}: {} twice", m.name, p.name);
            assert!(!p.doc.is_empty());
            optional |= !p.required;
            assert!(!(optional && p.required), "{}: {} after an optional one", m.name, p.name);
        }
    }
}

#[test]
fn developer_methods_hide_without_dev() {
    assert!(find("dev-fail", false).is_none());
    assert!(find("dev-fail", true).is_some());
    assert!(METHODS.iter().all(|m| m.is_dev() == m.name.starts_with("dev-")));
}

#[test]
fn usage_leaves_out_what_is_not_done() {
    let usage = find("close", false).map(Method::usage);
    assert_eq!(usage.as_deref(), Some("close id [unilateraltimeout] [destination] [feerange] [dry_run]"));
}
