//! Runes: credentials that whoever holds one can restrict further, as Core Lightning has them.
//!
//! A rune is a code of 32 bytes and restrictions. The code is SHA-256 over a secret and the restrictions, where each piece is filled up to
//! whole blocks just as SHA-256 fills up its end. So from a rune's own code that of the same rune with one restriction more
//! follows, and that of one with fewer does not.
//!
//! * `restriction` – their language; `request` – what they are held against
//! * `authority` – whether a rune is ours, not refused, and allows a request; what it may spend
//!
//! Read next: `restriction`.

pub mod authority;
pub mod request;
pub mod restriction;
#[cfg(test)]
mod tests;

pub use authority::{Authority, Grant};
pub use restriction::{Alternative, Condition, Restriction};

use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::Engine;
use chand_protocol::id::to_hex;
use sha2::block_api::compress256;
use zeroize::Zeroizing;

/// Characters of a rune in base64.
pub const MAX_CHARS: usize = 8_192;
/// What SHA-256 begins with (FIPS 180-4, 5.3.3).
const START: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];
const BLOCK: usize = 64;

/// With `=` at the end or without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Where the hash stands after whole blocks.
#[derive(Clone, Copy)]
struct Chain {
    state: [u32; 8],
    /// Bytes so far.
    length: u64,
}

impl Chain {
    /// One piece more, filled up to whole blocks.
    fn add(&mut self, piece: &[u8]) {
        let bits = self.length.wrapping_add(piece.len() as u64).wrapping_mul(8);
        let mut bytes = Zeroizing::new(Vec::with_capacity(piece.len() + 2 * BLOCK));
        bytes.extend_from_slice(piece);
        bytes.push(0x80);
        let zeros = (2 * BLOCK - 8 - bytes.len() % BLOCK) % BLOCK;
        bytes.extend(std::iter::repeat_n(0, zeros));
        bytes.extend_from_slice(&bits.to_be_bytes());
        let (blocks, _) = bytes.as_chunks::<BLOCK>();
        compress256(&mut self.state, blocks);
        self.length = self.length.wrapping_add(bytes.len() as u64);
    }

    fn code(&self) -> [u8; 32] {
        let mut code = [0; 32];
        for (to, word) in code.chunks_exact_mut(4).zip(self.state) {
            to.copy_from_slice(&word.to_be_bytes());
        }
        code
    }
}

/// The code of these restrictions under a secret of less than 56 bytes.
fn code(secret: &[u8], restrictions: &[Restriction]) -> [u8; 32] {
    let mut chain = Chain { state: START, length: 0 };
    chain.add(secret);
    restrictions.iter().for_each(|restriction| chain.add(restriction.to_string().as_bytes()));
    chain.code()
}

/// Compares without telling by its duration where the first difference is.
fn same(left: &[u8; 32], right: &[u8; 32]) -> bool {
    let differing = left.iter().zip(right).fold(0u8, |seen, (a, b)| seen | (a ^ b));
    std::hint::black_box(differing) == 0
}

/// One rune. Whoever has its text may use it: it is not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Rune {
    code: [u8; 32],
    restrictions: Vec<Restriction>,
}

impl std::fmt::Debug for Rune {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rune({:?})", self.id())
    }
}

impl Rune {
    /// A rune of one's own.
    pub fn new(secret: &[u8], restrictions: Vec<Restriction>) -> Rune {
        Rune { code: code(secret, &restrictions), restrictions }
    }

    /// Reads it.
    ///
    /// # Errors
    /// In words that do not repeat it.
    pub fn parse(text: &str) -> Result<Rune, &'static str> {
        if text.len() > MAX_CHARS {
            return Err("is too long");
        }
        let bytes = BASE64.decode(text).map_err(|_| "should be base64 string")?;
        let (code, rest) = bytes.split_first_chunk::<32>().ok_or("should be base64 string")?;
        let text = std::str::from_utf8(rest).map_err(|_| "holds restrictions that are not UTF-8")?;
        let restrictions = restriction::parse(text).map_err(|_| "holds restrictions that cannot be read")?;
        Ok(Rune { code: *code, restrictions })
    }

    /// As it is handed out.
    pub fn to_text(&self) -> String {
        let text = restriction::to_text(&self.restrictions);
        BASE64.encode([self.code.as_slice(), text.as_bytes()].concat())
    }

    /// Core Lightning's other way of writing it: the code in hex, and the restrictions. Whoever has this has the rune, too.
    pub fn to_hex_text(&self) -> String {
        format!("{}:{}", to_hex(&self.code), restriction::to_text(&self.restrictions))
    }

    /// The same with one restriction more.
    pub fn restrict(&mut self, restriction: Restriction) {
        let mut state = [0u32; 8];
        for (to, word) in state.iter_mut().zip(self.code.as_chunks::<4>().0) {
            *to = u32::from_be_bytes(*word);
        }
        // The secret is one block; each restriction has its own padding.
        let blocks = |r: &Restriction| (r.to_string().len() + 9).div_ceil(BLOCK);
        let whole: usize = self.restrictions.iter().map(blocks).sum();
        let mut chain = Chain { state, length: (whole.saturating_add(1).saturating_mul(BLOCK)) as u64 };
        chain.add(restriction.to_string().as_bytes());
        self.code = chain.code();
        self.restrictions.push(restriction);
    }

    /// Whether it was made with this secret.
    pub fn is_of(&self, secret: &[u8]) -> bool {
        same(&code(secret, &self.restrictions), &self.code)
    }

    /// Its number, when it has one that chand could have given.
    pub fn id(&self) -> Option<u64> {
        let number = self.numbered()?;
        // Written as chand writes it: no sign, no zeros before it, no version behind.
        number.parse().ok().filter(|id: &u64| id.to_string() == number)
    }

    /// The text of its number.
    fn numbered(&self) -> Option<&str> {
        let Restriction(first) = self.restrictions.first()?;
        first.first().filter(|a| a.field.is_empty()).map(|a| a.value.as_str())
    }

    /// All but its number.
    pub fn restrictions(&self) -> &[Restriction] {
        let skip = usize::from(self.numbered().is_some());
        self.restrictions.get(skip..).unwrap_or_default()
    }
}

/// The restriction that holds a rune's number.
pub fn number(id: u64) -> Restriction {
    let value = id.to_string();
    Restriction(vec![Alternative { field: String::new(), condition: Condition::Equal, value }])
}
