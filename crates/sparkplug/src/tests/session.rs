//! The session: section 6 of the specification's digest, item by item.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use tidegate_model::{Status, Timestamp, Value};

use super::rig::{Rig, Seen, T0, bd_seq, kinds, seqs, settings, with_host};
use crate::{
    DeviceRule, Event, Kept, Limits, Memory, Metric, MetricValue, Payload, PropertyValue, Row,
    Settings, StateVersion,
};

/// Checklist 2: the will; bdSeq in will and birth alike, 0 after 255, and beyond a restart.
#[test]
fn bd_seq_pairs_will_and_births() {
    let mut kept: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    for connection in 0..258_u64 {
        let entries = kept.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
        let memory = Memory::open(entries, &[]);
        let mut rig = Rig::begin(settings(), memory);
        let Kept { name, value } = rig.session.kept_first().unwrap();
        kept.insert(name, value.unwrap());
        let will = rig.session.will();
        assert_eq!(will.topic, "spBv1.0/g/NDEATH/e");
        let will = Payload::decode(will.payload.into(), Limits::OWN).unwrap();
        let expected = Some(MetricValue::Long(connection % 256));
        assert_eq!((bd_seq(&will), will.seq), (expected.clone(), None));
        rig.session.handle_subscribed(rig.now);
        assert_eq!(bd_seq(&rig.published()[0].payload), expected);
        rig.pass(Duration::from_secs(60));
        rig.ask_rebirth();
        assert_eq!(bd_seq(&rig.published()[0].payload), expected);
        // The clean end (checklist 9).
        rig.session.close(rig.now);
        let last = rig.published();
        assert_eq!(kinds(&last), ["NDEATH/e"]);
        assert_eq!((bd_seq(&last[0].payload), last[0].payload.seq), (expected, None));
    }
}

/// Checklist 3: one counter for all messages, from 0 at the birth, 0 after 255; none in deaths of the node.
#[test]
fn messages_are_counted_over_node_and_devices() {
    let mut rig = Rig::begin(settings(), Memory::new());
    rig.session.handle_subscribed(rig.now);
    let mut seen = rig.published();
    rig.pass(Duration::from_secs(2));
    rig.row("h/a/t", 1.0);
    rig.row("free", 1.0);
    seen.extend(rig.flush());
    for number in 0..400_u32 {
        rig.pass(Duration::from_millis(10));
        rig.row(if number % 3 == 0 { "free" } else { "h/a/t" }, number.into());
        seen.extend(rig.flush());
    }
    let mut expected = 0;
    for seen in &seen {
        if seen.topic.contains("NBIRTH") {
            expected = 0;
        }
        assert_eq!(seen.payload.seq, Some(expected), "{}", seen.topic);
        expected = (expected + 1) % 256;
    }
    assert!(seen.len() > 400);
    rig.session.close(rig.now);
    assert_eq!(seqs(&rig.published()), [None]);
}

/// Checklist 4: no data before the last birth; births have every metric that is sent later; what is new makes a birth.
#[test]
fn births_come_first_and_have_every_metric() {
    let mut rig = Rig::begin(settings(), Memory::new());
    // They wait for the birth of the node.
    let first = rig.row("h/a/t", 20.0);
    let free = rig.row("free", 1.0);
    assert!(rig.flush().is_empty());
    rig.session.handle_subscribed(rig.now);
    assert_eq!(kinds(&rig.published()), ["NBIRTH/e"]);
    rig.pass(Duration::from_secs(2));
    let births = rig.flush();
    assert_eq!(kinds(&births), ["NBIRTH/e", "DBIRTH/e/a"]);
    assert_eq!((&births[0].tickets, &births[1].tickets), (&vec![free], &vec![first]));
    let named = births[1].payload.metrics[0].clone();
    assert_eq!((named.name.as_deref(), named.datatype), (Some("t"), Some(10)));
    assert_eq!(named.value, Some(MetricValue::Double(20.0)));

    rig.pass(Duration::from_secs(2));
    rig.row("h/a/t", 21.0);
    rig.row("h/a/p", 5.0);
    rig.row("h/a/p", 6.0);
    rig.row("h/b/t", 7.0);
    let seen = rig.flush();
    assert_eq!(kinds(&seen), ["DBIRTH/e/a", "DBIRTH/e/b", "DDATA/e/a"]);
    assert_eq!(seen[0].payload.metrics.len(), 2);
    // The birth says what was before the data behind it.
    assert_eq!(seen[0].payload.metrics[0].value, Some(MetricValue::Double(20.0)));
    let values: Vec<_> =
        seen[2].payload.metrics.iter().map(|it| it.value.clone().unwrap()).collect();
    assert_eq!(values, [MetricValue::Double(21.0), MetricValue::Double(6.0)]);
    // Every reading is carried once.
    let mut tickets: Vec<u16> = seen.iter().flat_map(|seen| seen.tickets.clone()).collect();
    tickets.sort_unstable();
    assert_eq!(tickets, [3, 4, 5, 6]);
}

