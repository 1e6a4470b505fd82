//! Mapping files that are pushed: looked at, tried, kept, or put back (uplink.31).

mod configuration;

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::support::{
    gateway::Gateway,
    mosquitto::Mosquitto,
    peer::Peer,
    ports,
    programs::{self, Said},
    site::Site,
    wait,
};

/// A gateway with one mapping file, whose readings show which set is in force.
struct Hall {
    gateway: Gateway,
    http: u16,
}

/// A mapping that puts readings below `topic`.
fn mapping(topic: &str) -> String {
    format!(
        "[[http]]\npath = \"/report/{{name}}\"\npayload = \"text\"\ntopic = \"hall1/{topic}/{{name}}\"\n"
    )
}

impl Hall {
    fn start(more: &str) -> Self {
        let http = ports::free_port();
        let config = format!(
            "[gateway]\nid = \"hall\"\ndata-dir = \"data\"\nmappings = [\"mappings/*.toml\"]\n\
             [http]\nlisten = [\"127.0.0.1:{http}\"]\nanonymous = true\n{more}"
        );
        let site = Site::new(&config, &[("hall.toml", &mapping("old"))]);
        Self { gateway: Gateway::start(&site), http }
    }

    /// Writes a folder to push from, with one mapping file; returns its path.
    fn folder(&self, name: &str, text: &str) -> String {
        self.gateway.write(&format!("{name}/mappings/hall.toml"), text);
        self.gateway.folder().join(name).display().to_string()
    }

    /// Runs `tidegate push WORDS` on this gateway.
    fn push(&self, words: &[&str]) -> Said {
        let config = self.gateway.folder().join("tidegate.toml").display().to_string();
        programs::tidegate(&[&["push"], words, &["-c", &config]].concat())
    }

    #[track_caller]
    fn push_well(&self, words: &[&str]) -> Value {
        let said = self.push(&[words, &["--json"]].concat());
        assert_eq!(said.code, Some(0), "{words:?}: {}{}", said.stdout, said.stderr);
        serde_json::from_str(&said.stdout).expect("JSON is printed")
    }

    /// Below which of the two topics readings come.
    #[track_caller]
    fn topic_in_force(&self) -> &'static str {
        let name = format!("n{}", ports::free_port());
        let url = format!("http://127.0.0.1:{}", self.http);
        let (status, body) =
            programs::curl(&["-X", "POST", "--data", "1", &format!("{url}/report/{name}")]);
        assert_eq!(status, 201, "{body}");
        let has = |topic| programs::curl(&[&format!("{url}/v1/topics/hall1/{topic}/{name}")]).0;
        match (has("old"), has("new")) {
            (200, 404) => "old",
            (404, 200) => "new",
            other => panic!("neither or both: {other:?}"),
        }
    }

    /// Waits until a trial is over, and returns what was done last.
    #[track_caller]
    fn until_over(&self) -> Value {
        wait::until("the end of the trial", || {
            let push = self.gateway.status(&[])["push"].clone();
            push["trial"].is_null().then(|| push["last"].clone())
        })
    }

    /// The names of the files that are kept.
    fn kept(&self) -> Vec<String> {
        let folder = fs::read_dir(self.gateway.folder().join("data/push"));
        let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
        let mut names: Vec<String> = folder.into_iter().flatten().flatten().map(name).collect();
        names.sort_unstable();
        names
    }

    /// Sends a line and a body to the control socket, as they are.
    fn ask(&self, line: &str, body: &[u8]) -> Value {
        let stream = self.connect();
        let answer = exchange(stream, line, body);
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{answer:?}: {error}"))
    }

    fn connect(&self) -> UnixStream {
        let path = self.gateway.folder().join("data/control.sock");
        UnixStream::connect(path).expect("the gateway runs")
    }
}

