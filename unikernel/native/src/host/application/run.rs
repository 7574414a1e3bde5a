//! An application from its entry point to its end.

use alloc::format;
use alloc::vec;
use core::pin::pin;

use futures_util::future::{Either, select};

use super::super::control::{Phase, Said};
use super::super::guest::{Ended, Running, or_shortage};
use super::super::log;
use super::super::signals::Signals;
use super::super::trace;
use super::{Application, Mistakes};
use crate::capabilities::text::printable;

/// Codes of what signals end are this and the signal's number, as with a shell.
const BY_SIGNAL: u8 = 128;

/// Characters of what an `on-server-init` says that are shown.
const SHOWN: usize = 1000;

/// Runs the application until it has ended and its servers have; returns the exit code, or mistakes.
///
/// SIGINT and SIGTERM end it: servers finish the requests under way first, unless a second signal comes. The code is 0
/// then where it served, and what the signal means where it didn't.
pub async fn run(application: &Application, signals: &Signals) -> Result<u8, Mistakes> {
    let to_the_end = pin!(until_end(application, signals));
    match select(to_the_end, pin!(signals.second())).await {
        Either::Left((code, _)) => code,
        Either::Right(_) => Ok(BY_SIGNAL + signals.first().await),
    }
}

async fn until_end(application: &Application, signals: &Signals) -> Result<u8, Mistakes> {
    application.launcher.say(&Said::Phase(Phase::Entered));
    let guest = pin!(guest(application));
    let code = match select(guest, pin!(signals.first())).await {
        Either::Left((code, _)) => Some(code?),
        Either::Right(_) => None,
    };
    let served = application.servers.as_ref().is_some_and(|servers| servers.is_serving());
    if code == Some(0) && served {
        signals.first().await;
    }
    if let Some(servers) = &application.servers {
        servers.stop_all().await;
    }
    match code {
        Some(code) => Ok(code),
        None if served => Ok(0),
        None => Ok(BY_SIGNAL + signals.first().await),
    }
}

/// Runs the entry point; the exit code that its outcome means.
///
/// The program has ended when what it printed is out, however long its reader takes: as where it had waited for each
/// write, and as it may in all it does. A signal ends it before that.
async fn guest(application: &Application) -> Result<u8, Mistakes> {
    let Application { name, streams, .. } = application;
    // An instance lasts until its output is out, which is not to wait for the end of it.
    let mut running = None;
    let code = match or_shortage(pin!(outcome(application, &mut running))).await {
        Ok(code) | Err(Ended::Exit(code)) => code,
        Err(Ended::Trap(reason)) => {
            log::error(&format!("{name}: the guest trapped: {reason}"));
            1
        }
        Err(Ended::Fault(fault)) => {
            log::error(&format!("{name}: the guest broke the binary interface: {fault}"));
            1
        }
        Err(Ended::Invalid(error)) => return Err(vec![format!("{name}: it can't be run: {error}")]),
        Err(Ended::Mistake(text)) => return Err(vec![format!("{name}: {text}")]),
    };
    if code != 0 && streams.stdout.printed() + streams.stderr.printed() == 0 && !log::complained() {
        let more = if application.asks && !trace::wanted() { "; --verbose shows what it asked for" } else { "" };
        log::error(&format!("{name} ended with code {code} and said nothing{more}"));
    }
    streams.stdout.out().await;
    streams.stderr.out().await;
    Ok(code)
}

/// Runs the entry point in an instance, which it leaves in `running`.
async fn outcome(application: &Application, running: &mut Option<Running>) -> Result<u8, Ended> {
    let running = running.insert(application.program.instantiate().await?);
    let name = &application.name;
    let failed = |text: &str| log::error(&format!("{name}: on-server-init failed: {}", printable(text, SHOWN)));
    application.entry.enter(running, failed).await
}
