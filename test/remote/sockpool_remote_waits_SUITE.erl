%%% Every function of a pool of another node, against a server that says nothing: its node stands still, the
%%% connection to it is full as well, its process is suspended, or that of a lease. Each ends in its time.
-module(sockpool_remote_waits_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_group/2,
         end_per_group/2, init_per_testcase/2, end_per_testcase/2]).
-export([suspend/2]).
-export([erlang_node_stands_still/1, c_node_stands_still/1, connection_to_erlang_is_full/1,
         connection_to_c_is_full/1]).
-export([default_is_the_pools/1, default_is_infinity/1, connected_anew/1, right_after_a_cut/1, served_anew/1,
         asked_anew_before_the_end/1, call_after_its_cancel/1]).
-export([server_is_suspended/1, session_is_suspended/1]).

-import(sockpool_test_util, [settled/1, start/1, await/1, assert_no_messages/0]).
-import(sockpool_remote_kit, [started/2]).

%% Beyond its time, on a machine that has other things to do.
-define(SLACK_MS, 1500).
-define(MARGIN_MS, 2000).

suite() -> [{timetrap, {minutes, 3}}].

all() -> [{group, side_by_side}].

%% To start or stop a pool may take half a minute, so who stands still does it as long. Those have a node each,
%% and the others run meanwhile, one after the other.
groups() ->
    [{side_by_side, [parallel], stopped() ++ [{group, erlang}, {group, c}]},
     {erlang, cases() ++ [served_anew, asked_anew_before_the_end, server_is_suspended, session_is_suspended,
                          call_after_its_cancel]},
     {c, cases()}].

stopped() ->
    [erlang_node_stands_still, c_node_stands_still, connection_to_erlang_is_full, connection_to_c_is_full].

cases() ->
    [default_is_the_pools, default_is_infinity, connected_anew, right_after_a_cut].

init_per_suite(Config) -> sockpool_remote_kit:init_suite(Config).
end_per_suite(Config) -> sockpool_remote_kit:end_suite(Config).

init_per_group(side_by_side, Config) -> Config;
init_per_group(Kind, Config) -> sockpool_remote_kit:init_group(Kind, Config).

end_per_group(side_by_side, _Config) -> ok;
end_per_group(Kind, Config) -> sockpool_remote_kit:end_group(Kind, Config).

init_per_testcase(Case, Config) ->
    case own_node(Case) of
        none -> sockpool_remote_kit:init_case(Case, Config);
        Kind -> with_own_node(Case, sockpool_remote_kit:init_group(Kind, Config))
    end.

with_own_node(_Case, {skip, _} = Skip) -> Skip;
with_own_node(Case, Config) -> sockpool_remote_kit:init_case(Case, Config).

end_per_testcase(Case, Config) ->
    ok = sockpool_remote_kit:end_case(Config),
    case own_node(Case) of
        none -> ok;
        Kind -> sockpool_remote_kit:end_group(Kind, Config)
    end.

own_node(erlang_node_stands_still) -> erlang;
own_node(connection_to_erlang_is_full) -> erlang;
own_node(c_node_stands_still) -> c;
own_node(connection_to_c_is_full) -> c;
own_node(_Case) -> none.

%%% Cases.

erlang_node_stands_still(Config) -> node_stands_still(Config).
c_node_stands_still(Config) -> node_stands_still(Config).
connection_to_erlang_is_full(Config) -> connection_is_full(Config).
connection_to_c_is_full(Config) -> connection_is_full(Config).

node_stands_still(Config) ->
    {Pool, NodePool} = both(Config),
    Jobs = prepared(Pool, NodePool),
    ok = stop_node(Config),
    try all_end_in_time(Jobs) after ok = go_on(Config) end,
    ok = usable(Pool, NodePool).

%% As nothing is read there, what is for it fills the buffers, until nobody can send any more.
connection_is_full(Config) ->
    {Pool, NodePool} = both(Config),
    Bytes = binary:copy(<<0>>, 10000000),
    Large = fun({Conn, _}) -> sockpool:send(Conn, Bytes, 1000) end,
    Fillers = prepared(Pool, NodePool, [{send_large, 1000, Large}, {send_more, 1000, Large}]),
    Jobs = prepared(Pool, NodePool),
    ok = stop_node(Config),
    try
        all_end_in_time(Fillers),
        ?assertEqual(nosuspend, erlang:send({nobody, element(2, Pool)}, hello, [nosuspend])),
        all_end_in_time(Jobs)
    after
        ok = go_on(Config)
    end,
    ok = usable(Pool, NodePool).

