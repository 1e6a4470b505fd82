//! W07: what a page in somebody's browser may try, paths that climb, and tokens where they do not belong.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use super::plant::{Plant, access};
use crate::support::{programs, wait, wire::Wire};

fn plant() -> Plant {
    let access = [access("anonymous", &["open/#", "$"]), access("alice", &["a/#", "open/#"])];
    let websocket = "[mqtt.websocket]\nlisten = [\"127.0.0.1:PORT\"]\nanonymous = true\n\
                     origins = [\"https://scada.example\"]\n";
    // Wrong tokens are tried by the hundred here, and each is to be looked at.
    let limits = "[limits.auth]\nfailures = 1000\n";
    let port = crate::support::ports::free_port().to_string();
    let more = websocket.replace("PORT", &port) + limits;
    let mut plant = Plant::start(&access.concat(), &more);
    plant.websocket = port.parse().expect("a number");
    plant
}

/// Sends a request as it stands and returns the status and the answer.
fn send(port: u16, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the listener takes us");
    stream.set_read_timeout(Some(wait::DEADLINE)).expect("a socket takes a timeout");
    stream.write_all(request.as_bytes()).expect("the socket is open");
    let mut answer = Vec::new();
    // Whoever is refused may be cut off while more is on its way.
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, answer)
}

