//// What the tests share.

import sockpool/connection.{type Timeout, Bytes, Ms}
import sockpool/error.{type Error}
import sockpool/options.{type Options}
import sockpool/pool.{type ChildSpec, type Pid, type Pool, type Stats}

pub type Server

pub type Job(a)

pub type Supervisor

pub type Crash

pub type Node

@external(erlang, "sockpool_gleam_test_ffi", "equal")
pub fn equal(expected: a, actual: a) -> Nil

/// `Ok` with what the function returned, or `Error` with what it crashed with.
@external(erlang, "sockpool_gleam_test_ffi", "crashes")
pub fn crashes(run: fn() -> a) -> Result(a, Crash)

@external(erlang, "sockpool_gleam_test_ffi", "start")
pub fn start(run: fn() -> a) -> Job(a)

@external(erlang, "sockpool_gleam_test_ffi", "await")
pub fn await(job: Job(a)) -> a

@external(erlang, "sockpool_gleam_test_ffi", "kill")
pub fn kill(job: Job(a)) -> Nil

@external(erlang, "sockpool_gleam_test_ffi", "wait_until")
pub fn wait_until(condition: fn() -> Bool) -> Nil

@external(erlang, "sockpool_gleam_test_ffi", "self")
pub fn self() -> Pid

@external(erlang, "sockpool_gleam_test_ffi", "dead")
pub fn dead() -> Pid

@external(erlang, "sockpool_gleam_test_ffi", "echo")
pub fn echo_server() -> Server

@external(erlang, "sockpool_gleam_test_ffi", "silent")
pub fn silent_server() -> Server

@external(erlang, "sockpool_gleam_test_ffi", "greeting")
pub fn greeting_server(line: String) -> Server

@external(erlang, "sockpool_gleam_test_ffi", "resetting")
pub fn resetting_server() -> Server

@external(erlang, "sockpool_gleam_test_ffi", "closing")
pub fn closing_server() -> Server

@external(erlang, "sockpool_gleam_test_ffi", "refusing")
pub fn refusing_server() -> Server

@external(erlang, "sockpool_gleam_test_ffi", "unix_echo")
pub fn unix_echo_server(path: String) -> Server

@external(erlang, "sockpool_gleam_test_ffi", "port")
pub fn port(server: Server) -> Int

/// Lets a refusing server listen.
@external(erlang, "sockpool_gleam_test_ffi", "up")
pub fn up(server: Server) -> Nil

@external(erlang, "sockpool_gleam_test_ffi", "accepted")
pub fn accepted(server: Server) -> Int

@external(erlang, "sockpool_gleam_test_ffi", "close_connections")
pub fn close_connections(server: Server) -> Nil

@external(erlang, "sockpool_gleam_test_ffi", "certificates")
pub fn certificates() -> String

/// With the certificate of this name, and ALPN protocols in the order of preference.
@external(erlang, "sockpool_gleam_test_ffi", "tls_echo")
pub fn tls_echo_server(identity: String, protocols: List(String)) -> Server

/// One that begins in clear: TLS is to begin when it has sent back the first byte.
@external(erlang, "sockpool_gleam_test_ffi", "starttls_echo")
pub fn starttls_echo_server(identity: String) -> Server

@external(erlang, "sockpool_gleam_test_ffi", "tls_close_connections")
pub fn tls_close_connections(server: Server) -> Nil

@external(erlang, "sockpool_gleam_test_ffi", "free_name")
pub fn free_name(prefix: String) -> String

@external(erlang, "sockpool_gleam_test_ffi", "supervised")
pub fn supervised(child: ChildSpec) -> #(Supervisor, Pid)

@external(erlang, "sockpool_gleam_test_ffi", "restart")
pub fn restart(supervisor: Supervisor) -> Pid

@external(erlang, "sockpool_gleam_test_ffi", "stop_supervisor")
pub fn stop_supervisor(supervisor: Supervisor) -> Nil

@external(erlang, "sockpool_gleam_test_ffi", "stop_sockpool")
pub fn stop_sockpool() -> Nil

@external(erlang, "sockpool_gleam_test_ffi", "no_name_server")
pub fn no_name_server() -> Nil

