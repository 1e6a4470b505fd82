//! What logins came to, by kind and reason.

use std::time::Instant;

use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tidegate_adapter_api::{Counter, CounterSample, Counters};
use tracing::warn;

use super::throttle::{Cause, Network};
use crate::{jwt::JwtRefusal, telemetry::LogLimit};

/// The counters of all logins.
#[derive(Debug)]
pub(super) struct LoginCounters {
    all: Counters,
    /// Logins by a password that was checked.
    pub(super) passwords: Counter,
    /// Logins by a password that is remembered.
    pub(super) remembered: Counter,
    /// Logins by a password that was proven.
    pub(super) proofs: Counter,
    /// Logins by an API token.
    pub(super) tokens: Counter,
    /// Logins by a token of a foreign issuer.
    pub(super) jwts: Counter,
    /// Unknown names and wrong passwords.
    pub(super) bad_credentials: Counter,
    /// Wrong tokens.
    pub(super) bad_tokens: Counter,
    /// Too many waited for a check.
    pub(super) busy: Counter,
    by_address: Counter,
    by_name: Counter,
    by_login: Counter,
    bad_jwts: [Counter; JwtRefusal::ALL.len()],
    limit: Mutex<LogLimit>,
}

impl Default for LoginCounters {
    fn default() -> Self {
        let all = Counters::default();
        let accepted = |kind| all.counter("logins", kind);
        let refused = |reason| all.counter("logins_refused", reason);
        Self {
            passwords: accepted("password"),
            remembered: accepted("remembered"),
            proofs: accepted("scram"),
            tokens: accepted("token"),
            jwts: accepted("jwt"),
            bad_jwts: JwtRefusal::ALL.map(|refusal| refused(refusal.word())),
            bad_credentials: refused("bad-credentials"),
            bad_tokens: refused("bad-token"),
            busy: refused("busy"),
            by_address: refused("address-delayed"),
            by_name: refused("name-delayed"),
            by_login: refused("login-delayed"),
            limit: Mutex::default(),
            all,
        }
    }
}

impl LoginCounters {
    /// Counts a login that was not checked.
    pub(super) fn delayed(&self, cause: Cause) {
        match cause {
            Cause::Address => self.by_address.increment(),
            Cause::Name => self.by_name.increment(),
            Cause::Login => self.by_login.increment(),
        }
    }

    /// Returns the counter of tokens of foreign issuers that are refused for this.
    pub(super) fn bad_jwt(&self, refusal: JwtRefusal) -> &Counter {
        let at = JwtRefusal::ALL.iter().position(|known| *known == refusal);
        &self.bad_jwts[at.expect("all of them are there")]
    }

    /// Says that an address is delayed from now on; not more often than a log can bear.
    pub(super) fn tell_of_delay(&self, network: Network) {
        if let Some(unsaid) = self.limit.lock().admit(Instant::now()) {
            warn!(address = %network, unsaid, "Logins from this address fail, more of them are delayed");
        }
    }

    pub(super) fn samples(&self) -> Vec<CounterSample> {
        self.all.samples()
    }

    /// `sizes` are those of the tables of addresses, names and known logins.
    pub(super) fn to_json(&self, [addresses, names, known]: [usize; 3]) -> Value {
        let (mut accepted, mut refused) = (Map::new(), Map::new());
        for sample in self.samples() {
            let map = if sample.name == "logins" { &mut accepted } else { &mut refused };
            map.insert(sample.reason.into(), sample.value.into());
        }
        json!({
            "accepted": accepted,
            "refused": refused,
            "addresses-with-failures": addresses,
            "names-with-failures": names,
            "known-logins": known,
        })
    }
}
