//! The proxy: ports that lead to a broker, and what happened on them.

use std::{
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use parking_lot::Mutex;

use super::{
    fate::{Fate, Trouble},
    line::{End, Line, reset},
};
use crate::support::{ports, wait};

/// After so many connections that were broken before a message got through, the next one carries some.
const FRUITLESS_MAX: u32 = 2;
/// How many PUBACKs it then carries at least.
const FRUITS: u32 = 3;
/// How long a port waits for a connection before it looks whether all is over.
const LOOK: Duration = Duration::from_millis(20);

/// Who says what happens to connections.
#[derive(Clone, Debug)]
pub(crate) enum Course {
    /// A seed, for this version of MQTT, until it is [calm](Chaos::calm).
    Seed(u64, u8),
    /// The test, connection by connection; nothing goes wrong behind the last one.
    Listed(Vec<Fate>),
}

/// A proxy, and a story of what it did.
#[derive(Debug)]
pub(crate) struct Chaos {
    shared: Arc<Shared>,
    ports: Vec<u16>,
    listeners: Vec<thread::JoinHandle<()>>,
}

/// What ports and connections know of each other.
#[derive(Debug)]
pub(super) struct Shared {
    course: Course,
    /// The broker's port.
    pub(super) broker: u16,
    is_calm: AtomicBool,
    is_over: AtomicBool,
    /// How many connections there have been.
    number: AtomicU64,
    newest: Mutex<Option<Arc<Line>>>,
    /// Connections in succession that were broken from here before a message got through.
    fruitless: Mutex<u32>,
    story: Mutex<Vec<String>>,
}

impl Chaos {
    /// Listens on `count` ports that lead to the broker on another one.
    #[track_caller]
    pub(crate) fn start(course: Course, count: usize, broker: u16) -> Self {
        let shared = Arc::new(Shared {
            course,
            broker,
            is_calm: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            number: AtomicU64::new(0),
            newest: Mutex::new(None),
            fruitless: Mutex::new(0),
            story: Mutex::new(Vec::new()),
        });
        let ports: Vec<u16> = (0..count).map(|_| ports::free_port()).collect();
        let listen = |&port: &u16| {
            let (listener, shared) = (bind(port), Arc::clone(&shared));
            thread::spawn(move || shared.listen(port, listener))
        };
        let listeners = ports.iter().map(listen).collect();
        Self { shared, ports, listeners }
    }

    /// Returns the ports.
    pub(crate) fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// Lets nothing go wrong from now on; a connection on which something does is reset.
    pub(crate) fn calm(&self) {
        self.shared.is_calm.store(true, Ordering::SeqCst);
        let line = self.shared.newest.lock().take_if(|line| line.has_fate());
        if let Some(line) = line {
            line.end(End::Reset);
        }
    }

    /// Returns how many connections there have been.
    pub(crate) fn connections(&self) -> u64 {
        self.shared.number.load(Ordering::SeqCst)
    }

    /// Returns what went wrong, connection by connection.
    pub(crate) fn story(&self) -> Vec<String> {
        self.shared.story.lock().clone()
    }
}

impl Drop for Chaos {
    fn drop(&mut self) {
        if thread::panicking() {
            let Course::Seed(seed, _) = self.shared.course else { return };
            eprintln!("── what went wrong by seed {seed} ──\n{}", self.story().join("\n"));
        }
        self.shared.is_over.store(true, Ordering::SeqCst);
        let line = self.shared.newest.lock().take();
        if let Some(line) = line {
            line.end(End::Cut);
        }
        for listener in self.listeners.drain(..) {
            // A panic of it has been printed, and a second one here would abort.
            let _ = listener.join();
        }
    }
}

impl Shared {
    /// Takes connections on one port until all is over.
    fn listen(self: Arc<Self>, port: u16, mut listener: TcpListener) {
        while !self.is_over.load(Ordering::SeqCst) {
            let Ok((near, _)) = listener.accept() else {
                thread::park_timeout(LOOK);
                continue;
            };
            let (number, fate) = self.next_fate();
            let Trouble::Refuse(pause) = fate.trouble else {
                self.pass(number, fate, near);
                continue;
            };
            self.tell(number, &format!("{:?}", fate.trouble));
            reset(&near);
            drop((near, listener));
            thread::park_timeout(pause);
            listener = bind(port);
        }
    }

    /// Numbers a connection and says what happens to it.
    fn next_fate(&self) -> (u64, Fate) {
        let number = self.number.fetch_add(1, Ordering::SeqCst);
        let fate = match &self.course {
            _ if self.is_calm.load(Ordering::SeqCst) => Fate::NONE,
            Course::Seed(seed, version) => {
                let mut fate = Fate::drawn(*seed, number, *version);
                // What connections were closed on again and again is given up (promises.md, A4), and a line that breaks so
                // early each time cannot be told from such a far side.
                if *self.fruitless.lock() >= FRUITLESS_MAX {
                    fate.after = fate.after.max(FRUITS);
                }
                fate
            }
            Course::Listed(fates) => {
                let at = usize::try_from(number).expect("few connections");
                fates.get(at).copied().unwrap_or(Fate::NONE)
            }
        };
        (number, fate)
    }

    /// Passes a connection on, in place of the one before.
    fn pass(self: &Arc<Self>, number: u64, fate: Fate, near: TcpStream) {
        let Ok(far) = TcpStream::connect(("127.0.0.1", self.broker)) else { return reset(&near) };
        let line = Arc::new(Line::new(number, fate, near, far, Arc::clone(self)));
        let before = self.newest.lock().replace(Arc::clone(&line));
        if let Some(before) = before {
            before.end(End::Cut);
        }
        line.run();
    }

    /// Lets go of a connection that has ended, so that its socket is closed.
    pub(super) fn forget(&self, number: u64) {
        self.newest.lock().take_if(|line| line.number() == number);
    }

    /// Notes what went wrong.
    pub(super) fn tell(&self, number: u64, what: &str) {
        self.story.lock().push(format!("connection {number}: {what}"));
    }

    /// Takes notice of the end of a connection that has passed so many PUBACKs; `is_ours` if it was broken here.
    pub(super) fn note_end(&self, acks: u32, is_ours: bool) {
        let mut fruitless = self.fruitless.lock();
        *fruitless = match (acks, is_ours) {
            (0, true) => *fruitless + 1,
            (0, false) => *fruitless,
            _ => 0,
        };
    }
}

/// Listens on a port that may have been in use a moment ago.
#[track_caller]
fn bind(port: u16) -> TcpListener {
    let bind = || TcpListener::bind(("127.0.0.1", port)).ok();
    let listener = wait::until("the port to be free again", bind);
    listener.set_nonblocking(true).expect("a socket can be polled");
    listener
}
