//! Commands: from a message on a command topic, or from a cloud, to a device; and the outcome back.

mod history;
mod order;
mod outcome;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use parking_lot::RwLock;
use tidegate_adapter_api::{CommandReply, CommandRequest, Outcome, PointId};
use tidegate_broker::Source;
use tidegate_mapping::{Address, CommandTarget, MappingSet};
use tidegate_model::{
    AdapterName, CommandKind, CommandOutcome, Message, OutcomeKind, Payload, Principal, Qos,
    Timestamp, Topic,
};
use tidegate_store::Transaction;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

pub use self::{
    history::History,
    order::{CommandOrder, CommandOrigin},
    outcome::outcome_json,
};
use crate::{
    broker::{BrokerHandle, durable},
    uplink::{IncomingCommand, OutcomeSender},
};

/// Most bytes of what a command returned that are told, as JSON: an outcome has to fit into one record.
const VALUE_BYTES_MAX: usize = 256 << 10;
/// Commands that wait to be looked at.
const QUEUE: usize = 256;
/// Commands under way at once.
const UNDER_WAY_MAX: usize = 256;
/// Commands that wait for one adapter; see the table of queues in `ARCHITECTURE.md`.
const PER_ADAPTER: usize = 64;

/// The way in for commands. Cheap to clone.
#[derive(Clone, Debug)]
pub struct CommandQueue(mpsc::Sender<CommandOrder>);

impl CommandQueue {
    /// Hands in a command. Returns whether it was taken; it is not when too many wait.
    pub fn try_send(&self, order: CommandOrder) -> bool {
        self.0.try_send(order).is_ok()
    }
}

/// Carries out commands, a bounded number at a time.
#[derive(Debug)]
pub struct Commander {
    orders: mpsc::Receiver<CommandOrder>,
    from_clouds: mpsc::Receiver<IncomingCommand>,
    desk: Arc<Desk>,
}

/// What every command needs on its way.
#[derive(Debug)]
struct Desk {
    broker: BrokerHandle,
    mapping: Arc<RwLock<Arc<MappingSet>>>,
    adapters: BTreeMap<AdapterName, mpsc::Sender<CommandRequest>>,
    uplinks: BTreeMap<String, OutcomeSender>,
    history: Arc<History>,
}

/// The channels of one adapter's commands.
pub type AdapterCommands = (mpsc::Sender<CommandRequest>, mpsc::Receiver<CommandRequest>);

/// Makes the channel of one adapter's commands.
pub fn adapter_channel() -> AdapterCommands {
    mpsc::channel(PER_ADAPTER)
}

/// Makes the queue of the commands that clouds send.
pub fn cloud_channel() -> (mpsc::Sender<IncomingCommand>, mpsc::Receiver<IncomingCommand>) {
    mpsc::channel(QUEUE)
}

/// Makes the queue of commands and its other end.
pub fn command_channel() -> (CommandQueue, mpsc::Receiver<CommandOrder>) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (CommandQueue(sender), receiver)
}

impl Commander {
    /// Makes the commander behind a queue.
    pub fn new(
        orders: mpsc::Receiver<CommandOrder>,
        from_clouds: mpsc::Receiver<IncomingCommand>,
        broker: BrokerHandle,
        mapping: Arc<RwLock<Arc<MappingSet>>>,
        adapters: BTreeMap<AdapterName, mpsc::Sender<CommandRequest>>,
        uplinks: BTreeMap<String, OutcomeSender>,
        history: Arc<History>,
    ) -> Self {
        Self {
            orders,
            from_clouds,
            desk: Arc::new(Desk { broker, mapping, adapters, uplinks, history }),
        }
    }

