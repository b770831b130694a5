//// Pools of connections to another node of Erlang's distribution. What is called and sent over them
//// does not queue behind the one connection that two nodes have otherwise.
////
//// ```
//// let assert Ok(pool) = connection_pool.new("worker@node.example.com", 10)
//// let answer =
////   connection_pool.with_connection(pool, fn(conn) {
////     connection_pool.call(conn, "erlang", "node", [], Default)
////   })
//// ```
////
//// Any process may use a pool. An **operation** is one function given to `with_connection`, one message of a
//// batch, one round trip of a stress test. It has failed where there was no connection for it, where
//// the function crashed, or where a `call` or `send` in it had no answer: an `Error` that is not
//// `Exception`, `Busy`, `BadArgument` or `Other`.

import sockpool/connection.{type Timeout}
import sockpool/error.{type Error}
import sockpool/options.{type Options}
import sockpool/term.{type Term}

/// Made by `new`, until `destroy`. It does not end with the process that made it.
pub type Pool

/// A connection in the hands of a callback, until that returns. Afterwards it is `Error(Closed)`.
/// Other processes may use it meanwhile.
pub type Connection

/// A pool at this moment.
pub type PoolStats {
  PoolStats(
    /// Connections: those available, those in use, and those that are being made.
    total_connections: Int,
    /// Idle connections.
    available_connections: Int,
    /// Connections that callbacks have.
    in_use_connections: Int,
    /// Operations since `new`. One whose process was killed is counted in a parallel batch only.
    failed_operations: Int,
    successful_operations: Int,
  )
}

/// Why there is no result.
pub type PoolError {
  /// No connection came free in time: 5 seconds, or the `checkout_timeout` of `new_with`.
  PoolExhausted
  /// The node cannot be reached, or did not answer. In a parallel batch also: the function crashed.
  ConnectionFailed
  /// `new`: the number of connections is below 1 or above 1000000, or that is no name of a node.
  /// `options.check` says more. `stress_test`: a number is negative.
  InvalidConfig
  /// The pool was destroyed, or sockpool stopped since.
  InvalidPool
}

/// What a parallel batch brought.
pub type BatchResult(a) {
  BatchResult(
    /// What the functions returned, in the order of the messages; without those that failed.
    successful: List(a),
    /// The index of each message that failed, counted from 0, in rising order, and why.
    failed: List(#(Int, PoolError)),
  )
}

/// A pool of so many connections to the node, such as `new("worker@node.example.com", 10)`. It comes back when the
/// first one is there, and the others follow in the background. `Error(ConnectionFailed)` where the first
/// attempts fail, or after 5 seconds. The log says why; there the pool is called `distribute_pool_` and a
/// number.
///
/// The cookie is the one that this node has set for that one. A connection that is lost is
/// replaced in the background.
///
/// The name of the node becomes an atom, which is never freed: use a fixed set of nodes.
pub fn new(target_node: String, max_connections: Int) -> Result(Pool, PoolError) {
  options.node(target_node)
  |> options.size(max_connections)
  |> options.max_overflow(0)
  |> new_with
}

/// As `new`, with options that begin with `options.node`. The most connections are `size` and
/// `max_overflow` together. `connect_timeout` is also how long this function waits. `init` and `packet`
/// are not for nodes.
@external(erlang, "sockpool_gleam_node_pool", "open")
pub fn new_with(options: Options) -> Result(Pool, PoolError)

/// Runs the function with a connection and returns what it returns, as `Ok`. The connection goes back
/// afterwards. When the function crashes, the connection is closed and replaced, and the crash goes
/// on. It is replaced too where something that was called has not answered yet.
@external(erlang, "sockpool_gleam_node_pool", "with_connection")
pub fn with_connection(
  pool: Pool,
  func: fn(Connection) -> a,
) -> Result(a, PoolError)

/// How many connections the pool has, and what became of its operations.
@external(erlang, "sockpool_gleam_node_pool", "stats")
pub fn stats(pool: Pool) -> Result(PoolStats, PoolError)

/// Closes all connections. Callbacks that still run get `Error(Closed)` from theirs; processes that wait
/// for one get `Error(InvalidPool)`, as does every later use of the pool.
@external(erlang, "sockpool_gleam_node_pool", "destroy")
pub fn destroy(pool: Pool) -> Result(Nil, PoolError)

/// Runs the function for one message after the other, in the calling process, all with one connection: the
/// node gets what they send in this order.
///
/// After a message that failed, the batch ends with `Error(ConnectionFailed)`: those before it were
/// sent, the later ones not, and whether the node has seen that one is not known. When the function
/// crashes, the connection is closed and replaced, and the crash goes on.
@external(erlang, "sockpool_gleam_node_pool", "send_batch")
pub fn send_batch(
  pool: Pool,
  messages: List(msg),
  send_fn: fn(Connection, msg) -> result,
) -> Result(List(result), PoolError)

/// Runs the function for each message, with a connection and in a process of its own: as many at once
/// as the pool may have connections. All of them have run when this returns. Messages overtake each
/// other.
///
/// A message that fails does not stop the others. A crash is `#(index, ConnectionFailed)`, and the
/// log has it. A value that the function returned after a `call` or `send` without an answer is dropped, and its
/// message is in `failed`. Where the calling process is killed, the functions are too.
///
/// `Error(InvalidPool)` where the pool is destroyed already.
@external(erlang, "sockpool_gleam_node_pool", "send_batch_parallel")
pub fn send_batch_parallel(
  pool: Pool,
  messages: List(msg),
  send_fn: fn(Connection, msg) -> result,
) -> Result(BatchResult(result), PoolError)

/// So many processes, each of which asks the node for its name so many times, with a connection for each
/// time. The pool's statistics afterwards: round trips are among the operations.
@external(erlang, "sockpool_gleam_node_pool", "stress_test")
pub fn stress_test(
  pool: Pool,
  ops_per_worker: Int,
  workers: Int,
) -> Result(PoolStats, PoolError)

/// Has the node call a function, in a process of its own there, and returns what it returns.
/// `sockpool/term` makes arguments and reads results. Module and function are
/// called as in Erlang: the Gleam module `my/app` is `"my@app"`. Both become atoms. `Default` is 5 seconds.
///
/// `Error(Exception(class, reason))`: the function raised it. `Error(Timeout)`: the function may still run
/// there; its result will be dropped. `Error(Closed)` and `Error(Posix(code))`: the connection was lost, and
/// whether the function ran is not known. `Error(Busy)`: `max_inflight` calls are under way on this
/// connection.
@external(erlang, "sockpool_gleam_node_pool", "call")
pub fn call(
  connection: Connection,
  module: String,
  function: String,
  arguments: List(Term),
  timeout: Timeout,
) -> Result(Term, Error)

/// Sends a message to the process that is registered under this name on the node. `Ok` when the
/// operating system has the message; nobody says whether there is such a process. The messages of one connection
/// stay in order.
@external(erlang, "sockpool_gleam_node_pool", "send")
pub fn send(
  connection: Connection,
  name: String,
  message: a,
) -> Result(Nil, Error)

/// `send` that takes no longer than that: `Error(Timeout)` then, and the message may have been sent, or may be
/// yet. `Default` is 5 seconds.
@external(erlang, "sockpool_gleam_node_pool", "send")
pub fn send_within(
  connection: Connection,
  name: String,
  message: a,
  timeout: Timeout,
) -> Result(Nil, Error)
