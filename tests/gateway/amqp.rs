//! Uplinks to RabbitMQ by AMQP 0.9.1 (uplink.26).

#![cfg(feature = "amqp")]

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use crate::links::{Plant, Proxy};
use crate::support::{
    authority::{self, Authority},
    gateway::Gateway,
    peer::Peer,
    ports, programs,
    rabbitmq::{LOGIN, RabbitMq},
    site::Site,
    wait,
    wire::{Hello, Wire},
};

/// An uplink rests up to a minute when a broker has been away for a while.
const RETURN: Duration = Duration::from_secs(150);

fn cloud(port: u16, more: &[&str]) -> Peer {
    let (name, password) = LOGIN;
    let port = port.to_string();
    let arguments = ["--port", &port, "--username", name, "--password", password];
    Peer::start("amqp_cloud.py", &[&arguments[..], more].concat())
}

/// Returns the table of an uplink that logs in.
fn uplink(name: &str, port: u16, more: &str) -> String {
    let (username, _) = LOGIN;
    format!(
        "name = \"{name}\"\nurl = \"amqp://127.0.0.1:{port}\"\nusername = \"{username}\"\n\
         password = {{ env = \"PASSWORD\" }}\n{more}"
    )
}

/// Prepares a gateway that knows the password.
fn plant(uplinks: &[&str]) -> Plant {
    let mut plant = Plant::prepare(uplinks);
    plant.gateway.set("PASSWORD", LOGIN.1);
    plant
}

#[track_caller]
fn until(plant: &Plant, name: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    let found = wait::within(RETURN, || Some(plant.uplink(name)).filter(&is));
    found.unwrap_or_else(|| panic!("waited for {what}: {}", plant.uplink(name)))
}

#[track_caller]
fn until_delivered(plant: &Plant, name: &str, count: u64) -> Value {
    until(plant, name, "all readings to be delivered", |uplink| uplink["delivered"] == count)
}

/// uplink.26: readings arrive exactly and in order, with the gateway killed, the broker killed, and a broker that has no
/// room; each message is persistent and says what it is.
#[test]
fn uplink_26_readings_reach_rabbitmq_exactly() {
    let mut broker = RabbitMq::start("", "[].", &[]);
    let mut cloud = cloud(broker.port(), &[]);
    cloud.ask("declare", json!({"queue": "readings", "bindings": [["amq.topic", "tidegate.*.*"]]}));
    let mut plant = plant(&[&uplink("cloud", broker.port(), "compress = \"zlib\"\n")]);
    plant.gateway.start_again();
    plant.read(30);
    plant.gateway.kill9();
    plant.gateway.start_again();
    plant.read(20);
    until_delivered(&plant, "cloud", 50);
    // What was confirmed survives the broker.
    broker.kill9();
    plant.read(20);
    until(&plant, "cloud", "the loss of the connection", |uplink| uplink["connected"] == false);
    broker.start_again();
    cloud.ask("consume", json!({"queue": "readings"}));
    until_delivered(&plant, "cloud", 70);
    // Without room it takes nothing for a while, which is told and costs nothing.
    let before = plant.uplink("cloud")["connections"].clone();
    broker.set_disk_full(true);
    plant.read(10);
    let held = until(&plant, "cloud", "the broker to hold it up", |uplink| {
        uplink["error"].as_str().is_some_and(|error| error.contains("takes nothing for now"))
    });
    plant.read(10);
    broker.set_disk_full(false);
    let uplink = until_delivered(&plant, "cloud", 90);
    assert_eq!(held["dead-letters"], 0, "{held}");
    assert_eq!((&uplink["connections"], &uplink["error"]), (&before, &Value::Null), "{uplink}");
    assert_eq!(uplink["balanced"], true, "{uplink}");
    cloud.ask("wait", json!({"count": 90}));
    let report = cloud.ask("report", json!({}));
    assert_eq!((&report["holes"], &report["conflicts"]), (&json!(0), &json!([])), "{report}");
    assert_eq!(report["backwards"], json!([]), "{report}");
    let messages = cloud.ask("messages", json!({}));
    for message in messages.as_array().unwrap() {
        assert_eq!(message["exchange"], "amq.topic");
        // `.` and `/` change places: words of the topic are words of the key.
        assert_eq!(message["key"], "tidegate.links.bson/z");
        assert_eq!(message["delivery_mode"], 2);
        assert_eq!(message["content_type"], "application/bson");
        assert_eq!(message["content_encoding"], "deflate");
        assert_eq!(message["app_id"], "tidegate");
        assert_eq!(message["message_id"].as_str().map(str::len), Some(64));
    }
}

