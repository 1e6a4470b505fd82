//! `tidegate uplink cost`.

use std::{
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, anyhow, ensure};
use serde_json::{Value, json};
use tidegate_model::UplinkName;
use tidegate_uplink::{
    Compression, Encoder, Format, Settings, TopicTemplate,
    cost::{Cost, Meter},
};

use super::{
    plot,
    traffic::{self, Traffic},
};

/// What stands below the help.
pub(super) const AFTER_HELP: &str = "\
Without files the traffic is made up: analog signals that wander, read all at once. With files it is what they
hold, scaled to a day: captures as `tidegate verify` reads them, in any format but `raw`.

Bytes on the line are those of MQTT 5 with QoS 1, TLS 1.3 and TCP over IPv4, both ways; not in them: handshakes,
retransmissions, keep alive. Units: aws-iot-core counts 5 KiB of topic, payload and properties, azure-iot-hub 4 KiB
of payload (basic and standard tier); others count messages.

Example:
  tidegate uplink cost --signals 100 --interval 1s --batch 60s
  tidegate uplink cost capture.txt --plot cost.svg";

const DAY: Duration = Duration::from_secs(86_400);
/// A batch holds no more.
const READINGS_MAX: usize = 100_000;

/// Arguments of `tidegate uplink cost`.
#[derive(Debug, clap::Args)]
pub(super) struct CostArguments {
    /// Captures: files with payloads, or `-` for standard input.
    files: Vec<PathBuf>,
    /// How many signals there are.
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    signals: u32,
    /// How often each is read.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = tidegate_settings::parse_duration)]
    interval: Duration,
    /// How long readings wait for others.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = tidegate_settings::parse_duration)]
    batch: Duration,
    /// The topic at the broker; readings that go alone have theirs behind it.
    #[arg(long, default_value = "tidegate/gw-1")]
    topic: String,
    /// Draw bytes and units into a file.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Print everything as JSON.
    #[arg(long)]
    json: bool,
}

/// A way of writing readings, and what a day of it costs.
#[derive(Debug)]
pub(super) struct Row {
    /// The format, and the compression if there is one.
    pub(super) name: &'static str,
    pub(super) cost: Cost,
}

const FORMATS: [(&str, Format, Compression); 5] = [
    ("json, each alone", Format::Json, Compression::None),
    ("message, each alone", Format::Message, Compression::None),
    ("columns", Format::Columns, Compression::None),
    ("columns, zlib", Format::Columns, Compression::Zlib(tidegate_uplink::Level::DEFAULT)),
    ("packed, zlib", Format::Packed, Compression::Zlib(tidegate_uplink::Level::DEFAULT)),
];

