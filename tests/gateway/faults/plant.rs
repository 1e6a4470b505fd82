//! A gateway with accounts, and clients by hand that speak as them.

use crate::support::{
    authority::{self, Authority},
    canary::Places,
    gateway::Gateway,
    ports, programs,
    rules::Rules,
    site::Site,
    wait,
    wire::{Hello, Wire},
};

/// Everybody has an account with a token; what they may is each case's own.
const ACCOUNTS: [&str; 5] = ["alice", "bob", "eve", "operator", "canary"];

/// A gateway, its ports, and the tokens of its accounts.
pub(super) struct Plant {
    pub(super) gateway: Gateway,
    pub(super) mqtt: u16,
    pub(super) mqtts: u16,
    pub(super) http: u16,
    pub(super) https: u16,
    pub(super) coap: u16,
    /// Where the case has put a WebSocket, if it has.
    pub(super) websocket: u16,
    access: String,
    more: String,
    tokens: Vec<(&'static str, String)>,
}

/// The operator may all, and the canary what it needs.
const SERVICE: &str = "[[access]]\nprincipal = \"operator\"\npublish = [\"#\"]\nsubscribe = [\"#\"]\ncommand = [\"#\"]\n\
    [[access]]\nprincipal = \"canary\"\npublish = [\"canary/#\"]\nsubscribe = [\"canary/#\"]\ncommand = []\n";

/// Returns an `[[access]]` table that gives the same filters to publish, subscribe and command.
pub(super) fn access(principal: &str, filters: &[&str]) -> String {
    format!(
        "[[access]]\nprincipal = {principal:?}\npublish = {filters:?}\nsubscribe = {filters:?}\ncommand = {filters:?}\n"
    )
}

impl Plant {
    /// Starts it with these `[[access]]` tables and further tables, such as limits.
    pub(super) fn start(access: &str, more: &str) -> Self {
        let [mqtt, mqtts, http, https, coap] = std::array::from_fn(|_| ports::free_port());
        let mut plant = Self {
            gateway: Gateway::prepare(&Site::new("", &[])),
            mqtt,
            mqtts,
            http,
            https,
            coap,
            websocket: 0,
            access: access.to_owned() + SERVICE,
            more: more.to_owned(),
            tokens: Vec::new(),
        };
        let folder = plant.gateway.folder();
        let secrets = folder.join("secrets").display().to_string();
        let tokens = ACCOUNTS.map(|name| {
            let said = programs::tidegate(&["token", "add", name, "--secrets", &secrets]);
            assert_eq!(said.code, Some(0), "{}", said.stderr);
            (name, said.stdout.trim().to_owned())
        });
        let plant_authority = Authority::new("plant");
        authority::write(folder, "ca.pem", &plant_authority.pem());
        plant_authority.issue("gateway", 1).write(folder, "server");
        plant.tokens = tokens.to_vec();
        plant.write_config(&ACCOUNTS);
        plant.gateway.start_again();
        plant
    }

    fn write_config(&self, accounts: &[&str]) {
        let Self { mqtt, mqtts, http, https, coap, access, more, .. } = self;
        let account = |name: &&str| {
            format!(
                "[[principal]]\nname = \"{name}\"\ntokens = {{ file = \"secrets/{name}.tokens\" }}\n"
            )
        };
        let accounts: String = accounts.iter().map(account).collect();
        let tls = "cert = \"server.pem\"\nkey = { file = \"server.key\" }\n";
        let config = format!(
            "[gateway]\nid = \"plant\"\ndata-dir = \"data\"\nmappings = [\"mappings/*.toml\"]\n\
             [mqtt]\nlisten = [\"127.0.0.1:{mqtt}\"]\nanonymous = true\n\
             [mqtt.tls]\nlisten = [\"127.0.0.1:{mqtts}\"]\n{tls}\
             [http]\nlisten = [\"127.0.0.1:{http}\"]\nanonymous = true\n\
             [http.tls]\nlisten = [\"127.0.0.1:{https}\"]\n{tls}\
             [coap]\nlisten = [\"127.0.0.1:{coap}\"]\nanonymous = true\n{accounts}{access}{more}"
        );
        self.gateway.write("tidegate.toml", &config);
    }

    /// Puts other rules in force, of all accounts but those that are `gone`, and waits until they are.
    #[track_caller]
    pub(super) fn change(&mut self, access: &str, gone: &[&str]) {
        let generation = || self.gateway.status(&[])["mapping"]["generation"].as_u64();
        let before = generation();
        self.rewrite(access, gone);
        let generation = || self.gateway.status(&[])["mapping"]["generation"].as_u64();
        wait::until("the changed rules", || (generation() > before).then_some(()));
    }

    /// Writes other rules, and does not wait.
    pub(super) fn rewrite(&mut self, access: &str, gone: &[&str]) {
        self.access = access.to_owned() + SERVICE;
        let left = ACCOUNTS.into_iter().filter(|name| !gone.contains(name));
        self.write_config(&left.collect::<Vec<_>>());
    }

    /// Removes every `[[access]]` table.
    #[track_caller]
    pub(super) fn without_rules(&mut self) {
        let before = self.gateway.status(&[])["mapping"]["generation"].as_u64();
        self.access = String::new();
        self.write_config(&ACCOUNTS);
        wait::until("no rules", || {
            let now = self.gateway.status(&[])["mapping"]["generation"].as_u64();
            (now > before).then_some(())
        });
    }

    pub(super) fn token(&self, name: &str) -> &str {
        let found = self.tokens.iter().find(|(account, _)| *account == name);
        &found.expect("everybody has a token").1
    }

    /// Returns what a client of this account says first.
    pub(super) fn hello<'a>(&'a self, account: &'a str, client_id: &'a str) -> Hello<'a> {
        Hello { login: Some((account, self.token(account))), client_id, ..Hello::default() }
    }

    /// Connects a client of an account, with MQTT 5 and a session that ends with the connection.
    #[track_caller]
    pub(super) fn connect(&self, account: &str, client_id: &str) -> Wire {
        Wire::connect(self.mqtt, &self.hello(account, client_id)).0
    }

    /// Returns a counter or gauge of the broker.
    #[track_caller]
    pub(super) fn count(&self, name: &str) -> u64 {
        let status = self.gateway.status(&[]);
        let value = name.split('/').fold(&status["broker"], |value, name| &value[name]);
        value.as_u64().unwrap_or(0)
    }

    /// Notes how the gateway is before a case, and lets the canary sing.
    #[track_caller]
    pub(super) fn note(&self) -> Rules {
        let places = Places {
            mqtt: Some(self.mqtt),
            http: Some(self.http),
            coap: Some(self.coap),
            login: ("canary", self.token("canary")),
        };
        let secrets: Vec<&str> = self.tokens.iter().map(|(_, token)| token.as_str()).collect();
        Rules::note(&self.gateway, Some(&places), &secrets)
    }
}
