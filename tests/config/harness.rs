//! Loads a configuration from a folder of its own and writes what was found, a line each.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

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
        load_with(&self.file(file), 0, &environment).unwrap()
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

/// Files, of which the first is loaded, and what must be found in them.
pub(crate) struct Case {
    files: Vec<(String, String)>,
    expected: Vec<String>,
}

impl Case {
    /// Reads the cases of a file of the folder `wrong`.
    pub(crate) fn all_of(text: &str) -> Vec<Self> {
        text.split("====\n").filter(|case| !case.is_empty()).map(Self::read).collect()
    }

    /// Makes the case of a configuration in TOML next to the example's mapping file.
    pub(crate) fn of_toml(text: &str, expected: impl IntoIterator<Item = String>) -> Self {
        let mapping = ("mappings/press-hall.toml".to_owned(), PRESS_HALL_MAPPING.to_owned());
        let files = vec![("tidegate.toml".to_owned(), text.to_owned()), mapping];
        Self { files, expected: expected.into_iter().collect() }
    }

    fn read(text: &str) -> Self {
        let mut sections: Vec<(String, String)> = text
            .strip_prefix("---- ")
            .unwrap()
            .split("\n---- ")
            .map(|section| {
                let (name, text) = section.split_once('\n').unwrap_or((section, ""));
                (
                    name.to_owned(),
                    if text.is_empty() {
                        String::new()
                    } else {
                        format!("{}\n", text.trim_end_matches('\n'))
                    },
                )
            })
            .collect();
        let (name, found) = sections.pop().unwrap();
        assert_eq!(name, "found", "the last section says what is found: {text}");
        Self { files: sections, expected: found.lines().map(str::to_owned).collect() }
    }

    fn found(&self) -> Vec<String> {
        let files: Vec<(&str, &str)> =
            self.files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        let folder = Folder::with(&files);
        let loaded = folder.load(files[0].0);
        assert_eq!(loaded.config.is_none(), loaded.issues.has_errors(), "{}", files[0].1);
        let lines = folder.lines(&loaded).into_iter();
        lines
            .map(|line| line.strip_prefix("tidegate.toml:").map(str::to_owned).unwrap_or(line))
            .collect()
    }
}

/// Compares what is found with what must be, for all cases at once.
pub(crate) fn check(cases: &[Case]) {
    assert!(!cases.is_empty());
    let mut wrong = Vec::new();
    for case in cases {
        let found = case.found();
        if found != case.expected {
            let files: String =
                case.files.iter().map(|(name, text)| format!("---- {name}\n{text}")).collect();
            let (found, expected) = (found.join("\n"), case.expected.join("\n"));
            wrong.push(format!("====\n{files}---- found\n{found}\n(expected)\n{expected}\n"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} cases are wrong:\n{}",
        wrong.len(),
        cases.len(),
        wrong.concat()
    );
}
