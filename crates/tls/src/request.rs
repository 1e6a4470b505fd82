//! What an authority is asked to sign.

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

use crate::TlsError;

/// A new key, and the request for a certificate of it.
pub struct SigningRequest {
    /// The request (PKCS #10), in PEM.
    pub request: String,
    /// The key, PKCS #8 without a password, in PEM. It never leaves the machine.
    pub key: String,
}

impl SigningRequest {
    /// Makes a key on the curve P-256 and a request with this common name and no other names.
    ///
    /// # Errors
    ///
    /// [`TlsError::Key`] without randomness, [`TlsError::Certificate`] if the name cannot stand in a certificate.
    pub fn new(common_name: &str) -> Result<Self, TlsError> {
        let key = KeyPair::generate().map_err(|error| TlsError::Key(error.to_string()))?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        let request = params
            .serialize_request(&key)
            .and_then(|request| request.pem())
            .map_err(|error| TlsError::Certificate(error.to_string()))?;
        Ok(Self { request, key: key.serialize_pem() })
    }
}

impl std::fmt::Debug for SigningRequest {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("SigningRequest")
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}
