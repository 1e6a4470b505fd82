//! Connections that the gateway opens: names, addresses, a proxy, TLS.

mod http_proxy;
mod socks;
mod tcp;

#[cfg(test)]
mod tests;

use std::{fmt, io, net::IpAddr, sync::Arc};

use rustls::{ClientConfig, pki_types::ServerName};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

/// How far sides are reached, beside who they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Way {
    /// Through whom.
    pub proxy: Option<Arc<Proxy>>,
    /// The network interface that everything leaves by, such as `wwan0`.
    pub interface: Option<Arc<str>>,
}

/// Somebody who connects on the gateway's behalf, and looks the names up.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// What it speaks.
    pub kind: ProxyKind,
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// User name and password, if it wants them.
    pub login: Option<(String, String)>,
}

/// What a proxy speaks. Complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyKind {
    /// HTTP/1.1 with the method CONNECT (RFC 9110, section 9.3.6).
    Http,
    /// SOCKS 5 (RFC 1928), with user name and password (RFC 1929).
    Socks5,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Proxy")
            .field("kind", &self.kind)
            .field("host", &self.host)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

/// Why there is no connection.
#[derive(Debug, Error)]
pub enum DialError {
    /// Nobody answers there.
    #[error("cannot connect to {to}: {source}")]
    Connect {
        /// Host and port, of the far side or of the proxy.
        to: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The name is not known.
    #[error("cannot find {host}: {source}")]
    Lookup {
        /// The far side, or the proxy.
        host: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The interface does not exist, or may not be chosen.
    #[error("cannot use the interface {name}: {source}")]
    Interface {
        /// Its name.
        name: Arc<str>,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The proxy does not connect us.
    #[error("the proxy does not connect: {0}")]
    Proxy(String),
    /// The proxy wants to know who asks, or does not believe it.
    #[error("the proxy does not know us: {0}")]
    ProxyLogin(String),
    /// The far side is not who it should be, or does not believe who we are.
    #[error("TLS: {0}")]
    Tls(#[source] io::Error),
    /// The host cannot stand in a certificate.
    #[error("`{0}` cannot be verified by a certificate")]
    Name(String),
}

impl DialError {
    /// Returns whether somebody has to step in before it can work.
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::ProxyLogin(_) | Self::Name(_) => true,
            Self::Tls(error) => is_about_trust(error),
            Self::Connect { .. }
            | Self::Lookup { .. }
            | Self::Interface { .. }
            | Self::Proxy(_) => false,
        }
    }

    /// Returns whether a far side that is not behind a proxy has probably moved: its name is not known, nobody listens
    /// there, or somebody else does.
    pub fn is_about_place(&self) -> bool {
        match self {
            Self::Lookup { .. } | Self::Name(_) => true,
            Self::Connect { source, .. } => source.kind() == io::ErrorKind::ConnectionRefused,
            Self::Tls(error) => is_about_name(error),
            Self::Interface { .. } | Self::Proxy(_) | Self::ProxyLogin(_) => false,
        }
    }
}

/// Returns whether a handshake failed because the far side does not believe who we are.
///
/// That we do not believe the far side may pass by itself: somebody else is in the way, such as the page of a hotel's
/// network, or a clock is about to be set.
pub(crate) fn is_about_trust(error: &io::Error) -> bool {
    use rustls::{AlertDescription as Alert, Error};
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    matches!(
        inner,
        Some(Error::AlertReceived(
            Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::UnknownCA
                | Alert::AccessDenied
                | Alert::CertificateRequired
        ))
    )
}

/// Returns whether a handshake failed because the certificate of the far side is for another name.
fn is_about_name(error: &io::Error) -> bool {
    use rustls::{CertificateError, Error};
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    matches!(
        inner,
        Some(Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
        ))
    )
}

/// A connection, whatever lies below.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Connects to a host, through the proxy if there is one, and encrypts if `tls` is given.
///
/// Every address of a name is tried in turn. The caller bounds the time; dropping the future gives everything up.
///
/// # Errors
///
/// [`DialError`].
pub async fn dial(
    host: &str,
    port: u16,
    way: &Way,
    tls: Option<Arc<ClientConfig>>,
) -> Result<Box<dyn Stream>, DialError> {
    let interface = way.interface.as_ref();
    let stream: Box<dyn Stream> = match way.proxy.as_deref() {
        None => Box::new(tcp::connect(host, port, interface).await?),
        Some(proxy) => {
            let stream = tcp::connect(&proxy.host, proxy.port, interface).await?;
            match proxy.kind {
                ProxyKind::Http => Box::new(http_proxy::connect(proxy, stream, host, port).await?),
                ProxyKind::Socks5 => Box::new(socks::connect(proxy, stream, host, port).await?),
            }
        }
    };
    let Some(config) = tls else { return Ok(stream) };
    let name =
        ServerName::try_from(host.to_owned()).map_err(|_| DialError::Name(host.to_owned()))?;
    let encrypted = TlsConnector::from(config).connect(name, stream).await;
    Ok(Box::new(encrypted.map_err(DialError::Tls)?))
}

/// Writes host and port as a URL has them (RFC 3986, section 3.2.2).
pub fn authority(host: &str, port: u16) -> String {
    match host.parse() {
        Ok(IpAddr::V6(address)) => format!("[{address}]:{port}"),
        _ => format!("{host}:{port}"),
    }
}
