//! What the three loops of one connection share: the table, the namespaces, counters and wake-up calls.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use opcua::{client::Session, types::DateTime};
use tidegate_adapter_api::{Counter, Counters};
use tokio::sync::Notify;

use crate::{
    namespaces::Namespaces,
    services::{self, ServiceError},
    settings::Limits,
    stretches::Why,
    structures::Structures,
    table::{SubscriptionId, Table},
};

/// How long the deletion of a subscription that is given up anyway may take.
const DELETE_PATIENCE: Duration = Duration::from_secs(5);

/// State of one server that outlives its connections. Locks are held for moments, never across a wait.
#[derive(Debug)]
pub(crate) struct Shared {
    table: Mutex<Table>,
    namespaces: Mutex<Arc<Namespaces>>,
    structures: Mutex<Structures>,
    start: Mutex<Option<DateTime>>,
    /// Called when there is a new subscription to ask for messages.
    pub(crate) subscribed: Notify,
    /// Called when items have to be created again.
    pub(crate) items_wanted: Notify,
    /// What is counted.
    pub(crate) counted: Counted,
}

/// The counters of one server.
#[derive(Debug)]
pub(crate) struct Counted {
    /// Connections that were made again.
    pub(crate) reconnects: Counter,
    /// Subscriptions that a server carried over to a new connection.
    pub(crate) subscriptions_kept: Counter,
    /// Subscriptions that went silent, were closed or missed messages, and were made anew.
    pub(crate) subscriptions_rebuilt: Counter,
    /// Nodes that the server refused to monitor, each time it did.
    pub(crate) nodes_refused: Counter,
    /// Nodes whose deadband the gateway keeps because the server does not.
    pub(crate) deadbands_kept_here: Counter,
    /// Messages that had to be asked for again.
    pub(crate) messages_republished: Counter,
    /// Messages that were lost between server and gateway.
    pub(crate) messages_lost: Counter,
    /// Messages that are larger than the limits allow.
    pub(crate) messages_too_large: Counter,
    /// Messages of which the rest could not be read.
    pub(crate) messages_cut: Counter,
    /// Values the server marked as following others that it dropped.
    pub(crate) values_overflowed: Counter,
    /// Structures whose layout the server did not tell, each time it was asked.
    pub(crate) types_untold: Counter,
    /// Values that could not be read as what the server says they are.
    pub(crate) values_undecoded: Counter,
    /// Records of stretches without data that were handed in.
    pub(crate) stretches: Counter,
    /// Readings that the gateway refused for good.
    pub(crate) readings_refused: Counter,
    /// Times that the flow was paused because readings were not taken.
    pub(crate) pauses: Counter,
}

impl Counted {
    fn new(counters: &Counters) -> Self {
        let counter = |name, reason| counters.counter(name, reason);
        Self {
            reconnects: counter("opcua_connections", "again"),
            subscriptions_kept: counter("opcua_subscriptions", "kept"),
            subscriptions_rebuilt: counter("opcua_subscriptions", "rebuilt"),
            nodes_refused: counter("opcua_nodes", "refused"),
            deadbands_kept_here: counter("opcua_nodes", "deadband-in-gateway"),
            messages_republished: counter("opcua_messages", "republished"),
            messages_lost: counter("opcua_messages", "lost"),
            messages_too_large: counter("opcua_messages", "too-large"),
            messages_cut: counter("opcua_messages", "cut"),
            values_overflowed: counter("opcua_values", "overflowed"),
            types_untold: counter("opcua_types", "untold"),
            values_undecoded: counter("opcua_values", "undecoded"),
            stretches: counter("opcua_gaps", "stretch"),
            readings_refused: counter("opcua_readings", "refused"),
            pauses: counter("opcua_pauses", "intake"),
        }
    }
}

impl Shared {
    pub(crate) fn new(counters: &Counters, limits: &Limits) -> Self {
        Self {
            structures: Mutex::new(Structures::new(limits)),
            table: Mutex::default(),
            namespaces: Mutex::default(),
            start: Mutex::default(),
            subscribed: Notify::new(),
            items_wanted: Notify::new(),
            counted: Counted::new(counters),
        }
    }

    /// Locks the table; a loop that panicked while it held it left whole entries.
    pub(crate) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the namespaces of the running server.
    pub(crate) fn namespaces(&self) -> Arc<Namespaces> {
        Arc::clone(&self.namespaces.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes the namespaces that were read anew.
    pub(crate) fn set_namespaces(&self, namespaces: Namespaces) {
        *self.namespaces.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(namespaces);
    }

    /// Locks what is known of the server's structures.
    pub(crate) fn structures(&self) -> MutexGuard<'_, Structures> {
        self.structures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the time at which the server was started; returns the one of before.
    pub(crate) fn swap_start(&self, start: Option<DateTime>) -> Option<DateTime> {
        std::mem::replace(&mut self.start.lock().unwrap_or_else(PoisonError::into_inner), start)
    }

    /// Gives up a subscription, on the server as well, and has its items created again.
    pub(crate) async fn rebuild(&self, session: &Session, subscription: SubscriptionId) {
        self.counted.subscriptions_rebuilt.increment();
        self.table().drop_subscription(subscription, Why::Dropped);
        // It may be gone already, and the connection too: then there is nothing to delete.
        let deletion = services::delete_subscriptions(session, vec![subscription]);
        let _: Result<Result<(), ServiceError>, _> =
            tokio::time::timeout(DELETE_PATIENCE, deletion).await;
        self.items_wanted.notify_one();
    }
}
