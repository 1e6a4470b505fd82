//! One connection on its way through.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::{Shutdown, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use socket2::SockRef;

use super::{
    draw::Draw,
    fate::{Fate, NONSENSE, Side, Trouble, UNLIMITED},
    packets::{CONNACK, CONNECT, PUBACK, PUBLISH, Splitter, kind, packet_id},
    proxy::Shared,
};
use crate::support::wire::packet;

/// How long a read waits before it looks whether the connection has lasted long enough.
const LOOK: Duration = Duration::from_millis(20);
/// A side that takes nothing for so long is given up.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);
/// Into how many pieces a second's worth of a slow line is divided.
const SLICES: usize = 20;
/// An identifier that no uplink uses: it has far fewer messages in flight.
const UNKNOWN_ID: u16 = 60_000;

/// How a connection is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Both sides hear of it.
    Cut,
    /// As the far side's kernel does that knows of no connection.
    Reset,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Line {
    number: u64,
    fate: Fate,
    begun: Instant,
    near: TcpStream,
    far: TcpStream,
    /// Held while bytes go to the gateway, which may come from both directions' threads.
    writes_near: Mutex<()>,
    /// Whether CONNACK has passed.
    is_accepted: AtomicBool,
    /// How many PUBACKs have passed.
    acks: AtomicU32,
    /// How many packets were acknowledged that went no further.
    lies: AtomicU32,
    /// How many bytes the gateway has sent, where they are not looked into.
    sent: AtomicUsize,
    is_struck: AtomicBool,
    is_over: AtomicBool,
    shared: Arc<Shared>,
}

/// What becomes of what was read: bytes for either side, and whether this is the end.
#[derive(Debug, Default)]
struct Effect {
    near: Vec<u8>,
    far: Vec<u8>,
    end: Option<End>,
}

impl Line {
    pub(super) fn new(
        number: u64,
        fate: Fate,
        near: TcpStream,
        far: TcpStream,
        shared: Arc<Shared>,
    ) -> Self {
        for stream in [&near, &far] {
            // A listener that does not wait may hand that on.
            stream.set_nonblocking(false).expect("a socket can wait");
            stream.set_nodelay(true).expect("a socket takes options");
            stream.set_read_timeout(Some(LOOK)).expect("a socket takes a timeout");
            stream.set_write_timeout(Some(WRITE_TIMEOUT)).expect("a socket takes a timeout");
        }
        Self {
            number,
            fate,
            begun: Instant::now(),
            near,
            far,
            writes_near: Mutex::new(()),
            is_accepted: AtomicBool::new(false),
            acks: AtomicU32::new(0),
            lies: AtomicU32::new(0),
            sent: AtomicUsize::new(0),
            is_struck: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            shared,
        }
    }

    /// Starts to pass on what comes from both sides.
    pub(super) fn run(self: Arc<Self>) {
        for from in [Side::Gateway, Side::Broker] {
            let line = Arc::clone(&self);
            thread::spawn(move || line.pump(from));
        }
    }

    /// Returns whether something goes wrong on it, sooner or later.
    pub(super) fn has_fate(&self) -> bool {
        self.fate != Fate::NONE
    }

    /// Ends it from here.
    pub(super) fn end(&self, end: End) {
        self.finish(end, true);
    }

    fn finish(&self, end: End, is_ours: bool) {
        if self.is_over.swap(true, Ordering::SeqCst) {
            return;
        }
        self.shared.note_end(self.acks.load(Ordering::SeqCst), is_ours);
        if end == End::Reset {
            // The reset itself goes out when both threads have let go of the socket.
            reset(&self.near);
            let _ = self.near.shutdown(Shutdown::Read);
        } else {
            let _ = self.near.shutdown(Shutdown::Both);
        }
        let _ = self.far.shutdown(Shutdown::Both);
        self.shared.forget(self.number);
    }

