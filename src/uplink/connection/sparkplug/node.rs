//! Between the run and the session: readings with their answers, pings, commands.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tidegate_model::{Value, json};
use tidegate_mqtt::{
    PacketId, ReasonCode,
    packet::{Packet, PublishPacket, SubAck},
};
use tidegate_sparkplug::{Event, Kept, Memory as Catalog, Message, Moment, Row, Session};
use tidegate_uplink::{Ack, Disconnect, TypedReading};
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use super::super::{
    super::{
        link::{Answer, Incoming, LinkError, LinkEvent},
        settings::LinkSettings,
    },
    IN_FLIGHT_MAX,
};
use super::{
    COMMANDS, End, RowId, SparkplugB, VALUES_INTERVAL,
    line::{Broker, Line, lasting},
    nobody,
};

/// What was sent is asked after no later than this; less than what it costs to keep the core's window closed.
const PING_DELAY: Duration = Duration::from_millis(20);
/// So many readings are asked after at once: half of what the core lets go without an answer.
const PING_ROWS: usize = 64;
/// While nothing is sent because the host is awaited, the broker is asked this often whether it is there.
const WAITING_PING: Duration = Duration::from_secs(10);
/// Where other brokers would do, the host has so long to say that it is at this one.
const HOST_PATIENCE: Duration = Duration::from_secs(30);
/// What hosts ask for in vain is reported no more often than this.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);
/// Messages with commands that wait for their acknowledgement.
const OWED_MAX: usize = 256;

/// A session with its books.
pub(super) struct Node {
    shared: Arc<SparkplugB>,
    /// Taken at the end.
    session: Option<Session>,
    events: mpsc::Sender<LinkEvent>,
    client_id: String,
    opened: Instant,
    broker: Broker,
    keep_alive: Duration,
    is_ready: bool,
    host_is_away: bool,
    /// Readings without an answer.
    taken: BTreeMap<u16, RowId>,
    /// Those that were sent since the last ping, and since when.
    fresh: Vec<u16>,
    fresh_since: Option<Instant>,
    /// How many of them bring a ping about.
    fresh_max: usize,
    /// Those that the ping under way is for; there is one at a time.
    covered: Option<Vec<u16>>,
    pinged_at: Instant,
    values_kept_at: Instant,
    /// The message whose commands are passed on.
    message: Origin,
    /// To which message a command belongs, and how many of a message's commands are not safe.
    commands: BTreeMap<u16, PacketId>,
    owed: BTreeMap<u16, usize>,
    next_command: u16,
    ignored: u64,
    reported: Option<Instant>,
}

/// How a message came.
#[derive(Clone, Copy, Debug, Default)]
struct Origin {
    packet_id: Option<PacketId>,
    retained: bool,
}

impl Node {
    pub(super) fn new(
        shared: Arc<SparkplugB>,
        catalog: Catalog,
        settings: &LinkSettings,
        endpoint: usize,
        events: mpsc::Sender<LinkEvent>,
    ) -> Self {
        let session = Session::new(Arc::clone(&shared.settings), catalog, endpoint);
        let now = Instant::now();
        Self {
            shared,
            session: Some(session),
            events,
            client_id: settings.client_id.clone(),
            opened: now,
            broker: Broker { packet_bytes_max: usize::MAX, keep_alive_s: None },
            keep_alive: settings.keep_alive,
            is_ready: false,
            host_is_away: false,
            taken: BTreeMap::new(),
            fresh: Vec::new(),
            fresh_since: None,
            fresh_max: (settings.in_flight_max / 2).clamp(1, PING_ROWS),
            covered: None,
            pinged_at: now,
            values_kept_at: now,
            message: Origin::default(),
            commands: BTreeMap::new(),
            owed: BTreeMap::new(),
            next_command: 0,
            ignored: 0,
            reported: None,
        }
    }

    pub(super) fn session(&mut self) -> &mut Session {
        self.session.as_mut().expect("it is taken at the end alone")
    }

    /// Has the number of the session kept; it is the first thing that is.
    pub(super) async fn keep_number(&mut self) -> Result<(), LinkError> {
        let kept = self.session().kept_first();
        self.keep(kept.into_iter().collect()).await
    }

