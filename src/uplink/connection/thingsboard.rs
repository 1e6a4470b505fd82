//! A gateway of ThingsBoard: MQTT 3.1.1 by rumqttc, several readings in a message, and calls that are commands.
//!
//! Each reading has a number of its own here, and is answered when the message is that it went up in. What the server
//! cannot read it closes the connection for, so nothing of that kind is sent.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    pin::pin,
    sync::Arc,
};

use bytes::Bytes;
use rumqttc::{AsyncClient, QoS};
use tidegate_model::{Quality, Topic, TopicFilter};
use tidegate_uplink::{
    Ack, ReplyTo, TypedReading,
    decoder::Limits,
    thingsboard::{
        BoardCall, BoardOrder, BoardRow, BoardSettings, BoardSheet, CALL_TOPIC, CONNECT_TOPIC,
        OWN_CALL_FILTER, answer_payload, answer_topic, own_call,
    },
};
use tokio::sync::mpsc;
use tracing::debug;

use super::{
    super::{
        link::{Answer, Incoming, LinkError, LinkEvent, Up},
        settings::{CommandRoute, LinkSettings},
        tunnel::Tunnel,
    },
    Driver, EVENTS, REQUESTS, v4,
};

/// What the topics of commands begin with on their way through the gateway.
const COMMANDS: &str = "$thingsboard/command/";
/// Messages that may be without an answer.
const SHEETS_MAX: usize = 16;
/// Topics of which is known what quality they have been told to have; of others it is told each time.
const QUALITIES_MAX: usize = 100_000;
/// Devices that are said to be there; others show by their readings.
const DEVICES_MAX: usize = 10_000;

/// Returns the way of commands of a gateway, if any may come.
pub fn board_commands(board: &BoardSettings) -> Option<CommandRoute> {
    let filter = TopicFilter::new(&format!("{COMMANDS}#")).ok()?;
    CommandRoute::new(filter).ok().filter(|_| board.commands)
}

/// What the run asks of the connection.
#[derive(Debug)]
struct Request {
    packet: u16,
    topic: Arc<str>,
    payload: Bytes,
    /// Absent for the outcome of a command.
    typed: Option<Arc<TypedReading>>,
}

/// Hands readings over.
#[derive(Debug)]
pub(super) struct Client {
    mqtt: AsyncClient,
    requests: mpsc::Sender<Request>,
    next: u16,
}

impl Client {
    pub(super) fn publish(&mut self, up: Up) -> Result<(), LinkError> {
        self.next = self.next.wrapping_add(1);
        let Up { topic, payload, typed, .. } = up;
        let taken = self.requests.try_send(Request { packet: self.next, topic, payload, typed });
        taken.map_err(|_| LinkError::transient("the connection takes no more messages"))
    }

    pub(super) fn acknowledge(&self, packet: u16) -> Result<(), LinkError> {
        v4::acknowledge(&self.mqtt, packet)
    }

    /// Begins to say good-bye; returns whether the connection will end by that.
    pub(super) fn leave(&self) -> bool {
        self.mqtt.try_disconnect().is_ok()
    }
}

/// Starts to connect.
///
/// # Errors
///
/// If the system lacks a descriptor.
pub(super) fn open(
    board: &Arc<BoardSettings>,
    settings: &LinkSettings,
    endpoint: usize,
    events: mpsc::Sender<LinkEvent>,
) -> Result<(Client, Driver), LinkError> {
    let tunnel = Tunnel::open().map_err(|error| LinkError::transient(error.to_string()))?;
    let (requests, queue) = mpsc::channel(REQUESTS);
    let (raw, said) = mpsc::channel(EVENTS);
    let filters = [CALL_TOPIC, OWN_CALL_FILTER].map(v4::at_least_once);
    let login = settings.endpoints[endpoint].login.get();
    let opening = v4::Opening {
        login: login.as_ref(),
        filters: if board.commands { filters.into() } else { Vec::new() },
        keeps_session: board.commands,
        tunnel: tunnel.name(),
    };
    let (mqtt, driver) = v4::open(settings, opening, raw, std::convert::identity);
    let gateway = Gateway {
        board: Arc::clone(board),
        mqtt: mqtt.clone(),
        events,
        handed_over: VecDeque::new(),
        in_flight: HashMap::new(),
        qualities: HashMap::new(),
        devices: HashSet::new(),
    };
    let driver = gateway.drive(driver, queue, said);
    let driver = Box::pin(tunnel.drive(settings.clone(), endpoint, driver));
    Ok((Client { mqtt, requests, next: 0 }, driver))
}

