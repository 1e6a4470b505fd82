use data_encoding::BASE64URL_NOPAD;
use ring::{
    hmac,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _},
};
use serde_json::{Value, json};

use super::*;

const NOW_S: i64 = 1_800_000_000;

fn now() -> Timestamp {
    Timestamp::from_unix_micros(NOW_S * 1_000_000)
}

fn part(bytes: &[u8]) -> String {
    BASE64URL_NOPAD.encode(bytes)
}

/// An issuer with one key of each kind that ring can make.
struct Desk {
    p256: EcdsaKeyPair,
    ed25519: Ed25519KeyPair,
    random: SystemRandom,
}

impl Desk {
    fn new() -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let p256 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let ed25519 = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        Self {
            p256: EcdsaKeyPair::from_pkcs8(algorithm, p256.as_ref(), &random).unwrap(),
            ed25519: Ed25519KeyPair::from_pkcs8(ed25519.as_ref()).unwrap(),
            random,
        }
    }

    fn key_set(&self) -> Value {
        let point = self.p256.public_key().as_ref();
        json!({"keys": [
            {"kty": "EC", "crv": "P-256", "kid": "p", "alg": "ES256", "x": part(&point[1..33]), "y": part(&point[33..])},
            {"kty": "OKP", "crv": "Ed25519", "kid": "e", "x": part(self.ed25519.public_key().as_ref())},
            {"kty": "oct", "kid": "shared", "k": "c2VjcmV0"},
            {"kty": "EC", "crv": "P-384", "kid": "large", "x": "AA", "y": "AA"},
        ]})
    }

    fn issuers(&self) -> Issuers {
        let keys = KeySet::parse(&self.key_set().to_string()).unwrap();
        Issuers::new([Issuer {
            name: "https://idp.example".into(),
            audience: "tidegate".into(),
            claim: "sub".into(),
            principals: vec![Glob::new("press-*"), Glob::new("anonymous"), Glob::new("uplink:*")],
            keys: Arc::new(KeySource::given(keys)),
        }])
    }

    /// Signs as the header says, with its own key for each algorithm.
    fn sign(&self, header: &Value, claims: &Value) -> String {
        let signed = format!(
            "{}.{}",
            part(header.to_string().as_bytes()),
            part(claims.to_string().as_bytes())
        );
        let bytes = signed.as_bytes();
        let signature = match header["alg"].as_str() {
            Some("ES256") => self.p256.sign(&self.random, bytes).unwrap().as_ref().to_vec(),
            Some("EdDSA" | "Ed25519") => self.ed25519.sign(bytes).as_ref().to_vec(),
            Some("HS256") => {
                // The public key as the secret: a reader that lets the token choose would believe it.
                let key = hmac::Key::new(hmac::HMAC_SHA256, self.p256.public_key().as_ref());
                hmac::sign(&key, bytes).as_ref().to_vec()
            }
            _ => Vec::new(),
        };
        format!("{signed}.{}", part(&signature))
    }
}

fn claims() -> Value {
    json!({"iss": "https://idp.example", "aud": "tidegate", "sub": "press-7", "exp": NOW_S + 60})
}

fn with(mut object: Value, changes: &Value) -> Value {
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(object.as_object_mut().unwrap().remove(name)),
            value => object[name] = value.clone(),
        }
    }
    object
}

/// identity.3: a token that its issuer has signed lets in whom it names, until its end and half a minute longer.
#[test]
fn a_good_token_lets_in() {
    let desk = Desk::new();
    let issuers = desk.issuers();
    for (header, changes, ends) in [
        (json!({"alg": "ES256", "kid": "p"}), json!({}), 60.0),
        (json!({"alg": "EdDSA", "kid": "e"}), json!({"aud": ["x", "tidegate"]}), 60.0),
        (json!({"alg": "Ed25519"}), json!({"nbf": NOW_S + 29, "exp": NOW_S - 29}), -29.0),
        (json!({"alg": "ES256", "typ": "at+jwt"}), json!({"exp": NOW_S as f64 + 1.5}), 1.5),
    ] {
        let token = desk.sign(&header, &with(claims(), &changes));
        let verdict = issuers.verify(token.as_bytes(), now());
        let Verdict::Good(bearer) = verdict else { panic!("{header} {changes}: {verdict:?}") };
        assert_eq!(bearer.principal.as_str(), "press-7");
        let micros = ((ends + 30.0) * 1e6) as i64;
        assert_eq!(bearer.ends.as_unix_micros(), NOW_S * 1_000_000 + micros, "{header}");
        assert!(issuers.origins(&bearer.principal).any(|origin| origin == bearer.origin));
    }
}

