//! What the demo says at its end, from the side that received.

use std::{collections::BTreeMap, fmt, process::ExitCode, time::Duration};

use super::{
    cloud::Arrivals,
    picture::{grouped, short},
    snapshot::CloudRow,
};

/// The result of a demo.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Summary {
    /// Readings that devices know the gateway to have.
    handed_over: u64,
    /// Different readings that arrived at the cloud.
    received: u64,
    /// Readings handed over that did not arrive.
    missing: u64,
    /// Readings that the gateway told never to come.
    gaps: u64,
    /// Messages at the cloud that could not be decoded.
    unreadable: u64,
    /// The cloud's counts.
    cloud: CloudRow,
    /// From ready to the first reading in the cloud.
    first: Option<Duration>,
}

impl Summary {
    /// Compares what devices handed over with what arrived, topic by topic: a surplus on one topic makes up for
    /// nothing on another.
    pub(super) fn new(
        handed_over: &BTreeMap<String, u64>,
        arrivals: &Arrivals,
        first: Option<Duration>,
    ) -> Self {
        let missing = handed_over
            .iter()
            .map(|(topic, count)| count.saturating_sub(arrivals.tally.received(topic)))
            .sum();
        Self {
            handed_over: handed_over.values().sum(),
            received: arrivals.tally.totals.received,
            missing,
            gaps: arrivals.tally.gaps(),
            unreadable: arrivals.tally.totals.unreadable,
            cloud: CloudRow::of_arrivals(arrivals),
            first,
        }
    }

    /// Returns success if something arrived, nothing is missing and no number was left out.
    pub(super) fn exit_code(&self) -> ExitCode {
        if self.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn is_good(&self) -> bool {
        self.received > 0 && self.missing == 0 && self.cloud.holes == 0 && self.unreadable == 0
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { handed_over, received, missing, gaps, unreadable, cloud, first } = self;
        writeln!(formatter, "What the cloud decoded and counted:")?;
        let mut row = |name: &str, value: String| writeln!(formatter, "  {name:17} = {value}");
        row("readings in", grouped(*handed_over))?;
        row("received", grouped(*received))?;
        row("batches", grouped(cloud.batches))?;
        row("bytes", grouped(cloud.wire_bytes))?;
        row("bytes per reading", format!("{:.1}", cloud.bytes_per_reading()))?;
        let json = grouped(cloud.json_bytes);
        row("ratio", format!("{:.1} (as JSON messages {json} bytes)", cloud.json_ratio()))?;
        if let Some(first) = first {
            row("first reading", format!("{} after ready", short(*first)))?;
        }
        // Duplicates may be; what follows must not, and is said only if it is.
        if cloud.duplicates > 0 {
            row("came twice", grouped(cloud.duplicates))?;
        }
        for (name, count) in
            [("left out", cloud.holes), ("given up", *gaps), ("unreadable", *unreadable)]
        {
            if count > 0 {
                row(name, grouped(count))?;
            }
        }
        row("missing", grouped(*missing))
    }
}

#[cfg(test)]
mod tests {
    use tidegate_model::{Status, Timestamp, Value};
    use tidegate_uplink::decoder::{Batch, DecodedReading};

    use super::*;

    fn arrivals(readings: &[(&str, i64)]) -> Arrivals {
        let mut arrivals = Arrivals::default();
        let batch = Batch {
            readings: readings
                .iter()
                .map(|(topic, number)| DecodedReading {
                    stream: Some((*topic).into()),
                    number: *number,
                    time: Timestamp::from_unix_millis(0),
                    until: None,
                    value: Value::Double(1.0),
                    unit: None,
                    status: Status::GOOD,
                    replayed: false,
                })
                .collect(),
            ..Batch::default()
        };
        arrivals.tally.take(&batch, 100, 1_250);
        arrivals
    }

    fn handed_over(counts: &[(&str, u64)]) -> BTreeMap<String, u64> {
        counts.iter().map(|(topic, count)| ((*topic).to_owned(), *count)).collect()
    }

    #[test]
    fn missing_is_counted_by_topic() {
        #[rustfmt::skip]
        type Case<'a> = (&'a [(&'a str, u64)], &'a [(&'a str, i64)], u64, bool);
        let cases: &[Case<'_>] = &[
            // handed over           arrived                                missing  good
            (&[("a", 2)], &[("a", 1), ("a", 2)], 0, true),
            // Not acknowledged yet is no loss, but no replacement either.
            (&[("a", 1), ("b", 1)], &[("a", 1), ("a", 2)], 1, false),
            (&[("a", 1), ("b", 1)], &[("a", 1), ("a", 2), ("b", 1)], 0, true),
            // A duplicate is one reading.
            (&[("a", 2)], &[("a", 1), ("a", 1)], 1, false),
            // A number left out is a loss even if the devices do not know of it.
            (&[("a", 2)], &[("a", 1), ("a", 3)], 0, false),
            (&[("a", 3)], &[], 3, false),
            // A demo in which nothing arrives shows nothing.
            (&[], &[], 0, false),
        ];
        for (counts, readings, missing, good) in cases {
            let summary = Summary::new(&handed_over(counts), &arrivals(readings), None);
            assert_eq!(
                (summary.missing, summary.is_good()),
                (*missing, *good),
                "{counts:?} {readings:?}"
            );
        }
    }

    #[test]
    fn what_cannot_be_read_is_not_good() {
        let mut arrivals = arrivals(&[("a", 1)]);
        arrivals.tally.take_unreadable(10);
        assert!(!Summary::new(&handed_over(&[("a", 1)]), &arrivals, None).is_good());
    }

    /// main.17: the figures stand beside the words that the deep tests look for.
    #[test]
    fn main_17_the_summary_says_received_and_missing() {
        let arrivals = arrivals(&[("a", 1), ("a", 2), ("a", 4), ("b", 1), ("b", 1)]);
        let first = Some(Duration::from_millis(231));
        let summary = Summary::new(&handed_over(&[("a", 4), ("b", 1)]), &arrivals, first);
        let expected = "\
What the cloud decoded and counted:
  readings in       = 5
  received          = 4
  batches           = 1
  bytes             = 100
  bytes per reading = 25.0
  ratio             = 12.5 (as JSON messages 1,250 bytes)
  first reading     = 231 ms after ready
  came twice        = 1
  left out          = 1
  missing           = 1
";
        assert_eq!(summary.to_string(), expected);
    }
}