    /// Takes notice that the broker has accepted the connection.
    pub(super) fn set_broker(&mut self, broker: Broker) {
        self.broker = broker;
        self.pinged_at = Instant::now();
        let wanted = broker.keep_alive_s.filter(|&seconds| seconds > 0);
        if let Some(seconds) = wanted {
            self.keep_alive = Duration::from_secs(seconds.into());
        }
        self.session().limit_bytes(broker.packet_bytes_max);
    }

    /// Returns whether another reading may be taken.
    pub(super) fn has_room(&self) -> bool {
        self.taken.len() < usize::from(IN_FLIGHT_MAX)
    }

    /// Takes a reading.
    pub(super) async fn take_row(
        &mut self,
        packet: u16,
        topic: Arc<str>,
        typed: Option<Arc<TypedReading>>,
    ) -> Result<(), LinkError> {
        self.tell(LinkEvent::Sent { packet }).await?;
        let Some(reading) = typed else {
            let reason = "Sparkplug B has no place for anything but readings".to_owned();
            return self.answer(packet, Ack::RefusedPayload { reason }).await;
        };
        let row = (Arc::clone(&topic), reading.epoch, reading.number);
        let was_sent = self.shared.left.lock().take_sent(&row);
        self.taken.insert(packet, row);
        self.session().handle_row(Row {
            topic,
            value: reading.value.clone(),
            time: reading.time,
            status: reading.status,
            // A stretch without data is told when it is over.
            is_historical: reading.replayed || was_sent || reading.until.is_some(),
            ticket: packet,
        });
        Ok(())
    }

    /// Takes a packet of the broker.
    pub(super) async fn handle_packet(
        &mut self,
        packet: Packet,
        line: &mut Line,
    ) -> Result<(), End> {
        let now = self.now();
        match packet {
            Packet::SubAck(answer) => Ok(self.handle_subscribed(&answer).await?),
            Packet::PingResp => {
                for packet in self.covered.take().unwrap_or_default() {
                    self.answer(packet, Ack::Accepted).await?;
                }
                Ok(self.tell(LinkEvent::Alive).await?)
            }
            Packet::Publish(PublishPacket {
                topic: Some(topic),
                payload,
                delivery,
                retain,
                ..
            }) => {
                let first = self.next_command;
                self.message = Origin { packet_id: delivery.packet_id(), retained: retain };
                self.session().handle_message(topic.as_str(), payload, now);
                self.pass_events(line).await?;
                if let Some(packet_id) = delivery.packet_id() {
                    self.owe(packet_id, self.next_command.wrapping_sub(first), line)?;
                }
                Ok(())
            }
            Packet::Disconnect(said) => {
                let reason = format!("the broker closes the connection: {}", said.reason.as_str());
                Err(LinkError { how: cause(said.reason), ..LinkError::transient(reason) }.into())
            }
            _ => Ok(self.tell(LinkEvent::Alive).await?),
        }
    }

    async fn handle_subscribed(&mut self, answer: &SubAck) -> Result<(), LinkError> {
        let now = self.now();
        let refused = answer.reasons.iter().position(|reason| reason.is_failure());
        if let Some(place) = refused {
            let filters = self.session().subscriptions();
            let filter = filters.get(place).map_or("?", String::as_str);
            let code = answer.reasons[place].as_str();
            let reason = format!("the broker refuses the subscription to `{filter}`: {code}");
            let waits = self.shared.settings.primary_host.is_some();
            if waits && place + 1 == filters.len() {
                // Without it nobody can tell whether the host is there.
                return Err(lasting(reason));
            }
            self.tell(LinkEvent::NotSubscribed { reason }).await?;
        }
        self.session().handle_subscribed(now);
        if let Some(host) = &self.shared.settings.primary_host {
            info!(client_id = %self.client_id, %host, "Edge node sends while its primary host is there");
        }
        Ok(())
    }

    /// Lets the session do what it can, and passes on what has come of it.
    pub(super) async fn work(&mut self, line: &mut Line, others: bool) -> Result<(), End> {
        let now = self.now();
        let due = self.session().poll_timeout().is_some_and(|due| due <= now.elapsed);
        if due {
            self.session().handle_timeout(now);
        }
        self.session().flush(now);
        self.pass_events(line).await?;
        let waited = !self.is_ready && self.opened.elapsed() >= HOST_PATIENCE;
        if others && !self.is_ready && (self.host_is_away || waited) {
            line.disconnect()?;
            return Err(End::HostIsGone);
        }
        self.ping_if_due(line)?;
        let with_values = self.values_kept_at.elapsed() >= VALUES_INTERVAL;
        if with_values {
            self.values_kept_at = Instant::now();
        }
        let kept = self.session().take_kept(with_values);
        Ok(self.keep(kept).await?)
    }

