//! What keeps a sender from giving itself more rights by what it pushes.
//!
//! An entry of a mapping file with `writable` or `method` lets be commanded what could not be, so that a set from a cloud
//! must not bring one that is not in force already, letter by letter. Of the configuration file, a set from a cloud may
//! change a few keys of uplinks: nothing that names accounts, rights, secrets, files, peers or listeners.

use tidegate_settings::{Entry, Node, NodeValue, Table};

use crate::config::Loaded;

/// Keys that let a point be commanded.
const COMMANDS: [&str; 2] = ["writable", "method"];

/// Keys of an uplink that a cloud may change: how and how much is sent to where it goes already.
const UPLINK_KEYS: [&str; 17] = [
    "topics",
    "rule",
    "batch",
    "compress",
    "compress-level",
    "time-unit",
    "when-full",
    "max-bytes",
    "max-age",
    "replay",
    "priority",
    "keep-alive",
    "ack-timeout",
    "max-in-flight",
    "max-messages-per-second",
    "max-bytes-per-second",
    "topic",
];

/// Says what a new configuration changes that no push may change.
pub(super) fn fixed(current: &Node, new: &Node) -> Vec<String> {
    let push = |root: &Node| root.as_table().and_then(|root| root.value("push").cloned());
    let message = "`[push]` cannot be changed by a push".to_owned();
    (push(current) != push(new)).then_some(message).into_iter().collect()
}

/// Says which tables of a new configuration differ in what a cloud must not change.
pub(super) fn new_rights(current: &Node, new: &Node) -> Vec<String> {
    let (Some(current), Some(new)) = (current.as_table(), new.as_table()) else {
        return Vec::new();
    };
    let names = current.entries.iter().chain(&new.entries).map(|entry| entry.key.name.as_str());
    let names: std::collections::BTreeSet<&str> = names.collect();
    names
        .into_iter()
        .filter(|name| match (current.value(name), new.value(name)) {
            (Some(before), Some(after)) if *name == "uplink" => !are_alike(before, after),
            (before, after) => before != after,
        })
        .map(|name| format!("`{name}`: a set from an uplink may not change this there"))
        .collect()
}

/// Returns whether two lists of uplinks differ in nothing but what may differ.
fn are_alike(before: &Node, after: &Node) -> bool {
    let (before, after) = (before.as_array(), after.as_array());
    let held = |table: &Table| {
        let is_held = |entry: &&Entry| !UPLINK_KEYS.contains(&entry.key.name.as_str());
        table.entries.iter().filter(is_held).count()
    };
    let is_like = |before: &Node, after: &Node| match (before.as_table(), after.as_table()) {
        (Some(before), Some(after)) => {
            held(before) == held(after)
                && before.entries.iter().all(|entry| {
                    let name = entry.key.name.as_str();
                    UPLINK_KEYS.contains(&name) || after.value(name) == Some(&entry.value)
                })
        }
        _ => before == after,
    };
    match (before, after) {
        (Some(before), Some(after)) => {
            before.len() == after.len()
                && before.iter().zip(after).all(|(before, after)| is_like(before, after))
        }
        _ => false,
    }
}

/// Returns every entry of the mapping files of a configuration, with its protocol.
pub(super) fn entries(loaded: &Loaded) -> impl Iterator<Item = (&str, &Node)> {
    let tables = loaded.mapping_files.iter().filter_map(|file| file.root.as_table());
    let keys = tables.flat_map(|table| &table.entries);
    keys.flat_map(|entry| {
        let items = entry.value.as_array().unwrap_or_default();
        items.iter().map(|item| (entry.key.name.as_str(), item))
    })
}

/// Says which entries of a new set let be commanded what the present one does not, each with its place.
pub(super) fn new_commands(current: &Loaded, new: &Loaded) -> Vec<String> {
    let known: Vec<(&str, &Node)> = entries(current).filter(|(_, it)| is_command(it)).collect();
    let unknown = entries(new).filter(|it| is_command(it.1) && !known.contains(it));
    unknown
        .map(|(_, entry)| {
            let line = new.sources.position(entry.span).line;
            let file = new.sources.name(entry.span.source);
            format!(
                "{file}:{line}: lets be commanded what cannot be now, which a set from an uplink may do only with \
                 `[push] writable = true`"
            )
        })
        .collect()
}

fn is_command(entry: &Node) -> bool {
    let Some(entry) = entry.as_table() else { return false };
    COMMANDS
        .iter()
        .filter_map(|key| entry.value(key))
        .any(|value| value.value != NodeValue::Boolean(false))
}
