//! Logins with sockets of our own and with curl: guesses are slowed down, and users are not.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant, SystemTime},
};

use serde_json::{Value, json};
use tidegate::broker::Token;
use tidegate_model::Timestamp;

use crate::support::{
    authority::{self, Authority},
    gateway::Gateway,
    peer::Peer,
    ports, programs,
    site::Site,
    wait,
};

/// Where users come from, and where guesses do.
const HOME: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

const BAD_CREDENTIALS: u8 = 0x86;
const RATE_EXCEEDED: u8 = 0x9f;
const NOT_AUTHORIZED: u8 = 0x87;

/// A gateway over which people log in.
struct Door {
    gateway: Gateway,
    mqtt: u16,
    http: u16,
}

impl Door {
    /// Starts it with these principals, all with the password `secret`, who may do everything.
    fn start(principals: &[&str], more: &str) -> Self {
        Self::start_with(principals, more, &[])
    }

    /// Does the same with these files, which are for the owner alone.
    fn start_with(principals: &[&str], more: &str, files: &[(&str, &str)]) -> Self {
        let [mqtt, http] = std::array::from_fn(|_| ports::free_port());
        let mut config = format!(
            "[gateway]\nid = \"door\"\ndata-dir = \"data\"\n[mqtt]\nlisten = [\"127.0.0.1:{mqtt}\"]\n\
             [http]\nlisten = [\"127.0.0.1:{http}\"]\n{more}"
        );
        for name in principals {
            config += &format!(
                "[[principal]]\nname = \"{name}\"\npassword = {{ env = \"HASH\" }}\n[[access]]\nprincipal = \
                 \"{name}\"\npublish = [\"#\"]\nsubscribe = [\"#\"]\n"
            );
        }
        let mut gateway = Gateway::prepare(&Site::new(&config, &[]));
        let hash = tidegate::broker::hash_password(b"secret").expect("the system works");
        gateway.set("HASH", &hash);
        for (name, text) in files {
            authority::write(gateway.folder(), name, text);
        }
        gateway.start_again();
        Self { gateway, mqtt, http }
    }

    /// Tries to log in from an address and returns the reason code of the answer.
    fn log_in(&self, from: Ipv4Addr, name: &str, password: &str) -> u8 {
        let mut stream = connect(from, self.mqtt);
        stream.write_all(&connect_packet(name, password)).expect("the gateway reads");
        let mut head = [0; 4];
        stream.read_exact(&mut head).expect("every CONNECT is answered");
        assert_eq!(head[0], 0x20, "a CONNACK");
        head[3]
    }

    /// Logs in and stays, with a will on `wills/NAME`.
    fn stay(&self, name: &str, password: &str, will: &str) -> TcpStream {
        let mut stream = connect(HOME, self.mqtt);
        let packet = connect_with_will(name, password, Some(&format!("wills/{will}")));
        stream.write_all(&packet).expect("the gateway reads");
        let connack = read_packet(&mut stream).expect("every CONNECT is answered");
        assert_eq!((connack[0], connack[2]), (0x20, 0), "{will} is let in");
        stream
    }

    fn logins(&self) -> Value {
        self.gateway.status(&[])["logins"].clone()
    }

    /// Asks over HTTP from an address and returns the status and the field Retry-After.
    fn http(&self, from: Ipv4Addr, authorization: &[&str]) -> (u16, String) {
        let url = format!("http://127.0.0.1:{}/v1/topics", self.http);
        let from = from.to_string();
        let words = [
            "--interface",
            &from,
            "--output",
            "/dev/null",
            "--write-out",
            "%header{retry-after}\n%{http_code}",
        ];
        let (status, body) = programs::curl(&[&words[..], authorization, &[&url]].concat());
        (status, body.trim().to_owned())
    }
}

/// Connects from an address of this machine.
fn connect(from: Ipv4Addr, port: u16) -> TcpStream {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    let stream = runtime.expect("a runtime can be made").block_on(async {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((from, 0)))?;
        socket.connect(SocketAddr::from((HOME, port))).await?.into_std()
    });
    let stream = stream.expect("the gateway takes us");
    stream.set_nonblocking(false).expect("a socket can wait");
    stream.set_read_timeout(Some(wait::DEADLINE)).expect("a socket takes a timeout");
    stream
}

