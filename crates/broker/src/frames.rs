//! The encoding of a message for the wire, made once and shared by all its subscribers.

use std::sync::OnceLock;

use tidegate_model::{Message, Presentation, Properties};
use tidegate_mqtt::PublishFrame;

/// The encoding of one message, made when the first subscriber needs it.
#[derive(Debug, Default)]
pub struct Frames(OnceLock<Option<PublishFrame>>);

impl Frames {
    /// Returns the encoding of `message`; `None` if one of its properties has no place on the wire.
    pub fn get(&self, message: &Message) -> Option<&PublishFrame> {
        self.0
            .get_or_init(|| {
                let json = json_properties(message);
                let properties = message.properties.as_deref().or(json.as_ref());
                PublishFrame::new(message.topic.clone(), message.payload.to_bytes(), properties)
                    .ok()
            })
            .as_ref()
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
