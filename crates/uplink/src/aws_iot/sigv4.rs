//! Signature Version 4 in the URL by which AWS IoT Core is asked for WebSocket frames.
//!
//! By the pages "Device communication protocols" of AWS IoT Core and "Create a signed AWS API request" of AWS Identity and Access
//! Management. A session token is appended behind the signature and no part of what is signed: this service is the exception.

use std::{fmt, sync::Arc};

use data_encoding::HEXLOWER;
use ring::{digest, hmac};
use thiserror::Error;
use tidegate_model::Timestamp;

use crate::percent;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const SERVICE: &str = "iotdevicegateway";
const WORDS_BYTES_MAX: usize = 128;
const SECRET_BYTES_MAX: usize = 256;
const TOKEN_BYTES_MAX: usize = 8_192;

/// What requests are signed with. Its `Debug` form hides what is secret.
#[derive(Clone)]
pub struct SigV4 {
    access_key: Arc<str>,
    secret_key: Arc<str>,
    session_token: Option<Arc<str>>,
    region: Arc<str>,
}

/// What nothing can be signed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SigV4Error {
    /// Not the id of an access key.
    #[error("the id of an access key has 1 to {WORDS_BYTES_MAX} letters and digits")]
    AccessKey,
    /// Not a secret key.
    #[error("a secret key has 1 to {SECRET_BYTES_MAX} printable ASCII characters")]
    SecretKey,
    /// Not a session token.
    #[error("a session token has 1 to {TOKEN_BYTES_MAX} printable ASCII characters")]
    SessionToken,
    /// Not a region.
    #[error("a region has 1 to {WORDS_BYTES_MAX} lower-case letters, digits and -")]
    Region,
}

impl SigV4 {
    /// Takes an access key, and the session token that belongs to it if it is a temporary one.
    ///
    /// # Errors
    ///
    /// [`SigV4Error`].
    pub fn new(
        access_key: &str,
        secret_key: &str,
        session_token: Option<&str>,
        region: &str,
    ) -> Result<Self, SigV4Error> {
        let fits = |text: &str, most: usize, is_taken: fn(u8) -> bool| {
            !text.is_empty() && text.len() <= most && text.bytes().all(is_taken)
        };
        let is_printable = |byte: u8| byte.is_ascii_graphic();
        let is_in_region =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let (secret_key, session_token) = (secret_key.trim(), session_token.map(str::trim));
        if !fits(access_key, WORDS_BYTES_MAX, |byte| byte.is_ascii_alphanumeric()) {
            return Err(SigV4Error::AccessKey);
        }
        if !fits(secret_key, SECRET_BYTES_MAX, is_printable) {
            return Err(SigV4Error::SecretKey);
        }
        if session_token.is_some_and(|token| !fits(token, TOKEN_BYTES_MAX, is_printable)) {
            return Err(SigV4Error::SessionToken);
        }
        if !fits(region, WORDS_BYTES_MAX, is_in_region) {
            return Err(SigV4Error::Region);
        }
        Ok(Self {
            access_key: access_key.into(),
            secret_key: secret_key.into(),
            session_token: session_token.map(Into::into),
            region: region.into(),
        })
    }

    /// Returns the query behind `path` that asks `host` for frames at `now`. `host` is what the header `Host` says.
    pub fn query(&self, host: &str, path: &str, now: Timestamp) -> String {
        let (day, time) = dates(now);
        let scope = format!("{day}/{}/{SERVICE}/aws4_request", self.region);
        let credential = percent::encode(&format!("{}/{scope}", self.access_key));
        let mut query = format!(
            "X-Amz-Algorithm={ALGORITHM}&X-Amz-Credential={credential}&X-Amz-Date={time}&X-Amz-SignedHeaders=host"
        );
        let nothing = hash("");
        let request = format!("GET\n{path}\n{query}\nhost:{host}\n\nhost\n{nothing}");
        let text = format!("{ALGORITHM}\n{time}\n{scope}\n{}", hash(&request));
        let key = signing_key(&self.secret_key, [&day, &self.region, SERVICE, "aws4_request"]);
        let signature = HEXLOWER.encode(hmac::sign(&key, text.as_bytes()).as_ref());
        query.push_str("&X-Amz-Signature=");
        query.push_str(&signature);
        if let Some(token) = &self.session_token {
            query.push_str("&X-Amz-Security-Token=");
            query.push_str(&percent::encode(token));
        }
        query
    }
}

