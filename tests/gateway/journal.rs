//! The journal under a session that does not come back (main.9).

use serde_json::{Value, json};

use crate::support::{gateway::Gateway, peer::Peer, ports, site::Site, wait};

/// A message of the flood, in bytes.
const PAYLOAD: usize = 60_000;

/// main.9: while one session is away with an unread message, several times the journal's limit passes through
/// it, and nothing is refused; the message is there after a kill, in front of what came later.
#[test]
fn main_09_an_absent_session_does_not_fill_the_journal() {
    let port = ports::free_port();
    let config = format!(
        "[gateway]\nid = \"away\"\ndata-dir = \"data\"\n[store]\nmax-bytes = \"16MiB\"\nreserve = \"2MiB\"\n\
         [mqtt]\nlisten = [\"127.0.0.1:{port}\"]\nanonymous = true\n"
    );
    let mut gateway = Gateway::start(&Site::new(&config, &[]));
    let mut paho = Peer::start("mqtt_client.py", &[]);
    let connect = |paho: &mut Peer, client: &str| {
        let connack = paho.ask(
            "connect",
            json!({
                "client": client, "client_id": client, "host": "127.0.0.1", "port": port, "version": 5,
                "clean": false, "properties": {"SessionExpiryInterval": 3600},
            }),
        );
        assert_eq!(connack["reason"], 0, "{connack}");
    };
    for client in ["away", "here"] {
        connect(&mut paho, client);
    }
    paho.ask("subscribe", json!({"client": "away", "filters": [["alarm", 1]]}));
    paho.ask("subscribe", json!({"client": "here", "filters": [["bulk", 1]]}));
    paho.ask("disconnect", json!({"client": "away"}));
    let publish = |paho: &mut Peer, topic: &str, payload: &str| {
        let message = json!({"client": "here", "topic": topic, "payload": payload, "qos": 1});
        assert_eq!(paho.ask("publish", message), 0, "{topic}");
    };
    publish(&mut paho, "alarm", "first");
    let payload = "x".repeat(PAYLOAD);
    for _ in 0..1_000 {
        publish(&mut paho, "bulk", &payload);
    }
    publish(&mut paho, "alarm", "last");

    let mut status = Value::Null;
    wait::until("the journal to shrink", || {
        status = gateway.status(&[]);
        (status["store"]["journal-bytes"].as_u64()? < 16 << 20).then_some(())
    });
    assert!(status["broker"]["carried-forward"].as_u64() >= Some(1), "{status:#}");
    gateway.kill9();
    gateway.start_again();
    connect(&mut paho, "away");
    let messages = paho.ask("messages", json!({"client": "away", "count": 2}));
    assert_eq!(
        (&messages[0]["payload"], &messages[1]["payload"]),
        (&json!("first"), &json!("last"))
    );
    assert!(gateway.terminate().success());
}
