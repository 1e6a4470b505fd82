//! From the journal's state back to sessions and retained messages.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use thiserror::Error;
use tidegate_model::{Message, Qos, Timestamp};
use tidegate_store::{Position, Seq, TakerId, Transaction, record::MessageDecoder};

use crate::{
    carry::Struck,
    core::Broker,
    delivery::{Delivery, Routed},
    persist,
    route::Subscriber,
    session::{Expiry, Inflight, Progress, Session, SessionKey, Stage, SubscriptionOptions},
    wills::PendingWill,
};

/// With more than this in it, what the restoring mends goes on in another transaction.
const MENDED_BYTES: usize = 1 << 20;

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
        self.revive_wills(now);
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
                self.strike(first, last);
                let mut transaction = Transaction::new();
                persist::put_struck(&mut transaction, Struck { first, last });
                persist::delete_carry(&mut transaction);
                self.mended.push(transaction);
            }
            persist::STRUCK => {
                let Struck { first, last } = persist::read_struck(rest, value)?;
                self.strike(first, last);
            }
            persist::RETAINED => {
                let message = MessageDecoder::new().decode(&Bytes::copy_from_slice(value)).ok()?;
                self.retained.set(Routed::new(message), 0);
            }
            persist::WILL => {
                let persist::StoredWill { number, principal, client_id, will } =
                    persist::read_will(rest, value)?;
                self.next_will = self.next_will.max(number + 1);
                self.wills.push(PendingWill {
                    due: now,
                    is_postponed: true,
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
        session.disconnected_at = described.disconnected_at;
        if session.disconnected_at.is_none() {
            // It was connected when the gateway stopped, and is disconnected since now, whatever comes.
            session.disconnected_at = Some(now);
            self.mend(|transaction| persist::put_session(transaction, &session));
        }
        session.inbound_exactly_once = stored.inbound;
        session.progress = Progress::at(cursor);
        session.subscriptions = stored.subscriptions.into_iter().collect();
        let subscriptions: Vec<_> = session.subscriptions.clone().into_iter().collect();
        let key = SessionKey(self.sessions.insert(Box::new(session)));
        self.by_client.insert(name, key);
        for (filter, options) in subscriptions {
            self.enlist(key, &filter, options);
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
        if self.is_struck(position.seq) {
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
        // A record for which the session has a subscription of its own is taken for that one's.
        let shared = match qos {
            None => self.group_of(&self.sessions[backlog.key.0], &message),
            Some(_) => None,
        };
        if let Some((_, options)) = shared {
            qos = Some(options.qos);
            retain_as_published = options.retain_as_published;
            subscription_ids.extend(options.identifier);
        }
        let mut outbound = backlog.outbound.get(&position.ordinal).copied();
        let session = &mut self.sessions[backlog.key.0];
        session.progress.expect(position);
        if backlog.done.contains(&position.ordinal) {
            session.progress.done(position);
            return;
        }
        let is_had = matches!(outbound, Some((_, Stage::Released)));
        if !is_had && !session.rights.may_receive(&message.topic) {
            // The rights have changed while it waited (promise C7).
            self.counters.denied += 1;
            session.dropped += 1;
            let Some((packet_id, stage)) = &mut outbound else {
                session.progress.done(position);
                return;
            };
            // The client may know the packet identifier: the exchange ends in order, without the message.
            let (taker, packet_id) = (backlog.taker, *packet_id);
            *stage = Stage::Released;
            self.mend(|transaction| {
                persist::put_outbound(transaction, taker, packet_id, position, Stage::Released);
            });
        }
        let session = &mut self.sessions[backlog.key.0];
        let delivery = Delivery {
            // It was stored, so it was to be confirmed, whatever the subscription says by now; an exchange under
            // way ends as it began.
            qos: match outbound {
                Some(_) => Qos::ExactlyOnce,
                None => qos.map_or(message.qos, |qos| qos.min(message.qos)).max(Qos::AtLeastOnce),
            },
            retain: message.retain && retain_as_published,
            subscription_ids,
            position: Some(position),
            group: shared.map(|(group, _)| group),
            routed: Arc::clone(
                self.restored.entry(position.seq).or_insert_with(|| Routed::new(message)),
            ),
        };
        match outbound {
            Some((packet_id, stage)) => {
                session.inflight.push_back(Inflight { packet_id, stage, delivery })
            }
            None => session.push(delivery),
        }
    }

    /// Ends the restoring: what no session waits for any more is freed.
    ///
    /// The transactions go to the journal before any other, in order.
    pub fn end_restore(&mut self) -> Vec<Transaction> {
        self.restored = HashMap::new();
        std::mem::take(&mut self.mended)
    }

    /// Adds to what the end of the restoring makes durable.
    fn mend(&mut self, add: impl FnOnce(&mut Transaction)) {
        if self.mended.last().is_none_or(|last| last.encoded_len() > MENDED_BYTES) {
            self.mended.push(Transaction::new());
        }
        add(self.mended.last_mut().expect("pushed above"));
    }

    /// Sets when the wills of connections that the gateway's end has cut are due: with the delay, or with the
    /// end of the session if that comes first (MQTT 5.0, section 3.1.3.2.2).
    fn revive_wills(&mut self, now: Timestamp) {
        for pending in &mut self.wills {
            let name = (pending.principal.clone(), pending.client_id.clone());
            let Some(session) = self.by_client.get(&name).map(|key| &self.sessions[key.0]) else {
                // The session has ended with the connection.
                continue;
            };
            let delay = match session.expiry {
                Expiry::AtDisconnect => Duration::ZERO,
                Expiry::After(after) => pending.will.delay.min(after),
            };
            pending.due = session.disconnected_at.unwrap_or(now).saturating_add(delay);
            pending.is_postponed = pending.due <= now;
        }
    }

    /// Passes a record over that can no longer be read, so that those behind it are not held up.
    pub fn skip(&mut self, backlog: &SessionBacklog, position: Position) {
        if self.is_struck(position.seq) {
            return;
        }
        let session = &mut self.sessions[backlog.key.0];
        session.progress.expect(position);
        session.progress.done(position);
    }
}
