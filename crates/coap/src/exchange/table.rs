//! The table of requests, bounded for each peer and in all.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use super::{Answer, Exchange, ExchangeId, MessageKey, Seen};
use crate::{Peer, Settings};

/// What an entry takes up beside the bytes of its answer: its slot, its places in the queues, its peer.
pub(crate) const ENTRY_BYTES: usize = 512;

/// Places that queues may hold beyond twice the number of entries before they are cleared of old ones.
const QUEUE_SLACK: usize = 64;

/// Every request of the last minutes, bounded for each peer by number, and in all by number and bytes.
///
/// An answer lives as long as its peer may repeat the request. When there is no room for all, the first to go
/// are those whose peer has sent a newer request since: one that waits for each answer before it asks again
/// (RFC 7252, section 4.7) has them already. Only when there are none left the oldest of all goes. A request
/// that awaits its answer does neither.
#[derive(Debug)]
pub(crate) struct ExchangeTable {
    entries: HashMap<MessageKey, Entry>,
    peers: HashMap<Peer, OfPeer>,
    confirmed: Queue,
    unconfirmed: Queue,
    /// Those whose peer has sent a newer request since.
    superseded: Queue,
    lifetimes: Lifetimes,
    bounds: Bounds,
    open: usize,
    bytes: usize,
    next_serial: u64,
    evicted: Evicted,
}

/// Answered requests that were forgotten before their time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Evicted {
    /// Their peer had sent newer ones.
    pub(crate) superseded: u64,
    /// The last one of their peer.
    pub(crate) newest: u64,
}

#[derive(Debug)]
struct Entry {
    request_key: u32,
    serial: u64,
    expires: Instant,
    state: State,
}

#[derive(Debug)]
enum State {
    Open(Exchange),
    Answered(Answer),
}

/// The requests of one peer that are in the table.
#[derive(Debug, Default)]
struct OfPeer {
    count: usize,
    /// In order of arrival; some may be gone.
    queue: VecDeque<(u64, u16)>,
}

/// Places in order of arrival; one whose serial number is not that of the entry is out of date.
type Queue = VecDeque<(u64, MessageKey)>;

#[derive(Debug)]
struct Lifetimes {
    confirmed: Duration,
    unconfirmed: Duration,
}

#[derive(Debug)]
struct Bounds {
    entries: usize,
    per_peer: usize,
    bytes: usize,
}

