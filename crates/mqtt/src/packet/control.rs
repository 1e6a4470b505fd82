//! A control packet of any type: taken off the input, put into the output.

use bytes::{Buf, BytesMut};
use tidegate_model::Topic;

use super::{
    Ack, Auth, ConnAck, Connect, Disconnect, FixedHeader, PacketType, PublishPacket, SubAck,
    Subscribe, UnsubAck, Unsubscribe,
};
use crate::{EncodeError, Limits, ProtocolError, ProtocolVersion, reader::Reader, writer};

/// From this size on, the binary data of a packet shares the memory of the input; below, it is copied: a message
/// that waits for long must not hold on to all that was read along with it.
const SHARED_BYTES_MIN: usize = 16 << 10;

/// A control packet of either version and either direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// A client introduces itself.
    Connect(Box<Connect>),
    /// The server accepts or refuses it.
    ConnAck(Box<ConnAck>),
    /// A message.
    Publish(PublishPacket),
    /// QoS 1: the message is taken.
    PubAck(Ack),
    /// QoS 2, step one: the message is taken.
    PubRec(Ack),
    /// QoS 2, step two: the message may be released.
    PubRel(Ack),
    /// QoS 2, step three: the message is released.
    PubComp(Ack),
    /// A client subscribes.
    Subscribe(Subscribe),
    /// The server answers each subscription.
    SubAck(SubAck),
    /// A client unsubscribes.
    Unsubscribe(Unsubscribe),
    /// The server answers each removal.
    UnsubAck(UnsubAck),
    /// Are you there?
    PingReq,
    /// I am.
    PingResp,
    /// The sender leaves.
    Disconnect(Disconnect),
    /// Extended authentication.
    Auth(Box<Auth>),
}

impl Packet {
    /// Splits the first packet off `input`, or returns `None` and leaves it as it is if the packet is
    /// incomplete.
    ///
    /// Payloads share the memory of `input`, except small ones. A packet is refused as soon as its fixed header shows that
    /// it must be; memory is never taken for lengths that are only announced. After an error the rest
    /// of `input` has no meaning.
    ///
    /// # Errors
    ///
    /// [`ProtocolError`] says which rule or limit the packet breaks.
    pub fn split_off(
        input: &mut BytesMut,
        version: ProtocolVersion,
        limits: &Limits,
    ) -> Result<Option<Self>, ProtocolError> {
        Self::split_off_knowing(input, version, limits, None)
    }

    /// Does the same as [`split_off`](Self::split_off); if the topic is `known`, it is that one, and not made anew.
    pub(crate) fn split_off_knowing(
        input: &mut BytesMut,
        version: ProtocolVersion,
        limits: &Limits,
        known: Option<&Topic>,
    ) -> Result<Option<Self>, ProtocolError> {
        let Some(header) = FixedHeader::peek(input)? else {
            return Ok(None);
        };
        let (packet, bytes) = (header.packet, header.packet_bytes());
        let limit = limits.bytes_of(packet);
        if bytes > limit {
            return Err(ProtocolError::PacketTooLarge { packet, bytes, limit });
        }
        if input.len() < bytes {
            return Ok(None);
        }
        // What outlives the packet must not hold on to a large buffer for the sake of a few bytes: a will,
        // for one, or a small payload, which is copied at the price of sharing it.
        if bytes < SHARED_BYTES_MIN || packet == PacketType::Connect {
            let decoded = Self::decode(
                Reader::new(&input[..bytes], None, header, version, limits).knowing(known),
                header,
            )?;
            input.advance(bytes);
            return Ok(Some(decoded));
        }
        let whole = input.split_to(bytes).freeze();
        Self::decode(
            Reader::new(&whole, Some(&whole), header, version, limits).knowing(known),
            header,
        )
        .map(Some)
    }

