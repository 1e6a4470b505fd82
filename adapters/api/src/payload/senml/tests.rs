use super::*;
use crate::payload::cbor;

const NOW: Timestamp = Timestamp::from_unix_micros(1_772_366_400_000_000);

/// One line for each resolved record: name, value, unit, time.
fn resolve(json: &str, each: Option<Each>) -> Result<Vec<String>, String> {
    let pack = tidegate_model::json::parse_value(json.as_bytes()).unwrap();
    show(items(&pack, NOW, each))
}

fn show(items: Result<Vec<Item>, SenmlError>) -> Result<Vec<String>, String> {
    let line = |item: Item| {
        let unit = item.unit.map_or("-".into(), |unit| unit.to_string());
        let time = item.time.map_or("-".into(), |time| time.to_string());
        format!("{} {} {unit} {time}", item.member.as_deref().unwrap_or("-"), item.value)
    };
    items.map(|items| items.into_iter().map(line).collect()).map_err(|error| error.to_string())
}

/// main.10: the example of RFC 8428, section 5.1.3.
#[test]
fn base_fields_act_on_all_later_records() {
    let pack = r#"[{"bn":"urn:dev:ow:10e2073a01080063:","bt":1.276020076e9,"bu":"A","bver":5,
        "n":"voltage","u":"V","v":120.1},{"n":"current","t":-5,"v":1.2},{"n":"current","v":1.7}]"#;
    assert_eq!(
        resolve(pack, Some(Each::Member)).unwrap(),
        [
            "urn:dev:ow:10e2073a01080063:voltage 120.1 V 2010-06-08T18:01:16.000Z",
            "urn:dev:ow:10e2073a01080063:current 1.2 A 2010-06-08T18:01:11.000Z",
            "urn:dev:ow:10e2073a01080063:current 1.7 A 2010-06-08T18:01:16.000Z",
        ]
    );
    assert_eq!(
        resolve(pack, None).unwrap_err(),
        "3 records with a value; several need `each = \"member\"` in the mapping"
    );
}

