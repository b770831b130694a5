%%% Functions of pools with transport => node, against somebody who says nothing: the node stands still, or
%%% reads nothing; whoever is to print something does not answer; the process of a connection is suspended.
%%% Each ends in its time, and leaves nothing behind.
-module(sockpool_node_waits_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_group/2, end_per_group/2,
         init_per_testcase/2, end_per_testcase/2]).
-export([node_stands_still/1, node_reads_nothing/1, reader_is_suspended/1]).
-export([output_that_nobody_takes/1, input_that_comes_late/1, output_to_the_dead/1]).
-export([killed_while_encoding/1]).

-import(sockpool_test_util, [wait_until/1, settled/1, start/1, await/1, assert_no_messages/0]).
-import(sockpool_node_kit, [started/2, started/3, checked_out/1, node_of/1]).

%% Beyond its time, on a machine that has other things to do.
-define(SLACK_MS, 1500).

suite() -> [{timetrap, {minutes, 3}}].

all() -> [{group, side_by_side}, killed_while_encoding].

%% Who only waits.
groups() ->
    [{side_by_side, [parallel],
      [node_stands_still, node_reads_nothing, reader_is_suspended, output_that_nobody_takes,
       input_that_comes_late, output_to_the_dead]}].

init_per_suite(Config) -> sockpool_node_kit:init_suite(Config).
end_per_suite(Config) -> sockpool_node_kit:end_suite(Config).
init_per_group(side_by_side, Config) -> Config.
end_per_group(side_by_side, _Config) -> ok.
init_per_testcase(Case, Config) -> sockpool_node_kit:init_case(Case, Config).
end_per_testcase(_Case, Config) -> sockpool:stop_pool(?config(pool, Config)).

%%% The node.

node_stands_still(Config) ->
    stopped(Config, #{size => 2}, fun(Pool, Conn) ->
        [{1000, fun() -> sockpool:call(Pool, erlang, node, [], 1000) end},
         {0, fun() -> sockpool:call(Pool, erlang, node, [], 0) end},
         {1000, fun() -> sockpool:call(Conn, erlang, node, [], 1000) end},
         {0, fun() -> sockpool:call(Conn, erlang, node, [], 0) end}]
    end).

%% By default a connection that takes nothing is closed after the pool's send_timeout.
node_reads_nothing(Config) ->
    Bytes = binary:copy(<<0>>, 30000000),
    stopped(Config, #{size => 4, send_timeout => 2000}, fun(Pool, Conn) ->
        [{1000, fun() -> sockpool:send_to(Pool, nobody, Bytes, 1000) end},
         {2000, fun() -> sockpool:send_to(Pool, nobody, Bytes) end},
         {1000, fun() -> sockpool:call(Pool, binary, copy, [Bytes], 1000) end},
         {1000, fun() -> sockpool:send_to(Conn, nobody, Bytes, 1000) end},
         {2000, fun() -> sockpool:send_to(Conn, nobody, Bytes) end},
         {1000, fun() -> sockpool:call(Conn, binary, copy, [Bytes], 1000) end}]
    end).

stopped(Config, Opts, Functions) ->
    #{node := Node, os_pid := OsPid, control := Control} =
        sockpool_node_kit:start_apart(peer:random_name(stops), []),
    Pool = started(Config, Node, Opts),
    _ = settled(Pool),
    Conn = checked_out(Pool),
    ok = sockpool_test_util:stop_program(OsPid),
    try
        Jobs = [{Ms, start(fun() -> timer:tc(Function) end)} || {Ms, Function} <- Functions(Pool, Conn)],
        Ended = [{Ms, await(Job)} || {Ms, Job} <- Jobs],
        ?assertEqual([], [Late || {Ms, {Us, _}} = Late <- Ended, Us > (Ms + ?SLACK_MS) * 1000]),
        ?assertEqual([], [Wrong || {_, {_, Result}} = Wrong <- Ended,
                                   Result =/= {error, timeout}, Result =/= {error, full}])
    after
        ok = sockpool_test_util:continue_program(OsPid),
        _ = sockpool:checkin(Conn),
        ok = sockpool:stop_pool(Pool),
        peer:stop(Control)
    end,
    assert_no_messages().

%%% The process of a connection.

