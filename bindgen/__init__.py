"""A compiler for the WIT dialect of wit-bindgen 0.2: interfaces in, bindings out."""
