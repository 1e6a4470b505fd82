//! What asking for a right costs, by the number of rules.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use tidegate_broker::access::{AccessEntry, AccessFilter, AccessRules, Glob};
use tidegate_model::{ClientId, Principal, Topic};

const COUNTS: [usize; 3] = [10, 1_000, 10_000];

fn entry(principal: &str, filter: &str) -> AccessEntry {
    AccessEntry {
        principal: Glob::new(principal),
        publish: vec![AccessFilter::parse(filter).expect("a filter")],
        subscribe: Vec::new(),
        command: Vec::new(),
        manage: None,
    }
}

/// A principal with so many rules of its own asks for the last of them.
fn own_rules(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("access/own rules");
    let principal = Principal::new("press-7").expect("a name");
    for count in COUNTS {
        let entries =
            (0..count).map(|n| entry("press-7", &format!("hall1/press-{n}/+/temperature")));
        let rules = AccessRules::new(entries.collect());
        let rights = rules.rights(&principal, None);
        let topic = Topic::new(&format!("hall1/press-{}/zone-1/temperature", count - 1));
        let topic = topic.expect("a topic");
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.iter(|| assert!(rights.may_publish(black_box(&topic))));
        });
    }
    group.finish();
}

/// Among so many rules for others, a client comes again and again without a session (HTTP, CoAP).
fn rules_of_others(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("access/rules of others");
    let principal = Principal::new("press-7").expect("a name");
    let client = ClientId::new("c1").expect("a name");
    for count in COUNTS {
        let entries = (0..count).map(|n| entry(&format!("press-{n}"), "hall1/{principal}/#"));
        let rules = AccessRules::new(entries.collect());
        let topic = Topic::new("hall1/press-7/temperature").expect("a topic");
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.iter(|| {
                let rights = rules.rights(black_box(&principal), Some(&client));
                assert!(rights.may_publish(black_box(&topic)));
            });
        });
    }
    group.finish();
}

criterion_group!(benches, own_rules, rules_of_others);
criterion_main!(benches);
