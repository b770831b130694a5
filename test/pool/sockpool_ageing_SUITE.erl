%%% Connections that are too old, or that nobody needs, wherever the pool is: sockets, workers, nodes, here, on another node
%%% and in the daemon. What is decided when is tested in C, by a clock of its own (test/c/core/pool/test_sp_age.c).
-module(sockpool_ageing_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_group/2, end_per_group/2, init_per_testcase/2,
         end_per_testcase/2]).
-export([replaced_in_use/1, between/1, no_lease_is_cut/1, used_so_often/1, down_to_min_size/1, a_fifo_shrinks/1, refused/1,
         stopped/1, requests_under_way/1]).

-import(sockpool_test_util, [wait_until/1, settled/1, stats/1, stat/2, start/1, await/1]).

-define(WAIT_MS, 60000).

suite() -> [{timetrap, {minutes, 3}}].

all() -> [{group, Group} || Group <- [tcp, unix, tls, worker, node, there, c_tcp, c_unix, c_tls, c_node]].

groups() ->
    Cases = [replaced_in_use, between, no_lease_is_cut, used_so_often, down_to_min_size, a_fifo_shrinks, refused, stopped],
    OfStreams = [requests_under_way | Cases],
    [{tcp, [parallel], OfStreams}, {unix, [parallel], OfStreams}, {tls, [parallel], OfStreams}, {worker, [parallel], Cases},
     {node, [parallel], Cases}, {there, [parallel], OfStreams}, {c_tcp, [parallel], OfStreams}, {c_unix, [parallel], OfStreams},
     {c_tls, [parallel], OfStreams}, {c_node, [parallel], Cases}].

init_per_suite(Config) ->
    ok = sockpool_cluster:be_a_node(),
    sockpool_tls_kit:start(Config).

end_per_suite(Config) -> sockpool_tls_kit:stop(Config).

init_per_group(there, Config) -> [{serving, sockpool_cluster:start_peer()} | to(tcp, Config)];
init_per_group(c_tcp, Config) -> on_a_daemon(tcp, Config);
init_per_group(c_unix, Config) -> on_a_daemon(unix, Config);
init_per_group(c_tls, Config) -> on_a_daemon(tls, Config);
init_per_group(c_node, Config) -> on_a_daemon(node, Config);
init_per_group(Transport, Config) -> to(Transport, Config).

on_a_daemon(Transport, Config) ->
    sockpool_c_daemon:if_built(fun() -> [{serving, sockpool_c_daemon:start()} | to(Transport, Config)] end).

