//! Shows issues to people and to programs.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use ariadne::{Cache, CharSet, Color, Config, IndexType, Label, Report, ReportKind, Source};
use tidegate_model::{Document, Value, json};
use tidegate_settings::{Issue, Issues, Severity, SourceId, Sources, Span};

use super::mask::mask_text;

/// How to show issues to people. Complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Text alone, for files and pipes.
    Plain,
    /// With colours, for terminals.
    Color,
}

/// Shows issues to people: each with file, line, column, the marked text and what to do.
///
/// Ends with a line that counts them; empty if there are none.
pub fn render(issues: &Issues, sources: &Sources, style: Style) -> String {
    let mut output = Vec::new();
    let shown = Shown::new(sources);
    for issue in issues.iter() {
        // Writing to memory does not fail.
        if report(issue, style).write(&shown, &mut output).is_err() {
            continue;
        }
        output.push(b'\n');
    }
    let mut text = String::from_utf8_lossy(&output).into_owned();
    if style == Style::Plain {
        // The kind of a report is coloured whatever the settings say. What is shown has no such signs itself.
        text = text.replace("\u{1b}[39m", "").replace("\u{1b}[0m", "");
    }
    // The frame is padded to the right.
    text = text.lines().map(|line| line.trim_end().to_owned() + "\n").collect();
    if !issues.is_empty() {
        let errors = issues.error_count();
        let hints = issues.len() - errors;
        let counted = |count: usize, what: &str| match count {
            1 => format!("1 {what}"),
            _ => format!("{count} {what}s"),
        };
        text += &format!("{}, {}\n", counted(errors, "error"), counted(hints, "hint"));
    }
    text
}

/// Shows issues to programs, as one JSON object:
///
/// `{"errors":1,"hints":0,"issues":[{"severity":"error","file":"tidegate.toml","line":3,"column":7,
/// "endLine":3,"endColumn":9,"text":"…","message":"…","label":null,"hint":"…","related":[{"file":…,"line":…,
/// "column":…,"note":"…"}]}]}`. Lines and columns count from 1, columns in characters.
pub fn render_json(issues: &Issues, sources: &Sources) -> String {
    let shown = Shown::new(sources);
    let items = issues.iter().map(|issue| {
        let start = sources.position(issue.at);
        let end = sources.end_position(issue.at);
        let severity = match issue.severity {
            Severity::Error => "error",
            Severity::Hint => "hint",
        };
        let related = issue.related.iter().map(|related| {
            let position = sources.position(related.at);
            object([
                ("file", Value::string(sources.name(related.at.source))),
                ("line", integer(position.line)),
                ("column", integer(position.column)),
                ("note", Value::string(&related.note)),
            ])
        });
        object([
            ("severity", Value::string(severity)),
            ("file", Value::string(sources.name(issue.at.source))),
            ("line", integer(start.line)),
            ("column", integer(start.column)),
            ("endLine", integer(end.line)),
            ("endColumn", integer(end.column)),
            ("text", Value::string(shown.slice(issue.at))),
            ("message", Value::string(&issue.message)),
            ("label", optional(issue.label.as_deref())),
            ("hint", optional(issue.hint.as_deref())),
            ("related", Value::Array(related.collect())),
        ])
    });
    let errors = issues.error_count();
    let document = object([
        ("errors", integer(errors)),
        ("hints", integer(issues.len() - errors)),
        ("issues", Value::Array(items.collect())),
    ]);
    let mut output = Vec::new();
    json::write_value(&document, &mut output);
    String::from_utf8_lossy(&output).into_owned()
}

/// The texts as they are shown: without secrets and control characters, every character in its place.
struct Shown<'s> {
    sources: &'s Sources,
    texts: HashMap<SourceId, Source<String>>,
}

impl<'s> Shown<'s> {
    fn new(sources: &'s Sources) -> Self {
        // The space gives a line to a place behind the last line end.
        let shown = |id| (id, Source::from(harmless(&mask_text(sources.text(id))) + " "));
        Self { sources, texts: sources.ids().map(shown).collect() }
    }

    fn slice(&self, at: Span) -> &str {
        let text = self.texts.get(&at.source).map(Source::text).unwrap_or_default();
        text.get(at.range()).unwrap_or_default()
    }
}

impl Cache<SourceId> for &Shown<'_> {
    type Storage = String;

    fn fetch(&mut self, id: &SourceId) -> Result<&Source<String>, impl fmt::Debug> {
        self.texts.get(id).ok_or("there is no such text")
    }

    fn display<'a>(&self, id: &'a SourceId) -> Option<impl fmt::Display + 'a> {
        Some(harmless(self.sources.name(*id)))
    }
}

type Place = (SourceId, Range<usize>);

fn report(issue: &Issue, style: Style) -> Report<'static, Place> {
    let (word, colour) = match issue.severity {
        Severity::Error => ("Error", Color::Red),
        Severity::Hint => ("Hint", Color::Yellow),
    };
    let colour = if style == Style::Color { colour } else { Color::Primary };
    let config = Config::default()
        .with_color(style == Style::Color)
        .with_char_set(if style == Style::Color { CharSet::Unicode } else { CharSet::Ascii })
        .with_index_type(IndexType::Byte)
        .with_tab_width(4);
    let place = |at: Span| (at.source, at.range());
    // A label without words is not drawn.
    let label = Label::new(place(issue.at))
        .with_color(colour)
        .with_message(harmless(issue.label.as_deref().unwrap_or("here")));
    let mut report = Report::build(ReportKind::Custom(word, colour), place(issue.at))
        .with_config(config)
        .with_message(harmless(&issue.message))
        .with_label(label);
    for related in &issue.related {
        report.add_label(Label::new(place(related.at)).with_message(harmless(&related.note)));
    }
    if let Some(hint) = &issue.hint {
        report.set_help(harmless(hint));
    }
    report.finish()
}

/// Replaces what could steer a terminal or end a line, by signs of the same length in bytes.
fn harmless(text: &str) -> String {
    let mut letters = text.chars().peekable();
    let mut clean = String::with_capacity(text.len());
    while let Some(letter) = letters.next() {
        clean.push(match letter {
            '\n' | '\t' => letter,
            '\r' if letters.peek() == Some(&'\n') => letter,
            '\u{2028}' | '\u{2029}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' => {
                '\u{2007}'
            }
            letter if letter.is_control() && letter.len_utf8() == 2 => '\u{A0}',
            letter if letter.is_control() => ' ',
            letter => letter,
        });
    }
    clean
}

fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    let members = members.into_iter().map(|(name, value)| (name.into(), value)).collect();
    Value::Document(Document::new(members).expect("the names are written here, each once").into())
}

fn integer(number: usize) -> Value {
    Value::unsigned(number as u64)
}

fn optional(text: Option<&str>) -> Value {
    text.map_or(Value::Null, Value::string)
}
