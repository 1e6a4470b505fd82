//! The decoder of packets: whole, in pieces, and back again.

use bytes::BytesMut;
use tidegate_mqtt::{Limits, ProtocolError, ProtocolVersion, packet::Packet};

/// Decodes a stream of MQTT 3.1.1.
///
/// # Panics
///
/// If packets come out otherwise in pieces, or are not what they were after being written and read again.
pub fn mqtt_v311(data: &[u8]) {
    stream(data, ProtocolVersion::V311);
}

/// Decodes a stream of MQTT 5.0.
///
/// # Panics
///
/// As [`mqtt_v311`].
pub fn mqtt_v5(data: &[u8]) {
    stream(data, ProtocolVersion::V5);
}

/// Packets, and why there are no more of them, if not for want of bytes.
type Decoded = (Vec<Packet>, Option<ProtocolError>);

fn stream(data: &[u8], version: ProtocolVersion) {
    // The first byte says how the rest is cut into pieces.
    let Some((&piece, wire)) = data.split_first() else { return };
    let whole = decode(wire, wire.len().max(1), version);
    let torn = decode(wire, usize::from(piece) + 1, version);
    assert_eq!(whole, torn, "pieces of {} bytes", usize::from(piece) + 1);
    for packet in &whole.0 {
        let mut written = BytesMut::new();
        // Contents that were read fit where they came from.
        packet.encode(version, &mut written).expect("what was read can be written");
        let size = written.len();
        let mut again = written.clone();
        let read = Packet::split_off(&mut again, version, &limits());
        assert_eq!(read.as_ref(), Ok(&Some(packet.clone())), "{written:02x?}");
        assert!(again.is_empty(), "{} of {size} bytes are left", again.len());
    }
}

/// Decodes `wire`, of which `piece` bytes come at a time.
fn decode(wire: &[u8], piece: usize, version: ProtocolVersion) -> Decoded {
    let mut input = BytesMut::new();
    let mut packets = Vec::new();
    for part in wire.chunks(piece) {
        input.extend_from_slice(part);
        loop {
            let before = input.len();
            match Packet::split_off(&mut input, version, &limits()) {
                Ok(Some(packet)) => {
                    assert!(input.len() < before, "a packet has bytes");
                    packets.push(packet);
                }
                Ok(None) => {
                    assert_eq!(input.len(), before, "what is incomplete stays");
                    break;
                }
                Err(error) => return (packets, Some(error)),
            }
        }
    }
    (packets, None)
}

/// Small limits, so that short inputs reach them.
fn limits() -> Limits {
    Limits {
        connect_bytes: 512,
        packet_bytes: 1_024,
        topic_levels: 8,
        topic_bytes: 64,
        user_properties: 4,
        properties_bytes: 128,
        filters_per_packet: 4,
    }
}