/// Births that readings bring about are a second apart, and what needs them waits in order.
#[test]
fn births_of_a_device_are_paced() {
    let mut rig = Rig::online(settings());
    rig.row("h/a/t", 1.0);
    assert_eq!(kinds(&rig.flush()), ["DBIRTH/e/a"]);
    rig.row("h/a/t", 2.0);
    for metric in 0..50 {
        rig.row(&format!("h/a/m{metric}"), 2.0);
    }
    assert_eq!(kinds(&rig.flush()), ["DDATA/e/a"], "the first new one waits, with those behind");
    assert_eq!(rig.session.waiting(), 50);
    let due = rig.session.poll_timeout().unwrap();
    assert_eq!(due, rig.now.elapsed + Duration::from_secs(1));
    rig.pass(Duration::from_secs(1));
    let seen = rig.published();
    assert_eq!(kinds(&seen), ["DBIRTH/e/a"]);
    assert_eq!((seen[0].payload.metrics.len(), seen[0].tickets.len()), (51, 50));
}

/// A value of another type makes a birth; integers among doubles do not; who changes too often is text.
#[test]
fn types_change_by_births_alone() {
    let mut rig = Rig::online(settings());
    let row = |rig: &mut Rig, value| {
        rig.pass(Duration::from_secs(2));
        let millis = i64::try_from(rig.now.unix_ms).unwrap() - T0;
        rig.row_at("h/a/t", value, millis, false);
        let seen = rig.flush();
        assert_eq!(seen.len(), 1);
        let metric = seen[0].payload.metrics[0].clone();
        (seen[0].topic.contains("BIRTH"), metric.datatype, metric.value.unwrap())
    };
    let text = |text: &str| MetricValue::String(text.into());
    #[rustfmt::skip]
    let cases = [
        (Value::Integer(21),    (true,  Some(4),    MetricValue::Long(21))),
        (Value::Double(21.5),   (true,  Some(10),   MetricValue::Double(21.5))),
        (Value::Integer(22),    (false, None,       MetricValue::Double(22.0))),
        (Value::string("off"),  (true,  Some(12),   text("off"))),
        (Value::Double(23.5),   (true,  Some(12),   text("23.5"))),
        (Value::Boolean(true),  (false, None,       text("true"))),
    ];
    for (value, expected) in cases {
        assert_eq!(row(&mut rig, value.clone()), expected, "{value:?}");
    }
}

