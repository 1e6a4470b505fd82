//! Metrics that are forgotten, and places that pass to others.

use std::time::Duration;

use tidegate_model::Value;

use super::rig::{Rig, kinds, settings};
use crate::{DeviceRule, METRICS_MAX, Metric, MetricValue, Settings};

const HOUR: Duration = Duration::from_secs(3_600);

fn forgetting(hours: u32) -> Settings {
    Settings { forget: hours * HOUR, ..settings() }
}

fn names(metrics: &[Metric]) -> Vec<&str> {
    metrics.iter().filter_map(|metric| metric.name.as_deref()).collect()
}

/// What has been silent for too long leaves the births; a device without metrics dies. What is heard stays.
#[test]
fn silent_metrics_are_forgotten() {
    let mut rig = Rig::online(forgetting(10));
    for topic in ["h/a/old", "h/a/new", "h/b/old", "free", "also/free"] {
        rig.row(topic, 1.0);
    }
    rig.flush();
    for _ in 0..4 {
        rig.pass(2 * HOUR);
        rig.row("h/a/new", 2.0);
        rig.row("free", 2.0);
        rig.flush();
    }
    rig.pass(2 * HOUR);
    let seen = rig.published();
    assert_eq!(kinds(&seen), ["DDEATH/e/b", "NBIRTH/e", "DBIRTH/e/a"]);
    assert_eq!(names(&seen[1].payload.metrics), ["bdSeq", "Node Control/Rebirth", "free"]);
    assert_eq!(names(&seen[2].payload.metrics), ["new"]);
    let before: Vec<_> = seen[2].payload.metrics.iter().map(|metric| metric.alias).collect();
    // It comes back as a new one, whose number no other has had.
    rig.pass(Duration::from_secs(1));
    let back = rig.row("h/b/old", 3.0);
    let seen = rig.flush();
    assert_eq!((kinds(&seen), &seen[0].tickets), (vec!["DBIRTH/e/b"], &vec![back]));
    assert_eq!(seen[0].payload.metrics[0].alias, Some(6));
    assert_eq!(before, [Some(2)]);
    // A write to what is forgotten finds nobody.
    let value = Some(MetricValue::Double(1.0));
    rig.ask("spBv1.0/g/DCMD/e/a", Metric { alias: Some(1), value, ..Metric::default() });
    let events = rig.events();
    assert!(
        matches!(&events[..], [crate::Event::Ignored { reason }] if reason.contains("no metric"))
    );
    // A restart changes nothing: what is forgotten stays so, and the rest has been silent for as long as it was.
    let mut rig = rig.restart(forgetting(10));
    let seen = rig.published();
    // The place of the first was given again.
    assert_eq!(kinds(&seen), ["NBIRTH/e", "DBIRTH/e/b", "DBIRTH/e/a"]);
    assert_eq!(names(&seen[2].payload.metrics), ["new"]);
    for _ in 0..9 {
        rig.pass(HOUR);
    }
    assert_eq!(kinds(&rig.published()), ["DDEATH/e/a", "NBIRTH/e", "DBIRTH/e/b"]);
}

/// Forgetting waits for what waits: history may be of any metric.
#[test]
fn nothing_is_forgotten_that_is_needed() {
    let mut rig = Rig::online(forgetting(10));
    rig.row("h/a/t", 1.0);
    rig.flush();
    let mut rig = rig.restart(forgetting(10));
    rig.published();
    rig.now.unix_ms += 40 * 3_600_000;
    // All that was kept is too old now; the backlog comes.
    rig.row_at("h/b/t", Value::Double(1.0), 0, true);
    rig.flush();
    rig.row_at("h/a/t", Value::Double(1.0), 1, true);
    rig.pass(HOUR);
    let seen = rig.published();
    assert!(kinds(&seen).iter().all(|kind| !kind.contains("DDEATH")), "{:?}", kinds(&seen));
}

