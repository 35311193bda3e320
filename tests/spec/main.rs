//! The BOLTs' MUSTs, the tags in the sources and `docs/SPEC.md` agree.
//!
//! In: `docs/spec`, every source file. Out: what does not fit; with `CHAND_WRITE_DOCS=1` the page is written anew.
//! Read next: `chand_tests::spec`.

use chand_protocol::wire::features::{Feature, Features};
use chand_tests::spec::catalogue::{self, Bolt, Standing};
use chand_tests::spec::{disagreements, page, root, tags};

fn bolts() -> Vec<Bolt> {
    catalogue::read(&root()).unwrap_or_else(|e| panic!("{e}"))
}

fn all_tags() -> Vec<tags::Tag> {
    tags::read(&root()).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn every_requirement_is_accounted_for() {
    let (bolts, tags) = (bolts(), all_tags());
    let wrong = disagreements(&bolts, &tags);
    assert!(wrong.is_empty(), "{} disagreements:\n{}", wrong.len(), wrong.join("\n"));
    let none: usize = bolts.iter().map(|bolt| page::count(bolt, &tags).none).sum();
    println!("requirements kept by none yet: {none}");
}

#[test]
fn the_page_is_up_to_date() {
    let path = root().join("docs/SPEC.md");
    let wanted = page::render(&bolts(), &all_tags());
    if std::env::var_os("CHAND_WRITE_DOCS").is_some() {
        std::fs::write(&path, &wanted).unwrap_or_else(|e| panic!("{e}"));
    }
    let page = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(page == wanted, "docs/SPEC.md is old: run this test once with CHAND_WRITE_DOCS=1");
}

/// The bits of a feature that the catalogue calls not offered; forwarding has none.
fn bits_of(feature: &str) -> &'static [Feature] {
    match feature {
        "peer storage" => &[Feature::ProvideStorage],
        "dual funding" => &[Feature::DualFund],
        "interactive transactions" => &[Feature::DualFund, Feature::Splice],
        "splicing" => &[Feature::Splice],
        "quiescence" => &[Feature::Quiesce],
        "attribution data" => &[Feature::AttributionData],
        "onion messages" => &[Feature::OnionMessages],
        "zeroconf" => &[Feature::Zeroconf],
        "forwarding" => &[],
        other => panic!("the catalogue names a feature that this test does not know: {other}"),
    }
}

#[test]
fn what_is_called_not_offered_is_not_offered() {
    let ours = Features::ours_init(true);
    for line in bolts().iter().flat_map(Bolt::requirements) {
        if let Standing::NotOffered(feature) = &line.standing {
            assert!(bits_of(feature).iter().all(|f| !ours.supports(*f)), "{}: {feature} is offered", line.id);
        }
    }
}

const SOURCE: &str = "\
//! A head. [1.a.1]

/// Above an item ([1.a.2, 1.a.3]).
#[derive(Debug)]
pub struct Above {
    /// A field. [1.a.4]
    field: u8,
}

impl Above {
    pub(crate) const fn inside(
        &self,
    ) -> bool {
        const LIMIT: u8 = 3;
        if self.field > LIMIT {
            // In a block. [1.a.5] And [this is no tag], nor is list[1].
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_test() {
        // [1.a.6]
    }

    fn a_helper() {
        // [1.a.7]
    }
}
";

#[test]
fn tags_know_the_item_they_stand_in() {
    let found: Vec<(String, String, bool, bool)> = tags::of_source("protocol/src/x.rs", SOURCE)
        .into_iter()
        .map(|t| (t.id, format!("{}", t.place), t.in_test, t.is_test))
        .collect();
    let wanted = [
        ("1.a.1", "x.rs head", false, false),
        ("1.a.2", "x.rs Above", false, false),
        ("1.a.3", "x.rs Above", false, false),
        ("1.a.4", "x.rs Above", false, false),
        ("1.a.5", "x.rs inside", false, false),
        ("1.a.6", "x.rs a_test", true, true),
        ("1.a.7", "x.rs a_helper", true, false),
    ];
    let wanted: Vec<_> =
        wanted.into_iter().map(|(i, p, t, h)| (i.to_string(), p.to_string(), t, h)).collect();
    assert_eq!(found, wanted);
}

#[test]
fn what_does_not_fit_is_said() {
    let catalogue = "\
# A title
== A section
1.a.1 | sender | kept and tagged
1.a.2 | sender | tagged nowhere
1.a.3 | sender | said to be absent | absent: never sent
1.a.4 | sender | not kept | none
1.a.4 | sender | twice | none: still
";
    let bolt = catalogue::parse(catalogue).expect("a catalogue");
    let source = "fn f() {\n    // [1.a.1, 1.a.3, 1.b.1]\n}\n";
    let said = disagreements(&[bolt], &tags::of_source("protocol/src/x.rs", source));
    assert_eq!(
        said,
        [
            "1.a.4 is in the catalogue twice",
            "x.rs f: [1.b.1] is in no catalogue",
            "1.a.2 has no tag in the code and no standing: add one, or `none`",
            "1.a.3 has a tag and another standing: one of them is old",
        ]
    );
    for bad in ["1.a.1 | sender | text\n", "# T\n1.a.1 | sender | no section\n", "# T\n== S\nno id | a | b\n"]
    {
        assert!(catalogue::parse(bad).is_err(), "{bad}");
    }
}
