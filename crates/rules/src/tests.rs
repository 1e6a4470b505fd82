//! Rules as the uplink calls them.

mod anomaly;
mod convert;
mod door;
mod saved;
mod window;

use std::time::Duration;

use tidegate_expression::{Expression, ResultKind, Scope, Subject};
use tidegate_model::{
    AdapterName, Origin, Reading, Status, Timestamp, Topic, TopicFilter, Unit, Value,
};

use super::*;

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

fn good(seconds: f64, value: f64) -> Reading {
    reading(seconds, Value::Double(value), GOOD)
}

fn rule(name: &str, topics: &str, action: Action) -> Rule {
    let topics = vec![TopicFilter::new(topics).unwrap()];
    Rule { name: RuleName::new(name).unwrap(), topics, action }
}

fn thin(name: &str, topics: &str, thinning: Thinning) -> Rule {
    rule(name, topics, Action::Thin(thinning))
}

fn deadband(width: f64) -> Thinning {
    Thinning { deadband: Some(Deadband::Absolute(width)), ..Thinning::default() }
}

fn interval(seconds: u64) -> Thinning {
    Thinning { min_interval: Some(Duration::from_secs(seconds)), ..Thinning::default() }
}

fn change() -> Thinning {
    Thinning { change_only: true, ..Thinning::default() }
}

fn rules(rules: Vec<Rule>) -> Rules {
    Rules::new(rules, MemoryLimits::default())
}

/// Decides where nothing but a verdict is expected.
fn decide(rules: &mut Rules, name: &str, reading: &Reading) -> Verdict {
    let mut effects = Effects::default();
    let verdict = rules.decide(&topic(name), reading, &mut effects);
    assert!(effects.is_empty(), "{effects:?}");
    verdict
}

/// What was made, as topic, seconds and value.
fn made(effects: &Effects) -> Vec<(String, f64, Value)> {
    let seconds = |reading: &Reading| reading.time().as_unix_millis() as f64 / 1e3;
    let shown =
        |made: &Made| (made.topic.to_string(), seconds(&made.reading), made.reading.value.clone());
    effects.made.iter().map(shown).collect()
}

/// Feeds a table of seconds, value, status and whether it passes.
fn check(thinning: Thinning, cases: &[(f64, Value, Status, bool)]) {
    let mut rules = rules(vec![thin("t", "#", thinning)]);
    for (index, (seconds, value, status, passes)) in cases.iter().enumerate() {
        let verdict = decide(&mut rules, "a", &reading(*seconds, value.clone(), *status));
        let expected = if *passes { Verdict::Pass } else { Verdict::Filtered(0) };
        assert_eq!(verdict, expected, "case {index}: {value} at {seconds} s");
    }
}

