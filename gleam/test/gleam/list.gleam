//// As much of the standard library's module as the examples need.

@external(erlang, "erlang", "length")
pub fn length(list: List(a)) -> Int
