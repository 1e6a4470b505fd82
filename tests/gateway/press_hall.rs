//! The main job on `examples/press-hall` as written: every protocol in, decoded at the cloud, commands back (main.20).

use serde_json::{Value, json};

use crate::support::gateway::Gateway;
use crate::support::mosquitto::Mosquitto;
use crate::support::peer::Peer;
use crate::support::programs;
use crate::support::site::{PressHall, Site};

/// The hall: a cloud's broker and its subscriber, an OPC UA server, and the gateway between them.
struct Hall {
    ports: PressHall,
    gateway: Gateway,
    opcua: Peer,
    cloud: Peer,
    /// Last, so that it outlives those who are connected to it.
    _broker: Mosquitto,
}

impl Hall {
    fn open(site: impl FnOnce(&PressHall) -> Site) -> Self {
        let broker = Mosquitto::start();
        let ports = PressHall::with_cloud(broker.port());
        let opcua_port = ports.opcua.to_string();
        let opcua = Peer::start("asyncua_server.py", &["--port", &opcua_port, "--presses", "2"]);
        let broker_port = broker.port().to_string();
        let mut arguments = vec!["--port", &broker_port];
        for topic in ["tidegate/+/bson", "tidegate/+/bson.z", "tidegate/+/result/#"] {
            arguments.extend(["--topic", topic]);
        }
        let cloud = Peer::start("cloud.py", &arguments);
        Self { gateway: Gateway::start(&site(&ports)), ports, opcua, cloud, _broker: broker }
    }

    /// Waits for `count` readings of a topic at the cloud and returns the last.
    fn last_at_cloud(&mut self, topic: &str, count: usize) -> Value {
        self.cloud.ask("wait", json!({"topic": topic, "count": count}));
        let readings = self.cloud.ask("readings", json!({"topic": topic}));
        readings[count - 1].clone()
    }
}

#[track_caller]
fn assert_reading(reading: &Value, kind: &str, value: impl Into<Value>, unit: Option<&str>) {
    let found = (&reading["type"], &reading["value"], &reading["unit"], &reading["status"]);
    assert_eq!(found, (&json!(kind), &value.into(), &json!(unit), &json!(0)), "{reading}");
}

#[test]
fn main_20_every_protocol_reaches_the_cloud() {
    let mut hall = Hall::open(Site::press_hall);
    every_protocol_reaches_the_cloud(&mut hall);
}

#[test]
fn main_20_the_yaml_mapping_does_the_same() {
    let mut hall = Hall::open(Site::press_hall_yaml);
    every_protocol_reaches_the_cloud(&mut hall);
}

fn every_protocol_reaches_the_cloud(hall: &mut Hall) {
    let PressHall { mqtt, coap, http, .. } = hall.ports;

    let mut device = Peer::start("coap_client.py", &[]);
    let boiler = format!("coap://127.0.0.1:{coap}/sensors/boiler/temperature");
    let put = json!({"method": "put", "uri": boiler, "payload": "21.5", "content_format": 0});
    assert_eq!(device.ask("request", put)["code"], "2.04");
    assert_reading(&hall.last_at_cloud("hall1/boiler/temperature", 1), "double", 21.5, Some("Cel"));

    let kitchen = format!("coap://127.0.0.1:{coap}/sensors/kitchen/temperature");
    programs::coap_client(&["-m", "post", "-t", "text/plain", "-e", "4", &kitchen]);
    assert_reading(&hall.last_at_cloud("hall1/kitchen/temperature", 1), "double", 4.0, Some("Cel"));

    let scale = format!("http://127.0.0.1:{http}/ingest/scale7");
    let body = r#"{"weight": 12.5, "stable": true, "parts": 9007199254740993}"#;
    let (status, text) =
        programs::curl(&["--header", "Content-Type: application/json", "--data", body, &scale]);
    assert_eq!(status, 201, "{text}");
    assert_reading(&hall.last_at_cloud("hall1/scale7/weight", 1), "double", 12.5, None);
    assert_reading(&hall.last_at_cloud("hall1/scale7/stable", 1), "boolean", true, None);
    assert_reading(
        &hall.last_at_cloud("hall1/scale7/parts", 1),
        "int64",
        9_007_199_254_740_993_i64,
        None,
    );

    for (version, id) in [(4, "old"), (5, "new")] {
        let mut paho = Peer::start("mqtt_client.py", &[]);
        paho.ask("connect", json!({"host": "127.0.0.1", "port": mqtt, "version": version}));
        let legacy = json!({"topic": format!("legacy/{id}/T"), "payload": "217", "qos": 1});
        paho.ask("publish", legacy);
        let topic = format!("hall1/{id}/temperature");
        assert_reading(&hall.last_at_cloud(&topic, 1), "double", 21.7, Some("Cel"));
    }

    // The values at the start, then one with a source time of its own.
    hall.last_at_cloud("hall1/press-2/temperature", 1);
    let moment = "2026-03-01T12:00:00.123000Z";
    let set = json!({"node": "Press.2.Temperature", "value": 64.5, "source_time": moment});
    hall.opcua.ask("set", set);
    let reading = hall.last_at_cloud("hall1/press-2/temperature", 2);
    assert_reading(&reading, "double", 64.5, Some("Cel"));
    assert_eq!(reading["time"], moment);
    let doubtful = json!({"node": "Press.2.Temperature", "value": 99.0, "status": 0x4000_0000});
    hall.opcua.ask("set", doubtful);
    assert_eq!(hall.last_at_cloud("hall1/press-2/temperature", 3)["status"], 0x4000_0000);

    let report = hall.cloud.ask("report", json!({}));
    assert_eq!(
        (&report["holes"], &report["conflicts"], &report["malformed"]),
        (&json!(0), &json!([]), &json!([]))
    );
    let stopped = hall.gateway.terminate();
    assert!(stopped.success(), "{stopped}");
}

#[test]
fn main_20_a_setpoint_from_the_cloud_reaches_the_node_and_its_outcome_returns() {
    let mut hall = Hall::open(Site::press_hall);
    hall.last_at_cloud("hall1/press-1/temperature", 1);
    let command = json!({"value": 66.5, "id": "c-17"}).to_string();
    let topic = "tidegate/press-hall-1/cmd/hall1/press-1/setpoint";
    hall.cloud.ask("publish", json!({"topic": topic, "payload": command}));
    let others = hall.cloud.ask("wait_others", json!({"count": 1}));
    assert_eq!(others[0]["topic"], "tidegate/press-hall-1/result/hall1/press-1/setpoint");
    let outcome: Value =
        serde_json::from_str(others[0]["payload"].as_str().expect("text")).expect("JSON");
    assert_eq!(
        (&outcome["id"], &outcome["outcome"]),
        (&json!("c-17"), &json!("confirmed")),
        "{outcome}"
    );
    assert_eq!(hall.opcua.ask("read", json!({"node": "Press.1.Setpoint"}))["value"], 66.5);
    let writes = hall.opcua.ask("writes", json!({}));
    assert_eq!(writes.as_array().map(Vec::len), Some(1), "{writes}");
}
