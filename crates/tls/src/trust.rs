//! Authorities whose certificates are believed, and what they have revoked.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};

use crate::TlsError;
use crate::identity::certificates;

/// Authorities, and lists of certificates that they have revoked.
#[derive(Clone, Debug)]
pub struct Trust {
    pub(crate) roots: Arc<RootCertStore>,
    pub(crate) revoked: Vec<CertificateRevocationListDer<'static>>,
}

impl Trust {
    /// Takes certificates of authorities in PEM; at least one.
    ///
    /// # Errors
    ///
    /// [`TlsError`] if one of them cannot be used.
    pub fn from_pem(authorities: &[u8]) -> Result<Self, TlsError> {
        Self::from_der(certificates(authorities)?)
    }

    /// Takes certificates of authorities; at least one.
    ///
    /// # Errors
    ///
    /// [`TlsError`] if one of them cannot be used.
    pub fn from_der(
        authorities: impl IntoIterator<Item = CertificateDer<'static>>,
    ) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority).map_err(|error| TlsError::Authority(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(TlsError::NoCertificate);
        }
        Ok(Self { roots: Arc::new(roots), revoked: Vec::new() })
    }

    /// Takes those certificates of the operating system that can be used; at least one.
    ///
    /// # Errors
    ///
    /// [`TlsError::NoCertificate`].
    pub fn of_system(
        authorities: impl IntoIterator<Item = CertificateDer<'static>>,
    ) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(authorities);
        if roots.is_empty() {
            return Err(TlsError::NoCertificate);
        }
        Ok(Self { roots: Arc::new(roots), revoked: Vec::new() })
    }

    /// Adds lists of revoked certificates in PEM. With lists, a certificate on none of them is good.
    ///
    /// # Errors
    ///
    /// [`TlsError::RevocationList`].
    pub fn with_revoked(mut self, lists: &[u8]) -> Result<Self, TlsError> {
        for list in CertificateRevocationListDer::pem_slice_iter(lists) {
            let list = list.map_err(|_| TlsError::RevocationList(TlsError::Pem.to_string()))?;
            self.revoked.push(list);
        }
        if self.revoked.is_empty() {
            return Err(TlsError::RevocationList("there is none in it".into()));
        }
        Ok(self)
    }
}
