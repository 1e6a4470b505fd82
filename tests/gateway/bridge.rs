//! Bridges to central brokers: both ways, rings, kills, and what `check` refuses (uplink.27).

use std::{collections::BTreeSet, thread, time::Duration};

use serde_json::{Value, json};

use crate::support::{gateway::Gateway, mosquitto::Mosquitto, peer::Peer, ports, site::Site, wait};

/// A gateway with a broker of its own, and clients around it.
struct Node {
    gateway: Gateway,
    port: u16,
}

impl Node {
    fn start(id: &str, uplinks: &str) -> Self {
        Self::start_at(ports::free_port(), id, uplinks)
    }

    fn start_at(port: u16, id: &str, uplinks: &str) -> Self {
        let mut node = Self { gateway: prepare(port, id, uplinks), port };
        node.gateway.start_again();
        node
    }

    fn uplink(&self, name: &str) -> Value {
        self.gateway.status(&[])["uplinks"][name].clone()
    }

    fn until_connected(&self, name: &str) {
        wait::until("the bridge", || (self.uplink(name)["connected"] == true).then_some(()));
    }
}

fn prepare(port: u16, id: &str, uplinks: &str) -> Gateway {
    let config = format!(
        "[gateway]\nid = \"{id}\"\ndata-dir = \"data\"\n\
         [mqtt]\nlisten = [\"127.0.0.1:{port}\"]\nanonymous = true\n{uplinks}"
    );
    Gateway::prepare(&Site::new(&config, &[]))
}

/// Clients of brokers, by name.
struct Clients(Peer);

impl Clients {
    fn new() -> Self {
        Self(Peer::start("mqtt_client.py", &[]))
    }

    fn connect(&mut self, client: &str, port: u16) {
        let options =
            json!({"client": client, "client_id": client, "host": "127.0.0.1", "port": port});
        assert_eq!(self.0.ask("connect", options)["reason"], 0);
    }

    /// Connects with a session that the broker keeps, to come back to it whenever it must.
    fn connect_for_good(&mut self, client: &str, port: u16) {
        let properties = json!({"SessionExpiryInterval": 3600});
        let options = json!({
            "client": client, "client_id": client, "host": "127.0.0.1", "port": port,
            "clean": false, "reconnect": true, "properties": properties,
        });
        assert_eq!(self.0.ask("connect", options)["reason"], 0);
    }

    fn subscribe(&mut self, client: &str, filter: &str) {
        self.0.ask("subscribe", json!({"client": client, "filters": [[filter, 1]]}));
    }

    fn publish(&mut self, client: &str, topic: &str, payload: &str, more: Value) {
        let mut message = json!({"client": client, "topic": topic, "payload": payload, "qos": 1});
        if let (Value::Object(message), Value::Object(more)) = (&mut message, more) {
            message.extend(more);
        }
        let reason = self.0.ask("publish", message);
        assert!(reason == 0 || reason == 16, "{reason}");
    }

    /// Waits for so many messages, and takes all that have come.
    fn messages(&mut self, client: &str, count: usize) -> Vec<Value> {
        let asked = json!({"client": client, "count": count, "take": true});
        self.0.ask("messages", asked).as_array().expect("a list").clone()
    }

    /// Returns topics, payloads and retained flags of the next messages.
    fn next(&mut self, client: &str, count: usize) -> Vec<(String, String, bool)> {
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let messages = self.messages(client, count);
        let told = |message: &Value| {
            (text(&message["topic"]), text(&message["payload"]), message["retain"] == true)
        };
        messages.iter().map(told).collect()
    }
}

/// A bridge to a broker on loopback, with more lines.
fn bridge(name: &str, port: u16, more: &str) -> String {
    format!(
        "[[uplink]]\nname = \"{name}\"\nurl = \"mqtt://127.0.0.1:{port}\"\nformat = \"raw\"\n\
         batch = {{ age = \"20ms\" }}\n{more}\n"
    )
}

