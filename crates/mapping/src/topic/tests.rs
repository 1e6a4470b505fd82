//! Rendering, matching and inverting topics.

use proptest::prelude::*;
use tidegate_model::{CaptureName, Captures, Topic};

use super::pieces::TopicFault;
use super::{Decoding, RenderError, TopicIndex, TopicPattern, TopicTemplate, Wildcards};

fn names(names: &[&str]) -> Vec<CaptureName> {
    names.iter().map(|name| CaptureName::new(name).unwrap()).collect()
}

fn captures(texts: &[&str]) -> Captures {
    Captures::new(texts.iter().map(|text| Box::from(*text)))
}

fn filter(text: &str) -> TopicPattern {
    TopicPattern::parse(text, Wildcards::Allowed).unwrap()
}

#[test]
fn captures_are_encoded_so_that_they_stay_in_their_level() {
    #[rustfmt::skip]
    let cases = [
        ("hall1/{a}/t",     "boiler",       "hall1/boiler/t"),
        ("hall1/{a}/t",     "a/b",          "hall1/a%2Fb/t"),
        ("hall1/{a}/t",     "50%",          "hall1/50%25/t"),
        ("hall1/{a}/t",     "+",            "hall1/%2B/t"),
        ("hall1/{a}/t",     "#1",           "hall1/%231/t"),
        ("hall1/{a}/t",     "a\0b",         "hall1/a%00b/t"),
        ("hall1/{a}/t",     "$SYS",         "hall1/%24SYS/t"),
        ("hall1/{a}/t",     "US$",          "hall1/US$/t"),
        ("{a}",             "$SYS",         "%24SYS"),
        ("press-{a}",       "é ü",          "press-é ü"),
        ("hall1/fixed",     "unused",       "hall1/fixed"),
    ];
    for (template, capture, expected) in cases {
        let template = TopicTemplate::parse(template, &names(&["a"])).unwrap();
        let topic = template.render(&captures(&[capture])).unwrap();
        assert_eq!(topic.as_str(), expected, "{template} with {capture}");
    }
}

#[test]
fn captures_that_give_no_topic_are_refused() {
    let template = TopicTemplate::parse("{b}", &names(&["a", "b"])).unwrap();
    assert_eq!(template.render(&captures(&["x"])), Err(RenderError::Missing { index: 1 }));
    assert!(matches!(template.render(&captures(&["x", ""])), Err(RenderError::Topic { .. })));
    let long = "x".repeat(70_000);
    assert!(matches!(template.render(&captures(&["x", &long])), Err(RenderError::Topic { .. })));
}

#[test]
fn filters_match_and_capture() {
    #[rustfmt::skip]
    let cases: [(&str, &str, Option<&[&str]>); 21] = [
        ("legacy/{id}/T",   "legacy/7/T",       Some(&["7"])),
        ("legacy/{id}/T",   "legacy//T",        None),              // one or more characters
        ("legacy/{id}/T",   "legacy/7/8/T",     None),
        ("legacy/{id}/T",   "legacy/7/t",       None),
        ("a/press-{n}",     "a/press-7",        Some(&["7"])),
        ("a/press-{n}",     "a/press-",         None),
        ("a/{n}-x",         "a/7-x",            Some(&["7"])),
        ("a/a{n}a",         "a/aa",             None),
        ("a/{n}/+",         "a/7/",             Some(&["7"])),      // an empty level is a level
        ("a/{n}/#",         "a/7",              Some(&["7"])),      // `#` includes the parent
        ("a/{n}/#",         "a/7/8/9",          Some(&["7"])),
        ("a/{n}/#",         "a",                None),
        ("#",               "a/b",              Some(&[])),
        ("#",               "$SYS/a",           None),
        ("{x}/a",           "$SYS/a",           None),              // like `+`, section 4.7.2
        ("$SYS/{x}",        "$SYS/a",           Some(&["a"])),
        ("a/{n}",           "a/b%2Fc",          Some(&["b/c"])),
        ("a/{n}",           "a/50%",            Some(&["50%"])),    // no encoding of ours
        ("a/{n}",           "a/%41",            Some(&["%41"])),
        ("a/{n}",           "a/x%24",           Some(&["x%24"])),
        ("a/{x}/{y}",       "a/1/2",            Some(&["1", "2"])),
    ];
    for (pattern, topic, expected) in cases {
        let found = filter(pattern).matches(&Topic::new(topic).unwrap());
        let found: Option<Vec<&str>> = found.as_ref().map(|found| found.iter().collect());
        assert_eq!(found.as_deref(), expected, "{pattern} against {topic}");
    }
}

