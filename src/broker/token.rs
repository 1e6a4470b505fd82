//! API tokens: long random texts, kept as SHA-256 hashes, each with an end of its own.
//!
//! A token has 32 random bytes, so that its hash needs no salt and no slow function: nobody can try them out.

use std::{fmt, str::FromStr};

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use ring::{
    digest::{SHA256, digest},
    rand::{SecureRandom as _, SystemRandom},
};
use thiserror::Error;
use tidegate_model::Timestamp;
use zeroize::Zeroizing;

/// How every token begins, so that it is known for one where it should not be.
pub const TOKEN_PREFIX: &str = "tg_";

const RANDOM_BYTES: usize = 32;
const HASH_BYTES: usize = 32;
/// Bytes of the hash that people tell tokens apart by.
const ID_BYTES: usize = 4;
const NEVER: &str = "never";

/// What is kept of a token: a line such as `sha256:… 2027-01-31T12:00:00.000Z`, or with `never`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    hash: TokenHash,
    /// From when on it is worth nothing; for ever worth something without.
    expires: Option<Timestamp>,
}

/// The hash of a token.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenHash([u8; HASH_BYTES]);

/// A line is not a token's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("`tidegate token add` makes lines such as `sha256:HASH 2027-01-31T12:00:00.000Z`")]
pub struct InvalidToken;

/// The random source failed, which on a working system it does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the system gives no random bytes")]
pub struct NoRandomBytes;

impl Token {
    /// Makes a new token; returns its text, which is nowhere kept, and what is kept of it.
    ///
    /// # Errors
    ///
    /// [`NoRandomBytes`].
    pub fn generate(
        expires: Option<Timestamp>,
    ) -> Result<(Zeroizing<String>, Self), NoRandomBytes> {
        let mut bytes = Zeroizing::new([0; RANDOM_BYTES]);
        SystemRandom::new().fill(&mut *bytes).map_err(|_| NoRandomBytes)?;
        let text = Zeroizing::new(format!("{TOKEN_PREFIX}{}", BASE64URL_NOPAD.encode(&*bytes)));
        let hash = TokenHash::of(text.as_bytes());
        Ok((text, Self { hash, expires }))
    }

    /// Returns the hash.
    pub fn hash(&self) -> TokenHash {
        self.hash
    }

    /// Returns from when on it is worth nothing, if ever.
    pub fn expires(&self) -> Option<Timestamp> {
        self.expires
    }

    /// Returns a short name by which people tell tokens apart.
    pub fn id(&self) -> String {
        HEXLOWER.encode(&self.hash.0[..ID_BYTES])
    }
}

impl TokenHash {
    /// Returns the hash of a token's text.
    pub fn of(token: &[u8]) -> Self {
        let digest = digest(&SHA256, token);
        Self(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }

    /// Returns its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("TokenHash(…)")
    }
}

impl fmt::Display for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "sha256:{} ", HEXLOWER.encode(&self.hash.0))?;
        match self.expires {
            Some(expires) => write!(formatter, "{expires}"),
            None => formatter.write_str(NEVER),
        }
    }
}

impl FromStr for Token {
    type Err = InvalidToken;

    fn from_str(line: &str) -> Result<Self, InvalidToken> {
        let (hash, expires) = line.trim().split_once(' ').ok_or(InvalidToken)?;
        let hash = hash.strip_prefix("sha256:").ok_or(InvalidToken)?;
        let hash = HEXLOWER.decode(hash.as_bytes()).map_err(|_| InvalidToken)?;
        let hash = TokenHash(hash.try_into().map_err(|_| InvalidToken)?);
        let expires = match expires.trim() {
            NEVER => None,
            moment => Some(Timestamp::parse(moment).map_err(|_| InvalidToken)?),
        };
        Ok(Self { hash, expires })
    }
}

/// Reads a file of tokens; lines that are empty or begin with `#` say nothing.
///
/// # Errors
///
/// The number of the first line that is wrong, from 1.
pub fn parse_tokens(text: &str) -> Result<Vec<Token>, (usize, InvalidToken)> {
    let lines = (1..).zip(text.lines());
    let meant = lines.filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    meant.map(|(number, line)| line.parse().map_err(|error| (number, error))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_kept_as_a_line_that_does_not_tell_it() {
        let expires = Timestamp::parse("2027-01-31T12:00:00Z").unwrap();
        let (text, token) = Token::generate(Some(expires)).unwrap();
        let (other, never) = Token::generate(None).unwrap();
        assert_ne!(*text, *other);
        assert!(text.starts_with("tg_") && text.len() == 46, "{} bytes", text.len());
        assert_eq!(TokenHash::of(text.as_bytes()), token.hash());
        let file = format!("# tokens of scada\n\n{token}\n{never}\n");
        assert!(!file.contains(&text[3..]));
        assert_eq!(parse_tokens(&file), Ok(vec![token, never]));
    }

    #[test]
    fn a_wrong_line_is_named() {
        let (_, token) = Token::generate(None).unwrap();
        let cut = &token.to_string()[..60];
        for (line, number) in [("sha256:00 never", 1), (cut, 1), ("# a\nx", 2), ("tg_x never", 1)] {
            assert_eq!(parse_tokens(line), Err((number, InvalidToken)), "{line}");
        }
    }
}
