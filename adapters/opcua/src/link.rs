//! One connection to a server: secure channel and session, and the events that drive them.
//!
//! The library keeps the session: it renews the channel and, when the connection breaks, takes the session
//! over on a new one. Subscriptions are not the library's: it would forget those it cannot recreate, never
//! republish and acknowledge at once, so its own handling of them is never started.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures_util::{Stream, StreamExt as _};
use opcua::{
    client::{
        Client, ClientBuilder, IdentityToken, Password, Session, SessionActivity,
        SessionConnectMode, SessionPollResult,
    },
    types::{EndpointDescription, StatusCode, UserTokenType},
};
use tokio::time::timeout;
use tracing::debug;

use crate::{
    endpoint,
    error::LinkError,
    pki::Pki,
    publish,
    settings::{OpcUaSettings, Security},
};

/// One attempt to connect, from the first packet to the activated session.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// One request to the server.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a server keeps the session of a gateway that vanished; cheap ones have few.
const SESSION_TIMEOUT: Duration = Duration::from_secs(60);
/// How often the state of the server is read to see that it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Keep-alive reads that may fail in a row.
const KEEP_ALIVES_MISSED_MAX: u32 = 2;
/// Attempts to take the session over when the connection broke; after them the run ends.
const RECONNECTS_MAX: i32 = 2;

type Events = Pin<Box<dyn Stream<Item = Result<SessionPollResult, StatusCode>> + Send>>;

/// How the session came to be after a connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resumed {
    /// The session of before, with its subscriptions.
    SameSession,
    /// A new one.
    NewSession,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ended {
    /// It broke; the session may live on, see [`Link::resume`].
    Broken(StatusCode),
    /// The server does not answer, or the session is over: begin anew.
    Dead(StatusCode),
}

/// A connection that is made or being made; [`drive`](Self::drive) must be polled for anything to move.
pub(crate) struct Link {
    session: Arc<Session>,
    events: Events,
    missed: u32,
}

impl Link {
    /// Asks the server for its endpoints, chooses one, checks the certificate and connects.
    pub(crate) async fn open(settings: &OpcUaSettings) -> Result<Self, LinkError> {
        within(CONNECT_TIMEOUT, async {
            let client = client(settings).await?;
            let endpoint = find_endpoint(&client, settings).await?;
            if settings.security != Security::None {
                Pki::new(&settings.pki_directory).check(&endpoint.server_certificate)?;
            }
            let (session, events) = client
                .session_builder()
                .connect_to_endpoint_directly(endpoint)
                .map_err(|error| LinkError::connecting(error.status()))?
                .user_identity_token(identity(settings))
                .build(client.certificate_store().clone())
                .map_err(|error| LinkError::connecting(error.status()))?;
            *session.encoding_context().write().loaders_mut() = publish::loaders();
            let mut link = Self { session, events: Box::pin(events.enter()), missed: 0 };
            link.connected(Attempts::One).await?;
            Ok(link)
        })
        .await
    }

    /// Returns the session, for requests.
    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Moves requests and answers until the connection ends.
    pub(crate) async fn drive(&mut self) -> Ended {
        loop {
            match self.events.next().await {
                Some(Ok(SessionPollResult::ConnectionLost(status))) => {
                    return Ended::Broken(status);
                }
                Some(Ok(SessionPollResult::SessionActivity(activity))) => {
                    if let Some(status) = self.keep_alive(&activity) {
                        return Ended::Dead(status);
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(status)) => return Ended::Dead(status),
                None => return Ended::Dead(StatusCode::BadConnectionClosed),
            }
        }
    }

    /// Takes the session over on a new connection, or makes a new one. Only after [`Ended::Broken`].
    pub(crate) async fn resume(&mut self) -> Result<Resumed, LinkError> {
        self.missed = 0;
        within(CONNECT_TIMEOUT, self.connected(Attempts::Several)).await
    }

    /// Closes the session, so that the server has it free at once, and its subscriptions with it.
    pub(crate) async fn close(mut self, patience: Duration) {
        let session = Arc::clone(&self.session);
        let closing = async {
            tokio::select! {
                _ = session.disconnect() => {}
                _ = self.drive() => {}
            }
        };
        if timeout(patience, closing).await.is_err() {
            debug!("Session was not closed in time");
        }
    }

    async fn connected(&mut self, attempts: Attempts) -> Result<Resumed, LinkError> {
        loop {
            match self.events.next().await {
                Some(Ok(SessionPollResult::Reconnected(SessionConnectMode::NewSession(_)))) => {
                    return Ok(Resumed::NewSession);
                }
                Some(Ok(SessionPollResult::Reconnected(
                    SessionConnectMode::ReactivatedSession(_),
                ))) => {
                    return Ok(Resumed::SameSession);
                }
                // The library would try a wrong password again; the gateway's back-off is kinder.
                Some(Ok(SessionPollResult::ReconnectFailed(status))) => {
                    let error = LinkError::connecting(status);
                    if attempts == Attempts::One || matches!(error, LinkError::Refused { .. }) {
                        return Err(error);
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(status)) => return Err(LinkError::connecting(status)),
                None => return Err(LinkError::Lost { status: StatusCode::BadConnectionClosed }),
            }
        }
    }

    fn keep_alive(&mut self, activity: &SessionActivity) -> Option<StatusCode> {
        match activity {
            SessionActivity::KeepAliveSucceeded => self.missed = 0,
            // The server answers, though it is not running: its values carry their own status.
            SessionActivity::KeepAliveFailed(StatusCode::BadServerHalted) => self.missed = 0,
            SessionActivity::KeepAliveFailed(status) => {
                self.missed += 1;
                return (self.missed >= KEEP_ALIVES_MISSED_MAX).then_some(*status);
            }
        }
        None
    }
}

/// How often a connect is tried before giving up.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Attempts {
    One,
    Several,
}

async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, LinkError>>,
) -> Result<T, LinkError> {
    timeout(limit, work).await.unwrap_or(Err(LinkError::TimedOut { timeout: limit }))
}

