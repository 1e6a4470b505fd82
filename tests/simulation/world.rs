//! The broker core with its journal on a simulated disk, and the connections of its clients.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tidegate_broker::{
    Admission, Broker, BrokerLimits, ConnectRequest, ConnectionId, Disconnect, Due, DueWill,
    Expiry, InboundId, RouteRefusal, SessionBacklog, Source, SubscriptionOptions, Superseded, Will,
    access::AccessRules,
};
use tidegate_model::{
    ClientId, CredentialId, Message, Payload, Principal, Properties, Qos, Timestamp, TopicFilter,
};
use tidegate_store::{
    Item, Journal, JournalOptions, Position, Seq, TakerId, Transaction,
    record::MessageDecoder,
    simulation::{Fate, SimulatedDisk},
};

use crate::{
    client::{ToClient, ToServer, Version},
    link::{Bell, Link, Subscribing},
    reference::{Facts, Reference, Seen, Taken},
};

/// The key under which each transaction leaves its number, so that it is known how many survived.
const MARK: &[u8] = b"zz";
/// How long a will waits that found no room.
const WILL_RETRY: Duration = Duration::from_secs(1);

/// What a client asks for.
#[derive(Clone, Debug)]
pub(crate) struct Connect {
    pub(crate) version: Version,
    pub(crate) clean_start: bool,
    pub(crate) expiry: Expiry,
    /// The message, its delay and its expiry.
    pub(crate) will: Option<(u64, Duration, Option<Duration>)>,
    pub(crate) receive_maximum: u16,
}

/// The server and its disk, and the model beside it.
pub(crate) struct World {
    pub(crate) now: Timestamp,
    pub(crate) disk: SimulatedDisk,
    journal: Journal<SimulatedDisk>,
    core: Broker,
    pub(crate) limits: BrokerLimits,
    pub(crate) reference: Reference,
    pub(crate) admission: Admission,
    /// Transactions on their way to the disk, each with its number.
    queue: VecDeque<(u64, Transaction)>,
    submitted: u64,
    written: u64,
    durable: u64,
    pub(crate) links: BTreeMap<u64, Link>,
    next_link: u64,
    pub(crate) delivered: u64,
}

/// Small segments, so that there are many.
fn journal_options() -> JournalOptions {
    JournalOptions { segment_bytes: 4 << 10, ..JournalOptions::new(7) }
}

impl World {
    pub(crate) fn new(limits: BrokerLimits) -> Self {
        let disk = SimulatedDisk::new();
        let now = Timestamp::from_unix_millis(1_000_000);
        let (journal, core, _) = open(&disk, &limits, now);
        Self {
            now,
            disk,
            journal,
            core,
            reference: Reference::new(limits.queue_messages),
            limits,
            admission: Admission::Open,
            queue: VecDeque::new(),
            submitted: 0,
            written: 0,
            durable: 0,
            links: BTreeMap::new(),
            next_link: 1,
            delivered: 0,
        }
    }

    /// Sends a transaction on its way. Returns its number, or that of the last one before.
    fn submit(&mut self, transaction: Option<Transaction>) -> (u64, bool) {
        let Some(mut transaction) = transaction else { return (self.submitted, false) };
        self.submitted += 1;
        transaction.put(MARK, &self.submitted.to_be_bytes()).expect("a few bytes fit");
        self.queue.push_back((self.submitted, transaction));
        (self.submitted, true)
    }

    /// Sends transactions on their way, in order. Returns what [`submit`](Self::submit) returns of the last.
    fn submit_all(&mut self, transactions: Vec<Transaction>) -> (u64, bool) {
        let is_any = !transactions.is_empty();
        for transaction in transactions {
            self.submit(Some(transaction));
        }
        (self.submitted, is_any)
    }

