//! Bodies of requests: bounded in size and time.

use std::time::Duration;

use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body;
use tokio::time::timeout;

use crate::problem::Problem;

/// How large a body may be, and how long it may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyLimits {
    pub(crate) bytes_max: usize,
    pub(crate) deadline: Duration,
}

/// Reads a whole body.
///
/// One that says beforehand that it is too large is not read, and one in an encoding is not either: what
/// it would unfold to is unknown.
pub(crate) async fn read<B>(
    body: B,
    headers: &HeaderMap,
    limits: BodyLimits,
) -> Result<Bytes, Problem>
where
    B: Body<Data = Bytes> + Unpin,
{
    if headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return Err(Problem::encoding());
    }
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limits.bytes_max {
        return Err(Problem::too_large(limits.bytes_max));
    }
    match timeout(limits.deadline, collect(body, limits.bytes_max)).await {
        Ok(result) => result,
        Err(_) => Err(Problem::body_too_slow(limits.deadline)),
    }
}

/// Joins the parts of a body; a single one is not copied.
async fn collect<B>(mut body: B, bytes_max: usize) -> Result<Bytes, Problem>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut first = Bytes::new();
    let mut joined = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Problem::body_broken())?;
        let Ok(data) = frame.into_data() else { continue };
        if first.len() + joined.len() + data.len() > bytes_max {
            return Err(Problem::too_large(bytes_max));
        }
        if first.is_empty() && joined.is_empty() {
            first = data;
        } else {
            joined.extend_from_slice(&std::mem::take(&mut first));
            joined.extend_from_slice(&data);
        }
    }
    Ok(if joined.is_empty() { first } else { joined.freeze() })
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, pin::Pin, task};

    use axum::{http::HeaderValue, response::IntoResponse};
    use hyper::body::Frame;

    use super::*;

    /// A body in parts; it never ends after the last one if told so.
    struct Parts(Vec<&'static [u8]>, bool);

    impl Body for Parts {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut task::Context<'_>,
        ) -> task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match self.0.first().copied() {
                Some(part) => {
                    self.0.remove(0);
                    task::Poll::Ready(Some(Ok(Frame::data(part.into()))))
                }
                None if self.1 => task::Poll::Pending,
                None => task::Poll::Ready(None),
            }
        }
    }

    async fn status(body: Parts, headers: &HeaderMap) -> Result<Bytes, u16> {
        let limits = BodyLimits { bytes_max: 6, deadline: Duration::from_secs(30) };
        let problem = |problem: Problem| problem.into_response().status().as_u16();
        read(body, headers, limits).await.map_err(problem)
    }

    /// W01, W03, W05: bounds of size and time, and no encodings.
    #[tokio::test(start_paused = true)]
    async fn bodies_are_joined_and_bounded() {
        let none = HeaderMap::new();
        assert_eq!(status(Parts(vec![], false), &none).await, Ok(Bytes::new()));
        assert_eq!(status(Parts(vec![b"abc"], false), &none).await, Ok("abc".into()));
        assert_eq!(
            status(Parts(vec![b"abc", b"", b"de", b"f"], false), &none).await,
            Ok("abcdef".into())
        );
        assert_eq!(status(Parts(vec![b"abc", b"def", b"g"], false), &none).await, Err(413));
        assert_eq!(status(Parts(vec![b"abc"], true), &none).await, Err(408));
        let mut gzip = HeaderMap::new();
        gzip.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        assert_eq!(status(Parts(vec![b"abc"], false), &gzip).await, Err(415));
    }
}
