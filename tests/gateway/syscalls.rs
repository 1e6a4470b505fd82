//! What the kernel sees: the sync before every acknowledgement, and nothing that the service unit forbids.

use std::collections::BTreeSet;

use serde_json::json;

use crate::support::gateway::Gateway;
use crate::support::mosquitto::Mosquitto;
use crate::support::peer::Peer;
use crate::support::programs;
use crate::support::site::{PressHall, Site};
use crate::support::trace::{self, Call};

const READS: &[&str] = &["read", "readv", "recvfrom", "recvmsg"];
const WRITES: &[&str] = &["write", "writev", "sendto", "sendmsg"];
const FILE_WRITES: &[&str] = &["write", "writev", "pwrite64", "pwritev", "pwritev2"];
const SYNCS: &[&str] = &["fsync", "fdatasync"];

/// A sender's bytes as they come in, and how the answer to them begins.
struct Exchange {
    protocol: &'static str,
    sent: &'static [u8],
    is_answer: fn(&[u8]) -> bool,
}

const EXCHANGES: &[Exchange] = &[
    Exchange {
        protocol: "MQTT PUBACK",
        sent: b"traced-mqtt",
        is_answer: |bytes| bytes.starts_with(&[0x40]),
    },
    // Version and type in the first byte, then code 2.04.
    Exchange {
        protocol: "CoAP 2.04",
        sent: b"31.4159",
        is_answer: |bytes| bytes.get(1) == Some(&0x44),
    },
    Exchange {
        protocol: "HTTP 201",
        sent: b"27.1828",
        is_answer: |bytes| bytes.starts_with(b"HTTP/1.1 201"),
    },
];

