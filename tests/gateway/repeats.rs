//! Requests that are sent again after a restart: answered again, and recorded once.

use std::{
    io::Write as _,
    net::{SocketAddr, TcpStream, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{
    gateway::Gateway, mosquitto::Mosquitto, peer::Peer, ports, programs, site::Site, wait,
};

/// How often the gateway is killed in each test.
const ROUNDS: u16 = 12;

const MAPPING: &str = r#"
[[coap]]
resource = "/report/{name}"
payload = "text"
topic = "hall1/coap/{name}"

[[http]]
path = "/report/{name}"
payload = "text"
topic = "hall1/http/{name}"
"#;

/// A gateway with its cloud, and where it listens.
struct Bench {
    gateway: Gateway,
    cloud: Peer,
    coap: SocketAddr,
    http: u16,
    /// Last, so that it outlives those who are connected to it.
    _broker: Mosquitto,
}

impl Bench {
    fn start() -> Self {
        let broker = Mosquitto::start();
        let [coap, http] = std::array::from_fn(|_| ports::free_port());
        let config = format!(
            r#"
[gateway]
id = "repeats"
data-dir = "data"
mappings = ["mappings/*.toml"]
[coap]
listen = ["127.0.0.1:{coap}"]
anonymous = true
[http]
listen = ["127.0.0.1:{http}"]
anonymous = true
[[uplink]]
name = "cloud"
url = "mqtt://127.0.0.1:{}"
topics = ["hall1/#"]
topic = "tidegate/{{gateway}}/{{encoding}}"
batch = {{ readings = 500, age = "100ms", bytes = "64KiB" }}
"#,
            broker.port()
        );
        let port = broker.port().to_string();
        let topics = ["--topic", "tidegate/+/bson", "--topic", "tidegate/+/bson.z"];
        let cloud = Peer::start("cloud.py", &[&["--port", &port], &topics[..]].concat());
        let gateway = Gateway::start(&Site::new(&config, &[("all.toml", MAPPING)]));
        let coap = SocketAddr::from(([127, 0, 0, 1], coap));
        Self { gateway, cloud, coap, http, _broker: broker }
    }

    fn restart(&mut self) {
        self.gateway.kill9();
        self.gateway.start_again();
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.http)
    }

    /// Asserts that the journal and the cloud have each value from 1 to `ROUNDS` on this topic, once.
    fn assert_each_once(&mut self, topic: &str) {
        let uplink = self.gateway.status(&["--audit"])["uplinks"]["cloud"].clone();
        assert_eq!(uplink["received"], json!(ROUNDS), "one record for each request: {uplink}");
        assert_eq!(uplink["audit"]["agrees"], json!(true), "{uplink}");
        self.cloud.ask("wait", json!({"topic": topic, "count": ROUNDS}));
        let readings = self.cloud.ask("readings", json!({"topic": topic}));
        let number = |reading: &Value| {
            let member = |name: &str| reading[name].as_u64().expect("a number");
            (member("i"), member("value"))
        };
        // A batch may come twice, with the same numbers.
        let mut numbered: Vec<(u64, u64)> =
            readings.as_array().expect("a list of readings").iter().map(number).collect();
        numbered.sort_unstable();
        numbered.dedup();
        let expected: Vec<(u64, u64)> =
            (1..=u64::from(ROUNDS)).map(|number| (number, number)).collect();
        assert_eq!(numbered, expected, "{topic}");
    }
}

/// A confirmable POST of a text to `/report/NAME`, as bytes.
fn post(name: &str, message_id: u16, text: &str) -> Vec<u8> {
    let [high, low] = message_id.to_be_bytes();
    let mut bytes = vec![0x42, 0x02, high, low, 0xAB, low];
    for (number, segment) in [(11, "report"), (0, name)] {
        bytes.push(number << 4 | u8::try_from(segment.len()).expect("a short one"));
        bytes.extend_from_slice(segment.as_bytes());
    }
    bytes.push(0xFF);
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// Sends a datagram until it is answered, as a device does, and returns the answer: not the empty
/// acknowledgement, which only says that it has arrived.
fn send_until_answered(socket: &UdpSocket, gateway: SocketAddr, datagram: &[u8]) -> Vec<u8> {
    let deadline = Instant::now() + wait::DEADLINE;
    let mut buffer = [0; 1_500];
    while Instant::now() < deadline {
        socket.send_to(datagram, gateway).expect("loopback takes datagrams");
        while let Ok(length) = socket.recv(&mut buffer) {
            // The token, not the message ID: a slow answer comes on its own.
            if buffer[1] != 0 && buffer[4..6] == datagram[4..6] {
                return buffer[..length].to_vec();
            }
        }
    }
    panic!("no answer from {gateway}");
}

/// main.10, D17, C06: a request, a kill at any moment, the same request from the same port again: one reading.
#[test]
fn main_10_fault_c06_a_coap_request_repeated_across_a_restart_is_recorded_once() {
    let mut bench = Bench::start();
    let device = UdpSocket::bind("127.0.0.1:0").unwrap();
    device.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    for round in 1..=ROUNDS {
        let request = post("boiler", 0x7000 + round, &round.to_string());
        if round.is_multiple_of(2) {
            // Answered, and the answer was lost on its way.
            send_until_answered(&device, bench.coap, &request);
        } else {
            // Before, within or after the write: nobody knows.
            device.send_to(&request, bench.coap).unwrap();
            thread::sleep(Duration::from_micros(300 * u64::from(round)));
        }
        bench.restart();
        let again = send_until_answered(&device, bench.coap, &request);
        assert_eq!(again[1], 0x44, "round {round}: {again:02x?} is no 2.04");
        // A restart later it is still known.
        if round == ROUNDS {
            bench.restart();
            assert_eq!(send_until_answered(&device, bench.coap, &request)[1], 0x44);
        }
    }
    bench.assert_each_once("hall1/coap/boiler");

    // The device starts anew and counts its messages from where it did before: that is no repetition.
    let other = post("other", 0x7000 + ROUNDS, "7");
    assert_eq!(send_until_answered(&device, bench.coap, &other)[1], 0x44);
    bench.cloud.ask("wait", json!({"topic": "hall1/coap/other", "count": 1}));
    assert!(bench.gateway.terminate().success());
}

/// D23, W08: a request with an Idempotency-Key, a kill at any moment, the same request until it is answered: one
/// reading.
#[test]
fn main_11_fault_w08_an_http_request_repeated_across_a_restart_is_recorded_once() {
    let mut bench = Bench::start();
    let url = bench.url("/report/boiler");
    let post = |key: &str, body: &str| {
        let header = format!("Idempotency-Key: \"{key}\"");
        programs::curl(&["--request", "POST", "--header", &header, "--data", body, &url]).0
    };
    for round in 1..=ROUNDS {
        let (key, body) = (format!("key-{round}"), round.to_string());
        if round.is_multiple_of(2) {
            assert_eq!(post(&key, &body), 201);
        } else {
            let mut stream = TcpStream::connect(("127.0.0.1", bench.http)).unwrap();
            let length = body.len();
            write!(
                stream,
                "POST /report/boiler HTTP/1.1\r\nHost: localhost\r\nIdempotency-Key: \"{key}\"\r\n\
                 Content-Length: {length}\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\n{body}"
            )
            .unwrap();
            thread::sleep(Duration::from_micros(300 * u64::from(round)));
        }
        bench.restart();
        assert_eq!(post(&key, &body), 201, "round {round}");
        assert_eq!(post(&key, &body), 201, "round {round}, once more");
        assert_eq!(post(&key, "0"), 422, "round {round}: the key of another request");
    }
    bench.assert_each_once("hall1/http/boiler");
    assert!(bench.gateway.terminate().success());
}

/// Waits for an outcome and returns it.
fn outcome(bench: &Bench, topic: &str, id: &str) -> Value {
    let url = bench.url(&format!("/v1/topics/{topic}/result"));
    wait::until("the outcome", || {
        let (status, body) = programs::curl(&[&url]);
        let outcome: Value = serde_json::from_str(&body).ok()?;
        (status == 200 && outcome["id"] == id).then_some(outcome)
    })
}

/// main.14: commands and calls over HTTP have outcomes; a reading is never a command, whatever its path says.
#[test]
fn main_14_commands_over_http_have_outcomes_and_readings_are_none() {
    let mut bench = Bench::start();
    let send = |bench: &Bench, topic: &str, body: &str| {
        let url = bench.url(&format!("/v1/topics/{topic}"));
        programs::curl(&["--request", "POST", "--data", body, &url]).0
    };
    for (topic, body, id, reason) in [
        ("hall1/press/setpoint/set", r#"{"value":1,"id":"c-1"}"#, "c-1", "nobody is subscribed"),
        ("hall1/press/reset/call", r#"{"args":[1],"id":"c-2"}"#, "c-2", "nobody is subscribed"),
    ] {
        assert_eq!(send(&bench, topic, body), 201);
        let outcome = outcome(&bench, topic, id);
        assert_eq!(outcome["outcome"], "refused", "{outcome}");
        assert!(outcome["reason"].as_str().unwrap().contains(reason), "{outcome}");
    }
    assert_eq!(send(&bench, "hall1/press/reset/call", r#"{"value":1,"id":"c-3"}"#), 201);

    let device = UdpSocket::bind("127.0.0.1:0").unwrap();
    device.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    for (message_id, name) in [(1, "set"), (2, "call")] {
        let answer = send_until_answered(&device, bench.coap, &post(name, message_id, "1"));
        assert_eq!(answer[1], 0x83, "{name}: {answer:02x?} is no 4.03");
        let (status, body) =
            programs::curl(&["--data", "1", &bench.url(&format!("/report/{name}"))]);
        assert_eq!(status, 403, "{name}: {body}");
    }
    let faults = programs::curl(&[&bench.url("/metrics")]).1;
    assert!(faults.lines().any(|line| line.contains("command-topic") && line.ends_with(" 4")));
    assert!(bench.gateway.terminate().success());
}
