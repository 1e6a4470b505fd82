//! What is kept of provisioning: a certificate that is not active yet, with its token, and then one that is.

use std::path::PathBuf;

use tidegate_tls::{Identity, TlsError};
use tidegate_uplink::{Disconnect, Failure};
use zeroize::Zeroizing;

use super::super::{super::link::LinkError, folder::Folder};

/// Key and certificate of its own, behind the name of the thing.
const CREDENTIALS: &str = "credentials.pem";
/// Key and certificate that are not active yet, behind the token.
const PENDING: &str = "pending.pem";
const THING: &str = "thing: ";
const TOKEN: &str = "token: ";
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";

/// A certificate of its own.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) identity: Identity,
}

/// A certificate that is not active yet.
pub(super) struct Pending {
    token: Zeroizing<String>,
    pair: Pair,
}

impl Pending {
    /// Takes what was given out for a key.
    pub(super) fn new(token: &str, key: &str, certificate: &str) -> Result<Self, TlsError> {
        let pair = Pair::new(key, certificate)?;
        Ok(Self { token: Zeroizing::new(token.to_owned()), pair })
    }

    pub(super) fn token(&self) -> &str {
        &self.token
    }

    pub(super) fn identity(&self) -> &Identity {
        &self.pair.identity
    }
}

/// Key and certificate, as text and to be shown.
struct Pair {
    identity: Identity,
    text: Zeroizing<String>,
}

impl Pair {
    fn new(key: &str, certificate: &str) -> Result<Self, TlsError> {
        let identity = Identity::from_pem(certificate.as_bytes(), key.as_bytes())?;
        let text = Zeroizing::new(format!("{}\n{}\n", key.trim(), certificate.trim()));
        Ok(Self { identity, text })
    }

    /// Reads what [`with_head`](Self::with_head) has written; returns what stands in the first line, too.
    fn read(text: &str, head: &str) -> Option<(String, Self)> {
        let (first, rest) = text.strip_prefix(head)?.split_once('\n')?;
        let (key, certificate) = rest.split_at(rest.find(CERTIFICATE)?);
        Some((first.to_owned(), Self::new(key, certificate).ok()?))
    }

    fn with_head(&self, head: &str, first: &str) -> Zeroizing<String> {
        Zeroizing::new(format!("{head}{first}\n{}", *self.text))
    }
}

/// The folder of one uplink.
#[derive(Debug)]
pub(super) struct Store(Folder);

impl Store {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self(Folder::new(folder))
    }

    /// Returns the certificate of its own, if there is one. A file that cannot be used is nothing to replace without a
    /// word: each certificate that is asked for stays valid.
    pub(super) async fn kept(&self) -> Result<Option<Kept>, LinkError> {
        let read = self.read(CREDENTIALS, THING).await?;
        Ok(read.map(|(_, pair)| Kept { identity: pair.identity }))
    }

    /// Returns the certificate that is not active yet, if there is one.
    pub(super) async fn pending(&self) -> Result<Option<Pending>, LinkError> {
        let read = self.read(PENDING, TOKEN).await?;
        Ok(read.map(|(token, pair)| Pending { token: Zeroizing::new(token), pair }))
    }

    async fn read(&self, name: &str, head: &str) -> Result<Option<(String, Pair)>, LinkError> {
        let Some(text) = self.0.read(name).await? else { return Ok(None) };
        let read = Pair::read(&text, head);
        let path = self.0.path().join(name);
        read.map(Some).ok_or_else(|| LinkError {
            reason: format!("{} is damaged: remove it to have another given out", path.display()),
            failure: Failure::Lasting,
            how: Disconnect::Otherwise,
        })
    }

    pub(super) async fn keep_pending(&self, pending: &Pending) -> Result<(), LinkError> {
        self.0.write(PENDING, pending.pair.with_head(TOKEN, &pending.token)).await
    }

    pub(super) async fn forget_pending(&self) -> Result<(), LinkError> {
        self.0.remove(PENDING).await
    }

    /// Keeps a certificate that is active; what was pending is forgotten then.
    pub(super) async fn keep(&self, pending: &Pending, thing: &str) -> Result<Kept, LinkError> {
        self.0.write(CREDENTIALS, pending.pair.with_head(THING, thing)).await?;
        self.forget_pending().await?;
        Ok(Kept { identity: pending.pair.identity.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is damaged is told, and neither used nor taken for missing.
    #[tokio::test]
    async fn uplink_21_a_certificate_is_kept_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().join("cloud"));
        assert!(store.kept().await.unwrap().is_none() && store.pending().await.unwrap().is_none());
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::default().self_signed(&key).unwrap();
        let other = rcgen::KeyPair::generate().unwrap();
        assert!(Pending::new("t", &other.serialize_pem(), &certificate.pem()).is_err());
        let pending = Pending::new("t 1", &key.serialize_pem(), &certificate.pem()).unwrap();
        store.keep_pending(&pending).await.unwrap();
        assert_eq!(store.pending().await.unwrap().unwrap().token(), "t 1");
        store.keep(&pending, "gw-1").await.unwrap();
        assert!(store.kept().await.unwrap().is_some() && store.pending().await.unwrap().is_none());
        let path = folder.path().join("cloud").join(CREDENTIALS);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("thing: gw-1\n-----BEGIN PRIVATE KEY-----"));
        std::fs::write(&path, &text[..text.len() / 2]).unwrap();
        let error = store.kept().await.unwrap_err();
        assert!(error.reason.contains("credentials.pem is damaged"), "{}", error.reason);
    }
}
