//! Handshakes in memory: who is let in, who is not, and what a replacement changes.

use std::sync::Arc;

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
    date_time_ymd,
};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, ServerConnection};

use tidegate_model::{InvalidPeerName, PeerName, PeerNames};

use super::*;

/// An authority of a plant.
struct TestAuthority(CertifiedIssuer<'static, KeyPair>);

struct Pair {
    chain: String,
    key: String,
}

impl TestAuthority {
    fn new() -> Self {
        Self::named("plant")
    }

    fn named(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::OrganizationName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn trust(&self) -> Trust {
        Trust::from_pem(self.0.pem().as_bytes()).unwrap()
    }

    fn issue(&self, name: &str, serial: u64) -> Pair {
        let mut params = CertificateParams::new([format!("{name}.plant.example")]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationalUnitName, "presses");
        params.serial_number = Some(SerialNumber::from(serial));
        let uri = Ia5String::try_from(format!("urn:plant:{name}")).unwrap();
        params.subject_alt_names.push(SanType::URI(uri));
        params.subject_alt_names.push(SanType::IpAddress("192.0.2.7".parse().unwrap()));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Pair { chain: certificate.pem(), key: key.serialize_pem() }
    }

    fn revoke(&self, serial: u64) -> String {
        self.revoke_until(2099, serial)
    }

    fn revoke_until(&self, year: i32, serial: u64) -> String {
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(year, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.0).unwrap().pem().unwrap()
    }
}

impl Pair {
    fn identity(&self) -> Identity {
        Identity::from_pem(self.chain.as_bytes(), self.key.as_bytes()).unwrap()
    }
}

fn setup(identity: Identity, clients: Clients) -> ServerSetup {
    ServerSetup { identity, others: Vec::new(), clients, protocols: Vec::new() }
}

fn server(pair: &Pair, clients: Clients) -> ServerTls {
    ServerTls::new(setup(pair.identity(), clients)).unwrap()
}

fn client(authority: &TestAuthority, identity: Option<&Pair>) -> Arc<rustls::ClientConfig> {
    let setup = ClientSetup {
        trust: authority.trust(),
        identity: identity.map(Pair::identity),
        protocols: Vec::new(),
    };
    client_config(setup).unwrap()
}

/// Shakes hands for the server `gw.plant.example` and returns whom the server sees.
fn shake_hands(
    server: &ServerTls,
    client: Arc<rustls::ClientConfig>,
) -> Result<Option<PeerNames>, rustls::Error> {
    shake_hands_with("gw.plant.example", server, client)
}

fn shake_hands_with(
    host: &'static str,
    server: &ServerTls,
    client: Arc<rustls::ClientConfig>,
) -> Result<Option<PeerNames>, rustls::Error> {
    let mut server = ServerConnection::new(server.config()).unwrap();
    let name = ServerName::try_from(host).unwrap();
    let mut client = ClientConnection::new(client, name).unwrap();
    for _ in 0..10 {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets()?;
        }
        bytes.clear();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets()?;
        }
    }
    assert!(!server.is_handshaking() && !client.is_handshaking());
    let leaf = server.peer_certificates().and_then(|chain| chain.first());
    Ok(leaf.map(|leaf| names_in(leaf).unwrap()))
}

/// identity.3: every name that a principal can be written for is found, and no other.
#[test]
fn identity_03_a_client_is_known_by_the_names_of_its_certificate() {
    let authority = TestAuthority::new();
    let server = server(&authority.issue("gw", 1), Clients::Certified(authority.trust()));
    let press = authority.issue("press-7", 2);
    let names = shake_hands(&server, client(&authority, Some(&press))).unwrap().unwrap();
    for name in [
        "CN=press-7",
        "cn=press-7",
        "OU=presses",
        "DNS:press-7.plant.example",
        "URI:urn:plant:press-7",
        "IP:192.0.2.7",
    ] {
        assert!(names.contains(&PeerName::new(name).unwrap()), "{name} in {names:?}");
    }
    for name in ["CN=press-70", "CN=press", "CN=PRESS-7", "DNS:press-7", "EMAIL:press-7"] {
        assert!(!names.contains(&PeerName::new(name).unwrap()), "{name}");
    }
}

#[test]
fn what_is_no_name_is_refused() {
    for text in ["", "press-7", "=press-7", "CN=", "C N=x", "MAC:00", ":x", "DNS:"] {
        assert_eq!(PeerName::new(text), Err(InvalidPeerName), "{text}");
    }
}

