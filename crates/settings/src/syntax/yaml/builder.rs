//! Puts the tree together from the parser's events. Works without recursion.

use std::collections::BTreeMap;

use saphyr_parser::{Event, ScalarStyle};

use super::{Places, push_unsupported, scalar};
use crate::syntax::{DEPTH_MAX, push_broken};
use crate::{Entry, Issue, Issues, Key, Node, NodeValue, Span, Table, TableStyle};

/// Whether more events are wanted.
pub(super) enum Progress {
    Going,
    Stopped,
}

/// What is being read, outermost first, and what was read.
pub(super) struct Builder<'t> {
    text: &'t str,
    places: &'t Places,
    pub(super) issues: &'t mut Issues,
    open: Vec<Open>,
    root: Option<Node>,
    documents: usize,
    /// Where the flow mapping that was closed last begins, in bytes, and ends, in characters.
    flow_mapping: Option<(usize, usize)>,
}

/// A collection whose end has not come yet.
struct Open {
    span: Span,
    style: TableStyle,
    content: Content,
}

enum Content {
    Sequence(Vec<Node>),
    Mapping { entries: Vec<Entry>, seen: BTreeMap<String, Span>, key: Awaits },
}

/// What a mapping waits for.
enum Awaits {
    Key,
    Value(Key),
    /// The key was refused; its value goes nowhere.
    IgnoredValue,
}

impl<'t> Builder<'t> {
    pub(super) fn new(text: &'t str, places: &'t Places, issues: &'t mut Issues) -> Self {
        Self {
            text,
            places,
            issues,
            open: Vec::new(),
            root: None,
            documents: 0,
            flow_mapping: None,
        }
    }

