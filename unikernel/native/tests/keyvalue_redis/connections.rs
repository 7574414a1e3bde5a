//! One connection: shared, replaced when it breaks, given up when nothing comes.

use super::*;
use crate::server::{FakeRedis, RedisServer};

/// How many connections there were, less the first, which asks whether the server has started, and those of redis-cli,
/// which is asked `asked` times with this one.
fn connections(server: &RedisServer, asked: usize) -> usize {
    server.statistic("total_connections_received") - 1 - asked
}

#[test]
fn opening_a_store_does_not_touch_the_network() {
    let redis = FakeRedis::new(|_, _| Some(b"$-1\r\n".to_vec()));
    block_on(async {
        let store = store(&backend(&redis.address), "store");
        slight_machine::host::executor::sleep(Duration::from_millis(50)).await;
        assert_eq!(redis.commands().len(), 0);
        assert_eq!(kind(store.get("key".into()).await), Kind::KeyNotFound);
        assert_eq!(redis.commands().len(), 1);
    });
}

#[test]
fn a_thousand_gets_at_once_share_one_connection() {
    let server = RedisServer::new();
    block_on(async {
        let backend = backend(&server.address());
        let store = store(&backend, "store");
        for number in 0..1_000 {
            store.set(format!("{number}"), format!("value {number}").into_bytes()).await.unwrap();
        }
        for _ in 0..2 {
            let values = all(gets(&store, 1_000, |number| format!("{number}"))).await;
            for (number, value) in values.into_iter().enumerate() {
                assert_eq!(value.unwrap(), format!("value {number}").into_bytes());
            }
        }
        let clients = String::from_utf8(server.cli(&[b"CLIENT", b"LIST"])).unwrap();
        let of_redis_cli = 1;
        assert_eq!(clients.lines().count(), 1 + of_redis_cli, "{clients}");
    });
    assert_eq!(connections(&server, 2), 1);
}

#[test]
fn many_commands_are_under_way_at_once() {
    // It answers nothing until it has had all twenty, which it has only where nobody waits for an answer to send more.
    let redis = FakeRedis::new(|_, number| Some(if number == 19 { b"$1\r\nx\r\n".repeat(20) } else { vec![] }));
    block_on(async {
        let store = store(&backend(&redis.address), "store");
        for value in all(gets(&store, 20, |number| format!("{number}"))).await {
            assert_eq!(value.unwrap(), b"x");
        }
    });
}

#[test]
fn each_command_has_an_answer_of_its_own() {
    let server = RedisServer::new();
    server.cli(&[b"LPUSH", b"store:list", b"item"]);
    block_on(async {
        let store = store(&backend(&server.address()), "store");
        store.set("here".into(), b"value".to_vec()).await.unwrap();
        let calls = ["here", "missing", "list", "here"].map(|key| store.get(key.into()));
        let [here, missing, wrong, again] = <[_; 4]>::try_from(futures_util::future::join_all(calls).await).unwrap();
        assert_eq!((here.unwrap(), again.unwrap()), (b"value".to_vec(), b"value".to_vec()));
        assert_eq!((kind(missing), kind(wrong)), (Kind::KeyNotFound, Kind::InvalidValue));
    });
}

#[test]
fn a_call_that_is_given_up_takes_no_other_answer_with_it() {
    let server = RedisServer::new();
    block_on(async {
        let store = store(&backend(&server.address()), "store");
        for number in 0..200 {
            store.set(format!("{number}"), format!("{number}").into_bytes()).await.unwrap();
        }
        for turns in 0..12 {
            let mut calls = gets(&store, 200, |number| format!("{number}"));
            for _ in 0..turns {
                slight_machine::host::executor::yield_now().await;
            }
            let mut kept = Vec::new();
            for (number, call) in calls.drain(..).enumerate() {
                if number % 2 == 1 {
                    kept.push((number, call));
                }
            }
            for (number, call) in kept {
                assert_eq!(call.await.unwrap(), format!("{number}").into_bytes());
            }
        }
    });
    assert_eq!(connections(&server, 1), 1);
}

#[test]
fn errors_last_only_while_redis_is_away() {
    let mut server = RedisServer::new();
    block_on(async {
        let store = store(&backend(&server.address()), "store");
        store.set("key".into(), b"old".to_vec()).await.unwrap();
        server.kill();
        for _ in 0..3 {
            for outcome in all(gets(&store, 200, |_| "key".into())).await {
                assert_eq!(kind(outcome), Kind::Connection);
            }
        }
        server.start();
        store.set("key".into(), b"new".to_vec()).await.unwrap();
        for outcome in all(gets(&store, 200, |_| "key".into())).await {
            assert_eq!(outcome.unwrap(), b"new");
        }
    });
}

#[test]
fn a_restart_between_two_calls_goes_unnoticed() {
    let mut server = RedisServer::new();
    block_on(async {
        let store = store(&backend(&server.address()), "store");
        store.set("key".into(), b"value".to_vec()).await.unwrap();
        server.restart();
        assert_eq!(store.keys().await.unwrap(), Vec::<String>::new());
        store.set("key".into(), b"value".to_vec()).await.unwrap();
        server.restart();
        // A DEL isn't repeated, so the end of the connection must have been seen.
        slight_machine::host::executor::sleep(Duration::from_millis(10)).await;
        assert_eq!(kind(store.delete("key".into()).await), Kind::KeyNotFound);
    });
}

