use super::*;

fn converted(conversion: Conversion, reading: &Reading) -> Option<Reading> {
    let mut rules = rules(vec![rule("c", "#", Action::Convert(conversion))]);
    match decide(&mut rules, "a", reading) {
        Verdict::Pass => None,
        Verdict::Changed(reading) => Some(*reading),
        other => panic!("{other:?}"),
    }
}

/// uplink.4
#[test]
fn numbers_are_rounded_and_other_types_left_alone() {
    use Rounding::{Digits, Step};
    use Value::{Boolean, Double, Float, Integer, Unsigned};
    #[rustfmt::skip]
    let cases = [
        (Digits(1),   Double(21.25),        Some(Double(21.3))),
        (Digits(1),   Double(-21.25),       Some(Double(-21.3))),
        (Digits(1),   Double(21.3),         None),
        (Digits(2),   Double(1e300),        None),
        (Digits(0),   Double(0.5),          Some(Double(1.0))),
        (Digits(1),   Float(0.26),          Some(Float(0.3))),
        (Digits(1),   Integer(7),           None),
        (Digits(1),   Double(f64::NAN),     None),
        (Step(0.5),   Double(21.3),         Some(Double(21.5))),
        (Step(0.1),   Double(0.34),         Some(Double(0.3))),
        (Step(10.0),  Integer(25),          Some(Integer(30))),
        (Step(10.0),  Integer(-25),         Some(Integer(-30))),
        (Step(10.0),  Integer(24),          Some(Integer(20))),
        (Step(0.3),   Integer(1),           Some(Double(0.9))),
        (Step(10.0),  Unsigned(u64::MAX),   Some(Double(18_446_744_073_709_552_000.0))),
        (Step(1.0),   Boolean(true),        None),
    ];
    for (rounding, value, expected) in cases {
        let conversion = Conversion { rounding: Some(rounding), ..Conversion::default() };
        let result = converted(conversion, &reading(0.0, value.clone(), GOOD));
        assert_eq!(result.map(|it| it.value), expected, "{value} by {rounding:?}");
    }
}

/// uplink.4
#[test]
fn units_are_converted_where_they_are_as_said() {
    let unit = |text| Some(Unit::new(text).unwrap());
    let conversion = Conversion {
        from: unit("degF"),
        to: unit("Cel"),
        linear: between("degF", "Cel"),
        rounding: Some(Rounding::Digits(6)),
    };
    let boiling = Reading { unit: unit("degF"), ..good(0.0, 212.0) };
    let result = converted(conversion.clone(), &boiling).unwrap();
    assert_eq!((result.value, result.unit), (Value::Double(100.0), unit("Cel")));
    let other = Reading { unit: unit("K"), ..good(0.0, 212.0) };
    assert_eq!(converted(conversion.clone(), &other), None);
    assert_eq!(converted(conversion, &good(0.0, 212.0)), None);
    let huge =
        Conversion { linear: Some(Linear { scale: 1e10, offset: 0.0 }), ..Conversion::default() };
    assert_eq!(converted(huge, &good(0.0, 1e305)), None, "what cannot be told stays");
}

#[test]
fn known_pairs_work_both_ways() {
    let apply = |from, to, number: f64| {
        between(from, to).map(|Linear { scale, offset }| number * scale + offset)
    };
    #[rustfmt::skip]
    let cases = [
        ("degF", "Cel",     32.0,   0.0),
        ("Cel",  "degF",    100.0,  212.0),
        ("K",    "Cel",     273.15, 0.0),
        ("Cel",  "K",       0.0,    273.15),
        ("Pa",   "bar",     1e5,    1.0),
        ("psi",  "bar",     14.503_773_773, 1.0),
        ("km/h", "m/s",     36.0,   10.0),
        ("m3/h", "l/min",   0.6,    10.0),
    ];
    for (from, to, number, expected) in cases {
        let result = apply(from, to, number).unwrap();
        assert!((result - expected).abs() < 1e-6, "{number} {from} is {result} {to}");
    }
    assert_eq!(between("Cel", "bar"), None);
    assert!(known_units().contains(&"Cel"));
}

/// uplink.4: a rule compares with what went out as it stood there, whatever later rules make of it.
#[test]
fn a_deadband_before_a_conversion_compares_what_it_sees() {
    let scale = |scale| {
        Action::Convert(Conversion {
            linear: Some(Linear { scale, offset: 0.0 }),
            ..Conversion::default()
        })
    };
    let mut rules = rules(vec![
        thin("before", "#", deadband(1.0)),
        rule("scale", "#", scale(100.0)),
        thin("after", "#", deadband(500.0)),
    ]);
    let mut decide = |value: f64| match decide(&mut rules, "a", &good(0.0, value)) {
        Verdict::Changed(reading) => Ok(reading.value),
        Verdict::Filtered(name) => Err(name),
        other => panic!("{other:?}"),
    };
    assert_eq!(decide(1.0), Ok(Value::Double(100.0)));
    assert_eq!(decide(1.5), Err(0));
    assert_eq!(decide(3.0), Err(4));
    assert_eq!(decide(1.9), Err(0), "3.0 did not go out");
    assert_eq!(decide(7.0), Ok(Value::Double(700.0)));
}
