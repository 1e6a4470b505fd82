//! The pairing service: where the broker is, and a certificate to show there (section 2 of the protocol).
//!
//! The credentials secret goes there and nowhere else; it is in no error, also where a server sends it back.

use std::{fmt, pin::pin, time::Duration};

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Method, Request, StatusCode, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tidegate_astarte::Device;
use tidegate_model::{Value, json};
use tidegate_tls::SigningRequest;
use tidegate_uplink::{Disconnect, Failure};
use tokio::time::timeout;

use super::{super::super::link::LinkError, credentials::Credentials};
use crate::{
    dial::{Way, authority, dial},
    uplink::settings::Endpoint,
};

/// From the look-up of the name to the last byte of an answer.
const DEADLINE: Duration = Duration::from_secs(15);
/// The longest answer.
const ANSWER_BYTES_MAX: usize = 256 << 10;
/// As much of a refusal is told.
const REASON_CHARACTERS_MAX: usize = 200;
const PORT_DEFAULT: u16 = 8883;

/// Where the broker is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BrokerAddress {
    pub(super) host: String,
    pub(super) port: u16,
}

impl BrokerAddress {
    /// Reads `mqtts://host:port` or `ssl://host:port`; both mean TLS.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        if !["mqtts", "ssl"].contains(&scheme) {
            return None;
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
            _ => (rest, PORT_DEFAULT),
        };
        let host = host.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(host);
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
        let fits = !host.is_empty() && host.len() <= 253 && host.bytes().all(allowed) && port > 0;
        fits.then(|| Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for BrokerAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "mqtts://{}", authority(&self.host, self.port))
    }
}

/// Asks the pairing service on behalf of one device.
pub(super) struct Pairing<'s> {
    service: &'s Endpoint,
    way: &'s Way,
    device: Device,
}

impl<'s> Pairing<'s> {
    pub(super) fn new(service: &'s Endpoint, way: &'s Way, device: Device) -> Self {
        Self { service, way, device }
    }

    /// Asks where the broker is.
    pub(super) async fn broker(&self) -> Result<BrokerAddress, LinkError> {
        let data = self.ask(Method::GET, "", String::new(), StatusCode::OK).await?;
        if text_at(&data, &["status"]) == Some("inhibited") {
            return Err(lasting("the realm does not let this device in: it is inhibited"));
        }
        let url = text_at(&data, &["protocols", "astarte_mqtt_v1", "broker_url"]);
        url.and_then(BrokerAddress::parse).ok_or_else(|| {
            LinkError::transient("the pairing service does not say where the broker is")
        })
    }

    /// Asks for a certificate of a new key. All certificates before it are revoked by that.
    pub(super) async fn request_certificate(&self) -> Result<Credentials, LinkError> {
        let made = SigningRequest::new(self.device.base());
        let made = made.map_err(|error| LinkError::transient(error.to_string()))?;
        let body = data_body("csr", &made.request);
        let path = "/protocols/astarte_mqtt_v1/credentials";
        let data = self.ask(Method::POST, path, body, StatusCode::CREATED).await?;
        let certificate = text_at(&data, &["client_crt"]).ok_or_else(|| {
            LinkError::transient("the pairing service answers without a certificate")
        })?;
        Credentials::new(certificate.to_owned(), made.key)
    }

    /// Asks whether a certificate is still good.
    pub(super) async fn verifies(&self, certificate: &str) -> Result<bool, LinkError> {
        let body = data_body("client_crt", certificate);
        let path = "/protocols/astarte_mqtt_v1/credentials/verify";
        let data = self.ask(Method::POST, path, body, StatusCode::OK).await?;
        match member_at(&data, &["valid"]) {
            Some(Value::Boolean(is_valid)) => Ok(*is_valid),
            _ => Err(LinkError::transient(
                "the pairing service does not say whether the certificate is good",
            )),
        }
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: String,
        expected: StatusCode,
    ) -> Result<Value, LinkError> {
        let answered = timeout(DEADLINE, self.exchange(method, path, body)).await;
        let (status, body) =
            answered.map_err(|_| LinkError::transient("the pairing service does not answer"))??;
        let value = json::parse_value(&body).ok();
        if status == expected {
            return value.ok_or_else(|| {
                LinkError::transient("the pairing service answers with something that is not JSON")
            });
        }
        let said = value.as_ref().and_then(said).unwrap_or_default();
        // Before anything is cut off: half of the secret would not be found any more.
        let said = self.secret().map_or(said.clone(), |secret| said.replace(&secret, "…"));
        let said: String = said.chars().take(REASON_CHARACTERS_MAX).collect();
        let reason = format!("the pairing service answers {status}{said}");
        let failure = match status {
            StatusCode::BAD_REQUEST
            | StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
            | StatusCode::NOT_FOUND
            | StatusCode::UNPROCESSABLE_ENTITY => Failure::Lasting,
            _ => Failure::Transient,
        };
        Err(LinkError { reason, failure, how: Disconnect::Otherwise })
    }

