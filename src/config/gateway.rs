//! `[gateway]`: who this is, and where its files are.

use std::path::PathBuf;
use std::sync::Arc;

use tidegate_settings::{Issues, Node, Span, TableReader, read};

use super::context::Context;
use super::time::TimeConfig;

/// Who this gateway is, and where its files are.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// The name under which the clouds know it.
    pub id: GatewayId,
    /// Queue, sessions, retained messages, audit.
    pub data_dir: PathBuf,
    /// How it is known that the wall clock is right.
    pub time: TimeConfig,
}

/// Names a gateway: 1 to 64 letters, digits, `-`, `_` and `.`, so that it is one level of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GatewayId(Arc<str>);

/// A path of mapping files, in which `*` and `?` stand for parts of a file name.
#[derive(Clone, Debug)]
pub(super) struct MappingGlob {
    /// The path as written.
    pub(super) pattern: String,
    /// Where it is written.
    pub(super) at: Span,
}

const ID_BYTES_MAX: usize = 64;

impl GatewayConfig {
    pub(super) fn read(
        mut table: TableReader<'_>,
        context: &Context<'_>,
        mappings: &mut Vec<MappingGlob>,
        issues: &mut Issues,
    ) -> Option<Self> {
        let id = table.required_like("id", "id = \"press-hall-1\"", GatewayId::read, issues);
        let data_dir = table.required_like("data-dir", "data-dir = \"data\"", read::text, issues);
        mappings.extend(table.list("mappings", MappingGlob::read, issues));
        let read =
            |table: TableReader<'_>, issues: &mut Issues| TimeConfig::read(table, context, issues);
        let time = table.table("time", read, issues).unwrap_or_default();
        table.finish(issues);
        Some(Self { id: id?, data_dir: context.path(&data_dir?), time })
    }
}

impl GatewayId {
    /// Checks `text` and takes it as a gateway's name; `None` if it is not one.
    pub fn new(text: &str) -> Option<Self> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let fits = (1..=ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(allowed);
        fits.then(|| Self(text.into()))
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn read(node: &Node, issues: &mut Issues) -> Option<Self> {
        let text = read::string(node, issues)?;
        let id = Self::new(text);
        if id.is_none() {
            let hint = "use 1 to 64 letters, digits, `-`, `_` and `.`: it is one level of topics";
            issues.error(node.span, format!("`{text}` cannot be a gateway's id"), hint);
        }
        id
    }
}

impl std::fmt::Display for GatewayId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl MappingGlob {
    /// Returns those of a configuration, whatever else is wrong in it.
    pub(super) fn all_of(root: &Node, issues: &mut Issues) -> Vec<Self> {
        let gateway = root.as_table().and_then(|root| root.value("gateway")?.as_table());
        let written = gateway.and_then(|gateway| gateway.value("mappings")?.as_array());
        written.unwrap_or_default().iter().filter_map(|node| Self::read(node, issues)).collect()
    }

    pub(super) fn read(node: &Node, issues: &mut Issues) -> Option<Self> {
        let pattern = read::text(node, issues)?;
        if pattern.contains("**") {
            issues.error(
                node.span,
                "`**` is not supported",
                "name each folder, such as \"mappings/*/*.toml\"",
            );
            return None;
        }
        Some(Self { pattern, at: node.span })
    }
}
