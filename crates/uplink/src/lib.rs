//! Batching, encoders, delivery window and ledger of an uplink, without I/O.
