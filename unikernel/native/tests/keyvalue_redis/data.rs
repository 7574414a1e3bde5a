//! What lies in Redis, and what a guest sees of it.

use super::*;
use crate::server::{FakeRedis, RedisServer};

#[test]
fn the_layout_is_that_of_the_linux_flavour() {
    let server = RedisServer::new();
    block_on(async {
        let backend = backend(&server.address());
        let orders = store(&backend, "my-container");
        orders.set("a:b".into(), b"ours".to_vec()).await.unwrap();
        assert_eq!(server.cli(&[b"GET", b"my-container:a:b"]), b"ours");
        server.cli(&[b"SET", b"my-container:theirs", b"value"]);
        assert_eq!(orders.get("theirs".into()).await.unwrap(), b"value");
        let mut keys = orders.keys().await.unwrap();
        keys.sort();
        assert_eq!(keys, ["a:b", "theirs"]);
    });
}

#[test]
fn a_colon_in_a_stores_name_is_encoded() {
    let server = RedisServer::new();
    block_on(store(&backend(&server.address()), "a:b%").set("key".into(), b"value".to_vec())).unwrap();
    assert_eq!(server.cli(&[b"KEYS", b"*"]), b"a%3Ab%25:key");
}

#[test]
fn glob_characters_in_a_stores_name_match_only_themselves() {
    let server = RedisServer::new();
    server.cli(&[
        b"MSET",
        b"axb:other",
        b"1",
        b"axxb:other",
        b"2",
        b"b:other",
        b"3",
        b":other",
        b"4",
        b"x:other",
        b"5",
    ]);
    block_on(async {
        let backend = backend(&server.address());
        for name in ["a*b", "a?b", "a[x]b", "a\\b", "a[^y]b", "[", "]", "\\", "a[x-z]b"] {
            let store = store(&backend, name);
            assert_eq!(store.keys().await.unwrap(), Vec::<String>::new(), "{name}");
            store.set("*".into(), vec![]).await.unwrap();
            assert_eq!(store.keys().await.unwrap(), ["*"], "{name}");
        }
    });
}

#[test]
fn keys_that_are_not_utf_8_are_left_out() {
    let server = RedisServer::new();
    server.cli(&[b"SET", b"store:\xff\xfe", b"value"]);
    server.cli(&[b"SET", "store:ключ".as_bytes(), b"value"]);
    assert_eq!(block_on(store(&backend(&server.address()), "store").keys()).unwrap(), ["ключ"]);
}

#[test]
fn a_key_that_scan_returns_twice_is_listed_once() {
    let redis = FakeRedis::new(|command, _| {
        Some(match command[1].as_slice() {
            b"0" => b"*2\r\n$2\r\n17\r\n*2\r\n$3\r\ns:a\r\n$3\r\ns:b\r\n".to_vec(),
            b"17" => b"*2\r\n$1\r\n5\r\n*0\r\n".to_vec(),
            _ => b"*2\r\n$1\r\n0\r\n*2\r\n$3\r\ns:b\r\n$3\r\ns:a\r\n".to_vec(),
        })
    });
    assert_eq!(block_on(store(&backend(&redis.address), "s").keys()).unwrap(), ["a", "b"]);
}

#[test]
fn keys_of_other_stores_that_a_server_lists_are_no_answer() {
    let redis = FakeRedis::new(|_, _| Some(b"*2\r\n$1\r\n0\r\n*1\r\n$3\r\nx:a\r\n".to_vec()));
    assert_eq!(kind(block_on(store(&backend(&redis.address), "s").keys())), Kind::Unexpected);
}

#[test]
fn what_is_no_value_of_redis_is_an_invalid_value() {
    let server = RedisServer::new();
    server.cli(&[b"LPUSH", b"store:list", b"item"]);
    block_on(async {
        let store = store(&backend(&server.address()), "store");
        assert_eq!(kind(store.get("list".into()).await), Kind::InvalidValue);
        store.set("list".into(), b"value".to_vec()).await.unwrap();
        assert_eq!(store.get("list".into()).await.unwrap(), b"value");
    });
}

#[test]
fn a_value_that_others_made_too_long_is_invalid_and_harms_no_other_call() {
    let server = RedisServer::new();
    server.cli(&[b"SETRANGE", b"store:long", b"67108864", b"x"]);
    block_on(async {
        let store = store(&backend(&server.address()), "store");
        store.set("key".into(), b"value".to_vec()).await.unwrap();
        let calls = vec![store.get("key".into()), store.get("long".into()), store.get("key".into())];
        let [first, long, last] = <[_; 3]>::try_from(futures_util::future::join_all(calls).await).unwrap();
        assert_eq!((first.unwrap(), last.unwrap()), (b"value".to_vec(), b"value".to_vec()));
        let error = long.unwrap_err();
        assert_eq!(error.kind, Kind::InvalidValue);
        assert_eq!(error.text, "67108865 bytes are more than the 67108864 a value may have");
    });
    assert_eq!(server.statistic("total_connections_received"), 1 + 1 + 2);
}

#[test]
fn large_values_travel_one_behind_the_other() {
    let server = RedisServer::new();
    block_on(async {
        let store = store(&backend(&server.address()), "store");
        let value = |number: u8| vec![number; 3_000_000 + usize::from(number)];
        let sets: Vec<_> = (0..8)
            .map(|number| {
                let store = store.clone();
                spawn(async move { store.set(format!("{number}"), value(number)).await })
            })
            .collect();
        for outcome in all(sets).await {
            outcome.unwrap();
        }
        let values = all(gets(&store, 8, |number| format!("{number}"))).await;
        for (number, got) in (0..8).zip(values) {
            assert!(got.unwrap() == value(number), "the value of {number} is another");
        }
    });
}

#[test]
fn the_longest_value_is_kept() {
    let server = RedisServer::new();
    block_on(async {
        let store = store(&backend(&server.address()), "store");
        let value = vec![0xff; 64 * 1024 * 1024];
        store.set("key".into(), value.clone()).await.unwrap();
        assert!(store.get("key".into()).await.unwrap() == value);
    });
}

#[test]
fn the_database_is_the_addresss() {
    let server = RedisServer::new();
    for (number, address) in [("3", server.address() + "/3"), ("4", server.address() + "?db=4")] {
        block_on(store(&backend(&address), "store").set("key".into(), b"value".to_vec())).unwrap();
        assert_eq!(server.cli(&[b"-n", number.as_bytes(), b"KEYS", b"*"]), b"store:key");
    }
    assert_eq!(server.cli(&[b"KEYS", b"*"]), b"");
}
