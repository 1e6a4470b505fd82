//! What one reading costs on its way through a mapping.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tidegate_mapping::expression::{Expression, Inputs, ResultKind, Scope, Subject};
use tidegate_mapping::{Entry, Environment, Inlet, MappingSet};
use tidegate_model::{
    AdapterName, CaptureName, Captures, Clock, Origin, Reading, Status, Timestamp, Topic, Value,
    json, value_from_text,
};
use tidegate_settings::{Format, Issues, Sources, parse};

fn set(text: &str) -> MappingSet {
    let mut sources = Sources::default();
    let mut issues = Issues::default();
    let file = sources.add("bench.toml", text);
    let tree = parse(file, Format::Toml, text, &mut issues);
    let opcua_servers = vec![AdapterName::new("plc7").expect("a name")];
    let environment = Environment { opcua_servers, generation: 1 };
    MappingSet::compile(tree.as_slice(), &environment, &mut issues).expect("no errors")
}

fn origin() -> Origin {
    Origin { adapter: AdapterName::new("bench").expect("a name") }
}

fn reading(value: Value) -> Reading {
    Reading::new(value, Timestamp::from_unix_millis(1_772_366_400_000), origin())
}

/// One reading through one entry, captures already found, as the intake of an adapter does it.
fn apply(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mapping/apply");
    group.throughput(Throughput::Elements(1));
    let captures = Captures::new(["boiler".into()]);
    let cases = [
        ("float", "type = 'float'\nunit = 'Cel'", Value::Double(21.5)),
        ("transform", "transform = 'value / 10'\nunit = 'Cel'", Value::Integer(217)),
        (
            "when-and-transform",
            "when = \"quality == 'good' and value > 0\"\ntransform = 'value / 10'",
            Value::Integer(217),
        ),
    ];
    for (name, keys, value) in cases {
        let text = format!(
            "[[coap]]\nresource = '/s/{{room}}'\ntopic = 'hall1/{{room}}/temperature'\n{keys}"
        );
        let set = set(&text);
        let entry = &set.entries()[0];
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || reading(value.clone()),
                |reading| entry.apply(black_box(&captures), reading),
                criterion::BatchSize::SmallInput,
            );
        });
    }
    let text = "[[coap]]\nresource = '/s/{room}'\ntopic = 'hall1/{room}/temperature'\npayload = 'text'\ntype = 'float'\nunit = 'Cel'";
    let set = set(text);
    let entry = &set.entries()[0];
    let origin = origin();
    group.bench_function("text-to-float", |bencher| {
        bencher.iter(|| {
            let value = value_from_text(black_box("21.5"), entry.text_type()).expect("a number");
            let reading = Reading::new(value, Timestamp::from_unix_millis(0), origin.clone());
            entry.apply(black_box(&captures), reading)
        });
    });
    group.finish();
}

/// Expressions alone.
fn evaluate(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mapping/evaluate");
    group.throughput(Throughput::Elements(1));
    let names = [CaptureName::new("room").expect("a name")];
    let captures = Captures::new(["boiler".into()]);
    let document =
        json::parse_value(br#"{"id":0,"apower":8.9,"aenergy":{"total":11.7}}"#).expect("JSON");
    let cases = [
        ("value / 10", Value::Integer(217)),
        ("value * 9 / 5 + 32", Value::Double(21.5)),
        ("round(scale(value, 4, 20, 0, 100), 1)", Value::Double(12.3)),
        ("quality == 'good' and value > 0 and room != 'test'", Value::Integer(217)),
        ("value.aenergy.total / 1000", document),
    ];
    for (text, value) in cases {
        let scope = Scope { captures: &names, payload: None, subject: Subject::Reading };
        let expression = Expression::parse(text, scope, ResultKind::Value).expect("no fault");
        let inputs = Inputs {
            value: &value,
            time: Timestamp::from_unix_millis(0),
            status: Status::GOOD,
            captures: &captures,
            unit: None,
            topic: None,
        };
        group.bench_function(text, |bencher| {
            bencher.iter(|| expression.evaluate(black_box(&inputs)));
        });
    }
    group.finish();
}

/// Topics from captures.
fn render(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mapping/render");
    group.throughput(Throughput::Elements(1));
    for (name, topic, capture) in [
        ("fixed", "hall1/boiler/temperature", "boiler"),
        ("capture", "hall1/{room}/temperature", "boiler"),
        ("encoded", "hall1/{room}/temperature", "a/b 50%"),
    ] {
        let set = set(&format!("[[coap]]\nresource = '/s/{{room}}'\ntopic = '{topic}'"));
        let entry: &Entry = &set.entries()[0];
        let captures = Captures::new([capture.into()]);
        group.bench_function(name, |bencher| bencher.iter(|| entry.topic(black_box(&captures))));
    }
    group.finish();
}

/// What every publish of an MQTT client pays, and what a mapped one costs in all.
fn match_mqtt(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mapping/mqtt");
    group.throughput(Throughput::Elements(1));
    let topic = Topic::new("hall1/press-7/temperature").expect("a topic");
    for entries in [0, 1, 100, 10_000] {
        let mut text = String::new();
        for number in 0..entries {
            text.push_str(&format!(
                "[[mqtt]]\nfilter = 'old{number}/{{id}}/T'\ntopic = 'h/{number}/{{id}}'\n"
            ));
        }
        let set = set(&text);
        group.bench_with_input(BenchmarkId::new("miss", entries), &set, |bencher, set| {
            bencher.iter(|| set.match_mqtt(black_box(&topic)).is_none());
        });
    }
    let set = set(
        "[[mqtt]]\nfilter = 'legacy/{id}/T'\npayload = 'text'\ntransform = 'value / 10'\nunit = 'Cel'\ntopic = 'hall1/{id}/temperature'",
    );
    let topic = Topic::new("legacy/12/T").expect("a topic");
    let payload = Bytes::from_static(b"217");
    let inlet =
        Inlet { arrival: Timestamp::from_unix_millis(0), clock: Clock::Trusted, origin: origin() };
    group.bench_function("match-and-apply", |bencher| {
        bencher.iter(|| {
            let (entry, captures) = set.match_mqtt(black_box(&topic)).expect("it matches");
            entry.apply_mqtt(&captures, &payload, &inlet)
        });
    });
    group.finish();
}

/// The way back.
fn command_target(criterion: &mut Criterion) {
    let set = set(
        "[[opcua]]\nserver = 'plc7'\nnode = 'nsu=urn:p;s=Press.{n}.Setpoint'\ntopic = 'hall1/press-{n}/setpoint'\nwritable = true",
    );
    let topic = Topic::new("hall1/press-7/setpoint").expect("a topic");
    criterion.bench_function("mapping/command-target", |bencher| {
        bencher.iter(|| set.command_target(black_box(&topic)).is_some());
    });
}

criterion_group!(benches, apply, evaluate, render, match_mqtt, command_target);
criterion_main!(benches);
