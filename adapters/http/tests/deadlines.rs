//! W01 and W03 of `docs/fault-catalogue.md`: slow peers and broken requests, over real sockets.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

mod bench;

use std::time::Duration;

use bench::{settings, start, start_with};
use tidegate_adapter_api::{LastMessage, PointId};
use tidegate_adapter_http::HttpSettings;
use tidegate_model::{Captures, Payload, Timestamp, Topic};
use tokio::time::{Instant, sleep};

const SHORT: Duration = Duration::from_millis(400);
const LONG: Duration = Duration::from_secs(20);

/// Each deadline has its own test, with all others far away, so that the right one is seen to act.
fn far() -> HttpSettings {
    HttpSettings {
        header_deadline: LONG,
        body_deadline: LONG,
        idle_deadline: LONG,
        write_deadline: LONG,
        ..settings()
    }
}

#[tokio::test]
async fn a_head_must_be_complete_in_time() {
    let bench = start_with(HttpSettings { header_deadline: SHORT, ..far() }, true).await;
    let mut silent = bench.connect().await;
    let mut slow = bench.connect().await;
    let start = Instant::now();
    let dripping = async {
        loop {
            slow.send("G").await;
            sleep(Duration::from_millis(20)).await;
            if slow.has_ended() {
                return;
            }
        }
    };
    tokio::time::timeout(bench::PATIENCE, dripping).await.unwrap();
    assert!(start.elapsed() >= SHORT - Duration::from_millis(20), "{:?}", start.elapsed());
    assert!(silent.is_closed().await, "a connection that says nothing ends, too");
    assert_eq!(bench.handles.count("http_connections", "timed-out"), 2);
    bench.stop().await;
}

/// The deadline of a head runs from its own first byte, not from the request before.
#[tokio::test]
async fn an_idle_connection_outlives_the_deadline_of_heads() {
    let bench = start_with(HttpSettings { header_deadline: SHORT, ..far() }, true).await;
    let mut client = bench.connect().await;
    for _ in 0..3 {
        assert_eq!(client.ask("POST", "/plain", "", "1").await.status, 201);
        sleep(SHORT * 2).await;
    }
    client.send("GET /health/live HTTP/1.1\r\n").await;
    assert!(client.is_closed().await);
    bench.stop().await;
}

#[tokio::test]
async fn an_idle_connection_ends_in_time() {
    let bench = start_with(HttpSettings { idle_deadline: SHORT, ..far() }, true).await;
    let mut client = bench.connect().await;
    for _ in 0..3 {
        assert_eq!(client.ask("POST", "/plain", "", "1").await.status, 201);
        sleep(SHORT / 2).await;
    }
    let start = Instant::now();
    assert!(client.is_closed().await);
    assert!(start.elapsed() < Duration::from_secs(2));
    bench.stop().await;
}

#[tokio::test]
async fn a_body_must_be_complete_in_time() {
    let bench = start_with(HttpSettings { body_deadline: SHORT, ..far() }, true).await;
    let mut client = bench.connect().await;
    client.send("POST /plain HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n1").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (408, Some("close")));
    assert!(client.is_closed().await);
    bench.stop().await;
}

#[tokio::test]
async fn a_peer_must_read_in_time() {
    let bench = start_with(HttpSettings { write_deadline: SHORT, ..far() }, true).await;
    // More than the socket buffers of both sides hold.
    let message = LastMessage {
        topic: Topic::new("large").unwrap(),
        payload: Payload::bytes(vec![b'x'; 32 << 20]),
        content_type: None,
        arrival: Timestamp::default(),
    };
    bench.gateway.set_last(PointId(0), Captures::none(), message);
    let mut client = bench.connect().await;
    client.send("GET /v1/topics/large HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let start = Instant::now();
    while bench.handles.count("http_connections", "timed-out") == 0 {
        assert!(start.elapsed() < bench::PATIENCE, "the connection must end");
        sleep(Duration::from_millis(10)).await;
    }
    bench.stop().await;
}

/// W03: what breaks the framing is refused, and one request is never taken for two.
#[tokio::test]
async fn broken_requests_are_refused() {
    let bench = start().await;
    let many: String = (0..200).map(|number| format!("X-{number}: 1\r\n")).collect();
    let large = format!("X: {}\r\n", "x".repeat(20_000));
    let path = "x".repeat(70_000);
    #[rustfmt::skip]
    let cases = [
        ("POST /plain HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n1".to_owned(), 400),
        ("POST /plain HTTP/1.1\r\nContent-Length: -1\r\n\r\n1".into(),   400),
        ("POST /plain HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n1".into(), 400),
        ("POST /plain HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".into(), 400),
        (format!("POST /plain HTTP/1.1\r\n{many}\r\n"),                 431),
        (format!("POST /plain HTTP/1.1\r\n{large}\r\n"),                431),
        (format!("GET /{path} HTTP/1.1\r\n\r\n"),                       414),
        (format!("{} / HTTP/1.1\r\n\r\n", "M".repeat(20_000)),          431),
        ("\0\0\0\r\n\r\n".into(),                                       400),
    ];
    for (request, status) in cases {
        let mut client = bench.connect().await;
        client.send(&request).await;
        let shown: String = request.chars().take(60).collect();
        let answer = client.answer().await;
        assert!(
            answer.status == status || (status == 414 && answer.status == 431),
            "{shown}: {}",
            answer.status
        );
        assert!(client.is_closed().await, "{shown}");
    }
    let mut client = bench.connect().await;
    let both = "POST /plain HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n7\r\n0\r\n\r\n";
    client.send(both).await;
    assert_eq!(client.answer().await.status, 201);
    assert!(client.is_closed().await, "one request, one answer");
    assert_eq!(bench.gateway.batches_waiting(), 1);
    let endless = format!(
        "POST /plain HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        "5\r\nxxxxx\r\n".repeat(300)
    );
    let mut client = bench.connect().await;
    client.send(&endless).await;
    assert_eq!(client.answer().await.status, 413);
    bench.stop().await;
}
