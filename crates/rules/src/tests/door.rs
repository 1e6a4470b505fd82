use proptest::prelude::*;

use super::*;

fn door(bound: f64, longest: u64) -> Rule {
    let longest = Duration::from_secs(longest);
    rule("d", "#", Action::SwingingDoor(SwingingDoor { bound, longest }))
}

/// Feeds readings and returns what goes out, in order, as seconds and number.
fn feed(rules: &mut Rules, readings: &[Reading]) -> Vec<(f64, f64)> {
    let mut sent = Vec::new();
    for reading in readings {
        let mut effects = Effects::default();
        let verdict = rules.decide(&topic("a"), reading, &mut effects);
        sent.extend(numbers(&effects));
        if verdict == Verdict::Pass {
            let seconds = reading.time().as_unix_micros() as f64 / 1e6;
            sent.push((seconds, reading.value.as_f64().unwrap_or(f64::NAN)));
        }
    }
    sent
}

fn numbers(effects: &Effects) -> Vec<(f64, f64)> {
    let number = |made: &Made| {
        let seconds = made.reading.time().as_unix_micros() as f64 / 1e6;
        (seconds, made.reading.value.as_f64().unwrap())
    };
    effects.made.iter().map(number).collect()
}

fn at(seconds: f64) -> Timestamp {
    good(seconds, 0.0).time()
}

/// uplink.4
#[test]
fn a_straight_line_is_its_ends() {
    let mut rules = rules(vec![door(0.5, 3_600)]);
    let ramp: Vec<Reading> = (0..100).map(|step| good(f64::from(step), f64::from(step))).collect();
    assert_eq!(feed(&mut rules, &ramp), [(0.0, 0.0)]);
    assert_eq!(feed(&mut rules, &[good(100.0, 0.0)]), [(99.0, 99.0)]);
    assert_eq!(rules.held().values().sum::<u64>(), 1);
    let mut effects = Effects::default();
    rules.advance(at(100.0 + 3_600.0), &mut effects);
    assert_eq!((numbers(&effects), effects.released), (vec![(100.0, 0.0)], vec![(0, 1)]));
    assert_eq!(rules.wake(), None);
}

/// uplink.4: the door as first published would send 0, 2 and 4 here and be 1.5 off at the second.
#[test]
fn the_line_that_is_sent_must_fit_not_any_line_through_the_door() {
    let mut rules = rules(vec![door(1.0, 3_600)]);
    let readings = [good(0.0, 0.0), good(1.0, 1.0), good(2.0, -1.0), good(3.0, -2.0)];
    let mut sent = feed(&mut rules, &readings);
    let mut effects = Effects::default();
    rules.advance(at(1e6), &mut effects);
    sent.extend(numbers(&effects));
    assert_eq!(sent, [(0.0, 0.0), (1.0, 1.0), (3.0, -2.0)]);
}

/// uplink.4
#[test]
fn what_is_not_on_a_line_passes_after_what_waits() {
    let mut rules = rules(vec![door(10.0, 3_600)]);
    feed(&mut rules, &[good(0.0, 0.0), good(1.0, 1.0)]);
    let sent = feed(&mut rules, &[reading(2.0, Value::Null, BAD)]);
    assert_eq!(sent[0], (1.0, 1.0));
    assert!(sent[1].1.is_nan());
    assert_eq!(feed(&mut rules, &[good(3.0, 2.0), good(4.0, 2.0)]), [(3.0, 2.0)]);
    // Between what was sent and what waits.
    assert_eq!(feed(&mut rules, &[good(3.5, 2.5)]), [(3.5, 2.5)]);
    let uncertain = reading(5.0, Value::Double(3.0), Status::UNCERTAIN);
    assert_eq!(feed(&mut rules, &[uncertain]), [(4.0, 2.0), (5.0, 3.0)]);
    assert_eq!(
        feed(&mut rules, &[good(6.0, 3.0), good(7.0, 3.0), good(1.0, 4.0)]),
        [(6.0, 3.0), (7.0, 3.0), (1.0, 4.0),]
    );
}

/// uplink.4
#[test]
fn nothing_waits_longer_than_said() {
    let mut rules = rules(vec![door(10.0, 60)]);
    let steady: Vec<Reading> = (0..=130).map(|second| good(f64::from(second), 1.0)).collect();
    assert_eq!(feed(&mut rules, &steady), [(0.0, 1.0), (60.0, 1.0), (120.0, 1.0)]);
    assert_eq!(feed(&mut rules, &[good(500.0, 1.0)]), [(130.0, 1.0), (500.0, 1.0)]);
}

proptest! {
    /// uplink.4: the stated bound. Every reading in order is within it of the straight line between the
    /// two sent ones around it, or was sent.
    #[test]
    fn every_reading_is_near_the_line_between_those_sent(
        steps in prop::collection::vec((1_i64..5_000_000, -1e6_f64..1e6), 1..200),
        bound in 0.0_f64..2e5,
        walk in any::<bool>(),
    ) {
        let mut rules = rules(vec![door(bound, 3_600)]);
        let (mut micros, mut level) = (0, 0.0);
        let mut readings = Vec::new();
        for (step, value) in steps {
            micros += step;
            level = if walk { level + value / 10.0 } else { value };
            let seconds = micros as f64 / 1e6;
            readings.push(good(seconds, level));
        }
        let mut sent = feed(&mut rules, &readings);
        let mut effects = Effects::default();
        rules.advance(at(1e9), &mut effects);
        sent.extend(numbers(&effects));
        prop_assert!(rules.held().is_empty());
        for reading in &readings {
            let time = reading.time().as_unix_micros() as f64 / 1e6;
            let number = reading.value.as_f64().unwrap();
            let next = sent.iter().position(|(at, _)| *at >= time).unwrap();
            let (to, end) = sent[next];
            if to == time {
                prop_assert_eq!(end, number);
                continue;
            }
            let (from, begin) = sent[next - 1];
            let line = begin + (end - begin) * (time - from) / (to - from);
            let allowed = bound + 1e-9 * (1.0 + begin.abs() + end.abs() + number.abs());
            prop_assert!((line - number).abs() <= allowed, "{number} at {time}, line {line}");
        }
    }
}
