//! Takes fields out of one packet, with every length checked against what is left.

use bytes::Bytes;
use tidegate_model::{Topic, TopicError};

use crate::{
    Limits, PacketId, ProtocolError, ProtocolVersion, Text,
    packet::{FixedHeader, PacketType},
    property::PropertyReader,
    varint,
};

/// The fields of one packet, from left to right.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    whole: &'a [u8],
    /// The same bytes, if binary data is to share their memory.
    shared: Option<&'a Bytes>,
    /// A topic that may come again.
    known: Option<&'a Topic>,
    at: usize,
    end: usize,
    pub(crate) packet: PacketType,
    pub(crate) version: ProtocolVersion,
    pub(crate) limits: &'a Limits,
}

impl<'a> Reader<'a> {
    /// Starts behind the fixed header of `whole`, which is exactly one packet.
    #[inline]
    pub(crate) fn new(
        whole: &'a [u8],
        shared: Option<&'a Bytes>,
        header: FixedHeader,
        version: ProtocolVersion,
        limits: &'a Limits,
    ) -> Self {
        debug_assert_eq!(whole.len(), header.packet_bytes());
        Self {
            whole,
            shared,
            known: None,
            at: header.header_bytes,
            end: whole.len(),
            packet: header.packet,
            version,
            limits,
        }
    }

    /// Takes a topic of the same bytes as `known` for that one.
    #[inline]
    pub(crate) fn knowing(self, known: Option<&'a Topic>) -> Self {
        Self { known, ..self }
    }

    #[inline]
    pub(crate) fn is_v5(&self) -> bool {
        self.version == ProtocolVersion::V5
    }

    #[inline]
    pub(crate) fn remaining(&self) -> usize {
        self.end - self.at
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.at == self.end
    }

    /// Checks that nothing is left over.
    #[inline]
    pub(crate) fn finish(&self) -> Result<(), ProtocolError> {
        match self.remaining() {
            0 => Ok(()),
            bytes => Err(ProtocolError::TrailingBytes { bytes }),
        }
    }

    #[inline]
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], ProtocolError> {
        if bytes > self.remaining() {
            return Err(ProtocolError::Truncated);
        }
        let taken = &self.whole[self.at..self.at + bytes];
        self.at += bytes;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], ProtocolError> {
        let taken = self.take(N)?;
        Ok(taken.try_into().expect("take returns as many bytes as asked for"))
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, ProtocolError> {
        self.array::<1>().map(|[byte]| byte)
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Result<u16, ProtocolError> {
        self.array().map(u16::from_be_bytes)
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Result<u32, ProtocolError> {
        self.array().map(u32::from_be_bytes)
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u32, ProtocolError> {
        let (number, bytes) =
            varint::read(&self.whole[self.at..self.end])?.ok_or(ProtocolError::Truncated)?;
        self.at += bytes;
        Ok(number)
    }

    #[inline]
    pub(crate) fn packet_id(&mut self) -> Result<PacketId, ProtocolError> {
        PacketId::new(self.u16()?).ok_or(ProtocolError::PacketIdZero)
    }

    /// Takes a length and as many bytes.
    #[inline]
    pub(crate) fn field(&mut self) -> Result<&'a [u8], ProtocolError> {
        let bytes = self.u16()?;
        self.take(bytes.into())
    }

    /// Takes binary data.
    #[inline]
    pub(crate) fn binary(&mut self) -> Result<Bytes, ProtocolError> {
        self.field().map(|field| self.own(field))
    }

    /// Takes all that is left.
    #[inline]
    pub(crate) fn rest(&mut self) -> Bytes {
        let rest = &self.whole[self.at..self.end];
        self.at = self.end;
        self.own(rest)
    }

    #[inline]
    fn own(&self, bytes: &'a [u8]) -> Bytes {
        match self.shared {
            Some(shared) => shared.slice_ref(bytes),
            None => Bytes::copy_from_slice(bytes),
        }
    }

    /// Takes a UTF-8 string without U+0000 (MQTT 5.0, section 1.5.4).
    #[inline]
    pub(crate) fn str(&mut self) -> Result<&'a str, ProtocolError> {
        Self::checked(self.field()?)
    }

    #[inline]
    fn checked(field: &'a [u8]) -> Result<&'a str, ProtocolError> {
        let text = std::str::from_utf8(field).map_err(|_| ProtocolError::Utf8)?;
        if text.as_bytes().contains(&0) {
            return Err(ProtocolError::Null);
        }
        Ok(text)
    }

    pub(crate) fn text(&mut self) -> Result<Text, ProtocolError> {
        let text = self.str()?;
        Ok(Text::new(text).expect("`str` has checked what a text must be"))
    }

    /// Takes a topic name; `None` if it is empty.
    #[inline]
    pub(crate) fn topic(&mut self) -> Result<Option<Topic>, ProtocolError> {
        let field = self.field()?;
        if let Some(known) = self.known
            && known.as_str().as_bytes() == field
        {
            return Ok(Some(known.clone()));
        }
        let text = Self::checked(field)?;
        let limits = self.limits;
        if text.len() > limits.topic_bytes {
            let (bytes, limit) = (text.len(), limits.topic_bytes);
            return Err(ProtocolError::TopicTooLong { bytes, limit });
        }
        if is_too_deep(text, limits.topic_levels) {
            return Err(ProtocolError::TopicTooDeep { limit: limits.topic_levels });
        }
        match Topic::new(text) {
            Ok(topic) => Ok(Some(topic)),
            Err(TopicError::Empty) => Ok(None),
            Err(source) => Err(ProtocolError::Topic { source }),
        }
    }

    /// Takes a list of properties; an empty one in MQTT 3.1.1, which has none.
    #[inline]
    pub(crate) fn properties(&mut self) -> Result<PropertyReader<'a>, ProtocolError> {
        let bytes = if self.is_v5() { self.varint()? as usize } else { 0 };
        if bytes > self.remaining() {
            return Err(ProtocolError::Truncated);
        }
        let limit = self.limits.properties_bytes;
        if bytes > limit {
            return Err(ProtocolError::PropertiesTooLong { bytes, limit });
        }
        let list = Self { end: self.at + bytes, ..self.clone() };
        self.at += bytes;
        Ok(PropertyReader::new(list))
    }
}

/// Returns whether `text` has more than `limit` levels, counting no further than needed.
#[inline]
pub(crate) fn is_too_deep(text: &str, limit: usize) -> bool {
    // A text cannot have more levels than bytes plus one.
    text.len() >= limit && text.split('/').nth(limit).is_some()
}
