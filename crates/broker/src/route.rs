//! From a published message to those who take it.

use std::{collections::BTreeMap, fmt, sync::Arc};

use thiserror::Error;
use tidegate_model::{Message, Principal, Qos, Topic, TopicFilter, Value};
use tidegate_mqtt::SubscriptionId;
use tidegate_store::{
    BODY_BYTES_MAX, Position, TRANSACTION_BYTES_MAX, TakerId, Transaction, record,
};

use crate::{
    access::Rights,
    core::Broker,
    delivery::{Delivery, Routed, size_estimate},
    persist,
    session::{Attachment, Session, SessionKey, SubscriptionOptions},
    shared::{GroupKey, Member},
};

/// Returns the size of the message's record, or a little more; `None` if its value is nested too deep.
///
/// Only values without a fixed size are encoded for it.
fn record_size(message: &Message) -> Option<usize> {
    let reading = message.payload.as_reading();
    if reading.is_some_and(|reading| {
        matches!(
            reading.value,
            Value::Array(_) | Value::Document(_) | Value::String(_) | Value::Bytes(_)
        )
    }) {
        let mut body = Vec::new();
        record::encode_message(message, &mut body).ok()?;
        return Some(body.len());
    }
    Some(size_estimate(message))
}

/// Most bytes of a record beside topic, payload and properties: names, times, lengths.
const RECORD_OVERHEAD: usize = 2 << 10;
/// Largest message that fits into a record.
const MESSAGE_BYTES_MAX: usize = BODY_BYTES_MAX - RECORD_OVERHEAD;
/// Most bytes that one taker adds to a record.
const TAKER_BYTES: usize = 15;

/// Whether the journal takes what must be durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It does.
    Open,
    /// It is full; what need not be durable still passes.
    Closed,
}

/// Who published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A part of the gateway, or a client of another protocol.
    Gateway,
    /// A session; subscriptions with *no local* pass its messages by.
    Session(Attachment),
    /// A session that publishes with quality of service 2 under a packet identifier, which is remembered.
    ExactlyOnce(Attachment, u16),
}

/// Why messages were not routed. Nothing of them was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RouteRefusal {
    /// The journal or an uplink that refuses is full.
    #[error("storage is full")]
    StorageFull,
    /// The gateway has no memory left for messages; the core itself never says so.
    #[error("memory is full")]
    MemoryFull,
    /// There are too many retained messages, or too many bytes of them.
    #[error("the quota of retained messages is used up")]
    RetainedQuota,
    /// A message is larger than the journal takes, or deeper.
    #[error("the message is too large")]
    TooLarge,
    /// The session of the publisher has gone to another connection, or has ended.
    #[error("the session belongs to another connection now")]
    Superseded,
}

/// What is to be done about routed messages.
#[derive(Debug, Default)]
pub struct Routing {
    /// Go to the journal first, in this order: what sessions get before the messages.
    pub before: Vec<Transaction>,
    /// Goes to the journal at once, before anything else is asked of the core.
    pub transaction: Option<Transaction>,
    /// Whether an acknowledgement has to wait until the transaction is durable.
    pub awaited: bool,
    /// Whether anyone took any of the messages.
    pub matched: bool,
}

/// A reader of messages inside the gateway.
pub trait LocalSubscriber: Send + Sync {
    /// Takes a message or says that it is full. Must not block and must not call the broker.
    fn deliver(&self, routed: &Arc<Routed>) -> bool;

    /// Returns whether nobody reads any more; such a reader is removed with the next tick.
    fn is_gone(&self) -> bool;
}

impl fmt::Debug for dyn LocalSubscriber {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("LocalSubscriber")
    }
}

/// Who holds a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subscriber {
    Session(SessionKey),
    Local(usize),
    /// The place of a group that shares the subscription.
    Group(usize),
}

/// Where a subscriber stands among the targets of the message that was routed last to it, so that its further
/// subscriptions find it at once.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mark {
    /// Which message, counted.
    routed: u64,
    target: usize,
}

/// A reader inside the gateway and what it is subscribed to.
#[derive(Debug)]
pub(crate) struct Local {
    filter: TopicFilter,
    /// On whose behalf it reads, if not the gateway's, and what it may read.
    pub(crate) principal: Option<Principal>,
    pub(crate) rights: Arc<Rights>,
    reader: Arc<dyn LocalSubscriber>,
    mark: Mark,
}