/// Checklist 5: a rebirth has the same bdSeq and all births; requests in quick succession cause one, and none is lost.
#[test]
fn a_rebirth_is_done_once() {
    let mut rig = Rig::online(settings());
    rig.row("h/a/t", 1.0);
    rig.row("h/b/t", 2.0);
    rig.flush();
    rig.pass(Duration::from_secs(10));
    rig.row("h/a/t", 3.0);
    rig.ask_rebirth();
    let seen = rig.published();
    assert_eq!(kinds(&seen), ["NBIRTH/e", "DBIRTH/e/a", "DBIRTH/e/b"]);
    assert_eq!(seqs(&seen), [Some(0), Some(1), Some(2)]);
    assert_eq!(bd_seq(&seen[0].payload), Some(MetricValue::Long(0)));
    // Births tell what is; the waiting reading goes on behind them.
    let seen = rig.flush();
    assert_eq!((kinds(&seen), seqs(&seen)), (vec!["DDATA/e/a"], vec![Some(3)]));
    // A request soon after is answered when the pause is over, once; until then the host has no data.
    rig.pass(Duration::from_secs(1));
    rig.ask_rebirth();
    rig.row("h/a/t", 4.0);
    rig.ask_rebirth();
    assert!(rig.flush().is_empty());
    let due = rig.session.poll_timeout().unwrap();
    assert_eq!(due, rig.now.elapsed + Duration::from_secs(4));
    rig.pass(Duration::from_millis(3_999));
    assert!(rig.flush().is_empty());
    rig.pass(Duration::from_millis(1));
    let seen = rig.published();
    assert_eq!(kinds(&seen), ["NBIRTH/e", "DBIRTH/e/a", "DBIRTH/e/b", "DDATA/e/a"]);
    assert_eq!(seqs(&seen), [Some(0), Some(1), Some(2), Some(3)]);
    rig.pass(Duration::from_secs(20));
    assert!(rig.flush().is_empty(), "every request is answered");
    rig.ask_rebirth();
    assert_eq!(rig.published().len(), 3);
}

/// Checklist 6: nothing before the primary host is there; what is older than what it said is nothing.
#[test]
fn the_primary_host_is_waited_for() {
    let mut rig = Rig::begin(with_host(), Memory::new());
    assert_eq!(
        rig.session.subscriptions(),
        ["spBv1.0/g/NCMD/e", "spBv1.0/g/DCMD/e/+", "spBv1.0/STATE/scada"]
    );
    rig.session.handle_subscribed(rig.now);
    rig.row("h/a/t", 1.0);
    assert!(rig.flush().is_empty());
    rig.state(false, 50);
    assert_eq!(rig.events(), [Event::HostAway]);
    rig.state(true, 100);
    let events = rig.events();
    assert!(matches!(events.as_slice(), [Event::Publish(_), Event::Ready]), "{events:?}");
    assert_eq!(kinds(&rig.flush()), ["DBIRTH/e/a"]);
    rig.state(false, 99);
    assert!(rig.published().is_empty(), "an older STATE is nothing");
    rig.state(false, 100);
    let events = rig.events();
    let [Event::Publish(death), Event::HostLost] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!(death.topic, "spBv1.0/g/NDEATH/e");
    rig.row("h/a/t", 2.0);
    assert!(rig.flush().is_empty(), "nothing comes behind the death");

    // The next connection waits again, and knows what is old.
    let mut rig = Rig::begin(with_host(), rig.session.into_memory());
    rig.session.handle_subscribed(rig.now);
    rig.state(true, 99);
    assert!(rig.published().is_empty());
    rig.state(true, 100);
    assert_eq!(kinds(&rig.published()), ["NBIRTH/e", "DBIRTH/e/a"]);

    // At another server the host has been since another time.
    let mut rig = Rig::begin_at(1, with_host(), rig.session.into_memory());
    rig.session.handle_subscribed(rig.now);
    rig.state(true, 60);
    assert_eq!(kinds(&rig.published()), ["NBIRTH/e", "DBIRTH/e/a"]);
}

/// tck-id-message-flow-edge-node-birth-publish-phid-wait-timestamp: being there is not believed if it was said before it
/// was said that it is not.
#[test]
fn an_older_online_state_is_nothing() {
    let mut rig = Rig::begin(with_host(), Memory::new());
    rig.session.handle_subscribed(rig.now);
    rig.state(false, 200);
    rig.state(true, 150);
    assert!(rig.published().is_empty());
    rig.state(true, 200);
    assert_eq!(kinds(&rig.published()), ["NBIRTH/e"]);
}

