%%% Pools at rest: no timer is set, and nothing runs. When a control process falls asleep, and who wakes it, is tested in C, by a
%%% clock of its own (test/c/core/pool/test_sp_due.c).
-module(sockpool_rest_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([no_ticks/1, a_lease_of_the_dead/1, waits_end/1, lifetimes_end/1]).

-import(sockpool_test_util, [wait_until/1, settled/1, stat/2]).

-define(MANY, 100).

suite() -> [{timetrap, {minutes, 2}}].

all() -> [no_ticks, a_lease_of_the_dead, waits_end, lifetimes_end].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(sockpool),
    Config.

end_per_suite(_Config) -> application:stop(sockpool).

init_per_testcase(_Case, Config) ->
    {ok, Listener} = gen_tcp:listen(0, [binary, {active, false}, {backlog, 1024}]),
    {ok, Port} = inet:port(Listener),
    Server = spawn_link(fun() -> accept(Listener) end),
    ok = gen_tcp:controlling_process(Listener, Server),
    [{options, #{host => "127.0.0.1", port => Port, size => 1, max_overflow => 0}}, {server, Server} | Config].

end_per_testcase(_Case, Config) ->
    [ok = sockpool:stop_pool(Pool) || Pool <- sockpool_test_util:pools()],
    true = unlink(?config(server, Config)),
    exit(?config(server, Config), kill).

accept(Listener) ->
    {ok, _Socket} = gen_tcp:accept(Listener),
    accept(Listener).

%% Counted are the ticks of all of them, from when they are at rest until one of them that is woken has made its own.
no_ticks(Config) ->
    Pools = [list_to_atom("rest_" ++ integer_to_list(N)) || N <- lists:seq(1, ?MANY)],
    Processes = [start(Pool, Config) || Pool <- Pools],
    [at_rest(Process) || Process <- Processes],
    1 = erlang:trace_pattern({sockpool_nif, pool_tick, 2}, true, [local]),
    [1 = erlang:trace(Process, true, [call]) || Process <- Processes],
    {ok, Conn} = sockpool:checkout(hd(Pools)),
    ok = sockpool:checkin(Conn),
    at_rest(hd(Processes)),
    Ticks = ticks(),
    [1 = erlang:trace(Process, false, [call]) || Process <- Processes],
    1 = erlang:trace_pattern({sockpool_nif, pool_tick, 2}, false, [local]),
    ?assertEqual([hd(Processes)], lists:usort(Ticks)),
    %% A second until it is watched again.
    ?assert(length(Ticks) >= 5 andalso length(Ticks) =< 30).

ticks() ->
    receive
        {trace, Process, call, {sockpool_nif, pool_tick, [_, 0]}} -> [Process | ticks()]
    after 0 ->
        []
    end.

start(Pool, Config) ->
    {ok, Process} = sockpool_test_util:start_pool(Pool, ?config(options, Config)),
    Process.

%% Neither a tick nor a retry is set.
at_rest(Process) ->
    wait_until(fun() ->
                       State = tuple_to_list(sys:get_state(Process)),
                       case [Timer || {When, Timer} <- State, When =:= soon orelse When =:= later] ++
                            [Timer || Timer <- State, is_reference(Timer), erlang:read_timer(Timer) =/= false] of
                           [] -> not lists:member(going, State);
                           Timers -> Timers
                       end
               end).

a_lease_of_the_dead(Config) ->
    Process = start(rest_dead, Config),
    settled(rest_dead),
    at_rest(Process),
    Table = ets:new(handles, [public]),
    %% The handle lives on, so that only a sweep finds it.
    {Owner, Monitor} = spawn_monitor(fun() -> true = ets:insert(Table, {conn, sockpool:checkout(rest_dead)}) end),
    receive {'DOWN', Monitor, process, Owner, normal} -> ok end,
    wait_until(fun() -> stat(rest_dead, abandoned) =:= 1 end),
    at_rest(Process).

waits_end(Config) ->
    Process = start(rest_waits, Config),
    settled(rest_waits),
    at_rest(Process),
    {ok, Conn} = sockpool:checkout(rest_waits),
    ?assertEqual({error, timeout}, sockpool:checkout(rest_waits, 2000)),
    ok = sockpool:checkin(Conn),
    at_rest(Process).

%% A tick is set for the end, and none before.
lifetimes_end(Config) ->
    Options = ?config(options, Config),
    {ok, Process} = sockpool_test_util:start_pool(rest_ends, Options#{max_lifetime => {4000, 4000}}),
    settled(rest_ends),
    wait_until(fun() -> lists:any(fun({later, _}) -> true; (_) -> false end, tuple_to_list(sys:get_state(Process))) end),
    ?assertEqual(0, stat(rest_ends, closed)),
    wait_until(fun() -> stat(rest_ends, closed) =:= 1 end),
    settled(rest_ends).
