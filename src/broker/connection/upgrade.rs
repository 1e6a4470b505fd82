//! The request that turns an HTTP connection into a WebSocket (RFC 6455, section 4.2; MQTT 5.0, section 6).

use std::sync::Arc;

use tidegate_adapter_api::is_address_or_localhost;
use tungstenite::{
    handshake::server::{Callback, ErrorResponse, Request, Response},
    http::{HeaderMap, HeaderValue, StatusCode, header},
};

/// The subprotocol that both sides name.
const SUBPROTOCOL: &str = "mqtt";

/// How clients come by WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSocketSettings {
    /// The path they ask for.
    pub path: String,
    /// Web pages that may connect, as `scheme://host[:port]` in small letters, besides those of the host they
    /// connect to.
    pub origins: Vec<String>,
    /// The largest message of frames from a client that has not logged in.
    pub first_message_bytes_max: usize,
    /// The largest message of frames from others.
    pub message_bytes_max: usize,
}

/// Answers the request.
#[derive(Debug)]
pub(super) struct Upgrade {
    pub(super) settings: Arc<WebSocketSettings>,
    /// Whether the connection is encrypted: then the host's name is the certificate's.
    pub(super) is_encrypted: bool,
}

impl Callback for Upgrade {
    fn on_request(
        self,
        request: &Request,
        mut response: Response,
    ) -> Result<Response, ErrorResponse> {
        let (path, headers) = (request.uri().path(), request.headers());
        check(&self.settings, path, headers, self.is_encrypted).map_err(|(status, reason)| {
            let mut refusal = ErrorResponse::new(Some(reason.to_owned()));
            *refusal.status_mut() = status;
            refusal
        })?;
        let subprotocol = HeaderValue::from_static(SUBPROTOCOL);
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, subprotocol);
        Ok(response)
    }
}

fn check(
    settings: &WebSocketSettings,
    path: &str,
    headers: &HeaderMap,
    is_encrypted: bool,
) -> Result<(), (StatusCode, &'static str)> {
    if path != settings.path {
        return Err((StatusCode::NOT_FOUND, "there is no MQTT here"));
    }
    let offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let speaks_mqtt = offered
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.split(',').any(|name| name.trim().eq_ignore_ascii_case(SUBPROTOCOL)));
    if !speaks_mqtt {
        return Err((StatusCode::BAD_REQUEST, "the subprotocol `mqtt` must be offered"));
    }
    match headers.get(header::ORIGIN) {
        Some(origin) if !is_welcome(settings, origin, headers.get(header::HOST), is_encrypted) => {
            Err((StatusCode::FORBIDDEN, "this web page may not connect; see `origins`"))
        }
        _ => Ok(()),
    }
}

/// Returns whether a page may connect: any page in a browser on the same machine or network could try.
///
/// A page of the same host may, unless the host's name could be somebody else's that points here (DNS rebinding).
fn is_welcome(
    settings: &WebSocketSettings,
    origin: &HeaderValue,
    host: Option<&HeaderValue>,
    is_encrypted: bool,
) -> bool {
    let Ok(origin) = origin.to_str() else { return false };
    let origin = origin.to_ascii_lowercase();
    let page = origin.split_once("://").filter(|(scheme, _)| !is_encrypted || *scheme == "https");
    let page_host = page.map(|(_, host)| host);
    let asked_host = host.and_then(|host| host.to_str().ok()).map(str::to_ascii_lowercase);
    let is_sure = |host: &str| is_encrypted || is_address_or_localhost(host);
    settings.origins.contains(&origin)
        || page_host.is_some_and(|page| asked_host.as_deref() == Some(page) && is_sure(page))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_others_and_other_protocols_are_refused() {
        let settings = WebSocketSettings {
            path: "/mqtt".into(),
            origins: vec!["https://scada.example".into()],
            first_message_bytes_max: 1,
            message_bytes_max: 1,
        };
        let status = |path: &str, protocol: Option<&str>, origin: Option<&str>, is_encrypted| {
            let mut headers = HeaderMap::new();
            let host = match origin {
                Some("http://192.0.2.1:8083") => "192.0.2.1:8083",
                _ => "gw.example:8083",
            };
            headers.insert(header::HOST, HeaderValue::from_static(host));
            for (name, value) in
                [(header::SEC_WEBSOCKET_PROTOCOL, protocol), (header::ORIGIN, origin)]
            {
                if let Some(value) = value {
                    headers.insert(name, HeaderValue::from_str(value).unwrap());
                }
            }
            let checked = check(&settings, path, &headers, is_encrypted);
            checked.map_or_else(|(status, _)| status.as_u16(), |()| 101)
        };
        #[rustfmt::skip]
        let cases = [
            ("/mqtt", Some("mqtt"),          None,                             101),
            ("/mqtt", Some("mqttv3.1, MQTT"), None,                            101),
            ("/mqtt", Some("mqtt"),          Some("https://SCADA.example"),    101),
            ("/mqtt", Some("mqtt"),          Some("http://192.0.2.1:8083"),    101),
            ("/mqtt", Some("mqtt"),          Some("http://gw.example:8083"),   403),
            ("/mqtt", Some("mqtt"),          Some("http://gw.example"),        403),
            ("/mqtt", Some("mqtt"),          Some("https://evil.example"),     403),
            ("/mqtt", Some("mqtt"),          Some("null"),                     403),
            ("/",     Some("mqtt"),          None,                             404),
            ("/mqtt", Some("graphql-ws"),    None,                             400),
            ("/mqtt", None,                  None,                             400),
        ];
        for (path, protocol, origin, expected) in cases {
            let found = status(path, protocol, origin, false);
            assert_eq!(found, expected, "{path} {protocol:?} {origin:?}");
        }
        let own = Some("https://gw.example:8083");
        assert_eq!(status("/mqtt", Some("mqtt"), own, true), 101, "the certificate says so");
    }
}
