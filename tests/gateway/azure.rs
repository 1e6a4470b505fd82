//! Uplinks with `profile = "azure-iot-hub"` at a stand-in that closes the connection for what the service would
//! (uplink.24). `tests/support/peers/test_azure_iot_hub.py` shows that each of its checks catches a client.

use serde_json::{Value, json};

use crate::support::{
    authority::{self, Authority},
    gateway::Gateway,
    peer::Peer,
    ports,
    site::Site,
    wait,
    wire::{Hello, Wire},
};

const HUB: &str = "contoso.azure-devices.net";
/// The key of a device, as a hub shows it.
const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
/// The key behind it.
const NEXT_KEY: &str = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";
/// Tokens are replaced after four fifths of this.
const LIFETIME: &str = "10s";
/// Readings that come at once, more than a second takes.
const ROWS: usize = 300;
/// Publications on their way to the gateway.
const WINDOW: usize = 20;

/// The gateway, and the hub: as an IoT Edge it is at another address than its name.
struct Bench {
    gateway: Gateway,
    hub: Peer,
    mqtt: u16,
}

impl Bench {
    fn start() -> Self {
        let mut gateway = Gateway::prepare(&Site::new("", &[]));
        let folder = gateway.folder().to_owned();
        let authority = Authority::new("hub");
        let ca = authority::write(&folder, "ca.pem", &authority.pem());
        let [cert, key] = authority.issue("server", 1).write(&folder, "server");
        authority.issue("gw-rows", 2).write(&folder, "rows");
        authority::write(&folder, "hub.key", KEY);
        let device = format!("gw-bulk={KEY}");
        let files = ["--ca", &ca, "--cert", &cert, "--key", &key, "--hub", HUB];
        let devices = ["--device", &device, "--device", "gw-rows"];
        let hub = Peer::start("azure_iot_hub.py", &[&files[..], &devices].concat());
        let mqtt = ports::free_port();
        gateway.write("tidegate.toml", &config(mqtt, hub.facts()));
        gateway.start_again();
        Self { gateway, hub, mqtt }
    }

    fn report(&mut self) -> Value {
        self.hub.ask("report", json!({}))
    }

    #[track_caller]
    fn until_settled(&self, name: &str) -> Value {
        wait::until("nothing to be queued", || {
            let uplink = self.gateway.status(&[])["uplinks"][name].clone();
            Some(uplink).filter(|uplink| uplink["queued"] == 0)
        })
    }

    /// How often a device has connected.
    fn connects(&mut self, device: &str) -> usize {
        let report = self.report();
        report["connects"].as_array().expect("a list").iter().filter(|it| it[0] == device).count()
    }
}

fn config(mqtt: u16, facts: &Value) -> String {
    let uplink = |name: &str, url: &str, more: &str| {
        format!(
            "[[uplink]]\nname = \"{name}\"\nprofile = \"azure-iot-hub\"\nurl = \"{url}\"\n\
             ca = \"ca.pem\"\ntopics = [\"{name}/#\"]\n{more}"
        )
    };
    let bulk = format!(
        "compress = \"zlib\"\nbatch = {{ readings = 50, age = \"100ms\" }}\n\
         azure-iot-hub = {{ device = \"gw-bulk\", hub = \"{HUB}\", commands = true, \
         shared-access-key = {{ file = \"hub.key\" }}, lifetime = \"{LIFETIME}\" }}\n"
    );
    let rows = format!(
        "format = \"json\"\ncert = \"rows.pem\"\nkey = {{ file = \"rows.key\" }}\n\
         azure-iot-hub = {{ device = \"gw-rows\", hub = \"{HUB}\" }}\n"
    );
    format!(
        "[gateway]\nid = \"azure\"\ndata-dir = \"data\"\n\
         [mqtt]\nlisten = [\"127.0.0.1:{mqtt}\"]\nanonymous = true\n{}{}",
        uplink("bulk", &format!("mqtts://localhost:{}", facts["port_8883"]), &bulk),
        uplink("rows", &format!("wss://localhost:{}", facts["port_443"]), &rows),
    )
}

pub(crate) fn connect(port: u16, client_id: &str) -> Wire {
    Wire::connect(port, &Hello { client_id, ..Hello::default() }).0
}

/// Publishes with QoS 1 as fast as it goes.
#[track_caller]
pub(crate) fn publish(wire: &mut Wire, messages: &[(String, String)]) {
    for burst in messages.chunks(WINDOW) {
        for ((topic, payload), id) in burst.iter().zip(1..) {
            wire.send_publish(topic, payload, 1, id);
        }
        for _ in burst {
            let answer = wire.expect(4);
            assert_eq!(answer.body.get(2).copied().unwrap_or(0), 0, "{answer:?}");
        }
    }
}