const PLANT: &str = "topics = [\"line/#\"]\nstrip = \"line/\"\ntopic = \"plants/{gateway}/{topic}\"\n\
                     retain = true\n\
                     [[uplink.in]]\ntopics = [\"central/#\"]\nstrip = \"central/\"\ntopic = \"orders/{topic}\"\n";

fn told(topic: &str, payload: &str, retain: bool) -> (String, String, bool) {
    (topic.into(), payload.into(), retain)
}

/// uplink.27: topics go up and come down, with levels taken off and put on, and retained ones as retained.
#[test]
fn uplink_27_both_ways_over_both_versions() {
    for version in ["5", "\"3.1.1\""] {
        let central = Mosquitto::start();
        let mut clients = Clients::new();
        clients.connect("head", central.port());
        clients.subscribe("head", "plants/#");
        clients.publish("head", "central/menu", "soup", json!({"retain": true}));
        let more = format!("version = {version}\n{PLANT}");
        let plant = Node::start("gw", &bridge("up", central.port(), &more));
        plant.until_connected("up");
        clients.connect("worker", plant.port);
        // What the central broker retains is retained here.
        wait::until("the retained message", || {
            (plant.uplink("up")["in"]["published"] == 1).then_some(())
        });
        clients.subscribe("worker", "orders/#");
        assert_eq!(clients.next("worker", 1), [told("orders/menu", "soup", true)]);
        clients.publish("head", "central/order/7", "make it", json!({}));
        let order = clients.next("worker", 1);
        assert_eq!(order, [told("orders/order/7", "make it", false)], "MQTT {version}");
        clients.publish("worker", "line/7/count", "12", json!({"retain": true}));
        assert_eq!(clients.next("head", 1), [told("plants/gw/7/count", "12", false)]);
        clients.connect("late", central.port());
        clients.subscribe("late", "plants/#");
        assert_eq!(clients.next("late", 1), [told("plants/gw/7/count", "12", true)]);
        let status = plant.uplink("up");
        assert_eq!(status["in"]["refused"], json!({}), "{status}");
    }
}

/// uplink.27: over MQTT 5 all that a publisher says passes, retained messages change and go, commands stay out.
#[test]
fn uplink_27_what_is_said_beside_a_payload_passes() {
    let central = Mosquitto::start();
    let mut clients = Clients::new();
    clients.connect("head", central.port());
    clients.subscribe("head", "plants/#");
    let plant = Node::start("gw", &bridge("up", central.port(), PLANT));
    plant.until_connected("up");
    clients.connect("worker", plant.port);
    clients.subscribe("worker", "orders/#");
    let said = json!({
        "ContentType": "text/plain", "UserProperty": [["line", "7"]], "MessageExpiryInterval": 600,
    });
    clients.publish("head", "central/a", "x", json!({"properties": said}));
    clients.publish("worker", "line/a", "y", json!({"properties": said}));
    let (down, up) = (clients.messages("worker", 1), clients.messages("head", 1));
    for (message, path) in [(&down[0], None), (&up[0], Some("gw"))] {
        let properties = &message["properties"];
        assert_eq!(properties["ContentType"], "text/plain", "{message}");
        let left = properties["MessageExpiryInterval"].as_u64().expect("it expires");
        assert!((590..=600).contains(&left), "{message}");
        let mut user = vec![json!(["line", "7"])];
        user.extend(path.map(|path| json!(["tidegate-path", path])));
        assert_eq!(properties["UserProperty"], json!(user));
    }
    // Retained while both are there: it is retained here, is replaced, and goes.
    for (payload, kept) in [("1", true), ("2", true), ("", false)] {
        clients.publish("head", "central/state", payload, json!({"retain": true}));
        assert_eq!(clients.next("worker", 1), [told("orders/state", payload, false)]);
        clients.connect("late", plant.port);
        clients.subscribe("late", "orders/#");
        clients.publish("late", "orders/mark", "m", json!({}));
        let mut expected = vec![told("orders/mark", "m", false)];
        if kept {
            expected.insert(0, told("orders/state", payload, true));
        }
        assert_eq!(clients.next("late", expected.len()), expected);
        clients.next("worker", 1);
    }
    clients.publish("head", "central/a/set", "66.5", json!({}));
    clients.publish("head", "central/b", "z", json!({}));
    assert_eq!(clients.next("worker", 1), [told("orders/b", "z", false)]);
    assert_eq!(plant.uplink("up")["in"]["refused"], json!({"command-topic": 1}));
}

