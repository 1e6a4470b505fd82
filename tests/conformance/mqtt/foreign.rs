//! Clients of others, each through the same course: QoS 0, 1 and 2 both ways, retained, large, a session taken up again, a
//! will, and what MQTT 5 adds (broker.31).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use serde_json::json;

use super::client::{Client, Message};
use super::packets::{Publish, V3, V5, Version, prop};
use super::server::{server, unique};
use crate::support::{peer::Peer, programs, wait};

/// Topics of a course, behind its prefix, with QoS and size, as somebody sees them who has subscribed to all.
const SEEN: [(&str, u8, usize); 7] = [
    ("echo/0", 0, 5),
    ("echo/1", 1, 5),
    ("echo/2", 2, 5),
    ("echo/large", 1, 200_000),
    ("retained", 1, 4),
    ("kept", 1, 3),
    ("kept", 2, 6),
];

/// Somebody who has subscribed to all of a course.
struct Witness {
    client: Client,
    prefix: String,
}

impl Witness {
    fn new() -> Self {
        let prefix = unique("course");
        let mut client = Client::connect(V5);
        assert_eq!(client.subscribe(&format!("{prefix}/#"), 2), 2);
        Self { client, prefix }
    }

    /// Takes the next message that is not of the topic `many`.
    #[track_caller]
    fn next(&mut self) -> Message {
        loop {
            let message = self.client.take();
            if !message.topic.ends_with("/many") {
                return message;
            }
        }
    }

    /// Checks what has been published in a course, and that the will comes behind it.
    #[track_caller]
    fn judge(mut self, expected: &[(&str, u8, usize)]) {
        for (topic, qos, size) in expected {
            let message = self.next();
            let found = (message.topic, message.qos, message.payload.len());
            assert_eq!(found, (format!("{}/{topic}", self.prefix), *qos, *size));
        }
        let will = self.next();
        assert_eq!((will.topic, will.payload.as_str()), (format!("{}/will", self.prefix), "gone"));
        // The retained message is left to nobody.
        let retained = format!("{}/retained", self.prefix);
        Client::connect(V5).publish(&Publish::new(&retained, "").qos(1, 1).retain());
    }
}

fn level(version: Version) -> &'static str {
    if version == V3 { "4" } else { "5" }
}

fn peers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/peers")
}

#[track_caller]
fn run(command: &mut Command) {
    let output =
        command.output().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    let [said, complained] =
        [&output.stdout, &output.stderr].map(|stream| String::from_utf8_lossy(stream));
    assert!(output.status.success(), "{command:?}: {}\n{said}{complained}", output.status);
}

#[test]
fn broker_31_paho_c() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let program = folder.path().join("paho_course");
    let mut compiler = Command::new(programs::find("cc"));
    compiler.args(["-Wall", "-Werror", "-o"]).arg(&program);
    run(compiler.arg(peers().join("paho_course.c")).arg("-lpaho-mqtt3c"));
    for version in [V3, V5] {
        let witness = Witness::new();
        let port = server().port.to_string();
        run(Command::new(&program).args([&port, level(version), &witness.prefix]));
        witness.judge(&SEEN);
    }
}

#[test]
fn broker_31_mqtt_js() {
    let tcp = format!("mqtt://127.0.0.1:{}", server().port);
    let websocket =
        format!("ws://127.0.0.1:{}{}", server().websocket, super::server::WEBSOCKET_PATH);
    for (version, url) in [(V3, &tcp), (V5, &tcp), (V3, &websocket), (V5, &websocket)] {
        let witness = Witness::new();
        let mut node = Command::new(programs::find("node"));
        node.arg(peers().join("mqttjs_course.mjs")).arg(programs::javascript());
        run(node.args([url, level(version), &witness.prefix]));
        let echoes = |size| {
            ["echo/0", "echo/1", "echo/2"]
                .into_iter()
                .zip(0..)
                .map(move |(topic, qos)| (topic, qos, size))
        };
        let expected: Vec<_> =
            echoes(1).chain(echoes(2).take(2)).chain(SEEN[3..].iter().copied()).collect();
        witness.judge(&expected);
    }
}

