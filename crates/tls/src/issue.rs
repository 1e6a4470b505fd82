//! A plant's own authority, and the certificates it gives out.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};
use x509_cert::Certificate;
use x509_cert::der::DecodePem as _;

use crate::{Identity, TlsError};

/// Clocks of devices are late sometimes: a certificate is valid for so long before it was made.
const BACKDATED: Duration = Duration::days(1);

/// An authority that can give out certificates.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: Certificate,
}

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// The key, PKCS #8 without a password.
    pub key: String,
}

/// What a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A server under these host names and addresses.
    Server(Vec<String>),
    /// A device that connects.
    Device,
}

/// When a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// When it is made, in seconds since 1970.
    pub now: i64,
    /// For how many days from then.
    pub days: u32,
}

impl Authority {
    /// Makes a new authority of this name, with a new key.
    ///
    /// # Errors
    ///
    /// [`TlsError::Certificate`] if name or times cannot stand in a certificate.
    pub fn create(name: &str, validity: Validity) -> Result<(Self, Issued), TlsError> {
        let mut params = params(name, validity)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = new_key()?;
        let certificate = params.self_signed(&key).map_err(unusable)?.pem();
        let issued = Issued { certificate, key: key.serialize_pem() };
        Ok((Self::from_pem(&issued.certificate, &issued.key)?, issued))
    }

    /// Takes an authority that [`create`](Self::create) has made.
    ///
    /// # Errors
    ///
    /// [`TlsError`] if it cannot be read, certificate and key do not belong together, or it is no authority of ours.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, TlsError> {
        let identity = Identity::from_pem(certificate.as_bytes(), key.as_bytes())?;
        let parsed = Certificate::from_pem(certificate.as_bytes())
            .map_err(|error| TlsError::Certificate(error.to_string()))?;
        let name = identity.names().iter().find_map(|name| name.as_str().strip_prefix("CN="));
        let name = name.ok_or_else(not_ours)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let key = KeyPair::from_pem(key).map_err(|error| TlsError::Key(error.to_string()))?;
        Ok(Self { issuer: Issuer::new(params, key), certificate: parsed })
    }

    /// Gives out a certificate with this common name, with a new key.
    ///
    /// # Errors
    ///
    /// [`TlsError::Certificate`] if name, hosts or times cannot stand in a certificate, or if the authority is not
    /// one that [`create`](Self::create) has made.
    pub fn issue(
        &self,
        name: &str,
        purpose: &Purpose,
        validity: Validity,
    ) -> Result<Issued, TlsError> {
        let mut params = params(name, validity)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        match purpose {
            Purpose::Server(hosts) => {
                params.subject_alt_names =
                    CertificateParams::new(hosts.clone()).map_err(unusable)?.subject_alt_names;
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            }
            Purpose::Device => {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            }
        }
        let key = new_key()?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(unusable)?.pem();
        let parsed = Certificate::from_pem(certificate.as_bytes())
            .map_err(|error| TlsError::Certificate(error.to_string()))?;
        // Nobody would find the authority by another spelling of its name.
        if parsed.tbs_certificate.issuer != self.certificate.tbs_certificate.subject {
            return Err(not_ours());
        }
        Ok(Issued { certificate, key: key.serialize_pem() })
    }
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Issued").finish_non_exhaustive()
    }
}

fn params(name: &str, validity: Validity) -> Result<CertificateParams, TlsError> {
    let wrong = |error: time::error::ComponentRange| TlsError::Certificate(error.to_string());
    let now = OffsetDateTime::from_unix_timestamp(validity.now).map_err(wrong)?;
    let mut params = CertificateParams::default();
    params.not_before = now.saturating_sub(BACKDATED);
    params.not_after = now.saturating_add(Duration::days(validity.days.into()));
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}

/// Returns a key on the curve P-256: every peer of the last ten years can use it.
fn new_key() -> Result<KeyPair, TlsError> {
    KeyPair::generate().map_err(|error| TlsError::Key(error.to_string()))
}

fn unusable(error: rcgen::Error) -> TlsError {
    TlsError::Certificate(error.to_string())
}

fn not_ours() -> TlsError {
    TlsError::Authority("it was not made by `tidegate cert init`".into())
}
