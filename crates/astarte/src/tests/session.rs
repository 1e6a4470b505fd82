//! The order of a session, and what is remembered.

use std::sync::Arc;

use tidegate_model::{Qos, Timestamp, Value};

use super::{device, interfaces};
use crate::{
    Certainty, DownError, Interfaces, Keep, Kept, Message, Ownership, Routes, Session, Setup, Step,
    Up, UpError, Way, read_list, write_list,
};

const BASE: &str = "test/V_zv6ThCCtXWveQ8mPjsKg";

fn setup() -> Arc<Setup> {
    let interfaces = interfaces();
    let way = |owner, topic, name, path| {
        Way::new(interfaces.get(name).unwrap(), owner, topic, path).unwrap()
    };
    let (ours, theirs) = (Ownership::Device, Ownership::Server);
    let up = vec![
        way(ours, "hall/{a}/t", "org.example.Values", "/{a}/temp"),
        way(ours, "hall/{a}/env", "org.example.Env", "/{a}"),
        way(ours, "edge/period", "org.example.edge.Config", "/period"),
        way(ours, "edge/enabled", "org.example.edge.Config", "/enabled"),
    ];
    let down = vec![way(theirs, "hall/{p}/pressure", "org.example.Setpoint", "/{p}/pressure")];
    let routes = Routes::new(up, down);
    Arc::new(Setup { device: device(), interfaces, routes })
}

/// Begins as the first connection of a process does.
fn open(kept: &Kept) -> Session {
    Session::new(setup(), kept, Certainty::default())
}

fn keep(kept: &mut Kept, keep: Keep) {
    match keep.value {
        Some(value) => kept.insert(keep.name, value),
        None => kept.remove(&keep.name),
    };
}

/// Goes through the beginning of a connection and returns what was said, in order.
fn begin(session: &mut Session, kept: &mut Kept, is_present: bool) -> Vec<String> {
    if let Some(note) = session.begin() {
        keep(kept, note);
    }
    session.connected(is_present);
    let mut said = Vec::new();
    while let Some(step) = session.next_step() {
        match step {
            Step::Subscribe(filters) => {
                assert!(session.next_step().is_none(), "SUBACK is awaited");
                let filters: Vec<&str> = filters.iter().map(|filter| filter.as_str()).collect();
                said.push(format!("subscribe {}", filters.join(" ")));
                session.step_done();
            }
            Step::Publish(Message { topic, payload, qos }) => {
                assert_eq!(qos, Qos::ExactlyOnce);
                let below = topic.as_str().strip_prefix(BASE).unwrap();
                let text = match below {
                    "" | "/control/emptyCache" => String::from_utf8(payload).unwrap(),
                    "/control/producer/properties" => {
                        read_list(&payload).unwrap().into_iter().collect::<Vec<_>>().join(";")
                    }
                    _ => payload.len().to_string(),
                };
                said.push(format!("{below} {text}"));
                session.step_done();
                if below == "/control/emptyCache" {
                    // Its answer.
                    let purge = format!("{BASE}/control/consumer/properties");
                    session.down(&purge, &[0; 4]).unwrap();
                }
            }
            Step::Keep(note) => keep(kept, note),
            Step::Ready => said.push("ready".to_owned()),
            Step::Refused(key) => said.push(format!("refused {key}")),
        }
    }
    said
}

fn up(session: &mut Session, topic: &str, value: Value) -> Result<Up, UpError> {
    session.up(topic, &value, Timestamp::from_unix_millis(0))
}

/// Publishes a property as if its acknowledgement had come.
fn set(session: &mut Session, kept: &mut Kept, topic: &str, value: Value) -> bool {
    match up(session, topic, value).unwrap() {
        Up::Publish(message, property) => {
            assert_eq!(message.qos, Qos::ExactlyOnce);
            for note in session.property_done(property.unwrap()) {
                keep(kept, note);
            }
            true
        }
        Up::Unchanged => false,
    }
}

