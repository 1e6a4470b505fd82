use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn window(length: u64, every: u64, lateness: u64, functions: &[&str]) -> Rule {
    let seconds = Duration::from_secs;
    rule(
        "w",
        "a/#",
        Action::Window(Window {
            length: seconds(length),
            every: seconds(every),
            lateness: seconds(lateness),
            functions: functions.iter().map(|name| Function::parse(name).unwrap()).collect(),
        }),
    )
}

/// Feeds readings at seconds; returns what was made, and how many of the held ones are final.
fn feed(rules: &mut Rules, readings: &[(f64, f64)]) -> (Vec<(String, f64, Value)>, u64) {
    let (mut all, mut released) = (Vec::new(), 0);
    for (seconds, value) in readings {
        let mut effects = Effects::default();
        let verdict = rules.decide(&topic("a/t"), &good(*seconds, *value), &mut effects);
        assert_eq!(verdict, Verdict::Held(0), "{seconds} s");
        all.extend(made(&effects));
        released += effects.released.iter().map(|(_, readings)| readings).sum::<u64>();
    }
    (all, released)
}

fn at(seconds: f64) -> Timestamp {
    good(seconds, 0.0).time()
}

/// uplink.4
#[test]
fn a_tumbling_window_sends_its_figures_when_a_later_reading_comes() {
    let names = ["min", "max", "mean", "last", "count", "deviation", "p50"];
    let mut rules = rules(vec![window(60, 60, 0, &names)]);
    let readings = [(0.0, 2.0), (10.0, 4.0), (20.0, 4.0), (30.0, 4.0), (40.0, 5.0), (50.0, 5.0)];
    assert_eq!(feed(&mut rules, &readings), (vec![], 0));
    assert_eq!(feed(&mut rules, &[(59.9, 7.0)]), (vec![], 0));
    let (made, released) = feed(&mut rules, &[(60.0, 9.0)]);
    assert_eq!(released, 7);
    assert_eq!(rules.held(), BTreeMap::from([(0, 1)]));
    let values: Vec<f64> = made.iter().map(|(_, _, value)| value.as_f64().unwrap()).collect();
    let topics: Vec<&str> = made.iter().map(|(topic, ..)| topic.as_str()).collect();
    let expected = ["min", "max", "mean", "last", "count", "deviation", "p50"];
    assert_eq!(topics, expected.map(|name| format!("a/t/{name}")));
    assert!(made.iter().all(|(_, seconds, _)| *seconds == 60.0), "the end of the window");
    assert_eq!(values[0..2], [2.0, 7.0]);
    assert!((values[2] - 31.0 / 7.0).abs() < 1e-12);
    assert_eq!(values[3..5], [7.0, 7.0]);
    // Of the sample: the squares sum up to 13.714, divided by six.
    assert!((values[5] - 1.511_857_892_036_909_2).abs() < 1e-12, "{}", values[5]);
    assert!((values[6] - 4.0).abs() <= 0.04, "{}", values[6]);
}

/// uplink.4
#[test]
fn sliding_windows_overlap_and_hold_each_reading_until_its_last_one_ends() {
    let mut rules = rules(vec![window(30, 10, 0, &["count"])]);
    let (made, released) = feed(&mut rules, &[(5.0, 1.0), (15.0, 1.0), (25.0, 1.0), (35.0, 1.0)]);
    let count = |made: &[(String, f64, Value)]| -> Vec<(f64, f64)> {
        made.iter().map(|(_, end, value)| (*end, value.as_f64().unwrap())).collect()
    };
    assert_eq!(count(&made), [(10.0, 1.0), (20.0, 2.0), (30.0, 3.0)]);
    assert_eq!(released, 1, "the first one is in no window that is still open");
    let mut effects = Effects::default();
    rules.advance(at(1_000.0), &mut effects);
    assert_eq!(count(&super::made(&effects)), [(40.0, 3.0), (50.0, 2.0), (60.0, 1.0)]);
    assert_eq!(effects.released, [(0, 3)]);
    assert_eq!((rules.wake(), rules.held()), (None, BTreeMap::new()));
}

/// uplink.4
#[test]
fn late_readings_are_waited_for_and_then_counted() {
    let mut rules = rules(vec![window(60, 60, 5, &["count"])]);
    assert_eq!(feed(&mut rules, &[(10.0, 1.0), (62.0, 1.0), (59.0, 1.0)]).0, []);
    let (made, _) = feed(&mut rules, &[(65.0, 1.0)]);
    assert_eq!(made, [("a/t/count".to_owned(), 60.0, Value::Integer(2))]);
    assert_eq!(decide(&mut rules, "a/t", &good(59.5, 1.0)), Verdict::Filtered(1));
    assert_eq!(&*rules.names()[1], "w.late");
}

