use opcua::types::DataValue;
use tidegate_adapter_api::PointId;
use tidegate_model::{AdapterName, Captures, Status, Value};

use super::*;
use crate::{namespaces::Namespaces, plan::tests::node, settings::Limits, structures::Structures};

const SECOND: Duration = Duration::from_secs(1);

fn wanted(point: u32, deadband: Option<f64>) -> Wanted {
    Wanted {
        point: PointId(point),
        captures: Captures::none(),
        unit: None,
        sampling: Some(SECOND),
        deadband,
    }
}

fn name(text: &str) -> NodeAddress {
    node(&format!("nsu=urn:p;s={text}"))
}

fn plan(entries: &[(&str, u32, Option<f64>)]) -> BTreeMap<NodeAddress, Wanted> {
    entries.iter().map(|(text, point, deadband)| (name(text), wanted(*point, *deadband))).collect()
}

fn subscription(rate: Duration, heard: Instant) -> Subscription {
    Subscription {
        rate,
        silence_max: 10 * SECOND,
        sequence: Sequence::new(),
        heard,
        alive: Timestamp::from_unix_millis(1),
    }
}

/// A table that monitors what `plan` asks for, in subscription 7, with monitored ids from 100.
fn monitoring(plan: BTreeMap<NodeAddress, Wanted>) -> (Table, Vec<ClientHandle>) {
    let mut table = Table::default();
    table.add_subscription(7, subscription(SECOND, Instant::now()));
    let changes = table.adopt(plan, 1);
    let handles = changes
        .create
        .into_iter()
        .zip(100..)
        .map(|((node, wanted), id)| {
            let deadband = wanted.deadband.map(Deadband::new);
            table.insert(Item {
                node,
                wanted,
                subscription: 7,
                monitored: Some(id),
                deadband,
                heard: None,
            })
        })
        .collect();
    (table, handles)
}

fn read(table: &mut Table, values: &[(ClientHandle, f64)]) -> Vec<(u32, Value, Status)> {
    let values: Vec<_> =
        values.iter().map(|(handle, value)| (*handle, DataValue::new_now(*value))).collect();
    read_at(table, values, 1)
        .into_iter()
        .map(|reading| (reading.point.0, reading.reading.value, reading.reading.status))
        .collect()
}

/// Reads values that came so many milliseconds after 1970.
fn read_at(
    table: &mut Table,
    values: Vec<(ClientHandle, DataValue)>,
    arrival: i64,
) -> Vec<PointReading> {
    let notifications = values
        .into_iter()
        .map(|(client_handle, value)| MonitoredItemNotification { client_handle, value });
    let origin = Origin { adapter: AdapterName::new("plc7").unwrap() };
    let arrival = Timestamp::from_unix_millis(arrival);
    let (namespaces, structures) = (Namespaces::of(&[]), Structures::new(&Limits::default()));
    let reader = Reader { namespaces: &namespaces, structures: &structures };
    table.readings(notifications.collect(), reader, arrival, &origin).readings
}

/// Monitors the node `a` in a subscription of its own and returns the handle.
fn monitor_a(table: &mut Table, subscription_id: SubscriptionId, alive: i64) -> ClientHandle {
    let mut fresh = subscription(SECOND, Instant::now());
    fresh.alive = Timestamp::from_unix_millis(alive);
    table.add_subscription(subscription_id, fresh);
    table.insert(Item {
        node: name("a"),
        wanted: wanted(1, None),
        subscription: subscription_id,
        monitored: Some(1),
        deadband: None,
        heard: None,
    })
}

/// What a reading says: the value, or the stretch without data and why.
fn told(readings: &[PointReading]) -> Vec<String> {
    readings
        .iter()
        .map(|PointReading { reading, .. }| match reading.until {
            None => reading.value.to_string(),
            Some(until) => {
                assert_eq!(reading.value, Value::Null);
                let millis = |time: Timestamp| time.as_unix_millis();
                let (from, until) = (millis(reading.time()), millis(until));
                format!("{from}-{until} {}", reading.status)
            }
        })
        .collect()
}

