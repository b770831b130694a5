%%% What the suites of pools of other nodes share: a node that serves, another one, and pools on the
%%% first. After each case its server must hold nothing any more.
-module(sockpool_remote_kit).

-include_lib("common_test/include/ct.hrl").

-export([init_suite/1, end_suite/1, init_case/2, end_case/1]).
-export([target/1, started/2, wait_and_use/2, dead/0]).

init_suite(Config) ->
    ok = sockpool_cluster:be_a_node(),
    {ok, _} = application:ensure_all_started(sockpool),
    [{serving, sockpool_cluster:start_peer()}, {other, sockpool_cluster:start_plain_peer()} | Config].

end_suite(Config) ->
    sockpool_cluster:stop_peer(?config(serving, Config)),
    sockpool_cluster:stop_peer(?config(other, Config)),
    application:stop(sockpool).

init_case(Case, Config) ->
    #{node := Node} = ?config(serving, Config),
    #{node := Other} = ?config(other, Config),
    [{pool, {Case, Node}}, {node, Node}, {other_node, Other},
     {server, sockpool_test_server:start()} | Config].

end_case(Config) ->
    Node = ?config(node, Config),
    ok = sockpool_test_util:wait_until(fun() -> sockpool_cluster:holds_nothing(Node) end),
    {ok, Names} = sockpool:which_pools(Node),
    lists:foreach(fun(Name) -> ok = sockpool:stop_pool({Name, Node}) end, Names),
    lists:foreach(fun sockpool:stop_pool/1, sockpool:which_pools()).

target(Config) -> sockpool_test_server:target(?config(server, Config)).

%% On the serving node, with all its connections up.
started(Config, Opts) ->
    Pool = ?config(pool, Config),
    ok = sockpool:start_pool(Pool, maps:merge(target(Config), Opts)),
    _ = sockpool_test_util:settled(Pool),
    Pool.

wait_and_use(Pool, Data) ->
    {ok, Conn} = sockpool:checkout(Pool, infinity),
    ok = sockpool:send(Conn, Data),
    {ok, Data} = sockpool:recv(Conn, 1),
    sockpool:checkin(Conn).

dead() ->
    {Pid, Monitor} = spawn_monitor(fun() -> ok end),
    receive {'DOWN', Monitor, process, Pid, _} -> Pid end.
