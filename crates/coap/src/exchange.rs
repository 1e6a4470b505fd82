//! Requests that were seen: those that await their answer, and the answers kept for repetitions.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::{Settings, request::Controls};

/// One request of one peer: its address and message ID (RFC 7252, section 4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExchangeId {
    pub(crate) peer: SocketAddr,
    pub(crate) message_id: u16,
}

impl ExchangeId {
    /// Returns who sent the request.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }
}

/// A token: up to 8 bytes, returned unchanged.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Token {
    bytes: [u8; 8],
    length: u8,
}

impl Token {
    /// Takes the token of a message whose format is right.
    pub(crate) fn new(token: &[u8]) -> Self {
        let mut bytes = [0; 8];
        bytes[..token.len()].copy_from_slice(token);
        Self { bytes, length: u8::try_from(token.len()).expect("at most 8 bytes") }
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

/// A request that awaits its answer.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) token: Token,
    pub(crate) confirmable: bool,
    pub(crate) controls: Controls,
    /// When the Empty acknowledgement is due, unless it was sent or is not wanted.
    pub(crate) ack_due: Option<Instant>,
}

#[derive(Debug)]
enum Entry {
    Open(Exchange),
    /// What a repetition gets; nothing if it is to be ignored.
    Answered(Option<Bytes>),
}

/// What is known of a request.
#[derive(Debug)]
pub(crate) enum Seen<'a> {
    Never,
    /// It awaits its answer.
    Open(&'a mut Exchange),
    /// It was answered; a repetition gets the same bytes, or nothing.
    Answered(Option<Bytes>),
}

/// Every request of the last minutes, bounded by number and by bytes of answers.
///
/// Two queues in order of arrival, one for each lifetime, say which entry expires or gives way next. A
/// request that awaits its answer does neither: it goes to the end of its queue.
#[derive(Debug)]
pub(crate) struct ExchangeTable {
    entries: HashMap<ExchangeId, Entry>,
    confirmed: Arrivals,
    unconfirmed: Arrivals,
    open: usize,
    bytes: usize,
    entries_max: usize,
    bytes_max: usize,
    evicted: u64,
}

#[derive(Debug)]
struct Arrivals {
    lifetime: Duration,
    queue: VecDeque<(Instant, ExchangeId)>,
}

impl ExchangeTable {
    pub(crate) fn new(settings: &Settings) -> Self {
        let arrivals = |lifetime| Arrivals { lifetime, queue: VecDeque::new() };
        Self {
            entries: HashMap::new(),
            confirmed: arrivals(settings.duplicate_lifetime),
            unconfirmed: arrivals(settings.unconfirmed_lifetime()),
            open: 0,
            bytes: 0,
            entries_max: settings.duplicates_max.max(settings.exchanges_max + 1),
            bytes_max: settings.duplicate_bytes_max,
            evicted: 0,
        }
    }

    /// Returns how many requests await their answer.
    pub(crate) fn open_count(&self) -> usize {
        self.open
    }

    /// Returns how many answered requests gave way before their time.
    pub(crate) fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Returns what is known of a request that arrives at `now`.
    pub(crate) fn look_up(&mut self, now: Instant, id: ExchangeId) -> Seen<'_> {
        self.expire(now);
        match self.entries.get_mut(&id) {
            None => Seen::Never,
            Some(Entry::Open(exchange)) => Seen::Open(exchange),
            Some(Entry::Answered(answer)) => Seen::Answered(answer.clone()),
        }
    }

    /// Remembers a request that was never seen.
    pub(crate) fn open(&mut self, now: Instant, id: ExchangeId, exchange: Exchange) {
        while self.entries.len() >= self.entries_max && self.evict_oldest(now) {}
        let arrivals =
            if exchange.confirmable { &mut self.confirmed } else { &mut self.unconfirmed };
        arrivals.queue.push_back((now, id));
        let earlier = self.entries.insert(id, Entry::Open(exchange));
        debug_assert!(earlier.is_none(), "a request is opened once");
        self.open += 1;
    }

    /// Returns a request that awaits its answer.
    pub(crate) fn get_open(&mut self, id: ExchangeId) -> Option<&mut Exchange> {
        match self.entries.get_mut(&id) {
            Some(Entry::Open(exchange)) => Some(exchange),
            _ => None,
        }
    }

    /// Ends the wait of an open request: repetitions get `answer`, or nothing.
    pub(crate) fn answer(&mut self, now: Instant, id: ExchangeId, answer: Option<Bytes>) {
        let Some(entry @ Entry::Open(_)) = self.entries.get_mut(&id) else {
            return;
        };
        self.open -= 1;
        self.bytes += answer.as_ref().map_or(0, Bytes::len);
        *entry = Entry::Answered(answer);
        while self.bytes > self.bytes_max && self.evict_oldest(now) {}
    }

    /// Forgets what is older than its lifetime.
    fn expire(&mut self, now: Instant) {
        for confirmable in [true, false] {
            loop {
                let arrivals = if confirmable { &self.confirmed } else { &self.unconfirmed };
                match arrivals.queue.front() {
                    Some(&(arrival, _)) if arrival + arrivals.lifetime <= now => {}
                    _ => break,
                }
                self.remove_front(now, confirmable);
            }
        }
    }

    /// Lets the oldest answered request give way; false if there is none.
    fn evict_oldest(&mut self, now: Instant) -> bool {
        // Each open request can stand in the way once, then it is at the end of its queue.
        for _ in 0..=self.open {
            let arrival = |arrivals: &Arrivals| arrivals.queue.front().map(|&(arrival, _)| arrival);
            let confirmable = match (arrival(&self.confirmed), arrival(&self.unconfirmed)) {
                (Some(confirmed), Some(unconfirmed)) => confirmed <= unconfirmed,
                (confirmed, _) => confirmed.is_some(),
            };
            if self.remove_front(now, confirmable) {
                self.evicted += 1;
                return true;
            }
        }
        false
    }

    /// Removes the oldest of one kind if it was answered, else puts it behind the others.
    fn remove_front(&mut self, now: Instant, confirmable: bool) -> bool {
        let arrivals = if confirmable { &mut self.confirmed } else { &mut self.unconfirmed };
        let Some((_, id)) = arrivals.queue.pop_front() else {
            return false;
        };
        match self.entries.get(&id) {
            Some(Entry::Answered(answer)) => {
                self.bytes -= answer.as_ref().map_or(0, Bytes::len);
                self.entries.remove(&id);
                true
            }
            _ => {
                arrivals.queue.push_back((now, id));
                false
            }
        }
    }

    /// Returns how many requests are remembered and how many bytes of answers.
    #[cfg(test)]
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.entries.len(), self.bytes)
    }
}
