//! The left side of an entry: which devices it is about.

use std::time::Duration;

use tidegate_model::{
    AdapterName, CaptureName, NodePattern, NodePatternError, PathPattern, PathPatternError,
};
use tidegate_settings::{Issue, Issues, Node, TableReader, nearest, read};

use super::{Left, place};
use crate::TopicPattern;
use crate::set::Environment;
use crate::topic::{Wildcards, names_in};

/// Paths of the gateway's own over HTTP.
const RESERVED: [&str; 4] = ["v1", "health", "metrics", "console"];

/// Longest time between two looks at a value.
const SAMPLING_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Reads `resource` of `[[coap]]`.
pub(super) fn resource(table: &mut TableReader<'_>, issues: &mut Issues) -> Left<PathPattern> {
    if let Some(left) = misplaced(table, ["path", "filter"], "resource", issues) {
        return left;
    }
    let left = path_pattern(table, "resource", "\"/sensors/{room}/temperature\"", issues);
    if let Some(pattern) = &left.address
        && first_segment(pattern) == ".well-known"
    {
        let hint = "begin with a segment of your own";
        issues.error(left.span, "`/.well-known` is the gateway's own", hint);
        return Left { address: None, ..left };
    }
    left
}

/// Reads `path` of `[[http]]`.
pub(super) fn path(table: &mut TableReader<'_>, issues: &mut Issues) -> Left<PathPattern> {
    if let Some(left) = misplaced(table, ["resource", "filter"], "path", issues) {
        return left;
    }
    let left = path_pattern(table, "path", "\"/ingest/{device}\"", issues);
    if let Some(pattern) = &left.address
        && let Some(reserved) = RESERVED.iter().find(|word| **word == first_segment(pattern))
    {
        let message = format!("`/{reserved}` is the gateway's own");
        issues.error(left.span, message, format!("write `/ingest{}`", pattern.as_str()));
        return Left { address: None, ..left };
    }
    left
}

/// Reads `filter` of `[[mqtt]]`.
pub(super) fn filter(table: &mut TableReader<'_>, issues: &mut Issues) -> Left<TopicPattern> {
    if let Some(left) = misplaced(table, ["resource", "path"], "filter", issues) {
        return left;
    }
    let span = table.value_span("filter");
    let (address, written) = left_side(table, "filter", "\"legacy/{id}/T\"", parse_filter, issues);
    let names = match &address {
        Some(pattern) => pattern.names().to_vec(),
        None => names_in(&written),
    };
    Left { address, names, span }
}

/// Reads `server` of `[[opcua]]`.
pub(super) fn server(
    table: &mut TableReader<'_>,
    environment: &Environment,
    issues: &mut Issues,
) -> Option<AdapterName> {
    let servers = &environment.opcua_servers;
    let known = servers.iter().map(AdapterName::as_str);
    let example = format!("\"{}\"", known.clone().next().unwrap_or("plc7"));
    let parse = |node: &Node, issues: &mut Issues| {
        let name = read::string(node, issues)?;
        let found = servers.iter().find(|server| server.as_str() == name);
        if found.is_none() {
            let hint = match nearest(name, known.clone()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None if servers.is_empty() => {
                    format!("add an `[[opcua]]` table with name = \"{name}\" to the configuration")
                }
                None => {
                    let known: Vec<String> = known.clone().map(|it| format!("\"{it}\"")).collect();
                    format!("configured servers: {}", known.join(", "))
                }
            };
            issues.error(node.span, format!("there is no OPC UA server \"{name}\""), hint);
        }
        found.cloned()
    };
    table.required_like("server", &example, parse, issues)
}

/// Reads `node` of `[[opcua]]`.
pub(super) fn node(table: &mut TableReader<'_>, issues: &mut Issues) -> Left<NodePattern> {
    const EXAMPLE: &str = "\"nsu=urn:example:press;s=Press.{n}.Temperature\"";
    let span = table.value_span("node");
    let (address, written) = left_side(table, "node", EXAMPLE, parse_node, issues);
    let names = match &address {
        Some(pattern) => pattern.names().to_vec(),
        None => names_in(&written),
    };
    Left { address, names, span }
}

/// Reads `method` of `[[opcua]]`; `names` are the captures of the object.
pub(super) fn method(
    table: &mut TableReader<'_>,
    names: &[CaptureName],
    issues: &mut Issues,
) -> Option<NodePattern> {
    let parse = |node: &Node, issues: &mut Issues| {
        let pattern = parse_node(node, read::string(node, issues)?, issues)?;
        if let Some(name) = pattern.names().iter().find(|name| !names.contains(name)) {
            let message = format!("`{{{name}}}` is not a capture of the object");
            issues.error(node.span, message, "use the captures of `node`");
            return None;
        }
        Some(pattern)
    };
    table.optional("method", parse, issues)
}

/// Reads `sampling` of `[[opcua]]`; zero asks for the fastest that the server can do.
pub(super) fn sampling(table: &mut TableReader<'_>, issues: &mut Issues) -> Option<Duration> {
    table.optional("sampling", read::duration_within(Duration::ZERO..=SAMPLING_MAX), issues)
}

/// Reads `deadband` of `[[opcua]]`.
pub(super) fn deadband(table: &mut TableReader<'_>, issues: &mut Issues) -> Option<f64> {
    table.optional("deadband", read::number_within(0.0..=f64::MAX), issues)
}