#[test]
fn broker_31_paho_python() {
    for (version, number) in [(V3, 4), (V5, 5)] {
        let witness = Witness::new();
        let prefix = witness.prefix.clone();
        let mut paho = Peer::start("mqtt_client.py", &[]);
        let join = |paho: &mut Peer, name: &str, clean: bool| {
            let will = json!({"topic": format!("{prefix}/will"), "payload": "gone", "qos": 1});
            let expiry = json!({"SessionExpiryInterval": if clean { 0 } else { 60 }});
            let options = json!({
                "client": name, "client_id": format!("{prefix}/{name}"), "clean": clean,
                "host": "127.0.0.1", "port": server().port, "version": number,
                "will": if clean { will } else { json!(null) },
                "properties": if version == V5 { expiry } else { json!(null) },
            });
            paho.ask("connect", options)["session_present"] == true
        };
        let properties = if version == V5 {
            json!({"UserProperty": [["b", "2"], ["a", "1"]], "MessageExpiryInterval": 60})
        } else {
            json!(null)
        };
        let publish = |paho: &mut Peer, topic: &str, payload: &str, qos: u8, retain: bool| {
            let topic = format!("{prefix}/{topic}");
            let message = json!({"topic": topic, "payload": payload, "qos": qos, "retain": retain, "properties": properties});
            assert_eq!(paho.ask("publish", message), 0);
        };
        let subscribe = |paho: &mut Peer, client: &str, filter: &str| {
            let filters = json!([[format!("{prefix}/{filter}"), 2]]);
            let granted = paho.ask("subscribe", json!({"client": client, "filters": filters}));
            assert_eq!(granted, json!([2]));
        };
        assert!(!join(&mut paho, "main", true));
        subscribe(&mut paho, "main", "echo/#");
        for qos in 0..=2 {
            publish(&mut paho, &format!("echo/{qos}"), "hello", qos, false);
        }
        publish(&mut paho, "echo/large", &"x".repeat(200_000), 1, false);
        publish(&mut paho, "retained", "kept", 1, true);
        subscribe(&mut paho, "main", "retained");
        let messages = paho.ask("messages", json!({"count": 5}));
        assert_eq!(messages[3]["payload"].as_str().map(str::len), Some(200_000));
        assert_eq!(messages[4]["retain"], true);
        if version == V5 {
            let user = &messages[2]["properties"]["UserProperty"];
            assert_eq!(*user, json!([["b", "2"], ["a", "1"]]));
        }
        assert!(!join(&mut paho, "keeper", false));
        subscribe(&mut paho, "keeper", "kept");
        paho.ask("disconnect", json!({"client": "keeper"}));
        publish(&mut paho, "kept", "one", 1, false);
        publish(&mut paho, "kept", "second", 2, false);
        assert!(join(&mut paho, "keeper", false));
        let kept = paho.ask("messages", json!({"client": "keeper", "count": 2}));
        assert_eq!([&kept[0]["payload"], &kept[1]["payload"]], ["one", "second"]);
        paho.kill9();
        witness.judge(&SEEN);
    }
}