    fn secret(&self) -> Option<String> {
        let token = self.service.http.as_ref()?.token.get();
        token.filter(|token| !token.is_empty())
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: String,
    ) -> Result<(StatusCode, Bytes), LinkError> {
        let request = self.request(method, path, body)?;
        let Endpoint { host, port, tls, .. } = self.service;
        let tls = tls.as_ref().map(|tls| tls.config());
        let stream = dial(host, *port, self.way, tls).await.map_err(|error| {
            let error = LinkError::dial(error);
            LinkError { reason: format!("the pairing service: {}", error.reason), ..error }
        })?;
        let broken = |error: hyper::Error| {
            LinkError::transient(format!("the pairing service breaks off: {error}"))
        };
        let shaken = http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await;
        let (mut sender, connection) = shaken.map_err(broken)?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(broken)?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|_| {
                LinkError::transient("the pairing service's answer is too long or breaks off")
            })?;
            Ok((status, body.to_bytes()))
        };
        let (mut answer, mut connection) = (pin!(answer), pin!(connection));
        let mut is_open = true;
        loop {
            tokio::select! {
                biased;
                answer = &mut answer => return answer,
                // What has arrived is still to be read when the connection has ended.
                _ = &mut connection, if is_open => is_open = false,
            }
        }
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: String,
    ) -> Result<Request<Full<Bytes>>, LinkError> {
        let Endpoint { host, port, http, .. } = self.service;
        let base = http.as_ref().map_or("", |http| http.path.as_str());
        let (realm, id) = (self.device.realm(), self.device.id());
        let target = format!("{base}/v1/{realm}/devices/{id}{path}");
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .header(header::HOST, authority(host, *port))
            .header(header::USER_AGENT, concat!("tidegate/", env!("CARGO_PKG_VERSION")))
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(secret) = self.secret() {
            let mut value = header::HeaderValue::try_from(format!("Bearer {secret}"))
                .map_err(|_| lasting("the credentials secret cannot stand in a header"))?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        request
            .body(Full::new(body.into()))
            .map_err(|error| lasting(format!("the request cannot be made: {error}")))
    }
}

/// Writes `{"data":{KEY:TEXT}}`.
fn data_body(key: &str, text: &str) -> String {
    let mut body = Vec::from("{\"data\":{");
    json::write_string(key, &mut body);
    body.push(b':');
    json::write_string(text, &mut body);
    body.extend_from_slice(b"}}");
    String::from_utf8(body).expect("it is made of texts")
}

/// Returns a member within `data`.
fn member_at<'v>(value: &'v Value, path: &[&str]) -> Option<&'v Value> {
    std::iter::once(&"data").chain(path).try_fold(value, |value, key| match value {
        Value::Document(document) => document.get(key),
        _ => None,
    })
}

fn text_at<'v>(value: &'v Value, path: &[&str]) -> Option<&'v str> {
    match member_at(value, path)? {
        Value::String(text) => Some(text),
        _ => None,
    }
}

/// Returns what an error says of itself: `{"errors": …}`.
fn said(value: &Value) -> Option<String> {
    let Value::Document(document) = value else { return None };
    match document.get("errors")? {
        Value::Document(errors) => match errors.get("detail") {
            Some(Value::String(detail)) => Some(format!(": {detail}")),
            _ => Some(format!(": {}", Value::Document(errors.clone()))),
        },
        _ => None,
    }
}

fn lasting(reason: impl Into<String>) -> LinkError {
    LinkError { reason: reason.into(), failure: Failure::Lasting, how: Disconnect::Otherwise }
}
