//! The books of an uplink: every record it was given, and what became of it.

use std::{collections::BTreeMap, fmt, sync::Arc};

use crate::wire::{Input, Malformed, put_number, put_text};

/// Why a record was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum DropReason {
    /// The uplink or the store was full, and this record was among the oldest.
    Full,
    /// The cloud refused it for good, or closed the connection on it again and again.
    DeadLetter,
    /// Its bytes in the journal could not be read.
    Damaged,
    /// Its topic would have been one stream more than may have numbers.
    Streams,
    /// It had waited for longer than records may.
    Age,
}

impl DropReason {
    /// All reasons.
    pub const ALL: [Self; 5] =
        [Self::Full, Self::DeadLetter, Self::Damaged, Self::Streams, Self::Age];

    /// Returns the word for status, metrics and gap records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::DeadLetter => "dead-letter",
            Self::Damaged => "damaged",
            Self::Streams => "streams",
            Self::Age => "age",
        }
    }

    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Full => 0,
            Self::DeadLetter => 1,
            Self::Damaged => 2,
            Self::Streams => 3,
            Self::Age => 4,
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
    /// What rules made, by the name of the rule: no records of the journal, but delivered, filtered or dropped
    /// as they are.
    pub made: BTreeMap<Arc<str>, u64>,
}

impl Outcomes {
    /// Returns how many records, and readings that rules made, that are in all.
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
        for (rule, readings) in &other.made {
            self.add_made(rule, *readings);
        }
    }

    /// Returns how many readings rules made.
    pub fn made_total(&self) -> u64 {
        self.made.values().sum()
    }

    pub(crate) fn add_filtered(&mut self, rule: &Arc<str>, records: u64) {
        add(&mut self.filtered, rule, records);
    }

    pub(crate) fn add_made(&mut self, rule: &Arc<str>, readings: u64) {
        add(&mut self.made, rule, readings);
    }

    pub(crate) fn add_dropped(&mut self, reason: DropReason, records: u64) {
        if records > 0 {
            *self.dropped.entry(reason).or_default() += records;
        }
    }

    pub(crate) fn encode(&self, buffer: &mut Vec<u8>) {
        put_number(buffer, self.delivered);
        put_number(buffer, self.expired);
        put_number(buffer, self.filtered.len() as u64);
        for (rule, records) in &self.filtered {
            put_text(buffer, rule);
            put_number(buffer, *records);
        }
        put_number(buffer, self.dropped.len() as u64);
        for (reason, records) in &self.dropped {
            buffer.push(reason.code());
            put_number(buffer, *records);
        }
        put_counts(buffer, &self.made);
    }

    /// Reads outcomes; those that were written before rules made anything do not tell of it.
    pub(crate) fn decode(input: &mut Input<'_>, tells_made: bool) -> Result<Self, Malformed> {
        let mut outcomes =
            Self { delivered: input.number()?, expired: input.number()?, ..Self::default() };
        for _ in 0..input.number()? {
            let rule = input.text()?.into();
            outcomes.filtered.insert(rule, input.number()?);
        }
        for _ in 0..input.number()? {
            let reason = DropReason::from_code(input.byte()?)?;
            outcomes.dropped.insert(reason, input.number()?);
        }
        if tells_made {
            outcomes.made = read_counts(input)?;
        }
        Ok(outcomes)
    }
}

/// Adds to the count of a name.
pub(crate) fn add(counts: &mut BTreeMap<Arc<str>, u64>, name: &Arc<str>, number: u64) {
    if let Some(count) = counts.get_mut(name) {
        *count += number;
    } else if number > 0 {
        counts.insert(Arc::clone(name), number);
    }
}

/// Takes from the count of a name.
pub(crate) fn take(counts: &mut BTreeMap<Arc<str>, u64>, name: &Arc<str>, number: u64) {
    let Some(count) = counts.get_mut(name) else { return };
    *count = count.saturating_sub(number);
    if *count == 0 {
        counts.remove(name);
    }
}

pub(crate) fn put_counts(buffer: &mut Vec<u8>, counts: &BTreeMap<Arc<str>, u64>) {
    put_number(buffer, counts.len() as u64);
    for (name, count) in counts {
        put_text(buffer, name);
        put_number(buffer, *count);
    }
}

pub(crate) fn read_counts(input: &mut Input<'_>) -> Result<BTreeMap<Arc<str>, u64>, Malformed> {
    let mut counts = BTreeMap::new();
    for _ in 0..input.number()? {
        let name = input.text()?.into();
        counts.insert(name, input.number()?);
    }
    Ok(counts)
}

/// The books of one uplink at one moment. The unit is one journal record for this uplink.
///
/// Four things are counted apart: `received` by the ordinals that appends gave out, `queued` by adding
/// appends and subtracting what the cursor passes (and from the journal's own summaries at a start),
/// and `outcomes` record by record, in the same journal write that moves the cursor. None is computed
/// from the others, so that a record lost on the way shows.
///
/// A record that waits in a rule is still queued when the cursor has passed it: the rule's state, which
/// is in the journal, holds it. It is filtered when what the rule made of it is decided and acknowledged.
/// What rules made comes in beside `received`, as [`Outcomes::made`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// How many records were appended for this uplink.
    pub received: u64,
    /// What became of those that the cursor has passed.
    pub outcomes: Outcomes,
    /// How many wait behind the cursor.
    pub queued: u64,
    /// How many of those the cursor has passed: they wait in rules.
    pub held: u64,
    /// How many of those are known to be unreadable, from the start or an audit. When the cursor passes
    /// them they are dropped as damaged.
    pub unreadable: u64,
}

impl Ledger {
    /// Returns whether every record received, and every reading made, is accounted for once.
    pub fn is_balanced(&self) -> bool {
        self.missing() == 0
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
        i128::from(self.received) + i128::from(self.outcomes.made_total())
            - i128::from(self.outcomes.total())
            - i128::from(self.queued)
    }

    /// Notes that a record was appended; `ordinal` is the uplink's own number of it.
    pub fn note_appended(&mut self, ordinal: u64) {
        self.received = self.received.max(ordinal);
        self.queued += 1;
    }

    /// Notes that `records` wait no longer, that `held` wait in rules now, and what became of the others and of
    /// what rules made.
    pub fn note_moved(&mut self, records: u64, held: u64, outcomes: &Outcomes) {
        self.queued = self.queued.saturating_sub(records);
        self.held = held;
        let damaged = outcomes.dropped.get(&DropReason::Damaged).copied().unwrap_or_default();
        // What was read before it was damaged is delivered all the same.
        self.unreadable = self.unreadable.saturating_sub(damaged).min(self.queued);
        self.outcomes.add(outcomes);
    }
}
