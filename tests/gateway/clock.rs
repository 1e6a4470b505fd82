//! A wall clock that is set right late (promise A6, uplink.32): the gateway runs with one that the test sets.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::support::{
    gateway::Gateway,
    mosquitto::Mosquitto,
    peer::Peer,
    ports, programs,
    site::Site,
    wait,
    wall_clock::{WallClock, now},
    wire::{Hello, Wire},
};

/// By how much the clock is behind, in seconds, until it is set right.
const BEHIND: i64 = 3_600;
/// What may lie between a reading and the moment at which its test looks at the clock, in seconds.
const NEAR: i64 = 120;

struct Plant {
    gateway: Gateway,
    http: u16,
    mqtt: u16,
    broker: Mosquitto,
    cloud: Peer,
}

impl Plant {
    fn prepare(wait: &str) -> Self {
        let broker = Mosquitto::start();
        let port = broker.port().to_string();
        let cloud = Peer::start("cloud.py", &["--port", &port, "--topic", "tidegate/+/bson"]);
        let (http, mqtt) = (ports::free_port(), ports::free_port());
        let config = format!(
            "[gateway]\nid = \"clock\"\ndata-dir = \"data\"\n\
             [gateway.time]\nmark = \"synchronized\"\nwait = \"{wait}\"\n\
             [mqtt]\nlisten = [\"127.0.0.1:{mqtt}\"]\nanonymous = true\n\
             [http]\nlisten = [\"127.0.0.1:{http}\"]\nanonymous = true\n\
             [[uplink]]\nname = \"cloud\"\nurl = \"mqtt://127.0.0.1:{port}\"\ntopics = [\"plant/#\"]\n\
             topic = \"tidegate/clock/bson\"\nbatch = {{ readings = 1 }}\n"
        );
        let mut gateway = Gateway::prepare(&Site::new(&config, &[]));
        for (name, value) in WallClock::new(gateway.folder()).environment() {
            gateway.set(name, &value);
        }
        Self { gateway, http, mqtt, broker, cloud }
    }

    /// Sets the gateway's clock, in seconds against the right time.
    fn set_clock(&self, seconds: i64) {
        WallClock::new(self.gateway.folder()).set(seconds);
    }

    fn mark(&self) -> PathBuf {
        self.gateway.folder().join("synchronized")
    }

    fn read(&self, values: std::ops::RangeInclusive<u32>) {
        let url = format!("http://127.0.0.1:{}/v1/topics/plant/count", self.http);
        for value in values {
            let (status, body) =
                programs::curl(&["-X", "POST", "--data", &value.to_string(), &url]);
            assert_eq!(status, 201, "{body}");
        }
    }

    /// Posts a reading under a key that makes it one, however often it is posted.
    fn read_once(&self, value: &str) -> u16 {
        let url = format!("http://127.0.0.1:{}/v1/topics/plant/count", self.http);
        let key = format!("Idempotency-Key: \"{value}\"");
        programs::curl(&["-X", "POST", "-H", &key, "--data", value, &url]).0
    }

    #[track_caller]
    fn until(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        wait::until(what, || Some(self.gateway.status(&[])).filter(&is))
    }

    /// Waits for so many readings, and returns of each when it was, in seconds, and whether that is vouched for.
    fn readings(&mut self, count: usize) -> Vec<(i64, bool)> {
        self.cloud.ask("wait", json!({"count": count}));
        let readings = self.cloud.ask("readings", json!({}));
        let readings = readings.as_array().expect("a list").iter();
        let readings = readings.map(|reading| {
            let micros = reading["time_us"].as_i64().expect("a time");
            (micros / 1_000_000, reading["clock_trusted"].as_bool().expect("a word"))
        });
        readings.collect()
    }
}

fn touch(path: &Path) {
    fs::write(path, "").expect("the folder takes files");
}

