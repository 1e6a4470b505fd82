//! Answers that were given, kept in the journal so that repetitions are recognised after a restart.
//!
//! Each kept exchange has a numbered slot in the journal's state, written in the transaction of the records that
//! it stands for. A slot is used again, so that what is kept is bounded and costs one small entry each.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tidegate_adapter_api::{Exchange, Keep, RecalledExchange, Refusal};
use tidegate_model::Timestamp;
use tidegate_store::Transaction;

/// Keys of exchanges in the journal's state begin with this, followed by the kind and the slot.
const KEY: u8 = b'x';
/// Nothing is kept for longer.
const LIFETIME_MAX: Duration = Duration::from_secs(24 * 3_600);
/// Exchanges of which only the newest matter: of one sender, and of all.
const NEWEST_PER_SENDER: usize = 8;
const NEWEST_MAX: usize = 16_384;
/// Exchanges that are all kept: of one sender, and of all.
const ALL_PER_SENDER: usize = 10_000;
const ALL_MAX: usize = 20_000;
/// What an entry takes up in a checkpoint of the journal, roughly.
const ENTRY_BYTES: u64 = 48;
/// The part of a segment that exchanges may take up in its checkpoint: one of so many.
const SEGMENT_SHARE: u64 = 8;
/// How long a sender is asked to wait when all places are taken.
const RETRY_AFTER: Duration = Duration::from_secs(60);
/// Expired entries are deleted when there are this many, or when the first has waited this long: a journal that
/// is idle is not written every second.
const EXPIRED_MAX: usize = 64;
const EXPIRED_WAIT: Duration = Duration::from_secs(60);

/// The exchanges that can be repeated. Cheap to clone.
#[derive(Clone)]
pub struct Exchanges(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    newest: Table,
    all: Table,
    /// Keys that cannot be read, or have no place any more.
    unwanted: Vec<Vec<u8>>,
}

/// The slots of one kind.
#[derive(Default)]
struct Table {
    slots: Vec<Option<Slot>>,
    free: Vec<u32>,
    senders: HashMap<Bytes, VecDeque<u32>>,
    /// In order of arrival, with serial numbers: a place whose number is not that of its slot is out of date.
    arrivals: VecDeque<(u64, u32)>,
    used: usize,
    max: usize,
    next_serial: u64,
}

struct Slot {
    serial: u64,
    expires: Timestamp,
    sender: Bytes,
    id: Bytes,
    answer: Bytes,
}