/// identity.1: certificates are asked for, demanded, or not wanted; those of others are refused.
#[test]
fn identity_01_only_certificates_of_the_plant_are_let_in() {
    let (plant, other) = (TestAuthority::new(), TestAuthority::new());
    let pair = plant.issue("gw", 1);
    let (own, foreign) = (plant.issue("press-7", 2), other.issue("press-7", 2));
    #[rustfmt::skip]
    let cases = [
        // clients                             shown            let in
        (Clients::Anyone,                      None,            true),
        (Clients::Asked(plant.trust()),        None,            true),
        (Clients::Asked(plant.trust()),        Some(&own),      true),
        (Clients::Asked(plant.trust()),        Some(&foreign),  false),
        (Clients::Certified(plant.trust()),    None,            false),
        (Clients::Certified(plant.trust()),    Some(&own),      true),
        (Clients::Certified(plant.trust()),    Some(&foreign),  false),
    ];
    for (clients, shown, let_in) in cases {
        let label = format!("{clients:?}, certificate {}", shown.is_some());
        let server = server(&pair, clients);
        let result = shake_hands(&server, client(&plant, shown));
        assert_eq!(result.is_ok(), let_in, "{label}: {result:?}");
    }
    let impostor = server(&other.issue("gw", 1), Clients::Anyone);
    assert!(shake_hands(&impostor, client(&plant, None)).is_err(), "the client looks too");
    let misnamed = server(&plant.issue("gw-2", 1), Clients::Anyone);
    assert!(shake_hands(&misnamed, client(&plant, None)).is_err(), "at the name as well");
}

/// identity.1: a client is shown the certificate with the name that it asks for, the first one else.
#[test]
fn identity_01_the_name_that_is_asked_for_chooses_the_certificate() {
    let plant = TestAuthority::new();
    let others = ["scada", "*.hall1"].map(|name| plant.issue(name, 2).identity()).to_vec();
    let identity = plant.issue("gw", 1).identity();
    let setup = ServerSetup { others, ..setup(identity, Clients::Anyone) };
    let server = ServerTls::new(setup).unwrap();
    #[rustfmt::skip]
    let cases = [
        ("gw.plant.example",                  true),
        ("scada.plant.example",               true),
        ("SCADA.Plant.example",               true),
        ("press-7.hall1.plant.example",       true),
        ("a.press-7.hall1.plant.example",     false),  // a wildcard stands for one label
        ("hall1.plant.example",               false),
        ("other.plant.example",               false),  // shown the first one, which is not its
    ];
    for (host, fits) in cases {
        let result = shake_hands_with(host, &server, client(&plant, None));
        assert_eq!(result.is_ok(), fits, "{host}: {result:?}");
    }
}

/// identity.1: a revoked certificate is refused, one on no list is not.
#[test]
fn identity_01_what_is_revoked_is_refused() {
    let authority = TestAuthority::new();
    let trust = authority.trust().with_revoked(authority.revoke(2).as_bytes()).unwrap();
    let server = server(&authority.issue("gw", 1), Clients::Certified(trust));
    let (revoked, good) = (authority.issue("press-7", 2), authority.issue("press-8", 3));
    assert!(shake_hands(&server, client(&authority, Some(&revoked))).is_err());
    assert!(shake_hands(&server, client(&authority, Some(&good))).is_ok());
}

/// identity.1: a list that is late, or of somebody else, is told of.
#[test]
fn identity_01_an_odd_revocation_list_is_told_of() {
    let (plant, other) = (TestAuthority::named("plant"), TestAuthority::named("other"));
    let odd =
        |list: &str| plant.trust().with_revoked(list.as_bytes()).unwrap().odd_lists(1_700_000_000);
    assert_eq!(odd(&plant.revoke(2)), []);
    assert_eq!(odd(&plant.revoke_until(2023, 2)), [OddList::Late { since: 1_672_531_200 }]);
    let found = odd(&other.revoke(2));
    assert!(
        matches!(&found[..], [OddList::Foreign { issuer }] if issuer.contains("other")),
        "{found:?}"
    );
}

/// identity.23: a new pair counts from the next handshake on; a wrong one changes nothing.
#[test]
fn identity_23_a_replacement_counts_for_new_handshakes() {
    let (old, new) = (TestAuthority::new(), TestAuthority::new());
    let server = server(&old.issue("gw", 1), Clients::Anyone);
    assert!(shake_hands(&server, client(&old, None)).is_ok());
    let identity = new.issue("gw", 1).identity();
    server.set(ServerPrepared::new(setup(identity, Clients::Anyone)).unwrap());
    assert!(shake_hands(&server, client(&old, None)).is_err());
    assert!(shake_hands(&server, client(&new, None)).is_ok());
}

