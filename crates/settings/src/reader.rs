//! Takes keys out of a table one by one and reports what is left over.

use crate::read::wrong_type;
use crate::{Entry, Issues, Node, NodeValue, Span, Table, nearest};

/// Reads the keys of one table, each at most once, and reports those that nobody asked for.
///
/// A value that is missing or wrong is noted and gives `None`; reading goes on, so that one pass finds every
/// problem. Whether a file may be used is for [`Issues::has_errors`] to say, not for single results. A
/// *parser* is any `Fn(&Node, &mut Issues) -> Option<T>`; [`read`](crate::read) has the common ones.
///
/// Every key that was asked for is *known*: [`finish`](Self::finish) suggests the nearest of them in place of
/// an unknown one, and reports required ones that miss, so ask for all keys before and always end with it.
#[derive(Debug)]
#[must_use = "call `finish`, or unknown keys stay unnoticed"]
pub struct TableReader<'a> {
    table: &'a Table,
    span: Span,
    path: String,
    taken: Vec<bool>,
    known: Vec<&'static str>,
    missing: Vec<(&'static str, String)>,
}

impl<'a> TableReader<'a> {
    /// Starts reading the top level of a file.
    pub fn root(node: &'a Node, issues: &mut Issues) -> Option<Self> {
        Self::new(node, "", issues)
    }

    /// Starts reading `node`. `path` says where the table is, as in `uplink.batch`; empty for the top level.
    pub fn new(node: &'a Node, path: impl Into<String>, issues: &mut Issues) -> Option<Self> {
        let NodeValue::Table(table) = &node.value else {
            let path = path.into();
            let several = node
                .as_array()
                .is_some_and(|items| items.iter().any(|item| item.as_table().is_some()));
            let hint = match (several, path.as_str()) {
                (_, "") => "write keys with values".to_owned(),
                (_, path) if node.value == NodeValue::Null => {
                    issues.error(
                        node.span,
                        format!("`{path}` is empty"),
                        "indent its keys below it, or remove it",
                    );
                    return None;
                }
                (true, path) => format!(
                    "there is only one `{path}`: write `[{path}]`, or in YAML no `- ` before it"
                ),
                (false, path) => {
                    format!("write a table: keys below `[{path}]`, or `{{ key = value }}`")
                }
            };
            wrong_type(node, "a table", hint, issues);
            return None;
        };
        let taken = vec![false; table.entries.len()];
        Some(Self {
            table,
            span: node.span,
            path: path.into(),
            taken,
            known: Vec::new(),
            missing: Vec::new(),
        })
    }

    /// Returns the place of the table.
    pub fn span(&self) -> Span {
        self.span
    }

    /// Returns where the table is, as in `uplink.batch`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns whether the file has the key, without taking it.
    pub fn has(&self, key: &str) -> bool {
        self.table.value(key).is_some()
    }

    /// Returns the place of a key if the file has it, without taking it.
    pub fn key_span(&self, key: &str) -> Option<Span> {
        self.table.entry(key).map(|entry| entry.key.span)
    }

    /// Returns the place of a key's value, else that of the table, without taking it.
    pub fn value_span(&self, key: &str) -> Span {
        self.table.value(key).map_or(self.span, |node| node.span)
    }

