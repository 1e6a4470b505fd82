//! From readings and publications to messages: mapping, rights, commands, and the receipts back.

mod intake;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use parking_lot::{Mutex, RwLock};
use tidegate_adapter_api::{
    Delivery, Exchange, IntakeSink, Keep, LastMessage, Outcome, PointId, Reach, ReadingBatch,
    RecalledExchange, Receipt, Refusal,
};
use tidegate_broker::{
    DueWill, Source,
    access::{Rights, command_target},
};
use tidegate_mapping::{Applied, Inlet, MappingSet};
use tidegate_model::{
    AdapterName, Captures, Clock, CommandKind, CommandOutcome, Message, Origin, OutcomeKind,
    Payload, Principal, Qos, Topic,
};
use tidegate_store::Transaction;
use tidegate_uplink::bridge;
use tokio::sync::OwnedSemaphorePermit;
use tracing::debug;

use crate::{
    broker::{BrokerHandle, Published, last_message, refuse},
    commander::{CommandOrder, CommandOrigin, CommandQueue, outcome_json},
    exchanges::Exchanges,
    store::Completion,
};

/// How long a sender is asked to wait when too much is under way.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The mappings in force; replaced as a whole by a reload.
pub type SharedMapping = Arc<RwLock<Arc<MappingSet>>>;

/// Where adapters that carry out commands say whether they can now.
pub type Reaches = BTreeMap<AdapterName, Reach>;

/// Takes readings of adapters and publications of clients. Cheap to clone.
#[derive(Clone)]
pub struct Ingest {
    shared: Arc<Shared>,
}

struct Shared {
    broker: BrokerHandle,
    mapping: SharedMapping,
    /// The mappings before the last reload.
    previous: Mutex<Option<Arc<MappingSet>>>,
    commands: CommandQueue,
    reaches: Reaches,
    exchanges: Exchanges,
    counters: IngestCounters,
    /// Where what MQTT clients publish comes in.
    origin: Origin,
}

/// Counts by reason; each rises only.
type Counts = Mutex<BTreeMap<&'static str, u64>>;

/// What never reached the journal.
#[derive(Debug, Default)]
struct IngestCounters {
    /// Refused or dropped before the append: `not-admitted` of the ledger.
    not_admitted: Counts,
    /// Left out by `when` and `transform`.
    left_out: Counts,
    /// Did not fit its mapping: refused, or made bad where nobody waits.
    faults: Counts,
}

impl Ingest {
    /// Makes the stage in front of the broker.
    pub fn new(
        broker: BrokerHandle,
        mapping: SharedMapping,
        commands: CommandQueue,
        exchanges: Exchanges,
        reaches: Reaches,
    ) -> Self {
        let origin = Origin { adapter: AdapterName::new("mqtt").expect("the word is a name") };
        let counters = IngestCounters::default();
        Self {
            shared: Arc::new(Shared {
                broker,
                mapping,
                previous: Mutex::default(),
                commands,
                reaches,
                exchanges,
                counters,
                origin,
            }),
        }
    }

    /// Returns where an adapter says whether it can carry out commands.
    pub fn reach(&self, adapter: &AdapterName) -> Reach {
        self.shared.reaches.get(adapter).cloned().unwrap_or_default()
    }

    /// Returns the broker behind the stage.
    pub fn broker(&self) -> &BrokerHandle {
        &self.shared.broker
    }

    /// Returns what a client without an MQTT session may do.
    pub fn rights(&self, principal: &Principal) -> Arc<Rights> {
        self.shared.broker.core().rules().rights(principal, None)
    }

    /// Returns what whoever published may do: a session's rights may come from its client identifier.
    fn rights_behind(&self, source: Source, publisher: &Principal) -> Arc<Rights> {
        match source {
            Source::Session(attachment) | Source::ExactlyOnce(attachment, _) => {
                let rights = self.shared.broker.core().rights(attachment).cloned();
                rights.unwrap_or_else(|_| self.rights(publisher))
            }
            Source::Gateway => self.rights(publisher),
        }
    }

    /// Counts that the rules deny a principal something, and says so.
    pub fn denied(&self, principal: &Principal) -> Refusal {
        self.shared.broker.core().note_denial(principal);
        Refusal::NotAuthorized
    }

    /// Counts that the rules deny a principal to publish, and says so.
    pub fn denied_publication(&self, principal: &Principal) -> Refusal {
        let refusal = self.denied(principal);
        self.counted(refusal)
    }

