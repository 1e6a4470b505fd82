//! What MQTT 5 has beyond the exchange of messages, with real clients.

use std::time::Duration;

use serde_json::json;

use crate::mqtt::Broker;
use crate::support::wait;
use crate::support::wire::{End, Hello, Wire, binary, packet};

/// broker.5, D14: each message of a group reaches one member, with both versions; what a member leaves behind reaches the
/// others, also across kill -9.
#[test]
fn broker_5_a_group_shares_its_messages() {
    let mut broker = Broker::start("");
    let members = [("a", 5), ("b", 4), ("c", 5)];
    for (name, version) in members {
        let connack = broker.connect_persistent(name, version, false);
        assert!(connack["properties"]["SharedSubscriptionAvailable"].is_null(), "{connack}");
        assert_eq!(broker.subscribe(name, "$share/g/jobs/+", 1), json!([1]), "{name}");
    }
    broker.connect("s", 5, json!({}));
    for number in 0..30 {
        assert_eq!(broker.publish("s", "jobs/x", &format!("{number:02}"), 1, false), json!(0));
    }
    let mut all = Vec::new();
    for (name, _) in members {
        let taken = broker.payloads(name, 8);
        assert!(taken.len() <= 12, "{name} has taken {}", taken.len());
        all.extend(taken);
    }
    all.sort();
    let expected: Vec<String> = (0..30).map(|number| format!("{number:02}")).collect();
    assert_eq!(all, expected, "each once");

    for (name, _) in members {
        broker.paho.ask("disconnect", json!({"client": name}));
    }
    for number in 0..10 {
        assert_eq!(broker.publish("s", "jobs/x", &number.to_string(), 1, false), json!(0));
    }
    broker.gateway.kill9();
    broker.gateway.start_again();
    // Who comes first takes what waits for all; in what order the others' arrive is not promised.
    assert_eq!(broker.connect_persistent("b", 4, false)["session_present"], json!(true));
    let mut taken = broker.payloads("b", 10);
    taken.sort();
    assert_eq!(taken, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    for name in ["a", "c"] {
        assert_eq!(broker.connect_persistent(name, 5, false)["session_present"], json!(true));
    }
    assert_eq!(broker.status()["queued"], json!(0));
}

/// MQTT-4.8.2-1, MQTT-3.8.3-4, MQTT-4.8.2-6: what a shared subscription may not be; a refusal by the client ends a message.
#[test]
fn broker_5_a_shared_subscription_has_rules() {
    let broker = Broker::start("");
    let subscribe = |filter: &str, options: u8| {
        packet(0x82, &[&[0, 1, 0][..], &binary(filter.as_bytes()), &[options]].concat())
    };
    for (filter, options, reason) in
        [("$share/g/t", 0b101, 0x82), ("$share//t", 1, 0x8f), ("$share/g+/t", 1, 0x8f)]
    {
        let (mut wire, _) = Wire::connect(broker.port, &Hello::default());
        wire.send(&subscribe(filter, options));
        assert_eq!(wire.end(), End::Told(reason), "{filter}");
    }
    let members = ["m1", "m2"].map(|client_id| {
        let (mut wire, _) = Wire::connect(broker.port, &Hello { client_id, ..Hello::default() });
        assert_eq!(wire.subscribe("$share/g/t", 1), 1);
        wire
    });
    let [mut first, mut second] = members;
    let (mut sender, _) = Wire::connect(broker.port, &Hello { client_id: "s", ..Hello::default() });
    assert_eq!(sender.publish("t", "1"), 0);
    let quiet = Duration::from_millis(300);
    let (taker, other) = match first.message(quiet) {
        Some(_) => (&mut first, &mut second),
        None => (&mut second, &mut first),
    };
    // PUBACK with a failure.
    taker.send(&packet(0x40, &[0, 1, 0x83, 0]));
    assert_eq!(other.message(quiet), None, "nobody else gets what a member has refused");
}

/// broker.6, M06: topic aliases both ways, server keep alive, assigned client ids, maximum packet size.
#[test]
fn broker_6_terms_are_told_and_kept() {
    let mut broker = Broker::start("");
    let connack = broker.connect("a", 5, json!({"keep_alive": 0, "client_id": ""}));
    let terms = &connack["properties"];
    assert_eq!(terms["ServerKeepAlive"], json!(600), "{connack}");
    assert_eq!((&terms["TopicAliasMaximum"], &terms["ReceiveMaximum"]), (&json!(32), &json!(64)));
    assert_eq!(terms["MaximumPacketSize"], json!(1 << 20));
    assert!(terms["AssignedClientIdentifier"].as_str().is_some_and(|id| !id.is_empty()), "{terms}");
    let connack = broker.connect("b", 5, json!({"keep_alive": 65_535}));
    assert_eq!(connack["properties"]["ServerKeepAlive"], json!(600));
    let connack = broker.connect("b", 5, json!({"keep_alive": 30}));
    assert!(connack["properties"]["ServerKeepAlive"].is_null(), "{connack}");

    // A client that takes one alias; clean start, no keep alive, topic alias maximum 1.
    let mut wire = Wire::open(broker.port, 5);
    wire.send(&packet(0x10, b"\0\x04MQTT\x05\x02\0\0\x03\x22\0\x01\0\0"));
    wire.expect(2);
    assert_eq!(wire.subscribe("plant/#", 0), 0);
    for (topic, expected) in [
        ("plant/a", &b"\0\x07plant/a\x03\x23\0\x01x"[..]),
        ("plant/a", b"\0\0\x03\x23\0\x01x"),
        ("plant/b", b"\0\x07plant/b\0x"),
        ("plant/a", b"\0\0\x03\x23\0\x01x"),
    ] {
        assert_eq!(broker.publish("b", topic, "x", 0, false), json!(0));
        assert_eq!(wire.expect(3).body, expected, "{topic}");
    }
    // The other way: an alias is set, then used alone.
    broker.subscribe("b", "alias/#", 0);
    for body in [&b"\0\x07alias/t\x03\x23\0\x05first"[..], b"\0\0\x03\x23\0\x05second"] {
        wire.send(&packet(0x30, body));
    }
    assert_eq!(broker.payloads("b", 2), ["first", "second"]);
    wire.send(&packet(0x30, b"\0\0\x03\x23\0\x21above the maximum"));
    assert_eq!(wire.end(), End::Told(0x94));
}

/// broker.6: response information for those who ask and may subscribe there; another server for those who are sent away;
/// no words that a client does not want.
#[test]
fn broker_6_clients_are_told_where_answers_go_and_where_to_go() {
    let more = "response-topics = \"answers/{client-id}\"\nserver-reference = \"other.example:1883\"\n\
        [limits.mqtt]\nmax-sessions = 3\nmax-sessions-per-principal = 3\n\
        [[access]]\nprincipal = \"anonymous\"\npublish = [\"#\"]\nsubscribe = [\"answers/asks/#\"]";
    let mut broker = Broker::start(more);
    let asks =
        json!({"properties": {"RequestResponseInformation": 1, "RequestProblemInformation": 0}});
    let connack = broker.connect("asks", 5, asks.clone());
    assert_eq!(connack["properties"]["ResponseInformation"], json!("answers/asks"));
    // Nothing but the code comes with a refusal.
    assert_eq!(broker.subscribe("asks", "other/#", 0), json!([0x87]));
    let connack = broker.connect("denied", 5, asks);
    assert!(connack["properties"]["ResponseInformation"].is_null(), "no right to subscribe there");
    let connack = broker.connect("silent", 5, json!({}));
    assert!(connack["properties"]["ResponseInformation"].is_null(), "{connack}");

    let refused = broker.connect("fourth", 5, json!({}));
    assert_eq!((&refused["refused"], &refused["reason"]), (&json!(true), &json!(0x9c)));
    broker.gateway.terminate();
    let state = wait::until("the end of the connection", || {
        let state = broker.paho.ask("state", json!({"client": "asks"}));
        (!state["closed"].is_null()).then_some(state)
    });
    assert_eq!(state["closed"]["reason"], json!(0x9c), "{state}");
    assert_eq!(state["closed"]["properties"]["ServerReference"], json!("other.example:1883"));
}

/// broker.7: the broker's figures below `$SYS`, for those whose rights name it; nobody publishes there.
#[test]
fn broker_7_the_broker_tells_of_itself() {
    let more = "sys-interval = \"100ms\"\n[[access]]\nprincipal = \"anonymous\"\npublish = [\"#\"]\n\
        subscribe = [\"#\", \"$SYS/broker/#\"]\n";
    let mut broker = Broker::start(more);
    broker.connect("a", 5, json!({}));
    broker.publish("a", "kept", "1", 1, true);
    assert_eq!(broker.publish("a", "$SYS/broker/version", "mine", 1, false), json!(0x87));
    broker.connect("b", 4, json!({}));
    assert_eq!(broker.subscribe("b", "$SYS/broker/#", 0), json!([0]));
    let expected = [
        ("version", format!("tidegate {}", env!("CARGO_PKG_VERSION"))),
        ("clients/connected", "2".into()),
        ("messages/received", "1".into()),
        ("messages/dropped/queue-full", "0".into()),
        ("retained messages/count", "1".into()),
        ("subscriptions/count", "1".into()),
        ("shared_subscriptions/count", "0".into()),
    ];
    for (name, value) in expected {
        let topic = format!("$SYS/broker/{name}");
        wait::until(&format!("{topic} to be {value}"), || {
            let messages = broker.messages("b", 1);
            let found = |message: &serde_json::Value| {
                message["topic"] == json!(topic) && message["payload"] == json!(value)
            };
            messages.iter().any(found).then_some(())
        });
    }
    let received = |broker: &mut Broker| {
        let messages = broker.messages("b", 1);
        let figure = messages.iter().rfind(|it| it["topic"] == json!("$SYS/broker/bytes/received"));
        figure.and_then(|it| it["payload"].as_str()?.parse::<u64>().ok())
    };
    let before = wait::until("the bytes that have come", || received(&mut broker));
    broker.publish("a", "t", &"x".repeat(10_000), 0, false);
    wait::until("the bytes to grow", || {
        received(&mut broker).filter(|now| *now >= before + 10_000)
    });
}

/// broker.14: sessions, groups, queues and drops in status and metrics, with the sessions for which most waits.
#[test]
fn broker_14_queues_are_told() {
    let mut broker = Broker::start("[limits.mqtt]\nsession-queue-messages = 5\n");
    for name in ["away", "idle"] {
        broker.connect_persistent(name, 5, false);
        broker.subscribe(name, &format!("to/{name}"), 1);
        broker.subscribe(name, "$share/g/jobs", 1);
        broker.paho.ask("disconnect", json!({"client": name}));
    }
    broker.connect("s", 5, json!({}));
    for number in 0..8 {
        let expected = if number < 5 { 0 } else { 0x10 };
        let reason = broker.publish("s", "to/away", &number.to_string(), 1, false);
        assert_eq!(reason, json!(expected), "{number}: nobody takes what finds no room");
    }
    let status = broker.status();
    assert_eq!((&status["sessions"], &status["sessions-persistent"]), (&json!(3), &json!(2)));
    assert_eq!((&status["subscriptions-shared"], &status["shared-groups"]), (&json!(2), &json!(1)));
    assert_eq!((&status["queued"], &status["dropped"]["queue-full"]), (&json!(5), &json!(3)));
    assert!(status["queued-bytes"].as_u64() > Some(0), "{status}");
    let [queue] = &status["longest-queues"].as_array().unwrap()[..] else { panic!("{status}") };
    let shown = ["client-id", "connected", "queued", "dropped"].map(|key| queue[key].clone());
    assert_eq!(shown, [json!("away"), json!(false), json!(5), json!(3)]);
    let text = broker.gateway.tidegate("status", &[]).stdout;
    assert!(text.contains("\"away\" of \"anonymous\", not connected: 5 queued"), "{text}");
}
