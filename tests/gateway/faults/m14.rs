//! M14: every trick to reach a topic that one may not, compared with a model that knows nothing but the rules.

use std::time::Duration;

use super::plant::{Plant, access};
use crate::support::{
    wait,
    wire::{End, Hello, Message, Wire, binary, packet},
};

const QUIET: Duration = Duration::from_millis(300);
const DENIED: u8 = 0x87;
/// Nobody is subscribed, or somebody is.
const TAKEN: [u8; 2] = [0, 0x10];

/// What Eve may publish, subscribe and command.
const EVES: [&str; 3] = ["ok/#", "users/{principal}/#", "clients/{client-id}/#"];

/// The model: whether a topic is below one of Eve's grants, by looking at its beginning.
fn may(topic: &str, client_id: &str) -> bool {
    let is_plain = !client_id.contains(['/', '+', '#']) && !client_id.starts_with('$');
    let own = format!("clients/{client_id}/");
    let grants = ["ok/", "users/eve/", own.as_str()];
    let grants = if is_plain { &grants[..] } else { &grants[..2] };
    !topic.starts_with('$') && grants.iter().any(|grant| format!("{topic}/").starts_with(grant))
}

/// Topics that look like others, or like more than they are.
const TOPICS: [&str; 26] = [
    "secret/t",
    "secret//t",
    "/secret/t",
    "secret/t/",
    "ok/a",
    "ok",
    "ok/",
    "ok//",
    "/ok/a",
    "okay/a",
    "OK/a",
    "оk/a",
    "ok\u{200b}/a",
    "\u{feff}ok/a",
    "ok/../secret/t",
    "users/eve/x",
    "users/eve",
    "users/eve/../bob/x",
    "users/Eve/x",
    "users/eve\u{301}/x",
    "users/bob/x",
    "clients/c1/x",
    "clients/c2/x",
    "$SYS/broker/x",
    "$admin/x",
    "$ok/a",
];

fn plant() -> Plant {
    Plant::start(&access("eve", &EVES), "")
}

/// M14: publications of every kind reach the operator exactly where the model lets them.
#[test]
fn fault_m14_authorisation_publish() {
    let plant = plant();
    let rules = plant.note();
    let mut operator = plant.connect("operator", "operator");
    assert_eq!(operator.subscribe("#", 0), 0);
    let mut denials = 0;
    let mut cells = 0;
    for client_id in ["c1", "+", "#", "c1/x", "$c1", "a+b", ""] {
        let mut eve = plant.connect("eve", client_id);
        let mut expected = Vec::new();
        for topic in TOPICS {
            let may = may(topic, client_id);
            for (number, (qos, retain)) in
                [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1)].into_iter().enumerate()
            {
                let mut bytes = eve.publish_packet(topic.as_bytes(), "x", qos, 9, &[]);
                bytes[0] |= retain;
                eve.send(&bytes);
                if qos > 0 {
                    let answer = eve.expect(if qos == 1 { 4 } else { 5 });
                    let reason = answer.body.get(2).copied().unwrap_or(0);
                    assert_eq!(reason == DENIED, !may, "{client_id} {topic} {qos}: {reason:#x}");
                    assert!(may || reason == DENIED, "{reason:#x}");
                    if qos == 2 && may {
                        eve.acknowledge(6, 9);
                        eve.expect(7);
                    }
                }
                denials += u64::from(!may);
                cells += 1;
                expected.extend(may.then(|| (topic.to_owned(), number)));
            }
        }
        // A last one, behind which nothing of this client comes.
        assert!(TAKEN.contains(&eve.publish("ok/end", "end")));
        let got = until_end(&mut operator);
        let topics: Vec<&str> = expected.iter().map(|(topic, _)| topic.as_str()).collect();
        assert_eq!(got, topics, "client {client_id:?}");
    }
    println!("{cells} publications, {denials} of them denied");
    assert_eq!(plant.count("denied/eve"), denials, "G6: the exact number");
    let refused = &plant.gateway.status(&[])["not-admitted"]["not-authorized"];
    assert_eq!(refused.as_u64(), Some(denials), "nothing disappears uncounted");
    drop(operator);
    rules.check(&plant.gateway);
}

