//! Names that may be given once.

use std::collections::HashMap;

use tidegate_settings::{Issue, Issues, Span};

/// Remembers names, and notes those that come a second time.
#[derive(Debug)]
pub(super) struct Unique {
    what: &'static str,
    seen: HashMap<String, Span>,
}

impl Unique {
    /// Creates an empty set of names of `what`, such as `uplink`.
    pub(super) fn new(what: &'static str) -> Self {
        Self { what, seen: HashMap::new() }
    }

    /// Takes a name.
    pub(super) fn note(&mut self, name: &str, at: Span, issues: &mut Issues) {
        if let Some(first) = self.seen.get(name) {
            let issue = Issue::error(at, format!("there are two {} `{name}`", self.what));
            let issue = issue.with_hint("give each a name of its own");
            issues.push(issue.with_related(*first, "first named here"));
        } else {
            self.seen.insert(name.to_owned(), at);
        }
    }
}
