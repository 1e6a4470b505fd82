//! What is on disk, and what the pairing service says.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tidegate_tls::{Authority, Purpose, Validity};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::{
    credentials::{Credentials, Store},
    pairing::{BrokerAddress, Pairing},
};
use crate::{
    dial::Way,
    uplink::{
        replaceable::Replaceable,
        settings::{Endpoint, HttpTarget},
    },
};
use tidegate_astarte::{Device, DeviceId, Realm};
use tidegate_uplink::Failure;

const NAME: &str = "test/V_zv6ThCCtXWveQ8mPjsKg";
/// When the certificates of the tests are made.
const NOW: i64 = 1_800_000_000;

fn credentials(name: &str, days: u32) -> Credentials {
    let validity = Validity { now: NOW, days };
    let (authority, _) = Authority::create("realm", validity).unwrap();
    let issued = authority.issue(name, &Purpose::Device, validity).unwrap();
    Credentials::new(issued.certificate, issued.key).unwrap()
}

/// uplink.22: a certificate is renewed in the last fifth of its life, or in its last week.
#[test]
fn uplink_22_certificates_end_soon_in_proportion() {
    const DAY: u64 = 86_400;
    let now = u64::try_from(NOW).unwrap();
    // Each is backdated by a day.
    #[rustfmt::skip]
    let cases = [
        // days  after      ends soon
        (9,      0,         false),
        (9,      6 * DAY,   false),
        (9,      7 * DAY,   true),
        (9,      10 * DAY,  true),
        (365,    357 * DAY, false),
        (365,    358 * DAY, true),
    ];
    for (days, after, ends) in cases {
        assert_eq!(credentials(NAME, days).ends_soon(now + after), ends, "{days} {after}");
    }
}

/// uplink.22: what is kept is found again, by its own device alone; damage counts as nothing.
#[tokio::test]
async fn uplink_22_credentials_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path().join("astarte/realm"));
    assert!(store.credentials(NAME).await.unwrap().is_none());
    assert!(store.broker().await.unwrap().is_none());
    store.forget_credentials().await.unwrap();
    for days in [10, 20] {
        let made = credentials(NAME, days);
        store.keep_credentials(&made).await.unwrap();
        let kept = store.credentials(NAME).await.unwrap().unwrap();
        assert_eq!(kept.certificate, made.certificate);
        assert!(made.is_new() && !kept.is_new());
    }
    assert!(store.credentials("test/AAAAAAAAAAAAAAAAAAAAAA").await.unwrap().is_none());
    let broker = BrokerAddress { host: "b.example".into(), port: 8884 };
    store.keep_broker(&broker).await.unwrap();
    assert_eq!(store.broker().await.unwrap(), Some(broker));
    let hour = Duration::from_secs(3_600);
    assert!(!store.broker_is_older_than(hour).await.unwrap());
    // Said an hour ago, or at a time that has not come: then the clock was wrong.
    let file = std::fs::File::open(folder.path().join("astarte/realm/broker")).unwrap();
    for said in [SystemTime::now() - hour, SystemTime::now() + 2 * hour] {
        file.set_modified(said).unwrap();
        assert!(store.broker_is_older_than(hour).await.unwrap());
    }
    store.forget_broker().await.unwrap();
    assert!(store.broker().await.unwrap().is_none());
    assert!(store.broker_is_older_than(hour).await.unwrap());
    let file = folder.path().join("astarte/realm/credentials.pem");
    let text = std::fs::read_to_string(&file).unwrap();
    for damaged in ["", &text[..text.len() / 2], "\u{0}", &text.replace("BEGIN CERT", "BEGIN X")] {
        std::fs::write(&file, damaged).unwrap();
        assert!(store.credentials(NAME).await.unwrap().is_none(), "{damaged:?}");
    }
    std::fs::write(&file, [0xff, 0xfe]).unwrap();
    assert!(store.credentials(NAME).await.unwrap().is_none());
    store.forget_credentials().await.unwrap();
    assert!(!file.exists());
}

/// uplink.22: while a connection lasts it is looked at its certificate in time, and now and then in any case; one that has
/// just been given out is kept for a while although it seems to end.
#[test]
fn uplink_22_certificates_are_looked_at_in_time() {
    const DAY: u64 = 86_400;
    let (now, hour) = (u64::try_from(NOW).unwrap(), Duration::from_secs(3_600));
    // Ten days with the one by which it is backdated, and so two of margin.
    let made = credentials(NAME, 9);
    for (after, look) in [
        (0, hour),
        (7 * DAY - 1_800, Duration::from_secs(1_800)),
        (7 * DAY, hour),
        (8 * DAY, hour),
        (30 * DAY, hour),
    ] {
        assert_eq!(made.next_look(now + after), look, "{after}");
    }
    assert_eq!(made.least(), Duration::from_secs(DAY));
    assert!(!made.has_ended(now + 9 * DAY - 1) && made.has_ended(now + 9 * DAY));
}

