//! The request that turns an HTTP connection into a WebSocket (RFC 6455, section 4.2; MQTT 5.0, section 6).

use std::sync::Arc;

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
pub(super) struct Upgrade(pub(super) Arc<WebSocketSettings>);

impl Callback for Upgrade {
    fn on_request(
        self,
        request: &Request,
        mut response: Response,
    ) -> Result<Response, ErrorResponse> {
        check(&self.0, request.uri().path(), request.headers()).map_err(|(status, reason)| {
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
        Some(origin) if !is_welcome(settings, origin, headers.get(header::HOST)) => {
            Err((StatusCode::FORBIDDEN, "this web page may not connect; see `origins`"))
        }
        _ => Ok(()),
    }
}

/// Returns whether a page may connect: any page in a browser on the same machine or network could try.
fn is_welcome(
    settings: &WebSocketSettings,
    origin: &HeaderValue,
    host: Option<&HeaderValue>,
) -> bool {
    let Ok(origin) = origin.to_str() else { return false };
    let origin = origin.to_ascii_lowercase();
    let page_host = origin.split_once("://").map(|(_, host)| host);
    let asked_host = host.and_then(|host| host.to_str().ok()).map(str::to_ascii_lowercase);
    settings.origins.contains(&origin) || page_host.is_some() && page_host == asked_host.as_deref()
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
        let status = |path: &str, protocol: Option<&str>, origin: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static("gw.example:8083"));
            for (name, value) in
                [(header::SEC_WEBSOCKET_PROTOCOL, protocol), (header::ORIGIN, origin)]
            {
                if let Some(value) = value {
                    headers.insert(name, HeaderValue::from_str(value).unwrap());
                }
            }
            check(&settings, path, &headers).map_or_else(|(status, _)| status.as_u16(), |()| 101)
        };
        #[rustfmt::skip]
        let cases = [
            ("/mqtt", Some("mqtt"),          None,                             101),
            ("/mqtt", Some("mqttv3.1, MQTT"), None,                            101),
            ("/mqtt", Some("mqtt"),          Some("https://SCADA.example"),    101),
            ("/mqtt", Some("mqtt"),          Some("http://gw.example:8083"),   101),
            ("/mqtt", Some("mqtt"),          Some("http://gw.example"),        403),
            ("/mqtt", Some("mqtt"),          Some("https://evil.example"),     403),
            ("/mqtt", Some("mqtt"),          Some("null"),                     403),
            ("/",     Some("mqtt"),          None,                             404),
            ("/mqtt", Some("graphql-ws"),    None,                             400),
            ("/mqtt", None,                  None,                             400),
        ];
        for (path, protocol, origin, expected) in cases {
            assert_eq!(status(path, protocol, origin), expected, "{path} {protocol:?} {origin:?}");
        }
    }
}
