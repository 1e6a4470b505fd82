use std::time::Duration;

use tidegate_adapter_api::{Access, Peer};
use tidegate_model::Timestamp;

use super::*;

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
const ELSEWHERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

fn account(name: &str, password: Option<&[u8]>, certificate: Option<&str>) -> Account {
    Account {
        principal: Principal::new(name).unwrap(),
        password_hash: password.map(|password| hash_password(password).unwrap()),
        scram: None,
        certificate: certificate.map(|name| PeerName::new(name).unwrap()),
        tokens: Vec::new(),
    }
}

fn open(accounts: impl IntoIterator<Item = Account>) -> Accounts {
    let throttle = ThrottleSettings { failures: 5, delay_max: Duration::from_secs(60) };
    Accounts::new(accounts, Issuers::default(), throttle)
}

/// Returns as whom a login lets in.
fn name(result: LoginResult) -> Result<String, LoginRefusal> {
    result.map(|login| login.principal.as_str().to_owned())
}

/// main.8: a name and its argon2id hash let in with the right password only.
#[tokio::test]
async fn the_right_password_lets_in() {
    let press = account("press-7", Some(b"secret"), None);
    let hash = press.password_hash.clone().unwrap();
    assert!(hash.starts_with("$argon2id$"), "{hash}");
    let accounts = open([press.clone()]);
    let login =
        async |user: &str, password: &[u8]| name(accounts.login(user, password, HERE).await);
    let refused = Err(LoginRefusal::BadCredentials);
    assert_eq!(login("press-7", b"secret").await, Ok("press-7".into()));
    assert_eq!(login("press-7", b"Secret").await, refused);
    assert_eq!(login("press-8", b"secret").await, refused);
    assert_eq!(login("press-7", &[b'x'; PASSWORD_BYTES_MAX + 1]).await, refused);
    accounts.replace([], Issuers::default());
    assert_eq!(accounts.version(), 1);
    assert_eq!(login("press-7", b"secret").await, refused, "it is not remembered either");
}

/// identity.3: a certificate stands for its principal, alone or beside that principal's password.
#[tokio::test]
async fn a_certificate_lets_in() {
    let seven = account("press-7", Some(b"secret"), Some("CN=press-7"));
    let eight = account("press-8", None, Some("DNS:press-8.plant.example"));
    let access = Access::new(Arc::new(open([seven, eight])), false);
    let who = async |credentials, certificate: &[&str]| {
        let names: PeerNames =
            certificate.iter().map(|name| PeerName::new(name).unwrap()).collect();
        let peer = Peer { address: HERE, certificate: Some(&names) };
        name(access.login_with(credentials, peer).await)
    };
    let refused = Err(LoginRefusal::BadCredentials);
    assert_eq!(who(None, &["OU=presses", "CN=press-7"]).await, Ok("press-7".into()));
    let dns = &["CN=x", "DNS:press-8.plant.example"];
    assert_eq!(who(None, dns).await, Ok("press-8".into()));
    assert_eq!(who(Some(("press-8", &b""[..])), dns).await, Ok("press-8".into()));
    assert_eq!(who(Some(("press-7", &b""[..])), dns).await, refused);
    assert_eq!(who(Some(("press-7", &b"secret"[..])), &["CN=press-7"]).await, Ok("press-7".into()));
    assert_eq!(who(Some(("press-7", &b"secret"[..])), dns).await, refused);
    assert_eq!(who(Some(("press-7", &b"secret"[..])), &["CN=y"]).await, Ok("press-7".into()));
    assert_eq!(who(None, &["CN=y"]).await, Err(LoginRefusal::CredentialsRequired));
}

/// identity.3: a token is its principal's until its end, as a bearer or as the password.
#[tokio::test]
async fn a_token_lets_in_until_its_end() {
    let (good, kept) = Token::generate(None).unwrap();
    let (late, ended) = Token::generate(Some(Timestamp::from_unix_micros(1))).unwrap();
    let scada = Account { tokens: vec![kept, ended], ..account("scada", None, None) };
    let accounts = open([scada, account("press-7", Some(b"secret"), None)]);
    let refused = Err(LoginRefusal::BadCredentials);
    assert_eq!(name(accounts.bearer(good.as_bytes(), HERE)), Ok("scada".into()));
    assert_eq!(name(accounts.bearer(late.as_bytes(), HERE)), refused);
    assert_eq!(name(accounts.bearer(b"tg_x", HERE)), refused);
    let login = async |user, token: &str| name(accounts.login(user, token.as_bytes(), HERE).await);
    assert_eq!(login("scada", &good).await, Ok("scada".into()));
    assert_eq!(login("", &good).await, Ok("scada".into()), "a token tells whose it is");
    assert_eq!(login("press-7", &good).await, refused);
    assert_eq!(login("scada", &late).await, refused);
}

