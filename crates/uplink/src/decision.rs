//! What was decided on the records of one batch, as the journal keeps it until the cursor passes them.

use std::sync::Arc;

use tidegate_model::{Clock, Reading, Timestamp};
use tidegate_store::{Position, Seq};

use crate::{
    ledger::DropReason,
    streams::StreamId,
    wire::{self, Input, Malformed, put_bytes, put_number, put_text},
};

/// What was decided on one record. Streams and rules are places in the lists of the [`Entry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It got the next number of the stream and goes out.
    Assigned { stream: u32 },
    /// It got the next number of the stream, and goes out as the rules have changed it.
    Changed { stream: u32 },
    /// The rule held it back.
    Filtered { rule: u32 },
    /// It waits in the rule.
    Held { rule: u32 },
    /// Its message expiry had passed.
    Expired,
    /// It took the next number of the stream and was dropped.
    DroppedNumbered { stream: u32, reason: DropReason },
    /// It was dropped without a number.
    Dropped { reason: DropReason },
}

/// The same decision on records in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) decision: Decision,
    pub(crate) records: u64,
}

/// Adds a decision on the next `records`.
pub(crate) fn push_run(runs: &mut Vec<Run>, decision: Decision, records: u64) {
    match runs.last_mut() {
        Some(run) if run.decision == decision => run.records += records,
        _ => runs.push(Run { decision, records }),
    }
}

/// A gap as the journal keeps it: its stream by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GapEntry {
    pub(crate) stream: StreamId,
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) why: DropReason,
}

/// A reading that a rule made, with the next number of its stream; without one it was dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MadeEntry {
    /// How many records of the batch come before it.
    pub(crate) place: u64,
    pub(crate) rule: u32,
    pub(crate) numbered: Option<(u32, Reading)>,
}

/// All decisions on the records after `from` up to and with `to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) from: Position,
    pub(crate) to: Position,
    pub(crate) clock: Clock,
    pub(crate) replayed: bool,
    /// The names of the rules that held something back.
    pub(crate) rules: Vec<Arc<str>>,
    /// The streams that gave numbers, each with the first one.
    pub(crate) streams: Vec<(StreamId, u64)>,
    /// In order, for each ordinal after that of `from`.
    pub(crate) runs: Vec<Run>,
    /// The gaps that the batch carries.
    pub(crate) gaps: Vec<GapEntry>,
    /// As what the records go out that rules have changed, in order.
    pub(crate) changed: Vec<Reading>,
    /// What rules made, by place.
    pub(crate) made: Vec<MadeEntry>,
    /// What rules made and others held back: both rules.
    pub(crate) in_vain: Vec<(u32, u32)>,
    /// How many records that waited in a rule count as filtered with this batch.
    pub(crate) released: Vec<(u32, u64)>,
    /// How many that waited are lost to damage.
    pub(crate) lost: Vec<(u32, u64)>,
    /// What the rules were told of the clock, and how many records of the batch come before.
    pub(crate) ticks: Vec<(u64, Timestamp)>,
}

const VERSION: u8 = 2;
/// Decisions of this version have one bit less for their kind, and nothing after the gaps.
const VERSION_WITHOUT_EFFECTS: u8 = 1;
const ASSIGNED: u64 = 0;
const FILTERED: u64 = 1;
/// Expired; with a detail above 0, the decision before it so many times more.
const EXPIRED: u64 = 2;
const DROPPED: u64 = 3;
/// Dropped with a number, for the reason of code 0 to 3.
const DROPPED_NUMBERED: u64 = 4;
const CHANGED: u64 = 8;
const HELD: u64 = 9;
/// Dropped with a number, for the reason of code 4.
const DROPPED_NUMBERED_MORE: u64 = 10;
const LAST_KIND: u64 = DROPPED_NUMBERED_MORE;
/// How many reasons the first of these kinds are for.
const REASONS: u64 = CHANGED - DROPPED_NUMBERED;
/// Another reason needs another kind.
const _: () = assert!(DropReason::ALL.len() as u64 == REASONS + 1);
/// How many bits say which kind.
const KIND_BITS: u32 = 4;

