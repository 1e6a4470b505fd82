//! Where an encoded value ends, found without reading it (OPC 10000-6, section 5.2).
//!
//! The library cannot go on behind a value that it does not take, such as a text over the limit or one that is no
//! UTF-8. With its end known from its lengths alone, such a value costs itself and nothing else.

/// Values within values; beyond, the end is not looked for.
const DEPTH_MAX: usize = 64;

/// Bits in the first byte of a data value.
const VALUE: u8 = 0x01;
const STATUS: u8 = 0x02;
const SOURCE_TIME: u8 = 0x04;
const SERVER_TIME: u8 = 0x08;
const SOURCE_PICOSECONDS: u8 = 0x10;
const SERVER_PICOSECONDS: u8 = 0x20;

/// Bits in the first byte of a variant.
const ARRAY: u8 = 0x80;
const DIMENSIONS: u8 = 0x40;

/// An encoded data value, cut out of what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DataValueBytes<'a> {
    /// All of it.
    pub(crate) whole: &'a [u8],
    /// What stands behind the value itself: status and times.
    behind: &'a [u8],
}

impl<'a> DataValueBytes<'a> {
    /// Takes a data value off the front of `rest`; `None` if it has no end there.
    pub(crate) fn split_off(rest: &mut &'a [u8]) -> Option<Self> {
        let start = *rest;
        let mut walk = Walk { rest: start, depth: DEPTH_MAX };
        let behind = walk.data_value()?;
        let whole = &start[..start.len() - walk.rest.len()];
        *rest = walk.rest;
        Some(Self { whole, behind: &behind[..behind.len() - walk.rest.len()] })
    }

    /// Returns the encoding of the same without the value: status and times.
    pub(crate) fn without_value(&self) -> Vec<u8> {
        let mask = self.whole.first().copied().unwrap_or_default();
        [&[mask & !VALUE], self.behind].concat()
    }
}

/// Takes encoded values off the front of some bytes.
struct Walk<'a> {
    rest: &'a [u8],
    depth: usize,
}

