//! identity.21: who may do what, over all four protocols, live, retained, queued, after restarts and changed rules.
//!
//! Each cell is tried with a foreign client and compared with the model, which knows the rules and nothing else.

mod model;
mod plant;
mod table;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use self::{
    model::{Rules, Who, matches},
    plant::{FILTERS, Phase, Plant, TOPICS},
    table::{Cell, Table},
};
use crate::support::wait;

/// The table has at least so many cells; fewer need a reason in the change that leaves them out.
const CELLS_MIN: usize = 6_800;

/// A principal that speaks MQTT: one client publishes and goes by its own name, another keeps a session.
#[derive(Debug)]
struct Speaker {
    protocol: &'static str,
    version: u8,
    publisher: Who,
    subscriber: Who,
    /// What the session is subscribed to.
    filters: BTreeSet<String>,
}

impl Speaker {
    fn new(protocol: &'static str, version: u8, principal: &'static str, name: &str) -> Self {
        let who = |role: &str| Who { principal, client_id: Some(format!("{name}-{role}")) };
        let (publisher, subscriber) = (who("out"), who("in"));
        Self { protocol, version, publisher, subscriber, filters: BTreeSet::new() }
    }
}

fn id(who: &Who) -> String {
    who.client_id.clone().expect("an MQTT client has one")
}

struct Matrix {
    plant: Plant,
    speakers: Vec<Speaker>,
    table: Table,
    topics: Vec<String>,
    filters: Vec<String>,
    /// Everything that stands between the slashes, and something that does not.
    levels: Vec<String>,
    round: u32,
}

impl Matrix {
    fn new() -> Self {
        let speakers = vec![
            Speaker::new("mqtt-3.1.1", 4, "alice", "a4"),
            Speaker::new("mqtt-5", 5, "alice", "a5"),
            Speaker::new("mqtt-5", 5, "bob", "b5"),
            Speaker::new("mqtt-3.1.1", 4, "anonymous", "x4"),
        ];
        let mut topics = BTreeSet::new();
        for topic in TOPICS {
            for speaker in &speakers {
                let topic = topic.replace("{publisher}", &id(&speaker.publisher));
                topics.insert(topic.replace("{subscriber}", &id(&speaker.subscriber)));
            }
        }
        let topics: Vec<String> = topics.into_iter().collect();
        let filters: Vec<String> =
            topics.iter().cloned().chain(FILTERS.map(str::to_owned)).collect();
        let words = topics.iter().flat_map(|topic| topic.split('/')).chain(["zz"]);
        let levels: BTreeSet<String> = words.map(str::to_owned).collect();
        let levels = levels.into_iter().collect();
        let mut plant = Plant::start();
        plant.connect("operator", "operator", 5, true);
        Self { plant, speakers, table: Table::default(), topics, filters, levels, round: 0 }
    }

    fn rules(&self) -> Rules {
        self.plant.phase.rules()
    }

    /// What publishers and those who ask may do, in all protocols.
    fn try_all(&mut self, mode: &str) {
        for index in 0..self.speakers.len() {
            self.try_mqtt(mode, index);
        }
        for principal in ["alice", "bob", "anonymous"] {
            self.try_http(mode, principal);
        }
        self.try_coap(mode);
        self.try_presses(mode);
    }

    fn try_mqtt(&mut self, mode: &str, index: usize) {
        let rules = self.rules();
        let Speaker { protocol, version, publisher, .. } = &self.speakers[index];
        let (protocol, version, who) = (*protocol, *version, publisher.clone());
        let name = id(&who);
        self.plant.connect(&name, who.principal, version, true);
        for topic in &self.topics {
            let set = format!("{topic}/set");
            let call = format!("{topic}/call");
            let tries = [
                ("publish", topic, false, rules.may_publish(&who, topic)),
                ("retain", topic, true, rules.may_publish(&who, topic)),
                ("set", &set, false, rules.may_publish(&who, &set)),
                ("call", &call, false, rules.may_publish(&who, &call)),
                ("retain a set", &set, true, false),
            ];
            for (number, (action, on, retain, expected)) in tries.into_iter().enumerate() {
                // Paho does not tell how a PUBREC of MQTT 5 refuses; fault_m14 reads it itself.
                let qos = if number % 2 == 0 || version == 5 { 1 } else { 2 };
                let found = self.plant.publish(&name, on, "0", qos, retain);
                let cell = Cell { mode, protocol, action, who: who.principal, on };
                self.table.compare(cell, expected, found);
                if !found && version == 4 {
                    self.plant.connect(&name, who.principal, version, true);
                }
            }
        }
        self.plant.paho.ask("disconnect", json!({"client": name}));
    }

