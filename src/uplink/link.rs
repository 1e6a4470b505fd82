//! What a task sees of its connection, whatever protocol and version it speaks.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tidegate_uplink::{Ack, Disconnect, Failure, ReplyTo, TypedReading};

use crate::dial::DialError;

/// What happened on the connection.
#[derive(Debug)]
pub(super) enum LinkEvent {
    /// The far side has accepted the connection.
    Connected {
        /// How long the connection may be silent, if the far side says so (MQTT 5.0, section 3.2.2.3.14).
        keep_alive: Option<Duration>,
        /// The largest packet it takes.
        packet_bytes_max: usize,
        /// How many messages it takes without having answered.
        receive_max: usize,
    },
    /// The next message in the order in which they were handed over is on its way, under this packet
    /// identifier.
    Sent { packet: u16 },
    /// A message was answered.
    Answered { packet: u16, answer: Answer },
    /// The far side does not let us have commands.
    NotSubscribed { reason: String },
    /// A command, or whatever else was published there.
    Incoming(Incoming),
    /// The connection wants to remember something under a name of its own, or to forget it: a later one is opened
    /// with it.
    Keep { name: Vec<u8>, value: Option<Vec<u8>> },
    /// Anything else that shows that the far side is there.
    Alive,
}

/// How the far side answered a message.
#[derive(Debug)]
pub(super) enum Answer {
    /// For good.
    Final(Ack),
    /// Not now, and not before `pause` is over, if it says so.
    Later { reason: String, pause: Option<Duration> },
}

/// A message that came down.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) topic: Bytes,
    pub(super) payload: Bytes,
    /// `None` if no acknowledgement is wanted.
    pub(super) packet: Option<u16>,
    pub(super) retained: bool,
    pub(super) content_type: Option<String>,
    pub(super) content_encoding: Option<String>,
    pub(super) reply_to: Option<ReplyTo>,
}

/// A message that goes up.
#[derive(Clone, Debug)]
pub(super) struct Up {
    pub(super) topic: Arc<str>,
    pub(super) payload: Bytes,
    pub(super) content_type: &'static str,
    pub(super) content_encoding: Option<&'static str>,
    pub(super) correlation: Option<Bytes>,
    /// Whether the payload carries the numbers of its readings, so that none is like another.
    pub(super) is_numbered: bool,
    /// The reading itself, for a dialect.
    pub(super) typed: Option<Arc<TypedReading>>,
}

/// Why a connection ended, or was not made.
#[derive(Clone, Debug)]
pub(super) struct LinkError {
    pub(super) reason: String,
    pub(super) failure: Failure,
    pub(super) how: Disconnect,
}

impl LinkError {
    /// Makes an error that has nothing to do with what was sent, and may pass by itself.
    pub(super) fn transient(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), failure: Failure::Transient, how: Disconnect::Otherwise }
    }

    /// Makes an error of a far side that was not reached.
    #[expect(clippy::needless_pass_by_value, reason = "it is made of it")]
    pub(super) fn dial(error: DialError) -> Self {
        let failure = if error.is_lasting() { Failure::Lasting } else { Failure::Transient };
        Self { reason: error.to_string(), failure, how: Disconnect::Otherwise }
    }
}
