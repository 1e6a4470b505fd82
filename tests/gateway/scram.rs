//! MQTT 5 enhanced authentication with SCRAM-SHA-256: a foreign client's exchange in packets made by hand; accounts
//! made, listed and removed by command.

use serde_json::{Value, json};

use crate::support::{
    gateway::Gateway, peer::Peer, ports, programs, programs::Said, site::Site, wait,
};

/// RFC 7677's least: Python's clients do the rounds in Python.
const ROUNDS: &str = "4096";

/// A gateway with `press-7` and `press-8`, whose passwords are `secret`, and who may use `hall1/NAME/…`.
struct Plant {
    gateway: Gateway,
    port: u16,
    peer: Peer,
}

impl Plant {
    fn start() -> Self {
        let port = ports::free_port();
        let mut config = format!(
            "[gateway]\nid = \"gw\"\ndata-dir = \"data\"\n[mqtt]\nlisten = [\"127.0.0.1:{port}\"]\n\
             [limits.auth]\nfailures = 1000\n\
             [[access]]\nprincipal = \"press-*\"\npublish = [\"hall1/{{principal}}/#\"]\n\
             subscribe = [\"hall1/{{principal}}/#\"]\ncommand = []\n"
        );
        for name in ["press-7", "press-8"] {
            config += &format!(
                "[[principal]]\nname = \"{name}\"\npassword = {{ file = \"secrets/{name}.hash\" }}\n\
                 scram = {{ file = \"secrets/{name}.scram\" }}\n"
            );
        }
        let mut gateway = Gateway::prepare(&Site::new(&config, &[]));
        for name in ["press-7", "press-8"] {
            user(&gateway, &["add", name, "--scram", "--iterations", ROUNDS], "secret\n");
        }
        gateway.start_again();
        Self { gateway, port, peer: Peer::start("scram_client.py", &[]) }
    }

    /// Logs a client in that names itself like its user, and returns the answer that ended the exchange.
    fn connect(&mut self, client: &str, user: &str, password: &str, more: &Value) -> Value {
        let mut request =
            json!({"client": client, "port": self.port, "user": user, "password": password});
        for (key, value) in more.as_object().expect("an object") {
            request[key] = value.clone();
        }
        self.peer.ask("connect", request)
    }

    fn login_failures(&self) -> u64 {
        self.gateway.status(&[])["broker"]["login-failures"].as_u64().expect("a number")
    }
}

/// Runs `tidegate user … --secrets` in the gateway's folder; it must succeed.
fn user(gateway: &Gateway, words: &[&str], password: &str) {
    let secrets = gateway.folder().join("secrets").display().to_string();
    let words = [&["user"], words, &["--secrets", &secrets]].concat();
    programs::tidegate_with_input(&words, password);
}

fn is_refused(answer: &Value, packet: &str, reason: u8) -> bool {
    answer["packet"] == packet && answer["reason"] == reason && answer["proven"] == false
}

/// identity.3: the right password is proven, and the server proves that it knows it; the rights are the principal's.
#[test]
fn identity_3_a_password_is_proven_and_not_told() {
    let mut plant = Plant::start();
    for (client, more) in [("a", json!({})), ("b", json!({"user_name": "press-7"}))] {
        let answer = plant.connect(client, "press-7", "secret", &more);
        assert_eq!(
            (&answer["packet"], &answer["reason"]),
            (&json!("CONNACK"), &json!(0)),
            "{answer}"
        );
        assert_eq!((&answer["method"], &answer["proven"]), (&json!("SCRAM-SHA-256"), &json!(true)));
    }
    plant.peer.ask("flow", json!({"client": "a", "topic": "hall1/press-7/x"}));
    let flowed = plant.peer.ask("flowed", json!({"client": "a", "beyond": 20}));
    assert_eq!(flowed["in_order"], true, "{flowed}");
    let kept = plant.gateway.folder().join("secrets/press-7.scram");
    let kept = std::fs::read_to_string(kept).expect("it was made");
    assert!(kept.starts_with("SCRAM-SHA-256$4096:") && !kept.contains("secret"), "{kept}");
    assert_eq!(plant.login_failures(), 0);
}

