//! Times and bounds of one endpoint.

use std::time::Duration;

/// Longest time a datagram is expected to travel (RFC 7252, section 4.8.2).
const MAX_LATENCY: Duration = Duration::from_secs(100);

/// Times and bounds of one endpoint; the defaults are those of RFC 7252, section 4.8.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Shortest first wait for an acknowledgement.
    pub ack_timeout: Duration,
    /// Longest first wait, as a multiple of the shortest; above 1, so that peers do not fall into step.
    pub ack_random_factor: f64,
    /// How often a confirmable message is repeated.
    pub retransmissions_max: u32,
    /// How long a request may take before it is acknowledged without its answer. Shorter than the
    /// [`ack_timeout`](Self::ack_timeout) of the peers, which would repeat the request otherwise.
    pub ack_delay: Duration,
    /// How long the answer to a confirmable request is kept for repetitions of it.
    pub duplicate_lifetime: Duration,
    /// Most requests that are remembered. Answered ones give way: first those whose peer has sent a newer
    /// request since, then the oldest of all.
    pub duplicates_max: usize,
    /// Most requests of one peer that are remembered; its oldest answered one gives way.
    pub duplicates_per_peer_max: usize,
    /// Most bytes that remembered requests and answers take up.
    pub duplicate_bytes_max: usize,
    /// Most requests that may await their answer.
    pub exchanges_max: usize,
    /// Most separate answers that may await their acknowledgement or their turn.
    pub transmissions_max: usize,
    /// Most bytes a body may have; told to the peer in Size1.
    pub body_bytes_max: usize,
    /// When a peer may try again that met a full endpoint.
    pub retry_after: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ack_timeout: Duration::from_secs(2),
            ack_random_factor: 1.5,
            retransmissions_max: 4,
            ack_delay: Duration::from_secs(1),
            duplicate_lifetime: Duration::from_secs(247),
            duplicates_max: 32_768,
            duplicates_per_peer_max: 256,
            duplicate_bytes_max: 16 << 20,
            exchanges_max: 1_024,
            transmissions_max: 1_024,
            body_bytes_max: 256 << 10,
            retry_after: Duration::from_secs(1),
        }
    }
}

impl Settings {
    /// Returns how long a non-confirmable request is remembered: one way less than a confirmable one
    /// (`EXCHANGE_LIFETIME` and `NON_LIFETIME` of RFC 7252, section 4.8.2, differ by a latency and the
    /// processing delay).
    pub(crate) fn unconfirmed_lifetime(&self) -> Duration {
        self.duplicate_lifetime.saturating_sub(MAX_LATENCY + self.ack_timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_standard() {
        let settings = Settings::default();
        let span = settings.ack_timeout.mul_f64(settings.ack_random_factor)
            * (2_u32.pow(settings.retransmissions_max) - 1);
        assert_eq!(span, Duration::from_secs(45));
        assert_eq!(span + 2 * MAX_LATENCY + settings.ack_timeout, settings.duplicate_lifetime);
        assert_eq!(settings.unconfirmed_lifetime(), span + MAX_LATENCY);
        assert!(settings.ack_delay < settings.ack_timeout);
    }
}
