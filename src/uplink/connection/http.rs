//! Batches by HTTP/1.1: each is a POST, one after the other, so that streams keep their order.
//!
//! What counts as a connection is the far side having been reached: a socket that it closes while nothing is under way
//! is replaced without a word. The request carries an idempotency key made from what is sent, so that a far side that
//! heeds it stores nothing twice.

use std::{fmt::Write as _, future::Future, pin::Pin, time::Duration};

use data_encoding::{BASE64, HEXLOWER};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1::{self, SendRequest},
    header::{self, HeaderMap},
};
use hyper_util::rt::TokioIo;
use ring::digest;
use tidegate_uplink::{Ack, Disconnect, Failure};
use tokio::{sync::mpsc, time::timeout};

use super::{
    super::{
        link::{Answer, LinkError, LinkEvent, Up},
        settings::{Endpoint, LinkSettings},
    },
    CONNECT_TIMEOUT,
};
use crate::dial::{Way, authority, dial};

/// As much of a refusal is told.
const REASON_BYTES_MAX: usize = 4 << 10;
/// A far side may ask to be left alone for so long.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);
/// One request is under way at a time.
const REQUESTS: usize = 1;

/// What is to be sent, and under which number it is answered.
#[derive(Debug)]
pub(super) struct Post {
    packet: u16,
    up: Up,
}

/// Hands requests over.
#[derive(Debug)]
pub(super) struct Client {
    posts: mpsc::Sender<Post>,
    next: u16,
}

impl Client {
    pub(super) fn publish(&mut self, up: Up) -> Result<(), LinkError> {
        self.next = self.next.wrapping_add(1);
        let post = Post { packet: self.next, up };
        let taken = self.posts.try_send(post);
        taken.map_err(|_| LinkError::transient("the connection takes no more messages"))
    }
}

pub(super) fn open(
    settings: &LinkSettings,
    endpoint: usize,
    events: mpsc::Sender<LinkEvent>,
) -> (Client, impl Future<Output = LinkError> + Send + use<>) {
    let (posts, queue) = mpsc::channel(REQUESTS);
    let poster =
        Poster { way: settings.way.clone(), endpoint: settings.endpoints[endpoint].clone() };
    (Client { posts, next: 0 }, poster.drive(queue, events))
}

/// One socket with HTTP on it.
struct Line {
    sender: SendRequest<Full<Bytes>>,
    /// Moves the bytes, for as long as the socket is open.
    connection: Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>,
}

struct Poster {
    way: Way,
    endpoint: Endpoint,
}

/// What came of a request.
enum Answered {
    Yes(Answer),
    /// The socket was closed before an answer; nothing tells whether the request arrived.
    Broken(hyper::Error),
}

impl Poster {
    async fn drive(
        self,
        mut posts: mpsc::Receiver<Post>,
        events: mpsc::Sender<LinkEvent>,
    ) -> LinkError {
        let mut line = match self.connect().await {
            Ok(line) => Some(line),
            Err(error) => return error,
        };
        let up = LinkEvent::Connected { packet_bytes_max: usize::MAX, receive_max: REQUESTS };
        if events.send(up).await.is_err() {
            return LinkError::transient("nobody listens");
        }
        while let Some(post) = next_post(&mut posts, &mut line).await {
            let packet = post.packet;
            let told = async |event| events.send(event).await.is_ok();
            if !told(LinkEvent::Sent { packet }).await {
                break;
            }
            match self.deliver(&mut line, &post.up).await {
                Ok(answer) => {
                    if !told(LinkEvent::Answered { packet, answer }).await {
                        break;
                    }
                }
                Err(error) => return error,
            }
        }
        LinkError::transient("nobody listens")
    }

    /// Posts on the socket that is there, or on a new one.
    async fn deliver(&self, line: &mut Option<Line>, up: &Up) -> Result<Answer, LinkError> {
        let was_there = line.is_some();
        let mut used = match line.take() {
            Some(line) => line,
            None => self.connect().await?,
        };
        let mut answered = self.post(&mut used, up).await?;
        if was_there && matches!(answered, Answered::Broken(_)) {
            // It was closed while it waited for this request: that is no fault.
            used = self.connect().await?;
            answered = self.post(&mut used, up).await?;
        }
        match answered {
            Answered::Yes(answer) => {
                *line = Some(used).filter(|line| !line.sender.is_closed());
                Ok(answer)
            }
            Answered::Broken(error) => Err(LinkError {
                reason: format!("the connection broke before an answer: {error}"),
                failure: Failure::Transient,
                how: Disconnect::ByPeer,
            }),
        }
    }

