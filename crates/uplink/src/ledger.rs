//! The books of an uplink: every record it was given, and what became of it.

use std::{collections::BTreeMap, fmt, sync::Arc};

use crate::wire::{Input, Malformed, put_text, put_varint};

/// Why a record was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum DropReason {
    /// The uplink or the store was full, and this record was among the oldest.
    Full,
    /// The cloud refused it for good, or closed the connection on it three times running.
    DeadLetter,
    /// Its bytes in the journal could not be read.
    Damaged,
    /// Its topic would have been one stream more than may have numbers.
    Streams,
}

impl DropReason {
    /// All reasons.
    pub const ALL: [Self; 4] = [Self::Full, Self::DeadLetter, Self::Damaged, Self::Streams];

    /// Returns the word for status, metrics and gap records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::DeadLetter => "dead-letter",
            Self::Damaged => "damaged",
            Self::Streams => "streams",
        }
    }

    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Full => 0,
            Self::DeadLetter => 1,
            Self::Damaged => 2,
            Self::Streams => 3,
        }
    }

    pub(crate) fn from_code(code: u8) -> Result<Self, Malformed> {
        Self::ALL.into_iter().find(|reason| reason.code() == code).ok_or(Malformed)
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// What became of records: how many went which way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// The cloud has acknowledged them.
    pub delivered: u64,
    /// Held back, by the name of the rule that did.
    pub filtered: BTreeMap<Arc<str>, u64>,
    /// Their message expiry had passed.
    pub expired: u64,
    /// Dropped, by reason.
    pub dropped: BTreeMap<DropReason, u64>,
}

impl Outcomes {
    /// Returns how many records that are in all.
    pub fn total(&self) -> u64 {
        self.delivered
            + self.filtered.values().sum::<u64>()
            + self.expired
            + self.dropped.values().sum::<u64>()
    }

    /// Adds what `other` counted.
    pub fn add(&mut self, other: &Self) {
        self.delivered += other.delivered;
        for (rule, records) in &other.filtered {
            self.add_filtered(rule, *records);
        }
        self.expired += other.expired;
        for (reason, records) in &other.dropped {
            self.add_dropped(*reason, *records);
        }
    }

    pub(crate) fn add_filtered(&mut self, rule: &Arc<str>, records: u64) {
        if let Some(count) = self.filtered.get_mut(rule) {
            *count += records;
        } else if records > 0 {
            self.filtered.insert(Arc::clone(rule), records);
        }
    }

    pub(crate) fn add_dropped(&mut self, reason: DropReason, records: u64) {
        if records > 0 {
            *self.dropped.entry(reason).or_default() += records;
        }
    }

    pub(crate) fn encode(&self, buffer: &mut Vec<u8>) {
        put_varint(buffer, self.delivered);
        put_varint(buffer, self.expired);
        put_varint(buffer, self.filtered.len() as u64);
        for (rule, records) in &self.filtered {
            put_text(buffer, rule);
            put_varint(buffer, *records);
        }
        put_varint(buffer, self.dropped.len() as u64);
        for (reason, records) in &self.dropped {
            buffer.push(reason.code());
            put_varint(buffer, *records);
        }
    }

    pub(crate) fn decode(input: &mut Input<'_>) -> Result<Self, Malformed> {
        let mut outcomes =
            Self { delivered: input.varint()?, expired: input.varint()?, ..Self::default() };
        for _ in 0..input.varint()? {
            let rule = input.text()?.into();
            outcomes.filtered.insert(rule, input.varint()?);
        }
        for _ in 0..input.varint()? {
            let reason = DropReason::from_code(input.u8()?)?;
            outcomes.dropped.insert(reason, input.varint()?);
        }
        Ok(outcomes)
    }
}

/// The books of one uplink at one moment. The unit is one journal record for this uplink.
///
/// Four things are counted apart: `received` by the ordinals that appends gave out, `queued` by adding
/// appends and subtracting what the cursor passes (and from the journal's own summaries at a start),
/// and `outcomes` record by record, in the same journal write that moves the cursor. None is computed
/// from the others, so that a record lost on the way shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// How many records were appended for this uplink.
    pub received: u64,
    /// What became of those that the cursor has passed.
    pub outcomes: Outcomes,
    /// How many wait behind the cursor.
    pub queued: u64,
    /// How many of those are known to be unreadable, from the start or an audit. When the cursor passes
    /// them they are dropped as damaged.
    pub unreadable: u64,
}

impl Ledger {
    /// Returns whether every record received is accounted for once.
    pub fn is_balanced(&self) -> bool {
        self.received == self.outcomes.total() + self.queued
    }

    /// Returns whether nothing was lost in silence: the books balance, and no record was unreadable.
    /// Anything else is shown in red.
    pub fn is_sound(&self) -> bool {
        self.is_balanced()
            && self.unreadable == 0
            && !self.outcomes.dropped.contains_key(&DropReason::Damaged)
    }

    /// Returns how many records are missing; negative if some were counted twice.
    pub fn missing(&self) -> i128 {
        i128::from(self.received) - i128::from(self.outcomes.total()) - i128::from(self.queued)
    }

    /// Notes that a record was appended; `ordinal` is the uplink's own number of it.
    pub fn note_appended(&mut self, ordinal: u64) {
        self.received = self.received.max(ordinal);
        self.queued += 1;
    }

    /// Notes that the cursor has passed `ordinals` numbers, and what was found under them.
    pub fn note_moved(&mut self, ordinals: u64, outcomes: &Outcomes) {
        self.queued = self.queued.saturating_sub(ordinals);
        let damaged = outcomes.dropped.get(&DropReason::Damaged).copied().unwrap_or_default();
        // What was read before it was damaged is delivered all the same.
        self.unreadable = self.unreadable.saturating_sub(damaged).min(self.queued);
        self.outcomes.add(outcomes);
    }
}
