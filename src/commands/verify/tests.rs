use super::*;

fn row(stream: &str, number: i64) -> String {
    format!(r#"{stream} {{"v":1.5,"t":"2026-03-01T12:00:00Z","ep":1,"i":{number}}}"#)
}

fn read(text: &[u8]) -> Captures {
    let mut captures = Captures { tally: Tally::new(1_000), payloads: 0, faults: 0 };
    captures.read_from(text, "a test").unwrap();
    captures
}

fn printed(captures: &Captures, start: Option<i64>) -> String {
    let mut output = Vec::new();
    Report::new(captures, start).print(captures, start, 2, &mut output).unwrap();
    String::from_utf8(output).unwrap()
}

/// uplink.12: the answer names what is missing, and says when nothing is.
#[test]
fn uplink_12_the_report_names_what_is_missing() {
    let numbers = [5, 6, 6, 9, 11, 13];
    let lines: Vec<String> = numbers.iter().map(|number| row("up/a", *number)).collect();
    let captures = read(lines.join("\n").as_bytes());
    assert_eq!(
        printed(&captures, None),
        "missing 4 of up/a (epoch 1): 7-8, 10, and 1 ranges more\n\
         incomplete: 6 readings of 1 streams; missing 4, came twice 1, told as gaps 0, unreadable payloads 0\n\
         1 streams begin later than at 1; --from-start counts what is before as missing\n"
    );
    assert!(printed(&captures, Some(1)).starts_with("missing 8 of up/a (epoch 1): 1-4, 7-8, and"));
    let json = Report::new(&captures, None).to_json(&captures, None, 10);
    assert_eq!(json["complete"], false);
    assert_eq!(json["streams"][0]["missing-ranges"], json!([[7, 8], [10, 10], [12, 12]]));
    let complete = read(format!("{}\n\n{}\n", row("up/a", 1), row("up/a", 2)).as_bytes());
    assert!(printed(&complete, Some(1)).starts_with("complete: 2 readings of 1 streams"));
}

#[test]
fn what_cannot_be_read_proves_nothing() {
    let captures = read(format!("{}\nup/a zz\n", row("up/a", 1)).as_bytes());
    assert_eq!((captures.payloads, captures.faults), (1, 1));
    assert!(printed(&captures, None).starts_with("not proven: 1 readings"));
    assert!(printed(&read(b""), None).starts_with("not proven: 0 readings"));
    // A document, and half of another one behind it.
    let empty = b"\x05\0\0\0\0";
    let captures = read(&[&empty[..], &empty[..3]].concat());
    assert_eq!((captures.payloads, captures.faults), (1, 2));
}
