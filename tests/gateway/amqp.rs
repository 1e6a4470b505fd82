//! Uplinks to RabbitMQ by AMQP 0.9.1 (uplink.26).

#![cfg(feature = "amqp")]

use std::time::Duration;

use serde_json::{Value, json};

use crate::links::Plant;
use crate::support::{
    authority::{self, Authority},
    gateway::Gateway,
    peer::Peer,
    ports, programs,
    rabbitmq::{LOGIN, RabbitMq},
    site::Site,
    wait,
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