#[test]
fn broker_31_mosquitto_pub_and_sub() {
    let port = server().port.to_string();
    let large = "x".repeat(100_000);
    for version in ["311", "5"] {
        let mut witness = Witness::new();
        let prefix = witness.prefix.clone();
        let (echo, kept) = (format!("{prefix}/echo"), format!("{prefix}/kept"));
        let id = format!("{prefix}/keeper");
        let publish = |topic: &str, payload: &str, qos: &str, more: &[&str]| {
            let words = ["-p", &port, "-V", version, "-t", topic, "-q", qos, "-m", payload];
            run(Command::new(programs::find("mosquitto_pub")).args(words).args(more));
        };
        let expiry: &[&str] = &["-x", "60"];
        let expiry = if version == "5" { expiry } else { &[] };
        let keeper = |more: &[&str]| {
            let words =
                ["-p", &port, "-V", version, "-i", &id, "-c", "-q", "2", "-t", &kept, "-W", "20"];
            let arguments = [&words[..], expiry, more].concat();
            programs::run(programs::find("mosquitto_sub"), &arguments)
        };
        // -E leaves once it is subscribed.
        assert_eq!(keeper(&["-E"]).code, Some(0));
        for qos in ["0", "1", "2"] {
            publish(&echo, qos, qos, &[]);
            let message = witness.next();
            assert_eq!((message.payload.as_str(), message.qos.to_string().as_str()), (qos, qos));
        }
        publish(&kept, "one", "1", &[]);
        publish(&kept, &large, "2", &[]);
        let heard = keeper(&["-C", "2", "-F", "%q %l"]);
        assert_eq!(heard.stdout, "1 3\n2 100000\n", "{}", heard.stderr);
        publish(&echo, "kept", "1", &["-r"]);
        let words = ["-p", &port, "-V", version, "-t", &echo, "-C", "1", "-W", "20", "-F", "%r %p"];
        assert_eq!(programs::run(programs::find("mosquitto_sub"), &words).stdout, "1 kept\n");
        publish(&echo, "", "1", &["-r"]);
    }
}

#[test]
fn broker_31_mosquitto_properties_and_rr() {
    let port = server().port.to_string();
    let (topic, answers) = (unique("request/"), unique("answer/"));
    let mut client = Client::connect(V5);
    client.subscribe(&topic, 1);
    let words = [
        "-p", &port, "-V", "5", "-t", &topic, "-e", &answers, "-m", "what?", "-q", "1", "-W", "20",
    ];
    let words = words.map(str::to_owned);
    let asking = thread::spawn(move || {
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        programs::run(programs::find("mosquitto_rr"), &words)
    });
    let request = client.take();
    assert_eq!(request.payload, "what?");
    let response_topic = request.properties.text(prop::RESPONSE_TOPIC).expect("it asks for one");
    assert_eq!(response_topic, answers);
    client.publish(&Publish::new(&response_topic, "that").qos(1, 1));
    let said = asking.join().expect("it ends");
    assert_eq!((said.code, said.stdout.as_str()), (Some(0), "that\n"), "{}", said.stderr);

    let words = [
        "-p",
        &port,
        "-V",
        "5",
        "-t",
        &topic,
        "-m",
        "x",
        "-D",
        "publish",
        "user-property",
        "b",
        "1",
    ];
    let more = [
        "-D",
        "publish",
        "user-property",
        "a",
        "2",
        "-D",
        "publish",
        "message-expiry-interval",
        "50",
    ];
    let alias = ["-D", "publish", "topic-alias", "3", "--repeat", "3"];
    let arguments = [&words[..], &more, &alias].concat();
    let said = programs::run(programs::find("mosquitto_pub"), &arguments);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    for _ in 0..3 {
        let message = client.take();
        assert_eq!(message.topic, topic, "by its alias");
        assert_eq!(message.properties.user(), [("b", "1"), ("a", "2")]);
        let left = message.properties.number(prop::MESSAGE_EXPIRY);
        assert!(left.is_some_and(|left| (40..=50).contains(&left)), "{left:?}");
    }
}

