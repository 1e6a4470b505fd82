//! JSON Web Tokens in the compact form (RFC 7515, RFC 7519), before and after their signature is believed.

use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use serde_json::{Map, Value};
use tidegate_model::Timestamp;

use super::keys::{Algorithm, Key, KeySet};

/// Longest token that is looked at.
pub const TOKEN_BYTES_MAX: usize = 8 << 10;
/// How far the clocks of the issuer and of the gateway may differ.
pub const LEEWAY: Duration = Duration::from_secs(30);
/// Later ends are as good as this one: the year 9999.
const SECONDS_MAX: f64 = 253_402_300_799.0;

/// Why a token of a known issuer lets nobody in. Complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JwtRefusal {
    /// It asks for an algorithm that is not taken, such as `none` or HS256, or for an extension.
    Algorithm,
    /// No key of the issuer has its name, or is for its algorithm.
    Key,
    /// The issuer's keys could not be fetched yet.
    NoKeys,
    /// The signature is wrong.
    Signature,
    /// It is over, or does not say when it is.
    Expired,
    /// It is not good yet.
    NotYet,
    /// It is for somebody else.
    Audience,
    /// The claim that names the principal is absent, or the issuer may not give the name.
    Name,
}

impl JwtRefusal {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Algorithm,
        Self::Key,
        Self::NoKeys,
        Self::Signature,
        Self::Expired,
        Self::NotYet,
        Self::Audience,
        Self::Name,
    ];

    /// Returns the word under which it is counted.
    pub fn word(self) -> &'static str {
        match self {
            Self::Algorithm => "jwt-algorithm",
            Self::Key => "jwt-key",
            Self::NoKeys => "jwt-no-keys",
            Self::Signature => "jwt-signature",
            Self::Expired => "jwt-expired",
            Self::NotYet => "jwt-not-yet",
            Self::Audience => "jwt-audience",
            Self::Name => "jwt-name",
        }
    }
}

/// A token whose signature nobody has looked at.
#[derive(Debug)]
pub(super) struct Unverified<'t> {
    signed: &'t [u8],
    header: Map<String, Value>,
    claims: Map<String, Value>,
    signature: Vec<u8>,
}

/// What an issuer has signed.
#[derive(Debug)]
pub(super) struct Claims<'k> {
    claims: Map<String, Value>,
    pub(super) key: &'k Key,
}

impl<'t> Unverified<'t> {
    /// Takes a token apart; `None` if it is none.
    pub(super) fn parse(token: &'t [u8]) -> Option<Self> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let mut dots =
            token.iter().enumerate().filter(|(_, byte)| **byte == b'.').map(|(at, _)| at);
        let (first, second) = (dots.next()?, dots.next()?);
        if dots.next().is_some() {
            return None;
        }
        let object = |part: &[u8]| match serde_json::from_slice(&BASE64URL_NOPAD.decode(part).ok()?)
        {
            Ok(Value::Object(object)) => Some(object),
            _ => None,
        };
        Some(Self {
            signed: &token[..second],
            header: object(&token[..first])?,
            claims: object(&token[first + 1..second])?,
            signature: BASE64URL_NOPAD.decode(&token[second + 1..]).ok()?,
        })
    }

    /// Returns who the token says it comes from.
    pub(super) fn issuer(&self) -> Option<&str> {
        self.claims.get("iss").and_then(Value::as_str)
    }

    /// Returns what the token says if one of the keys has signed it.
    pub(super) fn verify(self, keys: &KeySet) -> Result<Claims<'_>, JwtRefusal> {
        // A critical extension is one that we do not know: we know none (RFC 7515, section 4.1.11).
        let name = self.header.get("alg").and_then(Value::as_str).unwrap_or_default();
        let algorithm = Algorithm::from_name(name).filter(|_| !self.header.contains_key("crit"));
        let algorithm = algorithm.ok_or(JwtRefusal::Algorithm)?;
        let id = match self.header.get("kid") {
            None => None,
            Some(id) => Some(id.as_str().ok_or(JwtRefusal::Key)?),
        };
        let mut candidates = keys.candidates(algorithm, id).peekable();
        if candidates.peek().is_none() {
            return Err(JwtRefusal::Key);
        }
        let key = candidates.find(|key| key.verifies(algorithm, self.signed, &self.signature));
        Ok(Claims { claims: self.claims, key: key.ok_or(JwtRefusal::Signature)? })
    }
}

impl Claims<'_> {
    /// Returns the text of a claim.
    pub(super) fn text(&self, claim: &str) -> Option<&str> {
        self.claims.get(claim).and_then(Value::as_str)
    }

    /// Returns when the token is over, leeway included, if it is good now and for this audience.
    pub(super) fn check(&self, audience: &str, now: Timestamp) -> Result<Timestamp, JwtRefusal> {
        let is_meant = match self.claims.get("aud") {
            Some(Value::String(one)) => one == audience,
            Some(Value::Array(several)) => several.iter().any(|one| one == audience),
            _ => false,
        };
        if !is_meant {
            return Err(JwtRefusal::Audience);
        }
        let ends = self.claims.get("exp").and_then(time_of).ok_or(JwtRefusal::Expired)?;
        let ends = ends.saturating_add(LEEWAY);
        if ends <= now {
            return Err(JwtRefusal::Expired);
        }
        if let Some(begins) = self.claims.get("nbf") {
            let begins = time_of(begins).ok_or(JwtRefusal::NotYet)?;
            if begins > now.saturating_add(LEEWAY) {
                return Err(JwtRefusal::NotYet);
            }
        }
        Ok(ends)
    }
}

/// Reads a time in seconds since 1970 (RFC 7519, section 2).
fn time_of(value: &Value) -> Option<Timestamp> {
    let seconds = value.as_f64().filter(|seconds| seconds.is_finite())?;
    let micros = seconds.clamp(0.0, SECONDS_MAX) * 1e6;
    Some(Timestamp::from_unix_micros(micros as i64))
}
