//! `[uplink.aws-iot-core]`: what AWS IoT Core has beside a certificate.

use std::sync::Arc;

use tidegate_settings::{Issue, Issues, Node, Span, TableReader, read};
use tidegate_uplink::{
    AuthorizerError, AuthorizerToken, CustomAuthorizer, FleetTemplate, FleetTemplateError, Profile,
    SigV4, SigV4Error,
};

use super::aws_shadow::{ShadowConfig, read_shadow};
use crate::config::context::Context;
use crate::config::secret;

/// The key of the table.
const KEY: &str = "aws-iot-core";
const TOKEN_EXAMPLE: &str = "token = { credential = \"authorizer-token\" }";

/// What an uplink to AWS IoT Core has beside a certificate.
#[derive(Clone, Debug, Default)]
pub struct AwsConfig {
    /// Who decides whether it is let in, in place of the service.
    pub authorizer: Option<Arc<CustomAuthorizer>>,
    /// What requests for WebSocket frames are signed with.
    pub signer: Option<SigV4>,
    /// By which template it is given a certificate; the uplink's own is the claim then.
    pub provisioning: Option<FleetTemplate>,
    /// Which of its shadows it keeps in step.
    pub shadow: Option<ShadowConfig>,
}

/// How the service lets somebody in. Complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AwsEntry {
    /// By certificate, or by what the user name says.
    Certificate,
    /// By a custom authorizer.
    Authorizer,
    /// By a signed request.
    Signature,
}

impl AwsEntry {
    /// Returns what is asked for, whether or not it can be.
    pub(super) fn of(table: &TableReader<'_>) -> Self {
        let own = table.node(KEY).and_then(Node::as_table);
        let has = |key: &str| own.is_some_and(|own| own.value(key).is_some());
        match (has("authorizer"), has("sigv4")) {
            (true, _) => Self::Authorizer,
            (false, true) => Self::Signature,
            (false, false) => Self::Certificate,
        }
    }
}

/// Reads the table of an uplink with this profile; notes it in one with another.
pub(super) fn read_aws(
    table: &mut TableReader<'_>,
    profile: Profile,
    context: &Context<'_>,
    issues: &mut Issues,
) -> AwsConfig {
    if profile != Profile::AwsIotCore {
        let hint = "add `profile = \"aws-iot-core\"`, or remove the table";
        table.refuse(KEY, "`aws-iot-core` is for uplinks with that profile", hint, issues);
        return AwsConfig::default();
    }
    let has_certificate = table.has("cert");
    let username = table.node("username");
    let has_login = username.is_some();
    let read = |mut own: TableReader<'_>, issues: &mut Issues| {
        let at = own.key_span("authorizer");
        let read =
            |table: TableReader<'_>, issues: &mut Issues| read_authorizer(table, context, issues);
        let authorizer = own.table("authorizer", read, issues);
        if let Some(at) = at {
            suit_authorizer(at, has_certificate, username, issues);
        }
        let at = own.key_span("sigv4");
        let both = at.filter(|_| own.has("authorizer"));
        let read =
            |table: TableReader<'_>, issues: &mut Issues| read_signer(table, context, issues);
        let signer = own.table("sigv4", read, issues);
        if let Some(at) = at {
            suit_signer(at, has_certificate || has_login, issues);
        }
        if let Some(at) = both {
            let message = "a request is signed or goes to a custom authorizer, not both";
            issues.error(at, message, "remove it, or `authorizer`");
        }
        let at = own.key_span("provisioning");
        let provisioning = own.table("provisioning", read_provisioning, issues);
        if let Some(at) = at {
            suit_provisioning(at, has_certificate, issues);
        }
        let shadow = own.table("shadow", read_shadow, issues);
        own.finish(issues);
        Some(AwsConfig { authorizer: authorizer.map(Arc::new), signer, provisioning, shadow })
    };
    table.table(KEY, read, issues).unwrap_or_default()
}

/// Notes what does not go together with a custom authorizer.
fn suit_authorizer(at: Span, has_certificate: bool, username: Option<&Node>, issues: &mut Issues) {
    if has_certificate {
        let message = "AWS IoT Core asks a custom authorizer or wants a certificate, not both";
        issues.error(at, message, "remove it, or `cert` and `key`");
    }
    if let Some(node) = username.filter(|node| node.as_str().is_some_and(|it| it.contains('?'))) {
        let message = "what stands behind `?` in a user name is for the authorizer";
        issues.error(node.span, message, "write it in `[uplink.aws-iot-core.authorizer]`");
    }
}

/// Notes what does not go together with provisioning.
fn suit_provisioning(at: Span, has_certificate: bool, issues: &mut Issues) {
    if !has_certificate {
        let issue = Issue::error(at, "nothing is claimed: provisioning begins with a certificate");
        issues.push(issue.with_hint("add `cert` and `key` of the claim to the uplink"));
    }
}

/// Notes what does not go together with signed requests.
fn suit_signer(at: Span, has_other: bool, issues: &mut Issues) {
    if has_other {
        let message =
            "a signed request says who asks: certificate and user name say nothing beside it";
        issues.error(at, message, "remove it, or `cert`, `key`, `username` and `password`");
    }
}

