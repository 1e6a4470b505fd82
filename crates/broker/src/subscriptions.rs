//! What one session is subscribed to.

use tidegate_model::TopicFilter;

use crate::session::SubscriptionOptions;

/// The subscriptions of a session, in order of their filters. Most sessions have one or two: they take no more memory
/// than that.
#[derive(Clone, Debug, Default)]
pub(crate) struct Subscriptions(Vec<(TopicFilter, SubscriptionOptions)>);

impl Subscriptions {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn get(&self, filter: &TopicFilter) -> Option<&SubscriptionOptions> {
        self.place(filter).ok().map(|at| &self.0[at].1)
    }

    /// Adds a subscription, or replaces the options of the one there is; returns those.
    pub(crate) fn insert(
        &mut self,
        filter: TopicFilter,
        options: SubscriptionOptions,
    ) -> Option<SubscriptionOptions> {
        match self.place(&filter) {
            Ok(at) => Some(std::mem::replace(&mut self.0[at].1, options)),
            Err(at) => {
                if self.0.len() == self.0.capacity() {
                    self.0.reserve_exact(self.0.len() / 2 + 1);
                }
                self.0.insert(at, (filter, options));
                None
            }
        }
    }

    pub(crate) fn remove(&mut self, filter: &TopicFilter) -> Option<SubscriptionOptions> {
        let at = self.place(filter).ok()?;
        Some(self.0.remove(at).1)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &TopicFilter> {
        self.0.iter().map(|(filter, _)| filter)
    }

    fn place(&self, filter: &TopicFilter) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| other.cmp(filter))
    }
}

impl IntoIterator for Subscriptions {
    type Item = (TopicFilter, SubscriptionOptions);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl FromIterator<(TopicFilter, SubscriptionOptions)> for Subscriptions {
    fn from_iter<I: IntoIterator<Item = (TopicFilter, SubscriptionOptions)>>(entries: I) -> Self {
        let mut subscriptions = Self::default();
        for (filter, options) in entries {
            subscriptions.insert(filter, options);
        }
        subscriptions
    }
}
