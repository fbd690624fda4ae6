//! Where a chunked body ends, strictly. Pure.

use super::head::{self, Malformed};

/// Most digits of a chunk's size.
const DIGITS: u8 = 15;
/// Longest chunk extension.
const EXTENSION: usize = 256;
/// Longest trailers, all together.
const TRAILERS: usize = 16 * 1024;

/// Follows a chunked body through its pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunks {
    at: At,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum At {
    Size {
        size: u64,
        digits: u8,
    },
    Extension {
        size: u64,
        length: usize,
    },
    SizeEnd {
        size: u64,
    },
    Data {
        left: u64,
    },
    DataReturn,
    DataEnd,
    /// The line so far, and how long all lines before it were.
    Trailer {
        line: Vec<u8>,
        before: usize,
    },
    TrailerEnd {
        line: Vec<u8>,
        before: usize,
    },
    End,
}

impl Default for Chunks {
    fn default() -> Self {
        Self { at: At::Size { size: 0, digits: 0 } }
    }
}

impl Chunks {
    /// Takes `bytes`: how many of them belong to the body. Fewer than all only if the body ends before.
    pub fn take(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        let mut taken = 0;
        while let (Some(byte), false) = (bytes.get(taken).copied(), self.at == At::End) {
            if let At::Data { left } = &mut self.at {
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len() - taken);
                taken += here;
                *left -= here as u64;
                if *left == 0 {
                    self.at = At::DataReturn;
                }
                continue;
            }
            self.at = std::mem::replace(&mut self.at, At::End).next(byte)?;
            taken += 1;
        }
        Ok(taken)
    }

    /// Whether the body has ended.
    pub fn ended(&self) -> bool {
        self.at == At::End
    }
}

impl At {
    fn next(self, byte: u8) -> Result<Self, Malformed> {
        Ok(match (self, byte) {
            (Self::Size { size, digits }, byte) if byte.is_ascii_hexdigit() => {
                if digits == DIGITS {
                    return Err(Malformed::Chunk);
                }
                let digit = char::from(byte).to_digit(16).ok_or(Malformed::Chunk)?;
                Self::Size { size: size << 4 | u64::from(digit), digits: digits + 1 }
            }
            (Self::Size { size, digits: 1.. }, b';') => Self::Extension { size, length: 0 },
            (Self::Size { size, digits: 1.. } | Self::Extension { size, .. }, b'\r') => Self::SizeEnd { size },
            (Self::Extension { size, length }, b'\t' | 0x20..=0x7e) if length < EXTENSION => {
                Self::Extension { size, length: length + 1 }
            }
            (Self::SizeEnd { size: 0 }, b'\n') => Self::Trailer { line: Vec::new(), before: 0 },
            (Self::SizeEnd { size }, b'\n') => Self::Data { left: size },
            (Self::DataReturn, b'\r') => Self::DataEnd,
            (Self::DataEnd, b'\n') => Self::default_size(),
            (Self::Trailer { line, before }, b'\r') => Self::TrailerEnd { line, before },
            (Self::Trailer { .. }, b'\n') => return Err(Malformed::LineEnd),
            (Self::Trailer { mut line, before }, byte) => {
                if before + line.len() >= TRAILERS {
                    return Err(Malformed::Trailer);
                }
                line.push(byte);
                Self::Trailer { line, before }
            }
            (Self::TrailerEnd { line, .. }, b'\n') if line.is_empty() => Self::End,
            (Self::TrailerEnd { line, before }, b'\n') => {
                head::trailer(&line)?;
                Self::Trailer { before: before + line.len(), line: Vec::new() }
            }
            (Self::TrailerEnd { .. }, _) => return Err(Malformed::LineEnd),
            _ => return Err(Malformed::Chunk),
        })
    }

    const fn default_size() -> Self {
        Self::Size { size: 0, digits: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How much of `text` is body, fed at once and byte by byte.
    fn taken(text: &str) -> Result<Option<usize>, Malformed> {
        let mut whole = Chunks::default();
        let at_once = whole.take(text.as_bytes()).map(|taken| whole.ended().then_some(taken));
        let mut bytes = Chunks::default();
        let mut one_by_one = Ok(None);
        for (index, byte) in text.bytes().enumerate() {
            match bytes.take(&[byte]) {
                Ok(_) if bytes.ended() => {
                    one_by_one = Ok(Some(index + 1));
                    break;
                }
                Ok(_) => {}
                Err(malformed) => {
                    one_by_one = Err(malformed);
                    break;
                }
            }
        }
        assert_eq!(at_once, one_by_one, "{text:?}");
        at_once
    }

    #[test]
    fn bodies_end_where_they_end() {
        for body in [
            "0\r\n\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
            "00A\r\n0123456789\r\n0;x=\"y z\"\r\n\r\n",
            "1;ext\r\na\r\n1\r\n\n\r\n0\r\n\r\n",
            "0\r\nGrpc-Status: 0\r\nX: y\r\n\r\n",
        ] {
            assert_eq!(taken(body), Ok(Some(body.len())), "{body:?}");
            assert_eq!(taken(&format!("{body}GET / HTTP/1.1\r\n")), Ok(Some(body.len())), "{body:?}");
            assert_eq!(taken(&body[..body.len() - 1]), Ok(None), "{body:?}");
        }
    }

    #[test]
    fn what_servers_read_differently_is_refused() {
        use Malformed::{Chunk, Folded, HeaderLine, HeaderName, LineEnd, Trailer};
        let long = format!("0\r\nX: {}\r\n\r\n", "y".repeat(TRAILERS));
        let extension = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(EXTENSION + 1));
        let cases: &[(&str, Malformed)] = &[
            ("\r\n", Chunk),
            ("5\nhello\r\n0\r\n\r\n", Chunk),
            ("5\r\rhello", Chunk),
            ("5 \r\nhello\r\n0\r\n\r\n", Chunk),
            (" 5\r\nhello\r\n0\r\n\r\n", Chunk),
            ("0x5\r\nhello\r\n0\r\n\r\n", Chunk),
            ("+5\r\nhello\r\n0\r\n\r\n", Chunk),
            ("-1\r\n", Chunk),
            (";x\r\n", Chunk),
            ("5\r\nhello0\r\n\r\n", Chunk),
            ("5\r\nhello\n0\r\n\r\n", Chunk),
            ("5\r\nhello\r0\r\n\r\n", Chunk),
            ("5;a\nb\r\nhello\r\n0\r\n\r\n", Chunk),
            ("5;a\0b\r\nhello\r\n0\r\n\r\n", Chunk),
            ("10000000000000000\r\n", Chunk),
            (&extension, Chunk),
            ("0\r\nX: y\n\r\n", LineEnd),
            ("0\r\n\rX", LineEnd),
            ("0\r\n y\r\n\r\n", Folded),
            ("0\r\nX : y\r\n\r\n", HeaderName),
            ("0\r\nGET / HTTP/1.1\r\n\r\n", HeaderLine),
            ("0\r\nContent-Length: 5\r\n\r\n", Trailer),
            ("0\r\ntransfer-encoding: chunked\r\n\r\n", Trailer),
            ("0\r\nHost: a\r\n\r\n", Trailer),
            (&long, Trailer),
        ];
        for (text, expected) in cases {
            assert_eq!(taken(text), Err(*expected), "{text:?}");
        }
    }
}
