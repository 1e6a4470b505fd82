//! The picture: a snapshot as lines of text, for a terminal of any width.

use std::time::Duration;

use tidegate_uplink::decoder::DecodedReading;

use super::{
    operator::Ordered,
    snapshot::{CloudRow, DeviceRow, GatewayRow, Snapshot},
};

/// How many decoded readings are shown.
const LATEST_SHOWN: usize = 4;

/// Returns the picture as lines of at most `width` characters. Their number is the same for every snapshot of
/// one demo.
pub(super) fn lines(snapshot: &Snapshot, width: usize) -> Vec<String> {
    let mut lines = vec![title(snapshot), String::new()];
    lines
        .push(format!("{:7} {:14} {:>8} {:>9}  last value", "devices", "", "a second", "readings"));
    lines.extend(snapshot.devices.iter().map(device));
    lines.push("   │".into());
    lines.push(gateway(&snapshot.gateway));
    lines.push(format!("{:7} {}/v1/topics  {}/metrics", "", snapshot.http, snapshot.http));
    lines.push("   │".into());
    lines.push(cloud(&snapshot.cloud));
    lines.push(saving(&snapshot.cloud));
    let shown = snapshot.latest.iter().rev().take(LATEST_SHOWN).map(decoded);
    lines.extend(shown.chain(std::iter::repeat_n(String::new(), LATEST_SHOWN)).take(LATEST_SHOWN));
    lines.push(String::new());
    lines.push(format!("{:7} {}", "command", command(snapshot.ordered.as_ref())));
    for line in &mut lines {
        cut(line, width);
    }
    lines
}

/// Returns the snapshot as one line, for a file or a pipe.
pub(super) fn line(snapshot: &Snapshot) -> String {
    let handed_over: u64 = snapshot.devices.iter().map(|row| row.handed_over).sum();
    let failures: u64 = snapshot.devices.iter().map(|row| row.failures).sum();
    let (gateway, cloud) = (&snapshot.gateway, &snapshot.cloud);
    let mut line = format!(
        "{:>4} s  devices {handed_over}  journal {}  waiting {}  cloud {}  batches {}  bytes {}",
        snapshot.elapsed.as_secs(),
        gateway.received,
        gateway.queued,
        cloud.received,
        cloud.batches,
        cloud.wire_bytes,
    );
    if failures > 0 {
        line.push_str(&format!("  failures {failures}"));
    }
    if let Some(Ordered { topic, value, outcome: Some((outcome, _)), .. }) = &snapshot.ordered {
        line.push_str(&format!("  {topic} = {value}: {outcome}"));
    }
    line
}

fn title(snapshot: &Snapshot) -> String {
    let seconds = snapshot.elapsed.as_secs();
    let first = match snapshot.first {
        Some(first) => format!("first reading in the cloud after {}", short(first)),
        None => "no reading in the cloud yet".into(),
    };
    let end = if snapshot.stopping { "Draining" } else { "Ctrl-C ends it" };
    format!("Tidegate demo, {seconds} s, {first}. {end}")
}

fn device(row: &DeviceRow) -> String {
    let DeviceRow { protocol, devices, handed_over, rate, failures, last: (topic, value) } = row;
    let mut line = format!(
        "{protocol:7} {devices:14} {rate:>8.1} {:>9}  {value:10} {topic}",
        grouped(*handed_over)
    );
    if *failures > 0 {
        line.push_str(&format!("  {failures} failed"));
    }
    line
}

fn gateway(row: &GatewayRow) -> String {
    let GatewayRow { received, delivered, queued, others, commits, sync, trouble } = row;
    let mut line = format!(
        "{:7} {} received = {} delivered + {} queued",
        "gateway",
        grouped(*received),
        grouped(*delivered),
        grouped(*queued),
    );
    if *others > 0 {
        line.push_str(&format!(" + {} let go", grouped(*others)));
    }
    line.push_str(&format!(", {} syncs of {}", grouped(*commits), short(*sync)));
    if let Some(trouble) = trouble {
        line.push_str(&format!(", {trouble}"));
    }
    line
}

fn cloud(row: &CloudRow) -> String {
    let CloudRow { received, batches, duplicates, holes, .. } = row;
    let mut line =
        format!("{:7} {} readings in {} batches", "cloud", grouped(*received), grouped(*batches));
    if *duplicates > 0 {
        line.push_str(&format!(", {} came twice", grouped(*duplicates)));
    }
    if *holes > 0 {
        line.push_str(&format!(", {} left out", grouped(*holes)));
    }
    line
}

fn saving(row: &CloudRow) -> String {
    format!(
        "{:7} {} bytes, {:.1} a reading; as JSON messages {:.1} times as much",
        "",
        grouped(row.wire_bytes),
        row.bytes_per_reading(),
        row.json_ratio(),
    )
}

fn decoded(reading: &DecodedReading) -> String {
    let stream = reading.stream.as_deref().unwrap_or_default();
    let unit = reading.unit.as_deref().unwrap_or_default();
    let mut time = Vec::new();
    reading.time.write_rfc3339(&mut time);
    let time = String::from_utf8_lossy(&time);
    // The date would only make the line long.
    let time = time.split_once('T').map_or(&*time, |(_, time)| time);
    format!("{:7} {stream:27} #{:<6} {time}  {} {unit}", "", reading.number, reading.value)
        .trim_end()
        .to_owned()
}

fn command(ordered: Option<&Ordered>) -> String {
    let Some(Ordered { topic, value, outcome, node }) = ordered else {
        return "none yet".into();
    };
    match (outcome, node) {
        (Some((outcome, after)), Some(node)) => {
            format!("{topic} = {value}, {outcome} in {}, the node holds {node}", short(*after))
        }
        _ => format!("{topic} = {value}, on its way"),
    }
}

