//// Pools of actors.

import gleam/erlang/process.{type Pid, type Subject}
import gleam/otp/actor
import sockpool/connection.{Infinity, Ms}
import sockpool/error
import sockpool/options.{type Options, Reuse}
import sockpool/pool
import sockpool/worker.{type Pool}
import sockpool_kit as kit

type Message {
  Add(reply: Subject(Int), number: Int)
  Stop
}

type Counters =
  Pool(Pid, Subject(Message))

fn counter() -> Result(worker.Started(Pid, Subject(Message)), actor.StartError) {
  let started =
    actor.new(0)
    |> actor.on_message(fn(sum, message) {
      case message {
        Add(reply, number) -> {
          process.send(reply, sum + number)
          actor.continue(sum + number)
        }
        Stop -> actor.stop()
      }
    })
    |> actor.start
  case started {
    Ok(actor.Started(pid, data)) -> Ok(worker.Started(pid, data))
    Error(reason) -> Error(reason)
  }
}

fn single() -> Options {
  options.workers()
  |> options.size(1)
  |> options.max_overflow(0)
  |> options.backoff(1, 50)
}

fn add(number: Int) {
  fn(subject) { process.call(subject, 5000, Add(_, number)) }
}

fn running(pool: Counters, run: fn(Counters) -> a) -> a {
  let assert Ok(Nil) = worker.start(pool)
  let result = run(pool)
  let assert Ok(Nil) = worker.stop(pool)
  result
}

