//! Who takes the messages of topics that come again and again, without asking the tree of subscriptions each time.

use tidegate_model::Topic;

/// Topics that are remembered; a power of two.
const PLACES: usize = 1_024;
/// Topics with more subscriptions than this are asked for anew.
const MATCHES_MAX: usize = 64;

/// For each of some topics the subscriptions that match it, as the tree of one version found them.
///
/// Publishers keep their topic from one message to the next, so that it is found by its place in memory.
#[derive(Debug)]
pub(crate) struct RouteCache<M> {
    places: Box<[Option<Remembered<M>>]>,
    /// What was found last and may not be remembered.
    found: Vec<M>,
}

#[derive(Debug)]
struct Remembered<M> {
    /// Held, so that no other topic comes to stand there.
    topic: Topic,
    version: u64,
    matches: Box<[M]>,
}

impl<M> Default for RouteCache<M> {
    fn default() -> Self {
        Self { places: Box::default(), found: Vec::new() }
    }
}

impl<M: Copy> RouteCache<M> {
    /// Returns what matches a topic in the tree of this version; `find` asks the tree, if that must be.
    #[inline]
    pub(crate) fn matches(
        &mut self,
        topic: &Topic,
        version: u64,
        find: impl FnOnce(&mut Vec<M>),
    ) -> &[M] {
        if self.places.is_empty() {
            self.places = (0..PLACES).map(|_| None).collect();
        }
        let at = place_of(topic);
        let is_known = self.places[at]
            .as_ref()
            .is_some_and(|known| known.version == version && known.topic.is_same(topic));
        if !is_known {
            self.found.clear();
            find(&mut self.found);
            if self.found.len() > MATCHES_MAX {
                return &self.found;
            }
            let (topic, matches) = (topic.clone(), self.found.as_slice().into());
            self.places[at] = Some(Remembered { topic, version, matches });
        }
        self.places[at].as_ref().map_or(&[], |known| &known.matches)
    }
}

/// Returns a place by the topic's address. Addresses differ in their middle bits.
#[inline]
fn place_of(topic: &Topic) -> usize {
    let address = topic.as_str().as_ptr() as usize;
    (address >> 4 ^ address >> 14) % PLACES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_asked_for_once_in_each_version() {
        let (topic, same_text) = (Topic::new("a/b").unwrap(), Topic::new("a/b").unwrap());
        let mut cache = RouteCache::default();
        let mut asked = Vec::new();
        let mut ask = |topic: &Topic, version: u64, count: usize| -> usize {
            let found = |matches: &mut Vec<usize>| {
                asked.push(version);
                matches.extend(0..count);
            };
            cache.matches(topic, version, found).len()
        };
        assert_eq!(ask(&topic, 1, 3), 3);
        assert_eq!(ask(&topic, 1, 9), 3, "remembered");
        assert_eq!(ask(&topic.clone(), 1, 9), 3, "a clone is the same topic");
        assert_eq!(ask(&topic, 2, 5), 5, "subscriptions have changed");
        assert_eq!(ask(&same_text, 2, 5), 5, "stands elsewhere");
        let many = MATCHES_MAX + 1;
        assert_eq!(ask(&topic, 3, many), many);
        assert_eq!(ask(&topic, 3, many), many);
        assert_eq!(asked, [1, 2, 2, 3, 3], "too many are not remembered");
    }
}