    /// Carries out commands until `stop` is cancelled; what is under way then gets one second more.
    ///
    /// May be called again after a panic, which loses what was under way: clouds send it again.
    pub async fn run(&mut self, stop: CancellationToken) {
        let mut under_way = FuturesUnordered::new();
        // After a panic; whoever asks again hears that the outcome is unknown.
        self.desk.history.abandon_under_way();
        self.desk.tell_cut_off();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(()) = under_way.next(), if !under_way.is_empty() => {}
                Some(order) = self.orders.recv(), if under_way.len() < UNDER_WAY_MAX => {
                    under_way.push(Arc::clone(&self.desk).handle(order));
                }
                Some(command) = self.from_clouds.recv(), if under_way.len() < UNDER_WAY_MAX => {
                    let order = CommandOrder::from_cloud(command, self.desk.broker.clock().wall());
                    under_way.push(Arc::clone(&self.desk).handle(order));
                }
                else => break,
            }
        }
        // Devices that do not answer in this second find out by the expiry of the command.
        let drained = async { while under_way.next().await.is_some() {} };
        drop(tokio::time::timeout(Duration::from_secs(1), drained).await);
    }
}

impl Desk {
    /// Carries out one command and tells everyone who asked what became of it.
    async fn handle(self: Arc<Self>, order: CommandOrder) {
        let now = self.broker.clock().wall();
        let mut order = order;
        let command = match order.parse() {
            Ok(command) => command,
            Err(refusal) => {
                order.settle();
                return outcome::tell(&self, &order, None, &refusal);
            }
        };
        let Some(id) = command.id.clone() else {
            order.settle();
            let result = bounded(self.carry_out(&order, command).await);
            return outcome::tell(&self, &order, None, &result);
        };
        match self.history.begin(order.principal(), &id, self.broker.clock().steady()) {
            history::Begin::New => {}
            history::Begin::Known(earlier) => {
                order.settle();
                return outcome::tell(&self, &order, Some(&id), &earlier);
            }
            history::Begin::UnderWay => {
                // Whoever asks again is answered no sooner than the id is on disk.
                if self.remember(history::barrier()).await {
                    order.settle();
                }
                return;
            }
            history::Begin::Full => {
                order.settle();
                let busy = CommandOutcome::new(OutcomeKind::Busy);
                return outcome::tell(&self, &order, Some(&id), &busy);
            }
        }
        // The id is on disk before the device hears of the command, and before the cloud is answered (D27).
        let pending = history::pending(order.principal(), &id, now, command.kind, order.target());
        if !self.remember(pending).await {
            return;
        }
        order.settle();
        let result = bounded(self.carry_out(&order, command).await);
        self.history.finish(order.principal(), &id, result.clone());
        let finished = history::finished(order.principal(), &id, now, &result);
        outcome::tell(&self, &order, Some(&id), &result);
        self.broker.store().submit(finished, crate::store::Completion::None);
    }

    /// Tells the outcome of commands that the end of the last run has cut off: nobody knows it, but whoever
    /// waits must not wait for ever (D27).
    fn tell_cut_off(&self) {
        for cut_off in self.history.take_cut_off() {
            let outcome = history::unknown_outcome();
            let order = CommandOrder::cut_off(&cut_off);
            outcome::tell(self, &order, Some(&cut_off.id), &outcome);
            let finished = history::finished(&cut_off.principal, &cut_off.id, cut_off.at, &outcome);
            self.broker.store().submit(finished, crate::store::Completion::None);
        }
    }

    async fn remember(&self, transaction: Transaction) -> bool {
        let (sender, receipt) = tidegate_adapter_api::Receipt::pair();
        self.broker.store().submit(transaction, durable(sender));
        receipt.await == Outcome::Durable
    }

    async fn carry_out(
        &self,
        order: &CommandOrder,
        command: tidegate_model::Command,
    ) -> CommandOutcome {
        let topic = order.target();
        if command.kind == CommandKind::Call && command.id.is_none() {
            return CommandOutcome::refused(
                "a call needs an `id`, under which it is executed at most once",
            );
        }
        if command.expires <= self.broker.clock().wall() {
            return CommandOutcome::new(OutcomeKind::Expired);
        }
        let mapping = Arc::clone(&self.mapping.read());
        match mapping.command_target(topic) {
            Some(target) => {
                match self.send_to_adapter(order, mapping.generation(), &target, command) {
                    Ok((receiver, remaining)) => await_reply(receiver, remaining).await,
                    Err(outcome) => outcome,
                }
            }
            None => self.hand_to_subscribers(order, topic),
        }
    }

