//// Batches, one after the other and in parallel, and the stress test.

import distribute/connection_pool.{
  BatchResult, ConnectionFailed, InvalidConfig, InvalidPool, PoolExhausted,
  PoolStats,
}
import node_kit
import sockpool/connection.{Ms}
import sockpool/error
import sockpool/options
import sockpool/pool
import sockpool/term
import sockpool_kit as kit

// One after the other.

fn send_number(conn, n) {
  connection_pool.send(conn, "numbers", n)
}

/// Of the one pool, under whatever handles.
fn checkouts() {
  kit.stats(pool.named("distribute_pool_1")).checkouts
}

/// What the process called numbers has got, once it has so many.
fn numbers(collector, count) {
  kit.wait_until(fn() { kit.length(node_kit.collected(collector)) >= count })
  let assert Ok(got) =
    term.as_list(term.from(node_kit.collected(collector)), term.as_int)
  got
}

pub fn send_batch_test() {
  use node, pool <- node_kit.with_pool(3)
  let collector = node_kit.collect(node, "numbers")
  let all = kit.repeat(50, fn(n) { n })
  let before = checkouts()
  let assert Ok(results) = connection_pool.send_batch(pool, all, send_number)
  kit.equal(kit.repeat(50, fn(_) { Ok(Nil) }), results)
  kit.equal(all, numbers(collector, 50))
  kit.equal(PoolStats(3, 3, 0, 0, 50), node_kit.stats(pool))
  // One connection for all of them.
  kit.equal(before + 1, checkouts())
  kit.equal(Ok([]), connection_pool.send_batch(pool, [], send_number))
}

pub fn results_are_in_order_test() {
  use _, pool <- node_kit.with_pool(1)
  kit.equal(
    Ok([Ok("hello a"), Ok("hello b"), Ok("hello c")]),
    connection_pool.send_batch(pool, ["a", "b", "c"], node_kit.greet),
  )
}

