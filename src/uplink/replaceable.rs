//! What can be replaced while it is used.

use std::{fmt, sync::Arc};

use parking_lot::RwLock;

/// A secret, or another value, of which each new connection takes what is there; clones are the same place.
///
/// Its `Debug` form hides it.
#[derive(Clone, Default)]
pub struct Replaceable<T>(Arc<RwLock<T>>);

impl<T: Clone> Replaceable<T> {
    /// Puts a value there.
    pub fn new(value: T) -> Self {
        Self(Arc::new(RwLock::new(value)))
    }

    /// Returns what is there now.
    pub fn get(&self) -> T {
        self.0.read().clone()
    }

    /// Puts another value there, for all clones.
    pub fn set(&self, value: T) {
        *self.0.write() = value;
    }
}

impl<T> fmt::Debug for Replaceable<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Replaceable").finish_non_exhaustive()
    }
}