impl Exchanges {
    /// Takes over what the journal holds. Of a journal with small segments less is kept.
    pub fn recover<'s>(
        state: impl Iterator<Item = (&'s [u8], &'s [u8])>,
        segment_bytes: u64,
        now: Timestamp,
    ) -> Self {
        let room = usize::try_from(segment_bytes / SEGMENT_SHARE / ENTRY_BYTES).unwrap_or(ALL_MAX);
        let mut inner = Inner::default();
        inner.newest.max = NEWEST_MAX.min(room);
        inner.all.max = ALL_MAX.min(room);
        let mut entries = Vec::new();
        for (key, value) in state.filter(|(key, _)| key.first() == Some(&KEY)) {
            match (read_key(key), read(value)) {
                (Some((keep, slot)), Some((expires, exchange))) if expires > now => {
                    // A clock that was far ahead must not keep it for longer than anything is kept.
                    let expires = expires.min(now.saturating_add(LIFETIME_MAX));
                    entries.push((expires, keep, slot, exchange));
                }
                _ => inner.unwanted.push(key.to_vec()),
            }
        }
        entries.sort_by_key(|(expires, ..)| *expires);
        for (expires, keep, slot, exchange) in entries {
            let RecalledExchange { sender, id, answer, .. } = exchange;
            inner.table(keep).occupy(slot, sender, id, answer, expires);
        }
        inner.newest.find_free();
        inner.all.find_free();
        Self(Arc::new(Mutex::new(inner)))
    }

    /// Returns what was answered and may be repeated still, oldest first.
    ///
    /// Among it are exchanges whose records are on their way to the disk.
    pub fn recall(&self, keep: Keep, now: Timestamp) -> Vec<RecalledExchange> {
        let mut inner = self.0.lock();
        let mut kept: Vec<&Slot> = inner.table(keep).slots.iter().flatten().collect();
        kept.sort_unstable_by_key(|slot| slot.serial);
        let recalled = kept.into_iter().filter(|slot| slot.expires > now).map(|slot| {
            let Slot { sender, id, answer, .. } = slot;
            RecalledExchange {
                sender: sender.clone(),
                id: id.clone(),
                answer: answer.clone(),
                remaining: slot.expires.saturating_since(now),
            }
        });
        recalled.collect()
    }

    /// Checks that there is room for an exchange.
    ///
    /// # Errors
    ///
    /// [`Refusal::Busy`] if its sender, or all of them together, have too many that must all be kept.
    pub fn admit(&self, exchange: &Exchange) -> Result<(), Refusal> {
        if exchange.keep == Keep::Newest {
            return Ok(());
        }
        let inner = self.0.lock();
        let of_sender = inner.all.senders.get(&exchange.sender).map_or(0, VecDeque::len);
        if inner.all.used >= inner.all.max || of_sender >= ALL_PER_SENDER {
            return Err(Refusal::Busy { retry_after: RETRY_AFTER });
        }
        Ok(())
    }

    /// Adds an exchange to the transaction of what belongs to it.
    ///
    /// The transaction must be submitted before another one is noted: both under the lock of the broker core.
    /// In memory its age is counted from `now`, which no step of the clock moves; the journal has the time by the
    /// clock on the wall, `wall`, by which the next start goes.
    pub fn note(
        &self,
        exchange: &Exchange,
        now: Timestamp,
        wall: Timestamp,
        transaction: &mut Transaction,
    ) {
        let mut inner = self.0.lock();
        let expires = now.saturating_add(exchange.lifetime);
        let table = inner.table(exchange.keep);
        if exchange.keep == Keep::Newest {
            // Its entry is overwritten: the journal's times, in seconds, would not tell which of the two is newer.
            table.vacate_same(&exchange.sender, &exchange.id);
            if !table.make_room(&exchange.sender) {
                return;
            }
        }
        let slot = table
            .free
            .pop()
            .unwrap_or_else(|| u32::try_from(table.slots.len()).expect("far fewer slots are used"));
        let Exchange { keep, sender, id, answer, .. } = exchange;
        table.occupy(slot, sender.clone(), id.clone(), answer.clone(), expires);
        let (key, value) =
            (key(*keep, slot), write(exchange, wall.saturating_add(exchange.lifetime)));
        // What stood there is gone with this.
        inner.unwanted.retain(|unwanted| *unwanted != key);
        transaction.put(&key, &value).expect("an exchange is short");
    }

    /// Deletes what has expired, if that is worth a write. `submit` puts the transaction into the journal's
    /// queue.
    pub fn forget_expired(&self, now: Timestamp, submit: impl FnOnce(Transaction)) {
        let mut inner = self.0.lock();
        let mut transaction = Transaction::new();
        for key in std::mem::take(&mut inner.unwanted) {
            transaction.delete(&key).expect("keys of the journal are as short as they were");
        }
        for keep in [Keep::Newest, Keep::All] {
            for slot in inner.table(keep).take_expired(now) {
                transaction.delete(&key(keep, slot)).expect("a key of a few bytes");
            }
        }
        // Under the lock: what is put into these slots from now on comes after their deletion.
        if !transaction.is_empty() {
            submit(transaction);
        }
    }
}

impl fmt::Debug for Exchanges {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.0.lock();
        formatter
            .debug_struct("Exchanges")
            .field("newest", &inner.newest.used)
            .field("all", &inner.all.used)
            .finish_non_exhaustive()
    }
}

impl Inner {
    fn table(&mut self, keep: Keep) -> &mut Table {
        match keep {
            Keep::Newest => &mut self.newest,
            Keep::All => &mut self.all,
        }
    }
}

impl Table {
    fn occupy(&mut self, slot: u32, sender: Bytes, id: Bytes, answer: Bytes, expires: Timestamp) {
        let index = slot as usize;
        if index >= self.slots.len() {
            self.slots.resize_with(index + 1, || None);
        }
        let serial = self.next_serial;
        self.next_serial += 1;
        self.senders.entry(sender.clone()).or_default().push_back(slot);
        self.slots[index] = Some(Slot { serial, expires, sender, id, answer });
        self.used += 1;
        self.arrivals.push_back((serial, slot));
        if self.arrivals.len() > 2 * self.used + EXPIRED_MAX {
            let slots = &self.slots;
            self.arrivals.retain(|(serial, slot)| is_current(slots, *serial, *slot));
        }
    }

    /// Finds the slots that nothing was recovered for.
    fn find_free(&mut self) {
        let slots = (0..).zip(&self.slots);
        self.free = slots.filter(|(_, slot)| slot.is_none()).map(|(number, _)| number).collect();
    }

    /// Takes out the exchange of this sender with this id; its slot is the next to be used.
    fn vacate_same(&mut self, sender: &Bytes, id: &Bytes) {
        let is_same =
            |slot: &&u32| self.slots[**slot as usize].as_ref().is_some_and(|slot| slot.id == *id);
        let same = self.senders.get(sender).and_then(|own| own.iter().find(is_same)).copied();
        if let Some(slot) = same {
            self.vacate(slot);
        }
    }

