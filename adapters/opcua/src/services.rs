//! The services the adapter uses, with their limits per call.

use std::sync::Arc;

use opcua::{
    client::{
        Session, UARequest as _,
        services::{Browse, DeleteMonitoredItems, DeleteSubscriptions, Read},
    },
    types::{
        AttributeId, BrowseDescription, BrowseDirection, DataValue, DateTime, NodeId, ReadValueId,
        ReferenceTypeId, StatusCode, TimestampsToReturn, VariableId, Variant,
    },
};
use thiserror::Error;

use crate::namespaces::Namespaces;

/// Items in one call if the server states no limit, and at most.
const ITEMS_PER_CALL: (usize, usize) = (100, 500);
/// Nodes in one read.
const READS_PER_CALL: (usize, usize) = (100, 500);
/// Nodes in one browse.
const BROWSES_PER_CALL: (usize, usize) = (10, 32);
/// Steps from a data type to one that the standard defines.
const SUPERTYPES_MAX: usize = 32;

/// A service call failed as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub(crate) struct ServiceError(pub(crate) StatusCode);

impl From<opcua::types::Error> for ServiceError {
    fn from(error: opcua::types::Error) -> Self {
        Self(error.status())
    }
}

impl ServiceError {
    /// Whether the server wants smaller calls.
    pub(crate) fn is_too_much(self) -> bool {
        [
            StatusCode::BadTooManyOperations,
            StatusCode::BadRequestTooLarge,
            StatusCode::BadResponseTooLarge,
            StatusCode::BadEncodingLimitsExceeded,
        ]
        .contains(&self.0)
    }

    /// Whether the answer breaks the limits that the gateway stated, or those it keeps itself.
    pub(crate) fn is_too_large(self) -> bool {
        [
            StatusCode::BadResponseTooLarge,
            StatusCode::BadEncodingLimitsExceeded,
            StatusCode::BadTcpMessageTooLarge,
        ]
        .contains(&self.0)
    }
}

/// What one call to the server may hold (OPC 10000-5, section 6.3.11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CallLimits {
    /// Monitored items created or deleted.
    pub(crate) items: usize,
    /// Nodes browsed.
    pub(crate) browses: usize,
    /// Nodes read.
    pub(crate) reads: usize,
}

/// What a server says about itself after a connect.
#[derive(Clone, Debug)]
pub(crate) struct ServerFacts {
    pub(crate) namespaces: Namespaces,
    /// When it was started, if it says so: another time is another run, with other subscriptions.
    pub(crate) start: Option<DateTime>,
    pub(crate) limits: CallLimits,
}

/// Reads the namespace array, the time of start and the limits.
pub(crate) async fn facts(session: &Session) -> Result<ServerFacts, ServiceError> {
    let nodes = [
        VariableId::Server_NamespaceArray,
        VariableId::Server_ServerStatus_StartTime,
        VariableId::Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall,
        VariableId::Server_ServerCapabilities_OperationLimits_MaxNodesPerBrowse,
        VariableId::Server_ServerCapabilities_OperationLimits_MaxNodesPerRead,
    ];
    let nodes = nodes.map(|node| value_of(node.into()));
    let values = read(session, nodes.to_vec()).await?;
    let [namespaces, start, items, browses, reads] = values.as_slice() else {
        return Err(ServiceError(StatusCode::BadUnknownResponse));
    };
    let namespaces = namespaces
        .value
        .as_ref()
        .and_then(|value| Namespaces::from_variant(value).ok())
        .ok_or(ServiceError(StatusCode::BadUnknownResponse))?;
    let limits = CallLimits {
        items: call_limit(items, ITEMS_PER_CALL),
        browses: call_limit(browses, BROWSES_PER_CALL),
        reads: call_limit(reads, READS_PER_CALL),
    };
    let start = match &start.value {
        Some(Variant::DateTime(time)) => Some(**time),
        _ => None,
    };
    Ok(ServerFacts { namespaces, start, limits })
}

