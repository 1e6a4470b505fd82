//! Under which keys an uplink keeps its state in the journal.
//!
//! All begin with `u/<name>/`; a name has no `/`. Numbers are big-endian, so that keys sort by them.

use tidegate_model::UplinkName;

/// One change of the key-value state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Sets a key.
    Put {
        /// The key.
        key: Vec<u8>,
        /// Its new value.
        value: Vec<u8>,
    },
    /// Removes a key.
    Delete {
        /// The key.
        key: Vec<u8>,
    },
}

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// Cursor and counters.
    Books,
    /// The epoch in which the numbers are given.
    Epoch,
    /// A decided batch.
    Batch(u64),
    /// The topic of a stream.
    Topic(u32),
    /// The next numbers of [`PAGE_STREAMS`](crate::streams::PAGE_STREAMS) streams.
    Numbers(u32),
    /// Gaps of [`PAGE_STREAMS`](crate::gaps::PAGE_STREAMS) streams that no batch carries yet.
    Gaps(u32),
    /// A payload that the cloud refused for good.
    DeadLetter(u64),
    /// The outcome of a command that the cloud has not acknowledged yet.
    Outcome(u64),
    /// What the rules remember, but for single topics.
    Rules,
    /// What the rules remember of a topic.
    RulesOfTopic(u64),
    /// What the connection keeps, under names of its own.
    Kept,
    /// A file of records that were spilled out of the journal.
    Spill(u64),
}

/// Makes and reads the keys of one uplink.
#[derive(Clone, Debug)]
pub struct Keys {
    prefix: Vec<u8>,
}

impl Keys {
    /// Makes the keys of the uplink `name`.
    pub fn new(name: &UplinkName) -> Self {
        Self { prefix: format!("u/{name}/").into_bytes() }
    }

    /// Returns what all keys of this uplink begin with.
    pub fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    pub(crate) fn put(&self, key: Key, value: Vec<u8>) -> Change {
        Change::Put { key: self.bytes(key), value }
    }

    pub(crate) fn delete(&self, key: Key) -> Change {
        Change::Delete { key: self.bytes(key) }
    }

    fn bytes(&self, key: Key) -> Vec<u8> {
        let mut bytes = self.prefix.clone();
        match key {
            Key::Books => bytes.push(b'c'),
            Key::Epoch => bytes.push(b'e'),
            Key::Rules => bytes.push(b'r'),
            Key::Kept => bytes.push(b'k'),
            Key::RulesOfTopic(number) => push(&mut bytes, b's', &number.to_be_bytes()),
            Key::Batch(number) => push(&mut bytes, b'b', &number.to_be_bytes()),
            Key::Spill(number) => push(&mut bytes, b'p', &number.to_be_bytes()),
            Key::DeadLetter(number) => push(&mut bytes, b'd', &number.to_be_bytes()),
            Key::Outcome(number) => push(&mut bytes, b'o', &number.to_be_bytes()),
            Key::Topic(stream) => push(&mut bytes, b'n', &stream.to_be_bytes()),
            Key::Numbers(page) => push(&mut bytes, b'i', &page.to_be_bytes()),
            Key::Gaps(page) => push(&mut bytes, b'g', &page.to_be_bytes()),
        }
        bytes
    }

    /// Returns the change of an entry that the connection keeps for itself; nobody else looks at what it
    /// says.
    pub fn keep(&self, name: &[u8], value: Option<Vec<u8>>) -> Change {
        let mut key = self.kept_prefix();
        key.extend_from_slice(name);
        match value {
            Some(value) => Change::Put { key, value },
            None => Change::Delete { key },
        }
    }

    /// Returns what the keys of [`keep`](Self::keep) begin with.
    pub fn kept_prefix(&self) -> Vec<u8> {
        [self.prefix.as_slice(), b"k"].concat()
    }

    /// Returns the change of the entry of a spill file; nobody else looks at what it says.
    pub fn spill(&self, number: u64, entry: Option<Vec<u8>>) -> Change {
        match entry {
            Some(entry) => self.put(Key::Spill(number), entry),
            None => self.delete(Key::Spill(number)),
        }
    }

    /// Returns the number of the spill file whose entry has this key, if it is one.
    pub fn spill_number(&self, key: &[u8]) -> Option<u64> {
        match self.parse(key) {
            Some(Key::Spill(number)) => Some(number),
            _ => None,
        }
    }

    /// Returns what `key` is for, if it is a key of this uplink.
    pub(crate) fn parse(&self, key: &[u8]) -> Option<Key> {
        let (&kind, number) = key.strip_prefix(self.prefix.as_slice())?.split_first()?;
        let long = || number.try_into().ok().map(u64::from_be_bytes);
        let short = || number.try_into().ok().map(u32::from_be_bytes);
        match kind {
            b'c' if number.is_empty() => Some(Key::Books),
            b'e' if number.is_empty() => Some(Key::Epoch),
            b'r' if number.is_empty() => Some(Key::Rules),
            b'k' => Some(Key::Kept),
            b's' => long().map(Key::RulesOfTopic),
            b'b' => long().map(Key::Batch),
            b'p' => long().map(Key::Spill),
            b'd' => long().map(Key::DeadLetter),
            b'o' => long().map(Key::Outcome),
            b'n' => short().map(Key::Topic),
            b'i' => short().map(Key::Numbers),
            b'g' => short().map(Key::Gaps),
            _ => None,
        }
    }
}

fn push(bytes: &mut Vec<u8>, kind: u8, number: &[u8]) {
    bytes.push(kind);
    bytes.extend_from_slice(number);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_back_and_foreign_ones_left_alone() {
        let keys = Keys::new(&UplinkName::new("cloud").unwrap());
        for key in [
            Key::Books,
            Key::Epoch,
            Key::Gaps(2),
            Key::Batch(7),
            Key::DeadLetter(u64::MAX),
            Key::Outcome(1),
            Key::Spill(77),
            Key::Topic(3),
            Key::Numbers(0),
            Key::Rules,
            Key::RulesOfTopic(9),
        ] {
            assert_eq!(keys.parse(&keys.bytes(key)), Some(key));
        }
        let other = Keys::new(&UplinkName::new("cloud2").unwrap());
        assert_eq!(keys.parse(&other.bytes(Key::Books)), None);
        assert_eq!(keys.parse(b"u/cloud/b123"), None);
        let kept = keys.keep(b"name", Some(vec![1]));
        let Change::Put { key, .. } = &kept else { panic!("{kept:?}") };
        assert_eq!((key.as_slice(), keys.parse(key)), (&b"u/cloud/kname"[..], Some(Key::Kept)));
        assert_eq!(keys.keep(b"name", None), Change::Delete { key: key.clone() });
        assert!(key.starts_with(&keys.kept_prefix()));
        assert!(keys.bytes(Key::Batch(255)) < keys.bytes(Key::Batch(256)));
    }
}
