//! MQTT 3.1.1 packets as bytes: written beforehand, read without copies.

use std::time::{Duration, Instant};

pub(super) const CONNACK: u8 = 0x20;
pub(super) const PUBLISH: u8 = 0x30;
pub(super) const PUBACK: u8 = 0x40;
pub(super) const PUBREC: u8 = 0x50;
pub(super) const PUBREL: u8 = 0x62;
pub(super) const PUBCOMP: u8 = 0x70;
pub(super) const SUBACK: u8 = 0x90;

/// Longer than any load lasts; not 0, which some brokers take for a mistake.
const KEEP_ALIVE_S: u16 = 600;

/// What each payload begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) publisher: u32,
    pub(super) number: u64,
    /// Since the beginning of the load.
    pub(super) sent: Duration,
}

impl Stamp {
    /// How long it is.
    pub(super) const BYTES: usize = 20;

    fn write(self, payload: &mut [u8]) {
        payload[..4].copy_from_slice(&self.publisher.to_be_bytes());
        payload[4..12].copy_from_slice(&self.number.to_be_bytes());
        let nanos = u64::try_from(self.sent.as_nanos()).unwrap_or(u64::MAX);
        payload[12..20].copy_from_slice(&nanos.to_be_bytes());
    }

    fn read(payload: &[u8]) -> Option<Self> {
        let (publisher, rest) = payload.split_first_chunk::<4>()?;
        let (number, rest) = rest.split_first_chunk::<8>()?;
        let (nanos, _) = rest.split_first_chunk::<8>()?;
        Some(Self {
            publisher: u32::from_be_bytes(*publisher),
            number: u64::from_be_bytes(*number),
            sent: Duration::from_nanos(u64::from_be_bytes(*nanos)),
        })
    }
}

/// A PUBLISH with room for packet identifier and stamp.
#[derive(Clone, Debug)]
pub(super) struct Template {
    bytes: Vec<u8>,
    packet_id_at: Option<usize>,
    payload_at: usize,
}

impl Template {
    pub(super) fn new(topic: &str, qos: u8, payload: usize) -> Self {
        let mut rest = Vec::new();
        put_text(&mut rest, topic);
        let packet_id_at = (qos > 0).then_some(rest.len());
        rest.extend(std::iter::repeat_n(0, if qos > 0 { 2 } else { 0 }));
        let payload_at = rest.len();
        rest.resize(payload_at + payload.max(Stamp::BYTES), b'.');
        let bytes = packet(PUBLISH | qos << 1, &rest);
        let header = bytes.len() - rest.len();
        Self {
            bytes,
            packet_id_at: packet_id_at.map(|at| at + header),
            payload_at: payload_at + header,
        }
    }

    /// Appends the packet with its stamp.
    pub(super) fn put(&mut self, output: &mut Vec<u8>, packet_id: u16, stamp: Stamp) {
        if let Some(at) = self.packet_id_at {
            self.bytes[at..at + 2].copy_from_slice(&packet_id.to_be_bytes());
        }
        stamp.write(&mut self.bytes[self.payload_at..]);
        output.extend_from_slice(&self.bytes);
    }
}

pub(super) fn connect(client_id: &str, clean: bool) -> Vec<u8> {
    let mut rest = b"\x00\x04MQTT\x04".to_vec();
    rest.push(if clean { 2 } else { 0 });
    rest.extend_from_slice(&KEEP_ALIVE_S.to_be_bytes());
    put_text(&mut rest, client_id);
    packet(0x10, &rest)
}

pub(super) fn subscribe(filters: &[impl AsRef<str>], qos: u8) -> Vec<u8> {
    let mut rest = vec![0, 1];
    for filter in filters {
        put_text(&mut rest, filter.as_ref());
        rest.push(qos);
    }
    packet(0x82, &rest)
}

/// A PUBLISH with quality of service 1 that is retained.
pub(super) fn retained(topic: &str, packet_id: u16, payload: &[u8]) -> Vec<u8> {
    let mut rest = Vec::new();
    put_text(&mut rest, topic);
    rest.extend_from_slice(&packet_id.to_be_bytes());
    rest.extend_from_slice(payload);
    packet(PUBLISH | 0b11, &rest)
}

