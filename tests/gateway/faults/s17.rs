//! S17, a wall clock that jumps while sessions, messages and wills have their times.

use std::{thread, time::Duration};

use serde_json::json;

use crate::support::{
    chaos::proxy::{Chaos, Course},
    mosquitto::Mosquitto,
    wall_clock::{self, WallClock},
    wire::{Hello, Wire, packet, string},
};

use super::lines::Lines;

const DAY: i64 = 86_400;
const JUMPS: [i64; 4] = [DAY, -DAY, 365 * DAY, -365 * DAY];
/// What messages, sessions and wills have, in seconds: longer than the test, shorter than any jump.
const TIME: u32 = 600;
/// How long each state of the clock lasts: some passes of whatever looks at expiry each second.
const LAST: Duration = Duration::from_secs(3);

/// S17: whatever the wall clock does, sessions, messages and wills last as long as they were to, by the time that really
/// passes; connections stay; readings carry the time of the wall.
#[test]
fn uplink_43_fault_s17_the_wall_clock_jumps() {
    let broker = Mosquitto::start();
    let proxy = Chaos::start(Course::Listed(Vec::new()), 1, broker.port());
    let mut wall = None;
    let more = "batch = { readings = 1 }\n";
    let mut lines = Lines::start_behind(proxy, "mqtt://127.0.0.1", broker, more, |gateway| {
        wall = Some(WallClock::new(gateway.folder()));
    });
    let wall = wall.expect("it was prepared");
    lines.gateway.terminate();
    wall.set(0);
    for (name, value) in wall.environment() {
        lines.gateway.set(name, &value);
    }
    lines.gateway.start_again();
    lines.until("the uplink", |uplink| uplink["connected"] == true);
    let (mut absent, _) = Wire::connect(
        lines.mqtt,
        &Hello { client_id: "absent", clean: false, expiry: TIME, ..Hello::default() },
    );
    assert_eq!(absent.subscribe("plant/#", 1), 1);
    drop(absent);
    let (mut witness, _) =
        Wire::connect(lines.mqtt, &Hello { client_id: "witness", ..Hello::default() });
    assert_eq!(witness.subscribe("wills/#", 1), 1);
    // Its will waits as long as its session lasts.
    drop(will_later(lines.mqtt));
    let mut values = 0;
    let publish = |wire: &mut Wire, value: u32| {
        let expiry = [&[2][..], &TIME.to_be_bytes()].concat();
        let bytes = wire.publish_packet(b"plant/count", &value.to_string(), 1, 7, &expiry);
        wire.send(&bytes);
        assert_eq!(wire.expect(4).body.get(2).copied().unwrap_or(0), 0);
    };
    publish(&mut witness, values);
    for jump in JUMPS {
        wall.set(jump);
        thread::sleep(LAST);
        values += 1;
        publish(&mut witness, values);
        wall.set(0);
        thread::sleep(LAST);
        values += 1;
        publish(&mut witness, values);
    }
    assert_eq!(witness.message(Duration::from_millis(100)), None, "no will was published");
    let hello = Hello { client_id: "absent", clean: false, expiry: TIME, ..Hello::default() };
    let (mut absent, is_present) = Wire::connect(lines.mqtt, &hello);
    assert!(is_present, "the session has lasted");
    let found = absent.messages(Duration::from_millis(500));
    let found: Vec<&str> = found.iter().map(|message| message.payload.as_str()).collect();
    let expected: Vec<String> = (0..=values).map(|value| value.to_string()).collect();
    assert_eq!(found, expected, "no message has expired");
    let uplink = lines.until("all", |uplink| uplink["delivered"] == values + 1);
    assert_eq!(
        (&uplink["connections"], &uplink["balanced"]),
        (&json!(1), &json!(true)),
        "{uplink}"
    );
    each_step_is_told(&lines);
    readings_have_the_walls_time(&mut lines, values + 1);
}

fn readings_have_the_walls_time(lines: &mut Lines, count: u32) {
    lines.cloud.ask("wait", json!({"count": count}));
    let readings = lines.cloud.ask("readings", json!({}));
    let now = wall_clock::now();
    let times: Vec<i64> = readings
        .as_array()
        .expect("a list")
        .iter()
        .map(|reading| reading["time_us"].as_i64().expect("a time") / 1_000_000 - now)
        .collect();
    let walls = std::iter::once(0).chain(JUMPS.into_iter().flat_map(|jump| [jump, 0]));
    for (time, wall) in times.iter().zip(walls) {
        assert!((wall - 120..=wall + 1).contains(time), "the wall's time {wall}: {times:?}");
    }
}

fn each_step_is_told(lines: &Lines) {
    let log = lines.gateway.output().lines();
    let steps = log.iter().filter(|line| line.contains("The wall clock was set")).count();
    assert_eq!(steps, 2 * JUMPS.len(), "{log:?}");
}

/// Connects a client that leaves a will with a delay as long as its session, and goes without a word.
fn will_later(port: u16) -> Wire {
    let mut body = [string("MQTT"), vec![5, 0x0e, 0, 60, 5, 0x11]].concat();
    body.extend(TIME.to_be_bytes());
    body.extend(string("gone"));
    body.extend([5, 0x18]);
    body.extend(TIME.to_be_bytes());
    body.extend(string("wills/gone"));
    body.extend(string("it is gone"));
    let mut wire = Wire::open(port, 5);
    wire.send(&packet(0x10, &body));
    assert_eq!(wire.expect(2).body[1], 0);
    wire
}
