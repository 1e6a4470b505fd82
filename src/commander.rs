//! Commands: from a message on a command topic, or from a cloud, to a device; and the outcome back.

mod desk;
mod history;
mod lane;
mod order;
mod outcome;
mod push;
mod turns;

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use parking_lot::RwLock;
use tidegate_adapter_api::CommandRequest;
use tidegate_mapping::MappingSet;
use tidegate_model::AdapterName;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::{
    desk::Desk,
    lane::{Lane, PER_ADAPTER},
    turns::Turns,
};
pub use self::{
    history::History,
    order::{CommandOrder, CommandOrigin},
    outcome::outcome_json,
};
use crate::{
    broker::BrokerHandle,
    push::{Ending, PushDesk},
    uplink::{IncomingCommand, OutcomeSender},
};

/// Commands that wait to be looked at.
const QUEUE: usize = 256;
/// Commands under way at once, beside those that wait for an adapter.
const UNDER_WAY_MAX: usize = 256;

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
    endings: Option<mpsc::Receiver<Ending>>,
    under_way_max: usize,
    desk: Arc<Desk>,
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
        let lanes: BTreeMap<_, _> =
            adapters.into_iter().map(|(name, commands)| (name, Lane::new(commands))).collect();
        // Adapters that do not answer leave the others their places.
        let under_way_max = UNDER_WAY_MAX + PER_ADAPTER * lanes.len();
        let push = OnceLock::new();
        let desk = Arc::new(Desk { broker, mapping, lanes, uplinks, history, push });
        Self { orders, from_clouds, endings: None, under_way_max, desk }
    }

    /// Takes pushes, too; `endings` yields the ends of trials, to be told to who sent the sets.
    pub fn take_pushes(&mut self, desk: Arc<PushDesk>, endings: mpsc::Receiver<Ending>) {
        self.desk.push.get_or_init(|| desk);
        self.endings = Some(endings);
    }

    /// Carries out commands until `stop` is cancelled; what is under way then gets one second more. Those for
    /// one topic go one after the other, in the order in which they came; those for others do not wait for them.
    ///
    /// May be called again after a panic; the outcome of what was under way is then told to be unknown.
    pub async fn run(&mut self, stop: CancellationToken) {
        let mut under_way = FuturesUnordered::new();
        let mut turns = Turns::default();
        // After a panic; whoever asks again hears that the outcome is unknown.
        self.desk.history.abandon_under_way();
        self.desk.tell_cut_off();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(()) = under_way.next(), if !under_way.is_empty() => {}
                ending = next_ending(&mut self.endings) => self.desk.tell_ending(&ending),
                Some(order) = self.orders.recv(), if under_way.len() < self.under_way_max => {
                    let turn = turns.line_up(order.target());
                    under_way.push(Arc::clone(&self.desk).handle(order, turn));
                }
                Some(command) = self.from_clouds.recv(), if under_way.len() < self.under_way_max => {
                    let order = CommandOrder::from_cloud(command, self.desk.broker.clock().wall());
                    let turn = turns.line_up(order.target());
                    under_way.push(Arc::clone(&self.desk).handle(order, turn));
                }
                else => break,
            }
        }
        // Devices that do not answer in this second find out by the expiry of the command.
        let drained = async { while under_way.next().await.is_some() {} };
        drop(tokio::time::timeout(Duration::from_secs(1), drained).await);
    }
}

/// Waits for the next end of a trial; for ever where there is none. Cancel-safe.
async fn next_ending(endings: &mut Option<mpsc::Receiver<Ending>>) -> Ending {
    match endings {
        Some(endings) => match endings.recv().await {
            Some(ending) => ending,
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
