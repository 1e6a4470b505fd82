//! Requests as a resource sees them.

use bytes::Bytes;
use coap_lite::{CoapOption, Packet};

use crate::{
    Block, BlockError, Code, Response,
    options::{strings, uint, unusable_critical},
};

/// What a request asks for (RFC 7252, section 5.8; RFC 8132).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Read.
    Get,
    /// Process the body.
    Post,
    /// Store the body.
    Put,
    /// Remove.
    Delete,
    /// Read what the body selects.
    Fetch,
    /// Change a part.
    Patch,
    /// Change a part, idempotent.
    IPatch,
}

impl Method {
    fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Get,
            2 => Self::Post,
            3 => Self::Put,
            4 => Self::Delete,
            5 => Self::Fetch,
            6 => Self::Patch,
            7 => Self::IPatch,
            _ => return None,
        })
    }
}

/// A request, its options checked. Blocks, repetitions and acknowledgements are the endpoint's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What it asks for.
    pub method: Method,
    /// Whether the peer waits for an answer and repeats the request until it has one.
    pub confirmable: bool,
    /// The segments of the path, decoded; none for the root.
    pub path: Vec<String>,
    /// The arguments of the query, decoded.
    pub query: Vec<String>,
    /// The format of the body, if the peer names one.
    pub content_format: Option<u16>,
    /// The format wanted of the answer, if only one will do.
    pub accept: Option<u16>,
    /// The entity tags of If-Match; the empty one stands for any.
    pub if_match: Vec<Bytes>,
    /// Whether the request is only meant for a resource that does not exist.
    pub if_none_match: bool,
    /// The body.
    pub payload: Bytes,
}

/// What a request says to the endpoint, beside what it says to the resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Controls {
    /// The block of the request's body.
    pub(crate) block1: Option<Block>,
    /// The block wanted of the answer's body.
    pub(crate) block2: Option<Block>,
    /// The classes of answers that the peer does not want (RFC 7967).
    pub(crate) no_response: u8,
}

impl Controls {
    /// Reads the options of the endpoint; a block of a reserved size is left out here and refused by
    /// [`read`].
    pub(crate) fn of(packet: &Packet) -> Self {
        let block = |option| uint(packet, option).and_then(|value| Block::from_value(value).ok());
        let no_response = uint(packet, CoapOption::NoResponse).unwrap_or(0);
        Self {
            block1: block(CoapOption::Block1),
            block2: block(CoapOption::Block2),
            no_response: u8::try_from(no_response).expect("one byte"),
        }
    }
}

/// Why a request goes no further than the endpoint.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Rejection {
    /// A critical option is not understood: a non-confirmable request is then ignored (section 5.4.1).
    BadOption(Response),
    /// Anything else.
    Answer(Response),
}

/// Reads a request whose format is right.
pub(crate) fn read(
    packet: Packet,
    confirmable: bool,
    body_max: usize,
) -> Result<Request, Rejection> {
    if let Some(number) = unusable_critical(&packet) {
        let text = format!("critical option {number} is not understood or malformed");
        return Err(Rejection::BadOption(Response::diagnostic(Code::BadOption, &text)));
    }
    let refuse = |code, text: &str| Rejection::Answer(Response::diagnostic(code, text));
    let has = |option| packet.get_option(option).is_some();
    if has(CoapOption::ProxyUri) || has(CoapOption::ProxyScheme) {
        return Err(refuse(Code::ProxyingNotSupported, "this is no proxy"));
    }
    let Some(method) = Method::from_code(packet.header.code.into()) else {
        return Err(refuse(Code::MethodNotAllowed, "unknown method"));
    };
    check_blocks(&packet, body_max)?;
    let texts = |option, name| {
        strings(&packet, option, name)
            .map_err(|name| refuse(Code::BadRequest, &format!("{name} is not UTF-8")))
    };
    Ok(Request {
        method,
        confirmable,
        path: texts(CoapOption::UriPath, "Uri-Path")?,
        query: texts(CoapOption::UriQuery, "Uri-Query")?,
        content_format: format_number(&packet, CoapOption::ContentFormat),
        accept: format_number(&packet, CoapOption::Accept),
        if_match: packet
            .get_option(CoapOption::IfMatch)
            .into_iter()
            .flatten()
            .map(|tag| Bytes::copy_from_slice(tag))
            .collect(),
        if_none_match: has(CoapOption::IfNoneMatch),
        payload: packet.payload.into(),
    })
}

/// Refuses bodies in several blocks, and bodies that are too large (RFC 7959, section 2.9).
///
/// One block that is the whole body is taken as it is.
fn check_blocks(packet: &Packet, body_max: usize) -> Result<(), Rejection> {
    for option in [CoapOption::Block1, CoapOption::Block2] {
        if let Some(Err(error @ BlockError::ReservedSize)) =
            uint(packet, option).map(Block::from_value)
        {
            let response = Response::diagnostic(Code::BadRequest, &error.to_string());
            return Err(Rejection::Answer(response));
        }
    }
    match Controls::of(packet).block1 {
        Some(block) if block.number > 0 => Err(Rejection::Answer(Response::diagnostic(
            Code::RequestEntityIncomplete,
            "no earlier block of this body is held",
        ))),
        Some(block) if block.more => Err(Rejection::Answer(too_large(Block::FIRST.size()))),
        _ if packet.payload.len() > body_max => Err(Rejection::Answer(too_large(body_max))),
        _ => Ok(()),
    }
}

fn too_large(limit: usize) -> Response {
    let text = format!("a body has at most {limit} bytes, in one message");
    Response::diagnostic(Code::RequestEntityTooLarge, &text)
        .size1(u32::try_from(limit).unwrap_or(u32::MAX))
}

fn format_number(packet: &Packet, option: CoapOption) -> Option<u16> {
    uint(packet, option).map(|number| u16::try_from(number).expect("two bytes"))
}
