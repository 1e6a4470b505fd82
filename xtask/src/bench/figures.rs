//! The table that a run prints.

use std::fmt;

use super::Cost;
use super::load::{Tenths, mqtt};

/// What loads in turn have cost, one of each side in each round.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    /// The gateway without an uplink.
    pub(super) local: Vec<Cost>,
    /// Mosquitto without a bridge.
    pub(super) alone: Vec<Cost>,
    /// The gateway with an uplink.
    pub(super) up: Vec<Cost>,
    /// Mosquitto with a bridge.
    pub(super) bridge: Vec<Cost>,
    /// The gateway with an uplink, synced seldom.
    pub(super) lazy: Vec<Cost>,
}

/// The middle of several measurements, and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    /// Takes at least one measurement.
    pub(super) fn of(measured: impl Iterator<Item = f64>) -> Self {
        let mut measured: Vec<f64> = measured.collect();
        measured.sort_by(f64::total_cmp);
        let last = measured.len() - 1;
        let median = f64::midpoint(measured[last / 2], measured[last.div_ceil(2)]);
        Self { median, least: measured[0], most: measured[last] }
    }

    pub(super) fn median(self) -> f64 {
        self.median
    }

    pub(super) fn micros(self) -> String {
        let Self { median, least, most } = self;
        format!("{median:.1} µs ({least:.1} to {most:.1})")
    }

    pub(super) fn millis(self) -> String {
        let Self { median, least, most } = self;
        format!("{median:.0} ms ({least:.0} to {most:.0})")
    }

    pub(super) fn ratio(self) -> String {
        let Self { median, least, most } = self;
        format!("{median:.2} ({least:.2} to {most:.2})")
    }
}

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

    /// Adds what the way to the cloud costs, as medians of the rounds with the least and the most.
    pub(super) fn rounds(&mut self, rounds: &Rounds) {
        let Rounds { local, alone, up, bridge, lazy } = rounds;
        let count = local.len();
        let all = |costs: &[Cost]| Spread::of(costs.iter().map(micros)).micros();
        let more = |more: &[Cost], less: &[Cost]| {
            let differences = more.iter().zip(less).map(|(more, less)| micros(more) - micros(less));
            Spread::of(differences).micros()
        };
        let at = format!("MQTT QoS 1 at 5,000/s, median of {count}");
        let group = up.iter().map(|cost| cost.readings).sum::<u64>() as f64
            / up.iter().map(|cost| cost.commits).sum::<u64>().max(1) as f64;
        self.row(&format!("{at}: CPU a reading, local topic only"), "-", all(local));
        self.row(&format!("{at}: the same, mosquitto"), "-", all(alone));
        let shown = format!("{}, {group:.0} a sync", all(up));
        self.row(&format!("{at}: CPU a reading, on disk and to the cloud"), "-", shown);
        self.row(&format!("{at}: the same, mosquitto's bridge, nothing on disk"), "-", all(bridge));
        self.row(&format!("{at}: from topic to acknowledged batch"), "10 µs", more(up, local));
        let name = format!("{at}: the same, synced every 200 ms (durability = \"interval\")");
        self.row(&name, "-", more(lazy, local));
        self.row(&format!("{at}: the same, mosquitto's bridge"), "-", more(bridge, alone));
        let ratios = up.iter().zip(bridge).map(|(up, bridge)| micros(up) / micros(bridge));
        let shown = Spread::of(ratios).ratio();
        self.row(&format!("{at}: to the cloud, gateway : mosquitto's bridge"), "-", shown);
        let size = up.last().map(bytes).unwrap_or_default();
        self.row(&format!("{at}: bytes a reading to the cloud"), "-", size);
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
        let cost = |millis: u64| Cost {
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
        let five = |millis: [u64; 5]| millis.map(cost).to_vec();
        table.rounds(&Rounds {
            local: five([250, 240, 260, 250, 400]),
            alone: five([100; 5]),
            up: five([310, 310, 310, 310, 400]),
            bridge: five([200; 5]),
            lazy: five([250; 5]),
        });
        let row = |words: &str| {
            let found = table.0.iter().find(|[figure, ..]| figure.ends_with(words));
            found.map(|[.., measured]| measured.as_str())
        };
        assert_eq!(row("from topic to acknowledged batch"), Some("3.0 µs (0.0 to 3.5)"));
        assert_eq!(row("gateway : mosquitto's bridge"), Some("1.55 (1.55 to 2.00)"));
    }
}
