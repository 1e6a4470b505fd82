//! The side that is connected to: a configuration for handshakes, replaced as a whole.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};

use crate::by_name::ByName;
use crate::{Identity, InUse, Prepared, TlsError, Trust, provider};

/// What is asked of clients.
#[derive(Clone, Debug)]
pub enum Clients {
    /// No certificate.
    Anyone,
    /// A certificate, if they have one; one that does not stand up ends the handshake.
    Asked(Trust),
    /// A certificate that stands up.
    Certified(Trust),
}

/// What a server needs for its handshakes.
#[derive(Clone, Debug)]
pub struct ServerSetup {
    /// What it shows to clients that ask for no name, or for one that stands in none of the others.
    pub identity: Identity,
    /// What it shows to clients that ask for a host name that stands in one of them (SNI). Several with the same
    /// name are for clients with different signatures: the first that a client knows is shown.
    pub others: Vec<Identity>,
    /// What it asks for.
    pub clients: Clients,
    /// The application protocols it speaks, the preferred first; none for MQTT over TCP.
    pub protocols: Vec<Vec<u8>>,
}

/// The handshakes of a server.
pub type ServerTls = InUse<ServerConfig>;

/// A setup of a server that will do.
pub type ServerPrepared = Prepared<ServerConfig>;

impl ServerPrepared {
    /// Checks a setup.
    ///
    /// # Errors
    ///
    /// [`TlsError::Authority`] or [`TlsError::RevocationList`] if clients cannot be verified with it.
    pub fn new(setup: ServerSetup) -> Result<Self, TlsError> {
        server_config(setup).map(Self)
    }
}

impl ServerTls {
    /// Takes what is needed.
    ///
    /// # Errors
    ///
    /// As [`ServerPrepared::new`].
    pub fn new(setup: ServerSetup) -> Result<Self, TlsError> {
        server_config(setup).map(Self::with)
    }
}

fn server_config(setup: ServerSetup) -> Result<Arc<ServerConfig>, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("ring has the cipher suites of both versions");
    let builder = match &setup.clients {
        Clients::Anyone => builder.with_no_client_auth(),
        Clients::Asked(trust) => builder.with_client_cert_verifier(verifier(trust, true)?),
        Clients::Certified(trust) => builder.with_client_cert_verifier(verifier(trust, false)?),
    };
    let shown = Arc::new(ByName::new([&setup.identity].into_iter().chain(&setup.others)));
    let mut config = builder.with_cert_resolver(shown);
    if !matches!(setup.clients, Clients::Anyone) {
        // A session that is taken up again is not verified again: a certificate could outlive its end.
        config.session_storage = Arc::new(NoServerSessionStorage {});
    }
    config.alpn_protocols = setup.protocols;
    Ok(Arc::new(config))
}

fn verifier(trust: &Trust, is_optional: bool) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut builder =
        WebPkiClientVerifier::builder_with_provider(Arc::clone(&trust.roots), provider());
    if !trust.revoked.is_empty() {
        // An authority that publishes no list must not lock everybody out.
        builder = builder.with_crls(trust.revoked.clone()).allow_unknown_revocation_status();
    }
    if is_optional {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map_err(|error| match error {
        rustls::server::VerifierBuilderError::InvalidCrl(error) => {
            TlsError::RevocationList(format!("{error:?}"))
        }
        other => TlsError::Authority(other.to_string()),
    })
}
