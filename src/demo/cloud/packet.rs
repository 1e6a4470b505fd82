//! How long a PUBLISH packet is.

use tidegate_model::Properties;

/// Returns the length of a PUBLISH packet with QoS 1 (MQTT 5.0, section 3.3): as MQTT 5.0 if there are
/// properties, as MQTT 3.1.1 if not. Expiry is left out; nothing here has one.
pub(super) fn publish_bytes(
    topic: &str,
    properties: Option<&Properties>,
    payload_bytes: usize,
) -> u64 {
    let packet_id = 2;
    let text = |text: &str| 2 + text.len();
    let properties = properties.map_or(0, |properties| {
        let content_type = properties.content_type.as_deref().map_or(0, |name| 1 + text(name));
        let format = usize::from(properties.payload_is_utf8) * 2;
        let user: usize =
            properties.user.iter().map(|(name, value)| 1 + text(name) + text(value)).sum();
        let length = content_type + format + user;
        variable_length(length) + length
    });
    let remaining = text(topic) + packet_id + properties + payload_bytes;
    (1 + variable_length(remaining) + remaining) as u64
}

/// Returns how many bytes a variable byte integer takes (MQTT 5.0, section 1.5.5).
fn variable_length(value: usize) -> usize {
    match value {
        0..128 => 1,
        128..16_384 => 2,
        16_384..2_097_152 => 3,
        _ => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_as_long_as_they_are_on_the_wire() {
        let properties = Properties {
            content_type: Some("application/bson".into()),
            user: vec![("content-encoding".into(), "zlib".into())],
            ..Properties::default()
        };
        #[rustfmt::skip]
        let cases = [
            // topic  properties           payload  bytes
            ("a/b",   None,                0,       1 + 1 + 5 + 2),
            ("a/b",   None,                120,     1 + 1 + 5 + 2 + 120),
            ("a/b",   None,                121,     1 + 2 + 5 + 2 + 121),
            ("a/b",   None,                20_000,  1 + 3 + 5 + 2 + 20_000),
            ("a/b",   Some(&properties),   10,      1 + 1 + 5 + 2 + 1 + 19 + 25 + 10),
        ];
        for (topic, properties, payload, bytes) in cases {
            assert_eq!(publish_bytes(topic, properties, payload), bytes, "{payload} bytes");
        }
    }
}
