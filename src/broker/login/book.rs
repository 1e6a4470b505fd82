//! The accounts as they are looked up: by name, certificate, token, and by the credential of a login.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use ring::digest::{Context, SHA256};
use tidegate_adapter_api::Login;
use tidegate_model::{CredentialId, PeerName, PeerNames, Principal};
use tidegate_scram::{Decoys, Verifier};

use super::Account;
use crate::{
    broker::token::TokenHash,
    clock::wall,
    jwt::{Bearer, Issuers, JwtRefusal, Origin, Verdict},
};

/// Longest token, in bytes; ours have 46.
const TOKEN_BYTES_MAX: usize = 1_024;

/// All accounts at one time.
#[derive(Debug)]
pub(super) struct Book {
    passwords: BTreeMap<String, (Login, Arc<str>)>,
    scram: BTreeMap<String, (Login, Verifier)>,
    scram_decoys: Decoys,
    certificates: HashMap<PeerName, Login>,
    tokens: HashMap<TokenHash, Login>,
    principals: HashSet<Principal>,
    /// Those of all of them.
    credentials: HashSet<CredentialId>,
    issuers: Issuers,
}

/// Kinds of credentials, told apart in their fingerprints.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Password,
    Certificate,
    Token,
    Scram,
    Jwt,
}

impl Book {
    pub(super) fn new(
        accounts: impl IntoIterator<Item = Account>,
        issuers: Issuers,
        decoy_key: [u8; 32],
    ) -> Self {
        let mut book = Self {
            passwords: BTreeMap::new(),
            scram: BTreeMap::new(),
            scram_decoys: Decoys::new(decoy_key, []),
            certificates: HashMap::new(),
            tokens: HashMap::new(),
            principals: HashSet::new(),
            credentials: HashSet::new(),
            issuers,
        };
        for Account { principal, password_hash, scram, certificate, tokens } in accounts {
            let mut login = |kind, ends, of: &[u8]| {
                let credential = fingerprint(kind, &principal, of);
                book.credentials.insert(credential);
                Login { principal: principal.clone(), credential, ends }
            };
            if let Some(hash) = password_hash {
                let login = login(Kind::Password, None, hash.as_bytes());
                book.passwords.insert(principal.as_str().to_owned(), (login, hash.into()));
            }
            if let Some(verifier) = scram {
                let login = login(Kind::Scram, None, verifier.to_string().as_bytes());
                book.scram.insert(principal.as_str().to_owned(), (login, verifier));
            }
            for token in tokens {
                let login = login(Kind::Token, token.expires(), token.hash().as_bytes());
                book.tokens.insert(token.hash(), login);
            }
            if let Some(certificate) = certificate {
                let login = login(Kind::Certificate, None, certificate.as_str().as_bytes());
                book.certificates.insert(certificate, login);
            }
            book.principals.insert(principal);
        }
        let verifiers = book.scram.values().map(|(_, verifier)| verifier);
        book.scram_decoys = Decoys::new(decoy_key, verifiers);
        book
    }

    /// Returns the login of a name, if the password that was given has the hash.
    pub(super) fn password(&self, name: &str) -> Option<&(Login, Arc<str>)> {
        self.passwords.get(name)
    }

    /// Returns the login of a name, if the password that was proven fits the verifier.
    pub(super) fn scram(&self, name: &str) -> Option<&(Login, Verifier)> {
        self.scram.get(name)
    }

    /// Returns what a name is challenged with, whether it is there or not.
    pub(super) fn challenge(&self, name: &str) -> Verifier {
        // Made for those that are there too, so that they take as long.
        let decoy = self.scram_decoys.of(name);
        self.scram(name).map_or(decoy, |(_, verifier)| verifier.clone())
    }

    /// Returns whose API token this is.
    pub(super) fn token(&self, token: &[u8]) -> Option<Login> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let login = self.tokens.get(&TokenHash::of(token))?;
        (!has_ended(login)).then(|| login.clone())
    }

    /// Returns whose token of a foreign issuer this is; nothing if it is no such token.
    pub(super) fn jwt(&self, token: &[u8]) -> Option<Result<Login, JwtRefusal>> {
        match self.issuers.verify(token, wall()) {
            Verdict::Foreign => None,
            Verdict::Refused(refusal) => Some(Err(refusal)),
            Verdict::Good(Bearer { principal, ends, origin }) => {
                let credential = fingerprint(Kind::Jwt, &principal, origin.as_bytes());
                Some(Ok(Login { principal, credential, ends: Some(ends) }))
            }
        }
    }

    /// Returns whose tokens are believed.
    pub(super) fn issuers(&self) -> &Issuers {
        &self.issuers
    }

    pub(super) fn certified(&self, names: &PeerNames) -> Option<Login> {
        names.iter().find_map(|name| self.certificates.get(name).cloned())
    }

    /// Returns whether the credential of a login is still one of its principal, and has not ended.
    pub(super) fn is_good(&self, login: &Login) -> bool {
        self.has(&login.principal, login.credential) && !has_ended(login)
    }

    /// Returns whether somebody could log in as this principal.
    pub(super) fn knows(&self, principal: &Principal) -> bool {
        self.principals.contains(principal) || self.issuers.may_name(principal)
    }

    /// Returns whether a credential is one of this principal's.
    pub(super) fn has(&self, principal: &Principal, credential: CredentialId) -> bool {
        let is_vouched_for =
            |origin: Origin| fingerprint(Kind::Jwt, principal, origin.as_bytes()) == credential;
        self.credentials.contains(&credential)
            || self.issuers.origins(principal).any(is_vouched_for)
    }
}

/// Returns whether the time of a login is over.
pub(super) fn has_ended(login: &Login) -> bool {
    login.ends.is_some_and(|ends| ends.as_unix_micros() <= wall().as_unix_micros())
}

/// Returns a fingerprint of one credential of one principal.
pub(super) fn fingerprint(kind: Kind, principal: &Principal, of: &[u8]) -> CredentialId {
    let mut context = Context::new(&SHA256);
    context.update(&[kind as u8]);
    context.update(&(principal.as_str().len() as u64).to_be_bytes());
    context.update(principal.as_str().as_bytes());
    context.update(of);
    let digest = context.finish();
    let first = digest.as_ref().first_chunk().expect("SHA-256 has 32 bytes");
    CredentialId::new(*first)
}
