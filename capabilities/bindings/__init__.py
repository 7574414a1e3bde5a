"""The generated Python host bindings, one module an interface. `slight-py bindgen python` writes them."""