    /// How many transactions are on their way.
    pub(crate) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Makes up to `count` transactions durable. Fails when the power goes.
    pub(crate) fn sync(&mut self, count: usize) -> Result<(), ()> {
        let count = count.min(self.queue.len());
        for (number, transaction) in self.queue.drain(..count) {
            self.journal.write([&transaction]);
            self.written = number;
        }
        self.journal.commit().map_err(drop)?;
        self.durable = self.written;
        self.reference.settle(self.durable);
        Ok(())
    }

    /// Cuts the power, starts again, and compares what is there with what must be.
    pub(crate) fn crash(&mut self, fate: Fate, again: Option<Fate>, downtime: Duration) {
        let mut disk = self.disk.power_cut(fate);
        self.now = self.now.saturating_add(downtime);
        if let Some(again) = again {
            // The power goes once more before anything is made durable.
            drop(open(&disk, &self.limits, self.now));
            disk = disk.power_cut(again);
        }
        let (journal, core, survived) = open(&disk, &self.limits, self.now);
        assert!(survived >= self.durable, "{survived} survived, {} were durable", self.durable);
        assert!(survived <= self.submitted, "{survived} survived of {}", self.submitted);
        (self.disk, self.journal, self.core) = (disk, journal, core);
        self.queue.clear();
        (self.submitted, self.written, self.durable) = (survived, survived, survived);
        self.reference.crash(survived, self.now);
        self.links.clear();
        self.delivered = 0;
        for transaction in self.core.end_restore() {
            self.submit(Some(transaction));
        }
        self.sync(usize::MAX).expect("the disk works again");
        self.check_counts();
    }

    /// Compares what the broker says it holds with the model.
    pub(crate) fn check_counts(&self) {
        let summary = self.core.summary();
        let (sessions, subscriptions, retained) = self.reference.counts();
        assert_eq!(summary.sessions, sessions, "sessions");
        assert_eq!(summary.subscriptions, subscriptions, "subscriptions");
        assert_eq!(summary.retained, retained, "retained messages");
        assert_eq!(self.core.counters().delivered, self.delivered, "deliveries");
    }

    /// A client comes. Returns its connection's number.
    pub(crate) fn connect(&mut self, client: usize, wanted: &Connect) -> u64 {
        let number = self.next_link;
        self.next_link += 1;
        let bell = Arc::new(Bell::default());
        let will = wanted.will.map(|(message, delay, expiry)| Will {
            message: self.message(message),
            delay,
            expiry,
        });
        let is_stored = will.as_ref().is_some_and(Will::is_stored);
        let request = ConnectRequest {
            principal: Principal::anonymous(),
            credential: CredentialId::new([1; 16]),
            client_id: ClientId::new(&format!("client-{client}")).unwrap(),
            clean_start: wanted.clean_start,
            expiry: wanted.expiry,
            will,
            receive_maximum: wanted.receive_maximum,
            connection: ConnectionId(number),
            wake: bell.clone(),
        };
        let finds = self.reference.finds_session(client, wanted.clean_start, self.now);
        let outcome = self.core.connect(request, self.now).expect("there is room for it");
        assert_eq!(outcome.session_present, finds, "session present of client {client} (D10)");
        let (token, is_awaited) = self.submit_all(outcome.transactions);
        let expiry = match wanted.expiry {
            Expiry::After(after) => Expiry::After(after.min(self.limits.session_expiry)),
            at_disconnect => at_disconnect,
        };
        assert_eq!(outcome.expiry, expiry);
        let mut needs = self.reference.connect(client, finds, expiry, number, token, self.now);
        if let Some((message, delay, _)) = wanted.will {
            let needed = self.reference.leave_will(client, message, is_stored, delay, token);
            needs = needs.max(needed);
        }
        let receive_maximum = wanted.receive_maximum.clamp(1, self.limits.receive_maximum);
        let mut link = Link::new(client, wanted.version, outcome.attachment, bell, receive_maximum);
        link.reply(
            is_awaited.then_some(token),
            needs,
            ToClient::ConnAck { session_present: finds },
        );
        self.links.insert(number, link);
        self.publish_wills(outcome.wills);
        number
    }

