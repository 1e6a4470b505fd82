//! Readings that look like those of a plant: analog signals that wander, each with its own decimal places.

use tidegate_model::{Clock, Timestamp, Topic, Value};

use crate::{
    content::{Column, Content},
    streams::StreamId,
};

/// One kind of signal.
#[derive(Clone, Copy, Debug)]
pub struct Signal {
    /// Its topic below the machine.
    pub name: &'static str,
    /// Where it begins.
    pub start: f64,
    /// How far a step goes.
    pub step: f64,
    /// How many decimal places it has.
    pub places: i32,
    /// How many per cent of its readings differ from the one before.
    pub moves: u64,
}

const fn signal(name: &'static str, start: f64, step: f64, places: i32, moves: u64) -> Signal {
    Signal { name, start, step, places, moves }
}

/// Twelve mixed analog signals.
pub const SIGNALS: [Signal; 12] = [
    signal("hall1/press-1/temperature", 61.4, 0.2, 1, 70),
    signal("hall1/press-1/pressure", 182.55, 0.4, 2, 100),
    signal("hall1/press-1/flow", 12.31, 0.08, 2, 100),
    signal("hall1/press-1/vibration", 1.842, 0.05, 3, 100),
    signal("hall1/press-2/temperature", 58.9, 0.2, 1, 70),
    signal("hall1/press-2/speed", 1_480.0, 3.0, 0, 90),
    signal("hall1/press-2/torque", 73.4, 0.9, 1, 100),
    signal("hall1/press-2/current", 41.27, 0.3, 2, 100),
    signal("hall1/tank/level", 74.2, 0.1, 1, 40),
    signal("hall1/tank/valve", 35.0, 5.0, 1, 5),
    signal("hall1/meter/voltage", 231.4, 0.3, 1, 95),
    signal("hall1/meter/power", 18.45, 0.6, 2, 100),
];

/// A small generator of numbers that follow from a seed.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Begins with a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next number, of 31 bits.
    pub fn number(&mut self) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    /// Returns a number from -1 to 1, near 0 more often than not.
    #[expect(clippy::cast_precision_loss, reason = "the numbers are small")]
    pub fn step(&mut self) -> f64 {
        let part = |random: u64| (random % 2_001) as f64 / 1_000.0 - 1.0;
        part(self.number()).midpoint(part(self.number()))
    }
}

/// A plant with so many signals, of the kinds of [`SIGNALS`] in turn, all read at the same moments.
#[derive(Clone, Debug)]
pub struct Plant {
    topics: Vec<Topic>,
    levels: Vec<f64>,
    interval_millis: i64,
    /// The next reading's time.
    at: i64,
    /// How many readings each signal has had.
    count: u64,
    random: Random,
}

impl Plant {
    /// Begins.
    ///
    /// # Panics
    ///
    /// If there are more signals than streams.
    #[must_use]
    pub fn new(signals: usize, interval_millis: u32, seed: u64) -> Self {
        let kinds = SIGNALS.iter().cycle().enumerate().take(signals);
        let topic = |(index, kind): (usize, &Signal)| {
            let name = match index / SIGNALS.len() {
                0 => kind.name.to_owned(),
                machine => format!("{}/{machine}", kind.name),
            };
            Topic::new(&name).expect("names of signals are topics")
        };
        Self {
            topics: kinds.clone().map(topic).collect(),
            levels: kinds.map(|(_, kind)| kind.start).collect(),
            interval_millis: interval_millis.max(1).into(),
            at: 1_772_366_400_000,
            count: 0,
            random: Random::new(seed),
        }
    }

    /// Returns the next `times` readings of every signal.
    pub fn next(&mut self, times: u32) -> Content {
        let mut content = Content::new(Clock::Trusted, false);
        for (index, topic) in self.topics.iter().enumerate() {
            let Signal { step, places, moves, .. } = SIGNALS[index % SIGNALS.len()];
            let power = 10_f64.powi(places);
            let mut column = Column {
                stream: StreamId::new(u32::try_from(index).expect("streams are fewer")),
                topic: topic.clone(),
                unit: None,
                first: self.count + 1,
                times: Vec::new(),
                values: Vec::new(),
                statuses: Vec::new(),
                ends: Vec::new(),
                raw: Vec::new(),
            };
            for place in 0..i64::from(times) {
                if self.random.number() % 100 < moves {
                    self.levels[index] += step * self.random.step();
                }
                // Devices are read one after the other.
                let jitter = i64::try_from(self.random.number() % 4).expect("it is small");
                let at = self.at + place * self.interval_millis + jitter;
                column.times.push(Timestamp::from_unix_millis(at));
                column.values.push(Value::Double((self.levels[index] * power).round() / power));
            }
            content.columns.push(column);
        }
        self.at += i64::from(times) * self.interval_millis;
        self.count += u64::from(times);
        content
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plant_goes_on_where_it_was() {
        let mut plant = Plant::new(15, 1_000, 7);
        let (first, second) = (plant.next(3), plant.next(2));
        assert_eq!((first.readings(), second.readings()), (45, 30));
        assert_eq!(second.columns[14].topic.as_str(), "hall1/press-1/flow/1");
        assert_eq!(second.columns[0].first, 4);
        assert!(second.columns[0].times[0] > first.columns[0].times[2]);
        let decimals = first.columns[3].values.iter().all(|value| match value {
            Value::Double(number) => ((number * 1_000.0).round() / 1_000.0 - number).abs() < 1e-9,
            _ => false,
        });
        assert!(decimals);
    }
}
