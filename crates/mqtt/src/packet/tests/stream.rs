//! Properties of the whole codec: round trip, cuts, noise.

use bytes::BytesMut;
use proptest::{collection::vec, prelude::*, sample::Index};

use crate::{
    Limits, ProtocolVersion,
    packet::Packet,
    testing::{any_packet, any_version, decoded, encoded},
};

fn any_packets(
    count: std::ops::Range<usize>,
) -> impl Strategy<Value = (ProtocolVersion, Vec<Packet>)> {
    any_version()
        .prop_flat_map(move |version| (Just(version), vec(any_packet(version), count.clone())))
}

/// Takes packets out of `wire` until it ends or breaks a rule.
fn decode_all(wire: &[u8], version: ProtocolVersion) -> Vec<Packet> {
    let mut input = BytesMut::from(wire);
    let mut packets = Vec::new();
    while let Ok(Some(packet)) = Packet::split_off(&mut input, version, &Limits::default()) {
        packets.push(packet);
    }
    packets
}

proptest! {
    #[test]
    fn a_packet_is_read_as_it_was_written((version, packets) in any_packets(1..2)) {
        let wire = encoded(&packets[0], version);
        prop_assert_eq!(decoded(&wire, version), Ok(packets[0].clone()));
    }

    /// However the network cuts the stream, the same packets come out, in the same order.
    #[test]
    fn decoding_does_not_depend_on_how_the_bytes_arrive(
        (version, packets) in any_packets(0..8),
        cuts in vec(1..64_usize, 1..32),
    ) {
        let wire: Vec<u8> = packets.iter().flat_map(|packet| encoded(packet, version)).collect();
        let mut input = BytesMut::new();
        let mut read = Vec::new();
        let mut rest = wire.as_slice();
        for cut in cuts.into_iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (chunk, tail) = rest.split_at(cut.min(rest.len()));
            input.extend_from_slice(chunk);
            while let Some(packet) = Packet::split_off(&mut input, version, &Limits::default())
                .expect("we decode what we encode")
            {
                read.push(packet);
            }
            rest = tail;
        }
        prop_assert!(input.is_empty());
        prop_assert_eq!(read, packets);
    }

    /// M22: noise is refused or waited for, never more.
    #[test]
    fn fault_m22_arbitrary_bytes_do_no_harm(version in any_version(), wire in vec(any::<u8>(), 0..200)) {
        decode_all(&wire, version);
    }

    /// M22: so are packets with a few bytes changed, removed or doubled. What is taken for a packet can
    /// be written, and read as the same.
    #[test]
    fn fault_m22_damaged_packets_do_no_harm(
        (version, packets) in any_packets(1..3),
        changes in vec((any::<Index>(), any::<u8>(), 0..3_u8), 1..4),
    ) {
        let mut wire: Vec<u8> = packets.iter().flat_map(|packet| encoded(packet, version)).collect();
        for (at, byte, kind) in changes {
            if wire.is_empty() {
                break;
            }
            let at = at.index(wire.len());
            match kind {
                0 => wire[at] = byte,
                1 => drop(wire.remove(at)),
                _ => wire.insert(at, byte),
            }
        }
        for packet in decode_all(&wire, version) {
            let version = match &packet {
                Packet::Connect(connect) => connect.version,
                _ => version,
            };
            let again = encoded(&packet, version);
            prop_assert_eq!(decoded(&again, version), Ok(packet));
        }
    }
}
