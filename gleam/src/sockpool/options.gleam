//// The options of a pool. Begin with `tcp`, `tls`, `unix`, `node` or `workers`, and change what should not
//// have its default:
////
//// ```
//// options.tcp("127.0.0.1", 6379)
//// |> options.size(20)
//// |> options.packet(connection.Line)
//// ```
////
//// Values are checked when the pool starts: `Error(BadOption(key, explanation))`.

import sockpool/connection.{type Connection, type Packet, type Timeout}
import sockpool/error.{type Error}
import sockpool/tls

pub opaque type Options {
  Options(settings: List(Setting))
}

type Setting {
  Transport(Transport)
  Host(List(String))
  Port(Int)
  Path(String)
  Worker(Start)
  WorkerShutdown(Timeout)
  Abandoned(Abandoned)
  Tls(tls.Options)
  Size(Int)
  MaxOverflow(Int)
  OverflowTtl(Timeout)
  MinSize(Int)
  IdleTimeout(Timeout)
  MaxLifetime(Lifetime)
  MaxUses(Limit)
  MinIdle(Int)
  Start(Starting)
  Growth(Growth)
  Strategy(Strategy)
  MaxWaiting(Limit)
  CheckoutTimeout(Timeout)
  ConnectTimeout(Timeout)
  ConnectParallelism(Int)
  SendTimeout(Timeout)
  Packet(Packet)
  Replies(Bool)
  Nodelay(Bool)
  Keepalive(Keepalive)
  UserTimeout(Int)
  Sndbuf(Int)
  Recbuf(Int)
  Bind(String)
  Init(fn(Connection) -> Result(Nil, String))
  Validate(Validate)
  Health(Health)
  MaxHold(Timeout)
  LeakThreshold(Timeout)
  SlowCheckout(Timeout)
  RecvLimit(Int)
  Node(String)
  Cookie(fn() -> String)
  MaxInflight(Int)
  Pipeline(Int)
  PipelineBytes(Int)
  PipelineStall(Timeout)
  Backoff(min_ms: Int, max_ms: Int)
  FailFast(Bool)
}

type Keepalive {
  KeepaliveOn
  KeepaliveOff
  KeepaliveTimes(idle_s: Int, interval_s: Int, count: Int)
}

type Transport {
  TransportTcp
  TransportTls
  TransportUnix
  TransportNode
  TransportWorker
}

type Start

/// What becomes of a worker whose owner has died.
pub type Abandoned {
  /// It ends and is replaced: nobody knows what state it was left in. The default.
  Close
  /// The next one gets it.
  Reuse
}

/// Which idle connection is taken first, in each scheduler's own list.
pub type Strategy {
  /// The one used last. The default.
  Lifo
  /// The one used longest ago.
  Fifo
}

/// When the start of a pool returns.
pub type Starting {
  /// At once: connections are opened meanwhile. The default.
  Async
  /// When so many connections are up, or after so many milliseconds, with a warning in the log.
  Await(connections: Int, ms: Int)
}

/// How many connections are opened, above those that are kept, for those who wait.
pub type Growth {
  /// Only as many as will still be needed when they are ready. The default.
  Expected
  /// One for each who waits.
  Eager
}

/// How long a connection is used.
pub type Lifetime {
  /// Each for a time of its own, from three quarters of so many milliseconds to all of them.
  UpTo(ms: Int)
  /// Each for a time of its own between these.
  Between(min_ms: Int, max_ms: Int)
  /// The default.
  Unlimited
}

/// How many processes may wait, or how often a connection is used.
pub type Limit {
  AtMost(Int)
  /// The default.
  NoLimit
}

/// When a connection is looked at before it is handed out.
pub type Validate {
  /// The default.
  Always
  /// When it has been idle for so many milliseconds.
  AfterIdle(ms: Int)
  Never
}

