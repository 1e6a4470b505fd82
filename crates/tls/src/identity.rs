//! A certificate with its chain, and the private key that belongs to it.

use std::fmt;
use std::sync::Arc;

use rustls::InconsistentKeys;
use rustls::pki_types::pem::{Error as PemError, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

use tidegate_model::PeerNames;

use crate::{TlsError, peer::names_of, provider};

/// What one side shows the other: a certificate with its chain, and the key to prove it.
#[derive(Clone)]
pub struct Identity {
    pub(crate) key: Arc<CertifiedKey>,
    names: PeerNames,
    not_before: u64,
    not_after: u64,
}

impl Identity {
    /// Takes a chain, leaf first, and its key (PKCS #8, PKCS #1 or SEC 1), both in PEM.
    ///
    /// # Errors
    ///
    /// [`TlsError`] if either cannot be read, or if they do not belong together.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let chain = certificates(chain)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| match error {
            PemError::NoItemsFound => TlsError::NoKey,
            // What it says holds the text, which is secret.
            _ => TlsError::Key("it is no whole PEM text; line breaks may have been lost".into()),
        })?;
        let leaf = chain.first().ok_or(TlsError::NoCertificate)?;
        let parsed = Certificate::from_der(leaf)
            .map_err(|error| TlsError::Certificate(error.to_string()))?;
        let validity = parsed.tbs_certificate.validity;
        let not_before = validity.not_before.to_unix_duration().as_secs();
        let not_after = validity.not_after.to_unix_duration().as_secs();
        let names = names_of(&parsed);
        let signer = provider()
            .key_provider
            .load_private_key(key)
            .map_err(|error| TlsError::Key(error.to_string()))?;
        let key = CertifiedKey::new(chain, signer);
        match key.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(rustls::Error::InconsistentKeys(_)) => return Err(TlsError::Mismatch),
            Err(error) => return Err(TlsError::Certificate(error.to_string())),
        }
        Ok(Self { key: Arc::new(key), names, not_before, not_after })
    }

    /// Returns the names in the certificate.
    pub fn names(&self) -> &PeerNames {
        &self.names
    }

    /// Returns from when on the certificate is valid, in seconds since 1970.
    pub fn not_before(&self) -> u64 {
        self.not_before
    }

    /// Returns until when the certificate is valid, in seconds since 1970.
    pub fn not_after(&self) -> u64 {
        self.not_after
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Identity").field("names", &self.names).finish_non_exhaustive()
    }
}

/// Reads every certificate of a PEM text; at least one.
pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| TlsError::Pem)?;
    if certificates.is_empty() { Err(TlsError::NoCertificate) } else { Ok(certificates) }
}