fn path_pattern(
    table: &mut TableReader<'_>,
    key: &'static str,
    example: &str,
    issues: &mut Issues,
) -> Left<PathPattern> {
    let span = table.value_span(key);
    let (address, written) = left_side(table, key, example, parse_path, issues);
    let names = match &address {
        Some(pattern) => pattern.names().to_vec(),
        None => names_in(&written),
    };
    Left { address, names, span }
}

/// Reads a pattern that must be there; returns it with its text.
fn left_side<P>(
    table: &mut TableReader<'_>,
    key: &'static str,
    example: &str,
    parse: impl Fn(&Node, &str, &mut Issues) -> Option<P>,
    issues: &mut Issues,
) -> (Option<P>, String) {
    let read = |node: &Node, issues: &mut Issues| {
        let text = read::string(node, issues)?;
        Some((parse(node, text, issues), text.to_owned()))
    };
    table.required_like(key, example, read, issues).unwrap_or_default()
}

/// Refuses a key that names the address in another protocol, and takes its captures for those of the address.
fn misplaced<A>(
    table: &mut TableReader<'_>,
    wrong_keys: [&'static str; 2],
    right_key: &'static str,
    issues: &mut Issues,
) -> Option<Left<A>> {
    if table.has(right_key) {
        return None;
    }
    let wrong_key = wrong_keys.into_iter().find(|key| table.has(key))?;
    let span = table.key_span(wrong_key)?;
    let node = table.take(wrong_key)?;
    let message = format!("`{wrong_key}` belongs to another protocol");
    issues.error(span, message, format!("write `{right_key}`"));
    Some(Left {
        address: None,
        names: names_in(node.as_str().unwrap_or_default()),
        span: node.span,
    })
}

fn parse_path(node: &Node, text: &str, issues: &mut Issues) -> Option<PathPattern> {
    if let Some(at) = text.find(['?', '#']) {
        let hint = "write the path alone; a query is not part of the address";
        issues.error(node.span_within(at..text.len()), "a path ends before `?` and `#`", hint);
        return None;
    }
    match PathPattern::parse(text) {
        Ok(pattern) => {
            report_escapes(node, text, issues);
            Some(pattern)
        }
        Err(error) => {
            let (part, hint) = match &error {
                PathPatternError::NoSlash => (None, format!("write `/{text}`")),
                PathPatternError::Brace { segment } => {
                    (Some(segment), "write `{name}` within one segment".to_owned())
                }
                PathPatternError::Name { text } => {
                    (Some(text), "write a name such as `{room}`".to_owned())
                }
                PathPatternError::TwoCaptures { segment } => {
                    (Some(segment), "put them into two segments".to_owned())
                }
                PathPatternError::Repeated { .. } => (None, "use each name once".to_owned()),
            };
            let at = part.and_then(|part| text.find(part.as_str()).map(|at| at..at + part.len()));
            let span = at.map_or(node.span, |range| node.span_within(range));
            issues.error(span, format!("`{text}` is not a path: {error}"), hint);
            None
        }
    }
}

/// Paths are decoded before they are matched: an escape in a pattern would never match.
fn report_escapes(node: &Node, text: &str, issues: &mut Issues) {
    let escape = text.match_indices('%').find(|(at, _)| {
        text.as_bytes().get(at + 1..at + 3).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit))
    });
    if let Some((at, _)) = escape {
        let message = "a pattern is compared with decoded paths";
        let issue = Issue::hint(node.span_within(at..at + 3), message);
        issues.push(issue.with_hint("write the character itself"));
    }
}

fn parse_filter(node: &Node, text: &str, issues: &mut Issues) -> Option<TopicPattern> {
    match TopicPattern::parse(text, Wildcards::Allowed) {
        Ok(pattern) => Some(pattern),
        Err(fault) => {
            let message = format!("`{text}` is not a filter: {fault}");
            issues.error(place(node, fault.range), message, fault.hint);
            None
        }
    }
}

fn parse_node(node: &Node, text: &str, issues: &mut Issues) -> Option<NodePattern> {
    match NodePattern::parse(text) {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            let (part, hint) = match &error {
                NodePatternError::NamespaceIndex { text } => {
                    (Some(text), "the URI is in the server's NamespaceArray (i=2255)")
                }
                NodePatternError::Identifier { text } | NodePatternError::Namespace { text } => {
                    (Some(text), "write nsu=URI;s=TEXT, such as nsu=urn:example:press;s=Press.1")
                }
                NodePatternError::CaptureInNonText => {
                    (None, "write one entry for each node, or address the nodes by text")
                }
                NodePatternError::Brace { text } | NodePatternError::Name { text } => {
                    (Some(text), "write a name such as `{n}`")
                }
                NodePatternError::Adjacent => (None, "put literal text between them"),
                NodePatternError::Repeated { .. } => (None, "use each name once"),
            };
            let at = part.filter(|part| !part.is_empty());
            let at = at.and_then(|part| text.find(part.as_str()).map(|at| at..at + part.len()));
            let span = at.map_or(node.span, |range| node.span_within(range));
            issues.error(span, format!("`{text}` is not a node: {error}"), hint);
            None
        }
    }
}

fn first_segment(pattern: &PathPattern) -> &str {
    pattern.as_str().split('/').nth(1).unwrap_or_default()
}
