//! TLS, WebSocket and certificates with foreign clients: mosquitto's tools, paho, curl, openssl.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use tungstenite::{Message, client::IntoClientRequest as _, http::HeaderValue};

use crate::support::{
    authority::{self, Authority, Pair},
    gateway::Gateway,
    mosquitto::{Mosquitto, Options},
    peer::Peer,
    ports,
    process::{Owned, Stdout},
    programs::{self, Said},
    site::Site,
    wait,
};

const MAPPING: &str =
    "[[http]]\npath = \"/ingest/{press}\"\ntopic = \"hall1/{press}/count\"\npayload = \"text\"\n";

/// A gateway that speaks TLS, and the authority of its plant.
struct Plant {
    gateway: Gateway,
    authority: Authority,
    mqtts: u16,
    ws: u16,
    wss: u16,
    https: u16,
}

impl Plant {
    /// Starts it with principals `press-7` (by certificate) and `operator` (by password `secret`).
    fn start() -> Self {
        let [mqtts, ws, wss, https] = std::array::from_fn(|_| ports::free_port());
        let config = format!(
            r###"
[gateway]
id = "plant"
data-dir = "data"
mappings = ["mappings/*.toml"]
[mqtt]
listen = []
[mqtt.tls]
listen = ["127.0.0.1:{mqtts}"]
cert = "server.pem"
key = {{ file = "server.key" }}
client-ca = "ca.pem"
crl = "revoked.pem"
[mqtt.websocket]
listen = ["127.0.0.1:{ws}"]
anonymous = true
[mqtt.websocket.tls]
listen = ["127.0.0.1:{wss}"]
cert = "server.pem"
key = {{ file = "server.key" }}
client-ca = "ca.pem"
[http]
listen = []
[http.tls]
listen = ["127.0.0.1:{https}"]
cert = "server.pem"
key = {{ file = "server.key" }}
client-ca = "ca.pem"
[[principal]]
name = "press-7"
certificate = "CN=press-7"
[[principal]]
name = "operator"
password = {{ file = "secrets/operator.hash" }}
[[access]]
principal = "press-*"
publish = ["hall1/{{principal}}/#"]
subscribe = ["hall1/{{principal}}/#"]
command = []
[[access]]
principal = "operator"
publish = ["#"]
subscribe = ["#"]
command = ["#"]
[[access]]
principal = "anonymous"
publish = ["open/#"]
subscribe = ["open/#"]
command = []
"###
        );
        let mut gateway = Gateway::prepare(&Site::new(&config, &[("presses.toml", MAPPING)]));
        let authority = Authority::new("plant");
        let folder = gateway.folder();
        authority::write(folder, "ca.pem", &authority.pem());
        authority::write(folder, "revoked.pem", &authority.revoke(666));
        let secrets = folder.join("secrets").display().to_string();
        let words = ["user", "add", "operator", "--secrets", &secrets];
        programs::tidegate_with_input(&words, "secret\n");
        authority.issue("gateway", 1).write(folder, "server");
        authority.issue("press-7", 7).write(folder, "press-7");
        gateway.start_again();
        Self { gateway, authority, mqtts, ws, wss, https }
    }

    fn file(&self, name: &str) -> String {
        self.gateway.folder().join(name).display().to_string()
    }

    /// Runs `mosquitto_pub` over TLS with quality of service 1.
    fn mosquitto_pub(&self, topic: &str, more: &[&str]) -> Said {
        let (ca, port) = (self.file("ca.pem"), self.mqtts.to_string());
        let words = ["-V", "5", "-h", "127.0.0.1", "-p", &port, "--cafile", &ca, "-q", "1"];
        let message = ["-t", topic, "-m", "21.5", "--keepalive", "5"];
        programs::run(programs::find("mosquitto_pub"), &[&words[..], &message, more].concat())
    }

    fn curl(&self, path: &str, more: &[&str]) -> String {
        let url = format!("https://127.0.0.1:{}{path}", self.https);
        let ca = self.file("ca.pem");
        let words = ["-sS", "-w", "%{http_code}", "-o", "/dev/null", "--cacert", &ca];
        programs::run(programs::find("curl"), &[&words[..], more, &[&url]].concat()).stdout
    }

    /// Returns the serial number of the certificate that the MQTT listener shows.
    fn shown_serial(&self) -> String {
        let said = s_client(self.mqtts, &["-showcerts"]);
        let pem = said.stdout.split("-----BEGIN CERTIFICATE-----").nth(1).unwrap_or_default();
        let pem = format!("-----BEGIN CERTIFICATE-----{pem}");
        let file = authority::write(self.gateway.folder(), "shown.pem", &pem);
        let said =
            programs::run(programs::find("openssl"), &["x509", "-noout", "-serial", "-in", &file]);
        said.stdout.trim().to_owned()
    }
}

