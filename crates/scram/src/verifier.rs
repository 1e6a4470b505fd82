//! What is kept of a password, and what stands in for it where there is none.

use std::{fmt, num::NonZeroU32, ops::RangeInclusive, str::FromStr};

use data_encoding::BASE64;
use ring::{
    digest::{SHA256, SHA256_OUTPUT_LEN, digest},
    hmac::{self, HMAC_SHA256},
    pbkdf2::{self, PBKDF2_HMAC_SHA256},
};
use thiserror::Error;

use crate::METHOD;

/// How many rounds a client may be asked for. RFC 7677 asks for 4 096 at least.
pub const ITERATIONS: RangeInclusive<u32> = 4_096..=10_000_000;
/// How many rounds a new verifier asks for: what OWASP advises for PBKDF2-HMAC-SHA256.
///
/// The client does them once per connection (about 0.2 s on a small computer, many seconds on a microcontroller);
/// the server does none. They are what a thief of the verifier must do for each guess.
pub const ITERATIONS_DEFAULT: u32 = 600_000;
/// How long the salt of a new verifier is.
pub const SALT_BYTES: usize = 16;
/// How long a salt may be.
const SALT_BYTES_RANGE: RangeInclusive<usize> = 8..=2 * SHA256_OUTPUT_LEN;

pub(crate) type Key = [u8; SHA256_OUTPUT_LEN];

/// What is kept of a password. It does not tell the password, and does not let its owner log in with it.
///
/// As a line it is `SCRAM-SHA-256$ITERATIONS:SALT$STOREDKEY:SERVERKEY` with the last three in Base64, as
/// RFC 5803 and PostgreSQL have it.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    pub(crate) iterations: u32,
    pub(crate) salt: Vec<u8>,
    pub(crate) stored_key: Key,
    pub(crate) server_key: Key,
}

/// A line is not a verifier's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "`tidegate user add --scram` makes a line such as `{METHOD}$ITERATIONS:SALT$STOREDKEY:SERVERKEY`"
)]
pub struct InvalidVerifier;

/// Why a password cannot be used with SCRAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PasswordError {
    /// There is none.
    #[error("the password is empty")]
    Empty,
    /// Clients may write such characters in several ways (SASLprep, RFC 4013), of which only one would be right.
    #[error(
        "the password has characters other than letters without accents, digits, signs and blanks"
    )]
    NotAscii,
    /// The number of rounds is out of range.
    #[error("a client may be asked for {} to {} rounds", ITERATIONS.start(), ITERATIONS.end())]
    Iterations,
}

impl Verifier {
    /// Makes what is kept of a password. Takes as long as a client takes to log in.
    ///
    /// # Errors
    ///
    /// [`PasswordError`]; passwords are printable ASCII, which SASLprep leaves as it is.
    pub fn from_password(
        password: &str,
        salt: &[u8; SALT_BYTES],
        iterations: u32,
    ) -> Result<Self, PasswordError> {
        if password.is_empty() {
            return Err(PasswordError::Empty);
        }
        if !password.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            return Err(PasswordError::NotAscii);
        }
        let rounds =
            NonZeroU32::new(iterations).filter(|rounds| ITERATIONS.contains(&rounds.get()));
        let rounds = rounds.ok_or(PasswordError::Iterations)?;
        let mut salted = [0; SHA256_OUTPUT_LEN];
        pbkdf2::derive(PBKDF2_HMAC_SHA256, rounds, salt, password.as_bytes(), &mut salted);
        let client_key = sign(&salted, &[b"Client Key"]);
        let stored_key = hash(&client_key);
        let server_key = sign(&salted, &[b"Server Key"]);
        Ok(Self { iterations, salt: salt.to_vec(), stored_key, server_key })
    }

    /// Returns how many rounds it asks of a client.
    pub fn iterations(&self) -> u32 {
        self.iterations
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Verifier(…)")
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [salt, stored, server] =
            [&self.salt[..], &self.stored_key, &self.server_key].map(|bytes| BASE64.encode(bytes));
        write!(formatter, "{METHOD}${}:{salt}${stored}:{server}", self.iterations)
    }
}

impl FromStr for Verifier {
    type Err = InvalidVerifier;

    fn from_str(line: &str) -> Result<Self, InvalidVerifier> {
        let parse = || {
            let (shape, keys) = line.strip_prefix(METHOD)?.strip_prefix('$')?.split_once('$')?;
            let (iterations, salt) = shape.split_once(':')?;
            let (stored, server) = keys.split_once(':')?;
            let bytes = |text: &str| BASE64.decode(text.as_bytes()).ok();
            let is_number = iterations.bytes().all(|byte| byte.is_ascii_digit());
            let iterations: u32 = iterations.parse().ok().filter(|_| is_number)?;
            Some(Self {
                iterations: Some(iterations).filter(|rounds| ITERATIONS.contains(rounds))?,
                salt: bytes(salt).filter(|salt| SALT_BYTES_RANGE.contains(&salt.len()))?,
                stored_key: bytes(stored)?.try_into().ok()?,
                server_key: bytes(server)?.try_into().ok()?,
            })
        };
        parse().ok_or(InvalidVerifier)
    }
}

/// Verifiers for names that have none, so that nobody learns which names there are.
///
/// Each name gets the same one for as long as the key is the same, with rounds and salt like those of a real one;
/// no password fits it.
pub struct Decoys {
    key: Key,
    /// Rounds and length of the salt of each real verifier: what is common among them is common among decoys.
    shapes: Vec<(u32, usize)>,
}

impl Decoys {
    /// Makes decoys of a random key that look like the real verifiers.
    pub fn new<'a>(key: [u8; 32], real: impl IntoIterator<Item = &'a Verifier>) -> Self {
        let mut shapes: Vec<(u32, usize)> =
            real.into_iter().map(|real| (real.iterations, real.salt.len())).collect();
        shapes.sort_unstable();
        Self { key, shapes }
    }

    /// Returns the decoy of a name.
    pub fn of(&self, name: &str) -> Verifier {
        let block = |number: u8| sign(&self.key, &[&[number], name.as_bytes()]);
        let pick = block(0).iter().take(8).fold(0_u64, |pick, &byte| pick << 8 | u64::from(byte));
        let shape = pick.checked_rem(self.shapes.len() as u64);
        let shape = shape.and_then(|index| self.shapes.get(usize::try_from(index).ok()?));
        let (iterations, salt_bytes) = *shape.unwrap_or(&(ITERATIONS_DEFAULT, SALT_BYTES));
        let mut salt = [block(1), block(2)].concat();
        salt.truncate(salt_bytes);
        Verifier { iterations, salt, stored_key: block(3), server_key: block(4) }
    }
}

impl fmt::Debug for Decoys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Decoys(…)")
    }
}

/// HMAC-SHA-256 of a message that is given in parts.
pub(crate) fn sign(key: &Key, parts: &[&[u8]]) -> Key {
    let mut context = hmac::Context::with_key(&hmac::Key::new(HMAC_SHA256, key));
    for part in parts {
        context.update(part);
    }
    context.sign().as_ref().try_into().expect("HMAC-SHA-256 has 32 bytes")
}

pub(crate) fn hash(bytes: &[u8]) -> Key {
    digest(&SHA256, bytes).as_ref().try_into().expect("SHA-256 has 32 bytes")
}
