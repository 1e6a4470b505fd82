//! The bytes of a connection: as the socket has them, or inside WebSocket frames (MQTT 5.0, section 6).

use std::{
    io::{self, IoSlice, Write as _},
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use tidegate_mqtt::Output;
use tidegate_tls::ServerTls;
use tokio::{io::Ready, net::TcpStream};
use tungstenite::{
    Error as WsError, HandshakeError, Message, WebSocket,
    handshake::{MidHandshake, server::ServerHandshake},
    protocol::{CloseFrame, WebSocketConfig, frame::coding::CloseCode},
};

use super::{
    socket::Socket,
    upgrade::{Upgrade, WebSocketSettings},
};

/// Pings and pongs read at once: each ping costs an answer.
const CONTROL_FRAMES: usize = 32;
/// Bytes of frames read at once.
const READ_BYTES: usize = 32 << 10;
/// Bytes put into one frame.
const FRAME_BYTES: usize = 32 << 10;
/// What may wait to be written to a client that has not logged in.
const FIRST_WRITE_BYTES: usize = 4 << 10;
/// What a WebSocket keeps for reading, for as long as it lives.
const FRAME_READ_BYTES: usize = 4 << 10;

/// How clients reach an address: in the clear or with TLS, with or without WebSocket frames.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wrapping {
    /// The handshakes, if there is TLS.
    pub(crate) tls: Option<Arc<ServerTls>>,
    /// The upgrade, if there are frames.
    pub(crate) websocket: Option<Arc<WebSocketSettings>>,
}

impl Wrapping {
    /// Returns whether MQTT comes as it is.
    pub(crate) fn is_plain(&self) -> bool {
        self.tls.is_none() && self.websocket.is_none()
    }
}

/// The bytes of a connection.
pub(super) enum Transport {
    Bytes(Socket),
    Frames(Box<Frames>),
}

pub(super) struct Frames {
    socket: WebSocket<Socket>,
    /// The largest message once the client has logged in.
    message_bytes_max: usize,
    /// A message was taken that was not sent to its end.
    is_unflushed: bool,
    /// The frames may hold more than was read: the socket says nothing about it.
    may_have_more: bool,
    is_trusted: bool,
    /// How the stream ended, behind bytes that were read and are to be heard first.
    end: Option<io::Result<bool>>,
}

impl Transport {
    /// Takes a connection without handshakes.
    pub(super) fn new(stream: TcpStream) -> Self {
        Self::Bytes(Socket::plain(stream))
    }

    /// Carries out all handshakes.
    ///
    /// # Errors
    ///
    /// If the client breaks off or asks for something that is not there; it has been told which.
    pub(super) async fn open(self, wrapping: &Wrapping) -> io::Result<Self> {
        let Self::Bytes(socket) = self else { return Ok(self) };
        let socket = match &wrapping.tls {
            Some(tls) => socket.encrypt(tls.config()).await?,
            None => socket,
        };
        match &wrapping.websocket {
            Some(settings) => upgrade(socket, settings).await,
            None => Ok(Self::Bytes(socket)),
        }
    }

    /// Waits for the socket on the runtime that this is called on, from now on.
    ///
    /// # Errors
    ///
    /// If the system lacks a descriptor.
    pub(super) fn move_here(&mut self) -> io::Result<()> {
        self.socket_mut().move_here()
    }

    pub(super) fn socket(&self) -> &Socket {
        match self {
            Self::Bytes(socket) => socket,
            Self::Frames(frames) => frames.socket.get_ref(),
        }
    }

    fn socket_mut(&mut self) -> &mut Socket {
        match self {
            Self::Bytes(socket) => socket,
            Self::Frames(frames) => frames.socket.get_mut(),
        }
    }

    /// Waits until there may be something to read (if `reads`), or room to write (if `writes`, or where bytes wait
    /// that were taken already). Cancel-safe.
    pub(super) fn ready(
        &self,
        reads: bool,
        writes: bool,
    ) -> impl Future<Output = io::Result<Ready>> + '_ {
        let (may_have_more, is_unflushed) = match self {
            Self::Bytes(_) => (false, false),
            Self::Frames(frames) => (frames.may_have_more, frames.is_unflushed),
        };
        self.socket().ready(reads, writes || is_unflushed, may_have_more)
    }

    /// Takes larger messages from now on: the client has logged in.
    pub(super) fn trust(&mut self) {
        if let Self::Frames(frames) = self {
            frames.is_trusted = true;
            let bytes_max = Some(frames.message_bytes_max);
            frames.socket.set_config(|config| {
                config.max_write_buffer_size = 4 * FRAME_BYTES;
                config.max_message_size = bytes_max;
                config.max_frame_size = bytes_max;
            });
        }
    }

    /// Returns whether everything that was written has gone to the socket.
    pub(super) fn is_flushed(&self) -> bool {
        match self {
            Self::Bytes(socket) => !socket.holds_bytes(),
            Self::Frames(frames) => !frames.is_unflushed && !frames.socket.get_ref().holds_bytes(),
        }
    }

    /// Reads what there is; `false` at the end of the stream.
    pub(super) fn read(&mut self, input: &mut BytesMut) -> io::Result<bool> {
        self.socket_mut().begin_turn();
        let result = match self {
            Self::Bytes(socket) => socket.read_into(input),
            Self::Frames(frames) => frames.read(input),
        };
        match result {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
            other => other,
        }
    }

    /// Writes as much as goes.
    pub(super) fn write(&mut self, output: &mut Output) -> io::Result<()> {
        let result = match self {
            Self::Bytes(socket) => write_bytes(socket, output),
            Self::Frames(frames) => frames.write(output),
        };
        match result {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            other => other,
        }
    }

    /// Says good-bye in the terms of the layers below MQTT.
    pub(super) fn finish(&mut self) {
        match self {
            Self::Bytes(socket) => socket.finish(),
            Self::Frames(frames) => {
                // What does not go now never will.
                let _ = frames.socket.close(None);
                let _ = frames.socket.flush();
                frames.socket.get_mut().finish();
            }
        }
    }
}

