//! CONNECT: a client introduces itself (MQTT 5.0, section 3.1).

use std::num::{NonZeroU16, NonZeroU32};

use bytes::{BufMut, Bytes, BytesMut};
use tidegate_model::{ClientId, Properties, Qos, Topic, TopicError};

use super::{
    header::PacketType,
    message_properties::{self, MessageProperties},
};
use crate::{
    EncodeError, Password, ProtocolError, ProtocolVersion, SessionExpiry, Text, property::Property,
    reader::Reader, writer,
};

/// The protocol name of every version spoken (MQTT-3.1.2-1).
const PROTOCOL_NAME: &[u8] = b"MQTT";
/// The protocol name of MQTT 3.1, which is not spoken but told so.
const PROTOCOL_NAME_V31: &[u8] = b"MQIsdp";

const FLAG_RESERVED: u8 = 0b0000_0001;
const FLAG_CLEAN_START: u8 = 0b0000_0010;
const FLAG_WILL: u8 = 0b0000_0100;
const FLAGS_WILL_QOS: u8 = 0b0001_1000;
const FLAG_WILL_RETAIN: u8 = 0b0010_0000;
const FLAG_PASSWORD: u8 = 0b0100_0000;
const FLAG_USER_NAME: u8 = 0b1000_0000;

/// The first packet of every connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// The version that the client speaks; everything after this packet follows it.
    pub version: ProtocolVersion,
    /// Whether an earlier session is discarded (`Clean Session` in 3.1.1).
    pub clean_start: bool,
    /// Longest silence of the client in seconds; 0 switches the check off.
    pub keep_alive_s: u16,
    /// The client identifier; `None` asks the server to assign one.
    pub client_id: Option<ClientId>,
    /// What to publish when the connection ends without a normal DISCONNECT.
    pub will: Option<Box<Will>>,
    /// The user name.
    pub user_name: Option<Text>,
    /// The password.
    pub password: Option<Password>,
    /// How long the session outlives the connection.
    pub session_expiry: SessionExpiry,
    /// Most messages with QoS 1 or 2 that the client takes at once.
    pub receive_maximum: NonZeroU16,
    /// Largest packet that the client takes, if it has a limit.
    pub maximum_packet_size: Option<NonZeroU32>,
    /// Most topic aliases that the client takes.
    pub topic_alias_maximum: u16,
    /// Whether the client wants response information in CONNACK.
    pub request_response_information: bool,
    /// Whether reason strings and user properties may come with any answer.
    pub request_problem_information: bool,
    /// The name of the extended authentication method.
    pub authentication_method: Option<Text>,
    /// The first data of the extended authentication.
    pub authentication_data: Option<Password>,
    /// User properties, in order.
    pub user: Vec<(Text, Text)>,
}

impl Connect {
    /// Returns the plainest CONNECT: clean start, no keep alive, no identifier.
    pub fn new(version: ProtocolVersion) -> Self {
        Self {
            version,
            clean_start: true,
            keep_alive_s: 0,
            client_id: None,
            will: None,
            user_name: None,
            password: None,
            session_expiry: SessionExpiry::AT_CLOSE,
            receive_maximum: NonZeroU16::MAX,
            maximum_packet_size: None,
            topic_alias_maximum: 0,
            request_response_information: false,
            request_problem_information: true,
            authentication_method: None,
            authentication_data: None,
            user: Vec::new(),
        }
    }
}

/// The message that the server publishes for a client that is gone (MQTT 5.0, section 3.1.2.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    /// Where it is published.
    pub topic: Topic,
    /// What it says.
    pub payload: Bytes,
    /// How it is published.
    pub qos: Qos,
    /// Whether it becomes the retained message of its topic.
    pub retain: bool,
    /// Seconds between the end of the connection and publication.
    pub delay_s: u32,
    /// Life of the message in seconds, counted from publication.
    pub message_expiry_s: Option<u32>,
    /// What else is said; `expires` is always `None` here.
    pub properties: Option<Box<Properties>>,
}

impl Connect {
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, ProtocolError> {
        let version = read_version(reader)?;
        reader.version = version;
        let flags = Flags::decode(reader)?;
        let mut connect = Self::new(version);
        connect.clean_start = flags.has(FLAG_CLEAN_START);
        connect.keep_alive_s = reader.u16()?;
        connect.decode_properties(reader)?;
        connect.client_id = read_client_id(reader)?;
        if flags.has(FLAG_WILL) {
            connect.will = Some(Box::new(Will::decode(flags, reader)?));
        }
        if flags.has(FLAG_USER_NAME) {
            connect.user_name = Some(reader.text()?);
        }
        if flags.has(FLAG_PASSWORD) {
            connect.password = Password::new(reader.binary()?);
        }
        if version == ProtocolVersion::V311 && !connect.clean_start {
            // MQTT 3.1.1, section 3.1.2.4: such a session is kept; for how long is not said.
            connect.session_expiry = SessionExpiry::NEVER;
            if connect.client_id.is_none() {
                return Err(ProtocolError::NoClientId);
            }
        }
        Ok(connect)
    }

