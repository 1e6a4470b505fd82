//! Confirmable messages of our own: repeated until acknowledged, one at a time for each peer.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use bytes::Bytes;
use coap_lite::Packet;

use crate::{Output, Peer, Settings, wire::encode};

/// Messages under way and those that wait for their turn (RFC 7252, sections 4.2 and 4.7, NSTART = 1).
#[derive(Debug)]
pub(crate) struct Transmissions {
    peers: BTreeMap<Peer, OfPeer>,
    deadlines: BTreeSet<(Instant, Peer)>,
    total: usize,
    total_max: usize,
    first_timeout: Duration,
    random_factor: f64,
    repetitions_max: u32,
    random: SplitMix,
}

/// The message under way to one peer, and those behind it.
#[derive(Debug)]
struct OfPeer {
    under_way: UnderWay,
    waiting: VecDeque<Packet>,
}

#[derive(Debug)]
struct UnderWay {
    message_id: u16,
    bytes: Bytes,
    deadline: Instant,
    timeout: Duration,
    repetitions: u32,
}

/// What a deadline brought.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Repeated {
    Again,
    /// The peer did not answer; so many messages were given up.
    GivenUp(usize),
}

impl Transmissions {
    pub(crate) fn new(settings: &Settings, seed: u64) -> Self {
        Self {
            peers: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            total: 0,
            total_max: settings.transmissions_max,
            first_timeout: settings.ack_timeout,
            random_factor: settings.ack_random_factor,
            repetitions_max: settings.retransmissions_max,
            random: SplitMix(seed),
        }
    }

    /// Sends a confirmable message, or keeps it until the one before is acknowledged.
    ///
    /// Returns false, and drops the message, if too many are under way.
    pub(crate) fn send(
        &mut self,
        now: Instant,
        peer: Peer,
        packet: Packet,
        output: &mut Output,
    ) -> bool {
        if self.total >= self.total_max {
            return false;
        }
        self.total += 1;
        match self.peers.get_mut(&peer) {
            Some(state) => state.waiting.push_back(packet),
            None => {
                let under_way = self.start(now, peer, &packet, output);
                self.peers.insert(peer, OfPeer { under_way, waiting: VecDeque::new() });
            }
        }
        true
    }

    /// Takes an acknowledgement or a reset; returns whether it belongs to a message under way.
    pub(crate) fn settle(
        &mut self,
        now: Instant,
        peer: Peer,
        message_id: u16,
        output: &mut Output,
    ) -> bool {
        let Some(state) = self.peers.get_mut(&peer) else { return false };
        if state.under_way.message_id != message_id {
            return false;
        }
        self.total -= 1;
        self.deadlines.remove(&(state.under_way.deadline, peer));
        match state.waiting.pop_front() {
            None => {
                self.peers.remove(&peer);
            }
            Some(packet) => {
                let under_way = self.start(now, peer, &packet, output);
                if let Some(state) = self.peers.get_mut(&peer) {
                    state.under_way = under_way;
                }
            }
        }
        true
    }

    /// Returns the next deadline.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.first().map(|&(deadline, _)| deadline)
    }

    /// Acts on the first deadline if it has passed.
    pub(crate) fn repeat(&mut self, now: Instant, output: &mut Output) -> Option<Repeated> {
        let &(deadline, peer) = self.deadlines.first().filter(|&&(deadline, _)| deadline <= now)?;
        self.deadlines.remove(&(deadline, peer));
        let under_way = &mut self.peers.get_mut(&peer)?.under_way;
        if under_way.repetitions >= self.repetitions_max {
            // What waits behind would meet the same silence.
            let given_up = 1 + self.peers.remove(&peer).map_or(0, |state| state.waiting.len());
            self.total -= given_up;
            return Some(Repeated::GivenUp(given_up));
        }
        under_way.repetitions += 1;
        under_way.timeout *= 2;
        under_way.deadline = now + under_way.timeout;
        self.deadlines.insert((under_way.deadline, peer));
        output.push(peer, under_way.bytes.clone());
        Some(Repeated::Again)
    }

    fn start(
        &mut self,
        now: Instant,
        peer: Peer,
        packet: &Packet,
        output: &mut Output,
    ) -> UnderWay {
        let bytes = encode(packet);
        let longest = self.first_timeout.mul_f64(self.random_factor);
        let timeout = self.first_timeout
            + longest.saturating_sub(self.first_timeout).mul_f64(self.random.fraction());
        let deadline = now + timeout;
        self.deadlines.insert((deadline, peer));
        output.push(peer, bytes.clone());
        let message_id = packet.header.message_id;
        UnderWay { message_id, bytes, deadline, timeout, repetitions: 0 }
    }
}

/// A small random sequence (SplitMix64), good enough to keep peers from falling into step.
#[derive(Debug)]
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    /// Returns a number from 0 to below 1.
    fn fraction(&mut self) -> f64 {
        let bits = u32::try_from(self.next() >> 32).expect("32 bits");
        f64::from(bits) / (f64::from(u32::MAX) + 1.0)
    }
}