/// uplink.26: what no queue takes is set aside with the reason and blocks nothing; a queue at its limit is tried again;
/// a wrong password, virtual host or exchange is told, and everything is kept.
#[test]
fn uplink_26_refusals_are_told_apart() {
    let broker = RabbitMq::start("", "[].", &[]);
    let port = broker.port();
    let mut cloud = cloud(port, &[]);
    // To the default exchange the topic is the name of a queue.
    let queue = "tidegate/links/bson";
    let limit = json!({"x-max-length": 1, "x-overflow": "reject-publish"});
    cloud.ask("declare", json!({"queue": queue, "arguments": limit}));
    let stranger = uplink("stranger", port, "").replace("PASSWORD", "WRONG");
    let elsewhere =
        uplink("elsewhere", port, "").replace(&format!(":{port}"), &format!(":{port}/no%2Fwhere"));
    let mut plant = plant(&[
        &uplink("full", port, "exchange = \"\"\n"),
        &uplink("unbound", port, "exchange = \"amq.direct\"\n"),
        &uplink("astray", port, "exchange = \"nowhere\"\n"),
        &stranger,
        &elsewhere,
    ]);
    plant.gateway.set("WRONG", "wr0ng");
    plant.gateway.start_again();
    plant.read(30);

    for (name, words) in [
        ("astray", "NOT_FOUND - no exchange 'nowhere' in vhost '/'"),
        ("stranger", "ACCESS_REFUSED - Login was refused"),
        ("elsewhere", "NOT_ALLOWED - vhost no/where not found"),
    ] {
        let told = until(&plant, name, words, |uplink| {
            uplink["error"].as_str().is_some_and(|error| error.contains(words))
        });
        assert_eq!((&told["queued"], &told["dead-letters"]), (&json!(30), &json!(0)), "{told}");
    }

    let unbound = until(&plant, "unbound", "dead letters", |it| it["queued"] == 0);
    let reason = "no queue takes it: 312 NO_ROUTE for the key `tidegate.links.bson` at the exchange `amq.direct`";
    assert_eq!(unbound["last-refusal"], reason, "{unbound}");
    assert_eq!(unbound["dropped"]["dead-letter"], 30, "{unbound}");
    cloud.ask(
        "declare",
        json!({"queue": "bound", "bindings": [["amq.direct", "tidegate.links.bson"]]}),
    );
    plant.read(10);
    let bound = until_delivered(&plant, "unbound", 10);
    assert_eq!(bound["balanced"], true, "{bound}");

    let full = until(&plant, "full", "the queue to be full", |uplink| {
        uplink["error"].as_str().is_some_and(|error| error.contains("the broker declines"))
    });
    assert_eq!(full["dead-letters"], 0, "{full}");
    cloud.ask("consume", json!({"queue": queue}));
    let emptied = until_delivered(&plant, "full", 40);
    assert_eq!((&emptied["dead-letters"], &emptied["balanced"]), (&json!(0), &json!(true)));
    cloud.ask("wait", json!({"count": 40}));
    let report = cloud.ask("report", json!({}));
    assert_eq!((&report["holes"], &report["conflicts"]), (&json!(0), &json!([])), "{report}");
}

