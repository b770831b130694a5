%%% What is scarce: a VM whose table of processes, or of descriptors, is full. Pools go on with what they
%%% have, callers are told, and everything comes back by itself when there is room again. A pool that wants
%%% nothing meanwhile does not notice.
%%%
%%% Each case has a VM of its own, with the smallest table that there is, and a process in it that does
%%% what the case wants done there: with a full table, no other can be started.
-module(sockpool_scarcity_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-compile(export_all).
-compile(nowarn_export_all).

-import(sockpool_test_util, [wait_until/1, settled/1]).
-import(sockpool_cluster, [run/2]).

suite() -> [{timetrap, {minutes, 3}}].

all() -> [{group, processes}, {group, descriptors}].

groups() ->
    [{processes, [], [connecting, restarts, other_children, starts, other_nodes, node_connections]},
     {descriptors, [], [connecting, tls_files]}].

init_per_suite(Config) ->
    ok = sockpool_cluster:be_a_node(),
    {ok, _} = application:ensure_all_started(ssl),
    sockpool_tls_kit:with_certificates(Config).

end_per_suite(_Config) -> ok.

init_per_group(processes, Config) ->
    [{what, processes}, {peer, #{args => ["+P", "1024"]}} | Config];
init_per_group(descriptors, Config) ->
    %% 8 to connect with the other nodes of this cluster and for what the VM needs meanwhile.
    Limited = {"/bin/sh", ["-c", "ulimit -n 100; exec erl \"$@\"", "sh"]},
    [{what, descriptors}, {peer, #{exec => Limited}} | Config].

end_per_group(_Group, _Config) -> ok.

init_per_testcase(_Case, Config) ->
    #{node := Node} = Peer = sockpool_cluster:start_peer(?config(peer, Config)),
    Self = sockpool_cluster:client(Node),
    ok = run(Self, fun load_all/0),
    Server = sockpool_test_server:start(),
    %% One that is used up, and one that wants nothing.
    [ok = run(Self, fun() -> sockpool:start_pool(Pool, options(Server)) end) || Pool <- [busy, quiet]],
    ok = run(Self, fun() -> _ = [settled(Pool) || Pool <- [busy, quiet]], ok end),
    ok = run(Self, fun() -> {ok, Lease} = sockpool:checkout(quiet), put(lease, Lease), ok end),
    Before = run(Self, fun() -> untouched() end),
    [{vm, Peer}, {node, Node}, {self, Self}, {server, Server}, {before, Before} | Config].

end_per_testcase(_Case, Config) ->
    sockpool_cluster:stop_peer(?config(vm, Config)).

options(Server) ->
    (sockpool_test_server:target(Server))#{size => 2, max_overflow => 0, backoff => {1, 50}}.

%% Modules are loaded when they are first called, which needs processes and descriptors of others; without a
%% process for that, the code server ends, and the VM with it.
load_all() ->
    Modules = [begin
                   _ = application:load(Application),
                   {ok, Those} = application:get_key(Application, modules),
                   Those
               end || Application <- [kernel, stdlib, sockpool]],
    code:ensure_modules_loaded(lists:append(Modules) ++ [?MODULE, sockpool_test_util]).

%% What must be as before, of the pool that wants nothing.
untouched() ->
    {ok, #{created := Created, closed := Closed}} = sockpool:stats(quiet),
    {controller(quiet), whereis(sockpool_sup), Created, Closed}.

controller(Pool) -> sockpool_nif:pool_controller(sockpool_pool:find(Pool)).

assert_untouched(Config) ->
    ?assertEqual(?config(before, Config), in(Config, fun untouched/0)),
    ?assertEqual({ok, <<"lease">>}, in(Config, fun() ->
                                                       ok = sockpool:send(get(lease), "lease"),
                                                       sockpool:recv(get(lease), 5)
                                               end)),
    ?assertEqual({ok, <<"quiet">>}, in(Config, fun() -> sockpool:request(quiet, "quiet", 5, 5000) end)).

in(Config, Fun) -> run(?config(self, Config), Fun).

%%% Using everything up. What is taken stays with the process that took it.

fill(Config) ->
    What = ?config(what, Config),
    in(Config, fun() -> fill_here(What) end).

%% Some that were there may end just now.
fill_here(What) ->
    case take(What) of
        0 -> ok;
        Taken -> put(taken, Taken ++ taken()), fill_here(What)
    end.

taken() -> case get(taken) of undefined -> []; Taken -> Taken end.

take(What) ->
    case take(What, []) of
        [] -> 0;
        Taken -> Taken
    end.

take(What, Taken) ->
    try one(What) of
        {ok, One} -> take(What, [One | Taken]);
        {error, emfile} -> Taken
    catch
        error:system_limit -> Taken
    end.

one(processes) -> {ok, spawn(fun() -> receive go -> ok end end)};
one(descriptors) -> prim_file:open("/dev/null", [read]).

free(Config) ->
    in(Config, fun() -> lists:foreach(fun free_one/1, taken()), put(taken, []), ok end).

free_one(Pid) when is_pid(Pid) -> exit(Pid, kill);
free_one(File) -> ok = prim_file:close(File).

told(processes) -> system_limit;
told(descriptors) -> emfile.

%% Until there is something to tell. Others may give something back meanwhile: it is taken at once.
unavailable(Config, Pool) ->
    What = ?config(what, Config),
    in(Config, fun() -> unavailable_here(What, Pool) end).

unavailable_here(What, Pool) ->
    ok = fill_here(What),
    case sockpool:checkout(Pool, 100) of
        {error, {unavailable, Reason}} -> Reason;
        {error, timeout} -> unavailable_here(What, Pool);
        {ok, Conn} -> ok = sockpool:discard(Conn), unavailable_here(What, Pool)
    end.

works(Config, Pool) ->
    ?assertEqual({ok, <<"works">>}, in(Config, fun() -> sockpool:request(Pool, "works", 5, 20000) end)).

%% What a call is told that needs a process. Where it was lucky, because somebody else's process had just ended,
%% what it did is undone, and it is called again.
refused(Config, Call, Undo) ->
    ok = fill(Config),
    case Call() of
        {error, _} = Refused -> Refused;
        Lucky -> _ = Undo(Lucky), refused(Config, Call, Undo)
    end.

%% Of a process that was started with a link.
ended(Pid) ->
    Monitor = monitor(process, Pid),
    true = unlink(Pid),
    true = exit(Pid, shutdown),
    receive {'DOWN', Monitor, process, Pid, _} -> ok end.

%%% Cases.

%% No new connection can be made.
connecting(Config) ->
    Pid = in(Config, fun() -> controller(busy) end),
    ok = fill(Config),
    ?assertEqual(told(?config(what, Config)), unavailable(Config, busy)),
    ok = assert_untouched(Config),
    ok = free(Config),
    works(Config, busy),
    ?assertEqual(Pid, in(Config, fun() -> controller(busy) end)),
    ok = assert_untouched(Config).

%% The pool's process has crashed, and none can be had in its place.
restarts(Config) ->
    ok = in(Config, fun() -> sys:suspend(sockpool_sup) end),
    Old = in(Config, fun() -> controller(busy) end),
    ok = in(Config, fun() -> kill(Old) end),
    ok = fill(Config),
    ok = in(Config, fun() -> sys:resume(sockpool_sup) end),
    fails_to_start(Config, {sockpool, busy}),
    ?assertEqual({error, closed}, in(Config, fun() -> sockpool:checkout(busy) end)),
    ?assertMatch({error, {already_started, _}},
                 in(Config, fun() -> sockpool:start_pool(busy, #{path => "/x", transport => unix}) end)),
    ok = assert_untouched(Config),
    ok = free(Config),
    wait_until(fun() -> in(Config, fun() -> is_pid(controller(busy)) end) end),
    works(Config, busy),
    ok = assert_untouched(Config).

kill(Pid) ->
    Monitor = monitor(process, Pid),
    exit(Pid, kill),
    receive {'DOWN', Monitor, process, Pid, _} -> ok end.

%% Returns when the supervisor has tried in vain, twice, to start that child again. Where it was lucky,
%% because somebody else's process had just ended, that child is killed again.
fails_to_start(Config, Id) ->
    wait_until(fun() -> in(Config, fun() -> fails_to_start_here(Id, get({failed, Id})) end) end).

fails_to_start_here(Id, Before) ->
    ok = fill_here(processes),
    case lists:keyfind(Id, 1, supervisor:which_children(sockpool_sup)) of
        {_, restarting, _, _} ->
            Now = restarts_of(Id),
            Before =:= undefined andalso put({failed, Id}, Now),
            Before =/= undefined andalso Now >= Before + 2;
        {_, Pid, _, _} ->
            put({failed, Id}, undefined),
            kill(Pid)
    end.

%% A look into the supervisor: how often in a row it has started that child again, or tried to.
restarts_of(Id) -> element(5, maps:get(Id, element(2, sys:get_state(sockpool_sup)))).

%% The processes that serve all pools have ended.
other_children(Config) ->
    Services = [sockpool_server, sockpool_janitor],
    Names = [sockpool, sockpool_janitor],
    ok = in(Config, fun() -> sys:suspend(sockpool_sup) end),
    ok = in(Config, fun() -> lists:foreach(fun(Name) -> kill(whereis(Name)) end, Names) end),
    ok = fill(Config),
    ok = in(Config, fun() -> sys:resume(sockpool_sup) end),
    [fails_to_start(Config, Service) || Service <- Services],
    ok = assert_untouched(Config),
    ok = free(Config),
    [wait_until(fun() -> in(Config, fun() -> is_pid(whereis(Name)) end) end) || Name <- Names],
    Node = ?config(node, Config),
    ?assertEqual({ok, <<"there">>}, sockpool:request({quiet, Node}, "there", 5, 5000)),
    ok = assert_untouched(Config).

%% Who starts one just now is told why that cannot be.
starts(Config) ->
    Server = ?config(server, Config),
    Tls = (options(Server))#{transport => tls, tls => #{verify => none}},
    ok = in(Config, fun() -> sockpool:start_pool(secret, Tls) end),
    Stop = fun(ok) -> ok = sockpool:stop_pool(new) end,
    End = fun({ok, Pid}) -> ended(Pid) end,
    [?assertEqual({error, system_limit}, refused(Config, fun() -> in(Config, Start) end,
                                                 fun(Lucky) -> in(Config, fun() -> Undo(Lucky) end) end))
     || {Start, Undo} <- [{fun() -> sockpool:start_pool(new, options(Server)) end, Stop},
                          {fun() -> sockpool:start_link(new, options(Server)) end, End},
                          {fun() -> sockpool:start_pool(new, Tls) end, Stop},
                          {fun() -> sockpool:reload_tls(secret) end, fun(ok) -> ok end},
                          {fun() -> sockpool_node:start_link(#{name => daemon}) end, End}]],
    ?assertEqual({error, not_found}, in(Config, fun() -> sockpool:checkout(new) end)),
    ok = assert_untouched(Config),
    ok = free(Config),
    ?assertEqual(ok, in(Config, fun() -> sockpool:reload_tls(secret) end)),
    ok = in(Config, fun() -> sockpool:start_pool(new, options(Server)) end),
    works(Config, new).

%% Clients on another node: the server has no process to do their work.
other_nodes(Config) ->
    Pool = {quiet, ?config(node, Config)},
    {ok, Lease} = sockpool:checkout({busy, ?config(node, Config)}),
    Node = ?config(node, Config),
    New = options(?config(server, Config)),
    [?assertEqual({error, system_limit}, refused(Config, Call, Undo))
     || {Call, Undo} <- [{fun() -> sockpool:checkout(Pool) end, fun({ok, Conn}) -> ok = sockpool:checkin(Conn) end},
                         {fun() -> sockpool:request(Pool, "x", 1, 5000) end, fun({ok, <<"x">>}) -> ok end},
                         {fun() -> sockpool:which_pools(Node) end, fun({ok, _}) -> ok end},
                         {fun() -> sockpool:start_pool({new, Node}, New) end,
                          fun(ok) -> ok = in(Config, fun() -> sockpool:stop_pool(new) end) end}]],
    ?assertMatch({ok, #{leased := 1}}, sockpool:stats(Pool)),
    ok = sockpool:send(Lease, "goes on"),
    ?assertEqual({ok, <<"goes on">>}, sockpool:recv(Lease, 7)),
    ?assertEqual(ok, sockpool:checkin(Lease)),
    ok = assert_untouched(Config),
    ok = free(Config),
    {ok, Again} = sockpool:checkout(Pool),
    ok = sockpool:checkin(Again),
    ok = assert_untouched(Config).

%% A leased connection to a node has a process.
node_connections(Config) ->
    Us = node(),
    Options = #{transport => node, node => Us, size => 1, max_overflow => 0},
    ok = in(Config, fun() -> sockpool:start_pool(nodes, Options) end),
    ?assertEqual({ok, Us}, in(Config, fun() -> sockpool:call(nodes, erlang, node, [], 5000) end)),
    ?assertEqual({error, system_limit},
                 refused(Config, fun() -> in(Config, fun() -> sockpool:checkout(nodes) end) end,
                         fun({ok, Conn}) -> in(Config, fun() -> sockpool:checkin(Conn) end) end)),
    ?assertEqual({ok, Us}, in(Config, fun() -> sockpool:call(nodes, erlang, node, [], 5000) end)),
    ok = free(Config),
    ?assertEqual({ok, Us}, in(Config, fun() ->
                                              {ok, Conn} = sockpool:checkout(nodes),
                                              Result = sockpool:call(Conn, erlang, node, [], 5000),
                                              ok = sockpool:checkin(Conn),
                                              Result
                                      end)),
    ?assertMatch({ok, #{created := 1, closed := 0}}, in(Config, fun() -> sockpool:stats(nodes) end)),
    ok = assert_untouched(Config).

%% A file cannot be read, neither by a start nor by a reload nor after a crash.
tls_files(Config) ->
    Server = sockpool_tls_peers:ssl_server(sockpool_tls_kit:identity(Config, "server")),
    %% It makes no connection before somebody wants one, and gives no descriptor back.
    Options = #{host => {127, 0, 0, 1}, port => sockpool_tls_peers:port(Server), transport => tls,
                size => 0, max_overflow => 1, backoff => {1, 50},
                tls => #{cacertfile => sockpool_tls_kit:pem(Config, "ca")}},
    ok = in(Config, fun() -> sockpool:start_pool(secret, Options) end),
    Refused = {error, {tls, {cacertfile, emfile}}},
    [?assertEqual(Refused, in(Config, fun() -> ok = fill_here(descriptors), Read() end))
     || Read <- [fun() -> sockpool:start_pool(new, Options) end,
                 fun() -> sockpool:reload_tls(secret) end]],
    ok = in(Config, fun() -> kill(controller(secret)) end),
    wait_until(fun() -> in(Config, fun() -> is_pid(controller(secret)) end) end),
    ?assertEqual({tls, {cacertfile, emfile}}, unavailable(Config, secret)),
    ok = assert_untouched(Config),
    ok = free(Config),
    ok = in(Config, fun() -> sockpool:start_pool(new, Options) end),
    works(Config, new),
    works(Config, secret),
    ok = assert_untouched(Config).