/// identity.8, C9: after five failures nothing is checked for a while, not even the right password; elsewhere it is.
#[tokio::test]
async fn fault_m18_failures_delay_their_address() {
    let accounts =
        open([account("press-7", Some(b"secret"), None), account("press-8", Some(b"other"), None)]);
    let login =
        async |user: &str, password: &[u8], from| name(accounts.login(user, password, from).await);
    let refused = Err(LoginRefusal::BadCredentials);
    for user in ["press-7", "press-8", "nobody", "", "press-7"] {
        assert_eq!(login(user, b"guess", HERE).await, refused);
    }
    for user in ["press-7", "nobody"] {
        let delayed = login(user, b"secret", HERE).await;
        let Err(LoginRefusal::Delayed { retry_after }) = delayed else { panic!("{delayed:?}") };
        assert!(retry_after <= Duration::from_secs(1) && retry_after > Duration::ZERO);
    }
    assert_eq!(login("press-7", b"secret", ELSEWHERE).await, Ok("press-7".into()));
    let told = accounts.to_json();
    assert_eq!(told["refused"]["bad-credentials"], 5);
    assert_eq!(told["refused"]["address-delayed"], 2);
    assert_eq!(told["accepted"]["password"], 1);
    assert_eq!(told["names-with-failures"], 4);
}

/// identity.8: a user who lately logged in from an address is checked there whatever others try.
#[tokio::test]
async fn fault_m18_guesses_do_not_lock_a_known_login_out() {
    let accounts = open([account("press-7", Some(b"secret"), None)]);
    let login = async |password: &[u8], from| name(accounts.login("press-7", password, from).await);
    assert_eq!(login(b"secret", HERE).await, Ok("press-7".into()));
    for _ in 0..5 {
        assert_eq!(login(b"guess", ELSEWHERE).await, Err(LoginRefusal::BadCredentials));
        let others = accounts.login("press-8", b"guess", HERE).await;
        assert_eq!(others, Err(LoginRefusal::BadCredentials));
    }
    assert!(matches!(login(b"secret", ELSEWHERE).await, Err(LoginRefusal::Delayed { .. })));
    assert_eq!(login(b"secret", HERE).await, Ok("press-7".into()));
    assert_eq!(accounts.to_json()["accepted"]["remembered"], 1);
}

/// identity.8: many tries at once do not have more than few checked: those that wait are asked again at their turn.
#[tokio::test]
async fn fault_m18_a_burst_of_guesses_is_not_checked_as_a_whole() {
    let accounts = Arc::new(open([account("press-7", Some(b"secret"), None)]));
    let mut tries = tokio::task::JoinSet::new();
    for number in 0..100_u32 {
        let accounts = Arc::clone(&accounts);
        tries.spawn(async move {
            let guess = number.to_be_bytes();
            accounts.login("press-7", &guess, HERE).await
        });
    }
    let results = tries.join_all().await;
    let checked =
        results.iter().filter(|result| **result == Err(LoginRefusal::BadCredentials)).count();
    // Five, and one for each check that was under way when the next was free; more if checks take longer than delays.
    assert!((5..20).contains(&checked), "{checked} of a hundred were checked");
    let delayed = |result: &&LoginResult| matches!(result, Err(LoginRefusal::Delayed { .. }));
    assert_eq!(results.iter().filter(delayed).count(), 100 - checked);
}