impl Entry {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut buffer = Vec::with_capacity(64 + 4 * self.streams.len() + 2 * self.runs.len());
        buffer.push(VERSION);
        put_position(&mut buffer, self.from);
        put_position(&mut buffer, self.to);
        let untrusted = self.clock == Clock::Untrusted;
        buffer.push(u8::from(self.replayed) | u8::from(untrusted) << 1);
        put_number(&mut buffer, self.rules.len() as u64);
        for rule in &self.rules {
            put_text(&mut buffer, rule);
        }
        put_number(&mut buffer, self.streams.len() as u64);
        for (stream, first) in &self.streams {
            put_number(&mut buffer, stream.get().into());
            put_number(&mut buffer, *first);
        }
        let repeats = self.runs.iter().filter(|run| run.records > 1).count();
        put_number(&mut buffer, (self.runs.len() + repeats) as u64);
        for run in &self.runs {
            put_number(&mut buffer, code(run.decision));
            if run.records > 1 {
                put_number(&mut buffer, (run.records - 1) << KIND_BITS | EXPIRED);
            }
        }
        put_gaps(&mut buffer, &self.gaps);
        self.put_effects(&mut buffer);
        buffer
    }

    fn put_effects(&self, buffer: &mut Vec<u8>) {
        let mut bytes = Vec::new();
        let mut put = |buffer: &mut Vec<u8>, reading: &Reading| {
            bytes.clear();
            wire::put_reading(&mut bytes, reading);
            put_bytes(buffer, &bytes);
        };
        put_number(buffer, self.changed.len() as u64);
        self.changed.iter().for_each(|reading| put(buffer, reading));
        put_number(buffer, self.made.len() as u64);
        for made in &self.made {
            put_number(buffer, made.place);
            put_number(buffer, made.rule.into());
            buffer.push(u8::from(made.numbered.is_some()));
            if let Some((stream, reading)) = &made.numbered {
                put_number(buffer, (*stream).into());
                put(buffer, reading);
            }
        }
        put_number(buffer, self.in_vain.len() as u64);
        for (made_by, filtered_by) in &self.in_vain {
            put_number(buffer, (*made_by).into());
            put_number(buffer, (*filtered_by).into());
        }
        for counts in [&self.released, &self.lost] {
            put_number(buffer, counts.len() as u64);
            for (rule, records) in counts {
                put_number(buffer, (*rule).into());
                put_number(buffer, *records);
            }
        }
        put_number(buffer, self.ticks.len() as u64);
        for (place, wall) in &self.ticks {
            put_number(buffer, *place);
            buffer.extend_from_slice(&wall.as_unix_micros().to_le_bytes());
        }
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, Malformed> {
        let mut input = Input::new(value);
        let version = input.byte()?;
        if version != VERSION && version != VERSION_WITHOUT_EFFECTS {
            return Err(Malformed);
        }
        let kind_bits = if version == VERSION { KIND_BITS } else { KIND_BITS - 1 };
        let from = read_position(&mut input)?;
        let to = read_position(&mut input)?;
        let flags = input.byte()?;
        let mut entry = Self {
            from,
            to,
            clock: if flags & 2 == 0 { Clock::Trusted } else { Clock::Untrusted },
            replayed: flags & 1 != 0,
            rules: Vec::new(),
            streams: Vec::new(),
            runs: Vec::new(),
            gaps: Vec::new(),
            changed: Vec::new(),
            made: Vec::new(),
            in_vain: Vec::new(),
            released: Vec::new(),
            lost: Vec::new(),
            ticks: Vec::new(),
        };
        for _ in 0..input.number()? {
            entry.rules.push(input.text()?.into());
        }
        for _ in 0..input.number()? {
            let stream = StreamId::new(input.number_u32()?);
            entry.streams.push((stream, input.number()?));
        }
        entry.read_runs(&mut input, kind_bits)?;
        entry.gaps = read_gaps(&mut input)?;
        if version == VERSION {
            entry.read_effects(&mut input)?;
        }
        input.end()?;
        let decided = entry.runs.iter().try_fold(0, |sum: u64, run| sum.checked_add(run.records));
        if decided.is_none() || decided != to.ordinal.checked_sub(from.ordinal) {
            return Err(Malformed);
        }
        let is_changed = |run: &&Run| matches!(run.decision, Decision::Changed { .. });
        let changed: u64 = entry.runs.iter().filter(is_changed).map(|run| run.records).sum();
        if changed != entry.changed.len() as u64 {
            return Err(Malformed);
        }
        Ok(entry)
    }

    fn read_runs(&mut self, input: &mut Input<'_>, kind_bits: u32) -> Result<(), Malformed> {
        for _ in 0..input.number()? {
            let code = input.number()?;
            let (kind, detail) = (code & ((1 << kind_bits) - 1), code >> kind_bits);
            if kind == EXPIRED && detail > 0 {
                let run = self.runs.last_mut().ok_or(Malformed)?;
                run.records = run.records.checked_add(detail).ok_or(Malformed)?;
            } else {
                let decision = self.decision(kind, detail)?;
                self.runs.push(Run { decision, records: 1 });
            }
        }
        Ok(())
    }

    fn read_effects(&mut self, input: &mut Input<'_>) -> Result<(), Malformed> {
        for _ in 0..input.number()? {
            self.changed.push(read_reading(input)?);
        }
        for _ in 0..input.number()? {
            let place = input.number()?;
            let rule = self.rule(input.number()?)?;
            let mut numbered = None;
            if input.byte()? != 0 {
                let stream = inside(input.number()?, self.streams.len())?;
                numbered = Some((stream, read_reading(input)?));
            }
            self.made.push(MadeEntry { place, rule, numbered });
        }
        for _ in 0..input.number()? {
            self.in_vain.push((self.rule(input.number()?)?, self.rule(input.number()?)?));
        }
        for _ in 0..input.number()? {
            self.released.push((self.rule(input.number()?)?, input.number()?));
        }
        for _ in 0..input.number()? {
            self.lost.push((self.rule(input.number()?)?, input.number()?));
        }
        for _ in 0..input.number()? {
            let place = input.number()?;
            self.ticks.push((place, Timestamp::from_unix_micros(input.i64()?)));
        }
        Ok(())
    }

    fn rule(&self, place: u64) -> Result<u32, Malformed> {
        inside(place, self.rules.len())
    }

    fn decision(&self, kind: u64, detail: u64) -> Result<Decision, Malformed> {
        let place = |length: usize| inside(detail, length);
        let reason = |code: u64| DropReason::from_code(u8::try_from(code).map_err(|_| Malformed)?);
        match kind {
            ASSIGNED => Ok(Decision::Assigned { stream: place(self.streams.len())? }),
            FILTERED => Ok(Decision::Filtered { rule: place(self.rules.len())? }),
            EXPIRED if detail == 0 => Ok(Decision::Expired),
            EXPIRED => Err(Malformed),
            DROPPED => Ok(Decision::Dropped { reason: reason(detail)? }),
            CHANGED => Ok(Decision::Changed { stream: place(self.streams.len())? }),
            HELD => Ok(Decision::Held { rule: place(self.rules.len())? }),
            kind if kind > LAST_KIND => Err(Malformed),
            kind => Ok(Decision::DroppedNumbered {
                stream: place(self.streams.len())?,
                reason: reason(match kind {
                    DROPPED_NUMBERED_MORE => REASONS,
                    kind => kind - DROPPED_NUMBERED,
                })?,
            }),
        }
    }
}

