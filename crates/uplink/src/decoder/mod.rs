//! From payloads back to readings, for people and tests; also what guards the decoding of commands.

use std::fmt::Write as _;

use flate2::{Decompress, FlushDecompress, Status};
use thiserror::Error;

mod batch;
mod packed;
mod print;
mod rows;

pub use batch::{Batch, DecodedGap, DecodedReading, decode};
pub use print::{PrintError, print_lines};

/// What a payload may be at most, before anything is built from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes as received.
    pub wire: usize,
    /// Bytes after decompression.
    pub inflated: usize,
    /// How many times more bytes there may be after decompression than before.
    pub ratio: usize,
    /// How many documents and arrays may stand inside each other.
    pub depth: usize,
    /// Elements of all documents and arrays together.
    pub elements: usize,
}

impl Limits {
    /// For what a cloud sends: the defaults of `[limits.downlink]`.
    pub const DOWNLINK: Self =
        Self { wire: 256 << 10, inflated: 1 << 20, ratio: 100, depth: 32, elements: 65_536 };

    /// For payloads that the gateway itself made and somebody wants to read.
    pub const OWN: Self = Self {
        wire: 16 << 20,
        inflated: 64 << 20,
        ratio: 1_032, // the most that deflate can do
        depth: 64,
        elements: 8 << 20,
    };
}

/// Why a payload cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The payload is larger than allowed.
    #[error("is {bytes} bytes long, at most {limit} are allowed")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The most allowed.
        limit: usize,
    },
    /// It inflates to more than allowed.
    #[error("inflates to more than {limit} bytes")]
    InflatesTooLarge {
        /// The most allowed.
        limit: usize,
    },
    /// It inflates by more than allowed.
    #[error("inflates to more than {limit} times its size")]
    RatioTooHigh {
        /// The most allowed.
        limit: usize,
    },
    /// It is not a whole zlib or gzip stream with nothing behind it.
    #[error("is not a {} stream: {problem}", .wrapping.as_str())]
    NotDeflate {
        /// Which of them it looked like.
        wrapping: Wrapping,
        /// What is wrong.
        problem: &'static str,
    },
    /// Documents or arrays stand too deep inside each other.
    #[error("has more than {limit} levels")]
    TooDeep {
        /// The most allowed.
        limit: usize,
    },
    /// There are too many elements.
    #[error("has more than {limit} elements")]
    TooManyElements {
        /// The most allowed.
        limit: usize,
    },
    /// It is not BSON: a length, name, text or end is wrong.
    #[error("is not BSON: malformed at byte {at}")]
    Malformed {
        /// Where it was noticed.
        at: usize,
    },
    /// An element has a type that readings and commands do not have.
    #[error("has an element of BSON type 0x{kind:02x}, which is not supported")]
    UnsupportedType {
        /// The type.
        kind: u8,
    },
    /// It is neither BSON, zlib nor JSON, or JSON with a fault.
    #[error("is not JSON: {problem}")]
    NotJson {
        /// What is wrong.
        problem: String,
    },
    /// It can be read, and says something that it must not.
    #[error("{problem}")]
    Content {
        /// What is wrong.
        problem: String,
    },
}

impl DecodeError {
    pub(crate) fn content(problem: impl Into<String>) -> Self {
        Self::Content { problem: problem.into() }
    }
}

/// What is around deflated bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrapping {
    /// zlib (RFC 1950).
    Zlib,
    /// gzip (RFC 1952), one member.
    Gzip,
}

impl Wrapping {
    /// Returns what `payload` begins like, if like any (RFC 1950, section 2.2; RFC 1952, section 2.3.1).
    pub(crate) fn of(payload: &[u8]) -> Option<Self> {
        match payload {
            [0x1f, 0x8b, 8, ..] => Some(Self::Gzip),
            [method, flags, ..]
                if method & 0x0f == 8 && u16::from_be_bytes([*method, *flags]) % 31 == 0 =>
            {
                Some(Self::Zlib)
            }
            _ => None,
        }
    }

