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
    Subscription { rate, silence_max: 10 * SECOND, sequence: Sequence::new(), heard }
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
            table.insert(Item { node, wanted, subscription: 7, monitored: Some(id), deadband })
        })
        .collect();
    (table, handles)
}

fn read(table: &mut Table, values: &[(ClientHandle, f64)]) -> Vec<(u32, Value, Status)> {
    let notifications = values.iter().map(|(handle, value)| MonitoredItemNotification {
        client_handle: *handle,
        value: DataValue::new_now(*value),
    });
    let origin = Origin { adapter: AdapterName::new("plc7").unwrap() };
    let arrival = Timestamp::from_unix_millis(1);
    let (namespaces, structures) = (Namespaces::of(&[]), Structures::new(&Limits::default()));
    let reader = Reader { namespaces: &namespaces, structures: &structures };
    table
        .readings(notifications.collect(), reader, arrival, &origin)
        .readings
        .into_iter()
        .map(|reading| (reading.point.0, reading.reading.value, reading.reading.status))
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
    table.drop_subscription(7);
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
