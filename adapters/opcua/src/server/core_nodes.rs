//! The part of namespace 0 that clients need to find, read and subscribe to variables (OPC 10000-5).

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use opcua::{
    core::sync::RwLock,
    types::{
        DataTypeId, DataValue, DateTime, NodeId, ReferenceTypeId, TimestampsToReturn, VariableId,
        VariableTypeId, Variant,
    },
};
use opcua_server::{
    ServerStatusWrapper,
    address_space::{
        AddressSpace, DataType, EventNotifier, NodeType, Object, ObjectType, ReferenceDirection,
        ReferenceType, Variable, VariableType, read_node_value,
    },
    diagnostics::NamespaceMetadata,
    node_manager::{
        NodeManagersRef, ParsedReadValueId, RequestContext, ServerContext,
        memory::{InMemoryNodeManagerImpl, InMemoryNodeManagerImplBuilder},
    },
};

/// The namespace of the standard's own nodes.
const NAMESPACE: &str = "http://opcfoundation.org/UA/";

const OBJECT_TYPES_FOLDER: u32 = 88;
const VARIABLE_TYPES_FOLDER: u32 = 89;
const DATA_TYPES_FOLDER: u32 = 90;
const REFERENCE_TYPES_FOLDER: u32 = 91;
const SERVER: u32 = 2_253;
const HAS_PROPERTY: u32 = 46;

/// Id, name, and the type that it is a subtype of; 0 if it stands in the folder of its kind.
#[rustfmt::skip]
const REFERENCE_TYPES: &[(u32, &str, u32)] = &[
    (31, "References", 0), (32, "NonHierarchicalReferences", 31), (33, "HierarchicalReferences", 31),
    (34, "HasChild", 33), (35, "Organizes", 33), (36, "HasEventSource", 33), (37, "HasModellingRule", 32),
    (38, "HasEncoding", 32), (39, "HasDescription", 32), (40, "HasTypeDefinition", 32),
    (41, "GeneratesEvent", 32), (44, "Aggregates", 34), (45, "HasSubtype", 34), (46, "HasProperty", 44),
    (47, "HasComponent", 44), (48, "HasNotifier", 36), (49, "HasOrderedComponent", 47),
];

#[rustfmt::skip]
const OBJECT_TYPES: &[(u32, &str, u32)] = &[
    (58, "BaseObjectType", 0), (61, "FolderType", 58), (76, "DataTypeEncodingType", 58),
    (77, "ModellingRuleType", 58), (2004, "ServerType", 58), (2013, "ServerCapabilitiesType", 58),
    (2020, "ServerDiagnosticsType", 58), (2033, "VendorServerInfoType", 58),
    (2034, "ServerRedundancyType", 58), (2041, "BaseEventType", 58), (11564, "OperationLimitsType", 61),
    (11616, "NamespaceMetadataType", 58), (11645, "NamespacesType", 58),
];

#[rustfmt::skip]
const VARIABLE_TYPES: &[(u32, &str, u32)] = &[
    (62, "BaseVariableType", 0), (63, "BaseDataVariableType", 62), (68, "PropertyType", 62),
    (2138, "ServerStatusType", 63), (3051, "BuildInfoType", 63),
];

#[rustfmt::skip]
const DATA_TYPES: &[(u32, &str, u32)] = &[
    (24, "BaseDataType", 0), (1, "Boolean", 24), (26, "Number", 24), (27, "Integer", 26),
    (28, "UInteger", 26), (2, "SByte", 27), (3, "Byte", 28), (4, "Int16", 27), (5, "UInt16", 28),
    (6, "Int32", 27), (7, "UInt32", 28), (8, "Int64", 27), (9, "UInt64", 28), (10, "Float", 26),
    (11, "Double", 26), (12, "String", 24), (13, "DateTime", 24), (14, "Guid", 24), (15, "ByteString", 24),
    (16, "XmlElement", 24), (17, "NodeId", 24), (18, "ExpandedNodeId", 24), (19, "StatusCode", 24),
    (20, "QualifiedName", 24), (21, "LocalizedText", 24), (22, "Structure", 24), (23, "DataValue", 24),
    (25, "DiagnosticInfo", 24), (29, "Enumeration", 24), (290, "Duration", 11), (294, "UtcTime", 13),
    (295, "LocaleId", 12), (338, "BuildInfo", 22), (852, "ServerState", 29),
    (862, "ServerStatusDataType", 22),
];

