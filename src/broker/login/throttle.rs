//! Delays after failed logins: for the address they come from, for the name they try, and apart from both for
//! names that lately logged in from the same address.
//!
//! Whoever guesses is slowed down wherever the guesses come from, and cannot keep a user out: a user who lately
//! logged in from an address has a delay of their own there. The delay of a name is short, for it also meets a user
//! who comes from elsewhere. After a restart no user is known, until each has logged in again.

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher as _, Hash, RandomState},
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

use super::memory::make_room;

/// The first delay; each further failure doubles it.
const DELAY_FIRST: Duration = Duration::from_secs(1);
/// The longest delay of a name: the user of the name may come from somewhere new.
const NAME_DELAY_MAX: Duration = Duration::from_secs(4);
/// Failures are forgotten when there was none for so long, or twice the longest delay.
const FORGET: Duration = Duration::from_secs(600);
/// How long a login makes a name known at an address.
const KNOWN: Duration = Duration::from_secs(86_400);
/// How often a login may end the delay of its name at its address: guesses from there have no more than the allowed
/// failures in each such time.
const CLEAR: Duration = Duration::from_secs(10);
/// Most addresses, and names, whose failures are kept.
const FAILURES_MAX: usize = 8_192;
/// Most logins by which names are known at addresses.
const KNOWN_MAX: usize = 16_384;

/// When logins are delayed.
#[derive(Clone, Copy, Debug)]
pub struct ThrottleSettings {
    /// Failures before the first delay.
    pub failures: u32,
    /// The longest delay.
    pub delay_max: Duration,
}

/// Where a client comes from, as far as it cannot choose: an IPv4 address, or the first half of an IPv6 one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Network(IpAddr);

impl Network {
    pub(super) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) => {
                let first_half = address.to_bits() >> 64 << 64;
                Self(Ipv6Addr::from_bits(first_half).into())
            }
            address => Self(address),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => address.fmt(formatter),
            IpAddr::V6(address) => write!(formatter, "{address}/64"),
        }
    }
}

/// What delays a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Failures from its address.
    Address,
    /// Failures with its name.
    Name,
    /// Failures with its name from its address, where the name is known.
    Login,
}

/// A login that is not checked now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Delay {
    pub(super) cause: Cause,
    pub(super) remaining: Duration,
}

/// The failures of late, and who logged in.
#[derive(Debug)]
pub(super) struct Throttle {
    settings: ThrottleSettings,
    /// Names are kept as keyed hashes: they may be long, and passwords that somebody wrote into the wrong field.
    hasher: RandomState,
    addresses: HashMap<Network, Failures>,
    names: HashMap<u64, Failures>,
    known: HashMap<u64, Known>,
}

/// Failures, none of them long ago.
#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    last: Instant,
}

/// A name that logged in from an address.
#[derive(Clone, Copy, Debug)]
struct Known {
    since: Instant,
    cleared: Instant,
    failures: Option<Failures>,
}

impl Throttle {
    pub(super) fn new(settings: ThrottleSettings) -> Self {
        Self {
            settings,
            hasher: RandomState::new(),
            addresses: HashMap::new(),
            names: HashMap::new(),
            known: HashMap::new(),
        }
    }

    /// Returns whether a name from an address may be checked now.
    pub(super) fn admit(&self, network: Network, name: &str, now: Instant) -> Result<(), Delay> {
        if let Some(known) =
            self.known.get(&self.pair(network, name)).filter(|known| known.is_of_late(now))
        {
            let remaining = self.remaining(known.failures.as_ref(), self.settings.delay_max, now);
            return refuse(Cause::Login, remaining);
        }
        self.admit_address(network, now)?;
        let failures = self.names.get(&self.hasher.hash_one(name));
        let longest = self.settings.delay_max.min(NAME_DELAY_MAX);
        refuse(Cause::Name, self.remaining(failures, longest, now))
    }

    /// Returns whether anything from an address may be checked now.
    pub(super) fn admit_address(&self, network: Network, now: Instant) -> Result<(), Delay> {
        let failures = self.addresses.get(&network);
        refuse(Cause::Address, self.remaining(failures, self.settings.delay_max, now))
    }

