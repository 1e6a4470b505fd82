//! What an OPC UA server gives beside values, through the gateway to the cloud: calls (main.14), stretches
//! without data (D25) and structures (main.12).

use serde_json::{Value, json};

use crate::support::{
    gateway::Gateway,
    mosquitto::Mosquitto,
    peer::Peer,
    site::{PressHall, Site},
    wait,
};

const MAPPING: &str = r#"
[[opcua]]
server = "plc7"
node = "nsu=urn:example:press;s=Press.{n}.Temperature"
topic = "hall1/press-{n}/temperature"
sampling = "100ms"

[[opcua]]
server = "plc7"
node = "nsu=urn:example:press;s=Press.{n}.State"
topic = "hall1/press-{n}/state"

[[opcua]]
server = "plc7"
node = "nsu=urn:example:press;s=Press.{n}"
method = "nsu=urn:example:press;s=Press.{n}.Reset"
topic = "hall1/press-{n}/reset"
"#;

struct Presses {
    gateway: Gateway,
    opcua: Peer,
    cloud: Peer,
    ports: PressHall,
    /// Last, so that it outlives those who are connected to it.
    _broker: Mosquitto,
}

impl Presses {
    fn open() -> Self {
        let broker = Mosquitto::start();
        let ports = PressHall::with_cloud(broker.port());
        let opcua = serve(&ports);
        let broker_port = broker.port().to_string();
        let mut arguments = vec!["--port", &broker_port];
        for topic in ["tidegate/+/bson.z", "tidegate/+/result/#"] {
            arguments.extend(["--topic", topic]);
        }
        let cloud = Peer::start("cloud.py", &arguments);
        let site = Site::press_hall_with(&ports, MAPPING);
        Self { gateway: Gateway::start(&site), opcua, cloud, ports, _broker: broker }
    }

    fn readings(&mut self, topic: &str, count: usize) -> Vec<Value> {
        self.cloud.ask("wait", json!({"topic": topic, "count": count}));
        let readings = self.cloud.ask("readings", json!({"topic": topic}));
        readings.as_array().expect("a list of readings").clone()
    }
}

fn serve(ports: &PressHall) -> Peer {
    let port = ports.opcua.to_string();
    Peer::start("asyncua_server.py", &["--port", &port, "--presses", "1", "--types"])
}

/// main.14: a call from the cloud reaches the method once, and its output values return.
#[test]
fn main_14_a_call_from_the_cloud_reaches_the_method_and_its_values_return() {
    let mut presses = Presses::open();
    presses.readings("hall1/press-1/temperature", 1);
    let topic = "tidegate/press-hall-1/cmd/hall1/press-1/reset/call";
    let calls = [
        (json!({"id": "c-1", "args": [5, "slow"]}), "confirmed"),
        (json!({"id": "c-1", "args": [5, "slow"]}), "confirmed"),
        (json!({"id": "c-2", "args": {"Speed": 70_000, "Mode": "slow"}}), "refused"),
        (json!({"id": "c-3", "args": [2_000, "fast"]}), "refused"),
    ];
    for (number, (call, expected)) in calls.iter().enumerate() {
        presses.cloud.ask("publish", json!({"topic": topic, "payload": call.to_string()}));
        let others = presses.cloud.ask("wait_others", json!({"count": number + 1}));
        let answer = &others[number];
        let text = answer["payload"].as_str().expect("text");
        let outcome: Value = serde_json::from_str(text).expect("JSON");
        let found = (&outcome["id"], outcome["outcome"].as_str());
        assert_eq!(found, (&call["id"], Some(*expected)), "{outcome}");
        if *expected == "confirmed" {
            assert_eq!(outcome["value"][0], json!(10.0), "{outcome}");
            assert_eq!(outcome["value"][1]["Drive"]["Speed"], json!(5), "{outcome}");
        } else {
            assert!(outcome["reason"].is_string(), "{outcome}");
        }
    }
    let calls = presses.opcua.ask("calls", json!({}));
    let reached = json!([[5, "UInt16", "slow"], [2_000, "UInt16", "fast"]]);
    assert_eq!(calls, reached, "c-1 once; c-2 does not fit the argument");
}

/// D25, main.12: a server that was away is told by one reading for each node, in front of the next value; a
/// structure arrives as a document.
#[test]
fn main_12_a_stretch_without_data_is_told_at_the_cloud() {
    let mut presses = Presses::open();
    let topic = "hall1/press-1/temperature";
    presses.readings(topic, 1);
    let state = &presses.readings("hall1/press-1/state", 1)[0];
    assert_eq!(state["value"]["Names"], json!(["a", "b"]), "{state}");
    assert_eq!(state["value"]["Drive"]["Speed"], json!(1), "{state}");

    presses.opcua.kill9();
    presses.opcua = serve(&presses.ports);
    let mut readings = Vec::new();
    wait::until("the value after the restart", || {
        readings = presses.readings(topic, 1);
        (readings.len() >= 3).then_some(())
    });
    let stretches: Vec<usize> =
        (0..readings.len()).filter(|at| !readings[*at]["until_ms"].is_null()).collect();
    assert_eq!(stretches, [1], "{readings:#?}");
    let stretch = &readings[1];
    assert_eq!((&stretch["type"], &stretch["value"]), (&json!("null"), &Value::Null));
    assert!(stretch["status"].as_u64() >= Some(0x8000_0000), "{stretch}");
    let (from, until) =
        (stretch["time_us"].as_i64().unwrap(), stretch["until_ms"].as_i64().unwrap());
    assert!(from / 1_000 <= until, "{stretch}");
    assert_eq!(readings[2]["status"], 0);

    let report = presses.cloud.ask("report", json!({}));
    assert_eq!((&report["holes"], &report["malformed"]), (&json!(0), &json!([])));
    assert!(presses.gateway.terminate().success());
}
