//! The way from rumqttc to the far side of an uplink.
//!
//! rumqttc opens connections by itself, and knows neither SOCKS nor WebSocket frames without a second TLS stack; so it is
//! given a socket of this process to connect to, and what lies behind is the gateway's: look-up, proxy, interface,
//! TLS, frames (docs/decisions/0020-tunnel.md). The socket has no name in the file system, and only this process gets
//! through.

use std::{
    future::Future,
    hash::{BuildHasher, RandomState},
    io,
    pin::pin,
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use tidegate_uplink::{Disconnect, Failure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy, sink, split},
    net::{UnixListener, UnixStream, unix::OwnedReadHalf},
    sync::watch,
    time::timeout,
};
use tokio_tungstenite::{
    client_async_with_config,
    tungstenite::{
        ClientRequestBuilder, Error as WsError, Message,
        http::{StatusCode, Uri},
        protocol::WebSocketConfig,
    },
};
use tracing::warn;

use super::{
    link::LinkError,
    settings::{Endpoint, LinkSettings, WebSocketRequest},
};
use crate::dial::{self, Stream, authority};

/// From the look-up of the name to the last handshake; less than rumqttc waits for CONNACK.
const DIAL_TIMEOUT: Duration = Duration::from_secs(15);
/// What was broken on its way may still be read for so long.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Longer than any connection lasts.
const LASTING: Duration = Duration::from_secs(100 * 365 * 24 * 3_600);
/// The largest message of frames that may come down.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Bytes put into one frame.
const FRAME_BYTES: usize = 32 << 10;

/// A socket that one connection of rumqttc comes in by.
#[derive(Debug)]
pub(super) struct Tunnel {
    listener: UnixListener,
    name: String,
    reached: watch::Sender<bool>,
}

/// How a tunnel came to its end.
enum End {
    /// The far side was never reached.
    NotConnected(LinkError),
    /// Bytes went through, and then no more.
    Broken(io::Result<()>),
}

impl Tunnel {
    /// Opens a socket under a name that nobody has.
    ///
    /// # Errors
    ///
    /// If the system lacks a descriptor.
    pub(super) fn open() -> io::Result<Self> {
        let random = RandomState::new();
        let name = format!("\0tidegate-{:016x}{:016x}", random.hash_one(0), random.hash_one(1));
        Ok(Self { listener: UnixListener::bind(&name)?, name, reached: watch::Sender::new(false) })
    }

    /// Returns what rumqttc is to take for a path.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Returns what becomes true when the far side is reached: what is written from then on is on its way.
    pub(super) fn reached(&self) -> watch::Receiver<bool> {
        self.reached.subscribe()
    }

    /// Drives `client`, whose connection comes in here, until one of them ends.
    pub(super) async fn drive(
        self,
        settings: LinkSettings,
        endpoint: usize,
        client: impl Future<Output = LinkError>,
    ) -> LinkError {
        let mut client = pin!(client);
        let end = tokio::select! {
            biased;
            end = self.run(&settings, endpoint) => end,
            error = &mut client => return error,
        };
        match end {
            End::NotConnected(error) => error,
            End::Broken(how) => {
                // What the far side said last has gone through and is to be heard.
                let last = timeout(LAST_WORDS, client).await;
                let mut error = last.unwrap_or_else(|_| LinkError::transient("it ended"));
                if let Err(how) = how {
                    error.reason = format!("{} ({how})", error.reason);
                }
                error
            }
        }
    }

    async fn run(self, settings: &LinkSettings, endpoint: usize) -> End {
        let endpoint = &settings.endpoints[endpoint];
        let reached = self.reached.clone();
        let connected = async {
            let tls = endpoint.tls.as_ref().map(|tls| tls.config());
            let stream = dial::dial(&endpoint.host, endpoint.port, &settings.way, tls).await;
            let stream = stream.map_err(LinkError::dial)?;
            match &endpoint.websocket {
                None => Ok(Far::Bytes(stream)),
                Some(request) => upgrade(stream, endpoint, request).await.map(Far::Frames),
            }
        };
        let (near, far) = tokio::join!(self.accept(), timeout(DIAL_TIMEOUT, connected));
        let far = far.unwrap_or_else(|_| Err(LinkError::transient("the far side does not answer")));
        if near.is_ok() && far.is_ok() {
            reached.send_replace(true);
        }
        match (near, far) {
            (Ok(near), Ok(Far::Bytes(far))) => End::Broken(pass_bytes(near, far).await),
            (Ok(near), Ok(Far::Frames(far))) => End::Broken(pass_frames(near, *far).await),
            (_, Err(error)) => End::NotConnected(error),
            (Err(error), _) => End::NotConnected(LinkError::transient(error.to_string())),
        }
    }

    /// Waits for the one connection that comes from this process.
    async fn accept(self) -> io::Result<UnixStream> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            let peer = stream.peer_cred()?.pid();
            if peer.is_some_and(|pid| pid.unsigned_abs() == std::process::id()) {
                return Ok(stream);
            }
            warn!(?peer, "Another process tried to use an uplink's connection, and was sent away");
        }
    }
}

type Frames = tokio_tungstenite::WebSocketStream<Box<dyn Stream>>;

enum Far {
    Bytes(Box<dyn Stream>),
    Frames(Box<Frames>),
}

