//! `writable`: what may be written, and whether the topic tells where to.

use tidegate_model::{CaptureName, Glob};
use tidegate_settings::{Issues, Node, NodeValue, Span, TableReader, read};

use super::common::Common;
use crate::Writable;
use crate::set::Inverse;
use crate::topic::{TopicPattern, Wildcards};

/// Reads `writable`: true, false, or a table of limits. The outer `None` says that it is wrong.
pub(super) fn read(table: &mut TableReader<'_>, issues: &mut Issues) -> Option<Option<Writable>> {
    let Some(node) = table.take("writable") else { return Some(None) };
    match &node.value {
        NodeValue::Boolean(true) => Some(Some(Writable::default())),
        NodeValue::Boolean(false) => Some(None),
        NodeValue::Table(_) => limits(node, issues).map(Some),
        _ => {
            let hint = "write true, or limits such as { min = 0, max = 90 }";
            read::wrong_type(node, "true, false or a table", hint, issues);
            None
        }
    }
}

fn limits(node: &Node, issues: &mut Issues) -> Option<Writable> {
    let errors_before = issues.error_count();
    let mut table = TableReader::new(node, "writable", issues)?;
    let min = table.optional("min", read::number, issues);
    let max = table.optional("max", read::number, issues);
    if let (Some(min), Some(max)) = (min, max)
        && min > max
    {
        let message = format!("the minimum {min} is above the maximum {max}");
        issues.error(table.value_span("min"), message, "exchange them");
    }
    let principals = table.optional("principals", principals, issues);
    table.finish(issues);
    (issues.error_count() == errors_before).then_some(Writable { min, max, principals })
}

pub(super) fn principals(node: &Node, issues: &mut Issues) -> Option<Vec<Glob>> {
    let globs =
        read::list(|node, issues| Some(Glob::new(&read::text(node, issues)?)))(node, issues)?;
    if node.as_array().is_some_and(<[Node]>::is_empty) {
        let hint = "name somebody, or remove the entry's right to commands";
        issues.error(node.span, "nobody may command", hint);
        return None;
    }
    Some(globs)
}

/// Turns the topic of a writable entry round: every capture of the address must be told by it.
pub(super) fn invert(
    common: &Common,
    names: &[CaptureName],
    writable_span: Span,
    issues: &mut Issues,
) -> Option<Inverse> {
    if common.transform.is_some() {
        let hint = "remove `transform` and scale where the value is used, or remove `writable`";
        issues.error(writable_span, "a transform has no way back to the device", hint);
        return None;
    }
    let missing = names.iter().enumerate().find(|(index, _)| !common.topic.uses(*index));
    if let Some((_, name)) = missing {
        let message = format!("the topic does not tell which `{{{name}}}` to write to");
        let hint = format!("put `{{{name}}}` into the topic, or remove `writable`");
        issues.error(common.topic_span, message, hint);
        return None;
    }
    let topic = match TopicPattern::parse(common.topic.as_str(), Wildcards::Refused) {
        Ok(topic) => topic,
        Err(fault) => {
            let message =
                format!("the topic of a writable entry must be readable backwards: {fault}");
            issues.error(common.topic_span, message, fault.hint);
            return None;
        }
    };
    let place = |name| topic.names().iter().position(|other| other == name);
    let order = names.iter().map(place).collect::<Option<Vec<usize>>>()?;
    Some(Inverse { topic, order })
}
