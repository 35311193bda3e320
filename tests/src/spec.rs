//! The specification, tracked: which MUST of the BOLTs is kept where, and tested by what.
//!
//! In: the catalogue `docs/spec/bolt-NN.txt`, and tags such as `[2.add.3]` in comments of the sources: in code they
//! stand where the rule is kept, in tests at the `#[test]` that fails without it. Out: `docs/SPEC.md`, and whatever does
//! not fit together. Names of items, not lines, are written, so that unrelated edits leave the page as it is.
//! Read next: `catalogue`, `tags`, `page`.

pub mod catalogue;
pub mod page;
pub mod tags;

use catalogue::{Bolt, Standing};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use tags::{Place, Tag};

/// The places of one requirement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Items of the code that keep it.
    pub kept: BTreeSet<Place>,
    /// Tests that fail without it.
    pub tested: BTreeSet<Place>,
}

/// The workspace's folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_path_buf()
}

/// Sorts the tags by requirement.
pub fn places(tags: &[Tag]) -> BTreeMap<String, Places> {
    let mut all: BTreeMap<String, Places> = BTreeMap::new();
    for tag in tags {
        let places = all.entry(tag.id.clone()).or_default();
        let set = if tag.in_test { &mut places.tested } else { &mut places.kept };
        set.insert(tag.place.clone());
    }
    all
}

/// Everything that does not fit together, one sentence each: unknown ids, requirements without a tag or a reason,
/// reasons that a tag contradicts, tags in tests outside of a test.
pub fn disagreements(bolts: &[Bolt], tags: &[Tag]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut known = BTreeMap::new();
    for line in bolts.iter().flat_map(Bolt::requirements) {
        if known.insert(line.id.as_str(), &line.standing).is_some() {
            wrong.push(format!("{} is in the catalogue twice", line.id));
        }
    }
    for tag in tags {
        if !known.contains_key(tag.id.as_str()) {
            wrong.push(format!("{}: [{}] is in no catalogue", tag.place, tag.id));
        }
        if tag.in_test && !tag.is_test {
            wrong.push(format!("{}: [{}] stands in test code, but in no test", tag.place, tag.id));
        }
    }
    let places = places(tags);
    for (id, standing) in known {
        let found = places.get(id).cloned().unwrap_or_default();
        match standing {
            Standing::Kept if found.kept.is_empty() => {
                wrong.push(format!("{id} has no tag in the code and no standing: add one, or `none`"));
            }
            Standing::Kept => {}
            _ if found != Places::default() => {
                wrong.push(format!("{id} has a tag and another standing: one of them is old"));
            }
            _ => {}
        }
    }
    wrong
}