    #[inline]
    fn decode(mut reader: Reader<'_>, header: FixedHeader) -> Result<Self, ProtocolError> {
        let packet = match header.packet {
            PacketType::Connect => Self::Connect(Box::new(Connect::decode(&mut reader)?)),
            PacketType::ConnAck => Self::ConnAck(Box::new(ConnAck::decode(&mut reader)?)),
            PacketType::Publish => Self::Publish(PublishPacket::decode(header.flags, &mut reader)?),
            PacketType::PubAck => Self::PubAck(Ack::decode(&mut reader)?),
            PacketType::PubRec => Self::PubRec(Ack::decode(&mut reader)?),
            PacketType::PubRel => Self::PubRel(Ack::decode(&mut reader)?),
            PacketType::PubComp => Self::PubComp(Ack::decode(&mut reader)?),
            PacketType::Subscribe => Self::Subscribe(Subscribe::decode(&mut reader)?),
            PacketType::SubAck => Self::SubAck(SubAck::decode(&mut reader)?),
            PacketType::Unsubscribe => Self::Unsubscribe(Unsubscribe::decode(&mut reader)?),
            PacketType::UnsubAck => Self::UnsubAck(UnsubAck::decode(&mut reader)?),
            PacketType::PingReq => Self::PingReq,
            PacketType::PingResp => Self::PingResp,
            PacketType::Disconnect => Self::Disconnect(Disconnect::decode(&mut reader)?),
            PacketType::Auth if reader.version == ProtocolVersion::V311 => {
                return Err(ProtocolError::ReservedPacketType { number: header.packet as u8 });
            }
            PacketType::Auth => Self::Auth(Box::new(Auth::decode(&mut reader)?)),
        };
        reader.finish()?;
        Ok(packet)
    }

    /// Appends the packet to `output`. What the version has no room for is left out.
    ///
    /// # Errors
    ///
    /// If a field or the whole is too long for the wire; `output` is then as it was.
    pub fn encode(
        &self,
        version: ProtocolVersion,
        output: &mut BytesMut,
    ) -> Result<(), EncodeError> {
        let start = output.len();
        let flags = match self {
            Self::Publish(publish) => publish.flags(),
            _ => 0,
        };
        let first = self.packet_type().first_byte() | flags;
        writer::packet(output, first, |body| self.encode_body(version, body))
            .inspect_err(|_| output.truncate(start))
    }

    fn encode_body(
        &self,
        version: ProtocolVersion,
        body: &mut BytesMut,
    ) -> Result<(), EncodeError> {
        match self {
            Self::Connect(connect) => connect.encode(body),
            Self::ConnAck(connack) => connack.encode(version, body),
            Self::Publish(publish) => publish.encode(version, body),
            Self::PubAck(ack) | Self::PubRec(ack) | Self::PubRel(ack) | Self::PubComp(ack) => {
                ack.encode(version, body)
            }
            Self::Subscribe(subscribe) => subscribe.encode(version, body),
            Self::SubAck(suback) => suback.encode(version, body),
            Self::Unsubscribe(unsubscribe) => unsubscribe.encode(version, body),
            Self::UnsubAck(unsuback) => unsuback.encode(version, body),
            Self::PingReq | Self::PingResp => Ok(()),
            Self::Disconnect(disconnect) => disconnect.encode(version, body),
            Self::Auth(auth) => auth.encode(body),
        }
    }

    /// Returns the type of the packet.
    pub fn packet_type(&self) -> PacketType {
        match self {
            Self::Connect(_) => PacketType::Connect,
            Self::ConnAck(_) => PacketType::ConnAck,
            Self::Publish(_) => PacketType::Publish,
            Self::PubAck(_) => PacketType::PubAck,
            Self::PubRec(_) => PacketType::PubRec,
            Self::PubRel(_) => PacketType::PubRel,
            Self::PubComp(_) => PacketType::PubComp,
            Self::Subscribe(_) => PacketType::Subscribe,
            Self::SubAck(_) => PacketType::SubAck,
            Self::Unsubscribe(_) => PacketType::Unsubscribe,
            Self::UnsubAck(_) => PacketType::UnsubAck,
            Self::PingReq => PacketType::PingReq,
            Self::PingResp => PacketType::PingResp,
            Self::Disconnect(_) => PacketType::Disconnect,
            Self::Auth(_) => PacketType::Auth,
        }
    }
}
