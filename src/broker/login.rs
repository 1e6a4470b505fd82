//! Accounts: names with passwords, told (checked off the network threads and a few at a time) or proven, certificates,
//! API tokens, and the tokens of foreign issuers.

mod book;
mod checks;
mod counters;
mod memory;
mod scram;
mod throttle;

use std::{
    future::Future,
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use parking_lot::{Mutex, RwLock};
use serde_json::Value;
use tidegate_adapter_api::{
    Authenticator, Counter, CounterSample, Login, LoginRefusal, LoginResult,
};
use tidegate_model::{CredentialId, PeerName, PeerNames, Principal};
use tidegate_scram::Verifier;
use tokio::sync::watch;

use self::{
    book::Book,
    checks::{Checks, DECOY},
    counters::LoginCounters,
    memory::Memory,
    throttle::{Delay, Network, Throttle},
};
pub use self::{
    checks::{hash_password, is_password_hash},
    scram::{Proven, ScramRefusal},
    throttle::ThrottleSettings,
};
use super::token::Token;
use crate::jwt::{Issuers, JwtRefusal};

/// How often a login is checked again because the accounts were replaced meanwhile.
const CHECKS_AGAIN_MAX: usize = 3;
/// Longest password, in bytes.
const PASSWORD_BYTES_MAX: usize = 1_024;

/// Who may log in, and how.
#[derive(Clone, Debug)]
pub struct Account {
    /// The principal; its name is the user name.
    pub principal: Principal,
    /// The hash of its password in PHC form (`$argon2id$…`), if it has one.
    pub password_hash: Option<String>,
    /// What is kept of its password for SCRAM-SHA-256, if it has one.
    pub scram: Option<Verifier>,
    /// The name in its certificate, if it has one.
    pub certificate: Option<PeerName>,
    /// Its API tokens.
    pub tokens: Vec<Token>,
}

/// All accounts; replaced as a whole while they are used.
#[derive(Debug)]
pub struct Accounts {
    book: RwLock<Arc<Book>>,
    issuers: watch::Sender<Issuers>,
    version: AtomicU64,
    /// What the challenges of unknown names are made of.
    decoy_key: [u8; 32],
    checks: Checks,
    memory: Memory,
    throttle: Mutex<Throttle>,
    /// Apart, so that a program whose token has ended does not delay passwords from the same address.
    tokens_throttle: Mutex<Throttle>,
    counters: LoginCounters,
}

impl Accounts {
    /// Takes the accounts, whose tokens are believed besides, and when logins are delayed.
    pub fn new(
        accounts: impl IntoIterator<Item = Account>,
        issuers: Issuers,
        throttle: ThrottleSettings,
    ) -> Self {
        let decoy_key = scram::decoy_key();
        Self {
            issuers: watch::channel(issuers.clone()).0,
            book: RwLock::new(Arc::new(Book::new(accounts, issuers, decoy_key))),
            version: AtomicU64::new(0),
            decoy_key,
            checks: Checks::new(),
            memory: Memory::new(),
            throttle: Mutex::new(Throttle::new(throttle)),
            tokens_throttle: Mutex::new(Throttle::new(throttle)),
            counters: LoginCounters::default(),
        }
    }

    /// Uses other accounts and issuers from the next login on.
    pub fn replace(&self, accounts: impl IntoIterator<Item = Account>, issuers: Issuers) {
        *self.book.write() = Arc::new(Book::new(accounts, issuers.clone(), self.decoy_key));
        self.version.fetch_add(1, Ordering::Release);
        self.issuers.send_if_modified(|before| {
            let is_changed = !before.fetches_like(&issuers);
            *before = issuers;
            is_changed
        });
    }

    /// Says that an issuer has other keys now: what was checked under the old ones says nothing any more.
    pub fn keys_changed(&self) {
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Returns whose tokens are believed; changes when other keys are to be fetched.
    pub fn watch_issuers(&self) -> watch::Receiver<Issuers> {
        self.issuers.subscribe()
    }

    /// Returns whose tokens are believed now.
    pub fn issuers(&self) -> Issuers {
        self.book().issuers().clone()
    }

    /// Returns whether somebody could log in as this principal.
    pub fn knows(&self, principal: &Principal) -> bool {
        self.book().knows(principal)
    }

    /// Returns whether a credential is still this principal's.
    pub fn has(&self, principal: &Principal, credential: CredentialId) -> bool {
        self.book().has(principal, credential)
    }

    /// Returns what was counted, as `tidegate status` shows it.
    pub fn to_json(&self) -> Value {
        self.counters.to_json(self.throttle.lock().sizes())
    }

    /// Returns the counters.
    pub fn samples(&self) -> Vec<CounterSample> {
        self.counters.samples()
    }

    fn book(&self) -> Arc<Book> {
        Arc::clone(&self.book.read())
    }

    async fn check(&self, name: &str, password: &[u8], network: Network) -> LoginResult {
        // Where a protocol knows names and passwords only, a token is the password of its principal, or of no name.
        if let Some(result) = self.check_token(password, network) {
            let is_own = |login: &Login| name.is_empty() || name == login.principal.as_str();
            return match result {
                Ok(login) if !is_own(&login) => {
                    self.counters.bad_credentials.increment();
                    Err(LoginRefusal::BadCredentials)
                }
                result => result,
            };
        }
        self.admit(network, name)?;
        if password.len() > PASSWORD_BYTES_MAX {
            return Err(self.fail(network, name));
        }
        // Before there is a queue: what is remembered needs no check.
        if let Some(login) = self.remembered(&self.book(), name, password, network) {
            return Ok(login);
        }
        let Some(place) = self.checks.enter(network) else {
            self.counters.busy.increment();
            return Err(LoginRefusal::Busy);
        };
        for _ in 0..CHECKS_AGAIN_MAX {
            let book = self.book();
            let result = self.check_password(&book, name, password, network, &place).await;
            // The accounts may have been replaced while the password was checked, or waited to be.
            if Arc::ptr_eq(&book, &self.book()) {
                return result;
            }
        }
        self.counters.busy.increment();
        Err(LoginRefusal::Busy)
    }

    /// Returns whose token this is, or why it lets nobody in; nothing if it is none of ours and of no known issuer.
    /// Nobody guesses one: a right one is taken whatever has failed before.
    fn check_token(&self, token: &[u8], network: Network) -> Option<LoginResult> {
        let book = self.book();
        if let Some(login) = book.token(token) {
            self.counters.tokens.increment();
            return Some(Ok(login));
        }
        Some(match book.jwt(token)? {
            Ok(login) => {
                self.counters.jwts.increment();
                Ok(login)
            }
            Err(JwtRefusal::NoKeys) => {
                self.counters.bad_jwt(JwtRefusal::NoKeys).increment();
                Err(LoginRefusal::Busy)
            }
            Err(refusal) => Err(self.fail_token(network, self.counters.bad_jwt(refusal))),
        })
    }

    /// A wrong token counts against its address alone, and against other wrong tokens: it tells no name that was not
    /// signed.
    fn fail_token(&self, network: Network, counter: &Counter) -> LoginRefusal {
        let now = Instant::now();
        let mut throttle = self.tokens_throttle.lock();
        if let Err(delay) = throttle.admit_address(network, now) {
            return self.delay(delay);
        }
        let is_delayed_now = throttle.failed_address(network, now);
        drop(throttle);
        counter.increment();
        if is_delayed_now {
            self.counters.tell_of_delay(network);
        }
        LoginRefusal::BadCredentials
    }

    /// Returns whose password this is, if it was found right lately. Unknown names take as long as known ones.
    fn remembered(
        &self,
        book: &Book,
        name: &str,
        password: &[u8],
        network: Network,
    ) -> Option<Login> {
        let account = book.password(name);
        let hash = account.map_or_else(|| DECOY.into(), |(_, hash)| Arc::clone(hash));
        let tag = self.memory.tag(name, &hash, password);
        let now = Instant::now();
        let (login, _) = account.filter(|_| self.memory.knows(tag, now))?;
        self.counters.remembered.increment();
        self.throttle.lock().succeeded(network, name, now);
        Some(login.clone())
    }

    async fn check_password(
        &self,
        book: &Book,
        name: &str,
        password: &[u8],
        network: Network,
        place: &checks::Place<'_>,
    ) -> LoginResult {
        let account = book.password(name);
        let hash = account.map_or_else(|| DECOY.into(), |(_, hash)| Arc::clone(hash));
        let Some(turn) = place.turn().await else {
            self.counters.busy.increment();
            return Err(LoginRefusal::Busy);
        };
        // Others have had their turns meanwhile: the same login, or wrong ones from the same place.
        self.admit(network, name)?;
        if let Some(login) = self.remembered(book, name, password, network) {
            return Ok(login);
        }
        let matches = turn.verify(Arc::clone(&hash), password).await;
        match account {
            Some((login, _)) if matches => {
                let now = Instant::now();
                self.memory.remember(self.memory.tag(name, &hash, password), now);
                self.throttle.lock().succeeded(network, name, now);
                self.counters.passwords.increment();
                Ok(login.clone())
            }
            _ => Err(self.fail(network, name)),
        }
    }

    /// Refuses a login without any check while it is delayed.
    fn admit(&self, network: Network, name: &str) -> Result<(), LoginRefusal> {
        let admitted = self.throttle.lock().admit(network, name, Instant::now());
        admitted.map_err(|delay| self.delay(delay))
    }

    fn delay(&self, delay: Delay) -> LoginRefusal {
        self.counters.delayed(delay.cause);
        LoginRefusal::Delayed { retry_after: delay.remaining }
    }

    fn fail(&self, network: Network, name: &str) -> LoginRefusal {
        self.counters.bad_credentials.increment();
        if self.throttle.lock().failed(network, name, Instant::now()) {
            self.counters.tell_of_delay(network);
        }
        LoginRefusal::BadCredentials
    }
}

impl Authenticator for Accounts {
    fn login<'a>(
        &'a self,
        name: &'a str,
        password: &'a [u8],
        from: IpAddr,
    ) -> Pin<Box<dyn Future<Output = LoginResult> + Send + 'a>> {
        Box::pin(self.check(name, password, Network::of(from)))
    }

    fn certified(&self, names: &PeerNames) -> Option<Login> {
        self.book().certified(names)
    }

    fn bearer(&self, token: &[u8], from: IpAddr) -> LoginResult {
        let network = Network::of(from);
        self.check_token(token, network)
            .unwrap_or_else(|| Err(self.fail_token(network, &self.counters.bad_tokens)))
    }

    fn is_good(&self, login: &Login) -> bool {
        self.book().is_good(login)
    }

    fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests;
