%%% Pools of processes that another Erlang node serves: what a check-out gives, who ends a worker when, which functions the
%%% options may have. And that the C node has no such pools, and says so.
-module(sockpool_remote_worker_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, groups/0, suite/0, init_per_suite/1, end_per_suite/1, init_per_group/2,
         end_per_group/2, init_per_testcase/2, end_per_testcase/2]).
-export([greeted/2, is_fit/2, own_worker/1]).
-export([every_function/1, ends_of_a_lease/1, worker_dies_in_hand/1, owner_dies/1, owner_dies_and_it_is_reused/1,
         client_node_is_lost/1, looked_at_there/1, slow_start_there/1, functions_of_options/1]).
-export([the_c_node_has_none/1, parallelism_of_the_c_node/1]).

-import(sockpool_test_util, [wait_until/1, settled/1, stat/2, unavailable/1, assert_no_messages/0]).
-import(sockpool_cluster, [client/1, run/2]).

-define(NO_STREAM, {error, {bad_option, transport, worker}}).

suite() -> [{timetrap, {minutes, 3}}].

all() -> [{group, erlang}, {group, c}].

groups() ->
    [{erlang, [every_function, ends_of_a_lease, worker_dies_in_hand, owner_dies, owner_dies_and_it_is_reused,
               client_node_is_lost, looked_at_there, slow_start_there, functions_of_options]},
     {c, [the_c_node_has_none, parallelism_of_the_c_node]}].

init_per_suite(Config) -> sockpool_remote_kit:init_suite(Config).
end_per_suite(Config) -> sockpool_remote_kit:end_suite(Config).
init_per_group(Kind, Config) -> sockpool_remote_kit:init_group(Kind, Config).
end_per_group(Kind, Config) -> sockpool_remote_kit:end_group(Kind, Config).
init_per_testcase(Case, Config) -> sockpool_remote_kit:init_case(Case, Config).
end_per_testcase(_Case, Config) -> sockpool_remote_kit:end_case(Config).

options(Config) -> #{transport => worker, worker => {sockpool_echo_worker, address(Config)}, size => 1, max_overflow => 0}.

address(Config) ->
    #{host := Ip, port := Port} = sockpool_remote_kit:target(Config),
    {Ip, Port}.

started(Config, Opts) ->
    Pool = ?config(pool, Config),
    ok = sockpool:start_pool(Pool, maps:merge(options(Config), Opts)),
    _ = settled(Pool),
    Pool.

echo(Worker) -> sockpool_echo_worker:echo(Worker, <<"hello">>).

%%% What a check-out gives.