/// A CONNECT of MQTT 5 with a clean start, a name and a password.
fn connect_packet(name: &str, password: &str) -> Vec<u8> {
    connect_with_will(name, password, None)
}

/// The same with a will on a topic.
fn connect_with_will(name: &str, password: &str, will: Option<&str>) -> Vec<u8> {
    let text = |text: &str| {
        let length = u16::try_from(text.len()).expect("short").to_be_bytes();
        [&length[..], text.as_bytes()].concat()
    };
    let flags = if will.is_some() { 0xc6 } else { 0xc2 };
    let head = [&text("MQTT")[..], &[5, flags, 0, 60, 0]].concat();
    let will = will.map(|topic| [vec![0], text(topic), text("gone")].concat());
    let body = [head, text(""), will.unwrap_or_default(), text(name), text(password)].concat();
    let mut packet = vec![0x10];
    let mut length = body.len();
    while length > 127 {
        packet.push((length % 128) as u8 | 0x80);
        length /= 128;
    }
    packet.push(length as u8);
    packet.extend(body);
    packet
}

/// Reads a packet shorter than 128 bytes: its type, and what stands behind its length.
fn read_packet(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut head = [0; 2];
    stream.read_exact(&mut head)?;
    let mut packet = vec![0; 1 + usize::from(head[1])];
    packet[0] = head[0];
    stream.read_exact(&mut packet[1..])?;
    Ok(packet)
}

