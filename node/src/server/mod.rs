//! Sockets: accepting clients, and what is done with their requests.
//!
//! - [`dispatch`]: every rejection, and the route of what is admitted;
//! - [`connection`]: one task a client;
//! - [`coordinate`]: commands whose keys live on several shards;
//! - [`session`]: what is remembered of a client.

pub mod connection;
pub mod coordinate;
pub mod dispatch;
pub mod session;

use std::io;
use std::sync::Arc;

use actix_rt::ArbiterHandle;
use tokio::net::TcpListener;

use crate::node::Node;
use connection::Connection;
use session::Session;

/// Accepts clients for ever, and gives them to the arbiters in turn.
///
/// # Errors
/// What the listener reported.
pub async fn accept(
    listener: TcpListener,
    node: Arc<Node>,
    arbiters: Vec<ArbiterHandle>,
) -> io::Result<()> {
    for arbiter in arbiters.iter().cycle() {
        let (stream, _) = listener.accept().await?;
        let node = node.clone();
        let stream = stream.into_std()?;
        arbiter.spawn_fn(move || {
            actix_rt::spawn(async move {
                if let Err(error) = serve(stream, node).await {
                    log::debug!(error = error.to_string().as_str(); "connection ended");
                }
            });
        });
    }
    Ok(())
}

async fn serve(stream: std::net::TcpStream, node: Arc<Node>) -> io::Result<()> {
    let stream = tokio::net::TcpStream::from_std(stream)?;
    stream.set_nodelay(true)?;
    let id = node.next_client_id();
    Connection::new(stream, Session::new(node, id)).serve().await
}