/// Id, name, parent, reference from the parent, type.
#[rustfmt::skip]
const OBJECTS: &[(u32, &str, u32, u32, u32)] = &[
    (84, "Root", 0, 35, 61), (85, "Objects", 84, 35, 61), (86, "Types", 84, 35, 61),
    (87, "Views", 84, 35, 61), (OBJECT_TYPES_FOLDER, "ObjectTypes", 86, 35, 61),
    (VARIABLE_TYPES_FOLDER, "VariableTypes", 86, 35, 61), (DATA_TYPES_FOLDER, "DataTypes", 86, 35, 61),
    (REFERENCE_TYPES_FOLDER, "ReferenceTypes", 86, 35, 61), (SERVER, "Server", 85, 35, 2004),
    (2268, "ServerCapabilities", SERVER, 47, 2013), (11704, "OperationLimits", 2268, 47, 11564),
    (11715, "Namespaces", SERVER, 47, 11645),
];

/// Id, name, parent, reference from the parent, data type, value rank.
#[rustfmt::skip]
const VARIABLES: &[(u32, &str, u32, u32, u32, i32)] = &[
    (2254, "ServerArray", SERVER, HAS_PROPERTY, 12, 1),
    (2255, "NamespaceArray", SERVER, HAS_PROPERTY, 12, 1),
    (2256, "ServerStatus", SERVER, 47, 862, -1), (2257, "StartTime", 2256, 47, 294, -1),
    (2258, "CurrentTime", 2256, 47, 294, -1), (2259, "State", 2256, 47, 852, -1),
    (2260, "BuildInfo", 2256, 47, 338, -1), (2267, "ServiceLevel", SERVER, HAS_PROPERTY, 3, -1),
    (2269, "ServerProfileArray", 2268, HAS_PROPERTY, 12, 1),
    (2271, "LocaleIdArray", 2268, HAS_PROPERTY, 295, 1),
    (2272, "MinSupportedSampleRate", 2268, HAS_PROPERTY, 290, -1),
    (2735, "MaxBrowseContinuationPoints", 2268, HAS_PROPERTY, 5, -1),
    (11702, "MaxArrayLength", 2268, HAS_PROPERTY, 7, -1),
    (11703, "MaxStringLength", 2268, HAS_PROPERTY, 7, -1),
    (11705, "MaxNodesPerRead", 11704, HAS_PROPERTY, 7, -1),
    (11707, "MaxNodesPerWrite", 11704, HAS_PROPERTY, 7, -1),
    (11709, "MaxNodesPerMethodCall", 11704, HAS_PROPERTY, 7, -1),
    (11710, "MaxNodesPerBrowse", 11704, HAS_PROPERTY, 7, -1),
    (11711, "MaxNodesPerRegisterNodes", 11704, HAS_PROPERTY, 7, -1),
    (11712, "MaxNodesPerTranslateBrowsePathsToNodeIds", 11704, HAS_PROPERTY, 7, -1),
    (11714, "MaxMonitoredItemsPerCall", 11704, HAS_PROPERTY, 7, -1),
];

/// Makes the nodes.
pub(super) struct CoreNodesBuilder;

/// Serves the nodes; the values that live come from the server's own state.
pub(super) struct CoreNodes {
    managers: NodeManagersRef,
    status: Arc<ServerStatusWrapper>,
}

impl InMemoryNodeManagerImplBuilder for CoreNodesBuilder {
    type Impl = CoreNodes;

    fn build(self, context: ServerContext, space: &mut AddressSpace) -> CoreNodes {
        space.add_namespace(NAMESPACE, 0);
        insert_types(space);
        insert_objects(space);
        insert_variables(space);
        CoreNodes { managers: context.node_managers.clone(), status: context.status.clone() }
    }
}

fn id(number: u32) -> NodeId {
    NodeId::new(0, number)
}

fn insert(space: &mut AddressSpace, node: impl Into<NodeType>) {
    space.insert(node, None::<&[(&NodeId, &ReferenceTypeId, ReferenceDirection)]>);
}

fn insert_types(space: &mut AddressSpace) {
    for &(number, name, _) in REFERENCE_TYPES {
        insert(space, ReferenceType::new(&id(number), name, name, None, false, false));
    }
    for &(number, name, _) in OBJECT_TYPES {
        insert(space, ObjectType::new(&id(number), name, name, false));
    }
    for &(number, name, _) in VARIABLE_TYPES {
        let any = DataTypeId::BaseDataType.into();
        insert(space, VariableType::new(&id(number), name, name, any, false, -2));
    }
    for &(number, name, _) in DATA_TYPES {
        insert(space, DataType::new(&id(number), name, name, false));
    }
    for (rows, folder) in [
        (REFERENCE_TYPES, REFERENCE_TYPES_FOLDER),
        (OBJECT_TYPES, OBJECT_TYPES_FOLDER),
        (VARIABLE_TYPES, VARIABLE_TYPES_FOLDER),
        (DATA_TYPES, DATA_TYPES_FOLDER),
    ] {
        for &(number, _, parent) in rows {
            let (parent, reference) = match parent {
                0 => (folder, ReferenceTypeId::Organizes),
                parent => (parent, ReferenceTypeId::HasSubtype),
            };
            space.insert_reference(&id(parent), &id(number), reference);
        }
    }
}

