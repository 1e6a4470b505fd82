//! Payloads that the cloud refused for good: the last few are kept for people to look at.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{
    keys::{Change, Key, Keys},
    wire::{put_bytes, put_text},
};

/// At most so many payloads are kept.
const LETTERS_MAX: usize = 32;
/// At most so many bytes of payloads are kept.
const BYTES_MAX: usize = 1 << 20;
const VERSION: u8 = 1;

/// A payload that the cloud refused for good.
#[derive(Clone, Debug)]
pub(super) struct DeadLetter {
    pub(super) topic: std::sync::Arc<str>,
    pub(super) payload: Bytes,
    pub(super) reason: String,
}

/// The dead letters that the journal keeps, by number, with their sizes.
#[derive(Debug, Default)]
pub(super) struct DeadLetters {
    sizes: BTreeMap<u64, usize>,
    bytes: usize,
}

impl DeadLetters {
    pub(super) fn restore(&mut self, number: u64, bytes: usize) {
        self.sizes.insert(number, bytes);
        self.bytes += bytes;
    }

    pub(super) fn len(&self) -> usize {
        self.sizes.len()
    }

    /// Keeps a letter and lets the oldest go that are too many. One that is too large is not kept.
    pub(super) fn add(&mut self, letter: DeadLetter, keys: &Keys, changes: &mut Vec<Change>) {
        let mut value = vec![VERSION];
        put_text(&mut value, &letter.reason);
        put_text(&mut value, &letter.topic);
        put_bytes(&mut value, &letter.payload);
        if value.len() > BYTES_MAX {
            return;
        }
        while self.sizes.len() >= LETTERS_MAX || self.bytes + value.len() > BYTES_MAX {
            let Some((oldest, bytes)) = self.sizes.pop_first() else { break };
            self.bytes -= bytes;
            changes.push(keys.delete(Key::DeadLetter(oldest)));
        }
        let number = self.sizes.last_key_value().map_or(1, |(last, _)| last + 1);
        self.restore(number, value.len());
        changes.push(keys.put(Key::DeadLetter(number), value));
    }
}

#[cfg(test)]
mod tests {
    use tidegate_model::UplinkName;

    use super::*;

    #[test]
    fn number_and_size_of_dead_letters_are_bounded() {
        let keys = Keys::new(&UplinkName::new("cloud").unwrap());
        let mut letters = DeadLetters::default();
        let letter = |bytes| DeadLetter {
            topic: "t".into(),
            payload: vec![0; bytes].into(),
            reason: "payload format invalid".into(),
        };
        let mut kept = std::collections::BTreeSet::new();
        for size in [10; 100].into_iter().chain([300_000; 10]).chain([2 << 20]) {
            let mut changes = Vec::new();
            letters.add(letter(size), &keys, &mut changes);
            for change in changes {
                match change {
                    Change::Put { key, .. } => assert!(kept.insert(key)),
                    Change::Delete { key } => assert!(kept.remove(&key)),
                }
            }
            assert_eq!(kept.len(), letters.len());
            assert!(letters.len() <= LETTERS_MAX && letters.bytes <= BYTES_MAX);
        }
        assert_eq!(letters.len(), 3);
    }
}
