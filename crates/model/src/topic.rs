//! Topics and topic filters (MQTT 5.0, section 4.7).

use std::{fmt, sync::Arc};

use thiserror::Error;

/// Most bytes a topic or filter may have: the length field of the protocol has 16 bits.
const BYTES_MAX: usize = 65_535;

/// Why a text is not a topic.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TopicError {
    /// The text is empty (MQTT-4.7.3-1).
    #[error("must not be empty")]
    Empty,
    /// The text is longer than 65 535 bytes (MQTT-4.7.3-3).
    #[error("is {bytes} bytes long, at most 65535 are allowed")]
    TooLong {
        /// Length of the text.
        bytes: usize,
    },
    /// The text holds U+0000 (MQTT-4.7.3-2).
    #[error("must not contain U+0000")]
    Null,
    /// The text holds `+` or `#`, which only filters may (MQTT-3.3.2-2).
    #[error("must not contain the wildcard `{wildcard}`")]
    Wildcard {
        /// The first wildcard found.
        wildcard: char,
    },
}

/// Why a text is not a topic filter.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TopicFilterError {
    /// The text is empty (MQTT-4.7.3-1).
    #[error("must not be empty")]
    Empty,
    /// The text is longer than 65 535 bytes (MQTT-4.7.3-3).
    #[error("is {bytes} bytes long, at most 65535 are allowed")]
    TooLong {
        /// Length of the text.
        bytes: usize,
    },
    /// The text holds U+0000 (MQTT-4.7.3-2).
    #[error("must not contain U+0000")]
    Null,
    /// `#` stands elsewhere than alone in the last level (MQTT-4.7.1-1).
    #[error("`#` must stand alone in the last level")]
    MultiLevel,
    /// `+` does not stand alone in its level (MQTT-4.7.1-2).
    #[error("`+` must stand alone in its level")]
    SingleLevel,
}

/// The name of a stream of messages, in levels divided by `/`.
///
/// Never empty, at most 65 535 bytes, no U+0000, no wildcards (MQTT 5.0, section 4.7.3).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(Arc<str>);

impl Topic {
    /// Checks `text` and takes it as a topic.
    ///
    /// # Errors
    ///
    /// [`TopicError`] says what is wrong with the text.
    pub fn new(text: &str) -> Result<Self, TopicError> {
        match text.as_bytes() {
            [] => return Err(TopicError::Empty),
            bytes if bytes.len() > BYTES_MAX => {
                return Err(TopicError::TooLong { bytes: bytes.len() });
            }
            bytes => match memchr::memchr3(b'+', b'#', 0, bytes) {
                Some(at) if bytes[at] == 0 => return Err(TopicError::Null),
                Some(at) => return Err(TopicError::Wildcard { wildcard: char::from(bytes[at]) }),
                None => {}
            },
        }
        Ok(Self(text.into()))
    }

    /// Returns the topic as text.
    #[inline]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether this is a clone of the other, or the other of this: one memory, and not only one text.
    #[inline]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Returns the levels from left to right; at least one, any of which may be empty.
    #[inline]
    pub fn levels(&self) -> impl DoubleEndedIterator<Item = &str> + Clone {
        self.0.split('/')
    }

    /// Returns whether wildcards at the start of a filter pass this topic by (MQTT 5.0, section 4.7.2).
    #[inline]
    pub fn is_dollar(&self) -> bool {
        self.0.starts_with('$')
    }

    /// Returns the topic one or more levels below this one.
    ///
    /// # Errors
    ///
    /// [`TopicError`] if the result would not be a topic.
    pub fn join(&self, below: &str) -> Result<Self, TopicError> {
        Self::new(&format!("{self}/{below}"))
    }
}

/// An MQTT topic filter: a topic in which `+` stands for one level and a final `#` for the rest.
///
/// Never empty, at most 65 535 bytes, no U+0000 (MQTT 5.0, section 4.7.3).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicFilter(Arc<str>);

impl TopicFilter {
    /// Checks `text` and takes it as a filter.
    ///
    /// # Errors
    ///
    /// [`TopicFilterError`] says what is wrong with the text.
    pub fn new(text: &str) -> Result<Self, TopicFilterError> {
        if text.is_empty() {
            return Err(TopicFilterError::Empty);
        }
        if text.len() > BYTES_MAX {
            return Err(TopicFilterError::TooLong { bytes: text.len() });
        }
        if text.contains('\0') {
            return Err(TopicFilterError::Null);
        }
        let mut levels = text.split('/').peekable();
        while let Some(level) = levels.next() {
            if level.contains('#') && (level != "#" || levels.peek().is_some()) {
                return Err(TopicFilterError::MultiLevel);
            }
            if level.contains('+') && level != "+" {
                return Err(TopicFilterError::SingleLevel);
            }
        }
        Ok(Self(text.into()))
    }

    /// Returns the filter as text.
    #[inline]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the levels from left to right.
    #[inline]
    pub fn levels(&self) -> impl Iterator<Item = &str> + Clone {
        self.0.split('/')
    }

    /// Returns whether the filter holds a wildcard.
    pub fn has_wildcard(&self) -> bool {
        memchr::memchr2(b'+', b'#', self.0.as_bytes()).is_some()
    }

    /// Returns whether a message on `topic` is for this filter.
    pub fn matches(&self, topic: &Topic) -> bool {
        if topic.is_dollar() && self.0.starts_with(['+', '#']) {
            return false;
        }
        let mut levels = topic.levels();
        for wanted in self.levels() {
            match (wanted, levels.next()) {
                ("#", _) => return true,
                (_, None) => return false,
                ("+", Some(_)) => {}
                (wanted, Some(level)) if wanted == level => {}
                _ => return false,
            }
        }
        levels.next().is_none()
    }