/// uplink.26: of messages in one window those that no queue takes are set aside, and no others.
#[test]
fn uplink_26_what_is_returned_is_told_from_its_neighbours() {
    const EACH: u64 = 60;
    let mut broker = RabbitMq::start("", "[].", &[]);
    let mut cloud = cloud(broker.port(), &[]);
    cloud.ask("declare", json!({"queue": "even", "bindings": [["amq.direct", "plant.even"]]}));
    let http = ports::free_port();
    let config = format!(
        "[gateway]\nid = \"pairs\"\ndata-dir = \"data\"\n\
         [http]\nlisten = [\"127.0.0.1:{http}\"]\nanonymous = true\n\
         [[uplink]]\ntopics = [\"plant/#\"]\ntopic = \"{{topic}}\"\nformat = \"json\"\n\
         exchange = \"amq.direct\"\n{}",
        uplink("cloud", broker.port(), "")
    );
    let mut gateway = Gateway::prepare(&Site::new(&config, &[]));
    gateway.set("PASSWORD", LOGIN.1);
    gateway.start_again();
    // They are to go at once.
    broker.set_disk_full(true);
    for value in 0..2 * EACH {
        let topic = if value % 2 == 0 { "even" } else { "odd" };
        let url = format!("http://127.0.0.1:{http}/v1/topics/plant/{topic}");
        let (status, body) = programs::curl(&["-X", "POST", "--data", &value.to_string(), &url]);
        assert_eq!(status, 201, "{body}");
    }
    broker.set_disk_full(false);
    let uplink = wait::until("all to be answered", || {
        let uplink = gateway.status(&[])["uplinks"]["cloud"].clone();
        (uplink["received"] == 2 * EACH && uplink["queued"] == 0).then_some(uplink)
    });
    assert_eq!(
        (&uplink["delivered"], &uplink["dropped"]),
        (&json!(EACH), &json!({"dead-letter": EACH})),
        "{uplink}"
    );
    assert_eq!(uplink["balanced"], true, "{uplink}");
    assert_eq!(cloud.ask("waiting", json!({"queue": "even"})), EACH);
}

/// uplink.26: over TLS, with a certificate in place of a password.
#[test]
fn uplink_26_tls_and_who_shows_a_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("cloud");
    authority.issue("localhost", 1).write(folder.path(), "server");
    authority.issue(LOGIN.0, 2).write(folder.path(), "client");
    let file = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let (cert, key) = (file("server.pem"), file("server.key"));
    let (client, client_key, ca) = (file("client.pem"), file("client.key"), authority.pem());
    let tls = ports::free_port();
    let config = format!(
        "listeners.ssl.1 = 127.0.0.1:{tls}\n\
         ssl_options.cacertfile = {{folder}}/ca.pem\n\
         ssl_options.certfile = {{folder}}/server.pem\n\
         ssl_options.keyfile = {{folder}}/server.key\n\
         ssl_options.verify = verify_peer\n\
         ssl_options.fail_if_no_peer_cert = true\n\
         auth_mechanisms.1 = PLAIN\n\
         auth_mechanisms.2 = EXTERNAL\n\
         ssl_cert_login_from = common_name\n"
    );
    let files = [("ca.pem", ca.as_str()), ("server.pem", &cert), ("server.key", &key)];
    let broker = RabbitMq::start(&config, "[rabbitmq_auth_mechanism_ssl].", &files);
    let mut cloud = cloud(broker.port(), &[]);
    cloud.ask("declare", json!({"queue": "readings", "bindings": [["amq.topic", "#"]]}));
    cloud.ask("consume", json!({"queue": "readings"}));
    let by_certificate = format!(
        "name = \"cloud\"\nurl = \"amqps://localhost:{tls}\"\nca = \"ca.pem\"\n\
         cert = \"client.pem\"\nkey = {{ file = \"client.key\" }}\n"
    );
    let mut plant = plant(&[&by_certificate]);
    for (name, text) in [("ca.pem", &ca), ("client.pem", &client), ("client.key", &client_key)] {
        authority::write(plant.gateway.folder(), name, text);
    }
    plant.gateway.start_again();
    plant.read(20);
    let uplink = until_delivered(&plant, "cloud", 20);
    assert_eq!(uplink["error"], Value::Null, "{uplink}");
    cloud.ask("wait", json!({"count": 20}));
}

/// A gateway whose commands come out of a queue, and somebody here who carries them out.
struct Hall {
    gateway: Gateway,
    mqtt: u16,
    http: u16,
}

const QUEUE: &str = "plant-commands";
/// Who may publish, and nothing else.
const WRITER: (&str, &str) = ("writer", "wr1te");
/// Where commands for the set-point come from.
const KEY: &str = "tidegate.plant.cmd.hall1.setpoint";

impl Hall {
    fn start(uplinks: &str) -> Self {
        let [mqtt, http] = [ports::free_port(), ports::free_port()];
        let config = format!(
            "[gateway]\nid = \"plant\"\ndata-dir = \"data\"\n\
             [mqtt]\nlisten = [\"127.0.0.1:{mqtt}\"]\nanonymous = true\n\
             [http]\nlisten = [\"127.0.0.1:{http}\"]\nanonymous = true\n{uplinks}"
        );
        let mut gateway = Gateway::prepare(&Site::new(&config, &[]));
        gateway.set("PASSWORD", LOGIN.1);
        gateway.set("WRITER", WRITER.1);
        gateway.start_again();
        Self { gateway, mqtt, http }
    }

