//! Enhanced authentication (MQTT 5.0, section 4.12).

use std::{num::NonZeroU32, time::Duration};

use super::{Rig, V5, V311};
use crate::{
    ClientPacket, CloseCause, Password, ProtocolError, ReasonCode, Settings, Text,
    packet::{Auth, ConnAck, Connect, Disconnect, Packet, PacketType},
    testing::{encoded, qos0},
};

const METHOD: &str = "M-1";
const SECOND: Duration = Duration::from_secs(1);

fn settings() -> Settings {
    Settings { authentication_methods: &["M-0", METHOD], ..Settings::default() }
}

fn connect() -> Connect {
    Connect {
        authentication_method: Some(Text::new(METHOD).unwrap()),
        authentication_data: Some(data("first")),
        ..Connect::new(V5)
    }
}

fn data(text: &str) -> Password {
    Password::new(text.as_bytes().to_vec()).unwrap()
}

fn auth(reason: ReasonCode, method: &str, said: &str) -> Packet {
    let method = Some(Text::new(method).unwrap());
    Packet::Auth(Box::new(Auth { reason, method, data: Some(data(said)), explanation: None }))
}

fn go_on(said: &str) -> Packet {
    auth(ReasonCode::ContinueAuthentication, METHOD, said)
}

fn again(said: &str) -> Packet {
    auth(ReasonCode::ReAuthenticate, METHOD, said)
}

impl Rig {
    fn challenge(&mut self, said: &str) -> bool {
        self.connection.challenge(self.now, data(said), &mut self.output)
    }
}

/// A connection that has sent its CONNECT and was asked for more.
fn challenged() -> Rig {
    let mut rig = Rig::with(settings(), V5);
    rig.send(&[Packet::Connect(Box::new(connect()))]);
    assert!(rig.challenge("?"));
    assert_eq!(rig.heard(), [go_on("?")]);
    rig
}

fn authenticated() -> Rig {
    let mut rig = challenged();
    assert!(matches!(rig.send(&[go_on("!")])[..], [ClientPacket::Auth(_)]));
    assert!(rig.accept(&ConnAck::accepted(false)));
    rig.heard();
    rig
}

fn connack(rig: &mut Rig) -> ConnAck {
    match &mut rig.heard()[..] {
        [Packet::ConnAck(connack)] => (**connack).clone(),
        other => panic!("{other:?}"),
    }
}

fn error(rig: &Rig) -> &ProtocolError {
    match rig.connection.close_cause() {
        Some(CloseCause::Protocol { source }) => source,
        other => panic!("{other:?}"),
    }
}

/// MQTT-4.12.0-2, -3, -5: AUTH with 0x18 to and fro, then CONNACK, each with the method of CONNECT.
#[test]
fn mqtt_4_12_0_2_a_client_is_asked_until_it_is_accepted() {
    let mut rig = challenged();
    for round in ["a", "b"] {
        let batch = rig.send(&[go_on(round)]);
        let Packet::Auth(sent) = go_on(round) else { unreachable!() };
        assert_eq!(batch, [ClientPacket::Auth(sent)]);
        assert!(!rig.connection.wants_input(), "the broker decides");
        assert!(rig.challenge("?"));
        assert!(!rig.challenge("?"), "once");
        assert_eq!(rig.heard(), [go_on("?")]);
    }
    rig.send(&[go_on("!")]);
    let last = ConnAck { authentication_data: Some(data("v")), ..ConnAck::accepted(false) };
    assert!(rig.accept(&last));
    let heard = connack(&mut rig);
    assert_eq!(heard.authentication_method.as_deref(), Some(METHOD));
    assert_eq!(heard.authentication_data, Some(data("v")));
    assert!(matches!(rig.send(&[qos0()])[..], [ClientPacket::Publish(_)]));
}

/// MQTT-4.12.0-1: another method is refused, in CONNACK.
#[test]
fn mqtt_4_12_0_1_an_unknown_method_is_refused() {
    for method in ["M-2", "m-1", ""] {
        let authentication_method = Some(Text::new(method).unwrap());
        let mut rig = Rig::with(settings(), V5);
        let connect = Connect { authentication_method, ..connect() };
        assert!(rig.send(&[Packet::Connect(Box::new(connect))]).is_empty());
        assert_eq!(connack(&mut rig).reason, ReasonCode::BadAuthenticationMethod);
        assert_eq!(*error(&rig), ProtocolError::ExtendedAuthentication);
    }
}

/// MQTT-4.12.0-4: the server may refuse at any point.
#[test]
fn mqtt_4_12_0_4_the_server_refuses_at_any_point() {
    for rounds in 0..3 {
        let mut rig = Rig::with(settings(), V5);
        rig.send(&[Packet::Connect(Box::new(connect()))]);
        for _ in 0..rounds {
            rig.challenge("?");
            rig.send(&[go_on("!")]);
        }
        rig.heard();
        assert!(rig.connection.reject(ReasonCode::NotAuthorized, &mut rig.output));
        assert_eq!(connack(&mut rig).reason, ReasonCode::NotAuthorized);
        assert!(rig.connection.is_closed());
    }
}

