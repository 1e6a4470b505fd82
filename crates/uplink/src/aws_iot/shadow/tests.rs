//! What the machine makes of what the service says, and of what local topics say; with a service that keeps a document.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use proptest::prelude::*;
use tidegate_model::{
    AdapterName, Document, Origin, Reading, Status, Timestamp, Topic, Value, json,
};

use crate::Disconnect;

use super::{
    Shadow, ShadowError, ShadowOrder, ShadowPath, ShadowRequest, ShadowSettings, ShadowState,
    update,
};

const PREFIX: &str = "$aws/things/gw/shadow/name/plant/";
const LONG: Duration = Duration::from_secs(3_600);

fn state(key: &str, topic: &str) -> ShadowState {
    ShadowState { key: ShadowPath::new(key).unwrap(), topic: Topic::new(topic).unwrap() }
}

fn settings() -> Arc<ShadowSettings> {
    let states = vec![
        state("press.speed", "hall/speed"),
        state("lamp", "hall/lamp"),
        state("press.name", "hall/name"),
    ];
    Arc::new(ShadowSettings::new("gw", Some("plant"), states, Duration::from_secs(1)).unwrap())
}

fn reading(value: Value) -> Reading {
    let origin = Origin { adapter: AdapterName::new("mqtt").unwrap() };
    Reading::new(value, Timestamp::from_unix_millis(1), origin)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A shadow with what the journal holds of it, and a clock.
struct Rig {
    shadow: Shadow,
    kept: BTreeMap<Vec<u8>, Vec<u8>>,
    now: Duration,
    era: u64,
    /// A topic whose commands nobody can carry out.
    unheard: &'static str,
}

impl Rig {
    fn new() -> Self {
        let shadow = Shadow::new(settings(), std::iter::empty(), 1, Duration::ZERO);
        Self { shadow, kept: BTreeMap::new(), now: Duration::ZERO, era: 1, unheard: "" }
    }

    /// Kills the process, and starts it again with what was written down.
    fn restart(&mut self) {
        self.era += 1;
        let kept = self.kept.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
        self.shadow = Shadow::new(settings(), kept, self.era, self.now);
    }

    fn take_notes(&mut self) {
        for note in self.shadow.poll_notes() {
            match note.value {
                Some(value) => drop(self.kept.insert(note.name, value)),
                None => drop(self.kept.remove(&note.name)),
            }
        }
        self.shadow.handle_noted();
    }

    fn order(&mut self) -> Option<ShadowOrder> {
        self.take_notes();
        let unheard = self.unheard;
        self.shadow.poll_order(self.now, |topic| topic.as_str() != unheard)
    }

    fn safe(&mut self, order: &ShadowOrder) {
        self.shadow.handle_safe(order.id);
        self.take_notes();
    }

    fn request(&mut self) -> Option<ShadowRequest> {
        self.shadow.poll_request(self.now)
    }

    /// Lets so much time pass that whatever waits may go.
    fn later(&mut self) {
        self.now += LONG;
        self.shadow.handle_timeout(self.now, 0);
    }

    fn says(&mut self, suffix: &str, payload: &str) {
        let topic = format!("{PREFIX}{suffix}");
        assert!(self.shadow.handle_message(&topic, payload.as_bytes(), self.now, 0));
    }

    fn told(&mut self) -> String {
        std::iter::from_fn(|| self.shadow.poll_told()).collect::<Vec<_>>().join("\n")
    }

    /// Connects, and lets the service answer with this document.
    fn connect(&mut self, document: &str) {
        self.subscribe();
        let token = token(&self.get());
        let document = document.strip_prefix('{').unwrap();
        self.says("get/accepted", &format!("{{\"clientToken\":\"{token}\",{document}"));
    }

    /// Connects, and subscribes.
    fn subscribe(&mut self) {
        self.shadow.handle_connected();
        assert_eq!(self.shadow.poll_subscription(self.now), Some(settings().filters()));
        self.shadow.handle_subscribed();
    }

    /// Lets the network end the connection.
    fn disconnect(&mut self) {
        assert!(!self.shadow.handle_disconnected(Disconnect::Otherwise, self.now, 0));
    }

    fn get(&mut self) -> ShadowRequest {
        let request = self.request().expect("the document is asked for");
        assert_eq!(request.topic, format!("{PREFIX}get"));
        request
    }

    fn local(&mut self, place: usize, value: Value) {
        self.shadow.handle_local(place, &reading(value));
    }
}

fn token(request: &ShadowRequest) -> String {
    let Value::Document(said) = json::parse_value(&request.payload).unwrap() else { panic!() };
    let Some(Value::String(token)) = said.get("clientToken") else { panic!("{said:?}") };
    token.to_string()
}

/// uplink.21: what is desired while the gateway is away is commanded once after it has connected, in the order of the
/// document; one waits for the other; a version tells of it again and again, and a restart does not matter.
#[test]
fn uplink_21_a_wish_is_commanded_once_and_in_order() {
    let document = r#"{"state":{"desired":{"lamp":true,"press":{"speed":3}},"delta":{"lamp":true,"press":{"speed":3}}},
        "metadata":{"desired":{"lamp":{"timestamp":7},"press":{"speed":{"timestamp":8}}}},"version":5}"#;
    let mut rig = Rig::new();
    rig.connect(document);
    let first = rig.order().unwrap();
    assert_eq!(first.topic.as_str(), "hall/lamp");
    assert_eq!(text(&first.body), r#"{"value":true,"id":"shadow:plant:5:7:lamp"}"#);
    assert_eq!(rig.order(), None, "the second waits until the first is safe");
    rig.says("update/delta", r#"{"version":6,"state":{"lamp":true,"press":{"speed":3}},"metadata":{"lamp":{"timestamp":7},"press":{"speed":{"timestamp":8}}}}"#);
    rig.safe(&first);
    let second = rig.order().unwrap();
    assert_eq!(text(&second.body), r#"{"value":3,"id":"shadow:plant:5:8:press.speed"}"#);
    // Nobody knows whether it was taken in: the same id again.
    rig.restart();
    rig.connect(&document.replace("\"version\":5", "\"version\":9"));
    let again = rig.order().unwrap();
    assert_eq!(again.body, second.body);
    rig.safe(&again);
    rig.restart();
    rig.connect(&document.replace("\"version\":5", "\"version\":12"));
    assert_eq!(rig.order(), None);
    // The same value, desired anew, is another wish.
    rig.says(
        "update/delta",
        r#"{"version":13,"state":{"lamp":true},"metadata":{"lamp":{"timestamp":20}}}"#,
    );
    let anew = rig.order().unwrap();
    assert_eq!(text(&anew.body), r#"{"value":true,"id":"shadow:plant:13:20:lamp"}"#);
}

/// uplink.21: what nobody can carry out yet waits until somebody can, and holds up nothing else.
#[test]
fn uplink_21_a_wish_waits_for_somebody_who_can_carry_it_out() {
    let mut rig = Rig::new();
    rig.unheard = "hall/lamp";
    rig.connect(r#"{"state":{"delta":{"lamp":true,"press":{"speed":3}}},"version":5}"#);
    let speed = rig.order().unwrap();
    assert_eq!(speed.topic.as_str(), "hall/speed");
    rig.safe(&speed);
    assert_eq!(rig.order(), None);
    assert_eq!(rig.shadow.view().waiting, 1);
    assert_eq!(rig.shadow.poll_timeout(rig.now), Some(rig.now + Duration::from_secs(1)));
    // A newer wish takes its place.
    rig.says("update/delta", r#"{"version":6,"state":{"lamp":false}}"#);
    rig.unheard = "";
    assert_eq!(text(&rig.order().unwrap().body), r#"{"value":false,"id":"shadow:plant:6:0:lamp"}"#);
    assert_eq!((rig.order(), rig.shadow.view().waiting), (None, 0));
}

/// uplink.21: a wish that waits for somebody and is withdrawn is not carried out when somebody comes, whether or not the
/// service tells of a difference then.
#[test]
fn uplink_21_a_wish_that_was_withdrawn_is_not_carried_out_later() {
    let mut rig = Rig::new();
    let wait = |rig: &mut Rig, version: u64| {
        rig.unheard = "hall/lamp";
        let wish = format!(r#"{{"version":{version},"state":{{"lamp":true}}}}"#);
        rig.says("update/delta", &wish);
        assert_eq!((rig.order(), rig.shadow.view().waiting), (None, 1));
        rig.later();
    };
    rig.connect(r#"{"state":{},"version":1}"#);
    // A difference is the whole one.
    wait(&mut rig, 2);
    rig.says("update/delta", r#"{"version":3,"state":{"press":{"speed":3}}}"#);
    rig.unheard = "";
    let speed = rig.order().unwrap();
    assert_eq!(speed.topic.as_str(), "hall/speed");
    rig.safe(&speed);
    assert_eq!((rig.order(), rig.shadow.view().waiting), (None, 0));
    // A value that cannot be commanded is none.
    wait(&mut rig, 4);
    rig.says("update/delta", r#"{"version":5,"state":{"lamp":{"a":1}}}"#);
    rig.unheard = "";
    assert_eq!((rig.order(), rig.shadow.view().waiting), (None, 0));
    // Nothing differs any more, of which nobody is told: the document says it.
    for (version, state, is_desired) in
        [(6, r#"{"desired":{}}"#, false), (8, r#"{"delta":{"lamp":true}}"#, true)]
    {
        wait(&mut rig, version);
        assert_eq!(rig.request(), None, "nobody is there");
        rig.unheard = "";
        assert_eq!(rig.order(), None, "it is not known whether it is desired still");
        let token = token(&rig.get());
        assert_eq!((rig.order(), rig.request()), (None, None), "asked once");
        let said = format!(r#"{{"state":{state},"version":{version},"clientToken":"{token}"}}"#);
        rig.says("get/accepted", &said);
        assert_eq!(rig.order().is_some(), is_desired);
        assert_eq!((rig.order(), rig.shadow.view().waiting), (None, 0));
    }
}

/// uplink.21: however fast wishes change, there are no more notes than keys, and none while those before are on their way to
/// the disk; no command goes ahead of its note.
#[test]
fn uplink_21_notes_are_no_more_than_keys() {
    let mut rig = Rig::new();
    rig.connect(r#"{"state":{},"version":1}"#);
    let desire = |rig: &mut Rig, version: u64| {
        let state = format!(r#"{{"lamp":{version},"press":{{"speed":{version}}}}}"#);
        rig.says("update/delta", &format!(r#"{{"version":{version},"state":{state}}}"#));
    };
    let next = |rig: &mut Rig| rig.shadow.poll_order(rig.now, |_| true);
    desire(&mut rig, 2);
    assert_eq!(next(&mut rig), None, "it is not noted");
    assert_eq!(rig.shadow.poll_notes().len(), 2);
    // The journal keeps its order: the command is not durable before.
    let first = next(&mut rig).unwrap();
    for version in 3..1_000 {
        desire(&mut rig, version);
        assert_eq!(rig.shadow.poll_notes(), []);
    }
    rig.shadow.handle_safe(first.id);
    assert_eq!(next(&mut rig), None, "the newest is not noted");
    rig.shadow.handle_noted();
    assert_eq!(rig.shadow.poll_notes().len(), 2);
    assert!(text(&next(&mut rig).unwrap().body).starts_with(r#"{"value":999,"#));
    // What belongs to no key any more is removed at the next start.
    rig.kept.insert(b"shadow/other".to_vec(), Vec::new());
    rig.restart();
    rig.take_notes();
    assert_eq!(rig.kept, BTreeMap::new());
}

/// uplink.21: a command that was not taken in comes again under its id once the document still desires it, and counts once.
#[test]
fn uplink_21_a_wish_that_was_withheld_comes_again() {
    let mut rig = Rig::new();
    let document = r#"{"state":{"delta":{"lamp":true}},"version":5}"#;
    rig.connect(document);
    let first = rig.order().unwrap();
    rig.shadow.handle_withheld(first.id, rig.now, 0);
    assert_eq!((rig.order(), rig.request()), (None, None), "not at once");
    rig.later();
    let token = token(&rig.get());
    let rest = document.strip_prefix('{').unwrap();
    rig.says("get/accepted", &format!("{{\"clientToken\":\"{token}\",{rest}"));
    let again = rig.order().unwrap();
    assert_eq!((&again.body, rig.shadow.view().counts.commands), (&first.body, 0));
    rig.safe(&again);
    rig.safe(&again);
    assert_eq!((rig.order(), rig.shadow.view().counts.commands), (None, 1));
}

/// uplink.21: versions that are older than what is known, keys that nobody knows and values that are none are counted.
#[test]
fn uplink_21_what_is_old_or_unknown_costs_nothing_else() {
    let mut rig = Rig::new();
    // What waited at the service, before and behind what the document says.
    rig.says("update/delta", r#"{"version":3,"state":{"lamp":1}}"#);
    rig.says("update/delta", r#"{"version":2,"state":{"lamp":2}}"#);
    rig.connect(r#"{"state":{},"version":4}"#);
    assert_eq!(rig.order(), None);
    rig.says("update/delta", r#"{"version":3,"state":{"lamp":1}}"#);
    rig.says("update/delta", r#"{"version":5,"state":{"other":{"a":1},"press":{"x":1,"speed":{"a":1}},"lamp":null,"press2":[]}}"#);
    for wrong in ["[]", "no", "{}", r#"{"version":-1,"state":{}}"#, r#"{"version":7,"state":[]}"#] {
        rig.says("update/delta", wrong);
    }
    let deep = format!("{{\"version\":7,\"state\":{}1{}}}", "{\"a\":".repeat(100), "}".repeat(100));
    rig.says("update/delta", &deep);
    let large = format!("{{\"version\":7,\"state\":{{\"lamp\":\"{}\"}}}}", "x".repeat(70_000));
    rig.says("update/delta", &large);
    assert_eq!(rig.order(), None);
    let ignored = rig.shadow.view().counts.ignored;
    let expected = [("malformed", 7), ("stale", 2), ("unfit", 2), ("unknown-key", 3)];
    assert_eq!(ignored, BTreeMap::from(expected));
    assert!(rig.told().contains("cannot be read"));
    assert_eq!(rig.shadow.view().version, Some(5));
    assert!(!rig.shadow.handle_message("$aws/things/gw/shadow/update/delta", b"{}", rig.now, 0));
    assert!(!rig.shadow.handle_message(
        "$aws/things/gw/shadow/name/other/update/delta",
        b"{}",
        rig.now,
        0
    ));
}

/// uplink.21: a shadow that is deleted and made anew begins with other versions: what seems to be old has the document asked
/// for again, no more than once in ten seconds.
#[test]
fn uplink_21_a_shadow_that_is_made_anew_is_taken_up() {
    let mut rig = Rig::new();
    rig.connect(r#"{"state":{},"version":40}"#);
    for version in 1..4 {
        rig.says("update/delta", &format!(r#"{{"version":{version},"state":{{"lamp":true}}}}"#));
        assert_eq!((rig.order(), rig.request()), (None, None));
    }
    let due = rig.shadow.poll_timeout(rig.now).unwrap();
    assert_eq!(due, rig.now + Duration::from_secs(10));
    // A report goes on ahead of it.
    rig.local(0, Value::Integer(1));
    let update = rig.request().unwrap();
    rig.says("update/accepted", &format!(r#"{{"clientToken":"{}"}}"#, token(&update)));
    rig.now = due;
    let token = token(&rig.get());
    let said = format!(
        r#"{{"state":{{"delta":{{"lamp":true}},"reported":{{"press":{{"speed":1}}}}}},"version":3,"clientToken":"{token}"}}"#
    );
    rig.says("get/accepted", &said);
    assert_eq!(text(&rig.order().unwrap().body), r#"{"value":true,"id":"shadow:plant:3:0:lamp"}"#);
    rig.says("update/delta", r#"{"version":2,"state":{"lamp":false}}"#);
    assert_eq!(rig.request(), None, "it may be old, and the document was told just now");
    assert_eq!(rig.shadow.view().counts.ignored, BTreeMap::from([("stale", 4)]));
}

/// uplink.21: a difference that is told of before the document, and is newer, counts.
#[test]
fn uplink_21_a_difference_overtakes_the_document() {
    let mut rig = Rig::new();
    rig.subscribe();
    let token = token(&rig.get());
    rig.says("update/delta", r#"{"version":9,"state":{"lamp":2}}"#);
    rig.says(
        "get/accepted",
        &format!(r#"{{"state":{{"delta":{{"lamp":1}}}},"version":8,"clientToken":"{token}"}}"#),
    );
    assert_eq!(text(&rig.order().unwrap().body), r#"{"value":2,"id":"shadow:plant:9:0:lamp"}"#);
    assert_eq!(rig.order(), None);
}

/// uplink.21: local values are reported where they differ from what the service has, the newest alone, one request for
/// each value at a time and no more often than the interval.
#[test]
fn uplink_21_local_values_are_reported_where_they_differ() {
    let mut rig = Rig::new();
    rig.local(0, Value::Double(2.0));
    rig.local(1, Value::Boolean(true));
    rig.connect(r#"{"state":{"reported":{"press":{"speed":2}}},"version":1}"#);
    let request = rig.request().unwrap();
    assert_eq!(request.topic, format!("{PREFIX}update"));
    let body = format!(
        r#"{{"state":{{"reported":{{"lamp":true}}}},"clientToken":"{}"}}"#,
        token(&request)
    );
    assert_eq!(text(&request.payload), body);
    rig.local(1, Value::Boolean(false));
    rig.local(2, Value::string("a"));
    assert_eq!(rig.request(), None, "the interval is not over");
    assert_eq!(rig.shadow.poll_timeout(rig.now), Some(Duration::from_secs(1)));
    rig.now += Duration::from_secs(1);
    let other = rig.request().unwrap();
    assert!(text(&other.payload).starts_with(r#"{"state":{"reported":{"press":{"name":"a"}}},"#));
    rig.local(1, Value::Float(0.1));
    rig.says("update/accepted", &format!(r#"{{"clientToken":"{}"}}"#, token(&request)));
    rig.says("update/accepted", &format!(r#"{{"clientToken":"{}"}}"#, token(&request)));
    rig.now += Duration::from_secs(1);
    let newest = rig.request().unwrap();
    assert!(text(&newest.payload).contains(r#"{"lamp":0.1}"#));
    for request in [&other, &newest] {
        assert!(!rig.shadow.view().is_in_step);
        rig.says("update/accepted", &format!(r#"{{"clientToken":"{}"}}"#, token(request)));
    }
    rig.later();
    assert_eq!(rig.request(), None);
    assert!(rig.shadow.view().is_in_step);
    assert_eq!(rig.shadow.view().counts.reported, 3);
    // Nothing is reported that is known.
    rig.disconnect();
    rig.connect(
        r#"{"state":{"reported":{"press":{"speed":2,"name":"a"},"lamp":0.1}},"version":4}"#,
    );
    rig.later();
    assert_eq!(rig.request(), None);
}

/// uplink.21: what the service refuses is told in its words; what it may take later is tried again with the newest value,
/// the rest when there is another value, and those that went with it go alone.
#[test]
fn uplink_21_refusals_are_told_and_tried_again_where_that_helps() {
    let mut rig = Rig::new();
    rig.subscribe();
    let get = rig.get();
    rig.says(
        "get/rejected",
        &format!(r#"{{"code":404,"message":"No shadow","clientToken":"{}"}}"#, token(&get)),
    );
    let refuse = |rig: &mut Rig, code: u16| {
        rig.later();
        let request = rig.request().expect("something is reported");
        let said = format!(
            r#"{{"code":{code},"message":"Why\u0007 not","clientToken":"{}"}}"#,
            token(&request)
        );
        rig.says("update/rejected", &said);
        text(&request.payload)
    };
    rig.local(0, Value::Integer(1));
    for code in [409, 429, 500] {
        refuse(&mut rig, code);
        assert!(rig.told().contains(&format!("{code}: Why not")));
        assert_eq!(rig.request(), None, "not at once");
        assert_eq!(rig.shadow.poll_over(), None);
    }
    rig.local(0, Value::Integer(2));
    rig.local(1, Value::Integer(3));
    assert!(refuse(&mut rig, 400).contains(r#"{"lamp":3,"press":{"speed":2}}"#));
    assert!(refuse(&mut rig, 413).contains(r#"{"press":{"speed":2}}"#));
    rig.later();
    let alone = rig.request().unwrap();
    assert!(text(&alone.payload).contains(r#"{"lamp":3}"#));
    let last = rig.told().lines().last().unwrap().to_owned();
    rig.says("update/accepted", &format!(r#"{{"clientToken":"{}"}}"#, token(&alone)));
    assert_eq!(rig.shadow.poll_over(), None, "the other is refused still");
    rig.later();
    assert_eq!(rig.request(), None, "the same would be refused again");
    assert!(!rig.shadow.view().is_in_step);
    rig.local(0, Value::Integer(4));
    let other = rig.request().unwrap();
    rig.says("update/accepted", &format!(r#"{{"clientToken":"{}"}}"#, token(&other)));
    assert_eq!((rig.shadow.poll_over(), rig.shadow.poll_over()), (Some(last), None));
    let refused = rig.shadow.view().counts.refused;
    let expected =
        [("bad-request", 2), ("conflict", 1), ("server", 1), ("throttled", 1), ("too-large", 1)];
    assert_eq!(refused, BTreeMap::from(expected));
}

/// uplink.21: what has no answer is asked again, and the document is told to be asked for no faster than that.
#[test]
fn uplink_21_what_has_no_answer_is_asked_again() {
    let mut rig = Rig::new();
    assert_eq!(rig.request(), None, "nothing is subscribed to");
    rig.subscribe();
    let first = rig.get();
    assert_eq!(rig.request(), None);
    let due = rig.shadow.poll_timeout(rig.now).unwrap();
    rig.now = due;
    rig.shadow.handle_timeout(rig.now, 0);
    assert_eq!(rig.request(), None, "not at once");
    rig.later();
    let second = rig.get();
    assert_ne!(token(&first), token(&second));
    // What was answered too late is nothing any more.
    rig.says(
        "get/accepted",
        &format!(r#"{{"state":{{}},"version":1,"clientToken":"{}"}}"#, token(&first)),
    );
    assert_eq!(rig.shadow.view().version, None);
    rig.says(
        "get/accepted",
        &format!(r#"{{"state":{{}},"version":1,"clientToken":"{}"}}"#, token(&second)),
    );
    rig.local(1, Value::Integer(1));
    let update = rig.request().unwrap();
    rig.now += Duration::from_secs(10);
    rig.shadow.handle_timeout(rig.now, 0);
    rig.later();
    assert!(text(&rig.request().unwrap().payload).contains(r#"{"lamp":1}"#));
    assert_eq!(rig.shadow.view().counts.unanswered, 2);
    assert!(text(&update.payload).contains("lamp"));
    // An answer that cannot be read is not asked for again at once.
    rig.disconnect();
    rig.subscribe();
    let get = rig.get();
    rig.says("get/accepted", &format!(r#"{{"clientToken":"{}"}}"#, token(&get)));
    assert_eq!(rig.request(), None);
    rig.later();
    rig.get();
}

/// uplink.21: if the connection is closed while the service has not shown that it lets us ask, report or subscribe, the
/// shadow is left out for longer each time; if it is closed for anything else, or by the network, it is not.
#[test]
fn uplink_21_a_shadow_that_may_not_be_asked_for_is_left_out() {
    let mut rig = Rig::new();
    let closed =
        |rig: &mut Rig, how| rig.shadow.handle_disconnected(how, rig.now, u64::from(u32::MAX));
    rig.shadow.handle_connected();
    assert!(!closed(&mut rig, Disconnect::ByPeer), "it has asked for nothing");
    let mut pauses = Vec::new();
    for may_subscribe in [false, true, true, true, true, true] {
        rig.shadow.handle_connected();
        assert!(rig.shadow.poll_subscription(rig.now).is_some());
        assert_eq!(rig.shadow.poll_subscription(rig.now), None, "once");
        if may_subscribe {
            rig.shadow.handle_subscribed();
            rig.get();
        }
        assert!(closed(&mut rig, Disconnect::Closed));
        rig.shadow.handle_connected();
        assert_eq!((rig.shadow.poll_subscription(rig.now), rig.request()), (None, None));
        assert!(!closed(&mut rig, Disconnect::Closed), "it was left out");
        rig.shadow.handle_connected();
        let turn = rig.shadow.poll_timeout(rig.now).unwrap();
        pauses.push((turn - rig.now).as_secs());
        let left_out = rig.shadow.view().left_out.unwrap();
        assert_eq!(rig.told(), left_out);
        rig.now = turn;
    }
    assert!(pauses.is_sorted() && pauses[0] >= 15 && *pauses.last().unwrap() >= 150, "{pauses:?}");
    // It may ask, but not report.
    rig.connect(r#"{"state":{},"version":1}"#);
    assert_eq!(rig.shadow.view().left_out, None);
    rig.local(1, Value::Integer(1));
    assert!(rig.request().is_some());
    assert!(closed(&mut rig, Disconnect::ByPeer));
    rig.later();
    // What was allowed on a connection is not the cause of its end.
    rig.connect(r#"{"state":{},"version":1}"#);
    let update = rig.request().unwrap();
    rig.says("update/accepted", &format!(r#"{{"clientToken":"{}"}}"#, token(&update)));
    rig.local(1, Value::Integer(2));
    rig.later();
    assert!(rig.request().is_some());
    assert!(!closed(&mut rig, Disconnect::ByPeer));
    rig.subscribe();
    rig.get();
    rig.disconnect();
    // Who says so does not close the connection.
    rig.shadow.handle_connected();
    assert!(rig.shadow.poll_subscription(rig.now).is_some());
    rig.shadow.handle_not_subscribed("NotAuthorized", rig.now, 0);
    assert!(rig.told().contains("NotAuthorized"));
    assert_eq!(rig.shadow.poll_subscription(rig.now), None);
    rig.later();
    assert!(rig.shadow.poll_subscription(rig.now).is_some());
}

/// uplink.21: values that a shadow cannot have are not reported, and what was reported stays.
#[test]
fn uplink_21_values_that_are_none_are_not_reported() {
    let mut rig = Rig::new();
    let document =
        Value::Document(Arc::new(Document::new(vec![("a".into(), Value::Integer(1))]).unwrap()));
    let nested = Value::Array([Value::Array(Arc::default())].into());
    for value in
        [Value::Null, Value::Double(f64::NAN), document, nested, Value::Bytes(vec![1].into())]
    {
        rig.local(1, value);
    }
    rig.local(1, Value::string(&"x".repeat(update::STATE_BYTES_MAX - 20)));
    let bad = Reading { status: Status::BAD, ..reading(Value::Integer(1)) };
    rig.shadow.handle_local(1, &bad);
    rig.shadow.handle_local(99, &bad);
    rig.shadow.handle_too_large(1);
    rig.shadow.handle_too_large(99);
    rig.connect(r#"{"state":{},"version":1}"#);
    assert_eq!(rig.request(), None);
    let refused = rig.shadow.view().counts.refused;
    assert_eq!(refused, BTreeMap::from([("too-large", 2), ("unfit", 5)]));
    assert!(rig.told().contains("`lamp` is not reported"));
}

/// uplink.21: what is more than the service takes at once goes in several updates.
#[test]
fn uplink_21_large_states_are_split_by_keys() {
    let states = (0..40).map(|at| state(&format!("k{at}.v"), &format!("t/{at}"))).collect();
    let settings = ShadowSettings::new("gw", Some("plant"), states, LONG).unwrap();
    let mut rig = Rig::new();
    rig.shadow = Shadow::new(Arc::new(settings), std::iter::empty(), 1, rig.now);
    for place in 0..40 {
        rig.local(place, Value::string(&"y".repeat(1_000)));
    }
    rig.connect(r#"{"state":{},"version":1}"#);
    let requests: Vec<_> = std::iter::from_fn(|| rig.request()).collect();
    assert_eq!(requests.len(), 5);
    let mut found = 0;
    for request in requests {
        let Value::Document(said) = json::parse_value(&request.payload).unwrap() else { panic!() };
        let mut section = Vec::new();
        json::write_value(said.get("state").unwrap(), &mut section);
        assert!(section.len() <= update::STATE_BYTES_MAX, "{}", section.len());
        found += text(&section).matches("\"v\"").count();
    }
    assert_eq!(found, 40);
}

#[test]
fn settings_that_cannot_be_are_refused() {
    let make = |thing: &str, name, states: &[(&str, &str)]| {
        let states = states.iter().map(|(key, topic)| state(key, topic)).collect();
        ShadowSettings::new(thing, name, states, Duration::ZERO).map(drop)
    };
    let one: &[(&str, &str)] = &[("a.b", "t")];
    assert_eq!(make("gw:1-_", None, one), Ok(()));
    let refuses = |error: ShadowError, thing: &str, name, states: &[(&str, &str)]| {
        assert_eq!(make(thing, name, states), Err(error), "{thing} {name:?} {states:?}");
    };
    refuses(ShadowError::Thing, "", None, one);
    refuses(ShadowError::Thing, "a/b", None, one);
    refuses(ShadowError::Name, "gw", Some("a.b"), one);
    refuses(ShadowError::Name, "gw", Some(""), one);
    refuses(ShadowError::States, "gw", None, &[]);
    refuses(ShadowError::Key(1), "gw", None, &[("a.b", "t"), ("a.b", "u")]);
    refuses(ShadowError::Key(2), "gw", None, &[("a.b", "t"), ("c", "v"), ("a", "u")]);
    refuses(ShadowError::Topic(1), "gw", None, &[("a.b", "t"), ("ab", "t")]);
    for key in ["", "a..b", ".", "a.b.c.d.e.f.g", "a\n", "$a", &"x".repeat(129)] {
        assert!(ShadowPath::new(key).is_err(), "{key}");
    }
}

/// The service: a document of what is desired and reported of two keys, with versions and times.
#[derive(Default)]
struct Service {
    desired: BTreeMap<&'static str, (i64, u64)>,
    reported: BTreeMap<&'static str, i64>,
    version: u64,
    clock_s: u64,
}

const KEYS: [&str; 2] = ["press.speed", "lamp"];

impl Service {
    fn wishes(&self) -> Vec<(&'static str, i64, u64)> {
        let wishes =
            self.desired.iter().filter(|(key, (value, _))| self.reported.get(*key) != Some(value));
        wishes.map(|(key, (value, at))| (*key, *value, *at)).collect()
    }

    fn delta(&self) -> (String, String) {
        let object = |name: &dyn Fn(&(&str, i64, u64)) -> String| {
            let member = |wish: &(&str, i64, u64)| match wish.0.split_once('.') {
                Some((above, below)) => format!("\"{above}\":{{\"{below}\":{}}}", name(wish)),
                None => format!("\"{}\":{}", wish.0, name(wish)),
            };
            format!("{{{}}}", self.wishes().iter().map(member).collect::<Vec<_>>().join(","))
        };
        (
            object(&|wish| wish.1.to_string()),
            object(&|wish| format!("{{\"timestamp\":{}}}", wish.2)),
        )
    }

    fn desire(&mut self, at: usize, value: i64) -> String {
        self.clock_s += 1;
        self.version += 1;
        self.desired.insert(KEYS[at], (value, self.clock_s));
        self.told_delta()
    }

    /// What the service publishes when a request was taken and something is desired that is not reported.
    fn told_delta(&self) -> String {
        let (state, metadata) = self.delta();
        format!("{{\"version\":{},\"state\":{state},\"metadata\":{metadata}}}", self.version)
    }

    fn answer(&mut self, request: &ShadowRequest) -> (&'static str, String) {
        let token = token(request);
        if request.topic.ends_with("/get") {
            let (state, metadata) = self.delta();
            let speed =
                self.reported.get(KEYS[0]).map(|it| format!("\"press\":{{\"speed\":{it}}}"));
            let lamp = self.reported.get(KEYS[1]).map(|it| format!("\"lamp\":{it}"));
            let reported: Vec<_> = speed.into_iter().chain(lamp).collect();
            let version = self.version;
            let said = format!(
                "{{\"state\":{{\"delta\":{state},\"reported\":{{{}}}}},\"metadata\":{{\"desired\":{metadata}}},\"version\":{version},\"clientToken\":\"{token}\"}}",
                reported.join(",")
            );
            return ("get/accepted", said);
        }
        self.version += 1;
        let Value::Document(said) = json::parse_value(&request.payload).unwrap() else { panic!() };
        let at = |document: &Document, name: &str| document.get(name).cloned();
        let inner = |value: Option<Value>, name: &str| match value {
            Some(Value::Document(document)) => at(&document, name),
            _ => None,
        };
        let reported = inner(at(&said, "state"), "reported");
        let speed = inner(inner(reported.clone(), "press"), "speed");
        for (key, value) in KEYS.into_iter().zip([speed, inner(reported, "lamp")]) {
            if let Some(Value::Integer(value)) = value {
                self.reported.insert(key, value);
            }
        }
        ("update/accepted", format!("{{\"version\":{},\"clientToken\":\"{token}\"}}", self.version))
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Desire {
        at: usize,
        value: i64,
        is_heard: bool,
    },
    Local {
        at: usize,
        value: i64,
    },
    Request {
        is_answered: bool,
    },
    Order {
        is_safe: bool,
    },
    Withdraw {
        at: usize,
        is_heard: bool,
    },
    /// Whether somebody can carry out what is desired of the lamp.
    Listener {
        is_there: bool,
    },
    Disconnect,
    Kill,
    Later,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..2_usize, 0..3_i64, any::<bool>()).prop_map(|(at, value, is_heard)| Step::Desire { at, value, is_heard }),
        3 => (0..2_usize, 0..3_i64).prop_map(|(at, value)| Step::Local { at, value }),
        5 => any::<bool>().prop_map(|is_answered| Step::Request { is_answered }),
        4 => any::<bool>().prop_map(|is_safe| Step::Order { is_safe }),
        1 => (0..2_usize, any::<bool>()).prop_map(|(at, is_heard)| Step::Withdraw { at, is_heard }),
        1 => any::<bool>().prop_map(|is_there| Step::Listener { is_there }),
        1 => Just(Step::Disconnect),
        1 => Just(Step::Kill),
        2 => Just(Step::Later),
    ]
}

/// All that is known of one run.
struct Run {
    rig: Rig,
    service: Service,
    local: BTreeMap<usize, i64>,
    /// Bodies of commands that are safe: the gateway carries each out once.
    carried_out: Vec<Vec<u8>>,
    /// Whether nothing is lost any more.
    is_settling: bool,
}

/// Returns whether a command is that of a wish.
fn is_wish(body: &[u8], key: &str, value: i64, at: u64) -> bool {
    let body = text(body);
    body.starts_with(&format!("{{\"value\":{value},"))
        && body.ends_with(&format!(":{at}:{key}\"}}"))
}

impl Run {
    fn step(&mut self, step: Step) {
        let Self { rig, service, local, carried_out, is_settling } = self;
        match step {
            Step::Desire { at, value, is_heard } => {
                let said = service.desire(at, value);
                if is_heard {
                    rig.says("update/delta", &said);
                }
            }
            Step::Local { at, value } => {
                local.insert(at, value);
                rig.local(at, Value::Integer(value));
            }
            Step::Request { is_answered } => {
                if let Some(request) = rig.request() {
                    let (suffix, said) = service.answer(&request);
                    if is_answered {
                        rig.says(suffix, &said);
                        if suffix == "update/accepted" && !service.wishes().is_empty() {
                            rig.says("update/delta", &service.told_delta());
                        }
                    }
                }
            }
            Step::Order { is_safe } => {
                if let Some(order) = rig.order() {
                    if *is_settling {
                        let wished = service
                            .wishes()
                            .into_iter()
                            .any(|(key, value, at)| is_wish(&order.body, key, value, at));
                        assert!(
                            wished,
                            "{} is desired no more: {:?}",
                            text(&order.body),
                            service.wishes()
                        );
                    }
                    // The history of commands: an id that is known is not carried out again.
                    if !carried_out.contains(&order.body) {
                        carried_out.push(order.body.clone());
                    }
                    if is_safe {
                        rig.safe(&order);
                    }
                }
            }
            Step::Withdraw { at, is_heard } => {
                service.version += 1;
                service.desired.remove(KEYS[at]);
                if is_heard && !service.wishes().is_empty() {
                    rig.says("update/delta", &service.told_delta());
                }
            }
            Step::Listener { is_there } => rig.unheard = if is_there { "" } else { "hall/lamp" },
            Step::Disconnect => rig.disconnect(),
            Step::Kill => {
                rig.restart();
                // Topics are retained.
                local.iter().for_each(|(at, value)| rig.local(*at, Value::Integer(*value)));
            }
            Step::Later => rig.later(),
        }
        if matches!(step, Step::Disconnect | Step::Kill) {
            rig.subscribe();
        }
    }

    /// Lets everything go well for a while.
    fn settle(&mut self) {
        self.is_settling = true;
        self.step(Step::Disconnect);
        self.step(Step::Listener { is_there: true });
        for _ in 0..12 {
            self.step(Step::Later);
            self.step(Step::Request { is_answered: true });
            self.step(Step::Order { is_safe: true });
        }
    }
}

proptest! {
    /// uplink.21: whatever is lost, in the end what local topics say is reported, the last wish of each key was commanded, and
    /// each wish once under one id.
    #[test]
    fn uplink_21_every_wish_once_and_the_last_value_is_reported(steps in prop::collection::vec(any_step(), 0..60)) {
        let mut rig = Rig::new();
        rig.subscribe();
        let mut run = Run { rig, service: Service::default(), local: BTreeMap::new(), carried_out: Vec::new(), is_settling: false };
        for step in steps {
            run.step(step);
        }
        run.settle();
        for (at, value) in &run.local {
            prop_assert_eq!(run.service.reported.get(KEYS[*at]), Some(value));
        }
        let bodies = run.carried_out.clone();
        for (key, value, at) in run.service.wishes() {
            let count = bodies.iter().filter(|body| is_wish(body, key, value, at)).count();
            prop_assert_eq!(count, 1, "{} at {}: {:?}", key, at, bodies);
        }
        // Nothing more is to be done.
        run.settle();
        prop_assert!(run.rig.shadow.view().is_in_step);
        prop_assert_eq!(run.carried_out.len(), bodies.len());
    }

    /// Whatever comes is counted, or nothing.
    #[test]
    fn no_message_panics(payload in prop::collection::vec(any::<u8>(), 0..64), which in 0..5_usize) {
        let mut rig = Rig::new();
        let topic = &settings().filters()[which];
        prop_assert!(rig.shadow.handle_message(topic, &payload, rig.now, 0));
        rig.connect(r#"{"state":{},"version":1}"#);
        prop_assert!(rig.shadow.handle_message(topic, &payload, rig.now, 0));
    }
}
