//! An edge node of Sparkplug B from end to end, before a strict host with another library (uplink.23, uplink.42): nothing
//! that was acknowledged is lost, whatever is killed.

use std::{
    collections::BTreeSet,
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::support::{
    chaos::{
        fate::{Fate, Trouble},
        proxy::{Chaos, Course},
    },
    gateway::Gateway,
    mosquitto::{Mosquitto, Options},
    peer::Peer,
    ports,
    site::Site,
    wait,
};

/// The name of the node for the host peer.
const NODE: &str = "hall1/gw-1";

/// A way to a broker that can be cut, and swallow what goes to it before.
struct Cable {
    port: u16,
    ends: Arc<Mutex<Vec<TcpStream>>>,
    swallows: Arc<AtomicBool>,
}

impl Cable {
    fn lay(to: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let ends = Arc::new(Mutex::new(Vec::new()));
        let swallows = Arc::new(AtomicBool::new(false));
        let (kept, flag) = (Arc::clone(&ends), Arc::clone(&swallows));
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(("127.0.0.1", to)) else { continue };
                let mut kept = kept.lock().expect("nobody panics with it");
                for (from, to, flag) in [(&near, &far, Some(&flag)), (&far, &near, None)] {
                    let pair = from.try_clone().and_then(|from| Ok((from, to.try_clone()?)));
                    let (from, to) = pair.expect("sockets can be cloned");
                    let flag = flag.cloned();
                    thread::spawn(move || pass(from, to, flag.as_deref()));
                }
                kept.extend([near, far]);
            }
        });
        Self { port, ends, swallows }
    }

    /// Lets nothing more through to the broker, which looks as if it had gone.
    fn swallow(&self) {
        self.swallows.store(true, Ordering::Relaxed);
    }

    /// Cuts every connection; the next ones work.
    fn cut(&self) {
        self.swallows.store(false, Ordering::Relaxed);
        for end in self.ends.lock().expect("nobody panics with it").drain(..) {
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}

/// Passes bytes on, or reads them in vain, until one of the ends is closed.
fn pass(mut from: TcpStream, mut to: TcpStream, swallows: Option<&AtomicBool>) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let is_lost = swallows.is_some_and(|swallows| swallows.load(Ordering::Relaxed));
        if !is_lost && to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

/// A gateway with an MQTT device and the host.
struct Hall {
    gateway: Gateway,
    device: Peer,
    host: Peer,
    cable: Cable,
    /// In the cable's place where connections are to be reset.
    lines: Option<Chaos>,
    // Last, so that it outlives those who are connected to it.
    broker: Mosquitto,
}

/// What differs between tests.
#[derive(Clone, Copy)]
struct Setup<'a> {
    version: &'a str,
    state: &'a str,
    /// Further keys of `[uplink.sparkplug-b]`.
    more: &'a str,
    /// Further arguments of the host.
    host: &'a [&'a str],
    /// Further lines of the broker's configuration.
    broker: &'a str,
    /// Whether the way to the broker is a [`Cable`].
    by_cable: bool,
    /// After how many bytes of the gateway its connections are reset, one after the other, on lines instead of a cable.
    resets: &'a [usize],
}

const SETUP: Setup<'_> = Setup {
    version: "5",
    state: "3.0",
    more: "primary-host = \"scada\"",
    host: &[],
    broker: "",
    by_cable: true,
    resets: &[],
};

/// Endpoints that lead to the same broker, each with a rest of its own after an attempt that failed.
const LINES: usize = 5;

