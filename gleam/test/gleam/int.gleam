//// As much of the standard library's module as the examples need.

@external(erlang, "erlang", "integer_to_binary")
pub fn to_string(int: Int) -> String

@external(erlang, "erlang", "float")
pub fn to_float(int: Int) -> Float
