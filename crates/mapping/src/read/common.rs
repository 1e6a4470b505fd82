//! The keys that entries of every protocol share.

use tidegate_model::{CaptureName, Each, PayloadFormat, Presentation, Qos, Unit, ValueType};
use tidegate_settings::{Issue, Issues, Node, Span, TableReader, read};

use super::{Kind, place};
use crate::TopicTemplate;
use tidegate_expression::{Expression, ResultKind, Scope, Subject, is_reserved};

/// The name under which the name of a member is used.
const MEMBER: &str = "member";

/// What the shared keys say.
pub(super) struct Common {
    pub(super) payload: Option<PayloadFormat>,
    pub(super) value_type: Option<ValueType>,
    pub(super) unit: Option<Unit>,
    pub(super) each: Option<Each>,
    pub(super) topic: TopicTemplate,
    pub(super) topic_span: Span,
    pub(super) transform: Option<Expression>,
    pub(super) when: Option<Expression>,
    pub(super) presentation: Option<Presentation>,
    pub(super) qos: Option<Qos>,
    pub(super) retain: Option<bool>,
}

impl Common {
    /// Reads the shared keys. `names` are the captures of the address.
    pub(super) fn read(
        table: &mut TableReader<'_>,
        kind: Kind,
        names: &[CaptureName],
        issues: &mut Issues,
    ) -> Option<Self> {
        let errors_before = issues.error_count();
        refuse_foreign_keys(table, kind, issues);
        let (payload, each) = match kind {
            Kind::OpcUa => (None, None),
            _ => (read_payload(table, kind, issues), read_each(table, issues)),
        };
        let names = with_member(table, names, each, issues);
        let scope = Scope { captures: &names, payload, subject: Subject::Reading };
        check_each(table, payload, each, issues);
        let transform = read_expression(table, "transform", scope, ResultKind::Value, issues);
        let when = read_expression(table, "when", scope, ResultKind::Condition, issues);
        check_names(table, &names, transform.is_some() || when.is_some(), issues);
        let value_type = table.optional("type", read_type, issues);
        check_result(table, transform.as_ref(), value_type, issues);
        let unit = table.optional("unit", read_unit, issues);
        if kind != Kind::OpcUa && unit.is_some() && value_type.is_none() && !table.has("type") {
            suggest_type(table, transform.as_ref(), issues);
        }
        let topic_span = table.value_span("topic");
        let topic = read_topic(table, &names, each, issues);
        let presentation = table.optional(
            "publish",
            read::word(&[("envelope", Presentation::Envelope), ("value", Presentation::Value)]),
            issues,
        );
        let qos = table.optional("qos", read::integer(0..=2_u8), issues).and_then(Qos::from_bits);
        let retain = table.optional("retain", read::boolean, issues);
        if issues.error_count() > errors_before {
            return None;
        }
        Some(Self {
            payload,
            value_type,
            unit,
            each,
            topic: topic?,
            topic_span,
            transform,
            when,
            presentation,
            qos,
            retain,
        })
    }
}