/// Returns the most memory that a process has had, in KiB (proc(5), `VmHWM`).
fn memory_peak_kib(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("it is told");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// identity.8, C9, fault M18: guesses over 100 connections are slowed down, each answer counted; users log in meanwhile
/// within two seconds, also one whose name is guessed, where it logged in before.
#[test]
fn fault_m18_password_guessing() {
    let door = Door::start(&["canary", "newcomer-1", "newcomer-2", "newcomer-3"], "");
    assert_eq!(door.log_in(HOME, "canary", "secret"), 0);
    let before = memory_peak_kib(door.gateway.id());
    let (stop, start) = (AtomicBool::new(false), Instant::now());
    let (wrong, delayed) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        let stopper = StopOnDrop(&stop);
        for guesser in 0..100 {
            let (door, stop, wrong, delayed) = (&door, &stop, &wrong, &delayed);
            scope.spawn(move || {
                for number in 0.. {
                    let unknown = format!("user-{guesser}-{number}");
                    let name = if number % 2 == 0 { "canary" } else { &unknown };
                    match door.log_in(ELSEWHERE, name, "guess") {
                        BAD_CREDENTIALS => wrong.fetch_add(1, Ordering::Relaxed),
                        RATE_EXCEEDED => delayed.fetch_add(1, Ordering::Relaxed),
                        other => panic!("a guess is answered with {other:#x}"),
                    };
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
        }
        let users = ["canary", "newcomer-1", "canary", "newcomer-2", "canary", "newcomer-3"];
        for user in users {
            // The guesses of every guesser go on meanwhile.
            let seen = delayed.load(Ordering::Relaxed);
            wait::until("more guesses", || {
                (delayed.load(Ordering::Relaxed) >= seen + 100).then_some(())
            });
            let asked = Instant::now();
            assert_eq!(door.log_in(HOME, user, "secret"), 0, "{user}");
            let took = asked.elapsed();
            assert!(took < Duration::from_secs(2), "{user} waited {took:?}");
        }
        assert_eq!(
            door.log_in(ELSEWHERE, "canary", "secret"),
            RATE_EXCEEDED,
            "even if it is right"
        );
        delayed.fetch_add(1, Ordering::Relaxed);
        drop(stopper);
    });
    let told = door.logins();
    let (wrong, delayed) = (wrong.into_inner(), delayed.into_inner());
    assert_eq!(told["refused"]["bad-credentials"], wrong, "{told}");
    let counted = |reason: &str| told["refused"][reason].as_u64().expect("a number");
    assert_eq!(counted("address-delayed") + counted("name-delayed"), delayed, "{told}");
    // Five are free, and a delay twice as long follows each of the others; two may be checked at the same time.
    let seconds = start.elapsed().as_secs() + 2;
    assert!(wrong <= 5 + 2 * (u64::from(seconds.ilog2()) + 2), "{wrong} in {seconds} s");
    let grown = memory_peak_kib(door.gateway.id()).saturating_sub(before);
    assert!(grown < 64 << 10, "100 connections and two checks took {grown} KiB");
    let metrics = programs::curl(&[
        "-u",
        "canary:secret",
        &format!("http://127.0.0.1:{}/metrics", door.http),
    ])
    .1;
    let line = format!("tidegate_logins_refused_total{{reason=\"bad-credentials\"}} {wrong}");
    assert!(metrics.lines().any(|found| found == line), "{metrics}");
    let said = door.gateway.output().to_string();
    assert!(said.matches("Logins from this address fail").count() == 1, "{said}");
}

/// C8, identity.3: a connection lasts no longer than the credential that opened it. One whose time is over is closed with
/// its will, one that was withdrawn or replaced without; all others go on.
#[test]
fn identity_3_connections_end_with_their_credentials() {
    let ends = SystemTime::now() + Duration::from_secs(4);
    let since = ends.duration_since(SystemTime::UNIX_EPOCH).expect("it is later than 1970");
    let ends_at = Timestamp::from_unix_micros(since.as_micros().try_into().expect("it is soon"));
    let (lasting, kept) = Token::generate(None).expect("the system works");
    let (ending, kept_ending) = Token::generate(Some(ends_at)).expect("the system works");
    let hash = |password: &[u8]| tidegate::broker::hash_password(password).expect("it works");
    let door = Door::start_with(
        &["canary"],
        "[[principal]]\nname = \"scada\"\ntokens = { file = \"scada.tokens\" }\n\
         password = { file = \"scada.hash\" }\n\
         [[access]]\nprincipal = \"scada\"\npublish = [\"#\"]\nsubscribe = [\"#\"]\n",
        &[("scada.tokens", &format!("{kept}\n{kept_ending}\n")), ("scada.hash", &hash(b"first"))],
    );
    let mut paho = Peer::start("mqtt_client.py", &[]);
    let canary = json!({
        "host": "127.0.0.1", "port": door.mqtt, "version": 5, "username": "canary", "password": "secret",
    });
    assert_eq!(paho.ask("connect", canary)["reason"], 0);
    paho.ask("subscribe", json!({"filters": [["wills/#", 1]]}));
    let mut by_ending = door.stay("scada", &ending, "ending");
    let mut by_token = door.stay("", &lasting, "token");
    let mut by_password = door.stay("scada", "first", "password");
    let mut web = Web::connect(door.http);
    assert_eq!([web.get(&lasting), web.get(&ending)], [200, 200]);

    assert_eq!(read_packet(&mut by_ending).expect("a good-bye")[..2], [0xe0, NOT_AUTHORIZED]);
    assert!(SystemTime::now() >= ends, "not before its end");
    let messages = paho.ask("messages", json!({"count": 1, "take": true}));
    assert_eq!(messages[0]["topic"], "wills/ending");
    assert_eq!([web.get(&lasting), web.get(&ending)], [200, 401]);

    authority::write(door.gateway.folder(), "scada.tokens", &format!("{kept_ending}\n"));
    assert_eq!(read_packet(&mut by_token).expect("a good-bye")[..2], [0xe0, NOT_AUTHORIZED]);
    assert_eq!(web.get(&lasting), 401, "requests of a connection that was there, too");
    authority::write(door.gateway.folder(), "scada.hash", &hash(b"second"));
    assert_eq!(read_packet(&mut by_password).expect("a good-bye")[..2], [0xe0, NOT_AUTHORIZED]);
    assert_eq!(door.log_in(HOME, "scada", "first"), BAD_CREDENTIALS);
    assert_eq!(door.log_in(HOME, "scada", "second"), 0);
    // Whose credential stays is not disturbed, and has heard of no other will.
    let own = json!({"topic": "wills/none", "payload": "1", "qos": 1});
    assert_eq!(paho.ask("publish", own), 0);
    let messages = paho.ask("messages", json!({"count": 1, "take": true}));
    assert_eq!(messages[0]["topic"], "wills/none");
    assert_eq!(paho.ask("state", json!({}))["connections"], 1);
}

/// An issuer of tokens, and a gateway that believes it: keys over HTTPS for one name, from a file for another.
struct Federation {
    issuer: Peer,
    door: Door,
}

const ISSUER: &str = "https://idp.example";
const FILED: &str = "https://filed.example";

impl Federation {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let authority = Authority::new("idp");
        let [cert, key] = authority.issue("localhost", 1).write(folder.path(), "idp");
        let mut issuer = Peer::start("jwt_issuer.py", &["--cert", &cert, "--key", &key]);
        for alg in ["RS256", "PS256", "ES256", "EdDSA"] {
            issuer.ask("make_key", json!({"kid": alg.to_lowercase(), "alg": alg}));
        }
        let filed = issuer.ask("public_pem", json!({"kid": "rs256"}));
        let port = &issuer.facts()["port"];
        let config = format!(
            "[[jwt]]\nissuer = \"{ISSUER}\"\naudience = \"tidegate\"\nurl = \"https://localhost:{port}/keys\"\n\
             ca = \"idp-ca.pem\"\nrefresh = \"1s\"\nprincipals = [\"press-*\"]\n\
             [[jwt]]\nissuer = \"{FILED}\"\naudience = \"tidegate\"\nkeys = \"filed.pem\"\nprincipal = \"client_id\"\n\
             principals = [\"scada\"]\n[limits.auth]\nfailures = 1000\n\
             [[access]]\nprincipal = \"*\"\npublish = [\"#\"]\nsubscribe = [\"#\"]\n"
        );
        let filed = filed.as_str().expect("a text");
        let files = [("idp-ca.pem", authority.pem()), ("filed.pem", filed.to_owned())];
        let files = files.each_ref().map(|(name, text)| (*name, text.as_str()));
        let door = Door::start_with(&["local"], &config, &files);
        let mut federation = Self { issuer, door };
        federation.wait_for_keys(4);
        federation
    }

    fn wait_for_keys(&mut self, count: u64) {
        wait::until("the keys to be fetched", || {
            let keys = &self.door.gateway.status(&[])["jwt"][ISSUER];
            (keys["keys"] == count).then_some(())
        });
    }

    /// Returns a token of the first issuer with these claims besides its own.
    fn sign(&mut self, kid: &str, more: Value, expires: f64) -> String {
        let claims = merged(json!({"iss": ISSUER, "aud": "tidegate", "sub": "press-7"}), more);
        let token =
            self.issuer.ask("sign", json!({"kid": kid, "claims": claims, "expires": expires}));
        token.as_str().expect("a text").to_owned()
    }

    fn forge(&mut self, header: Value, secret: &Value) -> String {
        let claims = json!({"iss": ISSUER, "aud": "tidegate", "sub": "press-7"});
        let asked = json!({"header": header, "claims": claims, "secret": secret, "expires": 60});
        self.issuer.ask("forge", asked).as_str().expect("a text").to_owned()
    }

    /// Asks over HTTP with a token and returns the status.
    fn web(&self, token: &str) -> u16 {
        Web::connect(self.door.http).get(token)
    }
}

fn merged(mut object: Value, more: Value) -> Value {
    let Value::Object(more) = more else { panic!("claims are an object") };
    for (name, value) in more {
        object[name] = value;
    }
    object
}

/// identity.3: tokens that a foreign library has signed let in, over HTTP as bearer and over MQTT as the password; those
/// that are wrong in one thing do not, and each is counted for what is wrong.
#[test]
fn identity_3_tokens_of_a_foreign_issuer() {
    let mut federation = Federation::start();
    for kid in ["rs256", "ps256", "es256", "eddsa"] {
        let token = federation.sign(kid, json!({}), 60.0);
        assert_eq!(federation.web(&token), 200, "{kid}");
        for (name, answer) in [("press-7", 0), ("", 0), ("press-8", BAD_CREDENTIALS)] {
            assert_eq!(federation.door.log_in(HOME, name, &token), answer, "{kid} as `{name}`");
        }
    }
    let claims = json!({"iss": ISSUER, "aud": ["x", "tidegate"], "sub": "press-7"});
    let unnamed = json!({"kid": "es256", "claims": claims, "expires": 60});
    let unnamed = federation.issuer.ask("sign_unnamed", unnamed);
    assert_eq!(
        federation.web(unnamed.as_str().expect("a text")),
        200,
        "any key may have signed it"
    );
    let filed = json!({"iss": FILED, "client_id": "scada"});
    let filed = federation.sign("rs256", filed, 60.0);
    assert_eq!(federation.door.log_in(HOME, "scada", &filed), 0, "its key is known from a file");

    let pem = federation.issuer.ask("public_pem", json!({"kid": "rs256"}));
    let wrong = [
        ("jwt-algorithm", federation.forge(json!({"alg": "none"}), &Value::Null)),
        ("jwt-algorithm", federation.forge(json!({"alg": "HS256", "kid": "rs256"}), &pem)),
        (
            "jwt-algorithm",
            federation.forge(json!({"alg": "HS256", "kid": "shared"}), &json!("secret")),
        ),
        ("jwt-signature", federation.forge(json!({"alg": "RS256", "kid": "rs256"}), &pem)),
        ("jwt-key", federation.forge(json!({"alg": "ES256", "kid": "unknown"}), &pem)),
        ("jwt-key", federation.forge(json!({"alg": "RS256", "kid": "encryption"}), &pem)),
        ("jwt-expired", federation.sign("es256", json!({}), -31.0)),
        ("jwt-not-yet", federation.sign("es256", json!({"nbf": 4_000_000_000_u64}), 60.0)),
        ("jwt-audience", federation.sign("es256", json!({"aud": "another"}), 60.0)),
        ("jwt-name", federation.sign("es256", json!({"sub": "local"}), 60.0)),
        ("jwt-name", federation.sign("es256", json!({"sub": "press-/#"}), 60.0)),
        ("jwt-key", federation.sign("es256", json!({"iss": FILED, "client_id": "scada"}), 60.0)),
        ("jwt-name", federation.sign("rs256", json!({"iss": FILED, "client_id": "press-7"}), 60.0)),
        ("bad-token", federation.sign("es256", json!({"iss": "https://other.example"}), 60.0)),
        ("bad-token", federation.sign("es256", json!({"more": "x".repeat(9_000)}), 60.0)),
    ];
    for (reason, token) in &wrong {
        let before = federation.door.logins()["refused"][reason].as_u64();
        assert_eq!(federation.web(token), 401, "{reason}: {token}");
        let after = federation.door.logins()["refused"][reason].as_u64();
        assert_eq!(after, before.map(|before| before + 1), "{reason}: {token}");
    }
    for (reason, token) in wrong.iter().filter(|(reason, _)| reason.starts_with("jwt")) {
        assert_eq!(federation.door.log_in(HOME, "press-7", token), BAD_CREDENTIALS, "{reason}");
    }
}

/// identity.3, C8: keys are fetched anew; connections made with a key that is gone are cut; the last keys go on when they
/// cannot be fetched, and the status says why; a token's end is that of its connections.
#[test]
fn identity_3_keys_of_an_issuer_rotate() {
    let mut federation = Federation::start();
    let old = federation.sign("es256", json!({"sub": "press-1"}), 600.0);
    let mut by_old = federation.door.stay("press-1", &old, "old");
    let short = federation.sign("rs256", json!({"sub": "press-2"}), -26.0);
    let mut by_short = federation.door.stay("press-2", &short, "short");
    let kept = federation.sign("rs256", json!({"sub": "press-3"}), 600.0);
    assert_eq!(federation.web(&kept), 200);

    federation.issuer.ask("make_key", json!({"kid": "next", "alg": "ES256"}));
    let next = federation.sign("next", json!({}), 60.0);
    wait::until("the new key", || (federation.web(&next) == 200).then_some(()));
    federation.issuer.ask("hide_key", json!({"kid": "es256"}));
    assert_eq!(read_packet(&mut by_old).expect("a good-bye")[..2], [0xe0, NOT_AUTHORIZED]);
    assert_eq!(federation.web(&old), 401);
    assert_eq!(read_packet(&mut by_short).expect("a good-bye")[..2], [0xe0, NOT_AUTHORIZED]);

    for (status, body) in [(503, ""), (200, "{}"), (200, &*"x".repeat(300_000))] {
        federation.issuer.ask("set_answer", json!({"status": status, "body": body}));
        let before = federation.door.gateway.status(&[])["jwt"][ISSUER]["failures"].clone();
        wait::until("a failed fetch", || {
            let keys = &federation.door.gateway.status(&[])["jwt"][ISSUER];
            (keys["failures"].as_u64() > before.as_u64() && keys["error"].is_string()).then_some(())
        });
        assert_eq!(federation.web(&kept), 200, "the last good keys go on");
    }
    let said = federation.door.gateway.tidegate("status", &[]).stdout;
    assert!(said.contains(&format!("keys of {ISSUER}: 4 there")), "{said}");
    federation.issuer.ask("set_answer", json!({}));
    wait::until("the keys to be fetched again", || {
        let keys = &federation.door.gateway.status(&[])["jwt"][ISSUER];
        (keys["error"] == Value::Null).then_some(())
    });

    // An issuer that is not configured any more vouches for nobody.
    let folder = federation.door.gateway.folder().to_owned();
    let config = fs::read_to_string(folder.join("tidegate.toml")).expect("it was written");
    let mut by_kept = federation.door.stay("press-3", &kept, "kept");
    federation
        .door
        .gateway
        .write("tidegate.toml", &config.replace("[\"press-*\"]", "[\"other-*\"]"));
    assert_eq!(read_packet(&mut by_kept).expect("a good-bye")[..2], [0xe0, NOT_AUTHORIZED]);
    assert_eq!(federation.web(&kept), 401);
}

/// A connection over which HTTP requests go one after the other.
struct Web(BufReader<TcpStream>);

impl Web {
    fn connect(port: u16) -> Self {
        Self(BufReader::new(connect(HOME, port)))
    }

    /// Asks with a token and returns the status of the answer.
    fn get(&mut self, token: &str) -> u16 {
        let request = format!(
            "GET /v1/topics HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        self.0.get_mut().write_all(request.as_bytes()).expect("the gateway reads");
        let (mut status, mut length) = (None, 0);
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).expect("the gateway answers");
            let line = line.trim_end().to_ascii_lowercase();
            if status.is_none() {
                status = line.split(' ').nth(1).and_then(|word| word.parse().ok());
            } else if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().expect("a number");
            } else if line.is_empty() {
                break;
            }
        }
        self.0.read_exact(&mut vec![0; length]).expect("a body");
        status.expect("an answer has a status")
    }
}

