//! `[[access]]`: who may do what. Nothing is allowed that no entry names, once there is one.

use tidegate_broker::access::{AccessEntry, AccessFilter, AccessFilterError, Management};
use tidegate_model::Glob;
use tidegate_settings::{Issues, Node, TableReader, read as value};

use super::uplink::FILTER_HINT;

/// Reads one entry.
pub(super) fn read(mut table: TableReader<'_>, issues: &mut Issues) -> Option<AccessEntry> {
    let principal = table.required_like("principal", "principal = \"press-*\"", read_glob, issues);
    let publish = table.list("publish", read_filter, issues);
    let subscribe = table.list("subscribe", read_filter, issues);
    let command = table.list("command", read_filter, issues);
    let words = [("read", Management::Read), ("write", Management::Write)];
    let manage = table.optional("manage", value::word(&words), issues);
    table.finish(issues);
    Some(AccessEntry { principal: principal?, publish, subscribe, command, manage })
}

fn read_glob(node: &Node, issues: &mut Issues) -> Option<Glob> {
    value::text(node, issues).map(|text| Glob::new(&text))
}

pub(super) fn read_filter(node: &Node, issues: &mut Issues) -> Option<AccessFilter> {
    let text = value::string(node, issues)?;
    let error = match AccessFilter::parse(text) {
        Ok(filter) => return Some(filter),
        Err(error) => error,
    };
    match error {
        AccessFilterError::Placeholder { .. } => issues.error(
            node.span,
            format!("`{text}` has a placeholder that is not known here"),
            "known are `{principal}` and `{client-id}`; for any level write `+`",
        ),
        error => {
            issues.error(
                node.span,
                format!("`{text}` is not a topic filter: {error}"),
                FILTER_HINT,
            );
        }
    }
    None
}