    fn uplink(&self, name: &str) -> Value {
        self.gateway.status(&[])["uplinks"][name].clone()
    }

    #[track_caller]
    fn until(&self, name: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let found = wait::within(RETURN, || Some(self.uplink(name)).filter(&is));
        found.unwrap_or_else(|| panic!("waited for {what}: {}", self.uplink(name)))
    }

    #[track_caller]
    fn until_told(&self, name: &str, words: &str) -> Value {
        let is_told = |error: &Value| error.as_str().is_some_and(|error| error.contains(words));
        self.until(name, words, |uplink| is_told(&uplink["error"]))
    }

    #[track_caller]
    fn read(&self, topic: &str, count: u64) {
        for value in 1..=count {
            let url = format!("http://127.0.0.1:{}/v1/topics/{topic}", self.http);
            let (status, body) =
                programs::curl(&["-X", "POST", "--data", &value.to_string(), &url]);
            assert_eq!(status, 201, "{body}");
        }
    }

    /// Connects somebody who takes every command for the set-point once, and none again.
    #[track_caller]
    fn operator(&self) -> Wire {
        let hello = Hello { client_id: "operator", ..Hello::default() };
        let (mut operator, _) = Wire::connect(self.mqtt, &hello);
        assert_eq!(operator.subscribe("hall1/setpoint/set", 0), 0);
        operator
    }
}

fn commands(name: &str, port: u16, queue: &str, more: &str) -> String {
    format!(
        "[[uplink]]\ntopics = [\"plant/#\"]\ntopic = \"tidegate/{{gateway}}/{{encoding}}\"\n\
         batch = {{ readings = 10, age = \"100ms\" }}\n\
         commands = \"tidegate/{{gateway}}/cmd/#\"\ncommands-queue = \"{queue}\"\n{}",
        uplink(name, port, more)
    )
}

