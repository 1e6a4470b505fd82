//! identity.23: certificates and keys swapped under many connections and a running uplink.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{
    authority::{self, Authority},
    crowd::Crowds,
    gateway::Gateway,
    mosquitto::{Mosquitto, Options},
    peer::Peer,
    ports, programs,
    rules::Rules,
    site::Site,
    wait,
};

const CONNECTIONS: usize = 500;
const MAPPING: &str =
    "[[http]]\npath = \"/ingest/{press}\"\ntopic = \"hall1/{press}/count\"\npayload = \"text\"\n";

/// The cloud's broker, with a listener that wants certificates, and what it has received.
struct Cloud {
    broker: Mosquitto,
    receiver: Peer,
    port: u16,
}

impl Cloud {
    fn start(authority: &Authority, folder: &std::path::Path) -> Self {
        let port = ports::free_port();
        let ca = authority::write(folder, "cloud-ca.pem", &authority.pem());
        let [cert, key] = authority.issue("cloud", 11).write(folder, "cloud");
        let more = format!(
            "listener {port} 127.0.0.1\ncafile {ca}\ncertfile {cert}\nkeyfile {key}\n\
             require_certificate true\nuse_identity_as_username true\n"
        );
        let broker = Mosquitto::start_with(Options { persistent: true, more: &more, login: None });
        let plain = broker.port().to_string();
        let topics = ["--topic", "tidegate/+/bson", "--topic", "tidegate/+/bson.z"];
        let receiver = Peer::start("cloud.py", &[&["--port", &plain], &topics[..]].concat());
        Self { broker, receiver, port }
    }

    /// Returns the numbers that have arrived on a topic.
    fn numbers(&mut self, topic: &str) -> BTreeSet<u64> {
        let values = self.receiver.ask("values", json!({"topic": topic}));
        let values = values.as_array().expect("a list of values");
        values.iter().filter_map(Value::as_f64).map(|number| number as u64).collect()
    }
}

/// The gateway, its authority, and everybody who speaks with it.
struct Plant {
    gateway: Gateway,
    authority: Authority,
    cloud: Cloud,
    crowds: Crowds,
    mqtts: u16,
    token: String,
    http: u16,
}

impl Plant {
    fn start() -> Self {
        let [mqtts, http] = std::array::from_fn(|_| ports::free_port());
        let mut gateway = Gateway::prepare(&Site::new("", &[("presses.toml", MAPPING)]));
        let folder = gateway.folder().to_owned();
        let authority = Authority::new("plant");
        let cloud = Cloud::start(&authority, &folder);
        let config = format!(
            "[gateway]\nid = \"gw\"\ndata-dir = \"data\"\nmappings = [\"mappings/*.toml\"]\n\
             [mqtt]\nlisten = []\n[mqtt.tls]\nlisten = [\"127.0.0.1:{mqtts}\"]\ncert = \"server.pem\"\n\
             key = {{ file = \"server.key\" }}\n\
             [http]\nlisten = [\"127.0.0.1:{http}\"]\nanonymous = true\n\
             [[principal]]\nname = \"crowd\"\ntokens = {{ file = \"secrets/crowd.tokens\" }}\n\
             [[access]]\nprincipal = \"anonymous\"\npublish = [\"hall1/#\"]\nsubscribe = []\ncommand = []\n\
             [[uplink]]\nname = \"cloud\"\nurl = \"mqtts://127.0.0.1:{}\"\nca = \"cloud-ca.pem\"\ncert = \"gw.pem\"\n\
             key = {{ file = \"gw.key\" }}\ntopics = [\"hall1/#\"]\ntopic = \"tidegate/{{gateway}}/{{encoding}}\"\n\
             batch = {{ readings = 20, age = \"100ms\" }}\n",
            cloud.port
        );
        gateway.write("tidegate.toml", &config);
        authority.issue("gateway", 1).write(&folder, "server");
        authority.issue("gw", 21).write(&folder, "gw");
        authority::write(&folder, "ca.pem", &authority.pem());
        let secrets = folder.join("secrets").display().to_string();
        let said = programs::tidegate(&["token", "add", "crowd", "--secrets", &secrets]);
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        gateway.start_again();
        let token = said.stdout.trim().to_owned();
        let crowds = Crowds::start();
        Self { gateway, authority, cloud, crowds, mqtts, token, http }
    }

    /// Opens connections over TLS that log in, and returns the certificates that they were shown.
    fn gather(&mut self, name: &str, count: usize) -> Vec<Value> {
        let ca = self.gateway.folder().join("ca.pem").display().to_string();
        let options =
            json!({"tls": {"ca": ca}, "user": "crowd", "password": self.token, "client": name});
        self.crowds.gather(name, "mqtt", self.mqtts, count, options);
        let report = self.crowds.ready(name);
        assert_eq!(report["open"], count, "{report}");
        report["certificates"].as_array().expect("a list").clone()
    }