impl Hall {
    fn start(setup: Setup<'_>) -> Self {
        let options = Options { persistent: true, more: setup.broker, ..Options::default() };
        let broker = Mosquitto::start_with(options);
        let cable = Cable::lay(broker.port());
        let resets = setup.resets.iter().map(|&bytes| Fate::after(0, Trouble::ResetAt(bytes)));
        let lines = (!setup.resets.is_empty())
            .then(|| Chaos::start(Course::Listed(resets.collect()), LINES, broker.port()));
        let own = if setup.by_cable { cable.port } else { broker.port() };
        let (to, others) = match lines.as_ref().map(Chaos::ports) {
            Some([first, others @ ..]) => (*first, others),
            _ => (own, &[][..]),
        };
        let backup = |port| format!("[[uplink.backup]]\nurl = \"mqtt://127.0.0.1:{port}\"\n");
        let backups: String = others.iter().map(backup).collect();
        let mqtt = ports::free_port();
        let config = format!(
            r#"
[gateway]
id = "gw-1"
data-dir = "data"
[mqtt]
listen = ["127.0.0.1:{mqtt}"]
anonymous = true
[[uplink]]
name = "scada"
url = "mqtt://127.0.0.1:{}"
version = {}
topics = ["hall1/#"]
format = "sparkplug-b"
[uplink.sparkplug-b]
group = "hall1"
{}
[[uplink.sparkplug-b.device]]
topics = "hall1/{{press}}/{{metric}}"
device = "{{press}}"
metric = "{{metric}}"
{backups}"#,
            to, setup.version, setup.more
        );
        let port = broker.port().to_string();
        let arguments = ["--port", &port, "--state", setup.state];
        let host = Peer::start("sparkplug_host.py", &[&arguments[..], setup.host].concat());
        let gateway = Gateway::start(&Site::new(&config, &[]));
        let mut device = Peer::start("mqtt_client.py", &[]);
        let options = json!({"host": "127.0.0.1", "port": mqtt, "version": 5, "reconnect": true});
        device.ask("connect", options);
        Self { gateway, device, host, cable, lines, broker }
    }

    /// Lets the device publish the numbers from `first` on, as readings of `metric`.
    fn series(&mut self, name: &str, first: u64, count: u64, metric: &str) {
        let topic = format!("hall1/{metric}");
        let interval = 0.003;
        let series = json!({"name": name, "first": first, "count": count, "topic": topic, "payload": "{n}", "qos": 1, "interval": interval});
        self.device.ask("series", series);
    }

    fn acked(&mut self, name: &str, count: u64) {
        self.device.ask("series_wait", json!({"name": name, "acked": count}));
    }

    /// Waits until the host has every number from 1 to `last`, and returns how they came.
    fn all_arrived(&mut self, last: u64, device: &str, metric: &str) -> Vec<Value> {
        let values: Vec<u64> = (1..=last).collect();
        let wanted = json!({"metric": metric, "device": device, "values": values});
        match self.host.ask("wait_values", wanted) {
            Value::Array(rows) => rows,
            other => panic!("{other}"),
        }
    }

    fn report(&mut self) -> Value {
        self.host.ask("report", json!({}))
    }

    fn messages(&mut self, kind: &str, count: usize) -> Vec<Value> {
        match self.host.ask("wait_messages", json!({"kind": kind, "count": count})) {
            Value::Array(messages) => messages,
            other => panic!("{other}"),
        }
    }

    fn uplink(&self) -> Value {
        let said = self.gateway.tidegate("status", &["--json"]);
        let status: Value = serde_json::from_str(&said.stdout).expect("status prints JSON");
        status["uplinks"]["scada"].clone()
    }

    /// Waits until everything is delivered by the gateway's own book.
    fn settled(&self, received: u64) -> Value {
        wait::until("everything to be delivered", || {
            let uplink = self.uplink();
            (uplink["delivered"] == received && uplink["queued"] == 0).then_some(uplink)
        })
    }
}

