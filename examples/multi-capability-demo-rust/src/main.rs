//! A small shop behind HTTP, which uses four capabilities in one guest: settings, a key/value store, a database and
//! messages. Each request is answered by an instance of its own, which opens what it needs by name.

use std::env;
use std::error::Error;

use slight::configs::{Configs, ConfigsError};
use slight::http_handler::{export_handle_http, HttpError, Request, Response};
use slight::http_server::{Router, Server};
use slight::keyvalue::{Keyvalue, KeyvalueError};
use slight::messaging::Pub;
use slight::sql::{DataType, Sql, Statement};

fn main() -> Result<(), Box<dyn Error>> {
    let table = Statement::prepare("CREATE TABLE IF NOT EXISTS orders (customer TEXT, item TEXT)", &[]);
    Sql::open("orders")?.exec(&table)?;

    let router = Router::new()?
        .get("/hello/:customer", "handle_hello")?
        .put("/greeting", "handle_set_greeting")?
        .post("/orders/:customer", "handle_order")?
        .get("/orders/:customer", "handle_list_orders")?
        .get("/keys/:store", "handle_keys")?;
    let address = env::var("ADDRESS").unwrap_or_else(|_| "0.0.0.0:3000".to_string());
    Server::serve(&address, &router)?;
    Ok(())
}

export_handle_http!("handle-hello", handle_hello);
export_handle_http!("handle-set-greeting", handle_set_greeting);
export_handle_http!("handle-order", handle_order);
export_handle_http!("handle-list-orders", handle_list_orders);
export_handle_http!("handle-keys", handle_keys);

/// Settings and a key/value store: greets a customer, and counts the visits. Two visits at the same moment may count as
/// one.
fn handle_hello(request: Request) -> Result<Response, HttpError> {
    let greeting = match Configs::open("shop-settings").map_err(failed)?.get("GREETING") {
        Ok(greeting) => String::from_utf8_lossy(&greeting).into_owned(),
        Err(ConfigsError::NotFound(_)) => "hello".to_string(),
        Err(error) => return Err(failed(error)),
    };

    let customer = param(&request, "customer");
    let visits = Keyvalue::open("visits").map_err(failed)?;
    let before: u32 = match visits.get(customer) {
        Ok(count) => String::from_utf8_lossy(&count).parse().map_err(failed)?,
        Err(KeyvalueError::KeyNotFound(_)) => 0,
        Err(error) => return Err(failed(error)),
    };
    let count = before + 1;
    visits.set(customer, count.to_string().as_bytes()).map_err(failed)?;
    Ok(respond(200, format!("{greeting}, {customer}, this is visit {count}\n")))
}

/// Settings: the request's body is the greeting from now on.
fn handle_set_greeting(request: Request) -> Result<Response, HttpError> {
    let greeting = request.body.unwrap_or_default();
    Configs::open("shop-settings").map_err(failed)?.set("GREETING", &greeting).map_err(failed)?;
    Ok(respond(200, String::new()))
}

/// A database and messages: keeps an order, and tells whoever listens. The request's body is what is ordered.
fn handle_order(request: Request) -> Result<Response, HttpError> {
    let customer = param(&request, "customer").to_string();
    let item = String::from_utf8(request.body.unwrap_or_default()).map_err(failed)?;
    let message = format!("{item} for {customer}");

    let insert = Statement::prepare("INSERT INTO orders (customer, item) VALUES ($1, $2)", &[customer, item]);
    Sql::open("orders").map_err(failed)?.exec(&insert).map_err(failed)?;
    Pub::open("shop").map_err(failed)?.publish(message.as_bytes(), "orders.new").map_err(failed)?;
    Ok(respond(201, format!("ordered {message}\n")))
}

/// A database: what a customer has ordered, a line each.
fn handle_list_orders(request: Request) -> Result<Response, HttpError> {
    let customer = param(&request, "customer").to_string();
    let select = Statement::prepare("SELECT item FROM orders WHERE customer = $1 ORDER BY item", &[customer]);
    let rows = Sql::open("orders").map_err(failed)?.query(&select).map_err(failed)?;
    let lines = rows.into_iter().map(|row| match row.value {
        DataType::Str(item) => Ok(format!("{item}\n")),
        other => Err(failed(format!("{} is {other:?}", row.field_name))),
    });
    Ok(respond(200, lines.collect::<Result<_, _>>()?))
}

/// A key/value store whose name comes with the request: the slightfile decides whether the guest may open it.
fn handle_keys(request: Request) -> Result<Response, HttpError> {
    match Keyvalue::open(param(&request, "store")) {
        Ok(store) => {
            let keys = store.keys().map_err(failed)?;
            Ok(respond(200, format!("{} keys\n", keys.len())))
        }
        Err(error) => Ok(respond(403, format!("{error}\n"))),
    }
}

fn respond(status: u16, body: String) -> Response {
    Response { status, headers: None, body: Some(body.into_bytes()) }
}

/// What the route's parameter `name` matched.
fn param<'a>(request: &'a Request, name: &str) -> &'a str {
    request.params.iter().find(|(param, _)| param == name).map_or("", |(_, value)| value)
}

fn failed(error: impl ToString) -> HttpError {
    HttpError::UnexpectedError(error.to_string())
}