    /// Returns what was refused or dropped before the append, by reason.
    pub fn not_admitted(&self) -> BTreeMap<&'static str, u64> {
        self.shared.counters.not_admitted.lock().clone()
    }

    /// Returns what mappings left out, by reason.
    pub fn left_out(&self) -> BTreeMap<&'static str, u64> {
        self.shared.counters.left_out.lock().clone()
    }

    /// Returns what did not fit its mapping, by reason.
    pub fn faults(&self) -> BTreeMap<&'static str, u64> {
        self.shared.counters.faults.lock().clone()
    }

    /// Forgets answered exchanges that can no longer be repeated.
    pub fn forget_exchanges(&self) {
        let broker = &self.shared.broker;
        self.shared.exchanges.forget_expired(broker.clock().unset_wall(), |transaction| {
            broker.store().submit(transaction, Completion::None);
        });
    }

    /// Publishes a client's message, with what mappings make of it, and hands it on if it is a command.
    ///
    /// The rights of the client have been checked. `completion` is called when all of it is durable, if
    /// [`Published::awaited`] says so.
    ///
    /// # Errors
    ///
    /// [`Refusal`]; nothing was kept and `completion` is not called.
    pub fn publish(
        &self,
        message: Message,
        source: Source,
        completion: impl FnOnce() -> Completion,
    ) -> Result<Published, Refusal> {
        self.publish_exchange(message, source, None, completion)
    }

    fn publish_exchange(
        &self,
        message: Message,
        source: Source,
        exchange: Option<&Exchange>,
        completion: impl FnOnce() -> Completion,
    ) -> Result<Published, Refusal> {
        let publisher = message.publisher.clone();
        let prepared = self.prepare(message, || self.rights_behind(source, &publisher));
        let (messages, command) = prepared.map_err(|refusal| self.counted(refusal))?;
        let published = self
            .route(messages, source, exchange, completion)
            .map_err(|refusal| self.counted(refusal))?;
        self.hand_on(command);
        Ok(published)
    }

    /// Publishes a message that a bridge brings, with what mappings make of it. The table that lets it come down is its
    /// right. What has to wait is not counted: it comes again.
    fn publish_bridged(
        &self,
        message: Message,
        durable: Box<dyn FnOnce() + Send>,
    ) -> Result<Published, Refusal> {
        if command_target(&message.topic).is_some() {
            return Err(self.denied_publication(&message.publisher));
        }
        let publisher = message.publisher.clone();
        let (messages, _) = self
            .prepare(message, || self.rights(&publisher))
            .map_err(|refusal| self.counted(refusal))?;
        let completion = move || {
            Completion::call(move |stored| {
                if stored.is_ok() {
                    durable();
                }
            })
        };
        self.route(messages, Source::Gateway, None, completion).map_err(|refusal| match refusal {
            Refusal::Busy { .. } | Refusal::StorageFull => refusal,
            lasting => self.counted(lasting),
        })
    }

    /// Publishes wills whose time has come, checked against the rights that their principals have now.
    pub fn publish_wills(&self, wills: Vec<DueWill>) {
        for will in wills {
            let message = will.message();
            let rights =
                self.shared.broker.core().rules().rights(&will.principal, Some(&will.client_id));
            let prepared = if rights.may_publish(&message.topic) {
                self.prepare(message, || rights)
            } else {
                Err(self.denied(&will.principal))
            };
            match prepared {
                Ok((messages, command)) => match self.shared.broker.publish_will(will, messages) {
                    Ok(()) => self.hand_on(command),
                    Err(refusal) => drop(self.counted(refuse(refusal))),
                },
                Err(refusal) => {
                    self.shared.broker.drop_will(&will);
                    self.counted(refusal);
                }
            }
        }
    }

    /// Returns a message with what mappings make of it, and the command it is.
    fn prepare(
        &self,
        message: Message,
        rights: impl FnOnce() -> Arc<Rights>,
    ) -> Result<(Vec<Message>, Option<CommandOrder>), Refusal> {
        let command = match command_target(&message.topic) {
            Some(_) if message.retain => {
                let reason =
                    "a command cannot be retained: it would be carried out again and again";
                return Err(Refusal::Invalid { reason: reason.into() });
            }
            Some(target) => Some(command_order(target, &message, &rights())),
            None => None,
        };
        let derived = self.derive(&message);
        let mut messages = Vec::with_capacity(1 + derived.len());
        messages.push(message);
        messages.extend(derived);
        Ok((messages, command))
    }

    /// Hands a command on that has been published.
    fn hand_on(&self, command: Option<CommandOrder>) {
        if let Some(order) = command {
            let result = order.target().join(&format!("{}/result", order.suffix()));
            if !self.shared.commands.try_send(order) {
                self.tell_busy(result.ok());
            }
        }
    }

    /// Hands messages to the broker; what names their exchange becomes durable with them.
    fn route(
        &self,
        messages: Vec<Message>,
        source: Source,
        exchange: Option<&Exchange>,
        completion: impl FnOnce() -> Completion,
    ) -> Result<Published, Refusal> {
        let broker = &self.shared.broker;
        let Some(exchange) = exchange else {
            return broker.publish(messages, source, completion).map_err(refuse);
        };
        let all = exchange.keep == Keep::All;
        if all && !broker.store().is_accepting() {
            return Err(Refusal::StorageFull);
        }
        self.shared.exchanges.admit(exchange)?;
        let (now, wall) = (broker.clock().unset_wall(), broker.clock().wall());
        let note = |transaction: &mut Transaction, awaited: bool| {
            let noted = awaited || all;
            if noted {
                self.shared.exchanges.note(exchange, now, wall, transaction);
            }
            noted
        };
        broker.publish_with(messages, source, note, completion).map_err(refuse)
    }

    /// Says that a command was not taken because too many wait.
    fn tell_busy(&self, result: Option<Topic>) {
        self.count(&self.shared.counters.not_admitted, "command-busy");
        let Some(topic) = result else { return };
        let arrival = self.shared.broker.clock().wall();
        let body = outcome_json(None, &CommandOutcome::new(OutcomeKind::Busy), arrival);
        let message = Message {
            topic,
            payload: Payload::bytes(body),
            qos: Qos::AtLeastOnce,
            retain: false,
            properties: None,
            publisher: Principal::anonymous(),
            arrival,
        };
        // If there is no room for this either, the counter has it.
        let _ = self.shared.broker.publish(vec![message], Source::Gateway, || Completion::None);
    }

    /// Does the same as [`publish`](Self::publish) and returns a receipt; the exchange it belongs to, if any,
    /// becomes durable with it.
    pub fn publish_with_receipt(&self, message: Message, exchange: Option<&Exchange>) -> Receipt {
        let mut waiting = None;
        let result = self.publish_exchange(message, Source::Gateway, exchange, || {
            let (sender, receipt) = Receipt::pair();
            waiting = Some(receipt);
            crate::broker::durable(sender)
        });
        match (result, waiting) {
            (Ok(_), Some(receipt)) => receipt,
            (Ok(_), None) => Receipt::ready(Outcome::Accepted),
            (Err(refusal), _) => Receipt::ready(Outcome::Refused(refusal)),
        }
    }

    /// Returns what `[[mqtt]]` mappings make of a message; its output is never their input.
    fn derive(&self, message: &Message) -> Vec<Message> {
        let mapping = Arc::clone(&self.shared.mapping.read());
        let Some((entry, captures)) = mapping.match_mqtt(&message.topic) else {
            return Vec::new();
        };
        let inlet = Inlet {
            arrival: message.arrival,
            clock: Clock::Trusted,
            origin: self.shared.origin.clone(),
        };
        // What is made of a message has come the way of that.
        let properties = bridge::only_path(message.properties.as_deref()).map(Arc::new);
        match entry.apply_mqtt(&captures, &message.payload.to_bytes(), &inlet) {
            Ok(applied) => applied
                .into_iter()
                .filter_map(|applied| {
                    self.to_message(applied, &message.publisher, message.qos, message.retain)
                })
                .map(|made| Message { properties: properties.clone(), ..made })
                .collect(),
            Err(error) => {
                self.count_fault(error.as_str());
                debug!(topic = %message.topic, %error, "A mapping cannot read a payload");
                Vec::new()
            }
        }
    }

    /// Turns what a mapping made into a message; what it left out, spoilt or refused is counted.
    fn to_message(
        &self,
        applied: Applied,
        publisher: &Principal,
        qos: Qos,
        retain: bool,
    ) -> Option<Message> {
        match applied {
            Applied::Message {
                topic,
                reading,
                presentation,
                qos: mapped_qos,
                retain: mapped_retain,
                fault,
            } => {
                if self.is_command(&topic) {
                    return None;
                }
                if let Some(fault) = fault {
                    self.count_fault(fault.as_str());
                    debug!(%topic, error = %fault, "A mapping made a reading bad");
                }
                Some(Message {
                    topic,
                    arrival: reading.arrival,
                    payload: Payload::reading(reading, presentation),
                    qos: mapped_qos.unwrap_or(qos),
                    retain: mapped_retain.unwrap_or(retain),
                    properties: None,
                    publisher: publisher.clone(),
                })
            }
            Applied::LeftOut(why) => {
                self.count(&self.shared.counters.left_out, why.as_str());
                None
            }
            Applied::Refused(fault) => {
                self.count_fault(fault.as_str());
                None
            }
        }
    }

    /// Counts what a mapping makes of a reading on a topic that commands; returns whether it does.
    ///
    /// The last level may come from the peer, through a capture or the name of a member: nobody commands a device
    /// by reporting a value.
    fn is_command(&self, topic: &Topic) -> bool {
        let is_command = command_target(topic).is_some();
        if is_command {
            self.count_fault("command-topic");
        }
        is_command
    }

    fn count_fault(&self, reason: &'static str) {
        self.count(&self.shared.counters.faults, reason);
    }

    fn count(&self, counts: &Counts, reason: &'static str) {
        *counts.lock().entry(reason).or_insert(0) += 1;
    }

    fn counted(&self, refusal: Refusal) -> Refusal {
        let reason = match &refusal {
            Refusal::Busy { .. } => "busy",
            Refusal::StorageFull => "storage-full",
            Refusal::NotAuthorized => "not-authorized",
            Refusal::TooLarge { .. } => "too-large",
            Refusal::RetainedQuota => "retained-quota",
            Refusal::ShuttingDown => "shutting-down",
            _ => "invalid",
        };
        self.count(&self.shared.counters.not_admitted, reason);
        refusal
    }

    /// Puts other mappings in force. What adapters have read by the ones before is still taken by those.
    pub fn set_mapping(&self, mapping: Arc<MappingSet>) {
        let mut previous = self.shared.previous.lock();
        *previous = Some(std::mem::replace(&mut *self.shared.mapping.write(), mapping));
    }

    /// Returns the mappings by which a batch was read.
    fn mapping_of(&self, batch: &ReadingBatch) -> Result<Arc<MappingSet>, Refusal> {
        let mapping = Arc::clone(&self.shared.mapping.read());
        if batch.generation == mapping.generation() {
            return Ok(mapping);
        }
        if batch.principal.is_some() || batch.generation > mapping.generation() {
            // The mappings were reloaded under way; the adapter sees the new points in a moment.
            return Err(Refusal::Busy { retry_after: RETRY_AFTER });
        }
        // What an adapter has read itself does not get newer by waiting, and would hold up all behind it.
        let previous = self.shared.previous.lock().clone();
        previous.filter(|previous| previous.generation() == batch.generation).ok_or_else(|| {
            Refusal::Invalid { reason: "it was read by mappings that are no longer known".into() }
        })
    }

    /// Turns a batch into messages: all of them, or the reason why none.
    fn map(&self, adapter: &AdapterName, batch: ReadingBatch) -> Result<Vec<Message>, Refusal> {
        let mapping = self.mapping_of(&batch)?;
        let publisher = match &batch.principal {
            Some(principal) => principal.clone(),
            None => adapter_principal(adapter),
        };
        let rights = batch.principal.as_ref().map(|principal| self.rights(principal));
        let attended = batch.principal.is_some();
        let mut messages = Vec::with_capacity(batch.readings.len());
        for reading in batch.readings {
            let entry =
                mapping.entry(reading.point.0).ok_or(Refusal::Busy { retry_after: RETRY_AFTER })?;
            let applied = if attended {
                entry.apply(&reading.captures, reading.reading)
            } else {
                entry.apply_unattended(&reading.captures, reading.reading)
            };
            if let Applied::Refused(fault) = &applied {
                self.count_fault(fault.as_str());
                return Err(Refusal::Invalid { reason: fault.to_string() });
            }
            if attended
                && let Applied::Message { topic, .. } = &applied
                && self.is_command(topic)
            {
                return Err(self.denied(&publisher));
            }
            let Some(message) = self.to_message(applied, &publisher, Qos::AtLeastOnce, false)
            else {
                continue;
            };
            if rights.as_ref().is_some_and(|rights| !rights.may_publish(&message.topic)) {
                return Err(self.denied(&publisher));
            }
            messages.push(message);
        }
        Ok(messages)
    }
}