#[test]
fn a_reload_keeps_what_is_sampled_alike() {
    let (mut table, handles) =
        monitoring(plan(&[("a", 1, None), ("b", 2, Some(0.5)), ("c", 3, None)]));
    let next = plan(&[("a", 9, None), ("b", 2, Some(0.7)), ("d", 4, None)]);
    let changes = table.adopt(next, 2);
    let created: Vec<_> = changes.create.iter().map(|(node, _)| node.clone()).collect();
    assert_eq!(created, [name("b"), name("d")]);
    let mut deleted = changes.delete[&7].clone();
    deleted.sort_unstable();
    assert_eq!(deleted, [101, 102]);
    assert_eq!(table.generation(), 2);
    let values = [(handles[0], 1.0), (handles[1], 2.0), (handles[2], 3.0)];
    assert_eq!(read(&mut table, &values), [(9, Value::Double(1.0), Status::GOOD)]);
}

#[test]
fn main_12_a_refused_node_waits_for_its_next_try_and_stops_no_other() {
    let (mut table, handles) = monitoring(plan(&[("a", 1, None), ("b", 2, None)]));
    let item = table.remove(handles[0]).unwrap();
    table.refuse(item.node, StatusCode::BadNodeIdUnknown);
    assert_eq!(table.counts(), (1, 1));
    let both = || plan(&[("a", 1, None), ("b", 2, None)]);
    assert_eq!(table.adopt(both(), 1), Changes::default());
    assert_eq!(read(&mut table, &[(handles[1], 2.0)]).len(), 1);

    assert_eq!(table.retry_refused(), BTreeMap::from([(name("a"), StatusCode::BadNodeIdUnknown)]));
    assert_eq!(table.adopt(both(), 1).create, [(name("a"), wanted(1, None))]);

    table.refuse(name("a"), StatusCode::BadNodeIdUnknown);
    table.adopt(plan(&[("b", 2, None)]), 1);
    assert_eq!(table.counts(), (1, 0), "what nobody wants any more is not refused");
}

#[test]
fn items_of_a_lost_subscription_are_wanted_anew() {
    let entries = [("a", 1, None), ("b", 2, None)];
    let (mut table, handles) = monitoring(plan(&entries));
    table.drop_subscription(7, Why::Network);
    assert!(read(&mut table, &[(handles[0], 1.0)]).is_empty());
    let changes = table.adopt(plan(&entries), 1);
    assert_eq!(changes.create.len(), 2);
    assert!(changes.delete.is_empty());
    let fresh = table.insert(Item {
        node: name("a"),
        wanted: wanted(1, None),
        subscription: 8,
        monitored: None,
        deadband: None,
        heard: None,
    });
    assert!(
        !handles.contains(&fresh),
        "late values of the old item must not be taken for the new one's"
    );
}

#[test]
fn a_deadband_the_server_refused_is_kept_here() {
    let (mut table, handles) = monitoring(plan(&[("a", 1, Some(0.5))]));
    let passed: Vec<_> = [20.0, 20.4, 20.6, 20.7]
        .into_iter()
        .filter(|value| !read(&mut table, &[(handles[0], *value)]).is_empty())
        .collect();
    assert_eq!(passed, [20.0, 20.6]);
}

#[test]
fn rates_have_subscriptions_of_their_own_with_room() {
    let mut table = Table::default();
    let now = Instant::now();
    table.add_subscription(1, subscription(SECOND, now));
    table.add_subscription(2, subscription(SECOND / 4, now));
    assert_eq!(table.subscription_with_room(SECOND), Some((1, ITEMS_PER_SUBSCRIPTION)));
    assert_eq!(table.subscription_with_room(SECOND / 2), None);
    assert_eq!(table.fastest_subscription(), Some(2));
    for number in 0..ITEMS_PER_SUBSCRIPTION {
        table.insert(Item {
            node: name(&number.to_string()),
            wanted: wanted(1, None),
            subscription: 1,
            monitored: None,
            deadband: None,
            heard: None,
        });
    }
    assert_eq!(table.subscription_with_room(SECOND), None);
}

