use tidegate_model::{PathPattern, Unit, ValueType};

use super::*;

const NOW: Timestamp = Timestamp::from_unix_micros(1_772_366_400_000_000);

fn point(payload: Option<PayloadFormat>, each: Option<Each>) -> PathPoint {
    PathPoint {
        pattern: PathPattern::parse("/sensors/{room}").unwrap(),
        payload,
        text_type: None,
        each,
        unit: Some(Unit::new("Cel").unwrap()),
    }
}

/// One line for each reading: captures, value, quality, unit.
fn read(point: &PathPoint, announced: Announced, body: &[u8]) -> Result<Vec<String>, PayloadError> {
    let adapter = AdapterName::new("coap").unwrap();
    let bytes = Bytes::copy_from_slice(body);
    let body = Body { bytes: &bytes, announced, arrival: NOW, adapter: &adapter };
    let captures = Captures::new(["boiler".into()]);
    let readings = body.read(PointId(3), point, &captures)?;
    let line = |reading: PointReading| {
        assert_eq!((reading.point, reading.reading.arrival), (PointId(3), NOW));
        let captures: Vec<&str> = reading.captures.iter().collect();
        let unit = reading.reading.unit.map_or("-".into(), |unit| unit.to_string());
        let status = reading.reading.status.quality();
        format!("{} {} {status} {unit}", captures.join("/"), reading.reading.value)
    };
    Ok(readings.into_iter().map(line).collect())
}

/// main.10, main.11: the mapping decides how a body is read, else the sender, else it is text.
#[test]
fn bodies_are_read_as_the_mapping_or_the_sender_says() {
    use Announced::{Known, Nothing, Unknown};
    use PayloadFormat::{Cbor, Json, Raw, Senml, Text};
    #[rustfmt::skip]
    let cases: [(_, _, &[u8], &str); 14] = [
        (None,          Nothing,                        b"21.5",            "boiler 21.5 good Cel"),
        (None,          Known(MediaType::Text),         b"21",              "boiler 21 good Cel"),
        (None,          Known(MediaType::Json),         b"[1,2]",           "boiler [1,2] good Cel"),
        (None,          Known(MediaType::Json),         b"null",            "boiler null bad Cel"),
        (None,          Known(MediaType::Cbor),         b"\xF9\x4D\x60",    "boiler 21.5 good Cel"),
        (None,          Known(MediaType::OctetStream),  b"hi!",             "boiler \"aGkh\" good Cel"),
        (None,          Known(MediaType::SenmlJson),    br#"[{"n":"t","v":1,"u":"K"}]"#, "boiler 1 good K"),
        (Some(Text),    Known(MediaType::Json),         b"on",              "boiler \"on\" good Cel"),
        (Some(Json),    Unknown,                        b"1",               "boiler 1 good Cel"),
        (Some(Cbor),    Nothing,                        b"\x01",            "boiler 1 good Cel"),
        (Some(Raw),     Known(MediaType::Text),         b"1",               "boiler \"MQ==\" good Cel"),
        (Some(Senml),   Nothing,                        br#"[{"n":"t","v":1}]"#, "boiler 1 good Cel"),
        (Some(Senml),   Nothing,                        b"\x81\xA2\x00\x61t\x02\x01", "boiler 1 good Cel"),
        (Some(Senml),   Known(MediaType::Cbor),         b"\x81\xA2\x00\x61t\x02\x01", "boiler 1 good Cel"),
    ];
    for (payload, announced, body, expected) in cases {
        let readings = read(&point(payload, None), announced, body);
        assert_eq!(readings, Ok(vec![expected.to_owned()]), "{payload:?} {announced:?}");
    }
}

#[test]
fn members_become_readings() {
    let json = br#"{"weight":12.5,"door":{"open":true},"state":null}"#;
    let known = Announced::Known(MediaType::Json);
    assert_eq!(
        read(&point(None, Some(Each::Member)), known, json).unwrap(),
        [
            "boiler/weight 12.5 good Cel",
            "boiler/door {\"open\":true} good Cel",
            "boiler/state null bad Cel"
        ]
    );
    assert_eq!(
        read(&point(None, Some(Each::Leaf)), known, json).unwrap()[1],
        "boiler/door.open true good Cel"
    );
    let pack = br#"[{"bn":"a/","n":"t","v":1},{"n":"t","v":2,"t":-1}]"#;
    assert_eq!(
        read(&point(Some(PayloadFormat::Senml), Some(Each::Member)), Announced::Nothing, pack)
            .unwrap(),
        ["boiler/a/t 1 good Cel", "boiler/a/t 2 good Cel"]
    );
}

#[test]
fn refusals_say_what_is_wrong_and_which_key() {
    let json = Announced::Known(MediaType::Json);
    let each = Some(Each::Member);
    let many =
        format!("{{{}}}", (0..5_000).map(|n| format!("\"m{n}\":1")).collect::<Vec<_>>().join(","));
    #[rustfmt::skip]
    let cases = [
        (None, Announced::Unknown, &b"1"[..],   None,           "unsupported format; use plain text, JSON, CBOR, SenML (JSON, CBOR) or bytes"),
        (None, Announced::Nothing, b"ab\xFF",   None,           "the text is not UTF-8, see byte 2"),
        (None, json,               b"{\"a\":1,\"a\":2}", None,  "not JSON: the name `a` occurs twice at line 1 column 13"),
        (None, Announced::Known(MediaType::Cbor), b"\xA1", None, "not CBOR: the item is cut short at byte 1"),
        (each, json,               b"[1]",      Some("each"),   "`each = \"member\"` needs an object, found array"),
        (each, Announced::Nothing, b"21.5",     Some("each"),   "`each = \"member\"` needs an object, found float"),
        (each, json,               b"{}",       Some("each"),   "`each = \"member\"` needs at least one member"),
        (each, json,               many.as_bytes(), None,       "more than 4096 readings in one request"),
        (None, Announced::Known(MediaType::SenmlJson), br#"[{"n":"a","v":1},{"n":"b","v":2}]"#, Some("each"),
            "not SenML: 2 records with a value; several need `each = \"member\"` in the mapping"),
    ];
    for (each, announced, body, key, expected) in cases {
        let error = read(&point(None, each), announced, body).unwrap_err();
        assert_eq!((error.key(), &*error.to_string()), (key, expected));
    }
    let typed = PathPoint { text_type: Some(ValueType::Float), ..point(None, None) };
    let error = read(&typed, Announced::Nothing, b"21,5").unwrap_err();
    assert_eq!(
        (error.key(), &*error.to_string()),
        (Some("type"), "expected float, found the string \"21,5\"")
    );
}
