//! Two entries that claim one address.

use std::collections::BTreeMap;

use tidegate_model::{NodePattern, PathPattern};
use tidegate_settings::{Issue, Issues, Span};

use crate::TopicPattern;

/// A pattern of addresses, as far as precedence goes.
pub(crate) trait Claim {
    /// Returns how specific the pattern is: of two that match, the higher one wins.
    fn rank(&self) -> usize;

    /// Returns the one address that the pattern claims, if it is only one, in the one spelling that it has.
    fn only_address(&self) -> Option<String>;

    /// Returns whether some address matches both.
    fn overlaps(&self, other: &Self) -> bool;
}

impl Claim for PathPattern {
    fn rank(&self) -> usize {
        self.literal_segments()
    }

    fn only_address(&self) -> Option<String> {
        self.names().is_empty().then(|| self.as_str().to_owned())
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.overlaps(other)
    }
}

impl Claim for NodePattern {
    fn rank(&self) -> usize {
        self.literal_characters()
    }

    fn only_address(&self) -> Option<String> {
        self.literal().map(|node| node.to_string())
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.overlaps(other)
    }
}

impl Claim for TopicPattern {
    fn rank(&self) -> usize {
        self.literal_levels()
    }

    fn only_address(&self) -> Option<String> {
        self.is_literal().then(|| self.as_str().to_owned())
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.overlaps(other)
    }
}

/// The claims of one rank so far.
struct Rank<'a, C> {
    /// Those that claim one address.
    single: BTreeMap<String, (&'a C, Span)>,
    /// Those with captures or wildcards.
    several: Vec<(&'a C, Span)>,
}

/// Notes every pattern that shares an address with an earlier one of the same rank.
///
/// Costs one comparison for each pattern with captures and each other pattern of its rank; patterns of one
/// address each are only looked up.
pub(crate) fn report<C: Claim>(claims: &[(&C, Span)], what: &str, hint: &str, issues: &mut Issues) {
    let mut ranks: BTreeMap<usize, Rank<'_, C>> = BTreeMap::new();
    for &(pattern, at) in claims {
        let rank = ranks
            .entry(pattern.rank())
            .or_insert_with(|| Rank { single: BTreeMap::new(), several: Vec::new() });
        let only = pattern.only_address();
        let same = only.as_ref().and_then(|address| rank.single.get(address));
        let shares = |(other, _): &&(&C, Span)| other.overlaps(pattern);
        let earlier = same.or_else(|| rank.several.iter().find(shares)).or_else(|| match only {
            Some(_) => None,
            None => rank.single.values().find(shares),
        });
        if let Some((_, earlier)) = earlier {
            let issue = Issue::error(at, format!("two entries claim one {what}"));
            issues.push(issue.with_hint(hint).with_related(*earlier, "the first claim is here"));
        }
        match only {
            Some(address) => {
                rank.single.entry(address).or_insert((pattern, at));
            }
            None => rank.several.push((pattern, at)),
        }
    }
}