/// Checklist 6: the broker may send the host's STATE before it answers the subscription.
#[test]
fn a_state_before_the_answer_counts() {
    let mut rig = Rig::begin(with_host(), Memory::new());
    rig.state(true, 100);
    assert!(rig.published().is_empty());
    rig.session.handle_subscribed(rig.now);
    assert_eq!(kinds(&rig.published()), ["NBIRTH/e"]);
}

/// Checklist 6: hosts of 2.2 say it in words.
#[test]
fn hosts_of_2_2_are_heard() {
    let mut rig = Rig::begin(Settings { state: StateVersion::V2, ..with_host() }, Memory::new());
    rig.session.handle_subscribed(rig.now);
    rig.session.handle_message("STATE/scada", Bytes::from_static(b"ONLINE"), rig.now);
    assert_eq!(kinds(&rig.published()), ["NBIRTH/e"]);
    rig.session.handle_message("STATE/scada", Bytes::from_static(b"OFFLINE"), rig.now);
    assert_eq!(kinds(&rig.published()), ["NDEATH/e"]);
}

/// Checklist 7: history is marked, keeps its times, comes behind the births, and is not what is announced as present.
#[test]
fn history_is_marked_and_followed_by_what_is_now() {
    let mut rig = Rig::online(settings());
    for millis in [-3_000, -2_000] {
        rig.row_at("h/a/t", Value::Double(1.0), millis, true);
    }
    let seen = rig.flush();
    assert_eq!(kinds(&seen), ["DBIRTH/e/a", "DDATA/e/a"]);
    let birth = &seen[0].payload.metrics[0];
    assert_eq!(birth.is_null, Some(true));
    assert_eq!(birth.timestamp.unwrap().cast_signed() - T0, -3_000, "no later than what follows");
    assert!(seen[0].tickets.is_empty());
    let times = |seen: &Seen| {
        let metrics = seen.payload.metrics.iter();
        let times = metrics.map(|it| (it.timestamp.unwrap().cast_signed() - T0, it.is_historical));
        times.collect::<Vec<_>>()
    };
    assert_eq!(times(&seen[1]), [(-3_000, Some(true)), (-2_000, Some(true))]);
    // When no more of it comes, hosts are told the present value.
    rig.pass(Duration::from_secs(2));
    let seen = rig.published();
    assert_eq!(kinds(&seen), ["DBIRTH/e/a"]);
    assert_eq!(times(&seen[0]), [(-2_000, None)]);
    // Live data goes between; what comes out of order is history.
    rig.row_at("h/a/t", Value::Double(5.0), 3_000, false);
    rig.row_at("h/a/t", Value::Double(4.0), 1_000, true);
    rig.row_at("h/a/t", Value::Double(6.0), 4_000, false);
    let seen = rig.flush();
    assert_eq!(times(&seen[0]), [(3_000, None), (1_000, Some(true)), (4_000, None)]);
    rig.row_at("h/a/t", Value::Double(6.0), 3_500, false);
    rig.row_at("h/a/t", Value::Double(7.0), 5_000, false);
    rig.row_at("h/a/t", Value::Double(8.0), 4_500, false);
    let expected = [(3_500, Some(true)), (5_000, None), (4_500, Some(true))];
    assert_eq!(times(&rig.flush()[0]), expected);
    rig.pass(Duration::from_secs(10));
    assert!(rig.published().is_empty(), "the host knows the newest value");
}

