//! What a set would change, and what is wrong with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde_json::{Value as Json, json};
use tidegate_settings::Node;

use super::{PushedSet, guard};
use crate::config::{self, LoadError, Loaded, Style};

/// Most issues that are told; how many there are is told always.
const ISSUES_MAX: usize = 50;
/// Most bytes of the issues as text for people.
const TEXT_BYTES_MAX: usize = 64 << 10;

/// What a set would change.
#[derive(Clone, Debug)]
pub struct Report {
    /// What is wrong with it that the configuration's own check does not know of.
    objections: Vec<String>,
    errors: usize,
    hints: usize,
    issues: Vec<Json>,
    text: String,
    files: Changes,
    /// What of the gateway changes; `None` if the set has errors.
    touched: Option<Touched>,
    /// Whether the configuration file changes, and what of it.
    configuration: Option<Configuration>,
    digest: String,
}

/// Names of files, by what becomes of them.
#[derive(Clone, Debug, Default)]
struct Changes {
    added: Vec<String>,
    changed: Vec<String>,
    removed: Vec<String>,
}

/// What of the gateway is another with a set.
#[derive(Clone, Debug, Default)]
struct Touched {
    adapters: BTreeSet<String>,
    uplinks: BTreeSet<String>,
    listeners: BTreeSet<String>,
}

/// How the configuration file changes. Complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Configuration {
    /// In what is applied without a restart.
    Lightly,
    /// In something else.
    WithRestart,
}

/// Tables and keys of the configuration that are applied while the gateway runs.
const LIVE: [&str; 3] = ["principal", "jwt", "access"];
const LISTENERS: [&str; 3] = ["mqtt", "coap", "http"];

/// What who sent a set may do with it. Complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// Whatever the files may say.
    Full,
    /// Whatever mapping files may say, and little in the configuration.
    Mappings,
    /// Nothing that lets more be commanded than before.
    NoNewCommands,
}

impl Report {
    /// Compares a set with the one in force. Reads files, writes nothing.
    ///
    /// # Errors
    ///
    /// If the configuration file cannot be read.
    pub(super) fn new(path: &Path, set: &PushedSet, trust: Trust) -> Result<Self, LoadError> {
        let (current, new) = (config::load(path)?, config::load_set(path, set)?);
        let mut objections: Vec<String> = new
            .unnamed
            .iter()
            .map(|name| format!("{name}: no entry of `[gateway] mappings` names such a file"))
            .collect();
        let changes = configuration(&current, &new);
        if let (Some(_), Some(before), Some(after)) = (changes, &current.root, &new.root) {
            objections.extend(guard::fixed(before, after));
            if trust != Trust::Full {
                objections.extend(guard::new_rights(before, after));
            }
        }
        if trust == Trust::NoNewCommands {
            objections.extend(guard::new_commands(&current, &new));
        }
        let whole: Json = serde_json::from_str(&config::render_json(&new.issues, &new.sources))
            .unwrap_or_default();
        let mut issues = whole["issues"].as_array().cloned().unwrap_or_default();
        issues.truncate(ISSUES_MAX);
        let mut text = config::render(&new.issues, &new.sources, Style::Plain);
        text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
        let errors = new.issues.error_count();
        let is_sound = errors == 0 && objections.is_empty();
        Ok(Self {
            errors,
            hints: new.issues.len() - errors,
            issues,
            text,
            files: Changes::between(&texts(&current, path), &texts(&new, path)),
            touched: is_sound.then(|| Touched::between(&current, &new)),
            configuration: changes,
            digest: set.digest(),
            objections,
        })
    }

    /// Returns whether the set can be taken into use.
    pub fn is_sound(&self) -> bool {
        self.errors == 0 && self.objections.is_empty()
    }

    /// Returns whether nothing would change.
    pub(super) fn is_empty(&self) -> bool {
        let Changes { added, changed, removed } = &self.files;
        let no_files = added.is_empty() && changed.is_empty() && removed.is_empty();
        no_files && self.configuration.is_none()
    }

    /// Returns whether it takes a restart to take the set into use.
    pub(super) fn needs_restart(&self) -> bool {
        self.configuration == Some(Configuration::WithRestart)
    }

    /// Returns whether the configuration file is another.
    pub(super) fn changes_configuration(&self) -> bool {
        self.configuration.is_some()
    }

    /// Returns why the set cannot be taken into use, in one line.
    pub(super) fn refusal(&self) -> String {
        match (self.objections.first(), self.issues.first()) {
            (Some(objection), _) => objection.clone(),
            (None, Some(issue)) => {
                let word = |key: &str| issue[key].as_str().unwrap_or_default().to_owned();
                let more = self.errors.saturating_sub(1);
                let more = if more == 0 { String::new() } else { format!("; and {more} more") };
                format!("{}:{}: {}{more}", word("file"), issue["line"], word("message"))
            }
            (None, None) => "the set has errors".into(),
        }
    }

