//! What is done with a command: looked up, carried out, told.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use parking_lot::RwLock;
use tidegate_adapter_api::{CommandReply, CommandRequest, Outcome, PointId};
use tidegate_broker::Source;
use tidegate_mapping::{Address, CommandTarget, MappingSet};
use tidegate_model::{
    AdapterName, Command, CommandKind, CommandOutcome, Message, OutcomeKind, Payload, Principal,
    Properties, Qos, Timestamp, Topic,
};
use tidegate_store::Transaction;
use tokio::sync::{mpsc, oneshot};

use super::{
    CommandOrder, CommandOrigin,
    history::{self, Begin, History},
    lane::Lane,
    order,
    outcome::tell,
    push,
    turns::Turn,
};
use crate::{
    broker::{BrokerHandle, durable},
    push::{Action, PushDesk},
    store::Completion,
    uplink::OutcomeSender,
};

/// Most bytes of what a command returned that are told, as JSON: an outcome has to fit into one record.
const VALUE_BYTES_MAX: usize = 256 << 10;

/// What every command needs on its way.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) broker: BrokerHandle,
    pub(super) mapping: Arc<RwLock<Arc<MappingSet>>>,
    pub(super) lanes: BTreeMap<AdapterName, Lane>,
    pub(super) uplinks: BTreeMap<String, OutcomeSender>,
    pub(super) history: Arc<History>,
    /// Takes pushes, if there may be any.
    pub(super) push: OnceLock<Arc<PushDesk>>,
}

impl Desk {
    /// Carries out one command when its turn has come, and tells everyone who asked what became of it.
    pub(super) async fn handle(self: Arc<Self>, mut order: CommandOrder, turn: Turn) {
        let nothing = Transaction::new;
        let command = match order.parse() {
            Ok(command) => command,
            Err(refusal) => {
                order.refuse();
                let id = order.id_beside();
                return tell(&self, &order, id.as_ref(), &refusal, nothing());
            }
        };
        let Some(id) = command.id.clone() else {
            order.settle();
            let result = bounded(self.carry_out(&order, command, turn).await);
            return tell(&self, &order, None, &result, nothing());
        };
        // Its id is not used up by `busy`: it is asked for again until there is room.
        if order.comes_again() && !self.has_room(&order) {
            return;
        }
        let noted = order.noted(id);
        let answer = match self.history.begin(&noted, self.broker.clock().unset_wall()) {
            Begin::New => None,
            Begin::Known(earlier) => {
                order.settle();
                Some(earlier)
            }
            Begin::Taken(kind, topic) => {
                order.refuse();
                Some(CommandOutcome::refused(format!(
                    "the id was used for another command in the last 24 hours, on {topic}/{}",
                    order::suffix(kind)
                )))
            }
            Begin::UnderWay => {
                // Whoever asks again is answered no sooner than the id is on disk.
                if self.remember(history::barrier()).await {
                    order.settle();
                }
                return;
            }
            Begin::Full if order.comes_again() => return,
            Begin::Full => {
                order.refuse();
                Some(CommandOutcome::new(OutcomeKind::Busy))
            }
        };
        if let Some(answer) = answer {
            return tell(&self, &order, Some(&noted.id), &answer, nothing());
        }
        // The id is on disk before the device hears of the command, and before the cloud is answered (D27).
        if !self.remember(history::pending(&noted)).await {
            return;
        }
        order.settle();
        let result = bounded(self.carry_out(&order, command, turn).await);
        self.history.finish(&noted, result.clone());
        tell(&self, &order, Some(&noted.id), &result, history::finished(&noted, &result));
    }

