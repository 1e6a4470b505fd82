//! A tunnel through a SOCKS 5 proxy (RFC 1928).

use tokio::net::TcpStream;
use tokio_socks::{Error, tcp::Socks5Stream};

use super::{DialError, Proxy, Stream};

/// Has the proxy connect to a host; it looks the name up.
pub(super) async fn connect(
    proxy: &Proxy,
    stream: TcpStream,
    host: &str,
    port: u16,
) -> Result<impl Stream + use<>, DialError> {
    let connected = match &proxy.login {
        None => Socks5Stream::connect_with_socket(stream, (host, port)).await,
        Some((name, password)) => {
            let target = (host, port);
            Socks5Stream::connect_with_password_and_socket(stream, target, name, password).await
        }
    };
    connected.map_err(|error| match error {
        Error::PasswordAuthFailure(_)
        | Error::AuthorizationRequired
        | Error::NoAcceptableAuthMethods
        | Error::InvalidAuthValues(_) => DialError::ProxyLogin(error.to_string()),
        other => DialError::Proxy(other.to_string()),
    })
}
