//! Values that wait until it is known how their structures are laid out; those of other items go past them.

use std::collections::{HashSet, VecDeque};

use opcua::types::{MonitoredItemNotification, Variant};
use tidegate_adapter_api::{Delivery, Intake, ReadingBatch};
use tidegate_model::{Origin, Timestamp};

use crate::{
    delivery::{Deliveries, MessageKey},
    shared::Shared,
    table::{ClientHandle, Readings},
    value::{self, Reader, Undecoded},
};

/// Messages of which values wait, at most.
const MESSAGES_MAX: usize = 16;

/// Values of messages that are waiting, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Held {
    groups: VecDeque<Group>,
}

/// Those of one message.
#[derive(Debug)]
struct Group {
    message: MessageKey,
    arrival: Timestamp,
    values: Vec<MonitoredItemNotification>,
}

impl Held {
    /// Returns whether the oldest values must be handed on before others can be kept back.
    pub(super) fn is_full(&self) -> bool {
        self.groups.len() >= MESSAGES_MAX
    }

    /// Keeps the values back that must wait, and those behind them of the same items; returns the others.
    pub(super) fn keep_back(
        &mut self,
        message: MessageKey,
        arrival: Timestamp,
        values: Vec<MonitoredItemNotification>,
        must_wait: impl Fn(&MonitoredItemNotification) -> bool,
    ) -> Vec<MonitoredItemNotification> {
        if self.groups.is_empty() && !values.iter().any(&must_wait) {
            return values;
        }
        let earlier = self.groups.iter().flat_map(|group| &group.values);
        let mut items: HashSet<ClientHandle> = earlier.map(|value| value.client_handle).collect();
        let (values, others): (Vec<_>, Vec<_>) = values.into_iter().partition(|value| {
            let waits = items.contains(&value.client_handle) || must_wait(value);
            if waits {
                items.insert(value.client_handle);
            }
            waits
        });
        if !values.is_empty() {
            self.groups.push_back(Group { message, arrival, values });
        }
        others
    }

    /// Returns what the oldest message waits for, if any does.
    pub(super) fn awaited(&self) -> Option<Vec<(Variant, ClientHandle)>> {
        let values = &self.groups.front()?.values;
        let structures = values.iter().filter_map(|notification| {
            let value = notification.value.value.as_ref().filter(|v| value::may_hold_structure(v));
            Some((value?.clone(), notification.client_handle))
        });
        Some(structures.collect())
    }

    /// Hands on the values of the oldest message; those whose layout is not known now are bad. Returns whether
    /// there were any.
    pub(super) fn hand_on_first(
        &mut self,
        shared: &Shared,
        intake: &Intake,
        deliveries: &mut Deliveries,
    ) -> bool {
        let Some(Group { message, arrival, values }) = self.groups.pop_front() else {
            return false;
        };
        deliveries.push_rest(message, batch(shared, intake, arrival, values));
        true
    }

    /// Hands on everything: nothing more will be known of layouts, or the items are about to go.
    pub(crate) fn hand_on(
        &mut self,
        shared: &Shared,
        intake: &Intake,
        deliveries: &mut Deliveries,
    ) {
        while self.hand_on_first(shared, intake, deliveries) {}
    }
}

/// Returns whether nobody has asked yet how a structure in the value is laid out.
pub(super) fn is_unasked(notification: &MonitoredItemNotification, reader: Reader<'_>) -> bool {
    let value = notification.value.value.as_ref().filter(|value| value::may_hold_structure(value));
    value.is_some_and(|value| {
        matches!(value::value(value.clone(), reader), Err(Undecoded::Unasked(_)))
    })
}

/// Turns values that came at `arrival` into readings, and counts what they are.
pub(super) fn batch(
    shared: &Shared,
    intake: &Intake,
    arrival: Timestamp,
    values: Vec<MonitoredItemNotification>,
) -> ReadingBatch {
    let namespaces = shared.namespaces();
    let origin = Origin { adapter: intake.adapter().clone() };
    let mut structures = shared.structures();
    let mut table = shared.table();
    let reader = Reader { namespaces: &namespaces, structures: &structures };
    let Readings { readings, undecoded, stretches } =
        table.readings(values, reader, arrival, &origin);
    let generation = table.generation();
    drop(table);
    shared.counted.stretches.add(stretches);
    shared.counted.values_undecoded.add(undecoded.count);
    if undecoded.malformed {
        structures.doubt();
    }
    ReadingBatch {
        readings,
        generation,
        principal: None,
        delivery: Delivery::Confirmed,
        exchange: None,
    }
}

#[cfg(test)]
mod tests {
    use opcua::types::{DataValue, ExtensionObject};

    use super::*;

    const WAITS: i32 = -1;

    fn notification((client_handle, value): (u32, i32)) -> MonitoredItemNotification {
        let value = match value {
            WAITS => Variant::from(ExtensionObject::null()),
            value => Variant::from(value),
        };
        MonitoredItemNotification { client_handle, value: DataValue::new_now(value) }
    }

    /// Returns the handles of those that go on.
    fn keep_back(held: &mut Held, number: u32, values: &[(u32, i32)]) -> Vec<u32> {
        let values = values.iter().copied().map(notification).collect();
        let must_wait = |notification: &MonitoredItemNotification| {
            matches!(notification.value.value, Some(Variant::ExtensionObject(_)))
        };
        let others = held.keep_back((7, number), Timestamp::from_unix_millis(0), values, must_wait);
        others.iter().map(|notification| notification.client_handle).collect()
    }

    /// main.12: only what needs a layout waits, and what comes behind it of the same item.
    #[test]
    fn main_12_values_of_other_items_go_past() {
        let mut held = Held::default();
        assert_eq!(keep_back(&mut held, 1, &[(1, 10), (2, 20)]), [1, 2]);
        assert!(held.awaited().is_none());
        assert_eq!(keep_back(&mut held, 2, &[(1, WAITS), (2, 21), (1, 11)]), [2]);
        assert_eq!(keep_back(&mut held, 3, &[(2, 22), (1, 12), (3, WAITS)]), [2]);
        assert_eq!(keep_back(&mut held, 4, &[(2, 23)]), [2]);
        let handles = |group: &Group| -> Vec<u32> {
            group.values.iter().map(|notification| notification.client_handle).collect()
        };
        let groups: Vec<_> =
            held.groups.iter().map(|group| (group.message.1, handles(group))).collect();
        assert_eq!(groups, [(2, vec![1, 1]), (3, vec![1, 3])]);
        let awaited = held.awaited().unwrap();
        assert_eq!(awaited.iter().map(|(_, handle)| *handle).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn not_more_messages_wait_than_the_bound_says() {
        let mut held = Held::default();
        for number in 1.. {
            if held.is_full() {
                assert_eq!(held.groups.len(), MESSAGES_MAX);
                break;
            }
            keep_back(&mut held, number, &[(number, WAITS)]);
        }
    }
}
