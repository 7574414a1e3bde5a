//! Puts a value into two stores, reads it back and removes it.

use std::error::Error;
use std::str::from_utf8;

use slight::keyvalue::{Keyvalue, KeyvalueError};

fn main() -> Result<(), Box<dyn Error>> {
    let keyvalue1 = Keyvalue::open("my-container")?;
    let keyvalue2 = Keyvalue::open("my-container2")?;
    for store in [&keyvalue1, &keyvalue2] {
        store.set("key", b"spiderlightning")?;
        for key in store.keys()? {
            println!("key: {key}");
        }
    }

    println!(
        "The value for keyvalue1 is: {}, keyvalue2 is {}",
        from_utf8(&keyvalue1.get("key")?)?,
        from_utf8(&keyvalue2.get("key")?)?,
    );

    for store in [&keyvalue1, &keyvalue2] {
        store.delete("key")?;
        match store.get("key") {
            Err(KeyvalueError::KeyNotFound(_)) => {}
            Err(error) => return Err(error.into()),
            Ok(_) => return Err("the key is still there after it was deleted".into()),
        }
    }
    Ok(())
}
