//! What the HTTP port answers.

use std::sync::Arc;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::Mutex;

use super::health::Health;
use super::metrics;
use crate::clock;
use crate::command::{CommandError, Figures};
use crate::limits::HTTP_SCRAPE_TIMEOUT;
use crate::node::Node;

/// Plain text.
const TEXT: &str = "text/plain; charset=utf-8";

/// The methods that every page knows.
const METHODS: &str = "GET, HEAD";

const INDEX: &str = "\
distcache
/health/live   200 while the process works
/health/ready  200 while the node serves its share, else 503 and why not
/metrics       figures in Prometheus' text format
";

/// A page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Page {
    Index,
    Live,
    Ready,
    Metrics,
}

impl Page {
    /// Finds the page of a path.
    fn at(path: &str) -> Option<Page> {
        match path {
            "/" => Some(Page::Index),
            "/health/live" => Some(Page::Live),
            "/health/ready" => Some(Page::Ready),
            "/metrics" => Some(Page::Metrics),
            _ => None,
        }
    }
}

/// The pages of a node.
pub struct Pages {
    node: Arc<Node>,
    /// Held by who asks the shards: two scrapes at a time cost them no more than one.
    scraping: Mutex<()>,
}

impl Pages {
    /// Returns the pages of a node.
    pub fn new(node: Arc<Node>) -> Self {
        Pages { node, scraping: Mutex::default() }
    }

    /// Answers a request. Its body, if it has one, is not read.
    pub async fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let Some(page) = Page::at(request.uri().path()) else {
            return text(StatusCode::NOT_FOUND, "there is no such page; / lists them\n".to_owned());
        };
        // To HEAD, the library sends what it would to GET, without the body.
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let refusal = format!("allowed: {METHODS}\n");
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, refusal);
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(METHODS));
            return response;
        }
        match page {
            Page::Index => text(StatusCode::OK, INDEX.to_owned()),
            Page::Live => text(StatusCode::OK, "live\n".to_owned()),
            Page::Ready => match Health::of(&self.node).obstacle() {
                None => text(StatusCode::OK, "ready\n".to_owned()),
                Some(obstacle) => text(StatusCode::SERVICE_UNAVAILABLE, obstacle + "\n"),
            },
            Page::Metrics => match clock::within(Some(HTTP_SCRAPE_TIMEOUT), self.metrics()).await {
                Some(Ok(metrics)) => respond(StatusCode::OK, metrics::CONTENT_TYPE, metrics),
                Some(Err(_)) => text(StatusCode::SERVICE_UNAVAILABLE, "stopping\n".to_owned()),
                None => {
                    let seconds = HTTP_SCRAPE_TIMEOUT.as_secs();
                    let late = format!("the shards have not answered within {seconds} s\n");
                    text(StatusCode::SERVICE_UNAVAILABLE, late)
                }
            },
        }
    }

    /// Fails only where the shards have stopped.
    async fn metrics(&self) -> Result<String, CommandError> {
        let _alone = self.scraping.lock().await;
        Ok(metrics::text(&Figures::gather(&self.node).await?))
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    respond(status, TEXT, body)
}

fn respond(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_lists_every_page() {
        let listed = INDEX.lines().skip(1).map(|line| line.split(' ').next().unwrap());
        let pages: Vec<Page> = listed.map(|path| Page::at(path).expect(path)).collect();
        assert_eq!(pages, [Page::Live, Page::Ready, Page::Metrics]);
        assert_eq!(Page::at("/"), Some(Page::Index));
        for path in ["", "*", "//", "/metrics/", "/health", "/Metrics"] {
            assert_eq!(Page::at(path), None, "{path}");
        }
    }
}
