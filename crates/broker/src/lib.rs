//! Subscriptions, sessions, retained messages and access rules of the broker core, without I/O.
