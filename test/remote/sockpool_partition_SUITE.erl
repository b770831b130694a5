%%% Three hosts, of which one serves a pool, and a link that is cut: nobody is told, only silence until
%%% the net tick time. All leases come back, with exact counts.
-module(sockpool_partition_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_group/2,
         end_per_group/2, end_per_testcase/2]).
-export([backend/0, hold/3, use_once/1, linger_there/1]).
-export([link_of_a_client_is_cut/1, link_of_the_server_is_cut/1, link_of_a_node_is_cut/1]).

-import(sockpool_test_util, [wait_until/1, wait_until/2, start/1, await/1]).
-import(sockpool_hosts, [call/4]).

suite() -> [{timetrap, {minutes, 3}}].

all() -> [{group, erlang}, {group, c}].

groups() ->
    Cases = [link_of_a_client_is_cut, link_of_the_server_is_cut, link_of_a_node_is_cut],
    [{erlang, Cases}, {c, Cases}].

init_per_suite(Config) ->
    case sockpool_hosts:start() of
        {ok, #{hosts := [Serving | _]} = Net} ->
            {ok, _} = call(Serving, application, ensure_all_started, [sockpool]),
            Target = call(Serving, ?MODULE, backend, []),
            [{net, Net}, {target, Target} | Config];
        {skip, _} = Skip ->
            Skip
    end.

end_per_suite(Config) ->
    sockpool_hosts:stop(?config(net, Config)).

%% The node that serves is an Erlang node, or a C node on the same host.
init_per_group(erlang, Config) ->
    #{hosts := [#{node := Node} | _]} = ?config(net, Config),
    [{kind, erlang}, {node, Node} | Config];
init_per_group(c, Config) ->
    #{hosts := [Serving | _]} = ?config(net, Config),
    sockpool_c_daemon:if_built(
      fun() ->
              #{node := Node} = Daemon = sockpool_hosts:start_daemon(Serving),
              [{kind, c}, {daemon, Daemon}, {node, Node} | Config]
      end).

end_per_group(erlang, _Config) -> ok;
end_per_group(c, Config) -> 0 = sockpool_c_daemon:stop(?config(daemon, Config)).

end_per_testcase(_Case, Config) ->
    #{hosts := Hosts} = Net = ?config(net, Config),
    lists:foreach(fun(Host) -> ok = sockpool_hosts:mend(Net, Host) end, Hosts).

link_of_a_client_is_cut(Config) ->
    #{hosts := [Serving, Cut, Other]} = Net = ?config(net, Config),
    Pool = started(Config, ?FUNCTION_NAME, Serving),
    ok = hold_three(Pool, Cut),
    Lost = [waiting(Pool, Serving, Cut, N) || N <- lists:seq(1, 5)],
    Served = [waiting(Pool, Serving, Other, N) || N <- lists:seq(6, 10)],
    ok = sockpool_hosts:cut(Net, Cut),
    [?assertEqual(ok, await(Job)) || Job <- Served],
    ok = three_came_back(settled(Pool, Serving), 5),
    Down = {error, {nodedown, ?config(node, Config)}},
    [?assertEqual(Down, await(Job)) || Job <- Lost],
    ok = sockpool_hosts:mend(Net, Cut),
    ok = works_again(Pool, Cut),
    ?assertEqual(true, call(Serving, sockpool_remote_kit, holds_nothing,
                            [[{kind, ?config(kind, Config)}, {node, ?config(node, Config)}]])).

link_of_the_server_is_cut(Config) ->
    #{hosts := [Serving | Clients]} = Net = ?config(net, Config),
    Pool = started(Config, ?FUNCTION_NAME, Serving),
    [One, Two] = Clients,
    ok = hold_three(Pool, One),
    Lost = [waiting(Pool, Serving, Host, N) || {Host, N} <- [{One, 1}, {Two, 2}, {One, 3}, {Two, 4}]],
    ok = sockpool_hosts:cut(Net, Serving),
    Down = {error, {nodedown, ?config(node, Config)}},
    [?assertEqual(Down, await(Job)) || Job <- Lost],
    ok = three_came_back(settled(Pool, Serving), 0),
    ok = sockpool_hosts:mend(Net, Serving),
    [ok = works_again(Pool, Host) || Host <- Clients].

%% Connections to a node, idle and checked out: nobody has said that it is gone.
link_of_a_node_is_cut(Config) ->
    #{hosts := [Serving, #{node := CutNode} = Cut, _Other]} = Net = ?config(net, Config),
    Pool = {?FUNCTION_NAME, ?config(node, Config)},
    ok = call(Serving, sockpool, start_pool, [Pool, #{transport => node, node => CutNode, size => 3,
                                                      max_overflow => 0, connect_timeout => 1000}]),
    _ = settled(Pool, Serving),
    Held = start(fun() -> call(Serving, ?MODULE, linger_there, [Pool]) end),
    ok = wait_until(fun() -> leased(Pool, Serving) =:= 1 end),
    ok = sockpool_hosts:cut(Net, Cut),
    ok = wait_until(fun() -> usable(Pool, Serving) =:= 0 end, 15000),
    ?assertMatch({error, _}, await(Held)),
    ok = sockpool_hosts:mend(Net, Cut),
    ?assertMatch(#{total := 3, closed := 3}, settled(Pool, Serving)),
    ok = call(Serving, sockpool, stop_pool, [Pool]).

leased(Pool, Serving) -> in_stats(leased, Pool, Serving).
usable(Pool, Serving) -> leased(Pool, Serving) + in_stats(idle, Pool, Serving).

in_stats(Key, Pool, Serving) ->
    {ok, #{Key := Value}} = call(Serving, sockpool, stats, [Pool]),
    Value.

linger_there(Pool) -> sockpool:call(Pool, timer, sleep, [infinity], infinity).

%% The server hears of one process after the other: what it takes from the first may go to a waiter of the
%% same host, of whom it hears next. That one comes back untouched.
three_came_back(#{checkouts := Checkouts, checkins := Checkins, abandoned := Abandoned} = Stats, Served) ->
    ?assertEqual(Served, Checkins),
    ?assertEqual(Checkouts, Checkins + Abandoned),
    ?assert(Abandoned >= 3),
    ?assertMatch(#{total := 3, idle := 3, waiting := 0, created := 5, closed := 2, timeouts := 0}, Stats),
    ok.

%%% On the serving host.

%% An echo server that lives as long as the host.
backend() ->
    Self = self(),
    _ = spawn(fun() ->
                      Self ! {target, sockpool_test_server:target(sockpool_test_server:start())},
                      receive never -> ok end
              end),
    receive {target, Target} -> Target end.

started(Config, Name, Serving) ->
    Opts = (?config(target, Config))#{size => 3, max_overflow => 0},
    Pool = {Name, ?config(node, Config)},
    ok = call(Serving, sockpool, start_pool, [Pool, Opts]),
    _ = settled(Pool, Serving),
    Pool.

settled(Pool, Serving) ->
    call(Serving, sockpool_test_util, settled, [Pool]).

%%% On the clients' hosts.

%% One untouched lease, one used, one in a receive that nothing ends.
hold_three(Pool, Host) ->
    Uses = [untouched, used, receiving],
    [start(fun() -> call(Host, ?MODULE, hold, [Pool, Use, self_name(Pool, Use)]) end) || Use <- Uses],
    [ok = wait_until(fun() -> is_pid(call(Host, erlang, whereis, [self_name(Pool, Use)])) end)
     || Use <- Uses],
    ok.

self_name({Name, Node}, Use) -> list_to_atom(lists:concat([Name, "_", Node, "_", Use])).

hold(Pool, Use, Name) ->
    {ok, Conn} = sockpool:checkout(Pool),
    ok = case Use of
             untouched -> ok;
             _ -> sockpool:send(Conn, "x")
         end,
    true = register(Name, self()),
    case Use of
        receiving -> sockpool:recv(Conn, 2, infinity);
        _ -> receive {never, Conn} -> ok end
    end.

%% The Nth in the queue.
waiting(Pool, Serving, Host, N) ->
    Job = start(fun() -> call(Host, ?MODULE, use_once, [Pool]) end),
    ok = wait_until(fun() ->
                            {ok, Stats} = call(Serving, sockpool, stats, [Pool]),
                            maps:get(waiting, Stats) =:= N
                    end),
    Job.

use_once(Pool) ->
    case sockpool:checkout(Pool, infinity) of
        {ok, Conn} -> sockpool:checkin(Conn);
        {error, _} = Error -> Error
    end.

works_again(Pool, Host) ->
    wait_until(fun() -> call(Host, sockpool, request, [Pool, "x", 1, 5000]) =:= {ok, <<"x">>} end).