/// Refuses keys that exist in other tables, with the reason.
fn refuse_foreign_keys(table: &mut TableReader<'_>, kind: Kind, issues: &mut Issues) {
    const TYPED: &str = "OPC UA values come typed; remove the key";
    const NODES: &str = "it is for OPC UA nodes; remove the key";
    const RULES: &str = "it is for OPC UA nodes; `[[uplink.rule]]` has a deadband for every topic";
    const COMMANDS: &str =
        "it is for OPC UA nodes; other devices get commands by subscribing to `<topic>/set`";
    let foreign: &[(&'static str, &str)] = match kind {
        Kind::OpcUa => &[("payload", TYPED), ("each", TYPED)],
        _ => &[
            ("server", NODES),
            ("node", NODES),
            ("sampling", NODES),
            ("deadband", RULES),
            ("method", NODES),
            ("writable", COMMANDS),
        ],
    };
    for (key, hint) in foreign {
        if table.has(key) {
            let message = format!("`{key}` cannot be used in `[[{}]]`", kind.table());
            table.refuse(key, &message, hint, issues);
        }
    }
}

fn read_payload(
    table: &mut TableReader<'_>,
    kind: Kind,
    issues: &mut Issues,
) -> Option<PayloadFormat> {
    let known: &[PayloadFormat] = match kind {
        Kind::Mqtt => &[PayloadFormat::Text, PayloadFormat::Json, PayloadFormat::Raw],
        _ => &PayloadFormat::ALL,
    };
    let words: Vec<_> = known.iter().map(|format| (format.as_str(), *format)).collect();
    table.optional("payload", read::word(&words), issues)
}

fn read_each(table: &mut TableReader<'_>, issues: &mut Issues) -> Option<Each> {
    let words = [Each::Member, Each::Leaf].map(|each| (each.as_str(), each));
    table.optional("each", read::word(&words), issues)
}

/// Returns the captures of the address, and with `each` the name of the member behind them.
fn with_member(
    table: &TableReader<'_>,
    names: &[CaptureName],
    each: Option<Each>,
    issues: &mut Issues,
) -> Vec<CaptureName> {
    let mut names = names.to_vec();
    if each.is_none() {
        return names;
    }
    let member = CaptureName::new(MEMBER).expect("a name");
    if names.contains(&member) {
        let message = "`{member}` is the name of a member here, and the address captures it too";
        issues.error(table.value_span("each"), message, "give the capture another name");
    } else {
        names.push(member);
    }
    names
}

fn check_each(
    table: &TableReader<'_>,
    payload: Option<PayloadFormat>,
    each: Option<Each>,
    issues: &mut Issues,
) {
    let Some(format @ (PayloadFormat::Text | PayloadFormat::Raw)) = payload else { return };
    if each.is_some() {
        let message = format!("payload = \"{}\" has no members", format.as_str());
        let hint = "write payload = \"json\", or remove `each`";
        issues.error(table.value_span("each"), message, hint);
    }
}

fn read_expression(
    table: &mut TableReader<'_>,
    key: &'static str,
    scope: Scope<'_>,
    result: ResultKind,
    issues: &mut Issues,
) -> Option<Expression> {
    let parse = |node: &Node, issues: &mut Issues| {
        let text = read::string(node, issues)?;
        match Expression::parse(text, scope, result) {
            Ok(expression) => Some(expression),
            Err(faults) => {
                for fault in faults {
                    issues.error(place(node, fault.range), fault.message, fault.hint);
                }
                None
            }
        }
    };
    table.optional(key, parse, issues)
}

/// A capture must not hide a word of the language.
fn check_names(
    table: &TableReader<'_>,
    names: &[CaptureName],
    has_expression: bool,
    issues: &mut Issues,
) {
    if let Some(name) = names.iter().find(|name| is_reserved(name.as_str()))
        && has_expression
    {
        let key = if table.has("transform") { "transform" } else { "when" };
        let message = format!("the capture `{name}` has the name of a word of expressions");
        issues.error(table.value_span(key), message, "give the capture another name");
    }
}

fn check_result(
    table: &TableReader<'_>,
    transform: Option<&Expression>,
    wanted: Option<ValueType>,
    issues: &mut Issues,
) {
    if let (Some(transform), Some(wanted)) = (transform, wanted)
        && !transform.may_be(wanted)
    {
        let found = transform.describe_result();
        let message = format!("`transform` gives {found}, and `type` asks for {wanted}");
        let hint = "`type` is about the result of `transform`: change one of the two";
        issues.error(table.value_span("type"), message, hint);
    }
}

fn suggest_type(table: &TableReader<'_>, transform: Option<&Expression>, issues: &mut Issues) {
    if transform.is_some_and(Expression::is_numeric) {
        return;
    }
    let message = "a value with a unit should be a number, and nothing says that it is one";
    let issue = Issue::hint(table.value_span("unit"), message);
    issues.push(issue.with_hint("add type = \"float\", so that a text is refused"));
}

fn read_type(node: &Node, issues: &mut Issues) -> Option<ValueType> {
    let words = ValueType::ALL.map(|it| (it.as_str(), it));
    read::word(&words)(node, issues)
}

fn read_unit(node: &Node, issues: &mut Issues) -> Option<Unit> {
    read::parsed("a unit", "write a symbol such as \"Cel\" or \"kg\"", Unit::new)(node, issues)
}

fn read_topic(
    table: &mut TableReader<'_>,
    names: &[CaptureName],
    each: Option<Each>,
    issues: &mut Issues,
) -> Option<TopicTemplate> {
    let parse = |node: &Node, issues: &mut Issues| {
        let text = read::string(node, issues)?;
        let template = match TopicTemplate::parse(text, names) {
            Ok(template) => template,
            Err(fault) => {
                let message = format!("`{text}` is not a topic: {fault}");
                issues.error(place(node, fault.range), message, fault.hint);
                return None;
            }
        };
        if let Some(each) = each
            && !names
                .iter()
                .position(|it| it.as_str() == MEMBER)
                .is_some_and(|at| template.uses(at))
        {
            let message = format!("with each = \"{}\" all members get one topic", each.as_str());
            issues.error(node.span, message, "put `{member}` into the topic");
            return None;
        }
        report_command_suffix(node, text, issues);
        Some(template)
    };
    table.required_like("topic", "\"hall1/{room}/temperature\"", parse, issues)
}

/// Topics of commands are not for readings.
fn report_command_suffix(node: &Node, text: &str, issues: &mut Issues) {
    const SUFFIXES: [&str; 4] = ["/set", "/call", "/set/result", "/call/result"];
    if let Some(suffix) = SUFFIXES.iter().find(|suffix| text.ends_with(**suffix)) {
        let span = node.span_within(text.len() - suffix.len()..text.len());
        let message = format!("topics that end in `{suffix}` are for commands");
        issues.error(span, message, "give the readings another topic");
    }
}