impl IntakeSink for Ingest {
    fn submit(
        &self,
        adapter: &AdapterName,
        batch: ReadingBatch,
        permit: OwnedSemaphorePermit,
    ) -> Receipt {
        let droppable = batch.delivery == Delivery::Unconfirmed;
        if droppable && !self.shared.broker.store().has_room() {
            return Receipt::ready(Outcome::Refused(self.refuse_busy(adapter, &batch)));
        }
        let mut batch = batch;
        let exchange = batch.exchange.take();
        let messages = match self.map(adapter, batch) {
            Ok(messages) if messages.is_empty() && exchange.is_none() => {
                return Receipt::ready(Outcome::Accepted);
            }
            Ok(messages) => messages,
            Err(refusal) => return Receipt::ready(Outcome::Refused(self.counted(refusal))),
        };
        let mut waiting = None;
        let result = self.route(messages, Source::Gateway, exchange.as_ref(), || {
            let (sender, receipt) = Receipt::pair();
            waiting = Some(receipt);
            Completion::call(move |result| {
                drop(permit);
                match result {
                    Ok(()) => sender.resolve(Outcome::Durable),
                    Err(_) => sender.resolve(Outcome::Refused(Refusal::ShuttingDown)),
                }
            })
        });
        match (result, waiting) {
            (Ok(_), Some(receipt)) => receipt,
            (Ok(_), None) => Receipt::ready(Outcome::Accepted),
            (Err(refusal), _) => Receipt::ready(Outcome::Refused(self.counted(refusal))),
        }
    }