#[test]
fn a_deadband_compares_with_what_last_went_out() {
    use Value::{Boolean, Double, Float, Integer, Null, Unsigned};
    #[rustfmt::skip]
    check(deadband(0.5), &[
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
    #[rustfmt::skip]
    check(interval(10), &[
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
    check(change(), &[
        (0.0, Integer(1),          GOOD, true),
        (1.0, Integer(1),          GOOD, false),
        (2.0, Double(1.0),         GOOD, true),   // another type is another value
        (3.0, Value::string("on"), GOOD, true),
        (4.0, Value::string("on"), GOOD, false),
        (5.0, Value::string("on"), BAD,  true),
    ]);
    let mut rules = rules(vec![thin("c", "#", change())]);
    let plain = reading(0.0, Integer(1), GOOD);
    let metres = Reading { unit: Some(Unit::new("m").unwrap()), ..plain.clone() };
    assert_eq!(decide(&mut rules, "a", &plain), Verdict::Pass);
    assert_eq!(decide(&mut rules, "a", &metres), Verdict::Pass);
    assert_eq!(decide(&mut rules, "a", &metres), Verdict::Filtered(0));
}

#[test]
fn all_conditions_of_a_rule_must_be_met() {
    let both = Thinning { deadband: Some(Deadband::Absolute(1.0)), ..interval(10) };
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
    let mut rules = rules(vec![thin("wide", "a/#", deadband(10.0)), thin("same", "#", change())]);
    let mut decide = |name: &str, value: i64| {
        decide(&mut rules, name, &reading(0.0, Value::Integer(value), GOOD))
    };
    assert_eq!(decide("a/x", 1), Verdict::Pass);
    assert_eq!(decide("b/x", 1), Verdict::Pass);
    assert_eq!(decide("a/x", 2), Verdict::Filtered(0));
    assert_eq!(decide("b/x", 2), Verdict::Pass);
    assert_eq!(decide("b/x", 2), Verdict::Filtered(2));
    assert_eq!([&*rules.names()[0], &*rules.names()[2]], ["wide", "same"]);
}

#[test]
fn what_a_later_rule_holds_back_does_not_move_the_deadband() {
    let mut rules =
        rules(vec![thin("deadband", "#", deadband(1.0)), thin("interval", "#", interval(10))]);
    let mut decide = |seconds: f64, value: f64| decide(&mut rules, "a", &good(seconds, value));
    assert_eq!(decide(0.0, 0.0), Verdict::Pass);
    assert_eq!(decide(5.0, 5.0), Verdict::Filtered(2));
    assert_eq!(decide(10.0, 5.5), Verdict::Pass);
}

#[test]
fn memory_is_bounded_and_forgetting_lets_readings_pass() {
    let limits = MemoryLimits { topics: 100, bytes: 1 << 20 };
    let mut rules = Rules::new(vec![thin("c", "#", change())], limits);
    for number in 0..1_000 {
        let name = format!("t/{number}");
        let verdict = decide(&mut rules, &name, &reading(0.0, Value::Null, GOOD));
        assert_eq!(verdict, Verdict::Pass);
        assert!(rules.memory.len() <= 100);
    }
    let recent = reading(0.0, Value::Null, GOOD);
    assert_eq!(decide(&mut rules, "t/999", &recent), Verdict::Filtered(0));
    assert_eq!(decide(&mut rules, "t/0", &recent), Verdict::Pass);
    let large = Value::string(&"x".repeat(200_000));
    for number in 0..100 {
        decide(&mut rules, &format!("l/{number}"), &reading(0.0, large.clone(), GOOD));
        assert!(rules.memory.len() <= 100);
    }
    assert!(rules.memory.len() < 10, "large values are forgotten earlier");
}

/// uplink.4
#[test]
fn a_percent_deadband_is_of_the_last_number_that_went_out() {
    use Value::{Double, Integer};
    let percent = Thinning { deadband: Some(Deadband::Percent(10.0)), ..Thinning::default() };
    #[rustfmt::skip]
    check(percent, &[
        (0.0, Double(100.0),    GOOD, true),
        (1.0, Double(110.0),    GOOD, false),
        (2.0, Double(110.5),    GOOD, true),
        (3.0, Integer(122),     GOOD, true),
        (4.0, Integer(110),     GOOD, false),
        (5.0, Integer(0),       GOOD, true),
        (6.0, Integer(0),       GOOD, false),
        (7.0, Double(1e-9),     GOOD, true),   // a tenth of nothing is nothing
        (8.0, Double(-1e-9),    GOOD, true),
    ]);
}

/// uplink.4
#[test]
fn a_heartbeat_lets_an_unchanged_value_out() {
    use Value::Integer;
    let heartbeat = Thinning { heartbeat: Some(Duration::from_secs(60)), ..change() };
    #[rustfmt::skip]
    check(heartbeat, &[
        (0.0,   Integer(1), GOOD, true),
        (59.9,  Integer(1), GOOD, false),
        (60.0,  Integer(1), GOOD, true),
        (119.0, Integer(1), GOOD, false),
        (119.5, Integer(2), GOOD, true),
        (179.0, Integer(2), GOOD, false),   // counted from what went out last
        (179.5, Integer(2), GOOD, true),
        (10.0,  Integer(2), GOOD, true),    // the clock was set back
    ]);
    let with_deadband = Thinning { heartbeat: Some(Duration::from_secs(60)), ..deadband(1.0) };
    check(with_deadband, &[(0.0, Integer(1), GOOD, true), (60.0, Integer(1), GOOD, true)]);
}

/// uplink.4
#[test]
fn a_condition_must_hold_and_what_has_no_result_does_not() {
    let scope = Scope { captures: &[], payload: None, subject: Subject::Record };
    let text = "value > 5 and quality == \"good\" and topic != \"b\"";
    let when = Expression::parse(text, scope, ResultKind::Condition).unwrap();
    let mut rules =
        rules(vec![thin("w", "#", Thinning { when: Some(when), ..Thinning::default() })]);
    #[rustfmt::skip]
    let cases = [
        ("a", Value::Integer(6),        GOOD, Verdict::Pass),
        ("b", Value::Integer(6),        GOOD, Verdict::Filtered(0)),
        ("a", Value::Integer(5),        GOOD, Verdict::Filtered(0)),
        ("a", Value::Integer(6),        BAD,  Verdict::Filtered(0)),
        ("a", Value::string("six"),     GOOD, Verdict::Filtered(0)),
        ("a", Value::Null,              GOOD, Verdict::Filtered(0)),
    ];
    for (name, value, status, expected) in cases {
        assert_eq!(decide(&mut rules, name, &reading(0.0, value, status)), expected);
    }
}

/// uplink.4
#[test]
fn what_is_excluded_never_goes_out() {
    let mut rules = rules(vec![rule("out", "a/#", Action::Exclude)]);
    assert_eq!(decide(&mut rules, "a/x", &good(0.0, 1.0)), Verdict::Filtered(0));
    assert_eq!(decide(&mut rules, "a/x", &reading(0.0, Value::Null, BAD)), Verdict::Filtered(0));
    assert_eq!(decide(&mut rules, "b", &good(0.0, 1.0)), Verdict::Pass);
}
