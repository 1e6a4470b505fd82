//! Batches by AMQP 0.9.1, to RabbitMQ: one connection with one channel, over lapin.
//!
//! Each message is persistent and `mandatory`, and counts once the broker has confirmed it and has not given it back:
//! then it is in every queue that it is for. Which messages came back is not taken from lapin, which guesses
//! ([`Confirms`]). The socket is the gateway's, and what lapin starts ends with the connection: its queues have no
//! bound of their own, and hold no more than is in flight (docs/decisions/0031-amqp.md).

mod bounds;
mod line;
mod message;

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{Stream, StreamExt as _};
use lapin::{
    AsyncTcpStream, Channel, Confirmation, ConnectionProperties, Error, ErrorKind, Event,
    ExchangeKind,
    options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions},
    types::FieldTable,
    uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo, SASLMechanism},
};
use parking_lot::Mutex;
use tidegate_uplink::{Ack, Confirmed, Confirms, Disconnect, Failure, Profile, Returned};
use tokio::{sync::mpsc, time::timeout};

use self::{line::Leash, message::Message};
use super::{
    super::{
        link::{Answer, LinkError, LinkEvent, Up},
        settings::{AmqpTarget, Endpoint, LinkSettings},
    },
    CONNECT_TIMEOUT, IN_FLIGHT_MAX, REQUESTS,
};
use crate::dial::{Way, dial};

/// The largest frame: lapin keeps room for 32 of them each way.
const FRAME_BYTES_MAX: u32 = 32 << 10;
/// What the broker said before it closed is waited for so long.
const LAST_WORDS: Duration = Duration::from_millis(250);
/// The reply code of an orderly end (AMQP 0.9.1, section 1.2).
const REPLY_SUCCESS: u16 = 200;

/// What the connection is asked to do.
#[derive(Debug)]
enum Job {
    Publish(Up),
    Leave,
}

/// Hands messages over.
#[derive(Debug)]
pub(super) struct Client {
    jobs: mpsc::Sender<Job>,
}

impl Client {
    pub(super) fn publish(&mut self, up: Up) -> Result<(), LinkError> {
        let taken = self.jobs.try_send(Job::Publish(up));
        taken.map_err(|_| LinkError::transient("the connection takes no more messages"))
    }

    /// Says good-bye; returns whether it could be handed over.
    pub(super) fn leave(&self) -> bool {
        self.jobs.try_send(Job::Leave).is_ok()
    }
}

pub(super) fn open(
    target: &AmqpTarget,
    settings: &LinkSettings,
    endpoint: usize,
    events: mpsc::Sender<LinkEvent>,
) -> (Client, impl Future<Output = LinkError> + Send + use<>) {
    let (jobs, queue) = mpsc::channel(REQUESTS);
    let publisher = Publisher {
        target: target.clone(),
        endpoint: settings.endpoints[endpoint].clone(),
        way: settings.way.clone(),
        name: settings.client_id.clone(),
        heartbeat: u16::try_from(settings.keep_alive.as_secs()).unwrap_or(u16::MAX),
        events,
    };
    (Client { jobs }, publisher.drive(queue))
}

/// One attempt: from the socket to the end of the connection.
struct Publisher {
    target: AmqpTarget,
    endpoint: Endpoint,
    way: Way,
    name: String,
    heartbeat: u16,
    events: mpsc::Sender<LinkEvent>,
}

impl Publisher {
    async fn drive(self, jobs: mpsc::Receiver<Job>) -> LinkError {
        // lapin's connection goes first, then what it runs on.
        let (leash, kit) = Leash::new();
        let opened = timeout(CONNECT_TIMEOUT, self.connect(&leash, kit)).await;
        let opened =
            opened.unwrap_or_else(|_| Err(LinkError::transient("the far side does not answer")));
        match opened {
            Ok((connection, channel)) => match self.run(&connection, channel, jobs).await {
                Ok(never) => match never {},
                Err(error) => error,
            },
            Err(error) => error,
        }
    }

