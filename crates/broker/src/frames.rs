//! What is encoded of a message for the wire, once for all its subscribers.

use std::sync::OnceLock;

use tidegate_model::{Message, Presentation, Properties};
use tidegate_mqtt::{EncodedProperties, NO_PROPERTIES, PublishFrame};

/// The encoded properties of one message, made when the first subscriber needs them; most messages have none.
#[derive(Debug, Default)]
pub struct Frames(OnceLock<Option<EncodedProperties>>);

impl Frames {
    /// Returns what subscribers of `message` get; `None` if one of its properties has no place on the wire.
    #[inline]
    pub fn get<'m>(&'m self, message: &'m Message) -> Option<PublishFrame<'m>> {
        let is_plain = message.properties.is_none() && message.payload.presentation().is_none();
        let properties = if is_plain {
            &NO_PROPERTIES
        } else {
            self.0.get_or_init(|| encode_properties(message)).as_ref()?
        };
        Some(PublishFrame::new(&message.topic, message.payload.as_bytes(), properties))
    }
}

fn encode_properties(message: &Message) -> Option<EncodedProperties> {
    let json = json_properties(message);
    match message.properties.as_deref().or(json.as_ref()) {
        Some(properties) => EncodedProperties::new(properties).ok(),
        None => Some(EncodedProperties::default()),
    }
}

/// Returns what is said beside the envelope of a typed reading.
fn json_properties(message: &Message) -> Option<Properties> {
    (message.payload.presentation()? == Presentation::Envelope).then(|| Properties {
        payload_is_utf8: true,
        content_type: Some("application/json".into()),
        ..Properties::default()
    })
}