/// One subscriber of one message, all its matching subscriptions taken together.
#[derive(Debug)]
pub(crate) struct Target {
    message: usize,
    subscriber: Subscriber,
    qos: Qos,
    retain_as_published: bool,
    subscription_ids: Vec<SubscriptionId>,
    /// The group that has chosen the subscriber.
    group: Option<GroupKey>,
}

/// Returns how many records a message takes beyond the first: one for each session that gets it once more as a member of
/// a group.
fn twins(targets: &[Target], index: usize) -> usize {
    let own = || targets.iter().filter(|target| target.message == index);
    own()
        .filter(|target| target.group.is_some())
        .filter(|twin| own().filter(|other| other.subscriber == twin.subscriber).count() > 1)
        .count()
}

impl Target {
    /// Makes the target of a message that a member of a group takes.
    pub(crate) fn of_member(
        index: usize,
        message: &Message,
        member: &Member,
        group: GroupKey,
    ) -> Self {
        Self {
            message: index,
            subscriber: Subscriber::Session(member.session),
            qos: member.qos_of(message),
            retain_as_published: member.options.retain_as_published,
            subscription_ids: member.options.identifier.into_iter().collect(),
            group: Some(group),
        }
    }
}

impl Broker {
    /// Routes messages that belong together: all of them or none, in one transaction.
    ///
    /// Deliveries to connected clients are due at once; `Routing::awaited` tells whether the publisher must
    /// wait for the transaction before it is acknowledged. The rights of the publisher are checked by the
    /// caller, those of each subscriber here.
    ///
    /// # Errors
    ///
    /// [`RouteRefusal`]; nothing was kept.
    pub fn route(
        &mut self,
        messages: Vec<Message>,
        source: Source,
        admission: Admission,
    ) -> Result<Routing, RouteRefusal> {
        if let Source::Session(attachment) | Source::ExactlyOnce(attachment, _) = source {
            self.attached(attachment).map_err(|_| RouteRefusal::Superseded)?;
        }
        let mut targets = std::mem::take(&mut self.scratch);
        targets.clear();
        for (index, message) in messages.iter().enumerate() {
            self.collect_targets(index, message, source, &mut targets);
        }
        let result = self.check(&messages, &targets, admission);
        match result {
            Ok(()) => self.count_unfit(),
            Err(refusal) => {
                self.counters.retained_refused += u64::from(refusal == RouteRefusal::RetainedQuota);
                self.forget_unfit();
            }
        }
        let routing = result.map(|()| self.hand_out_all(messages, &targets, source, admission));
        self.scratch = targets;
        routing
    }

    fn hand_out_all(
        &mut self,
        messages: Vec<Message>,
        targets: &[Target],
        source: Source,
        admission: Admission,
    ) -> Routing {
        let mut routing = Routing::default();
        let mut transaction = Transaction::new();
        self.counters.received += messages.len() as u64;
        if !self.catching_up.is_empty() {
            routing.before = self.settle_retained(messages.iter().map(|message| &message.topic));
        }
        let mut rest = targets;
        for (index, message) in messages.into_iter().enumerate() {
            let count = rest.iter().take_while(|target| target.message == index).count();
            let (own, others) = rest.split_at(count);
            rest = others;
            self.hand_out(&Routed::new(message), own, admission, &mut transaction, &mut routing);
        }
        if let Source::ExactlyOnce(attachment, packet_id) = source {
            self.remember_inbound(attachment.session, packet_id, &mut transaction);
            routing.awaited |= !transaction.is_empty();
        }
        routing.transaction = (!transaction.is_empty()).then_some(transaction);
        routing
    }

