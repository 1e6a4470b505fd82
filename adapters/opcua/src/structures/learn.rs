//! Asking a server how its structures are laid out.

use std::{sync::Arc, time::Duration};

use opcua::{
    client::{Session, UARequest as _, services::Browse},
    types::{
        AttributeId, BrowseDescription, BrowseDirection, EnumDefinition, ExtensionObject, NodeId,
        ReferenceTypeId, StatusCode, StructureDefinition, StructureField, Variant,
    },
};
use tidegate_model::AdapterName;
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use super::{EXTENSION_OBJECT, Field, Form, Kind, Known, Layout, VARIANT};
use crate::{
    namespaces::Namespaces,
    services::{self, ServiceError},
    shared::Shared,
    table::ClientHandle,
    value::{self, Reader, Undecoded},
};

/// How long the values of a message may wait for all the layouts they need.
const PATIENCE: Duration = Duration::from_secs(10);
/// Types that are asked for because of one message.
const ENCODINGS_MAX: usize = 16;
/// Types that one of them may lead to.
const TYPES_MAX: usize = 256;
/// Fields of one structure.
const FIELDS_MAX: usize = 2_000;
/// Dimensions of one field.
const DIMENSIONS_MAX: i32 = 8;

/// Why a layout is not known.
enum Untold {
    /// The server was not reached: ask again with the next value.
    Unreachable,
    /// The server said what is of no use.
    Refused(String),
}

/// Asks for the layouts of those structures among `values` that are met for the first time.
///
/// With each value goes the monitored item that holds it, if one does.
pub(crate) async fn learn<'a>(
    name: &AdapterName,
    session: &Session,
    shared: &Shared,
    values: impl Iterator<Item = (&'a Variant, Option<ClientHandle>)>,
) {
    let namespaces = shared.namespaces();
    let until = Instant::now() + PATIENCE;
    let mut left = ENCODINGS_MAX;
    for (value, item) in values {
        while value::may_hold_structure(value) {
            let read = {
                let structures = shared.structures();
                let reader = Reader { namespaces: &namespaces, structures: &structures };
                value::value(value.clone(), reader)
            };
            let Err(Undecoded::Unasked(id)) = read else { break };
            left = match usize::checked_sub(left, 1) {
                Some(left) => left,
                None => return,
            };
            let node = item.and_then(|item| shared.table().node(item).cloned());
            let node = node.and_then(|node| namespaces.node_id(&node).ok());
            learn_one(name, session, shared, &id, node.as_ref(), until).await;
        }
    }
}

/// Asks for the layout of an encoding and of all structures within it.
///
/// Whatever the outcome, each of them is known afterwards, also if all that is known is that the server does not
/// tell it; unless the connection broke. `node` is one that holds such a value: it helps with servers that do
/// not say to which type an encoding belongs.
async fn learn_one(
    name: &AdapterName,
    session: &Session,
    shared: &Shared,
    encoding: &NodeId,
    node: Option<&NodeId>,
    until: Instant,
) {
    let learner = Learner { session, namespaces: &shared.namespaces() };
    let mut wanted = vec![encoding.clone()];
    let learning = async {
        let mut left = TYPES_MAX;
        while let Some(id) = wanted.pop() {
            if shared.structures().get(&id).is_some() {
                continue;
            }
            left = match left.checked_sub(1) {
                Some(left) => left,
                None => break,
            };
            let known = match learner.layout(&id, node.filter(|_| id == *encoding)).await {
                Ok(layout) => {
                    wanted.extend(layout.fields.iter().filter_map(|field| match &field.kind {
                        Kind::Inline(data_type) => Some(data_type.clone()),
                        Kind::BuiltIn(_) => None,
                    }));
                    Known::Layout(Arc::new(layout))
                }
                Err(Untold::Refused(reason)) => {
                    let data_type = learner.namespaces.text(&id);
                    shared.counted.types_untold.increment();
                    warn!(adapter = %name, data_type, reason, "The server does not tell how a structure is laid out");
                    Known::Untold
                }
                Err(Untold::Unreachable) => break,
            };
            shared.structures().insert(id, known);
        }
    };
    if timeout_at(until, learning).await.is_err() {
        // The value does not wait any longer; it is asked again when nodes are looked for.
        shared.structures().insert(encoding.clone(), Known::Untold);
        warn!(adapter = %name, data_type = shared.namespaces().text(encoding), "Asking how a structure is laid out took too long");
    }
}

