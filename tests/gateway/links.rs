//! Uplinks on their way to brokers: WebSocket frames, proxies, brokers that step in (uplink.20, uplink.28, uplink.32).

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    process::Command,
    sync::atomic::{AtomicU64, Ordering},
};

use serde_json::{Value, json};

use crate::support::{
    authority::{self, Authority},
    gateway::Gateway,
    mosquitto::{Mosquitto, Options},
    peer::Peer,
    ports,
    process::{Owned, Stdout},
    programs,
    site::Site,
    wait,
};

/// A gateway whose readings come by HTTP.
pub(crate) struct Plant {
    pub(crate) gateway: Gateway,
    http: u16,
    /// The last reading.
    last: AtomicU64,
}

impl Plant {
    /// Prepares one with the tables of its uplinks; their common keys are added.
    pub(crate) fn prepare(uplinks: &[&str]) -> Self {
        let http = ports::free_port();
        let mut config = format!(
            "[gateway]\nid = \"links\"\ndata-dir = \"data\"\n\
             [http]\nlisten = [\"127.0.0.1:{http}\"]\nanonymous = true\n"
        );
        for uplink in uplinks {
            config += "[[uplink]]\ntopics = [\"plant/#\"]\ntopic = \"tidegate/{gateway}/{encoding}\"\n\
                       batch = { readings = 10, age = \"100ms\", bytes = \"64KiB\" }\n";
            config += uplink;
        }
        let gateway = Gateway::prepare(&Site::new(&config, &[]));
        Self { gateway, http, last: AtomicU64::new(0) }
    }

    fn start(uplinks: &[&str]) -> Self {
        let mut plant = Self::prepare(uplinks);
        plant.gateway.start_again();
        plant
    }

    /// Hands in further readings, each acknowledged.
    pub(crate) fn read(&self, count: u64) {
        for _ in 0..count {
            let value = self.last.fetch_add(1, Ordering::Relaxed) + 1;
            let url = format!("http://127.0.0.1:{}/v1/topics/plant/count", self.http);
            let (status, body) =
                programs::curl(&["-X", "POST", "--data", &value.to_string(), &url]);
            assert_eq!(status, 201, "{body}");
        }
    }

    pub(crate) fn uplink(&self, name: &str) -> Value {
        let said = self.gateway.tidegate("status", &["--json"]);
        let status: Value = serde_json::from_str(&said.stdout).expect("status prints JSON");
        status["uplinks"][name].clone()
    }

    /// Waits until an uplink has delivered everything, and returns what it says of itself.
    fn until_delivered(&self, name: &str) -> Value {
        let all = self.last.load(Ordering::Relaxed);
        wait::until("all readings to be delivered", || {
            let uplink = self.uplink(name);
            (uplink["delivered"] == all).then_some(uplink)
        })
    }

    fn until(&self, name: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        wait::until(what, || Some(self.uplink(name)).filter(&is))
    }
}

fn cloud(broker: &Mosquitto) -> Peer {
    let port = broker.port().to_string();
    let topics = ["--topic", "tidegate/+/bson", "--topic", "tidegate/+/bson.z"];
    Peer::start("cloud.py", &[&["--port", &port], &topics[..]].concat())
}

/// uplink.20: MQTT in WebSocket frames, plain and encrypted, to a broker of others.
#[test]
fn uplink_20_websocket_plain_and_encrypted() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("cloud");
    authority.issue("localhost", 1).write(folder.path(), "broker");
    let [ws, wss] = [ports::free_port(), ports::free_port()];
    let file = |name: &str| folder.path().join(name).display().to_string();
    let more = format!(
        "listener {ws} 127.0.0.1\nprotocol websockets\n\
         listener {wss} 127.0.0.1\nprotocol websockets\ncertfile {}\nkeyfile {}\n",
        file("broker.pem"),
        file("broker.key")
    );
    let broker = Mosquitto::start_with(Options { more: &more, ..Options::default() });
    let mut cloud = cloud(&broker);
    let mut plant = Plant::prepare(&[
        &format!("name = \"frames\"\nurl = \"ws://127.0.0.1:{ws}/mqtt\"\n"),
        &format!(
            "name = \"secure\"\nurl = \"wss://localhost:{wss}\"\nca = \"ca.pem\"\ncompress = \"zlib\"\n"
        ),
    ]);
    authority::write(plant.gateway.folder(), "ca.pem", &authority.pem());
    plant.gateway.start_again();
    plant.read(30);
    for name in ["frames", "secure"] {
        let uplink = plant.until_delivered(name);
        assert_eq!(uplink["connections"], 1, "{uplink}");
    }
    cloud.ask("wait", json!({"count": 60}));
    assert_eq!(cloud.ask("report", json!({}))["duplicates"], 0);
    assert_eq!(plant.uplink("frames")["endpoint"], format!("127.0.0.1:{ws}"));
}