    /// Time passes.
    pub(crate) fn tick(&mut self, after: Duration) {
        self.now = self.now.saturating_add(after);
        let tick = self.core.tick(self.now);
        let (token, _) = self.submit_all(tick.transactions);
        self.reference.tick(token, self.now);
        self.publish_wills(tick.wills);
    }

    fn publish_wills(&mut self, wills: Vec<DueWill>) {
        let numbers: Vec<u64> = wills.iter().map(|will| number_of(&will.message())).collect();
        self.reference.check_due_wills(&numbers);
        for (will, number) in wills.into_iter().zip(numbers) {
            let message = will.message();
            self.reference.messages[number as usize].expires =
                message.properties.as_ref().and_then(|properties| properties.expires);
            let dropped = self.core.counters().dropped_queue_full;
            match self.core.route_will(&will, vec![message], self.admission) {
                Ok(routing) => {
                    self.submit_all(routing.before);
                    let (token, _) = self.submit(routing.transaction);
                    self.reference.end_will(number, token);
                    let taken = self.taken(token, routing.matched, dropped);
                    self.reference.route(number, None, taken);
                }
                Err(RouteRefusal::StorageFull) => {
                    assert!(self.reference.must_be_stored(number, None), "refused for no reason");
                    assert_eq!(self.admission, Admission::Closed);
                    assert!(self.core.postpone_will(will).is_none(), "there is room for it");
                    self.reference.postpone_will(number, self.now.saturating_add(WILL_RETRY));
                }
                Err(refusal) => {
                    assert_eq!(refusal, RouteRefusal::RetainedQuota);
                    assert!(
                        !self.reference.has_retained_room(number, self.limits.retained_messages)
                    );
                    let transaction = self.core.drop_will(&will);
                    let (token, _) = self.submit(Some(transaction));
                    self.reference.end_will(number, token);
                }
            }
        }
    }

    fn taken(&self, token: u64, matched: bool, dropped_before: u64) -> Taken {
        let dropped = self.core.counters().dropped_queue_full - dropped_before;
        Taken { token, admission: self.admission, matched, dropped }
    }

    fn message(&self, number: u64) -> Message {
        let facts: &Facts = &self.reference.messages[number as usize];
        let user = vec![("n".into(), number.to_string().into())];
        let properties = Properties { expires: facts.expires, user, ..Properties::default() };
        Message {
            topic: facts.topic.clone(),
            payload: Payload::bytes(Bytes::from_static(if facts.is_empty {
                b""
            } else {
                &[b'.'; 200]
            })),
            qos: facts.qos,
            retain: facts.retain,
            properties: Some(Arc::new(properties)),
            publisher: Principal::anonymous(),
            arrival: self.now,
        }
    }

    /// The server reads the next packet of a connection. Returns whether there was one it could act on.
    pub(crate) fn read(&mut self, number: u64) -> bool {
        let Some(link) = self.links.get_mut(&number) else { return false };
        if let Some(subscribing) = link.subscribing.take() {
            let is_attached = self.reference.is_attached(self.links[&number].client, number);
            let done = self.go_on_subscribing(number, subscribing);
            assert_eq!(done.is_ok(), is_attached, "connection {number} is the session's, or not");
            if done.is_err() {
                self.leave(number, None);
            }
            return true;
        }
        let Some(packet) = link.stalled.take().or_else(|| link.to_server.pop_front()) else {
            return false;
        };
        if let ToServer::Disconnect(expiry) = packet {
            self.leave(number, Some(expiry));
            return true;
        }
        let is_attached = self.reference.is_attached(self.links[&number].client, number);
        let done = self.handle(number, packet);
        assert_eq!(done.is_ok(), is_attached, "connection {number} is the session's, or not");
        if done.is_err() {
            self.leave(number, None);
        }
        true
    }