/// Checklist 8: aliases are of one metric of all devices; the node's own metrics have none; data has nothing else.
#[test]
fn aliases_are_unique_and_stand_alone_in_data() {
    for aliases in [true, false] {
        let mut rig = Rig::online(Settings { aliases, ..settings() });
        let topics = ["h/a/t", "h/a/p", "h/b/t", "free"];
        for topic in topics {
            rig.row(topic, 1.0);
        }
        let births = rig.flush();
        let all = births.iter().flat_map(|seen| &seen.payload.metrics);
        let mut numbers: Vec<u64> = all.clone().filter_map(|metric| metric.alias).collect();
        let own =
            all.filter(|it| it.name.as_deref().is_some_and(|it| it == "bdSeq" || it.contains('/')));
        assert_eq!(own.map(|it| it.alias).collect::<Vec<_>>(), [None, None]);
        numbers.sort_unstable();
        assert_eq!(numbers, if aliases { vec![1, 2, 3, 4] } else { vec![] });
        rig.pass(Duration::from_secs(1));
        for topic in topics {
            rig.row(topic, 2.0);
        }
        for metric in rig.flush().iter().flat_map(|seen| &seen.payload.metrics) {
            assert_eq!((metric.alias.is_some(), metric.name.is_some()), (aliases, !aliases));
            assert_eq!(metric.datatype, None);
        }
    }
}

/// After a restart births have every metric, with what it last was, as stale; numbers stand for the same names.
#[test]
fn metrics_outlive_a_restart() {
    let mut rig = Rig::online(settings());
    for number in 0..100 {
        rig.row(&format!("h/a/m{number}"), number.into());
    }
    rig.row("free", 7.0);
    let before = rig.flush();
    let kept = rig.session.take_kept(true);
    assert!(rig.session.take_kept(true).is_empty(), "nothing has changed since");
    rig.pass(Duration::from_secs(1));
    rig.row("h/a/m5", 8.0);
    rig.flush();
    assert!(rig.session.take_kept(false).is_empty(), "a value alone waits for its time");
    assert_eq!(rig.session.take_kept(true).len(), 1);
    let open = |devices: Vec<DeviceRule>| {
        let entries = kept.iter().map(|kept| (&*kept.name, kept.value.as_deref().unwrap()));
        let memory = Memory::open(entries, &devices);
        assert!(!memory.is_damaged());
        let mut rig = Rig::begin(Settings { devices, ..settings() }, memory);
        rig.session.handle_subscribed(rig.now);
        rig.published()
    };
    let after = open(settings().devices);
    assert_eq!(kinds(&after), kinds(&before));
    for (before, after) in before.iter().zip(&after) {
        for (before, after) in before.payload.metrics.iter().zip(&after.payload.metrics).skip(2) {
            assert_eq!((&before.name, before.alias), (&after.name, after.alias));
            assert_eq!((&before.value, before.timestamp), (&after.value, after.timestamp));
            let quality = after.properties.as_ref().and_then(|set| set.get("Quality"));
            assert_eq!(quality.unwrap().value, Some(PropertyValue::Int(500)));
        }
    }
    // Other rules than before: other devices, the same metrics.
    let elsewhere = open(vec![DeviceRule::new("h/{d}/{m}", "x-{d}", "{m}").unwrap()]);
    assert_eq!(kinds(&elsewhere), ["NBIRTH/e", "DBIRTH/e/x-a"]);
    let alike = open(vec![DeviceRule::new("h/{d}/{m}", "{d}", "same").unwrap()]);
    assert_eq!(alike[1].payload.metrics.len(), 1);
}

