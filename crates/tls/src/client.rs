//! The side that connects.

use std::sync::Arc;

use parking_lot::RwLock;
use rustls::ClientConfig;
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::sign::SingleCertAndKey;

use crate::{Identity, TlsError, Trust, provider};

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

/// The handshakes of a client. A connection that exists keeps what it was made with.
#[derive(Debug)]
pub struct ClientTls {
    config: RwLock<Arc<ClientConfig>>,
}

/// A setup that will do, for [`ClientTls::set`].
#[derive(Debug)]
pub struct ClientPrepared(Arc<ClientConfig>);

impl ClientPrepared {
    /// Checks a setup.
    ///
    /// # Errors
    ///
    /// As [`ClientTls::new`].
    pub fn new(setup: ClientSetup) -> Result<Self, TlsError> {
        Ok(Self(client_config(setup)?))
    }
}

impl ClientTls {
    /// Takes what is needed.
    ///
    /// # Errors
    ///
    /// [`TlsError::Authority`] or [`TlsError::RevocationList`] if servers cannot be verified with it.
    pub fn new(setup: ClientSetup) -> Result<Self, TlsError> {
        Ok(Self { config: RwLock::new(client_config(setup)?) })
    }

    /// Uses something else from the next handshake on.
    pub fn set(&self, prepared: ClientPrepared) {
        *self.config.write() = prepared.0;
    }

    /// Returns the configuration for one handshake.
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config.read())
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