/// Returns the answer; empty if the gateway ends before it.
fn exchange(mut stream: UnixStream, line: &str, body: &[u8]) -> String {
    // Who refuses need not read all of it.
    drop(stream.write_all(line.as_bytes()).and_then(|()| stream.write_all(body)));
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

/// uplink.31: a preview says everything and changes nothing; a set is taken into use, kept across a kill once it is
/// confirmed, and given up for the one before it.
#[test]
fn uplink_31_a_set_is_looked_at_tried_kept_and_given_up() {
    let mut hall = Hall::start("[push]\n");
    let new = hall.folder("new", &mapping("new"));
    let bad = hall.folder("bad", "[[http]]\npath = \"/report\"\ntopik = \"hall1/x\"\n");
    let said = hall.push(&["preview", &bad]);
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    assert!(
        said.stdout.contains("topik") && said.stdout.contains("hall.toml:3"),
        "{}",
        said.stdout
    );
    let refused = hall.push(&["apply", &bad, "--json"]);
    let answer: Value = serde_json::from_str(&refused.stdout).expect("JSON is printed");
    assert_eq!((refused.code, &answer["outcome"]), (Some(1), &json!("refused")));
    assert_eq!(answer["value"]["report"]["issues"][0]["line"], 3, "{answer}");

    let report = hall.push_well(&["preview", &new])["value"]["report"].clone();
    assert_eq!(report["files"]["changed"], json!(["mappings/hall.toml"]), "{report}");
    assert_eq!(report["adapters"], json!(["http"]));
    assert_eq!(hall.topic_in_force(), "old");

    let applied = hall.push_well(&["apply", &new, "--id", "p-1"]);
    assert_eq!((&applied["outcome"], &applied["value"]["set"]), (&json!("accepted"), &json!(1)));
    assert_eq!(hall.topic_in_force(), "new");
    // The same id with the same set does nothing again; with another set it is refused, and so is a second trial.
    assert_eq!(hall.push_well(&["apply", &new, "--id", "p-1"])["value"]["repeated"], true);
    let other = hall.folder("other", &mapping("other"));
    assert_eq!(hall.push(&["apply", &other, "--id", "p-1"]).code, Some(1));
    assert!(hall.push(&["apply", &other]).stdout.contains("on trial"));
    assert_eq!(hall.push(&["confirm", "--set", "7"]).code, Some(1));
    hall.push_well(&["confirm", "--set", "1"]);
    hall.gateway.kill9();
    hall.gateway.start_again();
    assert_eq!(hall.topic_in_force(), "new");
    let check = hall.gateway.tidegate("check", &[]);
    assert_eq!(check.code, Some(0), "{}", check.stdout);

    hall.push_well(&["return"]);
    assert_eq!(hall.topic_in_force(), "old");
    assert_eq!(hall.push(&["return"]).code, Some(1), "nothing is before the folder's own files");
    assert_eq!(hall.kept(), ["note"]);
    let status = hall.push(&["status"]).stdout;
    for word in ["set 0", "applied", "confirmed", "returned"] {
        assert!(status.contains(word), "{status}");
    }
}

/// uplink.31: a set that nobody confirms is put back, once, and the note says why.
#[test]
fn uplink_31_a_set_that_nobody_confirms_is_put_back() {
    let hall = Hall::start("[push]\nconfirm-within = \"2s\"\n");
    let new = hall.folder("new", &mapping("new"));
    hall.push_well(&["apply", &new]);
    let last = hall.until_over();
    assert_eq!((&last["what"], &last["by"]), (&json!("returned"), &json!("gateway")), "{last}");
    assert!(last["reason"].as_str().is_some_and(|why| why.contains("nobody")), "{last}");
    assert_eq!(hall.topic_in_force(), "old");
    assert_eq!(hall.kept(), ["note"]);
}

/// Kills: 24 on each change, 500 in the tier of all cases.
fn kills() -> u64 {
    if std::env::var("TIDEGATE_TIER").is_ok_and(|tier| tier == "all") { 500 } else { 24 }
}

/// uplink.31, S19 and D28: a kill at any moment of a push leaves the old set or, once its confirmation was answered, the new
/// one; a set on trial never outlives it.
#[test]
fn uplink_31_a_kill_at_any_moment_leaves_the_old_set_or_the_new_one() {
    let mut hall = Hall::start("[push]\n");
    let new = hall.folder("new", &mapping("new"));
    let body = json!({"args": files(&mapping("new"))}).to_string();
    let mut seen = [0; 2];
    for round in 0..kills() {
        let is_confirmed = round % 2 == 1;
        if is_confirmed {
            hall.push_well(&["apply", &new]);
        }
        let (stream, body) = (hall.connect(), body.clone());
        let pushing = thread::spawn(move || match is_confirmed {
            true => exchange(stream, "push confirm\n", b""),
            false => exchange(stream, &format!("push apply +{}\n", body.len()), body.as_bytes()),
        });
        thread::sleep(Duration::from_millis(2 * (round % 24)));
        hall.gateway.kill9();
        let answer = pushing.join().expect("no panic");
        hall.gateway.start_again();
        let push = hall.gateway.status(&[])["push"].clone();
        assert!(push["trial"].is_null(), "{push}");
        let topic = hall.topic_in_force();
        assert_eq!(topic == "new", push["in-force"] != 0, "{push}");
        assert!(is_confirmed || topic == "old", "a set on trial outlived a kill: {push}");
        if is_confirmed && answer.contains("\"confirmed\"") {
            assert_eq!(topic, "new", "what was confirmed is gone: {push}");
        }
        seen[usize::from(topic == "new")] += 1;
        if topic == "new" {
            hall.push_well(&["return"]);
        }
        assert!(hall.kept().iter().all(|name| name == "note"), "{:?}", hall.kept());
    }
    assert!(seen[0] >= kills() / 2, "{seen:?}");
}

/// uplink.31: hostile bodies are refused before they take room, each with a reason, and change nothing.
#[test]
fn uplink_31_hostile_pushes_are_refused() {
    let hall = Hall::start("[push]\n");
    let of = |mappings: &str| format!("{{\"args\":{{\"mappings\":{mappings}}}}}").into_bytes();
    let outside = "{\"mappings/../../../secrets/x.toml\":\"\"}";
    #[rustfmt::skip]
    let cases = [
        (of(outside),                                                   "begin with a dot"),
        (of("{\"elsewhere/hall.toml\":\"\"}"),                          "no entry of"),
        (of("{\"mappings/a.toml\":\"\",\"mappings/a.toml\":\"\"}"),     "not JSON"),
        (b"{\"args\":{\"mappings\":{\"mappings/a.toml\":\"\xff\"}}}".to_vec(), "not JSON"),
        (b"[1]".to_vec(),                                               "not an object"),
        (of("{\"mappings/a.toml\":\"password = 'geheim'\"}"),           "password"),
    ];
    for (body, expected) in cases {
        let answer = hall.ask(&format!("push apply +{}\n", body.len()), &body);
        assert_eq!(answer["outcome"], "refused", "{answer}");
        assert!(answer["reason"].as_str().is_some_and(|why| why.contains(expected)), "{answer}");
        assert!(!answer.to_string().contains("geheim"), "a secret is sent back: {answer}");
    }
    for size in ["4194305", "99999999999999999999999", "-1"] {
        let answer = hall.ask(&format!("push apply +{size}\n"), b"");
        assert!(answer["error"].as_str().is_some_and(|why| why.contains("bytes")), "{answer}");
    }
    assert_eq!(hall.ask("push away\n", b"")["error"], "unknown question");
    assert_eq!(hall.gateway.status(&[])["push"]["in-force"], 0);
    assert!(!hall.gateway.folder().join("data/push").exists(), "nothing was written");
}

/// uplink.31: nobody can push where the configuration has no `[push]`.
#[test]
fn uplink_31_nobody_can_push_unless_the_configuration_lets_them() {
    let hall = Hall::start("");
    let said = hall.push(&["apply", &hall.folder("new", &mapping("new"))]);
    assert_eq!(said.code, Some(2));
    assert!(said.stderr.contains("[push]"), "{}", said.stderr);
}

/// The far side of an uplink.
struct Cloud {
    peer: Peer,
    told: usize,
    broker: Mosquitto,
}

impl Cloud {
    fn start() -> Self {
        let broker = Mosquitto::start();
        let port = broker.port().to_string();
        let peer = Peer::start("cloud.py", &["--port", &port, "--topic", "tidegate/hall/result/#"]);
        Self { peer, told: 0, broker }
    }

    fn uplink(&self) -> String {
        format!(
            "[[uplink]]\nname = \"cloud\"\nurl = \"mqtt://127.0.0.1:{}\"\ntopics = [\"hall1/#\"]\n\
             topic = \"tidegate/{{gateway}}/{{encoding}}\"\ncommands = \"tidegate/{{gateway}}/cmd/#\"\n",
            self.broker.port()
        )
    }

    fn send(&mut self, action: &str, id: &str, arguments: Value) {
        let topic = format!("tidegate/hall/cmd/$push/{action}/call");
        let payload = json!({"id": id, "args": arguments, "expires": "2099-01-01T00:00:00Z"});
        self.peer.ask("publish", json!({"topic": topic, "payload": payload.to_string()}));
    }

    /// Waits for the next outcome.
    #[track_caller]
    fn next(&mut self) -> Value {
        let count = self.told + 1;
        let others = wait::until("an outcome", || {
            self.peer.try_ask("wait_others", json!({"count": count, "timeout": 1.0})).ok()
        });
        let outcome = &others[self.told];
        assert!(outcome["topic"].as_str().is_some_and(|it| it.contains("$push")), "{outcome}");
        self.told = count;
        serde_json::from_str(outcome["payload"].as_str().expect("a text")).expect("JSON")
    }

    /// Waits for the next outcome of a command; ends of trials are told again after a kill.
    #[track_caller]
    fn next_of(&mut self, id: &str) -> Value {
        loop {
            let outcome = self.next();
            if outcome["id"] == id {
                return outcome;
            }
        }
    }

    #[track_caller]
    fn ask(&mut self, action: &str, id: &str, arguments: Value) -> Value {
        self.send(action, id, arguments);
        self.next_of(id)
    }
}

const RIGHT: &str = "[[access]]\nprincipal = \"uplink:cloud\"\nmanage = \"write\"\n\
                     [[access]]\nprincipal = \"anonymous\"\npublish = [\"#\"]\nsubscribe = [\"#\"]\n";

fn files(text: &str) -> Value {
    json!({"mappings": {"mappings/hall.toml": text}})
}

/// uplink.31: a cloud may push where `[push]` names its uplink and `[[access]]` gives it the right; never otherwise.
#[test]
fn uplink_31_a_cloud_pushes_only_with_both_permissions() {
    for (push, right, missing) in [
        ("", RIGHT, "[push]"),
        ("[push]\n", RIGHT, "uplinks"),
        ("[push]\nuplinks = [\"cloud\"]\n", "", "manage"),
    ] {
        let mut cloud = Cloud::start();
        let hall = Hall::start(&format!("{push}{}{right}", cloud.uplink()));
        wait::until("the uplink", || {
            (hall.gateway.status(&[])["uplinks"]["cloud"]["connected"] == true).then_some(())
        });
        let outcome = cloud.ask("apply", "p-1", files(&mapping("new")));
        assert_eq!(outcome["outcome"], "refused");
        assert!(outcome["reason"].as_str().is_some_and(|it| it.contains(missing)), "{outcome}");
        assert_eq!(hall.topic_in_force(), "old");
    }
}

/// uplink.31: from a cloud: preview, apply, confirm, each at most once per id and told; points that could not be
/// commanded stay so; a set whose uplink goes away is put back, and that is told when it is back.
#[test]
fn uplink_31_a_cloud_pushes_and_hears_what_became_of_it() {
    let mut cloud = Cloud::start();
    let push = "[push]\nuplinks = [\"cloud\"]\nconnect-within = \"2s\"\n";
    let mut hall = Hall::start(&format!("{push}{}{RIGHT}", cloud.uplink()));
    wait::until("the uplink", || {
        (hall.gateway.status(&[])["uplinks"]["cloud"]["connected"] == true).then_some(())
    });
    let preview = cloud.ask("preview", "p-1", files("[[http]]\ntopik = 1\n"));
    assert_eq!(preview["outcome"], "confirmed");
    let report = &preview["value"][0]["report"];
    let report = if report.is_null() { &preview["value"]["report"] } else { report };
    assert_eq!(report["sound"], false, "{preview}");
    let writable = format!(
        "{}[[opcua]]\nserver = \"plc\"\nnode = \"nsu=urn:p;s=a\"\ntopic = \"hall1/a\"\nwritable = true\n",
        mapping("new")
    );
    let outcome = cloud.ask("apply", "p-2", files(&writable));
    assert_eq!(outcome["outcome"], "refused");
    let outcome = cloud.ask("apply", "p-3", files(&mapping("new")));
    assert_eq!(outcome["outcome"], "accepted", "{outcome}");
    assert_eq!(hall.topic_in_force(), "new");
    // Sent again, it is told again and nothing else.
    assert_eq!(cloud.ask("apply", "p-3", files(&mapping("new")))["outcome"], "accepted");
    cloud.send("confirm", "p-4", json!({"set": 1}));
    let mut ends = [cloud.next(), cloud.next()].map(|it| (it["id"].clone(), it["outcome"].clone()));
    ends.sort_by_key(|(id, _)| id.to_string());
    let confirmed = json!("confirmed");
    assert_eq!(ends, [(json!("p-3"), confirmed.clone()), (json!("p-4"), confirmed)]);
    hall.gateway.kill9();
    hall.gateway.start_again();
    assert_eq!(hall.topic_in_force(), "new");
    wait::until("the uplink", || {
        (hall.gateway.status(&[])["uplinks"]["cloud"]["connected"] == true).then_some(())
    });
    assert_eq!(cloud.ask("apply", "p-5", files(&mapping("old")))["outcome"], "accepted");
    assert_eq!(hall.topic_in_force(), "old");
    cloud.broker.stop();
    let last = hall.until_over();
    assert!(last["reason"].as_str().is_some_and(|it| it.contains("uplink cloud")), "{last}");
    assert_eq!(hall.topic_in_force(), "new");
    cloud.broker.start_again();
    let told = cloud.next_of("p-5");
    assert_eq!((&told["id"], &told["outcome"]), (&json!("p-5"), &json!("refused")), "{told}");
    assert!(told["reason"].as_str().is_some_and(|it| it.contains("put back")), "{told}");
}
