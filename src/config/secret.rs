//! Secrets: from the service manager, a file or the environment, never from a value in the file.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use tidegate_settings::{Issue, Issues, Node, NodeValue, TableReader, read as value};

use super::context::Context;

/// A secret that was read. It is shown only to who asks for it by [`expose`](Self::expose).
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

/// Longer ones are no passwords, keys or hashes.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

const WAYS: &str = "write `{ credential = \"…\" }` for one of the service manager, `{ file = \"…\" }` for a \
                    file of mode 0600, or `{ env = \"…\" }` for a variable";

impl Secret {
    /// Takes a text that must not be shown.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// Returns the text, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

/// Reads where a secret is, and the secret.
pub(super) fn read(node: &Node, context: &Context<'_>, issues: &mut Issues) -> Option<Secret> {
    let NodeValue::Table(_) = node.value else {
        let issue = match node.value {
            NodeValue::Null => Issue::error(node.span, "a secret is missing"),
            _ => Issue::error(node.span, "a secret must not stand in the file"),
        };
        issues.push(issue.with_hint(WAYS));
        return None;
    };
    let mut table = TableReader::new(node, "", issues)?;
    let sources = [table.has("credential"), table.has("file"), table.has("env")];
    let credential = table.optional("credential", located_text, issues);
    let file = table.optional("file", located_text, issues);
    let variable = table.optional("env", located_text, issues);
    table.finish(issues);
    if sources.iter().filter(|given| **given).count() != 1 {
        issues.error(node.span, "a secret comes from one place", WAYS);
        return None;
    }
    let (node, found) = if let Some((node, name)) = credential {
        (node, from_credential(name, context))
    } else if let Some((node, path)) = file {
        (node, from_file(&context.path(path), Guard::OwnerOnly))
    } else {
        let (node, name) = variable?;
        (node, from_variable(name, context))
    };
    match found {
        Ok(secret) => Some(secret),
        Err(fault) => {
            issues.error(node.span, fault.message, fault.hint);
            None
        }
    }
}

/// Returns where a secret comes from, for people: a file that can be opened, a credential, a variable.
pub(super) fn origin(node: &Node, context: &Context<'_>) -> Option<String> {
    let table = node.as_table()?;
    let of = |key| table.value(key).and_then(Node::as_str);
    of("file")
        .map(|path| context.path(path).display().to_string())
        .or_else(|| of("credential").map(|name| format!("credential {name}")))
        .or_else(|| of("env").map(|name| format!("variable {name}")))
}

/// Why a secret could not be read.
struct Fault {
    message: String,
    hint: String,
}

/// Whether other users may be able to read a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Guard {
    /// They must not.
    OwnerOnly,
    /// The service manager sees to it.
    ByManager,
}

fn located_text<'a>(node: &'a Node, issues: &mut Issues) -> Option<(&'a Node, &'a str)> {
    value::text(node, issues)?;
    Some((node, node.as_str()?))
}

fn from_credential(name: &str, context: &Context<'_>) -> Result<Secret, Fault> {
    if name.contains('/') || name.starts_with('.') {
        return Err(Fault {
            message: format!("`{name}` is not the name of a credential"),
            hint: "write the name given in `LoadCredential=`, without a path".to_owned(),
        });
    }
    let Some(directory) = context.environment.credentials_directory() else {
        return Err(Fault {
            message: format!("there is no credential `{name}`: the service manager passed none"),
            hint: format!(
                "add `LoadCredential={name}:/path` to the unit, or set CREDENTIALS_DIRECTORY to a folder \
                 with a file `{name}`"
            ),
        });
    };
    from_file(&directory.join(name), Guard::ByManager)
}

fn from_variable(name: &str, context: &Context<'_>) -> Result<Secret, Fault> {
    match context.environment.variable(name) {
        Some(text) if !text.is_empty() => Ok(Secret::new(text)),
        _ => Err(Fault {
            message: format!("the variable `{name}` is not set"),
            hint: format!("set `{name}` in the environment of the gateway"),
        }),
    }
}

fn from_file(path: &Path, guard: Guard) -> Result<Secret, Fault> {
    let shown = path.display();
    let unreadable = |error: io::Error| Fault {
        message: format!("the secret in `{shown}` cannot be read: {error}"),
        hint: "create the file with mode 0600, owned by the user the gateway runs as".to_owned(),
    };
    // A symbolic link could be planted to read another file.
    let named = fs::symlink_metadata(path).map_err(unreadable)?;
    let mut file = File::open(path).map_err(unreadable)?;
    let opened = file.metadata().map_err(unreadable)?;
    if guard == Guard::OwnerOnly {
        if (named.dev(), named.ino()) != (opened.dev(), opened.ino()) {
            return Err(Fault {
                message: format!("`{shown}` is a symbolic link"),
                hint: "name the file itself".to_owned(),
            });
        }
        let mode = opened.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(Fault {
                message: format!("other users can read `{shown}`: its mode is {mode:04o}"),
                hint: format!("run `chmod 600 {shown}`"),
            });
        }
    }
    if !opened.is_file() {
        return Err(Fault {
            message: format!("`{shown}` is not a file"),
            hint: "name a file that holds nothing but the secret".to_owned(),
        });
    }
    let mut bytes = Vec::new();
    file.by_ref().take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    let text = String::from_utf8(bytes).ok().filter(|text| text.len() as u64 <= SECRET_BYTES_MAX);
    // Editors end the last line.
    let text = text.as_deref().map(|text| text.trim_end_matches(['\r', '\n']));
    match text.filter(|text| !text.is_empty()) {
        Some(text) => Ok(Secret::new(text)),
        None => Err(Fault {
            message: format!("`{shown}` does not hold a secret"),
            hint: "it must be text, not empty and at most 64 KiB".to_owned(),
        }),
    }
}
