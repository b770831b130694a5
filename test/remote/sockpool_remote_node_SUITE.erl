%%% Pools with transport => node that another node serves: calls and messages from a client over the
%%% serving node to a third one.
-module(sockpool_remote_node_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_group/2,
         end_per_group/2, init_per_testcase/2, end_per_testcase/2]).
-export([calls/1, exceptions/1, calls_by_pool/1, messages/1, large_messages/1, too_large_a_reply/1,
         functions_that_print/1, lease_functions/1, no_stream/1, no_node/1, bad_targets/1, node_asks/1,
         same_argument_errors_as_here/1]).
-export([concurrent_calls/1, max_inflight/1, late_reply/1, calls_of_other_processes/1,
         checkin_under_a_call/1, dead_owner_of_an_idle_one/1, dead_owner_under_a_call/1,
         dead_caller_of_a_pool/1, dead_caller_over_a_lease/1, target_dies/1, given_away/1,
         pool_stopped_under_a_call/1, silent_server/1, serving_node_is_lost/1]).

-import(sockpool_test_util, [wait_until/1, settled/1, stat/2, start/1, await/1, why_unavailable/1,
                             assert_no_messages/0]).
-import(sockpool_cluster, [client/1, run/2, begin_run/2]).
-import(sockpool_node_kit, [started/3, checked_out/1, call/3, waiting_call/2, is_waiting/1, tell/3, node_of/1]).

suite() -> [{timetrap, {minutes, 3}}].

all() -> [{group, erlang}, {group, c}].

groups() -> [{erlang, cases() ++ [same_argument_errors_as_here, serving_node_is_lost]}, {c, cases()}].

cases() ->
    [calls, exceptions, calls_by_pool, messages, large_messages, too_large_a_reply,
     functions_that_print, lease_functions, no_stream, no_node, bad_targets, node_asks, concurrent_calls,
     max_inflight, late_reply, calls_of_other_processes, checkin_under_a_call, dead_owner_of_an_idle_one,
     dead_owner_under_a_call, dead_caller_of_a_pool, dead_caller_over_a_lease, target_dies,
     given_away, pool_stopped_under_a_call, silent_server].

init_per_suite(Config) -> sockpool_remote_kit:init_suite(Config).
end_per_suite(Config) -> sockpool_remote_kit:end_suite(Config).
init_per_group(Kind, Config) -> sockpool_remote_kit:init_group(Kind, Config).
end_per_group(Kind, Config) -> sockpool_remote_kit:end_group(Kind, Config).
init_per_testcase(Case, Config) -> sockpool_remote_kit:init_case(Case, Config).
end_per_testcase(_Case, Config) -> sockpool_remote_kit:end_case(Config).

%% A pool of the serving node, with connections to the other one.
started(Config, Opts) -> started(Config, ?config(other_node, Config), Opts).

%%% Calls.

calls(Config) -> sockpool_node_call_cases:calls(Config, ?config(other_node, Config)).

exceptions(Config) -> sockpool_node_call_cases:exceptions(Config, ?config(other_node, Config)).

calls_by_pool(Config) -> sockpool_node_call_cases:calls_by_pool(Config, ?config(other_node, Config)).

messages(Config) -> sockpool_node_call_cases:messages(Config, ?config(other_node, Config)).

large_messages(Config) ->
    sockpool_node_call_cases:large_messages(Config, ?config(other_node, Config), 8 bsl 20, 4).

too_large_a_reply(Config) ->
    CheckedIn = case ?config(kind, Config) of
                    erlang -> ok;
                    c -> {error, closed}
                end,
    sockpool_node_call_cases:too_large_a_reply(Config, ?config(other_node, Config), CheckedIn).

