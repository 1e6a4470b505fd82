//! The harness itself: what it starts works, and what it reports would be noticed.

use std::fs;
use std::process::Command;

use serde_json::json;

use crate::support::mosquitto::{Mosquitto, Options};
use crate::support::peer::Peer;
use crate::support::process::{Owned, Stdout};
use crate::support::{ports, programs, trace, wait};

/// Starts the cloud peer at a broker.
fn cloud(broker: &Mosquitto, version: &str) -> Peer {
    let port = broker.port().to_string();
    Peer::start("cloud.py", &["--port", &port, "--topic", "tidegate/#", "--version", version])
}

/// Starts the MQTT peer and connects its client.
fn publisher(broker: &Mosquitto, version: u8) -> Peer {
    let mut peer = Peer::start("mqtt_client.py", &[]);
    let options =
        json!({"host": "127.0.0.1", "port": broker.port(), "version": version, "reconnect": true});
    let connack = peer.ask("connect", options);
    assert_eq!(connack["reason"], 0, "{connack}");
    peer
}

/// A batch of two readings on stream `a`, numbers 1 and 2, made by hand: `{v, gw, up, ep, seq, t0, s}`.
const BATCH: &str = "960000001076000100000002677700020000006700027570000200000075001265700007000000000000001273\
    65710001000000000000000974300000000000000000000473004e00000003300046000000026e000200000061\
    001269000100000000000000046474001300000010300000000000103100010000000004780013000000103000\
    010000001031000200000000000000";

#[test]
fn messages_survive_a_stop_of_the_broker() {
    let mut broker = Mosquitto::start();
    let mut peer = publisher(&broker, 5);
    let session = json!({
        "client": "keeper", "client_id": "keeper", "host": "127.0.0.1", "port": broker.port(),
        "clean": false, "properties": {"SessionExpiryInterval": 600}, "reconnect": true,
    });
    peer.ask("connect", session);
    peer.ask("subscribe", json!({"client": "keeper", "filters": [["a/#", 1]]}));
    broker.stop();
    broker.start_again();
    wait::until("both clients to come back", || {
        let mut is_back = |client| peer.ask("state", json!({"client": client}))["connections"] == 2;
        (is_back("main") && is_back("keeper")).then_some(())
    });
    let properties = json!({"UserProperty": [["k", "v"]], "ContentType": "text/plain"});
    let publish = json!({"topic": "a/b", "payload": "x", "qos": 2, "properties": properties});
    assert_eq!(peer.ask("publish", publish), 0);
    let messages = peer.ask("messages", json!({"client": "keeper", "count": 1}));
    assert_eq!(messages[0]["topic"], "a/b");
    assert_eq!(messages[0]["qos"], 1, "delivered at the subscription's QoS");
    assert_eq!(messages[0]["properties"]["UserProperty"], json!([["k", "v"]]));
}

#[test]
fn a_refused_login_is_reported_and_the_right_one_let_in() {
    let login = Some(("gw", "s3cret"));
    let broker = Mosquitto::start_with(Options { login, ..Options::default() });
    let mut peer = Peer::start("mqtt_client.py", &[]);
    for version in [4, 5] {
        for (password, refused) in [("wrong", true), ("s3cret", false)] {
            let options = json!({
                "host": "127.0.0.1", "port": broker.port(), "version": version,
                "username": "gw", "password": password,
            });
            let connack = peer.ask("connect", options);
            assert_eq!(connack["refused"], refused, "MQTT {version}, {password}: {connack}");
        }
    }
}

#[test]
fn a_will_is_published_when_a_client_drops() {
    let broker = Mosquitto::start();
    let mut peer = publisher(&broker, 4);
    peer.ask("subscribe", json!({"filters": [["gone/+", 1]]}));
    let will = json!({"topic": "gone/1", "payload": "bye", "qos": 1});
    let mortal = json!({"client": "mortal", "host": "127.0.0.1", "port": broker.port(), "version": 4, "will": will});
    peer.ask("connect", mortal);
    peer.ask("drop", json!({"client": "mortal"}));
    let messages = peer.ask("messages", json!({"count": 1}));
    assert_eq!(messages[0]["payload"], "bye");
}

#[test]
fn a_series_keeps_the_book_of_acknowledgements() {
    let broker = Mosquitto::start();
    let mut peer = publisher(&broker, 5);
    peer.ask("subscribe", json!({"filters": [["s/#", 1]]}));
    peer.ask(
        "series",
        json!({"name": "s", "count": 50, "topic": "s/{n}", "payload": "{n}", "qos": 1}),
    );
    let state = peer.ask("series_wait", json!({"name": "s", "acked": 50}));
    assert_eq!(state["acked"], json!((1..=50).collect::<Vec<_>>()));
    assert_eq!(state["unanswered"], json!([]));
    let messages = peer.ask("messages", json!({"count": 50}));
    assert_eq!(messages[49]["payload"], "50");
}

