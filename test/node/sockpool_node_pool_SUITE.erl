%%% Pools with transport => node: calls and messages over distribution connections to a real node, and
%%% leases. How they connect is in sockpool_node_connect_SUITE.
-module(sockpool_node_pool_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2,
         end_per_testcase/2]).
-export([calls/1, exceptions/1, calls_by_pool/1, messages/1, output_comes_here/1,
         output_of_a_call_before/1, large_messages/1, too_large_a_reply/1, lease_functions/1, no_stream/1, bad_arguments/1]).
-export([node_asks/1, concurrent_calls/1, max_inflight/1, late_reply/1, call_from_another_process/1,
         checkin_under_a_call/1, dead_owner_of_an_idle_one/1, dead_owner_under_a_call/1,
         given_away/1, waiters/1, max_hold/1, pool_stopped_under_a_call/1]).
-export([pool_of_another_node/1, client_of_another_node_dies/1, calls_after_an_upgrade/1]).

-import(sockpool_test_util, [wait_until/1, settled/1, stat/2, start/1, await/1,
                             assert_no_messages/0]).
-import(sockpool_node_kit, [started/2, checked_out/1, call/3, waiting_call/2, is_waiting/1, node_of/1]).

suite() -> [{timetrap, {minutes, 3}}].

all() ->
    [calls, exceptions, calls_by_pool, messages, output_comes_here, output_of_a_call_before, large_messages,
     too_large_a_reply, lease_functions, no_stream, bad_arguments, node_asks, concurrent_calls, max_inflight,
     late_reply, call_from_another_process, checkin_under_a_call, dead_owner_of_an_idle_one,
     dead_owner_under_a_call, given_away, waiters, max_hold, pool_stopped_under_a_call, pool_of_another_node,
     client_of_another_node_dies, calls_after_an_upgrade].

init_per_suite(Config) -> sockpool_node_kit:init_suite(Config).
end_per_suite(Config) -> sockpool_node_kit:end_suite(Config).
init_per_testcase(Case, Config) -> sockpool_node_kit:init_case(Case, Config).
end_per_testcase(_Case, _Config) -> sockpool_node_kit:end_case().

%%% Calls.

calls(Config) -> sockpool_node_call_cases:calls(Config, ?config(node, Config)).

exceptions(Config) -> sockpool_node_call_cases:exceptions(Config, ?config(node, Config)).

calls_by_pool(Config) -> sockpool_node_call_cases:calls_by_pool(Config, ?config(node, Config)).

messages(Config) -> sockpool_node_call_cases:messages(Config, ?config(node, Config)).

