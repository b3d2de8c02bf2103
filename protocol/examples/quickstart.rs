//! The typed client in one page.
//!
//! Start a node (`cargo run --release --bin distcache-node`), then
//! `cargo run -p distcache-protocol --features client --example quickstart`.
#![expect(clippy::print_stdout, reason = "an example shows what it got")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use distcache_protocol::client::{CacheClient, ClientError, SetOptions};
use distcache_protocol::value::AsSet;
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
struct User {
    name: String,
    age: u8,
    scores: Vec<f64>,
    languages: BTreeMap<String, bool>,
}

#[tokio::main]
async fn main() -> Result<(), ClientError> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:2050".to_owned());
    let client = CacheClient::connect(&address).await?;

    // Text, integers and bytes are stored as every Redis client stores them.
    client.set("brazil", "football").await?;
    client.set(1, 2).await?;
    client.set("image:1", &[0x89, b'P', b'N', b'G', 0xFF]).await?;
    let sport: Option<String> = client.get("brazil").await?;
    println!("brazil: {sport:?}");

    // Anything else keeps its type: tuples, sets, maps, whole structs.
    let user = User {
        name: "Ada".to_owned(),
        age: 36,
        scores: vec![9.5, 8.75],
        languages: BTreeMap::from([("English".to_owned(), true), ("Rust".to_owned(), false)]),
    };
    client.set("user:1", &user).await?;
    client.set(("position", "user:1"), (52.52, 13.40)).await?;
    client.set("tags", AsSet(BTreeSet::from(["new", "red"]))).await?;
    let user: Option<User> = client.get("user:1").await?;
    let position: Option<(f64, f64)> = client.get(("position", "user:1")).await?;
    let tags: Option<BTreeSet<String>> = client.get("tags").await?;
    println!("{user:?} at {position:?} with {tags:?}");

    // Counters, several keys at once, expiry.
    client.delete("visits").await?;
    client.add("visits", 5).await?;
    client.increment("visits").await?;
    println!("visits: {}", client.decrement("visits").await?);
    let sports: Vec<Option<String>> = client.get_many(["brazil", "nowhere"]).await?;
    println!("sports: {sports:?}");
    let is_first = SetOptions::new().if_absent().ttl(Duration::from_secs(30));
    println!("first here: {}", client.set_with("visitor:7", true, is_first).await?);
    client.expire("visits", Duration::from_secs(60)).await?;
    println!("visits live {:?}", client.ttl("visits").await?);

    // One caller computes, however many ask at once; the others wait, or get the old value.
    let ttl = Duration::from_secs(60);
    let answer: u64 = client.get_or_compute("answer", ttl, async { 6 * 7 }).await?;
    println!("answer: {answer}");
    Ok(())
}
