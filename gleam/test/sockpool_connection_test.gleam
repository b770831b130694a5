//// What a process does with a connection that it has.

import sockpool/connection.{
  Bytes, Default, Header2, Infinity, Ip, Keepalive, Line, Local, Ms, Next,
  Nodelay, Packet, Plain, Recbuf, Sndbuf,
}
import sockpool/error
import sockpool/options
import sockpool/pool
import sockpool/term
import sockpool_kit as kit

fn with_connection(name, options, run) {
  use pool <- kit.with_pool(name, options)
  let assert Ok(result) =
    pool.with_connection(pool, kit.long(), fn(conn) { run(pool, conn) })
  result
}

pub fn send_and_recv_test() {
  use _, conn <- with_connection("bytes", kit.single(kit.echo_server()))
  kit.equal(Ok(Nil), connection.send(conn, <<"hello world":utf8>>, Infinity))
  kit.equal(Ok(<<"hello":utf8>>), connection.recv(conn, Bytes(5), Infinity))
  kit.equal(Ok(<<" ":utf8>>), connection.recv(conn, Bytes(1), Default))
  kit.equal(Ok(<<"world":utf8>>), connection.recv(conn, Bytes(5), kit.long()))
  kit.equal(Ok(Nil), connection.send(conn, <<>>, kit.long()))
}

pub fn recv_that_times_out_test() {
  use pool, conn <- with_connection("recv", kit.single(kit.silent_server()))
  kit.equal(Error(error.Timeout), connection.recv(conn, Bytes(1), Ms(20)))
  kit.equal(Error(error.Timeout), connection.recv(conn, Next, Ms(0)))
  kit.equal(Ok(Nil), connection.checkin(conn))
  kit.wait_until(fn() { kit.stats(pool).closed == 1 })
}

pub fn checkin_after_a_send_test() {
  use pool <- kit.with_pool("owed", kit.single(kit.silent_server()))
  let assert Ok(conn) = pool.checkout(pool, Infinity)
  kit.equal(Ok(Nil), connection.send(conn, <<"x":utf8>>, Infinity))
  kit.equal(Ok(Nil), connection.checkin_clean(conn))
  let assert Ok(conn) = pool.checkout(pool, Infinity)
  kit.equal(0, kit.stats(pool).closed)
  kit.equal(Ok(Nil), connection.send(conn, <<"x":utf8>>, Infinity))
  kit.equal(Ok(Nil), connection.checkin(conn))
  kit.wait_until(fn() { kit.stats(pool).closed == 1 })
}

