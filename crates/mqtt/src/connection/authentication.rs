//! Enhanced authentication of a client that has been accepted (MQTT 5.0, section 4.12).

use std::time::{Duration, Instant};

use crate::{ProtocolError, ReasonCode, Text, packet::Auth};

/// The method that the client named in CONNECT, and how far a re-authentication is.
#[derive(Debug)]
pub(super) struct Authentication {
    pub(super) method: Text,
    turn: Turn,
}

/// Whose word is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// Nobody's: the client may begin at any time.
    Idle,
    Server,
    Client {
        /// Stands still while the connection is paused.
        deadline: Option<Instant>,
    },
}

impl Authentication {
    /// The client has been accepted.
    pub(super) fn new(method: Text) -> Self {
        Self { method, turn: Turn::Idle }
    }

    /// Takes an AUTH of the client; then it is the server's turn.
    pub(super) fn take(&mut self, auth: &Auth) -> Result<(), ProtocolError> {
        check_method(auth, &self.method)?;
        match (self.turn, auth.reason) {
            (Turn::Idle, ReasonCode::ReAuthenticate)
            | (Turn::Client { .. }, ReasonCode::ContinueAuthentication) => {
                self.turn = Turn::Server;
                Ok(())
            }
            (_, reason) => Err(ProtocolError::AuthOutOfTurn { reason }),
        }
    }

    /// Returns whether an AUTH of the client has to be answered.
    pub(super) fn awaits_server(&self) -> bool {
        self.turn == Turn::Server
    }

    /// The server has asked for more.
    pub(super) fn await_client(&mut self, deadline: Instant) {
        self.turn = Turn::Client { deadline: Some(deadline) };
    }

    /// The server has ended the exchange well.
    pub(super) fn end(&mut self) {
        self.turn = Turn::Idle;
    }

    /// Returns until when the client must have answered, if it must.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.turn {
            Turn::Client { deadline } => deadline,
            Turn::Idle | Turn::Server => None,
        }
    }

    /// Nothing is read from the client.
    pub(super) fn suspend(&mut self) {
        if let Turn::Client { deadline } = &mut self.turn {
            *deadline = None;
        }
    }

    /// The client is read from again.
    pub(super) fn restart(&mut self, now: Instant, patience: Duration) {
        if let Turn::Client { deadline } = &mut self.turn {
            *deadline = Some(now + patience);
        }
    }
}

/// Checks that an AUTH before CONNACK goes on with what CONNECT began (MQTT-4.12.0-3).
pub(super) fn check_continued(auth: &Auth, method: &Text) -> Result<(), ProtocolError> {
    check_method(auth, method)?;
    match auth.reason {
        ReasonCode::ContinueAuthentication => Ok(()),
        reason => Err(ProtocolError::AuthOutOfTurn { reason }),
    }
}

/// MQTT-4.12.0-5, MQTT-4.12.1-1 and section 3.15.2.2.2: every AUTH names the method of CONNECT.
fn check_method(auth: &Auth, method: &Text) -> Result<(), ProtocolError> {
    if auth.method.as_ref() == Some(method) {
        Ok(())
    } else {
        Err(ProtocolError::AuthenticationMethod)
    }
}