/// uplink.24: everything arrives at the hub, by token over MQTT and by certificate in WebSocket frames; tokens are replaced
/// while readings come, and none is lost or comes twice for it; messages to the device and direct methods are commands.
#[test]
fn uplink_24_a_device_of_azure_iot_hub() {
    let mut bench = Bench::start();
    let mut wire = connect(bench.mqtt, "plant");
    let rows: Vec<_> = (0..ROWS).map(|at| (format!("rows/{}", at % 5), at.to_string())).collect();
    publish(&mut wire, &rows);
    let mut bulk = 0;
    // Until the token of the first connection, and that of the second, are replaced.
    wait::until("tokens to be replaced twice", || {
        publish(&mut wire, &[(format!("bulk/{}", bulk % 3), bulk.to_string())]);
        bulk += 1;
        (bench.connects("gw-bulk") >= 3).then_some(())
    });
    for (name, count) in [("rows", ROWS), ("bulk", bulk)] {
        let uplink = bench.until_settled(name);
        assert_eq!((&uplink["delivered"], &uplink["balanced"]), (&json!(count), &json!(true)));
    }
    bench.hub.ask("wait", json!({"count": ROWS + bulk}));
    let book = bench.hub.ask("book", json!({}));
    let found = (&book["malformed"], &book["conflicts"], &book["holes"], &book["duplicates"]);
    assert_eq!(found, (&json!([]), &json!([]), &json!(0), &json!(0)), "{book}");
    assert_eq!(book["backwards"], json!([]), "{book}");

    commands(&mut bench);
    let report = bench.report();
    assert_eq!(report["closed"], json!([]), "{report}");
    assert_eq!(report["retained"], 0, "{report}");
    let topics = report["topics"].as_array().expect("a list");
    assert!(topics.contains(&json!("tidegate/azure/bson.z")) && topics.contains(&json!("rows/4")));
    // Each connection was left with a good-bye.
    let goodbyes = report["goodbyes"].as_array().expect("a list").len();
    assert!(goodbyes + 1 >= bench.connects("gw-bulk"), "{report}");

    // uplink.32: the hub has another key, and says so first; what waits goes out with the next one.
    bench.hub.ask("set_key", json!({"device": "gw-bulk", "key": NEXT_KEY}));
    bench.hub.ask("drop", json!({}));
    wait::until("a login to be refused", || {
        bench.report()["closed"].to_string().contains("LOGIN").then_some(())
    });
    publish(&mut wire, &[("bulk/0".to_owned(), bulk.to_string())]);
    authority::write(bench.gateway.folder(), "hub.key", NEXT_KEY);
    bench.hub.ask("wait", json!({"count": ROWS + bulk + 1}));
    assert_eq!(bench.until_settled("bulk")["delivered"], bulk + 1);
}

fn commands(bench: &mut Bench) {
    let mut operator = connect(bench.mqtt, "operator");
    assert_eq!(operator.subscribe("hall1/setpoint/set", 1), 1);
    // A message to the device.
    let sent = json!({
        "device": "gw-bulk",
        "payload": r#"{"value": 1, "id": "c-1"}"#,
        "properties": {"topic": "hall1/setpoint", "$.ct": "application/json", "$.ce": "utf-8"},
    });
    assert_eq!(bench.hub.ask("send", sent), true);
    let message = operator.expect_publish();
    let command = operator.parse(&message);
    assert_eq!(command.payload, r#"{"value": 1, "id": "c-1"}"#);
    operator.acknowledge(4, command.packet_id);
    let results = wait::until("the outcome of the command", || {
        let report = bench.report();
        Some(report["results"].clone()).filter(|results| results[0] != Value::Null)
    });
    let properties = json!({
        "$.ct": "application/json", "$.ce": "utf-8", "kind": "result", "topic": "hall1/setpoint",
    });
    assert_eq!(results[0]["properties"], properties);
    assert_eq!(results[0]["payload"]["outcome"], "accepted");

    // Direct methods, which have their answers at once.
    let invoke = |bench: &mut Bench, device: &str, method: &str, payload: &str| {
        let call = json!({"device": device, "method": method, "payload": payload});
        bench.hub.ask("invoke", call)
    };
    let set = invoke(bench, "gw-bulk", "set", r#"{"topic":"hall1/setpoint","value":2,"id":"c-2"}"#);
    assert_eq!((&set["status"], &set["payload"]["id"]), (&json!(202), &json!("c-2")), "{set}");
    let nobody = invoke(bench, "gw-bulk", "set", r#"{"topic":"hall1/nobody","value":2}"#);
    assert_eq!(
        (&nobody["status"], &nobody["payload"]["outcome"]),
        (&json!(400), &json!("refused"))
    );
    for (method, payload, status) in [
        ("reboot", "{}", 404),
        ("set", "", 400),
        ("call", "[]", 400),
        ("set", r##"{"topic":"a/#","value":1}"##, 400),
    ] {
        let answer = invoke(bench, "gw-bulk", method, payload);
        assert_eq!(answer["status"], status, "{answer}");
        assert!(answer["payload"]["reason"].is_string(), "{answer}");
    }
    // Who wants no commands has not subscribed.
    assert_eq!(invoke(bench, "gw-rows", "set", "{}")["status"], 404);
}
