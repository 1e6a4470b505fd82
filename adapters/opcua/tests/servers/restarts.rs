//! A server that goes away and comes back (fault O05).

use serde_json::json;
use tidegate_model::Value;

use crate::support::{Gateway, Server, check};

const TEMPERATURE: &str = "nsu=urn:example:press;s=Press.1.Temperature";
const SETPOINT: &str = "nsu=urn:example:press;s=Press.1.Setpoint";

#[tokio::test]
async fn d25_a_restart_is_one_record_a_node_and_values_flow_again() {
    check(&[TEMPERATURE, SETPOINT], &[], async |server, gateway| {
        assert_eq!(gateway.reading(1).await.value, Value::Double(20.0));
        assert_eq!(gateway.reading(2).await.value, Value::Double(0.0));
        let mut server = server;
        for round in 1..=2 {
            server = Server::start(server.kill());
            server_was_away(gateway, 1, 20.0).await;
            server_was_away(gateway, 2, 0.0).await;
            assert_eq!(gateway.count("opcua_gaps", "stretch"), 2 * round);
        }
        server.ask("set", json!({"node": "Press.1.Temperature", "value": 64.5}));
        let reading = gateway.reading(1).await;
        assert_eq!((reading.value, reading.until), (Value::Double(64.5), None));
        assert_eq!(gateway.count("opcua_gaps", "stretch"), 4);
    })
    .await;
}

/// Waits for the record of the stretch, behind which the value stands.
async fn server_was_away(gateway: &mut Gateway, point: u32, value: f64) {
    let record = gateway.reading(point).await;
    let until = record.until.expect("the record of a stretch");
    assert!(record.time() < until, "{record:?}");
    assert_eq!((&record.value, record.status.code()), (&Value::Null, 0x800E_0000));
    let next = gateway.reading(point).await;
    assert_eq!((next.value, next.until), (Value::Double(value), None));
}
