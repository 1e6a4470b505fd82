//! Rules of an uplink from end to end (uplink.4): what the cloud gets is what the books say.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::{
    gateway::Gateway, mosquitto::Mosquitto, peer::Peer, ports, programs, site::Site, wait,
};

/// Readings per topic.
const COUNT: u64 = 20;

/// uplink.4: excluded, converted, summed up by windows over a restart: each reading is delivered, filtered or held, what
/// windows made is counted as made, and the counts in the windows are the readings that they took.
#[test]
fn uplink_4_rules_from_end_to_end() {
    let broker = Mosquitto::start();
    let port = broker.port();
    let topics = ["--topic", "tidegate/+/bson", "--topic", "tidegate/+/bson.z"];
    let mut cloud =
        Peer::start("cloud.py", &[&["--port", &port.to_string()], &topics[..]].concat());
    let http = ports::free_port();
    let config = format!(
        "[gateway]\nid = \"sums\"\ndata-dir = \"data\"\n\
         [http]\nlisten = [\"127.0.0.1:{http}\"]\nanonymous = true\n\
         [[uplink]]\nname = \"cloud\"\nurl = \"mqtt://127.0.0.1:{port}\"\n\
         topics = [\"plant/#\"]\ntopic = \"tidegate/{{gateway}}/{{encoding}}\"\n\
         batch = {{ readings = 10, age = \"100ms\", bytes = \"64KiB\" }}\n\
         [[uplink.rule]]\nname = \"secret\"\ntopics = [\"plant/secret\"]\nexclude = true\n\
         [[uplink.rule]]\nname = \"half\"\ntopics = [\"plant/half\"]\nscale = 0.5\n\
         [[uplink.rule]]\nname = \"sums\"\ntopics = [\"plant/sum\"]\nwindow = \"1s\"\nfunctions = [\"count\", \"max\"]\n"
    );
    let mut gateway = Gateway::start(&Site::new(&config, &[]));
    let post = |topic: &str, value: u64| {
        let url = format!("http://127.0.0.1:{http}/v1/topics/plant/{topic}");
        let (status, body) = programs::curl(&["-X", "POST", "--data", &value.to_string(), &url]);
        assert_eq!(status, 201, "{body}");
    };
    for value in 1..=COUNT {
        for topic in ["secret", "half", "sum"] {
            post(topic, value);
        }
        if value == COUNT / 2 {
            gateway.kill9();
            gateway.start_again();
        }
    }
    let uplink = wait::until("everything to be settled", || {
        let said = gateway.tidegate("status", &["--json"]);
        let status: Value = serde_json::from_str(&said.stdout).expect("status prints JSON");
        let uplink = status["uplinks"]["cloud"].clone();
        (uplink["queued"] == 0).then_some(uplink)
    });
    assert_eq!((&uplink["received"], &uplink["balanced"]), (&json!(3 * COUNT), &json!(true)));
    assert_eq!(uplink["filtered"]["secret"], COUNT, "{uplink}");
    assert_eq!(uplink["filtered"]["sums"], COUNT, "{uplink}");
    let made = uplink["made"]["sums"].as_u64().expect("windows were made");
    assert_eq!(uplink["delivered"], COUNT + made, "{uplink}");
    cloud.ask("wait", json!({"count": COUNT + made}));
    let readings = cloud.ask("readings", json!({}));
    let mut by_topic: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for reading in readings.as_array().expect("a list") {
        let topic = reading["n"].as_str().expect("a topic").to_owned();
        by_topic.entry(topic).or_default().push(reading["value"].as_f64().expect("a number"));
    }
    let names: Vec<&str> = by_topic.keys().map(String::as_str).collect();
    assert_eq!(names, ["plant/half", "plant/sum/count", "plant/sum/max"]);
    let halves: Vec<f64> = (1..=COUNT).map(|value| value as f64 / 2.0).collect();
    assert_eq!(by_topic["plant/half"], halves);
    assert_eq!(by_topic["plant/sum/count"].iter().sum::<f64>(), COUNT as f64);
    let highest = by_topic["plant/sum/max"].iter().fold(0.0, |highest: f64, it| highest.max(*it));
    assert_eq!(highest, COUNT as f64);
}
