//! Section 4.7: which topics and filters there are, and which match.

use super::client::Client;
use super::packets::{BOTH, Publish, V3, V5, Version, prop, subscribe};
use super::server::unique;

statements! {
    mqtt3_4_7_1_2_the_multi_level_wildcard => wrong_filters(V3, &["a#", "a/b#", "#/a", "a/#/b", "##", "+#"]);
    mqtt5_4_7_1_1_the_multi_level_wildcard => wrong_filters(V5, &["a#", "a/b#", "#/a", "a/#/b", "##", "+#"]);
    mqtt3_4_7_1_3_the_single_level_wildcard => wrong_filters(V3, &["a+", "+a", "a/b+/c", "a/+b", "++"]);
    mqtt5_4_7_1_2_the_single_level_wildcard => wrong_filters(V5, &["a+", "+a", "a/b+/c", "a/+b", "++"]);
    mqtt3_4_7_2_1_wildcards_do_not_match_dollar => wildcards_do_not_match_dollar(V3);
    mqtt5_4_7_2_1_wildcards_do_not_match_dollar => wildcards_do_not_match_dollar(V5);
    mqtt3_4_7_3_1_one_character_at_least => one_character_at_least(V3);
    mqtt5_4_7_3_1_one_character_at_least => one_character_at_least(V5);
    mqtt3_4_7_3_2_no_null => no_null(V3);
    mqtt5_4_7_3_2_no_null => no_null(V5);
    mqtt3_1_5_3_2_no_null => no_null(V3);
    mqtt5_1_5_4_2_no_null => no_null(V5);
    mqtt3_4_7_3_3_65535_bytes_at_most => very_long_topics(V3);
    mqtt5_4_7_3_3_65535_bytes_at_most => very_long_topics(V5);
    mqtt3_4_7_3_4_nothing_is_normalized => nothing_is_normalized(V3);
    mqtt5_4_7_3_4_nothing_is_normalized => nothing_is_normalized(V5);
    mqtt3_1_5_3_3_the_byte_order_mark_stays => nothing_is_normalized(V3);
    mqtt5_1_5_4_3_the_byte_order_mark_stays => nothing_is_normalized(V5);
}

fn wrong_filters(version: Version, filters: &[&str]) {
    for filter in filters {
        let mut client = Client::connect(version);
        client.send(&subscribe(version, 1, &[], &[(filter.as_bytes(), 0)]));
        client.ends(0x8f);
        let mut client = Client::connect(version);
        client.send(&super::packets::unsubscribe(version, 1, &[filter]));
        client.ends(0x8f);
    }
}

fn wildcards_do_not_match_dollar(version: Version) {
    // Clients may not publish there, so that what comes is the server's own.
    let mut client = Client::connect(version);
    let filters = [&b"#"[..], b"+/#", b"+/broker/#", b"+/+/+"].map(|filter| (filter, 0));
    client.send(&subscribe(version, 1, &[], &filters));
    let topic = unique("plain/");
    client.send(&Publish::new(&topic, "").bytes(version));
    let found: Vec<_> = client.drain().into_iter().map(|it| it.topic).collect();
    assert!(found.contains(&topic), "what is plain comes");
    assert!(!found.iter().any(|topic| topic.starts_with('$')), "{found:?}");
}

fn one_character_at_least(version: Version) {
    let mut client = Client::connect(version);
    client.send(&Publish::new("", "").bytes(version));
    let end = client.wire.end();
    let told = [0x82, 0x90].map(crate::support::wire::End::Told);
    assert!(version == V3 || told.contains(&end), "{end:?}");
    let mut client = Client::connect(version);
    client.send(&subscribe(version, 1, &[], &[(b"", 0)]));
    client.ends(0x8f);
}

fn no_null(version: Version) {
    let mut client = Client::connect(version);
    client.send(&Publish::new("a\0b", "").bytes(version));
    let end = client.wire.end();
    let told = [0x81, 0x90].map(crate::support::wire::End::Told);
    assert!(version == V3 || told.contains(&end), "{end:?}");
    let mut client = Client::connect(version);
    client.send(&subscribe(version, 1, &[], &[(b"a\0b", 0)]));
    let end = client.wire.end();
    let told = [0x81, 0x8f].map(crate::support::wire::End::Told);
    assert!(version == V3 || told.contains(&end), "{end:?}");
    if version == V5 {
        let mut client = Client::connect(V5);
        client.send(&Publish::new("a", "").and(&prop::text(prop::CONTENT_TYPE, "a\0")).bytes(V5));
        client.ends(0x81);
    }
}

fn very_long_topics(version: Version) {
    // 16 bits of length hold no more. What is within them and above our own limit is told.
    let long = "x".repeat(65_535);
    let mut client = Client::connect(version);
    client.send(&Publish::new(&long, "").bytes(version));
    client.ends(0x90);
    let mut client = Client::connect(version);
    client.send(&subscribe(version, 1, &[], &[(long.as_bytes(), 0)]));
    client.ends(0x8f);
    let mut client = Client::connect(version);
    let topic = format!("{}{}", unique("long"), "x".repeat(4_000));
    client.subscribe(&topic, 0);
    client.send(&Publish::new(&topic, "").bytes(version));
    assert_eq!(client.message().topic, topic);
}

fn nothing_is_normalized(version: Version) {
    let root = unique("same");
    let alike = ["é", "e\u{301}", "É", "a", "\u{feff}a", "a\u{feff}", "a/", "/a", "a ", "ａ"];
    for filter in alike {
        let mut client = Client::connect(version);
        client.subscribe(&format!("{root}/{filter}"), 0);
        for topic in alike {
            client.send(&Publish::new(&format!("{root}/{topic}"), topic).bytes(version));
        }
        let found: Vec<_> = client.drain().into_iter().map(|it| (it.topic, it.payload)).collect();
        assert_eq!(found, [(format!("{root}/{filter}"), filter.to_owned())]);
    }
}

/// The examples of the section, and more like them.
#[test]
fn filters_match_level_by_level() {
    #[rustfmt::skip]
    let cases = [
        // filter       topics that match               topics that do not
        ("a/b/#",       &["a/b", "a/b/c", "a/b/c/d", "a/b/"][..], &["a", "a/bc", "A/b"][..]),
        ("#",           &["a", "/", "a/b"],             &[]),
        ("a/+",         &["a/b", "a/"],                 &["a", "a/b/c", "/a"]),
        ("a/+/c",       &["a/b/c", "a//c"],             &["a/c", "a/b/d/c"]),
        ("+",           &["a", " "],                    &["/a", "a/"]),
        ("+/+",         &["/a", "a/", "/", "a/b"],      &["a", "a/b/c"]),
        ("/+",          &["/a", "/"],                   &["a", "a/b"]),
        ("+/#",         &["a", "a/b", "/"],             &[]),
        ("/#",          &["/", "/a", "/a/b"],           &["a"]),
        ("/",           &["/"],                         &["a", "//"]),
        ("a//b",        &["a//b"],                      &["a/b", "a/x/b"]),
    ];
    for version in BOTH {
        for (filter, matching, others) in cases {
            let root = unique("cases");
            let mut client = Client::connect(version);
            client.subscribe(&format!("{root}/{filter}"), 0);
            for topic in matching.iter().chain(others) {
                client.send(&Publish::new(&format!("{root}/{topic}"), topic).bytes(version));
            }
            let found: Vec<_> = client.drain().into_iter().map(|it| it.payload).collect();
            assert_eq!(found, matching, "{filter}");
        }
    }
}
