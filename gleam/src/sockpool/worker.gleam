//// Pools of processes: of any actor, or of a driver that is a process.
////
//// ```
//// let db =
////   worker.pool("db", options.workers() |> options.size(20), fn() {
////     use started <- result.map(actor.start(builder))
////     worker.Started(started.pid, started.data)
////   })
//// let assert Ok(Nil) = worker.start(db)
//// worker.with_worker(db, Ms(1000), actor.call(_, 1000, Get))
//// ```

import sockpool/connection.{type Connection, type Timeout}
import sockpool/error.{type Error}
import sockpool/options.{type Options}
import sockpool/pool.{type ChildSpec, type Finding, type Histograms, type Stats}

/// A pool of processes of this node, and what starts them. `process` is the `Pid` of gleam_erlang, `data` what
/// the users of a worker get: the `Subject` of an actor, say. It is a value like others, and can be made anew
/// wherever it is needed: to those who use the pool only its name counts.
pub opaque type Pool(process, data) {
  Pool(name: pool.Pool, options: Options)
}

/// What starts a worker returns this, as `actor.start` of gleam_otp 1.0 does.
pub type Started(process, data) {
  Started(pid: process, data: data)
}

/// A worker in the hands of the process that checked it out. Keep all of it as long as you use `data`: a
/// check-out whose connection nobody has any more is over. `connection.checkin`, `discard` and
/// `give_away` end it.
pub type Worker(data) {
  Worker(connection: Connection, data: data)
}

/// The options begin with `options.workers()`; `init` and `validate` are those of this module. `start` runs in a
/// process of its own for each worker, and starts one that is linked to it. The name becomes an atom, which is
/// never freed.
pub fn pool(
  name: String,
  options: Options,
  start: fn() -> Result(Started(process, data), reason),
) -> Pool(process, data) {
  Pool(pool.named(name), options.worker(options, fn() { keep(start()) }))
}

/// Runs once for each new worker, before it comes into the pool. An `Error` ends the worker, and counts as a failed
/// attempt.
pub fn init(
  pool: Pool(process, data),
  run: fn(data) -> Result(Nil, String),
) -> Pool(process, data) {
  Pool(pool.name, set_init(pool.options, run))
}

/// Runs for each worker that nobody uses, once in `interval_ms`, which is at least 100, in a process of its own: an `Error`, or one that
/// takes longer than `timeout_ms`, ends the worker, and has all others that nobody uses checked at once.
pub fn health(
  pool: Pool(process, data),
  check: fn(data) -> Result(Nil, String),
  interval_ms: Int,
  timeout_ms: Int,
) -> Pool(process, data) {
  Pool(pool.name, set_health(pool.options, check, interval_ms, timeout_ms))
}

/// Runs at each check-out, in the process that checks out: a worker that is not fit is replaced, and the next one
/// looked at. That it lives is looked at in any case.
pub fn validate(
  pool: Pool(process, data),
  is_fit: fn(data) -> Bool,
) -> Pool(process, data) {
  Pool(pool.name, set_validate(pool.options, is_fit))
}

/// Starts the pool under sockpool's own supervisor. It starts whether or not a worker can be started.
pub fn start(pool: Pool(process, data)) -> Result(Nil, Error) {
  pool.start(pool.name, pool.options)
}

/// Stops a pool that `start` started, when its workers have ended.
pub fn stop(pool: Pool(process, data)) -> Result(Nil, Error) {
  pool.stop(pool.name)
}

/// Starts the pool linked to the caller: when one ends by a crash, the other does. The process is the pool's.
pub fn start_link(pool: Pool(process, data)) -> Result(process, Error) {
  do_start_link(pool.name, pool.options)
}

/// For a supervisor of Erlang or Elixir.
pub fn child_spec(pool: Pool(process, data)) -> ChildSpec {
  pool.child_spec(pool.name, pool.options)
}

/// Runs the function with the data of a worker and returns what it returns, as `Ok`. `Error` where none could be
/// had. When the function crashes, the worker ends and is replaced, and the crash goes on.
pub fn with_worker(
  pool: Pool(process, data),
  timeout: Timeout,
  run: fn(data) -> a,
) -> Result(a, Error) {
  do_with_worker(pool.name, timeout, run)
}

/// Takes a worker for the calling process.
pub fn checkout(
  pool: Pool(process, data),
  timeout: Timeout,
) -> Result(Worker(data), Error) {
  do_checkout(pool.name, timeout)
}

pub fn stats(pool: Pool(process, data)) -> Result(Stats, Error) {
  pool.stats(pool.name)
}

pub fn histograms(pool: Pool(process, data)) -> Result(Histograms, Error) {
  pool.histograms(pool.name)
}

pub fn explain(pool: Pool(process, data)) -> Result(List(Finding), Error) {
  pool.explain(pool.name)
}

@external(erlang, "sockpool_gleam_worker", "keep")
fn keep(
  started: Result(Started(process, data), reason),
) -> Result(process, reason)

@external(erlang, "sockpool_gleam_worker", "set_init")
fn set_init(
  options: Options,
  run: fn(data) -> Result(Nil, String),
) -> Options

@external(erlang, "sockpool_gleam_worker", "set_health")
fn set_health(
  options: Options,
  check: fn(data) -> Result(Nil, String),
  interval_ms: Int,
  timeout_ms: Int,
) -> Options

@external(erlang, "sockpool_gleam_worker", "set_validate")
fn set_validate(options: Options, is_fit: fn(data) -> Bool) -> Options

@external(erlang, "sockpool_gleam_ffi", "start_link")
fn do_start_link(name: pool.Pool, options: Options) -> Result(process, Error)

@external(erlang, "sockpool_gleam_worker", "with_worker")
fn do_with_worker(
  name: pool.Pool,
  timeout: Timeout,
  run: fn(data) -> a,
) -> Result(a, Error)

@external(erlang, "sockpool_gleam_worker", "checkout")
fn do_checkout(name: pool.Pool, timeout: Timeout) -> Result(Worker(data), Error)