/// Returns the topics of the messages that come before the one that says `end`.
fn until_end(operator: &mut Wire) -> Vec<String> {
    let mut topics = Vec::new();
    loop {
        let message = operator.message(wait::DEADLINE).expect("the last message");
        if message.payload == "end" {
            return topics;
        }
        // The canary's come in between.
        if !message.topic.starts_with("canary/") {
            topics.push(message.topic);
        }
    }
}

/// M14: topic aliases, wills and response topics are no way around the rules.
#[test]
fn fault_m14_authorisation_detours() {
    let mut plant = plant();
    let rules = plant.note();
    let mut operator = plant.connect("operator", "operator");
    for filter in ["ok/#", "secret/#"] {
        assert_eq!(operator.subscribe(filter, 0), 0);
    }
    let mut eve = plant.connect("eve", "c1");
    let alias = [0x23, 0, 1];
    let send = |eve: &mut Wire, topic: &str, payload: &str| {
        let bytes = eve.publish_packet(topic.as_bytes(), payload, 1, 3, &alias);
        eve.send(&bytes);
        eve.expect(4).body.get(2).copied().unwrap_or(0)
    };
    // An alias stands for the topic that it was set to last, allowed or not.
    assert!(TAKEN.contains(&send(&mut eve, "ok/a", "1")));
    assert!(TAKEN.contains(&send(&mut eve, "", "2")));
    assert_eq!(send(&mut eve, "secret/t", "3"), DENIED);
    assert_eq!(send(&mut eve, "", "4"), DENIED);
    // Set while allowed, used when it is not.
    assert!(TAKEN.contains(&send(&mut eve, "ok/a", "5")));
    plant.change(&access("eve", &["ok/b/#", "ok/b"]), &[]);
    assert_eq!(send(&mut eve, "", "6"), DENIED);
    plant.change(&access("eve", &EVES), &[]);

    for (topic, allowed) in TOPICS.map(|topic| (topic, may(topic, "w"))) {
        for version in [4, 5] {
            let will = Some((topic, "will"));
            let hello = Hello { will, version, ..plant.hello("eve", "w") };
            let (mut wire, result) = Wire::try_connect(plant.mqtt, &hello);
            let refused = if version == 5 { DENIED } else { 5 };
            assert_eq!(result, if allowed { Ok(false) } else { Err(refused) }, "{topic}");
            if allowed {
                wire.send(&[0xe0, 0]);
                assert_eq!(wire.end(), End::Cut);
            }
        }
    }

    // A response topic: the gateway is not to write where whoever asks may not, or reads what it may not.
    for (topic, is_answered) in [("secret/t", false), ("$SYS/x", false), ("ok/answer", true)] {
        let response = [&[0x08][..], &binary(topic.as_bytes())].concat();
        let bytes = eve.publish_packet(b"ok/point/set", "1", 1, 4, &response);
        eve.send(&bytes);
        assert!(TAKEN.contains(&eve.expect(4).body.get(2).copied().unwrap_or(0)));
        assert!(TAKEN.contains(&eve.publish("ok/end", "end")));
        let mut answers: Vec<Message> = operator.messages(QUIET);
        answers.retain(|message| message.topic == topic);
        assert_eq!(!answers.is_empty(), is_answered, "{topic}: {answers:?}");
    }
    // Commands take their own right, and none is retained.
    plant.change(
        "[[access]]\nprincipal = \"eve\"\npublish = [\"#\"]\nsubscribe = [\"#\"]\ncommand = [\"ok/#\"]\n",
        &[],
    );
    for (topic, allowed) in [("ok/p/set", true), ("secret/p/set", false), ("secret/p/call", false)]
    {
        assert_eq!(eve.publish(topic, "1") != DENIED, allowed, "{topic}");
    }
    let mut retained = eve.publish_packet(b"ok/p/set", "1", 1, 5, &[]);
    retained[0] |= 1;
    eve.send(&retained);
    assert!(eve.expect(4).body[2] >= 0x80, "a retained command");
    drop((eve, operator));
    rules.check(&plant.gateway);
}