    pub(crate) fn collect_targets(
        &mut self,
        index: usize,
        message: &Message,
        source: Source,
        targets: &mut Vec<Target>,
    ) {
        let publisher = match source {
            Source::Gateway => None,
            Source::Session(attachment) | Source::ExactlyOnce(attachment, _) => {
                Some(Subscriber::Session(attachment.session))
            }
        };
        self.routed += 1;
        let Self { subscriptions, routes, sessions, locals, groups, routed, .. } = self;
        let matches = routes.matches(&message.topic, subscriptions.version(), |matches| {
            subscriptions.matches(&message.topic, |subscriber, options| {
                matches.push((*subscriber, *options));
            });
        });
        for (subscriber, options) in matches.iter().copied() {
            if options.no_local && publisher == Some(subscriber) {
                continue;
            }
            let qos = options.qos.min(message.qos);
            let mark = match subscriber {
                Subscriber::Session(key) => &mut sessions[key.0].mark,
                Subscriber::Local(key) => &mut locals[key].mark,
                Subscriber::Group(place) => {
                    groups.hits.push(place);
                    continue;
                }
            };
            if mark.routed == *routed {
                let target = &mut targets[mark.target];
                target.qos = target.qos.max(qos);
                target.retain_as_published |= options.retain_as_published;
                target.subscription_ids.extend(options.identifier);
                continue;
            }
            *mark = Mark { routed: *routed, target: targets.len() };
            targets.push(Target {
                message: index,
                subscriber,
                qos,
                retain_as_published: options.retain_as_published,
                subscription_ids: options.identifier.into_iter().collect(),
                group: None,
            });
        }
        if !self.groups.hits.is_empty() {
            self.collect_shared(index, message, targets);
        }
    }

    /// Refuses before anything has changed; what passes here cannot fail later.
    fn check(
        &self,
        messages: &[Message],
        targets: &[Target],
        admission: Admission,
    ) -> Result<(), RouteRefusal> {
        let mut bytes = 0;
        for (index, message) in messages.iter().enumerate() {
            let size = record_size(message)
                .filter(|size| *size <= MESSAGE_BYTES_MAX)
                .ok_or(RouteRefusal::TooLarge)?;
            let twins = if self.groups.len() > 0 { twins(targets, index) } else { 0 };
            bytes += (size + RECORD_OVERHEAD) * (1 + twins + usize::from(message.retain));
        }
        bytes += targets.len() * TAKER_BYTES;
        if bytes > TRANSACTION_BYTES_MAX {
            return Err(RouteRefusal::TooLarge);
        }
        for (index, message) in messages.iter().enumerate() {
            if message.retain && !self.retained.has_room_for(message) {
                return Err(RouteRefusal::RetainedQuota);
            }
            if message.qos == Qos::AtMostOnce {
                continue;
            }
            let mut uplinks =
                self.uplinks.iter().filter(|uplink| (uplink.selects)(message)).peekable();
            let stored = || {
                message.retain
                    || targets
                        .iter()
                        .any(|target| target.message == index && self.is_stored(target))
            };
            if admission == Admission::Closed && (uplinks.peek().is_some() || stored()) {
                return Err(RouteRefusal::StorageFull);
            }
            if uplinks.any(|uplink| (uplink.refuses)()) {
                return Err(RouteRefusal::StorageFull);
            }
        }
        Ok(())
    }

    fn is_stored(&self, target: &Target) -> bool {
        match target.subscriber {
            Subscriber::Session(key) => {
                target.qos > Qos::AtMostOnce && self.sessions[key.0].taker.is_some()
            }
            Subscriber::Local(_) | Subscriber::Group(_) => false,
        }
    }

