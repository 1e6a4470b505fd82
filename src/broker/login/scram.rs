//! Passwords that are proven, not told (SCRAM-SHA-256). A proof takes a few keyed hashes, so it needs no turn.

use std::{net::IpAddr, time::Instant};

use ring::rand::{SecureRandom as _, SystemRandom};
use thiserror::Error;
use tidegate_adapter_api::{Login, LoginRefusal, Peer};
use tidegate_scram::{ClientFirst, Exchange, SERVER_NONCE_BYTES, ScramError};

use super::{Accounts, throttle::Network};

/// Why a login by SCRAM does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ScramRefusal {
    /// The client broke the exchange, is unknown, or has not proven its password.
    #[error("the exchange has failed")]
    Exchange(#[from] ScramError),
    /// It was not looked at.
    #[error("the login is refused")]
    Login(#[from] LoginRefusal),
    /// The system gives no random bytes.
    #[error("no exchange can begin")]
    Unavailable,
}

/// A client that has proven its password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// Who it is.
    pub login: Login,
    /// The last message of the exchange, by which the client knows that we know it.
    pub server_final: String,
}

impl Accounts {
    /// Answers a client's first message, whoever it says it is: unknown names get a challenge like all others.
    ///
    /// # Errors
    ///
    /// [`ScramRefusal`]; [`LoginRefusal::Delayed`] where a password would be delayed.
    pub fn begin_scram(
        &self,
        message: &[u8],
        from: IpAddr,
    ) -> Result<(String, Exchange), ScramRefusal> {
        let first = ClientFirst::parse(message)?;
        self.admit(Network::of(from), first.name())?;
        let mut random = [0; SERVER_NONCE_BYTES];
        SystemRandom::new().fill(&mut random).map_err(|_| ScramRefusal::Unavailable)?;
        let verifier = self.book().challenge(first.name());
        Ok(first.challenge(verifier, &random))
    }

    /// Checks a client's second message; beside a certificate, it must not be somebody else's.
    ///
    /// # Errors
    ///
    /// [`ScramRefusal`]; [`ScramError::Proof`] also if the account was changed since the exchange began.
    pub fn finish_scram(
        &self,
        exchange: Exchange,
        message: &[u8],
        peer: Peer<'_>,
    ) -> Result<Proven, ScramRefusal> {
        let (network, name) = (Network::of(peer.address), exchange.name().to_owned());
        // Many exchanges that were begun together are no way around the delay.
        self.admit(network, &name)?;
        let book = self.book();
        let account = book.scram(&name).filter(|(_, verifier)| verifier == exchange.verifier());
        let proven = exchange.finish(message).and_then(|server_final| {
            let (login, _) = account.ok_or(ScramError::Proof)?;
            Ok(Proven { login: login.clone(), server_final })
        });
        let proven = proven.inspect_err(|_| {
            self.fail(network, &name);
        })?;
        self.throttle.lock().succeeded(network, &name, Instant::now());
        let certified = peer.certificate.and_then(|names| book.certified(names));
        if certified.is_some_and(|other| other.principal != proven.login.principal) {
            return Err(ScramError::Proof.into());
        }
        self.counters.proofs.increment();
        Ok(proven)
    }
}

/// Makes the key of the challenges of unknown names: they stay the same until the gateway ends.
pub(super) fn decoy_key() -> [u8; 32] {
    let mut key = [0; 32];
    SystemRandom::new().fill(&mut key).expect("the system gives random bytes");
    key
}

#[cfg(test)]
mod tests;
