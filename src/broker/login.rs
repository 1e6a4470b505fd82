//! Accounts: names with passwords, checked off the network threads and a few at a time, certificates, API tokens.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use parking_lot::RwLock;
use tidegate_adapter_api::{Authenticator, LoginRefusal};
use tidegate_model::{PeerName, PeerNames, Principal, Timestamp};
use tokio::{sync::Semaphore, task::spawn_blocking};
use zeroize::Zeroizing;

use super::token::{TOKEN_PREFIX, Token, TokenHash};

/// Most checks at once: each takes 19 MiB of memory for some tens of milliseconds.
const CHECKS_MAX: usize = 2;
/// Most logins that wait for a check.
const WAITING_MAX: usize = 256;
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
    checks: Arc<Semaphore>,
    waiting: Semaphore,
}

#[derive(Debug)]
struct Book {
    principals: HashSet<Principal>,
    hashes: BTreeMap<String, (Principal, Arc<str>)>,
    certificates: HashMap<PeerName, Principal>,
    tokens: HashMap<TokenHash, (Principal, Option<Timestamp>)>,
    /// Checked for unknown names, so that they take as long as wrong passwords.
    decoy: Arc<str>,
}

impl Accounts {
    /// Takes the accounts.
    pub fn new(accounts: impl IntoIterator<Item = Account>) -> Self {
        Self {
            book: RwLock::new(Arc::new(Book::new(accounts))),
            version: AtomicU64::new(0),
            checks: Arc::new(Semaphore::new(CHECKS_MAX)),
            waiting: Semaphore::new(WAITING_MAX),
        }
    }

    /// Uses other accounts from the next login on.
    pub fn replace(&self, accounts: impl IntoIterator<Item = Account>) {
        *self.book.write() = Arc::new(Book::new(accounts));
        self.version.fetch_add(1, Ordering::Release);
    }

    fn book(&self) -> Arc<Book> {
        Arc::clone(&self.book.read())
    }

    async fn check(&self, name: &str, password: &[u8]) -> Result<Principal, LoginRefusal> {
        if password.len() > PASSWORD_BYTES_MAX {
            return Err(LoginRefusal::BadCredentials);
        }
        let _place = self.waiting.try_acquire().map_err(|_| LoginRefusal::Busy)?;
        for _ in 0..CHECKS_AGAIN_MAX {
            let book = self.book();
            let result = self.check_in(&book, name, password).await;
            // The accounts may have been replaced while the password was checked, or waited to be.
            if Arc::ptr_eq(&book, &self.book()) {
                return result;
            }
        }
        Err(LoginRefusal::Busy)
    }

    async fn check_in(
        &self,
        book: &Book,
        name: &str,
        password: &[u8],
    ) -> Result<Principal, LoginRefusal> {
        if password.starts_with(TOKEN_PREFIX.as_bytes())
            && let Some(principal) = book.bearer(password)
        {
            // Where a protocol knows names and passwords only, a token is the password of its principal.
            let is_own = name == principal.as_str();
            return if is_own { Ok(principal) } else { Err(LoginRefusal::BadCredentials) };
        }
        let account = book.hashes.get(name);
        let hash = Arc::clone(account.map_or(&book.decoy, |(_, hash)| hash));
        let password = Zeroizing::new(password.to_vec());
        let permit =
            Arc::clone(&self.checks).acquire_owned().await.expect("the semaphore is never closed");
        let matches = spawn_blocking(move || {
            let _permit = permit;
            PasswordHash::new(&hash)
                .is_ok_and(|hash| Argon2::default().verify_password(&password, &hash).is_ok())
        })
        .await
        .unwrap_or(false);
        match account {
            Some((principal, _)) if matches => Ok(principal.clone()),
            _ => Err(LoginRefusal::BadCredentials),
        }
    }
}

impl Book {
    fn new(accounts: impl IntoIterator<Item = Account>) -> Self {
        let mut book = Self {
            principals: HashSet::new(),
            hashes: BTreeMap::new(),
            certificates: HashMap::new(),
            tokens: HashMap::new(),
            decoy: DECOY.into(),
        };
        for Account { principal, password_hash, certificate, tokens } in accounts {
            book.principals.insert(principal.clone());
            if let Some(hash) = password_hash {
                let name = principal.as_str().to_owned();
                book.hashes.insert(name, (principal.clone(), hash.into()));
            }
            for token in tokens {
                book.tokens.insert(token.hash(), (principal.clone(), token.expires()));
            }
            if let Some(certificate) = certificate {
                book.certificates.insert(certificate, principal);
            }
        }
        book
    }

    fn bearer(&self, token: &[u8]) -> Option<Principal> {
        if token.len() > PASSWORD_BYTES_MAX {
            return None;
        }
        let (principal, expires) = self.tokens.get(&TokenHash::of(token))?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(since.as_micros()).unwrap_or(i64::MAX);
        let is_good = expires.is_none_or(|expires| now < expires.as_unix_micros());
        is_good.then(|| principal.clone())
    }
}