    /// Gives one message to all that take it, and appends it for those that need it durable.
    fn hand_out(
        &mut self,
        routed: &Arc<Routed>,
        targets: &[Target],
        admission: Admission,
        transaction: &mut Transaction,
        routing: &mut Routing,
    ) {
        let message = &routed.message;
        let confirmed = message.qos > Qos::AtMostOnce;
        let mut takers = self.uplink_takers(message, admission);
        routing.matched |= !takers.is_empty();
        let seq = self.last_seq.next();
        let mut deliveries = Vec::with_capacity(targets.len());
        let mut twins = Vec::new();
        for target in targets {
            if !self.takes(routed, target) {
                continue;
            }
            routing.matched = true;
            let taker = match target.subscriber {
                Subscriber::Session(key) if self.is_stored(target) => self.sessions[key.0].taker,
                _ => None,
            };
            if target.group.is_some()
                && let Some(taker) = taker
                && takers.iter().any(|(other, _)| *other == taker)
            {
                twins.push((target, taker));
                continue;
            }
            let position = taker.map(|taker| {
                let ordinal = self.next_ordinal(taker);
                takers.push((taker, ordinal));
                Position { seq, ordinal }
            });
            deliveries.push((target, position));
        }
        if !takers.is_empty() {
            let mut body = Vec::with_capacity(128);
            record::encode_message(message, &mut body).expect("depth was checked");
            transaction.append(seq, &takers, &body).expect("sizes were checked");
            self.counters.appended_bytes += body.len() as u64;
            self.tell_uplinks(&takers, body.len());
            self.last_seq = seq;
            routing.awaited |= confirmed;
            // A record has each taker once: who gets the message once more has another record.
            for (target, taker) in twins {
                let seq = self.last_seq.next();
                let ordinal = self.next_ordinal(taker);
                transaction.append(seq, &[(taker, ordinal)], &body).expect("sizes were checked");
                self.counters.appended_bytes += body.len() as u64;
                self.last_seq = seq;
                deliveries.push((target, Some(Position { seq, ordinal })));
            }
        }
        if message.retain && (confirmed || admission == Admission::Open) {
            persist::put_retained(transaction, message);
            routing.awaited |= confirmed;
        }
        self.keep(routed);
        for (target, position) in deliveries {
            self.push_to(target, routed, position);
        }
    }

    /// Numbers the record for each uplink that wants it.
    fn uplink_takers(&mut self, message: &Message, admission: Admission) -> Vec<(TakerId, u64)> {
        let wanted: Vec<TakerId> = self
            .uplinks
            .iter()
            .filter(|uplink| (uplink.selects)(message))
            .filter(|uplink| message.qos > Qos::AtMostOnce || !(uplink.refuses)())
            .map(|uplink| uplink.taker)
            .collect();
        if admission == Admission::Closed {
            // Confirmed messages were refused before; what comes here promised nothing.
            self.counters.not_admitted += u64::from(!wanted.is_empty());
            return Vec::new();
        }
        wanted.into_iter().map(|taker| (taker, self.next_ordinal(taker))).collect()
    }

    fn tell_uplinks(&self, takers: &[(TakerId, u64)], body_bytes: usize) {
        for uplink in &self.uplinks {
            if let Some((_, ordinal)) = takers.iter().find(|(taker, _)| *taker == uplink.taker) {
                (uplink.appended)(*ordinal, body_bytes);
            }
        }
    }

    pub(crate) fn next_ordinal(&mut self, taker: TakerId) -> u64 {
        let ordinal = self.ordinals.entry(taker).or_insert(0);
        *ordinal += 1;
        *ordinal
    }

    /// Whether a subscriber gets the message; what it does not get is counted.
    pub(crate) fn takes(&mut self, routed: &Routed, target: &Target) -> bool {
        let (rights, principal) = match target.subscriber {
            Subscriber::Session(key) => {
                let session = &self.sessions[key.0];
                (&session.rights, Some(&session.principal))
            }
            Subscriber::Local(key) => {
                (&self.locals[key].rights, self.locals[key].principal.as_ref())
            }
            Subscriber::Group(_) => return false,
        };
        if !rights.may_receive(&routed.message.topic) {
            self.counters.denied += 1;
            if let Some(principal) = principal.cloned() {
                self.note_denial(&principal);
            }
            self.note_dropped(target.subscriber);
            return false;
        }
        let Subscriber::Session(key) = target.subscriber else {
            return true;
        };
        let session = &self.sessions[key.0];
        if target.qos == Qos::AtMostOnce && session.link.is_none() {
            return false;
        }
        let full = session.queue.len() >= self.limits.queue_messages
            || session.queue_bytes >= self.limits.queue_bytes;
        if full {
            self.counters.dropped_queue_full += 1;
            self.note_dropped(target.subscriber);
        }
        !full
    }

    fn note_dropped(&mut self, subscriber: Subscriber) {
        if let Subscriber::Session(key) = subscriber {
            self.sessions[key.0].dropped += 1;
        }
    }

