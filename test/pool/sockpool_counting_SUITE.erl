%%% What a pool counts, and for which reason: of pools here, on another node, and in the daemon.
-module(sockpool_counting_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_group/2, end_per_group/2,
         init_per_testcase/2, end_per_testcase/2]).
-export([closed_by/1, closed_by_age/1, stopped/1, failed_by/1, failed_init/1, errors/1, waits/1, histograms/1, connects/1, of_no_pool/1, storm/1]).

-import(sockpool_test_util, [wait_until/1, settled/1, stat/2, stats/1, start/1, await/1, assert_adds_up/1]).

suite() -> [{timetrap, {minutes, 2}}].

all() -> [{group, here}, {group, there}, {group, c}].

groups() ->
    Cases = [closed_by, closed_by_age, failed_by, errors, waits, histograms, connects, of_no_pool, storm],
    [{here, [parallel], [stopped, failed_init | Cases]}, {there, [parallel], Cases}, {c, [parallel], Cases}].

init_per_suite(Config) ->
    ok = sockpool_cluster:be_a_node(),
    {ok, _} = application:ensure_all_started(sockpool),
    Config.

end_per_suite(_Config) -> application:stop(sockpool).

init_per_group(here, Config) -> Config;
init_per_group(there, Config) -> [{serving, sockpool_cluster:start_peer()} | Config];
init_per_group(c, Config) -> sockpool_c_daemon:if_built(fun() -> [{serving, sockpool_c_daemon:start()} | Config] end).

end_per_group(here, _Config) -> ok;
end_per_group(there, Config) -> sockpool_cluster:stop_peer(?config(serving, Config));
end_per_group(c, Config) -> 0 = sockpool_c_daemon:stop(?config(serving, Config)).

init_per_testcase(Case, Config) ->
    Name = list_to_atom(lists:concat(["counting_", Case])),
    case ?config(serving, Config) of
        undefined -> [{pool, Name} | Config];
        #{node := Node} -> [{pool, {Name, Node}} | Config]
    end.

end_per_testcase(_Case, Config) ->
    _ = sockpool:stop_pool(?config(pool, Config)),
    ok.

started(Config, Opts) ->
    Server = sockpool_test_server:start(),
    Pool = ?config(pool, Config),
    ok = sockpool:start_pool(Pool, maps:merge(sockpool_test_server:target(Server), Opts)),
    _ = settled(Pool),
    {Pool, Server}.

%%% Closes.

