//! An uplink with `profile = "aws-iot-core"` at a stand-in that closes the connection for what the service would
//! (uplink.21, uplink.41). `tests/support/peers/test_aws_iot_core.py` shows that each of its checks catches a client.

mod shadow;

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::support::{
    authority::{self, Authority},
    chaos::draw::Draw,
    gateway::Gateway,
    peer::Peer,
    ports,
    site::Site,
    wait,
    wire::{Hello, Wire},
};

/// Readings that come at once, each a message: four seconds' worth.
const ROWS: usize = 400;
/// Readings whose batches are larger than a payload may be.
const BULK: usize = 40;
const BULK_BYTES: usize = 30 << 10;
/// One that is larger alone, even compressed.
const TOO_LARGE_BYTES: usize = 260 << 10;
/// Publications on their way to the gateway.
const WINDOW: usize = 20;

/// The files of service and gateway: `ca.pem`, `gw.pem` and `gw.key` are the gateway's.
struct Files {
    ca: String,
    cert: String,
    key: String,
}

impl Files {
    fn new(gateway: &Gateway) -> Self {
        let folder = gateway.folder();
        let authority = Authority::new("service");
        let ca = authority::write(folder, "ca.pem", &authority.pem());
        let [cert, key] = authority.issue("server", 1).write(folder, "server");
        authority.issue("aws", 2).write(folder, "gw");
        Self { ca, cert, key }
    }

    /// Starts the service with this policy, and whatever else it is told.
    fn service(&self, told: &[[&str; 2]]) -> Peer {
        let files = ["--ca", &self.ca, "--cert", &self.cert, "--key", &self.key];
        Peer::start("aws_iot_core.py", &[&files[..], told.as_flattened()].concat())
    }
}

/// The gateway and the service.
struct Bench {
    gateway: Gateway,
    service: Peer,
    mqtt: u16,
}

impl Bench {
    fn start() -> Self {
        let mut gateway = Gateway::prepare(&Site::new("", &[]));
        let mut service = Files::new(&gateway).service(&[
            ["--connect", "aws-bulk"],
            ["--connect", "aws-rows"],
            ["--publish", "tidegate/aws/#"],
            ["--subscribe", "tidegate/aws/cmd/#"],
            ["--single-prefix", "tidegate/aws/rows/"],
        ]);
        let mqtt = ports::free_port();
        gateway.write("tidegate.toml", &config(mqtt, service.facts()));
        // Each uplink's first connection ends as soon as it stands.
        service.ask("close_next", json!({"times": 2}));
        gateway.start_again();
        Self { gateway, service, mqtt }
    }

    fn uplink(&self, name: &str) -> Value {
        self.gateway.status(&[])["uplinks"][name].clone()
    }

    #[track_caller]
    fn until_settled(&self, name: &str) -> Value {
        wait::until("nothing to be queued", || {
            Some(self.uplink(name)).filter(|uplink| uplink["queued"] == 0)
        })
    }

    /// What the service has closed connections for, but for what the test has asked it to.
    fn closed(&mut self) -> Vec<Value> {
        let report = self.service.ask("report", json!({}));
        let closed = report["closed"].as_array().expect("a list").clone();
        closed.into_iter().filter(|it| it[0] != "SERVER_INITIATED_DISCONNECT").collect()
    }

    /// When each uplink sent a CONNECT, in seconds.
    fn connects(&mut self) -> [Vec<f64>; 2] {
        let report = self.service.ask("report", json!({}));
        let connects = report["connects"].as_array().expect("a list").clone();
        ["aws-bulk", "aws-rows"].map(|name| {
            let its = connects.iter().filter(|it| it[0] == name);
            its.map(|it| it[1].as_f64().expect("seconds")).collect()
        })
    }

    /// Waits until each uplink has connected so often, and is connected.
    #[track_caller]
    fn until_connected(&mut self, times: usize) {
        wait::until("the uplinks to be connected", || {
            let is_up = |name: &str| self.uplink(name)["connected"] == true;
            let are_up = is_up("bulk") && is_up("rows");
            let enough = self.connects().iter().all(|its| its.len() >= times);
            (are_up && enough).then_some(())
        });
    }
}