    /// Sends a command to the adapter of its point. Returns where the outcome comes, and how long it may take.
    fn send_to_adapter(
        &self,
        order: &CommandOrder,
        generation: u64,
        target: &CommandTarget<'_>,
        mut command: tidegate_model::Command,
    ) -> Result<(oneshot::Receiver<CommandOutcome>, Duration), CommandOutcome> {
        match command.kind {
            CommandKind::Write => {
                command.value = target
                    .entry
                    .check_command(&command.value, order.principal())
                    .map_err(|refusal| CommandOutcome::refused(refusal.to_string()))?;
            }
            CommandKind::Call => target
                .entry
                .check_call(order.principal())
                .map_err(|refusal| CommandOutcome::refused(refusal.to_string()))?,
        }
        let adapter = match target.entry.address() {
            Address::OpcUa(address) => self.adapters.get(&address.server),
            _ => None,
        };
        let adapter = adapter.ok_or_else(|| {
            CommandOutcome::refused("no adapter carries out commands for this point")
        })?;
        let remaining = command.expires.saturating_since(self.broker.clock().wall());
        let (reply, receiver) = CommandReply::pair();
        let request = CommandRequest {
            point: PointId(target.entry.index()),
            generation,
            captures: target.captures.clone(),
            command,
            reply,
        };
        match adapter.try_send(request) {
            Ok(()) => Ok((receiver, remaining)),
            Err(mpsc::error::TrySendError::Full(_)) => Err(CommandOutcome::new(OutcomeKind::Busy)),
            Err(mpsc::error::TrySendError::Closed(_)) => {
                Err(CommandOutcome::refused("the adapter is not running"))
            }
        }
    }

    /// Hands a command from a cloud to those who subscribed to its topic; local ones have it already.
    fn hand_to_subscribers(&self, order: &CommandOrder, topic: &Topic) -> CommandOutcome {
        let Ok(command_topic) = topic.join(order.suffix()) else {
            return CommandOutcome::refused("the topic is too long");
        };
        if !self.broker.core().has_subscriber(&command_topic) {
            return CommandOutcome::refused(
                "nothing is mapped to this topic, and nobody is subscribed to it",
            );
        }
        if let CommandOrigin::Cloud { .. } = order.origin() {
            let message = Message {
                topic: command_topic,
                payload: Payload::bytes(order.payload().clone()),
                qos: Qos::AtLeastOnce,
                retain: false,
                properties: None,
                publisher: order.principal().clone(),
                arrival: self.broker.clock().wall(),
            };
            let sent = self
                .broker
                .publish(vec![message], Source::Gateway, || crate::store::Completion::None);
            if let Err(refusal) = sent {
                return CommandOutcome::refused(refusal.to_string());
            }
        }
        CommandOutcome::new(OutcomeKind::Accepted)
    }
}

/// Leaves out a returned value that is too large to be told, and says so.
fn bounded(outcome: CommandOutcome) -> CommandOutcome {
    let size = outcome.value.as_ref().map_or(0, history::size);
    if size <= VALUE_BYTES_MAX {
        return outcome;
    }
    let reason = format!("what it returned is left out: {size} bytes, more than {VALUE_BYTES_MAX}");
    CommandOutcome { value: None, reason: Some(reason), ..outcome }
}

async fn await_reply(
    receiver: oneshot::Receiver<CommandOutcome>,
    remaining: Duration,
) -> CommandOutcome {
    match tokio::time::timeout(remaining, receiver).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => CommandOutcome::refused("the adapter stopped before an answer came"),
        Err(_) => CommandOutcome {
            reason: Some("the device did not answer in time".into()),
            ..CommandOutcome::new(OutcomeKind::Expired)
        },
    }
}

impl Desk {
    fn publish(
        &self,
        topic: Topic,
        payload: Vec<u8>,
        properties: Option<tidegate_model::Properties>,
        by: &Principal,
        at: Timestamp,
    ) {
        let message = Message {
            topic,
            payload: Payload::bytes(payload),
            qos: Qos::AtLeastOnce,
            retain: false,
            properties: properties.map(Arc::new),
            publisher: by.clone(),
            arrival: at,
        };
        // An outcome that finds no room is lost for local readers; the history still has it.
        let _ =
            self.broker.publish(vec![message], Source::Gateway, || crate::store::Completion::None);
    }
}
