%%% Making connections: targets of every kind, the init fun, its failures, back-off.
-module(sockpool_connect_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([log/2]).
-export([first_host_dead/1, every_host_dead/1, hosts_are_taken_in_turn/1, host_names/1,
         unknown_host/1, ipv6/1, unix_socket/1, missing_unix_socket/1, bind_address/1,
         bad_bind_address/1, socket_options/1]).
-export([init_does_a_handshake/1, init_sees_the_pools_packet/1, init_error/1, init_crash/1,
         init_crash_tells_no_arguments/1, init_reason_is_bounded/1, init_with_somebody_who_crashes/1,
         init_bad_return/1, init_hangs/1, init_cannot_end_its_lease/1, init_leaves_bytes_unread/1,
         init_dies_with_its_connection/1, init_keeps_the_handle/1]).
-export([backs_off/1, attempts_are_one_at_a_time_while_down/1, dirty_from_the_start/1,
         closed_from_the_start/1]).

-import(sockpool_test_util, [wait_until/1, settled/1, stat/2, stats/1, start/1, await/1,
                             elapsed_ms/1]).

%% Those alone look at all that is logged.
all() ->
    [{group, side_by_side},
     init_crash_tells_no_arguments, init_reason_is_bounded, init_with_somebody_who_crashes].

groups() -> [{side_by_side, [parallel], cases()}].

cases() ->
    [first_host_dead, every_host_dead, hosts_are_taken_in_turn, host_names, unknown_host, ipv6,
     unix_socket, missing_unix_socket, bind_address, bad_bind_address, socket_options,
     init_does_a_handshake, init_sees_the_pools_packet, init_error, init_crash,
     init_bad_return, init_hangs, init_cannot_end_its_lease, init_leaves_bytes_unread,
     init_dies_with_its_connection, init_keeps_the_handle, backs_off,
     attempts_are_one_at_a_time_while_down, dirty_from_the_start, closed_from_the_start].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(sockpool),
    Config.

end_per_suite(_Config) ->
    application:stop(sockpool).

init_per_testcase(Case, Config) -> [{pool, Case} | Config].

end_per_testcase(Case, _Config) ->
    Prefix = atom_to_list(Case) ++ "_",
    lists:foreach(fun sockpool:stop_pool/1,
                  [Pool || Pool <- sockpool_test_util:pools(), lists:prefix(Prefix, atom_to_list(Pool))]).

%%% Targets.

first_host_dead(Config) ->
    Server = sockpool_test_server:start(),
    Options = #{host => [{127, 0, 0, 9}, {127, 0, 0, 8}, {127, 0, 0, 1}],
                port => sockpool_test_server:port(Server), size => 3, max_overflow => 0},
    Pool = pool(Config, Options),
    ?assertMatch(#{total := 3, connect_attempts := 3, connect_failures := 0}, settled(Pool)),
    {ok, Conn} = sockpool:checkout(Pool),
    ?assertMatch({ok, {{127, 0, 0, 1}, _}}, sockpool:peername(Conn)),
    ok = sockpool:checkin(Conn).

every_host_dead(Config) ->
    Server = sockpool_test_server:start(echo, #{listen => false}),
    Pool = pool(Config, #{host => [{127, 0, 0, 9}, "127.0.0.1"],
                          port => sockpool_test_server:port(Server)}),
    ?assertEqual({unavailable, econnrefused}, refused(Pool)).

%% What a waiter is told, once an attempt has failed.
refused(Pool) ->
    wait_until(fun() -> stat(Pool, connect_failures) > 0 end),
    {error, Reason} = sockpool:checkout(Pool, 100),
    Reason.

hosts_are_taken_in_turn(Config) ->
    One = sockpool_test_server:start(),
    Port = sockpool_test_server:port(One),
    case gen_tcp:listen(Port, [{ip, {127, 0, 0, 2}}, {reuseaddr, true}]) of
        {ok, Two} ->
            Pool = pool(Config, #{host => [{127, 0, 0, 1}, {127, 0, 0, 2}], port => Port,
                                  size => 10}),
            _ = settled(Pool),
            wait_until(fun() -> sockpool_test_server:accepted(One) =:= 5 end),
            ok = gen_tcp:close(Two);
        {error, eaddrnotavail} ->
            {skip, "only one loopback address here"}
    end.

