//! One connection: its requests, one after the other, until it ends.

use std::{convert::Infallible, net::IpAddr, pin::pin, sync::Arc};

use axum::{
    Router,
    body::Body,
    http::{Request, Version, header},
    response::{IntoResponse, Response},
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tidegate_tls::ServerTls;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::Service;

use crate::{
    ingest,
    listener::Capacity,
    login::Client,
    problem::{Problem, Refused},
    site::Site,
    stream::{Deadlines, Progress, TimedStream},
};

/// What every connection of a run has in common.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) site: Arc<Site>,
    pub(crate) router: Router,
    pub(crate) deadlines: Deadlines,
    pub(crate) header_bytes_max: usize,
    pub(crate) header_count_max: usize,
    /// The handshakes of TLS that are under way.
    pub(crate) handshakes: Arc<Capacity>,
    pub(crate) shutdown: CancellationToken,
}

/// Carries out the handshake, within the deadline of a head, and serves the connection.
pub(crate) async fn serve_encrypted(
    shared: Arc<Shared>,
    stream: TcpStream,
    address: IpAddr,
    tls: &ServerTls,
) {
    let Some(place) = shared.handshakes.enter(address) else {
        shared.site.counters.over_handshakes.increment();
        return;
    };
    let handshake = TlsAcceptor::from(tls.config()).accept(stream);
    let opened = tokio::select! {
        biased;
        () = shared.shutdown.cancelled() => return,
        opened = timeout(shared.deadlines.header, handshake) => opened,
    };
    drop(place);
    let Ok(Ok(stream)) = opened else {
        shared.site.counters.handshake_failed.increment();
        return;
    };
    let chain = stream.get_ref().1.peer_certificates();
    match chain.and_then(|chain| chain.first()).map(tidegate_tls::names_in).transpose() {
        Ok(names) => serve(shared, stream, Client::encrypted(address, names)).await,
        // It was verified; a name in it that cannot be read must not pass as no certificate.
        Err(_) => shared.site.counters.handshake_failed.increment(),
    }
}

/// Serves a connection until it ends or `shared.shutdown` is cancelled; the request under way is then
/// still answered.
pub(crate) async fn serve<S>(shared: Arc<Shared>, stream: S, client: Client)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let progress = Progress::default();
    let stream = TimedStream::new(TokioIo::new(stream), shared.deadlines, progress.clone());
    let client = Arc::new(client);
    let service = service_fn(|request| {
        let (shared, client, guard) = (shared.clone(), client.clone(), progress.request());
        async move {
            let response = answer(&shared, client, request).await;
            drop(guard);
            Ok::<_, Infallible>(response)
        }
    });
    // HTTP/1.1 only. The timer of the library stays off: the stream has its own.
    let mut builder = http1::Builder::new();
    builder
        .header_read_timeout(None)
        .max_header_size(shared.header_bytes_max)
        .max_headers(shared.header_count_max)
        .max_buf_size(shared.header_bytes_max.max(8_192) * 2);
    let mut connection = pin!(builder.serve_connection(stream, service));
    let mut shutdown = pin!(shared.shutdown.cancelled());
    let result = tokio::select! {
        // The connection first: its answers are worth more than a quick end.
        biased;
        result = connection.as_mut() => result,
        () = &mut shutdown => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    let counters = &shared.site.counters;
    if progress.timed_out() {
        counters.timed_out.increment();
    } else if result.is_err() {
        counters.broken.increment();
    }
}

/// A request of HTTP/1.1 names its host, and none names two (RFC 9112, section 3.2): who reads the other one would take
/// it for another request.
fn names_host_once<B>(request: &Request<B>) -> bool {
    match request.headers().get_all(header::HOST).iter().count() {
        0 => request.version() < Version::HTTP_11,
        count => count == 1,
    }
}

async fn answer(shared: &Shared, client: Arc<Client>, mut request: Request<Incoming>) -> Response {
    let counters = &shared.site.counters;
    let response = if !names_host_once(&request) {
        Problem::bad_request("the field Host is there once").into_response()
    } else if ingest::is_reserved(request.uri().path()) {
        counters.api.increment();
        request.extensions_mut().insert(client);
        let Ok(response) = shared.router.clone().call(request.map(Body::new)).await;
        response
    } else {
        counters.ingest.increment();
        ingest::handle(&shared.site, &client, request).await.into_response()
    };
    if let Some(Refused(kind)) = response.extensions().get() {
        counters.refused(kind);
    }
    response
}
