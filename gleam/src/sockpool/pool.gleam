//// Pools of sockets. A pool keeps connections to one server open and shares them among the
//// processes of a node.

import sockpool/connection.{type Connection, type Length, type Timeout}
import sockpool/error.{type Error}
import sockpool/options.{type Options}

/// The name of a pool, and the node that has it.
pub type Pool

/// The Erlang process of a pool.
pub type Pid

/// A child specification as Erlang's and Elixir's supervisors take it.
pub type ChildSpec

/// Gauges and counters of a pool. While no call is under way, `idle + leased + connecting = total`.
pub type Stats {
  Stats(
    name: String,
    /// As configured.
    size: Int,
    max_overflow: Int,
    /// Connections, of which so many are idle, leased and connecting.
    total: Int,
    idle: Int,
    leased: Int,
    connecting: Int,
    /// Processes that wait for a connection.
    waiting: Int,
    /// Counters, since the pool was first started: connections handed out, those of request
    /// included;
    checkouts: Int,
    /// given back by checkin, discard or request;
    checkins: Int,
    /// connections that became usable;
    created: Int,
    /// checkouts that got a connection which had been used before;
    reused: Int,
    /// usable connections that left the pool;
    closed: Int,
    /// connections taken back: the owner died, lost the handle or held it too long;
    abandoned: Int,
    /// waiting processes that gave up;
    timeouts: Int,
    /// requests on a connection that several may have at once;
    pipelined: Int,
    /// attempts to connect that were begun, and those that failed.
    connect_attempts: Int,
    connect_failures: Int,
    /// Why the last attempt that failed did; `Error(Nil)` where none has.
    last_error: Result(Error, Nil),
    /// And when: milliseconds since 1970.
    last_error_at: Result(Int, Nil),
  )
}

/// A pool of this node. The name becomes an atom, which is never freed: use a fixed set of names, of
/// at most 255 characters.
@external(erlang, "sockpool_gleam_ffi", "named")
pub fn named(name: String) -> Pool

/// A pool that another node serves, such as `on_node("cache", "pools@db1")`. The functions are the
/// same; `start_link`, `child_spec` and `reload_tls` are for pools of this node alone. What is sent
/// and received crosses the distribution.
@external(erlang, "sockpool_gleam_ffi", "on_node")
pub fn on_node(name: String, node: String) -> Pool

/// Starts the Erlang application sockpool, if it does not run yet.
@external(erlang, "sockpool_gleam_ffi", "ensure_started")
pub fn ensure_started() -> Result(Nil, Error)

/// Starts a pool under sockpool's own supervisor. It starts whether or not its server can be
/// reached: connecting goes on in the background. On another node, paths in the options are those of
/// that node, `init` is `Error(BadOption)`, and a `password` must be a public function of another module,
/// which is compiled in there too.
@external(erlang, "sockpool_gleam_ffi", "start")
pub fn start(pool: Pool, options: Options) -> Result(Nil, Error)

/// Stops a pool that `start` started. Processes that wait get `Error(Draining)`, holders of its
/// connections `Error(Closed)`.
@external(erlang, "sockpool_gleam_ffi", "stop")
pub fn stop(pool: Pool) -> Result(Nil, Error)

/// Starts a pool linked to the caller: when one ends by a crash, the other does.
@external(erlang, "sockpool_gleam_ffi", "start_link")
pub fn start_link(pool: Pool, options: Options) -> Result(Pid, Error)

/// For a supervisor of your own. Wrong options show when the supervisor starts the pool.
@external(erlang, "sockpool_gleam_ffi", "child_spec")
pub fn child_spec(pool: Pool, options: Options) -> ChildSpec

/// The names of the pools that run on this node.
@external(erlang, "sockpool_gleam_ffi", "names")
pub fn names() -> List(String)

/// The names of the pools that the node serves.
@external(erlang, "sockpool_gleam_ffi", "names_on")
pub fn names_on(node: String) -> Result(List(String), Error)

@external(erlang, "sockpool_gleam_ffi", "stats")
pub fn stats(pool: Pool) -> Result(Stats, Error)

/// Changes options of a pool while it runs: those that are given, as by
/// `options.changes() |> options.size(20)`. The others stay. `Error(NeedsRestart(key))`: this one cannot change,
/// and nothing has. Nobody loses a connection that he has. A change outlives a crash of the pool's process, but
/// not a stop.
@external(erlang, "sockpool_gleam_ffi", "update")
pub fn update(pool: Pool, changes: Options) -> Result(Nil, Error)

/// Another size and overflow. Where there are more connections than the size, idle ones are closed at once; where
/// there are more than both together, others when they are checked in.
@external(erlang, "sockpool_gleam_ffi", "resize")
pub fn resize(pool: Pool, size: Int, max_overflow: Int) -> Result(Nil, Error)

/// Waits until so many connections are up, idle or in use, for as long as `timeout`; `Default` is the pool's
/// `checkout_timeout`. Not so many in time: `Error(Unavailable(last))` where connecting fails, else `Error(Timeout)`.
@external(erlang, "sockpool_gleam_ffi", "await_ready")
pub fn await_ready(
  pool: Pool,
  connections: Int,
  timeout: Timeout,
) -> Result(Nil, Error)

/// Reads the certificates and keys of a TLS pool again. Connections made from now on use them.
/// Where they are of no use, `Error(Tls(Unusable(option, why)))`, and nothing changes.
@external(erlang, "sockpool_gleam_ffi", "reload_tls")
pub fn reload_tls(pool: Pool) -> Result(Nil, Error)

/// Runs the function with a connection and returns what it returns, as `Ok`. The connection is
/// checked in afterwards. `Error` where no connection could be had. When the function crashes, the
/// connection is closed and replaced, and the crash goes on.
@external(erlang, "sockpool_gleam_ffi", "with_connection")
pub fn with_connection(
  pool: Pool,
  timeout: Timeout,
  run: fn(Connection) -> a,
) -> Result(a, Error)

/// Checkout, send, recv and check-in in one call, within one timeout: the fastest way. After an
/// error the connection is closed, and whether the server saw the request is not known.
@external(erlang, "sockpool_gleam_ffi", "request")
pub fn request(
  pool: Pool,
  data: BitArray,
  length: Length,
  timeout: Timeout,
) -> Result(BitArray, Error)

/// A list of requests, and for each what `request` returns, in the same order and within one timeout. With
/// `options.pipeline` above 1 they are under way together; without it, and through another node, one after the other.
@external(erlang, "sockpool_gleam_ffi", "request_many")
pub fn request_many(
  pool: Pool,
  requests: List(BitArray),
  length: Length,
  timeout: Timeout,
) -> List(Result(BitArray, Error))

/// Takes a connection for the calling process. Give it back by `checkin` or `connection.discard`.
@external(erlang, "sockpool_gleam_ffi", "checkout")
pub fn checkout(pool: Pool, timeout: Timeout) -> Result(Connection, Error)

/// The same as `connection.checkin`.
pub fn checkin(connection: Connection) -> Result(Nil, Error) {
  connection.checkin(connection)
}
