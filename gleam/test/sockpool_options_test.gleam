//// Each option of a pool: what it does, and what is said of a value that is not allowed.

import sockpool/connection.{
  type Connection, BigEndian, Bytes, Default, Delimiter, Fixed, Header1, Header2,
  Header4, Infinity, Keep, Length, LengthField, Line, LittleEndian, Ms, Next, Raw,
  Resp, Strip, length_field,
}
import sockpool/error
import sockpool/options.{
  type Options, AfterIdle, Always, AtMost, Between, Close, Fifo, Lifo, Never, NoLimit, Reuse, Unlimited, UpTo,
}
import sockpool/pool
import sockpool/tls
import sockpool_kit as kit

/// What the pool says of its options; it is stopped if it says nothing.
fn refusal(options: Options) -> String {
  let name = pool.named("refusal")
  case pool.start(name, options) {
    Error(error.BadOption(key, explanation)) -> {
      kit.equal(error.describe(error.BadOption(key, explanation)), explanation)
      key
    }
    Error(other) -> error.describe(other)
    Ok(_) -> {
      let assert Ok(Nil) = pool.stop(name)
      "none"
    }
  }
}

fn plain() -> Options {
  options.tcp("127.0.0.1", kit.port(kit.refusing_server()))
}

pub fn refused_values_test() {
  let o = plain()
  kit.equal("host", refusal(options.tcp("", 7000)))
  kit.equal("host", refusal(options.hosts(o, [])))
  kit.equal("port", refusal(options.tcp("127.0.0.1", 0)))
  kit.equal("path", refusal(options.unix("")))
  kit.equal("size", refusal(options.size(o, -1)))
  kit.equal("max_overflow", refusal(options.max_overflow(o, -1)))
  kit.equal(
    "size",
    refusal(o |> options.size(0) |> options.max_overflow(0)),
  )
  kit.equal("overflow_ttl", refusal(options.overflow_ttl(o, Ms(-1))))
  kit.equal("min_size", refusal(options.min_size(o, 11)))
  kit.equal("min_idle", refusal(options.min_idle(o, -1)))
  kit.equal(
    "start",
    refusal(options.start(o, options.Await(connections: 0, ms: 1))),
  )
  kit.equal("idle_timeout", refusal(options.idle_timeout(o, Ms(0))))
  kit.equal("max_lifetime", refusal(options.max_lifetime(o, UpTo(0))))
  kit.equal("max_lifetime", refusal(options.max_lifetime(o, Between(2, 1))))
  kit.equal("max_uses", refusal(options.max_uses(o, AtMost(0))))
  kit.equal("max_waiting", refusal(options.max_waiting(o, AtMost(-1))))
  kit.equal("checkout_timeout", refusal(options.checkout_timeout(o, Ms(-1))))
  kit.equal("connect_timeout", refusal(options.connect_timeout(o, Ms(0))))
  kit.equal("connect_timeout", refusal(options.connect_timeout(o, Infinity)))
  kit.equal("send_timeout", refusal(options.send_timeout(o, Ms(-1))))
  kit.equal("sndbuf", refusal(options.sndbuf(o, 0)))
  kit.equal("recbuf", refusal(options.recbuf(o, 0)))
  kit.equal("bind", refusal(options.bind(o, "here")))
  kit.equal("validate", refusal(options.validate(o, AfterIdle(-1))))
  kit.equal("max_hold", refusal(options.max_hold(o, Ms(0))))
  kit.equal("leak_threshold", refusal(options.leak_threshold(o, Ms(999))))
  kit.equal("slow_checkout", refusal(options.slow_checkout(o, Ms(0))))
  kit.equal("recv_limit", refusal(options.recv_limit(o, 0)))
  kit.equal("backoff", refusal(options.backoff(o, 10, 5)))
  kit.equal("bind", refusal(options.unix("/tmp/x") |> options.bind("127.0.0.1")))
}

pub fn refused_of_workers_test() {
  let o = options.workers()
  kit.equal("worker", refusal(o))
  let o = options.worker(o, fn() { Error("none") })
  kit.equal("none", refusal(o))
  kit.equal("worker_shutdown", refusal(options.worker_shutdown(o, Ms(-1))))
  kit.equal("connect_parallelism", refusal(options.connect_parallelism(o, 0)))
  kit.equal("packet", refusal(options.packet(o, Header1)))
  kit.equal("validate", refusal(options.validate(o, Never)))
  kit.equal("abandoned", refusal(options.abandoned(plain(), Reuse)))
  kit.equal("worker", refusal(options.worker(plain(), fn() { Error("none") })))
}

