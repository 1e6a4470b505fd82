use std::collections::BTreeMap;

use tidegate_model::{OutcomeKind, Status, Value};

use super::*;

fn principal(name: &str) -> Principal {
    Principal::new(name).unwrap()
}

fn id_of(text: &str) -> CommandId {
    CommandId::new(text).unwrap()
}

fn at(hours: i64) -> Timestamp {
    Timestamp::from_unix_millis(hours * 3_600_000)
}

/// A write to the setpoint of press 1, with the id that all tests use.
fn noted(by: &str) -> Noted {
    Noted {
        principal: principal(by),
        id: id_of("c-17"),
        at: at(0),
        kind: CommandKind::Write,
        target: Topic::new("hall1/press-1/setpoint").unwrap(),
    }
}

fn named(by: &str, id: &str) -> Noted {
    Noted { id: id_of(id), ..noted(by) }
}

/// main.14: an id is executed at most once in 24 hours.
#[test]
fn an_id_is_new_once_a_day() {
    let (history, noted) = (History::default(), noted("operators"));
    assert_eq!(history.begin(&noted, at(0)), Begin::New);
    assert_eq!(history.begin(&noted, at(1)), Begin::UnderWay);
    history.finish(&noted, CommandOutcome::new(OutcomeKind::Confirmed));
    assert_eq!(
        history.begin(&noted, at(23)),
        Begin::Known(CommandOutcome::new(OutcomeKind::Confirmed))
    );
    assert_eq!(history.begin(&noted, at(24)), Begin::New);
    assert!(history.take_forgotten(at(24)).is_none(), "it was begun anew");
    assert!(history.take_forgotten(at(48)).is_some());
    assert!(history.take_forgotten(at(48)).is_none());
}

/// main.14: what one principal has used is new for another.
#[test]
fn an_id_counts_for_the_principal_who_gave_it() {
    let history = History::default();
    for name in ["operators", "uplink:plant", "anonymous"] {
        assert_eq!(history.begin(&noted(name), at(0)), Begin::New, "{name}");
        assert_eq!(history.begin(&noted(name), at(0)), Begin::UnderWay, "{name}");
    }
}

/// main.14: an id that comes for another topic, or for a call instead of a write, is no repetition.
#[test]
fn main_14_an_id_is_taken_by_the_command_it_was_first_used_for() {
    let first = noted("operators");
    let target = Topic::new("hall1/press-2/setpoint").unwrap();
    let elsewhere = Noted { target, ..first.clone() };
    let call = Noted { kind: CommandKind::Call, ..first.clone() };
    let taken = || Begin::Taken(CommandKind::Write, first.target.clone());
    let history = History::default();
    history.begin(&first, at(0));
    for other in [&elsewhere, &call] {
        assert_eq!(history.begin(other, at(0)), taken(), "under way");
    }
    let confirmed = CommandOutcome::new(OutcomeKind::Confirmed);
    history.finish(&first, confirmed.clone());
    for entry in [finished(&first, &confirmed), pending(&first)] {
        let restarted = recovered(&entry);
        for other in [&elsewhere, &call] {
            assert_eq!(history.begin(other, at(1)), taken(), "ended");
            assert_eq!(restarted.begin(other, at(1)), taken(), "after a restart");
        }
    }
    assert_eq!(history.begin(&first, at(1)), Begin::Known(confirmed));
    assert_eq!(history.begin(&elsewhere, at(24)), Begin::New);
}

/// A principal that uses up its ids is told so; the others go on.
#[test]
fn one_principal_cannot_use_up_all_ids() {
    let history = History::default();
    for number in 0..IDS_PER_PRINCIPAL_MAX {
        assert_eq!(history.begin(&named("greedy", &format!("c-{number}")), at(0)), Begin::New);
    }
    let (one_more, other) = (named("greedy", "one-more"), named("operators", "one-more"));
    assert_eq!(history.begin(&one_more, at(0)), Begin::Full);
    assert_eq!(history.begin(&other, at(0)), Begin::New);
    assert_eq!(history.begin(&one_more, at(24)), Begin::New);
}

/// What a restart makes of an entry that was written to a journal.
fn recovered(entry: &Transaction) -> History {
    let folder = tempfile::tempdir().unwrap();
    let directory = crate::store::DataDirectory::open(&folder.path().join("data")).unwrap();
    let open = || crate::store::open(&directory, &crate::config::StoreConfig::default()).unwrap();
    let (mut journal, _) = open();
    journal.write([entry]);
    journal.commit().unwrap();
    drop(journal);
    let (_journal, recovery) = open();
    let state: BTreeMap<_, _> = recovery.state.iter().collect();
    History::recover(state.iter().map(|(key, value)| (&key[..], &value[..])), at(0))
}

#[test]
fn outcomes_read_back_as_stored() {
    let noted = noted("operators");
    let refused = CommandOutcome {
        kind: OutcomeKind::Refused,
        reason: Some("BadTypeMismatch".into()),
        status: Some(Status::from_code(0x8074_0000)),
        value: Some(Value::Array([Value::Integer(7), Value::string("x")].into())),
    };
    use OutcomeKind::{Accepted, Busy, Confirmed, Expired, Refused};
    let kinds = [Accepted, Confirmed, Refused, Expired, Busy].map(CommandOutcome::new);
    for outcome in kinds.into_iter().chain([refused]) {
        let history = recovered(&finished(&noted, &outcome));
        assert_eq!(history.begin(&noted, at(0)), Begin::Known(outcome));
        assert_eq!(history.take_cut_off(), []);
    }
}

/// main.14, D27: a command that was cut off is known, and named once so that its sender can be told.
#[test]
fn a_command_that_was_cut_off_is_named() {
    let cut_off = Noted { kind: CommandKind::Call, at: at(1), ..noted("operators") };
    let history = recovered(&pending(&cut_off));
    assert_eq!(history.begin(&cut_off, at(2)), Begin::Known(unknown_outcome()));
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
fn what_a_panic_has_cut_off_is_known_as_unknown_and_named() {
    let (history, ended) = (History::default(), named("a", "ended"));
    history.begin(&ended, at(0));
    history.finish(&ended, CommandOutcome::new(OutcomeKind::Confirmed));
    let under_way =
        [("c-2", 1), ("c-1", 2)].map(|(id, hours)| Noted { at: at(hours), ..named("a", id) });
    for noted in &under_way {
        assert_eq!(history.begin(noted, at(3)), Begin::New);
    }
    history.abandon_under_way();
    assert_eq!(history.begin(&under_way[0], at(3)), Begin::Known(unknown_outcome()));
    assert_eq!(history.take_cut_off(), under_way);
}

/// What is kept for repetitions is as little in memory as in the journal.
#[test]
fn a_large_value_is_not_kept() {
    let (history, noted) = (History::default(), noted("a"));
    history.begin(&noted, at(0));
    let value = Value::String("x".repeat(VALUE_BYTES_MAX).as_str().into());
    let outcome = CommandOutcome {
        value: Some(value),
        reason: Some("y".repeat(2 * REASON_BYTES_MAX)),
        ..CommandOutcome::new(OutcomeKind::Confirmed)
    };
    history.finish(&noted, outcome);
    let Begin::Known(kept) = history.begin(&noted, at(0)) else { panic!() };
    assert_eq!((kept.value, kept.reason.map(|text| text.len())), (None, Some(REASON_BYTES_MAX)));
}