/// When the table is full, those make room that have been silent longest; who is heard does not.
#[test]
fn a_full_table_makes_room() {
    let mut rig = Rig::online(forgetting(1_000));
    for number in 0..METRICS_MAX {
        rig.row(&format!("h/d{}/m{number}", number % 100), 1.0);
        if number % 500 == 499 {
            rig.flush();
            rig.pass(Duration::from_secs(2));
        }
    }
    rig.flush();
    rig.row("h/new/m", 1.0);
    let refused = rig.refused();
    assert!(refused.len() == 1 && refused[0].1.contains("10000 metrics"), "{refused:?}");
    rig.pass(2 * HOUR);
    // Of the first hundred one for each device is heard, and one waits behind the new one.
    for number in 0..50 {
        rig.row(&format!("h/d{number}/m{number}"), 2.0);
    }
    let new = rig.row("h/new/m", 1.0);
    rig.row("h/d50/m50", 2.0);
    let seen = rig.flush();
    assert!(seen.iter().any(|seen| seen.tickets == [new]));
    let births = seen.iter().filter(|seen| seen.topic.contains("BIRTH"));
    let births: usize = births.map(|seen| seen.payload.metrics.len()).sum();
    assert!(births < METRICS_MAX, "{births}");
    rig.ask_rebirth();
    rig.pass(Duration::from_secs(5));
    let seen = rig.published();
    let all: usize = seen.iter().map(|seen| seen.payload.metrics.len()).sum();
    // 64 have gone, and one has come.
    assert_eq!(all, METRICS_MAX - 64 + 1 + 2);
    let first = seen.iter().find(|seen| seen.topic.ends_with("/d0")).unwrap();
    assert!(names(&first.payload.metrics).contains(&"m0"), "it is heard");
    let waiting = seen.iter().find(|seen| seen.topic.ends_with("/d50")).unwrap();
    assert!(names(&waiting.payload.metrics).contains(&"m50"), "a reading of it was waiting");
    let gone = seen.iter().find(|seen| seen.topic.ends_with("/d51")).unwrap();
    assert!(!names(&gone.payload.metrics).contains(&"m51"), "it was silent for longest");
    assert!(rig.session.take_kept(true).iter().all(|kept| kept.value.is_some()));
}

/// After a change of the configuration the topic that is heard has the place, whatever was there before.
#[test]
fn places_pass_to_the_topic_that_is_heard() {
    let rule = |topics: &str| DeviceRule::new(topics, "{d}", "t").unwrap();
    let before = Settings { devices: vec![rule("old/{d}/t")], ..settings() };
    let mut rig = Rig::online(before);
    rig.row("old/a/t", 1.0);
    rig.row("new/a/t", 1.0);
    rig.flush();
    // Both are of the same metric now.
    let both = Settings { devices: vec![rule("old/{d}/t"), rule("new/{d}/t")], ..settings() };
    let mut rig = rig.restart(both.clone());
    let seen = rig.published();
    assert_eq!(kinds(&seen), ["NBIRTH/e", "DBIRTH/e/a"]);
    rig.pass(Duration::from_secs(2));
    let taken = rig.row("new/a/t", 2.0);
    let seen = rig.flush();
    assert_eq!((kinds(&seen), &seen[0].tickets), (vec!["DDATA/e/a"], &vec![taken]));
    // Now it is the other one that has none.
    let other = rig.row("old/a/t", 3.0);
    let refused = rig.refused();
    assert_eq!(refused[0].0, other);
    assert!(refused[0].1.contains("`new/a/t`, which is heard"), "{refused:?}");
    // And again after a restart, in which the order of the two does not matter.
    let mut rig = rig.restart(both);
    rig.published();
    rig.pass(Duration::from_secs(2));
    rig.row("old/a/t", 4.0);
    assert_eq!(kinds(&rig.flush()), ["DDATA/e/a"]);
}

/// A topic that changes its name while the gateway runs has its metric again after an hour.
#[test]
fn places_pass_when_their_topic_has_fallen_silent() {
    let rules = vec![
        DeviceRule::new("old/{d}/t", "{d}", "t").unwrap(),
        DeviceRule::new("new/{d}/t", "{d}", "t").unwrap(),
    ];
    let mut rig = Rig::online(Settings { devices: rules, ..settings() });
    rig.row("old/a/t", 1.0);
    rig.flush();
    rig.pass(HOUR / 2);
    rig.row("new/a/t", 2.0);
    assert_eq!(rig.refused().len(), 1);
    rig.pass(HOUR / 2);
    // Its type may be another.
    rig.row_at("new/a/t", Value::string("on"), 3_600_000, false);
    let seen = rig.flush();
    assert_eq!(kinds(&seen), ["DBIRTH/e/a"]);
    assert_eq!(names(&seen[0].payload.metrics), ["t"]);
    assert_eq!(seen[0].payload.metrics[0].alias, Some(1));
}
