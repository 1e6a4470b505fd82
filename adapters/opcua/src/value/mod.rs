//! What the wire calls variants and data values, as the gateway's values and times, and back.

mod decode;
mod encode;
mod extent;
mod structure;

pub(crate) use decode::{Reader, Undecoded, may_hold_structure, sample, value};
pub(crate) use encode::{BuiltIn, NodeType, Rank, natural, variant};
pub(crate) use extent::DataValueBytes;
