//! Every problem of a file, with its place and what to do.

use tidegate_settings::Format;

use super::{compile, set};
use crate::Address;

/// An entry of each table without any fault, to which a test adds one.
const COAP: &str = "[[coap]]\nresource = '/s/{room}'\ntopic = 'h/{room}'\n";
const HTTP: &str = "[[http]]\npath = '/in/{device}'\ntopic = 'h/{device}'\n";
const MEMBERS: &str = "[[http]]\npath = '/in/{device}'\ntopic = 'h/{device}/{member}'\n";
const OPCUA: &str = "[[opcua]]\nserver = 'plc7'\nnode = 'nsu=urn:p;s=P.{n}.T'\ntopic = 'h/{n}/t'\n";
const METHOD: &str = "[[opcua]]\nserver = 'plc7'\nnode = 'nsu=urn:p;s=P.{n}'\ntopic = 'h/{n}/t'\n";
const MQTT: &str = "[[mqtt]]\nfilter = 'old/{id}/T'\ntopic = 'h/{id}'\n";

fn problems(text: &str) -> Vec<String> {
    let (set, problems) = compile(Format::Toml, text);
    let only_hints = problems.iter().all(|problem| problem.contains("hint: "));
    assert_eq!(set.is_some(), only_hints, "a set, if there is no error: {problems:#?}");
    problems
}

