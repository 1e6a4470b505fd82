//! An adapter with its gateway, and a client that speaks HTTP by hand.

#![allow(dead_code, reason = "each test file uses its part")]

use std::{io, net::IpAddr, sync::Arc, time::Duration};

use tidegate_adapter_api::{
    Adapter, PathPoint, Point, PointAddress, PointId,
    test_kit::{Handles, TestGateway},
};
use tidegate_adapter_http::{HttpAdapter, HttpSettings};
use tidegate_model::{AdapterName, Each, PathPattern};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    task::JoinHandle,
    time::timeout,
};

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// The points of the tests: one with members, one without.
pub(crate) fn points() -> Vec<Point> {
    let point = |id, pattern: &str, each| {
        let pattern = PathPattern::parse(pattern).unwrap();
        let address = PathPoint { pattern, payload: None, text_type: None, each, unit: None };
        Point { id: PointId(id), address: PointAddress::Http(address) }
    };
    vec![point(0, "/ingest/{device}", Some(Each::Member)), point(1, "/plain", None)]
}

/// Settings for a port of the system's choice, and small bodies.
pub(crate) fn settings() -> HttpSettings {
    let listen = vec!["127.0.0.1:0".parse().unwrap()];
    HttpSettings { body_bytes_max: 1_000, ..HttpSettings::listening_on(listen) }
}

/// An adapter that is bound, not started.
pub(crate) fn adapter(settings: HttpSettings) -> HttpAdapter {
    HttpAdapter::bind(AdapterName::new("http").unwrap(), settings).unwrap()
}

/// An adapter in the background.
pub(crate) struct Bench {
    /// What stands behind it.
    pub(crate) gateway: Arc<TestGateway>,
    /// The test's ends of its context.
    pub(crate) handles: Handles,
    /// Its task.
    pub(crate) run: JoinHandle<()>,
    address: std::net::SocketAddr,
}

/// Starts an adapter that takes anonymous clients.
pub(crate) async fn start() -> Bench {
    start_with(settings(), true).await
}

/// Starts an adapter.
pub(crate) async fn start_with(settings: HttpSettings, anonymous: bool) -> Bench {
    let mut adapter = adapter(settings);
    let address = adapter.local_addrs()[0];
    let gateway = TestGateway::new();
    let (mut context, handles) = gateway.context(adapter.name(), points(), anonymous);
    #[expect(clippy::disallowed_methods, reason = "a test supervises itself")]
    let run = tokio::spawn(async move { adapter.run(&mut context).await.unwrap() });
    Bench { gateway, handles, run, address }
}

impl Bench {
    /// Opens a connection.
    pub(crate) async fn connect(&self) -> Client {
        Client { stream: TcpStream::connect(self.address).await.unwrap(), input: Vec::new() }
    }

    /// Opens a connection from an address of this machine.
    pub(crate) async fn connect_from(&self, address: IpAddr) -> Client {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((address, 0).into()).unwrap();
        Client { stream: socket.connect(self.address).await.unwrap(), input: Vec::new() }
    }

    /// Stops the adapter, which must end in time.
    pub(crate) async fn stop(self) {
        self.handles.shutdown.cancel();
        timeout(Duration::from_secs(1), self.run).await.unwrap().unwrap();
    }
}

/// One connection.
pub(crate) struct Client {
    stream: TcpStream,
    input: Vec<u8>,
}

/// One answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status code.
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    /// The body.
    pub(crate) body: String,
}

impl Answer {
    /// The value of a header, named in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl Client {
    /// Gives the socket to somebody who speaks something else over it.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// Sends text as it is.
    pub(crate) async fn send(&mut self, text: &str) {
        // A peer that has closed is seen when its answer is read.
        let _ = self.stream.write_all(text.as_bytes()).await;
    }

    /// Sends a request with one more header line.
    pub(crate) async fn request(&mut self, method: &str, path: &str, header: &str, body: &str) {
        let header = if header.is_empty() { String::new() } else { format!("{header}\r\n") };
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\n{header}Content-Length: {length}\r\n\r\n{body}"
        );
        self.send(&request).await;
        if method == "HEAD" {
            // No body follows, whatever the length says.
            self.input.clear();
        }
    }

    /// Sends a request and returns the answer.
    pub(crate) async fn ask(
        &mut self,
        method: &str,
        path: &str,
        header: &str,
        body: &str,
    ) -> Answer {
        self.request(method, path, header, body).await;
        self.read_answer(method != "HEAD").await
    }

    /// Returns the next answer.
    pub(crate) async fn answer(&mut self) -> Answer {
        self.read_answer(true).await
    }

    async fn read_answer(&mut self, with_body: bool) -> Answer {
        let end = loop {
            if let Some(at) = self.input.windows(4).position(|four| four == b"\r\n\r\n") {
                break at;
            }
            assert!(self.read_some().await > 0, "closed: {}", String::from_utf8_lossy(&self.input));
        };
        let head = String::from_utf8(self.input[..end].to_vec()).unwrap();
        self.input.drain(..end + 4);
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<(String, String)> = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let mut answer = Answer { status, headers, body: String::new() };
        if with_body {
            let length: usize =
                answer.header("content-length").map_or(0, |length| length.parse().unwrap());
            while self.input.len() < length {
                assert!(self.read_some().await > 0, "closed within a body");
            }
            let body = self.input.drain(..length).collect();
            answer.body = String::from_utf8(body).unwrap();
        }
        answer
    }

    async fn read_some(&mut self) -> usize {
        let mut buffer = [0; 4_096];
        let read = timeout(PATIENCE, self.stream.read(&mut buffer)).await;
        let count = read.expect("an answer in time").unwrap_or(0);
        self.input.extend_from_slice(&buffer[..count]);
        count
    }

    /// Whether nothing comes for a tenth of a second.
    pub(crate) async fn is_silent(&mut self) -> bool {
        timeout(Duration::from_millis(100), self.stream.readable()).await.is_err()
    }

    /// Whether the peer closes the connection, having nothing more to say.
    pub(crate) async fn is_closed(&mut self) -> bool {
        let mut buffer = [0; 1];
        match timeout(PATIENCE, self.stream.read(&mut buffer)).await {
            Ok(Ok(count)) => count == 0,
            Ok(Err(_)) => true,
            Err(_) => false,
        }
    }

    /// Whether the peer has closed the connection by now.
    pub(crate) fn has_ended(&mut self) -> bool {
        match self.stream.try_read(&mut [0; 1]) {
            Ok(count) => count == 0,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }
}
