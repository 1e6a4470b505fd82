//! The broker, and how a connection to it is made over lapin.

use std::{sync::Arc, time::Duration};

use async_rs::Runtime;
use futures_util::{Stream, StreamExt as _};
use lapin::{
    AsyncTcpStream, ConnectionProperties, Error, ErrorKind, Event,
    uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo, SASLMechanism},
};
use parking_lot::Mutex;
use tidegate_uplink::{DeliveryBounds, Disconnect, Failure};
use tokio::time::timeout;

use super::line::{Account, Kit, Leash};
use crate::{
    dial::{Way, dial},
    uplink::{
        link::LinkError,
        settings::{AmqpTarget, Endpoint},
    },
};

/// The largest frame: lapin keeps room for 32 of them each way.
pub(super) const FRAME_BYTES_MAX: u32 = 32 << 10;
/// What the broker said before it closed is waited for so long.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// Where and as whom to connect.
#[derive(Debug)]
pub(super) struct Far {
    pub(super) target: AmqpTarget,
    pub(super) endpoint: Endpoint,
    pub(super) way: Way,
    pub(super) heartbeat: u16,
}

impl Far {
    /// Connects under a name that the broker shows, with a socket that is measured.
    pub(super) async fn connect(
        &self,
        name: &str,
        (leash, kit): (&Leash, Runtime<Kit>),
        bounds: Option<DeliveryBounds>,
        account: &Arc<Account>,
    ) -> Result<lapin::Connection, LinkError> {
        let Endpoint { host, port, tls, .. } = &self.endpoint;
        let tls = tls.as_ref().map(|tls| tls.config());
        let stream = dial(host, *port, &self.way, tls).await.map_err(LinkError::dial)?;
        let line = leash.line(stream, FRAME_BYTES_MAX, bounds, Arc::clone(account));
        let line = Mutex::new(Some(line));
        // There is one socket, and no second attempt behind our back.
        let once = async move |_, _| match line.lock().take() {
            Some(line) => Ok(AsyncTcpStream::Plain(line)),
            None => Err(std::io::Error::from(std::io::ErrorKind::NotConnected).into()),
        };
        let named = ConnectionProperties::default()
            .with_connection_name(name.into())
            .with_client_property("product".into(), "Tidegate".into())
            .with_client_property("version".into(), env!("CARGO_PKG_VERSION").into());
        let connected = lapin::Connection::connector(self.uri(), kit, once, named).await;
        connected.map_err(|error| link_error(&error))
    }

    /// Returns what lapin takes for an address; it connects to nothing by it.
    fn uri(&self) -> AMQPUri {
        let Endpoint { host, port, login, .. } = &self.endpoint;
        let login = login.get();
        let (username, password) = login
            .as_ref()
            .map(|login| (login.username.clone(), login.password.clone()))
            .unwrap_or_default();
        let by_certificate = login.is_none().then_some(SASLMechanism::External);
        AMQPUri {
            scheme: AMQPScheme::AMQP,
            authority: AMQPAuthority {
                userinfo: AMQPUserInfo { username, password },
                host: host.clone(),
                port: *port,
            },
            vhost: self.target.vhost.clone(),
            query: AMQPQueryString {
                frame_max: Some(FRAME_BYTES_MAX),
                heartbeat: Some(self.heartbeat),
                auth_mechanism: by_certificate,
                ..AMQPQueryString::default()
            },
        }
    }
}

/// Returns why a connection ended: in the broker's words, if it says any.
pub(super) async fn last_words(
    error: &Error,
    mut said: impl Stream<Item = Event> + Unpin,
) -> LinkError {
    if error.is_amqp_error() {
        return link_error(error);
    }
    let words = async {
        while let Some(event) = said.next().await {
            if let Event::Error(error) = event
                && error.is_amqp_error()
            {
                return Some(link_error(&error));
            }
        }
        None
    };
    let words = timeout(LAST_WORDS, words).await.ok().flatten();
    words.unwrap_or_else(|| link_error(error))
}

pub(super) fn link_error(error: &Error) -> LinkError {
    let (reason, failure, how) = match error.kind() {
        ErrorKind::ProtocolError(error) => {
            let (failure, how) = meaning(error.get_id());
            (error.get_message().to_string(), failure, how)
        }
        ErrorKind::IOError(error) => (error.to_string(), Failure::Transient, Disconnect::Closed),
        _ => (error.to_string(), Failure::Transient, Disconnect::Otherwise),
    };
    LinkError { reason, failure, how }
}

/// Returns what a reply code means for what was sent (AMQP 0.9.1, section 1.2).
fn meaning(code: u16) -> (Failure, Disconnect) {
    match code {
        // invalid-path, access-refused, not-found, not-allowed: of who we are and where we knock.
        402 | 403 | 404 | 530 => (Failure::Lasting, Disconnect::Otherwise),
        // content-too-large, precondition-failed, and what is wrong with frames: of what was sent.
        311 | 406 | 501..=505 => (Failure::Transient, Disconnect::ByPeer),
        _ => (Failure::Transient, Disconnect::Otherwise),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// uplink.26: who has to step in is told from what passes by itself, and from what one message caused.
    #[test]
    fn reply_codes_mean_different_things() {
        #[rustfmt::skip]
        let cases = [
            (320, Failure::Transient, Disconnect::Otherwise), // connection-forced
            (403, Failure::Lasting,   Disconnect::Otherwise),
            (404, Failure::Lasting,   Disconnect::Otherwise),
            (406, Failure::Transient, Disconnect::ByPeer),    // a message larger than the broker takes
            (501, Failure::Transient, Disconnect::ByPeer),
            (530, Failure::Lasting,   Disconnect::Otherwise), // no such virtual host
            (541, Failure::Transient, Disconnect::Otherwise), // internal-error
        ];
        for (code, failure, how) in cases {
            assert_eq!(meaning(code), (failure, how), "{code}");
        }
    }
}
