//! What the HTTP server says, on standard error.

use super::super::control::AccessLog;
use super::super::log;
use crate::capabilities::http::access::{self, AccessRecord};
use crate::capabilities::http::settings::Log;

pub struct Logger {
    access_log: Option<AccessLog>,
}

impl Logger {
    /// With a format for a line a request, or without such lines.
    pub fn new(access_log: Option<AccessLog>) -> Self {
        Logger { access_log }
    }
}

impl Log for Logger {
    fn error(&self, line: &str) {
        log::error(line);
    }

    fn warning(&self, line: &str) {
        log::warning(line);
    }

    fn wants_access(&self) -> bool {
        self.access_log.is_some()
    }

    fn access(&self, record: &AccessRecord) {
        match self.access_log {
            Some(AccessLog::Plain) => log::line(&access::plain(record)),
            Some(AccessLog::Json) => log::line(&access::json(record)),
            None => {}
        }
    }
}
