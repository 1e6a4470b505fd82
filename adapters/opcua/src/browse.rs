//! Finding variables by walking the address space from Objects (OPC 10000-4, section 5.9).
//!
//! The address space is a graph that the server makes up: every node is visited once, depth, count and
//! pages are bounded, and the walk is a loop, never a recursion.

use std::collections::{HashSet, VecDeque};

use opcua::{
    client::{
        Session, UARequest as _,
        services::{Browse, BrowseNext},
    },
    types::{
        BrowseDescription, BrowseDirection, BrowseResult, BrowseResultMask, ByteString, NodeClass,
        NodeClassMask, NodeId, ObjectId, ReferenceDescription, ReferenceTypeId, StatusCode,
    },
};
use tidegate_model::NodeAddress;

use crate::{
    namespaces::Namespaces,
    services::{CallLimits, ServiceError},
};

/// Nodes visited in one walk.
const NODES_MAX: usize = 200_000;
/// Steps from Objects to a node.
const DEPTH_MAX: u32 = 32;
/// References asked for in one page; the server may give fewer.
const REFERENCES_PER_PAGE: u32 = 1_000;
/// Pages of one node that are asked for.
const PAGES_PER_NODE_MAX: u32 = 10_000;

/// What a walk found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The wanted variables, in the order in which they were met.
    pub(crate) variables: Vec<NodeAddress>,
    /// Whether everything was seen; otherwise a node that is missing may exist all the same.
    pub(crate) complete: bool,
}

/// The state of a walk without its requests: which nodes were met and which are to be browsed.
#[derive(Debug)]
struct Walk<'a> {
    namespaces: &'a Namespaces,
    seen: HashSet<NodeId>,
    todo: VecDeque<(NodeId, u32)>,
    found: Found,
    nodes_max: usize,
}

impl<'a> Walk<'a> {
    fn new(namespaces: &'a Namespaces, nodes_max: usize) -> Self {
        let start: NodeId = ObjectId::ObjectsFolder.into();
        // The server's own description of itself is large and nobody's process value.
        let server: NodeId = ObjectId::Server.into();
        Self {
            namespaces,
            seen: HashSet::from([start.clone(), server]),
            todo: VecDeque::from([(start, 0)]),
            found: Found { variables: Vec::new(), complete: true },
            nodes_max,
        }
    }

    fn next(&mut self, count: usize) -> Vec<(NodeId, u32)> {
        let count = count.min(self.todo.len());
        self.todo.drain(..count).collect()
    }

    /// Takes what one page says about the children of a node at `depth`.
    fn add(
        &mut self,
        references: Vec<ReferenceDescription>,
        depth: u32,
        wanted: &mut impl FnMut(&NodeAddress) -> bool,
    ) {
        for reference in references {
            let is_variable = reference.node_class == NodeClass::Variable;
            let Some(node) = self.namespaces.local(reference.node_id) else { continue };
            if self.seen.contains(&node) {
                continue;
            }
            if self.seen.len() >= self.nodes_max {
                self.found.complete = false;
                return;
            }
            self.seen.insert(node.clone());
            if is_variable {
                self.found.variables.extend(self.namespaces.address(&node).filter(&mut *wanted));
            }
            if depth < DEPTH_MAX {
                self.todo.push_back((node, depth + 1));
            } else {
                self.found.complete = false;
            }
        }
    }
}

/// Walks the address space and returns the variables that are `wanted`.
///
/// A node that cannot be browsed makes the result incomplete, and the walk goes on without it.
pub(crate) async fn find(
    session: &Session,
    namespaces: &Namespaces,
    limits: CallLimits,
    mut wanted: impl FnMut(&NodeAddress) -> bool,
) -> Result<Found, ServiceError> {
    let mut walk = Walk::new(namespaces, NODES_MAX);
    let mut per_call = limits.browses;
    loop {
        let nodes = walk.next(per_call);
        if nodes.is_empty() {
            return Ok(walk.found);
        }
        let results = match browse(session, &nodes).await {
            Ok(results) => results,
            Err(error) if error.is_too_much() && per_call > 1 => {
                per_call /= 2;
                walk.todo.extend(nodes);
                continue;
            }
            Err(error) => return Err(error),
        };
        for ((node, depth), result) in nodes.into_iter().zip(results) {
            match result.status_code {
                // The server keeps few continuation points: browse fewer nodes at a time.
                StatusCode::BadNoContinuationPoints if per_call > 1 => {
                    per_call = 1;
                    walk.todo.push_back((node, depth));
                }
                status if status.is_bad() => walk.found.complete = false,
                _ => follow(session, &mut walk, result, depth, &mut wanted).await?,
            }
        }
    }
}

