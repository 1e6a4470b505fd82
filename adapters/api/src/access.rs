//! Who a client is.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use thiserror::Error;
use tidegate_model::Principal;

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

    /// Returns who the client with these credentials is.
    ///
    /// # Errors
    ///
    /// [`LoginRefusal`] says why it is nobody.
    pub async fn login(
        &self,
        credentials: Option<(&str, &[u8])>,
    ) -> Result<Principal, LoginRefusal> {
        match credentials {
            Some((name, password)) => self.authenticator.login(name, password).await,
            None if self.anonymous => Ok(Principal::anonymous()),
            None => Err(LoginRefusal::CredentialsRequired),
        }
    }
}

impl Access {
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