fn read_signer(
    mut table: TableReader<'_>,
    context: &Context<'_>,
    issues: &mut Issues,
) -> Option<SigV4> {
    let secret = |node: &Node, issues: &mut Issues| secret::read(node, context, issues);
    let example = "access-key-id = \"AKIDEXAMPLE\"";
    let access_key = table.required_like("access-key-id", example, read::text, issues);
    let example = "secret-access-key = { credential = \"aws-secret\" }";
    let secret_key = table.required_like("secret-access-key", example, secret, issues);
    let has_token = table.has("session-token");
    let token = table.optional("session-token", secret, issues);
    let region = table.required_like("region", "region = \"eu-central-1\"", read::text, issues);
    let [access_at, secret_at, token_at, region_at] =
        ["access-key-id", "secret-access-key", "session-token", "region"]
            .map(|key| table.value_span(key));
    table.finish(issues);
    if has_token && token.is_none() {
        return None;
    }
    let token = token.as_ref().map(secret::Secret::expose);
    let signer = SigV4::new(&access_key?, secret_key?.expose(), token, &region?);
    if let Err(error) = &signer {
        let at = match error {
            SigV4Error::AccessKey => access_at,
            SigV4Error::SecretKey => secret_at,
            SigV4Error::SessionToken => token_at,
            SigV4Error::Region => region_at,
        };
        issues.error(at, error.to_string(), "see `aws configure list`");
    }
    signer.ok()
}

fn read_provisioning(mut table: TableReader<'_>, issues: &mut Issues) -> Option<FleetTemplate> {
    let (name_at, parameters_at) = (table.value_span("template"), table.value_span("parameters"));
    let example = "template = \"gateways\"";
    let name = table.required_like("template", example, read::text, issues);
    let parameters = table.table("parameters", read_parameters, issues).unwrap_or_default();
    table.finish(issues);
    let template = FleetTemplate::new(&name?, parameters);
    if let Err(error) = &template {
        let at = match error {
            FleetTemplateError::Name => name_at,
            FleetTemplateError::Parameters => parameters_at,
        };
        issues.error(at, error.to_string(), "see `aws iot describe-provisioning-template`");
    }
    template.ok()
}

/// Reads texts under free keys.
fn read_parameters(
    mut table: TableReader<'_>,
    issues: &mut Issues,
) -> Option<Vec<(Arc<str>, Arc<str>)>> {
    let rest = table.take_rest();
    table.finish(issues);
    let read = rest.into_iter().map(|entry| {
        let value = read::string(&entry.value, issues)?;
        Some((entry.key.name.as_str().into(), value.into()))
    });
    read.collect()
}

fn read_authorizer(
    mut table: TableReader<'_>,
    context: &Context<'_>,
    issues: &mut Issues,
) -> Option<CustomAuthorizer> {
    let name_at = table.value_span("name");
    let name = table.optional("name", read::text, issues);
    let places = ["token-key", "token", "signature"].map(|key| table.value_span(key));
    let given = ["token-key", "token", "signature"].map(|key| table.key_span(key));
    let key = table.optional("token-key", read::text, issues);
    let secret = |node: &Node, issues: &mut Issues| secret::read(node, context, issues);
    let value = table.optional("token", secret, issues);
    let signature = table.optional("signature", secret, issues);
    table.finish(issues);
    let [key_at, value_at, signature_at] = given;
    let needs = |at: Span, what: &str, needed: &str, hint: &str, issues: &mut Issues| {
        issues.error(at, format!("`{what}` needs a `{needed}`"), hint);
    };
    match (key_at, value_at) {
        (Some(at), None) => {
            needs(at, "token-key", "token", &format!("add `{TOKEN_EXAMPLE}`"), issues);
        }
        (None, Some(at)) => {
            needs(at, "token", "token-key", "add `token-key`, as the authorizer has it", issues)
        }
        (None, None) => {
            if let Some(at) = signature_at {
                needs(at, "signature", "token", &format!("add `{TOKEN_EXAMPLE}`"), issues);
            }
        }
        (Some(_), Some(_)) => {}
    }
    let token = match (&key, &value) {
        (Some(key), Some(value)) => {
            let signature = signature.as_ref().map(secret::Secret::expose);
            let token = AuthorizerToken::new(key, value.expose(), signature);
            note(
                token,
                |error| match error {
                    AuthorizerError::Key => places[0],
                    AuthorizerError::Signature => places[2],
                    _ => places[1],
                },
                issues,
            )
        }
        _ => None,
    };
    let is_whole = given.iter().any(Option::is_some) == token.is_some();
    let authorizer = CustomAuthorizer::new(name.as_deref(), token);
    note(authorizer, |_| name_at, issues).filter(|_| is_whole)
}

/// Notes what an authorizer would not take.
fn note<T>(
    made: Result<T, AuthorizerError>,
    at: impl Fn(AuthorizerError) -> Span,
    issues: &mut Issues,
) -> Option<T> {
    if let Err(error) = &made {
        let hint = "see `aws iot describe-authorizer`";
        issues.error(at(*error), error.to_string(), hint);
    }
    made.ok()
}
