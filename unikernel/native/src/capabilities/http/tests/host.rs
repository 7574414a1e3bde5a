//! The interface http-server as a guest calls it: the cases of tests/capabilities/test_http_host.py and
//! test_http_listen.py.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;

use super::serving::Application;
use crate::bindings::http_server::{Host, HostRouter, HostServer, HttpRouterError, Router};
use crate::capabilities::http::host::{self, HttpHost, Running};
use crate::capabilities::http::settings::Settings;
use crate::host::executor::block_on;

/// A router as this host makes them.
fn of(router: &Router) -> &host::Router<Application> {
    router.downcast().unwrap()
}

type Answer<T> = crate::bindings::canonical_abi::Result<Result<T, HttpRouterError>>;

fn new_host() -> HttpHost<Application, Application> {
    let application = Arc::new(Application::default());
    HttpHost::new(application.clone(), application, Settings::default(), |application, address, port| {
        application.lines.lock().push(format!("{address} {port}"));
    })
}

fn refusal<T>(answer: Answer<T>) -> HttpRouterError {
    answer.unwrap().err().expect("a refusal")
}

#[test]
fn a_handler_that_is_not_exported_is_told_when_its_route_is_registered() {
    block_on(async {
        let router = new_host().router_new().await.unwrap().unwrap();
        let missing = refusal(of(&router).post("/".into(), "handle_gone".into()).await);
        assert_eq!(missing, HttpRouterError::UnexpectedError("no exported function 'handle-gone'".to_string()));
        let odd = refusal(of(&router).get("/".into(), "odd".into()).await);
        assert_eq!(odd, HttpRouterError::UnexpectedError("odd takes 3 parameters, a handler takes 10".to_string()));
    });
}

#[test]
fn a_route_or_base_that_makes_no_sense_is_an_invalid_url() {
    block_on(async {
        let host = new_host();
        let router = host.router_new().await.unwrap().unwrap();
        assert!(matches!(refusal(of(&router).get("/:".into(), "hello".into()).await), HttpRouterError::InvalidUrl(_)));
        assert!(matches!(refusal(host.router_new_with_base("api".into()).await), HttpRouterError::InvalidUrl(_)));
    });
}

async fn with_routes(host: &HttpHost<Application, Application>) -> Router {
    let router = host.router_new_with_base("/api".into()).await.unwrap().unwrap();
    let router = of(&router).get("/a".into(), "handle_a".into()).await.unwrap().unwrap();
    let router = of(&router).put("/b".into(), "handle-a".into()).await.unwrap().unwrap();
    let router = of(&router).post("/c".into(), "handle_a".into()).await.unwrap().unwrap();
    of(&router).delete("/d/:id".into(), "handle_a".into()).await.unwrap().unwrap()
}

#[test]
fn a_guest_can_serve_stop_and_serve_again() {
    block_on(async {
        let host = new_host();
        let router = with_routes(&host).await;
        for _ in 0..2 {
            assert!(!host.is_serving());
            let server = host.server_serve("127.0.0.1:0".into(), router.clone()).await.unwrap().unwrap();
            assert!(host.is_serving());
            server.downcast::<Running<Application, Application>>().unwrap().stop().await.unwrap().unwrap();
            server.downcast::<Running<Application, Application>>().unwrap().stop().await.unwrap().unwrap();
        }
    });
}

#[test]
fn a_port_that_is_taken_ends_the_guest_with_a_line() {
    block_on(async {
        let host = new_host();
        let router = with_routes(&host).await;
        let taken = crate::net::TcpListener::bind(0).unwrap();
        let address = format!("127.0.0.1:{}", taken.port());
        let said = match host.server_serve(address.clone(), router).await {
            Err(error) => error.to_string(),
            Ok(_) => panic!("the port is taken"),
        };
        assert!(said.starts_with(&format!("can't listen on {address}: something listens on port")), "{said}");
    });
}

#[test]
fn what_is_no_address_is_an_error_to_the_guest() {
    block_on(async {
        let host = new_host();
        let router = with_routes(&host).await;
        let long = "a".repeat(10_000);
        for address in [
            "",
            ":",
            "3000",
            ":3000",
            "localhost",
            "localhost:",
            "localhost:http",
            "localhost:-1",
            "localhost:65536",
            "localhost:٣",
            "localhost:3000 ",
            "::1:3000",
            "[::1]",
            "[::1]3000",
            "[127.0.0.1]:80",
            "[]:80",
            "http://localhost:3000",
            "a\nb:1",
            &long,
        ] {
            let text: String = match refusal(host.server_serve(address.into(), router.clone()).await) {
                HttpRouterError::InvalidUrl(text) => text,
                other => panic!("{address:?}: {other:?}"),
            };
            assert!(!text.contains('\n') && text.len() < 500, "{text}");
        }
        for address in ["127.0.0.1:0", "[::1]:0", "localhost:0", "0.0.0.0:0"] {
            assert!(host.server_serve(address.into(), router.clone()).await.unwrap().is_ok(), "{address}");
        }
        host.stop_all().await;
    });
}