pub fn accepted_of_workers_test() {
  let o =
    options.workers()
    |> options.worker(fn() { Error("none") })
    |> options.worker_shutdown(Infinity)
    |> options.abandoned(Close)
    |> options.abandoned(Reuse)
    |> options.connect_parallelism(100)
    |> options.validate(Always)
  kit.equal("none", refusal(o))
}

pub fn refused_tls_values_test() {
  let refusal = fn(tls) { refusal(options.tls("127.0.0.1", 7000, tls)) }
  let o = tls.new()
  kit.equal("tls.cacertfile", refusal(tls.cacertfile(o, "")))
  kit.equal("tls.cacerts", refusal(tls.cacerts(o, [])))
  kit.equal("tls.server_name", refusal(tls.server_name(o, "")))
  kit.equal("tls.certfile", refusal(tls.certfile(o, "")))
  kit.equal("tls.certfile", refusal(tls.keyfile(o, "/tmp/key")))
  kit.equal("tls.versions", refusal(tls.versions(o, [])))
  kit.equal("tls.ciphers", refusal(tls.ciphers(o, "")))
  kit.equal("tls.ciphersuites", refusal(tls.ciphersuites(o, "")))
  kit.equal("tls.groups", refusal(tls.groups(o, "")))
  kit.equal("tls.alpn", refusal(tls.alpn(o, [""])))
  kit.equal("tls.keylog", refusal(tls.keylog(o, "")))
}

pub fn explanation_test() {
  let assert Error(error.BadOption("size", explanation)) =
    pool.start(pool.named("refusal"), options.size(plain(), -1))
  kit.equal(
    "option size: -1 is not allowed; it must be an integer from 0 to 1000000 (size and max_overflow together from 1 to 1000000)",
    explanation,
  )
}

pub fn accepted_values_test() {
  let o =
    plain()
    |> options.size(2)
    |> options.max_overflow(1)
    |> options.overflow_ttl(Infinity)
    |> options.min_size(0)
    |> options.idle_timeout(Ms(1))
    |> options.idle_timeout(Infinity)
    |> options.max_lifetime(Unlimited)
    |> options.max_lifetime(UpTo(60_000))
    |> options.max_lifetime(Between(1, 2))
    |> options.max_uses(AtMost(1))
    |> options.max_uses(NoLimit)
    |> options.min_idle(2)
    |> options.start(options.Async)
    |> options.start(options.Await(connections: 2, ms: 0))
    |> options.growth(options.Expected)
    |> options.growth(options.Eager)
    |> options.strategy(Lifo)
    |> options.strategy(Fifo)
    |> options.max_waiting(NoLimit)
    |> options.checkout_timeout(Infinity)
    |> options.connect_timeout(Ms(100))
    |> options.send_timeout(Infinity)
    |> options.nodelay(False)
    |> options.keepalive(True)
    |> options.keepalive_times(60, 5, 3)
    |> options.user_timeout(30_000)
    |> options.health(options.Call(fn(_) { Ok(Nil) }, 100, 1))
    |> options.health(options.NoChecks)
    |> options.health(options.Ask(
      <<"a":utf8>>,
      options.StartingWith(<<"b":utf8>>),
      100,
      1,
    ))
    |> options.sndbuf(10_000)
    |> options.recbuf(10_000)
    |> options.bind("127.0.0.1")
    |> options.validate(Always)
    |> options.validate(AfterIdle(10))
    |> options.validate(Never)
    |> options.max_hold(Ms(1000))
    |> options.leak_threshold(Ms(1000))
    |> options.slow_checkout(Ms(2000))
    |> options.recv_limit(1000)
    |> options.backoff(1, 10)
    |> options.fail_fast(True)
    |> options.replies(False)
  kit.equal("none", refusal(o))
}

pub fn last_setting_counts_test() {
  let o = plain() |> options.size(-1) |> options.size(1)
  kit.equal("none", refusal(o))
  let o = plain() |> options.connect_timeout(Ms(0))
  kit.equal("none", refusal(options.connect_timeout(o, Default)))
}

