use core::time::Duration;

use super::*;
use crate::host::executor::{Elapsed, block_on, sleep, spawn, timeout};

/// Keeps what it gets, a piece whenever it is allowed one.
#[derive(Default)]
struct Slow {
    got: Mutex<Vec<u8>>,
    allowed: Mutex<usize>,
    changed: Notify,
}

struct SlowSink(Arc<Slow>);

impl Sink for SlowSink {
    async fn write(&mut self, bytes: &[u8]) -> bool {
        loop {
            let changed = self.0.changed.notified();
            if *self.0.allowed.lock() > 0 {
                break;
            }
            changed.await;
        }
        *self.0.allowed.lock() -= 1;
        self.0.got.lock().extend_from_slice(bytes);
        true
    }
}

#[test]
fn a_guest_that_prints_faster_than_somebody_reads_waits() {
    block_on(async {
        let (output, slow) = (Arc::new(Output::default()), Arc::new(Slow::default()));
        let _pump = spawn(output.clone().pump(SlowSink(slow.clone())));
        let piece = [b'x'; LIMIT];
        assert_eq!(output.print(&piece).await, Ok(LIMIT));
        sleep(Duration::from_millis(1)).await; // the sink has it now, and room is free again
        assert_eq!(output.print(&piece).await, Ok(LIMIT));
        assert_eq!(timeout(Duration::from_millis(5), output.print(b"y")).await, Err(Elapsed));
        *slow.allowed.lock() = 10;
        slow.changed.notify();
        assert_eq!(timeout(Duration::from_secs(10), output.print(b"y")).await, Ok(Ok(1)));
        assert_eq!(timeout(Duration::from_secs(10), output.out()).await, Ok(()));
        assert_eq!(slow.got.lock().len(), 2 * LIMIT + 1);
        assert_eq!(output.printed(), 2 * LIMIT as u64 + 1);
    });
}

#[test]
fn lines_of_the_log_are_left_out_and_counted_where_too_much_waits() {
    block_on(async {
        let (output, slow) = (Arc::new(Output::default()), Arc::new(Slow::default()));
        let _pump = spawn(output.clone().pump(SlowSink(slow.clone())));
        let line = "x".repeat(LOG_LIMIT + 1);
        output.log(&line);
        output.log("left out\n");
        output.log("left out\n");
        *slow.allowed.lock() = 10;
        slow.changed.notify();
        timeout(Duration::from_secs(10), output.out()).await.unwrap();
        let got = slow.got.lock();
        let told = core::str::from_utf8(&got[line.len()..]).unwrap();
        assert_eq!(told, "slight-py: 2 lines of the log are left out: standard error isn't read in time\n");
    });
}

struct Gone;

impl Sink for Gone {
    async fn write(&mut self, _: &[u8]) -> bool {
        false
    }
}

#[test]
fn a_guest_is_told_when_nobody_reads_any_more() {
    block_on(async {
        let output = Arc::new(Output::default());
        let _pump = spawn(output.clone().pump(Gone));
        assert_eq!(output.print(b"x").await, Ok(1));
        timeout(Duration::from_secs(10), output.out()).await.unwrap();
        assert_eq!(output.print(b"y").await, Err(Closed));
    });
}
