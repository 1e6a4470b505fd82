//! Refusals as problem documents (RFC 9457).

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use tidegate_adapter_api::{LoginRefusal, Refusal, payload::PayloadError};
use tidegate_model::json::write_string;

/// When a client may try again that met a stopping gateway.
const RESTART_RETRY: Duration = Duration::from_secs(5);

/// When a client may try again while the storage is full.
const STORAGE_RETRY: Duration = Duration::from_secs(60);

/// Why a request is refused, for people and programs.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    /// The last part of the problem's type, and the reason under which it is counted.
    kind: &'static str,
    detail: String,
    /// The key of the mapping, or the name of the argument, that is at fault.
    key: Option<&'static str>,
    field: Field,
    /// Whether the rest of the request is not worth reading.
    closes: bool,
}

/// The header field that goes with a refusal.
#[derive(Debug)]
enum Field {
    None,
    /// In seconds.
    RetryAfter(u64),
    Allow(&'static str),
    Authenticate,
    Bearer,
}

/// Marks the response to a refused request, for those who count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refused(pub(crate) &'static str);

impl Problem {
    fn new(status: StatusCode, kind: &'static str, detail: impl Into<String>) -> Self {
        Self { status, kind, detail: detail.into(), key: None, field: Field::None, closes: false }
    }

    fn retry_after(self, after: Duration) -> Self {
        let seconds = after.as_millis().div_ceil(1_000).max(1);
        Self { field: Field::RetryAfter(u64::try_from(seconds).unwrap_or(u64::MAX)), ..self }
    }

    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", detail)
    }

    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "not-authorized", detail)
    }

    /// Management takes a token or a certificate, whatever else the client has.
    pub(crate) fn token_required() -> Self {
        let detail = "this takes an API token, or a client certificate";
        let problem = Self::new(StatusCode::UNAUTHORIZED, "token", detail);
        Self { field: Field::Bearer, ..problem }
    }

    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", detail)
    }

    /// An argument of the query that cannot be used.
    pub(crate) fn bad_argument(name: &'static str, detail: impl Into<String>) -> Self {
        Self { key: Some(name), ..Self::bad_request(detail) }
    }

    /// `allowed` is the value of the header Allow.
    pub(crate) fn method(allowed: &'static str) -> Self {
        let detail = format!("use {allowed}");
        let problem = Self::new(StatusCode::METHOD_NOT_ALLOWED, "method", detail);
        Self { field: Field::Allow(allowed), ..problem }
    }

    pub(crate) fn too_large(limit: usize) -> Self {
        let detail = format!("a body has at most {limit} bytes");
        let problem = Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail);
        Self { closes: true, ..problem }
    }

    pub(crate) fn body_too_slow(deadline: Duration) -> Self {
        let detail = format!("the body did not arrive within {} s", deadline.as_secs());
        let problem = Self::new(StatusCode::REQUEST_TIMEOUT, "timeout", detail);
        Self { closes: true, ..problem }
    }

    pub(crate) fn body_broken() -> Self {
        let problem = Self::bad_request("the body is cut short or its framing is broken");
        Self { closes: true, ..problem }
    }

    pub(crate) fn encoding() -> Self {
        let detail = "bodies are taken without Content-Encoding only";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "format", detail)
    }

    /// The key of a request that is still being carried out.
    pub(crate) fn key_under_way() -> Self {
        let detail = "a request with this Idempotency-Key is being carried out, try again";
        Self::new(StatusCode::CONFLICT, "key-under-way", detail).retry_after(Duration::from_secs(1))
    }

    /// The key of another request.
    pub(crate) fn key_reused() -> Self {
        let detail = "this Idempotency-Key was used for another request in the last 24 hours";
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "key-reused", detail)
    }

    fn document(&self) -> Vec<u8> {
        let mut json = Vec::with_capacity(160 + self.detail.len());
        let mut member = |name: &str, value: &str| {
            json.push(if json.is_empty() { b'{' } else { b',' });
            write_string(name, &mut json);
            json.push(b':');
            write_string(value, &mut json);
        };
        member("type", &format!("urn:tidegate:problem:{}", self.kind));
        member("title", self.status.canonical_reason().unwrap_or("Refused"));
        member("detail", &self.detail);
        if let Some(key) = self.key {
            member("key", key);
        }
        json.extend_from_slice(b",\"status\":");
        json.extend_from_slice(self.status.as_str().as_bytes());
        json.push(b'}');
        json
    }
}

