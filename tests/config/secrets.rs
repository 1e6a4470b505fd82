//! Secrets come from three places, and are shown nowhere (G7).

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};

use tidegate::config::{Loaded, OpcUaLogin, Style, render, render_json};

use crate::harness::Folder;

const SERVER: &str = "[gateway]\nid = \"gw\"\ndata-dir = \"data\"\n[[opcua]]\nname = \"plc7\"\n\
                      endpoint = \"opc.tcp://plc7\"\nusername = \"gw\"\npassword = ";

fn load(folder: &Folder, password: &str) -> Loaded {
    fs::write(folder.file("tidegate.toml"), format!("{SERVER}{password}\n")).unwrap();
    folder.load("tidegate.toml")
}

/// The folder of all cases, with files that fit and files that do not.
fn folder() -> Folder {
    let folder = Folder::with(&[
        ("credentials/plc7", "from-manager\n"),
        ("secrets/right", "from-file\r\n"),
        ("secrets/open", "from-file"),
        ("secrets/group", "from-file"),
        ("secrets/empty", "\n"),
        ("secrets/long", &"x".repeat(70_000)),
        ("secrets/folder/file", ""),
    ]);
    for (file, mode) in
        [("secrets/open", 0o644), ("secrets/group", 0o640), ("credentials/plc7", 0o444)]
    {
        fs::set_permissions(folder.file(file), Permissions::from_mode(mode)).unwrap();
    }
    fs::set_permissions(folder.file("secrets/folder"), Permissions::from_mode(0o700)).unwrap();
    fs::write(folder.file("secrets/binary"), [0xFF, 0xFE]).unwrap();
    fs::set_permissions(folder.file("secrets/binary"), Permissions::from_mode(0o600)).unwrap();
    symlink(folder.file("secrets/right"), folder.file("secrets/link")).unwrap();
    folder
}

#[test]
fn a_secret_comes_from_one_of_three_places() {
    let folder = folder();
    for (written, expected) in [
        ("{ credential = \"plc7\" }", "from-manager"),
        ("{ file = \"secrets/right\" }", "from-file"),
        ("{ env = \"PLANTED\" }", "hunter2"),
    ] {
        let loaded = load(&folder, written);
        let config =
            loaded.config.as_ref().unwrap_or_else(|| panic!("{:#?}", folder.lines(&loaded)));
        let OpcUaLogin::Password { password, .. } = &config.opcua[0].login else {
            panic!("{written}")
        };
        assert_eq!(password.expose(), expected, "{written}");
        let debug = format!("{config:?}");
        assert!(!debug.contains(expected), "{debug}");
    }
}

#[test]
fn every_way_to_give_a_secret_wrongly_is_explained() {
    const WAYS: &str = "write `{ credential = \"…\" }` for one of the service manager, `{ file = \"…\" }` for a file of \
                        mode 0600, or `{ env = \"…\" }` for a variable";
    const OWN: &str = "create the file with mode 0600, owned by the user the gateway runs as";
    #[rustfmt::skip]
    let cases = [
        // written                              column, marked              message
        ("\"hunter2\"",                         "12 `\"hunter2\"`",         "a secret must not stand in the file".to_owned(), WAYS),
        ("17",                                  "12 `17`",                  "a secret must not stand in the file".into(), WAYS),
        ("{}",                                  "12 `{}`",                  "a secret comes from one place".into(), WAYS),
        ("{ env = \"A\", file = \"b\" }",       "12 `{ env = \"A\", file = \"b\" }`", "a secret comes from one place".into(), WAYS),
        ("{ env = \"NOT_SET\" }",               "20 `\"NOT_SET\"`",         "the variable `NOT_SET` is not set".into(), "set `NOT_SET` in the environment of the gateway"),
        ("{ credential = \"../plc7\" }",        "27 `\"../plc7\"`",         "`../plc7` is not the name of a credential".into(), "write the name given in `LoadCredential=`, without a path"),
        ("{ credential = \"plc8\" }",           "27 `\"plc8\"`",            "the secret in `credentials/plc8` cannot be read: No such file or directory (os error 2)".into(), OWN),
        ("{ file = \"secrets/none\" }",         "21 `\"secrets/none\"`",    "the secret in `secrets/none` cannot be read: No such file or directory (os error 2)".into(), OWN),
        ("{ file = \"secrets/open\" }",         "21 `\"secrets/open\"`",    "other users can read `secrets/open`: its mode is 0644".into(), "run `chmod 600 secrets/open`"),
        ("{ file = \"secrets/group\" }",        "21 `\"secrets/group\"`",   "other users can read `secrets/group`: its mode is 0640".into(), "run `chmod 600 secrets/group`"),
        ("{ file = \"secrets/link\" }",         "21 `\"secrets/link\"`",    "`secrets/link` is a symbolic link".into(), "name the file itself"),
        ("{ file = \"secrets/folder\" }",       "21 `\"secrets/folder\"`",  "`secrets/folder` is not a file".into(), "name a file that holds nothing but the secret"),
        ("{ file = \"secrets/empty\" }",        "21 `\"secrets/empty\"`",   "`secrets/empty` does not hold a secret".into(), "it must be text, not empty and at most 64 KiB"),
        ("{ file = \"secrets/long\" }",         "21 `\"secrets/long\"`",    "`secrets/long` does not hold a secret".into(), "it must be text, not empty and at most 64 KiB"),
        ("{ file = \"secrets/binary\" }",       "21 `\"secrets/binary\"`",  "`secrets/binary` does not hold a secret".into(), "it must be text, not empty and at most 64 KiB"),
    ];
    let folder = folder();
    for (written, place, message, hint) in cases {
        let loaded = load(&folder, written);
        let expected = format!("tidegate.toml:8:{place} {message} | {hint}");
        assert_eq!(folder.lines(&loaded), [expected], "{written}");
        assert!(loaded.config.is_none());
    }
    let loaded = load(&folder, "{ files = \"secrets/right\" }");
    assert_eq!(
        folder.lines(&loaded)[1],
        "tidegate.toml:8:14 `files` unknown key `files` | did you mean `file`?"
    );
}

