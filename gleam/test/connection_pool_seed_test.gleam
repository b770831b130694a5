//// The examples of seed_examples.gleam do what they say, and the types are those of that document.

import distribute/connection_pool.{
  type BatchResult, type Connection, type Pool, type PoolError, type PoolStats,
  ConnectionFailed, InvalidPool, PoolExhausted,
}
import node_kit
import seed_examples.{Record, Request, Response}
import sockpool/connection.{Ms}
import sockpool/options
import sockpool/pool
import sockpool/term
import sockpool_kit as kit

/// Compiles only where every function has the type of that document.
pub type Functions(a, msg, result) {
  Functions(
    new: fn(String, Int) -> Result(Pool, PoolError),
    with_connection: fn(Pool, fn(Connection) -> a) -> Result(a, PoolError),
    stats: fn(Pool) -> Result(PoolStats, PoolError),
    destroy: fn(Pool) -> Result(Nil, PoolError),
    send_batch: fn(Pool, List(msg), fn(Connection, msg) -> result) ->
      Result(List(result), PoolError),
    send_batch_parallel: fn(Pool, List(msg), fn(Connection, msg) -> result) ->
      Result(BatchResult(result), PoolError),
    stress_test: fn(Pool, Int, Int) -> Result(PoolStats, PoolError),
  )
}

pub fn functions() -> Functions(a, msg, result) {
  Functions(
    new: connection_pool.new,
    with_connection: connection_pool.with_connection,
    stats: connection_pool.stats,
    destroy: connection_pool.destroy,
    send_batch: connection_pool.send_batch,
    send_batch_parallel: connection_pool.send_batch_parallel,
    stress_test: connection_pool.stress_test,
  )
}

pub fn creating_a_pool_test() {
  kit.no_name_server()
  kit.equal(Error(ConnectionFailed), seed_examples.setup_pool())
  kit.equal(["Failed to connect to target node"], node_kit.printed())
  let assert Error(_) = kit.crashes(seed_examples.example_of_new)
}

pub fn using_connections_test() {
  use node, pool <- node_kit.with_pool(2)
  kit.equal(Ok(Ok("hello you")), seed_examples.send_request(pool, "you"))
  let collector = node_kit.collect(node, "seed")
  kit.equal(Ok(Ok(Nil)), seed_examples.example_of_with_connection(pool))
  kit.wait_until(fn() {
    node_kit.collected(collector) == [term.from("Hello")]
  })
}

pub fn batch_operations_test() {
  let impatient = options.checkout_timeout(_, Ms(10))
  use _, pool <- node_kit.with_pool_of(1, impatient)
  kit.equal(
    Ok([Ok("hello a"), Ok("hello b")]),
    seed_examples.send_many_messages(pool, ["a", "b"]),
  )
  kit.equal(["Sent 2 messages"], node_kit.printed())
  kit.equal(
    Ok(Error(PoolExhausted)),
    connection_pool.with_connection(pool, fn(_) {
      seed_examples.send_many_messages(pool, ["c"])
    }),
  )
  kit.equal(["Pool exhausted, try again later"], node_kit.printed())
}

pub fn request_handler_test() {
  use node <- node_kit.with_node
  let handle = seed_examples.start_request_handler(kit.node_name(node))
  kit.equal(Response(200, "hello /index"), handle(Request("/index")))
  // The handler has the pool, and nobody else.
  kit.equal(Ok(Nil), pool.stop(pool.named("distribute_pool_1")))
  kit.equal(Response(500, "Connection error"), handle(Request("/index")))
  node_kit.nothing_is_left(node)
}

pub fn bulk_data_synchronization_test() {
  use _, pool <- node_kit.with_pool(2)
  let record = fn(n) { Record(n, "value") }
  kit.equal(Ok(Nil), seed_examples.sync_records(pool, kit.repeat(5, record)))
  kit.equal(["Synced 5 records, 0 failed"], node_kit.printed())
  let bad = [record(1), record(2), Record(3, ""), record(4)]
  kit.equal(Error(ConnectionFailed), seed_examples.sync_records(pool, bad))
  kit.equal(["Synced 3 records, 1 failed"], node_kit.printed())
}

pub fn health_monitoring_test() {
  use node <- node_kit.with_node
  let assert Ok(pool) = connection_pool.new_with(node_kit.options(node, 1))
  seed_examples.monitor_pool_health(pool)
  kit.equal([], node_kit.printed())
  let assert Ok(Nil) =
    connection_pool.with_connection(pool, fn(_) {
      seed_examples.monitor_pool_health(pool)
    })
  kit.equal(["Warning: Pool utilization above 80%"], node_kit.printed())
  let failing = fn(_, _) { panic }
  let assert Ok(_) =
    connection_pool.send_batch_parallel(
      pool,
      kit.repeat(101, fn(n) { n }),
      failing,
    )
  node_kit.settled(pool, 1)
  seed_examples.monitor_pool_health(pool)
  kit.equal(["Warning: High failure rate"], node_kit.printed())
  kit.equal(Ok(Nil), connection_pool.destroy(pool))
  seed_examples.monitor_pool_health(pool)
  kit.equal(["Pool has been destroyed"], node_kit.printed())
  node_kit.nothing_is_left(node)
}

pub fn the_type_of_every_function_test() {
  let functions = functions()
  kit.equal(Error(InvalidPool), functions.destroy(destroyed()))
}

fn destroyed() {
  use node <- node_kit.with_node
  let assert Ok(pool) = connection_pool.new_with(node_kit.options(node, 1))
  kit.equal(Ok(Nil), connection_pool.destroy(pool))
  pool
}