/// uplink.42: the connection is cut three times and the gateway killed twice while a device publishes: the host has every
/// number that was acknowledged, and finds no fault.
#[test]
fn uplink_42_nothing_acknowledged_is_lost() {
    for (version, state) in [("5", "3.0"), ("\"3.1.1\"", "2.2")] {
        let more = format!("primary-host = \"scada\"\nstate = \"{state}\"");
        let mut hall = Hall::start(Setup { version, state, more: &more, ..SETUP });
        let count = 1_500;
        hall.series("press", 1, count, "press-1/count");
        for round in 1..=5 {
            hall.acked("press", round * 250);
            if round % 2 == 1 {
                // What is sent now goes nowhere.
                hall.cable.swallow();
                hall.acked("press", round * 250 + 150);
                hall.cable.cut();
            } else {
                hall.gateway.kill9();
                hall.gateway.start_again();
            }
        }
        hall.acked("press", count);
        let rows = hall.all_arrived(count, "press-1", "count");
        let report = hall.report();
        assert_eq!(report["faults"], json!([]), "version {version}: {report}");
        // What is sent again says so, after a kill, too.
        let live = rows.iter().filter(|row| row["historical"] == false && row["how"] == "data");
        let live: Vec<u64> = live.filter_map(|row| row["value"].as_u64()).collect();
        let different: BTreeSet<u64> = live.iter().copied().collect();
        assert_eq!(live.len(), different.len(), "the same reading twice, and none is history");
        let history = rows.iter().filter(|row| row["historical"] == true).count();
        assert!(history > 0, "what went nowhere came as history");
        assert!(rows.iter().any(|row| row["historical"] == false && row["how"] == "data"));
        // Wills and births are in pairs.
        let kinds = hall.host.ask("kinds", json!({}));
        let count_of =
            |kind: &str| kinds.as_array().expect("a list").iter().filter(|it| *it == kind).count();
        assert!(count_of("NBIRTH") >= 4 && count_of("NDEATH") >= 3, "{kinds}");
        assert_eq!(hall.uplink()["balanced"], true);
        // A clean stop says the death before it leaves.
        let deaths = count_of("NDEATH");
        assert!(hall.gateway.terminate().success());
        hall.messages("NDEATH", deaths + 1);
        assert_eq!(hall.report()["faults"], json!([]));
    }
}

/// Where the opening is cut: nowhere, in CONNECT, in the subscriptions, between and in the births, in the first data.
const OPENING: [usize; 12] = [0, 60, 140, 200, 240, 280, 320, 380, 440, 520, 640, 800];

/// U11: with a backlog waiting, connections are reset at every step of the opening, and the gateway is killed meanwhile:
/// each opening is whole and in order for the host, and nothing that was acknowledged is lost.
#[test]
fn uplink_43_fault_u11_openings_that_are_cut() {
    let mut hall = Hall::start(Setup { resets: &OPENING, ..SETUP });
    let lines = hall.lines.take().expect("there are resets");
    let begun = || usize::try_from(lines.connections()).expect("few connections");
    let mut kills = vec![2 * OPENING.len() / 3, OPENING.len() / 3];
    // A kill may end a connection that would have been reset, and leave one that is taken in place of the next.
    let least = OPENING.len() - 2 * kills.len();
    let mut count = 0;
    // A connection without data would be there for ever.
    wait::until("the connection behind the last reset", || {
        hall.series(&format!("press-{count}"), count + 1, 20, "press-1/count");
        hall.acked(&format!("press-{count}"), 20);
        count += 20;
        if kills.pop_if(|reached| begun() > *reached).is_some() {
            hall.gateway.kill9();
            hall.gateway.start_again();
        }
        (begun() > OPENING.len()).then_some(())
    });
    assert!(lines.story().len() >= least, "{:?}", lines.story());
    assert_eq!(kills, [0; 0], "all kills came");
    hall.all_arrived(count, "press-1", "count");
    let report = hall.report();
    assert_eq!(report["faults"], json!([]), "{report}");
    let is_empty = |uplink: &Value| uplink["queued"] == 0 && uplink["balanced"] == true;
    wait::until("an empty queue", || Some(hall.uplink()).filter(is_empty));
}

