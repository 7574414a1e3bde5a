//! What applications ask for: keyvalue, HTTP.

pub mod http;
pub mod keyvalue;
pub mod notices;
pub mod text;
