//! One moment of the demo: what the picture, the lines and the tests look at.

use std::time::{Duration, Instant};

use serde_json::Value;
use tidegate_uplink::decoder::DecodedReading;

use super::{cloud::Arrivals, embedded::UPLINK, operator::Ordered, plant::Row};

/// Everything that is shown.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshot {
    /// Since the gateway was ready.
    pub(super) elapsed: Duration,
    /// From there to the first reading in the cloud.
    pub(super) first: Option<Duration>,
    /// What is being done, if it is more than running.
    pub(super) stopping: bool,
    /// A row for each protocol.
    pub(super) devices: Vec<DeviceRow>,
    /// The gateway.
    pub(super) gateway: GatewayRow,
    /// The cloud.
    pub(super) cloud: CloudRow,
    /// The last readings that were decoded, oldest first.
    pub(super) latest: Vec<DecodedReading>,
    /// The last command.
    pub(super) ordered: Option<Ordered>,
    /// Where the gateway listens for HTTP: `http://…`.
    pub(super) http: String,
}

/// The devices of one protocol.
#[derive(Clone, Debug, Default)]
pub(super) struct DeviceRow {
    /// The protocol.
    pub(super) protocol: &'static str,
    /// How many of what.
    pub(super) devices: &'static str,
    /// Readings that the gateway is known to have.
    pub(super) handed_over: u64,
    /// Of these a second, lately.
    pub(super) rate: f64,
    /// What went wrong.
    pub(super) failures: u64,
    /// The topic of one of the signals, each in its turn, and its last value.
    pub(super) last: (String, String),
}

/// The gateway, by its own books.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct GatewayRow {
    /// Records appended for the uplink.
    pub(super) received: u64,
    /// Records that the cloud has acknowledged.
    pub(super) delivered: u64,
    /// Records that wait.
    pub(super) queued: u64,
    /// Records filtered, expired or dropped.
    pub(super) others: u64,
    /// Commits of the journal, each with a sync.
    pub(super) commits: u64,
    /// The median duration of a sync.
    pub(super) sync: Duration,
    /// Why the uplink is not connected, if it is not.
    pub(super) trouble: Option<String>,
}

/// The cloud, by its own count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CloudRow {
    /// Different readings.
    pub(super) received: u64,
    /// Batches.
    pub(super) batches: u64,
    /// Bytes of the batches as packets.
    pub(super) wire_bytes: u64,
    /// Bytes of the same readings as one JSON packet each.
    pub(super) json_bytes: u64,
    /// Readings that came twice.
    pub(super) duplicates: u64,
    /// Numbers left out.
    pub(super) holes: u64,
}

impl GatewayRow {
    /// Reads the row out of the gateway's status (`docs/config.md`, "The ledger").
    pub(super) fn of_status(status: &Value) -> Self {
        let uplink = &status["uplinks"][UPLINK];
        Self {
            received: sum(&uplink["received"]),
            delivered: sum(&uplink["delivered"]),
            queued: sum(&uplink["queued"]),
            others: ["filtered", "expired", "dropped"].iter().map(|key| sum(&uplink[key])).sum(),
            commits: sum(&status["store"]["commits"]),
            sync: Duration::from_micros(sum(&status["store"]["sync-p50-micros"])),
            trouble: uplink["last-error"].as_str().map(str::to_owned),
        }
    }
}

/// Returns a number, or the sum of an object of numbers.
fn sum(value: &Value) -> u64 {
    match value {
        Value::Object(members) => members.values().map(sum).sum(),
        value => value.as_u64().unwrap_or(0),
    }
}

impl CloudRow {
    /// Takes the counts of what arrived.
    pub(super) fn of_arrivals(arrivals: &Arrivals) -> Self {
        let totals = &arrivals.tally.totals;
        Self {
            received: totals.received,
            batches: totals.batches,
            wire_bytes: totals.wire_bytes,
            json_bytes: totals.json_bytes,
            duplicates: totals.duplicates,
            holes: arrivals.tally.holes(),
        }
    }

    /// Returns bytes per reading, 0 without one.
    pub(super) fn bytes_per_reading(&self) -> f64 {
        ratio(self.wire_bytes, self.received)
    }

