//! What telemetry costs on the way and at the far side: messages, bytes of each layer, metered units.
//!
//! Everything is computed from the payloads that an [`Encoder`] makes, with QoS 1, each PUBLISH in a TLS
//! record and a TCP segment of its own, as a gateway that sends a batch a minute does. Not in it: handshakes, retransmissions, keep alive,
//! and what the mobile network adds.

use crate::{
    content::Content,
    encoder::{Encoder, Publication},
};

pub mod synthetic;

/// What a TLS 1.3 record adds (RFC 8446, section 5.2): header, type, tag of an AEAD cipher.
const TLS_RECORD: u64 = 5 + 1 + 16;
/// The largest part of a TLS record that is content.
const TLS_CONTENT_MAX: u64 = 16_384;
/// Headers of IPv4 and TCP with timestamps (RFC 791, RFC 9293, RFC 7323).
const SEGMENT: u64 = 20 + 20 + 12;
/// What a segment carries over Ethernet.
const SEGMENT_CONTENT_MAX: u64 = 1_500 - SEGMENT;
/// A PUBACK without reason.
const PUBACK: u64 = 4;

/// In what steps a far side counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meter {
    /// Messages, whatever their size.
    Messages,
    /// AWS IoT Core: 5 KiB of topic, payload and the properties of MQTT 5 that tell of it.
    AwsIotCore,
    /// Azure IoT Hub, basic and standard tier: 4 KiB of payload.
    AzureIotHub,
}

impl Meter {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Messages, Self::AwsIotCore, Self::AzureIotHub];

    /// Returns its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::AwsIotCore => "aws-iot-core",
            Self::AzureIotHub => "azure-iot-hub",
        }
    }

    /// Returns how many units a publication counts.
    pub fn units(self, publication: &Publication) -> u64 {
        let payload = publication.payload.len() as u64;
        match self {
            Self::Messages => 1,
            Self::AwsIotCore => {
                let beside = publication.topic.len() as u64 + property_texts(publication);
                (payload + beside).div_ceil(5_120).max(1)
            }
            Self::AzureIotHub => payload.div_ceil(4_096).max(1),
        }
    }
}

/// What some traffic costs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Readings.
    pub readings: u64,
    /// PUBLISH packets.
    pub messages: u64,
    /// Bytes of payloads.
    pub payload: u64,
    /// Bytes of packets of MQTT, acknowledgements included.
    pub mqtt: u64,
    /// Bytes on the line, both ways, with TLS 1.3 and TCP over IPv4.
    pub line: u64,
    /// Units, by [`Meter::ALL`].
    pub units: [u64; 3],
}

impl Cost {
    /// Adds what a batch costs that goes as number `seq`.
    pub fn add(&mut self, encoder: &mut Encoder, seq: u64, content: &Content) {
        self.readings += content.readings() as u64;
        for publication in encoder.encode(seq, content) {
            let packet = publish_bytes(&publication);
            self.messages += 1;
            self.payload += publication.payload.len() as u64;
            self.mqtt += packet + PUBACK;
            self.line += line_bytes(packet);
            for (units, meter) in self.units.iter_mut().zip(Meter::ALL) {
                *units += meter.units(&publication);
            }
        }
    }

    /// Returns the same for `wanted` as this is for `span`, in any unit of time, rounded down.
    #[must_use]
    pub fn scaled(&self, wanted: u64, span: u64) -> Self {
        let scale = |number: u64| {
            let scaled = u128::from(number) * u128::from(wanted) / u128::from(span.max(1));
            u64::try_from(scaled).unwrap_or(u64::MAX)
        };
        Self {
            readings: scale(self.readings),
            messages: scale(self.messages),
            payload: scale(self.payload),
            mqtt: scale(self.mqtt),
            line: scale(self.line),
            units: self.units.map(scale),
        }
    }
}

/// Returns the bytes of names and values in the properties that tell of a payload.
fn property_texts(publication: &Publication) -> u64 {
    let coding = publication.encoding.content_encoding();
    let coding = coding.map_or(0, |coding| "content-encoding".len() + coding.len());
    (publication.encoding.content_type().len() + coding) as u64
}

