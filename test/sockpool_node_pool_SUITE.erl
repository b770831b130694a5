%%% Pools with transport => node: calls and messages over distribution connections to real nodes.
-module(sockpool_node_pool_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2,
         end_per_testcase/2]).
-export([relay/2, swallow/1, print/1, answer_when_told/2, be_killed/0, linger/0,
         tell_everybody/0]).
-export([calls/1, exceptions/1, calls_by_pool/1, messages/1, output_comes_here/1, large_messages/1,
         too_large_a_reply/1, lease_functions/1, no_stream/1, bad_arguments/1]).
-export([concurrent_calls/1, max_inflight/1, late_reply/1, call_from_another_process/1,
         checkin_under_a_call/1, dead_owner_at_rest/1, dead_owner_under_a_call/1,
         given_away/1, waiters/1, max_hold/1, pool_stopped_under_a_call/1]).
-export([hidden/1, names_are_used_again/1, ticks_while_idle/1, ticks_while_leased/1,
         unasked_messages/1, killed_under_calls/1]).
-export([wrong_cookie/1, cookie_is_not_logged/1, unknown_node/1, port_without_epmd/1, other_node/1,
         not_a_node/1]).

-import(sockpool_test_util, [wait_until/1, settled/1, stat/2, start/1, await/1, run_all/1,
                             assert_no_messages/0]).

suite() -> [{timetrap, {minutes, 3}}].

all() ->
    [calls, exceptions, calls_by_pool, messages, output_comes_here, large_messages,
     too_large_a_reply, lease_functions, no_stream, bad_arguments, concurrent_calls, max_inflight,
     late_reply, call_from_another_process, checkin_under_a_call, dead_owner_at_rest,
     dead_owner_under_a_call, given_away, waiters, max_hold, pool_stopped_under_a_call, hidden,
     names_are_used_again, ticks_while_idle, ticks_while_leased, unasked_messages,
     killed_under_calls, wrong_cookie, cookie_is_not_logged, unknown_node, port_without_epmd,
     other_node, not_a_node].

init_per_suite(Config) ->
    ok = sockpool_cluster:be_a_node(),
    {ok, _} = application:ensure_all_started(sockpool),
    [{peer, sockpool_cluster:start_plain_peer()} | Config].

end_per_suite(Config) ->
    sockpool_cluster:stop_peer(?config(peer, Config)),
    application:stop(sockpool).

init_per_testcase(Case, Config) ->
    #{node := Node} = ?config(peer, Config),
    [{pool, Case}, {node, Node} | Config].

end_per_testcase(_Case, _Config) ->
    lists:foreach(fun sockpool:stop_pool/1, sockpool:which_pools()).

started(Config, Opts) -> started(Config, ?config(node, Config), Opts).

started(Config, Node, Opts) ->
    Pool = ?config(pool, Config),
    Defaults = #{transport => node, node => Node, size => 1, max_overflow => 0, backoff => {1, 50}},
    {ok, _} = sockpool:start_pool(Pool, maps:merge(Defaults, Opts)),
    Pool.

checked_out(Pool) ->
    {ok, Conn} = sockpool:checkout(Pool, 30000),
    Conn.

call(To, Function, Args) ->
    sockpool:call(To, ?MODULE, Function, Args, 30000).

%%% On the other node.

%% Sends on what it gets, until it is told to stop.
relay(Name, To) ->
    Parent = self(),
    spawn(fun() ->
                  true = register(Name, self()),
                  Parent ! registered,
                  relay_loop(To)
          end),
    receive registered -> ok end.

relay_loop(To) ->
    receive
        stop -> ok;
        Message -> To ! {relayed, Message}, relay_loop(To)
    end.

swallow(Bytes) -> byte_size(Bytes).

print(Text) -> io:put_chars(Text).

%% Answers when somebody says so.
answer_when_told(Name, To) ->
    true = register(Name, self()),
    To ! {waiting, Name},
    receive {answer, Answer} -> Answer end.