%% A server that lasts as long as the group.
to(node, Config) ->
    #{node := Node} = Peer = sockpool_cluster:start_plain_peer(),
    [{peer, Peer}, {target, #{transport => node, node => Node, cookie => erlang:get_cookie()}} | Config];
to(worker, Config) ->
    [{target, #{transport => worker, worker => {sockpool_test_worker, #{}}}} | Config];
to(Transport, Config) ->
    Self = self(),
    Server = spawn(fun() -> listen(Self, Transport, Config) end),
    receive {Server, Target} -> [{echo, Server}, {target, Target} | Config] end.

end_per_group(Group, Config) ->
    _ = [exit(Server, kill) || {echo, Server} <- Config],
    _ = [ok = sockpool_cluster:stop_peer(Peer) || {peer, Peer} <- Config],
    case ?config(serving, Config) of
        undefined -> ok;
        Peer when Group =:= there -> sockpool_cluster:stop_peer(Peer);
        Daemon -> 0 = sockpool_c_daemon:stop(Daemon)
    end.

init_per_testcase(Case, Config) ->
    Name = list_to_atom(lists:concat([proplists:get_value(name, ?config(tc_group_properties, Config)), "_", Case])),
    case ?config(serving, Config) of
        undefined -> [{pool, Name} | Config];
        #{node := Node} -> [{pool, {Name, Node}} | Config]
    end.

end_per_testcase(_Case, Config) ->
    _ = sockpool:stop_pool(?config(pool, Config)),
    ok.

listen(Parent, tls, Config) ->
    {ok, Listener} = ssl:listen(0, [binary, {active, false}, {packet, raw}, {backlog, 128} | sockpool_tls_kit:identity(Config, "server")]),
    {ok, {_, Port}} = ssl:sockname(Listener),
    Parent ! {self(), #{host => "localhost", port => Port, transport => tls, tls => #{cacertfile => sockpool_tls_kit:pem(Config, "ca")}}},
    accept(fun() -> {ok, Socket} = ssl:transport_accept(Listener), Socket end, ssl);
listen(Parent, tcp, _Config) ->
    {ok, Listener} = gen_tcp:listen(0, [binary, {ip, {127, 0, 0, 1}}, {active, false}, {backlog, 128}, {nodelay, true}]),
    {ok, Port} = inet:port(Listener),
    Parent ! {self(), #{host => {127, 0, 0, 1}, port => Port}},
    accept(fun() -> {ok, Socket} = gen_tcp:accept(Listener), Socket end, gen_tcp);
listen(Parent, unix, _Config) ->
    Path = sockpool_test_util:unix_path(),
    {ok, Listener} = gen_tcp:listen(0, [binary, {ifaddr, {local, Path}}, {active, false}, {backlog, 128}]),
    Parent ! {self(), #{transport => unix, path => Path}},
    accept(fun() -> {ok, Socket} = gen_tcp:accept(Listener), Socket end, gen_tcp).

accept(Accept, Module) ->
    Socket = Accept(),
    Pid = spawn_link(fun() -> receive go -> serve(Module, Socket) end end),
    ok = Module:controlling_process(Socket, Pid),
    Pid ! go,
    accept(Accept, Module).

%% A connection may be closed before its handshake is done.
serve(ssl, Accepted) ->
    case ssl:handshake(Accepted) of
        {ok, Socket} -> echo(ssl, Socket);
        {error, _} -> ok
    end;
serve(gen_tcp, Socket) ->
    echo(gen_tcp, Socket).

echo(Module, Socket) ->
    case Module:recv(Socket, 0) of
        {ok, Bytes} -> _ = Module:send(Socket, Bytes), echo(Module, Socket);
        {error, _} -> ok
    end.

started(Config, Opts) ->
    Pool = ?config(pool, Config),
    ok = sockpool:start_pool(Pool, maps:merge(?config(target, Config), Opts)),
    _ = settled(Pool),
    Pool.

taken(Pool) ->
    {ok, Conn} = sockpool:checkout(Pool, ?WAIT_MS),
    Conn.

use(Pool) ->
    Conn = taken(Pool),
    ok = works(Conn),
    ok = sockpool:checkin(Conn).

works(Conn) ->
    case sockpool:info(Conn) of
        {ok, #{transport := worker}} ->
            {echo, hello} = gen_server:call(sockpool:worker(Conn), hello),
            ok;
        {ok, #{transport := node}} ->
            {ok, 3} = sockpool:call(Conn, erlang, '+', [1, 2], ?WAIT_MS),
            ok;
        {ok, _} ->
            ok = sockpool:send(Conn, "hello", ?WAIT_MS),
            {ok, <<"hello">>} = sockpool:recv(Conn, 5, ?WAIT_MS),
            ok
    end.

%% While others use the pool.
use_until(Pool, Condition) ->
    Users = [start(fun() -> use_on(Pool) end) || _ <- lists:seq(1, 3)],
    ok = wait_until(Condition),
    _ = [Pid ! stop || {Pid, _, _} <- Users],
    lists:foreach(fun(User) -> ok = await(User) end, Users).

use_on(Pool) ->
    ok = use(Pool),
    receive stop -> ok after 1 -> use_on(Pool) end.

%%% Cases.

replaced_in_use(Config) -> replaced(started(Config, #{size => 4, max_overflow => 1, max_lifetime => 400})).

between(Config) -> replaced(started(Config, #{size => 4, max_overflow => 0, max_lifetime => {200, 400}})).

%% Each of the first ones is gone, and of those after them.
replaced(Pool) ->
    ok = use_until(Pool, fun() -> stat(Pool, closed) >= 12 orelse stats(Pool) end),
    #{created := Created, closed := Closed, abandoned := 0, timeouts := 0, connect_failures := 0} = Stats = settled(Pool),
    ?assert(Created - Closed >= 3, Stats),
    ?assert(Created - Closed =< 5, Stats).

no_lease_is_cut(Config) ->
    Pool = started(Config, #{size => 2, max_overflow => 1, max_lifetime => 200}),
    Conn = taken(Pool),
    ok = wait_until(fun() -> stat(Pool, closed) >= 4 orelse stats(Pool) end),
    ok = works(Conn),
    ok = sockpool:checkin(Conn),
    ok = use(Pool).

%% One after the other: each of ten connections has five uses. (With an overflow who comes between two may have one more made.)
used_so_often(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 0, max_uses => 5}),
    ok = lists:foreach(fun(_) -> ok = use(Pool) end, lists:seq(1, 50)),
    ok = wait_until(fun() -> stat(Pool, closed) =:= 10 orelse stats(Pool) end),
    #{checkouts := 50, reused := 40, idle := 1, total := 1} = settled(Pool).

down_to_min_size(Config) ->
    Pool = started(Config, #{size => 4, min_size => 1, idle_timeout => 300}),
    4 = stat(Pool, total),
    ok = wait_until(fun() -> stat(Pool, total) =:= 1 orelse stats(Pool) end),
    ok = use(Pool),
    %% Those that are needed come again.
    Conns = [taken(Pool) || _ <- lists:seq(1, 3)],
    ok = lists:foreach(fun sockpool:checkin/1, Conns),
    ok = wait_until(fun() -> stat(Pool, total) =:= 1 orelse stats(Pool) end),
    {ok, #{size := 4, created := Created, closed := Closed, total := 1, leased := 0}} = sockpool:stats(Pool),
    ?assertEqual(1, Created - Closed).

%% Though each is used all the time.
a_fifo_shrinks(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 5, strategy => fifo, overflow_ttl => 1000}),
    Conns = [taken(Pool) || _ <- lists:seq(1, 6)],
    ok = lists:foreach(fun sockpool:checkin/1, Conns),
    6 = stat(Pool, total),
    User = start(fun() -> use_on(Pool) end),
    ok = wait_until(fun() -> stat(Pool, total) =:= 1 orelse stats(Pool) end),
    {Pid, _, _} = User,
    Pid ! stop,
    ok = await(User).

refused(Config) ->
    Pool = ?config(pool, Config),
    lists:foreach(fun({Key, Value}) ->
                          Opts = maps:merge(?config(target, Config), #{size => 4, Key => Value}),
                          ?assertMatch({error, {bad_option, Key, _}}, sockpool:start_pool(Pool, Opts))
                  end, [{min_size, 5}, {min_size, -1}, {idle_timeout, 0}, {max_lifetime, 0}, {max_lifetime, {2, 1}}, {max_uses, 0}]).

%% In the middle of it.
stopped(Config) ->
    Pool = started(Config, #{size => 4, max_overflow => 4, max_lifetime => 50}),
    ok = wait_until(fun() -> stat(Pool, closed) >= 4 orelse stats(Pool) end),
    ok = sockpool:stop_pool(Pool),
    ?assertEqual({error, not_found}, sockpool:stats(Pool)).

%% Many on a connection, which is never free of them.
requests_under_way(Config) ->
    Pool = started(Config, #{size => 1, max_overflow => 1, pipeline => 8, packet => 4, max_lifetime => 300, max_uses => 100000}),
    Users = [start(fun() -> request_on(Pool) end) || _ <- lists:seq(1, 4)],
    ok = wait_until(fun() -> stat(Pool, closed) >= 5 orelse stats(Pool) end),
    _ = [Pid ! stop || {Pid, _, _} <- Users],
    lists:foreach(fun(User) -> ok = await(User) end, Users),
    #{timeouts := 0, abandoned := 0} = settled(Pool).

request_on(Pool) ->
    {ok, <<"hello">>} = sockpool:request(Pool, "hello", packet, ?WAIT_MS),
    receive stop -> ok after 0 -> request_on(Pool) end.
