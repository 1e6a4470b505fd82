//! Public keys of an issuer: from a JSON Web Key Set (RFC 7517) or PEM, each good for its own algorithms only.

use ring::{
    digest::{Context, SHA256},
    signature::{
        ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256,
        RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
    },
};
use rustls::pki_types::{SubjectPublicKeyInfoDer, pem::PemObject as _};
use serde_json::Value;
use thiserror::Error;
use x509_cert::{
    der::{Decode as _, asn1::ObjectIdentifier},
    spki::SubjectPublicKeyInfoRef,
};

use data_encoding::BASE64URL_NOPAD;

/// Most keys of an issuer: a token that names none is tried with each of its kind.
pub const KEYS_MAX: usize = 32;

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const ED: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// Bytes of a point of P-256: uncompressed, two numbers.
const P256_POINT_BYTES: usize = 65;
const P256_NUMBER_BYTES: usize = 32;
const ED25519_BYTES: usize = 32;
/// The shortest RSA modulus that is taken: 2,048 bits.
const RSA_MODULUS_BYTES_MIN: usize = 256;

/// An algorithm of signatures that is taken; what needs a shared secret, and `none`, is not among them. Complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RSA with PKCS #1 v1.5 padding, and SHA-256.
    Rs256,
    /// RSA with PSS padding, and SHA-256.
    Ps256,
    /// ECDSA on P-256, with SHA-256.
    Es256,
    /// EdDSA on Ed25519.
    EdDsa,
}

impl Algorithm {
    /// Reads the name of an algorithm (RFC 7518, RFC 8037, RFC 9864).
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Self::Rs256),
            "PS256" => Some(Self::Ps256),
            "ES256" => Some(Self::Es256),
            "EdDSA" | "Ed25519" => Some(Self::EdDsa),
            _ => None,
        }
    }
}

/// Why there are no keys in a text.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeysError {
    /// It is neither JSON nor PEM.
    #[error("it is neither a JSON Web Key Set nor a public key in PEM")]
    Form,
    /// None of its keys can be used.
    #[error("it has no key for RS256, PS256, ES256 or EdDSA")]
    NoKey,
    /// It has too many keys.
    #[error("it has more than {KEYS_MAX} keys")]
    TooMany,
}

/// The keys of an issuer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeySet {
    keys: Vec<Key>,
}

/// One public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// By which name tokens ask for it; any may be signed by a key without one.
    id: Option<String>,
    /// The only algorithm it is for, if its issuer says so.
    only: Option<Algorithm>,
    public: Public,
    thumbprint: [u8; 32],
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Public {
    /// A modulus and an exponent.
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// Both in the form of PKCS #1.
    RsaDer(Vec<u8>),
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

impl KeySet {
    /// Reads a key set in JSON, or public keys in PEM. Keys of other kinds and for other uses are left out.
    ///
    /// # Errors
    ///
    /// [`KeysError`] if there is no key that can be used, or too many.
    pub fn parse(text: &str) -> Result<Self, KeysError> {
        let keys: Vec<Key> = if text.trim_start().starts_with('{') {
            let set: Value = serde_json::from_str(text).map_err(|_| KeysError::Form)?;
            let keys = set.get("keys").and_then(Value::as_array).ok_or(KeysError::Form)?;
            keys.iter().filter_map(Key::from_jwk).collect()
        } else {
            let found: Result<Vec<_>, _> =
                SubjectPublicKeyInfoDer::pem_slice_iter(text.as_bytes()).collect();
            let found = found.map_err(|_| KeysError::Form)?;
            if found.is_empty() {
                return Err(KeysError::Form);
            }
            found.iter().filter_map(|info| Key::from_info(info)).collect()
        };
        match keys.len() {
            0 => Err(KeysError::NoKey),
            1..=KEYS_MAX => Ok(Self { keys }),
            _ => Err(KeysError::TooMany),
        }
    }

    /// Returns how many there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Returns whether there is none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Returns all keys.
    pub fn iter(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter()
    }

    /// Returns the keys that may have made a signature of this algorithm, if the token names the key `id`.
    pub(super) fn candidates(
        &self,
        algorithm: Algorithm,
        id: Option<&str>,
    ) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(move |key| {
            let is_named = match (id, key.id.as_deref()) {
                (Some(wanted), Some(id)) => wanted == id,
                _ => true,
            };
            is_named && key.is_for(algorithm)
        })
    }
}

impl Key {
    /// Returns what tells the key from all others.
    pub fn thumbprint(&self) -> &[u8; 32] {
        &self.thumbprint
    }