impl From<LoginRefusal> for Problem {
    fn from(refusal: LoginRefusal) -> Self {
        let problem = |status, kind| Self::new(status, kind, refusal.to_string());
        match refusal {
            LoginRefusal::CredentialsRequired | LoginRefusal::BadCredentials => {
                let problem = problem(StatusCode::UNAUTHORIZED, "credentials");
                Self { field: Field::Authenticate, ..problem }
            }
            LoginRefusal::Delayed { retry_after } => {
                problem(StatusCode::TOO_MANY_REQUESTS, "delayed").retry_after(retry_after)
            }
            LoginRefusal::Busy => {
                problem(StatusCode::SERVICE_UNAVAILABLE, "busy").retry_after(Duration::from_secs(1))
            }
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let problem = |status, kind| Self::new(status, kind, refusal.to_string());
        match &refusal {
            Refusal::Busy { retry_after } => {
                problem(StatusCode::SERVICE_UNAVAILABLE, "busy").retry_after(*retry_after)
            }
            Refusal::StorageFull => {
                problem(StatusCode::INSUFFICIENT_STORAGE, "storage-full").retry_after(STORAGE_RETRY)
            }
            Refusal::RetainedQuota => problem(StatusCode::INSUFFICIENT_STORAGE, "retained-quota"),
            Refusal::NotAuthorized => problem(StatusCode::FORBIDDEN, "not-authorized"),
            Refusal::Invalid { .. } => problem(StatusCode::BAD_REQUEST, "payload"),
            Refusal::TooLarge { limit } => Self::too_large(*limit),
            Refusal::ShuttingDown => {
                problem(StatusCode::SERVICE_UNAVAILABLE, "shutting-down").retry_after(RESTART_RETRY)
            }
            _ => problem(StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        }
    }
}

impl From<PayloadError> for Problem {
    fn from(error: PayloadError) -> Self {
        let detail = error.to_string();
        match error {
            PayloadError::Unsupported => {
                Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "format", detail)
            }
            error => {
                Self { key: error.key(), ..Self::new(StatusCode::BAD_REQUEST, "payload", detail) }
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.document()));
        *response.status_mut() = self.status;
        response.extensions_mut().insert(Refused(self.kind));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.closes {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let (name, value) = match self.field {
            Field::None => return response,
            Field::RetryAfter(seconds) => (header::RETRY_AFTER, seconds.into()),
            Field::Allow(methods) => (header::ALLOW, HeaderValue::from_static(methods)),
            Field::Authenticate => {
                let challenge = "Basic realm=\"tidegate\", charset=\"UTF-8\"";
                (header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
            }
            Field::Bearer => {
                let challenge = "Bearer realm=\"tidegate\"";
                (header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
            }
        };
        headers.insert(name, value);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// main.11: a refusal is a problem document that names what is at fault.
    #[test]
    fn refusals_are_problem_documents() {
        let problem = Problem::from(PayloadError::Each(tidegate_model::EachError::NotAnObject {
            each: tidegate_model::Each::Member,
            found: "array",
        }));
        let document: serde_json::Value = serde_json::from_slice(&problem.document()).unwrap();
        assert_eq!(
            document,
            serde_json::json!({
                "type": "urn:tidegate:problem:payload",
                "title": "Bad Request",
                "status": 400,
                "detail": "`each = \"member\"` needs an object, found array",
                "key": "each",
            })
        );
    }

    #[test]
    fn every_refusal_has_its_status_and_header() {
        let busy = Refusal::Busy { retry_after: Duration::from_millis(2_100) };
        let delayed = LoginRefusal::Delayed { retry_after: Duration::from_millis(1_001) };
        #[rustfmt::skip]
        let cases = [
            (Problem::from(busy),                       503, "retry-after", "3"),
            (Problem::from(Refusal::StorageFull),       507, "retry-after", "60"),
            (Problem::from(Refusal::RetainedQuota),     507, "content-type", "application/problem+json"),
            (Problem::from(Refusal::ShuttingDown),      503, "retry-after", "5"),
            (Problem::from(Refusal::NotAuthorized),     403, "content-type", "application/problem+json"),
            (Problem::from(Refusal::TooLarge { limit: 9 }), 413, "connection", "close"),
            (Problem::from(Refusal::Invalid { reason: "no".into() }), 400, "content-type", "application/problem+json"),
            (Problem::from(LoginRefusal::BadCredentials), 401, "www-authenticate", "Basic realm=\"tidegate\", charset=\"UTF-8\""),
            (Problem::from(LoginRefusal::Busy),         503, "retry-after", "1"),
            (Problem::from(delayed),                    429, "retry-after", "2"),
            (Problem::from(PayloadError::Unsupported),  415, "content-type", "application/problem+json"),
            (Problem::token_required(),                 401, "www-authenticate", "Bearer realm=\"tidegate\""),
            (Problem::method("POST, PUT"),              405, "allow", "POST, PUT"),
        ];
        for (problem, status, name, value) in cases {
            let response = problem.into_response();
            assert_eq!(response.status().as_u16(), status);
            assert_eq!(response.headers()[name], value, "{status}");
        }
    }
}