    /// The server notices that a connection has ended.
    pub(crate) fn leave(&mut self, number: u64, farewell: Option<Option<Expiry>>) {
        let link = self.links.remove(&number).expect("the connection is there");
        let is_attached = self.reference.is_attached(link.client, number);
        let how = farewell.map_or(Disconnect::Abnormal, |expiry| Disconnect::Normal { expiry });
        let result = self.core.disconnect(link.attachment, how, self.now);
        assert_eq!(result.is_ok(), is_attached);
        let Ok(tick) = result else { return };
        let (token, _) = self.submit_all(tick.transactions);
        let cap = self.limits.session_expiry;
        self.reference.disconnect(link.client, farewell, cap, token, self.now);
        self.publish_wills(tick.wills);
    }

    fn handle(&mut self, number: u64, packet: ToServer) -> Result<(), Superseded> {
        match packet {
            ToServer::Publish { message, packet_id } => self.publish(number, message, packet_id),
            ToServer::Subscribe(filters) => self.subscribe(number, &filters),
            ToServer::Unsubscribe(filters) => self.unsubscribe(number, &filters),
            ToServer::PubRel(packet_id) => self.pubrel(number, packet_id),
            ToServer::PubAck(_) | ToServer::PubRec(_) | ToServer::PubComp(_) => {
                self.acknowledge(number, &packet)
            }
            ToServer::Disconnect(_) => unreachable!("read acts on it"),
        }
    }

    fn publish(
        &mut self,
        number: u64,
        message: u64,
        packet_id: Option<u16>,
    ) -> Result<(), Superseded> {
        let (attachment, client) = self.place(number);
        let qos = self.reference.messages[message as usize].qos;
        let mut source = Source::Session(attachment);
        if let Some(packet_id) = packet_id.filter(|_| qos == Qos::ExactlyOnce) {
            let (known, transaction) = self.core.inbound_id(attachment, packet_id)?;
            let is_known = self.reference.knows_inbound(client, packet_id);
            assert_eq!(
                known == InboundId::Repeated,
                is_known,
                "identifier {packet_id} of {client}"
            );
            if is_known {
                let (token, is_awaited) = self.submit(transaction);
                let needs = self.reference.inbound(client, packet_id, true, token);
                self.reply(number, (token, is_awaited), needs, pub_rec(packet_id, false));
                return Ok(());
            }
            source = Source::ExactlyOnce(attachment, packet_id);
        }
        let (dropped, must_be_stored) = (
            self.core.counters().dropped_queue_full,
            self.reference.must_be_stored(message, Some(client)),
        );
        let routed = self.core.route(vec![self.message(message)], source, self.admission);
        let has_room = self.reference.has_retained_room(message, self.limits.retained_messages);
        let is_closed = self.admission == Admission::Closed;
        let routing = match routed {
            Ok(routing) => routing,
            Err(RouteRefusal::Superseded) => return Err(Superseded),
            Err(refusal) => {
                match refusal {
                    RouteRefusal::StorageFull => assert!(is_closed && must_be_stored),
                    _ => assert!(refusal == RouteRefusal::RetainedQuota && !has_room),
                }
                if !has_room && packet_id.is_some() && self.links[&number].version == Version::V311
                {
                    // It would wait for ever: the connection ends (MQTT 3.1.1, section 3.3.5).
                    self.leave(number, None);
                } else {
                    self.refuse(number, message, packet_id, qos);
                }
                return Ok(());
            }
        };
        assert!(has_room && !(is_closed && must_be_stored), "message {message} was to be refused");
        self.submit_all(routing.before);
        let (token, is_submitted) = self.submit(routing.transaction);
        let taken = self.taken(token, routing.matched, dropped);
        let mut needs = self.reference.route(message, Some(client), taken);
        let Some(packet_id) = packet_id else { return Ok(()) };
        let mut packet = ToClient::PubAck(packet_id);
        if qos == Qos::ExactlyOnce {
            needs = needs.max(self.reference.inbound(client, packet_id, true, token));
            packet = pub_rec(packet_id, false);
        }
        self.reply(number, (token, routing.awaited && is_submitted), needs, packet);
        Ok(())
    }

