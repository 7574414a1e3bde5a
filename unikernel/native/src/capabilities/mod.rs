//! What applications ask for: keyvalue, HTTP.
