//! As much of an HTTP/1.1 client as a small device has: one connection, one request at a time (RFC 9112).

use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};

/// Most bytes of a response's head.
const HEAD_BYTES_MAX: usize = 8 << 10;
/// Most bytes of a response's body.
const BODY_BYTES_MAX: usize = 64 << 10;

/// Posts to one server over a connection that is kept alive, and made again when it broke.
pub(super) struct Client {
    server: SocketAddr,
    connection: Option<TcpStream>,
}

impl Client {
    /// Makes a client; it connects when it is used.
    pub(super) fn new(server: SocketAddr) -> Self {
        Self { server, connection: None }
    }

    /// Posts JSON and returns the status of the answer. Not cancel-safe: [`close`](Self::close) afterwards.
    pub(super) async fn post(&mut self, path: &str, body: &[u8]) -> io::Result<u16> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            empty => {
                let stream = TcpStream::connect(self.server).await?;
                stream.set_nodelay(true)?;
                empty.insert(stream)
            }
        };
        let answer = exchange(connection, &request(self.server, path, body)).await;
        if !matches!(answer, Ok(Answer { keep_alive: true, .. })) {
            self.close();
        }
        answer.map(|answer| answer.status)
    }

    /// Closes the connection.
    pub(super) fn close(&mut self) {
        self.connection = None;
    }
}

fn request(server: SocketAddr, path: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nHost: {server}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    )
    .into_bytes();
    request.extend_from_slice(body);
    request
}

/// What matters of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    body_bytes: usize,
    keep_alive: bool,
}

/// Sends a request and reads the response to its end.
async fn exchange(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    request: &[u8],
) -> io::Result<Answer> {
    stream.write_all(request).await?;
    let mut input = Vec::with_capacity(512);
    let (answer, head_bytes) = loop {
        if let Some(end) = input.windows(4).position(|window| window == b"\r\n\r\n") {
            break (head(&input[..end])?, end + 4);
        }
        if input.len() > HEAD_BYTES_MAX {
            return Err(malformed("the head of the response is too long"));
        }
        if stream.read_buf(&mut input).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    let end = head_bytes + answer.body_bytes;
    while input.len() < end {
        if stream.read_buf(&mut input).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    if input.len() > end {
        return Err(malformed("something follows the response"));
    }
    Ok(answer)
}

/// Reads status line and fields.
fn head(text: &[u8]) -> io::Result<Answer> {
    let text = std::str::from_utf8(text).map_err(|_| malformed("the head is no text"))?;
    let mut lines = text.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok())
        .ok_or_else(|| malformed("the status line is wrong"))?;
    let mut answer = Answer { status, body_bytes: 0, keep_alive: true };
    for line in lines {
        let (name, value) = line.split_once(':').ok_or_else(|| malformed("a field is wrong"))?;
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            let length = value.parse().map_err(|_| malformed("the length is wrong"))?;
            if length > BODY_BYTES_MAX {
                return Err(malformed("the body is too long"));
            }
            answer.body_bytes = length;
        } else if name.eq_ignore_ascii_case("connection") {
            answer.keep_alive = !value.eq_ignore_ascii_case("close");
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(malformed("the body has no length"));
        }
    }
    Ok(answer)
}

fn malformed(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read() {
        let answer =
            |status, body_bytes, keep_alive| Some(Answer { status, body_bytes, keep_alive });
        #[rustfmt::skip]
        let cases = [
            // head                                                          answer
            ("HTTP/1.1 201 Created",                                         answer(201, 0, true)),
            ("HTTP/1.1 204 No Content\r\nConnection: Close",                 answer(204, 0, false)),
            ("HTTP/1.1 400 Bad Request\r\ncontent-length: 12\r\nX: a:b",     answer(400, 12, true)),
            ("HTTP/1.1 200 OK\r\nContent-Length: -1",                        None),
            ("HTTP/1.1 200 OK\r\nContent-Length: 99999999",                  None),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked",                None),
            ("HTTP/1.1 200 OK\r\nno colon",                                  None),
            ("HTTP/1.0 200 OK",                                              None),
            ("HTTP/1.1 2",                                                   None),
        ];
        for (text, expected) in cases {
            assert_eq!(head(text.as_bytes()).ok(), expected, "{text:?}");
        }
    }

    #[tokio::test]
    async fn a_response_is_read_to_its_end_and_no_further() {
        let cases = [
            (&b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}"[..], Some(201)),
            (b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{", None),
            (b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}!", None),
            (b"HTTP/1.1 201 Cre", None),
        ];
        for (response, expected) in cases {
            let (mut ours, mut theirs) = tokio::io::duplex(1_024);
            theirs.write_all(response).await.unwrap();
            theirs.shutdown().await.unwrap();
            let answer = exchange(&mut ours, b"POST / HTTP/1.1\r\n\r\n").await;
            assert_eq!(
                answer.ok().map(|answer| answer.status),
                expected,
                "{}",
                response.escape_ascii()
            );
        }
    }
}
