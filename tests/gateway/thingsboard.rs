//! An uplink with `format = "thingsboard"` at a stand-in that closes the connection for what the server cannot read
//! (uplink.24). `tests/support/peers/test_thingsboard.py` shows that each of its checks catches a client.

use serde_json::{Value, json};

use crate::support::{
    authority,
    gateway::Gateway,
    peer::Peer,
    ports,
    site::Site,
    wait,
    wire::{Hello, Wire},
};

const TOKEN: &str = "A1_TEST_TOKEN";
const ROWS: usize = 600;
/// Publications on their way to the gateway.
const WINDOW: usize = 50;

struct Bench {
    gateway: Gateway,
    board: Peer,
    mqtt: u16,
}

impl Bench {
    fn start() -> Self {
        let mut gateway = Gateway::prepare(&Site::new("", &[]));
        authority::write(gateway.folder(), "board.token", TOKEN);
        let mut board = Peer::start("thingsboard.py", &["--token", TOKEN]);
        // The first connection ends as soon as it stands.
        board.ask("close_next", json!({"times": 1}));
        let mqtt = ports::free_port();
        gateway.write("tidegate.toml", &config(mqtt, &board.facts()["port"]));
        gateway.start_again();
        Self { gateway, board, mqtt }
    }

    fn report(&mut self) -> Value {
        self.board.ask("report", json!({}))
    }

    #[track_caller]
    fn until_settled(&self) -> Value {
        wait::until("nothing to be queued", || {
            let uplink = self.gateway.status(&[])["uplinks"]["board"].clone();
            Some(uplink).filter(|uplink| uplink["queued"] == 0)
        })
    }

    fn call(&mut self, device: &str, method: &str, params: &Value) -> Value {
        self.board.ask("call", json!({"device": device, "method": method, "params": params}))
    }
}

fn config(mqtt: u16, port: &Value) -> String {
    format!(
        "[gateway]\nid = \"gw\"\ndata-dir = \"data\"\n\
         [mqtt]\nlisten = [\"127.0.0.1:{mqtt}\"]\nanonymous = true\n\
         [[uplink]]\nname = \"board\"\nformat = \"thingsboard\"\nurl = \"mqtt://127.0.0.1:{port}\"\ntopics = [\"hall1/#\", \"own\"]\n\
         [uplink.thingsboard]\naccess-token = {{ file = \"board.token\" }}\ntype = \"press\"\ncommands = true\n\
         [[uplink.thingsboard.device]]\ntopics = \"hall1/{{press}}/{{metric}}\"\ndevice = \"Press {{press}}\"\nmetric = \"{{metric}}\"\n\
         [[uplink.thingsboard.device]]\ntopics = \"hall1/{{press}}/serial\"\ndevice = \"Press {{press}}\"\nmetric = \"serial\"\nas = \"attribute\"\n"
    )
}

fn connect(port: u16, client_id: &str) -> Wire {
    Wire::connect(port, &Hello { client_id, ..Hello::default() }).0
}

/// Publishes with QoS 1 as fast as it goes.
#[track_caller]
fn publish(wire: &mut Wire, messages: &[(String, String)]) {
    for burst in messages.chunks(WINDOW) {
        for ((topic, payload), id) in burst.iter().zip(1..) {
            wire.send_publish(topic, payload, 1, id);
        }
        for _ in burst {
            let answer = wire.expect(4);
            assert_eq!(answer.body.get(2).copied().unwrap_or(0), 0, "{answer:?}");
        }
    }
}

