//! The properties that describe a message, in PUBLISH and in the will of CONNECT alike.

use std::sync::Arc;

use tidegate_model::Properties;

use crate::{
    EncodeError, ProtocolError,
    property::{Property, PropertyReader},
    writer::PropertyWriter,
};

/// Expiry and description of a message as they are read.
#[derive(Debug, Default)]
pub(super) struct MessageProperties {
    pub(super) expiry_s: Option<u32>,
    pub(super) properties: Option<Box<Properties>>,
}

impl MessageProperties {
    /// Takes the value of `property`, the current one of `list`.
    pub(super) fn take(
        &mut self,
        property: Property,
        list: &mut PropertyReader<'_>,
    ) -> Result<(), ProtocolError> {
        match property {
            Property::MessageExpiryInterval => self.expiry_s = Some(list.u32()?),
            Property::PayloadFormatIndicator => {
                if list.bool()? {
                    self.described().payload_is_utf8 = true;
                }
            }
            Property::ContentType => self.described().content_type = Some(list.str()?.into()),
            Property::ResponseTopic => self.described().response_topic = Some(list.topic()?),
            Property::CorrelationData => self.described().correlation_data = Some(list.binary()?),
            Property::UserProperty => {
                let (name, value) = list.user_pair()?;
                self.described().user.push((Arc::from(name), Arc::from(value)));
            }
            _ => return Err(list.misplaced()),
        }
        Ok(())
    }

    fn described(&mut self) -> &mut Properties {
        self.properties.get_or_insert_default()
    }
}

/// Writes all that describes a message, except its expiry, which changes from delivery to delivery.
pub(crate) fn write(
    properties: &Properties,
    list: &mut PropertyWriter<'_>,
) -> Result<(), EncodeError> {
    list.u8(Property::PayloadFormatIndicator, properties.payload_is_utf8.then_some(1));
    list.field(Property::ContentType, properties.content_type.as_deref().map(str::as_bytes))?;
    let response_topic = properties.response_topic.as_ref().map(|topic| topic.as_str().as_bytes());
    list.field(Property::ResponseTopic, response_topic)?;
    list.field(Property::CorrelationData, properties.correlation_data.as_deref())?;
    list.user(&properties.user)
}
