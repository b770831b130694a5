%%% Connections that are there before somebody needs them, and who waits for that: await_ready/2, `start', `min_idle'; growth with a server
%%% that is slow to connect. Of this VM, of an Erlang node, of the daemon.
-module(sockpool_ready_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_group/2, end_per_group/2,
         init_per_testcase/2, end_per_testcase/2]).
-export([up_already/1, comes_up/1, time_over_while_down/1, time_over_while_up/1, default_time/1, resized/1, stopped/1,
         no_such_pool/1, bad_arguments/1, start_waits/1, start_returns_anyway/1, bad_start/1, spare_ones/1, asks_again_and_again/1]).
-export([the_dead_are_forgotten/1, others_start_meanwhile/1, a_restart_waits_for_nothing/1, stopped_while_it_starts/1,
         linked_start_waits/1, of_workers/1, crashed_while_it_starts/1, crashed_while_waited_for/1,
         opens_what_will_be_needed/1, eager_or_not/1]).

-import(sockpool_test_util, [wait_until/1, settled/1, stat/2, stats/1, start/1, await/1]).

suite() -> [{timetrap, {minutes, 2}}].

all() -> [{group, here}, {group, erlang}, {group, c}].

groups() ->
    Each = [up_already, comes_up, time_over_while_down, time_over_while_up, default_time, resized, stopped, no_such_pool,
            bad_arguments, start_waits, start_returns_anyway, bad_start, spare_ones],
    Here = [the_dead_are_forgotten, others_start_meanwhile, a_restart_waits_for_nothing, stopped_while_it_starts,
            linked_start_waits, of_workers, crashed_while_it_starts, crashed_while_waited_for, opens_what_will_be_needed, eager_or_not],
    [{here, Each ++ Here}, {erlang, Each ++ [asks_again_and_again]}, {c, Each ++ [asks_again_and_again]}].

init_per_suite(Config) -> Config.

end_per_suite(_Config) -> ok.

init_per_group(here, Config) ->
    {ok, _} = application:ensure_all_started(sockpool),
    [{place, fun(Name) -> Name end} | Config];
init_per_group(erlang, Config) ->
    ok = sockpool_cluster:be_a_node(),
    #{node := Node} = Peer = sockpool_cluster:start_peer(),
    [{place, fun(Name) -> {Name, Node} end}, {peer, Peer} | Config];
init_per_group(c, Config) ->
    sockpool_c_daemon:if_built(
      fun() ->
              ok = sockpool_cluster:be_a_node(),
              #{node := Node} = Daemon = sockpool_c_daemon:start(),
              [{place, fun(Name) -> {Name, Node} end}, {daemon, Daemon} | Config]
      end).

end_per_group(here, _Config) -> application:stop(sockpool);
end_per_group(erlang, Config) -> sockpool_cluster:stop_peer(?config(peer, Config));
end_per_group(c, Config) -> 0 = sockpool_c_daemon:stop(?config(daemon, Config)).

init_per_testcase(Case, Config) ->
    Place = ?config(place, Config),
    Name = list_to_atom(lists:concat(["ready_", Case])),
    [{server, sockpool_test_server:start()}, {name, Name}, {pool, Place(Name)} | Config].

end_per_testcase(_Case, Config) ->
    _ = sockpool:stop_pool(?config(pool, Config)),
    sockpool_test_server:stop(?config(server, Config)).