/// A hash of random bytes that nobody kept, with the same parameters as real ones.
const DECOY: &str = "$argon2id$v=19$m=19456,t=2,p=1$Y2hvc2VuIG9uY2UsIHVua25vd24$YWxsIHplcm9zIHdvdWxkIGRvIGFzIHdlbGwu";

impl Authenticator for Accounts {
    fn login<'a>(
        &'a self,
        name: &'a str,
        password: &'a [u8],
    ) -> Pin<Box<dyn Future<Output = Result<Principal, LoginRefusal>> + Send + 'a>> {
        Box::pin(self.check(name, password))
    }

    fn certified(&self, names: &PeerNames) -> Option<Principal> {
        let book = self.book();
        names.iter().find_map(|name| book.certificates.get(name).cloned())
    }

    fn bearer(&self, token: &[u8]) -> Option<Principal> {
        self.book().bearer(token)
    }

    fn knows(&self, principal: &Principal) -> bool {
        self.book().principals.contains(principal)
    }

    fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }
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
    use tidegate_adapter_api::Access;

    use super::*;

    fn account(name: &str, password: Option<&[u8]>, certificate: Option<&str>) -> Account {
        Account {
            principal: Principal::new(name).unwrap(),
            password_hash: password.map(|password| hash_password(password).unwrap()),
            certificate: certificate.map(|name| PeerName::new(name).unwrap()),
            tokens: Vec::new(),
        }
    }

    fn names(names: &[&str]) -> PeerNames {
        names.iter().map(|name| PeerName::new(name).unwrap()).collect()
    }

    /// main.8: a name and its argon2id hash let in with the right password only.
    #[tokio::test]
    async fn the_right_password_lets_in() {
        let press = account("press-7", Some(b"secret"), None);
        let hash = press.password_hash.clone().unwrap();
        assert!(hash.starts_with("$argon2id$"), "{hash}");
        let accounts = Accounts::new([press.clone()]);
        assert_eq!(accounts.login("press-7", b"secret").await, Ok(press.principal));
        assert_eq!(accounts.login("press-7", b"Secret").await, Err(LoginRefusal::BadCredentials));
        assert_eq!(accounts.login("press-8", b"secret").await, Err(LoginRefusal::BadCredentials));
        accounts.replace([]);
        assert_eq!(accounts.version(), 1);
        assert_eq!(accounts.login("press-7", b"secret").await, Err(LoginRefusal::BadCredentials));
    }

    /// identity.3: a certificate stands for its principal, alone or beside that principal's password.
    #[tokio::test]
    async fn a_certificate_lets_in() {
        let seven = account("press-7", Some(b"secret"), Some("CN=press-7"));
        let eight = account("press-8", None, Some("DNS:press-8.plant.example"));
        let accounts: Arc<dyn Authenticator> = Arc::new(Accounts::new([seven, eight]));
        let access = Access::new(accounts, false);
        let who = async |credentials, certificate: &[&str]| {
            let certificate = names(certificate);
            let found = access.login_with(credentials, Some(&certificate)).await;
            found.map(|principal| principal.as_str().to_owned())
        };
        let refused = Err(LoginRefusal::BadCredentials);
        assert_eq!(who(None, &["OU=presses", "CN=press-7"]).await, Ok("press-7".into()));
        let dns = &["CN=x", "DNS:press-8.plant.example"];
        assert_eq!(who(None, dns).await, Ok("press-8".into()));
        assert_eq!(who(Some(("press-8", &b""[..])), dns).await, Ok("press-8".into()));
        assert_eq!(who(Some(("press-7", &b""[..])), dns).await, refused);
        assert_eq!(
            who(Some(("press-7", &b"secret"[..])), &["CN=press-7"]).await,
            Ok("press-7".into())
        );
        assert_eq!(who(Some(("press-7", &b"secret"[..])), dns).await, refused);
        assert_eq!(who(Some(("press-7", &b"secret"[..])), &["CN=y"]).await, Ok("press-7".into()));
        assert_eq!(who(None, &["CN=y"]).await, Err(LoginRefusal::CredentialsRequired));
    }

    /// identity.3: a token is its principal's until its end, as a bearer or as the password.
    #[tokio::test]
    async fn a_token_lets_in_until_its_end() {
        let (good, kept) = Token::generate(None).unwrap();
        let (late, ended) = Token::generate(Some(Timestamp::from_unix_micros(1))).unwrap();
        let scada = Account { tokens: vec![kept, ended], ..account("scada", None, None) };
        let principal = scada.principal.clone();
        let accounts = Accounts::new([scada, account("press-7", Some(b"secret"), None)]);
        assert_eq!(accounts.bearer(good.as_bytes()), Some(principal.clone()));
        assert_eq!(accounts.bearer(late.as_bytes()), None);
        assert_eq!(accounts.bearer(b"tg_x"), None);
        assert_eq!(accounts.login("scada", good.as_bytes()).await, Ok(principal));
        let refused = Err(LoginRefusal::BadCredentials);
        assert_eq!(accounts.login("press-7", good.as_bytes()).await, refused);
        assert_eq!(accounts.login("scada", late.as_bytes()).await, refused);
    }

    #[test]
    fn the_decoy_takes_part_in_checks() {
        assert!(PasswordHash::new(DECOY).is_ok());
    }
}
