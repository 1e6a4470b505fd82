use tidegate_model::{AdapterName, Origin, Payload, Reading, Timestamp};

use super::*;

fn message(name: &str, payload: Payload, content_type: Option<&str>) -> LastMessage {
    LastMessage {
        topic: Topic::new(name).unwrap(),
        payload,
        content_type: content_type.map(Into::into),
        arrival: Timestamp::from_unix_micros(1_772_366_400_123_000),
    }
}

fn reading(value: Value, presentation: Presentation) -> Payload {
    let origin = Origin { adapter: AdapterName::new("coap").unwrap() };
    let arrival = Timestamp::from_unix_micros(1_772_366_400_123_000);
    Payload::reading(Reading::new(value, arrival, origin), presentation)
}

/// main.11: each level of a path is one level of the topic.
#[test]
fn topics_are_taken_out_of_paths() {
    #[rustfmt::skip]
    let cases = [
        ("/v1/topics/hall1/boiler",     Some("hall1/boiler")),
        ("/v1/topics/a%20b/k%C3%BC",    Some("a b/kü")),
        ("/v1/topics/a//b/",            Some("a//b/")),
        ("/v1/topics//a",               Some("/a")),
        ("/v1/topics/$SYS/x",           Some("$SYS/x")),
        ("/v1/topics/",                 None),      // empty
        ("/v1/topics/a%2Fb",            None),      // a level with a slash
        ("/v1/topics/a/%2B",            None),      // a wildcard
        ("/v1/topics/a%00",             None),
        ("/v1/topics/%FF",              None),
        ("/v1/topics/a%2",              None),
    ];
    for (path, expected) in cases {
        let found = topic(path).ok();
        assert_eq!(found.as_ref().map(Topic::as_str), expected, "{path}");
    }
}

#[test]
fn queries_select_topics() {
    let read = |query| {
        let Selection { filter, limit, after } = Selection::read(query).ok()?;
        Some((filter.as_str().to_owned(), limit, after.map(|after| after.as_str().to_owned())))
    };
    let selection = |filter: &str, limit, after: Option<&str>| {
        Some((filter.to_owned(), limit, after.map(str::to_owned)))
    };
    #[rustfmt::skip]
    let cases = [
        ("",                                selection("#", 100, None)),
        ("filter=hall1/+/temperature",      selection("hall1/+/temperature", 100, None)),
        ("filter=hall1/%2B/%23&limit=7",    selection("hall1/+/#", 7, None)),
        ("after=a%2Fb&limit=1000",          selection("#", 1_000, Some("a/b"))),
        ("filter=a%23",                     None),
        ("filter=",                         None),
        ("limit=0",                         None),
        ("limit=1001",                      None),
        ("limit=x",                         None),
        ("after=+",                         None),
        ("filter=a&filter=b",               None),
        ("depth=1",                         None),
        ("filter=%ZZ",                      None),
    ];
    for (query, expected) in cases {
        assert_eq!(read(query), expected, "{query}");
    }
}

#[test]
fn messages_have_a_media_type() {
    use Presentation::{Envelope, Value as Bare};
    let bytes = || Payload::bytes("x");
    #[rustfmt::skip]
    let cases = [
        (reading(Value::Integer(1), Envelope),              None,               "application/json"),
        (reading(Value::Integer(1), Bare),                  None,               "application/json"),
        (reading(Value::string("on"), Bare),                None,               "text/plain; charset=utf-8"),
        (reading(Value::Bytes(Bytes::new()), Bare),         None,               "application/octet-stream"),
        (bytes(),                                           None,               "application/octet-stream"),
        (bytes(),                                           Some("text/csv"),   "text/csv"),
        (bytes(),                                           Some("a\nb"),       "application/octet-stream"),
    ];
    for (payload, content_type, expected) in cases {
        let response = show(&message("t", payload, content_type));
        assert_eq!(response.headers()[header::CONTENT_TYPE], expected);
        assert_eq!(response.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    }
}

/// main.11: the list shows envelopes, texts and bytes, and where to go on.
#[test]
fn lists_are_json() {
    let messages = [
        message(
            "a",
            reading(Value::Double(21.5), Presentation::Envelope),
            Some("application/json"),
        ),
        message("b/\"c\"", Payload::bytes("{}"), Some("application/json")),
        message("d", Payload::bytes(&b"\xFF"[..]), None),
    ];
    let arrival = "2026-03-01T12:00:00.123Z";
    let list: serde_json::Value = serde_json::from_slice(&write_list(&messages, 100)).unwrap();
    assert_eq!(
        list,
        serde_json::json!({"topics": [
            {"topic": "a", "arrival": arrival, "envelope": {"value": 21.5, "time": arrival, "quality": "good"}},
            {"topic": "b/\"c\"", "arrival": arrival, "content-type": "application/json", "payload": "{}"},
            {"topic": "d", "arrival": arrival, "payload": "/w==", "encoding": "base64"},
        ]})
    );
    let full: serde_json::Value = serde_json::from_slice(&write_list(&messages, 3)).unwrap();
    assert_eq!(full["next"], "d");
    assert_eq!(write_list(&[], 3), br#"{"topics":[]}"#);

    let large = Payload::bytes(vec![b'x'; LIST_BYTES_MAX]);
    let messages = ["a", "b", "c"].map(|name| message(name, large.clone(), None));
    let cut: serde_json::Value = serde_json::from_slice(&write_list(&messages, 100)).unwrap();
    assert_eq!((cut["topics"].as_array().unwrap().len(), &cut["next"]), (1, &"a".into()));
}