host_names(Config) ->
    Server = sockpool_test_server:start(),
    Port = sockpool_test_server:port(Server),
    lists:foreach(fun(Host) ->
                          Pool = pool(Config, #{host => Host, port => Port, size => 1}),
                          {ok, Conn} = sockpool:checkout(Pool),
                          ?assertEqual({ok, {{127, 0, 0, 1}, Port}}, sockpool:peername(Conn)),
                          ok = sockpool:stop_pool(Pool)
                  end,
                  ["localhost", <<"localhost">>, localhost, "127.0.0.1", ["localhost"],
                   ["no.such..host", "localhost"]]).

unknown_host(Config) ->
    Pool = pool(Config, #{host => "no.such..host", port => 1}),
    {unavailable, Reason} = refused(Pool),
    ?assert(lists:member(Reason, [nxdomain, einval])).

ipv6(Config) ->
    Loopback = {0, 0, 0, 0, 0, 0, 0, 1},
    case gen_tcp:listen(0, [inet6, {ip, Loopback}]) of
        {ok, Probe} ->
            ok = gen_tcp:close(Probe),
            Server = sockpool_test_server:start(echo, #{ip => Loopback}),
            Pool = pool(Config, (sockpool_test_server:target(Server))#{bind => Loopback}),
            {ok, Conn} = sockpool:checkout(Pool),
            Port = sockpool_test_server:port(Server),
            ?assertEqual({ok, {Loopback, Port}}, sockpool:peername(Conn)),
            ?assertMatch({ok, {Loopback, _}}, sockpool:sockname(Conn)),
            ok = sockpool:checkin(Conn),
            ?assertEqual({ok, <<"six">>}, sockpool:request(Pool, "six", 3, 5000));
        {error, Reason} ->
            {skip, {no_ipv6_here, Reason}}
    end.

unix_socket(Config) ->
    Path = sockpool_test_util:unix_path(),
    Server = sockpool_test_server:start(echo, #{path => Path}),
    lists:foreach(fun(Given) ->
                          Pool = pool(Config, #{transport => unix, path => Given, size => 2}),
                          ?assertEqual({ok, <<"unix">>},
                                       sockpool:request(Pool, "unix", 4, 5000)),
                          ok = sockpool:stop_pool(Pool)
                  end, [Path, list_to_binary(Path)]),
    ok = sockpool_test_server:stop(Server).

missing_unix_socket(Config) ->
    Path = sockpool_test_util:unix_path(),
    Pool = pool(Config, #{transport => unix, path => Path, size => 1, backoff => {1, 10}}),
    ?assertEqual({unavailable, enoent}, refused(Pool)),
    _ = sockpool_test_server:start(echo, #{path => Path}),
    ?assertEqual({ok, <<"up">>}, sockpool:request(Pool, "up", 2, 5000)).

bind_address(Config) ->
    Server = sockpool_test_server:start(),
    Pool = pool(Config, (sockpool_test_server:target(Server))#{bind => {127, 0, 0, 7}, size => 1}),
    case sockpool:checkout(Pool, 5000) of
        {ok, Conn} ->
            ?assertMatch({ok, {{127, 0, 0, 7}, _}}, sockpool:sockname(Conn)),
            ok = sockpool:checkin(Conn);
        {error, {unavailable, eaddrnotavail}} ->
            {skip, "only one loopback address here"}
    end.

bad_bind_address(Config) ->
    Server = sockpool_test_server:start(),
    Target = sockpool_test_server:target(Server),
    Pool = pool(Config, Target#{bind => {192, 0, 2, 1}}),
    ?assertEqual({unavailable, eaddrnotavail}, refused(Pool)).

socket_options(Config) ->
    Server = sockpool_test_server:start(),
    Target = sockpool_test_server:target(Server),
    Pool = pool(Config, Target#{nodelay => false, keepalive => #{idle => 60, interval => 5, count => 3}, user_timeout => 30000, sndbuf => 8192,
                                recbuf => 8192}),
    Data = rand:bytes(300000),
    ?assertEqual({ok, Data}, sockpool:request(Pool, Data, byte_size(Data), 10000)),
    ?assertMatch(#{connect_failures := 0, closed := 0}, settled(Pool)).

%%% The init fun.

init_does_a_handshake(Config) ->
    Login = {script, fun(Socket) ->
                             {ok, <<"user me\n">>} = gen_tcp:recv(Socket, 8),
                             ok = gen_tcp:send(Socket, "welcome\n"),
                             echo(Socket)
                     end},
    Init = fun(Conn) ->
                   ok = sockpool:send(Conn, "user me\n"),
                   {ok, <<"welcome\n">>} = sockpool:recv(Conn, 8, 2000),
                   ok
           end,
    Pool = pool(Config, Login, #{init => Init, size => 3}),
    ?assertMatch(#{total := 3, created := 3, checkouts := 0}, settled(Pool)),
    ?assertEqual({ok, <<"data">>}, sockpool:request(Pool, "data", 4, 5000)).

echo(Socket) ->
    case gen_tcp:recv(Socket, 0) of
        {ok, Data} ->
            ok = gen_tcp:send(Socket, Data),
            echo(Socket);
        {error, closed} ->
            ok
    end.

init_sees_the_pools_packet(Config) ->
    Init = fun(Conn) ->
                   {ok, #{packet := line, transport := tcp, pool := _}} = sockpool:info(Conn),
                   ok = sockpool:setopts(Conn, [{packet, 2}]),
                   ok = sockpool:send(Conn, "hello"),
                   {ok, <<"hello">>} = sockpool:recv(Conn, 0),
                   {ok, _} = sockpool:peername(Conn),
                   ok
           end,
    Pool = pool(Config, echo, #{init => Init, size => 1, packet => line}),
    {ok, Conn} = sockpool:checkout(Pool),
    ?assertMatch({ok, #{packet := line}}, sockpool:info(Conn)),
    ok = sockpool:checkin(Conn).

init_error(Config) ->
    Pool = pool(Config, echo, #{init => fun(_) -> {error, wrong_password} end}),
    ?assertEqual({unavailable, {init, wrong_password}}, refused(Pool)),
    gives_capacity_back(Pool).

init_crash(Config) ->
    Pool = pool(Config, echo, #{init => fun(_) -> error(crashed) end}),
    ?assertMatch({unavailable, {init, {error, crashed, [_ | _]}}}, refused(Pool)),
    gives_capacity_back(Pool),
    Killed = fun(_) -> exit(self(), kill) end,
    Exit = pool(Config, echo, #{init => Killed}),
    ?assertEqual({unavailable, killed}, refused(Exit)),
    gives_capacity_back(Exit).

%% Neither callers nor the log are told with what it was called.
init_crash_tells_no_arguments(Config) ->
    Init = fun(Conn) -> no_such_module:login(Conn, "hunter2") end,
    {Reason, Logged} = reason_and_log(Config, Init),
    ?assertMatch({init, {error, undef, [{no_such_module, login, 2, _} | _]}}, Reason),
    ?assertEqual(nomatch, string:find(io_lib:format("~p", [Reason]), "hunter2")),
    ?assertNotEqual(nomatch, string:find(Logged, "no_such_module")),
    ?assertEqual(nomatch, string:find(Logged, "hunter2")).

%% Each caller gets a copy of it.
init_reason_is_bounded(Config) ->
    Much = {lists:seq(1, 100000), binary:copy(<<"x">>, 1000000)},
    [begin
         {{init, _} = Reason, Logged} = reason_and_log(Config, Init),
         ?assert(erlang:external_size(Reason) < 20000),
         ?assert(length(Logged) < 2000)
     end || Init <- [fun(_) -> {error, Much} end, fun(_) -> Much end, fun(_) -> error(Much) end,
                     fun(_) -> throw(Much) end, fun(_) -> exit(Much) end]].

%% The connector dies of it.
init_with_somebody_who_crashes(Config) ->
    Much = lists:seq(1, 100000),
    Init = fun(_) ->
                   _ = spawn_link(fun() -> exit({Much, [{m, login, ["hunter2"], []}]}) end),
                   receive after infinity -> ok end
           end,
    {Reason, Logged} = reason_and_log(Config, Init),
    ?assertMatch([{m, login, 1, []}], element(2, Reason)),
    ?assert(erlang:external_size(Reason) < 20000),
    ?assertEqual(nomatch, string:find(Logged, "hunter2")),
    ?assert(length(Logged) < 2000).

%% What callers are told, and what the log says, of a pool with that init fun.
reason_and_log(Config, Init) ->
    ok = sockpool_test_log:hear(?MODULE, ?MODULE, #{config => self()}),
    try
        Pool = pool(Config, echo, #{init => Init, size => 1, max_overflow => 0}),
        Reason = sockpool_test_util:unavailable(Pool),
        ok = sockpool:stop_pool(Pool),
        receive {log, Logged} -> {Reason, Logged} end
    after
        ok = sockpool_test_log:forget(?MODULE)
    end.

%% As a handler of logger.
log(Event, #{config := Pid}) ->
    case sockpool_test_log:line(Event) of
        {ok, Line} -> Pid ! {log, Line};
        none -> ok
    end.

init_bad_return(Config) ->
    Pool = pool(Config, echo, #{init => fun(_) -> okay end}),
    ?assertEqual({unavailable, {init, {bad_return, okay}}}, refused(Pool)),
    gives_capacity_back(Pool).

%% The fun says who it is and then waits for ever: connect_timeout ends it.
init_hangs(Config) ->
    Parent = self(),
    Hang = fun(_) ->
                   Parent ! {hanging, self()},
                   receive after infinity -> ok end
           end,
    Pool = pool(Config, echo, #{init => Hang, connect_timeout => 60, size => 1,
                                backoff => {1, 1}}),
    Hanging = receive {hanging, Pid} -> Pid end,
    Monitor = monitor(process, Hanging),
    receive {'DOWN', Monitor, process, Hanging, Why} -> true = lists:member(Why, [killed, noproc]) end,
    ?assertEqual({unavailable, timeout}, refused(Pool)).

init_cannot_end_its_lease(Config) ->
    Parent = self(),
    Init = fun(Conn) ->
                   Parent ! {tried, [sockpool:checkin(Conn), sockpool:discard(Conn),
                                     sockpool:give_away(Conn, Parent)]},
                   ok
           end,
    Pool = pool(Config, echo, #{init => Init, size => 1, max_overflow => 0}),
    Busy = {error, busy},
    ?assertEqual([Busy, Busy, Busy], receive {tried, Results} -> Results end),
    ?assertMatch(#{total := 1, checkins := 0, created := 1}, settled(Pool)),
    ?assertEqual({ok, <<"x">>}, sockpool:request(Pool, "x", 1, 5000)).

%% Such a connection is dirty, always: that is a failure, and backs off as one.
init_leaves_bytes_unread(Config) ->
    Greet = {script, fun(Socket) ->
                             ok = gen_tcp:send(Socket, "one\ntwo\n"),
                             gen_tcp:recv(Socket, 0)
                     end},
    Init = fun(Conn) ->
                   {ok, <<"one\n">>} = sockpool:recv(Conn, 0),
                   ok
           end,
    {Pool, Server} = pool_and_server(Config, Greet, #{init => Init, packet => line, size => 1,
                                                      max_overflow => 0, backoff => {100, 100}}),
    ?assertMatch({error, _}, sockpool:checkout(Pool, 1000)),
    assert_no_storm(Pool, Server, 60).

init_dies_with_its_connection(Config) ->
    Init = fun(Conn) -> {error, sockpool:recv(Conn, 1, 2000)} end,
    Pool = pool(Config, close, #{init => Init}),
    {unavailable, {init, {error, Reason}}} = refused(Pool),
    ?assert(lists:member(Reason, [closed, econnreset])),
    gives_capacity_back(Pool).

%% The connector's lease is over when the pool has the connection.
init_keeps_the_handle(Config) ->
    Parent = self(),
    Init = fun(Conn) -> Parent ! {kept, Conn}, ok end,
    Pool = pool(Config, echo, #{init => Init, size => 1, max_overflow => 0}),
    _ = settled(Pool),
    Kept = receive {kept, Conn} -> Conn end,
    ?assertEqual({error, not_owner}, sockpool:send(Kept, "x")),
    ?assertEqual({ok, <<"y">>}, sockpool:request(Pool, "y", 1, 5000)),
    ?assertEqual({error, not_owner}, sockpool:checkin(Kept)).

gives_capacity_back(Pool) ->
    wait_until(fun() ->
                       #{connect_failures := Failures, connecting := Connecting,
                         total := Total} = Stats = stats(Pool),
                       (Failures > 1 andalso Connecting =:= 0 andalso Total =:= 0) orelse Stats
               end),
    ok = sockpool:stop_pool(Pool).

%%% Back-off.

%% Full jitter: each pause is random from 0 to a bound that doubles up to the maximum.
backs_off(Config) ->
    Server = sockpool_test_server:start(echo, #{listen => false}),
    Target = sockpool_test_server:target(Server),
    Pool = pool(Config, Target#{size => 1, max_overflow => 0, backoff => {20, 100}}),
    {Ms, Result} = elapsed_ms(fun() -> sockpool:checkout(Pool, 2000) end),
    ?assertEqual({error, {unavailable, econnrefused}}, Result),
    #{connect_attempts := Attempts, connect_failures := Failures} = stats(Pool),
    ct:pal("~b attempts in ~b ms with a back-off of 20 to 100 ms", [Attempts, Ms]),
    %% 40 are expected; to see 150 the random pauses would have to be a quarter of their mean.
    ?assert(Attempts >= 5 andalso Attempts =< 150),
    ?assert(Attempts - Failures =< 1).

attempts_are_one_at_a_time_while_down(Config) ->
    Server = sockpool_test_server:start(echo, #{listen => false}),
    Target = sockpool_test_server:target(Server),
    Pool = pool(Config, Target#{size => 20, max_overflow => 80, backoff => {100, 100}}),
    Waiters = [start(fun() -> sockpool:request(Pool, "x", 1, 1000) end) || _ <- lists:seq(1, 200)],
    Refused = {error, {unavailable, econnrefused}},
    ?assertEqual([], [Other || W <- Waiters, Other <- [await(W)], Other =/= Refused]),
    #{connect_attempts := Attempts} = stats(Pool),
    ct:pal("~b attempts for 200 waiters in 1 s", [Attempts]),
    %% The first herd is at most what the pool may hold; after it there are 20 expected.
    ?assert(Attempts =< 100 + 80),
    ok = sockpool_test_server:up(Server),
    #{total := Total} = settled(Pool),
    ?assert(Total >= 20).

%% A server that speaks first to a pool that takes unread bytes for dirt: no connection is ever
%% clean, and each is a failure.
dirty_from_the_start(Config) ->
    unusable_from_the_start(Config, fun(Socket) -> gen_tcp:send(Socket, "220 hello\n") end).

%% A proxy whose backend is down: it accepts, and closes at once.
closed_from_the_start(Config) ->
    unusable_from_the_start(Config, fun(Socket) -> gen_tcp:shutdown(Socket, read_write) end).

%% The init fun returns when the server has done it, so that the pool finds it at once.
unusable_from_the_start(Config, Do) ->
    Done = counters:new(2, []),
    Script = {script, fun(Socket) ->
                              ok = Do(Socket),
                              counters:add(Done, 1, 1),
                              gen_tcp:recv(Socket, 0)
                      end},
    Init = fun(_) ->
                   counters:add(Done, 2, 1),
                   wait_until(fun() -> counters:get(Done, 1) >= counters:get(Done, 2) end)
           end,
    Server = sockpool_test_server:start(Script, #{path => sockpool_test_util:unix_path()}),
    Target = sockpool_test_server:target(Server),
    Pool = pool(Config, Target#{size => 1, max_overflow => 0, backoff => {100, 100},
                                init => Init}),
    ?assertMatch({error, _}, sockpool:request(Pool, "x", 1, 1000)),
    assert_no_storm(Pool, Server, 60).

%% About a second has gone by, of which each attempt should have cost 50 ms of pause on average.
assert_no_storm(Pool, Server, Most) ->
    #{connect_attempts := Attempts} = stats(Pool),
    Accepted = sockpool_test_server:accepted(Server),
    ct:pal("~b attempts, ~b connections accepted", [Attempts, Accepted]),
    ?assert(Attempts =< Most),
    ok = sockpool:stop_pool(Pool).

%%% Helpers.

pool(Config, Behaviour, Options) ->
    element(1, pool_and_server(Config, Behaviour, Options)).

pool_and_server(Config, Behaviour, Options) ->
    Server = sockpool_test_server:start(Behaviour),
    {pool(Config, maps:merge(sockpool_test_server:target(Server), Options)), Server}.

%% A pool's counters go on over its restarts, so each pool has a name of its own.
pool(Config, Options) ->
    Name = io_lib:format("~s_~b", [?config(pool, Config), erlang:unique_integer([positive])]),
    Pool = list_to_atom(lists:flatten(Name)),
    ok = sockpool:start_pool(Pool, Options),
    Pool.