    /// A message found no room: MQTT 5 has a word for it, a client of 3.1.1 waits (promise D2).
    fn refuse(&mut self, number: u64, message: u64, packet_id: Option<u16>, qos: Qos) {
        let Some(packet_id) = packet_id else { return };
        let link = self.links.get_mut(&number).expect("it has just spoken");
        match (link.version, qos) {
            (Version::V311, _) => {
                link.stalled = Some(ToServer::Publish { message, packet_id: Some(packet_id) });
            }
            (Version::V5, Qos::ExactlyOnce) => link.reply(None, 0, pub_rec(packet_id, true)),
            (Version::V5, _) => link.reply(None, 0, ToClient::PubAck(packet_id)),
        }
    }

    fn pubrel(&mut self, number: u64, packet_id: u16) -> Result<(), Superseded> {
        let (attachment, client) = self.place(number);
        let (known, transaction) = self.core.released(attachment, packet_id)?;
        assert_eq!(known, self.reference.knows_inbound(client, packet_id));
        let submitted = self.submit(transaction);
        let needs = self.reference.inbound(client, packet_id, false, submitted.0);
        self.reply(number, submitted, needs, ToClient::PubComp(packet_id));
        Ok(())
    }

    fn acknowledge(&mut self, number: u64, packet: &ToServer) -> Result<(), Superseded> {
        let (attachment, client) = self.place(number);
        match *packet {
            ToServer::PubAck(packet_id) => {
                let known = self.core.acknowledged(attachment, packet_id)?;
                self.reference.acknowledged(client, packet_id, known);
            }
            ToServer::PubRec(packet_id) => {
                let received = self.core.received(attachment, packet_id)?;
                let known = received.is_some();
                let submitted = self.submit(received.flatten());
                let needs = self.reference.received(client, packet_id, known, submitted.0);
                self.reply(number, submitted, needs, ToClient::PubRel(packet_id));
            }
            ToServer::PubComp(packet_id) => {
                let (known, transaction) = self.core.completed(attachment, packet_id)?;
                let (token, _) = self.submit(transaction);
                self.reference.completed(client, packet_id, known, token);
            }
            _ => unreachable!("no acknowledgement"),
        }
        let link = self.links.get_mut(&number).expect("it has just spoken");
        link.may_have_due = true;
        link.has_progress = true;
        Ok(())
    }

    fn subscribe(
        &mut self,
        number: u64,
        filters: &[(TopicFilter, SubscriptionOptions)],
    ) -> Result<(), Superseded> {
        let (attachment, client) = self.place(number);
        let dropped = self.core.counters().dropped_queue_full;
        let (results, transaction) =
            self.core.subscribe(attachment, filters, self.now, self.admission)?;
        let (token, is_submitted) = self.submit(transaction);
        self.check_dropped(dropped);
        let taken = Taken { token, admission: self.admission, matched: true, dropped: 0 };
        let needs = self.reference.subscribe(client, filters, &results, taken, self.now);
        let awaited = is_submitted.then_some(token);
        self.note_subscribing(number, Subscribing { awaited, needs });
        Ok(())
    }

    /// Does the next visit's share of a SUBSCRIBE.
    fn go_on_subscribing(
        &mut self,
        number: u64,
        subscribing: Subscribing,
    ) -> Result<(), Superseded> {
        let (attachment, _) = self.place(number);
        let dropped = self.core.counters().dropped_queue_full;
        let transaction = self.core.go_on_subscribing(attachment, self.now)?;
        self.check_dropped(dropped);
        let (token, is_submitted) = self.submit(transaction);
        let more = is_submitted.then_some(token);
        let needs = subscribing.needs.max(more.unwrap_or(0));
        self.note_subscribing(number, Subscribing { awaited: more.or(subscribing.awaited), needs });
        Ok(())
    }