    fn recall(&self, keep: Keep) -> Vec<RecalledExchange> {
        self.shared.exchanges.recall(keep, self.shared.broker.clock().unset_wall())
    }

    fn refuse_busy(&self, _: &AdapterName, batch: &ReadingBatch) -> Refusal {
        *self.shared.counters.not_admitted.lock().entry("busy").or_insert(0) +=
            batch.readings.len() as u64;
        Refusal::Busy { retry_after: RETRY_AFTER }
    }

    fn last(
        &self,
        principal: &Principal,
        generation: u64,
        point: PointId,
        captures: &Captures,
    ) -> Result<Option<LastMessage>, Refusal> {
        let mapping = Arc::clone(&self.shared.mapping.read());
        if generation != mapping.generation() {
            return Err(Refusal::Busy { retry_after: RETRY_AFTER });
        }
        let Some(topic) = mapping.entry(point.0).and_then(|entry| entry.topic(captures).ok())
        else {
            return Ok(None);
        };
        if !self.rights(principal).may_receive(&topic) {
            return Err(self.denied(principal));
        }
        Ok(self.shared.broker.core().last(&topic).map(|routed| last_message(routed)))
    }
}

impl fmt::Debug for Ingest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Ingest")
    }
}

/// Returns as whom an adapter publishes what it has read itself.
fn adapter_principal(adapter: &AdapterName) -> Principal {
    Principal::new(&format!("adapter:{adapter}"))
        .expect("an adapter's name has no control characters")
}

/// Makes a command of a message on a command topic.
fn command_order(target: Topic, message: &Message, rights: &Rights) -> CommandOrder {
    let kind = if message.topic.as_str().ends_with("/call") {
        CommandKind::Call
    } else {
        CommandKind::Write
    };
    let response = message.properties.as_ref().and_then(|properties| {
        let topic = properties
            .response_topic
            .clone()
            // The outcome goes where whoever asks could have sent it and reads it, and is no command.
            .filter(|topic| {
                rights.may_receive(topic)
                    && rights.may_publish(topic)
                    && !topic.is_dollar()
                    && command_target(topic).is_none()
            })?;
        Some((topic, properties.correlation_data.clone()))
    });
    let origin = CommandOrigin::Local { response };
    let (payload, publisher) = (message.payload.to_bytes(), message.publisher.clone());
    CommandOrder::new(target, kind, payload, publisher, origin, message.arrival)
}
