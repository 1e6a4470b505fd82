//! Reads the file and the mapping files it names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use thiserror::Error;
use tidegate_mapping::MappingSet;
use tidegate_model::AdapterName;
use tidegate_settings::{
    Format, Issue, Issues, Node, NodeValue, SourceId, Sources, TableReader, parse,
};

use super::context::{Context, Environment};
use super::files::{self, FILES_MAX};
use super::gateway::{GatewayConfig, MappingGlob};
use super::mask;
use super::push;
use super::root::{Config, Found};
use crate::push::{FolderError, PushedSet};

/// A configuration with everything that was found in it.
#[derive(Debug)]
pub struct Loaded {
    /// What the files say; `None` if anything in them is wrong.
    pub config: Option<Config>,
    /// The texts, for showing `issues`.
    pub sources: Sources,
    /// Every problem of all files, in the order of the files and of the places in them.
    pub issues: Issues,
    /// The configuration file as a tree, as far as it could be read.
    pub root: Option<Node>,
    /// The mapping files as trees, sorted by path.
    pub mapping_files: Vec<MappingFile>,
    /// Pushed mapping files that no entry of `mappings` names.
    pub unnamed: Vec<String>,
    /// What the mapping files say; `None` if anything in them is wrong.
    pub mapping: Option<MappingSet>,
}

/// A mapping file as a tree.
#[derive(Debug)]
pub struct MappingFile {
    /// Where it is; of one that was pushed, where it would be in the folder of the configuration.
    pub path: PathBuf,
    /// Its text.
    pub source: SourceId,
    /// Its content.
    pub root: Node,
}

/// Why a configuration file could not be read at all.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The name does not tell the language.
    #[error("{}: a configuration file ends in `.toml`, `.yaml` or `.yml`", .path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read as text.
    #[error("{}: the file {reason}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong, to follow "the file".
        reason: String,
    },
    /// What was pushed cannot be read.
    #[error(transparent)]
    Pushed(#[from] FolderError),
}

/// Reads a configuration file and the mapping files it names, with the environment of this process.
///
/// # Errors
///
/// Only if the configuration file itself cannot be read; every problem in it, and in the mapping files, is in
/// [`Loaded::issues`].
pub fn load(path: &Path) -> Result<Loaded, LoadError> {
    load_generation(path, 0)
}

/// Does the same as [`load`] for the time `generation` that the mapping files are read.
///
/// # Errors
///
/// As [`load`].
pub fn load_generation(path: &Path, generation: u64) -> Result<Loaded, LoadError> {
    load_with(path, generation, &Environment::of_process())
}

/// Does the same as [`load_generation`], in a given environment.
///
/// # Errors
///
/// As [`load`].
pub fn load_with(
    path: &Path,
    generation: u64,
    environment: &Environment<'_>,
) -> Result<Loaded, LoadError> {
    load_from(path, generation, environment, Mappings::InForce)
}

/// Does the same as [`load`] as if `set` were in force: nothing of it is written anywhere.
///
/// # Errors
///
/// As [`load`].
pub fn load_set(path: &Path, set: &PushedSet) -> Result<Loaded, LoadError> {
    load_from(path, 0, &Environment::of_process(), Mappings::Of(set))
}

/// Whose mapping files are read.
enum Mappings<'s> {
    /// Those of the set that was pushed last, if any was; else those of the configuration's folder.
    InForce,
    /// Those of a set that is looked at.
    Of(&'s PushedSet),
}

fn load_from(
    path: &Path,
    generation: u64,
    environment: &Environment<'_>,
    mappings: Mappings<'_>,
) -> Result<Loaded, LoadError> {
    let base = Base::read(path)?;
    let in_force = match mappings {
        Mappings::InForce => base.in_force(path)?,
        Mappings::Of(set) => Some(set.clone()),
    };
    let directory = directory_of(path);
    let context = Context { directory, environment };
    let mut sources = Sources::default();
    let mut issues = Issues::default();
    let pushed = in_force.as_ref().and_then(PushedSet::configuration);
    let source = match pushed {
        Some(text) => sources.add(base.name(path), text),
        None => sources.add(path.display().to_string(), base.text.as_str()),
    };
    let root = parse(source, base.format, sources.text(source), &mut issues);
    let mut found = Found::default();
    let config = root.as_ref();
    let mut config = config.and_then(|root| Config::read(root, &context, &mut found, &mut issues));
    if let (Some(_), Some(first), Some(root)) = (pushed, &base.root, &root) {
        push::hold_fast(first, root, config.as_mut(), &mut issues);
    }
    let place = Place { directory, pushed: in_force.as_ref().and_then(PushedSet::mappings) };
    let mapping_files = load_mappings(&found.mappings, &place, &mut sources, &mut issues);
    let unnamed = place.unnamed(&found.mappings);
    if found.more_servers || issues.has_damage(source) {
        // One mistake, one message: the servers that mappings name may stand in the wrong part.
        found.opcua_servers.extend(mapping_files.iter().flat_map(mentioned_servers));
    }
    let mapping = compile(&mapping_files, found, generation, &mut issues);
    let mut issues = mask::mask_issues(issues, &sources);
    issues.sort();
    let config = config.filter(|_| !issues.has_errors());
    Ok(Loaded { config, sources, issues, root, mapping_files, unnamed, mapping })
}