%% They go on as if it had been printed.
functions_that_print(Config) ->
    Pool = started(Config, #{}),
    ?assertEqual({ok, ok}, call(Pool, print, ["said over another node\n"])),
    ?assertEqual({ok, ok}, sockpool:call(Pool, io, format, ["~p~n", [said_too]], 30000)),
    ?assertMatch(#{closed := 0}, settled(Pool)).

%%% What is no call.

lease_functions(Config) ->
    Target = ?config(other_node, Config),
    Pool = {Name, _} = started(Config, #{max_inflight => 7}),
    Conn = checked_out(Pool),
    {ok, {{127, _, _, _}, Port} = Peer} = sockpool:peername(Conn),
    {ok, Own} = sockpool:sockname(Conn),
    ?assertNotEqual(Peer, Own),
    ?assertMatch({ok, #{pool := Name, transport := node, packet := 4, node := Target, name := _,
                        creation := _, max_inflight := 7, peername := {_, Port}}},
                 sockpool:info(Conn)),
    ?assertEqual(ok, sockpool:setopts(Conn, [{nodelay, false}, {keepalive, true}])),
    ?assertEqual({error, {bad_option, packet, raw}}, sockpool:setopts(Conn, [{packet, raw}])),
    ?assertEqual({error, {bad_option, nodelay, 1}}, sockpool:setopts(Conn, [{nodelay, 1}])),
    ?assertEqual({error, not_owner}, await(start(fun() -> sockpool:checkin(Conn) end))),
    ?assertEqual({error, not_owner}, await(start(fun() -> sockpool:info(Conn) end))),
    ?assertEqual(ok, sockpool:discard(Conn)),
    [?assertEqual({error, closed}, Function(Conn))
     || Function <- [fun sockpool:checkin/1, fun sockpool:discard/1, fun sockpool:info/1,
                     fun sockpool:peername/1]],
    ?assertEqual({ok, Target}, sockpool:transaction(Pool, fun sockpool_node_kit:node_of/1, 30000)),
    ?assertMatch(#{checkouts := 2, checkins := 2, closed := 1, abandoned := 0}, settled(Pool)),
    assert_no_messages().

no_stream(Config) -> sockpool_node_call_cases:no_stream(Config, ?config(other_node, Config)).

%% And the other way round.
no_node(Config) ->
    Pool = sockpool_remote_kit:started(Config, #{}),
    ?assertEqual({error, {bad_option, transport, tcp}}, sockpool:call(Pool, erlang, node, [], 30000)),
    ?assertEqual({error, {bad_option, transport, tcp}}, sockpool:send_to(Pool, x, y)),
    Conn = checked_out(Pool),
    ?assertEqual({error, {bad_argument, node_conn, Conn}}, node_of(Conn)),
    ?assertEqual({error, {bad_argument, node_conn, Conn}}, sockpool:send_to(Conn, x, y)),
    ok = sockpool:checkin(Conn),
    ?assertEqual({error, closed}, node_of(Conn)),
    ?assertMatch(#{closed := 0}, settled(Pool)).

%% What no sockpool.erl sends.
bad_targets(Config) ->
    Pool = {Name, Node} = started(Config, #{}),
    Ask = fun(Request) -> gen_server:call({sockpool, Node}, Request, 30000) end,
    Bad = [{call, make_ref(), Target, erlang, node, [], 1000} || Target <- ["p", 1, {Name, Node}]]
        ++ [{call, Id, Name, erlang, node, [], 1000} || Id <- [1, self(), Name]]
        ++ [{send_to, make_ref(), "p", x, y, 1000}, {send_to, 1, Name, x, y, default},
            {send_to, make_ref(), Name, x, y}, {call, make_ref(), Name}, {send_to, make_ref(), Name}],
    [?assertEqual({error, {bad_request, Request}}, Ask(Request)) || Request <- Bad],
    [?assertEqual({error, closed}, Ask({call, make_ref(), Lease, erlang, node, [], 1000}))
     || Lease <- [{'$sockpool_lease', Node, make_ref(), 1}, {'$sockpool_lease', Node, <<0:128>>, 1},
                  {'$sockpool_lease', Node, 1, x}]],
    Wrong = [{module, "m", "m", f, [], 1}, {function, 1, m, 1, [], 1}, {args, x, m, f, x, 1},
             {args, [a | b], m, f, [a | b], 1}, {timeout, -1, m, f, [], -1},
             {timeout, x, m, f, [], x}, {timeout, default, m, f, [], default}],
    [?assertEqual({error, {bad_argument, What, Value}}, Ask({call, make_ref(), Name, M, F, A, T}))
     || {What, Value, M, F, A, T} <- Wrong],
    Conn = checked_out(Pool),
    [?assertEqual({error, {bad_argument, What, Value}}, Ask({call, make_ref(), Conn, M, F, A, T}))
     || {What, Value, M, F, A, T} <- Wrong],
    [?assertEqual({error, {bad_argument, timeout, soon}}, Ask({send_to, make_ref(), Target, x, y, soon}))
     || Target <- [Name, Conn]],
    ?assertMatch({ok, _}, node_of(Conn)),
    ok = sockpool:checkin(Conn),
    ?assertMatch(#{closed := 0}, settled(Pool)).

same_argument_errors_as_here(Config) ->
    Pool = started(Config, #{}),
    [?assertEqual({error, {bad_argument, Name, Wrong}},
                  sockpool:call(Pool, Module, Function, Args, Timeout))
     || {Name, Wrong, Module, Function, Args, Timeout} <-
            [{module, "m", "m", f, [], 1}, {function, 1, m, 1, [], 1}, {args, x, m, f, x, 1},
             {timeout, -1, m, f, [], -1}]].

node_asks(Config) -> sockpool_node_call_cases:node_asks(Config, ?config(other_node, Config)).

%%% Many calls over one connection.

concurrent_calls(Config) -> sockpool_node_call_cases:concurrent_calls(Config, ?config(other_node, Config), 500).

max_inflight(Config) -> sockpool_node_call_cases:max_inflight(Config, ?config(other_node, Config)).

late_reply(Config) -> sockpool_node_call_cases:late_reply(Config, ?config(other_node, Config)).

%% As of this node, so of others.
calls_of_other_processes(Config) ->
    Target = ?config(other_node, Config),
    Conn = checked_out(started(Config, #{})),
    [begin
         Client = client(Node),
         ?assertEqual({ok, Target}, run(Client, fun() -> node_of(Conn) end)),
         ?assertEqual(ok, run(Client, fun() -> sockpool:send_to(Conn, no_such_name, x) end)),
         ok = sockpool_cluster:kill(Client)
     end || Node <- sockpool_remote_kit:client_nodes(Config)],
    ?assertEqual({ok, Target}, node_of(Conn)),
    ok = sockpool:checkin(Conn),
    ?assertEqual({error, closed}, await(start(fun() -> node_of(Conn) end))),
    ?assertEqual({error, closed}, await(start(fun() -> sockpool:send_to(Conn, x, x) end))).

%%% Ends.

checkin_under_a_call(Config) -> sockpool_node_call_cases:checkin_under_a_call(Config, ?config(other_node, Config)).

dead_owner_of_an_idle_one(Config) ->
    Pool = started(Config, #{}),
    Owner = client(node()),
    {ok, _} = run(Owner, fun() -> node_of(checked_out(Pool)) end),
    ok = sockpool_cluster:kill(Owner),
    ?assertMatch(#{closed := 0, created := 1, abandoned := 0}, settled(Pool)),
    ?assertMatch({ok, _}, node_of(Pool)).

%% Whoever else calls over it hears that.
dead_owner_under_a_call(Config) ->
    Pool = started(Config, #{}),
    Self = self(),
    Owner = client(?config(other_node, Config)),
    Conn = run(Owner, fun() -> checked_out(Pool) end),
    Job = waiting_call(Conn, remote_orphan_1),
    _ = begin_run(Owner, fun() -> call(Conn, answer_when_told, [remote_orphan_2, Self]) end),
    ok = is_waiting(remote_orphan_2),
    ok = sockpool_cluster:kill(Owner),
    ?assertEqual({error, closed}, await(Job)),
    wait_until(fun() -> stat(Pool, closed) =:= 1 end),
    ?assertMatch(#{created := 2, abandoned := 1, checkins := 0}, settled(Pool)),
    [tell(?config(other_node, Config), Name, too_late) || Name <- [remote_orphan_1, remote_orphan_2]],
    ok.

dead_caller_of_a_pool(Config) ->
    Pool = started(Config, #{}),
    Self = self(),
    Client = client(?config(other_node, Config)),
    _ = begin_run(Client, fun() -> call(Pool, answer_when_told, [remote_pool_call, Self]) end),
    ok = is_waiting(remote_pool_call),
    ok = sockpool_cluster:kill(Client),
    wait_until(fun() -> stat(Pool, closed) =:= 1 end),
    ?assertMatch(#{created := 2, abandoned := 1, checkins := 0}, settled(Pool)),
    tell(?config(other_node, Config), remote_pool_call, too_late).

%% Its call counts until the reply comes; the lease is not its own.
dead_caller_over_a_lease(Config) ->
    Pool = started(Config, #{max_inflight => 1}),
    Self = self(),
    Conn = checked_out(Pool),
    Client = client(?config(other_node, Config)),
    _ = begin_run(Client, fun() -> call(Conn, answer_when_told, [remote_dead_caller, Self]) end),
    ok = is_waiting(remote_dead_caller),
    ok = sockpool_cluster:kill(Client),
    ?assertEqual({error, busy}, node_of(Conn)),
    ok = tell(?config(other_node, Config), remote_dead_caller, to_nobody),
    wait_until(fun() -> case node_of(Conn) of {ok, _} -> true; Other -> Other end end),
    ok = sockpool:checkin(Conn),
    ?assertMatch(#{closed := 0}, settled(Pool)).

target_dies(Config) ->
    #{node := Target} = Peer = sockpool_cluster:start_plain_peer(),
    Pool = started(Config, Target, #{size => 2}),
    Conn = checked_out(Pool),
    Jobs = [waiting_call(Conn, remote_doomed_1), waiting_call(Pool, remote_doomed_2)],
    ok = sockpool_cluster:kill_vm(Peer),
    [?assertMatch({error, Why} when Why =:= closed; Why =:= econnreset, await(Job)) || Job <- Jobs],
    ?assertEqual({error, closed}, node_of(Conn)),
    _ = why_unavailable(fun() -> sockpool:call(Pool, erlang, node, [], 500) end),
    _ = sockpool:checkin(Conn),
    ok.

given_away(Config) ->
    Pool = started(Config, #{}),
    Conn = checked_out(Pool),
    Heir = client(?config(other_node, Config)),
    ?assertEqual(ok, sockpool:give_away(Conn, Heir)),
    ?assertEqual({error, not_owner}, sockpool:checkin(Conn)),
    ?assertMatch({ok, _}, node_of(Conn)),
    ?assertMatch({ok, _}, run(Heir, fun() -> node_of(Conn) end)),
    ?assertEqual(ok, run(Heir, fun() -> sockpool:checkin(Conn) end)),
    Other = checked_out(Pool),
    ok = sockpool:give_away(Other, Heir),
    ok = sockpool_cluster:kill(Heir),
    ?assertMatch(#{closed := 0, created := 1}, settled(Pool)).

pool_stopped_under_a_call(Config) ->
    Pool = started(Config, #{size => 2}),
    Conn = checked_out(Pool),
    Jobs = [waiting_call(Conn, remote_stopped_1), waiting_call(Pool, remote_stopped_2)],
    ok = sockpool:stop_pool(Pool),
    [?assertEqual({error, closed}, await(Job)) || Job <- Jobs],
    ?assertEqual({error, closed}, node_of(Conn)),
    ?assertEqual({error, not_found}, node_of(Pool)),
    _ = sockpool:checkin(Conn),
    [tell(?config(other_node, Config), Name, too_late) || Name <- [remote_stopped_1, remote_stopped_2]],
    ok.

%% The client's own limit, and what it cancels.
silent_server(Config) ->
    Pool = started(Config, #{size => 2}),
    Conn = checked_out(Pool),
    ok = sockpool_remote_kit:suspend(Config),
    Calls = [start(fun() -> sockpool:call(To, sockpool_node_kit, linger, [], 100) end)
             || To <- [Pool, Conn]],
    ?assertEqual([{error, timeout}, {error, timeout}], [await(Job) || Job <- Calls]),
    ok = sockpool_remote_kit:resume(Config),
    %% That of the pool is gone with its connection, or was never made.
    ok = wait_until(fun() -> stat(Pool, leased) =:= 1 end),
    ok = sockpool:discard(Conn),
    _ = settled(Pool),
    assert_no_messages().

serving_node_is_lost(Config) ->
    #{node := Node} = Peer = sockpool_cluster:start_peer(),
    Target = ?config(other_node, Config),
    Pool = {lost, Node},
    ok = sockpool:start_pool(Pool, #{transport => node, node => Target, size => 2}),
    Conn = checked_out(Pool),
    Jobs = [waiting_call(Conn, remote_lost_1), waiting_call(Pool, remote_lost_2)],
    ok = sockpool_cluster:kill_vm(Peer),
    ?assertEqual([{error, {nodedown, Node}}, {error, {nodedown, Node}}], [await(Job) || Job <- Jobs]),
    ?assertEqual({error, {nodedown, Node}}, node_of(Conn)),
    ?assertEqual({error, {nodedown, Node}}, sockpool:send_to(Pool, x, y)),
    [tell(?config(other_node, Config), Name, too_late) || Name <- [remote_lost_1, remote_lost_2]],
    ok.
