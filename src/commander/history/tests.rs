use tidegate_model::Value;

use super::*;

fn principal(name: &str) -> Principal {
    Principal::new(name).unwrap()
}

fn id() -> CommandId {
    CommandId::new("c-17").unwrap()
}

fn at(hours: i64) -> Timestamp {
    Timestamp::from_unix_millis(hours * 3_600_000)
}

/// main.14: an id is executed at most once in 24 hours.
#[test]
fn an_id_is_new_once_a_day() {
    let (history, own, id) = (History::default(), principal("operators"), id());
    assert_eq!(history.begin(&own, &id, at(0)), Begin::New);
    assert_eq!(history.begin(&own, &id, at(1)), Begin::UnderWay);
    history.finish(&own, &id, CommandOutcome::new(OutcomeKind::Confirmed));
    assert_eq!(
        history.begin(&own, &id, at(23)),
        Begin::Known(CommandOutcome::new(OutcomeKind::Confirmed))
    );
    assert_eq!(history.begin(&own, &id, at(24)), Begin::New);
    assert!(history.take_forgotten(at(24)).is_none(), "it was begun anew");
    assert!(history.take_forgotten(at(48)).is_some());
    assert!(history.take_forgotten(at(48)).is_none());
}

/// main.14: what one principal has used is new for another.
#[test]
fn an_id_counts_for_the_principal_who_gave_it() {
    let (history, id) = (History::default(), id());
    for name in ["operators", "uplink:plant", "anonymous"] {
        assert_eq!(history.begin(&principal(name), &id, at(0)), Begin::New, "{name}");
        assert_eq!(history.begin(&principal(name), &id, at(0)), Begin::UnderWay, "{name}");
    }
}

/// A principal that uses up its ids is told so; the others go on.
#[test]
fn one_principal_cannot_use_up_all_ids() {
    let (history, greedy) = (History::default(), principal("greedy"));
    for number in 0..IDS_PER_PRINCIPAL_MAX {
        let id = CommandId::new(&format!("c-{number}")).unwrap();
        assert_eq!(history.begin(&greedy, &id, at(0)), Begin::New);
    }
    assert_eq!(history.begin(&greedy, &id_of("one-more"), at(0)), Begin::Full);
    assert_eq!(history.begin(&principal("operators"), &id_of("one-more"), at(0)), Begin::New);
    assert_eq!(history.begin(&greedy, &id_of("one-more"), at(24)), Begin::New);
}

fn id_of(text: &str) -> CommandId {
    CommandId::new(text).unwrap()
}

/// The value that a transaction of one entry puts, found by recovering from it.
fn recovered(value: &[u8]) -> History {
    let key = key(&principal("operators"), &id());
    History::recover([(key.as_slice(), value)].into_iter(), at(0))
}

#[test]
fn outcomes_read_back_as_stored() {
    let outcome = CommandOutcome {
        kind: OutcomeKind::Refused,
        reason: Some("BadTypeMismatch".into()),
        status: Some(Status::from_code(0x8074_0000)),
        value: Some(Value::Array([Value::Integer(7), Value::string("x")].into())),
    };
    let mut value = at(0).as_unix_micros().to_be_bytes().to_vec();
    value.push(3);
    value.extend_from_slice(&0x8074_0000_u32.to_be_bytes());
    value.extend_from_slice(&15_u16.to_be_bytes());
    value.extend_from_slice(b"BadTypeMismatch[7,\"x\"]");
    let stored = finished(&principal("operators"), &id(), at(0), &outcome);
    assert_eq!(stored.encoded_len(), entry(&principal("operators"), &id(), &value).encoded_len());
    let history = recovered(&value);
    assert_eq!(history.begin(&principal("operators"), &id(), at(0)), Begin::Known(outcome));
    assert_eq!(history.take_cut_off(), []);
}

/// main.14, D27: a command that was cut off is known, and named once so that its sender can be told.
#[test]
fn a_command_that_was_cut_off_is_named() {
    let target = Topic::new("hall1/press-1/reset").unwrap();
    let mut value = at(1).as_unix_micros().to_be_bytes().to_vec();
    value.push(PENDING_CALL);
    value.extend_from_slice(target.as_str().as_bytes());
    let own = principal("operators");
    let stored = pending(&own, &id(), at(1), CommandKind::Call, &target);
    assert_eq!(stored.encoded_len(), entry(&own, &id(), &value).encoded_len());
    let history = recovered(&value);
    assert_eq!(history.begin(&own, &id(), at(2)), Begin::Known(unknown_outcome()));
    let cut_off = CutOff { principal: own, id: id(), at: at(1), kind: CommandKind::Call, target };
    assert_eq!(history.take_cut_off(), [cut_off]);
    assert_eq!(history.take_cut_off(), []);
}

/// An entry that cannot be read is removed, not kept for ever.
#[test]
fn what_cannot_be_read_is_forgotten() {
    let history = History::recover([(&b"ci\x00\x09short"[..], &b"x"[..])].into_iter(), at(0));
    assert!(history.take_forgotten(at(0)).is_some());
}

/// D27: after a panic nobody waits for ever for a command that was under way.
#[test]
fn what_a_panic_has_cut_off_is_known_as_unknown() {
    let history = History::default();
    assert_eq!(history.begin(&principal("a"), &id(), at(0)), Begin::New);
    assert_eq!(history.begin(&principal("a"), &id(), at(0)), Begin::UnderWay);
    history.abandon_under_way();
    assert_eq!(history.begin(&principal("a"), &id(), at(0)), Begin::Known(unknown_outcome()));
}

/// What is kept for repetitions is as little in memory as in the journal.
#[test]
fn a_large_value_is_not_kept() {
    let history = History::default();
    history.begin(&principal("a"), &id(), at(0));
    let value = Value::String("x".repeat(VALUE_BYTES_MAX).as_str().into());
    let outcome = CommandOutcome {
        value: Some(value),
        reason: Some("y".repeat(2 * REASON_BYTES_MAX)),
        ..CommandOutcome::new(OutcomeKind::Confirmed)
    };
    history.finish(&principal("a"), &id(), outcome);
    let Begin::Known(kept) = history.begin(&principal("a"), &id(), at(0)) else { panic!() };
    assert_eq!((kept.value, kept.reason.map(|text| text.len())), (None, Some(REASON_BYTES_MAX)));
}
