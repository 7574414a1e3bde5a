use super::*;
use crate::host::executor::block_on;
use alloc::vec;
use proptest::prelude::*;

fn kind<T: core::fmt::Debug>(result: Result<T, StoreError>) -> Kind {
    result.unwrap_err().kind
}

fn opened(stores: &MemoryStores, name: &str) -> Arc<dyn Store> {
    stores.open(name).unwrap()
}

#[test]
fn a_set_past_the_limit_is_refused_and_changes_nothing() {
    block_on(async {
        let stores = MemoryStores::new(10_000);
        let store = opened(&stores, "store");
        store.set("key".into(), b"old".to_vec()).await.unwrap();
        let used = stores.used_bytes();
        assert_eq!(kind(store.set("key".into(), vec![0; 10_000]).await), Kind::Unexpected);
        assert_eq!(kind(store.set("other".into(), vec![0; 10_000]).await), Kind::Unexpected);
        let error = opened(&stores, "other").set("key".into(), vec![0; 9_700]).await.unwrap_err();
        assert_eq!(error.text, "the stores in memory are full: they may take 10000 bytes in all");
        assert_eq!(store.get("key".into()).await.unwrap(), b"old");
        assert_eq!(store.keys().await.unwrap(), ["key"]);
        assert_eq!(stores.used_bytes(), used);
    });
}

#[test]
fn what_is_deleted_or_replaced_makes_room() {
    block_on(async {
        let stores = MemoryStores::new(10_000);
        let (store, other) = (opened(&stores, "store"), opened(&stores, "other"));
        for _ in 0..10 {
            store.set("key".into(), vec![0; 9_000]).await.unwrap();
            assert_eq!(kind(other.set("key".into(), vec![0; 9_000]).await), Kind::Unexpected);
            store.set("key".into(), vec![]).await.unwrap();
            other.set("key".into(), vec![0; 8_000]).await.unwrap();
            other.delete("key".into()).await.unwrap();
        }
    });
}

#[test]
fn a_full_store_still_takes_a_value_that_is_no_longer_than_the_old() {
    block_on(async {
        let stores = MemoryStores::new("s".len() + STORE_BYTES + "k".len() + 1_000 + ENTRY_BYTES);
        let store = opened(&stores, "s");
        store.set("k".into(), vec![b'x'; 1_000]).await.unwrap();
        store.set("k".into(), vec![b'y'; 1_000]).await.unwrap();
        assert_eq!(kind(store.set("k".into(), vec![b'x'; 1_001]).await), Kind::Unexpected);
    });
}

#[test]
fn others_have_their_turn_while_many_keys_are_listed() {
    block_on(async {
        let stores = MemoryStores::new(LIMIT);
        let store = opened(&stores, "store");
        for number in 0..PAGE_KEYS * 5 / 2 {
            store.set(alloc::format!("{number}"), vec![]).await.unwrap();
        }
        let turns = Arc::new(Mutex::new(0));
        let counted = turns.clone();
        let other = executor::spawn(async move {
            loop {
                *counted.lock() += 1;
                executor::yield_now().await;
            }
        });
        assert_eq!(store.keys().await.unwrap().len(), PAGE_KEYS * 5 / 2);
        assert!(*turns.lock() >= 2, "{}", turns.lock());
        drop(other);
    });
}

#[test]
fn a_store_with_too_many_keys_is_not_listed() {
    block_on(async {
        let stores = MemoryStores::new(LIMIT);
        let store = opened(&stores, "store");
        // As few as are too many: long keys.
        let keys = LISTING_LIMIT / (LISTING_KEY_BYTES + 65_000) + 1;
        for number in 0..keys {
            store.set(alloc::format!("{number:065000}"), vec![]).await.unwrap();
        }
        let error = store.keys().await.unwrap_err();
        assert_eq!(error.text, "the store holds more keys than can be listed at once");
        store.delete(alloc::format!("{:065000}", 0)).await.unwrap();
        assert_eq!(store.keys().await.unwrap().len(), keys - 1);
    });
}

#[test]
fn a_small_machine_has_a_small_limit() {
    assert_eq!(limit_in(64 << 20), 32 << 20);
    assert_eq!(limit_in(1 << 40), LIMIT);
}

proptest! {
    /// An operation is a store, a key, and the value to set there, or None to delete.
    #[test]
    fn used_bytes_are_those_of_the_entries_there_are(
        operations in prop::collection::vec(("[abé]", "[kä]{0,1}", prop::option::of(prop::collection::vec(any::<u8>(), 0..9))), 0..40)
    ) {
        block_on(async {
            let stores = MemoryStores::new(LIMIT);
            let mut entries: BTreeMap<(String, String), Vec<u8>> = BTreeMap::new();
            for (name, key, value) in operations {
                let store = opened(&stores, &name);
                match value {
                    Some(value) => {
                        entries.insert((name, key.clone()), value.clone());
                        store.set(key, value).await.unwrap();
                    }
                    None if entries.remove(&(name, key.clone())).is_some() => store.delete(key).await.unwrap(),
                    None => assert_eq!(kind(store.delete(key).await), Kind::KeyNotFound),
                }
            }
            let names: alloc::collections::BTreeSet<&String> = entries.keys().map(|(name, _)| name).collect();
            let expected = entries.iter().map(|((_, key), value)| key.len() + value.len() + ENTRY_BYTES).sum::<usize>()
                + names.iter().map(|name| name.len() + STORE_BYTES).sum::<usize>();
            assert_eq!(stores.used_bytes(), expected);
        });
    }
}
