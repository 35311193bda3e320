//! The page `docs/SPEC.md`.
//!
//! In: the catalogues and the tags. Out: Markdown: counts, then a table for each section.
//! Read next: `tests/spec/main.rs`, which keeps the file equal to this.

use super::catalogue::{Bolt, Requirement, Standing};
use super::{places, Places, Tag};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

const HEAD: &str = "\
# The specification, tracked

Every MUST and MUST NOT of BOLT 1, 2, 3, 4, 5, 7, 8 and 11, in our own words: what keeps it and what tests it. The text is that of
`lightning/bolts` at commit `a3772650d8ebc06acf457fcadf97968ebfc4dfff` (2026-03-23). SHOULDs are left out, but for BOLT 5, where they are marked. Where one MUST has a list of
conditions, each is a line if chand offers the feature, and one line stands for all if it does not.

* **kept by**: the item of the code that keeps it, found by its tag (`[2.add.3]` in a comment). Paths begin in `protocol/src`
  unless they begin with `daemon` or `storage`.
* **tested by**: tests that fail without it, as far as somebody read them and said so by a tag; others may touch it too.
* *none yet*: not kept, or only in part. *not offered*: belongs to a feature that chand does not tell peers it has.
  *by absence*: chand does nothing that could break it.

This page is made from `docs/spec/bolt-NN.txt` and the tags: `CHAND_WRITE_DOCS=1 cargo test --release --workspace --test spec`.
";

/// How many requirements stand where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All.
    pub all: usize,
    /// Kept by code.
    pub kept: usize,
    /// Of those, with a test.
    pub tested: usize,
    /// By absence.
    pub absent: usize,
    /// Of features not offered.
    pub not_offered: usize,
    /// Not kept, or in part.
    pub none: usize,
}

/// Counts one document.
pub fn count(bolt: &Bolt, tags: &[Tag]) -> Counts {
    let places = places(tags);
    let mut counts = Counts::default();
    for line in bolt.requirements() {
        counts.all += 1;
        match line.standing {
            Standing::Kept => {
                counts.kept += 1;
                counts.tested += usize::from(places.get(&line.id).is_some_and(|p| !p.tested.is_empty()));
            }
            Standing::Absent(_) => counts.absent += 1,
            Standing::NotOffered(_) => counts.not_offered += 1,
            Standing::NoneYet(_) => counts.none += 1,
        }
    }
    counts
}

/// The whole page.
pub fn render(bolts: &[Bolt], tags: &[Tag]) -> String {
    let mut page = HEAD.to_string();
    page.push_str("\n| | all | kept | of these tested | by absence | not offered | none yet |\n|---|---|---|---|---|---|---|\n");
    for bolt in bolts {
        let Counts { all, kept, tested, absent, not_offered, none } = count(bolt, tags);
        let _ = writeln!(
            page,
            "| {} | {all} | {kept} | {tested} | {absent} | {not_offered} | {none} |",
            bolt.title
        );
    }
    open_list(&mut page, bolts);
    let places = places(tags);
    for bolt in bolts {
        let _ = writeln!(page, "\n## {}", bolt.title);
        for section in &bolt.sections {
            let _ = writeln!(page, "\n### {}\n", section.title);
            page.push_str("| id | duty of | requirement | kept by | tested by |\n|---|---|---|---|---|\n");
            for line in &section.requirements {
                row(&mut page, line, &places);
            }
        }
    }
    page
}

/// What is not kept, in one place.
fn open_list(page: &mut String, bolts: &[Bolt]) {
    page.push_str("\n## None yet\n\n");
    for line in bolts.iter().flat_map(Bolt::requirements) {
        if let Standing::NoneYet(why) = &line.standing {
            let why = if why.is_empty() { String::new() } else { format!(" – {why}") };
            let _ = writeln!(page, "* {} ({}): {}{why}", line.id, line.duty, line.text);
        }
    }
}

fn row(page: &mut String, line: &Requirement, places: &BTreeMap<String, Places>) {
    let found = places.get(&line.id).cloned().unwrap_or_default();
    let list = |set: &BTreeSet<super::Place>| {
        set.iter().map(|place| format!("`{place}`")).collect::<Vec<_>>().join(", ")
    };
    let kept = match &line.standing {
        Standing::Kept => list(&found.kept),
        Standing::Absent(why) => format!("by absence: {why}"),
        Standing::NotOffered(feature) => format!("not offered: {feature}"),
        Standing::NoneYet(why) if why.is_empty() => "**none yet**".into(),
        Standing::NoneYet(why) => format!("**none yet**: {why}"),
    };
    let _ =
        writeln!(page, "| {} | {} | {} | {kept} | {} |", line.id, line.duty, line.text, list(&found.tested));
}