/// Asks one server.
struct Learner<'a> {
    session: &'a Session,
    namespaces: &'a Namespaces,
}

impl Learner<'_> {
    async fn layout(&self, id: &NodeId, node: Option<&NodeId>) -> Result<Layout, Untold> {
        let data_type = self.encoded_by(id).await?.unwrap_or_else(|| id.clone());
        let definition = match self.definition(&data_type).await {
            Err(Untold::Refused(reason)) => match node {
                Some(node) => {
                    self.definition_of_value(node, id).await?.ok_or(Untold::Refused(reason))
                }
                None => Err(Untold::Refused(reason)),
            },
            other => other,
        }?;
        let (form, subtypes_allowed) = Form::of(definition.structure_type);
        let written = definition.fields.unwrap_or_default();
        if written.len() > FIELDS_MAX {
            return Err(Untold::Refused(format!("it has more than {FIELDS_MAX} fields")));
        }
        let mut fields = Vec::with_capacity(written.len());
        for field in written {
            fields.push(self.field(field, subtypes_allowed, form).await?);
        }
        Ok(Layout { form, fields })
    }

    async fn field(
        &self,
        field: StructureField,
        subtypes_allowed: bool,
        form: Form,
    ) -> Result<Field, Untold> {
        let name = field.name.as_ref();
        let dimensions = match field.value_rank {
            -1 => 0,
            rank @ 1..=DIMENSIONS_MAX => u8::try_from(rank).expect("the range is small"),
            rank => {
                let reason = format!("its field `{name}` has the value rank {rank}");
                return Err(Untold::Refused(reason));
            }
        };
        let kind = self.kind(&field.data_type, subtypes_allowed && field.is_optional).await?;
        let kind = kind.ok_or_else(|| {
            let data_type = self.namespaces.text(&field.data_type);
            Untold::Refused(format!("its field `{name}` has the unknown data type {data_type}"))
        })?;
        let optional = field.is_optional && form == Form::WithOptional;
        Ok(Field { name: name.into(), kind, dimensions, optional })
    }

    /// Returns how values of a data type are encoded within a structure.
    async fn kind(&self, data_type: &NodeId, subtypes: bool) -> Result<Option<Kind>, Untold> {
        let base = services::ancestor(self.session, self.namespaces, data_type, built_in);
        Ok(match base.await.map_err(unreachable_or_refused)? {
            None => None,
            Some(EXTENSION_OBJECT) if subtypes || self.is_abstract(data_type).await? => {
                Some(Kind::BuiltIn(EXTENSION_OBJECT))
            }
            Some(EXTENSION_OBJECT) => Some(Kind::Inline(data_type.clone())),
            Some(_) if subtypes => Some(Kind::BuiltIn(VARIANT)),
            Some(number) => Some(Kind::BuiltIn(number)),
        })
    }

    /// Returns the data type that an encoding belongs to; `None` for anything but an encoding.
    async fn encoded_by(&self, encoding: &NodeId) -> Result<Option<NodeId>, Untold> {
        let description = BrowseDescription {
            node_id: encoding.clone(),
            browse_direction: BrowseDirection::Inverse,
            reference_type_id: ReferenceTypeId::HasEncoding.into(),
            include_subtypes: false,
            node_class_mask: 0,
            result_mask: 0,
        };
        let browsed = Browse::new(self.session)
            .browse_node(description)
            .send(self.session.channel())
            .await
            .map_err(|error| unreachable_or_refused(error.into()))?;
        let references = browsed.results.into_iter().flatten().next();
        let target = references.and_then(|result| result.references?.into_iter().next());
        Ok(target.and_then(|reference| self.namespaces.local(reference.node_id)))
    }

    async fn definition(&self, data_type: &NodeId) -> Result<StructureDefinition, Untold> {
        let value = self.attribute(data_type, AttributeId::DataTypeDefinition).await?;
        let Variant::ExtensionObject(object) = value else {
            return Err(Untold::Refused("it has no DataTypeDefinition".into()));
        };
        structure_definition(object)
    }

    /// Looks at the data type of a node; it is of use only if its encoding is the one that was met.
    async fn definition_of_value(
        &self,
        node: &NodeId,
        encoding: &NodeId,
    ) -> Result<Option<StructureDefinition>, Untold> {
        let Variant::NodeId(data_type) = self.attribute(node, AttributeId::DataType).await? else {
            return Ok(None);
        };
        let definition = match self.definition(&data_type).await {
            Ok(definition) => definition,
            Err(Untold::Refused(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok((definition.default_encoding_id == *encoding).then_some(definition))
    }

    async fn is_abstract(&self, data_type: &NodeId) -> Result<bool, Untold> {
        let value = self.attribute(data_type, AttributeId::IsAbstract).await?;
        Ok(value == Variant::Boolean(true))
    }

    /// Reads one attribute; what the node does not have is empty.
    async fn attribute(&self, node: &NodeId, attribute: AttributeId) -> Result<Variant, Untold> {
        let nodes = vec![services::attribute_of(node.clone(), attribute)];
        let values = services::read(self.session, nodes).await.map_err(unreachable_or_refused)?;
        Ok(values.into_iter().next().and_then(|data| data.value).unwrap_or_default())
    }
}

/// Returns the built-in type of a data type of namespace 0, if it is one or stands for one.
fn built_in(data_type: &NodeId) -> Option<u8> {
    let number = data_type.as_u32().filter(|_| data_type.namespace == 0)?;
    match number {
        1..=25 => u8::try_from(number).ok(),
        // Number, Integer, UInteger: of any type below them.
        26..=28 => Some(VARIANT),
        // Enumerations are encoded as Int32 (OPC 10000-6, section 5.2.4).
        29 => Some(6),
        _ => None,
    }
}

fn structure_definition(object: ExtensionObject) -> Result<StructureDefinition, Untold> {
    if object.inner_is::<EnumDefinition>() {
        return Err(Untold::Refused("it is an enumeration".into()));
    }
    match object.into_inner_as::<StructureDefinition>() {
        Some(definition) => Ok(*definition),
        None => Err(Untold::Refused("its DataTypeDefinition is none".into())),
    }
}

fn unreachable_or_refused(error: ServiceError) -> Untold {
    match error.0 {
        StatusCode::BadTimeout
        | StatusCode::BadNotConnected
        | StatusCode::BadConnectionClosed
        | StatusCode::BadSecureChannelClosed
        | StatusCode::BadSessionIdInvalid
        | StatusCode::BadSessionClosed => Untold::Unreachable,
        status => Untold::Refused(format!("the server answered {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn main_12_base_types_stand_for_what_is_on_the_wire() {
        #[rustfmt::skip]
        let cases = [
            (NodeId::new(0, 11_u32),    Some(11)),
            (NodeId::new(0, 22_u32),    Some(EXTENSION_OBJECT)),
            (NodeId::new(0, 24_u32),    Some(VARIANT)),
            (NodeId::new(0, 27_u32),    Some(VARIANT)),
            (NodeId::new(0, 29_u32),    Some(6)),
            (NodeId::new(0, 290_u32),   None),
            (NodeId::new(2, 11_u32),    None),
        ];
        for (data_type, expected) in cases {
            assert_eq!(built_in(&data_type), expected, "{data_type}");
        }
    }

    #[test]
    fn only_a_structure_definition_is_a_layout() {
        let definition = ExtensionObject::from_message(StructureDefinition::default());
        assert!(structure_definition(definition).is_ok());
        let enumeration = ExtensionObject::from_message(EnumDefinition::default());
        assert!(matches!(structure_definition(enumeration), Err(Untold::Refused(_))));
        assert!(matches!(structure_definition(ExtensionObject::null()), Err(Untold::Refused(_))));
    }
}