%% What a node may send to any other that it is connected to.
tell_everybody() ->
    [begin
         {nobody, Node} ! hello,
         {net_kernel, Node} ! {self(), hello},
         _ = monitor(process, {nobody, Node}),
         rpc:cast(Node, erlang, node, [])
     end || Node <- nodes(hidden)],
    ok.

be_killed() ->
    true = exit(self(), kill),
    linger().

linger() ->
    receive after infinity -> ok end.

%%% Calls.

calls(Config) ->
    Node = ?config(node, Config),
    Conn = checked_out(started(Config, #{})),
    ?assertEqual({ok, Node}, sockpool:call(Conn, erlang, node, [], 30000)),
    Term = {self(), make_ref(), fun ?MODULE:swallow/1, #{a => [1.5, "text", <<1:3>>]}, 1 bsl 200},
    ?assertEqual({ok, [Term | Term]}, sockpool:call(Conn, lists, append, [[Term], Term], infinity)),
    ?assertEqual({ok, {error, x}}, sockpool:call(Conn, erlang, list_to_tuple, [[error, x]], 30000)),
    ?assertEqual(ok, sockpool:checkin(Conn)),
    ?assertEqual({error, closed}, sockpool:call(Conn, erlang, node, [], 30000)),
    ?assertMatch(#{closed := 0, checkins := 1}, settled(?config(pool, Config))),
    assert_no_messages().

exceptions(Config) ->
    Conn = checked_out(started(Config, #{})),
    Call = fun(Function, Args) -> sockpool:call(Conn, erlang, Function, Args, 30000) end,
    ?assertMatch({error, {exception, error, {my, reason}, [{erlang, error, _, _} | _]}},
                 Call(error, [{my, reason}])),
    ?assertEqual({error, {exception, exit, {my, reason}, []}}, Call(exit, [{my, reason}])),
    ?assertEqual({error, {exception, throw, {my, reason}, []}}, Call(throw, [{my, reason}])),
    ?assertMatch({error, {exception, error, undef, [{no_such, module, [1], _} | _]}},
                 sockpool:call(Conn, no_such, module, [1], 30000)),
    ?assertEqual({error, {exception, exit, {signal, killed}, []}}, call(Conn, be_killed, [])),
    ok = sockpool:checkin(Conn).

calls_by_pool(Config) ->
    Node = ?config(node, Config),
    Pool = started(Config, #{size => 2}),
    _ = settled(Pool),
    ?assertEqual({ok, Node}, sockpool:call(Pool, erlang, node, [], 30000)),
    ?assertMatch({error, {exception, error, badarg, _}},
                 sockpool:call(Pool, erlang, atom_to_list, [1], 30000)),
    Sums = [start(fun() -> sockpool:call(Pool, erlang, '+', [N, N], infinity) end)
            || N <- lists:seq(1, 100)],
    ?assertEqual([{ok, 2 * N} || N <- lists:seq(1, 100)], [await(Job) || Job <- Sums]),
    ?assertEqual({error, timeout}, sockpool:call(Pool, ?MODULE, linger, [], 50)),
    ?assertMatch(#{checkouts := 103, checkins := 103, closed := 1, abandoned := 0}, settled(Pool)),
    ?assertEqual({error, not_found}, sockpool:call(no_such_pool, erlang, node, [], 100)),
    assert_no_messages().

messages(Config) ->
    Node = ?config(node, Config),
    Pool = started(Config, #{}),
    Conn = checked_out(Pool),
    ?assertEqual({ok, ok}, call(Conn, relay, [messages_relay, self()])),
    {ok, Pid} = sockpool:call(Conn, erlang, whereis, [messages_relay], 30000),
    Messages = [{Way, N} || N <- lists:seq(1, 100), Way <- [name, named_node, pid]],
    lists:foreach(fun({name, _} = M) -> ok = sockpool:send_to(Conn, messages_relay, M);
                     ({named_node, _} = M) -> ok = sockpool:send_to(Conn, {messages_relay, Node}, M);
                     ({pid, _} = M) -> ok = sockpool:send_to(Conn, Pid, M)
                  end, Messages),
    ?assertEqual(Messages, [receive {relayed, M} -> M after 30000 -> none end || _ <- Messages]),
    ok = sockpool:send_to(Conn, no_such_name, hello),
    ?assertEqual({error, {bad_argument, destination, self()}}, sockpool:send_to(Conn, self(), x)),
    ?assertEqual({error, {bad_argument, destination, "x"}}, sockpool:send_to(Conn, "x", x)),
    ?assertEqual({error, {bad_argument, destination, {x, node()}}},
                 sockpool:send_to(Conn, {x, node()}, x)),
    ok = sockpool:checkin(Conn),
    ok = sockpool:send_to(Pool, messages_relay, by_pool),
    receive {relayed, by_pool} -> ok after 30000 -> error(late) end,
    ok = sockpool:send_to(Pool, Pid, stop),
    ?assertMatch(#{closed := 0}, settled(Pool)).

%% As with erpc:call/4, though no connection of this VM is used for it.
output_comes_here(Config) ->
    Conn = checked_out(started(Config, #{})),
    ?assertEqual({ok, ok}, call(Conn, print, ["said on the other node\n"])),
    {ok, Text} = output(fun() -> run_captured(?config(pool, Config), Conn) end),
    ?assertEqual("captured: äλ", Text).

%% The reader has the group leader of whoever checked out: one that collects.
run_captured(Pool, Conn) ->
    ok = sockpool:checkin(Conn),
    {ok, ok} = sockpool:call(Pool, ?MODULE, print, ["captured: äλ"], 30000),
    ok.

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
    Pool = started(Config, #{}),
    Conn = checked_out(Pool),
    Bytes = binary:copy(<<"0123456789abcdef">>, 1024 * 1024),
    ?assertEqual({ok, byte_size(Bytes)}, call(Conn, swallow, [Bytes])),
    %% Both ways at the same time, many of them: neither side stops reading while it writes.
    Copies = [start(fun() -> {ok, Bytes} = sockpool:call(Conn, binary, copy, [Bytes], infinity), ok end)
              || _ <- lists:seq(1, 8)],
    [ok = await(Job) || Job <- Copies],
    ok = sockpool:checkin(Conn),
    ?assertMatch(#{closed := 0}, settled(Pool)).

too_large_a_reply(Config) ->
    Pool = started(Config, #{recv_limit => 10000}),
    Conn = checked_out(Pool),
    ?assertMatch({ok, <<_:9000/binary>>},
                 sockpool:call(Conn, binary, copy, [<<0>>, 9000], 30000)),
    ?assertEqual({error, emsgsize}, sockpool:call(Conn, binary, copy, [<<0>>, 10000], 30000)),
    ?assertEqual({error, closed}, sockpool:call(Conn, erlang, node, [], 30000)),
    ?assertEqual(ok, sockpool:checkin(Conn)),
    ?assertMatch(#{closed := 1, abandoned := 0}, settled(Pool)).

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
    ?assertEqual({error, not_owner}, await(start(fun() -> sockpool:checkin(Conn) end))),
    ?assertEqual({error, not_owner}, await(start(fun() -> sockpool:discard(Conn) end))),
    ?assertEqual({error, not_owner}, await(start(fun() -> sockpool:info(Conn) end))),
    ?assertEqual(ok, sockpool:discard(Conn)),
    [?assertEqual({error, closed}, Function(Conn))
     || Function <- [fun sockpool:checkin/1, fun sockpool:discard/1, fun sockpool:info/1,
                     fun sockpool:peername/1]],
    ?assertEqual({ok, Node}, sockpool:transaction(Pool, fun node_of/1, 30000)),
    ?assertEqual({ok, {ok, Node}}, sockpool:execute(Pool, fun node_of/1, 30000)),
    ?assertError(oops, sockpool:transaction(Pool, fun(_) -> error(oops) end)),
    ?assertMatch(#{checkouts := 4, checkins := 4, closed := 2, abandoned := 0}, settled(Pool)),
    assert_no_messages().

node_of(Conn) -> sockpool:call(Conn, erlang, node, [], 30000).

no_stream(Config) ->
    Pool = started(Config, #{}),
    Refused = {error, {bad_option, transport, node}},
    ?assertEqual(Refused, sockpool:request(Pool, "x", packet, 1000)),
    Conn = checked_out(Pool),
    ?assertEqual(Refused, sockpool:send(Conn, "x")),
    ?assertEqual(Refused, sockpool:send(Conn, "x", 10)),
    ?assertEqual(Refused, sockpool:recv(Conn, 0)),
    ?assertEqual(Refused, sockpool:recv(Conn, 0, 10)),
    ?assertEqual(Refused, sockpool:reload_tls(Pool)),
    ok = sockpool:checkin(Conn),
    %% And the other way round.
    Server = sockpool_test_server:start(),
    {ok, _} = sockpool:start_pool(tcp, sockpool_test_server:target(Server)),
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

%%% Many calls over one connection.

concurrent_calls(Config) ->
    Pool = started(Config, #{max_inflight => 1000}),
    Conn = checked_out(Pool),
    Calls = [fun() ->
                     Text = integer_to_binary(N),
                     {ok, Text} = sockpool:call(Conn, erlang, integer_to_binary, [N], infinity),
                     ok
             end || N <- lists:seq(1, 1000)],
    ?assertEqual([ok || _ <- Calls], run_all(Calls)),
    %% One that takes its time does not hold up the others.
    Slow = start(fun() -> call(Conn, answer_when_told, [slow_call, self()]) end),
    wait_until(fun() -> is_pid(whereis_there(Conn, slow_call)) end),
    ok = sockpool:send_to(Conn, slow_call, {answer, at_last}),
    ?assertEqual({ok, at_last}, await(Slow)),
    ok = sockpool:checkin(Conn),
    ?assertMatch(#{closed := 0}, settled(Pool)).

whereis_there(Conn, Name) ->
    {ok, Pid} = sockpool:call(Conn, erlang, whereis, [Name], 30000),
    Pid.

max_inflight(Config) ->
    Pool = started(Config, #{max_inflight => 3}),
    Conn = checked_out(Pool),
    Self = self(),
    Names = [inflight_1, inflight_2, inflight_3],
    Jobs = [start(fun() -> call(Conn, answer_when_told, [Name, Self]) end) || Name <- Names],
    [receive {waiting, Name} -> ok after 30000 -> error(late) end || Name <- Names],
    ?assertEqual({error, busy}, sockpool:call(Conn, erlang, node, [], 30000)),
    ?assertEqual({error, busy}, sockpool:call(Conn, erlang, node, [], 0)),
    ok = sockpool:send_to(Conn, inflight_2, {answer, two}),
    ?assertEqual({ok, two}, await(lists:nth(2, Jobs))),
    ?assertMatch({ok, _}, sockpool:call(Conn, erlang, node, [], 30000)),
    [ok = sockpool:send_to(Conn, Name, {answer, Name}) || Name <- [inflight_1, inflight_3]],
    ?assertEqual([{ok, inflight_1}, {ok, inflight_3}], [await(Job) || Job <- [hd(Jobs), lists:last(Jobs)]]),
    ok = sockpool:checkin(Conn),
    ?assertMatch(#{closed := 0}, settled(Pool)).

%% A time-out leaves the connection usable. The reply is dropped when it comes.
late_reply(Config) ->
    Pool = started(Config, #{max_inflight => 1}),
    Conn = checked_out(Pool),
    ?assertEqual({error, timeout},
                 sockpool:call(Conn, ?MODULE, answer_when_told, [late_call, self()], 500)),
    receive {waiting, late_call} -> ok after 30000 -> error(never_began) end,
    ?assertEqual({error, busy}, sockpool:call(Conn, erlang, node, [], 30000)),
    ok = sockpool:send_to(Conn, late_call, {answer, too_late}),
    wait_until(fun() -> sockpool:call(Conn, erlang, '+', [1, 1], 30000) =:= {ok, 2} end),
    ok = sockpool:checkin(Conn),
    ?assertMatch(#{closed := 0}, settled(Pool)),
    assert_no_messages().

call_from_another_process(Config) ->
    Node = ?config(node, Config),
    Conn = checked_out(started(Config, #{})),
    ?assertEqual({ok, Node}, await(start(fun() -> node_of(Conn) end))),
    ?assertEqual(ok, await(start(fun() -> sockpool:send_to(Conn, no_such_name, x) end))),
    ok = sockpool:checkin(Conn),
    ?assertEqual({error, closed}, await(start(fun() -> node_of(Conn) end))),
    ?assertEqual({error, closed}, await(start(fun() -> sockpool:send_to(Conn, x, x) end))).

checkin_under_a_call(Config) ->
    Pool = started(Config, #{}),
    Conn = checked_out(Pool),
    Self = self(),
    Job = start(fun() -> call(Conn, answer_when_told, [checkin_call, Self]) end),
    receive {waiting, checkin_call} -> ok after 30000 -> error(late) end,
    ?assertEqual(ok, sockpool:checkin(Conn)),
    ?assertEqual({error, closed}, await(Job)),
    ?assertMatch(#{closed := 1, abandoned := 0}, settled(Pool)).

dead_owner_at_rest(Config) ->
    Pool = started(Config, #{}),
    _ = await(start(fun() -> {ok, _} = node_of(checked_out(Pool)) end)),
    ?assertMatch(#{closed := 0, created := 1}, settled(Pool)),
    ?assertMatch({ok, _}, sockpool:call(Pool, erlang, node, [], 30000)).

dead_owner_under_a_call(Config) ->
    Pool = started(Config, #{}),
    Self = self(),
    Owner = spawn(fun() -> call(checked_out(Pool), answer_when_told, [orphaned_call, Self]) end),
    receive {waiting, orphaned_call} -> ok after 30000 -> error(late) end,
    exit(Owner, kill),
    wait_until(fun() -> stat(Pool, closed) =:= 1 end),
    ?assertMatch(#{created := 2}, settled(Pool)).

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
    Mortal = spawn(?MODULE, linger, []),
    ok = sockpool:give_away(Other, Mortal),
    exit(Mortal, kill),
    ?assertMatch(#{closed := 0, checkins := 2}, settled(Pool)).

%% Those who had to wait for a connection get one that calls.
waiters(Config) ->
    Pool = started(Config, #{}),
    Conn = checked_out(Pool),
    Jobs = [start(fun() -> sockpool:transaction(Pool, fun node_of/1, infinity) end)
            || _ <- lists:seq(1, 20)],
    wait_until(fun() -> stat(Pool, waiting) =:= 20 end),
    ?assertEqual({error, full}, sockpool:call(Pool, erlang, node, [], 0)),
    ok = sockpool:checkin(Conn),
    [?assertEqual({ok, ?config(node, Config)}, await(Job)) || Job <- Jobs],
    ?assertMatch(#{closed := 0, checkouts := 21}, settled(Pool)).

max_hold(Config) ->
    Pool = started(Config, #{max_hold => 200}),
    Conn = checked_out(Pool),
    ?assertEqual({error, closed}, call(Conn, linger, [])),
    ?assertEqual({error, closed}, sockpool:checkin(Conn)),
    ?assertMatch(#{closed := 1}, settled(Pool)).

pool_stopped_under_a_call(Config) ->
    Pool = started(Config, #{}),
    Conn = checked_out(Pool),
    Self = self(),
    Job = start(fun() -> call(Conn, answer_when_told, [stopped_call, Self]) end),
    receive {waiting, stopped_call} -> ok after 30000 -> error(late) end,
    ok = sockpool:stop_pool(Pool),
    ?assertEqual({error, closed}, await(Job)),
    ?assertEqual({error, closed}, sockpool:call(Conn, erlang, node, [], 30000)),
    ?assertEqual({error, closed}, sockpool:checkin(Conn)),
    ?assertEqual({error, not_found}, sockpool:call(Pool, erlang, node, [], 1000)).

%%% What the node sees.

hidden(Config) ->
    Node = ?config(node, Config),
    Pool = started(Config, #{size => 3}),
    _ = settled(Pool),
    Conns = [checked_out(Pool) || _ <- lists:seq(1, 3)],
    Names = [begin {ok, #{name := Name}} = sockpool:info(Conn), Name end || Conn <- Conns],
    ?assertEqual(3, length(lists:usort(Names))),
    {ok, Hidden} = sockpool:call(hd(Conns), erlang, nodes, [hidden], 30000),
    {ok, Visible} = sockpool:call(hd(Conns), erlang, nodes, [], 30000),
    Known = [atom_to_binary(Name) || Name <- Hidden],
    ?assertEqual([], Names -- Known),
    ?assertEqual([], [Name || Name <- Visible, lists:member(atom_to_binary(Name), Names)]),
    ?assertNot(lists:member(Node, [binary_to_existing_atom(Name) || Name <- Names])),
    [ok = sockpool:checkin(Conn) || Conn <- Conns],
    ok = sockpool:stop_pool(Pool),
    wait_until(fun() -> erpc:call(Node, erlang, nodes, [hidden]) -- (Hidden -- Hidden) =:= [] end).

%% The node names us and uses those names again: 1,000 connections leave no more atoms there than as
%% many as there were at the same time.
names_are_used_again(Config) ->
    Node = ?config(node, Config),
    Pool = started(Config, #{size => 2, backoff => {1, 1}}),
    Reconnect = fun() ->
                        Conns = [checked_out(Pool) || _ <- [1, 2]],
                        [ok = sockpool:discard(Conn) || Conn <- Conns]
                end,
    [Reconnect() || _ <- lists:seq(1, 20)],
    Before = erpc:call(Node, erlang, system_info, [atom_count]),
    [Reconnect() || _ <- lists:seq(1, 500)],
    After = erpc:call(Node, erlang, system_info, [atom_count]),
    ct:pal("atoms of the node: ~b, and after 1,000 connections ~b", [Before, After]),
    ?assert(stat(Pool, created) >= 1000),
    ?assert(After - Before < 50),
    ok.

%% The node sends ticks, and takes for dead who does not answer them. It counts what it got.
ticks_while_idle(Config) ->
    with_ticking_node(
      fun(Control, Node) ->
              Pool = started(Config, Node, #{size => 3}),
              _ = settled(Pool),
              wait_until(fun() -> heard(Control, 3, 20) end),
              ?assertMatch(#{closed := 0, created := 3}, settled(Pool)),
              ?assertEqual({ok, Node}, sockpool:call(Pool, erlang, node, [], 30000))
      end).

ticks_while_leased(Config) ->
    with_ticking_node(
      fun(Control, Node) ->
              Pool = started(Config, Node, #{size => 2}),
              _ = settled(Pool),
              [Calling, Silent] = [checked_out(Pool), checked_out(Pool)],
              Self = self(),
              Job = start(fun() -> call(Calling, answer_when_told, [ticked_call, Self]) end),
              wait_until(fun() -> heard(Control, 2, 20) end),
              ok = sockpool:send_to(Calling, ticked_call, {answer, still_here}),
              ?assertEqual({ok, still_here}, await(Job)),
              [ok = sockpool:checkin(Conn) || Conn <- [Calling, Silent]],
              ?assertMatch(#{closed := 0, created := 2}, settled(Pool))
      end).

%% This VM is not connected to it: its own tick time is another one.
with_ticking_node(Fun) ->
    #{control := Control, node := Node} = start_apart(peer:random_name(ticking), ["-kernel", "net_ticktime", "1"]),
    try Fun(Control, Node) after peer:stop(Control) end.

start_apart(Name, Args) ->
    Paths = lists:append([["-pa", Path] || Path <- code:get_path()]),
    {ok, Control, Node} = peer:start(#{name => Name, connection => standard_io,
                                       args => ["-connect_all", "false" | Args] ++ Paths}),
    #{control => Control, node => Node, os_pid => peer:call(Control, os, getpid, [])}.

%% So many connections, each with so many packets to the node.
heard(Control, Count, Packets) ->
    {ok, Infos} = peer:call(Control, net_kernel, nodes_info, []),
    In = [proplists:get_value(in, Info) || {_Node, Info} <- Infos],
    (length(In) =:= Count andalso lists:min(In) >= Packets) orelse In.

%% They are passed over, on idle and on leased connections.
unasked_messages(Config) ->
    Pool = started(Config, #{size => 2}),
    _ = settled(Pool),
    #{control := Control} = ?config(peer, Config),
    ok = peer:call(Control, ?MODULE, tell_everybody, []),
    Conns = [checked_out(Pool), checked_out(Pool)],
    ok = peer:call(Control, ?MODULE, tell_everybody, []),
    [?assertMatch({ok, _}, node_of(Conn)) || Conn <- Conns],
    [ok = sockpool:checkin(Conn) || Conn <- Conns],
    ok = peer:call(Control, ?MODULE, tell_everybody, []),
    ?assertMatch({ok, _}, sockpool:call(Pool, erlang, node, [], 30000)),
    ?assertMatch(#{closed := 0, created := 2}, settled(Pool)).

killed_under_calls(Config) ->
    Name = peer:random_name(mortal),
    #{node := Node, os_pid := OsPid} = start_apart(Name, []),
    Pool = started(Config, Node, #{size => 2}),
    Conns = [checked_out(Pool), checked_out(Pool)],
    Self = self(),
    Jobs = [start(fun() -> call(Conn, answer_when_told, [Call, Self]) end)
            || {Conn, Calls} <- lists:zip(Conns, [[mortal_1, mortal_2], [mortal_3]]), Call <- Calls],
    [receive {waiting, Call} -> ok after 30000 -> error(late) end || Call <- [mortal_1, mortal_2, mortal_3]],
    [] = os:cmd("kill -9 " ++ OsPid),
    [?assertMatch({error, Reason} when Reason =:= closed; Reason =:= econnreset, await(Job)) || Job <- Jobs],
    [?assertEqual({error, closed}, node_of(Conn)) || Conn <- Conns],
    [?assertEqual(ok, sockpool:checkin(Conn)) || Conn <- Conns],
    ?assertMatch({error, {unavailable, Why}}
                   when Why =:= econnrefused; Why =:= {no_such_node, Node},
                 sockpool:call(Pool, erlang, node, [], 300)),
    ?assert(stat(Pool, connect_failures) > 0),
    #{control := Control} = start_apart(Name, []),
    ?assertEqual({ok, Node}, sockpool:call(Pool, erlang, node, [], 30000)),
    ?assertMatch(#{closed := 2, abandoned := 0}, settled(Pool)),
    ok = sockpool:stop_pool(Pool),
    peer:stop(Control).

%%% Connecting.

unavailable(Pool) ->
    {error, {unavailable, Reason}} = sockpool:checkout(Pool, 500),
    Reason.

wrong_cookie(Config) ->
    Pool = started(Config, #{cookie => not_the_cookie}),
    ?assertEqual({node, wrong_cookie}, unavailable(Pool)),
    #{connect_failures := Failures, idle := 0, created := 0} = sockpool_test_util:stats(Pool),
    ?assert(Failures > 0),
    ok = sockpool:stop_pool(Pool),
    [begin
         _ = started(Config, #{cookie => Cookie}),
         ?assertMatch({ok, _}, sockpool:call(Pool, erlang, node, [], 30000)),
         ok = sockpool:stop_pool(Pool)
     end || Cookie <- [erlang:get_cookie(), atom_to_binary(erlang:get_cookie()),
                       fun erlang:get_cookie/0]].

cookie_is_not_logged(Config) ->
    Pool = started(Config, #{cookie => <<"s3cret">>}),
    ?assertEqual({node, wrong_cookie}, unavailable(Pool)),
    {_, Pid, _, _} = lists:keyfind({sockpool, Pool}, 1, supervisor:which_children(sockpool_sup)),
    Shown = io_lib:format("~p", [{sys:get_status(Pid), sys:get_status(sockpool_sup),
                                  sockpool:stats(Pool), process_info(Pid, [messages, dictionary])}]),
    ?assertEqual(nomatch, string:find(Shown, "s3cret")),
    ok = sockpool:stop_pool(Pool),
    [begin
         _ = started(Config, #{cookie => Fun}),
         ?assertEqual({cookie, Why}, unavailable(Pool)),
         ok = sockpool:stop_pool(Pool)
     end || {Fun, Why} <- [{fun() -> error(s3cret) end, error}, {fun() -> throw(s3cret) end, throw},
                           {fun() -> "s3cret" end, not_a_cookie}]].

unknown_node(Config) ->
    [_, Host] = string:split(atom_to_list(node()), "@"),
    Unknown = list_to_atom("no_such_node@" ++ Host),
    Pool = started(Config, Unknown, #{}),
    ?assertEqual({no_such_node, Unknown}, unavailable(Pool)).

listens_at(Config) ->
    [Name, Host] = string:split(atom_to_list(?config(node, Config)), "@"),
    {port, Port, _} = erl_epmd:port_please(Name, Host),
    {Port, Host}.

port_without_epmd(Config) ->
    {Port, _Host} = listens_at(Config),
    Pool = started(Config, #{port => Port}),
    ?assertEqual({ok, ?config(node, Config)}, sockpool:call(Pool, erlang, node, [], 30000)).

other_node(Config) ->
    {Port, Host} = listens_at(Config),
    Pool = started(Config, list_to_atom("other@" ++ Host), #{port => Port}),
    ?assertEqual({node, other_node}, unavailable(Pool)).

%% One that sends back what it gets, one that closes, one that says nothing.
not_a_node(Config) ->
    Server = sockpool_test_server:start(),
    Node = 'b@127.0.0.1',
    Pool = started(Config, Node, #{port => sockpool_test_server:port(Server)}),
    ?assertEqual({node, protocol_error}, unavailable(Pool)),
    ok = sockpool:stop_pool(Pool),
    {ok, Listen} = gen_tcp:listen(0, [{active, false}, {backlog, 100}]),
    {ok, Port} = inet:port(Listen),
    _ = started(Config, Node, #{port => Port, connect_timeout => 100}),
    ?assertEqual(timeout, unavailable(Pool)),
    Closer = start(fun Loop() ->
                           case gen_tcp:accept(Listen) of
                               {ok, Socket} ->
                                   _ = gen_tcp:recv(Socket, 0),
                                   ok = gen_tcp:close(Socket),
                                   Loop();
                               {error, closed} -> ok
                           end
                   end),
    wait_until(fun() -> unavailable(Pool) =:= {node, closed} end),
    ok = sockpool:stop_pool(Pool),
    ok = gen_tcp:close(Listen),
    ok = await(Closer).
