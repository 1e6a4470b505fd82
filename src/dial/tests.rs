//! Proxies and far sides that answer oddly, over real sockets.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;

/// Dials through a proxy that says `answer` to whatever it is asked; returns what it was asked, and what came of it.
async fn dial_through(kind: ProxyKind, answer: &[u8]) -> (Vec<u8>, Result<Vec<u8>, DialError>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let login = Some(("gw".to_owned(), "s3cret".to_owned()));
    let proxy = Proxy { kind, host: "127.0.0.1".into(), port, login };
    let way = Way { proxy: Some(Arc::new(proxy)), interface: None };
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = vec![0; 1_024];
        let length = stream.read(&mut asked).await.unwrap();
        asked.truncate(length);
        stream.write_all(answer).await.unwrap();
        let _ = stream.shutdown().await;
        asked
    };
    let dialled = async {
        let mut stream = dial("far.example", 8_883, &way, None).await?;
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).await.expect("it ends in order");
        Ok(heard)
    };
    tokio::join!(serve, dialled)
}

/// uplink.32: what an HTTP proxy is asked, and what its answers mean; bytes behind the answer belong to the far side.
#[tokio::test]
async fn http_proxies_are_asked_and_understood() {
    let (asked, heard) =
        dial_through(ProxyKind::Http, b"HTTP/1.1 200 Connection established\r\n\r\nhello").await;
    let asked = String::from_utf8(asked).unwrap().to_ascii_lowercase();
    assert!(asked.starts_with("connect far.example:8883 http/1.1\r\n"), "{asked}");
    assert!(asked.contains("proxy-authorization: basic z3c6cznjcmv0\r\n"), "{asked}");
    assert_eq!(heard.unwrap(), b"hello");
    #[rustfmt::skip]
    let cases: [(&[u8], &str, bool); 5] = [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "407",               true),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n",                   "502",               false),
        (b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n",          "302",               false),
        (b"SSH-2.0-x\r\n",                                      "the proxy does not", false),
        (b"",                                                   "the proxy does not", false),
    ];
    for (answer, expected, is_lasting) in cases {
        let error = dial_through(ProxyKind::Http, answer).await.1.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(error.is_lasting(), is_lasting, "{error}");
    }
}

/// uplink.32: the same of a SOCKS proxy.
#[tokio::test]
async fn socks_proxies_are_understood() {
    #[rustfmt::skip]
    let cases: [(&[u8], &str, bool); 4] = [
        (b"\x05\xff",         "the proxy does not know us", true),
        (b"\x05\x02\x01\x01", "the proxy does not know us", true),
        (b"HTTP/1.1 400\r\n", "the proxy does not connect", false),
        (b"",                 "the proxy does not connect", false),
    ];
    for (answer, expected, is_lasting) in cases {
        let (asked, heard) = dial_through(ProxyKind::Socks5, answer).await;
        assert_eq!(asked[0], 5);
        let error = heard.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(error.is_lasting(), is_lasting, "{error}");
    }
}

#[tokio::test]
async fn who_is_not_there_is_named() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let refused = dial("127.0.0.1", port, &Way::default(), None).await;
    let Err(error) = refused else { panic!("somebody is there") };
    assert!(
        error.to_string().starts_with(&format!("cannot connect to 127.0.0.1:{port}: ")),
        "{error}"
    );
    let way = Way { proxy: None, interface: Some("tg-absent0".into()) };
    let Err(error) = dial("127.0.0.1", port, &way, None).await else { panic!("no such interface") };
    assert!(error.to_string().contains("tg-absent0") && !error.is_lasting(), "{error}");
}

#[test]
fn addresses_are_written_as_urls_have_them() {
    for (host, expected) in
        [("a.example", "a.example:1"), ("192.0.2.1", "192.0.2.1:1"), ("::1", "[::1]:1")]
    {
        assert_eq!(authority(host, 1), expected);
    }
}

/// uplink.22: what speaks for a far side that has moved, and what says nothing of that.
#[test]
fn some_failures_speak_for_another_place() {
    use io::ErrorKind as Kind;
    use rustls::{CertificateError as Fault, Error};
    let connect = |kind: Kind| DialError::Connect { to: "b:1".into(), source: kind.into() };
    let tls = |error: Error| DialError::Tls(io::Error::new(Kind::InvalidData, error));
    let lookup = DialError::Lookup { host: "b".into(), source: Kind::NotFound.into() };
    #[rustfmt::skip]
    let cases = [
        (connect(Kind::ConnectionRefused),                               true),
        (connect(Kind::TimedOut),                                        false),
        (connect(Kind::NetworkUnreachable),                              false),
        (connect(Kind::HostUnreachable),                                 false),
        (lookup,                                                         true),
        (DialError::Name("b d".into()),                                  true),
        (tls(Error::InvalidCertificate(Fault::NotValidForName)),         true),
        (tls(Error::InvalidCertificate(Fault::Expired)),                 false),
        (DialError::Tls(Kind::UnexpectedEof.into()),                     false),
        (DialError::Proxy("it answers 502".into()),                      false),
        (DialError::ProxyLogin("it answers 407".into()),                 false),
    ];
    for (error, expected) in cases {
        assert_eq!(error.is_about_place(), expected, "{error:?}");
    }
}
