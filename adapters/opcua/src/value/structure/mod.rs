//! Structures as documents (OPC 10000-6, sections 5.2.2.15 and 5.2.6 to 5.2.8).
//!
//! The library leaves the bodies of structures it does not know as bytes, so that what is wrong with one costs
//! this value and not its message.

use std::io::Read as _;

use opcua::types::{
    BinaryDecodable as _, Context, DynEncodable, ExtensionObject, NodeId, Variant,
    type_loader::{ByteStringBody, XmlBody},
};
use tidegate_model::{Document, Value};

use super::decode::{Decoding, Undecoded, nested};
use crate::structures::{Field, Form, Kind, Known, Layout};

/// Structures within structures.
const DEPTH_MAX: usize = 32;
/// Fields and elements without bytes of their own, such as empty structures.
const FIELDS_FREE: usize = 64;
/// Marks an array in the first byte of a variant (OPC 10000-6, section 5.2.2.16).
const ARRAY: u8 = 0x80;

impl<'a> Decoding<'a> {
    /// Reads a structure with the header that says of what type it is.
    pub(super) fn structure(&mut self, object: ExtensionObject) -> Result<Value, Undecoded> {
        // No body: there is no structure.
        let Some(body) = object.body else { return Ok(Value::Null) };
        let context = self.reader.structures.context().context();
        let (encoding, bytes) = bytes(&*body, &context)?;
        if self.depth == 0 {
            self.fields_left += bytes.len() + FIELDS_FREE;
        }
        let mut rest = bytes.as_slice();
        let value = self.fields(&encoding, &mut rest, &context)?;
        if rest.is_empty() { Ok(value) } else { Err(Undecoded::Malformed) }
    }

    /// Reads the fields of a structure of known type.
    fn fields(
        &mut self,
        id: &NodeId,
        rest: &mut &[u8],
        context: &Context<'a>,
    ) -> Result<Value, Undecoded> {
        let layout = match self.reader.structures.get(id) {
            Some(Known::Layout(layout)) => layout,
            Some(Known::Untold) => return Err(Undecoded::Untold),
            None => return Err(Undecoded::Unasked(id.clone())),
        };
        if self.depth == DEPTH_MAX {
            return Err(Undecoded::Malformed);
        }
        self.depth += 1;
        let value = self.members(layout, rest, context);
        self.depth -= 1;
        value
    }

    fn members(
        &mut self,
        layout: &Layout,
        rest: &mut &[u8],
        context: &Context<'a>,
    ) -> Result<Value, Undecoded> {
        let present: Vec<&Field> = match layout.form {
            Form::Plain => layout.fields.iter().collect(),
            Form::WithOptional => {
                let mask = u32::decode(rest, context).map_err(malformed)?;
                let mut bits = (0..u32::BITS).map(|bit| mask & (1 << bit) != 0);
                let mut is_there =
                    |field: &&Field| !field.optional || bits.next().unwrap_or_default();
                layout.fields.iter().filter(|field| is_there(field)).collect()
            }
            Form::Union => match u32::decode(rest, context).map_err(malformed)? {
                0 => return Ok(Value::Null),
                number => {
                    let field = layout.fields.get(number as usize - 1);
                    vec![field.ok_or(Undecoded::Malformed)?]
                }
            },
        };
        let mut members = Vec::with_capacity(present.len());
        for field in present {
            members.push((field.name.clone(), self.field(field, rest, context)?));
        }
        let document = Document::new(members).map_err(|_| Undecoded::Malformed)?;
        Ok(Value::Document(document.into()))
    }

    fn field(
        &mut self,
        field: &Field,
        rest: &mut &[u8],
        context: &Context<'a>,
    ) -> Result<Value, Undecoded> {
        match field.dimensions {
            0 => self.one(&field.kind, rest, context),
            1 => match i32::decode(rest, context).map_err(malformed)? {
                ..0 => Ok(Value::Null),
                length => {
                    let values = self.many(&field.kind, length.unsigned_abs(), rest, context)?;
                    Ok(Value::Array(values.into()))
                }
            },
            dimensions => {
                let lengths = <Option<Vec<i32>>>::decode(rest, context).map_err(malformed)?;
                let Some(lengths) = lengths else { return Ok(Value::Null) };
                let lengths: Vec<u32> =
                    lengths.into_iter().filter_map(|length| u32::try_from(length).ok()).collect();
                let count =
                    lengths.iter().try_fold(1_u32, |product, length| product.checked_mul(*length));
                let count = count.filter(|_| lengths.len() == usize::from(dimensions));
                let count = count.ok_or(Undecoded::Malformed)?;
                let values = self.many(&field.kind, count, rest, context)?;
                let lengths: Vec<usize> = lengths.iter().map(|length| *length as usize).collect();
                Ok(nested(values, &lengths))
            }
        }
    }

    fn one(
        &mut self,
        kind: &Kind,
        rest: &mut &[u8],
        context: &Context<'a>,
    ) -> Result<Value, Undecoded> {
        self.fields_left = self.fields_left.checked_sub(1).ok_or(Undecoded::Malformed)?;
        match kind {
            // A variant is the number of its type with the value behind it.
            Kind::BuiltIn(number) => self.variant(&[*number], rest, context),
            Kind::Inline(data_type) => self.fields(data_type, rest, context),
        }
    }

    fn many(
        &mut self,
        kind: &Kind,
        count: u32,
        rest: &mut &[u8],
        context: &Context<'a>,
    ) -> Result<Vec<Value>, Undecoded> {
        if count as usize > context.options().max_array_length {
            return Err(Undecoded::Malformed);
        }
        let Kind::BuiltIn(number) = kind else {
            return (0..count).map(|_| self.one(kind, rest, context)).collect();
        };
        if count == 0 {
            return Ok(Vec::new());
        }
        let [a, b, c, d] = count.to_le_bytes();
        match self.variant(&[ARRAY | *number, a, b, c, d], rest, context)? {
            Value::Array(values) => Ok(values.to_vec()),
            _ => Err(Undecoded::Malformed),
        }
    }

    fn variant(
        &mut self,
        head: &[u8],
        rest: &mut &[u8],
        context: &Context<'a>,
    ) -> Result<Value, Undecoded> {
        let variant = Variant::decode(&mut head.chain(&mut *rest), context).map_err(malformed)?;
        self.value(variant)
    }
}

/// Returns the encoding and the bytes of a body, whatever the library made of it.
fn bytes(body: &dyn DynEncodable, context: &Context<'_>) -> Result<(NodeId, Vec<u8>), Undecoded> {
    let any = body.as_dyn_any_ref();
    if let Some(raw) = any.downcast_ref::<ByteStringBody>() {
        let bytes = raw.raw_body().value.clone().unwrap_or_default();
        return Ok((raw.encoding_id().clone(), bytes));
    }
    if any.is::<XmlBody>() {
        return Err(Undecoded::NoForm);
    }
    // One of the standard's structures, which the library has read already.
    let encoding = body.binary_type_id();
    let encoding = encoding.try_resolve(context.namespaces()).ok_or(Undecoded::NoForm)?;
    let mut bytes = Vec::with_capacity(body.byte_len_dyn(context));
    body.encode_binary(&mut bytes, context).map_err(malformed)?;
    Ok((encoding.into_owned(), bytes))
}

fn malformed<E>(_: E) -> Undecoded {
    Undecoded::Malformed
}

#[cfg(test)]
mod tests;
