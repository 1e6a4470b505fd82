//! From mapping entries to the points that adapters serve.

use tidegate_adapter_api::{OpcUaPoint, PathPoint, Point, PointAddress, PointId, PointSet};
use tidegate_mapping::{Address, Entry, MappingSet};
use tidegate_model::{AdapterName, PathPattern};

/// Returns the CoAP resources of a mapping.
pub fn coap(mapping: &MappingSet) -> PointSet {
    select(mapping, |entry| match entry.address() {
        Address::Coap(pattern) => Some(PointAddress::Coap(path(entry, pattern))),
        _ => None,
    })
}

/// Returns the HTTP paths of a mapping.
pub fn http(mapping: &MappingSet) -> PointSet {
    select(mapping, |entry| match entry.address() {
        Address::Http(pattern) => Some(PointAddress::Http(path(entry, pattern))),
        _ => None,
    })
}

/// Returns the nodes of one OPC UA server.
pub fn opcua(mapping: &MappingSet, server: &AdapterName) -> PointSet {
    select(mapping, |entry| match entry.address() {
        Address::OpcUa(address) if address.server == *server => {
            Some(PointAddress::OpcUa(OpcUaPoint {
                server: address.server.clone(),
                node: address.node.clone(),
                sampling: address.sampling,
                deadband: address.deadband,
                unit: entry.unit().cloned(),
                writable: entry.writable().is_some(),
                method: address.method.clone(),
            }))
        }
        _ => None,
    })
}

fn select(mapping: &MappingSet, address: impl Fn(&Entry) -> Option<PointAddress>) -> PointSet {
    let points = mapping
        .entries()
        .iter()
        .filter_map(|entry| Some(Point { id: PointId(entry.index()), address: address(entry)? }))
        .collect();
    PointSet::new(points, mapping.generation())
}

fn path(entry: &Entry, pattern: &PathPattern) -> PathPoint {
    PathPoint {
        pattern: pattern.clone(),
        payload: entry.payload(),
        text_type: entry.text_type(),
        each: entry.each(),
        unit: entry.unit().cloned(),
    }
}
