//! A configuration of handshakes that is replaced while it is used.

use std::sync::Arc;

use parking_lot::RwLock;

/// The handshakes of one side. Connections that exist keep what they were made with.
#[derive(Debug)]
pub struct InUse<C> {
    config: RwLock<Arc<C>>,
}

/// A configuration that will do, for [`InUse::set`].
#[derive(Debug)]
pub struct Prepared<C>(pub(crate) Arc<C>);

impl<C> InUse<C> {
    pub(crate) fn with(config: Arc<C>) -> Self {
        Self { config: RwLock::new(config) }
    }

    /// Uses something else from the next handshake on.
    pub fn set(&self, prepared: Prepared<C>) {
        *self.config.write() = prepared.0;
    }

    /// Returns the configuration for one handshake.
    pub fn config(&self) -> Arc<C> {
        Arc::clone(&self.config.read())
    }
}
