%%% Options that change while a pool runs: of this VM, of an Erlang node, of the daemon.
-module(sockpool_update_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_group/2, end_per_group/2,
         init_per_testcase/2, end_per_testcase/2]).
-export([grows/1, shrinks_while_idle/1, shrinks_while_leased/1, waiters_see_no_change/1, of_each_time/1,
         new_connections/1, needs_restart/1, refused/1, no_such_pool/1, storm/1]).
-export([outlives_a_crash/1, not_a_stop/1, of_workers/1, of_pipes/1]).

-import(sockpool_test_util, [wait_until/1, settled/1, stat/2, start/1, await/1, seed/0]).

suite() -> [{timetrap, {minutes, 2}}].

all() -> [{group, here}, {group, erlang}, {group, c}].

groups() ->
    Each = [grows, shrinks_while_idle, shrinks_while_leased, waiters_see_no_change, of_each_time, new_connections,
            needs_restart, refused, no_such_pool, storm],
    [{here, Each ++ [outlives_a_crash, not_a_stop, of_workers, of_pipes]}, {erlang, Each}, {c, Each}].

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
    Name = list_to_atom(lists:concat(["update_", Case])),
    [{server, sockpool_test_server:start()}, {pool, Place(Name)} | Config].

end_per_testcase(_Case, Config) ->
    _ = sockpool:stop_pool(?config(pool, Config)),
    sockpool_test_server:stop(?config(server, Config)).

started(Config, Opts) ->
    Pool = ?config(pool, Config),
    ok = sockpool:start_pool(Pool, maps:merge(sockpool_test_server:target(?config(server, Config)), Opts)),
    _ = settled(Pool),
    Pool.

held(Pool, Count) ->
    [begin {ok, Conn} = sockpool:checkout(Pool, 10000), Conn end || _ <- lists:seq(1, Count)].

%%% Sizes.

