//! Properties that the realm does not take: how they are found, and what is remembered of them.
//!
//! The broker takes everything, and the server checks it later: its only answer is to throw the session away and to
//! disconnect. So where sessions are lost again and again, the handshake says one property after the other and asks
//! behind each whether the server still answers; the one behind which it twice does not is refused.

use std::collections::BTreeMap;

/// From so many sessions lost in a row on, properties are said one by one.
const LOST_MAX: u8 = 3;
/// So often a session is lost behind a property before that counts as refused.
const STRIKES_MAX: u8 = 2;
/// Refused properties that are remembered.
const REFUSED_MAX: usize = 1_024;
/// What their names and payloads may take up together.
const REFUSED_BYTES_MAX: usize = 1 << 20;

/// What sessions that were lost have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Doubt {
    /// Sessions lost in a row.
    lost: u8,
    /// How often one was lost behind the suspect.
    strikes: u8,
    /// Whether the suspect was the last thing said.
    is_on_trial: bool,
    suspect: String,
}

impl Doubt {
    /// Reads what was kept; what cannot be read says nothing.
    pub(crate) fn read(kept: &[u8]) -> Self {
        let Some((&[lost, strikes, is_on_trial], suspect)) = kept.split_first_chunk() else {
            return Self::default();
        };
        let suspect = String::from_utf8_lossy(suspect).into_owned();
        Self { lost, strikes, is_on_trial: is_on_trial != 0, suspect }
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        let head = [self.lost, self.strikes, u8::from(self.is_on_trial)];
        [&head[..], self.suspect.as_bytes()].concat()
    }

    /// Takes notice that the far side has no session any more; returns the property that is refused for that.
    pub(crate) fn note_lost(&mut self) -> Option<String> {
        self.lost = self.lost.saturating_add(1);
        if std::mem::take(&mut self.is_on_trial) {
            self.strikes += 1;
        }
        if self.strikes < STRIKES_MAX {
            return None;
        }
        self.strikes = 0;
        Some(std::mem::take(&mut self.suspect))
    }

    /// Returns whether properties are to be said one by one.
    pub(crate) fn is_careful(&self) -> bool {
        self.lost >= LOST_MAX
    }

    pub(crate) fn suspect(&self) -> &str {
        &self.suspect
    }

    /// Returns what is to be remembered while a property is the last thing said.
    pub(crate) fn try_out(&self, key: &str) -> Self {
        let strikes = if key == self.suspect { self.strikes } else { 0 };
        Self { lost: self.lost, strikes, is_on_trial: true, suspect: key.to_owned() }
    }
}

/// Properties that were refused, each with the version of its interface.
#[derive(Debug, Default)]
pub(crate) struct Refused {
    /// By interface and path.
    entries: BTreeMap<String, Vec<u8>>,
    bytes: usize,
}

impl Refused {
    pub(crate) fn new(entries: BTreeMap<String, Vec<u8>>) -> Self {
        let bytes = entries.iter().map(|(key, entry)| key.len() + entry.len()).sum();
        Self { entries, bytes }
    }

    /// Writes what is remembered of one.
    pub(crate) fn entry(version: (u32, u32), payload: &[u8]) -> Vec<u8> {
        [&version.0.to_be_bytes()[..], &version.1.to_be_bytes(), payload].concat()
    }

    /// Returns whether the same was refused.
    pub(crate) fn has(&self, key: &str, version: (u32, u32), payload: &[u8]) -> bool {
        self.entries.get(key).is_some_and(|entry| *entry == Self::entry(version, payload))
    }

    /// Remembers one; returns whether there is room for it.
    pub(crate) fn insert(&mut self, key: &str, entry: Vec<u8>) -> bool {
        self.remove(key);
        let bytes = self.bytes + key.len() + entry.len();
        if self.entries.len() >= REFUSED_MAX || bytes > REFUSED_BYTES_MAX {
            return false;
        }
        self.bytes = bytes;
        self.entries.insert(key.to_owned(), entry);
        true
    }

    /// Forgets one; returns whether it was there.
    pub(crate) fn remove(&mut self, key: &str) -> bool {
        let entry = self.entries.remove(key);
        self.bytes -= entry.as_ref().map_or(0, |entry| key.len() + entry.len());
        entry.is_some()
    }

    /// Takes out those whose interfaces have another version now, or are gone, with their payloads.
    pub(crate) fn take_other_versions(
        &mut self,
        version: impl Fn(&str) -> Option<(u32, u32)>,
    ) -> Vec<(String, Vec<u8>)> {
        let is_other = |(key, entry): (&String, &Vec<u8>)| {
            let same = version(key).is_some_and(|now| entry.starts_with(&Self::entry(now, &[])));
            (!same).then(|| (key.clone(), entry.get(8..).unwrap_or_default().to_vec()))
        };
        let others: Vec<_> = self.entries.iter().filter_map(is_other).collect();
        for (key, _) in &others {
            self.remove(key);
        }
        others
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubts_are_read_as_they_were_written() {
        let mut doubt = Doubt::default();
        for _ in 0..2 {
            assert_eq!(doubt.note_lost(), None);
            assert!(!doubt.is_careful());
        }
        assert_eq!(doubt.note_lost(), None);
        assert!(doubt.is_careful());
        doubt = Doubt::read(&doubt.try_out("a/b").write());
        assert_eq!(doubt.note_lost(), None);
        // Lost again, before it was its turn.
        assert_eq!(doubt.note_lost(), None);
        assert_eq!(doubt.suspect(), "a/b");
        let other = doubt.try_out("c/d");
        assert_eq!(doubt.try_out("a/b").note_lost(), Some("a/b".to_owned()));
        assert_eq!(other.clone().note_lost(), None, "it is the first time for this one");
        for damaged in [&b""[..], b"ab"] {
            assert_eq!(Doubt::read(damaged), Doubt::default());
        }
    }

    /// uplink.22: what is remembered of refused properties is bounded.
    #[test]
    fn refused_properties_are_bounded() {
        let mut refused = Refused::default();
        for number in 0..=REFUSED_MAX {
            let is_in = refused.insert(&format!("a/{number}"), Refused::entry((1, 0), b"v"));
            assert_eq!(is_in, number < REFUSED_MAX);
        }
        assert!(refused.has("a/7", (1, 0), b"v"));
        for (version, payload) in [((1, 1), b"v"), ((1, 0), b"w")] {
            assert!(!refused.has("a/7", version, payload));
        }
        assert!(!refused.insert("a/7", vec![0; REFUSED_BYTES_MAX]) && !refused.remove("a/7"));
        let others = refused.take_other_versions(|key| Some((1, u32::from(key == "a/8"))));
        assert_eq!(others, [("a/8".to_owned(), b"v".to_vec())]);
    }
}
