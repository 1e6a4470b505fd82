//! Named counters of an adapter, shown by `/metrics` and `tidegate status`.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// One counter; rises only. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// Adds one.
    #[inline]
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `amount`.
    #[inline]
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// Returns the count.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A counter as it is shown: `tidegate_<name>_total{reason="<reason>"}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterSample {
    /// What is counted, in snake case, without prefix and `_total`: `coap_requests_refused`.
    pub name: &'static str,
    /// The reason or kind, a fixed word.
    pub reason: &'static str,
    /// The count.
    pub value: u64,
}

/// The counters of one adapter; each is made when first asked for. Cheap to clone.
#[derive(Clone, Default)]
pub struct Counters(Arc<Mutex<BTreeMap<(&'static str, &'static str), Counter>>>);

impl Counters {
    /// Returns the counter of that name and reason. Keep it: the look-up takes a lock.
    pub fn counter(&self, name: &'static str, reason: &'static str) -> Counter {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry((name, reason))
            .or_default()
            .clone()
    }

    /// Returns all counters in order of name.
    pub fn samples(&self) -> Vec<CounterSample> {
        let counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counters
            .iter()
            .map(|(&(name, reason), counter)| CounterSample {
                name,
                reason,
                value: counter.value(),
            })
            .collect()
    }
}

impl fmt::Debug for Counters {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.samples()).finish()
    }
}
