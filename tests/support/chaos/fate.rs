//! What happens to a connection.

use std::time::Duration;

use super::draw::Draw;

/// What happens to one connection, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fate {
    /// It strikes when so many PUBACKs have passed.
    pub(crate) after: u32,
    /// What then happens.
    pub(crate) trouble: Trouble,
    /// The connection is reset when it has lasted so long, if it is still there.
    pub(crate) life: Option<Duration>,
}

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Nothing.
    None,
    /// Everything takes so much longer, and up to half as much again, and no more than so many bytes a second pass.
    Slow(Duration, u32),
    /// Every byte is a segment of its own.
    Dribble,
    /// What is sent to a side vanishes, and nobody is told.
    BlackHole(Towards),
    /// The next packet to a side that matters (PUBLISH, PUBACK) is cut: so many of its bytes pass, then both ends hear
    /// that the connection has ended.
    Cut(Side, usize),
    /// The connection is reset.
    Reset,
    /// It is reset at once, and the port is closed for so long.
    Refuse(Duration),
    /// CONNECT is answered with this code.
    RefuseConnect(u8),
    /// CONNECT is never answered.
    Mute,
    /// PUBACKs vanish; everything else passes.
    SwallowAcks,
    /// Each PUBACK comes twice.
    AckTwice,
    /// A PUBACK comes for what was never sent.
    AckUnknown,
    /// Something comes that no broker may send: one of [`NONSENSE`].
    Nonsense(usize),
    /// PUBLISH goes no further and is answered with this reason, and all behind it (MQTT 5).
    RefusePublish(u8),
    /// So many PUBLISH packets go no further and are acknowledged all the same: a far side that loses what it took.
    Lie(u32),
    /// The far side says good-bye with this reason (MQTT 5).
    Disconnect(u8),
    /// PUBLISH with this text in it goes no further: it is answered with this reason, or the connection is cut.
    Poison(&'static str, Option<u8>),
    /// Bytes pass as they are, encrypted or not; the connection is reset once the gateway has sent so many.
    ResetAt(usize),
}

/// The rate of a line that has none.
pub(crate) const UNLIMITED: u32 = u32::MAX;

/// One end of the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The gateway.
    Gateway,
    /// The broker.
    Broker,
}

/// Where bytes vanish on their way to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Towards {
    /// One side.
    One(Side),
    /// Both.
    Both,
}

/// What no broker may send, with what is wrong about it.
pub(super) const NONSENSE: [(&[u8], &str); 8] = [
    (&[0x00, 0x00], "a packet of type 0"),
    (&[0x40, 0xff, 0xff, 0xff, 0xff, 0x7f], "a length of five bytes"),
    (&[0x40, 0x01, 0x00], "a PUBACK of one byte"),
    (&[0x36, 0x06, 0x00, 0x01, b'a', 0x00, 0x01, b'x'], "a PUBLISH with quality of service 3"),
    (&[0x32, 0x03, 0x00, 0x09, b'a'], "a PUBLISH that ends in its topic"),
    (&[0x10, 0x02, 0x00, 0x00], "a CONNECT"),
    (&[0x90, 0x03, 0x00, 0x63, 0x01], "a SUBACK without a SUBSCRIBE"),
    (&[0x62, 0x02, 0x00, 0x63], "a PUBREL without a PUBLISH"),
];

impl Towards {
    /// Returns whether what is sent to `side` vanishes.
    pub(super) fn swallows(self, side: Side) -> bool {
        self == Self::Both || self == Self::One(side)
    }
}

impl Fate {
    /// Nothing goes wrong.
    pub(crate) const NONE: Self = Self { after: 0, trouble: Trouble::None, life: None };

    /// Strikes once `after` PUBACKs have passed.
    pub(crate) fn after(after: u32, trouble: Trouble) -> Self {
        Self { after, trouble, life: None }
    }

    /// Draws the fate of a connection by its number. Each kind comes once in [`KINDS`] connections.
    pub(super) fn drawn(seed: u64, number: u64, version: u8) -> Self {
        let mut deck: Vec<u64> = (0..KINDS).collect();
        Draw::new(seed, number / KINDS).shuffle(&mut deck);
        let kind = deck[usize::try_from(number % KINDS).expect("below KINDS")];
        let draw = &mut Draw::new(seed, u64::MAX - number);
        let after = u32::try_from(draw.between(0, 40)).expect("small");
        let life = Duration::from_millis(draw.between(600, 2_500));
        Self { after, trouble: trouble(kind, version, draw), life: Some(life) }
    }
}

/// How many kinds of trouble are drawn.
pub(super) const KINDS: u64 = 17;

/// MQTT 3.1.1 return code 3, and MQTT 5 reasons by which a broker asks for patience.
const BUSY: [u8; 3] = [0x88, 0x89, 0x97];

fn trouble(kind: u64, version: u8, draw: &mut Draw) -> Trouble {
    let is_5 = version == 5;
    let milliseconds = |draw: &mut Draw, low, high| Duration::from_millis(draw.between(low, high));
    let rate = |draw: &mut Draw| u32::try_from(draw.between(2_000, 20_000)).expect("small");
    let bytes = |draw: &mut Draw| usize::try_from(draw.between(1, 4)).expect("small");
    match kind {
        0 => Trouble::None,
        1 => Trouble::Slow(milliseconds(draw, 20, 400), UNLIMITED),
        2 => Trouble::Slow(Duration::ZERO, rate(draw)),
        3 => Trouble::Dribble,
        4 => Trouble::BlackHole(Towards::One(Side::Broker)),
        5 => Trouble::BlackHole(Towards::One(Side::Gateway)),
        6 => Trouble::BlackHole(Towards::Both),
        7 => Trouble::Cut(Side::Broker, usize::try_from(draw.between(1, 200)).expect("small")),
        8 => Trouble::Cut(Side::Gateway, bytes(draw)),
        9 => Trouble::Reset,
        10 => Trouble::Refuse(milliseconds(draw, 100, 900)),
        11 => Trouble::RefuseConnect(if is_5 { draw.one_of(&BUSY) } else { 3 }),
        12 => draw.one_of(&[Trouble::AckTwice, Trouble::AckUnknown]),
        13 => Trouble::Nonsense(usize::try_from(draw.between(0, 8)).expect("small")),
        14 if is_5 => Trouble::RefusePublish(draw.one_of(&[0x80, 0x83, 0x97])),
        15 if is_5 => Trouble::Disconnect(draw.one_of(&[0x89, 0x8b, 0x97, 0x98])),
        _ => Trouble::SwallowAcks,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// uplink.40: the same seed is the same course, another seed another; each kind comes in each round.
    #[test]
    fn uplink_40_a_seed_says_what_happens() {
        let course = |seed, version| -> Vec<Fate> {
            (0..3 * KINDS).map(|number| Fate::drawn(seed, number, version)).collect()
        };
        assert_eq!(course(1, 5), course(1, 5));
        assert_ne!(course(1, 5), course(2, 5));
        for round in course(7, 5).chunks(usize::try_from(KINDS).unwrap()) {
            let kinds: BTreeSet<String> = round
                .iter()
                .map(|fate| format!("{:?}", fate.trouble))
                .map(|text| text.split('(').next().unwrap_or_default().to_owned())
                .collect();
            // Black holes are of three kinds, cuts and slow lines of two.
            assert_eq!(kinds.len(), 13, "{kinds:?}");
        }
        let words = ["RefusePublish", "Disconnect"];
        let text = format!("{:?}", course(7, 4));
        assert!(words.iter().all(|word| !text.contains(word)), "MQTT 3.1.1 has neither");
    }
}
