//! Descriptions of interfaces, their names and paths, and the introspection.

use tidegate_model::Qos;

use super::{device, head, interface, interfaces, json};
use crate::{Aggregation, DeviceId, Incoming, Interface, InterfaceName, Interfaces, Realm, Target};

#[test]
fn uplink_22_names_are_checked() {
    for good in ["org.example.Values", "Values", "org.0-x.V1", "a.b-c.d0.E"] {
        assert!(InterfaceName::new(good).is_some(), "{good}");
    }
    let long = format!("org.{}", "x".repeat(125));
    let bad = [
        "", "org.", ".x", "1org.x", "org.1x", "or-g.x", "org.x-y", "org..x", "control", "Device",
        &long,
    ];
    for bad in bad {
        assert!(InterfaceName::new(bad).is_none(), "{bad}");
    }
    for bad in ["", "Test", "1st", "te-st", &"a".repeat(49)] {
        assert!(Realm::new(bad).is_err(), "{bad}");
    }
    for bad in [
        "",
        "V_zv6ThCCtXWveQ8mPjsK",
        "V_zv6ThCCtXWveQ8mPjsKg==",
        "V_zv6ThCCtXWveQ8mPjsKgAA",
        "V_zv6ThCCtXWveQ8mPjs/g",
    ] {
        assert!(DeviceId::new(bad).is_err(), "{bad}");
    }
    assert_eq!(DeviceId::from_bytes([0; 16]).as_str(), "AAAAAAAAAAAAAAAAAAAAAA");
}