    /// Notes that a name from an address had a wrong password. Returns whether the address is delayed from now on.
    pub(super) fn failed(&mut self, network: Network, name: &str, now: Instant) -> bool {
        let (pair, name) = (self.pair(network, name), self.hasher.hash_one(name));
        let forget = self.forget_after();
        match self.known.get_mut(&pair).filter(|known| known.is_of_late(now)) {
            Some(known) => {
                known.failures = Some(Failures::one_more(known.failures, forget, now));
            }
            None => fail(&mut self.names, name, forget, self.settings.failures, now),
        }
        self.failed_address(network, now)
    }

    /// Notes that something wrong came from an address. Returns whether it is delayed from now on.
    pub(super) fn failed_address(&mut self, network: Network, now: Instant) -> bool {
        let (forget, failures) = (self.forget_after(), self.settings.failures);
        fail(&mut self.addresses, network, forget, failures, now);
        self.addresses.get(&network).is_some_and(|address| address.count == failures)
    }

    /// Notes that a name has logged in from an address: it is known there from now on. What else failed there, or
    /// with the name elsewhere, is not forgotten for that.
    pub(super) fn succeeded(&mut self, network: Network, name: &str, now: Instant) {
        let pair = self.pair(network, name);
        let known =
            self.known.entry(pair).or_insert(Known { since: now, cleared: now, failures: None });
        known.since = now;
        if now.saturating_duration_since(known.cleared) >= CLEAR {
            known.cleared = now;
            known.failures = None;
        }
        make_room(&mut self.known, KNOWN_MAX, |known| known.since);
    }

    /// Returns how many addresses, names and logins are kept.
    pub(super) fn sizes(&self) -> [usize; 3] {
        [self.addresses.len(), self.names.len(), self.known.len()]
    }

    fn pair(&self, network: Network, name: &str) -> u64 {
        self.hasher.hash_one((network, name))
    }

    fn forget_after(&self) -> Duration {
        FORGET.max(self.settings.delay_max * 2)
    }

    /// Returns how long failures delay the next try, if they do.
    fn remaining(
        &self,
        failures: Option<&Failures>,
        longest: Duration,
        now: Instant,
    ) -> Option<Duration> {
        let failures = failures?;
        let doublings = failures.count.checked_sub(self.settings.failures)?;
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        let delay = DELAY_FIRST.saturating_mul(factor).min(longest);
        let passed = now.saturating_duration_since(failures.last);
        delay.checked_sub(passed).filter(|remaining| !remaining.is_zero())
    }
}

fn refuse(cause: Cause, remaining: Option<Duration>) -> Result<(), Delay> {
    remaining.map_or(Ok(()), |remaining| Err(Delay { cause, remaining }))
}

/// Counts a failure. When the table is full, those who are not delayed are forgotten first, the oldest in front:
/// that does no harm. One who has filled it with delayed ones has paid for each of them.
fn fail<K: Copy + Eq + Hash>(
    table: &mut HashMap<K, Failures>,
    key: K,
    forget_after: Duration,
    allowed: u32,
    now: Instant,
) {
    let failures = Failures::one_more(table.get(&key).copied(), forget_after, now);
    table.insert(key, failures);
    make_room(table, FAILURES_MAX, |failures| (failures.count >= allowed, failures.last));
}

impl Failures {
    fn one_more(before: Option<Self>, forget_after: Duration, now: Instant) -> Self {
        let count = before
            .filter(|before| now.saturating_duration_since(before.last) < forget_after)
            .map_or(0, |before| before.count);
        Self { count: count.saturating_add(1), last: now }
    }
}

impl Known {
    fn is_of_late(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) < KNOWN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: ThrottleSettings =
        ThrottleSettings { failures: 5, delay_max: Duration::from_secs(60) };