/// Declares the queue of commands, whose refused messages go to another, and those for readings and outcomes.
fn declare_commands(cloud: &mut Peer) {
    let keys = json!([["amq.topic", "tidegate.plant.cmd.#"], ["amq.topic", "stray.#"]]);
    let refused = json!({"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "refused"});
    cloud.ask("declare", json!({"queue": "refused"}));
    cloud.ask("declare", json!({"queue": QUEUE, "bindings": keys, "arguments": refused}));
}

fn declare_answers(cloud: &mut Peer) {
    for (queue, key) in
        [("readings", "tidegate.plant.bson"), ("results", "tidegate.plant.result.#")]
    {
        cloud.ask("declare", json!({"queue": queue, "bindings": [["amq.topic", key]]}));
    }
}

/// Returns the outcomes that have come since this was asked last.
fn outcomes(cloud: &mut Peer) -> Vec<Value> {
    let taken = cloud.ask("empty", json!({"queue": "results"}));
    let taken = taken.as_array().expect("a list").iter().map(|it| {
        assert_eq!(it[0], "tidegate.plant.result.hall1.setpoint");
        serde_json::from_str(it[1].as_str().expect("a body")).expect("an outcome is JSON")
    });
    taken.collect()
}

/// uplink.26, uplink.30: the queue of commands is the site's: missing, it is told and waited for, while readings go up.
/// Each command is carried out once, whichever id it has; what is refused is rejected, told and counted.
#[test]
fn uplink_26_commands_come_out_of_a_queue_once() {
    let broker = RabbitMq::start("", "[].", &[]);
    let mut cloud = cloud(broker.port(), &[]);
    declare_answers(&mut cloud);
    let mut hall = Hall::start(&commands("cloud", broker.port(), "{gateway}-commands", ""));
    hall.until_told("cloud", "NOT_FOUND - no queue 'plant-commands' in vhost '/'");
    hall.read("plant/count", 20);
    let uplink = hall.until("cloud", "delivery", |uplink| uplink["delivered"] == 20);
    assert_eq!((&uplink["connected"], &uplink["connections"]), (&json!(true), &json!(1)));
    let mut operator = hall.operator();
    declare_commands(&mut cloud);
    hall.until("cloud", "the queue", |uplink| uplink["error"] == Value::Null);

    let publish = |cloud: &mut Peer, key: &str, body: Value, said: Value| {
        let mut asked = json!({"key": key, "bodies": [body]});
        asked.as_object_mut().unwrap().extend(said.as_object().unwrap().clone());
        cloud.ask("publish", asked);
    };
    let in_payload = json!(r#"{"value": 1, "id": "c-1"}"#);
    let nothing = json!({});
    for _ in 0..2 {
        publish(&mut cloud, KEY, in_payload.clone(), nothing.clone());
        publish(&mut cloud, KEY, json!("66.5"), json!({"message_id": "m-1"}));
        // What the payload says of its id holds.
        publish(&mut cloud, KEY, in_payload.clone(), json!({"message_id": "m-2"}));
    }
    let packed = json!({"message_id": "m-3", "deflated": true, "content_type": "application/json"});
    publish(&mut cloud, KEY, json!("\"packed\""), packed);
    // None of these is carried out.
    let elsewhere = "tidegate.plant.cmd.hall1.elsewhere";
    publish(&mut cloud, elsewhere, json!("1"), json!({"message_id": "m-1"}));
    publish(&mut cloud, KEY, json!(300 << 10), json!({"message_id": "m-large"}));
    publish(&mut cloud, KEY, json!(5 << 20), json!({"message_id": "m-huge"}));
    let long = format!(r#"{{"value": 1, "id": "{}"}}"#, "x".repeat(257));
    publish(&mut cloud, KEY, json!(long), nothing.clone());
    publish(&mut cloud, KEY, json!("1"), json!({"message_id": "\u{7}"}));
    publish(&mut cloud, KEY, json!("{"), nothing.clone());
    publish(&mut cloud, "stray.key", json!("1"), nothing.clone());
    publish(&mut cloud, KEY, json!("7"), json!({"message_id": "m-last"}));

    // Who takes commands here has them as they were sent, but not compressed.
    for expected in [r#"{"value": 1, "id": "c-1"}"#, "66.5", "\"packed\"", "7"] {
        let message = operator.expect_publish();
        let payload = operator.parse(&message).payload;
        assert!(payload.starts_with(expected), "{payload:?}, not {expected:?}");
    }
    let uplink = hall.until("cloud", "the refusals", |uplink| uplink["commands-refused"] == 7);
    assert_eq!((&uplink["error"], &uplink["connections"]), (&Value::Null, &json!(1)), "{uplink}");
    hall.until("cloud", "the outcomes to be told", |uplink| uplink["outcomes-waiting"] == 0);
    let taken = cloud.ask("empty", json!({"queue": "results"}));
    let taken = taken.as_array().unwrap().iter();
    let told: Vec<Value> =
        taken.map(|it| serde_json::from_str(it[1].as_str().unwrap()).unwrap()).collect();
    let of = |id: &str, outcome: &str| {
        told.iter().filter(|it| it["id"] == id && it["outcome"] == outcome).count()
    };
    let accepted = |id: &str| of(id, "accepted");
    // Of a repetition that comes while the first is under way there is one outcome.
    assert!((1..=4).contains(&accepted("c-1")) && (1..=2).contains(&accepted("m-1")), "{told:?}");
    assert_eq!(["m-2", "m-3", "m-last"].map(accepted), [0, 1, 1], "{told:?}");
    let refused = |words: &str| {
        let reason = |it: &Value| it["reason"].as_str().is_some_and(|it| it.contains(words));
        told.iter().filter(|it| it["outcome"] == "refused" && reason(it)).count()
    };
    assert_eq!(of("m-large", "refused"), 1, "{told:?}");
    assert_eq!(refused("5242880 bytes"), 1, "{told:?}");
    assert_eq!(refused("at most 262144 are allowed"), 2, "{told:?}");
    assert_eq!(refused("the id was used for another command"), 1, "{told:?}");
    assert_eq!(refused("a command id has 1 to 256 bytes"), 2, "{told:?}");
    assert_eq!(refused("the payload cannot be read"), 3, "{told:?}");
    hall.gateway.terminate();
    // Nothing was left without an answer.
    let left = [QUEUE, "refused"].map(|queue| cloud.ask("waiting", json!({"queue": queue})));
    assert_eq!(left, [json!(0), json!(7)]);
}

/// uplink.30: with the gateway killed while commands are under way, and with the broker killed, no command is carried out
/// twice, and each has an outcome.
#[test]
fn uplink_30_commands_survive_kills_without_coming_twice() {
    const EACH: usize = 150;
    let mut broker = RabbitMq::start("", "[].", &[]);
    let mut cloud = cloud(broker.port(), &[]);
    declare_answers(&mut cloud);
    declare_commands(&mut cloud);
    let mut hall = Hall::start(&commands("cloud", broker.port(), QUEUE, ""));
    let order = |cloud: &mut Peer, round: &str| {
        let body = |at| format!(r#"{{"value": {at}, "id": "{round}-{at}"}}"#);
        let bodies: Vec<String> = (0..EACH).map(body).collect();
        cloud.ask("publish", json!({"key": KEY, "bodies": bodies}));
    };
    let mut carried_out: BTreeMap<String, usize> = BTreeMap::new();
    let mut told: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let mut note = |operator: &mut Wire| {
        // Whatever has come until nothing comes for as long as this, or the end.
        while let Ok(Some(packet)) = operator.read(Duration::from_millis(500)) {
            *carried_out.entry(operator.parse(&packet).payload).or_default() += 1;
        }
    };
    // They wait for the gateway, which is killed when it has begun with them.
    hall.gateway.kill9();
    order(&mut cloud, "killed");
    for _ in 0..3 {
        hall.gateway.start_again();
        let mut operator = hall.operator();
        hall.until("cloud", "commands", |uplink| uplink["commands"].as_u64() > Some(0));
        hall.gateway.kill9();
        note(&mut operator);
    }
    // The broker keeps what was not acknowledged.
    order(&mut cloud, "broker");
    broker.kill9();
    hall.gateway.start_again();
    let mut operator = hall.operator();
    broker.start_again();
    wait::within(RETURN, || {
        note(&mut operator);
        for outcome in outcomes(&mut cloud) {
            let id = outcome["id"].as_str().expect("each has an id").to_owned();
            told.entry(id).or_default().push(outcome);
        }
        (told.len() == 2 * EACH).then_some(())
    });
    assert_eq!(told.len(), 2 * EACH, "{}", hall.uplink("cloud"));
    let twice: Vec<_> = carried_out.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    let last = carried_out.keys().filter(|body| body.contains("broker-")).count();
    assert_eq!(last, EACH, "nobody was away then");
    hall.gateway.terminate();
    let left = [QUEUE, "refused"].map(|queue| cloud.ask("waiting", json!({"queue": queue})));
    assert_eq!(left, [json!(0), json!(0)]);
}

/// uplink.26: what the broker says against a queue is told in its words and tried again, and disturbs no readings.
#[test]
fn uplink_26_what_is_wrong_with_a_queue_is_told() {
    let mut broker = RabbitMq::start("", "[].", &[]);
    let port = broker.port();
    broker.add_writer(WRITER, "amq\\\\.topic");
    let mut cloud = cloud(port, &[]);
    declare_answers(&mut cloud);
    cloud.ask("hold", json!({"queue": "taken"}));
    cloud.ask("declare", json!({"queue": "passing"}));
    cloud.ask("declare", json!({"queue": "closed"}));
    let barred = commands("barred", port, "closed", "").replace(LOGIN.0, WRITER.0);
    let uplinks = [
        commands("locked", port, "taken", ""),
        barred.replace("PASSWORD", "WRITER"),
        commands("deleted", port, "passing", ""),
    ];
    let hall = Hall::start(&uplinks.map(|uplink| uplink.replace("plant/#", "wait/#")).concat());
    hall.until_told("locked", "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue");
    hall.until_told("barred", "ACCESS_REFUSED - ");
    hall.until("deleted", "its subscription", |uplink| {
        uplink["connected"] == true && uplink["error"] == Value::Null
    });
    cloud.ask("delete", json!({"queue": "passing"}));
    hall.until_told("deleted", "`passing`");
    hall.read("wait/count", 10);
    for name in ["locked", "barred", "deleted"] {
        let uplink = hall.until(name, "delivery", |uplink| uplink["delivered"] == 10);
        assert_eq!((&uplink["connections"], &uplink["connected"]), (&json!(1), &json!(true)));
    }
    cloud.ask("declare", json!({"queue": "passing", "bindings": [["amq.topic", KEY]]}));
    hall.until("deleted", "the queue to be found again", |uplink| uplink["error"] == Value::Null);
    let mut operator = hall.operator();
    cloud.ask("publish", json!({"key": KEY, "bodies": ["1"], "message_id": "m-1"}));
    let message = operator.expect_publish();
    assert_eq!(operator.parse(&message).payload, "1");
}

/// uplink.1, uplink.26: uplinks that share a connection which the broker holds up wait with it, and send nothing again.
#[test]
fn uplink_26_passengers_of_a_blocked_connection_wait() {
    let mut broker = RabbitMq::start("", "[].", &[]);
    let mut cloud = cloud(broker.port(), &[]);
    cloud.ask("declare", json!({"queue": "readings", "bindings": [["amq.topic", "tidegate.#"]]}));
    cloud.ask("consume", json!({"queue": "readings"}));
    let carrier = format!(
        "[[uplink]]\ntopics = [\"plant/#\"]\ntopic = \"tidegate/plant/bson\"\nbatch = {{ readings = 1 }}\n{}",
        uplink("bulk", broker.port(), "")
    );
    let hall = Hall::start(&format!(
        "{carrier}[[uplink]]\nname = \"alarms\"\nvia = \"bulk\"\npriority = 10\ntopics = [\"alarm/#\"]\n\
         topic = \"tidegate/plant/bson\"\nbatch = {{ readings = 1 }}\n"
    ));
    hall.read("alarm/fire", 1);
    hall.until("alarms", "the first alarm", |uplink| uplink["delivered"] == 1);
    broker.set_disk_full(true);
    hall.read("alarm/fire", 30);
    let held = hall.until_told("alarms", "the broker takes nothing for now");
    assert_eq!((&held["connected"], &held["connections"]), (&json!(true), &json!(1)), "{held}");
    broker.set_disk_full(false);
    let alarms = hall.until("alarms", "all alarms", |uplink| uplink["delivered"] == 31);
    assert_eq!((&alarms["connections"], &alarms["error"]), (&json!(1), &Value::Null), "{alarms}");
    assert_eq!(alarms["balanced"], true, "{alarms}");
    cloud.ask("wait", json!({"count": 31}));
    let report = cloud.ask("report", json!({}));
    assert_eq!((&report["duplicates"], &report["holes"]), (&json!(0), &json!(0)), "{report}");
}

/// uplink.26: a batch that is larger than the broker takes is divided, a reading that is becomes a dead letter (406).
#[test]
fn uplink_26_what_is_larger_than_the_broker_takes() {
    let broker = RabbitMq::start("max_message_size = 8192\n", "[].", &[]);
    let mut cloud = cloud(broker.port(), &[]);
    cloud.ask("declare", json!({"queue": "readings", "bindings": [["amq.topic", "#"]]}));
    cloud.ask("consume", json!({"queue": "readings"}));
    let table = |name: &str, readings: u64| {
        let table = format!(
            "[[uplink]]\ntopics = [\"{name}/#\"]\ntopic = \"tidegate/plant/bson\"\n\
             batch = {{ readings = {readings}, age = \"20s\" }}\n"
        );
        table + &uplink(name, broker.port(), "")
    };
    let hall = Hall::start(&(table("pairs", 2) + &table("alone", 1)));
    let post = |topic: &str, text: String| {
        let url = format!("http://127.0.0.1:{}/v1/topics/{topic}", hall.http);
        let (status, body) = programs::curl(&["-X", "POST", "--data", &text, &url]);
        assert_eq!(status, 201, "{body}");
    };
    // Each of these would go alone.
    post("pairs/text", "a".repeat(6_000));
    post("pairs/text", "b".repeat(6_000));
    post("alone/text", "c".repeat(20_000));
    post("alone/text", "d".repeat(10));
    let pairs = hall.until("pairs", "the parts", |uplink| uplink["delivered"] == 2);
    let alone = hall.until("alone", "the end of both", |uplink| uplink["queued"] == 0);
    assert_eq!((&pairs["dropped"], &pairs["balanced"]), (&json!({}), &json!(true)), "{pairs}");
    assert_eq!(
        (&alone["delivered"], &alone["dropped"], &alone["balanced"]),
        (&json!(1), &json!({"dead-letter": 1}), &json!(true)),
        "{alone}"
    );
    let log = hall.gateway.output().to_string();
    assert!(log.contains("PRECONDITION_FAILED - message size"), "{log}");
    cloud.ask("wait", json!({"count": 3}));
}

/// uplink.26, uplink.32: through proxies of both kinds, with a login; commands come by them, too.
#[test]
fn uplink_26_through_proxies() {
    let broker = RabbitMq::start("", "[].", &[]);
    let mut cloud = cloud(broker.port(), &[]);
    declare_answers(&mut cloud);
    let proxies = [Proxy::http(broker.port()), Proxy::socks()];
    let uplinks: String = ["http", "socks"]
        .into_iter()
        .zip(&proxies)
        .map(|(name, proxy)| {
            let binding = format!("tidegate.plant.cmd.{name}.#");
            cloud.ask("declare", json!({"queue": name, "bindings": [["amq.topic", binding]]}));
            let way = format!(
                "proxy = {{ url = \"{}\", username = \"gw\", password = {{ env = \"PASSWORD\" }} }}\n",
                proxy.url
            );
            commands(name, broker.port(), name, &way)
        })
        .collect();
    let hall = Hall::start(&uplinks);
    hall.read("plant/count", 20);
    let (mut operator, _) = Wire::connect(hall.mqtt, &Hello::default());
    assert_eq!(operator.subscribe("+/setpoint/set", 0), 0);
    for name in ["http", "socks"] {
        let uplink = hall.until(name, "delivery", |uplink| uplink["delivered"] == 20);
        assert_eq!((&uplink["error"], &uplink["connections"]), (&Value::Null, &json!(1)));
        let key = format!("tidegate.plant.cmd.{name}.setpoint");
        cloud.ask("publish", json!({"key": key, "bodies": ["1"], "message_id": name}));
        let message = operator.expect_publish();
        assert_eq!(operator.parse(&message).topic, format!("{name}/setpoint/set"));
    }
    drop(proxies);
    hall.until("http", "the end of the proxy", |uplink| uplink["connected"] == false);
}

/// uplink.26, uplink.28: another broker steps in, and the first one again when that is gone; nothing is lost.
#[test]
fn uplink_28_another_rabbitmq_steps_in() {
    let [mut first, mut second] = [(); 2].map(|()| RabbitMq::start("", "[].", &[]));
    let mut clouds = [cloud(first.port(), &[]), cloud(second.port(), &[])];
    for cloud in &mut clouds {
        declare_answers(cloud);
        declare_commands(cloud);
        cloud.ask("consume", json!({"queue": "readings"}));
    }
    let backup = format!("[[uplink.backup]]\nurl = \"amqp://127.0.0.1:{}\"\n", second.port());
    let hall = Hall::start(&commands("cloud", first.port(), QUEUE, &backup));
    let mut operator = hall.operator();
    let mut at = |cloud: &mut Peer, port: u16, all: u64| {
        hall.read("plant/count", 20);
        let uplink = hall.until("cloud", "delivery", |uplink| uplink["delivered"] == all);
        assert_eq!(uplink["endpoint"], format!("127.0.0.1:{port}"), "{uplink}");
        assert_eq!(uplink["balanced"], true, "{uplink}");
        // The same id is known, whichever broker brings it.
        let said = json!({"key": KEY, "bodies": ["1"], "message_id": "m-1"});
        cloud.ask("publish", said);
        let other = json!({"key": KEY, "bodies": [all.to_string()], "message_id": all.to_string()});
        cloud.ask("publish", other);
        if all == 20 {
            assert_eq!(operator.expect_publish().body.last(), Some(&b'1'));
        }
        let message = operator.expect_publish();
        assert_eq!(operator.parse(&message).payload, all.to_string());
    };
    at(&mut clouds[0], first.port(), 20);
    first.kill9();
    at(&mut clouds[1], second.port(), 40);
    first.start_again();
    second.kill9();
    at(&mut clouds[0], first.port(), 60);
    clouds[0].ask("wait", json!({"count": 40}));
    second.start_again();
    clouds[1].ask("wait", json!({"count": 20, "timeout": 60}));
    for cloud in &mut clouds {
        assert_eq!(cloud.ask("report", json!({}))["conflicts"], json!([]));
    }
}
