//! Authorities whose certificates are believed, and what they have revoked.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_cert::crl::CertificateList;
use x509_cert::der::{Decode as _, Encode as _};

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

    /// Returns what is odd about the lists of revoked certificates, which are used all the same: refusing everybody
    /// because a list came late would stop the plant.
    pub fn odd_lists(&self, now: u64) -> Vec<OddList> {
        let lists = self.revoked.iter().filter_map(|list| CertificateList::from_der(list).ok());
        lists
            .flat_map(|list| {
                let next = list.tbs_cert_list.next_update;
                let late = next.map(|next| next.to_unix_duration().as_secs());
                let late = late.filter(|&since| since < now);
                let issuer = list.tbs_cert_list.issuer;
                let foreign = !self.has_subject(&issuer.to_der().unwrap_or_default());
                let late = late.map(|since| OddList::Late { since });
                [late, foreign.then(|| OddList::Foreign { issuer: issuer.to_string() })]
            })
            .flatten()
            .collect()
    }

    fn has_subject(&self, name: &[u8]) -> bool {
        // The store keeps names without the tag and the length that a whole one begins with.
        self.roots.roots.iter().any(|root| {
            let subject: &[u8] = &root.subject;
            let header = name.len().checked_sub(subject.len());
            header.is_some_and(|header| (2..=4).contains(&header)) && name.ends_with(subject)
        })
    }
}

/// What is odd about a list of revoked certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OddList {
    /// A newer one should have come.
    Late {
        /// Since when, in seconds since 1970.
        since: u64,
    },
    /// None of the authorities has issued it. (One below them may have.)
    Foreign {
        /// Who has.
        issuer: String,
    },
}