/// identity.8: what was found right is not checked again, by whichever connection; a changed password is.
#[tokio::test]
async fn a_right_password_is_remembered_until_it_changes() {
    let accounts = open([account("press-7", Some(b"secret"), None)]);
    let login = async |password: &[u8]| name(accounts.login("press-7", password, HERE).await);
    for _ in 0..50 {
        assert_eq!(login(b"secret").await, Ok("press-7".into()));
    }
    let told = accounts.to_json();
    assert_eq!(
        (&told["accepted"]["password"], &told["accepted"]["remembered"]),
        (&1.into(), &49.into())
    );
    accounts.replace([account("press-7", Some(b"changed"), None)], Issuers::default());
    assert_eq!(login(b"secret").await, Err(LoginRefusal::BadCredentials));
    assert_eq!(login(b"changed").await, Ok("press-7".into()));
    assert_eq!(accounts.to_json()["accepted"]["password"], 2);
}

/// identity.8: wrong tokens count against their address; right ones, which nobody guesses, are taken all the same, and
/// so are passwords: a program whose token has ended locks out nobody else at its address.
#[tokio::test]
async fn wrong_tokens_delay_their_address() {
    let (good, kept) = Token::generate(None).unwrap();
    let scada = Account { tokens: vec![kept], ..account("scada", Some(b"secret"), None) };
    let accounts = open([scada]);
    for _ in 0..5 {
        assert_eq!(accounts.bearer(b"tg_guess", HERE), Err(LoginRefusal::BadCredentials));
    }
    assert!(matches!(accounts.bearer(b"tg_guess", HERE), Err(LoginRefusal::Delayed { .. })));
    assert_eq!(name(accounts.bearer(good.as_bytes(), HERE)), Ok("scada".into()));
    let told = accounts.to_json();
    assert_eq!(
        (&told["refused"]["bad-token"], &told["refused"]["address-delayed"]),
        (&5.into(), &1.into())
    );
    assert_eq!(told["names-with-failures"], 0);
    assert_eq!(name(accounts.login("scada", b"secret", HERE).await), Ok("scada".into()));
}

/// identity.8: what is remembered waits for nobody, even when all places of the queue are taken.
#[tokio::test]
async fn a_remembered_password_needs_no_place_in_the_queue() {
    let accounts =
        open([account("press-7", Some(b"secret"), None), account("press-8", Some(b"other"), None)]);
    let login =
        async |user: &str, password: &[u8]| name(accounts.login(user, password, HERE).await);
    assert_eq!(login("press-7", b"secret").await, Ok("press-7".into()));
    let network = Network::of(HERE);
    let places: Vec<_> = std::iter::from_fn(|| accounts.checks.enter(network)).collect();
    assert!(!places.is_empty());
    assert_eq!(login("press-8", b"other").await, Err(LoginRefusal::Busy));
    assert_eq!(login("press-7", b"secret").await, Ok("press-7".into()));
}

/// C8: a login is good as long as the same credential would let in.
#[tokio::test]
async fn a_login_is_good_until_its_credential_is_withdrawn() {
    let (token, kept) = Token::generate(None).unwrap();
    let before =
        Account { tokens: vec![kept], ..account("scada", Some(b"secret"), Some("CN=scada")) };
    let accounts = open([before.clone()]);
    let names: PeerNames = [PeerName::new("CN=scada").unwrap()].into_iter().collect();
    let by_password = accounts.login("scada", b"secret", HERE).await.unwrap();
    let by_token = accounts.bearer(token.as_bytes(), HERE).unwrap();
    let by_certificate = accounts.certified(&names).unwrap();
    let good = || [&by_password, &by_token, &by_certificate].map(|login| accounts.is_good(login));
    accounts.replace([before.clone(), account("another", Some(b"x"), None)], Issuers::default());
    assert_eq!(good(), [true; 3]);
    accounts.replace([Account { tokens: Vec::new(), ..before.clone() }], Issuers::default());
    assert_eq!(good(), [true, false, true]);
    // The same password, hashed anew, is another credential.
    accounts.replace([account("scada", Some(b"secret"), Some("CN=scada"))], Issuers::default());
    assert_eq!(good(), [false, false, true]);
    let renamed = Account { certificate: None, ..before.clone() };
    accounts.replace([renamed, account("another", None, Some("CN=scada"))], Issuers::default());
    assert_eq!(good(), [true, true, false], "the certificate is somebody else's now");
    let ended = Login { ends: Some(Timestamp::from_unix_micros(1)), ..by_password.clone() };
    assert!(!accounts.is_good(&ended));
}
