//! The language of restrictions: alternatives, each a field, a condition and a value.
//!
//! `field condition value`, alternatives apart by `|`, restrictions by `&`; in a value these two and `\` have a `\` before them. A
//! restriction holds when one of its alternatives does. What a field is at the moment, the caller says.
//! In: text. Out: restrictions, the same text again, and why a condition does not hold. Read next: `request`.

use std::fmt;

/// Alternatives of one rune, all restrictions together.
const MAX_ALTERNATIVES: usize = 500;

/// How a field is compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Condition {
    Missing,
    Equal,
    NotEqual,
    Begins,
    Ends,
    Contains,
    Less,
    Greater,
    Before,
    After,
    Comment,
}

use Condition::*;

const SIGNS: [(char, Condition); 11] = [
    ('!', Missing),
    ('=', Equal),
    ('/', NotEqual),
    ('^', Begins),
    ('$', Ends),
    ('~', Contains),
    ('<', Less),
    ('>', Greater),
    ('{', Before),
    ('}', After),
    ('#', Comment),
];

impl Condition {
    /// As it is written.
    pub fn sign(self) -> char {
        SIGNS.iter().find(|(_, condition)| *condition == self).map_or('#', |(sign, _)| *sign)
    }

    fn of(sign: char) -> Option<Condition> {
        SIGNS.iter().find(|(known, _)| *known == sign).map(|(_, condition)| *condition)
    }
}

/// `field condition value`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Alternative {
    /// Which field; empty for a rune's number.
    pub field: String,
    /// How it is compared.
    pub condition: Condition,
    /// With what, without escapes.
    pub value: String,
}

/// One of these must hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Restriction(pub Vec<Alternative>);

/// Why a text is no restriction.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadRestriction {
    /// No condition stands after the field.
    #[error("has no valid condition after its field (one of ! = / ^ $ ~ < > {{ }} #)")]
    Condition,
    /// A `\` that nothing follows.
    #[error("ends within an escape")]
    Escape,
    /// Too many.
    #[error("has more than {MAX_ALTERNATIVES} alternatives")]
    TooMany,
    /// A field without a name anywhere but at the start.
    #[error("has a field without a name")]
    NoName,
}

/// Where a field's name ends: at the first mark of ASCII that is no underscore.
fn name_length(text: &str) -> usize {
    text.find(|c: char| c.is_ascii_punctuation() && c != '_').unwrap_or(text.len())
}

impl Alternative {
    /// From its text without escapes, as `createrune` takes it.
    ///
    /// # Errors
    /// [`BadRestriction`].
    pub fn plain(text: &str) -> Result<Alternative, BadRestriction> {
        let (field, rest) = text.split_at(name_length(text));
        let mut rest = rest.chars();
        let condition = rest.next().and_then(Condition::of).ok_or(BadRestriction::Condition)?;
        if field.is_empty() {
            return Err(BadRestriction::NoName);
        }
        Ok(Alternative { field: field.into(), condition, value: rest.as_str().into() })
    }

    /// Whether it holds of a field's value; `None`: there is no such field.
    ///
    /// # Errors
    /// Why not.
    pub fn test(&self, is: Option<&str>) -> Result<(), String> {
        let Alternative { field, value, condition } = self;
        let is = match (condition, is) {
            (Comment, _) | (Missing, None) => return Ok(()),
            (Missing, Some(_)) => return Err(format!("{field} is present")),
            (_, None) => return Err(format!("{field} not present")),
            (_, Some(is)) => is,
        };
        let (holds, complaint) = match condition {
            Equal => (is == value, "is not equal to"),
            NotEqual => (is != value, "is equal to"),
            Begins => (is.starts_with(value.as_str()), "does not start with"),
            Ends => (is.ends_with(value.as_str()), "does not end with"),
            Contains => (is.contains(value.as_str()), "does not contain"),
            Before => (is < value.as_str(), "is equal to or ordered after"),
            After => (is > value.as_str(), "is equal to or ordered before"),
            Less | Greater => {
                let than = whole(value).ok_or_else(|| format!("{value} is not a valid integer"))?;
                let is = whole(is).ok_or_else(|| format!("{field} is not an integer field"))?;
                match condition {
                    Less => (is < than, "is greater or equal to"),
                    _ => (is > than, "is less or equal to"),
                }
            }
            Missing | Comment => return Ok(()),
        };
        if holds {
            Ok(())
        } else {
            Err(format!("{field} {complaint} {value}"))
        }
    }

