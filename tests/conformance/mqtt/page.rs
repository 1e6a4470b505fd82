//! Holds the statements of both specifications against the tests, and keeps `docs/mqtt-conformance.md` true.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// The statements: version, and a line `number | whom it binds | what it says` for each.
const STATEMENTS: [(u8, &str); 2] =
    [(3, include_str!("statements_v3.txt")), (5, include_str!("statements_v5.txt"))];

const PAGE: &str = "docs/mqtt-conformance.md";

/// Whom a statement binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Binds<'a> {
    /// The server: there must be a test.
    Server,
    /// Clients: there may be one, of how the server takes the breach.
    Client,
    /// Nobody from outside can see whether it is kept, for this reason.
    Unseen(&'a str),
}

struct Statement<'a> {
    version: u8,
    number: &'a str,
    binds: Binds<'a>,
    says: &'a str,
}

impl Statement<'_> {
    /// Returns how the names of its tests begin.
    fn prefix(&self) -> String {
        format!("mqtt{}_{}_", self.version, self.number.replace(['.', '-'], "_"))
    }
}

fn statements() -> impl Iterator<Item = Statement<'static>> {
    STATEMENTS.into_iter().flat_map(|(version, text)| {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.map(move |line| {
            let mut fields = line.splitn(3, " | ");
            let [number, binds, says] = std::array::from_fn(|_| {
                fields.next().unwrap_or_else(|| panic!("{line:?} has not three fields"))
            });
            let binds = match binds {
                "server" => Binds::Server,
                "client" => Binds::Client,
                reason => Binds::Unseen(reason),
            };
            Statement { version, number, binds, says }
        })
    })
}

/// Returns the names of all tests that name a statement.
fn tests() -> BTreeSet<String> {
    let folder = root().join("tests/conformance/mqtt");
    let files = fs::read_dir(&folder).expect("the tests are there");
    let mut tests = BTreeSet::new();
    for file in files.map(|entry| entry.expect("it is listed").path()) {
        if file.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&file).expect("sources are text");
            for name in text.lines().filter_map(named_by) {
                assert!(tests.insert(name.to_owned()), "{name} is there twice");
            }
        }
    }
    tests
}

/// Returns the name of the test that a line of `statements!` makes.
fn named_by(line: &str) -> Option<&str> {
    let (name, _) = line.strip_prefix("    mqtt")?.split_once(" => ")?;
    let name = &line[4..4 + 4 + name.len()];
    name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_').then_some(name)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

#[test]
fn every_statement_for_servers_has_a_test_and_every_test_a_statement() {
    let tests = tests();
    let mut claimed = BTreeSet::new();
    let mut faults = Vec::new();
    let mut seen = BTreeSet::new();
    for statement in statements() {
        let prefix = statement.prefix();
        assert!(seen.insert(prefix.clone()), "{prefix} is listed twice");
        let own: Vec<_> = tests.iter().filter(|name| name.starts_with(&prefix)).collect();
        match statement.binds {
            Binds::Server if own.is_empty() => faults.push(format!("{prefix} has no test")),
            Binds::Unseen(_) if !own.is_empty() => faults.push(format!("{prefix} has a test")),
            _ => {}
        }
        claimed.extend(own);
    }
    let unclaimed = tests.iter().filter(|name| !claimed.contains(name));
    faults.extend(unclaimed.map(|name| format!("{name} names no statement")));
    assert_eq!(faults, Vec::<String>::new());
}

#[test]
fn the_page_says_what_is_tested() {
    let file = root().join(PAGE);
    let expected = page();
    if std::env::var_os("TIDEGATE_WRITE_PAGES").is_some() {
        fs::write(&file, &expected).expect("the page can be written");
    }
    let found = fs::read_to_string(&file).unwrap_or_default();
    assert!(found == expected, "{PAGE} is behind: run this test with TIDEGATE_WRITE_PAGES=1");
}

const HEAD: &str = "\
# MQTT: what the standards ask of a server, and where it is shown

Written by the test `the_page_says_what_is_tested` from `tests/conformance/mqtt` (`TIDEGATE_WRITE_PAGES=1 cargo test --test conformance page`).
The numbers are those of the normative statements of the two OASIS standards, the summaries our own words. A statement for servers has a test
named after it, which runs against the real program; a statement for clients may have one of how the server takes its breach.
";

fn page() -> String {
    let tests = tests();
    let mut page = HEAD.to_owned();
    for (version, title) in [(5, "MQTT 5.0"), (3, "MQTT 3.1.1")] {
        let own: Vec<_> = statements().filter(|statement| statement.version == version).collect();
        let count = |is: fn(Binds<'_>) -> bool| own.iter().filter(|it| is(it.binds)).count();
        let [servers, clients, unseen] = [
            count(|binds| binds == Binds::Server),
            count(|binds| binds == Binds::Client),
            count(|binds| matches!(binds, Binds::Unseen(_))),
        ];
        writeln!(
            page,
            "\n## {title}\n\n{} statements: {servers} for servers, all tested; {clients} for clients; {unseen} not to be seen from \
             outside or not served.\n\n| statement | says | shown by |\n|---|---|---|",
            own.len()
        )
        .expect("strings take text");
        for statement in own {
            let Statement { number, says, .. } = statement;
            let prefix = statement.prefix();
            let names = tests.iter().filter(|name| name.starts_with(&prefix));
            let names: Vec<_> = names.map(|name| format!("`{name}`")).collect();
            let shown = match statement.binds {
                Binds::Unseen(reason) => reason.to_owned(),
                Binds::Client if names.is_empty() => "binds clients".to_owned(),
                Binds::Client => format!("binds clients; {}", names.join(", ")),
                Binds::Server => names.join(", "),
            };
            writeln!(page, "| MQTT-{number} | {says} | {shown} |").expect("strings take text");
        }
    }
    page
}