#[test]
fn silence_is_noticed_and_forgiven_while_nothing_was_asked() {
    let mut table = Table::default();
    let start = Instant::now();
    table.add_subscription(1, subscription(SECOND, start));
    table.add_subscription(2, subscription(SECOND, start + SECOND));
    assert_eq!(table.silent_at(), Some(start + 10 * SECOND));
    assert!(table.silent(start + 9 * SECOND).is_empty());
    assert_eq!(table.silent(start + 10 * SECOND), [1]);
    table.listen_from(start + 10 * SECOND);
    assert!(table.silent(start + 19 * SECOND).is_empty());
}

#[test]
fn d25_a_stretch_without_data_is_told_once_before_the_next_value() {
    let value = |number: f64| DataValue::new_now(number);
    let mut table = Table::default();
    let first = monitor_a(&mut table, 1, 10);
    table.drop_subscription(1, Why::Network);
    let second = monitor_a(&mut table, 2, 20);
    // Nothing had come before: nothing is missing.
    assert_eq!(told(&read_at(&mut table, vec![(second, value(1.0))], 30)), ["1.0"]);
    assert!(read_at(&mut table, vec![(first, value(0.0))], 30).is_empty());

    // Two losses without a value between them are one stretch, from the first on, and the server's own.
    table.subscription_mut(2).unwrap().alive = Timestamp::from_unix_millis(40);
    table.clear(Why::Network);
    let third = monitor_a(&mut table, 3, 50);
    table.clear(Why::Network);
    table.server_was_down();
    assert!(read_at(&mut table, vec![(third, value(2.0))], 55).is_empty());
    let fourth = monitor_a(&mut table, 4, 60);
    let values = vec![(fourth, value(3.0)), (fourth, value(4.0))];
    assert_eq!(told(&read_at(&mut table, values, 70)), ["40-70 0x800E0000", "3.0", "4.0"]);
    assert_eq!(told(&read_at(&mut table, vec![(fourth, value(5.0))], 80)), ["5.0"]);
}

#[test]
fn d25_fault_o06_what_the_server_dropped_is_told() {
    let value = |number: f64, status: u32| {
        let mut data = DataValue::new_now(number);
        data.status = Some(StatusCode::from(status));
        data
    };
    let mut table = Table::default();
    let handle = monitor_a(&mut table, 1, 10);
    let read = |table: &mut Table, data, at| told(&read_at(table, vec![(handle, data)], at));
    // An overflow before anything came is none of ours.
    assert_eq!(read(&mut table, value(1.0, 0x480), 20), ["1.0"]);
    assert_eq!(read(&mut table, value(2.0, 0), 30), ["2.0"]);
    assert_eq!(read(&mut table, value(3.0, 0x480), 40), ["30-40 0x809D0000", "3.0"]);
    // Lost messages: since the subscription was last heard, and once.
    table.subscription_mut(1).unwrap().alive = Timestamp::from_unix_millis(45);
    table.open_stretches(1, Why::Dropped);
    table.open_stretches(1, Why::Network);
    assert_eq!(read(&mut table, value(4.0, 0x480), 50), ["45-50 0x809D0000", "4.0"]);
    // A clock that was set back gives no stretch that ends before it begins.
    table.subscription_mut(1).unwrap().alive = Timestamp::from_unix_millis(90);
    table.open_stretches(1, Why::Network);
    assert_eq!(read(&mut table, value(5.0, 0), 60), ["60-60 0x80310000", "5.0"]);
}
