//! A device of Astarte (uplink.22, uplink.42): from local clients to a realm that takes nothing that is not as it should be.

use std::fs;

use serde_json::{Value, json};

use crate::support::{gateway::Gateway, peer::Peer, ports, site::Site, wait};

const SECRET: &str = "s3cret-of-the-device";
const INTERFACES: [(&str, &str, &str, &str); 5] = [
    (
        "Press",
        "datastream",
        "device",
        r#"{"endpoint":"/%{press}/temperature","type":"double","reliability":"guaranteed","explicit_timestamp":true}"#,
    ),
    ("Fast", "datastream", "device", r#"{"endpoint":"/%{press}/count","type":"longinteger"}"#),
    (
        "Env",
        "object",
        "device",
        r#"{"endpoint":"/%{press}/t","type":"double","reliability":"unique","required":true},{"endpoint":"/%{press}/h","type":"double","reliability":"unique","required":true}"#,
    ),
    (
        "Config",
        "properties",
        "device",
        r#"{"endpoint":"/%{press}/mode","type":"string","allow_unset":true}"#,
    ),
    (
        "Setpoint",
        "properties",
        "server",
        r#"{"endpoint":"/%{press}/pressure","type":"double","allow_unset":true}"#,
    ),
];

/// A gateway that is a device, its realm, and a local client.
struct Plant {
    gateway: Gateway,
    realm: Peer,
    client: Peer,
}

impl Plant {
    /// Starts all of them; `prepare` may change the realm before the gateway comes.
    #[track_caller]
    fn start(prepare: impl FnOnce(&mut Peer)) -> Self {
        let mut gateway = Gateway::prepare(&Site::new("", &[]));
        for (name, kind, owner, mappings) in INTERFACES {
            let kind = match kind {
                "object" => r#""datastream","aggregation":"object""#.to_owned(),
                kind => format!("\"{kind}\""),
            };
            let text = format!(
                r#"{{"interface_name":"org.example.{name}","version_major":1,"version_minor":0,"type":{kind},"ownership":"{owner}","mappings":[{mappings}]}}"#
            );
            gateway.write(&format!("interfaces/{name}.json"), &text);
        }
        let folder = gateway.folder().join("realm");
        fs::create_dir(&folder).expect("a temporary folder takes folders");
        let (folder, interfaces) = (folder.display(), gateway.folder().join("interfaces"));
        let arguments = [
            "--folder",
            &folder.to_string(),
            "--interfaces",
            &interfaces.display().to_string(),
            "--secret",
            SECRET,
        ];
        let mut realm = Peer::start("astarte_realm.py", &arguments);
        prepare(&mut realm);
        let mqtt = ports::free_port();
        let pairing = &realm.facts()["pairing"];
        gateway.write("tidegate.toml", &config(mqtt, pairing));
        gateway.set("ASTARTE_SECRET", SECRET);
        gateway.start_again();
        let mut client = Peer::start("mqtt_client.py", &[]);
        let options = json!({"host": "127.0.0.1", "port": mqtt, "version": 5, "reconnect": true});
        assert_eq!(client.ask("connect", options)["reason"], 0);
        Self { gateway, realm, client }
    }

    #[track_caller]
    fn publish(&mut self, topic: &str, payload: impl std::fmt::Display) {
        let publish = json!({"topic": topic, "payload": payload.to_string(), "qos": 1});
        assert_eq!(self.client.ask("publish", publish), 0, "{topic}");
    }

    fn report(&mut self) -> Value {
        self.realm.ask("report", json!({}))
    }

    /// Waits until the realm says of itself what is wanted.
    #[track_caller]
    fn wait(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let found = wait::within(wait::DEADLINE, || Some(self.report()).filter(|it| wanted(it)));
        found.unwrap_or_else(|| panic!("{what}: {:#}\n{}", self.report(), self.gateway.output()))
    }

    /// Returns what has arrived of an interface at a path, without repetitions, in order.
    fn values(&mut self, interface: &str, path: &str) -> Vec<Value> {
        let all = self.realm.ask("wait", json!({"count": 0}));
        let all = all.as_array().expect("a list");
        let own = all.iter().filter(|it| it["interface"] == interface && it["path"] == path);
        let mut found: Vec<Value> = Vec::new();
        for value in own.map(|it| it["v"].clone()) {
            if !found.contains(&value) {
                found.push(value);
            }
        }
        found
    }

    #[track_caller]
    fn settled(&mut self) -> Value {
        wait::until("everything to be settled", || {
            let uplink = self.gateway.status(&[])["uplinks"]["realm"].clone();
            (uplink["queued"] == 0).then_some(uplink)
        })
    }
}

fn config(mqtt: u16, pairing: &Value) -> String {
    let way = |kind: &str, topic: &str, interface: &str, path: &str| {
        format!(
            "[[uplink.astarte.{kind}]]\ntopic = \"{topic}\"\ninterface = \"org.example.{interface}\"\npath = \"{path}\"\n"
        )
    };
    let ways = [
        way("map", "hall1/{press}/temperature", "Press", "/{press}/temperature"),
        way("map", "hall1/{press}/count", "Fast", "/{press}/count"),
        way("map", "hall1/{press}/env", "Env", "/{press}"),
        way("map", "hall1/{press}/mode", "Config", "/{press}/mode"),
        way("command", "hall1/{press}/pressure", "Setpoint", "/{press}/pressure"),
    ];
    format!(
        "[gateway]\nid = \"gw\"\ndata-dir = \"data\"\n\
         [mqtt]\nlisten = [\"127.0.0.1:{mqtt}\"]\nanonymous = true\n\
         [[uplink]]\nname = \"realm\"\nformat = \"astarte\"\nkeep-alive = \"5s\"\n\
         [uplink.astarte]\nrealm = \"test\"\ndevice = \"V_zv6ThCCtXWveQ8mPjsKg\"\n\
         pairing = \"https://127.0.0.1:{pairing}/pairing\"\nsecret = {{ env = \"ASTARTE_SECRET\" }}\n\
         ca = \"realm/ca.pem\"\ninterfaces = \"interfaces\"\n{}",
        ways.concat()
    )
}

/// uplink.22: each quality of service, objects and times; nothing that was acknowledged to a client is lost over a kill
/// while nothing is answered, and nothing that the realm does not take leaves the gateway.
#[test]
fn uplink_22_readings_arrive_as_the_interfaces_say() {
    let mut plant = Plant::start(|_| {});
    let begun = plant.wait("a connection", |it| it["connected"] == true);
    let order = [
        "CONNECT new",
        "SUBSCRIBE /control/consumer/properties",
        "SUBSCRIBE /org.example.Setpoint/#",
        "PUBLISH ",
        "PUBLISH /control/emptyCache",
        "PUBLISH /control/producer/properties",
    ];
    plant.wait("the handshake", |it| it["log"] == json!(order));
    assert_eq!(begun["certificates"], 1);
    for number in 0..20_u32 {
        if number == 10 {
            plant.realm.ask("change", json!({"hold": true}));
        }
        plant.publish("hall1/p1/count", number);
        plant.publish("hall1/p1/env", format!(r#"{{"t":{number}.5,"h":40.25}}"#));
        let time = format!("2026-03-01T12:00:{number:02}.000Z");
        plant.publish(
            "hall1/p1/temperature",
            format!(r#"{{"value":{number}.25,"time":"{time}","quality":"good"}}"#),
        );
        if number == 15 {
            // What is on its way is heard by the realm, and no word of that comes back.
            plant.wait("values without an answer", |it| it["values"].as_u64() > Some(33));
            plant.gateway.kill9();
            plant.realm.ask("change", json!({"hold": false}));
            plant.gateway.start_again();
            let connected = wait::within(wait::DEADLINE, || {
                (plant.client.ask("state", json!({}))["connections"] == 2).then_some(())
            });
            connected.expect("the client comes back");
        }
    }
    // Those can never go.
    plant.publish("hall1/p1/temperature", "\"warm\"");
    plant.publish("hall1/p1/env", r#"{"t":1.5}"#);
    let uplink = plant.settled();
    assert_eq!((&uplink["received"], &uplink["delivered"]), (&json!(62), &json!(60)), "{uplink}");
    assert_eq!(uplink["dropped"]["dead-letter"], 2, "{uplink}");
    let numbers: Vec<Value> = (0..20).map(|number| json!(number)).collect();
    assert_eq!(plant.values("org.example.Fast", "/p1/count"), numbers);
    let quarters: Vec<Value> = (0..20).map(|number| json!(f64::from(number) + 0.25)).collect();
    assert_eq!(plant.values("org.example.Press", "/p1/temperature"), quarters);
    let objects: Vec<Value> =
        (0..20).map(|number| json!({"t": f64::from(number) + 0.5, "h": 40.25})).collect();
    assert_eq!(plant.values("org.example.Env", "/p1"), objects);
    let report = plant.report();
    assert_eq!(report["errors"], json!([]));
    assert_eq!(report["certificates"], 1, "a certificate that is good is kept over a restart");
    // The realm had the session, and nothing was to be said twice.
    let log = report["log"].as_array().unwrap();
    assert!(log.len() > 6 && log[6..].iter().all(|it| it == "CONNECT present"), "{log:?}");
    let values = plant.realm.ask("wait", json!({"count": 0}));
    let stamped = values.as_array().unwrap().iter().find(|it| it["v"] == json!(3.25)).unwrap();
    assert_eq!(stamped["t"], 1_772_366_403_000_u64);
}

/// uplink.22: properties of the device are told again when the far side has forgotten; those of the server become
/// commands, once each, and an unset is one, too, also when only a purge tells of it.
#[test]
fn uplink_22_properties_go_both_ways() {
    let mut plant = Plant::start(|realm| {
        let set =
            json!({"interface": "org.example.Setpoint", "path": "/p1/pressure", "value": 42.5});
        realm.ask("set", set);
    });
    plant.client.ask("subscribe", json!({"filters": [["hall1/+/pressure/set", 1]]}));
    plant.publish("hall1/p1/mode", "\"auto\"");
    plant.publish("hall1/p2/mode", "\"off\"");
    plant.settled();
    plant.publish("hall1/p2/mode", "\"off\"");
    let two = json!({"org.example.Config/p1/mode": "auto", "org.example.Config/p2/mode": "off"});
    plant.wait("both properties", |it| it["properties"] == two);
    plant.publish("hall1/p2/mode", r#"{"value":null,"quality":"good"}"#);
    let one = json!({"org.example.Config/p1/mode": "auto"});
    plant.wait("one to be unset", |it| it["properties"] == one);
    plant.settled();
    let modes = plant.values("org.example.Config", "/p2/mode");
    assert_eq!(modes, [json!("off"), json!(null)]);
    assert_eq!(plant.report()["values"], 3, "what is unchanged is not said again");

    // All that the far side knew is gone.
    plant.realm.ask("drop", json!({"forget": true}));
    let report = plant.wait("another handshake", |it| {
        let log = it["log"].as_array().unwrap();
        log.iter().filter(|it| **it == "CONNECT new").count() == 2
            && log.last().unwrap() == "PUBLISH /org.example.Config/p1/mode"
    });
    assert_eq!((&report["properties"], &report["errors"]), (&one, &json!([])));

    plant.publish("hall1/p9/mode", "\"x\"");
    let set = |value: f64| json!({"interface": "org.example.Setpoint", "path": "/p1/pressure", "value": value});
    plant.realm.ask("set", set(43.5));
    let got = |plant: &mut Plant, count: usize| {
        let messages = plant.client.ask("messages", json!({"count": count}));
        let payloads = messages.as_array().unwrap().iter();
        payloads.map(|it| it["payload"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    wait::until("the second command", || {
        got(&mut plant, 1).iter().any(|it| it.contains("43.5")).then_some(())
    });
    // It is told again by every handshake, and carried out once.
    plant.realm.ask("drop", json!({"forget": true}));
    plant.wait("a third handshake", |it| {
        let log = it["log"].as_array().unwrap();
        log.iter().filter(|it| **it == "CONNECT new").count() == 3
            && log.last().unwrap() == "PUBLISH /org.example.Config/p9/mode"
    });
    plant.realm.ask("unset", json!({"interface": "org.example.Setpoint", "path": "/p1/pressure"}));
    wait::until("the unset", || {
        got(&mut plant, 1).iter().any(|it| it.contains("null")).then_some(())
    });
    let all = got(&mut plant, 1);
    let after: Vec<&String> = all.iter().filter(|it| it.contains("43.5")).collect();
    assert_eq!(after.len(), 1, "{all:?}");
    plant.realm.ask("set", set(44.5));
    wait::until("another", || {
        got(&mut plant, 1).iter().any(|it| it.contains("44.5")).then_some(())
    });
    // Taken back while there is no session: only the purge list tells of it.
    let nulls = |all: &[String]| all.iter().filter(|it| it.contains("null")).count();
    assert_eq!(nulls(&got(&mut plant, 1)), 1);
    let quietly =
        json!({"interface": "org.example.Setpoint", "path": "/p1/pressure", "quietly": true});
    plant.realm.ask("unset", quietly);
    plant.realm.ask("drop", json!({"forget": true}));
    wait::until("the purge", || (nulls(&got(&mut plant, 1)) == 2).then_some(()));
    assert_eq!(plant.report()["errors"], json!([]));
}

/// uplink.22: thousands of commands at once are all taken and answered for, on one connection.
#[test]
fn uplink_22_many_commands_at_once_are_all_answered_for() {
    const COMMANDS: u32 = 1_500;
    let mut plant = Plant::start(|_| {});
    plant.client.ask("subscribe", json!({"filters": [["hall1/+/pressure/set", 0]]}));
    plant.wait("a connection", |it| it["connected"] == true);
    plant.realm.ask("change", json!({"window": 0}));
    for number in 0..COMMANDS {
        let path = format!("/p{number}/pressure");
        let set = json!({"interface": "org.example.Setpoint", "path": path, "value": 1.5});
        plant.realm.ask("set", set);
    }
    plant.realm.ask("change", json!({"window": 65_535}));
    let report = plant.wait("all of them to be answered for", |it| it["waiting"] == 0);
    assert_eq!((&report["connections"], &report["errors"]), (&json!(1), &json!([])));
    let uplink = plant.gateway.status(&[])["uplinks"]["realm"].clone();
    assert_eq!(uplink["commands"], COMMANDS, "{uplink}");
}

/// uplink.22: attempts that do not come as far as CONNECT cost nothing: the session goes on as it was, and nobody is asked
/// where the broker is.
#[test]
fn uplink_22_attempts_that_fail_cost_nothing() {
    let mut plant = Plant::start(|_| {});
    plant.publish("hall1/p1/mode", "\"auto\"");
    let begun = plant.wait("the handshake", |it| it["values"] == 1);
    plant.settled();
    plant.realm.ask("listen", json!({"how": "deaf"}));
    plant.realm.ask("drop", json!({}));
    plant.wait("two attempts", |it| it["turned_away"].as_u64() >= Some(2));
    plant.realm.ask("listen", json!({}));
    plant.publish("hall1/p1/count", 7);
    let report = plant.wait("the value", |it| it["values"] == 2);
    let log = [begun["log"].as_array().unwrap().clone(), vec![json!("CONNECT present")]].concat();
    assert_eq!((&report["log"], &report["errors"]), (&json!(log), &json!([])));
    assert_eq!(report["requests"], begun["requests"]);
}

/// uplink.22: a property that the realm does not take, though the broker has, is found, told and counted, and costs no more
/// sessions; the others are there, and another value of it is sent.
#[test]
fn uplink_22_a_property_that_the_realm_refuses_is_set_aside() {
    let mut plant = Plant::start(|realm| {
        let refuses = json!(["org.example.Config/p2/mode", "bad"]);
        realm.ask("change", json!({"refuses": refuses}));
    });
    for (press, mode) in [("p1", "auto"), ("p2", "bad"), ("p3", "off")] {
        plant.publish(&format!("hall1/{press}/mode"), format!("\"{mode}\""));
    }
    let uplink = wait::until("the refusal to be told", || {
        let uplink = plant.gateway.status(&[])["uplinks"]["realm"].clone();
        (uplink["refused-late"] == 1).then_some(uplink)
    });
    let error = uplink["error"].as_str().unwrap_or_default();
    assert!(error.contains("org.example.Config/p2/mode"), "{uplink}");
    plant.settled();
    let begun = plant.wait("a connection", |it| it["connected"] == true);
    let two = json!({"org.example.Config/p1/mode": "auto", "org.example.Config/p3/mode": "off"});
    assert_eq!(begun["properties"], two);
    // The same once more never goes; another value does, over the same connection.
    plant.publish("hall1/p2/mode", "\"bad\"");
    plant.publish("hall1/p2/mode", "\"good\"");
    let report = plant
        .wait("the other value", |it| it["properties"]["org.example.Config/p2/mode"] == "good");
    assert_eq!(report["connections"], begun["connections"]);
    assert_eq!(report["errors"], begun["errors"]);
    assert_eq!(plant.settled()["dropped"]["dead-letter"], 1);
}

/// uplink.22: a certificate is asked for anew when the broker does not take it any more, when it ends and before it ends,
/// and not otherwise; nothing is lost meanwhile.
#[test]
fn uplink_22_certificates_are_renewed_when_they_must_be() {
    let mut plant = Plant::start(|_| {});
    plant.wait("a connection", |it| it["connected"] == true);
    plant.realm.ask("drop", json!({}));
    plant.wait("another", |it| it["connections"] == 2 && it["connected"] == true);
    assert_eq!(plant.report()["certificates"], 1);
    // Revoked: the broker closes, and the pairing service says why.
    plant.realm.ask("change", json!({"lifetime": 10}));
    plant.realm.ask("revoke", json!({}));
    plant.publish("hall1/p1/count", 1);
    plant.wait("a second certificate", |it| it["certificates"] == 2 && it["values"] == 1);
    // Soon to end: it is renewed while the connection lasts, and shown by one that the gateway chooses to make.
    let third = plant.wait("a third", |it| {
        it["certificates"] == 3 && it["connected"] == true && it["connections"] == 4
    });
    let log = third["log"].as_array().unwrap();
    assert_eq!(log[log.len() - 2..], ["DISCONNECT", "CONNECT present"], "{log:?}");
    // Ended while nobody was there: it is renewed before it is shown.
    plant.gateway.kill9();
    plant.wait("its end", |it| it["ended"] == true);
    plant.realm.ask("change", json!({"lifetime": 3600}));
    let before = plant.report()["certificates"].as_u64().unwrap();
    plant.gateway.start_again();
    let report = plant.wait("another", |it| {
        it["certificates"].as_u64() == Some(before + 1) && it["connected"] == true
    });
    assert_eq!(report["errors"], json!([]));
    let kept = plant.gateway.folder().join("data/astarte/realm/credentials.pem");
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!plant.gateway.output().to_string().contains(SECRET));
}

/// uplink.22: a certificate that could not be kept is not asked for, and one that is good for some time is shown although
/// no other can be had.
#[test]
fn uplink_22_a_certificate_is_asked_for_when_it_can_be_kept() {
    let mut plant = Plant::start(|realm| {
        realm.ask("change", json!({"lifetime": 3600}));
    });
    plant.wait("a connection", |it| it["connected"] == true);
    plant.gateway.kill9();
    let folder = plant.gateway.folder().join("data/astarte/realm");
    let (kept, in_the_way) = (folder.join("credentials.pem"), folder.join("credentials.pem.new"));
    fs::remove_file(&kept).expect("it is there");
    fs::create_dir(&in_the_way).expect("a temporary folder takes folders");
    plant.gateway.start_again();
    wait::until("the reason", || {
        let status = plant.gateway.status(&[]);
        let error = status["uplinks"]["realm"]["error"].as_str().map(str::to_owned);
        error.filter(|error| error.contains("credentials.pem.new"))
    });
    assert_eq!(plant.report()["certificates"], 1, "none is asked for in vain");
    fs::remove_dir(&in_the_way).expect("it is empty");
    plant.wait("a connection", |it| it["connected"] == true && it["certificates"] == 2);
    assert!(kept.exists());
}

/// uplink.22: what the pairing service refuses is told to whoever looks, and the secret to nobody, although the server
/// sends it back.
#[test]
fn uplink_22_a_refused_secret_is_told_and_not_shown() {
    let mut plant = Plant::start(|realm| {
        let answer = json!([401, {"errors": {"detail": format!("no device for Bearer {SECRET}")}}]);
        realm.ask("change", json!({"script": [answer]}));
    });
    let error = wait::until("the refusal", || {
        let status = plant.gateway.status(&[]);
        let error = status["uplinks"]["realm"]["error"].as_str().map(str::to_owned);
        error.filter(|error| error.contains("401"))
    });
    assert!(error.contains("no device for Bearer …"), "{error}");
    let report = plant.report();
    assert_eq!((&report["certificates"], &report["connections"]), (&json!(0), &json!(0)));
    let output = plant.gateway.output().to_string();
    assert!(output.contains("401") && !output.contains(SECRET), "{output}");
}
