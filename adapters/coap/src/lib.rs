//! CoAP devices and clients.
