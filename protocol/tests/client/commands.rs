//! Commands and values.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use distcache_protocol::client::{ClientError, Lifetime, SetOptions};
use distcache_protocol::value::{AsSet, Value};
use serde::{Deserialize, Serialize};

use crate::server::Server;

const HOUR: Duration = Duration::from_secs(3600);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Status {
    Active,
    Suspended { reason: String },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct User {
    name: String,
    age: u8,
    scores: Vec<f64>,
    address: Option<(String, u32)>,
    status: Vec<Status>,
    avatar: Vec<u8>,
    labels: BTreeMap<String, bool>,
}

fn user() -> User {
    User {
        name: "Ada".to_owned(),
        age: 36,
        scores: vec![1.5, -0.25],
        address: Some(("London".to_owned(), 1)),
        status: vec![Status::Active, Status::Suspended { reason: "holiday".to_owned() }],
        avatar: vec![0x89, b'P', b'N', b'G', 0, 0xFF],
        labels: BTreeMap::from([("first".to_owned(), true)]),
    }
}

#[tokio::test]
async fn values_of_every_type_come_back() -> Result<(), ClientError> {
    let server = Server::any();
    let client = server.client().await;
    let key = server.key("value");
    macro_rules! comes_back {
        ($($value:expr => $type:ty),* $(,)?) => {
            $(
                client.set(&key, $value).await?;
                assert_eq!(client.get::<$type>(&key).await?, Some($value), stringify!($value));
            )*
        };
    }
    comes_back! {
        "football".to_owned() => String,
        String::new() => String,
        42 => i64, u64::MAX => u64, i128::MIN => i128, u128::MAX => u128,
        2.5 => f64, true => bool, 'ß' => char, () => (),
        vec![0u8, 159, 146, 150] => Vec<u8>,
        vec![0xDCu8, 0x44, 1, 2] => Vec<u8>,
        vec!["a".to_owned(), "b".to_owned()] => Vec<String>,
        (1, "two".to_owned(), 3.0) => (i32, String, f64),
        HashSet::from([1, 2, 3]) => HashSet<i32>,
        BTreeMap::from([((1, 2), "pair".to_owned())]) => BTreeMap<(i32, i32), String>,
        Status::Active => Status,
        user() => User,
        None::<u8> => Option<u8>,
        Some(7u8) => Option<u8>,
    }
    client.set(&key, AsSet(BTreeSet::from([1, 2]))).await?;
    let set = Value::Set(vec![1.into(), 2.into()]);
    assert_eq!(client.get(&key).await?, Some(set));
    assert_eq!(client.get::<String>(server.key("nothing")).await?, None);
    Ok(())
}

#[tokio::test]
async fn other_clients_see_text_bytes_and_integers_as_they_are() -> Result<(), ClientError> {
    let server = Server::any();
    let (client, mut raw) = (server.client().await, server.raw().await);
    let key = server.key("plain");
    client.set(&key, "football").await?;
    let stored: Vec<u8> = redis::cmd("GET").arg(&key).query_async(&mut raw).await.unwrap();
    assert_eq!(stored, b"football");
    client.set(&key, &[0xFFu8, 0][..]).await?;
    let stored: Vec<u8> = redis::cmd("GET").arg(&key).query_async(&mut raw).await.unwrap();
    assert_eq!(stored, [0xFF, 0]);
    client.set(&key, 41u8).await?;
    let sum: i64 = redis::cmd("INCR").arg(&key).query_async(&mut raw).await.unwrap();
    assert_eq!(sum, 42);
    assert_eq!(client.get::<u8>(&key).await?, Some(42));
    // And the other way round.
    let _: () = redis::cmd("SET").arg(&key).arg("3.5").query_async(&mut raw).await.unwrap();
    assert_eq!(client.get::<f64>(&key).await?, Some(3.5));
    Ok(())
}

#[tokio::test]
async fn keys_are_of_any_type() -> Result<(), ClientError> {
    let server = Server::any();
    let client = server.client().await;
    let prefix = server.key("");
    client.set((&prefix, 1), "tuple with integer").await?;
    client.set((&prefix, "1"), "tuple with text").await?;
    client.set([prefix.as_bytes(), &[0xFF]].concat(), "bytes").await?;
    client.set(AsSet(vec![&prefix, "b", "a"]), "set").await?;
    let get = async |key: Value| client.get::<String>(key).await;
    let tuple = |last: Value| Value::Tuple(vec![prefix.as_str().into(), last]);
    assert_eq!(get(tuple(1.into())).await?.as_deref(), Some("tuple with integer"));
    assert_eq!(get(tuple("1".into())).await?.as_deref(), Some("tuple with text"));
    let bytes = Value::Bytes([prefix.as_bytes(), &[0xFF]].concat());
    assert_eq!(get(bytes).await?.as_deref(), Some("bytes"));
    let in_other_order = Value::Set(vec!["a".into(), prefix.as_str().into(), "b".into()]);
    assert_eq!(get(in_other_order).await?.as_deref(), Some("set"));
    // An integer key is the key of its text. Only on a server of this test's own.
    let own = Server::own(&[]);
    let client = own.client().await;
    client.set(1, 2).await?;
    assert_eq!(client.get::<i32>("1").await?, Some(2));
    Ok(())
}

#[tokio::test]
async fn set_options_are_obeyed() -> Result<(), ClientError> {
    let server = Server::any();
    let client = server.client().await;
    let key = server.key("options");
    let options = SetOptions::new();
    assert!(!client.set_with(&key, 1, options.if_present()).await?);
    assert!(client.set_with(&key, 1, options.if_absent().ttl(HOUR)).await?);
    assert!(!client.set_with(&key, 2, options.if_absent()).await?);
    assert!(client.set_with(&key, 3, options.keep_ttl()).await?);
    let Lifetime::Remaining(remaining) = client.ttl(&key).await? else { panic!("no deadline") };
    assert!(remaining <= HOUR && remaining > HOUR / 2, "{remaining:?}");
    assert_eq!(client.replace(&key, 4, options).await?, Some(3));
    assert_eq!(client.ttl(&key).await?, Lifetime::Unlimited);
    assert_eq!(client.replace(&key, 5, options.if_absent()).await?, Some(4));
    assert_eq!(client.get(&key).await?, Some(4));
    assert_eq!(client.replace::<u8>(server.key("new"), 5, options).await?, None);
    Ok(())
}

#[tokio::test]
async fn deadlines_are_set_told_and_removed() -> Result<(), ClientError> {
    let server = Server::any();
    let client = server.client().await;
    let key = server.key("deadline");
    assert_eq!(client.ttl(&key).await?, Lifetime::Missing);
    assert!(!client.expire(&key, HOUR).await?);
    assert!(!client.persist(&key).await?);
    client.set(&key, 1).await?;
    assert!(client.expire(&key, HOUR).await?);
    assert!(matches!(client.ttl(&key).await?, Lifetime::Remaining(_)));
    assert!(client.persist(&key).await?);
    assert_eq!(client.ttl(&key).await?, Lifetime::Unlimited);
    assert!(client.expire(&key, Duration::MAX).await?, "as long as the server can");
    Ok(())
}

#[tokio::test]
async fn several_keys_at_once() -> Result<(), ClientError> {
    let server = Server::any();
    let client = server.client().await;
    let [a, b, c] = ["a", "b", "c"].map(|name| server.key(name));
    client.set_many([(&a, 1), (&b, 2)]).await?;
    assert_eq!(client.get_many([&a, &c, &b]).await?, [Some(1), None, Some(2)]);
    assert!(client.exists(&a).await? && !client.exists(&c).await?);
    assert_eq!(client.delete_many([&a, &c]).await?, 1);
    assert!(client.delete(&b).await? && !client.delete(&b).await?);
    let none: [&str; 0] = [];
    assert_eq!(client.get_many::<u8>(none).await?, []);
    assert_eq!(client.delete_many(none).await?, 0);
    client.set_many([("", 0); 0]).await
}

#[tokio::test]
async fn counters_count() -> Result<(), ClientError> {
    let server = Server::any();
    let client = server.client().await;
    let key = server.key("counter");
    assert_eq!(client.add(&key, 5).await?, 5);
    assert_eq!(client.increment(&key).await?, 6);
    assert_eq!(client.decrement(&key).await?, 5);
    assert_eq!(client.get(&key).await?, Some(5));
    client.set(&key, i64::MAX).await?;
    let error = client.increment(&key).await.unwrap_err();
    let expected = "server refused: ERR increment or decrement would overflow";
    assert_eq!(error.to_string(), expected);
    client.set(&key, "football").await?;
    let error = client.increment(&key).await.unwrap_err();
    let expected = "server refused: ERR value is not an integer or out of range";
    assert_eq!(error.to_string(), expected);
    Ok(())
}

#[tokio::test]
async fn a_value_of_another_type_is_an_error_that_names_it() -> Result<(), ClientError> {
    let server = Server::any();
    let client = server.client().await;
    let key = server.key("wrong");
    client.set(&key, "football").await?;
    let error = client.get::<u64>(&key).await.unwrap_err().to_string();
    let expected = format!("cannot read key {key:?} as u64: \"football\" is not an integer");
    assert_eq!(error, expected);
    client.set(&key, &user()).await?;
    let error = client.get::<Vec<i32>>(&key).await.unwrap_err();
    assert!(matches!(error, ClientError::Decode { .. }), "{error}");
    // A collection of Redis.
    let own = Server::own(&[]);
    let (client, mut raw) = (own.client().await, own.raw().await);
    let _: i64 = redis::cmd("RPUSH").arg("list").arg("a").query_async(&mut raw).await.unwrap();
    let error = client.get::<String>("list").await.unwrap_err().to_string();
    let expected = "key \"list\" holds the wrong type: Operation against a key holding the wrong \
                    kind of value";
    assert_eq!(error, expected);
    Ok(())
}

#[tokio::test]
async fn a_pipeline_answers_each_command() -> Result<(), ClientError> {
    let server = Server::any();
    let client = server.client().await;
    let [a, text, none] = ["a", "text", "none"].map(|name| server.key(name));
    let mut replies = client
        .pipeline()
        .set(&a, 1)
        .add(&a, 2)
        .set(&text, user())
        .add(&text, 1)
        .get(&none)
        .get(&text)
        .set_with(&a, 0, SetOptions::new().if_absent())
        .expire(&a, HOUR)
        .delete(&a)
        .execute()
        .await?;
    assert_eq!(replies.len(), 9);
    assert_eq!(replies.take()?, Some(true));
    assert_eq!(replies.take()?, Some(3));
    assert_eq!(replies.take()?, Some(true));
    let error = replies.take::<i64>().unwrap_err();
    assert!(matches!(error, ClientError::Server { ref code, .. } if code == "ERR"), "{error}");
    assert_eq!(replies.take::<User>()?, None);
    assert_eq!(replies.take()?, Some(user()));
    assert_eq!(replies.take::<bool>()?, None);
    assert_eq!(replies.take()?, Some(1));
    assert_eq!(replies.take()?, Some(1));
    assert!(replies.is_empty());
    assert!(client.pipeline().execute().await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn calls_can_be_spawned() {
    let server = Server::any();
    let client = server.client().await;
    let key = server.key("spawned");
    let task = tokio::spawn(async move {
        client.set(&key, &user()).await?;
        let ada: User = client.get_or_compute(&key, HOUR, async { user() }).await?;
        client.pipeline().set(&key, 1).execute().await?;
        Ok::<_, ClientError>(ada)
    });
    assert_eq!(task.await.unwrap().unwrap(), user());
}
