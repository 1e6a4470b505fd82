use super::{
    capture::{CaptureError, Captured, first_payload, is_text, read_line},
    *,
};
use crate::{
    bson::Writer,
    decoder::to_hex,
    encoder::Compressor,
    settings::{Compression, Level},
};

/// A batch of epoch `epoch` with numbers of streams, and gaps.
fn batch(epoch: i64, streams: &[(&str, i64, usize)], gaps: &[(&str, i64, i64)]) -> Vec<u8> {
    let mut buffer = Vec::new();
    let mut writer = Writer::new(&mut buffer);
    let document = writer.begin();
    writer.int32(b"v", 1);
    writer.string(b"gw", "gw");
    writer.string(b"up", "cloud");
    writer.int64(b"ep", epoch);
    writer.datetime(b"t0", 0);
    let array = writer.begin_array(b"s");
    for (name, first, count) in streams {
        let entry = writer.begin_document(b"0");
        writer.string(b"n", name);
        writer.int64(b"i", *first);
        writer.binary_from(b"dt", |bytes| bytes.resize(bytes.len() + count, 0));
        writer.int32(b"k", 4);
        writer.binary_from(b"x", |bytes| bytes.resize(bytes.len() + count, 0));
        writer.end(entry);
    }
    writer.end(array);
    let array = writer.begin_array(b"gaps");
    for (name, from, to) in gaps {
        let entry = writer.begin_document(b"0");
        writer.string(b"n", name);
        writer.int64(b"from", *from);
        writer.int64(b"to", *to);
        writer.string(b"why", "full");
        writer.end(entry);
    }
    writer.end(array);
    writer.end(document);
    buffer
}

fn seen<'t>(tally: &'t Tally, epoch: i64, stream: &str) -> &'t Seen {
    let found = tally.streams().find(|(key, _)| key.epoch == epoch && &*key.stream == stream);
    found.unwrap().1
}

fn list(ranges: &Ranges) -> Vec<(i64, i64)> {
    ranges.iter().collect()
}

/// uplink.12: what came twice, what the gateway told of, and what is missing are told apart, by epoch and
/// name, in whatever order payloads come.
#[test]
fn uplink_12_missing_numbers_are_named() {
    let payloads = [
        batch(1, &[("a", 1, 4), ("b", 7, 2)], &[]),
        batch(1, &[("a", 3, 4)], &[("a", 10, 12)]),
        batch(1, &[("a", 20, 1), ("a", 11, 1)], &[("b", 9, 9), ("a", 10, 11)]),
        batch(2, &[("a", 1, 3)], &[]),
    ];
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]] {
        let mut tally = Tally::new(Tally::RANGES_MAX);
        for at in order {
            tally.take(&payloads[at], None).unwrap();
        }
        let a = seen(&tally, 1, "a");
        assert_eq!(list(&a.missing(None)), [(7, 9), (13, 19)]);
        assert_eq!(list(&a.gaps()), [(10, 10), (12, 12)]); // 11 came all the same
        assert_eq!((a.twice, a.span()), (2, Some((1, 20))));
        let b = seen(&tally, 1, "b");
        assert!(b.missing(None).is_empty());
        assert_eq!(list(&b.missing(Some(1))), [(1, 6)]);
        assert!(seen(&tally, 2, "a").missing(Some(1)).is_empty());
        assert_eq!(tally.readings(), 15);
        assert_eq!(tally.reasons().collect::<Vec<_>>(), [("full", 4)]);
    }
}

#[test]
fn payloads_that_do_not_count_change_nothing() {
    let mut tally = Tally::new(4);
    assert!(matches!(tally.take(b"?", None), Err(TallyError::Payload(_))));
    let row = br#"{"v":1,"t":"2026-03-01T12:00:00Z","ep":5,"i":1}"#;
    assert_eq!(tally.take(row, None), Err(TallyError::NoTopic));
    assert_eq!(
        tally.take(&batch(1, &[("a", 0, 2)], &[]), None),
        Err(TallyError::Number { number: 0 })
    );
    assert_eq!(tally.streams().len(), 0);
    tally.take(row, Some("up/a")).unwrap();
    assert_eq!(list(&seen(&tally, 5, "up/a").received), [(1, 1)]);
    // Holes are limited.
    for number in 0..10 {
        let taken = tally.take(&batch(1, &[("a", 1 + 2 * number, 1)], &[]), None);
        let limit = 4;
        assert_eq!(taken, if number < 4 { Ok(()) } else { Err(TallyError::TooMany { limit }) });
    }
}

