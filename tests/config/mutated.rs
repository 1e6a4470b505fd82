//! Wrong configurations made from the example, one change each (main.23): whatever is changed, the message
//! names the place of the change and says what to do.

use std::fs;
use std::ops::Range;

use tidegate::config::Loaded;
use tidegate_settings::{Entry, Format, Issue, Issues, Node, NodeValue, Sources, parse};

use crate::harness::{
    Case, Folder, PRESS_HALL, PRESS_HALL_MAPPING, PRESS_HALL_MAPPING_YAML, check,
};

const PRESS_HALL_YAML: &str = include_str!("press-hall.yaml");

/// A key of the example.
struct Written {
    /// Where it is, as in `uplink.batch.age`.
    path: String,
    name: String,
    key: Range<usize>,
    value: Range<usize>,
    kind: &'static str,
    /// Whether it stands on a line of its own.
    alone: bool,
}

/// A file of the example in one of the two languages.
struct Example {
    /// The configuration.
    loads: &'static str,
    /// The file that is changed.
    file: &'static str,
    text: &'static str,
    keys: Vec<Written>,
    folder: Folder,
}

impl Example {
    fn in_toml() -> Self {
        let mapping = ("mappings/press-hall.toml", PRESS_HALL_MAPPING);
        Self::new("tidegate.toml", "tidegate.toml", PRESS_HALL, mapping)
    }

    fn in_yaml() -> Self {
        let mapping = ("mappings/press-hall.toml", PRESS_HALL_MAPPING);
        Self::new("tidegate.yaml", "tidegate.yaml", PRESS_HALL_YAML, mapping)
    }

    fn mapping_in_toml() -> Self {
        let config = ("tidegate.toml", PRESS_HALL);
        Self::new("tidegate.toml", "mappings/press-hall.toml", PRESS_HALL_MAPPING, config)
    }

    fn mapping_in_yaml() -> Self {
        let config = ("tidegate.toml", PRESS_HALL);
        Self::new("tidegate.toml", "mappings/press-hall.yaml", PRESS_HALL_MAPPING_YAML, config)
    }

    fn all() -> [Self; 4] {
        [Self::in_toml(), Self::in_yaml(), Self::mapping_in_toml(), Self::mapping_in_yaml()]
    }

    fn new(
        loads: &'static str,
        file: &'static str,
        text: &'static str,
        other: (&'static str, &'static str),
    ) -> Self {
        let root = tree(file, text);
        let mut keys = Vec::new();
        collect(&root, "", text, &mut keys);
        assert!(keys.len() >= 23, "the example has many keys");
        let folder = Folder::with(&[(file, text), other]);
        Self { loads, file, text, keys, folder }
    }

    /// Returns whether the changed file is the configuration itself.
    fn is_config(&self) -> bool {
        self.loads == self.file
    }

    /// Loads the example with `part` of it replaced.
    fn with(&self, part: Range<usize>, new: &str) -> Loaded {
        let text = [&self.text[..part.start], new, &self.text[part.end..]].concat();
        fs::write(self.folder.file(self.file), text).unwrap();
        self.folder.load(self.loads)
    }

    /// Finds an issue of the changed file.
    fn find<'l>(&self, loaded: &'l Loaded, wanted: impl Fn(&Issue) -> bool) -> Option<&'l Issue> {
        let here = |issue: &Issue| loaded.sources.name(issue.at.source).ends_with(self.file);
        loaded.issues.iter().find(|issue| here(issue) && wanted(issue))
    }

    /// Returns the line of a place of the unchanged text.
    fn line_of(&self, byte: usize) -> usize {
        1 + self.text[..byte].matches('\n').count()
    }

    fn lines(&self, loaded: &Loaded) -> String {
        self.folder.lines(loaded).join("\n")
    }
}

fn tree(file: &str, text: &str) -> Node {
    let source = Sources::default().add(file, text);
    parse(source, Format::from_name(file).unwrap(), text, &mut Issues::default()).unwrap()
}

