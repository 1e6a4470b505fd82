//! The rules of a run.

use std::time::Duration;

use tidegate_model::TopicFilter;
use tidegate_rules::{
    Action, Anomaly, Conversion, Deadband, EventTopic, Function, Linear, Rounding, Rule, RuleName,
    SwingingDoor, Thinning, Window,
};

/// Which rules there are, and whether they stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RulePlan {
    None,
    /// Rules that only hold back, others after every start.
    Thinning,
    /// Rules in which readings wait, and that change and mark them.
    Holding,
    /// The same, in another order after every start.
    HoldingOthers,
}

impl RulePlan {
    /// Returns whether there is more at the far side than was appended.
    pub(crate) fn makes(self) -> bool {
        matches!(self, Self::Holding | Self::HoldingOthers)
    }

    /// Returns the rules after so many starts.
    pub(crate) fn at(self, boots: u64) -> Vec<Rule> {
        match self {
            Self::None => Vec::new(),
            Self::Thinning => thinning(boots),
            Self::Holding => holding(),
            Self::HoldingOthers => {
                let mut rules = holding();
                let by = usize::try_from(boots % 3).unwrap();
                rules.rotate_left(by);
                if boots % 4 == 3 {
                    rules.clear();
                }
                rules
            }
        }
    }
}

fn rule(name: &str, topics: &str, action: Action) -> Rule {
    let topics = vec![TopicFilter::new(topics).unwrap()];
    Rule { name: RuleName::new(name).unwrap(), topics, action }
}

fn thinning(boots: u64) -> Vec<Rule> {
    let wide = Thinning { deadband: Some(Deadband::Absolute(10.0)), ..Thinning::default() };
    let slow = Thinning {
        min_interval: Some(Duration::from_millis(300)),
        change_only: true,
        ..Thinning::default()
    };
    let wide = rule("wide", "t/1", Action::Thin(wide));
    let slow = rule("slow", "t/+", Action::Thin(slow));
    match boots % 3 {
        0 => vec![wide, slow],
        1 => vec![slow],
        _ => vec![wide],
    }
}

fn holding() -> Vec<Rule> {
    let seconds = Duration::from_secs;
    let functions = |names: &[&str]| -> Vec<Function> {
        names.iter().map(|name| Function::parse(name).unwrap()).collect()
    };
    let tumbling = Window {
        length: seconds(2),
        every: seconds(2),
        lateness: Duration::from_millis(300),
        functions: functions(&["count", "mean", "p50"]),
    };
    let sliding =
        Window { length: seconds(4), functions: functions(&["min", "last"]), ..tumbling.clone() };
    let anomaly = Anomaly {
        deviations: 1.5,
        least: 1.0,
        memory: 10,
        warm_up: 5,
        season: None,
        topic: EventTopic::new("odd/{topic}"),
    };
    let tenths = Conversion {
        linear: Some(Linear { scale: 0.1, offset: 0.0 }),
        rounding: Some(Rounding::Digits(0)),
        ..Conversion::default()
    };
    let door = SwingingDoor { bound: 3.0, longest: seconds(5) };
    let slow = Thinning { min_interval: Some(Duration::from_millis(500)), ..Thinning::default() };
    vec![
        rule("odd", "t/+", Action::Anomaly(anomaly)),
        rule("sum", "t/1", Action::Window(tumbling.clone())),
        rule("sum", "t/2", Action::Window(tumbling)),
        rule("slide", "t/3", Action::Window(sliding)),
        rule("tenths", "t/4", Action::Convert(tenths.clone())),
        rule("tenths", "t/1/mean", Action::Convert(tenths)),
        rule("corner", "t/4", Action::SwingingDoor(door)),
        rule("slow", "t/5", Action::Thin(slow)),
        rule("none", "t/2/p50", Action::Exclude),
    ]
}
