//! From the tree of a mapping file to checked entries.

mod address;
mod common;
mod method;
mod writable;

use std::ops::Range;

use tidegate_model::{CaptureName, Presentation};
use tidegate_settings::{Issues, Node, Span, TableReader};

use crate::entry::{Address, Entry, NodeAddressPattern};
use crate::set::{Environment, Inverse};

use common::Common;

/// An entry that has no number yet, with what the check of the whole set needs.
pub(crate) struct Draft {
    pub(crate) entry: Entry,
    pub(crate) address_span: Span,
    pub(crate) topic_span: Span,
    pub(crate) inverse: Option<Inverse>,
}

/// The protocol of an entry, as far as its keys depend on it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Coap,
    Http,
    OpcUa,
    Mqtt,
}

impl Kind {
    fn table(self) -> &'static str {
        match self {
            Self::Coap => "coap",
            Self::Http => "http",
            Self::OpcUa => "opcua",
            Self::Mqtt => "mqtt",
        }
    }
}

/// The address of an entry, or what is known of it though it is wrong.
struct Left<A> {
    address: Option<A>,
    /// The captures that can be used on the right.
    names: Vec<CaptureName>,
    span: Span,
}

/// Returns the place of a part of a string; the whole of it where it is empty and nothing could be marked.
fn place(node: &Node, range: Range<usize>) -> Span {
    match node.as_str() {
        Some("") | None => node.span,
        Some(_) => node.span_within(range),
    }
}

/// Reads one file; returns whether every entry could be read.
pub(crate) fn file(
    mut table: TableReader<'_>,
    environment: &Environment,
    drafts: &mut Vec<Draft>,
    issues: &mut Issues,
) -> bool {
    let mut complete = true;
    let mut note = |draft: Option<Draft>| {
        complete &= draft.is_some();
        drafts.extend(draft);
        Some(())
    };
    table.tables("coap", |table, issues| note(coap(table, issues)), issues);
    table.tables("http", |table, issues| note(http(table, issues)), issues);
    table.tables("opcua", |table, issues| note(opcua(table, environment, issues)), issues);
    table.tables("mqtt", |table, issues| note(mqtt(table, issues)), issues);
    table.finish(issues);
    complete
}

fn coap(mut table: TableReader<'_>, issues: &mut Issues) -> Option<Draft> {
    let left = address::resource(&mut table, issues);
    let common = Common::read(&mut table, Kind::Coap, &left.names, issues);
    let span = table.span();
    table.finish(issues);
    draft(span, left.span, left.address.map(Address::Coap), common?)
}

fn http(mut table: TableReader<'_>, issues: &mut Issues) -> Option<Draft> {
    let left = address::path(&mut table, issues);
    let common = Common::read(&mut table, Kind::Http, &left.names, issues);
    let span = table.span();
    table.finish(issues);
    draft(span, left.span, left.address.map(Address::Http), common?)
}

fn mqtt(mut table: TableReader<'_>, issues: &mut Issues) -> Option<Draft> {
    let left = address::filter(&mut table, issues);
    let common = Common::read(&mut table, Kind::Mqtt, &left.names, issues);
    let span = table.span();
    table.finish(issues);
    draft(span, left.span, left.address.map(Address::Mqtt), common?)
}

fn opcua(
    mut table: TableReader<'_>,
    environment: &Environment,
    issues: &mut Issues,
) -> Option<Draft> {
    if table.has("method") {
        return method::entry(table, environment, issues);
    }
    let server = address::server(&mut table, environment, issues);
    let left = address::node(&mut table, issues);
    let sampling = address::sampling(&mut table, issues);
    let deadband = address::deadband(&mut table, issues);
    let writable_span = table.value_span("writable");
    let writable = writable::read(&mut table, issues);
    let common = Common::read(&mut table, Kind::OpcUa, &left.names, issues);
    let span = table.span();
    table.finish(issues);
    let common = common?;
    let writable = writable?;
    let inverse = match writable {
        Some(_) => Some(writable::invert(&common, &left.names, writable_span, issues)?),
        None => None,
    };
    let address = NodeAddressPattern {
        server: server?,
        node: left.address?,
        sampling,
        deadband,
        method: None,
    };
    let mut draft = draft(span, left.span, Some(Address::OpcUa(address)), common)?;
    draft.entry.writable = writable;
    draft.inverse = inverse;
    Some(draft)
}

fn draft(
    span: Span,
    address_span: Span,
    address: Option<Address>,
    common: Common,
) -> Option<Draft> {
    let entry = Entry {
        index: 0,
        span,
        address: address?,
        payload: common.payload,
        value_type: common.value_type,
        unit: common.unit,
        each: common.each,
        topic: common.topic,
        transform: common.transform,
        when: common.when,
        presentation: common.presentation.unwrap_or(Presentation::Envelope),
        qos: common.qos,
        retain: common.retain,
        writable: None,
        callable: None,
    };
    Some(Draft { entry, address_span, topic_span: common.topic_span, inverse: None })
}
