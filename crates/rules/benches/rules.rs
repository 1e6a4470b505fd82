//! What rules cost a reading, by kind: the way from the journal to a batch goes through them.

use std::{hint::black_box, time::Duration};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tidegate_expression::{Expression, ResultKind, Scope, Subject};
use tidegate_model::{AdapterName, Origin, Reading, Timestamp, Topic, TopicFilter, Value};
use tidegate_rules::{
    Action, Anomaly, Conversion, Deadband, Effects, EventTopic, Function, Linear, MemoryLimits,
    Rounding, Rule, RuleName, Rules, Season, SwingingDoor, Thinning, Window,
};

const TOPICS: usize = 1_000;
const READINGS: usize = 20_000;

fn rule(name: &str, action: Action) -> Rule {
    let topics = vec![TopicFilter::new("hall1/#").expect("a filter")];
    Rule { name: RuleName::new(name).expect("a name"), topics, action }
}

fn thin(name: &str, thinning: Thinning) -> Rule {
    rule(name, Action::Thin(thinning))
}

fn window(name: &str, length: u64, every: u64, functions: &[&str]) -> Rule {
    let functions = functions.iter().map(|name| Function::parse(name).expect("a function"));
    let seconds = Duration::from_secs;
    rule(
        name,
        Action::Window(Window {
            length: seconds(length),
            every: seconds(every),
            lateness: seconds(1),
            functions: functions.collect(),
        }),
    )
}

fn anomaly(name: &str, season: Option<Season>) -> Rule {
    let topic = EventTopic::new("tidegate/gw/anomaly/{topic}");
    rule(
        name,
        Action::Anomaly(Anomaly {
            deviations: 6.0,
            least: 0.0,
            memory: 1_000,
            warm_up: 100,
            season,
            topic,
        }),
    )
}

fn kinds() -> Vec<(&'static str, Vec<Rule>)> {
    let scope = Scope { captures: &[], payload: None, subject: Subject::Record };
    let text = "value > -100 and quality == \"good\"";
    let when = Expression::parse(text, scope, ResultKind::Condition).expect("a condition");
    let when = thin("when", Thinning { when: Some(when), ..Thinning::default() });
    let deadband = |width| Thinning { deadband: Some(width), ..Thinning::default() };
    let interval = Thinning { min_interval: Some(Duration::from_secs(5)), ..Thinning::default() };
    let change = Thinning {
        change_only: true,
        heartbeat: Some(Duration::from_secs(60)),
        ..Thinning::default()
    };
    let convert = Conversion {
        linear: Some(Linear { scale: 1.8, offset: 32.0 }),
        rounding: Some(Rounding::Digits(1)),
        ..Conversion::default()
    };
    let convert = rule("convert", Action::Convert(convert));
    let day = Season { period: Duration::from_secs(86_400), parts: 24 };
    let door = SwingingDoor { bound: 0.5, longest: Duration::from_secs(60) };
    let door = rule("door", Action::SwingingDoor(door));
    let figures = ["min", "max", "mean", "last", "count", "deviation"];
    let absolute = thin("absolute", deadband(Deadband::Absolute(0.01)));
    let all = vec![
        when.clone(),
        absolute.clone(),
        convert.clone(),
        anomaly("odd", Some(day)),
        window("window", 10, 10, &figures),
    ];
    vec![
        ("none concerned", vec![]),
        ("when", vec![when]),
        ("deadband", vec![absolute]),
        ("deadband in percent", vec![thin("percent", deadband(Deadband::Percent(0.1)))]),
        ("min-interval", vec![thin("interval", interval)]),
        ("change-only with heartbeat", vec![thin("change", change)]),
        ("unit and digits", vec![convert]),
        ("tumbling window, six figures", vec![window("window", 10, 10, &figures)]),
        ("sliding window of six, six figures", vec![window("window", 60, 10, &figures)]),
        ("tumbling window, three quantiles", vec![window("w", 10, 10, &["p50", "p90", "p99"])]),
        ("swinging door", vec![door]),
        ("anomaly", vec![anomaly("odd", None)]),
        ("anomaly, hours of a day", vec![anomaly("odd", Some(day))]),
        ("five one after the other", all),
    ]
}

/// One reading a second of each topic, slowly up and down.
fn sample() -> Vec<(Topic, Reading)> {
    let origin = Origin { adapter: AdapterName::new("bench").expect("a name") };
    let topics: Vec<Topic> = (0..TOPICS)
        .map(|number| Topic::new(&format!("hall1/press-{number}/temperature")).expect("a topic"))
        .collect();
    let reading = |index: usize| {
        let (second, topic) = (index / TOPICS, index % TOPICS);
        let time = i64::try_from(second * 1_000_000 + topic * 100).expect("small");
        let wave = i32::try_from((second * 7 + topic) % 40).expect("small");
        let value = Value::Double(20.0 + f64::from(wave) / 10.0);
        let reading = Reading::new(value, Timestamp::from_unix_micros(time), origin.clone());
        (topics[topic].clone(), reading)
    };
    (0..READINGS).map(reading).collect()
}

/// What a reading costs by the rules that it goes through.
fn decide(criterion: &mut Criterion) {
    let readings = sample();
    let span = i64::try_from(READINGS / TOPICS).expect("small") * 1_000_000;
    let mut group = criterion.benchmark_group("rules/decide");
    group.throughput(Throughput::Elements(READINGS as u64));
    for (name, list) in kinds() {
        let mut rules = Rules::new(list, MemoryLimits::default());
        let mut effects = Effects::default();
        // Time goes on from pass to pass, or all would be late.
        let mut readings = readings.clone();
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| {
                for (topic, reading) in &mut readings {
                    black_box(rules.decide(topic, black_box(reading), &mut effects));
                    let later = reading.arrival.as_unix_micros() + span;
                    reading.arrival = Timestamp::from_unix_micros(later);
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, decide);
criterion_main!(benches);