/// uplink.23: a rebirth on request; metrics of the node and of devices; types and quality as the host announced them.
#[test]
fn uplink_23_births_on_request() {
    let mut hall = Hall::start(Setup { more: "", ..SETUP });
    for (topic, payload) in [
        ("hall1/press-1/temperature", "21.5"),
        ("hall1/press-1/state", "\"run\""),
        ("hall1/press-2/open", "true"),
        ("hall1/shift", "3"),
    ] {
        let publish = json!({"topic": topic, "payload": payload, "qos": 1});
        assert_eq!(hall.device.ask("publish", publish), 0);
    }
    hall.settled(4);
    let before = hall.messages("NBIRTH", 1).len();
    // Requests at once are one; and births that have just been sent are not sent again.
    thread::sleep(Duration::from_secs(5));
    hall.host.ask("ask_rebirth", json!({"node": NODE}));
    hall.host.ask("ask_rebirth", json!({"node": NODE}));
    assert_eq!(hall.messages("NBIRTH", before + 1).len(), before + 1);
    wait::until("births of the devices", || {
        let kinds = hall.host.ask("kinds", json!({}));
        let kinds: Vec<&str> = kinds.as_array()?.iter().filter_map(Value::as_str).collect();
        kinds.ends_with(&["NBIRTH", "DBIRTH", "DBIRTH"]).then_some(())
    });
    let mut last = |metric: &str, device: Value| {
        let rows = hall.host.ask("seen", json!({"metric": metric, "device": device}));
        let row = rows.as_array().and_then(|rows| rows.last()).expect("it was seen");
        (row["value"].clone(), row["datatype"].clone(), row["quality"].clone())
    };
    assert_eq!(last("temperature", json!("press-1")), (json!(21.5), json!(10), json!(192)));
    assert_eq!(last("state", json!("press-1")), (json!("run"), json!(12), json!(192)));
    assert_eq!(last("open", json!("press-2")), (json!(true), json!(11), json!(192)));
    assert_eq!(last("hall1/shift", Value::Null), (json!(3), json!(4), json!(192)));
    assert_eq!(hall.report()["faults"], json!([]));
    // After a kill births have every metric again, as what it was before.
    hall.gateway.kill9();
    hall.gateway.start_again();
    let births = hall.messages("NBIRTH", before + 2);
    assert_eq!(births.last().expect("one")["metrics"], 3);
    assert_eq!(hall.report()["faults"], json!([]));
}

/// uplink.23: nothing is sent without the primary host; what was acknowledged meanwhile comes as history.
#[test]
fn uplink_23_the_primary_host_comes_and_goes() {
    let mut hall = Hall::start(Setup { host: &["--offline"], ..SETUP });
    hall.series("early", 1, 50, "press-1/count");
    hall.acked("early", 50);
    assert_eq!(hall.host.ask("kinds", json!({})), json!([]));
    hall.host.ask("set_state", json!({"online": true}));
    hall.all_arrived(50, "press-1", "count");
    // An older STATE is nothing.
    hall.host.ask("set_state", json!({"online": false, "back": 60_000}));
    hall.series("on", 51, 50, "press-1/count");
    hall.all_arrived(100, "press-1", "count");
    let deaths = hall.messages("NDEATH", 0).len();
    hall.host.ask("set_state", json!({"online": false}));
    hall.messages("NDEATH", deaths + 1);
    let quiet = hall.host.ask("kinds", json!({}));
    hall.series("off", 101, 50, "press-1/count");
    hall.acked("off", 50);
    // An outage is one that lasts.
    thread::sleep(Duration::from_secs(6));
    let still = hall.host.ask("kinds", json!({}));
    let deaths_only = |kinds: &Value, from: usize| {
        kinds.as_array().expect("a list")[from..].iter().all(|kind| kind == "NDEATH")
    };
    assert!(deaths_only(&still, quiet.as_array().expect("a list").len()), "{still}");
    hall.host.ask("set_state", json!({"online": true}));
    let rows = hall.all_arrived(150, "press-1", "count");
    let late: BTreeSet<u64> = rows
        .iter()
        .filter(|row| row["historical"] == true)
        .filter_map(|row| row["value"].as_u64())
        .collect();
    assert!((101..=150).all(|number| late.contains(&number)), "{late:?}");
    assert_eq!(hall.report()["faults"], json!([]));
}