    /// Returns how many times more bytes JSON would be, 0 without a batch.
    pub(super) fn json_ratio(&self) -> f64 {
        ratio(self.json_bytes, self.wire_bytes)
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn ratio(part: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { part as f64 / of as f64 }
}

/// Turns counts into rates: looks back over the last few seconds.
#[derive(Debug, Default)]
pub(super) struct Rates {
    /// Moments, and what had been handed over by row.
    seen: std::collections::VecDeque<(Instant, Vec<u64>)>,
}

/// How far rates look back.
const RATE_SPAN: Duration = Duration::from_secs(3);

impl Rates {
    /// Notes the counts at `now` and returns how much they rise a second.
    pub(super) fn rise(&mut self, now: Instant, counts: Vec<u64>) -> Vec<f64> {
        while self.seen.len() > 1
            && self.seen.front().is_some_and(|(at, _)| now.duration_since(*at) > RATE_SPAN)
        {
            self.seen.pop_front();
        }
        let rates = match self.seen.front() {
            Some((at, before)) if now > *at => {
                let seconds = now.duration_since(*at).as_secs_f64();
                #[expect(clippy::cast_precision_loss, reason = "for people")]
                let rate =
                    |(count, before): (&u64, &u64)| count.saturating_sub(*before) as f64 / seconds;
                counts.iter().zip(before).map(rate).collect()
            }
            _ => vec![0.0; counts.len()],
        };
        self.seen.push_back((now, counts));
        rates
    }
}

/// How long each signal of a row has its turn.
const TURN_SECONDS: u64 = 2;

/// Takes the device rows at `now`, which is `elapsed` after the start.
pub(super) fn device_rows(
    rows: &[Row],
    rates: &mut Rates,
    now: Instant,
    elapsed: Duration,
) -> Vec<DeviceRow> {
    let turn = usize::try_from(elapsed.as_secs() / TURN_SECONDS).unwrap_or(0);
    let counts: Vec<u64> = rows
        .iter()
        .map(|row| row.signals.iter().map(|signal| signal.handed_over()).sum())
        .collect();
    let rates = rates.rise(now, counts.clone());
    rows.iter()
        .zip(counts)
        .zip(rates)
        .map(|((row, handed_over), rate)| DeviceRow {
            protocol: row.protocol,
            devices: row.devices,
            handed_over,
            rate,
            failures: row.failures.count(),
            last: row
                .signals
                .get(turn % row.signals.len().max(1))
                .map(|signal| (signal.topic.clone(), signal.last()))
                .unwrap_or_default(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_ledger_is_read_with_numbers_and_objects() {
        let status = json!({
            "uplinks": { "cloud": {
                "received": 20, "delivered": 10, "queued": 3,
                "filtered": { "slow": 4, "same": 1 }, "expired": 1, "dropped": { "full": 1 },
                "last-error": "connection refused",
            }},
            "store": { "commits": 12, "sync-p50-micros": 1500 },
        });
        let row = GatewayRow::of_status(&status);
        assert_eq!(
            row,
            GatewayRow {
                received: 20,
                delivered: 10,
                queued: 3,
                others: 7,
                commits: 12,
                sync: Duration::from_micros(1_500),
                trouble: Some("connection refused".into()),
            }
        );
        assert_eq!(GatewayRow::of_status(&json!({})), GatewayRow::default());
    }

    #[test]
    fn rates_look_back_a_few_seconds() {
        let (mut rates, start) = (Rates::default(), Instant::now());
        assert_eq!(rates.rise(start, vec![0, 5]), [0.0, 0.0]);
        assert_eq!(rates.rise(start + Duration::from_secs(2), vec![20, 5]), [10.0, 0.0]);
        for second in 3..10 {
            rates.rise(start + Duration::from_secs(second), vec![20, 5]);
        }
        assert_eq!(rates.rise(start + Duration::from_secs(10), vec![20, 8]), [0.0, 1.0]);
    }

    #[test]
    fn ratios_of_nothing_are_nothing() {
        let row = CloudRow { received: 10, wire_bytes: 80, json_bytes: 960, ..CloudRow::default() };
        assert_eq!((row.bytes_per_reading(), row.json_ratio()), (8.0, 12.0));
        let row = CloudRow::default();
        assert_eq!((row.bytes_per_reading(), row.json_ratio()), (0.0, 0.0));
    }
}