pub fn discard_test() {
  use pool, conn <- with_connection("discard", kit.single(kit.echo_server()))
  kit.equal(Ok(Nil), connection.discard(conn))
  kit.equal(Error(error.Closed), connection.discard(conn))
  kit.wait_until(fn() { kit.stats(pool).created == 2 })
  kit.equal(#(1, 1), #(kit.stats(pool).closed, kit.settled(pool).idle))
}

pub fn not_owner_and_give_away_test() {
  use pool, conn <- with_connection("away", kit.single(kit.echo_server()))
  let other = fn() { connection.send(conn, <<"x":utf8>>, kit.long()) }
  kit.equal(Error(error.NotOwner), kit.await(kit.start(other)))
  kit.equal(
    Error(error.ProcessNotFound),
    connection.give_away(conn, kit.dead()),
  )
  let assert Error(error.BadArgument("pid", _)) =
    connection.give_away(conn, "nobody")
  // Given to this process by the one that it was given to.
  let me = kit.self()
  let taker =
    kit.start(fn() {
      let assert Ok(mine) = pool.checkout(pool, Infinity)
      let assert Ok(Nil) = connection.give_away(mine, me)
      mine
    })
  kit.wait_until(fn() { kit.stats(pool).waiting == 1 })
  kit.equal(Ok(Nil), connection.checkin(conn))
  let given = kit.await(taker)
  kit.equal(Ok(Nil), connection.send(given, <<"y":utf8>>, kit.long()))
  kit.equal(Ok(<<"y":utf8>>), connection.recv(given, Bytes(1), kit.long()))
  kit.equal(Ok(Nil), connection.checkin(given))
}

pub fn busy_inside_init_test() {
  let me = kit.free_name("busy")
  let options =
    kit.single(kit.echo_server())
    |> options.init(fn(conn) {
      case connection.checkin(conn) {
        Error(error.Busy) -> Error("busy")
        _ -> Error("not busy")
      }
    })
  use pool <- kit.with_pool(me, options)
  kit.equal(error.InitFailed("busy"), kit.unavailable(pool))
}

pub fn reset_by_the_server_test() {
  use _, conn <- with_connection("reset", kit.single(kit.resetting_server()))
  kit.equal(Ok(Nil), connection.send(conn, <<"x":utf8>>, kit.long()))
  kit.equal(
    Error(error.Posix("econnreset")),
    connection.recv(conn, Next, kit.long()),
  )
}

pub fn closed_by_the_server_test() {
  use _, conn <- with_connection("closed", kit.single(kit.closing_server()))
  kit.equal(Ok(Nil), connection.send(conn, <<"x":utf8>>, kit.long()))
  kit.equal(Error(error.Closed), connection.recv(conn, Next, kit.long()))
}

pub fn message_too_long_test() {
  let options =
    kit.single(kit.echo_server())
    |> options.recv_limit(100)
    |> options.packet(connection.Header1)
  use _, conn <- with_connection("too_long", options)
  kit.equal(
    Error(error.MessageTooLong),
    connection.send(conn, kit.copies(<<"x":utf8>>, 256), kit.long()),
  )
}

/// What is no value of RESP, and what no bytes could make a message.
pub fn bad_frame_test() {
  let options =
    kit.single(kit.echo_server()) |> options.packet(connection.Resp)
  use pool <- kit.with_pool("bad_frame", options)
  let read = fn(sent) {
    pool.with_connection(pool, kit.long(), fn(conn) {
      let assert Ok(Nil) = connection.send(conn, sent, kit.long())
      connection.recv(conn, Next, kit.long())
    })
  }
  kit.equal(Ok(Ok(<<"+OK\r\n":utf8>>)), read(<<"+OK\r\n":utf8>>))
  kit.equal(Ok(Error(error.BadFrame)), read(<<"hello\r\n":utf8>>))
  kit.wait_until(fn() { kit.stats(pool).closed == 1 })
}

pub fn recv_until_test() {
  let options = kit.single(kit.echo_server()) |> options.packet(Line)
  use pool, conn <- with_connection("until", options)
  let is_end = fn(line) { line == <<"END\n":utf8>> }
  kit.equal(
    Ok(Nil),
    connection.send(conn, <<"a\nb\nEND\nEND\nc\n":utf8>>, kit.long()),
  )
  kit.equal(
    Ok([<<"a\n":utf8>>, <<"b\n":utf8>>, <<"END\n":utf8>>]),
    connection.recv_until(conn, is_end, Default),
  )
  kit.equal(
    Ok([<<"END\n":utf8>>]),
    connection.recv_until(conn, is_end, kit.long()),
  )
  // A part of the next message.
  kit.equal(Ok(<<"c":utf8>>), connection.recv(conn, Bytes(1), kit.long()))
  kit.equal(
    Error(error.Timeout),
    connection.recv_until(conn, is_end, connection.Ms(20)),
  )
  kit.equal(1, kit.stats(pool).leased)
}

pub fn settings_test() {
  let options = kit.single(kit.echo_server())
  use pool <- kit.with_pool("settings", options)
  let assert Ok(Nil) =
    pool.with_connection(pool, kit.long(), fn(conn) {
      kit.equal(
        Ok(Nil),
        connection.set(conn, [Packet(Line), Nodelay(False), Keepalive(True)]),
      )
      kit.equal(Ok(Nil), connection.send(conn, <<"a\nb\n":utf8>>, kit.long()))
      kit.equal(Ok(<<"a\n":utf8>>), connection.recv(conn, Next, kit.long()))
      kit.equal(Ok(<<"b\n":utf8>>), connection.recv(conn, Next, kit.long()))
      kit.equal(Ok(Nil), connection.set(conn, [Packet(Header2)]))
      kit.equal(Ok(Nil), connection.send(conn, <<"cd":utf8>>, kit.long()))
      kit.equal(Ok(Nil), connection.set(conn, [Packet(connection.Raw)]))
      kit.equal(
        Ok(<<0, 2, "cd":utf8>>),
        connection.recv(conn, Bytes(4), kit.long()),
      )
      let assert Error(error.BadOption("sndbuf", _)) =
        connection.set(conn, [Sndbuf(-1)])
      kit.equal(
        Ok(Nil),
        connection.set(conn, [Sndbuf(20_000), Recbuf(20_000)]),
      )
    })
  // Buffer sizes cannot be put back.
  kit.wait_until(fn() { kit.stats(pool).closed == 1 })
}

pub fn info_test() {
  let server = kit.echo_server()
  use _, conn <- with_connection("info", kit.single(server))
  let assert Ok(info) = connection.info(conn)
  kit.equal("info", info.pool)
  kit.equal("tcp", info.transport)
  kit.equal(Ip("127.0.0.1", kit.port(server)), info.peer)
  let assert Ip("127.0.0.1", _) = info.local
  kit.equal(Plain, info.security)
  kit.equal(True, info.age_ms >= 0)
  let assert Ok(tcp) = info.tcp
  kit.equal(True, tcp.rtt > 0 && tcp.cwnd > 0 && tcp.retransmits == 0)
  kit.equal(Ok(Nil), connection.checkin(conn))
  kit.equal(Error(error.Closed), connection.info(conn))
}

pub fn unix_socket_test() {
  let path = kit.free_name("/tmp/sockpool-gleam-socket-")
  let _server = kit.unix_echo_server(path)
  let options =
    options.unix(path) |> options.size(1) |> options.max_overflow(0)
  use pool, conn <- with_connection("unix", options)
  let assert Ok(info) = connection.info(conn)
  kit.equal(#("unix", Local(path)), #(info.transport, info.peer))
  kit.equal(Error(Nil), info.tcp)
  kit.equal(Ok(Nil), connection.checkin(conn))
  kit.echo_through(pool, <<"hello":utf8>>)
}

pub fn state_test() {
  let options =
    kit.single(kit.echo_server())
    |> options.init(fn(conn) {
      let assert Ok(Nil) = connection.set_state(conn, #("of init", [1, 2]))
      Ok(Nil)
    })
  use pool <- kit.with_pool(kit.free_name("state"), options)
  let seen = fn() { pool.with_connection(pool, kit.long(), connection.state) }
  kit.equal(Ok(Ok(term.from(#("of init", [1, 2])))), seen())
  let set = fn(value) {
    pool.with_connection(pool, kit.long(), fn(conn) {
      connection.set_state(conn, value)
    })
  }
  kit.equal(Ok(Ok(Nil)), set(<<"later":utf8>>))
  kit.equal(Ok(Ok(term.from(<<"later":utf8>>))), seen())
  kit.equal(Ok(Error(error.MessageTooLong)), set(<<0:size(600_000)>>))
}
