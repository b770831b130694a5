//// Pools that another node serves: an Erlang node with sockpool, and the C node.

import sockpool/connection.{
  Bytes, Default, Delimiter, Infinity, Ip, Keep, Length, LengthField,
  Line, LittleEndian, Ms, Next, Packet, Resp, Secured,
}
import sockpool/error
import sockpool/options
import sockpool/pool
import sockpool/tls
import sockpool_kit as kit

pub fn pool_of_an_erlang_node_test() {
  pool_of(kit.start_node())
}

pub fn pool_of_a_c_node_test() {
  case kit.start_c_node() {
    Ok(node) -> {
      no_password(kit.node_name(node))
      pool_of(node)
    }
    // The daemon is not built: a library is missing.
    Error(Nil) -> Nil
  }
}

/// It has no Erlang that would run it.
fn no_password(node: String) -> Nil {
  let tls = tls.new() |> tls.password(fn() { "secret" })
  let assert Error(error.BadOption("tls.password", _)) =
    pool.start(
      pool.on_node("far", node),
      options.tls("127.0.0.1", 7000, tls),
    )
  Nil
}

fn pool_of(node: kit.Node) -> Nil {
  let server = kit.echo_server()
  let name = kit.node_name(node)
  let far = pool.on_node("far", name)
  let options = kit.single(server)
  kit.equal(Error(error.NotFound), pool.stats(far))
  let assert Error(error.BadOption("size", _)) =
    pool.start(far, options.size(options, -1))
  let assert Error(error.BadOption("init", _)) =
    pool.start(far, options.init(options, fn(_) { Ok(Nil) }))
  kit.equal(Ok(Nil), pool.start(far, options))
  kit.equal(Error(error.AlreadyStarted), pool.start(far, options))
  kit.equal(Ok(["far"]), pool.names_on(name))
  kit.equal([], pool.names())

  kit.echo_through(far, <<"hello":utf8>>)
  let assert Ok(conn) = pool.checkout(far, kit.long())
  kit.equal(1, kit.stats(far).leased)
  kit.equal(Ok(Nil), connection.send(conn, <<"one":utf8>>, Default))
  kit.equal(Ok(<<"one":utf8>>), connection.recv(conn, Bytes(3), kit.long()))
  let assert Ok(info) = connection.info(conn)
  kit.equal(#("far", Ip("127.0.0.1", kit.port(server))), #(info.pool, info.peer))
  kit.equal(Ok(Nil), connection.set(conn, [connection.Nodelay(False)]))
  kit.equal(connection.Raw, info.packet)
  let framing = Length(LengthField(1, 2, LittleEndian, -2, Keep))
  kit.equal(Ok(Nil), connection.set(conn, [Packet(framing)]))
  kit.equal(Ok(Nil), connection.send(conn, <<"a":utf8, 3, 0, "b":utf8>>, Default))
  kit.equal(
    Ok(<<"a":utf8, 3, 0, "b":utf8>>),
    connection.recv(conn, Next, kit.long()),
  )
  let assert Ok(info) = connection.info(conn)
  kit.equal(framing, info.packet)
  let assert Error(error.Full) = pool.checkout(far, Ms(0))
  let assert Error(error.Timeout) = pool.checkout(far, Ms(20))
  let other = fn() { connection.send(conn, <<"x":utf8>>, Infinity) }
  kit.equal(Error(error.NotOwner), kit.await(kit.start(other)))
  kit.equal(Ok(Nil), pool.checkin(conn))

  // A crash gives the connection back there as well.
  let before = kit.settled(far)
  let assert Error(_) =
    kit.crashes(fn() {
      pool.with_connection(far, kit.long(), fn(conn) {
        let assert Ok(Nil) = connection.send(conn, <<"x":utf8>>, Default)
        panic
      })
    })
  kit.echo_through(far, <<"hello":utf8>>)
  let after = kit.settled(far)
  kit.equal(
    #(1, 0, before.closed + 1, before.created + 1),
    #(after.idle, after.leased, after.closed, after.created),
  )

  tls_pool_of(name)
  framed_pool_of(name)
  piped_pool_of(name)

  kit.equal(Ok(Nil), pool.stop(far))
  kit.equal(
    Error(error.NotFound),
    pool.request(far, <<"x":utf8>>, Bytes(1), kit.long()),
  )

  kit.stop_node(node)
  kit.equal(Error(error.NodeDown(name)), pool.stats(far))
  kit.equal(Error(error.NodeDown(name)), pool.names_on(name))
  let assert Error(error.NodeDown(_)) = pool.checkout(far, Ms(100))
  kit.equal(
    Error(error.NodeDown(name)),
    pool.with_connection(far, Ms(100), fn(_) { Nil }),
  )
}

fn framed_pool_of(node: String) -> Nil {
  let far = pool.on_node("far_framed", node)
  let options = kit.single(kit.echo_server())
  let assert Error(error.BadOption("packet", _)) =
    pool.start(far, options.packet(options, Delimiter(<<>>)))
  kit.equal(Ok(Nil), pool.start(far, options.packet(options, Resp)))
  let value = <<"*2\r\n:1\r\n$1\r\nx\r\n":utf8>>
  kit.equal(Ok(value), pool.request(far, value, Next, kit.long()))
  kit.equal(Ok(Nil), pool.stop(far))
}

fn piped_pool_of(node: String) -> Nil {
  let far = pool.on_node("far_piped", node)
  let options =
    kit.single(kit.echo_server())
    |> options.packet(Line)
    |> options.pipeline(8)
    |> options.pipeline_bytes(1000)
    |> options.pipeline_stall(Infinity)
  let assert Error(error.BadOption("pipeline", _)) =
    pool.start(far, options.pipeline(options, 0))
  kit.equal(Ok(Nil), pool.start(far, options))
  kit.settled(far)
  kit.equal(
    [Ok(<<"a\n":utf8>>), Ok(<<"b\n":utf8>>)],
    pool.request_many(far, [<<"a\n":utf8>>, <<"b\n":utf8>>], Next, kit.long()),
  )
  kit.equal(2, kit.settled(far).pipelined)
  kit.equal(Ok(Nil), pool.stop(far))
}

fn tls_pool_of(node: String) -> Nil {
  let far = pool.on_node("far_tls", node)
  let server = kit.tls_echo_server("server", [])
  let start = fn(authority) {
    let tls = tls.new() |> tls.cacertfile(kit.certificates() <> authority)
    let options = options.tls("127.0.0.1", kit.port(server), tls)
    pool.start(far, options |> options.size(1) |> options.backoff(1, 50))
  }
  kit.equal(
    Error(error.Tls(tls.Unusable("cacertfile", "enoent"))),
    start("/missing.pem"),
  )
  kit.equal(Ok(Nil), start("/other_ca.pem"))
  kit.equal(error.Tls(tls.UnknownCa), kit.unavailable(far))
  kit.equal(Ok(Nil), pool.stop(far))
  kit.equal(Ok(Nil), start("/ca.pem"))
  kit.echo_through(far, <<"hello":utf8>>)
  let assert Ok(Ok(info)) =
    pool.with_connection(far, kit.long(), connection.info)
  let assert Secured("tlsv1.3", _, "", _, _, False) = info.security
  kit.equal(Ok(Nil), pool.stop(far))
}
