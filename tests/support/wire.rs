//! MQTT by hand: packets as bytes on a socket, sound or not, so that a test decides about each of them.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use super::wait;

/// One connection.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    version: u8,
    /// What was read and is not yet a packet.
    input: Vec<u8>,
}

/// What a client says in its CONNECT.
#[derive(Clone, Debug)]
pub(crate) struct Hello<'a> {
    /// 4 or 5.
    pub(crate) version: u8,
    pub(crate) client_id: &'a str,
    pub(crate) clean: bool,
    /// In seconds; 3.1.1 has no word for it.
    pub(crate) expiry: u32,
    pub(crate) login: Option<(&'a str, &'a str)>,
    /// Topic and payload, with quality of service 1.
    pub(crate) will: Option<(&'a str, &'a str)>,
}

impl Default for Hello<'_> {
    fn default() -> Self {
        Self { version: 5, client_id: "", clean: true, expiry: 0, login: None, will: None }
    }
}

/// A packet that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    /// The first byte: type and flags.
    pub(crate) head: u8,
    pub(crate) body: Vec<u8>,
}

/// A PUBLISH that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) payload: String,
    pub(crate) qos: u8,
    pub(crate) dup: bool,
    pub(crate) packet_id: u16,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// After a DISCONNECT with this reason.
    Told(u8),
    /// Without a word.
    Cut,
}

impl Hello<'_> {
    /// Returns the CONNECT.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let is_5 = self.version == 5;
        let mut flags = u8::from(self.clean) << 1;
        let mut payload = string(self.client_id);
        if let Some((topic, text)) = self.will {
            flags |= 0x0c;
            payload.extend(if is_5 { &[0][..] } else { &[] });
            payload.extend([string(topic), string(text)].concat());
        }
        if let Some((name, password)) = self.login {
            flags |= 0xc0;
            payload.extend([string(name), string(password)].concat());
        }
        let mut body = [string("MQTT"), vec![self.version, flags, 0, 60]].concat();
        if is_5 {
            body.extend([5, 0x11]);
            body.extend(self.expiry.to_be_bytes());
        }
        packet(0x10, &[body, payload].concat())
    }
}

impl Wire {
    /// Opens a connection and says nothing.
    #[track_caller]
    pub(crate) fn open(port: u16, version: u8) -> Self {
        Self::try_open(port, version).expect("the listener takes us")
    }

