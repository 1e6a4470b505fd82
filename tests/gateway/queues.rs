//! Two queues of which one takes what comes in: live readings beside a backlog (uplink.1), stand-ins (uplink.28).

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{
    gateway::Gateway, mosquitto::Mosquitto, peer::Peer, ports, programs, site::Site, wait,
};

/// What has waited so long is a backlog.
const BACKLOG: Duration = Duration::from_secs(6);

/// A gateway whose readings come by HTTP.
struct Plant {
    gateway: Gateway,
    http: u16,
    last: Cell<u64>,
}

impl Plant {
    fn prepare() -> Self {
        let gateway = Gateway::prepare(&Site::new("", &[]));
        Self { gateway, http: ports::free_port(), last: Cell::new(0) }
    }

    fn configure(&self, uplinks: &str) {
        let config = format!(
            "[gateway]\nid = \"queues\"\ndata-dir = \"data\"\n\
             [http]\nlisten = [\"127.0.0.1:{}\"]\nanonymous = true\n{uplinks}",
            self.http
        );
        self.gateway.write("tidegate.toml", &config);
    }

    /// Hands in further readings, each acknowledged.
    fn read(&self, count: u64) {
        let url = format!("http://127.0.0.1:{}/v1/topics/plant/count", self.http);
        for _ in 0..count {
            self.last.set(self.last.get() + 1);
            let value = self.last.get().to_string();
            let (status, body) = programs::curl(&["-X", "POST", "--data", &value, &url]);
            assert_eq!(status, 201, "{body}");
        }
    }

    fn uplinks(&self) -> Value {
        self.gateway.status(&[])["uplinks"].take()
    }

    #[track_caller]
    fn until(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        wait::until(what, || Some(self.uplinks()).filter(&is))
    }

    /// Waits until the queues have delivered everything between them, and checks the books.
    #[track_caller]
    fn until_delivered(&self, names: [&str; 2]) -> Value {
        let sum = |uplinks: &Value, key: &str| -> u64 {
            names.iter().map(|name| uplinks[*name][key].as_u64().unwrap_or(0)).sum()
        };
        let uplinks = self
            .until("all readings to be delivered", |it| sum(it, "delivered") == self.last.get());
        assert_eq!(sum(&uplinks, "received"), self.last.get(), "each reading is in one queue");
        for name in names.iter().filter(|name| uplinks[**name].is_object()) {
            assert_eq!(uplinks[*name]["balanced"], true, "{uplinks}");
        }
        uplinks
    }
}

fn cloud(broker: &Mosquitto) -> Peer {
    let port = broker.port().to_string();
    Peer::start("cloud.py", &["--port", &port, "--topic", "tidegate/+/bson"])
}

