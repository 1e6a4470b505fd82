//! Many topic filters, asked at once.

use std::collections::HashMap;

use tidegate_model::{Topic, TopicFilter};

/// Up to so many filters are tried one after the other: that takes less memory than a tree, and no more time.
const FEW_MAX: usize = 8;

/// A set of topic filters. What a question costs follows the levels of what is asked for, not the number of filters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FilterSet {
    Few(Box<[TopicFilter]>),
    Many(Box<Node>),
}

/// A level of a tree of filters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Node {
    children: HashMap<Box<str>, Node>,
    /// `+`.
    single: Option<Box<Node>>,
    /// Whether a filter ends here.
    here: bool,
    /// Whether a filter goes on with `#` only.
    below: bool,
}

impl FromIterator<TopicFilter> for FilterSet {
    fn from_iter<I: IntoIterator<Item = TopicFilter>>(filters: I) -> Self {
        let filters: Box<[TopicFilter]> = filters.into_iter().collect();
        if filters.len() <= FEW_MAX {
            return Self::Few(filters);
        }
        let mut root = Node::default();
        for filter in &filters {
            root.insert(filter);
        }
        Self::Many(Box::new(root))
    }
}

impl FilterSet {
    /// Returns whether one of the filters matches.
    pub(super) fn matches(&self, topic: &Topic) -> bool {
        match self {
            Self::Few(filters) => filters.iter().any(|filter| filter.matches(topic)),
            Self::Many(root) => root.matches(topic.levels(), topic.is_dollar()),
        }
    }

    /// Returns whether one of the filters alone matches all that `wanted` matches.
    pub(super) fn covers(&self, wanted: &TopicFilter) -> bool {
        match self {
            Self::Few(filters) => filters.iter().any(|filter| filter.covers(wanted)),
            Self::Many(root) => root.covers(wanted.levels(), wanted.as_str().starts_with('$')),
        }
    }
}

impl Node {
    fn insert(&mut self, filter: &TopicFilter) {
        let mut node = self;
        for level in filter.levels() {
            node = match level {
                "#" => {
                    node.below = true;
                    return;
                }
                "+" => node.single.get_or_insert_default(),
                level => node.children.entry(level.into()).or_default(),
            };
        }
        node.here = true;
    }

    /// Wildcards pass by a first level that begins with `$` (MQTT 5.0, section 4.7.2).
    fn matches<'t>(
        &self,
        mut levels: impl Iterator<Item = &'t str> + Clone,
        at_dollar: bool,
    ) -> bool {
        if self.below && !at_dollar {
            return true;
        }
        let Some(level) = levels.next() else { return self.here };
        if self.children.get(level).is_some_and(|child| child.matches(levels.clone(), false)) {
            return true;
        }
        !at_dollar && self.single.as_ref().is_some_and(|child| child.matches(levels, false))
    }

    fn covers<'t>(
        &self,
        mut levels: impl Iterator<Item = &'t str> + Clone,
        at_dollar: bool,
    ) -> bool {
        if self.below && !at_dollar {
            return true;
        }
        let literal = match levels.next() {
            None => return self.here,
            Some("#") => return false,
            Some("+") => None,
            Some(level) => self.children.get(level),
        };
        if literal.is_some_and(|child| child.covers(levels.clone(), false)) {
            return true;
        }
        !at_dollar && self.single.as_ref().is_some_and(|child| child.covers(levels, false))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// identity.4: a tree of filters answers as the filters do, one by one.
        #[test]
        fn the_tree_agrees_with_the_filters(
            filters in prop::collection::vec("(\\$?[ab]|\\+|)(/([ab]|\\+|)){0,3}(/#)?|#", 1..24),
            asked in prop::collection::vec("(\\$?[ab]|\\+|)(/([ab]|\\+|)){0,3}(/#)?|#", 1..12),
        ) {
            let filters: Vec<TopicFilter> =
                filters.iter().filter_map(|text| TopicFilter::new(text).ok()).collect();
            let mut root = Node::default();
            filters.iter().for_each(|filter| root.insert(filter));
            let many = FilterSet::Many(Box::new(root));
            let few = FilterSet::Few(filters.clone().into());
            for text in &asked {
                if let Ok(topic) = Topic::new(text) {
                    prop_assert_eq!(many.matches(&topic), few.matches(&topic), "{}", topic);
                }
                let Ok(wanted) = TopicFilter::new(text) else { continue };
                prop_assert_eq!(many.covers(&wanted), few.covers(&wanted), "{}", wanted);
            }
        }
    }
}