/// Sends one message by each protocol and returns what the gateway asked of the kernel meanwhile.
fn trace_of_exchanges(calls: &str) -> Vec<Call> {
    let broker = Mosquitto::start();
    let ports = PressHall::with_cloud(broker.port());
    let mut gateway = Gateway::start_traced(&Site::press_hall(&ports), calls);
    let id = gateway.id();

    let mut paho = Peer::start("mqtt_client.py", &[]);
    paho.ask("connect", json!({"host": "127.0.0.1", "port": ports.mqtt, "version": 5}));
    paho.ask("publish", json!({"topic": "hall1/a/b", "payload": "traced-mqtt", "qos": 1}));
    let mut coap = Peer::start("coap_client.py", &[]);
    let uri = format!("coap://127.0.0.1:{}/sensors/boiler/temperature", ports.coap);
    let put = json!({"method": "put", "uri": uri, "payload": "31.4159", "content_format": 0});
    assert_eq!(coap.ask("request", put)["code"], "2.04");
    let url = format!("http://127.0.0.1:{}/ingest/scale7", ports.http);
    assert_eq!(programs::curl(&["--json", r#"{"weight":27.1828}"#, &url]).0, 201);

    let status = gateway.terminate();
    assert!(status.success(), "{status}");
    trace::read(&gateway.trace(), id)
}

#[test]
fn main_22_every_acknowledgement_follows_a_sync_of_what_it_acknowledges() {
    let names = [READS, WRITES, FILE_WRITES, SYNCS].concat();
    let calls = trace_of_exchanges(&names.join(","));
    for exchange in EXCHANGES {
        if let Err(fault) = sync_before_answer(&calls, exchange) {
            panic!("{}: {fault}", exchange.protocol);
        }
    }
}

/// Looks for the answer, and between what was asked and the answer for a write to a file and its sync.
fn sync_before_answer(calls: &[Call], exchange: &Exchange) -> Result<(), &'static str> {
    let is = |call: &Call, names: &[&str]| names.contains(&call.name.as_str()) && call.succeeded();
    let asked = calls
        .iter()
        .find(|call| is(call, READS) && call.carries(exchange.sent))
        .ok_or("what was sent never came in")?;
    let answer = calls
        .iter()
        .filter(|call| is(call, WRITES) && call.began > asked.ended)
        .filter(|call| call.target().starts_with("socket:"))
        .find(|call| (exchange.is_answer)(&call.bytes()))
        .ok_or("there was no answer")?;
    let written = calls
        .iter()
        .filter(|call| is(call, FILE_WRITES) && call.target().starts_with('/'))
        .find(|call| call.began > asked.ended && call.ended < answer.began)
        .ok_or("nothing was written to a file before the answer")?;
    let synced = calls.iter().any(|call| {
        let same_file = call.target() == written.target();
        is(call, SYNCS) && same_file && call.began > written.ended && call.ended < answer.began
    });
    if synced { Ok(()) } else { Err("the answer left before the sync had ended") }
}

#[test]
fn an_acknowledgement_before_its_sync_is_found() {
    let asked = r#"1 read(9<socket:[1]>, "\x31\x2e", 2) = 2"#;
    let written = r#"2 write(5</data/1>, "\x31\x2e", 2) = 2"#;
    let synced = "2 fdatasync(5</data/1>) = 0";
    let other_file = "2 fdatasync(6</data/2>) = 0";
    let failed = "2 fdatasync(5</data/1>) = -1 EIO (Input/output error)";
    let answer = r#"1 write(9<socket:[1]>, "\x40\x02", 2) = 2"#;
    let exchange =
        Exchange { protocol: "test", sent: b"1.", is_answer: |bytes| bytes.starts_with(&[0x40]) };
    #[rustfmt::skip]
    let cases: &[(&[&str], bool)] = &[
        (&[asked, written, synced, answer],     true),
        (&[asked, written, answer, synced],     false),
        (&[asked, synced, written, answer],     false),
        (&[written, synced, asked, answer],     false),
        (&[asked, written, other_file, answer], false),
        (&[asked, written, failed, answer],     false),
        (&[asked, written, answer],             false),
    ];
    for (lines, expected) in cases {
        let calls = trace::parse(&lines.join("\n"));
        assert_eq!(sync_before_answer(&calls, &exchange).is_ok(), *expected, "{lines:#?}");
    }
}

/// Calls beyond the unit's filter whose refusal does no harm: glibc asks for limits it can do without.
const REFUSED_HARMLESSLY: &[&str] = &["prlimit64", "sched_setaffinity"];

#[test]
fn main_18_the_gateway_needs_nothing_that_its_unit_forbids() {
    let mut allowed = system_calls("@system-service");
    for refused in system_calls("@privileged").union(&system_calls("@resources")) {
        allowed.remove(refused);
    }
    assert!(allowed.contains("fdatasync") && !allowed.contains("mount"), "{allowed:?}");
    for call in trace_of_exchanges("all") {
        let name = call.name.as_str();
        let is_allowed = allowed.contains(name) || REFUSED_HARMLESSLY.contains(&name);
        assert!(is_allowed, "SystemCallFilter refuses {name}({})", call.arguments);
        let is_executable = call.arguments.contains("PROT_EXEC");
        let is_denied = match name {
            "mmap" => is_executable && call.arguments.contains("PROT_WRITE"),
            "mprotect" | "pkey_mprotect" => is_executable,
            _ => false,
        };
        assert!(!is_denied, "MemoryDenyWriteExecute refuses {name}({})", call.arguments);
        if name == "socket" {
            let family = call.arguments.split(',').next().unwrap_or_default();
            let is_allowed = ["AF_INET", "AF_INET6", "AF_UNIX"].contains(&family);
            assert!(is_allowed, "RestrictAddressFamilies refuses {family}");
        }
    }
}

/// Returns the system calls of one of systemd's sets, the sets inside it included.
fn system_calls(set: &str) -> BTreeSet<String> {
    let said =
        programs::run(programs::find("systemd-analyze"), &["--no-pager", "syscall-filter", set]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let mut calls = BTreeSet::new();
    for line in said.stdout.lines().skip(1).map(str::trim) {
        if line.starts_with('@') {
            calls.extend(system_calls(line));
        } else if !line.is_empty() && !line.starts_with('#') {
            calls.insert(line.to_owned());
        }
    }
    calls
}
