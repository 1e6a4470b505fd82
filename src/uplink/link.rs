//! What a task sees of its connection, whatever protocol and version it speaks.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use data_encoding::HEXLOWER;
use ring::digest;
use tidegate_model::Properties;
use tidegate_uplink::{
    Ack, Disconnect, Encoding, Failure, ReplyTo, TypedReading, decoder::DecodeError,
};

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
    /// Something is wrong that somebody has to look at, while everything else goes on.
    Degraded { reason: String },
    /// The far side has refused something for good after it had acknowledged it.
    Refused { reason: String },
    /// The far side lets us have what we have asked to hear.
    Subscribed,
    /// The far side does not let us have commands. What goes up is not concerned.
    NotSubscribed { reason: String },
    /// The far side lets us hear of the shadow, or says why not.
    ShadowSubscribed { refused: Option<String> },
    /// A command, or whatever else was published there.
    Incoming(Incoming),
    /// The connection wants to remember something under a name of its own, or to forget it: a later one is opened
    /// with it.
    Keep { name: Vec<u8>, value: Option<Vec<u8>> },
    /// What the connection was opened with will soon be worth nothing: it is to be replaced, in good order.
    Renew,
    /// The far side takes nothing for now, and says why; or it takes messages again.
    Held { reason: Option<String> },
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
    /// What else its publisher said beside it, for those who publish it here.
    pub(super) said: Option<Box<Said>>,
    /// What is known of a command beside its payload.
    pub(super) beside: Option<Box<Beside>>,
}

/// What some far sides say of a command beside its payload.
#[derive(Debug, Default)]
pub(super) struct Beside {
    /// Its id, if the payload has none.
    pub(super) id: Option<String>,
    /// Why its payload was not taken in.
    pub(super) fault: Option<DecodeError>,
}

/// What MQTT 5 says beside a payload, and a bridge passes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) payload_is_utf8: bool,
    pub(super) expires_in: Option<Duration>,
    pub(super) user: Vec<(String, String)>,
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
    /// Whether the far side is to retain it.
    pub(super) retain: bool,
    /// What the publisher of the message said beside it, if it goes up as it is.
    pub(super) said: Option<Arc<Properties>>,
    /// For how many more seconds it is of use, if not for ever.
    pub(super) expires_in: Option<u32>,
    /// Which gateways it has been through, if the far side is to know.
    pub(super) path: Option<Arc<str>>,
}

impl Up {
    /// Makes a message of JSON with nothing beside it but what an answer is known by.
    pub(super) fn json(topic: Arc<str>, payload: Bytes, correlation: Option<Bytes>) -> Self {
        Self {
            topic,
            payload,
            content_type: Encoding::Json.content_type(),
            content_encoding: None,
            correlation,
            is_numbered: false,
            typed: None,
            retain: false,
            said: None,
            expires_in: None,
            path: None,
        }
    }

    /// Returns the MIME type of the payload: what its publisher said, if it goes up as it is.
    pub(super) fn content_type(&self) -> &str {
        let said = self.said.as_ref().and_then(|said| said.content_type.as_deref());
        said.unwrap_or(self.content_type)
    }

    /// Returns the same for the same readings alone: their numbers stand in the payload.
    pub(super) fn key(&self) -> String {
        let mut key = digest::Context::new(&digest::SHA256);
        key.update(&(self.topic.len() as u64).to_be_bytes());
        key.update(self.topic.as_bytes());
        key.update(&self.payload);
        HEXLOWER.encode(key.finish().as_ref())
    }
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
