//! `tidegate user list`: who may log in, by what, and what is wrong with it.

use std::{
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use serde_json::{Value, json};
use tidegate_model::Timestamp;
use tidegate_tls::Clients;

use super::super::{ConfigArguments, EX_CONFIG};
use crate::{
    config::{self, Config, PrincipalConfig},
    expiry::WARNED_DAYS,
};

const DAY_MICROS: i64 = 86_400 * 1_000_000;

pub(super) fn list(arguments: &ConfigArguments, as_json: bool) -> anyhow::Result<ExitCode> {
    let path = &arguments.config;
    let Some(config) = config::load(path)?.config else {
        let path = path.display();
        eprintln!("tidegate: {path} has errors; see `tidegate check -c {path}`");
        return Ok(ExitCode::from(EX_CONFIG));
    };
    let since = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
    let now = Timestamp::from_unix_micros(i64::try_from(since.as_micros())?);
    let users: Vec<User<'_>> =
        config.principals.iter().map(|principal| User::new(principal, &config, now)).collect();
    if as_json {
        let users: Vec<Value> = users.iter().map(User::to_json).collect();
        println!("{}", json!({ "principals": users }));
    } else {
        if users.is_empty() {
            eprintln!("tidegate: there is no `[[principal]]`; `tidegate user add NAME` makes one");
        }
        for user in &users {
            user.print();
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn asks_for_certificates(config: &Config) -> bool {
    let (mqtt, http) = (config.mqtt.as_ref(), config.http.as_ref());
    let websocket = mqtt.and_then(|mqtt| mqtt.websocket.as_ref());
    let listeners = [
        mqtt.and_then(|mqtt| mqtt.tls.as_ref()),
        websocket.and_then(|websocket| websocket.tls.as_ref()),
        http.and_then(|http| http.tls.as_ref()),
    ];
    listeners.into_iter().flatten().any(|tls| !matches!(tls.setup.clients, Clients::Anyone))
}

/// A principal with what is to be said of it.
struct User<'a> {
    principal: &'a PrincipalConfig,
    tokens: Tokens,
    problems: Vec<String>,
}

/// The tokens of a principal at one time.
struct Tokens {
    good: usize,
    ended: usize,
    /// The end of the good one that ends first.
    next_end: Option<Timestamp>,
}

impl Tokens {
    fn new(principal: &PrincipalConfig, now: Timestamp) -> Self {
        let tokens = &principal.tokens;
        let ended =
            tokens.iter().filter(|token| token.expires().is_some_and(|end| end <= now)).count();
        let ends = tokens.iter().filter_map(|token| token.expires().filter(|end| *end > now));
        Self { good: tokens.len() - ended, ended, next_end: ends.min() }
    }
}

impl<'a> User<'a> {
    fn new(principal: &'a PrincipalConfig, config: &Config, now: Timestamp) -> Self {
        let tokens = Tokens::new(principal, now);
        let mut problems = Vec::new();
        let name = principal.name.as_str();
        if !config.access.iter().any(|entry| entry.principal.matches(name)) {
            problems.push("no `[[access]]` names it: it may do nothing".to_owned());
        }
        if principal.certificate.is_some() && !asks_for_certificates(config) {
            problems.push("no listener asks for certificates: see `client-ca`".to_owned());
        }
        if tokens.ended > 0 {
            let (count, are) = (tokens.ended, if tokens.ended == 1 { "has" } else { "have" });
            problems.push(format!("{count} of its tokens {are} ended"));
        }
        if let Some(end) = tokens.next_end
            && end.as_unix_micros() - now.as_unix_micros() < WARNED_DAYS * DAY_MICROS
        {
            problems.push(format!("a token ends at {end}"));
        }
        Self { principal, tokens, problems }
    }

    /// Returns where the secret of a key comes from.
    fn origin(&self, key: &str) -> Option<&str> {
        self.principal.origins.iter().find(|(of, _)| *of == key).map(|(_, origin)| origin.as_str())
    }

    fn print(&self) {
        println!("{}", self.principal.name);
        if let Some(origin) = self.origin("password") {
            println!("  password: {origin}");
        }
        if let (Some(origin), Some(verifier)) = (self.origin("scram"), &self.principal.scram) {
            println!("  scram: {origin}, {} rounds", verifier.iterations());
        }
        if let Some(certificate) = &self.principal.certificate {
            println!("  certificate: {certificate}");
        }
        if let Some(origin) = self.origin("tokens") {
            let Tokens { good, next_end, .. } = self.tokens;
            match next_end {
                Some(end) => println!("  tokens: {origin}, {good}, the next ends at {end}"),
                None => println!("  tokens: {origin}, {good}"),
            }
        }
        for problem in &self.problems {
            println!("  ! {problem}");
        }
    }

    fn to_json(&self) -> Value {
        let mut user = json!({ "name": self.principal.name.as_str(), "problems": self.problems });
        if let Some(origin) = self.origin("password") {
            user["password"] = json!({ "from": origin });
        }
        if let (Some(origin), Some(verifier)) = (self.origin("scram"), &self.principal.scram) {
            user["scram"] = json!({ "from": origin, "iterations": verifier.iterations() });
        }
        if let Some(certificate) = &self.principal.certificate {
            user["certificate"] = json!(certificate.as_str());
        }
        if let Some(origin) = self.origin("tokens") {
            let Tokens { good, ended, next_end } = self.tokens;
            let next_end = next_end.map(|end| end.to_string());
            user["tokens"] =
                json!({ "from": origin, "good": good, "ended": ended, "next-end": next_end });
        }
        user
    }
}
