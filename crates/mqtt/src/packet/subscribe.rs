//! SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK (MQTT 5.0, sections 3.8 to 3.11).

use std::{fmt, sync::Arc};

use bytes::{BufMut, BytesMut};
use tidegate_model::{Qos, TopicFilter, TopicFilterError};

use super::{ack::Explanation, header::PacketType, reasons};
use crate::{
    EncodeError, Limits, PacketId, ProtocolError, ProtocolVersion, ReasonCode, SubscriptionId,
    Text,
    property::Property,
    reader::{Reader, is_too_deep},
    writer,
};

/// The name of a group of sessions that share a subscription (MQTT 5.0, section 4.8.2).
///
/// At least one character, none of them `/`, `+`, `#`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShareName(Arc<str>);

impl ShareName {
    /// Checks `text` and takes it; `None` if it cannot name a group.
    pub fn new(text: &str) -> Option<Self> {
        let is_valid = !text.is_empty() && !text.contains(['/', '+', '#', '\0']);
        is_valid.then(|| Self(text.into()))
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ShareName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What names a subscription within a session: its filter, and the group that shares it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionKey {
    /// The group of `$share/<group>/<filter>`, if the subscription is shared.
    pub share: Option<ShareName>,
    /// The filter that topics are matched against.
    pub filter: TopicFilter,
}

/// When a new subscription gets retained messages (MQTT 5.0, section 3.8.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RetainHandling {
    /// At every SUBSCRIBE.
    #[default]
    Send = 0,
    /// Only if the subscription is new.
    SendIfNew = 1,
    /// Never.
    DoNotSend = 2,
}

/// One filter of a SUBSCRIBE and how messages are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Filter and share name.
    pub key: SubscriptionKey,
    /// The highest QoS wanted.
    pub qos: Qos,
    /// Whether the client's own messages are left out.
    pub no_local: bool,
    /// Whether RETAIN stays as published.
    pub retain_as_published: bool,
    /// When retained messages are sent.
    pub retain_handling: RetainHandling,
}

/// SUBSCRIBE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// Names the exchange.
    pub packet_id: PacketId,
    /// The number that comes with each message of these subscriptions.
    pub subscription_id: Option<SubscriptionId>,
    /// At least one subscription, in order; SUBACK answers each.
    pub subscriptions: Vec<Subscription>,
    /// User properties, in order.
    pub user: Vec<(Text, Text)>,
}

/// SUBACK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubAck {
    /// Names the exchange.
    pub packet_id: PacketId,
    /// One per filter, in the order of SUBSCRIBE.
    pub reasons: Vec<ReasonCode>,
    /// What the server adds.
    pub explanation: Option<Box<Explanation>>,
}

/// UNSUBSCRIBE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsubscribe {
    /// Names the exchange.
    pub packet_id: PacketId,
    /// At least one subscription, in order; UNSUBACK answers each.
    pub keys: Vec<SubscriptionKey>,
    /// User properties, in order.
    pub user: Vec<(Text, Text)>,
}

/// UNSUBACK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsubAck {
    /// Names the exchange.
    pub packet_id: PacketId,
    /// One per filter, in the order of UNSUBSCRIBE; empty in MQTT 3.1.1.
    pub reasons: Vec<ReasonCode>,
    /// What the server adds.
    pub explanation: Option<Box<Explanation>>,
}

impl SubscriptionKey {
    /// Takes the text of a filter, `$share/<name>/` and all (MQTT 5.0, section 4.8.2).
    ///
    /// # Errors
    ///
    /// If the text is not a filter or a shared one (MQTT-4.7.1-1, MQTT-4.7.1-2, MQTT-4.8.2-1,
    /// MQTT-4.8.2-2), or goes beyond `limits`.
    pub fn parse(text: &str, limits: &Limits) -> Result<Self, ProtocolError> {
        if text.len() > limits.topic_bytes {
            let (bytes, limit) = (text.len(), limits.topic_bytes);
            return Err(ProtocolError::TopicFilterTooLong { bytes, limit });
        }
        let (share, filter) = match text.strip_prefix("$share/") {
            None => (None, text),
            Some(shared) => {
                let (name, filter) =
                    shared.split_once('/').ok_or(ProtocolError::SharedSubscription)?;
                (Some(ShareName::new(name).ok_or(ProtocolError::SharedSubscription)?), filter)
            }
        };
        if is_too_deep(filter, limits.topic_levels) {
            return Err(ProtocolError::TopicFilterTooDeep { limit: limits.topic_levels });
        }
        match TopicFilter::new(filter) {
            Ok(filter) => Ok(Self { share, filter }),
            Err(TopicFilterError::Empty) if share.is_some() => {
                Err(ProtocolError::SharedSubscription)
            }
            Err(source) => Err(ProtocolError::TopicFilter { source }),
        }
    }
}