/// Takes a stated limit, within our own; 0 and a missing node mean that none is stated.
fn call_limit(stated: &DataValue, (unstated, most): (usize, usize)) -> usize {
    match stated.value {
        Some(Variant::UInt32(limit)) if limit > 0 => (limit as usize).min(most),
        _ => unstated,
    }
}

/// Names the value of a node.
pub(crate) fn value_of(node: NodeId) -> ReadValueId {
    attribute_of(node, AttributeId::Value)
}

/// Names an attribute of a node.
pub(crate) fn attribute_of(node: NodeId, attribute: AttributeId) -> ReadValueId {
    ReadValueId { node_id: node, attribute_id: attribute as u32, ..Default::default() }
}

/// Reads attributes, all in one call; one result for each.
pub(crate) async fn read(
    session: &Session,
    nodes: Vec<ReadValueId>,
) -> Result<Vec<DataValue>, ServiceError> {
    let count = nodes.len();
    let response = Read::new(session)
        .nodes_to_read(nodes)
        .timestamps_to_return(TimestampsToReturn::Neither)
        .send(session.channel())
        .await?;
    let results = response.results.unwrap_or_default();
    if results.len() == count {
        Ok(results)
    } else {
        Err(ServiceError(StatusCode::BadUnknownResponse))
    }
}

/// Goes up from a data type, itself included, to the first about which `judge` knows something.
pub(crate) async fn ancestor<T>(
    session: &Session,
    namespaces: &Namespaces,
    data_type: &NodeId,
    judge: impl Fn(&NodeId) -> Option<T>,
) -> Result<Option<T>, ServiceError> {
    let mut current = data_type.clone();
    for _ in 0..SUPERTYPES_MAX {
        if let Some(found) = judge(&current) {
            return Ok(Some(found));
        }
        let description = BrowseDescription {
            node_id: current,
            browse_direction: BrowseDirection::Inverse,
            reference_type_id: ReferenceTypeId::HasSubtype.into(),
            include_subtypes: true,
            node_class_mask: 0,
            result_mask: 0,
        };
        let browsed = Browse::new(session).browse_node(description).send(session.channel()).await?;
        let result = browsed.results.into_iter().flatten().next();
        let parent = result.and_then(|result| result.references?.into_iter().next());
        match parent.and_then(|parent| namespaces.local(parent.node_id)) {
            Some(parent) => current = parent,
            None => return Ok(None),
        }
    }
    Ok(None)
}

/// Deletes subscriptions; those that are gone already are no error.
pub(crate) async fn delete_subscriptions(
    session: &Session,
    ids: Vec<u32>,
) -> Result<(), ServiceError> {
    if !ids.is_empty() {
        DeleteSubscriptions::new(session).subscription_ids(ids).send(session.channel()).await?;
    }
    Ok(())
}

/// Deletes monitored items of one subscription, a call's worth at a time.
pub(crate) async fn delete_items(
    session: &Arc<Session>,
    subscription: u32,
    items: &[u32],
    limits: CallLimits,
) -> Result<(), ServiceError> {
    for chunk in items.chunks(limits.items) {
        DeleteMonitoredItems::new(subscription, session)
            .items_to_delete(chunk.to_vec())
            .send(session.channel())
            .await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stated_limits_are_respected_and_bounded() {
        let stated = |value: Option<Variant>| DataValue { value, ..Default::default() };
        #[rustfmt::skip]
        let cases = [
            (stated(Some(50_u32.into())),       50),
            (stated(Some(100_000_u32.into())),  500),
            (stated(Some(0_u32.into())),        100),
            (stated(None),                      100),
            (stated(Some("many".into())),       100),
        ];
        for (value, expected) in cases {
            assert_eq!(call_limit(&value, ITEMS_PER_CALL), expected, "{value:?}");
        }
    }
}