    async fn connect(
        &self,
        leash: &Leash,
        kit: async_rs::Runtime<line::Kit>,
    ) -> Result<(lapin::Connection, Channel), LinkError> {
        let Endpoint { host, port, tls, .. } = &self.endpoint;
        let tls = tls.as_ref().map(|tls| tls.config());
        let stream = dial(host, *port, &self.way, tls).await.map_err(LinkError::dial)?;
        let line = Mutex::new(Some(leash.line(stream, FRAME_BYTES_MAX)));
        // There is one socket, and no second attempt behind our back.
        let once = async move |_, _| match line.lock().take() {
            Some(line) => Ok(AsyncTcpStream::Plain(line)),
            None => Err(std::io::Error::from(std::io::ErrorKind::NotConnected).into()),
        };
        let named = ConnectionProperties::default()
            .with_connection_name(self.name.as_str().into())
            .with_client_property("product".into(), "Tidegate".into())
            .with_client_property("version".into(), env!("CARGO_PKG_VERSION").into());
        let opened = async {
            let connection = lapin::Connection::connector(self.uri(), kit, once, named).await?;
            let channel = connection.create_channel().await?;
            if !self.target.exchange.is_empty() {
                // What is missing is said before anything is sent there.
                let there = ExchangeDeclareOptions { passive: true, ..Default::default() };
                let (name, kind) = (self.target.exchange.as_str().into(), ExchangeKind::Topic);
                channel.exchange_declare(name, kind, there, FieldTable::default()).await?;
            }
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            Ok((connection, channel))
        };
        opened.await.map_err(|error| link_error(&error))
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

    async fn run(
        &self,
        connection: &lapin::Connection,
        channel: Channel,
        mut jobs: mpsc::Receiver<Job>,
    ) -> Result<Infallible, LinkError> {
        let mut window = Window::new(channel, self.target.exchange.clone());
        let ended = self.serve(connection, &mut window, &mut jobs).await;
        // What was confirmed before the end counts.
        let confirmed = poll_fn(|context| Poll::Ready(window.poll_confirmed(context))).await;
        if let Poll::Ready(Ok(confirmed)) = confirmed {
            self.answer(&mut window, confirmed).await?;
        }
        ended
    }

    async fn serve(
        &self,
        connection: &lapin::Connection,
        window: &mut Window,
        jobs: &mut mpsc::Receiver<Job>,
    ) -> Result<Infallible, LinkError> {
        let mut said = pin!(connection.events_listener());
        self.tell(LinkEvent::Connected {
            keep_alive: None,
            packet_bytes_max: Profile::Amqp.bounds().payload_bytes,
            receive_max: usize::from(IN_FLIGHT_MAX),
        })
        .await?;
        loop {
            // Each wake-up takes what there is of one kind; how much a broker may say is bounded.
            tokio::select! {
                biased;
                event = said.next() => self.note(event).await?,
                confirmed = poll_fn(|context| window.poll_confirmed(context)) => {
                    match confirmed {
                        Ok(confirmed) => self.answer(window, confirmed).await?,
                        Err(error) => return Err(last_words(&error, said).await),
                    }
                }
                job = jobs.recv(), if window.declined.is_empty() => match job {
                    Some(Job::Publish(up)) => self.publish(window, up).await?,
                    Some(Job::Leave) => {
                        let _ = connection.close(REPLY_SUCCESS, "OK".into()).await;
                        return Err(LinkError::transient("it was left"));
                    }
                    None => return Err(LinkError::transient("nobody listens")),
                },
            }
        }
    }

    async fn publish(&self, window: &mut Window, up: Up) -> Result<(), LinkError> {
        let packet = window.next_packet();
        self.tell(LinkEvent::Sent { packet }).await?;
        match Message::of(&up, self.target.exchange.is_empty(), FRAME_BYTES_MAX as usize) {
            Ok(message) => window.publish(message).await,
            Err(reason) => {
                let answer = Answer::Final(Ack::RefusedTopic { reason });
                self.tell(LinkEvent::Answered { packet, answer }).await?;
            }
        }
        Ok(())
    }

    /// Tells what became of messages. What is to be sent again ends the connection, and everything without an answer goes
    /// again with it, so that is told last, when all others have theirs.
    async fn answer(
        &self,
        window: &mut Window,
        confirmed: Vec<(u64, Confirmation)>,
    ) -> Result<(), LinkError> {
        for (number, became) in window.settle(confirmed)? {
            let answer = match became {
                Confirmed::Taken => Answer::Final(Ack::Accepted),
                Confirmed::Returned { reason } => Answer::Final(Ack::RefusedTopic { reason }),
                Confirmed::Declined => {
                    window.declined.push(number);
                    continue;
                }
            };
            self.tell(LinkEvent::Answered { packet: packet(number), answer }).await?;
        }
        if window.open > 0 {
            return Ok(());
        }
        for number in window.declined.drain(..) {
            let reason = "the broker declines a message: a queue is full, or it cannot write";
            let answer = Answer::Later { reason: reason.to_owned(), pause: None };
            self.tell(LinkEvent::Answered { packet: packet(number), answer }).await?;
        }
        Ok(())
    }

    async fn note(&self, event: Option<Event>) -> Result<(), LinkError> {
        match event {
            Some(Event::ConnectionBlocked(reason)) => {
                let reason = format!("the broker takes nothing for now: {reason}");
                self.tell(LinkEvent::Held { reason: Some(reason) }).await
            }
            Some(Event::ConnectionUnblocked) => self.tell(LinkEvent::Held { reason: None }).await,
            Some(Event::Error(error)) => Err(link_error(&error)),
            Some(_) => Ok(()),
            None => Err(LinkError::transient("the connection has ended")),
        }
    }

    async fn tell(&self, event: LinkEvent) -> Result<(), LinkError> {
        let told = self.events.send(event).await;
        told.map_err(|_| LinkError::transient("nobody listens"))
    }
}

type Publishing = Pin<Box<dyn Future<Output = lapin::Result<Confirmation>> + Send>>;

/// What is in flight.
struct Window {
    channel: Channel,
    exchange: String,
    /// The number of the last message.
    last: u64,
    publishing: Vec<(u64, Publishing)>,
    confirms: Confirms,
    /// How many messages have been sent whose end is not known.
    open: usize,
    /// What the broker would not take now.
    declined: Vec<u64>,
    /// Why nothing more will be confirmed.
    failed: Option<Error>,
}

impl Window {
    fn new(channel: Channel, exchange: String) -> Self {
        Self {
            channel,
            exchange,
            last: 0,
            publishing: Vec::new(),
            confirms: Confirms::default(),
            open: 0,
            declined: Vec::new(),
            failed: None,
        }
    }

