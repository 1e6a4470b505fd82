//! uplink.27: what ends a ring, and where topics go.

use tidegate_model::{Payload, Qos, Timestamp, UplinkName};

use super::*;

fn with_user(pairs: &[(&str, &str)]) -> Properties {
    let user = pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    Properties { user, ..Properties::default() }
}

fn message(publisher: Principal, path: Option<&str>) -> Message {
    Message {
        topic: Topic::new("a/b").unwrap(),
        payload: Payload::bytes("x"),
        qos: Qos::AtLeastOnce,
        retain: false,
        properties: path.map(|path| Arc::new(with_user(&[(PATH, path)]))),
        publisher,
        arrival: Timestamp::from_unix_micros(0),
    }
}

fn uplink(name: &str) -> Principal {
    Principal::uplink(&UplinkName::new(name).unwrap())
}

#[test]
fn a_way_grows_and_ends() {
    assert_eq!(check_path(None, "gw"), Ok(()));
    assert_eq!(&*path_from_here(None, "gw"), "gw");
    let been = with_user(&[("k", "v"), (PATH, "a/b"), (PATH, "c")]);
    assert_eq!(&*path_from_here(Some(&been), "gw"), "a/b/c/gw");
    assert_eq!(check_path(Some(&been), "gw"), Ok(()));
    assert_eq!(check_path(Some(&been), "b"), Err(PathFault::Loop));
    assert_eq!(check_path(Some(&been), "a/b"), Ok(()), "an id is one level");
    let long = |count: usize| with_user(&[(PATH, &vec!["x"; count].join("/"))]);
    assert_eq!(check_path(Some(&long(HOPS_MAX - 1)), "gw"), Ok(()));
    assert_eq!(check_path(Some(&long(HOPS_MAX)), "gw"), Err(PathFault::Hops));
    let only = only_path(Some(&been)).unwrap();
    assert_eq!(only, with_user(&[(PATH, "a/b"), (PATH, "c")]));
    assert_eq!(only_path(Some(&with_user(&[("k", "v")]))), None);
}

#[test]
fn what_came_in_goes_out_only_where_it_may() {
    let bridge = |relay| Bridge {
        relay,
        own: Some(uplink("here")),
        others: vec![uplink("there")],
        ..Bridge::default()
    };
    let client = Principal::anonymous();
    #[rustfmt::skip]
    let cases = [
        // publisher        path            relay   raw     columns
        (client.clone(),    None,           false,  true,   true),
        (client.clone(),    Some("a"),      false,  true,   true),
        (client,            Some("a/gw"),   false,  false,  true),
        (uplink("here"),    None,           false,  false,  false),
        (uplink("here"),    None,           true,   false,  false),
        (uplink("there"),   None,           false,  false,  false),
        (uplink("there"),   None,           true,   true,   true),
        (uplink("there"),   Some("a"),      true,   true,   false),
        (uplink("there"),   Some("gw"),     true,   false,  false),
        // Commands that another uplink has brought are no bridge's.
        (uplink("cloud"),   None,           false,  true,   true),
    ];
    for (publisher, path, relay, raw, columns) in cases {
        let message = message(publisher, path);
        let goes = |format| bridge(relay).lets_out(&message, "gw", format);
        assert_eq!(
            (goes(Format::Raw), goes(Format::Columns)),
            (raw, columns),
            "{message:?}, relay {relay}"
        );
    }
}

#[test]
fn topics_are_moved_and_filters_with_them() {
    let filter = |text| TopicFilter::new(text).unwrap();
    #[rustfmt::skip]
    let cases = [
        // filter        strip       before      after    topic            here                 its filter
        ("c/#",          "",         "",         "",      "c/x/y",         Some("c/x/y"),       "c/#"),
        ("c/#",          "c/",       "",         "",      "c/x/y",         Some("x/y"),         "#"),
        ("c/#",          "c/",       "down/",    "",      "c/x",           Some("down/x"),      "down/#"),
        ("c/#",          "c/",       "down/",    "",      "c",             None,                "down/#"),
        ("c/#",          "c/",       "",         "",      "c/",            None,                "#"),
        ("c/+/t",        "c/",       "down/",    "/raw",  "c/x/t",         Some("down/x/t/raw"), "down/+/t/raw"),
        ("+/t",          "",         "x-",       "",      "p/t",           Some("x-p/t"),       "+/t"),
        ("c/#",          "c/",       "down/",    "/raw",  "c/x",           Some("down/x/raw"),  "down/#"),
        ("c/x",          "c/",       "",         "",      "c/x",           Some("x"),           "x"),
    ];
    for (far, strip, before, after, topic, here, local) in cases {
        let route = InRoute::new(filter(far), strip, before, after);
        let bridge = Bridge { inbound: vec![route.clone()], ..Bridge::default() };
        let made = bridge.local(topic).expect("it is for the route").ok();
        assert_eq!(made.as_ref().map(Topic::as_str), here, "{far} {topic}");
        assert_eq!(route.local_filter().as_str(), local, "{far}");
        assert!(made.is_none_or(|made| route.local_filter().matches(&made)));
        assert!(bridge.local("other/x/y/z").is_none());
    }
}
