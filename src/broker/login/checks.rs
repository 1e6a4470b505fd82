//! Checks of passwords: off the network threads, a few at a time, in turn.

use std::{collections::HashMap, sync::Arc, time::Duration};

use argon2::{
    Algorithm, Argon2, Block, Params, Version,
    password_hash::{
        PasswordHasher,
        phc::{Output, PasswordHash},
    },
};
use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
    time::timeout,
};
use zeroize::Zeroizing;

use super::throttle::Network;

/// Most checks at once: each takes 19 MiB of memory for some tens of milliseconds.
const CHECKS_MAX: usize = 2;
/// Most logins that wait for a check: as many as are checked within the deadline of a connection on a small device.
const WAITING_MAX: usize = 512;
/// Most of them from one address.
const WAITING_PER_ADDRESS_MAX: usize = WAITING_MAX / 2;
/// How long a login waits; those who asked have given up by then.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Memory of this size goes back to the system when it is freed, whichever thread had it; so much of it as is not used
/// costs nothing. The C library keeps what is smaller than 32 MiB, for each of many threads.
const RETURNED_BYTES: usize = 33 << 20;

/// A hash of random bytes that nobody kept, with the same parameters as real ones.
pub(super) const DECOY: &str = "$argon2id$v=19$m=19456,t=2,p=1$Y2hvc2VuIG9uY2UsIHVua25vd24$YWxsIHplcm9zIHdvdWxkIGRvIGFzIHdlbGwu";

/// The checks that are under way, and who waits for one.
#[derive(Debug)]
pub(super) struct Checks {
    turns: Arc<Semaphore>,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    total: usize,
    by_network: HashMap<Network, usize>,
}

/// A place among those who wait; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place<'a> {
    checks: &'a Checks,
    network: Network,
}

/// The right to check a password now.
#[derive(Debug)]
pub(super) struct Turn(OwnedSemaphorePermit);

impl Checks {
    pub(super) fn new() -> Self {
        Self { turns: Arc::new(Semaphore::new(CHECKS_MAX)), waiting: Mutex::default() }
    }

    /// Takes a place for a client of this network, if there is one.
    pub(super) fn enter(&self, network: Network) -> Option<Place<'_>> {
        let mut waiting = self.waiting.lock();
        if waiting.total >= WAITING_MAX {
            return None;
        }
        let from_here = waiting.by_network.entry(network).or_default();
        if *from_here >= WAITING_PER_ADDRESS_MAX {
            return None;
        }
        *from_here += 1;
        waiting.total += 1;
        Some(Place { checks: self, network })
    }
}

impl Place<'_> {
    /// Waits for a check, first come, first served; `None` if that takes too long. Cancel-safe, but loses its place in
    /// the order.
    pub(super) async fn turn(&self) -> Option<Turn> {
        let turn = timeout(WAIT_MAX, Arc::clone(&self.checks.turns).acquire_owned()).await.ok()?;
        Some(Turn(turn.expect("the semaphore is never closed")))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut waiting = self.checks.waiting.lock();
        waiting.total -= 1;
        if let Some(from_here) = waiting.by_network.get_mut(&self.network) {
            *from_here -= 1;
            if *from_here == 0 {
                waiting.by_network.remove(&self.network);
            }
        }
    }
}

impl Turn {
    /// Returns whether a password has this hash.
    pub(super) async fn verify(self, hash: Arc<str>, password: &[u8]) -> bool {
        let password = Zeroizing::new(password.to_vec());
        let check = move || {
            let _turn = self.0;
            has_hash(&password, &hash).unwrap_or(false)
        };
        spawn_blocking(check).await.unwrap_or(false)
    }
}

/// Returns whether a password has this hash; `None` if it is no hash that can be made.
fn has_hash(password: &[u8], hash: &str) -> Option<bool> {
    let hash = PasswordHash::new(hash).ok()?;
    let (salt, expected) = (hash.salt?, hash.hash?);
    let algorithm = Algorithm::try_from(hash.algorithm.as_str()).ok()?;
    let version = hash.version.map_or(Ok(Version::default()), Version::try_from).ok()?;
    let params = Params::try_from(&hash).ok()?;
    let blocks = params.block_count();
    let mut memory = Vec::with_capacity(blocks.max(RETURNED_BYTES / Block::SIZE));
    memory.resize(blocks, Block::default());
    let mut bytes = [0; Output::MAX_LENGTH];
    let bytes = bytes.get_mut(..expected.len())?;
    let argon2 = Argon2::new(algorithm, version, params);
    argon2.hash_password_into_with_memory(password, &salt, bytes, &mut memory[..]).ok()?;
    // Compared in constant time.
    Some(Output::new(bytes).ok()? == expected)
}

/// Returns whether a text is the argon2id hash of a password in PHC form.
pub fn is_password_hash(text: &str) -> bool {
    text.starts_with("$argon2id$") && PasswordHash::new(text).is_ok_and(|hash| hash.hash.is_some())
}

/// Returns the argon2id hash of a password in PHC form, with a salt of the system's random source.
///
/// # Errors
///
/// If the random source or the hash fails, which on a working system they do not.
pub fn hash_password(password: &[u8]) -> anyhow::Result<String> {
    let hash = Argon2::default()
        .hash_password(password)
        .map_err(|error| anyhow::anyhow!("cannot hash: {error}"))?;
    Ok(hash.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// identity.8: nobody waits for ever behind checks that take long.
    #[tokio::test(start_paused = true)]
    async fn a_turn_comes_soon_or_not() {
        let checks = Checks::new();
        let place = checks.enter(Network::of([192, 0, 2, 1].into())).unwrap();
        let turns = [place.turn().await.unwrap(), place.turn().await.unwrap()];
        assert!(place.turn().await.is_none());
        drop(turns);
        assert!(place.turn().await.is_some());
    }

    #[test]
    fn the_decoy_takes_part_in_checks() {
        assert_eq!(has_hash(b"guess", DECOY), Some(false));
        assert_eq!(has_hash(b"guess", "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ"), None);
        let hash = hash_password(b"secret").unwrap();
        assert_eq!(has_hash(b"secret", &hash), Some(true));
        assert_eq!(has_hash(b"Secret", &hash), Some(false));
    }

    /// identity.8: one address cannot have every place.
    #[test]
    fn half_of_the_places_are_for_others() {
        let checks = Checks::new();
        let network = |last| Network::of([192, 0, 2, last].into());
        let places: Vec<_> = (0..WAITING_MAX).filter_map(|_| checks.enter(network(1))).collect();
        assert_eq!(places.len(), WAITING_PER_ADDRESS_MAX);
        let others: Vec<_> = (0..WAITING_MAX).filter_map(|_| checks.enter(network(2))).collect();
        assert_eq!(others.len(), WAITING_MAX - WAITING_PER_ADDRESS_MAX);
        assert!(checks.enter(network(3)).is_none());
        drop(places);
        assert!(checks.enter(network(3)).is_some());
        drop(others);
        assert!(checks.waiting.lock().by_network.is_empty());
    }
}
