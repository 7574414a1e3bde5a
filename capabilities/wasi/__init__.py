"""What answers those interfaces of WASI that capabilities need: streams, and what is built on them."""
