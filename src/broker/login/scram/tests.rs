use std::{net::Ipv4Addr, time::Duration};

use data_encoding::BASE64;
use ring::{
    digest::{SHA256, digest},
    hmac::{HMAC_SHA256, Key, sign},
    pbkdf2::{PBKDF2_HMAC_SHA256, derive},
};
use tidegate_model::{PeerName, PeerNames, Principal};
use tidegate_scram::Verifier;

use super::*;
use crate::{
    broker::{Account, ThrottleSettings},
    jwt::Issuers,
};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const FAILURES: u32 = 5;
const PRESS: Client = Client { name: "press-7", password: "secret" };
const WRONG: Client = Client { name: "press-7", password: "wrong" };

fn account(name: &str, password: &str, certificate: Option<&str>) -> Account {
    let salt: [u8; 16] = name.repeat(16).as_bytes()[..16].try_into().unwrap();
    Account {
        principal: Principal::new(name).unwrap(),
        password_hash: None,
        scram: Some(Verifier::from_password(password, &salt, 4_096).unwrap()),
        certificate: certificate.map(|name| PeerName::new(name).unwrap()),
        tokens: Vec::new(),
    }
}

fn open(accounts: impl IntoIterator<Item = Account>) -> Accounts {
    let throttle = ThrottleSettings { failures: FAILURES, delay_max: Duration::from_secs(60) };
    Accounts::new(accounts, Issuers::default(), throttle)
}

/// A client after RFC 5802, section 3.
struct Client {
    name: &'static str,
    password: &'static str,
}

impl Client {
    fn first(&self) -> String {
        format!("n,,n={},r=abc", self.name)
    }

    fn second(&self, challenge: &str) -> String {
        let parts: Vec<&str> = challenge.split(',').map(|part| &part[2..]).collect();
        let salt = BASE64.decode(parts[1].as_bytes()).unwrap();
        let mut salted = [0; 32];
        let rounds = parts[2].parse().unwrap();
        derive(PBKDF2_HMAC_SHA256, rounds, &salt, self.password.as_bytes(), &mut salted);
        let keyed = |key: &[u8], text: &[u8]| sign(&Key::new(HMAC_SHA256, key), text);
        let client_key = keyed(&salted, b"Client Key");
        let stored_key = digest(&SHA256, client_key.as_ref());
        let without_proof = format!("c=biws,r={}", parts[0]);
        let signed = format!("n={},r=abc,{challenge},{without_proof}", self.name);
        let signature = keyed(stored_key.as_ref(), signed.as_bytes());
        let proof: Vec<u8> =
            signature.as_ref().iter().zip(client_key.as_ref()).map(|(a, b)| a ^ b).collect();
        format!("{without_proof},p={}", BASE64.encode(&proof))
    }

    fn begin(&self, accounts: &Accounts) -> Result<(String, Exchange), ScramRefusal> {
        let (challenge, exchange) = accounts.begin_scram(self.first().as_bytes(), HERE)?;
        Ok((self.second(&challenge), exchange))
    }

    /// Returns as whom the client is let in.
    fn log_in(
        &self,
        accounts: &Accounts,
        certificate: Option<&PeerNames>,
    ) -> Result<String, ScramRefusal> {
        let (second, exchange) = self.begin(accounts)?;
        finish(accounts, exchange, &second, certificate)
    }
}

fn finish(
    accounts: &Accounts,
    exchange: Exchange,
    second: &str,
    certificate: Option<&PeerNames>,
) -> Result<String, ScramRefusal> {
    let peer = Peer { address: HERE, certificate };
    let proven = accounts.finish_scram(exchange, second.as_bytes(), peer)?;
    Ok(proven.login.principal.as_str().to_owned())
}

fn refused() -> Result<String, ScramRefusal> {
    Err(ScramError::Proof.into())
}