    fn decode_properties(&mut self, reader: &mut Reader<'_>) -> Result<(), ProtocolError> {
        let mut list = reader.properties()?;
        while let Some(property) = list.next()? {
            match property {
                Property::SessionExpiryInterval => {
                    self.session_expiry = SessionExpiry::from_secs(list.u32()?);
                }
                Property::ReceiveMaximum => self.receive_maximum = list.non_zero_u16()?,
                Property::MaximumPacketSize => {
                    self.maximum_packet_size = Some(list.non_zero_u32()?);
                }
                Property::TopicAliasMaximum => self.topic_alias_maximum = list.u16()?,
                Property::RequestResponseInformation => {
                    self.request_response_information = list.bool()?;
                }
                Property::RequestProblemInformation => {
                    self.request_problem_information = list.bool()?;
                }
                Property::AuthenticationMethod => self.authentication_method = Some(list.text()?),
                Property::AuthenticationData => self.authentication_data = Some(list.password()?),
                Property::UserProperty => self.user.push(list.user()?),
                _ => return Err(list.misplaced()),
            }
        }
        // MQTT 5.0, section 3.1.2.11.10.
        if self.authentication_data.is_some() && self.authentication_method.is_none() {
            let property = Property::AuthenticationData;
            return Err(ProtocolError::PropertyValue { property });
        }
        Ok(())
    }

    pub(super) fn encode(&self, body: &mut BytesMut) -> Result<(), EncodeError> {
        writer::field(body, PROTOCOL_NAME)?;
        body.put_u8(self.version.level());
        body.put_u8(self.flags());
        body.put_u16(self.keep_alive_s);
        if self.version == ProtocolVersion::V5 {
            self.encode_properties(body)?;
        }
        writer::field(body, self.client_id.as_ref().map_or("", ClientId::as_str).as_bytes())?;
        if let Some(will) = &self.will {
            will.encode(self.version, body)?;
        }
        if let Some(user_name) = &self.user_name {
            writer::field(body, user_name.as_bytes())?;
        }
        if let Some(password) = &self.password {
            writer::field(body, password.expose())?;
        }
        Ok(())
    }

    fn encode_properties(&self, body: &mut BytesMut) -> Result<(), EncodeError> {
        let session_expiry =
            (self.session_expiry != SessionExpiry::AT_CLOSE).then(|| self.session_expiry.as_secs());
        let receive_maximum =
            (self.receive_maximum != NonZeroU16::MAX).then(|| self.receive_maximum.get());
        let alias_maximum = (self.topic_alias_maximum != 0).then_some(self.topic_alias_maximum);
        writer::properties(body, |list| {
            list.u32(Property::SessionExpiryInterval, session_expiry);
            list.u16(Property::ReceiveMaximum, receive_maximum);
            let maximum_packet_size = self.maximum_packet_size.map(NonZeroU32::get);
            list.u32(Property::MaximumPacketSize, maximum_packet_size);
            list.u16(Property::TopicAliasMaximum, alias_maximum);
            let response = self.request_response_information.then_some(1);
            list.u8(Property::RequestResponseInformation, response);
            let problem = (!self.request_problem_information).then_some(0);
            list.u8(Property::RequestProblemInformation, problem);
            list.text(Property::AuthenticationMethod, self.authentication_method.as_ref())?;
            let data = self.authentication_data.as_ref().map(Password::expose);
            list.field(Property::AuthenticationData, data)?;
            list.user(&self.user)
        })
    }

    fn flags(&self) -> u8 {
        let will = self.will.as_ref().map_or(0, |will| {
            let retain = if will.retain { FLAG_WILL_RETAIN } else { 0 };
            FLAG_WILL | will.qos.bits() << 3 | retain
        });
        will | if self.clean_start { FLAG_CLEAN_START } else { 0 }
            | if self.user_name.is_some() { FLAG_USER_NAME } else { 0 }
            | if self.password.is_some() { FLAG_PASSWORD } else { 0 }
    }
}