    pub(crate) fn push_to(
        &mut self,
        target: &Target,
        routed: &Arc<Routed>,
        position: Option<Position>,
    ) {
        match target.subscriber {
            Subscriber::Local(key) => {
                if !self.locals[key].reader.deliver(routed) {
                    self.counters.dropped_local_full += 1;
                }
            }
            Subscriber::Session(key) => {
                let session: &mut Session = &mut self.sessions[key.0];
                if let Some(position) = position {
                    session.progress.expect(position);
                }
                session.push(Delivery {
                    routed: Arc::clone(routed),
                    qos: target.qos,
                    retain: routed.message.retain && target.retain_as_published,
                    subscription_ids: target.subscription_ids.clone(),
                    position,
                    group: target.group,
                });
            }
            Subscriber::Group(_) => {}
        }
    }

    /// Keeps the message for those who ask later.
    fn keep(&mut self, routed: &Arc<Routed>) {
        if routed.message.retain {
            self.retained.set(Arc::clone(routed), self.routed);
        }
        self.last_values.set(routed);
    }

    /// Subscribes a reader inside the gateway, until it says that it is gone. It gets what `principal` may receive at
    /// the moment of each message.
    pub fn add_local(
        &mut self,
        principal: &Principal,
        filter: &TopicFilter,
        options: SubscriptionOptions,
        reader: Arc<dyn LocalSubscriber>,
    ) {
        let rights = self.rules.rights(principal, None);
        self.insert_local(Some(principal.clone()), rights, filter, options, reader);
    }

    /// Subscribes a part of the gateway itself, which gets whatever the configuration names.
    pub fn add_own(
        &mut self,
        filter: &TopicFilter,
        options: SubscriptionOptions,
        reader: Arc<dyn LocalSubscriber>,
    ) {
        self.insert_local(None, Arc::new(Rights::all()), filter, options, reader);
    }

    fn insert_local(
        &mut self,
        principal: Option<Principal>,
        rights: Arc<Rights>,
        filter: &TopicFilter,
        options: SubscriptionOptions,
        reader: Arc<dyn LocalSubscriber>,
    ) {
        let (filter, mark) = (filter.clone(), Mark::default());
        let local = Local { filter: filter.clone(), principal, rights, reader, mark };
        let key = self.locals.insert(local);
        self.subscriptions.insert(&filter, Subscriber::Local(key), options);
    }

    /// Removes the readers inside the gateway that nobody reads from any more.
    pub(crate) fn remove_gone_locals(&mut self) {
        let gone: Vec<usize> = self
            .locals
            .iter()
            .filter(|(_, local)| local.reader.is_gone())
            .map(|(key, _)| key)
            .collect();
        for key in gone {
            let Local { filter, .. } = self.locals.remove(key);
            self.subscriptions.remove(&filter, &Subscriber::Local(key));
        }
    }

    /// Returns the last message of a topic, if it is still known.
    pub fn last(&self, topic: &Topic) -> Option<&Arc<Routed>> {
        self.last_values
            .get(topic)
            .or_else(|| self.retained.get(topic))
            .or_else(|| self.sys.get(topic))
    }

    /// Returns the last messages of at most `limit` topics that match, in order of topic, behind `after`.
    pub fn list(
        &self,
        filter: &TopicFilter,
        after: Option<&Topic>,
        limit: usize,
    ) -> Vec<Arc<Routed>> {
        let mut found: BTreeMap<&Topic, &Arc<Routed>> = self
            .retained
            .matching(filter, after)
            .take(limit)
            .map(|routed| (&routed.message.topic, routed))
            .collect();
        found.extend(
            self.last_values
                .matching(filter, after)
                .take(limit)
                .map(|routed| (&routed.message.topic, routed)),
        );
        let own = self.sys_matching(filter, after).take(limit);
        found.extend(own.map(|routed| (&routed.message.topic, routed)));
        found.into_values().take(limit).cloned().collect()
    }

    /// Returns whether anybody who may receive it is subscribed to a topic.
    pub fn has_subscriber(&self, topic: &Topic) -> bool {
        let mut found = false;
        self.subscriptions.matches(topic, |subscriber, _| {
            found |= match subscriber {
                Subscriber::Session(key) => self.sessions[key.0].rights.may_receive(topic),
                Subscriber::Local(_) => false,
                Subscriber::Group(place) => self
                    .groups
                    .members(*place)
                    .any(|member| self.sessions[member.session.0].rights.may_receive(topic)),
            };
        });
        found
    }
}
