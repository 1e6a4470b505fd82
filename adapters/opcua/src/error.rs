//! Why a run ends, and whether trying again helps.

use std::time::Duration;

use opcua::types::StatusCode;
use thiserror::Error;
use tidegate_adapter_api::AdapterError;

/// Why a connection could not be made or ended.
#[derive(Debug, Error)]
pub(crate) enum LinkError {
    /// The server cannot be reached, or the connection broke.
    #[error("{status}")]
    Lost { status: StatusCode },
    /// The server did not answer.
    #[error("no answer within {} s", .timeout.as_secs())]
    TimedOut { timeout: Duration },
    /// Nothing the server offers is acceptable, or it does not accept the gateway.
    #[error("{reason}")]
    Refused { reason: String },
    /// The gateway's own certificate or its store cannot be used.
    #[error("{reason}")]
    Store { reason: String },
}

impl LinkError {
    /// Sorts a status of the connect phase into what time mends and what it does not.
    pub(crate) fn connecting(status: StatusCode) -> Self {
        if is_lasting(status) {
            Self::Refused { reason: describe(status) }
        } else {
            Self::Lost { status }
        }
    }

    /// Adds the endpoint and turns the error into one of the gateway.
    pub(crate) fn at(self, endpoint: &str) -> AdapterError {
        let endpoint = endpoint.to_owned();
        match self {
            Self::Lost { status } => {
                AdapterError::Unreachable { endpoint, reason: describe(status) }
            }
            Self::TimedOut { timeout } => AdapterError::TimedOut { endpoint, timeout },
            Self::Refused { reason } | Self::Store { reason } => {
                AdapterError::Refused { endpoint, reason }
            }
        }
    }
}

/// Whether a status says that someone has to step in: credentials, certificates, policies.
fn is_lasting(status: StatusCode) -> bool {
    [
        StatusCode::BadUserAccessDenied,
        StatusCode::BadIdentityTokenInvalid,
        StatusCode::BadIdentityTokenRejected,
        StatusCode::BadUserSignatureInvalid,
        StatusCode::BadSecurityPolicyRejected,
        StatusCode::BadSecurityModeRejected,
        StatusCode::BadSecurityChecksFailed,
        StatusCode::BadApplicationSignatureInvalid,
        StatusCode::BadCertificateInvalid,
        StatusCode::BadCertificateUntrusted,
        StatusCode::BadCertificateTimeInvalid,
        StatusCode::BadCertificateIssuerTimeInvalid,
        StatusCode::BadCertificateHostNameInvalid,
        StatusCode::BadCertificateUriInvalid,
        StatusCode::BadCertificateUseNotAllowed,
        StatusCode::BadCertificateIssuerUseNotAllowed,
        StatusCode::BadCertificateRevoked,
        StatusCode::BadCertificateRevocationUnknown,
        StatusCode::BadCertificateIssuerRevoked,
        StatusCode::BadCertificateChainIncomplete,
        StatusCode::BadCertificatePolicyCheckFailed,
    ]
    .contains(&status)
}

/// Says what a status means to the person who has to act on it.
fn describe(status: StatusCode) -> String {
    let meaning = match status {
        StatusCode::BadUserAccessDenied | StatusCode::BadIdentityTokenRejected => {
            "the server does not accept the user or the password"
        }
        StatusCode::BadSecurityChecksFailed | StatusCode::BadCertificateUntrusted => {
            "the server does not trust the gateway's certificate, or hides why it refuses it"
        }
        StatusCode::BadTooManySessions => "the server has no session left",
        StatusCode::BadCommunicationError | StatusCode::BadConnectionClosed => {
            "no connection, or the server closed it"
        }
        status => return status.to_string(),
    };
    format!("{meaning} ({status})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_time_mends_is_transient() {
        #[rustfmt::skip]
        let cases = [
            (StatusCode::BadCommunicationError,     true),
            (StatusCode::BadConnectionClosed,       true),
            (StatusCode::BadTooManySessions,        true),
            (StatusCode::BadInternalError,          true),
            (StatusCode::BadUserAccessDenied,       false),
            (StatusCode::BadIdentityTokenRejected,  false),
            (StatusCode::BadCertificateUntrusted,   false),
            (StatusCode::BadSecurityPolicyRejected, false),
        ];
        for (status, transient) in cases {
            let error = LinkError::connecting(status).at("opc.tcp://plc7");
            assert_eq!(error.is_transient(), transient, "{status}");
            assert!(error.to_string().contains(&status.to_string()), "{error}");
        }
        let timeout = Duration::from_secs(20);
        assert!(LinkError::TimedOut { timeout }.at("opc.tcp://plc7").is_transient());
    }
}