    fn try_http(&mut self, mode: &str, principal: &'static str) {
        let rules = self.rules();
        let who = Who { principal, client_id: None };
        let protocol = "http";
        let topics = self.topics.clone();
        for topic in &topics {
            let path = format!("/v1/topics/{topic}");
            let set = format!("{topic}/set");
            let mut tries = vec![
                ("publish", "POST", path.clone(), rules.may_publish(&who, topic)),
                ("retain", "PUT", path.clone(), rules.may_publish(&who, topic)),
                ("set", "POST", format!("{path}/set"), rules.may_publish(&who, &set)),
                ("retain a set", "PUT", format!("{path}/set"), false),
                ("read", "GET", path, rules.may_receive(&who, topic)),
            ];
            if let Some(rest) = topic.strip_prefix("m/") {
                let may = rules.may_publish(&who, topic);
                tries.push(("publish mapped", "POST", format!("/in/{rest}"), may));
                tries.push(("set by mapping", "POST", format!("/in/{rest}/set"), false));
            }
            for (action, method, path, expected) in tries {
                let status = self.plant.request(principal, method, &path, "1");
                assert!(matches!(status, 200 | 201 | 400 | 403 | 404), "{method} {path}: {status}");
                // What there is no message of is not there; that is no denial.
                let found = matches!(status, 200 | 201) || (method == "GET" && status == 404);
                let cell = Cell { mode, protocol, action, who: principal, on: topic };
                self.table.compare(cell, expected, found);
            }
        }
        for filter in self.filters.clone() {
            let query = filter.replace('#', "%23").replace('$', "%24");
            let path = format!("/v1/topics?limit=1000&filter={query}");
            let answer = self.plant.answer(principal, "GET", &path, "");
            let found = answer["status"] == 200;
            let expected = rules.may_subscribe(&who, &filter, &self.levels);
            let cell = Cell { mode, protocol, action: "list", who: principal, on: &filter };
            self.table.compare(cell, expected, found);
            if found {
                self.compare_list(mode, &who, &filter, &answer);
            }
        }
    }

    /// A list holds what matches, and nothing that may not be read.
    fn compare_list(&mut self, mode: &str, who: &Who, filter: &str, answer: &Value) {
        let rules = self.rules();
        let body: Value =
            serde_json::from_str(answer["body"].as_str().expect("a body")).expect("JSON");
        for topic in body["topics"].as_array().expect("a list") {
            let topic = topic["topic"].as_str().expect("a topic");
            let may = rules.may_receive(who, topic) && matches(filter, topic);
            let cell =
                Cell { mode, protocol: "http", action: "listed", who: who.principal, on: topic };
            self.table.compare(cell, may, true);
        }
    }

    fn try_coap(&mut self, mode: &str) {
        let rules = self.rules();
        let who = Who { principal: "anonymous", client_id: None };
        for topic in self.topics.clone() {
            let Some(rest) = topic.strip_prefix("m/") else { continue };
            let tries = [
                ("publish mapped", "post", format!("/in/{rest}"), rules.may_publish(&who, &topic)),
                ("set by mapping", "put", format!("/in/{rest}/set"), false),
                ("read", "get", format!("/in/{rest}"), rules.may_receive(&who, &topic)),
            ];
            for (action, method, path, expected) in tries {
                let code = self.plant.coap(method, &path, "1");
                assert!(matches!(&*code, "2.04" | "2.05" | "4.03" | "4.04"), "{path}: {code}");
                let cell = Cell { mode, protocol: "coap", action, who: "anonymous", on: &topic };
                let found = code.starts_with('2') || (method == "get" && code == "4.04");
                self.table.compare(cell, expected, found);
            }
        }
    }

