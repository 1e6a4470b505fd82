//! The table that a run prints.

use std::fmt;

use super::Cost;
use super::load::{Tenths, mqtt};

/// Rows of figure, aim and measurement.
#[derive(Debug, Default)]
pub(super) struct Table(Vec<[String; 3]>);

impl Table {
    /// Adds a row and prints it, for a run takes minutes.
    pub(super) fn row(&mut self, figure: &str, aim: &str, measured: String) {
        eprintln!("{figure}: {measured}");
        self.0.push([figure.to_owned(), aim.to_owned(), measured]);
    }

    /// Adds what a reading costs without and with an uplink; the aim is for the first.
    pub(super) fn pair(&mut self, name: &str, aim: &str, [local, up]: &[Cost; 2]) {
        self.row(&format!("{name}: CPU a reading, local topic only"), aim, per_reading(local));
        self.row(&format!("{name}: CPU a reading, on disk and to the cloud"), "-", per_reading(up));
        self.row(&format!("{name}: bytes a reading to the cloud"), "-", bytes(up));
    }

    /// Adds what the second of two runs costs more.
    pub(super) fn difference(&mut self, name: &str, aim: &str, [less, more]: &[Cost; 2]) {
        let (micros, rate) = (micros(more) - micros(less), rate(more));
        self.row(&format!("{name}: CPU a reading"), aim, format!("{micros:.1} µs at {rate:.0}/s"));
    }

    /// Adds the size of a reading that goes to the cloud as a message of its own.
    pub(super) fn json_message(&mut self) {
        let value = Tenths(215);
        let envelope = format!(
            r#"{{"value":{value},"time":"2026-03-01T12:00:00.123Z","quality":"good","unit":"Cel"}}"#
        );
        // Type and length, length of the topic, packet identifier (MQTT 3.1.1, section 3.3).
        let header = 2 + 2 + 2;
        let size = header + mqtt::topic(10).len() + envelope.len();
        self.row("One JSON message a reading, with topic and header", "-", format!("{size} B"));
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widest = self.0.iter().map(|[figure, ..]| figure.chars().count()).max().unwrap_or(0);
        writeln!(formatter, "\n{:widest$}  {:>7}  measured", "figure", "aim")?;
        for [figure, aim, measured] in &self.0 {
            writeln!(formatter, "{figure:widest$}  {aim:>7}  {measured}")?;
        }
        Ok(())
    }
}

/// Returns the processor time of a reading, how many came each second, and how far behind the cloud was in the end.
pub(super) fn per_reading(cost: &Cost) -> String {
    let shown = format!("{:.1} µs at {:.0}/s", micros(cost), rate(cost));
    let Some(drain) = cost.drain else { return shown };
    let group = cost.readings as f64 / cost.commits.max(1) as f64;
    format!("{shown}, {group:.0} a sync, in the cloud {:.1} s later", drain.as_secs_f64())
}

fn bytes(cost: &Cost) -> String {
    format!("{:.1} B", cost.cloud_bytes as f64 / cost.readings.max(1) as f64)
}

fn micros(cost: &Cost) -> f64 {
    cost.cpu.as_secs_f64() * 1e6 / cost.readings.max(1) as f64
}

fn rate(cost: &Cost) -> f64 {
    cost.readings as f64 / cost.elapsed.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_reading_costs_its_share() {
        let cost = |millis| Cost {
            readings: 20_000,
            cpu: Duration::from_millis(millis),
            elapsed: Duration::from_secs(4),
            drain: None,
            commits: 0,
            cloud_bytes: 150_000,
        };
        assert_eq!(per_reading(&cost(250)), "12.5 µs at 5000/s");
        assert_eq!(bytes(&cost(250)), "7.5 B");
        let mut table = Table::default();
        table.difference("More", "10 µs", &[cost(250), cost(310)]);
        assert_eq!(table.0[0][2], "3.0 µs at 5000/s");
    }
}
