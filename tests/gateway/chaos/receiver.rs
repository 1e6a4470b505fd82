//! What arrives at the broker: in the book of an independent decoder, and as a capture for `tidegate verify`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{
    capture::Capture, load::Acknowledged, mosquitto::Mosquitto, peer::Peer, programs, wait,
};

/// Two subscribers at the broker itself: nothing goes wrong on their lines.
#[derive(Debug)]
pub(super) struct Receiver {
    cloud: Peer,
    capture: Capture,
}

impl Receiver {
    #[track_caller]
    pub(super) fn start(broker: &Mosquitto) -> Self {
        let port = broker.port().to_string();
        let topics = ["--topic", "tidegate/+/+/bson", "--version", "4"];
        let cloud = Peer::start("cloud.py", &[&["--port", &port], &topics[..]].concat());
        Self { cloud, capture: Capture::start(broker) }
    }

    /// Every value that was acknowledged has come by this uplink, each once, and higher ones have higher numbers.
    #[track_caller]
    pub(super) fn assert_has(&mut self, up: &str, acknowledged: &Acknowledged) {
        for (topic, values) in acknowledged.iter() {
            let missing = wait::within(wait::DEADLINE, || {
                let received = self.values(topic, up);
                values.iter().all(|value| received.contains(value)).then_some(())
            });
            let received = self.values(topic, up);
            let lost: Vec<&i64> = values.iter().filter(|value| !received.contains(value)).collect();
            assert!(missing.is_some(), "{up}: {topic} lacks {lost:?}");
        }
    }

    /// Returns the values of a stream; by number they rise.
    #[track_caller]
    fn values(&mut self, topic: &str, up: &str) -> BTreeSet<i64> {
        let values = self.cloud.ask("values", json!({"topic": topic, "up": up}));
        let values: Vec<i64> =
            values.as_array().expect("a list").iter().filter_map(Value::as_i64).collect();
        let fall = values.windows(2).find(|pair| pair[0] >= pair[1]);
        assert_eq!(fall, None, "{up}: values of {topic} by number");
        values.into_iter().collect()
    }

    /// No reading came first behind a later one of its stream, and none is missing or different when it comes again.
    #[track_caller]
    pub(super) fn assert_in_order(&mut self) {
        let report = self.cloud.ask("report", json!({}));
        for name in ["backwards", "conflicts", "malformed", "gaps"] {
            assert_eq!(report[name], json!([]), "{name}");
        }
        assert_eq!(report["holes"], 0, "{}", report["streams"]);
    }

    /// What came again had at most so many others behind it.
    #[track_caller]
    pub(super) fn assert_reach(&mut self, most: u64) {
        let report = self.cloud.ask("report", json!({}));
        println!("came twice: {}, at most {} back", report["repeated"], report["reach"]);
        for (up, reach) in report["reach"].as_object().expect("by uplink") {
            let reach = reach.as_u64().expect("a number");
            assert!(reach <= most, "{up}: {reach} back, at most {most} are one window");
        }
    }

    /// The gateway's own program says the same of the capture.
    #[track_caller]
    pub(super) fn assert_complete(&self) {
        let file = self.capture.write("all", &self.capture.lines());
        let said = programs::tidegate(&["verify", "--from-start", &file]);
        assert_eq!(said.code, Some(0), "{}{}", said.stdout, said.stderr);
        assert!(said.stdout.contains("complete: "), "{}", said.stdout);
    }
}
