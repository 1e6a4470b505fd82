//! Where an issuer's keys come from, and when they are fetched anew.

use std::{
    fmt,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Mutex, RwLock};
use serde_json::{Value, json};
use tidegate_model::Timestamp;
use tokio::{sync::Notify, task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{KeySet, fetch};
use crate::{broker::Accounts, clock::wall};

/// How soon a fetch that failed is tried again; the time doubles with each further failure.
const RETRY_FIRST: Duration = Duration::from_secs(5);
/// The longest time until it is.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// How long after a fetch tokens with an unknown key may cause the next one.
const ASK_PAUSE: Duration = Duration::from_secs(60);

/// The address of a key set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyAddress {
    /// Whether it is `https`.
    pub is_encrypted: bool,
    /// The host: a name or an address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Path and query.
    pub path: String,
    /// How often the keys are fetched.
    pub refresh: Duration,
    /// Authorities that vouch for the server, in PEM; those of the operating system without.
    pub ca: Option<String>,
}

/// The keys of an issuer, given or fetched.
#[derive(Debug)]
pub struct KeySource {
    current: RwLock<Arc<KeySet>>,
    address: Option<KeyAddress>,
    asked: Notify,
    fetches: Mutex<Fetches>,
}

/// What became of the fetches so far.
#[derive(Debug, Default)]
struct Fetches {
    attempted: Option<Instant>,
    /// Failures since the last success.
    in_a_row: u32,
    failures: u64,
    fetched: Option<Timestamp>,
    error: Option<String>,
}

impl KeySource {
    /// Makes a source of keys that never change.
    pub fn given(keys: KeySet) -> Self {
        Self::with(keys, None)
    }

    /// Makes a source whose keys are to be fetched; it has none until [`keep_fresh`] has.
    pub fn fetched(address: KeyAddress) -> Self {
        Self::with(KeySet::default(), Some(address))
    }

    /// Keys that another source of the same place has fetched, until this one has.
    pub fn fetched_again(address: KeyAddress, before: &Self) -> Self {
        Self::with(KeySet::clone(&before.current()), Some(address))
    }

    fn with(keys: KeySet, address: Option<KeyAddress>) -> Self {
        Self {
            current: RwLock::new(Arc::new(keys)),
            address,
            asked: Notify::new(),
            fetches: Mutex::default(),
        }
    }

    /// Returns where the keys come from, if they are fetched.
    pub fn address(&self) -> Option<&KeyAddress> {
        self.address.as_ref()
    }

    /// Returns the keys as they are known now.
    pub fn current(&self) -> Arc<KeySet> {
        Arc::clone(&self.current.read())
    }

    /// Asks for a fetch because a token names a key that is not known. Nobody waits for it.
    pub fn ask(&self) {
        self.asked.notify_one();
    }

    /// Returns how many fetches have failed.
    pub fn failures(&self) -> u64 {
        self.fetches.lock().failures
    }

    /// Returns how the source is, for status.
    pub fn to_json(&self) -> Value {
        let keys = self.current().len();
        let fetches = self.fetches.lock();
        json!({
            "keys": keys,
            "address": self.address.as_ref().map(ToString::to_string),
            "fetched": fetches.fetched.map(|fetched| fetched.to_string()),
            "failures": fetches.failures,
            "error": fetches.error,
        })
    }

    /// Fetches the keys whenever it is time, and tells `accounts` when they have become others. The last good ones
    /// stay when a fetch fails. Cancel-safe.
    async fn keep_fresh(&self, accounts: &Accounts) {
        let Some(address) = &self.address else { return };
        loop {
            let regular = self.fetches.lock().wait(address.refresh, Reason::Regular);
            tokio::select! {
                () = sleep(regular) => {}
                () = self.asked.notified() => {
                    let pause = self.fetches.lock().wait(address.refresh, Reason::Asked);
                    sleep(pause).await;
                }
            }
            let result = fetch::fetch(address).await;
            self.fetches.lock().attempted = Some(Instant::now());
            if self.take(address, result) {
                accounts.keys_changed();
            }
        }
    }

    /// Takes what a fetch brought; returns whether the keys are others now.
    fn take(&self, address: &KeyAddress, result: Result<KeySet, fetch::FetchError>) -> bool {
        let mut fetches = self.fetches.lock();
        match result {
            Ok(keys) => {
                fetches.in_a_row = 0;
                fetches.fetched = Some(wall());
                fetches.error = None;
                let mut current = self.current.write();
                let is_changed = **current != keys;
                if is_changed {
                    info!(%address, keys = keys.len(), "Keys for tokens fetched");
                    *current = Arc::new(keys);
                }
                is_changed
            }
            Err(error) => {
                fetches.in_a_row = fetches.in_a_row.saturating_add(1);
                fetches.failures += 1;
                let error = format!("{:#}", anyhow::Error::new(error));
                warn!(%address, error, "Keys for tokens cannot be fetched, the last ones go on");
                fetches.error = Some(error);
                false
            }
        }
    }
}

