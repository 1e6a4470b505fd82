//! The gateway under test, its clients, and the rules of each phase.

use serde_json::{Value, json};

use super::model::{Entry, Rules, Who};
use crate::support::{gateway::Gateway, peer::Peer, ports, programs, site::Site, wait};

/// What topics end with, so that all have as many levels as mapped paths.
pub(super) const TOPICS: [&str; 18] = [
    "m/literal/t",
    "m/none/t",
    "m/own/alice/t",
    "m/own/bob/t",
    "m/own/anonymous/t",
    "m/by/{publisher}/t",
    "m/by/{subscriber}/t",
    "m/by/nobody/t",
    "m/plus/x/t",
    "m/plus/x/y/t",
    "m/wild/x/y/t",
    "m/wild",
    "m/later/t",
    "m/gone/t",
    "m/publish-only/t",
    "m/subscribe-only/t",
    "m/command-only/t",
    "$SYS/x",
];

/// Filters that are subscribed to beside the topics themselves.
pub(super) const FILTERS: [&str; 14] = [
    "#",
    "+/#",
    "m/#",
    "m/+/t",
    "m/own/+/t",
    "m/own/alice/#",
    "m/by/+/t",
    "m/plus/+/t",
    "m/plus/#",
    "m/wild/+/y/t",
    "m/wild/x/#",
    "+/literal/t",
    "$SYS/#",
    "$share/group/m/literal/t",
];

/// Which rules are in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    First,
    /// `m/gone`, `m/wild` and the own topics are withdrawn, `m/later` and `m/none` granted.
    Second,
    /// As the second, and `m/literal` and all command rights are withdrawn, `m/gone` granted.
    Third,
}

impl Phase {
    pub(super) fn rules(self) -> Rules {
        let entry = |principal,
                     publish: &[&'static str],
                     subscribe: &[&'static str],
                     command: &[&'static str]| Entry {
            principal,
            publish: publish.to_vec(),
            subscribe: subscribe.to_vec(),
            command: command.to_vec(),
        };
        let mut alice = vec!["m/by/{client-id}/t", "m/plus/+/t"];
        alice.extend(match self {
            Self::First => ["m/literal/t", "m/own/{principal}/#", "m/wild/#", "m/gone/t"].to_vec(),
            Self::Second => ["m/literal/t", "m/later/t", "m/none/t"].to_vec(),
            Self::Third => ["m/later/t", "m/none/t", "m/gone/t"].to_vec(),
        });
        let also = |more: &'static str| [&alice[..], &[more, "mark/alice"]].concat();
        let shared: &[&str] = match self {
            Self::First => &["m/own/{principal}/+", "m/by/{client-id}/#"],
            Self::Second => &["m/own/+/t"],
            Self::Third => &["m/own/{principal}/+", "m/literal/t"],
        };
        let of_all = |more: &'static [&'static str]| [shared, more].concat();
        let presses: &[&str] = match self {
            Self::First => &["hall/press-1/#", "hall/+/reset"],
            Self::Second => &["hall/press-2/#"],
            Self::Third => &[],
        };
        let commands = [&alice[..], &["m/command-only/t"], presses].concat();
        let commands = if self == Self::Third { presses.to_vec() } else { commands };
        vec![
            entry("operator", &["#"], &["#"], &["#"]),
            entry("alice", &also("m/publish-only/t"), &also("m/subscribe-only/t"), &commands),
            entry(
                "bo*",
                &of_all(&["m/publish-only/t"]),
                &of_all(&["mark/bob", "m/subscribe-only/t"]),
                &of_all(&["hall/+/setpoint", "hall/+/reset"]),
            ),
            entry(
                "anonymous",
                &of_all(&["m/publish-only/t"]),
                &of_all(&["mark/anonymous", "m/subscribe-only/t"]),
                &of_all(&[]),
            ),
        ]
        .into_rules()
    }

    /// Whom the mapping lets write the node and call the method, beside the rules.
    pub(super) fn operators(self) -> &'static [&'static str] {
        match self {
            Self::First => &["alice", "operator"],
            Self::Second => &["alice", "bo*"],
            Self::Third => &["*"],
        }
    }