    /// Answers a SUBSCRIBE, if no further visit is needed.
    fn note_subscribing(&mut self, number: u64, subscribing: Subscribing) {
        let (attachment, client) = self.place(number);
        let is_done = !self.core.is_subscribing(attachment);
        let link = self.links.get_mut(&number).expect("it has just spoken");
        if is_done {
            let Subscribing { awaited, needs } = subscribing;
            link.reply(awaited, needs, ToClient::Answered);
            self.reference.end_subscribing(client, awaited.unwrap_or(self.submitted));
        } else {
            link.subscribing = Some(subscribing);
        }
    }

    /// Retained messages are dropped only for want of room.
    fn check_dropped(&self, before: u64) {
        let dropped = self.core.counters().dropped_queue_full - before;
        assert!(dropped == 0 || self.reference.has_short_queues(), "{dropped} dropped");
    }

    fn unsubscribe(&mut self, number: u64, filters: &[TopicFilter]) -> Result<(), Superseded> {
        let (attachment, client) = self.place(number);
        let (results, transaction) = self.core.unsubscribe(attachment, filters)?;
        let submitted = self.submit(transaction);
        let needs = self.reference.unsubscribe(client, filters, &results, submitted.0);
        self.reply(number, submitted, needs, ToClient::Answered);
        Ok(())
    }

    fn place(&self, number: u64) -> (tidegate_broker::Attachment, usize) {
        let link = &self.links[&number];
        (link.attachment, link.client)
    }

    fn reply(&mut self, number: u64, submitted: (u64, bool), needs: u64, packet: ToClient) {
        let link = self.links.get_mut(&number).expect("it has just spoken");
        link.reply(submitted.1.then_some(submitted.0), needs, packet);
    }

    /// Sends what may be sent on a connection, and takes up to `most` deliveries from the broker.
    pub(crate) fn write(&mut self, number: u64, most: usize) {
        let (attachment, client) = self.place(number);
        let is_attached = self.reference.is_attached(client, number);
        let link = self.links.get_mut(&number).expect("the caller knows it");
        let needed = link.release_replies(self.durable);
        assert!(needed <= self.durable, "an answer left before {needed} was durable");
        if !link.is_called() || link.holds_back_deliveries() {
            return;
        }
        let window = usize::from(link.receive_maximum);
        let mut due = Vec::new();
        let has_due = self.core.has_due(attachment);
        let Ok(transaction) = self.core.take_due(attachment, self.now, most, &mut due) else {
            assert!(!is_attached, "client {client} has lost its session");
            self.leave(number, None);
            return;
        };
        assert!(is_attached, "connection {number} has lost its session");
        assert!(has_due || due.is_empty(), "something was due, but was not said to be");
        assert!(due.len() <= most, "{} were taken instead of {most}", due.len());
        let (token, is_awaited) = self.submit(transaction);
        let mut packets = Vec::with_capacity(due.len());
        self.delivered += due.len() as u64;
        for due in &due {
            packets.push(self.hand_out(client, number, window, due, token));
        }
        let link = self.links.get_mut(&number).expect("the caller knows it");
        link.may_have_due = !packets.is_empty() || self.core.has_due(attachment);
        if is_awaited {
            link.deliver_behind(token, packets);
        } else {
            let needed = packets.iter().map(|(_, needs)| *needs).max().unwrap_or(0);
            assert!(needed <= self.durable, "a PUBLISH left before {needed} was durable (D7)");
            link.to_client.extend(packets.into_iter().map(|(packet, _)| packet));
        }
    }

    fn hand_out(
        &mut self,
        client: usize,
        link: u64,
        window: usize,
        due: &Due,
        token: u64,
    ) -> (ToClient, u64) {
        match due {
            Due::Release { packet_id } => {
                self.reference.release_again(client, *packet_id);
                (ToClient::PubRel(*packet_id), 0)
            }
            Due::Publish { delivery, packet_id, dup } => {
                let seen = Seen {
                    message: number_of(&delivery.routed.message),
                    qos: delivery.qos,
                    retain: delivery.retain,
                    identifiers: delivery.subscription_ids.iter().map(|id| id.as_u32()).collect(),
                    packet_id: *packet_id,
                    dup: *dup,
                };
                let (entry, needs) =
                    self.reference.hand_out(client, link, window, &seen, token, self.now);
                let packet = ToClient::Publish { entry, qos: seen.qos, packet_id: seen.packet_id };
                (packet, needs)
            }
        }
    }