impl<'a> Walk<'a> {
    fn skip(&mut self, count: usize) -> Option<()> {
        self.rest = self.rest.get(count..)?;
        Some(())
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn length(&mut self) -> Option<usize> {
        let (length, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        // Less than none, which only -1 should say, is none.
        Some(usize::try_from(i32::from_le_bytes(*length)).unwrap_or(0))
    }

    /// A text or bytes, with the length in front.
    fn bytes(&mut self) -> Option<()> {
        let length = self.length()?;
        self.skip(length)
    }

    fn deeper(&mut self, walk: impl FnOnce(&mut Self) -> Option<()>) -> Option<()> {
        self.depth = self.depth.checked_sub(1)?;
        walk(self)?;
        self.depth += 1;
        Some(())
    }

    /// Returns what stands behind the value itself, and goes on behind that as well.
    fn data_value(&mut self) -> Option<&'a [u8]> {
        let mask = self.byte()?;
        if mask & VALUE != 0 {
            self.deeper(Self::variant)?;
        }
        let behind = self.rest;
        for (bit, size) in [
            (STATUS, 4),
            (SOURCE_TIME, 8),
            (SOURCE_PICOSECONDS, 2),
            (SERVER_TIME, 8),
            (SERVER_PICOSECONDS, 2),
        ] {
            if mask & bit != 0 {
                self.skip(size)?;
            }
        }
        Some(behind)
    }

    fn variant(&mut self) -> Option<()> {
        let mask = self.byte()?;
        let built_in = mask & !(ARRAY | DIMENSIONS);
        if mask & ARRAY == 0 {
            return self.one(built_in);
        }
        let count = self.length()?;
        match fixed_size(built_in) {
            Some(size) => self.skip(count.checked_mul(size)?)?,
            // Each of the others has at least one byte, so that the bytes that are there bound the work.
            None => (0..count).try_for_each(|_| self.one(built_in))?,
        }
        if mask & DIMENSIONS != 0 {
            let count = self.length()?;
            self.skip(count.checked_mul(4)?)?;
        }
        Some(())
    }

    /// A value of a built-in type (OPC 10000-6, section 5.1.2).
    fn one(&mut self, built_in: u8) -> Option<()> {
        match built_in {
            12 | 15 | 16 => self.bytes(),
            17 => self.node_id(),
            18 => self.expanded_node_id(),
            20 => self.skip(2).and_then(|()| self.bytes()),
            21 => self.localized_text(),
            22 => self.extension_object(),
            23 => self.deeper(|walk| walk.data_value().map(drop)),
            24 => self.deeper(Self::variant),
            25 => self.diagnostic_info(),
            // What later versions of the standard add is encoded as bytes.
            26..=31 => self.bytes(),
            _ => self.skip(fixed_size(built_in)?),
        }
    }

    fn node_id(&mut self) -> Option<()> {
        let form = self.byte()?;
        self.identifier(form)
    }

    fn identifier(&mut self, form: u8) -> Option<()> {
        match form {
            0 => self.skip(1),
            1 => self.skip(3),
            2 => self.skip(6),
            3 | 5 => self.skip(2).and_then(|()| self.bytes()),
            4 => self.skip(18),
            _ => None,
        }
    }

    fn expanded_node_id(&mut self) -> Option<()> {
        let form = self.byte()?;
        self.identifier(form & 0x3F)?;
        if form & 0x80 != 0 {
            self.bytes()?;
        }
        if form & 0x40 != 0 {
            self.skip(4)?;
        }
        Some(())
    }

    fn localized_text(&mut self) -> Option<()> {
        let mask = self.byte()?;
        for bit in [0x01, 0x02] {
            if mask & bit != 0 {
                self.bytes()?;
            }
        }
        Some(())
    }

    fn extension_object(&mut self) -> Option<()> {
        self.node_id()?;
        match self.byte()? {
            0 => Some(()),
            1 | 2 => self.bytes(),
            _ => None,
        }
    }

    fn diagnostic_info(&mut self) -> Option<()> {
        let mask = self.byte()?;
        let numbers = (mask & 0x0F).count_ones() as usize;
        self.skip(4 * numbers)?;
        if mask & 0x10 != 0 {
            self.bytes()?;
        }
        if mask & 0x20 != 0 {
            self.skip(4)?;
        }
        if mask & 0x40 != 0 {
            self.deeper(Self::diagnostic_info)?;
        }
        Some(())
    }
}

/// Returns the size of the built-in types that have only one.
fn fixed_size(built_in: u8) -> Option<usize> {
    Some(match built_in {
        0 => 0,
        1..=3 => 1,
        4 | 5 => 2,
        6 | 7 | 10 | 19 => 4,
        8 | 9 | 11 | 13 => 8,
        14 => 16,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use opcua::types::{
        Array, BinaryDecodable as _, BinaryEncodable as _, ContextOwned, DataValue, DateTime,
        DiagnosticInfo, ExpandedNodeId, ExtensionObject, Guid, LocalizedText, NodeId,
        QualifiedName, StatusCode, StructureDefinition, Variant, VariantScalarTypeId,
    };
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn encoded(data: &DataValue) -> Vec<u8> {
        let context = ContextOwned::default();
        data.encode_to_vec(&context.context())
    }

    fn values() -> Vec<Variant> {
        let expanded = ExpandedNodeId {
            node_id: NodeId::new(7, "drive"),
            namespace_uri: "urn:example:press".into(),
            server_index: 3,
        };
        let diagnostics = DiagnosticInfo {
            symbolic_id: Some(1),
            localized_text: Some(2),
            additional_info: Some("why".into()),
            inner_status_code: Some(StatusCode::BadTimeout),
            inner_diagnostic_info: Some(Box::new(DiagnosticInfo {
                locale: Some(9),
                ..DiagnosticInfo::null()
            })),
            ..DiagnosticInfo::null()
        };
        let matrix: Vec<_> = (1..=6).map(Variant::Int16).collect();
        let matrix = Array::new_multi(VariantScalarTypeId::Int16, matrix, vec![2, 3]).unwrap();
        vec![
            Variant::Empty,
            true.into(),
            1_i8.into(),
            2_u8.into(),
            3_i16.into(),
            4_u32.into(),
            5_i64.into(),
            1.5_f32.into(),
            2.5_f64.into(),
            "Hydraulik".into(),
            DateTime::now().into(),
            Guid::new().into(),
            Variant::ByteString(b"ab".as_slice().into()),
            Variant::NodeId(Box::new(NodeId::new(0, 300_u32))),
            Variant::NodeId(Box::new(NodeId::new(300, 70_000_u32))),
            Variant::NodeId(Box::new(NodeId::new(2, Guid::new()))),
            Variant::ExpandedNodeId(Box::new(expanded)),
            StatusCode::BadTimeout.into(),
            Variant::QualifiedName(Box::new(QualifiedName::new(2, "Press"))),
            LocalizedText::new("de", "Presse").into(),
            ExtensionObject::from_message(StructureDefinition::default()).into(),
            ExtensionObject::null().into(),
            Variant::DataValue(Box::new(DataValue::new_now(1_i32))),
            Variant::Variant(Box::new(Variant::from("within"))),
            Variant::DiagnosticInfo(Box::new(diagnostics)),
            Variant::from(vec!["a".to_owned(), String::new()]),
            Variant::Array(Box::new(matrix)),
        ]
    }

    /// O04: whatever the type, the next value is found, and so are status and times.
    #[test]
    fn fault_o04_every_type_ends_where_the_next_value_begins() {
        let context = ContextOwned::default();
        for value in values() {
            let mut data = DataValue::new_now(value.clone());
            data.status = Some(StatusCode::UncertainLastUsableValue);
            data.source_picoseconds = Some(7);
            let mut bytes = encoded(&data);
            let length = bytes.len();
            bytes.extend_from_slice(b"next");
            let mut rest = &bytes[..];
            let found = DataValueBytes::split_off(&mut rest).unwrap_or_else(|| panic!("{value:?}"));
            assert_eq!((found.whole, rest), (&bytes[..length], &b"next"[..]), "{value:?}");
            let without = found.without_value();
            let without = DataValue::decode(&mut &without[..], &context.context()).unwrap();
            assert_eq!(without, DataValue { value: None, ..data }, "{value:?}");
            for cut in 0..length {
                assert_eq!(DataValueBytes::split_off(&mut &bytes[..cut]), None, "{value:?}");
            }
        }
    }

    /// O02, O03: depth and lengths that lie cost neither the stack nor time.
    #[test]
    fn fault_o03_lengths_and_depths_that_lie_have_no_end() {
        let claims = |head: &[u8], count: i32| [head, &count.to_le_bytes()].concat();
        #[rustfmt::skip]
        let cases = [
            ("a text",              claims(&[0x01, 12], i32::MAX)),
            ("numbers",             claims(&[0x01, ARRAY | 11], i32::MAX)),
            ("texts",               claims(&[0x01, ARRAY | 12], i32::MAX)),
            ("variants",            [&claims(&[0x01, ARRAY | 24], i32::MAX)[..], &[0; 1_000]].concat()),
            ("variants in each other", [&[0x01][..], &[24; 100_000]].concat()),
            ("data values in each other", [0x01, 23].repeat(50_000)),
            ("diagnostics in each other", [&[0x01, 25][..], &[0x40; 100_000]].concat()),
            ("no type",             vec![0x01, 32]),
        ];
        for (name, bytes) in cases {
            assert_eq!(DataValueBytes::split_off(&mut &bytes[..]), None, "{name}");
        }
        // Elements without bytes are as many as they like to be.
        let nothings = claims(&[0x01, ARRAY], i32::MAX);
        assert!(DataValueBytes::split_off(&mut &nothings[..]).is_some());
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in vec(any::<u8>(), 0..200)) {
            let mut rest = &bytes[..];
            if let Some(found) = DataValueBytes::split_off(&mut rest) {
                prop_assert_eq!(found.whole.len() + rest.len(), bytes.len());
                prop_assert!(found.without_value().len() <= found.whole.len());
            }
        }
    }
}
