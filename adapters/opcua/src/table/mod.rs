//! What the gateway monitors on a server: subscriptions, items, and nodes that were refused.
//!
//! The table outlives the connection: when a server has kept the subscriptions, they go on.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use opcua::types::{MonitoredItemNotification, StatusCode};
use tidegate_adapter_api::PointReading;
use tidegate_model::{NodeAddress, Origin, Reading, Timestamp};

use crate::{
    deadband::Deadband,
    plan::Wanted,
    sequence::Sequence,
    stretches::{Stretch, Stretches, Why},
    value::{self, Reader, Undecoded},
};

/// Items of one subscription; more open another one of the same rate. Servers allow about as many.
pub(crate) const ITEMS_PER_SUBSCRIPTION: usize = 1_000;

/// A number the gateway gives to a monitored item, with which its values come back.
pub(crate) type ClientHandle = u32;
/// A number the server gives to a subscription.
pub(crate) type SubscriptionId = u32;

/// One monitored node.
#[derive(Debug)]
pub(crate) struct Item {
    /// The node, by lasting address.
    pub(crate) node: NodeAddress,
    /// What its readings are and how it is sampled.
    pub(crate) wanted: Wanted,
    /// Where it is monitored.
    pub(crate) subscription: SubscriptionId,
    /// The server's number for it; `None` until the server has answered.
    pub(crate) monitored: Option<u32>,
    /// The deadband, if the server refused to keep it.
    pub(crate) deadband: Option<Deadband>,
    /// When its last sample came.
    pub(crate) heard: Option<Timestamp>,
}

/// One subscription, as the server granted it.
#[derive(Debug)]
pub(crate) struct Subscription {
    /// The interval that was asked for; items of this rate belong here.
    pub(crate) rate: Duration,
    /// How long it may be silent: keep-alives come more often.
    pub(crate) silence_max: Duration,
    /// Which message comes next.
    pub(crate) sequence: Sequence,
    /// When it was last heard, or there was nobody to listen.
    pub(crate) heard: Instant,
    /// When it was last heard, by the wall clock: until then no data is missing.
    pub(crate) alive: Timestamp,
}

/// Everything monitored on one server.
#[derive(Debug, Default)]
pub(crate) struct Table {
    subscriptions: BTreeMap<SubscriptionId, Subscription>,
    items: HashMap<ClientHandle, Item>,
    refused: BTreeMap<NodeAddress, StatusCode>,
    stretches: Stretches,
    last_handle: ClientHandle,
    generation: u64,
}

/// What has to be asked of the server to get from the table to a plan.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Changes {
    /// Nodes to monitor.
    pub(crate) create: Vec<(NodeAddress, Wanted)>,
    /// Monitored items to delete, by subscription.
    pub(crate) delete: BTreeMap<SubscriptionId, Vec<u32>>,
}

/// What the values of a message became.
#[derive(Debug)]
pub(crate) struct Readings {
    pub(crate) readings: Vec<PointReading>,
    pub(crate) undecoded: Undecodable,
    /// How many of the readings are records of stretches without data.
    pub(crate) stretches: u64,
}

/// Values that could not be read and became bad readings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Undecodable {
    pub(crate) count: u64,
    /// Whether one of them was not laid out as the server says.
    pub(crate) malformed: bool,
}

impl Table {
    /// Compares with a plan; items that only changed their point go on under the new one.
    ///
    /// Items that are no longer wanted, or wanted in another way, leave the table at once. Nodes that were
    /// refused before are not among those to create: see [`retry_refused`](Self::retry_refused).
    pub(crate) fn adopt(
        &mut self,
        mut plan: BTreeMap<NodeAddress, Wanted>,
        generation: u64,
    ) -> Changes {
        let mut changes = Changes::default();
        self.generation = generation;
        self.refused.retain(|node, _| plan.contains_key(node));
        let mut gone = Vec::new();
        for (handle, item) in &mut self.items {
            match plan.remove(&item.node) {
                Some(wanted) if sampled_alike(&wanted, &item.wanted) => item.wanted = wanted,
                Some(wanted) => {
                    changes.create.push((item.node.clone(), wanted));
                    gone.push(*handle);
                }
                None => gone.push(*handle),
            }
        }
        for handle in gone {
            let item = self.remove(handle).expect("the handle was just seen");
            if let Some(monitored) = item.monitored {
                changes.delete.entry(item.subscription).or_default().push(monitored);
            }
        }
        let new = plan.into_iter().filter(|(node, _)| !self.refused.contains_key(node));
        changes.create.extend(new);
        changes.create.sort_by(|ours, theirs| ours.0.cmp(&theirs.0));
        changes
    }

