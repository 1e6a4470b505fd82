//! The adapter over real sockets on loopback, against a gateway under the test's control.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

mod bench;

use std::time::Duration;

use bench::{PATIENCE, adapter, points, settings, start, start_with};
use tidegate_adapter_api::{
    Delivery, LastMessage, Outcome, PointId, PointSet, Refusal, test_kit::stops_and_starts_again,
};
use tidegate_adapter_http::{HttpAdapter, HttpSettings};
use tidegate_model::{AdapterName, Captures, Payload, Principal, Qos, Timestamp, Topic, Value};
use tokio::time::{Instant, timeout};

/// D21 of `docs/promises.md`, main.11: 201 comes after the receipt, and not before; all or none.
#[tokio::test]
async fn a_post_is_answered_when_it_is_durable() {
    let bench = start().await;
    bench.gateway.hold();
    let mut client = bench.connect().await;
    let body = r#"{"weight":12.5,"stable":true}"#;
    client.request("POST", "/ingest/a%2Fb", "Content-Type: application/json", body).await;
    let batch = bench.gateway.next_batch().await;
    assert_eq!((batch.delivery, batch.generation), (Delivery::Confirmed, 1));
    assert_eq!(batch.principal, Some(Principal::anonymous()));
    let members: Vec<_> = batch.readings.iter().map(|reading| reading.captures.clone()).collect();
    let captures = |member: &str| Captures::new(["a/b".into(), member.into()]);
    assert_eq!(members, [captures("weight"), captures("stable")]);
    assert_eq!(batch.readings[0].reading.value, Value::Double(12.5));
    assert!(client.is_silent().await, "no answer before the receipt");
    bench.gateway.release(&Outcome::Durable);
    let answer = client.answer().await;
    assert_eq!((answer.status, &*answer.body), (201, ""));
    // Keep-alive, and PUT as well.
    bench.gateway.answer(Outcome::Accepted);
    assert_eq!(client.ask("PUT", "/plain", "", "21.5").await.status, 201);
    assert_eq!(bench.handles.count("http_connections", "accepted"), 1);
    bench.stop().await;
}

/// main.11: refusals are problem documents with the right status.
#[tokio::test]
async fn refusals_are_problem_documents() {
    let bench = start().await;
    let json = "Content-Type: application/json";
    let large = "x".repeat(2_000);
    #[rustfmt::skip]
    let cases = [
        ("POST",    "/nothing",     "",     "1",        404, "not-found",   "nothing is mapped at /nothing"),
        ("POST",    "/",            "",     "1",        404, "not-found",   "nothing is mapped at /"),
        ("POST",    "/v1/nothing",  "",     "1",        404, "not-found",   "there is no /v1/nothing"),
        ("POST",    "/console",     "",     "1",        404, "not-found",   "there is no /console"),
        ("POST",    "/%FF",         "",     "1",        400, "bad-request", "the path is not percent-encoded UTF-8"),
        ("GET",     "/plain",       "",     "",         405, "method",      "use POST, PUT"),
        ("DELETE",  "/v1/topics/a", "",     "",         405, "method",      "use GET, HEAD, POST, PUT"),
        ("POST",    "/ingest/a",    json,   "[1]",      400, "payload",     "`each = \"member\"` needs an object, found array"),
        ("POST",    "/ingest/a",    json,   "{",        400, "payload",     "not JSON: EOF while parsing an object at line 1 column 1"),
        ("POST",    "/plain",       "Content-Type: image/png", "x", 415, "format", "unsupported format; use plain text, JSON, CBOR, SenML (JSON, CBOR) or bytes"),
        ("POST",    "/plain",       "Content-Encoding: gzip", "x", 415, "format", "bodies are taken without Content-Encoding only"),
        ("POST",    "/plain",       "",     &large,     413, "too-large",   "a body has at most 1000 bytes"),
        ("POST",    "/v1/topics/a", "",     &large,     413, "too-large",   "a body has at most 1000 bytes"),
        ("GET",     "/v1/topics/a", "",     "",         404, "not-found",   "`a` has no message yet"),
        ("GET",     "/v1/topics?x", "",     "",         400, "bad-request", "the arguments are filter, limit and after, each once"),
        ("POST",    "/health/live", "",     "",         405, "method",      "use GET, HEAD"),
    ];
    for (method, path, header, body, status, kind, detail) in cases {
        let answer = bench.connect().await.ask(method, path, header, body).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        let problem: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(problem["type"], format!("urn:tidegate:problem:{kind}"), "{method} {path}");
        assert_eq!((&problem["detail"], &problem["status"]), (&detail.into(), &status.into()));
        if status == 405 {
            assert_eq!(answer.header("allow"), Some(&detail["use ".len()..]));
        }
    }
    assert_eq!(bench.gateway.batches_waiting(), 0);
    assert_eq!(bench.handles.count("http_requests_refused", "payload"), 2);
    assert_eq!(bench.handles.count("http_requests_refused", "method"), 3);
    bench.stop().await;
}

