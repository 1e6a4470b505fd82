//! `[[jwt]]`: foreign issuers whose tokens are logins.

use std::{
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use tidegate_model::Glob;
use tidegate_settings::{Issues, Node, TableReader, read};
use tidegate_tls::Trust;

use super::{context::Context, files, tls, unique::Unique};
use crate::jwt::{KeyAddress, KeySet};

/// Somebody whose tokens are believed.
#[derive(Clone, Debug)]
pub struct JwtConfig {
    /// Who it is: `iss` of its tokens.
    pub issuer: String,
    /// For whom its tokens must be: in `aud`.
    pub audience: String,
    /// The keys that it signs with.
    pub keys: JwtKeys,
    /// The claim that names the principal.
    pub claim: String,
    /// Which names it may give; at least one.
    pub principals: Vec<Glob>,
}

/// Where the keys of an issuer are. Complete.
#[derive(Clone, Debug)]
pub enum JwtKeys {
    /// In a file, which was read.
    Given(KeySet),
    /// At an address.
    At(KeyAddress),
}

const CLAIM_DEFAULT: &str = "sub";
const REFRESH_DEFAULT: Duration = Duration::from_secs(600);
const REFRESH_MIN: Duration = Duration::from_secs(1);
const REFRESH_MAX: Duration = Duration::from_secs(86_400);
const URL_HINT: &str = "write it like \"https://idp.example/keys.json\"";
const KEYS_HINT: &str =
    "a JSON Web Key Set, or public keys in PEM, for RS256, PS256, ES256 or EdDSA";

impl JwtConfig {
    pub(super) fn read(
        mut table: TableReader<'_>,
        context: &Context<'_>,
        issuers: &mut Unique,
        issues: &mut Issues,
    ) -> Option<Self> {
        let issuer = "issuer = \"https://idp.example\"";
        let issuer = table.required_like("issuer", issuer, read::text, issues);
        if let Some(issuer) = &issuer {
            issuers.note(issuer, table.value_span("issuer"), issues);
        }
        let audience =
            table.required_like("audience", "audience = \"tidegate\"", read::text, issues);
        let claim = table.optional("principal", read::text, issues);
        let glob = |node: &Node, issues: &mut Issues| Some(Glob::new(&read::text(node, issues)?));
        let principals =
            table.required_list("principals", "principals = [\"press-*\"]", glob, issues);
        let keys = read_keys(&mut table, context, issues);
        table.finish(issues);
        Some(Self {
            issuer: issuer?,
            audience: audience?,
            keys: keys?,
            claim: claim.unwrap_or_else(|| CLAIM_DEFAULT.to_owned()),
            principals,
        })
    }
}

/// Reads `keys`, or `url` with `refresh` and `ca`.
fn read_keys(
    table: &mut TableReader<'_>,
    context: &Context<'_>,
    issues: &mut Issues,
) -> Option<JwtKeys> {
    let given = [table.has("keys"), table.has("url")];
    let keys = |node: &Node, issues: &mut Issues| read_key_file(node, context, issues);
    let keys = table.optional("keys", keys, issues);
    let url = table.optional("url", read_url, issues);
    for key in ["refresh", "ca"] {
        if let (Some(at), false) = (table.key_span(key), given[1]) {
            issues.error(at, format!("`{key}` is about fetched keys"), "remove it, or add `url`");
        }
    }
    let refresh = read::duration_within(REFRESH_MIN..=REFRESH_MAX);
    let refresh = table.optional_or("refresh", REFRESH_DEFAULT, refresh, issues);
    let ca_given = table.has("ca");
    let ca = |node: &Node, issues: &mut Issues| read_ca(node, context, issues);
    let ca = table.optional("ca", ca, issues);
    match given {
        [true, false] => keys.map(JwtKeys::Given),
        [false, true] if ca.is_some() || !ca_given => {
            Some(JwtKeys::At(KeyAddress { refresh, ca, ..url? }))
        }
        [false, true] => None,
        _ => {
            let message = "the keys come from one place";
            issues.error(table.span(), message, "add `keys = \"idp.jwks.json\"`, or `url`");
            None
        }
    }
}

fn read_key_file(node: &Node, context: &Context<'_>, issues: &mut Issues) -> Option<KeySet> {
    let path = context.path(&read::text(node, issues)?);
    let text = match files::read_text(&path) {
        Ok(text) => text,
        Err(error) => {
            issues.error(node.span, format!("`{}` {error}", path.display()), KEYS_HINT);
            return None;
        }
    };
    match KeySet::parse(&text) {
        Ok(keys) => Some(keys),
        Err(error) => {
            let message = format!("`{}` cannot be used: {error}", path.display());
            issues.error(node.span, message, KEYS_HINT);
            None
        }
    }
}

fn read_ca(node: &Node, context: &Context<'_>, issues: &mut Issues) -> Option<String> {
    let pem = tls::read_pem(node, context, issues)?;
    if let Err(error) = Trust::from_pem(pem.as_bytes()) {
        issues.error(node.span, error.to_string(), "certificates of authorities in PEM");
        return None;
    }
    Some(pem)
}

/// Reads an address; who could change keys on their way could let in anybody.
fn read_url(node: &Node, issues: &mut Issues) -> Option<KeyAddress> {
    let text = read::string(node, issues)?;
    let address = match parse_url(text) {
        Ok(address) => address,
        Err(message) => {
            issues.error(node.span, format!("`{text}` {message}"), URL_HINT);
            return None;
        }
    };
    let is_loopback = match address.host.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => address.host == "localhost",
    };
    if !address.is_encrypted && !is_loopback {
        issues.error(
            node.span,
            "keys are fetched without encryption on loopback only",
            "write `https://`; `ca` names a private authority",
        );
        return None;
    }
    Some(address)
}

