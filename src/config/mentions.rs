//! Where a configuration and its mapping files name a principal.

use std::path::Path;

use tidegate_settings::{Issues, Node, NodeValue, Sources, parse};

use super::gateway::MappingGlob;
use super::load::{Base, LoadError, Place, directory_of, load_mappings};
use crate::push::PushedSet;

/// A place that names a principal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mention {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The table and key that name it there, such as `[[principal]] name`.
    pub written: String,
}

/// Returns the places where a configuration and the mapping files it names have the name of a principal, whatever
/// else is wrong in them. Patterns that match the name are not among them.
///
/// # Errors
///
/// As [`load`](super::load()).
pub fn mentions(path: &Path, name: &str) -> Result<Vec<Mention>, LoadError> {
    let base = Base::read(path)?;
    let pushed = base.in_force(path)?;
    let mut sources = Sources::default();
    let mut issues = Issues::default();
    let source = sources.add(path.display().to_string(), base.text(pushed.as_ref()));
    let Some(root) = parse(source, base.format, sources.text(source), &mut issues) else {
        return Ok(Vec::new());
    };
    let globs = MappingGlob::all_of(&root, &mut issues);
    let pushed = pushed.as_ref().and_then(PushedSet::mappings);
    let place = Place { directory: directory_of(path), pushed };
    let mappings = load_mappings(&globs, &place, &mut sources, &mut issues);
    let mut found = Vec::new();
    for tree in std::iter::once(&root).chain(mappings.iter().map(|file| &file.root)) {
        walk(tree, &mut Vec::new(), &mut |keys, node| {
            if node.as_str() == Some(name) && names_principal(keys) {
                let line = sources.position(node.span).line;
                let file = sources.name(node.span.source).to_owned();
                found.push(Mention { file, line, written: written(keys) });
            }
        });
    }
    Ok(found)
}

/// Returns whether the text under these keys is a principal's name.
fn names_principal(keys: &[&str]) -> bool {
    matches!(keys, ["principal", "name"] | ["access", "principal"] | [.., "principals"])
}

fn written(keys: &[&str]) -> String {
    match keys {
        [table, rest @ ..] => format!("[[{table}]] {}", rest.join(".")),
        [] => String::new(),
    }
}

/// Visits every value with the keys that lead to it; the places of arrays do not count.
fn walk<'n>(node: &'n Node, keys: &mut Vec<&'n str>, visit: &mut impl FnMut(&[&str], &Node)) {
    match &node.value {
        NodeValue::Table(table) => {
            for entry in &table.entries {
                keys.push(&entry.key.name);
                walk(&entry.value, keys, visit);
                keys.pop();
            }
        }
        NodeValue::Array(items) => {
            for item in items {
                walk(item, keys, visit);
            }
        }
        _ => visit(keys, node),
    }
}
