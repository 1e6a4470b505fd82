//! The connection to an MQTT broker, over rumqttc, to a broker of AMQP, or to a server of HTTP.
//!
//! What rumqttc leaves to its user, and how it is done here: a negative PUBACK only shows in its
//! reason, so every reason is looked at; a message's packet identifier is told by the order of
//! `Outgoing::Publish` events, so tokens are paired in that order; its event loop is never
//! cancelled within a poll, as a packet may be half handed over, so it runs inside one future that
//! lives as long as the connection; after any error that future is dropped with all its state, and
//! everything without an answer is sent again by the core. Sockets and what lies between them and MQTT are not
//! rumqttc's: it goes through a [`Tunnel`].

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    future::Future,
    pin::Pin,
    time::{Duration, Instant},
};

use tidegate_uplink::{OutcomeId, SendId};
use tokio::sync::{mpsc, watch};

use super::{
    link::{LinkError, LinkEvent, Up},
    seat::Ticket,
    settings::{AmqpTarget, Dialect, LinkSettings, MqttVersion},
    tunnel::Tunnel,
};

#[cfg(feature = "amqp")]
mod amqp;
mod astarte;
mod fleet;
mod folder;
mod http;
mod iot_hub;
mod shared;
mod sparkplug;
mod subscriptions;
#[cfg(test)]
mod tests;
mod thingsboard;
mod v4;
mod v5;

pub use self::{iot_hub::hub_commands, sparkplug::SparkplugB, thingsboard::board_commands};

/// Events that wait for the task; more than one wake-up of the event loop makes.
const EVENTS: usize = 64;
/// Requests that wait for the event loop: what may be in flight and its acknowledgements.
const REQUESTS: usize = 1_024;
/// Filters in one SUBSCRIBE, as many as AWS IoT Core takes.
const FILTERS_MAX: usize = 8;
/// The most messages without an answer that the event loop keeps account of.
const IN_FLIGHT_MAX: u16 = 512;
const _: () = assert!(LinkSettings::IN_FLIGHT_MAX == IN_FLIGHT_MAX as usize);
/// The largest packet that may come down: a command with its topic and properties.
const INCOMING_BYTES_MAX: u32 = 512 << 10;
/// Connecting takes at most so long, and so does a flush.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// rumqttc gives up first, and says why.
const CONNECT_PATIENCE: Duration = CONNECT_TIMEOUT.saturating_add(Duration::from_secs(5));
/// Longer than any process runs.
const NEVER: Duration = Duration::from_secs(100 * 365 * 24 * 3_600);

/// What was sent under a packet identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Batch(SendId),
    Outcome(OutcomeId),
    /// A request of a shadow, which is answered in another way, too.
    Shadow,
    /// Of an uplink that shares the connection, by its place.
    Passenger(usize, Ticket),
}

/// What connections of a dialect remember, by names of their own.
pub(super) type Kept = BTreeMap<Vec<u8>, Vec<u8>>;

/// The memory of a dialect's connection.
#[derive(Debug)]
struct Memory {
    /// What those before it left.
    kept: Kept,
    /// How many of its own [`LinkEvent::Keep`] are durable; that is in order.
    durable: watch::Receiver<u64>,
}

type Driver = Pin<Box<dyn Future<Output = LinkError> + Send>>;

#[derive(Debug)]
enum Client {
    V4(rumqttc::AsyncClient),
    V5(v5::Client),
    Http(http::Client),
    #[cfg(feature = "amqp")]
    Amqp(amqp::Client),
    Shared(shared::Client),
    SparkplugB(sparkplug::Client),
    Astarte(astarte::Client),
    IotHub(iot_hub::Client),
    ThingsBoard(thingsboard::Client),
}