/// The configuration file that a command names, in place of which another one may have been pushed.
pub(super) struct Base {
    pub(super) format: Format,
    text: String,
    root: Option<Node>,
}

impl Base {
    pub(super) fn read(path: &Path) -> Result<Self, LoadError> {
        let (format, text) = read_config(path)?;
        let source = Sources::default().add(String::new(), "");
        let root = parse(source, format, &text, &mut Issues::default());
        Ok(Self { format, text, root })
    }

    /// Returns the set that was pushed last, if anybody may push and one is in force.
    pub(super) fn in_force(&self, path: &Path) -> Result<Option<PushedSet>, FolderError> {
        match self.root.as_ref().and_then(|root| push::folder_of(root, path)) {
            Some(folder) => crate::push::Folder::new(folder).in_force(),
            None => Ok(None),
        }
    }

    /// Returns the name under which a file in its place is shown.
    pub(super) fn name(&self, path: &Path) -> String {
        path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
    }

    /// Returns the text in force.
    pub(super) fn text<'t>(&'t self, in_force: Option<&'t PushedSet>) -> &'t str {
        in_force.and_then(PushedSet::configuration).unwrap_or(&self.text)
    }
}

/// Where mapping files are.
pub(super) struct Place<'p> {
    /// The folder of the configuration.
    pub(super) directory: &'p Path,
    /// What was pushed in place of the files there, by name.
    pub(super) pushed: Option<&'p BTreeMap<String, String>>,
}

impl Place<'_> {
    /// Returns the pushed files that nothing names.
    fn unnamed(&self, globs: &[MappingGlob]) -> Vec<String> {
        let pushed = self.pushed.into_iter().flat_map(BTreeMap::keys);
        let is_named = |name: &str| globs.iter().any(|glob| files::matches(&glob.pattern, name));
        pushed.filter(|name| !is_named(name)).cloned().collect()
    }
}

/// Returns the data directory that a configuration file names, whatever else is wrong in it; `None` if that cannot be
/// told.
///
/// # Errors
///
/// As [`load`].
pub fn data_dir(path: &Path) -> Result<Option<PathBuf>, LoadError> {
    let (format, text) = read_config(path)?;
    let environment = Environment::of_process();
    let context = Context { directory: directory_of(path), environment: &environment };
    let mut sources = Sources::default();
    let source = sources.add(path.display().to_string(), text);
    let mut issues = Issues::default();
    let root = parse(source, format, sources.text(source), &mut issues);
    let gateway = root.as_ref().and_then(|root| root.as_table()?.value("gateway"));
    let table = gateway.and_then(|node| TableReader::new(node, "gateway", &mut issues));
    let gateway =
        table.and_then(|table| GatewayConfig::read(table, &context, &mut Vec::new(), &mut issues));
    Ok(gateway.map(|gateway| gateway.data_dir))
}

/// Returns the folder of what was pushed, if a configuration file lets anybody push, whatever else is wrong in it.
///
/// # Errors
///
/// As [`load`].
pub fn push_folder(path: &Path) -> Result<Option<PathBuf>, LoadError> {
    Ok(Base::read(path)?.root.and_then(|root| push::folder_of(&root, path)))
}

/// Returns the files whose change is looked for, sorted: the configuration file, the mapping files it names, and the
/// certificates, keys and password hashes. Of a file that cannot be read, itself alone.
///
/// Cheap enough to be called every few seconds.
pub fn watched_paths(path: &Path) -> Vec<PathBuf> {
    let mut paths = BTreeSet::from([path.to_owned()]);
    let Ok(base) = Base::read(path) else { return paths.into_iter().collect() };
    let in_force = base.in_force(path).ok().flatten();
    let mut sources = Sources::default();
    let source = sources.add(path.display().to_string(), base.text(in_force.as_ref()));
    let mut issues = Issues::default();
    let root = parse(source, base.format, sources.text(source), &mut issues);
    let Some(root) = root else { return paths.into_iter().collect() };
    let directory = directory_of(path);
    let globs = MappingGlob::all_of(&root, &mut issues).into_iter();
    paths
        .extend(globs.flat_map(|glob| files::expand(directory, &glob.pattern).unwrap_or_default()));
    collect_named_files(&root, &mut |written| {
        paths.insert(directory.join(written));
    });
    paths.into_iter().collect()
}

