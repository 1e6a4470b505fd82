//! Accounts: names with passwords, checked off the network threads and a few at a time, and certificates.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use parking_lot::RwLock;
use tidegate_adapter_api::{Authenticator, LoginRefusal};
use tidegate_model::{PeerName, PeerNames, Principal};
use tokio::{sync::Semaphore, task::spawn_blocking};
use zeroize::Zeroizing;

/// Most checks at once: each takes 19 MiB of memory for some tens of milliseconds.
const CHECKS_MAX: usize = 2;
/// Most logins that wait for a check.
const WAITING_MAX: usize = 256;
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
        let book = self.book();
        let account = book.hashes.get(name);
        let hash = Arc::clone(account.map_or(&book.decoy, |(_, hash)| hash));
        let password = Zeroizing::new(password.to_vec());
        let _place = self.waiting.try_acquire().map_err(|_| LoginRefusal::Busy)?;
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
            decoy: DECOY.into(),
        };
        for Account { principal, password_hash, certificate } in accounts {
            book.principals.insert(principal.clone());
            if let Some(hash) = password_hash {
                let name = principal.as_str().to_owned();
                book.hashes.insert(name, (principal.clone(), hash.into()));
            }
            if let Some(certificate) = certificate {
                book.certificates.insert(certificate, principal);
            }
        }
        book
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

    fn knows(&self, principal: &Principal) -> bool {
        self.book().principals.contains(principal)
    }

    fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }
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

    #[test]
    fn the_decoy_takes_part_in_checks() {
        assert!(PasswordHash::new(DECOY).is_ok());
    }
}