/// uplink.32: passwords are rotated without a restart and without loss: the far side asks for another one, the file gets it,
/// and the next attempt logs in by it.
#[test]
fn uplink_32_passwords_are_rotated_while_the_gateway_runs() {
    let options = Options { login: Some(("gw", "old-word")), ..Options::default() };
    let mut broker = Mosquitto::start_with(options);
    let mut plant = Plant::prepare(&[&format!(
        "name = \"cloud\"\nurl = \"mqtt://localhost:{}\"\nusername = \"gw\"\n\
         password = {{ file = \"password\" }}\n",
        broker.port()
    )]);
    let write = |plant: &Plant, word: &str| {
        plant.gateway.write("password", word);
        let file = plant.gateway.folder().join("password");
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("it is ours");
    };
    write(&plant, "old-word");
    plant.gateway.start_again();
    plant.read(20);
    plant.until_delivered("cloud");
    broker.stop();
    broker.set_password("gw", "new-word");
    broker.start_again();
    plant.read(20);
    let refused = plant.until("cloud", "the refusal", |uplink| uplink["error"].is_string());
    assert_eq!((&refused["queued"], &refused["delivered"]), (&json!(20), &json!(20)));
    write(&plant, "new-word");
    let uplink = plant.until("cloud", "the rest", |uplink| uplink["delivered"] == 40);
    assert_eq!((&uplink["connections"], &uplink["balanced"]), (&json!(2), &json!(true)));
}

/// A proxy that lets only `gw` with the password `s3cret` through.
pub(crate) struct Proxy {
    process: Owned,
    port: u16,
    pub(crate) url: String,
    _folder: tempfile::TempDir,
}

impl Proxy {
    pub(crate) fn http(to: u16) -> Self {
        let port = ports::free_port();
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let config = format!(
            "Port {port}\nListen 127.0.0.1\nAllow 127.0.0.1\nBasicAuth gw s3cret\nConnectPort {to}\nMaxClients 20\n"
        );
        let file = folder.path().join("tinyproxy.conf");
        fs::write(&file, config).expect("a temporary folder takes files");
        let mut command = Command::new(programs::find("tinyproxy"));
        command.arg("-d").arg("-c").arg(&file);
        Self::start("tinyproxy", command, port, "http", folder)
    }

    pub(crate) fn socks() -> Self {
        let port = ports::free_port();
        let mut command = Command::new(programs::find("microsocks"));
        let port_text = port.to_string();
        command.args(["-i", "127.0.0.1", "-p", &port_text, "-u", "gw", "-P", "s3cret"]);
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        Self::start("microsocks", command, port, "socks5", folder)
    }