    /// Returns the node under `key` if the file has it, without taking it.
    pub fn node(&self, key: &str) -> Option<&'a Node> {
        self.table.value(key)
    }

    /// Takes the node under `key`.
    pub fn take(&mut self, key: &'static str) -> Option<&'a Node> {
        self.take_entry(key).map(|entry| &entry.value)
    }

    /// Reads a key that must be there.
    pub fn required<T>(
        &mut self,
        key: &'static str,
        parser: impl Fn(&'a Node, &mut Issues) -> Option<T>,
        issues: &mut Issues,
    ) -> Option<T> {
        self.required_like(key, "", parser, issues)
    }

    /// Reads a key that must be there; where it misses, the hint shows `example` as its value.
    pub fn required_like<T>(
        &mut self,
        key: &'static str,
        example: &str,
        parser: impl Fn(&'a Node, &mut Issues) -> Option<T>,
        issues: &mut Issues,
    ) -> Option<T> {
        match self.take(key) {
            Some(node) => parser(node, issues),
            None => {
                self.missing.push((key, example.to_owned()));
                None
            }
        }
    }

    /// Reads a key that may be left out.
    pub fn optional<T>(
        &mut self,
        key: &'static str,
        parser: impl Fn(&'a Node, &mut Issues) -> Option<T>,
        issues: &mut Issues,
    ) -> Option<T> {
        self.take(key).and_then(|node| parser(node, issues))
    }

    /// Reads a key that may be left out; `default` stands for it then, and for a wrong value, which is noted.
    pub fn optional_or<T>(
        &mut self,
        key: &'static str,
        default: T,
        parser: impl Fn(&'a Node, &mut Issues) -> Option<T>,
        issues: &mut Issues,
    ) -> T {
        self.optional(key, parser, issues).unwrap_or(default)
    }

    /// Reads an array that may be left out; empty then. Each item that is wrong is noted and left out.
    pub fn list<T>(
        &mut self,
        key: &'static str,
        item: impl Fn(&'a Node, &mut Issues) -> Option<T>,
        issues: &mut Issues,
    ) -> Vec<T> {
        self.optional(key, crate::read::list(item), issues).unwrap_or_default()
    }

    /// Reads an array that must be there and have an item; where it misses, the hint shows `example`.
    pub fn required_list<T>(
        &mut self,
        key: &'static str,
        example: &str,
        item: impl Fn(&'a Node, &mut Issues) -> Option<T>,
        issues: &mut Issues,
    ) -> Vec<T> {
        let Some(node) = self.take(key) else {
            self.missing.push((key, example.to_owned()));
            return Vec::new();
        };
        if node.as_array().is_some_and(<[Node]>::is_empty) {
            let path = self.path_of(key);
            issues.error(
                node.span,
                format!("`{path}` must not be empty"),
                format!("such as `{example}`"),
            );
        }
        crate::read::list(item)(node, issues).unwrap_or_default()
    }

    /// Reads a table that may be left out.
    pub fn table<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(TableReader<'a>, &mut Issues) -> Option<T>,
        issues: &mut Issues,
    ) -> Option<T> {
        let node = self.take(key)?;
        read(TableReader::new(node, self.path_of(key), issues)?, issues)
    }

    /// Reads a table that must be there; where it misses, the hint shows `example`.
    pub fn required_table<T>(
        &mut self,
        key: &'static str,
        example: &str,
        read: impl FnOnce(TableReader<'a>, &mut Issues) -> Option<T>,
        issues: &mut Issues,
    ) -> Option<T> {
        if !self.has(key) {
            self.missing.push((key, example.to_owned()));
        }
        self.table(key, read, issues)
    }

    /// Reads an array of tables, `[[key]]`, that may be left out.
    pub fn tables<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(TableReader<'a>, &mut Issues) -> Option<T>,
        issues: &mut Issues,
    ) -> Vec<T> {
        let Some(node) = self.take(key) else { return Vec::new() };
        let path = self.path_of(key);
        let NodeValue::Array(items) = &node.value else {
            let hint = format!(
                "there may be several: write `[[{path}]]`, or in YAML `- ` before each one"
            );
            wrong_type(node, "an array of tables", hint, issues);
            return Vec::new();
        };
        let mut values = Vec::with_capacity(items.len());
        for item in items {
            let reader = TableReader::new(item, path.as_str(), issues);
            values.extend(reader.and_then(|reader| read(reader, issues)));
        }
        values
    }

    /// Refuses a key that cannot be used, if the file has it. The key counts as known.
    pub fn refuse(&mut self, key: &'static str, message: &str, hint: &str, issues: &mut Issues) {
        if let Some(entry) = self.take_entry(key) {
            issues.error(entry.key.span, message, hint);
        }
    }

    /// Takes every key that was not taken yet, for tables whose keys are free.
    pub fn take_rest(&mut self) -> Vec<&'a Entry> {
        let mut rest = Vec::new();
        for (entry, taken) in self.table.entries.iter().zip(&mut self.taken) {
            if !std::mem::replace(taken, true) {
                rest.push(entry);
            }
        }
        rest
    }

    /// Reports every key that was not taken, with the nearest known one, and every required key that misses,
    /// unless it seems to be one of those.
    pub fn finish(mut self, issues: &mut Issues) {
        for entry in self.take_rest() {
            let name = &entry.key.name;
            let hint = match nearest(name, self.known.iter().copied()) {
                Some(key) => {
                    self.missing.retain(|(missing, _)| *missing != key);
                    format!("did you mean `{key}`?")
                }
                None => self.known_keys(),
            };
            let message = match self.path.as_str() {
                "" => format!("unknown key `{name}`"),
                path => format!("unknown key `{name}` in `{path}`"),
            };
            issues.error(entry.key.span, message, hint);
        }
        // Where the syntax is broken, the key may stand there.
        if !issues.has_damage(self.span.source) {
            for (key, example) in &self.missing {
                self.report_missing(key, example, issues);
            }
        }
    }

    fn take_entry(&mut self, key: &'static str) -> Option<&'a Entry> {
        self.known.push(key);
        let index = self.table.entries.iter().position(|entry| entry.key.name == key)?;
        self.taken[index] = true;
        Some(&self.table.entries[index])
    }

    fn report_missing(&self, key: &str, example: &str, issues: &mut Issues) {
        let message = match self.path.as_str() {
            "" => format!("`{key}` is missing"),
            path => format!("`{key}` is missing in `{path}`"),
        };
        let hint = match example {
            "" => format!("add the key `{key}`"),
            example => format!("add the key `{key}`, such as `{example}`"),
        };
        issues.error(self.span, message, hint);
    }

    fn known_keys(&self) -> String {
        let mut known = self.known.clone();
        known.sort_unstable();
        known.dedup();
        let known: Vec<String> = known.iter().map(|key| format!("`{key}`")).collect();
        if known.is_empty() {
            "remove it".to_owned()
        } else {
            format!("known keys: {}", known.join(", "))
        }
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}
