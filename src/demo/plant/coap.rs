//! Room sensors that PUT their temperature over CoAP, confirmably, and wait for 2.04.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use coap_lite::{
    CoapOption, ContentFormat, MessageClass, MessageType, Packet, RequestType, ResponseType,
};
use tokio::{
    net::UdpSocket,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    super::walk::{Walk, decimal},
    Row, Signal,
    signal::Failures,
};
use crate::supervise::Stage;

/// How often each sensor reports.
const EVERY: Duration = Duration::from_millis(200);
/// The rooms, and the limits of their temperatures.
const ROOMS: [(&str, i64, i64); 2] = [("boiler", 60, 90), ("chiller", 2, 8)];
/// How long the first wait for an acknowledgement is; each next one is twice as long (RFC 7252, section 4.2).
const ACK_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a request is sent again.
const RETRANSMISSIONS_MAX: u32 = 4;
/// How long a separate answer may take after its request was acknowledged.
const SEPARATE_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest datagram that is read; answers to a PUT are far shorter.
const DATAGRAM_BYTES_MAX: usize = 1_500;

/// Starts the sensors.
pub(super) async fn start(gateway: SocketAddr, stage: &mut Stage) -> anyhow::Result<Row> {
    let failures = Arc::<Failures>::default();
    let mut signals = Vec::new();
    for ((room, low, high), seed) in ROOMS.into_iter().zip(1..) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.context("cannot make a UDP socket")?;
        socket.connect(gateway).await.context("cannot use a UDP socket")?;
        let signal = Signal::acknowledged(format!("hall1/{room}/temperature"));
        signals.push(Arc::clone(&signal));
        let sensor = Sensor {
            socket,
            room,
            signal,
            walk: Walk::new(low, high, seed),
            failures: Arc::clone(&failures),
            message_id: 0,
        };
        stage.spawn(sensor.run(stage.stop_token()));
    }
    Ok(Row { protocol: "CoAP", devices: "2 room sensors", signals, failures })
}

struct Sensor {
    socket: UdpSocket,
    room: &'static str,
    signal: Arc<Signal>,
    walk: Walk,
    failures: Arc<Failures>,
    /// Of the last request; also its token.
    message_id: u16,
}

impl Sensor {
    async fn run(mut self, stop: CancellationToken) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let value = decimal(self.walk.step());
            self.signal.show(format!("{value} Cel"));
            self.message_id = self.message_id.wrapping_add(1);
            match self.exchange(&request(self.room, self.message_id, &value)).await {
                Ok(MessageClass::Response(ResponseType::Changed | ResponseType::Created)) => {
                    self.signal.note_acknowledged();
                }
                _ => self.failures.note(),
            }
        }
    }

    /// Sends a confirmable request until it is answered, and returns the code of the answer.
    async fn exchange(&self, request: &[u8]) -> anyhow::Result<MessageClass> {
        let mut patience = ACK_TIMEOUT;
        for _ in 0..=RETRANSMISSIONS_MAX {
            self.socket.send(request).await?;
            match timeout(patience, self.hear()).await {
                Ok(Ok(Heard::Answer { code, acknowledge })) => {
                    self.acknowledge(acknowledge).await?;
                    return Ok(code);
                }
                // It arrived: sending again would not help.
                Ok(Ok(Heard::Acknowledged)) => {
                    return timeout(SEPARATE_TIMEOUT, self.separate_answer()).await?;
                }
                Ok(Ok(Heard::Rejected | Heard::Other)) => bail!("the gateway rejected the request"),
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => patience *= 2,
            }
        }
        bail!("no answer")
    }

    /// Waits for the answer to a request that was acknowledged.
    async fn separate_answer(&self) -> anyhow::Result<MessageClass> {
        loop {
            match self.hear().await? {
                Heard::Answer { code, acknowledge } => {
                    self.acknowledge(acknowledge).await?;
                    return Ok(code);
                }
                Heard::Rejected => bail!("the gateway rejected the request"),
                Heard::Acknowledged | Heard::Other => {}
            }
        }
    }

    /// Waits for a datagram that is about the last request.
    async fn hear(&self) -> std::io::Result<Heard> {
        let mut buffer = [0; DATAGRAM_BYTES_MAX];
        loop {
            let length = self.socket.recv(&mut buffer).await?;
            match read(&buffer[..length], self.message_id) {
                Heard::Other => {}
                heard => return Ok(heard),
            }
        }
    }

    async fn acknowledge(&self, message_id: Option<u16>) -> std::io::Result<()> {
        let Some(message_id) = message_id else { return Ok(()) };
        let mut packet = Packet::new();
        packet.header.set_type(MessageType::Acknowledgement);
        packet.header.code = MessageClass::Empty;
        packet.header.message_id = message_id;
        self.socket.send(&encode(&packet)).await.map(drop)
    }
}

