//! Device shadows: what is desired is commanded once, and what local topics say is reported (uplink.21).

use std::fs;

use serde_json::{Value, json};

use crate::support::{
    authority,
    gateway::Gateway,
    peer::Peer,
    ports,
    site::Site,
    wait,
    wire::{Hello, Message, Wire},
};

use super::{Files, cloud_config};

/// A gateway with a shadow, and the service that keeps it.
struct Bench {
    gateway: Gateway,
    service: Peer,
    mqtt: u16,
    /// The thing and its shadow, as the service names them.
    place: &'static str,
}

impl Bench {
    /// Prepares the shadow `name` of the thing `gw-1`, or else the classic one of the thing that is called as the client is.
    fn prepare(name: Option<&'static str>) -> Self {
        Self::prepare_without(name, None)
    }

    /// Does the same with a policy that leaves out the topic that ends so.
    fn prepare_without(name: Option<&'static str>, lacking: Option<&str>) -> Self {
        let gateway = Gateway::prepare(&Site::new("", &[]));
        let (prefix, place, own) = match name {
            Some("plant") => (
                "$aws/things/gw-1/shadow/name/plant",
                "gw-1/plant",
                "thing = \"gw-1\"\nname = \"plant\"\n",
            ),
            _ => ("$aws/things/aws-cloud/shadow", "aws-cloud/", ""),
        };
        let suffixes =
            ["update/delta", "update/accepted", "update/rejected", "get/accepted", "get/rejected"];
        let heard = suffixes.map(|suffix| format!("{prefix}/{suffix}"));
        let asked = ["update", "get"].map(|verb| format!("{prefix}/{verb}"));
        let mut told = vec![
            ["--connect", "aws-cloud"],
            ["--thing", "gw-1"],
            ["--thing", "aws-cloud"],
            ["--publish", "tidegate/aws/#"],
            ["--single-prefix", "tidegate/aws/rows/"],
            ["--signed", "AKIDEXAMPLE,s3cr3t,eu-central-1"],
        ];
        let is_allowed = |topic: &&String| !lacking.is_some_and(|lacking| topic.ends_with(lacking));
        let heard = heard.iter().filter(is_allowed);
        told.extend(heard.map(|filter| ["--subscribe", filter.as_str()]));
        let asked = asked.iter().filter(is_allowed);
        told.extend(asked.map(|topic| ["--publish", topic.as_str()]));
        let service = Files::new(&gateway).service(&told);
        let mqtt = ports::free_port();
        let own = format!(
            "[uplink.aws-iot-core.shadow]\n{own}interval = \"100ms\"\nstate = [\n\
             {{ path = \"press.speed\", topic = \"hall/speed\" }},\n\
             {{ path = \"lamp\", topic = \"hall/lamp\" }},\n]\n"
        );
        gateway.write("tidegate.toml", &cloud_config(mqtt, service.facts(), &own));
        Self { gateway, service, mqtt, place }
    }

    /// Puts something else in the place of each of these parts of the configuration, and something behind it.
    fn change(&mut self, parts: &[(&str, &str)], behind: &str) {
        let config = fs::read_to_string(self.gateway.folder().join("tidegate.toml"));
        let mut config = config.expect("it is there");
        for (part, other) in parts {
            assert!(config.contains(part), "{config}");
            config = config.replace(part, other);
        }
        self.gateway.write("tidegate.toml", &(config + behind));
    }

    fn connect(&self, client_id: &str, clean: bool) -> Wire {
        let expiry = if clean { 0 } else { 3_600 };
        Wire::connect(self.mqtt, &Hello { client_id, clean, expiry, ..Hello::default() }).0
    }

    fn desire(&mut self, thing: &str, name: Option<&str>, desired: &Value) {
        self.service.ask("desire", json!({"thing": thing, "name": name, "desired": desired}));
    }

    fn shadows(&mut self) -> Value {
        self.service.ask("report", json!({}))["shadows"].clone()
    }

    /// What the service keeps of the gateway's shadow.
    fn document(&mut self) -> Value {
        let place = self.place;
        self.shadows()["documents"][place].clone()
    }

    /// Waits until this is reported, and returns the document.
    #[track_caller]
    fn until_reported(&mut self, reported: &Value) -> Value {
        wait::until("the local values to be reported", || {
            Some(self.document()).filter(|document| document["reported"] == *reported)
        })
    }

    fn status(&self) -> Value {
        self.gateway.status(&[])["uplinks"]["cloud"].clone()
    }