#[tokio::test]
async fn what_the_gateway_refuses_has_its_status() {
    let bench = start().await;
    let mut client = bench.connect().await;
    let busy = Refusal::Busy { retry_after: Duration::from_secs(2) };
    for (refusal, status, retry_after) in [
        (busy, 503, Some("2")),
        (Refusal::StorageFull, 507, Some("60")),
        (Refusal::ShuttingDown, 503, Some("5")),
        (Refusal::Invalid { reason: "no".into() }, 400, None),
        (Refusal::NotAuthorized, 403, None),
    ] {
        bench.gateway.answer(Outcome::Refused(refusal.clone()));
        for path in ["/plain", "/v1/topics/a"] {
            let answer = client.ask("POST", path, "", "1").await;
            assert_eq!(
                (answer.status, answer.header("retry-after")),
                (status, retry_after),
                "{refusal:?}"
            );
        }
    }
    bench.stop().await;
}

/// main.11: publish, publish retained, read and list over HTTP.
#[tokio::test]
async fn topics_are_published_read_and_listed() {
    let bench = start().await;
    let mut client = bench.connect().await;
    for (method, retain) in [("POST", false), ("PUT", true)] {
        let header = "Content-Type: text/csv";
        assert_eq!(client.ask(method, "/v1/topics/a//%24b", header, "1;2").await.status, 201);
        let (principal, publication) = bench.gateway.next_publication().await;
        assert!(principal.is_anonymous());
        assert_eq!(publication.topic, Topic::new("a//$b").unwrap());
        assert_eq!((publication.qos, publication.retain), (Qos::AtLeastOnce, retain));
        assert_eq!(publication.payload, "1;2");
        assert_eq!(publication.content_type.as_deref(), Some("text/csv"));
    }
    for (number, name) in ["hall1/a/t", "hall1/b/t", "hall2/a/t"].into_iter().enumerate() {
        let message = LastMessage {
            topic: Topic::new(name).unwrap(),
            payload: Payload::bytes(name.to_owned()),
            content_type: Some("text/plain".into()),
            arrival: Timestamp::default(),
        };
        let point = PointId(u32::try_from(number).unwrap());
        bench.gateway.set_last(point, Captures::none(), message);
    }
    let answer = client.ask("GET", "/v1/topics/hall1/a/t", "", "").await;
    assert_eq!((answer.status, &*answer.body), (200, "hall1/a/t"));
    assert_eq!(answer.header("content-type"), Some("text/plain"));
    let head = client.ask("HEAD", "/v1/topics/hall1/a/t", "", "").await;
    assert_eq!((head.status, head.header("content-length")), (200, Some("9")));

    let mut topics = async |query: &str| {
        let path = format!("/v1/topics{query}");
        let answer = client.ask("GET", &path, "", "").await;
        let list: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        let names = list["topics"].as_array().unwrap().iter().map(|topic| topic["topic"].clone());
        (names.collect::<Vec<_>>(), list["next"].clone())
    };
    assert_eq!(topics("").await.0, ["hall1/a/t", "hall1/b/t", "hall2/a/t"]);
    assert_eq!(topics("?filter=+/a/t").await.0, ["hall1/a/t", "hall2/a/t"]);
    assert_eq!(topics("?limit=2").await.1, "hall1/b/t");
    assert_eq!(topics("?limit=2&after=hall1/b/t").await.0, ["hall2/a/t"]);
    bench.stop().await;
}

