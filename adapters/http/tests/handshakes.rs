//! W01 of `docs/fault-catalogue.md` below HTTP: handshakes of TLS that do not end are bounded, and cost others nothing.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

mod bench;

use std::{sync::Arc, time::Duration};

use bench::{Bench, Client, settings, start_with};
use tidegate_adapter_api::Gate;
use tidegate_adapter_http::{Encrypted, HttpSettings};
use tidegate_tls::{
    Authority, ClientSetup, Clients, Identity, Purpose, ServerSetup, ServerTls, Trust, Validity,
    client_config,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream, rustls::pki_types::ServerName};

/// Handshakes at once: half of them from one address.
const HANDSHAKES: usize = 4;

/// An adapter that speaks TLS alone, and a client's side of it.
async fn encrypted(header_deadline: Duration) -> (Bench, TlsConnector) {
    // 2026-01-01, for as long as the tests are used.
    let validity = Validity { now: 1_767_225_600, days: 36_500 };
    let (authority, own) = Authority::create("plant", validity).unwrap();
    let purpose = Purpose::Server(vec!["localhost".to_owned()]);
    let issued = authority.issue("server", &purpose, validity).unwrap();
    let identity = Identity::from_pem(issued.certificate.as_bytes(), issued.key.as_bytes());
    let protocols = vec![b"http/1.1".to_vec()];
    let setup = ServerSetup {
        identity: identity.unwrap(),
        others: Vec::new(),
        clients: Clients::Anyone,
        protocols: protocols.clone(),
    };
    let trust = Trust::from_pem(own.certificate.as_bytes()).unwrap();
    let client = client_config(ClientSetup { trust, identity: None, protocols }).unwrap();
    let encrypted = Encrypted {
        listen: settings().listen,
        tls: Arc::new(ServerTls::new(setup).unwrap()),
        gate: Gate::always_open(),
    };
    let settings = HttpSettings {
        listen: Vec::new(),
        encrypted: Some(encrypted),
        handshakes_max: HANDSHAKES,
        header_deadline,
        ..settings()
    };
    (start_with(settings, true).await, TlsConnector::from(client))
}

/// Opens connections from one address, and returns those that were not closed at once, of which there must be `kept`.
async fn silent_from(bench: &Bench, last: u8, count: usize, kept: usize) -> Vec<Client> {
    let refused_before = bench.handles.count("http_connections", "over-handshakes");
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(bench.connect_from([127, 0, 0, last].into()).await);
    }
    let refused = (count - kept) as u64;
    let all = async {
        while bench.handles.count("http_connections", "over-handshakes") < refused_before + refused
            || clients.iter_mut().map(Client::has_ended).filter(|ended| !ended).count() > kept
        {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(bench::PATIENCE, all).await.unwrap();
    clients.retain_mut(|client| !client.has_ended());
    assert_eq!(clients.len(), kept);
    clients
}

/// Carries out a handshake and asks for something.
async fn ask(connector: &TlsConnector, client: Client) -> TlsStream<TcpStream> {
    let name = ServerName::try_from("localhost").unwrap();
    let handshake = connector.connect(name, client.into_stream());
    let mut stream = timeout(bench::PATIENCE, handshake).await.unwrap().unwrap();
    stream.write_all(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    timeout(bench::PATIENCE, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    stream
}

/// identity.1: handshakes are bounded, in all and for each address; who has finished one holds no place.
#[tokio::test]
async fn identity_1_handshakes_that_do_not_end_are_bounded() {
    let (bench, connector) = encrypted(Duration::from_secs(20)).await;
    let first = silent_from(&bench, 1, 3, HANDSHAKES / 2).await;
    let second = silent_from(&bench, 2, 4, HANDSHAKES / 2).await;
    silent_from(&bench, 3, 1, 0).await;
    assert_eq!(bench.handles.count("http_connections", "over-handshakes"), 4);

    drop(first);
    let mut served = Vec::new();
    for _ in 0..2 * HANDSHAKES {
        // The places of those who have left are given back in a moment.
        let attempt = async {
            loop {
                let mut client = bench.connect_from([127, 0, 0, 1].into()).await;
                sleep(Duration::from_millis(10)).await;
                if !client.has_ended() {
                    return client;
                }
            }
        };
        let client = timeout(bench::PATIENCE, attempt).await.unwrap();
        served.push(ask(&connector, client).await);
    }
    drop((second, served));
    bench.stop().await;
}

/// identity.1: a handshake has the deadline of a head, and its place is then another's.
#[tokio::test]
async fn identity_1_a_handshake_has_a_deadline() {
    let (bench, connector) = encrypted(Duration::from_millis(300)).await;
    let mut silent = silent_from(&bench, 1, 2, HANDSHAKES / 2).await;
    for client in &mut silent {
        assert!(client.is_closed().await);
    }
    assert_eq!(bench.handles.count("http_connections", "handshake-failed"), 2);
    let client = bench.connect_from([127, 0, 0, 1].into()).await;
    drop(ask(&connector, client).await);
    bench.stop().await;
}
