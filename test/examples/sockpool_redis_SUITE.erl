%%% examples/redis against Debian's redis-server.
-module(sockpool_redis_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([kinds_of_values/1, doubles/1, login/1, wrong_password/1, database/1, errors/1,
         own_replies/1, pipelined/1, many_at_once/1, multi_under_load/1, watch_under_load/1,
         subscribers/1, subscriber_killed/1, long_values/1, elixir/1]).
-export([password/0]).

-import(sockpool_test_util, [wait_until/1, settled/1, stat/2, run_all/1, start/1, await/1]).
-import(sockpool_examples, [under_load/3, assert_counted/2]).

-define(HOST, "127.0.0.1").
-define(PASSWORD, <<"open sesame">>).
-define(SIZE, 64).

suite() -> [{timetrap, {minutes, 2}}].

all() ->
    [kinds_of_values, doubles, login, wrong_password, database, errors, own_replies, pipelined, many_at_once, multi_under_load,
     watch_under_load, subscribers, subscriber_killed, long_values, elixir].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(sockpool),
    sockpool_examples:missing([{"redis-server", "redis-server"}], Config).

end_per_suite(_Config) -> application:stop(sockpool).

%% A server and a pool for each case, of one process.
init_per_testcase(Case, Config) ->
    Port = sockpool_test_port:free(),
    Dir = sockpool_examples:dir(),
    Args = ["--port", integer_to_list(Port), "--bind", ?HOST, "--dir", Dir, "--save", "", "--requirepass", binary_to_list(?PASSWORD),
            "--enable-debug-command", "local"],
    Program = sockpool_test_program:start("redis-server", Args, #{cd => Dir, signal => "KILL"}),
    ok = sockpool_test_program:said(Program, <<"eady to accept connections">>),
    [{pool, list_to_atom(lists:concat(["redis_", Case]))}, {port, Port}, {program, Program}, {dir, Dir} | Config].

end_per_testcase(_Case, Config) ->
    _ = sockpool:stop_pool(?config(pool, Config)),
    ok = sockpool_test_program:stop(?config(program, Config)),
    ok = file:del_dir_r(?config(dir, Config)).

password() -> ?PASSWORD.

started(Config, Opts) ->
    Pool = ?config(pool, Config),
    Server = #{host => ?HOST, port => ?config(port, Config), password => fun ?MODULE:password/0},
    ok = sockpool:start_pool(Pool, redis:options(maps:merge(Server, Opts))),
    Pool.

%%% Values.

%% As the server makes them itself.
kinds_of_values(Config) ->
    Pool = started(Config, #{size => 1}),
    [?assertEqual({Kind, {ok, Value}}, {Kind, redis:q(Pool, ["DEBUG", "PROTOCOL", Kind])})
     || {Kind, Value} <- [{string, <<"Hello World">>}, {integer, 12345}, {double, 3.141}, {null, null}, {array, [0, 1, 2]},
                          {set, [0, 1, 2]}, {map, #{0 => false, 1 => true, 2 => false}}, {attrib, <<"Some real reply following the attribute">>},
                          {verbatim, <<"This is a verbatim\nstring">>},
                          {bignum, 1234567999999999999999999999999999999}, {true, true}, {false, false}]],
    %% From Redis 7.2 on what is pushed comes after the reply.
    {ok, First} = redis:q(Pool, ["DEBUG", "PROTOCOL", "push"]),
    ?assert(lists:member(First, [{push, [<<"server-cpu-usage">>, 42]}, <<"Some real reply following the push reply">>])),
    ?assertEqual({ok, []}, redis:q(Pool, [keys, "*"])),
    ?assertEqual({ok, null}, redis:q(Pool, [get, no_such_key])),
    ?assertEqual({ok, <<"PONG">>}, redis:q(Pool, ["PING"])),
    ?assertEqual({ok, <<>>}, redis:q(Pool, ["ECHO", ""])),
    ?assertEqual({ok, <<"$5\r\nno end">>}, redis:q(Pool, ["ECHO", ["$5", <<"\r\n">>, "no end"]])),
    ?assertEqual({ok, [1, [<<"two">>, [null, 3]]]}, redis:q(Pool, ["EVAL", "return {1, {'two', {false, 3}}}", 0])),
    ?assertEqual({error, <<"ERR mine">>}, redis:q(Pool, ["EVAL", "return redis.error_reply('ERR mine')", 0])).

doubles(Config) ->
    Pool = started(Config, #{size => 1}),
    [begin
         {ok, _} = redis:q(Pool, ["ZADD", "doubles", Sent, "member"]),
         ?assertEqual({Sent, {ok, Value}}, {Sent, redis:q(Pool, ["ZSCORE", "doubles", "member"])})
     end || {Sent, Value} <- [{10, 10.0}, {0.1, 0.1}, {-2.5, -2.5}, {1.0e20, 1.0e20}, {"1.5e-7", 1.5e-7},
                              {1.7976931348623157e308, 1.7976931348623157e308}, {"+inf", infinity}, {"-inf", '-infinity'}]].

errors(Config) ->
    Pool = started(Config, #{size => 1}),
    ?assertMatch({error, <<"ERR unknown command", _/binary>>}, redis:q(Pool, ["NO_SUCH_COMMAND"])),
    ?assertMatch({ok, [<<"OK">>, {error, <<"WRONGTYPE", _/binary>>}, <<"text">>]},
                 redis:multi(Pool, [["SET", "key", "text"], ["LPUSH", "key", 1], ["GET", "key"]])),
    ?assertMatch({error, <<"EXECABORT", _/binary>>}, redis:multi(Pool, [["SET", "key", "other"], ["GET"]])),
    ?assertEqual({ok, <<"text">>}, redis:q(Pool, ["GET", "key"])),
    ?assertMatch(#{created := 1, closed := 0}, settled(Pool)).

long_values(Config) ->
    Pool = started(Config, #{size => 2}),
    Long = binary:copy(<<"0123456789\r\n">>, 100000),
    ?assertEqual({ok, <<"OK">>}, redis:q(Pool, ["SET", "long", Long])),
    ?assertEqual({ok, Long}, redis:q(Pool, ["GET", "long"])),
    Items = [integer_to_binary(N) || N <- lists:seq(1, 100000)],
    ?assertEqual({ok, 100000}, redis:q(Pool, ["RPUSH", "list" | Items])),
    ?assertEqual({ok, Items}, redis:q(Pool, ["LRANGE", "list", 0, -1])).

%%% Connections.

login(Config) ->
    Pool = started(Config, #{size => 3, username => "default"}),
    ?assertMatch(#{created := 3, connect_failures := 0}, settled(Pool)),
    ?assertEqual({ok, <<"default">>}, redis:q(Pool, ["ACL", "WHOAMI"])).

%% What was wrong stands in the log and is told to everybody: the password is not.
wrong_password(Config) ->
    Pool = ?config(pool, Config),
    ok = sockpool_test_log:hear(Pool),
    _ = started(Config, #{password => <<"open barley">>, backoff => {1, 10}}),
    {init, <<"WRONGPASS", _/binary>>} = sockpool_test_util:unavailable(Pool),
    receive {log, Line} -> ?assertEqual({nomatch, false}, {string:find(Line, "barley"), string:find(Line, "WRONGPASS") =:= nomatch}) end,
    ok = sockpool_test_log:forget(Pool).

database(Config) ->
    Pool = started(Config, #{database => 3, size => 1}),
    {ok, <<"OK">>} = redis:q(Pool, [set, colour, blue]),
    {ok, <<"# Keyspace\r\ndb3:", _/binary>>} = redis:q(Pool, [info, keyspace]),
    ok = sockpool:stop_pool(Pool),
    _ = started(Config, #{database => 99, backoff => {1, 10}}),
    ?assertEqual({init, <<"ERR DB index is out of range">>}, sockpool_test_util:unavailable(Pool)).

connections(Pool) ->
    {ok, List} = redis:q(Pool, ["CLIENT", "LIST"]),
    length(binary:split(List, <<"\n">>, [global, trim_all])).

%%% A thousand processes.

own_replies(Config) ->
    Pool = started(Config, #{size => ?SIZE, max_overflow => 0}),
    Counted = under_load(Pool, ?SIZE, fun(Key, N) -> {ok, N} = redis:q(Pool, ["INCR", Key]), own_value(Pool, Key, N) end),
    assert_counted(Counted, fun(Key) -> stored(Pool, Key) end),
    wait_until(fun() -> connections(Pool) =:= ?SIZE end).

%% The requests of all go over two connections.
pipelined(Config) ->
    Pool = started(Config, #{size => 2, max_overflow => 0, pipeline => 64}),
    Counted = under_load(Pool, 2, fun(Key, N) -> {ok, N} = redis:q(Pool, ["INCR", Key]), own_value(Pool, Key, N) end),
    assert_counted(Counted, fun(Key) -> stored(Pool, Key) end),
    wait_until(fun() -> connections(Pool) =:= 2 end),
    ?assert(stat(Pool, pipelined) > length(Counted)),
    ?assertMatch(#{created := 2, closed := 0}, settled(Pool)),
    %% What needs a connection for itself gets one.
    ?assertEqual({ok, [1, <<"1">>]}, redis:multi(Pool, [["INCR", "hits"], ["GET", "hits"]])).

own_value(Pool, Key, N) ->
    Own = <<Key/binary, $:, (integer_to_binary(N))/binary>>,
    {ok, Own} = redis:q(Pool, ["ECHO", Own]),
    ok.

stored(Pool, Key) ->
    case redis:q(Pool, ["GET", Key]) of
        {ok, null} -> 0;
        {ok, Digits} -> binary_to_integer(Digits)
    end.

many_at_once(Config) ->
    Pool = started(Config, #{size => ?SIZE, max_overflow => 0}),
    Counted = under_load(Pool, ?SIZE, fun(Key, N) ->
                                              {ok, [Key, N, <<Key/binary>>, null]} =
                                                  redis:q_many(Pool, [["ECHO", Key], ["INCR", Key], ["ECHO", Key], ["GET", ""]], 60000),
                                              ok
                                      end),
    assert_counted(Counted, fun(Key) -> stored(Pool, Key) end).

%% All of one are carried out, or none, whenever its owner is killed.
multi_under_load(Config) ->
    Pool = started(Config, #{size => ?SIZE, max_overflow => 0, checkout_timeout => 60000}),
    Counted = under_load(Pool, ?SIZE, fun(Key, N) ->
                                              {ok, [N, N, Key]} =
                                                  redis:multi(Pool, [["INCR", Key], ["INCR", [Key, "b"]], ["ECHO", Key]]),
                                              ok
                                      end),
    assert_counted(Counted, fun(Key) -> stored(Pool, Key) end),
    [?assertEqual(stored(Pool, Key), stored(Pool, <<Key/binary, "b">>)) || {Key, _, _} <- Counted].

%% All add to the same number, without INCR: none is lost.
watch_under_load(Config) ->
    Pool = started(Config, #{size => 16, max_overflow => 0, checkout_timeout => 60000}),
    _ = settled(Pool),
    Tries = run_all([fun() -> added(Pool, 1) end || _ <- lists:seq(1, 200)]),
    ?assertEqual(200, stored(Pool, <<"sum">>)),
    ct:pal("~b of 200 had to try again", [length([Tried || Tried <- Tries, Tried > 1])]),
    ?assertEqual({error, changed}, redis:watch(Pool, ["sum"], fun(Conn) -> {ok, _} = redis:q(Pool, ["INCR", "sum"]), add(Conn) end)),
    ?assertMatch(#{created := 16, closed := 0}, settled(Pool)).

added(Pool, Tries) ->
    case redis:watch(Pool, ["sum"], fun add/1) of
        {ok, [<<"OK">>]} -> Tries;
        {error, changed} -> added(Pool, Tries + 1)
    end.

add(Conn) ->
    Sum = case redis:ask(Conn, ["GET", "sum"]) of
              {ok, null} -> 0;
              {ok, Digits} -> binary_to_integer(Digits)
          end,
    [["SET", "sum", Sum + 1]].

%%% Published and subscribed.

%% Each gets all, in order, and its connection goes back as it was.
subscribers(Config) ->
    {Subscribers, Messages} = {100, 200},
    Pool = started(Config, #{size => 4, max_overflow => Subscribers, overflow_ttl => 60000}),
    Test = self(),
    Handler = fun({subscribed, <<"other">>}, Got) -> Test ! subscribed, {more, Got};
                 ({subscribed, <<"news">>}, Got) -> {more, Got};
                 ({message, <<"news">>, <<"last">>}, Got) -> {stop, lists:reverse(Got)};
                 ({message, <<"news">>, Text}, Got) -> {more, [binary_to_integer(Text) | Got]}
              end,
    Jobs = [start(fun() -> redis:subscribe(Pool, ["news", "other"], Handler, []) end) || _ <- lists:seq(1, Subscribers)],
    [receive subscribed -> ok end || _ <- Jobs],
    Sent = lists:seq(1, Messages),
    [{ok, Subscribers} = redis:q(Pool, ["PUBLISH", "news", N]) || N <- Sent],
    {ok, Subscribers} = redis:q(Pool, ["PUBLISH", "news", "last"]),
    %% Some still see this one when they have seen the last.
    [{ok, _} = redis:q(Pool, ["PUBLISH", "news", "late"]) || _ <- Sent],
    [?assertEqual({ok, Sent}, await(Job)) || Job <- Jobs],
    #{total := Total, created := Total} = settled(Pool),
    [?assertEqual({ok, Own}, redis:q(Pool, ["ECHO", Own]))
     || N <- lists:seq(1, 2 * Total), Own <- [integer_to_binary(N)]].

%% The server hears of it, and nobody gets what was for him.
subscriber_killed(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 1, overflow_ttl => 0}),
    Test = self(),
    {Pid, Monitor} = spawn_monitor(fun() -> redis:subscribe(Pool, ["news"], fun(_, none) -> Test ! subscribed, {more, none} end, none) end),
    receive subscribed -> ok end,
    ?assertEqual({ok, 1}, redis:q(Pool, ["PUBLISH", "news", "one"])),
    receive subscribed -> ok end,
    true = exit(Pid, kill),
    receive {'DOWN', Monitor, process, Pid, killed} -> ok end,
    wait_until(fun() -> redis:q(Pool, ["PUBLISH", "news", "two"]) =:= {ok, 0} end),
    ?assertMatch(#{abandoned := 1}, settled(Pool)).

%%% The others.

elixir(Config) ->
    Root = sockpool_test_util:root(),
    sockpool_test_exunit:run(filename:join(Root, "test/examples/sockpool_redis_elixir.exs"),
                             [filename:join(Root, "examples/redis/redis.exs")],
                             [{"REDIS_PORT", integer_to_list(?config(port, Config))}, {"REDIS_PASSWORD", binary_to_list(?PASSWORD)}]).
