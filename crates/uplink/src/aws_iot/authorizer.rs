//! Custom authorizers: a function of the service's user that decides who is let in.
//!
//! By the pages "Connecting to AWS IoT Core by using custom authentication" and "Creating and managing custom authorizers"; the
//! lengths are those of the service's interface (`CreateAuthorizer`, `TestInvokeAuthorizer`).

use std::{fmt, sync::Arc};

use data_encoding::BASE64;
use thiserror::Error;

use crate::percent;

const NAME: &str = "x-amz-customauthorizer-name";
const SIGNATURE: &str = "x-amz-customauthorizer-signature";
const NAME_BYTES_MAX: usize = 128;
const TOKEN_BYTES_MAX: usize = 6_144;
const SIGNATURE_BYTES_MAX: usize = 2_560;

/// Which authorizer is asked, and what it is told beside user name and password. Its `Debug` form hides what is secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomAuthorizer {
    name: Option<Arc<str>>,
    token: Option<AuthorizerToken>,
}

/// What stands under the authorizer's token key, and the signature that the service looks at before it asks.
#[derive(Clone, PartialEq, Eq)]
pub struct AuthorizerToken {
    key: Arc<str>,
    value: Arc<str>,
    signature: Option<Arc<str>>,
}

/// What an authorizer would not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AuthorizerError {
    /// Not a name.
    #[error("an authorizer's name has 1 to {NAME_BYTES_MAX} letters, digits and _ = , @ -")]
    Name,
    /// Not a key.
    #[error("a token key has 1 to {NAME_BYTES_MAX} letters, digits, - and _")]
    Key,
    /// Not a token.
    #[error("a token has 1 to {TOKEN_BYTES_MAX} printable ASCII characters")]
    Token,
    /// Not a signature.
    #[error("a token's signature is Base64 of at most {SIGNATURE_BYTES_MAX} characters")]
    Signature,
}

impl AuthorizerToken {
    /// Takes a token under its key, with its signature where the authorizer wants one.
    ///
    /// # Errors
    ///
    /// [`AuthorizerError`] for what cannot be said in a header as well as in a user name.
    pub fn new(key: &str, value: &str, signature: Option<&str>) -> Result<Self, AuthorizerError> {
        if !is_made_of(key, NAME_BYTES_MAX, |byte| byte == b'-' || byte == b'_') {
            return Err(AuthorizerError::Key);
        }
        let value = value.trim();
        let is_value = !value.is_empty()
            && value.len() <= TOKEN_BYTES_MAX
            && value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        if !is_value {
            return Err(AuthorizerError::Token);
        }
        let signature = signature.map(str::trim);
        let is_signature = |text: &str| {
            text.len() <= SIGNATURE_BYTES_MAX
                && BASE64.decode(text.as_bytes()).is_ok_and(|bytes| !bytes.is_empty())
        };
        if signature.is_some_and(|text| !is_signature(text)) {
            return Err(AuthorizerError::Signature);
        }
        Ok(Self { key: key.into(), value: value.into(), signature: signature.map(Into::into) })
    }
}

impl fmt::Debug for AuthorizerToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("AuthorizerToken").field("key", &self.key).finish_non_exhaustive()
    }
}

impl CustomAuthorizer {
    /// Takes an authorizer; without a name it is the one that the account, or the domain, asks anyway.
    ///
    /// # Errors
    ///
    /// [`AuthorizerError::Name`].
    pub fn new(
        name: Option<&str>,
        token: Option<AuthorizerToken>,
    ) -> Result<Self, AuthorizerError> {
        let is_name =
            |name: &str| is_made_of(name, NAME_BYTES_MAX, |byte| b"_=,@-".contains(&byte));
        if name.is_some_and(|name| !is_name(name)) {
            return Err(AuthorizerError::Name);
        }
        Ok(Self { name: name.map(Into::into), token })
    }

    /// Returns what is said beside the login, by name, unencoded.
    fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        let name = self.name.as_deref().map(|name| (NAME, name));
        let signature = self.token.as_ref().and_then(|token| token.signature.as_deref());
        let signature = signature.map(|signature| (SIGNATURE, signature));
        let token = self.token.as_ref().map(|token| (&*token.key, &*token.value));
        [name, signature, token].into_iter().flatten()
    }

    /// Returns the user name of CONNECT: the user's own, and behind it what the authorizer is told, encoded as in a URL.
    pub fn user_name(&self, own: &str) -> String {
        let mut user_name = own.to_owned();
        for (number, (name, value)) in self.pairs().enumerate() {
            user_name.push(if number == 0 { '?' } else { '&' });
            user_name.push_str(name);
            user_name.push('=');
            user_name.push_str(&percent::encode(value));
        }
        user_name
    }

    /// Returns the headers that say the same when WebSocket frames are asked for.
    pub fn headers(&self) -> Vec<(String, String)> {
        self.pairs().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }
}

/// Returns whether a text has 1 to `most` letters, digits, and bytes that are `also` taken.
fn is_made_of(text: &str, most: usize, also: impl Fn(u8) -> bool) -> bool {
    let is_taken = |byte: u8| byte.is_ascii_alphanumeric() || also(byte);
    !text.is_empty() && text.len() <= most && text.bytes().all(is_taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// uplink.21: what an authorizer is told, in a user name and in headers.
    #[test]
    fn uplink_21_a_custom_authorizer_is_told_by_user_name_or_headers() {
        let token = AuthorizerToken::new("token", "a b&c=d", Some("YWI+/w==\n")).unwrap();
        let both = CustomAuthorizer::new(Some("plant"), Some(token.clone())).unwrap();
        assert_eq!(
            both.user_name("gw"),
            "gw?x-amz-customauthorizer-name=plant&x-amz-customauthorizer-signature=YWI%2B%2Fw%3D%3D&token=a%20b%26c%3Dd"
        );
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let expected = [
            pair("x-amz-customauthorizer-name", "plant"),
            pair("x-amz-customauthorizer-signature", "YWI+/w=="),
            pair("token", "a b&c=d"),
        ];
        assert_eq!(both.headers(), expected);
        let unnamed = CustomAuthorizer::new(None, None).unwrap();
        assert_eq!((unnamed.user_name("gw"), unnamed.headers()), ("gw".to_owned(), Vec::new()));
        let unsigned = AuthorizerToken::new("token", "t", None).unwrap();
        let unsigned = CustomAuthorizer::new(None, Some(unsigned)).unwrap();
        assert_eq!(unsigned.user_name(""), "?token=t");
        assert!(!format!("{both:?}").contains("a b&c=d"));
    }

    #[test]
    fn what_an_authorizer_would_not_take_is_refused() {
        use AuthorizerError::{Key, Name, Signature, Token};
        let long = "x".repeat(129);
        for name in ["", "a b", "a/b", &long] {
            assert_eq!(CustomAuthorizer::new(Some(name), None), Err(Name), "{name}");
        }
        let longer = "x".repeat(6_145);
        #[rustfmt::skip]
        let cases = [
            ("",      "t",      None,            Key),
            ("a=b",   "t",      None,            Key),
            (&*long,  "t",      None,            Key),
            ("k",     "",       None,            Token),
            ("k",     "a\r\nb", None,            Token),
            ("k",     "ü",      None,            Token),
            ("k",     &*longer, None,            Token),
            ("k",     "t",      Some(""),        Signature),
            ("k",     "t",      Some("no base"), Signature),
        ];
        for (key, value, signature, expected) in cases {
            let refused = AuthorizerToken::new(key, value, signature);
            assert_eq!(refused, Err(expected), "{key} {value} {signature:?}");
        }
    }
}
