%%% examples/memcached against Debian's memcached.
-module(sockpool_memcached_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([values/1, keys/1, refused/1, another_server/1, many_keys/1, own_replies/1, update_under_load/1, many_under_load/1]).

-import(sockpool_test_util, [settled/1, wait_until/1]).
-import(sockpool_examples, [under_load/3, assert_counted/2]).

-define(HOST, "127.0.0.1").
-define(SIZE, 64).
-define(SHARED, 50).

suite() -> [{timetrap, {minutes, 2}}].

all() -> [values, keys, refused, another_server, many_keys, own_replies, update_under_load, many_under_load].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(sockpool),
    sockpool_examples:missing([{"memcached", "memcached"}], Config).

end_per_suite(_Config) -> application:stop(sockpool).

init_per_testcase(Case, Config) ->
    Port = sockpool_test_port:free(),
    Program = sockpool_test_program:start("memcached", ["-l", ?HOST, "-p", integer_to_list(Port), "-u", "nobody", "-M"], #{signal => "KILL"}),
    #{} = sockpool_test_program:listening(#{port => Port}),
    [{pool, list_to_atom(lists:concat(["memcached_", Case]))}, {port, Port}, {program, Program} | Config].

end_per_testcase(_Case, Config) ->
    _ = sockpool:stop_pool(?config(pool, Config)),
    sockpool_test_program:stop(?config(program, Config)).

started(Config, Opts) ->
    Pool = ?config(pool, Config),
    ok = sockpool:start_pool(Pool, memcached:options(maps:merge(#{host => ?HOST, port => ?config(port, Config)}, Opts))),
    Pool.

values(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0}),
    ?assertEqual(not_found, memcached:get(Pool, <<"key">>)),
    [begin
         ?assertEqual(ok, memcached:set(Pool, <<"key">>, Value)),
         ?assertEqual({ok, iolist_to_binary(Value)}, memcached:get(Pool, <<"key">>))
     end || Value <- [<<>>, "text", <<"END\r\n">>, ["VA 2 b\r\n", <<0, 255>>], binary:copy(<<"\r\n">>, 500000)]],
    ?assertEqual({ok, true}, memcached:delete(Pool, <<"key">>)),
    ?assertEqual({ok, false}, memcached:delete(Pool, <<"key">>)),
    ?assertEqual({ok, 5}, memcached:incr(Pool, <<"number">>, 5)),
    ?assertEqual({ok, 12}, memcached:incr(Pool, <<"number">>, 7)),
    ?assertEqual(ok, memcached:update(Pool, <<"list">>, fun(undefined) -> "a" end)),
    ?assertEqual(ok, memcached:update(Pool, <<"list">>, fun(<<"a">>) -> "ab" end)),
    ?assertEqual({ok, <<"ab">>}, memcached:get(Pool, <<"list">>)),
    ok = memcached:set(Pool, <<"short">>, "lived", #{ttl => 1}),
    ?assertEqual({ok, <<"lived">>}, memcached:get(Pool, <<"short">>)),
    wait_until(fun() -> memcached:get(Pool, <<"short">>) =:= not_found end),
    ?assertMatch(#{created := 1, closed := 0}, settled(Pool)).

%% None of them is a command.
keys(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0}),
    Keys = [<<"a b">>, <<"a\r\nflush_all">>, <<0, 255>>, <<"a">>, binary:copy(<<"k">>, 186)],
    [ok = memcached:set(Pool, Key, [<<"value of ">>, Key]) || Key <- Keys],
    [?assertEqual({ok, <<"value of ", Key/binary>>}, memcached:get(Pool, Key)) || Key <- Keys],
    ?assertEqual({ok, maps:from_list([{Key, <<"value of ", Key/binary>>} || Key <- Keys])}, memcached:get_many(Pool, [<<"no">> | Keys])),
    [?assertError(_, memcached:Function(Pool, binary:copy(<<"k">>, 187))) || Function <- [get, delete]].

refused(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0}),
    ?assertMatch({error, <<"SERVER_ERROR object too large", _/binary>>}, memcached:set(Pool, <<"long">>, binary:copy(<<0>>, 2 bsl 20))),
    ok = memcached:set(Pool, <<"text">>, "no number"),
    ?assertMatch({error, <<"CLIENT_ERROR", _/binary>>}, memcached:incr(Pool, <<"text">>, 1)),
    ?assertEqual({ok, <<"no number">>}, memcached:get(Pool, <<"text">>)),
    ?assertMatch({ok, #{<<"curr_items">> := <<"1">>}}, memcached:stats(Pool)).

another_server(Config) ->
    Pool = ?config(pool, Config),
    Echo = sockpool_test_server:start(echo),
    ok = sockpool:start_pool(Pool, memcached:options(#{host => ?HOST, port => sockpool_test_server:port(Echo), backoff => {1, 10}})),
    ?assertEqual({init, no_memcached}, sockpool_test_util:unavailable(Pool)),
    ok = sockpool_test_server:stop(Echo).

many_keys(Config) ->
    Pool = started(Config, #{size => 4}),
    All = maps:from_list([{Key, binary:copy(Key, 100)} || N <- lists:seq(1, 2000), Key <- [integer_to_binary(N)]]),
    _ = maps:map(fun(Key, Value) -> ok = memcached:set(Pool, Key, Value) end, All),
    ?assertEqual({ok, All}, memcached:get_many(Pool, maps:keys(All))),
    ?assertEqual({ok, #{}}, memcached:get_many(Pool, [])).

%%% A thousand processes.

counter(Key) -> <<Key/binary, " counter">>.

counted(Pool, Key) ->
    case memcached:get(Pool, counter(Key)) of
        {ok, Digits} -> binary_to_integer(Digits);
        not_found -> 0
    end.

own_replies(Config) ->
    Pool = started(Config, #{size => ?SIZE, max_overflow => 0, checkout_timeout => 60000}),
    Counted = under_load(Pool, ?SIZE, fun(Key, N) ->
                                              {ok, N} = memcached:incr(Pool, counter(Key), 1),
                                              Own = <<Key/binary, $\r, $\n, (integer_to_binary(N))/binary>>,
                                              ok = memcached:set(Pool, Key, Own),
                                              {ok, Own} = memcached:get(Pool, Key),
                                              {ok, true} = memcached:delete(Pool, Key),
                                              ok
                                      end),
    assert_counted(Counted, fun(Key) -> counted(Pool, Key) end).

many_under_load(Config) ->
    Pool = started(Config, #{size => ?SIZE, max_overflow => 0, checkout_timeout => 60000}),
    Counted = under_load(Pool, ?SIZE, fun(Key, N) ->
                                              {ok, N} = memcached:incr(Pool, counter(Key), 1),
                                              {Counter, Digits} = {counter(Key), integer_to_binary(N)},
                                              {ok, #{Counter := Digits} = Found} = memcached:get_many(Pool, [<<"no">>, Counter, Key]),
                                              1 = maps:size(Found),
                                              ok
                                      end),
    assert_counted(Counted, fun(Key) -> counted(Pool, Key) end).

%% All change the same values, and no change is lost.
update_under_load(Config) ->
    Pool = started(Config, #{size => ?SIZE, max_overflow => 0, checkout_timeout => 60000}),
    Counted = under_load(Pool, ?SIZE, fun(Key, _N) ->
                                              Shared = shared(erlang:phash2(Key, ?SHARED)),
                                              ok = memcached:update(Pool, Shared, fun added/1),
                                              {ok, _} = memcached:incr(Pool, counter(Key), 1),
                                              ok
                                      end),
    Done = lists:sum([Count || {_, Count, _} <- Counted]),
    Killed = length([Key || {Key, _, killed} <- Counted]),
    Sum = lists:sum([binary_to_integer(Digits) || N <- lists:seq(0, ?SHARED - 1), {ok, Digits} <- [memcached:get(Pool, shared(N))]]),
    ?assert(Done =< Sum andalso Sum =< Done + Killed, {Done, Sum, Killed}),
    assert_counted(Counted, fun(Key) -> counted(Pool, Key) end).

shared(N) -> <<"shared ", (integer_to_binary(N))/binary>>.

added(undefined) -> "1";
added(Digits) -> integer_to_binary(binary_to_integer(Digits) + 1).