every_function(Config) ->
    Pool = {Name, Node} = started(Config, #{}),
    {ok, Conn} = sockpool:checkout(Pool),
    Worker = sockpool:worker(Conn),
    ?assertEqual(Node, node(Worker)),
    ?assertEqual(<<"hello">>, echo(Worker)),
    ?assertMatch({ok, #{pool := Name, transport := worker, worker := Worker}}, sockpool:info(Conn)),
    [?assertEqual(?NO_STREAM, Result)
     || Result <- [sockpool:send(Conn, "x"), sockpool:send(Conn, "x", 100), sockpool:recv(Conn, 1), sockpool:recv(Conn, 1, 100),
                   sockpool:setopts(Conn, [{packet, 1}]), sockpool:peername(Conn), sockpool:sockname(Conn)]],
    ?assertMatch({error, {bad_argument, node_conn, _}}, sockpool:call(Conn, erlang, node, [], 1000)),
    ?assertEqual([{ok, undefined}, ok, {ok, {Worker}}],
                 [sockpool:state(Conn), sockpool:set_state(Conn, {Worker}), sockpool:state(Conn)]),
    ok = sockpool:checkin(Conn),
    [?assertEqual(?NO_STREAM, Result)
     || Result <- [sockpool:request(Pool, "x", 1, 1000), sockpool:call(Pool, erlang, node, [], 1000),
                   sockpool:send_to(Pool, name, message)]],
    ?assertEqual({error, closed}, sockpool:worker(Conn)),
    Use = fun(Pid) -> {Pid, echo(Pid)} end,
    Used = {Worker, <<"hello">>},
    ?assertEqual([Used, Used, {ok, Used}, {ok, Used}],
                 [sockpool:transaction(Pool, Use), sockpool:transaction(Pool, Use, 1000), sockpool:execute(Pool, Use),
                  sockpool:execute(Pool, Use, 1000)]),
    ?assertError(of_the_fun, sockpool:transaction(Pool, fun(_) -> error(of_the_fun) end)),
    #{closed := 1, abandoned := 0} = settled(Pool),
    ?assertNotEqual(Worker, sockpool:transaction(Pool, fun(Pid) -> Pid end)),
    ok = sockpool:stop_pool(Pool),
    ?assertEqual([], erpc:call(Node, sockpool_drivers, workers, [echo])),
    assert_no_messages().

%%% Ends.

ends_of_a_lease(Config) ->
    Pool = started(Config, #{}),
    {ok, First} = sockpool:checkout(Pool),
    Worker = sockpool:worker(First),
    ok = sockpool:checkin(First),
    {ok, Second} = sockpool:checkout(Pool),
    ?assertEqual(Worker, sockpool:worker(Second)),
    %% Of another node, then.
    Heir = client(?config(other_node, Config)),
    ok = sockpool:give_away(Second, Heir),
    ?assertEqual({error, not_owner}, sockpool:worker(Second)),
    ?assertEqual({Worker, <<"hello">>}, run(Heir, fun() -> Pid = sockpool:worker(Second), {Pid, echo(Pid)} end)),
    ?assertEqual(ok, run(Heir, fun() -> sockpool:discard(Second) end)),
    {ok, Third} = sockpool:checkout(Pool),
    ?assertNotEqual(Worker, sockpool:worker(Third)),
    ok = sockpool:checkin(Third),
    ok = sockpool_cluster:kill(Heir),
    #{checkouts := 3, checkins := 3, abandoned := 0, closed := 1} = settled(Pool),
    gone(Worker).

gone(Worker) -> wait_until(fun() -> not erpc:call(node(Worker), erlang, is_process_alive, [Worker]) end).

worker_dies_in_hand(Config) ->
    Pool = started(Config, #{}),
    {ok, Conn} = sockpool:checkout(Pool),
    Worker = sockpool:worker(Conn),
    true = exit(Worker, kill),
    ok = gone(Worker),
    ok = wait_until(fun() -> sockpool:worker(Conn) =:= {error, closed} end),
    ?assertEqual({error, closed}, sockpool:checkin(Conn)),
    #{checkouts := 1, checkins := 0, abandoned := 1, last_error := {worker, killed}} = settled(Pool),
    ok.

owner_dies(Config) -> ?assertNotMatch({Same, Same}, workers_around(Config, #{}, fun sockpool_cluster:kill/1)).

owner_dies_and_it_is_reused(Config) ->
    ?assertMatch({Same, Same}, workers_around(Config, #{abandoned => reuse}, fun sockpool_cluster:kill/1)).

client_node_is_lost(Config) ->
    [begin
         #{node := Node} = Peer = sockpool_cluster:start_plain_peer(),
         Lose = fun(_Client) -> sockpool_cluster:kill_vm(Peer) end,
         {Name, Serving} = ?config(pool, Config),
         Pool = {list_to_atom(lists:concat([Name, "_", Abandoned])), Serving},
         Workers = workers_around([{pool, Pool}, {other_node, Node} | Config], #{abandoned => Abandoned}, Lose),
         case Abandoned of
             close -> ?assertNotMatch({Same, Same}, Workers);
             reuse -> ?assertMatch({Same, Same}, Workers)
         end
     end || Abandoned <- [close, reuse]].

%% That of a client of another node which ends, and the next one's.
workers_around(Config, Opts, End) ->
    Pool = started(Config, Opts),
    Client = client(?config(other_node, Config)),
    {ok, Conn} = run(Client, fun() -> sockpool:checkout(Pool) end),
    Worker = run(Client, fun() -> Pid = sockpool:worker(Conn), <<"hello">> = echo(Pid), Pid end),
    ok = End(Client),
    Next = sockpool:transaction(Pool, fun(Pid) -> Pid end),
    ?assertMatch(#{abandoned := 1, checkouts := 2, checkins := 1}, settled(Pool)),
    Worker =:= Next orelse gone(Worker),
    {Worker, Next}.

%%% Functions of options run where the pool is.

looked_at_there(Config) ->
    Node = ?config(node, Config),
    Pool = started(Config, #{init => {?MODULE, greeted, [Node]}, validate => {?MODULE, is_fit, [Node]}}),
    Worker = sockpool:transaction(Pool, fun(Pid) -> Pid end),
    ?assertEqual(Worker, sockpool:transaction(Pool, fun(Pid) -> Pid end)),
    true = erpc:call(Node, erlang, register, [unfit, Worker]),
    ?assertNotEqual(Worker, sockpool:transaction(Pool, fun(Pid) -> Pid end)),
    ok = gone(Worker),
    #{closed := 1, abandoned := 0, connect_failures := 0} = settled(Pool),
    ok.

greeted(Worker, Node) when node() =:= Node, node(Worker) =:= Node -> ok.

is_fit(Worker, Node) when node() =:= Node -> whereis(unfit) =/= Worker.

%% Its start, and init behind it, are bounded.
slow_start_there(Config) ->
    Pool = ?config(pool, Config),
    ok = sockpool:start_pool(Pool, (options(Config))#{worker => {timer, sleep, [infinity]}, connect_timeout => 50}),
    ?assertEqual(timeout, unavailable(Pool)),
    ?assertEqual("connecting fails: the server did not answer within connect_timeout",
                 lists:flatten(sockpool:format_error({unavailable, timeout}))).

functions_of_options(Config) ->
    Pool = ?config(pool, Config),
    Node = ?config(node, Config),
    Address = address(Config),
    Bad = [{worker, fun() -> sockpool_echo_worker:start_link(Address) end}, {worker, fun ?MODULE:not_exported/0},
           {worker, {no_such_module, Address}}, {worker, {lists, Address}}, {worker, {?MODULE, not_exported, []}},
           {validate, fun(_) -> true end}, {validate, {?MODULE, not_exported, []}},
           {init, fun(_) -> ok end}, {init, {?MODULE, not_exported, []}}],
    [?assertMatch({error, {bad_option, Key, _}}, sockpool:start_pool(Pool, (options(Config))#{Key => Value})) || {Key, Value} <- Bad],
    ?assertEqual({ok, []}, sockpool:which_pools(Node)),
    %% Its argument, in which a password may be, is in none of the answers.
    {error, Reason} = sockpool:start_pool(Pool, (options(Config))#{worker => {lists, "s3cret"}}),
    ?assertEqual(nomatch, string:find(io_lib:format("~0p ~ts", [Reason, sockpool:format_error(Reason)]), "s3cret")),
    [begin
         ok = sockpool:start_pool(Pool, (options(Config))#{worker => Start}),
         ?assertEqual({Node, <<"hello">>}, sockpool:transaction(Pool, fun(Pid) -> {node(Pid), echo(Pid)} end)),
         ok = sockpool:stop_pool(Pool)
     end || Start <- [{sockpool_echo_worker, Address}, {sockpool_echo_worker, start_link, [Address]}]],
    %% A process of another node is none of the pool's.
    ok = sockpool:start_pool(Pool, (options(Config))#{worker => {?MODULE, own_worker, [self()]}}),
    ?assertEqual({worker, {bad_return, {ok, self()}}}, unavailable(Pool)).

own_worker(Pid) -> {ok, Pid}.

%%% The C node.

the_c_node_has_none(Config) ->
    Pool = ?config(pool, Config),
    Target = sockpool_remote_kit:target(Config),
    Refused = [{options(Config), {transport, worker}},
               {#{transport => worker}, {transport, worker}},
               {Target#{worker => {lists, "s3cret"}}, {worker, not_a_start_function}},
               {Target#{validate => {lists, member, ["s3cret"]}}, {validate, not_a_fun}},
               {Target#{worker_shutdown => 100}, {worker_shutdown, 100}},
               {Target#{abandoned => reuse}, {abandoned, reuse}}],
    [begin
         {error, Reason} = sockpool:start_pool(Pool, Opts),
         ?assertEqual({bad_option, Key, Value}, Reason),
         Words = lists:flatten(sockpool:format_error(Reason)),
         ?assertNotEqual({nomatch, Words}, {string:find(Words, "with transport worker"), Words}),
         ?assertEqual(nomatch, string:find(Words, "s3cret"))
     end || {Opts, {Key, Value}} <- Refused],
    {error, Reason} = sockpool:start_pool(Pool, options(Config)),
    ?assertNotEqual(nomatch, string:find(sockpool:format_error(Reason), "node in C")),
    ?assertEqual({error, not_found}, sockpool:stats(Pool)),
    %% What stands for: not given.
    ok = sockpool:start_pool(Pool, Target#{worker => undefined, worker_shutdown => undefined, abandoned => nil}).

%% Of attempts at a server that takes nobody, so that none is over.
parallelism_of_the_c_node(Config) ->
    {Name, Node} = ?config(pool, Config),
    [begin
         Path = sockpool_test_util:unix_path(),
         {ok, Listener} = gen_tcp:listen(0, [{ifaddr, {local, Path}}, {backlog, 0}]),
         Pool = {list_to_atom(lists:concat([Name, Parallel])), Node},
         Opts = #{transport => unix, path => Path, size => 50, max_overflow => 0, connect_timeout => 60000},
         ok = sockpool:start_pool(Pool, Opts#{connect_parallelism => Parallel}),
         %% The backlog takes one or two.
         ok = wait_until(fun() -> stat(Pool, connecting) =:= Parallel end),
         #{connect_attempts := Attempts, created := Created} = stats_of(Pool),
         ?assertEqual(Parallel, Attempts - Created),
         ok = sockpool:stop_pool(Pool),
         ok = gen_tcp:close(Listener),
         ok = file:delete(Path)
     end || Parallel <- [1, 7, 40]].

stats_of(Pool) ->
    {ok, Stats} = sockpool:stats(Pool),
    Stats.
