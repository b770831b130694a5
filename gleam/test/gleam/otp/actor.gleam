//// As much of the module of gleam_otp 1.0 as the examples and tests need.

import gleam/erlang/process.{type Pid, type Subject}

pub type Started(data) {
  Started(pid: Pid, data: data)
}

pub type StartError {
  InitTimeout
  InitFailed(String)
}

pub opaque type Next(state, message) {
  Continue(state)
  Stop
}

pub opaque type Builder(state, message) {
  Builder(state: state, handler: fn(state, message) -> Next(state, message))
}

pub fn new(state: state) -> Builder(state, message) {
  Builder(state, fn(state, _) { Continue(state) })
}

pub fn on_message(
  builder: Builder(state, message),
  handler: fn(state, message) -> Next(state, message),
) -> Builder(state, message) {
  Builder(builder.state, handler)
}

pub fn continue(state: state) -> Next(state, message) {
  Continue(state)
}

pub fn stop() -> Next(state, message) {
  Stop
}

pub fn start(
  builder: Builder(state, message),
) -> Result(Started(Subject(message)), StartError) {
  do_start(builder.state, builder.handler)
}

@external(erlang, "sockpool_gleam_actor_test_ffi", "start")
fn do_start(
  state: state,
  handler: fn(state, message) -> Next(state, message),
) -> Result(Started(Subject(message)), StartError)
