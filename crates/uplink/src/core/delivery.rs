//! Sending, acknowledgements, refusals, lost connections.

use std::{sync::Arc, time::Duration};

use tidegate_model::Timestamp;

use super::{
    Core, Now, Outgoing, SendId, WINDOW_BATCHES,
    batch::{Part, PartState},
    dead_letters::DeadLetter,
};
use crate::{decision::GapEntry, encoder::Publication, ledger::DropReason};

/// How many publications may be on their way where each reading is one.
const WINDOW_ROWS: usize = 128;
/// After so many connections closed running on one publication it is suspected: divided, or given up if the far side gave
/// a reason.
const STRIKES_MAX: u8 = 3;
/// A publication that cannot be divided and was closed on without a word is given up after so many proofs running: each is
/// a connection that took the probe and was closed on the publication behind it. A bad link does that to an innocent one,
/// too, so one proof is too few.
const PROOFS_MIN: u8 = 3;
/// A far side that took nothing since the start is unwell, and no publication at fault, unless it closes on the same one
/// for so long.
const UNPROVEN: Duration = Duration::from_secs(3_600);
/// Into how many a suspicious batch is divided.
const DIVISION: usize = 16;
/// What a PUBLISH packet holds beside topic and payload, at most (MQTT 5.0, section 3.3).
const PACKET_OVERHEAD: usize = 128;
/// Readings that waited this long for a connection are marked as replayed.
const OUTAGE: Duration = Duration::from_secs(5);

/// How the cloud answered a publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ack {
    /// It took it.
    Accepted,
    /// It will never take this payload; smaller pieces of it perhaps.
    RefusedPayload {
        /// In its words.
        reason: String,
    },
    /// It will never take anything on this topic.
    RefusedTopic {
        /// In its words.
        reason: String,
    },
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disconnect {
    /// The far side closed it and said that something was wrong with what it got.
    ByPeer,
    /// It was closed without a word: by the far side, for what was on its way or because it is unwell, or in between.
    Closed,
    /// Anything else: the network, a deadline, our own decision.
    Otherwise,
}

/// Whether a far side that closed on a publication takes others: the last one that it took is sent once more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Probe {
    /// Not asked on this connection.
    #[default]
    Unsent,
    Sent,
    /// It took that.
    Passed,
}

/// The state of the connection, as far as the core cares.
#[derive(Debug)]
pub(super) struct Link {
    up: bool,
    /// Since when it is up or down.
    since: Duration,
    /// Readings that arrived earlier waited for the connection.
    replay_before: Timestamp,
    in_flight: usize,
    /// How many parts are suspected of having closed a connection; they go one by one.
    suspects: usize,
    /// Where to look for the next part to send: batch and index.
    next: (u64, usize),
    /// The largest packet that the far side takes.
    packet_bytes_max: usize,
    /// Whether it is known that the far side is well.
    probe: Probe,
    /// Against which publication there are how many proofs running.
    proofs: Option<(SendId, u8)>,
    /// The last publication that it took.
    last_accepted: Option<Publication>,
}

