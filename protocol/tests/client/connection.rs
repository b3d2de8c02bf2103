//! Connecting, and connections that break.

use distcache_protocol::client::{CacheClient, ClientError, ConnectOptions};
use tokio::time::Instant;

use crate::server::{DEADLINE, Server};

#[tokio::test]
async fn password_and_database_come_from_url_or_options() -> Result<(), ClientError> {
    let server = Server::own(&["--requirepass", "s3cret"]);
    let address = &server.address;
    let by_url = CacheClient::connect(&format!("redis://:s3cret@{address}/3")).await?;
    by_url.set("key", "in database 3").await?;
    let password = Some("s3cret".to_owned());
    let options = ConnectOptions { password, ..server.impatient() };
    let in_0 = CacheClient::connect_with(options.clone()).await?;
    let in_3 = CacheClient::connect_with(ConnectOptions { database: Some(3), ..options }).await?;
    assert!(!in_0.exists("key").await?);
    assert!(in_3.exists("key").await?);
    Ok(())
}

#[tokio::test]
async fn a_wrong_password_is_told() {
    let server = Server::own(&["--requirepass", "s3cret"]);
    let options = ConnectOptions { password: Some("wrong".to_owned()), ..server.impatient() };
    let resp2 = format!("redis://{}/?protocol=resp2", server.address);
    for address in [options.address.clone(), resp2] {
        let options = ConnectOptions { address, ..options.clone() };
        let error = CacheClient::connect_with(options).await.unwrap_err().to_string();
        let expected =
            "server refused: WRONGPASS invalid username-password pair or user is disabled.";
        assert_eq!(error, expected);
    }
}

#[tokio::test]
async fn no_server_is_told_with_its_address() {
    let mut server = Server::own(&[]);
    let options = server.impatient();
    server.kill();
    let error = CacheClient::connect_with(options).await.unwrap_err();
    assert!(matches!(error, ClientError::Connection { .. }), "{error}");
    let expected = format!("no connection to {}: ", server.address);
    assert!(error.to_string().starts_with(&expected), "{error}");
}

#[tokio::test]
async fn a_restarted_server_is_found_again() -> Result<(), ClientError> {
    let mut server = Server::own(&[]);
    let client = CacheClient::connect_with(server.impatient()).await?;
    client.set("key", 1).await?;
    server.kill();
    // All that is asked meanwhile fails, and says why.
    let error = client.get::<u8>("key").await.unwrap_err();
    assert!(matches!(error, ClientError::Connection { .. }), "{error}");
    server.restart();
    let restarted = Instant::now();
    while let Err(error) = client.set("key", 2).await {
        assert!(matches!(error, ClientError::Connection { .. }), "{error}");
        assert!(restarted.elapsed() < DEADLINE, "still {error}");
    }
    assert_eq!(client.get("key").await?, Some(2));
    Ok(())
}

#[tokio::test]
async fn a_read_survives_a_restart_between_two_commands() -> Result<(), ClientError> {
    let mut server = Server::own(&[]);
    let client = server.client().await;
    client.set("key", 1).await?;
    server.kill();
    server.restart();
    assert_eq!(client.get::<u8>("key").await?, None, "it is a new server, without the key");
    Ok(())
}

#[tokio::test]
async fn a_silent_server_is_a_timeout() {
    // A listener whose backlog accepts connections, and nobody who answers.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let options = ConnectOptions {
        address: listener.local_addr().unwrap().to_string(),
        connect_timeout: std::time::Duration::from_millis(50),
        reconnect_attempts: 0,
        ..ConnectOptions::default()
    };
    let error = CacheClient::connect_with(options).await.unwrap_err();
    assert!(matches!(error, ClientError::Timeout { .. }), "{error}");
}
