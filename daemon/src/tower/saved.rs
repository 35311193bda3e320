//! The tower's small file `watch`: where it stands on the chain, what has to be looked at again, and the breaches under way.
//!
//! In: [`Saved`]. Out: one file, written anew after each block and exchanged in one move: a version byte, the parts, each with its length,
//! and a checksum over all of it. So a file that is damaged is never taken for one of a later version.
//! Read next: `keeper`.

use bitcoin::BlockHash;
use chand_protocol::id::NodeId;
use chand_protocol::record;
use chand_protocol::tower::guard::Breach;
use chand_protocol::tower::Tag;
use chand_protocol::units::Height;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeSet, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Without gaps.
const VERSION: u8 = 2;
/// With them: a part more, behind the place.
const VERSION_GAPS: u8 = 3;
const CHECK: usize = 32;

/// A breach and whose it is.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Case {
    pub client: NodeId,
    pub tag: Tag,
    pub breach: Breach,
}

/// Where the tower stands.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct Place {
    /// Oldest first.
    pub blocks: VecDeque<(Height, BlockHash)>,
    /// Blocks that have to be looked at once more: something could not be read, or came after them.
    pub again: BTreeSet<Height>,
}

/// A channel of which something is not watched, since its file is damaged or cannot be read.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Gap {
    pub client: NodeId,
    pub tag: Tag,
    /// The first block that was not looked at for it.
    pub from: Height,
    /// When the first of what was missing came.
    pub came: Option<Height>,
}

/// What the file holds.
#[derive(Clone, Default)]
pub(super) struct Saved {
    pub place: Place,
    pub cases: Vec<Case>,
    pub gaps: Vec<Gap>,
}

/// Why it is not what it was.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadSaved {
    /// A later chand wrote it.
    #[error("written by a newer version of chand (version {0}): upgrade, or use the newer one")]
    Newer(u8),
    /// Not what was written.
    #[error("damaged")]
    Damaged,
    /// The file system.
    #[error("{0}")]
    Disk(#[from] io::Error),
}

impl Saved {
    fn encode(&self) -> Vec<u8> {
        // Rare as they are, an older version reads the file nearly always.
        let mut bytes = vec![if self.gaps.is_empty() { VERSION } else { VERSION_GAPS }];
        let mut part = |encoded: Vec<u8>| {
            bytes.extend(u32::try_from(encoded.len()).unwrap_or(u32::MAX).to_be_bytes());
            bytes.extend(encoded);
        };
        part(record::encode(&self.place));
        if !self.gaps.is_empty() {
            part(record::encode(&self.gaps));
        }
        self.cases.iter().for_each(|case| part(record::encode(case)));
        let check = Sha256::digest(&bytes);
        bytes.extend(check);
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Saved, BadSaved> {
        let length = bytes.len().checked_sub(CHECK).ok_or(BadSaved::Damaged)?;
        let (body, check) = bytes.split_at_checked(length).ok_or(BadSaved::Damaged)?;
        let (version, mut rest) = body.split_first().ok_or(BadSaved::Damaged)?;
        if Sha256::digest(body).as_slice() != check || *version < VERSION {
            return Err(BadSaved::Damaged);
        }
        if *version > VERSION_GAPS {
            return Err(BadSaved::Newer(*version));
        }
        let mut parts = Vec::new();
        while let Some((length, behind)) = rest.split_first_chunk::<4>() {
            let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| BadSaved::Damaged)?;
            let (part, behind) = behind.split_at_checked(length).ok_or(BadSaved::Damaged)?;
            parts.push(part);
            rest = behind;
        }
        let (place, mut cases) = parts.split_first().ok_or(BadSaved::Damaged)?;
        let mut gaps = Vec::new();
        if *version == VERSION_GAPS {
            let (part, rest) = cases.split_first().ok_or(BadSaved::Damaged)?;
            gaps = record::decode(part).map_err(|_| BadSaved::Damaged)?;
            cases = rest;
        }
        let cases: Result<Vec<Case>, _> = cases.iter().map(|case| record::decode(case)).collect();
        Ok(Saved {
            place: record::decode(place).map_err(|_| BadSaved::Damaged)?,
            cases: cases.map_err(|_| BadSaved::Damaged)?,
            gaps,
        })
    }

    /// From its file; what it is at the very first start, when there is none.
    ///
    /// # Errors
    /// [`BadSaved`].
    pub fn load(path: &Path) -> Result<Saved, BadSaved> {
        match fs::read(path) {
            Ok(bytes) => Saved::decode(&bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Saved::default()),
            Err(error) => Err(error.into()),
        }
    }

    /// Into its file.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn store(&self, path: &Path) -> io::Result<()> {
        let temp = path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temp)?;
        file.write_all(&self.encode())?;
        file.sync_all()?;
        fs::rename(&temp, path)?;
        path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::hashes::Hash;

    #[test]
    fn damage_is_called_damage_and_only_a_later_version_asks_for_an_upgrade() {
        let mut saved = Saved::default();
        saved.place.blocks.push_back((Height(7), BlockHash::from_byte_array([3; 32])));
        saved.place.again.insert(Height(5));
        assert_eq!(saved.encode()[0], VERSION);
        let client: NodeId =
            "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798".parse().expect("a key");
        saved.gaps.push(Gap { client, tag: [7; 16], from: Height(6), came: None });
        let bytes = saved.encode();
        let back = Saved::decode(&bytes).expect("its own");
        assert_eq!((back.place.blocks, back.place.again), (saved.place.blocks, saved.place.again));
        assert_eq!(back.gaps[0].from, Height(6));
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x80;
            assert!(matches!(Saved::decode(&changed), Err(BadSaved::Damaged)), "byte {at}");
            assert!(matches!(Saved::decode(&bytes[..at]), Err(BadSaved::Damaged)), "cut at {at}");
        }
        let mut newer = vec![VERSION_GAPS + 1, 1, 2, 3];
        let check = Sha256::digest(&newer);
        newer.extend(check);
        assert!(matches!(Saved::decode(&newer), Err(BadSaved::Newer(n)) if n == VERSION_GAPS + 1));
    }
}
