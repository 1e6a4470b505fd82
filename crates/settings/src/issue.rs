//! Problems found in files: what, where, and what to do about it.

use crate::{SourceId, Span};

/// How bad an [`Issue`] is. Complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// The file can be used, but may not mean what its author thinks.
    Hint,
}

/// One problem, the place that caused it, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// Whether the file can be used in spite of it.
    pub severity: Severity,
    /// What is wrong: one clause without capital letter and full stop, with the facts in it.
    pub message: String,
    /// The place.
    pub at: Span,
    /// A note on the marked text itself, such as `found an integer`.
    pub label: Option<String>,
    /// What to do.
    pub hint: Option<String>,
    /// Other places that have to do with it, such as the first of two that clash.
    pub related: Vec<Related>,
}

/// Another place that has to do with an [`Issue`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Related {
    /// The place.
    pub at: Span,
    /// What is there.
    pub note: String,
}

impl Issue {
    /// Creates an error.
    pub fn error(at: Span, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, at, message)
    }

    /// Creates a hint.
    pub fn hint(at: Span, message: impl Into<String>) -> Self {
        Self::new(Severity::Hint, at, message)
    }

    /// Adds a note on the marked text.
    #[must_use]
    pub fn with_label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Adds what to do.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds another place that has to do with it.
    #[must_use]
    pub fn with_related(mut self, at: Span, note: impl Into<String>) -> Self {
        self.related.push(Related { at, note: note.into() });
        self
    }

    fn new(severity: Severity, at: Span, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { severity, message, at, label: None, hint: None, related: Vec::new() }
    }
}

/// Every problem found so far.
///
/// Where the syntax is broken, what stands there was guessed: later problems in the same lines are not
/// noted, nor are keys that miss in such a file, for they may stand in the broken part.
#[derive(Clone, Debug, Default)]
pub struct Issues {
    issues: Vec<Issue>,
    damaged: Vec<Span>,
}

impl Issues {
    /// Notes a problem, unless it is in a damaged stretch or was noted already.
    pub fn push(&mut self, issue: Issue) {
        if !self.is_damaged(issue.at) && !self.issues.contains(&issue) {
            self.issues.push(issue);
        }
    }

    /// Notes an error with a hint.
    pub fn error(&mut self, at: Span, message: impl Into<String>, hint: impl Into<String>) {
        self.push(Issue::error(at, message).with_hint(hint));
    }

    /// Notes a broken piece of syntax: what was read from `damaged` is a guess from now on.
    pub fn push_damage(&mut self, issue: Issue, damaged: Span) {
        self.push(issue);
        self.damaged.push(damaged);
    }

    /// Returns whether the place is in a stretch with broken syntax.
    pub fn is_damaged(&self, at: Span) -> bool {
        self.damaged.iter().any(|damaged| damaged.touches(&at))
    }

    /// Returns whether the syntax of the text is broken anywhere.
    pub fn has_damage(&self, source: SourceId) -> bool {
        self.damaged.iter().any(|damaged| damaged.source == source)
    }

    /// Returns whether anything that was noted keeps the files from being used.
    pub fn has_errors(&self) -> bool {
        self.error_count() > 0
    }

    /// Returns how many errors were noted. Comparing it before and after tells whether a step failed.
    pub fn error_count(&self) -> usize {
        self.issues.iter().filter(|issue| issue.severity == Severity::Error).count()
    }

    /// Returns whether nothing was noted at all.
    pub fn is_empty(&self) -> bool {
        self.issues.is_empty()
    }

    /// Returns how many problems were noted.
    pub fn len(&self) -> usize {
        self.issues.len()
    }

    /// Returns the problems in the order in which they were noted.
    pub fn iter(&self) -> impl Iterator<Item = &Issue> {
        self.issues.iter()
    }

    /// Takes over everything that `other` noted.
    pub fn append(&mut self, other: Issues) {
        self.damaged.extend(other.damaged);
        for issue in other.issues {
            if !self.issues.contains(&issue) {
                self.issues.push(issue);
            }
        }
    }

    /// Changes every problem.
    #[must_use]
    pub fn map(self, change: impl FnMut(Issue) -> Issue) -> Self {
        Self { issues: self.issues.into_iter().map(change).collect(), ..self }
    }

    /// Puts the problems in the order of the texts and of the places in them.
    pub fn sort(&mut self) {
        self.issues.sort_by_key(|issue| issue.at);
    }
}