/// What cannot be read is forgotten, the rest and the number of the session are not; readings go on.
#[test]
fn unreadable_metrics_are_forgotten() {
    let mut rig = Rig::online(settings());
    for number in 0..100 {
        rig.row(&format!("h/a/m{number}"), number.into());
    }
    rig.flush();
    let mut kept: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    for Kept { name, value } in rig.session.take_kept(true) {
        kept.insert(name, value.unwrap());
    }
    kept.insert(b"bdseq".to_vec(), vec![7]);
    kept.insert(b"m\0\0".to_vec(), vec![0xff]);
    let entries = kept.iter().map(|(name, value)| (&**name, &**value));
    let memory = Memory::open(entries, &settings().devices);
    assert!(memory.is_damaged());
    let mut rig = Rig::begin(settings(), memory);
    assert_eq!(rig.session.kept_first().unwrap().value, Some(vec![8]));
    rig.session.handle_subscribed(rig.now);
    assert_eq!(rig.published()[1].payload.metrics.len(), 36);
    rig.pass(Duration::from_secs(2));
    rig.row("h/a/m0", 1.0);
    let seen = rig.flush();
    assert_eq!(seen[0].payload.metrics.len(), 37);
    let mut aliases: Vec<_> = seen[0].payload.metrics.iter().map(|it| it.alias).collect();
    aliases.sort_unstable();
    aliases.dedup();
    assert_eq!(aliases.len(), 37);
    // What is kept now replaces all of it.
    for Kept { name, value } in rig.session.take_kept(true) {
        match value {
            Some(value) => drop(kept.insert(name, value)),
            None => drop(kept.remove(&name)),
        }
    }
    let entries = kept.iter().map(|(name, value)| (&**name, &**value));
    let memory = Memory::open(entries, &settings().devices);
    assert!(!memory.is_damaged());
    let mut rig = Rig::begin(settings(), memory);
    rig.session.handle_subscribed(rig.now);
    assert_eq!(rig.published()[1].payload.metrics.len(), 37);
}

/// A device from which nothing comes is said to be dead, and born again with its next reading.
#[test]
fn silent_devices_die_and_come_back() {
    let silence = Some(Duration::from_secs(60));
    let mut rig = Rig::online(Settings { silence, ..settings() });
    rig.row("h/a/t", 1.0);
    rig.row("h/b/t", 1.0);
    rig.flush();
    for _ in 0..8 {
        rig.pass(Duration::from_secs(10));
        rig.row("h/b/t", 2.0);
        rig.session.flush(rig.now);
    }
    let seen = rig.published();
    let deaths: Vec<&Seen> = seen.iter().filter(|seen| seen.topic.contains("DEATH")).collect();
    assert_eq!(deaths.len(), 1);
    assert_eq!(deaths[0].topic, "spBv1.0/g/DDEATH/e/a");
    assert!(deaths[0].payload.seq.is_some() && deaths[0].payload.metrics.is_empty());
    rig.ask_rebirth();
    assert_eq!(kinds(&rig.published()), ["NBIRTH/e", "DBIRTH/e/b"], "the dead stay dead");
    let back = rig.row("h/a/t", 3.0);
    let seen = rig.flush();
    assert_eq!((kinds(&seen), &seen[0].tickets), (vec!["DBIRTH/e/a"], &vec![back]));
}

/// Quality follows the status; null has no value.
#[test]
fn bad_readings_say_so() {
    let mut rig = Rig::online(settings());
    rig.row("h/a/t", 1.0);
    rig.flush();
    let (topic, ticket) = ("h/a/t".into(), 9);
    let time = Timestamp::from_unix_millis(T0 + 5);
    let status = Status::BAD;
    let row = Row { topic, value: Value::Null, time, status, is_historical: false, ticket };
    rig.session.handle_row(row);
    let seen = rig.flush();
    let metric = &seen[0].payload.metrics[0];
    assert_eq!((metric.is_null, &metric.value), (Some(true), &None));
    let quality = metric.properties.as_ref().unwrap().get("Quality").unwrap();
    assert_eq!((quality.datatype, &quality.value), (Some(3), &Some(PropertyValue::Int(0))));
}

