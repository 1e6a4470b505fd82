//! `[mqtt.tls]`, `[mqtt.websocket.tls]` and `[http.tls]`: what an encrypted listener shows and asks for.

use std::{
    net::SocketAddr,
    time::{SystemTime, UNIX_EPOCH},
};

use tidegate_model::Timestamp;
use tidegate_settings::{Issue, Issues, Node, Span, TableReader, read};
use tidegate_tls::{Clients, Identity, OddList, ServerSetup, ServerTls, TlsError, Trust};

use super::{
    context::Context,
    files,
    listener::{Addresses, listen_address},
    secret,
};
use crate::expiry::WARNED_DAYS;

/// An encrypted listener.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// Its addresses; at least one.
    pub listen: Vec<SocketAddr>,
    /// What it shows and asks for; without application protocols.
    pub setup: ServerSetup,
}

const REQUIRE_DEFAULT: bool = false;

impl TlsConfig {
    pub(super) fn read(
        mut table: TableReader<'_>,
        example: &str,
        context: &Context<'_>,
        taken: &mut Addresses,
        issues: &mut Issues,
    ) -> Option<Self> {
        let located =
            |node: &Node, issues: &mut Issues| Some((listen_address(node, issues)?, node.span));
        let listen = table.required_list("listen", example, located, issues);
        for (address, at) in &listen {
            taken.check(*address, *at, issues);
        }
        let identity = read_identity(&mut table, context, issues);
        let other = |mut table: TableReader<'_>, issues: &mut Issues| {
            let identity = read_identity(&mut table, context, issues);
            let at = table.span();
            table.finish(issues);
            let identity = identity?;
            if !identity.names().iter().any(|name| name.as_str().starts_with("DNS:")) {
                let message = "no client can ask for this certificate: no host name stands in it";
                issues.error(at, message, "a certificate with `DNS:…` among its alternative names");
                return None;
            }
            Some(identity)
        };
        let others = table.tables("certificate", other, issues);
        let clients = read_clients(&mut table, context, issues);
        let at = table.span();
        table.finish(issues);
        let setup =
            ServerSetup { identity: identity?, others, clients: clients?, protocols: Vec::new() };
        if let Err(error) = ServerTls::new(setup.clone()) {
            issues.error(at, error.to_string(), "see `client-ca` and `crl`");
            return None;
        }
        Some(Self { listen: listen.into_iter().map(|(address, _)| address).collect(), setup })
    }
}

/// Reads `cert` and `key`, both of which must be there.
fn read_identity(
    table: &mut TableReader<'_>,
    context: &Context<'_>,
    issues: &mut Issues,
) -> Option<Identity> {
    let cert = |node: &Node, issues: &mut Issues| read_pem(node, context, issues);
    let key = |node: &Node, issues: &mut Issues| secret::read(node, context, issues);
    let cert_at = table.value_span("cert");
    let key_at = table.value_span("key");
    let cert = table.required_like("cert", "cert = \"server.pem\"", cert, issues);
    let key = table.required_like("key", "key = { file = \"server.key\" }", key, issues);
    identity(&cert?, cert_at, key?.expose(), key_at, issues)
}

/// Makes an identity of a certificate with its chain and a key, both in PEM.
pub(super) fn identity(
    cert: &str,
    cert_at: Span,
    key: &str,
    key_at: Span,
    issues: &mut Issues,
) -> Option<Identity> {
    match Identity::from_pem(cert.as_bytes(), key.as_bytes()) {
        Ok(identity) => {
            hint_at_end(&identity, cert_at, issues);
            Some(identity)
        }
        Err(error) => {
            let issue = match error {
                TlsError::NoKey | TlsError::Key(_) => Issue::error(key_at, error.to_string())
                    .with_hint("an unencrypted key in PEM: PKCS #8, PKCS #1 or SEC 1"),
                TlsError::Mismatch => Issue::error(key_at, error.to_string())
                    .with_hint("the key is the one that the certificate was requested with")
                    .with_related(cert_at, "this certificate"),
                _ => Issue::error(cert_at, error.to_string()).with_hint(
                    "the server's certificate in PEM, followed by those of its authorities",
                ),
            };
            issues.push(issue);
            None
        }
    }
}