/// One connection, from its first attempt to its end.
pub(super) struct Connection {
    client: Client,
    driver: Driver,
    events: mpsc::Receiver<LinkEvent>,
    /// Tokens of messages that are handed over and not on their way yet, in order.
    handed_over: VecDeque<Token>,
    in_flight: HashMap<u16, Token>,
    /// When what is in flight went out, the first first; those that are answered may still stand here.
    sent: VecDeque<(Instant, u16, Token)>,
    receive_max: usize,
    is_up: bool,
    /// Whether the far side takes nothing for now.
    is_held: bool,
    last_heard: Instant,
    patience: Duration,
    ack_timeout: Duration,
    /// How many [`LinkEvent::Keep`] are durable.
    kept: watch::Sender<u64>,
    /// Why it has ended, if it has: what it said before is heard first.
    ended: Option<LinkError>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Connection")
            .field("is_up", &self.is_up)
            .field("in_flight", &self.in_flight.len())
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// Starts to connect to one of the brokers. The subscription to commands goes out before anything else.
    ///
    /// # Errors
    ///
    /// If the system lacks a descriptor.
    pub(super) fn open(
        settings: &LinkSettings,
        endpoint: usize,
        kept: Kept,
    ) -> Result<Self, LinkError> {
        let (sender, events) = mpsc::channel(EVENTS);
        let (durable, is_durable) = watch::channel(0);
        let (client, driver) = if let Some(seat) = &settings.seat {
            let (client, driver) = shared::open(seat, sender);
            (Client::Shared(client), Box::pin(driver) as Driver)
        } else if let Some(dialect) = &settings.dialect {
            let memory = Memory { kept, durable: is_durable };
            open_dialect(dialect, settings, endpoint, memory, sender)?
        } else if settings.endpoints[endpoint].http.is_some() {
            let (client, driver) = http::open(settings, endpoint, sender);
            (Client::Http(client), Box::pin(driver) as Driver)
        } else if let Some(target) = &settings.endpoints[endpoint].amqp {
            open_amqp(target, settings, endpoint, sender)?
        } else {
            open_mqtt(settings, endpoint, sender)?
        };
        // Who has the connection waits for the far side, not we.
        let connects_itself = settings.seat.is_none();
        Ok(Self {
            client,
            driver,
            events,
            handed_over: VecDeque::new(),
            in_flight: HashMap::new(),
            sent: VecDeque::new(),
            receive_max: 0,
            is_up: false,
            is_held: false,
            last_heard: Instant::now(),
            patience: if connects_itself { CONNECT_PATIENCE } else { NEVER },
            ack_timeout: settings.ack_timeout,
            kept: durable,
            ended: None,
        })
    }

    /// Waits for what happens next. Cancel-safe.
    ///
    /// What was said in the moment in which the connection ended, or in which an answer became overdue, comes before that.
    ///
    /// # Errors
    ///
    /// [`LinkError`]; the connection is to be dropped.
    pub(super) async fn next(&mut self) -> Result<LinkEvent, LinkError> {
        if let Some(ended) = &self.ended {
            return self.events.try_recv().map_err(|_| ended.clone());
        }
        let silent_at = (self.last_heard + self.patience).into();
        let unanswered_at = self.unanswered_at();
        let overdue_at = unanswered_at.unwrap_or_else(|| Instant::now() + self.patience).into();
        let error = tokio::select! {
            biased;
            Some(event) = self.events.recv() => {
                self.note_heard(&event);
                return Ok(event);
            }
            error = &mut self.driver => self.ended.insert(error).clone(),
            () = tokio::time::sleep_until(overdue_at), if unanswered_at.is_some() => {
                let waited = self.ack_timeout.as_secs();
                LinkError::transient(format!("a message has had no answer for {waited} s"))
            }
            () = tokio::time::sleep_until(silent_at) => {
                // rumqttc waits for an unanswered ping one keep alive longer, and on a full socket for
                // ever.
                LinkError::transient("the far side has gone silent")
            }
        };
        // The driver may have read it just now.
        let event = self.events.try_recv().map_err(|_| error)?;
        self.note_heard(&event);
        Ok(event)
    }

    fn note_heard(&mut self, event: &LinkEvent) {
        if !matches!(event, LinkEvent::Sent { .. }) {
            self.last_heard = Instant::now();
        }
    }

    /// Ends it for something that it does not take.
    fn end(&mut self, taken: Result<(), LinkError>) {
        if let Err(error) = taken {
            self.ended.get_or_insert(error);
        }
    }

    /// Returns when the oldest message without an answer is overdue.
    fn unanswered_at(&mut self) -> Option<Instant> {
        if self.is_held {
            return None;
        }
        while let Some((at, packet, token)) = self.sent.front() {
            if self.in_flight.get(packet) == Some(token) {
                return Some(*at + self.ack_timeout);
            }
            self.sent.pop_front();
        }
        None
    }

    /// Takes notice that the far side has accepted the connection.
    ///
    /// `keep_alive` is what the far side wants in place of what the settings say.
    pub(super) fn set_up(
        &mut self,
        receive_max: usize,
        keep_alive: Option<Duration>,
        settings: &LinkSettings,
    ) {
        // With 0 the far side does not look; rumqttc has no way not to ask, and is left its time.
        let keep_alive = keep_alive.filter(|it| !it.is_zero()).unwrap_or(settings.keep_alive);
        self.is_up = true;
        // One place stays free: rumqttc holds back acknowledgements, too, when none is.
        let places = receive_max.min(usize::from(IN_FLIGHT_MAX)).saturating_sub(1);
        self.receive_max = places.min(settings.in_flight_max).max(1);
        self.patience = match self.client {
            // They notice silence by themselves.
            Client::Http(_) | Client::Shared(_) | Client::Astarte(_) => NEVER,
            #[cfg(feature = "amqp")]
            Client::Amqp(_) => NEVER,
            Client::V4(_)
            | Client::V5(_)
            | Client::SparkplugB(_)
            | Client::IotHub(_)
            | Client::ThingsBoard(_) => keep_alive + keep_alive / 2,
        };
    }

