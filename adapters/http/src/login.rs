//! Who a client is: Basic credentials (RFC 7617), checked once in a while for each connection, API tokens (RFC 6750),
//! or the certificate of its handshake.

use std::{
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::http::{HeaderMap, header};
use tidegate_adapter_api::{Access, Login, LoginRefusal, LoginResult, Peer};
use tidegate_model::{PeerNames, Principal};

use crate::site::wall_clock;

/// How long a login is believed before it is checked again: a password costs tens of milliseconds, a signed token some
/// of a hundred microseconds.
const BELIEVED: Duration = Duration::from_secs(10);

/// What is known of the client of one connection: its last login.
#[derive(Debug)]
pub(crate) struct Client {
    address: IpAddr,
    hasher: RandomState,
    login: Mutex<Option<Believed>>,
    /// The names in the certificate that it has shown in its handshake.
    certificate: Option<PeerNames>,
    is_encrypted: bool,
}

#[derive(Debug)]
struct Believed {
    /// Keyed hash of the header, so that no password is kept.
    hash: u64,
    principal: Principal,
    until: Instant,
    /// The accounts under which it was checked: a changed or removed one is noticed with the next request.
    version: u64,
}

impl Client {
    /// Makes the client of a connection in the clear.
    pub(crate) fn plain(address: IpAddr) -> Self {
        Self {
            address,
            hasher: RandomState::new(),
            login: Mutex::new(None),
            certificate: None,
            is_encrypted: false,
        }
    }

    /// Makes the client of an encrypted connection.
    pub(crate) fn encrypted(address: IpAddr, certificate: Option<PeerNames>) -> Self {
        Self { certificate, is_encrypted: true, ..Self::plain(address) }
    }

    /// Returns whether the connection is encrypted.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.is_encrypted
    }

    /// Returns who sends a request with these headers; `stranger` is who sends one in the clear without credentials.
    pub(crate) async fn principal(
        &self,
        access: &Access,
        stranger: &Result<Principal, LoginRefusal>,
        headers: &HeaderMap,
    ) -> Result<Principal, LoginRefusal> {
        let Some(header) = headers.get(header::AUTHORIZATION) else {
            if self.is_encrypted {
                // `anonymous` is for plain loopback addresses.
                let access = access.for_known_clients();
                return Ok(access.login_with(None, self.peer()).await?.principal);
            }
            return stranger.clone();
        };
        let hash = self.hasher.hash_one(header.as_bytes());
        let version = access.version();
        if let Some(principal) = self.believed(hash, version) {
            return Ok(principal);
        }
        let login = self.log_in(access, header.as_bytes()).await?;
        let until = Instant::now() + BELIEVED.min(left(&login));
        let principal = login.principal;
        *self.login.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Believed { hash, principal: principal.clone(), until, version });
        Ok(principal)
    }

    /// Returns whether the client shows a token, or a certificate and nothing else.
    pub(crate) fn has_token_or_certificate(&self, headers: &HeaderMap) -> bool {
        match headers.get(header::AUTHORIZATION) {
            Some(header) => after_scheme(header.as_bytes(), b"Bearer ").is_some(),
            None => self.certificate.is_some(),
        }
    }

    async fn log_in(&self, access: &Access, header: &[u8]) -> LoginResult {
        if let Some(token) = after_scheme(header, b"Bearer ") {
            return access.bearer(token, self.peer());
        }
        let credentials = credentials(header).ok_or(LoginRefusal::BadCredentials)?;
        let named = credentials.split_once_at_colon().ok_or(LoginRefusal::BadCredentials)?;
        access.login_with(Some(named), self.peer()).await
    }

    fn peer(&self) -> Peer<'_> {
        Peer { address: self.address, certificate: self.certificate.as_ref() }
    }

    fn believed(&self, hash: u64, version: u64) -> Option<Principal> {
        let login = self.login.lock().unwrap_or_else(PoisonError::into_inner);
        let login = login.as_ref().filter(|login| {
            login.hash == hash && login.version == version && Instant::now() < login.until
        });
        login.map(|login| login.principal.clone())
    }
}

/// Returns how long a login is good, at most.
fn left(login: &Login) -> Duration {
    let Some(ends) = login.ends else { return Duration::MAX };
    let left = ends.as_unix_micros().saturating_sub(wall_clock().as_unix_micros());
    Duration::from_micros(u64::try_from(left).unwrap_or(0))
}

/// Name and password, decoded, as they stand in the header.
struct Credentials(Vec<u8>);

