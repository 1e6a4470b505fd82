use super::*;

fn anomaly(season: Option<Season>) -> Anomaly {
    Anomaly {
        deviations: 4.0,
        least: 0.5,
        memory: 200,
        warm_up: 20,
        season,
        topic: EventTopic::new("tidegate/gw/anomaly/{topic}"),
    }
}

/// What an ordinary reading brings.
const NOTHING: (Verdict, Effects) =
    (Verdict::Pass, Effects { made: Vec::new(), made_in_vain: Vec::new(), released: Vec::new() });

fn watch(anomaly: Anomaly) -> Rules {
    rules(vec![rule("odd", "#", Action::Anomaly(anomaly))])
}

fn member(reading: &Reading, name: &str) -> Value {
    let Value::Document(document) = &reading.value else { panic!("{reading:?}") };
    document.get(name).unwrap().clone()
}

/// A value around 20 with a deviation of about 0.7, the same every time.
fn ordinary(index: u32) -> f64 {
    20.0 + f64::from(index * 7 % 5) / 2.0 - 1.0
}

fn decide_one(rules: &mut Rules, seconds: f64, value: f64) -> (Verdict, Effects) {
    let mut effects = Effects::default();
    (rules.decide(&topic("a/t"), &good(seconds, value), &mut effects), effects)
}

/// uplink.5
#[test]
fn what_is_out_of_the_ordinary_is_marked_and_told_of() {
    let mut rules = watch(anomaly(None));
    for index in 0..50 {
        let value = ordinary(index);
        assert_eq!(decide_one(&mut rules, f64::from(index), value), NOTHING);
    }
    let (verdict, effects) = decide_one(&mut rules, 50.0, 30.0);
    let Verdict::Changed(marked) = verdict else { panic!("{verdict:?}") };
    assert_eq!((marked.status.code(), marked.status.is_good()), (0x0600, true), "limit bits: high");
    assert_eq!(marked.value, Value::Double(30.0));
    let [event] = effects.made.as_slice() else { panic!("{effects:?}") };
    assert_eq!(event.topic.as_str(), "tidegate/gw/anomaly/a/t");
    assert_eq!(event.reading.time(), marked.time());
    for (name, expected) in [
        ("state", Value::string("begin")),
        ("rule", Value::string("odd")),
        ("topic", Value::string("a/t")),
        ("value", Value::Double(30.0)),
        ("count", Value::Integer(1)),
    ] {
        assert_eq!(member(&event.reading, name), expected, "{name}");
    }
    let mean = member(&event.reading, "mean").as_f64().unwrap();
    let deviation = member(&event.reading, "deviation").as_f64().unwrap();
    assert!((mean - 20.0).abs() < 0.1 && (deviation - 0.707).abs() < 0.05, "{mean} {deviation}");

    let (verdict, effects) = decide_one(&mut rules, 51.0, 10.0);
    let Verdict::Changed(marked) = verdict else { panic!("{verdict:?}") };
    assert_eq!((marked.status.code(), effects.made.len()), (0x0500, 0), "low, told of once");
    let (verdict, effects) = decide_one(&mut rules, 52.0, 20.0);
    assert_eq!(verdict, Verdict::Pass);
    assert_eq!(member(&effects.made[0].reading, "state"), Value::string("end"));
    assert_eq!(member(&effects.made[0].reading, "count"), Value::Integer(2));
}

/// uplink.5
#[test]
fn nothing_is_odd_before_the_warm_up_nor_what_is_no_sound_number() {
    let mut rules = watch(anomaly(None));
    for index in 0..20 {
        let value = f64::from(index % 2) * 1_000.0;
        assert_eq!(decide_one(&mut rules, f64::from(index), value), NOTHING);
    }
    for (value, status) in
        [(Value::Double(1e9), BAD), (Value::Double(f64::NAN), GOOD), (Value::string("x"), GOOD)]
    {
        assert_eq!(decide(&mut rules, "a/t", &reading(30.0, value, status)), Verdict::Pass);
    }
}