/// uplink.22, section 9: the order of the handshake, and when there is none.
#[test]
fn uplink_22_sessions_begin_in_order() {
    let mut kept = Kept::new();
    let mut session = open(&kept);
    let introspection = setup().interfaces.introspection();
    let subscribe = format!(
        "subscribe {BASE}/control/consumer/properties {BASE}/org.example.Orders/# {BASE}/org.example.Setpoint/#"
    );
    let whole = |list: &str, properties: &[&str]| {
        let mut said = vec![
            subscribe.clone(),
            format!(" {introspection}"),
            "/control/emptyCache 1".to_owned(),
            format!("/control/producer/properties {list}"),
        ];
        said.extend(properties.iter().map(|property| (*property).to_owned()));
        said.push("ready".to_owned());
        said
    };
    // The far side may have a session, but nothing says that it was brought to its end.
    assert_eq!(begin(&mut session, &mut kept, true), whole("", &[]));
    assert!(set(&mut session, &mut kept, "edge/period", Value::Integer(5)));
    assert!(set(&mut session, &mut kept, "edge/enabled", Value::Boolean(true)));

    let mut session = open(&kept);
    assert_eq!(begin(&mut session, &mut kept, true), ["ready"]);
    let mut session = open(&kept);
    let list = "org.example.edge.Config/enabled;org.example.edge.Config/period";
    let properties = ["/org.example.edge.Config/enabled 9", "/org.example.edge.Config/period 12"];
    assert_eq!(begin(&mut session, &mut kept, false), whole(list, &properties));
    // Unset once more, and the list has it no longer.
    assert!(set(&mut session, &mut kept, "edge/period", Value::Null));
    let mut session = open(&kept);
    let (list, properties) = ("org.example.edge.Config/enabled", [properties[0]]);
    assert_eq!(begin(&mut session, &mut kept, false), whole(list, &properties));
}

/// uplink.22: who dies between CONNECT and the end of the handshake says everything once more, although the far
/// side has the session then.
#[test]
fn uplink_22_an_unfinished_handshake_is_repeated() {
    let mut kept = Kept::new();
    let mut session = open(&kept);
    begin(&mut session, &mut kept, false);
    let mut session = open(&kept);
    // Durable before CONNECT; then it dies.
    keep(&mut kept, session.begin().unwrap());
    let mut session = open(&kept);
    assert!(session.begin().is_none(), "there is nothing to take back");
    assert!(begin(&mut session, &mut kept, true).len() > 1);
    // As does who has other interfaces than before.
    let mut session = open(&kept);
    assert_eq!(begin(&mut session, &mut kept, true), ["ready"]);
    let fewer = Interfaces::new([interfaces().get("org.example.Values").unwrap().clone()]);
    let routes = Routes::default();
    let other = Setup { device: device(), interfaces: fewer.unwrap(), routes };
    let mut session = Session::new(Arc::new(other), &kept, Certainty::default());
    let said = begin(&mut session, &mut kept, true);
    assert_eq!(said, [" org.example.Values:1:2", "ready"], "no properties, nothing to hear");
}

/// uplink.22: properties that an earlier configuration had are forgotten.
#[test]
fn uplink_22_properties_of_other_times_are_forgotten() {
    let mut kept = Kept::new();
    keep(&mut kept, Keep { name: b"porg.example.Gone/x".to_vec(), value: Some(vec![1]) });
    let mut session = open(&kept);
    let said = begin(&mut session, &mut kept, false);
    assert!(!said.concat().contains("Gone"), "{said:?}");
    assert!(!kept.keys().any(|name| name.ends_with(b"/x")));
}

/// uplink.22: a value that the far side has is not said again; one that is on its way is.
#[test]
fn uplink_22_properties_are_said_when_they_change() {
    let mut kept = Kept::new();
    let mut session = open(&kept);
    begin(&mut session, &mut kept, false);
    assert_eq!(up(&mut session, "edge/period", Value::Null), Ok(Up::Unchanged), "it is not set");
    assert!(set(&mut session, &mut kept, "edge/period", Value::Integer(5)));
    assert!(!set(&mut session, &mut kept, "edge/period", Value::Integer(5)));
    let Ok(Up::Publish(_, Some(six))) = up(&mut session, "edge/period", Value::Integer(6)) else {
        panic!("6 is another value");
    };
    let Ok(Up::Publish(_, Some(five))) = up(&mut session, "edge/period", Value::Integer(5)) else {
        panic!("the far side is about to have 6");
    };
    // Answers may come in another order than the values: the far side has the later one.
    assert_eq!(session.property_done(five).count(), 1);
    assert_eq!(session.property_done(six).count(), 0, "6 is not remembered");
    assert!(!set(&mut session, &mut kept, "edge/period", Value::Integer(5)));
}

#[test]
fn uplink_22_readings_that_can_never_go_say_why() {
    let mut session = open(&Kept::new());
    session.connected(false);
    assert_eq!(up(&mut session, "hall/1/speed", Value::Double(1.0)), Err(UpError::NoWay));
    let error = up(&mut session, "hall/1/t", Value::string("hot")).unwrap_err();
    let expected = "org.example.Values/1/temp: the value is string, where `double` is expected";
    assert_eq!(error.to_string(), expected);
    let sent = up(&mut session, "hall/1/t", Value::Double(1.0)).unwrap();
    let Up::Publish(message, None) = sent else { panic!("{sent:?}") };
    assert_eq!(message.topic.as_str(), format!("{BASE}/org.example.Values/1/temp"));
    assert_eq!(message.qos, Qos::AtMostOnce);
}

