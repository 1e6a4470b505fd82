//! Uplinks with `profile = "azure-event-grid"` at a stand-in that closes the connection for what the service would
//! (uplink.24). `tests/support/peers/test_azure_event_grid.py` shows that each of its checks catches a client.

use std::ops::Range;

use serde_json::{Value, json};

use crate::azure::{connect, publish};
use crate::support::{
    authority::{self, Authority},
    gateway::Gateway,
    peer::Peer,
    ports,
    site::Site,
    wait,
};

/// Readings that come at once.
const COUNT: usize = 1_500;

fn config(mqtt: u16, facts: &Value) -> String {
    let uplink = |name: &str, url: &str, topics: &str, more: &str| {
        format!(
            "[[uplink]]\nname = \"{name}\"\nprofile = \"azure-event-grid\"\nurl = \"{url}\"\n\
             ca = \"ca.pem\"\ncert = \"gw.pem\"\nkey = {{ file = \"gw.key\" }}\nusername = \"gw-1\"\n\
             topics = [\"{topics}\"]\n{more}"
        )
    };
    let plain = format!("mqtts://localhost:{}", facts["port_8883"]);
    let frames = format!("wss://localhost:{}/mqtt", facts["port_443"]);
    let single = "topic = \"tidegate/{gateway}/{encoding}\"\nbatch = { readings = 1 }\n";
    let packed = "topic = \"tidegate/{gateway}/{encoding}\"\ncompress = \"zlib\"\n\
                  batch = { readings = 50, age = \"100ms\" }\n\
                  commands = \"tidegate/{gateway}/cmd/#\"\n";
    // No topic space has this one.
    let astray = "topic = \"elsewhere/{gateway}/{encoding}\"\nbatch = { readings = 1 }\n";
    format!(
        "[gateway]\nid = \"gw-1\"\ndata-dir = \"data\"\n\
         [mqtt]\nlisten = [\"127.0.0.1:{mqtt}\"]\nanonymous = true\n{}{}{}",
        uplink("single", &plain, "plant/#", single),
        uplink("packed", &frames, "plant/#", packed),
        uplink("astray", &plain, "astray/#", astray),
    )
}

fn count(topic: &str, values: Range<usize>) -> Vec<(String, String)> {
    values.map(|value| (topic.to_owned(), value.to_string())).collect()
}

/// uplink.24: everything arrives at the namespace, by MQTT and in WebSocket frames, with the gateway killed and with connections
/// ended by the far side, within what it takes; what no topic space allows is a dead letter; commands come once.
#[test]
fn uplink_24_a_client_of_azure_event_grid() {
    let mut gateway = Gateway::prepare(&Site::new("", &[]));
    let folder = gateway.folder().to_owned();
    let authority = Authority::new("grid");
    let ca = authority::write(&folder, "ca.pem", &authority.pem());
    let [cert, key] = authority.issue("server", 1).write(&folder, "server");
    authority.issue("gw-1", 2).write(&folder, "gw");
    let files = ["--ca", &ca, "--cert", &cert, "--key", &key, "--client", "gw-1"];
    let spaces = ["--publisher", "tidegate/gw-1/#", "--subscriber", "tidegate/gw-1/cmd/#"];
    let mut grid = Peer::start("azure_event_grid.py", &[&files[..], &spaces].concat());
    let mqtt = ports::free_port();
    gateway.write("tidegate.toml", &config(mqtt, grid.facts()));
    gateway.start_again();
    let settled = |gateway: &Gateway, name: &str| {
        wait::until("nothing to be queued", || {
            let uplink = gateway.status(&[])["uplinks"][name].clone();
            (uplink["queued"] == 0).then_some(uplink)
        })
    };

    publish(&mut connect(mqtt, "plant"), &count("plant/count", 0..COUNT / 2));
    gateway.kill9();
    gateway.start_again();
    let mut plant = connect(mqtt, "plant");
    publish(&mut plant, &count("plant/count", COUNT / 2..COUNT * 3 / 4));
    grid.ask("drop", json!({}));
    publish(&mut plant, &count("plant/count", COUNT * 3 / 4..COUNT));
    for name in ["single", "packed"] {
        let uplink = settled(&gateway, name);
        let found = (&uplink["delivered"], &uplink["dead-letters"], &uplink["balanced"]);
        assert_eq!(found, (&json!(COUNT), &json!(0), &json!(true)), "{uplink}");
    }
    grid.ask("wait", json!({"count": 2 * COUNT}));
    let book = grid.ask("book", json!({}));
    let found = (&book["malformed"], &book["conflicts"], &book["holes"]);
    assert_eq!(found, (&json!([]), &json!([]), &json!(0)), "{book}");

    publish(&mut plant, &count("astray/count", 0..3));
    let astray = settled(&gateway, "astray");
    let found = (&astray["delivered"], &astray["dropped"]["dead-letter"], &astray["balanced"]);
    assert_eq!(found, (&json!(0), &json!(3), &json!(true)), "{astray}");

    let mut operator = connect(mqtt, "operator");
    assert_eq!(operator.subscribe("hall1/setpoint/set", 1), 1);
    let command = r#"{"value": 1, "id": "c-1"}"#;
    for payload in [command, command, "2"] {
        let sent = json!({"topic": "tidegate/gw-1/cmd/hall1/setpoint", "payload": payload});
        assert_eq!(grid.ask("send", sent), 1);
    }
    for expected in [command, "2"] {
        let message = operator.expect_publish();
        let message = operator.parse(&message);
        assert_eq!(message.payload, expected);
        operator.acknowledge(4, message.packet_id);
    }
    // Of a repetition that comes while the first is under way there is one outcome.
    let results = wait::until("the outcomes", || {
        let report = grid.ask("report", json!({}));
        let results = report["results"].as_array().expect("a list").clone();
        (results.len() >= 2).then_some(results)
    });
    for result in &results {
        assert_eq!(result[0], "tidegate/gw-1/result/hall1/setpoint");
        assert!(result[1].as_str().is_some_and(|body| body.contains("accepted")), "{result}");
    }
    let report = grid.ask("report", json!({}));
    let closed = report["closed"].as_array().expect("a list");
    assert!(closed.iter().all(|it| it[0] == "DROPPED" || it[0] == "TAKEN_OVER"), "{report}");
    assert_eq!(report["refused"], json!(vec!["elsewhere/gw-1/bson"; 3]), "{report}");
    assert!(report["most_in_flight"].as_u64() <= Some(64), "{report}");
}