/// uplink.22: everything that is wrong is told at once, by its member.
#[test]
fn uplink_22_descriptions_that_are_wrong_say_where() {
    let plain = || head("org.example.A", "datastream", "device", "");
    let object = || head("org.example.A", "datastream", "device", r#","aggregation":"object""#);
    let one = [("/a", "double", "")];
    #[rustfmt::skip]
    let cases = [
        ("{".to_owned(),                                                        ""),
        ("[]".to_owned(),                                                       ""),
        (json(&plain(), &[]),                                                   "mappings"),
        (json(&plain().replace("datastream", "stream"), &one),                  "type"),
        (json(&plain().replace("org.example.A", "org.example.A-"), &one),       "interface_name"),
        (json(&plain().replace(":1,", ":0,").replace(":2,", ":0,"), &one),      "version_minor"),
        (json(&plain().replace(":1,", ":-1,"), &one),                           "version_major"),
        (json(&head("org.example.A", "properties", "device", r#","aggregation":"object""#), &[("/a/b", "double", "")]), "aggregation"),
        (json(&plain(), &[("a", "double", "")]),                                "mappings[0].endpoint"),
        (json(&plain(), &[("/a//b", "double", "")]),                            "mappings[0].endpoint"),
        (json(&plain(), &[("/%{a", "double", "")]),                             "mappings[0].endpoint"),
        (json(&plain(), &[("/a+", "double", "")]),                              "mappings[0].endpoint"),
        (json(&plain(), &[("/1a", "double", "")]),                              "mappings[0].endpoint"),
        (json(&plain(), &[("/a", "float", "")]),                                "mappings[0].type"),
        (json(&plain(), &[("/a", "double", r#","reliability":"sure""#)]),       "mappings[0].reliability"),
        (json(&plain(), &[("/a", "double", r#","allow_unset":true"#)]),         "mappings[0].allow_unset"),
        (json(&plain(), &[("/a", "double", r#","required":true"#)]),            "mappings[0].required"),
        (json(&plain(), &[("/a", "double", r#","database_retention_policy":"use_ttl""#)]), "mappings[0].database_retention_ttl"),
        // Two endpoints for one path, and one below another.
        (json(&plain(), &[("/%{a}/x", "double", ""), ("/b/%{c}", "double", "")]), "mappings[1].endpoint"),
        (json(&plain(), &[("/some/thing", "double", ""), ("/some/%{p}/value", "double", "")]), "mappings[1].endpoint"),
        // Objects.
        (json(&object(), &[("/a", "double", "")]),                              "mappings[0].endpoint"),
        (json(&object(), &[("/a/x", "double", ""), ("/b/y", "double", "")]),    "mappings[1].endpoint"),
        (json(&object(), &[("/a/x", "double", ""), ("/a/y", "double", r#","reliability":"unique""#)]), "mappings[1].endpoint"),
        (json(&object(), &[("/a/%{x}", "double", "")]),                         "mappings[0].endpoint"),
    ];
    for (text, member) in cases {
        let errors = Interface::from_json(text.as_bytes()).unwrap_err();
        assert_eq!(errors[0].member, member, "{text}: {errors:?}");
    }
    let two = json(&plain().replace("device", "nobody"), &[("/a", "float", "")]);
    assert_eq!(Interface::from_json(two.as_bytes()).unwrap_err().len(), 2);
}

/// uplink.22, section 11.3.
#[test]
fn uplink_22_introspection_names_all() {
    assert_eq!(Interfaces::default().introspection(), "");
    let one =
        interface(&head("org.example.B", "datastream", "device", ""), &[("/a", "double", "")]);
    let other =
        interface(&head("org.example.A", "properties", "server", ""), &[("/a", "double", "")]);
    let both = Interfaces::new([one.clone(), other]).unwrap();
    assert_eq!(Interfaces::new([one.clone()]).unwrap().introspection(), "org.example.B:1:2");
    assert_eq!(both.introspection(), "org.example.A:1:2;org.example.B:1:2");
    let a = interface(&head("org.ex-am.B", "datastream", "device", ""), &[("/a", "double", "")]);
    let b = interface(&head("org.exam.b", "datastream", "device", ""), &[("/a", "double", "")]);
    assert!(Interfaces::new([a, b]).is_err(), "neither case nor hyphens count");
}

/// uplink.22, section 11.4.
#[test]
fn uplink_22_paths_are_resolved() {
    let all = interfaces();
    #[rustfmt::skip]
    let cases = [
        // interface              path                          found
        ("org.example.Values",   "/room1/temp",                 true),
        ("org.example.Values",   "/r\u{f6}\u{f6}m 1/count",     true),
        ("org.example.Values",   "/room1",                      false),
        ("org.example.Values",   "/room1/temp/x",               false),
        ("org.example.Values",   "room1/temp",                  false),
        ("org.example.Values",   "//temp",                      false),
        ("org.example.Values",   "/+/temp",                     false),
        ("org.example.Values",   "/a#/temp",                    false),
        ("org.example.values",   "/room1/temp",                 false),
        ("org.example.Env",      "/room1",                      true),
        ("org.example.Env",      "/room1/temp",                 false),
        ("org.example.Env",      "/",                           false),
    ];
    for (name, path, found) in cases {
        assert_eq!(all.resolve(name, path).is_some(), found, "{name}{path}");
    }
    let (env, target) = all.resolve("org.example.Env", "/room1").unwrap();
    assert!(matches!(target, Target::Object(_)) && env.aggregation() == Aggregation::Object);
    assert_eq!(env.qos(target.mapping()), Qos::AtLeastOnce);
    let (values, target) = all.resolve("org.example.Values", "/a/temp").unwrap();
    assert_eq!(values.qos(target.mapping()), Qos::AtMostOnce);
    let (config, target) = all.resolve("org.example.edge.Config", "/enabled").unwrap();
    assert_eq!(config.qos(target.mapping()), Qos::ExactlyOnce);
}

#[test]
fn uplink_22_topics_are_read() {
    let device = device();
    let base = "test/V_zv6ThCCtXWveQ8mPjsKg";
    assert_eq!(device.base(), base);
    let read = |below: &str| device.read_topic(Box::leak(format!("{base}{below}").into()));
    assert_eq!(read("/control/consumer/properties"), Some(Incoming::ConsumerProperties));
    assert_eq!(read("/control/keyAgreement/x"), Some(Incoming::OtherControl));
    let data = Incoming::Data { interface: "org.example.Orders", path: "/p1/text" };
    assert_eq!(read("/org.example.Orders/p1/text"), Some(data));
    assert_eq!((read(""), read("x/y"), read("/x")), (None, None, None));
    assert_eq!(device.read_topic("other/device/org.example.Orders/p1/text"), None);
}