fn code(decision: Decision) -> u64 {
    let (detail, kind) = match decision {
        Decision::Assigned { stream } => (u64::from(stream), ASSIGNED),
        Decision::Changed { stream } => (u64::from(stream), CHANGED),
        Decision::Filtered { rule } => (u64::from(rule), FILTERED),
        Decision::Held { rule } => (u64::from(rule), HELD),
        Decision::Expired => (0, EXPIRED),
        Decision::Dropped { reason } => (u64::from(reason.code()), DROPPED),
        Decision::DroppedNumbered { stream, reason } => {
            let kind = match u64::from(reason.code()) {
                REASONS.. => DROPPED_NUMBERED_MORE,
                reason => DROPPED_NUMBERED + reason,
            };
            (u64::from(stream), kind)
        }
    };
    detail << KIND_BITS | kind
}

/// Returns `place` if it is one of `length`.
fn inside(place: u64, length: usize) -> Result<u32, Malformed> {
    let is_inside = usize::try_from(place).is_ok_and(|place| place < length);
    if is_inside { u32::try_from(place).map_err(|_| Malformed) } else { Err(Malformed) }
}

fn read_reading(input: &mut Input<'_>) -> Result<Reading, Malformed> {
    let mut bytes = Input::new(input.bytes()?);
    let reading = bytes.reading()?;
    bytes.end()?;
    Ok(reading)
}

pub(crate) fn put_position(buffer: &mut Vec<u8>, position: Position) {
    put_number(buffer, position.seq.get());
    put_number(buffer, position.ordinal);
}

