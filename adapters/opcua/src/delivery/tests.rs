use std::sync::{Arc, Mutex};

use tidegate_adapter_api::{
    Delivery, IntakeSink, LastMessage, PointId, PointReading, Receipt, ReceiptSender,
};
use tidegate_model::{AdapterName, Captures, Origin, Principal, Reading, Timestamp, Value};
use tokio::sync::OwnedSemaphorePermit;

use super::*;

/// Answers each batch as the script says, and keeps what was handed in.
#[derive(Default)]
struct Scripted {
    script: Mutex<VecDeque<Script>>,
    taken: Mutex<Vec<Vec<i64>>>,
    pending: Mutex<Vec<ReceiptSender>>,
}

enum Script {
    Now(Outcome),
    Later,
}

impl IntakeSink for Scripted {
    fn submit(&self, _: &AdapterName, batch: ReadingBatch, _: OwnedSemaphorePermit) -> Receipt {
        let values = batch.readings.iter().map(|reading| match reading.reading.value {
            Value::Integer(number) => number,
            _ => panic!("tests hand in integers"),
        });
        self.taken.lock().unwrap().push(values.collect());
        match self.script.lock().unwrap().pop_front().expect("the script covers every batch") {
            Script::Now(outcome) => Receipt::ready(outcome),
            Script::Later => {
                let (sender, receipt) = Receipt::pair();
                self.pending.lock().unwrap().push(sender);
                receipt
            }
        }
    }

    fn refuse_busy(&self, _: &AdapterName, _: &ReadingBatch) -> Refusal {
        panic!("the adapter waits for room")
    }

    fn last(
        &self,
        _: &Principal,
        _: u64,
        _: PointId,
        _: &Captures,
    ) -> Result<Option<LastMessage>, Refusal> {
        Ok(None)
    }
}

struct Setup {
    sink: Arc<Scripted>,
    intake: Intake,
    deliveries: Deliveries,
    refused: Counter,
    pauses: Counter,
}

fn set_up(script: impl IntoIterator<Item = Script>) -> Setup {
    let sink = Arc::new(Scripted {
        script: Mutex::new(script.into_iter().collect()),
        ..Scripted::default()
    });
    let intake = Intake::new(AdapterName::new("plc7").unwrap(), sink.clone());
    let (refused, pauses) = (Counter::default(), Counter::default());
    let deliveries = Deliveries::new(refused.clone(), pauses.clone());
    Setup { sink, intake, deliveries, refused, pauses }
}

impl Setup {
    async fn advance(&mut self, times: usize) {
        for _ in 0..times {
            self.deliveries.advance(&self.intake).await;
        }
    }

    fn taken(&self) -> Vec<Vec<i64>> {
        self.sink.taken.lock().unwrap().clone()
    }
}

fn batch(values: &[i64]) -> ReadingBatch {
    let origin = Origin { adapter: AdapterName::new("plc7").unwrap() };
    let readings = values.iter().map(|value| PointReading {
        point: PointId(1),
        captures: Captures::none(),
        reading: Reading::new(
            Value::Integer(*value),
            Timestamp::from_unix_millis(1),
            origin.clone(),
        ),
    });
    ReadingBatch {
        readings: readings.collect(),
        generation: 1,
        principal: None,
        delivery: Delivery::Confirmed,
        exchange: None,
    }
}

const DURABLE: Script = Script::Now(Outcome::Durable);

#[tokio::test]
async fn fault_o06_a_message_is_acknowledged_only_when_it_is_durable() {
    let mut setup = set_up([Script::Later, DURABLE]);
    setup.deliveries.push((7, 1), batch(&[1]));
    setup.deliveries.push((7, 2), batch(&[2]));
    setup.advance(2).await;
    assert_eq!(setup.deliveries.take_acknowledgements(), [(7, 2)]);
    assert!(setup.deliveries.is_open((7, 1)));

    setup.sink.pending.lock().unwrap().pop().unwrap().resolve(Outcome::Durable);
    setup.advance(1).await;
    assert_eq!(setup.deliveries.take_acknowledgements(), [(7, 1)]);
    assert!(!setup.deliveries.is_open((7, 1)));
}

#[tokio::test]
async fn a_message_without_readings_is_acknowledged_at_once() {
    let mut setup = set_up([]);
    setup.deliveries.push((7, 1), batch(&[]));
    assert_eq!(setup.deliveries.take_acknowledgements(), [(7, 1)]);
}

#[tokio::test]
async fn a_message_of_which_more_will_come_is_not_acknowledged_before() {
    for rest in [&[2][..], &[]] {
        let mut setup = set_up([DURABLE, DURABLE]);
        setup.deliveries.expect_more((7, 1));
        setup.deliveries.push((7, 1), batch(&[1]));
        setup.advance(1).await;
        assert!(setup.deliveries.take_acknowledgements().is_empty());
        assert!(setup.deliveries.is_open((7, 1)));
        setup.deliveries.push_rest((7, 1), batch(rest));
        setup.advance(rest.len()).await;
        assert_eq!(setup.deliveries.take_acknowledgements(), [(7, 1)]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_for_now_pauses_the_flow_and_keeps_the_order() {
    let busy = Script::Now(Outcome::Refused(Refusal::Busy { retry_after: Duration::from_secs(2) }));
    let full = Script::Now(Outcome::Refused(Refusal::StorageFull));
    let mut setup = set_up([busy, full, DURABLE, DURABLE]);
    setup.deliveries.push((7, 1), batch(&[1]));
    setup.deliveries.push((7, 2), batch(&[2]));
    setup.advance(1).await;
    assert!(!setup.deliveries.has_room());
    setup.advance(3).await;
    assert_eq!(setup.taken(), [[1], [1], [1], [2]]);
    assert_eq!(setup.deliveries.take_acknowledgements(), [(7, 1), (7, 2)]);
    assert!(setup.deliveries.has_room());
    assert_eq!((setup.pauses.value(), setup.refused.value()), (2, 0));
}

#[tokio::test]
async fn one_reading_that_is_not_taken_does_not_cost_the_others() {
    let invalid =
        || Script::Now(Outcome::Refused(Refusal::Invalid { reason: "not a float".to_owned() }));
    let mut setup = set_up([invalid(), DURABLE, invalid(), Script::Later]);
    setup.deliveries.push((7, 1), batch(&[1, 2, 3]));
    setup.advance(4).await;
    assert_eq!(setup.taken(), [vec![1, 2, 3], vec![1], vec![2], vec![3]]);
    assert!(setup.deliveries.take_acknowledgements().is_empty(), "the last part is not durable");
    setup.sink.pending.lock().unwrap().pop().unwrap().resolve(Outcome::Accepted);
    setup.advance(1).await;
    assert_eq!(setup.deliveries.take_acknowledgements(), [(7, 1)]);
    assert_eq!(setup.refused.value(), 1);
}

#[tokio::test]
async fn the_load_is_bounded() {
    let mut setup = set_up((0..LOAD_MAX).map(|_| Script::Later));
    for number in 1..=u32::try_from(LOAD_MAX).unwrap() {
        assert!(setup.deliveries.has_room());
        setup.deliveries.push((7, number), batch(&[number.into()]));
    }
    assert!(!setup.deliveries.has_room(), "what waits counts");
    setup.advance(LOAD_MAX).await;
    assert!(!setup.deliveries.has_room(), "what is not yet durable counts");
    setup.sink.pending.lock().unwrap().pop().unwrap().resolve(Outcome::Durable);
    setup.advance(1).await;
    assert!(setup.deliveries.has_room());
}
