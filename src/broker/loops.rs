//! The event loops that connections live on: each a thread with a runtime of its own.
//!
//! A connection never moves between threads, so what one client's packets wake, other clients' tasks on the same
//! loop, costs no system call, and a subscriber's task runs once behind all the publishers that were read in the
//! same wake-up: one write for what all of them sent (`docs/decisions/0018-event-loops.md`).

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Sockets looked at and tasks run between two looks at the network: subscribers run behind every publisher that
/// was ready with them.
const TASKS_BETWEEN_LOOKS: u32 = 256;

/// Threads that serve connections. They end when it is dropped, with what still runs on them.
#[derive(Debug)]
pub struct EventLoops {
    loops: Vec<EventLoop>,
    _stop: DropGuard,
}

#[derive(Debug)]
struct EventLoop {
    handle: Handle,
    /// Connections that live on it.
    busy: Arc<AtomicUsize>,
}

/// A place on an event loop; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Seat(Arc<AtomicUsize>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl EventLoops {
    /// Starts `count` threads, at least one.
    ///
    /// # Errors
    ///
    /// If the system gives no thread, or no way to wait for sockets.
    pub fn start(count: usize) -> io::Result<Self> {
        let stop = CancellationToken::new();
        let loops = (0..count.max(1)).map(|number| EventLoop::start(number, stop.clone()));
        Ok(Self { loops: loops.collect::<io::Result<_>>()?, _stop: stop.drop_guard() })
    }

    /// Returns the runtimes, to be watched.
    pub(super) fn handles(&self) -> impl Iterator<Item = &Handle> {
        self.loops.iter().map(|event_loop| &event_loop.handle)
    }

    /// Takes a seat on the loop with the fewest connections.
    pub(super) fn seat(&self) -> (Seat, &Handle) {
        let busy = |event_loop: &&EventLoop| event_loop.busy.load(Ordering::Relaxed);
        let free = self.loops.iter().min_by_key(busy).expect("there is at least one");
        free.busy.fetch_add(1, Ordering::Relaxed);
        (Seat(Arc::clone(&free.busy)), &free.handle)
    }
}

impl EventLoop {
    fn start(number: usize, stop: CancellationToken) -> io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .event_interval(TASKS_BETWEEN_LOOKS)
            .build()?;
        let handle = runtime.handle().clone();
        let name = format!("connections-{number}");
        thread::Builder::new().name(name).spawn(move || runtime.block_on(stop.cancelled()))?;
        Ok(Self { handle, busy: Arc::default() })
    }
}