    /// Commands to nodes: the rules and the mapping must both allow them.
    fn try_presses(&mut self, mode: &str) {
        let rules = self.rules();
        let operators = self.plant.phase.operators();
        self.plant.connect("outcomes", "operator", 5, true);
        let filters = json!([["hall/+/setpoint/set/result", 1], ["hall/+/reset/call/result", 1]]);
        self.plant.paho.ask("subscribe", json!({"client": "outcomes", "filters": filters}));
        for (principal, is_http) in [
            ("alice", false),
            ("bob", false),
            ("operator", false),
            ("anonymous", false),
            ("alice", true),
        ] {
            let name = format!("{principal}-commands");
            let who = Who { principal, client_id: (!is_http).then(|| name.clone()) };
            self.plant.connect(&name, principal, 5, true);
            let is_named = |pattern: &&str| match pattern.strip_suffix('*') {
                Some(beginning) => principal.starts_with(beginning),
                None => principal == *pattern,
            };
            let is_operator = operators.iter().any(is_named);
            for (topic, action) in [
                ("hall/press-1/setpoint/set", "set a node"),
                ("hall/press-2/setpoint/set", "set a node"),
                ("hall/press-1/reset/call", "call a method"),
                ("hall/press-2/reset/call", "call a method"),
            ] {
                self.round += 1;
                let number = self.round % 90;
                let command = json!({"id": format!("c-{}", self.round), "value": number});
                let call = json!({"id": format!("c-{}", self.round), "args": [number, "x"]});
                let payload = if action == "set a node" { command } else { call }.to_string();
                let taken = if is_http {
                    let path = format!("/v1/topics/{topic}");
                    self.plant.request(principal, "POST", &path, &payload) == 201
                } else {
                    self.plant.publish(&name, topic, &payload, 1, false)
                };
                let protocol = if is_http { "http-opcua" } else { "mqtt-opcua" };
                let cell = |action| Cell { mode, protocol, action, who: principal, on: topic };
                let may = rules.may_publish(&who, topic);
                self.table.compare(cell("command"), may, taken);
                let found = taken && self.is_carried_out(topic, number);
                self.table.compare(cell(action), may && is_operator, found);
            }
        }
        self.plant.paho.ask("disconnect", json!({"client": "outcomes"}));
    }

    /// Waits for the outcome of a command; returns whether the server heard of it, which must agree.
    fn is_carried_out(&mut self, topic: &str, number: u32) -> bool {
        let wanted = json!({"client": "outcomes", "count": 1, "take": true});
        let outcomes = self.plant.paho.ask("messages", wanted);
        let payload = outcomes[0]["payload"].as_str().expect("a text");
        let outcome: Value = serde_json::from_str(payload).expect("JSON");
        let writes = self.plant.presses.ask("writes", json!({}));
        let calls = self.plant.presses.ask("calls", json!({}));
        let heard: Vec<f64> = if topic.ends_with("/set") {
            let writes = writes.as_array().expect("a list");
            writes.iter().filter_map(|write| write["value"].as_f64()).collect()
        } else {
            let calls = calls.as_array().expect("a list");
            calls.iter().filter_map(|call| call[0].as_f64()).collect()
        };
        let is_confirmed = outcome["outcome"] == "confirmed";
        let expected: &[f64] = if is_confirmed { &[f64::from(number)] } else { &[] };
        assert_eq!(heard, expected, "{topic}: {outcome}");
        is_confirmed
    }

    /// Connects the sessions; they are there from the second time on.
    fn connect_sessions(&mut self, is_first: bool) {
        for index in 0..self.speakers.len() {
            let Speaker { version, subscriber, .. } = &self.speakers[index];
            let (version, who) = (*version, subscriber.clone());
            let present = self.plant.connect(&id(&who), who.principal, version, false);
            assert_eq!(present, !is_first, "{who:?}");
        }
    }

    fn leave_sessions(&mut self) {
        for speaker in &self.speakers {
            self.plant.paho.ask("disconnect", json!({"client": id(&speaker.subscriber)}));
        }
    }

    /// Each session asks for every filter; what is granted stays with it.
    fn subscribe_all(&mut self, mode: &str) {
        let rules = self.rules();
        for index in 0..self.speakers.len() {
            let who = self.speakers[index].subscriber.clone();
            let protocol = self.speakers[index].protocol;
            let mark = format!("mark/{}", who.principal);
            let wanted: Vec<&String> = self.filters.iter().chain([&mark]).collect();
            let pairs: Vec<Value> = wanted.iter().map(|filter| json!([filter, 1])).collect();
            let request = json!({"client": id(&who), "filters": pairs});
            let reasons = self.plant.paho.ask("subscribe", request);
            for (filter, reason) in wanted.into_iter().zip(reasons.as_array().expect("a list")) {
                let found = reason.as_u64() == Some(1);
                let expected = rules.may_share(&who, filter, &self.levels);
                let cell =
                    Cell { mode, protocol, action: "subscribe", who: who.principal, on: filter };
                self.table.compare(cell, expected, found);
                if expected {
                    self.speakers[index].filters.insert(filter.clone());
                }
            }
        }
    }

    /// The operator publishes on every topic, and at last the marks behind which nothing comes. Returns the payload.
    fn publish_everywhere(&mut self, retain: bool) -> String {
        self.round += 1;
        let payload = format!("round-{}", self.round);
        for topic in &self.topics {
            let taken = self.plant.publish("operator", topic, &payload, 1, retain);
            assert_eq!(taken, !topic.starts_with('$'), "{topic}");
        }
        payload
    }

    fn publish_marks(&mut self, payload: &str) {
        for principal in ["alice", "bob", "anonymous"] {
            let taken =
                self.plant.publish("operator", &format!("mark/{principal}"), payload, 1, false);
            assert!(taken, "{principal}");
        }
    }

