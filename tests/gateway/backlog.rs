//! A backlog larger than the journal may be (uplink.2): it is compressed into files of its own, and all of it arrives.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::{
    gateway::Gateway, mosquitto::Mosquitto, peer::Peer, ports, programs, site::Site, wait,
};

/// Readings of about a kilobyte each, more than twice as many as the journal has room for.
const COUNT: u64 = 36_000;
const JOURNAL_BYTES_MAX: u64 = 16 << 20;

fn status(gateway: &Gateway, more: &[&str]) -> Value {
    let said = gateway.tidegate("status", &[&["--json"], more].concat());
    serde_json::from_str(&said.stdout).expect("status prints JSON")
}

/// Publishes the numbers of a range with QoS 1, padded with blanks.
fn publish(port: u16, from: u64, to: u64) {
    let tool = programs::find("mosquitto_pub");
    let line = format!(
        "seq -f %900.0f {from} {to} | {} -h 127.0.0.1 -p {port} -q 1 -t plant/count -l",
        tool.display()
    );
    let status = Command::new("sh").args(["-c", &line]).status().expect("a shell runs");
    assert!(status.success(), "{line}: {status}");
}

/// uplink.2, D15: nothing is given up as long as it fits compressed, over a kill, and the books show it.
#[test]
fn uplink_2_a_backlog_beyond_the_journal_is_kept() {
    let mut broker = Mosquitto::start();
    let port = broker.port();
    let topics = ["--topic", "tidegate/+/bson", "--topic", "tidegate/+/bson.z"];
    let mut cloud =
        Peer::start("cloud.py", &[&["--port", &port.to_string()], &topics[..]].concat());
    broker.stop();
    let mqtt = ports::free_port();
    let config = format!(
        "[gateway]\nid = \"backlog\"\ndata-dir = \"data\"\n\
         [store]\nmax-bytes = \"16MiB\"\nreserve = \"1MiB\"\nendurance = \"1TiB\"\n\
         [mqtt]\nlisten = [\"127.0.0.1:{mqtt}\"]\nanonymous = true\n\
         [[uplink]]\nname = \"cloud\"\nurl = \"mqtt://127.0.0.1:{port}\"\n\
         topics = [\"plant/#\"]\ntopic = \"tidegate/{{gateway}}/{{encoding}}\"\n\
         batch = {{ readings = 500, age = \"100ms\", bytes = \"64KiB\" }}\n"
    );
    let mut gateway = Gateway::start(&Site::new(&config, &[]));
    publish(mqtt, 1, COUNT / 2);
    gateway.kill9();
    gateway.start_again();
    publish(mqtt, COUNT / 2 + 1, COUNT);
    let full = wait::until("the journal to be small", || {
        let status = status(&gateway, &[]);
        let store = &status["store"];
        let size = store["journal-bytes"].as_u64()? + store["spilled-bytes"].as_u64()?;
        (size < JOURNAL_BYTES_MAX).then_some(status)
    });
    let uplink = &full["uplinks"]["cloud"];
    assert_eq!(uplink["queued"], COUNT, "{uplink}");
    assert_eq!(uplink["dropped"], json!({}), "{uplink}");
    assert!(uplink["queued-bytes"].as_u64() > Some(2 * JOURNAL_BYTES_MAX), "{uplink}");
    assert!(uplink["spilled"]["records"].as_u64() > Some(COUNT / 3), "{uplink}");
    assert!(full["store"]["flash"]["written-bytes"].as_u64() > Some(JOURNAL_BYTES_MAX));
    gateway.kill9();
    gateway.start_again();
    let audited = status(&gateway, &["--audit"]);
    let uplink = &audited["uplinks"]["cloud"];
    assert_eq!((&uplink["queued"], &uplink["audit"]["agrees"]), (&json!(COUNT), &json!(true)));

    broker.start_again();
    cloud.ask("wait", json!({"count": COUNT}));
    let readings = cloud.ask("readings", json!({}));
    let values: Vec<u64> = readings
        .as_array()
        .expect("a list")
        .iter()
        .map(|reading| reading["value"].as_u64().expect("a number"))
        .collect();
    assert!(values.windows(2).all(|pair| pair[0] + 1 == pair[1]), "in order, none missing");
    assert_eq!((values[0], values.len() as u64), (1, COUNT));
    wait::until("the disk to be returned", || {
        let status = status(&gateway, &[]);
        let (store, uplink) = (&status["store"], &status["uplinks"]["cloud"]);
        let is_small = store["journal-bytes"].as_u64()? < JOURNAL_BYTES_MAX / 4;
        let is_empty = uplink["queued"] == 0 && store["spilled-bytes"] == 0;
        (is_small && is_empty && uplink["balanced"] == true).then_some(())
    });
}