fn collect(node: &Node, path: &str, text: &str, keys: &mut Vec<Written>) {
    match &node.value {
        NodeValue::Table(table) => {
            for Entry { key, value } in &table.entries {
                let path = format!("{path}.{}", key.name).trim_start_matches('.').to_owned();
                let line = text[..key.span.start].rsplit('\n').next().unwrap();
                let header = line.starts_with('[');
                if !header {
                    keys.push(Written {
                        path: path.clone(),
                        name: key.name.clone(),
                        key: key.span.range(),
                        value: value.span.range(),
                        kind: value.kind(),
                        alone: line.trim().is_empty(),
                    });
                }
                collect(value, &path, text, keys);
            }
        }
        NodeValue::Array(items) => items.iter().for_each(|item| collect(item, path, text, keys)),
        _ => {}
    }
}

/// Every issue has a place in its text and says what to do.
fn assert_useful(loaded: &Loaded, what: &str) {
    for issue in loaded.issues.iter() {
        let text = loaded.sources.text(issue.at.source);
        assert!(text.get(issue.at.range()).is_some(), "{what}: {issue:?}");
        assert!(issue.hint.as_ref().is_some_and(|hint| !hint.is_empty()), "{what}: {issue:?}");
        assert!(!issue.message.is_empty(), "{what}: {issue:?}");
    }
    assert_eq!(loaded.config.is_none(), loaded.issues.has_errors(), "{what}");
}

#[test]
fn a_misspelt_key_is_found_and_the_right_one_named() {
    let mut cases = 0;
    for example in Example::all() {
        for key in &example.keys {
            let name = &key.name;
            let middle = name.len() / 2;
            let variants = [
                format!("{}{}", &name[..middle], &name[middle + 1..]),
                format!("{}{name}", &name[..1]),
                name.replacen(&name[middle..=middle], "q", 1),
            ];
            for variant in variants {
                let loaded = example.with(key.key.clone(), &variant);
                let what = format!("{} as {variant}\n{}", key.path, example.lines(&loaded));
                assert_useful(&loaded, &what);
                let place = key.key.start..key.key.start + variant.len();
                let issue = example.find(&loaded, |issue| issue.at.range() == place).expect(&what);
                assert!(issue.message.starts_with(&format!("unknown key `{variant}`")), "{what}");
                assert_eq!(issue.hint, Some(format!("did you mean `{name}`?")), "{what}");
                let errors = loaded.issues.error_count();
                // Without its `each` a mapping has no `{member}` either.
                assert!(errors == 1 || !example.is_config(), "one mistake, one message: {what}");
                cases += 1;
            }
        }
    }
    assert!(cases > 300, "{cases} cases");
}

#[test]
fn a_value_of_a_wrong_type_is_marked_exactly() {
    for example in Example::all() {
        for key in &example.keys {
            let new = match key.kind {
                "a string" => "true",
                "a boolean" => "12345",
                "an integer" | "a float" => "\"many\"",
                _ => "2.5",
            };
            let container = matches!(key.kind, "a table" | "an array");
            // The place of a table or array in block style is only where it begins.
            if container && !example.text[key.value.clone()].starts_with(['[', '{']) {
                continue;
            }
            let loaded = example.with(key.value.clone(), new);
            let what = format!("{} = {new}\n{}", key.path, example.lines(&loaded));
            assert_useful(&loaded, &what);
            let place = key.value.start..key.value.start + new.len();
            let issue = example.find(&loaded, |issue| issue.at.range() == place).expect(&what);
            assert!(issue.message.starts_with("expected"), "{what}");
            assert!(issue.message.contains(", found "), "{what}");
        }
    }
}

