use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// What is kept of rules, as a journal keeps it.
#[derive(Clone, Default)]
struct Kept {
    head: Vec<u8>,
    topics: BTreeMap<u64, Vec<u8>>,
}

impl Kept {
    fn take(&mut self, changes: Changes) {
        self.head = changes.head;
        self.topics.extend(changes.topics);
        for gone in changes.gone {
            self.topics.remove(&gone);
        }
    }

    fn restore(&self, rules: Vec<Rule>, limits: MemoryLimits) -> (Rules, Restored) {
        let mut restored = Rules::new(rules, limits);
        let topics = self.topics.iter().map(|(slot, bytes)| (*slot, bytes.as_slice()));
        let how = restored.restore(&self.head, topics).unwrap();
        (restored, how)
    }
}

fn all() -> Vec<Rule> {
    let seconds = Duration::from_secs;
    let functions = ["min", "last", "deviation", "p90"].map(|name| Function::parse(name).unwrap());
    let window = Window {
        length: seconds(20),
        every: seconds(10),
        lateness: seconds(2),
        functions: functions.to_vec(),
    };
    let anomaly = Anomaly {
        deviations: 2.0,
        least: 0.1,
        memory: 10,
        warm_up: 3,
        season: Some(Season { period: seconds(60), parts: 4 }),
        topic: EventTopic::new("event/{rule}/{topic}"),
    };
    let scaled =
        Conversion { linear: Some(Linear { scale: 0.5, offset: 1.0 }), ..Conversion::default() };
    vec![
        thin("deadband", "t/0", deadband(1.0)),
        thin("interval", "t/1", interval(3)),
        rule("odd", "#", Action::Anomaly(anomaly)),
        rule("scale", "t/+", Action::Convert(scaled)),
        thin("change", "t/#", change()),
        rule("window", "t/2", Action::Window(window)),
        rule(
            "door",
            "t/3",
            Action::SwingingDoor(SwingingDoor { bound: 0.7, longest: seconds(30) }),
        ),
    ]
}

proptest! {
    /// uplink.4, uplink.5: saved at any moment and restored, rules go on as if nothing had happened, however
    /// little they may remember.
    #[test]
    fn a_restart_changes_nothing(
        readings in prop::collection::vec((0_u8..7, 0_i64..9, -9_i64..9, any::<bool>(), 0_u8..9), 0..120),
        cuts in prop::collection::vec(0_usize..120, 0..5),
        topics in 4_usize..20,
    ) {
        let limits = MemoryLimits { topics, bytes: 1 << 20 };
        let (mut straight, mut restarted) = (Rules::new(all(), limits), Rules::new(all(), limits));
        let mut kept = Kept::default();
        let mut seconds = 100.0;
        let (mut ours, mut theirs) = (Effects::default(), Effects::default());
        for (index, (name, step, value, good, tick)) in readings.into_iter().enumerate() {
            if cuts.contains(&index) {
                kept.take(restarted.save());
                let how;
                (restarted, how) = kept.restore(all(), limits);
                prop_assert_eq!(how, Restored::All);
                prop_assert_eq!(restarted.held(), straight.held());
            }
            seconds += step as f64;
            let name = topic(&format!("t/{name}"));
            let reading = reading(seconds, Value::Integer(value), if good { GOOD } else { BAD });
            let verdict = straight.decide(&name, &reading, &mut ours);
            prop_assert_eq!(restarted.decide(&name, &reading, &mut theirs), verdict);
            prop_assert_eq!(&ours, &theirs);
            if tick == 0 {
                let wall = reading.time().saturating_add(Duration::from_secs(5));
                straight.advance(wall, &mut ours);
                restarted.advance(wall, &mut theirs);
                prop_assert_eq!(sorted(&ours), sorted(&theirs));
            }
        }
    }

    #[test]
    fn damaged_bytes_do_no_harm(at in 0_usize..400, byte in any::<u8>(), cut in 0_usize..400) {
        let mut rules = rules(all());
        let mut effects = Effects::default();
        for number in 0..40 {
            let name = topic(&format!("t/{}", number % 5));
            rules.decide(&name, &good(f64::from(number), f64::from(number * 7 % 5)), &mut effects);
        }
        let saved = rules.save();
        for (_, bytes) in &saved.topics {
            let mut bytes = bytes.clone();
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes.truncate(cut.max(1));
            let mut other = super::rules(all());
            let _ = other.restore(&saved.head, [(0, bytes.as_slice())]);
        }
    }
}

/// The order of topics whose time is over together is of no matter.
fn sorted(effects: &Effects) -> Vec<String> {
    let mut shown: Vec<String> = effects.made.iter().map(|made| format!("{made:?}")).collect();
    shown.extend(effects.released.iter().map(|released| format!("{released:?}")));
    shown.extend(effects.made_in_vain.iter().map(|pair| format!("{pair:?}")));
    shown.sort();
    shown
}

#[test]
fn only_what_has_changed_is_saved_again() {
    let limits = MemoryLimits { topics: 8, bytes: 1 << 20 };
    let mut rules = Rules::new(vec![thin("c", "#", change())], limits);
    decide(&mut rules, "a", &good(0.0, 1.0));
    decide(&mut rules, "b", &good(0.0, 1.0));
    assert_eq!(rules.save().topics.len(), 2);
    assert_eq!(rules.changes(), 0);
    decide(&mut rules, "a", &good(1.0, 1.0));
    assert_eq!(rules.changes(), 0, "it was held back");
    decide(&mut rules, "a", &good(1.0, 2.0));
    let again = rules.save();
    assert_eq!((again.topics.len(), again.gone.len()), (1, 0));
    for number in 0..20 {
        decide(&mut rules, &format!("t/{number}"), &good(1.0, 2.0));
    }
    assert!(rules.save().gone.len() >= 12, "what is forgotten is not kept");
}

/// uplink.5: other rules, other windows; what is ordinary need not be learnt again.
#[test]
fn other_rules_give_up_what_waits_and_keep_what_is_ordinary() {
    let mut before = rules(all());
    let mut effects = Effects::default();
    for number in 0..40 {
        let reading = good(f64::from(number) * 60.0 / 40.0, f64::from(number % 2));
        before.decide(&topic("t/2"), &reading, &mut effects);
    }
    assert!(!before.held().is_empty());
    let mut kept = Kept::default();
    kept.take(before.save());
    let mut other = all();
    other.insert(0, rule("new", "x", Action::Exclude));
    let (mut after, how) = kept.restore(other, MemoryLimits::default());
    assert_eq!((how, after.held()), (Restored::Renewed, BTreeMap::new()));
    after.decide(&topic("t/2"), &good(61.0, 100.0), &mut effects);
    assert_eq!(effects.made[0].topic.as_str(), "event/odd/t/2");
    let mut learnt = all();
    let Action::Anomaly(anomaly) = &mut learnt[2].action else { panic!("the third") };
    anomaly.deviations = 3.0;
    let (mut after, _) = kept.restore(learnt, MemoryLimits::default());
    after.decide(&topic("t/2"), &good(61.0, 100.0), &mut effects);
    assert_eq!(effects.made, [], "another rule of that name learns anew");
}
