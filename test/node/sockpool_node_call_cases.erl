%%% Cases of pools with transport => node that are the same wherever the pool is: in this VM, or served by
%%% another node. Each gets its suite's Config and the node that is called.
-module(sockpool_node_call_cases).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([calls/2, exceptions/2, calls_by_pool/2, messages/2, large_messages/4]).
-export([too_large_a_reply/3, no_stream/2]).
-export([node_asks/2]).
-export([concurrent_calls/3, max_inflight/2, late_reply/2, checkin_under_a_call/2]).

-import(sockpool_test_util, [wait_until/1, settled/1, start/1, await/1, run_all/1,
                             assert_no_messages/0]).
-import(sockpool_node_kit, [started/3, checked_out/1, call/3, node_of/1, waiting_call/2, is_waiting/1,
                            tell/3]).

%%% Calls.

calls(Config, Target) ->
    Pool = started(Config, Target, #{}),
    Conn = checked_out(Pool),
    ?assertEqual({ok, Target}, node_of(Conn)),
    Term = {self(), make_ref(), fun sockpool_node_kit:swallow/1, #{a => [1.5, "text", <<1:3>>]},
            1 bsl 200, [[[[]]]], <<>>, ok},
    ?assertEqual({ok, [Term | Term]}, sockpool:call(Conn, lists, append, [[Term], Term], infinity)),
    ?assertEqual({ok, {error, not_found}},
                 sockpool:call(Conn, erlang, list_to_tuple, [[error, not_found]], 30000)),
    %% Lists of small integers are strings in the external format, and no list is nil.
    ?assertEqual({ok, "ab"}, sockpool:call(Conn, erlang, '++', ["a", "b"], 30000)),
    ?assertMatch({error, {exception, error, undef, _}},
                 sockpool:call(Conn, erlang, '+', [1, 2, 3], 30000)),
    ?assertEqual({ok, 3}, sockpool:call(Conn, erlang, '+', [1, 2], 30000)),
    ?assertEqual(ok, sockpool:checkin(Conn)),
    ?assertEqual({error, closed}, node_of(Conn)),
    ?assertMatch(#{closed := 0, checkins := 1}, settled(Pool)),
    assert_no_messages().

exceptions(Config, Target) ->
    Conn = checked_out(started(Config, Target, #{})),
    Call = fun(Function, Args) -> sockpool:call(Conn, erlang, Function, Args, 30000) end,
    ?assertMatch({error, {exception, error, {my, reason}, [{erlang, error, _, _} | _]}},
                 Call(error, [{my, reason}])),
    ?assertEqual({error, {exception, exit, {my, reason}, []}}, Call(exit, [{my, reason}])),
    ?assertEqual({error, {exception, throw, {my, reason}, []}}, Call(throw, [{my, reason}])),
    ?assertMatch({error, {exception, error, undef, [{no_such, module, [1], _} | _]}},
                 sockpool:call(Conn, no_such, module, [1], 30000)),
    ?assertEqual({error, {exception, exit, {signal, killed}, []}}, call(Conn, be_killed, [])),
    ok = sockpool:checkin(Conn).

calls_by_pool(Config, Target) ->
    Pool = started(Config, Target, #{size => 2}),
    _ = settled(Pool),
    ?assertEqual({ok, Target}, node_of(Pool)),
    ?assertMatch({error, {exception, error, badarg, _}},
                 sockpool:call(Pool, erlang, atom_to_list, [1], 30000)),
    Sums = [start(fun() -> sockpool:call(Pool, erlang, '+', [N, N], infinity) end)
            || N <- lists:seq(1, 100)],
    ?assertEqual([{ok, 2 * N} || N <- lists:seq(1, 100)], [await(Job) || Job <- Sums]),
    ?assertEqual({error, timeout}, sockpool:call(Pool, sockpool_node_kit, linger, [], 50)),
    ?assertMatch(#{checkouts := 103, checkins := 103, closed := 1, abandoned := 0}, settled(Pool)),
    Conns = [checked_out(Pool), checked_out(Pool)],
    ?assertEqual({error, full}, sockpool:call(Pool, erlang, node, [], 0)),
    ?assertEqual({error, timeout}, sockpool:call(Pool, erlang, node, [], 50)),
    [ok = sockpool:checkin(Conn) || Conn <- Conns],
    NoPool = case Pool of
                 {_, Serving} -> {no_such_pool, Serving};
                 _ -> no_such_pool
             end,
    ?assertEqual({error, not_found}, sockpool:call(NoPool, erlang, node, [], 100)),
    ?assertEqual({error, not_found}, sockpool:send_to(NoPool, x, y)),
    assert_no_messages().

messages(Config, Target) ->
    Pool = started(Config, Target, #{}),
    Conn = checked_out(Pool),
    ?assertEqual({ok, ok}, call(Conn, relay, [messages_relay, self()])),
    {ok, Pid} = sockpool:call(Conn, erlang, whereis, [messages_relay], 30000),
    Messages = [{Way, N} || N <- lists:seq(1, 100), Way <- [name, named_node, pid]],
    lists:foreach(fun({name, _} = M) -> ok = sockpool:send_to(Conn, messages_relay, M);
                     ({named_node, _} = M) -> ok = sockpool:send_to(Conn, {messages_relay, Target}, M);
                     ({pid, _} = M) -> ok = sockpool:send_to(Conn, Pid, M)
                  end, Messages),
    ?assertEqual(Messages, [receive {relayed, M} -> M after 30000 -> none end || _ <- Messages]),
    ok = sockpool:send_to(Conn, no_such_name, hello),
    ?assertEqual({error, {bad_argument, destination, self()}}, sockpool:send_to(Conn, self(), x)),
    ?assertEqual({error, {bad_argument, destination, "x"}}, sockpool:send_to(Conn, "x", x)),
    ?assertEqual({error, {bad_argument, destination, {x, node()}}},
                 sockpool:send_to(Conn, {x, node()}, x)),
    ok = sockpool:checkin(Conn),
    ?assertEqual({error, closed}, sockpool:send_to(Conn, messages_relay, x)),
    ok = sockpool:send_to(Pool, messages_relay, by_pool),
    receive {relayed, by_pool} -> ok after 30000 -> error(late) end,
    ?assertEqual({error, {bad_argument, destination, self()}}, sockpool:send_to(Pool, self(), x)),
    ok = sockpool:send_to(Pool, Pid, stop),
    ?assertMatch(#{closed := 0}, settled(Pool)).

large_messages(Config, Target, Size, Count) ->
    Pool = started(Config, Target, #{}),
    Conn = checked_out(Pool),
    Bytes = binary:copy(<<"0123456789abcdef">>, Size div 16),
    ?assertEqual({ok, Size}, call(Conn, swallow, [Bytes])),
    %% Both ways at the same time, many of them: neither side stops reading while it writes.
    Copies = [start(fun() -> {ok, Bytes} = sockpool:call(Conn, binary, copy, [Bytes], infinity), ok end)
              || _ <- lists:seq(1, Count)],
    [ok = await(Job) || Job <- Copies],
    ok = sockpool:checkin(Conn),
    ?assertMatch(#{closed := 0}, settled(Pool)).

%% CheckedIn is what those hear who give back what has ended.
too_large_a_reply(Config, Target, CheckedIn) ->
    Pool = started(Config, Target, #{recv_limit => 10000}),
    Conn = checked_out(Pool),
    ?assertMatch({ok, <<_:9000/binary>>},
                 sockpool:call(Conn, binary, copy, [<<0>>, 9000], 30000)),
    ?assertEqual({error, emsgsize}, sockpool:call(Conn, binary, copy, [<<0>>, 10000], 30000)),
    ?assertEqual({error, closed}, node_of(Conn)),
    ?assertEqual(CheckedIn, sockpool:checkin(Conn)),
    ?assertMatch(#{closed := 1, abandoned := 0}, settled(Pool)).

no_stream(Config, Target) ->
    Pool = started(Config, Target, #{}),
    Refused = {error, {bad_option, transport, node}},
    ?assertEqual(Refused, sockpool:request(Pool, "x", packet, 1000)),
    Conn = checked_out(Pool),
    ?assertEqual(Refused, sockpool:send(Conn, "x")),
    ?assertEqual(Refused, sockpool:send(Conn, "x", 10)),
    ?assertEqual(Refused, sockpool:recv(Conn, 0)),
    ?assertEqual(Refused, sockpool:recv(Conn, 0, 10)),
    ok = sockpool:checkin(Conn),
    ?assertMatch(#{closed := 0}, settled(Pool)).

%%% The node asks.

%% Of connections that are idle and checked out, and while a call by pool is under way. None is closed.
node_asks(Config, Target) ->
    Pool = started(Config, Target, #{size => 3}),
    _ = settled(Pool),
    Conn = checked_out(Pool),
    Job = waiting_call(Pool, asked_call),
    Answers = erpc:call(Target, sockpool_node_kit, ask_everybody, []),
    ?assert(length(Answers) >= 3),
    [?assertMatch({pong, noproc, yes, {badrpc, _}, noproc}, Answer) || Answer <- Answers],
    tell(Target, asked_call, done),
    ?assertEqual({ok, done}, await(Job)),
    ?assertEqual({ok, Target}, node_of(Conn)),
    ok = sockpool:checkin(Conn),
    ?assertMatch(#{closed := 0, created := 3}, settled(Pool)).

%%% Many calls over one connection.

concurrent_calls(Config, Target, Count) ->
    Pool = started(Config, Target, #{max_inflight => 1000}),
    Conn = checked_out(Pool),
    Calls = [fun() ->
                     Text = integer_to_binary(N),
                     {ok, Text} = sockpool:call(Conn, erlang, integer_to_binary, [N], infinity),
                     ok
             end || N <- lists:seq(1, Count)],
    ?assertEqual([ok || _ <- Calls], run_all(Calls)),
    %% One that takes its time does not hold up the others.
    Slow = waiting_call(Conn, slow_call),
    ?assertEqual({ok, Target}, node_of(Conn)),
    ok = sockpool:send_to(Conn, slow_call, {answer, at_last}),
    ?assertEqual({ok, at_last}, await(Slow)),
    ok = sockpool:checkin(Conn),
    ?assertMatch(#{closed := 0}, settled(Pool)).

max_inflight(Config, Target) ->
    Pool = started(Config, Target, #{max_inflight => 3}),
    Conn = checked_out(Pool),
    [First, Second, Third] = [waiting_call(Conn, Name) || Name <- [inflight_1, inflight_2, inflight_3]],
    ?assertEqual({error, busy}, node_of(Conn)),
    ?assertEqual({error, busy}, sockpool:call(Conn, erlang, node, [], 0)),
    ok = sockpool:send_to(Conn, inflight_2, {answer, two}),
    ?assertEqual({ok, two}, await(Second)),
    ?assertEqual({ok, Target}, node_of(Conn)),
    [ok = sockpool:send_to(Conn, Name, {answer, Name}) || Name <- [inflight_1, inflight_3]],
    ?assertEqual([{ok, inflight_1}, {ok, inflight_3}], [await(Job) || Job <- [First, Third]]),
    ok = sockpool:checkin(Conn),
    ?assertMatch(#{closed := 0}, settled(Pool)).

%% A time-out leaves the connection usable. The reply is dropped when it comes.
late_reply(Config, Target) ->
    Pool = started(Config, Target, #{max_inflight => 1}),
    Conn = checked_out(Pool),
    ?assertEqual({error, timeout},
                 sockpool:call(Conn, sockpool_node_kit, answer_when_told, [late_call, self()], 500)),
    ok = is_waiting(late_call),
    ?assertEqual({error, busy}, node_of(Conn)),
    ok = sockpool:send_to(Conn, late_call, {answer, too_late}),
    wait_until(fun() -> sockpool:call(Conn, erlang, '+', [1, 1], 30000) =:= {ok, 2} end),
    ok = sockpool:checkin(Conn),
    ?assertMatch(#{closed := 0}, settled(Pool)),
    assert_no_messages().

checkin_under_a_call(Config, Target) ->
    Pool = started(Config, Target, #{}),
    Conn = checked_out(Pool),
    Job = waiting_call(Conn, checkin_call),
    ?assertEqual(ok, sockpool:checkin(Conn)),
    ?assertEqual({error, closed}, await(Job)),
    ?assertMatch(#{closed := 1, abandoned := 0}, settled(Pool)),
    tell(Target, checkin_call, too_late).