    /// Returns which load of the mappings the points of the items are of.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Puts in an item that is about to be created; its values may come before the server's answer.
    pub(crate) fn insert(&mut self, item: Item) -> ClientHandle {
        // Handles are used once; after 2^32 items the few old ones are long gone.
        loop {
            self.last_handle = self.last_handle.wrapping_add(1).max(1);
            if !self.items.contains_key(&self.last_handle) {
                break;
            }
        }
        self.items.insert(self.last_handle, item);
        self.last_handle
    }

    /// Takes an item out.
    pub(crate) fn remove(&mut self, handle: ClientHandle) -> Option<Item> {
        self.items.remove(&handle)
    }

    /// Returns an item.
    pub(crate) fn item_mut(&mut self, handle: ClientHandle) -> Option<&mut Item> {
        self.items.get_mut(&handle)
    }

    /// Returns the node of an item.
    pub(crate) fn node(&self, handle: ClientHandle) -> Option<&NodeAddress> {
        self.items.get(&handle).map(|item| &item.node)
    }

    /// Notes that the server refused a node.
    pub(crate) fn refuse(&mut self, node: NodeAddress, status: StatusCode) {
        self.refused.insert(node, status);
    }

    /// Forgets which nodes were refused, so that the next plan tries them again; returns them.
    pub(crate) fn retry_refused(&mut self) -> BTreeMap<NodeAddress, StatusCode> {
        std::mem::take(&mut self.refused)
    }

