//! How the gateway is, for those who show it.

use std::{fmt, sync::Arc};

use tidegate_model::Principal;

/// What stands behind a [`HealthSource`].
pub trait Health: Send + Sync {
    /// Returns why the gateway is not ready, or `None` when its store is open and its listeners are bound.
    fn not_ready(&self) -> Option<String>;

    /// Returns all metrics in the OpenMetrics text format.
    fn metrics(&self) -> String;

    /// Returns the status as JSON, if this principal may see it.
    fn status(&self, manager: &Principal) -> Option<String>;
}

/// Says how the gateway is. Cheap to clone.
#[derive(Clone)]
pub struct HealthSource(Arc<dyn Health>);

impl HealthSource {
    /// Makes the handle.
    pub fn new(health: Arc<dyn Health>) -> Self {
        Self(health)
    }
}

impl std::ops::Deref for HealthSource {
    type Target = dyn Health;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl fmt::Debug for HealthSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("HealthSource")
    }
}