    fn new(id: Option<String>, only: Option<Algorithm>, public: Public) -> Self {
        let mut context = Context::new(&SHA256);
        let (kind, parts): (u8, [&[u8]; 2]) = match &public {
            Public::Rsa { n, e } => (0, [n, e]),
            Public::RsaDer(der) => (1, [der, b""]),
            Public::P256(point) => (2, [point, b""]),
            Public::Ed25519(point) => (3, [point, b""]),
        };
        context.update(&[kind]);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let digest = context.finish();
        let thumbprint = digest.as_ref().try_into().expect("SHA-256 has 32 bytes");
        Self { id, only, public, thumbprint }
    }

    fn from_jwk(jwk: &Value) -> Option<Self> {
        let text = |member: &str| jwk.get(member).and_then(Value::as_str);
        if text("use").is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        if let Some(operations) = jwk.get("key_ops").and_then(Value::as_array)
            && !operations.iter().any(|operation| operation == "verify")
        {
            return None;
        }
        let only = match text("alg") {
            Some(name) => Some(Algorithm::from_name(name)?),
            None => None,
        };
        let number = |member: &str| BASE64URL_NOPAD.decode(text(member)?.as_bytes()).ok();
        let public = match (text("kty")?, text("crv")) {
            ("RSA", _) => {
                let (n, e) = (without_zeros(number("n")?), without_zeros(number("e")?));
                (n.len() >= RSA_MODULUS_BYTES_MIN).then_some(Public::Rsa { n, e })?
            }
            ("EC", Some("P-256")) => {
                let (x, y) = (number("x")?, number("y")?);
                let fits = x.len() == P256_NUMBER_BYTES && y.len() == P256_NUMBER_BYTES;
                fits.then(|| Public::P256([&[4], &x[..], &y].concat()))?
            }
            ("OKP", Some("Ed25519")) => {
                let x = number("x")?;
                (x.len() == ED25519_BYTES).then_some(Public::Ed25519(x))?
            }
            _ => return None,
        };
        let key = Self::new(text("kid").map(str::to_owned), only, public);
        only.is_none_or(|only| key.is_for(only)).then_some(key)
    }

    fn from_info(info: &[u8]) -> Option<Self> {
        let info = SubjectPublicKeyInfoRef::from_der(info).ok()?;
        let bytes = info.subject_public_key.as_bytes()?.to_vec();
        let parameters = info.algorithm.parameters;
        let public = match info.algorithm.oid {
            RSA => (bytes.len() > RSA_MODULUS_BYTES_MIN).then_some(Public::RsaDer(bytes))?,
            EC => {
                let curve = parameters?.decode_as::<ObjectIdentifier>().ok()?;
                let fits = curve == P256 && bytes.len() == P256_POINT_BYTES;
                fits.then_some(Public::P256(bytes))?
            }
            ED => (bytes.len() == ED25519_BYTES).then_some(Public::Ed25519(bytes))?,
            _ => return None,
        };
        Some(Self::new(None, None, public))
    }

    /// A key is never used for another algorithm than its own: what else it is has no say in that.
    fn is_for(&self, algorithm: Algorithm) -> bool {
        let fits = match self.public {
            Public::Rsa { .. } | Public::RsaDer(_) => {
                matches!(algorithm, Algorithm::Rs256 | Algorithm::Ps256)
            }
            Public::P256(_) => algorithm == Algorithm::Es256,
            Public::Ed25519(_) => algorithm == Algorithm::EdDsa,
        };
        fits && self.only.is_none_or(|only| only == algorithm)
    }

    /// Returns whether a signature is this key's.
    pub(super) fn verifies(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        if !self.is_for(algorithm) {
            return false;
        }
        let rsa = if algorithm == Algorithm::Ps256 {
            &RSA_PSS_2048_8192_SHA256
        } else {
            &RSA_PKCS1_2048_8192_SHA256
        };
        let verify = |algorithm: &'static dyn VerificationAlgorithm, key: &[u8]| {
            UnparsedPublicKey::new(algorithm, key).verify(signed, signature)
        };
        let verified = match &self.public {
            Public::Rsa { n, e } => RsaPublicKeyComponents { n, e }.verify(rsa, signed, signature),
            Public::RsaDer(der) => verify(rsa, der),
            Public::P256(point) => verify(&ECDSA_P256_SHA256_FIXED, point),
            Public::Ed25519(point) => verify(&ED25519, point),
        };
        verified.is_ok()
    }
}

/// Some issuers write numbers with zeros in front.
fn without_zeros(mut number: Vec<u8>) -> Vec<u8> {
    let zeros = number.iter().take_while(|&&byte| byte == 0).count();
    number.drain(..zeros);
    number
}
