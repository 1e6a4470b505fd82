//! `docs/limits.md` names every setting, and only tests that there are (broker.12).

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use tidegate::config::{MqttLimits, NetLimits};

const PAGE: &str = "docs/limits.md";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// A line of the table.
struct Row {
    setting: String,
    counters: String,
    tests: Vec<String>,
}

fn rows() -> Vec<Row> {
    let text = fs::read_to_string(root().join(PAGE)).expect("the page is there");
    let lines = text.lines().filter(|line| line.starts_with("| `"));
    let rows = lines.map(|line| {
        let text = line.replace("\\|", "/");
        let cells: Vec<&str> = text.trim_matches('|').split(" | ").map(str::trim).collect();
        let [setting, effect, counters, tests] = cells[..] else { panic!("{line}: four columns") };
        assert!(!effect.is_empty() && !counters.is_empty(), "{line}");
        let plain = |text: &str| text.trim().trim_matches(['`', '|', ' ']).to_owned();
        let tests = tests.split(", ").map(plain).collect();
        Row { setting: plain(setting), counters: counters.to_owned(), tests }
    });
    rows.collect()
}

/// Returns the names of all tests of the gateway.
fn tests() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut folders = vec![root().join("tests/gateway")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("it is listed").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("sources are text");
                let lines: Vec<&str> = text.lines().map(str::trim).collect();
                let marked = lines.windows(2).filter(|pair| pair[0] == "#[test]");
                let named = marked.filter_map(|pair| pair[1].strip_prefix("fn ")?.split_once('('));
                names.extend(named.map(|(name, _)| name.to_owned()));
            }
        }
    }
    names
}

#[test]
fn broker_12_every_limit_has_its_line_and_every_line_its_tests() {
    let keys = [("net", NetLimits::KEYS), ("mqtt", MqttLimits::KEYS)];
    let keys =
        keys.iter().flat_map(|(table, keys)| keys.iter().map(move |key| format!("{table}.{key}")));
    let expected: Vec<String> = std::iter::once("memory-ceiling".to_owned()).chain(keys).collect();
    let rows = rows();
    let mut found: Vec<&str> = rows.iter().map(|row| row.setting.as_str()).collect();
    let mut wanted: Vec<&str> = expected.iter().map(String::as_str).collect();
    found.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(found, wanted, "the settings of {PAGE}");

    let tests = tests();
    let sources = ["src/status.rs", "src/status/broker.rs"]
        .map(|file| fs::read_to_string(root().join(file)).expect("sources are text"))
        .concat();
    for Row { setting, counters, tests: named } in &rows {
        assert!(!named.is_empty(), "{setting} has a test");
        for test in named {
            assert!(tests.contains(test), "{setting}: there is no test {test}");
        }
        for metric in counters.split('`').filter(|text| text.starts_with("tidegate_")) {
            let name = metric.split('{').next().expect("a first part");
            // Those of adapters are put together from the adapter's own words.
            let is_adapters = name.starts_with("tidegate_http_");
            assert!(is_adapters || sources.contains(name), "{setting}: there is no {name}");
            if let Some((_, key)) = metric.split_once("{limit=\"") {
                assert_eq!(key.trim_end_matches("\"}"), setting, "{metric}");
            }
        }
    }
}