/// What a datagram says about a request.
#[derive(Debug, PartialEq)]
enum Heard {
    /// It is answered; a confirmable answer has to be acknowledged.
    Answer { code: MessageClass, acknowledge: Option<u16> },
    /// It arrived, and the answer comes separately.
    Acknowledged,
    /// It was not understood.
    Rejected,
    /// It is about something else, or is no CoAP message.
    Other,
}

/// Reads a datagram for the request with this message ID and token (RFC 7252, sections 4.2 and 5.3.2).
fn read(datagram: &[u8], message_id: u16) -> Heard {
    let Ok(packet) = tidegate_coap::decode(datagram) else { return Heard::Other };
    let is_answer = packet.get_token() == message_id.to_be_bytes();
    let same_message = packet.header.message_id == message_id;
    let (kind, code) = (packet.header.get_type(), packet.header.code);
    match (kind, code) {
        (MessageType::Reset, _) if same_message => Heard::Rejected,
        (MessageType::Acknowledgement, MessageClass::Empty) if same_message => Heard::Acknowledged,
        (MessageType::Acknowledgement, MessageClass::Response(_)) if same_message && is_answer => {
            Heard::Answer { code, acknowledge: None }
        }
        (MessageType::Confirmable, MessageClass::Response(_)) if is_answer => {
            Heard::Answer { code, acknowledge: Some(packet.header.message_id) }
        }
        (MessageType::NonConfirmable, MessageClass::Response(_)) if is_answer => {
            Heard::Answer { code, acknowledge: None }
        }
        _ => Heard::Other,
    }
}

fn request(room: &str, message_id: u16, value: &str) -> Vec<u8> {
    let mut packet = Packet::new();
    packet.header.set_type(MessageType::Confirmable);
    packet.header.code = MessageClass::Request(RequestType::Put);
    packet.header.message_id = message_id;
    packet.set_token(message_id.to_be_bytes().to_vec());
    for segment in ["sensors", room, "temperature"] {
        packet.add_option(CoapOption::UriPath, segment.into());
    }
    packet.set_content_format(ContentFormat::TextPlain);
    packet.payload = value.into();
    encode(&packet)
}

fn encode(packet: &Packet) -> Vec<u8> {
    packet.to_bytes().expect("a small message of our own can be encoded")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: MessageType, code: MessageClass, message_id: u16, token: &[u8]) -> Vec<u8> {
        let mut packet = Packet::new();
        packet.header.set_type(kind);
        packet.header.code = code;
        packet.header.message_id = message_id;
        packet.set_token(token.to_vec());
        encode(&packet)
    }

    #[test]
    fn only_the_answer_to_the_request_counts() {
        use MessageType::{Acknowledgement, Confirmable, NonConfirmable, Reset};
        let (changed, empty) = (MessageClass::Response(ResponseType::Changed), MessageClass::Empty);
        let answer = |acknowledge| Heard::Answer { code: changed, acknowledge };
        let cases = [
            (message(Acknowledgement, changed, 7, &[0, 7]), answer(None)),
            (message(Acknowledgement, changed, 6, &[0, 7]), Heard::Other),
            (message(Acknowledgement, changed, 7, &[0, 6]), Heard::Other),
            (message(Acknowledgement, empty, 7, &[]), Heard::Acknowledged),
            (message(Acknowledgement, empty, 6, &[]), Heard::Other),
            (message(Confirmable, changed, 900, &[0, 7]), answer(Some(900))),
            (message(NonConfirmable, changed, 900, &[0, 7]), answer(None)),
            (message(Reset, empty, 7, &[]), Heard::Rejected),
            (message(Confirmable, empty, 7, &[]), Heard::Other),
            (b"not CoAP".to_vec(), Heard::Other),
        ];
        for (datagram, expected) in cases {
            assert_eq!(read(&datagram, 7), expected, "{datagram:02x?}");
        }
    }

    #[test]
    fn a_request_names_resource_and_value() {
        let packet = tidegate_coap::decode(&request("boiler", 258, "71.20")).unwrap();
        assert_eq!(packet.header.get_type(), MessageType::Confirmable);
        assert_eq!(packet.header.code, MessageClass::Request(RequestType::Put));
        assert_eq!((packet.header.message_id, packet.get_token()), (258, &[1, 2][..]));
        let path: Vec<_> =
            packet.get_option(CoapOption::UriPath).unwrap().iter().cloned().collect();
        assert_eq!(path, [b"sensors".to_vec(), b"boiler".to_vec(), b"temperature".to_vec()]);
        assert_eq!(packet.payload, b"71.20");
    }
}
