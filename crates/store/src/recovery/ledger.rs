//! Attributes missing records to the damages that took them.

use crate::damage::{Damage, DamageId, DamageKind, TakerLoss};
use crate::format;
use crate::position::{Seq, TakerId};

/// More stretches than this are told as one, so that a report stays bounded.
const DAMAGES_MAX: usize = 256;

/// The damages found so far, in the order of the log.
#[derive(Debug, Default)]
pub(crate) struct DamageLedger {
    damages: Vec<Damage>,
    /// How many of them, from the end, still wait for the next record, which ends their range.
    waiting: usize,
}

impl DamageLedger {
    /// Notes a stretch whose lost records, if any, come after `last_seq`.
    pub(crate) fn add(
        &mut self,
        kind: DamageKind,
        segment: u64,
        offset: u64,
        bytes: u64,
        last_seq: Seq,
    ) {
        let file = format::segment_name(segment);
        if let Some(last) = self.damages.last_mut() {
            let adjacent = last.file == file
                && last.kind == kind
                && last.offset + last.bytes == offset
                && self.waiting > 0;
            if adjacent || self.damages.len() == DAMAGES_MAX {
                let last = self.damages.last_mut().expect("there is one");
                last.bytes += bytes;
                self.waiting = self.waiting.max(1);
                return;
            }
        }
        self.damages.push(Damage {
            id: DamageId::new(0),
            kind,
            file,
            offset,
            bytes,
            first_seq: last_seq.next(),
            last_seq: Seq::ORIGIN,
            takers: Vec::new(),
            quarantined: false,
        });
        self.waiting += 1;
    }

    /// Notes a stretch whose range is known.
    pub(crate) fn add_known(&mut self, damage: Damage) {
        if damage.first_seq != Seq::ORIGIN {
            self.end_ranges(damage.first_seq.previous());
        }
        // Those that still wait stay at the end.
        let at = self.damages.len() - self.waiting;
        self.damages.insert(at, damage);
    }

    /// Ends the ranges that wait for it: the records up to `last_seq` are missing.
    #[inline]
    pub(crate) fn end_ranges(&mut self, last_seq: Seq) {
        if self.waiting > 0 {
            self.end_waiting(last_seq);
        }
    }

    #[cold]
    fn end_waiting(&mut self, last_seq: Seq) {
        let start = self.damages.len() - std::mem::take(&mut self.waiting);
        for damage in &mut self.damages[start..] {
            damage.last_seq = damage.last_seq.max(last_seq);
            if damage.last_seq < damage.first_seq {
                (damage.first_seq, damage.last_seq) = (Seq::ORIGIN, Seq::ORIGIN);
            }
        }
    }

    /// Counts records of a taker that are missing after record `after`.
    #[cold]
    pub(crate) fn add_loss(&mut self, taker: TakerId, after: Seq, records: u64) {
        let first = self.damages.iter_mut().find(|damage| {
            damage.last_seq > after || damage.first_seq > after && damage.last_seq == Seq::ORIGIN
        });
        let Some(damage) = first else { return };
        match damage.takers.iter_mut().find(|loss| loss.taker == taker) {
            Some(loss) => loss.records += records,
            None => damage.takers.push(TakerLoss { taker, records }),
        }
    }

    /// Takes back the stretches of a segment of which nothing is left: it is told as a whole.
    pub(crate) fn retract(&mut self, segment: u64) {
        let file = format::segment_name(segment);
        let is_part = |damage: &Damage| damage.file == file && damage.kind == DamageKind::Frames;
        while self.damages.last().is_some_and(is_part) {
            self.damages.pop();
            self.waiting = self.waiting.saturating_sub(1);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.damages.len()
    }

    pub(crate) fn last_mut(&mut self) -> Option<&mut Damage> {
        self.damages.last_mut()
    }

    pub(crate) fn into_damages(mut self) -> Vec<Damage> {
        self.end_ranges(Seq::ORIGIN);
        self.damages
    }
}
