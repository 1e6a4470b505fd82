//! The connection to the broker: bytes, time and the session's steps.

use std::{
    collections::HashMap,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Buf as _, BytesMut};
use futures_util::FutureExt as _;
use tidegate_astarte::{Keep, Message, Property, Session, Step, Up as Upward};
use tidegate_model::ClientId;
use tidegate_mqtt::{Client, ClientError, ClientEvent, ClientSettings, Limits, ReasonCode};
use tidegate_tls::{ClientSetup, Identity, client_config};
use tidegate_uplink::{Ack, Disconnect, Failure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf},
    sync::{Notify, mpsc},
    time::{sleep_until, timeout},
};
use tracing::warn;

use super::{
    super::super::{
        link::{Answer, LinkError, LinkEvent, Up},
        settings::{AstarteSettings, LinkSettings},
    },
    super::{CONNECT_TIMEOUT, Memory},
    Job,
    down::Down,
    pairing::BrokerAddress,
};
use crate::dial::{self, DialError, Stream, dial};

/// Messages that may be on their way; as many as the reference broker takes.
const WINDOW: u16 = 100;
/// No more is taken in while so much waits to be written.
const OUTPUT_BYTES: usize = 1 << 20;
/// Bytes read at once, about.
const READ_BYTES: usize = 16 << 10;
/// What the far side said before a write failed may be read for so long.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// For what the far side has set is waited so long at most, where that tells whether it has taken a property.
const ANSWER_PATIENCE: Duration = Duration::from_secs(15);
/// The same fault is told no more often than this.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// How far a connection came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nobody gets to the broker.
    NotReached {
        /// Whether it is somewhere else, by the look of it.
        has_moved: bool,
    },
    /// The broker did not let us in.
    Refused {
        /// Whether it said that the certificate is why.
        by_certificate: bool,
    },
    /// It did, or what ended the connection has nothing to do with who we are.
    Accepted,
}

/// The end of a connection.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) error: LinkError,
    pub(super) phase: Phase,
}

/// What a connection is made with.
pub(super) struct Wire<'w> {
    pub(super) device: &'w AstarteSettings,
    pub(super) settings: &'w LinkSettings,
    pub(super) events: &'w mpsc::Sender<LinkEvent>,
    pub(super) identity: Identity,
    pub(super) broker: BrokerAddress,
    /// Told when data may go.
    pub(super) is_up: Notify,
    /// Tells that the next connection has a new certificate.
    pub(super) is_renewed: Notify,
}

impl Wire<'_> {
    /// Connects, and moves what is to be moved until the end.
    pub(super) async fn run(&self, jobs: mpsc::Receiver<Job>, mut memory: Memory) -> Ended {
        let AstarteSettings { setup, certainty, .. } = self.device;
        let mut session = Session::new(Arc::clone(setup), &memory.kept, certainty.clone());
        let stream = match timeout(CONNECT_TIMEOUT, self.dial()).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(ended)) => return ended,
            Err(_) => {
                let error = LinkError::transient("the broker does not answer");
                return Ended { error, phase: Phase::NotReached { has_moved: false } };
            }
        };
        // An attempt that does not come so far costs nothing.
        if let Err(error) = self.begin(&mut session, &mut memory).await {
            return Ended { error, phase: Phase::Accepted };
        }
        match Talk::new(self, session) {
            Ok(mut talk) => talk.run(stream, jobs).await,
            Err(error) => Ended { error: link_error(&error), phase: Phase::Accepted },
        }
    }

    /// Makes durable what is to be before CONNECT.
    async fn begin(&self, session: &mut Session, memory: &mut Memory) -> Result<(), LinkError> {
        let Some(keep) = session.begin() else { return Ok(()) };
        self.keep(keep).await?;
        let durable = memory.durable.wait_for(|durable| *durable >= 1).await;
        durable.map(drop).map_err(|_| LinkError::transient("nobody listens"))
    }

    async fn dial(&self) -> Result<Box<dyn Stream>, Ended> {
        let setup = ClientSetup {
            trust: self.device.trust.clone(),
            identity: Some(self.identity.clone()),
            protocols: Vec::new(),
        };
        let config = client_config(setup).map_err(|error| Ended {
            error: LinkError::transient(error.to_string()),
            phase: Phase::Accepted,
        })?;
        let BrokerAddress { host, port } = &self.broker;
        dial(host, *port, &self.settings.way, Some(config)).await.map_err(|error| {
            let phase = match &error {
                DialError::Tls(error) if dial::is_about_trust(error) => {
                    Phase::Refused { by_certificate: true }
                }
                // What a proxy says of it may be about itself.
                error => Phase::NotReached {
                    has_moved: self.settings.way.proxy.is_none() && error.is_about_place(),
                },
            };
            // A new certificate is asked for at the next attempt.
            let failure = Failure::Transient;
            Ended { error: LinkError { failure, ..LinkError::dial(error) }, phase }
        })
    }

    async fn keep(&self, Keep { name, value }: Keep) -> Result<(), LinkError> {
        self.tell(LinkEvent::Keep { name, value }).await
    }

    async fn tell(&self, event: LinkEvent) -> Result<(), LinkError> {
        let told = self.events.send(event).await;
        told.map_err(|_| LinkError::transient("nobody listens"))
    }
}

