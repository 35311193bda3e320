//! The block file: everything the chain must remember, in the order it happened.
//!
//! In: [`Op`]s of one call. Out: at start, all of them again. One call is one frame (mark, length, checksum, ops),
//! appended and synced before the call is acknowledged; an unfinished frame at the end is dropped at start. Damage
//! with a good frame after it is no unfinished write, and the file is refused. Read next: `state`, which replays.

use super::reject::ChainError;
use bitcoin::consensus::encode::{deserialize, serialize};
use bitcoin::hashes::{sha256, Hash};
use bitcoin::{Block, BlockHash};
use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

/// The file in the data directory.
const FILE_NAME: &str = "blocks.dat";
/// What the file begins with: program, chain, version of the format.
const FILE_MARK: [u8; 16] = *b"chand-regtest-1\n";
/// What a frame begins with.
const FRAME_MARK: [u8; 4] = [0xfb, b'R', b'T', 0xbf];
/// Mark, length of the payload and checksum.
const FRAME_HEAD: usize = 16;
/// Most bytes of payload in one frame.
const MAX_PAYLOAD: usize = 1 << 30;

const TAG_BLOCK: u8 = 1;
const TAG_INVALID: u8 = 2;
const TAG_RECONSIDER: u8 = 3;

/// Something the chain must remember.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Op {
    /// A block was taken into the index.
    Block(Arc<Block>),
    /// A block was found, or declared, invalid.
    Invalid(BlockHash),
    /// Such marks were taken back.
    Reconsider(BlockHash),
}

/// The open block file.
#[derive(Debug)]
pub(super) struct Store {
    file: File,
    /// Bytes that hold the file mark and good frames.
    len: u64,
}

impl Store {
    /// Opens or creates the file in `dir`, drops an unfinished end, and returns all ops.
    pub(super) fn open(dir: &Path) -> Result<(Self, Vec<Op>), ChainError> {
        fs::create_dir_all(dir)?;
        let path = dir.join(FILE_NAME);
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let size = file.metadata()?.len();
        if !read_file_mark(&mut file, size)? {
            file.set_len(0)?;
            file.rewind()?;
            file.write_all(&FILE_MARK)?;
            file.sync_all()?;
            File::open(dir)?.sync_all()?;
            return Ok((Self { file, len: FILE_MARK.len() as u64 }, Vec::new()));
        }
        let (ops, len) = read_frames(&file, size)?;
        if len < size {
            refuse_if_frames_follow(&mut file, len)?;
            file.set_len(len)?;
            file.sync_all()?;
        }
        file.seek(SeekFrom::Start(len))?;
        Ok((Self { file, len }, ops))
    }

    /// Appends the ops of one call and waits until they are on disk. After an error the file must not be used.
    pub(super) fn append(&mut self, ops: &[Op]) -> Result<(), ChainError> {
        if ops.is_empty() {
            return Ok(());
        }
        if self.file.metadata()?.len() != self.len {
            return Err(ChainError::Shared);
        }
        let mut payload = Vec::new();
        for op in ops {
            encode_op(op, &mut payload);
        }
        let len = u32::try_from(payload.len()).ok().filter(|_| payload.len() <= MAX_PAYLOAD);
        let len = len.ok_or(ChainError::TooLarge(payload.len()))?;
        let mut frame = Vec::with_capacity(FRAME_HEAD + payload.len());
        frame.extend_from_slice(&FRAME_MARK);
        frame.extend_from_slice(&len.to_le_bytes());
        frame.extend_from_slice(&checksum(&payload));
        frame.extend_from_slice(&payload);
        self.file.write_all(&frame)?;
        self.file.sync_data()?;
        self.len += frame.len() as u64;
        Ok(())
    }

    /// Opens the file in a way that it cannot be written to.
    #[cfg(test)]
    pub(super) fn break_file(&mut self, dir: &Path) {
        self.file = File::open(dir.join(FILE_NAME)).unwrap();
    }

    /// Size of the file in bytes.
    pub(super) fn size(&self) -> u64 {
        self.len
    }
}

/// Whether the file has its mark; false for a file that is new or was cut off while being created.
fn read_file_mark(file: &mut File, size: u64) -> Result<bool, ChainError> {
    let mut mark = Vec::new();
    file.take(FILE_MARK.len() as u64).read_to_end(&mut mark)?;
    if mark == FILE_MARK {
        return Ok(true);
    }
    if size < FILE_MARK.len() as u64 && FILE_MARK.starts_with(&mark) {
        return Ok(false);
    }
    Err(ChainError::Foreign)
}