/// One connection, driven to its end.
struct Gateway {
    board: Arc<BoardSettings>,
    mqtt: AsyncClient,
    events: mpsc::Sender<LinkEvent>,
    /// The readings of messages that are not on their way yet, in order; none of what is the connection's own.
    handed_over: VecDeque<Vec<u16>>,
    in_flight: HashMap<u16, Vec<u16>>,
    /// What was last told of a topic.
    qualities: HashMap<Arc<str>, Quality>,
    devices: HashSet<String>,
}

impl Gateway {
    async fn drive(
        mut self,
        driver: impl Future<Output = LinkError>,
        mut queue: mpsc::Receiver<Request>,
        mut said: mpsc::Receiver<LinkEvent>,
    ) -> LinkError {
        let mut driver = pin!(driver);
        loop {
            let has_room = self.handed_over.len() + self.in_flight.len() < SHEETS_MAX;
            let worked = tokio::select! {
                biased;
                Some(event) = said.recv() => self.handle_event(event).await,
                error = &mut driver => {
                    // What was said before the end counts.
                    while let Ok(event) = said.try_recv() {
                        if let Err(error) = self.handle_event(event).await {
                            return error;
                        }
                    }
                    return error;
                }
                Some(request) = queue.recv(), if has_room => {
                    self.take(request, &mut queue).await
                }
            };
            if let Err(error) = worked {
                return error;
            }
        }
    }

    async fn tell(&self, event: LinkEvent) -> Result<(), LinkError> {
        self.events.send(event).await.map_err(|_| LinkError::transient("nobody listens"))
    }

    /// Takes a request and those behind it that go with it.
    async fn take(
        &mut self,
        first: Request,
        queue: &mut mpsc::Receiver<Request>,
    ) -> Result<(), LinkError> {
        let mut sheet: Option<(BoardSheet, Vec<u16>)> = None;
        let mut next = Some(first);
        while let Some(request) = next {
            self.tell(LinkEvent::Sent { packet: request.packet }).await?;
            match &request.typed {
                None => {
                    self.send(sheet.take())?;
                    self.answer(&request)?;
                }
                Some(reading) => match self.row(&request.topic, reading) {
                    Err(reason) => {
                        let answer = Answer::Final(Ack::RefusedPayload { reason });
                        self.tell(LinkEvent::Answered { packet: request.packet, answer }).await?;
                    }
                    Ok(row) => {
                        self.introduce(row.device())?;
                        match &mut sheet {
                            Some((sheet, packets)) if sheet.takes(&row) => {
                                sheet.push(row);
                                packets.push(request.packet);
                            }
                            _ => {
                                let made = (BoardSheet::new(row), vec![request.packet]);
                                self.send(sheet.replace(made))?;
                            }
                        }
                    }
                },
            }
            let has_room = self.handed_over.len() + self.in_flight.len() < SHEETS_MAX;
            next = if has_room { queue.try_recv().ok() } else { None };
        }
        self.send(sheet)
    }

    /// Makes a row of a reading; its quality is told when it is not what was told last on this connection.
    fn row(&mut self, topic: &Arc<str>, reading: &TypedReading) -> Result<BoardRow, String> {
        let quality = reading.status.quality();
        let is_told = self.qualities.get(topic) == Some(&quality);
        let told = Some(quality).filter(|_| self.board.quality && !is_told);
        let row = BoardRow::new(self.board.place(topic), reading, told);
        let row = row.map_err(|refusal| refusal.to_string())?;
        if told.is_some()
            && (self.qualities.len() < QUALITIES_MAX || self.qualities.contains_key(topic))
        {
            self.qualities.insert(Arc::clone(topic), quality);
        }
        Ok(row)
    }

