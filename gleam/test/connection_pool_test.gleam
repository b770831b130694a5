//// Pools of node connections: how they begin and end, single operations, and how these are counted.

import distribute/connection_pool.{
  ConnectionFailed, InvalidConfig, InvalidPool, PoolExhausted, PoolStats,
}
import node_kit
import sockpool/connection.{Ms}
import sockpool/error
import sockpool/options
import sockpool/pool
import sockpool/tls
import sockpool_kit as kit

pub fn the_life_of_a_pool_test() {
  use node <- node_kit.with_node
  let assert Ok(pool) = connection_pool.new(kit.node_name(node), 3)
  kit.equal(PoolStats(3, 3, 0, 0, 0), node_kit.settled(pool, 3))
  kit.equal(3, node_kit.connections_at(node))
  let inside =
    connection_pool.with_connection(pool, fn(conn) {
      kit.equal(Ok("hello Ada"), node_kit.greet(conn, "Ada"))
      node_kit.stats(pool)
    })
  kit.equal(Ok(PoolStats(3, 2, 1, 0, 0)), inside)
  kit.equal(PoolStats(3, 3, 0, 0, 1), node_kit.stats(pool))
  kit.equal(3, node_kit.connections_at(node))
  kit.equal(Ok(Nil), connection_pool.destroy(pool))
  node_kit.nothing_is_left(node)
  kit.equal(Error(InvalidPool), connection_pool.destroy(pool))
}

fn is_invalid(pool) {
  let no_use = fn(_) { panic }
  let no_send = fn(_, _) { panic }
  kit.equal(Error(InvalidPool), connection_pool.stats(pool))
  kit.equal(Error(InvalidPool), connection_pool.with_connection(pool, no_use))
  kit.equal(Error(InvalidPool), connection_pool.send_batch(pool, [1], no_send))
  kit.equal(Error(InvalidPool), connection_pool.send_batch(pool, [], no_send))
  kit.equal(
    Error(InvalidPool),
    connection_pool.send_batch_parallel(pool, [1], no_send),
  )
  kit.equal(
    Error(InvalidPool),
    connection_pool.send_batch_parallel(pool, [], no_send),
  )
  kit.equal(Error(InvalidPool), connection_pool.stress_test(pool, 1, 1))
  kit.equal(Error(InvalidPool), connection_pool.destroy(pool))
}