/// Looks at the start of the body of CONNECT and returns the version in which the client would
/// understand a refusal, as soon as that can be told.
///
/// # Errors
///
/// At the first byte that cannot belong to the protocol name.
pub(crate) fn peek_version(body: &[u8]) -> Result<Option<ProtocolVersion>, ProtocolError> {
    let begins = |name: &[u8]| {
        let prefix = [0, name.len() as u8];
        prefix.iter().chain(name).zip(body).all(|(expected, found)| expected == found)
    };
    if begins(PROTOCOL_NAME) {
        return Ok(match body.get(2 + PROTOCOL_NAME.len()) {
            None => None,
            Some(0..=4) => Some(ProtocolVersion::V311),
            Some(_) => Some(ProtocolVersion::V5),
        });
    }
    if begins(PROTOCOL_NAME_V31) {
        return Ok(Some(ProtocolVersion::V311));
    }
    Err(ProtocolError::ProtocolName)
}

fn read_version(reader: &mut Reader<'_>) -> Result<ProtocolVersion, ProtocolError> {
    let name = reader.field()?;
    if name != PROTOCOL_NAME && name != PROTOCOL_NAME_V31 {
        return Err(ProtocolError::ProtocolName);
    }
    let level = reader.u8()?;
    ProtocolVersion::from_level(level)
        .filter(|_| name == PROTOCOL_NAME)
        .ok_or(ProtocolError::ProtocolLevel { level })
}

fn read_client_id(reader: &mut Reader<'_>) -> Result<Option<ClientId>, ProtocolError> {
    let text = reader.str()?;
    // Only the empty text is no identifier: `str` has refused U+0000 and has at most 65 535 bytes.
    Ok(ClientId::new(text).ok())
}

/// The flags of CONNECT, free of contradictions.
#[derive(Clone, Copy, Debug)]
struct Flags(u8);

impl Flags {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, ProtocolError> {
        let flags = Self(reader.u8()?);
        // MQTT-3.1.2-3.
        if flags.has(FLAG_RESERVED) {
            return Err(ProtocolError::Reserved { packet: PacketType::Connect });
        }
        // MQTT-3.1.2-11, MQTT-3.1.2-13.
        if !flags.has(FLAG_WILL) && flags.0 & (FLAGS_WILL_QOS | FLAG_WILL_RETAIN) != 0 {
            return Err(ProtocolError::ConnectFlags);
        }
        // MQTT 3.1.1, MQTT-3.1.2-22; MQTT 5.0 allows a password without a user name.
        if !reader.is_v5() && flags.has(FLAG_PASSWORD) && !flags.has(FLAG_USER_NAME) {
            return Err(ProtocolError::ConnectFlags);
        }
        Ok(flags)
    }

    fn has(self, flag: u8) -> bool {
        self.0 & flag != 0
    }

    fn will_qos(self) -> Result<Qos, ProtocolError> {
        Qos::from_bits((self.0 & FLAGS_WILL_QOS) >> 3).ok_or(ProtocolError::Qos)
    }
}

impl Will {
    /// Returns the plainest will: QoS 0, not retained, without delay.
    pub fn new(topic: Topic, payload: Bytes) -> Self {
        Self {
            topic,
            payload,
            qos: Qos::AtMostOnce,
            retain: false,
            delay_s: 0,
            message_expiry_s: None,
            properties: None,
        }
    }

    fn decode(flags: Flags, reader: &mut Reader<'_>) -> Result<Self, ProtocolError> {
        let mut message = MessageProperties::default();
        let mut delay_s = 0;
        let mut list = reader.properties()?;
        while let Some(property) = list.next()? {
            match property {
                Property::WillDelayInterval => delay_s = list.u32()?,
                _ => message.take(property, &mut list)?,
            }
        }
        let source = TopicError::Empty;
        let topic = reader.topic()?.ok_or(ProtocolError::Topic { source })?;
        Ok(Self {
            topic,
            payload: reader.binary()?,
            qos: flags.will_qos()?,
            retain: flags.has(FLAG_WILL_RETAIN),
            delay_s,
            message_expiry_s: message.expiry_s,
            properties: message.properties,
        })
    }

    fn encode(&self, version: ProtocolVersion, body: &mut BytesMut) -> Result<(), EncodeError> {
        if version == ProtocolVersion::V5 {
            writer::properties(body, |list| {
                list.u32(Property::WillDelayInterval, (self.delay_s != 0).then_some(self.delay_s));
                list.u32(Property::MessageExpiryInterval, self.message_expiry_s);
                self.properties.as_ref().map_or(Ok(()), |it| message_properties::write(it, list))
            })?;
        }
        writer::field(body, self.topic.as_str().as_bytes())?;
        writer::field(body, &self.payload)
    }
}
