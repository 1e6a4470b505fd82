//! `TableReader` and the parsers of `read`: every problem is noted, with place and advice.

use std::time::Duration;

use super::{lines, parsed};
use crate::{ByteSize, Format, Issues, Node, TableReader, read};

/// Reads one key named `key` and gives the issues.
fn check<T>(
    format: Format,
    text: &str,
    read: impl for<'a> Fn(&'a Node, &mut Issues) -> Option<T>,
) -> Vec<String> {
    let (sources, node, mut issues) = parsed(format, text);
    let node = node.unwrap();
    let mut table = TableReader::root(&node, &mut issues).unwrap();
    let value = table.required("key", |node, issues| read(node, issues), &mut issues);
    table.finish(&mut issues);
    assert_eq!(value.is_none(), issues.has_errors(), "{text}: a value or an issue, never both");
    lines(&sources, &issues)
}

#[test]
fn a_wrong_value_says_what_was_found_and_what_to_write() {
    use Format::{Toml, Yaml};
    let boolean = |node: &Node, issues: &mut Issues| read::boolean(node, issues).map(drop);
    let text = |node: &Node, issues: &mut Issues| read::text(node, issues).map(drop);
    let integer = |node: &Node, issues: &mut Issues| read::integer(1..=9)(node, issues).map(drop);
    let number =
        |node: &Node, issues: &mut Issues| read::number_within(0.0..=1.0)(node, issues).map(drop);
    let duration = |node: &Node, issues: &mut Issues| {
        let range = Duration::from_secs(1)..=Duration::from_secs(60);
        read::duration_within(range)(node, issues).map(drop)
    };
    let size = |node: &Node, issues: &mut Issues| {
        read::byte_size_within(ByteSize::kib(1)..=ByteSize::mib(1))(node, issues).map(drop)
    };
    let word = |node: &Node, issues: &mut Issues| {
        read::word(&[("columns", 1), ("message", 2)])(node, issues).map(drop)
    };
    let list = |node: &Node, issues: &mut Issues| {
        let before = issues.error_count();
        read::list(read::text)(node, issues).filter(|_| issues.error_count() == before).map(drop)
    };
    type Read<'r> = &'r dyn Fn(&Node, &mut Issues) -> Option<()>;
    #[rustfmt::skip]
    let cases: &[(Format, &str, Read<'_>, &str)] = &[
        (Toml, "key = 'yes'", &boolean, r#"1:7 "'yes'" expected a boolean, found a string | write `true` or `false`, without quotes"#),
        (Yaml, "key: yes",    &boolean, r#"1:6 "yes" expected a boolean, found a string | write `true` or `false`, without quotes"#),
        (Toml, "key = 5",     &text,    r#"1:7 "5" expected a string, found an integer | put it in quotes: "5""#),
        (Toml, "key = ''",    &text,    r#"1:7 "''" the text must not be empty | write a value, or remove the key"#),
        (Toml, "key = 2026-03-01", &text, r#"1:7 "2026-03-01" expected a string, found a date or time | put it in quotes"#),
        (Toml, "key = ['a']", &text,    r#"1:7 "['a']" expected a string, found an array | give one value, without brackets"#),
        (Yaml, "key: {a}",    &text,    r#"1:6 "{a}" expected a string, found a table | a YAML value that begins with `{` must be quoted: put it in '…'"#),
        (Yaml, "key:",        &text,    r#"1:1 "key" expected a string, found nothing | write a value behind the key, or remove the key"#),
        (Toml, "key = '5'",   &integer, r#"1:7 "'5'" expected an integer, found a string | remove the quotes"#),
        (Toml, "key = 5.0",   &integer, r#"1:7 "5.0" expected an integer, found a float | write a whole number from 1 to 9"#),
        (Toml, "key = 10",    &integer, r#"1:7 "10" 10 is out of range | it must be between 1 and 9"#),
        (Toml, "key = -1",    &integer, r#"1:7 "-1" -1 is out of range | it must be between 1 and 9"#),
        (Toml, "key = true",  &number,  r#"1:7 "true" expected a number, found a boolean | write a number such as `0.5`, without quotes"#),
        (Toml, "key = nan",   &number,  r#"1:7 "nan" expected a number, found NaN | write a finite number"#),
        (Toml, "key = 1.5",   &number,  r#"1:7 "1.5" 1.5 is out of range | it must be between 0 and 1"#),
        (Toml, "key = 5",     &duration, r#"1:7 "5" expected a duration, found the number 5 without a unit | write "5s" or "5ms""#),
        (Toml, "key = '5 s'", &duration, r#"1:7 "'5 s'" `5 s` is not a duration: ` s` is not a unit of time | write a whole number with `ms`, `s`, `m`, `h` or `d`, such as "250ms""#),
        (Toml, "key = '2h'",  &duration, r#"1:7 "'2h'" 2h is out of range | it must be between 1s and 1m"#),
        (Toml, "key = '64KB'", &size,   r#"1:7 "'64KB'" `64KB` is not a size: `KB` is not a unit of size | did you mean "64KiB"?"#),
        (Toml, "key = 64",    &size,    r#"1:7 "64" expected a size, found the number 64 without a unit | write "64B" if bytes are meant"#),
        (Toml, "key = '1GiB'", &size,   r#"1:7 "'1GiB'" 1GiB is out of range | it must be between 1KiB and 1MiB"#),
        (Toml, "key = 'column'", &word, r#"1:7 "'column'" "column" is not known here | did you mean "columns"? Known: "columns", "message""#),
        (Toml, "key = 'x'",   &word,    r#"1:7 "'x'" "x" is not known here | write one of "columns", "message""#),
        (Toml, "key = 1",     &word,    r#"1:7 "1" expected one of a few words, found an integer | write one of "columns", "message""#),
        (Toml, "key = 'a'",   &list,    r#"1:7 "'a'" expected an array, found a string | put it in brackets: ["a"]"#),
        (Toml, "key = ['a', 1]", &list, r#"1:13 "1" expected a string, found an integer | put it in quotes: "1""#),
    ];
    for (format, text, read, expected) in cases {
        assert_eq!(check(*format, text, read), [*expected], "{text}");
    }
}

#[test]
fn keys_that_miss_and_keys_that_nobody_knows_are_reported_together() {
    let text = "[pump]\nspeeed = 7\ncolour = 'red'\n\n[[valve]]\n[[valve]]\nname = 'b'\n";
    let (sources, node, mut issues) = parsed(Format::Toml, text);
    let node = node.unwrap();
    let mut root = TableReader::root(&node, &mut issues).unwrap();
    root.table(
        "pump",
        |mut pump, issues| {
            let name = pump.required("name", read::string, issues);
            pump.optional("speed", read::integer(0..=10), issues);
            pump.finish(issues);
            name
        },
        &mut issues,
    );
    let valves = root.tables(
        "valve",
        |mut valve, issues| {
            let name = valve.required_like("name", "name = \"a\"", read::string, issues);
            valve.finish(issues);
            name
        },
        &mut issues,
    );
    root.finish(&mut issues);
    issues.sort();
    assert_eq!(valves, ["b"]);
    assert_eq!(
        lines(&sources, &issues),
        [
            r#"1:1 "[pump]" `name` is missing in `pump` | add the key `name`"#,
            r#"2:1 "speeed" unknown key `speeed` in `pump` | did you mean `speed`?"#,
            r#"3:1 "colour" unknown key `colour` in `pump` | known keys: `name`, `speed`"#,
            r#"5:1 "[[valve]]" `name` is missing in `valve` | add the key `name`, such as `name = "a"`"#,
        ]
    );
}

#[test]
fn one_table_and_several_are_not_mixed_up() {
    let text = "[valve]\nname = 'a'\n[[pump]]\nname = 'b'\n";
    let (sources, node, mut issues) = parsed(Format::Toml, text);
    let node = node.unwrap();
    let mut root = TableReader::root(&node, &mut issues).unwrap();
    root.tables("valve", |_, _| Some(()), &mut issues);
    root.table("pump", |_, _| Some(()), &mut issues);
    root.finish(&mut issues);
    assert_eq!(
        lines(&sources, &issues),
        [
            r#"1:1 "[valve]" expected an array of tables, found a table | there may be several: write `[[valve]]`, or in YAML `- ` before each one"#,
            r#"3:1 "[[pump]]" expected a table, found an array | there is only one `pump`: write `[pump]`, or in YAML no `- ` before it"#,
        ]
    );
}

#[test]
fn a_part_of_a_string_has_a_place_of_its_own() {
    #[rustfmt::skip]
    let cases = [
        // format        text                    marked for bytes 2..4
        (Format::Toml, r#"key = "ab{c}""#,       "{c"),
        (Format::Toml, "key = 'ab{c}'",          "{c"),
        (Format::Toml, "key = '''ab{c}'''",      "{c"),
        (Format::Toml, r#"key = "\u0061b{c}""#,  r#""\u0061b{c}""#),
        (Format::Yaml, "key: ab{c}",             "{c"),
        (Format::Yaml, "é: 'ab{c}'",             "{c"),
        (Format::Yaml, r#"key: "\x61b{c}""#,     r#""\x61b{c}""#),
    ];
    for (format, text, expected) in cases {
        let (sources, node, issues) = parsed(format, text);
        assert!(issues.is_empty(), "{text}");
        let node = node.unwrap();
        let value = &node.as_table().unwrap().entries[0].value;
        assert_eq!(sources.slice(value.span_within(2..4)), expected, "{text}");
    }
}
