//! Makes a table, fills it, and asks for what is in it.

use std::error::Error;

use slight::sql::{DataType, Sql, SqlError, Statement};

/// A statement with its parameters: the values of `$1`, `$2` and so on.
fn statement(text: &str, parameters: &[&str]) -> Statement {
    let parameters: Vec<String> = parameters.iter().map(|each| each.to_string()).collect();
    Statement::prepare(text, &parameters)
}

fn main() -> Result<(), Box<dyn Error>> {
    let database = Sql::open("my-db")?;
    let exec = |text: &str, parameters: &[&str]| database.exec(&statement(text, parameters));
    let query = |text: &str, parameters: &[&str]| database.query(&statement(text, parameters));

    exec("DROP TABLE IF EXISTS users", &[])?;
    exec(
        "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL, email TEXT)",
        &[],
    )?;
    exec(
        "INSERT INTO users (id, name, email) VALUES ($1, $2, $3)",
        &["1", "Robert'); DROP TABLE users; --", "bob@example.com"],
    )?;
    // No parameter is NULL: NULLIF makes one of the empty text.
    exec(
        "INSERT INTO users (id, name, email) VALUES ($1, $2, NULLIF($3, ''))",
        &["2", "Ada", ""],
    )?;

    // All columns of all rows, in one list: a row ends where the first column comes again.
    for item in query("SELECT name, email FROM users ORDER BY id", &[])? {
        match item.value {
            DataType::Str(text) => println!("{}: {text}", item.field_name),
            DataType::Null => println!("{}: none", item.field_name),
            other => return Err(format!("{} is {other:?}", item.field_name).into()),
        }
    }

    // What a transaction has done can be taken back.
    exec("BEGIN", &[])?;
    exec("DELETE FROM users", &[])?;
    exec("ROLLBACK", &[])?;
    match query("SELECT COUNT(*) AS count FROM users", &[])?.as_slice() {
        [only] => println!("{}: {:?}", only.field_name, only.value),
        several => return Err(format!("{} values", several.len()).into()),
    }

    match exec("INSERT INTO users (id, name) VALUES ($1, $2)", &["1", "Eve"]) {
        Err(SqlError::ConstraintViolation(_)) => {}
        other => return Err(format!("a second user with the same id: {other:?}").into()),
    }
    match query("SELECT * FROM customers", &[]) {
        Err(SqlError::SyntaxError(_)) => {}
        other => return Err(format!("a table that doesn't exist: {other:?}").into()),
    }
    exec("DROP TABLE users", &[])?;
    Ok(())
}
