//! From the journal's state back to sessions and retained messages.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use bytes::Bytes;
use thiserror::Error;
use tidegate_model::{Message, Timestamp};
use tidegate_store::{Position, Seq, TakerId, Transaction, record::MessageDecoder};

use crate::{
    carry::TornCarry,
    core::Broker,
    delivery::{Delivery, Routed},
    persist,
    route::Subscriber,
    session::{Inflight, Progress, Session, SessionKey, Stage, SubscriptionOptions},
    wills::PendingWill,
};

/// An entry of the state cannot be understood. Its record is named; nothing of it was taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("cannot read the stored entry {key}")]
pub struct RecoverError {
    /// The key, escaped.
    pub key: String,
}

/// A persistent session whose records wait in the journal.
#[derive(Clone, Debug)]
pub struct SessionBacklog {
    /// Its number in the journal.
    pub taker: TakerId,
    /// What it has taken for good; its records follow.
    pub after: Position,
    done: BTreeSet<u64>,
    outbound: HashMap<u64, (u16, Stage)>,
    key: SessionKey,
}

#[derive(Default)]
struct Stored {
    session: Option<persist::StoredSession>,
    subscriptions: Vec<(tidegate_model::TopicFilter, SubscriptionOptions)>,
    inbound: BTreeSet<u16>,
    outbound: HashMap<u64, (u16, Stage)>,
    progress: Option<(Position, Vec<u64>)>,
}