/// Makes the client; reads keys, or makes them, off the async threads.
async fn client(settings: &OpcUaSettings) -> Result<Client, LinkError> {
    let settings = settings.clone();
    let made = tokio::task::spawn_blocking(move || {
        let pki = Pki::new(&settings.pki_directory);
        let limits = settings.limits;
        if settings.security != Security::None {
            pki.prepare(&settings.application_uri)?;
        }
        let client = ClientBuilder::new()
            .application_name("Tidegate")
            .application_uri(settings.application_uri.as_str())
            .product_uri("urn:tidegate")
            .session_name(format!("Tidegate {}", settings.name))
            .pki_dir(settings.pki_directory.as_path())
            .trust_server_certs(false)
            // Trust is by exact certificate: what an operator has pinned may be expired or misnamed.
            .verify_server_certs(false)
            .recreate_subscriptions(false)
            .session_retry_limit(RECONNECTS_MAX)
            .session_retry_initial(Duration::from_millis(500))
            .session_timeout(millis(SESSION_TIMEOUT))
            .channel_lifetime(3_600_000)
            .request_timeout(REQUEST_TIMEOUT)
            .keep_alive_interval(KEEP_ALIVE)
            .max_failed_keep_alive_count(0)
            .max_message_size(limits.max_message)
            .max_chunk_count(limits.max_chunks)
            .max_array_length(limits.max_array)
            .max_string_length(limits.max_string)
            .max_byte_string_length(limits.max_string)
            .client()
            .map_err(|reasons| LinkError::Store { reason: reasons.join(", ") })?;
        if settings.security != Security::None {
            // Without them the library panics on the first message.
            let store = client.certificate_store().read();
            let readable = store.read_own_cert().map(drop).and(store.read_own_pkey().map(drop));
            readable.map_err(|reason| LinkError::Store { reason })?;
        }
        Ok(client)
    });
    match made.await {
        Ok(client) => client,
        Err(error) => Err(LinkError::Store { reason: error.to_string() }),
    }
}

async fn find_endpoint(
    client: &Client,
    settings: &OpcUaSettings,
) -> Result<EndpointDescription, LinkError> {
    let address = settings.endpoint.as_str();
    let user = match settings.user {
        None => UserTokenType::Anonymous,
        // In the clear, or encrypted for whoever answers, a password is as good as published.
        Some(_) if settings.security == Security::None => {
            let reason = "a password needs security `sign` or `sign-and-encrypt`".to_owned();
            return Err(LinkError::Refused { reason });
        }
        Some(_) => UserTokenType::UserName,
    };
    let offered = client
        .get_server_endpoints_from_url(address)
        .await
        .map_err(|error| LinkError::connecting(error.status()))?;
    endpoint::choose(offered, address, settings.security, user)
}

fn identity(settings: &OpcUaSettings) -> IdentityToken {
    match &settings.user {
        None => IdentityToken::Anonymous,
        Some(user) => {
            IdentityToken::UserName(user.name.clone(), Password::new(user.password.as_str()))
        }
    }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
