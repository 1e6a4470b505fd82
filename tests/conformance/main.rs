//! MQTT 3.1.1 and 5.0 against the real binary: one test for each statement that binds servers.

#[allow(dead_code, reason = "tests take from the harness what they need")]
#[path = "../support/mod.rs"]
mod support;

mod mqtt;
