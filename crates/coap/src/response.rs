//! Answers to requests.

use bytes::Bytes;
use coap_lite::{CoapOption, MessageClass, MessageType, Packet};

use crate::{Block, Code, block::entity_tag, options::uint_value, request::Controls};

/// Longest diagnostic text in bytes; what is longer is cut.
const DIAGNOSTIC_BYTES_MAX: usize = 256;

/// Numbers of content formats (RFC 7252, section 12.3, and the registry).
pub mod content_format {
    /// `text/plain; charset=utf-8`.
    pub const TEXT: u16 = 0;
    /// `application/link-format`.
    pub const LINK_FORMAT: u16 = 40;
    /// `application/octet-stream`.
    pub const OCTET_STREAM: u16 = 42;
    /// `application/json`.
    pub const JSON: u16 = 50;
    /// `application/cbor`.
    pub const CBOR: u16 = 60;
    /// `application/senml+json`.
    pub const SENML_JSON: u16 = 110;
    /// `application/senml+cbor`.
    pub const SENML_CBOR: u16 = 112;
}

/// An answer: a code, and what goes with it. A body of any size; the endpoint cuts blocks off it.
#[derive(Clone, Debug, PartialEq)]
pub struct Response {
    code: Code,
    content_format: Option<u16>,
    max_age: Option<u32>,
    size1: Option<u32>,
    payload: Bytes,
}

impl Response {
    /// Makes an answer without body.
    pub fn new(code: Code) -> Self {
        Self { code, content_format: None, max_age: None, size1: None, payload: Bytes::new() }
    }

    /// Makes an answer that says in words what is wrong (RFC 7252, section 5.5.2); at most 256 bytes of
    /// `text` are sent.
    pub fn diagnostic(code: Code, text: &str) -> Self {
        let end = text.floor_char_boundary(DIAGNOSTIC_BYTES_MAX);
        Self { payload: Bytes::copy_from_slice(&text.as_bytes()[..end]), ..Self::new(code) }
    }

    /// Makes an answer with a body.
    pub fn content(content_format: u16, payload: impl Into<Bytes>) -> Self {
        Self {
            content_format: Some(content_format),
            payload: payload.into(),
            ..Self::new(Code::Content)
        }
    }

    /// Says for how many seconds the answer holds; with 5.03 and 4.29, when to try again.
    #[must_use]
    pub fn max_age(self, seconds: u32) -> Self {
        Self { max_age: Some(seconds), ..self }
    }

    /// Says how many bytes the body of a request may have.
    #[must_use]
    pub fn size1(self, bytes: u32) -> Self {
        Self { size1: Some(bytes), ..self }
    }

    /// Returns the code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// Returns the body.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// Returns whether the peer asked not to be told of answers of this class (RFC 7967, section 2.1).
    pub(crate) fn is_unwanted(&self, controls: &Controls) -> bool {
        let class = u8::from(MessageClass::Response(self.code)) >> 5;
        controls.no_response & 1 << (class - 1) != 0
    }

    /// Returns the message, with the block of the body that the request asks for.
    pub(crate) fn into_packet(
        self,
        kind: MessageType,
        message_id: u16,
        token: &[u8],
        controls: &Controls,
    ) -> Packet {
        let body = self.payload;
        let whole = controls.block2.is_none() && body.len() <= Block::FIRST.size();
        let mut packet = Packet::new();
        packet.header.set_type(kind);
        packet.header.message_id = message_id;
        packet.set_token(token.to_vec());
        packet.header.code = MessageClass::Response(self.code);
        let mut number = |option, number| packet.add_option(option, uint_value(number));
        if let Some(format) = self.content_format {
            number(CoapOption::ContentFormat, format.into());
        }
        if let Some(seconds) = self.max_age {
            number(CoapOption::MaxAge, seconds);
        }
        if let Some(bytes) = self.size1 {
            number(CoapOption::Size1, bytes);
        }
        if let Some(block) = controls.block1.filter(|block| block.number == 0 && !block.more) {
            number(CoapOption::Block1, block.value());
        }
        // Only a representation is cut; a diagnostic text is short (RFC 7959, section 2.4).
        if whole || self.code != Code::Content {
            packet.payload = body.into();
            return packet;
        }
        match controls.block2.unwrap_or(Block::FIRST).of(&body) {
            Ok((part, block)) => {
                number(CoapOption::Block2, block.value());
                if block.number == 0 {
                    number(CoapOption::Size2, u32::try_from(body.len()).unwrap_or(u32::MAX));
                }
                packet.add_option(CoapOption::ETag, entity_tag(&body).to_vec());
                packet.payload = part.into();
                packet
            }
            Err(error) => Self::diagnostic(Code::BadRequest, &error.to_string()).into_packet(
                kind,
                message_id,
                token,
                &Controls::default(),
            ),
        }
    }
}