/// uplink.32, A6: what came in while the clock was an hour behind waits until it is right, and goes up with right times.
#[test]
fn uplink_32_a_clock_that_is_set_right_corrects_what_came_before() {
    let mut plant = Plant::prepare("10m");
    plant.set_clock(-BEHIND);
    plant.gateway.start_again();
    let begin = now();
    plant.read(1..=5);
    let status = plant.until("the connection", |it| it["uplinks"]["cloud"]["connected"] == true);
    assert_eq!(status["clock"]["trusted"], false);
    let uplink = &status["uplinks"]["cloud"];
    assert_eq!((&uplink["queued"], &uplink["delivered"]), (&json!(5), &json!(0)));
    plant.set_clock(0);
    touch(&plant.mark());
    plant.until("the mark", |it| it["clock"]["trusted"] == true);
    plant.read(6..=7);
    let readings = plant.readings(7);
    let end = now();
    for (time, is_trusted) in &readings {
        assert!((begin - 2..=end + 2).contains(time), "{begin} to {end}: {readings:?}");
        assert!(is_trusted, "{readings:?}");
    }
    let corrected = plant.gateway.status(&[])["clock"]["corrected-by-seconds"].as_f64().unwrap();
    assert!((corrected - 3_600.0).abs() < 5.0, "{corrected}");
    // The same after a start from a journal that knows of it.
    plant.broker.stop();
    plant.until("the end of the connection", |it| it["uplinks"]["cloud"]["connected"] == false);
    fs::remove_file(plant.mark()).unwrap();
    plant.gateway.kill9();
    plant.set_clock(BEHIND);
    plant.gateway.start_again();
    plant.read(8..=9);
    plant.set_clock(0);
    touch(&plant.mark());
    // It is in the journal a little later, and what it says holds after a kill.
    plant.until("the end of the era", |it| it["clock"]["settled"] == true);
    plant.gateway.kill9();
    plant.gateway.start_again();
    plant.broker.start_again();
    let readings = plant.readings(9);
    for (time, is_trusted) in &readings[7..] {
        assert!((time - now()).abs() < NEAR && *is_trusted, "{readings:?}");
    }
}

/// uplink.32, A6: what has waited long enough goes as it is, marked; so does what a killed run has left.
#[test]
fn uplink_32_a_clock_that_nobody_sets_right_is_told() {
    let mut plant = Plant::prepare("1s");
    plant.set_clock(-BEHIND);
    plant.gateway.start_again();
    plant.read(1..=3);
    let readings = plant.readings(3);
    for (time, is_trusted) in &readings {
        assert!((time + BEHIND - now()).abs() < NEAR && !is_trusted, "{readings:?}");
    }
    plant.set_clock(0);
    touch(&plant.mark());
    plant.until("the end of the era", |it| it["clock"]["settled"] == true);
    plant.read(4..=5);
    assert_eq!(plant.readings(5)[3..].iter().filter(|(_, is_trusted)| *is_trusted).count(), 2);
    // A run that was killed before the clock was right cannot say by how much it was wrong.
    fs::remove_file(plant.mark()).unwrap();
    plant.broker.stop();
    plant.gateway.kill9();
    plant.set_clock(-BEHIND);
    plant.gateway.start_again();
    plant.read(6..=7);
    plant.gateway.kill9();
    plant.set_clock(0);
    touch(&plant.mark());
    plant.gateway.start_again();
    plant.read(8..=8);
    plant.broker.start_again();
    let readings = plant.readings(8);
    let trusted: Vec<bool> = readings.iter().map(|(_, is_trusted)| *is_trusted).collect();
    assert_eq!(trusted, [false, false, false, true, true, false, false, true]);
    let report = plant.cloud.ask("report", json!({}));
    assert_eq!((&report["holes"], &report["conflicts"]), (&json!(0), &json!([])), "{report}");
}

/// A6: what a run with a wrong clock took in expires after as long as it was to, by the clock of the next run, too.
#[test]
fn uplink_32_an_expiry_means_the_same_after_a_start_with_another_clock() {
    for wrong in [-BEHIND, BEHIND] {
        let mut plant = Plant::prepare("10m");
        plant.broker.stop();
        plant.set_clock(wrong);
        plant.gateway.start_again();
        let mut wire =
            Wire::connect(plant.mqtt, &Hello { client_id: "device", ..Hello::default() }).0;
        let publish = |wire: &mut Wire, value: &str, seconds: u32| {
            let expiry = [&[2][..], &seconds.to_be_bytes()].concat();
            wire.send(&wire.publish_packet(b"plant/count", value, 1, 7, &expiry));
            assert_eq!(wire.expect(4).body.get(2).copied().unwrap_or(0), 0);
        };
        publish(&mut wire, "1", 1_800);
        publish(&mut wire, "2", 1);
        assert_eq!(plant.read_once("3"), 201);
        // The clocks are noted at the start, and five seconds later.
        let uptime = |it: &Value| it["uptime-seconds"].as_u64().is_some_and(|seconds| seconds > 6);
        plant.until("a few seconds", uptime);
        plant.gateway.kill9();
        plant.set_clock(0);
        touch(&plant.mark());
        plant.gateway.start_again();
        assert_eq!(plant.read_once("3"), 201, "it is known, and not taken again");
        plant.broker.start_again();
        let status = plant.until("all", |it| it["uplinks"]["cloud"]["queued"] == 0);
        let uplink = &status["uplinks"]["cloud"];
        assert_eq!((&uplink["delivered"], &uplink["expired"]), (&json!(2), &json!(1)), "{uplink}");
    }
}