/// uplink.27: a gateway between two brokers, the same topics both ways: each message comes once to each.
#[test]
fn uplink_27_two_brokers_with_the_same_topics() {
    let brokers = [Mosquitto::start(), Mosquitto::start()];
    let both = "topics = [\"x/#\"]\ntopic = \"{topic}\"\nrelay = true\n\
                [[uplink.in]]\ntopics = [\"x/#\"]\n";
    let [a, b] = [0, 1].map(|place| bridge(["a", "b"][place], brokers[place].port(), both));
    let node = Node::start("middle", &(a + &b));
    node.until_connected("a");
    node.until_connected("b");
    let mut clients = Clients::new();
    for (name, port) in [("a", brokers[0].port()), ("b", brokers[1].port()), ("here", node.port)] {
        clients.connect(name, port);
        clients.subscribe(name, "x/#");
    }
    let names = ["a", "b", "here"];
    for (round, from) in names.into_iter().enumerate() {
        let topic = format!("x/{round}");
        clients.publish(from, &topic, from, json!({}));
        for to in names {
            assert_eq!(clients.next(to, 1), [told(&topic, from, false)], "{from} to {to}");
        }
    }
    // Each way keeps its order: behind the last one, nothing of those before can be on its way.
    clients.publish("here", "x/end", "", json!({}));
    for name in names {
        assert_eq!(clients.next(name, 1), [told("x/end", "", false)], "{name}");
    }
}

/// uplink.27: a ring of a broker and two gateways. A message goes each way once, and that is the end of it.
#[test]
fn uplink_27_a_ring_ends() {
    let central = Mosquitto::start();
    let second_port = ports::free_port();
    let both = "topics = [\"x/#\"]\ntopic = \"{topic}\"\nrelay = true\n\
                [[uplink.in]]\ntopics = [\"x/#\"]\n";
    let on = "topics = [\"x/#\"]\ntopic = \"{topic}\"\nrelay = true\n";
    let second = Node::start_at(second_port, "second", &bridge("up", central.port(), both));
    let uplinks = bridge("up", central.port(), both) + &bridge("side", second_port, on);
    let first = Node::start("first", &uplinks);
    first.until_connected("up");
    first.until_connected("side");
    second.until_connected("up");
    let mut clients = Clients::new();
    for (name, port) in [("centre", central.port()), ("first", first.port), ("second", second.port)]
    {
        clients.connect(name, port);
        clients.subscribe(name, "x/#");
    }
    clients.publish("centre", "x/a", "1", json!({}));
    wait::until("the end of the ring", || {
        (first.uplink("up")["in"]["refused"]["loop"] == 1).then_some(())
    });
    // Once straight, and once round by the first gateway, the second and the broker.
    for (name, count) in [("centre", 2), ("first", 1), ("second", 2)] {
        assert_eq!(clients.next(name, count), vec![told("x/a", "1", false); count], "{name}");
    }
    clients.publish("first", "x/b", "2", json!({}));
    let paths = |messages: &[Value]| -> Vec<Value> {
        messages.iter().map(|it| it["properties"]["UserProperty"].clone()).collect()
    };
    let at_centre = paths(&clients.messages("centre", 2));
    for path in ["first", "first/second"] {
        assert!(at_centre.contains(&json!([["tidegate-path", path]])), "{at_centre:?}");
    }
    wait::until("the end of the other way", || {
        (first.uplink("up")["in"]["refused"]["loop"] == 2).then_some(())
    });
    assert_eq!(clients.next("first", 1), [told("x/b", "2", false)]);
}