pub fn default_sizes_test() {
  use pool <- kit.with_pool("defaults", plain())
  let stats = kit.stats(pool)
  kit.equal(#(10, 10), #(stats.size, stats.max_overflow))
}

/// Messages go out with the header that the framing has, and come back without it. `info` says the
/// framing as it was set.
fn framed(name: String, packet, sent: BitArray, on_the_wire: BitArray) {
  let options = kit.single(kit.echo_server()) |> options.packet(packet)
  use pool <- kit.with_pool(name, options)
  kit.equal(Ok(sent), pool.request(pool, sent, Next, kit.long()))
  let assert Ok(seen) =
    pool.with_connection(pool, kit.long(), fn(conn) {
      let assert Ok(info) = connection.info(conn)
      kit.equal(packet, info.packet)
      let assert Ok(Nil) = connection.send(conn, sent, kit.long())
      let assert Ok(Nil) = connection.set(conn, [connection.Packet(Raw)])
      connection.recv(conn, Bytes(kit.size(on_the_wire)), kit.long())
    })
  kit.equal(Ok(on_the_wire), seen)
}

pub fn packet_test() {
  framed("line", Line, <<"abc\n":utf8>>, <<"abc\n":utf8>>)
  framed("one", Header1, <<"abc":utf8>>, <<3, "abc":utf8>>)
  framed("two", Header2, <<"abc":utf8>>, <<0, 3, "abc":utf8>>)
  framed("four", Header4, <<"abc":utf8>>, <<0, 0, 0, 3, "abc":utf8>>)
  framed("fixed", Fixed(5), <<"a\r\nbc":utf8>>, <<"a\r\nbc":utf8>>)
  let crlf = <<"a\nb\r\n":utf8>>
  framed("crlf", Delimiter(<<"\r\n":utf8>>), crlf, crlf)
  let value = <<"%1\r\n+a\r\n*2\r\n_\r\n$2\r\n\r\n\r\n":utf8>>
  framed("resp", Resp, value, value)
}

pub fn length_field_test() {
  let kept = <<0, 0, 0, 3, "abc":utf8>>
  framed("plain", Length(length_field), kept, kept)
  let kind = LengthField(..length_field, offset: 1, adjust: -4)
  let message = <<"Q":utf8, 0, 0, 0, 7, "abc":utf8>>
  framed("kind", Length(kind), message, message)
  framed(
    "strip",
    Length(LengthField(0, 3, LittleEndian, -3, Strip)),
    <<"abc":utf8>>,
    <<6, 0, 0, "abc":utf8>>,
  )
  framed(
    "long",
    Length(LengthField(0, 8, BigEndian, 0, Strip)),
    <<"abc":utf8>>,
    <<0, 0, 0, 0, 0, 0, 0, 3, "abc":utf8>>,
  )
}

pub fn refused_packets_test() {
  let refusal = fn(packet) { refusal(options.packet(plain(), packet)) }
  let length = fn(field) { refusal(Length(field)) }
  kit.equal("packet", refusal(Fixed(0)))
  kit.equal("packet", refusal(Fixed(2_147_483_648)))
  kit.equal("packet", refusal(Delimiter(<<>>)))
  kit.equal("packet", refusal(Delimiter(<<1:3>>)))
  kit.equal("packet", refusal(Delimiter(kit.copies(<<"x":utf8>>, 33))))
  kit.equal("packet", length(LengthField(..length_field, offset: 256)))
  kit.equal("packet", length(LengthField(..length_field, bytes: 0)))
  kit.equal("packet", length(LengthField(..length_field, bytes: 9)))
  kit.equal("packet", length(LengthField(..length_field, adjust: 2_147_483_648)))
  kit.equal("packet", length(LengthField(1, 4, BigEndian, 0, Strip)))
  kit.equal("none", length(LengthField(255, 8, LittleEndian, -1, Keep)))
}

/// What is gen_tcp's has a shorter name, by which `info` tells it.
pub fn short_packets_test() {
  let strip = LengthField(0, 2, BigEndian, 0, Strip)
  let options = kit.single(kit.echo_server()) |> options.packet(Length(strip))
  use pool <- kit.with_pool("short", options)
  let assert Ok(Nil) =
    pool.with_connection(pool, kit.long(), fn(conn) {
      let told = fn() {
        let assert Ok(info) = connection.info(conn)
        info.packet
      }
      kit.equal(Header2, told())
      let line = connection.Packet(Delimiter(<<"\n":utf8>>))
      kit.equal(Ok(Nil), connection.set(conn, [line]))
      kit.equal(Line, told())
      kit.equal(Ok(Nil), connection.set(conn, [connection.Packet(Raw)]))
      kit.equal(Raw, told())
    })
}

pub fn hosts_test() {
  let o = kit.single(kit.echo_server())
  // The first of the two does not listen.
  let o = options.hosts(o, ["127.0.0.9", "127.0.0.1"])
  use pool <- kit.with_pool("hosts", o)
  kit.echo_through(pool, <<"hello":utf8>>)
}

pub fn bind_test() {
  let o = kit.single(kit.echo_server()) |> options.bind("127.0.0.8")
  use pool <- kit.with_pool("bound", o)
  let assert Ok(Ok(info)) =
    pool.with_connection(pool, kit.long(), connection.info)
  let assert connection.Ip("127.0.0.8", _) = info.local
}

fn read_greeting(conn: Connection) -> Result(Nil, String) {
  case connection.recv(conn, Next, kit.long()) {
    Ok(<<"welcome\n":utf8>>) -> Ok(Nil)
    Ok(_) -> Error("not welcome")
    Error(reason) -> Error(error.describe(reason))
  }
}

pub fn init_test() {
  let o =
    kit.single(kit.greeting_server("welcome\n"))
    |> options.packet(Line)
    |> options.init(read_greeting)
  use pool <- kit.with_pool("init", o)
  kit.equal(
    Ok(<<"hello\n":utf8>>),
    pool.request(pool, <<"hello\n":utf8>>, Next, kit.long()),
  )
}

pub fn init_that_refuses_test() {
  let o =
    kit.single(kit.greeting_server("go away\n"))
    |> options.packet(Line)
    |> options.init(read_greeting)
  use pool <- kit.with_pool("init_refuses", o)
  kit.equal(error.InitFailed("not welcome"), kit.unavailable(pool))
}

pub fn init_that_crashes_test() {
  let o =
    kit.single(kit.echo_server())
    |> options.init(fn(_) { panic })
  use pool <- kit.with_pool("init_crashes", o)
  let assert error.InitFailed(_) = kit.unavailable(pool)
}

/// The greeting comes in one piece: when its first byte was read, the others are there.
pub fn greeting_of_which_a_part_is_unread_test() {
  let o =
    kit.single(kit.greeting_server("welcome\n"))
    |> options.init(fn(conn) {
      case connection.recv(conn, Bytes(1), kit.long()) {
        Ok(_) -> Ok(Nil)
        Error(_) -> Error("no greeting")
      }
    })
  use pool <- kit.with_pool("unread", o)
  kit.equal(error.UnreadBytes("elcome"), kit.unavailable(pool))
}

pub fn max_hold_test() {
  let o = kit.single(kit.echo_server()) |> options.max_hold(Ms(50))
  use pool <- kit.with_pool("max_hold", o)
  let assert Ok(conn) = pool.checkout(pool, kit.long())
  kit.wait_until(fn() { kit.stats(pool).abandoned == 1 })
  kit.equal(
    Error(error.Closed),
    connection.send(conn, <<"x":utf8>>, kit.long()),
  )
}

pub fn recv_limit_test() {
  let o = kit.single(kit.echo_server()) |> options.recv_limit(10)
  use pool <- kit.with_pool("recv_limit", o)
  kit.equal(
    Error(error.MessageTooLong),
    pool.request(pool, <<"x":utf8>>, Bytes(11), kit.long()),
  )
}

pub fn overflow_test() {
  let o =
    kit.single(kit.echo_server())
    |> options.max_overflow(1)
    |> options.overflow_ttl(Ms(0))
  use pool <- kit.with_pool("overflow", o)
  let assert Ok(one) = pool.checkout(pool, kit.long())
  let assert Ok(two) = pool.checkout(pool, kit.long())
  kit.equal(2, kit.stats(pool).leased)
  let assert Ok(Nil) = pool.checkin(one)
  let assert Ok(Nil) = pool.checkin(two)
  kit.wait_until(fn() { kit.stats(pool).total == 1 })
}

pub fn validate_finds_what_the_server_closed_test() {
  let server = kit.echo_server()
  let o = kit.single(server) |> options.validate(Always)
  use pool <- kit.with_pool("validate", o)
  kit.settled(pool)
  kit.wait_until(fn() { kit.accepted(server) == 1 })
  kit.close_connections(server)
  kit.echo_through(pool, <<"hello":utf8>>)
  kit.equal(2, kit.stats(pool).created)
}
