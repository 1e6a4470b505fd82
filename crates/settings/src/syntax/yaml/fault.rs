//! Says in the words of the file's author what is wrong with its YAML.

use crate::syntax::push_broken;
use crate::{Issue, Issues, Span};

/// Turns the parser's words into ours.
pub(super) fn describe(text: &str, at: Span, info: &str) -> Issue {
    let at = visible(text, at);
    let (message, hint) = if info.contains("tabs") || info.contains("tab character") {
        ("a tab is used for indentation", "indent with spaces")
    } else if info.contains("mapping values are not allowed") || info.contains("placement of ':'") {
        (
            "a `:` is not allowed here",
            "check the indentation of this line and the one before; quote a value that contains `: `",
        )
    } else if info.contains("did not find expected key")
        || info.contains("did not find expected '-'")
        || info.contains("simple key expect")
        || info.contains("invalid indentation in multiline")
    {
        (
            "the line does not fit the ones above it",
            "indent all keys of one table alike, and write each as `key: value`",
        )
    } else if info.contains("quoted scalar") {
        (
            "a quoted text is not well formed",
            "close it with the quote it began with, on the same line",
        )
    } else if info.contains("flow") || info.contains("did not find expected ',' or") {
        ("a bracket is not closed", "close every `[` with `]` and every `{` with `}`")
    } else if info.contains("did not find expected node content") {
        ("a value is missing here", "write a value, and close every `[` and `{`")
    } else if info.contains("unknown anchor") {
        ("aliases are not supported", "write the value out, or quote a text that begins with `*`")
    } else {
        (info, "check quotes, brackets and indentation")
    };
    Issue::error(at, message).with_hint(hint)
}

/// Notes a value that begins with `{` and was meant as a text.
pub(super) fn report_unquoted(text: &str, at: Span, issues: &mut Issues) {
    let value = &text[at.range()];
    let quoted = format!("'{}'", value.replace('\'', "''"));
    let issue = Issue::error(at, "a YAML value that begins with `{` must be quoted");
    push_broken(text, issue.with_hint(format!("write {quoted}")), issues);
}

/// Returns where a value without quotes ends that goes on at the byte `from`.
pub(super) fn value_end(text: &str, from: usize, in_flow: bool) -> usize {
    let rest = &text[from..];
    let line = &rest[..rest.find(['\n', '\r']).unwrap_or(rest.len())];
    let line = &line[..line.find(" #").unwrap_or(line.len())];
    let value = if in_flow { &line[..line.find([',', ']']).unwrap_or(line.len())] } else { line };
    from + value.trim_end().len()
}

/// Puts a quoted text of as many characters in place of the value at `span` of `text`, the file itself.
/// `patched` has the same characters everywhere else.
pub(super) fn blank_out(patched: &str, text: &str, span: Span) -> String {
    let before = text[..span.start].chars().count();
    let within = text[span.range()].chars().count();
    let last = before + within.saturating_sub(1);
    let letters = patched.chars().enumerate().map(|(at, letter)| match at {
        at if at == before || at == last => '"',
        at if at > before && at < last => '-',
        _ => letter,
    });
    letters.collect()
}

/// Marks the character at a place; behind the end of the text, the place where its last line ends.
fn visible(text: &str, at: Span) -> Span {
    let start = at.start.min(text.trim_end().len());
    let letter = text[start..].chars().next().filter(|letter| !letter.is_whitespace());
    Span::new(at.source, start..start + letter.map_or(0, char::len_utf8))
}
