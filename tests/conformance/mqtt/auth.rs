//! Sections 3.15 and 4.12: AUTH, and enhanced authentication with SCRAM-SHA-256.

use std::num::NonZeroU32;

use data_encoding::BASE64;
use ring::{digest, hmac, pbkdf2};

use super::client::{Client, ConnAck, Properties};
use super::packets::{Connect, PINGREQ, Publish, V5, auth, kind, prop};
use super::server::{ANN, unique};
use crate::support::wire::{End, packet};

statements! {
    mqtt5_3_15_1_1_reserved_flags_of_auth => reserved_flags_of_auth();
    mqtt5_3_15_2_1_the_reasons_of_auth => the_reasons_of_auth();
    mqtt5_3_15_2_2_auth_fits_without_reason_string => the_whole_exchange();
    mqtt5_3_15_2_3_auth_fits_without_user_properties => the_whole_exchange();
    mqtt5_4_12_0_1_a_method_that_is_not_known => a_method_that_is_not_known();
    mqtt5_4_12_0_2_auth_asks_for_more_with_0x18 => the_whole_exchange();
    mqtt5_4_12_0_3_the_answer_has_0x18 => the_reasons_of_auth();
    mqtt5_4_12_0_4_a_wrong_proof_is_refused => a_wrong_proof_is_refused();
    mqtt5_4_12_0_5_all_name_the_same_method => the_whole_exchange();
    mqtt5_4_12_0_5_another_method_ends_it => another_method_ends_it();
    mqtt5_4_12_0_6_without_a_method_there_is_none => without_a_method_there_is_none();
    mqtt5_4_12_0_7_without_a_method_auth_is_a_breach => without_a_method_auth_is_a_breach();
    mqtt5_3_1_2_30_only_auth_before_connack => only_auth_before_connack();
    mqtt5_4_12_1_1_again_with_the_same_method => again_with_the_same_method();
    mqtt5_4_12_1_2_failing_again_ends_the_connection => failing_again_ends_the_connection();
}

const METHOD: &str = "SCRAM-SHA-256";
const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";

/// The properties of a step.
fn step(method: &str, data: &str) -> Vec<u8> {
    [prop::text(prop::AUTH_METHOD, method), prop::text(prop::AUTH_DATA, data)].concat()
}

fn first_message() -> String {
    format!("n,,n={},r={NONCE}", ANN.0)
}

fn hello() -> Connect {
    Connect::new(V5, &unique("client")).and(&step(METHOD, &first_message()))
}

/// Opens a connection and goes on to the server's challenge.
#[track_caller]
fn challenged() -> (Client, String) {
    let mut client = Client::open(V5);
    client.send(&hello().bytes());
    let challenge = take_challenge(&mut client);
    (client, challenge)
}

/// Takes an AUTH that asks for more: its reason, its method, and nothing but the data beside them.
#[track_caller]
fn take_challenge(client: &mut Client) -> String {
    let packet = client.expect(kind::AUTH);
    assert_eq!((packet.head, packet.body[0]), (0xf0, 0x18), "{packet:?}");
    let properties = Properties::parse(&mut &packet.body[1..]);
    assert_eq!(properties.0.len(), 2, "neither reason string nor user properties");
    assert_eq!(properties.text(prop::AUTH_METHOD).as_deref(), Some(METHOD));
    properties.text(prop::AUTH_DATA).expect("a challenge has data")
}

/// Returns the client's last message, and what the server must answer (RFC 5802, section 3).
fn answer(challenge: &str, password: &str) -> (String, String) {
    let field = |name: &str| {
        challenge.split(',').find_map(|field| field.strip_prefix(name)).expect("it is there")
    };
    let nonce = field("r=");
    assert!(nonce.starts_with(NONCE) && nonce.len() > NONCE.len(), "{challenge}");
    let salt = BASE64.decode(field("s=").as_bytes()).expect("the salt is base64");
    let rounds: NonZeroU32 = field("i=").parse().expect("the rounds are a number");
    let mut salted = [0; digest::SHA256_OUTPUT_LEN];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, &salt, password.as_bytes(), &mut salted);
    let sign = |key: &[u8], text: &[u8]| {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text);
        tag.as_ref().to_vec()
    };
    let client_key = sign(&salted, b"Client Key");
    let stored_key = digest::digest(&digest::SHA256, &client_key);
    let bare = &first_message()[3..];
    let without_proof = format!("c=biws,r={nonce}");
    let transcript = format!("{bare},{challenge},{without_proof}");
    let signature = sign(stored_key.as_ref(), transcript.as_bytes());
    let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(key, mask)| key ^ mask).collect();
    let server_key = sign(&salted, b"Server Key");
    let verifier = sign(&server_key, transcript.as_bytes());
    (
        format!("{without_proof},p={}", BASE64.encode(&proof)),
        format!("v={}", BASE64.encode(&verifier)),
    )
}