#[test]
fn a_secret_that_stands_in_the_file_is_shown_nowhere() {
    let head = "[gateway]\nid = \"gw\"\ndata-dir = \"data\"\n";
    let uplink = "[[uplink]]\nname = \"c\"\ntopics = [\"a/#\"]\ntopic = \"up\"\n";
    #[rustfmt::skip]
    let cases = [
        ("tidegate.toml", format!("{head}{uplink}url = \"mqtt://h\"\nusername = \"u\"\npassword = \"hunter2\"\n")),
        ("tidegate.toml", format!("{head}{uplink}url = \"mqtt://h\"\nusername = \"u\"\npassword = 'hunter2' # c\n")),
        ("tidegate.toml", format!("{head}{uplink}url = \"mqtt://h\"\nusername = \"u\"\npassword = hunter2\n")),
        ("tidegate.toml", format!("{head}{uplink}url = \"mqtt://h\"\nusername = \"u\"\npassword = \"hunter2\n")),
        ("tidegate.toml", format!("{head}{uplink}url = \"mqtt://h\"\nusername = \"u\"\npassword = \"\"\"\nhunter2\"\"\"\n")),
        ("tidegate.toml", format!("{head}{uplink}url = \"mqtt://h\"\nusername = \"u\"\npasword = \"hunter2\"\n")),
        ("tidegate.toml", format!("{head}{uplink}url = \"mqtt://h\"\nusername = \"u\"\nPassword = \"hunter2\"\n")),
        ("tidegate.toml", format!("{head}{uplink}url = \"mqtt://h\"\nusername = \"u\"\npassword = {{ value = \"hunter2\" }}\n")),
        ("tidegate.toml", format!("{head}{uplink}url = \"mqtt://h\"\nusername = \"u\"\npassword = {{ env = \"X\", value = hunter2 }}\n")),
        ("tidegate.toml", format!("{head}{uplink}url = \"mqtt://h\"\nauth = {{ user = \"u\", password = \"hunter2\" }}\n")),
        ("tidegate.toml", format!("{head}{uplink}url = \"mqtt://h\"\n\"password\" = \"hunter2\"\n")),
        ("tidegate.toml", format!("{head}{uplink}url = \"mqtt://h\"\napi-token = \"hunter2\"\n")),
        ("tidegate.toml", format!("{head}{uplink}url = \"mqtt://h\"\nkey = \"hunter2\"\n")),
        ("tidegate.toml", format!("{head}{uplink}url = \"mqtt://u:hunter2@h\"\n")),
        ("tidegate.toml", format!("{head}{uplink}url = \"mqtts://u:hunter2@h:8883\"\n")),
        ("tidegate.toml", format!("{head}{uplink}url = mqtt://u:hunter2@h\n")),
        ("tidegate.toml", format!("{head}[[opcua]]\nname = \"x\"\nendpoint = \"opc.tcp://u:hunter2@plc7\"\n")),
        ("tidegate.toml", format!("{head}[[opcua]]\nname = \"x\"\nendpoint = \"http://u:hunter2@plc7\"\n")),
        ("tidegate.toml", format!("{head}[[principal]]\nname = \"x\"\npassword = \"hunter2\"\n")),
        ("tidegate.toml", format!("{head}[[principal]]\nname = \"x\"\npassword = {{ env = \"PLANTED\" }}\n")),
        ("tidegate.yaml", "gateway:\n  id: gw\n  data-dir: d\nuplink:\n  - name: c\n    password: hunter2\n".to_owned()),
        ("tidegate.yaml", "gateway:\n  id: gw\n  data-dir: d\nuplink:\n  - name: c\n    password: |\n      x\n      hunter2\n    url: 5\n".to_owned()),
        ("tidegate.yaml", "gateway:\n  id: gw\n  data-dir: d\nuplink:\n  - name: c\n    password: {hunter2}/x\n".to_owned()),
        ("tidegate.yaml", "gateway:\n  id: gw\n  data-dir: d\nuplink:\n  - name: c\n    password: hunter2: x\n".to_owned()),
        ("tidegate.yaml", "gateway:\n  id: gw\n  data-dir: d\nuplink:\n  - {name: c, password: hunter2, url: 5}\n".to_owned()),
    ];
    for (name, text) in cases {
        let folder = Folder::with(&[(name, &text)]);
        let loaded = folder.load(name);
        assert!(loaded.issues.has_errors(), "{text}");
        for shown in [
            render(&loaded.issues, &loaded.sources, Style::Plain),
            render(&loaded.issues, &loaded.sources, Style::Color),
            render_json(&loaded.issues, &loaded.sources),
        ] {
            assert!(!shown.contains("hunter2"), "{text}\n{shown}");
        }
    }
}

#[test]
fn what_is_no_secret_is_shown() {
    let text = "[gateway]\nid = \"gw\"\ndata-dir = \"data\"\n[[principal]]\nname = \"x\"\n\
                password = { file = \"secrets/x.hash\" }\n[http]\nlisten = [\"key:value\"]\n";
    let folder = Folder::with(&[("tidegate.toml", text)]);
    let loaded = folder.load("tidegate.toml");
    let shown = render(&loaded.issues, &loaded.sources, Style::Plain);
    assert!(shown.contains("password = { file = \"secrets/x.hash\" }"), "{shown}");
}
