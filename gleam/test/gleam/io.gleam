//// As much of the standard library's module as the examples need: there is none to compile with.

/// What is printed is kept for the test; see `node_kit.printed`.
@external(erlang, "sockpool_gleam_node_test_ffi", "println")
pub fn println(line: String) -> Nil
