//! The names in a folder, as programs see them and as a power cut would leave them.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
};

use crate::draw::Draw;

/// One folder's names, each with the number of what it names.
#[derive(Debug, Default)]
pub(crate) struct Folder {
    names: BTreeMap<OsString, u64>,
    synced: BTreeMap<OsString, u64>,
    /// What has changed since the last sync, in order; each happens wholly or not at all.
    changes: Vec<Change>,
}

#[derive(Debug)]
struct Change {
    removed: Option<OsString>,
    added: Option<(OsString, u64)>,
}

impl Folder {
    pub(crate) fn names(&self) -> &BTreeMap<OsString, u64> {
        &self.names
    }

    pub(crate) fn add(&mut self, name: &OsStr, number: u64) {
        self.change(Change { removed: None, added: Some((name.to_owned(), number)) });
    }

    pub(crate) fn remove(&mut self, name: &OsStr) {
        self.change(Change { removed: Some(name.to_owned()), added: None });
    }

    /// Gives what is named `from` the name `to`, in place of what had it.
    pub(crate) fn rename(&mut self, from: &OsStr, to: &OsStr, number: u64) {
        let added = Some((to.to_owned(), number));
        self.change(Change { removed: Some(from.to_owned()), added });
    }

    pub(crate) fn sync(&mut self) {
        self.synced.clone_from(&self.names);
        self.changes.clear();
    }

    /// Keeps what was synced, and of the changes since then those up to some moment.
    pub(crate) fn cut(&mut self, draw: &mut Draw) {
        let kept = draw.below(self.changes.len() + 1);
        for change in self.changes.drain(..).take(kept) {
            change.apply(&mut self.synced);
        }
        self.names.clone_from(&self.synced);
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.names);
        self.changes.push(change);
    }
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<OsString, u64>) {
        if let Some(name) = &self.removed {
            names.remove(name);
        }
        if let Some((name, number)) = &self.added {
            names.insert(name.clone(), *number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_and_go_in_order() {
        let mut outcomes = std::collections::BTreeSet::new();
        for seed in 0..100 {
            let mut folder = Folder::default();
            folder.add(OsStr::new("a"), 1);
            folder.sync();
            folder.add(OsStr::new("b.new"), 2);
            folder.rename(OsStr::new("b.new"), OsStr::new("a"), 2);
            folder.remove(OsStr::new("a"));
            folder.cut(&mut Draw::new(seed));
            outcomes.insert(folder.names().values().copied().collect::<Vec<_>>());
        }
        assert_eq!(outcomes, [vec![1], vec![1, 2], vec![2], vec![]].into());
    }
}