/// main.11: health needs no credentials and tells what is wrong; metrics do where clients do.
#[tokio::test]
async fn health_and_metrics_are_shown() {
    let bench = start_with(settings(), false).await;
    let mut client = bench.connect().await;
    assert_eq!(client.ask("GET", "/health/live", "", "").await.body, r#"{"status":"live"}"#);
    assert_eq!(client.ask("GET", "/health/ready", "", "").await.body, r#"{"status":"ready"}"#);
    bench.gateway.set_not_ready(Some("the store is \"recovering\""));
    let answer = client.ask("GET", "/health/ready", "", "").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.body, r#"{"status":"not-ready","reason":"the store is \"recovering\""}"#);
    assert_eq!(client.ask("GET", "/metrics", "", "").await.status, 401);
    bench.gateway.add_user("prometheus", b"p");
    let basic = "Authorization: Basic cHJvbWV0aGV1czpw";
    let metrics = client.ask("GET", "/metrics", basic, "").await;
    assert_eq!(metrics.status, 200);
    assert_eq!(
        metrics.header("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    assert!(metrics.body.ends_with("# EOF\n"));
    bench.stop().await;
}

/// main.8: Basic credentials decide who publishes; nobody without them is served here.
#[tokio::test]
async fn credentials_are_asked_for() {
    let bench = start_with(settings(), false).await;
    bench.gateway.add_user("press-7", b"secret");
    let mut client = bench.connect().await;
    for path in ["/plain", "/nothing", "/v1/topics/a"] {
        for header in ["", "Authorization: Basic cHJlc3MtNzp3cm9uZw=="] {
            let answer = client.ask("POST", path, header, "1").await;
            assert_eq!(answer.status, 401, "{path} {header}");
            let challenge = "Basic realm=\"tidegate\", charset=\"UTF-8\"";
            assert_eq!(answer.header("www-authenticate"), Some(challenge));
        }
    }
    let logins = bench.gateway.logins();
    let basic = "Authorization: Basic cHJlc3MtNzpzZWNyZXQ=";
    for _ in 0..5 {
        assert_eq!(client.ask("POST", "/plain", basic, "1").await.status, 201);
        let principal = bench.gateway.next_batch().await.principal;
        assert_eq!(principal.unwrap().as_str(), "press-7");
    }
    assert_eq!(bench.gateway.logins(), logins + 1, "checked once for the connection");
    bench.stop().await;
}

/// `docs/config.md`, reload: new mappings take effect on open connections, too.
#[tokio::test]
async fn a_reload_reaches_open_connections() {
    let bench = start().await;
    let mut client = bench.connect().await;
    assert_eq!(client.ask("POST", "/plain", "", "1").await.status, 201);
    bench.handles.points.send_replace(PointSet::new(vec![points()[0].clone()], 2));
    assert_eq!(client.ask("POST", "/plain", "", "1").await.status, 404);
    bench.stop().await;
}

#[tokio::test]
async fn the_contract_of_adapters_is_kept() {
    stops_and_starts_again(&mut adapter(settings()), points()).await;
}

/// A request under way when the gateway stops is answered; an idle connection is closed at once.
#[tokio::test]
async fn a_stop_gives_the_last_answers() {
    let bench = start().await;
    bench.gateway.hold();
    let (mut client, mut idle) = (bench.connect().await, bench.connect().await);
    assert_eq!(idle.ask("GET", "/health/live", "", "").await.status, 200);
    client.request("POST", "/plain", "", "1").await;
    bench.gateway.next_batch().await;
    let stopping = Instant::now();
    bench.handles.shutdown.cancel();
    assert!(idle.is_closed().await);
    bench.gateway.release(&Outcome::Durable);
    assert_eq!(client.answer().await.status, 201);
    timeout(PATIENCE, bench.run).await.unwrap().unwrap();
    assert!(stopping.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let first = adapter(settings());
    let second = HttpSettings::listening_on(first.local_addrs());
    let error = HttpAdapter::bind(AdapterName::new("second").unwrap(), second).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot listen on {}", first.local_addrs()[0]));
}

/// Connections beyond the bounds are closed at once, counted, and free again when others end.
#[tokio::test]
async fn connections_are_bounded() {
    let bench =
        start_with(HttpSettings { connections_per_address_max: 2, ..settings() }, true).await;
    let (mut first, mut second) = (bench.connect().await, bench.connect().await);
    assert_eq!(first.ask("GET", "/health/live", "", "").await.status, 200);
    assert_eq!(second.ask("GET", "/health/live", "", "").await.status, 200);
    assert!(bench.connect().await.is_closed().await);
    assert_eq!(bench.handles.count("http_connections", "over-address"), 1);
    drop(first);
    let served = async {
        loop {
            let mut next = bench.connect().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            if !next.has_ended() {
                return next.ask("GET", "/health/live", "", "").await.status;
            }
        }
    };
    assert_eq!(timeout(PATIENCE, served).await, Ok(200), "the place is given back");
    bench.stop().await;
}
