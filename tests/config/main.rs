//! Configurations, right and wrong: each message names the place and says what to do (main.5, main.23).

mod by_hand;
mod harness;
mod mutated;
mod right;
mod secrets;
mod shown;
mod yaml;
