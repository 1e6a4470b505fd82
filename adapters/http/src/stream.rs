//! A connection whose every wait has a deadline.
//!
//! The HTTP library has one timer, which runs while a connection is idle as well as while a head arrives.
//! Here both have their own, and so has a peer that does not read its answers.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::time::{Instant, Sleep, sleep_until};

/// How long the parts of an exchange may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadlines {
    /// From the first byte of a head to its last.
    pub(crate) header: Duration,
    /// From an answer to the next head.
    pub(crate) idle: Duration,
    /// From the first byte of an answer that the peer does not take to its last.
    pub(crate) write: Duration,
}

/// Where a connection stands between its requests; shared by the stream and the service.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress(Arc<Steps>);

#[derive(Debug, Default)]
struct Steps {
    /// Rises with each head and each answer: odd while the service works.
    step: AtomicU64,
    timed_out: AtomicBool,
}

impl Progress {
    /// Notes that a head is complete. Until the guard is dropped, the request is the service's.
    pub(crate) fn request(&self) -> RequestGuard {
        self.0.step.fetch_add(1, Ordering::Relaxed);
        RequestGuard(self.clone())
    }

    /// Returns whether a deadline has passed. The connection may yet end without an error: an idle one does.
    pub(crate) fn timed_out(&self) -> bool {
        self.0.timed_out.load(Ordering::Relaxed)
    }

    fn step(&self) -> u64 {
        self.0.step.load(Ordering::Relaxed)
    }

    fn time_out(&self) -> io::Error {
        self.0.timed_out.store(true, Ordering::Relaxed);
        io::ErrorKind::TimedOut.into()
    }
}

/// Notes when dropped that the answer is known.
#[derive(Debug)]
pub(crate) struct RequestGuard(Progress);

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.0.0.step.fetch_add(1, Ordering::Relaxed);
    }
}

/// A stream that fails with [`io::ErrorKind::TimedOut`] when a deadline has passed.
#[derive(Debug)]
pub(crate) struct TimedStream<S> {
    stream: S,
    deadlines: Deadlines,
    progress: Progress,
    /// The step to which the two times below belong.
    step: u64,
    head_since: Option<Instant>,
    idle_since: Option<Instant>,
    write_since: Option<Instant>,
    read_timer: Pin<Box<Sleep>>,
    write_timer: Option<Pin<Box<Sleep>>>,
}

impl<S> TimedStream<S> {
    /// Takes a stream that was just accepted: the first head has its deadline from now.
    pub(crate) fn new(stream: S, deadlines: Deadlines, progress: Progress) -> Self {
        let now = Instant::now();
        Self {
            stream,
            deadlines,
            step: progress.step(),
            progress,
            head_since: Some(now),
            idle_since: None,
            write_since: None,
            read_timer: Box::pin(sleep_until(now + deadlines.header)),
            write_timer: None,
        }
    }

    /// Forgets the times of an earlier step; returns whether a head is awaited.
    fn awaits_head(&mut self) -> bool {
        let step = self.progress.step();
        if step != self.step {
            self.step = step;
            self.head_since = None;
            self.idle_since = None;
        }
        step.is_multiple_of(2)
    }

    fn check_read(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        if !self.awaits_head() {
            return Poll::Pending;
        }
        let deadline = match self.head_since {
            Some(since) => since + self.deadlines.header,
            None => *self.idle_since.get_or_insert_with(Instant::now) + self.deadlines.idle,
        };
        passed(&mut self.read_timer, deadline, context).map(|()| self.progress.time_out())
    }

    /// Begins the wait for the next head, behind an answer that has gone out.
    ///
    /// The library does not read again of itself then: without this nothing would wake the connection.
    fn begin_idle(&mut self, context: &mut Context<'_>) {
        if self.awaits_head() && self.head_since.is_none() {
            let since = *self.idle_since.get_or_insert_with(Instant::now);
            // What has passed is found by the next read; the call is for the waker.
            let _ = passed(&mut self.read_timer, since + self.deadlines.idle, context);
        }
    }

    /// Notes that a part of an answer has gone out: the wait for the next head begins behind the last.
    fn note_write(&mut self) {
        self.idle_since = None;
    }

    fn check_write(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let since = *self.write_since.get_or_insert_with(Instant::now);
        let deadline = since + self.deadlines.write;
        let timer = self.write_timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        passed(timer, deadline, context).map(|()| self.progress.time_out())
    }
}

/// Waits for a deadline. One that only moves away leaves the timer alone until it fires.
fn passed(timer: &mut Pin<Box<Sleep>>, deadline: Instant, context: &mut Context<'_>) -> Poll<()> {
    if deadline < timer.deadline() {
        timer.as_mut().reset(deadline);
    }
    while timer.as_mut().poll(context).is_ready() {
        if deadline <= Instant::now() {
            return Poll::Ready(());
        }
        timer.as_mut().reset(deadline);
    }
    Poll::Pending
}

impl<S: Read + Unpin> Read for TimedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_read(context, buffer) {
            Poll::Ready(result) => {
                if self.awaits_head() {
                    self.head_since.get_or_insert_with(Instant::now);
                }
                Poll::Ready(result)
            }
            Poll::Pending => self.check_read(context).map(Err),
        }
    }
}

impl<S: Write + Unpin> Write for TimedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(context, bytes) {
            Poll::Pending => self.check_write(context).map(Err),
            ready => {
                self.note_write();
                ready
            }
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write_vectored(context, buffers) {
            Poll::Pending => self.check_write(context).map(Err),
            ready => {
                self.note_write();
                ready
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Is called when everything was written, which with TLS is not yet everything sent.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_flush(context) {
            Poll::Pending => self.check_write(context).map(Err),
            Poll::Ready(result) => {
                // The peer keeps up.
                self.write_since = None;
                self.begin_idle(context);
                Poll::Ready(result)
            }
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_shutdown(context) {
            Poll::Pending => self.check_write(context).map(Err),
            ready => ready,
        }
    }
}
