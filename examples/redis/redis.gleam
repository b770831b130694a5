//// The client of redis.erl beside this, in Gleam: RESP3, AUTH, MULTI. It needs nothing but sockpool.
////
//// ```
//// let assert Ok(_) = pool.start(cache, redis.options("127.0.0.1", 6379, fn() { password }))
//// let assert Ok(Text(value)) = redis.q(cache, [<<"GET":utf8>>, key])
//// ```

import sockpool/connection.{type Connection, Default, Ms, Next, Resp}
import sockpool/error.{type Error as PoolError}
import sockpool/options.{type Options}
import sockpool/pool.{type Pool}

pub type Value {
  Text(BitArray)
  Number(Int)
  /// As the server writes it.
  Double(BitArray)
  Boolean(Bool)
  Null
  /// An array, or a set.
  Many(List(Value))
  Pairs(List(#(Value, Value)))
  Pushed(List(Value))
  /// Within others; alone it is an `Error(Refused(_))`.
  Wrong(BitArray)
}

pub type Failure {
  /// By the server, which says why.
  Refused(BitArray)
  /// MULTI: it says no more than that.
  NotDone
  Failed(PoolError)
}

pub type Command =
  List(BitArray)

const timeout = Ms(5000)

/// Each new connection logs in as the default user.
pub fn options(host: String, port: Int, password: fn() -> BitArray) -> Options {
  let login = fn(conn) {
    let user = <<"default":utf8>>
    case ask(conn, [<<"HELLO":utf8>>, <<"3":utf8>>, <<"AUTH":utf8>>, user, password()]) {
      Ok(_) -> Ok(Nil)
      Error(Refused(why)) -> Error(as_string(why))
      Error(NotDone) -> Error("not done")
      Error(Failed(reason)) -> Error(error.describe(reason))
    }
  }
  options.tcp(host, port)
  |> options.packet(Resp)
  |> options.init(login)
}

/// One command, one reply, over whichever connection is free.
pub fn q(in: Pool, command: Command) -> Result(Value, Failure) {
  reply(pool.request(in, encode(command), Next, timeout))
}

/// All of them or none.
pub fn multi(in: Pool, commands: List(Command)) -> Result(List(Value), Failure) {
  let all = [encode([<<"MULTI":utf8>>]), ..encoded(commands, [encode([<<"EXEC":utf8>>])])]
  let done =
    pool.with_connection(in, Default, fn(conn) {
      case connection.send(conn, joined(all), Default) {
        Ok(Nil) -> executed(conn, all)
        Error(reason) -> Error(Failed(reason))
      }
    })
  case done {
    Ok(result) -> result
    Error(reason) -> Error(Failed(reason))
  }
}

fn encoded(commands: List(Command), after: List(BitArray)) -> List(BitArray) {
  case commands {
    [] -> after
    [command, ..rest] -> [encode(command), ..encoded(rest, after)]
  }
}

// A reply to each; the last one is that of EXEC.
fn executed(conn: Connection, sent: List(BitArray)) -> Result(List(Value), Failure) {
  case sent, reply(connection.recv(conn, Next, timeout)) {
    _, Error(Failed(reason)) -> Error(Failed(reason))
    [_], Ok(Many(values)) -> Ok(values)
    [_], Error(failure) -> Error(failure)
    [_, ..rest], _ -> executed(conn, rest)
    _, _ -> Error(NotDone)
  }
}

/// With a connection that one has already.
pub fn ask(conn: Connection, command: Command) -> Result(Value, Failure) {
  case connection.send(conn, encode(command), timeout) {
    Ok(Nil) -> reply(connection.recv(conn, Next, timeout))
    Error(reason) -> Error(Failed(reason))
  }
}

fn reply(got: Result(BitArray, PoolError)) -> Result(Value, Failure) {
  case got {
    Error(reason) -> Error(Failed(reason))
    Ok(message) ->
      case value(message).0 {
        Wrong(why) -> Error(Refused(why))
        value -> Ok(value)
      }
  }
}

pub fn encode(command: Command) -> BitArray {
  joined([<<"*":utf8>>, digits(length(command, 0)), <<"\r\n":utf8>>, ..parts(command)])
}

fn parts(command: Command) -> List(BitArray) {
  case command {
    [] -> []
    [part, ..rest] -> [
      <<"$":utf8>>,
      digits(size(part)),
      <<"\r\n":utf8>>,
      part,
      <<"\r\n":utf8>>,
      ..parts(rest)
    ]
  }
}

fn length(list: List(a), so_far: Int) -> Int {
  case list {
    [] -> so_far
    [_, ..rest] -> length(rest, so_far + 1)
  }
}

// A value, and what is behind it. A message of the framing is one.
fn value(bytes: BitArray) -> #(Value, BitArray) {
  let #(kind, rest) = cut(bytes, 1)
  let assert [line, rest] = split(rest, <<"\r\n":utf8>>)
  case kind, line {
    <<"+":utf8>>, _ -> #(Text(line), rest)
    <<"-":utf8>>, _ -> #(Wrong(line), rest)
    <<":":utf8>>, _ -> #(Number(number(line)), rest)
    <<"(":utf8>>, _ -> #(Number(number(line)), rest)
    <<",":utf8>>, _ -> #(Double(line), rest)
    <<"#":utf8>>, _ -> #(Boolean(line == <<"t":utf8>>), rest)
    <<"_":utf8>>, _ -> #(Null, rest)
    _, <<"-1":utf8>> -> #(Null, rest)
    _, _ -> sized(kind, number(line), rest)
  }
}

fn sized(kind: BitArray, count: Int, rest: BitArray) -> #(Value, BitArray) {
  case kind {
    <<"$":utf8>> -> text(count, rest)
    // Three letters and a colon say what kind of text it is.
    <<"=":utf8>> -> text(count - 4, cut(rest, 4).1)
    <<"!":utf8>> -> {
      let assert #(Text(why), rest) = text(count, rest)
      #(Wrong(why), rest)
    }
    <<"%":utf8>> -> {
      let #(all, rest) = values(2 * count, rest)
      #(Pairs(pairs(all)), rest)
    }
    // What is said about the value that follows.
    <<"|":utf8>> -> value(values(2 * count, rest).1)
    <<">":utf8>> -> {
      let #(all, rest) = values(count, rest)
      #(Pushed(all), rest)
    }
    _ -> {
      let #(all, rest) = values(count, rest)
      #(Many(all), rest)
    }
  }
}