#[test]
fn lines_of_captures_are_read() {
    let payload = batch(1, &[("a", 1, 1)], &[]);
    let hex = to_hex(&payload);
    // The same in base64, as the JSON of bytes has it.
    let mut json = Vec::new();
    tidegate_model::json::write_value(
        &tidegate_model::Value::Bytes(payload.clone().into()),
        &mut json,
    );
    let base64 = String::from_utf8(json).unwrap().trim_matches('"').to_owned();
    let row = r#"{"v":1.5,"t":"2026-03-01T12:00:00Z","ep":1,"i":1}"#;
    let captured = |topic: Option<&str>, payload: &[u8]| {
        Ok(Some(Captured { topic: topic.map(str::to_owned), payload: payload.to_vec() }))
    };
    let cases = [
        (String::new(), Ok(None)),
        (hex.clone(), captured(None, &payload)),
        (format!("up/gw/bson {hex}"), captured(Some("up/gw/bson"), &payload)),
        (
            format!("a topic with blanks {}", hex.to_uppercase()),
            captured(Some("a topic with blanks"), &payload),
        ),
        (format!("up/gw/bson\t{base64}"), captured(Some("up/gw/bson"), &payload)),
        (format!(r#"{{"topic":"t","payload":"{base64}"}}"#), captured(Some("t"), &payload)),
        (format!(r#"{{"topic":"t","qos":1,"payload":"{hex}"}}"#), captured(Some("t"), &payload)),
        (format!(r#"{{"data":"{base64}"}}"#), captured(None, &payload)),
        (format!(r#"{{"topic":"t","payload":{row}}}"#), captured(Some("t"), row.as_bytes())),
        (format!("t {row}"), captured(Some("t"), row.as_bytes())),
        (row.to_owned(), captured(None, row.as_bytes())),
        ("up/gw/bson not!hex".to_owned(), Err(CaptureError::NoPayload)),
        (r#"{"topic":"t"}"#.to_owned(), Err(CaptureError::NoPayload)),
    ];
    for (line, expected) in cases {
        assert_eq!(read_line(&line), expected, "{line}");
    }
    assert!(matches!(read_line("{"), Err(CaptureError::NotJson { .. })));
}

#[test]
fn payloads_in_a_row_are_told_apart() {
    let plain = batch(1, &[("a", 1, 500)], &[]);
    let compress =
        |compression| Compressor::new(compression).unwrap().compress(&plain).unwrap().to_vec();
    let zlib = compress(Compression::Zlib(Level::DEFAULT));
    let gzip = compress(Compression::Gzip(Level::DEFAULT));
    let parts = [&plain, &zlib, &gzip, &zlib, &plain];
    let stream = parts.iter().flat_map(|part| part.iter().copied()).collect::<Vec<u8>>();
    assert!(!is_text(&stream));
    let mut rest = &stream[..];
    for part in parts {
        for cut in [0, 1, 3, 10, part.len() - 1] {
            assert_eq!(first_payload(&rest[..cut], &Limits::OWN), Ok(None), "{cut}");
        }
        assert_eq!(first_payload(rest, &Limits::OWN), Ok(Some(part.len())));
        rest = &rest[part.len()..];
    }
    assert!(first_payload(&[0; 10], &Limits::OWN).is_err());
    let small = Limits { wire: 100, ..Limits::OWN };
    assert!(first_payload(&plain, &small).is_err());
    assert!(is_text("up/gw/bson.z 789c\nä".as_bytes()) && is_text(&"ä".as_bytes()[..1]));
}