/// identity.3: the right password is proven, alone or beside a certificate of the same principal.
#[test]
fn identity_3_a_proof_lets_in_beside_no_certificate_of_another() {
    let accounts = open([
        account("press-7", "secret", Some("CN=press-7")),
        account("press-8", "secret", Some("CN=press-8")),
    ]);
    let certificate = |name: &str| [PeerName::new(name).unwrap()].into_iter().collect();
    let cases: [(Option<PeerNames>, _); 4] = [
        (None, true),
        (Some(certificate("CN=press-7")), true),
        (Some(certificate("CN=unknown")), true),
        (Some(certificate("CN=press-8")), false),
    ];
    for (certificate, is_good) in cases {
        let found = PRESS.log_in(&accounts, certificate.as_ref());
        let expected = if is_good { Ok("press-7".to_owned()) } else { refused() };
        assert_eq!(found, expected, "{certificate:?}");
    }
}

/// identity.3: a wrong password, an unknown name and one without SCRAM are told in the same words.
#[test]
fn identity_3_names_cannot_be_told_apart() {
    let plain = Account { scram: None, ..account("plain", "secret", None) };
    let accounts = open([account("press-7", "secret", None), plain]);
    let shape = |name| {
        let first = Client { name, password: "" }.first();
        let (challenge, _) = accounts.begin_scram(first.as_bytes(), HERE).unwrap();
        let parts: Vec<&str> = challenge.split(',').collect();
        (parts[0].len(), parts[1].to_owned(), parts[2].to_owned())
    };
    let (nonce, salt, rounds) = shape("press-7");
    for name in ["plain", "nobody"] {
        let found = shape(name);
        assert_eq!(found, shape(name), "the same salt each time");
        assert_eq!((found.0, found.1.len(), &found.2), (nonce, salt.len(), &rounds));
        assert_ne!(found.1, salt);
        assert_eq!(Client { name, password: "secret" }.log_in(&accounts, None), refused());
    }
    assert_eq!(WRONG.log_in(&accounts, None), refused());
}

/// identity.3: what was changed or removed while the client worked is not believed any more, nor is what it began.
#[test]
fn identity_3_an_exchange_ends_with_the_account_it_began_with() {
    let accounts = open([account("press-7", "secret", None)]);
    let (second, exchange) = PRESS.begin(&accounts).unwrap();
    accounts.replace([account("press-7", "new", None)], Issuers::default());
    assert_eq!(finish(&accounts, exchange, &second, None), refused());

    accounts.replace([account("press-7", "secret", None)], Issuers::default());
    let (second, exchange) = PRESS.begin(&accounts).unwrap();
    let peer = Peer { address: HERE, certificate: None };
    let (early, other) = PRESS.begin(&accounts).unwrap();
    let login = accounts.finish_scram(other, early.as_bytes(), peer).unwrap().login;
    assert!(accounts.has(&login.principal, login.credential));
    accounts.replace([], Issuers::default());
    assert_eq!(finish(&accounts, exchange, &second, None), refused());
    assert!(!accounts.has(&login.principal, login.credential), "its connection is cut");
}

/// identity.8, M18: wrong proofs are delayed like wrong passwords, also those of exchanges that were begun before.
#[test]
fn fault_m18_wrong_proofs_are_delayed() {
    let accounts = open([account("press-7", "secret", None)]);
    let begun: Vec<_> = (0..20).map(|_| WRONG.begin(&accounts).unwrap()).collect();
    let right = PRESS.begin(&accounts).unwrap();
    let ends: Vec<_> = begun
        .into_iter()
        .map(|(second, exchange)| finish(&accounts, exchange, &second, None))
        .collect();
    let is_delayed = |end: &Result<String, ScramRefusal>| {
        matches!(end, Err(ScramRefusal::Login(LoginRefusal::Delayed { .. })))
    };
    let checked = ends.iter().filter(|end| **end == refused()).count();
    assert_eq!(checked, FAILURES as usize, "{ends:?}");
    assert_eq!(ends.iter().filter(|end| is_delayed(end)).count(), 20 - checked);
    assert!(is_delayed(&finish(&accounts, right.1, &right.0, None)));
    assert!(is_delayed(&PRESS.log_in(&accounts, None)), "nothing begins, either");
}