fn config(mqtt: u16, facts: &Value) -> String {
    let uplink = |name: &str, port: &Value, more: &str| {
        format!(
            "[[uplink]]\nname = \"{name}\"\nprofile = \"aws-iot-core\"\nurl = \"mqtts://localhost:{port}\"\n\
             ca = \"ca.pem\"\ncert = \"gw.pem\"\nkey = {{ file = \"gw.key\" }}\ntopics = [\"{name}/#\"]\n{more}"
        )
    };
    let bulk = "topic = \"tidegate/{gateway}/{encoding}\"\ncompress = \"zlib\"\n\
                batch = { readings = 1000, age = \"300ms\", bytes = \"4MiB\" }\n\
                commands = \"tidegate/{gateway}/cmd/#\"\n";
    let rows = "topic = \"tidegate/{gateway}/rows/{topic}\"\nformat = \"json\"\nversion = \"3.1.1\"\n\
                alpn = [\"x-amzn-mqtt-ca\"]\n";
    format!(
        "[gateway]\nid = \"aws\"\ndata-dir = \"data\"\n\
         [mqtt]\nlisten = [\"127.0.0.1:{mqtt}\"]\nanonymous = true\n{}{}",
        uplink("bulk", &facts["port_8883"], bulk),
        uplink("rows", &facts["port_443"], rows)
    )
}

/// Publishes with QoS 1 as fast as it goes.
#[track_caller]
fn publish(port: u16, messages: &[(String, String)]) {
    let (mut wire, _) = Wire::connect(port, &Hello { client_id: "plant", ..Hello::default() });
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

/// A JSON text that hardly compresses.
fn noise(draw: &mut Draw, bytes: usize) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-";
    let text: String = (0..bytes).map(|_| char::from(draw.one_of(LETTERS))).collect();
    format!("\"{text}\"")
}

/// What would break each limit if it were not held: more messages and bytes than a second takes, batches and a reading
/// that are too large, topics that are too long and too deep.
fn load(port: u16) {
    let mut draw = Draw::new(41, 0);
    let row = |at: usize| (format!("rows/{}", at % 5), at.to_string());
    let mut messages: Vec<_> = (1..=ROWS).map(row).collect();
    messages.push(("rows/1/2/3/4/5".to_owned(), "1".to_owned()));
    messages.push((format!("rows/{}", "x".repeat(250)), "1".to_owned()));
    for at in 0..BULK {
        messages.push((format!("bulk/{}", at % 2), noise(&mut draw, BULK_BYTES)));
    }
    messages.push(("bulk/large".to_owned(), noise(&mut draw, TOO_LARGE_BYTES)));
    publish(port, &messages);
}

/// uplink.41: all of it arrives and nothing makes the service close a connection or discard a message; what it would not
/// take is set aside; connections are tried no faster than it says; commands come down, also those that waited.
#[test]
fn uplink_41_the_limits_of_aws_iot_core_are_held() {
    let mut bench = Bench::start();
    bench.until_connected(2);
    load(bench.mqtt);
    let rows = bench.until_settled("rows");
    assert_eq!((&rows["delivered"], &rows["dead-letters"]), (&json!(ROWS), &json!(2)), "{rows}");
    let bulk = bench.until_settled("bulk");
    assert_eq!((&bulk["delivered"], &bulk["dead-letters"]), (&json!(BULK), &json!(1)), "{bulk}");
    assert_eq!((&rows["balanced"], &bulk["balanced"]), (&json!(true), &json!(true)));
    bench.service.ask("wait", json!({"count": ROWS + BULK}));
    let book = bench.service.ask("book", json!({}));
    let found = (&book["malformed"], &book["conflicts"], &book["holes"]);
    assert_eq!(found, (&json!([]), &json!([]), &json!(0)), "{book}");

    let report = bench.service.ask("report", json!({}));
    println!("{report}");
    assert_eq!(bench.closed(), [] as [Value; 0]);
    assert_eq!(report["discarded"], 0, "faster than 100 a second: {report}");
    // Bytes above the rate are delayed; a message may be the size of a quarter of a second's.
    assert!(report["delayed"].as_f64() < Some(1.0), "{report}");
    assert!(report["most_in_flight"].as_u64() <= Some(20), "{report}");
    assert!(report["largest"].as_u64() > Some(64 << 10), "batches were large: {report}");

    commands(&mut bench);
    paced(&mut bench);
    assert_eq!(bench.closed(), [] as [Value; 0]);
    let report = bench.service.ask("report", json!({}));
    assert_eq!(report["discarded"], 0, "{report}");
}

/// A command comes down, and its outcome goes up.
fn commands(bench: &mut Bench) {
    let command = r#"{"value": 1, "id": "c-1"}"#;
    bench
        .service
        .ask("send", json!({"topic": "tidegate/aws/cmd/hall1/setpoint", "payload": command}));
    wait::until("the outcome of the command", || {
        let report = bench.service.ask("report", json!({}));
        let topics = report["topics"].as_array().expect("a list");
        topics.contains(&json!("tidegate/aws/result/hall1/setpoint")).then_some(())
    });
}