/// All ops of the good frames from behind the file mark, and where the last of these frames ends.
fn read_frames(file: &File, size: u64) -> Result<(Vec<Op>, u64), ChainError> {
    let mut reader = BufReader::new(file);
    let mut ops = Vec::new();
    let mut end = FILE_MARK.len() as u64;
    while let Some(payload) = read_frame(&mut reader, size.saturating_sub(end))? {
        // The checksum holds, so an op that does not decode was written so: by another version.
        decode_ops(&payload, &mut ops).ok_or(ChainError::Corrupt { offset: end })?;
        end += (FRAME_HEAD + payload.len()) as u64;
    }
    Ok((ops, end))
}

/// The payload of the next frame, if it is whole and its checksum holds. `left` bytes are left in the file.
fn read_frame(reader: &mut impl Read, left: u64) -> Result<Option<Vec<u8>>, ChainError> {
    if left < FRAME_HEAD as u64 {
        return Ok(None);
    }
    let mut head = [0u8; FRAME_HEAD];
    reader.read_exact(&mut head)?;
    let Some((len, sum)) = parse_head(&head) else { return Ok(None) };
    if len as u64 > left - FRAME_HEAD as u64 {
        return Ok(None);
    }
    let mut payload = vec![0u8; len];
    reader.read_exact(&mut payload)?;
    Ok((checksum(&payload) == sum).then_some(payload))
}

/// Length of the payload and checksum, if these bytes begin a frame.
fn parse_head(bytes: &[u8]) -> Option<(usize, [u8; 8])> {
    let rest = bytes.strip_prefix(&FRAME_MARK)?;
    let (len, rest) = rest.split_first_chunk::<4>()?;
    let (sum, _) = rest.split_first_chunk::<8>()?;
    let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
    (1..=MAX_PAYLOAD).contains(&len).then_some((len, *sum))
}

/// An unfinished write is the last one. If a good frame follows, acknowledged data was damaged: nothing is dropped.
fn refuse_if_frames_follow(file: &mut File, offset: u64) -> Result<(), ChainError> {
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(offset))?;
    file.read_to_end(&mut tail)?;
    for at in 1..tail.len() {
        let Some(rest) = tail.get(at..) else { break };
        let Some((len, sum)) = parse_head(rest) else { continue };
        let payload = rest.get(FRAME_HEAD..).and_then(|rest| rest.get(..len));
        if payload.is_some_and(|payload| checksum(payload) == sum) {
            return Err(ChainError::Corrupt { offset });
        }
    }
    Ok(())
}

fn checksum(payload: &[u8]) -> [u8; 8] {
    let hash = sha256::Hash::hash(payload).to_byte_array();
    let mut sum = [0u8; 8];
    sum.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    sum
}

fn encode_op(op: &Op, out: &mut Vec<u8>) {
    match op {
        Op::Block(block) => {
            let bytes = serialize(block.as_ref());
            out.push(TAG_BLOCK);
            out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
            out.extend_from_slice(&bytes);
        }
        Op::Invalid(hash) => {
            out.push(TAG_INVALID);
            out.extend_from_slice(hash.as_byte_array());
        }
        Op::Reconsider(hash) => {
            out.push(TAG_RECONSIDER);
            out.extend_from_slice(hash.as_byte_array());
        }
    }
}

fn decode_ops(mut bytes: &[u8], ops: &mut Vec<Op>) -> Option<()> {
    while let Some((tag, rest)) = bytes.split_first() {
        bytes = rest;
        let op = match *tag {
            TAG_BLOCK => {
                let (len, rest) = bytes.split_first_chunk::<8>()?;
                let len = usize::try_from(u64::from_le_bytes(*len)).ok()?;
                let (block, rest) = rest.split_at_checked(len)?;
                bytes = rest;
                Op::Block(Arc::new(deserialize(block).ok()?))
            }
            TAG_INVALID => Op::Invalid(take_hash(&mut bytes)?),
            TAG_RECONSIDER => Op::Reconsider(take_hash(&mut bytes)?),
            _ => return None,
        };
        ops.push(op);
    }
    Some(())
}

fn take_hash(bytes: &mut &[u8]) -> Option<BlockHash> {
    let (hash, rest) = bytes.split_first_chunk::<32>()?;
    *bytes = rest;
    Some(BlockHash::from_byte_array(*hash))
}
