//! What surrounds a configuration file.

use std::path::{Path, PathBuf};

/// The process's environment, as far as the configuration may use it.
pub struct Environment<'e> {
    variable: Box<Variable<'e>>,
}

/// Returns the variable of a name.
type Variable<'e> = dyn Fn(&str) -> Option<String> + 'e;

impl<'e> Environment<'e> {
    /// Takes the variables of this process.
    pub fn of_process() -> Self {
        Self::new(|name| std::env::var(name).ok())
    }

    /// Takes what `variable` returns for a name.
    pub fn new(variable: impl Fn(&str) -> Option<String> + 'e) -> Self {
        Self { variable: Box::new(variable) }
    }

    pub(super) fn variable(&self, name: &str) -> Option<String> {
        (self.variable)(name)
    }

    /// Returns the folder in which the service manager has put credentials.
    pub(super) fn credentials_directory(&self) -> Option<PathBuf> {
        self.variable("CREDENTIALS_DIRECTORY").filter(|path| !path.is_empty()).map(PathBuf::from)
    }
}

impl std::fmt::Debug for Environment<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Environment").finish_non_exhaustive()
    }
}

/// What the readers of all tables share.
#[derive(Debug)]
pub(super) struct Context<'c> {
    /// The folder of the file; its paths are relative to it.
    pub(super) directory: &'c Path,
    pub(super) environment: &'c Environment<'c>,
}

impl Context<'_> {
    /// Returns a path of the file as one that this process can open.
    pub(super) fn path(&self, written: &str) -> PathBuf {
        self.directory.join(written)
    }
}
