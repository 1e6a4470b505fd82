//! Values and envelopes as JSON (RFC 8259).

mod read;
mod write;

pub use read::{DEPTH_MAX, JsonError, depth_max, parse_number, parse_value, set_depth_max};
pub use write::{bare_value, envelope, write_string, write_value};

#[cfg(test)]
mod tests;
