//! Parts of the configuration that files alone cannot reach.

use std::fs;

use proptest::prelude::*;
use tidegate_model::UplinkName;
use tidegate_settings::{Issue, Issues, Sources, Span};

use super::files;
use super::mask::mask_text;
use super::{GatewayId, Secret, Style, TopicTemplate, TopicTemplateError, render, render_json};

#[test]
fn a_glob_finds_files_in_order() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["m/b.toml", "m/a.toml", "m/.hidden.toml", "m/c.yaml", "n/a.toml", "a.toml"] {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    fs::create_dir(folder.path().join("m/folder.toml")).unwrap();
    #[rustfmt::skip]
    let cases: [(&str, &[&str]); 8] = [
        ("m/*.toml",    &["m/a.toml", "m/b.toml"]),
        ("m/.*.toml",   &["m/.hidden.toml"]),
        ("?/a.toml",    &["m/a.toml", "n/a.toml"]),
        ("./m/../*",    &["m/../a.toml"]),
        ("m/a.toml",    &["m/a.toml"]),
        ("m/none.toml", &[]),
        ("none/*.toml", &[]),
        ("a.toml/*",    &[]),
    ];
    for (pattern, expected) in cases {
        let found = files::expand(folder.path(), pattern).unwrap();
        let expected: Vec<_> = expected.iter().map(|file| folder.path().join(file)).collect();
        assert_eq!(found, expected, "{pattern}");
    }
    let absolute = format!("{}/n/*", folder.path().display());
    let elsewhere = std::path::Path::new("/nowhere");
    assert_eq!(files::expand(elsewhere, &absolute).unwrap(), [folder.path().join("n/a.toml")]);
}

#[test]
fn secrets_are_masked_and_nothing_else() {
    #[rustfmt::skip]
    let cases = [
        ("password = \"a b\" # c",              "password = ***** # c"),
        ("password: a b # c",                   "password: *** # c"),
        ("password = { file = \"x\" }",         "password = { file = \"x\" }"),
        ("password = {credential=\"x\"}",       "password = {credential=\"x\"}"),
        ("{ user = 1, password = \"x\", b = 2 }", "{ user = 1, password = ***, b = 2 }"),
        ("password = { value = x, env = \"E\" }", "password = { value = *, env = \"E\" }"),
        ("password = \"ä\"\nx = 1",             "password = *×*\nx = 1"),
        ("password =\nx = 1",                   "password =\nx = 1"),
        ("password = \"\"\"\na\nb\"\"\"\nx",    "password = ***\n*\n****\nx"),
        ("  password: |\n    a\n  x: 1",        "  password: *\n*****\n  x: 1"),
        ("# the password is in a file",         "# the password is in a file"),
        ("username = \"x\"",                    "username = \"x\""),
        ("allow-insecure-password = true",      "allow-insecure-password = true"),
        ("url = \"mqtt://a:b@c:1\"",            "url = \"mqtt://***@c:1\""),
        ("url = \"mqtt://c:1/a@b\"",            "url = \"mqtt://c:1/a@b\""),
        ("keys = 1",                            "keys = 1"),
    ];
    for (text, expected) in cases {
        assert_eq!(mask_text(text), expected, "{text}");
    }
}

#[test]
fn a_topic_template_knows_its_placeholders() {
    let gateway = GatewayId::new("gw").unwrap();
    let uplink = UplinkName::new("cloud").unwrap();
    let template = |text: &str| TopicTemplate::new(text, &gateway, &uplink);
    let filled = template("a/{gateway}-{uplink}/{encoding}/{topic}/b").unwrap();
    assert_eq!(filled.fill("bson.z", "x/y"), "a/gw-cloud/bson.z/x/y/b");
    assert!(filled.has_encoding() && filled.has_topic());
    assert_eq!(filled.to_string(), "a/gw-cloud/{encoding}/{topic}/b");
    assert!(!template("a").unwrap().has_topic());
    for wrong in ["a/{", "a/}", "a/{b", "a/{{topic}}", "{topic"] {
        assert_eq!(template(wrong), Err(TopicTemplateError::Brace), "{wrong}");
    }
    assert_eq!(template("{room}"), Err(TopicTemplateError::Unknown("room".into())));
    assert!(matches!(template("a/#"), Err(TopicTemplateError::Topic(_))));
    assert!(matches!(template(""), Err(TopicTemplateError::Topic(_))));
}

#[test]
fn a_secret_does_not_print_itself() {
    assert_eq!(format!("{:?}", Secret::new("hunter2")), "Secret(…)");
}

proptest! {
    /// Any place in any text can be shown, and every byte keeps its place when secrets are masked.
    #[test]
    fn every_place_can_be_shown(
        text in "(password = |url = |[a-zäß€\u{1F600}\"'{}\r\n\t:@/#=\u{85}\u{2028}]){0,60}",
        start in any::<prop::sample::Index>(),
        len in 0..40_usize,
    ) {
        let masked = mask_text(&text);
        prop_assert_eq!(masked.len(), text.len());
        let boundaries: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        let first = start.index(boundaries.len());
        let last = (first + len).min(boundaries.len() - 1);
        let mut sources = Sources::default();
        let source = sources.add("file.toml", text.as_str());
        let at = Span::new(source, boundaries[first]..boundaries[last]);
        let mut issues = Issues::default();
        issues.push(Issue::error(at, "m").with_hint("h").with_related(Span::new(source, 0..0), "n"));
        for style in [Style::Plain, Style::Color] {
            prop_assert!(render(&issues, &sources, style).contains("file.toml"));
        }
        let position = sources.position(at);
        let place = format!("file.toml:{}:{} ", position.line, position.column);
        let shown = render(&issues, &sources, Style::Plain);
        prop_assert!(shown.contains(&place), "{} not in {}", place, shown);
        let json = render_json(&issues, &sources);
        prop_assert!(json.contains(&format!("\"line\":{},", position.line)), "{}", json);
    }
}
