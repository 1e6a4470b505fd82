//! Whether an adapter reaches its devices.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Says whether an adapter can carry out commands now. What only an adapter itself can know is for those commands that had
/// better wait than be refused: what a cloud desires is a state, not an order of a moment. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Reach(Arc<AtomicBool>);

/// Says so for as long as it is held; one at a time.
#[derive(Debug)]
#[must_use]
pub struct Reached<'r>(&'r Reach);

impl Reach {
    /// Says from now on that commands can be carried out.
    pub fn hold(&self) -> Reached<'_> {
        self.0.store(true, Ordering::Relaxed);
        Reached(self)
    }

    /// Returns whether commands can be carried out; they may be refused all the same.
    pub fn is_there(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Reached<'_> {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_there_for_as_long_as_it_is_said() {
        let reach = Reach::default();
        let seen = reach.clone();
        assert!(!seen.is_there());
        let reached = reach.hold();
        assert!(seen.is_there());
        drop(reached);
        assert!(!seen.is_there());
    }
}
