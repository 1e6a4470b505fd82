//! Which properties the far side has for sure, over the connections of a process.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::table::PROPERTIES_MAX;

/// For which properties the far side has acknowledged what was sent last. Cheap to clone: the connections of a device
/// share it, one after the other.
///
/// A new one is certain of nothing: what a process before has sent, and whether that was answered, nobody knows.
#[derive(Clone, Debug, Default)]
pub struct Certainty(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    /// Whether all are certain but the others, or none but the others.
    is_whole: bool,
    others: BTreeSet<String>,
}

impl Certainty {
    pub(crate) fn has(&self, key: &str) -> bool {
        let inner = self.inner();
        inner.is_whole != inner.others.contains(key)
    }

    /// Takes notice that another value is on its way.
    pub(crate) fn doubt(&self, key: &str) {
        self.inner().set(key, false);
    }

    /// Takes notice that the last value has arrived.
    pub(crate) fn ascertain(&self, key: &str) {
        self.inner().set(key, true);
    }

    /// Takes notice that the far side has been told everything, and has acknowledged it.
    pub(crate) fn ascertain_all(&self) {
        *self.inner() = Inner { is_whole: true, others: BTreeSet::new() };
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn set(&mut self, key: &str, is_certain: bool) {
        if self.is_whole == is_certain {
            self.others.remove(key);
        } else if self.others.len() < PROPERTIES_MAX || self.others.contains(key) {
            self.others.insert(key.to_owned());
        } else if !is_certain {
            // Too many to be told apart.
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// uplink.22: what cannot be remembered is not certain.
    #[test]
    fn certainty_is_bounded() {
        for is_whole in [false, true] {
            let certainty = Certainty::default();
            if is_whole {
                certainty.ascertain_all();
            }
            assert_eq!(certainty.has("0"), is_whole);
            for number in 0..=PROPERTIES_MAX {
                let key = number.to_string();
                if is_whole {
                    certainty.doubt(&key);
                } else {
                    certainty.ascertain(&key);
                }
            }
            assert!(certainty.inner().others.len() <= PROPERTIES_MAX);
            assert!(!certainty.has(&PROPERTIES_MAX.to_string()));
            assert_eq!(certainty.has("0"), !is_whole);
        }
    }
}