    fn mapping(self) -> String {
        let operators = format!("{:?}", self.operators());
        let paths = ["{a}", "{a}/{b}", "{a}/{b}/{c}", "{a}/{b}/{c}/{d}"];
        let mapped = paths.map(|path| {
            format!(
                "[[http]]\npath = \"/in/{path}\"\npayload = \"text\"\ntopic = \"m/{path}\"\n\
                 [[coap]]\nresource = \"/in/{path}\"\npayload = \"text\"\ntopic = \"m/{path}\"\n"
            )
        });
        format!(
            "{}[[opcua]]\nserver = \"plc7\"\nnode = \"nsu=urn:example:press;s=Press.{{n}}.Setpoint\"\n\
             topic = \"hall/press-{{n}}/setpoint\"\ntype = \"float\"\nwritable = {{ min = 0, max = 90, principals = {operators} }}\n\
             [[opcua]]\nserver = \"plc7\"\nnode = \"nsu=urn:example:press;s=Press.{{n}}\"\n\
             method = \"nsu=urn:example:press;s=Press.{{n}}.Reset\"\ntopic = \"hall/press-{{n}}/reset\"\nprincipals = {operators}\n",
            mapped.concat()
        )
    }
}

trait IntoRules {
    fn into_rules(self) -> Rules;
}

impl IntoRules for Vec<Entry> {
    fn into_rules(self) -> Rules {
        Rules(self)
    }
}

/// The principals with an account.
const ACCOUNTS: [&str; 3] = ["alice", "bob", "operator"];

/// The gateway with its clients.
pub(super) struct Plant {
    pub(super) gateway: Gateway,
    pub(super) paho: Peer,
    pub(super) web: Peer,
    pub(super) coap: Peer,
    pub(super) presses: Peer,
    pub(super) phase: Phase,
    pub(super) ports: Ports,
    tokens: Vec<(&'static str, String)>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    pub(super) mqtt: u16,
    pub(super) http: u16,
    pub(super) coap: u16,
    opcua: u16,
}

fn config(ports: Ports, phase: Phase) -> String {
    let Ports { mqtt, http, coap, opcua } = ports;
    let accounts = ACCOUNTS.map(|name| {
        format!(
            "[[principal]]\nname = \"{name}\"\ntokens = {{ file = \"secrets/{name}.tokens\" }}\n"
        )
    });
    format!(
        "[gateway]\nid = \"plant\"\ndata-dir = \"data\"\nmappings = [\"mappings/*.toml\"]\n\
         [mqtt]\nlisten = [\"127.0.0.1:{mqtt}\"]\nanonymous = true\n\
         [http]\nlisten = [\"127.0.0.1:{http}\"]\nanonymous = true\n\
         [coap]\nlisten = [\"127.0.0.1:{coap}\"]\nanonymous = true\n\
         [[opcua]]\nname = \"plc7\"\nendpoint = \"opc.tcp://127.0.0.1:{opcua}\"\nsecurity = \"none\"\n{}{}",
        accounts.concat(),
        phase.rules().to_toml()
    )
}

impl Plant {
    pub(super) fn start() -> Self {
        let [mqtt, http, coap, opcua] = std::array::from_fn(|_| ports::free_port());
        let ports = Ports { mqtt, http, coap, opcua };
        let phase = Phase::First;
        let site = Site::new(&config(ports, phase), &[("plant.toml", &phase.mapping())]);
        let mut gateway = Gateway::prepare(&site);
        let secrets = gateway.folder().join("secrets").display().to_string();
        let tokens = ACCOUNTS.map(|name| {
            let said = programs::tidegate(&["token", "add", name, "--secrets", &secrets]);
            assert_eq!(said.code, Some(0), "{}", said.stderr);
            (name, said.stdout.trim().to_owned())
        });
        let port = opcua.to_string();
        let presses =
            Peer::start("asyncua_server.py", &["--port", &port, "--presses", "2", "--types"]);
        gateway.start_again();
        let peer = |script| Peer::start(script, &[]);
        Self {
            gateway,
            paho: peer("mqtt_client.py"),
            web: peer("http_client.py"),
            coap: peer("coap_client.py"),
            presses,
            phase,
            ports,
            tokens: tokens.to_vec(),
        }
    }

    fn token(&self, principal: &str) -> Option<&str> {
        self.tokens.iter().find(|(name, _)| *name == principal).map(|(_, token)| token.as_str())
    }

