//! Two entries that claim one address.

use std::collections::BTreeMap;

use tidegate_model::{NodePattern, PathPattern};
use tidegate_settings::{Issue, Issues, Span};

use crate::TopicPattern;

/// A pattern of addresses, as far as precedence goes.
pub(crate) trait Claim {
    /// Returns how specific the pattern is: of two that match, the higher one wins.
    fn rank(&self) -> usize;

    /// Returns the one address that the pattern claims, if it is only one.
    fn only_address(&self) -> Option<&str>;

    /// Returns whether some address matches both.
    fn overlaps(&self, other: &Self) -> bool;
}

impl Claim for PathPattern {
    fn rank(&self) -> usize {
        self.literal_segments()
    }

    fn only_address(&self) -> Option<&str> {
        self.names().is_empty().then(|| self.as_str())
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.overlaps(other)
    }
}

impl Claim for NodePattern {
    fn rank(&self) -> usize {
        self.literal_characters()
    }

    // One node has several spellings (`nsu=` escapes, letter case of a UUID), so that texts do not tell.
    fn only_address(&self) -> Option<&str> {
        None
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.overlaps(other)
    }
}

impl Claim for TopicPattern {
    fn rank(&self) -> usize {
        self.literal_levels()
    }

    fn only_address(&self) -> Option<&str> {
        self.is_literal().then(|| self.as_str())
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.overlaps(other)
    }
}

/// Notes every pattern that shares an address with an earlier one of the same rank.
///
/// Costs one comparison for each pair of patterns of one rank, but for pairs without captures.
pub(crate) fn report<C: Claim>(claims: &[(&C, Span)], what: &str, hint: &str, issues: &mut Issues) {
    let mut ranks: BTreeMap<usize, Vec<&(&C, Span)>> = BTreeMap::new();
    for claim in claims {
        ranks.entry(claim.0.rank()).or_default().push(claim);
    }
    for rank in ranks.into_values() {
        let mut single: BTreeMap<&str, Span> = BTreeMap::new();
        for (place, (pattern, at)) in rank.iter().enumerate() {
            let only = pattern.only_address();
            let earlier = match only.and_then(|address| single.get(address)) {
                Some(earlier) => Some(*earlier),
                None => rank[..place]
                    .iter()
                    .filter(|(other, _)| only.is_none() || other.only_address().is_none())
                    .find(|(other, _)| other.overlaps(pattern))
                    .map(|(_, earlier)| *earlier),
            };
            if let Some(earlier) = earlier {
                let issue = Issue::error(*at, format!("two entries claim one {what}"));
                issues.push(issue.with_hint(hint).with_related(earlier, "the first claim is here"));
            }
            if let Some(address) = only {
                single.entry(address).or_insert(*at);
            }
        }
    }
}
