//// examples/redis/redis.gleam, which the test script takes, against Debian's redis-server.

import redis.{Boolean, Many, Null, Number, Pairs, Pushed, Refused, Text, Wrong}
import sockpool/pool

type Server

type Kind {
  Redis
}

type Key {
  Port
}

@external(erlang, "sockpool_drivers", "server")
fn server(kind: Kind) -> Server

@external(erlang, "sockpool_drivers", "stop")
fn stop(server: Server) -> Nil

@external(erlang, "maps", "get")
fn get(key: Key, server: Server) -> Int

pub fn redis_test() {
  let server = server(Redis)
  let cache = pool.named("gleam_redis")
  let options = redis.options("127.0.0.1", get(Port, server), fn() { <<"not asked for":utf8>> })
  let assert Ok(_) = pool.start(cache, options)
  let assert Ok(Text(<<"OK":utf8>>)) = redis.q(cache, [<<"SET":utf8>>, <<"colour":utf8>>, <<"blue\r\n":utf8>>])
  let assert Ok(Text(<<"blue\r\n":utf8>>)) = redis.q(cache, [<<"GET":utf8>>, <<"colour":utf8>>])
  let assert Ok(Null) = redis.q(cache, [<<"GET":utf8>>, <<"shape":utf8>>])
  let assert Error(Refused(_)) = redis.q(cache, [<<"INCR":utf8>>, <<"colour":utf8>>])
  let assert Ok([Number(1), Wrong(_), Many([Number(1), Many([Text(<<"two":utf8>>), Null])])]) =
    redis.multi(cache, [
      [<<"INCR":utf8>>, <<"hits":utf8>>],
      [<<"LPUSH":utf8>>, <<"colour":utf8>>, <<"1":utf8>>],
      [<<"EVAL":utf8>>, <<"return {1, {'two', false}}":utf8>>, <<"0":utf8>>],
    ])
  let assert Error(Refused(_)) = redis.multi(cache, [[<<"GET":utf8>>]])
  let assert Ok(Pairs([#(Text(<<"hash-max-ziplist-value":utf8>>), Text(_))])) =
    redis.q(cache, [<<"CONFIG":utf8>>, <<"GET":utf8>>, <<"hash-max-ziplist-value":utf8>>])
  let assert Ok(stats) = pool.stats(cache)
  let assert 0 = stats.closed
  let assert Ok(Nil) = pool.stop(cache)
  stop(server)
  let _ = [Boolean(True), Pushed([])]
}
