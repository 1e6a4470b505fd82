//! The local broker with real clients: paho in both versions, mosquitto's tools (main.7, main.8).

use serde_json::{Value, json};

use crate::support::{gateway::Gateway, peer::Peer, ports, site::Site};

/// A gateway that is a broker and nothing else.
pub(crate) struct Broker {
    pub(crate) gateway: Gateway,
    pub(crate) paho: Peer,
    pub(crate) port: u16,
}

impl Broker {
    pub(crate) fn start(more: &str) -> Self {
        let port = ports::free_port();
        let config = format!(
            "[gateway]\nid = \"broker\"\ndata-dir = \"data\"\n[mqtt]\nlisten = [\"127.0.0.1:{port}\"]\nanonymous = true\n{more}"
        );
        Self {
            gateway: Gateway::start(&Site::new(&config, &[])),
            paho: Peer::start("mqtt_client.py", &[]),
            port,
        }
    }

    /// Returns what status says of the broker.
    pub(crate) fn status(&self) -> Value {
        self.gateway.status(&[])["broker"].clone()
    }

    pub(crate) fn connect(&mut self, client: &str, version: u8, more: Value) -> Value {
        let mut options = json!({
            "client": client, "client_id": client, "host": "127.0.0.1", "port": self.port, "version": version,
        });
        merge(&mut options, more);
        self.paho.ask("connect", options)
    }

    /// Connects with a session that outlives the connection.
    pub(crate) fn connect_persistent(&mut self, client: &str, version: u8, clean: bool) -> Value {
        let properties =
            if version == 5 { json!({"SessionExpiryInterval": 3600}) } else { Value::Null };
        self.connect(client, version, json!({"clean": clean, "properties": properties}))
    }

    pub(crate) fn subscribe(&mut self, client: &str, filter: &str, qos: u8) -> Value {
        self.paho.ask("subscribe", json!({"client": client, "filters": [[filter, qos]]}))
    }

    pub(crate) fn publish(
        &mut self,
        client: &str,
        topic: &str,
        payload: &str,
        qos: u8,
        retain: bool,
    ) -> Value {
        let message = json!({"client": client, "topic": topic, "payload": payload, "qos": qos, "retain": retain});
        self.paho.ask("publish", message)
    }

    pub(crate) fn messages(&mut self, client: &str, count: usize) -> Vec<Value> {
        let messages =
            self.paho.ask("messages", json!({"client": client, "count": count, "take": true}));
        messages.as_array().expect("a list of messages").clone()
    }

    pub(crate) fn payloads(&mut self, client: &str, count: usize) -> Vec<String> {
        let payload = |message: &Value| message["payload"].as_str().expect("text").to_owned();
        self.messages(client, count).iter().map(payload).collect()
    }
}

fn merge(into: &mut Value, more: Value) {
    if let (Value::Object(into), Value::Object(more)) = (into, more) {
        into.extend(more.into_iter().filter(|(_, value)| !value.is_null()));
    }
}

/// main.7: every quality of service, between both versions, in order.
#[test]
fn main_07_messages_pass_at_every_quality_of_service() {
    let mut broker = Broker::start("");
    for (from, to) in [(4, 4), (4, 5), (5, 4), (5, 5)] {
        let (sender, receiver) = (format!("s{from}{to}"), format!("r{from}{to}"));
        broker.connect(&receiver, to, json!({}));
        broker.connect(&sender, from, json!({}));
        for qos in 0..=2_u8 {
            let topic = format!("q/{from}{to}/{qos}");
            assert_eq!(broker.subscribe(&receiver, &topic, qos), json!([qos]));
            for number in 0..5 {
                let reason = broker.publish(&sender, &topic, &number.to_string(), qos, false);
                assert_eq!(reason, json!(0), "version {from}, QoS {qos}");
            }
            assert_eq!(
                broker.payloads(&receiver, 5),
                ["0", "1", "2", "3", "4"],
                "{from} to {to}, QoS {qos}"
            );
        }
    }
}

