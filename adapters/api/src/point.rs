//! The addresses that mappings name, in the terms of each protocol.

use std::{fmt, sync::Arc, time::Duration};

use tidegate_model::{
    AdapterName, Captures, Each, NodePattern, PathPattern, PayloadFormat, Unit, ValueType,
};

/// The number of a mapping entry within one [`PointSet`] generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PointId(pub u32);

/// A resource path of CoAP or HTTP that devices write to.
#[derive(Clone, Debug, PartialEq)]
pub struct PathPoint {
    /// Which paths.
    pub pattern: PathPattern,
    /// How payloads are read; `None` leaves it to the content format of the request.
    pub payload: Option<PayloadFormat>,
    /// The type that a text payload must have before any transform; `None` leaves it to the grammar.
    pub text_type: Option<ValueType>,
    /// Whether the members of the payload are readings of their own.
    pub each: Option<Each>,
    /// The unit of the values, if the payload does not name one.
    pub unit: Option<Unit>,
}

/// OPC UA nodes that are subscribed to, or written to.
#[derive(Clone, Debug, PartialEq)]
pub struct OpcUaPoint {
    /// The configured server.
    pub server: AdapterName,
    /// Which nodes.
    pub node: NodePattern,
    /// How often the server looks at the value; `None` asks for the publishing interval.
    pub sampling: Option<Duration>,
    /// Smallest change that is reported, in the unit of the value.
    pub deadband: Option<f64>,
    /// The unit of the values.
    pub unit: Option<Unit>,
    /// Whether commands may write the nodes.
    pub writable: bool,
    /// The method that commands call, with captures of `node` only; `node` is its object then, and there is
    /// nothing to subscribe to.
    pub method: Option<NodePattern>,
}

/// Where a point is, in the terms of its protocol.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum PointAddress {
    /// A CoAP resource on the gateway.
    Coap(PathPoint),
    /// An HTTP resource on the gateway.
    Http(PathPoint),
    /// Nodes of an OPC UA server.
    OpcUa(OpcUaPoint),
}

/// One mapping entry as its adapter sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Its number, with which readings are handed in.
    pub id: PointId,
    /// Where it is.
    pub address: PointAddress,
}

/// All points of one adapter. Cheap to clone.
#[derive(Clone, Default, PartialEq)]
pub struct PointSet {
    points: Arc<[Point]>,
    generation: u64,
}

impl PointSet {
    /// Makes a set of the `generation`-th load of the mappings.
    pub fn new(points: Vec<Point>, generation: u64) -> Self {
        Self { points: points.into(), generation }
    }

    /// Returns all points in the order of the mapping files.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Point> {
        self.points.iter()
    }

    /// Returns which load of the mappings made the set; readings name it, so that a number is never
    /// taken for an entry of another load.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Finds the point for the decoded segments of a path: the one with most literal segments.
    pub fn match_path<S: AsRef<str>>(&self, path: &[S]) -> Option<(PointId, &PathPoint, Captures)> {
        self.points
            .iter()
            .filter_map(|point| match &point.address {
                PointAddress::Coap(address) | PointAddress::Http(address) => {
                    Some((point.id, address, address.pattern.matches(path)?))
                }
                PointAddress::OpcUa(_) => None,
            })
            .reduce(|best, next| {
                if next.1.pattern.literal_segments() > best.1.pattern.literal_segments() {
                    next
                } else {
                    best
                }
            })
    }
}

impl fmt::Debug for PointSet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { points, generation } = self;
        formatter
            .debug_struct("PointSet")
            .field("points", &points.len())
            .field("generation", generation)
            .finish()
    }
}