    /// Opens a connection if somebody listens.
    pub(crate) fn try_open(port: u16, version: u8) -> Option<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_nodelay(true).expect("a socket takes options");
        Some(Self { stream, version, input: Vec::new() })
    }

    /// Connects, and returns whether the session was present, or the reason of the refusal.
    #[track_caller]
    pub(crate) fn try_connect(port: u16, hello: &Hello<'_>) -> (Self, Result<bool, u8>) {
        let mut wire = Self::open(port, hello.version);
        wire.send(&hello.to_bytes());
        let answer = wire.expect(2);
        let result =
            if answer.body[1] == 0 { Ok(answer.body[0] == 1) } else { Err(answer.body[1]) };
        (wire, result)
    }

    /// Connects; returns whether the session was present.
    #[track_caller]
    pub(crate) fn connect(port: u16, hello: &Hello<'_>) -> (Self, bool) {
        let (wire, result) = Self::try_connect(port, hello);
        (wire, result.unwrap_or_else(|reason| panic!("{hello:?} was refused: {reason:#x}")))
    }

    /// Returns the version that is spoken: 4 or 5.
    pub(crate) fn version(&self) -> u8 {
        self.version
    }

    /// Returns whether the gateway has kept the connection for as long as a clean CONNECT and its answer take.
    pub(crate) fn gets_in(mut self) -> bool {
        self.send(&Hello::default().to_bytes());
        matches!(self.read(wait::DEADLINE), Ok(Some(packet)) if packet.head == 0x20)
    }

    /// Waits for a PUBLISH, which must come next.
    #[track_caller]
    pub(crate) fn expect_publish(&mut self) -> Packet {
        match self.read(wait::DEADLINE) {
            Ok(Some(packet)) if packet.head >> 4 == 3 => packet,
            other => panic!("waited for a PUBLISH, found {other:?}"),
        }
    }

    /// Sends bytes; the far side may have closed, which the next read tells.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Says that nothing more will be sent.
    pub(crate) fn close_half(&mut self) {
        // The far side may have closed, which the next read tells.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Sends a text and returns the head of the answer, as HTTP has one.
    #[track_caller]
    pub(crate) fn exchange(&mut self, text: &str) -> String {
        self.send(text.as_bytes());
        self.stream.set_read_timeout(Some(wait::DEADLINE)).expect("a socket takes a timeout");
        let mut answer = Vec::new();
        let mut byte = [0];
        while !answer.ends_with(b"\r\n\r\n") && matches!(self.stream.read(&mut byte), Ok(1)) {
            answer.push(byte[0]);
        }
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Subscribes, and returns the answer to the one filter.
    #[track_caller]
    pub(crate) fn subscribe(&mut self, filter: &str, qos: u8) -> u8 {
        let properties: &[u8] = if self.version == 5 { &[0] } else { &[] };
        let body = [&[0, 9][..], properties, &string(filter), &[qos]].concat();
        self.send(&packet(0x82, &body));
        *self.expect(9).body.last().expect("a SUBACK has an answer")
    }

    /// Publishes with quality of service 1, and returns the reason of the PUBACK.
    #[track_caller]
    pub(crate) fn publish(&mut self, topic: &str, payload: &str) -> u8 {
        self.send_publish(topic, payload, 1, 7);
        self.expect(4).body.get(2).copied().unwrap_or(0)
    }

    /// Sends a PUBLISH and waits for nothing.
    pub(crate) fn send_publish(&mut self, topic: &str, payload: &str, qos: u8, packet_id: u16) {
        self.send(&self.publish_packet(topic.as_bytes(), payload, qos, packet_id, &[]));
    }

    /// Returns a PUBLISH with these properties.
    pub(crate) fn publish_packet(
        &self,
        topic: &[u8],
        payload: &str,
        qos: u8,
        packet_id: u16,
        properties: &[u8],
    ) -> Vec<u8> {
        let mut body = binary(topic);
        if qos > 0 {
            body.extend(packet_id.to_be_bytes());
        }
        if self.version == 5 {
            body.extend(length(properties.len()));
            body.extend(properties);
        }
        body.extend(payload.as_bytes());
        packet(0x30 | qos << 1, &body)
    }

    /// Sends an acknowledgement, such as 4 for PUBACK and 5 for PUBREC.
    pub(crate) fn acknowledge(&mut self, kind: u8, packet_id: u16) {
        let flags = if kind == 6 { 2 } else { 0 };
        self.send(&packet(kind << 4 | flags, &packet_id.to_be_bytes()));
    }

    /// Waits for a packet of this type and passes over messages before it.
    #[track_caller]
    pub(crate) fn expect(&mut self, kind: u8) -> Packet {
        loop {
            match self.read(wait::DEADLINE) {
                Ok(Some(packet)) if packet.head >> 4 == kind => return packet,
                Ok(Some(packet)) if packet.head >> 4 == 3 => {}
                other => panic!("waited for a packet of type {kind}, found {other:?}"),
            }
        }
    }

    /// Returns the next message, if one comes within `limit`.
    #[track_caller]
    pub(crate) fn message(&mut self, limit: Duration) -> Option<Message> {
        match self.read(limit) {
            Ok(packet) => packet.map(|packet| self.parse(&packet)),
            Err(end) => panic!("waited for a message, found the end: {end:?}"),
        }
    }

    /// Returns all messages that come until nothing has come for as long as `quiet`; each is acknowledged (QoS 1).
    #[track_caller]
    pub(crate) fn messages(&mut self, quiet: Duration) -> Vec<Message> {
        let mut messages = Vec::new();
        while let Some(message) = self.message(quiet) {
            if message.qos == 1 {
                self.acknowledge(4, message.packet_id);
            }
            messages.push(message);
        }
        messages
    }

    /// Reads a PUBLISH.
    #[track_caller]
    pub(crate) fn parse(&self, packet: &Packet) -> Message {
        assert_eq!(packet.head >> 4, 3, "a PUBLISH: {packet:?}");
        let (size, rest) = packet.body.split_first_chunk::<2>().expect("a topic");
        let (topic, mut rest) = rest.split_at(usize::from(u16::from_be_bytes(*size)));
        let qos = packet.head >> 1 & 3;
        let mut packet_id = 0;
        if qos > 0 {
            let (id, behind) = rest.split_first_chunk::<2>().expect("a packet identifier");
            (packet_id, rest) = (u16::from_be_bytes(*id), behind);
        }
        if self.version == 5 {
            // Properties in these tests are shorter than 128 bytes.
            rest = &rest[1 + usize::from(rest[0])..];
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let dup = packet.head & 8 != 0;
        Message { topic: text(topic), payload: text(rest), qos, dup, packet_id }
    }

    /// Waits until the gateway ends the connection, passing over messages.
    #[track_caller]
    pub(crate) fn end(&mut self) -> End {
        let mut told = None;
        loop {
            match self.read(wait::DEADLINE) {
                Err(End::Cut) => return told.map_or(End::Cut, End::Told),
                Err(end) => return end,
                Ok(Some(packet)) if packet.head == 0xe0 => {
                    told = Some(packet.body.first().copied().unwrap_or(0));
                }
                Ok(Some(_)) => {}
                Ok(None) => panic!("the connection was not ended"),
            }
        }
    }

    /// Reads one packet; nothing if none comes within `limit`.
    pub(crate) fn read(&mut self, limit: Duration) -> Result<Option<Packet>, End> {
        loop {
            if let Some(packet) = self.take_packet() {
                return Ok(Some(packet));
            }
            self.stream.set_read_timeout(Some(limit)).expect("a socket takes a timeout");
            let mut chunk = [0; 4_096];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(End::Cut),
                Ok(count) => self.input.extend(&chunk[..count]),
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    return Ok(None);
                }
                Err(_) => return Err(End::Cut),
            }
        }
    }

    fn take_packet(&mut self) -> Option<Packet> {
        let (&head, rest) = self.input.split_first()?;
        let size_bytes = rest.iter().take(4).position(|byte| byte & 0x80 == 0)? + 1;
        let size = rest[..size_bytes]
            .iter()
            .rev()
            .fold(0, |size, byte| size << 7 | usize::from(byte & 0x7f));
        let body = rest.get(size_bytes..size_bytes + size)?.to_vec();
        self.input.drain(..1 + size_bytes + size);
        Some(Packet { head, body })
    }
}

/// Writes a packet with its length.
pub(crate) fn packet(head: u8, body: &[u8]) -> Vec<u8> {
    [&[head][..], &length(body.len()), body].concat()
}

/// Writes a text with its length.
pub(crate) fn string(text: &str) -> Vec<u8> {
    binary(text.as_bytes())
}

/// Writes bytes with their length.
pub(crate) fn binary(bytes: &[u8]) -> Vec<u8> {
    let size = u16::try_from(bytes.len()).expect("at most 65,535 bytes");
    [&size.to_be_bytes()[..], bytes].concat()
}

/// Writes a variable byte integer.
pub(crate) fn length(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = u8::try_from(value & 0x7f).expect("seven bits");
        value >>= 7;
        bytes.push(if value > 0 { byte | 0x80 } else { byte });
        if value == 0 {
            return bytes;
        }
    }
}
