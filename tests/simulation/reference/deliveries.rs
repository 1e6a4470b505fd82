//! What a session is sent: order, identifiers, repetitions, ends.

use tidegate_model::{Qos, Timestamp};

use super::{
    Reference, Taken,
    state::{Effect, Entry, Stage},
};

/// A PUBLISH that the broker hands to a connection.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) message: u64,
    pub(crate) qos: Qos,
    pub(crate) retain: bool,
    pub(crate) identifiers: Vec<u32>,
    pub(crate) packet_id: Option<u16>,
    pub(crate) dup: bool,
}

impl Reference {
    /// Queues deliveries, but for those that were dropped because a queue was full. Returns whether the journal must
    /// have any of them.
    pub(super) fn push_all(&mut self, pushed: Vec<(usize, Entry)>, taken: Taken) -> bool {
        let waiting = |reference: &Self, client| {
            let entries = reference.live.sessions[&client].entries.values();
            entries.filter(|entry| entry.stage == Stage::Waiting).count()
        };
        // The model may take a queue for longer than it is: it does not see expired messages go.
        let mut may_drop = 0;
        let mut entries: Vec<(usize, Entry, bool)> = Vec::new();
        for (client, entry) in pushed {
            let ahead = entries.iter().filter(|(other, ..)| *other == client).count();
            let is_full = waiting(self, client) + ahead >= self.queue_messages;
            may_drop += u64::from(is_full);
            entries.push((client, entry, is_full));
        }
        assert!(taken.dropped <= may_drop, "{} dropped, {may_drop} queues full", taken.dropped);
        let mut is_stored = false;
        for (client, mut entry, is_full) in entries {
            if is_full && taken.dropped == may_drop {
                continue;
            }
            entry.is_optional |= is_full && taken.dropped > 0;
            is_stored |= entry.is_stored && !entry.is_optional;
            self.next_entry += 1;
            let number = self.next_entry;
            self.change(taken.token, Effect::Push { client, number, entry });
        }
        is_stored
    }

    /// The broker hands a PUBLISH to a connection. Returns its entry, and what must be durable before it is sent.
    pub(crate) fn hand_out(
        &mut self,
        client: usize,
        link: u64,
        window: usize,
        seen: &Seen,
        token: u64,
        now: Timestamp,
    ) -> (u64, u64) {
        let number = match seen.packet_id.filter(|_| seen.dup) {
            Some(packet_id) => self.find_repeated(client, link, packet_id, seen),
            None => None,
        };
        let is_repeated = number.is_some();
        let number = number.unwrap_or_else(|| self.find_next(client, link, seen, now));
        let entry = &self.live.sessions[&client].entries[&number];
        assert_eq!((entry.message, entry.qos), (seen.message, seen.qos), "{seen:?}");
        assert!(is_shown_as(entry, seen), "{seen:?} is shown otherwise than {entry:?}");
        assert_eq!(seen.packet_id.is_some(), seen.qos > Qos::AtMostOnce, "{seen:?}");
        assert!(
            !seen.dup || is_repeated || entry.may_be_known,
            "first sent as a duplicate: {seen:?}"
        );
        let Some(packet_id) = seen.packet_id else {
            self.change_live(Effect::Finish { client, number });
            return (number, 0);
        };
        // Of two alike for which there may have been no room, one stored and one not, it may be either.
        let may_be_another = entry.is_optional
            && self.live.sessions[&client].entries.values().any(|other| {
                other.message == seen.message
                    && other.stage == Stage::Waiting
                    && is_shown_as(other, seen)
                    && !other.is_stored
            });
        let is_stored = entry.is_stored && entry.qos == Qos::ExactlyOnce;
        let effect = Effect::Stage { client, number, stage: Stage::Sent { packet_id, link } };
        let needs = if is_stored && !is_repeated {
            self.change(token, effect);
            if may_be_another { 0 } else { token }
        } else {
            self.change_live(effect);
            0
        };
        self.check_window(client, link, window, packet_id);
        (number, needs)
    }