/// What a token of the client stands for.
enum Pending {
    Step,
    Reading { packet: u16, property: Option<Property> },
}

/// A connection while it lasts.
struct Talk<'w> {
    wire: &'w Wire<'w>,
    client: Client,
    session: Session,
    output: BytesMut,
    pending: HashMap<u64, Pending>,
    next_token: u64,
    down: Down,
    is_connected: bool,
    is_ready: bool,
    /// Whether another connection is to take its place.
    is_renewed: bool,
    /// Until when the far side is to say what it has set, if it was asked for that.
    asked_until: Option<Instant>,
    reported: Option<Instant>,
}

/// Why a talk ends.
enum Stop {
    Client(ClientError),
    Link(LinkError),
    Io(io::Error),
    Closed,
}

impl From<ClientError> for Stop {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

impl From<LinkError> for Stop {
    fn from(error: LinkError) -> Self {
        Self::Link(error)
    }
}

impl<'w> Talk<'w> {
    fn new(wire: &'w Wire<'w>, session: Session) -> Result<Self, ClientError> {
        let base = wire.device.setup.device.base();
        let settings = ClientSettings {
            client_id: ClientId::new(base).expect("a realm and a device id make a client id"),
            keep_alive: wire.settings.keep_alive,
            connect_timeout: CONNECT_TIMEOUT,
            window: WINDOW,
            limits: Limits::default(),
        };
        let mut output = BytesMut::new();
        Ok(Self {
            client: Client::new(settings, Instant::now(), &mut output)?,
            wire,
            session,
            output,
            pending: HashMap::new(),
            next_token: 0,
            down: Down::default(),
            is_connected: false,
            is_ready: false,
            is_renewed: false,
            asked_until: None,
            reported: None,
        })
    }

    async fn run(&mut self, stream: Box<dyn Stream>, mut jobs: mpsc::Receiver<Job>) -> Ended {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let stop = self.drive(&mut reader, &mut writer, &mut jobs).await;
        self.ended(stop)
    }