/// How a connection that nobody uses is checked. Each is, once in `interval_ms`, which is at least 100; one that does not answer
/// within `timeout_ms` is closed, and all others are then checked at once.
pub type Health {
  /// Sends these bytes. Both are 1 to 512 bytes long.
  Ask(send: BitArray, expect: Expect, interval_ms: Int, timeout_ms: Int)
  /// Calls a function, in a process of its own. Not in a pool that a C node serves.
  Call(
    check: fn(Connection) -> Result(Nil, String),
    interval_ms: Int,
    timeout_ms: Int,
  )
  /// The default: nothing is checked.
  NoChecks
}

/// What the server is to answer.
pub type Expect {
  Exactly(BitArray)
  StartingWith(BitArray)
}

/// Nothing yet: for what is to change in a pool that runs, see `pool.update`.
pub fn changes() -> Options {
  Options([])
}

/// A server reached by TCP: an IP address or a host name, and a port.
pub fn tcp(host: String, port: Int) -> Options {
  Options([Port(port), Host([host]), Transport(TransportTcp)])
}

/// The same with TLS 1.2 or 1.3. `tls.new()` verifies the server by the system's authorities.
pub fn tls(host: String, port: Int, tls: tls.Options) -> Options {
  Options([Tls(tls), Port(port), Host([host]), Transport(TransportTls)])
}

/// A Unix socket: a path of at most 107 bytes.
pub fn unix(path: String) -> Options {
  Options([Path(path), Transport(TransportUnix)])
}

/// A node of Erlang's distribution, such as `"worker@node.example.com"`: for
/// `connection_pool.new_with`. The name becomes an atom, which is never freed: use a fixed set of nodes.
/// The node's port is asked of epmd on its host.
pub fn node(name: String) -> Options {
  Options([Node(name), Transport(TransportNode)])
}

/// Processes: for `worker.pool` of `sockpool/worker`, which says what starts one.
pub fn workers() -> Options {
  Options([Transport(TransportWorker)])
}

/// What starts a process, linked to the caller, and returns it: its `Pid` of gleam_erlang. `worker.pool` sets this.
/// `workers` only.
pub fn worker(options: Options, start: fn() -> Result(process, reason)) -> Options {
  set(options, Worker(start_function(start)))
}

@external(erlang, "sockpool_gleam_ffi", "start_function")
fn start_function(start: fn() -> Result(process, reason)) -> Start

/// How long a worker that is to end may take, until it is killed. The default is 5 seconds. `workers` only.
pub fn worker_shutdown(options: Options, time: Timeout) -> Options {
  set(options, WorkerShutdown(time))
}

/// The default is `Close`. `workers` only.
pub fn abandoned(options: Options, abandoned: Abandoned) -> Options {
  set(options, Abandoned(abandoned))
}

/// What returns the node's cookie; called for each new connection. The default is the cookie that this
/// node has set for that one. `node` only.
pub fn cookie(options: Options, get: fn() -> String) -> Options {
  set(options, Cookie(get))
}

/// How many calls over one connection may be under way at once; the next one is `Error(Busy)`. The
/// default is 64. `node` only.
pub fn max_inflight(options: Options, calls: Int) -> Options {
  set(options, MaxInflight(calls))
}

/// How many requests of different callers may be under way on one connection, for a server that answers in order.
/// The default is 1. `tcp`, `tls` and `unix` only.
pub fn pipeline(options: Options, requests: Int) -> Options {
  set(options, Pipeline(requests))
}

/// How many bytes may wait on one connection to be sent. The default is 1 MB. `tcp`, `tls` and `unix` only.
pub fn pipeline_bytes(options: Options, bytes: Int) -> Options {
  set(options, PipelineBytes(bytes))
}

/// A connection whose oldest reply is late for so long is closed. The default is 5 seconds. `tcp`, `tls` and `unix` only.
pub fn pipeline_stall(options: Options, time: Timeout) -> Options {
  set(options, PipelineStall(time))
}

/// The port at which the node listens, instead of asking epmd. `node` only.
pub fn node_port(options: Options, port: Int) -> Options {
  set(options, Port(port))
}

