//! How the structures of a server are laid out, as far as it has said so (OPC 10000-3, section 8.48).
//!
//! A layout is asked of the server when a value first needs it; see [`learn`]. Node ids hold for one run of
//! the server only, and so do layouts.

mod learn;
mod standard;

use std::{collections::HashMap, sync::Arc};

use opcua::types::{ContextOwned, DecodingOptions, NamespaceMap, NodeId, StructureType};

use crate::settings::Limits;

pub(crate) use learn::learn;

/// Layouts that are remembered; after them all are forgotten and learned anew.
const LAYOUTS_MAX: usize = 2_000;

/// The built-in type `Variant`, as which values of any type are encoded.
pub(crate) const VARIANT: u8 = 24;
/// The built-in type `ExtensionObject`, as which structures of any type are encoded.
pub(crate) const EXTENSION_OBJECT: u8 = 22;

/// Which fields of a structure are there, and in what order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// All of them.
    Plain,
    /// Those whose bit is set in a mask at the beginning.
    WithOptional,
    /// The one whose number stands at the beginning; none if that is zero.
    Union,
}

/// How one value of a field is encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// As the built-in type of this number (OPC 10000-6, section 5.1.2).
    BuiltIn(u8),
    /// As the fields of a structure of this data type, without a header.
    Inline(NodeId),
}

/// One field of a structure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) name: Arc<str>,
    pub(crate) kind: Kind,
    /// Dimensions: 0 for one value, 1 for an array.
    pub(crate) dimensions: u8,
    pub(crate) optional: bool,
}

/// How a structure is encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) form: Form,
    pub(crate) fields: Vec<Field>,
}

/// What is known of a type.
#[derive(Clone, Debug)]
pub(crate) enum Known {
    /// Its layout.
    Layout(Arc<Layout>),
    /// That the server does not tell it.
    Untold,
}

/// The layouts of one server run, by data type and by encoding.
#[derive(Debug)]
pub(crate) struct Structures {
    known: HashMap<NodeId, Known>,
    /// Values did not fit a layout: it may have changed.
    doubtful: bool,
    context: Arc<ContextOwned>,
}

impl Structures {
    /// Knows the standard's own structures; `limits` bound the strings and arrays in all of them.
    pub(crate) fn new(limits: &Limits) -> Self {
        let options = DecodingOptions {
            max_string_length: limits.max_string,
            max_byte_string_length: limits.max_string,
            max_array_length: limits.max_array,
            ..DecodingOptions::default()
        };
        let context = ContextOwned::new_default(NamespaceMap::default(), options);
        Self { known: standard::layouts(), doubtful: false, context: Arc::new(context) }
    }

    /// Returns what is known of a data type or an encoding; `None` if nobody has asked yet.
    pub(crate) fn get(&self, id: &NodeId) -> Option<&Known> {
        self.known.get(id)
    }

    /// Returns what decodes built-in types within the limits.
    pub(crate) fn context(&self) -> &Arc<ContextOwned> {
        &self.context
    }

    /// Remembers what the server said.
    pub(crate) fn insert(&mut self, id: NodeId, known: Known) {
        if self.known.len() >= LAYOUTS_MAX {
            self.forget();
        }
        self.known.insert(id, known);
    }

    /// Notes that a value did not fit its layout.
    pub(crate) fn doubt(&mut self) {
        self.doubtful = true;
    }

    /// Has types that were not told asked for again, and all of them if values did not fit.
    pub(crate) fn retry(&mut self) {
        if self.doubtful {
            self.forget();
        } else {
            self.known.retain(|_, known| matches!(known, Known::Layout(_)));
        }
    }

    /// Forgets what the server said: it was started anew.
    pub(crate) fn forget(&mut self) {
        self.known = standard::layouts();
        self.doubtful = false;
    }
}

impl Form {
    /// Returns the form, and whether `IsOptional` of its fields means that subtypes are allowed.
    fn of(structure_type: StructureType) -> (Self, bool) {
        match structure_type {
            StructureType::Structure => (Self::Plain, false),
            StructureType::StructureWithOptionalFields => (Self::WithOptional, false),
            StructureType::Union => (Self::Union, false),
            StructureType::StructureWithSubtypedValues => (Self::Plain, true),
            StructureType::UnionWithSubtypedValues => (Self::Union, true),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Makes a field of one value that is always there.
    pub(crate) fn field(name: &str, kind: Kind) -> Field {
        Field { name: name.into(), kind, dimensions: 0, optional: false }
    }

    #[test]
    fn main_12_what_was_not_told_is_asked_again_and_what_did_not_fit_as_well() {
        let mut structures = Structures::new(&Limits::default());
        let [told, untold] = [NodeId::new(2, 1), NodeId::new(2, 2)];
        let layout = Layout { form: Form::Plain, fields: vec![field("A", Kind::BuiltIn(6))] };
        structures.insert(told.clone(), Known::Layout(Arc::new(layout.clone())));
        structures.insert(untold.clone(), Known::Untold);
        structures.retry();
        assert!(structures.get(&told).is_some() && structures.get(&untold).is_none());
        structures.doubt();
        structures.retry();
        assert!(structures.get(&told).is_none());
        structures.insert(told.clone(), Known::Layout(Arc::new(layout)));
        structures.retry();
        assert!(structures.get(&told).is_some());
    }

    #[test]
    fn no_more_types_are_remembered_than_the_bound_says() {
        let mut structures = Structures::new(&Limits::default());
        for number in 0..10_000_u32 {
            structures.insert(NodeId::new(2, number), Known::Untold);
            assert!(structures.known.len() <= LAYOUTS_MAX);
        }
    }
}
