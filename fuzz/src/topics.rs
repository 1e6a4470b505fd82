//! Filters against topics, by the definition of section 4.7 spelt out anew.

use tidegate_model::{Topic, TopicFilter};

/// Matches a filter against a topic, which a line break divides in `data`.
///
/// # Panics
///
/// If filters or topics are taken or matched otherwise than the definition says.
pub fn topic_match(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (filter, topic) = text.split_once('\n').unwrap_or((text, "a/b"));
    let (taken_filter, taken_topic) = (TopicFilter::new(filter), Topic::new(topic));
    assert_eq!(taken_filter.is_ok(), is_filter(filter), "{filter:?} as a filter");
    assert_eq!(taken_topic.is_ok(), is_topic(topic), "{topic:?} as a topic");
    let (Ok(taken_filter), Ok(taken_topic)) = (taken_filter, taken_topic) else { return };
    let expected = is_for(filter, topic);
    assert_eq!(taken_filter.matches(&taken_topic), expected, "{filter:?} against {topic:?}");
    // A topic is a filter that matches itself.
    let same = TopicFilter::new(topic).expect("a topic is a filter without wildcards");
    assert!(same.matches(&taken_topic), "{topic:?} against itself");
    // What a filter covers, it matches.
    if taken_filter.covers(&same) {
        assert!(expected, "{filter:?} covers {topic:?}");
    }
}

/// Returns whether a text may be either: a character at least, 65,535 bytes at most, no U+0000.
fn is_text(text: &str) -> bool {
    (1..=65_535).contains(&text.len()) && !text.contains('\0')
}

fn is_topic(text: &str) -> bool {
    is_text(text) && !text.contains(['+', '#'])
}

/// Section 4.7.1: `#` is a level of its own and the last; `+` is a level of its own.
fn is_filter(text: &str) -> bool {
    let levels: Vec<_> = text.split('/').collect();
    let last = levels.len() - 1;
    is_text(text)
        && levels.iter().enumerate().all(|(at, level)| match *level {
            "#" => at == last,
            "+" => true,
            other => !other.contains(['+', '#']),
        })
}

/// Section 4.7: level by level, from the left.
fn is_for(filter: &str, topic: &str) -> bool {
    // Section 4.7.2.
    if topic.starts_with('$') && !filter.starts_with('$') {
        return false;
    }
    let filter: Vec<_> = filter.split('/').collect();
    let topic: Vec<_> = topic.split('/').collect();
    levels_match(&filter, &topic)
}

fn levels_match(filter: &[&str], topic: &[&str]) -> bool {
    match (filter.split_first(), topic.split_first()) {
        // The parent level and all below it.
        (Some((&"#", _)), _) => true,
        (None, None) => true,
        (Some((wanted, filter)), Some((level, topic))) => {
            (*wanted == "+" || wanted == level) && levels_match(filter, topic)
        }
        _ => false,
    }
}