/// For a node that speaks distribution over TLS. `node` only.
pub fn node_tls(options: Options, tls: tls.Options) -> Options {
  set(options, Tls(tls))
}

/// In place of the one host: attempts begin with each of these in turn, and try all.
pub fn hosts(options: Options, hosts: List(String)) -> Options {
  set(options, Host(hosts))
}

/// How many connections are kept open. The default is 10.
pub fn size(options: Options, connections: Int) -> Options {
  set(options, Size(connections))
}

/// How many more are opened while all are in use. The default is 10.
pub fn max_overflow(options: Options, connections: Int) -> Options {
  set(options, MaxOverflow(connections))
}

/// How long a connection above `size` may be idle; `Ms(0)` closes it at check-in. The default is
/// 10 seconds.
pub fn overflow_ttl(options: Options, ttl: Timeout) -> Options {
  set(options, OverflowTtl(ttl))
}

/// How many of `size` are kept open when they are idle for `idle_timeout`. The default is `size`.
pub fn min_size(options: Options, connections: Int) -> Options {
  set(options, MinSize(connections))
}

/// How long a connection within `size` may be idle, above `min_size`; at least `Ms(1)`. The default is `Infinity`.
pub fn idle_timeout(options: Options, time: Timeout) -> Options {
  set(options, IdleTimeout(time))
}

/// A connection that is too old is replaced when it is not in use. The default is `Unlimited`.
pub fn max_lifetime(options: Options, lifetime: Lifetime) -> Options {
  set(options, MaxLifetime(lifetime))
}

/// So does one that was used so often; above 9 that is spread over the last tenth. The default is `NoLimit`.
pub fn max_uses(options: Options, limit: Limit) -> Options {
  set(options, MaxUses(limit))
}

/// How many are to be idle, if there may be more: they are opened ahead, also above `size`. The default is 0.
pub fn min_idle(options: Options, connections: Int) -> Options {
  set(options, MinIdle(connections))
}

/// The default is `Async`. See also `pool.await_ready`.
pub fn start(options: Options, starting: Starting) -> Options {
  set(options, Start(starting))
}

/// The default is `Expected`.
pub fn growth(options: Options, growth: Growth) -> Options {
  set(options, Growth(growth))
}

/// The default is `Lifo`.
pub fn strategy(options: Options, strategy: Strategy) -> Options {
  set(options, Strategy(strategy))
}

/// How many processes may wait; the next one gets `Error(Full)`. The default is `NoLimit`.
pub fn max_waiting(options: Options, limit: Limit) -> Options {
  set(options, MaxWaiting(limit))
}

/// What the timeout `Default` means for checkout and with_connection. The default is 5 seconds.
pub fn checkout_timeout(options: Options, timeout: Timeout) -> Options {
  set(options, CheckoutTimeout(timeout))
}

/// For one attempt: name, connect, TLS handshake and `init` together. At least `Ms(1)`, not
/// `Infinity`. The default is 5 seconds.
pub fn connect_timeout(options: Options, timeout: Timeout) -> Options {
  set(options, ConnectTimeout(timeout))
}

/// How many attempts may be under way at once. The default is 64, and 16 with TLS and for nodes.
pub fn connect_parallelism(options: Options, attempts: Int) -> Options {
  set(options, ConnectParallelism(attempts))
}

/// What the timeout `Default` means for send. The default is 5 seconds.
pub fn send_timeout(options: Options, timeout: Timeout) -> Options {
  set(options, SendTimeout(timeout))
}

/// The default is `Raw`.
pub fn packet(options: Options, packet: Packet) -> Options {
  set(options, Packet(packet))
}

/// Whether the server may answer what is sent. With `False` a connection is kept whose user has sent and received nothing
/// since, which otherwise is closed at check-in. The default is `True`.
pub fn replies(options: Options, replies: Bool) -> Options {
  set(options, Replies(replies))
}

/// Whether small messages are sent at once; not for Unix sockets. The default is `True`.
pub fn nodelay(options: Options, nodelay: Bool) -> Options {
  set(options, Nodelay(nodelay))
}

