//// As much of the module of gleam_erlang 1.0 as the examples and tests need.

pub type Pid

type Tag

pub opaque type Subject(message) {
  Subject(owner: Pid, tag: Tag)
}

@external(erlang, "sockpool_gleam_actor_test_ffi", "send")
pub fn send(subject: Subject(message), message: message) -> Nil

@external(erlang, "sockpool_gleam_actor_test_ffi", "call")
pub fn call(
  subject: Subject(message),
  waiting timeout: Int,
  sending make_request: fn(Subject(reply)) -> message,
) -> reply