%% The pool's time, not one that the client believes in.
default_is_the_pools(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0, checkout_timeout => 1500}),
    {ok, Conn} = sockpool:checkout(Pool),
    {Ms, Result} = timed(fun() -> sockpool:checkout(Pool) end),
    ?assertEqual({error, timeout}, Result),
    ?assert(Ms >= 1500),
    ok = sockpool:checkin(Conn),
    ?assertMatch(#{timeouts := 1, abandoned := 0}, settled(Pool)),
    assert_no_messages().

%% Longer than it is waited for a server that says nothing.
default_is_infinity(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0, checkout_timeout => infinity}),
    {ok, Conn} = sockpool:checkout(Pool),
    Self = self(),
    Waiting = start(fun() ->
                            Result = sockpool:checkout(Pool),
                            Self ! ended,
                            {ok, Granted} = Result,
                            sockpool:checkin(Granted)
                    end),
    receive ended -> error(too_early) after 1000 + ?MARGIN_MS + 1000 -> ok end,
    ok = sockpool:checkin(Conn),
    ?assertEqual(ok, await(Waiting)),
    receive ended -> ok end,
    ?assertMatch(#{timeouts := 0, checkouts := 2}, settled(Pool)).

%% What watched the connection that is gone ends a call that went over the next one.
connected_anew(Config) ->
    {_, Node} = Pool = started(Config, #{size => 1, max_overflow => 0}),
    {_, Watch} = sockpool_watch:on(Node),
    true = erlang:suspend_process(Watch),
    true = erlang:disconnect_node(Node),
    sockpool_test_util:wait_until(fun() -> net_kernel:connect_node(Node) end),
    taken_back({error, {nodedown, Node}}, Watch, Pool).

%% Who calls then has sent nothing over the connection that is gone, and gets a new one.
right_after_a_cut(Config) ->
    {_, Node} = Pool = started(Config, #{size => 1, max_overflow => 0}),
    [begin
         {ok, Conn} = sockpool:checkout(Pool),
         true = erlang:disconnect_node(Node),
         ?assertMatch({ok, _}, sockpool:stats(Pool)),
         ?assertMatch({ok, <<"anew">>}, sockpool:request(Pool, "anew", 4, 30000)),
         ?assertEqual({error, closed}, sockpool:checkin(Conn))
     end || _ <- lists:seq(1, 50)],
    ?assertMatch(#{leased := 0}, settled(Pool)),
    assert_no_messages().

%% Likewise of the server.
served_anew(Config) ->
    {_, Node} = Pool = started(Config, #{size => 1, max_overflow => 0}),
    {_, Watch} = sockpool_watch:on(Node),
    true = erlang:suspend_process(Watch),
    ok = sockpool_cluster:restart_server(Node),
    taken_back({error, closed}, Watch, Pool).

%% Who waits for a connection lives on, and hears that it gets none.
taken_back(Heard, Watch, Pool) ->
    {ok, Conn} = sockpool:checkout(Pool),
    Client = sockpool_cluster:client(node()),
    Call = sockpool_cluster:begin_run(Client, fun() -> sockpool:checkout(Pool, infinity) end),
    ok = await_waiting(1, Pool),
    true = erlang:resume_process(Watch),
    ?assertEqual(Heard, sockpool_cluster:result(Call)),
    ok = await_waiting(0, Pool),
    ok = sockpool:checkin(Conn),
    ?assertMatch(#{leased := 0, checkouts := 1}, settled(Pool)),
    ok = sockpool_cluster:kill(Client),
    assert_no_messages().

await_waiting(Count, Pool) ->
    sockpool_test_util:wait_until(
      fun() -> {ok, #{waiting := Now}} = sockpool:stats(Pool), Now =:= Count orelse Now end).

%% What was asked over the next connection goes on, though the server hears later that the last one is gone.
asked_anew_before_the_end(Config) ->
    {Name, Node} = Pool = started(Config, #{size => 2, max_overflow => 0}),
    {ok, Conn} = sockpool:checkout(Pool),
    Server = erpc:call(Node, erlang, whereis, [sockpool]),
    ok = erpc:call(Node, sys, suspend, [sockpool]),
    {sockpool, Node} ! {'$gen_call', {self(), anew}, {request, make_ref(), Name, <<"anew">>, 4, infinity}},
    true = erlang:disconnect_node(Node),
    sockpool_test_util:wait_until(
      fun() ->
              {messages, Messages} = erpc:call(Node, erlang, process_info, [Server, messages]),
              case Messages of
                  [{'$gen_call', _, _}, {'DOWN', _, process, _, noconnection} | _] -> true;
                  _ -> Messages
              end
      end),
    ok = erpc:call(Node, sys, resume, [sockpool]),
    receive {anew, Reply} -> ?assertEqual({ok, <<"anew">>}, Reply) after 30000 -> error(no_answer) end,
    ?assertEqual({error, closed}, sockpool:checkin(Conn)),
    ?assertMatch(#{abandoned := 1, checkouts := 2, checkins := 1}, settled(Pool)),
    assert_no_messages().

%% By two ways they may come in the wrong order.
call_after_its_cancel(Config) ->
    {Name, Node} = Pool = started(Config, #{size => 1, max_overflow => 0}),
    Id = make_ref(),
    Suspended = suspended({sockpool, Node}),
    ok = gen_server:cast({sockpool, Node}, {cancel, Id}),
    %% It lives on: nothing but the cancel takes back what it gets.
    Client = sockpool_cluster:client(node()),
    Call = sockpool_cluster:begin_run(
             Client,
             fun() -> catch gen_server:call({sockpool, Node}, {checkout, Id, Name, infinity}, 3000) end),
    ok = sockpool_test_util:wait_until(
           fun() -> {message_queue_len, Len} = info(Node, message_queue_len), Len >= 2 orelse Len end),
    ok = resume(Suspended),
    ?assertMatch({'EXIT', {timeout, _}}, sockpool_cluster:result(Call)),
    #{checkouts := Checkouts, abandoned := Abandoned} = settled(Pool),
    ?assertEqual({0, Checkouts}, {sockpool_test_util:stat(Pool, leased), Abandoned}),
    ok = sockpool_cluster:kill(Client).

info(Node, What) ->
    erpc:call(Node, erlang, process_info, [erpc:call(Node, erlang, whereis, [sockpool]), What]).

%%% Only in an Erlang node.

server_is_suspended(Config) ->
    {Pool, NodePool} = both(Config),
    Jobs = prepared(Pool, NodePool, [F || {_, Ms, _} = F <- functions(Pool, NodePool), Ms < 20000]),
    Suspended = suspended({sockpool, ?config(node, Config)}),
    try all_end_in_time(Jobs) after ok = resume(Suspended) end,
    ok = usable(Pool, NodePool).

session_is_suspended(Config) ->
    {Pool, NodePool} = both(Config),
    OverALease = [send, send_default, recv, recv_0, info, peername, sockname, setopts, checkin, discard,
                  call_over, send_to_over, send_to_over_default],
    Jobs = prepared(Pool, NodePool,
                    [F || {What, _, _} = F <- functions(Pool, NodePool), lists:member(What, OverALease)]),
    Node = ?config(node, Config),
    {links, Links} = info(Node, links),
    Sessions = [Pid || Pid <- Links -- [erpc:call(Node, erlang, whereis, [sockpool_sup])]],
    ?assertEqual(2 * length(Jobs), length(Sessions)),
    Suspended = [suspended(Pid) || Pid <- Sessions],
    try all_end_in_time(Jobs) after [ok = resume(One) || One <- Suspended] end,
    ok = usable(Pool, NodePool).

%%% Functions and their times.

both(Config) ->
    Opts = #{size => 40, max_overflow => 0, checkout_timeout => 1000, send_timeout => 1000},
    Pool = {Name, Node} = started(Config, Opts),
    NodePool = {list_to_atom(atom_to_list(Name) ++ "_node"), Node},
    Other = ?config(other_node, Config),
    ok = sockpool:start_pool(NodePool, Opts#{transport => node, node => Other}),
    _ = settled(NodePool),
    {Pool, NodePool}.

%% Each with its time, and what it does with a connection of each pool.
functions(Pool, NodePool) ->
    {_, Node} = Pool,
    [{checkout_0, 0, fun(_) -> sockpool:checkout(Pool, 0) end},
     {checkout, 1000, fun(_) -> sockpool:checkout(Pool, 1000) end},
     {checkout_default, 1000, fun(_) -> sockpool:checkout(Pool) end},
     {execute, 1000, fun(_) -> sockpool:execute(Pool, fun(_) -> ok end) end},
     {request_0, 0, fun(_) -> sockpool:request(Pool, "x", 1, 0) end},
     {request, 1000, fun(_) -> sockpool:request(Pool, "x", 1, 1000) end},
     {send, 1000, fun({Conn, _}) -> sockpool:send(Conn, "x", 1000) end},
     {send_default, 1000, fun({Conn, _}) -> sockpool:send(Conn, "x") end},
     {recv_0, 0, fun({Conn, _}) -> sockpool:recv(Conn, 1, 0) end},
     {recv, 1000, fun({Conn, _}) -> sockpool:recv(Conn, 1, 1000) end},
     {info, 3000, fun({Conn, _}) -> sockpool:info(Conn) end},
     {peername, 3000, fun({Conn, _}) -> sockpool:peername(Conn) end},
     {sockname, 3000, fun({Conn, _}) -> sockpool:sockname(Conn) end},
     {setopts, 3000, fun({Conn, _}) -> sockpool:setopts(Conn, [{nodelay, true}]) end},
     {give_away, 3000, fun({Conn, _}) -> sockpool:give_away(Conn, self()) end},
     {checkin, 3000, fun({Conn, _}) -> sockpool:checkin(Conn) end},
     {discard, 3000, fun({Conn, _}) -> sockpool:discard(Conn) end},
     {call, 1000, fun(_) -> sockpool:call(NodePool, erlang, node, [], 1000) end},
     {call_over, 1000, fun({_, Line}) -> sockpool:call(Line, erlang, node, [], 1000) end},
     {send_to, 1000, fun(_) -> sockpool:send_to(NodePool, nobody, hello, 1000) end},
     {send_to_0, 0, fun(_) -> sockpool:send_to(NodePool, nobody, hello, 0) end},
     {send_to_default, 2000, fun(_) -> sockpool:send_to(NodePool, nobody, hello) end},
     {send_to_over, 1000, fun({_, Line}) -> sockpool:send_to(Line, nobody, hello, 1000) end},
     {send_to_over_default, 2000, fun({_, Line}) -> sockpool:send_to(Line, nobody, hello) end},
     {stats, 3000, fun(_) -> sockpool:stats(Pool) end},
     {node_stats, 3000, fun(_) -> sockpool:node_stats(Node) end},
     {which_pools, 3000, fun(_) -> sockpool:which_pools(Node) end},
     {start_pool, 28000, fun(_) -> sockpool:start_pool(Pool, #{host => "127.0.0.1", port => 1}) end},
     {stop_pool, 28000, fun(_) -> sockpool:stop_pool({no_such_pool, Node}) end}].

prepared(Pool, NodePool) -> prepared(Pool, NodePool, functions(Pool, NodePool)).

%% Processes that have a connection of each pool, and wait for the word.
prepared(Pool, NodePool, Functions) ->
    [{begin
          Self = self(),
          Pid = spawn_link(fun() ->
                                   {ok, Conn} = sockpool:checkout(Pool, 20000),
                                   {ok, Line} = sockpool:checkout(NodePool, 20000),
                                   Self ! {self(), prepared},
                                   receive go -> ok end,
                                   Self ! {self(), timed(fun() -> Function({Conn, Line}) end)}
                           end),
          receive {Pid, prepared} -> Pid end
      end, Ms, What} || {What, Ms, Function} <- Functions].

all_end_in_time(Jobs) ->
    [Pid ! go || {Pid, _, _} <- Jobs],
    Ended = [{What, Limit, receive {Pid, Timed} -> Timed end} || {Pid, Limit, What} <- Jobs],
    ct:pal("~p", [Ended]),
    ?assertEqual([], [Late || {_, Limit, {Ms, _}} = Late <- Ended, Ms > longest(Limit)]),
    ?assertEqual([], [Wrong || {_, _, {_, Result}} = Wrong <- Ended, Result =/= {error, timeout}]).

longest(0) -> 500 + ?SLACK_MS;
longest(Ms) -> Ms + ?MARGIN_MS + ?SLACK_MS.

timed(Fun) ->
    {Us, Result} = timer:tc(Fun),
    {Us div 1000, Result}.

%% Whatever it does with what it finds when it goes on, all connections come back.
usable(Pool, NodePool) ->
    ok = sockpool_test_util:wait_until(fun() -> sockpool:request(Pool, "x", 1, 5000) =:= {ok, <<"x">>} end),
    ok = sockpool_test_util:wait_until(fun() -> is_ok(sockpool:call(NodePool, erlang, node, [], 5000)) end),
    #{leased := 0, waiting := 0} = settled(Pool),
    #{leased := 0, waiting := 0} = settled(NodePool),
    assert_no_messages().

is_ok({ok, _}) -> true;
is_ok(_) -> false.

%%% What stands still.

stop_node(Config) -> sockpool_test_util:stop_program(os_pid(Config)).
go_on(Config) -> sockpool_test_util:continue_program(os_pid(Config)).

os_pid(Config) ->
    #{os_pid := OsPid} = ?config(serving, Config),
    OsPid.

%% The process that has suspended it, and must live for that.
suspended(What) ->
    Node = case What of {_, N} -> N; Pid -> node(Pid) end,
    Suspender = spawn_link(Node, ?MODULE, suspend, [self(), What]),
    receive {Suspender, suspended} -> Suspender end.

suspend(Tester, What) ->
    Pid = case What of {Name, _} -> whereis(Name); _ -> What end,
    true = erlang:suspend_process(Pid),
    Tester ! {self(), suspended},
    receive {Tester, resume} -> ok end,
    %% A process of a lease was killed meanwhile, where a call of it ended.
    _ = catch erlang:resume_process(Pid),
    Tester ! {self(), resumed}.

resume(Suspender) ->
    Suspender ! {self(), resume},
    receive {Suspender, resumed} -> ok end.