    /// Returns when [`work`](Self::work) is due, at the latest.
    pub(super) fn wake_at(&self) -> Instant {
        // Who waits for a silent broker is woken by the end of the connection's patience.
        let mut wake = Instant::now() + WAITING_PING;
        if self.covered.is_none() {
            wake = wake.min(self.pinged_at + self.ping_interval());
            wake = self.fresh_since.map_or(wake, |since| wake.min(since + PING_DELAY));
        }
        let due = self.session.as_ref().and_then(Session::poll_timeout);
        due.map_or(wake, |due| wake.min(self.opened + due))
    }

    /// Says the death of the node, and good-bye.
    pub(super) async fn say_goodbye(&mut self, line: &mut Line) -> Result<(), End> {
        let now = self.now();
        self.session().close(now);
        self.pass_events(line).await?;
        Ok(line.disconnect()?)
    }

    async fn pass_events(&mut self, line: &mut Line) -> Result<(), End> {
        while let Some(event) = self.session().poll_event() {
            match event {
                Event::Publish(message) => self.publish(message, line).await?,
                Event::Ready => {
                    self.is_ready = true;
                    self.tell(LinkEvent::Connected {
                        keep_alive: Some(self.keep_alive),
                        // What a reading takes here is not what it takes elsewhere: the session looks at that.
                        packet_bytes_max: usize::MAX,
                        receive_max: usize::MAX,
                    })
                    .await?;
                }
                Event::Refused { ticket, reason } => {
                    self.answer(ticket, Ack::RefusedPayload { reason }).await?;
                }
                Event::Ignored { reason } => self.ignore(&reason),
                Event::NoRoom { device, metrics, bytes_max } => {
                    let whose = device.as_deref().unwrap_or("the edge node itself");
                    let reason = format!(
                        "the birth of {whose} may have {bytes_max} bytes, which have no room for {metrics} of its metrics: their readings become dead letters"
                    );
                    self.tell(LinkEvent::Degraded { reason }).await?;
                }
                Event::Command { topic, value } => self.pass_command(&topic, &value).await?,
                Event::HostAway => self.host_is_away = true,
                Event::HostLost => {
                    line.disconnect()?;
                    return Err(End::HostIsGone);
                }
            }
        }
        Ok(())
    }

    async fn publish(&mut self, mut message: Message, line: &mut Line) -> Result<(), LinkError> {
        let (bytes, limit) = (message.packet_bytes(), self.broker.packet_bytes_max);
        let tickets = std::mem::take(&mut message.tickets);
        if bytes > limit {
            // The session divides what can be divided: this is the least that an edge node has to say.
            let topic = &message.topic;
            return Err(lasting(format!(
                "`{topic}` has {bytes} bytes, which are more than the {limit} that the broker takes"
            )));
        }
        line.publish(message)?;
        if !tickets.is_empty() {
            self.fresh_since.get_or_insert_with(Instant::now);
            self.fresh.extend(tickets);
        }
        Ok(())
    }

    /// Asks after what was sent, or whether the broker is still there.
    fn ping_if_due(&mut self, line: &mut Line) -> Result<(), LinkError> {
        if self.covered.is_some() {
            return Ok(());
        }
        let is_full = self.fresh.len() >= self.fresh_max;
        let is_old = self.fresh_since.is_some_and(|since| since.elapsed() >= PING_DELAY);
        if is_full || is_old || self.pinged_at.elapsed() >= self.ping_interval() {
            line.ping()?;
            self.covered = Some(std::mem::take(&mut self.fresh));
            self.fresh_since = None;
            self.pinged_at = Instant::now();
        }
        Ok(())
    }

    fn ping_interval(&self) -> Duration {
        if self.is_ready { self.keep_alive } else { self.keep_alive.min(WAITING_PING) }
    }

