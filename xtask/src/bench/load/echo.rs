//! The least that a datagram and its answer can cost here: an echo, for comparison.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Result, anyhow};

use super::{Client, LOOK, Tenths, is_late};
use crate::bench::child::cpu_of_this_thread;

/// Answers every datagram with itself, on a thread, until an empty one comes.
#[derive(Debug)]
pub(in crate::bench) struct EchoServer {
    thread: JoinHandle<Result<Duration>>,
    address: SocketAddr,
}

impl EchoServer {
    pub(in crate::bench) fn start() -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = socket.local_addr()?;
        Ok(Self { thread: thread::spawn(move || serve(&socket)), address })
    }

    pub(in crate::bench) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Ends the server and returns the processor time of its thread.
    pub(in crate::bench) fn stop(self) -> Result<Duration> {
        UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.send_to(&[], self.address)?;
        self.thread.join().unwrap_or_else(|_| Err(anyhow!("the echo panicked")))
    }
}

fn serve(socket: &UdpSocket) -> Result<Duration> {
    let mut buffer = [0; 256];
    loop {
        let (length, peer) = socket.recv_from(&mut buffer)?;
        if length == 0 {
            return cpu_of_this_thread();
        }
        socket.send_to(&buffer[..length], peer)?;
    }
}

/// A client of the echo.
#[derive(Debug)]
pub(in crate::bench) struct Echo(UdpSocket);

impl Echo {
    pub(in crate::bench) fn connect(port: u16) -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect((Ipv4Addr::LOCALHOST, port))?;
        socket.set_read_timeout(Some(LOOK))?;
        Ok(Self(socket))
    }
}

impl Client for Echo {
    fn send(&mut self, device: usize, value: Tenths) -> io::Result<()> {
        // As long as the CoAP request of the same reading.
        let text = format!("{:8}sensors device-{device} temperature {value}", "");
        self.0.send(text.as_bytes()).map(drop)
    }

    fn receive(&mut self) -> io::Result<usize> {
        match self.0.recv(&mut [0; 256]) {
            Ok(_) => Ok(1),
            Err(error) if is_late(&error) => Ok(0),
            Err(error) => Err(error),
        }
    }
}
