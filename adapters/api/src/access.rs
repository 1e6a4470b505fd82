//! Who a client is.

use std::{fmt, future::Future, net::IpAddr, pin::Pin, sync::Arc, time::Duration};

use thiserror::Error;
use tidegate_model::{CredentialId, PeerNames, Principal, Timestamp};

/// Why a client is nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LoginRefusal {
    /// No credentials were given, and the listener does not take anonymous clients.
    #[error("credentials are required")]
    CredentialsRequired,
    /// The name is unknown or the password is wrong; which of the two is not told.
    #[error("unknown name or wrong password")]
    BadCredentials,
    /// Logins from this address, or with this name, have failed too often: nothing was checked.
    #[error("too many logins have failed, try again later")]
    Delayed {
        /// When the next one is checked.
        retry_after: Duration,
    },
    /// Too many logins are being checked.
    #[error("too many logins at once, try again")]
    Busy,
}

/// What is known of a client before it says who it is.
#[derive(Clone, Copy, Debug)]
pub struct Peer<'a> {
    /// Where it comes from.
    pub address: IpAddr,
    /// The names in the certificate that it has shown in its handshake.
    pub certificate: Option<&'a PeerNames>,
}

/// Somebody who has logged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// Who it is.
    pub principal: Principal,
    /// By what: a connection lasts no longer than the credential that opened it.
    pub credential: CredentialId,
    /// When the credential ends, if ever.
    pub ends: Option<Timestamp>,
}

impl Login {
    /// Makes a login that ends only when its credential is withdrawn.
    pub fn new(principal: Principal, credential: CredentialId) -> Self {
        Self { principal, credential, ends: None }
    }
}

/// A login, or why there is none.
pub type LoginResult = Result<Login, LoginRefusal>;

/// What stands behind an [`Access`].
pub trait Authenticator: Send + Sync {
    /// Checks a name and a password, off the network threads, in the same time for every refusal that has
    /// checked them.
    fn login<'a>(
        &'a self,
        name: &'a str,
        password: &'a [u8],
        from: IpAddr,
    ) -> Pin<Box<dyn Future<Output = LoginResult> + Send + 'a>>;

    /// Returns who a client with a certificate of these names is, if anybody. Cheap.
    fn certified(&self, _names: &PeerNames) -> Option<Login> {
        None
    }

    /// Returns whose token this is. Cheap, in the same time for every unknown token.
    ///
    /// # Errors
    ///
    /// [`LoginRefusal`] if it is nobody's.
    fn bearer(&self, _token: &[u8], _from: IpAddr) -> LoginResult {
        Err(LoginRefusal::BadCredentials)
    }

    /// Returns whether the same credential would still let in. Cheap.
    fn is_good(&self, _login: &Login) -> bool {
        true
    }

    /// Returns a number that changes with every change of an account: a login that was checked under another one
    /// says nothing any more. Cheap.
    fn version(&self) -> u64 {
        0
    }
}

/// Whether a listener takes clients without credentials.
#[derive(Clone)]
pub struct Access {
    authenticator: Arc<dyn Authenticator>,
    anonymous: bool,
}

impl Access {
    /// Makes the access of one listener.
    pub fn new(authenticator: Arc<dyn Authenticator>, anonymous: bool) -> Self {
        Self { authenticator, anonymous }
    }

    /// Returns the same without `anonymous`.
    #[must_use]
    pub fn for_known_clients(&self) -> Self {
        Self { anonymous: false, ..self.clone() }
    }

    /// Returns who a client without any credentials is.
    ///
    /// # Errors
    ///
    /// [`LoginRefusal::CredentialsRequired`] if it is nobody.
    pub fn stranger(&self) -> Result<Principal, LoginRefusal> {
        if self.anonymous {
            Ok(Principal::anonymous())
        } else {
            Err(LoginRefusal::CredentialsRequired)
        }
    }

    /// Returns who the client with this token is; beside a certificate, it must not be somebody else's.
    ///
    /// # Errors
    ///
    /// [`LoginRefusal`] says why it is nobody.
    pub fn bearer(&self, token: &[u8], peer: Peer<'_>) -> LoginResult {
        let login = self.authenticator.bearer(token, peer.address)?;
        unless_another_is_certified(login, self.certified(peer))
    }

    /// Returns who the client with these credentials is, or with the certificate of its handshake.
    ///
    /// A password is asked for first. A certificate alone is enough, with the user name of its principal or none;
    /// beside a password it must not be somebody else's.
    ///
    /// # Errors
    ///
    /// [`LoginRefusal`] says why it is nobody.
    pub async fn login_with(
        &self,
        credentials: Option<(&str, &[u8])>,
        peer: Peer<'_>,
    ) -> LoginResult {
        let certified = self.certified(peer);
        match (credentials, certified) {
            (None, Some(login)) => Ok(login),
            (Some((name, b"")), Some(login)) if name == login.principal.as_str() => Ok(login),
            (Some((name, password)), certified) => {
                let login = self.authenticator.login(name, password, peer.address).await?;
                unless_another_is_certified(login, certified)
            }
            (None, None) => Ok(Login::new(self.stranger()?, CredentialId::default())),
        }
    }

    fn certified(&self, peer: Peer<'_>) -> Option<Login> {
        peer.certificate.and_then(|names| self.authenticator.certified(names))
    }

    /// Returns whether the same credential would still let in: it is neither withdrawn nor replaced, and has not
    /// ended.
    pub fn is_good(&self, login: &Login) -> bool {
        if login.principal.is_anonymous() {
            self.anonymous
        } else {
            self.authenticator.is_good(login)
        }
    }

    /// Returns a number that changes with every change of an account; see [`Authenticator::version`].
    pub fn version(&self) -> u64 {
        self.authenticator.version()
    }
}

fn unless_another_is_certified(login: Login, certified: Option<Login>) -> LoginResult {
    match certified {
        Some(other) if other.principal != login.principal => Err(LoginRefusal::BadCredentials),
        _ => Ok(login),
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Access").field("anonymous", &self.anonymous).finish_non_exhaustive()
    }
}
