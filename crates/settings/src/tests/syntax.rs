//! Broken files: the place is right, the advice useful, and the rest is still read.

use proptest::prelude::*;

use super::{lines, parsed};
use crate::{DEPTH_MAX, Format, Position, Sources, Span};

#[test]
fn broken_toml_is_reported_all_at_once() {
    #[rustfmt::skip]
    let cases: &[(&str, &[&str])] = &[
        ("a = yes\nb = 1\nc = 10.0.0.1:80\n", &[
            r#"1:5 "yes" `yes` is not a value | write `true`"#,
            r#"3:5 "10.0.0.1:80" `10.0.0.1:80` is not a value | put text in quotes: "10.0.0.1:80""#,
        ]),
        ("a = \nb = 1\n", &[r#"1:5 "" a value is missing | write a value behind the `=`"#]),
        ("a = 1\na = 2\n", &[r#"2:1 "a" `a` is given twice | remove one of the two; of a table that may repeat, write `[[name]]`"#]),
        ("[t]\n[t]\n", &[r#"2:2 "t" `t` is given twice | remove one of the two; of a table that may repeat, write `[[name]]`"#]),
        ("[t\na = 1\n", &[r#"1:3 "" unclosed table | expected here: `]`"#]),
        ("a = 'x\n", &[r#"1:7 "" invalid literal string | expected here: `'`"#]),
        ("a = 99999999999999999999\n", &[r#"1:5 "99999999999999999999" the integer does not fit into 64 bits | it must be between -9223372036854775808 and 9223372036854775807"#]),
        ("a = 1e999\n", &[r#"1:5 "1e999" the number is too large for a 64-bit float | write a smaller number"#]),
    ];
    for (text, expected) in cases {
        let (sources, _, issues) = parsed(Format::Toml, text);
        assert_eq!(lines(&sources, &issues), *expected, "{text}");
    }
}

#[test]
fn broken_yaml_names_its_place() {
    #[rustfmt::skip]
    let cases: &[(&str, &[&str])] = &[
        ("a:\n  - topic: {room}/t\n    b: 1\n  - topic: {x}-{y} # c\n", &[
            r#"2:12 "{room}/t" a YAML value that begins with `{` must be quoted | write '{room}/t'"#,
            r#"4:12 "{x}-{y}" a YAML value that begins with `{` must be quoted | write '{x}-{y}'"#,
        ]),
        ("é: {ü}/ö\r\nb: {c}/d\r\n", &[
            r#"1:4 "{ü}/ö" a YAML value that begins with `{` must be quoted | write '{ü}/ö'"#,
            r#"2:4 "{c}/d" a YAML value that begins with `{` must be quoted | write '{c}/d'"#,
        ]),
        ("a: [ {b}/c, d ]\n", &[r#"1:6 "{b}/c" a YAML value that begins with `{` must be quoted | write '{b}/c'"#]),
        ("- {b}/c\n", &[r#"1:3 "{b}/c" a YAML value that begins with `{` must be quoted | write '{b}/c'"#]),
        ("a: 1\na: 2\n", &[r#"2:1 "a" `a` is given twice | remove one of the two"#]),
        ("a: 1\n b: 2\n", &[r#"2:3 ":" a `:` is not allowed here | check the indentation of this line and the one before; quote a value that contains `: `"#]),
        ("a:\n  - b: 1\n    c: 2\n   d: 3\n", &[r#"4:4 "d" the line does not fit the ones above it | indent all keys of one table alike, and write each as `key: value`"#]),
        ("a:\n\tb: 1\n", &[r#"2:2 "b" a tab is used for indentation | indent with spaces"#]),
        ("a: &x 1\nb: *x\n", &[
            r#"1:4 "&x 1" anchors are not supported | remove the `&…` and write the value out where it is needed"#,
            r#"2:4 "*x" aliases are not supported | write the value out"#,
        ]),
        ("a: !!str 1\n", &[r#"1:4 "!!str 1" tags are not supported | remove the `!…`; put text in quotes"#]),
        ("a: 1\n---\nb: 2\n", &[r#"2:1 "---" a file holds one document | remove the line with `---`, or make a second file"#]),
        ("? [a]\n: 1\n", &[r#"1:3 "[a]" a key must be a word | write a word; quote a key that begins with `{` or `[`"#]),
        ("a: 'x\n", &[r#"1:4 "'" a quoted text is not well formed | close it with the quote it began with, on the same line"#]),
        ("a: [1, 2\n", &[r#"1:9 "" a bracket is not closed | close every `[` with `]` and every `{` with `}`"#]),
        ("a: 99999999999999999999\n", &[r#"1:4 "99999999999999999999" the number does not fit into 64 bits | write a smaller number, or put text in quotes"#]),
    ];
    let mut wrong = Vec::new();
    for (text, expected) in cases {
        let (sources, _, issues) = parsed(Format::Yaml, text);
        let found = lines(&sources, &issues);
        if found != *expected {
            wrong.push(format!("{text:?}\n  found    {found:#?}\n  expected {expected:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nesting_and_aliases_cannot_exhaust_anything() {
    let deep = 200_000;
    let laughs: String =
        (0..40).map(|level| format!("a{level}: &a{level} [*a{level}, *a{level}]\n")).collect();
    let cases = [
        (Format::Toml, format!("{} = 1\n", vec!["a"; deep].join("."))),
        (Format::Toml, format!("a = {}", "[".repeat(deep))),
        (Format::Toml, format!("a = {}1{}\n", "[".repeat(DEPTH_MAX), "]".repeat(DEPTH_MAX))),
        (Format::Yaml, format!("a: {}", "[".repeat(deep))),
        (Format::Yaml, format!("a: {}", "{a: ".repeat(deep))),
        (Format::Yaml, format!("a:\n {}", "- ".repeat(deep))),
        (Format::Yaml, laughs),
    ];
    for (format, text) in cases {
        let (_, _, issues) = parsed(format, &text);
        assert!(issues.has_errors(), "{}", &text[..40.min(text.len())]);
    }
}

#[test]
fn places_are_counted_in_characters() {
    let text = "ab\r\näöü = 'x'\n\n\u{1F600}y";
    let mut sources = Sources::default();
    let source = sources.add("file", text);
    #[rustfmt::skip]
    let cases = [
        // byte                     line, column
        (0,                         (1, 1)),
        (2,                         (1, 3)),
        (4,                         (2, 1)),
        (text.find('=').unwrap(),   (2, 5)),
        (text.find('y').unwrap(),   (4, 2)),
        (text.len(),                (4, 3)),
        (text.len() + 9,            (4, 1)),
    ];
    for (byte, (line, column)) in cases {
        let position = sources.position(Span::new(source, byte..byte));
        assert_eq!(position, Position { line, column }, "byte {byte}");
    }
}

proptest! {
    /// Whatever stands in a file, reading it ends, and every place is inside it.
    #[test]
    fn any_text_is_read_without_panic(text in any_text(), yaml in any::<bool>()) {
        let format = if yaml { Format::Yaml } else { Format::Toml };
        let (sources, _, issues) = parsed(format, &text);
        for issue in issues.iter() {
            prop_assert!(issue.at.end <= text.len());
            prop_assert!(text.get(issue.at.range()).is_some(), "between characters");
            prop_assert!(sources.position(issue.at).column <= text.chars().count() + 1);
        }
    }
}

/// Texts rich in the signs of both languages.
fn any_text() -> impl Strategy<Value = String> {
    let signs = prop::sample::select(vec![
        "a",
        "b: ",
        "c = ",
        "{",
        "}",
        "[",
        "]",
        "'",
        "\"",
        "\n",
        "\r\n",
        "  ",
        "- ",
        "#",
        ": ",
        ",",
        "1",
        "ä",
        "\t",
        "&x",
        "*x",
        "!t",
        "---\n",
        "|\n",
        "\"\"\"",
        "[[",
        "]]",
        "=",
        ".",
        "\u{feff}",
        "\u{1F600}",
        "? ",
        "\\",
        "%",
        "true",
        "1e9",
        "\0",
    ]);
    prop::collection::vec(signs, 0..60).prop_map(|parts| parts.concat())
}