pub(super) fn cost(arguments: &CostArguments) -> anyhow::Result<ExitCode> {
    ensure!(!arguments.interval.is_zero(), "`--interval` is more than 0");
    ensure!(
        arguments.batch >= Duration::from_millis(10) && arguments.batch <= DAY,
        "`--batch` is 10ms to 1d"
    );
    let traffic = if arguments.files.is_empty() {
        traffic::synthetic(arguments.signals, arguments.interval, arguments.batch, READINGS_MAX)
    } else {
        traffic::recorded(&arguments.files, arguments.batch, READINGS_MAX)?
    };
    let rows: Vec<Row> = FORMATS
        .into_iter()
        .map(|(name, format, compression)| {
            let mut encoder = Encoder::new(&settings(arguments, format, compression)?);
            Ok(Row { name, cost: day(&traffic, &mut encoder) })
        })
        .collect::<anyhow::Result<_>>()?;
    if let Some(file) = &arguments.plot {
        let drawing = plot::draw(&traffic.told, &rows);
        fs::write(file, drawing).with_context(|| format!("cannot write {}", file.display()))?;
    }
    let text = if arguments.json {
        serde_json::to_string_pretty(&to_json(&traffic, &rows))? + "\n"
    } else {
        table(&traffic, &rows)
    };
    match io::stdout().write_all(text.as_bytes()) {
        // Whoever reads it has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        written => written?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns what a day of the traffic costs.
fn day(traffic: &Traffic, encoder: &mut Encoder) -> Cost {
    let mut cost = Cost::default();
    for (seq, content) in (1..).zip(&traffic.batches) {
        cost.add(encoder, seq, content);
    }
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    cost.scaled(millis(DAY), millis(traffic.span))
}

fn settings(
    arguments: &CostArguments,
    format: Format,
    compression: Compression,
) -> anyhow::Result<Settings> {
    let template = match format.is_per_reading() {
        true => format!("{}/{{topic}}", arguments.topic),
        false => format!("{}/{{encoding}}", arguments.topic),
    };
    let name = UplinkName::new("cloud").context("a name")?;
    let topic = TopicTemplate::new(&template, "gw-1", format)
        .map_err(|error| anyhow!("`--topic {}` {error}", arguments.topic))?;
    // A number of usual length.
    let epoch = 1_772_366_400_123;
    Ok(Settings { epoch, compression, ..Settings::new("gw-1", name, format, topic) })
}

fn to_json(traffic: &Traffic, rows: &[Row]) -> Value {
    let row = |Row { name, cost }: &Row| {
        let units: serde_json::Map<String, Value> = Meter::ALL
            .into_iter()
            .zip(cost.units)
            .map(|(meter, units)| (meter.as_str().to_owned(), units.into()))
            .collect();
        json!({
            "format": name,
            "readings": cost.readings,
            "messages": cost.messages,
            "payload-bytes": cost.payload,
            "mqtt-bytes": cost.mqtt,
            "line-bytes": cost.line,
            "units": units,
        })
    };
    json!({ "traffic": traffic.told, "day": rows.iter().map(row).collect::<Vec<Value>>() })
}

fn table(traffic: &Traffic, rows: &[Row]) -> String {
    let mut text = format!("A day of {}:\n\n", traffic.told);
    let [_, aws, azure] = Meter::ALL.map(Meter::as_str);
    let _ = writeln!(
        text,
        "{:20} {:>12} {aws:>14} {azure:>14} {:>12} {:>12} {:>10}",
        "format", "messages", "payload MB", "line MB", "B/reading"
    );
    for Row { name, cost } in rows {
        let [_, aws, azure] = cost.units;
        let megabytes = |bytes: u64| format!("{}.{:02}", bytes / 1_000_000, bytes / 10_000 % 100);
        let each = (cost.line * 10).checked_div(cost.readings).unwrap_or(0);
        let _ = writeln!(
            text,
            "{name:20} {:>12} {aws:>14} {azure:>14} {:>12} {:>12} {:>10}",
            cost.messages,
            megabytes(cost.payload),
            megabytes(cost.line),
            format!("{}.{}", each / 10, each % 10),
        );
    }
    text
}

/// Returns how many readings of every signal a batch holds.
pub(super) fn times(signals: u32, interval: Duration, batch: Duration, most: usize) -> u32 {
    let by_time = (batch.as_millis() / interval.as_millis().max(1)).max(1);
    let by_count = (most / usize::try_from(signals).unwrap_or(most)).max(1);
    u32::try_from(by_time.min(by_count as u128)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use tidegate_uplink::Content;

    use super::*;

    fn rows(arguments: &CostArguments) -> Vec<Row> {
        let traffic = traffic::synthetic(
            arguments.signals,
            arguments.interval,
            arguments.batch,
            READINGS_MAX,
        );
        let rows = FORMATS.into_iter().map(|(name, format, compression)| {
            let mut encoder = Encoder::new(&settings(arguments, format, compression).unwrap());
            Row { name, cost: day(&traffic, &mut encoder) }
        });
        rows.collect()
    }

    fn arguments() -> CostArguments {
        CostArguments {
            files: Vec::new(),
            signals: 12,
            interval: Duration::from_secs(1),
            batch: Duration::from_secs(60),
            topic: "tidegate/gw-1".into(),
            plot: None,
            json: false,
        }
    }

    /// uplink.33: a day has its readings whatever the format, batches are one a minute, and packing pays.
    #[test]
    fn uplink_33_a_day_is_counted_whole() {
        let rows = rows(&arguments());
        for Row { name, cost } in &rows {
            assert_eq!(cost.readings, 12 * 86_400, "{name}");
            let messages = if name.contains("alone") { 12 * 86_400 } else { 1_440 };
            assert_eq!((cost.messages, cost.units[0]), (messages, messages), "{name}");
            assert!(cost.payload < cost.mqtt && cost.mqtt < cost.line, "{name}");
            assert!(cost.units[1] >= messages && cost.units[2] >= messages, "{name}");
        }
        let packed = &rows[4].cost;
        assert_eq!(packed.units[1], 1_440, "one unit of AWS a minute");
        assert!(rows[0].cost.line > 20 * packed.line);
        let text = table(&traffic::synthetic(12, Duration::from_secs(1), DAY, 10), &rows);
        assert_eq!(text.lines().count(), 3 + rows.len());
        let drawing = plot::draw("a < b", &rows);
        assert!(drawing.starts_with("<svg") && drawing.contains("a &lt; b"));
        assert_eq!(drawing.matches("<rect").count(), 1 + 2 * rows.len());
    }

    #[test]
    fn batches_hold_what_comes_in_their_time_and_no_more_than_they_may() {
        let seconds = Duration::from_secs;
        #[rustfmt::skip]
        let cases = [
            (12,    seconds(1),  seconds(60), 100_000, 60),
            (12,    seconds(60), seconds(1),  100_000, 1),
            (5_000, seconds(1),  seconds(60), 100_000, 20),
            (5_000, seconds(1),  seconds(60), 10,      1),
        ];
        for (signals, interval, batch, most, expected) in cases {
            assert_eq!(times(signals, interval, batch, most), expected, "{signals} {interval:?}");
        }
    }

    /// uplink.33: what was captured is counted over the time that it spans.
    #[test]
    fn uplink_33_recorded_traffic_is_scaled_to_a_day() {
        let mut encoder =
            Encoder::new(&settings(&arguments(), Format::Columns, Compression::default()).unwrap());
        let made = traffic::synthetic(12, Duration::from_secs(1), Duration::from_secs(30), 100_000);
        let mut capture = String::new();
        for (seq, content) in (1..).zip(made.batches.iter().take(20)) {
            for publication in encoder.encode(seq, content) {
                let hex = tidegate_uplink::decoder::to_hex(&publication.payload);
                let _ = writeln!(capture, "{} {hex}", publication.topic);
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("capture.txt");
        fs::write(&file, capture).unwrap();
        let recorded = traffic::recorded(&[file], Duration::from_secs(60), 100_000).unwrap();
        let readings: usize = recorded.batches.iter().map(Content::readings).sum();
        assert_eq!(readings, 20 * 30 * 12);
        assert_eq!(recorded.batches.len(), 10);
        // Devices are read a few milliseconds sooner or later.
        let is_near = |figure: u64, expected: u64| figure.abs_diff(expected) <= expected / 1_000;
        assert!(is_near(u64::try_from(recorded.span.as_millis()).unwrap(), 600_000));
        let cost = day(&recorded, &mut encoder);
        assert!(is_near(cost.readings, 12 * 86_400) && is_near(cost.messages, 1_440), "{cost:?}");
        let nothing = folder.path().join("nothing.txt");
        fs::write(&nothing, "").unwrap();
        let refused = traffic::recorded(&[nothing], Duration::from_secs(60), 100).unwrap_err();
        assert!(refused.to_string().contains("no readings"), "{refused}");
    }
}