    fn start(
        name: &'static str,
        mut command: Command,
        port: u16,
        scheme: &str,
        folder: tempfile::TempDir,
    ) -> Self {
        let process = Owned::start(name, &mut command, Stdout::Remembered);
        wait::until("the proxy to listen", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Self { process, port, url: format!("{scheme}://127.0.0.1:{port}"), _folder: folder }
    }
}

/// uplink.32: proxies of both kinds, with a login; what they refuse is told and tried again late.
#[test]
fn uplink_32_proxies_with_a_login() {
    let broker = Mosquitto::start();
    let mut cloud = cloud(&broker);
    let mut proxies = [Proxy::http(broker.port()), Proxy::socks()];
    let uplink = |name: &str, proxy: &Proxy, password: &str| {
        format!(
            "name = \"{name}\"\nurl = \"mqtt://localhost:{}\"\n\
             proxy = {{ url = \"{}\", username = \"gw\", password = {{ env = \"{password}\" }} }}\n",
            broker.port(),
            proxy.url
        )
    };
    let mut plant = Plant::prepare(&[
        &uplink("http", &proxies[0], "RIGHT"),
        &uplink("socks", &proxies[1], "RIGHT"),
        &uplink("http-wrong", &proxies[0], "WRONG"),
        &uplink("socks-wrong", &proxies[1], "WRONG"),
    ]);
    plant.gateway.set("RIGHT", "s3cret");
    plant.gateway.set("WRONG", "guess");
    plant.gateway.start_again();
    plant.read(20);
    for name in ["http", "socks"] {
        plant.until_delivered(name);
    }
    for name in ["http-wrong", "socks-wrong"] {
        let refused = plant.until(name, "the refusal", |uplink| uplink["error"].is_string());
        let error = refused["error"].as_str().unwrap();
        assert!(error.contains("the proxy does not know us"), "{error}");
        assert_eq!((&refused["queued"], &refused["connections"]), (&json!(20), &json!(0)));
        assert!(!error.contains("guess"), "{error}");
    }
    cloud.ask("wait", json!({"count": 40}));
    assert_eq!(cloud.ask("report", json!({}))["duplicates"], 0);
    // It did go through them.
    for (name, proxy) in ["http", "socks"].into_iter().zip(&mut proxies) {
        proxy.process.terminate();
        let lost = plant.until(name, "the end of the connection", |uplink| {
            uplink["connected"] == false && uplink["error"].is_string()
        });
        let error = lost["error"].as_str().unwrap();
        let is_told = error.contains(&proxy.port.to_string()) || error.contains("closed");
        assert!(is_told || error.contains("broken") || error.contains("abort"), "{error}");
    }
}

/// uplink.28: another broker steps in at once and is stayed with; nothing is lost, and every number comes.
#[test]
fn uplink_28_another_broker_steps_in() {
    let (mut first, second) = (Mosquitto::start(), Mosquitto::start());
    let (mut at_first, mut at_second) = (cloud(&first), cloud(&second));
    let plant = Plant::start(&[&format!(
        "name = \"cloud\"\nurl = \"mqtt://127.0.0.1:{}\"\n\
         [[uplink.backup]]\nurl = \"mqtt://127.0.0.1:{}\"\n",
        first.port(),
        second.port()
    )]);
    plant.read(20);
    plant.until_delivered("cloud");
    at_first.ask("wait", json!({"count": 20}));
    first.stop();
    plant.read(20);
    let uplink = plant.until_delivered("cloud");
    assert_eq!(uplink["endpoint"], format!("127.0.0.1:{}", second.port()), "{uplink}");
    at_second.ask("wait", json!({"count": 20}));
    first.start_again();
    plant.read(20);
    let uplink = plant.until_delivered("cloud");
    assert_eq!(uplink["endpoint"], format!("127.0.0.1:{}", second.port()), "it stays: {uplink}");
    assert_eq!(uplink["balanced"], true, "{uplink}");
    let numbers = |peer: &mut Peer| {
        let readings = peer.ask("readings", json!({}));
        let numbers = readings.as_array().unwrap().iter().map(|it| it["i"].as_u64().unwrap());
        numbers.collect::<Vec<_>>()
    };
    at_second.ask("wait", json!({"count": 40}));
    let mut all = [numbers(&mut at_first), numbers(&mut at_second)].concat();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all, (1..=60).collect::<Vec<_>>());
}

/// Starts a server of HTTP that takes batches.
fn http_cloud(port: u16, more: &[&str]) -> Peer {
    Peer::start("http_cloud.py", &[&["--port", &port.to_string()], more].concat())
}

/// uplink.25: batches are posted, each with a key of its own that a repetition shares; what is refused for now comes
/// again, what is refused for good is set aside, and nothing is lost or entered twice.
#[test]
fn uplink_25_batches_by_http() {
    let port = ports::free_port();
    let mut cloud = http_cloud(port, &["--token", "t0ken"]);
    let uplink = format!(
        "name = \"cloud\"\nurl = \"http://127.0.0.1:{port}/in?qos=1\"\ncompress = \"zlib\"\ntoken = {{ env = \"TOKEN\" }}\n"
    );
    let mut plant = Plant::prepare(&[&uplink]);
    plant.gateway.set("TOKEN", "t0ken");
    // Closed without an answer, again and again, as by something in front of a server that is away: what was under way
    // comes again under its key, and nothing is set aside for it.
    cloud.ask("answer", json!({"status": 0, "times": 4}));
    plant.gateway.start_again();
    plant.read(10);
    let uplink = plant.until_delivered("cloud");
    assert_eq!((&uplink["dead-letters"], &uplink["last-refusal"]), (&json!(0), &Value::Null));
    // Closed behind an answer: nobody is told, and nothing counts as a failure.
    let before = plant.uplink("cloud")["connections"].as_u64().unwrap();
    cloud.ask("answer", json!({"status": 503, "headers": {"Retry-After": "1"}, "body": "later"}));
    plant.read(10);
    plant.until_delivered("cloud");
    let after = plant.uplink("cloud");
    assert_eq!(after["connections"], before + 1, "{after}");
    cloud.ask("wait", json!({"count": 20}));
    let requests = cloud.ask("requests", json!({}));
    let requests = requests.as_array().unwrap();
    let first = &requests[0];
    assert_eq!(first["path"], "/in/tidegate/links/bson.z?qos=1", "{first}");
    assert_eq!(first["headers"]["content-type"], "application/bson");
    assert_eq!(first["headers"]["content-encoding"], "deflate");
    let key = |request: &Value| request["headers"]["idempotency-key"].clone();
    assert_eq!((key(first), key(first)), (key(&requests[1]), key(&requests[2])), "repetitions");
    let report = cloud.ask("report", json!({}));
    assert_eq!((&report["duplicates"], &report["holes"]), (&json!(0), &json!(0)), "{report}");
    // For good: the one reading that is at fault is set aside.
    cloud.ask("answer", json!({"status": 422, "body": "not in this form"}));
    plant.read(1);
    let refused = plant.until("cloud", "a dead letter", |uplink| uplink["dead-letters"] == 1);
    assert_eq!(
        refused["last-refusal"],
        "the far side answers 422 Unprocessable Entity: not in this form"
    );
    assert_eq!(refused["balanced"], true, "{refused}");
}