    /// Passes on what a host writes to a metric.
    async fn pass_command(&mut self, topic: &str, value: &Value) -> Result<(), LinkError> {
        self.next_command = self.next_command.wrapping_add(1);
        let command = self.next_command;
        if let Some(packet_id) = self.message.packet_id {
            self.commands.insert(command, packet_id);
        }
        let incoming = Incoming {
            topic: format!("{COMMANDS}{topic}").into(),
            payload: order(value),
            packet: Some(command),
            retained: self.message.retained,
            content_type: None,
            content_encoding: None,
            reply_to: None,
            said: None,
            beside: None,
        };
        self.tell(LinkEvent::Incoming(incoming)).await
    }

    /// Notes that a message is to be acknowledged once its commands are safe.
    fn owe(
        &mut self,
        packet_id: PacketId,
        commands: u16,
        line: &mut Line,
    ) -> Result<(), LinkError> {
        if commands == 0 {
            return line.acknowledge(packet_id);
        }
        if self.owed.len() >= OWED_MAX {
            return Err(LinkError::transient("the broker sends more than is acknowledged"));
        }
        self.owed.insert(packet_id.as_u16(), commands.into());
        Ok(())
    }

    /// Takes notice that a command is safe.
    pub(super) fn settle(&mut self, command: u16, line: &mut Line) -> Result<(), LinkError> {
        let Some(packet_id) = self.commands.remove(&command) else { return Ok(()) };
        let Some(left) = self.owed.get_mut(&packet_id.as_u16()) else { return Ok(()) };
        *left -= 1;
        if *left > 0 {
            return Ok(());
        }
        self.owed.remove(&packet_id.as_u16());
        line.acknowledge(packet_id)
    }

    fn ignore(&mut self, reason: &str) {
        self.ignored += 1;
        debug!(client_id = %self.client_id, %reason, "Something from a host is not followed");
        if self.reported.is_none_or(|at| at.elapsed() >= REPORT_INTERVAL) {
            self.reported = Some(Instant::now());
            let times = std::mem::take(&mut self.ignored);
            warn!(client_id = %self.client_id, %reason, times, "What hosts send is not all followed");
        }
    }

    async fn answer(&mut self, packet: u16, ack: Ack) -> Result<(), LinkError> {
        self.taken.remove(&packet);
        self.tell(LinkEvent::Answered { packet, answer: Answer::Final(ack) }).await
    }

    async fn keep(&mut self, kept: Vec<Kept>) -> Result<(), LinkError> {
        for Kept { name, value } in kept {
            self.tell(LinkEvent::Keep { name, value }).await?;
        }
        Ok(())
    }

    async fn tell(&self, event: LinkEvent) -> Result<(), LinkError> {
        self.events.send(event).await.map_err(|_| nobody())
    }

    fn now(&self) -> Moment {
        let unix_ms = crate::clock::wall().as_unix_millis();
        Moment { elapsed: self.opened.elapsed(), unix_ms: u64::try_from(unix_ms).unwrap_or(0) }
    }
}

impl Drop for Node {
    /// However the connection has ended, the next one goes on with what is known.
    fn drop(&mut self) {
        let mut left = self.shared.left.lock();
        left.catalog = self.session.take().map(Session::into_memory);
        left.note_unanswered(std::mem::take(&mut self.taken).into_values());
    }
}

/// Returns a value as the gateway's own order.
fn order(value: &Value) -> Bytes {
    let mut order = Vec::from(&b"{\"value\":"[..]);
    json::write_value(value, &mut order);
    order.push(b'}');
    order.into()
}

/// Returns whether a broker that says this may have closed the connection for the sake of a message.
fn cause(reason: ReasonCode) -> Disconnect {
    match reason {
        ReasonCode::Success
        | ReasonCode::ServerBusy
        | ReasonCode::ServerShuttingDown
        | ReasonCode::KeepAliveTimeout
        | ReasonCode::SessionTakenOver
        | ReasonCode::MessageRateTooHigh
        | ReasonCode::QuotaExceeded
        | ReasonCode::AdministrativeAction
        | ReasonCode::UseAnotherServer
        | ReasonCode::ServerMoved
        | ReasonCode::ConnectionRateExceeded
        | ReasonCode::MaximumConnectTime => Disconnect::Otherwise,
        _ => Disconnect::ByPeer,
    }
}