impl fmt::Display for SubscriptionKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.share {
            None => self.filter.fmt(formatter),
            Some(share) => write!(formatter, "$share/{share}/{}", self.filter),
        }
    }
}

fn write_key(key: &SubscriptionKey, body: &mut BytesMut) -> Result<(), EncodeError> {
    match &key.share {
        None => writer::field(body, key.filter.as_str().as_bytes()),
        Some(_) => writer::field(body, key.to_string().as_bytes()),
    }
}

impl Subscription {
    /// Returns a subscription with the options of MQTT 3.1.1.
    pub fn new(key: SubscriptionKey, qos: Qos) -> Self {
        Self {
            key,
            qos,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::Send,
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, ProtocolError> {
        let key = SubscriptionKey::parse(reader.str()?, reader.limits)?;
        let options = reader.u8()?;
        let reserved = if reader.is_v5() { 0b1100_0000 } else { 0b1111_1100 };
        if options & reserved != 0 {
            return Err(ProtocolError::Reserved { packet: PacketType::Subscribe });
        }
        let qos = Qos::from_bits(options & 0b11).ok_or(ProtocolError::SubscriptionOptions)?;
        let no_local = options & 0b100 != 0;
        if no_local && key.share.is_some() {
            return Err(ProtocolError::SharedNoLocal);
        }
        let retain_handling = match options >> 4 & 0b11 {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return Err(ProtocolError::SubscriptionOptions),
        };
        let retain_as_published = options & 0b1000 != 0;
        Ok(Self { key, qos, no_local, retain_as_published, retain_handling })
    }

    fn options(&self, version: ProtocolVersion) -> u8 {
        match version {
            ProtocolVersion::V311 => self.qos.bits(),
            ProtocolVersion::V5 => {
                self.qos.bits()
                    | u8::from(self.no_local) << 2
                    | u8::from(self.retain_as_published) << 3
                    | (self.retain_handling as u8) << 4
            }
        }
    }
}

impl Subscribe {
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, ProtocolError> {
        let packet_id = reader.packet_id()?;
        let (mut subscription_id, mut user) = (None, Vec::new());
        let mut list = reader.properties()?;
        while let Some(property) = list.next()? {
            match property {
                Property::SubscriptionIdentifier => {
                    subscription_id = Some(list.subscription_id()?);
                }
                Property::UserProperty => user.push(list.user()?),
                _ => return Err(list.misplaced()),
            }
        }
        let subscriptions = read_filters(reader, Subscription::decode)?;
        Ok(Self { packet_id, subscription_id, subscriptions, user })
    }

    pub(super) fn encode(
        &self,
        version: ProtocolVersion,
        body: &mut BytesMut,
    ) -> Result<(), EncodeError> {
        body.put_u16(self.packet_id.as_u16());
        if version == ProtocolVersion::V5 {
            writer::properties(body, |list| {
                if let Some(id) = self.subscription_id {
                    list.varint(Property::SubscriptionIdentifier, id.as_u32());
                }
                list.user(&self.user)
            })?;
        }
        for subscription in &self.subscriptions {
            write_key(&subscription.key, body)?;
            body.put_u8(subscription.options(version));
        }
        Ok(())
    }
}

impl Unsubscribe {
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, ProtocolError> {
        let packet_id = reader.packet_id()?;
        let mut user = Vec::new();
        let mut list = reader.properties()?;
        while let Some(property) = list.next()? {
            match property {
                Property::UserProperty => user.push(list.user()?),
                _ => return Err(list.misplaced()),
            }
        }
        let keys =
            read_filters(reader, |reader| SubscriptionKey::parse(reader.str()?, reader.limits))?;
        Ok(Self { packet_id, keys, user })
    }

    pub(super) fn encode(
        &self,
        version: ProtocolVersion,
        body: &mut BytesMut,
    ) -> Result<(), EncodeError> {
        body.put_u16(self.packet_id.as_u16());
        if version == ProtocolVersion::V5 {
            writer::properties(body, |list| list.user(&self.user))?;
        }
        self.keys.iter().try_for_each(|key| write_key(key, body))
    }
}

/// Takes one or more filters, to the end of the packet.
fn read_filters<T>(
    reader: &mut Reader<'_>,
    mut read: impl FnMut(&mut Reader<'_>) -> Result<T, ProtocolError>,
) -> Result<Vec<T>, ProtocolError> {
    let limit = reader.limits.filters_per_packet;
    let mut filters = Vec::new();
    while !reader.is_empty() {
        if filters.len() == limit {
            return Err(ProtocolError::TooManyFilters { limit });
        }
        filters.push(read(reader)?);
    }
    if filters.is_empty() {
        return Err(ProtocolError::NoFilters { packet: reader.packet });
    }
    Ok(filters)
}

impl SubAck {
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, ProtocolError> {
        let packet_id = reader.packet_id()?;
        let explanation = if reader.is_v5() { Explanation::decode(reader)? } else { None };
        let reasons = read_reasons(reader)?;
        // MQTT 3.1.1, MQTT-3.9.3-2: one failure for all.
        let unspeakable = reasons
            .iter()
            .find(|reason| reason.is_failure() && **reason != ReasonCode::UnspecifiedError);
        if let Some(reason) = unspeakable
            && !reader.is_v5()
        {
            let packet = PacketType::SubAck;
            return Err(ProtocolError::Reason { packet, code: reason.code() });
        }
        Ok(Self { packet_id, reasons, explanation })
    }

    pub(super) fn encode(
        &self,
        version: ProtocolVersion,
        body: &mut BytesMut,
    ) -> Result<(), EncodeError> {
        write_suback(self.packet_id, &self.reasons, self.explanation.as_deref(), version, body)
    }
}

/// Writes the body of SUBACK. MQTT 3.1.1 knows one failure, 0x80 (section 3.9.3).
pub(crate) fn write_suback(
    packet_id: PacketId,
    reasons: &[ReasonCode],
    explanation: Option<&Explanation>,
    version: ProtocolVersion,
    body: &mut BytesMut,
) -> Result<(), EncodeError> {
    body.put_u16(packet_id.as_u16());
    if version == ProtocolVersion::V5 {
        write_explanation(explanation, body)?;
    }
    for reason in reasons {
        let is_unspeakable = version == ProtocolVersion::V311 && reason.is_failure();
        let reason = if is_unspeakable { ReasonCode::UnspecifiedError } else { *reason };
        body.put_u8(reason.code());
    }
    Ok(())
}

impl UnsubAck {
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, ProtocolError> {
        let packet_id = reader.packet_id()?;
        if !reader.is_v5() {
            return Ok(Self { packet_id, reasons: Vec::new(), explanation: None });
        }
        let explanation = Explanation::decode(reader)?;
        let reasons = read_reasons(reader)?;
        Ok(Self { packet_id, reasons, explanation })
    }

    pub(super) fn encode(
        &self,
        version: ProtocolVersion,
        body: &mut BytesMut,
    ) -> Result<(), EncodeError> {
        write_unsuback(self.packet_id, &self.reasons, self.explanation.as_deref(), version, body)
    }
}

/// Writes the body of UNSUBACK. That of MQTT 3.1.1 has no reasons (section 3.11).
pub(crate) fn write_unsuback(
    packet_id: PacketId,
    reasons: &[ReasonCode],
    explanation: Option<&Explanation>,
    version: ProtocolVersion,
    body: &mut BytesMut,
) -> Result<(), EncodeError> {
    body.put_u16(packet_id.as_u16());
    if version == ProtocolVersion::V5 {
        write_explanation(explanation, body)?;
        body.extend(reasons.iter().map(|reason| reason.code()));
    }
    Ok(())
}

fn write_explanation(
    explanation: Option<&Explanation>,
    body: &mut BytesMut,
) -> Result<(), EncodeError> {
    writer::properties(body, |list| match explanation {
        Some(explanation) => explanation.encode(list),
        None => Ok(()),
    })
}

/// Takes one or more reason codes, to the end of the packet.
fn read_reasons(reader: &mut Reader<'_>) -> Result<Vec<ReasonCode>, ProtocolError> {
    if reader.is_empty() {
        return Err(ProtocolError::Truncated);
    }
    // One byte each, all of which have arrived: no more is taken than was sent.
    let mut reasons = Vec::with_capacity(reader.remaining());
    while !reader.is_empty() {
        reasons.push(reasons::read(reader)?);
    }
    Ok(reasons)
}