    /// Moves bytes, time and work until something ends it.
    async fn drive(
        &mut self,
        reader: &mut ReadHalf<Box<dyn Stream>>,
        writer: &mut WriteHalf<Box<dyn Stream>>,
        jobs: &mut mpsc::Receiver<Job>,
    ) -> Stop {
        let mut input = BytesMut::new();
        let mut failed: Option<(io::Error, Instant)> = None;
        loop {
            input.reserve(READ_BYTES);
            if let Err(error) = self.client.flush(Instant::now(), &mut self.output) {
                return error.into();
            }
            let may_write = failed.is_none() && !self.output.is_empty();
            let has_room = self.output.len() < OUTPUT_BYTES;
            // What nobody here can take yet waits at the far side.
            let is_listening = has_room && self.down.has_room();
            let due = failed.as_ref().map(|(_, until)| *until);
            let due = due.unwrap_or_else(|| self.poll_timeout());
            let done = tokio::select! {
                // Whatever is ready goes on; none of them can starve the others for long, as each is bounded.
                written = write(writer, &self.output), if may_write => match written {
                    Ok(count) => {
                        self.output.advance(count);
                        Ok(())
                    }
                    // What the far side had to say about it may still be there to be read.
                    Err(error) => {
                        failed = Some((error, Instant::now() + LAST_WORDS));
                        Ok(())
                    }
                },
                read = reader.read_buf(&mut input), if is_listening => match read {
                    Ok(0) => Err(failed.take().map_or(Stop::Closed, |(error, _)| Stop::Io(error))),
                    Ok(_) => self.handle_input(&mut input).await,
                    Err(error) => Err(Stop::Io(error)),
                },
                job = jobs.recv(), if has_room => match job {
                    Some(job) => self.handle_job(job, writer).await,
                    None => Err(LinkError::transient("nobody listens").into()),
                },
                () = self.wire.is_renewed.notified() => {
                    self.is_renewed = true;
                    Ok(())
                }
                () = sleep_until(due.into()) => match failed.take() {
                    Some((error, _)) => Err(Stop::Io(error)),
                    // It is not for the far side to answer while commands are not done with here.
                    None if has_room && !is_listening => {
                        let put_off = self.client.put_off(Instant::now(), &mut self.output);
                        put_off.map_err(Stop::from)
                    }
                    None => self.handle_due(reader, &mut input).await,
                },
            };
            if let Err(stop) = done {
                return stop;
            }
            // Commands that are not answered for would come again.
            if self.is_renewed && self.down.is_empty() {
                self.is_renewed = false;
                if let Err(error) = self.wire.tell(LinkEvent::Renew).await {
                    return error.into();
                }
            }
        }
    }

    /// Acts on what is due. What has arrived by now is no silence, however late it is looked at.
    async fn handle_due(
        &mut self,
        reader: &mut ReadHalf<Box<dyn Stream>>,
        input: &mut BytesMut,
    ) -> Result<(), Stop> {
        if let Some(Ok(1..)) = reader.read_buf(input).now_or_never() {
            self.handle_input(input).await?;
        }
        if self.asked_until.is_some_and(|until| until <= Instant::now()) {
            self.session.ask_no_more();
            self.take_steps().await?;
        }
        Ok(self.client.handle_timeout(Instant::now(), &mut self.output)?)
    }

    async fn handle_input(&mut self, input: &mut BytesMut) -> Result<(), Stop> {
        let heard = self.client.handle_input(Instant::now(), input, &mut self.output);
        // What came before the fault has come.
        while let Some(event) = self.client.poll_event() {
            self.handle_event(event).await?;
        }
        Ok(heard?)
    }

    async fn handle_event(&mut self, event: ClientEvent) -> Result<(), Stop> {
        match event {
            ClientEvent::Connected { session_present } => {
                self.is_connected = true;
                self.session.connected(session_present);
                self.wire.tell(LinkEvent::Alive).await?;
                self.take_steps().await
            }
            ClientEvent::Subscribed { is_granted: false } => {
                let reason = "the broker refuses the subscriptions of this device".to_owned();
                let failure = Failure::Lasting;
                Err(LinkError { reason, failure, how: Disconnect::Otherwise }.into())
            }
            ClientEvent::Subscribed { is_granted: true } => self.step_done().await,
            ClientEvent::Delivered { token } => match self.pending.remove(&token) {
                Some(Pending::Step) => self.step_done().await,
                Some(Pending::Reading { packet, property }) => {
                    // Both are in the journal in this order: what is taken off the queue is remembered.
                    if let Some(property) = property {
                        for keep in self.session.property_done(property) {
                            self.wire.keep(keep).await?;
                        }
                    }
                    Ok(self.answer(packet, Ack::Accepted).await?)
                }
                None => Ok(()),
            },
            ClientEvent::Received(received) => {
                let (topic, id) = (received.topic, received.packet_id);
                match self.session.down(topic.as_str(), &received.payload) {
                    Ok(orders) => {
                        if self.down.take(orders, received.retained, id) {
                            self.acknowledge(id)?;
                        }
                    }
                    Err(error) => {
                        self.report(topic.as_str(), &error.to_string());
                        self.acknowledge(id)?;
                    }
                }
                self.hand_down().await?;
                self.take_steps().await
            }
        }
    }