pub(super) fn ack(kind: u8, packet_id: u16) -> [u8; 4] {
    let [high, low] = packet_id.to_be_bytes();
    [kind, 2, high, low]
}

/// A packet that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    Publish {
        qos: u8,
        packet_id: u16,
        stamp: Stamp,
    },
    Ack {
        kind: u8,
        packet_id: u16,
    },
    /// CONNACK or SUBACK: its first byte and its last, 0 to 2 where all is well.
    Answer {
        kind: u8,
        code: u8,
    },
}

/// Returns where the first packet's body begins and ends; `None` if its length is not there.
fn extent(input: &[u8]) -> Option<(usize, usize)> {
    let mut length = 0;
    let mut header = 1;
    loop {
        let byte = input.get(header)?;
        length |= usize::from(byte & 0x7f) << (7 * (header - 1));
        header += 1;
        if byte & 0x80 == 0 {
            return Some((header, header + length));
        }
    }
}

/// Returns how many bytes of `input` are whole packets.
pub(super) fn whole(input: &[u8]) -> usize {
    let mut at = 0;
    while let Some((_, end)) = extent(&input[at..])
        && at + end <= input.len()
    {
        at += end;
    }
    at
}

/// Returns the first packet of `input` and its length; `None` if it is not whole, an error if it is none of ours.
pub(super) fn next(input: &[u8]) -> Result<Option<(Came, usize)>, u8> {
    let Some((header, end)) = extent(input) else { return Ok(None) };
    let Some(body) = input.get(header..end) else { return Ok(None) };
    let came = read(input[0], body).ok_or(input[0])?;
    Ok(Some((came, end)))
}

fn read(first: u8, body: &[u8]) -> Option<Came> {
    if first & 0xf0 != PUBLISH {
        return match first {
            CONNACK | SUBACK => Some(Came::Answer { kind: first, code: *body.last()? }),
            PUBACK | PUBREC | PUBREL | PUBCOMP => {
                Some(Came::Ack { kind: first, packet_id: number(body)? })
            }
            _ => None,
        };
    }
    let qos = first >> 1 & 3;
    let after_topic = body.get(2 + usize::from(number(body)?)..)?;
    let (packet_id, payload) =
        if qos > 0 { (number(after_topic)?, after_topic.get(2..)?) } else { (0, after_topic) };
    Some(Came::Publish { qos, packet_id, stamp: Stamp::read(payload)? })
}

fn number(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

fn put_text(output: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).expect("names of loads are short");
    output.extend_from_slice(&length.to_be_bytes());
    output.extend_from_slice(text.as_bytes());
}

fn packet(first: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut length = rest.len();
    while length >= 0x80 {
        bytes.push(u8::try_from(length & 0x7f).expect("seven bits") | 0x80);
        length >>= 7;
    }
    bytes.push(u8::try_from(length).expect("seven bits"));
    bytes.extend_from_slice(rest);
    bytes
}

/// Returns how long ago `since` was, as stamps count.
pub(super) fn stamp_now(since: Instant) -> Duration {
    since.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_read_as_they_were_written() {
        let stamp = Stamp { publisher: 7, number: 1 << 40, sent: Duration::from_micros(3) };
        for (qos, packet_id) in [(0, 0), (1, 258)] {
            let mut bytes = Vec::new();
            Template::new("a/b", qos, 200).put(&mut bytes, packet_id, stamp);
            let came = Came::Publish { qos, packet_id, stamp };
            assert_eq!(next(&bytes), Ok(Some((came, bytes.len()))));
            assert_eq!(next(&bytes[..bytes.len() - 1]), Ok(None));
        }
        assert_eq!(next(&ack(PUBREL, 9)), Ok(Some((Came::Ack { kind: PUBREL, packet_id: 9 }, 4))));
        assert_eq!(next(&[0xd0, 0]), Err(0xd0));
        assert_eq!(whole(&[0xd0, 0, 0x40, 2, 0, 9, 0x40, 2, 0]), 6);
    }
}