/// identity.3: who has not the password is refused, and does not learn which names there are.
#[test]
fn identity_3_whoever_has_not_the_password_is_refused() {
    let mut plant = Plant::start();
    assert_eq!(plant.connect("listened-to", "press-7", "secret", &json!({}))["reason"], 0);
    let none = json!({});
    let replayed = json!({"replay": "listened-to"});
    let other_header = json!({"change": ["c=biws", "c=eSws"]});
    let other_method = json!({"second_method": "SCRAM-SHA-1"});
    #[rustfmt::skip]
    let cases = [
        // user     password  how             reason  data
        ("press-7", "wrong",  &none,          0x86,   json!("e=invalid-proof")),
        ("nobody",  "secret", &none,          0x86,   json!("e=invalid-proof")),
        ("press-7", "secret", &replayed,      0x86,   json!("e=other-error")),
        ("press-7", "secret", &other_header,  0x86,   json!("e=channel-bindings-dont-match")),
        ("press-7", "secret", &other_method,  0x82,   Value::Null),
        ("press-7", "secret", &json!({"user_name": "press-8"}), 0x86, Value::Null),
        ("press-7", "secret", &json!({"method": "SCRAM-SHA-1"}), 0x8C, Value::Null),
        ("press-7", "secret", &json!({"method": null}), 0x82, Value::Null),
        ("press-7", "secret", &json!({"first": "p=tls-exporter,,n=press-7,r=abc"}), 0x87, Value::Null),
        ("press-7", "secret", &json!({"first": "n,a=press-8,n=press-7,r=abc"}), 0x87, Value::Null),
        ("press-7", "secret", &json!({"first": ""}), 0x87, Value::Null),
        ("press-7", "secret", &json!({"first": format!("n,,n=press-7,r={}", "x".repeat(5_000))}), 0x87, Value::Null),
    ];
    for (user, password, how, reason, data) in &cases {
        let answer = plant.connect("x", user, password, how);
        assert!(is_refused(&answer, "CONNACK", *reason), "{user} {password} {how}: {answer}");
        assert_eq!(answer["data"], *data, "{how}");
        assert_eq!(plant.peer.ask("ended", json!({"client": "x"}))["packet"], "end of stream");
    }
    // The protocol errors are counted elsewhere.
    assert_eq!(plant.login_failures(), 9);

    let mut challenge = |user: &str| {
        let answer = plant.connect("x", user, "wrong", &json!({}));
        let challenge = answer["challenge"].as_str().expect("everybody is asked").to_owned();
        challenge.split_once(",s=").expect("a salt").1.to_owned()
    };
    let [known, unknown] = [challenge("press-7"), challenge("nobody")];
    assert_eq!(known.len(), unknown.len(), "{known} {unknown}");
    assert!(known.ends_with(",i=4096") && unknown.ends_with(",i=4096"), "{known} {unknown}");
    assert_ne!(known, unknown);
    assert_eq!(unknown, challenge("nobody"), "a name that is not there has its salt too");
}

/// identity.3: a client logs in once more while its messages flow; as somebody else, or wrongly, it is disconnected.
#[test]
fn identity_3_a_client_logs_in_again_while_messages_flow() {
    let mut plant = Plant::start();
    let again = |plant: &mut Plant, user: &str, password: &str, more: &Value| {
        let mut request = json!({"client": "c", "user": user, "password": password});
        for (key, value) in more.as_object().expect("an object") {
            request[key] = value.clone();
        }
        plant.peer.ask("again", request)
    };
    let begin = |plant: &mut Plant| {
        assert_eq!(plant.connect("c", "press-7", "secret", &json!({}))["reason"], 0);
        plant.peer.ask("flow", json!({"client": "c", "topic": "hall1/press-7/x"}));
    };
    begin(&mut plant);
    let mut seen = 0;
    for _ in 0..5 {
        let answer = again(&mut plant, "press-7", "secret", &json!({}));
        assert_eq!((&answer["packet"], &answer["reason"]), (&json!("AUTH"), &json!(0)), "{answer}");
        assert_eq!((&answer["method"], &answer["proven"]), (&json!("SCRAM-SHA-256"), &json!(true)));
        let flowed = plant.peer.ask("flowed", json!({"client": "c", "beyond": seen}));
        assert_eq!(flowed["in_order"], true, "{flowed}");
        let count = flowed["count"].as_u64().expect("a number");
        assert!(count > seen, "messages go on: {flowed}");
        seen = count;
    }
    #[rustfmt::skip]
    let cases = [
        ("press-8", "secret", json!({}),                               0x87), // somebody else
        ("press-7", "wrong",  json!({}),                               0x87),
        ("nobody",  "secret", json!({}),                               0x87),
        ("press-7", "secret", json!({"replay": "c0"}),                 0x87),
        ("press-7", "secret", json!({"method": "SCRAM-SHA-1"}),        0x82),
        ("press-7", "secret", json!({"second_method": "SCRAM-SHA-1"}), 0x82),
    ];
    assert_eq!(plant.connect("c0", "press-7", "secret", &json!({}))["reason"], 0);
    for (index, (user, password, how, reason)) in cases.iter().enumerate() {
        if index > 0 {
            begin(&mut plant);
        }
        let answer = again(&mut plant, user, password, how);
        assert!(is_refused(&answer, "DISCONNECT", *reason), "{user} {password} {how}: {answer}");
        assert_eq!(plant.peer.ask("ended", json!({"client": "c"}))["packet"], "end of stream");
    }
    assert_eq!(plant.login_failures(), 4);

    // An AUTH of a client that has named no method, or out of its turn.
    assert_eq!(plant.connect("c", "press-7", "secret", &json!({}))["reason"], 0);
    plant.peer.ask("send_auth", json!({"client": "c", "reason": 0x18}));
    let ended = plant.peer.ask("ended", json!({"client": "c"}));
    assert_eq!((&ended["packet"], &ended["reason"]), (&json!("DISCONNECT"), &json!(0x82)));
}