pub fn with_worker_test() {
  use pool <- running(worker.pool("actors", single(), counter))
  kit.equal(Ok(2), worker.with_worker(pool, kit.long(), add(2)))
  kit.equal(Ok(5), worker.with_worker(pool, kit.long(), add(3)))
  let assert Ok(stats) = worker.stats(pool)
  kit.equal(#("actors", 1, 1), #(stats.name, stats.total, stats.created))
}

pub fn checkout_test() {
  use pool <- running(worker.pool("actors", single(), counter))
  let assert Ok(one) = worker.checkout(pool, kit.long())
  kit.equal(1, add(1)(one.data))
  kit.equal(Error(error.Full), worker.checkout(pool, Ms(0)))
  kit.equal(Ok(Nil), connection.checkin(one.connection))
  // The same, and then another.
  let assert Ok(two) = worker.checkout(pool, kit.long())
  kit.equal(2, add(1)(two.data))
  kit.equal(Ok(Nil), connection.discard(two.connection))
  kit.equal(Ok(1), worker.with_worker(pool, kit.long(), add(1)))
}

pub fn crashing_function_test() {
  use pool <- running(worker.pool("actors", single(), counter))
  kit.equal(Ok(1), worker.with_worker(pool, kit.long(), add(1)))
  let assert Error(_) =
    kit.crashes(fn() {
      worker.with_worker(pool, kit.long(), fn(_) {
        let assert 1 = kit.size(<<>>)
        Nil
      })
    })
  kit.equal(Ok(1), worker.with_worker(pool, kit.long(), add(1)))
}

pub fn worker_that_ends_test() {
  use pool <- running(worker.pool("actors", single(), counter))
  let assert Ok(Nil) =
    worker.with_worker(pool, kit.long(), fn(subject) {
      process.send(subject, Stop)
      let assert Error(_) = kit.crashes(fn() { add(1)(subject) })
      Nil
    })
  kit.equal(Ok(1), worker.with_worker(pool, kit.long(), add(1)))
}

pub fn failing_start_test() {
  use pool <- running(
    worker.pool("actors", single(), fn() { Error(actor.InitFailed("no")) }),
  )
  kit.wait_until(fn() {
    worker.with_worker(pool, Ms(50), add(1))
    == Error(error.Unavailable(error.WorkerFailed("{init_failed,<<\"no\">>}")))
  })
}

pub fn init_test() {
  let with_one = fn(subject) {
    add(1)(subject)
    Ok(Nil)
  }
  let actors = worker.pool("actors", single(), counter)
  {
    use pool <- running(worker.init(actors, with_one))
    kit.equal(Ok(3), worker.with_worker(pool, kit.long(), add(2)))
  }
  use pool <- running(worker.init(actors, fn(_) { Error("not today") }))
  kit.wait_until(fn() {
    worker.with_worker(pool, Ms(50), add(1))
    == Error(error.Unavailable(error.InitFailed("not today")))
  })
}

pub fn validate_test() {
  // Each is fit for two check-outs.
  let pool =
    worker.pool("actors", single(), counter)
    |> worker.validate(fn(subject) { add(1)(subject) < 3 })
  use pool <- running(pool)
  kit.equal(Ok(1), worker.with_worker(pool, kit.long(), add(0)))
  kit.equal(Ok(2), worker.with_worker(pool, kit.long(), add(0)))
  kit.equal(Ok(1), worker.with_worker(pool, kit.long(), add(0)))
}

pub fn abandoned_test() {
  let died_with_it = fn(options) {
    use pool <- running(worker.pool("actors", options, counter))
    let has_it = fn() {
      let assert Ok(worker) = worker.checkout(pool, kit.long())
      add(1)(worker.data)
      worker
    }
    kit.await(kit.start(has_it))
    worker.with_worker(pool, kit.long(), add(1))
  }
  kit.equal(Ok(1), died_with_it(single()))
  kit.equal(Ok(2), died_with_it(options.abandoned(single(), Reuse)))
}

/// The table is gone: each worker is replaced when it is looked for there.
pub fn lost_data_test() {
  use pool <- running(worker.pool("actors", single(), counter))
  kit.equal(Ok(1), worker.with_worker(pool, kit.long(), add(1)))
  kill_keeper()
  kit.equal(
    Error(error.Closed),
    worker.with_worker(pool, kit.long(), add(1)),
  )
  kit.equal(Ok(1), worker.with_worker(pool, kit.long(), add(1)))
}

/// No row of those that have ended.
pub fn nothing_is_left_test() {
  let options = single() |> options.size(20)
  {
    use _ <- running(worker.pool("actors", options, counter))
    kit.wait_until(fn() { rows() >= 20 })
  }
  kit.wait_until(fn() { rows() == 0 })
}

pub fn supervised_test() {
  let actors = worker.pool("actors", single(), counter)
  let #(supervisor, _) = kit.supervised(worker.child_spec(actors))
  kit.equal(Ok(4), worker.with_worker(actors, kit.long(), add(4)))
  kit.restart(supervisor)
  kit.wait_until(fn() {
    worker.with_worker(actors, kit.long(), add(1)) == Ok(1)
  })
  kit.stop_supervisor(supervisor)
  kit.equal(
    Error(error.NotFound),
    worker.with_worker(actors, Infinity, add(1)),
  )
}

pub fn start_link_test() {
  let actors = worker.pool("actors", single(), counter)
  let job =
    kit.start(fn() {
      let assert Ok(_) = worker.start_link(actors)
      kit.equal(Error(error.AlreadyStarted), worker.start(actors))
      worker.with_worker(actors, kit.long(), add(7))
    })
  kit.equal(Ok(7), kit.await(job))
  kit.wait_until(fn() { worker.stats(actors) == Error(error.NotFound) })
}

/// Without sockpool/worker such a pool gives no process where a connection is promised.
pub fn untyped_test() {
  let name = pool.named("untyped")
  let assert Ok(Nil) =
    options.worker(single(), fn() {
      case counter() {
        Ok(started) -> Ok(started.pid)
        Error(_) -> Error(Nil)
      }
    })
    |> pool.start(name, _)
  let assert Error(error.BadOption("transport", _)) =
    pool.with_connection(name, kit.long(), fn(_) { Nil })
  let assert Ok(conn) = pool.checkout(name, kit.long())
  let assert Error(error.BadOption("transport", _)) =
    connection.send(conn, <<"x":utf8>>, kit.long())
  let assert Error(error.BadOption("transport", _)) = connection.info(conn)
  let assert Ok(Nil) = connection.checkin(conn)
  let assert Ok(Nil) = pool.stop(name)
}

@external(erlang, "sockpool_gleam_actor_test_ffi", "kill_keeper")
fn kill_keeper() -> Nil

@external(erlang, "sockpool_gleam_actor_test_ffi", "rows")
fn rows() -> Int