/// uplink.23: hosts write to metrics that they were told of, by name or number, in the type that they were told.
#[test]
fn commands_find_their_topics() {
    let mut rig = Rig::online(settings());
    rig.row("h/a/t", 1.0);
    rig.row("free", 1.0);
    rig.flush();
    let written = |metric: Metric| Metric { value: Some(MetricValue::Double(5.0)), ..metric };
    let named = |name: &str| written(Metric { name: Some(name.into()), ..Metric::default() });
    let aliased = |alias| written(Metric { alias: Some(alias), ..Metric::default() });
    let (device, node) = ("spBv1.0/g/DCMD/e/a", "spBv1.0/g/NCMD/e");
    let text = Metric { value: Some(MetricValue::String("x".into())), ..named("t") };
    let null = Metric { is_null: Some(true), ..named("t") };
    #[rustfmt::skip]
    let cases = [
        (device,                    named("t"),         Ok("h/a/t")),
        (device,                    aliased(1),         Ok("h/a/t")),
        (node,                      named("free"),      Ok("free")),
        (node,                      aliased(2),         Ok("free")),
        (device,                    aliased(2),         Err("no metric")),      // of the node, not of the device
        (device,                    aliased(99),        Err("no metric")),
        (device,                    named("u"),         Err("no metric")),
        ("spBv1.0/g/DCMD/e/zz",     named("t"),         Err("no metric")),
        (device,                    text,               Err("not of the type")),
        (device,                    null,               Err("not of the type")),
        (device,                    Metric::default(),  Err("no metric")),
        (node,                      named("Node Control/Reboot"), Err("no metric")),
        ("spBv1.0/g/NCMD/other",    named("t"),         Err("not for this edge node")),
    ];
    for (topic, metric, expected) in cases {
        rig.ask(topic, metric.clone());
        let events = rig.events();
        match (&events[..], expected) {
            ([Event::Command { topic, value }], Ok(target)) => {
                assert_eq!((&**topic, value), (target, &Value::Double(5.0)));
            }
            ([Event::Ignored { reason }], Err(part)) => assert!(reason.contains(part), "{reason}"),
            other => panic!("{topic} {metric:?}: {other:?}"),
        }
    }
    rig.session.handle_message(node, Bytes::from_static(b"\xff"), rig.now);
    assert!(matches!(&rig.events()[..], [Event::Ignored { .. }]));

    let mut rig = Rig::online(Settings { commands: false, ..settings() });
    assert_eq!(rig.session.subscriptions(), ["spBv1.0/g/NCMD/e"]);
    rig.row("free", 1.0);
    rig.flush();
    rig.ask(node, named("free"));
    assert!(
        matches!(&rig.events()[..], [Event::Ignored { reason }] if reason.contains("none may"))
    );
}

/// What can never be sent is refused by itself.
#[test]
fn readings_without_a_place_are_refused() {
    let mut rig = Rig::online(Settings {
        devices: vec![DeviceRule::new("h/{d}/{m}", "{d}", "same").unwrap()],
        ..settings()
    });
    let cases = [("bdSeq", "own"), ("h/a/other", "already made of `h/a/t`")];
    rig.row("h/a/t", 1.0);
    rig.flush();
    rig.pass(Duration::from_secs(2));
    for (topic, part) in cases {
        let refused = rig.row(topic, 1.0);
        rig.session.flush(rig.now);
        match &rig.events()[..] {
            [Event::Refused { ticket, reason }] => {
                assert_eq!(*ticket, refused);
                assert!(reason.contains(part), "{reason}");
            }
            other => panic!("{topic}: {other:?}"),
        }
    }
}

/// Many readings of one device go in few messages, and none of those is large.
#[test]
fn readings_that_wait_go_together() {
    let mut rig = Rig::online(settings());
    rig.row("h/a/t", 0.0);
    rig.flush();
    for number in 0..500_u16 {
        rig.row("h/a/t", number.into());
    }
    let seen = rig.flush();
    let counts: Vec<usize> = seen.iter().map(|seen| seen.payload.metrics.len()).collect();
    assert_eq!(counts, [256, 244]);
    rig.row_at("h/a/s", Value::string("x"), 0, false);
    rig.pass(Duration::from_secs(2));
    rig.flush();
    for _ in 0..4 {
        rig.row_at("h/a/s", Value::string(&"x".repeat(40_000)), 9_000, false);
    }
    assert_eq!(rig.flush().len(), 4);
    // It is the size on the wire that counts.
    for _ in 0..4 {
        rig.row_at("h/a/s", Value::string(&"x".repeat(21_000)), 9_000, false);
    }
    assert_eq!(rig.flush().len(), 2);
}
