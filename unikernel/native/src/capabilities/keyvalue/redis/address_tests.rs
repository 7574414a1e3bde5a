use super::*;

const PASSWORD: &str = "s3cr3t-pa55";

fn parsed(address: &str) -> Address {
    Address::parse(address).unwrap_or_else(|ConfigError(text)| panic!("{text}"))
}

fn refusal(address: &str) -> String {
    let ConfigError(text) = Address::parse(address).err().unwrap_or_else(|| panic!("{address} is taken"));
    text
}

#[test]
fn an_address_is_taken_apart_as_the_redis_uri_scheme_has_it() {
    let address = parsed("redis://us%65r:p%40ss@redis.example:7000/12");
    assert_eq!((address.host.as_str(), address.port, address.database), ("redis.example", 7000, 12));
    assert_eq!((address.username.as_deref(), address.password.as_deref()), (Some("user"), Some("p@ss")));

    let address = parsed("redis://[::1]/");
    assert_eq!((address.host.as_str(), address.port, address.database), ("::1", 6379, 0));
    assert_eq!((address.username, address.password), (None, None));

    let address = parsed("REDIS://:p%2Fa%3As%40s%3F%23%25%zz@HOST?db=4");
    assert_eq!((address.host.as_str(), address.port, address.database), ("host", 6379, 4));
    assert_eq!((address.username.as_deref(), address.password.as_deref()), (None, Some("p/a:s@s?#%%zz")));
}

/// As the Python side does, which is held to the same.
#[test]
fn addresses_are_read_as_pythons_backend_reads_them() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../redis_vectors.json");
    let vectors: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    for vector in vectors["taken"].as_array().unwrap() {
        let Address { host, port, username, password, database } = parsed(vector["address"].as_str().unwrap());
        let found = serde_json::json!({"address": vector["address"], "host": host, "port": port, "username": username,
                                       "password": password, "database": database});
        assert_eq!(&found, vector);
    }
    for vector in vectors["refused"].as_array().unwrap() {
        refusal(vector.as_str().unwrap());
    }
}

#[test]
fn the_place_has_no_credentials() {
    assert_eq!(parsed("redis://user:secret@redis.example:7000/1").place(), "redis.example:7000");
    assert_eq!(parsed("redis://:secret@[2001:db8::1]").place(), "[2001:db8::1]:6379");
}

#[test]
fn a_bad_address_is_refused_and_nothing_of_it_shown() {
    for address in [
        "localhost:6379",
        "PASSWORD@localhost",
        "http://:PASSWORD@localhost",
        "redis://:PASSWORD@",
        "redis://:PASSWORD@:6379",
        "redis://:PASSWORD@localhost:99999",
        "redis://:PASSWORD@localhost:port",
        "redis://:PASSWORD@localhost:+1",
        "redis://user:PASSWORD/more@localhost",
        "redis://:PASSWORD#more@localhost",
        "redis://:PASSWORD@localhost/database",
        "redis://:PASSWORD@localhost/-1",
        "redis://:PASSWORD@localhost/1/2",
        "redis://:PASSWORD@localhost?db=x",
        "redis://:PASSWORD@localhost?PASSWORD",
        "redis://:PASSWORD@localhost?max_connections=9",
        "redis://:PASSWORD@localhost?ssl_ca_certs=x",
        "redis://:PASSWORD@[::1",
        "redis://:PASSWORD@[::1]x",
        "redis://:PASSWORD@localhost]",
    ] {
        let text = refusal(&address.replace("PASSWORD", PASSWORD));
        assert!(text.starts_with("REDIS_ADDRESS is not the address of a Redis: "), "{address}: {text}");
        assert!(!text.contains(PASSWORD) && !text.contains("localhost"), "{text}");
    }
    assert_eq!(refusal(""), "REDIS_ADDRESS is missing: give the address of a Redis");
}

#[test]
fn what_the_machine_cannot_reach_is_refused_by_name() {
    assert!(refusal("rediss://:secret@localhost").contains("(rediss://)"));
    assert!(refusal("unix:///run/redis.sock").contains("(unix://)"));
}

#[test]
fn a_database_that_no_redis_has_is_left_to_redis() {
    assert_eq!(parsed("redis://localhost/3000000000").database, LAST_DATABASE);
    assert_eq!(parsed("redis://localhost/99999999999999999999999").database, LAST_DATABASE);
}
