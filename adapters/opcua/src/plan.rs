//! Which nodes are to be monitored, and for which point: mappings applied to the nodes there are.

use std::{collections::BTreeMap, time::Duration};

use tidegate_adapter_api::{OpcUaPoint, PointAddress, PointId, PointSet};
use tidegate_model::{AdapterName, Captures, NodeAddress, Unit};

/// How one node is to be monitored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wanted {
    /// The mapping entry its readings belong to.
    pub(crate) point: PointId,
    /// What the captures of the entry stand for.
    pub(crate) captures: Captures,
    /// The unit of the values.
    pub(crate) unit: Option<Unit>,
    /// How often the server looks at the value; `None` leaves it to the publishing interval.
    pub(crate) sampling: Option<Duration>,
    /// Smallest change that is reported.
    pub(crate) deadband: Option<f64>,
}

/// The points of one server.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServerPoints {
    /// Those with a method are only for commands.
    methods: Vec<(PointId, OpcUaPoint)>,
    points: Vec<(PointId, OpcUaPoint)>,
    generation: u64,
}

impl ServerPoints {
    /// Takes from `points` those of the named server.
    pub(crate) fn new(points: &PointSet, server: &AdapterName) -> Self {
        let of_server = points.iter().filter_map(|point| match &point.address {
            PointAddress::OpcUa(address) if address.server == *server => {
                Some((point.id, address.clone()))
            }
            _ => None,
        });
        let (methods, watched) = of_server.partition(|(_, address)| address.method.is_some());
        Self { methods, points: watched, generation: points.generation() }
    }

    /// Returns which load of the mappings the points are of.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Returns the entry with the given number.
    pub(crate) fn get(&self, point: PointId) -> Option<&OpcUaPoint> {
        let mut all = self.points.iter().chain(&self.methods);
        all.find(|(id, _)| *id == point).map(|(_, address)| address)
    }

    /// Returns whether any entry has to be looked for by browsing.
    pub(crate) fn has_patterns(&self) -> bool {
        self.points.iter().any(|(_, address)| address.node.literal().is_none())
    }

    /// Returns whether some pattern wants the node; entries without captures need no browsing.
    pub(crate) fn wants(&self, node: &NodeAddress) -> bool {
        self.points.iter().any(|(_, address)| {
            address.node.literal().is_none() && address.node.matches(node).is_some()
        })
    }

    /// Returns the nodes to monitor: those named outright, and those of `found` that a pattern matches.
    ///
    /// Where several entries match a node, the one with more literal characters has it.
    pub(crate) fn plan<'a>(
        &self,
        found: impl IntoIterator<Item = &'a NodeAddress>,
    ) -> BTreeMap<NodeAddress, Wanted> {
        let named = self.points.iter().filter_map(|(_, address)| address.node.literal());
        let nodes: Vec<NodeAddress> = named.chain(found.into_iter().cloned()).collect();
        nodes.into_iter().filter_map(|node| Some((node.clone(), self.best(&node)?))).collect()
    }

    fn best(&self, node: &NodeAddress) -> Option<Wanted> {
        let matching = self
            .points
            .iter()
            .filter_map(|(id, address)| Some((*id, address, address.node.matches(node)?)));
        let (point, address, captures) = matching.reduce(|best, next| {
            let literal = |address: &OpcUaPoint| address.node.literal_characters();
            if literal(next.1) > literal(best.1) { next } else { best }
        })?;
        Some(Wanted {
            point,
            captures,
            unit: address.unit.clone(),
            sampling: address.sampling,
            deadband: address.deadband,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use tidegate_adapter_api::Point;
    use tidegate_model::NodePattern;

    use super::*;

    /// Makes points of the server `plc7`, in order, from node patterns.
    pub(crate) fn points(patterns: &[&str]) -> PointSet {
        let points = patterns.iter().zip(1..).map(|(pattern, id)| Point {
            id: PointId(id),
            address: PointAddress::OpcUa(OpcUaPoint {
                server: AdapterName::new("plc7").unwrap(),
                node: NodePattern::parse(pattern).unwrap(),
                sampling: None,
                deadband: None,
                unit: None,
                writable: false,
                method: None,
            }),
        });
        PointSet::new(points.collect(), 3)
    }

    pub(crate) fn node(text: &str) -> NodeAddress {
        NodePattern::parse(text).unwrap().literal().unwrap()
    }

    fn server(name: &str, patterns: &[&str]) -> ServerPoints {
        ServerPoints::new(&points(patterns), &AdapterName::new(name).unwrap())
    }

    #[test]
    fn main_12_the_entry_with_more_literal_text_has_the_node() {
        let points = server(
            "plc7",
            &["nsu=urn:p;s={all*}", "nsu=urn:p;s=Press.{n}.T", "nsu=urn:p;s=Press.7.T", "i=2258"],
        );
        let found =
            ["Press.7.T", "Press.8.T", "Oven"].map(|name| node(&format!("nsu=urn:p;s={name}")));
        let plan = points.plan(&found);
        let chosen: Vec<_> =
            plan.iter().map(|(node, wanted)| (node.to_string(), wanted.point.0)).collect();
        let expected = [
            ("i=2258".to_owned(), 4),
            ("nsu=urn:p;s=Oven".to_owned(), 1),
            ("nsu=urn:p;s=Press.7.T".to_owned(), 3),
            ("nsu=urn:p;s=Press.8.T".to_owned(), 2),
        ];
        assert_eq!(chosen, expected);
        assert_eq!(plan[&found[1]].captures.get(0), Some("8"));
        assert_eq!(points.generation(), 3);
    }

    #[test]
    fn only_patterns_need_browsing() {
        let points = server("plc7", &["nsu=urn:p;s=Press.7.T", "nsu=urn:p;s=Press.{n}.T"]);
        assert!(points.has_patterns());
        assert!(points.wants(&node("nsu=urn:p;s=Press.7.T")));
        assert!(!points.wants(&node("nsu=urn:q;s=Press.7.T")));
        assert!(!server("plc7", &["nsu=urn:p;s=Press.7.T"]).has_patterns());
    }

    #[test]
    fn points_of_other_servers_are_left_alone() {
        let points = server("plc8", &["i=2258"]);
        assert!(points.plan([]).is_empty());
        assert!(points.get(PointId(1)).is_none());
    }
}
