//! W01: requests that take their time, and answers that nobody reads.

use serde_json::{Value, json};

use super::{
    figure,
    plant::{Plant, access},
};
use crate::support::{crowd::Crowds, programs};

/// By how much a deadline may be missed on a busy machine, in seconds.
const LATE: f64 = 4.0;

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// A request as bytes.
fn request(line: &str, fields: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: 127.0.0.1\r\n{fields}\r\n")
}

/// W01: head, body, answer and pause each have their deadline, in the clear and over TLS.
#[test]
fn fault_w01_slow_requests_and_readers() {
    // Every change: as many connections of each kind, and deadlines scaled down. The order is head, body, write, idle.
    let (count, deadlines) = figure((60, [2.0, 3.0, 4.0, 5.0]), (125, [10.0, 30.0, 20.0, 25.0]));
    let [header, body, write, idle] = deadlines;
    let limits = format!(
        "[limits.http]\nheader-deadline = \"{header}s\"\nbody-deadline = \"{body}s\"\n\
         write-deadline = \"{write}s\"\nidle-deadline = \"{idle}s\"\n"
    );
    let plant = Plant::start(&access("anonymous", &["a/#", "canary/#"]), &limits);
    let large = "x".repeat(900_000);
    let url = format!("http://127.0.0.1:{}/v1/topics/a/large", plant.http);
    let file = plant.gateway.folder().join("large");
    std::fs::write(&file, &large).expect("a temporary folder takes files");
    let data = format!("@{}", file.display());
    assert_eq!(programs::curl(&["--data-binary", &data, &url]).0, 201);

    let rules = plant.note();
    let mut crowds = Crowds::start();
    let get = request("GET /v1/topics/a/large", "");
    let bearer = format!("Authorization: Bearer {}\r\n", plant.token("operator"));
    let gets = request("GET /v1/topics/a/large", &bearer);
    let post = request("POST /v1/topics/a/x", &format!("{bearer}Content-Length: 1000\r\n"));
    let health = request("GET /health/live", "");
    let slow = |first: &str, rest: &str| json!({"first": hex(first), "rest": hex(rest), "interval": header / 4.0});
    let secure = json!({"ca": plant.gateway.folder().join("ca.pem").display().to_string()});
    let encrypted = |mut options: Value| {
        options["tls"] = secure.clone();
        options
    };
    let chatter = &"x".repeat(500);
    let half = count / 2;
    #[rustfmt::skip]
    let kinds = [
        ("head",     "dribble", plant.http,  half,  slow("", &request("GET /", chatter)),              header),
        ("head-tls", "dribble", plant.https, half,  encrypted(slow("", &request("GET /", chatter))),   header),
        ("fields",   "dribble", plant.http,  count, slow("GET / HTTP/1.1\r\nHost: x\r\nX: ", chatter), header),
        ("body",     "dribble", plant.http,  half,  slow(&post, chatter),                              body),
        ("body-tls", "dribble", plant.https, half,  encrypted(slow(&post, chatter)),                   body),
        ("deaf",     "deaf",    plant.http,  count, json!({"first": hex(&get)}),                       write),
        ("deaf-tls", "deaf_tls", plant.https, half, encrypted(json!({"first": hex(&gets), "times": 10})), write),
        ("idle",     "silent",  plant.http,  half,  json!({"first": hex(&health)}),                    idle),
        ("idle-tls", "silent",  plant.https, half,  encrypted(json!({"first": hex(&health)})),         idle),
    ];
    for (name, kind, port, count, more, _) in &kinds {
        crowds.gather(name, kind, *port, *count, more.clone());
    }
    for (name, _, _, count, _, deadline) in &kinds {
        let report = crowds.over(name);
        println!("{name}: {report}");
        assert_eq!(report["ended"], *count);
        let lasted = |which: &str| report[which].as_f64().expect("a number");
        // What still fits into the buffers on the way is no late answer.
        let limit = if name.starts_with("deaf") { deadline * 2.0 } else { *deadline };
        assert!(lasted("longest") <= limit + LATE, "{name}: {report}");
        assert!(lasted("shortest") >= deadline - 0.3, "{name}: {report}");
        let answers = report["answers"].to_string();
        if name.starts_with("body") {
            assert!(answers.contains("408"), "whoever sends a body is told: {answers}");
        }
    }
    let slow_bodies = 2 * half;
    let others = kinds.iter().map(|(_, _, _, count, ..)| count).sum::<usize>() - slow_bodies;
    let http = &plant.gateway.status(&[])["adapters"]["http"];
    let counted =
        (&http["http_connections"]["timed-out"], &http["http_requests_refused"]["timeout"]);
    assert_eq!(counted, (&json!(others), &json!(slow_bodies)), "G6: the exact number: {http}");
    drop(crowds);
    rules.check(&plant.gateway);
}