    /// Returns whether every topic that `other` matches is matched by this filter too.
    ///
    /// `$` topics follow section 4.7.2: a leading wildcard covers none of them.
    pub fn covers(&self, other: &Self) -> bool {
        if other.0.starts_with('$') && self.0.starts_with(['+', '#']) {
            return false;
        }
        let mut theirs = other.levels();
        for ours in self.levels() {
            match (ours, theirs.next()) {
                ("#", _) => return true,
                (_, None | Some("#")) => return false,
                ("+", Some(_)) => {}
                (ours, Some(level)) if ours == level => {}
                _ => return false,
            }
        }
        theirs.next().is_none()
    }

    /// Returns whether there is a topic that both filters match.
    ///
    /// `$` topics follow section 4.7.2: a leading wildcard matches none of them.
    pub fn overlaps(&self, other: &Self) -> bool {
        let is_dollar = |filter: &Self| filter.0.starts_with('$');
        let is_wild = |filter: &Self| filter.0.starts_with(['+', '#']);
        if (is_dollar(self) && is_wild(other)) || (is_wild(self) && is_dollar(other)) {
            return false;
        }
        let (mut ours, mut theirs) = (self.levels(), other.levels());
        loop {
            match (ours.next(), theirs.next()) {
                (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
                (None, _) | (_, None) => return false,
                (Some("+"), _) | (_, Some("+")) => {}
                (ours, theirs) if ours == theirs => {}
                _ => return false,
            }
        }
    }
}

macro_rules! text {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

text!(Topic);
text!(TopicFilter);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_matches_by_level() {
        #[rustfmt::skip]
        let cases = [
            // filter           topic                   matches
            ("plant/boiler",    "plant/boiler",         true),
            ("plant/boiler",    "plant/Boiler",         false),
            ("plant/+/temp",    "plant/boiler/temp",    true),
            ("plant/+/temp",    "plant/a/b/temp",       false),
            ("plant/+",         "plant/",               true),   // an empty level is a level
            ("plant/+",         "plant",                false),
            ("plant/#",         "plant",                true),   // `#` includes the parent
            ("plant/#",         "plant/a/b",            true),
            ("+/+",             "/a",                   true),
            ("#",               "$SYS/uptime",          false),  // section 4.7.2
            ("+/uptime",        "$SYS/uptime",          false),
            ("$SYS/#",          "$SYS/uptime",          true),
        ];
        for (filter, topic, expected) in cases {
            let matches = TopicFilter::new(filter).unwrap().matches(&Topic::new(topic).unwrap());
            assert_eq!(matches, expected, "{filter} against {topic}");
        }
    }

    #[test]
    fn a_filter_covers_narrower_ones() {
        #[rustfmt::skip]
        let cases = [
            ("#",       "a/b",      true),
            ("#",       "#",        true),
            ("a/#",     "a",        true),
            ("a/#",     "a/+/c",    true),
            ("a/+",     "a/#",      false),
            ("a/+",     "a/+",      true),
            ("a/b",     "a/+",      false),
            ("#",       "$SYS/#",   false),
            ("+/b",     "a/b/c",    false),
        ];
        for (wide, narrow, expected) in cases {
            let covers = TopicFilter::new(wide).unwrap().covers(&TopicFilter::new(narrow).unwrap());
            assert_eq!(covers, expected, "{wide} over {narrow}");
        }
    }

    #[test]
    fn filters_overlap_if_one_topic_is_for_both() {
        #[rustfmt::skip]
        let cases = [
            ("#",       "a/b",      true),
            ("a/#",     "a",        true),
            ("a/#",     "+",        true),
            ("a/+",     "+/b",      true),
            ("a/+/c",   "a/b/+",    true),
            ("a/b",     "a/b",      true),
            ("a/b",     "a/c",      false),
            ("a/+",     "a",        false),
            ("a/+",     "a/b/c",    false),
            ("a/b/#",   "a/c/#",    false),
            ("#",       "$SYS/#",   false),
            ("+/b",     "$SYS/b",   false),
            ("$SYS/#",  "$SYS/+",   true),
        ];
        for (ours, theirs, expected) in cases {
            let (ours, theirs) =
                (TopicFilter::new(ours).unwrap(), TopicFilter::new(theirs).unwrap());
            assert_eq!(ours.overlaps(&theirs), expected, "{ours} and {theirs}");
            assert_eq!(theirs.overlaps(&ours), expected, "{theirs} and {ours}");
        }
    }

    #[test]
    fn wrong_topics_and_filters_are_refused() {
        assert_eq!(Topic::new(""), Err(TopicError::Empty));
        assert_eq!(Topic::new("a/+/b"), Err(TopicError::Wildcard { wildcard: '+' }));
        assert_eq!(Topic::new("a\0"), Err(TopicError::Null));
        assert_eq!(Topic::new(&"x".repeat(65_536)), Err(TopicError::TooLong { bytes: 65_536 }));
        assert_eq!(TopicFilter::new(""), Err(TopicFilterError::Empty));
        assert_eq!(TopicFilter::new("a/#/b"), Err(TopicFilterError::MultiLevel));
        assert_eq!(TopicFilter::new("a#"), Err(TopicFilterError::MultiLevel));
        assert_eq!(TopicFilter::new("a/b+"), Err(TopicFilterError::SingleLevel));
        assert!(TopicFilter::new("/").is_ok() && Topic::new("/").is_ok());
    }
}
