//! The contract between the gateway and its field protocol adapters.