    /// Returns how many nodes are monitored and how many were refused.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.items.len(), self.refused.len())
    }

    /// Returns one of the refused nodes, always the same.
    pub(crate) fn first_refused(&self) -> Option<(&NodeAddress, StatusCode)> {
        self.refused.first_key_value().map(|(node, status)| (node, *status))
    }

    /// Adds a subscription that the server has made.
    pub(crate) fn add_subscription(&mut self, id: SubscriptionId, subscription: Subscription) {
        self.subscriptions.insert(id, subscription);
    }

    /// Takes out a subscription with its items, which the next plan will want anew; `why` there is no data of
    /// them until then.
    pub(crate) fn drop_subscription(&mut self, id: SubscriptionId, why: Why) {
        self.open_stretches(id, why);
        self.subscriptions.remove(&id);
        self.items.retain(|_, item| item.subscription != id);
    }

    /// Takes out items about which the server never answered: the connection broke before.
    pub(crate) fn drop_unconfirmed(&mut self) {
        self.items.retain(|_, item| item.monitored.is_some());
    }

    /// Takes out everything that exists on the server; `why` there is no data until it is made anew.
    pub(crate) fn clear(&mut self, why: Why) {
        for id in self.subscription_ids() {
            self.open_stretches(id, why);
        }
        *self = Self {
            last_handle: self.last_handle,
            generation: self.generation,
            stretches: std::mem::take(&mut self.stretches),
            ..Self::default()
        };
    }

    /// Notes that the server was away while there was no connection.
    pub(crate) fn server_was_down(&mut self) {
        self.stretches.server_was_down();
    }

    /// Notes that data of the subscription is missing since it was last heard: what comes next of each of its
    /// items has the record of a stretch in front of it.
    pub(crate) fn open_stretches(&mut self, id: SubscriptionId, why: Why) {
        let Some(subscription) = self.subscriptions.get(&id) else { return };
        let stretch = Stretch { from: subscription.alive, why };
        let heard = |item: &&Item| item.subscription == id && item.heard.is_some();
        for item in self.items.values().filter(heard) {
            self.stretches.open(&item.node, stretch);
        }
    }

    /// Returns a subscription.
    pub(crate) fn subscription_mut(&mut self, id: SubscriptionId) -> Option<&mut Subscription> {
        self.subscriptions.get_mut(&id)
    }

    /// Returns the numbers of all subscriptions.
    pub(crate) fn subscription_ids(&self) -> Vec<SubscriptionId> {
        self.subscriptions.keys().copied().collect()
    }

    /// Returns a subscription of the given rate with its room for more items.
    pub(crate) fn subscription_with_room(&self, rate: Duration) -> Option<(SubscriptionId, usize)> {
        self.subscriptions.iter().filter(|(_, subscription)| subscription.rate == rate).find_map(
            |(id, _)| {
                let used = self.items.values().filter(|item| item.subscription == *id).count();
                let room = ITEMS_PER_SUBSCRIPTION.saturating_sub(used);
                (room > 0).then_some((*id, room))
            },
        )
    }

    /// Returns the subscription that publishes most often.
    pub(crate) fn fastest_subscription(&self) -> Option<SubscriptionId> {
        self.subscriptions
            .iter()
            .min_by_key(|(_, subscription)| subscription.rate)
            .map(|(id, _)| *id)
    }

    /// Returns when the first subscription will have been silent for too long.
    pub(crate) fn silent_at(&self) -> Option<Instant> {
        self.subscriptions
            .values()
            .map(|subscription| subscription.heard + subscription.silence_max)
            .min()
    }

    /// Returns the subscriptions that have been silent for too long.
    pub(crate) fn silent(&self, now: Instant) -> Vec<SubscriptionId> {
        self.subscriptions
            .iter()
            .filter(|(_, subscription)| subscription.heard + subscription.silence_max <= now)
            .map(|(id, _)| *id)
            .collect()
    }

    /// Counts the silence of all subscriptions from `now`: while nothing was asked, nothing could come.
    pub(crate) fn listen_from(&mut self, now: Instant) {
        for subscription in self.subscriptions.values_mut() {
            subscription.heard = now;
        }
    }

    /// Turns the values of a message into readings; values of items that are gone, or within a deadband the
    /// server did not keep, are left out. In front of a value that ends a stretch without data stands its record.
    pub(crate) fn readings(
        &mut self,
        notifications: Vec<MonitoredItemNotification>,
        reader: Reader<'_>,
        arrival: Timestamp,
        origin: &Origin,
    ) -> Readings {
        let mut readings = Vec::with_capacity(notifications.len());
        let mut undecoded = Undecodable::default();
        let mut stretches = 0;
        for notification in notifications {
            let Some(item) = self.items.get_mut(&notification.client_handle) else { continue };
            let overflowed = notification.value.status().overflow();
            let sample = value::sample(notification.value, reader);
            undecoded.count += u64::from(sample.undecoded.is_some());
            undecoded.malformed |= sample.undecoded == Some(Undecoded::Malformed);
            let before = item.heard.replace(arrival);
            let dropped = before.filter(|_| overflowed);
            let dropped = dropped.map(|from| Stretch { from, why: Why::Dropped });
            if let Some(stretch) = self.stretches.close(&item.node).or(dropped) {
                stretches += 1;
                readings.push(PointReading {
                    point: item.wanted.point,
                    captures: item.wanted.captures.clone(),
                    reading: stretch.record(arrival, item.wanted.unit.clone(), origin.clone()),
                });
            }
            if let Some(deadband) = &mut item.deadband
                && !deadband.passes(&sample.value, sample.status)
            {
                continue;
            }
            let mut reading = Reading::new(sample.value, arrival, origin.clone());
            reading.source_time = sample.time;
            reading.status = sample.status;
            reading.unit.clone_from(&item.wanted.unit);
            readings.push(PointReading {
                point: item.wanted.point,
                captures: item.wanted.captures.clone(),
                reading,
            });
        }
        Readings { readings, undecoded, stretches }
    }
}

/// Whether the monitored item on the server serves both wishes.
fn sampled_alike(ours: &Wanted, theirs: &Wanted) -> bool {
    ours.sampling == theirs.sampling && ours.deadband == theirs.deadband
}

#[cfg(test)]
mod tests;