impl ExchangeTable {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            entries: HashMap::new(),
            peers: HashMap::new(),
            confirmed: Queue::new(),
            unconfirmed: Queue::new(),
            superseded: Queue::new(),
            lifetimes: Lifetimes {
                confirmed: settings.duplicate_lifetime,
                unconfirmed: settings.unconfirmed_lifetime(),
            },
            bounds: Bounds {
                entries: settings.duplicates_max.max(settings.exchanges_max + 1),
                per_peer: settings.duplicates_per_peer_max.max(1),
                bytes: settings.duplicate_bytes_max,
            },
            open: 0,
            bytes: 0,
            next_serial: 0,
            evicted: Evicted::default(),
        }
    }

    /// Returns how many requests await their answer.
    pub(crate) fn open_count(&self) -> usize {
        self.open
    }

    /// Returns how many answered requests gave way before their time.
    pub(crate) fn evicted(&self) -> Evicted {
        self.evicted
    }

    /// Returns what is known of a request that arrives at `now`.
    pub(crate) fn look_up(&mut self, now: Instant, id: ExchangeId) -> Seen<'_> {
        self.expire(now);
        let Some(entry) = self.entries.get(&id.message) else { return Seen::Never };
        let is_same = entry.request_key == id.request_key;
        match &entry.state {
            State::Answered(answer) if is_same && entry.expires > now => {
                return Seen::Answered(answer.clone());
            }
            State::Answered(_) => {
                let is_expired = entry.expires <= now;
                self.remove(id.message);
                return if is_expired { Seen::Never } else { Seen::Renumbered };
            }
            State::Open(_) if !is_same => return Seen::Clash,
            State::Open(_) => {}
        }
        match self.entries.get_mut(&id.message).map(|entry| &mut entry.state) {
            Some(State::Open(exchange)) => Seen::Open(exchange),
            _ => Seen::Never,
        }
    }

    /// Remembers a request that was never seen.
    pub(crate) fn open(&mut self, now: Instant, id: ExchangeId, exchange: Exchange) {
        let confirmable = exchange.confirmable;
        let lifetime =
            if confirmable { self.lifetimes.confirmed } else { self.lifetimes.unconfirmed };
        self.insert(id, confirmable, now + lifetime, State::Open(exchange));
        self.open += 1;
    }

    /// Remembers a confirmable request that was answered before a restart, for `remaining`.
    pub(crate) fn recall(
        &mut self,
        now: Instant,
        id: ExchangeId,
        remaining: Duration,
        answer: Answer,
    ) {
        // A device that restarted may have used an identifier twice; the later request counts.
        let earlier = self.entries.get(&id.message).map(|entry| &entry.state);
        if matches!(earlier, Some(State::Answered(_))) {
            self.remove(id.message);
        }
        if !self.entries.contains_key(&id.message) {
            let expires = now + remaining.min(self.lifetimes.confirmed);
            self.insert(id, true, expires, State::Answered(answer));
        }
    }

    /// Returns a request that awaits its answer.
    pub(crate) fn get_open(&mut self, id: ExchangeId) -> Option<&mut Exchange> {
        let entry = self.entries.get_mut(&id.message)?;
        match &mut entry.state {
            State::Open(exchange) if entry.request_key == id.request_key => Some(exchange),
            _ => None,
        }
    }

    /// Ends the wait of an open request: repetitions get `answer`.
    pub(crate) fn answer(&mut self, id: ExchangeId, answer: Answer) {
        if self.get_open(id).is_none() {
            return;
        }
        let Some(entry) = self.entries.get_mut(&id.message) else { return };
        self.open -= 1;
        self.bytes += answer.len();
        entry.state = State::Answered(answer);
        while self.bytes > self.bounds.bytes && self.evict() {}
    }

    fn insert(&mut self, id: ExchangeId, confirmable: bool, expires: Instant, state: State) {
        while (self.entries.len() >= self.bounds.entries
            || self.bytes + ENTRY_BYTES > self.bounds.bytes)
            && self.evict()
        {}
        let key = id.message;
        self.supersede(key.peer);
        let serial = self.next_serial;
        self.next_serial += 1;
        let peer = self.peers.entry(key.peer).or_default();
        peer.count += 1;
        peer.queue.push_back((serial, key.message_id));
        let arrivals = if confirmable { &mut self.confirmed } else { &mut self.unconfirmed };
        arrivals.push_back((serial, key));
        self.bytes += ENTRY_BYTES;
        let entry = Entry { request_key: id.request_key, serial, expires, state };
        let earlier = self.entries.insert(key, entry);
        debug_assert!(earlier.is_none(), "a request is inserted once");
        self.tidy();
    }

    /// Notes that a peer sends a newer request, and makes room for it among its own.
    fn supersede(&mut self, peer: Peer) {
        let Some(own) = self.peers.get_mut(&peer) else { return };
        let key = |message_id| MessageKey { peer, message_id };
        if let Some(&(serial, message_id)) = own.queue.back() {
            self.superseded.push_back((serial, key(message_id)));
        }
        // Each open request can stand in the way once, then it is at the end of the queue.
        for _ in 0..own.queue.len() {
            if own.count < self.bounds.per_peer {
                return;
            }
            let Some((serial, message_id)) = own.queue.pop_front() else { return };
            match self.entries.get(&key(message_id)).filter(|entry| entry.serial == serial) {
                Some(Entry { state: State::Open(_), .. }) => {
                    own.queue.push_back((serial, message_id));
                }
                Some(_) => {
                    self.evicted.superseded += 1;
                    return self.remove(key(message_id));
                }
                None => {}
            }
        }
    }

    /// Forgets what is older than its lifetime.
    fn expire(&mut self, now: Instant) {
        for confirmable in [true, false] {
            loop {
                let arrivals =
                    if confirmable { &mut self.confirmed } else { &mut self.unconfirmed };
                let Some(&(serial, key)) = arrivals.front() else { break };
                match self.entries.get(&key).filter(|entry| entry.serial == serial) {
                    Some(entry) if entry.expires > now => break,
                    // It awaits its answer still, and stays.
                    Some(Entry { state: State::Open(_), .. }) => {
                        arrivals.rotate_left(1);
                        self.prolong(key, now);
                    }
                    Some(_) => self.remove(key),
                    None => drop(arrivals.pop_front()),
                }
            }
        }
    }

    /// Gives a request another lifetime.
    fn prolong(&mut self, key: MessageKey, now: Instant) {
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.expires = now + self.lifetimes.confirmed;
        }
    }

    /// Lets an answered request give way; false if there is none.
    fn evict(&mut self) -> bool {
        for _ in 0..self.superseded.len() {
            let Some((serial, key)) = self.superseded.pop_front() else { break };
            match self.entries.get(&key).filter(|entry| entry.serial == serial) {
                Some(Entry { state: State::Open(_), .. }) => {
                    self.superseded.push_back((serial, key));
                }
                Some(_) => {
                    self.evicted.superseded += 1;
                    self.remove(key);
                    return true;
                }
                None => {}
            }
        }
        for _ in 0..self.confirmed.len() + self.unconfirmed.len() {
            let serial = |queue: &Queue| queue.front().map_or(u64::MAX, |&(serial, _)| serial);
            let queue = if serial(&self.confirmed) <= serial(&self.unconfirmed) {
                &mut self.confirmed
            } else {
                &mut self.unconfirmed
            };
            let Some((serial, key)) = queue.pop_front() else { break };
            match self.entries.get(&key).filter(|entry| entry.serial == serial) {
                Some(Entry { state: State::Open(_), .. }) => queue.push_back((serial, key)),
                Some(_) => {
                    self.evicted.newest += 1;
                    self.remove(key);
                    return true;
                }
                None => {}
            }
        }
        false
    }

    /// Takes an answered entry out; its places in the queues are out of date from now on.
    fn remove(&mut self, key: MessageKey) {
        let Some(Entry { state: State::Answered(answer), .. }) = self.entries.remove(&key) else {
            return;
        };
        self.bytes -= ENTRY_BYTES + answer.len();
        if let Some(own) = self.peers.get_mut(&key.peer) {
            own.count -= 1;
            if own.count == 0 {
                self.peers.remove(&key.peer);
            } else if own.queue.len() > 2 * own.count + QUEUE_SLACK {
                let entries = &self.entries;
                own.queue.retain(|&(serial, message_id)| {
                    is_current(entries, &(serial, MessageKey { message_id, ..key }))
                });
            }
        }
    }

    /// Clears queues that hold more places that are out of date than others.
    fn tidy(&mut self) {
        let most = 2 * self.entries.len() + QUEUE_SLACK;
        let entries = &self.entries;
        for queue in [&mut self.confirmed, &mut self.unconfirmed, &mut self.superseded] {
            if queue.len() > most {
                queue.retain(|place| is_current(entries, place));
            }
        }
    }

    /// Returns how many requests are remembered and how many bytes they take up.
    #[cfg(test)]
    pub(crate) fn size(&self) -> (usize, usize) {
        let counted: usize = self.peers.values().map(|peer| peer.count).sum();
        assert_eq!(counted, self.entries.len(), "the peers' entries are those of the table");
        for queue in [&self.confirmed, &self.unconfirmed, &self.superseded] {
            assert!(queue.len() <= 2 * self.entries.len() + 2 * QUEUE_SLACK, "{}", queue.len());
        }
        (self.entries.len(), self.bytes)
    }
}

fn is_current(entries: &HashMap<MessageKey, Entry>, (serial, key): &(u64, MessageKey)) -> bool {
    entries.get(key).is_some_and(|entry| entry.serial == *serial)
}