/// main.5: one fault, one message, at its place.
#[test]
fn one_fault_gives_one_message() {
    #[rustfmt::skip]
    let cases = [
        (COAP, "tpye = 'float'",            r#"4:1 "tpye" unknown key `tpye` in `coap` | did you mean `type`?"#),
        (COAP, "type = 'flaot'",            r#"4:8 "'flaot'" "flaot" is not known here | did you mean "float"? Known: "float", "integer", "boolean", "string""#),
        (COAP, "type = 1",                  r#"4:8 "1" expected one of a few words, found an integer | write one of "float", "integer", "boolean", "string""#),
        (COAP, "unit = ''\ntype = 'float'", r#"4:8 "''" `` is not a unit: must not be empty | write a symbol such as "Cel" or "kg""#),
        (COAP, "qos = 3",                   r#"4:7 "3" 3 is out of range | it must be between 0 and 2"#),
        (COAP, "retain = 'yes'",            r#"4:10 "'yes'" expected a boolean, found a string | write `true` or `false`, without quotes"#),
        (COAP, "publish = 'bare'",          r#"4:11 "'bare'" "bare" is not known here | write one of "envelope", "value""#),
        (COAP, "payload = 'xml'",           r#"4:11 "'xml'" "xml" is not known here | write one of "text", "json", "cbor", "senml", "raw""#),
        (COAP, "each = 'member'",           r#"3:9 "'h/{room}'" with each = "member" all members get one topic | put `{member}` into the topic"#),
        (COAP, "writable = true",           r#"4:1 "writable" `writable` cannot be used in `[[coap]]` | it is for OPC UA nodes; other devices get commands by subscribing to `<topic>/set`"#),
        (COAP, "deadband = 0.5",            r#"4:1 "deadband" `deadband` cannot be used in `[[coap]]` | it is for OPC UA nodes; `[[uplink.rule]]` has a deadband for every topic"#),
        (COAP, "transform = 'vale / 10'",   r#"4:14 "vale" there is no `vale` here | did you mean `value`?"#),
        (COAP, "transform = 'value / \"x\"'", r#"4:22 "\"x\"" `/` needs a number, found a string | number(x) reads a number from a string"#),
        (COAP, "transform = \"value / \\\"x\\\"\"", r#"4:13 "\"value / \\\"x\\\"\"" `/` needs a number, found a string | number(x) reads a number from a string"#),
        (COAP, "transform = 10",            r#"4:13 "10" expected a string, found an integer | put it in quotes: "10""#),
        (COAP, "when = 'value / 2'",        r#"4:9 "value / 2" `when` needs true or false, found a number | compare it with something, such as `value > 0`"#),
        (COAP, "transform = 'value / 2'\ntype = 'boolean'", r#"5:8 "'boolean'" `transform` gives a number, and `type` asks for boolean | `type` is about the result of `transform`: change one of the two"#),
        (COAP, "unit = 'Cel'",              r#"4:8 hint: "'Cel'" a value with a unit should be a number, and nothing says that it is one | add type = "float", so that a text is refused"#),
        (MEMBERS, "payload = 'text'\neach = 'member'", r#"5:8 "'member'" payload = "text" has no members | write payload = "json", or remove `each`"#),
        (MQTT, "payload = 'cbor'",          r#"4:11 "'cbor'" "cbor" is not known here | write one of "text", "json", "raw""#),
        (MQTT, "sampling = '1s'",           r#"4:1 "sampling" `sampling` cannot be used in `[[mqtt]]` | it is for OPC UA nodes; remove the key"#),
        (OPCUA, "sampling = '2d'",          r#"5:12 "'2d'" 2d is out of range | it must be between 0s and 1d"#),
        (OPCUA, "deadband = -1",            r#"5:12 "-1" -1 is out of range | it must be between 0 and "#),
        (OPCUA, "payload = 'text'",         r#"5:1 "payload" `payload` cannot be used in `[[opcua]]` | OPC UA values come typed; remove the key"#),
        (OPCUA, "writable = 'yes'",         r#"5:12 "'yes'" expected true, false or a table, found a string | write true, or limits such as { min = 0, max = 90 }"#),
        (OPCUA, "writable = { min = 9, max = 1 }", r#"5:20 "9" the minimum 9 is above the maximum 1 | exchange them"#),
        (OPCUA, "writable = { maximum = 1 }", r#"5:14 "maximum" unknown key `maximum` in `writable` | known keys: `max`, `min`, `principals`"#),
        (OPCUA, "writable = { principals = [] }", r#"5:27 "[]" nobody may command | name somebody, or remove the entry's right to commands"#),
        (METHOD, "method = 'nsu=urn:p;s=P.{m}.Reset'", r#"5:10 "'nsu=urn:p;s=P.{m}.Reset'" `{m}` is not a capture of the object | use the captures of `node`"#),
        (METHOD, "method = 'nsu=urn:p;i=7'\nunit = 'Cel'", r#"6:1 "unit" `unit` is about values, and a method has none | remove the key, or give the value an entry of its own"#),
        (METHOD, "method = 'nsu=urn:p;i=7'\nprincipals = []", r#"6:14 "[]" nobody may command | name somebody, or remove the entry's right to commands"#),
        (COAP, "method = 'i=7'",            r#"4:1 "method" `method` cannot be used in `[[coap]]` | it is for OPC UA nodes; remove the key"#),
        (OPCUA, "writable = true\ntransform = 'value / 10'", r#"5:12 "true" a transform has no way back to the device | remove `transform` and scale where the value is used, or remove `writable`"#),
    ];
    for (entry, fault, expected) in cases {
        let problems = problems(&format!("{entry}{fault}\n"));
        assert_eq!(problems.len(), 1, "{fault}: {problems:#?}");
        assert!(problems[0].starts_with(expected), "{fault}: {}", problems[0]);
    }
}

/// main.5
#[test]
fn wrong_addresses_are_refused() {
    #[rustfmt::skip]
    let cases = [
        ("[[coap]]\nresource = 's/{a}'\ntopic = 'h/{a}'",       r#"2:12 "'s/{a}'" `s/{a}` is not a path: a path begins with `/` | write `/s/{a}`"#),
        ("[[coap]]\nresource = '/s/{a}{b}'\ntopic = 'h/{a}'",   r#"2:16 "{a}{b}" `/s/{a}{b}` is not a path: `{a}{b}` has more than one capture | put them into two segments"#),
        ("[[coap]]\nresource = '/s/{1}'\ntopic = 'h'",          r#"2:17 "1" `/s/{1}` is not a path: `1` is not a capture name: a letter, then up to 31 letters, digits, `-` or `_` | write a name such as `{room}`"#),
        ("[[coap]]\nresource = '/s?a=1'\ntopic = 'h'",          r#"2:15 "?a=1" a path ends before `?` and `#` | write the path alone; a query is not part of the address"#),
        ("[[coap]]\nresource = '/a%20b'\ntopic = 'h'",          r#"2:15 hint: "%20" a pattern is compared with decoded paths | write the character itself"#),
        ("[[coap]]\nresource = '/.well-known/x'\ntopic = 'h'",  r#"2:12 "'/.well-known/x'" `/.well-known` is the gateway's own | begin with a segment of your own"#),
        ("[[coap]]\npath = '/s'\ntopic = 'h'",                  r#"2:1 "path" `path` belongs to another protocol | write `resource`"#),
        ("[[coap]]\ntopic = 'h'",                               r#"1:1 "[[coap]]" `resource` is missing in `coap` | add the key `resource`, such as `"/sensors/{room}/temperature"`"#),
        ("[[coap]]\nresource = '/s'",                           r#"1:1 "[[coap]]" `topic` is missing in `coap` | add the key `topic`, such as `"hall1/{room}/temperature"`"#),
        ("[[http]]\npath = '/v1/x'\ntopic = 'h'",               r#"2:8 "'/v1/x'" `/v1` is the gateway's own | write `/ingest/v1/x`"#),
        ("[[http]]\npath = '/metrics'\ntopic = 'h'",            r#"2:8 "'/metrics'" `/metrics` is the gateway's own | write `/ingest/metrics`"#),
        ("[[mqtt]]\nfilter = 'a/{x'\ntopic = 'h/{x}'",          r#"2:13 "{x" `a/{x` is not a filter: `{` without `}` behind it | close it in the same level: `{name}`"#),
        ("[[mqtt]]\nfilter = 'a/#/b'\ntopic = 'h'",             r#"2:11 "a/#/b" `a/#/b` is not a filter: `#` must be the last level | write `+` for one level"#),
        ("[[opcua]]\nserver = 'plc8'\nnode = 'i=1'\ntopic = 'h'",   r#"2:10 "'plc8'" there is no OPC UA server "plc8" | did you mean "plc7"?"#),
        ("[[opcua]]\nserver = 'press'\nnode = 'i=1'\ntopic = 'h'",  r#"2:10 "'press'" there is no OPC UA server "press" | configured servers: "plc7", "oven""#),
        ("[[opcua]]\nserver = 'plc7'\nnode = 'ns=2;s=a'\ntopic = 'h'", r#"3:9 "ns=2" `ns=2;s=a` is not a node: a namespace index is valid for one run of the server only; write nsu=URI instead of `ns=2` | the URI is in the server's NamespaceArray (i=2255)"#),
        ("[[opcua]]\nserver = 'plc7'\nnode = 'nsu=urn:p;s={a}{b}'\ntopic = 'h/{a}/{b}'", r#"3:8 "'nsu=urn:p;s={a}{b}'" `nsu=urn:p;s={a}{b}` is not a node: two captures need literal text between them | put literal text between them"#),
        ("[[mqt]]\nfilter = 'a'\ntopic = 'h'",                  r#"1:3 "mqt" unknown key `mqt` | did you mean `mqtt`?"#),
        ("[mqtt]\nfilter = 'a'\ntopic = 'h'",                   r#"1:1 "[mqtt]" expected an array of tables, found a table | there may be several: write `[[mqtt]]`, or in YAML `- ` before each one"#),
    ];
    for (text, expected) in cases {
        assert_eq!(problems(text), [expected], "{text}");
    }
}

/// main.5: names used right but not left.
#[test]
fn wrong_topics_are_refused() {
    #[rustfmt::skip]
    let cases = [
        ("h/{rom}",         r#"3:12 "{rom}" `h/{rom}` is not a topic: `{rom}` is not captured on the left | did you mean `{room}`?"#),
        ("h/{member}",      r#"3:12 "{member}" `h/{member}` is not a topic: `{member}` is the name of a member, and this entry does not take members apart | add each = "member""#),
        ("h/+",             r#"3:12 "+" `h/+` is not a topic: a topic has no wildcards | write a `{name}` on the left and use it here"#),
        ("$SYS/{room}",     r#"3:10 "$" `$SYS/{room}` is not a topic: topics under `$` are the gateway's own | begin with a level of your own"#),
        ("h/{room}/set",    r#"3:18 "/set" topics that end in `/set` are for commands | give the readings another topic"#),
        ("",                r#"3:9 "''" `` is not a topic: it must not be empty | write at least one level"#),
    ];
    for (topic, expected) in cases {
        let problems =
            problems(&format!("[[coap]]\nresource = '/s/{{room}}'\ntopic = '{topic}'\n"));
        assert_eq!(problems.len(), 1, "{topic}: {problems:#?}");
        assert!(
            problems[0].starts_with(expected.trim_end_matches('"')),
            "{topic}: {}",
            problems[0]
        );
    }
}

/// main.5: everything wrong with a file comes at once, in the order of the file.
#[test]
fn all_problems_are_found_in_one_pass() {
    let problems = problems(
        r#"
[[coap]]
resource = "/sensors/{room"
topic = "hall1/{rom}/temperature"
unit = "Cel"

[[http]]
path = "/v1/{device}"
each = "members"
topic = "hall1/{device}/{member}"
transform = "value / 0"

[[opcua]]
server = "plc9"
node = "nsu=urn:example:press;s=Press.{n}.Setpoint"
topic = "hall1/setpoint"
writable = true
"#,
    );
    let places: Vec<&str> = problems.iter().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(places, ["3:22", "4:16", "5:8", "8:8", "9:8", "10:25", "11:22", "14:10", "16:9"]);
}

/// main.5: two mappings claiming one address.
#[test]
fn two_entries_cannot_claim_one_address() {
    let problems_of = |first: &str, second: &str| {
        let (_, problems) = compile(Format::Toml, &format!("{first}\n{second}\n"));
        problems
    };
    let coap = |path: &str| format!("[[coap]]\nresource = '{path}'\ntopic = 'h'");
    let mqtt = |filter: &str| format!("[[mqtt]]\nfilter = '{filter}'\ntopic = 'h'");
    let node =
        |node: &str| format!("[[opcua]]\nserver = 'plc7'\nnode = 'nsu=urn:p;{node}'\ntopic = 'h'");
    #[rustfmt::skip]
    let cases = [
        (coap("/a/{x}"),        coap("/{y}/b"),         true),
        (coap("/a/{x}"),        coap("/a/b"),           false),     // more literal levels win
        (coap("/a/{x}"),        coap("/b/{x}"),         false),
        (coap("/a/b"),          coap("/a/b"),           true),
        (coap("/a/p-{x}"),      coap("/a/{y}"),         true),
        (mqtt("a/{x}"),         mqtt("a/+"),            true),
        (mqtt("a/#"),           mqtt("a"),              true),
        (mqtt("a/#"),           mqtt("a/{x}/T"),        false),
        (node("s=P.{n}.T"),     node("s=P.{m}.T"),      true),
        (node("s=P.{n}.T"),     node("s=P.1.T"),        false),
        (node("i=7"),           node("i=7"),            true),
        (node("i=7"),           node("i=8"),            false),
        (node("g=72962B91-FA75-4AE6-8D28-B404DC7DAF63"), node("g=72962b91-fa75-4ae6-8d28-b404dc7daf63"), true),
        (coap("/a"),            "[[http]]\npath = '/a'\ntopic = 'h'".into(), false),
    ];
    for (first, second, expected) in cases {
        let problems = problems_of(&first, &second);
        assert_eq!(!problems.is_empty(), expected, "{first}\n{second}\n{problems:#?}");
    }
    assert_eq!(
        problems_of(&coap("/a/{x}"), &coap("/{y}/b")),
        [
            "5:12 \"'/{y}/b'\" two entries claim one resource | give one of them more literal levels \
          than the other, or remove one | 2:12 the first claim is here"
        ]
    );
}

#[test]
fn a_command_needs_one_target() {
    let entry = |node: &str, topic: &str| {
        format!(
            "[[opcua]]\nserver = 'plc7'\nnode = 'nsu=urn:p;s={node}'\ntopic = '{topic}'\nwritable = true\n"
        )
    };
    #[rustfmt::skip]
    let cases = [
        (entry("P.{n}.S", "h/{n}/s"),       ""),
        (entry("P.{n}.S", "h/press-{n}/s"), ""),
        (entry("P.S", "h/s"),               ""),
        (entry("P.{n}.S", "h/s"),           r#"4:9 "'h/s'" the topic does not tell which `{n}` to write to | put `{n}` into the topic, or remove `writable`"#),
        (entry("P.{n}.S", "h/{n}/{n}"),     r#"4:9 "'h/{n}/{n}'" the topic of a writable entry must be readable backwards: the capture `n` occurs twice | use each name once"#),
        (entry("{a}.{b}.S", "h/{a}-{b}"),   r#"4:9 "'h/{a}-{b}'" the topic of a writable entry must be readable backwards: one level has two captures: nothing says where the first ends | put them into two levels"#),
        (entry("P.{n}.S", "h/{n}") + &entry("Q.{n}.S", "h/{n}"), r#"9:9 "'h/{n}'" two entries claim one writable topic | a command would have two targets: give them different topics | 4:9 the first claim is here"#),
        (entry("P.{n}.S", "h/{n}/s") + &entry("P.S", "h/1/s"), ""),
    ];
    for (text, expected) in cases {
        assert_eq!(problems(&text).join("\n"), expected, "{text}");
    }
}

#[test]
fn captures_must_not_hide_words_of_expressions() {
    let text = |name: &str, rest: &str| {
        format!("[[coap]]\nresource = '/s/{{{name}}}'\ntopic = 'h/{{{name}}}'\n{rest}\n")
    };
    assert!(problems(&text("time", "")).is_empty());
    assert_eq!(
        problems(&text("time", "when = 'time > 0'")),
        [
            r#"4:8 "'time > 0'" the capture `time` has the name of a word of expressions | give the capture another name"#
        ]
    );
    assert_eq!(
        problems("[[coap]]\nresource = '/s/{member}'\neach = 'leaf'\ntopic = 'h/{member}'\n"),
        [
            r#"3:8 "'leaf'" `{member}` is the name of a member here, and the address captures it too | give the capture another name"#
        ]
    );
}

/// A unit of which something else says that it belongs to a number needs no hint.
#[test]
fn a_type_is_suggested_only_where_it_helps() {
    assert!(problems(&format!("{OPCUA}unit = 'Cel'\n")).is_empty());
    assert!(problems(&format!("{MQTT}unit = 'Cel'\ntransform = 'value / 10'\n")).is_empty());
    assert!(problems(&format!("{MQTT}unit = 'Cel'\ntype = 'integer'\n")).is_empty());
    assert_eq!(problems(&format!("{MQTT}unit = 'Cel'\ntransform = 'value.t'\n")).len(), 1);
}

/// main.5: a YAML value that begins with `{` must be quoted.
#[test]
fn yaml_braces_must_be_quoted() {
    let (set, problems) =
        compile(Format::Yaml, "coap:\n  - resource: /s/{room}\n    topic: {room}/temperature\n");
    assert!(set.is_none());
    assert_eq!(
        problems,
        [
            r#"3:12 "{room}/temperature" a YAML value that begins with `{` must be quoted | write '{room}/temperature'"#
        ]
    );
}

#[test]
fn places_inside_yaml_strings_are_exact() {
    let (_, problems) = compile(
        Format::Yaml,
        "coap:\n  - resource: /s/{room}\n    topic: h/{rom}\n    transform: value / tem\n",
    );
    let places: Vec<&str> = problems.iter().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(places, ["3:14", "4:24"]);
}

#[test]
fn entries_are_numbered_in_the_order_of_the_files() {
    let set = set(&format!("{MQTT}{OPCUA}sampling = '250ms'\ndeadband = 0.5\n{HTTP}{COAP}"));
    assert_eq!(set.generation(), 3);
    let tables: Vec<&str> = set
        .entries()
        .iter()
        .map(|entry| match entry.address() {
            Address::Coap(_) => "coap",
            Address::Http(_) => "http",
            Address::OpcUa(_) => "opcua",
            Address::Mqtt(_) => "mqtt",
        })
        .collect();
    assert_eq!(tables, ["coap", "http", "opcua", "mqtt"]);
    for (index, entry) in (0..).zip(set.entries()) {
        assert_eq!(entry.index(), index);
        assert_eq!(set.entry(index).map(crate::Entry::span), Some(entry.span()));
    }
    assert!(set.entry(4).is_none());
    let Address::OpcUa(address) = set.entries()[2].address() else { panic!("an OPC UA entry") };
    assert_eq!(address.server.as_str(), "plc7");
    assert_eq!(address.sampling, Some(std::time::Duration::from_millis(250)));
    assert_eq!(address.deadband, Some(0.5));
}

#[test]
fn several_files_are_one_set() {
    let mut sources = tidegate_settings::Sources::default();
    let mut issues = tidegate_settings::Issues::default();
    let files: Vec<_> =
        [(Format::Toml, COAP), (Format::Yaml, "http:\n  - path: /a\n    topic: b\n")]
            .into_iter()
            .filter_map(|(format, text)| {
                let file = sources.add("file", text);
                tidegate_settings::parse(file, format, text, &mut issues)
            })
            .collect();
    let environment = super::environment();
    let set = crate::MappingSet::compile(&files, &environment, &mut issues).unwrap();
    assert_eq!(set.entries().len(), 2);
    let twice = [files[0].clone(), files[0].clone()];
    assert!(crate::MappingSet::compile(&twice, &environment, &mut issues).is_none());
    assert_eq!(
        crate::MappingSet::compile(&[], &environment, &mut issues).unwrap().entries().len(),
        0
    );
}
