//! Why a run of an adapter ends.

use std::{io, time::Duration};

use thiserror::Error;

/// Why a run of an adapter ended.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AdapterError {
    /// A listener could not be bound.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address as configured.
        address: String,
        /// What the system says.
        source: io::Error,
    },

    /// No connection could be made, or it broke.
    #[error("cannot reach {endpoint}: {reason}")]
    Unreachable {
        /// The endpoint as configured.
        endpoint: String,
        /// What is wrong.
        reason: String,
    },

    /// The device accepted a request and did not answer in time.
    #[error("{endpoint} did not answer within {} ms", .timeout.as_millis())]
    TimedOut {
        /// The endpoint as configured.
        endpoint: String,
        /// How long the adapter waited.
        timeout: Duration,
    },

    /// The device answered, and the answer was no, for a reason that time alone does not mend.
    #[error("{endpoint} refused: {reason}")]
    Refused {
        /// The endpoint as configured.
        endpoint: String,
        /// What it said.
        reason: String,
    },

    /// The device sent something its protocol does not allow.
    #[error("{endpoint} sent a malformed message: {reason}")]
    PeerMisbehaved {
        /// The endpoint as configured.
        endpoint: String,
        /// What was wrong.
        reason: String,
    },
}

impl AdapterError {
    /// Returns whether the same attempt may succeed later without anyone stepping in.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Bind { .. } | Self::Unreachable { .. } | Self::TimedOut { .. } => true,
            Self::Refused { .. } | Self::PeerMisbehaved { .. } => false,
        }
    }
}
