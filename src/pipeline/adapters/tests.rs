use std::time::Duration;

use tidegate_adapter_api::{AdapterError, CommandReply, PointId, test_kit::TestGateway};
use tidegate_model::{Captures, Command, CommandKind, OutcomeKind, Timestamp, Value};
use tokio::{sync::oneshot, time::timeout};

use super::*;

/// How the runs of an adapter end.
#[derive(Clone, Copy)]
enum End {
    Error,
    Panic,
}

/// An adapter whose first run ends at once, and whose next one does what it is told.
struct Stumbling {
    name: AdapterName,
    end: End,
    runs: u32,
}

impl Adapter for Stumbling {
    fn name(&self) -> &AdapterName {
        &self.name
    }

    async fn run(&mut self, context: &mut AdapterContext) -> Result<(), AdapterError> {
        self.runs += 1;
        if self.runs == 1 {
            match self.end {
                End::Error => {
                    let (endpoint, reason) = ("opc.tcp://plc7".into(), "no route".into());
                    return Err(AdapterError::Unreachable { endpoint, reason });
                }
                End::Panic => panic!("a panic that the test wants"),
            }
        }
        while let Some(request) = context.commands.recv().await {
            request.reply.send(CommandOutcome::new(OutcomeKind::Confirmed));
        }
        Ok(())
    }
}

async fn send(commands: &mpsc::Sender<CommandRequest>) -> oneshot::Receiver<CommandOutcome> {
    let (reply, outcome) = CommandReply::pair();
    let command = Command {
        id: None,
        kind: CommandKind::Write,
        value: Value::Integer(1),
        expires: Timestamp::from_unix_millis(i64::from(i32::MAX) * 1_000),
    };
    let captures = Captures::new(std::iter::empty());
    let request = CommandRequest { point: PointId(0), generation: 1, captures, command, reply };
    commands.send(request).await.unwrap();
    outcome
}

/// main.14: a command that comes while an adapter waits for its next run has an outcome at once.
#[tokio::test(start_paused = true)]
async fn main_14_commands_are_refused_between_the_runs_of_an_adapter() {
    for end in [End::Error, End::Panic] {
        let name = AdapterName::new("plc7").unwrap();
        let (context, handles) = TestGateway::new().context(&name, Vec::new(), true);
        let mut stage = Stage::new("test");
        attend(Stumbling { name, end, runs: 0 }, context, Conditions::default(), &mut stage);
        for _ in 0..3 {
            let outcome = timeout(Duration::from_millis(100), send(&handles.commands).await);
            let outcome = outcome.await.expect("within the pause").unwrap();
            assert_eq!(outcome.kind, OutcomeKind::Refused);
            assert!(outcome.reason.unwrap().contains("not running"));
        }
        // After a failure that time may mend a second or two, after a panic some minutes.
        tokio::time::sleep(Duration::from_secs(600)).await;
        let outcome = timeout(Duration::from_secs(1), send(&handles.commands).await);
        assert_eq!(outcome.await.unwrap().unwrap().kind, OutcomeKind::Confirmed);
        drop(handles.commands);
        handles.shutdown.cancel();
        stage.stop(std::time::Instant::now() + Duration::from_secs(5)).await;
    }
}