pub fn a_destroyed_pool_stays_so_while_others_come_and_go_test() {
  use node <- node_kit.with_node
  let options = node_kit.options(node, 1)
  let assert Ok(old) = connection_pool.new_with(options)
  kit.equal(Ok(Nil), connection_pool.destroy(old))
  is_invalid(old)
  // The new one has the old one's name, so that names do not become ever more.
  let assert Ok(new) = connection_pool.new_with(options)
  kit.equal(["distribute_pool_1"], pool.names())
  is_invalid(old)
  node_kit.settled(new, 1)
  let assert Ok(second) = connection_pool.new_with(options)
  kit.equal(
    True,
    pool.names() == ["distribute_pool_1", "distribute_pool_2"]
    || pool.names() == ["distribute_pool_2", "distribute_pool_1"],
  )
  kit.equal(Ok(Nil), connection_pool.destroy(new))
  is_invalid(new)
  let assert Ok(third) = connection_pool.new_with(options)
  kit.equal(#(0, 0), node_kit.counts(third))
  kit.equal(Ok(Nil), connection_pool.destroy(second))
  kit.equal(["distribute_pool_1"], pool.names())
  kit.equal(Ok(Nil), connection_pool.destroy(third))
  node_kit.nothing_is_left(node)
}

pub fn a_restart_of_sockpool_ends_its_pools_test() {
  use node <- node_kit.with_node
  let options = node_kit.options(node, 1)
  let assert Ok(old) = connection_pool.new_with(options)
  kit.stop_sockpool()
  is_invalid(old)
  let assert Ok(new) = connection_pool.new_with(options)
  kit.equal(["distribute_pool_1"], pool.names())
  is_invalid(old)
  kit.equal(Ok(Nil), connection_pool.destroy(new))
  node_kit.nothing_is_left(node)
}

pub fn invalid_config_test() {
  let refused = fn(node, connections) {
    kit.equal(Error(InvalidConfig), connection_pool.new(node, connections))
  }
  refused("worker@host", 0)
  refused("worker@host", -1)
  refused("worker@host", 1_000_001)
  refused("", 1)
  refused("worker", 1)
  refused("@host", 1)
  refused("worker@", 1)
  refused("worker@host@host", 1)
  refused("two words@host", 1)
  refused(kit.text_of_300() <> "@host", 1)
  let wrong = fn(key, options) {
    kit.equal(Error(InvalidConfig), connection_pool.new_with(options))
    let assert Error(error.BadOption(found, _)) = options.check(options)
    kit.equal(key, found)
  }
  let node = options.node("worker@host")
  wrong("max_inflight", options.max_inflight(node, 0))
  wrong("port", options.node_port(node, 65_536))
  wrong("packet", options.packet(node, connection.Line))
  wrong("init", options.init(node, fn(_) { Ok(Nil) }))
  kit.equal(Ok(Nil), options.check(node))
  // No pools of nodes.
  kit.equal(
    Error(InvalidConfig),
    connection_pool.new_with(options.tcp("127.0.0.1", 1)),
  )
  kit.equal([], pool.names())
}

pub fn nobody_there_test() {
  use node <- node_kit.with_node
  let name = "nobody_" <> kit.node_name(node)
  let lines =
    node_kit.logged(fn() {
      kit.equal(Error(ConnectionFailed), connection_pool.new(name, 3))
    })
  let reason = "{no_such_node,'" <> name <> "'}"
  kit.equal(
    True,
    kit.contains(
      lines,
      "no pool of " <> name <> ": cannot connect: " <> reason,
    ),
  )
  kit.equal(
    Error(ConnectionFailed),
    connection_pool.new("nobody@no-such-host.invalid", 3),
  )
  node_kit.nothing_is_left(node)
}

pub fn cookie_test() {
  use node <- node_kit.with_node
  let options = node_kit.options(node, 2)
  node_kit.set_cookie(node, "another")
  kit.equal(Error(ConnectionFailed), connection_pool.new_with(options))
  kit.equal([], pool.names())
  let right = options.cookie(options, fn() { "another" })
  let assert Ok(pool) = connection_pool.new_with(right)
  node_kit.settled(pool, 2)
  kit.equal(Ok(Nil), connection_pool.destroy(pool))
  node_kit.set_cookie(node, node_kit.our_cookie())
  node_kit.nothing_is_left(node)
}

pub fn node_port_test() {
  use node <- node_kit.with_node
  let at = fn(port) {
    node_kit.options(node, 1)
    |> options.node_port(port)
    |> connection_pool.new_with
  }
  kit.equal(
    Error(ConnectionFailed),
    at(kit.port(kit.refusing_server())),
  )
  let assert Ok(pool) = at(node_kit.port(node))
  kit.equal(Ok(Ok("hello you")), greet_through(pool, "you"))
  kit.equal(Ok(Nil), connection_pool.destroy(pool))
  node_kit.nothing_is_left(node)
}

pub fn tls_distribution_test() {
  let certificates = kit.certificates()
  let node = node_kit.start_tls_node(certificates)
  let options = node_kit.options(node, 2)
  let trust =
    tls.new()
    |> tls.cacertfile(certificates <> "/ca.pem")
    |> tls.server_name("localhost")
  let identity =
    trust
    |> tls.certfile(certificates <> "/client.pem")
    |> tls.keyfile(certificates <> "/client.key")
  let failed = Error(ConnectionFailed)
  kit.equal(failed, connection_pool.new_with(options))
  kit.equal(
    failed,
    connection_pool.new_with(options |> options.node_tls(trust)),
  )
  let assert Ok(pool) =
    connection_pool.new_with(options |> options.node_tls(identity))
  kit.equal(Ok(Ok("hello you")), greet_through(pool, "you"))
  kit.equal(Ok(Nil), connection_pool.destroy(pool))
  node_kit.nothing_is_left_here()
  kit.end_node(node)
}

/// Something listens, but says nothing.
fn silent(connect_timeout_ms: Int) {
  options.node("silent@127.0.0.1")
  |> options.node_port(kit.port(kit.silent_server()))
  |> options.connect_timeout(Ms(connect_timeout_ms))
}

pub fn the_wait_for_a_silent_node_ends_test() {
  kit.equal(Error(ConnectionFailed), connection_pool.new_with(silent(200)))
  node_kit.nothing_is_left_here()
}

pub fn who_is_killed_in_new_leaves_nothing_test() {
  let options = silent(60_000)
  let job = kit.start(fn() { connection_pool.new_with(options) })
  kit.wait_until(fn() { pool.names() == ["distribute_pool_1"] })
  kit.kill(job)
  kit.wait_until(fn() { pool.names() == [] })
  node_kit.nothing_is_left_here()
}

pub fn the_maker_may_die_test() {
  use node <- node_kit.with_node
  let options = node_kit.options(node, 1)
  let assert Ok(pool) =
    kit.await(kit.start(fn() { connection_pool.new_with(options) }))
  kit.equal(Ok(Ok("hello you")), greet_through(pool, "you"))
  kit.equal(Ok(Nil), connection_pool.destroy(pool))
  node_kit.nothing_is_left(node)
}

fn greet_through(pool, name) {
  connection_pool.with_connection(pool, node_kit.greet(_, name))
}

pub fn a_crash_gives_the_connection_back_test() {
  use node, pool <- node_kit.with_pool(2)
  let closed = fn() { kit.stats(pool.named("distribute_pool_1")).closed }
  let closed_before = closed()
  let assert Error(_) =
    kit.crashes(fn() {
      connection_pool.with_connection(pool, fn(conn) {
        let assert Ok(_) = node_kit.greet(conn, "crash")
        panic
      })
    })
  kit.equal(0, node_kit.stats(pool).in_use_connections)
  kit.equal(PoolStats(2, 2, 0, 1, 0), node_kit.settled(pool, 2))
  // It was replaced.
  kit.equal(closed_before + 1, closed())
  kit.wait_until(fn() { node_kit.connections_at(node) == 2 })
  kit.equal(Ok(Ok("hello you")), greet_through(pool, "you"))
  kit.equal(#(1, 1), node_kit.counts(pool))
}

pub fn a_killed_process_gives_the_connection_back_test() {
  use _, pool <- node_kit.with_pool(1)
  let barrier = node_kit.barrier(2)
  let job =
    kit.start(fn() {
      connection_pool.with_connection(pool, fn(conn) {
        let assert Ok(_) = node_kit.greet(conn, "victim")
        node_kit.arrive(barrier)
        node_kit.arrive(barrier)
      })
    })
  node_kit.arrive(barrier)
  kit.equal(1, node_kit.stats(pool).in_use_connections)
  kit.kill(job)
  kit.equal(Ok(Ok("hello you")), greet_through(pool, "you"))
  kit.equal(#(0, 1), node_kit.counts(pool))
}

pub fn exhausted_test() {
  let impatient = options.checkout_timeout(_, Ms(20))
  use _, pool <- node_kit.with_pool_of(1, impatient)
  let result =
    connection_pool.with_connection(pool, fn(_) { greet_through(pool, "you") })
  kit.equal(Ok(Error(PoolExhausted)), result)
  kit.equal(PoolStats(1, 1, 0, 1, 1), node_kit.stats(pool))
}

pub fn exhausted_at_once_test() {
  let impatient = options.checkout_timeout(_, Ms(0))
  use _, pool <- node_kit.with_pool_of(1, impatient)
  let result =
    connection_pool.with_connection(pool, fn(_) {
      #(
        greet_through(pool, "you"),
        connection_pool.send_batch(pool, ["you"], node_kit.greet),
      )
    })
  kit.equal(Ok(#(Error(PoolExhausted), Error(PoolExhausted))), result)
  kit.equal(PoolStats(1, 1, 0, 2, 1), node_kit.stats(pool))
}

pub fn destroyed_while_in_use_test() {
  use node <- node_kit.with_node
  let assert Ok(pool) = connection_pool.new_with(node_kit.options(node, 1))
  let result =
    connection_pool.with_connection(pool, fn(conn) {
      let waiter = kit.start(fn() { greet_through(pool, "late") })
      kit.wait_until(fn() {
        kit.stats(pool.named("distribute_pool_1")).waiting == 1
      })
      kit.equal(Ok(Nil), connection_pool.destroy(pool))
      kit.equal(Error(InvalidPool), kit.await(waiter))
      node_kit.greet(conn, "late")
    })
  kit.equal(Ok(Error(error.Closed)), result)
  is_invalid(pool)
  node_kit.nothing_is_left(node)
}

pub fn a_connection_ends_with_its_callback_test() {
  use _, pool <- node_kit.with_pool(1)
  let assert Ok(conn) = connection_pool.with_connection(pool, fn(conn) { conn })
  kit.equal(Error(error.Closed), node_kit.greet(conn, "late"))
  kit.equal(Error(error.Closed), connection_pool.send(conn, "nobody", 1))
  kit.equal(#(0, 1), node_kit.counts(pool))
}

pub fn a_call_without_an_answer_is_a_failed_operation_test() {
  use _, pool <- node_kit.with_pool(1)
  kit.equal(
    Ok(Error(error.Timeout)),
    connection_pool.with_connection(pool, node_kit.time_out),
  )
  kit.equal(PoolStats(1, 1, 0, 1, 0), node_kit.settled(pool, 1))
}

pub fn killed_node_test() {
  use node, pool <- node_kit.with_mortal(2)
  let result =
    connection_pool.with_connection(pool, fn(conn) {
      kit.stop_node(node)
      node_kit.greet(conn, "nobody")
    })
  let assert Ok(Error(reason)) = result
  kit.equal(
    True,
    reason == error.Closed || reason == error.Posix("econnreset"),
  )
  kit.equal(#(1, 0), node_kit.counts(pool))
  kit.equal(Error(ConnectionFailed), greet_through(pool, "nobody"))
  kit.equal(#(2, 0), node_kit.counts(pool))
}

pub fn many_processes_share_few_connections_test() {
  use node, pool <- node_kit.with_pool(3)
  let jobs =
    kit.repeat(200, fn(_) { kit.start(fn() { greet_through(pool, "all") }) })
  kit.await_all(jobs, fn(result) { kit.equal(Ok(Ok("hello all")), result) })
  kit.equal(PoolStats(3, 3, 0, 0, 200), node_kit.stats(pool))
  kit.equal(3, node_kit.connections_at(node))
}