fn text(count: Int, rest: BitArray) -> #(Value, BitArray) {
  let #(text, rest) = cut(rest, count)
  #(Text(text), cut(rest, 2).1)
}

fn values(count: Int, rest: BitArray) -> #(List(Value), BitArray) {
  case count {
    0 -> #([], rest)
    _ -> {
      let #(first, rest) = value(rest)
      let #(others, rest) = values(count - 1, rest)
      #([first, ..others], rest)
    }
  }
}

fn pairs(all: List(Value)) -> List(#(Value, Value)) {
  case all {
    [key, value, ..rest] -> [#(key, value), ..pairs(rest)]
    _ -> []
  }
}

@external(erlang, "erlang", "iolist_to_binary")
fn joined(parts: List(BitArray)) -> BitArray

@external(erlang, "erlang", "integer_to_binary")
fn digits(number: Int) -> BitArray

@external(erlang, "erlang", "binary_to_integer")
fn number(digits: BitArray) -> Int

@external(erlang, "erlang", "byte_size")
fn size(bytes: BitArray) -> Int

@external(erlang, "erlang", "split_binary")
fn cut(bytes: BitArray, at: Int) -> #(BitArray, BitArray)

@external(erlang, "binary", "split")
fn split(bytes: BitArray, at: BitArray) -> List(BitArray)

@external(erlang, "unicode", "characters_to_binary")
fn as_string(bytes: BitArray) -> String
