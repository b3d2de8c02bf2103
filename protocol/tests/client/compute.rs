//! `get_or_compute`: one computes, whatever happens to it.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use distcache_protocol::client::{CacheClient, ClientError, ComputeOptions, SetOptions};
use redis::aio::MultiplexedConnection;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::server::{DEADLINE, Server};

const HOUR: Duration = Duration::from_secs(3600);

fn lock_key(key: &str) -> String {
    format!("distcache:lock:{key}")
}

/// Polls until there is a lock for `key`, which is when somebody computes.
async fn wait_for_lock(raw: &mut MultiplexedConnection, key: &str) {
    let started = Instant::now();
    loop {
        let exists = redis::cmd("EXISTS").arg(lock_key(key)).query_async(raw).await.unwrap();
        if exists {
            return;
        }
        assert!(started.elapsed() < DEADLINE, "nobody computes");
    }
}

/// Starts a computation that lasts until the returned sender is used or dropped: then it gives
/// what was sent, or fails.
fn compute_when_told(
    client: &CacheClient,
    key: &str,
    options: ComputeOptions,
) -> (oneshot::Sender<u32>, tokio::task::JoinHandle<Result<u32, ClientError>>) {
    let (sender, receiver) = oneshot::channel::<u32>();
    let (client, key) = (client.clone(), key.to_owned());
    let call = tokio::spawn(async move { client.try_get_or_compute(key, options, receiver).await });
    (sender, call)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_callers_in_two_processes_compute_once() -> Result<(), ClientError> {
    let server = Server::any();
    // Two clients share nothing but the server, as two processes do.
    let clients = [server.client().await, server.client().await];
    let key = server.key("stampede");
    let computations = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    for number in 0..100 {
        let (client, key) = (clients[number % 2].clone(), key.clone());
        let computations = Arc::clone(&computations);
        callers.spawn(async move {
            let compute = async {
                computations.fetch_add(1, Ordering::SeqCst);
                // Long enough for all the others to come.
                tokio::time::timeout(Duration::from_millis(100), pending::<()>()).await.ok();
                vec![number]
            };
            client.get_or_compute(&key, HOUR, compute).await
        });
    }
    let values = callers.join_all().await.into_iter().collect::<Result<Vec<_>, _>>()?;
    assert_eq!(computations.load(Ordering::SeqCst), 1);
    assert!(values.iter().all(|value| *value == values[0]), "{values:?}");
    assert!(!clients[0].exists(lock_key(&key)).await?, "the lock is given back");
    Ok(())
}

#[tokio::test]
async fn the_old_value_is_served_while_one_computes() -> Result<(), ClientError> {
    let server = Server::any();
    let (here, elsewhere) = (server.client().await, server.client().await);
    let key = server.key("stale");
    let options = ComputeOptions { stale: HOUR, ..ComputeOptions::new(HOUR) };
    // Less than `stale` is left: it is old.
    here.set_with(&key, 1, SetOptions::new().ttl(HOUR / 2)).await?;
    let (finish, call) = compute_when_told(&here, &key, options);
    wait_for_lock(&mut server.raw().await, &key).await;
    let never = || async { pending::<u32>().await };
    for client in [&here, &elsewhere, &here] {
        let old = timeout(DEADLINE, client.get_or_compute(&key, options, never())).await;
        assert_eq!(old.expect("nobody waits")?, 1);
    }
    finish.send(2).unwrap();
    assert_eq!(call.await.unwrap()?, 2);
    for client in [&here, &elsewhere] {
        assert_eq!(client.get_or_compute(&key, options, never()).await?, 2, "fresh");
    }
    Ok(())
}

#[tokio::test]
async fn a_value_without_deadline_is_fresh() -> Result<(), ClientError> {
    let server = Server::any();
    let client = server.client().await;
    let key = server.key("unlimited");
    client.set(&key, 1).await?;
    assert_eq!(client.get_or_compute(&key, HOUR, pending::<u32>()).await?, 1);
    Ok(())
}

/// Calls from `client` with a computation that gives 7 at once.
fn compute_seven(
    client: &CacheClient,
    key: &str,
    options: ComputeOptions,
) -> tokio::task::JoinHandle<Result<u32, ClientError>> {
    let (client, key) = (client.clone(), key.to_owned());
    tokio::spawn(async move { client.get_or_compute(key, options, async { 7 }).await })
}

/// A lock that would outlive the test, if it were not given back.
fn long_lock() -> ComputeOptions {
    ComputeOptions { lock: HOUR, ..ComputeOptions::new(HOUR) }
}

#[tokio::test]
async fn a_failure_goes_to_its_caller_and_the_next_one_computes() -> Result<(), ClientError> {
    let server = Server::any();
    let client = server.client().await;
    // One who waits at a time: two would help each other.
    for (name, other) in [("here", client.clone()), ("elsewhere", server.client().await)] {
        let key = server.key(name);
        let (fail, failing) = compute_when_told(&client, &key, long_lock());
        wait_for_lock(&mut server.raw().await, &key).await;
        let waiting = compute_seven(&other, &key, long_lock());
        drop(fail);
        let error = failing.await.unwrap().unwrap_err();
        let expected = format!("computing key {key:?} failed: channel closed");
        assert_eq!(error.to_string(), expected);
        assert_eq!(timeout(DEADLINE, waiting).await.expect("released").unwrap()?, 7);
    }
    Ok(())
}

#[tokio::test]
async fn a_panic_and_a_cancelled_call_release_the_others() -> Result<(), ClientError> {
    let server = Server::any();
    let (here, elsewhere) = (server.client().await, server.client().await);
    let mut raw = server.raw().await;
    for (is_panic, other) in
        [(true, &here), (true, &elsewhere), (false, &here), (false, &elsewhere)]
    {
        let key = server.key("broken");
        let (end, ended) = oneshot::channel::<()>();
        let broken = tokio::spawn({
            let (client, key) = (here.clone(), key.clone());
            let compute = async move {
                ended.await.ok();
                panic!("the computation panics");
            };
            async move { client.get_or_compute::<u32>(&key, long_lock(), compute).await }
        });
        wait_for_lock(&mut raw, &key).await;
        let waiting = compute_seven(other, &key, long_lock());
        match is_panic {
            true => end.send(()).unwrap(),
            false => broken.abort(),
        }
        assert_eq!(broken.await.unwrap_err().is_panic(), is_panic);
        assert_eq!(timeout(DEADLINE, waiting).await.expect("released").unwrap()?, 7);
        here.delete(&key).await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_lock_of_a_crashed_process_expires() -> Result<(), ClientError> {
    let server = Server::any();
    let client = server.client().await;
    let key = server.key("crashed");
    let lock = SetOptions::new().ttl(Duration::from_millis(200));
    client.set_with(lock_key(&key), "token of the dead", lock).await?;
    let value = timeout(DEADLINE, client.get_or_compute(&key, HOUR, async { 7 })).await;
    assert_eq!(value.expect("the lock expires")?, 7);
    assert_eq!(client.get(&key).await?, Some(7));
    Ok(())
}

#[tokio::test]
async fn the_lock_lives_as_long_as_its_owner_computes() -> Result<(), ClientError> {
    let server = Server::any();
    let client = server.client().await;
    let key = server.key("renewed");
    let options = ComputeOptions { lock: Duration::from_millis(600), ..ComputeOptions::new(HOUR) };
    let (finish, call) = compute_when_told(&client, &key, options);
    let mut raw = server.raw().await;
    wait_for_lock(&mut raw, &key).await;
    let started = Instant::now();
    let (mut last, mut renewals) = (i64::MAX, 0);
    // Each renewal is seen as a deadline that moves on; after four, the first would be past.
    while renewals < 4 {
        let remaining: i64 =
            redis::cmd("PTTL").arg(lock_key(&key)).query_async(&mut raw).await.unwrap();
        assert!(remaining > 0, "lost after {renewals} renewals");
        renewals += usize::from(remaining > last);
        last = remaining;
        assert!(started.elapsed() < DEADLINE, "{renewals} renewals only");
    }
    finish.send(7).unwrap();
    assert_eq!(call.await.unwrap()?, 7);
    assert_eq!(client.get(&key).await?, Some(7));
    Ok(())
}

#[tokio::test]
async fn who_lost_the_lock_stores_nothing_and_leaves_the_others_lock() -> Result<(), ClientError> {
    let server = Server::any();
    let client = server.client().await;
    let key = server.key("lost");
    let (finish, call) = compute_when_told(&client, &key, ComputeOptions::new(HOUR));
    wait_for_lock(&mut server.raw().await, &key).await;
    client.set(lock_key(&key), "token of another").await?;
    finish.send(7).unwrap();
    assert_eq!(call.await.unwrap()?, 7);
    assert!(!client.exists(&key).await?);
    assert!(client.exists(lock_key(&key)).await?);
    client.delete(lock_key(&key)).await?;
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_stored_as_text_comes_back_too() -> Result<(), ClientError> {
    let server = Server::any();
    let client = server.client().await;
    let key = server.key("none");
    // A computed `None` is a value: it is not computed again.
    let first: Option<u8> = client.get_or_compute(&key, HOUR, async { None }).await?;
    let second: Option<u8> = client.get_or_compute(&key, HOUR, async { Some(1) }).await?;
    assert_eq!((first, second), (None, None));
    Ok(())
}

#[tokio::test]
async fn a_server_without_memory_keeps_nobody_from_computing() -> Result<(), ClientError> {
    let server = Server::own(&[]);
    let client = server.client().await;
    let options = ComputeOptions { stale: HOUR, ..ComputeOptions::new(HOUR) };
    client.set_with("old", 1, SetOptions::new().ttl(HOUR / 2)).await?;
    let mut full = redis::cmd("CONFIG");
    full.arg(&["SET", "maxmemory", "1"]);
    let _: () = full.query_async(&mut server.raw().await).await.unwrap();
    assert!(matches!(client.set("other", 1).await, Err(ClientError::Server { .. })));
    let old = timeout(DEADLINE, client.get_or_compute("old", options, pending::<u32>())).await;
    assert_eq!(old.expect("nobody computes")?, 1);
    for number in [2, 3] {
        assert_eq!(client.get_or_compute("new", options, async { number }).await?, number);
    }
    let failing = client.try_get_or_compute("new", options, async { Err::<u32, _>("no") }).await;
    assert!(matches!(failing, Err(ClientError::Computation { .. })), "{failing:?}");
    assert!(!client.exists("new").await?);
    Ok(())
}