pub fn a_batch_ends_where_the_node_was_killed_test() {
  use node, pool <- node_kit.with_mortal(2)
  let barrier = node_kit.barrier(1)
  let result =
    connection_pool.send_batch(pool, [1, 2, 3, 4, 5], fn(conn, n) {
      node_kit.arrive(barrier)
      case n {
        3 -> kit.stop_node(node)
        _ -> Nil
      }
      node_kit.greet(conn, "you")
    })
  kit.equal(Error(ConnectionFailed), result)
  kit.equal(3, node_kit.arrivals(barrier))
  kit.equal(#(1, 2), node_kit.counts(pool))
}

pub fn a_batch_ends_where_there_is_no_answer_test() {
  use _, pool <- node_kit.with_pool(1)
  let barrier = node_kit.barrier(1)
  let result =
    connection_pool.send_batch(pool, [1, 2, 3], fn(conn, n) {
      node_kit.arrive(barrier)
      case n {
        2 -> node_kit.time_out(conn)
        _ -> Error(error.Full)
      }
    })
  kit.equal(Error(ConnectionFailed), result)
  kit.equal(2, node_kit.arrivals(barrier))
  kit.equal(PoolStats(1, 1, 0, 1, 1), node_kit.settled(pool, 1))
}

pub fn a_batch_ends_where_the_function_crashes_test() {
  use node, pool <- node_kit.with_pool(1)
  let collector = node_kit.collect(node, "numbers")
  let assert Error(_) =
    kit.crashes(fn() {
      connection_pool.send_batch(pool, [1, 2, 3], fn(conn, n) {
        let assert True = n < 3
        send_number(conn, n)
      })
    })
  kit.equal(0, node_kit.stats(pool).in_use_connections)
  kit.equal([1, 2], numbers(collector, 2))
  kit.equal(PoolStats(1, 1, 0, 1, 2), node_kit.settled(pool, 1))
}

pub fn a_batch_of_a_pool_that_is_destroyed_test() {
  use node <- node_kit.with_node
  let assert Ok(pool) = connection_pool.new_with(node_kit.options(node, 1))
  let result =
    connection_pool.send_batch(pool, [1, 2, 3], fn(conn, n) {
      case n {
        2 -> kit.equal(Ok(Nil), connection_pool.destroy(pool))
        _ -> Nil
      }
      node_kit.greet(conn, "you")
    })
  kit.equal(Error(ConnectionFailed), result)
  node_kit.nothing_is_left(node)
}

// In parallel.

pub fn parallel_test() {
  use node, pool <- node_kit.with_pool(4)
  // Nobody passes before four are there: one after the other would not do.
  let barrier = node_kit.barrier(4)
  let all = kit.repeat(20, fn(n) { n })
  let result =
    connection_pool.send_batch_parallel(pool, all, fn(conn, n) {
      node_kit.arrive(barrier)
      let assert Ok(_) = node_kit.greet(conn, "you")
      node_kit.arrive(barrier)
      n
    })
  kit.equal(Ok(BatchResult(all, [])), result)
  kit.equal(40, node_kit.arrivals(barrier))
  node_kit.no_messages()
  kit.equal(PoolStats(4, 4, 0, 0, 20), node_kit.stats(pool))
  kit.equal(4, node_kit.connections_at(node))
}

pub fn no_more_at_once_than_connections_test() {
  // Nobody waits for a connection: with a third one at the same time there would be failures.
  let impatient = options.checkout_timeout(_, Ms(0))
  use _, pool <- node_kit.with_pool_of(2, impatient)
  let barrier = node_kit.barrier(2)
  let all = kit.repeat(40, fn(n) { n })
  let result =
    connection_pool.send_batch_parallel(pool, all, fn(conn, n) {
      node_kit.arrive(barrier)
      let assert Ok(_) = node_kit.greet(conn, "you")
      node_kit.arrive(barrier)
      n
    })
  kit.equal(Ok(BatchResult(all, [])), result)
}

pub fn overflow_counts_too_test() {
  let overflowing = options.max_overflow(_, 2)
  use _, pool <- node_kit.with_pool_of(1, overflowing)
  let barrier = node_kit.barrier(3)
  let result =
    connection_pool.send_batch_parallel(pool, [1, 2, 3], fn(_, n) {
      node_kit.arrive(barrier)
      n
    })
  kit.equal(Ok(BatchResult([1, 2, 3], [])), result)
}

pub fn parallel_with_nothing_to_do_test() {
  use _, pool <- node_kit.with_pool(1)
  kit.equal(
    Ok(BatchResult([], [])),
    connection_pool.send_batch_parallel(pool, [], node_kit.greet),
  )
  kit.equal(#(0, 0), node_kit.counts(pool))
}

pub fn a_crash_in_parallel_is_one_failure_test() {
  use _, pool <- node_kit.with_pool(3)
  // All three are in their functions when one of them crashes and one is killed.
  let barrier = node_kit.barrier(3)
  let result =
    connection_pool.send_batch_parallel(
      pool,
      kit.repeat(6, fn(n) { n }),
      fn(conn, n) {
        let assert Ok(_) = node_kit.greet(conn, "you")
        node_kit.arrive(barrier)
        case n {
          2 -> panic
          4 -> node_kit.kill_self()
          6 -> {
            let _ = node_kit.time_out(conn)
            Nil
          }
          _ -> Nil
        }
        let assert Ok(text) = node_kit.greet(conn, "you")
        #(n, text)
      },
    )
  kit.equal(
    Ok(
      BatchResult(
        [#(1, "hello you"), #(3, "hello you"), #(5, "hello you")],
        [
          #(1, ConnectionFailed),
          #(3, ConnectionFailed),
          #(5, ConnectionFailed),
        ],
      ),
    ),
    result,
  )
  node_kit.no_messages()
  kit.equal(PoolStats(3, 3, 0, 3, 3), node_kit.settled(pool, 3))
}

pub fn a_node_killed_in_parallel_test() {
  use node, pool <- node_kit.with_mortal(3)
  let barrier = node_kit.barrier(3)
  let assert Ok(BatchResult(successful, failed)) =
    connection_pool.send_batch_parallel(pool, [1, 2, 3, 4, 5, 6], fn(conn, n) {
      // The first three pass; then the node is gone, and the others get no connection.
      node_kit.arrive(barrier)
      let assert Ok(_) = node_kit.greet(conn, "you")
      node_kit.arrive(barrier)
      case n {
        1 -> kit.stop_node(node)
        _ -> Nil
      }
      node_kit.arrive(barrier)
      node_kit.greet(conn, "nobody")
    })
  kit.equal([], successful)
  kit.equal(
    kit.repeat(6, fn(n) { #(n - 1, ConnectionFailed) }),
    failed,
  )
  kit.equal(#(6, 0), node_kit.counts(pool))
}

pub fn an_exhausted_pool_in_parallel_test() {
  let impatient = options.checkout_timeout(_, Ms(20))
  use _, pool <- node_kit.with_pool_of(1, impatient)
  let result =
    connection_pool.with_connection(pool, fn(_) {
      connection_pool.send_batch_parallel(pool, ["a", "b"], node_kit.greet)
    })
  kit.equal(
    Ok(Ok(BatchResult([], [#(0, PoolExhausted), #(1, PoolExhausted)]))),
    result,
  )
  kit.equal(#(2, 1), node_kit.counts(pool))
}

pub fn destroyed_in_parallel_test() {
  use node <- node_kit.with_node
  let assert Ok(pool) = connection_pool.new_with(node_kit.options(node, 1))
  let result =
    connection_pool.send_batch_parallel(pool, [1, 2, 3], fn(_, n) {
      kit.equal(Ok(Nil), connection_pool.destroy(pool))
      n
    })
  kit.equal(
    Ok(BatchResult([1], [#(1, InvalidPool), #(2, InvalidPool)])),
    result,
  )
  node_kit.nothing_is_left(node)
}

pub fn the_functions_end_with_the_caller_test() {
  use _, pool <- node_kit.with_pool(2)
  let barrier = node_kit.barrier(3)
  let job =
    kit.start(fn() {
      connection_pool.send_batch_parallel(pool, [1, 2, 3, 4], fn(conn, _) {
        let assert Ok(_) = node_kit.greet(conn, "you")
        node_kit.arrive(barrier)
        // Only two ever come here.
        node_kit.arrive(barrier)
      })
    })
  node_kit.arrive(barrier)
  kit.equal(2, node_kit.stats(pool).in_use_connections)
  kit.kill(job)
  kit.equal(PoolStats(2, 2, 0, 0, 0), node_kit.settled(pool, 2))
}

// The stress test.

pub fn stress_test_test() {
  use node, pool <- node_kit.with_pool(3)
  let before = checkouts()
  node_kit.count_calls(node)
  kit.equal(
    Ok(PoolStats(3, 3, 0, 0, 400)),
    connection_pool.stress_test(pool, 50, 8),
  )
  kit.equal(3, node_kit.connections_at(node))
  node_kit.no_messages()
  kit.equal(before + 400, checkouts())
  kit.equal(400, node_kit.calls(node))
}

pub fn stress_test_of_nothing_test() {
  use _, pool <- node_kit.with_pool(1)
  let nothing = Ok(PoolStats(1, 1, 0, 0, 0))
  kit.equal(nothing, connection_pool.stress_test(pool, 0, 5))
  kit.equal(nothing, connection_pool.stress_test(pool, 5, 0))
  kit.equal(Error(InvalidConfig), connection_pool.stress_test(pool, -1, 1))
  kit.equal(Error(InvalidConfig), connection_pool.stress_test(pool, 1, -1))
}

pub fn stress_test_without_a_node_test() {
  let node = node_kit.start_node()
  let options =
    node_kit.options(node, 2) |> options.checkout_timeout(Ms(1))
  let assert Ok(pool) = connection_pool.new_with(options)
  kit.stop_node(node)
  let assert Ok(stats) = connection_pool.stress_test(pool, 5, 4)
  kit.equal(
    #(20, 0, 0),
    #(
      stats.failed_operations,
      stats.successful_operations,
      stats.in_use_connections,
    ),
  )
  kit.equal(Ok(Nil), connection_pool.destroy(pool))
  node_kit.nothing_is_left_here()
}