/// identity.3: what is wrong with a token is told to those who count, and none of these lets anybody in.
#[test]
fn a_wrong_token_lets_nobody_in() {
    use JwtRefusal as R;
    let desk = Desk::new();
    let issuers = desk.issuers();
    let good = json!({"alg": "ES256", "kid": "p"});
    #[rustfmt::skip]
    let cases = [
        // header                                              claims                               refused for
        (json!({"alg": "none"}),                               json!({}),                           R::Algorithm),
        (json!({"alg": "None", "kid": "p"}),                   json!({}),                           R::Algorithm),
        (json!({"kid": "p"}),                                  json!({}),                           R::Algorithm),
        (json!({"alg": "HS256", "kid": "p"}),                  json!({}),                           R::Algorithm),
        (json!({"alg": "HS256", "kid": "shared"}),             json!({}),                           R::Algorithm),
        (json!({"alg": "ES256", "kid": "p", "crit": ["b64"]}), json!({}),                           R::Algorithm),
        (json!({"alg": "RS256", "kid": "p"}),                  json!({}),                           R::Key),
        (json!({"alg": "EdDSA", "kid": "p"}),                  json!({}),                           R::Key),
        (json!({"alg": "ES256", "kid": "unknown"}),            json!({}),                           R::Key),
        (json!({"alg": "ES256", "kid": 7}),                    json!({}),                           R::Key),
        (good.clone(),                                         json!({"aud": "other"}),             R::Audience),
        (good.clone(),                                         json!({"aud": ["other", 7]}),        R::Audience),
        (good.clone(),                                         json!({"aud": null}),                R::Audience),
        (good.clone(),                                         json!({"exp": null}),                R::Expired),
        (good.clone(),                                         json!({"exp": "1900000000"}),        R::Expired),
        (good.clone(),                                         json!({"exp": NOW_S - 30}),          R::Expired),
        (good.clone(),                                         json!({"exp": -1e300}),              R::Expired),
        (good.clone(),                                         json!({"nbf": NOW_S + 31}),          R::NotYet),
        (good.clone(),                                         json!({"nbf": "soon"}),              R::NotYet),
        (good.clone(),                                         json!({"sub": null}),                R::Name),
        (good.clone(),                                         json!({"sub": 7}),                   R::Name),
        (good.clone(),                                         json!({"sub": "operator"}),          R::Name),
        (good.clone(),                                         json!({"sub": "press-7/#"}),         R::Name),
        (good.clone(),                                         json!({"sub": "anonymous"}),         R::Name),
        (good.clone(),                                         json!({"sub": "uplink:cloud"}),      R::Name),
    ];
    for (header, changes, refusal) in cases {
        let token = desk.sign(&header, &with(claims(), &changes));
        let verdict = issuers.verify(token.as_bytes(), now());
        assert_eq!(verdict, Verdict::Refused(refusal), "{header} {changes}");
    }
    let token = desk.sign(&good, &claims());
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let mut bytes = BASE64URL_NOPAD.decode(signature.as_bytes()).unwrap();
    bytes[3] ^= 1;
    for wrong in [format!("{signed}."), format!("{signed}.{}", part(&bytes))] {
        let verdict = issuers.verify(wrong.as_bytes(), now());
        assert_eq!(verdict, Verdict::Refused(R::Signature), "{wrong}");
    }
    let another = Desk::new().sign(&good, &claims());
    assert_eq!(issuers.verify(another.as_bytes(), now()), Verdict::Refused(R::Signature));
}

/// identity.3: what is no token, too long for one, or of somebody unknown is left to those who know other credentials.
#[test]
fn what_is_no_token_of_an_issuer_is_foreign() {
    let desk = Desk::new();
    let issuers = desk.issuers();
    let header = json!({"alg": "ES256", "kid": "p"});
    let token = desk.sign(&header, &claims());
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let cases = [
        String::new(),
        "..".into(),
        "a.b.c".into(),
        signed.to_owned(),
        format!("{token}.x"),
        format!("{token}="),
        format!("{signed}. {signature}"),
        format!("{}.{}.{signature}", part(b"[]"), part(b"{}")),
        desk.sign(&header, &with(claims(), &json!({"iss": "https://other.example"}))),
        desk.sign(&header, &with(claims(), &json!({"iss": null}))),
        desk.sign(&header, &with(claims(), &json!({"more": "x".repeat(TOKEN_BYTES_MAX)}))),
    ];
    for token in cases {
        assert_eq!(issuers.verify(token.as_bytes(), now()), Verdict::Foreign, "{token}");
    }
    assert_eq!(Issuers::default().verify(token.as_bytes(), now()), Verdict::Foreign);
}

#[test]
fn keys_are_read_or_refused() {
    let desk = Desk::new();
    let set = KeySet::parse(&desk.key_set().to_string()).unwrap();
    assert_eq!(set.len(), 2, "the others are of no use");
    #[rustfmt::skip]
    let cases = [
        ("",                                                   KeysError::Form),
        ("{}",                                                 KeysError::Form),
        ("{\"keys\":[",                                        KeysError::Form),
        ("-----BEGIN PUBLIC KEY-----\n!\n-----END PUBLIC KEY-----", KeysError::Form),
        ("{\"keys\":[]}",                                      KeysError::NoKey),
        ("{\"keys\":[7,{},{\"kty\":\"RSA\",\"n\":\"AQAB\",\"e\":\"AQAB\"}]}", KeysError::NoKey),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", KeysError::NoKey),
    ];
    for (text, error) in cases {
        assert_eq!(KeySet::parse(text), Err(error), "{text}");
    }
    let many = vec![desk.key_set()["keys"][0].clone(); KEYS_MAX + 1];
    assert_eq!(KeySet::parse(&json!({"keys": many}).to_string()), Err(KeysError::TooMany));
}

/// C8: what vouches for a principal is gone with its key, and with the issuer's right to name it.
#[test]
fn an_origin_ends_with_its_key() {
    let desk = Desk::new();
    let token = desk.sign(&json!({"alg": "ES256"}), &claims());
    let verdict = desk.issuers().verify(token.as_bytes(), now());
    let Verdict::Good(bearer) = verdict else { panic!("{verdict:?}") };
    let vouches = |issuers: &Issuers| {
        issuers.origins(&bearer.principal).any(|origin| origin == bearer.origin)
    };
    assert!(vouches(&desk.issuers()), "read anew, it is the same");
    assert!(!vouches(&Desk::new().issuers()));
    let issuer = desk.issuers().iter().next().unwrap().clone();
    assert!(!vouches(&Issuers::new([Issuer {
        principals: vec![Glob::new("x")],
        ..issuer.clone()
    }])));
    assert!(!vouches(&Issuers::new([Issuer { audience: "x".into(), ..issuer }])));
}