/// uplink.25: over TLS; a wrong token keeps everything, and is told.
#[test]
fn uplink_25_https_and_who_is_not_known() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("cloud");
    authority.issue("localhost", 1).write(folder.path(), "server");
    let port = ports::free_port();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let (cert, key) = (file("server.pem"), file("server.key"));
    let mut cloud = http_cloud(port, &["--cert", &cert, "--key", &key, "--token", "right"]);
    let uplink = |name: &str, token: &str| {
        format!(
            "name = \"{name}\"\nurl = \"https://localhost:{port}\"\nca = \"ca.pem\"\ntoken = {{ env = \"{token}\" }}\n"
        )
    };
    let mut plant = Plant::prepare(&[&uplink("known", "RIGHT"), &uplink("unknown", "WRONG")]);
    plant.gateway.set("RIGHT", "right");
    plant.gateway.set("WRONG", "wr0ng-token");
    authority::write(plant.gateway.folder(), "ca.pem", &authority.pem());
    plant.gateway.start_again();
    plant.read(5);
    plant.until_delivered("known");
    cloud.ask("wait", json!({"count": 5}));
    let unknown = plant.until("unknown", "the refusal", |uplink| uplink["error"].is_string());
    assert_eq!(unknown["error"], "the far side answers 401 Unauthorized: who are you?");
    assert_eq!((&unknown["queued"], &unknown["dead-letters"]), (&json!(5), &json!(0)));
}

/// uplink.1: an uplink that shares another's connection has its own queue and books; with a higher priority its readings
/// overtake what waits there.
#[test]
fn uplink_1_alarms_overtake_bulk_on_a_shared_connection() {
    let mut broker = Mosquitto::start();
    let mut cloud = cloud(&broker);
    let mut plant = Plant::prepare(&[]);
    let config = format!(
        "[gateway]\nid = \"links\"\ndata-dir = \"data\"\n\
         [http]\nlisten = [\"127.0.0.1:{}\"]\nanonymous = true\n\
         [[uplink]]\nname = \"bulk\"\nurl = \"mqtt://127.0.0.1:{}\"\ntopics = [\"plant/#\"]\n\
         topic = \"tidegate/links/bson\"\nbatch = {{ readings = 1 }}\nmax-messages-per-second = 5\n\
         [[uplink]]\nname = \"alarms\"\nvia = \"bulk\"\npriority = 10\ntopics = [\"alarm/#\"]\n\
         topic = \"tidegate/links/bson\"\nbatch = {{ readings = 1 }}\nmax-bytes = \"1MiB\"\n",
        plant.http,
        broker.port()
    );
    plant.gateway.write("tidegate.toml", &config);
    broker.stop();
    plant.gateway.start_again();
    plant.read(30);
    let url = format!("http://127.0.0.1:{}/v1/topics/alarm/fire", plant.http);
    let (status, body) = programs::curl(&["-X", "POST", "--data", "1", &url]);
    assert_eq!(status, 201, "{body}");
    broker.start_again();
    cloud.ask("wait", json!({"count": 31}));
    let order = cloud.ask("order", json!({}));
    let place = order.as_array().unwrap().iter().position(|it| it[0] == "alarms").unwrap();
    assert!(place < 15, "the alarm came as number {place} of 31");
    let alarms = plant.until("alarms", "the alarm's answer", |uplink| uplink["delivered"] == 1);
    assert_eq!((&alarms["balanced"], &alarms["connected"]), (&json!(true), &json!(true)));
    assert_eq!(plant.until_delivered("bulk")["balanced"], true);
    // Both have lost the connection when it is lost, and have it again.
    broker.stop();
    plant.until("alarms", "the end of the connection", |uplink| uplink["connected"] == false);
    broker.start_again();
    programs::curl(&["-X", "POST", "--data", "2", &url]);
    plant.until("alarms", "the second alarm", |uplink| uplink["delivered"] == 2);
}
