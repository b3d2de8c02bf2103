//! The HTTP port, for operators and their tools: whether the node lives, whether it serves its
//! share, and its figures as Prometheus reads them.
//!
//! It tells neither keys nor values, and nothing of single clients, so it asks for no password.
//! What a stranger can cost is bounded: so many connections, one request each, which is read,
//! answered and written in a bounded time; and one scrape at a time asks the shards.
//!
//! - [`serve`]: connections, and what bounds them;
//! - [`pages`]: what is answered;
//! - [`health`]: whether the node serves its share;
//! - [`metrics`]: the figures.

pub mod health;
pub mod metrics;
pub mod pages;
pub mod serve;
