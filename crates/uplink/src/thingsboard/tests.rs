use proptest::prelude::*;
use tidegate_model::{Clock, NameTemplateError, Quality, Status, Timestamp, Value};

use super::*;
use crate::{decoder::Limits, encoder::TypedReading};

fn settings() -> BoardSettings {
    let telemetry = BoardKind::Telemetry;
    let rules = vec![
        BoardRule::new("hall1/{press}/{key}", "Press {press}", "{key}", telemetry).unwrap(),
        BoardRule::new("hall1/{press}/serial", "Press {press}", "serial", BoardKind::Attribute)
            .unwrap(),
        BoardRule::new("{hall}/oven-{n}/zone/{z}", "{hall}-oven-{n}", "zone{z}.t", telemetry)
            .unwrap(),
    ];
    BoardSettings { rules, device_type: "press".into(), quality: true, commands: true }
}

fn reading(value: Value, unix_ms: i64) -> TypedReading {
    TypedReading {
        value,
        time: Timestamp::from_unix_millis(unix_ms),
        until: None,
        unit: None,
        status: Status::GOOD,
        epoch: 1,
        number: 1,
        clock: Clock::Trusted,
        replayed: false,
    }
}

fn row(topic: &str, value: Value, unix_ms: i64) -> BoardRow {
    BoardRow::new(settings().place(topic), &reading(value, unix_ms), None).unwrap()
}

/// uplink.24: the way from a topic to a device and its key, and back.
#[test]
fn uplink_24_topics_are_keys_of_devices_and_back() {
    let settings = settings();
    #[rustfmt::skip]
    let cases = [
        // topic                    device             key
        ("hall1/7/temperature",    Some("Press 7"),    "temperature"),
        ("hall1/7/serial",         Some("Press 7"),    "serial"),
        ("hall2/oven-3/zone/1",    Some("hall2-oven-3"), "zone1.t"),
        ("hall-2/oven-3/zone/1",   Some("hall-2-oven-3"), "zone1.t"),
        ("a-oven/oven-3/zone/1",   Some("a-oven-oven-3"), "zone1.t"),
        ("other",                  None,               "other"),
        ("hall1/7/a/b",            None,               "hall1/7/a/b"),
    ];
    for (topic, device, key) in cases {
        let place = settings.place(topic);
        assert_eq!((place.device.as_deref(), place.key.as_str()), (device, key), "{topic}");
        // A name that may be read in two ways has no way back, rather than a wrong one.
        let back = settings.topic(device, key);
        let expected = Some(topic.to_owned()).filter(|_| !topic.starts_with("a-oven"));
        assert_eq!(back, expected, "{topic}");
    }
    assert_eq!(settings.place("hall1/7/serial").kind, BoardKind::Attribute);
    for (device, key) in [
        (Some("Press "), "a"),
        (Some("Press 7"), ""),
        (Some("Press 7"), "a/b"),
        (Some("x"), "a"),
        (None, "hall1/7/serial"),
    ] {
        assert_eq!(settings.topic(device, key), None, "{device:?} {key}");
    }
    let rule = |topics, device, key| BoardRule::new(topics, device, key, BoardKind::Telemetry);
    assert_eq!(rule("a/#", "d", "k"), Err(BoardNamingError::Wildcard));
    assert_eq!(rule("a/{b}", "{c}", "k"), Err(NameTemplateError::Unknown("c".into()).into()));
    assert_eq!(rule("a/{b}", "{b", "k"), Err(NameTemplateError::Brace.into()));
    assert_eq!(rule("a/{b}", "", "k"), Err(NameTemplateError::Empty.into()));
}

