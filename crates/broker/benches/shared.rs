//! What it costs to route a message to one member of a group, few or many of them, idle or busy.

use std::{hint::black_box, sync::Arc};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use tidegate_broker::{
    Admission, Attachment, Broker, BrokerLimits, ConnectRequest, ConnectionId, Expiry,
    RetainHandling, Source, SubscriptionOptions, Wake, access::AccessRules,
};
use tidegate_model::{
    ClientId, CredentialId, Message, Payload, Principal, Qos, Timestamp, Topic, TopicFilter,
};

/// Nobody comes when called.
struct Deaf;

impl Wake for Deaf {
    fn wake(&self) {}
}

fn message() -> Message {
    Message {
        topic: Topic::new("plant/line/press/7/temperature").expect("a topic"),
        payload: Payload::bytes(&b"21.5"[..]),
        qos: Qos::AtMostOnce,
        retain: false,
        properties: None,
        publisher: Principal::anonymous(),
        arrival: Timestamp::default(),
    }
}

/// Returns a core with `count` sessions that share a subscription.
fn group_of(count: usize) -> (Broker, Vec<Attachment>) {
    let limits = BrokerLimits { sessions_per_principal: count, ..BrokerLimits::default() };
    let mut core = Broker::new(limits, AccessRules::default());
    let options = SubscriptionOptions {
        qos: Qos::AtMostOnce,
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::Send,
        identifier: None,
    };
    let filter = TopicFilter::new("$share/workers/plant/+/press/#").expect("a filter");
    let now = Timestamp::default();
    let members = (0..count).map(|number| {
        let request = ConnectRequest {
            principal: Principal::anonymous(),
            credential: CredentialId::new([0; 16]),
            client_id: ClientId::new(&format!("worker-{number}")).expect("an identifier"),
            clean_start: true,
            expiry: Expiry::AtDisconnect,
            will: None,
            receive_maximum: 64,
            connection: ConnectionId(number as u64),
            wake: Arc::new(Deaf),
        };
        let attachment = core.connect(request, now).expect("there is room").attachment;
        let filters = [(filter.clone(), options)];
        core.subscribe(attachment, &filters, now, Admission::Open).expect("it is attached");
        attachment
    });
    let members = members.collect();
    (core, members)
}

fn route(criterion: &mut Criterion) {
    for backlog in [0, 3] {
        let mut group = criterion.benchmark_group(format!("route to a group, {backlog} waiting"));
        for count in [1, 10, 100, 1_000, 10_000] {
            let (mut core, members) = group_of(count);
            let publish = |core: &mut Broker| {
                let routed = core.route(vec![message()], Source::Gateway, Admission::Open);
                black_box(routed.expect("nothing is full"));
            };
            // Nobody is idle then, so that the least loaded has to be looked for.
            (0..count * backlog).for_each(|_| publish(&mut core));
            let mut due = Vec::new();
            let mut next = 0;
            group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
                bencher.iter(|| {
                    publish(&mut core);
                    // Somebody takes one, so that as much waits as before.
                    while due.is_empty() {
                        let member = members[next % count];
                        let now = Timestamp::default();
                        core.take_due(member, now, 1, &mut due).expect("it is attached");
                        next += 1;
                    }
                    due.clear();
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, route);
criterion_main!(benches);