grows(Config) ->
    Pool = started(Config, #{size => 2, max_overflow => 0}),
    ok = sockpool:resize(Pool, 5, 1),
    wait_until(fun() -> stat(Pool, idle) =:= 5 end),
    ?assertMatch(#{size := 5, max_overflow := 1, created := 5, closed := 0}, settled(Pool)),
    Held = held(Pool, 6),
    ?assertEqual({error, full}, sockpool:checkout(Pool, 0)),
    [ok = sockpool:checkin(Conn) || Conn <- Held].

shrinks_while_idle(Config) ->
    Pool = started(Config, #{size => 80, max_overflow => 0}),
    ok = sockpool:resize(Pool, 3, 5),
    wait_until(fun() -> stat(Pool, total) =:= 3 end),
    ?assertMatch(#{size := 3, max_overflow := 5, created := 80, closed := 77}, settled(Pool)),
    wait_until(fun() -> sockpool_test_server:live(?config(server, Config)) =:= 3 end).

%% Nobody loses his. What is beyond the limit ends with its lease.
shrinks_while_leased(Config) ->
    Pool = started(Config, #{size => 5, max_overflow => 0}),
    Held = held(Pool, 5),
    ok = sockpool:resize(Pool, 1, 1),
    [begin
         ok = sockpool:send(Conn, "still"),
         ?assertEqual({ok, <<"still">>}, sockpool:recv(Conn, 5, 5000))
     end || Conn <- Held],
    ?assertMatch(#{leased := 5, closed := 0}, sockpool_test_util:stats(Pool)),
    [ok = sockpool:checkin(Conn) || Conn <- Held],
    wait_until(fun() -> stat(Pool, total) =:= 2 end),
    ?assertMatch(#{created := 5, closed := 3}, sockpool_test_util:stats(Pool)).

waiters_see_no_change(Config) ->
    Pool = started(Config, #{size => 2, max_overflow => 0}),
    Held = held(Pool, 2),
    Waiting = [start(fun() -> sockpool:request(Pool, "x", 1, 10000) end) || _ <- lists:seq(1, 5)],
    wait_until(fun() -> stat(Pool, waiting) =:= 5 end),
    ok = sockpool:resize(Pool, 1, 0),
    [ok = sockpool:checkin(Conn) || Conn <- Held],
    ?assertEqual([{ok, <<"x">>}], lists:usort([await(Job) || Job <- Waiting])),
    ?assertMatch(#{total := 1, timeouts := 0}, settled(Pool)).

%%% Others.

%% Each is seen at once by those who come.
of_each_time(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0, checkout_timeout => 30000}),
    [Conn] = held(Pool, 1),
    ok = sockpool:update(Pool, #{checkout_timeout => 20}),
    ?assertEqual({error, timeout}, sockpool:checkout(Pool)),
    ok = sockpool:update(Pool, [{max_waiting, 0}]),
    ?assertEqual({error, full}, sockpool:checkout(Pool, 1000)),
    ok = sockpool:update(Pool, #{max_hold => 1}),
    wait_until(fun() -> sockpool:info(Conn) =:= {error, closed} end),
    ok = sockpool:update(Pool, #{max_hold => infinity, max_waiting => infinity}),
    [Next] = held(Pool, 1),
    ok = sockpool:checkin(Next).

%% What is open already stays as it is.
new_connections(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 1}),
    ok = sockpool:update(Pool, #{bind => {127, 0, 0, 2}}),
    [Old, New] = held(Pool, 2),
    ?assertMatch([{ok, {{127, 0, 0, 1}, _}}, {ok, {{127, 0, 0, 2}, _}}], [sockpool:sockname(Old), sockpool:sockname(New)]),
    ok = sockpool:update(Pool, #{bind => undefined}),
    ok = sockpool:discard(New),
    [Newest] = held(Pool, 1),
    ?assertMatch({ok, {{127, 0, 0, 1}, _}}, sockpool:sockname(Newest)),
    [ok = sockpool:checkin(Conn) || Conn <- [Old, Newest]].

needs_restart(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0}),
    [begin
         ?assertEqual({error, {needs_restart, Key}}, sockpool:update(Pool, #{Key => Value, size => 2})),
         ?assertNotEqual(nomatch, string:find(sockpool:format_error({needs_restart, Key}), atom_to_list(Key)))
     end || {Key, Value} <- [{host, "::1"}, {port, 1}, {transport, tcp}, {packet, line}, {recv_limit, 1}, {name, other},
                             {pipeline, 8}]],
    ?assertMatch(#{size := 1}, settled(Pool)).

refused(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0}),
    [?assertEqual({error, {bad_option, Key, Shown}}, sockpool:update(Pool, Opts))
     || {Opts, Key, Shown} <- [{#{size => -1}, size, -1},
                               {#{size => 0}, size, 0},
                               {#{size => 0, max_overflow => 0}, size, 0},
                               {#{sise => 5}, sise, not_shown},
                               {#{size => 5, backoff => {2, 1}}, backoff, {2, 1}},
                               {#{path => <<"/x">>}, path, <<"/x">>},
                               {#{max_inflight => 1}, max_inflight, 1},
                               {no_map, opts, not_a_map}]],
    ?assertEqual(ok, sockpool:update(Pool, #{})),
    ?assertEqual(ok, sockpool:update(Pool, #{path => undefined, size => nil})),
    ?assertMatch(#{size := 1, max_overflow := 0}, settled(Pool)).

no_such_pool(Config) ->
    ?assertEqual({error, not_found}, sockpool:update(?config(pool, Config), #{size => 1})),
    ?assertEqual({error, not_found}, sockpool:resize(?config(pool, Config), 1, 0)),
    ?assertMatch({error, {bad_argument, pool, "x"}}, sockpool:resize("x", 1, 0)).

%% A thousand of them while others use it, and some are killed: nothing is lost, and all adds up afterwards.
storm(Config) ->
    Pool = started(Config, #{size => 10, max_overflow => 5, backoff => {1, 5}}),
    _ = rand:seed(exsss, seed()),
    Users = [start(fun() -> use(Pool, 0) end) || _ <- lists:seq(1, 30)],
    Killed = lists:sublist(Users, 10),
    [begin
         ok = sockpool:resize(Pool, rand:uniform(20), rand:uniform(10) - 1),
         _ = N rem 100 =:= 0 andalso exit(element(1, lists:nth(N div 100, Killed)), kill)
     end || N <- lists:seq(1, 1000)],
    Rest = Users -- Killed,
    [Pid ! stop || {Pid, _, _} <- Rest],
    ?assert(lists:all(fun(Count) -> Count > 0 end, [await(Job) || Job <- Rest])),
    ok = sockpool:resize(Pool, 4, 0),
    wait_until(fun() -> stat(Pool, total) =:= 4 end),
    #{created := Created, closed := Closed} = settled(Pool),
    ?assertEqual(4, Created - Closed),
    wait_until(fun() -> sockpool_test_server:live(?config(server, Config)) =:= 4 end).

use(Pool, Count) ->
    receive
        stop -> Count
    after 0 ->
        {ok, <<"hello">>} = sockpool:request(Pool, "hello", 5, 30000),
        use(Pool, Count + 1)
    end.

%%% Here.

outlives_a_crash(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0, checkout_timeout => 30000}),
    ok = sockpool:resize(Pool, 3, 0),
    ok = sockpool:update(Pool, #{checkout_timeout => 7}),
    crashed(Pool),
    ?assertMatch(#{size := 3}, settled(Pool)),
    _ = held(Pool, 3),
    ?assertEqual({error, timeout}, sockpool:checkout(Pool)),
    %% And the next one, after which only what was changed in between is new.
    ok = sockpool:resize(Pool, 2, 0),
    crashed(Pool),
    ?assertMatch(#{size := 2}, settled(Pool)),
    _ = held(Pool, 2),
    ?assertEqual({error, timeout}, sockpool:checkout(Pool)).

crashed(Pool) ->
    Process = sockpool_nif:pool_controller(sockpool_pool:find(Pool)),
    true = exit(Process, kill),
    wait_until(fun() -> not lists:member(sockpool_nif:pool_controller(sockpool_pool:find(Pool)), [Process, undefined]) end).

not_a_stop(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0}),
    ok = sockpool:resize(Pool, 3, 0),
    ok = sockpool:stop_pool(Pool),
    _ = started(Config, #{size => 1, max_overflow => 0}),
    ?assertMatch(#{size := 1}, settled(Pool)),
    crashed(Pool),
    ?assertMatch(#{size := 1}, settled(Pool)).

of_workers(Config) ->
    Pool = ?config(pool, Config),
    ok = sockpool:start_pool(Pool, #{worker => {sockpool_test_worker, #{}}, transport => worker, size => 4,
                                     max_overflow => 0}),
    _ = settled(Pool),
    ok = sockpool:resize(Pool, 2, 0),
    wait_until(fun() -> stat(Pool, total) =:= 2 end),
    ok = sockpool:update(Pool, #{abandoned => reuse}),
    ?assertEqual({error, {needs_restart, validate}}, sockpool:update(Pool, #{validate => fun erlang:is_process_alive/1})),
    ?assertEqual({error, {needs_restart, worker_shutdown}}, sockpool:update(Pool, #{worker_shutdown => 1})),
    ?assertEqual({error, {bad_option, sndbuf, 100}}, sockpool:update(Pool, #{sndbuf => 100})).

of_pipes(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0, packet => line, pipeline => 64}),
    Users = [start(fun() -> [{ok, <<"x\n">>} = sockpool:request(Pool, "x\n", packet, 10000) || _ <- lists:seq(1, 300)], ok end)
             || _ <- lists:seq(1, 20)],
    [ok = sockpool:resize(Pool, N, 0) || N <- [4, 1, 3, 1]],
    ?assertEqual([ok], lists:usort([await(Job) || Job <- Users])),
    wait_until(fun() -> stat(Pool, total) =:= 1 end),
    ?assertEqual({error, {bad_option, pipeline, 64}}, sockpool:resize(Pool, 70000, 0)).
