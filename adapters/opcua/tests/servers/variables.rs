//! The server of this crate with the adapter as its client.
//! (That other clients find their way is shown with asyncua; see `docs/decisions/0002-opcua-size.md`.)

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

use std::{collections::BTreeMap, time::Duration};

use tidegate_adapter_api::{
    Adapter as _, CommandReply, CommandRequest, OpcUaPoint, Point, PointAddress, PointId,
    test_kit::{Handles, TestGateway},
};
use tidegate_adapter_opcua::server::{
    Access, ServerError, ServerSettings, Variable, VariableIndex, VariableServer,
};
use tidegate_model::{
    AdapterName, Captures, Command, CommandKind, NodePattern, OutcomeKind, Timestamp, Value,
};
use tokio::{net::TcpListener, time::timeout};

use crate::support::adapter;

const TEMPERATURE: VariableIndex = VariableIndex(0);
const SETPOINT: VariableIndex = VariableIndex(1);
const PATIENCE: Duration = Duration::from_secs(20);

fn variables() -> Vec<Variable> {
    let object = "Press.1".to_owned();
    vec![
        Variable {
            object: object.clone(),
            name: "Temperature".into(),
            value: 20.0,
            access: Access::ReadOnly,
        },
        Variable { object, name: "Setpoint".into(), value: 40.0, access: Access::Writable },
    ]
}

fn point(id: u32, name: &str, server: &AdapterName) -> Point {
    let node = format!("nsu=urn:example:press;s=Press.{{n}}.{name}");
    let address = PointAddress::OpcUa(OpcUaPoint {
        server: server.clone(),
        node: NodePattern::parse(&node).unwrap(),
        sampling: Some(Duration::from_millis(50)),
        deadband: None,
        unit: None,
        writable: true,
        method: None,
    });
    Point { id: PointId(id), address }
}

/// A server, and the adapter that reads from it; `body` plays with both until it is done.
async fn check(body: impl AsyncFnOnce(VariableServer, Gateway)) {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = ServerSettings {
        application_uri: "urn:example:press-server".into(),
        namespace: "urn:example:press".into(),
        pki_directory: folder.path().join("server"),
    };
    let (server, serving) = VariableServer::new(settings, listener, variables()).unwrap();
    let name = AdapterName::new("plc7").unwrap();
    let gateway = TestGateway::new();
    let points = vec![point(1, "Temperature", &name), point(2, "Setpoint", &name)];
    let (mut context, handles) = gateway.context(&name, points, false);
    let mut adapter = adapter(name, &server.endpoint(), folder.path());
    let shutdown = handles.shutdown.clone();
    let stopped = server.clone();
    let play = async {
        body(server, Gateway { gateway, handles, seen: BTreeMap::new() }).await;
        shutdown.cancel();
        stopped.stop();
    };
    let run = async { tokio::join!(serving, adapter.run(&mut context), play) };
    let (served, ran, ()) = timeout(PATIENCE, Box::pin(run)).await.expect("everything ends");
    served.unwrap();
    ran.unwrap();
}

struct Gateway {
    gateway: std::sync::Arc<TestGateway>,
    handles: Handles,
    seen: BTreeMap<u32, Vec<f64>>,
}

impl Gateway {
    /// Waits until so many values of a point have come, and returns them all.
    async fn values(&mut self, point: u32, count: usize) -> Vec<f64> {
        while self.seen.get(&point).map_or(0, Vec::len) < count {
            for reading in self.gateway.next_batch().await.readings {
                let value = reading.reading.value.as_f64().unwrap();
                self.seen.entry(reading.point.0).or_default().push(value);
            }
        }
        self.seen[&point].clone()
    }

    async fn write(&self, point: u32, value: Value) -> OutcomeKind {
        let (reply, outcome) = CommandReply::pair();
        let command = Command {
            id: None,
            kind: CommandKind::Write,
            value,
            expires: Timestamp::from_unix_micros(i64::MAX),
        };
        let captures = Captures::new([Box::from("1")]);
        let request =
            CommandRequest { point: PointId(point), generation: 1, captures, command, reply };
        self.handles.commands.send(request).await.unwrap();
        outcome.await.unwrap().kind
    }
}

#[tokio::test]
async fn every_value_that_is_counted_arrives() {
    check(async |server, mut gateway| {
        // Nobody monitors it yet, so it does not move.
        assert_eq!((server.report(TEMPERATURE, 21.0), server.reported(TEMPERATURE)), (false, 0));
        assert_eq!(gateway.values(1, 1).await, [20.0]);
        let mut expected = vec![20.0];
        for step in 1..=20 {
            let value = 20.0 + f64::from(step) / 10.0;
            assert!(server.report(TEMPERATURE, value));
            assert!(!server.report(TEMPERATURE, value), "the same again is no news");
            expected.push(value);
            // The next is reported when this one has come: two within a sampling interval may become one.
            assert_eq!(gateway.values(1, expected.len()).await, expected);
        }
        assert_eq!(server.reported(TEMPERATURE), 21);
        assert_eq!(server.value(TEMPERATURE).to_bits(), 22.0_f64.to_bits());
        assert!(server.value(VariableIndex(9)).is_nan() && !server.report(VariableIndex(9), 1.0));
    })
    .await;
}

#[tokio::test]
async fn what_a_client_writes_is_seen_by_those_who_monitor() {
    check(async |server, mut gateway| {
        assert_eq!(gateway.values(2, 1).await, [40.0]);
        assert_eq!(gateway.write(2, Value::Double(66.5)).await, OutcomeKind::Confirmed);
        assert_eq!(server.value(SETPOINT).to_bits(), 66.5_f64.to_bits());
        assert_eq!(gateway.values(2, 2).await, [40.0, 66.5]);
        assert_eq!(server.reported(SETPOINT), 2);
        assert_eq!(gateway.write(2, Value::Double(66.5)).await, OutcomeKind::Confirmed);
        assert_eq!(server.reported(SETPOINT), 2, "the same again is no news");
        // Neither a text, nor anything at all on a variable that is read only.
        assert_eq!(gateway.write(2, Value::string("hot")).await, OutcomeKind::Refused);
        assert_eq!(gateway.write(1, Value::Double(1.0)).await, OutcomeKind::Refused);
        assert_eq!(server.value(TEMPERATURE).to_bits(), 20.0_f64.to_bits());
    })
    .await;
}

/// Promise B5: a server without security is for this machine only.
#[tokio::test]
async fn b5_other_machines_are_kept_out() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let settings = ServerSettings {
        application_uri: "urn:example:press-server".into(),
        namespace: "urn:example:press".into(),
        pki_directory: folder.path().into(),
    };
    let made = VariableServer::new(settings, listener, variables());
    assert!(matches!(made.map(drop), Err(ServerError::NotLoopback { .. })));
}
