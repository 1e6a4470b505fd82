//! A server of `tests/support/peers`, and the adapter between it, or another, and a gateway of the test kit.

use std::{
    collections::VecDeque,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value as Json, json};
use tidegate_adapter_api::{
    Adapter as _, CommandReply, CommandRequest, OpcUaPoint, Point, PointAddress, PointId,
    PointReading,
    test_kit::{Handles, TestGateway},
};
use tidegate_adapter_opcua::{
    Endpoint, Limits, OpcUaAdapter, OpcUaSettings, REBROWSE_DEFAULT, Security,
};
use tidegate_model::{
    AdapterName, Captures, Command as Order, CommandId, CommandKind, CommandOutcome, NodePattern,
    Reading, Timestamp, Value, json,
};
use tokio::time::timeout;

/// A test that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server.
pub(crate) struct Server {
    process: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    port: u16,
}

impl Server {
    pub(crate) fn start(port: u16) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../tests/support/peers/asyncua_server.py");
        let mut process = Command::new(python())
            .arg(script)
            .args(["--types", "--port", &port.to_string()])
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python starts");
        let stdin = process.stdin.take().expect("it was asked for");
        let stdout = BufReader::new(process.stdout.take().expect("it was asked for"));
        let mut server = Self { process, stdin, stdout, port };
        let ready = server.line();
        assert_eq!(ready["ready"], true, "{ready}");
        server
    }

    /// Asks the server to do something; the answer does not depend on the adapter.
    #[track_caller]
    pub(crate) fn ask(&mut self, what: &str, arguments: Json) -> Json {
        let mut request = arguments;
        request["id"] = json!(1);
        request["do"] = json!(what);
        writeln!(self.stdin, "{request}").expect("the server reads");
        let mut answer = self.line();
        assert!(answer.get("error").is_none(), "{what}: {answer}");
        answer["ok"].take()
    }

    /// Ends the server at once, and returns its port.
    pub(crate) fn kill(mut self) -> u16 {
        self.end();
        self.port
    }

    fn end(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    #[track_caller]
    fn line(&mut self) -> Json {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("the server writes text");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// Returns the interpreter that `cargo xtask setup` made.
fn python() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let python = set("TIDEGATE_PYTHON")
        .or_else(|| Some(set("HOME")?.join(".cache/tidegate/python/bin/python")))
        .filter(|python| python.is_file());
    python.expect("there is a Python: run `cargo xtask setup`")
}

/// The gateway's side, as a test plays it.
pub(crate) struct Gateway {
    gateway: Arc<TestGateway>,
    handles: Handles,
    waiting: VecDeque<PointReading>,
}

/// Runs a server and the adapter with these nodes and methods; `body` plays with both until it is done.
///
/// The points are numbered from 1; a pair is the object and its method.
pub(crate) async fn check(
    nodes: &[&str],
    methods: &[(&str, &str)],
    body: impl AsyncFnOnce(Server, &mut Gateway),
) {
    let folder = tempfile::tempdir().expect("a folder");
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let server = Server::start(port.expect("a free port").port());
    let name = AdapterName::new("plc7").expect("a name");
    let gateway = TestGateway::new();
    let nodes = nodes.iter().map(|node| (*node, None));
    let methods = methods.iter().map(|(object, method)| (*object, Some(*method)));
    let points =
        nodes.chain(methods).zip(1..).map(|((node, method), id)| point(id, &name, node, method));
    let (mut context, handles) = gateway.context(&name, points.collect(), false);
    let endpoint = format!("opc.tcp://127.0.0.1:{}/", server.port);
    let mut adapter = adapter(name, &endpoint, folder.path());
    let shutdown = handles.shutdown.clone();
    let play = async {
        body(server, &mut Gateway { gateway, handles, waiting: VecDeque::new() }).await;
        shutdown.cancel();
    };
    // As the supervisor does it, but at once: a run that failed is followed by another.
    let run = async { while adapter.run(&mut context).await.is_err() {} };
    let both = async { tokio::join!(run, play) };
    timeout(PATIENCE, Box::pin(both)).await.expect("everything ends");
}

/// Makes the adapter of one server without security.
pub(crate) fn adapter(name: AdapterName, endpoint: &str, folder: &Path) -> OpcUaAdapter {
    OpcUaAdapter::new(OpcUaSettings {
        name,
        endpoint: Endpoint::new(endpoint).expect("a URL"),
        security: Security::None,
        user: None,
        rebrowse: REBROWSE_DEFAULT,
        pki_directory: folder.join("gateway"),
        application_uri: "urn:example:gateway".into(),
        limits: Limits::default(),
    })
}

fn point(id: u32, server: &AdapterName, node: &str, method: Option<&str>) -> Point {
    let pattern = |text: &str| NodePattern::parse(text).expect("a node");
    let address = PointAddress::OpcUa(OpcUaPoint {
        server: server.clone(),
        node: pattern(node),
        sampling: Some(Duration::from_millis(50)),
        deadband: None,
        unit: None,
        writable: false,
        method: method.map(pattern),
    });
    Point { id: PointId(id), address }
}

impl Gateway {
    /// Waits for the next reading of a point; those of others wait.
    pub(crate) async fn reading(&mut self, point: u32) -> Reading {
        loop {
            let place = self.waiting.iter().position(|reading| reading.point == PointId(point));
            if let Some(reading) = place.and_then(|place| self.waiting.remove(place)) {
                return reading.reading;
            }
            self.waiting.extend(self.gateway.next_batch().await.readings);
        }
    }

    /// Returns how many readings of a point have come and were not taken.
    pub(crate) fn waiting(&self, point: u32) -> usize {
        self.waiting.iter().filter(|reading| reading.point == PointId(point)).count()
    }

    /// Calls the method of a point, for the press with number 1.
    pub(crate) async fn call(&self, point: u32, arguments: &str) -> CommandOutcome {
        let (reply, outcome) = CommandReply::pair();
        let command = Order {
            id: Some(CommandId::new("c-18").expect("an id")),
            kind: CommandKind::Call,
            value: json::parse_value(arguments.as_bytes()).expect("JSON"),
            expires: Timestamp::from_unix_micros(i64::MAX),
        };
        let captures = Captures::new([Box::from("1")]);
        let request =
            CommandRequest { point: PointId(point), generation: 1, captures, command, reply };
        self.handles.commands.send(request).await.expect("the adapter runs");
        outcome.await.expect("there is an outcome")
    }

    pub(crate) fn count(&self, name: &str, reason: &str) -> u64 {
        self.handles.count(name, reason)
    }
}

/// Shows a value as JSON.
pub(crate) fn shown(value: &Value) -> String {
    value.to_string()
}
