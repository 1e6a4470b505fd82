//! The figures of some readings, kept as they come.

use std::fmt;

use sketches_ddsketch::{Config, DDSketch};
use tidegate_model::{Clock, Reading, Status, Timestamp, Unit, Value};

use crate::{
    Function,
    thin::sound_number,
    wire::{
        Input, Malformed, origin, put_bytes, put_double, put_number, put_time, put_unit, put_value,
    },
};

/// The figures of readings that were added: moments as Welford has them, a sketch for quantiles.
#[derive(Clone, Debug)]
pub(crate) struct Accumulator {
    /// All readings.
    pub(crate) count: u64,
    /// Those that are numbers.
    numbers: u64,
    mean: f64,
    /// The sum of squared differences from the mean.
    squares: f64,
    low: Value,
    high: Value,
    last: Value,
    last_time: Timestamp,
    pub(crate) unit: Option<Unit>,
    /// The worst that occurred; plain good unless something was not.
    status: Status,
    arrival: Timestamp,
    clock: Clock,
    sketch: Option<Sketch>,
}

/// What quantiles are read from: each within 1 % of a number of its rank; at most 2,048 bins.
#[derive(Clone)]
struct Sketch(Box<DDSketch>);

impl Sketch {
    fn new() -> Self {
        Self(Box::new(DDSketch::new(Config::defaults())))
    }
}

impl fmt::Debug for Sketch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Sketch").field("count", &self.0.count()).finish_non_exhaustive()
    }
}

impl Accumulator {
    /// Begins with one reading.
    pub(crate) fn of(reading: &Reading, with_sketch: bool) -> Self {
        let mut new = Self {
            count: 0,
            numbers: 0,
            mean: 0.0,
            squares: 0.0,
            low: Value::Null,
            high: Value::Null,
            last: Value::Null,
            last_time: reading.time(),
            unit: reading.unit.clone(),
            status: Status::GOOD,
            arrival: reading.arrival,
            clock: reading.clock,
            sketch: with_sketch.then(Sketch::new),
        };
        new.add(reading);
        new
    }

    pub(crate) fn add(&mut self, reading: &Reading) {
        self.count += 1;
        self.arrival = self.arrival.max(reading.arrival);
        if reading.clock == Clock::Untrusted {
            self.clock = Clock::Untrusted;
        }
        if reading.status.quality() > self.status.quality() {
            self.status = reading.status;
        }
        if reading.time() >= self.last_time {
            self.last_time = reading.time();
            self.last = reading.value.clone();
        }
        let Some(number) = sound_number(reading) else { return };
        self.numbers += 1;
        let difference = number - self.mean;
        self.mean += difference / as_double(self.numbers);
        self.squares += difference * (number - self.mean);
        if self.low.as_f64().is_none_or(|low| number < low) {
            self.low = reading.value.clone();
        }
        if self.high.as_f64().is_none_or(|high| number > high) {
            self.high = reading.value.clone();
        }
        if let Some(sketch) = &mut self.sketch {
            sketch.0.add(number);
        }
    }

    /// Adds all that was added to `other`.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.arrival = self.arrival.max(other.arrival);
        if other.clock == Clock::Untrusted {
            self.clock = Clock::Untrusted;
        }
        if other.status.quality() > self.status.quality() {
            self.status = other.status;
        }
        if other.last_time >= self.last_time {
            self.last_time = other.last_time;
            self.last = other.last.clone();
        }
        if other.numbers == 0 {
            return;
        }
        // Chan, Golub and LeVeque, Updating formulae and a pairwise algorithm for computing sample variances.
        let (ours, theirs) = (as_double(self.numbers), as_double(other.numbers));
        let difference = other.mean - self.mean;
        self.numbers += other.numbers;
        self.mean += difference * theirs / (ours + theirs);
        self.squares += other.squares + difference * difference * ours * theirs / (ours + theirs);
        if self.low.as_f64().is_none_or(|low| other.low.as_f64().is_some_and(|it| it < low)) {
            self.low = other.low.clone();
        }
        if self.high.as_f64().is_none_or(|high| other.high.as_f64().is_some_and(|it| it > high)) {
            self.high = other.high.clone();
        }
        if let (Some(sketch), Some(other)) = (&mut self.sketch, &other.sketch) {
            sketch.0.merge(&other.0).expect("all sketches are configured alike");
        }
    }

    /// Returns a figure as a reading of `time`; `None` if there were not enough numbers for it.
    pub(crate) fn figure(&self, function: Function, time: Timestamp) -> Option<Reading> {
        let given = |value: &Value| (self.numbers > 0).then(|| value.clone());
        let value = match function {
            Function::Count => Value::unsigned(self.count),
            Function::Last => self.last.clone(),
            Function::Min => given(&self.low)?,
            Function::Max => given(&self.high)?,
            Function::Mean => given(&Value::Double(self.mean))?,
            Function::Deviation if self.numbers < 2 => return None,
            Function::Deviation => {
                Value::Double((self.squares / as_double(self.numbers - 1)).max(0.0).sqrt())
            }
            Function::Quantile(quantile) => {
                Value::Double(self.sketch.as_ref()?.0.quantile(quantile.part()).ok()??)
            }
        };
        Some(Reading {
            source_time: Some(time),
            clock: self.clock,
            status: self.status,
            unit: if function == Function::Count { None } else { self.unit.clone() },
            ..Reading::new(value, self.arrival, origin())
        })
    }

    /// Returns about how many bytes this holds outside itself.
    pub(crate) fn bytes(&self) -> usize {
        // The same before and after a restart: what numbers of a few orders of magnitude take.
        if self.sketch.is_some() { size_of::<DDSketch>() + 2_048 } else { 0 }
    }

    pub(crate) fn encode(&self, buffer: &mut Vec<u8>) {
        put_number(buffer, self.count);
        put_number(buffer, self.numbers);
        put_double(buffer, self.mean);
        put_double(buffer, self.squares);
        for value in [&self.low, &self.high, &self.last] {
            put_value(buffer, value);
        }
        put_time(buffer, self.last_time);
        put_unit(buffer, self.unit.as_ref());
        buffer.extend_from_slice(&self.status.code().to_le_bytes());
        put_time(buffer, self.arrival);
        let untrusted = u8::from(self.clock == Clock::Untrusted);
        buffer.push(untrusted | u8::from(self.sketch.is_some()) << 1);
        if let Some(sketch) = &self.sketch {
            put_bytes(buffer, &sketch.0.to_java_bytes());
        }
    }

    pub(crate) fn decode(input: &mut Input<'_>) -> Result<Self, Malformed> {
        let mut read = Self {
            count: input.number()?,
            numbers: input.number()?,
            mean: input.double()?,
            squares: input.double()?,
            low: input.value()?,
            high: input.value()?,
            last: input.value()?,
            last_time: input.time()?,
            unit: input.unit()?,
            status: input.status()?,
            arrival: input.time()?,
            clock: Clock::Trusted,
            sketch: None,
        };
        let flags = input.byte()?;
        if flags & 1 != 0 {
            read.clock = Clock::Untrusted;
        }
        if flags & 2 != 0 {
            let kept = DDSketch::from_java_bytes(input.bytes()?).map_err(|_| Malformed)?;
            // One that is configured otherwise could not be merged with others.
            Sketch::new().0.merge(&kept).map_err(|_| Malformed)?;
            read.sketch = Some(Sketch(Box::new(kept)));
        }
        Ok(read)
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn as_double(count: u64) -> f64 {
    count as f64
}
