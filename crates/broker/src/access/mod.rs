//! Who may publish, subscribe and command what: one place for all protocols.

mod filter;
mod rights;
mod set;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
pub use tidegate_model::Glob;
use tidegate_model::{ClientId, Principal};

pub use self::filter::{AccessFilter, AccessFilterError};
pub use self::rights::{Rights, command_target};

/// One `[[access]]` entry: what it gives to the principals it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessEntry {
    /// To whom.
    pub principal: Glob,
    /// Where they may publish.
    pub publish: Vec<AccessFilter>,
    /// What they may subscribe to.
    pub subscribe: Vec<AccessFilter>,
    /// Which points they may command: filters over topics without `/set` and `/call`.
    pub command: Vec<AccessFilter>,
    /// What they may do with the gateway itself.
    pub manage: Option<Management>,
}

/// A right over the gateway itself. Nobody has one without an entry that gives it, `anonymous` never.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Management {
    /// See how it is.
    Read,
    /// Change it; includes seeing.
    Write,
}

/// All `[[access]]` entries; deny by default once there is one.
#[derive(Debug, Default)]
pub struct AccessRules {
    entries: Vec<AccessEntry>,
    /// The entries that name one principal, by its name.
    by_name: HashMap<Box<str>, Vec<usize>>,
    /// The entries whose principal is a pattern.
    by_pattern: Vec<usize>,
    /// What principals may do whatever their client is called, as it was worked out before.
    known: Mutex<HashMap<Principal, Known>>,
}

/// What was worked out for a principal.
#[derive(Clone, Debug)]
struct Known {
    /// Without the filters that name a client.
    rights: Arc<Rights>,
    /// Whether there are such filters.
    depends_on_client: bool,
}

/// So many principals are remembered; then all are forgotten, and worked out again as they come.
const KNOWN_MAX: usize = 4_096;

impl AccessRules {
    /// Takes the entries.
    pub fn new(entries: Vec<AccessEntry>) -> Self {
        let mut rules = Self { entries, ..Self::default() };
        for (index, entry) in rules.entries.iter().enumerate() {
            match entry.principal.literal() {
                Some(name) => rules.by_name.entry(name.into()).or_default().push(index),
                None => rules.by_pattern.push(index),
            }
        }
        rules
    }

    /// Returns the entries, as they were given.
    pub fn entries(&self) -> &[AccessEntry] {
        &self.entries
    }

    /// Returns what one party may do. Cheap for a principal that was asked for lately.
    ///
    /// Without any entry, `anonymous` has every topic but `$…`; a named principal has what entries give.
    pub fn rights(&self, principal: &Principal, client_id: Option<&ClientId>) -> Arc<Rights> {
        let found = self.known.lock().get(principal).cloned();
        let known = match found {
            Some(known) => known,
            None => self.learn(principal),
        };
        match client_id {
            Some(_) if known.depends_on_client => Arc::new(self.work_out(principal, client_id)),
            _ => known.rights,
        }
    }

    fn learn(&self, principal: &Principal) -> Known {
        let known = Known {
            rights: Arc::new(self.work_out(principal, None)),
            depends_on_client: self.entries_of(principal).any(AccessEntry::depends_on_client),
        };
        let mut all = self.known.lock();
        if all.len() >= KNOWN_MAX {
            all.clear();
        }
        all.insert(principal.clone(), known.clone());
        known
    }

    fn entries_of(&self, principal: &Principal) -> impl Iterator<Item = &AccessEntry> {
        let name = principal.as_str();
        let by_name = self.by_name.get(name).into_iter().flatten();
        let named = by_name.map(|&index| &self.entries[index]);
        let matched = self.by_pattern.iter().map(|&index| &self.entries[index]);
        named.chain(matched.filter(move |entry| entry.principal.matches(name)))
    }

    fn work_out(&self, principal: &Principal, client_id: Option<&ClientId>) -> Rights {
        if self.entries.is_empty() && principal.is_anonymous() {
            return Rights::plain();
        }
        let collect = |filters: fn(&AccessEntry) -> &Vec<AccessFilter>| {
            self.entries_of(principal)
                .flat_map(filters)
                .filter_map(|filter| filter.resolve(principal, client_id))
                .collect()
        };
        Rights::of(
            collect(|entry| &entry.publish),
            collect(|entry| &entry.subscribe),
            collect(|entry| &entry.command),
            self.entries_of(principal)
                .filter_map(|entry| entry.manage.filter(|_| !principal.is_anonymous()))
                .max(),
        )
    }
}

impl AccessEntry {
    fn depends_on_client(&self) -> bool {
        let mut all = [&self.publish, &self.subscribe, &self.command].into_iter().flatten();
        all.any(AccessFilter::depends_on_client)
    }
}
