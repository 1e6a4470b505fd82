//! What was decided on the records of one batch, as the journal keeps it until the cursor passes them.

use std::sync::Arc;

use tidegate_model::Clock;
use tidegate_store::{Position, Seq};

use crate::{
    ledger::DropReason,
    streams::StreamId,
    wire::{Input, Malformed, put_text, put_varint},
};

/// What was decided on one record. Streams and rules are places in the lists of the [`Entry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It got the next number of the stream and goes out.
    Assigned { stream: u32 },
    /// The rule held it back.
    Filtered { rule: u32 },
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
}

const VERSION: u8 = 1;
const ASSIGNED: u64 = 0;
const FILTERED: u64 = 1;
/// Expired; with a detail above 0, the decision before it so many times more.
const EXPIRED: u64 = 2;
const DROPPED: u64 = 3;
/// Dropped with a number, for the reason of code 0 and so on.
const DROPPED_NUMBERED: u64 = 4;

impl Entry {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut buffer = Vec::with_capacity(64 + 4 * self.streams.len() + 2 * self.runs.len());
        buffer.push(VERSION);
        put_position(&mut buffer, self.from);
        put_position(&mut buffer, self.to);
        let untrusted = self.clock == Clock::Untrusted;
        buffer.push(u8::from(self.replayed) | u8::from(untrusted) << 1);
        put_varint(&mut buffer, self.rules.len() as u64);
        for rule in &self.rules {
            put_text(&mut buffer, rule);
        }
        put_varint(&mut buffer, self.streams.len() as u64);
        for (stream, first) in &self.streams {
            put_varint(&mut buffer, stream.get().into());
            put_varint(&mut buffer, *first);
        }
        let repeats = self.runs.iter().filter(|run| run.records > 1).count();
        put_varint(&mut buffer, (self.runs.len() + repeats) as u64);
        for run in &self.runs {
            put_varint(&mut buffer, code(run.decision));
            if run.records > 1 {
                put_varint(&mut buffer, (run.records - 1) << 3 | EXPIRED);
            }
        }
        put_gaps(&mut buffer, &self.gaps);
        buffer
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, Malformed> {
        let mut input = Input::new(value);
        if input.u8()? != VERSION {
            return Err(Malformed);
        }
        let from = read_position(&mut input)?;
        let to = read_position(&mut input)?;
        let flags = input.u8()?;
        let mut entry = Self {
            from,
            to,
            clock: if flags & 2 == 0 { Clock::Trusted } else { Clock::Untrusted },
            replayed: flags & 1 != 0,
            rules: Vec::new(),
            streams: Vec::new(),
            runs: Vec::new(),
            gaps: Vec::new(),
        };
        for _ in 0..input.varint()? {
            entry.rules.push(input.text()?.into());
        }
        for _ in 0..input.varint()? {
            let stream = StreamId::new(input.varint_u32()?);
            entry.streams.push((stream, input.varint()?));
        }
        entry.read_runs(&mut input)?;
        entry.gaps = read_gaps(&mut input)?;
        input.end()?;
        let decided = entry.runs.iter().try_fold(0, |sum: u64, run| sum.checked_add(run.records));
        if decided.is_none() || decided != to.ordinal.checked_sub(from.ordinal) {
            return Err(Malformed);
        }
        Ok(entry)
    }

    fn read_runs(&mut self, input: &mut Input<'_>) -> Result<(), Malformed> {
        for _ in 0..input.varint()? {
            let code = input.varint()?;
            if code & 7 == EXPIRED && code >> 3 > 0 {
                let run = self.runs.last_mut().ok_or(Malformed)?;
                run.records = run.records.checked_add(code >> 3).ok_or(Malformed)?;
            } else {
                let decision = self.decision(code)?;
                self.runs.push(Run { decision, records: 1 });
            }
        }
        Ok(())
    }

    fn decision(&self, code: u64) -> Result<Decision, Malformed> {
        let detail = u32::try_from(code >> 3).map_err(|_| Malformed)?;
        let place = |length: usize| {
            let inside = usize::try_from(detail).is_ok_and(|detail| detail < length);
            if inside { Ok(detail) } else { Err(Malformed) }
        };
        let reason = |code: u64| DropReason::from_code(u8::try_from(code).map_err(|_| Malformed)?);
        match code & 7 {
            ASSIGNED => Ok(Decision::Assigned { stream: place(self.streams.len())? }),
            FILTERED => Ok(Decision::Filtered { rule: place(self.rules.len())? }),
            EXPIRED if detail == 0 => Ok(Decision::Expired),
            EXPIRED => Err(Malformed),
            DROPPED => Ok(Decision::Dropped { reason: reason(detail.into())? }),
            kind => Ok(Decision::DroppedNumbered {
                stream: place(self.streams.len())?,
                reason: reason(kind - DROPPED_NUMBERED)?,
            }),
        }
    }
}

fn code(decision: Decision) -> u64 {
    match decision {
        Decision::Assigned { stream } => u64::from(stream) << 3 | ASSIGNED,
        Decision::Filtered { rule } => u64::from(rule) << 3 | FILTERED,
        Decision::Expired => EXPIRED,
        Decision::Dropped { reason } => u64::from(reason.code()) << 3 | DROPPED,
        Decision::DroppedNumbered { stream, reason } => {
            u64::from(stream) << 3 | (DROPPED_NUMBERED + u64::from(reason.code()))
        }
    }
}

pub(crate) fn put_position(buffer: &mut Vec<u8>, position: Position) {
    put_varint(buffer, position.seq.get());
    put_varint(buffer, position.ordinal);
}

pub(crate) fn read_position(input: &mut Input<'_>) -> Result<Position, Malformed> {
    Ok(Position { seq: Seq::new(input.varint()?), ordinal: input.varint()? })
}

pub(crate) fn put_gaps(buffer: &mut Vec<u8>, gaps: &[GapEntry]) {
    put_varint(buffer, gaps.len() as u64);
    for gap in gaps {
        put_varint(buffer, gap.stream.get().into());
        put_varint(buffer, gap.from);
        put_varint(buffer, gap.to);
        buffer.push(gap.why.code());
    }
}

pub(crate) fn read_gaps(input: &mut Input<'_>) -> Result<Vec<GapEntry>, Malformed> {
    let mut gaps = Vec::new();
    for _ in 0..input.varint()? {
        gaps.push(GapEntry {
            stream: StreamId::new(input.varint_u32()?),
            from: input.varint()?,
            to: input.varint()?,
            why: DropReason::from_code(input.u8()?)?,
        });
    }
    Ok(gaps)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
        }
    }

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