/// main.7: a publication that nobody takes says so with MQTT 5 (0x10, promise D5).
#[test]
fn main_07_nobody_matches() {
    let mut broker = Broker::start("");
    broker.connect("a", 5, json!({}));
    assert_eq!(broker.publish("a", "nobody/here", "1", 1, false), json!(0x10));
}

/// main.7: retained messages, wildcards, and their removal.
#[test]
fn main_07_retained_messages_greet_new_subscribers() {
    let mut broker = Broker::start("");
    broker.connect("a", 5, json!({}));
    broker.publish("a", "hall1/one/t", "1", 1, true);
    broker.publish("a", "hall1/two/t", "2", 0, true);
    broker.publish("a", "hall2/three/t", "3", 1, true);
    broker.connect("b", 4, json!({}));
    broker.subscribe("b", "hall1/+/t", 1);
    let mut messages = broker.messages("b", 2);
    messages.sort_by_key(|message| message["topic"].to_string());
    let shown: Vec<_> = messages
        .iter()
        .map(|message| (message["payload"].clone(), message["retain"].clone()))
        .collect();
    assert_eq!(shown, [(json!("1"), json!(true)), (json!("2"), json!(true))]);
    broker.publish("a", "hall1/one/t", "", 1, true);
    broker.connect("c", 5, json!({}));
    broker.subscribe("c", "hall1/#", 1);
    assert_eq!(broker.payloads("c", 1), ["2"]);
}

/// main.7, D2, D6, D8, D10, D12: subscriptions, queue and retained messages are there after kill -9.
#[test]
fn main_07_sessions_survive_a_kill() {
    let mut broker = Broker::start("");
    for version in [4, 5] {
        let name = format!("p{version}");
        assert_eq!(
            broker.connect_persistent(&name, version, false)["session_present"],
            json!(false)
        );
        broker.subscribe(&name, &format!("work/{version}/#"), 1);
        broker.paho.ask("disconnect", json!({"client": name}));
    }
    broker.connect("s", 5, json!({}));
    for version in [4, 5] {
        for number in 0..3 {
            broker.publish("s", &format!("work/{version}/x"), &number.to_string(), 1, false);
        }
    }
    broker.publish("s", "kept", "yes", 1, true);
    broker.gateway.kill9();
    broker.gateway.start_again();
    for version in [4, 5] {
        let name = format!("p{version}");
        let connack = broker.connect_persistent(&name, version, false);
        assert_eq!(connack["session_present"], json!(true), "{connack}");
        assert_eq!(broker.payloads(&name, 3), ["0", "1", "2"]);
    }
    broker.connect("n", 5, json!({}));
    broker.subscribe("n", "kept", 1);
    assert_eq!(broker.payloads("n", 1), ["yes"]);
}

/// main.7: a will is published when the connection breaks, and not after a good-bye.
#[test]
fn main_07_wills() {
    let mut broker = Broker::start("");
    broker.connect("watcher", 5, json!({}));
    broker.subscribe("watcher", "gone/#", 1);
    for version in [4, 5] {
        let will = |topic: &str| json!({"will": {"topic": topic, "payload": "gone", "qos": 1}});
        broker.connect("polite", version, will("gone/polite"));
        broker.paho.ask("disconnect", json!({"client": "polite"}));
        broker.connect("rude", version, will("gone/rude"));
        broker.paho.ask("drop", json!({"client": "rude"}));
        let messages = broker.messages("watcher", 1);
        assert_eq!(messages.len(), 1);
        assert_eq!(messages[0]["topic"], "gone/rude");
    }
}

/// main.7: a second connection takes the session over; the first is told with MQTT 5 (0x8E).
#[test]
fn main_07_takeover() {
    let mut broker = Broker::start("");
    broker.connect("first", 5, json!({"client_id": "same"}));
    broker.connect("second", 5, json!({"client_id": "same"}));
    let mut state = Value::Null;
    crate::support::wait::until("the first connection is told", || {
        state = broker.paho.ask("state", json!({"client": "first"}));
        (!state["closed"].is_null()).then_some(())
    });
    assert_eq!(
        (&state["closed"]["reason"], &state["closed"]["by_server"]),
        (&json!(0x8E), &json!(true))
    );
    assert_eq!(broker.publish("second", "x", "1", 1, false), json!(0x10));
}

