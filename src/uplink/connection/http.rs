//! Batches by HTTP/1.1: each is a POST, one after the other, so that streams keep their order.
//!
//! What counts as a connection is the far side having been reached: a socket that it closes while nothing is under way
//! is replaced without a word. The request carries an idempotency key made from what is sent, so that a far side that
//! heeds it stores nothing twice.

use std::{fmt::Write as _, future::Future, pin::Pin, time::Duration};

use data_encoding::BASE64;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Request, Response, StatusCode, Uri,
    body::{Bytes, Incoming},
    client::conn::http1::{self, SendRequest},
    header::{self, HeaderMap, HeaderValue},
};
use hyper_util::rt::TokioIo;
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
/// The body of an answer takes no longer than this, or is not heard.
const BODY_TIMEOUT: Duration = Duration::from_secs(1);
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
    /// Moves the bytes. It is dropped at the end of the socket: only that tells a request that waits for it.
    connection: Option<Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>>,
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
        let up = LinkEvent::Connected {
            keep_alive: None,
            packet_bytes_max: usize::MAX,
            receive_max: REQUESTS,
        };
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
                *line = Some(used).filter(|line| line.connection.is_some());
                Ok(answer)
            }
            // Whoever accepts a connection need not be the server: nothing says that the batch is at fault.
            Answered::Broken(error) => {
                let reason = format!("the connection broke before an answer: {error}");
                Err(LinkError::transient(reason))
            }
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
        Ok(Line { sender, connection: Some(Box::pin(connection)) })
    }

    async fn post(&self, line: &mut Line, up: &Up) -> Result<Answered, LinkError> {
        let request = match self.target(&up.topic) {
            Ok(target) => self.request(target, up)?,
            Err(reason) => {
                return Ok(Answered::Yes(Answer::Final(Ack::RefusedTopic { reason })));
            }
        };
        let Line { sender, connection } = line;
        let asked = async {
            sender.ready().await?;
            let response = sender.send_request(request).await?;
            Ok::<_, hyper::Error>(answer(response).await)
        };
        let mut asked = std::pin::pin!(asked);
        loop {
            tokio::select! {
                biased;
                answered = &mut asked => return match answered {
                    Ok(answer) => answer.map(Answered::Yes),
                    Err(error) => Ok(Answered::Broken(error)),
                },
                // What has arrived is still to be read when the connection has ended.
                () = end(connection) => {}
            }
        }
    }

    /// Returns where a topic is posted to, or why it is not: it would be so for ever.
    fn target(&self, topic: &str) -> Result<Uri, String> {
        if topic.split('/').any(|level| matches!(level, "." | "..")) {
            // Servers and proxies take them out, together with what stands before them.
            return Err("a level of the topic is `.` or `..`, which a URL cannot say".to_owned());
        }
        let target = self.endpoint.http.as_ref().map(|http| http.target(topic));
        let target = target.unwrap_or_default();
        target.parse().map_err(|_| format!("a URL of {} bytes is too long", target.len()))
    }

    fn request(&self, target: Uri, up: &Up) -> Result<Request<Full<Bytes>>, LinkError> {
        let Endpoint { host, port, http, login, .. } = &self.endpoint;
        let mut request = Request::post(target)
            .header(header::HOST, authority(host, *port))
            .header(header::USER_AGENT, concat!("tidegate/", env!("CARGO_PKG_VERSION")))
            .header(header::CONTENT_TYPE, content_type(up));
        if up.is_numbered {
            request = request.header("Idempotency-Key", format!("\"{}\"", up.key()));
        }
        if let Some(coding) = up.content_encoding {
            // HTTP's name for the zlib format (RFC 9110, section 8.4.1.2).
            let coding = if coding == "zlib" { "deflate" } else { coding };
            request = request.header(header::CONTENT_ENCODING, coding);
        }
        if let Some(token) = http.as_ref().and_then(|http| http.token.get()) {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        } else if let Some(login) = login.get() {
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

/// Drives a connection, and drops it at its end.
async fn end(connection: &mut Option<Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>>) {
    match connection {
        Some(open) => {
            // How it ended shows in what becomes of the request.
            let _ = open.await;
            *connection = None;
        }
        None => std::future::pending().await,
    }
}

/// Waits for the next request; meanwhile looks after the socket.
async fn next_post(posts: &mut mpsc::Receiver<Post>, line: &mut Option<Line>) -> Option<Post> {
    loop {
        let Some(open) = line else { return posts.recv().await };
        tokio::select! {
            biased;
            () = end(&mut open.connection) => *line = None,
            post = posts.recv() => return post,
        }
    }
}

/// Reads an answer: what it means for the batch, or for all of them.
async fn answer(response: Response<Incoming>) -> Result<Answer, LinkError> {
    let status = response.status();
    let retry_after = retry_after(response.headers());
    // The status says what is to be known; the rest is read so that the socket can be used again.
    let body = Limited::new(response.into_body(), REASON_BYTES_MAX).collect();
    let body = timeout(BODY_TIMEOUT, body).await.ok().and_then(Result::ok);
    if status.is_success() {
        return Ok(Answer::Final(Ack::Accepted));
    }
    let mut reason = format!("the far side answers {status}");
    if let Some(body) = body {
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
        StatusCode::URI_TOO_LONG | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
            Ok(Answer::Final(Ack::RefusedTopic { reason }))
        }
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

/// Returns the MIME type; one that HTTP cannot say is left out for what the format says.
fn content_type(up: &Up) -> HeaderValue {
    HeaderValue::from_str(up.content_type())
        .unwrap_or_else(|_| HeaderValue::from_static(up.content_type))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uplink::HttpTarget;

    fn up(topic: &str, payload: &'static str) -> Up {
        Up {
            topic: topic.into(),
            payload: Bytes::from_static(payload.as_bytes()),
            content_type: "application/bson",
            content_encoding: None,
            correlation: None,
            is_numbered: true,
            typed: None,
            retain: false,
            said: None,
            expires_in: None,
            path: None,
        }
    }

    /// uplink.25: one key for one message: where a topic ends is part of it.
    #[test]
    fn keys_are_of_one_message_alone() {
        assert_eq!(up("m/1", "23.5").key(), up("m/1", "23.5").key());
        assert_ne!(up("m/1", "23.5").key(), up("m/12", "3.5").key());
    }

    /// uplink.25: a topic that no URL can say is refused by itself; it neither leaves the path nor stops what comes behind.
    #[test]
    fn topics_that_make_no_url_are_refused() {
        let http = HttpTarget { path: "/in".into(), query: None, token: Default::default() };
        let endpoint = Endpoint {
            host: "h.example".into(),
            port: 80,
            tls: None,
            websocket: None,
            http: Some(http),
            amqp: None,
            login: Default::default(),
        };
        let poster = Poster { way: Way::default(), endpoint };
        assert_eq!(poster.target("a/.b/c..").unwrap(), "/in/a/.b/c..");
        for topic in ["a/../../admin", "..", "a/./b"] {
            assert!(
                poster.target(topic).unwrap_err().contains("which a URL cannot say"),
                "{topic}"
            );
        }
        let long = "\u{fc}".repeat(20_000);
        assert!(poster.target(&long).unwrap_err().contains("too long"));
    }
}