struct StopOnDrop<'s>(&'s AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// identity.8: over HTTP a refusal is 401, and 429 with the time to wait while logins are delayed; for passwords and
/// tokens alike, and only where they failed.
#[test]
fn identity_8_http_says_when_to_come_back() {
    let door = Door::start(&["scada"], "[limits.auth]\nfailures = 3\ndelay-max = \"1h\"\n");
    let guesses: [&[&str]; 3] =
        [&["-u", "scada:guess"], &["-u", "other:guess"], &["-u", "nobody:guess"]];
    for guess in guesses {
        assert_eq!(door.http(ELSEWHERE, guess), (401, String::new()), "{guess:?}");
    }
    // Each failure doubles the delay, until it is long enough for the rest of the test: after 1, 2 and 4 s.
    let delayed = wait::until("a delay of some seconds", || {
        let (status, after) = door.http(ELSEWHERE, guesses[1]);
        assert!([401, 429].contains(&status));
        thread::park_timeout(Duration::from_millis(200));
        after.parse::<u64>().ok().filter(|after| *after > 5)
    });
    assert!(delayed <= 16, "{delayed} s");
    for words in [guesses[0], guesses[1], &["-u", "scada:secret"]] {
        let (status, after) = door.http(ELSEWHERE, words);
        assert_eq!((status, after.parse::<u64>().is_ok()), (429, true), "{words:?}");
    }
    let token = ["-H", "Authorization: Bearer guess"];
    assert_eq!(door.http(ELSEWHERE, &token).0, 401, "tokens are delayed apart from passwords");
    assert_eq!(door.http(HOME, &["-u", "scada:secret"]).0, 200);
    assert_eq!(
        door.log_in(ELSEWHERE, "scada", "secret"),
        RATE_EXCEEDED,
        "one delay for all protocols"
    );
    let told = door.logins();
    assert_eq!(told["addresses-with-failures"], json!(1), "{told}");
}
