//! Sets within their bounds, and the folder through damage and interrupted trials.

use std::{fs, os::unix::fs::symlink, path::Path};

use tempfile::TempDir;
use tidegate_model::{Timestamp, Value, json::parse_value};

use super::*;
use crate::store::DataDirectory;

fn set(name: &str, text: &str) -> PushedSet {
    let value = format!("{{{}:{}}}", serde_json::json!(name), serde_json::json!(text));
    PushedSet::from_value(Some(&parse_value(value.as_bytes()).unwrap()), None).unwrap()
}

fn trial(set: u64) -> Trial {
    let (at, until) = (Timestamp::from_unix_millis(1_000), Timestamp::from_unix_millis(9_000));
    let (by, id) = ("local:0".into(), Some("p-1".into()));
    Trial { set, by, id, at, until, restart: Restart::None, worked: vec!["part mqtt".into()] }
}

fn folder() -> (TempDir, Folder, std::path::PathBuf) {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join("data").join(FOLDER);
    drop(DataDirectory::open(path.parent().unwrap()).unwrap());
    (data, Folder::new(path.clone()), path)
}

/// uplink.31: what is sent stays within its bounds, and a name means one file below the folder and nothing else.
#[test]
fn uplink_31_hostile_sets_are_refused_with_a_reason() {
    let long = "a".repeat(250);
    let many: Vec<String> = (0..257).map(|number| format!("\"m/{number}.toml\":\"\"")).collect();
    let large = format!("{{\"m/a.toml\":\"{}\"}}", "x".repeat((1 << 20) + 1));
    #[rustfmt::skip]
    let cases = [
        ("{\"../a.toml\":\"\"}".to_owned(),             "begin with a dot"),
        ("{\"m/../../a.toml\":\"\"}".to_owned(),        "begin with a dot"),
        ("{\"/etc/passwd.toml\":\"\"}".to_owned(),      "relative"),
        ("{\"m//a.toml\":\"\"}".to_owned(),             "empty"),
        ("{\"m/.a.toml\":\"\"}".to_owned(),             "begin with a dot"),
        ("{\"\":\"\"}".to_owned(),                      "empty"),
        ("{\"m/a\\u0000.toml\":\"\"}".to_owned(),       "letters, digits"),
        ("{\"m/a\\n.toml\":\"\"}".to_owned(),           "letters, digits"),
        ("{\"m\\\\a.toml\":\"\"}".to_owned(),           "letters, digits"),
        ("{\"m/\u{202e}a.toml\":\"\"}".to_owned(),      "letters, digits"),
        ("{\"secrets/a.hash\":\"\"}".to_owned(),        "end in"),
        ("{\"m/a.toml\":1}".to_owned(),                 "must be a text, found"),
        ("{\"m/a.toml\":{\"b\":1}}".to_owned(),         "must be a text, found"),
        ("{\"m/a.toml\":\"\",\"m/a.toml/b.toml\":\"\"}".to_owned(), "file and a folder"),
        (format!("{{\"m/{long}.toml\":\"\"}}"),         "200 bytes"),
        ("{\"a/b/c/d/e/f/g/h/i.toml\":\"\"}".to_owned(), "8 levels"),
        (format!("{{{}}}", many.join(",")),             "257 files"),
        (large,                                         "1048576 bytes"),
        ("[]".to_owned(),                               "must be an object"),
    ];
    for (value, expected) in cases {
        let error = PushedSet::from_value(Some(&parse_value(value.as_bytes()).unwrap()), None);
        let error = error.expect_err(&value[..value.len().min(80)]).to_string();
        assert!(error.contains(expected), "{error}");
        assert!(error.len() < 300 && !error.contains(['\n', '\0']), "{error:?}");
    }
    assert_eq!(PushedSet::from_value(None, None), Err(SetError::Nothing));
    // The same name twice is no document.
    assert!(parse_value(b"{\"m/a.toml\":\"1\",\"m/a.toml\":\"2\"}").is_err());
    let unknown = parse_value(b"{\"mappings\":{},\"sets\":1}").unwrap();
    assert!(Request::read(Action::Preview, &unknown).unwrap_err().contains("\"sets\""));
    let bytes = Value::Bytes(vec![0xff].into());
    let error = Request::read(Action::Preview, &bytes).unwrap_err();
    assert!(error.contains("by name"), "{error}");
    for within in ["0s", "13h", "5"] {
        let text = format!("{{\"mappings\":{{}},\"confirm-within\":\"{within}\"}}");
        let arguments = parse_value(text.as_bytes()).unwrap();
        assert!(Request::read(Action::Apply, &arguments).is_err(), "{within}");
    }
}

