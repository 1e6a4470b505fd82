use std::time::Duration;

use proptest::prelude::*;
use tidegate_model::{AdapterName, Origin, Status, Timestamp, TopicFilter, Unit, Value};

use super::*;
use crate::RuleName;

const GOOD: Status = Status::GOOD;
const BAD: Status = Status::BAD;

fn topic(text: &str) -> Topic {
    Topic::new(text).unwrap()
}

fn reading(seconds: f64, value: Value, status: Status) -> Reading {
    #[expect(clippy::cast_possible_truncation, reason = "small times")]
    let time = Timestamp::from_unix_micros((seconds * 1e6) as i64);
    let origin = Origin { adapter: AdapterName::new("test").unwrap() };
    Reading { status, ..Reading::new(value, time, origin) }
}

fn rule(name: &str, topics: &str) -> Rule {
    Rule {
        name: RuleName::new(name).unwrap(),
        topics: vec![TopicFilter::new(topics).unwrap()],
        deadband: None,
        min_interval: None,
        change_only: false,
    }
}

fn rules(rules: Vec<Rule>) -> Rules {
    Rules::new(rules, MemoryLimits::default())
}

/// Feeds a table of seconds, value, status and whether it passes.
fn check(rule: Rule, cases: &[(f64, Value, Status, bool)]) {
    let mut rules = rules(vec![rule]);
    for (index, (seconds, value, status, passes)) in cases.iter().enumerate() {
        let verdict = rules.decide(&topic("a"), &reading(*seconds, value.clone(), *status));
        let expected = if *passes { Verdict::Pass } else { Verdict::Filtered(0) };
        assert_eq!(verdict, expected, "case {index}: {value} at {seconds} s");
    }
}

#[test]
fn a_deadband_compares_with_what_last_went_out() {
    use Value::{Boolean, Double, Float, Integer, Null, Unsigned};
    #[rustfmt::skip]
    check(Rule { deadband: Some(0.5), ..rule("d", "#") }, &[
        (0.0, Double(20.0),            GOOD, true),
        (1.0, Double(20.5),            GOOD, false),  // at the edge: not more than the deadband
        (2.0, Double(20.25),           GOOD, false),
        (3.0, Double(20.75),           GOOD, true),
        (4.0, Double(20.75),           BAD,  true),   // a change of status always passes
        (5.0, Double(20.75),           BAD,  false),
        (6.0, Double(f64::NAN),        BAD,  true),
        (7.0, Double(f64::NAN),        BAD,  false),
        (8.0, Double(f64::INFINITY),   BAD,  true),
        (9.0, Double(f64::INFINITY),   BAD,  false),
        (10., Integer(i64::MAX),       BAD,  true),
        (11., Integer(i64::MAX),       BAD,  false),
        (12., Integer(i64::MAX - 1),   BAD,  true),   // exact, where doubles are not
        (13., Unsigned(u64::MAX),      BAD,  true),
        (14., Float(1.0),              BAD,  true),
        (15., Integer(1),              BAD,  false),
        (16., Boolean(true),           BAD,  true),   // no number, no deadband
        (17., Boolean(true),           BAD,  true),
        (18., Null,                    BAD,  true),
        (19., Double(1.0),             BAD,  true),
    ]);
}

#[test]
fn a_minimum_interval_goes_by_the_readings_own_times() {
    use Value::Integer;
    let rule = Rule { min_interval: Some(Duration::from_secs(10)), ..rule("m", "#") };
    #[rustfmt::skip]
    check(rule, &[
        (100.0, Integer(1), GOOD, true),
        (109.9, Integer(2), GOOD, false),
        (110.0, Integer(3), GOOD, true),
        (105.0, Integer(4), GOOD, false),  // a little out of order
        (111.0, Integer(5), BAD,  true),
        (50.0,  Integer(6), BAD,  true),   // the clock was set back
        (55.0,  Integer(7), BAD,  false),
    ]);
}

#[test]
fn change_only_compares_value_status_and_unit() {
    use Value::{Double, Integer};
    #[rustfmt::skip]
    check(Rule { change_only: true, ..rule("c", "#") }, &[
        (0.0, Integer(1),          GOOD, true),
        (1.0, Integer(1),          GOOD, false),
        (2.0, Double(1.0),         GOOD, true),   // another type is another value
        (3.0, Value::string("on"), GOOD, true),
        (4.0, Value::string("on"), GOOD, false),
        (5.0, Value::string("on"), BAD,  true),
    ]);
    let mut rules = rules(vec![Rule { change_only: true, ..rule("c", "#") }]);
    let plain = reading(0.0, Integer(1), GOOD);
    let metres = Reading { unit: Some(Unit::new("m").unwrap()), ..plain.clone() };
    assert_eq!(rules.decide(&topic("a"), &plain), Verdict::Pass);
    assert_eq!(rules.decide(&topic("a"), &metres), Verdict::Pass);
    assert_eq!(rules.decide(&topic("a"), &metres), Verdict::Filtered(0));
}