    /// Puts the rules and the mapping of a phase in force, while the gateway runs if it does.
    pub(super) fn enter(&mut self, phase: Phase, is_running: bool) {
        let generation =
            is_running.then(|| self.gateway.status(&[])["mapping"]["generation"].clone());
        self.gateway.write("mappings/plant.toml", &phase.mapping());
        self.gateway.write("tidegate.toml", &config(self.ports, phase));
        self.phase = phase;
        if let Some(before) = generation {
            wait::until("the changed files to be in force", || {
                let status = self.gateway.status(&[]);
                assert_eq!(status["mapping"]["error"], Value::Null);
                let changed = status["mapping"]["generation"] != before;
                // The two files may be taken one after the other.
                (changed && self.asks_as_expected()).then_some(())
            });
        }
    }

    /// Whether rules of the phase are the ones in force: a topic that tells them apart is asked for.
    fn asks_as_expected(&mut self) -> bool {
        let who = Who { principal: "alice", client_id: None };
        let other = Who { principal: "anonymous", client_id: None };
        let rules = self.phase.rules();
        let found = ["m/later/t", "m/gone/t", "m/literal/t"].map(|topic| {
            let mut allowed =
                |who: &Who| self.get(who.principal, &format!("/v1/topics/{topic}")) != 403;
            (allowed(&who), allowed(&other))
        });
        let expected = ["m/later/t", "m/gone/t", "m/literal/t"]
            .map(|topic| (rules.may_receive(&who, topic), rules.may_receive(&other, topic)));
        found == expected
    }

    /// Sends an HTTP request and returns its status.
    pub(super) fn request(&mut self, principal: &str, method: &str, path: &str, body: &str) -> u16 {
        u16::try_from(self.answer(principal, method, path, body)["status"].as_u64().unwrap_or(0))
            .expect("a status")
    }

    pub(super) fn answer(
        &mut self,
        principal: &str,
        method: &str,
        path: &str,
        body: &str,
    ) -> Value {
        let url = format!("http://127.0.0.1:{}{path}", self.ports.http);
        // A refusal may come before the body was read, and then ends the connection.
        let mut headers = json!({"Connection": "close"});
        if let Some(token) = self.token(principal) {
            headers["Authorization"] = json!(format!("Bearer {token}"));
        }
        let request = json!({"method": method, "url": url, "body": body, "headers": headers});
        self.web.ask("request", request)
    }

    pub(super) fn get(&mut self, principal: &str, path: &str) -> u16 {
        self.request(principal, "GET", path, "")
    }

    /// Sends a CoAP request and returns its code, such as `2.04`.
    pub(super) fn coap(&mut self, method: &str, path: &str, payload: &str) -> String {
        let uri = format!("coap://127.0.0.1:{}{path}", self.ports.coap);
        let request =
            json!({"method": method, "uri": uri, "payload": payload, "content_format": 0});
        let request = if method == "get" { json!({"method": "get", "uri": uri}) } else { request };
        self.coap.ask("request", request)["code"].as_str().expect("a code").to_owned()
    }

    /// Connects an MQTT client; returns whether its session was present.
    pub(super) fn connect(
        &mut self,
        client: &str,
        principal: &str,
        version: u8,
        clean: bool,
    ) -> bool {
        let mut options = json!({
            "client": client, "client_id": client, "host": "127.0.0.1", "port": self.ports.mqtt,
            "version": version, "clean": clean,
        });
        if version == 5 && !clean {
            options["properties"] = json!({"SessionExpiryInterval": 3600});
        }
        if let Some(token) = self.token(principal) {
            options["username"] = json!(principal);
            options["password"] = json!(token);
        }
        let connack = self.paho.ask("connect", options);
        assert_eq!(connack["reason"], 0, "{client}: {connack}");
        connack["session_present"] == json!(true)
    }

    /// Publishes with quality of service 1 or 2; returns whether it was taken. MQTT 3.1.1 closes instead of refusing.
    pub(super) fn publish(
        &mut self,
        client: &str,
        topic: &str,
        payload: &str,
        qos: u8,
        retain: bool,
    ) -> bool {
        let message = json!({"client": client, "topic": topic, "payload": payload, "qos": qos, "retain": retain});
        match self.paho.try_ask("publish", message) {
            Ok(reason) => reason.as_u64().is_some_and(|reason| reason < 0x80),
            Err(error) => {
                assert!(error.starts_with("ConnectionError"), "{error}");
                false
            }
        }
    }
}