/// A request that closes behind itself.
fn request(line: &str, fields: &[&str], body: &str) -> String {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    let length = body.len();
    format!(
        "{line} HTTP/1.1\r\n{fields}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

/// W07: a foreign Host or Origin speaks for nobody, and says so before anything is written.
#[test]
fn fault_w07_foreign_pages() {
    let plant = plant();
    let rules = plant.note();
    let mut watcher = plant.connect("operator", "watcher");
    assert_eq!(watcher.subscribe("open/#", 1), 1);
    let here = format!("127.0.0.1:{}", plant.http);
    let (host, own) = (format!("Host: {here}"), format!("Origin: http://{here}"));
    let bearer = format!("Authorization: Bearer {}", plant.token("alice"));
    #[rustfmt::skip]
    let cases: [(&str, Vec<&str>, u16); 16] = [
        ("the gateway's own page",        vec![&host, &own],                                       201),
        ("a program",                     vec![&host],                                             201),
        ("by name of this machine",       vec!["Host: localhost"],                                 201),
        ("a rebound name",                vec!["Host: evil.example"],                              403),
        ("a rebound name and its port",   vec!["Host: evil.example:8080"],                         403),
        ("a name that begins alike",      vec!["Host: localhost.evil.example"],                    403),
        ("an address with a name behind", vec!["Host: 127.0.0.1.evil.example"],                    403),
        ("a name with credentials",       vec!["Host: gateway.plant", &bearer],                    201),
        ("another site's page",           vec![&host, "Origin: http://evil.example"],              403),
        ("another port's page",           vec![&host, "Origin: http://127.0.0.1:1"],               403),
        ("a page without a site",         vec![&host, "Origin: null"],                             403),
        ("another site's, with a token",  vec![&host, "Origin: http://evil.example", &bearer],     403),
        ("a form",                        vec![&host, "Origin: http://evil.example",
                                               "Content-Type: application/x-www-form-urlencoded"], 403),
        ("a cookie is no login",          vec![&host, "Cookie: session=1; token=alice"],           201),
        ("two hosts",                     vec![&host, "Host: evil.example"],                       400),
        ("no host",                       vec![],                                                  400),
    ];
    let mut taken = 0;
    for (name, fields, expected) in cases {
        let (status, answer) = send(plant.http, &request("POST /v1/topics/open/x", &fields, "1"));
        assert_eq!(status, expected, "{name}: {answer}");
        taken += usize::from(status == 201);
        let (status, answer) = send(plant.http, &request("GET /metrics", &fields, ""));
        assert_eq!(status == 200, expected == 201, "{name}, metrics: {answer}");
        assert!(!answer.to_ascii_lowercase().contains("access-control-allow"), "{name}: {answer}");
        assert!(!answer.to_ascii_lowercase().contains("set-cookie"), "{name}: {answer}");
    }
    let got = watcher.messages(Duration::from_millis(300));
    assert_eq!(got.len(), taken, "only those that were answered 201: {got:?}");
    // A preflight is granted nothing.
    let fields = [&*host, "Origin: http://evil.example", "Access-Control-Request-Method: PUT"];
    let (status, answer) = send(plant.http, &request("OPTIONS /v1/topics/open/x", &fields, ""));
    assert!(matches!(status, 403 | 405), "{answer}");
    assert!(!answer.to_ascii_lowercase().contains("access-control-allow"), "{answer}");
    foreign_websockets(&plant);
    drop(watcher);
    rules.check(&plant.gateway);
}

fn foreign_websockets(plant: &Plant) {
    let port = plant.websocket;
    let host = format!("Host: 127.0.0.1:{port}");
    let own = format!("Origin: http://127.0.0.1:{port}");
    #[rustfmt::skip]
    let cases: [(Vec<&str>, bool); 8] = [
        (vec![&host],                                          true),
        (vec![&host, &own],                                    true),
        (vec![&host, "Origin: https://scada.example"],         true),
        (vec![&host, "Origin: http://scada.example"],          false),
        (vec![&host, "Origin: https://evil.example"],          false),
        (vec![&host, "Origin: null"],                          false),
        (vec![&host, "Origin: https://scada.example.evil"],    false),
        (vec!["Host: evil.example", "Origin: http://evil.example"], false),
    ];
    for (mut fields, granted) in cases {
        fields.extend([
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Protocol: mqtt",
        ]);
        let head: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
        let mut wire = Wire::open(port, 5);
        let answer = wire.exchange(&format!("GET /mqtt HTTP/1.1\r\n{head}\r\n"));
        assert_eq!(answer.starts_with("HTTP/1.1 101"), granted, "{fields:?}: {answer}");
    }
}

/// W07: paths that climb or hide reach nothing; a method is the one in the request line.
#[test]
fn fault_w07_paths_and_methods() {
    let plant = plant();
    let rules = plant.note();
    let host = format!("Host: 127.0.0.1:{}", plant.http);
    let send = |line: &str, more: &[&str]| {
        send(plant.http, &request(line, &[&[&*host][..], more].concat(), "1"))
    };
    assert_eq!(send("POST /v1/topics/open/x", &[]).0, 201);
    for path in [
        "/../etc/passwd",
        "/..%2f..%2fetc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/console/../../etc/passwd",
        "/console/%2e%2e/tidegate.toml",
        "//etc/passwd",
        "/./secrets/alice.tokens",
        "/secrets/alice.tokens",
        "/tidegate.toml",
        "/data/control.sock",
        "/health/../metrics",
        "/v1/../metrics",
        "/metrics/",
        "/%6detrics",
        "/v1/topics/open/../a/x",
        "/v1/topics/open%2f..%2fa",
        "/v1/topics/%2e%2e/a",
        "/v1/topics/a/x",
        "/v1/topics/",
        "/v1/topics/open/%00",
        "/v1/topics/open/%ff",
        "/v1/topics/open/%zz",
        "/v1/topics/open/+",
        "/v1/topics/$SYS/x",
    ] {
        let (status, answer) = send(&format!("GET {path}"), &[]);
        assert!(matches!(status, 400 | 403 | 404), "{path}: {answer}");
        assert!(!answer.contains("root:") && !answer.contains("[gateway]"), "{path}: {answer}");
    }
    // The name of another method in a field changes nothing: this stays a read of what was published.
    for field in ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"] {
        let field = format!("{field}: PUT");
        let (status, answer) = send("GET /v1/topics/open/x", &[&field]);
        assert!(status == 200 && answer.ends_with("\r\n\r\n1"), "{answer}");
        assert_eq!(send("GET /v1/topics/open/x?_method=PUT", &[]).0, 200);
    }
    for method in ["DELETE", "PATCH", "TRACE", "CONNECT", "PROPFIND", "get"] {
        let (status, answer) = send(&format!("{method} /v1/topics/open/x"), &[]);
        assert!(matches!(status, 400 | 405), "{method}: {answer}");
    }
    // What a client has published is shown so that a browser does not run it.
    let page = "<script>alert(1)</script>";
    let url = format!("http://127.0.0.1:{}/v1/topics/open/page", plant.http);
    assert_eq!(programs::curl(&["-H", "Content-Type: text/html", "-d", page, &url]).0, 201);
    let (_, answer) = send("GET /v1/topics/open/page", &[]);
    let answer = answer.to_ascii_lowercase();
    for field in ["x-content-type-options: nosniff", "content-security-policy: sandbox"] {
        assert!(answer.contains(field), "{field}: {answer}");
    }
    rules.check(&plant.gateway);
}

/// W07: a token counts in its header only, wrong ones take as long as ended ones, and none gets into the log.
#[test]
fn fault_w07_tokens() {
    let plant = plant();
    let rules = plant.note();
    let secrets = plant.gateway.folder().join("secrets").display().to_string();
    let said =
        programs::tidegate(&["token", "add", "alice", "--expires", "1s", "--secrets", &secrets]);
    let ended = said.stdout.trim().to_owned();
    let (good, host) = (plant.token("alice").to_owned(), format!("Host: 127.0.0.1:{}", plant.http));
    let get = |target: &str, more: &[&str]| {
        send(plant.http, &request(&format!("GET {target}"), &[&[&*host][..], more].concat(), "")).0
    };
    let bearer = |token: &str| format!("Authorization: Bearer {token}");
    wait::until("the token to be known, and to end", || {
        (get("/v1/topics/a/x", &[&bearer(&ended)]) == 401).then_some(())
    });
    assert_eq!(get("/v1/topics/a/x", &[&bearer(&good)]), 404, "there is none yet");
    for query in ["token", "access_token", "authorization", "api_key"] {
        let status = get(&format!("/v1/topics/a/x?{query}={good}"), &[]);
        assert_eq!(status, 403, "{query}: anonymous may not");
        assert!(matches!(get(&format!("/v1/topics?{query}={good}"), &[]), 400 | 403));
    }
    for field in ["Cookie: token=", "X-API-Key: ", "X-Auth-Token: ", "Proxy-Authorization: Bearer "]
    {
        assert_eq!(get("/v1/topics/a/x", &[&format!("{field}{good}")]), 403, "{field}");
    }
    let unknown = format!("tg_{}", "A".repeat(good.len() - 3));
    let cut = &good[..good.len() - 1];
    let mut wrong =
        vec![unknown.clone(), cut.to_owned(), format!("{good}x"), ended.clone(), "x".into()];
    wrong.push(good.to_ascii_uppercase());
    for token in &wrong {
        assert_eq!(get("/v1/topics/a/x", &[&bearer(token)]), 401, "{token}");
    }
    // Twice is one too many, whichever comes first.
    let twice = get("/v1/topics/a/x", &[&bearer(&unknown), &bearer(&good)]);
    assert!(matches!(twice, 400 | 401), "{twice}");

    let median = |token: &str| {
        let bearer = bearer(token);
        let mut times: Vec<Duration> = (0..101)
            .map(|_| {
                let start = Instant::now();
                assert_eq!(get("/v1/topics/a/x", &[&bearer]), 401);
                start.elapsed()
            })
            .collect();
        times.sort();
        times[50]
    };
    let times = [unknown.as_str(), cut, &ended].map(median);
    println!("medians of refusals: {times:?}");
    let (least, most) = (times.iter().min().expect("three"), times.iter().max().expect("three"));
    assert!(*most < *least * 2 + Duration::from_millis(1), "as long for each: {times:?}");
    rules.check(&plant.gateway);
    let log = plant.gateway.output().lines().join("\n");
    assert!(!log.contains(&ended) && !log.contains(&unknown), "G7");
}