    /// Takes notice that one more thing to remember is durable.
    pub(super) fn note_kept(&self) {
        self.kept.send_modify(|durable| *durable += 1);
    }

    /// Takes notice that the far side takes nothing for now, or takes messages again; answers have their whole time then.
    /// Returns whether that is new.
    pub(super) fn set_held(&mut self, is_held: bool) -> bool {
        let now = Instant::now();
        self.sent.iter_mut().for_each(|(at, ..)| *at = now);
        std::mem::replace(&mut self.is_held, is_held) != is_held
    }

    pub(super) fn is_up(&self) -> bool {
        self.is_up
    }

    /// Returns whether another message may be handed over.
    pub(super) fn has_room(&self) -> bool {
        let under_way = self.handed_over.len() + self.in_flight.len();
        self.is_up && !self.is_held && self.ended.is_none() && under_way < self.receive_max
    }

    /// Returns the message that has waited longest for an answer: it is the likeliest cause of what the far side does next.
    pub(super) fn oldest_unanswered(&mut self) -> Option<Token> {
        self.unanswered_at()?;
        self.sent.front().map(|(_, _, token)| *token)
    }

    /// Returns whether a message that was handed over has no answer yet.
    pub(super) fn awaits_answers(&self) -> bool {
        !self.handed_over.is_empty() || !self.in_flight.is_empty()
    }

    /// Hands a message over, to be sent with QoS 1 or posted. If it is not taken, that ends the connection, as
    /// [`next`](Self::next) tells.
    pub(super) fn send(&mut self, token: Token, up: Up) {
        let taken = match &mut self.client {
            Client::V4(client) => v4::publish(client, up),
            Client::V5(client) => client.publish(up),
            Client::Http(client) => client.publish(up),
            #[cfg(feature = "amqp")]
            Client::Amqp(client) => client.publish(up),
            Client::Shared(client) => client.publish(up),
            Client::SparkplugB(client) => client.publish(up),
            Client::Astarte(client) => client.publish(up),
            Client::IotHub(client) => client.publish(up),
            Client::ThingsBoard(client) => client.publish(up),
        };
        self.end(taken);
        self.handed_over.push_back(token);
    }

    /// Subscribes to what a shadow wants to hear, as few filters as go at once. If that is not taken, it ends the connection,
    /// as [`next`](Self::next) tells.
    pub(super) fn subscribe(&mut self, filters: &[String]) {
        let taken = match &self.client {
            Client::V4(client) => v4::subscribe(client, filters),
            Client::V5(client) => client.subscribe(filters),
            // Their settings have no shadow.
            _ => Ok(()),
        };
        self.end(taken);
    }

    /// Acknowledges a command. If that is not taken, it ends the connection, as [`next`](Self::next) tells.
    pub(super) fn acknowledge(&mut self, packet: u16) {
        let taken = match &self.client {
            Client::V4(client) => v4::acknowledge(client, packet),
            Client::V5(client) => client.acknowledge(packet),
            Client::SparkplugB(client) => client.acknowledge(packet),
            Client::Astarte(client) => client.acknowledge(packet),
            Client::IotHub(client) => client.acknowledge(packet),
            Client::ThingsBoard(client) => client.acknowledge(packet),
            #[cfg(feature = "amqp")]
            Client::Amqp(client) => client.acknowledge(packet),
            // Nothing comes down by HTTP, or to a passenger.
            Client::Http(_) | Client::Shared(_) => Ok(()),
        };
        self.end(taken);
    }

    /// Lets a command go that was not taken; most far sides know no other word for it.
    pub(super) fn refuse(&mut self, packet: u16) {
        #[cfg(feature = "amqp")]
        if let Client::Amqp(client) = &self.client {
            let taken = client.refuse(packet);
            return self.end(taken);
        }
        self.acknowledge(packet);
    }

    /// Leaves a command to the next connection, or to later.
    pub(super) fn withhold(&mut self, packet: u16) {
        let taken = match &self.client {
            Client::Astarte(client) => client.withhold(packet),
            #[cfg(feature = "amqp")]
            Client::Amqp(client) => client.withhold(packet),
            // The others have no places that could be taken up.
            _ => Ok(()),
        };
        self.end(taken);
    }

    /// Pairs the oldest message handed over with its packet identifier.
    pub(super) fn note_sent(&mut self, packet: u16) {
        if let Some(token) = self.handed_over.pop_front() {
            self.in_flight.insert(packet, token);
            self.sent.push_back((Instant::now(), packet, token));
            if self.sent.len() > 4 * usize::from(IN_FLIGHT_MAX) {
                // The first one waits on while others are answered.
                self.sent.retain(|(_, packet, token)| self.in_flight.get(packet) == Some(token));
            }
        }
    }

