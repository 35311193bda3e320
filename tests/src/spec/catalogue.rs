//! The list of requirements: `docs/spec/bolt-NN.txt`.
//!
//! In: a file. Its lines: `# text` (the first is the document's title, the others are notes), `== section`, and
//! `id | whose duty | requirement`, with a standing behind another `|` where no code keeps it: `absent: why`,
//! `not offered: feature`, `none` or `none: why`. Out: [`Bolt`]. Read next: `tags`.

use std::path::Path;

/// What is said of a requirement beside its tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing: a tag in the code must tell.
    Kept,
    /// Nothing chand does could break it, for this reason.
    Absent(String),
    /// It belongs to this feature, which chand does not offer.
    NotOffered(String),
    /// It is not kept, or only in part; why, if there is more to say.
    NoneYet(String),
}

/// One MUST or MUST NOT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// Its stable name: BOLT, section, number.
    pub id: String,
    /// Whose duty it is.
    pub duty: String,
    /// What is asked, in our words.
    pub text: String,
    /// What is said of it.
    pub standing: Standing,
}

/// A heading of the BOLT and what stands under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// The heading.
    pub title: String,
    /// In the BOLT's order.
    pub requirements: Vec<Requirement>,
}

/// One document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bolt {
    /// Its title.
    pub title: String,
    /// In its order.
    pub sections: Vec<Section>,
}

impl Bolt {
    /// Every requirement, in order.
    pub fn requirements(&self) -> impl Iterator<Item = &Requirement> {
        self.sections.iter().flat_map(|section| &section.requirements)
    }
}

/// Every catalogue, by number of the BOLT.
///
/// # Errors
/// The file and line that is no catalogue line.
pub fn read(root: &Path) -> Result<Vec<Bolt>, String> {
    ["01", "02", "03", "04", "05", "07", "08", "11"]
        .into_iter()
        .map(|number| {
            let path = root.join(format!("docs/spec/bolt-{number}.txt"));
            let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            parse(&text).map_err(|e| format!("{}: {e}", path.display()))
        })
        .collect()
}

/// Reads one catalogue.
///
/// # Errors
/// The first line that makes no sense.
pub fn parse(text: &str) -> Result<Bolt, String> {
    let mut lines = text.lines();
    let title = lines.next().and_then(|line| line.strip_prefix("# ")).ok_or("the first line is no title")?;
    let mut bolt = Bolt { title: title.into(), sections: Vec::new() };
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(title) = line.strip_prefix("== ") {
            bolt.sections.push(Section { title: title.into(), requirements: Vec::new() });
            continue;
        }
        let section = bolt.sections.last_mut().ok_or_else(|| format!("before any section: {line}"))?;
        section.requirements.push(requirement(line).ok_or_else(|| format!("no requirement: {line}"))?);
    }
    Ok(bolt)
}

fn requirement(line: &str) -> Option<Requirement> {
    let fields: Vec<&str> = line.split('|').map(str::trim).collect();
    let (id, duty, text, standing) = match fields.as_slice() {
        [id, duty, text] => (id, duty, text, Standing::Kept),
        [id, duty, text, standing] => (id, duty, text, standing_of(standing)?),
        _ => return None,
    };
    let sound = super::tags::is_id(id) && !duty.is_empty() && !text.is_empty();
    sound.then(|| Requirement { id: (*id).into(), duty: (*duty).into(), text: (*text).into(), standing })
}

fn standing_of(text: &str) -> Option<Standing> {
    if text == "none" {
        return Some(Standing::NoneYet(String::new()));
    }
    let (kind, why) = text.split_once(": ").filter(|(_, why)| !why.is_empty())?;
    let why = why.to_string();
    match kind {
        "absent" => Some(Standing::Absent(why)),
        "not offered" => Some(Standing::NotOffered(why)),
        "none" => Some(Standing::NoneYet(why)),
        _ => None,
    }
}