/// The service ends all connections. It is the second time within half a minute, so the next attempt is not made for
/// 11 s; what is read meanwhile arrives, and so does a command that waited in the session.
fn paced(bench: &mut Bench) {
    bench.service.ask("drop", json!({}));
    let command = r#"{"value": 2, "id": "c-2", "expires": "2099-01-01T00:00:00Z"}"#;
    let topic = "tidegate/aws/cmd/hall1/later";
    bench.service.ask("send", json!({"topic": topic, "payload": command}));
    publish(bench.mqtt, &[("rows/0".to_owned(), "0".to_owned())]);
    bench.until_connected(3);
    let rows = bench.until_settled("rows");
    assert_eq!(rows["delivered"], ROWS + 1, "{rows}");
    wait::until("the outcome of the command that waited", || {
        let report = bench.service.ask("report", json!({}));
        let topics = report["topics"].as_array().expect("a list");
        topics.contains(&json!("tidegate/aws/result/hall1/later")).then_some(())
    });
    for its in bench.connects() {
        let [first, second, third] = its[..] else { panic!("{its:?}") };
        assert!(second - first >= 1.0, "one CONNECT a second: {its:?}");
        assert!(third - second >= 11.0, "11 s after two failures: {its:?}");
    }
}

/// uplink.21: a custom authorizer is told token and signature behind the user name, or in headers of the request for
/// WebSocket frames, and readings arrive either way; a wrong password is refused, and shown.
#[test]
fn uplink_21_a_custom_authorizer_lets_the_gateway_in() {
    let mut gateway = Gateway::prepare(&Site::new("", &[]));
    let mut service = Files::new(&gateway).service(&[
        ["--authorizer", "plant"],
        ["--connect", "aws-named"],
        ["--connect", "aws-frames"],
        ["--connect", "aws-wrong"],
        ["--publish", "tidegate/aws/#"],
        ["--single-prefix", "tidegate/aws/rows/"],
    ]);
    let facts = service.facts().clone();
    let secret = |name: &str| facts[name].as_str().expect("a text").to_owned();
    for (name, text) in [
        ("token", secret("token")),
        ("signature", secret("signature")),
        ("password", "secret".to_owned()),
        ("wrong", "other".to_owned()),
    ] {
        authority::write(gateway.folder(), name, &text);
    }
    let mqtt = ports::free_port();
    let uplink = |name: &str, scheme: &str, port: &str, password: &str| {
        format!(
            "[[uplink]]\nname = \"{name}\"\nprofile = \"aws-iot-core\"\nurl = \"{scheme}://localhost:{}\"\n\
             ca = \"ca.pem\"\nusername = \"gw\"\npassword = {{ file = \"{password}\" }}\ntopics = [\"{name}/#\"]\n\
             topic = \"tidegate/{{gateway}}/rows/{{topic}}\"\nformat = \"json\"\n\
             [uplink.aws-iot-core.authorizer]\nname = \"plant\"\ntoken-key = \"token\"\n\
             token = {{ file = \"token\" }}\nsignature = {{ file = \"signature\" }}\n",
            facts[port]
        )
    };
    let uplinks = [
        uplink("named", "mqtts", "port_443_authorizer", "password"),
        uplink("frames", "wss", "port_443_frames", "password"),
        uplink("wrong", "mqtts", "port_443_authorizer", "wrong"),
    ];
    let config = format!(
        "[gateway]\nid = \"aws\"\ndata-dir = \"data\"\n\
         [mqtt]\nlisten = [\"127.0.0.1:{mqtt}\"]\nanonymous = true\n{}",
        uplinks.concat()
    );
    gateway.write("tidegate.toml", &config);
    gateway.start_again();
    publish(mqtt, &["named/1", "frames/1"].map(|topic| (topic.to_owned(), "1".to_owned())));
    service.ask("wait", json!({"count": 2}));
    wait::until("the refusal to be shown", || {
        let wrong = gateway.status(&[])["uplinks"]["wrong"].clone();
        let shown = wrong["error"].as_str().is_some_and(|error| error.contains("NotAuthorized"));
        shown.then_some(())
    });
    let report = service.ask("report", json!({}));
    let closed = report["closed"].as_array().expect("a list");
    let refused = json!(["AUTH_ERROR", "a wrong password"]);
    assert!(!closed.is_empty() && closed.iter().all(|it| *it == refused), "{report}");
}