    /// For people.
    pub fn english(&self) -> String {
        let Alternative { field, value, condition } = self;
        let between = match condition {
            Missing => return format!("{field} is missing"),
            Comment => return format!("comment: {field} {value}"),
            Equal => "equal to",
            NotEqual => "unequal to",
            Begins => "starts with",
            Ends => "ends with",
            Contains => "contains",
            Less => "<",
            Greater => ">",
            Before => "sorts before",
            After => "sorts after",
        };
        format!("{field} {between} {value}")
    }
}

/// A decimal number, which may have a sign.
fn whole(text: &str) -> Option<i128> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || digits.len() > 30 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

impl fmt::Display for Alternative {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.field, self.condition.sign())?;
        for c in self.value.chars() {
            if matches!(c, '|' | '&' | '\\') {
                f.write_str("\\")?;
            }
            write!(f, "{c}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Restriction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for alternative in &self.0 {
            write!(f, "{between}{alternative}")?;
            between = "|";
        }
        Ok(())
    }
}

impl Restriction {
    /// For people.
    pub fn english(&self) -> String {
        self.0.iter().map(Alternative::english).collect::<Vec<_>>().join(" OR ")
    }
}

/// Restrictions with `&` between them, as they are hashed.
pub fn to_text(restrictions: &[Restriction]) -> String {
    restrictions.iter().map(Restriction::to_string).collect::<Vec<_>>().join("&")
}

/// Reads restrictions as they stand in a rune; the first one may be its number.
///
/// # Errors
/// [`BadRestriction`].
pub fn parse(text: &str) -> Result<Vec<Restriction>, BadRestriction> {
    let mut restrictions = Vec::new();
    let mut rest = text;
    let mut count = 0usize;
    while !rest.is_empty() {
        let mut alternatives = Vec::new();
        loop {
            count = count.saturating_add(1);
            if count > MAX_ALTERNATIVES {
                return Err(BadRestriction::TooMany);
            }
            let (alternative, end, left) = one(rest)?;
            if alternative.field.is_empty() && !(restrictions.is_empty() && alternatives.is_empty()) {
                return Err(BadRestriction::NoName);
            }
            alternatives.push(alternative);
            rest = left;
            if end != Some('|') {
                break;
            }
        }
        // A rune's number stands alone, and is one.
        let numbered = alternatives.first().filter(|a| a.field.is_empty());
        if numbered.is_some_and(|a| a.condition != Equal || alternatives.len() > 1) {
            return Err(BadRestriction::NoName);
        }
        restrictions.push(Restriction(alternatives));
    }
    Ok(restrictions)
}

/// The first alternative, what ends it, and what comes then.
fn one(text: &str) -> Result<(Alternative, Option<char>, &str), BadRestriction> {
    let (field, rest) = text.split_at(name_length(text));
    let mut rest = rest.chars();
    let condition = rest.next().and_then(Condition::of).ok_or(BadRestriction::Condition)?;
    let mut value = String::new();
    let mut end = None;
    while let Some(c) = rest.next() {
        match c {
            '|' | '&' => {
                end = Some(c);
                break;
            }
            '\\' => value.push(rest.next().ok_or(BadRestriction::Escape)?),
            c => value.push(c),
        }
    }
    Ok((Alternative { field: field.into(), condition, value }, end, rest.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_come_back_as_they_were() {
        let text = r"method=invoice&pnamedescription=\@tipjar\|jb55\&co|a_b#\\";
        let read = parse(text).unwrap();
        assert_eq!(read[1].0[0].value, "@tipjar|jb55&co");
        assert_eq!(read[1].0[1].field, "a_b");
        assert_eq!(to_text(&read), r"method=invoice&pnamedescription=@tipjar\|jb55\&co|a_b#\\");
        assert_eq!(Alternative::plain(r"a=|\").unwrap().to_string(), r"a=\|\\");
    }

    #[test]
    fn what_is_no_restriction() {
        for text in ["a", "a=1\\", "a=1&=3", "a=1|=3", "=1|a=2", "!1", "=1&=2", "a?1", "a=1&&b=2", "|a=1"] {
            assert!(parse(text).is_err(), "{text}");
        }
        let many = vec!["a=1"; MAX_ALTERNATIVES + 1].join("|");
        assert_eq!(parse(&many), Err(BadRestriction::TooMany));
        assert!(Alternative::plain("=1").is_err());
    }

    #[test]
    fn numbers_are_compared_as_numbers() {
        let test = |text: &str, is: &str| Alternative::plain(text).unwrap().test(Some(is)).is_ok();
        assert!(test("x<18446744073709551616", "18446744073709551615"));
        assert!(!test("x<10", "10") && test("x<10", "9") && test("x>9", "10") && !test("x<10", "9sat"));
        for bad in ["+9", " 9", "0x9", "1e1", "", "-", "9.0"] {
            assert!(!test("x<10", bad) && !test("x>1", bad), "{bad}");
        }
    }
}