/// main.7: user properties, content type, response topic and correlation data pass unchanged.
#[test]
fn main_07_properties_pass() {
    let mut broker = Broker::start("");
    broker.connect("a", 5, json!({}));
    broker.subscribe("a", "t", 1);
    let properties = json!({
        "UserProperty": [["k", "1"], ["k", "2"]],
        "ContentType": "text/plain",
        "ResponseTopic": "answers/here",
        "CorrelationData": "00ff",
        "PayloadFormatIndicator": 1,
    });
    broker.paho.ask(
        "publish",
        json!({"client": "a", "topic": "t", "payload": "x", "qos": 1, "properties": properties}),
    );
    let messages = broker.messages("a", 1);
    assert_eq!(messages[0]["properties"], properties);
}

/// main.8: a named principal has what its entries give it, on subscribe and publish; wrong passwords are refused.
#[test]
fn main_08_rights_and_passwords() {
    let access = r#"
[[principal]]
name = "press-7"
password = { env = "PRESS_7_HASH" }
[[access]]
principal = "press-*"
publish = ["hall1/{principal}/#"]
subscribe = ["hall1/{principal}/+/set"]
[[access]]
principal = "anonymous"
subscribe = ["hall1/#"]
"#;
    let port = ports::free_port();
    let config = format!(
        "[gateway]\nid = \"broker\"\ndata-dir = \"data\"\n[mqtt]\nlisten = [\"127.0.0.1:{port}\"]\nanonymous = true\n{access}"
    );
    let mut gateway = Gateway::prepare(&Site::new(&config, &[]));
    gateway.set("PRESS_7_HASH", &tidegate::broker::hash_password(b"secret").unwrap());
    gateway.start_again();
    let mut broker = Broker { gateway, paho: Peer::start("mqtt_client.py", &[]), port };

    let wrong = broker.connect("x", 5, json!({"username": "press-7", "password": "guess"}));
    assert_eq!((&wrong["refused"], &wrong["reason"]), (&json!(true), &json!(0x86)));
    let unknown = broker.connect("x", 4, json!({"username": "press-8", "password": "secret"}));
    assert_eq!(unknown["refused"], json!(true));

    broker.connect("press", 5, json!({"username": "press-7", "password": "secret"}));
    broker.connect("anyone", 5, json!({}));
    assert_eq!(broker.subscribe("anyone", "#", 1), json!([0x87]), "wider than the grant");
    assert_eq!(broker.subscribe("anyone", "hall1/#", 1), json!([1]));
    assert_eq!(broker.subscribe("press", "hall1/press-8/x/set", 1), json!([0x87]));
    assert_eq!(broker.publish("press", "hall1/press-8/t", "1", 1, false), json!(0x87));
    assert_eq!(broker.publish("press", "hall1/press-7/t", "2", 1, false), json!(0));
    assert_eq!(broker.publish("anyone", "hall1/press-7/t", "3", 1, false), json!(0x87));
    assert_eq!(broker.payloads("anyone", 1), ["2"]);
}

/// main.7: what is larger than a client takes is left out (MQTT-3.1.2-25) and counted as dropped, not as delivered.
#[test]
fn main_07_what_is_too_large_for_a_client_is_counted() {
    let mut broker = Broker::start("");
    broker.connect("a", 5, json!({}));
    broker.connect("small", 5, json!({"properties": {"MaximumPacketSize": 64}}));
    for (qos, topic) in ["t/0", "t/1", "t/2"].into_iter().enumerate() {
        let qos = qos as u8;
        assert_eq!(broker.subscribe("small", topic, qos), json!([qos]));
        broker.publish("a", topic, &"x".repeat(100), qos, false);
        broker.publish("a", topic, "fits", qos, false);
    }
    assert_eq!(broker.payloads("small", 3), ["fits", "fits", "fits"]);
    let status = broker.gateway.status(&[]);
    let counts = &status["broker"];
    assert_eq!(
        (&counts["delivered"], &counts["dropped"]["too-large"], &counts["queued"]),
        (&json!(3), &json!(3), &json!(0)),
        "{counts}"
    );
}
