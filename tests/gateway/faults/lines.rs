//! An uplink behind a line on which the case says what goes wrong, connection by connection.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{
    chaos::{
        fate::Fate,
        proxy::{Chaos, Course},
    },
    gateway::Gateway,
    load::Acknowledged,
    mosquitto::Mosquitto,
    peer::Peer,
    ports,
    site::Site,
    wait,
    wire::{Hello, Wire},
};

/// Publications on their way to the gateway.
const WINDOW: usize = 50;

/// A gateway, the line, the broker behind it and what arrives there.
pub(super) struct Lines {
    pub(super) gateway: Gateway,
    pub(super) proxy: Chaos,
    pub(super) cloud: Peer,
    pub(super) mqtt: u16,
    /// Values that were acknowledged: all from 1 on.
    pub(super) last: u64,
    pub(super) broker: Mosquitto,
}

impl Lines {
    /// Starts all of it. `more` is the uplink's beside its address and topics.
    pub(super) fn start(fates: Vec<Fate>, ports: usize, more: &str) -> Self {
        let broker = Mosquitto::start();
        let proxy = Chaos::start(Course::Listed(fates), ports, broker.port());
        Self::start_behind(proxy, "mqtt://127.0.0.1", broker, more, |_| {})
    }

    /// As [`start`](Self::start) with a proxy of the case's own; `prepare` gets the gateway before it is started.
    pub(super) fn start_behind(
        proxy: Chaos,
        host: &str,
        broker: Mosquitto,
        more: &str,
        prepare: impl FnOnce(&Gateway),
    ) -> Self {
        let port = broker.port().to_string();
        let results = ["--topic", "tidegate/+/result/#"];
        let batches = ["--topic", "tidegate/+/bson", "--topic", "tidegate/+/bson.z"];
        let topics = [&["--version", "4"], &results[..], &batches].concat();
        let cloud = Peer::start("cloud.py", &[&["--port", &port], &topics[..]].concat());
        let mqtt = ports::free_port();
        let [first, others @ ..] = proxy.ports() else { panic!("a proxy has ports") };
        let mut config = format!(
            "[gateway]\nid = \"lines\"\ndata-dir = \"data\"\n\
             [mqtt]\nlisten = [\"127.0.0.1:{mqtt}\"]\nanonymous = true\n\
             [[uplink]]\nname = \"cloud\"\nurl = \"{host}:{first}\"\ntopics = [\"plant/#\"]\n\
             topic = \"tidegate/{{gateway}}/{{encoding}}\"\n{more}"
        );
        for port in others {
            config += &format!("[[uplink.backup]]\nurl = \"{host}:{port}\"\n");
        }
        let mut gateway = Gateway::prepare(&Site::new(&config, &[]));
        prepare(&gateway);
        gateway.start_again();
        Self { gateway, proxy, cloud, mqtt, last: 0, broker }
    }

    /// Hands in further readings on `plant/count`, each acknowledged.
    #[track_caller]
    pub(super) fn read(&mut self, count: u64) {
        let hello = Hello { client_id: "plant", ..Hello::default() };
        let (mut wire, _) = Wire::connect(self.mqtt, &hello);
        let values: Vec<u64> = (self.last + 1..=self.last + count).collect();
        for burst in values.chunks(WINDOW) {
            for (value, id) in burst.iter().zip(1..) {
                wire.send_publish("plant/count", &value.to_string(), 1, id);
            }
            for _ in burst {
                let answer = wire.expect(4);
                assert_eq!(answer.body.get(2).copied().unwrap_or(0), 0, "{answer:?}");
            }
        }
        self.last += count;
    }

    /// Returns what status says of the uplink.
    pub(super) fn uplink(&self) -> Value {
        self.gateway.status(&[])["uplinks"]["cloud"].clone()
    }

    /// Waits until status says so of the uplink, and returns all that it says.
    #[track_caller]
    pub(super) fn until(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let found = wait::within(wait::DEADLINE, || {
            last = self.uplink();
            is(&last).then_some(())
        });
        assert!(found.is_some(), "waited for {what}, and found {last}");
        last
    }

    /// Waits until nothing is queued, and asserts that every value of a load that was acknowledged has arrived, in order,
    /// and that the books balance; returns what the receiver's book says.
    #[track_caller]
    pub(super) fn assert_has(&mut self, acknowledged: &Acknowledged) -> Value {
        let uplink = self.until("the queue to be empty", |uplink| uplink["queued"] == 0);
        assert_eq!((&uplink["balanced"], &uplink["dead-letters"]), (&json!(true), &json!(0)));
        self.cloud.ask("wait", json!({"count": uplink["delivered"]}));
        for (topic, values) in acknowledged.iter() {
            let received = self.cloud.ask("values", json!({"topic": topic}));
            let received: BTreeSet<i64> =
                received.as_array().expect("a list").iter().filter_map(Value::as_i64).collect();
            let lost: Vec<&i64> = values.iter().filter(|value| !received.contains(value)).collect();
            assert!(lost.is_empty(), "{topic} lacks {lost:?}");
        }
        self.assert_book()
    }

    /// Waits until all values have arrived, and asserts that they came in order, under numbers without holes, and that the
    /// books balance; returns what the receiver's book says.
    #[track_caller]
    pub(super) fn assert_all_arrived(&mut self) -> Value {
        let last = self.last;
        let uplink = self.until("everything to be delivered", |uplink| uplink["delivered"] == last);
        assert_eq!((&uplink["balanced"], &uplink["dead-letters"]), (&json!(true), &json!(0)));
        self.cloud.ask("wait", json!({"count": last}));
        let values = self.cloud.ask("values", json!({"topic": "plant/count"}));
        let expected: Vec<u64> = (1..=last).collect();
        assert!(values == json!(expected), "each value once, by number: {values}");
        self.assert_book()
    }

    /// Nothing came out of order, differently the second time, or cannot be read, and no number is missing.
    #[track_caller]
    pub(super) fn assert_book(&mut self) -> Value {
        let report = self.cloud.ask("report", json!({}));
        for name in ["backwards", "conflicts", "malformed", "gaps"] {
            assert_eq!(report[name], json!([]), "{name}");
        }
        assert_eq!(report["holes"], 0, "{}", report["streams"]);
        report
    }
}