    /// Lets older exchanges give way to one more of this sender; false if there is no place at all.
    fn make_room(&mut self, sender: &Bytes) -> bool {
        if let Some(own) = self.senders.get(sender)
            && own.len() >= NEWEST_PER_SENDER
            && let Some(&oldest) = own.front()
        {
            self.vacate(oldest);
        }
        while self.used >= self.max {
            let Some((serial, slot)) = self.arrivals.pop_front() else { return false };
            if is_current(&self.slots, serial, slot) {
                self.vacate(slot);
            }
        }
        true
    }

    fn take_expired(&mut self, now: Timestamp) -> Vec<u32> {
        while let Some(&(serial, slot)) = self.arrivals.front()
            && !is_current(&self.slots, serial, slot)
        {
            self.arrivals.pop_front();
        }
        let expired = |wait: Duration, place: Option<&(u64, u32)>| {
            let slot = place.and_then(|(_, slot)| self.slots[*slot as usize].as_ref());
            slot.is_some_and(|slot| slot.expires.saturating_add(wait) <= now)
        };
        if !expired(EXPIRED_WAIT, self.arrivals.front())
            && !expired(Duration::ZERO, self.arrivals.get(EXPIRED_MAX))
        {
            return Vec::new();
        }
        let mut vacated = Vec::new();
        while let Some(&(serial, slot)) = self.arrivals.front() {
            if is_current(&self.slots, serial, slot) {
                if self.slots[slot as usize].as_ref().is_some_and(|slot| slot.expires > now) {
                    break;
                }
                self.vacate(slot);
                vacated.push(slot);
            }
            self.arrivals.pop_front();
        }
        vacated
    }

    fn vacate(&mut self, slot: u32) {
        let Some(Slot { sender, .. }) = self.slots[slot as usize].take() else { return };
        self.used -= 1;
        self.free.push(slot);
        if let Some(own) = self.senders.get_mut(&sender) {
            if own.front() == Some(&slot) {
                own.pop_front();
            } else {
                own.retain(|other| *other != slot);
            }
            if own.is_empty() {
                self.senders.remove(&sender);
            }
        }
    }
}

fn is_current(slots: &[Option<Slot>], serial: u64, slot: u32) -> bool {
    slots[slot as usize].as_ref().is_some_and(|slot| slot.serial == serial)
}

fn key(keep: Keep, slot: u32) -> Vec<u8> {
    let kind = match keep {
        Keep::Newest => b'n',
        Keep::All => b'a',
    };
    let bytes = slot.to_be_bytes();
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    [&[KEY, kind], &bytes[zeros..]].concat()
}

fn read_key(key: &[u8]) -> Option<(Keep, u32)> {
    let (keep, slot) = match key {
        [KEY, b'n', slot @ ..] => (Keep::Newest, slot),
        [KEY, b'a', slot @ ..] => (Keep::All, slot),
        _ => return None,
    };
    let number = slot.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    // A slot far beyond the bound is not ours, and would take memory.
    let number = u32::try_from(number).ok().filter(|number| (*number as usize) < 2 * ALL_MAX)?;
    (slot.len() <= 4 && slot.first() != Some(&0)).then_some((keep, number))
}

/// Writes when it expires, in seconds rounded up, and the three parts, the first two with their lengths.
fn write(exchange: &Exchange, expires: Timestamp) -> Vec<u8> {
    let Exchange { sender, id, answer, .. } = exchange;
    let seconds = expires.as_unix_micros().div_euclid(1_000_000).saturating_add(1);
    let mut value = Vec::with_capacity(6 + sender.len() + id.len() + answer.len());
    value.extend_from_slice(&u32::try_from(seconds.max(0)).unwrap_or(u32::MAX).to_be_bytes());
    for part in [sender, id] {
        value.push(u8::try_from(part.len()).expect("parts have at most 255 bytes"));
        value.extend_from_slice(part);
    }
    value.extend_from_slice(answer);
    value
}

fn read(value: &[u8]) -> Option<(Timestamp, RecalledExchange)> {
    let (seconds, rest) = value.split_first_chunk::<4>()?;
    let part = |rest: &[u8]| {
        let (&length, rest) = rest.split_first()?;
        let (part, rest) = rest.split_at_checked(length.into())?;
        Some((Bytes::copy_from_slice(part), rest.to_vec()))
    };
    let (sender, rest) = part(rest)?;
    let (id, answer) = part(&rest)?;
    let expires = Timestamp::from_unix_millis(i64::from(u32::from_be_bytes(*seconds)) * 1_000);
    Some((
        expires,
        RecalledExchange { sender, id, answer: answer.into(), remaining: Duration::ZERO },
    ))
}

#[cfg(test)]
mod tests;
