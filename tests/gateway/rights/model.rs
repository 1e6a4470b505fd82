//! What access rules give, computed as simply as can be: recursion over levels, and coverage by trying topics.
//!
//! Nothing here is taken from the gateway: the two must agree because both do what docs/config.md says.

use std::fmt::Write as _;

/// One `[[access]]` entry.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// A name, or the beginning of names and `*`.
    pub(super) principal: &'static str,
    pub(super) publish: Vec<&'static str>,
    pub(super) subscribe: Vec<&'static str>,
    pub(super) command: Vec<&'static str>,
}

/// All entries.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules(pub(super) Vec<Entry>);

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Who {
    pub(super) principal: &'static str,
    /// MQTT clients alone have one.
    pub(super) client_id: Option<String>,
}

impl Rules {
    /// Writes the tables of the configuration file.
    pub(super) fn to_toml(&self) -> String {
        let mut toml = String::new();
        for Entry { principal, publish, subscribe, command } in &self.0 {
            writeln!(
                toml,
                "[[access]]\nprincipal = {principal:?}\npublish = {publish:?}\nsubscribe = {subscribe:?}\n\
                 command = {command:?}"
            )
            .expect("a String takes everything");
        }
        toml
    }

    /// Whether a message may be published on a topic; on a command topic that takes the right to command.
    pub(super) fn may_publish(&self, who: &Who, topic: &str) -> bool {
        let target = topic.strip_suffix("/set").or_else(|| topic.strip_suffix("/call"));
        let granted = |pick: fn(&Entry) -> &Vec<&'static str>, topic: &str| {
            self.filters(who, pick).iter().any(|filter| matches(filter, topic))
        };
        if topic.starts_with('$') {
            return false;
        }
        match target {
            Some(target) => granted(|entry| &entry.command, target),
            None => granted(|entry| &entry.publish, topic),
        }
    }

    /// Whether a message on a topic may be handed over.
    pub(super) fn may_receive(&self, who: &Who, topic: &str) -> bool {
        self.filters(who, |entry| &entry.subscribe).iter().any(|filter| matches(filter, topic))
    }

    /// Whether a filter may be subscribed to: each topic that it matches must be allowed. `levels` are what topics are
    /// made of.
    pub(super) fn may_subscribe(&self, who: &Who, wanted: &str, levels: &[String]) -> bool {
        // Only over MQTT it is the beginning of a shared subscription; no topic can begin so.
        if wanted.starts_with("$share/") {
            return false;
        }
        topics_of(wanted, levels).iter().all(|topic| self.may_receive(who, topic))
    }

    /// The same over MQTT, where `$share/<name>/` may stand in front: what counts is what is shared.
    pub(super) fn may_share(&self, who: &Who, wanted: &str, levels: &[String]) -> bool {
        let shared = wanted.strip_prefix("$share/").and_then(|rest| rest.split_once('/'));
        self.may_subscribe(who, shared.map_or(wanted, |(_, filter)| filter), levels)
    }

    /// The filters of all entries that name the principal, with the names put in.
    fn filters(&self, who: &Who, pick: fn(&Entry) -> &Vec<&'static str>) -> Vec<String> {
        let is_named = |entry: &&Entry| match entry.principal.strip_suffix('*') {
            Some(beginning) => who.principal.starts_with(beginning),
            None => who.principal == entry.principal,
        };
        let filters = self.0.iter().filter(is_named).flat_map(pick);
        filters.filter_map(|filter| put_in(filter, who)).collect()
    }
}

/// Puts the names in; nothing if one of them is missing or would change what the filter means.
fn put_in(filter: &str, who: &Who) -> Option<String> {
    let mut text = filter.to_owned();
    for (place, name) in
        [("{principal}", Some(who.principal)), ("{client-id}", who.client_id.as_deref())]
    {
        if text.contains(place) {
            let is_safe = |name: &&str| !name.contains(['/', '+', '#']) && !name.starts_with('$');
            text = text.replace(place, name.filter(is_safe)?);
        }
    }
    Some(text)
}

/// Whether a filter matches a topic (MQTT 5.0, section 4.7).
pub(super) fn matches(filter: &str, topic: &str) -> bool {
    // A wildcard in the first place matches no topic that begins with `$`.
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let split = |text: &str| text.split('/').map(str::to_owned).collect::<Vec<_>>();
    fits(&split(filter), &split(topic))
}

fn fits(filter: &[String], topic: &[String]) -> bool {
    match (filter, topic) {
        ([only], _) if only == "#" => true,
        ([], []) => true,
        ([first, others @ ..], [level, deeper @ ..]) => {
            (first == "+" || first == level) && fits(others, deeper)
        }
        _ => false,
    }
}

/// All topics of these levels that a filter matches; `#` stands for up to two levels.
fn topics_of(filter: &str, levels: &[String]) -> Vec<String> {
    let mut topics = vec![String::new()];
    let join = |topic: &String, level: &str, is_first: bool| {
        if is_first { level.to_owned() } else { format!("{topic}/{level}") }
    };
    for (index, part) in filter.split('/').enumerate() {
        let is_first = index == 0;
        let grown = |topics: &[String], is_first: bool| -> Vec<String> {
            let deeper =
                |topic| levels.iter().map(move |level| join(topic, level, is_first)).collect();
            topics.iter().flat_map(|topic| -> Vec<String> { deeper(topic) }).collect()
        };
        topics = match part {
            "+" => grown(&topics, is_first),
            "#" => {
                let one = grown(&topics, is_first);
                let two = grown(&one, false);
                let itself = if is_first { Vec::new() } else { topics };
                [itself, one, two].concat()
            }
            level => topics.iter().map(|topic| join(topic, level, is_first)).collect(),
        };
    }
    topics.retain(|topic| matches(filter, topic));
    topics
}

#[test]
fn the_model_does_what_the_standard_says() {
    #[rustfmt::skip]
    let cases = [
        ("a/b",   "a/b",    true),  ("a/b",   "a/b/c", false), ("a/+",  "a/b",    true),
        ("a/+",   "a",      false), ("a/+",   "a/",    true),  ("+",    "/a",     false),
        ("a/#",   "a",      true),  ("a/#",   "a/b/c", true),  ("#",    "$SYS/x", false),
        ("+/x",   "$SYS/x", false), ("$SYS/#", "$SYS/x", true), ("/+",  "/a",     true),
    ];
    for (filter, topic, expected) in cases {
        assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
    }
    let levels = ["a", "b", "zz"].map(str::to_owned);
    let who = Who { principal: "p", client_id: None };
    let entry = |filter| Entry {
        principal: "*",
        publish: vec![],
        subscribe: vec![filter],
        command: vec![],
    };
    let covers = |grant, wanted| Rules(vec![entry(grant)]).may_subscribe(&who, wanted, &levels);
    for (grant, wanted, expected) in [
        ("a/#", "a", true),
        ("a/#", "a/+/b", true),
        ("a/+", "a/#", false),
        ("a/+", "a/b", true),
        ("a/b", "a/+", false),
        ("#", "#", true),
        ("a/{client-id}", "a/b", false),
    ] {
        assert_eq!(covers(grant, wanted), expected, "{grant} {wanted}");
    }
}