/// Gives a fault as `marked text | message | hint`.
fn shown(text: &str, fault: TopicFault) -> String {
    format!("{} | {} | {}", &text[fault.range.clone()], fault.message, fault.hint)
}

/// main.5
#[test]
fn wrong_filters_and_topics_are_refused_with_their_place() {
    #[rustfmt::skip]
    let filters = [
        ("",            " | it must not be empty | write at least one level"),
        ("a/{b",        "{b | `{` without `}` behind it | close it in the same level: `{name}`"),
        ("a/{b/c}",     "{b | `{` without `}` behind it | close it in the same level: `{name}`"),
        ("a/b}/c",      "} | `}` without `{` before it | write `{name}`; a literal brace cannot be part of a topic here"),
        ("a/{1}",       "{1} | `1` is not a capture name: a letter, then up to 31 letters, digits, `-` or `_` | write a name such as `{room}`"),
        ("a/{b}/{b}",   "{b} | the capture `b` occurs twice | use each name once"),
        ("a/{b}-{c}",   "{c} | one level has two captures: nothing says where the first ends | put them into two levels"),
        ("a/b+/c",      "b+ | `+` and `#` must stand alone in their level | write `{name}` for a part of a level"),
        ("a/#{b}",      "#{b} | `+` and `#` must stand alone in their level | write `{name}` for a part of a level"),
        ("a/#/c",       "a/#/c | `#` must be the last level | write `+` for one level"),
        ("$share/g/a",  "$share | a mapping is not a shared subscription | write the filter behind the group alone"),
    ];
    for (text, expected) in filters {
        let fault = TopicPattern::parse(text, Wildcards::Allowed).unwrap_err();
        assert_eq!(shown(text, fault), expected, "{text}");
    }
    #[rustfmt::skip]
    let topics = [
        ("a/+/b",       "+ | a topic has no wildcards | write a `{name}` on the left and use it here"),
        ("$SYS/a",      "$ | topics under `$` are the gateway's own | begin with a level of your own"),
        ("a/{rom}",     "{rom} | `{rom}` is not captured on the left | did you mean `{room}`?"),
        ("a/{x}",       "{x} | `{x}` is not captured on the left | captured on the left: `{room}`"),
        ("a/{member}",  "{member} | `{member}` is the name of a member, and this entry does not take members apart | add each = \"member\""),
    ];
    for (text, expected) in topics {
        let fault = TopicTemplate::parse(text, &names(&["room"])).unwrap_err();
        assert_eq!(shown(text, fault), expected, "{text}");
    }
    let fault = TopicTemplate::parse("a/{x}", &[]).unwrap_err();
    assert_eq!(fault.hint, "the address has no captures; write `{x}` there too");
}

#[test]
fn overlap_is_found() {
    #[rustfmt::skip]
    let cases = [
        ("a/{x}",       "{y}/b",    true),
        ("a/{x}",       "b/{x}",    false),
        ("a/{x}",       "a/+",      true),
        ("a/#",         "a",        true),
        ("a/#",         "b/#",      false),
        ("a/+/c",       "a/b",      false),
        ("p-{n}",       "p-1-{m}",  true),
        ("p-{n}",       "{m}-q",    true),
        ("p-{n}",       "q-{m}",    false),
        ("p-{n}",       "p-",       false),
        ("#",           "$SYS/a",   false),
        ("{x}/a",       "$SYS/a",   false),
    ];
    for (ours, theirs, expected) in cases {
        assert_eq!(filter(ours).overlaps(&filter(theirs)), expected, "{ours} and {theirs}");
        assert_eq!(filter(theirs).overlaps(&filter(ours)), expected, "{theirs} and {ours}");
    }
}

/// A level of a pattern, over an alphabet so small that patterns meet often.
fn any_level() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(vec!["a", "b", "ab", "$a", ""]).prop_map(str::to_owned),
        2 => Just("+".to_owned()),
        2 => prop::sample::select(vec!["{}", "a{}", "{}b"]).prop_map(str::to_owned),
    ]
}