/// uplink.22: unchanged is what was acknowledged, and nothing else. The answer to a value may be lost, and its record
/// leave the queue by another way: then the far side may have it.
#[test]
fn uplink_22_what_was_not_acknowledged_is_not_unchanged() {
    let (mut kept, certainty) = (Kept::new(), Certainty::default());
    let mut session = Session::new(setup(), &kept, certainty.clone());
    begin(&mut session, &mut kept, false);
    assert!(set(&mut session, &mut kept, "edge/period", Value::Integer(5)));
    assert!(matches!(
        up(&mut session, "edge/period", Value::Integer(6)),
        Ok(Up::Publish(_, Some(_)))
    ));
    // The connection ends, and the next one knows of it.
    let mut session = Session::new(setup(), &kept, certainty.clone());
    assert_eq!(begin(&mut session, &mut kept, true), ["ready"]);
    assert!(set(&mut session, &mut kept, "edge/period", Value::Integer(5)), "it may have 6");
    let mut session = Session::new(setup(), &kept, certainty);
    assert_eq!(begin(&mut session, &mut kept, true), ["ready"]);
    assert!(!set(&mut session, &mut kept, "edge/period", Value::Integer(5)));
    // Another process cannot know, and says each once.
    let mut session = open(&kept);
    assert_eq!(begin(&mut session, &mut kept, true), ["ready"]);
    assert!(set(&mut session, &mut kept, "edge/period", Value::Integer(5)));
    assert!(!set(&mut session, &mut kept, "edge/period", Value::Integer(5)));
    // Unless the far side has just been told everything.
    let mut session = open(&kept);
    begin(&mut session, &mut kept, false);
    assert!(!set(&mut session, &mut kept, "edge/period", Value::Integer(5)));
}

/// Begins a connection to a far side without a session, which ends when the property that the realm does not take has been
/// said; returns whether that was said.
fn begin_and_lose(kept: &mut Kept, bad: &str) -> bool {
    let mut session = open(kept);
    if let Some(note) = session.begin() {
        keep(kept, note);
    }
    session.connected(false);
    while let Some(step) = session.next_step() {
        match step {
            Step::Keep(note) => keep(kept, note),
            Step::Subscribe(_) => session.step_done(),
            Step::Publish(message) => {
                // The broker takes it, and the server hears of it later.
                session.step_done();
                if message.topic.as_str() == format!("{BASE}{bad}") {
                    while let Some(Step::Keep(note)) = session.next_step() {
                        keep(kept, note);
                    }
                    return true;
                }
                if message.topic.as_str().ends_with("/emptyCache") {
                    let purge = format!("{BASE}/control/consumer/properties");
                    session.down(&purge, &[0; 4]).unwrap();
                }
            }
            Step::Ready | Step::Refused(_) => {}
        }
    }
    false
}

/// uplink.22: a property behind which the far side throws the session away again and again is found among the others, and
/// not said any more until its value or its interface changes.
#[test]
fn uplink_22_a_refused_property_is_set_aside() {
    const BAD: &str = "/org.example.edge.Config/period";
    let mut kept = Kept::new();
    let mut session = open(&kept);
    begin(&mut session, &mut kept, false);
    assert!(set(&mut session, &mut kept, "edge/period", Value::Integer(5)));
    assert!(set(&mut session, &mut kept, "edge/enabled", Value::Boolean(true)));
    let mut connections = 0;
    while begin_and_lose(&mut kept, BAD) {
        connections += 1;
        assert!(connections < 10);
    }
    assert_eq!(connections, 3, "one as usual, and two that look more closely");
    // It is no property of the device any more, and the others are.
    let mut session = open(&kept);
    let said = begin(&mut session, &mut kept, false);
    let is_said = |name: &str| said.iter().any(|said| said.starts_with(name));
    assert!(is_said("/org.example.edge.Config/enabled") && !is_said(BAD), "{said:?}");
    let refused = Err(UpError::Refused(BAD[1..].to_owned()));
    assert_eq!(up(&mut session, "edge/period", Value::Integer(5)), refused);
    // Another value may be taken; then this one is, too, for all that is known.
    assert!(set(&mut session, &mut kept, "edge/period", Value::Integer(6)));
    assert!(set(&mut session, &mut kept, "edge/period", Value::Integer(5)));
}

/// uplink.22: a property that was refused is said again when its interface has another version.
#[test]
fn uplink_22_a_refused_property_is_tried_with_another_interface() {
    let mut kept = Kept::new();
    let mut session = open(&kept);
    begin(&mut session, &mut kept, false);
    assert!(set(&mut session, &mut kept, "edge/period", Value::Integer(5)));
    while begin_and_lose(&mut kept, "/org.example.edge.Config/period") {}
    let key = b"rorg.example.edge.Config/period".to_vec();
    let entry = kept.get_mut(&key).expect("it is remembered");
    entry[7] += 1;
    let mut session = open(&kept);
    let said = begin(&mut session, &mut kept, false);
    assert!(said.contains(&"/org.example.edge.Config/period 12".to_owned()), "{said:?}");
    assert!(!kept.contains_key(&key));
}