#[test]
fn the_cloud_decodes_batches_by_both_versions_and_reports_what_it_cannot() {
    for (version, options, topic) in [
        (5, json!({"ContentType": "application/bson"}), "tidegate/g/up"),
        (4, json!(null), "tidegate/g/bson"),
    ] {
        let broker = Mosquitto::start();
        let mut cloud = cloud(&broker, &version.to_string());
        let mut peer = publisher(&broker, version);
        let publish = |payload_hex: &str| json!({"topic": topic, "payload_hex": payload_hex, "qos": 1, "properties": options});
        peer.ask("publish", publish(BATCH));
        peer.ask("publish", publish("00"));
        peer.ask("publish", json!({"topic": "tidegate/g/result/a", "payload": "{}", "qos": 1}));
        cloud.ask("wait", json!({"count": 2}));
        let others = cloud.ask("wait_others", json!({"count": 1}));
        assert_eq!(others[0]["topic"], "tidegate/g/result/a");
        let readings = cloud.ask("readings", json!({"topic": "a"}));
        assert_eq!(readings[1]["i"], 2);
        assert_eq!(readings[1]["value"], 2);
        assert_eq!(readings[1]["time"], "1970-01-01T00:00:00.001000Z");
        let report = cloud.ask("report", json!({}));
        assert_eq!(report["batches"], 1);
        assert_eq!(report["malformed"].as_array().map(Vec::len), Some(1), "{report}");
    }
}

#[test]
fn an_opcua_server_takes_values_writes_and_new_presses() {
    let port = ports::free_port().to_string();
    let mut server = Peer::start(
        "asyncua_server.py",
        &["--port", &port, "--presses", "2", "--shift-namespace", "1"],
    );
    assert_eq!(server.facts()["namespace_index"], 3);
    let node = "Press.2.Temperature";
    let moment = "2026-03-01T12:00:00.123456Z";
    server.ask(
        "set",
        json!({"node": node, "value": 64.5, "status": 0x4000_0000, "source_time": moment}),
    );
    let held =
        json!({"value": 64.5, "type": "Double", "status": 0x4000_0000, "source_time": moment});
    assert_eq!(server.ask("read", json!({"node": node})), held);
    assert!(server.try_ask("read", json!({"node": "Press.3.Temperature"})).is_err());
    server.ask("add_press", json!({"n": 3}));
    assert_eq!(server.ask("read", json!({"node": "Press.3.Setpoint"}))["value"], 0.0);
    assert_eq!(
        server.ask("writes", json!({})),
        json!([]),
        "its own values are not clients' writes"
    );

    let url = format!("opc.tcp://127.0.0.1:{port}/");
    let uawrite = programs::python().with_file_name("uawrite");
    let write = |value| {
        let said = programs::run(
            &uawrite,
            &["-u", &url, "-n", "ns=3;s=Press.3.Setpoint", "-t", "double", value],
        );
        said.code
    };
    assert_eq!(write("66.5"), Some(0));
    server.ask("set_writable", json!({"node": "Press.3.Setpoint", "writable": false}));
    assert_ne!(write("67.5"), Some(0));
    let writes = server.ask("writes", json!({}));
    assert_eq!(
        writes[0],
        json!({"node": "Press.3.Setpoint", "value": 66.5, "type": "Double", "status": 0})
    );
    assert_ne!(writes[1]["status"], 0, "{writes}");
    assert_eq!(server.ask("read", json!({"node": "Press.3.Setpoint"}))["value"], 66.5);

    server.ask(
        "feed",
        json!({"name": "f", "node": "Press.1.Temperature", "count": 5, "interval": 0.001}),
    );
    server.ask("feed_wait", json!({"name": "f"}));
    assert_eq!(server.ask("read", json!({"node": "Press.1.Temperature"}))["value"], 5.0);
}

#[test]
fn both_coap_clients_speak_to_a_server_and_report_refusals() {
    let port = ports::free_port().to_string();
    let mut server = Command::new(programs::find("coap-server-notls"));
    server.args(["-A", "127.0.0.1", "-p", &port, "-d", "10"]);
    let _server = Owned::start("coap-server", &mut server, Stdout::Remembered);
    let uri = format!("coap://127.0.0.1:{port}/press/1");
    let mut peer = Peer::start("coap_client.py", &[]);
    let request = |method, payload, confirmable| json!({"method": method, "uri": uri, "payload": payload, "confirmable": confirmable, "content_format": 0});
    wait::until("the server to listen", || {
        peer.try_ask("request", request("put", "21.5", true))
            .ok()
            .filter(|answer| answer["code"] == "2.01")
    });
    assert_eq!(peer.ask("request", request("put", "22.5", false))["code"], "2.04");
    let answer = peer.ask("request", request("get", "", true));
    assert_eq!((&answer["code"], &answer["payload"]), (&json!("2.05"), &json!("22.5")));
    assert_eq!(programs::coap_client(&["-m", "get", &uri]), "22.5");
    let absent = format!("{uri}/absent");
    assert!(programs::coap_client(&["-m", "get", &absent]).starts_with("4.04"));
    peer.ask(
        "series",
        json!({"name": "s", "count": 20, "method": "put", "uri": uri, "content_format": 0}),
    );
    let state = peer.ask("series_wait", json!({"name": "s", "acked": 20}));
    assert_eq!(state["unanswered"], json!([]));
    assert_eq!(programs::coap_client(&["-m", "get", &uri]), "20");
}