/// Returns the configuration of a gateway with an uplink `cloud` by certificate, whose last table is `own`.
fn cloud_config(mqtt: u16, facts: &Value, own: &str) -> String {
    format!(
        "[gateway]\nid = \"aws\"\ndata-dir = \"data\"\n\
         [mqtt]\nlisten = [\"127.0.0.1:{mqtt}\"]\nanonymous = true\n\
         [[uplink]]\nname = \"cloud\"\nprofile = \"aws-iot-core\"\nurl = \"mqtts://localhost:{}\"\n\
         ca = \"ca.pem\"\ncert = \"gw.pem\"\nkey = {{ file = \"gw.key\" }}\ntopics = [\"rows/#\"]\n\
         topic = \"tidegate/{{gateway}}/rows/{{topic}}\"\nformat = \"json\"\n{own}",
        facts["port_8883"]
    )
}

/// A gateway with a claim, and a service that gives out certificates.
struct Fleet {
    gateway: Gateway,
    service: Peer,
    mqtt: u16,
}

impl Fleet {
    fn start() -> Self {
        let gateway = Gateway::prepare(&Site::new("", &[]));
        let service = Files::new(&gateway).service(&[
            ["--template", "gateways"],
            ["--claim", "aws"],
            ["--connect", "aws-cloud"],
            ["--publish", "tidegate/aws/#"],
            ["--single-prefix", "tidegate/aws/rows/"],
        ]);
        let mqtt = ports::free_port();
        let own = "[uplink.aws-iot-core.provisioning]\ntemplate = \"gateways\"\n\
                   parameters = { SerialNumber = \"7\" }\n";
        gateway.write("tidegate.toml", &cloud_config(mqtt, service.facts(), own));
        Self { gateway, service, mqtt }
    }

    /// What the service says of certificates and things.
    fn report(&mut self) -> Value {
        self.service.ask("report", json!({}))["fleet"].clone()
    }

    fn provision(&mut self, how: Value) {
        self.service.ask("provision", how);
    }

    /// Waits until so many certificates and things were asked for.
    #[track_caller]
    fn until_asked(&mut self, certificates: usize, things: usize) {
        wait::until("the service to be asked", || {
            let asked = self.report()["asked"].clone();
            (asked == json!({"certificate": certificates, "thing": things})).then_some(())
        });
    }

    /// Kills the gateway, and starts it again at a service that answers as `how` says.
    fn kill(&mut self, how: Value) {
        self.gateway.kill9();
        self.provision(how);
        self.gateway.start_again();
    }

    fn error(&self) -> String {
        let uplink = self.gateway.status(&[])["uplinks"]["cloud"].clone();
        uplink["error"].as_str().unwrap_or_default().to_owned()
    }

    /// A reading arrives, by the certificate that was given out.
    fn delivers(&mut self, count: usize) {
        publish(self.mqtt, &[(format!("rows/{count}"), "1".to_owned())]);
        self.service.ask("wait", json!({"count": count}));
    }

    /// What is kept: by name, and for the owner alone.
    fn kept(&self) -> Vec<String> {
        let folder = self.gateway.folder().join("data/aws-iot-core/cloud");
        let Ok(files) = std::fs::read_dir(folder) else { return Vec::new() };
        let files = files.map(|file| file.expect("the folder can be read"));
        let mut names: Vec<_> = files
            .map(|file| {
                let mode = file.metadata().expect("it is there").permissions().mode();
                assert_eq!(mode & 0o777, 0o600, "{file:?}");
                file.file_name().into_string().expect("a name")
            })
            .collect();
        names.sort();
        names
    }
}

/// uplink.21: whoever is killed between the steps of provisioning goes on where it was: one certificate is asked for again
/// only if no answer came, and a thing that was registered without an answer is found by its certificate.
#[test]
fn uplink_21_provisioning_survives_kills_at_each_step() {
    let mut fleet = Fleet::start();
    fleet.provision(json!({"silent_at": "certificate"}));
    fleet.gateway.start_again();
    fleet.until_asked(1, 0);
    assert_eq!(fleet.kept(), [] as [&str; 0]);
    // Nothing was given out before; what is given out now is kept.
    fleet.kill(json!({"silent_at": "thing"}));
    fleet.until_asked(2, 1);
    assert_eq!(fleet.kept(), ["pending.pem"]);
    // The token was not used; it is now, but nobody is told.
    fleet.kill(json!({"silent_at": "thing-done"}));
    fleet.until_asked(2, 2);
    assert_eq!(fleet.kept(), ["pending.pem"]);
    assert_eq!(fleet.report()["active"], 1);
    // It cannot be used again, but the certificate is let in.
    fleet.kill(json!({}));
    fleet.delivers(1);
    assert_eq!(fleet.kept(), ["credentials.pem"]);
    let report = fleet.report();
    let expected = json!({"certificates": 1, "active": 1, "things": ["thing-7"], "asked": {"certificate": 2, "thing": 3}});
    assert_eq!(report, expected);
    // From now on nothing is asked for.
    fleet.kill(json!({"denies": "nothing is to be asked for"}));
    fleet.delivers(2);
    assert_eq!(fleet.report(), expected);
}

