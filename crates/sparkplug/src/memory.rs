//! What outlives a session: the metrics with what they last were, the numbers of sessions, and when the host was seen.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{
    catalog::{BLOCK_METRICS, Catalog},
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
    /// What is to be kept; nothing to forget it.
    pub value: Option<Vec<u8>>,
}

/// What a session leaves to the next one.
#[derive(Clone, Debug)]
pub struct Memory {
    pub(crate) catalog: Catalog,
    bd_seq: Option<BdSeq>,
    /// The time of the last STATE of the primary host, by the number of the server that it came from.
    pub(crate) host_said: BTreeMap<usize, u64>,
    /// Names of what is kept and cannot be read.
    unreadable: Vec<Vec<u8>>,
}

impl Memory {
    /// Begins with nothing.
    pub fn new() -> Self {
        Self {
            catalog: Catalog::new(),
            bd_seq: None,
            host_said: BTreeMap::new(),
            unreadable: Vec::new(),
        }
    }

    /// Goes on with what was kept, in the order of names; `rules` are those of today.
    ///
    /// Metrics in what cannot be read are forgotten; see [`is_damaged`](Self::is_damaged).
    pub fn open<'a>(
        kept: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
        rules: &[DeviceRule],
    ) -> Self {
        let mut memory = Self::new();
        for (name, value) in kept {
            if name == BD_SEQ {
                memory.bd_seq = value.first().copied().map(BdSeq);
                continue;
            }
            let number = name.strip_prefix(BLOCK).and_then(|number| number.try_into().ok());
            let Some(number) = number.map(u16::from_be_bytes).map(usize::from) else { continue };
            if memory.restore(number, value, rules).is_none() {
                // What of it could be read is kept anew.
                memory.catalog.touch(number);
                memory.unreadable.push(name.to_vec());
            }
        }
        memory
    }

    /// Returns whether something was kept that could not be read.
    pub fn is_damaged(&self) -> bool {
        !self.unreadable.is_empty()
    }

    /// Adds the metrics of a kept block; `None` if not all of it can be read.
    fn restore(&mut self, number: usize, block: &[u8], rules: &[DeviceRule]) -> Option<()> {
        let block = Payload::decode(Bytes::copy_from_slice(block), Limits::OWN).ok()?;
        if block.metrics.is_empty() || block.metrics.len() > BLOCK_METRICS {
            return None;
        }
        let mut metrics = block.metrics.iter().enumerate();
        metrics.try_for_each(|(at, metric)| self.catalog.restore(rules, (number, at), metric))
    }

    /// Counts a session, and returns its number.
    pub(crate) fn begin(&mut self) -> BdSeq {
        let number = self.bd_seq.map_or(BdSeq(0), BdSeq::next);
        self.bd_seq = Some(number);
        number
    }

    /// Returns what is to be kept of the number of the present session, before anybody hears of it.
    pub(crate) fn keep_bd_seq(&self) -> Option<Kept> {
        self.bd_seq.map(|number| Kept { name: BD_SEQ.to_vec(), value: Some(vec![number.get()]) })
    }

    /// Returns what is to be kept of the metrics: what is new, and with `values` what has a newer value.
    pub fn take_kept(&mut self, values: bool) -> Vec<Kept> {
        let unreadable = std::mem::take(&mut self.unreadable).into_iter();
        let forgotten = unreadable.map(|name| Kept { name, value: None });
        let blocks = self.catalog.take_blocks(values);
        let kept = blocks.into_iter().map(|block| {
            let metrics = self.catalog.block(block);
            let number = u16::try_from(block).expect("there are few metrics");
            let name = [BLOCK, &number.to_be_bytes()].concat();
            let value =
                (!metrics.is_empty()).then(|| Payload { metrics, ..Payload::default() }.encode());
            Kept { name, value }
        });
        // What is forgotten comes first: it may be kept anew.
        forgotten.chain(kept).collect()
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}
