//! A message as AMQP 0.9.1 says it.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, LongString, ShortString},
};
use tidegate_uplink::bridge;

use crate::uplink::link::Up;

/// Survives a restart of the broker in a durable queue.
const PERSISTENT: u8 = 2;
/// The longest expiration that RabbitMQ takes, ten years; what lasts longer is told none.
const EXPIRATION_MAX_S: u32 = 315_360_000;
/// What the frame of the properties holds beside the headers, at most: five short texts, and what is around them.
const BESIDE_HEADERS: usize = 2_048;
/// What an entry of the headers takes up beside its name and its text.
const BESIDE_TEXT: usize = 16;

/// What is published.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) key: ShortString,
    pub(super) payload: Bytes,
    pub(super) properties: BasicProperties,
}

impl Message {
    /// Makes a message, or says why it cannot be said: that will always be so.
    pub(super) fn of(up: &Up, to_queue: bool, frame_bytes_max: usize) -> Result<Self, String> {
        let key = if to_queue { up.topic.to_string() } else { routing_key(&up.topic) };
        let key = ShortString::try_new(key).map_err(|error| error.to_string())?;
        let properties = properties(up, frame_bytes_max)?;
        Ok(Self { key, payload: up.payload.clone(), properties })
    }
}

/// Writes a topic as exchanges match it: levels are words between dots. A dot becomes a slash, as with RabbitMQ's own
/// plug-in for MQTT, so that no two topics have the same key; and the same again makes the topic of a key.
pub(super) fn routing_key(topic: &str) -> String {
    let swapped = topic.chars().map(|character| match character {
        '/' => '.',
        '.' => '/',
        other => other,
    });
    swapped.collect()
}

fn properties(up: &Up, frame_bytes_max: usize) -> Result<BasicProperties, String> {
    let content_type = ShortString::try_new(up.content_type());
    let mut properties = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_app_id("tidegate".into())
        .with_content_type(content_type.unwrap_or_else(|_| up.content_type.into()));
    if let Some(coding) = up.content_encoding {
        // The name of the zlib format in MIME and HTTP (RFC 9110, section 8.4.1.2).
        let coding = if coding == "zlib" { "deflate" } else { coding };
        properties = properties.with_content_encoding(coding.into());
    }
    if up.is_numbered {
        properties = properties.with_message_id(up.key().into());
    }
    if let Some(seconds) = up.expires_in.filter(|seconds| *seconds <= EXPIRATION_MAX_S) {
        let expires = Duration::from_secs(seconds.into());
        properties = properties.with_expiration(expires.as_millis().to_string().into());
    }
    let headers = headers(up, frame_bytes_max.saturating_sub(BESIDE_HEADERS))?;
    Ok(match headers {
        Some(headers) => properties.with_headers(headers),
        None => properties,
    })
}

/// Returns what the publisher said of the message, and by which way it has come; a name that stands there more than
/// once has an array.
fn headers(up: &Up, bytes_max: usize) -> Result<Option<FieldTable>, String> {
    let said = up.said.iter().flat_map(|said| &said.user);
    let said = said.map(|(name, value)| (&**name, &**value));
    let said = said.filter(|(name, _)| *name != bridge::PATH);
    let path = up.path.as_deref().map(|path| (bridge::PATH, path));
    let mut headers: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut bytes = 0;
    for (name, value) in said.chain(path) {
        bytes += name.len() + value.len() + BESIDE_TEXT;
        headers.entry(name).or_default().push(value);
    }
    if bytes > bytes_max {
        return Err(format!("{bytes} bytes of headers are more than the {bytes_max} of a frame"));
    }
    let mut table = FieldTable::default();
    for (name, values) in headers {
        let name = ShortString::try_new(name)
            .map_err(|_| "the name of a header has more than 255 bytes".to_owned())?;
        let text = |value: &str| AMQPValue::LongString(LongString::from(value));
        let value = match values.as_slice() {
            [value] => text(value),
            several => {
                let several: Vec<_> = several.iter().map(|value| text(value)).collect();
                AMQPValue::FieldArray(several.into())
            }
        };
        table.insert(name, value);
    }
    Ok(Some(table).filter(|_| bytes > 0))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tidegate_model::Properties;

    use super::*;

    fn up(topic: &str) -> Up {
        Up {
            topic: topic.into(),
            payload: Bytes::from_static(b"23.5"),
            content_type: "application/bson",
            content_encoding: Some("zlib"),
            correlation: None,
            is_numbered: true,
            typed: None,
            retain: false,
            said: None,
            expires_in: Some(2),
            path: None,
        }
    }

    /// uplink.26: an exchange of the kind `topic` matches words between dots.
    #[test]
    fn topics_become_keys() {
        for (topic, key) in [("hall1/press/t", "hall1.press.t"), ("v1.2/x", "v1/2.x"), ("a", "a")] {
            assert_eq!(routing_key(topic), key);
        }
        let named = |to_queue| Message::of(&up("a/b.c"), to_queue, 4_096).unwrap().key;
        assert_eq!([named(false).as_str(), named(true).as_str()], ["a.b/c", "a/b.c"]);
    }

    #[test]
    fn what_is_said_of_a_message_is_told() {
        let said = properties(&up("a"), 4_096).unwrap();
        assert_eq!(*said.delivery_mode(), Some(2));
        let text = |text: &Option<ShortString>| text.as_ref().unwrap().to_string();
        assert_eq!(text(said.content_type()), "application/bson");
        assert_eq!(text(said.content_encoding()), "deflate");
        assert_eq!(text(said.expiration()), "2000");
        assert_eq!(text(said.message_id()), up("a").key());
        assert!(said.headers().is_none());
        let unnumbered = Up { is_numbered: false, ..up("a") };
        assert!(properties(&unnumbered, 4_096).unwrap().message_id().is_none());
    }

    #[test]
    fn what_cannot_be_said_is_refused() {
        let with = |name: &str, value: &str| {
            let user = vec![(name.into(), value.into()), ("n".into(), "1".into())];
            let said = Properties { user, ..Properties::default() };
            headers(&Up { said: Some(Arc::new(said)), ..up("a") }, 2_048)
        };
        assert!(with("n", "2").unwrap().unwrap().contains_key("n"));
        assert!(with(&"n".repeat(256), "2").unwrap_err().contains("255 bytes"));
        assert!(with("n", &"x".repeat(4_096)).unwrap_err().contains("more than the 2048"));
        assert!(Message::of(&up(&"x".repeat(256)), false, 4_096).is_err());
    }
}
