//! What lapin runs on: a socket of ours, and tasks that end with the connection.

use std::{
    collections::BTreeMap,
    future::{Future, pending},
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use async_rs::{
    Runtime,
    traits::{Executor, Reactor, RuntimeKit},
    util::{Task, TaskImpl},
};
use futures_util::{Stream as Ticks, stream};
use parking_lot::Mutex;
use tidegate_uplink::{DeliveryBounds, Sieve, SieveError};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    runtime::Handle,
    sync::oneshot,
    task::JoinSet,
};
use tokio_util::{
    compat::{Compat, TokioAsyncReadCompatExt as _},
    sync::{CancellationToken, WaitForCancellationFutureOwned},
};

use crate::dial;

/// What is read at once.
const CHUNK_BYTES: usize = 8 << 10;

/// What the two sides of lapin know of deliveries: who answers them, and the socket by which they come.
#[derive(Debug, Default)]
pub(super) struct Account {
    settled: AtomicU64,
    /// The sizes of what came without its body, by delivery tag.
    emptied: Mutex<BTreeMap<u64, u64>>,
}

impl Account {
    /// Makes one for a connection by which nothing is delivered.
    pub(super) fn none() -> Arc<Self> {
        Arc::default()
    }

    /// Takes note of one more delivery that is answered now. To be called before the broker hears of it.
    pub(super) fn note_settled(&self) {
        self.settled.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how large a delivery was, if it came without its body for that.
    pub(super) fn take_emptied(&self, tag: u64) -> Option<u64> {
        self.emptied.lock().remove(&tag)
    }
}

/// A socket that breaks when its [`Leash`] is dropped: lapin keeps its own in a thread until then.
pub(super) struct Line {
    stream: Box<dyn dial::Stream>,
    sieve: Sieve,
    began: Instant,
    account: Arc<Account>,
    chunk: Vec<u8>,
    /// What has passed the sieve; up to `taken` it was taken already.
    passed: Vec<u8>,
    taken: usize,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Line {
    /// Sifts what was read.
    fn sift(&mut self, count: usize) -> Result<(), SieveError> {
        self.passed.clear();
        self.taken = 0;
        self.sieve.note_settled(self.account.settled.load(Ordering::Relaxed));
        let handled =
            self.sieve.handle(&self.chunk[..count], self.began.elapsed(), &mut self.passed);
        let emptied = self.sieve.take_emptied().into_iter().map(|it| (it.tag, it.bytes));
        self.account.emptied.lock().extend(emptied);
        handled
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let line = &mut *self;
        loop {
            if line.cut.as_mut().poll(context).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
            if line.taken < line.passed.len() {
                let count = buffer.remaining().min(line.passed.len() - line.taken);
                buffer.put_slice(&line.passed[line.taken..][..count]);
                line.taken += count;
                return Poll::Ready(Ok(()));
            }
            let mut read = ReadBuf::new(&mut line.chunk);
            ready!(Pin::new(&mut line.stream).poll_read(context, &mut read))?;
            let count = read.filled().len();
            if count == 0 {
                return Poll::Ready(Ok(()));
            }
            // Nothing may be left of it: then there is more to read.
            line.sift(count).map_err(io::Error::other)?;
        }
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(count)) = &written {
            self.sieve.note_said(*count);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Ends what lapin has started, when it is dropped.
#[derive(Debug)]
pub(super) struct Leash {
    cut: CancellationToken,
    tasks: Arc<Mutex<JoinSet<()>>>,
}

impl Leash {
    /// Makes a leash, and what runs on it.
    pub(super) fn new() -> (Self, Runtime<Kit>) {
        let tasks = Arc::new(Mutex::new(JoinSet::new()));
        let kit = Kit { handle: Handle::current(), tasks: Arc::clone(&tasks) };
        (Self { cut: CancellationToken::new(), tasks }, Runtime::new(kit))
    }

    /// Takes a socket by which nothing is delivered without bounds for that.
    pub(super) fn line(
        &self,
        stream: Box<dyn dial::Stream>,
        frame_bytes_max: u32,
        bounds: Option<DeliveryBounds>,
        account: Arc<Account>,
    ) -> Compat<Line> {
        let line = Line {
            stream,
            sieve: Sieve::new(frame_bytes_max, bounds),
            began: Instant::now(),
            account,
            chunk: vec![0; CHUNK_BYTES],
            passed: Vec::with_capacity(CHUNK_BYTES),
            taken: 0,
            cut: Box::pin(self.cut.clone().cancelled_owned()),
        };
        line.compat()
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        self.cut.cancel();
        self.tasks.lock().abort_all();
    }
}

/// The gateway's runtime as lapin asks for it.
#[derive(Clone, Debug)]
pub(super) struct Kit {
    handle: Handle,
    tasks: Arc<Mutex<JoinSet<()>>>,
}

impl RuntimeKit for Kit {}

impl Executor for Kit {
    type Task<T: Send + 'static> = Spawned<T>;

    fn block_on<T, F: Future<Output = T>>(&self, future: F) -> T {
        self.handle.block_on(future)
    }

    fn spawn<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &self,
        future: F,
    ) -> Task<Spawned<T>> {
        let (ended, end) = oneshot::channel();
        let task = async move {
            // Nobody may be left who wants to know.
            let _ = ended.send(future.await);
        };
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn_on(task, &self.handle);
        Task::from(Spawned(end))
    }

    fn spawn_blocking<T: Send + 'static, F: FnOnce() -> T + Send + 'static>(
        &self,
        work: F,
    ) -> Task<Spawned<T>> {
        // It looks names up, which is done by ours.
        self.spawn(async move { work() })
    }
}

impl Reactor for Kit {
    type TcpStream = Compat<Line>;
    type Sleep = tokio::time::Sleep;

    fn register<H: Send + 'static>(
        &self,
        _: H,
    ) -> io::Result<impl futures_util::AsyncRead + futures_util::AsyncWrite + Send + Unpin + 'static>
    {
        Err::<Compat<Line>, _>(io::ErrorKind::Unsupported.into())
    }

    fn sleep(&self, duration: Duration) -> Self::Sleep {
        let _within = self.handle.enter();
        tokio::time::sleep(duration)
    }

    fn interval(&self, period: Duration) -> impl Ticks<Item = Instant> + Send + 'static {
        let kit = self.clone();
        stream::unfold(Duration::ZERO, move |wait| {
            let sleep = kit.sleep(wait);
            async move {
                sleep.await;
                Some((Instant::now(), period))
            }
        })
    }

    fn tcp_connect_addr(
        &self,
        _: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        // Sockets are opened by `dial`.
        std::future::ready(Err(io::ErrorKind::Unsupported.into()))
    }
}

/// What a task will have said at its end; never, if it was ended.
#[derive(Debug)]
pub(super) struct Spawned<T>(oneshot::Receiver<T>);

impl<T> Future for Spawned<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        match Pin::new(&mut self.0).poll(context) {
            Poll::Ready(Ok(said)) => Poll::Ready(said),
            Poll::Ready(Err(_)) => std::pin::pin!(pending()).poll(context),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<T: Send + 'static> TaskImpl for Spawned<T> {}
