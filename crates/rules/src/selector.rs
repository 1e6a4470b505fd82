//! Which topics an uplink takes.

use tidegate_model::{Topic, TopicFilter};

/// The stateless choice of an uplink's records: by topic alone.
///
/// Commands and their outcomes never match by a wildcard: a topic that ends in `/set`, `/call`,
/// `/set/result` or `/call/result` is taken only by a filter that ends in the same words. Topics that
/// begin with `$` are taken only by filters that begin with the same level (MQTT 5.0, section 4.7.2).
///
/// # Examples
///
/// ```
/// # use tidegate_model::{Topic, TopicFilter};
/// # use tidegate_rules::Selector;
/// let selector = Selector::new(vec![TopicFilter::new("hall1/#")?]);
/// assert!(selector.matches(&Topic::new("hall1/press-1/temperature")?));
/// assert!(!selector.matches(&Topic::new("hall1/press-1/setpoint/set")?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    filters: Vec<TopicFilter>,
}

/// What a topic's end says it is for.
const RESERVED_ENDS: [&str; 4] = ["/set/result", "/call/result", "/set", "/call"];

impl Selector {
    /// Takes the filters of an uplink's `topics`; without any, nothing matches.
    pub fn new(filters: Vec<TopicFilter>) -> Self {
        Self { filters }
    }

    /// Returns the filters.
    pub fn filters(&self) -> &[TopicFilter] {
        &self.filters
    }

    /// Returns whether a message on `topic` is for this uplink.
    pub fn matches(&self, topic: &Topic) -> bool {
        let text = topic.as_str();
        match RESERVED_ENDS.into_iter().find(|end| text.ends_with(end)) {
            None => self.filters.iter().any(|filter| filter.matches(topic)),
            Some(end) => self
                .filters
                .iter()
                .any(|filter| filter.as_str().ends_with(end) && filter.matches(topic)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_dollar_topics_match_only_when_written_out() {
        #[rustfmt::skip]
        let cases = [
            // filter               topic                       matches
            ("hall1/#",             "hall1/press-1/t",          true),
            ("hall1/#",             "hall2/press-1/t",          false),
            ("hall1/#",             "hall1",                    true),
            ("hall1/#",             "hall1/sp/set",             false),
            ("hall1/#",             "hall1/sp/call",            false),
            ("hall1/#",             "hall1/sp/set/result",      false),
            ("hall1/#",             "hall1/sp/call/result",     false),
            ("hall1/#",             "hall1/sp/result",          true),   // nobody's outcome
            ("hall1/#",             "hall1/set/level",          true),
            ("hall1/+/set",         "hall1/sp/set",             true),
            ("hall1/+/set",         "hall1/sp/call",            false),
            ("hall1/+/+/result",    "hall1/sp/set/result",      false),  // `+` is not `set`
            ("hall1/+/set/result",  "hall1/sp/set/result",      true),
            ("+/set",               "set/set",                  true),
            ("#",                   "set",                      true),   // no topic stands before it
            ("#",                   "$SYS/uptime",              false),
            ("$SYS/#",              "$SYS/uptime",              true),
        ];
        for (filter, topic, expected) in cases {
            let selector = Selector::new(vec![TopicFilter::new(filter).unwrap()]);
            assert_eq!(
                selector.matches(&Topic::new(topic).unwrap()),
                expected,
                "{filter} against {topic}"
            );
        }
    }

    #[test]
    fn without_filters_nothing_matches() {
        assert!(!Selector::default().matches(&Topic::new("a").unwrap()));
    }
}
