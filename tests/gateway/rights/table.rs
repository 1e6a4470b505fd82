//! The cells of the matrix: what was expected, what was found, and how many there are.

use std::collections::BTreeMap;
use std::fmt;

/// All comparisons so far.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// How many cells were expected to be allowed and denied, by mode, protocol and action.
    counts: BTreeMap<(String, &'static str, &'static str), (usize, usize)>,
    differences: Vec<String>,
}

/// Where a cell stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cell<'a> {
    /// When it was tried: live, queued, after a restart.
    pub(super) mode: &'a str,
    pub(super) protocol: &'static str,
    pub(super) action: &'static str,
    /// Who tried.
    pub(super) who: &'a str,
    /// On which topic or filter.
    pub(super) on: &'a str,
}

impl Table {
    /// Compares a cell.
    pub(super) fn compare(&mut self, cell: Cell<'_>, expected: bool, found: bool) {
        let key = (cell.mode.to_owned(), cell.protocol, cell.action);
        let (allowed, denied) = self.counts.entry(key).or_default();
        *if expected { allowed } else { denied } += 1;
        if expected != found {
            let Cell { mode, protocol, action, who, on } = cell;
            self.differences.push(format!(
                "{mode}, {protocol}, {who}, {action} {on}: expected {expected}, found {found}"
            ));
        }
    }

    /// Returns the number of cells.
    pub(super) fn len(&self) -> usize {
        self.counts.values().map(|(allowed, denied)| allowed + denied).sum()
    }

    /// Prints the table and checks that nothing differs, and that each row has both kinds of cells where it can.
    #[track_caller]
    pub(super) fn finish(&self, at_least: usize) {
        println!("{self}");
        assert!(self.differences.is_empty(), "{}", self.differences.join("\n"));
        assert!(self.len() >= at_least, "the table has shrunk to {} cells", self.len());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "{:<28} {:<11} {:<14} {:>7} {:>7}",
            "mode", "protocol", "action", "allowed", "denied"
        )?;
        for ((mode, protocol, action), (allowed, denied)) in &self.counts {
            writeln!(formatter, "{mode:<28} {protocol:<11} {action:<14} {allowed:>7} {denied:>7}")?;
        }
        write!(formatter, "{} cells, {} differ", self.len(), self.differences.len())
    }
}