    /// Returns everything as JSON. Lines of files are shown as `tidegate check` shows them, without secrets.
    pub fn to_json(&self) -> Json {
        json!({
            "sound": self.is_sound(),
            "objections": self.objections,
            "errors": self.errors,
            "hints": self.hints,
            "issues": self.issues,
            "files": {
                "added": self.files.added,
                "changed": self.files.changed,
                "removed": self.files.removed,
            },
            "configuration": self.changes_configuration(),
            "adapters": self.touched.as_ref().map(|touched| &touched.adapters),
            "uplinks": self.touched.as_ref().map(|touched| &touched.uplinks),
            "listeners": self.touched.as_ref().map(|touched| &touched.listeners),
            "restart": self.needs_restart(),
            "digest": self.digest,
        })
    }

    /// Returns the issues as text for people.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl Changes {
    fn between(old: &BTreeMap<String, &str>, new: &BTreeMap<String, &str>) -> Self {
        let mut changes = Self::default();
        for (name, text) in new {
            match old.get(name) {
                None => changes.added.push(name.clone()),
                Some(before) if before != text => changes.changed.push(name.clone()),
                Some(_) => {}
            }
        }
        let removed = old.keys().filter(|name| !new.contains_key(*name));
        changes.removed.extend(removed.cloned());
        changes
    }
}

/// Returns the texts of all mapping files by name, relative to the folder of the configuration where they are in it.
fn texts<'l>(loaded: &'l Loaded, path: &Path) -> BTreeMap<String, &'l str> {
    let directory = path.parent().unwrap_or(Path::new(""));
    // The first source is the configuration file.
    let sources = loaded.sources.ids().skip(1);
    sources
        .map(|id| {
            let name = Path::new(loaded.sources.name(id));
            let name = name.strip_prefix(directory).unwrap_or(name);
            (name.display().to_string(), loaded.sources.text(id))
        })
        .collect()
}

/// Returns the entries of all mapping files by adapter: `coap`, or `opcua:SERVER`.
fn points(loaded: &Loaded) -> BTreeMap<String, Vec<&Node>> {
    let mut points: BTreeMap<String, Vec<&Node>> = BTreeMap::new();
    for (kind, entry) in guard::entries(loaded) {
        let server = entry.as_table().and_then(|entry| entry.value("server")?.as_str());
        let adapter = server.map_or(kind.to_owned(), |server| format!("{kind}:{server}"));
        points.entry(adapter).or_default().push(entry);
    }
    points
}

impl Touched {
    fn between(old: &Loaded, new: &Loaded) -> Self {
        let mut adapters = differing(&points(old), &points(new));
        let servers = differing(&tables(old, "opcua"), &tables(new, "opcua"));
        adapters.extend(servers.into_iter().map(|name| format!("opcua:{name}")));
        let of = |loaded: &'_ Loaded| -> BTreeMap<String, Node> {
            let table = loaded.root.as_ref().and_then(Node::as_table);
            let listener = |key: &&str| Some(((*key).to_owned(), table?.value(key)?.clone()));
            LISTENERS.iter().filter_map(listener).collect()
        };
        Self {
            adapters,
            uplinks: differing(&tables(old, "uplink"), &tables(new, "uplink")),
            listeners: differing(&of(old), &of(new)),
        }
    }
}

fn differing<T: PartialEq>(
    old: &BTreeMap<String, T>,
    new: &BTreeMap<String, T>,
) -> BTreeSet<String> {
    let names = old.keys().chain(new.keys());
    names.filter(|name| old.get(*name) != new.get(*name)).cloned().collect()
}

/// Returns the tables of an array in the configuration file by their names.
fn tables<'l>(loaded: &'l Loaded, key: &str) -> BTreeMap<String, &'l Node> {
    let root = loaded.root.as_ref().and_then(Node::as_table);
    let items = root.and_then(|root| root.value(key)?.as_array()).unwrap_or_default();
    let name = |item: &Node| item.as_table()?.value("name")?.as_str().map(str::to_owned);
    items.iter().filter_map(|item| Some((name(item)?, item))).collect()
}

/// Returns how the configuration file of a set differs from the one in force, if it does.
fn configuration(old: &Loaded, new: &Loaded) -> Option<Configuration> {
    let text =
        |loaded: &Loaded| loaded.sources.ids().next().map(|id| loaded.sources.text(id).to_owned());
    if text(old) == text(new) {
        return None;
    }
    let rest = |loaded: &Loaded| -> Option<Vec<(String, Node)>> {
        let table = loaded.root.as_ref()?.as_table()?;
        let kept = table.entries.iter().filter(|entry| !LIVE.contains(&entry.key.name.as_str()));
        let mut kept: Vec<_> =
            kept.map(|entry| (entry.key.name.clone(), entry.value.clone())).collect();
        kept.sort_by(|one, other| one.0.cmp(&other.0));
        Some(kept)
    };
    let is_light = rest(old).is_some() && rest(old) == rest(new);
    Some(if is_light { Configuration::Lightly } else { Configuration::WithRestart })
}
