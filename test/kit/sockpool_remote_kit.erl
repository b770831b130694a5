%%% What the suites of pools of other nodes share: a node that serves, another one, and pools on the
%%% first. After each case its server must hold nothing any more.
%%%
%%% There are two kinds of serving nodes, an Erlang node with sockpool and the C node. Suites have a group
%%% for each.
-module(sockpool_remote_kit).

-include_lib("common_test/include/ct.hrl").

-export([init_suite/1, end_suite/1, init_group/2, end_group/2, init_case/2, end_case/1]).
-export([target/1, started/2, wait_and_use/2, dead/0]).
-export([holds_nothing/1, server_identity/1, client_nodes/1, suspend/1, resume/1, await_calls/2]).

init_suite(Config) ->
    ok = sockpool_cluster:be_a_node(),
    {ok, _} = application:ensure_all_started(sockpool),
    [{other, sockpool_cluster:start_plain_peer()} | Config].

end_suite(Config) ->
    sockpool_cluster:stop_peer(?config(other, Config)),
    application:stop(sockpool).

init_group(erlang, Config) ->
    [{kind, erlang}, {serving, sockpool_cluster:start_peer()} | Config];
init_group(c, Config) ->
    sockpool_c_daemon:if_built(fun() -> [{kind, c}, {serving, sockpool_c_daemon:start()} | Config] end).

end_group(erlang, Config) ->
    sockpool_cluster:stop_peer(?config(serving, Config));
end_group(c, Config) ->
    0 = sockpool_c_daemon:stop(?config(serving, Config)).

init_case(Case, Config) ->
    #{node := Node} = ?config(serving, Config),
    #{node := Other} = ?config(other, Config),
    [{pool, {Case, Node}}, {node, Node}, {other_node, Other},
     {server, sockpool_test_server:start()} | Config].

end_case(Config) ->
    Node = ?config(node, Config),
    ok = sockpool_test_util:wait_until(fun() -> holds_nothing(Config) end),
    {ok, Names} = sockpool:which_pools(Node),
    lists:foreach(fun(Name) -> ok = sockpool:stop_pool({Name, Node}) end, Names),
    lists:foreach(fun sockpool:stop_pool/1, sockpool_test_util:pools()).

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

%%% The serving node.

%% Nobody has anything of it, or wants anything.
holds_nothing(Config) ->
    Node = ?config(node, Config),
    case ?config(kind, Config) of
        erlang -> sockpool_cluster:holds_nothing(Node);
        c -> nothing_leased(sockpool:node_stats(Node))
    end.

nothing_leased({ok, All}) ->
    case [Stats || #{leased := Leased, waiting := Waiting} = Stats <- All, Leased + Waiting > 0] of
        [] -> true;
        Left -> {left, Left}
    end.

%% Changes when its server is another one.
server_identity(Config) ->
    Node = ?config(node, Config),
    case ?config(kind, Config) of
        erlang -> erpc:call(Node, erlang, whereis, [sockpool]);
        c -> running(?config(serving, Config))
    end.

running(#{os_pid := OsPid}) ->
    {true, _} = {filelib:is_dir(lists:concat(["/proc/", OsPid])), OsPid}.

%% Where clients may run: also on the serving node, where that has processes.
client_nodes(Config) ->
    [node(), ?config(other_node, Config)] ++ [?config(node, Config) || ?config(kind, Config) =:= erlang].

suspend(Config) ->
    case ?config(kind, Config) of
        erlang -> sys:suspend({sockpool, ?config(node, Config)});
        c -> sockpool_c_daemon:suspend(?config(serving, Config))
    end.

resume(Config) ->
    case ?config(kind, Config) of
        erlang -> sys:resume({sockpool, ?config(node, Config)});
        c -> sockpool_c_daemon:resume(?config(serving, Config))
    end.

%% Returns when the server is at work on the calls of these processes, of which each makes one. A message
%% of the same node that is sent later comes later.
await_calls(Config, Clients) ->
    Pool = ?config(pool, Config),
    [begin
         ok = sockpool_test_util:wait_until(
                fun() ->
                        case erpc:call(node(Client), erlang, process_info, [Client, current_function]) of
                            {current_function, {sockpool_wait, wait_on, 2}} -> true;
                            Other -> Other
                        end
                end),
         {ok, _} = erpc:call(node(Client), sockpool, stats, [Pool])
     end || Client <- Clients],
    ok.
