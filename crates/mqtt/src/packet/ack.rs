//! PUBACK, PUBREC, PUBREL, PUBCOMP: one shape, four meanings (MQTT 5.0, sections 3.4 to 3.7).

use bytes::{BufMut, BytesMut};

use super::reasons;
use crate::{
    EncodeError, PacketId, ProtocolError, ProtocolVersion, ReasonCode, Text,
    property::Property,
    reader::Reader,
    writer::{self, PropertyWriter},
};

/// What a peer adds to an answer for people to read. MQTT 3.1.1 has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explanation {
    /// The reason in words.
    pub reason_string: Option<Text>,
    /// User properties, in order.
    pub user: Vec<(Text, Text)>,
}

/// A step in the delivery of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Names the exchange.
    pub packet_id: PacketId,
    /// Always success in MQTT 3.1.1.
    pub reason: ReasonCode,
    /// What the peer adds; `None` if nothing.
    pub explanation: Option<Box<Explanation>>,
}

impl Ack {
    /// Returns the step without further words.
    pub fn new(packet_id: PacketId, reason: ReasonCode) -> Self {
        Self { packet_id, reason, explanation: None }
    }
}

impl Ack {
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, ProtocolError> {
        let mut ack = Self::new(reader.packet_id()?, ReasonCode::Success);
        // MQTT 5.0, section 3.4.2.1: reason code and properties may be left out.
        if reader.is_v5() && !reader.is_empty() {
            ack.reason = reasons::read(reader)?;
            ack.explanation = Explanation::decode(reader)?;
        }
        Ok(ack)
    }

    pub(super) fn encode(
        &self,
        version: ProtocolVersion,
        body: &mut BytesMut,
    ) -> Result<(), EncodeError> {
        body.put_u16(self.packet_id.as_u16());
        if version == ProtocolVersion::V311 {
            return Ok(());
        }
        match &self.explanation {
            None if self.reason == ReasonCode::Success => Ok(()),
            None => {
                body.put_u8(self.reason.code());
                Ok(())
            }
            Some(explanation) => {
                body.put_u8(self.reason.code());
                writer::properties(body, |list| explanation.encode(list))
            }
        }
    }
}

impl Explanation {
    /// Takes a list of properties that may hold nothing else; nothing at all if the packet ends here.
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Option<Box<Self>>, ProtocolError> {
        let mut explanation = None;
        if !reader.is_empty() {
            let mut list = reader.properties()?;
            while list.next()?.is_some() {
                list.explanation(&mut explanation)?;
            }
        }
        Ok(explanation)
    }

    pub(super) fn encode(&self, list: &mut PropertyWriter<'_>) -> Result<(), EncodeError> {
        list.text(Property::ReasonString, self.reason_string.as_ref())?;
        list.user(&self.user)
    }
}
