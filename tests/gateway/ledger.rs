//! Losing one record on purpose turns the ledger red, in whichever way it is lost (main.21, last sentence).

use serde_json::{Value, json};

use crate::support::{
    gateway::Gateway, journal::Segment, mosquitto::Mosquitto, peer::Peer, ports, programs,
    programs::Said, site::Site, wait,
};

/// Readings taken while the cloud is away.
const COUNT: u64 = 20;
/// The one that is lost: in the midst of the log, so that it has neighbours on both sides.
const LOST: u64 = 7_001_013;

/// A gateway that has taken readings for a cloud that is away, and what receives there.
struct Plant {
    gateway: Gateway,
    broker: Mosquitto,
    cloud: Peer,
    http: u16,
}

impl Plant {
    fn with_readings_waiting() -> Self {
        let mut broker = Mosquitto::start();
        let port = broker.port().to_string();
        let topics = ["--topic", "tidegate/+/bson", "--topic", "tidegate/+/bson.z"];
        let cloud = Peer::start("cloud.py", &[&["--port", &port], &topics[..]].concat());
        broker.stop();
        let http = ports::free_port();
        let config = format!(
            "[gateway]\nid = \"ledger\"\ndata-dir = \"data\"\n\
             [http]\nlisten = [\"127.0.0.1:{http}\"]\nanonymous = true\n\
             [[uplink]]\nname = \"cloud\"\nurl = \"mqtt://127.0.0.1:{port}\"\n\
             topics = [\"plant/#\"]\ntopic = \"tidegate/{{gateway}}/{{encoding}}\"\n\
             batch = {{ readings = 500, age = \"100ms\", bytes = \"64KiB\" }}\n"
        );
        let plant = Self { gateway: Gateway::start(&Site::new(&config, &[])), broker, cloud, http };
        for value in readings() {
            let url = format!("http://127.0.0.1:{http}/v1/topics/plant/count");
            let (status, body) =
                programs::curl(&["-X", "POST", "--data", &value.to_string(), &url]);
            assert_eq!(status, 201, "{body}");
        }
        plant
    }

    fn journal(&self) -> Segment {
        Segment::newest(&self.gateway.folder().join("data"))
    }

    fn metric(&self, name: &str) -> Option<u64> {
        let (status, text) = programs::curl(&[&format!("http://127.0.0.1:{}/metrics", self.http)]);
        assert_eq!(status, 200);
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }

    fn uplink(&self, more: &[&str]) -> (Option<i32>, Value) {
        let said = self.gateway.tidegate("status", &[&["--json"], more].concat());
        let status: Value = serde_json::from_str(&said.stdout).expect("status prints JSON");
        (said.code, status["uplinks"]["cloud"].clone())
    }

    fn said(&self, more: &[&str]) -> Said {
        self.gateway.tidegate("status", more)
    }

    #[track_caller]
    fn assert_green(&self) {
        for more in [&[][..], &["--audit"]] {
            let (code, uplink) = self.uplink(more);
            assert_eq!((code, &uplink["balanced"]), (Some(0), &json!(true)), "{more:?}: {uplink}");
            let said = self.said(more);
            assert_eq!(said.code, Some(0), "{}", said.stdout);
            assert!(said.stdout.contains(": balanced"), "{}", said.stdout);
            assert!(!said.stdout.contains("DISAGREES"), "{}", said.stdout);
        }
        assert_eq!(self.metric("tidegate_uplink_balanced{uplink=\"cloud\"}"), Some(1));
        assert_eq!(self.metric("tidegate_uplink_unreadable{uplink=\"cloud\"}"), Some(0));
    }

    /// Asserts that every way to ask says so, and that the exit code is 1.
    #[track_caller]
    fn assert_red(&self) {
        for more in [&[][..], &["--audit"]] {
            let (code, uplink) = self.uplink(more);
            assert_eq!((code, &uplink["balanced"]), (Some(1), &json!(false)), "{more:?}: {uplink}");
            let said = self.said(more);
            assert_eq!(said.code, Some(1), "{}", said.stdout);
            assert!(said.stdout.contains(": RECORDS ARE LOST"), "{}", said.stdout);
        }
        assert_eq!(self.uplink(&["--audit"]).1["audit"]["agrees"], json!(false));
        assert_eq!(self.metric("tidegate_uplink_balanced{uplink=\"cloud\"}"), Some(0));
    }

    /// Lets the cloud come back and waits until nothing is queued.
    fn drain(&mut self) {
        self.broker.start_again();
        let drained = wait::within(wait::DEADLINE, || {
            (self.uplink(&[]).1["queued"] == json!(0)).then_some(())
        });
        assert!(drained.is_some(), "the queue is not drained: {}", self.uplink(&[]).1);
    }

    /// Waits until the cloud has `expected`, in this order.
    #[track_caller]
    fn assert_received(&mut self, expected: &[u64]) {
        let received = wait::until("the last reading", || {
            let values = self.cloud.ask("values", json!({"topic": "plant/count"}));
            let values = values.as_array().expect("a list of values").clone();
            (values.len() >= expected.len()).then_some(values)
        });
        assert_eq!(received, expected.iter().map(|value| json!(value)).collect::<Vec<_>>());
    }