#[test]
fn both_http_clients_report_status_and_body() {
    let port = ports::free_port().to_string();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("x"), "21.5").unwrap();
    let mut server = Command::new(programs::python());
    server.args(["-m", "http.server", "--bind", "127.0.0.1", &port]).current_dir(folder.path());
    let _server = Owned::start("http.server", &mut server, Stdout::Remembered);
    let mut peer = Peer::start("http_client.py", &[]);
    let url = format!("http://127.0.0.1:{port}/x");
    let get = json!({"method": "GET", "url": url});
    let answer = wait::until("the server to listen", || peer.try_ask("request", get.clone()).ok());
    assert_eq!((&answer["status"], &answer["body"]), (&json!(200), &json!("21.5")));
    assert_eq!(programs::curl(&[&url]), (200, "21.5".to_owned()));
    assert_eq!(programs::curl(&[&format!("{url}y")]).0, 404);
    peer.ask(
        "series",
        json!({"name": "s", "count": 3, "method": "PUT", "url": url, "retry": false}),
    );
    let state = wait::until("the series to end", || {
        Some(peer.ask("series_state", json!({"name": "s"}))).filter(|state| state["done"] == true)
    });
    assert_eq!(
        (&state["acked"], &state["unanswered"]),
        (&json!([]), &json!([1, 2, 3])),
        "PUT is a 501 there"
    );
}

#[test]
fn ports_are_free_and_never_given_twice() {
    let mut given: Vec<u16> = (0..200).map(|_| ports::free_port()).collect();
    given.sort_unstable();
    given.dedup();
    assert_eq!(given.len(), 200);
}

#[test]
fn a_trace_tells_what_began_and_ended_when() {
    let text = "\
12 fdatasync(7<\\x2f\\x78> <unfinished ...>
13 write(9<socket:[1]>, \"\\x40\\x02\", 2) = 2
12 <... fdatasync resumed>) = 0
13 fsync(8) = -1 EIO (Input/output error)
13 --- SIGTERM {si_signo=SIGTERM} ---
13 +++ exited with 0 +++
";
    let calls = trace::parse(text);
    let shown: Vec<_> =
        calls.iter().map(|call| (call.name.as_str(), call.began, call.ended)).collect();
    assert_eq!(shown, [("write", 1, 1), ("fdatasync", 0, 2), ("fsync", 3, 3)]);
    assert!(calls[0].carries(b"\x40\x02") && !calls[0].carries(b"\x50"));
    let targets = (calls[0].target(), calls[1].target());
    assert_eq!(targets, ("socket:[1]".to_owned(), "/x".to_owned()));
    assert!(calls[1].succeeded() && !calls[2].succeeded());
}

#[test]
fn a_trace_tells_buffers_from_addresses() {
    #[rustfmt::skip]
    let cases = [
        // call                                                                                        bytes
        (r#"1 sendto(3<\x73>, "\x68\x69", 2, 0, {sin_addr=inet_addr("\x31")}, 16) = 2"#,               "hi"),
        (r#"1 writev(4<\x2f>, [{iov_base="\x61", iov_len=1}, {iov_base="\x62", iov_len=1}], 2) = 2"#,   "ab"),
        (r#"1 sendmsg(3, {msg_name={sin_addr=inet_addr("\x31")}, msg_iov=[{iov_base="\x61"}]}, 0) = 1"#, "a"),
        ("1 fdatasync(3) = 0",                                                                         ""),
    ];
    for (line, bytes) in cases {
        assert_eq!(trace::parse(line)[0].bytes(), bytes.as_bytes(), "{line}");
    }
}

#[test]
fn strace_leaves_what_the_parser_reads() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trace");
    let copy = folder.path().join("copy").display().to_string();
    let file_text = file.display().to_string();
    let options =
        ["-f", "-y", "-xx", "-s", "4096", "-e", "trace=write,fdatasync", "-o", &file_text];
    let dd = ["dd", "if=/etc/hostname", &format!("of={copy}"), "conv=fdatasync", "status=none"];
    let mut command = Command::new(programs::find("strace"));
    // As the gateway is traced: the tracee, not strace, is our child.
    let command = command.arg("-D").args(options).args(dd);
    let mut process = Owned::start("dd", command, Stdout::Remembered);
    let id = process.id();
    wait::until("dd to end", || process.ended());
    let calls = trace::read(&file, id);
    let written = calls
        .iter()
        .position(|call| call.name == "write" && call.carries(&fs::read(&copy).unwrap()));
    let synced = calls.iter().position(|call| call.name == "fdatasync" && call.succeeded());
    assert!(written.is_some() && written < synced, "{calls:?}");
}
