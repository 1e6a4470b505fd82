//! One fetch of a key set: a request over a connection of its own, bounded in time and size.

use std::{pin::pin, sync::Arc, time::Duration};

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Request, StatusCode, body::Bytes, header};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use thiserror::Error;
use tidegate_tls::{ClientSetup, TlsError, Trust, client_config};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};

use super::{KeyAddress, KeySet, KeysError};
use crate::dial::{DialError, Way, dial};

/// Longest key set, in bytes.
const KEYS_BYTES_MAX: usize = 256 << 10;
/// From the look-up of the name to the last byte.
const DEADLINE: Duration = Duration::from_secs(10);

/// Why keys could not be fetched.
#[derive(Debug, Error)]
pub(super) enum FetchError {
    /// The server cannot be reached, or is not who it should be.
    #[error("cannot connect")]
    Connect(#[from] DialError),
    /// The authorities that should vouch for the server cannot be used.
    #[error("the server cannot be verified")]
    Trust(#[source] TlsError),
    /// The server does not speak HTTP, or breaks off.
    #[error("the server does not answer as it should")]
    Http(#[source] hyper::Error),
    /// The body is too long or breaks off.
    #[error("the answer is longer than 256 KiB or breaks off")]
    Body,
    /// The server has something else. Nothing is followed elsewhere.
    #[error("the server answers {0}")]
    Status(StatusCode),
    /// The answer has no keys.
    #[error("the answer cannot be used")]
    Keys(#[from] KeysError),
    /// It took too long.
    #[error("the server does not answer within 10 s")]
    TimedOut,
}

/// Fetches the keys at an address.
pub(super) async fn fetch(address: &KeyAddress) -> Result<KeySet, FetchError> {
    timeout(DEADLINE, connect_and_ask(address)).await.unwrap_or(Err(FetchError::TimedOut))
}

async fn connect_and_ask(address: &KeyAddress) -> Result<KeySet, FetchError> {
    let tls = if address.is_encrypted { Some(tls(address)?) } else { None };
    let stream = dial(&address.host, address.port, &Way::default(), tls).await?;
    let body = ask(address, stream).await?;
    let text = std::str::from_utf8(&body).map_err(|_| KeysError::Form)?;
    Ok(KeySet::parse(text)?)
}

fn tls(address: &KeyAddress) -> Result<Arc<ClientConfig>, FetchError> {
    let trust = match &address.ca {
        Some(pem) => Trust::from_pem(pem.as_bytes()),
        None => Trust::of_system(rustls_native_certs::load_native_certs().certs),
    };
    let protocols = vec![b"http/1.1".to_vec()];
    let setup = ClientSetup { trust: trust.map_err(FetchError::Trust)?, identity: None, protocols };
    client_config(setup).map_err(FetchError::Trust)
}

/// Sends one request and returns the body of its answer.
async fn ask<S>(address: &KeyAddress, stream: S) -> Result<Bytes, FetchError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let io = TokioIo::new(stream);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(io).await.map_err(FetchError::Http)?;
    let request = Request::get(&address.path)
        .header(header::HOST, address.authority())
        .header(header::ACCEPT, "application/jwk-set+json, application/json")
        .header(header::USER_AGENT, concat!("tidegate/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .expect("the configuration has checked the path and the host");
    let answer = async {
        let response = sender.send_request(request).await.map_err(FetchError::Http)?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status()));
        }
        let body = Limited::new(response.into_body(), KEYS_BYTES_MAX).collect().await;
        Ok(body.map_err(|_| FetchError::Body)?.to_bytes())
    };
    let (mut answer, mut connection) = (pin!(answer), pin!(connection));
    let mut is_open = true;
    loop {
        tokio::select! {
            biased;
            result = &mut answer => return result,
            // What has arrived is still to be read when the connection has ended.
            _ = &mut connection, if is_open => is_open = false,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    const KEYS: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

    /// Fetches from a server that answers with `answer`, whatever it is asked.
    async fn fetch_from(answer: String) -> Result<KeySet, FetchError> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = KeyAddress {
            is_encrypted: false,
            host: "127.0.0.1".into(),
            port: listener.local_addr().unwrap().port(),
            path: "/keys?a=b".into(),
            refresh: Duration::from_secs(600),
            ca: None,
        };
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 1_024];
            let length = stream.read(&mut request).await.unwrap();
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            assert!(request.starts_with("GET /keys?a=b HTTP/1.1\r\n"), "{request}");
            assert!(request.contains(&format!("host: {}\r\n", address.authority())), "{request}");
            // The client may have heard enough before the end.
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        };
        tokio::join!(fetch(&address), serve).0
    }

    fn with_length(status: &str, body: &str) -> String {
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    /// identity.3: an answer is taken if it is whole, short enough, and has keys; nothing leads elsewhere.
    #[tokio::test]
    async fn answers_are_taken_or_refused() {
        let until_the_end = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{KEYS}");
        for whole in [with_length("200 OK", KEYS), until_the_end] {
            assert_eq!(fetch_from(whole).await.unwrap().len(), 1);
        }
        let broken = with_length("200 OK", KEYS).replace("Length: ", "Length: 1");
        let elsewhere = "HTTP/1.1 302 Found\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n";
        let large = with_length("200 OK", &" ".repeat(KEYS_BYTES_MAX + 1));
        let endless = format!("HTTP/1.1 200 OK\r\n\r\n{}", " ".repeat(KEYS_BYTES_MAX + 1));
        for (answer, expected) in [
            (broken, "breaks off"),
            (elsewhere.into(), "302"),
            (with_length("503 Service Unavailable", ""), "503"),
            (large, "256 KiB"),
            (endless, "256 KiB"),
            (with_length("200 OK", "{}"), "cannot be used"),
            (with_length("200 OK", "\u{1}"), "cannot be used"),
            ("SSH-2.0-x\r\n".into(), "does not answer as it should"),
            (String::new(), "does not answer as it should"),
        ] {
            let error = fetch_from(answer.clone()).await.unwrap_err().to_string();
            assert!(error.contains(expected), "{answer:?}: {error}");
        }
    }
}