fn insert_objects(space: &mut AddressSpace) {
    for &(number, name, parent, reference, kind) in OBJECTS {
        let notifier = match number {
            SERVER => EventNotifier::SUBSCRIBE_TO_EVENTS,
            _ => EventNotifier::empty(),
        };
        insert(space, Object::new(&id(number), name, name, notifier));
        if parent != 0 {
            space.insert_reference(&id(parent), &id(number), id(reference));
        }
        space.insert_reference(&id(number), &id(kind), ReferenceTypeId::HasTypeDefinition);
    }
}

fn insert_variables(space: &mut AddressSpace) {
    for &(number, name, parent, reference, data_type, rank) in VARIABLES {
        let data_type = id(data_type);
        let node = id(number);
        let empty = Variant::Empty;
        insert(
            space,
            Variable::new_data_value(&node, name, name, data_type, Some(rank), None, empty),
        );
        space.insert_reference(&id(parent), &node, id(reference));
        let kind = match reference {
            HAS_PROPERTY => VariableTypeId::PropertyType,
            _ => VariableTypeId::BaseDataVariableType,
        };
        space.insert_reference(&node, &kind.into(), ReferenceTypeId::HasTypeDefinition);
    }
}

#[async_trait]
impl InMemoryNodeManagerImpl for CoreNodes {
    async fn init(&self, _: &mut AddressSpace, _: ServerContext) {}

    fn name(&self) -> &'static str {
        "core"
    }

    fn namespaces(&self) -> Vec<NamespaceMetadata> {
        vec![NamespaceMetadata {
            namespace_uri: NAMESPACE.into(),
            namespace_index: 0,
            is_namespace_subset: Some(true),
            ..NamespaceMetadata::default()
        }]
    }

    async fn read_values(
        &self,
        context: &RequestContext,
        space: &RwLock<AddressSpace>,
        nodes: &[&ParsedReadValueId],
        max_age: f64,
        timestamps: TimestampsToReturn,
    ) -> Vec<DataValue> {
        let space = space.read();
        let read = |read: &&ParsedReadValueId| match space.validate_node_read(context, read) {
            Err(status) => DataValue { status: Some(status), ..DataValue::default() },
            Ok(node) => match self.value(context, &read.node_id) {
                Some(value) => DataValue::new_now(value),
                None => read_node_value(node, context, read, max_age, timestamps),
            },
        };
        nodes.iter().map(read).collect()
    }
}

impl CoreNodes {
    /// Returns the value of a variable that lives; `None` for one that is just what its node holds.
    fn value(&self, context: &RequestContext, node: &NodeId) -> Option<Variant> {
        let limits = &context.info.config.limits;
        let operational = &limits.operational;
        let most = |count: usize| Variant::from(u32::try_from(count).unwrap_or(u32::MAX));
        Some(match node.as_variable_id().ok()? {
            VariableId::Server_NamespaceArray => self.namespace_array(context).into(),
            VariableId::Server_ServerArray => context.info.servers.clone().into(),
            VariableId::Server_ServerStatus => Variant::from(self.status.full_status_obj()),
            VariableId::Server_ServerStatus_State => (self.status.state() as i32).into(),
            VariableId::Server_ServerStatus_StartTime => self.status.start_time().into(),
            VariableId::Server_ServerStatus_CurrentTime => DateTime::now().into(),
            VariableId::Server_ServiceLevel => u8::MAX.into(),
            VariableId::Server_ServerCapabilities_MaxArrayLength => most(limits.max_array_length),
            VariableId::Server_ServerCapabilities_MaxStringLength => most(limits.max_string_length),
            VariableId::Server_ServerCapabilities_MaxBrowseContinuationPoints => {
                u16::try_from(limits.max_browse_continuation_points).unwrap_or(u16::MAX).into()
            }
            VariableId::Server_ServerCapabilities_OperationLimits_MaxNodesPerRead => {
                most(operational.max_nodes_per_read)
            }
            VariableId::Server_ServerCapabilities_OperationLimits_MaxNodesPerWrite => {
                most(operational.max_nodes_per_write)
            }
            VariableId::Server_ServerCapabilities_OperationLimits_MaxNodesPerBrowse => {
                most(operational.max_nodes_per_browse)
            }
            VariableId::Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall => {
                most(operational.max_monitored_items_per_call)
            }
            _ => return None,
        })
    }

    /// Returns the namespace URIs by index; an index that nobody has is an empty text.
    fn namespace_array(&self, context: &RequestContext) -> Vec<String> {
        let known: BTreeMap<u16, String> = self
            .managers
            .iter()
            .flat_map(|manager| manager.namespaces_for_user(context))
            .map(|namespace| (namespace.namespace_index, namespace.namespace_uri))
            .collect();
        let Some(last) = known.keys().last() else { return Vec::new() };
        (0..=*last).map(|index| known.get(&index).cloned().unwrap_or_default()).collect()
    }
}
