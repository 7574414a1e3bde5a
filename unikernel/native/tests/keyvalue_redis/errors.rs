//! Passwords, users, and what Redis refuses: in the same words as in the Linux flavour.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::*;
use crate::server::{FakeRedis, RedisServer, free_port};

const PASSWORD: &str = "s3cr3t-pa55";

fn error(address: &str) -> StoreError {
    let error = block_on(store(&backend(address), "store").get("key".into())).unwrap_err();
    let told = format!("{} {:?}", error.text, error.notice);
    assert!(!told.contains(PASSWORD), "{told}");
    error
}

#[test]
fn a_password_opens_the_store_and_a_wrong_one_is_an_authentication_error() {
    let server = RedisServer::start_with(&["--requirepass", PASSWORD]);
    let address = |user: &str| format!("redis://{user}127.0.0.1:{}", server.port);
    block_on(async {
        let store = store(&backend(&address(&format!(":{PASSWORD}@"))), "store");
        store.set("key".into(), b"value".to_vec()).await.unwrap();
        assert_eq!(store.get("key".into()).await.unwrap(), b"value");
    });
    for wrong in [format!(":{PASSWORD}x@"), format!("nobody:{PASSWORD}@"), format!("{PASSWORD}@"), String::new()] {
        let error = error(&address(&wrong));
        assert_eq!(error.kind, Kind::Authentication, "{wrong}: {error:?}");
        assert_eq!(error.text, "Redis refuses the user and password of REDIS_ADDRESS");
    }
}

#[test]
fn a_password_that_redis_does_not_ask_for_is_an_authentication_error() {
    let server = RedisServer::new();
    let error = error(&format!("redis://:{PASSWORD}@127.0.0.1:{}", server.port));
    assert_eq!(error.kind, Kind::Authentication);
}

#[test]
fn a_user_without_the_permission_is_an_authentication_error() {
    let server = RedisServer::new();
    server.cli(&[b"ACL", b"SETUSER", b"reader", b"on", b">p/a:s@s?#%", b"~store:*", b"+get"]);
    block_on(async {
        let backend = backend(&format!("redis://reader:p%2Fa%3As%40s%3F%23%25@127.0.0.1:{}", server.port));
        let own = store(&backend, "store");
        assert_eq!(kind(own.get("key".into()).await), Kind::KeyNotFound);
        assert_eq!(kind(own.set("key".into(), vec![]).await), Kind::Authentication);
        assert_eq!(kind(store(&backend, "other").get("key".into()).await), Kind::Authentication);
    });
}

#[test]
fn before_redis_6_the_password_is_shown_without_the_user() {
    let redis = FakeRedis::new(|command, _| {
        Some(match command.len() {
            3 => b"-ERR wrong number of arguments for 'auth' command\r\n".to_vec(),
            _ if command[0] == b"AUTH" => b"+OK\r\n".to_vec(),
            _ => b"$5\r\nvalue\r\n".to_vec(),
        })
    });
    let address = redis.address.replace("redis://", "redis://user:word@");
    assert_eq!(block_on(store(&backend(&address), "s").get("key".into())).unwrap(), b"value");
    assert_eq!(redis.commands()[1], [b"AUTH".to_vec(), b"word".to_vec()]);
}

#[test]
fn a_server_that_repeats_the_password_in_its_error_does_not_give_it_away() {
    for text in ["ERR unknown command 'AUTH', with args beginning with: '{}' ", "{} is wrong", "{}"] {
        let answer = format!("-{}\r\n", text.replace("{}", PASSWORD)).into_bytes();
        let redis = FakeRedis::new(move |_, _| Some(answer.clone()));
        let error = error(&redis.address.replace("redis://", &format!("redis://:{PASSWORD}@")));
        assert_eq!(error.text, "Redis answered with an error: ERR");
    }
}

#[test]
fn the_guest_is_not_told_where_redis_is_and_whoever_runs_it_is() {
    let port = free_port();
    let error = error(&format!("redis://user:{PASSWORD}@127.0.0.1:{port}"));
    assert_eq!(error.kind, Kind::Connection);
    assert_eq!(error.text, "Redis can't be reached: Connection refused");
    let notice =
        format!("redis 127.0.0.1:{port}: connection refused; start it, or correct REDIS_ADDRESS in the slightfile");
    assert_eq!(error.notice, Some(notice));
}

#[test]
fn a_host_that_nobody_knows_is_a_connection_error() {
    let error = error("redis://no-such-host.invalid");
    assert_eq!(
        (error.kind, error.text.as_str()),
        (Kind::Connection, "Redis can't be reached: Name or service not known")
    );
}

#[test]
fn a_full_redis_is_an_unexpected_error() {
    let server = RedisServer::start_with(&["--maxmemory", "1"]);
    block_on(async {
        let store = store(&backend(&server.address()), "store");
        let error = store.set("key".into(), b"value".to_vec()).await.unwrap_err();
        assert_eq!((error.kind, error.text.as_str()), (Kind::Unexpected, "Redis answered with an error: OOM"));
        assert!(error.notice.unwrap().ends_with("it has no memory left; raise its maxmemory, or remove keys"));
        assert_eq!(kind(store.get("key".into()).await), Kind::KeyNotFound);
    });
}

#[test]
fn a_redis_with_too_many_clients_is_a_connection_error() {
    let server = RedisServer::start_with(&["--maxclients", "1"]);
    let _only_client = loop {
        // The connection that saw it start may still be there.
        if let Some(client) = client_that_is_answered(server.port) {
            break client;
        }
    };
    assert_eq!(error(&server.address()).kind, Kind::Connection);
}

fn client_that_is_answered(port: u16) -> Option<TcpStream> {
    let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    client.write_all(b"PING\r\n").ok()?;
    let mut answer = [0; 7];
    client.read_exact(&mut answer).ok()?;
    (answer == *b"+PONG\r\n").then_some(client)
}

#[test]
fn a_redis_that_loads_its_data_is_a_connection_error() {
    let redis = FakeRedis::new(|_, _| Some(b"-LOADING Redis is loading the dataset in memory\r\n".to_vec()));
    let error = error(&redis.address);
    assert_eq!(
        (error.kind, error.text.as_str()),
        (Kind::Connection, "Redis can't be used yet: it is loading its data")
    );
}

#[test]
fn a_database_that_redis_does_not_have_is_named_as_the_cause() {
    let server = RedisServer::new();
    for number in ["99", "99999999999999999999999"] {
        let error = error(&format!("{}/{number}", server.address()));
        assert_eq!(error.kind, Kind::Unexpected);
        assert_eq!(error.text, "REDIS_ADDRESS names a database that Redis doesn't have");
    }
}

#[test]
fn something_that_is_no_redis_is_an_unexpected_error() {
    let long = [b'+'; 100_000];
    for reply in [
        b"HTTP/1.1 400 Bad Request\r\n\r\n".as_slice(),
        b"*x\r\n",
        b"$\r\n",
        b"\r\n",
        &long,
        b":1\r\n",
        b"+OK\r\n",
        b"*0\r\n",
    ] {
        let reply = reply.to_vec();
        let redis = FakeRedis::new(move |_, _| Some(reply.clone()));
        let error = error(&redis.address);
        assert_eq!(error.text, "what answers at REDIS_ADDRESS is not a Redis");
        assert_eq!(error.kind, Kind::Unexpected);
    }
}
