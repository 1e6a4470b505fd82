//! Who wants messages of which topic: subscriptions as a tree of levels.

use std::collections::HashMap;

use tidegate_model::{Topic, TopicFilter};

/// Subscriptions of subscribers `K`, each with options `O`, found by the topics they match.
///
/// The cost of [`matches`](Self::matches) follows the levels of the topic and the wildcards on its way,
/// not the number of subscriptions. Empty branches are freed.
#[derive(Debug)]
pub struct SubscriptionTree<K, O> {
    root: Node<K, O>,
    count: usize,
    /// Rises with every change.
    version: u64,
}

type Children<K, O> = HashMap<Box<str>, Node<K, O>>;

#[derive(Debug)]
struct Node<K, O> {
    /// By level; most nodes have none.
    children: Option<Box<Children<K, O>>>,
    /// `+`.
    single: Option<Box<Node<K, O>>>,
    /// Subscribers whose filter ends here.
    here: Vec<(K, O)>,
    /// Subscribers whose filter goes on with `#` only.
    below: Vec<(K, O)>,
}

impl<K, O> Default for Node<K, O> {
    fn default() -> Self {
        Self { children: None, single: None, here: Vec::new(), below: Vec::new() }
    }
}

impl<K, O> Node<K, O> {
    fn is_empty(&self) -> bool {
        self.children.is_none()
            && self.single.is_none()
            && self.here.is_empty()
            && self.below.is_empty()
    }
}

impl<K, O> Default for SubscriptionTree<K, O> {
    fn default() -> Self {
        Self { root: Node::default(), count: 0, version: 0 }
    }
}

impl<K: PartialEq, O> SubscriptionTree<K, O> {
    /// Returns how many subscriptions there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Returns whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns a number that rises with every change: what was found before holds until then.
    #[inline]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Adds a subscription, or replaces the options of the one that `subscriber` already has.
    pub fn insert(&mut self, filter: &TopicFilter, subscriber: K, options: O) -> Option<O> {
        self.version += 1;
        let entries = self.root.entries(filter.levels());
        match entries.iter_mut().find(|(key, _)| *key == subscriber) {
            Some((_, old)) => Some(std::mem::replace(old, options)),
            None => {
                if entries.is_empty() {
                    entries.reserve_exact(1);
                }
                entries.push((subscriber, options));
                self.count += 1;
                None
            }
        }
    }

    /// Removes the subscription of `subscriber` and returns its options.
    pub fn remove(&mut self, filter: &TopicFilter, subscriber: &K) -> Option<O> {
        self.version += 1;
        let removed = self.root.remove(filter.levels(), subscriber);
        self.count -= usize::from(removed.is_some());
        removed
    }

    /// Calls `found` for each subscription that matches; a subscriber with several is found several times.
    ///
    /// Wildcards in the first level pass `$` topics by (MQTT 5.0, section 4.7.2).
    #[inline]
    pub fn matches<'t>(&'t self, topic: &Topic, mut found: impl FnMut(&'t K, &'t O)) {
        self.root.collect(topic.levels(), topic.is_dollar(), &mut found);
    }
}

impl<K: PartialEq, O> Node<K, O> {
    fn entries<'f>(&mut self, mut levels: impl Iterator<Item = &'f str>) -> &mut Vec<(K, O)> {
        match levels.next() {
            None => &mut self.here,
            Some("#") => &mut self.below,
            Some("+") => self.single.get_or_insert_default().entries(levels),
            Some(level) => {
                let children = self.children.get_or_insert_default();
                if !children.contains_key(level) {
                    children.insert(level.into(), Self::default());
                }
                children.get_mut(level).expect("inserted above").entries(levels)
            }
        }
    }

    fn remove<'f>(
        &mut self,
        mut levels: impl Iterator<Item = &'f str>,
        subscriber: &K,
    ) -> Option<O> {
        let take = |entries: &mut Vec<(K, O)>| {
            let at = entries.iter().position(|(key, _)| key == subscriber)?;
            Some(entries.swap_remove(at).1)
        };
        match levels.next() {
            None => take(&mut self.here),
            Some("#") => take(&mut self.below),
            Some("+") => {
                let child = self.single.as_mut()?;
                let removed = child.remove(levels, subscriber);
                if child.is_empty() {
                    self.single = None;
                }
                removed
            }
            Some(level) => {
                let children = self.children.as_mut()?;
                let child = children.get_mut(level)?;
                let removed = child.remove(levels, subscriber);
                if child.is_empty() {
                    children.remove(level);
                    if children.is_empty() {
                        self.children = None;
                    }
                }
                removed
            }
        }
    }

    fn collect<'t, 'l>(
        &'t self,
        mut levels: impl Iterator<Item = &'l str> + Clone,
        at_dollar: bool,
        found: &mut impl FnMut(&'t K, &'t O),
    ) {
        if !at_dollar {
            self.below.iter().for_each(|(key, options)| found(key, options));
        }
        let Some(level) = levels.next() else {
            self.here.iter().for_each(|(key, options)| found(key, options));
            return;
        };
        if let Some(child) = self.children.as_ref().and_then(|children| children.get(level)) {
            child.collect(levels.clone(), false, found);
        }
        if let Some(child) = &self.single
            && !at_dollar
        {
            child.collect(levels, false, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(tree: &SubscriptionTree<u32, ()>, topic: &Topic) -> Vec<u32> {
        let mut keys = Vec::new();
        tree.matches(topic, |key, ()| keys.push(*key));
        keys.sort_unstable();
        keys
    }

    proptest! {
        /// The tree finds what the definition of a filter says, before and after removals.
        #[test]
        fn the_tree_agrees_with_the_filters(
            filters in prop::collection::vec("(\\$?[ab]|\\+|)(/([ab]|\\+|)){0,3}(/#)?", 1..12),
            topics in prop::collection::vec("(\\$?[ab]|)(/[ab]?){0,3}", 1..12),
        ) {
            let filters: Vec<TopicFilter> = filters.iter().filter_map(|text| TopicFilter::new(text).ok()).collect();
            let mut tree = SubscriptionTree::default();
            for (key, filter) in (0_u32..).zip(&filters) {
                prop_assert!(tree.insert(filter, key, ()).is_none());
            }
            for removed in 0..=filters.len() {
                for topic in topics.iter().filter_map(|text| Topic::new(text).ok()) {
                    let expected: Vec<u32> = (0_u32..)
                        .zip(&filters)
                        .skip(removed)
                        .filter_map(|(key, filter)| filter.matches(&topic).then_some(key))
                        .collect();
                    prop_assert_eq!(found(&tree, &topic), expected);
                }
                if let Some(filter) = filters.get(removed) {
                    let key = u32::try_from(removed).unwrap();
                    prop_assert!(tree.remove(filter, &key).is_some());
                }
            }
            prop_assert!(tree.is_empty() && tree.root.is_empty());
        }
    }
}