    /// Returns its number.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Passes on what comes from one side until the connection has ended.
    fn pump(&self, from: Side) {
        let mut splitter = Splitter::default();
        let mut draw = Draw::new(self.number, from as u64);
        let mut chunk = [0; 16 << 10];
        while !self.is_over.load(Ordering::SeqCst) {
            if self.fate.life.is_some_and(|life| self.begun.elapsed() >= life) {
                self.shared.tell(self.number, "reset, having lasted long enough");
                return self.end(End::Reset);
            }
            let size = match self.reader(from).read(&mut chunk) {
                Ok(0) => return self.finish(End::Cut, false),
                Ok(size) => size,
                Err(error) if is_timeout(&error) => 0,
                Err(_) => return self.finish(End::Cut, false),
            };
            let mut effect = Effect::default();
            match self.fate.trouble {
                Trouble::ResetAt(most) => {
                    self.pass_bytes(from, &chunk[..size], most, &mut effect);
                }
                // It may be encrypted.
                _ if !self.has_fate() => {
                    self.pass_bytes(from, &chunk[..size], usize::MAX, &mut effect);
                }
                _ => splitter.push(&chunk[..size]),
            }
            while let Some(packet) = splitter.next() {
                match from {
                    Side::Gateway => self.go_up(packet, &mut effect),
                    Side::Broker => self.come_down(packet, &mut effect),
                }
                if effect.end.is_some() {
                    break;
                }
            }
            if self.deliver(&effect, from, &mut draw).is_err() {
                return self.finish(End::Cut, false);
            }
            if let Some(end) = effect.end {
                return self.end(end);
            }
        }
    }

    /// Passes on what is not MQTT to us.
    fn pass_bytes(&self, from: Side, bytes: &[u8], most: usize, effect: &mut Effect) {
        if from == Side::Broker {
            return effect.near.extend(bytes);
        }
        let before = self.sent.fetch_add(bytes.len(), Ordering::SeqCst);
        let left = most.saturating_sub(before);
        effect.far.extend(&bytes[..bytes.len().min(left)]);
        if left < bytes.len() {
            self.shared.tell(self.number, &format!("{:?}", self.fate.trouble));
            effect.end = Some(End::Reset);
        }
    }

    fn reader(&self, side: Side) -> &TcpStream {
        if side == Side::Gateway { &self.near } else { &self.far }
    }

    /// Returns what goes wrong now, once it is time; it is told the first time.
    fn trouble(&self) -> Trouble {
        let is_time = self.is_accepted.load(Ordering::SeqCst)
            && self.acks.load(Ordering::SeqCst) >= self.fate.after;
        if !is_time || self.fate.trouble == Trouble::None {
            return Trouble::None;
        }
        if !self.is_struck.swap(true, Ordering::SeqCst) {
            let acks = self.acks.load(Ordering::SeqCst);
            self.shared.tell(self.number, &format!("{:?} after {acks} PUBACKs", self.fate.trouble));
        }
        self.fate.trouble
    }

    /// A packet of the gateway.
    fn go_up(&self, packet: Vec<u8>, effect: &mut Effect) {
        if kind(&packet) == CONNECT {
            return self.greet(packet, effect);
        }
        match self.trouble() {
            Trouble::BlackHole(towards) if towards.swallows(Side::Broker) => {}
            Trouble::Cut(Side::Broker, bytes) if kind(&packet) == PUBLISH => {
                effect.far.extend_from_slice(&packet[..bytes.min(packet.len() - 1)]);
                effect.end = Some(End::Cut);
            }
            Trouble::Reset => effect.end = Some(End::Reset),
            Trouble::Poison(text, answer) if holds(&packet, text) => match answer {
                Some(reason) => {
                    let id = packet_id(&packet).expect("uplinks publish with QoS 1");
                    effect.near.extend(puback(id, &[reason]));
                }
                None => effect.end = Some(End::Cut),
            },
            Trouble::Lie(count) if kind(&packet) == PUBLISH && self.lies_on(count) => {
                let id = packet_id(&packet).expect("uplinks publish with QoS 1");
                effect.near.extend(puback(id, &[]));
            }
            Trouble::RefusePublish(reason) if kind(&packet) == PUBLISH => {
                if let Some(id) = packet_id(&packet) {
                    effect.near.extend(puback(id, &[reason]));
                }
            }
            _ => effect.far.extend(packet),
        }
    }

