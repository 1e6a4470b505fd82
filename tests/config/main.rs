//! Configurations, right and wrong: each message names the place and says what to do (main.5, main.23).

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod by_hand;
mod harness;
mod mutated;
mod right;
mod secrets;
mod shown;
