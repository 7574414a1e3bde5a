//! Tests of the parts. What is expected stands in docs/http.md and in the tests of the server in Python, which has the
//! same contract; tests/capabilities/ holds both servers against it over real connections.

mod access;
mod body;
mod cors;
mod head;
mod host;
mod response;
mod routes;
mod server;
mod serving;
