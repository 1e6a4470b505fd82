//! What happens next, by chance, and how everything is brought to rest.

use std::{fmt, time::Duration};

use tidegate_broker::{Admission, BrokerLimits, Expiry, RetainHandling, SubscriptionOptions};
use tidegate_model::{Qos, Topic, TopicFilter};
use tidegate_mqtt::SubscriptionId;
use tidegate_store::simulation::{Fate, Random};

use crate::{
    client::{Client, ToServer, Version},
    reference::Facts,
    world::{Connect, World},
};

const CLIENTS: usize = 5;
const TOPICS: [&str; 6] = ["a", "a/b", "a/c", "b", "b/c/d", "/a"];
const FILTERS: [&str; 9] = ["a", "a/b", "a/#", "a/+", "#", "+/c/#", "b", "b/c/d", "/+"];

/// What happened in some runs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    steps: u64,
    published: u64,
    delivered: u64,
    crashes: u64,
    takeovers: u64,
    carried: u64,
}

impl Totals {
    pub(crate) fn add(&mut self, other: Self) {
        self.steps += other.steps;
        self.published += other.published;
        self.delivered += other.delivered;
        self.crashes += other.crashes;
        self.takeovers += other.takeovers;
        self.carried += other.carried;
    }

    /// Fails if the runs were about nothing.
    pub(crate) fn assert_something_happened(&self) {
        let least = [self.published, self.delivered, self.crashes, self.takeovers, self.carried];
        assert!(least.iter().all(|count| *count > 100), "too little happened: {self}");
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} steps: {} messages published, {} delivered, {} power cuts, {} takeovers, {} records carried",
            self.steps, self.published, self.delivered, self.crashes, self.takeovers, self.carried
        )
    }
}

/// One run.
pub(crate) struct Script {
    random: Random,
    world: World,
    clients: Vec<Client>,
    totals: Totals,
    is_told: bool,
    /// Of a thousand steps, how many cut the power.
    crashes_of_1000: u64,
}

impl Script {
    pub(crate) fn new(seed: u64, is_told: bool) -> Self {
        let mut random = Random::new(seed);
        let limits = BrokerLimits {
            session_expiry: Duration::from_secs(120),
            takeovers_per_second: u32::MAX,
            queue_messages: if random.below(4) == 0 { 6 } else { 10_000 },
            // With few, a SUBSCRIBE takes several visits, and everything else happens between them.
            retained_looks: [1, 2, 1_024][random.below(3) as usize],
            retained_messages: if random.below(4) == 0 { 3 } else { 10_000 },
            ..BrokerLimits::default()
        };
        let clients = (0..CLIENTS)
            .map(|_| Client::new(if random.below(2) == 0 { Version::V311 } else { Version::V5 }))
            .collect();
        let crashes_of_1000 = [0, 1, 3, 10][random.below(4) as usize];
        let world = World::new(limits);
        let mut script =
            Self { random, world, clients, totals: Totals::default(), is_told, crashes_of_1000 };
        // The number 0 belongs to no message.
        script.new_message(false);
        script
    }

    pub(crate) fn totals(&self) -> Totals {
        self.totals
    }

    /// Runs `steps`, brings everything to rest, and does that once more after a power cut.
    pub(crate) fn run(&mut self, steps: u64) {
        for _ in 0..steps {
            self.step();
        }
        self.rest();
        self.world.crash(Fate::Dropped, None, Duration::from_secs(1));
        self.lose_all();
        self.rest();
        self.totals.steps += steps;
    }

    fn tell(&self, what: fmt::Arguments<'_>) {
        if self.is_told {
            println!("{} {what}", self.world.now.as_unix_millis());
        }
    }