    /// Returns what a packet identifier stood for.
    pub(super) fn take_answered(&mut self, packet: u16) -> Option<Token> {
        self.in_flight.remove(&packet)
    }

    /// Begins to say good-bye; returns whether the connection will end by that.
    pub(super) fn leave(&self) -> bool {
        match &self.client {
            Client::V4(client) => client.try_disconnect().is_ok(),
            Client::V5(client) => client.close(),
            Client::SparkplugB(client) => client.close(),
            Client::Astarte(client) => client.disconnect(),
            #[cfg(feature = "amqp")]
            Client::Amqp(client) => client.leave(),
            Client::IotHub(client) => client.leave(),
            Client::ThingsBoard(client) => client.leave(),
            Client::Http(_) | Client::Shared(_) => false,
        }
    }

    /// Says good-bye, so that the broker does not wait for us.
    pub(super) async fn close(mut self) {
        if self.ended.is_none() && self.leave() && self.is_up {
            // The event loop ends with the connection; the far side may be slow to close it.
            let driven = async {
                loop {
                    tokio::select! {
                        biased;
                        _ = &mut self.driver => return,
                        event = self.events.recv() => if event.is_none() { return },
                    }
                }
            };
            let _ = tokio::time::timeout(Duration::from_millis(250), driven).await;
        }
    }
}

/// Starts to connect to a far side that speaks a dialect.
fn open_dialect(
    dialect: &Dialect,
    settings: &LinkSettings,
    endpoint: usize,
    memory: Memory,
    events: mpsc::Sender<LinkEvent>,
) -> Result<(Client, Driver), LinkError> {
    match dialect {
        Dialect::SparkplugB(node) => {
            let (client, driver) = sparkplug::open(node, settings, endpoint, memory, events)?;
            Ok((Client::SparkplugB(client), driver))
        }
        Dialect::Astarte(device) => {
            let (client, driver) = astarte::open(device, settings, endpoint, memory, events);
            Ok((Client::Astarte(client), Box::pin(driver) as Driver))
        }
        Dialect::IotHub(device) => {
            let (client, driver) = iot_hub::open(device.get(), settings, endpoint, events)?;
            Ok((Client::IotHub(client), driver))
        }
        Dialect::ThingsBoard(board) => {
            let (client, driver) = thingsboard::open(board, settings, endpoint, events)?;
            Ok((Client::ThingsBoard(client), driver))
        }
    }
}

/// Starts to connect to a broker of AMQP.
#[cfg(feature = "amqp")]
#[expect(clippy::unnecessary_wraps, reason = "a build without it cannot")]
fn open_amqp(
    target: &AmqpTarget,
    settings: &LinkSettings,
    endpoint: usize,
    events: mpsc::Sender<LinkEvent>,
) -> Result<(Client, Driver), LinkError> {
    let (client, driver) = amqp::open(target, settings, endpoint, events);
    Ok((Client::Amqp(client), Box::pin(driver)))
}

/// Says that this build cannot; the configuration has said so before.
#[cfg(not(feature = "amqp"))]
fn open_amqp(
    _: &AmqpTarget,
    _: &LinkSettings,
    _: usize,
    _: mpsc::Sender<LinkEvent>,
) -> Result<(Client, Driver), LinkError> {
    Err(LinkError::transient("this build of the gateway leaves out AMQP"))
}

/// Starts to connect to a broker.
fn open_mqtt(
    settings: &LinkSettings,
    endpoint: usize,
    events: mpsc::Sender<LinkEvent>,
) -> Result<(Client, Driver), LinkError> {
    let tunnel = Tunnel::open().map_err(|error| LinkError::transient(error.to_string()))?;
    let login = settings.endpoints[endpoint].login.get();
    let (name, through) = (tunnel.name().to_owned(), settings.clone());
    Ok(match settings.version {
        MqttVersion::V3_1_1 => {
            let opening = v4::Opening::usual(settings, login.as_ref(), &name);
            let told = events.clone();
            let (client, driver) = v4::open(settings, opening, events, std::convert::identity);
            (Client::V4(client), Box::pin(fleet::drive(tunnel, through, endpoint, driver, told)))
        }
        MqttVersion::V5 => {
            let told = events.clone();
            let (client, driver) = v5::open(settings, login.as_ref(), &name, events);
            (Client::V5(client), Box::pin(fleet::drive(tunnel, through, endpoint, driver, told)))
        }
    })
}

fn network() -> rumqttc::NetworkOptions {
    let mut network = rumqttc::NetworkOptions::new();
    network.set_connection_timeout(CONNECT_TIMEOUT.as_secs());
    network
}
