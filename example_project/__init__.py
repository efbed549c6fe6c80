"""A small shop that runs on several cache nodes: the example of the docs, of `make demo` and of the tests."""
