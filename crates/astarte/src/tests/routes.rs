//! Ways between topics and paths.

use super::interfaces;
use crate::{Ownership, RouteError, Routes, Way};

fn way(owner: Ownership, topic: &str, name: &str, path: &str) -> Result<Way, RouteError> {
    let all = interfaces();
    Way::new(all.get(name).unwrap(), owner, topic, path)
}

fn up(topic: &str, name: &str, path: &str) -> Result<Way, RouteError> {
    way(Ownership::Device, topic, name, path)
}

/// uplink.22: a topic has one path, and the path one topic.
#[test]
fn uplink_22_ways_lead_both_ways() {
    let ways = vec![
        up("hall1/{press}/temperature", "org.example.Values", "/{press}/temp").unwrap(),
        up("hall1/press-{n}/env", "org.example.Env", "/{n}").unwrap(),
    ];
    assert_eq!(ways[0].filter(), "hall1/+/temperature");
    let down = way(
        Ownership::Server,
        "hall1/press-{n}/pressure",
        "org.example.Setpoint",
        "/p{n}/pressure",
    );
    let routes = Routes::new(ways, vec![down.unwrap()]);
    #[rustfmt::skip]
    let cases = [
        ("hall1/press-1/temperature",   Some(("org.example.Values", "/press-1/temp"))),
        ("hall1/press-7/env",           Some(("org.example.Env", "/7"))),
        ("hall1/press-/env",            None),
        ("hall2/press-1/temperature",   None),
        ("hall1//temperature",          None),
    ];
    for (topic, expected) in cases {
        let place = routes.up(topic);
        let found = place.as_ref().map(|place| (place.interface.as_str(), place.path.as_str()));
        assert_eq!(found, expected, "{topic}");
    }
    let down = |interface, path| routes.down(interface, path).map(|topic| topic.to_string());
    let expected = Some("hall1/press-12/pressure".to_owned());
    assert_eq!(down("org.example.Setpoint", "/p12/pressure"), expected);
    assert_eq!(down("org.example.Setpoint", "/x12/pressure"), None);
    assert_eq!(down("org.example.Orders", "/p12/pressure"), None);
}

/// uplink.22: what would fail later shows at once.
#[test]
fn uplink_22_ways_that_lead_nowhere_are_refused() {
    use RouteError::{Interface, Path, Topic};
    let is_topic = |error: &RouteError| matches!(error, Topic(_));
    let is_path = |error: &RouteError| matches!(error, Path(_));
    let is_interface = |error: &RouteError| matches!(error, Interface(_));
    type Check<'a> = &'a dyn Fn(&RouteError) -> bool;
    #[rustfmt::skip]
    let cases: [(&str, &str, &str, Check<'_>); 10] = [
        ("hall/{a}/t",      "org.example.Values",      "/{a}/speed",    &is_path),
        ("hall/{a}/t",      "org.example.Values",      "/{b}/temp",     &is_path),
        ("hall/{a}/{b}/t",  "org.example.Values",      "/{a}/temp",     &is_path),
        ("hall/{a}/t",      "org.example.Values",      "{a}/temp",      &is_path),
        ("hall/{a}/t",      "org.example.Values",      "/room/{a}",     &is_path),
        ("hall/{a}/t",      "org.example.Env",         "/{a}/temp",     &is_path),
        ("hall/{a/t",       "org.example.Values",      "/{a}/temp",     &is_topic),
        ("hall/+/t",        "org.example.Values",      "/x/temp",       &is_topic),
        ("hall/{a}/{a}",    "org.example.Values",      "/{a}/temp",     &is_topic),
        ("hall/{a}/t",      "org.example.Setpoint",    "/{a}/pressure", &is_interface),
    ];
    for (topic, name, path, is_expected) in cases {
        let error = up(topic, name, path).unwrap_err();
        assert!(is_expected(&error), "{topic} {name}{path}: {error:?}");
    }
    assert!(matches!(
        way(Ownership::Server, "a/{p}", "org.example.Values", "/{p}/temp"),
        Err(Interface(_))
    ));
}

#[test]
fn uplink_22_two_ways_for_one_reading_are_seen() {
    let all = up("hall/{a}/t", "org.example.Values", "/{a}/temp").unwrap();
    let one = up("hall/press/t", "org.example.Values", "/press/temp").unwrap();
    let other = up("hall/{a}/u", "org.example.Values", "/{a}/temp").unwrap();
    let fixed = up("x/y", "org.example.Values", "/press/temp").unwrap();
    assert!(all.meets(&one));
    assert!(!all.meets(&other));
    assert!(one.meets(&fixed), "both write one path");
    let down = |topic: &str, path: &str| {
        way(Ownership::Server, topic, "org.example.Setpoint", path).unwrap()
    };
    let (all, one) = (down("a/{p}", "/{p}/pressure"), down("b", "/x/pressure"));
    assert!(all.meets_below(&one));
}
