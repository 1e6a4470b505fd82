//! HTTP devices and clients.