/// A pattern with numbered captures.
fn any_pattern() -> impl Strategy<Value = TopicPattern> {
    let rest = prop::bool::weighted(0.2);
    (prop::collection::vec(any_level(), 1..4), rest).prop_map(|(mut levels, rest)| {
        for (place, level) in levels.iter_mut().enumerate() {
            *level = level.replace("{}", &format!("{{c{place}}}"));
        }
        if rest {
            levels.push("#".into());
        }
        let text = levels.join("/");
        filter(if text.is_empty() { "a" } else { &text })
    })
}

fn any_topic() -> impl Strategy<Value = Topic> {
    let level = prop::sample::select(vec!["a", "b", "ab", "aab", "$a", "", "c"]);
    prop::collection::vec(level, 1..5).prop_map(|levels| {
        let text = levels.join("/");
        Topic::new(if text.is_empty() { "/" } else { &text }).unwrap()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_048))]

    /// Whatever captures stand for, the topic made from them gives them back, and nothing else does.
    #[test]
    fn inverting_undoes_rendering(
        first in "[ -~\0é$%+#/]{1,12}",
        second in "[ -~\0é$%+#/]{1,12}",
    ) {
        for text in ["hall1/{a}/x-{b}-y", "{b}/{a}", "{a}x/y{b}/z"] {
            let template = TopicTemplate::parse(text, &names(&["a", "b"])).unwrap();
            let pattern = TopicPattern::parse(text, Wildcards::Refused).unwrap();
            let topic = template.render(&captures(&[&first, &second])).unwrap();
            let found = pattern.captures_of(&topic, Decoding::Exact).unwrap();
            let by_name = |name: &str| {
                let place = pattern.names().iter().position(|known| known.as_str() == name);
                found.get(place.unwrap())
            };
            prop_assert_eq!(by_name("a"), Some(first.as_str()));
            prop_assert_eq!(by_name("b"), Some(second.as_str()));
        }
    }

    /// A topic that can be inverted is the one that its captures give: no second spelling leads to a device.
    #[test]
    fn rendering_undoes_inverting(level in "[a-c%$250FBb+#]{1,8}") {
        let Ok(topic) = Topic::new(&format!("hall1/{level}")) else { return Ok(()) };
        let pattern = TopicPattern::parse("hall1/{a}", Wildcards::Refused).unwrap();
        if let Some(found) = pattern.captures_of(&topic, Decoding::Exact) {
            let template = TopicTemplate::parse("hall1/{a}", &names(&["a"])).unwrap();
            prop_assert_eq!(template.render(&found).unwrap(), topic);
        }
    }

    /// The index finds what trying every pattern finds.
    #[test]
    fn the_index_agrees_with_trying_all(
        patterns in prop::collection::vec(any_pattern(), 0..8),
        topics in prop::collection::vec(any_topic(), 1..16),
    ) {
        let mut kept: Vec<TopicPattern> = Vec::new();
        for pattern in patterns {
            let clashes = |other: &TopicPattern| {
                other.literal_levels() == pattern.literal_levels() && other.overlaps(&pattern)
            };
            if !kept.iter().any(clashes) {
                kept.push(pattern);
            }
        }
        let mut index = TopicIndex::default();
        for (number, pattern) in (0..).zip(&kept) {
            index.insert(pattern, number);
        }
        for topic in topics {
            let matching = (0_u32..).zip(&kept).filter(|(_, pattern)| pattern.matches(&topic).is_some());
            let best = matching.max_by_key(|(_, pattern)| pattern.literal_levels());
            prop_assert_eq!(index.find(&topic), best.map(|(number, _)| number), "{}", topic);
        }
    }

    /// Two patterns that match one topic overlap.
    #[test]
    fn overlap_covers_every_common_topic(
        ours in any_pattern(),
        theirs in any_pattern(),
        topic in any_topic(),
    ) {
        if ours.matches(&topic).is_some() && theirs.matches(&topic).is_some() {
            prop_assert!(ours.overlaps(&theirs), "{ours} and {theirs} at {topic}");
        }
    }

    /// Wildcards and literals mean what they mean in a filter of MQTT.
    #[test]
    fn patterns_without_captures_are_filters(pattern in any_pattern(), topic in any_topic()) {
        if pattern.names().is_empty() {
            let filter = tidegate_model::TopicFilter::new(pattern.as_str()).unwrap();
            prop_assert_eq!(pattern.matches(&topic).is_some(), filter.matches(&topic));
        }
    }
}