/// uplink.5: a source that says itself that a limit is reached keeps its word (D26).
#[test]
fn the_limit_bits_of_a_source_stay() {
    let mut rules = watch(anomaly(None));
    for index in 0..50 {
        decide_one(&mut rules, f64::from(index), ordinary(index));
    }
    let own = Status::from_code(0x4090_0500);
    let mut effects = Effects::default();
    let reading = reading(50.0, Value::Double(1e3), own);
    assert_eq!(rules.decide(&topic("a/t"), &reading, &mut effects), Verdict::Pass);
    assert_eq!(effects.made.len(), 1, "and it is told of all the same");
}

/// uplink.5: a lasting change becomes ordinary, from any past.
#[test]
fn a_lasting_change_becomes_ordinary() {
    for steady in [false, true] {
        let mut rules = watch(Anomaly { least: 0.0, memory: 50, ..anomaly(None) });
        for index in 0..100 {
            let value = if steady { 20.0 } else { ordinary(index) };
            decide_one(&mut rules, f64::from(index), value);
        }
        let odd = (100..400)
            .filter(|index| {
                let value = if steady { 40.0 } else { 20.0 + ordinary(*index) };
                decide_one(&mut rules, f64::from(*index), value).0 != Verdict::Pass
            })
            .count();
        assert!((1..150).contains(&odd), "{odd}, steady: {steady}");
    }
}

/// uplink.5: warm by day and cold at night is ordinary; warm at night is not.
#[test]
fn a_season_has_its_own_means() {
    let day = Season { period: Duration::from_secs(86_400), parts: 24 };
    let mut seasonal = watch(anomaly(Some(day)));
    let mut plain = watch(anomaly(None));
    let hour = |hours: u32| f64::from(hours) * 3_600.0;
    let value = |hours: u32| if hours % 24 < 12 { ordinary(hours) - 15.0 } else { ordinary(hours) };
    for hours in 0..24 * 30 {
        assert_eq!(decide_one(&mut seasonal, hour(hours), value(hours)), NOTHING);
        decide_one(&mut plain, hour(hours), value(hours));
    }
    // Noon is as ever, and three at night as warm as noon.
    let noon = 24 * 30 + 12;
    assert_eq!(decide_one(&mut seasonal, hour(noon), 20.0), NOTHING);
    let night = 24 * 31 + 3;
    assert_ne!(decide_one(&mut seasonal, hour(night), 20.0).0, Verdict::Pass);
    assert_eq!(decide_one(&mut plain, hour(night), 20.0).0, Verdict::Pass);
}

/// Weeks begin on Mondays.
#[test]
fn a_week_begins_on_monday() {
    let week = Season { period: Duration::from_secs(7 * 86_400), parts: 7 };
    let mut rules = watch(Anomaly { warm_up: 1, least: 10.0, ..anomaly(Some(week)) });
    let time = |text: &str| Timestamp::parse(text).unwrap().as_unix_micros() as f64 / 1e6;
    decide_one(&mut rules, time("2026-11-16T00:00:00Z"), 0.0); // a Monday
    let same = decide_one(&mut rules, time("2026-11-16T23:59:59Z"), 100.0).0;
    assert_ne!(same, Verdict::Pass, "the same day of the week");
    let sunday = decide_one(&mut rules, time("2026-11-15T23:59:59Z"), 100.0).0;
    assert_eq!(sunday, Verdict::Pass, "another one");
}

/// uplink.5: a deadband behind lets a marked reading pass.
#[test]
fn a_mark_is_a_change_of_status_for_the_rules_behind() {
    let mut rules = rules(vec![
        rule("odd", "#", Action::Anomaly(anomaly(None))),
        thin("quiet", "#", deadband(1_000.0)),
    ]);
    assert_eq!(decide_one(&mut rules, 0.0, 20.0).0, Verdict::Pass);
    for index in 1..50 {
        assert_eq!(
            decide_one(&mut rules, f64::from(index), ordinary(index)).0,
            Verdict::Filtered(2)
        );
    }
    assert!(matches!(decide_one(&mut rules, 50.0, 40.0).0, Verdict::Changed(_)));
    assert_eq!(decide_one(&mut rules, 51.0, 40.0).0, Verdict::Filtered(2));
    assert_eq!(decide_one(&mut rules, 52.0, 20.0).0, Verdict::Pass);
}
