//! Deadlines: CONNECT, keep alive, unfinished packets.

use std::time::Duration;

use super::{Rig, V5, V311, qos1};
use crate::{
    ClientPacket, CloseCause, ProtocolVersion, ReasonCode, Settings,
    packet::{ConnAck, Connect, Disconnect, Packet},
    testing::{encoded, packet_id, qos0},
};

const SECOND: Duration = Duration::from_secs(1);
const MOMENT: Duration = Duration::from_millis(1);

fn rig_with_keep_alive(version: ProtocolVersion, keep_alive_s: u16) -> Rig {
    let connect = Connect { keep_alive_s, ..Connect::new(version) };
    Rig::connected_with(Settings::default(), connect)
}

fn cause(rig: &Rig) -> Option<&CloseCause> {
    rig.connection.close_cause()
}

/// Section 3.1.4; M05: from accepting the connection, whatever dribbles in meanwhile.
#[test]
fn fault_m05_connect_has_one_deadline() {
    let wire = encoded(&Packet::Connect(Box::new(Connect::new(V5))), V5);
    let mut rig = Rig::new(V5);
    for &byte in &wire[..8] {
        rig.send_bytes(&[byte]);
        rig.wait(SECOND);
    }
    assert_eq!(cause(&rig), None);
    rig.wait(2 * SECOND - MOMENT);
    assert_eq!(cause(&rig), None);
    rig.wait(MOMENT);
    assert_eq!(cause(&rig), Some(&CloseCause::ConnectTimeout));
}

/// M05: the deadline covers the broker's decision too.
#[test]
fn fault_m05_the_verdict_has_the_same_deadline() {
    for (version, answer) in [(V5, &[0x20, 3, 0, 0x88, 0][..]), (V311, &[0x20, 2, 0, 3])] {
        let mut rig = Rig::new(version);
        rig.wait(4 * SECOND);
        rig.send(&[Packet::Connect(Box::new(Connect::new(version)))]);
        rig.wait(6 * SECOND - MOMENT);
        assert_eq!(cause(&rig), None);
        rig.wait(MOMENT);
        assert_eq!(cause(&rig), Some(&CloseCause::ConnectTimeout));
        assert_eq!(rig.heard_bytes(), answer);
        assert!(!rig.accept(&ConnAck::accepted(false)));
    }
}

/// MQTT-3.1.2-22: one and a half times the keep alive, counted from the last packet.
#[test]
fn silence_closes_after_one_and_a_half_keep_alives() {
    for version in [V311, V5] {
        let mut rig = rig_with_keep_alive(version, 10);
        for _ in 0..5 {
            rig.wait(15 * SECOND - MOMENT);
            assert_eq!(rig.send(&[Packet::PingReq]), []);
        }
        rig.wait(10 * SECOND);
        rig.send(&[qos0()]);
        rig.heard_bytes();
        rig.wait(15 * SECOND - MOMENT);
        assert_eq!(cause(&rig), None);
        rig.wait(MOMENT);
        assert_eq!(cause(&rig), Some(&CloseCause::KeepAliveTimeout));
        let expected = match version {
            V5 => vec![Packet::Disconnect(Disconnect::new(ReasonCode::KeepAliveTimeout))],
            V311 => vec![],
        };
        assert_eq!(rig.heard(), expected);
    }
}

/// Section 3.1.2.10: what we send does not count.
#[test]
fn our_own_packets_do_not_keep_a_client_alive() {
    let mut rig = rig_with_keep_alive(V5, 10);
    rig.send(&[qos1(1)]);
    rig.wait(14 * SECOND);
    rig.connection.puback(packet_id(1), ReasonCode::Success, &mut rig.output);
    rig.wait(SECOND);
    assert_eq!(cause(&rig), Some(&CloseCause::KeepAliveTimeout));
}

/// M06: 3.1.1 cannot be told of another keep alive; off is off.
#[test]
fn fault_m06_keep_alive_0_of_3_1_1_never_expires() {
    let mut rig = rig_with_keep_alive(V311, 0);
    assert_eq!(rig.connection.poll_timeout(), None);
    rig.wait(1_000_000 * SECOND);
    assert_eq!(cause(&rig), None);
    let rig = rig_with_keep_alive(V311, 65_535);
    assert_eq!(rig.connection.poll_timeout(), Some(rig.now + Duration::from_millis(98_302_500)));
}

