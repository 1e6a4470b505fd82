//! BSON 1.1, as much of it as readings and commands need: a writer, and a reader for hostile input.

mod read;
mod write;

pub use read::{Element, Elements, check};
pub(crate) use write::size_bound;
pub use write::{IndexKey, Open, Writer};

pub(crate) mod element {
    pub(crate) const DOUBLE: u8 = 0x01;
    pub(crate) const STRING: u8 = 0x02;
    pub(crate) const DOCUMENT: u8 = 0x03;
    pub(crate) const ARRAY: u8 = 0x04;
    pub(crate) const BINARY: u8 = 0x05;
    pub(crate) const BOOLEAN: u8 = 0x08;
    pub(crate) const DATETIME: u8 = 0x09;
    pub(crate) const NULL: u8 = 0x0A;
    pub(crate) const INT32: u8 = 0x10;
    pub(crate) const INT64: u8 = 0x12;
    pub(crate) const DECIMAL128: u8 = 0x13;
}

/// The upper half of a decimal128 with exponent 0: the bias of 6176 in bits 49 to 62.
pub(crate) const DECIMAL128_EXPONENT_0: u64 = 6176 << 49;
