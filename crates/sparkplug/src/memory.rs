//! What outlives a session: the metrics with what they last were, the numbers of sessions, and when the host was seen.

use bytes::Bytes;
use thiserror::Error;

use crate::{
    catalog::{BLOCK_METRICS, Catalog, METRICS_MAX},
    naming::DeviceRule,
    payload::{Limits, Payload},
};

/// The name under which the number of the last session is kept.
const BD_SEQ: &[u8] = b"bdseq";
/// What the names of blocks of metrics begin with.
const BLOCK: &[u8] = b"m";

/// Pairs births and deaths: the number of a session, 0 to 255, and then 0 again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BdSeq(u8);

impl BdSeq {
    /// Returns the number.
    pub fn get(self) -> u8 {
        self.0
    }

    fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

/// Something to be kept by name, in place of what was kept under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The name.
    pub name: Vec<u8>,
    /// What is to be kept.
    pub value: Vec<u8>,
}

/// What was kept cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("what was kept of the edge node's metrics cannot be read")]
pub struct OpenError;

/// What a session leaves to the next one.
#[derive(Clone, Debug)]
pub struct Memory {
    pub(crate) catalog: Catalog,
    bd_seq: Option<BdSeq>,
    /// The time of the last STATE with which the primary host was there.
    pub(crate) host_seen: u64,
}

impl Memory {
    /// Begins with nothing.
    pub fn new() -> Self {
        Self { catalog: Catalog::new(), bd_seq: None, host_seen: 0 }
    }

    /// Goes on with what was kept, in the order of names; `rules` are those of today.
    ///
    /// # Errors
    ///
    /// [`OpenError`] if it is not what was kept.
    pub fn open<'a>(
        kept: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
        rules: &[DeviceRule],
    ) -> Result<Self, OpenError> {
        let mut memory = Self::new();
        for (name, value) in kept {
            if name == BD_SEQ {
                let &[number] = value else { return Err(OpenError) };
                memory.bd_seq = Some(BdSeq(number));
            } else if name.starts_with(BLOCK) {
                let block = Payload::decode(Bytes::copy_from_slice(value), Limits::OWN);
                let block = block.map_err(|_| OpenError)?;
                let room = METRICS_MAX - memory.catalog.entries().len().min(METRICS_MAX);
                if block.metrics.len() > room.min(BLOCK_METRICS) {
                    return Err(OpenError);
                }
                for metric in &block.metrics {
                    memory.catalog.restore(rules, metric).ok_or(OpenError)?;
                }
            }
        }
        Ok(memory)
    }

    /// Counts a session, and returns its number.
    pub(crate) fn begin(&mut self) -> BdSeq {
        let number = self.bd_seq.map_or(BdSeq(0), BdSeq::next);
        self.bd_seq = Some(number);
        number
    }

    /// Returns what is to be kept of the number of the present session, before anybody hears of it.
    pub(crate) fn keep_bd_seq(&self) -> Option<Kept> {
        self.bd_seq.map(|number| Kept { name: BD_SEQ.to_vec(), value: vec![number.get()] })
    }

    /// Returns what is to be kept of the metrics: what is new, and with `values` what has a newer value.
    pub fn take_kept(&mut self, values: bool) -> Vec<Kept> {
        let blocks = self.catalog.take_blocks(values);
        let kept = blocks.into_iter().map(|block| {
            let metrics = self.catalog.block(block);
            let number = u16::try_from(block).expect("there are few metrics");
            let name = [BLOCK, &number.to_be_bytes()].concat();
            Kept { name, value: Payload { metrics, ..Payload::default() }.encode() }
        });
        kept.collect()
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}