    fn next_packet(&mut self) -> u16 {
        self.last += 1;
        packet(self.last)
    }

    async fn publish(&mut self, message: Message) {
        let Message { key, payload, properties } = message;
        self.open += 1;
        self.confirms.note_sent(self.last, key.as_str().into(), payload.clone());
        let (channel, exchange) = (self.channel.clone(), self.exchange.as_str().into());
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        let mut publishing: Publishing = Box::pin(async move {
            let sent = channel.basic_publish(exchange, key, options, &payload, properties).await?;
            sent.await
        });
        // Messages go in the order in which they are first asked for; what comes of it is asked again.
        let asked = poll_fn(|context| Poll::Ready(publishing.as_mut().poll(context))).await;
        let publishing = match asked {
            Poll::Pending => publishing,
            Poll::Ready(at_once) => Box::pin(std::future::ready(at_once)),
        };
        self.publishing.push((self.last, publishing));
    }

    /// Takes all confirmations that are there: whatever had one before the last of these is among them.
    fn poll_confirmed(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<lapin::Result<Vec<(u64, Confirmation)>>> {
        let mut confirmed = Vec::new();
        loop {
            let before = confirmed.len();
            let failed = &mut self.failed;
            self.publishing.retain_mut(|(number, publishing)| {
                match publishing.as_mut().poll(context) {
                    Poll::Pending => true,
                    Poll::Ready(Ok(confirmation)) => {
                        confirmed.push((*number, confirmation));
                        false
                    }
                    Poll::Ready(Err(error)) => {
                        failed.get_or_insert(error);
                        false
                    }
                }
            });
            if confirmed.len() == before {
                break;
            }
        }
        // What was confirmed before it failed counts.
        match self.failed.take_if(|_| confirmed.is_empty()) {
            Some(error) => Poll::Ready(Err(error)),
            None if confirmed.is_empty() => Poll::Pending,
            None => Poll::Ready(Ok(confirmed)),
        }
    }

    /// Returns what is final by what is confirmed now.
    fn settle(
        &mut self,
        confirmed: Vec<(u64, Confirmation)>,
    ) -> Result<Vec<(u64, Confirmed)>, LinkError> {
        for (number, confirmation) in confirmed {
            let is_taken = confirmation.is_ack();
            let back = confirmation.take_message();
            let returned = back.as_ref().map(|back| Returned {
                key: back.delivery.routing_key.as_str(),
                payload: &back.delivery.data,
                reason: format!(
                    "no queue takes it: {} {} for the key `{}` at the exchange `{}`",
                    back.reply_code,
                    back.reply_text,
                    back.delivery.routing_key,
                    back.delivery.exchange,
                ),
            });
            if !self.confirms.handle(number, is_taken, returned) {
                return Err(LinkError::transient("the broker returned what it was not sent"));
            }
        }
        let settled = self.confirms.settle();
        self.open = self.open.saturating_sub(settled.len());
        Ok(settled)
    }
}

/// Returns the number by which the run knows a message; far fewer are in flight than there are.
fn packet(number: u64) -> u16 {
    u16::try_from(number & u64::from(u16::MAX)).unwrap_or_default()
}

/// Returns why a connection ended: in the broker's words, if it says any.
async fn last_words(error: &Error, mut said: impl Stream<Item = Event> + Unpin) -> LinkError {
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

fn link_error(error: &Error) -> LinkError {
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

    #[test]
    fn numbers_come_round() {
        assert_eq!([packet(1), packet(65_535), packet(65_536), packet(65_537)], [1, 65_535, 0, 1]);
    }
}
