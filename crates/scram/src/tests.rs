//! The exchange, as the standards and a client have it.

use data_encoding::BASE64;
use proptest::prelude::*;
use ring::pbkdf2::{PBKDF2_HMAC_SHA256, derive};

use crate::{
    ClientFirst, Decoys, Exchange, ITERATIONS_DEFAULT, InvalidVerifier, MESSAGE_BYTES_MAX,
    PasswordError, ScramError, Verifier,
    verifier::{hash, sign},
};

const RANDOM: &[u8; 24] = b"twenty-four random bytes";

fn verifier(password: &str) -> Verifier {
    Verifier::from_password(password, b"sixteen of salt!", 4_096).unwrap()
}

fn begin(message: &str, password: &str) -> (String, Exchange) {
    ClientFirst::parse(message.as_bytes()).unwrap().challenge(verifier(password), RANDOM)
}

/// A client, written after RFC 5802, section 3: returns its second message and what it expects of the server.
fn answer(header: &str, bare: &str, challenge: &str, password: &str) -> (String, String) {
    let mut parts = challenge.split(',').map(|part| &part[2..]);
    let (nonce, salt, rounds) =
        (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
    let salt = BASE64.decode(salt.as_bytes()).unwrap();
    let mut salted = [0; 32];
    let rounds = rounds.parse().unwrap();
    derive(PBKDF2_HMAC_SHA256, rounds, &salt, password.as_bytes(), &mut salted);
    let without_proof = format!("c={},r={nonce}", BASE64.encode(header.as_bytes()));
    let signed = format!("{bare},{challenge},{without_proof}");
    let client_key = sign(&salted, &[b"Client Key"]);
    let mut proof = sign(&hash(&client_key), &[signed.as_bytes()]);
    proof.iter_mut().zip(client_key).for_each(|(byte, key)| *byte ^= key);
    let server_key = sign(&salted, &[b"Server Key"]);
    let expected = format!("v={}", BASE64.encode(&sign(&server_key, &[signed.as_bytes()])));
    (format!("{without_proof},p={}", BASE64.encode(&proof)), expected)
}

/// RFC 7677, section 3, word for word.
#[test]
fn identity_3_the_example_of_the_standard() {
    let salt = BASE64.decode(b"W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
    let verifier = Verifier::from_password("pencil", &salt.try_into().unwrap(), 4_096).unwrap();
    let first = ClientFirst::parse(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO").unwrap();
    assert_eq!(first.name(), "user");
    // The standard's server adds other characters than Base64 has.
    let nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    let (_, mut exchange) = first.challenge(verifier, RANDOM);
    exchange.nonce_for_test(nonce);
    let server_final = exchange.finish(
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
          p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
    );
    assert_eq!(server_final, Ok("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=".to_owned()));
}

#[test]
fn identity_3_the_right_password_is_proven_both_ways() {
    #[rustfmt::skip]
    let cases = [
        // header          bare                        name
        ("n,,",            "n=press-7,r=abc",          "press-7"),
        ("y,,",            "n=press-7,r=abc",          "press-7"),
        ("n,a=press-7,",   "n=press-7,r=abc",          "press-7"),
        ("n,a=a=2Cb,",     "n=a=2Cb,r=abc",            "a,b"),
        ("n,,",            "n=a=3D=2C,r=abc",          "a=,"),
        ("n,,",            "n=hall 1,r=a,x=later",     "hall 1"),
    ];
    for (header, bare, name) in cases {
        let (challenge, exchange) = begin(&format!("{header}{bare}"), "secret word");
        assert_eq!(exchange.name(), name);
        let nonce = bare.split(',').nth(1).unwrap();
        assert!(challenge.starts_with(nonce) && challenge.len() > nonce.len() + 32, "{challenge}");
        let (second, expected) = answer(header, bare, &challenge, "secret word");
        assert_eq!(exchange.finish(second.as_bytes()), Ok(expected), "{header}{bare}");

        let (challenge, exchange) = begin(&format!("{header}{bare}"), "secret word");
        let (second, _) = answer(header, bare, &challenge, "Secret word");
        assert_eq!(exchange.finish(second.as_bytes()), Err(ScramError::Proof), "{header}{bare}");
    }
}

#[test]
fn identity_3_first_messages_that_are_refused() {
    use ScramError as E;
    let long = format!("n,,n=u,r={}", "x".repeat(MESSAGE_BYTES_MAX));
    #[rustfmt::skip]
    let cases = [
        ("",                              E::Malformed),
        ("n",                             E::Malformed),
        ("n,,",                           E::Malformed),
        ("x,,n=u,r=a",                    E::Malformed),
        ("n,b=u,n=u,r=a",                 E::Malformed),
        ("p=tls-exporter,,n=u,r=a",       E::ChannelBinding),
        ("n,a=other,n=u,r=a",             E::AuthorizationIdentity),
        ("n,a=,n=u,r=a",                  E::Name),
        ("n,,m=x,n=u,r=a",                E::Extension),
        ("n,,n=u,r=a,m=x",                E::Extension),
        ("n,,n=,r=a",                     E::Name),
        ("n,,n=a=2cb,r=a",                E::Name),
        ("n,,n=a=,r=a",                   E::Name),
        ("n,,r=a,n=u",                    E::Malformed),
        ("n,,n=u",                        E::Malformed),
        ("n,,n=u,r=",                     E::Malformed),
        ("n,,n=u,r=a b",                  E::Malformed),
        ("n,,n=u,r=é",                    E::Malformed),
        ("n,,n=u\0,r=a",                  E::Malformed),
        ("n,,n=u,r=a,",                   E::Malformed),
        ("n,,n=u,r=a,1=x",                E::Malformed),
        (&long,                           E::TooLong),
    ];
    for (message, expected) in cases {
        let found = ClientFirst::parse(message.as_bytes());
        assert_eq!(found, Err(expected), "{message}");
    }
    assert_eq!(ClientFirst::parse(b"n,,n=\xFF,r=a"), Err(E::Malformed));
}

#[test]
fn identity_3_second_messages_that_are_refused() {
    use ScramError as E;
    let bare = "n=u,r=abc";
    let finish = |change: &dyn Fn(String) -> String| {
        let (challenge, exchange) = begin(&format!("n,,{bare}"), "secret");
        let (second, _) = answer("n,,", bare, &challenge, "secret");
        exchange.finish(change(second).as_bytes()).map(|_| ())
    };
    assert_eq!(finish(&|second| second), Ok(()));
    let cases: [(&dyn Fn(String) -> String, ScramError); 12] = [
        (&|_| String::new(), E::Malformed),
        (&|second| second.replace("c=biws", "c=eSws"), E::ChannelBindingMismatch), // y,,
        (&|second| second.replace("c=biws", "c=biwsAA=="), E::ChannelBindingMismatch),
        (&|second| second.replace("c=biws", "c=biw"), E::Malformed),
        (&|second| second.replace("c=biws,", ""), E::Malformed),
        (&|second| second.replace("r=abc", "r=abd"), E::Nonce),
        (&|second| second.replace(",p=", "x,p="), E::Nonce),
        (&|second| second.replace(",p=", ",m=1,p="), E::Extension),
        (&|second| second.replace(",p=", ",x=1,p="), E::Proof), // it was not signed
        (&|second| second.replace(",p=", ",p=AAAA"), E::Malformed),
        (&|second| second.split(",p=").next().unwrap().to_owned(), E::Malformed),
        (&|second| format!("{}{second}", "x".repeat(MESSAGE_BYTES_MAX)), E::TooLong),
    ];
    for (index, (change, expected)) in cases.into_iter().enumerate() {
        assert_eq!(finish(change), Err(expected), "case {index}");
    }
}

/// A second message that was listened to is worth nothing in the next exchange.
#[test]
fn identity_3_a_replayed_message_is_refused() {
    let bare = "n=u,r=abc";
    let (challenge, exchange) = begin(&format!("n,,{bare}"), "secret");
    let (second, _) = answer("n,,", bare, &challenge, "secret");
    assert!(exchange.finish(second.as_bytes()).is_ok());
    let first = ClientFirst::parse(format!("n,,{bare}").as_bytes()).unwrap();
    let (_, next) = first.challenge(verifier("secret"), b"other  random bytes, new");
    assert_eq!(next.finish(second.as_bytes()), Err(ScramError::Nonce));
}

#[test]
fn a_verifier_is_kept_as_a_line() {
    let kept = verifier("secret");
    let line = kept.to_string();
    assert!(line.starts_with("SCRAM-SHA-256$4096:c2l4dGVlbiBvZiBzYWx0IQ==$"), "{line}");
    assert_eq!(line.parse(), Ok(kept.clone()));
    assert_eq!(format!("{kept:?}"), "Verifier(…)");
    for (from, to) in [
        ("SCRAM-SHA-256", "SCRAM-SHA-1"),
        ("$4096:", "$4095:"),
        ("$4096:", "$+4096:"),
        ("$4096:", "$10000001:"),
        ("$4096:", "$99999999999:"),
        ("c2l4dGVlbiBvZiBzYWx0IQ==", ""),
        ("c2l4dGVlbiBvZiBzYWx0IQ==", "c2l4dGVlbg"),
        ("=:", "="),
        ("=:", ":"),
    ] {
        let wrong = line.replacen(from, to, 1);
        assert_ne!(wrong, line);
        assert_eq!(wrong.parse::<Verifier>(), Err(InvalidVerifier), "{wrong}");
    }
    assert_eq!(format!("{line}=").parse::<Verifier>(), Err(InvalidVerifier));
}

#[test]
fn passwords_that_clients_could_write_in_several_ways_are_refused() {
    let make = |password: &str, rounds| {
        Verifier::from_password(password, b"sixteen of salt!", rounds).map(|made| made.iterations())
    };
    assert_eq!(make(" !~az09\"", 4_096), Ok(4_096));
    assert_eq!(make("", 4_096), Err(PasswordError::Empty));
    for password in ["naïve", "tab\t", "x\u{AD}", "nul\0"] {
        assert_eq!(make(password, 4_096), Err(PasswordError::NotAscii), "{password:?}");
    }
    assert_eq!(make("x", 4_095), Err(PasswordError::Iterations));
    assert_eq!(make("x", 0), Err(PasswordError::Iterations));
}

/// Names that are not there look like those that are: the same answer each time, with common rounds and salts.
#[test]
fn identity_3_decoys_look_like_what_is_there() {
    let few = Verifier { iterations: 10_000, ..verifier("a") };
    let short = Verifier { iterations: 20_000, salt: vec![1; 12], ..verifier("b") };
    let decoys = Decoys::new([7; 32], [&few, &short, &short]);
    let mut seen = [0, 0];
    for number in 0..300 {
        let name = format!("press-{number}");
        let decoy = decoys.of(&name);
        assert_eq!(decoy, decoys.of(&name));
        match (decoy.iterations, decoy.salt.len()) {
            (10_000, 16) => seen[0] += 1,
            (20_000, 12) => seen[1] += 1,
            other => panic!("{other:?}"),
        }
        assert_ne!(decoy.salt, decoys.of("x").salt);
        assert_ne!(decoy.salt[..12], Decoys::new([8; 32], [&few]).of(&name).salt[..12]);
    }
    assert!(seen[0] > 50 && seen[1] > 150, "as common as the real ones: {seen:?}");
    assert_eq!(Decoys::new([7; 32], []).of("x").iterations, ITERATIONS_DEFAULT);

    let (bare, header) = ("n=nobody,r=abc", "n,,");
    let first = ClientFirst::parse(format!("{header}{bare}").as_bytes()).unwrap();
    let (challenge, exchange) = first.challenge(decoys.of("nobody"), RANDOM);
    let (second, _) = answer(header, bare, &challenge, "secret");
    assert_eq!(exchange.finish(second.as_bytes()), Err(ScramError::Proof));
}

fn any_message() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        any::<Vec<u8>>(),
        "[nyp],(a=[a-z=,]{0,4})?,".prop_map(String::into_bytes),
        "[a-z]=[ -~]{0,8},?".prop_map(String::into_bytes),
        Just(b"=2C".to_vec()),
        Just(b",p=".to_vec()),
    ];
    prop::collection::vec(part, 0..6).prop_map(|parts| parts.concat())
}

proptest! {
    /// Whatever a client sends, nothing panics, and nobody gets in without the proof.
    #[test]
    fn identity_3_arbitrary_messages_do_no_harm(first in any_message(), second in any_message()) {
        let begun = ClientFirst::parse(&first);
        let begun = begun.unwrap_or_else(|_| ClientFirst::parse(b"n,,n=u,r=a").unwrap());
        let (challenge, exchange) = begun.challenge(Decoys::new([0; 32], []).of("u"), RANDOM);
        prop_assert!(challenge.len() <= MESSAGE_BYTES_MAX + 128);
        prop_assert!(exchange.finish(&second).is_err());
    }

    /// Whatever bit of the second message is turned over, it is refused.
    #[test]
    fn identity_3_a_changed_bit_is_refused(position in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let (challenge, exchange) = begin("n,,n=u,r=abc", "secret");
        let (second, _) = answer("n,,", "n=u,r=abc", &challenge, "secret");
        let mut bytes = second.into_bytes();
        let position = position.index(bytes.len());
        bytes[position] ^= 1 << bit;
        prop_assert!(exchange.finish(&bytes).is_err());
    }
}