/// uplink.31: what is kept is bounded: so many sets and entries, whatever comes.
#[test]
fn uplink_31_old_sets_and_entries_go() {
    let mut note = Note::default();
    for number in 1..=100 {
        note.begin(trial(number), "digest".into());
        assert_eq!(note.in_force(), number);
        note.confirm("local:0", Timestamp::default(), 3);
    }
    assert_eq!(note.good, [0, 97, 98, 99, 100], "the folder's files, three, and the last");
    assert_eq!(note.entries.len(), 64);
    assert_eq!(note.entries.back().map(|entry| entry.number), Some(200));
    note.begin(trial(101), "digest".into());
    note.put_back("gateway", Timestamp::default(), &"long ".repeat(1_000));
    assert_eq!((note.in_force(), note.next), (100, 102), "a number is never used again");
    assert!(note.entries.back().unwrap().reason.as_ref().unwrap().len() <= 1_024);
    assert_eq!(Note::from_json(&note.to_json()), Some(note.clone()));
    for _ in 0..9 {
        note.go_back("local:0", Timestamp::default(), "asked");
    }
    assert_eq!(note.good, [0]);
}

/// uplink.31: a start puts a set back that was on trial, once, and says so; sets that nothing needs are gone.
#[test]
fn uplink_31_a_start_puts_back_what_was_on_trial() {
    let (_data, folder, path) = folder();
    assert_eq!(folder.in_force().unwrap(), None);
    let (first, second) = (set("m/a.toml", "first"), set("m/a.toml", "second"));
    let mut note = Note::default();
    note.begin(trial(1), first.digest());
    note.confirm("local:0", Timestamp::default(), 5);
    note.untold = None;
    folder.write_set(1, &first).unwrap();
    note.begin(trial(2), second.digest());
    folder.write_set(2, &second).unwrap();
    folder.write_note(&note).unwrap();
    assert_eq!(folder.in_force().unwrap(), Some(second));

    let holder = DataDirectory::open(path.parent().unwrap()).unwrap();
    settle(path.clone(), Timestamp::default()).unwrap();
    assert_eq!(folder.read_note().unwrap().as_ref(), Some(&note), "it is another gateway's");
    drop(holder);
    settle(path.clone(), Timestamp::default()).unwrap();
    let settled = folder.read_note().unwrap().unwrap();
    assert_eq!((settled.in_force(), settled.trial.is_none()), (1, true));
    assert_eq!(folder.in_force().unwrap(), Some(first));
    let reason = settled.untold.as_ref().unwrap().returned.as_ref().unwrap();
    assert!(reason.contains("on trial"), "{reason}");
    assert!(!path.join("set-2").exists());
    settle(path, Timestamp::default()).unwrap();
    assert_eq!(folder.read_note().unwrap(), Some(settled), "a second start has nothing to do");
}