#[test]
fn all_conditions_of_a_rule_must_be_met() {
    let both = Rule {
        deadband: Some(1.0),
        min_interval: Some(Duration::from_secs(10)),
        ..rule("both", "#")
    };
    #[rustfmt::skip]
    check(both, &[
        (0.0,  Value::Integer(0), GOOD, true),
        (1.0,  Value::Integer(9), GOOD, false),  // too soon
        (20.0, Value::Integer(1), GOOD, false),  // too little
        (21.0, Value::Integer(9), GOOD, true),
    ]);
}

#[test]
fn the_first_rule_that_holds_back_is_named_and_topics_are_apart() {
    let mut rules = rules(vec![
        Rule { deadband: Some(10.0), ..rule("wide", "a/#") },
        Rule { change_only: true, ..rule("same", "#") },
    ]);
    let mut decide = |name: &str, value: i64| {
        rules.decide(&topic(name), &reading(0.0, Value::Integer(value), GOOD))
    };
    assert_eq!(decide("a/x", 1), Verdict::Pass);
    assert_eq!(decide("b/x", 1), Verdict::Pass);
    assert_eq!(decide("a/x", 2), Verdict::Filtered(0));
    assert_eq!(decide("b/x", 2), Verdict::Pass);
    assert_eq!(decide("b/x", 2), Verdict::Filtered(1));
}

#[test]
fn what_a_later_rule_holds_back_does_not_move_the_deadband() {
    let mut rules = rules(vec![
        Rule { deadband: Some(1.0), ..rule("deadband", "#") },
        Rule { min_interval: Some(Duration::from_secs(10)), ..rule("interval", "#") },
    ]);
    let mut decide = |seconds: f64, value: f64| {
        rules.decide(&topic("a"), &reading(seconds, Value::Double(value), GOOD))
    };
    assert_eq!(decide(0.0, 0.0), Verdict::Pass);
    assert_eq!(decide(5.0, 5.0), Verdict::Filtered(1));
    assert_eq!(decide(10.0, 5.5), Verdict::Pass);
}

#[test]
fn memory_is_bounded_and_forgetting_lets_readings_pass() {
    let limits = MemoryLimits { topics: 100, bytes: 1 << 20 };
    let mut rules = Rules::new(vec![Rule { change_only: true, ..rule("c", "#") }], limits);
    for number in 0..1_000 {
        let name = topic(&format!("t/{number}"));
        assert_eq!(rules.decide(&name, &reading(0.0, Value::Null, GOOD)), Verdict::Pass);
        assert!(rules.memory.len() <= 100);
    }
    let recent = reading(0.0, Value::Null, GOOD);
    assert_eq!(rules.decide(&topic("t/999"), &recent), Verdict::Filtered(0));
    assert_eq!(rules.decide(&topic("t/0"), &recent), Verdict::Pass);
    let large = Value::string(&"x".repeat(200_000));
    for number in 0..100 {
        rules.decide(&topic(&format!("l/{number}")), &reading(0.0, large.clone(), GOOD));
        assert!(rules.memory.len() <= 100);
    }
    assert!(rules.memory.len() < 10, "large values are forgotten earlier");
}

proptest! {
    /// The same readings give the same verdicts, and remembering what passed restores the memory.
    #[test]
    fn verdicts_can_be_repeated_after_a_restart(
        readings in prop::collection::vec((0_u8..3, 0_i64..20, 0_i64..5, any::<bool>()), 0..60),
        cut in 0_usize..60,
    ) {
        let all = || rules(vec![
            Rule { deadband: Some(1.0), ..rule("deadband", "t/0") },
            Rule { min_interval: Some(Duration::from_secs(3)), ..rule("interval", "t/1") },
            Rule { change_only: true, ..rule("change", "#") },
        ]);
        let (mut straight, mut restarted) = (all(), all());
        let mut passed = Vec::new();
        let mut seconds = 0.0;
        for (index, (name, step, value, good)) in readings.into_iter().enumerate() {
            if index == cut {
                restarted = all();
                for (topic, reading) in &passed {
                    restarted.remember(topic, reading);
                }
            }
            seconds += f64::from(u32::try_from(step).unwrap());
            let name = topic(&format!("t/{name}"));
            let reading =
                reading(seconds, Value::Integer(value), if good { GOOD } else { BAD });
            let verdict = straight.decide(&name, &reading);
            prop_assert_eq!(restarted.decide(&name, &reading), verdict);
            if verdict == Verdict::Pass {
                passed.push((name, reading));
            }
        }
    }
}