    /// Compares what each session gets of a round with what it may have under all of `rules`.
    fn compare_round(&mut self, mode: &str, action: &'static str, payload: &str, rules: &[Rules]) {
        for index in 0..self.speakers.len() {
            let Speaker { protocol, subscriber: who, filters, .. } = &self.speakers[index];
            let (client, mark) = (id(who), format!("mark/{}", who.principal));
            let mut got: BTreeMap<String, usize> = BTreeMap::new();
            wait::until("the mark behind the round", || {
                let request = json!({"client": client, "take": true});
                let messages = self.plant.paho.ask("messages", request);
                for message in messages.as_array().expect("a list") {
                    let is_meant = action != "retained"
                        || message["retain"] == true
                        || message["topic"] == mark;
                    if message["payload"] == payload && is_meant {
                        let topic = message["topic"].as_str().expect("a topic").to_owned();
                        *got.entry(topic).or_default() += 1;
                    }
                }
                got.contains_key(&mark).then_some(())
            });
            for topic in &self.topics {
                let is_wanted = filters.iter().any(|filter| matches(filter, topic));
                let may = rules.iter().all(|rules| rules.may_receive(who, topic));
                let expected = is_wanted && may && !topic.starts_with('$');
                let cell = Cell { mode, protocol, action, who: who.principal, on: topic };
                self.table.compare(cell, expected, got.contains_key(topic));
            }
        }
    }

    /// A message on every topic while the sessions are connected.
    fn live(&mut self, mode: &str) {
        let payload = self.publish_everywhere(false);
        self.publish_marks(&payload);
        let rules = [self.rules()];
        self.compare_round(mode, "receive live", &payload, &rules);
    }

    /// A retained message on every topic, and all subscriptions anew.
    fn retained(&mut self, mode: &str) {
        let payload = self.publish_everywhere(true);
        for speaker in &mut self.speakers {
            let filters: Vec<&String> = speaker.filters.iter().collect();
            let request = json!({"client": id(&speaker.subscriber), "filters": filters});
            self.plant.paho.ask("unsubscribe", request);
            // What came live is not what is compared.
            self.plant
                .paho
                .ask("messages", json!({"client": id(&speaker.subscriber), "take": true}));
            speaker.filters.clear();
        }
        self.subscribe_all(mode);
        self.publish_marks(&payload);
        let rules = [self.rules()];
        self.compare_round(mode, "retained", &payload, &rules);
    }

    /// A message on every topic while the sessions are away; `meanwhile` happens before they are back.
    fn queued(&mut self, mode: &str, meanwhile: impl FnOnce(&mut Plant)) {
        self.leave_sessions();
        let before = self.rules();
        let payload = self.publish_everywhere(false);
        meanwhile(&mut self.plant);
        let rules = [before, self.rules()];
        self.connect_sessions(false);
        self.publish_marks(&payload);
        self.compare_round(mode, "queued", &payload, &rules);
    }
}

fn restart(plant: &mut Plant) {
    plant.gateway.kill9();
    plant.gateway.start_again();
    plant.connect("operator", "operator", 5, true);
}

/// identity.21, identity.4, M14: each cell is what the model says.
#[test]
fn identity_21_rights_matrix() {
    let mut matrix = Matrix::new();
    matrix.connect_sessions(true);
    matrix.subscribe_all("at first");
    matrix.live("at first");
    matrix.retained("at first");
    matrix.try_all("at first");
    matrix.queued("at first", |_| ());
    matrix.queued("after a restart", restart);
    matrix.live("after a restart");
    matrix.try_all("after a restart");

    matrix.queued("rules changed while away", |plant| plant.enter(Phase::Second, true));
    matrix.live("rules changed");
    matrix.retained("rules changed");
    matrix.live("rules changed");
    matrix.try_all("rules changed");
    // The sessions are connected; what they hold is cut down and grows again.
    matrix.plant.enter(Phase::First, true);
    matrix.live("rules changed back");
    matrix.plant.enter(Phase::Second, true);
    matrix.live("rules changed while there");

    matrix.queued("rules changed while down", |plant| {
        plant.gateway.kill9();
        plant.enter(Phase::Third, false);
        plant.gateway.start_again();
        plant.connect("operator", "operator", 5, true);
    });
    matrix.live("rules changed while down");
    matrix.retained("rules changed while down");
    matrix.try_all("rules changed while down");
    matrix.table.finish(CELLS_MIN);
    let denied = &matrix.plant.gateway.status(&[])["broker"]["denied"];
    for principal in ["alice", "bob", "anonymous"] {
        assert!(denied[principal].as_u64() > Some(0), "counted for each principal: {denied}");
    }
}
