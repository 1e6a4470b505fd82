//! How the server leaves (MQTT 5.0, section 3.14).

use std::num::NonZeroU32;

use super::{Rig, V5, V311};
use crate::{
    CloseCause, ReasonCode, Settings, Text,
    packet::{Connect, Disconnect, Packet, PacketType, reasons},
};

/// Every reason can be given to `close`; DISCONNECT says it, or the nearest that it has.
#[test]
fn the_server_says_why_it_leaves() {
    for &reason in ReasonCode::ALL {
        let mut rig = Rig::connected(V5);
        rig.connection.close(reason, &mut rig.output);
        assert_eq!(rig.connection.close_cause(), Some(&CloseCause::ByServer { reason }));
        match &rig.heard()[..] {
            [Packet::Disconnect(disconnect)] => {
                if reasons::belongs_to(reason, PacketType::Disconnect) {
                    assert_eq!(disconnect.reason, reason);
                } else {
                    assert!(reasons::belongs_to(disconnect.reason, PacketType::Disconnect));
                }
            }
            other => panic!("{reason}: {other:?}"),
        }
    }
}

/// broker.6, MQTT 5.0, section 4.11: where there is another server, clients that are sent away hear of it, if they have
/// room for its name.
#[test]
fn broker_6_clients_are_sent_to_another_server() {
    let other = Text::new("other.example:1883").unwrap();
    let settings = || Settings { server_reference: Some(other.clone()), ..Settings::default() };
    for (reason, is_referred) in
        [(ReasonCode::ServerShuttingDown, true), (ReasonCode::NotAuthorized, false)]
    {
        let mut rig = Rig::connected_with(settings(), Connect::new(V5));
        rig.connection.close(reason, &mut rig.output);
        let [Packet::Disconnect(disconnect)] = &rig.heard()[..] else { panic!("no DISCONNECT") };
        let (said, server) = (disconnect.reason, disconnect.server_reference.clone());
        let referred = (ReasonCode::UseAnotherServer, Some(other.clone()));
        assert_eq!((said, server), if is_referred { referred } else { (reason, None) });
    }
    let small = NonZeroU32::new(16);
    let connect = Connect { maximum_packet_size: small, ..Connect::new(V5) };
    let mut rig = Rig::with(settings(), V5);
    rig.send(&[Packet::Connect(Box::new(connect))]);
    rig.connection.reject(ReasonCode::QuotaExceeded, &mut rig.output);
    let [Packet::ConnAck(connack)] = &rig.heard()[..] else { panic!("no CONNACK") };
    assert_eq!((connack.reason, &connack.server_reference), (ReasonCode::UseAnotherServer, &None));

    let mut rig = Rig::with(settings(), V311);
    rig.send(&[Packet::Connect(Box::new(Connect::new(V311)))]);
    rig.connection.reject(ReasonCode::ServerUnavailable, &mut rig.output);
    let [Packet::ConnAck(connack)] = &rig.heard()[..] else { panic!("no CONNACK") };
    assert_eq!(connack.reason, ReasonCode::ServerUnavailable);
}

/// MQTT 3.1.1, section 3.14: its server has no DISCONNECT.
#[test]
fn a_client_of_3_1_1_is_just_closed() {
    let mut rig = Rig::connected(V311);
    rig.connection.close(ReasonCode::ServerShuttingDown, &mut rig.output);
    assert!(rig.connection.is_closed() && rig.output.is_empty());
}

/// MQTT-3.14.4-1 and -2: once.
#[test]
fn the_first_reason_stands() {
    let mut rig = Rig::connected(V5);
    rig.connection.close(ReasonCode::SessionTakenOver, &mut rig.output);
    rig.connection.close(ReasonCode::ServerShuttingDown, &mut rig.output);
    let expected = Packet::Disconnect(Disconnect::new(ReasonCode::SessionTakenOver));
    assert_eq!(rig.heard(), [expected]);
    let reason = ReasonCode::SessionTakenOver;
    assert_eq!(rig.connection.close_cause(), Some(&CloseCause::ByServer { reason }));
}

#[test]
fn whoever_has_not_spoken_gets_no_answer() {
    let mut rig = Rig::new(V5);
    rig.send_bytes(b"\x10\x20\0\x04MQ");
    rig.connection.close(ReasonCode::ServerShuttingDown, &mut rig.output);
    assert!(rig.connection.is_closed() && rig.output.is_empty());
}
