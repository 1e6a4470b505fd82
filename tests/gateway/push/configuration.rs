//! A pushed configuration file: taken into use by a restart, and put back by another.

use std::net::{TcpListener, TcpStream};

use serde_json::{Value, json};

use super::{Cloud, Hall, RIGHT};
use crate::support::{ports, wait};

const ALLOWED: &str = "[push]\nconfiguration = true\nconnect-within = \"2s\"\n";

impl Hall {
    /// The configuration as it was written, with `more` behind it.
    fn configuration(&self, more: &str) -> String {
        let path = self.gateway.folder().join("tidegate.toml");
        std::fs::read_to_string(path).expect("the gateway has one") + more
    }

    /// Writes a folder to push from with a configuration alone; returns its path.
    fn with_configuration(&self, name: &str, text: &str) -> String {
        self.gateway.write(&format!("{name}/tidegate.toml"), text);
        self.gateway.folder().join(name).display().to_string()
    }

    /// Waits until the gateway answers with this set in force.
    #[track_caller]
    fn until_in_force(&self, set: u64) -> Value {
        wait::until("the set to be in force", || {
            let said = self.gateway.tidegate("status", &["--json"]);
            let status: Value = serde_json::from_str(&said.stdout).ok()?;
            (status["push"]["in-force"] == set).then_some(status)
        })
    }

    #[track_caller]
    fn refused(&self, folder: &str, expected: &str) {
        let said = self.push(&["apply", folder]);
        assert_eq!(said.code, Some(1), "{}{}", said.stdout, said.stderr);
        assert!(said.stdout.contains(expected), "{}", said.stdout);
    }
}