#[test]
fn records_are_resolved() {
    #[rustfmt::skip]
    let cases = [
        (r#"[{"n":"a","v":21}]"#,                           "- 21 - -"),
        (r#"[{"n":"a","v":21.0,"u":"Cel"}]"#,               "- 21.0 Cel -"),
        (r#"[{"n":"a","vs":"on"}]"#,                        r#"- "on" - -"#),
        (r#"[{"n":"a","vb":true}]"#,                        "- true - -"),
        (r#"[{"n":"a","vd":"aGk_"}]"#,                      r#"- "aGk/" - -"#),     // printed as base64
        (r#"[{"n":"a","vd":"aGk"}]"#,                       r#"- "aGk=" - -"#),
        (r#"[{"bv":20,"n":"a","v":1}]"#,                    "- 21 - -"),
        (r#"[{"bv":20,"n":"a","v":1.5}]"#,                  "- 21.5 - -"),
        (r#"[{"bv":9223372036854775807,"n":"a","v":1}]"#,   "- 9.223372036854776e18 - -"),
        (r#"[{"bv":5,"n":"a","vs":"x"}]"#,                  r#"- "x" - -"#),
        (r#"[{"n":"a","u":"W","s":12}]"#,                   "- 12 W.s -"),
        (r#"[{"bs":100,"n":"a","s":12}]"#,                  "- 112 - -"),
        (r#"[{"n":"a","v":1,"s":12}]"#,                     "- 1 - -"),
        (r#"[{"n":"a","v":1,"t":0}]"#,                      "- 1 - -"),
        (r#"[{"n":"a","v":1,"t":-2.5}]"#,                   "- 1 - 2026-03-01T11:59:57.500Z"),
        (r#"[{"n":"a","v":1,"t":60}]"#,                     "- 1 - 2026-03-01T12:01:00.000Z"),
        (r#"[{"n":"a","v":1,"t":268435455}]"#,              "- 1 - 2034-09-02T09:24:15.000Z"),
        (r#"[{"n":"a","v":1,"t":268435456}]"#,              "- 1 - 1978-07-04T21:24:16.000Z"),
        (r#"[{"n":"a","v":1,"t":1276020076.305}]"#,         "- 1 - 2010-06-08T18:01:16.305Z"),
        (r#"[{"bn":"dev1/","bu":"Cel"},{"n":"t","v":1}]"#,  "- 1 Cel -"),
        (r#"[{"n":"a","v":1,"unknown":[],"ut":5}]"#,        "- 1 - -"),
    ];
    for (pack, expected) in cases {
        assert_eq!(resolve(pack, None), Ok(vec![expected.to_owned()]), "{pack}");
    }
}

#[test]
fn broken_packs_are_refused_with_the_record() {
    let long = format!(r#"[{{"bn":"{}"}}]"#, "x".repeat(1_025));
    #[rustfmt::skip]
    let cases = [
        (r#"{"n":"a","v":1}"#,                  "a pack is an array of objects"),
        (r"[1]",                                "a pack is an array of objects"),
        (r"[]",                                 "no record has a value"),
        (r#"[{"bn":"a"}]"#,                     "no record has a value"),
        (r#"[{"v":1}]"#,                        "record 1: has no name (`bn` and `n`)"),
        (r#"[{"bn":"a"},{"n":"b"}]"#,           "record 2: has no value"),
        (r#"[{"n":"a","v":1,"vs":"x"}]"#,       "record 1: has more than one value"),
        (r#"[{"n":"a","v":"1"}]"#,              "record 1: `v` is of type string"),
        (r#"[{"n":"a","vb":1}]"#,               "record 1: `vb` is of type integer"),
        (r#"[{"n":"a","vd":"aGk="}]"#,          "record 1: `vd` is not base64url without padding"),
        (r#"[{"n":"a","vd":"aGl"}]"#,           "record 1: `vd` is not base64url without padding"),
        (r#"[{"n":"-a","v":1}]"#,               "record 1: the name must begin with a letter or digit"),
        (r#"[{"n":"a b","v":1}]"#,              "record 1: the name may hold letters, digits and `-:./_` only"),
        (r#"[{"n":"a","v":1,"x_":1}]"#,         "record 1: the field `x_` must be understood, and is not"),
        (r#"[{"bver":11,"n":"a","v":1}]"#,      "record 1: `bver` is 11; up to 10 is understood, the same in the whole pack"),
        (r#"[{"bver":10,"n":"a","v":1},{"bver":9}]"#, "record 2: `bver` is 9; up to 10 is understood, the same in the whole pack"),
        (r#"[{"n":"a","v":1,"u":""}]"#,         "record 1: `u` must not be empty"),
        (r#"[{"n":"a","v":1,"t":1e300}]"#,      "record 1: the time is out of range"),
        (r#"[{"bv":1e308,"n":"a","v":1e308}]"#, "record 1: base and value together are out of range"),
        (&long,                                 "record 1: the name is longer than 1024 bytes"),
    ];
    for (pack, expected) in cases {
        let refusal = resolve(pack, Some(Each::Member)).map_err(|error| error.clone());
        assert_eq!(refusal, Err(expected.to_owned()), "{pack}");
    }
    let many = Value::Array(vec![Value::Null; READINGS_MAX + 1].into());
    assert_eq!(items(&many, NOW, Some(Each::Member)), Err(SenmlError::TooMany));
}

/// RFC 8428, section 6: the labels of CBOR stand for the names of JSON.
#[test]
fn cbor_packs_use_labels() {
    // [{-2: "dev1/", -3: 1276020076, -4: "Cel", 0: "t", 2: 21.5_1}, {0: "d", 8: h'0102', 99: 1}]
    let hex = "82 A5 21 65 64657631 2F 22 1A 4C0E85 6C 23 63 43656C 00 61 74 02 F9 4D60 A3 00 61 64 08 42 0102 18 63 01";
    let digits: String = hex.split_whitespace().collect();
    let bytes: Vec<u8> = (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect();
    let pack = cbor::parse_senml(&bytes.into()).unwrap();
    assert_eq!(
        show(items(&pack, NOW, Some(Each::Member))).unwrap(),
        [
            "dev1/t 21.5 Cel 2010-06-08T18:01:16.000Z",
            r#"dev1/d "AQI=" Cel 2010-06-08T18:01:16.000Z"#,
        ]
    );
    let nan: Bytes = vec![0x81, 0xA2, 0x00, 0x61, b'a', 0x02, 0xF9, 0x7E, 0x00].into();
    let pack = cbor::parse_senml(&nan).unwrap();
    assert_eq!(
        show(items(&pack, NOW, Some(Each::Member))).unwrap_err(),
        "record 1: `v` is not finite"
    );
}