    /// Does what the session wants done next.
    async fn take_steps(&mut self) -> Result<(), Stop> {
        if !self.session.is_asking() {
            self.asked_until = None;
        }
        while let Some(step) = self.session.next_step() {
            match step {
                Step::Subscribe(filters) => self.client.subscribe(filters, &mut self.output)?,
                Step::Publish(message) => self.publish(message, Pending::Step)?,
                Step::Keep(keep) => self.wire.keep(keep).await?,
                Step::Refused(key) => {
                    let reason = format!(
                        "the realm does not take the property {key}: it is not sent until its value or its interface changes"
                    );
                    self.wire.tell(LinkEvent::Refused { reason }).await?;
                }
                Step::Ready => {
                    self.is_ready = true;
                    self.wire.is_up.notify_one();
                    self.wire
                        .tell(LinkEvent::Connected {
                            keep_alive: None,
                            packet_bytes_max: tidegate_astarte::PAYLOAD_BYTES_MAX,
                            receive_max: usize::from(WINDOW),
                        })
                        .await?;
                }
            }
        }
        Ok(())
    }

    /// Returns when something is due, at the latest.
    fn poll_timeout(&mut self) -> Instant {
        let due = self.client.poll_timeout();
        if self.session.is_asking() {
            due.min(*self.asked_until.get_or_insert_with(|| Instant::now() + ANSWER_PATIENCE))
        } else {
            due
        }
    }

    async fn step_done(&mut self) -> Result<(), Stop> {
        self.session.step_done();
        self.wire.tell(LinkEvent::Alive).await?;
        self.take_steps().await
    }

    fn publish(&mut self, message: Message, pending: Pending) -> Result<(), ClientError> {
        let token = self.next_token;
        self.next_token += 1;
        let Message { topic, payload, qos } = message;
        self.client.publish(token, topic, payload.into(), qos, &mut self.output)?;
        self.pending.insert(token, pending);
        Ok(())
    }

    async fn handle_job(
        &mut self,
        job: Job,
        writer: &mut WriteHalf<Box<dyn Stream>>,
    ) -> Result<(), Stop> {
        match job {
            Job::Publish { packet, up } => {
                self.wire.tell(LinkEvent::Sent { packet }).await?;
                self.send(packet, &up).await
            }
            Job::Acknowledge { packet } => {
                let Some(done) = self.down.done(packet) else { return Ok(()) };
                if let Some(keep) = done.keep {
                    self.session.order_done(&keep);
                    self.wire.keep(keep).await?;
                }
                if done.is_last {
                    self.acknowledge(done.of)?;
                }
                Ok(self.hand_down().await?)
            }
            Job::Withhold { packet } => {
                if let Some(keep) = self.down.withhold(packet) {
                    self.session.order_withheld(&keep);
                }
                Ok(self.hand_down().await?)
            }
            Job::Disconnect => {
                self.client.disconnect(&mut self.output);
                let said = async {
                    writer.write_all_buf(&mut self.output).await?;
                    writer.shutdown().await
                };
                let _ = timeout(LAST_WORDS, said).await;
                Err(LinkError::transient("we have said good-bye").into())
            }
        }
    }