/// uplink.1: readings that come in while a backlog waits go past it, each goes once, through a kill and an interruption;
/// what waits in the second queue is not given up when the order is changed.
#[test]
fn uplink_1_live_readings_go_past_a_backlog() {
    let mut broker = Mosquitto::start();
    let mut cloud = cloud(&broker);
    let mut plant = Plant::prepare();
    let port = broker.port();
    let uplink = |order: &str| {
        format!(
            "[[uplink]]\nname = \"cloud\"\nurl = \"mqtt://127.0.0.1:{port}\"\ntopics = [\"plant/#\"]\n\
             topic = \"tidegate/queues/bson\"\nbatch = {{ readings = 1, age = \"50ms\" }}\n\
             max-messages-per-second = 10\n{order}"
        )
    };
    let live_first = "replay = { order = \"live-first\", live-share = 0.9 }\n";
    plant.configure(&uplink(live_first));
    broker.stop();
    plant.gateway.start_again();
    plant.read(100);
    let waits_since = Instant::now();
    let first = plant.until("the start", |it| it["cloud.2"]["takes"] == false);
    assert_eq!(first["cloud"]["takes"], true);
    // Only what has waited for five seconds, and two ages of a batch, is a backlog.
    wait::until("a backlog", || (waits_since.elapsed() >= BACKLOG).then_some(()));
    broker.start_again();
    plant.until("the switch", |it| it["cloud.2"]["takes"] == true && it["cloud"]["takes"] == false);
    plant.read(10);
    plant.until("the live readings", |it| it["cloud.2"]["delivered"] == 10);
    let waiting = plant.uplinks();
    assert!(waiting["cloud"]["queued"].as_u64() > Some(0), "they overtook a backlog: {waiting}");
    plant.gateway.kill9();
    plant.gateway.start_again();
    let again = plant.uplinks();
    assert_eq!(again["cloud.2"]["takes"], true, "as the last run left it: {again}");
    plant.read(5);
    plant.until_delivered(["cloud", "cloud.2"]);
    cloud.ask("wait", json!({"count": 115}));
    // Another interruption: the backlog is in the second queue now, and stays there when the order is another.
    broker.stop();
    plant.until("the end of the connection", |it| it["cloud"]["connected"] == false);
    plant.read(20);
    plant.gateway.kill9();
    plant.configure(&uplink(""));
    plant.gateway.start_again();
    plant.read(5);
    let waiting = plant.uplinks();
    let queued = ["cloud", "cloud.2"].map(|name| waiting[name]["queued"].as_u64());
    assert_eq!(queued, [Some(5), Some(20)], "{waiting}");
    broker.start_again();
    plant.until_delivered(["cloud", "cloud.2"]);
    cloud.ask("wait", json!({"count": 140}));
    let report = cloud.ask("report", json!({}));
    assert_eq!((&report["holes"], &report["conflicts"]), (&json!(0), &json!([])), "{report}");
    // Nothing waits in it any more, so it is gone with the next start.
    plant.gateway.terminate();
    plant.gateway.start_again();
    assert_eq!(plant.uplinks()["cloud.2"], Value::Null);
}

/// uplink.28: while an uplink has no connection another takes what comes in, and steps back when it has one for good;
/// what waited waits for its own uplink. Nothing is lost, nothing comes twice.
#[test]
fn uplink_28_a_stand_in_takes_what_comes_in() {
    let mut primary = Mosquitto::start();
    let spare = Mosquitto::start();
    let (mut cloud, mut other) = (cloud(&primary), cloud(&spare));
    let mut plant = Plant::prepare();
    plant.configure(&format!(
        "[[uplink]]\nname = \"cloud\"\nurl = \"mqtt://127.0.0.1:{}\"\ntopics = [\"plant/#\"]\n\
         topic = \"tidegate/queues/bson\"\nbatch = {{ readings = 1 }}\n\
         [[uplink]]\nname = \"spare\"\nurl = \"mqtt://127.0.0.1:{}\"\n\
         stand-in = {{ for = \"cloud\", after = \"1s\", back-after = \"2s\" }}\n\
         topic = \"tidegate/queues/bson\"\nbatch = {{ readings = 1 }}\n",
        primary.port(),
        spare.port()
    ));
    plant.gateway.start_again();
    plant.read(10);
    cloud.ask("wait", json!({"count": 10}));
    assert_eq!(plant.uplinks()["spare"]["received"], 0);
    primary.stop();
    plant.until("the end of the connection", |it| it["cloud"]["connected"] == false);
    plant.read(3);
    plant.until("the stand-in", |it| it["spare"]["takes"] == true);
    let waiting = plant.uplinks()["cloud"]["queued"].clone();
    plant.read(20);
    other.ask("wait", json!({"count": 20}));
    assert_eq!(plant.uplinks()["cloud"]["queued"], waiting, "what waited waits for its own uplink");
    primary.start_again();
    plant.until("the return", |it| it["cloud"]["takes"] == true && it["spare"]["takes"] == false);
    plant.read(7);
    plant.until_delivered(["cloud", "spare"]);
    for (peer, count) in [(&mut cloud, 20), (&mut other, 20)] {
        peer.ask("wait", json!({"count": count}));
        let report = peer.ask("report", json!({}));
        assert_eq!((&report["readings"], &report["duplicates"]), (&json!(count), &json!(0)));
        assert_eq!(report["holes"], 0);
    }
}