closed_by(Config) ->
    {Pool, Server} = started(Config, #{size => 2, max_overflow => 0}),
    Each = [{discarded, fun sockpool:discard/1},
            {io_timeout, fun(C) -> {error, timeout} = sockpool:recv(C, 1, 10), sockpool:checkin(C) end},
            {unanswered, fun(C) -> ok = sockpool:send(C, "x"), sockpool:checkin(C) end},
            {unread, fun(C) -> ok = sockpool:send(C, "abc"), {ok, <<"a">>} = sockpool:recv(C, 1), sockpool:checkin(C) end},
            {options, fun(C) -> ok = sockpool:setopts(C, [{sndbuf, 8192}]), sockpool:checkin(C) end}],
    _ = [closes(Pool, Why, fun() -> {ok, Conn} = sockpool:checkout(Pool), ok = Use(Conn) end) || {Why, Use} <- Each],
    closes(Pool, exception, fun() ->
        ?assertError(oops, sockpool:transaction(Pool, fun(_Conn) -> error(oops) end))
    end),
    closes(Pool, abandoned, fun() ->
        await(start(fun() -> {ok, Conn} = sockpool:checkout(Pool), ok = sockpool:send(Conn, "x") end))
    end),
    closes(Pool, io_timeout, fun() -> {error, timeout} = sockpool:request(Pool, "x", 2, 20) end),
    closes(Pool, max_hold, fun() ->
        {ok, Conn} = sockpool:checkout(Pool),
        ok = sockpool:send(Conn, "x"),
        ok = sockpool:update(Pool, #{max_hold => 1}),
        wait_until(fun() -> sockpool:send(Conn, "x") =:= {error, closed} end),
        ok = sockpool:update(Pool, #{max_hold => infinity})
    end),
    closes(Pool, resize, fun() -> ok = sockpool:resize(Pool, 1, 0) end),
    Before = by(Pool, peer_closed),
    ok = sockpool_test_server:close_connections(Server),
    wait_until(fun() ->
        {ok, Conn} = sockpool:checkout(Pool),
        ok = sockpool:checkin(Conn),
        by(Pool, peer_closed) > Before
    end),
    adds_up(Pool).

%% One more for this reason, and none for another.
closes(Pool, Why, Fun) ->
    #{closed_by := Before} = settled(Pool),
    Fun(),
    wait_until(fun() -> by(Pool, Why) > maps:get(Why, Before) end),
    #{closed_by := After} = settled(Pool),
    ?assertEqual(Before#{Why := maps:get(Why, Before) + 1}, After).

by(Pool, Why) -> maps:get(Why, stat(Pool, closed_by)).

adds_up(Pool) ->
    _ = settled(Pool),
    assert_adds_up(Pool).

closed_by_age(Config) ->
    {Pool, _Server} = started(Config, #{size => 1, max_overflow => 1, overflow_ttl => 0, max_uses => 1}),
    closes(Pool, max_uses, fun() -> {ok, <<"x">>} = sockpool:request(Pool, "x", 1, 5000) end),
    ok = sockpool:update(Pool, #{max_uses => infinity}),
    ok = discarded(Pool), % what was drawn stays
    closes(Pool, overflow, fun() ->
        Conns = [begin {ok, Conn} = sockpool:checkout(Pool), Conn end || _ <- [1, 2]],
        [ok = sockpool:checkin(Conn) || Conn <- Conns]
    end),
    ok = sockpool:update(Pool, #{max_lifetime => 100, max_overflow => 0}),
    ok = discarded(Pool),
    wait_until(fun() -> by(Pool, max_lifetime) >= 2 end),
    ok = sockpool:update(Pool, #{max_lifetime => infinity, idle_timeout => 1000, min_size => 0}),
    wait_until(fun() -> by(Pool, idle_timeout) >= 1 end),
    assert_adds_up(Pool).

discarded(Pool) ->
    {ok, Conn} = sockpool:checkout(Pool),
    sockpool:discard(Conn).

%% The counters of a pool go on after a crash, and begin anew with a start.
stopped(Config) ->
    {Pool, _} = started(Config, #{size => 3}),
    exit(sockpool_nif:pool_controller(sockpool_pool:find(Pool)), kill),
    wait_until(fun() -> case sockpool:stats(Pool) of {ok, #{closed_by := #{stopped := 3}}} -> true; Other -> Other end end),
    adds_up(Pool),
    ok = sockpool:stop_pool(Pool),
    {Pool, _} = started(Config, #{size => 1}),
    ?assertEqual(0, by(Pool, stopped)),
    adds_up(Pool).

%%% Attempts.

failed_by(Config) ->
    Pool = ?config(pool, Config),
    Silent = sockpool_test_server:start(silent),
    {ok, Mute} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ok, MutePort} = inet:port(Mute),
    Tls = #{transport => tls, tls => #{verify => none}},
    Each = [{refused, #{host => "127.0.0.1", port => 1}},
            {dns, #{host => "no-such-host.invalid", port => 1}},
            {timeout, maps:merge(Tls#{connect_timeout => 50}, #{host => "127.0.0.1", port => MutePort})},
            {tls, maps:merge(#{host => "127.0.0.1", port => not_tls()}, Tls)}],
    [begin
         ok = sockpool:start_pool(Pool, Opts#{size => 1, backoff => {1, 1}}),
         Before = failures(Pool, Class),
         wait_until(fun() -> failures(Pool, Class) > Before end),
         ok = sockpool:stop_pool(Pool)
     end || {Class, Opts} <- Each],
    ok = gen_tcp:close(Mute),
    ok = sockpool_test_server:stop(Silent).

failures(Pool, Class) -> maps:get(Class, stat(Pool, connect_failed_by)).

%% It answers whatever comes with something that is no TLS.
not_tls() ->
    Self = self(),
    _ = spawn_link(fun() ->
        {ok, Listener} = gen_tcp:listen(0, [binary, {ip, {127, 0, 0, 1}}, {active, false}]),
        {ok, Port} = inet:port(Listener),
        Self ! {not_tls, Port},
        babble(Listener)
    end),
    receive {not_tls, Port} -> Port end.

babble(Listener) ->
    {ok, Socket} = gen_tcp:accept(Listener),
    _ = gen_tcp:recv(Socket, 0),
    _ = gen_tcp:send(Socket, "220 this is no TLS, whatever you have said\r\n"),
    ok = gen_tcp:close(Socket),
    babble(Listener).

failed_init(Config) ->
    Pool = ?config(pool, Config),
    Server = sockpool_test_server:start(),
    Target = sockpool_test_server:target(Server),
    ok = sockpool:start_pool(Pool, Target#{size => 1, backoff => {1, 1}, init => fun(_Conn) -> {error, no} end}),
    wait_until(fun() -> failures(Pool, init) > 2 end),
    ok = sockpool:update(Pool, #{init => undefined}),
    adds_up(Pool).

%%% Those who want a connection.

errors(Config) ->
    {Pool, Server} = started(Config, #{size => 1, max_overflow => 0, max_waiting => 1}),
    {ok, Conn} = sockpool:checkout(Pool),
    {error, full} = sockpool:checkout(Pool, 0),
    {error, timeout} = sockpool:checkout(Pool, 10),
    ?assertMatch(#{errors := #{full := 1, timeout := 1, unavailable := 0, closed := 0}, timeouts := 1}, stats(Pool)),
    Waiting = start(fun() -> sockpool:checkout(Pool, infinity) end),
    wait_until(fun() -> stat(Pool, waiting) =:= 1 end),
    {error, full} = sockpool:checkout(Pool, 1000),
    ok = sockpool_test_server:down(Server),
    ok = sockpool:discard(Conn),
    wait_until(fun() -> stat(Pool, connect_failures) > 0 end),
    ok = sockpool:update(Pool, #{max_waiting => infinity}),
    {error, {unavailable, _}} = sockpool:checkout(Pool, 10),
    ?assertMatch(#{errors := #{full := 2, timeout := 1, unavailable := 1}, timeouts := 2}, stats(Pool)),
    ok = sockpool_test_server:up(Server),
    {ok, _} = await(Waiting).

waits(Config) ->
    {Pool, _Server} = started(Config, #{size => 1, max_overflow => 0}),
    ?assertMatch(#{waited := 0, oldest_wait := 0, exhausted := 0}, stats(Pool)),
    {ok, Conn} = sockpool:checkout(Pool),
    Waiting = [start(fun() -> {ok, C} = sockpool:checkout(Pool, infinity), sockpool:checkin(C) end) || _ <- [1, 2]],
    wait_until(fun() -> stat(Pool, oldest_wait) >= 50 end),
    ?assertMatch(#{waiting := 2, waited := 2, exhausted := Ms} when Ms >= 50, stats(Pool)),
    ok = sockpool:checkin(Conn),
    _ = [await(Job) || Job <- Waiting],
    #{oldest_wait := 0, exhausted := Exhausted} = settled(Pool),
    {ok, <<"x">>} = sockpool:request(Pool, "x", 1, 5000),
    ?assertMatch(#{waited := 2, exhausted := Exhausted}, settled(Pool)).

%%% How long things take.

histograms(Config) ->
    {Pool, _Server} = started(Config, #{size => 1, max_overflow => 0}),
    {ok, Conn} = sockpool:checkout(Pool),
    Waiting = start(fun() -> {ok, _} = sockpool:request(Pool, "x", 1, infinity) end),
    wait_until(fun() -> stat(Pool, oldest_wait) > 100 end),
    ok = sockpool:checkin(Conn),
    _ = await(Waiting),
    ok = discarded(Pool),
    #{checkouts := Checkouts, checkins := Checkins, created := Created, closed := Closed, reused := Reused} = settled(Pool),
    {ok, #{bounds := Bounds, use := Use, wait := Wait, idle := Idle, age := Age, connect := Connect}} = sockpool:histograms(Pool),
    ?assertEqual([N * Decade || Decade <- [1, 10, 100, 1000, 10000, 100000, 1000000, 10000000], N <- [1, 2, 5]], Bounds),
    ?assertMatch({Checkouts, Checkins, Reused, Closed}, {count(Wait), count(Use), count(Idle), count(Age)}),
    [?assertMatch({1, _}, {above(100000, Times, Bounds), Times}) || Times <- [Use, Wait]],
    [?assert(maps:get(sum, Times) >= 100000) || Times <- [Use, Wait]],
    ?assertMatch({Created, Created, Created, 0},
                 list_to_tuple([count(maps:get(Phase, Connect)) || Phase <- [total, tcp, init, tls]])).

count(#{count := Count, buckets := Buckets}) ->
    {25, Count} = {length(Buckets), lists:sum(Buckets)},
    Count.

%% How many took longer.
above(Us, #{buckets := Buckets}, Bounds) ->
    lists:sum([N || {N, Bound} <- lists:zip(tl(Buckets), Bounds), Bound >= Us]).

connects(Config) ->
    Server = sockpool_test_server:start(),
    #{port := Port} = sockpool_test_server:target(Server),
    Pool = ?config(pool, Config),
    ok = sockpool:start_pool(Pool, #{host => "localhost", port => Port, size => 2}),
    _ = settled(Pool),
    {ok, #{connect := #{resolve := Resolve, total := #{sum := Total}, tcp := #{sum := Tcp}}}} = sockpool:histograms(Pool),
    ?assertEqual(2, count(Resolve)),
    ?assert(Total >= Tcp).

of_no_pool(Config) ->
    ?assertEqual({error, not_found}, sockpool:histograms(?config(pool, Config))),
    ?assertEqual({error, {bad_argument, pool, "x"}}, sockpool:histograms("x")).

%%% All of it.

%% A thousand resizes while others use the pool, some of them are killed, and the server goes and comes back: each that was opened is
%% up or closed for one reason, each attempt has one end, and each histogram has as many as its counter.
storm(Config) ->
    {Pool, Server} = started(Config, #{size => 5, max_overflow => 5, backoff => {1, 5}, max_lifetime => 200, max_uses => 50,
                                       overflow_ttl => 0}),
    _ = rand:seed(exsss, sockpool_test_util:seed()),
    Users = [start(fun() -> use(Pool, 0) end) || _ <- lists:seq(1, 30)],
    Killed = lists:sublist(Users, 10),
    [begin
         ok = sockpool:resize(Pool, rand:uniform(20), rand:uniform(10) - 1),
         _ = N rem 100 =:= 0 andalso exit(element(1, lists:nth(N div 100, Killed)), kill),
         _ = N rem 250 =:= 0 andalso sockpool_test_server:down(Server),
         _ = N rem 250 =:= 50 andalso N > 250 andalso sockpool_test_server:up(Server)
     end || N <- lists:seq(1, 1000)],
    ok = sockpool_test_server:up(Server),
    Rest = Users -- Killed,
    [Pid ! stop || {Pid, _, _} <- Rest],
    ?assert(lists:all(fun(Count) -> Count > 0 end, [await(Job) || Job <- Rest])),
    ok = sockpool:update(Pool, #{size => 4, max_overflow => 0, max_lifetime => infinity, max_uses => infinity}),
    [begin {ok, Conn} = sockpool:checkout(Pool, 60000), _ = sockpool:discard(Conn) end || _ <- lists:seq(1, 30)],
    wait_until(fun() -> stat(Pool, total) =:= 4 end),
    #{checkouts := Checkouts, checkins := Checkins, abandoned := Abandoned, created := Created, closed := Closed, reused := Reused,
      closed_by := #{resize := Resized}} = adds_up(Pool),
    ?assertEqual(Checkouts, Checkins + Abandoned),
    ?assert(Resized > 10),
    {ok, #{use := Use, wait := Wait, idle := Idle, age := Age, connect := #{total := Total}}} = sockpool:histograms(Pool),
    ?assertEqual([Checkins, Checkouts, Reused, Closed, Created], [count(Times) || Times <- [Use, Wait, Idle, Age, Total]]).

use(Pool, Count) ->
    receive
        stop when Count > 0 -> Count
    after 0 ->
        case sockpool:request(Pool, "hello", 5, 30000) of
            {ok, <<"hello">>} -> use(Pool, Count + 1);
            {error, _} -> use(Pool, Count)
        end
    end.
