%%% What sockpool:explain/1 says in incidents, each of which happens here: with servers, owners and names that are as they
%%% are in one.
-module(sockpool_verdict_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([slow_server/1, silent_server/1, pool_too_small/1, leak/1, leak_unreported/1, dns/1, certificate_expired/1, host_down/1, overload/1,
         stopped/1, dead_owners/1, healthy/1, of_another_node/1, of_a_c_node/1, without_a_name/1, bad_pool/1]).

-import(sockpool_test_util, [wait_until/1, stat/2, settled/1]).

suite() -> [{timetrap, {minutes, 2}}].

all() -> [{group, all}].

%% Those that measure how long things take have the machine for themselves.
groups() ->
    [{all, [], [healthy, slow_server, pool_too_small, overload, {group, others}]},
     {others, [parallel], [silent_server, leak, leak_unreported, dns, certificate_expired, host_down, stopped, dead_owners, of_another_node, of_a_c_node,
                           without_a_name, bad_pool]}].

init_per_suite(Config) ->
    Started = sockpool_tls_kit:start(Config),
    ok = sockpool_cluster:be_a_node(),
    Started.

end_per_suite(Config) -> sockpool_tls_kit:stop(Config).

init_per_testcase(Case, Config) -> [{pool, list_to_atom(lists:concat(["verdict_", Case]))} | Config].

end_per_testcase(_Case, Config) ->
    _ = sockpool:stop_pool(?config(pool, Config)),
    ok.

%%% The incidents.

slow_server(Config) ->
    Pace = counters:new(1, []),
    counters:put(Pace, 1, 1),
    Server = sockpool_test_server:start({reply, fun(Data) -> {'after', counters:get(Pace, 1), Data} end}),
    Pool = started(Server, #{size => 4, max_overflow => 0}, Config),
    with_users(8, fun() -> asked(Pool, 10000) end, fun() ->
        wait_until(fun() -> stat(Pool, checkins) > 500 orelse stat(Pool, checkins) end),
        counters:put(Pace, 1, 400),
        wait_until(fun() -> stat(Pool, oldest_wait) > 100 end),
        says(any, slow_server, ["the server is slow", "a lease takes", "before", "4 of 4 connections are in use", "wait"], Pool, Config)
    end).

%% Of who waits for an answer the stack says so.
silent_server(Config) ->
    Pool = started(sockpool_test_server:start(silent), #{size => 2, max_overflow => 0, leak_threshold => 1000}, Config),
    with_users(4, fun() -> asked(Pool, 20000) end, fun() ->
        wait_until(fun() -> stat(Pool, leaked) >= 2 end),
        says(error, slow_server, ["does not answer", "2 of 2 connections are in use", "2 wait"], Pool, Config)
    end).

pool_too_small(Config) ->
    Server = sockpool_test_server:start({reply, fun(Data) -> {'after', 20, Data} end}),
    Pool = started(Server, #{size => 2, max_overflow => 1}, Config),
    with_users(12, fun() -> asked(Pool, 30000) end, fun() ->
        wait_until(fun() -> stat(Pool, checkins) > 200 orelse stat(Pool, checkins) end),
        says(warning, pool_too_small, ["the pool is too small", "3 of 3 connections are in use", "instead of 3"], Pool, Config)
    end).

leak(Config) ->
    Pool = started(sockpool_test_server:start(), #{size => 2, max_overflow => 1, leak_threshold => 1000}, Config),
    with_users(3, fun() -> {ok, _Conn} = sockpool:checkout(Pool, 20000), forever() end, fun() ->
        wait_until(fun() -> stat(Pool, leaked) =:= 3 end),
        with_users(1, fun() -> asked(Pool, 20000) end, fun() ->
            wait_until(fun() -> stat(Pool, oldest_wait) > 1000 end),
            says(error, leak, ["3 of 3 connections are leaked", "<", "1 wait"], Pool, Config)
        end)
    end).

leak_unreported(Config) ->
    Pool = started(sockpool_test_server:start(), #{size => 2, max_overflow => 0}, Config),
    with_users(2, fun() -> {ok, _Conn} = sockpool:checkout(Pool, 20000), forever() end, fun() ->
        with_users(1, fun() -> asked(Pool, 20000) end, fun() ->
            wait_until(fun() -> stat(Pool, oldest_wait) > 1000 end),
            says(error, leak, ["none of the 2 connections in use was given back", "leak_threshold"], Pool, Config)
        end)
    end).

dns(Config) ->
    Pool = started(#{host => "no-such-host.invalid", port => 6379}, #{size => 1}, Config),
    wait_until(fun() -> stat(Pool, connect_failures) > 0 end),
    says(error, dns, ["no-such-host.invalid:6379", "nxdomain", "no connection is up"], Pool, Config).

certificate_expired(Config) ->
    Server = sockpool_tls_peers:ssl_server(sockpool_tls_kit:identity(Config, "expired")),
    Pool = sockpool_tls_kit:pool(Config, Server, #{}),
    wait_until(fun() -> stat(Pool, connect_failures) > 0 end),
    says(error, certificate_expired, ["certificate has expired", "localhost"], Pool, Config).

host_down(Config) ->
    Server = sockpool_test_server:start(),
    Pool = started(Server, #{size => 2}, Config),
    _ = settled(Pool),
    with_users(3, fun() -> asked(Pool, 1000) end, fun() ->
        ok = sockpool_test_server:down(Server),
        wait_until(fun() -> stat(Pool, connect_failures) > 0 end),
        says(error, host_down, ["the server cannot be reached", "econnrefused", integer_to_list(sockpool_test_server:port(Server))], Pool, Config)
    end).

overload(Config) ->
    Server = sockpool_test_server:start({reply, fun(Data) -> {'after', 20, Data} end}),
    Pool = started(Server, #{size => 2, max_overflow => 0}, Config),
    with_users(60, fun() -> asked(Pool, 100) end, fun() ->
        wait_until(fun() -> stat(Pool, timeouts) > 60 orelse stat(Pool, timeouts) end),
        says(error, overload, ["overload", "turned away"], Pool, Config)
    end).

stopped(Config) ->
    Pool = started(sockpool_test_server:start(), #{size => 1}, Config),
    ok = sockpool:stop_pool(Pool),
    says(error, stopped, ["verdict_stopped", "no pool of that name"], Pool, Config).

%% Each takes a connection, uses it, and dies.
dead_owners(Config) ->
    Pool = started(sockpool_test_server:start(), #{size => 2, max_overflow => 0}, Config),
    Dies = fun() ->
               {Pid, Monitor} = spawn_monitor(fun() ->
                   {ok, Conn} = sockpool:checkout(Pool, 20000),
                   ok = sockpool:send(Conn, "x"),
                   _ = sockpool:recv(Conn, 1, 100),
                   exit(shutdown)
               end),
               receive {'DOWN', Monitor, process, Pid, _} -> ok end
           end,
    with_users(20, Dies, fun() ->
        wait_until(fun() -> stat(Pool, abandoned) > 20 end),
        #{severity := Severity} = says(any, dead_owners, ["their owners died"], Pool, Config),
        ?assert(lists:member(Severity, [warning, error]))
    end).

%% As much as it can do, and nobody has to wait for long.
healthy(Config) ->
    Server = sockpool_test_server:start({reply, fun(Data) -> {'after', 5, Data} end}),
    Pool = started(Server, #{size => 10, max_overflow => 2}, Config),
    _ = settled(Pool),
    with_users(8, fun() -> asked(Pool, 10000) end, fun() ->
        wait_until(fun() -> stat(Pool, checkins) > 100 end),
        {ok, Before} = sockpool_verdict:snapshot(Pool),
        [begin
             receive after 300 -> ok end,
             {ok, Now} = sockpool_verdict:snapshot(Pool),
             ?assertEqual([], sockpool_verdict:findings(Before, Now))
         end || _ <- lists:seq(1, 5)],
        says(ok, healthy, ["all well", "leases a second"], Pool, Config)
    end).

%%% Where it can be asked.

of_another_node(Config) ->
    #{node := Node} = Peer = sockpool_cluster:start_peer(),
    Server = sockpool_test_server:start(),
    Pool = {?config(pool, Config), Node},
    ok = sockpool:start_pool(Pool, maps:merge(sockpool_test_server:target(Server), #{size => 1})),
    wait_until(fun() -> {ok, #{idle := Idle}} = sockpool:stats(Pool), Idle =:= 1 end),
    says(ok, healthy, ["verdict_of_another_node on", "all well"], Pool, Config),
    ok = sockpool_test_server:down(Server),
    says(error, host_down, ["verdict_of_another_node on", "econnrefused"], Pool, Config),
    ok = sockpool:stop_pool(Pool),
    says(error, stopped, ["verdict_of_another_node on"], Pool, Config),
    sockpool_cluster:stop_peer(Peer),
    ?assertMatch({error, {nodedown, Node}}, sockpool:explain(Pool)).

of_a_c_node(Config) ->
    sockpool_c_daemon:if_built(fun() ->
        #{node := Node} = Daemon = sockpool_c_daemon:start(),
        Pool = {?config(pool, Config), Node},
        Server = sockpool_test_server:start(),
        ok = sockpool:start_pool(Pool, maps:merge(sockpool_test_server:target(Server), #{size => 1})),
        wait_until(fun() -> {ok, #{idle := Idle}} = sockpool:stats(Pool), Idle =:= 1 end),
        says(ok, healthy, ["all well"], Pool, Config),
        ok = sockpool_test_server:down(Server),
        says(error, host_down, ["econnrefused"], Pool, Config),
        ?assertEqual(0, sockpool_c_daemon:stop(Daemon))
    end).

without_a_name(Config) ->
    Server = sockpool_test_server:start(),
    {ok, Pool} = sockpool:start_pool(maps:merge(sockpool_test_server:target(Server), #{size => 1})),
    _ = settled(Pool),
    says(ok, healthy, ["a pool without a name"], Pool, Config),
    ok = sockpool:stop_pool(Pool).

bad_pool(_Config) ->
    ?assertEqual({error, {bad_argument, pool, "cache"}}, sockpool:explain("cache")).

%%% Helpers.

started(#{pid := _} = Server, Opts, Config) ->
    started(sockpool_test_server:target(Server), Opts, Config);
started(Target, Opts, Config) ->
    Pool = ?config(pool, Config),
    ok = sockpool:start_pool(Pool, maps:merge(Target, Opts)),
    Pool.

asked(Pool, TimeoutMs) -> sockpool:request(Pool, <<"x">>, 1, TimeoutMs).

forever() -> receive after infinity -> ok end.

%% So many processes run the fun again and again, while the second one runs.
with_users(Count, Use, Fun) ->
    Users = [spawn_link(fun() -> again(Use) end) || _ <- lists:seq(1, Count)],
    Result = Fun(),
    [begin
         Monitor = monitor(process, User),
         true = unlink(User),
         true = exit(User, kill),
         receive {'DOWN', Monitor, process, _, _} -> ok end
     end || User <- Users],
    Result.

again(Use) ->
    _ = Use(),
    again(Use).

%% The worst one has that cause, and says that.
says(Severity, Cause, Parts, Pool, _Config) ->
    {ok, [#{severity := Its, text := Text} = Worst | _] = All} = sockpool:explain(Pool),
    ct:pal("~tp", [All]),
    ?assertEqual(Cause, maps:get(cause, Worst), All),
    ?assert(Severity =:= any orelse Severity =:= Its, All),
    [?assertNotEqual(nomatch, string:find(Text, Part), {Part, Text}) || Part <- Parts],
    Worst.