#[test]
fn a_pair_that_is_none_is_refused() {
    let authority = TestAuthority::new();
    let (one, other) = (authority.issue("a", 1), authority.issue("b", 2));
    let refuse =
        |chain: &str, key: &str| Identity::from_pem(chain.as_bytes(), key.as_bytes()).unwrap_err();
    assert!(matches!(refuse(&one.chain, &other.key), TlsError::Mismatch));
    assert!(matches!(refuse(&one.key, &one.key), TlsError::NoCertificate));
    assert!(matches!(refuse(&one.chain, &one.chain), TlsError::NoKey));
    assert!(matches!(refuse("", ""), TlsError::NoCertificate));
    let broken = one.chain.replace('M', "!");
    assert!(matches!(refuse(&broken, &one.key), TlsError::Pem), "{}", refuse(&broken, &one.key));
    assert!(matches!(Trust::from_pem(b""), Err(TlsError::NoCertificate)));
    assert!(one.identity().not_after() > 0);
}

/// identity.6: what our own authority gives out is believed, for what it is for and no longer than it says.
#[test]
fn an_authority_gives_out_certificates() {
    let validity = Validity { now: 1_700_000_000, days: 20_000 };
    let (_, own) = Authority::create("A plant's authority", validity).unwrap();
    let authority = Authority::from_pem(&own.certificate, &own.key).unwrap();
    let hosts = vec!["gw.plant.example".to_owned(), "192.0.2.1".to_owned()];
    let server = authority.issue("gw", &Purpose::Server(hosts), validity).unwrap();
    let device = authority.issue("press-7", &Purpose::Device, validity).unwrap();
    let identity = |issued: &Issued| {
        Identity::from_pem(issued.certificate.as_bytes(), issued.key.as_bytes()).unwrap()
    };
    assert_eq!(identity(&server).not_after(), 1_700_000_000 + 20_000 * 86_400);
    let names: Vec<String> = identity(&server).names().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["CN=gw", "DNS:gw.plant.example", "IP:192.0.2.1"]);

    let trust = Trust::from_pem(own.certificate.as_bytes()).unwrap();
    let clients = Clients::Certified(trust.clone());
    let tls = |identity: Identity| {
        let clients = clients.clone();
        ServerTls::new(setup(identity, clients)).unwrap()
    };
    let client = |identity: Identity| {
        let (trust, identity) = (trust.clone(), Some(identity));
        client_config(ClientSetup { trust, identity, protocols: Vec::new() }).unwrap()
    };
    let names = shake_hands(&tls(identity(&server)), client(identity(&device))).unwrap().unwrap();
    assert!(names.contains(&PeerName::new("CN=press-7").unwrap()));
    // Neither can stand in for the other.
    assert!(shake_hands(&tls(identity(&server)), client(identity(&server))).is_err());

    // An authority with a longer name than ours have: what we give out would not lead to it.
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::OrganizationName, "Elsewhere");
    let other = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let foreign = Authority::from_pem(&other.pem(), &other.key().serialize_pem()).unwrap();
    let refused = foreign.issue("x", &Purpose::Device, validity);
    assert!(matches!(refused, Err(TlsError::Authority(_))), "{refused:?}");
}

/// identity.7: a key whose line breaks were lost is refused without a byte of it in the message.
#[test]
fn what_is_wrong_with_a_key_does_not_show_it() {
    let pair = TestAuthority::new().issue("press-7", 7);
    let flat = pair.key.replace('\n', " ");
    for text in [flat.as_str(), &pair.key[..60], &format!("-----BEGIN x{}", &pair.key[30..])] {
        let error = Identity::from_pem(pair.chain.as_bytes(), text.as_bytes()).unwrap_err();
        assert!(matches!(error, TlsError::Key(_) | TlsError::NoKey), "{error}");
        let shown = format!("{error} {error:?}");
        assert!(shown.len() < 200 && !shown.contains(char::is_numeric), "{shown}");
    }
    let error = Identity::from_pem(flat.as_bytes(), pair.key.as_bytes()).unwrap_err();
    assert!(!format!("{error} {error:?}").contains(char::is_numeric), "{error}");
}