    /// Sends a reading, or says why it can never be sent.
    async fn send(&mut self, packet: u16, up: &Up) -> Result<(), Stop> {
        let Some(typed) = &up.typed else {
            let reason = "only readings go to Astarte".to_owned();
            return Ok(self.answer(packet, Ack::RefusedPayload { reason }).await?);
        };
        match self.session.up(&up.topic, &typed.value, typed.time) {
            Ok(Upward::Publish(message, property)) => {
                self.publish(message, Pending::Reading { packet, property })?;
            }
            Ok(Upward::Unchanged) => self.answer(packet, Ack::Accepted).await?,
            Err(error) => {
                let reason = error.to_string();
                self.answer(packet, Ack::RefusedPayload { reason }).await?;
            }
        }
        Ok(())
    }

    async fn answer(&self, packet: u16, ack: Ack) -> Result<(), LinkError> {
        self.wire.tell(LinkEvent::Answered { packet, answer: Answer::Final(ack) }).await
    }

    fn acknowledge(&mut self, id: Option<tidegate_mqtt::PacketId>) -> Result<(), ClientError> {
        match id {
            Some(id) => self.client.acknowledge(id, &mut self.output),
            None => Ok(()),
        }
    }

    /// Hands commands on, as many as may be open.
    async fn hand_down(&mut self) -> Result<(), LinkError> {
        while let Some(incoming) = self.down.next() {
            self.wire.tell(LinkEvent::Incoming(incoming)).await?;
        }
        Ok(())
    }

    /// Tells of what came down and cannot be used, once per interval.
    fn report(&mut self, topic: &str, error: &str) {
        if self.reported.is_none_or(|at| at.elapsed() >= REPORT_INTERVAL) {
            self.reported = Some(Instant::now());
            warn!(topic, error, "Astarte sends something that cannot be used");
        }
    }

    fn ended(&self, stop: Stop) -> Ended {
        let refused = |by_certificate| {
            if self.is_connected { Phase::Accepted } else { Phase::Refused { by_certificate } }
        };
        match stop {
            Stop::Link(error) => Ended { error, phase: Phase::Accepted },
            Stop::Client(error) => {
                let is_about_us = matches!(
                    error,
                    ClientError::Refused(
                        ReasonCode::BadUserNameOrPassword
                            | ReasonCode::NotAuthorized
                            | ReasonCode::ClientIdentifierNotValid
                    )
                );
                let phase = if is_about_us { refused(false) } else { Phase::Accepted };
                Ended { error: link_error(&error), phase }
            }
            Stop::Io(error) => {
                let phase = refused(dial::is_about_trust(&error));
                Ended { error: self.closed(&format!("the connection broke: {error}")), phase }
            }
            Stop::Closed => {
                let error = self.closed("the broker closed the connection");
                Ended { error, phase: refused(false) }
            }
        }
    }

    /// Makes the error of a connection that the far side has ended.
    fn closed(&self, what: &str) -> LinkError {
        let reason = match (self.is_connected, self.is_ready) {
            (true, true) => what.to_owned(),
            (true, false) => format!(
                "{what} while the device introduced itself: are its interfaces installed in the realm, in these versions?"
            ),
            (false, _) => format!("{what} before it let the device in"),
        };
        let how = if self.is_ready { Disconnect::Closed } else { Disconnect::Otherwise };
        LinkError { reason, failure: Failure::Transient, how }
    }
}

/// Writes some of it, and makes sure that it goes.
async fn write(writer: &mut WriteHalf<Box<dyn Stream>>, bytes: &[u8]) -> io::Result<usize> {
    let count = writer.write(bytes).await?;
    if count == 0 {
        return Err(io::ErrorKind::WriteZero.into());
    }
    Ok(count)
}

fn link_error(error: &ClientError) -> LinkError {
    let failure = match error {
        ClientError::Refused(
            ReasonCode::BadUserNameOrPassword
            | ReasonCode::NotAuthorized
            | ReasonCode::ClientIdentifierNotValid
            | ReasonCode::UnsupportedProtocolVersion,
        ) => Failure::Lasting,
        _ => Failure::Transient,
    };
    LinkError { reason: error.to_string(), failure, how: Disconnect::Otherwise }
}