    /// Returns the value of `content-encoding`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Zlib => "zlib",
            Self::Gzip => "gzip",
        }
    }
}

/// Decompresses one stream, stopping at the first limit that is passed. Nothing is allocated for what the
/// stream says of itself.
///
/// # Errors
///
/// [`DecodeError`]: it is no whole stream with nothing behind it, or passes a limit.
pub fn inflate(
    payload: &[u8],
    wrapping: Wrapping,
    limits: &Limits,
) -> Result<Vec<u8>, DecodeError> {
    let inflated = inflate_first(payload, wrapping, limits)?;
    let problem = match inflated.consumed {
        Some(consumed) if consumed == payload.len() => return Ok(inflated.output),
        Some(_) => "something follows its end",
        None => "it ends too early",
    };
    Err(DecodeError::NotDeflate { wrapping, problem })
}

/// A stream at the beginning of some bytes.
#[derive(Debug)]
pub(crate) struct Inflated {
    pub(crate) output: Vec<u8>,
    /// How long it is, or `None` if it goes on behind the bytes.
    pub(crate) consumed: Option<usize>,
}

/// Decompresses the stream at the beginning of `payload`, as [`inflate`] does.
pub(crate) fn inflate_first(
    payload: &[u8],
    wrapping: Wrapping,
    limits: &Limits,
) -> Result<Inflated, DecodeError> {
    const STEP: usize = 16 << 10;
    const WINDOW_BITS: u8 = 15;
    let by_ratio = payload.len().saturating_mul(limits.ratio);
    let most = limits.inflated.min(by_ratio);
    let mut output = Vec::new();
    let broken = |problem| DecodeError::NotDeflate { wrapping, problem };
    let mut stream = match wrapping {
        Wrapping::Zlib => Decompress::new(true),
        Wrapping::Gzip => Decompress::new_gzip(WINDOW_BITS),
    };
    loop {
        let consumed = usize::try_from(stream.total_in()).unwrap_or(usize::MAX);
        let rest = payload.get(consumed..).unwrap_or_default();
        output.reserve(STEP.min(most + 1 - output.len()));
        let before = output.len();
        let status =
            stream.decompress_vec(rest, &mut output, FlushDecompress::None).map_err(|error| {
                broken(match error.needs_dictionary() {
                    Some(_) => "it asks for a preset dictionary",
                    None => "damaged",
                })
            })?;
        if output.len() > most {
            return Err(if output.len() > limits.inflated {
                DecodeError::InflatesTooLarge { limit: limits.inflated }
            } else {
                DecodeError::RatioTooHigh { limit: limits.ratio }
            });
        }
        match status {
            Status::StreamEnd => {
                let consumed = usize::try_from(stream.total_in()).ok();
                return Ok(Inflated { output, consumed });
            }
            _ if output.len() == before && stream.total_in() == consumed as u64 => {
                return Ok(Inflated { output, consumed: None });
            }
            Status::Ok | Status::BufError => {}
        }
    }
}

/// Returns the bytes that a text of hexadecimal digits stands for; blanks are left out.
///
/// # Errors
///
/// [`DecodeError::Content`] names the first character that is no digit, or tells of a missing one.
pub fn from_hex(text: &str) -> Result<Vec<u8>, DecodeError> {
    let mut bytes = Vec::with_capacity(text.len() / 2);
    let mut high = None;
    for character in text.chars().filter(|character| !character.is_whitespace()) {
        let digit = character.to_digit(16).ok_or_else(|| {
            DecodeError::content(format!("{character:?} is no hexadecimal digit"))
        })?;
        let digit = u8::try_from(digit).expect("below 16");
        match high.take() {
            None => high = Some(digit),
            Some(high) => bytes.push(high << 4 | digit),
        }
    }
    if high.is_some() {
        return Err(DecodeError::content("the last byte has only one hexadecimal digit"));
    }
    Ok(bytes)
}

/// Returns bytes as hexadecimal digits.
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes everything");
        text
    })
}

#[cfg(test)]
mod tests;