    /// Returns the certificate that a connection is shown which believes the authority in `ca.pem`, if it does.
    fn shown(&mut self) -> Option<Vec<Value>> {
        let ca = self.gateway.folder().join("ca.pem").display().to_string();
        self.crowds.gather("probe", "silent", self.mqtts, 1, json!({"tls": {"ca": ca}}));
        let report = self.crowds.ready("probe");
        let shown = report["certificates"].as_array().expect("a list").clone();
        (!shown.is_empty()).then_some(shown)
    }

    fn uplink(&self) -> Value {
        self.gateway.status(&[])["uplinks"]["cloud"].clone()
    }

    /// The ledger is balanced, and a walk through the journal counts the same.
    fn assert_books(&self) {
        let status = self.gateway.status(&["--audit"]);
        let books = &status["uplinks"]["cloud"];
        let found = (&books["balanced"], &books["audit"]["agrees"]);
        assert_eq!(found, (&json!(true), &json!(true)), "{books}");
    }

    /// Waits until a change of the files was looked at, and returns what is wrong with it, if anything.
    fn error(&self, is_wrong: bool) -> Option<String> {
        let error = || self.gateway.status(&[])["mapping"]["error"].as_str().map(str::to_owned);
        wait::until("the changed files to be looked at", || {
            let error = error();
            (error.is_some() == is_wrong).then_some(error)
        })
    }
}

/// identity.23, identity.1: nobody is disconnected, new clients see the new chain, the uplink goes on, nothing is lost;
/// a wrong pair keeps the old one and says so.
#[test]
fn identity_23_swapped_under_500_connections_and_an_uplink() {
    let mut plant = Plant::start();
    let folder = plant.gateway.folder().to_owned();
    let old = plant.gather("first", CONNECTIONS);
    assert_eq!(old.len(), 1, "one certificate for all");
    wait::until("the uplink", || (plant.uplink()["connected"] == true).then_some(()));
    let rules = Rules::note(&plant.gateway, None, &[&plant.token]);
    let mut sender = Peer::start("http_client.py", &[]);
    let url = format!("http://127.0.0.1:{}/ingest/press-7", plant.http);
    let series = json!({"name": "load", "count": 1_000_000, "method": "POST", "url": url});
    sender.ask("series", series);
    sender.ask("series_wait", json!({"name": "load", "acked": 20}));

    // The certificate without its key, then the key alone of another pair: both are wrong pairs.
    let second = plant.authority.issue("gateway", 2);
    let third = plant.authority.issue("gateway", 3);
    authority::write(&folder, "server.pem", &second.cert);
    let error = plant.error(true).expect("an error");
    assert!(error.contains("the private key does not belong to the certificate"), "{error}");
    authority::write(&folder, "server.key", &third.key);
    assert_eq!(plant.gather("wrong", 5), old, "the old pair is shown");
    assert!(plant.error(true).is_some());

    // The right one, and the uplink's own with it.
    plant.authority.issue("gw", 22).write(&folder, "gw");
    authority::write(&folder, "server.key", &second.key);
    assert_eq!(plant.error(false), None);
    let shown = plant.gather("second", 20);
    assert!(shown.len() == 1 && shown != old, "the new pair is shown: {shown:?}");
    let names = [("first", CONNECTIONS), ("wrong", 5), ("second", 20)];
    for (name, count) in names {
        assert_eq!(plant.crowds.ping(name), count as u64, "{name}: every connection answers");
        assert_eq!(plant.crowds.report(name)["ended"], 0, "{name}: no connection lost");
    }
    let uplink = plant.uplink();
    assert_eq!(
        (&uplink["connected"], &uplink["connections"]),
        (&json!(true), &json!(1)),
        "{uplink}"
    );

    // All of another authority, for listener and uplink; the cloud's broker learns of it with its restart.
    let other = Authority::new("successor");
    authority::write(&folder, "cloud-ca.pem", &other.pem());
    other.issue("cloud", 31).write(&folder, "cloud");
    other.issue("gw", 23).write(&folder, "gw");
    authority::write(&folder, "ca.pem", &other.pem());
    other.issue("gateway", 4).write(&folder, "server");
    let third = wait::until("the new chain", || plant.shown());
    assert!(third != shown && third != old);
    assert_eq!(plant.error(false), None);
    plant.cloud.broker.stop();
    plant.cloud.broker.start_again();
    wait::until("the uplink to be back, with the new chain", || {
        let uplink = plant.uplink();
        (uplink["connected"] == true && uplink["connections"] == 2).then_some(())
    });

    let state = sender.ask("series_stop", json!({"name": "load"}));
    let acked = state["acked"].as_array().expect("a list");
    let acked: BTreeSet<u64> = acked.iter().filter_map(Value::as_u64).collect();
    let received = wait::until("the last reading", || {
        let received = plant.cloud.numbers("hall1/press-7/count");
        acked.is_subset(&received).then_some(received)
    });
    println!("{} acknowledged, {} received", acked.len(), received.len());
    assert!(acked.len() > 100, "there was a load: {}", acked.len());
    plant.assert_books();
    assert_eq!(plant.crowds.ping("first"), CONNECTIONS as u64);
    for (name, _) in names {
        plant.crowds.leave(name);
    }
    drop(sender);
    rules.check(&plant.gateway);
}
