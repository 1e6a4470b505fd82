//! Values and messages that cannot be had, and the others, which do not wait for them.

use serde_json::json;
use tidegate_model::{Reading, Value};

use crate::support::{Gateway, check};

const NAME: &str = "nsu=urn:example:press;s=Press.1.Name";
const TEMPERATURE: &str = "nsu=urn:example:press;s=Press.1.Temperature";

/// Bad status codes: the encoding is broken, data was lost.
const BAD_DECODING_ERROR: u32 = 0x8007_0000;
const BAD_DATA_LOST: u32 = 0x809D_0000;

/// main.12, O04: one bad value does not stop the others, nor the connection.
#[tokio::test]
async fn main_12_a_value_over_the_limits_is_bad_and_the_others_go_on() {
    check(&[NAME, TEMPERATURE], &[], async |mut server, gateway| {
        assert_eq!(gateway.reading(1).await.value, Value::string(""));
        assert_eq!(gateway.reading(2).await.value, Value::Double(20.0));
        for round in 1..=2 {
            // A text may have 1 MiB, and a message 4 MiB.
            server.ask("set", json!({"node": "Press.1.Name", "value": "x".repeat(2 << 20)}));
            let bad = gateway.reading(1).await;
            assert_eq!((bad.value, bad.status.code()), (Value::Null, BAD_DECODING_ERROR));
            assert!(bad.source_time.is_some());
            let temperature = 64.5 + f64::from(round);
            server.ask("set", json!({"node": "Press.1.Temperature", "value": temperature}));
            assert_eq!(gateway.reading(2).await.value, Value::Double(temperature));
            server.ask("set", json!({"node": "Press.1.Name", "value": "P-1"}));
            let good = gateway.reading(1).await;
            assert_eq!((good.value, good.status.code()), (Value::string("P-1"), 0));
        }
        assert_eq!(gateway.count("opcua_values", "undecoded"), 2);
        assert_eq!(gateway.count("opcua_connections", "again"), 0);
    })
    .await;
}

/// main.12, D25: a message over the limits is a stretch without data, and the next ones come.
#[tokio::test]
async fn main_12_a_message_over_the_limits_is_told_and_the_others_go_on() {
    check(&[NAME, TEMPERATURE], &[], async |mut server, gateway| {
        gateway.reading(1).await;
        gateway.reading(2).await;
        server.ask("set", json!({"node": "Press.1.Name", "value": "x".repeat(5 << 20)}));
        let feed =
            json!({"name": "f", "node": "Press.1.Temperature", "count": 60, "interval": 0.1});
        server.ask("feed", feed);
        lost(&stretch(gateway, 2).await);
        let next = gateway.reading(2).await;
        assert!(next.until.is_none() && next.status.code() == 0, "{next:?}");
        server.ask("set", json!({"node": "Press.1.Name", "value": "P-1"}));
        lost(&stretch(gateway, 1).await);
        assert_eq!(gateway.reading(1).await.value, Value::string("P-1"));
        assert_eq!(gateway.count("opcua_messages", "too-large"), 1);
        assert_eq!(gateway.count("opcua_connections", "again"), 0);
        assert_eq!(gateway.count("opcua_subscriptions", "rebuilt"), 0);
    })
    .await;
}

/// main.12, D25, O06: a message is missed also when only a keep-alive tells so.
#[tokio::test]
async fn main_12_what_a_keep_alive_misses_is_told() {
    check(&[NAME, TEMPERATURE], &[], async |mut server, gateway| {
        gateway.reading(1).await;
        gateway.reading(2).await;
        server.ask("lose_message", json!({}));
        for (point, value) in [(1, Value::string("")), (2, Value::Double(20.0))] {
            lost(&gateway.reading(point).await);
            assert_eq!(gateway.reading(point).await.value, value);
        }
        assert_eq!(gateway.count("opcua_messages", "lost"), 1);
        assert_eq!(gateway.count("opcua_gaps", "stretch"), 2);
        assert_eq!(gateway.count("opcua_connections", "again"), 0);
    })
    .await;
}

/// Waits for the record of a stretch.
async fn stretch(gateway: &mut Gateway, point: u32) -> Reading {
    loop {
        let reading = gateway.reading(point).await;
        if reading.until.is_some() {
            return reading;
        }
    }
}

#[track_caller]
fn lost(record: &Reading) {
    assert_eq!((&record.value, record.status.code()), (&Value::Null, BAD_DATA_LOST));
    assert!(record.until.is_some_and(|until| record.time() <= until), "{record:?}");
}
