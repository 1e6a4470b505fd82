//! The properties that are set, of one side.

use std::{collections::BTreeMap, ops::Deref};

use crate::{PAYLOAD_BYTES_MAX, purge::write_list};

/// Properties that may be set: all of them are kept.
pub(crate) const PROPERTIES_MAX: usize = 65_536;
/// What their names and payloads may take up together.
pub(crate) const BYTES_MAX: usize = 8 << 20;
/// Names of so many bytes make a list that fits into a message, however badly they compress. Some more may be on
/// their way.
const LIST_BYTES: usize = 48 << 10;

/// Payloads by interface and path, bounded in number and size.
#[derive(Debug)]
pub(crate) struct Table {
    payloads: BTreeMap<String, Vec<u8>>,
    bytes: usize,
}

impl Table {
    pub(crate) fn new(payloads: BTreeMap<String, Vec<u8>>) -> Self {
        let bytes = payloads.iter().map(|(key, payload)| key.len() + payload.len()).sum();
        Self { payloads, bytes }
    }

    /// Returns whether a property with this payload may be set.
    pub(crate) fn has_room(&self, key: &str, payload: usize) -> bool {
        let (count, bytes) = match self.payloads.get(key) {
            Some(before) => (self.payloads.len(), self.bytes - before.len() + payload),
            None => (self.payloads.len() + 1, self.bytes + key.len() + payload),
        };
        count <= PROPERTIES_MAX && bytes <= BYTES_MAX
    }

    /// Returns whether the list of all names still goes into one message with another one in it.
    pub(crate) fn may_list(&self, key: &str) -> bool {
        if self.payloads.contains_key(key) {
            return true;
        }
        let names = || self.payloads.keys().map(String::as_str).chain([key]);
        let bytes: usize = names().map(|name| name.len() + 1).sum();
        // Those on their way come on top of it.
        bytes <= LIST_BYTES || write_list(names()).len() <= PAYLOAD_BYTES_MAX / 8 * 7
    }

    pub(crate) fn insert(&mut self, key: String, payload: Vec<u8>) {
        self.remove(&key);
        self.bytes += key.len() + payload.len();
        self.payloads.insert(key, payload);
    }

    pub(crate) fn remove(&mut self, key: &str) {
        if let Some(payload) = self.payloads.remove(key) {
            self.bytes -= key.len() + payload.len();
        }
    }
}

impl Deref for Table {
    type Target = BTreeMap<String, Vec<u8>>;

    fn deref(&self) -> &Self::Target {
        &self.payloads
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_counted_exactly() {
        let mut table = Table::new(BTreeMap::from([("a/b".to_owned(), vec![0; 7])]));
        assert_eq!(table.bytes, 10);
        table.insert("a/b".into(), vec![0; 2]);
        table.insert("c/d".into(), vec![0; 100]);
        assert_eq!((table.bytes, table.len()), (108, 2));
        assert!(table.has_room("c/d", BYTES_MAX - 8) && !table.has_room("c/d", BYTES_MAX - 7));
        assert!(table.has_room("e/f", BYTES_MAX - 111) && !table.has_room("e/f", BYTES_MAX - 110));
        table.remove("c/d");
        table.remove("c/d");
        assert_eq!(table.bytes, 5);
    }

    /// uplink.22: a list of names that do not compress stays within a message; one that compresses may be longer.
    #[test]
    fn lists_stay_within_a_message() {
        let fill = |name: &dyn Fn(u64) -> String| {
            let mut table = Table::new(BTreeMap::new());
            let names = (0..4_000).map(name).take_while(|name| {
                let may = table.may_list(name);
                if may {
                    table.insert(name.clone(), vec![1]);
                }
                may
            });
            let count = names.count();
            (count, write_list(table.keys().map(String::as_str)).len())
        };
        let mixed = |number: u64| {
            let mut state = number;
            let mut next = || {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                state >> 8
            };
            format!("org.example.If/{:014x}{:014x}{:014x}{:014x}", next(), next(), next(), next())
        };
        let (count, bytes) = fill(&mixed);
        assert!(count < 4_000 && bytes <= PAYLOAD_BYTES_MAX, "{count}: {bytes}");
        let (count, bytes) = fill(&|number| format!("org.example.Settings/press-{number}/limit"));
        assert!(count == 4_000 && bytes <= PAYLOAD_BYTES_MAX, "{count}: {bytes}");
    }
}
