//! A server that sends whatever it likes, when it likes: every call ends, and in time.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, LazyLock, Mutex};

use proptest::prelude::*;

use super::*;

/// What the server does next on a connection.
#[derive(Clone, Debug)]
enum Step {
    Send(Vec<u8>),
    WaitForCommand,
    Close,
}

/// A server that follows a script on each connection, from its beginning, and is silent behind its end.
fn server(script: Arc<Mutex<Vec<Step>>>) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = format!("redis://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let script = script.lock().unwrap().clone();
            std::thread::spawn(move || follow(&script, &stream.unwrap()));
        }
    });
    address
}

fn follow(script: &[Step], mut stream: &TcpStream) {
    for step in script {
        let done = match step {
            Step::Send(bytes) => stream.write_all(bytes).is_ok(),
            Step::WaitForCommand => stream.read(&mut [0; 4096]).is_ok_and(|length| length > 0),
            Step::Close => {
                let _ = stream.shutdown(Shutdown::Both);
                false
            }
        };
        if !done {
            return;
        }
    }
    // Silence, until the client has had enough.
    while stream.read(&mut [0; 4096]).is_ok_and(|length| length > 0) {}
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let answer = prop_oneof![
        Just("+OK\r\n"),
        Just("$-1\r\n"),
        Just("$5\r\nvalue\r\n"),
        Just("$5\r\nval"),
        Just(":1\r\n"),
        Just("*2\r\n$1\r\n0\r\n*1\r\n$7\r\nstore:a\r\n"),
        Just("*2\r\n$1\r\n7\r\n*0\r\n"),
        Just("*2\r\n$1\r\n0\r\n*99999999\r\n"),
        Just("$99999999999\r\nx"),
        Just("-WRONGTYPE no\r\n"),
        Just("-ERR max number of clients reached\r\n"),
        Just("-NOAUTH no\r\n"),
        Just("\r\n"),
    ];
    let step = prop_oneof![
        4 => answer.prop_map(|text| Step::Send(text.into())),
        1 => prop::collection::vec(any::<u8>(), 1..50).prop_map(Step::Send),
        4 => Just(Step::WaitForCommand),
        1 => Just(Step::Close),
    ];
    prop::collection::vec(step, 0..12)
}

/// Shorter ones than a test of one case has.
const TIMES: Times = Times { connect: Duration::from_millis(50), command: Duration::from_millis(100) };

static SCRIPT: LazyLock<(Arc<Mutex<Vec<Step>>>, String)> = LazyLock::new(|| {
    let script: Arc<Mutex<Vec<Step>>> = Arc::default();
    (script.clone(), server(script))
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_call_ends_in_time(script in steps(), password in any::<bool>()) {
        *SCRIPT.0.lock().unwrap() = script;
        let address = if password { SCRIPT.1.replace("redis://", "redis://:word@") } else { SCRIPT.1.clone() };
        block_on(async {
            let backend = RedisBackend::with_times(&address, TIMES).unwrap();
            let store = store(&backend, "store");
            let begun = Instant::now();
            let calls = (
                spawn({ let store = store.clone(); async move { store.get("a".into()).await } }),
                spawn({ let store = store.clone(); async move { store.set("b".into(), vec![0; 100_000]).await } }),
                spawn({ let store = store.clone(); async move { store.delete("c".into()).await } }),
            );
            let _ = (calls.0.await, calls.1.await, calls.2.await);
            assert!(begun.elapsed() < TIMES.command * 3, "{:?}", begun.elapsed());
        });
    }
}