#[test]
fn rows_of_one_kind_go_together() {
    let mut sheet = BoardSheet::new(row("hall1/7/t", Value::Double(21.5), 5));
    for next in [row("hall1/8/t", Value::Integer(7), 6), row("hall1/7/t", Value::Boolean(true), 9)]
    {
        assert!(sheet.takes(&next));
        sheet.push(next);
    }
    assert_eq!(sheet.topic(), "v1/gateway/telemetry");
    let expected = r#"{"Press 7":[{"ts":5,"values":{"t":21.5}},{"ts":9,"values":{"t":true}}],"Press 8":[{"ts":6,"values":{"t":7}}]}"#;
    assert_eq!(String::from_utf8(sheet.payload()).unwrap(), expected);
    assert!(!sheet.takes(&row("hall1/7/serial", Value::string("a"), 1)), "another kind");
    assert!(!sheet.takes(&row("own", Value::Integer(1), 1)), "of the gateway itself");

    let serial = |text| row("hall1/7/serial", Value::string(text), 1);
    let attributes = BoardSheet::new(serial("a"));
    assert_eq!(attributes.topic(), "v1/gateway/attributes");
    assert_eq!(attributes.payload(), br#"{"Press 7":{"serial":"a"}}"#);
    assert!(!attributes.takes(&serial("b")), "it would hide the first one");

    let own = BoardSheet::new(row("a/b", Value::Integer(1), 3));
    assert_eq!(own.topic(), "v1/devices/me/telemetry");
    assert_eq!(own.payload(), br#"[{"ts":3,"values":{"a/b":1}}]"#);
}

#[test]
fn what_has_no_value_is_told_by_its_quality_or_refused() {
    let place = || settings().place("hall1/7/t");
    for nothing in [Value::Null, Value::Double(f64::NAN)] {
        let reading = reading(nothing, 1);
        assert_eq!(BoardRow::new(place(), &reading, None), Err(RowRefusal::NoValue));
        let told = BoardRow::new(place(), &reading, Some(Quality::Bad)).unwrap();
        let payload = BoardSheet::new(told).payload();
        assert_eq!(payload, br#"{"Press 7":[{"ts":1,"values":{"t.quality":"bad"}}]}"#);
    }
    let large = reading(Value::string(&"x".repeat(60 << 10)), 1);
    assert!(matches!(BoardRow::new(place(), &large, None), Err(RowRefusal::TooLarge { .. })));
    let mut sheet = BoardSheet::new(row("hall1/7/t", Value::string(&"x".repeat(30 << 10)), 1));
    let next = row("hall1/7/t", Value::string(&"x".repeat(29 << 10)), 1);
    assert!(sheet.takes(&next));
    sheet.push(next);
    assert!(sheet.payload().len() < 60 << 10);
    assert!(!sheet.takes(&row("hall1/7/t", Value::string(&"x".repeat(1 << 10)), 1)));
}

#[test]
fn calls_become_orders_and_are_answered() {
    let settings = settings();
    let read = |payload: &str| settings.read_call(payload.as_bytes(), &Limits::DOWNLINK);
    let order =
        read(r#"{"device":"Press 7","data":{"id":3,"method":"setpoint","params":66.5}}"#).unwrap();
    let body = br#"{"value":66.5}"#.to_vec();
    assert_eq!(order.order, Ok(("hall1/7/setpoint".to_owned(), body)));
    let answer = order.call.answer();
    assert_eq!(answer_topic(&answer).as_deref(), Some("v1/gateway/rpc"));
    let payload = answer_payload(&answer, br#"{"outcome":"confirmed"}"#).unwrap();
    assert_eq!(payload, br#"{"device":"Press 7","id":3,"data":{"outcome":"confirmed"}}"#);

    let with_id =
        r#"{"device":"Press 7","data":{"id":3,"method":"a","params":{"value":1,"id":"c"}}}"#;
    assert_eq!(read(with_id).unwrap().order.unwrap().1, br#"{"value":1,"id":"c"}"#);
    let unknown = read(r#"{"device":"Drill","data":{"id":3,"method":"a"}}"#).unwrap();
    assert!(unknown.order.unwrap_err().contains("`a`"));
    for nothing in
        ["", "7", r#"{"device":"Press 7"}"#, r#"{"device":"Press 7","data":{"method":"a"}}"#]
    {
        assert_eq!(read(nothing), None, "{nothing}");
    }

    let call = own_call("v1/devices/me/rpc/request/12").unwrap();
    let answer = call.answer();
    let own = settings.read_own_call(
        call,
        br#"{"method":"set","params":{"topic":"a/b","value":1}}"#,
        &Limits::DOWNLINK,
    );
    assert_eq!(own.order, Ok(("a/b".to_owned(), br#"{"value":1}"#.to_vec())));
    assert_eq!(answer_topic(&answer).as_deref(), Some("v1/devices/me/rpc/response/12"));
    assert_eq!(answer_payload(&answer, b"{}").unwrap(), b"{}");
    assert_eq!(own_call("v1/devices/me/rpc/request/x"), None);
    assert_eq!(answer_topic("hall1/a"), None);
}

proptest! {
    #[test]
    fn whatever_is_called_is_read_or_left(payload in any::<Vec<u8>>(), device in ".{0,20}", key in ".{0,20}") {
        let settings = settings();
        let _ = settings.read_call(&payload, &Limits::DOWNLINK);
        if let Some(topic) = settings.topic(Some(&device), &key) {
            let place = settings.place(&topic);
            prop_assert_eq!((place.device, place.key), (Some(device), key));
        }
    }

    #[test]
    fn a_sheet_is_json_with_every_row(values in proptest::collection::vec((0_u8..4, any::<i64>(), ".{0,8}"), 1..40)) {
        let rows = values.iter().map(|(press, value, key)| {
            let place = BoardPlace { device: Some(format!("p\"{press}")), key: key.clone(), kind: BoardKind::Telemetry };
            BoardRow::new(place, &reading(Value::Integer(*value), 1), Some(Quality::Good)).unwrap()
        });
        let mut sheet: Option<BoardSheet> = None;
        for row in rows {
            match &mut sheet {
                Some(sheet) => { prop_assert!(sheet.takes(&row)); sheet.push(row); }
                None => sheet = Some(BoardSheet::new(row)),
            }
        }
        let payload = tidegate_model::json::parse_value(&sheet.unwrap().payload()).unwrap();
        let Value::Document(document) = payload else { panic!("no object") };
        let count: usize = document.iter().map(|(_, rows)| match rows {
            Value::Array(rows) => rows.len(),
            _ => 0,
        }).sum();
        prop_assert_eq!(count, values.len());
    }
}
