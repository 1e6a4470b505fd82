//! The side that connects.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::sign::SingleCertAndKey;

use crate::{Identity, InUse, Prepared, TlsError, Trust, provider};

/// What a client needs for its handshakes.
#[derive(Clone, Debug)]
pub struct ClientSetup {
    /// Whom it believes.
    pub trust: Trust,
    /// What it shows when it is asked.
    pub identity: Option<Identity>,
    /// The application protocols it speaks, the preferred first; none for MQTT over TCP.
    pub protocols: Vec<Vec<u8>>,
}

/// The handshakes of a client.
pub type ClientTls = InUse<ClientConfig>;

/// A setup of a client that will do.
pub type ClientPrepared = Prepared<ClientConfig>;

impl ClientPrepared {
    /// Checks a setup.
    ///
    /// # Errors
    ///
    /// [`TlsError::Authority`] or [`TlsError::RevocationList`] if servers cannot be verified with it.
    pub fn new(setup: ClientSetup) -> Result<Self, TlsError> {
        client_config(setup).map(Self)
    }
}

impl ClientTls {
    /// Takes what is needed.
    ///
    /// # Errors
    ///
    /// As [`ClientPrepared::new`].
    pub fn new(setup: ClientSetup) -> Result<Self, TlsError> {
        client_config(setup).map(Self::with)
    }
}

/// Makes the configuration for the handshakes of a client.
///
/// # Errors
///
/// [`TlsError::Authority`] or [`TlsError::RevocationList`] if servers cannot be verified with it.
pub fn client_config(setup: ClientSetup) -> Result<Arc<ClientConfig>, TlsError> {
    let ClientSetup { trust, identity, protocols } = setup;
    let mut builder =
        WebPkiServerVerifier::builder_with_provider(Arc::clone(&trust.roots), provider());
    if !trust.revoked.is_empty() {
        builder = builder.with_crls(trust.revoked).allow_unknown_revocation_status();
    }
    let verifier = builder.build().map_err(|error| match error {
        rustls::server::VerifierBuilderError::InvalidCrl(error) => {
            TlsError::RevocationList(format!("{error:?}"))
        }
        other => TlsError::Authority(other.to_string()),
    })?;
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("ring has the cipher suites of both versions")
        .with_webpki_verifier(verifier);
    let mut config = match identity {
        Some(identity) => {
            let shown: Arc<dyn ResolvesClientCert> = Arc::new(SingleCertAndKey::from(identity.key));
            builder.with_client_cert_resolver(shown)
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = protocols;
    Ok(Arc::new(config))
}
