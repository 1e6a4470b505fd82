//! What the adapter counts.

use tidegate_adapter_api::{Counter, Counters};

/// The counters of the adapter.
#[derive(Debug)]
pub(crate) struct HttpCounters {
    counters: Counters,
    /// Requests to mapped paths.
    pub(crate) ingest: Counter,
    /// Requests to the interface of the gateway itself.
    pub(crate) api: Counter,
    /// Connections taken.
    pub(crate) accepted: Counter,
    /// Connections closed at once: too many in all.
    pub(crate) over_total: Counter,
    /// Connections closed at once: too many from one address.
    pub(crate) over_address: Counter,
    /// Connections that were not taken because the system could not.
    pub(crate) accept_failed: Counter,
    /// Connections closed at once: too many handshakes were under way.
    pub(crate) over_handshakes: Counter,
    /// Connections that ended in the handshake of TLS.
    pub(crate) handshake_failed: Counter,
    /// Connections closed because a deadline had passed.
    pub(crate) timed_out: Counter,
    /// Connections that broke HTTP, or broke.
    pub(crate) broken: Counter,
}

impl HttpCounters {
    pub(crate) fn new(counters: &Counters) -> Self {
        let connections = |reason| counters.counter("http_connections", reason);
        Self {
            ingest: counters.counter("http_requests", "ingest"),
            api: counters.counter("http_requests", "api"),
            accepted: connections("accepted"),
            over_total: connections("over-total"),
            over_address: connections("over-address"),
            accept_failed: connections("accept-failed"),
            over_handshakes: connections("over-handshakes"),
            handshake_failed: connections("handshake-failed"),
            timed_out: connections("timed-out"),
            broken: connections("broken"),
            counters: counters.clone(),
        }
    }

    /// Counts a refused request.
    pub(crate) fn refused(&self, kind: &'static str) {
        self.counters.counter("http_requests_refused", kind).increment();
    }
}
