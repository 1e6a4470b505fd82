//! Puts fields behind each other, with lengths that are known once the fields are written.

use bytes::{BufMut, BytesMut};

use crate::{EncodeError, Text, property::Property, text::FIELD_BYTES_MAX, varint};

/// Appends a packet: its first byte, the length of its body, the body.
pub(crate) fn packet(
    output: &mut BytesMut,
    first: u8,
    body: impl FnOnce(&mut BytesMut) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    output.put_u8(first);
    with_length(output, body)
}

/// Appends what `write` writes, behind its length as a variable byte integer.
pub(crate) fn with_length(
    output: &mut BytesMut,
    write: impl FnOnce(&mut BytesMut) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let start = output.len();
    write(output)?;
    let bytes = output.len() - start;
    if bytes > varint::MAX as usize {
        return Err(EncodeError::PacketTooLong { bytes });
    }
    let (length, count) = varint::encode(bytes as u32);
    output.put_slice(&length[..count]);
    output[start..].rotate_right(count);
    Ok(())
}

/// Appends binary data or text behind its 16-bit length.
pub(crate) fn field(output: &mut BytesMut, bytes: &[u8]) -> Result<(), EncodeError> {
    if bytes.len() > FIELD_BYTES_MAX {
        return Err(EncodeError::FieldTooLong { bytes: bytes.len() });
    }
    output.put_u16(bytes.len() as u16);
    output.put_slice(bytes);
    Ok(())
}

/// A list of properties that is being written. Values that are `None` are left out.
#[derive(Debug)]
pub(crate) struct PropertyWriter<'a> {
    output: &'a mut BytesMut,
}

impl<'a> PropertyWriter<'a> {
    pub(crate) fn new(output: &'a mut BytesMut) -> Self {
        Self { output }
    }

    pub(crate) fn u8(&mut self, property: Property, value: Option<u8>) {
        if let Some(value) = value {
            self.output.put_u8(property.number());
            self.output.put_u8(value);
        }
    }

    pub(crate) fn u16(&mut self, property: Property, value: Option<u16>) {
        if let Some(value) = value {
            self.output.put_u8(property.number());
            self.output.put_u16(value);
        }
    }

    pub(crate) fn u32(&mut self, property: Property, value: Option<u32>) {
        if let Some(value) = value {
            self.output.put_u8(property.number());
            self.output.put_u32(value);
        }
    }

    pub(crate) fn varint(&mut self, property: Property, value: u32) {
        self.output.put_u8(property.number());
        let (bytes, count) = varint::encode(value);
        self.output.put_slice(&bytes[..count]);
    }

    pub(crate) fn field(
        &mut self,
        property: Property,
        value: Option<&[u8]>,
    ) -> Result<(), EncodeError> {
        let Some(value) = value else {
            return Ok(());
        };
        self.output.put_u8(property.number());
        field(self.output, value)
    }

    pub(crate) fn text(
        &mut self,
        property: Property,
        value: Option<&Text>,
    ) -> Result<(), EncodeError> {
        self.field(property, value.map(|text| text.as_bytes()))
    }

    pub(crate) fn user<'t, T: AsRef<str> + 't>(
        &mut self,
        pairs: impl IntoIterator<Item = &'t (T, T)>,
    ) -> Result<(), EncodeError> {
        for (name, value) in pairs {
            self.output.put_u8(Property::UserProperty.number());
            field(self.output, name.as_ref().as_bytes())?;
            field(self.output, value.as_ref().as_bytes())?;
        }
        Ok(())
    }
}

/// Appends a list of properties behind its length.
pub(crate) fn properties(
    output: &mut BytesMut,
    write: impl FnOnce(&mut PropertyWriter<'_>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    with_length(output, |output| write(&mut PropertyWriter::new(output)))
}
