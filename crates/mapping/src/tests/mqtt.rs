//! What MQTT clients publish.

use tidegate_model::{Clock, Reading};

use super::{apply_mqtt, captures, inlet, publish, set, topic, value};
use crate::Applied;

/// main.13: `[[mqtt]]` mappings read text, JSON and bytes.
#[test]
fn payloads_become_readings() {
    #[rustfmt::skip]
    let cases = [
        ("payload = 'text'",                            "217",              r#"h/7 {"value":217,"quality":"good"}"#),
        ("payload = 'text'",                            " on\n",            r#"h/7 {"value":"on","quality":"good"}"#),
        ("payload = 'text'\ntransform = 'value / 10'",  "217",              r#"h/7 {"value":21.7,"quality":"good"}"#),
        ("payload = 'text'\ntype = 'string'",           "007",              r#"h/7 {"value":"007","quality":"good"}"#),
        ("payload = 'text'\ntype = 'string'\ntransform = 'string(value)'", "7", r#"h/7 {"value":"7","quality":"good"}"#),
        ("payload = 'text'\ntype = 'float'",            "hot",              r#"h/7 {"value":null,"quality":"bad","status":2147483648} (expected float, found the string "hot")"#),
        ("payload = 'text'",                            "",                 "error: the payload is empty"),
        ("payload = 'json'",                            "21.0",             r#"h/7 {"value":21.0,"quality":"good"}"#),
        ("payload = 'json'",                            "null",             r#"h/7 {"value":null,"quality":"bad","status":2147483648}"#),
        ("payload = 'json'",                            "{\"a\":1}",        r#"h/7 {"value":{"a":1},"quality":"good"}"#),
        ("payload = 'json'\ntransform = 'value.a'",     "{\"a\":1}",        r#"h/7 {"value":1,"quality":"good"}"#),
        ("payload = 'json'\ntransform = 'value.b'",     "{\"a\":1}",        "left out: no-value"),
        ("payload = 'json'",                            "{",                "error: the payload is not JSON: EOF while parsing an object at line 1 column 1"),
        ("payload = 'json'",                            "{\"a\":1,\"a\":2}", "error: the payload is not JSON: the name `a` occurs twice at line 1 column 13"),
        ("payload = 'json'",                            r#"{"value":5,"quality":"uncertain","unit":"bar"}"#, r#"h/7 {"value":5,"quality":"uncertain","status":1073741824,"unit":"bar"}"#),
        ("payload = 'json'\nunit = 'Pa'\ntransform = 'value * 100000'", r#"{"value":5,"unit":"bar"}"#, r#"h/7 {"value":500000,"quality":"good","unit":"Pa"}"#),
        ("payload = 'raw'",                             "ab",               r#"h/7 {"value":"YWI=","quality":"good","encoding":"base64"}"#),
        ("payload = 'raw'",                             "",                 r#"h/7 {"value":"","quality":"good","encoding":"base64"}"#),
        ("",                                            "21.5",             r#"h/7 {"value":21.5,"quality":"good"}"#),
        ("",                                            "on",               r#"h/7 {"value":"on","quality":"good"}"#),
        ("",                                            "\"on\"",           r#"h/7 {"value":"on","quality":"good"}"#),
    ];
    for (keys, payload, expected) in cases {
        let set = set(&format!("[[mqtt]]\nfilter = 'old/{{id}}'\ntopic = 'h/{{id}}'\n{keys}\n"));
        assert_eq!(publish(&set, "old/7", payload), [expected], "{keys} of {payload}");
    }
}

#[test]
fn bytes_that_are_no_text_are_told_apart() {
    let entry = |keys: &str| format!("[[mqtt]]\nfilter = 'old'\ntopic = 'h'\n{keys}\n");
    let apply = |keys: &str| {
        let set = set(&entry(keys));
        apply_mqtt(&set.entries()[0], &captures(&[]), b"a\xff")
    };
    assert_eq!(apply("payload = 'text'"), ["error: the payload is not text: byte 1 is not UTF-8"]);
    assert_eq!(apply(""), [r#"h {"value":"Yf8=","quality":"good","encoding":"base64"}"#]);
}

/// main.13: the members of one payload become readings of their own.
#[test]
fn members_become_readings() {
    let member =
        set("[[mqtt]]\nfilter = 'dev/{id}/SENSOR'\ntopic = 'h/{id}/{member}'\npayload = 'json'\n\
         each = 'member'\nwhen = \"member != 'Time'\"\n");
    assert_eq!(
        publish(&member, "dev/a/SENSOR", r#"{"Time":"now","t":21.5,"in/out":null,"x":{"y":1}}"#),
        [
            "left out: when",
            r#"h/a/t {"value":21.5,"quality":"good"}"#,
            r#"h/a/in%2Fout {"value":null,"quality":"bad","status":2147483648}"#,
            r#"h/a/x {"value":{"y":1},"quality":"good"}"#,
        ]
    );
    assert_eq!(
        publish(&member, "dev/a/SENSOR", "[1]"),
        ["error: `each = \"member\"` needs an object, found array"]
    );
    // With `each`, an object is taken apart whatever its members are called.
    assert_eq!(publish(&member, "dev/a/SENSOR", r#"{"value":1}"#).len(), 1);
    let leaf = set(
        "[[mqtt]]\nfilter = 'dev/{id}'\ntopic = 'h/{id}/{member}'\neach = 'leaf'\ntransform = 'value * 2'\n",
    );
    assert_eq!(
        publish(&leaf, "dev/a", r#"{"x":{"y":1,"z":2}}"#),
        [r#"h/a/x.y {"value":2,"quality":"good"}"#, r#"h/a/x.z {"value":4,"quality":"good"}"#]
    );
}

#[test]
fn the_entry_with_more_literal_levels_wins() {
    let set = set(
        "[[mqtt]]\nfilter = 'a/{x}/T'\ntopic = 'one'\n[[mqtt]]\nfilter = 'a/#'\ntopic = 'two'\n\
         [[mqtt]]\nfilter = 'a/b/T'\ntopic = 'three'\n",
    );
    #[rustfmt::skip]
    let cases = [
        ("a/c/T",   Some("one")),
        ("a/b/T",   Some("three")),
        ("a/b/c",   Some("two")),
        ("a",       Some("two")),
        ("b",       None),
    ];
    for (at, expected) in cases {
        let found = set.match_mqtt(&topic(at)).map(|(entry, _)| entry.topic_template().as_str());
        assert_eq!(found, expected, "{at}");
    }
    assert!(super::set("").match_mqtt(&topic("a/b/T")).is_none());
}

#[test]
fn an_envelope_brings_its_own_time() {
    let set = set("[[mqtt]]\nfilter = 'a'\ntopic = 'h'\npayload = 'json'\n");
    let payload = br#"{"value":1,"time":"2026-01-01T00:00:00.000Z","clock":"untrusted"}"#;
    let applied =
        set.entries()[0].apply_mqtt(&captures(&[]), &payload[..].into(), &inlet()).unwrap();
    let [Applied::Message { reading, .. }] = applied.as_slice() else { panic!("{applied:?}") };
    let mut expected = Reading::new(value("1"), inlet().arrival, inlet().origin);
    expected.source_time = Some(tidegate_model::Timestamp::parse("2026-01-01T00:00:00Z").unwrap());
    expected.clock = Clock::Untrusted;
    assert_eq!(*reading, expected);
}
