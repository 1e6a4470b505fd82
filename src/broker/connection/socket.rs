//! A client's socket, plain or with TLS, that never waits inside a read or write.

use std::{
    io::{self, IoSlice, Read, Write},
    os::fd::AsFd,
    sync::Arc,
};

use bytes::BytesMut;
use rustls::{ServerConfig, ServerConnection};
use tidegate_model::PeerNames;
use tokio::{
    io::{Interest, Ready},
    net::TcpStream,
};

/// Plain bytes that may wait to be encrypted, and encrypted ones that may wait for the socket.
const TLS_BUFFER_BYTES: usize = 64 << 10;

/// Encrypted or framed bytes taken from the network in one turn of a connection: a client that sends what comes to
/// nothing, such as pings, must not keep a processor from the others.
const TURN_BYTES: usize = 64 << 10;
/// Bytes read at once.
const READ_BYTES: usize = 32 << 10;
/// The same with TLS, whose records hold no more.
const TLS_READ_BYTES: usize = 16 << 10;

/// A socket.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    tls: Option<Box<Tls>>,
    /// What [`Read`] may still take in this turn.
    budget: usize,
    /// Whether it lives on an event loop, where nothing is heard of the network while a task runs.
    is_on_loop: bool,
}

#[derive(Debug)]
struct Tls {
    session: ServerConnection,
    /// Decrypted bytes that nobody has read yet: the socket says nothing about them.
    has_plaintext: bool,
}

/// The socket as rustls reads and writes it.
struct Raw<'s>(&'s TcpStream);

impl Read for Raw<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Raw<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Socket {
    /// Takes a socket without encryption.
    pub(super) fn plain(stream: TcpStream) -> Self {
        Self { stream, tls: None, budget: TURN_BYTES, is_on_loop: false }
    }

    /// Carries out the handshake.
    ///
    /// # Errors
    ///
    /// If the client breaks off or shows something that does not stand up; it has been told which.
    pub(super) async fn encrypt(self, config: Arc<ServerConfig>) -> io::Result<Self> {
        let Self { stream, .. } = self;
        let mut session = ServerConnection::new(config).map_err(io::Error::other)?;
        session.set_buffer_limit(Some(TLS_BUFFER_BYTES));
        let mut tls = Box::new(Tls { session, has_plaintext: false });
        while tls.session.is_handshaking() || tls.session.wants_write() {
            tls.flush(&stream)?;
            if !tls.session.is_handshaking() && !tls.session.wants_write() {
                break;
            }
            let interest = match (tls.session.wants_read(), tls.session.wants_write()) {
                (true, true) => Interest::READABLE | Interest::WRITABLE,
                (_, true) => Interest::WRITABLE,
                (_, false) => Interest::READABLE,
            };
            let ready = stream.ready(interest).await?;
            if ready.is_readable() && tls.receive(&stream)? == Received::End {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(Self { stream, tls: Some(tls), budget: TURN_BYTES, is_on_loop: false })
    }

    /// Waits on the event loop that this is called on, from now on.
    ///
    /// # Errors
    ///
    /// If the system lacks a descriptor.
    pub(super) fn move_here(&mut self) -> io::Result<()> {
        let descriptor = self.stream.as_fd().try_clone_to_owned()?;
        self.stream = TcpStream::from_std(descriptor.into())?;
        self.is_on_loop = true;
        Ok(())
    }

    /// Returns the names in the certificate that the client has shown.
    ///
    /// # Errors
    ///
    /// If the certificate, which was verified, cannot be read for its names.
    pub(super) fn peer_names(&self) -> Result<Option<PeerNames>, tidegate_tls::TlsError> {
        let chain = self.tls.as_ref().and_then(|tls| tls.session.peer_certificates());
        chain.and_then(|chain| chain.first()).map(tidegate_tls::names_in).transpose()
    }

    /// Waits until there may be something to read (if `reads`) or room to write (if `writes`, or where bytes wait
    /// that were taken already); for ever if neither is asked for. Not at all if it is known that there is something
    /// to read. Cancel-safe.
    pub(super) async fn ready(
        &self,
        reads: bool,
        writes: bool,
        has_more: bool,
    ) -> io::Result<Ready> {
        if reads && (has_more || self.tls.as_ref().is_some_and(|tls| tls.has_plaintext)) {
            return Ok(Ready::READABLE);
        }
        let interest = match (reads, writes || self.holds_bytes()) {
            (true, true) => Interest::READABLE | Interest::WRITABLE,
            (true, false) => Interest::READABLE,
            (false, true) => Interest::WRITABLE,
            (false, false) => return std::future::pending().await,
        };
        self.stream.ready(interest).await
    }

    /// Returns whether it speaks TLS.
    pub(super) fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    /// Begins another turn.
    pub(super) fn begin_turn(&mut self) {
        self.budget = TURN_BYTES;
    }

    /// Returns whether reading stopped because the turn was over, and not for want of bytes.
    pub(super) fn is_cut_short(&self) -> bool {
        self.budget == 0
    }

    /// Reads what there is behind what `input` holds; `false` at the end of the stream.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] if there is nothing now.
    pub(super) fn read_into(&mut self, input: &mut BytesMut) -> io::Result<bool> {
        if self.tls.is_none() {
            input.reserve(READ_BYTES);
            let room = input.capacity() - input.len();
            let read = self.stream.try_read_buf(input)?;
            if read > 0 && read < room && self.is_on_loop {
                // That was all: waiting begins at once, without a call to the system that brings nothing. Elsewhere
                // another thread might have heard of more meanwhile, which this would forget.
                let all_read = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
                let _ = self.stream.try_io(Interest::READABLE, all_read);
            }
            return Ok(read > 0);
        }
        let start = input.len();
        input.resize(start + TLS_READ_BYTES, 0);
        let result = self.read(&mut input[start..]);
        input.truncate(start + result.as_ref().map_or(0, |read| *read));
        result.map(|read| read > 0)
    }

    /// Returns whether bytes that were written wait for the socket.
    pub(super) fn holds_bytes(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.session.wants_write())
    }

    /// Says that nothing more will be written.
    pub(super) fn finish(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.session.send_close_notify();
            // What does not go now never will.
            let _ = tls.flush(&self.stream);
        }
    }
}