    /// Stores what the client of a connection has taken.
    pub(crate) fn store_progress(&mut self, number: u64) {
        let (attachment, client) = self.place(number);
        let link = self.links.get_mut(&number).expect("the caller knows it");
        if !std::mem::take(&mut link.has_progress) {
            return;
        }
        if let Some(transaction) = self.core.take_progress(attachment) {
            let (token, _) = self.submit(Some(transaction));
            self.reference.store_progress(client, token);
        }
    }

    /// Carries old records forward and lets old segments go, as the housekeeping does.
    pub(crate) fn keep_house(&mut self, carried_bytes: usize) -> Result<u64, ()> {
        let horizon = self.journal.catalog().horizon(4 << 10);
        let carried = self.core.carry(horizon, carried_bytes);
        for transaction in carried.transactions {
            self.submit(Some(transaction));
        }
        let oldest = self.journal.catalog().segments().first().map(|segment| segment.first_seq);
        let (progress, is_complete) = self.core.take_all_progress();
        let (token, _) = self.submit(progress);
        self.reference.store_all_progress(token);
        let forgotten = oldest.and_then(|oldest| self.core.forget_struck(oldest));
        self.submit(forgotten);
        assert!(is_complete, "little is under way");
        let needed = self.core.first_needed().unwrap_or(self.core.last_seq().next());
        self.sync(usize::MAX)?;
        if needed > Seq::FIRST {
            self.journal.release(needed).map_err(drop)?;
        }
        Ok(carried.records)
    }
}

fn pub_rec(packet_id: u16, is_refused: bool) -> ToClient {
    ToClient::PubRec { packet_id, is_refused }
}

/// Returns which message it is.
fn number_of(message: &Message) -> u64 {
    let properties = message.properties.as_ref().expect("every message has a number");
    properties.user[0].1.parse().expect("it is a number")
}

/// Opens the journal and brings the core back. Returns also how many transactions survived.
fn open(
    disk: &SimulatedDisk,
    limits: &BrokerLimits,
    now: Timestamp,
) -> (Journal<SimulatedDisk>, Broker, u64) {
    let (journal, recovery) = Journal::open(disk.clone(), journal_options()).unwrap();
    let survived = recovery.state.get(MARK).map_or(0, |number| {
        u64::from_be_bytes(number[..].try_into().expect("it was put there as eight bytes"))
    });
    let mut core = Broker::new(limits.clone(), AccessRules::default());
    let state = recovery.state.iter().map(|(key, value)| (&key[..], &value[..]));
    let ordinals = recovery.positions.iter().map(|(taker, position)| (*taker, position.ordinal));
    let (backlogs, errors) = core.recover(state, recovery.next_seq.previous(), ordinals, now);
    assert_eq!(errors, []);
    let mut decoder = MessageDecoder::new();
    let backlogs: HashMap<TakerId, SessionBacklog> =
        backlogs.into_iter().map(|backlog| (backlog.taker, backlog)).collect();
    let mut positions = backlogs.iter().map(|(taker, backlog)| (*taker, backlog.after)).collect();
    let each = |taker, item| match item {
        Item::Record { seq, ordinal, body } => {
            let position = Position { seq, ordinal };
            core.restore(&backlogs[&taker], position, decoder.decode(&body).unwrap());
        }
        damaged @ Item::Damaged { .. } => {
            panic!("a power cut damages nothing that was durable: {taker} {damaged:?}")
        }
    };
    journal.catalog().sweep(&mut positions, each).unwrap();
    (journal, core, survived)
}