    fn chance(&mut self, of_100: u64) -> bool {
        self.random.below(100) < of_100
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.random.below(from.len() as u64) as usize]
    }

    fn step(&mut self) {
        if self.random.below(1_000) < self.crashes_of_1000 {
            return self.crash();
        }
        match self.random.below(100) {
            0..5 => self.come(),
            5 => self.go(),
            6..10 => self.subscribe(),
            10..25 => self.publish(),
            25..45 => self.read(),
            45..65 => self.write(),
            65..85 => self.hear(),
            85..94 => self.sync(),
            94 => self.pass_time(),
            95 => self.progress(),
            96..99 => self.keep_house(),
            _ => {
                let admission = if self.chance(20) { Admission::Closed } else { Admission::Open };
                self.tell(format_args!("the disk is {admission:?}"));
                self.world.admission = admission;
            }
        }
    }

    fn crash(&mut self) {
        let seed = self.random.next_u64();
        let torn = Fate::Torn { seed, block_bytes: 512 };
        let fate = self.pick(&[Fate::Kept, Fate::Dropped, torn, torn]);
        if self.chance(50) {
            // In the middle of a sync.
            let at = self.world.disk.operations() + 1 + self.random.below(3);
            self.world.disk.cut_power_at(at);
            let _ = self.world.sync(1 + self.random.below(8) as usize);
        }
        self.crash_with(fate);
    }

    fn crash_with(&mut self, fate: Fate) {
        let again = self.chance(20).then_some(Fate::Dropped);
        let seconds = self.pick(&[0, 1, 30, 200]);
        self.tell(format_args!("power cut: {fate:?}, {again:?}, off for {seconds} s"));
        self.world.crash(fate, again, Duration::from_secs(seconds));
        self.totals.crashes += 1;
        self.lose_all();
    }

    fn lose_all(&mut self) {
        self.clients.iter_mut().for_each(Client::lose_connection);
    }

    /// A client comes, perhaps while its old connection is still there.
    fn come(&mut self) {
        let client = self.random.below(CLIENTS as u64) as usize;
        if self.clients[client].link.is_some() && self.chance(90) {
            return;
        }
        let version = self.clients[client].version;
        let is_lasting = self.chance(80);
        let expiry = match (is_lasting, version) {
            (false, _) => Expiry::AtDisconnect,
            (true, Version::V311) => Expiry::After(Duration::MAX),
            (true, Version::V5) => Expiry::After(Duration::from_secs(self.pick(&[5, 60, 100]))),
        };
        let clean_start = match version {
            Version::V311 => !is_lasting,
            Version::V5 => self.chance(20),
        };
        let will = self.chance(40).then(|| {
            let delay = if version == Version::V5 { self.pick(&[0, 3, 30]) } else { 0 };
            let expiry = self.chance(30).then(|| Duration::from_secs(20));
            (self.new_message(true), Duration::from_secs(delay), expiry)
        });
        let receive_maximum =
            if version == Version::V5 { self.pick(&[1, 2, 5, u16::MAX]) } else { u16::MAX };
        self.connect(client, Connect { version, clean_start, expiry, will, receive_maximum });
    }

    fn connect(&mut self, client: usize, wanted: Connect) {
        self.tell(format_args!("client {client} comes: {wanted:?}"));
        if let Some(old) = self.clients[client].link.take() {
            self.cut(old);
            self.totals.takeovers += 1;
        }
        self.clients[client].lose_connection();
        self.clients[client].link = Some(self.world.connect(client, &wanted));
    }

    /// The network loses a connection; the server may have read more of it.
    fn cut(&mut self, number: u64) {
        let kept = self.random.below(4) as usize;
        if let Some(link) = self.world.links.get_mut(&number) {
            link.is_cut = true;
            link.to_server.truncate(kept);
        }
    }

    fn go(&mut self) {
        let client = self.random.below(CLIENTS as u64) as usize;
        let Some(number) = self.clients[client].link else { return };
        let is_orderly = self.clients[client].is_accepted && self.chance(50);
        if is_orderly {
            let expiry = match (self.clients[client].version, self.random.below(4)) {
                (Version::V5, 0) => Some(Expiry::AtDisconnect),
                (Version::V5, 1) => Some(Expiry::After(Duration::from_secs(30))),
                _ => None,
            };
            self.tell(format_args!("client {client} says good-bye: {expiry:?}"));
            if let Some(link) = self.world.links.get_mut(&number) {
                link.to_server.push_back(ToServer::Disconnect(expiry));
                link.is_cut = true;
            }
        } else {
            self.tell(format_args!("client {client} is cut off"));
            self.cut(number);
        }
        self.clients[client].lose_connection();
    }

    fn send(&mut self, client: usize, packet: ToServer) {
        self.tell(format_args!("client {client} sends {packet:?}"));
        let number = self.clients[client].link.expect("it is connected");
        // The server may have closed the connection.
        if let Some(link) = self.world.links.get_mut(&number) {
            link.to_server.push_back(packet);
        }
    }

    fn accepted_client(&mut self) -> Option<usize> {
        let client = self.random.below(CLIENTS as u64) as usize;
        self.clients[client].is_accepted.then_some(client)
    }

    fn subscribe(&mut self) {
        let Some(client) = self.accepted_client() else { return };
        let count = 1 + self.random.below(3);
        let filters: Vec<TopicFilter> =
            (0..count).map(|_| TopicFilter::new(self.pick(&FILTERS)).unwrap()).collect();
        if self.chance(25) {
            return self.send(client, ToServer::Unsubscribe(filters));
        }
        let is_v5 = self.clients[client].version == Version::V5;
        let identifier = (is_v5 && self.chance(50))
            .then(|| SubscriptionId::new(1 + self.random.below(3) as u32).expect("it is not 0"));
        let handling = [RetainHandling::Send, RetainHandling::SendIfNew, RetainHandling::DoNotSend];
        let wanted = filters.into_iter().map(|filter| {
            let options = SubscriptionOptions {
                qos: Qos::from_bits(self.random.below(3) as u8).unwrap(),
                no_local: is_v5 && self.random.below(4) == 0,
                retain_as_published: is_v5 && self.random.below(2) == 0,
                retain_handling: handling[if is_v5 { self.random.below(3) as usize } else { 0 }],
                identifier,
            };
            (filter, options)
        });
        let wanted = wanted.collect();
        self.send(client, ToServer::Subscribe(wanted));
    }

    /// Makes a message that nobody has sent yet.
    fn new_message(&mut self, is_will: bool) -> u64 {
        let topic = Topic::new(self.pick(&TOPICS)).unwrap();
        let retain = self.chance(25);
        let lives = (!is_will && self.chance(20)).then(|| self.pick(&[1, 10, 60]));
        let facts = Facts {
            topic,
            qos: Qos::from_bits(self.random.below(3) as u8).unwrap(),
            retain,
            is_empty: retain && self.random.below(5) == 0,
            expires: lives
                .map(|seconds| self.world.now.saturating_add(Duration::from_secs(seconds))),
        };
        self.world.reference.messages.push(facts);
        self.world.reference.messages.len() as u64 - 1
    }

    fn publish(&mut self) {
        let Some(client) = self.accepted_client() else { return };
        if !self.clients[client].may_publish() {
            return;
        }
        for _ in 0..=self.random.below(3) {
            let message = self.new_message(false);
            let qos = self.world.reference.messages[message as usize].qos;
            let packet = self.clients[client].publish(message, qos);
            self.send(client, packet);
            self.totals.published += 1;
        }
    }

    fn any_link(&mut self) -> Option<u64> {
        let count = self.world.links.len() as u64;
        if count == 0 {
            return None;
        }
        let at = self.random.below(count) as usize;
        self.world.links.keys().nth(at).copied()
    }

    /// The server reads, or notices that there is nothing more to read.
    fn read(&mut self) {
        let Some(number) = self.any_link() else { return };
        for _ in 0..=self.random.below(4) {
            if !self.read_one(number) {
                return;
            }
        }
    }

    fn read_one(&mut self, number: u64) -> bool {
        let Some(link) = self.world.links.get(&number) else { return false };
        let is_stuck = link.stalled.is_some() && self.world.admission == Admission::Closed;
        let is_gone = link.is_cut && (is_stuck || link.to_server.is_empty());
        self.tell(format_args!("connection {number} is read: {:?}", link.to_server.front()));
        if is_gone {
            let farewell = link.to_server.iter().find_map(|packet| match packet {
                ToServer::Disconnect(expiry) => Some(*expiry),
                _ => None,
            });
            self.world.leave(number, farewell);
            return false;
        }
        self.world.read(number)
    }

    fn write(&mut self) {
        let Some(number) = self.any_link() else { return };
        let most = 1 + self.random.below(8) as usize;
        let client = self.world.links[&number].client;
        self.tell(format_args!("connection {number} of client {client} is written to"));
        self.world.write(number, most);
    }

    /// A client hears something, and sends an answer that it has owed for some time.
    fn hear(&mut self) {
        let client = self.random.below(CLIENTS as u64) as usize;
        for _ in 0..=self.random.below(4) {
            self.hear_one(client);
        }
        if self.chance(70) {
            self.answer(client);
        }
    }

    fn hear_one(&mut self, client: usize) -> bool {
        let Some(number) = self.clients[client].link else { return false };
        let Some(link) = self.world.links.get_mut(&number) else {
            self.clients[client].lose_connection();
            return true;
        };
        let Some(packet) = link.to_client.pop_front() else { return false };
        self.tell(format_args!("client {client} hears {packet:?}"));
        let (had, answers) = self.clients[client].take(&packet);
        if let Some(entry) = had {
            self.world.reference.had(client, entry);
            self.totals.delivered += 1;
        }
        for answer in answers {
            self.send(client, answer);
        }
        true
    }

    fn answer(&mut self, client: usize) -> bool {
        if self.clients[client].link.is_none() || self.clients[client].acks.is_empty() {
            return false;
        }
        // A peer may answer out of order; the broker has to cope.
        let count = self.clients[client].acks.len() as u64;
        let at = if self.chance(90) { 0 } else { self.random.below(count) as usize };
        let answer = self.clients[client].acks.remove(at).expect("it is below the length");
        self.send(client, answer);
        true
    }

    fn sync(&mut self) {
        let count = 1 + self.random.below(12) as usize;
        self.world.sync(count).expect("the power is on");
    }

    fn pass_time(&mut self) {
        let milliseconds = self.pick(&[10, 10, 500, 500, 1_000, 1_000, 5_000, 40_000]);
        self.tell(format_args!("{milliseconds} ms pass"));
        self.world.tick(Duration::from_millis(milliseconds));
        self.world.check_counts();
    }

    fn progress(&mut self) {
        if let Some(number) = self.any_link() {
            self.world.store_progress(number);
        }
    }

    fn keep_house(&mut self) {
        let bytes = self.pick(&[0, 500, 100_000]);
        self.tell(format_args!("old segments go"));
        self.totals.carried += self.world.keep_house(bytes).expect("the power is on");
    }

    /// Lets every client that has a session come back and take all that waits for it.
    fn rest(&mut self) {
        self.tell(format_args!("everything comes to rest"));
        self.world.admission = Admission::Open;
        for client in 0..CLIENTS {
            let is_lasting = self.world.reference.session(client).is_some_and(|session| {
                session.is_persistent && !session.is_expired(self.world.now)
            });
            if self.clients[client].link.is_none() && is_lasting {
                let wanted = Connect {
                    version: self.clients[client].version,
                    clean_start: false,
                    expiry: Expiry::After(Duration::from_secs(60)),
                    will: None,
                    receive_maximum: 20,
                };
                self.connect(client, wanted);
            }
        }
        for round in 0.. {
            assert!(round < 10_000, "it never comes to rest");
            if !self.calm() {
                break;
            }
        }
        let now = self.world.now;
        self.world.reference.check_rest(now);
        self.world.keep_house(0).expect("the power is on");
        self.world.reference.forget_optional();
        self.world.check_counts();
        for (client, its) in self.clients.iter().enumerate() {
            assert!(
                its.link.is_none() || its.is_idle(),
                "client {client} was not answered: {its:?}"
            );
        }
    }

    /// Does everything once that can be done. Returns whether anything was.
    fn calm(&mut self) -> bool {
        let mut is_busy = self.world.queued() > 0;
        self.world.sync(usize::MAX).expect("the power is on");
        let numbers: Vec<u64> = self.world.links.keys().copied().collect();
        for number in numbers {
            while self.read_one(number) {
                is_busy = true;
            }
            if self.world.links.contains_key(&number) {
                self.world.write(number, 100);
            }
            let link = self.world.links.get_mut(&number);
            is_busy |= link.is_some_and(|link| link.is_called() || !link.is_cut && !link.is_idle());
        }
        for client in 0..CLIENTS {
            while self.hear_one(client) || self.answer(client) {
                is_busy = true;
            }
        }
        is_busy
    }
}