opts(Config, Opts) ->
    maps:merge((sockpool_test_server:target(?config(server, Config)))#{backoff => {10, 50}}, Opts).

started(Config, Opts) ->
    Pool = ?config(pool, Config),
    ok = sockpool:start_pool(Pool, opts(Config, Opts)),
    Pool.

down(Config) -> ok = sockpool_test_server:down(?config(server, Config)).
up(Config) -> ok = sockpool_test_server:up(?config(server, Config)).

%%% await_ready

up_already(Config) ->
    Pool = started(Config, #{size => 3}),
    _ = settled(Pool),
    ?assertEqual(ok, sockpool:await_ready(Pool)),
    [?assertEqual(ok, sockpool:await_ready(Pool, Opts))
     || Opts <- [#{}, #{timeout => 0}, #{count => 3, timeout => 0}, #{count => size, timeout => 0}, [{count, 2}], [{count, nil}]]].

comes_up(Config) ->
    down(Config),
    Pool = started(Config, #{size => 3}),
    Jobs = [start(fun() -> sockpool:await_ready(Pool, #{count => Count, timeout => Timeout}) end)
            || Count <- [1, 2, 3, size], Timeout <- [60000, infinity]],
    wait_until(fun() -> stat(Pool, connect_failures) > 2 end),
    up(Config),
    [?assertEqual(ok, await(Job)) || Job <- Jobs],
    ?assertEqual(ok, sockpool:await_ready(Pool, #{count => 3, timeout => 0})).

time_over_while_down(Config) ->
    down(Config),
    Pool = started(Config, #{size => 2}),
    wait_until(fun() -> stat(Pool, connect_failures) > 0 end),
    [?assertEqual({error, {unavailable, econnrefused}}, sockpool:await_ready(Pool, #{timeout => Ms})) || Ms <- [0, 1, 100]].

time_over_while_up(Config) ->
    Pool = started(Config, #{size => 2}),
    _ = settled(Pool),
    [?assertEqual({error, timeout}, sockpool:await_ready(Pool, #{count => 3, timeout => Ms})) || Ms <- [0, 1, 100]].

default_time(Config) ->
    Pool = started(Config, #{size => 2, checkout_timeout => 100}),
    ?assertEqual({error, timeout}, sockpool:await_ready(Pool, #{count => 3})).

resized(Config) ->
    Pool = started(Config, #{size => 2}),
    More = start(fun() -> sockpool:await_ready(Pool, #{count => 4, timeout => infinity}) end),
    ok = sockpool:await_ready(Pool, #{count => size}),
    ok = sockpool:resize(Pool, 4, 0),
    ?assertEqual(ok, await(More)).

stopped(Config) ->
    Pool = started(Config, #{size => 2}),
    Jobs = [start(fun() -> sockpool:await_ready(Pool, #{count => 3, timeout => Timeout}) end) || Timeout <- [60000, infinity]],
    waits(Config, Pool, length(Jobs)),
    ok = sockpool:stop_pool(Pool),
    [?assertEqual({error, draining}, await(Job)) || Job <- Jobs].

%% Of a pool of this node; another one has been asked before it is asked to stop.
waits(Config, Pool, Count) when is_atom(Pool) -> waits_here(Config, sockpool_nif:pool_controller(sockpool_pool:find(Pool)), Count);
waits(_Config, Pool, _Count) -> {ok, _} = sockpool:stats(Pool).

waits_here(_Config, Pid, Count) ->
    wait_until(fun() -> {monitors, Monitors} = process_info(Pid, monitors), length(Monitors) =:= Count end).

no_such_pool(Config) ->
    ?assertEqual({error, not_found}, sockpool:await_ready(?config(pool, Config), #{timeout => 1000})).

bad_arguments(Config) ->
    Pool = started(Config, #{size => 1}),
    [?assertEqual({error, {bad_argument, Name, Value}}, sockpool:await_ready(Pool, Opts))
     || {Opts, Name, Value} <- [{#{count => 0}, count, 0}, {#{count => all}, count, all}, {#{timeout => -1}, timeout, -1},
                                {x, opts, x}, {#{cuont => 1}, opts, #{cuont => 1}},
                                {#{count => 16#100000000}, count, 16#100000000}]],
    ?assertEqual({error, {bad_argument, pool, "x"}}, sockpool:await_ready("x")).

%%% start

start_waits(Config) ->
    down(Config),
    Pool = ?config(pool, Config),
    Job = start(fun() -> sockpool:start_pool(Pool, opts(Config, #{size => 3, start => {await, size, 60000}})) end),
    wait_until(fun() -> case sockpool:stats(Pool) of {ok, #{connect_failures := N}} -> N > 2; _ -> false end end),
    {Pid, _, _} = Job,
    ?assert(is_process_alive(Pid)),
    up(Config),
    ?assertEqual(ok, await(Job)),
    ?assertMatch(#{total := 3, connecting := 0}, stats(Pool)).

start_returns_anyway(Config) ->
    down(Config),
    Pool = ?config(pool, Config),
    ok = sockpool_test_log:hear(?config(name, Config)),
    ?assertEqual(ok, sockpool:start_pool(Pool, opts(Config, #{start => {await, 2, 50}}))),
    _ = is_atom(Pool) andalso has_line("started, but 2 of its connections to 127.0.0.1:"),
    ok = sockpool_test_log:forget(?config(name, Config)),
    up(Config),
    ?assertEqual(ok, sockpool:await_ready(Pool, #{count => size, timeout => 60000})).

has_line(Words) ->
    string:find(sockpool_test_log:next_line(), Words) =/= nomatch orelse has_line(Words).

bad_start(Config) ->
    Bad = {await, 0, 1},
    ?assertEqual({error, {bad_option, start, Bad}}, sockpool:start_pool(?config(pool, Config), opts(Config, #{start => Bad}))),
    Pool = started(Config, #{start => async}),
    ?assertEqual({error, {needs_restart, start}}, sockpool:update(Pool, #{start => async})).

%%% min_idle

spare_ones(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 5, overflow_ttl => 0, min_idle => 2}),
    wait_until(fun() -> stat(Pool, idle) =:= 2 end),
    {ok, First} = sockpool:checkout(Pool),
    wait_until(fun() -> stat(Pool, idle) =:= 2 end),
    {ok, Second} = sockpool:checkout(Pool),
    wait_until(fun() -> stat(Pool, idle) =:= 2 end),
    ?assertMatch(#{total := 4, leased := 2, closed := 0}, stats(Pool)),
    ok = sockpool:checkin(First),
    ok = sockpool:checkin(Second),
    wait_until(fun() -> stat(Pool, total) =:= 2 end),
    ok = sockpool:update(Pool, #{min_idle => 4}),
    wait_until(fun() -> stat(Pool, idle) =:= 4 end).

%% Who has died keeps his place at the other node for some seconds at most.
asks_again_and_again(Config) ->
    down(Config),
    Pool = started(Config, #{size => 1}),
    Waiter = start(fun() -> receive go -> sockpool:await_ready(Pool, #{timeout => infinity}) end end),
    1 = erlang:trace(element(1, Waiter), true, [send]),
    element(1, Waiter) ! go,
    Asked = [await_asked(), await_asked()],
    up(Config),
    ?assertEqual(ok, await(Waiter)),
    ?assertEqual([5000, 5000], Asked).

await_asked() ->
    receive
        {trace, _, _, {_, _, {await_ready, _, _, _, Ms}}, _} -> Ms;
        {trace, _, _, _Other, _} -> await_asked()
    end.

%%% Pools of this node.

the_dead_are_forgotten(Config) ->
    Pool = started(Config, #{size => 1}),
    Pid = sockpool_nif:pool_controller(sockpool_pool:find(Pool)),
    Waiting = [spawn(fun() -> sockpool:await_ready(Pool, #{count => 2, timeout => Timeout}) end) || Timeout <- [60000, infinity]],
    waits_here(Config, Pid, 2),
    [exit(Dead, kill) || Dead <- Waiting],
    waits_here(Config, Pid, 0),
    ok = sockpool:await_ready(Pool).

others_start_meanwhile(Config) ->
    down(Config),
    Pool = ?config(pool, Config),
    Job = start(fun() -> sockpool:start_pool(Pool, opts(Config, #{start => {await, 1, 600000}})) end),
    wait_until(fun() -> is_tuple(sockpool:stats(Pool)) andalso element(1, sockpool:stats(Pool)) =:= ok end),
    ok = sockpool:start_pool(ready_another, opts(Config, #{})),
    ok = sockpool:stop_pool(ready_another),
    ?assertEqual({error, {unavailable, econnrefused}}, sockpool:checkout(Pool, 100)),
    up(Config),
    ?assertEqual(ok, await(Job)).

a_restart_waits_for_nothing(Config) ->
    Pool = ?config(pool, Config),
    {ok, Sup} = supervised(Pool, opts(Config, #{size => 1, start => {await, size, 600000}})),
    [{_, Pid, _, _}] = supervisor:which_children(Sup),
    down(Config),
    exit(Pid, kill),
    wait_until(fun() -> [{_, Next, _, _}] = supervisor:which_children(Sup), is_pid(Next) andalso Next =/= Pid end),
    unlink(Sup),
    exit(Sup, shutdown),
    wait_until(fun() -> not is_process_alive(Sup) end).

supervised(Pool, Opts) ->
    {ok, Sup} = supervisor:start_link(sockpool_ready_sup, []),
    {ok, _} = supervisor:start_child(Sup, sockpool:child_spec(Pool, Opts)),
    {ok, Sup}.

%% Whoever waits for it hears that, and its name is free.
crashed_while_it_starts(Config) ->
    down(Config),
    Pool = ?config(pool, Config),
    Opts = opts(Config, #{start => {await, 1, 600000}}),
    [begin
         Job = start(fun() -> sockpool:start_pool(Pool, Opts) end),
         wait_until(fun() -> is_tuple(sockpool:stats(Pool)) andalso element(1, sockpool:stats(Pool)) =:= ok end),
         exit(sockpool_nif:pool_controller(sockpool_pool:find(Pool)), kill),
         ?assertEqual({error, killed}, await(Job)),
         wait_until(fun() -> case sockpool:checkout(Pool, 0) of {error, not_found} -> true; Other -> Other end end),
         ?assertEqual({error, not_found}, sockpool:stop_pool(Pool))
     end || _ <- [1, 2, 3]],
    up(Config),
    ?assertEqual(ok, sockpool:start_pool(Pool, Opts)),
    ok = sockpool:stop_pool(Pool).

%% As a check-out at such a time; who has crashed is no pool that is not there.
crashed_while_waited_for(Config) ->
    Pool = ?config(pool, Config),
    ok = sockpool:start_pool(Pool, opts(Config, #{size => 1})),
    ok = sockpool:await_ready(Pool),
    Process = sockpool_nif:pool_controller(sockpool_pool:find(Pool)),
    Wait = start(fun() -> sockpool:await_ready(Pool, #{count => 2, timeout => 600000}) end),
    wait_until(fun() -> process_info(Process, monitors) =/= {monitors, []} end),
    ok = sys:suspend(Process),
    Update = start(fun() -> sockpool:update(Pool, #{size => 2}) end),
    wait_until(fun() ->
                       {messages, Messages} = process_info(Process, messages),
                       [update || {'$gen_call', _, {update, _}} <- Messages] =:= [update]
               end),
    exit(Process, kill),
    ?assertEqual([{error, closed}, {error, closed}], [await(Job) || Job <- [Wait, Update]]),
    wait_until(fun() -> sockpool:update(Pool, #{size => 2}) =:= ok end),
    ok = sockpool:await_ready(Pool, #{count => 2, timeout => 60000}),
    ok = sockpool:stop_pool(Pool),
    ?assertEqual([{error, not_found}, {error, not_found}], [sockpool:await_ready(Pool), sockpool:update(Pool, #{size => 2})]).

stopped_while_it_starts(Config) ->
    down(Config),
    Pool = ?config(pool, Config),
    Job = start(fun() -> sockpool:start_pool(Pool, opts(Config, #{start => {await, 1, 600000}})) end),
    wait_until(fun() -> is_tuple(sockpool:stats(Pool)) andalso element(1, sockpool:stats(Pool)) =:= ok end),
    ok = sockpool:stop_pool(Pool),
    ?assertEqual({error, draining}, await(Job)).

linked_start_waits(Config) ->
    {ok, Pid} = sockpool:start_link(?config(pool, Config), opts(Config, #{size => 3, start => {await, 3, 60000}})),
    ?assertMatch(#{total := 3, connecting := 0}, stats(?config(pool, Config))),
    unlink(Pid),
    exit(Pid, shutdown),
    wait_until(fun() -> not is_process_alive(Pid) end).

of_workers(Config) ->
    Pool = ?config(pool, Config),
    ok = sockpool:start_pool(Pool, #{transport => worker, worker => {sockpool_test_worker, #{}}, size => 3, max_overflow => 2,
                                     min_idle => 2, start => {await, 3, 60000}}),
    ?assertEqual(ok, sockpool:await_ready(Pool, #{count => size, timeout => 0})),
    Held = [begin {ok, Conn} = sockpool:checkout(Pool), Conn end || _ <- lists:seq(1, 3)],
    ?assertEqual(ok, sockpool:await_ready(Pool, #{count => 5, timeout => 60000})),
    [ok = sockpool:checkin(Conn) || Conn <- Held].

%%% Growth. What is decided when is tested in C, by a clock of its own (test/c/core/pool/test_sp_forecast.c).

%% Connecting takes much longer than to serve all who come at once, whatever the machine does meanwhile.
opens_what_will_be_needed(Config) ->
    Eager = spike(Config, eager),
    Expected = spike(Config, expected),
    ct:pal("50 at once on 5: ~b connections, eagerly ~b", [Expected, Eager]),
    ?assert(Eager >= 25),
    ?assert(Expected =< 10).

spike(Config, Growth) ->
    Pool = ?config(pool, Config),
    ok = sockpool:start_pool(Pool, opts(Config, #{size => 5, max_overflow => 95, growth => Growth, packet => line,
                                                  init => fun(_Conn) -> receive after 2000 -> ok end end})),
    ok = sockpool:await_ready(Pool, #{count => size, timeout => 60000}),
    Self = self(),
    %% All are in use until all wait.
    Held = [begin {ok, Conn} = sockpool:checkout(Pool), Conn end || _ <- lists:seq(1, 5)],
    Jobs = [start(fun() ->
                          Self ! waits,
                          {ok, _} = sockpool:request(Pool, "x\n", packet, 60000)
                  end) || _ <- lists:seq(1, 45)],
    [receive waits -> ok end || _ <- Jobs],
    wait_until(fun() -> stat(Pool, waiting) =:= 45 end),
    [ok = sockpool:checkin(Conn) || Conn <- Held],
    [{ok, _} = await(Job) || Job <- Jobs],
    #{total := Total} = stats(Pool),
    ok = sockpool:stop_pool(Pool),
    Total.

%% Who waits longer than an attempt takes has one.
eager_or_not(Config) ->
    Pool = ?config(pool, Config),
    ok = sockpool:start_pool(Pool, opts(Config, #{size => 1, max_overflow => 3, init => fun(_Conn) -> receive after 200 -> ok end end})),
    ok = sockpool:await_ready(Pool, #{timeout => 60000}),
    [begin {ok, Conn} = sockpool:checkout(Pool), ok = sockpool:checkin(Conn) end || _ <- lists:seq(1, 20)],
    Held = [begin {ok, Conn} = sockpool:checkout(Pool, 60000), Conn end || _ <- lists:seq(1, 3)],
    ok = sockpool:update(Pool, #{growth => eager}),
    {ok, Last} = sockpool:checkout(Pool, 60000),
    [ok = sockpool:checkin(Conn) || Conn <- [Last | Held]].