/// uplink.4: without readings the clock ends a window, as much later as readings of the topic arrive.
#[test]
fn the_clock_ends_a_window_when_no_reading_comes() {
    let mut rules = rules(vec![window(60, 60, 5, &["count"])]);
    let late = Reading { source_time: Some(at(10.0)), arrival: at(3_610.0), ..good(0.0, 1.0) };
    let mut effects = Effects::default();
    rules.decide(&topic("a/t"), &late, &mut effects);
    assert_eq!(rules.wake(), Some(at(3_665.0)), "its clock is an hour late");
    rules.advance(at(3_664.9), &mut effects);
    assert!(effects.is_empty());
    rules.advance(at(3_665.0), &mut effects);
    assert_eq!(made(&effects), [("a/t/count".to_owned(), 60.0, Value::Integer(1))]);
    assert_eq!(effects.released, [(0, 1)]);
}

/// uplink.4: a clock that was set back costs one window, not all until it is there again.
#[test]
fn after_a_clock_was_set_back_windows_begin_anew() {
    let mut rules = rules(vec![window(60, 60, 0, &["count"])]);
    feed(&mut rules, &[(7_200.0, 1.0), (7_260.0, 1.0)]);
    let arrive = |rules: &mut Rules, arrival: f64| {
        let reading = Reading {
            source_time: Some(at(arrival - 3_600.0)),
            arrival: at(arrival),
            ..good(0.0, 1.0)
        };
        let mut effects = Effects::default();
        (rules.decide(&topic("a/t"), &reading, &mut effects), effects)
    };
    assert_eq!(arrive(&mut rules, 7_270.0).0, Verdict::Filtered(1));
    assert_eq!(arrive(&mut rules, 7_329.0).0, Verdict::Filtered(1));
    let (verdict, effects) = arrive(&mut rules, 7_330.0);
    assert_eq!(verdict, Verdict::Held(0));
    assert_eq!(made(&effects), [("a/t/count".to_owned(), 7_320.0, Value::Integer(1))]);
    assert_eq!(effects.released, [(0, 1)]);
}

/// D26: what is bad, and a stretch without data, is told as it is.
#[test]
fn bad_readings_pass_and_uncertain_ones_make_figures_uncertain() {
    let mut rules = rules(vec![window(60, 60, 0, &["mean", "last"])]);
    assert_eq!(decide(&mut rules, "a/t", &reading(1.0, Value::Null, BAD)), Verdict::Pass);
    let stretch = Reading { until: Some(at(2.0)), ..good(1.0, 1.0) };
    assert_eq!(decide(&mut rules, "a/t", &stretch), Verdict::Pass);
    let uncertain = Status::from_code(0x4090_0000);
    decide(&mut rules, "a/t", &reading(3.0, Value::Double(1.0), uncertain));
    decide(&mut rules, "a/t", &reading(4.0, Value::string("off"), GOOD));
    let mut effects = Effects::default();
    rules.decide(&topic("a/t"), &good(60.0, 5.0), &mut effects);
    assert_eq!(made(&effects)[1].2, Value::string("off"), "the last value may be of any type");
    assert_eq!(made(&effects)[0].2, Value::Double(1.0), "a mean is of numbers");
    assert!(effects.made.iter().all(|made| made.reading.status == uncertain));
}

/// uplink.4: what a rule makes goes through those behind it, not into windows, and counts in both.
#[test]
fn figures_go_through_the_rules_behind() {
    let rounding = Conversion { rounding: Some(Rounding::Digits(0)), ..Conversion::default() };
    let mut rules = rules(vec![
        window(60, 60, 0, &["mean", "count"]),
        rule("round", "a/t/mean", Action::Convert(rounding)),
        rule("no-counts", "+/+/count", Action::Exclude),
        window(60, 60, 0, &["last"]),
    ]);
    let mut effects = Effects::default();
    rules.decide(&topic("a/t"), &good(0.0, 1.4), &mut effects);
    rules.decide(&topic("a/t"), &good(60.0, 1.0), &mut effects);
    assert_eq!(made(&effects), [("a/t/mean".to_owned(), 60.0, Value::Double(1.0))]);
    assert_eq!((effects.made[0].name, effects.made_in_vain.clone()), (0, vec![(0, 4)]));
}

