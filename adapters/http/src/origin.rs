//! What a web page in somebody's browser may not do: speak for the person in front of it.

use axum::http::{HeaderMap, header};
use tidegate_adapter_api::is_address_or_localhost;

use crate::problem::Problem;

/// Refuses requests that a page of another site has sent.
///
/// A browser names the page's site in `Origin`; it must be this one. Without credentials nothing else tells a
/// page from a device, and a name under somebody else's control can point at a local address (DNS rebinding):
/// then `Host` must be an address or `localhost`. Over TLS the name is the certificate's, and nobody else's.
pub(crate) fn check(headers: &HeaderMap, is_encrypted: bool) -> Result<(), Problem> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    if let Some(origin) = headers.get(header::ORIGIN) {
        let site = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
        // In the clear a proxy in front may have spoken TLS with the browser; over TLS nobody stands between.
        let is_own = site.is_some_and(|(scheme, site)| {
            Some(site) == host && (!is_encrypted || scheme == "https")
        });
        if !is_own {
            return Err(Problem::forbidden("a page of another site sent this"));
        }
    }
    let is_sure = is_encrypted || headers.contains_key(header::AUTHORIZATION);
    match host {
        Some(host) if !is_sure && !is_address_or_localhost(host) => Err(Problem::forbidden(
            "without credentials, name the gateway by its address or as localhost",
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// W07: cross-site requests and rebound names are refused.
    #[test]
    fn fault_w07_foreign_pages_are_refused() {
        #[rustfmt::skip]
        let cases = [
            // Host              Origin                          Authorization   allowed
            ("127.0.0.1:8080",   "",                             "",             true),
            ("localhost:8080",   "",                             "",             true),
            ("[::1]:8080",       "",                             "",             true),
            ("evil.example",     "",                             "",             false),
            ("gateway.plant",    "",                             "Basic YTpi",   true),
            ("127.0.0.1:8080",   "http://127.0.0.1:8080",        "",             true),
            ("127.0.0.1:8080",   "http://evil.example",          "",             false),
            ("127.0.0.1:8080",   "http://evil.example",          "Basic YTpi",   false),
            ("127.0.0.1:8080",   "null",                         "",             false),
            ("",                 "",                             "",             true),
        ];
        for (host, origin, authorization, allowed) in cases {
            let mut headers = HeaderMap::new();
            for (name, value) in [
                (header::HOST, host),
                (header::ORIGIN, origin),
                (header::AUTHORIZATION, authorization),
            ] {
                if !value.is_empty() {
                    headers.insert(name, value.parse().unwrap());
                }
            }
            assert_eq!(check(&headers, false).is_ok(), allowed, "{host} {origin} {authorization}");
            // A page that came in the clear could be anybody's on the way.
            let is_foreign = origin == "null" || origin.starts_with("http:");
            assert_eq!(check(&headers, true).is_ok(), !is_foreign, "{host} {origin} with TLS");
        }
    }
}
