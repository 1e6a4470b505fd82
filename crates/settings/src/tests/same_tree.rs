//! TOML and YAML with the same content give the same tree.

use proptest::prelude::*;

use super::{lines, parsed};
use crate::{Format, Node, NodeValue};

#[test]
fn scalars_follow_the_core_schema() {
    let cases = [
        ("1", NodeValue::Integer(1)),
        ("+1", NodeValue::Integer(1)),
        ("-017", NodeValue::Integer(-17)),
        ("0x1F", NodeValue::Integer(31)),
        ("0o17", NodeValue::Integer(15)),
        ("1.", NodeValue::Float(1.0)),
        (".5", NodeValue::Float(0.5)),
        ("1e3", NodeValue::Float(1000.0)),
        ("-.inf", NodeValue::Float(f64::NEG_INFINITY)),
        ("true", NodeValue::Boolean(true)),
        ("False", NodeValue::Boolean(false)),
        ("~", NodeValue::Null),
        ("null", NodeValue::Null),
        ("yes", NodeValue::String("yes".into())),
        ("no", NodeValue::String("no".into())),
        ("on", NodeValue::String("on".into())),
        ("off", NodeValue::String("off".into())),
        ("1_000", NodeValue::String("1_000".into())),
        ("1.5.2", NodeValue::String("1.5.2".into())),
        ("0x", NodeValue::String("0x".into())),
        (".", NodeValue::String(".".into())),
        ("1e", NodeValue::String("1e".into())),
        ("250ms", NodeValue::String("250ms".into())),
        ("2026-03-01", NodeValue::String("2026-03-01".into())),
        ("'1'", NodeValue::String("1".into())),
        ("\"true\"", NodeValue::String("true".into())),
        ("value / 10", NodeValue::String("value / 10".into())),
        ("nsu=urn:x;s=Press.{n}", NodeValue::String("nsu=urn:x;s=Press.{n}".into())),
        ("|-\n  a\n  b\n", NodeValue::String("a\nb".into())),
    ];
    for (text, expected) in cases {
        let (sources, node, issues) = parsed(Format::Yaml, &format!("key: {text}"));
        assert!(issues.is_empty(), "{text}: {:?}", lines(&sources, &issues));
        assert_eq!(
            node.unwrap().as_table().unwrap().value("key").unwrap().value,
            expected,
            "{text}"
        );
    }
}

#[test]
fn a_file_may_be_empty_begin_with_a_mark_and_end_lines_like_windows() {
    for format in [Format::Toml, Format::Yaml] {
        for text in ["", "\n\n", "# only a comment\n", "\u{feff}", "\u{feff}# c\r\n"] {
            let (sources, node, issues) = parsed(format, text);
            assert!(issues.is_empty(), "{format:?} {text:?}: {:?}", lines(&sources, &issues));
            assert!(node.unwrap().as_table().unwrap().entries.is_empty(), "{format:?} {text:?}");
        }
    }
    let (_, toml, _) = parsed(Format::Toml, "\u{feff}a = 'ä'\r\n[b]\r\nc = 1\r\n");
    let (_, yaml, _) = parsed(Format::Yaml, "\u{feff}a: ä\r\nb:\r\n  c: 1\r\n");
    assert_eq!(toml, yaml);
}

/// Writes a value as TOML, inline.
fn to_toml(value: &NodeValue) -> String {
    match value {
        NodeValue::Table(table) => {
            let entries = table.entries.iter();
            let entries: Vec<String> = entries
                .map(|entry| {
                    format!("{} = {}", quoted(&entry.key.name), to_toml(&entry.value.value))
                })
                .collect();
            format!("{{ {} }}", entries.join(", "))
        }
        NodeValue::Array(items) => {
            let items: Vec<String> = items.iter().map(|item| to_toml(&item.value)).collect();
            format!("[{}]", items.join(", "))
        }
        scalar => scalar_text(scalar),
    }
}

/// Writes a value as YAML, in block style, at an indentation.
fn to_yaml(value: &NodeValue, indent: usize) -> String {
    let margin = " ".repeat(indent);
    match value {
        NodeValue::Table(table) if table.entries.is_empty() => " {}\n".to_owned(),
        NodeValue::Array(items) if items.is_empty() => " []\n".to_owned(),
        NodeValue::Table(table) => table.entries.iter().fold("\n".to_owned(), |text, entry| {
            let key = quoted(&entry.key.name);
            text + &format!("{margin}{key}:{}", to_yaml(&entry.value.value, indent + 2))
        }),
        NodeValue::Array(items) => items.iter().fold("\n".to_owned(), |text, item| {
            text + &format!("{margin}-{}", to_yaml(&item.value, indent + 2))
        }),
        scalar => format!(" {}\n", scalar_text(scalar)),
    }
}

fn scalar_text(value: &NodeValue) -> String {
    match value {
        NodeValue::Boolean(value) => value.to_string(),
        NodeValue::Integer(value) => value.to_string(),
        NodeValue::Float(value) => format!("{value:e}").replacen(
            'e',
            ".0e",
            usize::from(!format!("{value:e}").contains('.')),
        ),
        NodeValue::String(text) => quoted(text),
        other => panic!("{other:?} is not a scalar of both languages"),
    }
}

/// Writes a text in double quotes, escaped as both languages read it.
fn quoted(text: &str) -> String {
    let mut written = String::from('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => written.extend(['\\', letter]),
            letter if letter.is_control() => {
                written.push_str(&format!("\\u{:04X}", u32::from(letter)))
            }
            letter => written.push(letter),
        }
    }
    written + "\""
}

fn any_value() -> impl Strategy<Value = NodeValue> {
    let scalar = prop_oneof![
        any::<bool>().prop_map(NodeValue::Boolean),
        any::<i64>().prop_map(NodeValue::Integer),
        (-1e300..1e300_f64).prop_map(NodeValue::Float),
        "[ -~äß€\u{1F600}\n\t]{0,12}".prop_map(NodeValue::String),
    ];
    scalar.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5)
                .prop_map(|items| { NodeValue::Array(items.into_iter().map(node).collect()) }),
            any_table(inner),
        ]
    })
}

fn any_table(value: impl Strategy<Value = NodeValue>) -> impl Strategy<Value = NodeValue> {
    prop::collection::btree_map("[a-zä{:#-]{1,6}", value, 0..5).prop_map(|entries| {
        let entries = entries.into_iter().map(|(name, value)| crate::Entry {
            key: crate::Key { name, span: node(NodeValue::Null).span },
            value: node(value),
        });
        let style = crate::TableStyle::Block;
        NodeValue::Table(crate::Table { entries: entries.collect(), style })
    })
}

fn node(value: NodeValue) -> Node {
    let source = crate::Sources::default().add("", "");
    Node::new(value, crate::Span::new(source, 0..0))
}

proptest! {
    #[test]
    fn both_languages_give_the_tree_that_was_written(root in any_table(any_value())) {
        let NodeValue::Table(table) = &root else { unreachable!("the strategy gives tables") };
        let toml: String = table.entries.iter().map(|entry| {
            format!("{} = {}\n", quoted(&entry.key.name), to_toml(&entry.value.value))
        }).collect();
        let yaml = to_yaml(&root, 0);
        for (format, text) in [(Format::Toml, toml), (Format::Yaml, yaml)] {
            let (sources, node, issues) = parsed(format, &text);
            prop_assert!(issues.is_empty(), "{text}\n{:?}", lines(&sources, &issues));
            prop_assert_eq!(&node.unwrap().value, &root, "{}", text);
        }
    }
}