/// Finds the files of certificates and secrets that a tree names.
fn collect_named_files(node: &Node, found: &mut impl FnMut(&str)) {
    match &node.value {
        NodeValue::Array(items) => {
            for item in items {
                collect_named_files(item, found);
            }
        }
        NodeValue::Table(table) => {
            for entry in &table.entries {
                match (entry.key.name.as_str(), entry.value.as_str()) {
                    ("cert" | "ca" | "client-ca" | "crl" | "file" | "keys", Some(written)) => {
                        found(written)
                    }
                    _ => collect_named_files(&entry.value, found),
                }
            }
        }
        _ => {}
    }
}

fn read_config(path: &Path) -> Result<(Format, String), LoadError> {
    let Some(format) = path.to_str().and_then(Format::from_name) else {
        return Err(LoadError::UnknownFormat { path: path.to_owned() });
    };
    let unreadable = |error: files::TextError| LoadError::Unreadable {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    Ok((format, files::read_text(path).map_err(unreadable)?))
}

/// Returns the folder to which the paths of a file are relative.
pub(super) fn directory_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

/// Hands the mapping files to the mapping language.
fn compile(
    files: &[MappingFile],
    found: Found,
    generation: u64,
    issues: &mut Issues,
) -> Option<MappingSet> {
    let opcua_servers = found.opcua_servers;
    let environment = tidegate_mapping::Environment { opcua_servers, generation };
    let roots: Vec<Node> = files.iter().map(|file| file.root.clone()).collect();
    MappingSet::compile(&roots, &environment, issues)
}

/// Returns the servers that a mapping file mentions.
fn mentioned_servers(file: &MappingFile) -> impl Iterator<Item = AdapterName> {
    let entries = file.root.as_table().and_then(|root| root.value("opcua")?.as_array());
    entries
        .unwrap_or_default()
        .iter()
        .filter_map(|entry| AdapterName::new(entry.as_table()?.value("server")?.as_str()?).ok())
}

pub(super) fn load_mappings(
    globs: &[MappingGlob],
    place: &Place<'_>,
    sources: &mut Sources,
    issues: &mut Issues,
) -> Vec<MappingFile> {
    let mut seen = BTreeSet::new();
    let mut loaded = Vec::new();
    for glob in globs {
        for path in expand(glob, place, issues) {
            if seen.insert(path.clone()) {
                let pushed = place.pushed.filter(|_| files::is_pushable(&glob.pattern));
                let pushed = pushed.and_then(|pushed| pushed.get(path.to_str()?));
                loaded.extend(load_mapping(path, pushed, glob, sources, issues));
            }
        }
    }
    loaded.sort_by(|left, right| left.path.cmp(&right.path));
    loaded
}

/// Finds the files that an entry of `mappings` means.
fn expand(glob: &MappingGlob, place: &Place<'_>, issues: &mut Issues) -> Vec<PathBuf> {
    let (pattern, directory) = (&glob.pattern, place.directory);
    let found = match place.pushed.filter(|_| files::is_pushable(pattern)) {
        Some(pushed) => {
            let names = pushed.keys().filter(|name| files::matches(pattern, name));
            Ok(names.map(PathBuf::from).collect())
        }
        None => files::expand(directory, pattern),
    };
    match found {
        Ok(paths) if paths.is_empty() && files::is_glob(pattern) => {
            let issue = Issue::hint(glob.at, format!("no file matches `{pattern}`"));
            issues.push(issue.with_hint("remove it, or put a mapping file there"));
            Vec::new()
        }
        Ok(paths) if paths.is_empty() => {
            let place = directory.join(pattern);
            let message = format!("there is no file `{}`", place.display());
            issues.error(glob.at, message, "paths are relative to the file that names them");
            Vec::new()
        }
        Ok(paths) if paths.len() > FILES_MAX => {
            let message = format!("`{pattern}` matches more than {FILES_MAX} files");
            issues.error(glob.at, message, "name fewer files");
            Vec::new()
        }
        Ok(paths) => paths,
        Err(error) => {
            let message = format!("the files of `{pattern}` cannot be listed: {error}");
            issues.error(glob.at, message, "let the user the gateway runs as read the folder");
            Vec::new()
        }
    }
}

fn load_mapping(
    path: PathBuf,
    pushed: Option<&String>,
    glob: &MappingGlob,
    sources: &mut Sources,
    issues: &mut Issues,
) -> Option<MappingFile> {
    let shown = path.display();
    let Some(format) = path.to_str().and_then(Format::from_name) else {
        let message = format!("`{shown}` is neither TOML nor YAML");
        issues.error(glob.at, message, "mapping files end in `.toml`, `.yaml` or `.yml`");
        return None;
    };
    match pushed.map_or_else(|| files::read_text(&path), |text| Ok(text.clone())) {
        Ok(text) => {
            let source = sources.add(shown.to_string(), text);
            let root = parse(source, format, sources.text(source), issues)?;
            Some(MappingFile { path, source, root })
        }
        Err(error) => {
            let message = format!("`{shown}` {error}");
            issues.error(
                glob.at,
                message,
                "mapping files are text in UTF-8 that the gateway may read",
            );
            None
        }
    }
}