/// identity.6: accounts are listed with what is wrong with them, change their passwords and are removed by command.
#[test]
fn identity_6_accounts_are_listed_changed_and_removed() {
    let mut plant = Plant::start();
    let secrets = plant.gateway.folder().join("secrets").display().to_string();
    let file = plant.gateway.folder().join("tidegate.toml").display().to_string();
    let tidegate = |words: &[&str]| programs::tidegate(words);
    let again = tidegate(&["user", "add", "press-7", "--secrets", &secrets]);
    assert_eq!(again.code, Some(1), "nothing is overwritten");
    assert!(again.stderr.contains("`tidegate user password`"), "{}", again.stderr);

    let config = std::fs::read_to_string(&file).expect("it was written");
    let said = tidegate(&["token", "add", "scada", "--expires", "20d", "--secrets", &secrets]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let scada = "[[principal]]\nname = \"scada\"\ncertificate = \"CN=scada\"\n\
                 tokens = { file = \"secrets/scada.tokens\" }\n";
    plant.gateway.write("tidegate.toml", &format!("{config}{scada}"));
    let said = tidegate(&["user", "list", "-c", &file, "--json"]);
    let listed: Value = serde_json::from_str(&said.stdout).expect("JSON");
    let from = |name: &str| format!("{secrets}/{name}");
    let press = &listed["principals"][0];
    let expected = json!({
        "name": "press-7", "problems": [], "password": {"from": from("press-7.hash")},
        "scram": {"from": from("press-7.scram"), "iterations": 4096},
    });
    assert_eq!(*press, expected);
    let scada = &listed["principals"][2];
    assert_eq!((&scada["certificate"], &scada["tokens"]["good"]), (&json!("CN=scada"), &json!(1)));
    let problems = scada["problems"].to_string();
    assert!(problems.contains("no `[[access]]` names it") && problems.contains("a token ends at"));
    assert!(problems.contains("no listener asks for certificates"), "{problems}");
    let said = tidegate(&["user", "list", "-c", &file]).stdout;
    assert!(said.contains("  ! no `[[access]]` names it: it may do nothing\n"), "{said}");

    user(&plant.gateway, &["password", "press-7"], "changed\n");
    wait::until("the new password", || {
        (plant.connect("c", "press-7", "changed", &json!({}))["reason"] == 0).then_some(())
    });
    assert_eq!(plant.connect("d", "press-7", "secret", &json!({}))["reason"], 0x86);
    let listed = tidegate(&["user", "list", "-c", &file, "--json"]).stdout;
    assert!(listed.contains("\"iterations\":4096"), "as before: {listed}");

    let remove = |name: &str| -> Said {
        tidegate(&["user", "remove", name, "-c", &file, "--secrets", &secrets])
    };
    let said = remove("press-7");
    assert_eq!(said.code, Some(1), "the configuration needs its files: {}", said.stdout);
    let line =
        config.lines().position(|line| line == "name = \"press-7\"").expect("it is there") + 1;
    assert_eq!(said.stdout, format!("{file}:{line}: [[principal]] name\n"), "{}", said.stderr);
    let kept = std::path::Path::new(&secrets).join("press-7.hash").exists();
    assert!(kept && said.stderr.contains("Nothing was removed"), "{}", said.stderr);

    let start = config.find("[[principal]]").expect("it is there");
    let end = config.rfind("[[principal]]").expect("it is there");
    let own = "[[access]]\nprincipal = \"press-7\"\npublish = []\nsubscribe = []\ncommand = []\n";
    let without = format!("{}{}{own}", &config[..start], &config[end..]);
    plant.gateway.write("tidegate.toml", &without);
    let ended = plant.peer.ask("ended", json!({"client": "c"}));
    assert_eq!(ended["reason"], 0x87, "it is cut off: {ended}");
    let said = remove("press-7");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert_eq!(said.stdout.matches(" is removed\n").count(), 2, "{}", said.stdout);
    assert!(said.stdout.contains(": [[access]] principal\n"), "{}", said.stdout);
    let left: Vec<String> = std::fs::read_dir(&secrets)
        .expect("the folder is there")
        .map(|entry| entry.expect("it can be listed").file_name().display().to_string())
        .filter(|name| name.starts_with("press-7"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(remove("press-9").code, Some(1), "there is nothing of it");
}