fn write_bytes(socket: &mut Socket, output: &mut Output) -> io::Result<()> {
    while !output.is_empty() {
        let mut slices = [IoSlice::new(&[]); 64];
        let filled = output.io_slices(&mut slices);
        let written = socket.write_vectored(&slices[..filled])?;
        output.advance(written);
    }
    socket.flush()
}

async fn upgrade(socket: Socket, settings: &Arc<WebSocketSettings>) -> io::Result<Transport> {
    let limits = WebSocketConfig::default()
        .read_buffer_size(FRAME_READ_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(FIRST_WRITE_BYTES)
        .max_message_size(Some(settings.first_message_bytes_max))
        .max_frame_size(Some(settings.first_message_bytes_max));
    let is_encrypted = socket.is_encrypted();
    let upgrade = Upgrade { settings: Arc::clone(settings), is_encrypted };
    let mut step = ServerHandshake::start(socket, upgrade, Some(limits)).handshake();
    loop {
        let mut waiting: MidHandshake<ServerHandshake<Socket, Upgrade>> = match step {
            Ok(socket) => {
                // The client may have sent more than its request.
                let frames = Frames {
                    socket,
                    message_bytes_max: settings.message_bytes_max,
                    is_unflushed: false,
                    may_have_more: true,
                    is_trusted: false,
                    end: None,
                };
                return Ok(Transport::Frames(Box::new(frames)));
            }
            Err(HandshakeError::Interrupted(waiting)) => waiting,
            Err(HandshakeError::Failure(error)) => return Err(io_error(error)),
        };
        let socket = waiting.get_mut().get_mut();
        socket.begin_turn();
        socket.ready(true, false, false).await?;
        step = waiting.handshake();
    }
}

impl Frames {
    fn read(&mut self, input: &mut BytesMut) -> io::Result<bool> {
        if let Some(end) = self.end.take() {
            return end;
        }
        let start = input.len();
        self.may_have_more = true;
        let mut control_frames = 0;
        let ended = loop {
            let read = input.len() - start;
            // What comes behind the login is taken with the limits of those who have logged in.
            let is_enough = read >= READ_BYTES || read > 0 && !self.is_trusted;
            if is_enough || control_frames >= CONTROL_FRAMES {
                return Ok(true);
            }
            match self.socket.read() {
                Ok(Message::Binary(bytes)) => input.extend_from_slice(&bytes),
                // Both are answered by the library; a pong may still have to be sent.
                Ok(Message::Ping(_) | Message::Pong(_)) => {
                    self.is_unflushed = true;
                    control_frames += 1;
                }
                Ok(Message::Close(_)) => {
                    let _ = self.socket.flush();
                    break Ok(false);
                }
                Ok(Message::Text(_) | Message::Frame(_)) => {
                    // MQTT 5.0, section 6.0: other frames than binary ones end the connection.
                    let reason = "MQTT comes in binary frames".into();
                    let close = CloseFrame { code: CloseCode::Unsupported, reason };
                    let _ = self.socket.close(Some(close));
                    break Ok(false);
                }
                Err(WsError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.may_have_more = self.socket.get_ref().is_cut_short();
                    return Ok(true);
                }
                Err(WsError::ConnectionClosed | WsError::AlreadyClosed) => break Ok(false),
                Err(error) => break Err(io_error(error)),
            }
        };
        if input.len() > start {
            // A client may send its last packets and close at once: they count.
            self.end = Some(ended);
            return Ok(true);
        }
        ended
    }

    fn write(&mut self, output: &mut Output) -> io::Result<()> {
        loop {
            if self.is_unflushed || self.socket.get_ref().holds_bytes() {
                self.socket.flush().map_err(io_error)?;
                self.is_unflushed = false;
            }
            if output.is_empty() || self.socket.get_ref().holds_bytes() {
                return Ok(());
            }
            let bytes = take_frame(output);
            self.is_unflushed = true;
            self.socket.write(Message::Binary(bytes)).map_err(io_error)?;
        }
    }
}

/// Takes what one frame holds from the front of the output.
fn take_frame(output: &mut Output) -> Bytes {
    let mut bytes = BytesMut::new();
    let mut slices = [IoSlice::new(&[]); 64];
    let filled = output.io_slices(&mut slices);
    for slice in &slices[..filled] {
        let room = FRAME_BYTES - bytes.len();
        bytes.extend_from_slice(&slice[..room.min(slice.len())]);
    }
    output.advance(bytes.len());
    bytes.freeze()
}

fn io_error(error: WsError) -> io::Error {
    match error {
        WsError::Io(error) => error,
        other => io::Error::new(io::ErrorKind::InvalidData, other),
    }
}

#[cfg(test)]
mod tests;