#[test]
fn a_key_that_is_left_out_is_missed_or_has_a_default() {
    const REQUIRED: [&str; 8] = [
        "gateway.id",
        "gateway.data-dir",
        "opcua.name",
        "opcua.endpoint",
        "uplink.name",
        "uplink.url",
        "uplink.topics",
        "uplink.topic",
    ];
    let example = Example::in_toml();
    let mut missed = Vec::new();
    for key in example.keys.iter().filter(|key| key.alone) {
        let end = key.value.end + example.text[key.value.end..].find('\n').unwrap() + 1;
        let loaded = example.with(key.key.start..end, "");
        let what = format!("without {}\n{}", key.path, example.lines(&loaded));
        assert_useful(&loaded, &what);
        if !REQUIRED.contains(&key.path.as_str()) {
            assert!(!loaded.issues.has_errors(), "{what}");
            continue;
        }
        let (table, name) = key.path.rsplit_once('.').unwrap();
        let message = format!("`{name}` is missing in `{table}`");
        let issue = example.find(&loaded, |issue| issue.message == message).expect(&what);
        // The header of the table is marked.
        let header = example.text[..key.key.start].rfind(&format!("[{table}]")).unwrap();
        assert_eq!(loaded.sources.position(issue.at).line, example.line_of(header), "{what}");
        assert!(issue.hint.as_ref().unwrap().contains(&format!("`{name}`")), "{what}");
        missed.push(key.path.as_str());
    }
    assert_eq!(missed, REQUIRED);
}

#[test]
fn a_key_that_is_given_twice_is_marked_where_it_comes_again() {
    for example in Example::all() {
        for key in example.keys.iter().filter(|key| key.alone && key.kind != "a table") {
            let line_start = example.text[..key.key.start].rfind('\n').map_or(0, |at| at + 1);
            let Some(rest) = example.text[key.value.end..].find('\n') else { continue };
            let line_end = key.value.end + rest + 1;
            let line = &example.text[line_start..line_end];
            if line.matches('\n').count() > 1 || example.text[key.value.clone()].is_empty() {
                continue;
            }
            let loaded = example.with(line_end..line_end, line);
            let what = format!("{} twice\n{}", key.path, example.lines(&loaded));
            assert_useful(&loaded, &what);
            let again = key.key.start + line.len();
            let issue = example.find(&loaded, |issue| issue.at.start == again).expect(&what);
            assert_eq!(issue.message, format!("`{}` is given twice", key.name), "{what}");
        }
    }
}

#[test]
fn a_file_cut_somewhere_is_read_without_panic() {
    for example in Example::all() {
        for cut in (0..example.text.len()).step_by(3) {
            let loaded = example.with(cut..example.text.len(), "");
            assert_useful(&loaded, &format!("cut at {cut}\n{}", example.lines(&loaded)));
        }
    }
}

#[test]
fn a_sign_changed_somewhere_is_survived_and_places_stay_inside() {
    for example in Example::all() {
        for at in (0..example.text.len()).step_by(3) {
            // Neighbours meet different signs.
            let signs = [
                "\"", "'", "[", "]", "{", "}", "=", ":", "\n", "\t", "#", "\u{e4}", "\0", ",", "-",
                "*",
            ];
            let sign = signs[(at * 7) % signs.len()];
            let loaded = example.with(at..at + 1, sign);
            assert_useful(&loaded, &format!("{sign:?} at {at}\n{}", example.lines(&loaded)));
        }
    }
}

