//! The two messages of a client (RFC 5802, section 7).

use data_encoding::BASE64;
use thiserror::Error;

use crate::verifier::Key;

/// Longest message of a client, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 4_096;

/// Why a client has not proven that it knows a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ScramError {
    /// A message is longer than [`MESSAGE_BYTES_MAX`].
    #[error("a message is longer than {MESSAGE_BYTES_MAX} bytes")]
    TooLong,
    /// A message is not of the form that the standard gives it.
    #[error("a message is malformed")]
    Malformed,
    /// The name is not written as the standard has it (`,` as `=2C`, `=` as `=3D`).
    #[error("the name is malformed")]
    Name,
    /// The client insists on binding its login to the encryption below, which is not offered.
    #[error("channel binding is not supported")]
    ChannelBinding,
    /// The second message repeats another header than the first had: somebody stands between.
    #[error("the channel binding of the second message is not that of the first")]
    ChannelBindingMismatch,
    /// The client insists on an extension, of which there are none.
    #[error("extensions are not supported")]
    Extension,
    /// The client wants to act as somebody else than who it is.
    #[error("acting as somebody else is not supported")]
    AuthorizationIdentity,
    /// The second message belongs to another exchange.
    #[error("the nonce is not that of this exchange")]
    Nonce,
    /// The name is unknown or the password is wrong; which of the two is not told.
    #[error("unknown name or wrong password")]
    Proof,
}

impl ScramError {
    /// Returns the last message of the server after the second of the client.
    pub fn server_final(self) -> &'static str {
        match self {
            Self::TooLong | Self::Malformed => "e=invalid-encoding",
            Self::Name => "e=invalid-username-encoding",
            Self::ChannelBinding => "e=channel-binding-not-supported",
            Self::ChannelBindingMismatch => "e=channel-bindings-dont-match",
            Self::Extension => "e=extensions-not-supported",
            Self::AuthorizationIdentity | Self::Nonce => "e=other-error",
            Self::Proof => "e=invalid-proof",
        }
    }
}

/// `client-first-message`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct First<'a> {
    /// Up to and with the second comma: the second message repeats it.
    pub(crate) header: &'a str,
    /// What is behind it: what is signed begins with it.
    pub(crate) bare: &'a str,
    pub(crate) name: String,
    pub(crate) nonce: &'a str,
}

impl<'a> First<'a> {
    pub(crate) fn parse(message: &'a [u8]) -> Result<Self, ScramError> {
        let message = text(message)?;
        let mut parts = message.splitn(3, ',');
        let (Some(flag), Some(identity), Some(bare)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(ScramError::Malformed);
        };
        match flag {
            "n" | "y" => {}
            _ if flag.starts_with("p=") => return Err(ScramError::ChannelBinding),
            _ => return Err(ScramError::Malformed),
        }
        let mut attributes = bare.split(',');
        let first = attributes.next().unwrap_or_default();
        if first.starts_with("m=") {
            return Err(ScramError::Extension);
        }
        let name = decode_name(first.strip_prefix("n=").ok_or(ScramError::Malformed)?)?;
        let nonce = attributes.next().and_then(|part| part.strip_prefix("r="));
        let nonce = nonce.filter(|nonce| is_nonce(nonce)).ok_or(ScramError::Malformed)?;
        check_extensions(attributes)?;
        if !identity.is_empty() {
            let identity = identity.strip_prefix("a=").ok_or(ScramError::Malformed)?;
            if decode_name(identity)? != name {
                return Err(ScramError::AuthorizationIdentity);
            }
        }
        let header = &message[..message.len() - bare.len()];
        Ok(Self { header, bare, name, nonce })
    }
}

/// `client-final-message`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Final<'a> {
    /// The header that the client says its first message had.
    pub(crate) header: Vec<u8>,
    pub(crate) nonce: &'a str,
    /// All but the proof: what is signed ends with it.
    pub(crate) without_proof: &'a str,
    pub(crate) proof: Key,
}

impl<'a> Final<'a> {
    pub(crate) fn parse(message: &'a [u8]) -> Result<Self, ScramError> {
        let message = text(message)?;
        let (without_proof, proof) = message.rsplit_once(",p=").ok_or(ScramError::Malformed)?;
        let bytes = |text: &str| BASE64.decode(text.as_bytes()).map_err(|_| ScramError::Malformed);
        let proof = bytes(proof)?.try_into().map_err(|_| ScramError::Malformed)?;
        let mut attributes = without_proof.split(',');
        let mut value = |key| {
            let value = attributes.next().and_then(|part| part.strip_prefix(key));
            value.ok_or(ScramError::Malformed)
        };
        let (header, nonce) = (bytes(value("c=")?)?, value("r=")?);
        check_extensions(attributes)?;
        Ok(Self { header, nonce, without_proof, proof })
    }
}

fn text(message: &[u8]) -> Result<&str, ScramError> {
    if message.len() > MESSAGE_BYTES_MAX {
        return Err(ScramError::TooLong);
    }
    let text = std::str::from_utf8(message).map_err(|_| ScramError::Malformed)?;
    if text.contains('\0') { Err(ScramError::Malformed) } else { Ok(text) }
}

/// Reads a `saslname`.
fn decode_name(text: &str) -> Result<String, ScramError> {
    let mut name = String::with_capacity(text.len());
    let mut pieces = text.split('=');
    name.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        let (sign, rest) = match (piece.strip_prefix("2C"), piece.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (_, Some(rest)) => ('=', rest),
            _ => return Err(ScramError::Name),
        };
        name.push(sign);
        name.push_str(rest);
    }
    if name.is_empty() { Err(ScramError::Name) } else { Ok(name) }
}

fn is_nonce(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Passes over what a later standard may have added; only `m=` says that it must be understood.
fn check_extensions<'a>(attributes: impl Iterator<Item = &'a str>) -> Result<(), ScramError> {
    for attribute in attributes {
        match attribute.as_bytes() {
            [b'm', b'=', ..] => return Err(ScramError::Extension),
            [key, b'=', _, ..] if key.is_ascii_alphabetic() => {}
            _ => return Err(ScramError::Malformed),
        }
    }
    Ok(())
}