/// M14: filters that cover more than the grant, shared ones, `$` topics; then no rules at all.
#[test]
fn fault_m14_authorisation_subscribe() {
    let mut plant = plant();
    let rules = plant.note();
    let mut operator = plant.connect("operator", "operator");
    for topic in TOPICS.into_iter().filter(|topic| !topic.starts_with('$')) {
        let mut retained = operator.publish_packet(topic.as_bytes(), "kept", 1, 3, &[]);
        retained[0] |= 1;
        operator.send(&retained);
        operator.expect(4);
    }
    #[rustfmt::skip]
    let filters = [
        ("secret/t", DENIED), ("secret/#", DENIED), ("secret/+", DENIED), ("#", DENIED), ("+/t", DENIED),
        ("+/#", DENIED), ("/#", DENIED), ("/+/t", DENIED), ("ok/#", 1), ("ok/+", 1), ("ok", 1), ("ok/+/#", 1),
        ("+/a", DENIED), ("users/+/x", DENIED), ("users/#", DENIED), ("users/eve/#", 1), ("users/eve/+", 1),
        ("clients/+/x", DENIED), ("clients/c1/#", 1), ("clients/c2/#", DENIED),
        ("$SYS/#", DENIED), ("$SYS/broker/x", DENIED), ("$admin/#", DENIED), ("$ok/#", DENIED),
        ("$share/g/secret/t", DENIED), ("$share/g/#", DENIED), ("$share/g/$SYS/#", DENIED), ("$share/g/ok/a", 1),
        ("\u{43e}k/#", DENIED), ("ok\u{200b}/#", DENIED),
    ];
    let mut denials = 0;
    for (filter, expected) in filters {
        let mut eve = plant.connect("eve", "c1");
        assert_eq!(eve.subscribe(filter, 1), expected, "{filter}");
        denials += u64::from(expected == DENIED);
        // Each delivery is checked against its own topic, retained and live.
        for topic in ["secret/t", "ok/a", "users/eve/x", "users/bob/x", "clients/c2/x"] {
            operator.publish(topic, "live");
        }
        for message in eve.messages(Duration::from_millis(60)) {
            assert!(may(&message.topic, "c1"), "{filter}: {message:?}");
        }
    }
    assert_eq!(plant.count("denied/eve"), denials, "G6: the exact number");
    let mut eve = plant.connect("eve", "c1");
    assert_eq!(eve.subscribe("ok/#", 1), 1);
    let kept = eve.messages(QUIET);
    assert!(kept.len() >= 5 && kept.iter().all(|m| may(&m.topic, "c1")), "{kept:?}");

    plant.without_rules();
    assert_eq!(eve.subscribe("ok/a", 1), DENIED, "a name has what entries give it");
    assert_eq!(eve.publish("ok/a", "1"), DENIED);
    assert_eq!(operator.publish("ok/a", "1"), DENIED);
    assert_eq!(eve.messages(QUIET), []);
    let (mut anyone, _) = Wire::connect(plant.mqtt, &Hello { client_id: "x", ..Hello::default() });
    for (filter, expected) in
        [("#", 1), ("$SYS/#", DENIED), ("$share/g/$SYS/#", DENIED), ("$share/g/#", 1)]
    {
        assert_eq!(anyone.subscribe(filter, 1), expected, "{filter}");
    }
    for (topic, allowed) in [("a/b", true), ("a/b/set", true), ("$SYS/x", false)] {
        assert_eq!(anyone.publish(topic, "1") != DENIED, allowed, "{topic}");
    }
    // More filters in one packet: each has its own answer.
    let two =
        packet(0x82, &[&[0, 7, 0][..], &binary(b"$SYS/x"), &[1], &binary(b"b"), &[1]].concat());
    anyone.send(&two);
    assert_eq!(anyone.expect(9).body, [0, 7, 0, DENIED, 1]);
    drop((anyone, eve, operator));
    rules.check(&plant.gateway);
}