impl fmt::Debug for SigV4 {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SigV4").field("region", &self.region).finish_non_exhaustive()
    }
}

/// Returns the day and the second: `20250102` and `20250102T030405Z`.
fn dates(now: Timestamp) -> (String, String) {
    let text = now.to_string();
    let mut plain: String = text.chars().take(19).filter(|it| !matches!(it, '-' | ':')).collect();
    plain.push('Z');
    (plain.chars().take(8).collect(), plain)
}

fn hash(text: &str) -> String {
    HEXLOWER.encode(digest::digest(&digest::SHA256, text.as_bytes()).as_ref())
}

fn signing_key(secret_key: &str, words: [&str; 4]) -> hmac::Key {
    let first = hmac::Key::new(hmac::HMAC_SHA256, format!("AWS4{secret_key}").as_bytes());
    words.into_iter().fold(first, |key, word| {
        hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, word.as_bytes()).as_ref())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the page "Examples of how to derive a signing key for Signature Version 4" of the AWS General Reference,
    /// told by what a MAC with the key says: keys cannot be looked into.
    #[test]
    fn uplink_21_signing_keys_are_those_of_the_published_examples() {
        for (day, expected) in [
            ("20150830", "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9"),
            ("20120215", "f4780e2d9f65fa895f9c67b32ce1baf0b0d8a43505a000a1a9e090d414db404d"),
        ] {
            let words = [day, "us-east-1", "iam", "aws4_request"];
            let key = signing_key("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", words);
            let expected = HEXLOWER.decode(expected.as_bytes()).unwrap();
            let expected = hmac::Key::new(hmac::HMAC_SHA256, &expected);
            assert_eq!(hmac::sign(&key, b"x").as_ref(), hmac::sign(&expected, b"x").as_ref());
        }
    }

    /// uplink.21: a URL that was signed step by step elsewhere; a session token changes nothing of the signature.
    #[test]
    fn uplink_21_a_url_is_signed() {
        let host = "a1b2c3-ats.iot.eu-central-1.amazonaws.com";
        let signer = |token| {
            SigV4::new("AKIDEXAMPLE", "not-a-real-secret-key", token, "eu-central-1").unwrap()
        };
        // 2025-01-02T03:04:05Z
        let now = Timestamp::from_unix_millis(1_735_787_045_678);
        let expected = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDEXAMPLE%2F20250102%2Feu-central-1%2Fiotdevicegateway%2Faws4_request\
                        &X-Amz-Date=20250102T030405Z&X-Amz-SignedHeaders=host\
                        &X-Amz-Signature=3caa1723e34e757c51134afe90fc84cf94a99a91e6dab32ef6a8a7bd2b455024";
        assert_eq!(signer(None).query(host, "/mqtt", now), expected);
        let with_token = format!("{expected}&X-Amz-Security-Token=a%2Fb%2B%3D");
        assert_eq!(signer(Some("a/b+=\n")).query(host, "/mqtt", now), with_token);
        assert!(!format!("{:?}", signer(Some("a"))).contains("secret-key"));
    }

    #[test]
    fn what_nothing_can_be_signed_with_is_refused() {
        #[rustfmt::skip]
        let cases = [
            ("A/B", "s",   None,      "eu-1", SigV4Error::AccessKey),
            ("",    "s",   None,      "eu-1", SigV4Error::AccessKey),
            ("A",   " ",   None,      "eu-1", SigV4Error::SecretKey),
            ("A",   "s t", None,      "eu-1", SigV4Error::SecretKey),
            ("A",   "s",   Some(""),  "eu-1", SigV4Error::SessionToken),
            ("A",   "s",   None,      "EU",   SigV4Error::Region),
            ("A",   "s",   None,      "",     SigV4Error::Region),
        ];
        for (access_key, secret_key, token, region, expected) in cases {
            let refused = SigV4::new(access_key, secret_key, token, region);
            assert_eq!(refused.map(drop), Err(expected), "{access_key} {secret_key} {region}");
        }
    }
}
