%%% poolboy's API with pools of another node: by `{Name, Node}', pid, and global name.
-module(sockpool_poolboy_remote_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1, init_per_testcase/2, end_per_testcase/2]).
-export([every_form/1, full_at_the_limit_only/1, owner_dies/1, checkin_by_another/1, no_pool/1, node_is_lost/1,
         sockpool_has_to_run_there/1]).

-import(sockpool_test_util, [wait_until/1, start/1, await/1]).

-define(SHIM, sockpool_poolboy).

suite() -> [{timetrap, {minutes, 3}}].

all() ->
    [every_form, full_at_the_limit_only, owner_dies, checkin_by_another, no_pool, node_is_lost,
     sockpool_has_to_run_there].

init_per_suite(Config) ->
    ok = sockpool_cluster:be_a_node(),
    {ok, _} = application:ensure_all_started(sockpool),
    Config.

end_per_suite(_Config) -> application:stop(sockpool).

init_per_testcase(_Case, Config) ->
    #{node := Node} = Peer = sockpool_cluster:start_peer(),
    [{peer, Peer}, {node, Node} | Config].

end_per_testcase(_Case, Config) ->
    _ = catch sockpool_cluster:stop_peer(?config(peer, Config)),
    ok.

every_form(Config) ->
    Node = ?config(node, Config),
    Local = started(Node, {local, remote_pool}, 1, 0),
    Global = started(Node, {global, remote_pool}, 1, 0),
    Unnamed = started(Node, undefined, 1, 0),
    ok = global:sync(),
    [begin
         Worker = ?SHIM:checkout(Pool),
         ?assertEqual(Node, node(Worker)),
         ?assertEqual(args, gen_server:call(Worker, any)),
         ?assertEqual({full, 0, 0, 1}, ?SHIM:status(Pool)),
         ?assertEqual(full, ?SHIM:checkout(Pool, false)),
         ?assertExit({timeout, {gen_server, call, [Pool, {checkout, _, true}, 50]}}, ?SHIM:checkout(Pool, true, 50)),
         ?assertEqual(ok, ?SHIM:checkin(Pool, Worker)),
         settled(Pool, {ready, 1, 0, 0}),
         ?assertEqual(Worker, ?SHIM:transaction(Pool, fun(W) -> W end)),
         settled(Pool, {ready, 1, 0, 0}),
         ?assertMatch(#{waiting := 0, monitored := 0}, ?SHIM:status_map(Pool))
     end || Pool <- [{remote_pool, Node}, Local, {global, remote_pool}, {via, global, remote_pool}, Global, Unnamed]],
    [?assertEqual(ok, ?SHIM:stop(Pool)) || Pool <- [{remote_pool, Node}, {global, remote_pool}, Unnamed]],
    [?assertExit({noproc, {gen_server, call, [Pool, status]}}, ?SHIM:status(Pool))
     || Pool <- [{remote_pool, Node}, {global, remote_pool}, Local, Unnamed]].

full_at_the_limit_only(Config) ->
    Node = ?config(node, Config),
    _ = started(Node, {local, remote_pool}, 1, 1),
    Workers = [?SHIM:checkout({remote_pool, Node}, false) || _ <- [1, 2]],
    ?assertEqual([Node, Node], [node(Worker) || Worker <- Workers]),
    ?assertEqual(full, ?SHIM:checkout({remote_pool, Node}, false)),
    [ok = ?SHIM:checkin({remote_pool, Node}, Worker) || Worker <- Workers],
    settled({remote_pool, Node}, {ready, 1, 0, 0}).

owner_dies(Config) ->
    Node = ?config(node, Config),
    _ = started(Node, {local, remote_pool}, 1, 0),
    Worker = await(start(fun() -> ?SHIM:checkout({remote_pool, Node}) end)),
    ?assertEqual(Worker, ?SHIM:checkout({remote_pool, Node}, true, 30000)).

%% From here, and from there, of a check-out that is of here.
checkin_by_another(Config) ->
    Node = ?config(node, Config),
    Pool = {remote_pool, Node},
    _ = started(Node, {local, remote_pool}, 1, 0),
    [begin
         Worker = ?SHIM:checkout(Pool),
         ok = Checkin(Worker),
         settled(Pool, {ready, 1, 0, 0}),
         ok = ?SHIM:checkin(Pool, Worker),
         settled(Pool, {ready, 1, 0, 0})
     end || Checkin <- [fun(Worker) -> await(start(fun() -> ?SHIM:checkin(Pool, Worker) end)) end,
                        fun(Worker) -> erpc:call(Node, ?SHIM, checkin, [remote_pool, Worker]) end,
                        fun(Worker) -> erpc:call(Node, ?SHIM, checkin, [Pool, Worker]) end]].

no_pool(Config) ->
    Node = ?config(node, Config),
    Dead = erpc:call(Node, erlang, spawn, [erlang, now, []]),
    Other = erpc:call(Node, erlang, whereis, [kernel_sup]),
    [begin
         ?assertExit({noproc, {gen_server, call, [Pool, {checkout, _, true}, 5000]}}, ?SHIM:checkout(Pool)),
         ?assertExit({noproc, {gen_server, call, [Pool, {checkout, _, false}, 5000]}}, ?SHIM:checkout(Pool, false)),
         ?assertExit({noproc, {gen_server, call, [Pool, status]}}, ?SHIM:status(Pool)),
         ?assertEqual(ok, ?SHIM:checkin(Pool, self()))
     end || Pool <- [{no_such_pool, Node}, Dead, Other]].

node_is_lost(Config) ->
    #{node := Node} = Peer = ?config(peer, Config),
    Pool = {remote_pool, Node},
    Pid = started(Node, {local, remote_pool}, 1, 0),
    Worker = ?SHIM:checkout(Pool),
    ok = sockpool_cluster:kill_vm(Peer),
    ?assertEqual(ok, ?SHIM:checkin(Pool, Worker)),
    [begin
         ?assertExit({{nodedown, Node}, {gen_server, call, [Name, {checkout, _, true}, 5000]}}, ?SHIM:checkout(Name)),
         ?assertExit({{nodedown, Node}, {gen_server, call, [Name, status]}}, ?SHIM:status(Name)),
         ?assertEqual(ok, ?SHIM:checkin(Name, Worker))
     end || Name <- [Pool, Pid]],
    ?assertExit({_, {gen_server, call, [Pool, stop]}}, ?SHIM:stop(Pool)).

%% The last line of docs/poolboy.md's table.
sockpool_has_to_run_there(Config) ->
    Node = ?config(node, Config),
    ok = erpc:call(Node, application, stop, [sockpool]),
    _ = started(Node, {local, remote_pool}, 1, 0),
    ?assertEqual({ready, 1, 0, 0}, erpc:call(Node, ?SHIM, status, [remote_pool])),
    ?assertExit({noproc, {gen_server, call, _}}, ?SHIM:checkout({remote_pool, Node})),
    {ok, _} = erpc:call(Node, application, ensure_all_started, [sockpool]),
    ?assertEqual(Node, node(?SHIM:checkout({remote_pool, Node}))).

started(Node, As, Size, Overflow) ->
    Named = [{name, As} || As =/= undefined],
    {ok, Pid} = erpc:call(Node, ?SHIM, start, [Named ++ [{worker_module, sockpool_poolboy_worker}, {size, Size},
                                                         {max_overflow, Overflow}], args]),
    Pid.

settled(Pool, Status) ->
    wait_until(fun() -> case ?SHIM:status(Pool) of Status -> true; Other -> Other end end).
