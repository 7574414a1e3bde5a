//! What applications ask for: keyvalue, HTTP.

pub mod keyvalue;
pub mod notices;
pub mod text;