/// Returns the size of a PUBLISH packet with QoS 1 (MQTT 5.0, section 3.3).
fn publish_bytes(publication: &Publication) -> u64 {
    let topic = 2 + publication.topic.len() as u64;
    let content_type = 3;
    let user_property = if publication.encoding.content_encoding().is_some() { 5 } else { 0 };
    let properties = content_type + user_property + property_texts(publication);
    let remaining =
        topic + 2 + length_bytes(properties) + properties + publication.payload.len() as u64;
    1 + length_bytes(remaining) + remaining
}

/// Returns how many bytes a length takes (MQTT 5.0, section 1.5.5).
fn length_bytes(length: u64) -> u64 {
    match length {
        0..128 => 1,
        128..16_384 => 2,
        16_384..2_097_152 => 3,
        _ => 4,
    }
}

/// Returns what a PUBLISH and its PUBACK are on the line: the PUBACK carries the acknowledgement of the last
/// segments, every second one before has its own, and the PUBACK gets one back.
fn line_bytes(packet: u64) -> u64 {
    let encrypted = packet + packet.div_ceil(TLS_CONTENT_MAX) * TLS_RECORD;
    let segments = encrypted.div_ceil(SEGMENT_CONTENT_MAX);
    let acknowledged_alone = segments.saturating_sub(1) / 2;
    let up = encrypted + segments * SEGMENT;
    let down = PUBACK + TLS_RECORD + SEGMENT + acknowledged_alone * SEGMENT;
    up + down + SEGMENT
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Encoding;

    fn publication(topic: usize, payload: usize, encoding: Encoding) -> Publication {
        Publication {
            topic: "t".repeat(topic).into(),
            payload: vec![0; payload].into(),
            encoding,
            typed: None,
            retain: false,
            properties: None,
        }
    }

    /// uplink.33, uplink.21: the metering of AWS IoT Core, at its edges.
    #[test]
    fn uplink_33_units_are_counted_in_steps() {
        // "application/bson": 16 bytes.
        #[rustfmt::skip]
        let cases = [
            // payload  aws  azure
            (0,         1,   1),
            (4_096,     1,   1),
            (4_097,     1,   2),
            (5_120 - 53, 1,  2),
            (5_120 - 52, 2,  2),
            (3_024,     1,   1),
            (52_148,    11,  13),
        ];
        for (payload, aws, azure) in cases {
            let publication = publication(37, payload, Encoding::Bson);
            let units = Meter::ALL.map(|meter| meter.units(&publication));
            assert_eq!(units, [1, aws, azure], "{payload}");
        }
    }

    /// uplink.33: packets have the size that sections 2.1 and 3.3 of MQTT 5.0 say, and the layers add what they add.
    #[test]
    fn uplink_33_packets_have_their_true_size() {
        // Head, topic with its length, packet identifier, length of the properties, properties, payload.
        #[rustfmt::skip]
        let cases = [
            (0,      Encoding::Json,     2 + 22 + 2 + 1 + (3 + 16)),
            (0,      Encoding::BsonZlib, 2 + 22 + 2 + 1 + (3 + 16 + 5 + 16 + 4)),
            (83,     Encoding::Json,     2 + 44 + 83),
            (84,     Encoding::Json,     3 + 44 + 84),
            (16_339, Encoding::Json,     3 + 44 + 16_339),
            (16_340, Encoding::Json,     4 + 44 + 16_340),
        ];
        for (payload, encoding, bytes) in cases {
            let publication = publication(20, payload, encoding);
            assert_eq!(publish_bytes(&publication), bytes as u64, "{payload} {encoding:?}");
        }
        // One segment each way, and an acknowledgement.
        assert_eq!(line_bytes(100), 100 + 22 + 52 + (4 + 22 + 52) + 52);
        // Three segments, of which one pair is acknowledged before the end.
        assert_eq!(line_bytes(4_000), 4_000 + 22 + 3 * 52 + (4 + 22 + 52) + 52 + 52);
        // Two records.
        assert_eq!(line_bytes(16_385) - line_bytes(16_384), 1 + 22);
    }

    #[test]
    fn costs_are_scaled_to_a_day() {
        let cost = Cost { readings: 10, messages: 3, units: [3, 4, 5], ..Cost::default() };
        let day = cost.scaled(86_400, 60);
        assert_eq!((day.readings, day.messages, day.units), (14_400, 4_320, [4_320, 5_760, 7_200]));
    }
}
