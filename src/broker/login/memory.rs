//! Passwords that were found right, remembered without keeping them.
//!
//! A thousand devices that come back when their network does must not wait for a thousand argon2 checks. What is kept
//! is an HMAC under a key that never leaves the process; it covers the stored hash, so that a changed password is
//! forgotten by itself.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use ring::{
    hmac::{self, HMAC_SHA256},
    rand::SystemRandom,
};

/// How long after its check a password is remembered.
const REMEMBERED: Duration = Duration::from_secs(7 * 86_400);
/// Most passwords that are remembered.
const REMEMBERED_MAX: usize = 4_096;

/// What stands for a name, its stored hash and a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Tag([u8; 32]);

/// The passwords that were found right.
#[derive(Debug)]
pub(super) struct Memory {
    key: hmac::Key,
    checked: Mutex<HashMap<Tag, Instant>>,
}

impl Memory {
    pub(super) fn new() -> Self {
        let key = hmac::Key::generate(HMAC_SHA256, &SystemRandom::new());
        Self { key: key.expect("the system gives random bytes"), checked: Mutex::default() }
    }

    /// Returns what stands for a name, the hash that is stored for it, and a password.
    pub(super) fn tag(&self, name: &str, hash: &str, password: &[u8]) -> Tag {
        let mut context = hmac::Context::with_key(&self.key);
        for part in [name.as_bytes(), hash.as_bytes(), password] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        Tag(context.sign().as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }

    /// Returns whether this was found right.
    pub(super) fn knows(&self, tag: Tag, now: Instant) -> bool {
        let checked = self.checked.lock();
        checked.get(&tag).is_some_and(|at| now.saturating_duration_since(*at) < REMEMBERED)
    }

    /// Notes that this was found right.
    pub(super) fn remember(&self, tag: Tag, now: Instant) {
        let mut checked = self.checked.lock();
        checked.insert(tag, now);
        make_room(&mut checked, REMEMBERED_MAX, |at| *at);
    }
}

/// Takes an eighth out of a table that holds more than `most`: those of the least worth. So a table that is always
/// full costs little for each entry.
pub(super) fn make_room<K: Eq + Hash, V, W: Ord>(
    table: &mut HashMap<K, V>,
    most: usize,
    worth: impl Fn(&V) -> W,
) {
    if table.len() <= most {
        return;
    }
    let mut worths: Vec<W> = table.values().map(&worth).collect();
    let index = worths.len() / 8;
    let (_, last, _) = worths.select_nth_unstable(index);
    let mut left = index + 1;
    table.retain(|_, value| {
        let goes = left > 0 && worth(value) <= *last;
        left -= usize::from(goes);
        !goes
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_checked_is_known() {
        let (memory, now) = (Memory::new(), Instant::now());
        memory.remember(memory.tag("press-7", "$argon2id$a", b"secret"), now);
        let knows =
            |name, hash, password: &[u8]| memory.knows(memory.tag(name, hash, password), now);
        assert!(knows("press-7", "$argon2id$a", b"secret"));
        assert!(!knows("press-7", "$argon2id$a", b"Secret"));
        assert!(!knows("press-8", "$argon2id$a", b"secret"));
        assert!(!knows("press-7", "$argon2id$b", b"secret"), "the password was changed");
        assert!(!knows("press-7", "$argon2id$as", b"ecret"));
        let tag = memory.tag("press-7", "$argon2id$a", b"secret");
        assert_ne!(tag, Memory::new().tag("press-7", "$argon2id$a", b"secret"), "keys differ");
        assert!(!memory.knows(tag, now + REMEMBERED));
    }

    #[test]
    fn the_least_worth_go_first_and_never_more_than_an_eighth() {
        let mut table: HashMap<u32, u32> = (0..801).map(|number| (number, number / 2)).collect();
        make_room(&mut table, 801, |worth| *worth);
        assert_eq!(table.len(), 801);
        make_room(&mut table, 800, |worth| *worth);
        assert_eq!(table.len(), 700);
        assert!((102..801).all(|number| table.contains_key(&number)));
        let mut equal: HashMap<u32, ()> = (0..9).map(|number| (number, ())).collect();
        make_room(&mut equal, 8, |()| ());
        assert_eq!(equal.len(), 7);
    }
}