impl Link {
    pub(super) fn new(now: Now) -> Self {
        Self {
            up: false,
            since: now.elapsed,
            replay_before: before(now.wall),
            in_flight: 0,
            suspects: 0,
            next: (0, 0),
            packet_bytes_max: usize::MAX,
            probe: Probe::Unsent,
            proofs: None,
            last_accepted: None,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.up
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Returns whether a reading that is decided now waited for an outage to end.
    pub(super) fn is_replayed(&self, arrival: Timestamp, now: Now) -> bool {
        arrival < self.replay_before
            || (!self.up && now.elapsed.saturating_sub(self.since) > OUTAGE)
    }

    /// Notes that a part needs no more suspicion.
    pub(super) fn forget_suspect(&mut self, part: &mut Part) {
        if std::mem::take(&mut part.is_suspect) {
            self.suspects -= 1;
        }
    }

    /// Counts what a connection proved that was closed on a publication, or on the probe (`None`), and returns how many
    /// proofs there are against the publication.
    fn count_proof(&mut self, probe: Probe, closed_on: Option<SendId>) -> u8 {
        let before = self.proofs.filter(|(id, _)| Some(*id) == closed_on).map_or(0, |(_, n)| n);
        match (probe, closed_on) {
            (Probe::Passed, Some(id)) => self.proofs = Some((id, before.saturating_add(1))),
            // Whoever closes on what it took before is unwell, and was perhaps when it seemed to be well.
            (Probe::Sent, _) => self.proofs = None,
            _ => return before,
        }
        self.proofs.map_or(0, |(_, proofs)| proofs)
    }

    fn limit(&self, per_reading: bool) -> usize {
        match self.suspects {
            0 if per_reading => WINDOW_ROWS,
            0 => WINDOW_BATCHES,
            _ => 1,
        }
    }
}

/// Returns the time before which a reading that arrived is old.
fn before(wall: Timestamp) -> Timestamp {
    let outage = i64::try_from(OUTAGE.as_micros()).expect("seconds");
    Timestamp::from_unix_micros(wall.as_unix_micros().saturating_sub(outage))
}

impl Core {
    /// Takes notice of a connection that takes packets of at most `packet_bytes_max`.
    pub fn handle_connected(&mut self, packet_bytes_max: usize, now: Now) {
        self.link.up = true;
        self.link.since = now.elapsed;
        self.link.replay_before = before(now.wall);
        self.link.packet_bytes_max = packet_bytes_max;
        self.link.next = (0, 0);
        self.link.probe = Probe::Unsent;
        self.open_for_gaps(now);
    }

    /// Takes notice that the connection is gone. All that was not answered is sent again on the next.
    pub fn handle_disconnected(&mut self, how: Disconnect, now: Now) {
        if std::mem::take(&mut self.link.up) {
            self.link.since = now.elapsed;
        }
        self.link.in_flight = 0;
        self.link.next = (0, 0);
        let probe = std::mem::take(&mut self.link.probe);
        let mut first = None;
        for batch in &mut self.window {
            for part in batch.parts.iter_mut().filter(|part| part.state == PartState::Sent) {
                part.state = PartState::Waiting;
                if how != Disconnect::Otherwise {
                    if !std::mem::replace(&mut part.is_suspect, true) {
                        self.link.suspects += 1;
                    }
                    // Far sides take packets in order, so the first without an answer is the likeliest.
                    if first.is_none() {
                        part.strikes = part.strikes.saturating_add(1);
                        let since = *part.struck.get_or_insert(now.elapsed);
                        first = Some((part.id, part.strikes, since));
                    }
                }
            }
        }
        let proofs = match how {
            Disconnect::Otherwise => return,
            Disconnect::ByPeer | Disconnect::Closed => {
                self.link.count_proof(probe, first.map(|(id, ..)| id))
            }
        };
        let Some((id, strikes, since)) = first.filter(|(_, strikes, _)| *strikes >= STRIKES_MAX)
        else {
            return;
        };
        let is_divisible = self.part_mut(id).is_some_and(|part| part.content.is_divisible());
        // Who closes without a word may do so on everything.
        let is_proven = how == Disconnect::ByPeer
            || proofs >= if is_divisible { 1 } else { PROOFS_MIN }
            || (self.link.last_accepted.is_none() && now.elapsed - since >= UNPROVEN);
        if is_proven {
            let reason = format!("the connection was closed on it {strikes} times running");
            self.divide_or_give_up(id, DIVISION, reason, STRIKES_MAX - 1);
            self.plan_move();
        }
    }

    /// Returns the last publication that the far side took, to be sent once more, if one more close on the next one is
    /// the last.
    fn poll_probe(&mut self) -> Option<Outgoing> {
        if self.link.probe != Probe::Unsent || self.link.in_flight > 0 {
            return None;
        }
        let mut publication = self.link.last_accepted.clone()?;
        let next = self.next_to_send()?;
        if self.part_mut(next)?.strikes + 1 < STRIKES_MAX {
            return None;
        }
        if let Some(typed) = &mut publication.typed {
            Arc::make_mut(typed).replayed = true;
        }
        self.link.probe = Probe::Sent;
        self.link.in_flight += 1;
        Some(Outgoing { id: SendId::PROBE, publication })
    }

    /// Returns the next publication to send, with QoS 1 and in this order.
    pub fn poll_send(&mut self) -> Option<Outgoing> {
        let probe = self.poll_probe();
        if probe.is_some() {
            return probe;
        }
        loop {
            let id = self.next_to_send()?;
            let (most, profile) = (self.link.packet_bytes_max, self.settings.profile);
            let payload_max = self.payload_bytes_max();
            let part = self.part_mut(id)?;
            let publication = part.publication.clone();
            if let Err(refusal) = profile.check_topic(&publication.topic) {
                self.give_up(id, refusal.to_string());
                self.plan_move();
                continue;
            }
            if publication.payload.len() > payload_max {
                let size = publication.payload.len();
                let reason = format!("{size} bytes are more than the {payload_max} of a payload");
                // A little more than needed, as parts compress less well than the whole.
                let pieces = (size + size / 8).div_ceil(payload_max).clamp(2, DIVISION);
                self.divide_or_give_up(id, pieces, reason, 0);
                self.plan_move();
                continue;
            }
            let beside = publication.properties_len() + PACKET_OVERHEAD;
            let size = publication.payload.len() + publication.topic.len() + beside;
            if size > most {
                let reason =
                    format!("{size} bytes are more than the {most} that the far side takes");
                self.divide_or_give_up(id, DIVISION, reason, 0);
                self.plan_move();
                continue;
            }
            part.state = PartState::Sent;
            self.link.in_flight += 1;
            return Some(Outgoing { id, publication: self.as_of_now(id, publication) });
        }
    }

    /// Tells a connection that says of each reading whether it is the present one that this one is not: it was decided at
    /// the beginning of an outage that has lasted, or came before the process started, which may have sent it already.
    fn as_of_now(&mut self, id: SendId, mut publication: Publication) -> Publication {
        let (before, recovered) = (self.link.replay_before, self.settings.recovered);
        let batch = self.batch_mut(id.batch);
        let is_old = batch.is_some_and(|batch| {
            batch.newest.is_some_and(|newest| newest < before)
                || batch.to.ordinal - batch.ordinals < recovered
        });
        if let Some(typed) = &mut publication.typed
            && is_old
        {
            Arc::make_mut(typed).replayed = true;
        }
        publication
    }

    /// Returns whether the next publication, if there is one, is of readings that waited for an outage to end.
    pub fn is_next_replayed(&mut self) -> bool {
        let next = self.next_to_send();
        next.and_then(|id| self.part_mut(id)).is_some_and(|part| part.content.replayed)
    }

    /// Returns whether a publication could be sent now.
    pub fn has_unsent(&mut self) -> bool {
        self.next_to_send().is_some()
    }

    fn next_to_send(&mut self) -> Option<SendId> {
        let limit = self.link.limit(self.encoder.is_per_reading());
        if !self.link.up || self.link.in_flight >= limit {
            return None;
        }
        let first = self.window.front()?.number;
        let (number, index) = self.link.next;
        let skip = usize::try_from(number.saturating_sub(first)).ok()?;
        for batch in self.window.iter().skip(skip) {
            if !batch.journalled {
                return None;
            }
            let from = if batch.number == number { index } else { 0 };
            let waiting = |part: &Part| part.state == PartState::Waiting;
            let rest = batch.parts.get(from..).unwrap_or_default();
            if let Some(at) = rest.iter().position(waiting) {
                self.link.next = (batch.number, from + at);
                return Some(rest[at].id);
            }
            self.link.next = (batch.number + 1, 0);
        }
        None
    }

    /// Takes the answer to a publication of the present connection.
    pub fn handle_ack(&mut self, id: SendId, ack: Ack) {
        if id == SendId::PROBE {
            // Whatever the answer is, there is one.
            if std::mem::replace(&mut self.link.probe, Probe::Passed) == Probe::Sent {
                self.link.in_flight -= 1;
            }
            return;
        }
        if self.part_mut(id).is_none_or(|part| part.state != PartState::Sent) {
            return;
        }
        self.link.in_flight -= 1;
        match ack {
            Ack::Accepted => {
                self.link.last_accepted = self.part_mut(id).map(|part| part.publication.clone());
                let readings = self.finish_part(id);
                if let Some(batch) = self.batch_mut(id.batch) {
                    batch.outcomes.delivered += readings;
                }
            }
            Ack::RefusedTopic { reason } => self.give_up(id, reason),
            Ack::RefusedPayload { reason } => self.divide_or_give_up(id, DIVISION, reason, 0),
        }
        self.plan_move();
    }

    /// Divides a part with several readings or gaps, to find the one that is at fault; gives up any other.
    fn divide_or_give_up(&mut self, id: SendId, pieces: usize, reason: String, strikes: u8) {
        let Some(part) = self.part_mut(id) else { return };
        let Some(contents) = part.content.divide(pieces) else {
            return self.give_up(id, reason);
        };
        let (was_suspect, struck) = (part.is_suspect, part.struck);
        self.last_refusal = Some(reason);
        let mut parts = Vec::new();
        for content in contents {
            let single = content.readings() < 2;
            for mut part in self.encode_parts(id.batch, content) {
                part.is_suspect = was_suspect;
                part.strikes = if single { 0 } else { strikes };
                part.struck = struck;
                parts.push(part);
            }
        }
        if was_suspect {
            // The divided part leaves, its pieces come.
            self.link.suspects += parts.len() - 1;
        }
        let Some(batch) = self.batch_mut(id.batch) else { return };
        let Some(at) = batch.part(id) else { return };
        batch.open_parts += parts.len() - 1;
        batch.parts.splice(at..=at, parts);
        self.link.next = (0, 0);
    }

    /// Counts the readings of a part as dropped and keeps its payload as a dead letter.
    fn give_up(&mut self, id: SendId, reason: String) {
        self.last_refusal = Some(reason.clone());
        let readings = self.finish_part(id);
        let Some(batch) = self.batch_mut(id.batch) else { return };
        batch.outcomes.add_dropped(DropReason::DeadLetter, readings);
        let Some(at) = batch.part(id) else { return };
        let part = &batch.parts[at];
        let gaps = part.content.as_gaps(DropReason::DeadLetter);
        batch.lost.extend(gaps.map(|gap| GapEntry::from(&gap)));
        if readings > 0 {
            // The gaps that went with it go with another; those of a part without readings are what
            // the far side refused.
            batch.lost.extend(part.content.gaps.iter().map(GapEntry::from));
        }
        let topic = part.publication.topic.clone();
        batch.dead.push(DeadLetter { topic, payload: part.publication.payload.clone(), reason });
    }

    /// Marks a part as done and returns how many readings it holds.
    fn finish_part(&mut self, id: SendId) -> u64 {
        let Self { window, link, .. } = self;
        let Some(first) = window.front().map(|batch| batch.number) else { return 0 };
        let at = usize::try_from(id.batch.saturating_sub(first)).unwrap_or(usize::MAX);
        let Some(batch) = window.get_mut(at) else { return 0 };
        let Some(part) = batch.parts.iter_mut().find(|part| part.id == id) else { return 0 };
        part.state = PartState::Done;
        link.forget_suspect(part);
        batch.open_parts -= 1;
        part.content.readings() as u64
    }

    fn part_mut(&mut self, id: SendId) -> Option<&mut Part> {
        self.batch_mut(id.batch)?.parts.iter_mut().find(|part| part.id == id)
    }
}
