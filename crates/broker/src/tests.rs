//! The core with a journal on a simulated disk: what survives a power cut, and what does not.

mod carry;
mod catch_up;
mod counts;
mod packet_ids;
mod promises;
mod recover;
mod resend;
mod rights;
mod shared;
mod shared_model;
mod sys;
mod wills;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tidegate_model::{
    ClientId, CredentialId, Message, Payload, Principal, Qos, Timestamp, Topic, TopicFilter,
};
use tidegate_store::{
    Item, Journal, JournalOptions, Position, TakerId, Transaction,
    record::MessageDecoder,
    simulation::{Fate, SimulatedDisk},
};

use crate::{
    Admission, Attachment, Broker, BrokerLimits, ConnectOutcome, ConnectRequest, ConnectionId,
    Disconnect, Due, DueWill, Expiry, InboundId, RetainHandling, RouteRefusal, Routing,
    SessionBacklog, Source, SubscribeResult, SubscriptionOptions, UplinkRoute, Wake, Will,
    access::AccessRules,
};

#[derive(Default)]
struct Bell(AtomicU64);

impl Wake for Bell {
    fn wake(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

struct House {
    disk: SimulatedDisk,
    journal: Journal<SimulatedDisk>,
    core: Broker,
    now: Timestamp,
    connections: u64,
}

/// Small segments, so that there are many.
fn journal_options() -> JournalOptions {
    JournalOptions { segment_bytes: 16 << 10, ..JournalOptions::new(7) }
}

const HOUR: Duration = Duration::from_secs(3_600);

impl House {
    fn new() -> Self {
        Self::open(
            SimulatedDisk::new(),
            Timestamp::from_unix_millis(1_000_000),
            BrokerLimits::default(),
        )
    }

    fn open(disk: SimulatedDisk, now: Timestamp, limits: BrokerLimits) -> Self {
        Self::open_with(disk, now, limits, AccessRules::default())
    }

    fn open_with(
        disk: SimulatedDisk,
        now: Timestamp,
        limits: BrokerLimits,
        rules: AccessRules,
    ) -> Self {
        let (journal, recovery) = Journal::open(disk.clone(), journal_options()).unwrap();
        let mut core = Broker::new(limits, rules);
        let state = recovery.state.iter().map(|(key, value)| (&key[..], &value[..]));
        let ordinals =
            recovery.positions.iter().map(|(taker, position)| (*taker, position.ordinal));
        let (backlogs, errors) = core.recover(state, recovery.next_seq.previous(), ordinals, now);
        assert_eq!(errors, []);
        let mut decoder = MessageDecoder::new();
        let backlogs: HashMap<TakerId, SessionBacklog> =
            backlogs.into_iter().map(|backlog| (backlog.taker, backlog)).collect();
        let mut positions =
            backlogs.iter().map(|(taker, backlog)| (*taker, backlog.after)).collect();
        let each = |taker, item| match item {
            Item::Record { seq, ordinal, body } => {
                let position = Position { seq, ordinal };
                core.restore(&backlogs[&taker], position, decoder.decode(&body).unwrap());
            }
            Item::Damaged { .. } => panic!("nothing is damaged here"),
        };
        journal.catalog().sweep(&mut positions, each).unwrap();
        let mut house = Self { disk, journal, core, now, connections: 0 };
        for transaction in house.core.end_restore() {
            house.store(Some(transaction));
        }
        house
    }

    /// Everything that was not synced is gone.
    fn cut_power(self) -> Self {
        let disk = self.disk.power_cut(Fate::Dropped);
        Self::open(disk, self.now, BrokerLimits::default())
    }

    fn store(&mut self, transactions: impl IntoIterator<Item = Transaction>) {
        let transactions: Vec<Transaction> = transactions.into_iter().collect();
        self.journal.write(&transactions);
        self.journal.commit().unwrap();
    }

    fn connect(
        &mut self,
        client_id: &str,
        expiry: Expiry,
        clean_start: bool,
        will: Option<Will>,
    ) -> ConnectOutcome {
        let request = self.request(client_id, expiry, clean_start, will);
        let mut outcome = self.core.connect(request, self.now).unwrap();
        self.store(std::mem::take(&mut outcome.transactions));
        outcome
    }

    fn request(
        &mut self,
        client_id: &str,
        expiry: Expiry,
        clean_start: bool,
        will: Option<Will>,
    ) -> ConnectRequest {
        self.connections += 1;
        ConnectRequest {
            principal: Principal::anonymous(),
            credential: CredentialId::new([self.connections as u8; 16]),
            client_id: ClientId::new(client_id).unwrap(),
            clean_start,
            expiry,
            will,
            receive_maximum: 10,
            connection: ConnectionId(self.connections),
            wake: Arc::new(Bell::default()),
        }
    }

    fn subscribe(&mut self, attachment: Attachment, filter: &str, qos: Qos) {
        let filters = [(TopicFilter::new(filter).unwrap(), options(qos))];
        let (results, transaction) =
            self.core.subscribe(attachment, &filters, self.now, Admission::Open).unwrap();
        assert_eq!(results, [SubscribeResult::Granted(qos)]);
        self.store(transaction);
        while self.core.is_subscribing(attachment) {
            let more = self.core.go_on_subscribing(attachment, self.now).unwrap();
            self.store(more);
        }
    }

    fn route(&mut self, messages: Vec<Message>, source: Source) -> Result<Routing, RouteRefusal> {
        let mut routing = self.core.route(messages, source, Admission::Open)?;
        self.store(std::mem::take(&mut routing.before));
        self.store(routing.transaction.take());
        Ok(routing)
    }

    fn publish(&mut self, topic: &str, payload: &str, qos: Qos) -> Routing {
        self.route(vec![message(topic, payload, qos)], Source::Gateway).unwrap()
    }

    /// Takes what is due and returns it in short form: `topic=payload/packet id`.
    fn take(&mut self, attachment: Attachment) -> Vec<String> {
        let mut due = Vec::new();
        let transaction = self.core.take_due(attachment, self.now, 100, &mut due).unwrap();
        self.store(transaction);
        due.iter().map(show).collect()
    }

    fn acknowledge(&mut self, attachment: Attachment, packet_id: u16) {
        assert!(self.core.acknowledged(attachment, packet_id).unwrap());
        let progress = self.core.take_progress(attachment);
        self.store(progress);
    }
}

fn options(qos: Qos) -> SubscriptionOptions {
    SubscriptionOptions {
        qos,
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::Send,
        identifier: None,
    }
}

fn message(topic: &str, payload: &str, qos: Qos) -> Message {
    Message {
        topic: Topic::new(topic).unwrap(),
        payload: Payload::bytes(Bytes::copy_from_slice(payload.as_bytes())),
        qos,
        retain: false,
        properties: None,
        publisher: Principal::anonymous(),
        arrival: Timestamp::default(),
    }
}

fn show(due: &Due) -> String {
    match due {
        Due::Release { packet_id } => format!("release/{packet_id}"),
        Due::Publish { delivery, packet_id, dup } => {
            let payload = delivery.routed.message.payload.to_bytes();
            let payload = String::from_utf8_lossy(&payload).into_owned();
            let id = packet_id.map_or(String::new(), |id| format!("/{id}"));
            let marks = [(*dup, "!"), (delivery.retain, "r")]
                .iter()
                .filter(|(set, _)| *set)
                .map(|(_, mark)| *mark)
                .collect::<String>();
            format!("{}={payload}{id}{marks}", delivery.routed.message.topic)
        }
    }
}

/// main.7, D6: what was not acknowledged comes again after a crash, in order; what was does not.
#[test]
fn a_persistent_session_survives_a_power_cut() {
    let mut house = House::new();
    let attachment = house.connect("a", Expiry::After(HOUR), true, None).attachment;
    house.subscribe(attachment, "hall1/#", Qos::AtLeastOnce);
    for payload in ["1", "2", "3"] {
        assert!(house.publish("hall1/t", payload, Qos::AtLeastOnce).awaited);
    }
    assert_eq!(house.take(attachment), ["hall1/t=1/1", "hall1/t=2/2", "hall1/t=3/3"]);
    house.acknowledge(attachment, 1);
    house.acknowledge(attachment, 3);

    let mut house = house.cut_power();
    let outcome = house.connect("a", Expiry::After(HOUR), false, None);
    assert!(outcome.session_present);
    assert_eq!(house.take(outcome.attachment), ["hall1/t=2/1"]);
    house.publish("hall1/t", "4", Qos::AtLeastOnce);
    assert_eq!(house.take(outcome.attachment), ["hall1/t=4/2"]);
}

/// D9: a clean start ends the old session for good.
#[test]
fn a_clean_start_forgets() {
    let mut house = House::new();
    let attachment = house.connect("a", Expiry::After(HOUR), true, None).attachment;
    house.subscribe(attachment, "#", Qos::AtLeastOnce);
    house.publish("t", "1", Qos::AtLeastOnce);
    let outcome = house.connect("a", Expiry::AtDisconnect, true, None);
    assert!(!outcome.session_present);
    assert_eq!(house.take(outcome.attachment), Vec::<String>::new());
    let mut house = house.cut_power();
    assert!(!house.connect("a", Expiry::After(HOUR), false, None).session_present);
}

/// D3, D4: a packet identifier of quality of service 2 is remembered across a crash until it is released.
#[test]
fn an_exactly_once_publication_is_taken_once() {
    let mut house = House::new();
    let receiver = house.connect("in", Expiry::After(HOUR), true, None).attachment;
    house.subscribe(receiver, "#", Qos::AtLeastOnce);
    let sender = house.connect("out", Expiry::After(HOUR), true, None).attachment;
    let source = Source::ExactlyOnce(sender, 9);
    let routing = house.route(vec![message("t", "1", Qos::ExactlyOnce)], source).unwrap();
    assert!(routing.awaited);

    let mut house = house.cut_power();
    let sender = house.connect("out", Expiry::After(HOUR), false, None).attachment;
    assert_eq!(house.core.inbound_id(sender, 9).unwrap().0, InboundId::Repeated);
    let (known, lost) = house.core.released(sender, 9).unwrap();
    assert!(known && lost.is_some());
    // It is released again before the first release has reached the disk, which it never does.
    let (known, transaction) = house.core.released(sender, 9).unwrap();
    assert!(!known, "it was released");
    house.store(transaction);
    let mut house = house.cut_power();
    let sender = house.connect("out", Expiry::After(HOUR), false, None).attachment;
    assert_eq!(house.core.inbound_id(sender, 9).unwrap().0, InboundId::New);
    let receiver = house.connect("in", Expiry::After(HOUR), false, None).attachment;
    assert_eq!(house.take(receiver), ["t=1/1"]);
}

/// D7: an outgoing exchange of quality of service 2 goes on with the same identifier where it was.
#[test]
fn an_exactly_once_delivery_goes_on_where_it_was() {
    let mut house = House::new();
    let attachment = house.connect("a", Expiry::After(HOUR), true, None).attachment;
    house.subscribe(attachment, "#", Qos::ExactlyOnce);
    for payload in ["1", "2"] {
        house.publish("t", payload, Qos::ExactlyOnce);
    }
    assert_eq!(house.take(attachment), ["t=1/1", "t=2/2"]);
    let transaction = house.core.received(attachment, 1).unwrap().expect("it is in flight");
    house.store(transaction);

    let mut house = house.cut_power();
    let attachment = house.connect("a", Expiry::After(HOUR), false, None).attachment;
    assert_eq!(house.take(attachment), ["release/1", "t=2/2!"]);
    let (known, transaction) = house.core.completed(attachment, 1).unwrap();
    assert!(known);
    house.store(transaction);
    let progress = house.core.take_progress(attachment);
    house.store(progress);
    let mut house = house.cut_power();
    let attachment = house.connect("a", Expiry::After(HOUR), false, None).attachment;
    assert_eq!(house.take(attachment), ["t=2/2!"]);
}

/// D12: the retained message that was acknowledged is there after a crash; an empty one clears the slot.
#[test]
fn retained_messages_survive() {
    let mut house = House::new();
    for (payload, qos) in [("1", Qos::AtLeastOnce), ("2", Qos::AtLeastOnce)] {
        let retained = Message { retain: true, ..message("t", payload, qos) };
        assert!(house.route(vec![retained], Source::Gateway).unwrap().awaited);
    }
    let mut house = house.cut_power();
    let attachment = house.connect("a", Expiry::AtDisconnect, true, None).attachment;
    house.subscribe(attachment, "+", Qos::AtMostOnce);
    assert_eq!(house.take(attachment), ["t=2r"]);
    house
        .route(
            vec![Message { retain: true, ..message("t", "", Qos::AtLeastOnce) }],
            Source::Gateway,
        )
        .unwrap();
    let mut house = house.cut_power();
    assert_eq!(house.core.summary().retained, 0);
    let attachment = house.connect("a", Expiry::AtDisconnect, true, None).attachment;
    house.subscribe(attachment, "+", Qos::AtMostOnce);
    assert_eq!(house.take(attachment), Vec::<String>::new());
}

/// D8: without room, a persistent session gets no new subscription; what it has is confirmed all the same.
#[test]
fn a_full_journal_takes_no_new_subscription() {
    let mut house = House::new();
    let lasting = house.connect("a", Expiry::After(HOUR), true, None).attachment;
    let passing = house.connect("b", Expiry::AtDisconnect, true, None).attachment;
    house.subscribe(lasting, "old", Qos::AtLeastOnce);
    let filters =
        ["old", "new"].map(|filter| (TopicFilter::new(filter).unwrap(), options(Qos::AtLeastOnce)));
    let retained = Message { retain: true, ..message("old", "kept", Qos::AtLeastOnce) };
    house.route(vec![retained], Source::Gateway).unwrap();
    let mut subscribe =
        |who| house.core.subscribe(who, &filters, house.now, Admission::Closed).unwrap();
    let granted = SubscribeResult::Granted(Qos::AtLeastOnce);
    let (results, transaction) = subscribe(lasting);
    assert_eq!(results, [granted, SubscribeResult::QuotaExceeded]);
    assert!(transaction.is_none(), "retained messages are sent without being stored again");
    assert_eq!(subscribe(passing).0, [granted, granted]);
    assert_eq!(house.take(lasting), ["old=kept/1", "old=kept/2r"]);
}

/// A retained message that has expired gives its slot back, in the journal too.
#[test]
fn an_expired_retained_message_is_removed() {
    let mut house = House::new();
    let expires = house.now.saturating_add(Duration::from_secs(10));
    for (topic, expires) in [("short", Some(expires)), ("long", None)] {
        let properties = tidegate_model::Properties { expires, ..Default::default() };
        let retained = Message {
            retain: true,
            properties: Some(Arc::new(properties)),
            ..message(topic, "x", Qos::AtLeastOnce)
        };
        house.route(vec![retained], Source::Gateway).unwrap();
    }
    let tick = house.core.tick(house.now);
    assert!(tick.transactions.is_empty());
    house.now = house.now.saturating_add(Duration::from_secs(10));
    let tick = house.core.tick(house.now);
    house.store(tick.transactions);
    assert_eq!(house.core.summary().retained, 1);
    assert_eq!(house.cut_power().core.summary().retained, 1);
}

/// An acknowledgement of the wrong kind ends nothing.
#[test]
fn a_puback_does_not_end_an_exchange_of_quality_of_service_2() {
    let mut house = House::new();
    let attachment = house.connect("a", Expiry::AtDisconnect, true, None).attachment;
    house.subscribe(attachment, "#", Qos::ExactlyOnce);
    house.publish("t", "1", Qos::AtLeastOnce);
    house.publish("t", "2", Qos::ExactlyOnce);
    assert_eq!(house.take(attachment), ["t=1/1", "t=2/2"]);
    assert!(!house.core.acknowledged(attachment, 2).unwrap());
    assert!(house.core.received(attachment, 1).unwrap().is_none());
    assert!(!house.core.completed(attachment, 1).unwrap().0);
    assert!(house.core.acknowledged(attachment, 1).unwrap());
    assert!(house.core.received(attachment, 2).unwrap().is_some());
    assert!(house.core.completed(attachment, 2).unwrap().0);
}

/// A message that the client cannot be sent is done with at every quality of service, after a crash too.
#[test]
fn what_cannot_be_sent_is_done_with() {
    let mut house = House::new();
    let attachment = house.connect("a", Expiry::After(HOUR), true, None).attachment;
    house.subscribe(attachment, "#", Qos::ExactlyOnce);
    for qos in [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce] {
        house.publish("large", "x", qos);
    }
    house.publish("t", "1", Qos::AtLeastOnce);
    assert_eq!(house.take(attachment), ["large=x", "large=x/1", "large=x/2", "t=1/3"]);
    for packet_id in [None, Some(1), Some(2)] {
        let transaction = house.core.unsendable(attachment, packet_id).unwrap();
        house.store(transaction);
    }
    let progress = house.core.take_progress(attachment);
    house.store(progress);
    let counters = house.core.counters();
    assert_eq!((counters.delivered, counters.dropped_too_large), (1, 3));
    let mut house = house.cut_power();
    let attachment = house.connect("a", Expiry::After(HOUR), false, None).attachment;
    assert_eq!(house.take(attachment), ["t=1/1"]);
}

/// The share of one principal does not use up that of another; a slot changes hands with its message.
#[test]
fn retained_messages_are_bounded_for_each_principal() {
    let limits = BrokerLimits { retained_per_principal: 2, ..BrokerLimits::default() };
    let mut house = House::open(SimulatedDisk::new(), Timestamp::default(), limits);
    let mut retain = |who: &str, topic: &str, payload: &str| {
        let publisher = Principal::new(who).unwrap();
        let retained =
            Message { retain: true, publisher, ..message(topic, payload, Qos::AtLeastOnce) };
        house.route(vec![retained], Source::Gateway).map(drop)
    };
    assert_eq!(retain("a", "t/1", "x"), Ok(()));
    assert_eq!(retain("a", "t/2", "x"), Ok(()));
    assert_eq!(retain("a", "t/3", "x"), Err(RouteRefusal::RetainedQuota));
    assert_eq!(retain("a", "t/2", "y"), Ok(()), "it replaces its own");
    assert_eq!(retain("b", "t/2", "z"), Ok(()), "the slot is another's now");
    assert_eq!(retain("a", "t/3", "x"), Ok(()));
    assert_eq!(retain("b", "t/1", ""), Ok(()), "emptying a slot is always possible");
    assert_eq!(retain("a", "t/4", "x"), Ok(()));
}

/// A second connection takes the session over; the first finds itself superseded and its will is published.
#[test]
fn a_takeover_supersedes_the_first_connection() {
    let mut house = House::new();
    let will = Will {
        message: message("will", "gone", Qos::AtMostOnce),
        delay: Duration::ZERO,
        expiry: None,
    };
    let first = house.connect("a", Expiry::AtDisconnect, true, Some(will)).attachment;
    let second = house.connect("a", Expiry::AtDisconnect, true, None);
    assert_eq!(second.wills.len(), 1);
    let mut due = Vec::new();
    assert!(house.core.take_due(first, house.now, 1, &mut due).is_err());
    assert!(house.core.take_due(second.attachment, house.now, 1, &mut due).is_ok());
}

#[test]
fn a_session_ends_when_its_time_has_passed() {
    let mut house = House::new();
    let attachment = house.connect("a", Expiry::After(HOUR), true, None).attachment;
    house.subscribe(attachment, "#", Qos::AtLeastOnce);
    let tick =
        house.core.disconnect(attachment, Disconnect::Normal { expiry: None }, house.now).unwrap();
    house.store(tick.transactions);
    house.now = house.now.saturating_add(HOUR);
    let tick = house.core.tick(house.now);
    house.store(tick.transactions);
    assert_eq!(house.core.summary().sessions, 0);
    assert!(!house.publish("t", "1", Qos::AtLeastOnce).awaited, "nobody needs it durable any more");
}

#[test]
fn the_window_and_the_queue_are_bounded() {
    let limits = BrokerLimits { queue_messages: 12, ..BrokerLimits::default() };
    let mut house = House::open(SimulatedDisk::new(), Timestamp::default(), limits);
    let attachment = house.connect("a", Expiry::AtDisconnect, true, None).attachment;
    house.subscribe(attachment, "#", Qos::AtLeastOnce);
    for number in 0..20 {
        house.publish("t", &number.to_string(), Qos::AtLeastOnce);
    }
    assert_eq!(house.core.counters().dropped_queue_full, 8);
    assert_eq!(house.take(attachment).len(), 10, "the receive maximum of the client");
    house.acknowledge(attachment, 1);
    assert_eq!(house.take(attachment), ["t=10/11"]);
}

/// Storage that is full refuses what must be durable and passes the rest (promise A4).
#[test]
fn a_full_journal_refuses_what_must_be_durable() {
    let mut house = House::new();
    let taker = house.core.uplink_taker("cloud", &mut Transaction::new());
    house.core.add_uplink(UplinkRoute {
        taker,
        selects: Arc::new(|message| message.topic.as_str().starts_with("up/")),
        refuses: Arc::new(|| false),
        appended: Arc::new(|_, _| {}),
    });
    let mut route = |topic, qos| {
        house.core.route(vec![message(topic, "1", qos)], Source::Gateway, Admission::Closed)
    };
    assert_eq!(route("up/t", Qos::AtLeastOnce).unwrap_err(), RouteRefusal::StorageFull);
    assert!(route("local", Qos::AtLeastOnce).unwrap().transaction.is_none());
    assert!(route("up/t", Qos::AtMostOnce).unwrap().transaction.is_none());
    assert_eq!(house.core.counters().not_admitted, 1);
    assert_eq!(house.core.ordinal(taker), 0, "nothing was numbered");
}

/// Overlapping subscriptions give one delivery, with the highest quality of service.
#[test]
fn overlapping_subscriptions_deliver_once() {
    let mut house = House::new();
    let attachment = house.connect("a", Expiry::AtDisconnect, true, None).attachment;
    house.subscribe(attachment, "a/+", Qos::AtMostOnce);
    house.subscribe(attachment, "a/#", Qos::AtLeastOnce);
    house.publish("a/b", "1", Qos::ExactlyOnce);
    assert_eq!(house.take(attachment), ["a/b=1/1"]);
}

/// Retained messages may fill the transaction of a SUBSCRIBE; the subscriptions in it still fit.
#[test]
fn many_retained_messages_leave_room_for_subscriptions() {
    let mut house = House::new();
    let user: Vec<(Arc<str>, Arc<str>)> = vec![("k".into(), "v".repeat(60_000).into())];
    for number in 0..300 {
        let properties = tidegate_model::Properties { user: user.clone(), ..Default::default() };
        let retained = Message {
            retain: true,
            properties: Some(Arc::new(properties)),
            ..message(&format!("r/{number}"), "x", Qos::AtLeastOnce)
        };
        house.route(vec![retained], Source::Gateway).unwrap();
    }
    let attachment = house.connect("a", Expiry::After(HOUR), true, None).attachment;
    let mut filters = vec![(TopicFilter::new("#").unwrap(), options(Qos::AtLeastOnce))];
    filters.extend((0..20).map(|number| {
        let filter = format!("{number}/{}", "y".repeat(4_000));
        (TopicFilter::new(&filter).unwrap(), options(Qos::AtLeastOnce))
    }));
    let (results, transaction) =
        house.core.subscribe(attachment, &filters, house.now, Admission::Open).unwrap();
    assert!(results.iter().all(|result| *result == SubscribeResult::Granted(Qos::AtLeastOnce)));
    house.store(transaction);
    let mut house = house.cut_power();
    assert!(house.connect("a", Expiry::After(HOUR), false, None).session_present);
    assert_eq!(house.core.summary().subscriptions, 21);
}

/// More sessions may end at once than fit into one transaction.
#[test]
fn many_sessions_may_end_at_once() {
    let mut house = House::new();
    for number in 0..30 {
        let expiry = Expiry::After(Duration::from_secs(1));
        let attachment = house.connect(&format!("c{number}"), expiry, true, None).attachment;
        for filter in 0..200 {
            let filter = format!("{number}/{filter}/{}", "y".repeat(4_000));
            house.subscribe(attachment, &filter, Qos::AtLeastOnce);
        }
        let end = Disconnect::Normal { expiry: None };
        let tick = house.core.disconnect(attachment, end, house.now).unwrap();
        house.store(tick.transactions);
    }
    house.now = house.now.saturating_add(Duration::from_secs(2));
    for _ in 0..30 {
        let tick = house.core.tick(house.now);
        house.store(tick.transactions);
    }
    assert_eq!(house.core.summary().sessions, 0);
    assert_eq!(house.cut_power().core.summary().sessions, 0);
}

/// A client that never acknowledges one message gets a bounded number of those behind it.
#[test]
fn one_message_without_acknowledgement_holds_the_rest_back() {
    let mut house = House::new();
    let attachment = house.connect("a", Expiry::After(HOUR), true, None).attachment;
    house.subscribe(attachment, "#", Qos::AtLeastOnce);
    let mut taken = 0;
    for number in 0..2_000 {
        house.publish("t", &number.to_string(), Qos::AtLeastOnce);
        let due = house.take(attachment);
        taken += due.len();
        if number > 0 && !due.is_empty() {
            let packet_id = due[0].rsplit('/').next().unwrap().parse().unwrap();
            house.acknowledge(attachment, packet_id);
        }
    }
    assert_eq!(taken, 1_025);
    house.acknowledge(attachment, 1);
    assert!(house.core.has_due(attachment), "the oldest is done, the rest may go");
}

/// D7: a message of quality of service 2 whose packet identifier is free is done for good.
#[test]
fn a_completed_delivery_never_comes_again() {
    let mut house = House::new();
    let attachment = house.connect("a", Expiry::After(HOUR), true, None).attachment;
    house.subscribe(attachment, "#", Qos::ExactlyOnce);
    house.publish("t", "once", Qos::ExactlyOnce);
    assert_eq!(house.take(attachment), ["t=once/1"]);
    let released = house.core.received(attachment, 1).unwrap().unwrap();
    house.store(released);
    let (_, completed) = house.core.completed(attachment, 1).unwrap();
    house.store(completed);
    // The power goes before the lazy storing of progress.
    let mut house = house.cut_power();
    let attachment = house.connect("a", Expiry::After(HOUR), false, None).attachment;
    assert_eq!(house.take(attachment), [""; 0]);
}

/// An array may take more room in the journal than as JSON: it is refused in time.
#[test]
fn a_value_too_large_for_a_record_is_refused() {
    use tidegate_model::{AdapterName, Origin, Presentation, Reading, Value};
    let mut house = House::new();
    let attachment = house.connect("a", Expiry::After(HOUR), true, None).attachment;
    house.subscribe(attachment, "#", Qos::AtLeastOnce);
    let array = Value::Array(vec![Value::Double(1.5); 250_000].into());
    let origin = Origin { adapter: AdapterName::new("http").unwrap() };
    let reading = Reading::new(array, house.now, origin);
    let large = Message {
        payload: Payload::reading(reading, Presentation::Envelope),
        ..message("t", "", Qos::AtLeastOnce)
    };
    assert!(matches!(house.route(vec![large], Source::Gateway), Err(RouteRefusal::TooLarge)));
}

/// The table of last values is bounded in bytes too.
#[test]
fn large_last_values_make_room_for_each_other() {
    let mut house = House::new();
    for number in 0..100 {
        house.publish(&format!("t/{number}"), &"x".repeat(1_000_000), Qos::AtMostOnce);
    }
    let all = TopicFilter::new("#").unwrap();
    assert_eq!(house.core.list(&all, None, 1_000).len(), 16);
    assert!(house.core.last(&Topic::new("t/99").unwrap()).is_some());
}

/// identity.4, M15: connections of principals that are gone are cut, and nothing more comes from them.
#[test]
fn fault_m15_principals_that_are_gone_are_expelled() {
    let mut house = House::new();
    let now = house.now;
    let will =
        |delay| Will { message: message("t", "gone", Qos::AtLeastOnce), delay, expiry: None };
    let stays = house.connect("stays", Expiry::AtDisconnect, true, None).attachment;
    let principal = house.core.principal(stays).unwrap().clone();
    let waits = house.connect("waits", Expiry::After(HOUR), true, Some(will(HOUR))).attachment;
    house.core.expel(|known, _| *known == principal, now);
    assert!(house.core.principal(stays).is_ok() && house.core.principal(waits).is_ok());

    let goes = house.connect("goes", Expiry::AtDisconnect, true, Some(will(Duration::ZERO)));
    let cut = house.connect("cut", Expiry::After(HOUR), true, Some(will(HOUR))).attachment;
    house.core.disconnect(cut, Disconnect::Abnormal, now).unwrap();
    let transaction = house.core.expel(|_, _| false, now);
    house.store(transaction);
    for attachment in [stays, waits, goes.attachment] {
        assert!(house.core.principal(attachment).is_err());
    }
    assert_eq!(house.core.summary().sessions, 2, "those that outlive their connections");
    let later = now.saturating_add(HOUR).saturating_add(HOUR);
    assert!(house.core.tick(later).wills.is_empty());
    let mut house = house.cut_power();
    assert!(house.core.tick(later).wills.is_empty(), "nor after a restart");
}

/// C8, M15: a connection is cut without a will when its credential is withdrawn; what others of the same principal left
/// behind stays.
#[test]
fn fault_m15_credentials_that_are_gone_are_expelled() {
    let mut house = House::new();
    let now = house.now;
    let will =
        |delay| Will { message: message("t", "gone", Qos::AtLeastOnce), delay, expiry: None };
    let stays = house.connect("stays", Expiry::AtDisconnect, true, None).attachment;
    let good = CredentialId::new([house.connections as u8; 16]);
    let goes = house.connect("goes", Expiry::After(HOUR), true, Some(will(Duration::ZERO)));
    let left = house.connect("left", Expiry::After(HOUR), true, Some(will(HOUR))).attachment;
    house.core.disconnect(left, Disconnect::Abnormal, now).unwrap();
    let keeps = |_: &Principal, credential: Option<CredentialId>| {
        credential.is_none_or(|credential| credential == good)
    };
    let transaction = house.core.expel(keeps, now);
    house.store(transaction);
    assert!(house.core.principal(stays).is_ok());
    assert!(house.core.principal(goes.attachment).is_err());
    let later = now.saturating_add(HOUR);
    let wills = house.core.tick(later).wills;
    assert_eq!(wills.len(), 1, "of the one that had left before");
}
