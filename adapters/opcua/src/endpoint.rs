//! Choosing one of the endpoints a server offers (OPC 10000-4, section 5.5.4).

use opcua::{
    crypto::SecurityPolicy,
    types::{EndpointDescription, MessageSecurityMode, UserTokenType},
};

use crate::{error::LinkError, settings::Security};

/// What the gateway uses, best first; deprecated policies are never taken.
const POLICIES: [SecurityPolicy; 3] = [
    SecurityPolicy::Aes256Sha256RsaPss,
    SecurityPolicy::Aes128Sha256RsaOaep,
    SecurityPolicy::Basic256Sha256,
];

/// Most endpoints that are looked at.
const ENDPOINTS_MAX: usize = 256;

/// Returns the best endpoint that has exactly the configured security and accepts the kind of user.
///
/// Host and port are those the operator gave: servers often name an address that is not reachable.
pub(crate) fn choose(
    offered: Vec<EndpointDescription>,
    address: &str,
    security: Security,
    user: UserTokenType,
) -> Result<EndpointDescription, LinkError> {
    let mode = match security {
        Security::None => MessageSecurityMode::None,
        Security::Sign => MessageSecurityMode::Sign,
        Security::SignAndEncrypt => MessageSecurityMode::SignAndEncrypt,
    };
    let modes = list_modes(&offered);
    let best = offered
        .into_iter()
        .take(ENDPOINTS_MAX)
        .filter(|endpoint| endpoint.security_mode == mode)
        .filter_map(|endpoint| Some((rank(&endpoint, security)?, endpoint)))
        .min_by_key(|(rank, endpoint)| (!accepts(endpoint, user), *rank))
        .map(|(_, endpoint)| endpoint);
    let Some(mut endpoint) = best else {
        let reason = format!("it offers no endpoint with security `{security}`, only: {modes}");
        return Err(LinkError::Refused { reason });
    };
    if !accepts(&endpoint, user) {
        let reason = match user {
            UserTokenType::Anonymous => "it does not let anonymous users in; set user and password",
            _ => "it does not accept user names with this security",
        };
        return Err(LinkError::Refused { reason: reason.to_owned() });
    }
    endpoint.endpoint_url = address.into();
    Ok(endpoint)
}

fn rank(endpoint: &EndpointDescription, security: Security) -> Option<usize> {
    let policy = SecurityPolicy::from_uri(endpoint.security_policy_uri.as_ref());
    match security {
        Security::None => (policy == SecurityPolicy::None).then_some(0),
        Security::Sign | Security::SignAndEncrypt => {
            POLICIES.iter().position(|known| *known == policy)
        }
    }
}

fn accepts(endpoint: &EndpointDescription, user: UserTokenType) -> bool {
    match &endpoint.user_identity_tokens {
        Some(tokens) => tokens.iter().any(|token| token.token_type == user),
        None => user == UserTokenType::Anonymous,
    }
}

fn list_modes(offered: &[EndpointDescription]) -> String {
    let mut words: Vec<String> = offered
        .iter()
        .take(ENDPOINTS_MAX)
        .map(|endpoint| {
            let policy = SecurityPolicy::from_uri(endpoint.security_policy_uri.as_ref());
            format!("{:?} with {policy:?}", endpoint.security_mode)
        })
        .collect();
    words.sort();
    words.dedup();
    if words.is_empty() { "nothing".to_owned() } else { words.join(", ") }
}

#[cfg(test)]
mod tests {
    use opcua::types::UserTokenPolicy;

    use super::*;

    const ADDRESS: &str = "opc.tcp://10.0.0.7:4840/plc";

    fn offer(
        mode: MessageSecurityMode,
        policy: SecurityPolicy,
        users: &[UserTokenType],
    ) -> EndpointDescription {
        EndpointDescription {
            endpoint_url: "opc.tcp://internal-name:4840/plc".into(),
            security_mode: mode,
            security_policy_uri: policy.to_uri().into(),
            user_identity_tokens: Some(
                users
                    .iter()
                    .map(|user| UserTokenPolicy {
                        token_type: *user,
                        ..UserTokenPolicy::anonymous()
                    })
                    .collect(),
            ),
            ..Default::default()
        }
    }

    fn press() -> Vec<EndpointDescription> {
        use MessageSecurityMode as Mode;
        use SecurityPolicy as Policy;
        let both = &[UserTokenType::Anonymous, UserTokenType::UserName];
        vec![
            offer(Mode::None, Policy::None, &[UserTokenType::Anonymous]),
            offer(Mode::Sign, Policy::Basic256Sha256, both),
            offer(Mode::SignAndEncrypt, Policy::Basic128Rsa15, both),
            offer(Mode::SignAndEncrypt, Policy::Basic256Sha256, both),
            offer(Mode::SignAndEncrypt, Policy::Aes256Sha256RsaPss, &[UserTokenType::UserName]),
        ]
    }

    #[test]
    fn the_best_policy_that_takes_the_user_wins() {
        use SecurityPolicy as Policy;
        #[rustfmt::skip]
        let cases = [
            (Security::None,            UserTokenType::Anonymous,   Policy::None),
            (Security::Sign,            UserTokenType::Anonymous,   Policy::Basic256Sha256),
            (Security::SignAndEncrypt,  UserTokenType::Anonymous,   Policy::Basic256Sha256),
            (Security::SignAndEncrypt,  UserTokenType::UserName,    Policy::Aes256Sha256RsaPss),
        ];
        for (security, user, policy) in cases {
            let chosen = choose(press(), ADDRESS, security, user).unwrap();
            assert_eq!(
                chosen.security_policy_uri.as_ref(),
                policy.to_uri(),
                "{security} as {user:?}"
            );
            assert_eq!(chosen.endpoint_url.as_ref(), ADDRESS);
        }
    }

    #[test]
    fn fault_o07_a_weaker_mode_is_never_taken() {
        let mut weak = press();
        weak.truncate(3);
        let error =
            choose(weak, ADDRESS, Security::SignAndEncrypt, UserTokenType::Anonymous).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("sign-and-encrypt") && text.contains("Basic128Rsa15"), "{text}");
        let error =
            choose(Vec::new(), ADDRESS, Security::None, UserTokenType::Anonymous).unwrap_err();
        assert!(error.to_string().ends_with("only: nothing"));
    }

    #[test]
    fn a_user_the_server_does_not_take_is_told_so() {
        let error = choose(press(), ADDRESS, Security::None, UserTokenType::UserName).unwrap_err();
        assert!(error.to_string().contains("user names"));
    }
}
