use alloc::vec;
use alloc::vec::Vec;

use super::*;
use crate::host::sync::{Mutex, Notify, Signal};

#[test]
fn tasks_run_in_turns() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let count = |name: char| {
        let seen = seen.clone();
        spawn(async move {
            for number in 0..2 {
                seen.lock().push((name, number));
                yield_now().await;
            }
        })
    };
    let (first, second) = (count('a'), count('b'));
    block_on(async {
        first.await;
        second.await;
    });
    assert_eq!(*seen.lock(), vec![('a', 0), ('b', 0), ('a', 1), ('b', 1)]);
}

#[test]
fn sleepers_wake_in_the_order_of_their_moments_and_not_before() {
    let began = platform::now();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let tasks: Vec<_> = [30, 10, 20]
        .map(|milliseconds| {
            let seen = seen.clone();
            spawn(async move {
                sleep(Duration::from_millis(milliseconds)).await;
                seen.lock().push(milliseconds);
            })
        })
        .into();
    block_on(async {
        for task in tasks {
            task.await;
        }
    });
    assert_eq!(*seen.lock(), vec![10, 20, 30]);
    assert!(platform::now() - began >= Duration::from_millis(30));
}

#[test]
fn a_task_that_is_dropped_ends_there() {
    let mark = Arc::new(());
    let kept = mark.clone();
    let task = spawn(async move {
        sleep(Duration::from_secs(3600)).await;
        drop(kept);
    });
    block_on(yield_now());
    drop(task);
    block_on(async {
        yield_now().await;
        yield_now().await;
    });
    assert_eq!(Arc::strong_count(&mark), 1);
}

#[test]
fn a_detached_task_runs_on() {
    let done = Arc::new(Notify::new());
    let wanted = done.notified();
    spawn({
        let done = done.clone();
        async move {
            sleep(Duration::from_millis(1)).await;
            done.notify();
        }
    })
    .detach();
    assert_eq!(block_on(timeout(Duration::from_secs(10), wanted)), Ok(()));
}

#[test]
fn a_time_limit_drops_what_takes_longer() {
    let limit = Duration::from_millis(5);
    assert_eq!(block_on(timeout(limit, sleep(Duration::from_secs(3600)))), Err(Elapsed));
    assert_eq!(block_on(timeout(Duration::from_secs(3600), async { 7 })), Ok(7));
}

#[test]
fn a_task_is_woken_from_another_thread() {
    let done = Arc::new(Notify::new());
    let wanted = done.notified();
    std::thread::spawn({
        let done = done.clone();
        move || {
            std::thread::sleep(Duration::from_millis(5));
            done.notify();
        }
    });
    assert_eq!(block_on(timeout(Duration::from_secs(10), wanted)), Ok(()));
}

#[test]
fn a_signal_that_was_raised_before_the_wait_ends_the_wait_once() {
    static SIGNAL: Signal = Signal::new();
    SIGNAL.raise();
    block_on(async {
        SIGNAL.wait().await;
        assert_eq!(timeout(Duration::from_millis(5), SIGNAL.wait()).await, Err(Elapsed));
        let task = spawn(SIGNAL.wait());
        yield_now().await;
        SIGNAL.raise();
        assert_eq!(timeout(Duration::from_secs(10), task).await, Ok(()));
    });
}
