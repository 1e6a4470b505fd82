//! DISCONNECT and AUTH (MQTT 5.0, sections 3.14 and 3.15).

use bytes::{BufMut, BytesMut};

use super::{ack::Explanation, reasons};
use crate::{
    EncodeError, Password, ProtocolError, ProtocolVersion, ReasonCode, SessionExpiry, Text,
    property::Property, reader::Reader, writer,
};

/// The last packet of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disconnect {
    /// Why the sender leaves; always success in MQTT 3.1.1.
    pub reason: ReasonCode,
    /// A new session expiry, from clients only.
    pub session_expiry: Option<SessionExpiry>,
    /// Another server to use, from servers only.
    pub server_reference: Option<Text>,
    /// What the sender adds.
    pub explanation: Option<Box<Explanation>>,
}

impl Disconnect {
    /// Returns the packet without further words.
    pub fn new(reason: ReasonCode) -> Self {
        Self { reason, ..Self::default() }
    }

    /// Returns whether the will is to be published: for every reason but a normal disconnection.
    pub fn wants_will(&self) -> bool {
        self.reason != ReasonCode::Success
    }
}

/// A step of extended authentication. Never in MQTT 3.1.1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Auth {
    /// Which step.
    pub reason: ReasonCode,
    /// The name of the method.
    pub method: Option<Text>,
    /// What the method says.
    pub data: Option<Password>,
    /// What the sender adds.
    pub explanation: Option<Box<Explanation>>,
}

impl Disconnect {
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, ProtocolError> {
        let mut disconnect = Self::default();
        // MQTT 5.0, section 3.14.2.1: reason code and properties may be left out.
        if !reader.is_v5() || reader.is_empty() {
            return Ok(disconnect);
        }
        disconnect.reason = reasons::read(reader)?;
        if reader.is_empty() {
            return Ok(disconnect);
        }
        let mut list = reader.properties()?;
        while let Some(property) = list.next()? {
            match property {
                Property::SessionExpiryInterval => {
                    disconnect.session_expiry = Some(SessionExpiry::from_secs(list.u32()?));
                }
                Property::ServerReference => disconnect.server_reference = Some(list.text()?),
                _ => list.explanation(&mut disconnect.explanation)?,
            }
        }
        Ok(disconnect)
    }

    pub(super) fn encode(
        &self,
        version: ProtocolVersion,
        body: &mut BytesMut,
    ) -> Result<(), EncodeError> {
        if version == ProtocolVersion::V311 {
            return Ok(());
        }
        let is_plain = self.session_expiry.is_none()
            && self.server_reference.is_none()
            && self.explanation.is_none();
        if is_plain && self.reason == ReasonCode::Success {
            return Ok(());
        }
        body.put_u8(self.reason.code());
        if is_plain {
            return Ok(());
        }
        writer::properties(body, |list| {
            let session_expiry = self.session_expiry.map(SessionExpiry::as_secs);
            list.u32(Property::SessionExpiryInterval, session_expiry);
            list.text(Property::ServerReference, self.server_reference.as_ref())?;
            self.explanation.as_ref().map_or(Ok(()), |explanation| explanation.encode(list))
        })
    }
}

impl Auth {
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, ProtocolError> {
        let mut auth = Self::default();
        // MQTT 5.0, section 3.15.2.1: reason code and properties may be left out.
        if reader.is_empty() {
            return Ok(auth);
        }
        auth.reason = reasons::read(reader)?;
        let mut list = reader.properties()?;
        while let Some(property) = list.next()? {
            match property {
                Property::AuthenticationMethod => auth.method = Some(list.text()?),
                Property::AuthenticationData => auth.data = Some(list.password()?),
                _ => list.explanation(&mut auth.explanation)?,
            }
        }
        Ok(auth)
    }

    pub(super) fn encode(&self, body: &mut BytesMut) -> Result<(), EncodeError> {
        if *self == Self::default() {
            return Ok(());
        }
        body.put_u8(self.reason.code());
        writer::properties(body, |list| {
            list.text(Property::AuthenticationMethod, self.method.as_ref())?;
            list.field(Property::AuthenticationData, self.data.as_ref().map(Password::expose))?;
            self.explanation.as_ref().map_or(Ok(()), |explanation| explanation.encode(list))
        })
    }
}