/// Why keys are fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    Regular,
    Asked,
}

impl Fetches {
    /// Returns how long to wait for the next fetch.
    fn wait(&self, refresh: Duration, reason: Reason) -> Duration {
        let Some(attempted) = self.attempted else { return Duration::ZERO };
        let doublings = self.in_a_row.saturating_sub(1).min(16);
        let pause = match (self.in_a_row, reason) {
            (0, Reason::Regular) => refresh,
            (0, Reason::Asked) => refresh.min(ASK_PAUSE),
            _ => (RETRY_FIRST * (1 << doublings)).min(RETRY_MAX).min(refresh),
        };
        pause.saturating_sub(attempted.elapsed())
    }
}

impl KeyAddress {
    /// Returns whether both are the same place, however it is asked.
    pub fn is_at(&self, other: &Self) -> bool {
        let place = |it: &Self| (it.is_encrypted, it.port, it.host.clone(), it.path.clone());
        place(self) == place(other)
    }

    /// Returns host and port, as a request names them.
    pub fn authority(&self) -> String {
        let host = match self.host.parse::<IpAddr>() {
            Ok(IpAddr::V6(address)) => format!("[{address}]"),
            _ => self.host.clone(),
        };
        let default = if self.is_encrypted { 443 } else { 80 };
        if self.port == default { host } else { format!("{host}:{}", self.port) }
    }
}

impl fmt::Display for KeyAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_encrypted { "https" } else { "http" };
        // What stands in a query may be secret.
        let path = self.path.split('?').next().unwrap_or_default();
        write!(formatter, "{scheme}://{}{path}", self.authority())
    }
}

/// Keeps the keys of all issuers fresh until `stop` is cancelled, whichever issuers there are.
pub async fn keep_fresh(accounts: Arc<Accounts>, stop: CancellationToken) {
    let mut issuers = accounts.watch_issuers();
    loop {
        let mut fetching = JoinSet::new();
        for issuer in issuers.borrow_and_update().iter() {
            let (keys, accounts) = (Arc::clone(&issuer.keys), Arc::clone(&accounts));
            fetching.spawn(async move { keys.keep_fresh(&accounts).await });
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = issuers.changed() => if changed.is_err() { return },
        }
        // A fetch that is under way begins anew.
        fetching.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(path: &str, refresh: u64) -> KeyAddress {
        KeyAddress {
            is_encrypted: true,
            host: "idp.plant.example".into(),
            port: 443,
            path: path.into(),
            refresh: Duration::from_secs(refresh),
            ca: None,
        }
    }

    /// C8: how keys are fetched may change without anybody losing a login; where they come from may not.
    #[test]
    fn keys_survive_a_change_of_how_they_are_fetched() {
        const KEYS: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
        let before = KeySource::with(KeySet::parse(KEYS).unwrap(), Some(address("/keys", 600)));
        let after = KeySource::fetched_again(address("/keys", 300), &before);
        assert_eq!(after.current(), before.current());
        assert!(address("/keys", 600).is_at(&address("/keys", 300)));
        assert!(!address("/keys", 600).is_at(&address("/other", 600)));
    }

    /// C15: what stands in a query may be secret.
    #[test]
    fn the_query_of_an_address_is_not_shown() {
        let shown = address("/keys?api_key=secret", 600).to_string();
        assert_eq!(shown, "https://idp.plant.example/keys");
    }

    #[test]
    fn fetches_are_regular_asked_for_or_repeated_but_never_many() {
        let refresh = Duration::from_secs(600);
        let mut fetches = Fetches::default();
        assert_eq!(fetches.wait(refresh, Reason::Regular), Duration::ZERO);
        fetches.attempted = Some(Instant::now());
        let about = |fetches: &Fetches, reason, seconds| {
            let wait = fetches.wait(refresh, reason);
            let expected = Duration::from_secs(seconds);
            assert!(wait <= expected && wait + Duration::from_secs(1) > expected, "{wait:?}");
        };
        about(&fetches, Reason::Regular, 600);
        about(&fetches, Reason::Asked, 60);
        for seconds in [5, 10, 20, 40, 60, 60] {
            fetches.in_a_row += 1;
            about(&fetches, Reason::Regular, seconds);
            about(&fetches, Reason::Asked, seconds);
        }
        fetches.in_a_row = u32::MAX;
        about(&fetches, Reason::Regular, 60);
    }
}
