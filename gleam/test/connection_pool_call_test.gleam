//// call and send on a connection.

import distribute/connection_pool
import node_kit
import sockpool/connection.{Default, Infinity, Ms}
import sockpool/error
import sockpool/options
import sockpool/term
import sockpool_kit as kit

fn on_connection(run) {
  use node, pool <- node_kit.with_pool(1)
  let assert Ok(result) =
    connection_pool.with_connection(pool, fn(conn) { run(node, conn) })
  result
}

pub fn call_test() {
  use node, conn <- on_connection
  let assert Ok(name) = connection_pool.call(conn, "erlang", "node", [], Default)
  kit.equal(Ok(kit.node_name(node)), term.as_atom(name))
  let assert Ok(sum) =
    connection_pool.call(
      conn,
      "lists",
      "sum",
      [term.from([1, 2, 3])],
      Infinity,
    )
  kit.equal(Ok(6), term.as_int(sum))
  let assert Ok(nobody) =
    connection_pool.call(
      conn,
      "erlang",
      "whereis",
      [term.atom("nobody")],
      Ms(20_000),
    )
  kit.equal(Ok("undefined"), term.as_atom(nobody))
  kit.equal(Ok("hello Grace"), node_kit.greet(conn, "Grace"))
}

pub fn exceptions_test() {
  use _, conn <- on_connection
  let fail = fn(class, reason) {
    node_kit.call(conn, "fail", [term.atom(class), reason], Default)
  }
  kit.equal(
    Error(error.Exception("throw", "<<\"up\">>")),
    fail("throw", term.from("up")),
  )
  kit.equal(
    Error(error.Exception("exit", "gone")),
    fail("exit", term.atom("gone")),
  )
  kit.equal(
    Error(error.Exception("error", "{odd,1}")),
    fail("error", term.from(#(term.atom("odd"), 1))),
  )
  kit.equal(
    Error(error.Exception("error", "undef")),
    connection_pool.call(conn, "no_such_module", "f", [], Default),
  )
  kit.equal(
    Error(error.Exception("exit", "{signal,killed}")),
    node_kit.call(conn, "kill_self", [], Default),
  )
}

pub fn exceptions_are_answers_test() {
  use _, pool <- node_kit.with_pool(1)
  let assert Ok(Error(error.Exception(_, _))) =
    connection_pool.with_connection(pool, fn(conn) {
      connection_pool.call(conn, "no_such_module", "f", [], Default)
    })
  kit.equal(#(0, 1), node_kit.counts(pool))
}

pub fn a_call_that_times_out_test() {
  use _, conn <- on_connection
  kit.equal(Error(error.Timeout), node_kit.time_out(conn))
  kit.equal(Ok("hello again"), node_kit.greet(conn, "again"))
}

pub fn max_inflight_test() {
  let one = options.max_inflight(_, 1)
  use _, pool <- node_kit.with_pool_of(1, one)
  let assert Ok(Error(error.Busy)) =
    connection_pool.with_connection(pool, fn(conn) {
      kit.equal(Error(error.Timeout), node_kit.time_out(conn))
      node_kit.greet(conn, "too many")
    })
}

pub fn busy_is_no_failure_test() {
  let one = options.max_inflight(_, 1)
  use _, pool <- node_kit.with_pool_of(2, one)
  let is_waiting = fn() {
    let assert Ok(Ok(pid)) =
      connection_pool.with_connection(pool, fn(conn) {
        let arguments = [term.atom("told")]
        connection_pool.call(conn, "erlang", "whereis", arguments, Default)
      })
    term.as_atom(pid) != Ok("undefined")
  }
  let assert Ok(Ok(Ok(Nil))) =
    connection_pool.with_connection(pool, fn(conn) {
      let job =
        kit.start(fn() {
          let arguments = [term.atom("told")]
          node_kit.call(conn, "answer_when_told", arguments, kit.long())
        })
      kit.wait_until(is_waiting)
      kit.equal(Error(error.Busy), node_kit.greet(conn, "too many"))
      let told =
        connection_pool.with_connection(pool, fn(other) {
          connection_pool.send(other, "told", "go on")
        })
      let assert Ok(_) = kit.await(job)
      told
    })
  kit.equal(0, node_kit.stats(pool).failed_operations)
}

pub fn several_processes_call_over_one_connection_test() {
  use _, conn <- on_connection
  let jobs =
    kit.repeat(20, fn(_) { kit.start(fn() { node_kit.greet(conn, "us") }) })
  kit.await_all(jobs, fn(result) { kit.equal(Ok("hello us"), result) })
}

pub fn bad_arguments_test() {
  use _, conn <- on_connection
  let bad = fn(name, result) {
    let assert Error(error.BadArgument(found, _)) = result
    kit.equal(name, found)
  }
  let long = kit.text_of_300()
  bad("module", connection_pool.call(conn, long, "f", [], Default))
  bad("function", connection_pool.call(conn, "m", long, [], Default))
  bad("timeout", connection_pool.call(conn, "m", "f", [], Ms(-1)))
  let assert Error(error.BadArgument("destination", _)) =
    connection_pool.send(conn, long, "message")
}

pub fn send_test() {
  use node, conn <- on_connection
  let collector = node_kit.collect(node, "gleam_collector")
  let numbers = kit.repeat(100, fn(n) { n })
  kit.each(numbers, fn(n) {
    kit.equal(Ok(Nil), connection_pool.send(conn, "gleam_collector", n))
  })
  // Nobody says that there is none.
  kit.equal(Ok(Nil), connection_pool.send(conn, "nobody", "hello"))
  kit.equal(
    Ok(Nil),
    connection_pool.send_within(conn, "nobody", "hello", kit.long()),
  )
  kit.wait_until(fn() { kit.length(node_kit.collected(collector)) >= 100 })
  let assert Ok(got) =
    term.as_list(term.from(node_kit.collected(collector)), term.as_int)
  kit.equal(numbers, got)
}