    /// Says that a device is there before its first reading, so that calls to it come.
    fn introduce(&mut self, device: Option<&str>) -> Result<(), LinkError> {
        let Some(device) = device.filter(|device| !self.devices.contains(*device)) else {
            return Ok(());
        };
        if self.devices.len() >= DEVICES_MAX {
            return Ok(());
        }
        self.devices.insert(device.to_owned());
        self.publish(CONNECT_TOPIC, self.board.connect_payload(device), Vec::new())
    }

    fn send(&mut self, sheet: Option<(BoardSheet, Vec<u16>)>) -> Result<(), LinkError> {
        let Some((sheet, packets)) = sheet else { return Ok(()) };
        self.publish(sheet.topic(), sheet.payload(), packets)
    }

    /// Sends the outcome of a call to who has made it.
    fn answer(&mut self, request: &Request) -> Result<(), LinkError> {
        let packets = vec![request.packet];
        match (answer_topic(&request.topic), answer_payload(&request.topic, &request.payload)) {
            (Some(topic), Some(payload)) => self.publish(&topic, payload, packets),
            // Nothing else is handed over without a reading.
            _ => Err(LinkError::transient(format!("`{}` is no answer", request.topic))),
        }
    }

    fn publish(
        &mut self,
        topic: &str,
        payload: Vec<u8>,
        packets: Vec<u16>,
    ) -> Result<(), LinkError> {
        let taken = self.mqtt.try_publish(topic, QoS::AtLeastOnce, false, payload);
        taken.map_err(|_| LinkError::transient("the connection takes no more messages"))?;
        self.handed_over.push_back(packets);
        Ok(())
    }

    async fn handle_event(&mut self, event: LinkEvent) -> Result<(), LinkError> {
        match event {
            LinkEvent::Sent { packet } => {
                if let Some(packets) = self.handed_over.pop_front() {
                    self.in_flight.insert(packet, packets);
                }
                Ok(())
            }
            LinkEvent::Answered { packet, .. } => {
                // MQTT 3.1.1 knows no other answer than that it is taken.
                for packet in self.in_flight.remove(&packet).unwrap_or_default() {
                    let answer = Answer::Final(Ack::Accepted);
                    self.tell(LinkEvent::Answered { packet, answer }).await?;
                }
                self.tell(LinkEvent::Alive).await
            }
            LinkEvent::Incoming(incoming) => self.handle_call(incoming).await,
            other => self.tell(other).await,
        }
    }

    /// Hands a call on as a command, or answers that it is none.
    async fn handle_call(&mut self, incoming: Incoming) -> Result<(), LinkError> {
        let topic = std::str::from_utf8(&incoming.topic).unwrap_or_default();
        let (payload, limits) = (&incoming.payload, &Limits::DOWNLINK);
        let read = match own_call(topic) {
            Some(call) => Some(self.board.read_own_call(call, payload, limits)),
            None => self.board.read_call(payload, limits),
        };
        let Some(BoardOrder { call, order }) = read else {
            debug!("ThingsBoard sent something that is no call");
            // The run acknowledges it.
            return self.tell(LinkEvent::Incoming(incoming)).await;
        };
        let answer = call.answer();
        match order.map(|(target, body)| (Topic::new(&target), target, body)) {
            Ok((Ok(_), target, body)) => {
                let incoming = Incoming {
                    topic: format!("{COMMANDS}{target}").into(),
                    payload: body.into(),
                    reply_to: Some(ReplyTo { topic: answer.into(), correlation: None }),
                    ..incoming
                };
                self.tell(LinkEvent::Incoming(incoming)).await
            }
            Ok((Err(error), ..)) => self.refuse(&answer, &error.to_string(), incoming).await,
            Err(reason) => self.refuse(&answer, &reason, incoming).await,
        }
    }

    async fn refuse(
        &mut self,
        answer: &str,
        reason: &str,
        incoming: Incoming,
    ) -> Result<(), LinkError> {
        let refusal = BoardCall::refusal(reason);
        if let (Some(topic), Some(payload)) =
            (answer_topic(answer), answer_payload(answer, &refusal))
        {
            self.publish(&topic, payload, Vec::new())?;
        }
        self.tell(LinkEvent::Incoming(incoming)).await
    }
}