fn cycles() -> u64 {
    if std::env::var("TIDEGATE_TIER").is_ok_and(|tier| tier == "all") { 60 } else { 8 }
}

/// Messages that may come twice at one kill: those on their way up, those on their way down, and what the two clients
/// and the two sessions have without an answer.
const WINDOW: u64 = 128 + 64 + 2 * 64;

/// uplink.27: plant and central broker are killed under load; nothing that was acknowledged is missing on the other
/// side, and what comes twice was on its way at a kill.
#[test]
fn uplink_27_fault_s01_nothing_is_lost_by_kills() {
    let central_port = ports::free_port();
    let mut central = Node::start_at(central_port, "central", "");
    let mut plant = Node::start("plant", &bridge("up", central_port, PLANT));
    plant.until_connected("up");
    let mut clients = Clients::new();
    for (name, port) in [("head", central_port), ("worker", plant.port)] {
        clients.connect_for_good(name, port);
    }
    clients.subscribe("head", "plants/#");
    clients.subscribe("worker", "orders/#");
    let mut senders = Vec::new();
    for (port, topic) in [(central_port, "central/n"), (plant.port, "line/n")] {
        let mut sender = Clients::new();
        sender.connect_for_good("sender", port);
        let series = json!({
            "name": "load", "client": "sender", "topic": topic, "count": 1_000_000, "qos": 1,
            "timeout": 60.0,
        });
        sender.0.ask("series", series);
        senders.push(sender);
    }
    for cycle in 0..cycles() {
        thread::sleep(Duration::from_millis(150 + 37 * (cycle % 7)));
        // By turns one of them, and both.
        for (turn, node) in [(0, &mut plant), (1, &mut central)] {
            if cycle % 3 == turn || cycle % 3 == 2 {
                node.gateway.kill9();
                node.gateway.start_again();
            }
        }
    }
    // A start begins anew with the pauses between attempts.
    plant.gateway.kill9();
    plant.gateway.start_again();
    let receivers = ["worker", "head"];
    for (sender, receiver) in senders.iter_mut().zip(receivers) {
        let state = sender.0.ask("series_stop", json!({"name": "load"}));
        let acked: BTreeSet<u64> = numbers(&state["acked"]);
        assert!(acked.len() > 20, "only {} were acknowledged", acked.len());
        let (received, all) = wait::until("the last message", || {
            let messages = clients.0.ask("messages", json!({"client": receiver}));
            let all: Vec<u64> = messages
                .as_array()
                .expect("a list")
                .iter()
                .map(|it| it["payload"].as_str().and_then(|it| it.parse().ok()).expect("a number"))
                .collect();
            let received: BTreeSet<u64> = all.iter().copied().collect();
            acked.is_subset(&received).then_some((received, all))
        });
        let twice = all.len() - received.len();
        println!(
            "{receiver}: {} acknowledged, {} received, {twice} twice",
            acked.len(),
            received.len()
        );
        assert!(twice as u64 <= 2 * cycles() * WINDOW, "{twice} came twice");
        let firsts: Vec<u64> = {
            let mut seen = BTreeSet::new();
            all.iter().copied().filter(|number| seen.insert(*number)).collect()
        };
        assert!(firsts.is_sorted(), "what is new comes in order");
    }
    let uplink = plant.gateway.status(&["--audit"])["uplinks"]["up"].clone();
    assert_eq!(
        (&uplink["balanced"], &uplink["in"]["refused"]),
        (&json!(true), &json!({})),
        "{uplink}"
    );
}

fn numbers(list: &Value) -> BTreeSet<u64> {
    list.as_array().expect("a list").iter().map(|it| it.as_u64().expect("a number")).collect()
}

