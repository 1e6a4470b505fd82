//! Commands from the cloud: acknowledged when they are safe, and not lost with a connection.

use serde_json::Value;
use tidegate_model::CommandKind;
use tidegate_mqtt::{ReasonCode, packet::ConnAck};
use tidegate_store::Transaction;

use super::{
    MqttVersion, VERSIONS,
    cloud::Cloud,
    numbered,
    rig::{COMMANDS_MAX, Rig, settings, with_commands},
};

fn start(cloud: &Cloud, version: MqttVersion) -> Rig {
    Rig::start_with(with_commands(settings(cloud.port(), version)))
}

#[tokio::test]
async fn a_command_is_acknowledged_when_it_is_settled() {
    for version in VERSIONS {
        let cloud = Cloud::start().await;
        let mut rig = start(&cloud, version);
        let mut line = cloud.accept().await;
        assert!(!line.connect.clean_start, "the cloud is to keep commands");
        if version == MqttVersion::V5 {
            assert!(line.connect.session_expiry.as_secs() > 0);
        }
        let subscribe = line.subscribed(ReasonCode::GrantedQos1).await;
        assert_eq!(subscribe.subscriptions[0].key.filter.as_str(), "cmd/gw/#");
        line.command("cmd/gw/hall1/press-1/setpoint", "66.5", 9, false).await;
        line.command("cmd/gw/hall1/press-1/reset/call", "{}", 10, false).await;
        let write = rig.commands.recv().await.unwrap();
        assert_eq!(
            (write.target.as_str(), write.kind),
            ("hall1/press-1/setpoint", CommandKind::Write)
        );
        let call = rig.commands.recv().await.unwrap();
        assert_eq!((call.target.as_str(), call.kind), ("hall1/press-1/reset", CommandKind::Call));
        line.assert_quiet().await;
        write.ack.settle();
        assert_eq!(line.acknowledged().await, 9);
        call.ack.settle();
        assert_eq!(line.acknowledged().await, 10);
        assert_eq!(rig.handle.snapshot().commands, 2);
        rig.stop().await;
    }
}

#[tokio::test]
async fn a_command_comes_again_if_the_connection_is_lost_before() {
    for version in VERSIONS {
        let cloud = Cloud::start().await;
        let mut rig = start(&cloud, version);
        let mut line = cloud.accept().await;
        line.subscribed(ReasonCode::GrantedQos1).await;
        line.command("cmd/gw/a", "1", 9, false).await;
        let lost = rig.commands.recv().await.unwrap();
        drop(line);
        let mut line = cloud.accept_with(ConnAck::accepted(true)).await;
        assert!(!line.connect.clean_start);
        line.subscribed(ReasonCode::GrantedQos1).await;
        // What was published in between, and what was not acknowledged.
        line.command("cmd/gw/a", "1", 9, true).await;
        line.command("cmd/gw/b", "2", 10, false).await;
        let again = rig.commands.recv().await.unwrap();
        assert_eq!(again.payload, lost.payload);
        let between = rig.commands.recv().await.unwrap();
        assert_eq!(between.target.as_str(), "b");
        // An acknowledgement for the old connection means nothing on the new one.
        lost.ack.settle();
        between.ack.settle();
        assert_eq!(line.acknowledged().await, 10);
        line.assert_quiet().await;
        again.ack.settle();
        assert_eq!(line.acknowledged().await, 9);
        rig.stop().await;
    }
}

#[tokio::test]
async fn readings_go_up_although_no_command_may_come_down() {
    for version in VERSIONS {
        let cloud = Cloud::start().await;
        let mut rig = start(&cloud, version);
        rig.append(1..=1);
        let mut line = cloud.accept().await;
        // MQTT 3.1.1 knows one word for it, 0x80.
        line.subscribed(ReasonCode::UnspecifiedError).await;
        let received = line.publication().await;
        assert_eq!(received.readings(), numbered(1..=1));
        line.answer(received.packet_id, ReasonCode::Success).await;
        let snapshot = rig.until_delivered(1).await;
        assert_eq!(snapshot.connections, 1);
        let error = snapshot.last_error.unwrap();
        assert!(error.contains("refuses the subscription"), "{error}");
        rig.stop().await;
    }
}

#[tokio::test]
async fn one_command_too_many_is_told_that_it_is() {
    let cloud = Cloud::start().await;
    let mut rig = start(&cloud, MqttVersion::V5);
    let mut line = cloud.accept().await;
    line.subscribed(ReasonCode::GrantedQos1).await;
    let most = u16::try_from(COMMANDS_MAX).unwrap();
    for number in 1..=most {
        line.command("cmd/gw/a", "1", number, false).await;
    }
    line.command("cmd/gw/a", r#"{"value":1,"id":"c-17"}"#, most + 1, false).await;
    let (outcome, refused) = line.publication_and_ack().await;
    assert_eq!((outcome.topic.as_str(), refused), ("result/a", most + 1));
    let body: Value = serde_json::from_slice(&outcome.payload).unwrap();
    assert_eq!((body["id"].as_str(), body["outcome"].as_str()), (Some("c-17"), Some("busy")));
    line.answer(outcome.packet_id, ReasonCode::Success).await;
    for number in 1..=most {
        rig.commands.recv().await.unwrap().ack.settle();
        assert_eq!(line.acknowledged().await, number);
    }
    rig.stop().await;
}

/// uplink.22: where nobody can be told that too many commands wait, the cloud waits with them; none is lost, and all are
/// answered on the same connection, in order.
#[tokio::test]
async fn commands_wait_where_nobody_can_be_told() {
    for version in VERSIONS {
        let cloud = Cloud::start().await;
        let mut settings = with_commands(settings(cloud.port(), version));
        settings.link.results = None;
        let mut rig = Rig::start_with(settings);
        let mut line = cloud.accept().await;
        line.subscribed(ReasonCode::GrantedQos1).await;
        let most = u16::try_from(4 * COMMANDS_MAX).unwrap();
        for number in 1..=most {
            line.command("cmd/gw/a", &number.to_string(), number, false).await;
        }
        rig.until("all of them", |snapshot| snapshot.commands == u64::from(most)).await;
        line.assert_quiet().await;
        for number in 1..=most {
            let command = rig.commands.recv().await.unwrap();
            assert_eq!(command.payload, number.to_string());
            command.ack.settle();
            assert_eq!(line.acknowledged().await, number);
        }
        assert_eq!(rig.handle.snapshot().connections, 1);
        rig.stop().await;
    }
}

#[tokio::test]
async fn an_outcome_is_sent_until_it_is_acknowledged() {
    let cloud = Cloud::start().await;
    let mut rig = start(&cloud, MqttVersion::V5);
    let mut line = cloud.accept().await;
    line.subscribed(ReasonCode::GrantedQos1).await;
    line.command("cmd/gw/a", "1", 1, false).await;
    let command = rig.commands.recv().await.unwrap();
    let body = br#"{"outcome":"confirmed"}"#.to_vec();
    rig.handle.outcomes().send(&command.target, None, body, Transaction::new());
    command.ack.settle();
    let (first, acknowledged) = line.publication_and_ack().await;
    assert_eq!(acknowledged, 1);
    drop(line);
    let mut line = cloud.accept().await;
    line.subscribed(ReasonCode::GrantedQos1).await;
    let again = line.publication().await;
    assert_eq!((again.topic.as_str(), &again.payload), ("result/a", &first.payload));
    line.answer(again.packet_id, ReasonCode::Success).await;
    rig.until("no outcome to wait", |snapshot| snapshot.outcomes_waiting == 0).await;
    rig.stop().await;
}
