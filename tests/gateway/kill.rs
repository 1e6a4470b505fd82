//! The gateway killed at random moments, the cloud stopped under load: nothing acknowledged is missing (main.21, S01).

use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

use crate::support::{
    gateway::Gateway,
    mosquitto::Mosquitto,
    peer::Peer,
    site::{PressHall, Site},
    wait,
};

/// Messages that each sender has to get through.
const COUNT: u32 = 100_000;

/// One sender of numbered messages and the topic at which its numbers arrive.
struct Sender {
    peer: Peer,
    topic: String,
}

impl Sender {
    fn new(mut peer: Peer, topic: &str, mut arguments: Value) -> Self {
        arguments["name"] = json!("load");
        arguments["count"] = json!(COUNT);
        peer.ask("series", arguments);
        Self { peer, topic: topic.into() }
    }

    fn acknowledged(&mut self) -> BTreeSet<u64> {
        let state = self.peer.ask("series_stop", json!({"name": "load"}));
        let acked = state["acked"].as_array().expect("a list of numbers");
        acked.iter().map(|number| number.as_u64().expect("a number")).collect()
    }
}

fn senders(ports: &PressHall) -> Vec<Sender> {
    let PressHall { mqtt, coap, http, .. } = *ports;
    let mut senders = Vec::new();
    for (version, qos) in [(4, 1), (5, 1), (5, 2)] {
        let id = format!("kill-{version}-{qos}");
        let mut paho = Peer::start("mqtt_client.py", &[]);
        paho.ask(
            "connect",
            json!({
                "host": "127.0.0.1", "port": mqtt, "version": version, "client_id": id, "clean": false,
                "reconnect": true, "properties": {"SessionExpiryInterval": 3600},
            }),
        );
        let topic = format!("hall1/{id}");
        let series = json!({"topic": topic, "qos": qos, "timeout": 60.0});
        senders.push(Sender::new(paho, &topic, series));
    }
    let uri = format!("coap://127.0.0.1:{coap}/sensors/kill/temperature");
    let series = json!({"method": "put", "uri": uri, "content_format": 0});
    senders.push(Sender::new(Peer::start("coap_client.py", &[]), "hall1/kill/temperature", series));
    let url = format!("http://127.0.0.1:{http}/ingest/kill");
    let headers = json!({"Content-Type": "application/json"});
    let series =
        json!({"method": "POST", "url": url, "body": "{\"count\": {n}}", "headers": headers});
    senders.push(Sender::new(Peer::start("http_client.py", &[]), "hall1/kill/count", series));
    senders
}

/// Draws numbers that follow from a seed, which a failure prints.
struct Draw(u64);

impl Draw {
    fn new() -> Self {
        let seed = std::env::var("TIDEGATE_SEED").ok().and_then(|text| text.parse().ok());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos();
        let seed = seed.unwrap_or_else(|| u64::try_from(now % 1_000_000_007).expect("small"));
        println!("TIDEGATE_SEED={seed}");
        Self(seed | 1)
    }

    fn between(&mut self, low: u64, high: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        low + (self.0 >> 33) % (high - low)
    }
}

/// Kills the gateway `cycles` times under load over all protocols, the cloud coming and going; what `fall` does comes
/// between the kill and the next start. Whatever was acknowledged is found in the cloud.
pub(crate) fn under_mixed_load(
    cycles: u32,
    prepare: impl FnOnce(&Gateway),
    mut fall: impl FnMut(u64),
) {
    let mut draw = Draw::new();
    let mut broker = Mosquitto::start();
    let ports = PressHall::with_cloud(broker.port());
    let port = broker.port().to_string();
    let topics = ["--topic", "tidegate/+/bson", "--topic", "tidegate/+/bson.z"];
    let mut cloud = Peer::start("cloud.py", &[&["--port", &port], &topics[..]].concat());
    let mut gateway = Gateway::prepare(&Site::press_hall(&ports));
    prepare(&gateway);
    gateway.start_again();
    let mut senders = senders(&ports);
    let mut is_cloud_up = true;
    for cycle in 0..cycles {
        thread::sleep(Duration::from_millis(draw.between(50, 400)));
        // Every few cycles the cloud goes or comes back, so that kills meet both.
        if draw.between(0, 4) == 0 {
            if is_cloud_up {
                broker.stop()
            } else {
                broker.start_again()
            }
            is_cloud_up = !is_cloud_up;
        }
        gateway.kill9();
        fall(draw.between(0, u64::MAX >> 34));
        gateway.start_again();
        assert!(gateway.ready_after() < wait::DEADLINE, "cycle {cycle}");
    }
    if !is_cloud_up {
        broker.start_again();
    }
    let acknowledged: Vec<(String, BTreeSet<u64>)> =
        senders.iter_mut().map(|sender| (sender.topic.clone(), sender.acknowledged())).collect();
    let status = wait::until("the queue is drained", || {
        let status = gateway.status(&[]);
        (status["uplinks"]["cloud"]["queued"] == json!(0)).then_some(status)
    });
    println!("{}", status["uplinks"]["cloud"]);
    for (topic, acknowledged) in &acknowledged {
        assert!(
            !acknowledged.is_empty(),
            "{topic}: nothing was acknowledged, so nothing was tested"
        );
        let mut missing = acknowledged.clone();
        let received = wait::within(wait::DEADLINE, || {
            let values = cloud.ask("values", json!({"topic": topic}));
            let values = values.as_array().expect("a list of values").iter();
            let received: BTreeSet<u64> =
                values.filter_map(Value::as_f64).map(|number| number as u64).collect();
            missing.retain(|value| !received.contains(value));
            missing.is_empty().then_some(received)
        });
        let received = received.unwrap_or_else(|| {
            panic!("{topic} lacks {} of {}: {missing:?}", missing.len(), acknowledged.len())
        });
        println!("{topic}: {} acknowledged, {} received", acknowledged.len(), received.len());
    }
    let report = cloud.ask("report", json!({}));
    assert_eq!(
        (&report["holes"], &report["conflicts"], &report["malformed"]),
        (&json!(0), &json!([]), &json!([])),
        "stream numbers have no holes, and a number is always the same reading"
    );
    let audited = gateway.status(&["--audit"]);
    let uplink = &audited["uplinks"]["cloud"];
    assert_eq!(
        (&uplink["balanced"], &uplink["audit"]["agrees"]),
        (&json!(true), &json!(true)),
        "{uplink}"
    );
    assert_exactly_once(&mut cloud);
}

#[test]
fn main_21_fault_s01_kill_9_under_mixed_load() {
    let is_deep = std::env::var("TIDEGATE_TIER").is_ok_and(|tier| tier == "all");
    under_mixed_load(if is_deep { 200 } else { 20 }, |_| {}, |_| {});
}

/// Publications with quality of service 2 arrive once each, whatever was killed in between.
fn assert_exactly_once(cloud: &mut Peer) {
    let values = cloud.ask("values", json!({"topic": "hall1/kill-5-2"}));
    let values: Vec<i64> =
        values.as_array().expect("a list").iter().filter_map(Value::as_i64).collect();
    let mut seen = BTreeSet::new();
    let twice: Vec<(usize, i64)> =
        values.iter().copied().enumerate().filter(|(_, value)| !seen.insert(*value)).collect();
    assert!(twice.is_empty(), "came twice, with quality of service 2: (place, number) {twice:?}");
}