/// One course of rumqttc, whose two versions have the same methods on different types.
macro_rules! rumqttc_course {
    ($($module:ident)::+, $qos:expr, $will:expr, $prepare:expr, $payload_of:expr) => {{
        use $($module)::+::{Client as Rumqttc, MqttOptions};
        let witness = Witness::new();
        let prefix = witness.prefix.clone();
        let join = |name: &str, is_clean: bool| {
            let mut options =
                MqttOptions::new(format!("{prefix}/{name}"), "127.0.0.1", server().port);
            $prepare(&mut options, is_clean);
            if is_clean {
                options.set_last_will($will(format!("{prefix}/will")));
            }
            let (client, mut connection) = Rumqttc::new(options, 50);
            let (sender, payloads) = sync_channel::<(Vec<u8>, bool)>(100);
            // Ends, and with it the connection, when a message comes that nobody takes any more.
            let worker = thread::spawn(move || {
                for event in connection.iter().map_while(Result::ok) {
                    if let Some(payload) = $payload_of(event)
                        && sender.send(payload).is_err()
                    {
                        return;
                    }
                }
            });
            (client, payloads, worker)
        };
        let expect = |payloads: &Receiver<(Vec<u8>, bool)>, size: usize, retain: bool| {
            let (payload, found) = payloads.recv_timeout(wait::DEADLINE).expect("a message comes");
            assert_eq!((payload.len(), found), (size, retain));
        };
        let (main, payloads, worker) = join("main", true);
        let topic = |rest: &str| format!("{prefix}/{rest}");
        let qos: [_; 3] = $qos;
        main.subscribe(topic("echo/#"), qos[2]).expect("it takes requests");
        for (number, qos) in qos.into_iter().enumerate() {
            let topic = topic(&format!("echo/{number}"));
            main.publish(topic, qos, false, "hello").expect("it takes requests");
            expect(&payloads, 5, false);
        }
        let large = vec![b'x'; 200_000];
        main.publish(topic("echo/large"), qos[1], false, large).expect("it takes requests");
        expect(&payloads, 200_000, false);
        main.publish(topic("retained"), qos[1], true, "kept").expect("it takes requests");
        main.subscribe(topic("retained"), qos[1]).expect("it takes requests");
        expect(&payloads, 4, true);
        let (keeper, kept, keeper_worker) = join("keeper", false);
        keeper.subscribe(topic("kept"), qos[2]).expect("it takes requests");
        // Its own message, when it comes back, tells that the subscription is there.
        keeper.publish(topic("kept"), qos[1], false, "one").expect("it takes requests");
        expect(&kept, 3, false);
        keeper.disconnect().expect("it takes requests");
        keeper_worker.join().expect("it ends");
        main.publish(topic("kept"), qos[2], false, "second").expect("it takes requests");
        let (_keeper, kept, _worker) = join("keeper", false);
        expect(&kept, 6, false);
        drop(payloads);
        main.publish(topic("echo/end"), qos[0], false, "").expect("it takes requests");
        worker.join().expect("it ends");
        witness.judge(&[&SEEN[..], &[("echo/end", 0, 0)]].concat());
    }};
}

#[test]
fn broker_31_rumqttc_3_1_1() {
    use rumqttc::{Event, Incoming, LastWill, QoS};
    rumqttc_course!(
        rumqttc,
        [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce],
        |topic| LastWill::new(topic, "gone", QoS::AtLeastOnce, false),
        |options: &mut rumqttc::MqttOptions, is_clean: bool| {
            options.set_clean_session(is_clean).set_max_packet_size(1_000_000, 1_000_000);
        },
        |event| match event {
            Event::Incoming(Incoming::Publish(it)) => Some((it.payload.to_vec(), it.retain)),
            _ => None,
        }
    );
}

#[test]
fn broker_31_rumqttc_5() {
    use rumqttc::v5::{
        Event, Incoming,
        mqttbytes::{
            QoS,
            v5::{ConnectProperties, LastWill},
        },
    };
    rumqttc_course!(
        rumqttc::v5,
        [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce],
        |topic: String| LastWill::new(topic, "gone", QoS::AtLeastOnce, false, None),
        |options: &mut rumqttc::v5::MqttOptions, is_clean: bool| {
            let mut properties = ConnectProperties::new();
            properties.session_expiry_interval = (!is_clean).then_some(60);
            properties.max_packet_size = Some(1_000_000);
            options.set_clean_start(is_clean).set_connect_properties(properties);
        },
        |event| match event {
            Event::Incoming(Incoming::Publish(it)) => Some((it.payload.to_vec(), it.retain)),
            _ => None,
        }
    );
}
