//! The least that a broker could do: bytes from each publisher to its subscribers, and back; of a packet it reads
//! the length alone.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};

use super::load::Load;
use super::wire;
use crate::bench::child::cpu_of_this_thread;

const READ_BYTES: usize = 256 << 10;
const ASK: Token = Token(usize::MAX);

/// A relay on a thread of its own, until it is dropped.
#[derive(Debug)]
pub(super) struct Relay {
    address: SocketAddr,
    asks: Sender<Sender<Result<Duration>>>,
    waker: std::sync::Arc<Waker>,
    _thread: JoinHandle<Result<()>>,
}

impl Relay {
    /// Expects the connections of the load, subscribers first.
    pub(super) fn start(load: &Load) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let poll = Poll::new()?;
        let waker = std::sync::Arc::new(Waker::new(poll.registry(), ASK)?);
        let (asks, asked) = channel();
        let load = *load;
        let thread = thread::spawn(move || serve(&load, &listener, poll, &asked));
        Ok(Self { address, asks, waker, _thread: thread })
    }

    pub(super) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Returns the processor time of the relay.
    pub(super) fn cpu(&self) -> Result<Duration> {
        let (answer, answered) = channel();
        self.asks.send(answer).map_err(|_| anyhow!("the relay has ended"))?;
        self.waker.wake()?;
        answered.recv().context("the relay has ended")?
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let (asks, _) = channel();
        self.asks = asks;
        // It ends when nobody can ask any more.
        let _ = self.waker.wake();
    }
}

struct Peer {
    stream: TcpStream,
    /// A packet whose rest has not come.
    cut: Vec<u8>,
    output: Vec<u8>,
    to: Vec<usize>,
}

fn serve(
    load: &Load,
    listener: &TcpListener,
    mut poll: Poll,
    asked: &Receiver<Sender<Result<Duration>>>,
) -> Result<()> {
    let mut peers = accept(load, listener, &poll)?;
    let mut buffer = vec![0; READ_BYTES];
    let mut events = Events::with_capacity(1_024);
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == ASK {
                loop {
                    match asked.try_recv() {
                        Ok(answer) => drop(answer.send(cpu_of_this_thread())),
                        Err(std::sync::mpsc::TryRecvError::Empty) => break,
                        Err(std::sync::mpsc::TryRecvError::Disconnected) => return Ok(()),
                    }
                }
                continue;
            }
            let number = event.token().0;
            if event.is_writable() {
                peers[number].flush_waiting()?;
            }
            if event.is_readable() && !relay(&mut peers, number, &mut buffer)? {
                return Ok(());
            }
        }
    }
}

/// Passes on what a peer has sent, in whole packets; `false` if it is gone.
fn relay(peers: &mut [Peer], number: usize, buffer: &mut [u8]) -> Result<bool> {
    loop {
        let peer = &mut peers[number];
        let kept = peer.cut.len();
        buffer[..kept].copy_from_slice(&peer.cut);
        let end = match peer.stream.read(&mut buffer[kept..]) {
            Ok(0) => return Ok(false),
            Ok(read) => kept + read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error.into()),
        };
        let whole = wire::whole(&buffer[..end]);
        peer.cut.clear();
        peer.cut.extend_from_slice(&buffer[whole..end]);
        let to = std::mem::take(&mut peer.to);
        for other in &to {
            peers[*other].flush(&buffer[..whole])?;
        }
        peers[number].to = to;
        if end < buffer.len() {
            return Ok(true);
        }
    }
}

fn accept(load: &Load, listener: &TcpListener, poll: &Poll) -> Result<Vec<Peer>> {
    let mut peers = Vec::with_capacity(load.subscribers + load.publishers);
    for number in 0..load.subscribers + load.publishers {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut stream, Token(number), interest)?;
        peers.push(Peer { stream, cut: Vec::new(), output: Vec::new(), to: Vec::new() });
    }
    for publisher in 0..load.publishers {
        let from = load.subscribers + publisher;
        let to: Vec<usize> = if load.publishers == 1 {
            (0..load.subscribers).collect()
        } else {
            vec![load.subscriber_of(publisher)]
        };
        if load.qos > 0 && load.publishers == load.subscribers {
            to.iter().for_each(|subscriber| peers[*subscriber].to.push(from));
        }
        peers[from].to = to;
    }
    Ok(peers)
}

impl Peer {
    /// Writes what waits and then `more`; what finds no room waits.
    fn flush(&mut self, more: &[u8]) -> Result<()> {
        if !self.output.is_empty() {
            self.output.extend_from_slice(more);
            return self.flush_waiting();
        }
        match self.stream.write(more) {
            Ok(written) => self.output.extend_from_slice(&more[written..]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.output.extend_from_slice(more);
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn flush_waiting(&mut self) -> Result<()> {
        if self.output.is_empty() {
            return Ok(());
        }
        match self.stream.write(&self.output) {
            Ok(written) => drop(self.output.drain(..written)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}
