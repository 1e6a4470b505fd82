//! Names of devices and metrics, ids, and STATE.

use tidegate_model::NameTemplateError;

use crate::{
    DeviceRule, HostState, Id, IdError, MessageType, NamingError, Node, StateVersion,
    naming::{is_reserved, place},
};

#[test]
fn topics_become_devices_and_metrics() {
    let rules = [
        DeviceRule::new("hall1/{press}/{metric}", "{press}", "{metric}").unwrap(),
        DeviceRule::new("hall1/{press}/oil/{metric}", "{press}", "oil/{metric}").unwrap(),
        DeviceRule::new("hall1/meter/{metric}", "meter-of-hall1", "{metric}").unwrap(),
    ];
    #[rustfmt::skip]
    let cases = [
        ("hall1/press-1/temperature",   Some("press-1"),        "temperature"),
        ("hall1/press-1/oil/level",     Some("press-1"),        "oil/level"),
        ("hall1/meter/kwh",             Some("meter-of-hall1"), "kwh"),     // more literal levels win
        ("hall1/press-1",               None,                   "hall1/press-1"),
        ("hall2/press-1/temperature",   None,                   "hall2/press-1/temperature"),
    ];
    for (topic, device, metric) in cases {
        let place = place(&rules, topic);
        assert_eq!((place.device.as_deref(), &*place.metric), (device, metric), "{topic}");
        assert!(!is_reserved(&place));
    }
    assert!(is_reserved(&place(&rules, "bdSeq")));
    assert!(is_reserved(&place(&rules, "Node Control/Rebirth")));
}

#[test]
fn wrong_rules_are_refused() {
    use NameTemplateError::{Brace, Empty, Unknown};
    use NamingError::{Id as WrongId, Name, Pattern, Wildcard};
    let rule = |topics, device, metric| DeviceRule::new(topics, device, metric).unwrap_err();
    assert_eq!(rule("hall1/+/x", "d", "m"), Wildcard);
    assert!(matches!(rule("hall1/{a}{b}", "d", "m"), Pattern(_)));
    assert_eq!(rule("{a}/{b}", "{c}", "{b}"), Name(Unknown("c".into())));
    assert_eq!(rule("{a}/{b}", "{a}", "{c}"), Name(Unknown("c".into())));
    assert_eq!(rule("{a}/{b}", "{a", "{b}"), Name(Brace));
    assert_eq!(rule("{a}/{b}", "x/{a}", "{b}"), WrongId(IdError::Character('/')));
    assert_eq!(rule("{a}/{b}", "{a}", ""), Name(Empty));
}

#[test]
fn ids_are_levels_of_topics() {
    assert_eq!(Id::new(""), Err(IdError::Empty));
    assert_eq!(Id::new("a+b"), Err(IdError::Character('+')));
    assert_eq!(Id::new("a\0b"), Err(IdError::Character('\0')));
    assert_eq!(Id::new(&"x".repeat(257)), Err(IdError::TooLong));
    let node = Node { group: Id::new("hall 1").unwrap(), id: Id::new("gw-1").unwrap() };
    assert_eq!(node.topic(MessageType::Birth), "spBv1.0/hall 1/NBIRTH/gw-1");
    assert_eq!(node.device_topic(MessageType::Data, "p"), "spBv1.0/hall 1/DDATA/gw-1/p");
    assert_eq!(node.commanded("spBv1.0/hall 1/NCMD/gw-1"), Some(None));
    assert_eq!(node.commanded("spBv1.0/hall 1/DCMD/gw-1/p"), Some(Some("p")));
    for other in [
        "spBv1.0/hall 1/NCMD/gw-2",
        "spBv1.0/hall 1/NCMD/gw-1/p",
        "spBv1.0/hall 1/DCMD/gw-1",
        "spBv1.0/hall 1/DCMD/gw-1/p/q",
        "spBv1.0/hall 1/DDATA/gw-1/p",
        "spAv1.0/hall 1/NCMD/gw-1",
    ] {
        assert_eq!(node.commanded(other), None, "{other}");
    }
}

#[test]
fn both_forms_of_state_are_read() {
    let host = Id::new("scada").unwrap();
    assert_eq!(StateVersion::V3.topic(&host), "spBv1.0/STATE/scada");
    assert_eq!(StateVersion::V2.topic(&host), "STATE/scada");
    let state = |online, timestamp| Some(HostState { online, timestamp });
    #[rustfmt::skip]
    let cases: [(StateVersion, &str, Option<HostState>); 9] = [
        (StateVersion::V3, r#"{"online":true,"timestamp":1700000000000}"#, state(true, 1_700_000_000_000)),
        (StateVersion::V3, r#"{"timestamp":7,"online":false,"more":[]}"#,  state(false, 7)),
        (StateVersion::V3, r#"{"online":1,"timestamp":7}"#,                None),
        (StateVersion::V3, r#"{"online":true}"#,                           None),
        (StateVersion::V3, r#"{"online":true,"timestamp":-1}"#,            None),
        (StateVersion::V3, "ONLINE",                                       None),
        (StateVersion::V2, "ONLINE",                                       state(true, 0)),
        (StateVersion::V2, "OFFLINE",                                      state(false, 0)),
        (StateVersion::V2, "online",                                       None),
    ];
    for (version, payload, expected) in cases {
        assert_eq!(version.read(payload.as_bytes()), expected, "{payload}");
    }
    assert_eq!(StateVersion::V3.read("[".repeat(100_000).as_bytes()), None);
}
