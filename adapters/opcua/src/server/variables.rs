//! The variables that the server is for: numbers, each below an object of its own device.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use opcua::{
    core::sync::RwLock,
    types::{
        AttributeId, DataEncoding, DataTypeId, DataValue, NodeId, NumericRange, ObjectId,
        ReferenceTypeId, StatusCode, TimestampsToReturn, VariableTypeId, Variant,
    },
};
use opcua_server::{
    CreateMonitoredItem, SubscriptionCache,
    address_space::{AddressSpace, HasNodeId as _, NodeType, VariableBuilder, write_node_value},
    diagnostics::NamespaceMetadata,
    node_manager::{
        RequestContext, ServerContext, WriteNode,
        memory::{InMemoryNodeManagerImpl, InMemoryNodeManagerImplBuilder},
    },
};

/// What clients may do with a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read and monitor it.
    ReadOnly,
    /// Write it as well.
    Writable,
}

/// One variable: a 64-bit floating-point number with the node id `s={object}.{name}`.
#[derive(Clone, Debug, PartialEq)]
pub struct Variable {
    /// The object that it belongs to, such as `Press.1`; made below Objects if absent.
    pub object: String,
    /// Its name there, such as `Temperature`.
    pub name: String,
    /// Its first value.
    pub value: f64,
    /// What clients may do with it.
    pub access: Access,
}

/// Names a variable of a server: its place in the list that the server was made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VariableIndex(pub usize);

/// Makes the nodes of the variables.
pub(super) struct VariablesBuilder {
    pub(super) namespace: String,
    pub(super) variables: Vec<Variable>,
}

/// Serves the variables, and counts the values that monitoring clients were given of each.
pub(super) struct Variables {
    namespace: NamespaceMetadata,
    nodes: Vec<NodeId>,
    monitored: HashMap<NodeId, AtomicU64>,
}

impl InMemoryNodeManagerImplBuilder for VariablesBuilder {
    type Impl = Variables;

    fn build(self, context: ServerContext, space: &mut AddressSpace) -> Variables {
        let index = context.type_tree.write().namespaces_mut().add_namespace(&self.namespace);
        space.add_namespace(&self.namespace, index);
        let nodes: Vec<NodeId> =
            self.variables.iter().map(|variable| insert(space, index, variable)).collect();
        Variables {
            namespace: NamespaceMetadata {
                namespace_uri: self.namespace,
                namespace_index: index,
                ..NamespaceMetadata::default()
            },
            monitored: nodes.iter().map(|node| (node.clone(), AtomicU64::new(0))).collect(),
            nodes,
        }
    }
}

fn insert(space: &mut AddressSpace, namespace: u16, variable: &Variable) -> NodeId {
    let Variable { object, name, value, access } = variable;
    let object_id = NodeId::new(namespace, object.as_str());
    if !space.node_exists(&object_id) {
        space.add_folder(
            &object_id,
            object.as_str(),
            object.as_str(),
            &ObjectId::ObjectsFolder.into(),
        );
    }
    let node = NodeId::new(namespace, format!("{object}.{name}"));
    let builder = VariableBuilder::new(&node, name.as_str(), name.as_str())
        .data_type(DataTypeId::Double)
        .value(*value)
        .has_type_definition(VariableTypeId::BaseDataVariableType);
    let builder = match access {
        Access::ReadOnly => builder,
        Access::Writable => builder.writable(),
    };
    builder.insert(space);
    space.insert_reference(&object_id, &node, ReferenceTypeId::HasComponent);
    node
}

impl Variables {
    /// Returns the current value; not a number for an index that no variable has.
    pub(super) fn value(&self, space: &RwLock<AddressSpace>, variable: VariableIndex) -> f64 {
        let node = self.nodes.get(variable.0);
        node.and_then(|node| number(space.read().find(node)?)).unwrap_or(f64::NAN)
    }