#[test]
fn single_changes_of_the_example() {
    const NO_YAML: &str = "7:32 `\"mappings/*.yaml\"` hint: no file matches `mappings/*.yaml` | remove it, or put \
                           a mapping file there";
    #[rustfmt::skip]
    let changes = [
        // from                             to                              what is found besides the hint
        ("press-hall-1",                    "press+hall",                   r##"5:6 `"press+hall"` `press+hall` cannot be a gateway's id | use 1 to 64 letters, digits, `-`, `_` and `.`: it is one level of topics"##),
        ("mappings/*.toml",                 "mappings/*.json",               r##"7:13 `"mappings/*.json"` hint: no file matches `mappings/*.json` | remove it, or put a mapping file there"##),
        ("\"127.0.0.1:1883\"",              "\"0.0.0.0:1883\"",             r##"10:11 `"0.0.0.0:1883"` `0.0.0.0:1883` is not a loopback address, and `anonymous` lets anyone in | listen on 127.0.0.1, or remove `anonymous` and add a `[[principal]]`"##),
        ("127.0.0.1:8080",                  "127.0.0.1:1883",               r##"18:11 `"127.0.0.1:1883"` `127.0.0.1:1883` is taken already, by `127.0.0.1:1883` | choose another port"##),
        ("[[opcua]]",                       "[opcua]",                      r##"21:1 `[opcua]` expected an array of tables, found a table | there may be several: write `[[opcua]]`, or in YAML `- ` before each one"##),
        ("opc.tcp://127.0.0.1:4840",        "opc.tcp:/127.0.0.1:4840",      r##"23:12 `"opc.tcp:/127.0.0.1:4840"` an OPC UA endpoint begins with `opc.tcp://` | write it like "opc.tcp://192.0.2.7:4840""##),
        ("\"none\"",                        "\"non\"",                      r##"24:12 `"non"` "non" is not known here | did you mean "none"? Known: "none", "sign", "sign-and-encrypt""##),
        ("\"hall1/#\"",                     "\"hall1#\"",                   r##"29:11 `"hall1#"` `hall1#` is not a topic filter: `#` must stand alone in the last level | `+` stands alone for one level, `#` alone at the end for the rest, such as "hall1/+/temperature""##),
        ("{gateway}/{encoding}",            "{gateway}/{encodng}",          r##"30:9 `"tidegate/{gateway}/{encodng}"` `tidegate/{gateway}/{encodng}` is not a topic: `{encodng}` is not known here | known are `{gateway}`, `{uplink}`, `{encoding}` and `{topic}`"##),
        ("cmd/#",                           "cmd",                          r##"31:12 `"tidegate/{gateway}/cmd"` `tidegate/{gateway}/cmd` is not a fixed topic with `/#` behind it | write it like "tidegate/{gateway}/cmd/#": what `#` stands for is the local topic"##),
        ("\"columns\"",                     "\"message\"",                  r##"30:9 `"tidegate/{gateway}/{encoding}"` each reading needs a topic of its own in this format, and `{topic}` is missing | write it like "tidegate/{gateway}/{topic}"
34:1 `batch` hint: `batch` has no effect: this format sends each reading alone | remove it, or write `format = "columns"`"##),
        ("\"zlib\"",                        "zlib",                         r##"33:12 `zlib` `zlib` is not a value | put text in quotes: "zlib""##),
        ("readings = 500",                  "readings = 500000",            r##"34:22 `500000` 500000 is out of range | it must be between 1 and 100000"##),
        ("\"1s\"",                          "\"1 s\"",                      r##"34:33 `"1 s"` `1 s` is not a duration: ` s` is not a unit of time | write a whole number with `ms`, `s`, `m`, `h` or `d`, such as "250ms""##),
        ("\"64KiB\"",                       "\"64KB\"",                     r##"34:47 `"64KB"` `64KB` is not a size: `KB` is not a unit of size | did you mean "64KiB"?"##),
        ("anonymous = true\n\n[http]",      "anonymous = yes\n\n[http]",    r##"15:13 `yes` `yes` is not a value | write `true`"##),
        ("[coap]",                          "[coap",                        r##"13:6 `` unclosed table | expected here: `]`"##),
        ("mqtt://127.0.0.1:1884",           "mqtt:127.0.0.1:1884",          r##"28:7 `"mqtt:127.0.0.1:1884"` `mqtt:127.0.0.1:1884` is not a URL | write it like "mqtts://cloud.example:8883""##),
        ("name = \"plc7\"\n",               "name = \"plc7\n",              r##"22:13 `` invalid basic string | expected here: `"`"##),
    ];
    let cases: Vec<Case> = changes
        .into_iter()
        .map(|(from, to, found)| {
            assert!(PRESS_HALL.contains(from), "{from}");
            let mut expected: Vec<String> = found.lines().map(str::to_owned).collect();
            expected.push(NO_YAML.to_owned());
            expected.sort_by_key(|line| {
                let mut place =
                    line.split([':', ' ']).map(|number| number.parse::<usize>().unwrap_or(0));
                (place.next(), place.next())
            });
            Case::of_toml(&PRESS_HALL.replacen(from, to, 1), expected)
        })
        .collect();
    check(&cases);
}