/// Whether the system probes idle connections; not for Unix sockets. The default is `False`.
pub fn keepalive(options: Options, keepalive: Bool) -> Options {
  case keepalive {
    True -> set(options, Keepalive(KeepaliveOn))
    False -> set(options, Keepalive(KeepaliveOff))
  }
}

/// The system probes a connection that was silent for `idle` seconds, each `interval` seconds, and gives it up after
/// `count` probes without an answer. It does not while sent data is unconfirmed: for that there is `user_timeout`.
pub fn keepalive_times(
  options: Options,
  idle idle_s: Int,
  interval interval_s: Int,
  count count: Int,
) -> Options {
  set(options, Keepalive(KeepaliveTimes(idle_s, interval_s, count)))
}

/// A connection on which sent data was unconfirmed for so many milliseconds is given up by the system. On Linux only; not for
/// Unix sockets. The default is the system's time, some 15 minutes.
pub fn user_timeout(options: Options, ms: Int) -> Options {
  set(options, UserTimeout(ms))
}

/// The size of the socket's send buffer in bytes. The default is the system's.
pub fn sndbuf(options: Options, bytes: Int) -> Options {
  set(options, Sndbuf(bytes))
}

/// The size of the socket's receive buffer in bytes. The default is the system's.
pub fn recbuf(options: Options, bytes: Int) -> Options {
  set(options, Recbuf(bytes))
}

/// The local IP address to connect from; not for Unix sockets.
pub fn bind(options: Options, address: String) -> Options {
  set(options, Bind(address))
}

/// Runs once on each new connection, in a process of its own, before it comes into the pool: read
/// the server's greeting and log in here. An `Error` closes the connection and counts as a failed
/// attempt.
pub fn init(
  options: Options,
  run: fn(Connection) -> Result(Nil, String),
) -> Options {
  set(options, Init(run))
}

/// The default is `Always`.
pub fn validate(options: Options, validate: Validate) -> Options {
  set(options, Validate(validate))
}

/// The default is `NoChecks`.
pub fn health(options: Options, health: Health) -> Options {
  set(options, Health(health))
}

/// After that a connection is taken from its owner; at least `Ms(1)`. The default is `Infinity`.
pub fn max_hold(options: Options, time: Timeout) -> Options {
  set(options, MaxHold(time))
}

/// A lease that is held for longer is reported in the log, with the place where its owner is, and once more when it has
/// ended; at least `Ms(1000)`. The default is `Infinity`.
pub fn leak_threshold(options: Options, time: Timeout) -> Options {
  set(options, LeakThreshold(time))
}

/// Whoever had to wait for a connection for so long is told of as an event; at least `Ms(1)`. The default is `Ms(1000)`.
pub fn slow_checkout(options: Options, time: Timeout) -> Options {
  set(options, SlowCheckout(time))
}

/// The longest message that recv accepts. The default is 64 MiB.
pub fn recv_limit(options: Options, bytes: Int) -> Options {
  set(options, RecvLimit(bytes))
}

/// After n failures in a row the next attempt waits a random time up to `min_ms * 2^(n-1)`, at
/// most `max_ms`; where somebody waits, at most a quarter of that, but not less than `min_ms`. The default is 100 and
/// 2000.
pub fn backoff(options: Options, min_ms: Int, max_ms: Int) -> Options {
  set(options, Backoff(min_ms, max_ms))
}

/// Whether callers get `Error(Unavailable(last))` at once, instead of waiting, while no connection is up and attempts
/// fail. The default is `False`.
pub fn fail_fast(options: Options, fail_fast: Bool) -> Options {
  set(options, FailFast(fail_fast))
}

/// `Error(BadOption(key, explanation))` where a pool would not start with these options. Files that they
/// name are not looked at.
@external(erlang, "sockpool_gleam_ffi", "check")
pub fn check(options: Options) -> Result(Nil, Error)

fn set(options: Options, setting: Setting) -> Options {
  Options([setting, ..options.settings])
}
