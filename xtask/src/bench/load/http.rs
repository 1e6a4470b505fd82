//! HTTP devices: one POST after another over a connection that stays open.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};

use super::{Client, LOOK, Tenths, or_nothing, refused};

/// One connection; its window must be 1, as without pipelining.
#[derive(Debug)]
pub(in crate::bench) struct Http {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Http {
    pub(in crate::bench) fn connect(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LOOK))?;
        Ok(Self { stream, input: Vec::new() })
    }
}

impl Client for Http {
    fn send(&mut self, device: usize, value: Tenths) -> io::Result<()> {
        let body = value.to_string();
        let length = body.len();
        let request = format!(
            "POST /ingest/device-{device} HTTP/1.1\r\nhost: localhost\r\n\
             content-type: text/plain\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        self.stream.write_all(request.as_bytes())
    }

    fn receive(&mut self) -> io::Result<usize> {
        let mut buffer = [0; 1_024];
        let length = or_nothing(self.stream.read(&mut buffer))?;
        self.input.extend(&buffer[..length]);
        // An acknowledgement has no body, so the end of the head is its end.
        if !self.input.ends_with(b"\r\n\r\n") {
            return Ok(0);
        }
        if !self.input.starts_with(b"HTTP/1.1 20") {
            return Err(refused(String::from_utf8_lossy(&self.input)));
        }
        self.input.clear();
        Ok(1)
    }
}
