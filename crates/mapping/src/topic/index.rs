//! Finds the pattern for a topic without trying them all.

use std::collections::HashMap;

use tidegate_model::Topic;

use super::pattern::{Level, TopicPattern};

/// A tree of levels. Looking up costs one step for each level and each pattern that may still match.
#[derive(Clone, Debug, Default)]
pub(crate) struct TopicIndex {
    /// The first one is the root; empty if there is no pattern.
    nodes: Vec<Node>,
}

#[derive(Clone, Debug, Default)]
struct Node {
    /// Only looked up, never walked.
    literals: HashMap<Box<str>, usize>,
    captures: Vec<Partial>,
    any: Option<usize>,
    /// The number of the pattern that ends with `#` here.
    rest: Option<u32>,
    /// The number of the pattern that ends here.
    here: Option<u32>,
}

#[derive(Clone, Debug)]
struct Partial {
    before: Box<str>,
    after: Box<str>,
    node: usize,
}

/// The number of a pattern, and how many of its levels are literal.
#[derive(Clone, Copy)]
struct Found {
    literals: usize,
    number: u32,
}

impl TopicIndex {
    /// Adds a pattern under a number.
    ///
    /// Patterns of one index do not overlap unless one of the two has more literal levels.
    pub(crate) fn insert(&mut self, pattern: &TopicPattern, number: u32) {
        if self.nodes.is_empty() {
            self.nodes.push(Node::default());
        }
        let mut at = 0;
        for level in pattern.levels() {
            let next = self.nodes.len();
            let node = &mut self.nodes[at];
            let known = match level {
                Level::Rest => {
                    node.rest.get_or_insert(number);
                    return;
                }
                Level::Any => *node.any.get_or_insert(next),
                Level::Literal(text) => *node.literals.entry(text.clone()).or_insert(next),
                Level::Capture { before, after } => {
                    let same = node
                        .captures
                        .iter()
                        .find(|partial| partial.before == *before && partial.after == *after);
                    let found = same.map(|partial| partial.node);
                    found.unwrap_or_else(|| {
                        let (before, after) = (before.clone(), after.clone());
                        node.captures.push(Partial { before, after, node: next });
                        next
                    })
                }
            };
            if known == next {
                self.nodes.push(Node::default());
            }
            at = known;
        }
        self.nodes[at].here.get_or_insert(number);
    }

    /// Returns the number of the pattern that matches with the most literal levels.
    #[inline]
    pub(crate) fn find(&self, topic: &Topic) -> Option<u32> {
        let root = self.nodes.first()?;
        let (first, behind) = split_level(topic.as_str());
        let mut best = None;
        if topic.is_dollar() {
            let below = root.literals.get(first)?;
            self.visit(&self.nodes[*below], behind, 1, &mut best);
        } else {
            self.visit(root, Some(topic.as_str()), 0, &mut best);
        }
        best.map(|found| found.number)
    }

    /// Goes on with the levels of `rest`. Recursion is as deep as the longest pattern, which has a limit.
    fn visit(&self, node: &Node, rest: Option<&str>, literals: usize, best: &mut Option<Found>) {
        let mut offer = |number: Option<u32>| {
            if let Some(number) = number
                && best.is_none_or(|best| literals > best.literals)
            {
                *best = Some(Found { literals, number });
            }
        };
        offer(node.rest);
        let Some(rest) = rest else {
            offer(node.here);
            return;
        };
        let (level, behind) = split_level(rest);
        if let Some(below) = node.literals.get(level) {
            self.visit(&self.nodes[*below], behind, literals + 1, best);
        }
        for Partial { before, after, node: below } in &node.captures {
            if Level::capture(before, after, level).is_some() {
                self.visit(&self.nodes[*below], behind, literals, best);
            }
        }
        if let Some(below) = node.any {
            self.visit(&self.nodes[below], behind, literals, best);
        }
    }
}

#[inline]
fn split_level(text: &str) -> (&str, Option<&str>) {
    match text.split_once('/') {
        Some((level, behind)) => (level, Some(behind)),
        None => (text, None),
    }
}