#[test]
fn a_redis_that_is_not_there_yet_is_used_once_it_is() {
    let mut server = RedisServer::new();
    server.kill();
    block_on(async {
        let store = store(&backend(&server.address()), "store");
        assert_eq!(kind(store.set("key".into(), vec![]).await), Kind::Connection);
        server.start();
        store.set("key".into(), b"value".to_vec()).await.unwrap();
        assert_eq!(store.get("key".into()).await.unwrap(), b"value");
    });
}

#[test]
fn calls_under_way_when_redis_dies_end_with_a_connection_error() {
    let mut server = RedisServer::new();
    block_on(async {
        let store = store(&backend(&server.address()), "store");
        store.set("key".into(), vec![]).await.unwrap();
        server.signal("STOP");
        let calls = gets(&store, 100, |_| "key".into());
        let delete = |_| {
            let store = store.clone();
            spawn(async move { store.delete("key".into()).await })
        };
        let deletes: Vec<_> = (0..100).map(delete).collect();
        slight_machine::host::executor::sleep(Duration::from_millis(50)).await;
        assert!(!calls.iter().any(Task::is_finished) && !deletes.iter().any(Task::is_finished));
        server.kill();
        for outcome in all(calls).await {
            assert_eq!(kind(outcome), Kind::Connection);
        }
        for outcome in all(deletes).await {
            assert_eq!(kind(outcome), Kind::Connection);
        }
    });
}

#[test]
fn a_redis_that_hangs_is_a_timeout_error_for_all_that_wait() {
    let server = RedisServer::new();
    block_on(async {
        let backend = RedisBackend::with_times(&server.address(), SHORT).unwrap();
        let store = store(&backend, "store");
        store.set("key".into(), b"value".to_vec()).await.unwrap();
        server.signal("STOP");
        let begun = Instant::now();
        for outcome in all(gets(&store, 1_000, |_| "key".into())).await {
            let error = outcome.unwrap_err();
            assert_eq!((error.kind, error.text.as_str()), (Kind::Timeout, "Redis did not answer in time"));
        }
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        server.signal("CONT");
        for outcome in all(gets(&store, 100, |_| "key".into())).await {
            assert_eq!(outcome.unwrap(), b"value");
        }
    });
}

#[test]
fn a_command_behind_one_that_hangs_is_sent_again() {
    // The first connection hangs; the next one answers.
    let redis = FakeRedis::new(|_, number| match number {
        0 => {
            std::thread::sleep(SHORT.command * 3 / 2);
            None
        }
        _ => Some(b"$5\r\nvalue\r\n".to_vec()),
    });
    block_on(async {
        let backend = RedisBackend::with_times(&redis.address, Times { connect: SHORT.command, ..SHORT }).unwrap();
        let store = store(&backend, "store");
        let first = gets(&store, 1, |_| "first".into());
        slight_machine::host::executor::sleep(SHORT.command * 3 / 4).await;
        let second = gets(&store, 1, |_| "second".into());
        assert_eq!(kind(all(first).await.remove(0)), Kind::Timeout);
        assert_eq!(all(second).await.remove(0).unwrap(), b"value");
    });
}

#[test]
fn a_host_that_does_not_answer_a_connection_is_a_timeout_error() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    // It takes connections and says nothing, also not to the password.
    let address = format!("redis://:password@{}", listener.local_addr().unwrap());
    block_on(async {
        let backend = RedisBackend::with_times(&address, SHORT).unwrap();
        let begun = Instant::now();
        assert_eq!(kind(store(&backend, "store").get("key".into()).await), Kind::Timeout);
        assert!(begun.elapsed() < SHORT.command, "{:?}", begun.elapsed());
    });
}

#[test]
fn a_get_on_a_connection_that_broke_is_sent_again() {
    let redis = FakeRedis::new(|_, number| (number > 0).then(|| b"$5\r\nvalue\r\n".to_vec()));
    assert_eq!(block_on(store(&backend(&redis.address), "s").get("key".into())).unwrap(), b"value");
    assert_eq!(redis.commands(), [[b"GET".to_vec(), b"s:key".to_vec()], [b"GET".to_vec(), b"s:key".to_vec()]]);
}

#[test]
fn a_delete_on_a_connection_that_broke_is_not_sent_again() {
    let redis = FakeRedis::new(|_, number| (number > 0).then(|| b":0\r\n".to_vec()));
    assert_eq!(kind(block_on(store(&backend(&redis.address), "s").delete("key".into()))), Kind::Connection);
    assert_eq!(redis.commands(), [[b"DEL".to_vec(), b"s:key".to_vec()]]);
}

#[test]
fn a_connection_that_always_breaks_is_given_up_after_the_second_try() {
    let redis = FakeRedis::new(|_, _| None);
    assert_eq!(kind(block_on(store(&backend(&redis.address), "s").get("key".into()))), Kind::Connection);
    assert_eq!(redis.commands().len(), 2);
}

#[test]
fn dropping_the_backend_and_its_stores_ends_the_connection() {
    let server = RedisServer::new();
    block_on(async {
        let backend = backend(&server.address());
        store(&backend, "store").set("key".into(), vec![]).await.unwrap();
        drop(backend);
        slight_machine::host::executor::sleep(Duration::from_millis(50)).await;
    });
    let of_redis_cli = 1;
    assert_eq!(server.cli(&[b"CLIENT", b"LIST"]).split(|byte| *byte == b'\n').count(), of_redis_cli);
}