/// Hints at a certificate that ends soon or has ended.
fn hint_at_end(identity: &Identity, at: Span, issues: &mut Issues) {
    let now = now();
    let soon = now + WARNED_DAYS.unsigned_abs() * 86_400;
    let message = match identity.not_after() {
        end if end <= now => "the certificate has ended: nobody believes it any more".to_owned(),
        end if end <= soon => format!("the certificate ends in {} days", (end - now) / 86_400),
        _ => return,
    };
    issues
        .push(Issue::hint(at, message).with_hint("`tidegate cert renew`, or ask who gave it out"));
}

/// Reads `client-ca`, `require-client-cert` and `crl`.
fn read_clients(
    table: &mut TableReader<'_>,
    context: &Context<'_>,
    issues: &mut Issues,
) -> Option<Clients> {
    let authorities = table.has("client-ca");
    let trust = read_trust(table, "client-ca", context, issues);
    let required_at = table.key_span("require-client-cert");
    let is_required =
        table.optional_or("require-client-cert", REQUIRE_DEFAULT, read::boolean, issues);
    if let (Some(at), false) = (required_at, authorities) {
        issues.error(
            at,
            "there is no authority that client certificates could come from",
            "add `client-ca = \"plant-ca.pem\"`",
        );
    }
    match (trust?, is_required) {
        (None, _) => Some(Clients::Anyone),
        (Some(trust), false) => Some(Clients::Asked(trust)),
        (Some(trust), true) => Some(Clients::Certified(trust)),
    }
}

/// Reads the authorities that stand in the file of `key` and what `crl` says is revoked; `Some(None)` without both.
pub(super) fn read_trust(
    table: &mut TableReader<'_>,
    key: &'static str,
    context: &Context<'_>,
    issues: &mut Issues,
) -> Option<Option<Trust>> {
    let given = table.has(key);
    let (at, crl_at) = (table.value_span(key), table.value_span("crl"));
    let pem = |node: &Node, issues: &mut Issues| read_pem(node, context, issues);
    let authorities = table.optional(key, pem, issues);
    let crl_given = table.has("crl");
    let crl = table.optional("crl", pem, issues);
    if !given {
        if crl_given {
            let message =
                format!("`crl` says what an authority has revoked, and `{key}` names none");
            issues.error(crl_at, message, format!("add `{key}`, or remove `crl`"));
            return None;
        }
        return Some(None);
    }
    let trust = match Trust::from_pem(authorities?.as_bytes()) {
        Ok(trust) => trust,
        Err(error) => {
            issues.error(at, error.to_string(), "certificates of authorities in PEM");
            return None;
        }
    };
    if !crl_given {
        return Some(Some(trust));
    }
    match trust.with_revoked(crl?.as_bytes()) {
        Ok(trust) => {
            hint_at_odd_lists(&trust, key, crl_at, issues);
            Some(Some(trust))
        }
        Err(error) => {
            issues.error(crl_at, error.to_string(), "a list in PEM: `-----BEGIN X509 CRL-----`");
            None
        }
    }
}

fn hint_at_odd_lists(trust: &Trust, key: &str, at: Span, issues: &mut Issues) {
    for odd in trust.odd_lists(now()) {
        let (message, hint) = match odd {
            OddList::Late { since } => {
                let since = i64::try_from(since).unwrap_or(i64::MAX).saturating_mul(1_000_000);
                let since = Timestamp::from_unix_micros(since);
                (
                    format!("a newer revocation list should have come by {since}"),
                    "what it revokes stays revoked; ask the authority for its new list".to_owned(),
                )
            }
            OddList::Foreign { issuer } => (
                format!("`{issuer}`, which issued the list, is none of the authorities"),
                format!("a list counts for certificates of its issuer only; is it for `{key}`?"),
            ),
        };
        issues.push(Issue::hint(at, message).with_hint(hint));
    }
}

/// Returns the seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Reads the text of the file that a value names.
pub(super) fn read_pem(node: &Node, context: &Context<'_>, issues: &mut Issues) -> Option<String> {
    let written = read::text(node, issues)?;
    let path = context.path(&written);
    match files::read_text(&path) {
        Ok(text) => Some(text),
        Err(error) => {
            let message = format!("`{}` {error}", path.display());
            issues.error(node.span, message, "name a PEM file that the gateway may read");
            None
        }
    }
}