    /// Counts one of so many lies; returns whether there was one left.
    fn lies_on(&self, count: u32) -> bool {
        let next = |lies: u32| (lies < count).then_some(lies + 1);
        self.lies.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next).is_ok()
    }

    /// The gateway's CONNECT.
    fn greet(&self, connect: Vec<u8>, effect: &mut Effect) {
        match self.fate.trouble {
            Trouble::RefuseConnect(code) => {
                self.shared.tell(self.number, &format!("{:?}", self.fate.trouble));
                // Behind the protocol's name; MQTT 5 has properties, of which there are none.
                let version = connect.iter().skip_while(|byte| **byte != b'M').nth(4);
                let properties: &[u8] = if version == Some(&5) { &[0] } else { &[] };
                effect.near = packet(CONNACK << 4, &[&[0, code], properties].concat());
                effect.end = Some(End::Cut);
            }
            Trouble::Mute => self.shared.tell(self.number, "Mute"),
            _ => effect.far.extend(connect),
        }
    }

    /// A packet of the broker.
    fn come_down(&self, packet: Vec<u8>, effect: &mut Effect) {
        if kind(&packet) == CONNACK {
            effect.near.extend(packet);
            self.is_accepted.store(true, Ordering::SeqCst);
            return;
        }
        let trouble = self.trouble();
        let is_ack = kind(&packet) == PUBACK;
        match trouble {
            Trouble::BlackHole(towards) if towards.swallows(Side::Gateway) => return,
            Trouble::SwallowAcks if is_ack => return,
            Trouble::Cut(Side::Gateway, bytes) if is_ack => {
                effect.near.extend_from_slice(&packet[..bytes.min(packet.len() - 1)]);
                effect.end = Some(End::Cut);
                return;
            }
            Trouble::Reset => {
                effect.end = Some(End::Reset);
                return;
            }
            Trouble::Disconnect(reason) => {
                effect.near.extend([0xe0, 2, reason, 0]);
                effect.end = Some(End::Cut);
                return;
            }
            Trouble::Nonsense(at) => effect.near.extend(NONSENSE[at].0),
            Trouble::AckTwice if is_ack => effect.near.extend(&packet),
            Trouble::AckUnknown if is_ack => effect.near.extend(puback(UNKNOWN_ID, &[])),
            _ => {}
        }
        effect.near.extend(packet);
        if is_ack {
            self.acks.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Writes what is to pass, in the way of a slow line if it is one.
    fn deliver(&self, effect: &Effect, from: Side, draw: &mut Draw) -> io::Result<()> {
        let trouble = self.trouble_of_line();
        if let Trouble::Slow(delay, _) = trouble
            && !(effect.near.is_empty() && effect.far.is_empty())
        {
            let more = u64::try_from(delay.as_millis()).expect("milliseconds") / 2 + 1;
            thread::park_timeout(delay + Duration::from_millis(draw.between(0, more)));
        }
        if !effect.far.is_empty() {
            self.write(&self.far, &effect.far, trouble)?;
        }
        if effect.near.is_empty() {
            return Ok(());
        }
        // What a side is told at the end of its own packet is written from the other thread.
        let held = self.writes_near.lock();
        let written = self.write(&self.near, &effect.near, trouble);
        drop(held);
        // What the gateway cannot hear any more is no reason to keep its last words from the broker.
        if from == Side::Gateway { Ok(()) } else { written }
    }

    /// Returns what is wrong with the line itself, if it is time for that.
    fn trouble_of_line(&self) -> Trouble {
        match self.fate.trouble {
            Trouble::Slow(..) | Trouble::Dribble => self.trouble(),
            _ => Trouble::None,
        }
    }

    fn write(&self, mut stream: &TcpStream, bytes: &[u8], trouble: Trouble) -> io::Result<()> {
        match trouble {
            Trouble::Slow(_, rate) if rate != UNLIMITED => {
                let slice = (usize::try_from(rate).expect("small") / SLICES).max(1);
                for piece in bytes.chunks(slice) {
                    if self.is_over.load(Ordering::SeqCst) {
                        return Err(ErrorKind::ConnectionAborted.into());
                    }
                    stream.write_all(piece)?;
                    let share = piece.len() as f64 / f64::from(rate);
                    thread::park_timeout(Duration::from_secs_f64(share));
                }
                Ok(())
            }
            Trouble::Dribble => bytes.chunks(1).try_for_each(|byte| stream.write_all(byte)),
            _ => stream.write_all(bytes),
        }
    }
}

/// Makes a socket say, when it is closed, that there is no such connection.
pub(super) fn reset(stream: &TcpStream) {
    // A socket whose far side has gone may take no options any more.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Returns whether a packet is a PUBLISH with this text somewhere in it.
fn holds(packet: &[u8], text: &str) -> bool {
    kind(packet) == PUBLISH && packet.windows(text.len()).any(|bytes| bytes == text.as_bytes())
}

fn puback(id: u16, reason: &[u8]) -> Vec<u8> {
    packet(PUBACK << 4, &[&id.to_be_bytes(), reason].concat())
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