    /// Waits until the document was told on this connection.
    #[track_caller]
    fn until_known(&self) {
        wait::until("the document to be known", || {
            self.status()["shadow"]["version"].is_u64().then_some(())
        });
    }

    /// How many updates the gateway has asked for.
    fn updates(&mut self) -> usize {
        let shadows = self.shadows();
        let requests = shadows["requests"].as_array().expect("a list");
        requests.iter().filter(|it| it[0].as_str().is_some_and(|it| it.ends_with("update"))).count()
    }
}

/// Returns the next command that a device gets, acknowledged.
#[track_caller]
fn next_command(device: &mut Wire) -> (Message, Value) {
    let packet = device.expect_publish();
    let message = device.parse(&packet);
    device.acknowledge(4, message.packet_id);
    let command = serde_json::from_str(&message.payload).expect("a command is JSON");
    (message, command)
}

/// uplink.21: what is desired while the gateway is away is commanded once after it has come back, in the order of the
/// document; it is reported when the local topics say it, and then nothing is left that differs. Neither a change here nor a
/// kill between command and report has it commanded again, and no other shadow is touched.
#[test]
fn uplink_21_what_is_desired_is_commanded_once_and_reported() {
    let mut bench = Bench::prepare(Some("plant"));
    bench.gateway.start_again();
    let mut device = bench.connect("device", false);
    assert_eq!(device.subscribe("hall/+/set", 1), 1);
    bench.until_known();
    bench.gateway.kill9();
    bench.desire("gw-1", Some("plant"), &json!({"lamp": true, "press": {"speed": 3}}));
    bench.desire("gw-1", None, &json!({"lamp": "another shadow"}));
    bench.desire("aws-cloud", Some("plant"), &json!({"lamp": "another thing"}));
    bench.gateway.start_again();
    let mut device = bench.connect("device", false);
    let (lamp, command) = next_command(&mut device);
    assert_eq!((lamp.topic.as_str(), &command["value"]), ("hall/lamp/set", &json!(true)));
    let (speed, command) = next_command(&mut device);
    assert_eq!((speed.topic.as_str(), &command["value"]), ("hall/speed/set", &json!(3)));
    assert!(
        command["id"].as_str().is_some_and(|id| id.starts_with("shadow:plant:1:")),
        "{command}"
    );

    let mut plant = bench.connect("plant", true);
    plant.publish("hall/lamp", "true");
    plant.publish("hall/speed", "3");
    let document = bench.until_reported(&json!({"lamp": true, "press": {"speed": 3}}));
    assert_eq!(document["delta"], json!({}), "{document}");
    // Somebody turns it by hand: that is reported, and what was desired is not done again.
    plant.publish("hall/speed", r#"{"value": 4.5, "quality": "good"}"#);
    let document = bench.until_reported(&json!({"lamp": true, "press": {"speed": 4.5}}));
    assert_eq!(document["delta"], json!({"press": {"speed": 3}}), "{document}");
    bench.desire("gw-1", Some("plant"), &json!({"lamp": false}));
    let (lamp, command) = next_command(&mut device);
    assert_eq!((lamp.topic.as_str(), &command["value"]), ("hall/lamp/set", &json!(false)));

    // It is carried out, and nobody was told: the gateway knows. What nobody can carry out waits.
    bench.gateway.kill9();
    bench.gateway.start_again();
    drop(bench.connect("device", true));
    bench.until_known();
    bench.desire("gw-1", Some("plant"), &json!({"press": {"speed": 5}}));
    let version = bench.document()["version"].clone();
    wait::until("the wish to wait", || {
        let shadow = bench.status()["shadow"].clone();
        // The one of before the kill is with it, if the kill came before it was safe.
        let waiting = shadow["waiting"].as_u64().expect("a count");
        (shadow["version"] == version && waiting >= 1).then_some(())
    });
    let mut device = bench.connect("device", true);
    assert_eq!(device.subscribe("hall/+/set", 1), 1);
    let (speed, command) = next_command(&mut device);
    assert_eq!((speed.topic.as_str(), &command["value"]), ("hall/speed/set", &json!(5)));
    let mut plant = bench.connect("plant", true);
    plant.publish("hall/speed", "5");
    plant.publish("hall/lamp", "false");
    let document = bench.until_reported(&json!({"lamp": false, "press": {"speed": 5}}));
    assert_eq!(document["delta"], json!({}), "{document}");

    let report = bench.service.ask("report", json!({}));
    let shadows = &report["shadows"];
    let requests = shadows["requests"].as_array().expect("a list");
    let own = |it: &Value| {
        it[0].as_str().is_some_and(|it| it.starts_with("$aws/things/gw-1/shadow/name/plant/"))
    };
    assert!(requests.iter().all(own), "{report}");
    let untouched =
        ["gw-1/", "aws-cloud/plant"].map(|place| &shadows["documents"][place]["reported"]);
    assert_eq!(untouched, [&json!({}); 2], "{report}");
    let missing = json!([["$aws/things/gw-1/shadow/name/plant/get", 404]]);
    assert_eq!(shadows["rejected"], missing, "{report}");
    // A gateway that is killed connects again within a second, of which the service knows nothing.
    let is_of_kills = |it: &Value| it[0] == "THROTTLED" || it[0] == "DUPLICATE_CLIENTID";
    let closed = report["closed"].as_array().expect("a list");
    assert!(closed.iter().all(is_of_kills), "{report}");
    let reports = requests.iter().filter_map(|it| it[1].as_str());
    assert!(reports.into_iter().all(|said| !said.contains("desired")), "{report}");
}

/// uplink.21: what is desired of a node waits for the server to be there, and is written once.
#[test]
fn uplink_21_a_wish_waits_for_the_server_of_its_node() {
    let mut bench = Bench::prepare(None);
    let port = ports::free_port();
    let server = format!(
        "[[opcua]]\nname = \"plc\"\nendpoint = \"opc.tcp://127.0.0.1:{port}\"\nsecurity = \"none\"\n"
    );
    bench.change(&[("[mqtt]", "mappings = [\"plc.toml\"]\n[mqtt]")], &server);
    let mapping = "[[opcua]]\nserver = \"plc\"\nnode = \"nsu=urn:example:press;s=Press.1.Setpoint\"\n\
                   topic = \"hall/speed\"\nwritable = true\n";
    bench.gateway.write("plc.toml", mapping);
    bench.gateway.start_again();
    bench.until_known();
    // It is not there yet; then it has gone.
    for (commands, speed) in [(0, 66.5), (1, 67.5)] {
        bench.desire("aws-cloud", None, &json!({"press": {"speed": speed}}));
        let version = bench.document()["version"].clone();
        wait::until("the wish to wait", || {
            let shadow = bench.status()["shadow"].clone();
            (shadow["version"] == version && shadow["waiting"] == 1).then_some(())
        });
        assert_eq!(bench.status()["commands"], commands);
        let arguments = ["--port", &port.to_string(), "--presses", "1"];
        let mut server = Peer::start("asyncua_server.py", &arguments);
        let document = bench.until_reported(&json!({"press": {"speed": speed}}));
        assert_eq!(document["delta"], json!({}), "{document}");
        let writes = server.ask("writes", json!({}));
        assert_eq!(writes.as_array().map(Vec::len), Some(1), "{writes}");
        drop(server);
        wait::until("the loss to be noticed", || {
            let lines = bench.gateway.output().lines();
            let lost = lines.iter().filter(|line| line.contains("Connection lost")).count();
            (lost > commands).then_some(())
        });
    }
}

/// uplink.21: a shadow goes by MQTT 3.1.1 as well, over TLS and in WebSocket frames.
#[test]
fn uplink_21_a_shadow_goes_by_3_1_1_and_in_frames() {
    for is_in_frames in [false, true] {
        let mut bench = Bench::prepare(Some("plant"));
        let facts = bench.service.facts();
        let [plain, frames] = [("mqtts", "port_8883"), ("wss", "port_443_signed")]
            .map(|(scheme, port)| format!("{scheme}://localhost:{}", facts[port]));
        let mut parts = vec![("topics = [", "version = \"3.1.1\"\ntopics = [")];
        let mut behind = "";
        if is_in_frames {
            authority::write(bench.gateway.folder(), "secret", "s3cr3t");
            parts.push((&plain, &frames));
            parts.push(("cert = \"gw.pem\"\nkey = { file = \"gw.key\" }\n", ""));
            behind = "[uplink.aws-iot-core.sigv4]\naccess-key-id = \"AKIDEXAMPLE\"\n\
                      secret-access-key = { file = \"secret\" }\nregion = \"eu-central-1\"\n";
        }
        bench.change(&parts, behind);
        bench.gateway.start_again();
        let mut device = bench.connect("device", true);
        assert_eq!(device.subscribe("hall/+/set", 1), 1);
        bench.until_known();
        bench.desire("gw-1", Some("plant"), &json!({"lamp": true}));
        let (lamp, command) = next_command(&mut device);
        assert_eq!((lamp.topic.as_str(), &command["value"]), ("hall/lamp/set", &json!(true)));
        bench.connect("plant", true).publish("hall/lamp", "true");
        let document = bench.until_reported(&json!({"lamp": true}));
        assert_eq!(document["delta"], json!({}), "{document}");
        let report = bench.service.ask("report", json!({}));
        assert_eq!(report["closed"], json!([]), "{report}");
    }
}

/// uplink.21: a policy that lacks what the shadow needs costs the shadow alone: it is left out, the status says why, and
/// readings go on.
#[test]
fn uplink_21_without_its_rights_a_shadow_is_left_out_and_readings_go_on() {
    for lacking in ["/get/accepted", "/get", "/update"] {
        let mut bench = Bench::prepare_without(Some("plant"), Some(lacking));
        bench.gateway.start_again();
        let mut plant = bench.connect("plant", true);
        plant.publish("hall/lamp", "true");
        plant.publish("rows/count", "1");
        wait::until("the shadow to be left out", || {
            let left_out = bench.status()["shadow"]["left-out"].clone();
            left_out.as_str()?.contains("the policy may lack a right").then_some(())
        });
        for count in 2..5 {
            plant.publish("rows/count", &count.to_string());
        }
        bench.service.ask("wait", json!({"count": 4}));
        let report = bench.service.ask("report", json!({}));
        let closed = report["closed"].as_array().expect("a list");
        assert!(closed.iter().any(|it| it[0] == "FORBIDDEN_ACCESS"), "{lacking}: {report}");
    }
}

/// uplink.21: what the service refuses is told with its code and in its words; what it may take later is reported again, the
/// rest with the next value. What changes while there is no connection is reported behind it, and nothing that is known.
#[test]
fn uplink_21_refused_reports_are_told_and_lost_ones_made_up_for() {
    let mut bench = Bench::prepare(None);
    bench.gateway.start_again();
    bench.until_known();
    let mut plant = bench.connect("plant", true);
    let refuse = |times: u64| json!({"code": 500, "message": "Not today", "times": times});
    bench.service.ask("refuse_reports", refuse(1_000));
    plant.publish("hall/speed", "1");
    wait::until("the refusal to be told", || {
        let status = bench.status();
        status["error"].as_str()?.contains("500: Not today").then_some(())
    });
    bench.service.ask("refuse_reports", refuse(0));
    bench.until_reported(&json!({"press": {"speed": 1}}));
    let status = wait::until("what is over to be told no more", || {
        Some(bench.status()).filter(|status| status["error"].is_null())
    });
    let refused = status["shadow"]["refused"]["server"].as_u64().expect("a count");
    bench.service.ask("refuse_reports", json!({"code": 413, "message": "Too much", "times": 1}));
    plant.publish("hall/speed", "2");
    let status = wait::until("the second refusal to be counted", || {
        let status = bench.status();
        let expected = json!({"server": refused, "too-large": 1});
        (status["shadow"]["refused"] == expected).then_some(status)
    });
    assert!(
        status["error"].as_str().is_some_and(|error| error.contains("413: Too much")),
        "{status}"
    );
    assert_eq!(status["shadow"]["in-step"], false, "{status}");
    plant.publish("hall/speed", "3");
    bench.until_reported(&json!({"press": {"speed": 3}}));
    wait::until("the gateway to know", || {
        (bench.status()["shadow"]["in-step"] == true).then_some(())
    });
    let updates = bench.updates();
    assert_eq!(updates as u64, refused + 3, "one was refused for good");

    bench.service.ask("drop", json!({}));
    plant.publish("hall/lamp", "\"dim\"");
    bench.until_reported(&json!({"press": {"speed": 3}, "lamp": "dim"}));
    wait::until("the gateway to know", || {
        (bench.status()["shadow"]["in-step"] == true).then_some(())
    });
    assert_eq!(bench.updates(), updates + 1, "what is known is not reported again");
    // What belongs to no topic is counted.
    bench.desire("aws-cloud", None, &json!({"other": {"a": 1}, "lamp": {"a": 1}}));
    wait::until("what is unknown to be counted", || {
        let ignored = bench.status()["shadow"]["ignored"].clone();
        (ignored == json!({"unknown-key": 1, "unfit": 1})).then_some(())
    });
    let report = bench.service.ask("report", json!({}));
    let closed = report["closed"].as_array().expect("a list");
    assert!(closed.iter().all(|it| it[0] == "SERVER_INITIATED_DISCONNECT"), "{report}");
}
