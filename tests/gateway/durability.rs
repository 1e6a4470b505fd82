//! The weaker modes of `[store] durability`: where they are told, and what they keep (broker.10).

use crate::support::{
    gateway::Gateway,
    ports,
    programs::curl,
    site::Site,
    wire::{Hello, Wire},
};

struct Bench {
    gateway: Gateway,
    mqtt: u16,
    http: u16,
}

fn start(store: &str) -> Bench {
    let [mqtt, http] = std::array::from_fn(|_| ports::free_port());
    let config = format!(
        "[gateway]\nid = \"gw\"\ndata-dir = \"data\"\n[store]\n{store}\n\
         [mqtt]\nlisten = [\"127.0.0.1:{mqtt}\"]\nanonymous = true\n\
         [http]\nlisten = [\"127.0.0.1:{http}\"]\nanonymous = true\n"
    );
    Bench { gateway: Gateway::start(&Site::new(&config, &[])), mqtt, http }
}

fn keeper() -> Hello<'static> {
    Hello { client_id: "keeper", clean: false, expiry: 3_600, ..Hello::default() }
}

impl Bench {
    /// Lets a session be, and publishes numbers to it while it is away; each is acknowledged.
    fn publish(&self, numbers: std::ops::Range<u32>) {
        let (mut keeper, _) = Wire::connect(self.mqtt, &keeper());
        assert_eq!(keeper.subscribe("kept/#", 1), 1);
        keeper.send(&[0xe0, 0]);
        keeper.end();
        let (mut writer, _) = Wire::connect(self.mqtt, &Hello::default());
        for number in numbers {
            assert_eq!(writer.publish("kept/n", &number.to_string()), 0);
        }
    }

    fn read(&self) -> Vec<u32> {
        let (mut keeper, _) = Wire::connect(self.mqtt, &keeper());
        let messages = keeper.messages(std::time::Duration::from_millis(500));
        messages.iter().map(|message| message.payload.parse().expect("a number")).collect()
    }

    /// Checks that log, status, its JSON and the metrics say this of the mode.
    fn check(&self, mode: &str, status: &str, log: &str) {
        assert_eq!(self.gateway.status(&[])["durability"], status);
        let said = self.gateway.tidegate("status", &[]);
        assert!(said.stdout.contains(&format!("durability {status}")), "{}", said.stdout);
        let (_, metrics) = curl(&[&format!("http://127.0.0.1:{}/metrics", self.http)]);
        let sample = format!("tidegate_store_durability{{mode=\"{mode}\"}} 1");
        assert!(metrics.lines().any(|line| line == sample), "{metrics}");
        let lines = self.gateway.output().lines();
        let told = lines.iter().filter(|line| line.contains("Acknowledged messages may be lost"));
        let told: Vec<_> = told.collect();
        if log.is_empty() {
            assert!(told.is_empty(), "nothing is to be said: {told:?}");
        } else {
            assert!(told.len() == 1 && told[0].contains(log), "{told:?}");
        }
    }
}

#[test]
fn broker_10_the_mode_is_told_wherever_it_matters() {
    start("").check("ack", "ack", "");
    let interval = start("durability = \"interval\"\ninterval = \"75ms\"");
    interval.check("interval", "interval 75 ms", "interval_ms=75");
    start("durability = \"memory\"").check("memory", "memory", "killed");
}

/// broker.10: with `interval` an acknowledgement means that the operating system has it, so kill -9 loses nothing.
#[test]
fn broker_10_interval_loses_nothing_by_kill_9() {
    // An interval that is never over here: only what was handed to the operating system can come back.
    let mut bench = start("durability = \"interval\"\ninterval = \"60s\"");
    for round in 0..3 {
        bench.publish(round * 200..(round + 1) * 200);
        bench.gateway.kill9();
        bench.gateway.start_again();
    }
    assert_eq!(bench.read(), (0..600).collect::<Vec<_>>(), "all, once, in order");
}

/// broker.10: with `memory` a stop in order keeps everything, and kill -9 an unbroken beginning.
#[test]
fn broker_10_memory_keeps_what_a_stop_writes() {
    let mut bench = start("durability = \"memory\"");
    bench.publish(0..200);
    assert!(bench.gateway.terminate().success());
    bench.gateway.start_again();
    bench.publish(200..400);
    bench.gateway.kill9();
    bench.gateway.start_again();
    let got = bench.read();
    println!("{} of 400 came back", got.len());
    assert!(got.len() >= 200, "what was written when it stopped: {got:?}");
    assert_eq!(got, (0..u32::try_from(got.len()).expect("few")).collect::<Vec<_>>(), "no hole");
}