    async fn connect(&self) -> Result<Line, LinkError> {
        let Endpoint { host, port, tls, .. } = &self.endpoint;
        let tls = tls.as_ref().map(|tls| tls.config());
        let dialled = timeout(CONNECT_TIMEOUT, dial(host, *port, &self.way, tls)).await;
        let stream = dialled
            .map_err(|_| LinkError::transient("the far side does not answer"))?
            .map_err(LinkError::dial)?;
        let shaken = http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await;
        let (sender, connection) =
            shaken.map_err(|error| LinkError::transient(error.to_string()))?;
        Ok(Line { sender, connection: Box::pin(connection) })
    }

    async fn post(&self, line: &mut Line, up: &Up) -> Result<Answered, LinkError> {
        let request = self.request(up)?;
        let Line { sender, connection } = line;
        let asked = async {
            sender.ready().await?;
            let response = sender.send_request(request).await?;
            Ok::<_, hyper::Error>(answer(response).await)
        };
        let mut asked = std::pin::pin!(asked);
        let mut is_open = true;
        loop {
            tokio::select! {
                biased;
                answered = &mut asked => return match answered {
                    Ok(answer) => answer.map(Answered::Yes),
                    Err(error) => Ok(Answered::Broken(error)),
                },
                // What has arrived is still to be read when the connection has ended.
                _ = &mut *connection, if is_open => is_open = false,
            }
        }
    }

    fn request(&self, up: &Up) -> Result<Request<Full<Bytes>>, LinkError> {
        let Endpoint { host, port, http, login, .. } = &self.endpoint;
        let target = http.as_ref().map(|http| http.target(&up.topic)).unwrap_or_default();
        let mut key = digest::Context::new(&digest::SHA256);
        key.update(up.topic.as_bytes());
        key.update(&up.payload);
        let mut request = Request::post(target)
            .header(header::HOST, authority(host, *port))
            .header(header::USER_AGENT, concat!("tidegate/", env!("CARGO_PKG_VERSION")))
            .header(header::CONTENT_TYPE, up.content_type)
            .header("Idempotency-Key", format!("\"{}\"", HEXLOWER.encode(key.finish().as_ref())));
        if let Some(coding) = up.content_encoding {
            // HTTP's name for the zlib format (RFC 9110, section 8.4.1.2).
            let coding = if coding == "zlib" { "deflate" } else { coding };
            request = request.header(header::CONTENT_ENCODING, coding);
        }
        let token = http.as_ref().and_then(|http| http.token.as_ref());
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        } else if let Some(login) = login {
            let pair = BASE64.encode(format!("{}:{}", login.username, login.password).as_bytes());
            request = request.header(header::AUTHORIZATION, format!("Basic {pair}"));
        }
        // A token with a line end in it is no header.
        request.body(Full::new(up.payload.clone())).map_err(|error| LinkError {
            reason: format!("the request cannot be made: {error}"),
            failure: Failure::Lasting,
            how: Disconnect::Otherwise,
        })
    }
}

/// Waits for the next request; meanwhile looks after the socket.
async fn next_post(posts: &mut mpsc::Receiver<Post>, line: &mut Option<Line>) -> Option<Post> {
    loop {
        let Some(open) = line else { return posts.recv().await };
        tokio::select! {
            biased;
            post = posts.recv() => return post,
            _ = &mut open.connection => *line = None,
        }
    }
}

/// Reads an answer: what it means for the batch, or for all of them.
async fn answer(response: Response<Incoming>) -> Result<Answer, LinkError> {
    let status = response.status();
    let retry_after = retry_after(response.headers());
    let body = Limited::new(response.into_body(), REASON_BYTES_MAX).collect().await;
    if status.is_success() {
        return Ok(Answer::Final(Ack::Accepted));
    }
    let mut reason = format!("the far side answers {status}");
    if let Ok(body) = body {
        let said = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        let line = said.lines().next().unwrap_or_default().trim();
        if !line.is_empty() {
            let _ = write!(reason, ": {}", line.chars().take(200).collect::<String>());
        }
    }
    match status {
        StatusCode::BAD_REQUEST
        | StatusCode::PAYLOAD_TOO_LARGE
        | StatusCode::UNPROCESSABLE_ENTITY => Ok(Answer::Final(Ack::RefusedPayload { reason })),
        StatusCode::REQUEST_TIMEOUT
        | StatusCode::CONFLICT
        | StatusCode::TOO_EARLY
        | StatusCode::TOO_MANY_REQUESTS => Ok(Answer::Later { reason, pause: retry_after }),
        status if status.is_server_error() => Ok(Answer::Later { reason, pause: retry_after }),
        // Who we are, where we knock, in which form: as it stands nothing would be taken.
        _ => Err(LinkError { reason, failure: Failure::Lasting, how: Disconnect::Otherwise }),
    }
}

/// Reads for how many seconds the far side wants to be left alone (RFC 9110, section 10.2.3); not the form of a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}
