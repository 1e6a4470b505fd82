//! The encoding of Protocol Buffers: keys, varints and lengths.

use bytes::Bytes;

use crate::payload::DecodeError;

/// How a field is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    Varint,
    Fixed64,
    Length,
    Fixed32,
}

/// Appends a number as one to ten bytes, seven bits each, the lowest first.
pub(crate) fn put_varint(output: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        #[expect(clippy::cast_possible_truncation, reason = "seven bits are meant")]
        output.push(number as u8 | 0x80);
        number >>= 7;
    }
    output.push(u8::try_from(number).expect("below 0x80"));
}

fn put_key(output: &mut Vec<u8>, field: u32, wire: Wire) {
    let wire = match wire {
        Wire::Varint => 0,
        Wire::Fixed64 => 1,
        Wire::Length => 2,
        Wire::Fixed32 => 5,
    };
    put_varint(output, u64::from(field << 3 | wire));
}

/// Appends a number that is there.
pub(crate) fn put_number(output: &mut Vec<u8>, field: u32, number: u64) {
    put_key(output, field, Wire::Varint);
    put_varint(output, number);
}

/// Appends a number if it is there.
pub(crate) fn put_optional(output: &mut Vec<u8>, field: u32, number: Option<u64>) {
    if let Some(number) = number {
        put_number(output, field, number);
    }
}

/// Appends a truth value if it is there, the false one too.
pub(crate) fn put_flag(output: &mut Vec<u8>, field: u32, flag: Option<bool>) {
    put_optional(output, field, flag.map(u64::from));
}

/// Appends bytes or text.
pub(crate) fn put_bytes(output: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    put_key(output, field, Wire::Length);
    put_varint(output, bytes.len() as u64);
    output.extend_from_slice(bytes);
}

/// Appends text if it is there.
pub(crate) fn put_text(output: &mut Vec<u8>, field: u32, text: Option<&str>) {
    if let Some(text) = text {
        put_bytes(output, field, text.as_bytes());
    }
}

/// Appends four bytes.
pub(crate) fn put_fixed32(output: &mut Vec<u8>, field: u32, bytes: [u8; 4]) {
    put_key(output, field, Wire::Fixed32);
    output.extend_from_slice(&bytes);
}

/// Appends eight bytes.
pub(crate) fn put_fixed64(output: &mut Vec<u8>, field: u32, bytes: [u8; 8]) {
    put_key(output, field, Wire::Fixed64);
    output.extend_from_slice(&bytes);
}

/// Appends a message within a message.
pub(crate) fn put_message(output: &mut Vec<u8>, field: u32, write: impl FnOnce(&mut Vec<u8>)) {
    let mut inner = Vec::new();
    write(&mut inner);
    put_bytes(output, field, &inner);
}

/// What is left to be read of one message.
#[derive(Clone, Debug)]
pub(crate) struct Reader(Bytes);

/// A field: its number, and what stands there.
pub(crate) type Field = (u32, Content);

/// What stands in a field.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    Varint(u64),
    Fixed64([u8; 8]),
    /// Shares the memory of the message.
    Length(Bytes),
    Fixed32([u8; 4]),
}

impl Reader {
    pub(crate) fn new(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// Reads the next field; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Field>, DecodeError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let field = u32::try_from(key >> 3).map_err(|_| DecodeError::Malformed)?;
        if field == 0 {
            return Err(DecodeError::Malformed);
        }
        let content = match key & 7 {
            0 => Content::Varint(self.varint()?),
            1 => Content::Fixed64(self.array()?),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| DecodeError::Malformed)?;
                if length > self.0.len() {
                    return Err(DecodeError::Malformed);
                }
                Content::Length(self.0.split_to(length))
            }
            5 => Content::Fixed32(self.array()?),
            // Groups are no part of this schema, and have not been of any for long.
            _ => return Err(DecodeError::Malformed),
        };
        Ok(Some((field, content)))
    }

    fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut number = 0;
        for (index, &byte) in self.0.iter().take(10).enumerate() {
            let bits = u64::from(byte & 0x7f);
            if index == 9 && bits > 1 {
                return Err(DecodeError::Malformed);
            }
            number |= bits << (7 * index);
            if byte < 0x80 {
                let _ = self.0.split_to(index + 1);
                return Ok(number);
            }
        }
        Err(DecodeError::Malformed)
    }

    fn array<const COUNT: usize>(&mut self) -> Result<[u8; COUNT], DecodeError> {
        let array = *self.0.first_chunk().ok_or(DecodeError::Malformed)?;
        let _ = self.0.split_to(COUNT);
        Ok(array)
    }
}

impl Content {
    pub(crate) fn number(self) -> Result<u64, DecodeError> {
        match self {
            Self::Varint(number) => Ok(number),
            _ => Err(DecodeError::Malformed),
        }
    }

    /// Returns a number of 32 bits; as the encoding has it, a longer one loses its upper bits.
    pub(crate) fn number_u32(self) -> Result<u32, DecodeError> {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "what every reader of this encoding does"
        )]
        self.number().map(|number| number as u32)
    }

    pub(crate) fn flag(self) -> Result<bool, DecodeError> {
        self.number().map(|number| number != 0)
    }

    pub(crate) fn bytes(self) -> Result<Bytes, DecodeError> {
        match self {
            Self::Length(bytes) => Ok(bytes),
            _ => Err(DecodeError::Malformed),
        }
    }

    pub(crate) fn text(self) -> Result<std::sync::Arc<str>, DecodeError> {
        let bytes = self.bytes()?;
        let text = std::str::from_utf8(&bytes).map_err(|_| DecodeError::NotText)?;
        Ok(text.into())
    }

    pub(crate) fn float(self) -> Result<f32, DecodeError> {
        match self {
            Self::Fixed32(bytes) => Ok(f32::from_le_bytes(bytes)),
            _ => Err(DecodeError::Malformed),
        }
    }

    pub(crate) fn double(self) -> Result<f64, DecodeError> {
        match self {
            Self::Fixed64(bytes) => Ok(f64::from_le_bytes(bytes)),
            _ => Err(DecodeError::Malformed),
        }
    }
}
