//! Loads a configuration from a folder of its own and writes what was found, a line each.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tidegate::config::{Environment, Loaded, load_with};
use tidegate_settings::{Issue, Severity};

/// The example, as it is shipped.
pub(crate) const PRESS_HALL: &str = include_str!("../../examples/press-hall/tidegate.toml");
/// Its mapping file.
pub(crate) const PRESS_HALL_MAPPING: &str =
    include_str!("../../examples/press-hall/mappings/press-hall.toml");
/// The same in YAML.
pub(crate) const PRESS_HALL_MAPPING_YAML: &str =
    include_str!("../../examples/press-hall/mappings/press-hall.yaml.example");

/// A folder with the files of one case.
pub(crate) struct Folder {
    folder: TempDir,
}

impl Folder {
    /// Writes `files`, path and text each, with mode 0600.
    pub(crate) fn with(files: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        Self { folder }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn file(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// Loads `file` with the variables `PLANTED=hunter2` and a folder of credentials, `credentials`.
    pub(crate) fn load(&self, file: &str) -> Loaded {
        let credentials = self.file("credentials").display().to_string();
        let environment = Environment::new(move |name| match name {
            "PLANTED" => Some("hunter2".to_owned()),
            "CREDENTIALS_DIRECTORY" => Some(credentials.clone()),
            _ => None,
        });
        load_with(&self.file(file), &environment).unwrap()
    }

    /// Writes what was found as `file:line:column "marked text" severity: message | hint`, without the path of
    /// the folder.
    pub(crate) fn lines(&self, loaded: &Loaded) -> Vec<String> {
        loaded.issues.iter().map(|issue| self.line(loaded, issue)).collect()
    }

    fn line(&self, loaded: &Loaded, issue: &Issue) -> String {
        let sources = &loaded.sources;
        let position = sources.position(issue.at);
        let severity = match issue.severity {
            Severity::Error => "",
            Severity::Hint => "hint: ",
        };
        let line = format!(
            "{}:{}:{} `{}` {severity}{} | {}",
            sources.name(issue.at.source),
            position.line,
            position.column,
            sources.slice(issue.at),
            issue.message,
            issue.hint.as_deref().unwrap_or("NO HINT"),
        );
        line.replace(&format!("{}/", self.folder.path().display()), "")
    }
}

/// Loads one file and returns what was found.
pub(crate) fn issues_of(name: &str, text: &str) -> Vec<String> {
    let folder = Folder::with(&[(name, text), ("mappings/press-hall.toml", PRESS_HALL_MAPPING)]);
    let loaded = folder.load(name);
    assert_eq!(loaded.config.is_none(), loaded.issues.has_errors(), "{text}");
    folder.lines(&loaded)
}

/// Compares what was found with what was expected, for all cases at once.
pub(crate) fn compare(cases: impl IntoIterator<Item = (String, Vec<String>, Vec<String>)>) {
    let mut wrong = Vec::new();
    for (case, found, expected) in cases {
        if found != expected {
            let (found, expected) = (found.join("\n  "), expected.join("\n  "));
            wrong.push(format!("=== {case}\nfound\n  {found}\nexpected\n  {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{} cases are wrong:\n{}", wrong.len(), wrong.join("\n"));
}
