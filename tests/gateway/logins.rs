//! Logins with sockets of our own and with curl: guesses are slowed down, and users are not.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{gateway::Gateway, ports, programs, site::Site, wait};

/// Where users come from, and where guesses do.
const HOME: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

const BAD_CREDENTIALS: u8 = 0x86;
const RATE_EXCEEDED: u8 = 0x9f;

/// A gateway over which people log in.
struct Door {
    gateway: Gateway,
    mqtt: u16,
    http: u16,
}

impl Door {
    /// Starts it with these principals, all with the password `secret`, who may do everything.
    fn start(principals: &[&str], more: &str) -> Self {
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
    let text = |text: &str| {
        let length = u16::try_from(text.len()).expect("short").to_be_bytes();
        [&length[..], text.as_bytes()].concat()
    };
    let head = [&text("MQTT")[..], &[5, 0xc2, 0, 60, 0]].concat();
    let body = [head, text(""), text(name), text(password)].concat();
    [&[0x10, u8::try_from(body.len()).expect("short")][..], &body].concat()
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
    let metrics = programs::curl(&[&format!("http://127.0.0.1:{}/metrics", door.http)]).1;
    let line = format!("tidegate_logins_refused_total{{reason=\"bad-credentials\"}} {wrong}");
    assert!(metrics.lines().any(|found| found == line), "{metrics}");
    let said = door.gateway.output().to_string();
    assert!(said.matches("Logins from this address fail").count() == 1, "{said}");
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
        [&["-u", "scada:guess"], &["-H", "Authorization: Bearer guess"], &["-u", "nobody:guess"]];
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
    assert_eq!(door.http(HOME, &["-u", "scada:secret"]).0, 200);
    assert_eq!(
        door.log_in(ELSEWHERE, "scada", "secret"),
        RATE_EXCEEDED,
        "one delay for all protocols"
    );
    let told = door.logins();
    assert_eq!(told["addresses-with-failures"], json!(1), "{told}");
}
