//! `[[principal]]`: who may log in.

use tidegate_model::{PeerName, Principal};
use tidegate_scram::{InvalidVerifier, Verifier};
use tidegate_settings::{Issues, Node, TableReader, read};

use super::context::Context;
use super::secret::{self, Secret};
use super::unique::Unique;
use crate::broker::{Token, is_password_hash, parse_tokens};

/// Somebody who may log in, by password (told or proven), certificate or token.
#[derive(Clone, Debug)]
pub struct PrincipalConfig {
    /// The name, also the user name.
    pub name: Principal,
    /// The hash of the password: argon2id, in the form `$argon2id$v=19$…`.
    pub password_hash: Option<Secret>,
    /// What is kept of the password for SCRAM-SHA-256.
    pub scram: Option<Verifier>,
    /// A name in the client certificate, such as `CN=press-7` or `DNS:press-7.plant.example`.
    pub certificate: Option<PeerName>,
    /// What is kept of its API tokens.
    pub tokens: Vec<Token>,
    /// The keys of its secrets, and where each comes from: a file, a credential, a variable.
    pub origins: Vec<(&'static str, String)>,
}

const NAME_HINT: &str = "use 1 to 256 bytes without `/`, `+`, `#`, `*` and control characters: names stand in \
                         topic filters and globs";

impl PrincipalConfig {
    pub(super) fn read(
        mut table: TableReader<'_>,
        context: &Context<'_>,
        names: &mut Unique,
        certificates: &mut Unique,
        issues: &mut Issues,
    ) -> Option<Self> {
        let name = table.required_like("name", "name = \"press-7\"", read_name, issues);
        if let Some(name) = &name {
            names.note(name.as_str(), table.value_span("name"), issues);
        }
        let origin = |node: &Node| secret::origin(node, context);
        let read = |node: &Node, issues: &mut Issues| {
            Some((read_hash(node, context, issues)?, origin(node)))
        };
        let password_given = table.has("password");
        let (password_hash, of_password) = table.optional("password", read, issues).unzip();
        let scram_given = table.has("scram");
        let read = |node: &Node, issues: &mut Issues| {
            Some((read_verifier(node, context, issues)?, origin(node)))
        };
        let (scram, of_scram) = table.optional("scram", read, issues).unzip();
        let certificate = table.optional("certificate", read_peer_name, issues);
        if let Some(certificate) = &certificate {
            certificates.note(certificate.as_str(), table.value_span("certificate"), issues);
        }
        let tokens_given = table.has("tokens");
        let read = |node: &Node, issues: &mut Issues| {
            Some((read_tokens(node, context, issues)?, origin(node)))
        };
        let (tokens, of_tokens) = table.optional("tokens", read, issues).unzip();
        if !password_given && !scram_given && !tokens_given && !table.has("certificate") {
            issues.error(
                table.span(),
                "nobody can log in as this principal",
                "add `password = { file = \"…\" }` with an argon2id hash, `scram`, `certificate`, or `tokens`",
            );
        }
        table.finish(issues);
        let tokens = tokens.unwrap_or_default();
        let origins = [("password", of_password), ("scram", of_scram), ("tokens", of_tokens)];
        let origins = origins
            .into_iter()
            .filter_map(|(key, origin)| Some((key, origin.flatten()?)))
            .collect();
        Some(Self { name: name?, password_hash, scram, certificate, tokens, origins })
    }
}

fn read_name(node: &Node, issues: &mut Issues) -> Option<Principal> {
    let text = read::string(node, issues)?;
    if Principal::is_own_name(text) {
        let hint = "choose another name; the gateway gives this one itself";
        issues.error(node.span, format!("the name `{text}` is taken"), hint);
        return None;
    }
    let name = Principal::of_account(text);
    if name.is_none() {
        issues.error(node.span, format!("`{text}` cannot be the name of a principal"), NAME_HINT);
    }
    name
}

fn read_hash(node: &Node, context: &Context<'_>, issues: &mut Issues) -> Option<Secret> {
    let secret = secret::read(node, context, issues)?;
    if !is_password_hash(secret.expose()) {
        issues.error(
            node.span,
            "the password is not an argon2id hash",
            "`tidegate user add` makes one: it begins with `$argon2id$`",
        );
        return None;
    }
    Some(secret)
}

fn read_verifier(node: &Node, context: &Context<'_>, issues: &mut Issues) -> Option<Verifier> {
    let secret = secret::read(node, context, issues)?;
    match secret.expose().trim().parse() {
        Ok(verifier) => Some(verifier),
        Err(InvalidVerifier) => {
            issues.error(
                node.span,
                "this is not what is kept of a password for SCRAM-SHA-256",
                "`tidegate user add --scram` makes it: it begins with `SCRAM-SHA-256$`",
            );
            None
        }
    }
}

fn read_tokens(node: &Node, context: &Context<'_>, issues: &mut Issues) -> Option<Vec<Token>> {
    let secret = secret::read(node, context, issues)?;
    match parse_tokens(secret.expose()) {
        Ok(tokens) => Some(tokens),
        Err((line, error)) => {
            let message = format!("line {line} of the tokens is wrong");
            issues.error(node.span, message, error.to_string());
            None
        }
    }
}

fn read_peer_name(node: &Node, issues: &mut Issues) -> Option<PeerName> {
    let text = read::text(node, issues)?;
    let name = PeerName::new(&text).ok().filter(|_| !has_several_attributes(&text));
    if name.is_none() {
        let hint = format!(
            "write one name of the certificate: \"CN={}\", \"DNS:…\", \"URI:…\", \"EMAIL:…\" or \"IP:…\"",
            text.split([',', '=']).find(|part| part.trim() != "CN").unwrap_or("press-7").trim()
        );
        issues.error(node.span, format!("`{text}` is not a name in a certificate"), hint);
    }
    name
}

/// Returns whether a text looks like a whole subject (`CN=press-7, O=Plant`), which no single name is.
fn has_several_attributes(text: &str) -> bool {
    text.split(',').skip(1).any(|part| {
        let kind = part.split_once('=').map(|(kind, _)| kind.trim());
        kind.is_some_and(|kind| {
            !kind.is_empty() && kind.bytes().all(|byte| byte.is_ascii_alphabetic())
        })
    })
}
