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
    /// Empty where it has none.
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
    /// For how many milliseconds the first of them has.
    oldest_wait: Int,
    /// Counters, since the pool was started: connections handed out, those of request
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
    /// those that were held for longer than `leak_threshold`;
    leaked: Int,
    /// processes that had to wait;
    waited: Int,
    /// those that gave up;
    timeouts: Int,
    /// milliseconds in which somebody waited;
    exhausted: Int,
    /// requests on a connection that several may have at once;
    pipelined: Int,
    /// checks of idle connections that the server has answered, and those that closed one;
    health_ok: Int,
    health_failed: Int,
    /// connections that got older than they may, since connecting failed;
    deferred: Int,
    /// attempts to connect that were begun, and those that failed.
    connect_attempts: Int,
    connect_failures: Int,
    /// Why connections were closed, how many for each reason: their sum is `closed`.
    closed_by: List(#(CloseReason, Int)),
    /// Likewise why attempts failed;
    connect_failed_by: List(#(ConnectFailure, Int)),
    /// and what those were told who got no connection.
    errors: List(#(CheckoutError, Int)),
    /// Why the last attempt that failed did; `Error(Nil)` where none has.
    last_error: Result(Error, Nil),
    /// And when: milliseconds since 1970.
    last_error_at: Result(Int, Nil),
  )
}

/// Why a connection that was usable was closed.
pub type CloseReason {
  /// A send or receive failed, or what came is no message.
  IoError
  /// One took too long.
  IoTimeout
  /// The server has closed it, or the worker has ended.
  PeerClosed
  /// It had bytes that nobody has read, or that the server sent unasked.
  Unread
  /// It was checked in after a send whose reply may still come.
  Unanswered
  /// By its owner.
  Discarded
  /// A function that had it has crashed.
  Exception
  /// Its owner has died.
  Abandoned
  /// Its owner had it for too long.
  MaxHold
  /// Nobody needed it, among the size or above it.
  IdleTimeout
  Overflow
  /// It was too old.
  MaxLifetime
  MaxUses
  /// The pool was made smaller.
  Resize
  /// Its owner has changed what cannot be put back.
  Options
  /// A check found it unfit.
  Health
  /// Its pool was stopped.
  Stopped
}

/// Why an attempt to connect failed.
pub type ConnectFailure {
  ConnectRefused
  ConnectTimeout
  ConnectDns
  ConnectTls
  ConnectInit
  ConnectOther
}

/// What somebody was told who got no connection.
pub type CheckoutError {
  CheckoutTimeout
  CheckoutFull
  CheckoutUnavailable
  CheckoutClosed
  CheckoutDraining
}

/// A pool of this node. The name becomes an atom, which is never freed: use a fixed set of names, of
/// at most 255 characters.
@external(erlang, "sockpool_gleam_ffi", "named")
pub fn named(name: String) -> Pool

/// A pool of this node without a name: a new one each time. `start`, `start_link` or `child_spec` starts it, and it goes
/// wherever a pool goes; `names` leaves it out. What is left of it when it is stopped is freed with the last use of this
/// value, so such pools can come and go in any number, one for each tenant, say.
@external(erlang, "sockpool_gleam_ffi", "unnamed")
pub fn unnamed() -> Pool

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

/// How long something took, in microseconds: in how many cases, altogether, and how many took no longer than the first of the
/// bounds, longer but no longer than the second, and so on; the last has those that took longer than all of them.
pub type Histogram {
  Histogram(count: Int, sum: Int, buckets: List(Int))
}

/// How long things took, since when the pool's counters count: leases that their owners ended, waits of those who got a
/// connection, being idle before the next use, lives when they ended, and attempts to connect that worked, with the
/// parts of that.
pub type Histograms {
  Histograms(
    bounds: List(Int),
    in_use: Histogram,
    wait: Histogram,
    idle: Histogram,
    age: Histogram,
    connect: Histogram,
    resolve: Histogram,
    tcp: Histogram,
    tls: Histogram,
    init: Histogram,
  )
}

@external(erlang, "sockpool_gleam_ffi", "histograms")
pub fn histograms(pool: Pool) -> Result(Histograms, Error)

/// Something that is wrong with a pool, or that nothing is.
pub type Finding {
  Finding(severity: Severity, cause: Cause, text: String)
}

pub type Severity {
  Well
  Notice
  Warning
  Severe
}

pub type Cause {
  /// Nothing is wrong.
  Healthy
  /// No such pool runs.
  NotRunning
  /// Its process has crashed, and is about to be started again.
  Crashed
  /// Connecting fails: the server, its name, its certificate, TLS, `init`, the start of a worker, what the system
  /// has no more of, or something else.
  HostDown
  Dns
  CertificateExpired
  Tls
  InitFails
  WorkerFails
  Limits
  ConnectFails
  /// Who has connections does not use them, or does not give them back.
  Leak
  /// They die while they have connections.
  DeadOwners
  /// Leases take longer than they used to.
  SlowServer
  /// More is asked for than all connections can do.
  Overload
  PoolTooSmall
  /// Connections are being made.
  Connecting
  /// Some are held for long by who waits for bytes on them.
  LongLease
  /// Connections are closed instead of being used again.
  Churn
  /// Checks of idle connections fail.
  Unhealthy
  /// One that this package does not know.
  OtherCause(String)
}

/// What is wrong with the pool, in words, the worst first; never empty. It takes a second.
@external(erlang, "sockpool_gleam_ffi", "explain")
pub fn explain(pool: Pool) -> Result(List(Finding), Error)

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