    /// Finds what was sent before under this identifier, on another connection.
    fn find_repeated(&self, client: usize, link: u64, packet_id: u16, seen: &Seen) -> Option<u64> {
        let entries = &self.live.sessions[&client].entries;
        let (number, entry) = entries.iter().find(|(_, entry)| {
            matches!(entry.stage, Stage::Sent { packet_id: own, link: on } if own == packet_id && on != link)
        })?;
        let overtaken = entries.range(..number).find(|(_, earlier)| {
            is_alike(earlier, &entry.topic, entry.qos)
                && matches!(earlier.stage, Stage::Sent { link: on, .. } if on != link)
                && !earlier.is_raised
                && !entry.is_raised
                // Which of two subscriptions got a retained message first was free.
                && !(earlier.message == entry.message && entry.retain == Some(true))
        });
        assert!(overtaken.is_none(), "{seen:?} is repeated before {overtaken:?}");
        Some(*number)
    }

    /// Finds what comes next in its order; what has expired is passed over.
    fn find_next(&mut self, client: usize, link: u64, seen: &Seen, now: Timestamp) -> u64 {
        let topic = self.messages[seen.message as usize].topic.clone();
        let mut passed = Vec::new();
        let mut found = None;
        for (number, entry) in &self.live.sessions[&client].entries {
            if !is_alike(entry, &topic, seen.qos) {
                continue;
            }
            match entry.stage {
                Stage::Sent { link: on, .. } => {
                    let is_repeated = on == link || entry.is_raised;
                    assert!(is_repeated, "{seen:?} is sent before {entry:?} is repeated");
                }
                Stage::Released { .. } => {}
                Stage::Waiting if entry.message == seen.message && is_shown_as(entry, seen) => {
                    found = Some(*number);
                    break;
                }
                Stage::Waiting if entry.is_raised => {}
                // Which of two subscriptions gets a retained message first is free.
                Stage::Waiting
                    if entry.message == seen.message
                        && seen.retain
                        && entry.retain == Some(true)
                        && entry.identifiers != seen.identifiers => {}
                Stage::Waiting => {
                    let is_expired = self.messages[entry.message as usize].is_expired(now);
                    assert!(entry.is_optional || is_expired, "{seen:?} is sent before {entry:?}");
                    passed.push(*number);
                }
            }
        }
        let Some(found) = found else { panic!("nothing of the kind waits for {client}: {seen:?}") };
        assert!(!self.messages[seen.message as usize].is_expired(now), "expired: {seen:?}");
        for number in passed {
            self.finish(client, number);
        }
        let entries = &mut self.session_mut(client).entries;
        if entries[&found].is_optional {
            // It may as well have been a later one of the same looks.
            let alike = entries.values_mut().filter(|entry| entry.message == seen.message);
            alike.for_each(|entry| entry.is_optional = true);
        }
        found
    }

    /// Fails if an identifier is in use twice, or more is in flight than the client allows.
    fn check_window(&self, client: usize, link: u64, window: usize, packet_id: u16) {
        let mut same = 0;
        let mut in_flight = 0;
        for entry in self.live.sessions[&client].entries.values() {
            let (Stage::Sent { packet_id: own, link: on }
            | Stage::Released { packet_id: own, link: on }) = entry.stage
            else {
                continue;
            };
            same += usize::from(own == packet_id);
            in_flight += usize::from(on == link);
        }
        assert_eq!(same, 1, "packet identifier {packet_id} of client {client} is in use twice");
        assert!(
            in_flight <= window,
            "{in_flight} in flight to client {client}, it allows {window}"
        );
    }

    /// Finds what is in flight under an identifier.
    fn in_flight(&self, client: usize, packet_id: u16, qos: Qos) -> Option<(u64, Stage)> {
        let entries = self.live.sessions[&client].entries.iter();
        entries
            .filter(|(_, entry)| entry.qos == qos)
            .find(|(_, entry)| {
                matches!(
                    entry.stage,
                    Stage::Sent { packet_id: own, .. } | Stage::Released { packet_id: own, .. }
                        if own == packet_id
                )
            })
            .map(|(number, entry)| (*number, entry.stage))
    }

    /// Is done with an entry; the journal hears of it later, if it knows it.
    fn finish(&mut self, client: usize, number: u64) {
        let entry = &self.live.sessions[&client].entries[&number];
        if entry.is_stored {
            self.session_mut(client).done.push(number);
        }
        self.change_live(Effect::Finish { client, number });
    }