impl Broker {
    /// Takes over what the journal holds. Call it once, before the first connection.
    ///
    /// Returns the sessions whose records must be read and given to [`restore`](Self::restore), and the entries
    /// that could not be understood.
    pub fn recover<'s>(
        &mut self,
        state: impl Iterator<Item = (&'s [u8], &'s [u8])>,
        last_seq: Seq,
        ordinals: impl Iterator<Item = (TakerId, u64)>,
        now: Timestamp,
    ) -> (Vec<SessionBacklog>, Vec<RecoverError>) {
        self.last_seq = last_seq;
        self.ordinals.extend(ordinals);
        let mut stored: BTreeMap<TakerId, Stored> = BTreeMap::new();
        let mut errors = Vec::new();
        for (key, value) in state {
            let Some((kind, rest)) = persist::split_key(key) else { continue };
            if self.read_entry(kind, rest, value, &mut stored, now).is_none() {
                errors.push(RecoverError { key: key.escape_ascii().to_string() });
            }
        }
        let backlogs = stored
            .into_iter()
            .filter_map(|(taker, stored)| self.revive(taker, stored, now))
            .collect();
        (backlogs, errors)
    }

    fn read_entry(
        &mut self,
        kind: u8,
        rest: &[u8],
        value: &[u8],
        stored: &mut BTreeMap<TakerId, Stored>,
        now: Timestamp,
    ) -> Option<()> {
        match kind {
            b'n' => self.next_taker = u32::from_be_bytes(value.try_into().ok()?),
            persist::UPLINK => {
                let name = std::str::from_utf8(rest).ok()?.to_owned();
                self.uplink_names
                    .insert(name, TakerId::new(u32::from_be_bytes(value.try_into().ok()?)));
            }
            persist::CARRY => {
                let (first, last) = persist::read_carry(value)?;
                self.torn_carry = Some(TornCarry { first, last, sessions: HashSet::new() });
            }
            persist::RETAINED => {
                let message = MessageDecoder::new().decode(&Bytes::copy_from_slice(value)).ok()?;
                self.retained.set(Routed::new(message));
            }
            persist::WILL => {
                let persist::StoredWill { number, principal, client_id, will } =
                    persist::read_will(rest, value)?;
                let due = now.saturating_add(will.delay);
                self.next_will = self.next_will.max(number + 1);
                let is_postponed = false;
                self.wills.push(PendingWill {
                    due,
                    is_postponed,
                    number,
                    principal,
                    client_id,
                    will,
                });
            }
            _ => {
                let (taker, rest) = persist::split_taker(rest)?;
                let entry = stored.entry(taker).or_default();
                match kind {
                    persist::SESSION => entry.session = Some(persist::read_session(value)?),
                    persist::SUBSCRIPTION => {
                        entry.subscriptions.push(persist::read_subscription(rest, value)?)
                    }
                    persist::INBOUND => {
                        entry.inbound.insert(u16::from_be_bytes(rest.try_into().ok()?));
                    }
                    persist::OUTBOUND => {
                        let packet_id = u16::from_be_bytes(rest.try_into().ok()?);
                        let (ordinal, stage) = persist::read_outbound(value)?;
                        entry.outbound.insert(ordinal, (packet_id, stage));
                    }
                    persist::PROGRESS => entry.progress = Some(persist::read_progress(value)?),
                    _ => return None,
                }
            }
        }
        Some(())
    }

    fn revive(&mut self, taker: TakerId, stored: Stored, now: Timestamp) -> Option<SessionBacklog> {
        let described = stored.session?;
        let rights = self.rules.rights(&described.principal, Some(&described.client_id));
        let name = (described.principal.clone(), described.client_id.clone());
        let mut session = Session::new(described.principal, described.client_id, rights);
        let (cursor, done) = stored.progress.unwrap_or_default();
        session.taker = Some(taker);
        session.expiry = described.expiry;
        // A session that was connected when the gateway stopped is disconnected since now.
        session.disconnected_at = Some(described.disconnected_at.unwrap_or(now));
        session.inbound_exactly_once = stored.inbound;
        session.progress = Progress::at(cursor);
        session.subscriptions = stored.subscriptions.into_iter().collect();
        let subscriptions: Vec<_> = session.subscriptions.clone().into_iter().collect();
        let key = SessionKey(self.sessions.insert(session));
        self.by_client.insert(name, key);
        for (filter, options) in subscriptions {
            self.subscriptions.insert(&filter, Subscriber::Session(key), options);
        }
        Some(SessionBacklog {
            taker,
            after: cursor,
            done: done.into_iter().collect(),
            outbound: stored.outbound,
            key,
        })
    }

    /// Gives a session back one of its records, oldest first.
    ///
    /// The quality of service is that of the subscriptions the session has now; a record whose subscription
    /// was ended since keeps the publisher's.
    pub fn restore(&mut self, backlog: &SessionBacklog, position: Position, message: Message) {
        if self.pass_torn_copy(backlog.key.0, position) {
            return;
        }
        let mut qos = None;
        let mut retain_as_published = false;
        let mut subscription_ids = Vec::new();
        let subscriber = Subscriber::Session(backlog.key);
        self.subscriptions.matches(&message.topic, |found, options| {
            if *found == subscriber {
                qos = qos.max(Some(options.qos));
                retain_as_published |= options.retain_as_published;
                subscription_ids.extend(options.identifier);
            }
        });
        let session = &mut self.sessions[backlog.key.0];
        session.progress.expect(position);
        if backlog.done.contains(&position.ordinal) {
            session.progress.done(position);
            return;
        }
        if !session.rights.may_receive(&message.topic) {
            // The rights have changed while it waited (promise C7).
            self.counters.denied += 1;
            session.progress.done(position);
            return;
        }
        let delivery = Delivery {
            qos: qos.map_or(message.qos, |qos| qos.min(message.qos)),
            retain: message.retain && retain_as_published,
            subscription_ids,
            position: Some(position),
            routed: Arc::clone(
                self.restored.entry(position.seq).or_insert_with(|| Routed::new(message)),
            ),
        };
        match backlog.outbound.get(&position.ordinal) {
            Some(&(packet_id, stage)) => {
                session.inflight.push_back(Inflight { packet_id, stage, delivery })
            }
            None => session.push(delivery),
        }
    }

    /// Ends the restoring: what no session waits for any more is freed.
    ///
    /// The transaction, if there is one, goes to the journal before any other.
    pub fn end_restore(&mut self) -> Option<Transaction> {
        self.restored = HashMap::new();
        self.forget_torn_copies()
    }

    /// Passes a record over that can no longer be read, so that those behind it are not held up.
    pub fn skip(&mut self, backlog: &SessionBacklog, position: Position) {
        if self.pass_torn_copy(backlog.key.0, position) {
            return;
        }
        let session = &mut self.sessions[backlog.key.0];
        session.progress.expect(position);
        session.progress.done(position);
    }
}