/// uplink.22: where a certificate could not be kept, that is known before one is asked for.
#[tokio::test]
async fn uplink_22_keeping_credentials_is_tried_first() {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("astarte/realm");
    let store = Store::new(own.clone());
    store.rehearse().await.unwrap();
    assert_eq!(std::fs::read_dir(&own).unwrap().count(), 0, "nothing is left of it");
    store.keep_credentials(&credentials(NAME, 10)).await.unwrap();
    store.rehearse().await.unwrap();
    assert!(store.credentials(NAME).await.unwrap().is_some());
    std::fs::create_dir(own.join("credentials.pem.new")).unwrap();
    let error = store.rehearse().await.unwrap_err();
    assert!(error.reason.contains("credentials.pem.new"), "{}", error.reason);
    assert!(store.credentials(NAME).await.unwrap().is_some());
}

#[test]
fn uplink_22_brokers_are_read() {
    let address = |host: &str, port| Some(BrokerAddress { host: host.to_owned(), port });
    #[rustfmt::skip]
    let cases = [
        ("mqtts://b.example:8884",  address("b.example", 8884)),
        ("mqtts://b.example:8884/", address("b.example", 8884)),
        ("ssl://b.example",         address("b.example", 8883)),
        ("mqtts://[2001:db8::1]:1", address("2001:db8::1", 1)),
        ("mqtts://[2001:db8::1]",   address("2001:db8::1", 8883)),
        ("mqtt://b.example",        None),
        ("b.example",               None),
        ("mqtts://b.example:0",     None),
        ("mqtts://b.example:x",     None),
        ("mqtts://",                None),
        ("mqtts://a b",             None),
        ("mqtts://u@b.example",     None),
    ];
    for (text, expected) in cases {
        let read = BrokerAddress::parse(text);
        assert_eq!(read, expected, "{text}");
        if let Some(read) = read {
            assert_eq!(BrokerAddress::parse(&read.to_string()), Some(read));
        }
    }
}

/// Asks where the broker is, of a service that answers with `answer`; returns the answer and what was asked.
async fn ask(answer: &str) -> (Result<BrokerAddress, super::LinkError>, String) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let http = HttpTarget {
        path: "/pairing".into(),
        query: None,
        token: Replaceable::new(Some("s3cret".to_owned())),
    };
    let service = Endpoint {
        host: "127.0.0.1".into(),
        port: listener.local_addr().unwrap().port(),
        tls: None,
        websocket: None,
        http: Some(http),
        amqp: None,
        login: Default::default(),
    };
    let id = DeviceId::new("V_zv6ThCCtXWveQ8mPjsKg").unwrap();
    let device = Device::new(Realm::new("test").unwrap(), id);
    let way = Way::default();
    let pairing = Pairing::new(&service, &way, device);
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4_096];
        let length = stream.read(&mut request).await.unwrap();
        // The client may have heard enough before the end.
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.shutdown().await;
        String::from_utf8_lossy(&request[..length]).into_owned()
    };
    tokio::join!(pairing.broker(), serve)
}

fn http(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// uplink.22, section 11.7: what the service says, and what of that is for somebody to act on.
#[tokio::test]
async fn uplink_22_answers_of_the_pairing_service() {
    let found = r#"{"data":{"version":"1","status":"confirmed","protocols":{"astarte_mqtt_v1":{"broker_url":"mqtts://b:1"}}}}"#;
    let (broker, asked) = ask(&http("200 OK", found)).await;
    assert_eq!(broker.unwrap().to_string(), "mqtts://b:1");
    assert!(asked.starts_with("GET /pairing/v1/test/devices/V_zv6ThCCtXWveQ8mPjsKg HTTP/1.1\r\n"));
    assert!(asked.contains("authorization: Bearer s3cret\r\n"), "{asked}");

    use Failure::{Lasting, Transient};
    let inhibited = r#"{"data":{"status":"inhibited"}}"#;
    let echo = r#"{"errors":{"detail":"no Bearer s3cret here"}}"#;
    let invalid = r#"{"errors":{"csr":["is wrong"]}}"#;
    let long = " ".repeat(300_000);
    #[rustfmt::skip]
    let cases = [
        (http("401 Unauthorized", echo),                "no Bearer … here",     Lasting),
        (http("403 Forbidden", ""),                     "403",                  Lasting),
        (http("404 Not Found", "{"),                    "404",                  Lasting),
        (http("422 Unprocessable Entity", invalid),     "is wrong",             Lasting),
        (http("500 Internal Server Error", ""),         "500",                  Transient),
        (http("200 OK", inhibited),                     "inhibited",            Lasting),
        (http("200 OK", "{}"),                          "where the broker is",  Transient),
        (http("200 OK", "<html>"),                      "not JSON",             Transient),
        (http("200 OK", &long),                         "too long",             Transient),
        ("SSH-2.0-x\r\n".to_owned(),                    "breaks off",           Transient),
        (String::new(),                                 "breaks off",           Transient),
    ];
    for (answer, reason, failure) in cases {
        let error = ask(&answer).await.0.unwrap_err();
        assert!(error.reason.contains(reason), "{}", error.reason);
        assert!(!error.reason.contains("s3cret"));
        assert_eq!(error.failure, failure, "{reason}");
    }
    // The endpoint that the service stands in shows no secret either.
    let http = HttpTarget {
        path: String::new(),
        query: None,
        token: Replaceable::new(Some("s3cret".to_owned())),
    };
    assert!(!format!("{:?}", Arc::new(http)).contains("s3cret"));
}
