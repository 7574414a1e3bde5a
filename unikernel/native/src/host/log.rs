//! Lines about what the machine does: on standard error, as `slight-py run` has them.

use alloc::format;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use super::output::Output;
use super::platform;
use super::sync::Mutex;

static STANDARD_ERROR: Mutex<Option<Arc<Output>>> = Mutex::new(None);

/// Whether there was a warning or an error.
static COMPLAINED: AtomicBool = AtomicBool::new(false);

/// Has lines go to standard error from now on. Until then they go to the console.
#[cfg(target_os = "none")]
pub fn redirect(output: Arc<Output>) {
    *STANDARD_ERROR.lock() = Some(output);
}

/// A line as it is, without its end.
pub fn line(text: &str) {
    let output = STANDARD_ERROR.lock().clone();
    match output {
        Some(output) => output.log(&format!("{text}\n")),
        None => platform::console(format!("{text}\n").as_bytes()),
    }
}

pub fn info(text: &str) {
    line(&format!("slight-py: {text}"));
}

pub fn warning(text: &str) {
    COMPLAINED.store(true, Ordering::Relaxed);
    line(&format!("slight-py: warning: {text}"));
}

/// A warning that standard error would not show any more.
#[cfg(any(target_os = "none", test))]
pub fn warning_on_console(text: &str) {
    platform::console(format!("slight-py: warning: {text}\n").as_bytes());
}

pub fn error(text: &str) {
    COMPLAINED.store(true, Ordering::Relaxed);
    line(&format!("slight-py: {text}"));
}

pub fn complained() -> bool {
    COMPLAINED.load(Ordering::Relaxed)
}