/// Returns a short duration for people.
pub(super) fn short(duration: Duration) -> String {
    match duration.as_micros() {
        0..1_000 => format!("{} µs", duration.as_micros()),
        1_000..10_000 => format!("{:.1} ms", duration.as_secs_f64() * 1_000.0),
        _ => format!("{} ms", duration.as_millis()),
    }
}

/// Returns a number with a comma between groups of three digits.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Cuts a line to `width` characters, none of which is wider than one column, and leaves out controls.
fn cut(line: &mut String, width: usize) {
    *line = line.chars().filter(|character| !character.is_control()).take(width).collect();
}

#[cfg(test)]
mod tests {
    use tidegate_model::{Status, Timestamp, Value};

    use super::*;

    fn snapshot() -> Snapshot {
        let row = |protocol, devices, topic: &str| DeviceRow {
            protocol,
            devices,
            handed_over: 1_234,
            rate: 10.04,
            failures: 0,
            last: (topic.into(), "71.20 Cel".into()),
        };
        let reading = |number| DecodedReading {
            stream: Some("hall1/boiler/temperature".into()),
            number,
            time: Timestamp::parse("2026-03-01T12:00:00.123Z").unwrap(),
            until: None,
            value: Value::Double(71.2),
            unit: Some("Cel".into()),
            status: Status::GOOD,
            replayed: false,
        };
        Snapshot {
            elapsed: Duration::from_secs(12),
            first: Some(Duration::from_millis(231)),
            stopping: false,
            devices: vec![
                row("OPC UA", "3 presses", "hall1/press-1/temperature"),
                row("CoAP", "2 room sensors", "hall1/boiler/temperature"),
            ],
            gateway: GatewayRow {
                received: 2_468,
                delivered: 2_400,
                queued: 68,
                commits: 600,
                sync: Duration::from_micros(350),
                ..GatewayRow::default()
            },
            cloud: CloudRow {
                received: 2_410,
                batches: 60,
                wire_bytes: 24_100,
                json_bytes: 289_200,
                ..CloudRow::default()
            },
            latest: vec![reading(1), reading(2)],
            ordered: Some(Ordered {
                topic: "hall1/press-1/setpoint".into(),
                value: 66.5,
                outcome: Some(("confirmed".into(), Duration::from_millis(14))),
                node: Some(66.5),
            }),
            http: "http://127.0.0.1:8080".into(),
        }
    }

    #[test]
    fn main_17_the_picture_shows_the_way_of_the_readings() {
        let expected = "\
Tidegate demo, 12 s, first reading in the cloud after 231 ms. Ctrl-C ends it

devices                a second  readings  last value
OPC UA  3 presses          10.0     1,234  71.20 Cel  hall1/press-1/temperature
CoAP    2 room sensors     10.0     1,234  71.20 Cel  hall1/boiler/temperature
   │
gateway 2,468 received = 2,400 delivered + 68 queued, 600 syncs of 350 µs
        http://127.0.0.1:8080/v1/topics  http://127.0.0.1:8080/metrics
   │
cloud   2,410 readings in 60 batches
        24,100 bytes, 10.0 a reading; as JSON messages 12.0 times as much
        hall1/boiler/temperature    #2      12:00:00.123Z  71.2 Cel
        hall1/boiler/temperature    #1      12:00:00.123Z  71.2 Cel



command hall1/press-1/setpoint = 66.5, confirmed in 14 ms, the node holds 66.5";
        assert_eq!(lines(&snapshot(), 79).join("\n"), expected);
    }

    #[test]
    fn the_number_of_lines_never_changes() {
        let full = snapshot();
        let empty = Snapshot { devices: full.devices.clone(), ..Snapshot::default() };
        let troubled = Snapshot {
            gateway: GatewayRow {
                others: 3,
                trouble: Some("refused\nagain".into()),
                ..full.gateway.clone()
            },
            cloud: CloudRow { duplicates: 1, holes: 2, ..full.cloud.clone() },
            ordered: Some(Ordered { outcome: None, node: None, ..full.ordered.clone().unwrap() }),
            stopping: true,
            ..full.clone()
        };
        for other in [empty, troubled] {
            assert_eq!(lines(&other, 80).len(), lines(&full, 80).len());
        }
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for width in [0, 1, 20, 60, 79] {
            let lines = lines(&snapshot(), width);
            assert!(lines.iter().all(|line| line.chars().count() <= width), "{width}");
        }
    }

    #[test]
    fn a_terminal_is_told_nothing_but_text() {
        let mut snapshot = snapshot();
        snapshot.devices[0].last.1 = "\u{1b}[2J\n\u{9b}1m".into();
        assert!(lines(&snapshot, 100).iter().all(|line| !line.chars().any(char::is_control)));
    }

    #[test]
    fn the_line_has_the_figures_and_not_the_words_of_the_summary() {
        let line = line(&snapshot());
        assert_eq!(
            line,
            "  12 s  devices 2468  journal 2468  waiting 68  cloud 2410  batches 60  bytes 24100  \
             hall1/press-1/setpoint = 66.5: confirmed"
        );
        assert!(!line.contains("received") && !line.contains("missing"));
    }

    #[test]
    fn numbers_and_durations_are_short() {
        let numbers = [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")];
        for (number, text) in numbers {
            assert_eq!(grouped(number), text);
        }
        for (micros, text) in [(0, "0 µs"), (999, "999 µs"), (1_250, "1.2 ms"), (14_900, "14 ms")]
        {
            assert_eq!(short(Duration::from_micros(micros)), text);
        }
    }
}
