//! Outcomes of commands, when the gateway ends between a command's end and its telling (D27).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::RwLock;
use serde_json::Value;
use tidegate_broker::{Broker, BrokerLimits, access::AccessRules};
use tidegate_mapping::{Environment, MappingSet};
use tidegate_model::Topic;
use tidegate_mqtt::{ReasonCode, packet::ConnAck};
use tidegate_settings::Issues;
use tidegate_store::{Recovery, Transaction};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    MqttVersion, PATIENCE,
    cloud::{Cloud, Line, Received},
    rig::{Rig, settings, with_commands},
};
use crate::{
    broker::BrokerHandle,
    clock::Clock,
    commander::{Commander, History, command_channel},
};

/// A commander without adapters over the journal of a rig.
struct Desk {
    broker: BrokerHandle,
    task: JoinSet<()>,
    stop: CancellationToken,
}

impl Desk {
    /// Starts it with what the last life left behind; it takes the commands that the rig's uplink brings.
    fn start(rig: &mut Rig, recovery: &Recovery) -> Self {
        let clock = Clock::start();
        let state = recovery.state.iter().map(|(key, value)| (&key[..], &value[..]));
        let history = Arc::new(History::recover(state, clock.steady()));
        let core = Broker::new(BrokerLimits::default(), AccessRules::default());
        let broker = BrokerHandle::new(core, rig.store(), clock);
        let mapping = MappingSet::compile(&[], &Environment::default(), &mut Issues::default());
        let mapping = Arc::new(RwLock::new(Arc::new(mapping.unwrap())));
        let uplinks = BTreeMap::from([("cloud".to_owned(), rig.handle.outcomes())]);
        let commands = std::mem::replace(&mut rig.commands, mpsc::channel(1).1);
        let (_, orders) = command_channel();
        let mut commander = Commander::new(
            orders,
            commands,
            broker.clone(),
            mapping,
            BTreeMap::new(),
            uplinks,
            Arc::clone(&history),
        );
        let stop = CancellationToken::new();
        let (mut task, stopped) = (JoinSet::new(), stop.clone());
        task.spawn(async move { commander.run(stopped).await });
        Self { broker, task, stop }
    }

    /// Waits until the outcome of a command for `target` is told to local readers.
    async fn told(&self, target: &str) {
        let topic = Topic::new(&format!("{target}/set/result")).unwrap();
        let polling = async {
            while self.broker.core().last(&topic).is_none() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(PATIENCE, polling).await.expect("an outcome is told");
    }

    /// Waits until what it has begun has ended.
    async fn stop(mut self) {
        self.stop.cancel();
        self.task.join_next().await.expect("it ran").expect("no panic");
    }
}

fn start(cloud: &Cloud, folder: tempfile::TempDir) -> (Rig, Recovery) {
    Rig::start_on(folder, with_commands(settings(cloud.port(), MqttVersion::V5)))
}

async fn connected(cloud: &Cloud) -> Line {
    let mut line = cloud.accept_with(ConnAck::accepted(true)).await;
    line.subscribed(ReasonCode::GrantedQos1).await;
    line
}

fn body(received: &Received) -> Value {
    serde_json::from_slice(&received.payload).expect("an outcome is JSON")
}

const COMMAND: &str = r#"{"value":1,"id":"c-17"}"#;

/// main.14, D27: a command has ended, and the uplink did not live to journal the outcome: an outcome comes all
/// the same, after the start, although the cloud does not send the command again.
#[tokio::test]
async fn main_14_an_outcome_is_told_although_the_uplink_did_not_see_it() {
    let cloud = Cloud::start().await;
    let (mut rig, recovery) = start(&cloud, tempfile::tempdir().unwrap());
    let mut line = connected(&cloud).await;
    line.command("cmd/gw/hall1/lamp", COMMAND, 9, false).await;
    let command = rig.commands.recv().await.unwrap();
    rig.cut_run().await;
    // Only now is it carried out: nobody takes the outcome any more, but it is on its way to the journal.
    let (sender, commands) = mpsc::channel(1);
    sender.send(command).await.unwrap();
    rig.commands = commands;
    let desk = Desk::start(&mut rig, &recovery);
    desk.told("hall1/lamp").await;
    desk.stop().await;
    let folder = rig.kill().await;

    let (mut rig, recovery) = start(&cloud, folder);
    let desk = Desk::start(&mut rig, &recovery);
    let mut line = connected(&cloud).await;
    let outcome = line.publication().await;
    assert_eq!(outcome.topic, "result/hall1/lamp");
    assert_eq!(
        (&body(&outcome)["id"], &body(&outcome)["outcome"]),
        (&"c-17".into(), &"refused".into())
    );
    line.answer(outcome.packet_id, ReasonCode::Success).await;
    line.assert_quiet().await;
    desk.stop().await;
    rig.stop().await;
}

/// main.14, D27: what was journalled comes again as it was, and is not called unknown beside that.
#[tokio::test]
async fn main_14_an_outcome_that_was_sent_is_the_one_that_is_sent_again() {
    let cloud = Cloud::start().await;
    let (mut rig, recovery) = start(&cloud, tempfile::tempdir().unwrap());
    let desk = Desk::start(&mut rig, &recovery);
    let mut line = connected(&cloud).await;
    line.command("cmd/gw/hall1/lamp", COMMAND, 9, false).await;
    let (first, acknowledged) = line.publication_and_ack().await;
    assert_eq!(acknowledged, 9);
    let reason = body(&first)["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("nobody is subscribed"), "{reason}");
    let folder = rig.kill().await;
    desk.stop().await;

    let (mut rig, recovery) = start(&cloud, folder);
    let desk = Desk::start(&mut rig, &recovery);
    let mut line = connected(&cloud).await;
    let again = line.publication().await;
    assert_eq!((&again.topic, &again.payload), (&first.topic, &first.payload));
    line.answer(again.packet_id, ReasonCode::Success).await;
    line.assert_quiet().await;
    // A repetition has the outcome that is remembered, not the one of a command that was cut off.
    line.command("cmd/gw/hall1/lamp", COMMAND, 10, true).await;
    let (repeated, acknowledged) = line.publication_and_ack().await;
    assert_eq!((acknowledged, body(&repeated)["reason"].as_str().unwrap()), (10, &*reason));
    desk.stop().await;
    rig.stop().await;
}

/// main.14, D27: an orderly stop without a connection takes along what was told last.
#[tokio::test]
async fn main_14_an_outcome_told_at_the_stop_is_not_lost() {
    let cloud = Cloud::start().await;
    let port = cloud.port();
    drop(cloud);
    let settings = with_commands(settings(port, MqttVersion::V5));
    let (rig, _) = Rig::start_on(tempfile::tempdir().unwrap(), settings);
    let target = Topic::new("hall1/lamp").unwrap();
    let mut record = Transaction::new();
    record.put(b"test", b"told").unwrap();
    rig.handle.outcomes().send(&target, None, b"{}".to_vec(), record);
    let folder = rig.end().await;

    let cloud = Cloud::start().await;
    let (rig, recovery) = start(&cloud, folder);
    let mut state = recovery.state.iter();
    assert!(state.any(|(key, value)| (&key[..], &value[..]) == (b"test", b"told")));
    let mut line = connected(&cloud).await;
    let outcome = line.publication().await;
    assert_eq!((&*outcome.topic, &outcome.payload[..]), ("result/hall1/lamp", &b"{}"[..]));
    line.answer(outcome.packet_id, ReasonCode::Success).await;
    rig.stop().await;
}
