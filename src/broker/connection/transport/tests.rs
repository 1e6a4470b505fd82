use std::{io::Read as _, net, thread, time::Duration};

use rustls::{ClientConnection, StreamOwned, pki_types::ServerName};
use tidegate_tls::{
    Authority, ClientSetup, Clients, Identity, Purpose, ServerSetup, Trust, Validity, client_config,
};
use tokio::{net::TcpListener, time::timeout};
use tungstenite::{client::IntoClientRequest as _, http::HeaderValue};

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);
/// The bytes of one message, whose tail is what gets stuck.
const MESSAGE_BYTES: usize = 8 << 10;

/// A server's wrapping with TLS and frames, and a client's configuration for it.
fn wrapping() -> (Wrapping, Arc<rustls::ClientConfig>) {
    let validity = Validity { now: 1_700_000_000, days: 20_000 };
    let (authority, own) = Authority::create("plant", validity).unwrap();
    let server = authority.issue("gw", &Purpose::Server(vec!["localhost".into()]), validity);
    let server = server.unwrap();
    let setup = ServerSetup {
        identity: Identity::from_pem(server.certificate.as_bytes(), server.key.as_bytes()).unwrap(),
        others: Vec::new(),
        clients: Clients::Anyone,
        protocols: Vec::new(),
    };
    let websocket = WebSocketSettings {
        path: "/mqtt".into(),
        origins: Vec::new(),
        first_message_bytes_max: 1 << 20,
        message_bytes_max: 1 << 20,
    };
    let wrapping = Wrapping {
        tls: Some(Arc::new(ServerTls::new(setup).unwrap())),
        websocket: Some(Arc::new(websocket)),
    };
    let trust = Trust::from_pem(own.certificate.as_bytes()).unwrap();
    let setup = ClientSetup { trust, identity: None, protocols: Vec::new() };
    (wrapping, client_config(setup).unwrap())
}

/// What a client left behind by not reading goes out when it reads again, though nothing new is to be written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_left_behind_goes_out_without_anything_new() {
    let (wrapping, config) = wrapping();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let client = thread::spawn(move || {
        let stream = net::TcpStream::connect(address).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let session = ClientConnection::new(config, name).unwrap();
        let mut request = "wss://localhost/mqtt".into_client_request().unwrap();
        let subprotocol = HeaderValue::from_static("mqtt");
        request.headers_mut().insert("Sec-WebSocket-Protocol", subprotocol);
        let stream = StreamOwned::new(session, stream);
        let (socket, _) = tungstenite::client(request, stream).unwrap();
        wait.recv().unwrap();
        let mut stream = socket.get_ref().sock.try_clone().unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        rest.len()
    });
    let (stream, _) = listener.accept().await.unwrap();
    let mut transport = Transport::new(stream).open(&wrapping).await.unwrap();
    transport.trust();
    let mut output = Output::with_limit(1 << 20);
    // As much as goes, until the tail of a message has been taken and cannot leave.
    let mut written = 0;
    while transport.is_flushed() {
        output.put_shared(&Bytes::from(vec![0; MESSAGE_BYTES]));
        transport.write(&mut output).unwrap();
        written += MESSAGE_BYTES;
        assert!(written < 64 << 20, "the buffers of a loopback socket have an end");
    }
    while !output.is_empty() {
        // The tail alone is what is to be looked at.
        let bytes = take_frame(&mut output);
        written -= bytes.len();
    }
    go.send(()).unwrap();
    let leaving = async {
        while !transport.is_flushed() {
            transport.ready(false, false).await.unwrap();
            transport.write(&mut output).unwrap();
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, leaving).await.expect("all of it goes out");
    drop(transport);
    assert!(client.join().unwrap() >= written);
}