    fn network(text: &str) -> Network {
        Network::of(text.parse().unwrap())
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// identity.8, fault_M18: five failures are free, then each costs twice as long as the one before, up to a limit.
    #[test]
    fn fault_m18_delays_double() {
        let mut throttle = Throttle::new(SETTINGS);
        let (address, mut now) = (network("192.0.2.1"), Instant::now());
        for number in 0..5 {
            assert_eq!(throttle.admit_address(address, now), Ok(()), "{number}");
            assert_eq!(throttle.failed(address, &format!("guess-{number}"), now), number == 4);
        }
        for delay in [1, 2, 4, 8, 16, 32, 60, 60] {
            let name = format!("after-{now:?}");
            let refused = Err(Delay { cause: Cause::Address, remaining: secs(delay) });
            assert_eq!(throttle.admit(address, &name, now), refused);
            assert_eq!(throttle.admit(network("192.0.2.2"), &name, now), Ok(()));
            now += secs(delay);
            assert_eq!(throttle.admit(address, &name, now), Ok(()));
            throttle.failed(address, &name, now);
        }
        now += FORGET;
        throttle.failed(address, "another", now);
        assert_eq!(throttle.admit_address(address, now), Ok(()), "what is long past is forgotten");
    }

    /// identity.8: who guesses a name from many addresses waits, but never long, and its user does not wait at all
    /// where it logged in before.
    #[test]
    fn fault_m18_guesses_do_not_lock_a_user_out() {
        let mut throttle = Throttle::new(SETTINGS);
        let (home, now) = (network("198.51.100.1"), Instant::now());
        throttle.succeeded(home, "press-7", now);
        for last in 1..=100 {
            throttle.failed(network(&format!("192.0.2.{last}")), "press-7", now);
        }
        assert_eq!(throttle.admit(home, "press-7", now), Ok(()));
        let elsewhere = throttle.admit(network("203.0.113.1"), "press-7", now);
        assert_eq!(elsewhere, Err(Delay { cause: Cause::Name, remaining: NAME_DELAY_MAX }));
        assert_eq!(throttle.admit(home, "press-8", now), Ok(()));

        // A neighbour with a wrong password does not matter to it either; guesses with its own name do.
        for _ in 0..20 {
            throttle.failed(home, "press-8", now);
        }
        assert_eq!(throttle.admit(home, "press-7", now), Ok(()));
        for _ in 0..5 {
            throttle.failed(home, "press-7", now);
        }
        let refused = Err(Delay { cause: Cause::Login, remaining: secs(1) });
        assert_eq!(throttle.admit(home, "press-7", now), refused);
        let later = now + CLEAR;
        throttle.succeeded(home, "press-7", later);
        throttle.failed(home, "press-7", later);
        assert_eq!(throttle.admit(home, "press-7", later), Ok(()));
    }

    #[test]
    fn guesses_beside_a_user_who_logs_in_all_the_time_are_few() {
        let mut throttle = Throttle::new(SETTINGS);
        let (home, start) = (network("198.51.100.1"), Instant::now());
        throttle.succeeded(home, "scada", start);
        let mut guesses = 0;
        for tick in 0..1_000 {
            let now = start + Duration::from_millis(100) * tick;
            if throttle.admit(home, "scada", now).is_ok() {
                throttle.failed(home, "scada", now);
                guesses += 1;
            }
            if throttle.admit(home, "scada", now).is_ok() {
                throttle.succeeded(home, "scada", now);
            }
        }
        assert!(guesses <= 10 * (5 + 4), "{guesses} guesses in 100 s");
    }

    #[test]
    fn half_an_ipv6_address_is_one_place() {
        let mut throttle = Throttle::new(SETTINGS);
        let now = Instant::now();
        for last in 1..=5 {
            throttle.failed_address(network(&format!("2001:db8:0:1::{last}")), now);
        }
        assert!(throttle.admit_address(network("2001:db8:0:1:ffff::"), now).is_err());
        assert!(throttle.admit_address(network("2001:db8:0:2::1"), now).is_ok());
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
        assert_eq!(network("2001:db8:0:1::5").to_string(), "2001:db8:0:1::/64");
    }

    /// identity.8: the tables are bounded, and one who fills them does not end a delay by it.
    #[test]
    fn tables_are_bounded_and_delays_outlast_others() {
        let mut throttle = Throttle::new(SETTINGS);
        let now = Instant::now();
        let guesser = network("192.0.2.1");
        for _ in 0..5 {
            throttle.failed(guesser, "press-7", now);
        }
        for number in 0..40_000_u64 {
            let later = now + Duration::from_nanos(number);
            let other = Network(Ipv6Addr::from_bits(u128::from(number) << 64).into());
            throttle.failed(other, &number.to_string(), later);
            throttle.succeeded(other, &number.to_string(), later);
        }
        let [addresses, names, known] = throttle.sizes();
        assert!(addresses <= FAILURES_MAX && names <= FAILURES_MAX && known <= KNOWN_MAX);
        assert!(throttle.admit_address(guesser, now).is_err());
        let elsewhere = throttle.admit(network("203.0.113.1"), "press-7", now);
        assert_eq!(elsewhere.unwrap_err().cause, Cause::Name);
    }
}