/// Another node, on which sockpool runs.
@external(erlang, "sockpool_gleam_test_ffi", "start_node")
pub fn start_node() -> Node

/// The daemon, where it is built.
@external(erlang, "sockpool_gleam_test_ffi", "start_c_node")
pub fn start_c_node() -> Result(Node, Nil)

@external(erlang, "sockpool_gleam_test_ffi", "node_name")
pub fn node_name(node: Node) -> String

/// Kills its VM or daemon, and waits until this node has noticed.
@external(erlang, "sockpool_gleam_test_ffi", "stop_node")
pub fn stop_node(node: Node) -> Nil

/// Ends it, in an orderly way.
@external(erlang, "sockpool_gleam_test_ffi", "end_node")
pub fn end_node(node: Node) -> Nil

@external(erlang, "sockpool_gleam_test_ffi", "repeat")
pub fn repeat(times: Int, run: fn(Int) -> a) -> List(a)

@external(erlang, "sockpool_gleam_test_ffi", "copies")
pub fn copies(data: BitArray, times: Int) -> BitArray

@external(erlang, "erlang", "length")
pub fn length(list: List(a)) -> Int

@external(erlang, "sockpool_gleam_test_ffi", "size")
pub fn size(data: BitArray) -> Int

@external(erlang, "sockpool_gleam_test_ffi", "now_ms")
pub fn now_ms() -> Int

/// The Gleam value for a reason in Erlang's notation.
@external(erlang, "sockpool_gleam_test_ffi", "reason")
pub fn reason(text: String) -> Error

/// The pool that Erlang would write so.
@external(erlang, "sockpool_gleam_test_ffi", "term")
pub fn pool_term(text: String) -> Pool

/// One connection, no overflow, and quick to try again.
pub fn single(server: Server) -> Options {
  options.tcp("127.0.0.1", port(server))
  |> options.size(1)
  |> options.max_overflow(0)
  |> options.backoff(1, 50)
}

/// Runs the test with a pool that is stopped afterwards.
pub fn with_pool(name: String, options: Options, run: fn(Pool) -> a) -> a {
  let pool = pool.named(name)
  let assert Ok(_) = pool.start(pool, options)
  let result = run(pool)
  let assert Ok(Nil) = pool.stop(pool)
  result
}

pub fn stats(pool: Pool) -> Stats {
  let assert Ok(stats) = pool.stats(pool)
  stats
}

/// Waits until nothing is under way in the pool and its base size is there.
pub fn settled(pool: Pool) -> Stats {
  wait_until(fn() {
    let now = stats(pool)
    now.leased == 0
    && now.waiting == 0
    && now.connecting == 0
    && now.idle == now.total
    && now.total >= now.size
  })
  stats(pool)
}

/// Sends the bytes through the pool and expects them back.
pub fn echo_through(pool: Pool, data: BitArray) -> Nil {
  equal(Ok(data), pool.request(pool, data, Bytes(size(data)), long()))
}

/// What connecting fails with, once it has failed.
pub fn unavailable(pool: Pool) -> Error {
  case pool.checkout(pool, Ms(50)) {
    Error(error.Unavailable(last)) -> last
    other -> {
      equal(Error(error.Timeout), other)
      unavailable(pool)
    }
  }
}

/// The limit of what should not take long, on a busy machine.
pub fn long() -> Timeout {
  Ms(20_000)
}

pub fn contains(list: List(a), wanted: a) -> Bool {
  case list {
    [] -> False
    [first, ..rest] -> first == wanted || contains(rest, wanted)
  }
}

pub fn each(list: List(a), run: fn(a) -> b) -> Nil {
  case list {
    [] -> Nil
    [first, ..rest] -> {
      run(first)
      each(rest, run)
    }
  }
}

/// What each of the jobs returned is given to the check.
pub fn await_all(jobs: List(Job(a)), check: fn(a) -> b) -> Nil {
  each(jobs, fn(job) { check(await(job)) })
}

/// An atom has room for 255 characters.
pub fn text_of_300() -> String {
  let ten = "0123456789"
  let fifty = ten <> ten <> ten <> ten <> ten
  six_times(fifty)
}

pub fn six_times(text: String) -> String {
  text <> text <> text <> text <> text <> text
}