impl Credentials {
    /// A name has no colon, a password may (RFC 7617, section 2).
    fn split_once_at_colon(&self) -> Option<(&str, &[u8])> {
        let at = self.0.iter().position(|&byte| byte == b':')?;
        let name = std::str::from_utf8(&self.0[..at]).ok()?;
        Some((name, &self.0[at + 1..]))
    }
}

fn credentials(header: &[u8]) -> Option<Credentials> {
    from_base64(after_scheme(header, b"Basic ")?).map(Credentials)
}

/// Returns what stands behind the scheme of an `Authorization` field, if it is this one (RFC 9110, section 11.4).
fn after_scheme<'h>(header: &'h [u8], scheme: &[u8]) -> Option<&'h [u8]> {
    let (found, rest) = header.split_at_checked(scheme.len())?;
    found.eq_ignore_ascii_case(scheme).then(|| rest.trim_ascii())
}

/// Reads base64 (RFC 4648, section 4), its padding left out or not.
fn from_base64(text: &[u8]) -> Option<Vec<u8>> {
    let padding = text.iter().rev().take_while(|&&byte| byte == b'=').count();
    if padding > 2 || padding > 0 && !text.len().is_multiple_of(4) {
        return None;
    }
    let digits = &text[..text.len() - padding];
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    for chunk in digits.chunks(4) {
        let mut bits = 0_u32;
        for place in 0..4 {
            let six = match chunk.get(place) {
                None => 0,
                Some(byte @ b'A'..=b'Z') => byte - b'A',
                Some(byte @ b'a'..=b'z') => byte - b'a' + 26,
                Some(byte @ b'0'..=b'9') => byte - b'0' + 52,
                Some(b'+') => 62,
                Some(b'/') => 63,
                Some(_) => return None,
            };
            bits = bits << 6 | u32::from(six);
        }
        let [_, decoded @ ..] = bits.to_be_bytes();
        match chunk.len() - 1 {
            0 => return None,
            length => bytes.extend_from_slice(&decoded[..length]),
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use tidegate_adapter_api::test_kit::TestGateway;

    use super::*;

    #[test]
    fn credentials_are_read_from_the_header() {
        let none = None::<(&str, &[u8])>;
        #[rustfmt::skip]
        let cases = [
            ("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",  Some(("Aladdin", &b"open sesame"[..]))),
            ("basic  QWxhZGRpbjpvcGVuIHNlc2FtZQ",   Some(("Aladdin", &b"open sesame"[..]))),
            ("Basic YTpiOmM=",                      Some(("a", &b"b:c"[..]))),
            ("Basic Og==",                          Some(("", &b""[..]))),
            ("Basic YQ==",                          none),      // no colon
            ("Basic /zpi",                          none),      // a name that is not UTF-8
            ("Basic YTpi!",                         none),
            ("Basic YTpiO",                         none),      // five digits
            ("Basic YTpiOmM==",                     none),
            ("Bearer abc",                          none),
            ("Bas",                                 none),
        ];
        for (header, expected) in cases {
            let credentials = credentials(header.as_bytes());
            let found = credentials.as_ref().and_then(Credentials::split_once_at_colon);
            assert_eq!(found, expected, "{header}");
        }
    }

    /// A login is checked once in a while, not with every request; another one is checked anew.
    #[tokio::test]
    async fn a_login_is_believed_for_a_while() {
        let gateway = TestGateway::new();
        gateway.add_user("a", b"b:c");
        let access = Access::new(gateway.clone(), false);
        let stranger = access.stranger();
        let client = Client::plain(IpAddr::from([127, 0, 0, 1]));
        let login = async |header: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(text) = header {
                headers.insert(header::AUTHORIZATION, HeaderValue::from_str(text).unwrap());
            }
            client.principal(&access, &stranger, &headers).await
        };
        for _ in 0..3 {
            assert_eq!(login(Some("Basic YTpiOmM=")).await.unwrap().as_str(), "a");
        }
        assert_eq!(gateway.logins(), 1);
        assert_eq!(login(Some("Basic YTpi")).await, Err(LoginRefusal::BadCredentials));
        assert_eq!(login(Some("Bearer x")).await, Err(LoginRefusal::BadCredentials));
        assert_eq!(login(None).await, Err(LoginRefusal::CredentialsRequired));
        assert_eq!(login(Some("Basic YTpiOmM=")).await.unwrap().as_str(), "a");
        assert_eq!(gateway.logins(), 2);
        gateway.remove_user("a");
        assert_eq!(
            login(Some("Basic YTpiOmM=")).await,
            Err(LoginRefusal::BadCredentials),
            "an account that is gone is not believed any more (promises C8)"
        );
    }
}
