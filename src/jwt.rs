//! JSON Web Tokens of foreign issuers as logins: whose they are, checked with ring against the issuer's keys.

mod fetch;
mod keys;
mod source;
mod token;

use std::{fmt, sync::Arc};

use ring::digest::{Context, SHA256};
use tidegate_model::{Glob, Principal, Timestamp};

use self::token::Unverified;
pub use self::{
    keys::{Algorithm, KEYS_MAX, Key, KeySet, KeysError},
    source::{KeyAddress, KeySource, keep_fresh},
    token::{JwtRefusal, LEEWAY, TOKEN_BYTES_MAX},
};

/// Somebody whose tokens are believed.
#[derive(Clone, Debug)]
pub struct Issuer {
    /// Who it is, as `iss` of its tokens says.
    pub name: String,
    /// For whom its tokens must be, as `aud` says.
    pub audience: String,
    /// The claim that names the principal.
    pub claim: String,
    /// Which names it may give.
    pub principals: Vec<Glob>,
    /// The keys that it signs with.
    pub keys: Arc<KeySource>,
}

/// What a token is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is no token of a known issuer.
    Foreign,
    /// It lets nobody in.
    Refused(JwtRefusal),
    /// It lets somebody in.
    Good(Bearer),
}

/// Somebody whom a token lets in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bearer {
    /// Who it is.
    pub principal: Principal,
    /// When the token is over.
    pub ends: Timestamp,
    /// Which issuer and key vouch for it, and for whom: as long as these are the same, so is the credential.
    pub origin: Origin,
}

/// The issuer, audience and key of a token, as one fingerprint.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Origin([u8; 32]);

/// All issuers.
#[derive(Clone, Debug, Default)]
pub struct Issuers(Arc<[Issuer]>);

impl Issuers {
    /// Takes the issuers.
    pub fn new(issuers: impl IntoIterator<Item = Issuer>) -> Self {
        Self(issuers.into_iter().collect())
    }

    /// Returns all of them.
    pub fn iter(&self) -> impl Iterator<Item = &Issuer> {
        self.0.iter()
    }

    /// Returns whether both fetch the same keys from the same addresses.
    pub fn fetches_like(&self, other: &Self) -> bool {
        let fetched = |issuers: &Self| -> Vec<*const KeySource> {
            let keys = issuers.iter().map(|issuer| &issuer.keys);
            keys.filter(|keys| keys.address().is_some()).map(Arc::as_ptr).collect()
        };
        fetched(self) == fetched(other)
    }

    /// Returns what a token is worth at a time. Costs one check of a signature.
    pub fn verify(&self, token: &[u8], now: Timestamp) -> Verdict {
        let found = self.0.first().and_then(|_| Unverified::parse(token)).and_then(|token| {
            let name = token.issuer()?;
            let issuer = self.0.iter().find(|issuer| issuer.name == name)?;
            Some((issuer, token))
        });
        match found {
            None => Verdict::Foreign,
            Some((issuer, token)) => match issuer.verify(token, now) {
                Ok(bearer) => Verdict::Good(bearer),
                Err(refusal) => Verdict::Refused(refusal),
            },
        }
    }

    /// Returns whether one of them may name this principal.
    pub fn may_name(&self, principal: &Principal) -> bool {
        self.0.iter().any(|issuer| issuer.may_name(principal.as_str()))
    }

    /// Returns what may vouch for this principal now.
    pub fn origins<'i>(&'i self, principal: &'i Principal) -> impl Iterator<Item = Origin> + 'i {
        self.0.iter().filter(|issuer| issuer.may_name(principal.as_str())).flat_map(|issuer| {
            let keys = issuer.keys.current();
            let origins: Vec<Origin> = keys.iter().map(|key| issuer.origin(key)).collect();
            origins
        })
    }
}

impl Issuer {
    fn may_name(&self, name: &str) -> bool {
        self.principals.iter().any(|glob| glob.matches(name))
    }

    fn verify(&self, token: Unverified<'_>, now: Timestamp) -> Result<Bearer, JwtRefusal> {
        let keys = self.keys.current();
        if keys.is_empty() {
            return Err(JwtRefusal::NoKeys);
        }
        let claims = token.verify(&keys).inspect_err(|refusal| {
            if *refusal == JwtRefusal::Key {
                // The issuer may have a new one.
                self.keys.ask();
            }
        })?;
        let ends = claims.check(&self.audience, now)?;
        let name = claims.text(&self.claim).filter(|name| self.may_name(name));
        let principal = name.and_then(Principal::of_account).ok_or(JwtRefusal::Name)?;
        Ok(Bearer { principal, ends, origin: self.origin(claims.key) })
    }

    fn origin(&self, key: &Key) -> Origin {
        let mut context = Context::new(&SHA256);
        for part in [self.name.as_bytes(), self.audience.as_bytes(), key.thumbprint()] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        Origin(context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }
}

impl Origin {
    /// Returns its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Origin(…)")
    }
}

#[cfg(test)]
mod tests;