reader_is_suspended(Config) ->
    Conn = checked_out(started(Config, #{})),
    Reader = element(2, Conn),
    true = erlang:suspend_process(Reader),
    Functions = [{1000, fun() -> sockpool:call(Conn, erlang, node, [], 1000) end},
                 {1000, fun() -> sockpool:send_to(Conn, nobody, hello, 1000) end},
                 {5000, fun() -> sockpool:info(Conn) end}, {5000, fun() -> sockpool:peername(Conn) end},
                 {5000, fun() -> sockpool:sockname(Conn) end},
                 {5000, fun() -> sockpool:setopts(Conn, [{nodelay, true}]) end},
                 {5000, fun() -> sockpool:give_away(Conn, self()) end},
                 {5000, fun() -> sockpool:checkin(Conn) end}, {5000, fun() -> sockpool:discard(Conn) end}],
    Jobs = [{Ms, start(fun() -> timer:tc(Function) end)} || {Ms, Function} <- Functions],
    Ended = [{Ms, await(Job)} || {Ms, Job} <- Jobs],
    true = erlang:resume_process(Reader),
    ?assertEqual([], [Late || {Ms, {Us, _}} = Late <- Ended, Us > (Ms + ?SLACK_MS) * 1000]),
    ?assertEqual([], [Wrong || {_, {_, Result}} = Wrong <- Ended, Result =/= {error, timeout}]),
    wait_until(fun() -> element(1, node_of(Conn)) =:= ok end),
    ok = sockpool:checkin(Conn),
    assert_no_messages().

%%% What a function prints and reads.

output_that_nobody_takes(Config) ->
    Pool = started(Config, #{}),
    %% Otherwise the time may be over before it has the connection.
    _ = settled(Pool),
    Print = fun() -> sockpool:call(Pool, sockpool_node_kit, print, ["nobody hears me"], 500) end,
    {Us, Result} = led_by(spawn(fun sockpool_node_kit:linger/0), fun() -> timer:tc(Print) end),
    ?assertEqual({error, timeout}, Result),
    ?assert(Us < (500 + ?SLACK_MS) * 1000),
    ?assertMatch(#{closed := 1, leased := 0}, settled(Pool)),
    ?assertMatch({ok, _}, node_of(Pool)),
    assert_no_messages().

%% The connection lives on meanwhile: its node would take a silent one for dead after 4 seconds and a bit.
input_that_comes_late(Config) ->
    #{node := Node, control := Control} =
        sockpool_node_kit:start_apart(peer:random_name(ticks), ["-kernel", "net_ticktime", "4"]),
    Pool = started(Config, Node, #{}),
    Slow = fun() ->
                   receive
                       {io_request, From, ReplyAs, _} ->
                           receive after 7000 -> From ! {io_reply, ReplyAs, "typed\n"} end
                   end
           end,
    Read = fun() -> sockpool:call(Pool, io, get_line, ["> "], 30000) end,
    try
        ?assertEqual({ok, "typed\n"}, led_by(spawn(Slow), Read)),
        ?assertMatch(#{closed := 0, leased := 0}, settled(Pool))
    after
        peer:stop(Control)
    end,
    assert_no_messages().

output_to_the_dead(Config) ->
    Pool = started(Config, #{}),
    Print = fun(To) -> sockpool:call(To, sockpool_node_kit, print, ["nobody is there"], 30000) end,
    Printed = led_by(sockpool_remote_kit:dead(), fun() ->
        Conn = checked_out(Pool),
        Results = [Print(Conn)],
        ok = sockpool:checkin(Conn),
        [Print(Pool) | Results]
    end),
    [?assertMatch({error, {exception, error, terminated, _}}, Result) || Result <- Printed],
    ?assertMatch(#{closed := 0, leased := 0}, settled(Pool)).

%% What the fun returns in a process whose group leader this is.
led_by(Leader, Fun) ->
    Result = await(start(fun() -> true = group_leader(Leader, self()), Fun() end)),
    true = exit(Leader, kill),
    Result.

%%% Callers.

killed_while_encoding(Config) ->
    Conn = checked_out(started(Config, #{max_inflight => 1})),
    Large = lists:duplicate(300000, {make_ref(), 1.5, "text"}),
    Kill = fun() ->
                   {Pid, Monitor} = spawn_monitor(fun() -> sockpool:call(Conn, erlang, length, [Large], 60000) end),
                   wait_until(fun() -> is_encoding(Pid) end),
                   true = exit(Pid, kill),
                   receive {'DOWN', Monitor, process, Pid, Reason} -> ?assertEqual(killed, Reason) end
           end,
    [Kill() || _ <- lists:seq(1, 3)],
    wait_until(fun() -> element(1, node_of(Conn)) =:= ok end),
    ok = sockpool:checkin(Conn).

is_encoding(Pid) ->
    case process_info(Pid, current_stacktrace) of
        {current_stacktrace, Stack} -> lists:keymember(sockpool_dist, 1, Stack) orelse Stack;
        undefined -> error(it_was_faster)
    end.