/// MQTT-4.12.0-6: without a method in CONNECT the server neither sends AUTH nor names one in CONNACK.
#[test]
fn mqtt_4_12_0_6_nobody_is_asked_who_has_named_no_method() {
    for version in [V311, V5] {
        let mut rig = Rig::with(settings(), version);
        rig.send(&[Packet::Connect(Box::new(Connect::new(version)))]);
        assert!(!rig.challenge("?") && rig.output.is_empty());
        let method = Some(Text::new(METHOD).unwrap());
        rig.accept(&ConnAck { authentication_method: method, ..ConnAck::accepted(false) });
        assert_eq!(connack(&mut rig).authentication_method, None);
        assert!(!rig.challenge("?"));
        assert!(!rig.connection.reauthenticated(data(""), &mut rig.output));
        assert!(rig.output.is_empty());
    }
}

/// MQTT-4.12.0-7: without a method in CONNECT the client sends no AUTH.
#[test]
fn mqtt_4_12_0_7_auth_of_who_has_named_no_method_closes() {
    for version in [V5, V311] {
        let mut rig = Rig::connected_with(settings(), Connect::new(version));
        assert!(rig.send_bytes(&encoded(&again("?"), V5)).is_empty());
        let packet = PacketType::Auth;
        assert_eq!(*error(&rig), ProtocolError::NotForServers { packet });
    }
}

/// MQTT-3.1.2-30: until CONNACK nothing but AUTH and DISCONNECT; refused by its first byte.
#[test]
fn mqtt_3_1_2_30_only_auth_and_disconnect_come_before_connack() {
    let allowed = [PacketType::Auth, PacketType::Disconnect];
    for packet in PacketType::ALL.into_iter().filter(|packet| !allowed.contains(packet)) {
        let mut rig = challenged();
        assert!(rig.send_bytes(&[packet.first_byte()]).is_empty());
        assert_eq!(*error(&rig), ProtocolError::ExpectedAuth { packet });
        assert_eq!(connack(&mut rig).reason, ReasonCode::ProtocolError, "{packet}");
    }
    let mut rig = challenged();
    let goodbye = Disconnect::default();
    let batch = rig.send(&[Packet::Disconnect(goodbye.clone())]);
    assert_eq!(batch, [ClientPacket::Disconnect(goodbye)]);
    assert!(rig.connection.is_closed() && rig.output.is_empty());
}

/// MQTT-4.12.0-3, MQTT-4.12.0-5, section 3.15.2.2.2: another step or method, or none, is a protocol error.
#[test]
fn mqtt_4_12_0_5_auth_keeps_to_its_step_and_method() {
    let out_of_turn = |reason| ProtocolError::AuthOutOfTurn { reason };
    let nameless = Packet::Auth(Box::new(Auth {
        reason: ReasonCode::ContinueAuthentication,
        ..Auth::default()
    }));
    let cases = [
        (again("?"), out_of_turn(ReasonCode::ReAuthenticate)),
        (auth(ReasonCode::Success, METHOD, ""), out_of_turn(ReasonCode::Success)),
        (auth(ReasonCode::ContinueAuthentication, "M-0", ""), ProtocolError::AuthenticationMethod),
        (nameless, ProtocolError::AuthenticationMethod),
        (Packet::Auth(Box::default()), ProtocolError::AuthenticationMethod),
    ];
    for (packet, expected) in cases {
        let mut rig = challenged();
        assert!(rig.send(std::slice::from_ref(&packet)).is_empty());
        assert_eq!(*error(&rig), expected, "{packet:?}");
        assert_eq!(connack(&mut rig).reason, ReasonCode::ProtocolError);
    }
}

/// MQTT-4.12.1-1: 0x19 begins again while messages flow; 0x00 ends it, and it may begin once more.
#[test]
fn mqtt_4_12_1_1_a_client_authenticates_itself_again_while_messages_flow() {
    let mut rig = authenticated();
    for _ in 0..2 {
        let batch = rig.send(&[qos0(), again("first"), qos0()]);
        assert!(
            matches!(
                batch[..],
                [ClientPacket::Publish(_), ClientPacket::Auth(_), ClientPacket::Publish(_)]
            ),
            "{batch:?}"
        );
        assert!(rig.challenge("?"));
        assert!(!rig.connection.reauthenticated(data("v"), &mut rig.output), "not yet");
        assert_eq!(rig.heard(), [go_on("?")]);
        let batch = rig.send(&[qos0(), go_on("!")]);
        assert!(matches!(batch[..], [ClientPacket::Publish(_), ClientPacket::Auth(_)]));
        assert!(rig.connection.reauthenticated(data("v"), &mut rig.output));
        assert!(!rig.connection.reauthenticated(data("v"), &mut rig.output), "once");
        assert_eq!(rig.heard(), [auth(ReasonCode::Success, METHOD, "v")]);
    }
    assert!(rig.connection.is_connected());
}

