//! Asks servers for the addresses of names (RFC 1035).

use super::Stack;
use crate::net::{NetError, names};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::future::poll_fn;
use core::net::IpAddr;
use core::task::{Context, Poll};
use core::time::Duration;
use futures_util::future::join;
use smoltcp::socket::dns;
use smoltcp::wire::DnsQueryType;

/// How long servers have to answer.
const LIMIT: Duration = Duration::from_secs(10);
/// Questions that may be open at the same time.
const QUESTIONS: usize = 32;

impl Stack {
    /// The addresses of a name, the preferred one first: an address as text, `localhost`, `host.localhost` (see `host`),
    /// or a name that a server of names is asked for.
    pub async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, NetError> {
        if let Some(known) = names::known(name) {
            return Ok(known);
        }
        Stack::within(LIMIT, self.ask_for(name)).await.map_err(|error| match error {
            NetError::TimedOut => NetError::NoNameServer(name.to_string()),
            error => error,
        })
    }

    async fn ask_for(&self, name: &str) -> Result<Vec<IpAddr>, NetError> {
        self.ready().await?;
        if name.eq_ignore_ascii_case(names::HOST) {
            let host = self.host().ok_or_else(|| NetError::NoSuchName(String::from(name)))?;
            return Ok([host].into());
        }
        let four = Question::ask(self, name, DnsQueryType::A)?;
        let six = Question::ask(self, name, DnsQueryType::Aaaa)?;
        let (four, six) = join(four.answer(), six.answer()).await;
        if four.is_none() && six.is_none() {
            return Err(NetError::NoSuchName(name.to_string()));
        }
        Ok(four.into_iter().chain(six).flatten().collect())
    }
}

/// A question that was asked. Dropping it takes it back.
struct Question<'a> {
    stack: &'a Stack,
    /// None once it is answered.
    query: Option<dns::QueryHandle>,
}

impl<'a> Question<'a> {
    fn ask(stack: &'a Stack, name: &str, kind: DnsQueryType) -> Result<Question<'a>, NetError> {
        let mut state = stack.state.lock();
        if state.questions >= QUESTIONS {
            return Err(NetError::NoNameServer(name.to_string()));
        }
        let state = &mut *state;
        let socket = state.sockets.get_mut::<dns::Socket>(state.dns);
        let query = socket
            .start_query(state.interface.context(), name, kind)
            .map_err(|_| NetError::NoSuchName(name.to_string()))?;
        state.questions += 1;
        stack.bell.ring();
        Ok(Question { stack, query: Some(query) })
    }

    /// None where no server knows one.
    async fn answer(mut self) -> Option<Vec<IpAddr>> {
        poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context) -> Poll<Option<Vec<IpAddr>>> {
        let Some(query) = self.query else {
            return Poll::Ready(None);
        };
        let mut state = self.stack.state.lock();
        let dns = state.dns;
        let socket = state.sockets.get_mut::<dns::Socket>(dns);
        let addresses = match socket.get_query_result(query) {
            Ok(addresses) => Some(addresses.into_iter().map(IpAddr::from).collect()),
            Err(dns::GetQueryResultError::Pending) => {
                socket.register_query_waker(query, context.waker());
                return Poll::Pending;
            }
            Err(dns::GetQueryResultError::Failed) => None,
        };
        self.query = None;
        state.questions -= 1;
        Poll::Ready(addresses)
    }
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        if let Some(query) = self.query.take() {
            let mut state = self.stack.state.lock();
            let dns = state.dns;
            state.sockets.get_mut::<dns::Socket>(dns).cancel_query(query);
            state.questions -= 1;
        }
    }
}
