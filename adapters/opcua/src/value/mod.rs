//! What the wire calls variants and data values, as the gateway's values and times, and back.

mod decode;
mod encode;

pub(crate) use decode::sample;
pub(crate) use encode::{BuiltIn, NodeType, Rank, variant};