pub(crate) fn read_position(input: &mut Input<'_>) -> Result<Position, Malformed> {
    Ok(Position { seq: Seq::new(input.number()?), ordinal: input.number()? })
}

pub(crate) fn put_gaps(buffer: &mut Vec<u8>, gaps: &[GapEntry]) {
    put_number(buffer, gaps.len() as u64);
    for gap in gaps {
        put_number(buffer, gap.stream.get().into());
        put_number(buffer, gap.from);
        put_number(buffer, gap.to);
        buffer.push(gap.why.code());
    }
}

pub(crate) fn read_gaps(input: &mut Input<'_>) -> Result<Vec<GapEntry>, Malformed> {
    let mut gaps = Vec::new();
    for _ in 0..input.number()? {
        gaps.push(GapEntry {
            stream: StreamId::new(input.number_u32()?),
            from: input.number()?,
            to: input.number()?,
            why: DropReason::from_code(input.byte()?)?,
        });
    }
    Ok(gaps)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use tidegate_model::{AdapterName, Origin, Status, Unit, Value};

    use super::*;

    fn position(number: u64) -> Position {
        Position { seq: Seq::new(number * 3), ordinal: number }
    }

    fn sample() -> Entry {
        let mut runs = Vec::new();
        push_run(&mut runs, Decision::Assigned { stream: 0 }, 1);
        push_run(&mut runs, Decision::Assigned { stream: 1 }, 1);
        push_run(&mut runs, Decision::Assigned { stream: 1 }, 1 << 40);
        push_run(&mut runs, Decision::Expired, 1);
        push_run(&mut runs, Decision::Filtered { rule: 1 }, 2);
        push_run(&mut runs, Decision::Expired, 5);
        push_run(&mut runs, Decision::Changed { stream: 1 }, 2);
        push_run(&mut runs, Decision::Held { rule: 0 }, 1 << 30);
        for reason in DropReason::ALL {
            push_run(&mut runs, Decision::Dropped { reason }, 1);
            push_run(&mut runs, Decision::DroppedNumbered { stream: 1, reason }, 3);
        }
        let records: u64 = runs.iter().map(|run| run.records).sum();
        Entry {
            from: position(10),
            to: position(10 + records),
            clock: Clock::Untrusted,
            replayed: true,
            rules: vec!["slow".into(), "slower".into()],
            streams: vec![(StreamId::new(7), 1), (StreamId::new(300), 1 << 40)],
            runs,
            gaps: vec![GapEntry {
                stream: StreamId::new(7),
                from: 5,
                to: 9,
                why: DropReason::Full,
            }],
            changed: vec![reading(1), reading(2)],
            made: vec![
                MadeEntry { place: 3, rule: 1, numbered: Some((1, reading(3))) },
                MadeEntry { place: 4, rule: 0, numbered: None },
            ],
            in_vain: vec![(0, 1)],
            released: vec![(0, 1 << 40)],
            lost: vec![(1, 2)],
            ticks: vec![(5, Timestamp::from_unix_micros(-6))],
        }
    }

    fn reading(number: i64) -> Reading {
        let origin = Origin { adapter: AdapterName::new("rules").unwrap() };
        let time = Timestamp::from_unix_micros(number);
        Reading {
            source_time: Some(time),
            until: Some(time),
            clock: Clock::Untrusted,
            status: Status::BAD,
            unit: Some(Unit::new("Cel").unwrap()),
            ..Reading::new(Value::Integer(number), time.saturating_add(MINUTE), origin)
        }
    }

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn an_entry_round_trips() {
        let entry = sample();
        assert_eq!(Entry::decode(&entry.encode()), Ok(entry));
    }

    #[test]
    fn places_outside_the_lists_and_wrong_counts_are_refused() {
        let mut entry = sample();
        entry.to = position(11);
        assert_eq!(Entry::decode(&entry.encode()), Err(Malformed));
        let mut entry = sample();
        entry.streams.pop();
        assert_eq!(Entry::decode(&entry.encode()), Err(Malformed));
        let mut entry = sample();
        entry.rules.clear();
        assert_eq!(Entry::decode(&entry.encode()), Err(Malformed));
    }

    proptest! {
        #[test]
        fn damaged_bytes_do_no_harm(at in 0_usize..200, byte in any::<u8>(), cut in 0_usize..200) {
            let mut bytes = sample().encode();
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes.truncate(cut.max(1));
            let _ = Entry::decode(&bytes);
        }
    }
}
