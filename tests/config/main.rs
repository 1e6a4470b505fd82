//! Configurations, right and wrong: each message names the place and says what to do (main.5, main.23).

// The example needs every protocol; a build without one refuses its table.
#![cfg(all(feature = "coap", feature = "http", feature = "opcua"))]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod by_hand;
mod harness;
mod mutated;
mod right;
mod secrets;
mod shown;