/// Takes all pages of one node.
async fn follow(
    session: &Session,
    walk: &mut Walk<'_>,
    first: BrowseResult,
    depth: u32,
    wanted: &mut impl FnMut(&NodeAddress) -> bool,
) -> Result<(), ServiceError> {
    let mut page = first;
    for number in 1.. {
        walk.add(page.references.unwrap_or_default(), depth, wanted);
        let point = page.continuation_point;
        if point.is_null_or_empty() {
            break;
        }
        let enough = walk.seen.len() >= walk.nodes_max || number >= PAGES_PER_NODE_MAX;
        page = browse_next(session, point, enough).await?;
        if enough || page.status_code.is_bad() {
            walk.found.complete = false;
            break;
        }
    }
    Ok(())
}

async fn browse(
    session: &Session,
    nodes: &[(NodeId, u32)],
) -> Result<Vec<BrowseResult>, ServiceError> {
    let descriptions = nodes
        .iter()
        .map(|(node, _)| BrowseDescription {
            node_id: node.clone(),
            browse_direction: BrowseDirection::Forward,
            reference_type_id: ReferenceTypeId::HierarchicalReferences.into(),
            include_subtypes: true,
            node_class_mask: (NodeClassMask::OBJECT | NodeClassMask::VARIABLE).bits(),
            result_mask: BrowseResultMask::NodeClass as u32,
        })
        .collect();
    let response = Browse::new(session)
        .nodes_to_browse(descriptions)
        .max_references_per_node(REFERENCES_PER_PAGE)
        .send(session.channel())
        .await?;
    let results = response.results.unwrap_or_default();
    if results.len() == nodes.len() {
        Ok(results)
    } else {
        Err(ServiceError(StatusCode::BadUnknownResponse))
    }
}

async fn browse_next(
    session: &Session,
    point: ByteString,
    release: bool,
) -> Result<BrowseResult, ServiceError> {
    let response = BrowseNext::new(session)
        .continuation_points(vec![point])
        .release_continuation_points(release)
        .send(session.channel())
        .await?;
    // Releasing gives an empty list (OPC 10000-4, section 5.9.3).
    Ok(response.results.unwrap_or_default().into_iter().next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use opcua::types::ExpandedNodeId;
    use tidegate_model::NodePattern;

    use super::*;

    fn reference(name: &str, node_class: NodeClass) -> ReferenceDescription {
        ReferenceDescription {
            node_id: ExpandedNodeId::new(NodeId::new(1, name)),
            node_class,
            ..Default::default()
        }
    }

    fn texts(walk: &Walk<'_>) -> Vec<String> {
        walk.found.variables.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn main_12_patterns_find_variables_and_captures() {
        let namespaces = Namespaces::of(&["urn:p"]);
        let pattern = NodePattern::parse("nsu=urn:p;s=Press.{n}.Temperature").unwrap();
        let mut walk = Walk::new(&namespaces, 100);
        let mut captured = Vec::new();
        let mut wanted = |node: &NodeAddress| match pattern.matches(node) {
            Some(captures) => {
                captured.push(captures.get(0).unwrap().to_owned());
                true
            }
            None => false,
        };
        let children = ["Press.1.Temperature", "Press.2.Temperature", "Press.1.Pressure"];
        walk.add(children.map(|name| reference(name, NodeClass::Variable)).into(), 0, &mut wanted);
        walk.add(vec![reference("Press.3.Temperature", NodeClass::Object)], 0, &mut wanted);
        assert_eq!(captured, ["1", "2"]);
        assert_eq!(
            texts(&walk),
            ["nsu=urn:p;s=Press.1.Temperature", "nsu=urn:p;s=Press.2.Temperature"]
        );
        assert_eq!(walk.next(99).len(), 5, "Objects and every child are browsed");
    }

    #[test]
    fn fault_o02_cycles_depth_and_count_are_bounded() {
        let namespaces = Namespaces::of(&["urn:p"]);
        let mut all = |_: &NodeAddress| true;
        let mut walk = Walk::new(&namespaces, 100);
        walk.next(1);
        for _ in 0..3 {
            walk.add(vec![reference("a", NodeClass::Variable)], 0, &mut all);
        }
        assert_eq!((walk.todo.len(), texts(&walk).len()), (1, 1), "a cycle ends");
        assert!(walk.found.complete);

        walk.add(vec![reference("deep", NodeClass::Variable)], DEPTH_MAX, &mut all);
        assert!(!walk.found.complete, "what lies deeper is not looked for");
        assert_eq!(walk.todo.len(), 1);

        let mut walk = Walk::new(&namespaces, 4);
        let many =
            (0..10).map(|number| reference(&number.to_string(), NodeClass::Variable)).collect();
        walk.add(many, 0, &mut all);
        assert_eq!((walk.seen.len(), walk.found.complete), (4, false));
    }

    #[test]
    fn the_server_object_is_left_out() {
        let namespaces = Namespaces::of(&[]);
        let mut walk = Walk::new(&namespaces, 100);
        let server = ReferenceDescription {
            node_id: ExpandedNodeId::new(NodeId::from(ObjectId::Server)),
            node_class: NodeClass::Object,
            ..Default::default()
        };
        walk.next(1);
        walk.add(vec![server], 0, &mut |_| true);
        assert!(walk.todo.is_empty());
    }
}
