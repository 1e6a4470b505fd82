//! From datagrams to messages and back: the format rules of RFC 7252, section 3.

use bytes::Bytes;
use coap_lite::{MessageClass, MessageType, Packet};
use thiserror::Error;

/// Most options a message may have. Each costs an allocation, so a bound stands before decoding.
const OPTIONS_MAX: usize = 128;

/// A datagram is not a CoAP message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Malformed {
    /// Shorter than a header, or not of version 1: nothing to answer.
    #[error("not a CoAP message of version 1")]
    NotCoap,
    /// The header can be read, and what follows breaks the format.
    #[error("{reason}")]
    Format {
        /// The type of the message: a confirmable one is rejected with a reset.
        confirmable: bool,
        /// The message ID, for the reset.
        message_id: u16,
        /// What is wrong.
        reason: &'static str,
    },
}

/// Reads one message.
///
/// # Errors
///
/// [`Malformed`] if the datagram breaks the format; a payload marker without payload, an Empty message
/// with content and more than 128 options are among the breaches.
pub fn decode(datagram: &[u8]) -> Result<Packet, Malformed> {
    let [first, code, high, low, rest @ ..] = datagram else {
        return Err(Malformed::NotCoap);
    };
    if first >> 6 != 1 {
        return Err(Malformed::NotCoap);
    }
    let format = |reason| Malformed::Format {
        confirmable: first >> 4 & 3 == 0,
        message_id: u16::from_be_bytes([*high, *low]),
        reason,
    };
    check_body(usize::from(first & 0x0F), *code, rest).map_err(format)?;
    Packet::from_bytes(datagram).map_err(|_| format("format error"))
}

/// Checks everything behind the header without allocating.
fn check_body(token_length: usize, code: u8, rest: &[u8]) -> Result<(), &'static str> {
    if token_length > 8 {
        return Err("token longer than 8 bytes");
    }
    if code == 0 && !(token_length == 0 && rest.is_empty()) {
        return Err("Empty message with content");
    }
    let options = rest.get(token_length..).ok_or("token longer than the message")?;
    check_options(options)
}

fn check_options(mut rest: &[u8]) -> Result<(), &'static str> {
    let mut number = 0;
    for _ in 0..=OPTIONS_MAX {
        let Some((&byte, tail)) = rest.split_first() else {
            return Ok(());
        };
        if byte == 0xFF {
            return if tail.is_empty() { Err("payload marker without payload") } else { Ok(()) };
        }
        rest = tail;
        let delta = extended(byte >> 4, &mut rest)?;
        let length = extended(byte & 0x0F, &mut rest)?;
        number += delta;
        if number > usize::from(u16::MAX) || length > usize::from(u16::MAX) {
            return Err("option number or length above 65535");
        }
        rest = rest.get(length..).ok_or("option longer than the message")?;
    }
    Err("more than 128 options")
}

/// Reads the extension of a delta or length nibble (section 3.1).
fn extended(nibble: u8, rest: &mut &[u8]) -> Result<usize, &'static str> {
    const SHORT: &str = "option header cut short";
    match nibble {
        13 => {
            let (&byte, tail) = rest.split_first().ok_or(SHORT)?;
            *rest = tail;
            Ok(usize::from(byte) + 13)
        }
        14 => {
            let (&pair, tail) = rest.split_first_chunk::<2>().ok_or(SHORT)?;
            *rest = tail;
            Ok(usize::from(u16::from_be_bytes(pair)) + 269)
        }
        15 => Err("reserved option nibble 15"),
        nibble => Ok(usize::from(nibble)),
    }
}

/// Returns the bytes of a message of our own making.
pub(crate) fn encode(packet: &Packet) -> Bytes {
    packet.to_bytes_unlimited().expect("a message without size limit can be encoded").into()
}

/// Returns an Empty message: an acknowledgement or a reset.
pub(crate) fn empty(kind: MessageType, message_id: u16) -> Bytes {
    let kind_bits = match kind {
        MessageType::Confirmable => 0_u8,
        MessageType::NonConfirmable => 1,
        MessageType::Acknowledgement => 2,
        MessageType::Reset => 3,
    };
    let [high, low] = message_id.to_be_bytes();
    Bytes::copy_from_slice(&[1 << 6 | kind_bits << 4, MessageClass::Empty.into(), high, low])
}

#[cfg(test)]
mod tests;