/// M02: a packet that dribbles has a deadline, and its bytes do not keep the client alive.
#[test]
fn fault_m02_a_packet_must_be_finished_in_time() {
    let mut rig = rig_with_keep_alive(V311, 0);
    rig.send_bytes(&[0x30, 0xFF, 0x7F]);
    for _ in 0..59 {
        rig.wait(SECOND);
        rig.send_bytes(b"x");
    }
    assert_eq!(cause(&rig), None);
    rig.wait(SECOND);
    assert_eq!(cause(&rig), Some(&CloseCause::PacketTimeout));

    let mut rig = rig_with_keep_alive(V5, 10);
    rig.send_bytes(&[0x30]);
    rig.wait(14 * SECOND);
    rig.send_bytes(&[0x7F]);
    rig.wait(SECOND);
    assert_eq!(cause(&rig), Some(&CloseCause::KeepAliveTimeout));
}

#[test]
fn each_packet_has_its_own_deadline() {
    let mut rig = rig_with_keep_alive(V311, 0);
    let wire = encoded(&qos0(), V311);
    for _ in 0..10 {
        rig.send_bytes(&wire[..3]);
        rig.wait(59 * SECOND);
        assert_eq!(rig.send_bytes(&wire[3..]).len(), 1);
        assert_eq!(rig.connection.poll_timeout(), None);
    }
}

/// D2: while the broker does not read, the client cannot be blamed for silence.
#[test]
fn a_paused_connection_waits_without_limit() {
    let mut rig = rig_with_keep_alive(V5, 10);
    rig.connection.pause();
    assert!(!rig.connection.wants_input());
    assert!(rig.send(&[qos0()]).is_empty());
    rig.wait(1_000 * SECOND);
    assert_eq!(cause(&rig), None);
    rig.connection.resume(rig.now);
    assert!(matches!(rig.handle()[..], [ClientPacket::Publish(_)]));
    rig.wait(15 * SECOND);
    assert_eq!(cause(&rig), Some(&CloseCause::KeepAliveTimeout));
}

/// The same while a client of 3.1.1 waits for our acknowledgement.
#[test]
fn a_blocked_connection_waits_without_limit() {
    let settings = Settings { receive_maximum: 1.try_into().unwrap(), ..Settings::default() };
    let connect = Connect { keep_alive_s: 10, ..Connect::new(V311) };
    let mut rig = Rig::connected_with(settings, connect);
    assert_eq!(rig.send(&[qos1(1), qos1(2)]).len(), 1);
    rig.wait(1_000 * SECOND);
    assert_eq!(cause(&rig), None);
    rig.connection.puback(packet_id(1), ReasonCode::Success, &mut rig.output);
    assert_eq!(rig.handle().len(), 1);
    rig.wait(15 * SECOND);
    assert_eq!(cause(&rig), Some(&CloseCause::KeepAliveTimeout));
}

#[test]
fn time_before_a_deadline_changes_nothing() {
    let mut rig = rig_with_keep_alive(V5, 10);
    let deadline = rig.connection.poll_timeout();
    rig.wait(SECOND);
    assert_eq!(rig.connection.poll_timeout(), deadline);
    assert!(rig.output.is_empty());
}

/// While nothing is read the client cannot be heard: its time stands still, and begins anew behind it.
#[test]
fn a_pause_of_ours_is_no_silence_of_the_client() {
    let mut rig = rig_with_keep_alive(V5, 10);
    rig.wait(14 * SECOND);
    rig.connection.pause();
    rig.wait(60 * SECOND);
    assert_eq!(cause(&rig), None);
    rig.connection.resume(rig.now);
    rig.wait(15 * SECOND - MOMENT);
    assert_eq!(cause(&rig), None);
    rig.wait(MOMENT);
    assert_eq!(cause(&rig), Some(&CloseCause::KeepAliveTimeout));
}