/// uplink.24: readings are telemetry of devices, many in a message, in order and with their own times; attributes are
/// attributes; what ThingsBoard cannot take is set aside; nothing is lost when the server drops the connection.
#[test]
fn uplink_24_a_gateway_of_thingsboard() {
    let mut bench = Bench::start();
    let mut wire = connect(bench.mqtt, "plant");
    let row = |at: usize| {
        let time = format!("2026-03-01T12:00:{:02}.{:03}Z", at / 1_000, at % 1_000);
        let payload = json!({"value": at, "time": time, "quality": "good"});
        (format!("hall1/{}/count", at % 3), payload.to_string())
    };
    let rows: Vec<_> = (0..ROWS).map(row).collect();
    publish(&mut wire, &rows[..ROWS / 2]);
    bench.board.ask("wait", json!({"rows": 1}));
    bench.board.ask("drop", json!({}));
    publish(&mut wire, &rows[ROWS / 2..]);
    let large = format!("\"{}\"", "x".repeat(70 << 10));
    let bad = r#"{"value":null,"time":"2026-03-01T12:00:00Z","quality":"bad"}"#;
    let more = [
        ("hall1/1/serial", "\"S-1\""),
        ("hall1/1/text", large.as_str()),
        ("hall1/1/lost", bad),
        ("own", "7"),
    ];
    publish(&mut wire, &more.map(|(topic, text)| (topic.to_owned(), text.to_owned())));

    let uplink = bench.until_settled();
    let found = (&uplink["delivered"], &uplink["dead-letters"], &uplink["balanced"]);
    assert_eq!(found, (&json!(ROWS + 3), &json!(1), &json!(true)), "{uplink}");
    let report = bench.report();
    let closed: Vec<_> = report["closed"].as_array().expect("a list").iter().collect();
    assert!(closed.iter().all(|it| it[0] == "DROPPED"), "{closed:?}");
    for press in 0..3 {
        let device = format!("Press {press}");
        assert_eq!(report["devices"][&device], "press");
        let series = report["series"][&device]["count"].as_array().expect("a series");
        // What was on its way when the connection was dropped comes again, from the first that had no answer on.
        let mut values: Vec<_> = series.iter().map(|it| it[1].as_u64().expect("a count")).collect();
        values.sort_unstable();
        values.dedup();
        let expected: Vec<_> = (0..ROWS as u64).filter(|at| at % 3 == press).collect();
        assert_eq!(values, expected, "{device}");
        let first = &series[0];
        assert_eq!(first, &json!([1_772_366_400_000_u64 + press, press]), "with its own time");
        assert_eq!(report["series"][&device]["count.quality"][0][1], "good");
    }
    assert_eq!(report["attributes"]["Press 1"]["serial"], "S-1");
    assert_eq!(report["series"]["Press 1"]["lost"], Value::Null);
    assert_eq!(report["series"]["Press 1"]["lost.quality"][0][1], "bad");
    assert_eq!(report["series"]["me"]["own"][0][1], 7);
    let messages = report["messages"].as_u64().expect("a number");
    assert!(messages < ROWS as u64 / 4, "many readings go in a message: {messages}");

    calls(&mut bench);
    let closed = bench.report()["closed"].clone();
    assert!(closed.as_array().expect("a list").iter().all(|it| it[0] == "DROPPED"), "{closed}");
}

fn calls(bench: &mut Bench) {
    let mut operator = connect(bench.mqtt, "operator");
    assert_eq!(operator.subscribe("hall1/1/setpoint/set", 1), 1);
    let set = bench.call("Press 1", "setpoint", &json!(66.5));
    assert_eq!(set["outcome"], "accepted", "{set}");
    let packet = operator.expect_publish();
    let command = operator.parse(&packet);
    assert_eq!(command.payload, r#"{"value":66.5}"#);
    operator.acknowledge(4, command.packet_id);
    let nobody = bench.call("Press 1", "nobody", &json!({"value": 1, "id": "c-1"}));
    assert_eq!((&nobody["outcome"], &nobody["id"]), (&json!("refused"), &json!("c-1")), "{nobody}");
    // The gateway itself is called by topic.
    let params = json!({"topic": "hall1/1/setpoint", "value": 1, "id": "c-2"});
    let own = bench.call("me", "set", &params);
    assert_eq!((&own["outcome"], &own["id"]), (&json!("accepted"), &json!("c-2")), "{own}");
    let unknown = bench.call("me", "reboot", &Value::Null);
    assert_eq!(unknown["outcome"], "refused", "{unknown}");
}