/// What a look at the socket has brought.
#[derive(PartialEq, Eq)]
enum Received {
    Something,
    Nothing,
    End,
}

impl Tls {
    /// Takes what the socket has, and decrypts it.
    fn receive(&mut self, stream: &TcpStream) -> io::Result<Received> {
        match self.session.read_tls(&mut Raw(stream)) {
            Ok(0) => return Ok(Received::End),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Ok(Received::Nothing);
            }
            Err(error) => return Err(error),
        }
        match self.session.process_new_packets() {
            Ok(state) => self.has_plaintext |= state.plaintext_bytes_to_read() > 0,
            Err(error) => {
                // The alert says to the client what was wrong.
                let _ = self.flush(stream);
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        }
        Ok(Received::Something)
    }

    /// Sends what is encrypted, as far as the socket takes it.
    fn flush(&mut self, stream: &TcpStream) -> io::Result<()> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut Raw(stream)) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Fails with [`io::ErrorKind::WouldBlock`] instead of waiting, and when the turn is over.
impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.budget == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let read = self.read_within_turn(buffer)?;
        self.budget = self.budget.saturating_sub(read);
        Ok(read)
    }
}

impl Socket {
    fn read_within_turn(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.stream.try_read(buffer) };
        loop {
            match tls.session.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    tls.has_plaintext = false;
                }
                // A connection that is cut without a good-bye ends like one with it: MQTT has its own.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                result => return result,
            }
            match tls.receive(&self.stream)? {
                Received::Something => {}
                Received::Nothing => return Err(io::ErrorKind::WouldBlock.into()),
                Received::End => return Ok(0),
            }
        }
    }
}

/// Fails with [`io::ErrorKind::WouldBlock`] instead of waiting. What was taken may wait for the socket:
/// [`Socket::holds_bytes`].
impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.stream.try_write_vectored(slices) };
        tls.flush(&self.stream)?;
        if tls.session.wants_write() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let written = tls.session.writer().write_vectored(slices)?;
        tls.flush(&self.stream)?;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.tls {
            Some(tls) => tls.flush(&self.stream),
            None => Ok(()),
        }
    }
}