/// Runs `openssl s_client` with nothing to say.
fn s_client(port: u16, more: &[&str]) -> Said {
    let address = format!("127.0.0.1:{port}");
    let words = [&["s_client", "-connect", &address][..], more].concat();
    let output = Command::new(programs::find("openssl"))
        .args(words)
        .stdin(Stdio::null())
        .output()
        .expect("openssl can be started");
    Said {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// identity.1, identity.3, identity.20: a certificate or a password lets in, as that principal and no other.
#[test]
fn identity_20_mosquitto_and_curl_over_tls() {
    let plant = Plant::start();
    let press = plant.authority.issue("press-7", 8).write(plant.gateway.folder(), "again");
    let pair = ["--cert", &press[0], "--key", &press[1]];
    let said = plant.mosquitto_pub("hall1/press-7/temperature", &pair);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let said = plant.mosquitto_pub("hall1/press-8/temperature", &pair);
    assert!(said.stderr.contains("Not authorized"), "{}", said.stderr);
    let said = plant.mosquitto_pub("hall1/press-7/temperature", &[]);
    assert!(said.stderr.contains("Not authorized"), "nobody in particular: {}", said.stderr);
    let password = ["-u", "operator", "-P", "secret"];
    let said = plant.mosquitto_pub("hall1/press-8/temperature", &password);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let said = plant.mosquitto_pub("hall1/press-8/temperature", &[&password[..], &pair].concat());
    assert_ne!(said.code, Some(0), "a certificate of one, the password of another");

    let foreign = Authority::new("elsewhere").issue("press-7", 9);
    let revoked = plant.authority.issue("press-7", 666);
    for (name, pair) in [("foreign", foreign), ("taken-back", revoked)] {
        let files = pair.write(plant.gateway.folder(), name);
        let pair = ["--cert", &files[0], "--key", &files[1]];
        let said = plant.mosquitto_pub("hall1/press-7/temperature", &pair);
        assert_ne!(said.code, Some(0), "{name}");
    }

    let pair = ["--cert", &press[0], "--key", &press[1]];
    assert_eq!(plant.curl("/ingest/press-7", &[&["-d", "1"][..], &pair].concat()), "201");
    assert_eq!(plant.curl("/ingest/press-7", &["-d", "1"]), "401");
    assert_eq!(plant.curl("/ingest/press-7", &["-d", "1", "-u", "operator:secret"]), "201");
    let topics = "/v1/topics/hall1/press-8/count";
    assert_eq!(plant.curl(topics, &[&["-d", "1"][..], &pair].concat()), "403");
    let counters = &plant.gateway.status(&[])["broker"];
    assert_eq!(counters["handshake-failures"], 2, "the foreign and the revoked one: {counters}");
}

/// identity.1, identity.20: TLS 1.2 and 1.3 and nothing older; the whole chain is shown.
#[test]
fn identity_20_openssl_probes_versions() {
    let plant = Plant::start();
    let ca = plant.file("ca.pem");
    for port in [plant.mqtts, plant.wss, plant.https] {
        for (version, name) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
            let said = s_client(port, &[version, "-CAfile", &ca, "-verify_return_error"]);
            assert!(said.stdout.contains(name), "{version}: {}{}", said.stdout, said.stderr);
            assert!(said.stdout.contains("Verify return code: 0 (ok)"), "{}", said.stdout);
        }
        for words in [
            ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"],
            ["-tls1_2", "-cipher", "AES128-SHA:DES-CBC3-SHA@SECLEVEL=0"],
        ] {
            let said = s_client(port, &words);
            assert!(said.stdout.contains("Cipher is (NONE)"), "{words:?}: {}", said.stdout);
        }
    }
}

/// identity.2, identity.20: paho over WebSocket, in the clear and with TLS, with messages larger than frames.
#[test]
fn identity_20_paho_over_websocket() {
    let plant = Plant::start();
    let mut paho = Peer::start("mqtt_client.py", &[]);
    let tls = json!({
        "ca": plant.file("ca.pem"), "cert": plant.file("press-7.pem"), "key": plant.file("press-7.key"),
    });
    let cases = [
        ("ws", plant.ws, Value::Null, json!("/mqtt"), "open/a"),
        ("wss", plant.wss, tls.clone(), json!("/mqtt"), "hall1/press-7/a"),
        ("mqtts", plant.mqtts, tls, Value::Null, "hall1/press-7/b"),
    ];
    for (client, port, tls, websocket, topic) in cases {
        for version in [4, 5] {
            let connack = paho.ask(
                "connect",
                json!({
                    "client": client, "client_id": client, "host": "127.0.0.1", "port": port, "version": version,
                    "tls": tls, "websocket": websocket,
                }),
            );
            assert_eq!(connack["reason"], 0, "{client} {version}: {connack}");
            paho.ask("subscribe", json!({"client": client, "filters": [[topic, 1]]}));
            let large = "x".repeat(300_000);
            for payload in ["small", large.as_str()] {
                let message =
                    json!({"client": client, "topic": topic, "payload": payload, "qos": 1});
                assert_eq!(paho.ask("publish", message), 0, "{client} {version}");
            }
            let wanted = json!({"client": client, "count": 2, "take": true});
            let messages = paho.ask("messages", wanted);
            let payloads: Vec<&str> = messages
                .as_array()
                .expect("a list")
                .iter()
                .map(|message| message["payload"].as_str().expect("a text"))
                .collect();
            assert!(payloads == ["small", &large], "{client} {version}");
            paho.ask("disconnect", json!({"client": client}));
        }
    }
    let refused = paho.try_ask(
        "connect",
        json!({"client": "x", "host": "127.0.0.1", "port": plant.ws, "websocket": "/other"}),
    );
    assert!(refused.is_err(), "there is nothing at another path: {refused:?}");
}

/// identity.23 in small: certificates are replaced under connections; a wrong pair keeps the old one and says so.
#[test]
fn identity_23_certificates_are_replaced_while_they_are_used() {
    let plant = Plant::start();
    let folder = plant.gateway.folder().to_owned();
    assert_eq!(plant.shown_serial(), "serial=01");
    let mut paho = Peer::start("mqtt_client.py", &[]);
    let tls = json!({
        "ca": plant.file("ca.pem"), "cert": plant.file("press-7.pem"), "key": plant.file("press-7.key"),
    });
    let connect = |client: &str| {
        json!({
            "client": client, "client_id": client, "host": "127.0.0.1", "port": plant.mqtts, "version": 5, "tls": tls,
        })
    };
    let clients: Vec<String> = (0..20).map(|number| format!("c{number}")).collect();
    for client in &clients {
        assert_eq!(paho.ask("connect", connect(client))["reason"], 0);
    }

    // The certificate first, without its key: a wrong pair.
    let second = plant.authority.issue("gateway", 2);
    authority::write(&folder, "server.pem", &second.cert);
    let error = wait::until("the wrong pair to be noticed", || {
        plant.gateway.status(&[])["mapping"]["error"].as_str().map(str::to_owned)
    });
    assert!(error.contains("the private key does not belong to the certificate"), "{error}");
    assert_eq!(plant.shown_serial(), "serial=01", "the old pair is shown");
    authority::write(&folder, "server.key", &second.key);
    wait::until("the new pair to be shown", || (plant.shown_serial() == "serial=02").then_some(()));
    assert_eq!(plant.gateway.status(&[])["mapping"]["error"], Value::Null);

    // A device's certificate is revoked: it comes in no more; those that are there stay.
    authority::write(&folder, "revoked.pem", &plant.authority.revoke(7));
    wait::until("the revoked certificate to be refused", || {
        let pair = ["--cert", &plant.file("press-7.pem"), "--key", &plant.file("press-7.key")];
        let said = plant.mosquitto_pub("hall1/press-7/x", &pair);
        let failures = &plant.gateway.status(&[])["broker"]["handshake-failures"];
        (said.code != Some(0) && failures.as_u64() > Some(0)).then_some(())
    });
    for client in &clients {
        let message =
            json!({"client": client, "topic": "hall1/press-7/x", "payload": "1", "qos": 1});
        assert_eq!(paho.ask("publish", message), 16, "taken, and nobody subscribes");
        assert_eq!(paho.ask("state", json!({"client": client}))["connections"], 1);
    }
}

/// identity.1, identity.20: openssl is shown the certificate with the name that it asks for, and of two with one name
/// the one whose signature it knows.
#[test]
fn identity_1_a_client_is_shown_the_certificate_it_asks_for() {
    let port = ports::free_port();
    let table = |name: &str| {
        format!(
            "[[mqtt.tls.certificate]]\ncert = \"{name}.pem\"\nkey = {{ file = \"{name}.key\" }}\n"
        )
    };
    let config = format!(
        "[gateway]\nid = \"plant\"\ndata-dir = \"data\"\n[mqtt]\nlisten = []\n[mqtt.tls]\nlisten = [\"127.0.0.1:{port}\"]\n\
         cert = \"server.pem\"\nkey = {{ file = \"server.key\" }}\n{}{}{}",
        table("scada"),
        table("edwards"),
        table("wild"),
    );
    let mut gateway = Gateway::prepare(&Site::new(&config, &[]));
    let (authority, folder) = (Authority::new("plant"), gateway.folder().to_owned());
    authority.issue("server", 1).write(&folder, "server");
    authority.issue_for("scada", 2, &["scada.plant.example"]).write(&folder, "scada");
    authority.issue_edwards("edwards", 3, &["scada.plant.example"]).write(&folder, "edwards");
    authority.issue_for("wild", 4, &["*.hall1.plant.example"]).write(&folder, "wild");
    gateway.start_again();
    let shown = |more: &[&str]| {
        let said = s_client(port, more);
        let line = said.stdout.lines().find_map(|line| line.strip_prefix("subject="));
        line.unwrap_or_else(|| panic!("{said:?}")).trim().replace(' ', "")
    };
    #[rustfmt::skip]
    let cases = [
        (&["-noservername"][..],                                                    "CN=server"),
        (&["-servername", "other.plant.example"],                                   "CN=server"),
        (&["-servername", "scada.plant.example"],                                   "CN=scada"),
        (&["-servername", "scada.plant.example", "-sigalgs", "ed25519"],            "CN=edwards"),
        (&["-servername", "press-7.hall1.plant.example", "-tls1_2"],                "CN=wild"),
        (&["-servername", "a.press-7.hall1.plant.example"],                         "CN=server"),
    ];
    for (asked, expected) in cases {
        assert_eq!(shown(asked), expected, "{asked:?}");
    }
    let certificates = gateway.status(&[])["certificates"].as_array().map_or(0, Vec::len);
    assert_eq!(certificates, 4, "each is watched for its end");
}

/// identity.4: rights and accounts are changed while the gateway runs.
#[test]
fn identity_4_rights_and_accounts_change_while_running() {
    let plant = Plant::start();
    let pair = ["--cert", &plant.file("press-7.pem"), "--key", &plant.file("press-7.key")];
    let publish = |topic: &str| plant.mosquitto_pub(topic, &pair);
    assert_eq!(publish("hall1/press-7/x").code, Some(0));
    assert!(publish("hall2/press-7/x").stderr.contains("Not authorized"));
    let config = std::fs::read_to_string(plant.file("tidegate.toml")).expect("it was written");
    let moved = config.replace("hall1/{principal}/#", "hall2/{principal}/#");
    plant.gateway.write("tidegate.toml", &moved);
    wait::until("the new rights", || (publish("hall2/press-7/x").stderr.is_empty()).then_some(()));
    assert!(publish("hall1/press-7/x").stderr.contains("Not authorized"));
    let mut paho = Peer::start("mqtt_client.py", &[]);
    let tls = json!({
        "ca": plant.file("ca.pem"), "cert": plant.file("press-7.pem"), "key": plant.file("press-7.key"),
    });
    let connect = json!({"host": "127.0.0.1", "port": plant.mqtts, "version": 5, "tls": tls});
    assert_eq!(paho.ask("connect", connect)["reason"], 0);
    let without = moved.replace("certificate = \"CN=press-7\"", "certificate = \"CN=press-9\"");
    plant.gateway.write("tidegate.toml", &without);
    wait::until("the account to be another's", || {
        publish("hall2/press-7/x").stderr.contains("Not authorized").then_some(())
    });

    let gone = moved.replace("name = \"press-7\"", "name = \"press-9\"");
    plant.gateway.write("tidegate.toml", &gone);
    let closed = wait::until("the connection of an account that is gone to be closed", || {
        let state = paho.ask("state", json!({}));
        (!state["closed"].is_null()).then(|| state["closed"].clone())
    });
    assert_eq!((&closed["by_server"], &closed["reason"]), (&json!(true), &json!(0x87)), "{closed}");
}

/// identity.3, identity.6: API tokens over HTTP and MQTT, taken back while the gateway runs.
#[test]
fn identity_3_api_tokens() {
    let mut plant = Plant::start();
    let secrets = plant.file("secrets");
    let token = |words: &[&str]| {
        let said = programs::tidegate(&[&["token"], words, &["--secrets", &secrets]].concat());
        assert_eq!(said.code, Some(0), "{words:?}: {}", said.stderr);
        said.stdout.trim().to_owned()
    };
    let [first, second] = [token(&["add", "scada", "--expires", "1d"]), token(&["add", "scada"])];
    let config = std::fs::read_to_string(plant.file("tidegate.toml")).expect("it was written");
    let principal =
        "[[principal]]\nname = \"scada\"\ntokens = { file = \"secrets/scada.tokens\" }\n";
    let access = "[[access]]\nprincipal = \"scada\"\npublish = [\"hall1/#\"]\nsubscribe = []\ncommand = []\n";
    plant.gateway.write("tidegate.toml", &format!("{config}{principal}{access}"));
    plant.gateway.terminate();
    plant.gateway.start_again();

    let post = |token: &str| {
        let bearer = format!("Authorization: Bearer {token}");
        plant.curl("/ingest/press-7", &["-d", "1", "-H", &bearer])
    };
    assert_eq!((post(&first).as_str(), post(&second).as_str()), ("201", "201"));
    assert_eq!(post("tg_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"), "401");
    let mqtt = |user: &str, password: &str| {
        plant.mosquitto_pub("hall1/press-7/x", &["-u", user, "-P", password]).code
    };
    assert_eq!(mqtt("scada", &first), Some(0));
    assert_ne!(mqtt("operator", &first), Some(0), "another's token");

    let listed = token(&["list", "scada"]);
    let id = listed.split(' ').next().expect("a line").to_owned();
    assert_eq!(listed.lines().count(), 2, "{listed}");
    assert!(!listed.contains(&first[3..]), "a token is shown once");
    token(&["remove", "scada", &id]);
    wait::until("the token to be worth nothing", || (post(&first) == "401").then_some(()));
    assert_eq!(post(&second), "201");
}

/// identity.4: the rules can be asked without a gateway, and say what it does.
#[test]
fn identity_4_rules_are_tried_by_acl_test() {
    let plant = Plant::start();
    let file = plant.file("tidegate.toml");
    #[rustfmt::skip]
    let cases = [
        ("press-7",   "publish",   "hall1/press-7/x",     0),
        ("press-7",   "publish",   "hall1/press-8/x",     1),
        ("press-7",   "publish",   "hall1/press-7/x/set", 1),
        ("press-7",   "subscribe", "hall1/press-7/+",     0),
        ("press-7",   "subscribe", "hall1/#",             1),
        ("press-7",   "command",   "hall1/press-7/x",     1),
        ("operator",  "command",   "hall1/press-7/x",     0),
        ("operator",  "publish",   "$SYS/x",              1),
        ("anonymous", "publish",   "open/x",              0),
        ("anonymous", "publish",   "hall1/x",             1),
    ];
    for (principal, right, topic, code) in cases {
        let said = programs::tidegate(&["acl", "test", "-c", &file, principal, right, topic]);
        assert_eq!(said.code, Some(code), "{principal} {right} {topic}: {}", said.stdout);
    }
    let words = ["acl", "test", "-c", &file, "--json", "press-7", "publish", "hall1/press-7/x"];
    let answer: Value = serde_json::from_str(&programs::tidegate(&words).stdout).expect("JSON");
    assert_eq!((&answer["allowed"], &answer["entries"]), (&json!(true), &json!([1])));
}

/// fault-catalogue M05 in small: silent sockets and stalled handshakes cost the others nothing.
#[test]
fn fault_m05_silent_sockets_and_stalled_handshakes() {
    let plant = Plant::start();
    let mut silent = Vec::new();
    for index in 0..300 {
        let port = if index % 2 == 0 { plant.mqtts } else { plant.wss };
        let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("the listener takes us");
        if index % 3 == 0 {
            // The head of a TLS record that never comes.
            socket.write_all(&[0x16, 3, 1, 2, 0, 1]).expect("the socket is open");
        }
        silent.push(socket);
    }
    let pair = ["--cert", &plant.file("press-7.pem"), "--key", &plant.file("press-7.key")];
    for _ in 0..5 {
        let said = plant.mosquitto_pub("hall1/press-7/temperature", &pair);
        assert_eq!(said.code, Some(0), "{}", said.stderr);
    }
    for mut socket in silent {
        socket.set_read_timeout(Some(wait::DEADLINE)).expect("a socket takes a timeout");
        let mut rest = Vec::new();
        // Closed or reset: either way it is over, within the deadline for connecting.
        let read = socket.read_to_end(&mut rest);
        let is_over = read
            .as_ref()
            .map_or_else(|error| error.kind() == std::io::ErrorKind::ConnectionReset, |_| true);
        assert!(is_over, "{read:?}");
    }
    let counters = &plant.gateway.status(&[])["broker"];
    assert_eq!(
        (&counters["connections-opening"], &counters["handshake-failures"]),
        (&json!(0), &json!(300))
    );
}

/// fault-catalogue U06, identity.1: the uplink believes whom it is told to, and shows its certificate.
#[test]
fn fault_u06_the_cloud_must_be_who_it_says() {
    let authority = Authority::new("cloud");
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let port = ports::free_port();
    let cloud = |pair: &Pair| {
        let at = folder.path();
        let ca = authority::write(at, "ca.pem", &authority.pem());
        let [cert, key] = pair.write(at, "cloud");
        let more = format!(
            "listener {port} 127.0.0.1\ncafile {ca}\ncertfile {cert}\nkeyfile {key}\n\
             require_certificate true\nuse_identity_as_username true\n"
        );
        Mosquitto::start_with(Options { more: &more, ..Options::default() })
    };
    let http = ports::free_port();
    let config = format!(
        "[gateway]\nid = \"gw\"\ndata-dir = \"data\"\nmappings = [\"mappings/*.toml\"]\n\
         [http]\nlisten = [\"127.0.0.1:{http}\"]\nanonymous = true\n\
         [[uplink]]\nname = \"cloud\"\nurl = \"mqtts://127.0.0.1:{port}\"\nca = \"ca.pem\"\ncrl = \"revoked.pem\"\n\
         cert = \"gw.pem\"\nkey = {{ file = \"gw.key\" }}\ntopics = [\"#\"]\ntopic = \"up/{{encoding}}\"\n\
         batch = {{ readings = 1, age = \"100ms\" }}\n{}",
        // The same one by several names, each with a rest of its own: attempts come sooner.
        format!("[[uplink.backup]]\nurl = \"mqtts://127.0.0.1:{port}\"\n").repeat(5)
    );
    let mut gateway = Gateway::prepare(&Site::new(&config, &[("presses.toml", MAPPING)]));
    authority::write(gateway.folder(), "ca.pem", &authority.pem());
    authority::write(gateway.folder(), "revoked.pem", &authority.revoke(66));
    authority.issue("gw", 2).write(gateway.folder(), "gw");
    gateway.start_again();
    let url = format!("http://127.0.0.1:{http}/ingest/press-7");
    let said = programs::run(programs::find("curl"), &["-sS", "-d", "1", &url]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);

    let stranger = Authority::new("stranger").issue("cloud", 1);
    let elsewhere = authority.issue_for("cloud", 1, &["elsewhere.example"]);
    for (pair, reason) in [
        (stranger, "UnknownIssuer"),
        (elsewhere, "not valid for name"),
        (authority.issue_expired("cloud", 2), "expired"),
        (authority.issue("cloud", 66), "Revoked"),
        (Pair::self_signed("alone", 3), "UnknownIssuer"),
    ] {
        let broker = cloud(&pair);
        wait::until(reason, || {
            let status = gateway.status(&[]);
            status["uplinks"]["cloud"].to_string().contains(reason).then_some(())
        });
        assert_eq!(gateway.status(&[])["uplinks"]["cloud"]["queued"], 1, "nothing was handed out");
        drop(broker);
    }
    let [cert, key] = authority.issue("cloud", 1).write(folder.path(), "old");
    let old = speaks_tls_1_1_only(port, &cert, &key);
    wait::until("a far side that is too old to be told", || {
        let status = gateway.status(&[]);
        status["uplinks"]["cloud"].to_string().contains("ProtocolVersion").then_some(())
    });
    assert_eq!(gateway.status(&[])["uplinks"]["cloud"]["queued"], 1, "nothing was handed out");
    drop(old);
    let _broker = cloud(&authority.issue("cloud", 1));
    wait::until("the reading to be delivered", || {
        let status = gateway.status(&[]);
        (status["uplinks"]["cloud"]["delivered"] == 1).then_some(())
    });
}

/// Starts a server of a time when TLS 1.1 was the newest.
fn speaks_tls_1_1_only(port: u16, cert: &str, key: &str) -> Owned {
    let (at, old) = (port.to_string(), ["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"]);
    let mut command = Command::new(programs::find("openssl"));
    command.args(["s_server", "-quiet", "-accept", &at, "-cert", cert, "-key", key]).args(old);
    let server = Owned::start("openssl s_server", &mut command, Stdout::Remembered);
    wait::until("it to speak TLS 1.1", || {
        s_client(port, &old).stdout.contains("TLSv1.1").then_some(())
    });
    server
}

/// identity.6: an authority, the gateway's certificate and a device's in three commands; renewed while in use.
#[test]
fn identity_6_certificates_of_the_gateways_own_making() {
    let mqtts = ports::free_port();
    let config = format!(
        "[gateway]\nid = \"gw\"\ndata-dir = \"data\"\n[mqtt]\nlisten = []\n\
         [mqtt.tls]\nlisten = [\"127.0.0.1:{mqtts}\"]\ncert = \"certs/server.pem\"\n\
         key = {{ file = \"certs/server.key\" }}\nclient-ca = \"certs/ca.pem\"\nrequire-client-cert = true\n\
         [[principal]]\nname = \"press-7\"\ncertificate = \"CN=press-7\"\n\
         [[access]]\nprincipal = \"press-*\"\npublish = [\"hall1/{{principal}}/#\"]\nsubscribe = []\ncommand = []\n"
    );
    let mut gateway = Gateway::prepare(&Site::new(&config, &[]));
    let certs = gateway.folder().join("certs");
    let dir = certs.display().to_string();
    let cert = |words: &[&str]| {
        let said = programs::tidegate(&[&["cert"], words, &["--dir", &dir]].concat());
        assert_eq!(said.code, Some(0), "{words:?}: {}", said.stderr);
        said.stdout
    };
    let said = cert(&["init", "--host", "gw.plant.example"]);
    assert!(said.contains("gw.plant.example") && said.contains("[mqtt.tls]"), "{said}");
    assert!(cert(&["device", "press-7"]).contains("certificate = \"CN=press-7\""));
    let again = programs::tidegate(&["cert", "init", "--dir", &dir]);
    assert_eq!(again.code, Some(1), "nothing is overwritten: {}", again.stdout);
    gateway.start_again();

    let file = |name: &str| certs.join(name).display().to_string();
    let publish = |host: &str| {
        let port = mqtts.to_string();
        let (ca, pair) = (file("ca.pem"), [file("press-7.pem"), file("press-7.key")]);
        let words =
            ["-h", host, "-p", &port, "--cafile", &ca, "--cert", &pair[0], "--key", &pair[1]];
        let message = ["-q", "1", "-t", "hall1/press-7/x", "-m", "1"];
        programs::run(programs::find("mosquitto_pub"), &[&words[..], &message].concat())
    };
    for host in ["127.0.0.1", "localhost"] {
        assert_eq!(publish(host).code, Some(0), "{}", publish(host).stderr);
    }
    let shown = || {
        let said = s_client(mqtts, &["-showcerts"]);
        said.stdout.split("-----END").next().unwrap_or_default().to_owned()
    };
    let before = shown();
    cert(&["renew", "server", "--days", "20"]);
    wait::until("the renewed certificate", || (shown() != before).then_some(()));
    let certificate = &gateway.status(&[])["certificates"][0];
    assert_eq!(
        (&certificate["used-by"], &certificate["name"]),
        (&json!("mqtt.tls"), &json!("CN=server"))
    );
    assert!([json!(19), json!(20)].contains(&certificate["days-left"]), "{certificate}");
    let said = gateway.tidegate("status", &[]).stdout;
    assert!(said.contains("certificate of mqtt.tls, CN=server: ENDS in "), "{said}");
    let said = gateway.tidegate("check", &[]);
    let said = said.stdout + &said.stderr;
    assert!(said.contains("the certificate ends in "), "{said}");
    cert(&["renew", "press-7"]);
    assert_eq!(publish("127.0.0.1").code, Some(0));
}

/// A WebSocket that a test drives frame by frame.
struct RawWebSocket(tungstenite::WebSocket<TcpStream>);

impl RawWebSocket {
    fn connect(plant: &Plant) -> Self {
        let url = format!("ws://127.0.0.1:{}/mqtt", plant.ws);
        let mut request = url.into_client_request().expect("the URL is sound");
        let subprotocol = HeaderValue::from_static("mqtt");
        request.headers_mut().insert("Sec-WebSocket-Protocol", subprotocol);
        let stream = TcpStream::connect(("127.0.0.1", plant.ws)).expect("the listener takes us");
        stream.set_read_timeout(Some(wait::DEADLINE)).expect("a socket takes a timeout");
        let (socket, response) =
            tungstenite::client(request, stream).expect("the upgrade is granted");
        assert_eq!(response.headers()["Sec-WebSocket-Protocol"], "mqtt");
        Self(socket)
    }

    /// Sends one frame; the far side may close before all of it is sent.
    fn send(&mut self, bytes: Vec<u8>) {
        let _ = self.0.send(Message::binary(bytes));
    }

    fn read(&mut self) -> Result<Message, tungstenite::Error> {
        self.0.read()
    }
}

/// A CONNECT of MQTT 3.1.1 with a clean session, with a will on `open/will` if `has_will`.
fn connect_packet(client_id: &str, has_will: bool) -> Vec<u8> {
    let text = |text: &str| {
        let length = u16::try_from(text.len()).expect("short").to_be_bytes();
        [&length[..], text.as_bytes()].concat()
    };
    let flags = if has_will { 0x06 } else { 0x02 };
    let mut body = [&text("MQTT")[..], &[4, flags, 0, 60], &text(client_id)].concat();
    if has_will {
        body.extend([text("open/will"), text("gone")].concat());
    }
    [&[0x10, u8::try_from(body.len()).expect("short")][..], &body].concat()
}

const CONNACK: [u8; 4] = [0x20, 2, 0, 0];
const DISCONNECT: [u8; 2] = [0xe0, 0];

/// identity.2: text frames are refused with their own code, and a client that has not logged in cannot make the
/// gateway keep much.
#[test]
fn identity_2_websocket_frames_are_bounded_before_the_login() {
    let plant = Plant::start();
    let mut text = RawWebSocket::connect(&plant);
    text.0.send(Message::text("hello")).expect("the socket is open");
    let Ok(Message::Close(Some(frame))) = text.read() else { panic!("a text frame is refused") };
    assert_eq!(u16::from(frame.code), 1003);

    // The same CONNECT, in a frame of its own and in front of 900,000 bytes in one.
    let mut sound = RawWebSocket::connect(&plant);
    sound.send(connect_packet("sound", false));
    let answer = sound.read().expect("an answer");
    assert_eq!(answer.into_data()[..], CONNACK);
    let mut large = RawWebSocket::connect(&plant);
    large.send([connect_packet("large", false), vec![0xc0; 900_000]].concat());
    let answer = large.read();
    assert!(!matches!(answer, Ok(Message::Binary(_))), "{answer:?}");
    // Behind the login, the limit is that of packets: 100,000 bytes in one frame are taken.
    let mut after = RawWebSocket::connect(&plant);
    after.send(connect_packet("after", false));
    after.send([0xc0, 0].repeat(50_000));
    assert_eq!(after.read().expect("an answer").into_data()[..], CONNACK);
    assert!(matches!(after.read(), Ok(Message::Binary(pongs)) if pongs[..2] == [0xd0, 0]));
}

/// identity.2: what a client sends right before it closes counts; a good-bye is one.
#[test]
fn identity_2_the_last_packets_of_a_websocket_count() {
    let plant = Plant::start();
    let mut paho = Peer::start("mqtt_client.py", &[]);
    let subscriber = json!({"host": "127.0.0.1", "port": plant.ws, "websocket": "/mqtt"});
    assert_eq!(paho.ask("connect", subscriber)["reason"], 0);
    paho.ask("subscribe", json!({"filters": [["open/#", 0]]}));
    for number in 0..20 {
        let mut leaving = RawWebSocket::connect(&plant);
        // Each has a name of its own: taking a session over publishes its will.
        leaving.send(connect_packet(&format!("leaving-{number}"), true));
        assert_eq!(leaving.read().expect("an answer").into_data()[..], CONNACK);
        // All of it in one write, as a client does that leaves: PUBLISH, DISCONNECT, the close frame.
        leaving.0.write(Message::binary(b"\x30\x08\x00\x06open/x".to_vec())).expect("buffered");
        leaving.0.write(Message::binary(DISCONNECT.to_vec())).expect("buffered");
        let _ = leaving.0.close(None);
        let _ = leaving.0.flush();
    }
    let messages = paho.ask("messages", json!({"count": 20}));
    let topics: Vec<&str> = messages
        .as_array()
        .expect("a list")
        .iter()
        .map(|message| message["topic"].as_str().expect("a text"))
        .collect();
    assert_eq!(topics, ["open/x"; 20], "and no will");
}

/// So many looks in a row, 5 ms apart, find the same processor time of a gateway that waits.
const QUIET_LOOKS: u32 = 40;

/// identity.1, identity.2: a client that does not read, and one that floods, cost the others nothing.
#[test]
fn identity_2_slow_readers_and_floods_cost_themselves_only() {
    let plant = Plant::start();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        // Also if the test fails within: the scope waits for its threads.
        let stopper = StopOnDrop(&stop);
        for _ in 0..2 {
            scope.spawn(|| {
                // Never logs in, and is closed for it; comes again.
                while !stop.load(Ordering::Relaxed) {
                    let mut flood = RawWebSocket::connect(&plant);
                    let pings = [0x89, 0x80, 0, 0, 0, 0].repeat(10_000);
                    let stream = flood.0.get_mut();
                    stream.set_nonblocking(true).expect("a socket can be polled");
                    let mut sent = [0; 4_096];
                    while !stop.load(Ordering::Relaxed) {
                        let _ = stream.read(&mut sent);
                        match stream.write(&pings) {
                            Ok(_) => {}
                            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                                // The socket is full: the gateway is behind, and must stay fair.
                                thread::park_timeout(Duration::from_millis(1));
                            }
                            Err(_) => break,
                        }
                    }
                }
            });
        }
        // Readers over TLS that subscribe, and stop reading; what they are sent fills all buffers.
        let mut paho = Peer::start("mqtt_client.py", &[]);
        let tls = json!({
            "ca": plant.file("ca.pem"), "cert": plant.file("press-7.pem"), "key": plant.file("press-7.key"),
        });
        let client = |name: &str| {
            json!({
                "client": name, "client_id": name, "host": "127.0.0.1", "port": plant.wss, "version": 5,
                "tls": tls, "websocket": "/mqtt",
            })
        };
        let mut readers = Peer::start("mqtt_client.py", &[]);
        for reader in ["r1", "r2"] {
            assert_eq!(readers.ask("connect", client(reader))["reason"], 0);
            let subscription = json!({"client": reader, "filters": [["hall1/press-7/#", 0]]});
            readers.ask("subscribe", subscription);
        }
        readers.pause();
        let sender = json!({
            "client": "sender", "host": "127.0.0.1", "port": plant.mqtts, "version": 5, "tls": tls,
        });
        assert_eq!(paho.ask("connect", sender)["reason"], 0);
        let large = "x".repeat(200_000);
        for number in 0..30 {
            let topic = format!("hall1/press-7/{number}");
            let message = json!({"client": "sender", "topic": topic, "payload": large, "qos": 1});
            assert_eq!(paho.ask("publish", message), 0, "{number}");
        }
        drop(stopper);
        // All buffers are full, and nobody sends: the gateway waits, and uses no processor.
        let (mut ticks, mut looks) = (0, 0);
        wait::until("the gateway to be quiet", || {
            let now = cpu_ticks(plant.gateway.id());
            looks = if now == ticks { looks + 1 } else { 0 };
            ticks = now;
            (looks == QUIET_LOOKS).then_some(())
        });
        readers.resume();
        for reader in ["r1", "r2"] {
            let got = readers.ask("messages", json!({"client": reader, "count": 1}));
            assert!(!got.as_array().expect("a list").is_empty());
        }
    });
}

struct StopOnDrop<'s>(&'s AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Returns the processor time of a process, in ticks of 10 ms (proc(5), `utime` and `stime`).
fn cpu_ticks(process: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs");
    let (_, fields) = stat.rsplit_once(')').expect("the name stands in parentheses");
    let field = |number: usize| {
        let word = fields.split_ascii_whitespace().nth(number).expect("a field");
        word.parse::<u64>().expect("a number")
    };
    field(11) + field(12)
}