    /// A PUBACK came; `known` is what the broker says of it.
    pub(crate) fn acknowledged(&mut self, client: usize, packet_id: u16, known: bool) {
        let found = self.in_flight(client, packet_id, Qos::AtLeastOnce);
        assert_eq!(known, found.is_some(), "PUBACK {packet_id} of client {client}");
        if let Some((number, _)) = found {
            self.finish(client, number);
        }
    }

    /// The broker stores what the session has taken.
    pub(crate) fn store_progress(&mut self, client: usize, token: u64) {
        for number in std::mem::take(&mut self.session_mut(client).done) {
            self.change(token, Effect::Finish { client, number });
        }
    }

    /// The broker stores what all sessions have taken.
    pub(crate) fn store_all_progress(&mut self, token: u64) {
        let clients: Vec<usize> = self.live.sessions.keys().copied().collect();
        clients.into_iter().for_each(|client| self.store_progress(client, token));
    }

    /// A PUBREC came. Returns what must be durable before the PUBREL.
    pub(crate) fn received(
        &mut self,
        client: usize,
        packet_id: u16,
        known: bool,
        token: u64,
    ) -> u64 {
        let found = self.in_flight(client, packet_id, Qos::ExactlyOnce);
        assert_eq!(known, found.is_some(), "PUBREC {packet_id} of client {client}");
        let Some((number, Stage::Sent { link, .. } | Stage::Released { link, .. })) = found else {
            return 0;
        };
        let is_stored = self.live.sessions[&client].entries[&number].is_stored;
        self.change(
            token,
            Effect::Stage { client, number, stage: Stage::Released { packet_id, link } },
        );
        if is_stored { token } else { 0 }
    }

    /// A PUBREL is handed to a connection that is back.
    pub(crate) fn release_again(&self, client: usize, packet_id: u16) {
        let found = self.in_flight(client, packet_id, Qos::ExactlyOnce);
        assert!(
            matches!(found, Some((_, Stage::Released { .. }))),
            "PUBREL {packet_id} of client {client}, which has {found:?}"
        );
    }

    /// A PUBCOMP came.
    pub(crate) fn completed(&mut self, client: usize, packet_id: u16, known: bool, token: u64) {
        let found = self.in_flight(client, packet_id, Qos::ExactlyOnce);
        assert_eq!(known, found.is_some(), "PUBCOMP {packet_id} of client {client}");
        if let Some((number, _)) = found {
            self.change(token, Effect::Finish { client, number });
        }
    }

    /// The application of a client got a message.
    pub(crate) fn had(&mut self, client: usize, number: u64) {
        let Some(session) = self.live.sessions.get_mut(&client) else { return };
        let Some(entry) = session.entries.get_mut(&number) else { return };
        entry.had += 1;
        assert!(
            entry.qos < Qos::ExactlyOnce || entry.had == 1,
            "client {client} got {entry:?} with quality of service 2 and got it again"
        );
    }

    /// Everything was brought to rest: what is left is what need not come.
    pub(crate) fn check_rest(&mut self, now: Timestamp) {
        for (client, session) in &self.live.sessions {
            if session.link.is_none() {
                continue;
            }
            for entry in session.entries.values() {
                let is_expired = self.messages[entry.message as usize].is_expired(now);
                assert!(
                    entry.stage == Stage::Waiting && (entry.is_optional || is_expired),
                    "client {client} never got {entry:?}"
                );
            }
        }
    }

    /// Forgets what need not come any more, once everything was brought to rest and is durable.
    pub(crate) fn forget_optional(&mut self) {
        let clients: Vec<usize> = self
            .live
            .sessions
            .iter()
            .filter(|(_, session)| session.link.is_some())
            .map(|(client, _)| *client)
            .collect();
        for client in clients {
            self.session_mut(client).entries.clear();
            if let Some(session) = self.journal.sessions.get_mut(&client) {
                session.entries.clear();
            }
        }
    }
}

fn is_shown_as(entry: &Entry, seen: &Seen) -> bool {
    let sorted = |list: &[u32]| {
        let mut list = list.to_vec();
        list.sort_unstable();
        list
    };
    entry.retain.is_none_or(|retain| retain == seen.retain)
        && sorted(&entry.identifiers) == sorted(&seen.identifiers)
}

fn is_alike(entry: &Entry, topic: &tidegate_model::Topic, qos: Qos) -> bool {
    entry.topic == *topic && entry.qos == qos
}