    pub(super) fn handle(&mut self, event: Event<'_>, span: saphyr_parser::Span) -> Progress {
        let at = self.places.span(span.start.index(), span.end.index());
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    const HINT: &str = "remove the line with `---`, or make a second file";
                    push_unsupported(self.text, at, "a file holds one document", HINT, self.issues);
                    return Progress::Stopped;
                }
            }
            Event::Alias(_) => {
                const HINT: &str = "write the value out";
                push_unsupported(self.text, at, "aliases are not supported", HINT, self.issues);
                self.add(Node::new(NodeValue::Null, at));
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_properties(at, anchor, tag.is_some());
                let node = self.scalar(&text, style, at);
                self.add(node);
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_properties(at, anchor, tag.is_some());
                return self.open(at, Content::Sequence(Vec::new()));
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_properties(at, anchor, tag.is_some());
                let key = Awaits::Key;
                return self.open(
                    at,
                    Content::Mapping { entries: Vec::new(), seen: BTreeMap::new(), key },
                );
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span.end.index()),
            Event::StreamStart | Event::StreamEnd | Event::DocumentEnd | Event::Nothing => {}
        }
        Progress::Going
    }

    /// Returns the tree, with what is still open closed where it stands.
    pub(super) fn finish(mut self) -> Option<Node> {
        while let Some(open) = self.open.pop() {
            self.add(open.into_node(None));
        }
        self.root.filter(|root| root.value != NodeValue::Null)
    }

    /// Returns the byte at which the flow mapping begins that ended just before a character.
    pub(super) fn flow_mapping_that_ended_at(&self, character: usize) -> Option<usize> {
        self.flow_mapping.filter(|(_, end)| *end == character).map(|(start, _)| start)
    }

    /// Returns whether brackets or braces are open.
    pub(super) fn is_in_flow(&self) -> bool {
        self.open.iter().any(|open| open.style == TableStyle::Flow)
    }

    fn open(&mut self, at: Span, content: Content) -> Progress {
        if self.open.len() >= DEPTH_MAX {
            let message = format!("values are nested deeper than {DEPTH_MAX} levels");
            let issue = Issue::error(at, message).with_hint("flatten the structure");
            self.issues.push_damage(issue, Span::new(at.source, at.start..self.text.len()));
            return Progress::Stopped;
        }
        // A collection in block style has no sign of its own: its span is empty.
        let style = if self.text[at.start..].starts_with(['{', '[']) && at.end > at.start {
            TableStyle::Flow
        } else {
            TableStyle::Block
        };
        let mut span = at;
        if span.start == span.end && self.text[span.start..].starts_with('-') {
            span.end += 1;
        }
        self.open.push(Open { span, style, content });
        Progress::Going
    }

    fn close(&mut self, end_character: usize) {
        let Some(open) = self.open.pop() else { return };
        if open.style == TableStyle::Flow && matches!(open.content, Content::Mapping { .. }) {
            self.flow_mapping = Some((open.span.start, end_character));
        }
        let end = self.places.byte(end_character);
        self.add(open.into_node(Some(end)));
    }

    /// Puts a finished value where it belongs.
    fn add(&mut self, mut node: Node) {
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return;
        };
        let (entries, seen, key) = match &mut open.content {
            Content::Sequence(items) => return items.push(node),
            Content::Mapping { entries, seen, key } => (entries, seen, key),
        };
        match std::mem::replace(key, Awaits::Key) {
            Awaits::IgnoredValue => {}
            Awaits::Value(name) => {
                if node.value == NodeValue::Null && node.span.end <= node.span.start + 1 {
                    node.span = name.span;
                }
                entries.push(Entry { key: name, value: node });
            }
            Awaits::Key => {
                *key = accept_key(self.text, node, seen, self.issues);
            }
        }
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, at: Span) -> Node {
        if style == ScalarStyle::Plain && !self.expects_key() {
            match scalar::resolve(text) {
                Ok(NodeValue::String(text)) => {
                    return Node::string(text, at, &self.text[at.range()]);
                }
                Ok(value) => return Node::new(value, at),
                Err(scalar::TooLarge) => {
                    let issue = Issue::error(at, "the number does not fit into 64 bits");
                    let issue = issue.with_hint("write a smaller number, or put text in quotes");
                    push_broken(self.text, issue, self.issues);
                    return Node::new(NodeValue::Null, at);
                }
            }
        }
        // A block scalar's span reaches into the next line.
        let written = self.text[at.range()].trim_end();
        let at = Span::new(at.source, at.start..at.start + written.len());
        Node::string(text.to_owned(), at, written)
    }

    fn expects_key(&self) -> bool {
        let content = self.open.last().map(|open| &open.content);
        matches!(content, Some(Content::Mapping { key: Awaits::Key, .. }))
    }

    fn refuse_properties(&mut self, at: Span, anchor: usize, tagged: bool) {
        if anchor > 0 {
            const HINT: &str = "remove the `&…` and write the value out where it is needed";
            push_unsupported(self.text, at, "anchors are not supported", HINT, self.issues);
        }
        if tagged {
            const HINT: &str = "remove the `!…`; put text in quotes";
            push_unsupported(self.text, at, "tags are not supported", HINT, self.issues);
        }
    }
}

fn accept_key(
    text: &str,
    node: Node,
    seen: &mut BTreeMap<String, Span>,
    issues: &mut Issues,
) -> Awaits {
    let NodeValue::String(name) = node.value else {
        let hint = "write a word; quote a key that begins with `{` or `[`";
        push_unsupported(text, node.span, "a key must be a word", hint, issues);
        return Awaits::IgnoredValue;
    };
    if let Some(first) = seen.get(&name) {
        let issue = Issue::error(node.span, format!("`{name}` is given twice"));
        let issue =
            issue.with_hint("remove one of the two").with_related(*first, "first given here");
        push_broken(text, issue, issues);
        return Awaits::IgnoredValue;
    }
    seen.insert(name.clone(), node.span);
    Awaits::Value(Key { name, span: node.span })
}

impl Open {
    /// Ends the collection at the byte `end`, if that is where its closing bracket was.
    fn into_node(self, end: Option<usize>) -> Node {
        let mut span = self.span;
        if self.style == TableStyle::Flow {
            span.end = end.unwrap_or(span.end);
        }
        match self.content {
            Content::Sequence(items) => Node::new(NodeValue::Array(items), span),
            Content::Mapping { entries, .. } => {
                if self.style == TableStyle::Block {
                    span = entries.first().map_or(span, |entry| entry.key.span);
                }
                Node::new(NodeValue::Table(Table { entries, style: self.style }), span)
            }
        }
    }
}
