//! Who a client is.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use thiserror::Error;
use tidegate_model::{PeerNames, Principal};

/// Why a client is nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LoginRefusal {
    /// No credentials were given, and the listener does not take anonymous clients.
    #[error("credentials are required")]
    CredentialsRequired,
    /// The name is unknown or the password is wrong; which of the two is not told.
    #[error("unknown name or wrong password")]
    BadCredentials,
    /// Too many logins are being checked.
    #[error("too many logins at once, try again")]
    Busy,
}

/// What stands behind an [`Access`].
pub trait Authenticator: Send + Sync {
    /// Checks a name and a password, off the network threads, in the same time for every refusal.
    fn login<'a>(
        &'a self,
        name: &'a str,
        password: &'a [u8],
    ) -> Pin<Box<dyn Future<Output = Result<Principal, LoginRefusal>> + Send + 'a>>;

    /// Returns who a client with a certificate of these names is, if anybody. Cheap.
    fn certified(&self, _names: &PeerNames) -> Option<Principal> {
        None
    }

    /// Returns whose API token this is, if it is anybody's. Cheap, in the same time for every refusal.
    fn bearer(&self, _token: &[u8]) -> Option<Principal> {
        None
    }

    /// Returns whether somebody may still log in as this principal. Cheap.
    fn knows(&self, _principal: &Principal) -> bool {
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

    /// Returns who the client with this API token is; beside a certificate, it must not be somebody else's.
    ///
    /// # Errors
    ///
    /// [`LoginRefusal::BadCredentials`] if it is nobody.
    pub fn bearer(
        &self,
        token: &[u8],
        certificate: Option<&PeerNames>,
    ) -> Result<Principal, LoginRefusal> {
        let certified = certificate.and_then(|names| self.authenticator.certified(names));
        let principal = self.authenticator.bearer(token);
        let principal = principal.ok_or(LoginRefusal::BadCredentials)?;
        match certified {
            Some(other) if other != principal => Err(LoginRefusal::BadCredentials),
            _ => Ok(principal),
        }
    }

    /// Returns whether somebody may still log in as this principal.
    pub fn knows(&self, principal: &Principal) -> bool {
        if principal.is_anonymous() { self.anonymous } else { self.authenticator.knows(principal) }
    }

    /// Returns the same without `anonymous`.
    #[must_use]
    pub fn for_known_clients(&self) -> Self {
        Self { anonymous: false, ..self.clone() }
    }

    /// Returns who the client with these credentials is.
    ///
    /// # Errors
    ///
    /// [`LoginRefusal`] says why it is nobody.
    pub async fn login(
        &self,
        credentials: Option<(&str, &[u8])>,
    ) -> Result<Principal, LoginRefusal> {
        self.login_with(credentials, None).await
    }

    /// Returns who the client is that has shown a certificate with these names in its handshake.
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
        certificate: Option<&PeerNames>,
    ) -> Result<Principal, LoginRefusal> {
        let certified = certificate.and_then(|names| self.authenticator.certified(names));
        match (credentials, certified) {
            (None, Some(principal)) => Ok(principal),
            (Some((name, b"")), Some(principal)) if name == principal.as_str() => Ok(principal),
            (Some((name, password)), certified) => {
                let principal = self.authenticator.login(name, password).await?;
                match certified {
                    Some(other) if other != principal => Err(LoginRefusal::BadCredentials),
                    _ => Ok(principal),
                }
            }
            (None, None) if self.anonymous => Ok(Principal::anonymous()),
            (None, None) => Err(LoginRefusal::CredentialsRequired),
        }
    }

    /// Returns a number that changes with every change of an account; see [`Authenticator::version`].
    pub fn version(&self) -> u64 {
        self.authenticator.version()
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Access").field("anonymous", &self.anonymous).finish_non_exhaustive()
    }
}
