//! MQTT 3.1.1 devices: QoS 1 publishes, as many open as the window allows.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use super::{Client, LOOK, Tenths, or_nothing, refused};

const PUBLISH_QOS_1: u8 = 0x32;
const CONNACK_ACCEPTED: [u8; 4] = [0x20, 2, 0, 0];

/// One connection.
#[derive(Debug)]
pub(in crate::bench) struct Mqtt {
    stream: TcpStream,
    packet_id: u16,
    output: Vec<u8>,
    /// Bytes of a PUBACK whose rest has not come.
    cut: Vec<u8>,
}

impl Mqtt {
    pub(in crate::bench) fn connect(port: u16) -> io::Result<Self> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        // CONNECT with clean session, no keep-alive and an empty client id (section 3.1).
        stream.write_all(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00")?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer)?;
        if answer != CONNACK_ACCEPTED {
            return Err(refused(format_args!("{answer:02x?} to CONNECT")));
        }
        stream.set_read_timeout(Some(LOOK))?;
        Ok(Self { stream, packet_id: 0, output: Vec::new(), cut: Vec::new() })
    }

    /// Makes a publish of less than 16 KiB, to be sent by the next flush.
    pub(in crate::bench) fn publish(&mut self, topic: &str, payload: &[u8]) {
        self.packet_id = self.packet_id.checked_add(1).unwrap_or(1);
        let length = u16::try_from(2 + topic.len() + 2 + payload.len())
            .ok()
            .filter(|length| *length < 0x4000)
            .expect("packets are small");
        let [low, high] = [length & 0x7f, length >> 7].map(|part| u8::try_from(part).unwrap_or(0));
        self.output.push(PUBLISH_QOS_1);
        if high > 0 {
            self.output.extend([low | 0x80, high]);
        } else {
            self.output.push(low);
        }
        let topic_length = u16::try_from(topic.len()).expect("topics are short");
        self.output.extend(topic_length.to_be_bytes());
        self.output.extend(topic.bytes());
        self.output.extend(self.packet_id.to_be_bytes());
        self.output.extend(payload);
    }
}

impl Client for Mqtt {
    fn send(&mut self, device: usize, value: Tenths) -> io::Result<()> {
        self.publish(&topic(device), value.to_string().as_bytes());
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.output)?;
        self.output.clear();
        Ok(())
    }

    fn receive(&mut self) -> io::Result<usize> {
        let mut buffer = [0; 4_096];
        let length = or_nothing(self.stream.read(&mut buffer))?;
        self.cut.extend(&buffer[..length]);
        let (packets, rest) = self.cut.as_chunks::<4>();
        if let Some(packet) = packets.iter().find(|packet| packet[..2] != [0x40, 2]) {
            return Err(refused(format_args!("{packet:02x?} to PUBLISH")));
        }
        let (count, rest) = (packets.len(), rest.to_vec());
        self.cut = rest;
        Ok(count)
    }
}

/// Returns the topic of a device, the same that mappings give it.
pub(in crate::bench) fn topic(device: usize) -> String {
    format!("hall1/device-{device}/temperature")
}