/// uplink.23: where the primary host is not, the next broker is tried; the retained STATE of one broker is not that of
/// another, and the times in them are not either.
#[test]
fn uplink_23_the_host_is_looked_for_at_the_next_broker() {
    let elsewhere = Mosquitto::start();
    let port = elsewhere.port().to_string();
    let mut there = Peer::start("sparkplug_host.py", &["--port", &port]);
    // `[[uplink.backup]]` is a table of the uplink, whichever of its tables stand before it.
    let more =
        format!("primary-host = \"scada\"\n[[uplink.backup]]\nurl = \"mqtt://127.0.0.1:{port}\"");
    let mut hall = Hall::start(Setup { more: &more, host: &["--offline"], ..SETUP });
    // Said later than what the other broker has.
    hall.host.ask("set_state", json!({"online": false}));
    hall.series("press", 1, 20, "press-1/count");
    let values: Vec<u64> = (1..=20).collect();
    let wanted = json!({"metric": "count", "device": "press-1", "values": values, "timeout": 28.0});
    there.ask("wait_values", wanted);
    assert_eq!(hall.uplink()["endpoint"], format!("127.0.0.1:{port}"));
    // When it goes there and comes here, so does the node.
    there.ask("set_state", json!({"online": false}));
    there.ask("wait_messages", json!({"kind": "NDEATH", "count": 1}));
    hall.host.ask("set_state", json!({"online": true}));
    let births = json!({"kind": "NBIRTH", "count": 1, "timeout": 28.0});
    hall.host.ask("wait_messages", births);
    hall.series("more", 21, 20, "press-1/count");
    hall.acked("more", 20);
    let wanted =
        json!({"metric": "count", "device": "press-1", "values": (21..=40).collect::<Vec<u64>>()});
    hall.host.ask("wait_values", wanted);
    // One node is at one broker: the one here began when the one there had died.
    let kinds = there.ask("kinds", json!({}));
    assert_eq!(kinds.as_array().and_then(|kinds| kinds.last()), Some(&json!("NDEATH")));
    assert_eq!(there.ask("report", json!({}))["faults"], json!([]));
    assert_eq!(hall.report()["faults"], json!([]));
}

/// uplink.23: a broker says how large packets may be: births have room for some metrics, messages are divided, and what
/// fits nowhere is a dead letter that status tells of. The host misses no number.
#[test]
fn uplink_23_nothing_is_larger_than_the_broker_takes() {
    let broker = "max_packet_size 1200\n";
    let mut hall = Hall::start(Setup { more: "", broker, ..SETUP });
    let publish = |hall: &mut Hall, topic: &str, payload: &str| {
        let publish = json!({"topic": topic, "payload": payload, "qos": 1});
        assert_eq!(hall.device.ask("publish", publish), 0);
    };
    for number in 0..60 {
        let topic = format!("hall1/wide/a-metric-with-a-name-{number}");
        publish(&mut hall, &topic, "1.5");
    }
    publish(&mut hall, "hall1/press-1/text", "\"short\"");
    publish(&mut hall, "hall1/press-1/text", &format!("\"{}\"", "x".repeat(2_000)));
    publish(&mut hall, "hall1/press-1/text", &format!("\"{}\"", "y".repeat(1_000)));
    let uplink = wait::until("every reading to have its fate", || {
        let uplink = hall.uplink();
        (uplink["queued"] == 0 && uplink["received"] == 63).then_some(uplink)
    });
    let dropped = uplink["dropped"].as_object().expect("an object");
    let dead: u64 = dropped.values().filter_map(Value::as_u64).sum();
    assert!((20..50).contains(&dead) && dropped.len() == 1, "{uplink}");
    assert_eq!(uplink["delivered"].as_u64(), Some(63 - dead));
    assert_eq!((&uplink["balanced"], &uplink["connected"]), (&json!(true), &json!(true)));
    assert_eq!(uplink["connections"], 1, "the connection does not fall over it");
    assert!(uplink["last-refusal"].to_string().contains("bytes"), "{uplink}");
    let text = json!({"metric": "text", "device": "press-1"});
    let rows = hall.host.ask("seen", text);
    let last = rows.as_array().and_then(|rows| rows.last()).expect("it was seen");
    assert_eq!(last["value"], json!("y".repeat(1_000)));
    let report = hall.report();
    assert_eq!((&report["faults"], &report["rebirths_asked"]), (&json!([]), &json!(0)));
}

