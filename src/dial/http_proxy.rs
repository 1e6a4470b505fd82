//! A tunnel through an HTTP proxy (RFC 9110, section 9.3.6).

use data_encoding::BASE64;
use http_body_util::Empty;
use hyper::{Request, StatusCode, body::Bytes, client::conn::http1, header, upgrade};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{DialError, Proxy, Stream, authority};

/// Has the proxy connect to a host; it looks the name up.
pub(super) async fn connect(
    proxy: &Proxy,
    stream: TcpStream,
    host: &str,
    port: u16,
) -> Result<impl Stream + use<>, DialError> {
    let broken = |error: hyper::Error| DialError::Proxy(error.to_string());
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let to = authority(host, port);
    let mut request = Request::connect(&to).header(header::HOST, &to);
    if let Some((name, password)) = &proxy.login {
        let encoded = BASE64.encode(format!("{name}:{password}").as_bytes());
        request = request.header(header::PROXY_AUTHORIZATION, format!("Basic {encoded}"));
    }
    let request = request
        .body(Empty::<Bytes>::new())
        .map_err(|_| DialError::Proxy(format!("`{to}` is no host with a port")))?;
    let asked = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        // The first is the standard's word for it, the second that of some proxies.
        if matches!(status, StatusCode::PROXY_AUTHENTICATION_REQUIRED | StatusCode::UNAUTHORIZED) {
            return Err(DialError::ProxyLogin(format!("it answers {status}")));
        }
        if !status.is_success() {
            return Err(DialError::Proxy(format!("it answers {status}")));
        }
        upgrade::on(response).await.map_err(broken)
    };
    // The connection hands its socket over when the answer has come, and must be driven until then.
    let driven = async {
        match connection.with_upgrades().await {
            Ok(()) => std::future::pending().await,
            Err(error) => Err(broken(error)),
        }
    };
    tokio::select! {
        biased;
        upgraded = asked => upgraded.map(TokioIo::new),
        failed = driven => failed,
    }
}
