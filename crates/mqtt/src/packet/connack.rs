//! CONNACK: the server's answer to CONNECT (MQTT 5.0, section 3.2).

use std::num::{NonZeroU16, NonZeroU32};

use bytes::{BufMut, BytesMut};
use tidegate_model::{ClientId, Qos};

use super::{header::PacketType, reasons};
use crate::{
    EncodeError, Password, ProtocolError, ProtocolVersion, ReasonCode, SessionExpiry, Text,
    property::{Property, PropertyReader},
    reader::Reader,
    writer::{self, PropertyWriter},
};

/// Whether a client is accepted, and on which terms. The default accepts it on the standard's terms.
///
/// MQTT 3.1.1 carries `session_present` and `reason` only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnAck {
    /// Whether the session of an earlier connection goes on.
    pub session_present: bool,
    /// Success, or why the client is refused.
    pub reason: ReasonCode,
    /// How long the session really outlives the connection, if not as asked for.
    pub session_expiry: Option<SessionExpiry>,
    /// Most messages with QoS 1 or 2 that the client may have in flight.
    pub receive_maximum: Option<NonZeroU16>,
    /// The highest QoS served, if not 2.
    pub maximum_qos: Option<Qos>,
    /// Whether retained messages are served.
    pub retain_available: Option<bool>,
    /// Largest packet that the client may send.
    pub maximum_packet_size: Option<NonZeroU32>,
    /// The identifier that the server gave to a client without one.
    pub assigned_client_id: Option<ClientId>,
    /// Most topic aliases that the client may set.
    pub topic_alias_maximum: Option<u16>,
    /// The reason in words.
    pub reason_string: Option<Text>,
    /// User properties, in order.
    pub user: Vec<(Text, Text)>,
    /// Whether filters with wildcards are served.
    pub wildcard_subscription_available: Option<bool>,
    /// Whether subscription identifiers are served.
    pub subscription_ids_available: Option<bool>,
    /// Whether shared subscriptions are served.
    pub shared_subscription_available: Option<bool>,
    /// The keep alive that holds in place of the client's, in seconds.
    pub server_keep_alive_s: Option<u16>,
    /// From what the client may build its response topics.
    pub response_information: Option<Text>,
    /// Another server to use.
    pub server_reference: Option<Text>,
    /// The name of the extended authentication method.
    pub authentication_method: Option<Text>,
    /// The last data of the extended authentication.
    pub authentication_data: Option<Password>,
}

impl ConnAck {
    /// Returns the answer that accepts a client on the standard's terms.
    pub fn accepted(session_present: bool) -> Self {
        Self { session_present, ..Self::default() }
    }

    /// Returns the answer that refuses a client.
    pub fn refused(reason: ReasonCode) -> Self {
        Self { reason, ..Self::default() }
    }
}

impl ConnAck {
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, ProtocolError> {
        let flags = reader.u8()?;
        // MQTT-3.2.2-1.
        if flags & !1 != 0 {
            return Err(ProtocolError::Reserved { packet: PacketType::ConnAck });
        }
        let mut connack = Self::accepted(flags & 1 != 0);
        if !reader.is_v5() {
            let (packet, code) = (PacketType::ConnAck, reader.u8()?);
            connack.reason = ReasonCode::from_connect_return_code(code)
                .ok_or(ProtocolError::Reason { packet, code })?;
            return Ok(connack);
        }
        connack.reason = reasons::read(reader)?;
        let mut list = reader.properties()?;
        while let Some(property) = list.next()? {
            connack.decode_property(property, &mut list)?;
        }
        Ok(connack)
    }