    /// Waits until the cloud was told of so many numbers as lost to damage, and misses no other.
    #[track_caller]
    fn assert_named_as_damaged(&mut self, count: u64) {
        let gaps = wait::until("the gap to be told", || {
            let report = self.cloud.ask("report", json!({}));
            let gaps = report["gaps"].as_array().expect("a list of gaps").clone();
            (report["holes"] == json!(0) && gaps.is_empty() == (count == 0)).then_some(gaps)
        });
        let number = |gap: &Value, key: &str| gap[key].as_u64().expect("a stream number");
        let numbers = gaps.iter().map(|gap| number(gap, "to") - number(gap, "from") + 1);
        assert_eq!(numbers.sum::<u64>(), count, "{gaps:?}");
        assert!(gaps.iter().all(|gap| gap["why"] == "damaged"), "{gaps:?}");
    }
}

fn readings() -> impl Iterator<Item = u64> {
    LOST - COUNT / 2..LOST + COUNT / 2
}

/// Loses a record of a gateway that stands still, and looks at it before and after the cloud is back.
fn check(lose: impl FnOnce(Segment)) -> Plant {
    let mut plant = Plant::with_readings_waiting();
    plant.assert_green();
    // No mark of an orderly stop tells how long the log was.
    plant.gateway.kill9();
    lose(plant.journal());
    plant.gateway.start_again();
    plant.assert_red();
    let (_, uplink) = plant.uplink(&["--audit"]);
    assert_eq!((&uplink["received"], &uplink["queued"]), (&json!(COUNT), &json!(COUNT)));
    assert_eq!((&uplink["unreadable"], &uplink["audit"]["damaged"]), (&json!(1), &json!(1)));
    assert_eq!(uplink["audit"]["queued"], json!(COUNT - 1), "{uplink}");
    assert_eq!(plant.metric("tidegate_uplink_unreadable{uplink=\"cloud\"}"), Some(1));
    assert!(plant.said(&[]).stdout.contains("queued, but unreadable: 1"));
    assert!(plant.said(&["--audit"]).stdout.contains("DISAGREES: 19 records counted, 1 missing"));

    plant.drain();
    plant.assert_received(&readings().filter(|value| *value != LOST).collect::<Vec<_>>());
    plant.assert_named_as_damaged(1);
    plant.assert_red();
    let (_, uplink) = plant.uplink(&[]);
    assert_eq!(
        (&uplink["delivered"], &uplink["dropped"], &uplink["unreadable"]),
        (&json!(COUNT - 1), &json!({"damaged": 1}), &json!(0)),
    );
    let dropped = "tidegate_uplink_dropped_total{uplink=\"cloud\",reason=\"damaged\"}";
    assert_eq!(plant.metric(dropped), Some(1));
    plant
}

#[test]
fn main_21_the_untouched_twin_is_green() {
    let mut plant = Plant::with_readings_waiting();
    plant.assert_green();
    plant.gateway.kill9();
    plant.gateway.start_again();
    plant.assert_green();
    plant.drain();
    plant.assert_received(&readings().collect::<Vec<_>>());
    plant.assert_named_as_damaged(0);
    plant.assert_green();
    assert_eq!(plant.metric("tidegate_store_damages"), Some(0));
}

#[test]
fn main_21_a_damaged_record_is_counted_and_named() {
    let mut plant = check(|segment| segment.damage(&LOST.to_string()));
    assert_eq!(plant.metric("tidegate_store_damages"), Some(1));
    assert!(plant.metric("tidegate_store_quarantined_bytes") > Some(0));
    assert!(plant.said(&[]).stdout.contains("journal: damaged in 1 places"));
    // The loss outlives the start that found it.
    assert!(plant.gateway.terminate().success());
    plant.gateway.start_again();
    plant.assert_red();
    assert_eq!(plant.metric("tidegate_store_damages"), Some(0), "it is told once");
}

#[test]
fn main_21_a_record_removed_without_a_trace_is_missed() {
    let plant = check(|segment| segment.remove(&LOST.to_string()));
    assert_eq!(plant.metric("tidegate_store_damages"), Some(0), "nothing looks damaged");
}

#[test]
fn main_21_an_audit_finds_what_was_damaged_since_the_start() {
    let mut plant = Plant::with_readings_waiting();
    plant.journal().damage(&LOST.to_string());
    assert_eq!(plant.uplink(&[]).0, Some(0), "nobody has looked");
    assert_eq!(plant.uplink(&["--audit"]).0, Some(1));
    plant.assert_red();
    // The uplink had read the record before, and still has it.
    plant.drain();
    plant.assert_received(&readings().collect::<Vec<_>>());
    plant.assert_green();
}

/// main.16: an audit agrees under load too, with the cloud there and away: what comes in meanwhile is not taken
/// for lost.
#[test]
fn main_16_an_audit_under_load_agrees() {
    let mut plant = Plant::with_readings_waiting();
    let mut devices: Vec<Peer> = (0..4)
        .map(|number| {
            let mut device = Peer::start("http_client.py", &[]);
            let url = format!("http://127.0.0.1:{}/v1/topics/plant/load{number}", plant.http);
            let series = json!({"name": "load", "method": "POST", "url": url, "count": 1_000_000});
            device.ask("series", series);
            device
        })
        .collect();
    for cloud_is_back in [false, true] {
        if cloud_is_back {
            plant.broker.start_again();
        }
        for _ in 0..5 {
            let (code, uplink) = plant.uplink(&["--audit"]);
            assert_eq!((code, &uplink["audit"]["agrees"]), (Some(0), &json!(true)), "{uplink}");
        }
    }
    for device in &mut devices {
        let state = device.ask("series_stop", json!({"name": "load"}));
        assert!(!state["acked"].as_array().expect("a list of numbers").is_empty());
    }
}