fn parse_url(text: &str) -> Result<KeyAddress, &'static str> {
    let (scheme, rest) = text.split_once("://").ok_or("is not a URL")?;
    let is_encrypted = match scheme {
        "https" => true,
        "http" => false,
        _ => return Err("is neither `https://` nor `http://`"),
    };
    let path_at = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(path_at);
    if authority.contains('@') {
        return Err("has credentials in it");
    }
    let is_sound = |byte: u8| byte.is_ascii_graphic() && !b"#\"<>\\^`{|}".contains(&byte);
    if !path.bytes().all(is_sound) || path.starts_with('?') {
        return Err("has a path that cannot be asked for");
    }
    let is_port = |port: &str| !port.ends_with(']');
    let (host, port) = match authority.rsplit_once(':').filter(|(_, port)| is_port(port)) {
        Some((host, port)) => {
            let port = port.parse().ok().filter(|port| *port > 0);
            (host, port.ok_or("has a port that is no number from 1 to 65535")?)
        }
        None => (authority, if is_encrypted { 443 } else { 80 }),
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(inner) => {
            inner.parse::<Ipv6Addr>().map_err(|_| "has no IPv6 address in its brackets")?;
            inner
        }
        None if host.is_empty() || host.len() > 253 || !host.bytes().all(is_name) => {
            return Err("has no host");
        }
        None => host,
    };
    Ok(KeyAddress {
        is_encrypted,
        host: host.to_ascii_lowercase(),
        port,
        path: if path.is_empty() { "/".to_owned() } else { path.to_owned() },
        refresh: REFRESH_DEFAULT,
        ca: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        #[rustfmt::skip]
        let cases = [
            ("https://idp.example/keys.json",    Ok(("idp.example", 443, "/keys.json"))),
            ("https://IDP.example",              Ok(("idp.example", 443, "/"))),
            ("https://idp.example:8443/a?b=c",   Ok(("idp.example", 8_443, "/a?b=c"))),
            ("http://127.0.0.1:81/a",            Ok(("127.0.0.1", 81, "/a"))),
            ("http://[::1]/a",                   Ok(("::1", 80, "/a"))),
            ("https://[2001:db8::1]:444/a",      Ok(("2001:db8::1", 444, "/a"))),
            ("ftp://idp.example/",               Err(())),
            ("idp.example/keys",                 Err(())),
            ("https://",                         Err(())),
            ("https:///keys",                    Err(())),
            ("https://me:pass@idp.example/",     Err(())),
            ("https://idp.example:0/",           Err(())),
            ("https://idp.example:x/",           Err(())),
            ("https://[idp]/",                   Err(())),
            ("https://2001:db8::1/",             Err(())),
            ("https://idp.example/a b",          Err(())),
            ("https://idp.example/a#b",          Err(())),
            ("https://idp.example/\r\nHost: x",  Err(())),
            ("https://idp example/",             Err(())),
        ];
        for (text, expected) in cases {
            let found = parse_url(text);
            let found = found
                .as_ref()
                .map(|address| (address.host.as_str(), address.port, address.path.as_str()));
            assert_eq!(found.map_err(|_| ()), expected, "{text:?}");
        }
        let address = parse_url("https://[2001:db8::1]:444/a").unwrap();
        assert_eq!(address.to_string(), "https://[2001:db8::1]:444/a");
        assert_eq!(parse_url("https://idp.example/a").unwrap().authority(), "idp.example");
    }
}