/// uplink.22: sessions that are lost for other reasons are no property's fault, however often; and one that goes on takes
/// all doubts away.
#[test]
fn uplink_22_lost_sessions_alone_refuse_nothing() {
    let mut kept = Kept::new();
    let mut session = open(&kept);
    begin(&mut session, &mut kept, false);
    assert!(set(&mut session, &mut kept, "edge/period", Value::Integer(5)));
    for round in 0..12 {
        let mut session = open(&kept);
        let said = begin(&mut session, &mut kept, round % 5 == 4);
        assert!(!said.iter().any(|said| said.starts_with("refused")), "{said:?}");
        let is_said = said.contains(&"/org.example.edge.Config/period 12".to_owned());
        assert_eq!(is_said, round % 5 != 4);
    }
}

/// uplink.22: a value that comes back before the one between is safe is a command again: the last one counts.
#[test]
fn uplink_22_a_property_that_goes_back_is_ordered_back() {
    let mut kept = Kept::new();
    let mut session = open(&kept);
    begin(&mut session, &mut kept, false);
    let topic = format!("{BASE}/org.example.Setpoint/p1/pressure");
    let value = |last: u8| [16, 0, 0, 0, 1, b'v', 0, 0, 0, 0, 0, 0, 0x80, last, 0x40, 0];
    let order = |session: &mut Session, last| session.down(&topic, &value(last)).unwrap();
    let first = order(&mut session, 0x39);
    session.order_done(first[0].keep.as_ref().unwrap());
    let second = order(&mut session, 0x3a);
    let third = order(&mut session, 0x39);
    assert_eq!((second.len(), third.len()), (1, 1));
    assert_eq!(third[0].value, Value::Double(25.5));
    assert_eq!(order(&mut session, 0x39), [], "it is ordered already");
    for done in [second, third] {
        session.order_done(done[0].keep.as_ref().unwrap());
    }
    assert_eq!(order(&mut session, 0x39), []);
    assert_eq!(order(&mut session, 0x3a).len(), 1);
}

/// uplink.22: properties of the server become commands once; a purge and an unset take them back.
#[test]
fn uplink_22_what_comes_down_becomes_commands() {
    let mut kept = Kept::new();
    let mut session = open(&kept);
    begin(&mut session, &mut kept, false);
    let topic = format!("{BASE}/org.example.Setpoint/p1/pressure");
    let value = [16, 0, 0, 0, 1, b'v', 0, 0, 0, 0, 0, 0, 0x80, 0x39, 0x40, 0];
    let orders = session.down(&topic, &value).unwrap();
    assert_eq!(orders.len(), 1);
    assert_eq!(orders[0].topic.as_str(), "hall/p1/pressure");
    assert_eq!(orders[0].value, Value::Double(25.5));
    let note = orders[0].keep.clone().unwrap();
    session.order_done(&note);
    keep(&mut kept, note);
    // Said again by a synchronisation, also to the next process.
    assert_eq!(session.down(&topic, &value), Ok(Vec::new()));
    let mut session = open(&kept);
    begin(&mut session, &mut kept, true);
    assert_eq!(session.down(&topic, &value), Ok(Vec::new()));

    let purge = format!("{BASE}/control/consumer/properties");
    let has = write_list(["org.example.Setpoint/p1/pressure"]);
    assert_eq!(session.down(&purge, &has), Ok(Vec::new()));
    let orders = session.down(&purge, &[0; 4]).unwrap();
    assert_eq!((orders.len(), &orders[0].value), (1, &Value::Null));
    session.order_done(orders[0].keep.as_ref().unwrap());
    assert_eq!(session.down(&purge, &[0; 4]), Ok(Vec::new()));
    assert_eq!(session.down(&topic, &[]), Ok(Vec::new()), "it is not set");

    let mut wrong = |topic: &str, payload: &[u8]| session.down(topic, payload).unwrap_err();
    let orders = format!("{BASE}/org.example.Orders/p1/text");
    let text = [15, 0, 0, 0, 2, b'v', 0, 3, 0, 0, 0, b'o', b'n', 0, 0];
    assert!(matches!(wrong(&orders, &text), DownError::NoWay { .. }));
    assert!(matches!(wrong(&orders, &value), DownError::Payload(_)));
    let ours = format!("{BASE}/org.example.Values/p1/temp");
    assert!(matches!(wrong(&ours, &value), DownError::Path { .. }), "it is the device's");
    assert!(matches!(wrong(&purge, &[1]), DownError::Purge(_)));
    assert_eq!(wrong("elsewhere/x/y/z", &value), DownError::Topic);
}