/// uplink.31 and S19: what is damaged gives way to the last intact set, and is never read in part.
#[test]
fn uplink_31_damage_gives_way_to_the_last_intact_set() {
    let (_data, folder, path) = folder();
    let mut note = Note::default();
    for number in 1..=2 {
        note.begin(trial(number), String::new());
        note.confirm("local:0", Timestamp::default(), 5);
        folder.write_set(number, &set("m/a.toml", &number.to_string())).unwrap();
    }
    folder.write_note(&note).unwrap();
    let flip = |file: &Path, at: usize| {
        let mut bytes = fs::read(file).unwrap();
        bytes[at] ^= 1;
        fs::write(file, bytes).unwrap();
    };
    let whole = fs::read(path.join("set-2")).unwrap();
    for at in 0..whole.len() {
        flip(&path.join("set-2"), at);
        assert!(folder.in_force().is_err(), "byte {at}");
        fs::write(path.join("set-2"), &whole[..at]).unwrap();
        assert!(folder.in_force().is_err(), "cut at {at}");
        fs::write(path.join("set-2"), &whole).unwrap();
    }
    flip(&path.join("set-2"), 70);
    settle(path.clone(), Timestamp::default()).unwrap();
    assert_eq!(folder.in_force().unwrap(), Some(set("m/a.toml", "1")));

    flip(&path.join("note"), 70);
    assert!(folder.in_force().is_err());
    settle(path.clone(), Timestamp::default()).unwrap();
    assert_eq!(folder.in_force().unwrap(), None, "the files of the configuration's folder");
    assert_eq!(folder.read_note().unwrap().unwrap().next, 2, "behind the set that is there");

    // Nothing that somebody has planted is followed.
    fs::remove_file(path.join("note")).unwrap();
    symlink("/etc/hostname", path.join("note")).unwrap();
    assert!(matches!(folder.in_force(), Err(FolderError::Storage { .. })));
}

/// uplink.31: the restart that a set needs is the only one that its trial outlives.
#[test]
fn uplink_31_a_trial_outlives_the_restart_that_it_needs_alone() {
    let (_data, folder, path) = folder();
    let configuration = Value::string("[gateway]\n");
    let set = PushedSet::from_value(None, Some(&configuration)).unwrap();
    let begin = || {
        let mut note = Note::default();
        note.begin(Trial { restart: Restart::Due, ..trial(1) }, set.digest());
        folder.write_set(1, &set).unwrap();
        folder.write_note(&note).unwrap();
    };
    let restart = || folder.read_note().unwrap().unwrap().trial.map(|trial| trial.restart);
    begin();
    settle(path.clone(), Timestamp::default()).unwrap();
    assert_eq!((restart(), folder.in_force().unwrap()), (Some(Restart::Begun), Some(set.clone())));
    settle(path.clone(), Timestamp::default()).unwrap();
    assert_eq!((restart(), folder.in_force().unwrap()), (None, None));

    begin();
    assert!(put_back(path.clone(), Timestamp::default(), "it did not start").unwrap());
    assert_eq!((restart(), folder.in_force().unwrap()), (None, None));
    assert!(!put_back(path.clone(), Timestamp::default(), "once more").unwrap(), "there is none");

    begin();
    fs::write(path.join("set-1"), "damaged").unwrap();
    settle(path, Timestamp::default()).unwrap();
    assert_eq!((restart(), folder.in_force().unwrap()), (None, None));
}

/// uplink.31: what one part of a push leaves out stays as it is in force.
#[test]
fn uplink_31_what_is_left_out_stays() {
    let text = Value::string("[gateway]\n");
    let configuration = PushedSet::from_value(None, Some(&text)).unwrap();
    let both = configuration.clone().over(&set("m/a.toml", "1"));
    assert_eq!(both.configuration(), Some("[gateway]\n"));
    assert_eq!(both.mappings(), set("m/a.toml", "1").mappings());
    assert_eq!(set("m/a.toml", "2").over(&both).configuration(), both.configuration());
    assert_eq!(PushedSet::from_json(&both.to_json()), Some(both));
    let large = Value::string(&"x".repeat((1 << 20) + 1));
    assert_eq!(PushedSet::from_value(None, Some(&large)), Err(SetError::Bytes));
    assert!(PushedSet::from_value(None, Some(&Value::Integer(1))).is_err());
}
