//// What the tests of connection_pool share.

import distribute/connection_pool.{type Connection, type Pool, type PoolStats}
import sockpool/connection.{type Timeout, Ms}
import sockpool/error.{type Error}
import sockpool/options.{type Options}
import sockpool/pool
import sockpool/term.{type Term}
import sockpool_kit as kit

pub type Collector

pub type Barrier

@external(erlang, "sockpool_gleam_node_test_ffi", "start_node")
pub fn start_node() -> kit.Node

/// A node that takes connections by TLS only, from those who have a certificate of this directory.
@external(erlang, "sockpool_gleam_node_test_ffi", "start_tls_node")
pub fn start_tls_node(certificates: String) -> kit.Node

/// Where it listens.
@external(erlang, "sockpool_gleam_node_test_ffi", "port")
pub fn port(node: kit.Node) -> Int

/// How many connections of pools the node has.
@external(erlang, "sockpool_gleam_node_test_ffi", "connections_at")
pub fn connections_at(node: kit.Node) -> Int

/// From now on the node counts the functions that it is called to run.
@external(erlang, "sockpool_gleam_node_test_ffi", "count_calls")
pub fn count_calls(node: kit.Node) -> Nil

@external(erlang, "sockpool_gleam_node_test_ffi", "calls")
pub fn calls(node: kit.Node) -> Int

/// For connections that are made from now on.
@external(erlang, "sockpool_gleam_node_test_ffi", "set_cookie")
pub fn set_cookie(node: kit.Node, cookie: String) -> Nil

@external(erlang, "sockpool_gleam_node_test_ffi", "our_cookie")
pub fn our_cookie() -> String

/// A process on the node, registered under this name, which keeps what it gets.
@external(erlang, "sockpool_gleam_node_test_ffi", "collect")
pub fn collect(node: kit.Node, name: String) -> Collector

@external(erlang, "sockpool_gleam_node_test_ffi", "collected")
pub fn collected(collector: Collector) -> List(Term)

/// Nobody passes before so many have arrived; again and again.
@external(erlang, "sockpool_gleam_node_test_ffi", "barrier")
pub fn barrier(size: Int) -> Barrier

/// Crashes where the others do not come.
@external(erlang, "sockpool_gleam_node_test_ffi", "arrive")
pub fn arrive(barrier: Barrier) -> Nil

@external(erlang, "sockpool_gleam_node_test_ffi", "arrivals")
pub fn arrivals(barrier: Barrier) -> Int

/// How many processes of this node read connections to nodes.
@external(erlang, "sockpool_gleam_node_test_ffi", "readers")
pub fn readers() -> Int

@external(erlang, "sockpool_gleam_node_test_ffi", "kill_self")
pub fn kill_self() -> a

/// Nothing is left in the test's mailbox.
@external(erlang, "sockpool_gleam_node_test_ffi", "no_messages")
pub fn no_messages() -> Nil

/// The warnings that are logged while the function runs.
@external(erlang, "sockpool_gleam_node_test_ffi", "logged")
pub fn logged(run: fn() -> a) -> List(String)

@external(erlang, "sockpool_gleam_node_test_ffi", "printed")
pub fn printed() -> List(String)

pub fn with_node(run: fn(kit.Node) -> a) -> a {
  let node = start_node()
  let result = run(node)
  kit.stop_node(node)
  result
}

/// For so many connections, and quick to try again.
pub fn options(node: kit.Node, connections: Int) -> Options {
  options.node(kit.node_name(node))
  |> options.size(connections)
  |> options.max_overflow(0)
  |> options.backoff(1, 50)
  |> options.connect_timeout(kit.long())
}

/// A node and a pool of it, which is at rest. Afterwards nothing may be left of the pool here, and
/// nothing there.
pub fn with_pool(connections: Int, run: fn(kit.Node, Pool) -> a) -> a {
  with_pool_of(connections, fn(options) { options }, run)
}

pub fn with_pool_of(
  connections: Int,
  change: fn(Options) -> Options,
  run: fn(kit.Node, Pool) -> a,
) -> a {
  use node <- with_node
  let assert Ok(pool) =
    connection_pool.new_with(change(options(node, connections)))
  settled(pool, connections)
  let result = run(node, pool)
  kit.wait_until(fn() { stats(pool).in_use_connections == 0 })
  kit.equal(Ok(Nil), connection_pool.destroy(pool))
  nothing_is_left(node)
  result
}

/// As with_pool, for tests that kill the node. Long enough a wait for a connection to see that none can
/// be made.
pub fn with_mortal(connections: Int, run: fn(kit.Node, Pool) -> a) -> a {
  let node = start_node()
  let assert Ok(pool) =
    options(node, connections)
    |> options.checkout_timeout(Ms(2500))
    |> connection_pool.new_with
  settled(pool, connections)
  let result = run(node, pool)
  kit.equal(0, stats(pool).in_use_connections)
  kit.equal(Ok(Nil), connection_pool.destroy(pool))
  nothing_is_left_here()
  result
}

pub fn nothing_is_left(node: kit.Node) -> Nil {
  nothing_is_left_here()
  kit.wait_until(fn() { connections_at(node) == 0 })
}

pub fn nothing_is_left_here() -> Nil {
  kit.equal([], pool.names())
  kit.wait_until(fn() { readers() == 0 })
}

pub fn stats(pool: Pool) -> PoolStats {
  let assert Ok(stats) = connection_pool.stats(pool)
  stats
}

/// Waits until all connections are there and idle.
pub fn settled(pool: Pool, connections: Int) -> PoolStats {
  kit.wait_until(fn() {
    let now = stats(pool)
    now.available_connections == connections
    && now.total_connections == connections
  })
  stats(pool)
}

/// Failed and successful operations.
pub fn counts(pool: Pool) -> #(Int, Int) {
  let stats = stats(pool)
  #(stats.failed_operations, stats.successful_operations)
}

/// Calls a function of the test's Erlang module on the node.
pub fn call(
  conn: Connection,
  function: String,
  arguments: List(Term),
  timeout: Timeout,
) -> Result(Term, Error) {
  connection_pool.call(
    conn,
    "sockpool_gleam_node_test_ffi",
    function,
    arguments,
    timeout,
  )
}

/// Whom the connection greets.
pub fn greet(conn: Connection, name: String) -> Result(String, Error) {
  case call(conn, "greet", [term.from(name)], kit.long()) {
    Ok(greeting) -> {
      let assert Ok(text) = term.as_string(greeting)
      Ok(text)
    }
    Error(reason) -> Error(reason)
  }
}

/// A call that has no answer in its time.
pub fn time_out(conn: Connection) -> Result(Term, Error) {
  call(conn, "sleep_for_ever", [], Ms(10))
}