/// MQTT-4.12.1-1: the method stays that of CONNECT, and each step comes in its turn.
#[test]
fn mqtt_4_12_1_1_another_method_or_step_closes() {
    let other = auth(ReasonCode::ReAuthenticate, "M-0", "");
    let out_of_turn = |reason| ProtocolError::AuthOutOfTurn { reason };
    let (goes_on, begins) = (ReasonCode::ContinueAuthentication, ReasonCode::ReAuthenticate);
    #[rustfmt::skip]
    let cases = [
        // what comes                       after a challenge   error
        (vec![other],                       false, ProtocolError::AuthenticationMethod),
        (vec![go_on("!")],                  false, out_of_turn(goes_on)),
        (vec![again("1"), go_on("!")],      false, out_of_turn(goes_on)),
        (vec![again("1"), again("2")],      false, out_of_turn(begins)),
        (vec![again("2")],                  true,  out_of_turn(begins)),
        (vec![auth(ReasonCode::Success, METHOD, "")], true, out_of_turn(ReasonCode::Success)),
    ];
    for (packets, after_challenge, expected) in cases {
        let mut rig = authenticated();
        if after_challenge {
            rig.send(&[again("1")]);
            rig.challenge("?");
            rig.heard();
        }
        rig.send(&packets);
        assert_eq!(*error(&rig), expected, "{packets:?}");
        let expected = Packet::Disconnect(Disconnect::new(ReasonCode::ProtocolError));
        assert_eq!(rig.heard(), [expected], "{packets:?}");
    }
}

/// MQTT-4.12.1-2: a re-authentication that fails ends in DISCONNECT.
#[test]
fn mqtt_4_12_1_2_a_failed_re_authentication_disconnects() {
    for reason in [ReasonCode::NotAuthorized, ReasonCode::BadUserNameOrPassword] {
        let mut rig = authenticated();
        rig.send(&[again("1")]);
        rig.connection.close(reason, &mut rig.output);
        let expected = Packet::Disconnect(Disconnect::new(ReasonCode::NotAuthorized));
        assert_eq!(rig.heard(), [expected]);
        assert!(rig.connection.is_closed());
    }
}

/// M05: the deadline of CONNECT goes on through every round.
#[test]
fn fault_m05_rounds_of_auth_move_no_deadline() {
    let mut rig = Rig::with(settings(), V5);
    rig.send(&[Packet::Connect(Box::new(connect()))]);
    for _ in 0..9 {
        rig.wait(SECOND);
        assert!(rig.challenge("?"));
        rig.heard();
        rig.send(&[go_on("!")]);
    }
    rig.challenge("?");
    rig.heard();
    rig.wait(SECOND);
    assert_eq!(rig.connection.close_cause(), Some(&CloseCause::ConnectTimeout));
    assert_eq!(connack(&mut rig).reason, ReasonCode::ServerUnavailable);
}

/// A re-authentication must be finished as fast as the first; it stands still while nothing is read.
#[test]
fn fault_m05_a_re_authentication_has_a_deadline() {
    let mut rig = authenticated();
    let idle = rig.connection.poll_timeout();
    rig.send(&[again("1")]);
    rig.challenge("?");
    assert!(rig.connection.poll_timeout() < idle);
    rig.connection.pause();
    rig.wait(60 * SECOND);
    assert!(rig.connection.is_connected());
    rig.connection.resume(rig.now);
    rig.wait(10 * SECOND - Duration::from_millis(1));
    assert!(rig.connection.is_connected());
    rig.heard();
    rig.wait(Duration::from_millis(1));
    assert_eq!(rig.connection.close_cause(), Some(&CloseCause::AuthenticationTimeout));
    let expected = Packet::Disconnect(Disconnect::new(ReasonCode::NotAuthorized));
    assert_eq!(rig.heard(), [expected]);

    let mut rig = authenticated();
    rig.send(&[again("1")]);
    rig.challenge("?");
    rig.send(&[go_on("!")]);
    rig.connection.reauthenticated(data("v"), &mut rig.output);
    rig.wait(10 * SECOND);
    assert!(rig.connection.is_connected(), "it was finished");
}

/// M02: who is not accepted yet cannot make the server keep more than a CONNECT's worth.
#[test]
fn fault_m02_auth_is_as_small_as_connect() {
    let mut rig = challenged();
    rig.send_bytes(&[0xF0, 0xFF, 0xFF, 0x7F]);
    assert!(matches!(error(&rig), ProtocolError::PacketTooLarge { limit: 65_536, .. }));
    assert_eq!(connack(&mut rig).reason, ReasonCode::PacketTooLarge);
}

/// MQTT-3.1.2-24: a client that does not take the challenge is of no use.
#[test]
fn a_challenge_keeps_to_the_clients_packet_size() {
    let connect = Connect { maximum_packet_size: NonZeroU32::new(12), ..connect() };
    let mut rig = Rig::with(settings(), V5);
    rig.send(&[Packet::Connect(Box::new(connect))]);
    assert!(rig.challenge("longer than that"));
    assert!(rig.connection.is_closed());
    assert_eq!(connack(&mut rig).reason, ReasonCode::PacketTooLarge);
}
