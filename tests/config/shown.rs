//! What people and programs see of an issue.

use tidegate::config::{LoadError, Loaded, Style, load, render, render_json};

use crate::harness::Folder;

const HEAD: &str = "[gateway]\nid = \"gw\"\ndata-dir = \"data\"\n";

fn plain(loaded: &Loaded, folder: &Folder) -> String {
    let path = folder.file("").display().to_string();
    render(&loaded.issues, &loaded.sources, Style::Plain).replace(&path, "")
}

#[test]
fn an_issue_shows_file_line_column_text_and_hint() {
    let folder = Folder::with(&[(
        "tidegate.toml",
        "[gateway]\nid = \"gw\"\ndatadir = \"data\"\n[mqtt]\nlisten = [\"0.0.0.0:1883\"]\nanonymous = true\n",
    )]);
    let shown = plain(&folder.load("tidegate.toml"), &folder);
    let expected = r#"Error: unknown key `datadir` in `gateway`
   ,-[ tidegate.toml:3:1 ]
   |
 3 | datadir = "data"
   | ^^^|^^^
   |    `----- here
   |
   | Help: did you mean `data-dir`?
---'

Error: `0.0.0.0:1883` is not a loopback address, and `anonymous` lets anyone in
   ,-[ tidegate.toml:5:11 ]
   |
 5 | listen = ["0.0.0.0:1883"]
   |           ^^^^^^^|^^^^^^
   |                  `-------- here
 6 | anonymous = true
   |             ^^|^
   |               `--- set here
   |
   | Help: listen on 127.0.0.1, or remove `anonymous` and add a `[[principal]]`
---'

2 errors, 0 hints
"#;
    assert_eq!(shown, expected);
}

#[test]
fn nothing_is_shown_of_nothing() {
    let folder = Folder::with(&[("tidegate.toml", HEAD)]);
    let loaded = folder.load("tidegate.toml");
    assert_eq!(plain(&loaded, &folder), "");
    assert_eq!(
        render_json(&loaded.issues, &loaded.sources),
        r#"{"errors":0,"hints":0,"issues":[]}"#
    );
}

#[test]
fn programs_get_places_in_numbers() {
    let folder = Folder::with(&[(
        "tidegate.toml",
        "[gateway]\nid = \"gw\"\ndata-dir = \"data\"\n[mqtt]\nanonymous = true\n[http]\nanonymous = true\nlisten = [\"127.0.0.1:1883\"]\n",
    )]);
    let loaded = folder.load("tidegate.toml");
    let path = folder.file("").display().to_string();
    let shown = render_json(&loaded.issues, &loaded.sources).replace(&path, "");
    assert_eq!(
        shown,
        concat!(
            r#"{"errors":1,"hints":0,"issues":[{"severity":"error","file":"tidegate.toml","line":8,"column":11,"#,
            r#""endLine":8,"endColumn":27,"text":"\"127.0.0.1:1883\"","#,
            r#""message":"`127.0.0.1:1883` is taken already, by `127.0.0.1:1883`","label":null,"#,
            r#""hint":"choose another port","#,
            r#""related":[{"file":"tidegate.toml","line":4,"column":1,"note":"first taken here"}]}]}"#
        )
    );
}

/// Whatever ends the lines, and whatever stands before the place, all three say the same place.
#[test]
fn line_and_column_are_right_after_windows_line_ends_and_other_letters() {
    #[rustfmt::skip]
    let cases = [
        // file             text                                                        line, column, marked
        ("tidegate.toml",   format!("{HEAD}x = 1\n"),                                   4, 1,   "x"),
        ("tidegate.toml",   format!("{HEAD}x = 1\n").replace('\n', "\r\n"),             4, 1,   "x"),
        ("tidegate.toml",   format!("# ü€\u{1F600}\n{HEAD}mappings = ['ä€*', 1]\n"),   5, 20,  "1"),
        ("tidegate.toml",   format!("\u{feff}# ü\r\n{HEAD}\tmappings = 1\n"),           5, 13,  "1"),
        ("tidegate.toml",   format!("# a\u{2028}b\u{85}c\u{b}d\n{HEAD}mappings = 1"),   5, 12,  "1"),
        ("tidegate.yaml",   "# ü\r\ngateway:\r\n  id: gw\r\n  data-dir: ä\r\n  ü: 1\r\n".into(), 5, 3, "ü"),
        ("tidegate.yaml",   "gateway: {id: gw, data-dir: äöü, mäppings: 1}\n".into(),   1, 34,  "mäppings"),
    ];
    for (name, text, line, column, marked) in cases {
        let folder = Folder::with(&[(name, &text)]);
        let loaded = folder.load(name);
        let issue = loaded.issues.iter().find(|issue| loaded.sources.slice(issue.at) == marked);
        let issue = issue.unwrap_or_else(|| panic!("{text:?}: {:#?}", folder.lines(&loaded)));
        let position = loaded.sources.position(issue.at);
        assert_eq!((position.line, position.column), (line, column), "{text:?}");
        let shown = plain(&loaded, &folder);
        assert!(shown.contains(&format!("[ {name}:{line}:{column} ]")), "{text:?}\n{shown}");
        let json = render_json(&loaded.issues, &loaded.sources);
        assert!(
            json.contains(&format!("\"line\":{line},\"column\":{column},")),
            "{text:?}\n{json}"
        );
    }
}

#[test]
fn what_a_file_holds_cannot_steer_the_terminal() {
    let text = format!("{HEAD}\"a\u{1b}[31mb\u{7}\" = 1 # \u{1b}]0;x\u{7}\n");
    let folder = Folder::with(&[(
        "tidegate.yaml",
        "\"a\\e[31mb\": 1\ngateway: {id: \"\\a\", data-dir: d}\n",
    )]);
    let yaml = folder.load("tidegate.yaml");
    let folder = Folder::with(&[("tidegate.toml", &text)]);
    let toml = folder.load("tidegate.toml");
    for loaded in [yaml, toml] {
        assert!(loaded.issues.has_errors());
        let shown = render(&loaded.issues, &loaded.sources, Style::Plain);
        assert!(!shown.contains(['\u{1b}', '\u{7}']), "{shown:?}");
        let colours = render(&loaded.issues, &loaded.sources, Style::Color);
        let unknown: Vec<&str> = colours
            .split('\u{1b}')
            .skip(1)
            .filter(|code| {
                !code.starts_with("[38;5;") && !code.starts_with("[0m") && !code.starts_with("[3")
            })
            .collect();
        assert!(unknown.is_empty() && !colours.contains('\u{7}'), "{unknown:?}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let folder = Folder::with(&[("tidegate.ini", ""), ("big.toml", &"#".repeat(5 << 20))]);
    std::fs::write(folder.file("bytes.toml"), b"a = '\xff'").unwrap();
    for (name, expected) in [
        ("none.toml", "the file cannot be read: No such file or directory (os error 2)"),
        ("tidegate.ini", "a configuration file ends in `.toml`, `.yaml` or `.yml`"),
        ("big.toml", "the file is larger than 4 MiB"),
        ("bytes.toml", "the file is not UTF-8 text: byte 5 is wrong"),
    ] {
        let path = folder.file(name);
        let error: LoadError = load(&path).unwrap_err();
        assert_eq!(error.to_string(), format!("{}: {expected}", path.display()));
    }
}

#[test]
fn the_shipped_example_is_right_where_it_stands() {
    let path =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/press-hall/tidegate.toml");
    let loaded = load(&path).unwrap();
    assert!(loaded.config.is_some(), "{}", render(&loaded.issues, &loaded.sources, Style::Plain));
}