/// uplink.27: what would come back, and nothing could tell, is refused before anything runs.
#[test]
fn uplink_27_check_refuses_what_could_go_round() {
    let up = "topics = [\"x/#\"]\ntopic = \"{topic}\"\n";
    let v3 = "version = \"3.1.1\"\n";
    let comes =
        |topics: &str, more: &str| format!("[[uplink.in]]\ntopics = [\"{topics}\"]\n{more}");
    let json_up = bridge("b", 1, up).replace("\"raw\"", "\"json\"");
    #[rustfmt::skip]
    let cases = [
        // uplinks                                                                            what is said, if anything
        (bridge("a", 1, &format!("{up}{}", comes("x/#", ""))),                                 None),
        (bridge("a", 1, &format!("{v3}{up}{}", comes("y/#", ""))),                             None),
        (bridge("a", 1, &format!("{v3}{up}{}", comes("x/#", ""))),                             Some("`x/#` would bring back what the uplink `a` sends on `x/#`")),
        (bridge("a", 1, &format!("{v3}{up}{}", comes("x/+/t", ""))),                           Some("`x/+/t` would bring back what the uplink `a` sends")),
        (bridge("a", 1, &format!("{v3}strip = \"x/\"\n{up}{}", comes("y", ""))),               Some("`y` would bring back what the uplink `a` sends on `#`")),
        (bridge("a", 1, &format!("{up}{}", comes("x/#", ""))) + &json_up,                      Some("`x/#` would bring back what the uplink `b` sends")),
        (bridge("a", 1, &format!("{up}{}", comes("x/#", ""))) + &bridge("b", 1, up),           None),
        (bridge("a", 1, &format!("{v3}{up}relay = true\n")),                                   Some("over MQTT 3.1.1 nothing tells which gateways")),
        (bridge("a", 1, &format!("{v3}{up}{}", comes("y/#", "topic = \"x/{topic}\"\n")))
             + &bridge("b", 2, &format!("{up}relay = true\n")),                                Some("what `a` brings over MQTT 3.1.1 does not tell")),
        (bridge("a", 1, &format!("{v3}{up}{}", comes("y/#", "")))
             + &bridge("b", 2, &format!("{up}relay = true\n")),                                None),
        (bridge("a", 1, &format!("{up}{}{}", comes("y/#", ""), comes("y/1", ""))),             Some("`y/1` and `y/#` bring the same messages")),
        (bridge("a", 1, &format!("{up}commands = \"c/#\"\n{}", comes("c/+", ""))),             Some("`c/+` would bring what `commands` takes")),
        (bridge("a", 1, &format!("{up}{}", comes("$share/g/y", ""))),                          Some("is shared")),
        (bridge("a", 1, &format!("{up}{}", comes("y/#", "strip = \"z/\"\n"))),                 Some("`y/#` of `topics` does not begin with `z/`")),
        (bridge("a", 1, &format!("{up}{}", comes("y/#", "topic = \"down\"\n"))),               Some("with `{topic}` once")),
        (bridge("a", 1, &format!("{up}strip = \"z/\"\n")),                                     Some("`x/#` of `topics` does not begin with `z/`")),
        (bridge("a", 1, up) + "[[uplink]]\nname = \"v\"\nvia = \"a\"\nformat = \"raw\"\n" + up
             + &comes("y/#", ""),                                                              Some("`in` is for the uplink that has the connection")),
        (bridge("a", 1, &format!("{up}{}", comes("y/#", ""))).replace("mqtt:", "http:"),       Some("nothing comes down by HTTP: `in`")),
        (bridge("a", 1, &format!("{up}retain = true\n")).replace("\"raw\"", "\"json\""),       Some("only messages that go up as they are can be retained")),
    ];
    for (uplinks, said) in cases {
        let gateway = prepare(ports::free_port(), "gw", &uplinks);
        let check = gateway.tidegate("check", &[]);
        let shown = format!("{}{}\n{uplinks}", check.stdout, check.stderr);
        match said {
            None => assert_eq!(check.code, Some(0), "{shown}"),
            Some(said) => {
                assert_eq!(check.code, Some(78), "{shown}");
                assert!(shown.contains(said), "{said}: {shown}");
            }
        }
    }
}