/// uplink.4: what must be forgotten is sent first.
#[test]
fn a_topic_that_is_forgotten_sends_what_waits() {
    let limits = MemoryLimits { topics: 10, bytes: 1 << 20 };
    let mut rules = Rules::new(vec![window(60, 60, 0, &["count"])], limits);
    let (mut held, mut released, mut made) = (0_u64, 0, 0);
    for number in 0..100 {
        let mut effects = Effects::default();
        let verdict = rules.decide(&topic(&format!("a/{number}")), &good(1.0, 1.0), &mut effects);
        assert_eq!(verdict, Verdict::Held(0));
        held += 1;
        released += effects.released.iter().map(|(_, readings)| readings).sum::<u64>();
        made += effects.made.len();
        assert!(rules.memory.len() <= 10);
    }
    assert_eq!(released, made as u64, "one figure for each");
    assert!(released >= 90, "{released}");
    assert_eq!(rules.held(), BTreeMap::from([(0, held - released)]));
}

#[test]
fn a_change_of_unit_ends_a_window() {
    let mut rules = rules(vec![window(60, 60, 0, &["mean"])]);
    let with = |unit, seconds, value| Reading {
        unit: Some(Unit::new(unit).unwrap()),
        ..good(seconds, value)
    };
    let mut effects = Effects::default();
    rules.decide(&topic("a/t"), &with("Cel", 1.0, 20.0), &mut effects);
    rules.decide(&topic("a/t"), &with("degF", 2.0, 68.0), &mut effects);
    assert_eq!(made(&effects), [("a/t/mean".to_owned(), 60.0, Value::Double(20.0))]);
    assert_eq!(effects.made[0].reading.unit, Some(Unit::new("Cel").unwrap()));
    rules.advance(at(100.0), &mut effects);
    assert_eq!(made(&effects), [("a/t/mean".to_owned(), 60.0, Value::Double(68.0))]);
}

proptest! {
    /// Whatever comes in whatever order: each held reading is released once, and sliding figures are
    /// those of the readings in their window.
    #[test]
    fn figures_are_those_of_the_readings(
        steps in prop::collection::vec((-8_i32..20, -50_i32..50), 1..80),
        panes in 1_u64..4,
    ) {
        let mut rules = rules(vec![window(10 * panes, 10, 8, &["count", "mean", "min", "p90"])]);
        let (mut kept, mut all, mut released) = (Vec::new(), Vec::new(), 0);
        let mut seconds = 1_000.0;
        let mut effects = Effects::default();
        for (step, value) in steps {
            seconds += f64::from(step);
            let value = f64::from(value);
            let reading =
                Reading { source_time: Some(at(seconds)), arrival: at(0.0), ..good(0.0, value) };
            match rules.decide(&topic("a/t"), &reading, &mut effects) {
                Verdict::Held(0) => kept.push((seconds, value)),
                Verdict::Filtered(1) => {}
                other => prop_assert!(false, "{:?}", other),
            }
            all.extend(made(&effects));
            released += effects.released.iter().map(|(_, readings)| readings).sum::<u64>();
        }
        rules.advance(at(1e9), &mut effects);
        all.extend(made(&effects));
        released += effects.released.iter().map(|(_, readings)| readings).sum::<u64>();
        prop_assert_eq!(released, kept.len() as u64);
        prop_assert!(rules.held().is_empty());
        let mut ends = std::collections::HashSet::new();
        for (name, end, value) in &all {
            let from = end - 10.0 * panes as f64;
            let mut inside: Vec<f64> = kept
                .iter()
                .filter(|(time, _)| (from..*end).contains(time))
                .map(|(_, value)| *value)
                .collect();
            inside.sort_by(f64::total_cmp);
            let found = value.as_f64().unwrap();
            let exact = match name.strip_prefix("a/t/").unwrap() {
                "count" => inside.len() as f64,
                "mean" => inside.iter().sum::<f64>() / inside.len() as f64,
                "min" => inside[0],
                _ => inside[(0.9 * (inside.len() as f64 - 1.0)) as usize],
            };
            let allowed = if name.ends_with("p90") { exact.abs() * 0.0101 } else { 1e-9 };
            prop_assert!((found - exact).abs() <= allowed, "{name} at {end}: {found}, {exact}");
            if name.ends_with("count") {
                prop_assert!(ends.insert(end.to_bits()), "window to {end} twice");
            }
        }
        // Every window in which there was something was sent.
        for (time, _) in &kept {
            for pane in 1..=panes {
                let end = ((time / 10.0).floor() + pane as f64) * 10.0;
                prop_assert!(ends.contains(&end.to_bits()), "{time} is not in a window to {end}");
            }
        }
    }
}

#[test]
fn functions_have_names() {
    for name in ["min", "max", "mean", "last", "count", "deviation", "p1", "p50", "p99.9", "p0.01"]
    {
        assert_eq!(Function::parse(name).unwrap().to_string(), name);
    }
    for name in ["p0", "p100", "p", "p1.234", "p-1", "median", "p1.", "p+1"] {
        assert_eq!(Function::parse(name), None, "{name}");
    }
}
