//! Entries of `[[opcua]]` with a method: commands call it, and there are no readings.

use tidegate_settings::{Issues, TableReader};

use super::{Draft, Kind, address, common::Common, draft, writable};
use crate::Callable;
use crate::entry::{Address, NodeAddressPattern};
use crate::set::Environment;

/// Keys about readings and about writing.
const OF_VALUES: [&str; 10] = [
    "sampling",
    "deadband",
    "writable",
    "transform",
    "when",
    "type",
    "unit",
    "publish",
    "qos",
    "retain",
];

/// Reads an entry that has the key `method`.
pub(super) fn entry(
    mut table: TableReader<'_>,
    environment: &Environment,
    issues: &mut Issues,
) -> Option<Draft> {
    let errors_before = issues.error_count();
    for key in OF_VALUES {
        if table.has(key) {
            let message = format!("`{key}` is about values, and a method has none");
            table.refuse(
                key,
                &message,
                "remove the key, or give the value an entry of its own",
                issues,
            );
        }
    }
    let server = address::server(&mut table, environment, issues);
    let left = address::node(&mut table, issues);
    let method_span = table.value_span("method");
    let method = address::method(&mut table, &left.names, issues);
    let principals = table.optional("principals", writable::principals, issues);
    let common = Common::read(&mut table, Kind::OpcUa, &left.names, issues);
    let span = table.span();
    table.finish(issues);
    let common = common?;
    let inverse = writable::invert(&common, &left.names, method_span, issues)?;
    if issues.error_count() > errors_before {
        return None;
    }
    let address = NodeAddressPattern {
        server: server?,
        node: left.address?,
        sampling: None,
        deadband: None,
        method: Some(method?),
    };
    let mut draft = draft(span, left.span, Some(Address::OpcUa(address)), common)?;
    draft.entry.callable = Some(Callable { principals });
    draft.inverse = Some(inverse);
    Some(draft)
}