/// uplink.23: `bdSeq` counts the CONNECT packets, not the attempts that found nobody.
#[test]
fn uplink_23_sessions_are_counted_by_connect() {
    let mut hall = Hall::start(Setup { more: "", by_cable: false, ..SETUP });
    assert_eq!(hall.messages("NBIRTH", 1)[0]["bd_seq"], 0);
    hall.broker.stop();
    wait::until("several attempts in vain", || {
        let lines = hall.gateway.output().lines();
        let in_vain =
            |line: &&String| line.contains("Uplink has no connection") && line.contains("refused");
        (lines.iter().filter(in_vain).count() >= 3).then_some(())
    });
    hall.broker.start_again();
    let mut number = 0;
    let births = wait::until("a birth", || {
        // A host that was away for the birth asks for one when it hears of the node.
        number += 1;
        let publish =
            json!({"topic": "hall1/press-1/count", "payload": number.to_string(), "qos": 1});
        assert_eq!(hall.device.ask("publish", publish), 0);
        let births = hall.messages("NBIRTH", 1);
        (births.len() > 1).then_some(births)
    });
    assert!(births[1..].iter().all(|birth| birth["bd_seq"] == 1), "{births:?}");
}

/// uplink.23: what a host writes to a metric becomes a command of the gateway, by alias and by name; without `commands`
/// it does not.
#[test]
fn uplink_23_hosts_write_to_metrics() {
    let mut hall = Hall::start(Setup { more: "commands = true", ..SETUP });
    hall.device.ask("subscribe", json!({"filters": [["hall1/press-1/setpoint/set", 1]]}));
    let publish = json!({"topic": "hall1/press-1/setpoint", "payload": "20.5", "qos": 1});
    hall.device.ask("publish", publish.clone());
    hall.settled(1);
    for (place, by_alias) in [true, false].into_iter().enumerate() {
        let value = 60.0 + place as f64;
        let write = json!({"node": NODE, "device": "press-1", "metric": "setpoint", "value": value, "by_alias": by_alias});
        hall.host.ask("write", write);
        let messages = hall.device.ask("messages", json!({"count": place + 1}));
        let payload = messages[place]["payload"].as_str().expect("text");
        let order: Value = serde_json::from_str(payload).expect("JSON");
        assert_eq!(order, json!({"value": value}), "{messages}");
    }
    assert_eq!(hall.report()["faults"], json!([]));

    let mut hall = Hall::start(Setup { more: "", ..SETUP });
    hall.device.ask("subscribe", json!({"filters": [["hall1/press-1/setpoint/set", 1]]}));
    hall.device.ask("publish", publish);
    hall.settled(1);
    let write = json!({"node": NODE, "device": "press-1", "metric": "setpoint", "value": 1.0});
    hall.host.ask("write", write);
    // What comes later is there, what was written is not.
    hall.series("later", 1, 5, "press-1/count");
    hall.all_arrived(5, "press-1", "count");
    let messages = hall.device.ask("messages", json!({"count": 0}));
    assert_eq!(messages, json!([]));
}