fn is_listening(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

/// uplink.31: a configuration is tried by a restart of the same process, kept across a kill once it is confirmed, and
/// given up by another restart.
#[test]
fn uplink_31_a_configuration_is_tried_by_a_restart() {
    let mut hall = Hall::start(ALLOWED);
    let mqtt = ports::free_port();
    let more = format!("[mqtt]\nlisten = [\"127.0.0.1:{mqtt}\"]\nanonymous = true\n");
    let new = hall.with_configuration("new", &hall.configuration(&more));
    let report = hall.push_well(&["preview", &new])["value"]["report"].clone();
    assert_eq!((&report["restart"], &report["listeners"]), (&json!(true), &json!(["mqtt"])));
    assert!(!is_listening(mqtt));
    let process = hall.gateway.id();
    hall.push_well(&["apply", &new]);
    hall.gateway.wait_for_notice("READY=1");
    assert!(is_listening(mqtt));
    assert_eq!(hall.gateway.id(), process);
    assert_eq!(hall.topic_in_force(), "old", "mapping files stay as they were");
    hall.push_well(&["confirm"]);
    hall.gateway.kill9();
    hall.gateway.start_again();
    assert!(is_listening(mqtt));
    hall.push_well(&["return"]);
    hall.gateway.wait_for_notice("READY=1");
    hall.until_in_force(0);
    assert!(!is_listening(mqtt));
}

/// uplink.31: a configuration with which the gateway does not start, or is killed in its trial, is put back once.
#[test]
fn uplink_31_a_configuration_that_does_not_start_is_put_back() {
    let mut hall = Hall::start(ALLOWED);
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = taken.local_addr().expect("it is bound").port();
    let more = format!("[mqtt]\nlisten = [\"127.0.0.1:{port}\"]\nanonymous = true\n");
    let new = hall.with_configuration("new", &hall.configuration(&more));
    hall.push_well(&["apply", &new]);
    hall.gateway.wait_for_notice("READY=1");
    let status = hall.until_in_force(0);
    let reason = status["push"]["last"]["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("did not start"), "{status}");
    assert_eq!(hall.topic_in_force(), "old");

    drop(taken);
    hall.push_well(&["apply", &new]);
    hall.gateway.wait_for_notice("READY=1");
    assert!(is_listening(port));
    hall.gateway.kill9();
    hall.gateway.start_again();
    hall.until_in_force(0);
    assert!(!is_listening(port));
    assert_eq!(hall.kept(), ["note"]);
}

/// uplink.31: a configuration that cuts the gateway off from its cloud is put back by itself.
#[test]
fn uplink_31_a_configuration_that_breaks_the_uplink_is_put_back() {
    let cloud = Cloud::start();
    let mut hall = Hall::start(&format!("{ALLOWED}{}", cloud.uplink()));
    let connected = |hall: &Hall| {
        let said = hall.gateway.tidegate("status", &["--json"]);
        let status: Value = serde_json::from_str(&said.stdout).unwrap_or_default();
        (status["uplinks"]["cloud"]["connected"] == true).then_some(())
    };
    wait::until("the uplink", || connected(&hall));
    let url = format!("mqtt://127.0.0.1:{}", cloud.broker.port());
    let elsewhere = format!("mqtt://127.0.0.1:{}", ports::free_port());
    let new = hall.configuration("").replace(&url, &elsewhere);
    let new = hall.with_configuration("new", &new);
    let report = hall.push_well(&["preview", &new])["value"]["report"].clone();
    assert_eq!(report["uplinks"], json!(["cloud"]), "{report}");
    hall.push_well(&["apply", &new]);
    hall.gateway.wait_for_notice("READY=1");
    hall.gateway.wait_for_notice("READY=1");
    let status = hall.until_in_force(0);
    let reason = status["push"]["last"]["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("uplink cloud"), "{status}");
    wait::until("the uplink", || connected(&hall));
}

/// uplink.31: a configuration can be pushed where `[push]` says so, never changes who may push or whose data it is, and
/// from a cloud changes neither rights nor peers.
#[test]
fn uplink_31_a_configuration_gives_nobody_more_rights() {
    let hall = Hall::start("[push]\n");
    let new = hall.with_configuration("new", &hall.configuration("[mqtt]\n"));
    hall.refused(&new, "configuration = true");

    let mut cloud = Cloud::start();
    let uplinks = ALLOWED.replace("[push]", "[push]\nuplinks = [\"cloud\"]");
    let hall = Hall::start(&format!("{uplinks}{}{RIGHT}", cloud.uplink()));
    wait::until("the uplink", || {
        (hall.gateway.status(&[])["uplinks"]["cloud"]["connected"] == true).then_some(())
    });
    let written = hall.configuration("");
    for (from, to, expected) in [
        ("id = \"hall\"", "id = \"other\"", "cannot change `id`"),
        ("data-dir = \"data\"", "data-dir = \"elsewhere\"", "cannot change `data-dir`"),
        ("connect-within = \"2s\"", "connect-within = \"3s\"", "`[push]` cannot be changed"),
    ] {
        let new = hall.with_configuration("bad", &written.replace(from, to));
        hall.refused(&new, expected);
    }
    for (number, (from, to, expected)) in [
        ("manage = \"write\"", "manage = \"write\"\npublish = [\"#\"]", "`access`"),
        ("mqtt://127.0.0.1", "mqtt://localhost", "`uplink`"),
        ("[http]\n", "[http]\nallow-plain = true\n", "`http`"),
    ]
    .into_iter()
    .enumerate()
    {
        let arguments = json!({"configuration": written.replace(from, to)});
        let outcome = cloud.ask("apply", &format!("bad-{number}"), arguments);
        assert_eq!(outcome["outcome"], "refused", "{outcome}");
        assert!(outcome["reason"].as_str().is_some_and(|it| it.contains(expected)), "{outcome}");
    }
    let topics = written.replace("topics = [\"hall1/#\"]", "topics = [\"hall1/+/#\"]");
    let preview = cloud.ask("preview", "good", json!({"configuration": topics}));
    assert!(preview.to_string().contains("\"sound\":true"), "{preview}");
    assert_eq!(hall.gateway.status(&[])["push"]["in-force"], 0);
}
