//! Where MQTT packets begin and end, and the little of them that a proxy has to know.

/// Packet types in the upper half of the first byte (MQTT 5.0, section 2.1.2).
pub(super) const CONNECT: u8 = 1;
pub(super) const CONNACK: u8 = 2;
pub(super) const PUBLISH: u8 = 3;
pub(super) const PUBACK: u8 = 4;

/// Takes bytes as they come and gives packets as they were.
#[derive(Debug, Default)]
pub(super) struct Splitter(Vec<u8>);

impl Splitter {
    /// Takes further bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Returns the next whole packet, its first byte and length included.
    pub(super) fn next(&mut self) -> Option<Vec<u8>> {
        let (header, body) = lengths(&self.0)?;
        let rest = self.0.get(header + body..)?.to_vec();
        let mut packet = std::mem::replace(&mut self.0, rest);
        packet.truncate(header + body);
        Some(packet)
    }
}

/// Returns the type of a packet.
pub(super) fn kind(packet: &[u8]) -> u8 {
    packet[0] >> 4
}

/// Returns the identifier of a PUBLISH above quality of service 0, or of a PUBACK.
pub(super) fn packet_id(packet: &[u8]) -> Option<u16> {
    let (header, _) = lengths(packet)?;
    let body = packet.get(header..)?;
    let at = match kind(packet) {
        PUBLISH if packet[0] & 0b110 == 0 => return None,
        PUBLISH => 2 + usize::from(u16::from_be_bytes(*body.first_chunk()?)),
        PUBACK => 0,
        _ => return None,
    };
    body.get(at..)?.first_chunk().map(|id| u16::from_be_bytes(*id))
}

/// Returns the sizes of the fixed header and of what follows it.
fn lengths(bytes: &[u8]) -> Option<(usize, usize)> {
    let digits = bytes.get(1..)?;
    let last = digits.iter().take(4).position(|byte| byte & 0x80 == 0)?;
    let body = digits[..=last].iter().rev();
    let body = body.fold(0, |size, byte| size << 7 | usize::from(byte & 0x7f));
    Some((last + 2, body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::wire;

    #[test]
    fn packets_come_whole_however_their_bytes_come() {
        let topic = wire::string("a/b");
        let publish = wire::packet(0x32, &[&topic[..], &[0x12, 0x34], &[7; 300]].concat());
        let unanswered = wire::packet(0x30, &[&topic[..], b"x"].concat());
        let puback = wire::packet(0x40, &[0, 9, 0x10]);
        let all = [&publish[..], &unanswered, &puback].concat();
        for size in [1, 3, 100, all.len()] {
            let mut splitter = Splitter::default();
            let mut packets = Vec::new();
            for chunk in all.chunks(size) {
                splitter.push(chunk);
                packets.extend(std::iter::from_fn(|| splitter.next()));
            }
            assert_eq!(packets, [&publish[..], &unanswered, &puback], "in pieces of {size}");
        }
        let ids = [&publish, &unanswered, &puback].map(|packet| packet_id(packet));
        assert_eq!(ids, [Some(0x1234), None, Some(9)]);
        assert_eq!((kind(&publish), kind(&puback)), (PUBLISH, PUBACK));
    }
}
