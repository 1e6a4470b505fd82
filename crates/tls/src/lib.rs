//! TLS 1.2 and 1.3: certificates and keys from PEM, configurations that can be replaced while they are used,
//! and who a peer is.
//!
//! The crate reads no files and opens no sockets. Cryptography is ring's, through rustls.

mod by_name;
mod client;
mod identity;
mod in_use;
mod issue;
mod peer;
mod request;
mod server;
#[cfg(test)]
mod tests;
mod trust;

pub use self::client::{ClientPrepared, ClientSetup, ClientTls, client_config};
pub use self::identity::Identity;
pub use self::in_use::{InUse, Prepared};
pub use self::issue::{Authority, Issued, Purpose, Validity};
pub use self::peer::names_in;
pub use self::request::SigningRequest;
pub use self::server::{Clients, ServerPrepared, ServerSetup, ServerTls};
pub use self::trust::{OddList, Trust};

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use thiserror::Error;

/// Why certificates or keys cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The text holds no certificate.
    #[error("there is no certificate in it; PEM is expected, `-----BEGIN CERTIFICATE-----`")]
    NoCertificate,
    /// The text holds no private key, or one that is encrypted.
    #[error(
        "there is no private key in it; PEM without a password is expected, `-----BEGIN PRIVATE KEY-----`"
    )]
    NoKey,
    /// The text is not PEM. Why is not told: it would show what may be secret.
    #[error("it is no whole PEM text; line breaks may have been lost")]
    Pem,
    /// A certificate is malformed.
    #[error("the certificate cannot be read: {0}")]
    Certificate(String),
    /// The key has a kind or a size that is not supported.
    #[error("the private key cannot be used: {0}")]
    Key(String),
    /// Certificate and key belong to different pairs.
    #[error("the private key does not belong to the certificate")]
    Mismatch,
    /// A list of revoked certificates is malformed.
    #[error("the revocation list cannot be read: {0}")]
    RevocationList(String),
    /// The certificates of authorities cannot be used.
    #[error("the authority's certificate cannot be used: {0}")]
    Authority(String),
}

/// The cryptography everybody uses.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
