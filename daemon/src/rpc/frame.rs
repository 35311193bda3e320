//! Cuts a byte stream into JSON values.
//!
//! In: chunks as they come. Out: one complete object or array at a time, as bytes, not yet parsed.
//! Each byte is looked at once, however many chunks a value comes in; memory is bounded by `max_bytes`.
//! Only brackets and strings are followed here: whether the value is JSON at all is the parser's to say (`message`),
//! and when it is not, the stream is still in step.
//! Read next: `socket`.

/// Why the stream cannot be followed any further.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FrameError {
    /// A value longer than the limit.
    #[error("the request is longer than {0} bytes")]
    TooLong(usize),
    /// A value nested deeper than the limit.
    #[error("the request is nested deeper than {0} levels")]
    TooDeep(usize),
    /// Something else than an object or array where a request should begin.
    #[error("a request begins with '{{', or '[' for a batch")]
    NotARequest,
    /// `{]` and the like.
    #[error("a bracket is closed that was not opened")]
    Unbalanced,
}

/// A buffer that has grown beyond this …
const LARGE: usize = 1 << 20;
/// … is given back once less than this is in it.
const SMALL: usize = 128 << 10;

/// Finds where values end.
#[derive(Debug)]
pub struct Splitter {
    buffer: Vec<u8>,
    /// Bytes of `buffer` already handed out.
    start: usize,
    /// Bytes of `buffer` already looked at.
    seen: usize,
    /// The brackets open now.
    open: Vec<u8>,
    in_string: bool,
    escaped: bool,
    max_bytes: usize,
    max_depth: usize,
}

impl Splitter {
    /// A splitter that refuses values longer than `max_bytes` or nested deeper than `max_depth`.
    pub fn new(max_bytes: usize, max_depth: usize) -> Splitter {
        Splitter {
            buffer: Vec::new(),
            start: 0,
            seen: 0,
            open: Vec::new(),
            in_string: false,
            escaped: false,
            max_bytes,
            max_depth,
        }
    }

    /// Takes the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        // Dropping what was handed out costs no more than the bytes that follow it, once per push.
        if self.start > 0 {
            self.buffer.drain(..self.start);
            if self.buffer.len() < SMALL && self.buffer.capacity() > LARGE {
                self.buffer.shrink_to(SMALL);
            }
            self.seen = self.seen.saturating_sub(self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// True when no value has begun.
    pub fn is_between_values(&self) -> bool {
        self.open.is_empty() && self.buffer.get(self.start..).unwrap_or_default().iter().all(is_space)
    }

    /// The next complete value, if all of it is there.
    ///
    /// # Errors
    /// [`FrameError`]; the stream is then out of step and must be closed.
    pub fn next_value(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        while let Some(&byte) = self.buffer.get(self.seen) {
            if self.open.is_empty() {
                self.begin(byte)?;
                continue;
            }
            self.seen += 1;
            if self.seen - self.start > self.max_bytes {
                return Err(FrameError::TooLong(self.max_bytes));
            }
            if self.in_string {
                self.inside_string(byte);
            } else if self.outside_string(byte)? {
                let value = self.buffer.get(self.start..self.seen).unwrap_or_default().to_vec();
                self.start = self.seen;
                return Ok(Some(value));
            }
        }
        Ok(None)
    }

    /// Looks for the first byte of a value.
    fn begin(&mut self, byte: u8) -> Result<(), FrameError> {
        match byte {
            b'{' | b'[' => {
                self.start = self.seen;
                self.open.push(byte);
            }
            b if is_space(&b) => self.start = self.seen + 1,
            _ => return Err(FrameError::NotARequest),
        }
        self.seen += 1;
        Ok(())
    }

    fn inside_string(&mut self, byte: u8) {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' => self.escaped = true,
            b'"' => self.in_string = false,
            _ => {}
        }
    }

    /// True when this byte ends the value.
    fn outside_string(&mut self, byte: u8) -> Result<bool, FrameError> {
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' if self.open.len() >= self.max_depth => {
                return Err(FrameError::TooDeep(self.max_depth))
            }
            b'{' | b'[' => self.open.push(byte),
            b'}' | b']' => {
                let matching = if byte == b'}' { b'{' } else { b'[' };
                if self.open.pop() != Some(matching) {
                    return Err(FrameError::Unbalanced);
                }
                return Ok(self.open.is_empty());
            }
            _ => {}
        }
        Ok(false)
    }
}

fn is_space(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(splitter: &mut Splitter) -> Vec<String> {
        let mut out = Vec::new();
        while let Some(v) = splitter.next_value().unwrap() {
            out.push(String::from_utf8(v).unwrap());
        }
        out
    }

    #[test]
    fn values_back_to_back_and_by_line() {
        let mut s = Splitter::new(1_000, 10);
        s.push(b"{\"a\":1}{\"b\":[{}]}\n\n  [1,2]\r\n{\"c\":\"}\\\"{\"}");
        assert_eq!(all(&mut s), ["{\"a\":1}", "{\"b\":[{}]}", "[1,2]", "{\"c\":\"}\\\"{\"}"]);
        assert!(s.is_between_values());
    }

    #[test]
    fn one_byte_at_a_time_gives_the_same() {
        let text = b" {\"a\\\\\":\"\\\"}\"} [[],{}] {\"x\":{}}";
        let mut s = Splitter::new(1_000, 10);
        let mut out = Vec::new();
        for b in text {
            s.push(&[*b]);
            out.extend(all(&mut s));
        }
        assert_eq!(out, ["{\"a\\\\\":\"\\\"}\"}", "[[],{}]", "{\"x\":{}}"]);
    }

    #[test]
    fn limits_hold_and_half_a_value_waits() {
        let mut s = Splitter::new(8, 2);
        s.push(b"{\"a\":");
        assert_eq!(s.next_value(), Ok(None));
        assert!(!s.is_between_values());
        s.push(b"12345678");
        assert_eq!(s.next_value(), Err(FrameError::TooLong(8)));

        let mut s = Splitter::new(100, 2);
        s.push(b"[[");
        assert_eq!(s.next_value(), Ok(None));
        s.push(b"[");
        assert_eq!(s.next_value(), Err(FrameError::TooDeep(2)));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for text in ["hello", "1", "\"{}\"", "}", "\u{fffd}"] {
            let mut s = Splitter::new(100, 9);
            s.push(text.as_bytes());
            assert_eq!(s.next_value(), Err(FrameError::NotARequest), "{text}");
        }
        let mut s = Splitter::new(100, 9);
        s.push(b"{]");
        assert_eq!(s.next_value(), Err(FrameError::Unbalanced));
    }

    #[test]
    fn four_megabytes_in_small_chunks_take_linear_time() {
        let mut s = Splitter::new(4 << 20, 9);
        s.push(b"{\"a\":\"");
        let chunk = [b'x'; 1024];
        let begun = std::time::Instant::now();
        for _ in 0..4_000 {
            s.push(&chunk);
            assert_eq!(s.next_value(), Ok(None));
        }
        s.push(b"\"}");
        assert_eq!(s.next_value().unwrap().map(|v| v.len()), Some(4_000 * 1024 + 8));
        // A scan from the start for each chunk would read 8 GB; this reads 4 MB.
        assert!(begun.elapsed() < std::time::Duration::from_secs(5));
    }
}