    /// Returns how many values of a variable monitoring clients were given.
    pub(super) fn reported(&self, variable: VariableIndex) -> u64 {
        let count = self.nodes.get(variable.0).and_then(|node| self.monitored.get(node));
        count.map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Gives monitoring clients a new value. Does nothing, and returns false, if nobody monitors the variable
    /// or the value is the one that it has.
    ///
    /// So a variable moves only while it is watched, and every value that it ever had was given to somebody:
    /// a client that is late gets the value at that moment as its first.
    pub(super) fn report(
        &self,
        space: &RwLock<AddressSpace>,
        subscriptions: &SubscriptionCache,
        variable: VariableIndex,
        value: f64,
    ) -> bool {
        let Some(node) = self.nodes.get(variable.0) else { return false };
        if number_of(space, node).is_none_or(|current| current.to_bits() == value.to_bits()) {
            return false;
        }
        let value = DataValue::new_now(value);
        {
            let mut notifier = subscriptions.data_notifier();
            let Some(mut batch) = notifier.notify_for(node, AttributeId::Value) else {
                return false;
            };
            if batch.entries().next().is_none() {
                return false;
            }
            batch.data_value(value.clone());
        }
        if let Some(NodeType::Variable(variable)) = space.write().find_mut(node) {
            variable.set_data_value(value);
        }
        self.count(node);
        true
    }

    fn count(&self, node: &NodeId) {
        if let Some(count) = self.monitored.get(node) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn number_of(space: &RwLock<AddressSpace>, node: &NodeId) -> Option<f64> {
    number(space.read().find(node)?)
}

fn number(node: &NodeType) -> Option<f64> {
    match value(node)?.value {
        Some(Variant::Double(value)) => Some(value),
        _ => None,
    }
}

fn value(node: &NodeType) -> Option<DataValue> {
    node.as_node().get_attribute(
        TimestampsToReturn::Both,
        AttributeId::Value,
        &NumericRange::None,
        &DataEncoding::Binary,
    )
}

#[async_trait]
impl InMemoryNodeManagerImpl for Variables {
    async fn init(&self, _: &mut AddressSpace, _: ServerContext) {}

    fn name(&self) -> &'static str {
        "variables"
    }

    fn namespaces(&self) -> Vec<NamespaceMetadata> {
        vec![self.namespace.clone()]
    }

    async fn create_value_monitored_items(
        &self,
        context: &RequestContext,
        space: &RwLock<AddressSpace>,
        items: &mut [&mut &mut CreateMonitoredItem],
    ) {
        let space = space.read();
        for item in items {
            let read = item.item_to_monitor();
            let value = space.read(context, read, 0.0, TimestampsToReturn::Both);
            if value.status().is_bad() {
                item.set_status(value.status());
                continue;
            }
            self.count(&read.node_id);
            item.set_initial_value(value);
            item.set_status(StatusCode::Good);
        }
    }

    async fn write(
        &self,
        context: &RequestContext,
        space: &RwLock<AddressSpace>,
        nodes: &mut [&mut WriteNode],
    ) -> Result<(), StatusCode> {
        let mut space = space.write();
        let types = context.type_tree.read();
        for write in nodes {
            let status = match space.validate_node_write(context, write.value(), &*types) {
                Ok(node) => self.write_value(context, node, write),
                Err(status) => status,
            };
            write.set_status(status);
        }
        Ok(())
    }
}

impl Variables {
    fn write_value(
        &self,
        context: &RequestContext,
        node: &mut NodeType,
        write: &WriteNode,
    ) -> StatusCode {
        let written = write.value();
        if written.attribute_id != AttributeId::Value {
            return StatusCode::BadNotWritable;
        }
        let Some(Variant::Double(new)) = written.value.value else {
            return StatusCode::BadTypeMismatch;
        };
        let changes = number(node).is_none_or(|current| current.to_bits() != new.to_bits());
        if let Err(status) = write_node_value(node, written) {
            return status;
        }
        let mut notifier = context.subscriptions.data_notifier();
        if changes
            && let Some(value) = value(node)
            && let Some(mut batch) = notifier.notify_for(node.node_id(), AttributeId::Value)
            && batch.entries().next().is_some()
        {
            batch.data_value(value);
            self.count(node.node_id());
        }
        StatusCode::Good
    }
}
