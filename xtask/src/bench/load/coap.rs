//! CoAP devices: confirmable PUTs in raw datagrams, each with its own message id and token.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};

use super::{Client, LOOK, Tenths, is_late, refused};

/// Version 1, a token of 4 bytes (RFC 7252, section 3); the type stands in bits 4 and 5.
const FIRST_BYTE: u8 = 0x44;
const ACKNOWLEDGEMENT: u8 = 2;
const CONFIRMABLE: u8 = 0;
const PUT: u8 = 0x03;
const CHANGED: u8 = 0x44;
const CREATED: u8 = 0x41;

/// One endpoint.
#[derive(Debug)]
pub(in crate::bench) struct Coap {
    socket: UdpSocket,
    number: u32,
    buffer: Vec<u8>,
}

impl Coap {
    pub(in crate::bench) fn connect(port: u16) -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect((Ipv4Addr::LOCALHOST, port))?;
        socket.set_read_timeout(Some(LOOK))?;
        Ok(Self { socket, number: 0, buffer: Vec::with_capacity(128) })
    }
}

impl Client for Coap {
    fn send(&mut self, device: usize, value: Tenths) -> io::Result<()> {
        use io::Write as _;
        self.number = self.number.wrapping_add(1);
        let [high, low] = [(self.number >> 8) as u8, self.number as u8];
        self.buffer.clear();
        self.buffer.extend([FIRST_BYTE, PUT, high, low]);
        self.buffer.extend(self.number.to_be_bytes());
        let name = format!("device-{device}");
        for (delta, segment) in [(11, "sensors"), (0, name.as_str()), (0, "temperature")] {
            let length = u8::try_from(segment.len()).expect("segments are short");
            // Lengths under 13 stand in the option's first byte.
            self.buffer.push(delta << 4 | length);
            self.buffer.extend(segment.bytes());
        }
        self.buffer.push(0xFF);
        write!(self.buffer, "{value}")?;
        self.socket.send(&self.buffer).map(drop)
    }

    fn receive(&mut self) -> io::Result<usize> {
        let mut answer = [0; 256];
        let length = match self.socket.recv(&mut answer) {
            Ok(length) if length >= 4 => length,
            Ok(_) => return Err(refused("with a cut message")),
            Err(error) if is_late(&error) => return Ok(0),
            Err(error) => return Err(error),
        };
        let [first, code, high, low, ..] = answer;
        let kind = first >> 4 & 3;
        if kind == ACKNOWLEDGEMENT && code == 0 {
            return Ok(0); // the response comes on its own (section 5.2.2)
        }
        if kind == CONFIRMABLE {
            self.socket.send(&[0x60, 0, high, low])?;
        }
        if !matches!(code, CHANGED | CREATED) {
            let text = String::from_utf8_lossy(&answer[4..length]);
            return Err(refused(format_args!("{}.{:02} {text}", code >> 5, code & 31)));
        }
        Ok(1)
    }
}
