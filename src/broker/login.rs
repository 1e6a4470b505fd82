//! Names and passwords: argon2id, off the network threads, a few at a time.

use std::{collections::BTreeMap, future::Future, pin::Pin, sync::Arc};

use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use tidegate_adapter_api::{Authenticator, LoginRefusal};
use tidegate_model::Principal;
use tokio::{sync::Semaphore, task::spawn_blocking};
use zeroize::Zeroizing;

/// Most checks at once: each takes 19 MiB of memory for some tens of milliseconds.
const CHECKS_MAX: usize = 2;
/// Most logins that wait for a check.
const WAITING_MAX: usize = 256;
/// Longest password, in bytes.
const PASSWORD_BYTES_MAX: usize = 1_024;

/// The accounts and their password hashes.
#[derive(Debug)]
pub struct Passwords {
    hashes: BTreeMap<String, (Principal, Arc<str>)>,
    /// Checked for unknown names, so that they take as long as wrong passwords.
    decoy: Arc<str>,
    checks: Arc<Semaphore>,
    waiting: Semaphore,
}

impl Passwords {
    /// Takes principals with the hash of each one's password, in PHC form (`$argon2id$…`).
    pub fn new(accounts: impl IntoIterator<Item = (Principal, String)>) -> Self {
        let hashes = accounts
            .into_iter()
            .map(|(principal, hash)| (principal.as_str().to_owned(), (principal, hash.into())))
            .collect();
        Self {
            hashes,
            decoy: DECOY.into(),
            checks: Arc::new(Semaphore::new(CHECKS_MAX)),
            waiting: Semaphore::new(WAITING_MAX),
        }
    }

    async fn check(&self, name: &str, password: &[u8]) -> Result<Principal, LoginRefusal> {
        if password.len() > PASSWORD_BYTES_MAX {
            return Err(LoginRefusal::BadCredentials);
        }
        let account = self.hashes.get(name);
        let hash = Arc::clone(account.map_or(&self.decoy, |(_, hash)| hash));
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

/// A hash of random bytes that nobody kept, with the same parameters as real ones.
const DECOY: &str = "$argon2id$v=19$m=19456,t=2,p=1$Y2hvc2VuIG9uY2UsIHVua25vd24$YWxsIHplcm9zIHdvdWxkIGRvIGFzIHdlbGwu";

impl Authenticator for Passwords {
    fn login<'a>(
        &'a self,
        name: &'a str,
        password: &'a [u8],
    ) -> Pin<Box<dyn Future<Output = Result<Principal, LoginRefusal>> + Send + 'a>> {
        Box::pin(self.check(name, password))
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
    use super::*;

    /// main.8: a name and its argon2id hash let in with the right password only.
    #[tokio::test]
    async fn the_right_password_lets_in() {
        let principal = Principal::new("press-7").unwrap();
        let hash = hash_password(b"secret").unwrap();
        assert!(hash.starts_with("$argon2id$"), "{hash}");
        let passwords = Passwords::new([(principal.clone(), hash)]);
        assert_eq!(passwords.login("press-7", b"secret").await, Ok(principal));
        assert_eq!(passwords.login("press-7", b"Secret").await, Err(LoginRefusal::BadCredentials));
        assert_eq!(passwords.login("press-8", b"secret").await, Err(LoginRefusal::BadCredentials));
    }

    #[test]
    fn the_decoy_takes_part_in_checks() {
        assert!(PasswordHash::new(DECOY).is_ok());
    }
}
