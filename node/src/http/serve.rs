//! Connections of the HTTP port. Each has one request, and a bounded time for all of it.

use std::convert::Infallible;
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, TryAcquireError};

use super::pages::Pages;
use crate::clock;
use crate::limits::{
    HTTP_CONNECTIONS_MAX, HTTP_EXCHANGE_TIMEOUT, HTTP_HEADER_BYTES_MAX, HTTP_HEADER_TIMEOUT,
    WARNING_PAUSE,
};
use crate::logger::Seldom;
use crate::node::Node;
use crate::server::ACCEPT_REST;

/// What all connections of the HTTP port share.
pub struct HttpServer {
    pages: Pages,
    places: Arc<Semaphore>,
}

impl HttpServer {
    /// Returns the server of a node.
    pub fn new(node: Arc<Node>) -> Arc<Self> {
        let places = Arc::new(Semaphore::new(HTTP_CONNECTIONS_MAX));
        Arc::new(HttpServer { pages: Pages::new(node), places })
    }

    /// Accepts connections for ever; those beyond the limit are closed at once. Must run within
    /// a [`tokio::task::LocalSet`].
    pub async fn accept(self: Arc<Self>, listener: TcpListener) {
        let not_accepted = Seldom::new(WARNING_PAUSE);
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    let (level, error) = (not_accepted.level(), error.to_string());
                    log::log!(level, error = error.as_str(); "accepting on the HTTP port failed");
                    clock::sleep(ACCEPT_REST).await;
                    continue;
                }
            };
            let place = match self.places.clone().try_acquire_owned() {
                Ok(place) => place,
                Err(TryAcquireError::NoPermits | TryAcquireError::Closed) => {
                    log::debug!("closed an HTTP connection: there are too many");
                    continue;
                }
            };
            let server = self.clone();
            tokio::task::spawn_local(async move {
                server.exchange(stream).await;
                drop(place);
            });
        }
    }

    /// Reads a request, answers it, and closes the connection.
    async fn exchange(&self, stream: TcpStream) {
        let answer =
            service_fn(async |request| Ok::<_, Infallible>(self.pages.answer(&request).await));
        let connection = http1::Builder::new()
            .keep_alive(false)
            .timer(TokioTimer::new())
            .header_read_timeout(HTTP_HEADER_TIMEOUT)
            .max_buf_size(HTTP_HEADER_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), answer);
        match clock::within(Some(HTTP_EXCHANGE_TIMEOUT), connection).await {
            Some(Ok(())) => {}
            Some(Err(error)) => {
                log::debug!(error = error.to_string().as_str(); "an HTTP connection ended");
            }
            None => log::debug!("closed an HTTP connection that took too long"),
        }
    }
}