    fn decode_property(
        &mut self,
        property: Property,
        list: &mut PropertyReader<'_>,
    ) -> Result<(), ProtocolError> {
        match property {
            Property::SessionExpiryInterval => {
                self.session_expiry = Some(SessionExpiry::from_secs(list.u32()?));
            }
            Property::ReceiveMaximum => self.receive_maximum = Some(list.non_zero_u16()?),
            Property::MaximumQos => {
                let is_qos1 = list.bool()?;
                self.maximum_qos = Some(if is_qos1 { Qos::AtLeastOnce } else { Qos::AtMostOnce });
            }
            Property::RetainAvailable => self.retain_available = Some(list.bool()?),
            Property::MaximumPacketSize => self.maximum_packet_size = Some(list.non_zero_u32()?),
            Property::AssignedClientIdentifier => {
                let id = ClientId::new(list.str()?).map_err(|_| list.wrong_value())?;
                self.assigned_client_id = Some(id);
            }
            Property::TopicAliasMaximum => self.topic_alias_maximum = Some(list.u16()?),
            Property::ReasonString => self.reason_string = Some(list.text()?),
            Property::UserProperty => self.user.push(list.user()?),
            Property::WildcardSubscriptionAvailable => {
                self.wildcard_subscription_available = Some(list.bool()?);
            }
            Property::SubscriptionIdentifierAvailable => {
                self.subscription_ids_available = Some(list.bool()?);
            }
            Property::SharedSubscriptionAvailable => {
                self.shared_subscription_available = Some(list.bool()?);
            }
            Property::ServerKeepAlive => self.server_keep_alive_s = Some(list.u16()?),
            Property::ResponseInformation => self.response_information = Some(list.text()?),
            Property::ServerReference => self.server_reference = Some(list.text()?),
            Property::AuthenticationMethod => self.authentication_method = Some(list.text()?),
            Property::AuthenticationData => self.authentication_data = Some(list.password()?),
            _ => return Err(list.misplaced()),
        }
        Ok(())
    }

    pub(super) fn encode(
        &self,
        version: ProtocolVersion,
        body: &mut BytesMut,
    ) -> Result<(), EncodeError> {
        body.put_u8(u8::from(self.session_present));
        match version {
            ProtocolVersion::V311 => {
                let code = self.reason.connect_return_code();
                body.put_u8(code.unwrap_or(RETURN_CODE_UNAVAILABLE));
                Ok(())
            }
            ProtocolVersion::V5 => {
                body.put_u8(self.reason.code());
                writer::properties(body, |list| self.encode_properties(list))
            }
        }
    }

    fn encode_properties(&self, list: &mut PropertyWriter<'_>) -> Result<(), EncodeError> {
        let session_expiry = self.session_expiry.map(SessionExpiry::as_secs);
        list.u32(Property::SessionExpiryInterval, session_expiry);
        list.u16(Property::ReceiveMaximum, self.receive_maximum.map(NonZeroU16::get));
        // QoS 2 is the default and has no encoding (MQTT 5.0, section 3.2.2.3.4).
        let maximum_qos = self.maximum_qos.filter(|&qos| qos < Qos::ExactlyOnce).map(Qos::bits);
        list.u8(Property::MaximumQos, maximum_qos);
        list.u8(Property::RetainAvailable, self.retain_available.map(u8::from));
        list.u32(Property::MaximumPacketSize, self.maximum_packet_size.map(NonZeroU32::get));
        let assigned = self.assigned_client_id.as_ref().map(|id| id.as_str().as_bytes());
        list.field(Property::AssignedClientIdentifier, assigned)?;
        list.u16(Property::TopicAliasMaximum, self.topic_alias_maximum);
        list.text(Property::ReasonString, self.reason_string.as_ref())?;
        let wildcards = self.wildcard_subscription_available.map(u8::from);
        list.u8(Property::WildcardSubscriptionAvailable, wildcards);
        let ids = self.subscription_ids_available.map(u8::from);
        list.u8(Property::SubscriptionIdentifierAvailable, ids);
        let shared = self.shared_subscription_available.map(u8::from);
        list.u8(Property::SharedSubscriptionAvailable, shared);
        list.u16(Property::ServerKeepAlive, self.server_keep_alive_s);
        list.text(Property::ResponseInformation, self.response_information.as_ref())?;
        list.text(Property::ServerReference, self.server_reference.as_ref())?;
        list.text(Property::AuthenticationMethod, self.authentication_method.as_ref())?;
        let data = self.authentication_data.as_ref().map(Password::expose);
        list.field(Property::AuthenticationData, data)?;
        list.user(&self.user)
    }
}

/// What a 3.1.1 CONNACK says when no return code fits.
const RETURN_CODE_UNAVAILABLE: u8 = 3;
