//! Enhanced authentication with SCRAM-SHA-256 (MQTT 5.0, section 4.12): the login, and its repetition.

use std::{sync::atomic::Ordering, time::Instant};

use tidegate_adapter_api::{LoginRefusal, Peer};
use tidegate_mqtt::{
    Password, ReasonCode, Text,
    packet::{Auth, ConnAck, Connect},
};
use tidegate_scram::{Exchange, METHOD};
use tracing::debug;

use super::Driver;
use crate::broker::{Proven, ScramRefusal};

/// A client that was asked to prove its password.
#[derive(Debug)]
pub(super) struct Proving {
    exchange: Exchange,
    /// What waits for the proof; without it, the client has logged in before and does so again.
    connect: Option<Box<Connect>>,
}

impl Driver<'_> {
    /// Answers the CONNECT of a client that has named the method.
    ///
    /// The name is that of the exchange; a user name beside it must be the same, and a password is not looked at.
    pub(super) fn begin_proof(&mut self, connect: Box<Connect>) {
        let user_name = connect.user_name.clone();
        let (challenge, exchange) = match self.begin_exchange(connect.authentication_data.as_ref())
        {
            Ok(begun) => begun,
            Err(refusal) => return self.refuse(refusal, Told::Nothing),
        };
        if user_name.is_some_and(|name| *name != *exchange.name()) {
            return self.refuse(LoginRefusal::BadCredentials.into(), Told::Nothing);
        }
        self.proving = Some(Box::new(Proving { exchange, connect: Some(connect) }));
        self.connection.challenge(Instant::now(), data(challenge), &mut self.output);
    }

    /// Takes an AUTH: the proof, or the first message of a client that logs in again.
    pub(super) fn auth(&mut self, auth: &Auth) {
        if auth.reason == ReasonCode::ReAuthenticate {
            match self.begin_exchange(auth.data.as_ref()) {
                Ok((challenge, exchange)) => {
                    self.proving = Some(Box::new(Proving { exchange, connect: None }));
                    self.connection.challenge(Instant::now(), data(challenge), &mut self.output);
                }
                Err(refusal) => self.refuse(refusal, Told::Nothing),
            }
        } else if let Some(proving) = self.proving.take() {
            let Proving { exchange, connect } = *proving;
            let peer = Peer { address: self.peer.ip(), certificate: self.certificate.as_ref() };
            let message = auth.data.as_ref().map_or(&b""[..], Password::expose);
            match self.settings.accounts.finish_scram(exchange, message, peer) {
                Ok(proven) => self.let_in(connect, proven),
                Err(refusal) => self.refuse(refusal, Told::InWordsOfScram),
            }
        }
        // Without an exchange it is not the client's turn: the protocol machine lets no AUTH through.
    }

    fn let_in(&mut self, connect: Option<Box<Connect>>, proven: Proven) {
        let Proven { login, server_final } = proven;
        let server_final = data(server_final);
        let Some(connect) = connect else {
            // A session belongs to one principal.
            let is_same = self.login.as_ref().is_some_and(|old| old.principal == login.principal);
            if is_same {
                self.connection.reauthenticated(server_final, &mut self.output);
            } else {
                self.refuse(LoginRefusal::BadCredentials.into(), Told::Nothing);
            }
            return;
        };
        self.login = Some(login.clone());
        if let Err(reason) = self.begin_session(*connect, login, Some(server_final)) {
            self.connection.reject(reason, &mut self.output);
        }
    }

    fn begin_exchange(
        &self,
        message: Option<&Password>,
    ) -> Result<(String, Exchange), ScramRefusal> {
        let message = message.map_or(&b""[..], Password::expose);
        self.settings.accounts.begin_scram(message, self.peer.ip())
    }

    /// Refuses a login in CONNACK, or its repetition in DISCONNECT.
    fn refuse(&mut self, refusal: ScramRefusal, told: Told) {
        self.counters.login_failures.fetch_add(1, Ordering::Relaxed);
        debug!(error = ?refusal, "A login by SCRAM is refused");
        let reason = match refusal {
            ScramRefusal::Exchange(_) if told == Told::InWordsOfScram => {
                ReasonCode::BadUserNameOrPassword
            }
            ScramRefusal::Exchange(_) => ReasonCode::NotAuthorized,
            ScramRefusal::Login(refusal) => super::packets::reason_of(refusal),
            ScramRefusal::Unavailable => ReasonCode::ServerUnavailable,
        };
        if self.connection.is_connected() {
            self.connection.close(reason, &mut self.output);
            return;
        }
        let last = match refusal {
            ScramRefusal::Exchange(error) if told == Told::InWordsOfScram => {
                Some(error.server_final())
            }
            _ => None,
        };
        let connack = ConnAck {
            authentication_method: last.and(Text::new(METHOD).ok()),
            authentication_data: last.map(|last| data(last.to_owned())),
            ..ConnAck::refused(reason)
        };
        self.connection.accept(Instant::now(), &connack, &mut self.output);
    }
}

/// Whether a refusal is told in the exchange as well: it has words for it in its last message alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    InWordsOfScram,
}

fn data(message: String) -> Password {
    Password::new(message).expect("messages of SCRAM are a few thousand bytes long")
}
