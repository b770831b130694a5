//// Pools: start, stop, supervision, checkout, request, stats, and what comes when there is no
//// connection to be had.

import sockpool/connection.{Bytes, Default, Infinity, Line, Ms, Next}
import sockpool/error
import sockpool/options.{AtMost}
import sockpool/pool
import sockpool_kit as kit

pub fn request_test() {
  let server = kit.echo_server()
  use pool <- kit.with_pool("request", kit.single(server))
  kit.equal(
    Ok(<<"hello":utf8>>),
    pool.request(pool, <<"hello":utf8>>, Bytes(5), kit.long()),
  )
  kit.equal(
    Ok(<<"more":utf8>>),
    pool.request(pool, <<"more":utf8>>, Bytes(4), Infinity),
  )
  kit.equal(
    Ok(<<"again":utf8>>),
    pool.request(pool, <<"again":utf8>>, Bytes(5), Default),
  )
  let stats = kit.settled(pool)
  kit.equal(
    #(3, 3, 1, 0, 2),
    #(stats.checkouts, stats.checkins, stats.created, stats.closed, stats.reused),
  )
}

pub fn unnamed_test() {
  let options = kit.single(kit.echo_server())
  let one = pool.unnamed()
  let two = pool.unnamed()
  let assert Ok(Nil) = pool.start(one, options)
  let assert Ok(Nil) = pool.start(two, options)
  kit.equal(
    Ok(<<"hello":utf8>>),
    pool.request(one, <<"hello":utf8>>, Bytes(5), kit.long()),
  )
  let assert Ok(stats) = pool.stats(one)
  kit.equal(#("", 1), #(stats.name, stats.checkouts))
  let assert Ok(stats) = pool.stats(two)
  kit.equal(0, stats.checkouts)
  kit.equal(Ok(Nil), pool.stop(one))
  kit.equal(Ok(Nil), pool.stop(two))
  kit.equal(Error(error.NotFound), pool.stop(one))
}

fn pipelined(server) -> options.Options {
  kit.single(server)
  |> options.packet(Line)
  |> options.pipeline(8)
  |> options.pipeline_bytes(1000)
  |> options.pipeline_stall(Ms(10_000))
}

pub fn request_many_test() {
  let server = kit.echo_server()
  use pool <- kit.with_pool("request_many", pipelined(server))
  kit.settled(pool)
  kit.equal(
    [Ok(<<"a\n":utf8>>), Ok(<<"bc\n":utf8>>), Ok(<<"d\n":utf8>>)],
    pool.request_many(
      pool,
      [<<"a\n":utf8>>, <<"bc\n":utf8>>, <<"d\n":utf8>>],
      Next,
      kit.long(),
    ),
  )
  kit.equal([], pool.request_many(pool, [], Next, Default))
  kit.equal(3, kit.settled(pool).pipelined)
}

pub fn request_many_one_by_one_test() {
  let server = kit.echo_server()
  use pool <- kit.with_pool("request_many_one", kit.single(server))
  kit.equal(
    [Ok(<<"ab":utf8>>), Ok(<<"cd":utf8>>)],
    pool.request_many(pool, [<<"ab":utf8>>, <<"cd":utf8>>], Bytes(2), Infinity),
  )
  let assert [
    Error(error.BadArgument("length", _)),
    Error(error.BadArgument("length", _)),
  ] =
    pool.request_many(pool, [<<"a":utf8>>, <<"b":utf8>>], Bytes(-1), Default)
  kit.equal(0, kit.settled(pool).pipelined)
}

pub fn request_many_that_time_out_test() {
  let server = kit.silent_server()
  use pool <- kit.with_pool("request_many_late", pipelined(server))
  kit.settled(pool)
  kit.equal(
    [Error(error.Timeout), Error(error.Timeout)],
    pool.request_many(pool, [<<"a\n":utf8>>, <<"b\n":utf8>>], Next, Ms(30)),
  )
}

pub fn request_that_times_out_closes_the_connection_test() {
  let server = kit.silent_server()
  use pool <- kit.with_pool("request_late", kit.single(server))
  kit.settled(pool)
  kit.equal(
    Error(error.Timeout),
    pool.request(pool, <<"hello":utf8>>, Bytes(5), Ms(30)),
  )
  kit.wait_until(fn() { kit.stats(pool).created == 2 })
  let stats = kit.settled(pool)
  kit.equal(#(1, 1), #(stats.closed, stats.idle))
}

pub fn request_to_a_server_that_closes_test() {
  let server = kit.closing_server()
  use pool <- kit.with_pool("request_closed", kit.single(server))
  kit.equal(
    Error(error.Closed),
    pool.request(pool, <<"hello":utf8>>, Bytes(5), kit.long()),
  )
}

pub fn checkout_and_checkin_test() {
  let server = kit.echo_server()
  use pool <- kit.with_pool("checkout", kit.single(server))
  let assert Ok(conn) = pool.checkout(pool, Infinity)
  kit.equal(#(1, 0), #(kit.stats(pool).leased, kit.stats(pool).idle))
  kit.equal(Ok(Nil), connection.send(conn, <<"hello":utf8>>, Default))
  kit.equal(Ok(<<"hello":utf8>>), connection.recv(conn, Bytes(5), Default))
  kit.equal(Ok(Nil), pool.checkin(conn))
  kit.equal(Error(error.Closed), pool.checkin(conn))
  kit.equal(
    Error(error.Closed),
    connection.send(conn, <<"late":utf8>>, Default),
  )
  let stats = kit.settled(pool)
  kit.equal(#(0, 1, 0), #(stats.leased, stats.idle, stats.closed))
}

pub fn with_connection_returns_what_the_function_returns_test() {
  let server = kit.echo_server()
  let options = kit.single(server) |> options.packet(Line)
  use pool <- kit.with_pool("with_connection", options)
  let ask = fn(conn) {
    let assert Ok(Nil) = connection.send(conn, <<"ask\n":utf8>>, kit.long())
    connection.recv(conn, Next, kit.long())
  }
  kit.equal(
    Ok(Ok(<<"ask\n":utf8>>)),
    pool.with_connection(pool, kit.long(), ask),
  )
  kit.equal(Ok(Ok(<<"ask\n":utf8>>)), pool.with_connection(pool, Default, ask))
  // Errors of the function's own are left as they are.
  kit.equal(
    Ok(Error("mine")),
    pool.with_connection(pool, Default, fn(_) { Error("mine") }),
  )
  let stats = kit.settled(pool)
  kit.equal(
    #(3, 3, 1, 0),
    #(stats.checkouts, stats.checkins, stats.created, stats.closed),
  )
}

pub fn crash_gives_the_connection_back_test() {
  let server = kit.echo_server()
  use pool <- kit.with_pool("crash", kit.single(server))
  let before = kit.settled(pool)
  kit.equal(#(1, 1, 0), #(before.idle, before.created, before.closed))
  let assert Error(_) =
    kit.crashes(fn() {
      pool.with_connection(pool, kit.long(), fn(conn) {
        let assert Ok(Nil) = connection.send(conn, <<"x":utf8>>, kit.long())
        panic
      })
    })
  // It had a reply under way: the next user gets a new one.
  kit.echo_through(pool, <<"hello":utf8>>)
  let after = kit.settled(pool)
  kit.equal(
    #(1, 0, 2, 1, 2, 2, 0),
    #(
      after.idle,
      after.leased,
      after.created,
      after.closed,
      after.checkouts,
      after.checkins,
      after.abandoned,
    ),
  )
}

pub fn owner_that_is_killed_gives_the_connection_back_test() {
  let server = kit.echo_server()
  use pool <- kit.with_pool("killed", kit.single(server))
  let job =
    kit.start(fn() {
      pool.with_connection(pool, Infinity, fn(conn) {
        connection.send(conn, <<"x":utf8>>, Infinity)
        kit.wait_until(fn() { False })
      })
    })
  kit.wait_until(fn() { kit.stats(pool).leased == 1 })
  kit.kill(job)
  kit.wait_until(fn() { kit.stats(pool).abandoned == 1 })
  kit.echo_through(pool, <<"hello":utf8>>)
  let stats = kit.settled(pool)
  kit.equal(#(1, 0), #(stats.idle, stats.leased))
}

pub fn full_test() {
  let server = kit.echo_server()
  let options = kit.single(server) |> options.max_waiting(AtMost(1))
  use pool <- kit.with_pool("full", options)
  let assert Ok(conn) = pool.checkout(pool, kit.long())
  kit.equal(Error(error.Full), pool.with_connection(pool, Ms(0), fn(_) { Nil }))
  kit.equal(
    Error(error.Full),
    pool.request(pool, <<"x":utf8>>, Bytes(1), Ms(0)),
  )
  let waiter =
    kit.start(fn() { pool.with_connection(pool, Infinity, fn(_) { "mine" }) })
  kit.wait_until(fn() { kit.stats(pool).waiting == 1 })
  let assert Error(error.Full) = pool.checkout(pool, Infinity)
  kit.equal(Ok(Nil), pool.checkin(conn))
  kit.equal(Ok("mine"), kit.await(waiter))
}

pub fn timeout_test() {
  let server = kit.echo_server()
  let options = kit.single(server) |> options.checkout_timeout(Ms(30))
  use pool <- kit.with_pool("timeout", options)
  let assert Ok(conn) = pool.checkout(pool, kit.long())
  let assert Error(error.Timeout) = pool.checkout(pool, Ms(20))
  let assert Error(error.Timeout) = pool.checkout(pool, Default)
  kit.equal(
    Error(error.Timeout),
    pool.with_connection(pool, Default, fn(_) { Nil }),
  )
  kit.equal(
    Error(error.Timeout),
    pool.request(pool, <<"x":utf8>>, Bytes(1), Ms(20)),
  )
  kit.equal(4, kit.stats(pool).timeouts)
  kit.equal(Ok(Nil), pool.checkin(conn))
  kit.echo_through(pool, <<"hello":utf8>>)
}

pub fn unavailable_until_the_server_is_up_test() {
  let server = kit.refusing_server()
  use pool <- kit.with_pool("unavailable", kit.single(server))
  kit.equal(error.Posix("econnrefused"), kit.unavailable(pool))
  kit.equal(
    Error(error.Unavailable(error.Posix("econnrefused"))),
    pool.request(pool, <<"x":utf8>>, Bytes(1), Ms(20)),
  )
  kit.up(server)
  kit.echo_through(pool, <<"hello":utf8>>)
}

pub fn unknown_host_test() {
  kit.no_name_server()
  let options =
    options.tcp("no-such-host.invalid", 7000) |> options.backoff(1, 50)
  use pool <- kit.with_pool("unknown_host", options)
  kit.equal(error.HostNotFound, kit.unavailable(pool))
}

pub fn not_found_test() {
  let nobody = pool.named("nobody")
  let assert Error(error.NotFound) = pool.checkout(nobody, Ms(10))
  kit.equal(
    Error(error.NotFound),
    pool.with_connection(nobody, Ms(10), fn(_) { Nil }),
  )
  kit.equal(
    Error(error.NotFound),
    pool.request(nobody, <<"x":utf8>>, Next, Ms(10)),
  )
  kit.equal(Error(error.NotFound), pool.stats(nobody))
  kit.equal(Error(error.NotFound), pool.stop(nobody))
  kit.equal(Error(error.NotFound), pool.reload_tls(nobody))
  kit.equal(Error(error.NotFound), pool.resize(nobody, 1, 0))
  kit.equal(Error(error.NotFound), pool.await_ready(nobody, 1, Default))
}

pub fn changes_while_it_runs_test() {
  use pool <- kit.with_pool("changes", kit.single(kit.echo_server()))
  kit.equal(Ok(Nil), pool.resize(pool, 3, 0))
  kit.equal(
    Ok(Nil),
    pool.update(pool, options.changes() |> options.max_waiting(AtMost(0))),
  )
  let assert Ok(stats) = pool.stats(pool)
  kit.equal(#(3, 0), #(stats.size, stats.max_overflow))
  kit.equal(Ok(Nil), pool.await_ready(pool, 3, kit.long()))
  kit.equal(Error(error.Timeout), pool.await_ready(pool, 4, Ms(0)))
  let assert Error(error.BadOption("size", _)) = pool.resize(pool, -1, 0)
  kit.equal(
    Error(error.NeedsRestart("transport")),
    pool.update(pool, options.tcp("127.0.0.1", 7000)),
  )
}

pub fn start_twice_and_stop_twice_test() {
  let options = kit.single(kit.echo_server())
  let twice = pool.named("twice")
  let assert Ok(_) = pool.start(twice, options)
  kit.equal(Error(error.AlreadyStarted), pool.start(twice, options))
  kit.equal(["twice"], pool.names())
  kit.equal(Ok(Nil), pool.stop(twice))
  kit.equal(Error(error.NotFound), pool.stop(twice))
  kit.equal([], pool.names())
}

pub fn stop_drains_test() {
  let options = kit.single(kit.echo_server())
  let drained = pool.named("drained")
  let assert Ok(_) = pool.start(drained, options)
  let assert Ok(conn) = pool.checkout(drained, kit.long())
  let waiter =
    kit.start(fn() { pool.with_connection(drained, Infinity, fn(_) { Nil }) })
  kit.wait_until(fn() { kit.stats(drained).waiting == 1 })
  kit.equal(Ok(Nil), pool.stop(drained))
  kit.equal(Error(error.Draining), kit.await(waiter))
  kit.equal(
    Error(error.Closed),
    connection.send(conn, <<"x":utf8>>, kit.long()),
  )
}

pub fn without_the_application_test() {
  kit.equal(Ok(Nil), pool.ensure_started())
  kit.stop_sockpool()
  let early = pool.named("early")
  let options = kit.single(kit.echo_server())
  kit.equal(Error(error.NotStarted), pool.start(early, options))
  kit.equal(Ok(Nil), pool.ensure_started())
  kit.equal(Ok(Nil), pool.ensure_started())
  use early <- kit.with_pool("early", options)
  kit.echo_through(early, <<"hello":utf8>>)
}

pub fn start_link_with_a_bad_option_test() {
  let options = kit.single(kit.echo_server()) |> options.size(-1)
  let assert Error(error.BadOption("size", _)) =
    pool.start_link(pool.named("linked"), options)
}

pub fn start_link_test() {
  let options = kit.single(kit.echo_server())
  let linked = pool.named("linked")
  let job =
    kit.start(fn() {
      let assert Ok(_) = pool.start_link(linked, options)
      kit.wait_until(fn() { False })
    })
  kit.wait_until(fn() {
    case pool.stats(linked) {
      Ok(stats) -> stats.idle == 1
      Error(_) -> False
    }
  })
  kit.echo_through(linked, <<"hello":utf8>>)
  kit.equal(Error(error.NotFound), pool.stop(linked))
  // It ends with the process that it is linked to.
  kit.kill(job)
  kit.wait_until(fn() { pool.names() == [] })
}

pub fn child_spec_test() {
  let options = kit.single(kit.echo_server())
  let supervised = pool.named("supervised")
  let #(supervisor, child) =
    kit.supervised(pool.child_spec(supervised, options))
  kit.echo_through(supervised, <<"hello":utf8>>)
  let restarted = kit.restart(supervisor)
  kit.equal(False, restarted == child)
  kit.settled(supervised)
  kit.echo_through(supervised, <<"hello":utf8>>)
  kit.stop_supervisor(supervisor)
  kit.equal(Error(error.NotFound), pool.stats(supervised))
}

pub fn stats_test() {
  let options =
    options.tcp("127.0.0.1", kit.port(kit.echo_server()))
    |> options.size(3)
    |> options.max_overflow(2)
  use pool <- kit.with_pool("stats", options)
  kit.settled(pool)
  let assert Ok(conn) = pool.checkout(pool, kit.long())
  kit.equal(
    pool.Stats(
      name: "stats",
      size: 3,
      max_overflow: 2,
      total: 3,
      idle: 2,
      leased: 1,
      connecting: 0,
      waiting: 0,
      oldest_wait: 0,
      checkouts: 1,
      checkins: 0,
      created: 3,
      reused: 0,
      closed: 0,
      abandoned: 0,
      leaked: 0,
      waited: 0,
      timeouts: 0,
      exhausted: 0,
      pipelined: 0,
      health_ok: 0,
      health_failed: 0,
      deferred: 0,
      connect_attempts: 3,
      connect_failures: 0,
      closed_by: [
        #(pool.Abandoned, 0),
        #(pool.Discarded, 0),
        #(pool.Exception, 0),
        #(pool.Health, 0),
        #(pool.IdleTimeout, 0),
        #(pool.IoError, 0),
        #(pool.IoTimeout, 0),
        #(pool.MaxHold, 0),
        #(pool.MaxLifetime, 0),
        #(pool.MaxUses, 0),
        #(pool.Options, 0),
        #(pool.Overflow, 0),
        #(pool.PeerClosed, 0),
        #(pool.Resize, 0),
        #(pool.Stopped, 0),
        #(pool.Unanswered, 0),
        #(pool.Unread, 0),
      ],
      connect_failed_by: [
        #(pool.ConnectDns, 0),
        #(pool.ConnectInit, 0),
        #(pool.ConnectOther, 0),
        #(pool.ConnectRefused, 0),
        #(pool.ConnectTimeout, 0),
        #(pool.ConnectTls, 0),
      ],
      errors: [
        #(pool.CheckoutClosed, 0),
        #(pool.CheckoutDraining, 0),
        #(pool.CheckoutFull, 0),
        #(pool.CheckoutTimeout, 0),
        #(pool.CheckoutUnavailable, 0),
      ],
      last_error: Error(Nil),
      last_error_at: Error(Nil),
    ),
    kit.stats(pool),
  )
  kit.equal(Ok(Nil), pool.checkin(conn))
  let assert Ok(pool.Histograms(
    bounds: [1, 2, 5, ..],
    in_use: pool.Histogram(count: 1, ..),
    wait: pool.Histogram(count: 1, buckets: [1, ..], ..),
    age: pool.Histogram(count: 0, sum: 0, ..),
    connect: pool.Histogram(count: 3, ..),
    tls: pool.Histogram(count: 0, ..),
    ..,
  )) = pool.histograms(pool)
}

/// In words, with the cause as a type.
pub fn explain_test() {
  let options = kit.single(kit.echo_server())
  let name = {
    use pool <- kit.with_pool("explain", options)
    let assert Ok([pool.Finding(pool.Well, pool.Healthy, text)]) =
      pool.explain(pool)
    let assert "explain (" <> _ = text
    pool
  }
  let assert Ok([pool.Finding(pool.Severe, pool.NotRunning, _)]) =
    pool.explain(name)
}

/// Those that nobody uses are asked, and counted apart from check-outs.
pub fn health_test() {
  let ask =
    options.Ask(<<"ping":utf8>>, options.Exactly(<<"ping":utf8>>), 100, 5000)
  let call =
    options.Call(
      fn(conn) {
        case
          connection.send(conn, <<"ping":utf8>>, Ms(5000)),
          connection.recv(conn, connection.Bytes(4), Ms(5000))
        {
          Ok(Nil), Ok(<<"ping":utf8>>) -> Ok(Nil)
          _, _ -> Error("no")
        }
      },
      100,
      5000,
    )
  let checked = fn(name, health) {
    let options = kit.single(kit.echo_server()) |> options.health(health)
    use pool <- kit.with_pool(name, options)
    kit.wait_until(fn() { kit.stats(pool).health_ok > 2 })
    kit.equal(#(0, 0, 0), #(
      kit.stats(pool).health_failed,
      kit.stats(pool).checkouts,
      kit.stats(pool).closed,
    ))
  }
  checked("asked", ask)
  checked("called", call)
}

pub fn many_processes_share_few_connections_test() {
  let server = kit.echo_server()
  let options =
    options.tcp("127.0.0.1", kit.port(server))
    |> options.size(2)
    |> options.max_overflow(3)
  use pool <- kit.with_pool("many", options)
  let jobs =
    kit.repeat(200, fn(n) {
      kit.start(fn() {
        let data = kit.copies(<<n:16>>, 50)
        kit.equal(Ok(data), pool.request(pool, data, Bytes(100), kit.long()))
      })
    })
  kit.await_all(jobs, fn(_) { Nil })
  let stats = kit.settled(pool)
  kit.equal(#(200, 200, 0), #(stats.checkouts, stats.checkins, stats.timeouts))
  kit.equal(True, kit.accepted(server) <= 5)
}

pub fn bad_arguments_test() {
  use pool <- kit.with_pool("bad_arguments", kit.single(kit.echo_server()))
  let assert Error(error.BadArgument("timeout", explanation)) =
    pool.checkout(pool, Ms(-1))
  kit.equal(
    "bad argument timeout: -1 (allowed: milliseconds from 0 to 4294967295, or infinity)",
    explanation,
  )
  let assert Error(error.BadArgument("timeout", _)) =
    pool.with_connection(pool, Ms(4_294_967_296), fn(_) { Nil })
  let assert Error(error.BadArgument("length", _)) =
    pool.request(pool, <<"x":utf8>>, Bytes(-1), Ms(10))
  let assert Error(error.BadArgument("data", _)) =
    pool.request(pool, <<1:3>>, Bytes(1), Ms(10))
  // Nothing tells where the reply would end.
  let assert Error(error.BadArgument("length", _)) =
    pool.request(pool, <<"x":utf8>>, Next, Ms(10))
}

pub fn names_as_erlang_has_them_test() {
  kit.equal(kit.pool_term("cache"), pool.named("cache"))
  kit.equal(
    kit.pool_term("{cache, 'pools@db1'}"),
    pool.on_node("cache", "pools@db1"),
  )
}

pub fn bad_names_test() {
  let options = kit.single(kit.echo_server())
  // An atom has room for 255 characters, and no pool is called undefined.
  let refused = fn(name) {
    let bad = pool.named(name)
    let assert Error(error.BadArgument("pool", _)) = pool.start(bad, options)
    let assert Error(error.BadArgument("pool", _)) =
      pool.checkout(bad, Ms(10))
    Nil
  }
  refused(kit.text_of_300())
  // 180 characters as they are written, and twice as many for an atom.
  refused(kit.six_times(kit.six_times("ééééé")))
  refused("undefined")
}