/// uplink.21: a refusal is shown in the service's own words, and no second certificate is asked for because of it.
#[test]
fn uplink_21_a_refused_provisioning_is_told_in_the_services_words() {
    let mut fleet = Fleet::start();
    fleet.provision(json!({"denies": "serial number 7 is unknown"}));
    fleet.gateway.start_again();
    wait::until("the refusal to be shown", || {
        fleet.error().contains("AccessDenied (403): serial number 7 is unknown").then_some(())
    });
    assert_eq!(fleet.kept(), ["pending.pem"]);
    fleet.kill(json!({}));
    fleet.delivers(1);
    assert_eq!(fleet.kept(), ["credentials.pem"]);
    let report = fleet.report();
    assert_eq!((&report["certificates"], &report["active"]), (&json!(1), &json!(1)), "{report}");
}

/// uplink.21: requests for WebSocket frames are signed, each anew and with the session token; a wrong secret is refused, and
/// neither it nor the signature is shown.
#[test]
fn uplink_21_signed_requests_let_the_gateway_in() {
    let mut gateway = Gateway::prepare(&Site::new("", &[]));
    let mut service = Files::new(&gateway).service(&[
        ["--signed", "AKIDEXAMPLE,s3cr3t/+,eu-central-1,temporary/+="],
        ["--connect", "aws-signed"],
        ["--connect", "aws-wrong"],
        ["--publish", "tidegate/aws/#"],
        ["--single-prefix", "tidegate/aws/rows/"],
    ]);
    for (name, text) in [("secret", "s3cr3t/+"), ("wrong", "other"), ("token", "temporary/+=")] {
        authority::write(gateway.folder(), name, text);
    }
    let port = &service.facts()["port_443_signed"];
    let uplink = |name: &str, secret: &str| {
        format!(
            "[[uplink]]\nname = \"{name}\"\nprofile = \"aws-iot-core\"\nurl = \"wss://localhost:{port}\"\n\
             ca = \"ca.pem\"\ntopics = [\"{name}/#\"]\n\
             topic = \"tidegate/{{gateway}}/rows/{{topic}}\"\nformat = \"json\"\n\
             [uplink.aws-iot-core.sigv4]\naccess-key-id = \"AKIDEXAMPLE\"\nregion = \"eu-central-1\"\n\
             secret-access-key = {{ file = \"{secret}\" }}\nsession-token = {{ file = \"token\" }}\n"
        )
    };
    let mqtt = ports::free_port();
    let config = format!(
        "[gateway]\nid = \"aws\"\ndata-dir = \"data\"\n\
         [mqtt]\nlisten = [\"127.0.0.1:{mqtt}\"]\nanonymous = true\n{}{}",
        uplink("signed", "secret"),
        uplink("wrong", "wrong")
    );
    gateway.write("tidegate.toml", &config);
    gateway.start_again();
    for count in 1..=2 {
        publish(mqtt, &[(format!("signed/{count}"), "1".to_owned())]);
        service.ask("wait", json!({"count": count}));
        service.ask("drop", json!({}));
    }
    wait::until("the refusal to be shown", || {
        let wrong = gateway.status(&[])["uplinks"]["wrong"].clone();
        wrong["error"].as_str().is_some_and(|error| error.contains("403")).then_some(())
    });
    let shown = gateway.status(&[]).to_string();
    assert!(!shown.contains("X-Amz") && !shown.contains("temporary"), "{shown}");
    let report = service.ask("report", json!({}));
    let closed = report["closed"].as_array().expect("a list");
    let refused = json!(["AUTH_ERROR", "signed request: a wrong signature"]);
    assert!(closed.contains(&refused), "{report}");
    // uplink.32: the right one is taken up without a restart.
    publish(mqtt, &[("wrong/3".to_owned(), "1".to_owned())]);
    authority::write(gateway.folder(), "wrong", "s3cr3t/+");
    service.ask("wait", json!({"count": 3}));
}