/// Connects by proof.
#[track_caller]
fn proven() -> Client {
    let (mut client, challenge) = challenged();
    let (proof, expected) = answer(&challenge, ANN.1);
    client.send(&auth(0x18, &step(METHOD, &proof)));
    let ConnAck { reason, properties, .. } = client.take_connack();
    assert_eq!(reason, 0);
    assert_eq!(properties.text(prop::AUTH_METHOD).as_deref(), Some(METHOD));
    assert_eq!(properties.text(prop::AUTH_DATA), Some(expected));
    client
}

fn the_whole_exchange() {
    proven().ping();
}

fn reserved_flags_of_auth() {
    for flags in 1..16 {
        let (mut client, challenge) = challenged();
        let mut bytes = auth(0x18, &step(METHOD, &answer(&challenge, ANN.1).0));
        bytes[0] |= flags;
        client.send(&bytes);
        assert_eq!(client.take_connack().reason, 0x81);
        client.ends_silently();
    }
}

fn the_reasons_of_auth() {
    // Before CONNACK a client goes on, and does nothing else.
    for reason in [0x00, 0x19, 0x17, 0x80] {
        let (mut client, challenge) = challenged();
        client.send(&auth(reason, &step(METHOD, &answer(&challenge, ANN.1).0)));
        assert_eq!(client.take_connack().reason, 0x82, "{reason:#x}");
        client.ends_silently();
    }
    // After it, it begins again, and does nothing else.
    for reason in [0x00, 0x18, 0x17] {
        let mut client = proven();
        client.send(&auth(reason, &step(METHOD, &first_message())));
        client.ends(0x82);
    }
}

fn a_method_that_is_not_known() {
    let connect = Connect::new(V5, &unique("client")).and(&step("GS2-KRB5", "x"));
    let mut client = Client::try_with(&connect);
    assert_eq!(client.connack.reason, 0x8c);
    client.ends_silently();
}

fn a_wrong_proof_is_refused() {
    let (mut client, challenge) = challenged();
    client.send(&auth(0x18, &step(METHOD, &answer(&challenge, "another password").0)));
    let connack = client.take_connack();
    assert_eq!((connack.reason, connack.present), (0x86, false));
    client.ends_silently();
}

fn another_method_ends_it() {
    for properties in [step("SCRAM-SHA-1", "x"), prop::text(prop::AUTH_DATA, "x"), Vec::new()] {
        let (mut client, _) = challenged();
        client.send(&auth(0x18, &properties));
        assert_eq!(client.take_connack().reason, 0x82);
        client.ends_silently();
    }
}

fn without_a_method_there_is_none() {
    let mut client = Client::connect(V5);
    assert_eq!(client.connack.properties.text(prop::AUTH_METHOD), None);
    assert_eq!(client.connack.properties.text(prop::AUTH_DATA), None);
    assert_eq!(client.drain(), []);
}

fn without_a_method_auth_is_a_breach() {
    for bytes in [auth(0x19, &step(METHOD, &first_message())), packet(0xf0, &[])] {
        let mut client = Client::connect(V5);
        client.send(&bytes);
        client.ends(0x82);
    }
}

fn only_auth_before_connack() {
    for bytes in [PINGREQ.to_vec(), Publish::new("a", "").bytes(V5), hello().bytes()] {
        let (mut client, _) = challenged();
        client.send(&bytes);
        assert_eq!(client.take_connack().reason, 0x82);
        client.ends_silently();
    }
    let (client, _) = challenged();
    client.leave();
}

fn again_with_the_same_method() {
    let mut client = proven();
    client.send(&auth(0x19, &step(METHOD, &first_message())));
    let challenge = take_challenge(&mut client);
    // The connection goes on meanwhile.
    client.ping();
    let (proof, expected) = answer(&challenge, ANN.1);
    client.send(&auth(0x18, &step(METHOD, &proof)));
    let packet = client.expect(kind::AUTH);
    assert_eq!(packet.body[0], 0);
    let properties = Properties::parse(&mut &packet.body[1..]);
    assert_eq!(properties.text(prop::AUTH_DATA), Some(expected));
    client.send(&auth(0x19, &step("SCRAM-SHA-1", &first_message())));
    client.ends(0x82);
}

fn failing_again_ends_the_connection() {
    let mut client = proven();
    client.send(&auth(0x19, &step(METHOD, &first_message())));
    let challenge = take_challenge(&mut client);
    client.send(&auth(0x18, &step(METHOD, &answer(&challenge, "another password").0)));
    let end = client.wire.end();
    assert_eq!(end, End::Told(0x87));
}