    /// Tells the outcome of commands that the end of the last run has cut off: nobody knows it, but whoever
    /// waits must not wait for ever (D27).
    pub(super) fn tell_cut_off(&self) {
        for cut_off in self.history.take_cut_off() {
            let outcome = history::unknown_outcome();
            let order = CommandOrder::cut_off(&cut_off);
            let finished = history::finished(&cut_off, &outcome);
            tell(self, &order, Some(&cut_off.id), &outcome, finished);
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
        command: Command,
        mut turn: Turn,
    ) -> CommandOutcome {
        if command.kind == CommandKind::Call && command.id.is_none() {
            return CommandOutcome::refused(
                "a call needs an `id`, under which it is executed at most once",
            );
        }
        if Action::is_meant_by(order.target()) {
            turn.come().await;
            if self.is_expired(&command) {
                return CommandOutcome::new(OutcomeKind::Expired);
            }
            return push::carry_out(self.push.get(), order, command).await;
        }
        let mapping = Arc::clone(&self.mapping.read());
        let Some(target) = mapping.command_target(order.target()) else {
            turn.come().await;
            if self.is_expired(&command) {
                return CommandOutcome::new(OutcomeKind::Expired);
            }
            return self.hand_to_subscribers(order, order.target());
        };
        let Some(lane) = self.lane(&target) else {
            return CommandOutcome::refused("no adapter carries out commands for this point");
        };
        // Whoever waits for a turn counts, too: a point that hangs holds up no other adapter's commands.
        let Some(_place) = lane.enter() else { return CommandOutcome::new(OutcomeKind::Busy) };
        turn.come().await;
        if self.is_expired(&command) {
            return CommandOutcome::new(OutcomeKind::Expired);
        }
        let remaining = command.expires.saturating_since(self.broker.clock().wall());
        match send_to_adapter(order, lane, mapping.generation(), &target, command) {
            Ok(receiver) => await_reply(receiver, remaining).await,
            Err(outcome) => outcome,
        }
    }

    fn is_expired(&self, command: &Command) -> bool {
        command.expires <= self.broker.clock().wall()
    }

    /// Returns the way to the adapter of a point.
    fn lane(&self, target: &CommandTarget<'_>) -> Option<&Lane> {
        match target.entry.address() {
            Address::OpcUa(address) => self.lanes.get(&address.server),
            _ => None,
        }
    }

    /// Returns whether the adapter of a point takes another command; whatever is no point of one has room.
    fn has_room(&self, order: &CommandOrder) -> bool {
        let mapping = Arc::clone(&self.mapping.read());
        let target = mapping.command_target(order.target());
        target.and_then(|target| self.lane(&target)).is_none_or(Lane::has_room)
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
            let payload = match order.text() {
                Ok(text) => Payload::bytes(text),
                Err(error) => {
                    return CommandOutcome::refused(format!(
                        "the payload cannot be told here: it {error}"
                    ));
                }
            };
            let message = Message {
                topic: command_topic,
                payload,
                qos: Qos::AtLeastOnce,
                retain: false,
                properties: None,
                publisher: order.principal().clone(),
                arrival: self.broker.clock().wall(),
            };
            let sent = self.broker.publish(vec![message], Source::Gateway, || Completion::None);
            if let Err(refusal) = sent {
                return CommandOutcome::refused(refusal.to_string());
            }
        }
        CommandOutcome::new(OutcomeKind::Accepted)
    }
    /// Publishes for local readers.
    pub(super) fn publish(
        &self,
        topic: Topic,
        payload: Vec<u8>,
        properties: Option<Properties>,
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
        let _ = self.broker.publish(vec![message], Source::Gateway, || Completion::None);
    }
}

/// Sends a command to the adapter of its point. Returns where the outcome comes.
fn send_to_adapter(
    order: &CommandOrder,
    lane: &Lane,
    generation: u64,
    target: &CommandTarget<'_>,
    mut command: Command,
) -> Result<oneshot::Receiver<CommandOutcome>, CommandOutcome> {
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
    let (reply, receiver) = CommandReply::pair();
    let request = CommandRequest {
        point: PointId(target.entry.index()),
        generation,
        captures: target.captures.clone(),
        command,
        reply,
    };
    match lane.send(request) {
        Ok(()) => Ok(receiver),
        Err(mpsc::error::TrySendError::Full(_)) => Err(CommandOutcome::new(OutcomeKind::Busy)),
        Err(mpsc::error::TrySendError::Closed(_)) => {
            Err(CommandOutcome::refused("the adapter is not running"))
        }
    }
}

/// Leaves out a returned value that is too large to be told, and says so; cuts a reason that is.
fn bounded(mut outcome: CommandOutcome) -> CommandOutcome {
    if let Some(reason) = &mut outcome.reason {
        reason.truncate(reason.floor_char_boundary(history::REASON_BYTES_MAX));
    }
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
        Ok(Err(_)) => CommandOutcome::refused(
            "the adapter stopped before an answer came; the command may have been carried out",
        ),
        Err(_) => CommandOutcome {
            reason: Some(
                "the device did not answer in time; it may carry it out all the same".into(),
            ),
            ..CommandOutcome::new(OutcomeKind::Expired)
        },
    }
}