%% As with erpc:call/4, though no connection of this VM is used for it.
output_comes_here(Config) ->
    Conn = checked_out(started(Config, #{})),
    ?assertEqual({ok, ok}, call(Conn, print, ["said on the other node\n"])),
    {ok, Text} = output(fun() -> run_captured(?config(pool, Config), Conn) end),
    ?assertEqual("captured: äλ", Text).

%% The reader has the group leader of whoever checked out: one that collects.
run_captured(Pool, Conn) ->
    ok = sockpool:checkin(Conn),
    {ok, ok} = sockpool:call(Pool, sockpool_node_kit, print, ["captured: äλ"], 30000),
    ok.

%% What a function left behind prints nothing into the calls of others, and does not end them.
output_of_a_call_before(Config) ->
    Pool = started(Config, #{}),
    Self = self(),
    ?assertEqual({ok, ok}, call(Pool, print_later, [late_printer, Self])),
    {ok, Text} = output(fun() ->
                                Job = waiting_call(Pool, others_call),
                                Printer = late_printer_there(Config),
                                Printer ! print,
                                wait_until(fun() -> asks_its_leader(Config, Printer) end),
                                {others_call, ?config(node, Config)} ! {answer, undisturbed},
                                ?assertEqual({ok, undisturbed}, await(Job))
                        end),
    ?assertEqual("", Text),
    ok = sockpool:stop_pool(Pool),
    %% Its group leader is gone with the connection.
    receive {printed, Printed} -> ?assertMatch({'EXIT', _}, Printed) after 30000 -> error(late) end.

%% What it asked is on its way, ahead of the other call's result; or it has been told already that nobody is there.
asks_its_leader(Config, Printer) ->
    Where = erpc:call(?config(node, Config), erlang, process_info, [Printer, [status, current_function]]),
    case Where of
        [{status, waiting}, {current_function, {io, _, _}}] -> true;
        undefined -> true;
        _ -> Where
    end.

late_printer_there(Config) -> erpc:call(?config(node, Config), erlang, whereis, [late_printer]).

%% A group leader that keeps what it is given.
output(Fun) ->
    Keeper = spawn(fun() -> keep([]) end),
    Old = group_leader(),
    true = group_leader(Keeper, self()),
    ok = try Fun() after group_leader(Old, self()) end,
    Keeper ! {tell, self()},
    receive {kept, Text} -> {ok, Text} after 30000 -> error(late) end.

keep(Kept) ->
    receive
        {io_request, From, ReplyAs, {put_chars, unicode, Chars}} ->
            From ! {io_reply, ReplyAs, ok},
            keep([Kept | unicode:characters_to_list(Chars)]);
        {tell, To} ->
            To ! {kept, lists:flatten(Kept)}
    end.

large_messages(Config) ->
    sockpool_node_call_cases:large_messages(Config, ?config(node, Config), 16 bsl 20, 8).

too_large_a_reply(Config) -> sockpool_node_call_cases:too_large_a_reply(Config, ?config(node, Config), ok).

%%% Leases.

lease_functions(Config) ->
    Node = ?config(node, Config),
    Pool = started(Config, #{max_inflight => 7}),
    Conn = checked_out(Pool),
    {ok, {{127, 0, 0, 1}, Port} = Peer} = sockpool:peername(Conn),
    {ok, Own} = sockpool:sockname(Conn),
    ?assertNotEqual(Peer, Own),
    ?assertMatch({ok, #{pool := Pool, transport := node, packet := 4, node := Node, name := _,
                        creation := _, max_inflight := 7, peername := {_, Port}}},
                 sockpool:info(Conn)),
    ?assertEqual(ok, sockpool:setopts(Conn, [{nodelay, false}, {keepalive, true}])),
    ?assertEqual({error, {bad_option, packet, raw}}, sockpool:setopts(Conn, [{packet, raw}])),
    ?assertEqual({error, {bad_option, nodelay, 1}}, sockpool:setopts(Conn, [{nodelay, 1}])),
    ?assertEqual({error, {bad_argument, opts, x}}, sockpool:setopts(Conn, x)),
    ?assertEqual({error, {bad_option, transport, node}}, sockpool:recv(Conn, packet)),
    ?assertEqual({error, not_owner}, await(start(fun() -> sockpool:checkin(Conn) end))),
    ?assertEqual({error, not_owner}, await(start(fun() -> sockpool:discard(Conn) end))),
    ?assertEqual({error, not_owner}, await(start(fun() -> sockpool:info(Conn) end))),
    ?assertEqual(ok, sockpool:discard(Conn)),
    [?assertEqual({error, closed}, Function(Conn))
     || Function <- [fun sockpool:checkin/1, fun sockpool:discard/1, fun sockpool:info/1,
                     fun sockpool:peername/1]],
    ?assertEqual({ok, Node}, sockpool:transaction(Pool, fun sockpool_node_kit:node_of/1, 30000)),
    ?assertEqual({ok, {ok, Node}}, sockpool:execute(Pool, fun sockpool_node_kit:node_of/1, 30000)),
    ?assertError(oops, sockpool:transaction(Pool, fun(_) -> error(oops) end)),
    ?assertMatch(#{checkouts := 4, checkins := 4, closed := 2, abandoned := 0}, settled(Pool)),
    assert_no_messages().

no_stream(Config) ->
    sockpool_node_call_cases:no_stream(Config, ?config(node, Config)),
    ?assertEqual({error, {bad_option, transport, node}}, sockpool:reload_tls(?config(pool, Config))),
    %% And the other way round.
    Server = sockpool_test_server:start(),
    ok = sockpool:start_pool(tcp, sockpool_test_server:target(Server)),
    ?assertEqual({error, {bad_option, transport, tcp}}, sockpool:call(tcp, erlang, node, [], 30000)),
    ?assertEqual({error, {bad_option, transport, tcp}}, sockpool:send_to(tcp, x, y)),
    Stream = checked_out(tcp),
    ?assertEqual({error, {bad_argument, node_conn, Stream}},
                 sockpool:call(Stream, erlang, node, [], 30000)),
    ?assertEqual({error, {bad_argument, node_conn, Stream}}, sockpool:send_to(Stream, x, y)),
    ok = sockpool:checkin(Stream).

bad_arguments(Config) ->
    Conn = checked_out(started(Config, #{})),
    [?assertEqual({error, {bad_argument, Name, Wrong}},
                  sockpool:call(Conn, Module, Function, Args, Timeout))
     || {Name, Wrong, Module, Function, Args, Timeout} <-
            [{module, "m", "m", f, [], 1}, {function, 1, m, 1, [], 1}, {args, x, m, f, x, 1},
             {args, [a | b], m, f, [a | b], 1}, {timeout, -1, m, f, [], -1},
             {timeout, x, m, f, [], x}]],
    [?assertEqual({error, {bad_argument, pool, Pool}}, sockpool:call(Pool, erlang, node, [], 1))
     || Pool <- ["pool", 1, {a, 1}]],
    ?assertMatch({ok, _}, sockpool:call(Conn, erlang, node, [], 30000)).

node_asks(Config) -> sockpool_node_call_cases:node_asks(Config, ?config(node, Config)).

%%% Many calls over one connection.

concurrent_calls(Config) -> sockpool_node_call_cases:concurrent_calls(Config, ?config(node, Config), 1000).

max_inflight(Config) -> sockpool_node_call_cases:max_inflight(Config, ?config(node, Config)).

late_reply(Config) -> sockpool_node_call_cases:late_reply(Config, ?config(node, Config)).

call_from_another_process(Config) ->
    Node = ?config(node, Config),
    Conn = checked_out(started(Config, #{})),
    ?assertEqual({ok, Node}, await(start(fun() -> node_of(Conn) end))),
    ?assertEqual(ok, await(start(fun() -> sockpool:send_to(Conn, no_such_name, x) end))),
    ok = sockpool:checkin(Conn),
    ?assertEqual({error, closed}, await(start(fun() -> node_of(Conn) end))),
    ?assertEqual({error, closed}, await(start(fun() -> sockpool:send_to(Conn, x, x) end))).

checkin_under_a_call(Config) -> sockpool_node_call_cases:checkin_under_a_call(Config, ?config(node, Config)).

dead_owner_of_an_idle_one(Config) ->
    Pool = started(Config, #{}),
    _ = await(start(fun() -> {ok, _} = node_of(checked_out(Pool)) end)),
    ?assertMatch(#{closed := 0, created := 1, abandoned := 0}, settled(Pool)),
    ?assertMatch({ok, _}, sockpool:call(Pool, erlang, node, [], 30000)).

dead_owner_under_a_call(Config) ->
    Pool = started(Config, #{}),
    Self = self(),
    Owner = spawn(fun() -> call(checked_out(Pool), answer_when_told, [orphaned_call, Self]) end),
    ok = is_waiting(orphaned_call),
    exit(Owner, kill),
    wait_until(fun() -> stat(Pool, closed) =:= 1 end),
    ?assertMatch(#{created := 2, abandoned := 1, checkins := 0}, settled(Pool)).

given_away(Config) ->
    Node = ?config(node, Config),
    Pool = started(Config, #{}),
    Conn = checked_out(Pool),
    {Dead, Monitor} = spawn_monitor(fun() -> ok end),
    receive {'DOWN', Monitor, process, Dead, _} -> ok end,
    ?assertEqual({error, noproc}, sockpool:give_away(Conn, Dead)),
    Heir = spawn(fun() -> receive {checkin, From} -> From ! {checked_in, sockpool:checkin(Conn)} end end),
    ?assertEqual(ok, sockpool:give_away(Conn, Heir)),
    ?assertEqual({error, not_owner}, sockpool:checkin(Conn)),
    ?assertEqual({ok, Node}, node_of(Conn)),
    Heir ! {checkin, self()},
    receive {checked_in, Result} -> ?assertEqual(ok, Result) after 30000 -> error(late) end,
    ?assertMatch(#{closed := 0}, settled(Pool)),
    Other = checked_out(Pool),
    Mortal = spawn(sockpool_node_kit, linger, []),
    ok = sockpool:give_away(Other, Mortal),
    exit(Mortal, kill),
    ?assertMatch(#{closed := 0, checkins := 2}, settled(Pool)).

%% Those who had to wait for a connection get one that calls.
waiters(Config) ->
    Pool = started(Config, #{}),
    Conn = checked_out(Pool),
    Jobs = [start(fun() -> sockpool:transaction(Pool, fun sockpool_node_kit:node_of/1, infinity) end)
            || _ <- lists:seq(1, 20)],
    wait_until(fun() -> stat(Pool, waiting) =:= 20 end),
    ?assertEqual({error, full}, sockpool:call(Pool, erlang, node, [], 0)),
    ok = sockpool:checkin(Conn),
    [?assertEqual({ok, ?config(node, Config)}, await(Job)) || Job <- Jobs],
    ?assertMatch(#{closed := 0, checkouts := 21}, settled(Pool)).

max_hold(Config) ->
    %% Long enough that the call is made within it: an untouched connection would not be closed.
    Pool = started(Config, #{max_hold => 1000}),
    Conn = checked_out(Pool),
    ?assertEqual({error, closed}, call(Conn, linger, [])),
    ?assertEqual({error, closed}, sockpool:checkin(Conn)),
    ?assertMatch(#{closed := 1}, settled(Pool)).

pool_stopped_under_a_call(Config) ->
    Pool = started(Config, #{}),
    Conn = checked_out(Pool),
    Job = waiting_call(Conn, stopped_call),
    ok = sockpool:stop_pool(Pool),
    ?assertEqual({error, closed}, await(Job)),
    ?assertEqual({error, closed}, sockpool:call(Conn, erlang, node, [], 30000)),
    ?assertEqual({error, closed}, sockpool:checkin(Conn)),
    ?assertEqual({error, not_found}, sockpool:call(Pool, erlang, node, [], 1000)).

%%% Pools of nodes that another node serves.

with_serving_node(Config, Fun) ->
    #{node := Serving} = Peer = sockpool_cluster:start_peer(),
    Pool = {?config(pool, Config), Serving},
    try
        ok = sockpool:start_pool(Pool, #{transport => node, node => ?config(node, Config), size => 1,
                                         max_overflow => 0, cookie => erlang:get_cookie()}),
        Fun(Pool)
    after
        sockpool_cluster:stop_peer(Peer)
    end.

pool_of_another_node(Config) ->
    Node = ?config(node, Config),
    with_serving_node(Config, fun({Name, Serving} = Pool) ->
        ?assertEqual({ok, Node}, sockpool:call(Pool, erlang, node, [], 30000)),
        ?assertMatch({error, {exception, error, badarg, _}},
                     sockpool:call(Pool, erlang, atom_to_list, [1], 30000)),
        ?assertEqual({error, timeout}, sockpool:call(Pool, sockpool_node_kit, linger, [], 50)),
        ?assertEqual({ok, ok}, call(Pool, relay, [remote_relay, self()])),
        ok = sockpool:send_to(Pool, remote_relay, by_pool),
        {ok, Conn} = sockpool:checkout(Pool, 30000),
        ?assertMatch({ok, #{transport := node, node := Node, pool := Name}}, sockpool:info(Conn)),
        ok = sockpool:send_to(Conn, remote_relay, by_lease),
        ?assertEqual({ok, Node}, sockpool:call(Conn, erlang, node, [], 30000)),
        ?assertEqual({ok, Node},
                     await(start(fun() -> sockpool:call(Conn, erlang, node, [], 30000) end))),
        ?assertEqual({error, {bad_option, transport, node}}, sockpool:send(Conn, "x")),
        ok = sockpool:checkin(Conn),
        ?assertEqual({error, closed}, sockpool:call(Conn, erlang, node, [], 30000)),
        [receive {relayed, Way} -> ok after 30000 -> error(late) end || Way <- [by_pool, by_lease]],
        ok = sockpool:send_to(Pool, remote_relay, stop),
        ?assertMatch(#{closed := 1}, settled(Pool)),
        ?assertEqual({error, not_found}, sockpool:call({none, Serving}, erlang, node, [], 30000)),
        assert_no_messages()
    end).

client_of_another_node_dies(Config) ->
    with_serving_node(Config, fun({_Name, Serving} = Pool) ->
        Self = self(),
        Client = spawn(fun() -> call(Pool, answer_when_told, [remote_orphan, Self]) end),
        ok = is_waiting(remote_orphan),
        exit(Client, kill),
        wait_until(fun() -> stat(Pool, abandoned) =:= 1 end),
        wait_until(fun() -> sockpool_cluster:holds_nothing(Serving) end),
        ?assertMatch(#{closed := 1, created := 2}, settled(Pool))
    end).

%% The next version's library has tables of its own; the connections that there are have the old one's.
calls_after_an_upgrade(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0}),
    Node = ?config(node, Config),
    Call = fun() -> sockpool:call(Pool, erlang, node, [], 5000) end,
    ?assertEqual({ok, Node}, Call()),
    sockpool_test_util:with_library_copied(
      filename:join(?config(priv_dir, Config), "sockpool-9.9.7"),
      fun(Replace) ->
              ok = Replace(),
              _ = code:purge(sockpool_nif),
              {module, sockpool_nif} = code:load_file(sockpool_nif),
              ?assertEqual({ok, Node}, Call())
      end),
    ?assertMatch(#{created := 1}, sockpool_test_util:stats(Pool)).