/// Asks for frames (RFC 6455, section 4.1; MQTT 5.0, section 6).
async fn upgrade(
    stream: Box<dyn Stream>,
    endpoint: &Endpoint,
    asked: &WebSocketRequest,
) -> Result<Box<Frames>, LinkError> {
    let (scheme, usual) = if endpoint.tls.is_some() { ("wss", 443) } else { ("ws", 80) };
    let host = authority(&endpoint.host, endpoint.port);
    // What is signed, and what most servers compare, has no port where it is the usual one.
    let host = match host.strip_suffix(&format!(":{usual}")) {
        Some(host) if endpoint.port == usual => host,
        _ => &host,
    };
    let path = &asked.path;
    let uri = format!("{scheme}://{host}{path}");
    let uri = match asked.signer.get() {
        Some(signer) => format!("{uri}?{}", signer.query(host, path, crate::clock::wall())),
        None => uri,
    };
    // It is not told: what is signed would be shown.
    let uri: Uri = uri
        .parse()
        .map_err(|_| LinkError::transient(format!("`{scheme}://{host}{path}` is no URL")))?;
    let request = ClientRequestBuilder::new(uri).with_sub_protocol("mqtt");
    let request = asked
        .headers
        .get()
        .into_iter()
        .fold(request, |request, (name, value)| request.with_header(name, value));
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    match client_async_with_config(request, stream, Some(config)).await {
        Ok((frames, _)) => Ok(Box::new(frames)),
        Err(error) => {
            let needs_help = matches!(&error, WsError::Http(response) if matches!(
                response.status(),
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND
            ));
            let failure = if needs_help { Failure::Lasting } else { Failure::Transient };
            let reason = format!("no WebSocket: {error}");
            Err(LinkError { reason, failure, how: Disconnect::Otherwise })
        }
    }
}

async fn pass_bytes(near: UnixStream, far: Box<dyn Stream>) -> io::Result<()> {
    let (mut from_near, mut to_near) = near.into_split();
    let (mut from_far, mut to_far) = split(far);
    let up = async {
        let went = async {
            copy(&mut from_near, &mut to_far).await?;
            to_far.shutdown().await
        };
        let went = went.await;
        (from_near, went)
    };
    let down = async {
        let came = copy(&mut from_far, &mut to_near).await.map(drop);
        to_near.shutdown().await.and(came)
    };
    pass(up, down).await
}

async fn pass_frames(near: UnixStream, far: Frames) -> io::Result<()> {
    let (mut from_near, mut to_near) = near.into_split();
    let (mut to_far, mut from_far) = far.split();
    let up = async {
        let went = async {
            loop {
                let mut bytes = Vec::with_capacity(FRAME_BYTES);
                if from_near.read_buf(&mut bytes).await? == 0 {
                    // The other direction sees the answer.
                    return to_far.close().await.map_err(io::Error::other);
                }
                to_far.send(Message::Binary(bytes.into())).await.map_err(io::Error::other)?;
            }
        };
        let went = went.await;
        (from_near, went)
    };
    let down = async {
        let came = async {
            loop {
                match from_far.next().await {
                    Some(Ok(Message::Binary(bytes))) => to_near.write_all(&bytes).await?,
                    Some(Ok(Message::Text(_))) => {
                        // MQTT-6.0.0-1
                        return Err(io::Error::other("a text frame came"));
                    }
                    Some(Ok(Message::Close(_)) | Err(WsError::ConnectionClosed)) | None => {
                        return Ok(());
                    }
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(io::Error::other(error)),
                }
            }
        };
        let came = came.await;
        to_near.shutdown().await.and(came)
    };
    pass(up, down).await
}

/// Moves both ways until both have ended. `up` gives back what it reads from.
///
/// A way up that is broken does not end the way down before it has brought what the far side said last; and whoever is
/// near may write, into nothing, until it has read that.
async fn pass(
    up: impl Future<Output = (OwnedReadHalf, io::Result<()>)>,
    down: impl Future<Output = io::Result<()>>,
) -> io::Result<()> {
    let (mut up, mut down) = (pin!(up), Box::pin(down));
    let mut came = None;
    let (mut from_near, went) = loop {
        tokio::select! {
            biased;
            ended = &mut down, if came.is_none() => came = Some(ended),
            ended = &mut up => break ended,
        }
    };
    let mut nowhere = sink();
    let mut rest = pin!(copy(&mut from_near, &mut nowhere));
    if came.is_none() {
        let is_broken = went.is_err();
        let patience = if is_broken { LAST_WORDS } else { LASTING };
        tokio::select! {
            biased;
            last = timeout(patience, &mut down) => came = last.ok(),
            _ = &mut rest, if is_broken => return went,
        }
    }
    // With it goes its half of the way near, which ends what can be read there.
    drop(down);
    let _ = timeout(LAST_WORDS, rest).await;
    went.and(came.unwrap_or(Ok(())))
}

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        task::{Context, Poll},
    };

    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    use super::*;

    /// A far side that has hung up after its last words.
    struct Gone(&'static [u8]);

    impl AsyncRead for Gone {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            buffer.put_slice(std::mem::take(&mut self.0));
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Gone {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// A far side that takes nothing more is still heard, and whoever is near may write until it has read that.
    #[tokio::test]
    async fn last_words_come_through_although_nothing_can_be_written() {
        let (mut client, near) = UnixStream::pair().unwrap();
        client.write_all(b"to nobody").await.unwrap();
        let listen = async {
            tokio::task::yield_now().await;
            client.write_all(b"nor this").await.expect("the socket is open");
            let mut heard = Vec::new();
            client.read_to_end(&mut heard).await.unwrap();
            drop(client);
            heard
        };
        let passed = async { pass_bytes(near, Box::new(Gone(b"last words"))).await };
        let (heard, passed) = tokio::join!(listen, passed);
        assert_eq!(heard, b"last words");
        assert_eq!(passed.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
