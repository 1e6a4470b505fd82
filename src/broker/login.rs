//! Accounts: names with passwords, told (checked off the network threads and a few at a time) or proven, certificates,
//! API tokens.

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
use tidegate_adapter_api::{Authenticator, CounterSample, Login, LoginRefusal, LoginResult};
use tidegate_model::{CredentialId, PeerName, PeerNames, Principal};
use tidegate_scram::Verifier;

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
    version: AtomicU64,
    /// What the challenges of unknown names are made of.
    decoy_key: [u8; 32],
    checks: Checks,
    memory: Memory,
    throttle: Mutex<Throttle>,
    counters: LoginCounters,
}

impl Accounts {
    /// Takes the accounts, and when their logins are delayed.
    pub fn new(accounts: impl IntoIterator<Item = Account>, throttle: ThrottleSettings) -> Self {
        let decoy_key = scram::decoy_key();
        Self {
            book: RwLock::new(Arc::new(Book::new(accounts, decoy_key))),
            version: AtomicU64::new(0),
            decoy_key,
            checks: Checks::new(),
            memory: Memory::new(),
            throttle: Mutex::new(Throttle::new(throttle)),
            counters: LoginCounters::default(),
        }
    }

    /// Uses other accounts from the next login on.
    pub fn replace(&self, accounts: impl IntoIterator<Item = Account>) {
        *self.book.write() = Arc::new(Book::new(accounts, self.decoy_key));
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Returns whether there is an account of this principal.
    pub fn knows(&self, principal: &Principal) -> bool {
        self.book().knows(principal)
    }

    /// Returns whether a credential is still somebody's.
    pub fn has(&self, credential: CredentialId) -> bool {
        self.book().has(credential)
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
        if let Some(result) = self.check_token(name, password) {
            return result;
        }
        self.admit(network, name)?;
        if password.len() > PASSWORD_BYTES_MAX {
            return Err(self.fail(network, name));
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

    /// Where a protocol knows names and passwords only, a token is the password of its principal, or of no name. Nobody
    /// guesses one: it lets in whatever has failed before.
    fn check_token(&self, name: &str, password: &[u8]) -> Option<LoginResult> {
        let login = self.book().token(password)?;
        if !name.is_empty() && name != login.principal.as_str() {
            self.counters.bad_credentials.increment();
            return Some(Err(LoginRefusal::BadCredentials));
        }
        self.counters.tokens.increment();
        Some(Ok(login))
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
        let tag = self.memory.tag(name, &hash, password);
        let remembered = |login: &Login| {
            self.counters.remembered.increment();
            self.throttle.lock().succeeded(network, name, Instant::now());
            Ok(login.clone())
        };
        if let Some((login, _)) = account.filter(|_| self.memory.knows(tag, Instant::now())) {
            return remembered(login);
        }
        let turn = place.turn().await;
        // Others have had their turns meanwhile: the same login, or wrong ones from the same place.
        self.admit(network, name)?;
        if let Some((login, _)) = account.filter(|_| self.memory.knows(tag, Instant::now())) {
            return remembered(login);
        }
        let matches = turn.verify(hash, password).await;
        match account {
            Some((login, _)) if matches => {
                let now = Instant::now();
                self.memory.remember(tag, now);
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

    /// A wrong token counts against its address alone: it tells no name.
    fn bearer(&self, token: &[u8], from: IpAddr) -> LoginResult {
        if let Some(login) = self.book().token(token) {
            self.counters.tokens.increment();
            return Ok(login);
        }
        let (network, now) = (Network::of(from), Instant::now());
        let mut throttle = self.throttle.lock();
        throttle.admit_address(network, now).map_err(|delay| self.delay(delay))?;
        let is_delayed_now = throttle.failed_address(network, now);
        drop(throttle);
        self.counters.bad_tokens.increment();
        if is_delayed_now {
            self.counters.tell_of_delay(network);
        }
        Err(LoginRefusal::BadCredentials)
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
